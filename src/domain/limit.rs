//! Rolling windows: may this go on, and if not, when?
//!
//! A window counts what happened in the last so many milliseconds, not since the last full hour,
//! so there is no boundary at which two allowances meet. Up to [`EXACT_MAX`] events are kept one
//! by one; a larger allowance is kept in cells of 1/[`EXACT_MAX`] of the window, each counted as
//! late as its last event, so that the limit is never exceeded and is free again at most one cell
//! late.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;

/// The largest allowance whose events are remembered one by one.
pub const EXACT_MAX: u32 = 64;

/// At most so many within so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The most events in any stretch of `length`.
    pub max: u32,
    /// The length of the window, in milliseconds.
    pub length: Millis,
}

impl Rule {
    fn cell(self) -> Millis {
        if self.max <= EXACT_MAX { 0 } else { self.length / Millis::from(EXACT_MAX) }
    }
}

/// The events that still count, oldest first, as `(when, how many)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Window(Vec<(Millis, u32)>);

impl Window {
    /// How many events lie within `length` before `now`.
    pub fn count(&self, length: Millis, now: Millis) -> u32 {
        self.0.iter().filter(|(at, _)| at + length > now).map(|(_, events)| events).sum()
    }

    /// When one more event is allowed: `None` for now, else the instant.
    pub fn free_at(&self, rule: Rule, now: Millis) -> Option<Millis> {
        let mut counted = self.count(rule.length, now);
        if counted < rule.max {
            return None;
        }
        let living = self.0.iter().filter(|(at, _)| at + rule.length > now);
        for (at, events) in living {
            counted = counted.saturating_sub(*events);
            if counted < rule.max {
                return Some(at + rule.length);
            }
        }
        // Only an allowance of nothing comes here: it is never free.
        Some(now + rule.length)
    }

    /// Counts one event, and forgets what no rule of this `length` or shorter can count any more.
    pub fn add(&mut self, rule: Rule, now: Millis) {
        self.0.retain(|(at, _)| at + rule.length > now);
        // Requests are decided in another order than they looked at the clock: keep times sorted.
        let now = now.max(self.0.last().map_or(now, |(at, _)| *at));
        let cell = rule.cell();
        match self.0.last_mut() {
            Some((at, events)) if cell > 0 && *at / cell == now / cell => {
                (*at, *events) = (now, *events + 1);
            }
            _ => self.0.push((now, 1)),
        }
    }

    /// Takes the newest event back.
    pub fn take_back(&mut self) {
        if let Some((_, events)) = self.0.last_mut() {
            *events -= 1;
            if *events == 0 {
                self.0.pop();
            }
        }
    }

    /// The newest event.
    pub fn last_at(&self) -> Option<Millis> {
        self.0.last().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::{HOUR, SECOND};

    #[test]
    fn a_window_is_free_again_to_the_millisecond() {
        let rule = Rule { max: 2, length: 60 * SECOND };
        let mut window = Window::default();
        window.add(rule, 1000);
        assert_eq!(window.free_at(rule, 1000), None);
        window.add(rule, 5000);
        assert_eq!(window.free_at(rule, 60_999), Some(61_000));
        assert_eq!(window.free_at(rule, 61_000), None);
    }

    #[test]
    fn an_allowance_of_nothing_is_never_free() {
        let rule = Rule { max: 0, length: HOUR };
        assert!(Window::default().free_at(rule, 7).is_some());
    }

    #[test]
    fn a_large_allowance_stays_small_and_is_never_exceeded() {
        let rule = Rule { max: 100_000, length: HOUR };
        let mut window = Window::default();
        let mut taken = Vec::new();
        for step in 0..200_000_i64 {
            let now = step * 20;
            if window.free_at(rule, now).is_none() {
                window.add(rule, now);
                taken.push(now);
            }
            assert!(window.0.len() <= 2 + EXACT_MAX as usize);
        }
        let last = *taken.last().unwrap();
        let in_last_hour = taken.iter().filter(|&&at| at + HOUR > last).count();
        assert!(in_last_hour <= 100_000, "{in_last_hour}");
        assert!(taken.len() > 100_000, "it was free again: {}", taken.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn an_exact_window_is_the_naive_count(
            max in 1_u32..12, steps in prop::collection::vec(0_i64..40_000, 1..120)
        ) {
            let rule = Rule { max, length: 60 * SECOND };
            let (mut window, mut naive, mut now) = (Window::default(), Vec::new(), 0);
            for step in steps {
                now += step;
                let count = naive.iter().filter(|&&at: &&i64| at + rule.length > now).count();
                let allowed = u32::try_from(count).unwrap() < max;
                prop_assert_eq!(window.free_at(rule, now).is_none(), allowed);
                if allowed {
                    window.add(rule, now);
                    naive.push(now);
                } else {
                    let free = window.free_at(rule, now).unwrap();
                    prop_assert!(window.free_at(rule, free).is_none());
                    prop_assert!(window.free_at(rule, free - 1).is_some());
                }
            }
        }

        #[test]
        fn taking_back_undoes_adding(steps in prop::collection::vec(0_i64..9_000_000, 1..80)) {
            let rule = Rule { max: 1000, length: HOUR };
            let (mut window, mut now) = (Window::default(), 0);
            for step in steps {
                now += step;
                let before = window.count(rule.length, now);
                window.add(rule, now);
                window.take_back();
                prop_assert_eq!(window.count(rule.length, now), before);
            }
        }
    }
}
