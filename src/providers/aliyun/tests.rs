use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::providers::codes::assert_is_the_map;
use crate::providers::stub::{
    self, REFERENCE, Seen, WALL, a_message, answer, cases, message, name, pairs, vendor,
};

const SECRET: &str = "FakeSecretFakeSecretFakeSecret";
const NONCE: &str = "3156853299f313e23d1673dc12e1703d";
const BIZ_ID: &str = "900619746936498440^0";
const TAKEN: &str = r#"{"Message":"OK","RequestId":"F655A8D5-B967-440B-8683-DAD6FF8DE990",
    "Code":"OK","BizId":"900619746936498440^0"}"#;
const VECTORS: &str = include_str!("../../../tests/vectors/aliyun.json");
const RESPONSES: &str = include_str!("../../../tests/vectors/responses_aliyun.json");
const MAP: &str = include_str!("../../../tests/vectors/error_map_aliyun.json");

fn settings(base_url: &str) -> Settings {
    Settings {
        name: "ali".to_owned(),
        base_url: base_url.to_owned(),
        access_key_id: "LTAI5tFakeKeyId00000001".to_owned(),
        access_key_secret: SECRET.into(),
        sign_name: "TestSign".to_owned(),
        template_code: "SMS_71390007".to_owned(),
        template_params: code_only(),
    }
}

fn provider(base_url: &str) -> Aliyun {
    Aliyun::new(settings(base_url), transport::client().unwrap(), Clock::manual(WALL))
}

fn make(base_url: &str, client: reqwest::Client) -> Arc<dyn Provider> {
    Arc::new(Aliyun::new(settings(base_url), client, Clock::manual(WALL)))
}

// --- requests ---------------------------------------------------------------------------------

/// Cases signed the older way (RPC), which we do not speak.
const OLDER: [&str; 7] = [
    "rpc_v2_tea_ascii",
    "rpc_v1_ascii_post",
    "rpc_v1_chinese_get",
    "rpc_v1_three_numbers",
    "rpc_v1_odd_characters",
    "rpc_v1_http_plain",
    "doc_known_answer_rpc_v1",
];
/// What these ask for is signed like anything else and is not what we send, and why.
const NOT_SENT: [(&str, &str); 9] = [
    ("v3_three_numbers", "one number per request"),
    ("v3_odd_characters", "values are digits"),
    ("v3_chinese_sign_and_param", "values are digits"),
    ("v3_sts_token", "keys that do not expire"),
    ("doc_known_answer_acs3", "another product"),
    ("derived_v3_min_three_numbers", "one number per request"),
    ("derived_v3_min_odd", "values are digits"),
    ("node_v3_three_numbers", "one number per request"),
    ("v3_query_send_details", "checked by itself"),
];

fn of(case: &Value) -> Settings {
    let text = |name: &str| case["inputs"][name].as_str().unwrap().to_owned();
    Settings {
        access_key_id: text("access_key_id"),
        access_key_secret: text("access_key_secret").into(),
        ..settings(&format!("https://{}", case["request"]["host"].as_str().unwrap()))
    }
}

#[test]
fn every_vector_of_this_signature_is_signed_by_us_alike() {
    let mut signed = 0;
    for case in cases(VECTORS).iter().filter(|case| !OLDER.contains(&name(case))) {
        let canonical = case["signing"]["canonical_request"].as_str().unwrap();
        let parts: Vec<&str> = canonical.split('\n').collect();
        let (head, tail) = (&parts[..3], &parts[parts.len() - 2..]);
        let headers: Vec<_> =
            parts[3..parts.len() - 3].iter().map(|line| line.split_once(':').unwrap()).collect();
        // Some clients write a space as `+` in the URL; what is signed is the same.
        let query = pairs(case["request"]["query"].as_str().unwrap());
        let query = signing::query(query.iter().map(|(name, value)| (&**name, &**value)));
        let ours = Canonical {
            method: head[0],
            path: head[1],
            query: &query,
            headers: &headers,
            payload: tail[1],
        };
        assert_eq!(ours.text(), canonical, "{}", name(case));
        let authorization = authorization(&of(case), &ours);
        let signature = case["signing"]["signature"].as_str().unwrap();
        assert!(authorization.ends_with(&format!("Signature={signature}")), "{}", name(case));
        let theirs = case["request"]["headers"]["Authorization"].as_str().unwrap();
        assert_eq!(authorization, theirs, "{}", name(case));
        signed += 1;
    }
    assert_eq!((signed, signed + OLDER.len()), (13, cases(VECTORS).len()));
}

