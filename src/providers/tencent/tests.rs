use proptest::prelude::*;

use super::*;
use crate::providers::codes::assert_is_the_map;
use crate::providers::stub::{
    self, REFERENCE, Seen, WALL, a_message, answer, cases, message, name, vendor,
};

const SECRET: &str = "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE";
const SERIAL: &str = "5000:10457100000000";
const TAKEN: &str = r#"{"Response":{"SendStatusSet":[{"SerialNo":"5000:10457100000000",
    "PhoneNumber":"+8613800138000","Fee":1,"SessionContext":"","Code":"Ok",
    "Message":"send success","IsoCode":"CN"}],"RequestId":"a0aabda6"}}"#;
const VECTORS: &str = include_str!("../../../tests/vectors/tencent.json");
const RESPONSES: &str = include_str!("../../../tests/vectors/responses_tencent.json");
const MAP: &str = include_str!("../../../tests/vectors/error_map_tencent.json");

fn settings(base_url: &str) -> Settings {
    Settings {
        name: "qq".to_owned(),
        base_url: base_url.to_owned(),
        secret_id: "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE".to_owned(),
        secret_key: SECRET.into(),
        region: region(),
        sdk_app_id: "1400006666".to_owned(),
        sign_name: "TestSign".to_owned(),
        template_id: "449739".to_owned(),
        template_params: kind::code_and_minutes(),
        sender_id: String::new(),
    }
}

fn make(base_url: &str, client: reqwest::Client) -> Arc<dyn Provider> {
    Arc::new(Tencent::new(settings(base_url), client, Clock::manual(WALL)))
}

fn provider(base_url: &str) -> Tencent {
    Tencent::new(settings(base_url), transport::client().unwrap(), Clock::manual(WALL))
}

// --- requests ---------------------------------------------------------------------------------

/// What is signed like anything else and is not what we send, and why.
const NOT_SENT: [(&str, &str); 8] = [
    ("tc3_chinese", "values are digits"),
    ("tc3_odd_characters", "values are digits"),
    ("tc3_token_and_language", "keys that do not expire"),
    ("tc3_get_method", "we POST"),
    ("doc_known_answer_tc3", "another product"),
    ("node_tc3_three_numbers", "one number per request"),
    ("tc3_pull_sms_send_status", "checked by itself"),
    ("tc3_pull_by_phone", "checked by itself"),
];

fn wall(case: &Value) -> Millis {
    case["inputs"]["frozen_epoch"].as_i64().unwrap() * 1000 + 999
}

/// The settings that a case was made with.
fn of(case: &Value) -> Settings {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let params = &case["inputs"]["params"];
    Settings {
        secret_id: text(&case["inputs"]["secret_id"]),
        secret_key: text(&case["inputs"]["secret_key"]).into(),
        sign_name: text(&params["SignName"]),
        template_id: text(&params["TemplateId"]),
        sender_id: text(&params["SenderId"]),
        ..settings(&format!("https://{}", text(&case["request"]["host"])))
    }
}

#[test]
fn every_vector_is_signed_by_us_alike() {
    let mut signed = 0;
    for case in cases(VECTORS).iter().filter(|case| name(case) != "tc3_get_method") {
        let headers = &case["request"]["headers"];
        let content_type = headers["Content-Type"].as_str().unwrap();
        let service = case["request"]["host"].as_str().unwrap().split('.').next().unwrap();
        let body = case["request"]["body"].as_str().unwrap().as_bytes();
        let ours = authorization(&of(case), service, wall(case), content_type, body);
        let signature = case["signing"]["signature"].as_str().unwrap();
        assert!(ours.ends_with(&format!("Signature={signature}")), "{}", name(case));
        if let Some(theirs) = case["signing"]["authorization"].as_str() {
            assert_eq!(ours, theirs, "{}", name(case));
        }
        assert_eq!(headers["X-TC-Timestamp"], seconds(wall(case)).to_string(), "{}", name(case));
        signed += 1;
    }
    assert_eq!((signed, signed + 1), (cases(VECTORS).len() - 1, cases(VECTORS).len()));
    assert_eq!(signed, CASES - 1);
}

const CASES: usize = 11;

