//! The verbs: challenge, start, resend, check, cancel, look. Every door calls these, and no rule
//! lives in a door. A refusal is an answer here; only a store that cannot be used is an error.

mod audio;
pub mod caps;
mod challenge;
mod check;
mod crowd;
mod issue;
mod judging;
mod letter;
mod look;
mod receive;
pub mod records;
mod third_party;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use challenge::{Answered, Ask, Given, Minting, Reply, Work};
pub use check::{Approval, Checked, Target};
pub use letter::Letter;
pub use look::{Event, Look};
pub use receive::count as count_receipt;

use caps::Caps;
use crowd::Crowd;

use crate::chance::{Chance, Source};
use crate::clock::{Clock, Millis};
use crate::domain::delivery::Claim;
use crate::domain::id::{DeliveryId, VerificationId};
use crate::domain::minted::Kind;
use crate::domain::phone::Phone;
use crate::domain::policy::Policy;
use crate::domain::sends::Sends;
use crate::domain::verification::Verification;
use crate::keys::Keys;
use crate::routing::Router;
use crate::store::{Store, StoreError};
use crate::third_party::ThirdParties;

/// A claim on its way from who accepted a delivery to who calls the provider.
#[derive(Debug)]
pub struct Handoff {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The claim it was born with.
    pub claim: Claim,
    /// When it was accepted.
    pub accepted_at: Millis,
    /// Whether its verification has had a message before.
    pub resend: bool,
}

/// Carries out the verbs.
#[derive(Clone)]
pub struct Verifier {
    store: Arc<dyn Store>,
    clock: Clock,
    keys: Keys,
    policy: Arc<Policy>,
    issuer: Arc<str>,
    handoffs: mpsc::Sender<Handoff>,
    router: Option<Arc<Router>>,
    /// Every tenant with each of its purposes.
    audiences: Arc<[(String, String)]>,
    crowd: Arc<Crowd>,
    third_parties: Arc<ThirdParties>,
    caps: Option<Arc<Caps>>,
    chance: Source,
}

/// Who asks, and for what.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The tenant.
    pub tenant: String,
    /// The address, where it counts: the person's own, not an application server's.
    pub address: Option<IpAddr>,
    /// The `Idempotency-Key`, with a digest of what was asked under it.
    pub idempotency: Option<Idempotency>,
}

/// A request that may be repeated.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// The key, as the caller chose it.
    pub key: String,
    /// A digest of the route and the body.
    pub body: String,
}

/// What a start is about.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// Who asks.
    pub asker: Asker,
    /// The phone.
    pub phone: Phone,
    /// What the code shall be good for.
    pub purpose: String,
    /// The language of the message.
    pub locale: String,
    /// The answer to a challenge, where one is asked for.
    pub answered: Option<Answered>,
}

/// A verification as its tenant sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its id.
    pub id: VerificationId,
    /// Where it stands, in the word of the wire.
    pub status: String,
    /// The number with its middle hidden.
    pub phone: String,
    /// When the code ends, or when the verification ended.
    pub expires_at: Millis,
    /// When another message may be asked for.
    pub next_send_at: Millis,
    /// Guesses left for the code that is out.
    pub checks_left: u8,
    /// Messages that the phone's hour and day still allow.
    pub sends_left: u32,
}

impl View {
    fn new(
        id: VerificationId,
        verification: &Verification,
        sends: &Sends,
        policy: &Policy,
        now: Millis,
    ) -> Self {
        Self {
            id,
            status: verification.status(now).as_str().to_owned(),
            phone: verification.masked.clone(),
            expires_at: verification.ends_at(),
            next_send_at: sends.free_at(policy, now).unwrap_or(now),
            checks_left: verification.checks_left(now),
            sends_left: sends.left(policy, now),
        }
    }
}

/// Why a verb was refused. None of these is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The answer to the challenge is wrong; the challenge is spent.
    ChallengeWrong,
    /// The challenge was answered before, or its time is over.
    ChallengeExpired,
    /// A limit does not allow it yet.
    Throttled {
        /// When it is allowed.
        retry_at: Millis,
        /// Which limit: `phone`, `address` or `challenges`.
        limit: &'static str,
    },
    /// The vendor that judges the challenge cannot be asked, or left alone for a moment.
    ThirdPartyDown {
        /// When it may be tried again.
        retry_at: Millis,
        /// The kind of challenge that is taken in its place, if any is.
        instead: Option<Kind>,
    },
    /// A cap of the whole server, or of the phone's country, is spent.
    Capped {
        /// When there is room again, if nothing else goes out.
        retry_at: Millis,
        /// Which cap: `server` or `country`.
        cap: &'static str,
    },
    /// Too many wrong codes for this phone and purpose.
    Locked {
        /// When a guess is allowed again.
        retry_at: Millis,
    },
    /// No such verification of this tenant, or it has ended.
    NotFound,
    /// The `Idempotency-Key` was used for something else.
    KeyReused,
    /// A request with this `Idempotency-Key` is under way.
    KeyInFlight,
}

