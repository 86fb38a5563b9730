//! 容联云通讯 (Yuntongxun, also Cloopen): a template and its variables to one mainland number.
//!
//! A request is signed by a digest of account, token and time, and its body is not part of that:
//! who has the URL and the `Authorization` header can send anything for 24 hours. Neither is ever
//! printed or passed on from here.
//!
//! Every answer is HTTP 200, refusals included. Whatever is anything else, or cannot be read, tells
//! nothing about the message: it is an unknown outcome. The vendor's texts may quote phone and
//! code, so only numeric codes leave this module; [`errors`] says what they mean.

pub mod errors;

use std::fmt;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::tz::Offset;
use md5::{Digest, Md5};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;

use super::{Class, Message, Outcome, Provider, Receipt, transport};
use crate::clock::{self, Clock, Millis};

/// "The message was taken."
const SUCCESS: &str = "000000";
/// "Sent, but there is no receipt yet": to us the same as an empty list.
const NO_RECEIPT_YET: &str = "112356";
/// `smsType` of a receipt; `0` is a message that a person sent to us.
const RECEIPT: &str = "1";
/// How many receipts are asked for at once: what the vendor gives unasked. It would give 500, but
/// those do not fit into what [`transport::call`] reads of an answer, and would be lost.
const RECEIPTS_MAX: &str = "100";

/// Where the vendor's API is.
pub const BASE_URL: &str = "https://app.cloopen.com:8883";

/// An account, an application and a template at the vendor.
#[derive(Clone)]
pub struct Settings {
    /// Our name for the provider.
    pub name: String,
    /// Where the API is: `https://app.cloopen.com:8883`.
    pub base_url: String,
    /// The main account (`ACCOUNT SID` in the console).
    pub account_sid: String,
    /// Its token (`AUTH TOKEN` in the console).
    pub auth_token: SecretString,
    /// The application (`APP ID` in the console).
    pub app_id: String,
    /// The template, whose variables are code and minutes. `1` is the vendor's test template,
    /// which reaches only numbers registered as test numbers.
    pub template_id: String,
}

/// A setting that cannot work, and what to do about it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {advice}")]
pub struct Unfit {
    /// Which key.
    pub key: &'static str,
    /// What to do. It does not repeat the value, which may be a secret in the wrong place.
    pub advice: &'static str,
}

impl Settings {
    /// Whether these settings can work, as far as that can be told without a call.
    pub fn check(&self) -> Result<(), Unfit> {
        let named = |text: &str| {
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let token = self.auth_token.expose_secret();
        let checks = [
            (
                "base_url",
                sound_url(&self.base_url),
                "write an http or https URL with nothing behind the path, such as \
                 https://app.cloopen.com:8883",
            ),
            (
                "account_sid",
                named(&self.account_sid),
                "copy the ACCOUNT SID from the console: letters and digits, without spaces",
            ),
            (
                "auth_token",
                !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()),
                "copy the AUTH TOKEN from the console, without spaces",
            ),
            (
                "app_id",
                named(&self.app_id),
                "copy the APP ID from the console: letters and digits, without spaces",
            ),
            (
                "template_id",
                named(&self.template_id) && self.template_id.bytes().all(|b| b.is_ascii_digit()),
                "write the template's number in digits: 1 is the vendor's test template",
            ),
        ];
        match checks.into_iter().find(|&(_, fits, _)| !fits) {
            Some((key, _, advice)) => Err(Unfit { key, advice }),
            None => Ok(()),
        }
    }
}