#[test]
fn every_vector_that_we_can_send_has_our_body() {
    let mut sent = Vec::new();
    for case in &cases(VECTORS) {
        if NOT_SENT.iter().any(|(it, _)| *it == name(case)) {
            continue;
        }
        let theirs = &case["inputs"]["params"];
        let phone = theirs["PhoneNumberSet"][0].as_str().unwrap();
        let code = theirs["TemplateParamSet"][0].as_str().unwrap();
        let reference = theirs["SessionContext"].as_str().unwrap_or(REFERENCE);
        let params = kind::code_and_minutes();
        let count = theirs["TemplateParamSet"].as_array().unwrap().len();
        let settings = Settings { template_params: params[..count].to_vec(), ..of(case) };
        let ours = send_sms(&settings, &message(phone, code, 5, reference));
        let mut expected = theirs.clone();
        expected.as_object_mut().unwrap().remove("ExtendCode"); // an extension we do not use
        expected["SessionContext"] = json!(reference);
        assert_eq!(serde_json::from_str::<Value>(&ours).unwrap(), expected, "{}", name(case));
        if name(case).starts_with("node") {
            let context = format!(",\"SessionContext\":\"{reference}\"");
            assert_eq!(ours.replace(&context, ""), case["request"]["body"], "byte for byte");
        }
        sent.push(name(case).to_owned());
    }
    assert_eq!(sent, ["tc3_ascii_single", "tc3_session_context_intl", "node_tc3_ascii_single"]);
    assert_eq!(sent.len() + NOT_SENT.len(), cases(VECTORS).len());
}

#[test]
fn asking_for_receipts_is_the_vectors() {
    let cases = cases(VECTORS);
    let find = |wanted: &str| cases.iter().find(|case| name(case) == wanted).unwrap();
    let case = find("tc3_pull_sms_send_status");
    let ours: Value = serde_json::from_str(&pull_status(&settings(BASE_URL))).unwrap();
    assert_eq!(ours, case["inputs"]["params"]);
    let case = find("tc3_pull_by_phone");
    let ours = pull_by_phone(&settings(BASE_URL), EXAMPLE, WALL);
    assert_eq!(serde_json::from_str::<Value>(&ours).unwrap(), case["inputs"]["params"]);
    let receipts = read_pulled(&case["response_fed"]["Response"]).unwrap();
    let expected = Receipt {
        about: "otp-0001".into(),
        message_id: SERIAL.to_owned(),
        arrived: true,
        vendor_code: "DELIVRD".to_owned(),
    };
    assert_eq!(receipts, [expected]);
}

#[tokio::test]
async fn a_message_goes_out_as_the_vendor_wants_it() {
    let (base_url, requests) = vendor(answer("200 OK", TAKEN.as_bytes())).await;
    assert_eq!(provider(&base_url).send(&a_message()).await, Outcome::accepted(SERIAL));
    let seen = Seen::only(&requests);
    assert_eq!(seen.line, "POST / HTTP/1.1");
    for (header, value) in [
        ("content-type", "application/json"),
        ("x-tc-action", "SendSms"),
        ("x-tc-version", "2021-01-11"),
        ("x-tc-region", "ap-guangzhou"),
        ("x-tc-timestamp", "1735749045"),
    ] {
        assert_eq!(seen.header(header), value);
    }
    // Whoever checks the signature signs what arrived.
    let signed = authorization(&settings(&base_url), "sms", WALL, JSON, seen.body.as_bytes());
    assert_eq!(seen.header("authorization"), signed);
    assert!(signed.contains("/2025-01-01/sms/tc3_request"), "the date is Greenwich's");
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(body["TemplateParamSet"], json!(["004217", "5"]));
    assert_eq!(body["SessionContext"], REFERENCE);
}

// --- settings ---------------------------------------------------------------------------------

