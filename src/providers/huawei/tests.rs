use proptest::prelude::*;
use reqwest::header::HeaderMap;
use serde_json::json;

use super::*;
use crate::providers::stub::{
    self, REFERENCE, Seen, WALL, a_message, answer, cases, message, name, pairs, vendor,
};

const SECRET: &str = "q4Ii87BhST9vcs8wvrzN80SfD7Al";
const ID: &str = "d6e3cdd0-522b-4692-8304-a07553cdf591_8539659";
const TAKEN: &str = r#"{"result":[{"originTo":"+8613800138000","createTime":"2025-01-01T16:30:46Z",
    "from":"1069****0012","smsMsgId":"d6e3cdd0-522b-4692-8304-a07553cdf591_8539659",
    "status":"000000","countryId":"CN","total":1}],"code":"000000","description":"Success"}"#;
const VECTORS: &str = include_str!("../../../tests/vectors/huawei.json");
const CALLBACK: &str = "https://otp.example.com/cb/hw";

fn settings(base_url: &str) -> Settings {
    Settings {
        name: "hw".to_owned(),
        base_url: base_url.to_owned(),
        app_key: "c8RWg3ggEcyd4D3p94bf3Y7x1Ile".to_owned(),
        app_secret: SECRET.into(),
        auth: Auth::Aksk,
        from: "8824110605***".to_owned(),
        signature: "华为云短信测试".to_owned(),
        template_id: "e1440a2b13b54b06a3ec5e6ca5d4d5d9".to_owned(),
        template_params: vec![Param::Code],
    }
}

fn with(settings: Settings, callback: Option<&str>) -> Huawei {
    let client = transport::client().unwrap();
    Huawei::new(settings, client, Clock::manual(WALL), callback.map(str::to_owned))
}

fn make(base_url: &str, client: reqwest::Client) -> Arc<dyn Provider> {
    Arc::new(Huawei::new(settings(base_url), client, Clock::manual(WALL), None))
}

// --- requests ---------------------------------------------------------------------------------

/// What is signed like anything else and is not what we send, and why.
const NOT_SENT: [(&str, &str); 6] = [
    ("aksk_chinese", "values are digits"),
    ("aksk_three_numbers", "one number per request"),
    ("aksk_odd", "values are digits"),
    ("derived_wsse_chinese", "values are digits"),
    ("derived_wsse_three_numbers", "one number per request"),
    ("derived_wsse_odd", "values are digits"),
];

#[test]
fn every_vector_is_signed_by_us_alike() {
    let (mut aksk, mut digests) = (0, 0);
    let ours = settings(BASE_URL);
    for case in &cases(VECTORS) {
        let headers = &case["request"]["headers"];
        if name(case).starts_with("aksk") {
            let signed = case["signing"]["signed_headers"].as_array().unwrap();
            let value = |wanted: &str| {
                let found = headers.as_object().unwrap().iter();
                let mut found = found.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.next().unwrap().1.as_str().unwrap()
            };
            let signed: Vec<_> =
                signed.iter().map(|it| it.as_str().unwrap()).map(|it| (it, value(it))).collect();
            let authorization = aksk_authorization(&ours, value("x-sdk-date"), &signed);
            assert_eq!(authorization, value("authorization"), "{}", name(case));
            aksk += 1;
        } else {
            let input = |name: &str| case["inputs"][name].as_str().unwrap();
            let (nonce, created) = (input("nonce"), input("created"));
            assert_eq!(wsse(&ours, nonce, created), headers["X-WSSE"], "{}", name(case));
            let hex = Settings { auth: Auth::WsseHex, ..ours.clone() };
            let variant = case["signing"]["digest_hex_base64_variant"].as_str().unwrap();
            assert!(wsse(&hex, nonce, created).contains(variant), "{}", name(case));
            digests += 1;
        }
    }
    assert_eq!((aksk, digests), (4, 4));
}