#[test]
fn the_documented_minimum_is_what_we_send_header_for_header() {
    let mut same = 0;
    for case in cases(VECTORS).iter().filter(|case| name(case).starts_with("derived_v3_min")) {
        let given = case["inputs"]["params"].as_object().unwrap();
        let names = ["OutId", "PhoneNumbers", "SignName", "TemplateCode", "TemplateParam"];
        let params = names.into_iter().filter_map(|name| {
            given.get(name).map(|value| (name, value.as_str().unwrap().to_owned()))
        });
        let params: Params = params.collect();
        assert_eq!(params.len(), given.len());
        let wall = case["inputs"]["frozen_epoch"].as_i64().unwrap() * 1000 + 999;
        let signed = Signed::new(&of(case), wall, NONCE, "SendSms", &params);
        assert_eq!(signed.query, case["request"]["query"], "{}", name(case));
        let headers = case["request"]["headers"].as_object().unwrap();
        for (header, value) in &signed.headers {
            assert_eq!(headers[*header], *value, "{header} of {}", name(case));
        }
        assert_eq!(headers["Authorization"], signed.authorization, "{}", name(case));
        assert_eq!(headers.len(), signed.headers.len() + 1, "{}", name(case));
        same += 1;
    }
    assert_eq!(same, 3);
}

#[test]
fn every_vector_that_we_can_send_has_our_parameters() {
    let mut sent = Vec::new();
    for case in &cases(VECTORS) {
        let unlike =
            OLDER.contains(&name(case)) || NOT_SENT.iter().any(|(it, _)| *it == name(case));
        if unlike {
            continue;
        }
        let message = message("+8613800138000", "482913", 5, "abcdefgh");
        let mut ours = send_sms(&settings(BASE_URL), &message);
        let mut theirs = case["inputs"]["params"].clone();
        let theirs = theirs.as_object_mut().unwrap();
        theirs.remove("SmsUpExtendCode"); // an extension we do not use
        if !theirs.contains_key("OutId") {
            ours.remove("OutId");
        }
        assert_eq!(serde_json::to_value(ours).unwrap(), json!(theirs), "{}", name(case));
        assert_eq!(
            (&case["request"]["method"], &case["request"]["path"]),
            (&json!("POST"), &json!("/"))
        );
        sent.push(name(case).to_owned());
    }
    let expected =
        ["v3_ascii_single", "v3_out_id_and_extend", "derived_v3_min_ascii", "node_v3_ascii_single"];
    assert_eq!(sent, expected);
    assert_eq!(sent.len() + OLDER.len() + NOT_SENT.len(), cases(VECTORS).len());
}

#[test]
fn asking_about_a_message_is_the_vector() {
    let cases = cases(VECTORS);
    let case = cases.iter().find(|case| name(case) == "v3_query_send_details").unwrap();
    let ours = query_send_details("13800138000", WALL, Some(BIZ_ID));
    let query = signing::query(ours.iter().map(|(name, value)| (*name, value.as_str())));
    assert_eq!(query, case["request"]["query"]);
    let sent = sent();
    let reply = Reply::read(200, case["response_fed"].to_string().as_bytes()).unwrap();
    let receipts: Vec<_> = reply.details().filter_map(|it| found(it, &sent)).collect();
    assert_eq!(receipts, [], "it is another message's");
    let ours = Sent { reference: "123".to_owned(), ..sent };
    let found = reply.details().find_map(|it| found(it, &ours)).unwrap();
    let Found::Settled(receipt) = found else { panic!("{found:?}") };
    assert_eq!((receipt.arrived, receipt.vendor_code.as_str()), (true, "DELIVERED"));
}

