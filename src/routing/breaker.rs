//! A breaker: whether a provider is asked at all. It leaves a provider out that fails, and lets a
//! single message try it again after a pause that doubles.
//!
//! It knows nothing of providers: outcomes and times come in, and it says yes or no.

use crate::clock::{MINUTE, Millis, SECOND};
use crate::domain::outcome::{Action, Class};

/// So many of the latest calls are looked at.
const RECENT: u32 = 20;
/// It opens at so many failures among them, if they are half of them at least.
const FAILURES_MIN: u32 = 5;
/// It opens at so many calls in a row without an answer.
const SILENT_MAX: u8 = 3;
/// It opens at so many refusals in a row that an operator has to mend.
const REFUSED_MAX: u8 = 3;
/// After so long a message tries the provider again; each time in vain the pause doubles.
pub const PAUSE: std::ops::RangeInclusive<Millis> = 10 * SECOND..=5 * MINUTE;
/// The same after refusals that an operator has to mend.
const PAUSE_REFUSED: Millis = 5 * MINUTE;
/// A message that tries a provider again may take so long; then another one tries.
const TRY_MAX: Millis = 15 * SECOND;
/// Calls and retries are counted over this time.
const BUDGET: Millis = 10 * SECOND;
/// While a provider fails, retries are at most one in so many of its calls,
const RETRIES_PART: u32 = 5;
/// or so many in [`BUDGET`].
const RETRIES_MIN: u32 = 20;
/// Where every provider is left out, one of them is still asked so often.
const TRICKLE: Millis = SECOND;

/// Why a provider is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// So many of its latest calls failed.
    Failed {
        /// Failures.
        failures: u32,
        /// Calls.
        calls: u32,
    },
    /// It did not answer so many times in a row.
    Silent(u8),
    /// It refuses until an operator mends something.
    Refused(Class),
}

impl Why {
    /// In words, after "left out:".
    pub fn words(self) -> String {
        match self {
            Self::Failed { failures, calls } => {
                format!("{failures} of its last {calls} calls failed")
            }
            Self::Silent(count) => format!("{count} calls in a row were not answered"),
            Self::Refused(class) => format!("it refuses messages ({class}): {}", class.advice()),
        }
    }

    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed { .. } => "failed",
            Self::Silent(_) => "silent",
            Self::Refused(_) => "refused",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    /// Left out until somebody may look again.
    Open {
        until: Millis,
        why: Why,
    },
    /// Looked at, and a message may try it.
    Ready {
        why: Why,
    },
    /// A message is trying it since then.
    Trying {
        since: Millis,
        why: Why,
    },
}

/// The breaker of one provider for one country.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    /// The latest outcomes, a bit each: whether it failed.
    recent: u32,
    calls: u32,
    silent: u8,
    refused: u8,
    pause: Millis,
    trickled_at: Millis,
    budget: (Millis, u32, u32),
}

impl Default for Breaker {
    fn default() -> Self {
        let pause = *PAUSE.start();
        let (recent, calls, silent, refused) = (0, 0, 0, 0);
        let (trickled_at, budget) = (Millis::MIN / 2, (Millis::MIN / 2, 0, 0));
        Self { state: State::Closed, recent, calls, silent, refused, pause, trickled_at, budget }
    }
}

/// What a change of a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// From now on the provider is left out.
    Opened(Why),
    /// It works again.
    Closed,
}

impl Breaker {
    /// Why the provider is left out now, if it is.
    pub fn left_out(&self) -> Option<Why> {
        match self.state {
            State::Closed => None,
            State::Open { why, .. } | State::Ready { why } | State::Trying { why, .. } => Some(why),
        }
    }

    /// Whether a message would be let through.
    pub fn is_passable(&self, now: Millis) -> bool {
        match self.state {
            State::Closed | State::Ready { .. } => true,
            State::Open { .. } => false,
            State::Trying { since, .. } => now - since >= TRY_MAX,
        }
    }

    /// Lets a message through, or not. Where it is the one that tries, others wait for its end.
    pub fn admit(&mut self, now: Millis) -> bool {
        if !self.is_passable(now) {
            return false;
        }
        if let Some(why) = self.left_out() {
            self.state = State::Trying { since: now, why };
        }
        true
    }

