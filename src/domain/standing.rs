//! How a phone stands with a tenant and purpose: its failures in a row, and its newest
//! verification.
//!
//! Failures live here and not on the code, so that neither a resend nor a new verification gives
//! fresh guesses. Fifty in a row lock for a day; then five a day until a success: at most 1 875
//! guesses at a million values in a year, a chance of 0.19 %.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::domain::id::VerificationId;
use crate::domain::limit::Window;
use crate::domain::policy::{FAILURES_KEPT, FAILURES_MAX, GUESSES_AFTER_LOCK, LOCK};

/// One record per (tenant, purpose, phone).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The only verification whose code is good: the newest.
    pub newest: Option<VerificationId>,
    failures: u32,
    locked_until: Option<Millis>,
    #[serde(default)]
    after_lock: Window,
    last_failure_at: Option<Millis>,
    /// When the last right code came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approved_at: Option<Millis>,
}

impl Standing {
    /// When a guess is allowed; `None` for now.
    pub fn free_at(&self, now: Millis) -> Option<Millis> {
        let until = self.locked_until?;
        if until > now { Some(until) } else { self.after_lock.free_at(GUESSES_AFTER_LOCK, now) }
    }

    /// Counts a guess as a failure, before it is judged.
    pub fn count_failure(&mut self, now: Millis) {
        self.failures = self.failures.saturating_add(1);
        self.last_failure_at = Some(now);
        if self.locked_until.is_some() {
            self.after_lock.add(GUESSES_AFTER_LOCK, now);
        } else if self.failures >= FAILURES_MAX {
            self.locked_until = Some(now + LOCK);
        }
    }

    /// Forgets the failures: the guess was right.
    pub fn succeed(&mut self, now: Millis) {
        let approved_at = Some(now);
        *self = Self { newest: self.newest, approved_at, ..Self::default() };
    }

    /// Whether the phone is known: a right code came within so long.
    pub fn is_known(&self, known_for: Millis, now: Millis) -> bool {
        self.approved_at.is_some_and(|at| at + known_for > now)
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Until when this record must be kept, if its newest verification matters until `until`, and
    /// a phone is known for so long.
    pub fn kept_until(&self, until: Millis, known_for: Millis) -> Millis {
        let failures = self.last_failure_at.map_or(until, |at| at + FAILURES_KEPT);
        let known = self.approved_at.map_or(until, |at| at + known_for);
        until.max(failures).max(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{DAY, HOUR, MINUTE};

    #[test]
    fn fifty_failures_lock_for_a_day_then_five_a_day() {
        let mut standing = Standing::default();
        for _ in 0..50 {
            assert_eq!(standing.free_at(0), None);
            standing.count_failure(0);
        }
        assert_eq!(standing.free_at(0), Some(DAY));
        assert_eq!(standing.free_at(DAY - 1), Some(DAY));
        for _ in 0..5 {
            assert_eq!(standing.free_at(DAY), None);
            standing.count_failure(DAY);
        }
        assert_eq!(standing.free_at(DAY), Some(2 * DAY));
        standing.succeed(DAY);
        assert_eq!((standing.free_at(DAY), standing.failures()), (None, 0));
    }

    #[test]
    fn a_phone_is_known_for_so_long_after_a_right_code() {
        let (mut standing, known_for) = (Standing::default(), 180 * DAY);
        assert!(!standing.is_known(known_for, 0));
        standing.succeed(7);
        standing.count_failure(8);
        assert!(standing.is_known(known_for, 7 + known_for - 1));
        assert!(!standing.is_known(known_for, 7 + known_for));
        assert!(!standing.is_known(0, 7), "where no cap needs it");
        standing.succeed(9);
        assert_eq!(standing.kept_until(DAY, known_for), 9 + known_for);
        assert_eq!(standing.kept_until(DAY, 0), DAY, "where no cap needs it");
    }

    #[test]
    fn a_year_of_guessing_is_at_most_1875_guesses() {
        // Whatever the rhythm of the guesses, and however the day's code guesses are spread.
        for pause in [1, MINUTE, 7 * MINUTE, HOUR, 5 * HOUR - 1, DAY / 5, DAY / 5 + 1] {
            let (mut standing, mut guesses, mut now) = (Standing::default(), 0_u32, 0);
            let mut first_day = 0;
            while now < 365 * DAY {
                match standing.free_at(now) {
                    None => {
                        standing.count_failure(now);
                        guesses += 1;
                        first_day += u32::from(now < DAY);
                        now += pause;
                    }
                    Some(at) => now = at,
                }
            }
            assert!(guesses <= 1875 && first_day <= 50, "{guesses} with a pause of {pause} ms");
        }
    }

    #[test]
    fn failures_are_kept_for_longer_than_a_year() {
        let mut standing = Standing::default();
        assert_eq!(standing.kept_until(5, 0), 5);
        standing.count_failure(1000);
        assert!(standing.kept_until(5, 0) > 365 * DAY);
    }
}
