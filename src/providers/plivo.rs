//! Plivo, the Message API: a text to any number.
//!
//! A request is JSON under HTTP Basic. A message is taken with 202; a refusal is another status,
//! whose reason is prose, so the status alone tells. After the body has left, 5xx and silence are
//! unknown outcomes. The vendor does not recognise a repeated message.
//!
//! Receipts are pushed to an address that carries our reference, signed over address, form and a
//! nonce (V3). Where nobody outside can reach us, the vendor is asked about each message instead.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::codes::{self, Entry, one};
use super::kind::{self, Bills, Given, Kind, Maker, Misfit};
use super::wire::{self, text_of, unknown, word};
use super::{
    Class, Found, LooksUp, Message, Outcome, Provider, Pushed, Receipt, Receipts, Sent, transport,
};
use crate::domain::outcome::Class::{
    AccountDisabled, BalanceExhausted, BlockedNumber, ContentRejected, InvalidNumber,
    ProviderError, TemplateRejected, UnsupportedDestination,
};

/// Where the vendor's API is.
pub const BASE_URL: &str = "https://api.plivo.com";
/// The name of our reference in the address for receipts.
const REFERENCE: &str = "reference";
/// Where a push carries its signatures, and the nonce that they are over.
const SIGNATURE: &str = "x-plivo-signature-v3";
const NONCE: &str = "x-plivo-signature-v3-nonce";

/// The kind, for the table.
pub const KIND: Kind = Kind {
    name: "plivo",
    bills: Bills::Segment,
    secrets: &["auth_token"],
    read,
    caution: |_| None,
    explain,
};

fn read(given: Given) -> Result<Maker, Misfit> {
    let settings: Settings = given.settings()?;
    settings.check()?;
    Ok(Arc::new(move |parts| {
        let (client, receipts_url) = (parts.client.clone(), parts.receipts_url.clone());
        Arc::new(Plivo::new(settings.clone(), client, receipts_url))
    }))
}

fn explain(code: &str) -> Option<String> {
    codes::lookup(TABLE, code).map(Entry::explained)
}

/// What tells more than its class, sorted as texts: the codes of receipts, and the one status that
/// means something of its own here.
const TABLE: &[Entry] = &[
    one("10", ContentRejected, "a carrier refuses the message"),
    one("100", UnsupportedDestination, "the carrier's network takes no such message"),
    one("1000", ProviderError, "the carrier does not say why"),
    one("110", ContentRejected, "the text is too long"),
    one("20", ProviderError, "a carrier's network has a fault"),
    one("200", BlockedNumber, "the person wrote STOP to this sender")
        .hint("the person has to write START"),
    one("201", UnsupportedDestination, "a toll-free sender of the US does not reach Canada")
        .hint("check `from`"),
    one("30", ContentRejected, "a carrier takes it for spam")
        .hint("the United States want registered senders; long codes are for few messages"),
    one("300", ProviderError, "the vendor could not hand it on"),
    one("40", TemplateRejected, "the sender cannot send messages")
        .hint("check `from`: a number of this account that can send, or a registered name"),
    one("420", ProviderError, "its code was no good any more when its turn came"),
    one("50", InvalidNumber, "the number is wrong, or cannot take messages"),
    one("60", ProviderError, "the message went in a loop"),
    one("70", InvalidNumber, "the number is out of reach for good"),
    one("80", ProviderError, "the number is out of reach at the moment"),
    one("90", UnsupportedDestination, "there is no way to this number's network"),
    one("900", BalanceExhausted, "no credit left").hint("pay in"),
    one("910", AccountDisabled, "the account is barred"),
    one("http-403", UnsupportedDestination, "the account may not send to this country")
        .hint("allow the country in the console, Messaging, Geo permissions"),
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
    /// The account (`MA…`), or a subaccount (`SA…`).
    #[serde(default)]
    pub auth_id: String,
    /// Its token, which also signs receipts.
    #[serde(default, deserialize_with = "kind::secret")]
    pub auth_token: SecretString,
    /// The sender: a number or a name.
    #[serde(default)]
    pub from: String,
}