#[test]
fn settings_that_cannot_work_are_named_with_a_remedy() {
    let good = || settings(BASE_URL);
    assert!(good().check(6).is_ok());
    let wrong = [
        ("base_url", settings("sms.tencentcloudapi.com"), 6),
        ("secret_id", Settings { secret_id: String::new(), ..good() }, 6),
        ("secret_key", Settings { secret_key: "a b".into(), ..good() }, 6),
        ("region", Settings { region: String::new(), ..good() }, 6),
        ("sdk_app_id", Settings { sdk_app_id: "app".into(), ..good() }, 6),
        ("sign_name", Settings { sign_name: "【腾讯云】".into(), ..good() }, 6),
        ("template_id", Settings { template_id: "SMS_1".into(), ..good() }, 6),
        ("template_params", Settings { template_params: vec![], ..good() }, 6),
        ("template_params", Settings { template_params: vec![Param::Code; 2], ..good() }, 6),
        ("template_params", good(), 7),
        ("sender_id", Settings { sender_id: "é".into(), ..good() }, 6),
    ];
    for (key, settings, digits) in wrong {
        let Err(Misfit::Unfit(unfit)) = settings.check(digits) else { panic!("{key}") };
        assert_eq!(unfit.iter().map(|unfit| unfit.key).collect::<Vec<_>>(), [key]);
        assert!(unfit[0].advice.len() > 40, "{key}");
    }
    assert!(Settings { sign_name: "腾讯云".into(), ..good() }.check(6).is_ok());
}

// --- answers ----------------------------------------------------------------------------------

fn outcome(status: u16, body: &str, phone: &str) -> Outcome {
    read_response(status, body.as_bytes())
        .map_or_else(|outcome| outcome, |response| read_sent(&response, phone))
}

#[test]
fn every_recorded_answer_has_its_class() {
    let recorded: Value = serde_json::from_str(RESPONSES).unwrap();
    let answers = recorded["answers"].as_object().unwrap();
    assert_eq!(answers.len(), 13);
    for (name, answer) in answers {
        let status = u16::try_from(answer["http_status"].as_u64().unwrap()).unwrap();
        let classes = match &answer["expected_class"] {
            Value::Array(classes) => classes.clone(),
            class => vec![class.clone()],
        };
        for (place, class) in classes.iter().enumerate() {
            let phone = format!("+861380013800{place}");
            let outcome = outcome(status, answer["body"].as_str().unwrap(), &phone);
            assert_eq!(outcome.class.as_str(), class, "{name}");
        }
    }
}

#[test]
fn every_code_of_the_map_has_its_class_wherever_it_stands() {
    assert_is_the_map(errors::TABLE, MAP, 114);
    for entry in errors::TABLE.iter().filter(|entry| entry.first != SUCCESS) {
        let code = entry.first;
        let forms = [
            json!({ "Response": { "Error": { "Code": code, "Message": "13800138000" } } }),
            json!({ "Response": { "SendStatusSet": [{ "Code": code, "SerialNo": "" }] } }),
            json!({ "Response": { "SendStatusSet": [
                { "Code": SUCCESS, "SerialNo": "1:1", "PhoneNumber": "+8613900139000" },
                { "Code": code, "SerialNo": "1:2", "PhoneNumber": EXAMPLE },
            ] } }),
        ];
        for form in forms {
            let outcome = outcome(200, &form.to_string(), EXAMPLE);
            assert_eq!(outcome, Outcome::of(entry.class, code), "{form}");
        }
        assert!(explain(code).unwrap().starts_with(code));
    }
}

#[test]
fn a_code_that_is_not_on_the_list_is_classed_by_its_family() {
    for (code, class) in [
        ("AuthFailure.SomethingNew", Class::AuthFailed),
        ("UnauthorizedOperation.SomethingNew", Class::AuthFailed),
        ("RequestLimitExceeded.SomethingNew", Class::RateLimitedAccount),
        ("InternalError.SomethingNew", Class::UnknownOutcome),
        ("FailedOperation.SomethingNew", Class::UnknownOutcome),
        ("InvalidParameter.SomethingNew", Class::BadRequest),
        ("InvalidParameterValue.SomethingNew", Class::BadRequest),
        ("LimitExceeded.SomethingNew", Class::ProviderError),
        ("SomethingNew", Class::ProviderError),
    ] {
        let body = json!({ "Response": { "Error": { "Code": code } } }).to_string();
        assert_eq!(outcome(200, &body, EXAMPLE), Outcome::of(class, code));
    }
}

