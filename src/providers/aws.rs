//! AWS: a text to any number, through End User Messaging (`sms-voice`) or SNS.
//!
//! Requests are signed with Signature Version 4, by the same canonical request as Aliyun's and
//! Tencent's; a crate for it would bring a dozen others along for what is thirty lines here. A
//! refusal is a 4xx with the name of an exception, in JSON or XML. After the body has left, 5xx and
//! silence are unknown outcomes. Nothing deduplicates. Receipts go to AWS's own event destinations,
//! so there are none here.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::codes::{self, Entry, one, plain};
use super::kind::{self, Bills, Given, Kind, Maker, Misfit};
use super::signing::{self, Canonical};
use super::wire::{self, code_word, element, unknown, word};
use super::{Class, Message, Outcome, Provider, Pushed, Receipt, Receipts, transport};
use crate::clock::{Clock, Millis};
use crate::domain::outcome::Class::{
    AccountDisabled, AuthFailed, BadRequest, BlockedNumber, ContentRejected, ProviderError,
    QuotaExhausted, RateLimitedAccount, TemplateRejected, UnknownOutcome, UnsupportedDestination,
};

const JSON: &str = "application/x-amz-json-1.0";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// The kind, for the table.
pub const KIND: Kind = Kind {
    name: "aws",
    bills: Bills::Segment,
    secrets: &["secret_access_key"],
    read,
    caution: |_| None,
    explain,
};

fn read(given: Given) -> Result<Maker, Misfit> {
    let settings: Settings = given.settings()?;
    settings.check()?;
    Ok(Arc::new(move |parts| {
        let (client, clock) = (parts.client.clone(), parts.clock.clone());
        Arc::new(Aws::new(settings.clone(), client, clock))
    }))
}

fn explain(code: &str) -> Option<String> {
    lookup(code).map(Entry::explained)
}

/// What an exception means, by its name without `Exception`; `None` if it is not on the list.
pub fn lookup(code: &str) -> Option<&'static Entry> {
    codes::lookup(TABLE, code)
}

/// Every known exception of both services, sorted.
const TABLE: &[Entry] = &[
    plain("AccessDenied", AuthFailed)
        .hint("allow the key's user sms-voice:SendTextMessage or sns:Publish"),
    plain("AuthorizationError", AuthFailed).hint("allow the key's user sns:Publish"),
    one("Conflict", TemplateRejected, "the sender cannot send there, or the number opted out"),
    plain("ExpiredToken", AuthFailed),
    plain("IncompleteSignature", AuthFailed),
    plain("InternalError", UnknownOutcome),
    plain("InternalFailure", UnknownOutcome),
    plain("InternalServer", UnknownOutcome),
    plain("InvalidClientTokenId", AuthFailed).hint("copy access_key_id again"),
    plain("InvalidParameter", BadRequest),
    plain("InvalidParameterValue", BadRequest),
    plain("InvalidSignature", AuthFailed).hint("copy secret_access_key again, without spaces"),
    plain("MissingAuthenticationToken", AuthFailed),
    plain("OptInRequired", AccountDisabled).hint("enable the service for the account"),
    plain("OptedOut", BlockedNumber),
    plain("RequestExpired", AuthFailed).hint("set this server's clock (NTP)"),
    plain("ResourceNotFound", TemplateRejected)
        .hint("check origination_identity: there is none of this name in the region"),
    plain("ServiceQuotaExceeded", QuotaExhausted)
        .hint("raise the account's monthly spend limit, or leave the sandbox"),
    plain("ServiceUnavailable", ProviderError),
    plain("SignatureDoesNotMatch", AuthFailed).hint("copy secret_access_key again"),
    plain("Throttled", RateLimitedAccount),
    plain("Throttling", RateLimitedAccount),
    plain("UnrecognizedClient", AuthFailed).hint("copy access_key_id again"),
    plain("Validation", BadRequest),
];

/// A key and a sender at the vendor.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Our name for the provider.
    pub name: String,
    /// Where the API is; empty for the region's own.
    #[serde(default)]
    pub base_url: String,
    /// The key's name (`AKIA…`).
    #[serde(default)]
    pub access_key_id: String,
    /// The key.
    #[serde(default, deserialize_with = "kind::secret")]
    pub secret_access_key: SecretString,
    /// The region, such as `us-east-1`.
    #[serde(default)]
    pub region: String,
    /// Which service.
    #[serde(default)]
    pub service: Service,
    /// The sender of `sms-voice`: a number, a pool or a name; or none, and AWS chooses.
    #[serde(default)]
    pub origination_identity: String,
    /// The sender's name of `sns`, or none.
    #[serde(default)]
    pub sender_id: String,
}

/// A service of AWS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// End User Messaging.
    #[default]
    SmsVoice,
    /// Simple Notification Service.
    Sns,
}

impl Service {
    fn as_str(self) -> &'static str {
        match self {
            Self::SmsVoice => "sms-voice",
            Self::Sns => "sns",
        }
    }
}

