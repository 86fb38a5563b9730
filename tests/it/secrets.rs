//! No phone, code, answer, key or token is found in clear where others may read: the log at its
//! wordiest, the store, the metrics, and the answers that say no.

use std::cell::RefCell;
use std::fmt::Write;

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::world::{USUAL, World, body, mobile};

const SERIES: u32 = 310;

/// What a server was told and has said, over one test.
struct Visit {
    world: World,
    /// What must not be found, with its kind.
    canaries: RefCell<Vec<(&'static str, String)>>,
    /// What the server answered where it said no, headers included.
    refusals: RefCell<String>,
}

impl Visit {
    async fn start(format: &str) -> Self {
        // Codes of ten digits: six of them may stand in any time of day.
        let config = format!(
            "{USUAL}\n[code]\ndigits = 10\n[log]\nformat = \"{format}\"\nfilter = \"trace\"\n"
        );
        let world = World::start(&config).await;
        let keys = ["sk_shop_secret", "pk_shop_public", "sk_bank_secret"];
        let canaries = keys.map(|key| ("key", key.to_owned())).to_vec();
        Self { world, canaries: RefCell::new(canaries), refusals: RefCell::default() }
    }

    /// Remembers something that must not be found.
    fn secret(&self, kind: &'static str, text: &str) {
        self.canaries.borrow_mut().push((kind, text.to_owned()));
    }

    /// A phone that must not be found, in any of its spellings.
    fn phone(&self, number: u32) -> String {
        let phone = mobile(SERIES, number);
        let (first, second, third) = (&phone[..3], &phone[3..7], &phone[7..]);
        self.secret("phone", &phone);
        self.secret("phone", &format!("{first} {second} {third}"));
        self.secret("phone", &format!("{first}-{second}-{third}"));
        phone
    }

    /// Sends a request; what says no is kept.
    async fn say(&self, request: RequestBuilder) -> Value {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), format!("{:?}", answer.headers()));
        let text = answer.text().await.unwrap();
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if !status.is_success() || value["errmsg"].is_string() && value["code"] != "0" {
            writeln!(self.refusals.borrow_mut(), "{status} {headers} {text}").unwrap();
        }
        if let Some(token) = value["token"].as_str() {
            self.secret("token", token);
            self.secret("token", token.split('.').nth(1).unwrap());
            self.secret("token", token.split('.').nth(2).unwrap());
        }
        value
    }

    async fn post(&self, path: &str, sent: &Value) -> Value {
        self.say(self.world.post("sk_shop_secret", path, sent)).await
    }

    /// The code that a phone got.
    async fn code(&self, phone: &str) -> String {
        let code = self.world.code(&format!("+86{phone}")).await;
        self.secret("code", &code);
        code
    }

    /// The answer to one of the seed's pictures.
    async fn answer(&self, name: &str) -> String {
        let answer = self.world.image_answer(name).await;
        self.secret("answer", &answer);
        answer
    }

    /// A code that is not this one.
    fn other(&self, code: &str) -> String {
        let next = |digit: u8| char::from(b'0' + (digit - b'0' + 1) % 10);
        let other: String = code.bytes().map(next).collect();
        self.secret("code", &other);
        other
    }

    /// Looks for everything in this text, and tells where it was found.
    fn look(&self, place: &str, text: &[u8], found: &mut Vec<String>) {
        for (kind, canary) in self.canaries.borrow().iter() {
            for start in finds(text, canary.as_bytes()) {
                let around =
                    &text[start.saturating_sub(120)..text.len().min(start + canary.len() + 60)];
                let word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
                let within =
                    start > 0 && word(text.get(start - 1)) || word(text.get(start + canary.len()));
                // An answer has a few letters: inside of another word it is chance.
                if *kind != "answer" || !within {
                    found.push(format!(
                        "{kind} {canary} in {place}: {}",
                        String::from_utf8_lossy(around)
                    ));
                    break;
                }
            }
        }
    }
}

