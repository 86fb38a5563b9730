//! How often a phone may be written to: a gap, an hour and a day, all rolling.
//!
//! These are the carriers' own limits, so they belong to the phone whoever asks: one record for
//! all tenants. When a message definitely was not sent, the person need not sit out the gap; the
//! hour and the day stay taken, so that a failing provider is not a way round them.

use serde::{Deserialize, Serialize};

use crate::clock::{DAY, HOUR, Millis};
use crate::domain::limit::{Rule, Window};
use crate::domain::policy::{GAPS_GIVEN_BACK, Policy};

/// What was sent to one phone lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sends {
    sent: Window,
    /// Whether the newest message's gap was given back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gap_waived: bool,
    #[serde(default)]
    given_back: Window,
}

/// How long this record matters after its last change.
pub const KEPT: Millis = DAY;

impl Sends {
    /// When the next message is allowed; `None` for now.
    pub fn free_at(&self, policy: &Policy, now: Millis) -> Option<Millis> {
        let gap_end = self.sent.last_at().map(|at| at + policy.phone_gap);
        let gap = gap_end.filter(|&end| !self.gap_waived && end > now);
        let [hour, day] = rules(policy).map(|rule| self.sent.free_at(rule, now));
        gap.max(hour).max(day)
    }

    /// Counts one message.
    pub fn add(&mut self, policy: &Policy, now: Millis) {
        let [_, day] = rules(policy);
        self.sent.add(day, now);
        self.gap_waived = false;
    }

    /// How many more messages the hour and the day allow, the gap aside.
    pub fn left(&self, policy: &Policy, now: Millis) -> u32 {
        let left = |rule: Rule| rule.max.saturating_sub(self.sent.count(rule.length, now));
        rules(policy).map(left).into_iter().min().unwrap_or(0)
    }

    /// Gives back the gap of a message that definitely was not sent, if it is still the newest
    /// and the phone has not had that favour too often. Says whether it did.
    pub fn give_gap_back(&mut self, sent_at: Millis, now: Millis) -> bool {
        let newest = self.sent.last_at() == Some(sent_at) && !self.gap_waived;
        let granted = newest && self.given_back.free_at(GAPS_GIVEN_BACK, now).is_none();
        if granted {
            self.gap_waived = true;
            self.given_back.add(GAPS_GIVEN_BACK, now);
        }
        granted
    }

    /// The instant of the newest message, as it was counted.
    pub fn last_at(&self) -> Option<Millis> {
        self.sent.last_at()
    }
}

fn rules(policy: &Policy) -> [Rule; 2] {
    let hour = Rule { max: policy.phone_per_hour, length: HOUR };
    [hour, Rule { max: policy.phone_per_day, length: DAY }]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::{MINUTE, SECOND};

    fn sent_at(times: &[Millis]) -> Sends {
        let mut sends = Sends::default();
        for &at in times {
            sends.add(&Policy::default(), at);
        }
        sends
    }

    #[test]
    fn the_gap_ends_after_sixty_seconds_exactly() {
        let (policy, sends) = (Policy::default(), sent_at(&[1000]));
        assert_eq!(sends.free_at(&policy, 60_999), Some(61_000));
        assert_eq!(sends.free_at(&policy, 61_000), None);
    }

    #[test]
    fn the_sixth_in_an_hour_and_the_eleventh_in_a_day_wait() {
        let policy = Policy::default();
        let five = sent_at(&[0, 1, 2, 3, 4].map(|n| n * 2 * MINUTE));
        assert_eq!(five.free_at(&policy, 10 * MINUTE), Some(HOUR));
        assert_eq!(five.left(&policy, 10 * MINUTE), 0);
        let ten = sent_at(&(0..10).map(|n| n * HOUR).collect::<Vec<_>>());
        assert_eq!(ten.free_at(&policy, 10 * HOUR), Some(DAY));
        assert_eq!(ten.free_at(&policy, DAY), None);
        assert_eq!(ten.left(&policy, DAY), 1);
    }

    #[test]
    fn a_gap_is_given_back_twice_an_hour_and_only_the_newest() {
        let policy = Policy::default();
        let mut sends = sent_at(&[0]);
        assert!(!sends.give_gap_back(77, SECOND), "another message's gap");
        assert!(sends.give_gap_back(0, SECOND));
        assert!(!sends.give_gap_back(0, SECOND), "twice the same");
        assert_eq!(sends.free_at(&policy, SECOND), None);
        assert_eq!(sends.left(&policy, SECOND), 4, "the hour stays taken");
        sends.add(&policy, 2 * SECOND);
        assert!(sends.give_gap_back(2 * SECOND, 3 * SECOND));
        sends.add(&policy, 4 * SECOND);
        assert!(!sends.give_gap_back(4 * SECOND, 5 * SECOND), "a third time in the hour");
        assert_eq!(sends.free_at(&policy, 5 * SECOND), Some(64 * SECOND));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn limits_are_the_naive_model(steps in prop::collection::vec(0_i64..2_400_000, 1..200)) {
            let policy = Policy::default();
            let (mut sends, mut naive, mut now) = (Sends::default(), Vec::<Millis>::new(), 0);
            for step in steps {
                now += step;
                let within = |length| naive.iter().filter(|&&at| at + length > now).count();
                let allowed = within(MINUTE) == 0 && within(HOUR) < 5 && within(DAY) < 10;
                prop_assert_eq!(sends.free_at(&policy, now).is_none(), allowed);
                if allowed {
                    sends.add(&policy, now);
                    naive.push(now);
                } else {
                    let free = sends.free_at(&policy, now).unwrap();
                    prop_assert!(sends.free_at(&policy, free).is_none());
                    prop_assert!(sends.free_at(&policy, free - 1).is_some());
                }
            }
        }
    }
}