fn sound_url(text: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(text) else { return false };
    let web = ["http", "https"].contains(&url.scheme()) && url.has_host();
    let bare = url.query().is_none() && url.fragment().is_none();
    web && bare && url.username().is_empty() && url.password().is_none()
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The provider.
pub struct Yuntongxun {
    settings: Settings,
    client: reqwest::Client,
    clock: Clock,
}

impl Yuntongxun {
    /// A provider that calls through this client. Signatures carry the clock's wall time.
    pub fn new(settings: Settings, client: reqwest::Client, clock: Clock) -> Self {
        Self { settings, client, clock }
    }

    async fn call(&self, request: Request) -> Result<transport::Answer, Outcome> {
        let base = self.settings.base_url.trim_end_matches('/');
        let mut authorization = HeaderValue::try_from(request.authorization)
            .expect("base64 is made of visible ASCII characters");
        authorization.set_sensitive(true);
        let call = self
            .client
            .post(format!("{base}{}?sig={}", request.path, request.sig))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json;charset=utf-8")
            .header(AUTHORIZATION, authorization)
            .body(request.body);
        transport::call(call).await
    }
}

impl fmt::Debug for Yuntongxun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yuntongxun").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for Yuntongxun {
    fn name(&self) -> &str {
        &self.settings.name
    }

    /// The vendor refuses a `reqId` that the account has used on the same calendar day (in
    /// Shanghai). So a message tried before midnight and again after it is not recognised and may
    /// be sent twice, with the same code. That takes an unknown outcome in the last 90 seconds of
    /// a day (a delivery's deadline), which is rare enough to bear.
    fn deduplicates(&self) -> bool {
        true
    }

    async fn send(&self, message: &Message) -> Outcome {
        let Some(request) = template_sms(&self.settings, self.clock.wall(), message) else {
            return Outcome::of(Class::UnsupportedDestination, "mainland-only");
        };
        match self.call(request).await {
            Ok(answer) => read_answer(answer.status.as_u16(), &answer.body),
            Err(outcome) => outcome,
        }
    }

    fn read_receipts(&self, body: &[u8]) -> Vec<Receipt> {
        read_pushed(body)
    }

    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        let pulled = match self.call(get_arrived(&self.settings, self.clock.wall())).await {
            Ok(answer) => read_pulled(answer.status.as_u16(), &answer.body),
            Err(outcome) => Err(outcome),
        };
        // "The message may have been sent" would mislead here: asking sends nothing.
        pulled.map_err(|outcome| match outcome.class {
            Class::UnknownOutcome => Outcome { class: Class::ProviderError, ..outcome },
            _ => outcome,
        })
    }
}

/// A request as it goes out. It has no `Debug`: see the top of this file.
struct Request {
    path: String,
    sig: String,
    authorization: String,
    body: String,
}

impl Request {
    fn new(settings: &Settings, wall: Millis, resource: &str, body: &impl Serialize) -> Self {
        let Settings { account_sid, auth_token, .. } = settings;
        let stamp = shanghai_stamp(wall);
        let digest = Md5::new()
            .chain_update(account_sid)
            .chain_update(auth_token.expose_secret())
            .chain_update(&stamp)
            .finalize();
        Self {
            path: format!("/2013-12-26/Accounts/{account_sid}/{resource}"),
            sig: hex::encode_upper(digest),
            authorization: BASE64.encode(format!("{account_sid}:{stamp}")),
            body: serde_json::to_string(body).expect("a struct of texts is always JSON"),
        }
    }
}

/// The time as the vendor reads it: `20250102003045`, in Shanghai, which has kept UTC+8 without
/// summer time since 1991.
fn shanghai_stamp(wall: Millis) -> String {
    let local = Offset::constant(8).to_datetime(clock::timestamp(wall));
    local.strftime("%Y%m%d%H%M%S").to_string()
}

/// The request that sends a message; `None` if it does not go to the mainland.
fn template_sms(settings: &Settings, wall: Millis, message: &Message) -> Option<Request> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        to: &'a str,
        app_id: &'a str,
        template_id: &'a str,
        datas: [&'a str; 2],
        req_id: &'a str,
    }
    let body = Body {
        to: message.phone.mainland()?,
        app_id: &settings.app_id,
        template_id: &settings.template_id,
        // Texts, not numbers: a number would lose its leading zeros.
        datas: [message.code.digits(), &message.minutes.to_string()],
        req_id: &message.reference,
    };
    Some(Request::new(settings, wall, "SMS/TemplateSMS", &body))
}

