//! Twilio: a text to any number (Messages), or a code of ours in Twilio's own words (Verify).
//!
//! A request is a form under HTTP Basic. A message is created with 201; a refusal is another
//! status with a numeric code, which [`errors`] explains, and without one the status alone tells.
//! After the body has left, 5xx and silence are unknown outcomes. The vendor does not recognise a
//! repeated message.
//!
//! Receipts are pushed to an address that carries our reference, signed over address and form.
//! Where nobody outside can reach us, the vendor is asked about each message instead.

pub mod errors;
mod signature;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::fmt::rfc2822;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::codes::Entry;
use super::kind::{self, Bills, Given, Kind, Maker, Misfit};
use super::signing;
use super::wire::{self, text_of, unknown, word};
use super::{
    Class, Found, LooksUp, Message, Outcome, Provider, Pushed, Receipt, Receipts, Sent, transport,
};
use crate::clock::{MINUTE, Millis};

/// Where Messages are.
pub const BASE_URL: &str = "https://api.twilio.com";
/// Where Verify is.
pub const VERIFY_URL: &str = "https://verify.twilio.com";
/// The name of our reference in the address for receipts.
const REFERENCE: &str = "reference";

/// By how much our clock and the vendor's may differ.
const CLOCKS_DIFFER: Millis = 5 * MINUTE;

/// The kind, for the table.
pub const KIND: Kind = Kind {
    name: "twilio",
    bills: Bills::Segment,
    secrets: &["auth_token", "api_key_secret", "shared_key"],
    read,
    caution: |_| None,
    explain,
};

fn read(given: Given) -> Result<Maker, Misfit> {
    let settings: Settings = given.settings()?;
    settings.check()?;
    Ok(Arc::new(move |parts| {
        let (client, receipts_url) = (parts.client.clone(), parts.receipts_url.clone());
        Arc::new(Twilio::new(settings.clone(), client, receipts_url))
    }))
}

fn explain(code: &str) -> Option<String> {
    errors::lookup(code).map(Entry::explained)
}

/// An account and a sender at the vendor.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Our name for the provider.
    pub name: String,
    /// Where the API is; empty for the vendor's own.
    #[serde(default)]
    pub base_url: String,
    /// The account (`AC…`).
    #[serde(default)]
    pub account_sid: String,
    /// Its primary token, which also signs receipts.
    #[serde(default, deserialize_with = "kind::secret")]
    pub auth_token: SecretString,
    /// An API key (`SK…`) for calls, instead of the token.
    #[serde(default)]
    pub api_key_sid: String,
    /// Its secret.
    #[serde(default, deserialize_with = "kind::secret")]
    pub api_key_secret: SecretString,
    /// The key that receipts are signed with, where it is not the token.
    #[serde(default, deserialize_with = "kind::secret")]
    pub shared_key: SecretString,
    /// The sender: a number, a short code or a name.
    #[serde(default)]
    pub from: String,
    /// A messaging service (`MG…`), instead of a sender.
    #[serde(default)]
    pub messaging_service_sid: String,
    /// A Verify service (`VA…`), instead of a sender.
    #[serde(default)]
    pub verify_service_sid: String,
}

