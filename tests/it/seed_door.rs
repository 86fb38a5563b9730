//! The seed's door, row by row: exact codes and texts, the order of what is looked at, and what
//! does not act.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::world::{USUAL, World, body, mobile};

const INCOMPLETE: (&str, &str) = ("5006", "参数不完整");
const BAD_PHONE: (&str, &str) = ("5006", "手机号格式错误");
const IMAGE_EXPIRED: (&str, &str) = ("4001", "图形验证码已过期,点击图片换一个");
const IMAGE_WRONG: (&str, &str) = ("4001", "图形验证码错误");
const THROTTLED: (&str, &str) = ("4008", "发送短信太频繁,请稍候再发");
const CODE_WRONG: (&str, &str) = ("4008", "短信验证码错误");
const CODE_EXPIRED: (&str, &str) = ("4008", "短信验证码已过期");
const FINE: (&str, &str) = ("0", "OK");

/// Sends, and asserts a row of the table: status 200, this code, this text.
#[track_caller]
fn row(answer: &(StatusCode, Value), (code, text): (&str, &str)) {
    let (status, answer) = answer;
    assert_eq!(*status, StatusCode::OK, "{answer}");
    assert_eq!((&answer["code"], &answer["errmsg"]), (&json!(code), &json!(text)));
}

async fn said(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.unwrap();
    (answer.status(), body(answer).await)
}

/// The second call, for this picture and answer.
async fn send(world: &World, mobile: &str, uuid: &str, answer: &str) -> (StatusCode, Value) {
    let query = format!("image_code_id={uuid}&image_code={answer}");
    said(world.get(&format!("/sms_codes/{mobile}/?{query}"))).await
}

/// The second call with the right answer.
async fn send_right(world: &World, mobile: &str, uuid: &str) -> (StatusCode, Value) {
    send(world, mobile, uuid, &world.image_answer(uuid).await).await
}

async fn login(world: &World, mobile: &str, code: &str) -> (StatusCode, Value) {
    let fields = [("mobile", mobile), ("sms_code", code)];
    said(world.client.post(world.url("/sms_login/")).form(&fields)).await
}

fn wrong(answer: &str) -> &'static str {
    if answer == "AAAA" { "CCCC" } else { "AAAA" }
}

fn other_code(code: &str) -> &'static str {
    if code == "000000" { "000001" } else { "000000" }
}

async fn inbox(world: &World) -> usize {
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let inbox = world.get("/dev/messages?limit=100000").send().await.unwrap();
    body(inbox).await.as_array().unwrap().len()
}