impl Refusal {
    /// The word in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ChallengeWrong => "challenge_wrong",
            Self::ChallengeExpired => "challenge_expired",
            Self::Throttled { limit, .. } => limit,
            Self::ThirdPartyDown { .. } => "third_party_down",
            Self::Capped { .. } => "capped",
            Self::Locked { .. } => "locked",
            Self::NotFound => "not_found",
            Self::KeyReused => "key_reused",
            Self::KeyInFlight => "key_in_flight",
        }
    }
}

impl Verifier {
    /// A verifier over this store. New deliveries are handed to `handoffs`, whose other end calls
    /// the providers; what it cannot take at once waits in the store.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Clock,
        keys: Keys,
        policy: Policy,
        issuer: &str,
        handoffs: mpsc::Sender<Handoff>,
    ) -> Self {
        let (policy, issuer) = (Arc::new(policy), issuer.into());
        let (router, audiences) = (None, Arc::from([]));
        let (crowd, third_parties) = (Arc::default(), Arc::default());
        let (caps, chance) = (None, Source::default());
        Self {
            store,
            clock,
            keys,
            policy,
            issuer,
            handoffs,
            router,
            audiences,
            crowd,
            third_parties,
            caps,
            chance,
        }
    }

    /// The same with a router, which says who carries a message first.
    #[must_use]
    pub fn with_router(self, router: Arc<Router>) -> Self {
        Self { router: Some(router), ..self }
    }

    /// The same with every tenant and each of its purposes: a receipt that names nothing but a
    /// phone is looked for among their newest messages to it.
    #[must_use]
    pub fn with_audiences(self, audiences: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { audiences: audiences.into_iter().collect(), ..self }
    }

    /// The same, with caps on what goes out.
    #[must_use]
    pub fn with_caps(self, caps: Arc<Caps>) -> Self {
        Self { caps: Some(caps), ..self }
    }

    /// The same, with networks whose challenges and answers are not counted.
    #[must_use]
    pub fn with_exempt(self, networks: Vec<IpNet>) -> Self {
        Self { crowd: Arc::new(Crowd::new(networks)), ..self }
    }

    /// The same with third parties, which judge challenges of their own.
    #[must_use]
    pub fn with_third_parties(self, third_parties: ThirdParties) -> Self {
        Self { third_parties: Arc::new(third_parties), ..self }
    }

    /// The same, drawing codes and names from somewhere else: for simulations.
    #[must_use]
    pub fn with_chance(self, chance: Source) -> Self {
        Self { chance, ..self }
    }

    /// Begins a verification and sends a code.
    pub async fn start(
        &self,
        mut request: StartRequest,
    ) -> Result<Result<View, Refusal>, StoreError> {
        let (address, mut guess, mut kind) = (request.asker.address, None, None);
        if let Some(answered) = request.answered.take() {
            kind = Some(answered.kind_word());
            let (answered, counted) = self.hold(answered, address);
            let answered = self.consult(answered, address).await?;
            (request.answered, guess) = (Some(answered), counted);
        }
        // What ends in an error stays counted: nobody knows whether it was judged.
        let outcome = self.issue_start(request).await?;
        if let Some(counted) = guess.filter(|_| outcome != Err(Refusal::ChallengeWrong)) {
            self.crowd.not_wrong(counted, self.clock.now());
        }
        if let Some((kind, judged)) = kind.zip(third_party::judged_word(&outcome)) {
            metrics::counter!("countersign_challenge_answers_total",
                "kind" => kind, "outcome" => judged)
            .increment(1);
        }
        metrics::counter!("countersign_starts_total", "outcome" => word(&outcome)).increment(1);
        Ok(outcome)
    }

    /// Sends a new code for a verification that is pending.
    pub async fn resend(
        &self,
        asker: Asker,
        id: VerificationId,
    ) -> Result<Result<View, Refusal>, StoreError> {
        let outcome = self.issue_resend(asker, id).await?;
        metrics::counter!("countersign_resends_total", "outcome" => word(&outcome)).increment(1);
        Ok(outcome)
    }

    /// The clock that everything here goes by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The keys in use.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The numbers in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Who carries a message to this phone first, and why, where that is not the usual one.
    fn first_carrier(&self, phone: &Phone) -> (usize, Option<String>) {
        let Some(router) = &self.router else { return (0, None) };
        let line = router.line(phone, &[], &mut self.chance());
        (line.first(), line.note)
    }

    fn hand_over(&self, handoff: Handoff) {
        // A full queue is no loss: the delivery's lease ends, and the dispatcher finds it there.
        let _ = self.handoffs.try_send(handoff);
    }

    fn chance(&self) -> impl Chance + use<> {
        self.chance.clone()
    }
}

fn word(outcome: &Result<View, Refusal>) -> &'static str {
    outcome.as_ref().map_or_else(Refusal::as_str, |_| "ok")
}