/// Where a text is found.
fn finds<'a>(text: &'a [u8], part: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    text.windows(part.len())
        .enumerate()
        .filter(move |(_, window)| *window == part)
        .map(|(at, _)| at)
}

/// A whole life at the native door, with everything that can be refused on the way.
async fn native(visit: &Visit) {
    let phone = visit.phone(1);
    let key = format!("login-{phone}");
    let start = json!({"phone": format!("+86 {phone}"), "locale": "en"});
    let request = || visit.world.post("sk_shop_secret", "/v1/verifications", &start);
    let started = visit.say(request().header("Idempotency-Key", &key)).await;
    assert_eq!(started["status"], "pending", "{started}");
    visit.say(request().header("Idempotency-Key", &key)).await;
    let mismatch =
        visit.world.post("sk_shop_secret", "/v1/verifications", &json!({"phone": visit.phone(2)}));
    visit.say(mismatch.header("Idempotency-Key", &key)).await;
    visit.say(request()).await;
    let path = format!("/v1/verifications/{}", started["id"].as_str().unwrap());
    visit.post(&format!("{path}/resend"), &json!({})).await;
    let code = visit.code(&phone).await;
    visit.post(&format!("{path}/check"), &json!({"code": visit.other(&code)})).await;
    visit.post(&format!("{path}/check"), &json!({"code": format!("{code}x"), "code2": code})).await;
    let approved = visit.post(&format!("{path}/check"), &json!({"code": code})).await;
    assert!(approved["token"].is_string(), "{approved}");
    visit.post(&format!("{path}/check"), &json!({"code": code})).await;
    visit.say(visit.world.get(&path).bearer_auth("sk_shop_secret")).await;
    visit.say(visit.world.get(&format!("{path}/timeline")).bearer_auth("sk_shop_secret")).await;
    visit.say(visit.world.get(&format!("{path}/timeline")).bearer_auth("pk_shop_public")).await;

    // A browser's way, with a wrong answer first.
    for number in [3, 4] {
        let phone = visit.phone(number);
        let minted =
            visit.say(visit.world.post("pk_shop_public", "/v1/challenges", &json!({}))).await;
        let id = minted["id"].as_str().unwrap();
        let answer =
            body(visit.world.get(&format!("/dev/challenges/{id}")).send().await.unwrap()).await;
        let answer = answer["answer"].as_str().unwrap();
        visit.secret("answer", answer);
        let given = if number == 3 { format!("{answer}A") } else { answer.to_owned() };
        let sent = json!({"phone": phone, "challenge": {"id": id, "answer": given}});
        let started =
            visit.say(visit.world.post("pk_shop_public", "/v1/verifications", &sent)).await;
        assert_eq!(started["id"].is_string(), number == 4, "{started}");
        if number == 4 {
            let path = format!("/v1/verifications/{}", started["id"].as_str().unwrap());
            visit.code(&phone).await;
            visit
                .say(
                    visit.world.client.delete(visit.world.url(&path)).bearer_auth("pk_shop_public"),
                )
                .await;
        }
    }
}

/// A whole life at the seed's door.
async fn seed(visit: &Visit) {
    let phone = visit.phone(5);
    let wrong = format!("/sms_codes/{phone}/?image_code_id=one&image_code=WRONG");
    visit.answer("one").await;
    visit.say(visit.world.get(&wrong)).await;
    let right =
        format!("/sms_codes/{phone}/?image_code_id=two&image_code={}", visit.answer("two").await);
    let sent = visit.say(visit.world.get(&right)).await;
    assert_eq!(sent["code"], "0", "{sent}");
    visit.say(visit.world.get(&right)).await;
    visit.say(visit.world.client.head(visit.world.url(&right))).await;
    let code = visit.code(&phone).await;
    let login = |code: &str| {
        let form = [("mobile", phone.as_str()), ("sms_code", code)];
        visit.world.client.post(visit.world.url("/sms_login/")).form(&form)
    };
    visit.say(login(&visit.other(&code))).await;
    let approved = visit.say(login(&code)).await;
    assert!(approved["token"].is_string(), "{approved}");
    visit.say(login(&code)).await;
}

