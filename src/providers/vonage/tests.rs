use proptest::prelude::*;
use reqwest::header::HeaderMap;
use serde_json::json;

use super::*;
use crate::providers::stub::{
    self, REFERENCE, Seen, a_message, answer, cases, message, name, pairs, vendor,
};

const SECRET: &str = "FakeSecret000001";
const ID: &str = "0A0000000123ABCD1";
const TAKEN: &str = r#"{"message-count":"1","messages":[{"to":"15558675310",
    "message-id":"0A0000000123ABCD1","status":"0","network":"12345"}]}"#;
const VECTORS: &str = include_str!("../../../tests/vectors/vonage.json");

fn settings(base_url: &str) -> Settings {
    Settings {
        name: "vo".to_owned(),
        base_url: base_url.to_owned(),
        api_key: "abcd1234".to_owned(),
        api_secret: SECRET.into(),
        signature_secret: "".into(),
        from: "AcmeInc".to_owned(),
    }
}

fn with(settings: Settings, callback: Option<&str>) -> Vonage {
    Vonage::new(settings, transport::client().unwrap(), callback.map(str::to_owned))
}

fn make(base_url: &str, client: reqwest::Client) -> Arc<dyn Provider> {
    Arc::new(Vonage::new(settings(base_url), client, None))
}

// --- requests ---------------------------------------------------------------------------------

/// What we do not send, and why.
const NOT_SENT: [(&str, &str); 3] = [
    ("signed_hmac_md5_odd", "HTTP Basic instead of a signature"),
    ("signed_hmac_sha256_odd", "HTTP Basic instead of a signature"),
    ("error_throttled", "the same request, for its answer"),
];

#[tokio::test]
async fn every_vector_that_we_can_send_is_what_reaches_the_vendor() {
    let mut sent = Vec::new();
    for case in &cases(VECTORS) {
        if NOT_SENT.iter().any(|(it, _)| *it == name(case)) {
            continue;
        }
        let theirs = case["response_fed"].as_str().unwrap();
        let (base_url, requests) = vendor(answer("200 OK", theirs.as_bytes())).await;
        let to = format!("+{}", case["inputs"]["to"].as_str().unwrap());
        let mut message = message(&to, "482913", 5, REFERENCE);
        case["inputs"]["text"].as_str().unwrap().clone_into(&mut message.text);
        let outcome = with(settings(&base_url), None).send(&message).await;
        assert_eq!(outcome, Outcome::accepted(ID), "{}", name(case));
        let (seen, request) = (Seen::only(&requests), &case["request"]);
        assert_eq!(seen.line, format!("POST {} HTTP/1.1", request["path"].as_str().unwrap()));
        for header in ["Authorization", "Accept", "Content-Type"] {
            let theirs = request["headers"][header].as_str().unwrap();
            assert_eq!(seen.header(&header.to_lowercase()), theirs, "{}", name(case));
        }
        let mut expected = pairs(request["body"].as_str().unwrap());
        expected.push(("client-ref".to_owned(), REFERENCE.to_owned()));
        expected.sort();
        assert_eq!(pairs(&seen.body), expected, "{}", name(case));
        sent.push(name(case).to_owned());
    }
    assert_eq!(sent, ["basic_ascii", "basic_chinese", "basic_odd"]);
    assert_eq!(sent.len() + NOT_SENT.len(), cases(VECTORS).len());
}

#[test]
fn a_message_says_where_its_receipts_go() {
    let form = with(settings(BASE_URL), Some("https://otp.example.com/r/x")).form(&a_message());
    let callback = ("callback".to_owned(), "https://otp.example.com/r/x".to_owned());
    assert!(pairs(&form).contains(&callback));
}

#[test]
fn the_signature_is_the_documented_one_and_not_the_clients() {
    let cases = cases(VECTORS);
    let case = cases.iter().find(|case| name(case) == "signed_hmac_sha256_odd").unwrap();
    let fields: Fields = pairs(case["request"]["body"].as_str().unwrap()).into_iter().collect();
    let ours = signature(case["inputs"]["signature_secret"].as_str().unwrap(), &fields);
    assert_eq!(ours, case["signing"]["documented_signature"]);
    assert_ne!(ours, case["signing"]["sdk_signature_sent"]);
}

// --- settings ---------------------------------------------------------------------------------

#[test]
fn settings_that_cannot_work_are_named_with_a_remedy() {
    let good = || settings(BASE_URL);
    assert!(good().check().is_ok());
    for (key, settings) in [
        ("base_url", settings("rest.nexmo.com")),
        ("api_key", Settings { api_key: String::new(), ..good() }),
        ("api_secret", Settings { api_secret: "a b".into(), ..good() }),
        ("signature_secret", Settings { signature_secret: "a b".into(), ..good() }),
        ("from", Settings { from: String::new(), ..good() }),
    ] {
        let Err(Misfit::Unfit(unfit)) = settings.check() else { panic!("{key}") };
        assert_eq!(unfit.iter().map(|unfit| unfit.key).collect::<Vec<_>>(), [key]);
        assert!(unfit[0].advice.len() > 40, "{key}");
    }
}

// --- answers ----------------------------------------------------------------------------------

