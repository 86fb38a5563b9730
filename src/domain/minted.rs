//! Challenges of the native door: minted, sealed, bound, and judged once.
//!
//! A minted challenge carries under its seal all that there is to know about it, so nothing is
//! stored for it until it is answered: what kind it is, when it ends, what it may be used for and
//! from where, and why it was asked for. All kinds have one length, so a seal does not tell them
//! apart.

use aws_lc_rs::digest;

use crate::captcha::Level;
use crate::clock::{Millis, SECOND};
use crate::domain::challenge::{Judged, TTL};
use crate::domain::risk::Reason;
use crate::domain::third_party::Vendor;

/// How long the bytes under a seal are.
pub const LENGTH: usize = 3 + 8 + 16 + 16 + 9;

/// The bit beside the level that says that there is audio, too.
const AUDIO: u8 = 0x40;

/// What has to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read a picture.
    Image,
    /// Work, as a puzzle of this version says.
    Work(Version),
    /// Work, and read a picture then.
    WorkThenImage(Version),
    /// Nothing more: the work was done and judged, and a picture with it or not.
    Passed {
        /// Whether there was one.
        image: bool,
    },
    /// Pass a vendor's own challenge: the one that is configured at this place.
    ThirdParty(Vendor, u8),
}

/// What a vendor's kinds begin with under a seal: three bits of the vendor and four of the place
/// follow. No vendor has the highest number, so that no kind is all ones.
const THIRD_PARTIES: u8 = 0x80;

/// The version of ALTCHA's protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// Hashes once per try: for old widgets.
    One,
    /// Derives a key per try.
    #[default]
    Two,
}

impl Kind {
    /// Those that are ours, in the order of their numbers.
    const OURS: [Self; 7] = [
        Self::Image,
        Self::Work(Version::One),
        Self::Work(Version::Two),
        Self::WorkThenImage(Version::One),
        Self::WorkThenImage(Version::Two),
        Self::Passed { image: false },
        Self::Passed { image: true },
    ];

    /// Whether a picture belongs to it.
    pub fn has_picture(self) -> bool {
        matches!(self, Self::Image | Self::WorkThenImage(_))
    }

    /// The word on the wire, in metrics and timelines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Work(_) | Self::Passed { image: false } => "proof-of-work",
            Self::WorkThenImage(_) | Self::Passed { image: true } => "proof-of-work-and-image",
            Self::ThirdParty(vendor, _) => vendor.as_str(),
        }
    }

    fn to_byte(self) -> u8 {
        let number = |at: Option<usize>| at.and_then(|at| u8::try_from(at).ok());
        match self {
            Self::ThirdParty(vendor, place) => {
                let vendor = number(Vendor::ALL.iter().position(|known| *known == vendor));
                vendor.map_or(u8::MAX, |vendor| THIRD_PARTIES | vendor << 4 | (place & 0x0f))
            }
            ours => number(Self::OURS.iter().position(|kind| *kind == ours)).unwrap_or(u8::MAX),
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        if byte & THIRD_PARTIES == 0 {
            return Self::OURS.get(usize::from(byte)).copied();
        }
        let vendor = Vendor::ALL.get(usize::from((byte & !THIRD_PARTIES) >> 4));
        vendor.map(|vendor| Self::ThirdParty(*vendor, byte & 0x0f))
    }
}

/// The network that an address lies in: IPv4 /24, IPv6 /48. People's addresses change within
/// theirs; a challenge that wanders further was handed on. All zeros: none.
pub type Network = [u8; 9];

/// A purpose, as a digest of one length. All zeros: any.
type Purpose = [u8; 16];

/// What a minted challenge carries under its seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minted {
    /// What has to be done.
    pub kind: Kind,
    /// How hard its picture is.
    pub level: Level,
    /// Whether its audio may be asked for in place of the picture; of what was passed, whether it
    /// was.
    pub audio: bool,
    /// Why it was asked for.
    pub reason: Reason,
    /// When it ends.
    pub expires_at: Millis,
    /// Its unguessable part.
    pub nonce: [u8; 16],
    purpose: Purpose,
    network: Network,
}