fn sound_sid(text: &str, prefix: &str) -> bool {
    let digits = text.strip_prefix(prefix).unwrap_or_default();
    digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Settings {
    /// Whether these settings can work, as far as that can be told without a call.
    pub fn check(&self) -> Result<(), Misfit> {
        let senders = [&self.from, &self.messaging_service_sid, &self.verify_service_sid];
        let optional = |text: &str, prefix: &str| text.is_empty() || sound_sid(text, prefix);
        let no_key_secret = self.api_key_secret.expose_secret().is_empty();
        let no_shared_key = self.shared_key.expose_secret().is_empty();
        kind::checked([
            (
                "base_url",
                self.base_url.is_empty() || kind::sound_url(&self.base_url),
                kind::URL_ADVICE,
            ),
            (
                "account_sid",
                sound_sid(&self.account_sid, "AC"),
                "copy the Account SID from the console: AC and 32 digits (0-9, a-f)",
            ),
            (
                "auth_token",
                kind::sound_secret(&self.auth_token),
                "copy the primary Auth Token from the console; receipts are signed with it",
            ),
            (
                "api_key_sid",
                optional(&self.api_key_sid, "SK"),
                "copy the SID of the API key: SK and 32 digits; or leave it out",
            ),
            (
                "api_key_secret",
                no_key_secret == self.api_key_sid.is_empty()
                    && (no_key_secret || kind::sound_secret(&self.api_key_secret)),
                "give api_key_sid and api_key_secret together, or neither of them",
            ),
            (
                "shared_key",
                no_shared_key || kind::sound_secret(&self.shared_key),
                "copy the shared key for webhooks without spaces, or leave it out",
            ),
            (
                "from",
                senders.into_iter().filter(|sender| !sender.is_empty()).count() == 1,
                "give exactly one of from, messaging_service_sid and verify_service_sid",
            ),
            (
                "from",
                self.from.is_empty() || kind::sound_id(&self.from, "+ -_&"),
                "write the sender as +15005550006, as a short code, or as a name of 11 characters",
            ),
            (
                "messaging_service_sid",
                optional(&self.messaging_service_sid, "MG"),
                "copy the SID of the messaging service: MG and 32 digits",
            ),
            (
                "verify_service_sid",
                optional(&self.verify_service_sid, "VA"),
                "copy the SID of the Verify service: VA and 32 digits",
            ),
        ])
    }

    fn verifies(&self) -> bool {
        !self.verify_service_sid.is_empty()
    }

    fn base_url(&self) -> &str {
        match self.base_url.trim_end_matches('/') {
            "" if self.verifies() => VERIFY_URL,
            "" => BASE_URL,
            given => given,
        }
    }

    fn basic(&self) -> (&str, &str) {
        if self.api_key_sid.is_empty() {
            (&self.account_sid, self.auth_token.expose_secret())
        } else {
            (&self.api_key_sid, self.api_key_secret.expose_secret())
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The provider.
pub struct Twilio {
    settings: Settings,
    client: reqwest::Client,
    receipts_url: Option<String>,
}

impl Twilio {
    /// A provider that calls through this client. `receipts_url` is where it may push receipts.
    pub fn new(settings: Settings, client: reqwest::Client, receipts_url: Option<String>) -> Self {
        Self { settings, client, receipts_url }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let (user, password) = self.settings.basic();
        self.client
            .request(method, format!("{}{path}", self.settings.base_url()))
            .basic_auth(user, Some(password))
            .header(ACCEPT, "application/json")
    }

    fn form(&self, message: &Message) -> (String, String) {
        if self.settings.verifies() {
            return start(&self.settings, message);
        }
        let callback = self.receipts_url.as_ref();
        let callback = callback.map(|url| format!("{url}?{REFERENCE}={}", message.reference));
        create(&self.settings, message, callback.as_deref())
    }

    async fn get(&self, path: &str) -> Result<Value, Outcome> {
        let answer = transport::call(self.request(Method::GET, path)).await;
        let answer = answer.map_err(wire::only_asked)?;
        let body = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        match answer.status.as_u16() {
            200 => Ok(body),
            status => Err(wire::only_asked(refusal(status, &body))),
        }
    }
}

impl fmt::Debug for Twilio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Twilio").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for Twilio {
    fn name(&self) -> &str {
        &self.settings.name
    }

    /// Creating a message has no key of ours that the vendor documents.
    fn deduplicates(&self) -> bool {
        false
    }

    async fn send(&self, message: &Message) -> Outcome {
        let (path, form) = self.form(message);
        let call = self.request(Method::POST, &path);
        let call = call.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        match transport::call(call).await {
            Ok(answer) => read_answer(answer.status.as_u16(), &answer.body),
            Err(outcome) => outcome,
        }
    }

    fn read_receipts(&self, pushed: &Pushed<'_>) -> Option<Receipts> {
        let Settings { auth_token, shared_key, .. } = &self.settings;
        if !signature::is_good(auth_token, shared_key, pushed) {
            return None;
        }
        Some(Receipts { receipts: read_pushed(pushed).into_iter().collect(), reply: "" })
    }

    /// There is no call that gives all new ones.
    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        Ok(Vec::new())
    }

    /// Verify has no receipts, and sends the same code again if it is asked again.
    fn looks_up(&self) -> LooksUp {
        match self.receipts_url {
            _ if self.settings.verifies() => LooksUp::Nothing,
            Some(_) => LooksUp::Unknown,
            None => LooksUp::All,
        }
    }

    /// Fetches the message; or, where nobody knows its name, looks for it among the latest to this
    /// number: the one with this very text, and so with this code.
    async fn look_up(&self, sent: &Sent) -> Result<Found, Outcome> {
        let account = &self.settings.account_sid;
        if let Some(sid) = &sent.message_id {
            let path = format!("/2010-04-01/Accounts/{account}/Messages/{sid}.json");
            return Ok(found(&self.get(&path).await?, sent));
        }
        let query = signing::query([("To", sent.phone.e164()), ("PageSize", "20")]);
        let path = format!("/2010-04-01/Accounts/{account}/Messages.json?{query}");
        let list = self.get(&path).await?;
        let messages = list.get("messages").and_then(Value::as_array).into_iter().flatten();
        let ours = messages.into_iter().find(|message| is_this(message, sent));
        Ok(ours.map_or(Found::Nothing, |message| found(message, sent)))
    }

    /// Lists one message, or looks at the Verify service. Neither the text of the message nor
    /// anything else in the answer is read.
    async fn try_credentials(&self) -> Result<bool, Outcome> {
        let Settings { account_sid, verify_service_sid, .. } = &self.settings;
        let path = if self.settings.verifies() {
            format!("/v2/Services/{verify_service_sid}")
        } else {
            format!("/2010-04-01/Accounts/{account_sid}/Messages.json?PageSize=1")
        };
        self.get(&path).await.map(|_| true)
    }
}

/// The path and form that create a message. It is not delivered once its code is no good.
fn create(settings: &Settings, message: &Message, callback: Option<&str>) -> (String, String) {
    let validity = (message.minutes.max(1) * 60).to_string();
    let sender = if settings.from.is_empty() {
        ("MessagingServiceSid", settings.messaging_service_sid.as_str())
    } else {
        ("From", settings.from.as_str())
    };
    let mut form = vec![
        ("To", message.phone.e164()),
        sender,
        ("Body", &message.text),
        ("ValidityPeriod", &validity),
    ];
    form.extend(callback.map(|url| ("StatusCallback", url)));
    let path = format!("/2010-04-01/Accounts/{}/Messages.json", settings.account_sid);
    (path, signing::query(form))
}

/// The path and form that let Verify send our code in its own words.
fn start(settings: &Settings, message: &Message) -> (String, String) {
    let path = format!("/v2/Services/{}/Verifications", settings.verify_service_sid);
    let code = message.code.digits();
    let form = [("To", message.phone.e164()), ("Channel", "sms"), ("CustomCode", code)];
    (path, signing::query(form))
}

/// What an answer says about the message.
fn read_answer(status: u16, body: &[u8]) -> Outcome {
    let body = serde_json::from_slice::<Value>(body).unwrap_or_default();
    if !(200..=202).contains(&status) {
        return refusal(status, &body);
    }
    // A message can be created and refused at once.
    if let Some(code) = body.get("error_code").and_then(numeric) {
        let class = errors::lookup(&code).map_or(Class::ProviderError, |entry| entry.class);
        return Outcome::of(class, code);
    }
    let id = body.get("sid").and_then(|id| word(id, 64));
    id.map_or_else(|| unknown("no-message-id"), Outcome::accepted)
}

/// What another status means: by its code, or else by itself.
fn refusal(status: u16, body: &Value) -> Outcome {
    let code = body.get("code").and_then(numeric).filter(|_| status >= 400);
    let listed = code.as_deref().and_then(errors::lookup);
    let class = listed.map_or_else(|| wire::by_status(status), |entry| entry.class);
    Outcome::of(class, code.unwrap_or_else(|| format!("http-{status}")))
}

/// A code of the vendor's: five digits or so.
fn numeric(value: &Value) -> Option<String> {
    let text = text_of(value)?;
    let short = (4..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    short.then_some(text)
}

/// Whether a message of the list is the one that was handed over.
fn is_this(message: &Value, sent: &Sent) -> bool {
    let text = |name: &str| message.get(name).and_then(Value::as_str);
    let created = text("date_created").and_then(|date| rfc2822::parse(date).ok());
    let created = created.map(|date| date.timestamp().as_millisecond());
    sent.text.as_deref().is_some_and(|ours| text("body") == Some(ours))
        && text("to") == Some(sent.phone.e164())
        && created.is_some_and(|created| created >= sent.wall - CLOCKS_DIFFER)
}

/// What a message that was fetched says.
fn found(message: &Value, sent: &Sent) -> Found {
    let text = |name: &str| message.get(name).and_then(text_of);
    let Some(sid) = message.get("sid").and_then(|sid| word(sid, 64)) else { return Found::Nothing };
    let (state, code) = (text("status").unwrap_or_default(), text("error_code"));
    match receipt(&sent.reference, &sid, &state, code.as_deref()) {
        Some(receipt) => Found::Settled(receipt),
        None => Found::Taken { message_id: sid },
    }
}

/// The receipt in a push; `None` for states on the way.
fn read_pushed(pushed: &Pushed<'_>) -> Option<Receipt> {
    let (_, query) = pushed.url.split_once('?')?;
    let query = wire::form(query);
    let form = wire::form(std::str::from_utf8(pushed.body).ok()?);
    let field = |pairs: &[(String, String)], wanted: &str| {
        pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
    };
    let reference = word(&field(&query, REFERENCE)?.into(), 32)?;
    let sid = word(&field(&form, "MessageSid")?.into(), 64)?;
    let code = field(&form, "ErrorCode");
    receipt(&reference, &sid, &field(&form, "MessageStatus")?, code.as_deref())
}

fn receipt(reference: &str, sid: &str, state: &str, code: Option<&str>) -> Option<Receipt> {
    let arrived = match state {
        "delivered" | "read" => true,
        "undelivered" | "failed" => false,
        _ => return None,
    };
    let code = code.and_then(|code| numeric(&code.into()));
    let vendor_code = code.filter(|_| !arrived).unwrap_or_else(|| state.to_owned());
    let (about, message_id) = (reference.into(), sid.to_owned());
    Some(Receipt { about, message_id, arrived, vendor_code })
}

#[cfg(test)]
mod tests;