#[test]
fn every_status_has_its_class_as_text_and_as_number() {
    for pair in TABLE.windows(2) {
        assert!(pair[0].last < pair[1].first, "{pair:?}");
    }
    assert_eq!(TABLE.len(), 20);
    for entry in TABLE.iter().filter(|entry| entry.first != SUCCESS) {
        let number: u32 = entry.first.parse().unwrap();
        for status in [json!(entry.first), json!(number)] {
            let body = json!({ "messages": [{ "status": status, "error-text": "13800138000" }] });
            let outcome = read_answer(200, body.to_string().as_bytes());
            assert_eq!(outcome, Outcome::of(entry.class, entry.first));
        }
        assert!(explain(entry.first).unwrap().contains(entry.meaning));
    }
    let new = json!({ "messages": [{ "status": "77" }] }).to_string();
    assert_eq!(read_answer(200, new.as_bytes()), Outcome::of(Class::ProviderError, "77"));
    let cases = cases(VECTORS);
    let case = cases.iter().find(|case| name(case) == "error_throttled").unwrap();
    let outcome = read_answer(200, case["response_fed"].as_str().unwrap().as_bytes());
    assert_eq!(outcome, Outcome::of(Class::RateLimitedAccount, "1"));
}

#[test]
fn what_cannot_be_read_is_an_unknown_outcome() {
    for (body, what) in [
        ("", "empty-answer"),
        ("{}", "no-status"),
        ("null", "no-status"),
        (r#"{"messages":[]}"#, "no-status"),
        (r#"{"messages":[{"status":"0"},{"status":"0"}]}"#, "no-status"),
        (r#"{"messages":[{}]}"#, "garbled"),
        (r#"{"messages":[{"status":"13800138000"}]}"#, "garbled"),
        (r#"{"messages":[{"status":"0"}]}"#, "no-message-id"),
        (r#"{"messages":[{"status":"0","message-id":"<b>"}]}"#, "no-message-id"),
        ("<html>", "garbled"),
    ] {
        assert_eq!(read_answer(200, body.as_bytes()), unknown(what), "{body}");
    }
    for (status, class) in [
        (204, Class::UnknownOutcome),
        (302, Class::UnknownOutcome),
        (400, Class::BadRequest),
        (401, Class::AuthFailed),
        (429, Class::RateLimitedAccount),
        (500, Class::UnknownOutcome),
    ] {
        let outcome = read_answer(status, TAKEN.as_bytes());
        assert_eq!(outcome, Outcome::of(class, format!("http-{status}")));
    }
    for end in 0..TAKEN.len() {
        let outcome = read_answer(200, &TAKEN.as_bytes()[..end]);
        assert_eq!(outcome.class, Class::UnknownOutcome, "{end}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(read_answer(200, &body).class, Class::UnknownOutcome);
        prop_assert_eq!(receipt(&fields(&body)), None);
    }
}

// --- receipts ---------------------------------------------------------------------------------

fn push(body: &str, secret: &str) -> Option<Vec<Receipt>> {
    let settings = Settings { signature_secret: secret.into(), ..settings(BASE_URL) };
    let pushed = Pushed { url: "", headers: &HeaderMap::new(), body: body.as_bytes() };
    with(settings, None).read_receipts(&pushed).map(|read| read.receipts)
}

#[test]
fn receipts_are_read_as_form_and_as_json_and_their_signature_is_checked() {
    let report = |status: &str| {
        Fields::from(
            [
                ("msisdn", "8613800138000"),
                ("to", "AcmeInc"),
                ("messageId", ID),
                ("status", status),
                ("err-code", "6"),
                ("client-ref", REFERENCE),
                ("timestamp", "1735749050"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        )
    };
    let form = |fields: &Fields| signing::query(fields.iter().map(|(n, v)| (&**n, &**v)));
    for (status, arrived, code) in
        [("delivered", true, "delivered"), ("failed", false, "6"), ("expired", false, "6")]
    {
        let receipt = Receipt {
            about: REFERENCE.into(),
            message_id: ID.to_owned(),
            arrived,
            vendor_code: code.to_owned(),
        };
        let mut fields = report(status);
        assert_eq!(push(&form(&fields), ""), Some(vec![receipt.clone()]));
        assert_eq!(push(&json!(fields).to_string(), ""), Some(vec![receipt.clone()]));
        assert_eq!(push(&form(&fields), "key"), None, "unsigned");
        let sig = signature("key", &fields);
        fields.insert("sig".to_owned(), sig.to_uppercase());
        assert_eq!(push(&form(&fields), "key"), Some(vec![receipt]));
        assert_eq!(push(&form(&fields), "another"), None);
        fields.insert("status".to_owned(), "delivered ".to_owned());
        assert_eq!(push(&form(&fields), "key"), None, "changed on the way");
    }
    for status in ["accepted", "buffered", "unknown", "something new"] {
        assert_eq!(push(&form(&report(status)), ""), Some(vec![]), "{status}");
    }
    for field in ["messageId", "client-ref", "status"] {
        let mut broken = report("delivered");
        broken.remove(field);
        assert_eq!(push(&form(&broken), ""), Some(vec![]), "{field}");
    }
}

// --- over the wire ----------------------------------------------------------------------------

#[tokio::test]
async fn credentials_are_tried_without_sending() {
    for (status, expected) in [
        ("200 OK", Ok(true)),
        ("401 Unauthorized", Err(Outcome::of(Class::AuthFailed, "http-401"))),
        ("502 Bad Gateway", Err(Outcome::of(Class::ProviderError, "http-502"))),
    ] {
        let (base_url, requests) = vendor(answer(status, b"{}")).await;
        assert_eq!(with(settings(&base_url), None).try_credentials().await, expected);
        assert_eq!(Seen::only(&requests).line, "GET /account/get-balance HTTP/1.1");
    }
}

#[tokio::test]
async fn whatever_goes_wrong_on_the_wire_has_its_outcome() {
    stub::assert_wire(&make, "200 OK", TAKEN, ID).await;
}

#[tokio::test]
async fn neither_secret_nor_code_is_ever_printed() {
    let quoting = format!(r#"{{"messages":[{{"status":"{SECRET} 004217 13800138000"}}]}}"#);
    stub::assert_silent(&make, &[TAKEN, &quoting], &[SECRET, "Basic YWJj"]).await;
}
