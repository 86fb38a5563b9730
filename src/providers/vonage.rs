//! Vonage (formerly Nexmo), the SMS API: a text to any number.
//!
//! A request is a form under HTTP Basic. Every answer is HTTP 200 with a status per message; any
//! other status, and an answer without one, is an unknown outcome. The vendor does not recognise a
//! repeated message. Receipts are pushed with our reference in them, and signed if the account has
//! a signature secret.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::codes::{self, Entry, one};
use super::kind::{self, Bills, Given, Kind, Maker, Misfit};
use super::wire::{self, text_of, unknown, word};
use super::{Class, Message, Outcome, Provider, Pushed, Receipt, Receipts, signing, transport};
use crate::domain::outcome::Class::{
    Accepted, AccountDisabled, AuthFailed, BadRequest, BalanceExhausted, BlockedNumber,
    ContentRejected, InvalidNumber, RateLimitedAccount, TemplateRejected, UnknownOutcome,
    UnsupportedDestination,
};
use crate::message;

/// Where the vendor's API is.
pub const BASE_URL: &str = "https://rest.nexmo.com";
/// "The message was taken."
const SUCCESS: &str = "0";

/// The kind, for the table.
pub const KIND: Kind = Kind {
    name: "vonage",
    bills: Bills::Segment,
    secrets: &["api_secret", "signature_secret"],
    read,
    caution: |_| None,
    explain,
};

fn read(given: Given) -> Result<Maker, Misfit> {
    let settings: Settings = given.settings()?;
    settings.check()?;
    Ok(Arc::new(move |parts| {
        let client = parts.client.clone();
        Arc::new(Vonage::new(settings.clone(), client, parts.receipts_url.clone()))
    }))
}

fn explain(code: &str) -> Option<String> {
    lookup(code).map(Entry::explained)
}

/// What a status means; `None` for one that is not on the list.
pub fn lookup(code: &str) -> Option<&'static Entry> {
    codes::lookup(TABLE, code)
}

/// Every known status, sorted as texts.
const TABLE: &[Entry] = &[
    one("0", Accepted, "the message was taken"),
    one("1", RateLimitedAccount, "too many messages a second"),
    one("10", RateLimitedAccount, "too many connections"),
    one("11", AccountDisabled, "the account may not use this API"),
    one("12", ContentRejected, "the text is too long"),
    one("14", AuthFailed, "the signature is wrong"),
    one("15", TemplateRejected, "the sender is not allowed")
        .hint("check `from`: many countries want a number of yours, or a registered name"),
    one("2", BadRequest, "a parameter is missing"),
    one("22", UnsupportedDestination, "the network code is wrong"),
    one("23", BadRequest, "the callback is no URL").hint("check public_url"),
    one("29", AccountDisabled, "a trial account, and the number is not on its list")
        .hint("add the number to the account's test numbers, or pay in"),
    one("3", BadRequest, "a parameter is wrong"),
    one("32", AuthFailed, "signature and secret together"),
    one("33", InvalidNumber, "the number is deactivated"),
    one("4", AuthFailed, "wrong credentials").hint("copy api_key and api_secret again"),
    one("5", UnknownOutcome, "a fault at the vendor"),
    one("6", UnsupportedDestination, "the number's prefix is not known to the vendor"),
    one("7", BlockedNumber, "the number is barred"),
    one("8", AccountDisabled, "the account is barred"),
    one("9", BalanceExhausted, "no credit left").hint("pay in"),
];

/// An account and a sender at the vendor.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Our name for the provider.
    pub name: String,
    /// Where the API is.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// The account's key.
    #[serde(default)]
    pub api_key: String,
    /// Its secret.
    #[serde(default, deserialize_with = "kind::secret")]
    pub api_secret: SecretString,
    /// The key that receipts are signed with (SHA-256 HMAC), where the account has one.
    #[serde(default, deserialize_with = "kind::secret")]
    pub signature_secret: SecretString,
    /// The sender: a number or a name.
    #[serde(default)]
    pub from: String,
}

fn base_url() -> String {
    BASE_URL.to_owned()
}