impl Settings {
    /// Whether these settings can work, as far as that can be told without a call.
    pub fn check(&self) -> Result<(), Misfit> {
        let sns = self.service == Service::Sns;
        let optional = |text: &str, more| text.is_empty() || kind::sound_id(text, more);
        kind::checked([
            (
                "base_url",
                self.base_url.is_empty() || kind::sound_url(&self.base_url),
                kind::URL_ADVICE,
            ),
            (
                "access_key_id",
                kind::sound_id(&self.access_key_id, ""),
                "copy the access key's id from IAM: letters and digits, without spaces",
            ),
            (
                "secret_access_key",
                kind::sound_secret(&self.secret_access_key),
                "copy the secret access key without spaces; IAM shows it only once",
            ),
            (
                "region",
                kind::sound_id(&self.region, "-"),
                "write the region of the sender, such as us-east-1 or ap-southeast-1",
            ),
            (
                "origination_identity",
                optional(&self.origination_identity, "+-_")
                    && (!sns || self.origination_identity.is_empty()),
                "write a number, pool or name of the account, only with service = \"sms-voice\"",
            ),
            (
                "sender_id",
                optional(&self.sender_id, "-") && (sns || self.sender_id.is_empty()),
                "write the sender's name of up to 11 letters, only with service = \"sns\"",
            ),
        ])
    }

