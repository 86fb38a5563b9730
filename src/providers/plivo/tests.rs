use proptest::prelude::*;
use reqwest::header::HeaderMap;

use super::*;
use crate::providers::signing;
use crate::providers::stub::{
    self, REFERENCE as OURS, Seen, WALL, a_message, answer, cases, message, name, vendor,
};

const TOKEN: &str = "fakeplivotoken00000000000000000001";
const ID: &str = "db3ce55a-7c9d-11e1-8ea7-1231380bc196";
const TAKEN: &str = r#"{"api_id":"db342550-7c9d-11e1-8ea7-001ec9f8d58d",
    "message":"message(s) queued","message_uuid":["db3ce55a-7c9d-11e1-8ea7-1231380bc196"]}"#;
const VECTORS: &str = include_str!("../../../tests/vectors/plivo.json");
const CALLBACK: &str = "https://otp.example.com/cb/plivo";

fn settings(base_url: &str) -> Settings {
    Settings {
        name: "pl".to_owned(),
        base_url: base_url.to_owned(),
        auth_id: "MAFAKE0000000000001X".to_owned(),
        auth_token: TOKEN.into(),
        from: "+14155550100".to_owned(),
    }
}

fn with(settings: Settings, callback: Option<&str>) -> Plivo {
    Plivo::new(settings, transport::client().unwrap(), callback.map(str::to_owned))
}

fn make(base_url: &str, client: reqwest::Client) -> Arc<dyn Provider> {
    Arc::new(Plivo::new(settings(base_url), client, None))
}

// --- requests ---------------------------------------------------------------------------------

/// What we do not send, and why.
const NOT_SENT: [(&str, &str); 1] = [("three_numbers", "one number per request")];

#[tokio::test]
async fn every_vector_that_we_can_send_is_what_reaches_the_vendor() {
    let mut sent = Vec::new();
    for case in &cases(VECTORS) {
        if NOT_SENT.iter().any(|(it, _)| *it == name(case)) {
            continue;
        }
        let theirs = case["response_fed"].as_str().unwrap();
        let (base_url, requests) = vendor(answer("202 Accepted", theirs.as_bytes())).await;
        let mut message = message(case["inputs"]["dst"].as_str().unwrap(), "482913", 5, OURS);
        case["inputs"]["text"].as_str().unwrap().clone_into(&mut message.text);
        let outcome = with(settings(&base_url), Some(CALLBACK)).send(&message).await;
        assert_eq!(outcome, Outcome::accepted(ID), "{}", name(case));
        let (seen, request) = (Seen::only(&requests), &case["request"]);
        assert_eq!(seen.line, format!("POST {} HTTP/1.1", request["path"].as_str().unwrap()));
        for header in ["Authorization", "Accept", "Content-Type"] {
            let theirs = request["headers"][header].as_str().unwrap();
            assert_eq!(seen.header(&header.to_lowercase()), theirs, "{}", name(case));
        }
        let mut expected = request["body_json"].clone();
        // Ours alone: a late code is no good, nothing is to be kept, and receipts find their way.
        expected["message_expiry"] = json!(300);
        expected["log"] = json!("false");
        expected["url"] = json!(format!("{CALLBACK}?reference={OURS}"));
        let ours: Value = serde_json::from_str(&seen.body).unwrap();
        assert_eq!(ours, expected, "{}", name(case));
        sent.push(name(case).to_owned());
    }
    assert_eq!(sent, ["ascii", "chinese", "odd"]);
    assert_eq!(sent.len() + NOT_SENT.len(), cases(VECTORS).len());
    let body = with(settings(BASE_URL), None).body(&a_message());
    assert_eq!(body.get("url"), None, "nobody outside can reach us");
}

// --- settings ---------------------------------------------------------------------------------