    /// Lets a message through although the provider is left out, since all others are, too: one in
    /// a while, so that the first to work again is found.
    pub fn trickle(&mut self, now: Millis) -> bool {
        let due = now - self.trickled_at >= TRICKLE;
        if due {
            self.trickled_at = now;
        }
        due
    }

    /// Whether a provider that fails may be asked again about a message that it was asked about
    /// before. One that works always may.
    pub fn may_retry(&self, now: Millis) -> bool {
        let (since, calls, retries) = self.budget;
        let spent = now - since < BUDGET && retries >= RETRIES_MIN.max(calls / RETRIES_PART);
        !(self.fails() && spent)
    }

    /// Counts a call.
    pub fn called(&mut self, again: bool, now: Millis) {
        if now - self.budget.0 >= BUDGET {
            self.budget = (now, 0, 0);
        }
        self.budget.1 += 1;
        self.budget.2 += u32::from(again);
    }

    /// Whether there is reason to believe that the provider is dead rather than slow: more than
    /// one call in a row without an answer.
    pub fn is_doubtful(&self) -> bool {
        self.silent > 1 || self.left_out().is_some()
    }

    /// When somebody may look whether the provider works again.
    pub fn may_be_looked_at(&self, now: Millis) -> bool {
        matches!(self.state, State::Open { until, .. } if until <= now)
    }

    /// Somebody looked whether the provider works again.
    pub fn looked_at(&mut self, works: bool, now: Millis) {
        let State::Open { why, .. } = self.state else { return };
        if works {
            self.state = State::Ready { why };
        } else {
            self.open_again(why, now);
        }
    }

    /// Learns from an outcome.
    pub fn learn(&mut self, class: Class, now: Millis) -> Option<Change> {
        let failed = match class {
            Class::NotSent
            | Class::UnknownOutcome
            | Class::ProviderError
            | Class::RateLimitedAccount => true,
            // About a message or a number, and so an answer like others.
            _ => false,
        };
        let silent = class == Class::UnknownOutcome || class == Class::NotSent;
        self.silent = if silent { self.silent.saturating_add(1) } else { 0 };
        let refused = matches!(
            class,
            Class::AuthFailed
                | Class::AccountDisabled
                | Class::BalanceExhausted
                | Class::QuotaExhausted
                | Class::TemplateRejected
                | Class::UnsupportedDestination
        );
        self.refused = if refused { self.refused.saturating_add(1) } else { 0 };
        self.recent = (self.recent << 1 | u32::from(failed)) & ((1 << RECENT) - 1);
        self.calls = (self.calls + 1).min(RECENT);
        match self.state {
            State::Closed => {
                let why = self.reason(class)?;
                self.pause = *PAUSE.start();
                let pause = if let Why::Refused(_) = why { PAUSE_REFUSED } else { self.pause };
                self.state = State::Open { until: now + pause, why };
                Some(Change::Opened(why))
            }
            // An answer to a call from before it was left out tells nothing new.
            State::Open { .. } if now - self.trickled_at >= TRY_MAX => None,
            State::Open { why, .. } | State::Ready { why } | State::Trying { why, .. } => {
                if failed || refused {
                    if let State::Trying { .. } = self.state {
                        self.open_again(why, now);
                    }
                    return None;
                }
                let done = matches!(class.action(), Action::Done | Action::RefuseNumber);
                if done {
                    *self = Self::default();
                }
                done.then_some(Change::Closed)
            }
        }
    }

    fn open_again(&mut self, why: Why, now: Millis) {
        self.pause = (self.pause * 2).min(*PAUSE.end());
        self.state = State::Open { until: now + self.pause, why };
    }

    fn fails(&self) -> bool {
        let failures = self.recent.count_ones();
        failures >= FAILURES_MIN && failures * 2 >= self.calls
    }

