mod receipts;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::providers::stub::{self, REFERENCE, Script, WALL, a_message, answer, message, vendor};

const TOKEN: &str = "c4e1c9418e5e4921bbd120598e030000";
const SID: &str = "ff8080813c373cab013c94b0f0512345";
const TAKEN: &str = r#"{"statusCode":"000000","templateSMS":{
    "smsMessageSid":"ff8080813c373cab013c94b0f0512345","dateCreated":"20250102003046"}}"#;

fn settings(base_url: &str) -> Settings {
    Settings {
        name: "main".to_owned(),
        base_url: base_url.to_owned(),
        account_sid: "8a48b5515493a1b7015498c52ade0000".to_owned(),
        auth_token: TOKEN.into(),
        app_id: "aaf98f8954939ed501549e768a470000".to_owned(),
        template_id: "1".to_owned(),
        template_params: kind::code_and_minutes(),
    }
}

// --- requests -----------------------------------------------------------------------------

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    epoch: i64,
    account_sid: String,
    account_token: String,
    app_id: String,
    template_id: Option<Value>,
    to: Option<String>,
    datas: Option<Vec<Value>>,
    #[serde(rename = "reqId")]
    req_id: Option<String>,
    timestamp: String,
    sig: String,
    authorization: String,
    path: String,
    query: String,
    accept: String,
    content_type: String,
    body: Option<Value>,
}

impl Case {
    fn settings(&self) -> Settings {
        let template_id = self.template_id.as_ref().and_then(text_of).unwrap_or_default();
        Settings {
            account_sid: self.account_sid.clone(),
            auth_token: self.account_token.as_str().into(),
            app_id: self.app_id.clone(),
            template_id,
            ..settings("https://app.cloopen.com:8883")
        }
    }
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../tests/vectors/yuntongxun.json");
    serde_json::from_str::<Vectors>(text).unwrap().cases
}

/// Bodies that this client does not send, and why. The rest of these cases is checked.
const NOT_SENT: [(&str, &str); 14] = [
    ("three_numbers", "one number per request"),
    ("odd_characters", "a code is digits, and there are two variables"),
    ("no_datas", "there are two variables"),
    ("classic_json_ascii", "not JSON: trailing comma"),
    ("classic_json_chinese", "not JSON: trailing comma"),
    ("classic_json_odd", "not JSON: nothing is escaped"),
    ("classic_xml_ascii", "XML"),
    ("classic_xml_odd", "XML"),
    ("voice_verify_json", "voice"),
    ("voice_verify_landline", "voice"),
    ("seed_call_int_param", "not JSON: trailing comma"),
    ("java_xml_ascii", "XML"),
    ("php_xml_ascii", "XML"),
    ("php_json_chinese", "not JSON: single quotes"),
];

#[test]
fn every_vector_has_our_signature_authorization_and_path() {
    let cases = cases();
    assert_eq!(cases.len(), 18);
    for case in &cases {
        let (_, resource) = case.path.rsplit_once(&format!("{}/", case.account_sid)).unwrap();
        let wall = case.epoch * 1000 + 999;
        let request = Request::new(&case.settings(), wall, resource, &json!({}));
        assert_eq!(shanghai_stamp(wall), case.timestamp, "{}", case.name);
        assert_eq!(request.sig, case.sig, "{}", case.name);
        assert_eq!(format!("sig={}", request.sig), case.query, "{}", case.name);
        assert_eq!(request.authorization, case.authorization, "{}", case.name);
        assert_eq!(request.path, case.path, "{}", case.name);
    }
}