#[test]
fn settings_that_cannot_work_are_named_with_a_remedy() {
    let good = || settings(BASE_URL);
    assert!(good().check().is_ok());
    let subaccount = Settings { auth_id: "SAFAKE0000000000001X".into(), ..good() };
    assert!(subaccount.check().is_ok());
    for (key, settings) in [
        ("base_url", settings("api.plivo.com")),
        ("auth_id", Settings { auth_id: "MAFAKE".into(), ..good() }),
        ("auth_id", Settings { auth_id: "XXFAKE0000000000001X".into(), ..good() }),
        ("auth_token", Settings { auth_token: "a b".into(), ..good() }),
        ("from", Settings { from: String::new(), ..good() }),
    ] {
        let Err(Misfit::Unfit(unfit)) = settings.check() else { panic!("{key}") };
        assert_eq!(unfit.iter().map(|unfit| unfit.key).collect::<Vec<_>>(), [key]);
        assert!(unfit[0].advice.len() > 40, "{key}");
    }
}

// --- answers ----------------------------------------------------------------------------------

#[test]
fn the_status_tells_and_prose_does_not() {
    let reason = r#"{"api_id":"x","error":"13800138000 is not a valid number, 004217"}"#;
    for (status, class) in [
        (400, Class::BadRequest),
        (401, Class::AuthFailed),
        (402, Class::BalanceExhausted),
        (403, Class::UnsupportedDestination),
        (404, Class::BadRequest),
        (405, Class::BadRequest),
        (408, Class::UnknownOutcome),
        (429, Class::RateLimitedAccount),
        (500, Class::UnknownOutcome),
        (503, Class::UnknownOutcome),
        (302, Class::UnknownOutcome),
        (204, Class::UnknownOutcome),
        (207, Class::UnknownOutcome),
    ] {
        for body in [reason, TAKEN, "", "<html>"] {
            let outcome = read_answer(status, body.as_bytes());
            assert_eq!(outcome, Outcome::of(class, format!("http-{status}")), "{body}");
        }
    }
    for taken in [200, 201, 202] {
        assert_eq!(read_answer(taken, TAKEN.as_bytes()), Outcome::accepted(ID));
        for body in [
            "",
            "[]",
            "null",
            "<html>",
            "{}",
            r#"{"message_uuid":[]}"#,
            r#"{"message_uuid":["a","b"]}"#,
            r#"{"message_uuid":["<b>"]}"#,
            r#"{"message_uuid":"a"}"#,
        ] {
            assert_eq!(read_answer(taken, body.as_bytes()), unknown("no-message-id"), "{body}");
        }
    }
    for end in 0..TAKEN.len() {
        let outcome = read_answer(202, &TAKEN.as_bytes()[..end]);
        assert_eq!(outcome.class, Class::UnknownOutcome, "{end}");
    }
}

#[test]
fn every_code_of_a_receipt_is_explained() {
    for pair in TABLE.windows(2) {
        assert!(pair[0].last < pair[1].first, "{pair:?}");
    }
    assert_eq!(TABLE.len(), 19);
    for entry in TABLE {
        assert!(explain(entry.first).unwrap().contains(entry.meaning));
    }
    assert!(explain("http-403").unwrap().contains("Geo permissions"));
    assert_eq!(explain("999"), None);
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(read_answer(202, &body).class, Class::UnknownOutcome);
        let headers = HeaderMap::new();
        let pushed = Pushed { url: CALLBACK, headers: &headers, body: &body };
        prop_assert_eq!(read_pushed(&pushed), None);
    }
}

// --- receipts ---------------------------------------------------------------------------------

/// A push that arrives with these headers.
fn push(
    url: &str,
    body: &str,
    (signature, nonce): (Option<&str>, Option<&str>),
) -> Option<Vec<Receipt>> {
    let mut headers = HeaderMap::new();
    for (name, value) in [(SIGNATURE, signature), (NONCE, nonce)] {
        if let Some(value) = value {
            headers.insert(name, value.parse().unwrap());
        }
    }
    let pushed = Pushed { url, headers: &headers, body: body.as_bytes() };
    let read = with(settings(BASE_URL), Some(CALLBACK)).read_receipts(&pushed);
    read.map(|read| read.receipts)
}

fn signed(text: &str) -> String {
    BASE64.encode(signing::hmac_sha256(TOKEN.as_bytes(), text.as_bytes()))
}

