//! One attempt to prove control of a phone: `pending`, then ended for good.
//!
//! What may be used only while it is pending (the code's digest, the sealed number) is a record of
//! its own, [`LiveCode`]: it vanishes when the code ends, also if nobody ever comes back. Guesses
//! are counted before they are judged, and what was counted is committed before anyone learns the
//! answer.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::domain::code::CodeDigest;
use crate::domain::id::DeliveryId;
use crate::domain::minted::Kind;
use crate::domain::policy::{Policy, TIMELINE_KEPT};
use crate::domain::risk::Reason;
use crate::domain::third_party::Vendor;

/// The record of a verification.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verification {
    /// The tenant that may look at it.
    pub tenant: String,
    /// What the code is good for.
    pub purpose: String,
    /// The number with its middle hidden.
    pub masked: String,
    /// The phone's fingerprint, in hexadecimal.
    pub fingerprint: String,
    /// The language of the message.
    pub locale: String,
    /// When it began.
    pub created_at: Millis,
    /// Where it stands.
    pub stage: Stage,
    /// Its messages, oldest first.
    pub messages: Vec<Sent>,
    /// The guesses that were judged, oldest first.
    #[serde(default)]
    pub checks: Vec<Guessed>,
    /// How it got past the challenge; nothing, where none stood in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passage: Option<Passage>,
}

/// How a start got past the challenge, and why this one was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// How.
    pub how: How,
    /// Why this was asked for.
    pub reason: Reason,
}

/// What was done for a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Nothing: the ladder asked for nothing.
    Waived,
    /// A picture was read.
    Image,
    /// A machine worked.
    Work,
    /// Both.
    WorkAndImage,
    /// A clip was listened to.
    Audio,
    /// A machine worked, and a clip was listened to.
    WorkAndAudio,
    /// A vendor vouched.
    ThirdParty(Vendor),
}

impl Passage {
    /// By a challenge of this kind, or by none.
    pub fn new(kind: Option<Kind>, reason: Reason) -> Self {
        let how = match kind {
            None => How::Waived,
            Some(Kind::Image) => How::Image,
            Some(Kind::Work(_) | Kind::Passed { image: false }) => How::Work,
            Some(Kind::WorkThenImage(_) | Kind::Passed { image: true }) => How::WorkAndImage,
            Some(Kind::ThirdParty(vendor, _)) => How::ThirdParty(vendor),
        };
        Self { how, reason }
    }

    /// The same, where a clip was listened to in place of the picture.
    #[must_use]
    pub fn by_ear(self, by_ear: bool) -> Self {
        let how = match self.how {
            How::Image if by_ear => How::Audio,
            How::WorkAndImage if by_ear => How::WorkAndAudio,
            how => how,
        };
        Self { how, ..self }
    }
}

impl How {
    /// The word in timelines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waived => "none",
            Self::Image => "image",
            Self::Work => "proof-of-work",
            Self::WorkAndImage => "proof-of-work-and-image",
            Self::Audio => "audio",
            Self::WorkAndAudio => "proof-of-work-and-audio",
            Self::ThirdParty(vendor) => vendor.as_str(),
        }
    }
}

/// Where a verification stands, and what may be used there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A code is out.
    Pending {
        /// When the code ends.
        expires_at: Millis,
        /// Guesses left for this code.
        checks_left: u8,
    },
    /// The right code came.
    Approved {
        /// When.
        at: Millis,
    },
    /// The caller gave it up, or a newer verification took its place.
    Canceled {
        /// When.
        at: Millis,
    },
    /// The code took its last guess, and it was wrong.
    Exhausted {
        /// When.
        at: Millis,
    },
}

/// The code that is out, and the number it went to: kept as long as a guess may be judged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LiveCode {
    /// What a right guess digests to.
    pub digest: CodeDigest,
    /// Which pepper the digest was made with.
    pub pepper: String,
    /// The number, sealed: a resend and the token need it.
    pub phone: String,
}

/// A message of a verification.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Its delivery.
    pub delivery: DeliveryId,
    /// When it was asked for.
    pub at: Millis,
    /// The `Idempotency-Key` it was asked for with, as a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// A guess that was judged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Guessed {
    /// When.
    pub at: Millis,
    /// Whether it was right.
    pub right: bool,
}

