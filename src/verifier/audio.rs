//! Challenges by ear: which have a clip, what it says, and who may listen.

use std::net::IpAddr;

use super::challenge::{Answered, Given, Minting};
use super::{Refusal, Verifier};
use crate::captcha::{Language, Level};
use crate::domain::challenge::{Subject, window_at};
use crate::domain::clip::{Clip, is_heard};
use crate::domain::minted::{Kind, Minted};
use crate::keys::Ring;
use crate::speech;

/// The name of the limit of those who listen.
pub(super) const AUDIO: &str = "audio";

impl Verifier {
    /// Adds a clip to a challenge that shows a picture. On the highest step before refusal there is
    /// none: what made the ladder climb that far is better at listening than at reading.
    #[must_use]
    pub fn with_audio(&self, tenant: &str, minting: Minting) -> Minting {
        let Minted { kind, level, .. } = minting.minted;
        if !kind.has_picture() || level == Level::More {
            return minting;
        }
        self.minting(tenant, minting.minted.with_audio(true))
    }

    /// The clip of a minted challenge that has one.
    pub fn minted_clip(&self, minted: &Minted, language: Language) -> Option<Clip> {
        let subject = Subject::Minted(minted);
        let clip = || clips(&self.keys.ring(), &subject, language).next();
        minted.has_audio().then(clip).flatten()
    }

    /// The clip that a chosen name has now.
    pub fn named_clip(&self, tenant: &str, name: &str, language: Language) -> Clip {
        let subject = Subject::Named { tenant, name, window: window_at(self.clock.now()) };
        let ring = self.keys.ring();
        clips(&ring, &subject, language).next().expect("a ring holds a challenge key")
    }

    /// Speaks a clip, as a WAV file.
    pub fn speak(clip: &Clip) -> Vec<u8> {
        speech::speak(&clip.text, &clip.seed, clip.language)
    }

    /// Counts a clip that an address fetches, if it may have one more.
    pub fn listen(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        let Some(counted) = self.crowd.counted(address) else { return Ok(()) };
        let max = self.policy.challenges.audio;
        let counted = self.crowd.listen(counted, max, self.clock.now());
        counted.map_err(|retry_at| Refusal::Throttled { retry_at, limit: AUDIO })
    }
}

/// The clip under every accepted key: one that was fetched before a rotation is still good.
fn clips(ring: &Ring, subject: &Subject<'_>, language: Language) -> impl Iterator<Item = Clip> {
    ring.challenge().map(move |key| Clip::derive(key, subject, language))
}

/// Whether a clip of this subject says so, in any language.
pub(super) fn named_says(ring: &Ring, subject: &Subject<'_>, answer: &str) -> bool {
    // Most answers are letters, and no clip need be derived for them.
    is_heard(answer)
        && Language::ALL
            .into_iter()
            .any(|language| clips(ring, subject, language).any(|clip| clip.answered_by(answer)))
}

/// Whether the clip of a minted challenge says so, if it has one.
pub(super) fn minted_says(ring: &Ring, minted: &Minted, answer: &str) -> bool {
    minted.has_audio() && named_says(ring, &Subject::Minted(minted), answer)
}

impl Answered {
    /// Whether the answer is what a person heard.
    pub(super) fn is_heard(&self) -> bool {
        match self {
            Self::Named { answer, .. } => is_heard(answer),
            Self::Minted { given: Given::Text(text) | Given::WorkAndText(_, _, text), .. } => {
                is_heard(text)
            }
            Self::Minted { .. }
            | Self::Unknown
            | Self::Waived(_)
            | Self::Held { .. }
            | Self::Unasked { .. } => false,
        }
    }

    /// Whether it is, or was where we vouched for it: then it is not counted again.
    pub(super) fn by_ear(&self) -> bool {
        let was = |minted: &Minted| matches!(minted.kind, Kind::Passed { .. }) && minted.audio;
        self.is_heard() || self.minted().is_some_and(|minted| was(&minted))
    }
}