#[test]
fn the_vectors_signature_is_good_and_nothing_near_it() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let vector = &vectors["callback_signature_v3"];
    let text = |name: &str| vector[name].as_str().unwrap();
    let (url, nonce, signature) = (text("url"), text("nonce"), text("X-Plivo-Signature-V3"));
    assert_eq!(signed(text("signed_string")), signature, "the text that is signed");
    let fields: Vec<_> = vector["params"].as_object().unwrap().iter().collect();
    // The order on the wire is not the one that is signed.
    let body = |fields: &[(&String, &Value)]| {
        signing::query(fields.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())))
    };
    let reversed: Vec<_> = fields.iter().rev().copied().collect();
    let good = (Some(signature), Some(nonce));
    for body in [body(&fields), body(&reversed)] {
        assert_eq!(push(url, &body, good), Some(vec![]), "good, without our reference");
    }
    let body = body(&fields);
    let several = format!("{}, {signature}", signed("of the account, not of the subaccount"));
    assert_eq!(push(url, &body, (Some(&several), Some(nonce))), Some(vec![]));
    let other = signed("another text");
    let lower = signature.to_lowercase();
    for (why, forged) in [
        ("no signature", push(url, &body, (None, Some(nonce)))),
        ("no nonce", push(url, &body, (Some(signature), None))),
        ("another nonce", push(url, &body, (Some(signature), Some("05429567804466091623")))),
        ("an empty signature", push(url, &body, (Some(""), Some(nonce)))),
        ("another text's", push(url, &body, (Some(&other), Some(nonce)))),
        ("letters changed", push(url, &body, (Some(&lower), Some(nonce)))),
        ("cut short", push(url, &body, (Some(&signature[..20]), Some(nonce)))),
        ("another query", push(&url.replace("x=1", "x=2"), &body, good)),
        ("no query", push(CALLBACK, &body, good)),
        ("another scheme", push(&url.replace("https", "http"), &body, good)),
        ("a field more", push(url, &format!("{body}&x=1"), good)),
        ("a field less", push(url, &body.replace("&To=15558675310", ""), good)),
        ("another value", push(url, &body.replace("delivered", "undelivered"), good)),
        ("nothing", push(url, "", good)),
    ] {
        assert_eq!(forged, None, "{why}");
    }
    let another = Settings { auth_token: "another".into(), ..settings(BASE_URL) };
    let mut headers = HeaderMap::new();
    headers.insert(SIGNATURE, signature.parse().unwrap());
    headers.insert(NONCE, nonce.parse().unwrap());
    let pushed = Pushed { url, headers: &headers, body: body.as_bytes() };
    assert_eq!(with(another, Some(CALLBACK)).read_receipts(&pushed), None, "another token");
}

#[test]
fn a_signed_push_says_whether_the_message_arrived() {
    let url = format!("{CALLBACK}?reference={OURS}");
    let told = |status: &str, code: &str| {
        let body = format!("Status={status}&MessageUUID={ID}&ErrorCode={code}&To=15558675310");
        let text =
            format!("{url}.ErrorCode{code}MessageUUID{ID}Status{status}To15558675310.nonce-1");
        push(&url, &body, (Some(&signed(&text)), Some("nonce-1"))).unwrap()
    };
    for (status, code, arrived, vendor_code) in [
        ("delivered", "000", true, "delivered"),
        ("delivered", "", true, "delivered"),
        ("undelivered", "30", false, "30"),
        ("failed", "420", false, "420"),
        ("rejected", "", false, "rejected"),
        ("failed", "13800138000", false, "failed"),
    ] {
        let receipt = Receipt {
            about: OURS.into(),
            message_id: ID.to_owned(),
            arrived,
            vendor_code: vendor_code.to_owned(),
        };
        assert_eq!(told(status, code), [receipt], "{status} {code}");
    }
    for status in ["queued", "sent", "something%20new"] {
        assert_eq!(push_on_the_way(&url, status), Some(vec![]), "{status}");
    }
    let elsewhere = format!("{CALLBACK}?reference=%3Cx%3E");
    let text = format!("{CALLBACK}?reference=<x>.MessageUUID{ID}Statusdelivered.n");
    let body = format!("MessageUUID={ID}&Status=delivered");
    let read = push(&elsewhere, &body, (Some(&signed(&text)), Some("n")));
    assert_eq!(read, Some(vec![]), "no reference of ours");
}

