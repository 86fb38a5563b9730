//! Any HTTP endpoint of your own: a JSON or form body made of a template, signed the way that
//! standard-webhooks does. Status and a small reply decide the outcome; `docs/providers.md` has
//! the whole of it for who writes such an endpoint.
//!
//! The signature is an HMAC over id, time and body, and the endpoint signs its receipts alike.

mod template;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::kind::{self, Bills, Given, Kind, Maker, Misfit};
use super::wire::{self, unknown, word};
use super::{Class, Message, Outcome, Provider, Pushed, Receipt, Receipts, transport};
use crate::clock::{Clock, MINUTE, Millis, SECOND};
use template::Template;

/// How far apart the clocks of a receipt's sender and ours may be, and how old a receipt.
const AGE_MAX: Millis = 5 * MINUTE;
/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// The kind, for the table.
pub const KIND: Kind = Kind {
    name: "webhook",
    bills: Bills::Segment,
    secrets: &["signing_secret", "authorization"],
    read,
    caution: |_| None,
    explain: |_| None,
};

fn read(given: Given) -> Result<Maker, Misfit> {
    let settings: Settings = given.settings()?;
    settings.check()?;
    Ok(Arc::new(move |parts| {
        let (client, clock) = (parts.client.clone(), parts.clock.clone());
        Arc::new(Webhook::new(settings.clone(), client, clock))
    }))
}

/// An endpoint, and how to speak to it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Our name for the provider.
    pub name: String,
    /// The endpoint.
    #[serde(default)]
    pub base_url: String,
    /// The key that requests and receipts are signed with: `whsec_` and base64.
    #[serde(default, deserialize_with = "kind::secret")]
    pub signing_secret: SecretString,
    /// The `Authorization` header, where the endpoint wants one.
    #[serde(default, deserialize_with = "kind::secret")]
    pub authorization: SecretString,
    /// How the body is written.
    #[serde(default)]
    pub format: Format,
    /// The body's members; texts in it may hold `{phone}` and so on.
    #[serde(default)]
    pub body: Template,
    /// Whether the endpoint sends a message with the same `webhook-id` once only.
    #[serde(default)]
    pub deduplicates: bool,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON object.
    #[default]
    Json,
    /// A form.
    Form,
}

impl Settings {
    /// Whether these settings can work, as far as that can be told without a call.
    pub fn check(&self) -> Result<(), Misfit> {
        let key = self.key();
        let authorization = HeaderValue::try_from(self.authorization.expose_secret());
        kind::checked([
            (
                "base_url",
                kind::sound_url(&self.base_url),
                "write the endpoint's whole http or https URL with nothing behind the path",
            ),
            (
                "signing_secret",
                key.is_some_and(|key| (24..=64).contains(&key.len())),
                "write whsec_ and 24 to 64 random bytes in base64; `openssl rand -base64 32` \
                 makes them",
            ),
            (
                "authorization",
                authorization.is_ok(),
                "write the whole value of the header, such as Bearer …, in plain ASCII",
            ),
            ("body", self.body.is_known(), template::ADVICE),
            (
                "body",
                self.body.shows_phone_and_code(),
                "the body must hold {phone}, and {code} or {text}: nothing could be sent otherwise",
            ),
            (
                "body",
                self.format == Format::Json || self.body.is_flat(),
                "a form has no members within members: write texts only, or format = \"json\"",
            ),
        ])
    }

    fn key(&self) -> Option<Vec<u8>> {
        let text = self.signing_secret.expose_secret().strip_prefix(PREFIX)?;
        BASE64.decode(text).ok()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The provider.
pub struct Webhook {
    settings: Settings,
    key: hmac::Key,
    client: reqwest::Client,
    clock: Clock,
}

impl Webhook {
    /// A provider that calls through this client. Signatures carry the clock's wall time.
    pub fn new(settings: Settings, client: reqwest::Client, clock: Clock) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &settings.key().unwrap_or_default());
        Self { settings, key, client, clock }
    }

    fn authorized(&self, call: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let value = HeaderValue::try_from(self.settings.authorization.expose_secret());
        match value {
            Ok(mut value) if !value.is_empty() => {
                value.set_sensitive(true);
                call.header(AUTHORIZATION, value)
            }
            _ => call,
        }
    }

