//! The native door: from the challenge to the token, what is refused and how, and what frames it.

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::world::{USUAL, World, body, mobile};

const SHOP: &str = "sk_shop_secret";
const BROWSER: &str = "pk_shop_public";
const BANK: &str = "sk_bank_secret";
const START: &str = "/v1/verifications";

/// Asserts a problem of this kind: all members, and the page that its type points to.
async fn problem(world: &World, answer: Response, status: u16, kind: &str) -> Value {
    let (given, headers) = (answer.status().as_u16(), answer.headers().clone());
    let problem = body(answer).await;
    assert_eq!(given, status, "{problem}");
    assert_eq!(headers["content-type"], "application/problem+json");
    assert!(headers.contains_key("x-request-id"));
    assert_eq!(problem["status"], status);
    let page = problem["type"].as_str().unwrap();
    assert_eq!(page.rsplit('/').next(), Some(kind), "{problem}");
    for member in ["title", "detail"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
    let page = world.get(page).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK, "the page of {kind}");
    assert!(page.text().await.unwrap().contains(kind));
    problem
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

/// A challenge of this key's tenant with its right answer.
async fn solved(world: &World, key: &str) -> Value {
    let minted = body(send(world.post(key, "/v1/challenges", &json!({}))).await).await;
    let id = minted["id"].as_str().unwrap();
    let answer = body(send(world.get(&format!("/dev/challenges/{id}"))).await).await;
    json!({"id": id, "answer": answer["answer"]})
}

/// A phone of this series, as the native door likes it.
fn phone(series: u32, number: u32) -> String {
    format!("+86{}", mobile(series, number))
}

/// A call on a verification.
fn on(world: &World, method: Method, key: &str, id: &str, call: &str) -> RequestBuilder {
    let url = world.url(&format!("{START}/{id}{call}"));
    world.client.request(method, url).bearer_auth(key)
}

fn check(world: &World, key: &str, id: &str, code: &str) -> RequestBuilder {
    on(world, Method::POST, key, id, "/check").json(&json!({"code": code}))
}

fn other_code(code: &str) -> &'static str {
    if code == "000000" { "000001" } else { "000000" }
}

#[tokio::test]
async fn a_browser_goes_from_the_picture_to_the_token() {
    let world = World::start(USUAL).await;
    let phone = phone(120, 1);
    let minted = send(world.post(BROWSER, "/v1/challenges", &json!({}))).await;
    assert_eq!(minted.status(), StatusCode::CREATED);
    let minted = body(minted).await;
    assert_eq!(minted["kind"], "image");
    assert!(minted["expires_at"].is_string());
    let instruction = &minted["instruction"];
    assert!(instruction["zh"].as_str().unwrap().contains("4 个字符"), "{instruction}");
    assert!(instruction["en"].as_str().unwrap().contains('4'), "{instruction}");
    let picture = send(world.client.get(minted["image_url"].as_str().unwrap())).await;
    assert_eq!(picture.headers()["content-type"], "image/png");
    assert!(picture.bytes().await.unwrap().starts_with(b"\x89PNG"));
    let answer = format!("/dev/challenges/{}", minted["id"].as_str().unwrap());
    let answer = body(send(world.get(&answer)).await).await;
    let challenge = json!({"id": minted["id"], "answer": answer["answer"]});
    let wish = json!({"phone": phone, "challenge": challenge, "purpose": "pay", "locale": "en"});
    let started = send(world.post(BROWSER, START, &wish)).await;
    assert_eq!(started.status(), StatusCode::CREATED);
    let started = body(started).await;
    assert_eq!(started["status"], "pending");
    assert_eq!(started["channel"], "sms");
    assert_eq!((&started["checks_left"], &started["sends_left"]), (&json!(5), &json!(4)));
    assert_eq!(started["phone"], format!("{}****{}", &phone[..6], &phone[10..]));
    assert!(started["token"].is_null());
    assert!(started["next_send_at"].as_str() < started["expires_at"].as_str());
    let (id, code) = (started["id"].as_str().unwrap(), world.code(&phone).await);
    let wrong = send(check(&world, BROWSER, id, other_code(&code))).await;
    assert_eq!(problem(&world, wrong, 422, "wrong-code").await["checks_left"], 4);
    let right = send(check(&world, BROWSER, id, &code)).await;
    assert_eq!(right.status(), StatusCode::OK);
    let right = body(right).await;
    assert_eq!((&right["status"], &right["id"]), (&json!("approved"), &started["id"]));
    assert_eq!(right["token"].as_str().unwrap().split('.').count(), 3);
    let again = send(check(&world, BROWSER, id, &code)).await;
    problem(&world, again, 404, "verification-not-found").await;
    let look = body(send(on(&world, Method::GET, BROWSER, id, "")).await).await;
    assert_eq!(look["status"], "approved");
    assert!(look["token"].is_null(), "a token is given once");
}

