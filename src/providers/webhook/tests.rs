use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::providers::stub::{self, REFERENCE, Seen, TEXT, WALL, a_message, answer, pairs, vendor};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TAKEN: &str = r#"{"status":"accepted","id":"m-1"}"#;

fn settings(base_url: &str) -> Settings {
    Settings {
        name: "own".to_owned(),
        base_url: base_url.to_owned(),
        signing_secret: SECRET.into(),
        authorization: "".into(),
        format: Format::Json,
        body: Template::default(),
        deduplicates: false,
    }
}

fn provider(settings: Settings) -> Webhook {
    Webhook::new(settings, transport::client().unwrap(), Clock::manual(WALL))
}

fn make(base_url: &str, client: reqwest::Client) -> Arc<dyn Provider> {
    Arc::new(Webhook::new(settings(base_url), client, Clock::manual(WALL)))
}

fn template(text: &str) -> Template {
    toml::from_str(text).unwrap()
}

// --- requests ---------------------------------------------------------------------------------

#[test]
fn the_signature_is_that_of_standard_webhooks() {
    // The known answer of the specification's own libraries.
    let key = provider(settings("")).key;
    let signature =
        sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[tokio::test]
async fn a_message_goes_out_signed_with_all_that_is_known() {
    let (base_url, requests) = vendor(answer("200 OK", TAKEN.as_bytes())).await;
    let url = format!("{base_url}/sms/send");
    let settings = Settings { authorization: "Bearer abc".into(), ..settings(&url) };
    assert_eq!(provider(settings).send(&a_message()).await, Outcome::accepted("m-1"));
    let seen = Seen::only(&requests);
    assert_eq!(seen.line, "POST /sms/send HTTP/1.1");
    let expected = json!({
        "phone": "+8613800138000",
        "code": "004217",
        "minutes": "5",
        "text": TEXT,
        "reference": REFERENCE,
    });
    assert_eq!(serde_json::from_str::<Value>(&seen.body).unwrap(), expected);
    let key = provider(self::settings("")).key;
    let signature = sign(&key, REFERENCE, "1735749045", seen.body.as_bytes());
    for (header, value) in [
        ("content-type", "application/json"),
        ("authorization", "Bearer abc"),
        ("webhook-id", REFERENCE),
        ("webhook-timestamp", "1735749045"),
        ("webhook-signature", &signature),
    ] {
        assert_eq!(seen.header(header), value);
    }
}

#[test]
fn a_body_is_made_of_its_template_and_values_cannot_change_its_form() {
    let nested = template("to = [\"{phone}\"]\nn = 1\n[message]\ntext = '\"{text}\" {{{code}}}'\n");
    let mut message = a_message();
    message.text = "\",\"x\":\"{code}\\".to_owned();
    let body: Value = serde_json::from_str(&nested.json(&message)).unwrap();
    let text = "\"\",\"x\":\"{code}\\\" {004217}";
    let expected = json!({ "to": ["+8613800138000"], "n": 1, "message": { "text": text } });
    assert_eq!(body, expected);
    let form = template("To = \"{phone}\"\nBody = \"{text}\"\nn = 7\n").form(&message);
    let expected = [("Body", message.text.as_str()), ("To", "+8613800138000"), ("n", "7")];
    assert_eq!(pairs(&form), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn a_form_is_sent_as_one() {
    let (base_url, requests) = vendor(answer("200 OK", b"")).await;
    let settings = Settings { format: Format::Form, ..settings(&base_url) };
    assert!(settings.check().is_ok());
    assert_eq!(provider(settings).send(&a_message()).await, Outcome::accepted(REFERENCE));
    let seen = Seen::only(&requests);
    assert_eq!(seen.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(pairs(&seen.body).len(), 5);
}

// --- settings ---------------------------------------------------------------------------------

#[test]
fn settings_that_cannot_work_are_named_with_a_remedy() {
    let good = || settings("https://sms.example.com/send");
    assert!(good().check().is_ok());
    let nested = template("a = \"{phone} {code}\"\nb = [\"x\"]\n");
    let wrong = [
        ("base_url", settings("https://sms.example.com/send?x=1")),
        ("signing_secret", Settings { signing_secret: "".into(), ..good() }),
        ("signing_secret", Settings { signing_secret: "whsec_AAAA".into(), ..good() }),
        ("signing_secret", Settings { signing_secret: "whsec_%%%".into(), ..good() }),
        ("authorization", Settings { authorization: "a\nb".into(), ..good() }),
        ("body", Settings { body: template("a = \"{phone} {cod}\""), ..good() }),
        ("body", Settings { body: template("a = \"{phone} {code\""), ..good() }),
        ("body", Settings { body: template("a = \"{phone} {code}}\""), ..good() }),
        ("body", Settings { body: template("a = \"{phone}\""), ..good() }),
        ("body", Settings { body: template("a = \"{code}\""), ..good() }),
        ("body", Settings { body: template(""), ..good() }),
        ("body", Settings { body: nested, format: Format::Form, ..good() }),
    ];
    for (key, settings) in wrong {
        let Err(Misfit::Unfit(unfit)) = settings.check() else { panic!("{key}") };
        assert_eq!(unfit.iter().map(|unfit| unfit.key).collect::<Vec<_>>(), [key]);
        assert!(unfit[0].advice.len() > 40, "{key}");
    }
}

// --- answers ----------------------------------------------------------------------------------

#[test]
fn status_and_reply_decide_the_outcome() {
    let cases = [
        (200, "", Class::Accepted, "ok"),
        (202, "queued", Class::Accepted, "ok"),
        (204, "", Class::Accepted, "ok"),
        (200, "{}", Class::Accepted, "ok"),
        (200, TAKEN, Class::Accepted, "ok"),
        (200, r#"{"status":"duplicate"}"#, Class::Duplicate, "duplicate"),
        (200, r#"{"status":"invalid_number","code":"E17"}"#, Class::InvalidNumber, "E17"),
        (422, r#"{"status":"blocked_number"}"#, Class::BlockedNumber, "blocked_number"),
        (503, r#"{"status":"provider_error"}"#, Class::ProviderError, "provider_error"),
        (200, r#"{"status":"not_sent"}"#, Class::NotSent, "not_sent"),
        (200, r#"{"status":"unknown_outcome"}"#, Class::UnknownOutcome, "unknown_outcome"),
        (200, r#"{"status":"fine"}"#, Class::UnknownOutcome, "garbled"),
        (200, r#"{"status":"invalid_num"#, Class::UnknownOutcome, "garbled"),
        (
            200,
            r#"{"status":"invalid_number","code":"电 004217"}"#,
            Class::InvalidNumber,
            "invalid_number",
        ),
        (302, TAKEN, Class::UnknownOutcome, "http-302"),
        (400, "", Class::BadRequest, "http-400"),
        (401, "<html>", Class::AuthFailed, "http-401"),
        (402, "", Class::BalanceExhausted, "http-402"),
        (403, "", Class::AuthFailed, "http-403"),
        (404, "", Class::BadRequest, "http-404"),
        (408, "", Class::UnknownOutcome, "http-408"),
        (429, "", Class::RateLimitedAccount, "http-429"),
        (500, "", Class::UnknownOutcome, "http-500"),
        (502, "{", Class::UnknownOutcome, "http-502"),
    ];
    for (status, body, class, code) in cases {
        let outcome = read_answer(status, body.as_bytes(), REFERENCE);
        assert_eq!((outcome.class, outcome.vendor_code.as_str()), (class, code), "{status} {body}");
    }
    // Every class has a word, and every word is taken.
    let classes = [
        Class::Accepted,
        Class::Duplicate,
        Class::RateLimitedNumber,
        Class::InvalidNumber,
        Class::BlockedNumber,
        Class::UnsupportedDestination,
        Class::ContentRejected,
        Class::BadRequest,
        Class::QuotaExhausted,
        Class::TemplateRejected,
        Class::BalanceExhausted,
        Class::AuthFailed,
        Class::AccountDisabled,
        Class::RateLimitedAccount,
        Class::ProviderError,
        Class::NotSent,
        Class::UnknownOutcome,
    ];
    for class in classes {
        let reply = json!({ "status": class.as_str() }).to_string();
        assert_eq!(read_answer(400, reply.as_bytes(), REFERENCE).class, class);
    }
    for end in 1..TAKEN.len() {
        let outcome = read_answer(200, &TAKEN.as_bytes()[..end], REFERENCE);
        assert_eq!(outcome, unknown("garbled"), "{end}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let class = read_answer(500, &body, REFERENCE).class;
        prop_assert_eq!(class, Class::UnknownOutcome);
        prop_assert_eq!(read_pushed(&body), vec![]);
    }

    #[test]
    fn no_template_makes_the_filler_panic(text in "[a-z{}]{0,20}") {
        let mut table = toml::Table::new();
        table.insert("a".to_owned(), text.into());
        let template: Template = toml::Value::Table(table).try_into().unwrap();
        if template.is_known() {
            template.json(&a_message());
        }
    }
}

// --- receipts ---------------------------------------------------------------------------------

fn push(body: &str, seconds: Millis, key: &str) -> Option<Vec<Receipt>> {
    let signing = Settings { signing_secret: key.into(), ..settings("") };
    let signature = sign(&provider(signing).key, "r-1", &seconds.to_string(), body.as_bytes());
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", "r-1".parse().unwrap());
    headers.insert("webhook-timestamp", seconds.to_string().parse().unwrap());
    headers.insert("webhook-signature", format!("v1,AAAA {signature}").parse().unwrap());
    let pushed = Pushed { url: "", headers: &headers, body: body.as_bytes() };
    provider(settings("")).read_receipts(&pushed).map(|read| read.receipts)
}

#[test]
fn receipts_count_when_they_are_signed_and_fresh() {
    let now = WALL / SECOND;
    let receipt = |id: &str, arrived, code: &str| Receipt {
        about: REFERENCE.into(),
        message_id: id.to_owned(),
        arrived,
        vendor_code: code.to_owned(),
    };
    let one = json!({ "reference": REFERENCE, "status": "delivered", "id": "m-1" }).to_string();
    let expected = vec![receipt("m-1", true, "delivered")];
    for seconds in [now, now - 299, now + 299] {
        assert_eq!(push(&one, seconds, SECRET), Some(expected.clone()));
    }
    for seconds in [now - 301, now + 301, 0, Millis::MAX, Millis::MIN] {
        assert_eq!(push(&one, seconds, SECRET), None, "{seconds}");
    }
    let other = format!("whsec_{}", BASE64.encode([7; 32]));
    assert_eq!(push(&one, now, &other), None);
    let list = json!([
        { "reference": REFERENCE, "status": "failed", "code": "E17" },
        { "reference": REFERENCE, "status": "sent" },
        { "reference": "<x>", "status": "delivered" },
        { "status": "delivered" },
        null,
    ]);
    let expected = vec![receipt(REFERENCE, false, "E17")];
    assert_eq!(push(&list.to_string(), now, SECRET), Some(expected));
    let unsigned = Pushed { url: "", headers: &HeaderMap::new(), body: one.as_bytes() };
    assert_eq!(provider(settings("")).read_receipts(&unsigned), None);
}

// --- over the wire ----------------------------------------------------------------------------

#[tokio::test]
async fn somebody_is_there_or_not() {
    for (status, expected) in [
        ("200 OK", Ok(true)),
        ("404 Not Found", Ok(true)),
        ("405 Method Not Allowed", Ok(true)),
        ("503 Unavailable", Err(Outcome::of(Class::ProviderError, "http-503"))),
    ] {
        let (base_url, requests) = vendor(answer(status, b"")).await;
        assert_eq!(provider(settings(&base_url)).try_credentials().await, expected);
        assert!(Seen::only(&requests).line.starts_with("HEAD / "));
    }
}

#[tokio::test]
async fn whatever_goes_wrong_on_the_wire_has_its_outcome() {
    stub::assert_wire(&make, "200 OK", TAKEN, "m-1").await;
}

#[tokio::test]
async fn neither_secret_nor_code_is_ever_printed() {
    let quoting = r#"{"status":"auth_failed","code":"+8613800138000 004217"}"#;
    stub::assert_silent(&make, &[TAKEN, quoting], &[SECRET, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
        .await;
    let unfit = Settings { signing_secret: format!("{SECRET} ").into(), ..settings("") };
    let printed = format!("{unfit:?} {:?}", unfit.check().unwrap_err());
    assert!(!printed.contains(SECRET), "{printed}");
}
