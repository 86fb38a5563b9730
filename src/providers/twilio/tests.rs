use proptest::prelude::*;
use reqwest::header::HeaderMap;
use serde_json::json;

use super::*;
use crate::providers::codes::assert_is_the_map;
use crate::providers::stub::{
    self, REFERENCE as OURS, Seen, TEXT, WALL, a_message, answer, cases, message, name, pairs,
    vendor,
};

const TOKEN: &str = "fake0auth0token00000000000000001";
const SID: &str = "SM00000000000000000000000000000001";
const TAKEN: &str =
    r#"{"sid":"SM00000000000000000000000000000001","status":"queued","error_code":null}"#;
const VECTORS: &str = include_str!("../../../tests/vectors/twilio.json");
const RESPONSES: &str = include_str!("../../../tests/vectors/responses_twilio.json");
const MAP: &str = include_str!("../../../tests/vectors/error_map_twilio.json");
const CALLBACK: &str = "https://otp.example.com/receipts/tw/abc";

fn settings(base_url: &str) -> Settings {
    Settings {
        name: "tw".to_owned(),
        base_url: base_url.to_owned(),
        account_sid: "AC00000000000000000000000000000001".to_owned(),
        auth_token: TOKEN.into(),
        api_key_sid: String::new(),
        api_key_secret: "".into(),
        shared_key: "".into(),
        from: "+15005550006".to_owned(),
        messaging_service_sid: String::new(),
        verify_service_sid: String::new(),
    }
}

fn verifying(base_url: &str) -> Settings {
    Settings {
        from: String::new(),
        verify_service_sid: "VA00000000000000000000000000000001".to_owned(),
        ..settings(base_url)
    }
}

fn with(settings: Settings, callback: Option<&str>) -> Twilio {
    let client = transport::client().unwrap();
    Twilio::new(settings, client, callback.map(str::to_owned))
}

fn make(base_url: &str, client: reqwest::Client) -> Arc<dyn Provider> {
    Arc::new(Twilio::new(settings(base_url), client, None))
}

// --- requests ---------------------------------------------------------------------------------

/// What we do not send, and why.
const NOT_SENT: [(&str, &str); 7] = [
    ("message_three_numbers", "one number per request"),
    ("verify_start_sms", "the code is ours"),
    ("verify_start_call_zh", "voice"),
    ("verify_check_approved", "we check ourselves"),
    ("verify_check_wrong", "we check ourselves"),
    ("verify_report_approved", "a provider does not learn what became of a code"),
    ("message_fetch", "checked by itself"),
];

#[tokio::test]
async fn every_vector_that_we_can_send_is_what_reaches_the_vendor() {
    let mut sent = Vec::new();
    for case in &cases(VECTORS) {
        if NOT_SENT.iter().any(|(it, _)| *it == name(case)) {
            continue;
        }
        let (base_url, requests) = vendor(answer("201 Created", TAKEN.as_bytes())).await;
        let text = |name: &str| case["inputs"][name].as_str().unwrap_or_default();
        let verify = !text("service_sid").is_empty();
        let mut settings = if verify { verifying(&base_url) } else { settings(&base_url) };
        if text("username").starts_with("SK") {
            settings.api_key_sid = text("username").to_owned();
            settings.api_key_secret = text("password").into();
        }
        assert!(settings.check().is_ok(), "{}", name(case));
        let code = if verify { text("custom_code") } else { "482913" };
        let mut message = message(text("to"), code, 5, OURS);
        text("body").clone_into(&mut message.text);
        assert_eq!(with(settings, None).send(&message).await, Outcome::accepted(SID));
        let seen = Seen::only(&requests);
        let request = &case["request"];
        let path = request["path"].as_str().unwrap();
        assert_eq!(seen.line, format!("POST {path} HTTP/1.1"), "{}", name(case));
        for header in ["Authorization", "Accept", "Content-Type"] {
            let theirs = request["headers"][header].as_str().unwrap();
            assert_eq!(seen.header(&header.to_lowercase()), theirs, "{}", name(case));
        }
        let mut ours = pairs(&seen.body);
        ours.retain(|(name, value)| {
            assert!(name != "ValidityPeriod" || value == "300");
            name != "ValidityPeriod" // ours alone: a late code is no good
        });
        let mut theirs = pairs(request["body"].as_str().unwrap());
        theirs.retain(|(name, _)| name != "CustomFriendlyName"); // the service has its own
        assert_eq!(ours, theirs, "{}", name(case));
        sent.push(name(case).to_owned());
    }
    let expected =
        ["message_ascii", "message_chinese", "message_api_key_auth", "verify_start_custom_code"];
    assert_eq!(sent, expected);
    assert_eq!(sent.len() + NOT_SENT.len(), cases(VECTORS).len());
}

