//! Chance that is no chance: the same seed always gives the same numbers.
//!
//! This is `SplitMix64` (Steele, Lea and Flood, 2014): a counter that grows by a fixed odd step,
//! and a mixer over it. It spreads shapes over a picture and guards no secret: who reads the shapes
//! off the picture may learn the numbers that made them.

use super::turn;
use ab_glyph::{Point, point};

/// How far the counter moves for each number: 2^64 divided by the golden ratio, made odd.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A row of numbers that follows from its seed alone.
pub(crate) struct Random {
    counter: u64,
}

impl Random {
    /// Folds the four words of the seed into one counter, so that every bit of it counts.
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let (words, _) = seed.as_chunks::<8>();
        let fold = |counter, word: &[u8; 8]| mixed(counter ^ u64::from_le_bytes(*word));
        Self { counter: words.iter().fold(STEP, fold) }
    }

    /// A number from `low` up to, but not including, `high`, in 65,536 steps.
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * f32::from(self.next()) / 65_536.0
    }

    /// One of the choices.
    pub(crate) fn pick<'a, T, const N: usize>(&mut self, choices: &'a [T; N]) -> &'a T {
        const { assert!(N > 0 && N < 65_536, "there is something to pick, and all can be picked") };
        &choices[self.below(N)]
    }

    /// Brings the choices into any order.
    pub(super) fn shuffle<T>(&mut self, choices: &mut [T]) {
        for last in (1..choices.len()).rev() {
            choices.swap(last, self.below(last + 1));
        }
    }

    /// A direction: a vector of length 1.
    pub(super) fn direction(&mut self) -> Point {
        let (sin, cos) = turn(self.between(-1.0, 1.0));
        if self.next().is_multiple_of(2) { point(cos, sin) } else { point(-cos, -sin) }
    }

    /// A whole number below the limit, which is at most 65,536.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.next()) * limit / 65_536
    }

    /// The upper 16 bits of the next number: they fit an `f32` without loss.
    fn next(&mut self) -> u16 {
        self.counter = self.counter.wrapping_add(STEP);
        let [.., low, high] = mixed(self.counter).to_le_bytes();
        u16::from_le_bytes([low, high])
    }
}

/// The mixer: each bit in turns about half of the bits out.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
