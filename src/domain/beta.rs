//! Draws from a beta distribution: what a share may be, given how often something did and did not
//! happen. Two gamma draws (Marsaglia and Tsang, "A simple method for generating gamma
//! variables", 2000), each from normal ones (Marsaglia's polar method).

use crate::chance::Chance;

/// A share that fits with this many successes and failures, which need not be whole; before
/// anything is known, every share is as likely.
pub fn draw_share(successes: f64, failures: f64, chance: &mut impl Chance) -> f64 {
    let yes = gamma(1.0 + successes.max(0.0), chance);
    let no = gamma(1.0 + failures.max(0.0), chance);
    yes / (yes + no)
}

/// A gamma variable of this shape, one at least.
fn gamma(shape: f64, chance: &mut impl Chance) -> f64 {
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(chance);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && uniform(chance).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

fn normal(chance: &mut impl Chance) -> f64 {
    loop {
        let (x, y) = (2.0 * uniform(chance) - 1.0, 2.0 * uniform(chance) - 1.0);
        let square = x * x + y * y;
        if square < 1.0 && square > 0.0 {
            return x * (-2.0 * square.ln() / square).sqrt();
        }
    }
}

/// Above 0 and below 1.
pub fn uniform(chance: &mut impl Chance) -> f64 {
    const BITS: u32 = 52;
    #[expect(clippy::cast_precision_loss, reason = "52 bits are exact in a double")]
    let drawn = chance.below(1 << BITS) as f64;
    (drawn + 0.5) / f64::from(BITS).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::SeededChance;

    const DRAWS: u32 = 40_000;

    /// Mean and variance are those of the distribution, within five standard errors.
    #[test]
    fn draws_have_the_mean_and_variance_of_the_distribution() {
        for (yes, no) in [(0.0, 0.0), (3.0, 1.0), (0.5, 40.0), (199.2, 12.7), (400.0, 100.0)] {
            let mut chance = SeededChance(11);
            let draws: Vec<f64> = (0..DRAWS).map(|_| draw_share(yes, no, &mut chance)).collect();
            let count = f64::from(DRAWS);
            let mean = draws.iter().sum::<f64>() / count;
            let spread = draws.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / count;
            let (a, b) = (yes + 1.0, no + 1.0);
            let wanted = a / (a + b);
            let variance = wanted * (1.0 - wanted) / (a + b + 1.0);
            let error = 5.0 * (variance / count).sqrt();
            assert!((mean - wanted).abs() < error, "{yes}/{no}: {mean} is not {wanted}");
            assert!((spread / variance - 1.0).abs() < 0.05, "{yes}/{no}: {spread} {variance}");
        }
    }

    /// Kolmogorov and Smirnov: where nothing is known, shares are uniform, and a beta of (2, 1)
    /// has the square as its distribution.
    #[test]
    fn draws_follow_the_distribution_all_along() {
        for (yes, distribution) in [(0.0, 1), (1.0, 2), (4.0, 5)] {
            let mut chance = SeededChance(5);
            let mut draws: Vec<f64> =
                (0..DRAWS).map(|_| draw_share(yes, 0.0, &mut chance)).collect();
            draws.sort_by(f64::total_cmp);
            let count = f64::from(DRAWS);
            let apart = draws
                .iter()
                .zip(1_u32..)
                .map(|(share, rank)| (share.powi(distribution) - f64::from(rank) / count).abs());
            let apart = apart.fold(0.0, f64::max);
            // At this distance one in a thousand would be refused.
            assert!(apart < 1.95 / count.sqrt(), "{yes}: {apart}");
        }
    }
}
