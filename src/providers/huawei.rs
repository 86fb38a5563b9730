//! 华为云消息&短信 (Huawei Cloud SMS, `batchSendSms`): a template and its variables.
//!
//! The request is a form that is not signed itself; what proves who calls are headers: a signature
//! over the other headers (`SDK-HMAC-SHA256`, as the vendor's own client makes it), or X-WSSE, a
//! digest of nonce, time and secret. The vendor does not recognise a repeated message.
//!
//! A refusal is a code, with HTTP 200 or 4xx. The call can succeed while the message in it is
//! refused: then the entry of our number says why. [`errors`] says what the codes mean; whatever
//! holds no code is an unknown outcome. Receipts are pushed with our reference in them, unsigned.

pub mod errors;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::codes::Entry;
use super::kind::{self, Bills, Given, Kind, Maker, Misfit, Param};
use super::signing::{self, Canonical};
use super::wire::{self, unknown, word};
use super::{Class, Message, Outcome, Provider, Pushed, Receipt, Receipts, transport};
use crate::chance::{Chance, OsChance};
use crate::clock::Clock;

/// "The message was taken."
const SUCCESS: &str = "000000";
/// "Not sent: see the entries of the numbers."
const SEE_ENTRIES: &str = "E000510";
/// The call.
const PATH: &str = "/sms/batchSendSms/v1";
/// The content type, as it is signed and sent.
const FORM: &str = "application/x-www-form-urlencoded";
/// What stands for the body's digest: the vendor's client does not sign the body.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// `status` of a message that arrived.
const ARRIVED: &str = "DELIVRD";
/// Those that settle nothing: another report may follow.
const UNDECIDED: [&str; 2] = ["ACCEPTD", "UNKNOWN"];

/// Where the vendor's API is.
pub const BASE_URL: &str = "https://smsapi.cn-north-4.myhuaweicloud.com";

/// The kind, for the table.
pub const KIND: Kind = Kind {
    name: "huawei",
    bills: Bills::Message,
    secrets: &["app_secret"],
    read,
    caution: |_| None,
    explain,
};

fn read(given: Given) -> Result<Maker, Misfit> {
    let settings: Settings = given.settings()?;
    settings.check()?;
    Ok(Arc::new(move |parts| {
        let (client, clock) = (parts.client.clone(), parts.clock.clone());
        Arc::new(Huawei::new(settings.clone(), client, clock, parts.receipts_url.clone()))
    }))
}

fn explain(code: &str) -> Option<String> {
    errors::lookup(code).map(Entry::explained)
}

/// How a request proves who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// A signature over headers, as the vendor's own client makes it.
    Aksk,
    /// X-WSSE with the base64 of the digest.
    Wsse,
    /// X-WSSE with the base64 of the digest in hexadecimal, as the vendor's older examples.
    WsseHex,
}

/// An application, a channel and a template at the vendor.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Our name for the provider.
    pub name: String,
    /// Where the API is (`APP接入地址`).
    #[serde(default = "base_url")]
    pub base_url: String,
    /// The application's key (`Application Key`).
    #[serde(default)]
    pub app_key: String,
    /// Its secret (`Application Secret`).
    #[serde(default, deserialize_with = "kind::secret")]
    pub app_secret: SecretString,
    /// How requests prove who sends them.
    #[serde(default = "aksk")]
    pub auth: Auth,
    /// The channel number of the signature (`通道号`); abroad it may be left out.
    #[serde(default)]
    pub from: String,
    /// The signature's text, for templates that are common to several signatures.
    #[serde(default)]
    pub signature: String,
    /// The template.
    #[serde(default)]
    pub template_id: String,
    /// The template's variables, in their order.
    #[serde(default = "kind::code_and_minutes")]
    pub template_params: Vec<Param>,
}

fn base_url() -> String {
    BASE_URL.to_owned()
}

fn aksk() -> Auth {
    Auth::Aksk
}

