//! What those who work on a delivery get and say.

use super::Asked;
use crate::clock::Millis;
use crate::domain::money::Micros;

/// What a claimer has in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its number.
    pub number: u32,
    /// Which provider is to be called, as a place in the configured order.
    pub turn: usize,
    /// Number and code, sealed.
    pub letter: String,
    /// No call is begun at or after this instant: by then the lease could end under it.
    pub call_before: Millis,
    /// Whether this provider was asked about it before.
    pub again: bool,
    /// Who may have sent it, by name, and nobody was there to find out: to be asked first.
    pub maybe_sent_by: Option<String>,
}

/// What came of claiming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Go on and call.
    Yours(Claim),
    /// It was sent: go on and ask what became of it.
    Ask(Asked),
    /// Not due: somebody has it, or it waits.
    NotDue,
    /// Ended, by this claim or before.
    Ended,
}

/// What came of settling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It goes on at once, under a new claim.
    GoOn(Claim),
    /// It goes on when it is due again.
    Waits,
    /// It has ended.
    Ended {
        /// Whether certainly no message was sent, so that the phone's gap can be given back.
        surely_not_sent: bool,
    },
    /// The claim was not the newest any more: nothing was changed.
    TooLate,
}

/// A provider as a delivery sees it.
#[derive(Clone, Copy, Debug)]
pub struct Carrier<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it sends a message once however often it is asked.
    pub deduplicates: bool,
    /// When its turn comes on this delivery's route; `None` if it is not on it.
    pub rank: Option<usize>,
    /// Whether it is rather dead than slow, so that its silence is hardly worth waiting for.
    pub doubtful: bool,
    /// What this message costs through it.
    pub cost: Micros,
}