    fn body(&self, message: &Message) -> (&'static str, String) {
        match self.settings.format {
            Format::Json => ("application/json", self.settings.body.json(message)),
            Format::Form => ("application/x-www-form-urlencoded", self.settings.body.form(message)),
        }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for Webhook {
    fn name(&self) -> &str {
        &self.settings.name
    }

    /// As the settings say: only who wrote the endpoint knows.
    fn deduplicates(&self) -> bool {
        self.settings.deduplicates
    }

    async fn send(&self, message: &Message) -> Outcome {
        let (kind, body) = self.body(message);
        let seconds = self.clock.wall().div_euclid(SECOND).to_string();
        let signature = sign(&self.key, &message.reference, &seconds, body.as_bytes());
        let call = self
            .authorized(self.client.post(&self.settings.base_url))
            .header(CONTENT_TYPE, kind)
            .header("webhook-id", &message.reference)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature)
            .body(body);
        match transport::call(call).await {
            Ok(answer) => read_answer(answer.status.as_u16(), &answer.body, &message.reference),
            Err(outcome) => outcome,
        }
    }

    fn read_receipts(&self, pushed: &Pushed<'_>) -> Option<Receipts> {
        is_signed(&self.key, self.clock.wall(), pushed.headers, pushed.body)
            .then(|| Receipts { receipts: read_pushed(pushed.body), reply: "" })
    }

    /// There is nobody to ask.
    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        Ok(Vec::new())
    }

    /// Only tries whether somebody is there: `HEAD`, which by HTTP's own rules does nothing.
    async fn try_credentials(&self) -> Result<bool, Outcome> {
        let call = self.authorized(self.client.head(&self.settings.base_url));
        let answer = transport::call(call).await.map_err(wire::only_asked)?;
        match answer.status.as_u16() {
            status @ 500.. => Err(Outcome::of(Class::ProviderError, format!("http-{status}"))),
            _ => Ok(true),
        }
    }
}

/// The signature of a body, as standard-webhooks writes it.
fn sign(key: &hmac::Key, id: &str, seconds: &str, body: &[u8]) -> String {
    let text = [id.as_bytes(), b".", seconds.as_bytes(), b".", body].concat();
    format!("v1,{}", BASE64.encode(hmac::sign(key, &text)))
}

/// Whether a push is signed, lately. There may be several signatures, while a key is changed.
fn is_signed(key: &hmac::Key, wall: Millis, headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(id), Some(seconds), Some(signatures)) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
    else {
        return false;
    };
    let at = seconds.parse::<Millis>().ok().and_then(|seconds| seconds.checked_mul(SECOND));
    let fresh = at.and_then(|at| at.checked_sub(wall)).is_some_and(|age| age.abs() <= AGE_MAX);
    let text = [id.as_bytes(), b".", seconds.as_bytes(), b".", body].concat();
    let good = |signature: &str| {
        let given = signature.strip_prefix("v1,").and_then(|given| BASE64.decode(given).ok());
        given.is_some_and(|given| hmac::verify(key, &text, &given).is_ok())
    };
    fresh && signatures.split(' ').any(good)
}

/// What an answer says about the message.
fn read_answer(status: u16, body: &[u8], reference: &str) -> Outcome {
    let taken = (200..=299).contains(&status);
    if !taken && status < 400 {
        return unknown(format!("http-{status}"));
    }
    let by_status = || {
        let class = if taken { Class::Accepted } else { wire::by_status(status) };
        (class, format!("http-{status}"))
    };
    let reply = match serde_json::from_slice::<Value>(body) {
        Ok(reply) => reply,
        // The beginning of a reply that may have said anything.
        Err(_) if taken && body.trim_ascii_start().starts_with(b"{") => return unknown("garbled"),
        Err(_) => Value::Null,
    };
    let (class, code) = match reply.get("status") {
        None => by_status(),
        Some(said) => match serde_json::from_value::<Class>(said.clone()) {
            Ok(class) => (class, class.as_str().to_owned()),
            Err(_) => return unknown("garbled"),
        },
    };
    if class == Class::Accepted {
        let id = reply.get("id").and_then(|id| word(id, 64));
        return Outcome::accepted(id.unwrap_or_else(|| reference.to_owned()));
    }
    Outcome::of(class, reply.get("code").and_then(|code| word(code, 32)).unwrap_or(code))
}

/// The receipts in a push: one, or a list.
fn read_pushed(body: &[u8]) -> Vec<Receipt> {
    match serde_json::from_slice(body).unwrap_or_default() {
        Value::Array(list) => list.iter().filter_map(receipt).collect(),
        one => receipt(&one).into_iter().collect(),
    }
}

fn receipt(report: &Value) -> Option<Receipt> {
    let said = report.get("status")?.as_str()?;
    let arrived = match said {
        "delivered" => true,
        "failed" => false,
        _ => return None,
    };
    let reference = word(report.get("reference")?, 32)?;
    let field = |name: &str, most| report.get(name).and_then(|value| word(value, most));
    Some(Receipt {
        message_id: field("id", 64).unwrap_or_else(|| reference.clone()),
        vendor_code: field("code", 32).unwrap_or_else(|| said.to_owned()),
        about: reference.into(),
        arrived,
    })
}

#[cfg(test)]
mod tests;