#[test]
fn a_message_says_where_its_receipts_go_and_a_service_may_send_it() {
    let service = "MG00000000000000000000000000000001";
    let settings =
        Settings { from: String::new(), messaging_service_sid: service.to_owned(), ..settings("") };
    assert!(settings.check().is_ok());
    let (_, form) = with(settings, Some(CALLBACK)).form(&a_message());
    let callback = format!("{CALLBACK}?reference={OURS}");
    let expected = [
        ("Body", TEXT),
        ("MessagingServiceSid", service),
        ("StatusCallback", &callback),
        ("To", "+8613800138000"),
        ("ValidityPeriod", "300"),
    ];
    assert_eq!(pairs(&form), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

// --- settings ---------------------------------------------------------------------------------

#[test]
fn settings_that_cannot_work_are_named_with_a_remedy() {
    let good = || settings("");
    assert!(good().check().is_ok() && verifying("").check().is_ok());
    assert_eq!((good().base_url(), verifying("").base_url()), (BASE_URL, VERIFY_URL));
    let both = Settings { from: "x".into(), ..verifying("") };
    let wrong = [
        ("base_url", settings("api.twilio.com")),
        ("account_sid", Settings { account_sid: "AC1".into(), ..good() }),
        ("auth_token", Settings { auth_token: "".into(), ..good() }),
        (
            "api_key_sid",
            Settings { api_key_sid: "SK1".into(), api_key_secret: "x".into(), ..good() },
        ),
        ("api_key_secret", Settings { api_key_secret: "x".into(), ..good() }),
        ("shared_key", Settings { shared_key: "a b".into(), ..good() }),
        ("from", Settings { from: String::new(), ..good() }),
        ("from", both),
        ("from", Settings { from: "é".into(), ..good() }),
        ("verify_service_sid", Settings { verify_service_sid: "VA1".into(), ..verifying("") }),
        (
            "messaging_service_sid",
            Settings { from: String::new(), messaging_service_sid: "MG1".into(), ..good() },
        ),
    ];
    for (key, settings) in wrong {
        let Err(Misfit::Unfit(unfit)) = settings.check() else { panic!("{key}") };
        assert_eq!(unfit.iter().map(|unfit| unfit.key).collect::<Vec<_>>(), [key]);
        assert!(unfit[0].advice.len() > 40, "{key}");
    }
}

// --- answers ----------------------------------------------------------------------------------

#[test]
fn every_recorded_answer_has_its_class() {
    let recorded: Value = serde_json::from_str(RESPONSES).unwrap();
    let answers = recorded["answers"].as_object().unwrap();
    assert_eq!(answers.len(), 16);
    for (name, answer) in answers {
        let status = u16::try_from(answer["http_status"].as_u64().unwrap()).unwrap();
        let outcome = read_answer(status, answer["body"].as_str().unwrap().as_bytes());
        assert_eq!(outcome.class.as_str(), answer["expected_class"], "{name}");
        if name == "success" {
            assert_eq!(outcome, Outcome::accepted(SID));
        } else {
            assert_eq!(outcome.vendor_code, answer["code"], "{name}");
        }
    }
}

#[test]
fn every_code_of_the_map_has_its_class_wherever_it_stands() {
    assert_is_the_map(errors::TABLE, MAP, 69);
    for entry in errors::TABLE {
        let number: u32 = entry.first.parse().unwrap();
        for status in [400, 401, 403, 404, 429, 500, 503] {
            for code in [json!(number), json!(entry.first)] {
                let body = json!({ "code": code, "message": "13800138000" }).to_string();
                let outcome = read_answer(status, body.as_bytes());
                assert_eq!(outcome, Outcome::of(entry.class, entry.first));
            }
        }
        let created = json!({ "sid": SID, "status": "failed", "error_code": number }).to_string();
        let outcome = read_answer(201, created.as_bytes());
        assert_eq!(outcome, Outcome::of(entry.class, entry.first));
        assert!(explain(entry.first).unwrap().contains(entry.meaning));
    }
}

#[test]
fn without_a_known_code_the_status_tells() {
    for (status, body, class, code) in [
        (400, r#"{"code":29999}"#, Class::BadRequest, "29999"),
        (401, r#"{"code":29999}"#, Class::AuthFailed, "29999"),
        (401, "", Class::AuthFailed, "http-401"),
        (402, "<html>", Class::BalanceExhausted, "http-402"),
        (403, "{}", Class::AuthFailed, "http-403"),
        (404, r#"{"code":"13800138000"}"#, Class::BadRequest, "http-404"),
        (408, "", Class::UnknownOutcome, "http-408"),
        (429, "[]", Class::RateLimitedAccount, "http-429"),
        (500, r#"{"code":29999}"#, Class::UnknownOutcome, "29999"),
        (502, "<html>", Class::UnknownOutcome, "http-502"),
        (302, TAKEN, Class::UnknownOutcome, "http-302"),
        (302, r#"{"code":21211}"#, Class::UnknownOutcome, "http-302"),
        (204, "", Class::UnknownOutcome, "http-204"),
        (200, "<html>", Class::UnknownOutcome, "no-message-id"),
        (201, "", Class::UnknownOutcome, "no-message-id"),
        (201, r#"{"sid":""}"#, Class::UnknownOutcome, "no-message-id"),
        (201, r#"{"sid":"<b>"}"#, Class::UnknownOutcome, "no-message-id"),
        (201, r#"{"sid":"SM1","error_code":29999}"#, Class::ProviderError, "29999"),
    ] {
        let outcome = read_answer(status, body.as_bytes());
        assert_eq!(outcome, Outcome::of(class, code), "{status} {body}");
    }
    for end in 0..TAKEN.len() {
        let outcome = read_answer(201, &TAKEN.as_bytes()[..end]);
        assert_eq!(outcome.class, Class::UnknownOutcome, "{end}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(read_answer(201, &body).class, Class::UnknownOutcome);
        let headers = HeaderMap::new();
        let pushed = Pushed { url: CALLBACK, headers: &headers, body: &body };
        prop_assert_eq!(read_pushed(&pushed), None);
    }
}

// --- receipts ---------------------------------------------------------------------------------

/// A push with the signature that the vendor would make.
fn push(url: &str, body: &str, token: &str) -> Option<Receipts> {
    use aws_lc_rs::hmac;
    use base64::Engine;
    let mut text = url.to_owned();
    for (name, value) in pairs(body) {
        text.push_str(&name);
        text.push_str(&value);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    let signature = hmac::sign(&key, text.as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(signature);
    let mut headers = HeaderMap::new();
    headers.insert("x-twilio-signature", signature.parse().unwrap());
    headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    let pushed = Pushed { url, headers: &headers, body: body.as_bytes() };
    with(settings(""), Some(CALLBACK)).read_receipts(&pushed)
}

#[test]
fn a_signed_push_says_whether_the_message_arrived() {
    let recorded: Value = serde_json::from_str(RESPONSES).unwrap();
    let url = format!("{CALLBACK}?reference={OURS}");
    let delivered = recorded["receipts"]["body"].as_str().unwrap();
    let failed = recorded["receipts"]["failed_example"]["body"].as_str().unwrap();
    for (body, arrived, code) in [(delivered, true, "delivered"), (failed, false, "30003")] {
        let receipt = Receipt {
            about: OURS.into(),
            message_id: SID.to_owned(),
            arrived,
            vendor_code: code.to_owned(),
        };
        assert_eq!(push(&url, body, TOKEN).unwrap().receipts, [receipt]);
        assert_eq!(push(&url, body, "another"), None, "forged");
    }
    for state in ["queued", "sending", "sent", "accepted", "something new"] {
        let body = delivered.replace("MessageStatus=delivered", &format!("MessageStatus={state}"));
        assert_eq!(push(&url, &body, TOKEN).unwrap().receipts, [], "{state}");
    }
    for url in [CALLBACK.to_owned(), format!("{CALLBACK}?reference=%3Cx%3E")] {
        assert_eq!(push(&url, delivered, TOKEN).unwrap().receipts, [], "no reference of ours");
    }
}

#[test]
fn the_vectors_of_the_vendor_are_taken_and_unsigned_ones_refused() {
    let recorded: Value = serde_json::from_str(RESPONSES).unwrap();
    let receipts = &recorded["receipts"];
    let mut headers = HeaderMap::new();
    let body = receipts["body"].as_str().unwrap().as_bytes();
    let url = receipts["url"].as_str().unwrap();
    let provider = with(settings(""), Some(CALLBACK));
    assert_eq!(provider.read_receipts(&Pushed { url, headers: &headers, body }), None);
    let signature = receipts["headers"]["X-Twilio-Signature"].as_str().unwrap();
    headers.insert("x-twilio-signature", signature.parse().unwrap());
    let read = provider.read_receipts(&Pushed { url, headers: &headers, body });
    assert_eq!(read.map(|read| read.receipts), Some(vec![]), "good, without our reference");
}

fn sent(message_id: Option<&str>) -> Sent {
    let Message { phone, text, reference, .. } = a_message();
    let message_id = message_id.map(str::to_owned);
    Sent { reference, phone, message_id, text: Some(text), wall: WALL }
}

#[tokio::test]
async fn where_nobody_can_push_the_vendor_is_asked() {
    for (state, code, expected) in [
        ("delivered", json!(null), Some((true, "delivered"))),
        ("undelivered", json!(30003), Some((false, "30003"))),
        ("sent", json!(null), None),
    ] {
        let body = json!({ "sid": SID, "status": state, "error_code": code, "body": "004217" });
        let (base_url, asked) = vendor(answer("200 OK", body.to_string().as_bytes())).await;
        let asking = with(settings(&base_url), None);
        let (about, message_id) = (OURS.into(), SID.to_owned());
        let expected = match expected {
            Some((arrived, code)) => {
                let vendor_code = code.to_owned();
                Found::Settled(Receipt { about, message_id, arrived, vendor_code })
            }
            None => Found::Taken { message_id },
        };
        assert_eq!(asking.look_up(&sent(Some(SID))).await, Ok(expected), "{state}");
        let cases = cases(VECTORS);
        let case = cases.iter().find(|case| name(case) == "message_fetch").unwrap();
        let (asked, path) = (Seen::only(&asked), case["request"]["path"].as_str().unwrap());
        assert_eq!(asked.line, format!("GET {path} HTTP/1.1"));
        assert_eq!(asked.header("authorization"), case["request"]["headers"]["Authorization"]);
    }
    let looks_up = |settings, callback| with(settings, callback).looks_up();
    assert_eq!(looks_up(settings(""), None), LooksUp::All);
    assert_eq!(
        looks_up(settings(""), Some(CALLBACK)),
        LooksUp::Unknown,
        "who is told does not ask"
    );
    assert_eq!(looks_up(verifying(""), None), LooksUp::Nothing);
}

#[tokio::test]
async fn a_message_without_an_answer_is_found_by_number_text_and_time() {
    let entry = |to: &str, body: &str, date_created: &str, status: &str| -> Value {
        let named = json!({ "to": to, "body": body, "date_created": date_created });
        let mut entry = json!({ "sid": SID, "status": status });
        entry.as_object_mut().unwrap().extend(named.as_object().unwrap().clone());
        entry
    };
    let (to, now) = ("+8613800138000", "Wed, 01 Jan 2025 16:30:40 +0000");
    for (list, found) in [
        (json!([entry(to, TEXT, now, "queued")]), true),
        (json!([entry(to, "another code", now, "queued"), entry(to, TEXT, now, "sent")]), true),
        (json!([entry(to, "another code", now, "queued")]), false),
        (json!([entry("+8613800138001", TEXT, now, "queued")]), false),
        (json!([entry(to, TEXT, "Wed, 01 Jan 2025 16:20:40 +0000", "sent")]), false),
        (json!([entry(to, TEXT, "yesterday", "sent")]), false),
        (json!([{ "body": TEXT, "to": to }, null, []]), false),
        (json!([]), false),
    ] {
        let body = json!({ "messages": list }).to_string();
        let (base_url, asked) = vendor(answer("200 OK", body.as_bytes())).await;
        let provider = with(settings(&base_url), Some(CALLBACK));
        let expected = if found { Found::Taken { message_id: SID.into() } } else { Found::Nothing };
        assert_eq!(provider.look_up(&sent(None)).await, Ok(expected), "{body}");
        let line = Seen::only(&asked).line;
        assert!(line.ends_with("Messages.json?To=%2B8613800138000&PageSize=20 HTTP/1.1"), "{line}");
    }
    for (status, body, class) in [
        ("401 Unauthorized", r#"{"code":20003}"#, Class::AuthFailed),
        ("500 Server Error", "", Class::ProviderError),
        ("302 Found", "", Class::ProviderError),
    ] {
        let (base_url, _) = vendor(answer(status, body.as_bytes())).await;
        let asked = with(settings(&base_url), None).look_up(&sent(None)).await;
        assert_eq!(asked.unwrap_err().class, class, "{status}");
    }
}

#[tokio::test]
async fn credentials_are_tried_without_sending() {
    for (status, body, expected) in [
        ("200 OK", "{}", Ok(true)),
        ("401 Unauthorized", r#"{"code":20003}"#, Err(Outcome::of(Class::AuthFailed, "20003"))),
        ("404 Not Found", r#"{"code":20404}"#, Err(Outcome::of(Class::BadRequest, "20404"))),
        ("502 Bad Gateway", "", Err(Outcome::of(Class::ProviderError, "http-502"))),
    ] {
        for settings in [settings as fn(&str) -> Settings, verifying] {
            let (base_url, requests) = vendor(answer(status, body.as_bytes())).await;
            assert_eq!(with(settings(&base_url), None).try_credentials().await, expected);
            assert!(Seen::only(&requests).line.starts_with("GET /"));
        }
    }
}

// --- over the wire ----------------------------------------------------------------------------

#[tokio::test]
async fn whatever_goes_wrong_on_the_wire_has_its_outcome() {
    stub::assert_wire(&make, "201 Created", TAKEN, SID).await;
}

#[tokio::test]
async fn neither_token_nor_code_is_ever_printed() {
    let quoting = format!(r#"{{"sid":"{TOKEN} 004217","error_code":"13800138000"}}"#);
    stub::assert_silent(&make, &[TAKEN, &quoting], &[TOKEN, "Basic QUMw"]).await;
    let unfit = Settings { auth_token: format!("{TOKEN} ").into(), ..settings("") };
    let printed = format!("{unfit:?} {:?}", unfit.check().unwrap_err());
    assert!(!printed.contains(TOKEN), "{printed}");
}