/// The request that asks for receipts.
fn get_arrived(settings: &Settings, wall: Millis) -> Request {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        app_id: &'a str,
        sms_type: &'a str,
        count: &'a str,
    }
    let body = Body { app_id: &settings.app_id, sms_type: RECEIPT, count: RECEIPTS_MAX };
    Request::new(settings, wall, "SMS/GetArrived", &body)
}

/// What an answer says about the message.
fn read_answer(status: u16, body: &[u8]) -> Outcome {
    match Reply::read(status, body) {
        Ok(Reply { code, message_id: Some(id), .. }) if code == SUCCESS => Outcome::accepted(id),
        // Whatever took it cannot be looked up or matched with a receipt: perhaps it was no
        // answer to our message at all.
        Ok(Reply { code, .. }) if code == SUCCESS => unknown("no-message-id"),
        Ok(Reply { code, .. }) => refusal(code),
        Err(outcome) => outcome,
    }
}

/// The receipts in an answer to the request for them.
fn read_pulled(status: u16, body: &[u8]) -> Result<Vec<Receipt>, Outcome> {
    let reply = Reply::read(status, body)?;
    match reply.code.as_str() {
        SUCCESS => Ok(reply.reports.iter().filter_map(receipt).collect()),
        NO_RECEIPT_YET => Ok(Vec::new()),
        _ => Err(refusal(reply.code)),
    }
}

/// The receipts in what the vendor pushed: one, or none.
fn read_pushed(body: &[u8]) -> Vec<Receipt> {
    let pushed = serde_json::from_slice::<Value>(body).unwrap_or_default();
    pushed.get("Request").and_then(receipt).into_iter().collect()
}

/// What a code other than success means. One that is not on the list is a refusal as well, for a
/// reason unknown. It is classed as the vendor's fault: the classes that blame the number would
/// stop a person whom another provider may reach, and those that blame the configuration would
/// call an operator. "A little later, then the next" costs one more call, and since the vendor
/// recognises the reference, never a second message.
fn refusal(code: String) -> Outcome {
    let class = errors::lookup(&code).map_or(Class::ProviderError, |entry| entry.class);
    Outcome::of(class, code)
}

fn unknown(what: impl Into<String>) -> Outcome {
    Outcome::of(Class::UnknownOutcome, what)
}

/// What we use of an answer.
struct Reply {
    /// `statusCode`, six digits.
    code: String,
    message_id: Option<String>,
    reports: Vec<Value>,
}

impl Reply {
    /// Reads an answer; one that is not whole, or not the vendor's, is an unknown outcome.
    fn read(status: u16, body: &[u8]) -> Result<Self, Outcome> {
        if status != 200 {
            return Err(unknown(format!("http-{status}")));
        }
        let text = str::from_utf8(body).map_err(|_| unknown("garbled"))?.trim();
        if text.is_empty() {
            return Err(unknown("empty-answer"));
        }
        let answer = match serde_json::from_str(text) {
            Ok(answer) => answer,
            Err(_) => xml_answer(text).ok_or_else(|| unknown("garbled"))?,
        };
        let status_code = answer.get("statusCode").ok_or_else(|| unknown("no-status-code"))?;
        let code = text_of(status_code).and_then(|text| numeric(&text));
        let sent = answer.get("templateSMS").or_else(|| answer.get("TemplateSMS"));
        let message_id = sent.and_then(|sent| sent.get("smsMessageSid"));
        Ok(Self {
            code: code.ok_or_else(|| unknown("garbled"))?,
            message_id: message_id.and_then(|id| word(id, 64)),
            reports: answer.get("reports").and_then(Value::as_array).cloned().unwrap_or_default(),
        })
    }
}