#[test]
fn every_vector_that_we_can_send_has_our_body() {
    let mut sent = Vec::new();
    for case in cases().iter().filter(|case| case.datas.is_some()) {
        if NOT_SENT.iter().any(|(name, _)| *name == case.name) {
            continue;
        }
        let datas = case.datas.as_ref().unwrap();
        let (code, minutes) = (text_of(&datas[0]).unwrap(), text_of(&datas[1]).unwrap());
        let phone = format!("+86{}", case.to.as_ref().unwrap());
        let reference = case.req_id.as_deref().unwrap_or(REFERENCE);
        let message = message(&phone, &code, minutes.parse().unwrap(), reference);
        let request = template_sms(&case.settings(), case.epoch * 1000, &message).unwrap();
        let mut expected = case.body.clone().unwrap();
        expected.as_object_mut().unwrap().remove("subAppend"); // an extension we do not use
        expected["reqId"] = json!(reference);
        let ours: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(ours, expected, "{}", case.name);
        assert_eq!(request.path, case.path, "{}", case.name);
        assert_eq!(case.accept, "application/json", "{}", case.name);
        assert_eq!(case.content_type, "application/json;charset=utf-8", "{}", case.name);
        sent.push(case.name.as_str().to_owned());
    }
    assert_eq!(sent, ["ascii_single", "ascii_leading_zero_code", "java_json_ascii_reqid"]);
    assert_eq!(sent.len() + NOT_SENT.len() + 1, cases().len(), "and derived_get_arrived");
}

#[test]
fn asking_for_receipts_is_the_vector_but_for_the_count() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "derived_get_arrived").unwrap();
    let request = get_arrived(&case.settings(), case.epoch * 1000);
    let mut expected = case.body.clone().unwrap();
    expected["count"] = json!("100");
    assert_eq!(serde_json::from_str::<Value>(&request.body).unwrap(), expected);
    assert_eq!((request.path, request.sig), (case.path.clone(), case.sig.clone()));
}

#[test]
fn a_code_keeps_its_leading_zeros_and_travels_as_a_text() {
    for (code, minutes) in [("000000", 10), ("0000000001", 1), ("004217", 0)] {
        let message = message("+8613800138000", code, minutes, REFERENCE);
        let request = template_sms(&settings(""), WALL, &message).unwrap();
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["datas"], json!([code, minutes.to_string()]));
        assert_eq!(body["to"], "13800138000");
        assert_eq!(body["reqId"], REFERENCE);
    }
}

#[test]
fn the_year_ends_when_it_ends_in_shanghai() {
    let new_year = 1_735_660_800_000; // 2025-01-01T00:00:00+08:00
    let stamps = [-1, 0, 8 * crate::clock::HOUR].map(|after| shanghai_stamp(new_year + after));
    assert_eq!(stamps, ["20241231235959", "20250101000000", "20250101080000"]);
    assert_eq!(shanghai_stamp(1_709_136_000_000), "20240229000000", "a leap day");
    for odd in [0, -1, Millis::MIN, Millis::MAX] {
        assert!(shanghai_stamp(odd).len() >= 14, "and no clock makes it panic");
    }
}

// --- settings -----------------------------------------------------------------------------

#[test]
fn settings_that_cannot_work_are_named_with_a_remedy() {
    let good = || settings("https://app.cloopen.com:8883");
    let long = "a".repeat(65);
    assert!(good().check(6).is_ok());
    for base_url in ["http://127.0.0.1:9000/", "https://proxy.example/sms"] {
        assert!(settings(base_url).check(6).is_ok(), "{base_url}");
    }
    let urls = [
        "",
        "app.cloopen.com:8883",
        "ftp://app.cloopen.com",
        "https://",
        "https://app.cloopen.com?x=1",
        "https://app.cloopen.com#x",
        "https://me:secret@app.cloopen.com",
    ];
    let ids = ["", " ", "a b", "../x", "a?b", "帐号", &long];
    let tokens = ["", "a b", "c4e1\n", "令牌"];
    let templates = ["", "1a", "１", "-1", "SMS_1", " 1"];
    let wrong = (urls.iter().map(|url| ("base_url", settings(url))))
        .chain(ids.map(|id| ("account_sid", Settings { account_sid: id.into(), ..good() })))
        .chain(ids.map(|id| ("app_id", Settings { app_id: id.into(), ..good() })))
        .chain(tokens.map(|t| ("auth_token", Settings { auth_token: t.into(), ..good() })))
        .chain(templates.map(|t| ("template_id", Settings { template_id: t.into(), ..good() })));
    for (key, settings) in wrong {
        let Err(kind::Misfit::Unfit(unfit)) = settings.check(6) else { panic!("{key}") };
        assert_eq!(unfit.len(), 1);
        assert_eq!(unfit[0].key, key);
        assert!(unfit[0].to_string().len() > 40 && !unfit[0].to_string().contains("secret"));
    }
}