fn push_on_the_way(url: &str, status: &str) -> Option<Vec<Receipt>> {
    let body = format!("MessageUUID={ID}&Status={status}");
    let text = format!("{url}.MessageUUID{ID}Status{}.n", status.replace("%20", " "));
    push(url, &body, (Some(&signed(&text)), Some("n")))
}

fn sent(message_id: Option<&str>) -> Sent {
    let Message { phone, text, reference, .. } = a_message();
    let message_id = message_id.map(str::to_owned);
    Sent { reference, phone, message_id, text: Some(text), wall: WALL }
}

#[tokio::test]
async fn where_nobody_can_push_the_vendor_is_asked() {
    let taken = Found::Taken { message_id: ID.to_owned() };
    let settled = |arrived: bool, code: &str| {
        let (about, message_id) = (OURS.into(), ID.to_owned());
        Found::Settled(Receipt { about, message_id, arrived, vendor_code: code.to_owned() })
    };
    for (state, code, expected) in [
        ("delivered", "000", settled(true, "delivered")),
        ("undelivered", "80", settled(false, "80")),
        ("sent", "", taken.clone()),
        ("", "", taken),
    ] {
        let body = json!({"message_uuid": ID, "message_state": state, "error_code": code});
        let (base_url, asked) = vendor(answer("200 OK", body.to_string().as_bytes())).await;
        let asking = with(settings(&base_url), None);
        assert_eq!(asking.look_up(&sent(Some(ID))).await, Ok(expected), "{state}");
        let line = format!("GET /v1/Account/MAFAKE0000000000001X/Message/{ID}/ HTTP/1.1");
        assert_eq!(Seen::only(&asked).line, line);
    }
    for (status, class) in [
        ("401 Unauthorized", Class::AuthFailed),
        ("500 Server Error", Class::ProviderError),
        ("302 Found", Class::ProviderError),
    ] {
        let (base_url, _) = vendor(answer(status, b"{}")).await;
        let asked = with(settings(&base_url), None).look_up(&sent(Some(ID))).await;
        assert_eq!(asked.unwrap_err().class, class, "{status}");
    }
    let asking = with(settings("http://127.0.0.1:1"), None);
    assert_eq!(asking.look_up(&sent(None)).await, Ok(Found::Nothing), "it has no name to ask by");
    assert_eq!(asking.looks_up(), LooksUp::All);
    assert_eq!(with(settings(BASE_URL), Some(CALLBACK)).looks_up(), LooksUp::Nothing);
}

#[tokio::test]
async fn credentials_are_tried_without_sending() {
    for (status, expected) in [
        ("200 OK", Ok(true)),
        ("401 Unauthorized", Err(Outcome::of(Class::AuthFailed, "http-401"))),
        ("502 Bad Gateway", Err(Outcome::of(Class::ProviderError, "http-502"))),
    ] {
        let (base_url, requests) = vendor(answer(status, b"{}")).await;
        assert_eq!(with(settings(&base_url), None).try_credentials().await, expected);
        let line = "GET /v1/Account/MAFAKE0000000000001X/ HTTP/1.1";
        assert_eq!(Seen::only(&requests).line, line);
    }
}

// --- over the wire ----------------------------------------------------------------------------

#[tokio::test]
async fn whatever_goes_wrong_on_the_wire_has_its_outcome() {
    stub::assert_wire(&make, "202 Accepted", TAKEN, ID).await;
}

#[tokio::test]
async fn neither_token_nor_code_is_ever_printed() {
    let quoting = format!(r#"{{"message_uuid":["{TOKEN} 004217 13800138000"]}}"#);
    stub::assert_silent(&make, &[TAKEN, &quoting], &[TOKEN, "Basic TUFG"]).await;
    let unfit = Settings { auth_token: format!("{TOKEN} ").into(), ..settings(BASE_URL) };
    let printed = format!("{unfit:?} {:?}", unfit.check().unwrap_err());
    assert!(!printed.contains(TOKEN), "{printed}");
}