fn base_url() -> String {
    BASE_URL.to_owned()
}

fn sound_auth_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    text.len() == 20
        && (text.starts_with("MA") || text.starts_with("SA"))
        && text.bytes().all(plain)
}

impl Settings {
    /// Whether these settings can work, as far as that can be told without a call.
    pub fn check(&self) -> Result<(), Misfit> {
        kind::checked([
            ("base_url", kind::sound_url(&self.base_url), kind::URL_ADVICE),
            (
                "auth_id",
                sound_auth_id(&self.auth_id),
                "copy the Auth ID from the console: MA or SA, and 18 capitals and digits",
            ),
            (
                "auth_token",
                kind::sound_secret(&self.auth_token),
                "copy the Auth Token from the console; receipts are signed with it",
            ),
            (
                "from",
                kind::sound_id(&self.from, "+ -_&"),
                "write the sender as +14155550100, as a short code, or as a name of 11 characters",
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
pub struct Plivo {
    settings: Settings,
    client: reqwest::Client,
    receipts_url: Option<String>,
}

impl Plivo {
    /// A provider that calls through this client. `receipts_url` is where it may push receipts.
    pub fn new(settings: Settings, client: reqwest::Client, receipts_url: Option<String>) -> Self {
        Self { settings, client, receipts_url }
    }

    /// A request about something of the account's: `Message/`, or the account itself.
    fn request(&self, method: Method, of: &str) -> RequestBuilder {
        let Settings { base_url, auth_id, auth_token, .. } = &self.settings;
        let base_url = base_url.trim_end_matches('/');
        self.client
            .request(method, format!("{base_url}/v1/Account/{auth_id}/{of}"))
            .basic_auth(auth_id, Some(auth_token.expose_secret()))
            .header(ACCEPT, "application/json")
    }

    /// The vendor is to keep neither number nor text, and not to deliver once the code is no good.
    fn body(&self, message: &Message) -> Value {
        let mut body = json!({
            "src": self.settings.from,
            "dst": message.phone.e164(),
            "text": message.text,
            "type": "sms",
            "method": "POST",
            "log": "false",
            "trackable": false,
            "message_expiry": message.minutes.max(1) * 60,
        });
        if let Some(url) = &self.receipts_url {
            body["url"] = format!("{url}?{REFERENCE}={}", message.reference).into();
        }
        body
    }

    async fn get(&self, of: &str) -> Result<Value, Outcome> {
        let answer = transport::call(self.request(Method::GET, of)).await;
        let answer = answer.map_err(wire::only_asked)?;
        match answer.status.as_u16() {
            200 => Ok(serde_json::from_slice(&answer.body).unwrap_or_default()),
            status => {
                let outcome = Outcome::of(wire::by_status(status), format!("http-{status}"));
                Err(wire::only_asked(outcome))
            }
        }
    }
}

impl fmt::Debug for Plivo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plivo").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for Plivo {
    fn name(&self) -> &str {
        &self.settings.name
    }

    /// The vendor documents nothing of the kind.
    fn deduplicates(&self) -> bool {
        false
    }

    async fn send(&self, message: &Message) -> Outcome {
        let call = self.request(Method::POST, "Message/");
        let body = self.body(message).to_string();
        let call = call.header(CONTENT_TYPE, "application/json").body(body);
        match transport::call(call).await {
            Ok(answer) => read_answer(answer.status.as_u16(), &answer.body),
            Err(outcome) => outcome,
        }
    }

    fn read_receipts(&self, pushed: &Pushed<'_>) -> Option<Receipts> {
        is_signed(&self.settings.auth_token, pushed)
            .then(|| Receipts { receipts: read_pushed(pushed).into_iter().collect(), reply: "" })
    }

    /// There is no call that gives all new ones.
    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        Ok(Vec::new())
    }

    /// Only a message whose name is known can be asked about: lists show no texts.
    fn looks_up(&self) -> LooksUp {
        if self.receipts_url.is_some() { LooksUp::Nothing } else { LooksUp::All }
    }

    async fn look_up(&self, sent: &Sent) -> Result<Found, Outcome> {
        let Some(id) = &sent.message_id else { return Ok(Found::Nothing) };
        let message = self.get(&format!("Message/{id}/")).await?;
        let text = |name: &str| message.get(name).and_then(text_of);
        let state = text("message_state").unwrap_or_default();
        Ok(match receipt(&sent.reference, id, &state, text("error_code")) {
            Some(receipt) => Found::Settled(receipt),
            None => Found::Taken { message_id: id.clone() },
        })
    }

    /// Looks at the account, of which nothing is read.
    async fn try_credentials(&self) -> Result<bool, Outcome> {
        self.get("").await.map(|_| true)
    }
}

/// What an answer says about the message.
fn read_answer(status: u16, body: &[u8]) -> Outcome {
    match status {
        200..=202 => {
            let body = serde_json::from_slice::<Value>(body).unwrap_or_default();
            let names = body.get("message_uuid").and_then(Value::as_array).map(Vec::as_slice);
            let id = if let Some([only]) = names { word(only, 64) } else { None };
            id.map_or_else(|| unknown("no-message-id"), Outcome::accepted)
        }
        // The account is known (else 401), and may not send there.
        403 => Outcome::of(Class::UnsupportedDestination, "http-403"),
        _ => Outcome::of(wire::by_status(status), format!("http-{status}")),
    }
}

/// Whether one of a push's signatures is made with this token: over the address as we gave it, the
/// form's fields in order, and the nonce.
fn is_signed(token: &SecretString, pushed: &Pushed<'_>) -> bool {
    let header = |name: &str| pushed.headers.get(name).and_then(|value| value.to_str().ok());
    let Some((given, nonce)) = header(SIGNATURE).zip(header(NONCE)) else { return false };
    let Ok(body) = std::str::from_utf8(pushed.body) else { return false };
    let (address, query) = pushed.url.split_once('?').unwrap_or((pushed.url, ""));
    // Both are signed decoded and sorted, names and then values.
    let sorted = |text: &str| {
        let mut pairs = wire::form(text);
        pairs.sort();
        pairs
    };
    let query = sorted(query).into_iter().map(|(name, value)| format!("{name}={value}"));
    let query = query.collect::<Vec<_>>().join("&");
    let dot = if query.is_empty() { "" } else { "." };
    let fields: String = sorted(body).into_iter().map(|(name, value)| name + &value).collect();
    let text = format!("{address}?{query}{dot}{fields}.{nonce}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.expose_secret().as_bytes());
    // There may be several: of the account and of its subaccount.
    given.split(',').any(|one| {
        let one = BASE64.decode(one.trim()).unwrap_or_default();
        hmac::verify(&key, text.as_bytes(), &one).is_ok()
    })
}

/// The receipt in a push; `None` for states on the way.
fn read_pushed(pushed: &Pushed<'_>) -> Option<Receipt> {
    let (_, query) = pushed.url.split_once('?')?;
    let (query, form) = (wire::form(query), wire::form(std::str::from_utf8(pushed.body).ok()?));
    let field = |pairs: &[(String, String)], wanted: &str| {
        pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
    };
    let reference = word(&field(&query, REFERENCE)?.into(), 32)?;
    let id = word(&field(&form, "MessageUUID")?.into(), 64)?;
    receipt(&reference, &id, &field(&form, "Status")?, field(&form, "ErrorCode"))
}

fn receipt(reference: &str, id: &str, state: &str, code: Option<String>) -> Option<Receipt> {
    let arrived = match state {
        "delivered" | "read" => true,
        "undelivered" | "failed" | "rejected" => false,
        _ => return None,
    };
    let digits = |code: &String| {
        (2..=4).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_digit())
    };
    let code = code.filter(digits).filter(|_| !arrived);
    let (about, message_id) = (reference.into(), id.to_owned());
    let vendor_code = code.unwrap_or_else(|| state.to_owned());
    Some(Receipt { about, message_id, arrived, vendor_code })
}

#[cfg(test)]
mod tests;
