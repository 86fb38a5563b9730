//! Hostile input: too large, too deep, too slow, malformed, or with addresses that are not its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::world::{USUAL, World, body, mobile, times};

const SERIES: u32 = 300;
/// Bodies and heads may have so many bytes.
const BYTES_MAX: usize = 16 * 1024;

/// Writes these bytes to a connection of their own and reads all that comes back.
fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    // A server that has said no already may close before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of a raw answer; 0 if there is none.
fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

/// How many answers came over one connection.
fn answers(answer: &str) -> usize {
    answer.matches("HTTP/1.1 ").count()
}

/// The head of a start with the shop's secret key, and these headers.
fn start_head(headers: &str) -> String {
    format!(
        "POST /v1/verifications HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_shop_secret\r\n\
         Content-Type: application/json\r\n{headers}\r\n"
    )
}

/// Asserts that nobody got a message.
async fn assert_no_messages(world: &World) {
    tokio::time::sleep(Duration::from_millis(300)).await;
    let inbox = body(world.get("/dev/messages").send().await.unwrap()).await;
    assert_eq!(inbox, json!([]));
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let world = World::start(USUAL).await;
    let declared = start_head("Connection: close\r\nContent-Length: 20000000\r\n");
    assert_eq!(status(&raw(world.address, declared.as_bytes())), 413);

    let mut chunked =
        start_head("Connection: close\r\nTransfer-Encoding: chunked\r\n").into_bytes();
    for _ in 0..=BYTES_MAX / 1024 {
        chunked.extend_from_slice(b"400\r\n");
        chunked.extend_from_slice(&[b' '; 1024]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(status(&raw(world.address, &chunked)), 413);

    for path in ["/sms_login/", "/sms_codes/13800138000/"] {
        let form =
            world.client.post(world.url(path)).body("x=".to_owned() + &"y".repeat(BYTES_MAX));
        assert_eq!(form.send().await.unwrap().status(), 413, "{path}");
    }

    let many = "X-Many: 1\r\n".repeat(65);
    let many = format!("GET /health/live HTTP/1.1\r\nHost: x\r\n{many}\r\n");
    assert_eq!(status(&raw(world.address, many.as_bytes())), 431);
    let long = "y".repeat(BYTES_MAX);
    let long = format!("GET /health/live HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n");
    assert_eq!(status(&raw(world.address, long.as_bytes())), 431);

    // A compressed body is not unpacked, so it cannot be a bomb: it is just not JSON.
    let packed = world.post("sk_shop_secret", "/v1/verifications", &json!({}));
    let packed = packed.header("Content-Encoding", "gzip").body(vec![0x1f, 0x8b, 8, 0]);
    assert_eq!(packed.send().await.unwrap().status(), 400);
    assert_no_messages(&world).await;
}

#[tokio::test]
async fn json_that_is_not_exactly_one_request_is_refused() {
    let world = World::start(USUAL).await;
    let (one, other) = (mobile(SERIES, 1), mobile(SERIES, 2));
    let (open, close) = ("[".repeat(7000), "]".repeat(7000));
    let objects = "{\"a\":".repeat(2000);
    let bodies = [
        String::new(),
        "{".into(),
        "null".into(),
        "[]".into(),
        "\u{feff}{}".into(),
        format!("{{\"phone\":\"{one}\"}}x"),
        format!("{{\"phone\":\"{one}\"}}{{\"phone\":\"{other}\"}}"),
        format!("{{\"phone\":\"{one}\",\"phone\":\"{other}\"}}"),
        format!("{{\"phone\":\"{one}\",}}"),
        format!("{{'phone':'{one}'}}"),
        format!("{{\"phone\":\"{one}\",\"to\":\"{other}\"}}"),
        format!("{{\"phone\":[\"{one}\",\"{other}\"]}}"),
        format!("{{\"phone\":{one}}}"),
        format!("{{\"phone\":\"{one}\",\"purpose\":\"Log in\"}}"),
        format!("{{\"phone\":\"{one}\",\"challenge\":{{\"id\":1,\"answer\":2}}}}"),
        format!("{open}{close}"),
        format!("{{\"phone\":{open}{close}}}"),
        format!("{{\"x\":{open}"),
        objects,
        "{\"phone\":\"\\ud800\"}".into(),
    ];
    for sent in bodies {
        let start = world.client.post(world.url("/v1/verifications")).bearer_auth("sk_shop_secret");
        let start = start.header("Content-Type", "application/json").body(sent.clone());
        let answer = start.send().await.unwrap();
        let shown: String = sent.chars().take(80).collect();
        assert_eq!(answer.status(), 400, "{shown}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{shown}");
        assert_eq!(body(answer).await["status"], 400, "{shown}");
    }
    let invalid = start_head("Connection: close\r\nContent-Length: 13\r\n");
    let invalid = [invalid.as_bytes(), b"{\"phone\":\"\xff\"}"].concat();
    assert_eq!(status(&raw(world.address, &invalid)), 400);
    assert_no_messages(&world).await;
}

#[tokio::test]
async fn other_types_and_methods_are_refused() {
    let world = World::start(USUAL).await;
    let sent = json!({"phone": mobile(SERIES, 3)}).to_string();
    for kind in ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
        let start = world.client.post(world.url("/v1/verifications")).bearer_auth("sk_shop_secret");
        let start = start.header("Content-Type", kind).body(sent.clone());
        assert_eq!(start.send().await.unwrap().status(), 415, "{kind}");
    }
    let login = world.client.post(world.url("/sms_login/")).header("Content-Type", "text/xml");
    assert_eq!(login.body(sent.clone()).send().await.unwrap().status(), 415);

    let send = format!("/sms_codes/{}/", mobile(SERIES, 3));
    let routes: [(&str, &[Method]); 5] = [
        ("/v1/verifications", &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE]),
        ("/v1/verifications/x/check", &[Method::GET, Method::HEAD, Method::PUT]),
        ("/v1/challenges", &[Method::GET, Method::PATCH, Method::TRACE]),
        (&send, &[Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE]),
        ("/sms_login/", &[Method::GET, Method::HEAD, Method::PUT]),
    ];
    for (path, methods) in routes {
        for method in methods {
            let request = world.client.request(method.clone(), world.url(path));
            let answer = request.bearer_auth("sk_shop_secret").send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        }
    }
    let strange = b"BREW /v1/verifications HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&raw(world.address, strange)), 405);
    assert_no_messages(&world).await;
}

