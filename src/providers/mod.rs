//! Who carries a message. A dialect is one file: it knows one vendor's wire and nothing else. It
//! translates a [`Message`] into a request, and every answer (or silence) into an [`Outcome`].

pub mod aliyun;
pub mod aws;
pub mod codes;
pub mod huawei;
pub mod kind;
pub mod plivo;
pub mod signing;
pub mod simulated;
pub mod smpp;
#[cfg(test)]
pub(crate) mod stub;
pub mod tencent;
pub mod transport;
pub mod twilio;
pub mod vonage;
pub mod webhook;
pub mod wire;
pub mod yuntongxun;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::HeaderMap;

use crate::clock::Millis;
use crate::domain::code::Code;
pub use crate::domain::outcome::{About, Class, Found, Outcome, Receipt};
use crate::domain::phone::Phone;

/// One message to one phone.
#[derive(Clone)]
pub struct Message {
    /// To whom.
    pub phone: Phone,
    /// The code to be sent. Every try of a delivery carries the same.
    pub code: Code,
    /// For how many minutes the code is good, rounded down: a template says so in words.
    pub minutes: u32,
    /// The whole text, for providers that take text instead of a template.
    pub text: String,
    /// Our name for the message, 32 hexadecimal digits: the idempotency key where a provider
    /// has one.
    pub reference: String,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("phone", &self.phone)
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}

/// A message that its provider is asked about.
#[derive(Clone, PartialEq, Eq)]
pub struct Sent {
    /// Our reference.
    pub reference: String,
    /// To whom.
    pub phone: Phone,
    /// The provider's name for it, where it took it and told one.
    pub message_id: Option<String>,
    /// Its text, where nobody knows whether the provider took it.
    pub text: Option<String>,
    /// When it was handed over, by the wall clock.
    pub wall: Millis,
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent")
            .field("reference", &self.reference)
            .field("phone", &self.phone)
            .field("message_id", &self.message_id)
            .finish_non_exhaustive()
    }
}

/// Which messages a provider can be asked about one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LooksUp {
    /// None.
    Nothing,
    /// Those whose outcome is unknown. Receipts of others come by themselves, or all together.
    Unknown,
    /// All, and has to be, since their receipts may not come by themselves.
    All,
}

/// A company (or protocol) that carries messages.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name in configuration, logs, metrics and timelines.
    fn name(&self) -> &str;

    /// Whether sending a message with the same reference twice sends it once. Such a provider
    /// may be asked again after an unknown outcome.
    fn deduplicates(&self) -> bool;

    /// Hands a message over. Every answer and every silence is an outcome; nothing is retried
    /// here.
    async fn send(&self, message: &Message) -> Outcome;

    /// Reads the receipts out of what the provider pushed to us; `None` if it is signed and the
    /// signature is not the provider's. What cannot be read is passed over: it comes from outside,
    /// and changes nothing.
    fn read_receipts(&self, pushed: &Pushed<'_>) -> Option<Receipts>;

    /// Asks for receipts, where the provider offers that.
    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome>;

    /// Which messages it is to be asked about with [`Self::look_up`].
    fn looks_up(&self) -> LooksUp {
        LooksUp::Nothing
    }

    /// Asks what became of one message.
    async fn look_up(&self, _: &Sent) -> Result<Found, Outcome> {
        Ok(Found::Nothing)
    }

    /// Tries credentials, as `doctor` does, with a call that sends nothing, costs nothing and
    /// takes nothing away; `false` where the vendor has no such call, and only asking for receipts
    /// can tell.
    async fn try_credentials(&self) -> Result<bool, Outcome> {
        Ok(false)
    }

    /// Takes leave of a vendor that a connection is kept to. Nothing is sent after that.
    async fn close(&self) {}
}

/// What a provider pushed to us.
pub struct Pushed<'a> {
    /// Where it was pushed to, as the provider knows it: the public URL with path and query.
    pub url: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
}

/// What a push said, and what the provider wants to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipts {
    /// The receipts.
    pub receipts: Vec<Receipt>,
    /// The body of the answer.
    pub reply: &'static str,
}

/// The providers in the order of the configuration, which is the order of failover.
pub type Providers = Arc<[Arc<dyn Provider>]>;