impl Minted {
    /// One that is bound to nothing but its tenant.
    pub fn free(kind: Kind, nonce: [u8; 16], expires_at: Millis) -> Self {
        let (level, reason) = (Level::Plain, Reason::Calm);
        Self {
            kind,
            level,
            audio: false,
            reason,
            expires_at,
            nonce,
            purpose: [0; 16],
            network: [0; 9],
        }
    }

    /// As hard as this, for this reason.
    #[must_use]
    pub fn at(self, level: Level, reason: Reason) -> Self {
        Self { level, reason, ..self }
    }

    /// With its audio, or without.
    #[must_use]
    pub fn with_audio(self, audio: bool) -> Self {
        Self { audio, ..self }
    }

    /// Whether it has a clip: only what has a picture, too.
    pub fn has_audio(&self) -> bool {
        self.audio && self.kind.has_picture()
    }

    /// Bound to a purpose, if one is named, and to a network, if one counts.
    #[must_use]
    pub fn bound(self, purpose: Option<&str>, network: Option<Network>) -> Self {
        let purpose = purpose.map(purpose_digest).unwrap_or_default();
        Self { purpose, network: network.unwrap_or_default(), ..self }
    }

    /// Whether it may be used for this purpose, from this network. A server that asks has no
    /// network that counts: it answers for where the answer came from.
    pub fn fits(&self, purpose: &str, network: Option<Network>) -> bool {
        let any_purpose = self.purpose == Purpose::default();
        let any_network = self.network == Network::default();
        (any_purpose || self.purpose == purpose_digest(purpose))
            && (any_network || network.is_none_or(|network| network == self.network))
    }

    /// What stands for this one after its judgement, with the same bindings.
    #[must_use]
    pub fn passed(self, nonce: [u8; 16], now: Millis, by_ear: bool) -> Self {
        let kind = Kind::Passed { image: self.kind.has_picture() };
        Self { kind, nonce, expires_at: now + TTL, audio: by_ear, ..self }
    }

    /// The bytes to seal.
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let place = |at: Option<usize>| at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX);
        let reason = place(Reason::ALL.iter().position(|reason| *reason == self.reason));
        let mut bytes = [0; LENGTH];
        let audio = if self.audio { AUDIO } else { 0 };
        bytes[..3].copy_from_slice(&[self.kind.to_byte(), self.level.number() | audio, reason]);
        bytes[3..11].copy_from_slice(&self.expires_at.to_be_bytes());
        bytes[11..27].copy_from_slice(&self.nonce);
        bytes[27..43].copy_from_slice(&self.purpose);
        bytes[43..].copy_from_slice(&self.network);
        bytes
    }

    /// Takes the bytes back out of the seal.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([kind, level, reason], rest) = bytes.split_first_chunk()?;
        let (expires_at, rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (purpose, rest) = rest.split_first_chunk()?;
        Some(Self {
            kind: Kind::from_byte(*kind)?,
            level: Level::ALL.into_iter().find(|known| known.number() == *level & !AUDIO)?,
            audio: *level & AUDIO != 0,
            reason: *Reason::ALL.get(usize::from(*reason))?,
            expires_at: Millis::from_be_bytes(*expires_at),
            nonce: *nonce,
            purpose: *purpose,
            network: Network::try_from(rest).ok()?,
        })
    }

    /// The key of its record once it is spent: beginning with the end, so that those which end
    /// together lie together.
    pub fn record_name(&self) -> [u8; 24] {
        let mut name = [0; 24];
        name[..8].copy_from_slice(&self.expires_at.to_be_bytes());
        name[8..].copy_from_slice(&self.nonce);
        name
    }

    /// Whether its time has come and is not over.
    pub fn is_alive(&self, now: Millis) -> bool {
        // One from the future was minted before a clock was set back: it does not live longer.
        now < self.expires_at && self.expires_at <= now + TTL + SECOND
    }

    /// Judges an answer to it, which is right or not.
    pub fn judge(&self, right: bool, spent: bool, now: Millis) -> Judged {
        match (self.is_alive(now) && !spent, right) {
            (false, _) => Judged::Expired,
            (true, true) => Judged::Right,
            (true, false) => Judged::Wrong,
        }
    }
}