/// Secrets where none belong.
async fn misplaced(visit: &Visit) {
    let (phone, key) = (visit.phone(6), "sk_test_mistyped0123456789");
    visit.secret("key", key);
    visit.say(visit.world.post(key, "/v1/verifications", &json!({"phone": phone}))).await;
    for sent in [
        json!({"phone": format!("{phone}x")}),
        json!({"phone": phone, phone.as_str(): 1}),
        json!({"phone": phone, "purpose": format!("to {phone}")}),
        json!({"phone": [phone]}),
        json!({"phone": {phone.as_str(): phone}}),
        json!({"phone": phone, "challenge": {phone.as_str(): 1}}),
        json!({"phone": phone, "challenge": {"id": phone, "answer": phone}}),
        json!(phone),
    ] {
        visit.post("/v1/verifications", &sent).await;
    }
    for path in [
        "/{}",
        "/v1/{}",
        "/v1/verifications/{}",
        "/sms_codes/{}x/",
        "/image_codes/{}.x",
        "/problems/{}",
        "/?phone={}",
    ] {
        let path = path.replace("{}", &phone);
        visit
            .say(visit.world.get(&path).bearer_auth("sk_shop_secret").header("User-Agent", &phone))
            .await;
        visit
            .say(
                visit
                    .world
                    .client
                    .post(visit.world.url(&path))
                    .body(format!("{{\"phone\":\"{phone}")),
            )
            .await;
    }
    let headers = [
        "X-Request-Id",
        "X-Forwarded-For",
        "Origin",
        "Accept-Language",
        "Idempotency-Key",
        "Cookie",
    ];
    for name in headers.into_iter().skip(1) {
        let request =
            visit.world.post("pk_shop_public", "/v1/verifications", &json!({"phone": phone}));
        visit.say(request.header(name, &phone)).await;
    }
    let receipt = visit.world.client.post(visit.world.url("/receipts/sim/x"));
    visit.say(receipt.body(phone)).await;
}

async fn nothing_is_found(format: &str) {
    let mut visit = Visit::start(format).await;
    native(&visit).await;
    seed(&visit).await;
    misplaced(&visit).await;
    let metrics = visit.world.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("countersign_checks_total"), "{metrics}");
    // Twice: as the writer leaves it in the midst of work, and after the end.
    let mut found = Vec::new();
    for when in ["running", "ended"] {
        for file in std::fs::read_dir(visit.world.folder.path()).unwrap() {
            let path = file.unwrap().path();
            let place = format!("{} ({when})", path.file_name().unwrap().to_string_lossy());
            if path != visit.world.config_path() {
                visit.look(&place, &std::fs::read(&path).unwrap(), &mut found);
            }
        }
        if when == "running" {
            visit.world.signal("TERM");
            visit.world.wait();
        }
    }
    visit.look("metrics", metrics.as_bytes(), &mut found);
    let refusals = visit.refusals.borrow().clone();
    assert!(refusals.lines().count() > 30, "{refusals}");
    visit.look("a refusal", refusals.as_bytes(), &mut found);
    assert!(found.is_empty(), "{} finds:\n{}", found.len(), found.join("\n\n"));
    let log = visit.world.log();
    assert!(log.contains("answered"), "{log}");
    println!("{} canaries, {} bytes of log, none found", visit.canaries.borrow().len(), log.len());
}

#[tokio::test]
async fn no_secret_is_found_with_a_log_for_people() {
    nothing_is_found("text").await;
}

#[tokio::test]
async fn no_secret_is_found_with_a_log_for_machines() {
    nothing_is_found("json").await;
}

#[test]
fn the_search_finds_what_is_there() {
    assert_eq!(finds(b"xxabxab", b"ab").collect::<Vec<_>>(), [2, 5]);
    assert_eq!(finds(b"a", b"ab").count(), 0);
}
