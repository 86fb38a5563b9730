//! 腾讯云短信 (Tencent Cloud SMS 2021-01-11): a template and its variables.
//!
//! The body is signed (TC3-HMAC-SHA256) byte for byte, together with two headers. The vendor does
//! not recognise a repeated message.
//!
//! Every answer is HTTP 200. The call can succeed while the message in it is refused: what counts
//! is the entry of our number. [`errors`] says what the codes mean; whatever holds no code is an
//! unknown outcome. Receipts that are asked for carry our reference; those that are pushed carry
//! the number and the vendor's name for the message.

pub mod errors;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::codes::Entry;
use super::kind::{self, Bills, Given, Kind, Maker, Misfit, Param};
use super::signing::Tc3;
use super::wire::{self, carriers_code, code_word, text_of, unknown, word};
use super::{
    About, Class, Found, LooksUp, Message, Outcome, Provider, Pushed, Receipt, Receipts, Sent,
    transport,
};
use crate::clock::{Clock, HOUR, Millis, SECOND};
use crate::domain::phone::Phone;

/// "The message was taken." The vendor writes it like this and not `OK`.
const SUCCESS: &str = "Ok";
/// `report_status` of a message that arrived.
const ARRIVED: &str = "SUCCESS";
/// How many receipts are asked for at once: the most that the vendor gives.
const RECEIPTS_MAX: u32 = 100;
/// Asked about to try the credentials: the example number of the vendor's documents.
const EXAMPLE: &str = "+8613800138000";
/// The most digits of a variable in a template for verification codes.
const DIGITS_MAX: u8 = 6;
/// The content type, as it is signed and sent.
const JSON: &str = "application/json";
/// What the vendor wants to hear when it has pushed receipts.
const REPLY: &str = r#"{"result":0,"errmsg":"OK"}"#;

/// Where the vendor's API is.
pub const BASE_URL: &str = "https://sms.tencentcloudapi.com";

/// The kind, for the table.
pub const KIND: Kind = Kind {
    name: "tencent",
    bills: Bills::Message,
    secrets: &["secret_key"],
    read,
    caution: |_| None,
    explain,
};

fn read(given: Given) -> Result<Maker, Misfit> {
    let digits = given.code_digits;
    let settings: Settings = given.settings()?;
    settings.check(digits)?;
    Ok(Arc::new(move |parts| {
        let (client, clock) = (parts.client.clone(), parts.clock.clone());
        Arc::new(Tencent::new(settings.clone(), client, clock))
    }))
}

fn explain(code: &str) -> Option<String> {
    errors::lookup(code).map(Entry::explained)
}

/// A key, an application, a signature and a template at the vendor.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Our name for the provider.
    pub name: String,
    /// Where the API is.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// The key's name (`SecretId`).
    #[serde(default)]
    pub secret_id: String,
    /// The key (`SecretKey`).
    #[serde(default, deserialize_with = "kind::secret")]
    pub secret_key: SecretString,
    /// The region of the API.
    #[serde(default = "region")]
    pub region: String,
    /// The SMS application (`SmsSdkAppId`).
    #[serde(default)]
    pub sdk_app_id: String,
    /// The signature's text. Needed for the mainland; elsewhere there may be none.
    #[serde(default)]
    pub sign_name: String,
    /// The template's number.
    #[serde(default)]
    pub template_id: String,
    /// The template's variables, in their order.
    #[serde(default = "kind::code_and_minutes")]
    pub template_params: Vec<Param>,
    /// The sender's id, for countries that want one.
    #[serde(default)]
    pub sender_id: String,
}

fn base_url() -> String {
    BASE_URL.to_owned()
}

fn region() -> String {
    "ap-guangzhou".to_owned()
}

