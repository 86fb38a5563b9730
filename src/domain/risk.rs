//! The ladder: nothing, work for the machine, a picture of level 1 to 3, refusal.
//!
//! Each signal is a count with a limit, and the limit is the top of the ladder: from an eighth of
//! it on a machine has to work, from a quarter on a person has to look, and the picture grows
//! harder with each quarter more. The highest step that any signal asks for is taken, and its
//! reason is kept with it.

use serde::{Deserialize, Serialize};

use crate::captcha::Level;

/// What is asked of who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Allow,
    /// Proof of work.
    Work,
    /// A picture.
    Picture(Level),
    /// Nothing helps for now.
    Refuse,
}

impl Step {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Work => "work",
            Self::Picture(Level::Plain) => "picture_1",
            Self::Picture(Level::Patches) => "picture_2",
            Self::Picture(Level::More) => "picture_3",
            Self::Refuse => "refuse",
        }
    }

    /// Its height.
    pub fn rank(self) -> u8 {
        match self {
            Self::Allow => 0,
            Self::Work => 1,
            Self::Picture(level) => 1 + level.number(),
            Self::Refuse => 9,
        }
    }

    /// The step of a count on its way to a limit.
    fn of(count: u32, max: u32) -> Self {
        match u64::from(count) * 8 / u64::from(max.max(1)) {
            0 => Self::Allow,
            1 => Self::Work,
            2..=3 => Self::Picture(Level::Plain),
            4..=5 => Self::Picture(Level::Patches),
            6..=7 => Self::Picture(Level::More),
            _ => Self::Refuse,
        }
    }
}

/// Why a step was taken: in timelines and metrics, never told to who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing speaks against it.
    Calm,
    /// Wrong answers from the address.
    AddressWrong,
    /// What the address asked for.
    AddressVolume,
    /// What the address's network asked for.
    PrefixVolume,
    /// The application said so.
    CallerHint,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Calm, Self::AddressWrong, Self::AddressVolume, Self::PrefixVolume, Self::CallerHint];

    /// The word in metrics and timelines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::AddressWrong => "address_wrong",
            Self::AddressVolume => "address_volume",
            Self::PrefixVolume => "prefix_volume",
            Self::CallerHint => "caller_hint",
        }
    }
}

/// What an application's server knows about who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hint {
    /// Nothing against it.
    #[default]
    Low,
    /// Something is odd: a machine shall work for it.
    Elevated,
    /// Much speaks against it: a person shall look.
    High,
}

impl Hint {
    fn step(self) -> Step {
        match self {
            Self::Low => Step::Allow,
            Self::Elevated => Step::Work,
            Self::High => Step::Picture(Level::Patches),
        }
    }
}

/// Counts of the last ten minutes; as limits: where each refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Wrong answers from the address.
    pub wrong: u32,
    /// Challenges that the address asked for, and starts that needed none.
    pub asked: u32,
    /// The same of the address's network.
    pub prefix: u32,
}

/// The step that these counts and this hint ask for, and why.
pub fn step(limits: &Counts, seen: &Counts, hint: Hint) -> (Step, Reason) {
    let signals = [
        (Step::of(seen.wrong, limits.wrong), Reason::AddressWrong),
        (Step::of(seen.asked, limits.asked), Reason::AddressVolume),
        (Step::of(seen.prefix, limits.prefix), Reason::PrefixVolume),
        (hint.step(), Reason::CallerHint),
    ];
    let higher = |best: (Step, Reason), next: (Step, Reason)| {
        if next.0.rank() > best.0.rank() { next } else { best }
    };
    signals.into_iter().fold((Step::Allow, Reason::Calm), higher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_climbs_the_ladder_and_the_highest_counts() {
        use Step::{Allow, Picture, Refuse, Work};
        let limits = Counts { wrong: 40, asked: 600, prefix: 6000 };
        let (one, two, three) =
            (Picture(Level::Plain), Picture(Level::Patches), Picture(Level::More));
        let cases = [
            (0, 0, 0, Hint::Low, Allow, Reason::Calm),
            (4, 74, 749, Hint::Low, Allow, Reason::Calm),
            (5, 0, 0, Hint::Low, Work, Reason::AddressWrong),
            (10, 0, 0, Hint::Low, one, Reason::AddressWrong),
            (20, 0, 0, Hint::Low, two, Reason::AddressWrong),
            (30, 0, 0, Hint::Low, three, Reason::AddressWrong),
            (40, 0, 0, Hint::High, Refuse, Reason::AddressWrong),
            (0, 75, 0, Hint::Low, Work, Reason::AddressVolume),
            (5, 150, 0, Hint::Low, one, Reason::AddressVolume),
            (0, 600, 0, Hint::Low, Refuse, Reason::AddressVolume),
            (0, 0, 3000, Hint::Low, two, Reason::PrefixVolume),
            (0, u32::MAX, u32::MAX, Hint::Low, Refuse, Reason::AddressVolume),
            (0, 0, 0, Hint::Elevated, Work, Reason::CallerHint),
            (5, 0, 0, Hint::High, two, Reason::CallerHint),
            (30, 0, 0, Hint::High, three, Reason::AddressWrong),
        ];
        for (wrong, asked, prefix, hint, expected, reason) in cases {
            let seen = Counts { wrong, asked, prefix };
            assert_eq!(step(&limits, &seen, hint), (expected, reason), "{seen:?} {hint:?}");
        }
    }

    #[test]
    fn more_never_asks_for_less() {
        for max in [1, 2, 7, 40, 600] {
            let ranks: Vec<_> = (0..=max + 1).map(|count| Step::of(count, max).rank()).collect();
            assert!(ranks.is_sorted(), "{max}: {ranks:?}");
            assert_eq!(Step::of(max, max), Step::Refuse);
            assert_ne!(Step::of(max - 1, max), Step::Refuse);
        }
    }
}
