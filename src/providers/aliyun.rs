//! 阿里云短信服务 (Aliyun, also Alibaba Cloud; Dysmsapi 2017-05-25): a template and its variables.
//!
//! All parameters go in the query, and the query is signed (ACS3-HMAC-SHA256). So the URL holds
//! phone and code: it is never printed or passed on from here. The vendor does not recognise a
//! repeated message.
//!
//! A refusal is a code, with HTTP 200 from the product and 4xx or 5xx from the gateway before it.
//! [`errors`] says what the codes mean; whatever holds no code is an unknown outcome. Receipts are
//! pushed, or asked for message by message: there is no call that gives all new ones.

pub mod errors;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::codes::Entry;
use super::kind::{self, Bills, Given, Kind, Maker, Misfit, Param};
use super::signing::{self, Canonical};
use super::wire::{self, carriers_code, code_word, text_of, unknown, word};
use super::{
    Class, Found, LooksUp, Message, Outcome, Provider, Pushed, Receipt, Receipts, Sent, transport,
};
use crate::chance::{Chance, OsChance};
use crate::clock::{Clock, Millis};

/// "The message was taken", or "this is what you asked for".
const SUCCESS: &str = "OK";
/// `SendStatus` of a message that the carrier refused, and of one that arrived; `1` still waits.
const FAILED: u64 = 2;
const ARRIVED: u64 = 3;
/// Asked about to try the credentials: the example number of the vendor's documents.
const EXAMPLE: &str = "13800138000";
/// What the vendor wants to hear when it has pushed receipts; otherwise it pushes them again.
const REPLY: &str = r#"{"code":0,"msg":"OK"}"#;

/// Where the vendor's API is.
pub const BASE_URL: &str = "https://dysmsapi.aliyuncs.com";

/// The kind, for the table.
pub const KIND: Kind = Kind {
    name: "aliyun",
    bills: Bills::Message,
    secrets: &["access_key_secret"],
    read,
    caution: |_| None,
    explain,
};

fn read(given: Given) -> Result<Maker, Misfit> {
    let settings: Settings = given.settings()?;
    settings.check()?;
    Ok(Arc::new(move |parts| {
        let (client, clock) = (parts.client.clone(), parts.clock.clone());
        Arc::new(Aliyun::new(settings.clone(), client, clock))
    }))
}

fn explain(code: &str) -> Option<String> {
    errors::lookup(code).map(Entry::explained)
}

/// A key, a signature and a template at the vendor.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Our name for the provider.
    pub name: String,
    /// Where the API is.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// The key's name (`AccessKey ID`).
    #[serde(default)]
    pub access_key_id: String,
    /// The key (`AccessKey Secret`).
    #[serde(default, deserialize_with = "kind::secret")]
    pub access_key_secret: SecretString,
    /// The signature (签名名称), without the brackets.
    #[serde(default)]
    pub sign_name: String,
    /// The template (模板CODE): `SMS_` and digits.
    #[serde(default)]
    pub template_code: String,
    /// The template's variables and what each is filled with.
    #[serde(default = "code_only")]
    pub template_params: BTreeMap<String, Param>,
}

fn base_url() -> String {
    BASE_URL.to_owned()
}

fn code_only() -> BTreeMap<String, Param> {
    BTreeMap::from([("code".to_owned(), Param::Code)])
}