#[tokio::test]
async fn a_picture_is_the_same_within_its_window() {
    let world = World::start(USUAL).await;
    let mut pictures = Vec::new();
    // Two of three in a row lie in one window, wherever it ends.
    for path in ["/image_codes/same-1/", "/image_codes/same-1", "/image_codes/same-1/"] {
        let answer = world.get(path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "image/png");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let bytes = answer.bytes().await.unwrap();
        assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
        pictures.push(bytes);
    }
    assert!(pictures[0] == pictures[1] || pictures[1] == pictures[2]);
    let other = world.get("/image_codes/same-2/").send().await.unwrap().bytes().await.unwrap();
    assert!(!pictures.contains(&other));
    // The line below the picture is in the caller's language.
    let mut english = Vec::new();
    for _ in 0..2 {
        let asked = world.get("/image_codes/same-1/").header("Accept-Language", "en-GB,en");
        english.push(asked.send().await.unwrap().bytes().await.unwrap());
    }
    assert!(english.iter().all(|picture| !pictures.contains(picture)));
    assert!(english.iter().chain(&pictures).all(|picture| picture.len() == pictures[0].len()));
    let strange = world.get("/image_codes/a.b/").send().await.unwrap();
    assert_eq!(strange.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_is_missing_or_malformed_spends_nothing() {
    let world = World::start(USUAL).await;
    let phone = mobile(100, 1);
    let answer = world.image_answer("row-1").await;
    for query in [
        String::new(),
        "image_code_id=row-1".to_owned(),
        format!("image_code={answer}"),
        format!("image_code_id=&image_code={answer}"),
        "image_code_id=row-1&image_code=".to_owned(),
        "image_code_id=row-1&image_code=%20".to_owned(),
        format!("image_code_id=a.b&image_code={answer}"),
        format!("image_code_id=row-1&image_code={answer}&mobile={}", mobile(100, 2)),
        format!("image_code_id=row-1&image_code_id=row-1&image_code={answer}"),
        format!("image_code_id=row-1&image_code={answer}&image_code={answer}"),
    ] {
        row(&said(world.get(&format!("/sms_codes/{phone}/?{query}"))).await, INCOMPLETE);
    }
    for bad in
        ["123", "1380013800", "12800138000", "138001380001", "abc", "13800138000,13800138001"]
    {
        // What is missing comes before what is malformed.
        row(&said(world.get(&format!("/sms_codes/{bad}/?image_code_id=row-1"))).await, INCOMPLETE);
        row(&send(&world, bad, "row-1", &answer).await, BAD_PHONE);
        row(&send(&world, bad, "row-1", wrong(&answer)).await, BAD_PHONE);
    }
    assert_eq!(inbox(&world).await, 0);
    row(&send(&world, &phone, "row-1", &answer).await, FINE);
    assert_eq!(world.messages(&format!("+86{phone}"), 1).await.len(), 1);
}

#[tokio::test]
async fn an_answer_is_judged_once_right_or_wrong() {
    let world = World::start(USUAL).await;
    let answer = world.image_answer("once-1").await;
    row(&send(&world, &mobile(101, 1), "once-1", wrong(&answer)).await, IMAGE_WRONG);
    row(&send(&world, &mobile(101, 1), "once-1", &answer).await, IMAGE_EXPIRED);
    row(&send(&world, &mobile(101, 1), "once-1", wrong(&answer)).await, IMAGE_EXPIRED);
    row(&send(&world, &mobile(101, 1), "never-fetched", "zzzz").await, IMAGE_WRONG);
    row(&send_right(&world, &mobile(101, 2), "once-2").await, FINE);
    row(&send_right(&world, &mobile(101, 3), "once-2").await, IMAGE_EXPIRED);
    let lower = world.image_answer("once-3").await.to_lowercase();
    row(&send(&world, &mobile(101, 4), "once-3", &lower).await, FINE);
    assert_eq!(inbox(&world).await, 2);
}

#[tokio::test]
async fn the_image_is_judged_before_the_limits() {
    let world = World::start(USUAL).await;
    let phone = mobile(102, 1);
    row(&send_right(&world, &phone, "order-1").await, FINE);
    row(&send(&world, &phone, "order-2", "zzzz").await, IMAGE_WRONG);
    row(&send_right(&world, &phone, "order-3").await, THROTTLED);
    row(&send_right(&world, &phone, "order-3").await, IMAGE_EXPIRED);
    // Every spelling is the same phone.
    row(&send_right(&world, &format!("+86{phone}"), "order-4").await, THROTTLED);
    row(&send_right(&world, &format!("%2B86{phone}"), "order-5").await, THROTTLED);
    row(&send_right(&world, &format!("0086{phone}"), "order-6").await, THROTTLED);
    assert_eq!(inbox(&world).await, 1);
}

#[tokio::test]
async fn the_address_has_a_limit_too() {
    let world = World::start(&USUAL.replace("4000000000", "2")).await;
    row(&send_right(&world, &mobile(103, 1), "address-1").await, FINE);
    row(&send_right(&world, &mobile(103, 2), "address-2").await, FINE);
    row(&send_right(&world, &mobile(103, 3), "address-3").await, THROTTLED);
    assert_eq!(inbox(&world).await, 2);
}

#[tokio::test]
async fn every_way_to_ask_is_the_same_call() {
    let world = World::start(USUAL).await;
    let mut ways = Vec::new();
    for number in 0..8 {
        let (uuid, phone) = (format!("way-{number}"), mobile(104, number));
        let answer = world.image_answer(&uuid).await;
        let fields = json!({"image_code_id": uuid, "image_code": answer});
        let with_mobile = json!({"image_code_id": uuid, "image_code": answer, "mobile": phone});
        let query = format!("image_code_id={uuid}&image_code={answer}");
        let post = |path: String| world.client.post(world.url(&path));
        let request = match number {
            0 => world.get(&format!("/sms_codes/{phone}/?{query}")),
            1 => world.get(&format!("/sms_codes/{phone}?{query}")),
            2 => world.get(&format!("/sms_codes/+86{phone}/?{query}")),
            3 => post(format!("/sms_codes/{phone}/")).form(&fields),
            4 => post(format!("/sms_codes/{phone}")).json(&fields),
            5 => post(format!("/sms_codes/{phone}/")).json(&with_mobile),
            6 => post(format!("/sms_codes/{phone}/?{query}")),
            _ => post(format!("/sms_codes/%2B86{phone}/")).form(&fields),
        };
        ways.push((said(request).await, phone));
    }
    for (answer, phone) in ways {
        row(&answer, FINE);
        assert_eq!(world.messages(&format!("+86{phone}"), 1).await.len(), 1);
    }
}

#[tokio::test]
async fn a_head_request_or_a_prefetch_never_acts() {
    let world = World::start(USUAL).await;
    let (phone, answer) = (mobile(105, 1), world.image_answer("head").await);
    let path = format!("/sms_codes/{phone}/?image_code_id=head&image_code={answer}");
    for method in [Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
        let refused = world.client.request(method.clone(), world.url(&path)).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        let allowed = refused.headers().get("allow").map(|allow| allow.to_str().unwrap());
        assert_eq!(allowed, Some("GET, POST"), "{method}");
    }
    let marks = [
        ("Purpose", "prefetch"),
        ("Sec-Purpose", "prefetch;prerender"),
        ("X-Moz", "prefetch"),
        ("X-Purpose", "preview"),
    ];
    for (name, value) in marks {
        let (status, _) = said(world.get(&path).header(name, value)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{name}: {value}");
    }
    for path in ["/sms_login/", "/sms_login"] {
        let refused = world.get(path).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(refused.headers()["allow"], "POST");
    }
    assert_eq!(inbox(&world).await, 0);
    row(&said(world.get(&path)).await, FINE);
}

#[tokio::test]
async fn english_is_spoken_with_the_same_codes() {
    let world = World::start(USUAL).await;
    let (phone, answer) = (mobile(106, 1), world.image_answer("en-1").await);
    let english = |path: String| {
        let request = world.get(&path).header("Accept-Language", "en-US,en;q=0.9");
        said(request)
    };
    let path = |phone: &str, uuid: &str, answer: &str| {
        format!("/sms_codes/{phone}/?image_code_id={uuid}&image_code={answer}")
    };
    row(&english(path(&phone, "en-1", "")).await, ("5006", "A parameter is missing"));
    let bad = ("5006", "This is not a mobile phone number");
    row(&english(path("123", "en-1", &answer)).await, bad);
    row(&english(path(&phone, "en-0", "zzzz")).await, ("4001", "The picture's text is wrong"));
    let expired = ("4001", "The picture has expired: click it for another");
    row(&english(path(&phone, "en-0", "zzzz")).await, expired);
    row(&english(path(&phone, "en-1", &answer)).await, FINE);
    let message = &world.messages(&format!("+86{phone}"), 1).await[0];
    assert!(message["text"].as_str().unwrap().is_ascii(), "an English message: {message}");
    let answer = world.image_answer("en-2").await;
    let often = ("4008", "Too many messages: wait a little");
    row(&english(path(&phone, "en-2", &answer)).await, often);
    let guess = |phone: &str, code: &str| {
        let fields = json!({"mobile": phone, "sms_code": code});
        let request = world.client.post(world.url("/sms_login/")).json(&fields);
        said(request.header("Accept-Language", "en"))
    };
    let code = message["code"].as_str().unwrap();
    row(&guess(&phone, other_code(code)).await, ("4008", "The code is wrong"));
    row(&guess(&mobile(106, 2), code).await, ("4008", "The code has expired"));
}

#[tokio::test]
async fn a_login_takes_the_right_code_once() {
    let world = World::start(USUAL).await;
    let phone = mobile(107, 1);
    row(&send_right(&world, &phone, "login-1").await, FINE);
    let code = world.code(&format!("+86{phone}")).await;
    row(&login(&world, &phone, other_code(&code)).await, CODE_WRONG);
    row(&login(&world, &phone, "letters").await, CODE_WRONG);
    let good = login(&world, &format!("+86{phone}"), &code).await;
    row(&good, FINE);
    assert_eq!(good.1["token"].as_str().unwrap().split('.').count(), 3);
    row(&login(&world, &phone, &code).await, CODE_EXPIRED);
    row(&login(&world, &mobile(107, 2), &code).await, CODE_EXPIRED);
    let phone = mobile(107, 3);
    row(&send_right(&world, &phone, "login-2").await, FINE);
    let code = world.code(&format!("+86{phone}")).await;
    for _ in 0..5 {
        let refused = login(&world, &phone, other_code(&code)).await;
        row(&refused, CODE_WRONG);
        assert_eq!(refused.1.as_object().unwrap().len(), 2, "no token: {}", refused.1);
    }
    row(&login(&world, &phone, &code).await, CODE_EXPIRED);
}

#[tokio::test]
async fn a_login_names_what_is_missing() {
    let world = World::start(USUAL).await;
    let phone = mobile(108, 1);
    row(&login(&world, "", "123456").await, INCOMPLETE);
    row(&login(&world, &phone, "").await, INCOMPLETE);
    row(&login(&world, "123", "").await, INCOMPLETE);
    row(&login(&world, "123", "123456").await, BAD_PHONE);
    let post = || world.client.post(world.url("/sms_login"));
    row(&said(post()).await, INCOMPLETE);
    row(&said(post().json(&json!({"mobile": phone}))).await, INCOMPLETE);
    let form = ("content-type", "application/x-www-form-urlencoded");
    let twice = format!("mobile={phone}&mobile={phone}&sms_code=123456");
    row(&said(post().header(form.0, form.1).body(twice)).await, INCOMPLETE);
    row(&said(post().header("content-type", "application/json").body("{")).await, INCOMPLETE);
    row(&send_right(&world, &phone, "login-3").await, FINE);
    let code = world.code(&format!("+86{phone}")).await;
    let good = said(post().json(&json!({"mobile": phone, "sms_code": code}))).await;
    row(&good, FINE);
    assert!(good.1["token"].is_string());
}

#[tokio::test]
async fn the_codes_are_the_operators() {
    let codes = "ok = \"A\", image_code = \"B\", throttled = \"C\", sms_code = \"D\", \
                 param = \"E\", server = \"F\"";
    let world = World::start(&format!("{USUAL}\n[seed_api]\ncodes = {{ {codes} }}\n")).await;
    let phone = mobile(109, 1);
    row(&send(&world, &phone, "codes-1", "").await, ("E", INCOMPLETE.1));
    row(&send(&world, &phone, "codes-1", "zzzz").await, ("B", IMAGE_WRONG.1));
    row(&send_right(&world, &phone, "codes-2").await, ("A", FINE.1));
    row(&send_right(&world, &phone, "codes-3").await, ("C", THROTTLED.1));
    row(&login(&world, &phone, "letters").await, ("D", CODE_WRONG.1));
}

/// Patches turn half of the paper into ink; on plain paper it is a fifth at most.
#[tokio::test]
async fn pictures_are_as_hard_as_is_configured_and_good_for_a_message() {
    for (level, ink) in [(1, 8..22), (2, 35..65), (3, 35..65)] {
        let world = World::start(&format!("{USUAL}\n[seed_api]\nlevel = {level}\n")).await;
        let mut shares = 0;
        for number in 0..4 {
            let answer = world.get(&format!("/image_codes/level-{number}/")).send().await.unwrap();
            let file = answer.bytes().await.unwrap();
            let mut decoder = png::Decoder::new(std::io::Cursor::new(&file));
            decoder.set_transformations(png::Transformations::IDENTITY);
            let mut reader = decoder.read_info().unwrap();
            let mut data = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut data).unwrap();
            let dark: u32 = data.iter().map(|byte| byte.count_ones()).sum();
            shares += dark * 100 / u32::try_from(data.len() * 8).unwrap();
        }
        assert!(ink.contains(&(shares / 4)), "level {level}: {} %", shares / 4);
        row(&send_right(&world, &mobile(110, level), "level-0").await, FINE);
    }
}