#[tokio::test]
async fn every_vector_that_we_can_send_is_what_reaches_the_vendor() {
    let mut sent = Vec::new();
    for case in &cases(VECTORS) {
        if NOT_SENT.iter().any(|(it, _)| *it == name(case)) {
            continue;
        }
        let (base_url, requests) = vendor(answer("200 OK", TAKEN.as_bytes())).await;
        let wsse = name(case).contains("wsse");
        let auth = if wsse { Auth::Wsse } else { Auth::Aksk };
        let provider = with(Settings { auth, ..settings(&base_url) }, Some(CALLBACK));
        // The clients' vectors hold a reference of their own, or none.
        let reference = case["inputs"]["extend"].as_str().unwrap_or(REFERENCE);
        let outcome = provider.send(&message("+8613800138000", "482913", 5, reference)).await;
        assert_eq!(outcome, Outcome::accepted(ID), "{}", name(case));
        let (seen, request) = (Seen::only(&requests), &case["request"]);
        assert_eq!(seen.line, format!("POST {} HTTP/1.1", request["path"].as_str().unwrap()));
        for header in ["Content-Type", "X-Sdk-Date", "X-Sdk-Content-Sha256"] {
            let theirs = request["headers"][header].as_str().unwrap_or_default();
            assert_eq!(seen.header(&header.to_lowercase()), theirs, "{}", name(case));
        }
        if wsse {
            let theirs = request["headers"]["Authorization"].as_str().unwrap();
            assert_eq!(seen.header("authorization"), theirs);
            let created = r#",Created="2025-01-01T16:30:45Z""#;
            assert!(seen.header("x-wsse").ends_with(created), "{}", seen.header("x-wsse"));
        } else {
            let host = base_url.trim_start_matches("http://");
            let headers = ["content-type", "host", "x-sdk-content-sha256", "x-sdk-date"];
            let signed = headers.map(|it| (it, seen.header(it)));
            assert_eq!(signed[1].1, host, "the signed host is the one that is asked");
            let expected = aksk_authorization(&settings(&base_url), signed[3].1, &signed);
            assert_eq!(seen.header("authorization"), expected);
        }
        let mut expected = pairs(request["body"].as_str().unwrap());
        if wsse {
            expected.push(("extend".to_owned(), REFERENCE.to_owned()));
            expected.sort();
        }
        assert_eq!(pairs(&seen.body), expected, "{}", name(case));
        sent.push(name(case).to_owned());
    }
    assert_eq!(sent, ["aksk_ascii", "derived_wsse_ascii"]);
    assert_eq!(sent.len() + NOT_SENT.len(), cases(VECTORS).len());
}

#[test]
fn what_is_not_set_is_not_sent() {
    let settings = Settings {
        from: String::new(),
        signature: String::new(),
        template_params: kind::code_and_minutes(),
        ..settings(BASE_URL)
    };
    let form = pairs(&send_form(&settings, &a_message(), None));
    let names: Vec<_> = form.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["extend", "templateId", "templateParas", "to"]);
    assert_eq!(form[2].1, r#"["004217","5"]"#, "texts, so that leading zeros stay");
}

#[test]
fn every_request_has_a_nonce_of_its_own() {
    let provider = with(Settings { auth: Auth::Wsse, ..settings(BASE_URL) }, None);
    assert_ne!(provider.proof(), provider.proof());
}

// --- settings ---------------------------------------------------------------------------------

#[test]
fn settings_that_cannot_work_are_named_with_a_remedy() {
    let good = || Settings { from: "8824110605".to_owned(), ..settings(BASE_URL) };
    assert!(good().check().is_ok());
    for (key, settings) in [
        ("base_url", Settings { base_url: "smsapi.example".to_owned(), ..good() }),
        ("app_key", Settings { app_key: String::new(), ..good() }),
        ("app_secret", Settings { app_secret: "a b".into(), ..good() }),
        ("from", Settings { from: "+8824 1".to_owned(), ..good() }),
        ("signature", Settings { signature: "【华为】".to_owned(), ..good() }),
        ("template_id", Settings { template_id: String::new(), ..good() }),
        ("template_params", Settings { template_params: vec![Param::Minutes], ..good() }),
    ] {
        let Err(Misfit::Unfit(unfit)) = settings.check() else { panic!("{key}") };
        assert_eq!(unfit.iter().map(|unfit| unfit.key).collect::<Vec<_>>(), [key]);
        assert!(unfit[0].advice.len() > 40, "{key}");
    }
}

// --- answers ----------------------------------------------------------------------------------

fn read_answer(status: u16, body: &[u8]) -> Outcome {
    Reply::read(status, body).map_or_else(|outcome| outcome, |reply| reply.sent())
}

fn entry(code: &str, status: &str) -> String {
    json!({ "code": code, "result": [{ "status": status, "smsMsgId": ID }] }).to_string()
}

