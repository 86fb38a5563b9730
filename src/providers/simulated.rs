//! The simulated provider: in-process, scripted, with an inbox of what it "delivered".

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::kind::{Bills, Given, Kind, Maker, Misfit};
use super::{Class, Message, Outcome, Provider, Pushed, Receipt, Receipts};
use crate::clock::{Clock, Millis};

/// Messages that the inbox remembers; older ones are forgotten.
pub const INBOX_MAX: usize = 100_000;
/// The longest scripted latency, in milliseconds.
pub const LATENCY_MAX_MS: u64 = 60_000;

/// The kind, for the table.
pub const KIND: Kind = Kind {
    name: "simulated",
    bills: Bills::Nothing,
    secrets: &[],
    read,
    caution: |_| Some("simulated: nobody gets a message"),
    explain: |_| None,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    name: String,
    /// There is nothing to be reached; every kind takes it.
    #[serde(default, rename = "base_url")]
    _base_url: String,
}

fn read(given: Given) -> Result<Maker, Misfit> {
    let Settings { name, .. } = given.settings()?;
    Ok(Arc::new(move |parts| {
        let (simulator, clock) = (Arc::clone(&parts.simulator), parts.clock.clone());
        Arc::new(Simulated::new(name.clone(), simulator, clock))
    }))
}

/// What the simulated provider does with the next messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// How long an answer takes, in milliseconds.
    pub latency_ms: u64,
    /// What is answered.
    pub answer: ScriptedAnswer,
    /// How many messages this holds for; then all is well again. 0: until changed.
    pub times: u64,
    /// The receipt that follows an accepted message.
    pub receipt: ScriptedReceipt,
    /// How long after the answer the receipt comes, in milliseconds.
    pub receipt_after_ms: u64,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            answer: ScriptedAnswer::Accept,
            times: 0,
            receipt: ScriptedReceipt::None,
            receipt_after_ms: 100,
        }
    }
}

/// A scripted answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScriptedAnswer {
    /// Takes the message.
    Accept,
    /// Takes the message and never says so: the outcome is unknown, and the message arrives.
    AcceptSilently,
    /// Neither takes the message nor answers.
    Silence,
    /// Cannot be reached.
    Unreachable,
    /// Refuses: too many messages to this number.
    RateLimitedNumber,
    /// Refuses: no such number.
    InvalidNumber,
    /// Refuses: the number is blocked.
    BlockedNumber,
    /// Refuses: wrong key.
    AuthFailed,
    /// Refuses: no money.
    BalanceExhausted,
    /// Refuses: the template.
    TemplateRejected,
    /// Refuses: too many requests.
    RateLimitedAccount,
    /// Refuses: a fault of its own.
    ProviderError,
}

/// A scripted receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScriptedReceipt {
    /// None comes.
    None,
    /// The message arrived.
    Delivered,
    /// The message did not arrive.
    Failed,
}

/// A message in the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// To whom, E.164.
    pub phone: String,
    /// The text.
    pub text: String,
    /// The code in it.
    pub code: String,
    /// Which provider.
    pub provider: String,
    /// Our reference.
    pub reference: String,
    /// When.
    pub at: Millis,
}

/// The script and the inbox, shared by all simulated providers of a process.
#[derive(Debug, Default)]
pub struct Simulator {
    inbox_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    script: Script,
    inbox: VecDeque<Delivered>,
    receipts: Vec<(Millis, Receipt)>,
}