#[tokio::test]
async fn a_second_request_cannot_be_smuggled() {
    let world = World::start(USUAL).await;
    let smuggled = "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let phone = json!({"phone": "nobody"}).to_string();
    let chunk = format!("{:x}\r\n{phone}\r\n0\r\n\r\n{smuggled}", phone.len());
    let (all, short) = (chunk.len(), phone.len());
    // Without a contradiction, what follows on a connection is answered.
    let honest = format!("{}{chunk}", start_head("Transfer-Encoding: chunked\r\n"));
    assert_eq!(answers(&raw(world.address, honest.as_bytes())), 2);
    let requests = [
        format!(
            "{}{chunk}",
            start_head(&format!("Content-Length: {all}\r\nTransfer-Encoding: chunked\r\n"))
        ),
        format!(
            "{}{chunk}",
            start_head(&format!("Transfer-Encoding: chunked\r\nContent-Length: {all}\r\n"))
        ),
        format!(
            "{}{chunk}",
            start_head("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")
        ),
        format!("{}{chunk}", start_head("Transfer-Encoding: identity, chunked, x\r\n")),
        format!("{}{chunk}", start_head("Transfer-Encoding : chunked\r\n")),
        format!(
            "{}{phone}{smuggled}",
            start_head(&format!("Content-Length: {short}\r\nContent-Length: 0\r\n"))
        ),
        format!("{}{phone}{smuggled}", start_head(&format!("Content-Length: +{short}\r\n"))),
        format!("{}{phone}{smuggled}", start_head("Content-Length: 99999999999999999999\r\n")),
    ];
    for request in requests {
        let answer = raw(world.address, request.as_bytes());
        assert!(answers(&answer) <= 1, "{request}\n-> {answer}");
        assert!(matches!(status(&answer), 0 | 400..500), "{request}\n-> {answer}");
    }
    // What is no HTTP at all ends the connection, too.
    for request in [
        "\r\n\r\n\0\x01\x02\r\n\r\n",
        "GET /\0 HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let answer = raw(world.address, request.as_bytes());
        assert!(matches!(status(&answer), 0 | 400..=505), "{answer}");
    }
    assert_eq!(status(&raw(world.address, smuggled.as_bytes())), 200);
}

/// A text with every byte escaped, for a URL.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes().flat_map(|byte| ['%'.to_string(), hex::encode([byte])]).collect()
}

