//! The only source of randomness: the operating system's.
//!
//! The domain takes a [`Chance`] as an argument, so that its tests can know what comes.

use std::sync::{Arc, Mutex, PoisonError};

/// Something that fills bytes with values nobody can predict.
pub trait Chance {
    /// Fills the whole of `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);

    /// A uniform number below `bound`, without bias.
    ///
    /// Values in the incomplete last stretch of the 64-bit range are drawn again, since folding
    /// them in would favour the small numbers.
    fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a range must hold something");
        let limit = u64::MAX - u64::MAX % bound;
        loop {
            let mut bytes = [0; 8];
            self.fill(&mut bytes);
            let value = u64::from_le_bytes(bytes);
            if value < limit {
                return value % bound;
            }
        }
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsChance;

impl Chance for OsChance {
    #[expect(clippy::disallowed_methods, reason = "this is the source of randomness")]
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

/// Where a node draws from. It is the operating system, but for a simulation, whose history follows
/// from its seed alone.
#[derive(Clone, Debug, Default)]
pub struct Source(Option<Arc<Mutex<SeededChance>>>);

impl Source {
    /// A known sequence: for simulations, never where secrets are drawn.
    pub fn seeded(seed: u64) -> Self {
        Self(Some(Arc::new(Mutex::new(SeededChance(seed)))))
    }
}

impl Chance for Source {
    fn fill(&mut self, bytes: &mut [u8]) {
        match &self.0 {
            None => OsChance.fill(bytes),
            Some(seeded) => seeded.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes),
        }
    }
}

/// A known sequence for tests and simulations (SplitMix64): never for secrets.
#[derive(Clone, Debug)]
pub struct SeededChance(pub u64);

impl Chance for SeededChance {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seeded_source_goes_on_in_its_copies_and_the_usual_one_is_not_seeded() {
        let mut source = Source::seeded(1);
        let mut copy = source.clone();
        let mut known = SeededChance(1);
        for _ in 0..5 {
            assert_eq!(source.below(1 << 40), known.below(1 << 40));
            assert_eq!(copy.below(1 << 40), known.below(1 << 40));
        }
        let [one, other] = [(); 2].map(|()| Source::default().below(1 << 60));
        assert_ne!(one, other);
    }

    #[test]
    fn a_number_below_a_bound_is_below_it_and_reaches_everything() {
        let mut chance = SeededChance(1);
        let mut seen = [false; 7];
        for _ in 0..1000 {
            seen[usize::try_from(chance.below(7)).unwrap()] = true;
        }
        assert_eq!(seen, [true; 7]);
    }
}
