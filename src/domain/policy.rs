//! Every number of the product, with its bounds. What the configuration may change is in
//! [`Policy`]; what it may not is a constant, and relations between constants are checked here.

use std::num::NonZeroU32;

use crate::clock::{DAY, HOUR, MINUTE, Millis, SECOND};
use crate::domain::limit::Rule;
use crate::domain::money::Currency;
use crate::domain::risk::Counts;

/// The shortest and the longest life of a code, in seconds (NIST SP 800-63B: at most 10 minutes).
pub const CODE_TTL_SECONDS: std::ops::RangeInclusive<u32> = 60..=600;
/// The fewest and the most guesses that a code may take.
pub const CHECKS_MAX: std::ops::RangeInclusive<u8> = 1..=10;
/// The shortest and the longest pause between two messages to a phone, in seconds.
pub const GAP_SECONDS: std::ops::RangeInclusive<u32> = 30..=3600;

/// Failures in a row, per tenant, purpose and phone, that lock it (NIST's ceiling is 100).
pub const FAILURES_MAX: u32 = 50;
/// How long the lock holds.
pub const LOCK: Millis = DAY;
/// After a lock, until a success: so many guesses in any 24 hours.
pub const GUESSES_AFTER_LOCK: Rule = Rule { max: 5, length: DAY };
/// How long failures are remembered after the last one. Longer than a year, so that waiting never
/// gives fresh guesses.
pub const FAILURES_KEPT: Millis = 400 * DAY;

/// How often per hour a phone's gap is given back because a message definitely was not sent.
pub const GAPS_GIVEN_BACK: Rule = Rule { max: 2, length: HOUR };

/// A code that is not entered by then counts against the provider that took its message. A receipt
/// that says so counts sooner; a later one does not count any more.
pub const ENTERED_WITHIN: Millis = 90 * SECOND;
/// How long an ended verification and its timeline can be looked at.
pub const TIMELINE_KEPT: Millis = DAY;
/// How long the answer to an `Idempotency-Key` is kept.
pub const IDEMPOTENCY_KEPT: Millis = DAY;
/// How long a request may hold its `Idempotency-Key` before another may take over.
pub const IDEMPOTENCY_LEASE: Millis = 15 * SECOND;

/// The most time between acceptance of a message and the last call to a provider.
pub const DELIVERY_DEADLINE_MAX: Millis = 90 * SECOND;
/// What must be left of a code's life when its message may still be sent late.
pub const CODE_LIFE_LEFT_MIN: Millis = 2 * MINUTE;
/// The least deadline, for codes that live hardly longer than that.
pub const DELIVERY_DEADLINE_MIN: Millis = 30 * SECOND;

/// How long a claimed delivery belongs to its claimer. Longer than a call may take.
pub const LEASE: Millis = 15 * SECOND;
/// The most time one call to a provider may take.
pub const CALL_MAX: Millis = 5 * SECOND;
/// The most time a connection to a provider may take, within [`CALL_MAX`].
pub const CONNECT_MAX: Millis = 2 * SECOND;
/// How long an unknown outcome is given to clear up by a receipt or a look-up, before a second
/// message: counted from the call's begin, so that a person waits no longer for a provider that
/// takes all of [`CALL_MAX`] to say nothing than for one that breaks off at once.
pub const UNKNOWN_WAIT: Millis = CALL_MAX + UNKNOWN_WAIT_MIN;
/// The least of it, counted from its end; and all of it where the provider is rather dead than
/// slow, since its last calls were not answered either.
pub const UNKNOWN_WAIT_MIN: Millis = 500;
/// An answer that broke off sooner says more about a connection than about a provider: one that
/// deduplicates is asked again before the next one's turn.
pub const UNKNOWN_QUICK: Millis = SECOND;
/// A wait that was over for so long before somebody came by was nobody's: who waited for a
/// receipt, or would have looked the message up, is gone.
pub const UNATTENDED: Millis = 2 * SECOND;
/// When a provider whose receipts do not come by themselves is asked about a message that it took,
/// counted from then. Whoever took it from us asks sooner, without the store; see the dispatcher.
pub const ASKED_AFTER: [Millis; 3] = [MINUTE, 5 * MINUTE, HOUR];
/// The most messages a phone may get out of one delivery: the second only after an unknown outcome.
pub const UNKNOWN_MAX: usize = 2;
/// The first and the longest pause before a provider is tried again.
pub const BACKOFF: std::ops::RangeInclusive<Millis> = 500..=4 * SECOND;
/// Tries in a row on one provider that says "try later", before the next one's turn.
pub const TRIES_IN_A_ROW: u8 = 2;