/// What is not one mobile number of a country that is served.
fn not_phones() -> Vec<String> {
    let (one, other) = (mobile(SERIES, 4), mobile(SERIES, 5));
    let arabic: String =
        one.chars().map(|digit| char::from_u32(digit as u32 - 48 + 0x660).unwrap()).collect();
    let mut all: Vec<String> = [",", ";", "|", "/", "&", " ", "\n", "\r\n", "\0", " and ", ",,"]
        .iter()
        .map(|between| format!("{one}{between}{other}"))
        .collect();
    for after in [
        "\0", "\n", "\r\n", "\t", "\u{200b}", "\u{202e}", "x5", " ext 5", ";ext=5", "#5", "p5",
        ",5", "a", "😀",
    ] {
        all.push(format!("{one}{after}"));
        all.push(format!("{}{after}{}", &one[..5], &one[5..]));
    }
    for before in ["\n", "\0", "tel:", "++86", "+86+", "+8686", "*67", "\u{202e}", "=", "'"] {
        all.push(format!("{before}{one}"));
    }
    let fixed = [
        "",
        " ",
        "+",
        "-",
        "()",
        "+86",
        "110",
        "10086",
        "12306",
        "95588",
        "075512345678",
        "NaN",
        "1e10",
        "0x1383",
    ];
    all.extend(fixed.map(str::to_owned));
    all.extend([
        arabic,
        "1".repeat(1000),
        format!("{one}0"),
        one[..10].to_owned(),
        "+12025550123".into(),
    ]);
    all.push("(".repeat(500) + &one);
    all
}

#[tokio::test]
async fn what_is_not_one_phone_number_sends_nothing() {
    let world = World::start(USUAL).await;
    for phone in not_phones() {
        let sent = json!({"phone": phone});
        let answer = world.post("sk_shop_secret", "/v1/verifications", &sent).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{phone:?}");
        let problem = body(answer).await;
        let kind = problem["type"].as_str().unwrap();
        assert!(
            kind.ends_with("/invalid-phone") || kind.ends_with("/country-not-allowed"),
            "{phone:?}"
        );

        let escaped = escaped(&phone);
        let path = format!("/sms_codes/{escaped}/?image_code_id=hostile&image_code=");
        let path = path + &world.image_answer("hostile").await;
        let answer = world.get(&path).send().await.unwrap();
        let (status, said) = (answer.status(), body(answer).await);
        assert!(said["code"] == "5006" || status.is_client_error(), "{phone:?} {status} {said}");
    }
    let (one, other) = (mobile(SERIES, 4), mobile(SERIES, 5));
    let answer = world.image_answer("hostile").await;
    let right = format!("image_code_id=hostile&image_code={answer}");
    for query in [
        format!("{right}&mobile={other}"),
        format!("{right}&mobile={one}&mobile={one}"),
        format!("{right}&image_code={answer}"),
        format!("{right}&image_code_id=other"),
        "image_code_id[]=hostile&image_code=x".to_owned(),
    ] {
        let answer = world.get(&format!("/sms_codes/{one}/?{query}")).send().await.unwrap();
        let (status, said) = (answer.status(), body(answer).await);
        assert!(said["code"] == "5006" || status == 400, "{query} {status} {said}");
    }
    assert_no_messages(&world).await;
}