#[test]
fn every_code_has_its_class_wherever_it_stands() {
    for pair in errors::TABLE.windows(2) {
        assert!(pair[0].last < pair[1].first, "{pair:?}");
    }
    assert_eq!(errors::TABLE.len(), 28);
    for entry_of in errors::TABLE.iter().filter(|entry| entry.first != SUCCESS) {
        let expected = |code: &str| Outcome::of(entry_of.class, code);
        for code in [entry_of.first, entry_of.last] {
            for status in [200, 400, 401, 403] {
                let body = json!({ "code": code, "description": "13800138000" }).to_string();
                assert_eq!(read_answer(status, body.as_bytes()), expected(code));
            }
            for of in [SUCCESS, SEE_ENTRIES] {
                assert_eq!(read_answer(200, entry(of, code).as_bytes()), expected(code));
            }
            assert!(explain(code).unwrap().contains(entry_of.meaning));
        }
    }
    let new = |status| read_answer(status, br#"{"code":"E999999"}"#).class;
    assert_eq!(
        [200, 400, 403, 429, 500].map(new),
        [
            Class::ProviderError,
            Class::BadRequest,
            Class::AuthFailed,
            Class::RateLimitedAccount,
            Class::UnknownOutcome,
        ]
    );
    for odd in ["", "000001", "E00010", "E0001011", "e000101", "004217"] {
        assert_eq!(errors::lookup(odd), None, "{odd}");
    }
}

#[test]
fn what_cannot_be_read_is_an_unknown_outcome() {
    let two = json!({ "code": SUCCESS, "result": [{ "status": SUCCESS }, { "status": SUCCESS }] });
    let nameless = json!({ "code": SUCCESS, "result": [{ "status": SUCCESS }] }).to_string();
    for (body, what) in [
        ("", "empty-answer"),
        ("{}", "no-code"),
        ("null", "no-code"),
        ("<html>", "garbled"),
        (r#"{"code":"000000"}"#, "no-status"),
        (r#"{"code":"000000","result":[]}"#, "no-status"),
        (two.to_string().as_str(), "no-status"),
        (nameless.as_str(), "no-message-id"),
        (r#"{"code":"138001"}"#, "garbled"),
        (r#"{"code":0}"#, "garbled"),
        (entry(SUCCESS, "004217").as_str(), "no-status"),
    ] {
        assert_eq!(read_answer(200, body.as_bytes()), unknown(what), "{body}");
    }
    for (status, class) in [
        (204, Class::UnknownOutcome),
        (302, Class::UnknownOutcome),
        (400, Class::BadRequest),
        (401, Class::AuthFailed),
        (404, Class::BadRequest),
        (429, Class::RateLimitedAccount),
        (500, Class::UnknownOutcome),
        (502, Class::UnknownOutcome),
    ] {
        let outcome = read_answer(status, b"<html>");
        assert_eq!(outcome, Outcome::of(class, format!("http-{status}")));
    }
    assert_eq!(read_answer(500, TAKEN.as_bytes()), unknown("no-message-id"));
    for end in 0..TAKEN.len() {
        let outcome = read_answer(200, &TAKEN.as_bytes()[..end]);
        assert_eq!(outcome.class, Class::UnknownOutcome, "{end}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(read_answer(200, &body).class, Class::UnknownOutcome);
        prop_assert_eq!(push(&body), vec![]);
    }
}

// --- receipts ---------------------------------------------------------------------------------

fn push(body: &[u8]) -> Vec<Receipt> {
    let pushed = Pushed { url: "", headers: &HeaderMap::new(), body };
    let read = with(settings(BASE_URL), None).read_receipts(&pushed).unwrap();
    assert_eq!(read.reply, "");
    read.receipts
}

#[test]
fn receipts_are_read_as_they_are_pushed() {
    let form = |status: &str| {
        format!(
            "sequence=1&total=1&orgCode=000&updateTime=2018-04-13T06%3A31%3A46Z&source=2&\
             smsMsgId={ID}&status={status}&extend={REFERENCE}&to=%2B8613800138000"
        )
    };
    for (status, code, arrived) in [
        ("DELIVRD", "DELIVRD", true),
        ("UNDELIV", "UNDELIV", false),
        ("E200028", "E200028", false),
        ("SC%3A0014", "SC:0014", false),
    ] {
        let expected = Receipt {
            about: REFERENCE.into(),
            message_id: ID.to_owned(),
            arrived,
            vendor_code: code.to_owned(),
        };
        assert_eq!(push(form(status).as_bytes()), [expected], "{status}");
    }
    for undecided in ["ACCEPTD", "UNKNOWN", "", "DELIVRD%20%3Cb%3E", "delivered%00"] {
        assert_eq!(push(form(undecided).as_bytes()), [], "{undecided}");
    }
    for field in ["smsMsgId=", "extend=", "status="] {
        assert_eq!(push(form("DELIVRD").replace(field, "x=").as_bytes()), [], "{field}");
    }
}

// --- over the wire ----------------------------------------------------------------------------

#[tokio::test]
async fn credentials_are_tried_without_a_recipient() {
    for (status, body, expected) in [
        ("400 Bad Request", r#"{"code":"E000503"}"#, Ok(true)),
        (
            "401 Unauthorized",
            r#"{"code":"E000102"}"#,
            Err(Outcome::of(Class::AuthFailed, "E000102")),
        ),
        ("404 Not Found", "", Err(Outcome::of(Class::BadRequest, "http-404"))),
        ("502 Bad Gateway", "", Err(Outcome::of(Class::ProviderError, "http-502"))),
    ] {
        let (base_url, requests) = vendor(answer(status, body.as_bytes())).await;
        assert_eq!(with(settings(&base_url), None).try_credentials().await, expected);
        let seen = Seen::only(&requests);
        assert_eq!(pairs(&seen.body).iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["from"]);
    }
}

#[tokio::test]
async fn whatever_goes_wrong_on_the_wire_has_its_outcome() {
    stub::assert_wire(&make, "200 OK", TAKEN, ID).await;
}

#[tokio::test]
async fn neither_secret_nor_code_is_ever_printed() {
    let quoting = format!(r#"{{"code":"{SECRET} 004217 13800138000"}}"#);
    stub::assert_silent(&make, &[TAKEN, &quoting], &[SECRET, "Signature="]).await;
}