impl Settings {
    /// Whether these settings can work, as far as that can be told without a call.
    pub fn check(&self) -> Result<(), Misfit> {
        let unsigned = self.signature_secret.expose_secret().is_empty();
        kind::checked([
            ("base_url", kind::sound_url(&self.base_url), kind::URL_ADVICE),
            (
                "api_key",
                kind::sound_id(&self.api_key, ""),
                "copy the API key from the dashboard: letters and digits, without spaces",
            ),
            (
                "api_secret",
                kind::sound_secret(&self.api_secret),
                "copy the API secret from the dashboard, without spaces",
            ),
            (
                "signature_secret",
                unsigned || kind::sound_secret(&self.signature_secret),
                "copy the signature secret without spaces, or leave it out",
            ),
            (
                "from",
                kind::sound_id(&self.from, " "),
                "write the sender: a number of yours without +, or a name of 11 letters",
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
pub struct Vonage {
    settings: Settings,
    client: reqwest::Client,
    receipts_url: Option<String>,
}

impl Vonage {
    /// A provider that calls through this client. `receipts_url` is where it may push receipts.
    pub fn new(settings: Settings, client: reqwest::Client, receipts_url: Option<String>) -> Self {
        Self { settings, client, receipts_url }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let Settings { base_url, api_key, api_secret, .. } = &self.settings;
        self.client
            .request(method, format!("{}{path}", base_url.trim_end_matches('/')))
            .basic_auth(api_key, Some(api_secret.expose_secret()))
            .header(ACCEPT, "application/json")
    }

    fn form(&self, message: &Message) -> String {
        let mut form = vec![
            ("to", message.phone.e164().trim_start_matches('+')),
            ("from", &self.settings.from),
            ("text", &message.text),
            ("client-ref", &message.reference),
        ];
        if !message::is_gsm(&message.text) {
            form.push(("type", "unicode"));
        }
        form.extend(self.receipts_url.as_deref().map(|url| ("callback", url)));
        signing::query(form)
    }

    fn is_signed(&self, fields: &Fields) -> bool {
        let secret = self.settings.signature_secret.expose_secret();
        let given = fields.get("sig").map(|given| given.to_ascii_lowercase());
        let ours = signature(secret, fields);
        let same = |given: String| verify_slices_are_equal(given.as_bytes(), ours.as_bytes());
        secret.is_empty() || given.is_some_and(|given| same(given).is_ok())
    }
}

impl fmt::Debug for Vonage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vonage").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for Vonage {
    fn name(&self) -> &str {
        &self.settings.name
    }

    /// The vendor documents nothing of the kind.
    fn deduplicates(&self) -> bool {
        false
    }

    async fn send(&self, message: &Message) -> Outcome {
        let call = self.request(reqwest::Method::POST, "/sms/json");
        let form = self.form(message);
        let call = call.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        match transport::call(call).await {
            Ok(answer) => read_answer(answer.status.as_u16(), &answer.body),
            Err(outcome) => outcome,
        }
    }

    fn read_receipts(&self, pushed: &Pushed<'_>) -> Option<Receipts> {
        let fields = fields(pushed.body);
        self.is_signed(&fields)
            .then(|| Receipts { receipts: receipt(&fields).into_iter().collect(), reply: "" })
    }

    /// The vendor offers nothing of the kind.
    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        Ok(Vec::new())
    }

    /// Asks for the balance.
    async fn try_credentials(&self) -> Result<bool, Outcome> {
        let call = self.request(reqwest::Method::GET, "/account/get-balance");
        let answer = transport::call(call).await.map_err(wire::only_asked)?;
        match answer.status.as_u16() {
            200 => Ok(true),
            status => {
                let outcome = Outcome::of(wire::by_status(status), format!("http-{status}"));
                Err(wire::only_asked(outcome))
            }
        }
    }
}

/// What an answer says about the message.
fn read_answer(status: u16, body: &[u8]) -> Outcome {
    if status != 200 {
        let class = if status >= 400 { wire::by_status(status) } else { Class::UnknownOutcome };
        return Outcome::of(class, format!("http-{status}"));
    }
    if body.trim_ascii().is_empty() {
        return unknown("empty-answer");
    }
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return unknown("garbled") };
    let messages = answer.get("messages").and_then(Value::as_array).map(Vec::as_slice);
    // One message is one segment here, so there is one entry.
    let Some([message]) = messages else { return unknown("no-status") };
    let code = message.get("status").and_then(text_of);
    let small = |code: &String| code.len() <= 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    let id = message.get("message-id").and_then(|id| word(id, 64));
    match (code.filter(small), id) {
        (None, _) => unknown("garbled"),
        (Some(code), Some(id)) if code == SUCCESS => Outcome::accepted(id),
        (Some(code), None) if code == SUCCESS => unknown("no-message-id"),
        (Some(code), _) => {
            let class = lookup(&code).map_or(Class::ProviderError, |entry| entry.class);
            Outcome::of(class, code)
        }
    }
}

type Fields = BTreeMap<String, String>;

/// The fields of a push, which is a form or JSON, as the account is set up.
fn fields(body: &[u8]) -> Fields {
    if let Ok(Value::Object(members)) = serde_json::from_slice(body) {
        let texts = members.iter().filter_map(|(name, it)| Some((name.clone(), text_of(it)?)));
        return texts.collect();
    }
    wire::form(std::str::from_utf8(body).unwrap_or_default()).into_iter().collect()
}

/// The signature over fields as the vendor documents it: `&name=value` in the names' order, with
/// `_` for what would part them.
fn signature(secret: &str, fields: &Fields) -> String {
    let signed = fields.iter().filter(|(name, _)| *name != "sig");
    let pair =
        |(name, value): (&String, &String)| format!("&{name}={}", value.replace(['&', '='], "_"));
    let text = signed.map(pair).collect::<Vec<_>>().concat();
    hex::encode(signing::hmac_sha256(secret.as_bytes(), text.as_bytes()))
}

fn receipt(fields: &Fields) -> Option<Receipt> {
    let field = |name: &str, most| word(&fields.get(name)?.as_str().into(), most);
    let said = field("status", 32)?;
    let arrived = match said.as_str() {
        "delivered" => true,
        "failed" | "rejected" | "expired" => false,
        _ => return None,
    };
    let code = field("err-code", 32).filter(|_| !arrived);
    Some(Receipt {
        about: field("client-ref", 32)?.into(),
        message_id: field("messageId", 64)?,
        arrived,
        vendor_code: code.unwrap_or(said),
    })
}

#[cfg(test)]
mod tests;
