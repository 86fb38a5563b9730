//! A message owed to a phone.
//!
//! A delivery is a record with a due time. Who works on it claims it, which moves the due time
//! one lease ahead; who crashes loses the claim when the lease ends, and the next one takes over.
//! A claim that was never settled may have sent the message, so it counts as an unknown outcome:
//! a phone gets at most [`UNKNOWN_MAX`] messages out of one delivery, always with the same code.
//! Once settled, the sealed letter (number and code) is gone.

mod after;
mod words;

use serde::{Deserialize, Serialize};

pub use self::after::{Ask, Asked, Counted};
pub use self::words::{Carrier, Claim, Claimed, Settled};

use crate::clock::Millis;
use crate::domain::id::VerificationId;
use crate::domain::money::Micros;
use crate::domain::outcome::{Action, Class, Outcome};
use crate::domain::policy::{
    BACKOFF, CALL_MAX, LEASE, TIMELINE_KEPT, TRIES_IN_A_ROW, UNATTENDED, UNKNOWN_MAX,
    UNKNOWN_QUICK, UNKNOWN_WAIT, UNKNOWN_WAIT_MIN,
};
use crate::domain::verification::Unwanted;

/// The record of a delivery.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// The verification whose message it is.
    pub verification: VerificationId,
    /// The tenant.
    pub tenant: String,
    /// The phone's fingerprint, in hexadecimal: the gap may have to be given back.
    pub fingerprint: String,
    /// The number with its middle hidden.
    pub masked: String,
    /// When it was accepted.
    pub created_at: Millis,
    /// No provider is called at or after this instant.
    pub deadline: Millis,
    /// Where it stands.
    pub stage: Stage,
    /// The calls that were made, oldest first.
    #[serde(default)]
    pub tries: Vec<Try>,
    /// Why it did not begin with the usual provider, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What was set aside for it under the caps, when it was accepted.
    #[serde(default, skip_serializing_if = "Micros::is_nothing")]
    pub set_aside: Micros,
    /// Whether its code is entered counts for its provider, where adaptive choice is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
}

/// Where a delivery stands, and what may be used there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Owed.
    Pending(Pending),
    /// A provider took it; a receipt may come.
    Accepted {
        /// The provider's name.
        provider: String,
        /// The provider's name for the message.
        message_id: String,
        /// When.
        at: Millis,
        /// When its provider is asked what became of it, where no receipt comes by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ask: Option<Ask>,
    },
    /// A receipt says that it arrived.
    Delivered {
        /// When the receipt came.
        at: Millis,
    },
    /// It will not arrive.
    Failed {
        /// Why.
        class: Class,
        /// When.
        at: Millis,
    },
    /// Its deadline passed.
    Expired {
        /// When that was noticed.
        at: Millis,
    },
    /// Nobody waits for it any more, so no provider is called again.
    Stopped {
        /// Why.
        why: Unwanted,
        /// When that was noticed.
        at: Millis,
    },
}

/// What is needed while a delivery is owed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pending {
    /// When it is anyone's turn to claim it.
    pub due_at: Millis,
    /// How often it was claimed; a settlement under an older number comes too late.
    pub claim: u32,
    /// Whether the newest claim has not been settled.
    pub claimed: bool,
    /// The provider whose turn it is, as a place in the configured order.
    pub turn: usize,
    /// Tries in a row at this turn.
    #[serde(default)]
    pub in_a_row: u8,
    /// Providers that refused for good, by name.
    #[serde(default)]
    pub refused_by: Vec<String>,
    /// Who may have sent the message, by name: one entry for each call whose outcome is unknown,
    /// and one for all calls to a provider that deduplicates.
    #[serde(default)]
    pub maybe_sent_by: Vec<String>,
    /// Number and code, sealed.
    pub letter: String,
}

/// One call to one provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Try {
    /// The provider's name.
    pub provider: String,
    /// When its outcome was known.
    pub at: Millis,
    /// The class of its outcome.
    pub class: Class,
    /// The vendor's code.
    pub code: String,
    /// More about it in our own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What it costs: a call that was taken costs, and one that may have been.
    #[serde(default, skip_serializing_if = "Micros::is_nothing")]
    pub cost: Micros,
}