impl Settings {
    /// Whether these settings can work, as far as that can be told without a call.
    pub fn check(&self) -> Result<(), Misfit> {
        let digits = self.template_code.strip_prefix("SMS_").unwrap_or_default();
        let signature = &self.sign_name;
        kind::checked([
            ("base_url", kind::sound_url(&self.base_url), kind::URL_ADVICE),
            (
                "access_key_id",
                kind::sound_id(&self.access_key_id, ""),
                "copy the AccessKey ID from the console: letters and digits, without spaces",
            ),
            (
                "access_key_secret",
                kind::sound_secret(&self.access_key_secret),
                "copy the AccessKey Secret, without spaces; the console shows it only once",
            ),
            (
                "sign_name",
                (1..=64).contains(&signature.chars().count())
                    && !signature.contains(['【', '】', '[', ']'])
                    && signature.trim() == signature,
                "write the text of an approved signature, without 【】 and spaces around it",
            ),
            (
                "template_code",
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
                "copy the template's code from the console, such as SMS_154950909",
            ),
            ("template_params", kind::shows_code(self.template_params.values()), kind::CODE_ADVICE),
            (
                "template_params",
                self.template_params.keys().all(|name| kind::sound_id(name, "_")),
                "write it as { variable = \"code\" }, with the names in the template's ${…}",
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
pub struct Aliyun {
    settings: Settings,
    client: reqwest::Client,
    clock: Clock,
}

impl Aliyun {
    /// A provider that calls through this client. Signatures carry the clock's wall time.
    pub fn new(settings: Settings, client: reqwest::Client, clock: Clock) -> Self {
        Self { settings, client, clock }
    }

    async fn call(&self, action: &str, params: &Params) -> Result<Reply, Outcome> {
        let mut nonce = [0; 16];
        OsChance.fill(&mut nonce);
        let (wall, nonce) = (self.clock.wall(), hex::encode(nonce));
        let signed = Signed::new(&self.settings, wall, &nonce, action, params);
        let base = self.settings.base_url.trim_end_matches('/');
        let mut authorization = HeaderValue::try_from(signed.authorization)
            .map_err(|_| Outcome::of(Class::NotSent, "key-unfit"))?;
        authorization.set_sensitive(true);
        let mut call = self.client.post(format!("{base}/?{}", signed.query));
        for (name, value) in signed.headers.into_iter().filter(|(name, _)| *name != "host") {
            call = call.header(name, value);
        }
        let call = call.header(AUTHORIZATION, authorization).header("accept", "application/json");
        let answer = transport::call(call.body("")).await?;
        Reply::read(answer.status.as_u16(), &answer.body)
    }
}

impl fmt::Debug for Aliyun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aliyun").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for Aliyun {
    fn name(&self) -> &str {
        &self.settings.name
    }

    /// The vendor says that it does not: who repeats a message sends it twice.
    fn deduplicates(&self) -> bool {
        false
    }

    async fn send(&self, message: &Message) -> Outcome {
        let sent = self.call("SendSms", &send_sms(&self.settings, message)).await;
        sent.map_or_else(|outcome| outcome, |reply| reply.sent())
    }

    fn read_receipts(&self, pushed: &Pushed<'_>) -> Option<Receipts> {
        Some(Receipts { receipts: read_pushed(pushed.body), reply: REPLY })
    }

    /// There is no call that gives all new ones.
    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        Ok(Vec::new())
    }

    /// Nobody can tell whether the account has receipts pushed.
    fn looks_up(&self) -> LooksUp {
        LooksUp::All
    }

    /// The vendor gives our reference back, so it finds what it never answered for as well.
    async fn look_up(&self, sent: &Sent) -> Result<Found, Outcome> {
        let id = sent.message_id.as_deref();
        let params = query_send_details(&sent.phone.vendors(), sent.wall, id);
        let reply = self.call("QuerySendDetails", &params).await.map_err(wire::only_asked)?;
        if reply.code != SUCCESS {
            return Err(wire::only_asked(reply.refusal()));
        }
        let ours = reply.details().find_map(|detail| found(detail, sent));
        Ok(ours.unwrap_or(Found::Nothing))
    }

    async fn try_credentials(&self) -> Result<bool, Outcome> {
        let params = query_send_details(EXAMPLE, self.clock.wall(), None);
        match self.call("QuerySendDetails", &params).await {
            Ok(reply) if reply.code == SUCCESS => Ok(true),
            Ok(reply) => Err(wire::only_asked(reply.refusal())),
            Err(outcome) => Err(wire::only_asked(outcome)),
        }
    }
}

type Params = BTreeMap<&'static str, String>;

fn send_sms(settings: &Settings, message: &Message) -> Params {
    // Texts, not numbers: the vendor refuses numbers, which would lose leading zeros anyway.
    let filled: BTreeMap<_, _> =
        settings.template_params.iter().map(|(name, param)| (name, param.of(message))).collect();
    BTreeMap::from([
        ("OutId", message.reference.clone()),
        ("PhoneNumbers", message.phone.vendors()),
        ("SignName", settings.sign_name.clone()),
        ("TemplateCode", settings.template_code.clone()),
        ("TemplateParam", serde_json::to_string(&filled).expect("a map of texts is always JSON")),
    ])
}

/// Asks about the messages to a phone on the day (in China) that `wall` lies in.
fn query_send_details(phone: &str, wall: Millis, message_id: Option<&str>) -> Params {
    let mut params = BTreeMap::from([
        ("CurrentPage", "1".to_owned()),
        ("PageSize", "10".to_owned()),
        ("PhoneNumber", phone.to_owned()),
        ("SendDate", wire::in_china(wall, "%Y%m%d")),
    ]);
    params.extend(message_id.map(|id| ("BizId", id.to_owned())));
    params
}

/// A signed request. It has no `Debug`: see the top of this file.
struct Signed {
    query: String,
    headers: Vec<(&'static str, String)>,
    authorization: String,
}

impl Signed {
    fn new(settings: &Settings, wall: Millis, nonce: &str, action: &str, params: &Params) -> Self {
        let (host, path) = wire::host_and_path(&settings.base_url);
        let query = signing::query(params.iter().map(|(name, value)| (*name, value.as_str())));
        let payload = signing::sha256_hex(b"");
        let headers = vec![
            ("host", host),
            ("x-acs-action", action.to_owned()),
            ("x-acs-content-sha256", payload.clone()),
            ("x-acs-date", wire::in_greenwich(wall, "%Y-%m-%dT%H:%M:%SZ")),
            ("x-acs-signature-nonce", nonce.to_owned()),
            ("x-acs-version", "2017-05-25".to_owned()),
        ];
        let shown: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let canonical = Canonical {
            method: "POST",
            path: &path,
            query: &query,
            headers: &shown,
            payload: &payload,
        };
        let authorization = authorization(settings, &canonical);
        Self { query, headers, authorization }
    }
}

fn authorization(settings: &Settings, canonical: &Canonical<'_>) -> String {
    let to_sign = format!("ACS3-HMAC-SHA256\n{}", canonical.digest());
    let secret = settings.access_key_secret.expose_secret();
    let signature = signing::hmac_sha256(secret.as_bytes(), to_sign.as_bytes());
    format!(
        "ACS3-HMAC-SHA256 Credential={},SignedHeaders={},Signature={}",
        settings.access_key_id,
        canonical.signed_headers(),
        hex::encode(signature)
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
        if !(status == 200 || (400..=599).contains(&status)) {
            return Err(unknown(format!("http-{status}")));
        }
        let strange = |what: &str| {
            if status == 200 { unknown(what) } else { unknown(format!("http-{status}")) }
        };
        if body.trim_ascii().is_empty() {
            return Err(strange("empty-answer"));
        }
        let body: Value = serde_json::from_slice(body).map_err(|_| strange("garbled"))?;
        let code = body.get("Code").ok_or_else(|| strange("no-code"))?;
        let code = code_word(code).ok_or_else(|| strange("garbled"))?;
        Ok(Self { status, code, body })
    }

    /// What it says about a message.
    fn sent(&self) -> Outcome {
        if self.code != SUCCESS {
            return self.refusal();
        }
        let id = self.body.get("BizId").and_then(|id| word(id, 64));
        match id {
            Some(id) if self.status == 200 => Outcome::accepted(id),
            // It cannot be looked up: perhaps it was no answer to our message at all.
            _ => unknown("no-message-id"),
        }
    }

    /// What a code other than success means. One that is not on the list is a refusal as well,
    /// for a reason that its family or else the status tells.
    fn refusal(&self) -> Outcome {
        let family = self.code.split('.').next().unwrap_or_default();
        let class = match (errors::lookup(&self.code), family) {
            (Some(entry), _) => entry.class,
            (None, "Throttling") => Class::RateLimitedAccount,
            (None, "isp") => Class::UnknownOutcome,
            (None, family) if family.starts_with("Missing") => Class::BadRequest,
            (None, _) if self.status == 200 => Class::ProviderError,
            (None, _) => wire::by_status(self.status),
        };
        Outcome::of(class, self.code.clone())
    }

    fn details(&self) -> impl Iterator<Item = &Value> {
        let list = self.body.pointer("/SmsSendDetailDTOs/SmsSendDetailDTO");
        list.and_then(Value::as_array).into_iter().flatten()
    }
}

/// What a message's details say; `None` for another message's.
fn found(detail: &Value, sent: &Sent) -> Option<Found> {
    let ours = word(detail.get("OutId")?, 32)? == sent.reference;
    let message_id = sent.message_id.clone().unwrap_or_default();
    let arrived = match text_of(detail.get("SendStatus")?)?.parse::<u64>().ok() {
        Some(ARRIVED) => true,
        Some(FAILED) => false,
        _ => return ours.then_some(Found::Taken { message_id }),
    };
    ours.then(|| {
        let vendor_code = carriers_code(detail.get("ErrCode"));
        let about = sent.reference.as_str().into();
        Found::Settled(Receipt { about, message_id, arrived, vendor_code })
    })
}

/// The receipts in what the vendor pushed.
fn read_pushed(body: &[u8]) -> Vec<Receipt> {
    let pushed = serde_json::from_slice::<Value>(body).unwrap_or_default();
    pushed.as_array().into_iter().flatten().filter_map(receipt).collect()
}

fn receipt(report: &Value) -> Option<Receipt> {
    let arrived = match report.get("success")? {
        Value::Bool(arrived) => *arrived,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    Some(Receipt {
        about: word(report.get("out_id")?, 32)?.into(),
        message_id: word(report.get("biz_id")?, 64)?,
        arrived,
        vendor_code: carriers_code(report.get("err_code")),
    })
}

#[cfg(test)]
mod tests;