/// An XML answer in the form of the JSON one. We ask for JSON, but an answer in the vendor's other
/// format that says "sent" must not be taken for silence, or a second message goes out.
fn xml_answer(text: &str) -> Option<Value> {
    let whole = text.starts_with('<') && text.ends_with("</Response>");
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner)
    };
    let code = element("statusCode").filter(|_| whole)?;
    let id = element("smsMessageSid");
    Some(serde_json::json!({ "statusCode": code, "templateSMS": { "smsMessageSid": id } }))
}

/// A receipt, unless it is something else or a field that we need is missing.
fn receipt(report: &Value) -> Option<Receipt> {
    let field = |name| report.get(name);
    if field("smsType").and_then(text_of)? != RECEIPT {
        return None;
    }
    let code = field("deliverCode");
    Some(Receipt {
        reference: word(field("reqId")?, 32)?,
        message_id: word(field("content")?, 64)?,
        arrived: word(field("status")?, 16)? == "0",
        vendor_code: code.and_then(|code| word(code, 16)).unwrap_or_else(|| "garbled".to_owned()),
    })
}

/// A text, or a number as a text: the vendor documents texts, and its clients are not so strict.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => number.as_u64().map(|number| number.to_string()),
        _ => None,
    }
}

/// A code in its six-digit form: as a number, `000000` arrives as 0.
fn numeric(text: &str) -> Option<String> {
    let short = text.len() <= 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<u32>().ok().filter(|_| short).map(|code| format!("{code:06}"))
}