impl Simulator {
    /// One that remembers up to so many messages, those of late. By default it remembers none:
    /// codes are not kept where nobody may look at them.
    pub fn with_inbox(max: usize) -> Self {
        Self { inbox_max: max, ..Self::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The script in force.
    pub fn script(&self) -> Script {
        self.lock().script.clone()
    }

    /// Puts a script in force.
    pub fn set_script(&self, script: Script) {
        self.lock().script = script;
    }

    /// The messages, newest first, of one phone or all; at most `max`.
    pub fn inbox(&self, phone: Option<&str>, max: usize) -> Vec<Delivered> {
        let inner = self.lock();
        let wanted = |message: &&Delivered| phone.is_none_or(|phone| message.phone == phone);
        inner.inbox.iter().rev().filter(wanted).take(max).cloned().collect()
    }

    fn next_script(&self) -> Script {
        let mut inner = self.lock();
        let script = inner.script.clone();
        match inner.script.times {
            0 => {}
            1 => inner.script = Script::default(),
            _ => inner.script.times -= 1,
        }
        script
    }

    fn deliver(&self, provider: &str, message: &Message, now: Millis, script: &Script) {
        let mut inner = self.lock();
        if self.inbox_max > 0 {
            if inner.inbox.len() == self.inbox_max {
                inner.inbox.pop_front();
            }
            inner.inbox.push_back(Delivered {
                phone: message.phone.e164().to_owned(),
                text: message.text.clone(),
                code: message.code.digits().to_owned(),
                provider: provider.to_owned(),
                reference: message.reference.clone(),
                at: now,
            });
        }
        if script.receipt != ScriptedReceipt::None && inner.receipts.len() < INBOX_MAX {
            let arrived = script.receipt == ScriptedReceipt::Delivered;
            let reference = message.reference.clone();
            let vendor_code = if arrived { "DELIVRD" } else { "UNDELIV" }.to_owned();
            let message_id = message_id(&reference);
            let about = reference.into();
            let receipt = Receipt { about, message_id, arrived, vendor_code };
            let delay = Millis::try_from(script.receipt_after_ms).unwrap_or(Millis::MAX / 2);
            inner.receipts.push((now + delay, receipt));
        }
    }

    fn take_receipts(&self, now: Millis) -> Vec<Receipt> {
        let mut inner = self.lock();
        let (ready, waiting) =
            std::mem::take(&mut inner.receipts).into_iter().partition(|(at, _)| *at <= now);
        inner.receipts = waiting;
        let ready: Vec<(Millis, Receipt)> = ready;
        ready.into_iter().map(|(_, receipt)| receipt).collect()
    }
}

fn message_id(reference: &str) -> String {
    format!("sim-{reference}")
}

/// The provider.
pub struct Simulated {
    name: String,
    simulator: Arc<Simulator>,
    clock: Clock,
}

impl Simulated {
    /// A simulated provider that works by this simulator's script.
    pub fn new(name: String, simulator: Arc<Simulator>, clock: Clock) -> Self {
        Self { name, simulator, clock }
    }
}

#[async_trait]
impl Provider for Simulated {
    fn name(&self) -> &str {
        &self.name
    }

    fn deduplicates(&self) -> bool {
        false
    }

    async fn send(&self, message: &Message) -> Outcome {
        let script = self.simulator.next_script();
        if script.latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(script.latency_ms.min(LATENCY_MAX_MS))).await;
        }
        let class = match script.answer {
            ScriptedAnswer::Accept => {
                self.simulator.deliver(&self.name, message, self.clock.now(), &script);
                return Outcome::accepted(message_id(&message.reference));
            }
            ScriptedAnswer::AcceptSilently => {
                self.simulator.deliver(&self.name, message, self.clock.now(), &script);
                Class::UnknownOutcome
            }
            ScriptedAnswer::Silence => Class::UnknownOutcome,
            ScriptedAnswer::Unreachable => Class::NotSent,
            ScriptedAnswer::RateLimitedNumber => Class::RateLimitedNumber,
            ScriptedAnswer::InvalidNumber => Class::InvalidNumber,
            ScriptedAnswer::BlockedNumber => Class::BlockedNumber,
            ScriptedAnswer::AuthFailed => Class::AuthFailed,
            ScriptedAnswer::BalanceExhausted => Class::BalanceExhausted,
            ScriptedAnswer::TemplateRejected => Class::TemplateRejected,
            ScriptedAnswer::RateLimitedAccount => Class::RateLimitedAccount,
            ScriptedAnswer::ProviderError => Class::ProviderError,
        };
        Outcome::of(class, "scripted")
    }

    fn read_receipts(&self, _pushed: &Pushed<'_>) -> Option<Receipts> {
        Some(Receipts { receipts: Vec::new(), reply: "success" })
    }

    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        Ok(self.simulator.take_receipts(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::stub::a_message;

    #[tokio::test]
    async fn messages_are_remembered_where_somebody_may_look_and_nowhere_else() {
        let cases: [(usize, &[&str]); 2] = [(0, &[]), (2, &["3", "2"])];
        for (max, kept) in cases {
            let simulator = Arc::new(Simulator::with_inbox(max));
            let provider = Simulated::new("a".to_owned(), Arc::clone(&simulator), Clock::manual(0));
            for reference in ["1", "2", "3"] {
                let message = Message { reference: reference.to_owned(), ..a_message() };
                assert_eq!(provider.send(&message).await.class, Class::Accepted);
            }
            let inbox = simulator.inbox(None, 10);
            let inbox: Vec<_> = inbox.iter().map(|it| it.reference.as_str()).collect();
            assert_eq!(inbox, kept);
        }
    }
}
