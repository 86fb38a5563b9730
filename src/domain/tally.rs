//! Counts of what came from where, of late, in memory that never grows.
//!
//! A count covers about [`PERIOD`]: what was counted in the period that is running, and of the one
//! before as much as has not faded yet. There are [`PLACES`] places. A name that finds all places
//! of its set taken gets the one with the smallest count, *with that count*: so nobody is ever
//! counted too low, whatever a flood of other names does, and it takes `8 × limit` events in every
//! one of 8 192 sets until strangers are refused for what others did.

use crate::clock::{MINUTE, Millis};

/// What a count covers.
pub const PERIOD: Millis = 10 * MINUTE;
/// Names that are counted one by one.
pub const PLACES: usize = SETS * WAYS;
const SETS: usize = 8192;
const WAYS: usize = 8;

const _: () = assert!(SETS.is_power_of_two(), "a name's low bits choose its set");

/// A name and its counts.
#[derive(Clone, Copy, Default)]
struct Place {
    name: u64,
    period: u32,
    before: u32,
    running: u32,
}

impl Place {
    fn roll(&mut self, period: u32) {
        // Requests are counted in another order than they looked at the clock: never backwards.
        if period > self.period {
            self.before = if period == self.period + 1 { self.running } else { 0 };
            (self.period, self.running) = (period, 0);
        }
    }

    /// The count, so far into the running period.
    fn count(&self, into: Millis) -> u32 {
        let left = Millis::from(self.before) * (PERIOD - into) / PERIOD;
        self.running.saturating_add(u32::try_from(left).unwrap_or(u32::MAX))
    }
}

/// Counts by name. A name is a keyed hash, so that nobody chooses whose place is taken.
///
/// The places are made with the first count: who counts nothing holds nothing.
#[derive(Default)]
pub struct Tally(Vec<Place>);

impl Tally {
    /// How much was counted of late.
    pub fn count(&mut self, name: u64, now: Millis) -> u32 {
        self.place(name, now).map_or(0, |place| place.count(into(now)))
    }

    /// Counts one event, and says how much was counted with it.
    pub fn add(&mut self, name: u64, now: Millis) -> u32 {
        let place = self.take_place(name, now);
        place.running = place.running.saturating_add(1);
        place.count(into(now))
    }

    /// Counts one event less.
    pub fn take_back(&mut self, name: u64, now: Millis) {
        if let Some(place) = self.place(name, now) {
            // What was counted just before a period ended stands in the one before now.
            let counted = if place.running > 0 { &mut place.running } else { &mut place.before };
            *counted = counted.saturating_sub(1);
        }
    }

    /// When the count will be below this, if nothing is added.
    pub fn below_at(&mut self, name: u64, max: u32, now: Millis) -> Millis {
        let began = now - into(now);
        let Some(place) = self.place(name, now) else { return now };
        let (running, before) = (Millis::from(place.running), Millis::from(place.before));
        let max = Millis::from(max);
        // A count of `of` fades to less than `to` after this much of a period.
        let fades = |of: Millis, to: Millis| PERIOD - (PERIOD * to - 1).max(0) / of.max(1);
        if running + before < max {
            now
        } else if running < max {
            (began + fades(before, max - running)).max(now)
        } else {
            began + PERIOD + fades(running, max).min(PERIOD)
        }
    }

    fn set(&mut self, name: u64, now: Millis) -> &mut [Place] {
        self.0.resize(PLACES, Place::default());
        let first = usize::try_from(name % SETS as u64).expect("there are few sets") * WAYS;
        let set = &mut self.0[first..first + WAYS];
        for place in set.iter_mut() {
            place.roll(period(now));
        }
        set
    }

    fn place(&mut self, name: u64, now: Millis) -> Option<&mut Place> {
        if self.0.is_empty() {
            return None;
        }
        self.set(name, now).iter_mut().find(|place| place.name == name)
    }

    fn take_place(&mut self, name: u64, now: Millis) -> &mut Place {
        let set = self.set(name, now);
        let known = set.iter().position(|place| place.name == name);
        let smallest = || {
            let counts = set.iter().map(|place| place.count(into(now)));
            counts.enumerate().min_by_key(|(_, count)| *count).map_or(0, |(at, _)| at)
        };
        let at = known.unwrap_or_else(smallest);
        set[at].name = name;
        &mut set[at]
    }
}

fn into(now: Millis) -> Millis {
    now.rem_euclid(PERIOD)
}

/// The number of a period.
fn period(now: Millis) -> u32 {
    u32::try_from(now.div_euclid(PERIOD).max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::SECOND;

    const NOW: Millis = 1_735_749_045_000 - 1_735_749_045_000 % PERIOD;

    #[test]
    fn a_count_fades_over_the_next_period() {
        let mut tally = Tally::default();
        for at in 0..100 {
            assert_eq!(tally.add(7, NOW + at * SECOND), u32::try_from(at).unwrap() + 1);
        }
        assert_eq!(tally.count(7, NOW + PERIOD - 1), 100);
        assert_eq!(tally.count(7, NOW + PERIOD + PERIOD / 2), 50);
        assert_eq!(tally.count(8, NOW), 0, "another name");
        tally.take_back(7, NOW + PERIOD);
        assert_eq!(tally.count(7, NOW + PERIOD), 99);
        assert_eq!(tally.add(7, NOW + PERIOD - 1), 1, "who looked at the clock before is counted");
        assert_eq!(tally.count(7, NOW + PERIOD), 100);
        assert_eq!(tally.count(7, NOW + 3 * PERIOD), 0);
    }

    #[test]
    fn a_flood_of_names_never_lowers_a_count_and_never_grows() {
        let mut tally = Tally::default();
        for _ in 0..40 {
            tally.add(u64::MAX, NOW);
        }
        // A million other names: what a keyed hash gives for a million addresses.
        let mut name = 1_u64;
        for _ in 0..1_000_000 {
            name = name
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            tally.add(name ^ (name >> 29), NOW);
        }
        assert!(tally.count(u64::MAX, NOW) >= 40);
        assert_eq!((tally.0.len(), size_of::<Place>()), (PLACES, 24), "1.5 MiB");
        // A stranger who comes now is taken for one who asked a few times, not for the flood.
        let stranger = tally.add(u64::MAX / 3, NOW);
        assert!((1..60).contains(&stranger), "{stranger}");
    }

    proptest! {
        #[test]
        fn it_never_counts_too_low_and_says_when_it_is_below(
            events in prop::collection::vec((0_u64..40, 0_i64..20 * SECOND), 1..300),
            max in 1_u32..12,
        ) {
            // Names that share one set of eight places.
            let name = |low: u64| (low + 1) * SETS as u64;
            let (mut tally, mut now, mut seen) = (Tally::default(), NOW, Vec::new());
            for (low, later) in events {
                now += later;
                tally.add(name(low), now);
                seen.push((low, now));
                let of_late = |at: &Millis| at.div_euclid(PERIOD) == now.div_euclid(PERIOD);
                let true_count = seen.iter().filter(|(one, at)| *one == low && of_late(at)).count();
                prop_assert!(tally.count(name(low), now) as usize >= true_count);
                let below_at = tally.below_at(name(low), max, now);
                prop_assert!(below_at >= now && below_at <= now + 2 * PERIOD);
                let mut later = Tally(tally.0.clone());
                prop_assert!(later.count(name(low), below_at) < max, "{now} {below_at}");
            }
        }
    }
}
