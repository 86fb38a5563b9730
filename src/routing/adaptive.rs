//! Adaptive choice: which provider of a route is asked first, by the share of codes that people
//! enter in time. A provider that takes messages and does not deliver them looks fine to a
//! breaker; only the people see it.
//!
//! Thompson sampling: for each provider a share is drawn that fits with what was seen, and the best
//! draw goes first. So a provider of which little is known is tried now and then, and one that is
//! known to be worse hardly ever. What is seen fades, with every outcome of the country and with
//! time, so that a provider that recovered is tried again. All of it is in this node's memory.

use std::collections::HashMap;

use crate::chance::Chance;
use crate::clock::{HOUR, Millis};
use crate::domain::beta::draw_share;
use crate::domain::money::Micros;
use crate::domain::phone::Region;

/// After so many outcomes of a country, what was seen before counts half.
const HALF_LIFE: f64 = 300.0;
/// After so long, too, however little happens.
const HALF_LIFE_TIME: Millis = 6 * HOUR;

/// What is known of one provider in one country.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    entered: f64,
    missed: f64,
    /// How many outcomes the country had seen when this was brought up to date.
    outcomes: u32,
    at: Millis,
}

/// What was seen of all providers.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    scores: HashMap<(usize, Option<Region>), Score>,
    outcomes: HashMap<Option<Region>, u32>,
}

/// What is known of a provider, for people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// The share that was entered in time; nothing where nothing was seen.
    pub share: Option<f64>,
    /// How many messages that is of.
    pub of: f64,
}

impl Scores {
    /// Learns whether the code of a message was entered in time.
    pub fn learn(&mut self, place: usize, country: Option<Region>, entered: bool, now: Millis) {
        let outcomes = self.outcomes.entry(country).or_default();
        *outcomes = outcomes.wrapping_add(1);
        let mut score = self.score(place, country, now);
        *(if entered { &mut score.entered } else { &mut score.missed }) += 1.0;
        self.scores.insert((place, country), score);
    }

    /// Takes back a miss: the code was entered, whatever a receipt said before. Where another node
    /// learned of that receipt, the miss is one of its own, which is as good.
    pub fn take_back(&mut self, place: usize, country: Option<Region>, now: Millis) {
        let mut score = self.score(place, country, now);
        score.missed = (score.missed - 1.0).max(0.0);
        self.scores.insert((place, country), score);
    }

    /// What is known of a provider now.
    fn score(&self, place: usize, country: Option<Region>, now: Millis) -> Score {
        let outcomes = self.outcomes.get(&country).copied().unwrap_or_default();
        let Some(old) = self.scores.get(&(place, country)) else {
            return Score { outcomes, at: now, ..Score::default() };
        };
        let seen = f64::from(outcomes.wrapping_sub(old.outcomes));
        let time = f64::from(u32::try_from((now - old.at).max(0)).unwrap_or(u32::MAX));
        let half_life_time = f64::from(u32::try_from(HALF_LIFE_TIME).unwrap_or(u32::MAX));
        let left = (-(seen / HALF_LIFE + time / half_life_time)).exp2();
        Score { entered: old.entered * left, missed: old.missed * left, outcomes, at: now }
    }

    /// What is known of a provider, for people.
    pub fn known(&self, place: usize, country: Option<Region>, now: Millis) -> Known {
        let score = self.score(place, country, now);
        let of = score.entered + score.missed;
        Known { share: (of >= 0.5).then(|| score.entered / of), of }
    }

    /// Sorts providers by what a message through each is worth: the drawn share of what an entered
    /// code is worth, less the price.
    pub fn sort(
        &self,
        order: &mut [usize],
        country: Option<Region>,
        (worth, costs): (Micros, &[Micros]),
        now: Millis,
        chance: &mut impl Chance,
    ) {
        let mut value = |place: usize| {
            let score = self.score(place, country, now);
            let share = draw_share(score.entered, score.missed, chance);
            let cost = costs.get(place).copied().unwrap_or_default();
            share * float(worth) - float(cost)
        };
        let mut valued: Vec<_> = order.iter().map(|place| (value(*place), *place)).collect();
        valued.sort_by(|one, other| other.0.total_cmp(&one.0));
        for (place, (_, sorted)) in order.iter_mut().zip(valued) {
            *place = sorted;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a millionth of a message's price is no matter")]
fn float(amount: Micros) -> f64 {
    amount.0 as f64
}

impl Known {
    /// In words, after the provider's name.
    pub fn words(&self, first: bool) -> String {
        let Some(share) = self.share else { return "nothing known yet".to_owned() };
        let entered = if first { " entered" } else { "" };
        format!("{:.0} %{entered} of the last {:.0}", share * 100.0, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::SeededChance;

    const WORTH: Micros = Micros(1_000_000);

    fn firsts(scores: &Scores, costs: &[Micros], now: Millis) -> [u32; 2] {
        let (mut chance, mut firsts) = (SeededChance(3), [0; 2]);
        for _ in 0..1000 {
            let mut order = [0, 1];
            scores.sort(&mut order, None, (WORTH, costs), now, &mut chance);
            firsts[order[0]] += 1;
        }
        firsts
    }

    fn seen(shares: [u32; 2], each: u32) -> Scores {
        let mut scores = Scores::default();
        for at in 0..each {
            for (place, share) in shares.into_iter().enumerate() {
                scores.learn(place, None, at % 100 < share, 0);
            }
        }
        scores
    }

    #[test]
    fn the_better_one_is_asked_first_and_of_equals_the_cheaper() {
        let unknown = firsts(&Scores::default(), &[], 0);
        assert!((420..580).contains(&unknown[0]), "{unknown:?}");
        let better = firsts(&seen([90, 30], 100), &[], 0);
        assert!(better[0] > 990, "{better:?}");
        let price = [Micros(45_000), Micros(300_000)];
        let equal = firsts(&seen([90, 90], 200), &price, 0);
        assert!(equal[0] > 980, "{equal:?}");
        // Two percent more are not worth six times the price.
        let dear = firsts(&seen([90, 92], 400), &price, 0);
        assert!(dear[0] > 980, "{dear:?}");
    }

    #[test]
    fn what_was_seen_fades_with_outcomes_and_with_time() {
        let mut scores = seen([90, 0], 100);
        let bad = scores.known(1, None, 0);
        assert_eq!(bad.share, Some(0.0));
        // A hundred of each: the other's outcomes make it fade as well.
        assert!((75.0..85.0).contains(&bad.of), "{}", bad.of);
        for _ in 0..600 {
            scores.learn(0, None, true, 0);
        }
        let faded = scores.known(1, None, 0).of;
        assert!((faded * 4.0 - bad.of).abs() < 0.5, "two half-lives: {faded}");
        let later = scores.known(1, None, HALF_LIFE_TIME).of;
        assert!((later * 2.0 - faded).abs() < 1e-6);
        let country: Option<Region> = "HK".parse().ok();
        assert_eq!(scores.known(1, country, 0).share, None, "another country's is its own");
    }

    #[test]
    fn it_is_the_same_with_the_same_chance_and_told_in_words() {
        let scores = seen([94, 71], 200);
        let order = |seed| {
            let mut order = [1, 0];
            scores.sort(&mut order, None, (WORTH, &[]), 0, &mut SeededChance(seed));
            order
        };
        assert_eq!(order(5), order(5));
        let known = Known { share: Some(0.941), of: 211.7 };
        assert_eq!(known.words(true), "94 % entered of the last 212");
        assert_eq!(known.words(false), "94 % of the last 212");
        assert_eq!(scores.known(2, None, 0).words(false), "nothing known yet");
    }
}