#[tokio::test]
async fn callers_do_not_make_purposes_up() {
    let world = World::start(USUAL).await;
    for (key, purposes) in [(SHOP, json!(["login", "pay"])), (BANK, json!(["transfer"]))] {
        let made_up = json!({"phone": phone(126, 1), "purpose": "guess-some-more"});
        let refused = send(world.post(key, START, &made_up)).await;
        let refused = problem(&world, refused, 400, "purpose-not-allowed").await;
        assert_eq!(refused["purposes"], purposes);
        let detail = refused["detail"].as_str().unwrap();
        assert!(
            detail.ends_with(
                &purposes
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            "{detail}"
        );
        assert!(!detail.contains("guess-some-more"), "what was sent is not quoted");
    }
    assert!(world.messages("", 0).await.is_empty());
}

#[tokio::test]
async fn a_body_where_none_is_needed_does_not_end_the_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::start(USUAL).await;
    let mut connection = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST /v1/challenges HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SHOP}\r\n\
         Content-Length: 2\r\n\r\n"
    );
    // Head and body in two pieces, as many clients send them.
    for round in 0..5 {
        connection.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        connection.write_all(b"{}").await.unwrap();
        let mut answer = vec![0; 4096];
        let length = connection.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 201"), "{round}: {length} bytes");
    }
}

#[tokio::test]
async fn who_needs_a_challenge() {
    let world = World::start(USUAL).await;
    let bare = json!({"phone": phone(121, 1)});
    for key in [BROWSER, BANK] {
        let refused = send(world.post(key, START, &bare)).await;
        problem(&world, refused, 403, "challenge-required").await;
    }
    assert_eq!(send(world.post(SHOP, START, &bare)).await.status(), StatusCode::CREATED);
    let of_bank = json!({"phone": phone(121, 2), "challenge": solved(&world, BANK).await});
    let foreign = send(world.post(BROWSER, START, &of_bank)).await;
    problem(&world, foreign, 422, "challenge-expired").await;
    assert_eq!(send(world.post(BANK, START, &of_bank)).await.status(), StatusCode::CREATED);
    let again = send(world.post(BANK, START, &of_bank)).await;
    problem(&world, again, 422, "challenge-expired").await;
    let mut challenge = solved(&world, BROWSER).await;
    let right = std::mem::replace(&mut challenge["answer"], "zzzz".into());
    let mut wish = json!({"phone": phone(121, 3), "challenge": challenge});
    let wrong = send(world.post(BROWSER, START, &wish)).await;
    problem(&world, wrong, 422, "challenge-wrong").await;
    wish["challenge"]["answer"] = right;
    let spent = send(world.post(BROWSER, START, &wish)).await;
    problem(&world, spent, 422, "challenge-expired").await;
}

#[tokio::test]
async fn foreign_unknown_and_ended_are_alike() {
    let world = World::start(USUAL).await;
    let live = world.start_verification(&phone(122, 1)).await["id"].as_str().unwrap().to_owned();
    let ended = world.start_verification(&phone(122, 2)).await["id"].as_str().unwrap().to_owned();
    let canceled = send(on(&world, Method::DELETE, SHOP, &ended, "")).await;
    assert_eq!(canceled.status(), StatusCode::OK);
    assert_eq!(body(canceled).await["status"], "canceled");
    let last = if live.ends_with('0') { "1" } else { "0" };
    let unknown = format!("{}{last}", &live[..live.len() - 1]);
    for (method, call) in
        [(Method::POST, "/check"), (Method::POST, "/resend"), (Method::DELETE, "")]
    {
        let mut bodies = Vec::new();
        for (key, id) in [(BANK, &*live), (SHOP, &unknown), (SHOP, "nonsense"), (SHOP, &ended)] {
            let request = on(&world, method.clone(), key, id, call);
            let answer = send(request.json(&json!({"code": "000000"}))).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{method} {call} {key} {id}");
            bodies.push(answer.text().await.unwrap());
        }
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{method} {call}: {bodies:?}");
    }
    for call in ["", "/timeline"] {
        let mut bodies = Vec::new();
        for (key, id) in [(BANK, &*live), (SHOP, &unknown), (SHOP, "nonsense")] {
            let answer = send(on(&world, Method::GET, key, id, call)).await;
            bodies.push(problem(&world, answer, 404, "verification-not-found").await);
        }
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{call}: {bodies:?}");
    }
    let code = world.code(&phone(122, 1)).await;
    let untouched = send(check(&world, SHOP, &live, &code)).await;
    assert_eq!(untouched.status(), StatusCode::OK, "nobody else's guesses counted");
}