#[tokio::test]
async fn a_pictures_name_is_a_plain_word() {
    let world = World::start(USUAL).await;
    let paths = [
        "../x",
        "..%2Fx",
        "%2E%2E%2Fetc%2Fpasswd",
        "a%2Fb",
        "a%00",
        "%00",
        "a%0Ab",
        "a%20b",
        "%FF",
        "a.b",
        "a'b",
        "%E4%BA%BA",
        "a;b",
        "",
    ];
    let long = ["a".repeat(65), "a".repeat(9000), "a".repeat(1 << 20)];
    for name in paths.iter().map(|path| (*path).to_owned()).chain(long) {
        let get =
            format!("GET /image_codes/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = raw(world.address, get.as_bytes());
        assert!((400..500).contains(&status(&answer)), "{} {answer}", &name[..name.len().min(80)]);
    }
    let nul = raw(world.address, b"GET /image_codes/a\0b HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(status(&nul), 400);
    // Ids that the server mints cannot be made up either.
    for id in
        ["x", "shop~", "shop~x", "~", "shop~AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "..%2F"]
    {
        let image = world.get(&format!("/v1/challenges/{id}/image")).send().await.unwrap();
        assert_eq!(image.status(), 404, "{id}");
        let sent = json!({"phone": mobile(SERIES, 6), "challenge": {"id": id, "answer": "x"}});
        let start = world.post("sk_bank_secret", "/v1/verifications", &sent).send().await.unwrap();
        assert_eq!(start.status(), 422, "{id}");
    }
    assert_no_messages(&world).await;
}

/// Asks for a code at the seed's door, with this forwarding header, for a phone of its own.
async fn forwarded_send(world: &World, number: u32, forwarded: &str) -> Value {
    let (phone, name) = (mobile(SERIES, number), format!("picture-{number}"));
    let answer = world.image_answer(&name).await;
    let path = format!("/sms_codes/{phone}/?image_code_id={name}&image_code={answer}");
    let request =
        world.get(&path).header("X-Forwarded-For", forwarded).header("X-Real-IP", forwarded);
    let forwarded = format!("for=\"{forwarded}\"");
    body(request.header("Forwarded", forwarded).send().await.unwrap()).await["code"].clone()
}

#[tokio::test]
async fn an_address_is_the_connections_unless_a_trusted_proxy_says_more() {
    let three = USUAL.replace("address_per_hour = 4000000000", "address_per_hour = 3");
    let mut world = World::start(&three).await;
    for number in 10..13 {
        let spoofed = format!("203.0.113.{number}");
        assert_eq!(forwarded_send(&world, number, &spoofed).await, "0");
    }
    for (number, spoofed) in (13..).zip(["203.0.113.99", "2001:db8::1", "127.0.0.2", "", "x"]) {
        assert_eq!(forwarded_send(&world, number, spoofed).await, "4008", "{spoofed}");
    }

    world.write_config(&format!("trusted_proxies = [\"127.0.0.1\"]\n{three}"));
    world.restart().await;
    for number in 20..23 {
        assert_eq!(forwarded_send(&world, number, "198.51.100.1").await, "0");
    }
    assert_eq!(forwarded_send(&world, 23, "198.51.100.1").await, "4008");
    // What stands left of the proxy's own entry was written by the client.
    assert_eq!(forwarded_send(&world, 24, "192.0.2.1, 198.51.100.1").await, "4008");
    assert_eq!(forwarded_send(&world, 25, "198.51.100.2").await, "0");
    // One household of IPv6 is one address.
    for number in 26..29 {
        let address = format!("2001:db8:1:2::{number}");
        assert_eq!(forwarded_send(&world, number, &address).await, "0");
    }
    assert_eq!(forwarded_send(&world, 29, "2001:db8:1:2:ffff::1").await, "4008");
    assert_eq!(forwarded_send(&world, 30, "2001:db8:1:3::1").await, "0");
}

/// Holds a connection open with this much of a request, and takes the time until it is closed.
async fn held(address: SocketAddr, part: String) -> Duration {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let began = Instant::now();
    stream.write_all(part.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "a slow connection is still open: {part}");
    began.elapsed()
}

/// The 99th percentile of 200 requests of all kinds.
async fn p99(world: &World, round: u32) -> Duration {
    let mut took = Vec::new();
    for number in 0..200 {
        let request = match number % 4 {
            0 => world.get(&format!("/image_codes/slow-{round}-{number}")),
            1 => world.post("sk_shop_secret", "/v1/challenges", &json!({})),
            2 => world.get("/health/ready"),
            _ => {
                let phone = mobile(SERIES, 1000 + round * 200 + number);
                world.post("sk_shop_secret", "/v1/verifications", &json!({"phone": phone}))
            }
        };
        let began = Instant::now();
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.bytes().await.unwrap();
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took[197]
}

#[tokio::test]
async fn slow_clients_do_not_slow_others_down() {
    let slow = times("SLOW", 300);
    let world = World::start(USUAL).await;
    let head = start_head("Content-Length: 100\r\n");
    let parts = [String::new(), head[..60].to_owned(), head + "{\"phone\":"];
    let mut connections = JoinSet::new();
    for number in 0..slow {
        connections.spawn(held(world.address, parts[number % 3].clone()));
        // No faster than the kernel's queue of new connections is emptied.
        if number % 50 == 49 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    // The tests beside this one use the same two cores: one of three rounds has to be quick.
    let mut best = Duration::MAX;
    for round in 0..3 {
        best = best.min(p99(&world, round).await);
        if best < Duration::from_millis(200) {
            break;
        }
    }
    assert!(best < Duration::from_millis(200), "p99 {best:?}");
    let longest = connections.join_all().await.into_iter().max().unwrap();
    println!(
        "{slow} slow connections: p99 of others {best:?}, the longest was open for {longest:?}"
    );
    assert!(longest < Duration::from_secs(12), "a slow connection was open for {longest:?}");
    // On a connection of its own: the client's may be closing just now.
    let ready = "GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&raw(world.address, ready.as_bytes())), 200);
}