const _: () = assert!(CONNECT_MAX < CALL_MAX && CALL_MAX * 2 < LEASE, "a call ends within a lease");
const _: () = assert!(FAILURES_MAX <= 100, "NIST SP 800-63B: no more than 100 failures in a row");
const _: () = assert!(FAILURES_KEPT > 365 * DAY, "a year of waiting must not give fresh guesses");
const _: () = assert!(UNKNOWN_WAIT + UNKNOWN_WAIT_MIN <= 6 * SECOND, "P8: six seconds");
const _: () = assert!(ASKED_AFTER[2] < TIMELINE_KEPT, "asked only while it can be written down");
const _: () = assert!(LEASE < DELIVERY_DEADLINE_MAX, "a crash leaves time for another try");
const _: () = assert!(DELIVERY_DEADLINE_MIN < 60 * SECOND, "a code outlives its delivery");

/// What the configuration decides.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Digits of a code.
    pub code_digits: u8,
    /// How long a code lives.
    pub code_ttl: Millis,
    /// Guesses that one code takes.
    pub checks_max: u8,
    /// The pause between two messages to a phone.
    pub phone_gap: Millis,
    /// Messages to a phone in any hour.
    pub phone_per_hour: u32,
    /// Messages to a phone in any 24 hours.
    pub phone_per_day: u32,
    /// Messages asked for from one address in any hour.
    pub address_per_hour: u32,
    /// Challenges.
    pub challenges: Challenges,
    /// The currency of prices and caps.
    pub currency: Currency,
    /// How long a phone is known after its last right code: nothing where no cap needs it.
    pub known_for: Millis,
}

/// What challenges ask for, and where they end.
#[derive(Clone, Debug)]
pub struct Challenges {
    /// Rounds of one derivation of a proof of work.
    pub work_cost: NonZeroU32,
    /// The most tries that a proof of work takes; half as many in the mean.
    pub work_tries: u32,
    /// Whether puzzles of ALTCHA's version 1 are made for who asks.
    pub altcha_v1: bool,
    /// Where an address, and its network, are refused.
    pub limits: Counts,
    /// Where those who listen are.
    pub audio: Audio,
}

/// What one address may listen to in ten minutes: less than it may look at, since programs hear
/// better than they read our pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audio {
    /// Answers by ear, right or wrong.
    pub answers: u32,
    /// Clips, each time one is fetched.
    pub clips: u32,
}

/// Tries of a proof of work of version 1, each one hash: as long for a browser as the usual
/// version 2, and nothing for a native program.
pub const WORK_TRIES_V1: u32 = 50_000;
/// The fewest and the most rounds of one derivation: each puzzle costs the server one.
pub const WORK_COST: std::ops::RangeInclusive<u32> = 100..=100_000;
/// The fewest and the most tries.
pub const WORK_TRIES: std::ops::RangeInclusive<u32> = 1..=1_000_000;

impl Default for Challenges {
    fn default() -> Self {
        Self {
            work_cost: NonZeroU32::new(1000).expect("it is not zero"),
            work_tries: 4000,
            altcha_v1: false,
            limits: Counts { wrong: 40, asked: 600, prefix: 6000 },
            audio: Audio { answers: 3, clips: 60 },
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            code_digits: 6,
            code_ttl: 5 * MINUTE,
            checks_max: 5,
            phone_gap: MINUTE,
            phone_per_hour: 5,
            phone_per_day: 10,
            address_per_hour: 30,
            challenges: Challenges::default(),
            currency: Currency::default(),
            known_for: 0,
        }
    }
}

impl Policy {
    /// No provider is called later than this after acceptance: at most 90 s, and early enough that
    /// the person has two minutes left to enter the code. Codes too short-lived for that are given
    /// 30 s.
    pub fn delivery_deadline(&self) -> Millis {
        (self.code_ttl - CODE_LIFE_LEFT_MIN).clamp(DELIVERY_DEADLINE_MIN, DELIVERY_DEADLINE_MAX)
    }

    /// A code's life in whole minutes, as messages say it.
    pub fn code_minutes(&self) -> u32 {
        u32::try_from(self.code_ttl / MINUTE).unwrap_or(1).max(1)
    }

    /// The window of an address.
    pub fn address_rule(&self) -> Rule {
        Rule { max: self.address_per_hour, length: HOUR }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_leaves_two_minutes_of_the_code() {
        let deadline = |seconds: i64| {
            Policy { code_ttl: seconds * SECOND, ..Policy::default() }.delivery_deadline() / SECOND
        };
        assert_eq!([300, 600, 180, 150, 120, 60].map(deadline), [90, 90, 60, 30, 30, 30]);
    }
}
