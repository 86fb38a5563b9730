//! What must always hold: the twelve invariants of the research, and a few more that they rest on.

use std::fmt;

/// An invariant. Each is held by a check of its own, in `oracle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invariant {
    /// (1) A verification is approved once at most, with the code that was its newest.
    OneSuccess,
    /// (2) A code is judged `checks_max` times at most, and nobody is answered without a judgement
    /// that was written down.
    FewJudgements,
    /// (3) Failures in a row never drop without a success, and lock where they must.
    FailuresStay,
    /// (4) Two messages to a phone are a gap apart; but for a gap that was given back.
    GapHolds,
    /// (5) A phone gets its messages of an hour and of a day, and no more; an address asks for its
    /// messages of an hour.
    HourAndDay,
    /// (6) What is spent is bounded by what was accepted.
    SpendBounded,
    /// (7) A provider is called only for a message in the store, under a claim that lasts.
    CallUnderClaim,
    /// (8) No call begins after the deadline.
    CallInTime,
    /// (9) One provider accepts a message; two, if an outcome was unknown; and nobody is asked
    /// after a refusal of the number.
    OneAccepts,
    /// (10) A message is the same whoever carries it, and the one that was meant.
    SameMessage,
    /// (11) What is owed ends: five seconds after its deadline, its lease, or the last fault.
    EveryJobEnds,
    /// (12) There is no token without a code that is durably used up.
    TokenIsPaidFor,
    /// A code is not good for longer than it lives.
    CodeEnds,
    /// A message is claimed again only while somebody waits for it.
    StillWanted,
    /// A challenge is good for one message.
    ChallengeSpent,
    /// One `Idempotency-Key`, one message, one answer.
    OnePerKey,
    /// A commit stays within one partition.
    OnePartition,
    /// What has ended does not begin again, and what happened is not forgotten.
    EndIsEnd,
    /// A receipt that is not the provider's changes nothing.
    ReceiptsHarmless,
    /// Nothing panics.
    NoPanic,
    /// Once all is mended, a person gets a code and comes in with it.
    ItWorks,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