    fn base_url(&self) -> String {
        match self.base_url.trim_end_matches('/') {
            "" => format!("https://{}.{}.amazonaws.com", self.service.as_str(), self.region),
            given => given.to_owned(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The provider.
pub struct Aws {
    settings: Settings,
    client: reqwest::Client,
    clock: Clock,
}

impl Aws {
    /// A provider that calls through this client. Signatures carry the clock's wall time.
    pub fn new(settings: Settings, client: reqwest::Client, clock: Clock) -> Self {
        Self { settings, client, clock }
    }

    async fn call(&self, request: Request) -> Result<transport::Answer, Outcome> {
        let (wall, base) = (self.clock.wall(), self.settings.base_url());
        let authorization = authorization(&self.settings, wall, &request);
        let mut authorization = HeaderValue::try_from(authorization)
            .map_err(|_| Outcome::of(Class::NotSent, "key-unfit"))?;
        authorization.set_sensitive(true);
        let mut call = self
            .client
            .post(format!("{base}/"))
            .header(CONTENT_TYPE, request.content_type)
            .header("x-amz-date", stamp(wall))
            .header(AUTHORIZATION, authorization);
        if let Some(target) = request.target {
            call = call.header("x-amz-target", target);
        }
        transport::call(call.body(request.body)).await
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for Aws {
    fn name(&self) -> &str {
        &self.settings.name
    }

    /// Neither service has a key for a message.
    fn deduplicates(&self) -> bool {
        false
    }

    async fn send(&self, message: &Message) -> Outcome {
        let request = match self.settings.service {
            Service::SmsVoice => send_text_message(&self.settings, message),
            Service::Sns => publish(&self.settings, message),
        };
        match self.call(request).await {
            Ok(answer) => read_answer(answer.status.as_u16(), &answer.body),
            Err(outcome) => outcome,
        }
    }

    /// AWS pushes none to us.
    fn read_receipts(&self, _pushed: &Pushed<'_>) -> Option<Receipts> {
        Some(Receipts { receipts: Vec::new(), reply: "" })
    }

    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        Ok(Vec::new())
    }

    /// Asks for the account's limits.
    async fn try_credentials(&self) -> Result<bool, Outcome> {
        let request = match self.settings.service {
            Service::SmsVoice => {
                let target = Some("PinpointSMSVoiceV2.DescribeAccountLimits");
                Request { content_type: JSON, target, body: "{}".to_owned() }
            }
            Service::Sns => {
                let body = "Action=GetSMSAttributes&Version=2010-03-31".to_owned();
                Request { content_type: FORM, target: None, body }
            }
        };
        let answer = self.call(request).await.map_err(wire::only_asked)?;
        match answer.status.as_u16() {
            200 => Ok(true),
            status => Err(wire::only_asked(refusal(status, &answer.body))),
        }
    }
}

/// A request before it is signed. It has no `Debug`: its body holds the code.
struct Request {
    content_type: &'static str,
    target: Option<&'static str>,
    body: String,
}

/// The time as the vendor reads it.
fn stamp(wall: Millis) -> String {
    wire::in_greenwich(wall, "%Y%m%dT%H%M%SZ")
}

/// The `Authorization` header (Signature Version 4).
fn authorization(settings: &Settings, wall: Millis, request: &Request) -> String {
    let (host, path) = wire::host_and_path(&settings.base_url());
    let stamp = stamp(wall);
    let mut headers =
        vec![("content-type", request.content_type), ("host", &*host), ("x-amz-date", &*stamp)];
    headers.extend(request.target.map(|target| ("x-amz-target", target)));
    let payload = signing::sha256_hex(request.body.as_bytes());
    let canonical =
        Canonical { method: "POST", path: &path, query: "", headers: &headers, payload: &payload };
    let (date, service) = (&stamp[..8], settings.service.as_str());
    let scope = format!("{date}/{}/{service}/aws4_request", settings.region);
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", canonical.digest());
    let secret = format!("AWS4{}", settings.secret_access_key.expose_secret());
    let parts = [date, &settings.region, service, "aws4_request", &to_sign];
    let sign = |key: Vec<u8>, part: &str| signing::hmac_sha256(&key, part.as_bytes());
    let signature = parts.into_iter().fold(secret.into_bytes(), sign);
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={}, Signature={}",
        settings.access_key_id,
        canonical.signed_headers(),
        hex::encode(signature)
    )
}

/// A message through End User Messaging. It is not delivered once its code is no good.
fn send_text_message(settings: &Settings, message: &Message) -> Request {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Body<'a> {
        destination_phone_number: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        origination_identity: &'a str,
        #[serde(rename = "MessageBody")]
        text: &'a str,
        message_type: &'a str,
        time_to_live: u32,
    }
    let body = Body {
        destination_phone_number: message.phone.e164(),
        origination_identity: &settings.origination_identity,
        text: &message.text,
        message_type: "TRANSACTIONAL",
        time_to_live: message.minutes.max(1) * 60,
    };
    let body = serde_json::to_string(&body).expect("a struct of texts and numbers is always JSON");
    let target = Some("PinpointSMSVoiceV2.SendTextMessage");
    Request { content_type: JSON, target, body }
}

/// A message through SNS.
fn publish(settings: &Settings, message: &Message) -> Request {
    let mut form = vec![
        ("Action".to_owned(), "Publish"),
        ("Version".to_owned(), "2010-03-31"),
        ("PhoneNumber".to_owned(), message.phone.e164()),
        ("Message".to_owned(), &message.text),
    ];
    let sender = (!settings.sender_id.is_empty()).then_some(("SenderID", &*settings.sender_id));
    let attributes = [("SMSType", "Transactional")].into_iter().chain(sender);
    let names: Vec<_> =
        attributes.map(|(name, value)| (format!("AWS.SNS.SMS.{name}"), value)).collect();
    for (place, (name, value)) in names.iter().enumerate() {
        let member = |rest: &str| format!("MessageAttributes.entry.{}.{rest}", place + 1);
        form.push((member("Name"), name));
        form.push((member("Value.DataType"), "String"));
        form.push((member("Value.StringValue"), value));
    }
    let body = signing::query(form.iter().map(|(name, value)| (name.as_str(), *value)));
    Request { content_type: FORM, target: None, body }
}

/// What an answer says about the message.
fn read_answer(status: u16, body: &[u8]) -> Outcome {
    if status != 200 {
        return refusal(status, body);
    }
    let id = if let Ok(answer) = serde_json::from_slice::<Value>(body) {
        answer.get("MessageId").and_then(|id| word(id, 64))
    } else {
        let text = std::str::from_utf8(body).unwrap_or_default().trim();
        let whole = text.ends_with("</PublishResponse>");
        let id = element(text, "MessageId").filter(|_| whole);
        id.and_then(|id| word(&id.into(), 64))
    };
    id.map_or_else(|| unknown("no-message-id"), Outcome::accepted)
}

/// What another status means: by the exception's name, or else by itself.
fn refusal(status: u16, body: &[u8]) -> Outcome {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let (code, about) = if let Ok(answer) = serde_json::from_slice::<Value>(body) {
        let member = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        (member("__type"), member("Reason").or_else(|| member("Message")))
    } else {
        let part = |name: &str| element(text, name).map(str::to_owned);
        (part("Code"), part("Message"))
    };
    // `com.amazonaws.pinpointsmsvoicev2#ThrottlingException`
    let code = code.as_deref().and_then(|code| code.rsplit('#').next()).map(str::to_owned);
    let code = code.and_then(|code| code_word(&code.into())).filter(|_| status >= 400);
    let Some(code) = code else {
        let class = if status >= 400 { wire::by_status(status) } else { Class::UnknownOutcome };
        return Outcome::of(class, format!("http-{status}"));
    };
    let code = code.strip_suffix("Exception").unwrap_or(&code).to_owned();
    let listed = lookup(&code).map(|entry| entry.class);
    let class = listed.unwrap_or_else(|| wire::by_status(status));
    let class = narrowed(&code, about.as_deref().unwrap_or_default()).unwrap_or(class);
    Outcome::of(class, code)
}

/// Two exceptions mean several things, and only the vendor's text says which. It is read here and
/// goes no further.
fn narrowed(code: &str, about: &str) -> Option<Class> {
    let about = about.to_ascii_lowercase().replace('_', " ");
    let says = |what: &str| about.contains(what);
    match code {
        "Conflict" | "InvalidParameter" if says("opted out") => Some(BlockedNumber),
        "Conflict" if says("country") || says("destination") => Some(UnsupportedDestination),
        "InvalidParameter" if says("phonenumber") => Some(Class::InvalidNumber),
        "InvalidParameter" if says("message too long") => Some(ContentRejected),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
