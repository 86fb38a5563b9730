//! How an answer to a challenge is judged, and its challenge spent.

use super::audio::{minted_says, named_says};
use super::challenge::{Answered, Given, minted_pictures, pictures};
use super::records;
use crate::captcha::Level;
use crate::clock::Millis;
use crate::domain::challenge::{ANSWER_MAX, Judged, Spent, Subject, judge_named};
use crate::domain::minted::{Kind, Minted};
use crate::domain::risk::Reason;
use crate::domain::verification::Passage;
use crate::keys::Ring;
use crate::store::{Draft, Key, StoreError};
/// Whether a name's picture or clip says this.
fn named_is(ring: &Ring, subject: &Subject<'_>, answer: &str) -> bool {
    // The text does not depend on the level.
    pictures(ring, subject, Level::Plain).any(|picture| picture.answered_by(answer))
        || named_says(ring, subject, answer)
}

impl Answered {
    pub(super) fn minted(&self) -> Option<Minted> {
        match self {
            Self::Minted { minted, .. } => Some(*minted),
            Self::Named { .. }
            | Self::Unknown
            | Self::Waived(_)
            | Self::Held { .. }
            | Self::Unasked { .. } => None,
        }
    }

    /// What a verification's record says about it, once it was judged right.
    pub(super) fn passage(&self) -> Option<Passage> {
        match self {
            Self::Named { .. } => Some(Passage::new(Some(Kind::Image), Reason::Calm)),
            Self::Minted { minted, .. } => Some(Passage::new(Some(minted.kind), minted.reason)),
            Self::Waived(reason) => Some(Passage::new(None, *reason)),
            Self::Unknown | Self::Held { .. } | Self::Unasked { .. } => None,
        }
        .map(|passage| passage.by_ear(self.by_ear()))
    }

    /// The record that remembers the challenge, if there was one.
    pub(super) fn key(&self, ring: &Ring, tenant: &str) -> Option<Key> {
        match self {
            Self::Named { name, .. } => Some(records::spent_named(ring, tenant, name)),
            Self::Minted { given: Given::Asked { spent, .. }, .. } => Some(spent.clone()),
            Self::Minted { minted, .. } => Some(records::spent_minted(ring, minted)),
            Self::Unknown | Self::Waived(_) | Self::Held { .. } | Self::Unasked { .. } => None,
        }
    }

    /// Judges the answer and spends the challenge, right or wrong.
    pub(super) fn judge(
        &self,
        ring: &Ring,
        tenant: &str,
        draft: &mut Draft,
        now: Millis,
    ) -> Result<Judged, StoreError> {
        if let Self::Waived(_) = self {
            return Ok(Judged::Right);
        }
        let Some(key) = self.key(ring, tenant) else { return Ok(Judged::Expired) };
        let spent: Option<Spent> = draft.get(&key)?;
        let judged = match self {
            Self::Unknown | Self::Waived(_) | Self::Held { .. } | Self::Unasked { .. } => {
                Judged::Expired
            }
            Self::Named { name, answer } => {
                let shown_in = |window| {
                    named_is(ring, &Subject::Named { tenant, name, window }, bounded(answer))
                };
                let (judged, spends) = judge_named(spent, now, shown_in);
                draft.put(&key, &spends, spends.kept_until());
                judged
            }
            Self::Minted { minted, given: Given::Asked { life, passed, .. } } => {
                let judged = minted.judge(*passed, spent.is_some(), now);
                if judged == Judged::Right {
                    draft.put(&key, &Spent { through: 0 }, now + life);
                }
                judged
            }
            Self::Minted { minted, given } => {
                let judged = minted.judge(given.is_right(minted, ring), spent.is_some(), now);
                if spent.is_none() && now < minted.expires_at {
                    draft.put(&key, &Spent { through: 0 }, minted.expires_at);
                }
                judged
            }
        };
        Ok(judged)
    }
}

impl Given {
    /// Whether it is what this challenge asks for. Another kind's answer never is.
    fn is_right(&self, minted: &Minted, ring: &Ring) -> bool {
        let read = |text: &str| {
            let text = bounded(text);
            minted_pictures(ring, minted).any(|picture| picture.answered_by(text))
                || minted_says(ring, minted, text)
        };
        match (minted.kind, self) {
            (Kind::Image, Self::Text(text)) => read(text),
            (Kind::Work(asked), Self::Work(version, right)) => asked == *version && *right,
            (Kind::WorkThenImage(asked), Self::WorkAndText(version, right, text)) => {
                asked == *version && *right && read(text)
            }
            (Kind::Passed { .. }, Self::Vouched) => true,
            // A token is worth what its vendor says, and that is not asked here.
            (
                Kind::Image
                | Kind::Work(_)
                | Kind::WorkThenImage(_)
                | Kind::Passed { .. }
                | Kind::ThirdParty(..),
                _,
            ) => false,
        }
    }
}

/// An answer longer than any can be is no answer.
fn bounded(answer: &str) -> &str {
    if answer.len() <= ANSWER_MAX { answer } else { "" }
}