/// The words for a stage on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A code is out.
    Pending,
    /// The right code came.
    Approved,
    /// Given up or superseded.
    Canceled,
    /// All guesses were wrong.
    MaxAttemptsReached,
    /// The code's time ran out.
    Expired,
}

impl Status {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Canceled => "canceled",
            Self::MaxAttemptsReached => "max_attempts_reached",
            Self::Expired => "expired",
        }
    }
}

/// Why a message of a verification is not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unwanted {
    /// The caller gave the verification up.
    Canceled,
    /// The verification is approved already.
    Approved,
    /// The verification took its last guess.
    MaxAttemptsReached,
    /// A newer message, or a newer verification, took its place.
    Superseded,
}

impl Unwanted {
    /// The word in timelines and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::Approved => "approved",
            Self::MaxAttemptsReached => "max_attempts_reached",
            Self::Superseded => "superseded",
        }
    }
}

/// What came of a guess. None of these is an error: each is an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// Right: the verification is approved.
    Right,
    /// Wrong; so many guesses are left.
    Wrong {
        /// Guesses left for this code.
        checks_left: u8,
    },
    /// The verification has ended: nothing was judged.
    Closed,
}

impl Verification {
    /// The status now. A pending one whose code has ended is expired, written down or not.
    pub fn status(&self, now: Millis) -> Status {
        match &self.stage {
            Stage::Pending { .. } if self.is_live(now) => Status::Pending,
            Stage::Pending { .. } => Status::Expired,
            Stage::Approved { .. } => Status::Approved,
            Stage::Canceled { .. } => Status::Canceled,
            Stage::Exhausted { .. } => Status::MaxAttemptsReached,
        }
    }

    /// Whether a guess may be judged.
    pub fn is_live(&self, now: Millis) -> bool {
        matches!(self.stage, Stage::Pending { expires_at, .. } if now < expires_at)
    }

    /// Judges a guess by its digest, having counted it. The caller has checked that the phone may
    /// be guessed at and counts the failure on it in the same commit.
    pub fn check(&mut self, code: &CodeDigest, guess: &CodeDigest, now: Millis) -> Guess {
        let live = self.is_live(now);
        let Stage::Pending { checks_left, .. } = &mut self.stage else {
            return Guess::Closed;
        };
        if !live || *checks_left == 0 {
            return Guess::Closed;
        }
        *checks_left -= 1;
        let (left, right) = (*checks_left, code.matches(guess));
        self.checks.push(Guessed { at: now, right });
        if right {
            self.stage = Stage::Approved { at: now };
            return Guess::Right;
        }
        if left == 0 {
            self.stage = Stage::Exhausted { at: now };
        }
        Guess::Wrong { checks_left: left }
    }

    /// Why this message of it is not wanted any more, if that is so. That its code has ended is
    /// no reason here: a delivery has a deadline of its own, before that.
    pub fn unwanted(&self, message: DeliveryId) -> Option<Unwanted> {
        match self.stage {
            Stage::Pending { .. } => self
                .messages
                .last()
                .is_some_and(|newest| newest.delivery != message)
                .then_some(Unwanted::Superseded),
            Stage::Approved { .. } => Some(Unwanted::Approved),
            Stage::Canceled { .. } => Some(Unwanted::Canceled),
            Stage::Exhausted { .. } => Some(Unwanted::MaxAttemptsReached),
        }
    }

    /// Ends it, if it has not ended; says whether it did.
    pub fn cancel(&mut self, now: Millis) -> bool {
        let live = self.is_live(now);
        if live {
            self.stage = Stage::Canceled { at: now };
        }
        live
    }

    /// Gives it the life and the guesses of a new code. The phone's failures are not touched.
    pub fn renew(&mut self, policy: &Policy, now: Millis) {
        if let Stage::Pending { expires_at, checks_left } = &mut self.stage {
            (*expires_at, *checks_left) = (now + policy.code_ttl, policy.checks_max);
        }
    }

    /// When the code ends, or when the verification ended.
    pub fn ends_at(&self) -> Millis {
        match self.stage {
            Stage::Pending { expires_at, .. } => expires_at,
            Stage::Approved { at } | Stage::Canceled { at } | Stage::Exhausted { at } => at,
        }
    }

    /// Guesses left for the code that is out.
    pub fn checks_left(&self, now: Millis) -> u8 {
        match self.stage {
            Stage::Pending { checks_left, .. } if self.is_live(now) => checks_left,
            _ => 0,
        }
    }