impl Pending {
    /// A new delivery's, claimed from the start by who accepted it. `turn` is the first provider's
    /// place.
    pub fn claimed_at(now: Millis, letter: String, turn: usize) -> Self {
        let (due_at, claim, claimed, in_a_row) = (now + LEASE, 1, true, 0);
        let (refused_by, maybe_sent_by) = (vec![], vec![]);
        Self { due_at, claim, claimed, turn, in_a_row, refused_by, maybe_sent_by, letter }
    }

    fn claim_again(&mut self, now: Millis, deadline: Millis) -> Claim {
        self.claim += 1;
        (self.claimed, self.due_at) = (true, now + LEASE);
        self.claim(deadline)
    }

    fn claim(&self, deadline: Millis) -> Claim {
        let call_before = deadline.min(self.due_at - CALL_MAX);
        let (number, turn, letter) = (self.claim, self.turn, self.letter.clone());
        Claim { number, turn, letter, call_before, again: false, maybe_sent_by: None }
    }

    /// Counts a call that may have sent the message.
    fn maybe_sent(&mut self, carrier: Carrier<'_>) {
        if !(carrier.deduplicates && self.maybe_sent_by.iter().any(|name| name == carrier.name)) {
            self.maybe_sent_by.push(carrier.name.to_owned());
        }
    }

    /// Whether a call to this provider cannot give the phone one message too many.
    fn may_call(&self, carrier: Carrier<'_>) -> bool {
        let again = self.maybe_sent_by.iter().any(|name| name == carrier.name);
        self.maybe_sent_by.len() < UNKNOWN_MAX || (again && carrier.deduplicates)
    }

    fn willing(&self, carrier: Carrier<'_>) -> bool {
        !self.refused_by.iter().any(|name| name == carrier.name) && self.may_call(carrier)
    }