impl Settings {
    /// Whether these settings can work, as far as that can be told without a call.
    pub fn check(&self) -> Result<(), Misfit> {
        let signature = &self.signature;
        kind::checked([
            ("base_url", kind::sound_url(&self.base_url), kind::URL_ADVICE),
            (
                "app_key",
                kind::sound_id(&self.app_key, "-_"),
                "copy the Application Key of the application from the console",
            ),
            (
                "app_secret",
                kind::sound_secret(&self.app_secret),
                "copy the Application Secret of the application, without spaces",
            ),
            (
                "from",
                self.from.is_empty() || kind::sound_id(&self.from, ""),
                "copy the channel number (通道号) from the signature's page: digits",
            ),
            (
                "signature",
                signature.chars().count() <= 64
                    && !signature.contains(['【', '】', '[', ']'])
                    && signature.trim() == signature,
                "write the text of an approved signature, without 【】 and spaces around it",
            ),
            (
                "template_id",
                kind::sound_id(&self.template_id, ""),
                "copy the template's id from the console: letters and digits",
            ),
            ("template_params", kind::shows_code(&self.template_params), kind::CODE_ADVICE),
        ])
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The provider.
pub struct Huawei {
    settings: Settings,
    client: reqwest::Client,
    clock: Clock,
    receipts_url: Option<String>,
}

impl Huawei {
    /// A provider that calls through this client. Signatures carry the clock's wall time;
    /// `receipts_url` is where the vendor may push receipts.
    pub fn new(
        settings: Settings,
        client: reqwest::Client,
        clock: Clock,
        receipts_url: Option<String>,
    ) -> Self {
        Self { settings, client, clock, receipts_url }
    }

    async fn call(&self, form: String) -> Result<Reply, Outcome> {
        let base = self.settings.base_url.trim_end_matches('/');
        let mut call = self.client.post(format!("{base}{PATH}"));
        for (name, value) in self.proof() {
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| Outcome::of(Class::NotSent, "key-unfit"))?;
            value.set_sensitive(true);
            call = call.header(name, value);
        }
        let call = call.header(CONTENT_TYPE, FORM).header(ACCEPT, "application/json");
        let answer = transport::call(call.body(form)).await?;
        Reply::read(answer.status.as_u16(), &answer.body)
    }

    /// The headers that prove who calls.
    fn proof(&self) -> Vec<(&'static str, String)> {
        let (settings, wall) = (&self.settings, self.clock.wall());
        if settings.auth == Auth::Aksk {
            let date = wire::in_greenwich(wall, "%Y%m%dT%H%M%SZ");
            let (host, _) = wire::host_and_path(&settings.base_url);
            let signed = [
                ("content-type", FORM),
                ("host", host.as_str()),
                ("x-sdk-content-sha256", UNSIGNED),
                ("x-sdk-date", date.as_str()),
            ];
            let authorization = aksk_authorization(settings, &date, &signed);
            return vec![
                ("x-sdk-content-sha256", UNSIGNED.to_owned()),
                ("x-sdk-date", date),
                (AUTHORIZATION.as_str(), authorization),
            ];
        }
        let mut nonce = [0; 16];
        OsChance.fill(&mut nonce);
        let created = wire::in_greenwich(wall, "%Y-%m-%dT%H:%M:%SZ");
        let wsse = wsse(settings, &hex::encode(nonce), &created);
        let realm = r#"WSSE realm="SDP",profile="UsernameToken",type="Appkey""#;
        vec![(AUTHORIZATION.as_str(), realm.to_owned()), ("x-wsse", wsse)]
    }
}

impl fmt::Debug for Huawei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Huawei").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for Huawei {
    fn name(&self) -> &str {
        &self.settings.name
    }

    /// The vendor documents nothing of the kind.
    fn deduplicates(&self) -> bool {
        false
    }

    async fn send(&self, message: &Message) -> Outcome {
        let form = send_form(&self.settings, message, self.receipts_url.as_deref());
        match self.call(form).await {
            Ok(reply) => reply.sent(),
            Err(outcome) => outcome,
        }
    }

    fn read_receipts(&self, pushed: &Pushed<'_>) -> Option<Receipts> {
        let text = std::str::from_utf8(pushed.body).unwrap_or_default();
        let receipts = receipt(&wire::form(text)).into_iter().collect();
        Some(Receipts { receipts, reply: "" })
    }

    /// The vendor offers nothing of the kind.
    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        Ok(Vec::new())
    }

    /// Sends to nobody: a request without recipient and template. The vendor looks at the headers
    /// first, so a complaint about the form means that it knows the caller.
    async fn try_credentials(&self) -> Result<bool, Outcome> {
        let form = signing::query([("from", self.settings.from.as_str())]);
        let refusal = match self.call(form).await {
            Ok(reply) => reply.sent(),
            Err(outcome) => outcome,
        };
        match refusal.class {
            Class::BadRequest if !refusal.vendor_code.starts_with("http-") => Ok(true),
            _ => Err(wire::only_asked(refusal)),
        }
    }
}

fn send_form(settings: &Settings, message: &Message, receipts_url: Option<&str>) -> String {
    let params: Vec<_> = settings.template_params.iter().map(|param| param.of(message)).collect();
    let params = serde_json::to_string(&params).expect("a list of texts is always JSON");
    let mut form = vec![
        ("to", message.phone.e164()),
        ("templateId", &settings.template_id),
        ("templateParas", &params),
        ("extend", &message.reference),
    ];
    form.extend(receipts_url.map(|url| ("statusCallback", url)));
    for (name, value) in [("from", &settings.from), ("signature", &settings.signature)] {
        form.extend((!value.is_empty()).then_some((name, value.as_str())));
    }
    signing::query(form)
}

