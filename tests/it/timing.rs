//! P13: how long an answer takes tells nothing. Welch's t-test on the comparison of digests, as in
//! dudect (Reparaz, Balasch, Verbauwhede), and Kolmogorov-Smirnov on answers over a socket.
//!
//! `SAMPLES` says how many comparisons (usually 20 000), `ANSWERS` how many answers (usually 300).

use std::hint::black_box;
use std::time::Instant;

use countersign::chance::{Chance, SeededChance};
use countersign::domain::code::CodeDigest;

use crate::world::{USUAL, World, body, mobile, times};

/// The least |t| that counts as a difference: by chance it comes once in 150 000 times.
const T_MAX: f64 = 4.5;
/// A quiet machine is not to be had in a test run. What differs by design differs every time, and
/// chance does not: the best of so many rounds counts.
const ROUNDS: usize = 3;
/// Comparisons under one reading of the clock, which is coarser than one comparison.
const BATCH: usize = 32;
/// Hexadecimal digits of a digest.
const DIGITS: usize = 64;

/// Count, mean and variance of a sample, gathered in one pass (Welford).
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn push(&mut self, value: f64) {
        self.count += 1.0;
        let before = value - self.mean;
        self.mean += before / self.count;
        self.squares += before * (value - self.mean);
    }

    /// Welch's t of two samples.
    fn t(&self, other: &Self) -> f64 {
        let error = |one: &Self| one.squares / (one.count - 1.0) / one.count;
        (self.mean - other.mean) / (error(self) + error(other)).sqrt()
    }
}

/// The largest |t| over all readings and over those below some percentiles: what interrupts a
/// reading only makes it longer, and hides a difference.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index in bounds")]
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of one batch are few")]
fn largest_t(readings: &[(bool, u64)]) -> f64 {
    let mut sorted: Vec<u64> = readings.iter().map(|&(_, nanos)| nanos).collect();
    sorted.sort_unstable();
    let crops = [0.5, 0.75, 0.9, 0.99, 1.0];
    let bounds = crops.map(|part| sorted[((sorted.len() - 1) as f64 * part) as usize]);
    let t = bounds.map(|bound| {
        let mut classes = [Moments::default(); 2];
        for &(class, nanos) in readings.iter().filter(|(_, nanos)| *nanos <= bound) {
            classes[usize::from(class)].push(nanos as f64);
        }
        classes[0].t(&classes[1]).abs()
    });
    t.into_iter().filter(|t| t.is_finite()).fold(0.0, f64::max)
}

/// Times `matches` on a secret and guesses that differ from it in the first or in the last place,
/// in an order that nobody knows. Both kinds are made by the same steps before the clock is read.
fn largest_t_of<T>(
    samples: usize,
    seed: u64,
    make: impl Fn(&str) -> T,
    matches: impl Fn(&T, &T) -> bool,
) -> f64 {
    let zeros = "0".repeat(DIGITS - 1);
    let (secret, guesses) =
        (make(&format!("0{zeros}")), [format!("f{zeros}"), format!("{zeros}f")]);
    let mut chance = SeededChance(seed);
    let mut readings = Vec::with_capacity(samples);
    for _ in 0..samples {
        let late = chance.below(2) == 1;
        let guess = make(&guesses[usize::from(late)]);
        let began = Instant::now();
        for _ in 0..BATCH {
            assert!(!black_box(matches(black_box(&secret), black_box(&guess))));
        }
        readings.push((late, u64::try_from(began.elapsed().as_nanos()).unwrap()));
    }
    largest_t(&readings)
}

#[test]
fn a_comparison_of_digests_takes_as_long_wherever_they_differ() {
    let samples = times("SAMPLES", 20_000);
    let digest = |hex: &str| serde_json::from_value::<CodeDigest>(hex.into()).unwrap();
    let (mut best, mut leaky_best) = (f64::MAX, f64::MAX);
    for round in 0..ROUNDS as u64 {
        let t = largest_t_of(samples, round, digest, CodeDigest::matches);
        // What would be found if there were something to find.
        let at_once = |one: &String, other: &String| one.bytes().eq(other.bytes());
        let leaky = largest_t_of(samples, round, str::to_owned, at_once);
        eprintln!("P13: {samples} comparisons, |t| {t:.2}; one that stops early {leaky:.0}");
        (best, leaky_best) = (best.min(t), leaky_best.min(leaky));
        if best < T_MAX {
            break;
        }
    }
    assert!(leaky_best > 2.0 * T_MAX, "this machine cannot tell: |t| {leaky_best}");
    assert!(best < T_MAX, "the time tells where digests differ: |t| {best}");
}

/// The largest distance between the distributions of two samples, and how much is still chance
/// (p = 0.01).
#[expect(clippy::cast_precision_loss, reason = "samples are few")]
fn distance(mut one: Vec<f64>, mut other: Vec<f64>) -> (f64, f64) {
    one.sort_by(f64::total_cmp);
    other.sort_by(f64::total_cmp);
    let below = |sample: &[f64], value: f64| {
        sample.partition_point(|&it| it <= value) as f64 / sample.len() as f64
    };
    let gaps = one.iter().chain(&other).map(|&at| (below(&one, at) - below(&other, at)).abs());
    let chance = 1.63 * (1.0 / one.len() as f64 + 1.0 / other.len() as f64).sqrt();
    (gaps.fold(0.0, f64::max), chance)
}

/// How long the seed's door takes to refuse a wrong answer to a picture, for this phone.
async fn refusal(world: &World, mobile: &str, name: &str) -> f64 {
    let path = format!("/sms_codes/{mobile}/?image_code_id={name}&image_code=....");
    let began = Instant::now();
    let answer = world.get(&path).send().await.unwrap();
    let said = body(answer).await;
    let took = began.elapsed().as_secs_f64();
    assert_eq!(said["code"], "4001", "{said}");
    took
}

#[tokio::test]
async fn whoever_solves_no_picture_learns_nothing_about_a_phone_from_the_time() {
    let (answers, world) = (times("ANSWERS", 300), World::start(USUAL).await);
    let (known, unknown) = (mobile(400, 1), mobile(400, 2));
    world.start_verification(&known).await;
    let mut chance = SeededChance(400);
    let mut best = (f64::MAX, 0.0);
    for round in 0..ROUNDS {
        let mut samples = [Vec::new(), Vec::new()];
        for number in 0..2 * answers {
            let which = usize::from(chance.below(2) == 1);
            let phone = [&known, &unknown][which];
            samples[which].push(refusal(&world, phone, &format!("u-{round}-{number}")).await);
        }
        let [known, unknown] = samples;
        let (gap, chance) = distance(known, unknown);
        eprintln!("P13: {} answers, distance {gap:.4} of {chance:.4}", 2 * answers);
        if gap - chance < best.0 - best.1 {
            best = (gap, chance);
        }
        if best.0 < best.1 {
            break;
        }
    }
    assert!(best.0 < best.1, "the time tells whether a phone is known: {best:?}");
}
