//! Everything that is drawn in a simulation comes from here.

use countersign::chance::{Chance, Source};

/// A sequence that a seed gives.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Source);

impl Dice {
    /// The sequence of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Source::seeded(seed))
    }

    /// A number below this.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.0.clone().below(bound)
    }

    /// A place in a list of this length.
    pub(crate) fn place(&self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    /// A number from one to the other, both included.
    pub(crate) fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// A number that is mostly small: each tenth of the draws comes from a range ten times wider.
    pub(crate) fn mostly_small(&self, most: u64) -> u64 {
        let bound = match self.below(100) {
            0..70 => most / 100,
            70..95 => most / 10,
            _ => most,
        };
        self.below(bound + 1)
    }

    /// True so many times out of ten thousand.
    pub(crate) fn chance(&self, of_ten_thousand: u64) -> bool {
        self.below(10_000) < of_ten_thousand
    }

    /// True so many times out of a hundred.
    pub(crate) fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[self.place(from.len())]
    }

    /// A seed for another sequence.
    pub(crate) fn seed(&self) -> u64 {
        self.below(u64::MAX)
    }
}