    fn reason(&self, class: Class) -> Option<Why> {
        if self.silent >= SILENT_MAX {
            return Some(Why::Silent(self.silent));
        }
        if self.refused >= REFUSED_MAX {
            return Some(Why::Refused(class));
        }
        let (failures, calls) = (self.recent.count_ones(), self.calls);
        self.fails().then_some(Why::Failed { failures, calls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(classes: &[Class]) -> Breaker {
        let mut breaker = Breaker::default();
        for class in classes {
            breaker.learn(*class, 0);
        }
        breaker
    }

    #[test]
    fn it_opens_for_silence_for_failures_and_for_what_an_operator_must_mend() {
        use Class::{
            Accepted, AuthFailed, BlockedNumber, InvalidNumber, NotSent, ProviderError,
            UnknownOutcome,
        };
        let cases: [(&[Class], Option<Why>); 8] = [
            (&[NotSent, UnknownOutcome], None),
            (&[NotSent, UnknownOutcome, NotSent], Some(Why::Silent(3))),
            (&[UnknownOutcome, UnknownOutcome, Accepted, UnknownOutcome], None),
            (&[ProviderError; 4], None),
            (&[ProviderError; 5], Some(Why::Failed { failures: 5, calls: 5 })),
            (&[AuthFailed, AuthFailed, AuthFailed], Some(Why::Refused(AuthFailed))),
            (&[AuthFailed, AuthFailed, Accepted, AuthFailed], None),
            (&[InvalidNumber, BlockedNumber, InvalidNumber, BlockedNumber, InvalidNumber], None),
        ];
        for (classes, expected) in cases {
            assert_eq!(after(classes).left_out(), expected, "{classes:?}");
        }
    }

    #[test]
    fn few_failures_among_many_calls_are_borne() {
        let mut breaker = Breaker::default();
        for call in 0..200 {
            let class = if call % 3 == 0 { Class::ProviderError } else { Class::Accepted };
            breaker.learn(class, 0);
        }
        assert_eq!(breaker.left_out(), None, "a third fails");
        for call in 0..20 {
            let class = if call % 2 == 0 { Class::ProviderError } else { Class::Accepted };
            breaker.learn(class, 0);
        }
        assert!(matches!(breaker.left_out(), Some(Why::Failed { .. })), "half fail");
    }

    #[test]
    fn after_a_pause_that_doubles_one_message_tries_it() {
        let mut breaker = after(&[Class::NotSent; 3]);
        assert!(!breaker.admit(0) && !breaker.may_be_looked_at(10 * SECOND - 1));
        let (mut now, mut pauses) = (0, Vec::new());
        for _ in 0..7 {
            let opened = now;
            while !breaker.may_be_looked_at(now) {
                now += SECOND;
            }
            pauses.push((now - opened) / SECOND);
            breaker.looked_at(true, now);
            assert!(breaker.admit(now) && !breaker.admit(now), "one");
            assert_eq!(breaker.learn(Class::UnknownOutcome, now), None);
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
        while !breaker.may_be_looked_at(now) {
            now += SECOND;
        }
        breaker.looked_at(false, now);
        assert!(!breaker.admit(now), "who looked found it dead");
        now += 5 * MINUTE;
        breaker.looked_at(true, now);
        assert!(breaker.admit(now));
        assert!(!breaker.admit(now + TRY_MAX - 1));
        assert!(breaker.admit(now + TRY_MAX), "the first to try was lost");
        assert_eq!(breaker.learn(Class::Accepted, now), Some(Change::Closed));
        assert!(breaker.admit(now) && breaker.admit(now));
        breaker.learn(Class::NotSent, now);
        assert_eq!(breaker.left_out(), None, "what was is forgotten");
    }

    #[test]
    fn where_all_are_left_out_one_message_a_second_goes() {
        let mut breaker = after(&[Class::NotSent; 3]);
        let gone = (0..100).filter(|tenth| breaker.trickle(tenth * SECOND / 10)).count();
        assert_eq!(gone, 10);
        assert_eq!(breaker.learn(Class::Accepted, 0), Some(Change::Closed));
    }

    #[test]
    fn a_provider_that_fails_gets_few_retries_and_one_that_works_gets_all() {
        let mut breaker = after(&[Class::ProviderError; 5]);
        for _ in 0..200 {
            breaker.called(false, 0);
        }
        let mut retries = 0;
        while breaker.may_retry(0) {
            breaker.called(true, 0);
            retries += 1;
        }
        assert_eq!(retries, 49, "one in five of 249");
        assert!(breaker.may_retry(BUDGET));
        for _ in 0..20 {
            breaker.learn(Class::Accepted, 0);
        }
        assert!(breaker.may_retry(0));
    }

    #[test]
    fn one_slow_call_is_no_reason_to_doubt() {
        assert!(!after(&[Class::UnknownOutcome]).is_doubtful());
        assert!(after(&[Class::UnknownOutcome; 2]).is_doubtful());
        let answered = [Class::UnknownOutcome, Class::Accepted, Class::UnknownOutcome];
        assert!(!after(&answered).is_doubtful());
    }
}