    /// Until when the record is kept, for its timeline.
    pub fn kept_until(&self) -> Millis {
        self.ends_at() + TIMELINE_KEPT
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;

    use super::*;
    use crate::clock::{MINUTE, SECOND};
    use crate::domain::code::{Binding, Code};

    fn digest(text: &str) -> CodeDigest {
        let pepper = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let bound = Binding { verification: b"v", phone: b"p", purpose: b"login", tenant: b"t" };
        Code::parse(text).unwrap().digest(&pepper, &bound)
    }

    fn pending() -> Verification {
        Verification {
            tenant: "shop".into(),
            purpose: "login".into(),
            masked: "+86138****8000".into(),
            fingerprint: "00".into(),
            locale: "zh".into(),
            created_at: 0,
            stage: Stage::Pending { expires_at: 5 * MINUTE, checks_left: 5 },
            messages: vec![],
            checks: vec![],
            passage: None,
        }
    }

    fn guess(verification: &mut Verification, text: &str, now: Millis) -> Guess {
        verification.check(&digest("123456"), &digest(text), now)
    }

    #[test]
    fn five_guesses_are_judged_and_no_more() {
        let mut verification = pending();
        for left in (0..5).rev() {
            let judged = guess(&mut verification, "000000", 1);
            assert_eq!(judged, Guess::Wrong { checks_left: left });
        }
        assert_eq!(guess(&mut verification, "123456", 1), Guess::Closed);
        assert_eq!(verification.status(1), Status::MaxAttemptsReached);
        assert_eq!(verification.checks.len(), 5);
    }

    #[test]
    fn a_right_code_is_right_once() {
        let mut verification = pending();
        assert_eq!(guess(&mut verification, "123456", 1), Guess::Right);
        assert_eq!(guess(&mut verification, "123456", 1), Guess::Closed);
        assert_eq!(verification.status(9 * MINUTE), Status::Approved);
    }

    #[test]
    fn a_code_ends_at_five_minutes() {
        let mut verification = pending();
        assert_eq!(guess(&mut verification, "123456", 5 * MINUTE), Guess::Closed);
        assert_eq!(verification.status(5 * MINUTE), Status::Expired);
        assert_eq!(guess(&mut verification, "123456", 5 * MINUTE - 1), Guess::Right);
    }

    #[test]
    fn a_renewed_code_has_a_life_and_guesses_of_its_own() {
        let mut verification = pending();
        guess(&mut verification, "000000", 1);
        verification.renew(&Policy::default(), 60 * SECOND);
        let new = digest("654321");
        let old_code = verification.check(&new, &digest("123456"), 61 * SECOND);
        assert_eq!(old_code, Guess::Wrong { checks_left: 4 });
        assert_eq!(verification.ends_at(), 6 * MINUTE);
        assert_eq!(verification.check(&new, &new, 6 * MINUTE - 1), Guess::Right);
    }

    #[test]
    fn only_the_newest_message_of_a_pending_one_is_wanted() {
        let [old, new] = [1, 2].map(|byte| DeliveryId::with(1, 0, [byte; 9]));
        let mut verification = pending();
        let sent = |delivery| Sent { delivery, at: 0, request: None };
        verification.messages = vec![sent(old), sent(new)];
        assert_eq!(verification.unwanted(old), Some(Unwanted::Superseded));
        assert_eq!(verification.unwanted(new), None);
        let mut approved = verification.clone();
        guess(&mut approved, "123456", 1);
        assert_eq!(approved.unwanted(new), Some(Unwanted::Approved));
        let mut exhausted = verification.clone();
        for _ in 0..5 {
            guess(&mut exhausted, "000000", 1);
        }
        assert_eq!(exhausted.unwanted(new), Some(Unwanted::MaxAttemptsReached));
        verification.cancel(1);
        assert_eq!(verification.unwanted(new), Some(Unwanted::Canceled));
    }

    #[test]
    fn only_a_live_one_can_be_canceled() {
        let mut verification = pending();
        assert!(verification.cancel(1));
        assert!(!verification.cancel(2));
        assert_eq!(guess(&mut verification, "123456", 3), Guess::Closed);
        assert_eq!(verification.status(3), Status::Canceled);
    }
}