/// A name or code from outside in the form that such things have, so that it may be stored and
/// logged: short, and of few characters (carriers' codes look like `MK:0001`).
fn word(value: &Value, length_max: usize) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    text_of(value).filter(|text| (1..=length_max).contains(&text.len()) && text.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::domain::code::Code;
    use crate::domain::phone::Phone;

    const TOKEN: &str = "c4e1c9418e5e4921bbd120598e030000";
    const SID: &str = "ff8080813c373cab013c94b0f0512345";
    const REFERENCE: &str = "67756c75020100112233445566778899";
    const TAKEN: &str = r#"{"statusCode":"000000","templateSMS":{
        "smsMessageSid":"ff8080813c373cab013c94b0f0512345","dateCreated":"20250102003046"}}"#;
    /// [`TAKEN`], packed with gzip.
    const PACKED: &str = "\
        1f8b08000000000002032d8c3b0ec23010447b4e81b64e31f6da7cd2a64ee51338f11a2111815853\
        45b93b1bc48c349ae6bd95b4e5f6d1e159847ac22fd45193e5f5c84dd298a85f0fc77f48171d4535\
        df24dd8b01b55e60753cf399e73cc1de354ca888ce7388a62aa619de62bb031e3ec2c1038c70a26d\
        fb025d3f600082000000";
    /// 2025-01-02 00:30:45 in Shanghai, and still 2025-01-01 in Greenwich.
    const WALL: Millis = 1_735_749_045_000;

    fn settings(base_url: &str) -> Settings {
        Settings {
            name: "main".to_owned(),
            base_url: base_url.to_owned(),
            account_sid: "8a48b5515493a1b7015498c52ade0000".to_owned(),
            auth_token: TOKEN.into(),
            app_id: "aaf98f8954939ed501549e768a470000".to_owned(),
            template_id: "1".to_owned(),
        }
    }

    fn message(e164: &str, code: &str, minutes: u32, reference: &str) -> Message {
        Message {
            phone: Phone::from_e164(e164).unwrap(),
            code: Code::parse(code).unwrap(),
            minutes,
            text: String::new(),
            reference: reference.to_owned(),
        }
    }

    fn a_message() -> Message {
        message("+8613800138000", "004217", 5, REFERENCE)
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
        let text = include_str!("../../tests/vectors/yuntongxun.json");
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
        let stamps = [-1, 0, 8 * clock::HOUR].map(|after| shanghai_stamp(new_year + after));
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
        assert_eq!(good().check(), Ok(()));
        for base_url in ["http://127.0.0.1:9000/", "https://proxy.example/sms"] {
            assert_eq!(settings(base_url).check(), Ok(()), "{base_url}");
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
            .chain(
                templates.map(|t| ("template_id", Settings { template_id: t.into(), ..good() })),
            );
        for (key, settings) in wrong {
            let unfit = settings.check().unwrap_err();
            assert_eq!(unfit.key, key);
            assert!(unfit.to_string().len() > 40 && !unfit.to_string().contains("secret"));
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
        let text = include_str!("../../tests/vectors/responses_yuntongxun.json");
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
        let map = include_str!("../../tests/vectors/error_map_yuntongxun.json");
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
                    json!({ "statusCode": code, "templateSMS": { "smsMessageSid": SID } })
                        .to_string(),
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

    // --- receipts -----------------------------------------------------------------------------

    fn arrived() -> Receipt {
        Receipt {
            reference: "otp20250101a1b2c3".to_owned(),
            message_id: SID.to_owned(),
            arrived: true,
            vendor_code: "DELIVRD".to_owned(),
        }
    }

    #[test]
    fn a_pushed_receipt_says_whether_the_message_arrived() {
        let recorded = recorded();
        assert_eq!(read_pushed(recorded.arrived.to_string().as_bytes()), [arrived()]);
        let failed = Receipt {
            reference: "otp2".to_owned(),
            message_id: "ff8080813c373cab013c94b0f0512346".to_owned(),
            arrived: false,
            vendor_code: "UNDELIV".to_owned(),
        };
        assert_eq!(read_pushed(recorded.failed.to_string().as_bytes()), [failed]);
        let mut numbers = recorded.arrived;
        numbers["Request"]["smsType"] = json!(1);
        numbers["Request"]["status"] = json!(0);
        assert_eq!(read_pushed(numbers.to_string().as_bytes()), [arrived()]);
    }

    #[test]
    fn what_a_person_sends_to_us_is_not_a_receipt() {
        let mut uplink = recorded().arrived;
        uplink["Request"]["smsType"] = json!("0");
        uplink["Request"]["content"] = json!("TD");
        assert_eq!(read_pushed(uplink.to_string().as_bytes()), []);
    }

    #[test]
    fn a_receipt_without_a_needed_field_is_passed_over() {
        let whole = recorded().arrived;
        for field in ["smsType", "content", "status", "reqId"] {
            for odd in [json!(null), json!(""), json!([]), json!({}), json!("\u{0}<x>"), json!(1.5)]
            {
                let mut odd_field = whole.clone();
                odd_field["Request"][field] = odd.clone();
                assert_eq!(read_pushed(odd_field.to_string().as_bytes()), [], "{field} {odd}");
            }
            let mut missing = whole.clone();
            missing["Request"].as_object_mut().unwrap().remove(field);
            assert_eq!(read_pushed(missing.to_string().as_bytes()), [], "{field}");
        }
        for field in ["fromNum", "dateSent", "recvTime", "action", "apiVersion", "smsCount"] {
            let mut missing = whole.clone();
            missing["Request"].as_object_mut().unwrap().remove(field);
            assert_eq!(read_pushed(missing.to_string().as_bytes()), [arrived()], "{field}");
        }
    }

    #[test]
    fn a_carriers_code_is_kept_only_in_the_form_of_one() {
        let long = "a".repeat(17);
        let codes = [
            (json!("DELIVRD"), "DELIVRD"),
            (json!("MK:0001"), "MK:0001"),
            (json!(5), "5"),
            (json!(null), "garbled"),
            (json!(""), "garbled"),
            (json!("您的验证码"), "garbled"),
            (json!("a\nb"), "garbled"),
            (json!(long), "garbled"),
        ];
        for (code, kept) in codes {
            let mut receipt = recorded().arrived;
            receipt["Request"]["deliverCode"] = code;
            assert_eq!(read_pushed(receipt.to_string().as_bytes())[0].vendor_code, kept);
        }
    }

    #[test]
    fn garbage_is_no_receipt() {
        let deep = "[".repeat(60_000);
        let bodies: [&[u8]; 10] = [
            b"",
            b"null",
            b"[]",
            b"{}",
            b"{\"Request\":null}",
            b"{\"Request\":\"1\"}",
            b"{\"Request\":[1,2]}",
            b"{\"Request\":{\"smsType\":\"1\"",
            b"<?xml version=\"1.0\"?><Request></Request>",
            deep.as_bytes(),
        ];
        for body in bodies {
            assert_eq!(read_pushed(body), []);
        }
    }

    #[test]
    fn pulled_receipts_are_read_and_no_receipt_is_an_empty_list() {
        let mut pulled = recorded().get_arrived;
        assert_eq!(read_pulled(200, pulled.to_string().as_bytes()), Ok(vec![arrived()]));
        let reports = pulled["reports"].as_array_mut().unwrap();
        reports.extend([json!({ "smsType": "0" }), json!(null), json!("x"), reports[0].clone()]);
        let twice = read_pulled(200, pulled.to_string().as_bytes());
        assert_eq!(twice, Ok(vec![arrived(), arrived()]));
        for none in [
            r#"{"statusCode":"112356","statusMsg":"x"}"#,
            r#"{"statusCode":"000000"}"#,
            r#"{"statusCode":"000000","reports":[]}"#,
            r#"{"statusCode":"000000","reports":null}"#,
        ] {
            assert_eq!(read_pulled(200, none.as_bytes()), Ok(vec![]), "{none}");
        }
        for (code, class) in [
            ("112329", Class::BadRequest),
            ("112330", Class::BadRequest),
            ("112354", Class::RateLimitedAccount),
            ("111109", Class::AuthFailed),
        ] {
            let refused = read_pulled(200, json!({ "statusCode": code }).to_string().as_bytes());
            assert_eq!(refused, Err(Outcome::of(class, code)));
        }
    }

    // --- over the wire ------------------------------------------------------------------------

    /// What the vendor does after it has read a request.
    #[derive(Clone)]
    enum Script {
        Answer(Vec<u8>),
        /// Answers with this and then falls silent.
        Stall(Vec<u8>),
        Close,
        /// Reads a single byte and resets the connection.
        Reset,
    }

    fn answer(head: &str, body: &[u8]) -> Script {
        let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
        Script::Answer([head.as_bytes(), body].concat())
    }

    fn taken() -> Script {
        answer("200 OK\r\nContent-Type: application/json;charset=UTF-8", TAKEN.as_bytes())
    }

    type Requests = Arc<Mutex<Vec<String>>>;

    /// A vendor on a port of this machine, and the requests that reach it.
    #[expect(clippy::disallowed_methods, reason = "the vendor ends with the test's runtime")]
    async fn vendor(script: Script) -> (String, Requests) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Requests::default();
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, script.clone(), seen.clone()));
            }
        });
        (base_url, requests)
    }

    async fn converse(mut stream: TcpStream, script: Script, seen: Requests) {
        let mut request = Vec::new();
        if let Script::Reset = script {
            seen.lock().unwrap().push(String::new());
            // Closing while bytes lie unread makes the system send a reset.
            let _ = stream.read_u8().await;
            return;
        }
        while !whole(&request) {
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await {
                Ok(length) if length > 0 => request.extend_from_slice(&chunk[..length]),
                _ => return,
            }
        }
        seen.lock().unwrap().push(String::from_utf8(request).unwrap());
        match script {
            Script::Answer(bytes) => drop(stream.write_all(&bytes).await),
            Script::Stall(bytes) => {
                drop(stream.write_all(&bytes).await);
                tokio::time::sleep(Duration::from_mins(1)).await;
            }
            Script::Close | Script::Reset => {}
        }
    }

    fn whole(request: &[u8]) -> bool {
        let text = String::from_utf8_lossy(request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        length.is_none_or(|length| body.len() >= length.parse().unwrap())
    }

    fn provider(base_url: &str) -> Yuntongxun {
        let client = transport::client().unwrap();
        Yuntongxun::new(settings(base_url), client, Clock::manual(WALL))
    }

    /// The same with little patience.
    fn hasty(base_url: &str) -> Yuntongxun {
        // Another test may have installed it already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_millis(200))
            .build()
            .unwrap();
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
        for e164 in ["+85291234567", "+85366123456", "+886912345678", "+14155550123", "+861064000"]
        {
            let message = message(e164, "004217", 5, REFERENCE);
            let outcome = provider(&base_url).send(&message).await;
            assert_eq!(outcome, Outcome::of(Class::UnsupportedDestination, "mainland-only"));
        }
        assert!(requests.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_goes_wrong_before_the_request_is_not_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        for base_url in [closed.as_str(), "", "not a url", "http://"] {
            let outcome = provider(base_url).send(&a_message()).await;
            assert_eq!(outcome, Outcome::of(Class::NotSent, "no-connection"), "{base_url}");
        }
    }

    #[tokio::test]
    async fn silence_and_a_break_after_the_request_are_unknown_and_nothing_is_repeated() {
        let half = format!("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{}", &TAKEN[..40]);
        let scripts = [
            (Script::Stall(vec![]), "timeout"),
            (Script::Stall(half.clone().into_bytes()), "timeout"),
            (Script::Answer(half.into_bytes()), "broken-off"),
            (Script::Answer(b"garbage\r\n\r\n".to_vec()), "broken-off"),
            (Script::Close, "broken-off"),
            (Script::Reset, "broken-off"),
        ];
        for (script, what) in scripts {
            let (base_url, requests) = vendor(script).await;
            let outcome = hasty(&base_url).send(&a_message()).await;
            assert_eq!(outcome, unknown(what));
            assert_eq!(requests.lock().unwrap().len(), 1, "{what}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let (elsewhere, followed) = vendor(taken()).await;
        for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
        {
            let (base_url, _) =
                vendor(answer(&format!("{status}\r\nLocation: {elsewhere}/"), b"")).await;
            let outcome = provider(&base_url).send(&a_message()).await;
            assert_eq!(outcome, unknown(format!("http-{}", &status[..3])));
        }
        assert!(followed.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_packed_answer_is_unpacked() {
        let packed = hex::decode(PACKED).unwrap();
        let (base_url, _) = vendor(answer("200 OK\r\nContent-Encoding: gzip", &packed)).await;
        assert_eq!(provider(&base_url).send(&a_message()).await, Outcome::accepted(SID));
        // A packed answer that is cut off or no such thing is as good as none.
        for broken in [&packed[..packed.len() / 2], TAKEN.as_bytes()] {
            let (base_url, _) = vendor(answer("200 OK\r\nContent-Encoding: gzip", broken)).await;
            assert_eq!(provider(&base_url).send(&a_message()).await, unknown("broken-off"));
        }
    }

    #[tokio::test]
    async fn an_endless_answer_is_not_read_to_its_end() {
        let long = format!("{TAKEN}{}", " ".repeat(10 * 1024 * 1024));
        let (base_url, _) = vendor(answer("200 OK", long.as_bytes())).await;
        assert_eq!(provider(&base_url).send(&a_message()).await, unknown("answer-too-long"));
    }

    #[tokio::test]
    async fn receipts_are_pulled_and_as_many_as_are_asked_for_fit() {
        // Every field that is known, every text as long as any seen.
        let report = json!({
            "action": "SMSArrived", "smsType": "1", "apiVersion": "2013-12-26", "content": SID,
            "fromNum": "8613800138000", "dateSent": "20250102003046",
            "recvTime": "20250102003050", "deliverCode": "DELIVRD", "status": "0",
            "reqId": REFERENCE, "smsCount": "1", "spCode": "10690876123456789012",
        });
        let count: usize = RECEIPTS_MAX.parse().unwrap();
        let body = json!({ "statusCode": "000000", "reports": vec![report; count] }).to_string();
        let (base_url, requests) = vendor(answer("200 OK", body.as_bytes())).await;
        let receipts = provider(&base_url).pull_receipts().await.unwrap();
        let expected = Receipt { reference: REFERENCE.to_owned(), ..arrived() };
        assert_eq!(receipts, vec![expected; count]);
        let line = format!("{}?{} ", cases()[17].path, cases()[17].query);
        assert!(requests.lock().unwrap()[0].contains(&line));
    }

    #[tokio::test]
    async fn asking_for_receipts_never_claims_that_a_message_may_have_been_sent() {
        for (script, what) in [
            (Script::Close, "broken-off"),
            (answer("502 Bad Gateway", b""), "http-502"),
            (answer("200 OK", b"<html>"), "garbled"),
        ] {
            let (base_url, _) = vendor(script).await;
            let failed = provider(&base_url).pull_receipts().await;
            assert_eq!(failed, Err(Outcome::of(Class::ProviderError, what)));
        }
        let refused = answer("200 OK", br#"{"statusCode":"111109"}"#);
        let (base_url, _) = vendor(refused).await;
        let failed = provider(&base_url).pull_receipts().await;
        assert_eq!(failed, Err(Outcome::of(Class::AuthFailed, "111109")));
    }

    // --- what must not show -------------------------------------------------------------------

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn neither_token_nor_signature_nor_code_is_ever_printed() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        // While there is only one subscriber, a test on another thread that reaches a log line
        // first switches the line off for good (tracing's cache of interests). So there are two.
        let _second = tracing::Dispatch::new(tracing_subscriber::registry());
        let guard = tracing::subscriber::set_default(subscriber);
        tracing::info!("the log is open");
        let case = &cases()[0];
        let quoting = format!(
            r#"{{"statusCode":"{} {TOKEN} 004217","statusMsg":"验证码004217 13800138000"}}"#,
            case.sig
        );
        let scripts = [
            taken(),
            answer("200 OK", quoting.as_bytes()),
            answer("200 OK", quoting.replace("004217", "160038").as_bytes()),
            answer(&format!("302 Found\r\nLocation: /{}", case.sig), b""),
            Script::Close,
            Script::Stall(vec![]),
        ];
        let mut printed = Vec::new();
        for script in scripts {
            let (base_url, requests) = vendor(script).await;
            let provider = hasty(&base_url);
            let outcome = provider.send(&a_message()).await;
            let pulled = provider.pull_receipts().await;
            assert!(requests.lock().unwrap()[0].contains(&case.sig), "the signature is this one");
            printed.push(format!("{provider:?} {:?} {outcome:?} {pulled:?}", provider.settings));
        }
        for base_url in ["http://127.0.0.1:1", "", "http://"] {
            let outcome = hasty(base_url).send(&a_message()).await;
            printed.push(format!("{outcome:?} {:?}", a_message()));
        }
        let unfit = Settings { auth_token: format!("{TOKEN} ").into(), ..settings("http://x") };
        printed.push(unfit.check().unwrap_err().to_string());
        let printed = printed.join("\n");
        drop(guard);
        let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(logged.contains("the log is open"));
        for secret in [TOKEN, &case.sig, &case.authorization, "004217", "13800138000"] {
            assert!(!printed.contains(secret), "{secret} in {printed}");
            assert!(!logged.contains(secret), "{secret} in the log");
        }
    }
}