fn purpose_digest(purpose: &str) -> Purpose {
    let digest = digest::digest(&digest::SHA256, purpose.as_bytes());
    *digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_under_the_seal_comes_out_of_it() {
        let theirs = Vendor::ALL.map(|vendor| [0, 1, 15].map(|at| Kind::ThirdParty(vendor, at)));
        for kind in Kind::OURS.into_iter().chain(theirs.into_iter().flatten()) {
            for (level, reason) in Level::ALL.into_iter().zip(Reason::ALL) {
                let free = Minted::free(kind, [7; 16], TTL);
                let bound = Minted { level, reason, ..free }.bound(Some("pay"), Some([4; 9]));
                for minted in [free, bound, bound.with_audio(true)] {
                    assert_eq!(Minted::from_bytes(&minted.to_bytes()), Some(minted));
                }
            }
        }
        let bytes = Minted::free(Kind::Image, [7; 16], TTL).to_bytes();
        assert!(Minted::from_bytes(&bytes[1..]).is_none());
        assert!(Minted::from_bytes(&[&bytes[..], &[0]].concat()).is_none());
        for (at, value) in [(0, 7), (0, 0x7f), (0, 0xf0), (0, 0xff), (1, 0), (1, 4), (2, 5)] {
            let mut bytes = bytes;
            bytes[at] = value;
            assert!(Minted::from_bytes(&bytes).is_none(), "{at} {value}");
        }
    }

    #[test]
    fn it_fits_what_it_was_minted_for_and_nothing_else() {
        let (home, away) = ([4, 1, 2, 3, 0, 0, 0, 0, 0], [4, 1, 2, 4, 0, 0, 0, 0, 0]);
        let free = Minted::free(Kind::Image, [7; 16], TTL);
        let cases = [
            (None, None, "pay", Some(away), true),
            (Some("pay"), None, "pay", Some(away), true),
            (Some("pay"), None, "login", None, false),
            (None, Some(home), "pay", Some(home), true),
            (None, Some(home), "pay", Some(away), false),
            (None, Some(home), "pay", None, true),
            (Some("pay"), Some(home), "pay", Some(home), true),
            (Some("pay"), Some(home), "login", Some(home), false),
            (Some("pay"), Some(home), "pay", Some(away), false),
            (Some("pay"), Some(home), "", None, false),
        ];
        for (purpose, network, asked, from, fits) in cases {
            let bound = free.bound(purpose, network);
            assert_eq!(bound.fits(asked, from), fits, "{purpose:?} {network:?} {asked} {from:?}");
            let passed = bound.passed([8; 16], 5, false);
            assert_eq!(passed.fits(asked, from), fits, "what was passed is bound like that, too");
        }
    }

    #[test]
    fn a_minted_challenge_ends_and_is_judged_once() {
        let minted = Minted::free(Kind::Image, [3; 16], TTL);
        assert_eq!(minted.judge(true, false, TTL - 1), Judged::Right);
        assert_eq!(minted.judge(true, false, TTL), Judged::Expired);
        assert_eq!(minted.judge(true, true, 1), Judged::Expired);
        assert_eq!(minted.judge(true, false, -2 * SECOND), Judged::Expired, "from the future");
        assert_eq!(minted.judge(false, false, 1), Judged::Wrong);
    }
}
