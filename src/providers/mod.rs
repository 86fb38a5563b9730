//! Who carries a message. A dialect is one file: it knows one vendor's wire and nothing else. It
//! translates a [`Message`] into a request, and every answer (or silence) into an [`Outcome`].

pub mod simulated;
pub mod transport;
pub mod yuntongxun;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::code::Code;
pub use crate::domain::outcome::{Class, Outcome, Receipt};
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

    /// Reads the receipts out of what the provider pushed to us. What cannot be read is passed
    /// over: it comes from outside, and changes nothing.
    fn read_receipts(&self, body: &[u8]) -> Vec<Receipt>;

    /// Asks for receipts, where the provider offers that; also how `doctor` tries credentials,
    /// since it costs nothing.
    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome>;
}

/// The providers in the order of the configuration, which is the order of failover.
pub type Providers = Arc<[Arc<dyn Provider>]>;
