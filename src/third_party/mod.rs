//! Challenges that somebody else sets and judges: Turnstile, hCaptcha, reCAPTCHA, `GeeTest`,
//! Tencent, Cap. A page shows the vendor's widget and gets a token; here the vendor is asked what
//! the token is worth.
//!
//! Asking is bounded in time and in number, redirects are not followed, and what is not plainly a
//! yes is none. A vendor that cannot be asked is told apart from one that says no, since the
//! operator decides what is done then ([`WhenDown`]). Neither tokens nor secrets nor vendors' own
//! texts are passed on: verdicts are words of ours.

mod geetest;
pub mod settings;
mod siteverify;
mod tencent;
#[cfg(test)]
mod tests;
mod wording;

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::clock::{Clock, Millis};
use crate::domain::third_party::{Health, Vendor, Verdict, WhenDown};
use crate::providers::transport::{self, Answer};
use settings::{Parts, Settings};

pub use wording::explain;

/// Tokens that one vendor is asked about at once. More than that is a flood: who finds no place is
/// told to come again, and the vendor is not taken for down.
const ASKED_AT_ONCE: usize = 64;

/// A vendor's dialect: it translates, and neither calls nor waits.
pub trait ThirdParty: Send + Sync {
    /// What makes a token the same one again, however it is written; `None` if it is no token of
    /// this vendor's, which then need not be asked.
    fn identity(&self, token: &str) -> Option<String>;

    /// The question what a token is worth; a verdict where that needs no asking. `address` is the
    /// person's, where it may be told.
    fn request(&self, token: &str, address: Option<IpAddr>) -> Result<RequestBuilder, Verdict>;

    /// What an answer to that question says. No other status than 200 vouches for anything.
    fn read(&self, token: &str, status: u16, body: &[u8]) -> Verdict;

    /// A token in the form of this vendor's that nobody was given: to try the secret.
    fn made_up(&self) -> String;
}

/// A vendor that is asked, and how it does.
pub struct Member {
    settings: Settings,
    dialect: Box<dyn ThirdParty>,
    health: Mutex<Health>,
    places: Semaphore,
    clock: Clock,
}

/// What was found out about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The vendor was asked, or the token was none of its.
    Judged(Verdict),
    /// The vendor is left alone for the moment.
    Resting {
        /// Until when.
        until: Millis,
    },
    /// Too many are asked about at once.
    Busy,
}

impl Member {
    /// A vendor with these settings.
    pub fn new(settings: Settings, parts: &Parts) -> Self {
        let dialect = (settings.row().make)(&settings, parts);
        let (health, places) = (Mutex::default(), Semaphore::new(ASKED_AT_ONCE));
        Self { settings, dialect, health, places, clock: parts.clock.clone() }
    }

    /// Our name for it.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The vendor.
    pub fn vendor(&self) -> Vendor {
        self.settings.vendor()
    }

    /// The public key that a page shows the widget with.
    pub fn site_key(&self) -> &str {
        &self.settings.site_key
    }

    /// The action that the page must name to the widget.
    pub fn action(&self) -> Option<&str> {
        self.settings.action()
    }

    /// What takes its place while it cannot be asked.
    pub fn when_down(&self) -> WhenDown {
        self.settings.when_down()
    }

    /// How long a token may be good: so long it is remembered once it was used.
    pub fn token_life(&self) -> Millis {
        self.settings.row().token_life
    }