    /// Whose turn it is after an unknown outcome of this carrier's, if anyone's, and after what
    /// pause. The next one's message may be the second, so a receipt or a look-up is waited for.
    fn wait_for_clarity(
        &mut self,
        carrier: Carrier<'_>,
        carriers: &[Carrier<'_>],
        now: Millis,
    ) -> (bool, Millis) {
        let began = self.due_at - LEASE;
        let quick = now - began < UNKNOWN_QUICK && !carrier.doubtful;
        // To ask who deduplicates again is a look-up, too.
        if carrier.deduplicates && quick && self.in_a_row < TRIES_IN_A_ROW {
            return (self.willing(carrier) || self.next_turn(carriers).is_some(), UNKNOWN_WAIT_MIN);
        }
        let from_begin = if carrier.doubtful { 0 } else { began + UNKNOWN_WAIT - now };
        (self.next_turn(carriers).is_some(), from_begin.max(UNKNOWN_WAIT_MIN))
    }

    /// Moves on to the next provider of the route that may be called; `None` if there is none.
    /// Says whether that is forward on the route, and not round to its beginning.
    fn next_turn(&mut self, carriers: &[Carrier<'_>]) -> Option<bool> {
        self.in_a_row = 0;
        let mut route: Vec<usize> = (0..carriers.len()).collect();
        route.retain(|place| carriers[*place].rank.is_some());
        route.sort_by_key(|place| carriers[*place].rank);
        let after = route.iter().position(|place| *place == self.turn).map_or(0, |at| at + 1);
        let forward = route.get(after..).unwrap_or_default().iter().map(|place| (*place, true));
        let round = route.get(..after).unwrap_or_default().iter().map(|place| (*place, false));
        let found = forward.chain(round).find(|(place, _)| self.willing(carriers[*place]));
        found.map(|(place, forward)| {
            self.turn = place;
            forward
        })
    }
}

impl Delivery {
    /// The claim that a new delivery was born with.
    pub fn first_claim(&self) -> Option<Claim> {
        match &self.stage {
            Stage::Pending(pending) => Some(pending.claim(self.deadline)),
            _ => None,
        }
    }

    /// When somebody has to look at it again.
    pub fn due_at(&self) -> Option<Millis> {
        match &self.stage {
            Stage::Pending(pending) => Some(pending.due_at),
            Stage::Accepted { ask, .. } => ask.as_ref().map(|ask| ask.due_at),
            _ => None,
        }
    }

    /// Whether its message is still owed.
    pub fn is_owed(&self) -> bool {
        matches!(self.stage, Stage::Pending(_))
    }

    /// Claims it for one lease, or ends it if its time is over. A claim that finds an unsettled
    /// one takes over from a crash, whose message may have gone out. One that was sent is claimed
    /// to ask what became of it.
    pub fn claim(&mut self, carriers: &[Carrier<'_>], now: Millis) -> Claimed {
        if let Stage::Accepted { provider, message_id, at, ask } = &mut self.stage {
            return after::claim_to_ask((provider, message_id, *at), ask, now);
        }
        let deadline = self.deadline;
        let Stage::Pending(pending) = &mut self.stage else { return Claimed::Ended };
        if now < pending.due_at {
            return Claimed::NotDue;
        }
        let unattended = pending.claimed || now - pending.due_at > UNATTENDED;
        if pending.claimed {
            let place = pending.turn.min(carriers.len().saturating_sub(1));
            let Some(carrier) = carriers.get(place) else {
                self.stage = Stage::Failed { class: Class::NotSent, at: now };
                return Claimed::Ended;
            };
            let (class, code) = (Class::UnknownOutcome, "not-settled".to_owned());
            let (provider, cost) = (carrier.name.to_owned(), cost(&self.tries, *carrier, class));
            self.tries.push(Try { provider, at: now, class, code, note: None, cost });
            pending.maybe_sent(*carrier);
            if !pending.may_call(*carrier) && pending.next_turn(carriers).is_none() {
                self.stage = Stage::Failed { class, at: now };
                return Claimed::Ended;
            }
        }
        if now >= deadline {
            self.stage = Stage::Expired { at: now };
            return Claimed::Ended;
        }
        pending.turn = if pending.turn < carriers.len() { pending.turn } else { 0 };
        let again = asked(&self.tries, carriers, pending.turn);
        let last =
            self.tries.last().filter(|last| unattended && last.class.action() == Action::Wait);
        let maybe_sent_by = last.map(|last| last.provider.clone());
        Claimed::Yours(Claim { again, maybe_sent_by, ..pending.claim_again(now, deadline) })
    }

    /// Settles a claim with the outcome of its call. `jitter` is any random number: it spreads
    /// the pauses of many deliveries.
    pub fn settle(
        &mut self,
        number: u32,
        outcome: &Outcome,
        carriers: &[Carrier<'_>],
        now: Millis,
        jitter: u64,
    ) -> Settled {
        let deadline = self.deadline;
        let Stage::Pending(pending) = &mut self.stage else { return Settled::TooLate };
        if !pending.claimed || pending.claim != number {
            return Settled::TooLate;
        }
        let carrier = carriers[pending.turn.min(carriers.len() - 1)];
        let provider = carrier.name.to_owned();
        let (class, code, note) =
            (outcome.class, outcome.vendor_code.clone(), outcome.note.clone());
        // What was not even tried is told once.
        let told = |tried: &Try| tried.provider == provider && tried.code == code;
        if note.is_none() || !self.tries.iter().any(told) {
            let (provider, cost) = (provider.clone(), cost(&self.tries, carrier, class));
            self.tries.push(Try { provider, at: now, class, code, note, cost });
        }
        pending.claimed = false;
        let action = class.action();
        let (goes_on, pause) = match action {
            Action::Done => {
                let message_id = outcome.message_id.clone().unwrap_or_default();
                self.stage = Stage::Accepted { provider, message_id, at: now, ask: None };
                return Settled::Ended { surely_not_sent: false };
            }
            Action::RefuseNumber => (false, 0),
            Action::NextProvider => {
                pending.refused_by.push(provider);
                (pending.next_turn(carriers).is_some(), 0)
            }
            Action::NextAtOnce | Action::Later => later(pending, action, carriers, jitter),
            Action::Wait => {
                pending.maybe_sent(carrier);
                pending.in_a_row += 1;
                if !carrier.deduplicates {
                    pending.refused_by.push(provider);
                }
                pending.wait_for_clarity(carrier, carriers, now)
            }
        };
        if !goes_on {
            let surely_not_sent = self.surely_not_sent();
            // A refusal after an unknown outcome does not undo it: the message may be on its way,
            // and its receipt is still welcome.
            let class = if surely_not_sent { class } else { Class::UnknownOutcome };
            self.stage = Stage::Failed { class, at: now };
            return Settled::Ended { surely_not_sent };
        }
        if now + pause >= deadline {
            let surely_not_sent = self.surely_not_sent();
            self.stage = Stage::Expired { at: now };
            return Settled::Ended { surely_not_sent };
        }
        if pause == 0 {
            let again = asked(&self.tries, carriers, pending.turn);
            return Settled::GoOn(Claim { again, ..pending.claim_again(now, deadline) });
        }
        pending.due_at = now + pause;
        Settled::Waits
    }

    /// Gives its first call to another provider. Only before any was called.
    pub fn redirect(&mut self, number: u32, turn: usize, note: Option<String>) -> Option<Claim> {
        let deadline = self.deadline;
        let Stage::Pending(pending) = &mut self.stage else { return None };
        if !pending.claimed || pending.claim != number || !self.tries.is_empty() {
            return None;
        }
        pending.turn = turn;
        self.note = note;
        Some(pending.claim(deadline))
    }

    /// Ends it because nobody waits for it any more; what was called already is not undone.
    pub fn stop(&mut self, why: Unwanted, now: Millis) -> Settled {
        if !matches!(self.stage, Stage::Pending(_)) {
            return Settled::TooLate;
        }
        self.stage = Stage::Stopped { why, at: now };
        Settled::Ended { surely_not_sent: self.surely_not_sent() }
    }

    /// Why nobody waits for it any more, if it ended for that.
    pub fn stopped(&self) -> Option<Unwanted> {
        match self.stage {
            Stage::Stopped { why, .. } => Some(why),
            _ => None,
        }
    }

    /// Whether this claim is the newest, and not settled.
    pub fn is_claimed_under(&self, number: u32) -> bool {
        matches!(&self.stage, Stage::Pending(pending) if pending.claimed && pending.claim == number)
    }

    /// Whether no call can have sent the message: no outcome is unknown.
    pub fn surely_not_sent(&self) -> bool {
        let maybe = [Class::Accepted, Class::Duplicate, Class::UnknownOutcome];
        !self.tries.iter().any(|tried| maybe.contains(&tried.class))
    }

    /// What its calls cost so far.
    pub fn cost(&self) -> Micros {
        self.tries.iter().map(|tried| tried.cost).sum()
    }

    /// The word for its stage in timelines and metrics.
    pub fn status(&self) -> &'static str {
        match &self.stage {
            Stage::Pending(_) => "pending",
            Stage::Accepted { .. } => "accepted",
            Stage::Delivered { .. } => "delivered",
            Stage::Failed { .. } | Stage::Stopped { .. } => "failed",
            Stage::Expired { .. } => "expired",
        }
    }

    /// Until when the record is kept, for its timeline.
    pub fn kept_until(&self) -> Millis {
        self.deadline + TIMELINE_KEPT
    }
}

/// The pause before the next try of something that was definitely not sent, and whose turn it is.
/// The first round over the providers does not wait where nothing was even reached.
fn later(
    pending: &mut Pending,
    action: Action,
    carriers: &[Carrier<'_>],
    jitter: u64,
) -> (bool, Millis) {
    pending.in_a_row += 1;
    let tried = pending.claim;
    let round = tried / u32::try_from(carriers.len().max(1)).unwrap_or(1);
    let ceiling = (BACKOFF.start() << round.min(8)).min(*BACKOFF.end());
    let spread = Millis::try_from(jitter % ceiling.unsigned_abs()).unwrap_or(0);
    let pause = ceiling / 2 + spread / 2;
    if action == Action::Later && pending.in_a_row < TRIES_IN_A_ROW {
        return (true, pause);
    }
    // Going forward on the route is a fresh provider; coming round again is a new round.
    match pending.next_turn(carriers) {
        Some(forward) => (true, if forward { 0 } else { pause }),
        None => (false, 0),
    }
}

/// What a call with this outcome costs. Who sends a message once however often it is asked bills
/// it once, too.
fn cost(tries: &[Try], carrier: Carrier<'_>, class: Class) -> Micros {
    let sent = matches!(class, Class::Accepted | Class::UnknownOutcome);
    let billed = |tried: &Try| tried.provider == carrier.name && !tried.cost.is_nothing();
    let again = carrier.deduplicates && tries.iter().any(billed);
    if sent && !again { carrier.cost } else { Micros::default() }
}

/// Whether a provider was called before; what has a note was not even tried.
fn asked(tries: &[Try], carriers: &[Carrier<'_>], turn: usize) -> bool {
    let name = carriers.get(turn).map(|carrier| carrier.name);
    tries.iter().any(|tried| Some(tried.provider.as_str()) == name && tried.note.is_none())
}

#[cfg(test)]
mod tests;