#[tokio::test]
async fn within_the_gap_nothing_more_is_sent() {
    let world = World::start(USUAL).await;
    let phone = phone(123, 1);
    let started = world.start_verification(&phone).await;
    let id = started["id"].as_str().unwrap();
    let resend = send(on(&world, Method::POST, SHOP, id, "/resend")).await;
    let start = send(world.post(SHOP, START, &json!({"phone": phone}))).await;
    for answer in [resend, start] {
        let after: u32 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((50..=60).contains(&after), "{after}");
        let refused = problem(&world, answer, 429, "throttled").await;
        assert_eq!(refused["limit"], "phone");
        assert_eq!(refused["retry_at"], started["next_send_at"]);
    }
    let code = world.code(&phone).await;
    let good = send(check(&world, SHOP, id, &code)).await;
    assert_eq!(good.status(), StatusCode::OK, "what was refused changed nothing");
    assert_eq!(world.messages(&phone, 1).await.len(), 1);
}

#[tokio::test]
async fn the_timeline_tells_the_story_to_servers() {
    let world = World::start(USUAL).await;
    let phone = phone(124, 1);
    let started = world.start_verification(&phone).await;
    let id = started["id"].as_str().unwrap();
    let code = world.code(&phone).await;
    send(check(&world, SHOP, id, other_code(&code))).await;
    send(check(&world, SHOP, id, &code)).await;
    let browser = send(on(&world, Method::GET, BROWSER, id, "/timeline")).await;
    problem(&world, browser, 403, "forbidden").await;
    // The provider's answer is written down a moment after the message is out.
    let wanted = [
        "started",
        "message_accepted",
        "provider_answered",
        "code_wrong",
        "code_right",
        "approved",
    ];
    let mut story = Value::Null;
    for _ in 0..100 {
        story = body(send(on(&world, Method::GET, SHOP, id, "/timeline")).await).await;
        let told = |word: &&str| {
            story["events"].as_array().unwrap().iter().any(|event| event["event"] == **word)
        };
        if wanted.iter().all(told) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let events = story["events"].as_array().unwrap();
    let words: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert!(wanted.iter().all(|word| words.contains(word)), "{words:?}");
    // What the provider answered may be written down between the checks, or after them.
    let ours = |word: &&&str| !["provider_answered", "message_sent"].contains(*word);
    let ours: Vec<&str> = words.iter().filter(ours).copied().collect();
    assert_eq!(ours, ["started", "message_accepted", "code_wrong", "code_right", "approved"]);
    let answered = events.iter().find(|event| event["event"] == "provider_answered").unwrap();
    assert_eq!(answered["provider"], "sim");
    assert!(answered["class"].is_string() && answered["delivery"].is_string(), "{answered}");
    let times = events.iter().map(|event| event["at"].as_str().unwrap().parse().unwrap());
    let times: Vec<jiff::Timestamp> = times.collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(story["verification"]["status"], "approved");
    assert!(!story.to_string().contains(&code), "no code in a story");
    assert!(!story.to_string().contains(&phone[3..]), "no number in a story");
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let world = World::start(USUAL).await;
    let start = |wish: Value| send(world.post(SHOP, START, &wish));
    for (wish, kind, key) in [
        (json!({"phone": phone(125, 1), "phon": 1}), "invalid-request", Some("phon")),
        (json!({"phone": 13_800_138_000_u64}), "invalid-request", Some("phone")),
        (json!({"phone": phone(125, 1), "purpose": 1}), "invalid-request", Some("purpose")),
        (json!({"phone": phone(125, 1), "purpose": "A b"}), "purpose-not-allowed", Some("purpose")),
        (json!({"phone": "+86123"}), "invalid-phone", Some("phone")),
        (json!({"phone": "+12125550123"}), "country-not-allowed", Some("phone")),
        (json!({}), "invalid-request", None),
    ] {
        let refused = problem(&world, start(wish.clone()).await, 400, kind).await;
        assert!(key.is_none_or(|key| refused["key"] == key), "{wish}: {refused}");
    }
    let nested = json!({"phone": phone(125, 1), "challenge": {"id": "a", "answer": "b", "c": 1}});
    let refused = problem(&world, start(nested).await, 400, "invalid-request").await;
    assert_eq!(refused["key"], "challenge.c");
    let started = world.start_verification(&phone(125, 2)).await;
    let odd = send(check(&world, SHOP, started["id"].as_str().unwrap(), "12ab56")).await;
    assert_eq!(problem(&world, odd, 400, "invalid-request").await["key"], "code");
    let text = world.client.post(world.url(START)).bearer_auth(SHOP).body("phone=1");
    problem(&world, send(text).await, 415, "unsupported-media-type").await;
    let large = json!({"phone": "1".repeat(20_000)});
    problem(&world, start(large).await, 413, "too-large").await;
    for key in ["sk_shop_public", "", "pk_shop_publi"] {
        let refused = send(world.post(key, START, &json!({"phone": phone(125, 3)}))).await;
        assert_eq!(refused.headers()["www-authenticate"], "Bearer");
        problem(&world, refused, 401, "unauthorized").await;
    }
    problem(&world, send(world.client.post(world.url(START))).await, 401, "unauthorized").await;
    problem(&world, send(world.get("/v1/nothing")).await, 404, "not-found").await;
    let put = send(world.client.put(world.url(START))).await;
    assert_eq!(put.headers()["allow"], "POST");
    problem(&world, put, 405, "method-not-allowed").await;
    problem(&world, send(world.get("/v1/challenges/a~b/image")).await, 404, "not-found").await;
    problem(&world, send(world.get("/problems/none")).await, 404, "not-found").await;
}

#[tokio::test]
async fn a_repeated_request_happens_once() {
    let world = World::start(USUAL).await;
    let phones = [phone(126, 1), phone(126, 2)];
    let ask = |key: &str, phone: &str| {
        let request = world.post(SHOP, START, &json!({"phone": phone}));
        send(request.header("Idempotency-Key", key))
    };
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let answer = ask("order-1", &phones[0]).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        bodies.push(answer.text().await.unwrap());
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    problem(&world, ask("order-1", &phones[1]).await, 422, "idempotency-mismatch").await;
    // What was refused is not kept: the key is free for the next try.
    problem(&world, ask("order-2", &phones[0]).await, 429, "throttled").await;
    assert_eq!(ask("order-2", &phones[1]).await.status(), StatusCode::CREATED);
    let long = problem(&world, ask(&"x".repeat(256), &phones[1]).await, 400, "invalid-request");
    assert_eq!(long.await["key"], "Idempotency-Key");
    let theirs = json!({"phone": phone(126, 3), "challenge": solved(&world, BANK).await});
    let theirs = world.post(BANK, START, &theirs).header("Idempotency-Key", "order-1");
    assert_eq!(send(theirs).await.status(), StatusCode::CREATED, "each tenant has its own keys");
    for phone in phones {
        assert_eq!(world.messages(&phone, 1).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_at_once_under_one_key_are_one() {
    let world = World::start(USUAL).await;
    let phone = phone(127, 1);
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let request = world.post(SHOP, START, &json!({"phone": phone}));
        let request = request.header("Idempotency-Key", "parallel");
        tasks.spawn(async move {
            let answer = request.send().await.unwrap();
            let waits = answer.headers().contains_key("retry-after");
            (answer.status().as_u16(), waits, answer.text().await.unwrap())
        });
    }
    let answers = tasks.join_all().await;
    let mut good = answers.iter().filter(|(status, ..)| *status == 201).map(|(.., body)| body);
    let first = good.next().expect("one of them did it");
    assert!(good.all(|body| body == first), "{answers:?}");
    let rest = answers.iter().filter(|(status, ..)| *status != 201);
    let mut rest = rest.map(|(status, waits, _)| (*status, *waits));
    assert!(rest.all(|refused| refused == (409, true)), "{answers:?}");
    let request = world.post(SHOP, START, &json!({"phone": phone}));
    let later = send(request.header("Idempotency-Key", "parallel")).await;
    assert_eq!(later.text().await.unwrap(), *first);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(world.messages(&phone, 1).await.len(), 1);
}

#[tokio::test]
async fn browsers_are_told_which_origins_may() {
    let world = World::start(USUAL).await;
    let listed = "https://shop.example";
    for (origin, allowed) in [(listed, true), ("https://evil.example", false), ("null", false)] {
        let preflight = world
            .client
            .request(Method::OPTIONS, world.url(START))
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST")
            .header("Access-Control-Request-Headers", "authorization,content-type");
        let preflight = send(preflight).await;
        assert!(preflight.status().is_success());
        let call = world.post(BROWSER, "/v1/challenges", &json!({})).header("Origin", origin);
        let call = send(call).await;
        for answer in [&preflight, &call] {
            let may = answer.headers().get("access-control-allow-origin");
            let may = may.map(|origin| origin.to_str().unwrap());
            assert_eq!(may, allowed.then_some(origin), "{origin}");
            assert!(answer.headers().get_all("vary").iter().any(|vary| vary == "origin"));
            assert!(!answer.headers().contains_key("access-control-allow-credentials"));
        }
        if allowed {
            assert_eq!(call.status(), StatusCode::CREATED);
            let headers = preflight.headers();
            let names = headers["access-control-allow-headers"].to_str().unwrap();
            assert!(names.contains("authorization") && names.contains("idempotency-key"));
            let exposed = call.headers()["access-control-expose-headers"].to_str().unwrap();
            assert!(exposed.contains("retry-after") && exposed.contains("x-request-id"));
        } else {
            problem(&world, call, 403, "forbidden").await;
        }
    }
    // A refusal must be readable, too, or a page cannot say what is wrong.
    let refused = world.post("pk_none", "/v1/challenges", &json!({})).header("Origin", listed);
    let refused = send(refused).await;
    assert_eq!(refused.headers()["access-control-allow-origin"], listed);
    problem(&world, refused, 401, "unauthorized").await;
}

#[tokio::test]
async fn a_request_has_an_id() {
    let world = World::start(USUAL).await;
    let id = |given: Option<&str>| {
        let request = world.get("/health/live");
        let request = given.into_iter().fold(request, |it, id| it.header("X-Request-Id", id));
        async { send(request).await.headers()["x-request-id"].to_str().unwrap().to_owned() }
    };
    assert_eq!(id(Some("order-7_a")).await, "order-7_a");
    let long = "x".repeat(65);
    let mut made = vec![id(None).await];
    for odd in ["a b", "a\"b", &long] {
        made.push(id(Some(odd)).await);
    }
    assert!(made.iter().all(|id| id.len() == 16), "{made:?}");
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), 4);
    assert!(world.log().contains("order-7_a"), "the log has it, too");
}

#[tokio::test]
async fn health_metrics_and_documents_are_there() {
    let world = World::start(USUAL).await;
    for (path, status) in [("/health/live", "live"), ("/health/ready", "ready")] {
        assert_eq!(body(send(world.get(path)).await).await, json!({"status": status}));
    }
    let document = send(world.get("/openapi.json")).await.text().await.unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let written = std::fs::read_to_string(path).unwrap();
    assert!(
        document.trim_end() == written.trim_end(),
        "docs/openapi.json is stale: `just openapi`"
    );
    let phone = phone(128, 1);
    let started = world.start_verification(&phone).await;
    let id = started["id"].as_str().unwrap();
    let code = world.code(&phone).await;
    send(check(&world, SHOP, id, other_code(&code))).await;
    send(check(&world, SHOP, id, &code)).await;
    send(world.get("/image_codes/metrics/")).await;
    let metrics = send(world.get("/metrics")).await.text().await.unwrap();
    for line in [
        "countersign_starts_total{outcome=\"ok\"} 1",
        "countersign_checks_total{outcome=\"wrong\"} 1",
        "countersign_checks_total{outcome=\"approved\"} 1",
        "countersign_challenges_total{kind=\"named\"} 1",
        "countersign_requests_total{route=\"/v1/verifications\",status=\"201\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    for name in ["request_seconds", "store_commit_seconds", "handoff_seconds", "provider_seconds"] {
        assert!(metrics.contains(&format!("countersign_{name}")), "{name}\n{metrics}");
    }
    let national = &phone[3..];
    assert!(!metrics.contains(national) && !metrics.contains(id), "metrics name nobody");
}