// --- answers ------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Recorded {
    answers: std::collections::BTreeMap<String, RecordedAnswer>,
    arrived: Value,
    failed: Value,
    get_arrived: Value,
}

#[derive(Deserialize)]
struct RecordedAnswer {
    http_status: u16,
    body: String,
    code: Option<String>,
    expected_class: Class,
}

fn recorded() -> Recorded {
    let text = include_str!("../../../tests/vectors/responses_yuntongxun.json");
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_recorded_answer_has_its_class() {
    let answers = recorded().answers;
    assert_eq!(answers.len(), 11);
    for (name, answer) in answers {
        let outcome = read_answer(answer.http_status, answer.body.as_bytes());
        assert_eq!(outcome.class, answer.expected_class, "{name}");
        match answer.code.as_deref() {
            Some(SUCCESS) => assert_eq!(outcome, Outcome::accepted(SID), "{name}"),
            Some(code) => assert_eq!(outcome.vendor_code, code, "{name}"),
            None => assert_eq!(outcome.message_id, None, "{name}"),
        }
    }
}

#[test]
fn every_code_of_the_map_has_its_class_in_every_form() {
    let map = include_str!("../../../tests/vectors/error_map_yuntongxun.json");
    let map: std::collections::BTreeMap<String, Value> = serde_json::from_str(map).unwrap();
    let mut codes = 0;
    for (range, entry) in map.iter().filter(|(code, _)| *code != SUCCESS) {
        let class: Class = serde_json::from_value(entry["class"].clone()).unwrap();
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        for number in first.parse::<u32>().unwrap()..=last.parse().unwrap() {
            let code = format!("{number:06}");
            let forms = [
                json!({ "statusCode": code, "statusMsg": "您好 13800138000" }).to_string(),
                json!({ "statusCode": number, "templateSMS": null }).to_string(),
                json!({ "statusCode": code, "templateSMS": { "smsMessageSid": SID } }).to_string(),
                format!(
                    "<?xml version=\"1.0\"?>\n<Response><statusCode>{code}</statusCode>\
                    <statusMsg>x</statusMsg></Response>\n"
                ),
            ];
            for form in forms {
                let outcome = read_answer(200, form.as_bytes());
                assert_eq!(outcome, Outcome::of(class, code.clone()), "{form}");
            }
            codes += 1;
        }
    }
    assert_eq!(codes, 122 + 99 + 10);
}

#[test]
fn a_repeated_reference_counts_as_accepted() {
    let outcome = read_answer(200, br#"{"statusCode":"160054","statusMsg":"x"}"#);
    assert_eq!(outcome, Outcome::of(Class::Duplicate, "160054"));
    assert_eq!(outcome.class.action(), crate::domain::outcome::Action::Done);
}

#[test]
fn a_code_that_is_not_on_the_list_is_a_refusal_for_an_unknown_reason() {
    for code in ["160099", "112351", "999999", "000001", "12345678"] {
        let outcome = read_answer(200, json!({ "statusCode": code }).to_string().as_bytes());
        assert_eq!(outcome, Outcome::of(Class::ProviderError, code));
    }
}

#[test]
fn a_success_is_read_in_every_form_it_may_take() {
    let forms = [
        TAKEN.to_owned(),
        format!("\r\n{TAKEN}\n"),
        TAKEN.replace("\"000000\"", "0"),
        TAKEN.replace("\"ff", "\" ff"), // so in the vendor's own printed example
        TAKEN.replace("templateSMS", "TemplateSMS"),
        TAKEN.replace("{\"statusCode", "{\"news\":[1],\"statusCode"),
    ];
    for form in forms {
        assert_eq!(read_answer(200, form.as_bytes()), Outcome::accepted(SID), "{form}");
    }
}

#[test]
fn what_cannot_be_read_is_an_unknown_outcome() {
    let deep = "[".repeat(60_000);
    let long_id = json!({ "statusCode": SUCCESS, "templateSMS": {
        "smsMessageSid": "a".repeat(65) } });
    let bodies: Vec<(&[u8], &str)> = vec![
        (b"", "empty-answer"),
        (b" \r\n", "empty-answer"),
        (b"null", "no-status-code"),
        (b"[]", "no-status-code"),
        (b"0", "no-status-code"),
        (b"\"000000\"", "no-status-code"),
        (b"{}", "no-status-code"),
        ("{\"172001\":\"网络错误\"}".as_bytes(), "no-status-code"),
        (br#"{"StatusCode":"000000"}"#, "no-status-code"),
        (br#"{"statusCode":null}"#, "garbled"),
        (br#"{"statusCode":""}"#, "garbled"),
        (br#"{"statusCode":"OK"}"#, "garbled"),
        (br#"{"statusCode":"-1"}"#, "garbled"),
        (br#"{"statusCode":"+60038"}"#, "garbled"),
        (br#"{"statusCode":-1}"#, "garbled"),
        (br#"{"statusCode":0.5}"#, "garbled"),
        (br#"{"statusCode":true}"#, "garbled"),
        (br#"{"statusCode":["000000"]}"#, "garbled"),
        (br#"{"statusCode":"160038160038"}"#, "garbled"),
        (br#"{"statusCode":"13800138000"}"#, "garbled"),
        ("{\"statusCode\":\"０００000\"}".as_bytes(), "garbled"),
        ("{\"statusCode\":\"您的验证码是004217\"}".as_bytes(), "garbled"),
        (b"{\"statusCode\":\"160038\",\"statusMsg\":\"\xb7\xa2\"}", "garbled"),
        (b"\xff\xfe{\0}\0", "garbled"),
        (br#"{"statusCode":"160038"}{"statusCode":"000000"}"#, "garbled"),
        (b"statusCode=000000", "garbled"),
        (b"<html>502</html>", "garbled"),
        (b"<html><statusCode>160038</statusCode></html>", "garbled"),
        (b"<Response></Response>", "garbled"),
        (b"<Response><statusCode>160038</Response>", "garbled"),
        (b"<Response><statusCode>000000</statusCode></Response>", "no-message-id"),
        (deep.as_bytes(), "garbled"),
        (br#"{"statusCode":"000000"}"#, "no-message-id"),
        (br#"{"statusCode":"000000","templateSMS":"ok"}"#, "no-message-id"),
        (br#"{"statusCode":"000000","templateSMS":{"smsMessageSid":""}}"#, "no-message-id"),
        (br#"{"statusCode":"000000","templateSMS":{"smsMessageSid":"<b>"}}"#, "no-message-id"),
    ];
    let long_id = long_id.to_string();
    for (body, what) in bodies.into_iter().chain([(long_id.as_bytes(), "no-message-id")]) {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]);
        assert_eq!(read_answer(200, body), unknown(what), "{shown}");
    }
}

#[test]
fn only_status_200_says_anything() {
    for status in [100, 201, 204, 302, 400, 401, 403, 404, 408, 429, 500, 502, 503, 504, 599] {
        let outcome = read_answer(status, TAKEN.as_bytes());
        assert_eq!(outcome, unknown(format!("http-{status}")));
    }
}

#[test]
fn an_answer_that_breaks_off_anywhere_is_an_unknown_outcome() {
    let xml = &recorded().answers["success_xml"].body;
    for whole in [TAKEN, xml, r#"{"statusCode":"160038","statusMsg":"短信"}"#] {
        for end in 0..whole.len() {
            let outcome = read_answer(200, &whole.as_bytes()[..end]);
            assert_eq!(outcome.class, Class::UnknownOutcome, "{end} bytes of {whole}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let outcome = read_answer(200, &body);
        prop_assert_eq!(outcome.class, Class::UnknownOutcome);
        prop_assert_eq!(read_pushed(&body), vec![]);
    }

    #[test]
    fn a_vendor_code_is_a_short_number_or_a_word_of_ours(code in "\\PC{0,12}|[0-9]{0,12}") {
        let outcome = read_answer(200, json!({ "statusCode": code }).to_string().as_bytes());
        let number = (6..=8).contains(&outcome.vendor_code.len())
            && outcome.vendor_code.bytes().all(|byte| byte.is_ascii_digit());
        let ours = ["garbled", "no-message-id"].contains(&outcome.vendor_code.as_str());
        prop_assert!(number || ours, "{outcome:?}");
    }
}

// --- over the wire ------------------------------------------------------------------------

fn taken() -> Script {
    answer("200 OK\r\nContent-Type: application/json;charset=UTF-8", TAKEN.as_bytes())
}

fn provider(base_url: &str) -> Yuntongxun {
    let client = transport::client().unwrap();
    Yuntongxun::new(settings(base_url), client, Clock::manual(WALL))
}

#[tokio::test]
async fn a_message_goes_out_as_the_vendor_wants_it() {
    let (base_url, requests) = vendor(taken()).await;
    // A slash too many in the configuration does no harm.
    let outcome = provider(&format!("{base_url}/")).send(&a_message()).await;
    assert_eq!(outcome, Outcome::accepted(SID));
    let requests = requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 1);
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let case = &cases()[0];
    assert_eq!(line, format!("POST {}?{} HTTP/1.1", case.path, case.query));
    for header in [
        "accept: application/json",
        "content-type: application/json;charset=utf-8",
        &format!("authorization: {}", case.authorization),
        &format!("content-length: {}", body.len()),
    ] {
        assert!(headers.lines().any(|line| line == header), "{header} in {headers}");
    }
    let expected = json!({
        "to": "13800138000",
        "appId": case.app_id,
        "templateId": "1",
        "datas": ["004217", "5"],
        "reqId": REFERENCE,
    });
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
}

#[tokio::test]
async fn a_signature_carries_the_walls_time_and_not_the_timelines() {
    let (base_url, requests) = vendor(taken()).await;
    let clock = Clock::manual(WALL);
    clock.jump_wall(1_704_067_199_000 - WALL);
    let client = transport::client().unwrap();
    Yuntongxun::new(settings(&base_url), client, clock).send(&a_message()).await;
    let case = &cases()[1];
    assert_eq!(case.timestamp, "20240101075959");
    assert!(requests.lock().unwrap()[0].contains(&case.query));
}

#[tokio::test]
async fn a_number_outside_the_mainland_is_refused_without_a_call() {
    let (base_url, requests) = vendor(taken()).await;
    for e164 in ["+85291234567", "+85366123456", "+886912345678", "+14155550123", "+861064000"] {
        let message = message(e164, "004217", 5, REFERENCE);
        let outcome = provider(&base_url).send(&message).await;
        assert_eq!(outcome, Outcome::of(Class::UnsupportedDestination, "mainland-only"));
    }
    assert!(requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn whatever_goes_wrong_on_the_wire_has_its_outcome() {
    let make = |url: &str, client| -> Arc<dyn Provider> {
        Arc::new(Yuntongxun::new(settings(url), client, Clock::manual(WALL)))
    };
    stub::assert_wire(&make, "200 OK", TAKEN, SID).await;
    for base_url in ["", "not a url", "http://"] {
        let outcome = provider(base_url).send(&a_message()).await;
        assert_eq!(outcome, Outcome::of(Class::NotSent, "no-connection"), "{base_url}");
    }
}

#[tokio::test]
async fn neither_token_nor_signature_nor_code_is_ever_printed() {
    let case = &cases()[0];
    let quoting = format!(
        r#"{{"statusCode":"{} {TOKEN} 004217","statusMsg":"验证码004217 13800138000"}}"#,
        case.sig
    );
    let refusing = quoting.replace("004217\",", "160038\",");
    let make = |url: &str, client| -> Arc<dyn Provider> {
        Arc::new(Yuntongxun::new(settings(url), client, Clock::manual(WALL)))
    };
    let secrets = [case.sig.as_str(), TOKEN, &case.authorization];
    stub::assert_silent(&make, &[TAKEN, &quoting, &refusing], &secrets).await;
    let unfit = Settings { auth_token: format!("{TOKEN} ").into(), ..settings("http://x") };
    let printed = format!("{unfit:?} {:?}", unfit.check(6).unwrap_err());
    assert!(!printed.contains(TOKEN), "{printed}");
}