    /// What makes a token the same one again; `None` if it is none of this vendor's.
    pub fn identity(&self, token: &str) -> Option<String> {
        self.dialect.identity(token)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // Counts hold after any panic: there is nothing half-done in them.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when it is left alone, if it is.
    pub fn rests_until(&self) -> Option<Millis> {
        self.health().rests_until(self.clock.now())
    }

    /// Whether it failed so recently that what takes its place is given out.
    pub fn failed_of_late(&self) -> bool {
        self.health().failed_of_late(self.clock.now())
    }

    /// Asks what a token is worth, if there is a place and the vendor is not left alone.
    pub async fn ask(&self, token: &str, address: Option<IpAddr>) -> Asked {
        let name = self.settings.name.clone();
        let asked = self.ask_within_bounds(token, address).await;
        let (outcome, reason) = match asked {
            Asked::Judged(verdict) => verdict.words(),
            Asked::Resting { .. } => ("down", "resting"),
            Asked::Busy => ("busy", "busy"),
        };
        match asked {
            Asked::Judged(Verdict::Unfit(_)) => {
                tracing::error!(third_party.name = name, reason, "a third party refuses us");
            }
            Asked::Judged(Verdict::Down(_)) => {
                tracing::warn!(third_party.name = name, reason, "a third party did not answer");
            }
            Asked::Busy => {
                tracing::warn!(third_party.name = name, "too many tokens are asked about at once");
            }
            Asked::Judged(_) | Asked::Resting { .. } => {
                tracing::debug!(third_party.name = name, outcome, reason, "a token was judged");
            }
        }
        metrics::counter!("countersign_third_party_calls_total",
            "third_party" => name, "outcome" => outcome, "reason" => reason)
        .increment(1);
        asked
    }

    async fn ask_within_bounds(&self, token: &str, address: Option<IpAddr>) -> Asked {
        if self.identity(token).is_none() {
            return Asked::Judged(Verdict::Refused("malformed"));
        }
        let Ok(_place) = self.places.try_acquire() else { return Asked::Busy };
        let now = self.clock.now();
        if !self.health().may_be_asked(now) {
            let until = self.rests_until().unwrap_or(now);
            return Asked::Resting { until };
        }
        let address = address.filter(|_| self.settings.send_address).filter(is_public);
        let began = Instant::now();
        let verdict = self.verify(token, address).await;
        metrics::histogram!("countersign_third_party_seconds",
            "third_party" => self.settings.name.clone())
        .record(began.elapsed());
        match verdict {
            Verdict::Down(_) => self.health().failed(self.clock.now()),
            Verdict::Unfit(_) => self.health().refused_us(self.clock.now()),
            Verdict::Passed | Verdict::Refused(_) => self.health().answered(),
        }
        Asked::Judged(verdict)
    }

    async fn verify(&self, token: &str, address: Option<IpAddr>) -> Verdict {
        let request = match self.dialect.request(token, address) {
            Ok(request) => request.timeout(self.settings.timeout()),
            Err(verdict) => return verdict,
        };
        match call(request).await {
            Ok(answer) => self.read(token, answer.status.as_u16(), &answer.body),
            Err(verdict) => verdict,
        }
    }

    /// What an answer about this token says.
    pub fn read(&self, token: &str, status: u16, body: &[u8]) -> Verdict {
        self.dialect.read(token, status, body)
    }

    /// Whether the vendor knows our secret: asks about a token that nobody was given.
    pub async fn try_secret(&self) -> Verdict {
        self.verify(&self.dialect.made_up(), None).await
    }

    /// What works, and should be looked at all the same before going live.
    pub fn caution(&self) -> Option<&'static str> {
        self.settings.caution()
    }
}

/// All vendors that are configured, in the order of the configuration: challenges name a vendor
/// by its place.
#[derive(Default)]
pub struct ThirdParties(Vec<Member>);

/// The most of them, since a place has four bits in a seal.
pub const MEMBERS_MAX: usize = 16;

impl ThirdParties {
    /// These, in this order.
    pub fn new(members: Vec<Member>) -> Self {
        Self(members)
    }

    /// The one at this place, if it is still this vendor.
    pub fn get(&self, vendor: Vendor, place: u8) -> Option<&Member> {
        self.0.get(usize::from(place)).filter(|member| member.vendor() == vendor)
    }
}

/// Whether an address tells a vendor anything: behind a proxy that is missing in
/// `trusted_proxies` everybody has the proxy's.
fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_private() && !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unique_local() && !v6.is_unicast_link_local(),
    }
}

/// Makes a call. What is not an answer of the vendor's own is [`Verdict::Down`]: no connection,
/// silence, too long an answer, a redirect, a fault, "too many requests".
async fn call(request: RequestBuilder) -> Result<Answer, Verdict> {
    let answer = transport::call(request).await.map_err(|outcome| {
        Verdict::Down(match outcome.vendor_code.as_str() {
            "no-connection" => "no-connection",
            "timeout" => "timeout",
            "answer-too-long" => "answer-too-long",
            _ => "broken-off",
        })
    })?;
    match answer.status.as_u16() {
        429 => Err(Verdict::Down("http-429")),
        200 | 400..=499 => Ok(answer),
        300..=399 => Err(Verdict::Down("redirect")),
        500..=599 => Err(Verdict::Down("http-5xx")),
        _ => Err(Verdict::Down("http-other")),
    }
}

/// An answer in JSON. Our structures would be read out of lists, too: no vendor answers with one.
fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Verdict> {
    let read = body.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(body).ok());
    read.flatten().ok_or(Verdict::Down("garbled"))
}

/// Whether a text can be part of a token: printable, and not too long.
fn is_plain(text: &str, length_max: usize) -> bool {
    (1..=length_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