/// The `Authorization` header over these headers. The vendor wants the path with a slash behind it.
fn aksk_authorization(settings: &Settings, date: &str, signed: &[(&str, &str)]) -> String {
    let (_, path) = wire::host_and_path(&settings.base_url);
    let canonical = Canonical {
        method: "POST",
        path: &format!("{}{PATH}/", path.trim_end_matches('/')),
        query: "",
        headers: signed,
        payload: UNSIGNED,
    };
    let to_sign = format!("SDK-HMAC-SHA256\n{date}\n{}", canonical.digest());
    let secret = settings.app_secret.expose_secret();
    let signature = signing::hmac_sha256(secret.as_bytes(), to_sign.as_bytes());
    format!(
        "SDK-HMAC-SHA256 Access={}, SignedHeaders={}, Signature={}",
        settings.app_key,
        canonical.signed_headers(),
        hex::encode(signature)
    )
}

/// The `X-WSSE` header.
fn wsse(settings: &Settings, nonce: &str, created: &str) -> String {
    let text = format!("{nonce}{created}{}", settings.app_secret.expose_secret());
    let digest = signing::sha256_hex(text.as_bytes());
    let digest = match settings.auth {
        Auth::WsseHex => STANDARD.encode(&digest),
        Auth::Aksk | Auth::Wsse => STANDARD.encode(hex::decode(&digest).unwrap_or_default()),
    };
    let key = &settings.app_key;
    format!(
        "UsernameToken Username=\"{key}\",PasswordDigest=\"{digest}\",Nonce=\"{nonce}\",\
         Created=\"{created}\""
    )
}

/// What we use of an answer.
struct Reply {
    status: u16,
    code: String,
    body: Value,
}

impl Reply {
    /// Reads an answer; one that is not whole, or not the vendor's, is an unknown outcome.
    fn read(status: u16, body: &[u8]) -> Result<Self, Outcome> {
        let strange = |what: &str| match status {
            200 => unknown(what),
            400..=599 => Outcome::of(wire::by_status(status), format!("http-{status}")),
            _ => unknown(format!("http-{status}")),
        };
        if !(status == 200 || (400..=599).contains(&status)) {
            return Err(strange(""));
        }
        if body.trim_ascii().is_empty() {
            return Err(strange("empty-answer"));
        }
        let body: Value = serde_json::from_slice(body).map_err(|_| strange("garbled"))?;
        let code = body.get("code").ok_or_else(|| strange("no-code"))?;
        let code = vendors_code(code).ok_or_else(|| strange("garbled"))?;
        Ok(Self { status, code, body })
    }

    /// What it says about a message.
    fn sent(&self) -> Outcome {
        let entries = self.body.get("result").and_then(Value::as_array).map(Vec::as_slice);
        // One number per request, so one entry.
        let entry = entries.and_then(|entries| match entries {
            [entry] => Some(entry),
            _ => None,
        });
        let said = entry.and_then(|entry| entry.get("status")).and_then(vendors_code);
        match (self.code.as_str(), said) {
            (SUCCESS, Some(said)) if said == SUCCESS => {
                let id = entry.and_then(|entry| entry.get("smsMsgId")).and_then(|id| word(id, 64));
                match id {
                    Some(id) if self.status == 200 => Outcome::accepted(id),
                    // It cannot be told apart: perhaps it was no answer to our message at all.
                    _ => unknown("no-message-id"),
                }
            }
            (SUCCESS | SEE_ENTRIES, Some(said)) if said != SUCCESS => self.refusal(&said),
            (SUCCESS, _) => unknown("no-status"),
            (code, _) => self.refusal(code),
        }
    }

    /// What a code other than success means. One that is not on the list is a refusal as well, for
    /// a reason that the status may tell.
    fn refusal(&self, code: &str) -> Outcome {
        let class = match errors::lookup(code) {
            Some(entry) => entry.class,
            None if self.status == 200 => Class::ProviderError,
            None => wire::by_status(self.status),
        };
        Outcome::of(class, code)
    }
}

/// A code of the vendor's: `000000`, or `E` and six digits.
fn vendors_code(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let digits = text.strip_prefix('E').unwrap_or(text);
    let six = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Six digits alone could be somebody's code.
    (six && (digits.len() < text.len() || text == SUCCESS)).then(|| text.to_owned())
}

fn receipt(fields: &[(String, String)]) -> Option<Receipt> {
    let fields: BTreeMap<_, _> = fields.iter().map(|(name, it)| (name.as_str(), it)).collect();
    let field = |name: &str, most| word(&fields.get(name)?.as_str().into(), most);
    let status = field("status", 32)?;
    if UNDECIDED.contains(&status.as_str()) {
        return None;
    }
    Some(Receipt {
        about: field("extend", 32)?.into(),
        message_id: field("smsMsgId", 64)?,
        arrived: status == ARRIVED,
        vendor_code: status,
    })
}

#[cfg(test)]
mod tests;