impl Settings {
    /// Whether these settings can work, as far as that can be told without a call.
    pub fn check(&self, code_digits: u8) -> Result<(), Misfit> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let signature = &self.sign_name;
        kind::checked([
            ("base_url", kind::sound_url(&self.base_url), kind::URL_ADVICE),
            (
                "secret_id",
                kind::sound_id(&self.secret_id, ""),
                "copy the SecretId from the console: letters and digits, without spaces",
            ),
            (
                "secret_key",
                kind::sound_secret(&self.secret_key),
                "copy the SecretKey, without spaces; the console shows it only once",
            ),
            (
                "region",
                kind::sound_id(&self.region, "-"),
                "write the region of the API, such as ap-guangzhou or ap-singapore",
            ),
            (
                "sdk_app_id",
                kind::sound_id(&self.sdk_app_id, "") && digits(&self.sdk_app_id),
                "copy the SDKAppID of the SMS application from the console: digits",
            ),
            (
                "sign_name",
                signature.chars().count() <= 64
                    && !signature.contains(['【', '】', '[', ']'])
                    && signature.trim() == signature,
                "write the text of an approved signature, without 【】 and spaces around it",
            ),
            (
                "template_id",
                kind::sound_id(&self.template_id, "") && digits(&self.template_id),
                "copy the template's number from the console: digits",
            ),
            ("template_params", kind::shows_code(&self.template_params), kind::CODE_ADVICE),
            (
                "template_params",
                code_digits <= DIGITS_MAX,
                "a variable of the vendor's templates takes six digits at most: set \
                 code.digits = 6",
            ),
            (
                "sender_id",
                self.sender_id.is_empty() || kind::sound_id(&self.sender_id, "-_ "),
                "write the sender's id as the vendor approved it, or leave it out",
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
pub struct Tencent {
    settings: Settings,
    client: reqwest::Client,
    clock: Clock,
}

impl Tencent {
    /// A provider that calls through this client. Signatures carry the clock's wall time.
    pub fn new(settings: Settings, client: reqwest::Client, clock: Clock) -> Self {
        Self { settings, client, clock }
    }

    async fn call(&self, action: &str, body: String) -> Result<Value, Outcome> {
        let base = self.settings.base_url.trim_end_matches('/');
        let wall = self.clock.wall();
        let authorization = authorization(&self.settings, "sms", wall, JSON, body.as_bytes());
        let mut authorization = HeaderValue::try_from(authorization)
            .map_err(|_| Outcome::of(Class::NotSent, "key-unfit"))?;
        authorization.set_sensitive(true);
        let call = self
            .client
            .post(format!("{base}/"))
            .header(CONTENT_TYPE, JSON)
            .header("X-TC-Action", action)
            .header("X-TC-Version", "2021-01-11")
            .header("X-TC-Region", &self.settings.region)
            .header("X-TC-Timestamp", seconds(wall).to_string())
            .header(AUTHORIZATION, authorization)
            .body(body);
        let answer = transport::call(call).await?;
        read_response(answer.status.as_u16(), &answer.body)
    }

    async fn pull(&self, action: &str, body: String) -> Result<Vec<Receipt>, Outcome> {
        match self.call(action, body).await {
            Ok(response) => read_pulled(&response),
            Err(outcome) => Err(outcome),
        }
        .map_err(wire::only_asked)
    }
}

impl fmt::Debug for Tencent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tencent").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for Tencent {
    fn name(&self) -> &str {
        &self.settings.name
    }

    /// The vendor documents nothing of the kind.
    fn deduplicates(&self) -> bool {
        false
    }

    async fn send(&self, message: &Message) -> Outcome {
        match self.call("SendSms", send_sms(&self.settings, message)).await {
            Ok(response) => read_sent(&response, message.phone.e164()),
            Err(outcome) => outcome,
        }
    }

    fn read_receipts(&self, pushed: &Pushed<'_>) -> Option<Receipts> {
        Some(Receipts { receipts: read_pushed(pushed.body), reply: REPLY })
    }

    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        self.pull("PullSmsSendStatus", pull_status(&self.settings)).await
    }

    /// Receipts are pushed, or pulled all together.
    fn looks_up(&self) -> LooksUp {
        LooksUp::Unknown
    }

    /// Asks about the number: the vendor gives our reference back. It only tells what is settled.
    async fn look_up(&self, sent: &Sent) -> Result<Found, Outcome> {
        let body = pull_by_phone(&self.settings, sent.phone.e164(), self.clock.wall());
        let receipts = self.pull("PullSmsSendStatusByPhoneNumber", body).await?;
        let ours = About::from(sent.reference.as_str());
        let ours = receipts.into_iter().find(|receipt| receipt.about == ours);
        Ok(ours.map_or(Found::Nothing, Found::Settled))
    }

    /// Asks about one number, which takes no receipts away from the server.
    async fn try_credentials(&self) -> Result<bool, Outcome> {
        let body = pull_by_phone(&self.settings, EXAMPLE, self.clock.wall());
        self.pull("PullSmsSendStatusByPhoneNumber", body).await.map(|_| true)
    }
}

fn seconds(wall: Millis) -> Millis {
    wall.div_euclid(SECOND)
}

/// The `Authorization` header for a body.
fn authorization(
    settings: &Settings,
    service: &str,
    wall: Millis,
    content_type: &str,
    body: &[u8],
) -> String {
    let (host, path) = wire::host_and_path(&settings.base_url);
    let (id, key) = (&settings.secret_id, settings.secret_key.expose_secret());
    Tc3 { id, key, service }.authorization(&host, &path, wall, content_type, body)
}

fn send_sms(settings: &Settings, message: &Message) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Body<'a> {
        phone_number_set: [&'a str; 1],
        sms_sdk_app_id: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        sign_name: &'a str,
        template_id: &'a str,
        template_param_set: Vec<String>,
        session_context: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        sender_id: &'a str,
    }
    let body = Body {
        phone_number_set: [message.phone.e164()],
        sms_sdk_app_id: &settings.sdk_app_id,
        sign_name: &settings.sign_name,
        template_id: &settings.template_id,
        template_param_set: settings.template_params.iter().map(|it| it.of(message)).collect(),
        session_context: &message.reference,
        sender_id: &settings.sender_id,
    };
    serde_json::to_string(&body).expect("a struct of texts is always JSON")
}

fn pull_status(settings: &Settings) -> String {
    json!({ "Limit": RECEIPTS_MAX, "SmsSdkAppId": settings.sdk_app_id }).to_string()
}

/// Asks about the messages to one number within the last hour.
fn pull_by_phone(settings: &Settings, phone: &str, wall: Millis) -> String {
    json!({
        "BeginTime": seconds(wall - HOUR),
        "EndTime": seconds(wall),
        "Offset": 0,
        "Limit": 10,
        "PhoneNumber": phone,
        "SmsSdkAppId": settings.sdk_app_id,
    })
    .to_string()
}

/// The `Response` of an answer. An error in it is a refusal; one that is not whole, or not the
/// vendor's, is an unknown outcome.
fn read_response(status: u16, body: &[u8]) -> Result<Value, Outcome> {
    if status != 200 {
        return Err(unknown(format!("http-{status}")));
    }
    if body.trim_ascii().is_empty() {
        return Err(unknown("empty-answer"));
    }
    let mut answer: Value = serde_json::from_slice(body).map_err(|_| unknown("garbled"))?;
    let response = answer.get_mut("Response").map(Value::take);
    let response = response.filter(Value::is_object).ok_or_else(|| unknown("no-response"))?;
    match response.get("Error") {
        Some(error) => Err(error.get("Code").and_then(code_word).map_or_else(
            || unknown("garbled"),
            |code| if code == SUCCESS { unknown("garbled") } else { refusal(code) },
        )),
        None => Ok(response),
    }
}

/// What an answer says about the message to this phone.
fn read_sent(response: &Value, phone: &str) -> Outcome {
    let entries = response.get("SendStatusSet").and_then(Value::as_array);
    let entries = entries.map(Vec::as_slice).unwrap_or_default();
    let same = |entry: &&Value| entry.get("PhoneNumber").is_some_and(|number| number == phone);
    // The vendor may write the number in another form; a single entry is ours in any case.
    let only = (entries.len() == 1).then(|| entries.first()).flatten();
    let Some(entry) = entries.iter().find(same).or(only) else { return unknown("no-status") };
    let code = entry.get("Code").and_then(code_word);
    let id = entry.get("SerialNo").and_then(|id| word(id, 64));
    match (code, id) {
        (None, _) => unknown("garbled"),
        (Some(code), Some(id)) if code == SUCCESS => Outcome::accepted(id),
        (Some(code), None) if code == SUCCESS => unknown("no-message-id"),
        (Some(code), _) => refusal(code),
    }
}

/// What a code other than success means. One that is not on the list has the class of its family,
/// which is what stands before the first dot.
fn refusal(code: String) -> Outcome {
    let family = code.split('.').next().unwrap_or_default();
    let class = match errors::lookup(&code).or_else(|| errors::lookup(family)) {
        Some(entry) => entry.class,
        None if family == "AuthFailure" => Class::AuthFailed,
        None if family == "InvalidParameterValue" => Class::BadRequest,
        None => Class::ProviderError,
    };
    Outcome::of(class, code)
}

fn read_pulled(response: &Value) -> Result<Vec<Receipt>, Outcome> {
    let list = response.get("PullSmsSendStatusSet").and_then(Value::as_array);
    let list = list.ok_or_else(|| unknown("no-status"))?;
    Ok(list.iter().filter_map(pulled_receipt).collect())
}

fn pulled_receipt(report: &Value) -> Option<Receipt> {
    Some(Receipt {
        about: word(report.get("SessionContext")?, 32)?.into(),
        message_id: word(report.get("SerialNo")?, 64)?,
        arrived: report.get("ReportStatus")?.as_str()? == ARRIVED,
        vendor_code: carriers_code(report.get("Description")),
    })
}

/// The receipts in what the vendor pushed. It gives nothing of ours back there, but the number.
fn read_pushed(body: &[u8]) -> Vec<Receipt> {
    let pushed = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let receipt = |report: &Value| {
        let field = |name| report.get(name).and_then(text_of);
        let phone = format!("+{}{}", field("nationcode")?, field("mobile")?);
        Some(Receipt {
            about: About::Phone(Phone::from_e164(&phone)?),
            message_id: word(report.get("sid")?, 64)?,
            arrived: report.get("report_status")?.as_str()? == ARRIVED,
            vendor_code: carriers_code(report.get("errmsg")),
        })
    };
    pushed.as_array().into_iter().flatten().filter_map(receipt).collect()
}

#[cfg(test)]
mod tests;