#[test]
fn what_cannot_be_read_is_an_unknown_outcome() {
    let deep = "[".repeat(60_000);
    let set = |entries: Value| json!({ "Response": { "SendStatusSet": entries } }).to_string();
    let other = json!({ "Code": "Ok", "SerialNo": "1:1", "PhoneNumber": "+8613900139000" });
    let bodies = [
        (String::new(), "empty-answer"),
        (" \n".to_owned(), "empty-answer"),
        ("null".to_owned(), "no-response"),
        ("{}".to_owned(), "no-response"),
        (r#"{"Response":[]}"#.to_owned(), "no-response"),
        (r#"{"Response":{}}"#.to_owned(), "no-status"),
        (r#"{"Response":{"Error":{}}}"#.to_owned(), "garbled"),
        (r#"{"Response":{"Error":{"Code":"Ok"}}}"#.to_owned(), "garbled"),
        (r#"{"Response":{"Error":{"Code":"13800138000"}}}"#.to_owned(), "garbled"),
        (set(json!([])), "no-status"),
        (set(json!([other, other])), "no-status"),
        (set(json!([{}])), "garbled"),
        (set(json!([{ "Code": "Ok" }])), "no-message-id"),
        (set(json!([{ "Code": "Ok", "SerialNo": "" }])), "no-message-id"),
        (set(json!([{ "Code": "OK 004217", "SerialNo": "1:1" }])), "garbled"),
        ("<html>502</html>".to_owned(), "garbled"),
        (format!("{TAKEN}{TAKEN}"), "garbled"),
        (deep, "garbled"),
    ];
    for (body, what) in bodies {
        assert_eq!(outcome(200, &body, EXAMPLE), unknown(what), "{body:.80}");
    }
    for status in [100, 201, 204, 301, 302, 400, 401, 403, 404, 429, 500, 502, 503] {
        assert_eq!(outcome(status, TAKEN, EXAMPLE), unknown(format!("http-{status}")));
    }
}

#[test]
fn an_answer_that_breaks_off_anywhere_is_an_unknown_outcome() {
    for end in 0..TAKEN.len() {
        assert_eq!(outcome(200, &TAKEN[..end], EXAMPLE).class, Class::UnknownOutcome, "{end}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read_response(200, &body).is_err());
        prop_assert_eq!(read_pushed(&body), vec![]);
    }
}

// --- receipts ---------------------------------------------------------------------------------

fn pushed() -> Value {
    let recorded: Value = serde_json::from_str(RESPONSES).unwrap();
    recorded["receipts"]["body"].clone()
}

#[test]
fn pushed_receipts_name_the_phone_and_the_vendors_name_of_the_message() {
    let receipt = |phone: &str, id: &str, arrived, code: &str| Receipt {
        about: About::Phone(Phone::from_e164(phone).unwrap()),
        message_id: id.to_owned(),
        arrived,
        vendor_code: code.to_owned(),
    };
    let told = |at: usize, name: &str| pushed()[at][name].as_str().unwrap().to_owned();
    let phone = |at: usize| format!("+{}{}", told(at, "nationcode"), told(at, "mobile"));
    let expected = [
        receipt(&phone(0), "5000:1045710669157053657849499619", true, "DELIVRD"),
        receipt(&phone(1), &told(1, "sid"), false, "MK:0001"),
    ];
    let (body, headers) = (pushed().to_string(), reqwest::header::HeaderMap::new());
    let pushed_ = Pushed { url: "", headers: &headers, body: body.as_bytes() };
    let read = provider("http://127.0.0.1:1").read_receipts(&pushed_).unwrap();
    assert_eq!((&read.receipts[..], read.reply), (&expected[..], REPLY));
    for field in ["sid", "report_status", "mobile", "nationcode"] {
        for odd in [json!(null), json!([]), json!({}), json!("<x>")] {
            if (field, &odd) == ("report_status", &json!("<x>")) {
                continue; // whatever is not SUCCESS did not arrive
            }
            let mut broken = pushed();
            broken[0][field] = odd;
            assert_eq!(read_pushed(broken.to_string().as_bytes()).len(), 1, "{field}");
        }
    }
}

#[tokio::test]
async fn a_message_without_an_answer_is_looked_up_by_its_number() {
    let cases = cases(VECTORS);
    let case = cases.iter().find(|case| name(case) == "tc3_pull_by_phone").unwrap();
    let mut body = case["response_fed"].clone();
    let entry = json!({ "SessionContext": REFERENCE, "SerialNo": SERIAL, "ReportStatus": "SUCCESS",
        "Description": "DELIVRD" });
    body["Response"]["PullSmsSendStatusSet"] = json!([{ "SessionContext": "another" }, entry]);
    let (base_url, requests) = vendor(answer("200 OK", body.to_string().as_bytes())).await;
    let sent = Sent {
        reference: REFERENCE.to_owned(),
        phone: a_message().phone,
        message_id: None,
        text: Some(a_message().text),
        wall: WALL,
    };
    let provider_ = provider(&base_url);
    let found = provider_.look_up(&sent).await.unwrap();
    let (about, vendor_code) = (REFERENCE.into(), "DELIVRD".to_owned());
    let message_id = SERIAL.to_owned();
    let expected = Receipt { about, message_id, arrived: true, vendor_code };
    assert_eq!(found, Found::Settled(expected));
    assert_eq!(provider_.looks_up(), LooksUp::Unknown);
    let seen = Seen::only(&requests);
    assert_eq!(seen.header("x-tc-action"), "PullSmsSendStatusByPhoneNumber");
    let asked: Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(asked["PhoneNumber"], "+8613800138000");
    let other = Sent { reference: "other".to_owned(), ..sent };
    assert_eq!(provider_.look_up(&other).await, Ok(Found::Nothing));
}

#[tokio::test]
async fn pulled_receipts_are_read_and_failures_never_claim_a_message() {
    let cases = cases(VECTORS);
    let case = cases.iter().find(|case| name(case) == "tc3_pull_sms_send_status").unwrap();
    let body = case["response_fed"].to_string();
    let (base_url, requests) = vendor(answer("200 OK", body.as_bytes())).await;
    let receipts = provider(&base_url).pull_receipts().await.unwrap();
    assert_eq!((receipts.len(), receipts[0].about.clone()), (1, "otp-0001".into()));
    assert_eq!(Seen::only(&requests).header("x-tc-action"), "PullSmsSendStatus");
    for (status, body, class, code) in [
        ("502 Bad Gateway", "", Class::ProviderError, "http-502"),
        ("200 OK", "<html>", Class::ProviderError, "garbled"),
        (
            "200 OK",
            r#"{"Response":{"Error":{"Code":"AuthFailure.SecretIdNotFound"}}}"#,
            Class::AuthFailed,
            "AuthFailure.SecretIdNotFound",
        ),
        (
            "200 OK",
            r#"{"Response":{"Error":{"Code":"InternalError.Timeout"}}}"#,
            Class::ProviderError,
            "InternalError.Timeout",
        ),
    ] {
        let (base_url, requests) = vendor(answer(status, body.as_bytes())).await;
        let provider = provider(&base_url);
        assert_eq!(provider.pull_receipts().await, Err(Outcome::of(class, code)));
        assert_eq!(provider.try_credentials().await, Err(Outcome::of(class, code)));
        let requests = requests.lock().unwrap();
        assert!(requests[1].contains("PullSmsSendStatusByPhoneNumber"), "nothing is lost");
    }
}

// --- over the wire ----------------------------------------------------------------------------

#[tokio::test]
async fn whatever_goes_wrong_on_the_wire_has_its_outcome() {
    stub::assert_wire(&make, "200 OK", TAKEN, SERIAL).await;
}

#[tokio::test]
async fn neither_key_nor_code_is_ever_printed() {
    let quoting = format!(
        r#"{{"Response":{{"Error":{{"Code":"{SECRET} 004217","Message":"13800138000"}}}}}}"#
    );
    let refusing = r#"{"Response":{"Error":{"Code":"AuthFailure.SignatureFailure"}}}"#;
    stub::assert_silent(&make, &[TAKEN, &quoting, refusing], &[SECRET, "Signature="]).await;
    let unfit = Settings { secret_key: format!("{SECRET} ").into(), ..settings(BASE_URL) };
    let printed = format!("{unfit:?} {:?}", unfit.check(6).unwrap_err());
    assert!(!printed.contains(SECRET), "{printed}");
}