#[test]
fn variables_are_named_as_the_template_names_them_and_texts() {
    let params = BTreeMap::from([("no".to_owned(), Param::Code), ("t".to_owned(), Param::Minutes)]);
    let settings = Settings { template_params: params, ..settings(BASE_URL) };
    let sent = send_sms(&settings, &message("+8613800138000", "000007", 5, REFERENCE));
    assert_eq!(sent["TemplateParam"], r#"{"no":"000007","t":"5"}"#);
    assert_eq!(sent["PhoneNumbers"], "13800138000");
    let abroad = send_sms(&settings, &message("+85261234567", "000007", 5, REFERENCE));
    assert_eq!(abroad["PhoneNumbers"], "85261234567");
}

#[tokio::test]
async fn a_message_goes_out_as_the_vendor_wants_it() {
    let (base_url, requests) = vendor(answer("200 OK", TAKEN.as_bytes())).await;
    let outcome = provider(&base_url).send(&a_message()).await;
    assert_eq!(outcome, Outcome::accepted(BIZ_ID));
    let seen = Seen::only(&requests);
    let query = seen.line.strip_prefix("POST /?").unwrap().strip_suffix(" HTTP/1.1").unwrap();
    let expected = [
        ("OutId", REFERENCE),
        ("PhoneNumbers", "13800138000"),
        ("SignName", "TestSign"),
        ("TemplateCode", "SMS_71390007"),
        ("TemplateParam", r#"{"code":"004217"}"#),
    ];
    assert_eq!(pairs(query), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    // Whoever checks the signature signs what arrived.
    let signed = ["host", "x-acs-action", "x-acs-content-sha256", "x-acs-date"];
    let signed = signed.into_iter().chain(["x-acs-signature-nonce", "x-acs-version"]);
    let headers: Vec<_> = signed.map(|name| (name, seen.header(name))).collect();
    let payload = &signing::sha256_hex(b"");
    let canonical = Canonical { method: "POST", path: "/", query, headers: &headers, payload };
    assert_eq!(seen.header("authorization"), authorization(&settings(&base_url), &canonical));
    assert_eq!(seen.header("x-acs-date"), "2025-01-01T16:30:45Z");
    assert_eq!((seen.header("x-acs-signature-nonce").len(), seen.body.as_str()), (32, ""));
}

// --- settings ---------------------------------------------------------------------------------

#[test]
fn settings_that_cannot_work_are_named_with_a_remedy() {
    let good = || settings(BASE_URL);
    assert!(good().check().is_ok());
    let minutes = BTreeMap::from([("t".to_owned(), Param::Minutes)]);
    let odd = BTreeMap::from([("${code}".to_owned(), Param::Code)]);
    let wrong = [
        ("base_url", settings("dysmsapi.aliyuncs.com")),
        ("access_key_id", Settings { access_key_id: "a b".into(), ..good() }),
        ("access_key_secret", Settings { access_key_secret: "".into(), ..good() }),
        ("sign_name", Settings { sign_name: "【阿里云】".into(), ..good() }),
        ("sign_name", Settings { sign_name: String::new(), ..good() }),
        ("template_code", Settings { template_code: "71390007".into(), ..good() }),
        ("template_code", Settings { template_code: "SMS_".into(), ..good() }),
        ("template_params", Settings { template_params: BTreeMap::new(), ..good() }),
        ("template_params", Settings { template_params: minutes, ..good() }),
        ("template_params", Settings { template_params: odd, ..good() }),
    ];
    for (key, settings) in wrong {
        let Err(Misfit::Unfit(unfit)) = settings.check() else { panic!("{key}") };
        assert_eq!(unfit.iter().map(|unfit| unfit.key).collect::<Vec<_>>(), [key]);
        assert!(unfit[0].advice.len() > 40, "{key}");
    }
    assert!(Settings { sign_name: "阿里云短信测试".into(), ..good() }.check().is_ok());
}

// --- answers ----------------------------------------------------------------------------------

fn outcome(status: u16, body: &str) -> Outcome {
    Reply::read(status, body.as_bytes()).map_or_else(|outcome| outcome, |reply| reply.sent())
}

#[test]
fn every_recorded_answer_has_its_class() {
    let recorded: Value = serde_json::from_str(RESPONSES).unwrap();
    let answers = recorded["answers"].as_object().unwrap();
    assert_eq!(answers.len(), 12);
    for (name, answer) in answers {
        let status = u16::try_from(answer["http_status"].as_u64().unwrap()).unwrap();
        let outcome = outcome(status, answer["body"].as_str().unwrap());
        assert_eq!(outcome.class.as_str(), answer["expected_class"], "{name}");
        if name == "success" {
            assert_eq!(outcome, Outcome::accepted(BIZ_ID));
        } else {
            assert_eq!(outcome.vendor_code, answer["code"], "{name}");
        }
    }
}

#[test]
fn every_code_of_the_map_has_its_class_with_every_status() {
    assert_is_the_map(errors::TABLE, MAP, 58);
    for entry in errors::TABLE.iter().filter(|entry| entry.first != SUCCESS) {
        for status in [200, 400, 403, 404, 429, 500, 503] {
            let body = json!({ "Code": entry.first, "Message": "13800138000" }).to_string();
            assert_eq!(outcome(status, &body), Outcome::of(entry.class, entry.first));
        }
        assert!(explain(entry.first).unwrap().starts_with(entry.first));
    }
}

#[test]
fn a_code_that_is_not_on_the_list_is_classed_by_its_family_or_status() {
    for (status, code, class) in [
        (200, "isv.SOMETHING_NEW", Class::ProviderError),
        (400, "Throttling.Something", Class::RateLimitedAccount),
        (200, "isp.SOMETHING_NEW", Class::UnknownOutcome),
        (400, "MissingOutId", Class::BadRequest),
        (403, "Forbidden.Something", Class::AuthFailed),
        (404, "Something", Class::BadRequest),
        (429, "Something", Class::RateLimitedAccount),
        (500, "Something", Class::UnknownOutcome),
        (503, "Something", Class::UnknownOutcome),
    ] {
        let body = json!({ "Code": code }).to_string();
        assert_eq!(outcome(status, &body), Outcome::of(class, code));
    }
}

#[test]
fn what_cannot_be_read_is_an_unknown_outcome() {
    let deep = "[".repeat(60_000);
    for (body, what) in [
        ("", "empty-answer"),
        (" \n", "empty-answer"),
        ("null", "no-code"),
        ("[]", "no-code"),
        ("{}", "no-code"),
        (r#"{"code":"OK"}"#, "no-code"),
        (r#"{"Code":1}"#, "garbled"),
        (r#"{"Code":""}"#, "garbled"),
        (r#"{"Code":"13800138000"}"#, "garbled"),
        (r#"{"Code":"您的验证码"}"#, "garbled"),
        (r#"{"Code":"OK"}"#, "no-message-id"),
        (r#"{"Code":"OK","BizId":""}"#, "no-message-id"),
        (r#"{"Code":"OK","BizId":"<b>"}"#, "no-message-id"),
        (r#"{"Code":"OK","BizId":"1^0"}{"#, "garbled"),
        ("<html>502</html>", "garbled"),
        ("Code=OK", "garbled"),
        (&deep, "garbled"),
    ] {
        assert_eq!(outcome(200, body), unknown(what), "{body:.80}");
    }
    for status in [100, 201, 204, 301, 302, 307] {
        assert_eq!(outcome(status, TAKEN), unknown(format!("http-{status}")));
    }
    for status in [400, 403, 502, 504] {
        assert_eq!(outcome(status, "<html>"), unknown(format!("http-{status}")));
    }
    assert_eq!(outcome(500, TAKEN), unknown("no-message-id"));
}

#[test]
fn an_answer_that_breaks_off_anywhere_is_an_unknown_outcome() {
    for whole in [TAKEN, r#"{"Code":"isv.AMOUNT_NOT_ENOUGH","Message":"x"}"#] {
        for end in 0..whole.len() {
            assert_eq!(outcome(200, &whole[..end]).class, Class::UnknownOutcome, "{end}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Reply::read(200, &body).is_err());
        prop_assert_eq!(read_pushed(&body), vec![]);
    }
}

// --- receipts ---------------------------------------------------------------------------------

fn sent() -> Sent {
    Sent {
        reference: REFERENCE.to_owned(),
        message_id: Some(BIZ_ID.to_owned()),
        phone: a_message().phone,
        text: None,
        wall: WALL,
    }
}

fn pushed() -> Value {
    let recorded: Value = serde_json::from_str(RESPONSES).unwrap();
    recorded["receipts"]["body"].clone()
}

#[test]
fn pushed_receipts_say_whether_messages_arrived() {
    let receipt = |reference: &str, id: &str, arrived, code: &str| Receipt {
        about: reference.into(),
        message_id: id.to_owned(),
        arrived,
        vendor_code: code.to_owned(),
    };
    let expected = [
        receipt("abcdefgh", BIZ_ID, true, "DELIVERED"),
        receipt("abcdefgi", "900619746936498441^0", false, "MOBILE_NOT_ON_SERVICE"),
    ];
    assert_eq!(read_pushed(pushed().to_string().as_bytes()), expected);
    let mut texts = pushed();
    texts[0]["success"] = json!("true");
    texts[1]["success"] = json!("false");
    assert_eq!(read_pushed(texts.to_string().as_bytes()), expected);
}

#[test]
fn a_receipt_without_a_needed_field_is_passed_over() {
    for field in ["out_id", "biz_id", "success"] {
        for odd in [json!(null), json!(""), json!([]), json!("<x>"), json!("maybe so")] {
            let mut broken = pushed();
            broken[0][field] = odd.clone();
            assert_eq!(read_pushed(broken.to_string().as_bytes()).len(), 1, "{field} {odd}");
        }
    }
    for body in ["", "null", "{}", "[", "[1,null,\"x\",[]]", "<xml/>"] {
        assert_eq!(read_pushed(body.as_bytes()), []);
    }
    let mut coded = pushed();
    coded[0]["err_code"] = json!("您的验证码004217");
    assert_eq!(read_pushed(coded.to_string().as_bytes())[0].vendor_code, "garbled");
}

#[tokio::test]
async fn a_message_is_found_by_our_reference_whether_or_not_its_name_is_known() {
    let details = |status: u64| {
        json!({ "Code": "OK", "SmsSendDetailDTOs": { "SmsSendDetailDTO": [
            { "OutId": "another", "SendStatus": 3, "ErrCode": "DELIVERED" },
            { "OutId": REFERENCE, "SendStatus": status, "ErrCode": "DELIVERED",
              "Content": "【TestSign】004217", "PhoneNum": "13800138000" },
        ] } })
    };
    for message_id in [Some(BIZ_ID.to_owned()), None] {
        let sent = Sent { message_id: message_id.clone(), ..sent() };
        let message_id = message_id.unwrap_or_default();
        for (status, arrived) in [(3, Some(true)), (2, Some(false)), (1, None), (9, None)] {
            let body = details(status).to_string();
            let (base_url, requests) = vendor(answer("200 OK", body.as_bytes())).await;
            let found = provider(&base_url).look_up(&sent).await.unwrap();
            let (message_id, vendor_code) = (message_id.clone(), "DELIVERED".to_owned());
            let about = REFERENCE.into();
            assert_eq!(
                found,
                arrived.map_or(Found::Taken { message_id: message_id.clone() }, |arrived| {
                    Found::Settled(Receipt { about, message_id, arrived, vendor_code })
                })
            );
            let seen = Seen::only(&requests);
            let named = seen.line.contains("BizId=900619746936498440%5E0");
            assert_eq!(named, sent.message_id.is_some());
            assert_eq!(seen.header("x-acs-action"), "QuerySendDetails");
        }
    }
    for (body, expected) in [
        (r#"{"Code":"OK"}"#, Ok(Found::Nothing)),
        (r#"{"Code":"Throttling.User"}"#, Err(Class::RateLimitedAccount)),
        (r#"{"Code":"isp.SYSTEM_ERROR"}"#, Err(Class::ProviderError)),
        ("", Err(Class::ProviderError)),
    ] {
        let (base_url, _) = vendor(answer("200 OK", body.as_bytes())).await;
        let found = provider(&base_url).look_up(&sent()).await;
        assert_eq!(found.map_err(|outcome| outcome.class), expected, "{body}");
    }
    assert_eq!(provider("http://127.0.0.1:1").looks_up(), LooksUp::All);
}

#[test]
fn a_push_is_answered_as_the_vendor_wants() {
    let (body, headers) = (pushed().to_string(), reqwest::header::HeaderMap::new());
    let pushed = Pushed { url: "", headers: &headers, body: body.as_bytes() };
    let read = provider("http://127.0.0.1:1").read_receipts(&pushed).unwrap();
    assert_eq!((read.receipts.len(), read.reply), (2, REPLY));
}

#[tokio::test]
async fn credentials_are_tried_without_sending() {
    for (status, body, expected) in [
        ("200 OK", r#"{"Code":"OK","TotalCount":0}"#, Ok(true)),
        (
            "404 Not Found",
            r#"{"Code":"InvalidAccessKeyId.NotFound"}"#,
            Err(Outcome::of(Class::AuthFailed, "InvalidAccessKeyId.NotFound")),
        ),
        (
            "200 OK",
            r#"{"Code":"isp.SYSTEM_ERROR"}"#,
            Err(Outcome::of(Class::ProviderError, "isp.SYSTEM_ERROR")),
        ),
        ("502 Bad Gateway", "", Err(Outcome::of(Class::ProviderError, "http-502"))),
    ] {
        let (base_url, requests) = vendor(answer(status, body.as_bytes())).await;
        assert_eq!(provider(&base_url).try_credentials().await, expected);
        let seen = Seen::only(&requests);
        assert_eq!(seen.header("x-acs-action"), "QuerySendDetails");
    }
}

// --- over the wire ----------------------------------------------------------------------------

#[tokio::test]
async fn whatever_goes_wrong_on_the_wire_has_its_outcome() {
    stub::assert_wire(&make, "200 OK", TAKEN, BIZ_ID).await;
}

#[tokio::test]
async fn neither_key_nor_code_is_ever_printed() {
    let quoting = format!(r#"{{"Code":"{SECRET} 004217","Message":"13800138000"}}"#);
    let refusing = r#"{"Code":"SignatureDoesNotMatch","Message":"13800138000 004217"}"#;
    stub::assert_silent(&make, &[TAKEN, &quoting, refusing], &[SECRET, "Signature="]).await;
    let unfit = Settings { access_key_secret: format!("{SECRET} ").into(), ..settings(BASE_URL) };
    let printed = format!("{unfit:?} {:?}", unfit.check().unwrap_err());
    assert!(!printed.contains(SECRET), "{printed}");
}
