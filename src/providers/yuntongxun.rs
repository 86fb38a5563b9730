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
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::codes::Entry;
use super::kind::{self, Bills, Given, Kind, Maker, Misfit, Param};
use super::wire::{element, text_of, unknown, word};
use super::{Class, Message, Outcome, Provider, Pushed, Receipt, Receipts, transport, wire};
use crate::clock::{Clock, Millis};

/// "The message was taken."
const SUCCESS: &str = "000000";
/// "Sent, but there is no receipt yet": to us the same as an empty list.
const NO_RECEIPT_YET: &str = "112356";
/// `smsType` of a receipt; `0` is a message that a person sent to us.
const RECEIPT: &str = "1";
/// How many receipts are asked for at once: what the vendor gives unasked. It would give 500, but
/// those do not fit into what [`transport::call`] reads of an answer, and would be lost.
const RECEIPTS_MAX: &str = "100";

/// The vendor's test template, whose variables are code and minutes.
const TEST_TEMPLATE: &str = "1";

/// Where the vendor's API is.
pub const BASE_URL: &str = "https://app.cloopen.com:8883";

/// The kind, for the table.
pub const KIND: Kind = Kind {
    name: "yuntongxun",
    bills: Bills::Message,
    secrets: &["auth_token"],
    read,
    caution,
    explain,
};

fn read(given: Given) -> Result<Maker, Misfit> {
    let digits = given.code_digits;
    let settings: Settings = given.settings()?;
    settings.check(digits)?;
    Ok(Arc::new(move |parts| {
        let (client, clock) = (parts.client.clone(), parts.clock.clone());
        Arc::new(Yuntongxun::new(settings.clone(), client, clock))
    }))
}

fn caution(table: &toml::Table) -> Option<&'static str> {
    let template = table.get("template_id").and_then(toml::Value::as_str).unwrap_or("1");
    (template == "1").then_some(
        "template 1 is the vendor's test template, which reaches only numbers registered as test \
         numbers: set template_id to an approved one of your own before going live",
    )
}

fn explain(code: &str) -> Option<String> {
    errors::lookup(code).map(Entry::explained)
}

/// An account, an application and a template at the vendor.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Our name for the provider.
    pub name: String,
    /// Where the API is: `https://app.cloopen.com:8883`.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// The main account (`ACCOUNT SID` in the console).
    #[serde(default)]
    pub account_sid: String,
    /// Its token (`AUTH TOKEN` in the console).
    #[serde(default, deserialize_with = "kind::secret")]
    pub auth_token: SecretString,
    /// The application (`APP ID` in the console).
    #[serde(default)]
    pub app_id: String,
    /// The template. `1` is the vendor's test template, which reaches only numbers registered as
    /// test numbers.
    #[serde(default = "test_template")]
    pub template_id: String,
    /// The template's variables, in their order.
    #[serde(default = "kind::code_and_minutes")]
    pub template_params: Vec<Param>,
}

fn base_url() -> String {
    BASE_URL.to_owned()
}

fn test_template() -> String {
    TEST_TEMPLATE.to_owned()
}

impl Settings {
    /// Whether these settings can work, as far as that can be told without a call.
    pub fn check(&self, code_digits: u8) -> Result<(), Misfit> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let test = self.template_id == TEST_TEMPLATE;
        kind::checked([
            (
                "base_url",
                kind::sound_url(&self.base_url),
                "write an http or https URL with nothing behind the path, such as \
                 https://app.cloopen.com:8883",
            ),
            (
                "account_sid",
                kind::sound_id(&self.account_sid, ""),
                "copy the ACCOUNT SID from the console: letters and digits, without spaces",
            ),
            (
                "auth_token",
                kind::sound_secret(&self.auth_token),
                "copy the AUTH TOKEN from the console, without spaces",
            ),
            (
                "app_id",
                kind::sound_id(&self.app_id, ""),
                "copy the APP ID from the console: letters and digits, without spaces",
            ),
            (
                "template_id",
                kind::sound_id(&self.template_id, "") && digits(&self.template_id),
                "write the template's number in digits: 1 is the vendor's test template",
            ),
            ("template_params", kind::shows_code(&self.template_params), kind::CODE_ADVICE),
            (
                "template_params",
                !test || self.template_params == kind::code_and_minutes(),
                "the vendor's test template 1 has the variables code and minutes, in this order: \
                 leave template_params out, or name a template of your own",
            ),
            (
                "template_id",
                !test || code_digits == 6,
                "the vendor's test template 1 is for codes of six digits: set code.digits = 6, or \
                 name a template of your own",
            ),
        ])
    }
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

    fn read_receipts(&self, pushed: &Pushed<'_>) -> Option<Receipts> {
        Some(Receipts { receipts: read_pushed(pushed.body), reply: "success" })
    }

    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        let pulled = match self.call(get_arrived(&self.settings, self.clock.wall())).await {
            Ok(answer) => read_pulled(answer.status.as_u16(), &answer.body),
            Err(outcome) => Err(outcome),
        };
        pulled.map_err(wire::only_asked)
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

/// The time as the vendor reads it: `20250102003045`, in Shanghai.
fn shanghai_stamp(wall: Millis) -> String {
    wire::in_china(wall, "%Y%m%d%H%M%S")
}

/// The request that sends a message; `None` if it does not go to the mainland.
fn template_sms(settings: &Settings, wall: Millis, message: &Message) -> Option<Request> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        to: &'a str,
        app_id: &'a str,
        template_id: &'a str,
        datas: Vec<String>,
        req_id: &'a str,
    }
    let body = Body {
        to: message.phone.mainland()?,
        app_id: &settings.app_id,
        template_id: &settings.template_id,
        datas: settings.template_params.iter().map(|param| param.of(message)).collect(),
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
    let code = element(text, "statusCode").filter(|_| whole)?;
    let id = element(text, "smsMessageSid");
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
        about: word(field("reqId")?, 32)?.into(),
        message_id: word(field("content")?, 64)?,
        arrived: word(field("status")?, 16)? == "0",
        vendor_code: code.and_then(|code| word(code, 16)).unwrap_or_else(|| "garbled".to_owned()),
    })
}

/// A code in its six-digit form: as a number, `000000` arrives as 0.
fn numeric(text: &str) -> Option<String> {
    let short = text.len() <= 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<u32>().ok().filter(|_| short).map(|code| format!("{code:06}"))
}

#[cfg(test)]
mod tests;
