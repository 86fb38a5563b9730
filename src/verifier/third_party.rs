//! Challenges that a vendor judges: asked before the store decides, with nothing held meanwhile.
//!
//! A challenge of this kind is not spent: what is used once is the vendor's token. It is
//! remembered for as long as it may be good, whichever challenge it comes with. A token that was
//! used here is not asked about again, nor is one whose challenge has ended.

use std::net::IpAddr;

use super::{Answered, Given, Refusal, Verifier, View, records};
use crate::clock::SECOND;
use crate::domain::minted::{Kind, Version};
use crate::domain::third_party::{PAUSE, Vendor, Verdict, WhenDown};
use crate::store::StoreError;
use crate::third_party::{Asked, Member};

impl Verifier {
    /// The vendor of a challenge.
    pub fn third_party(&self, vendor: Vendor, place: u8) -> Option<&Member> {
        self.third_parties.get(vendor, place)
    }

    /// What a caller gets who wishes for this kind: another one while its vendor is left alone.
    pub(super) fn stand_in(&self, wish: Kind) -> Result<Kind, Refusal> {
        let Kind::ThirdParty(vendor, place) = wish else { return Ok(wish) };
        let Some(member) = self.third_party(vendor, place) else { return Ok(wish) };
        let Some(retry_at) = member.rests_until() else { return Ok(wish) };
        instead_of(member).ok_or(Refusal::ThirdPartyDown { retry_at, instead: None })
    }

    /// What takes this vendor's place, if it failed so recently that callers may wish for that.
    pub fn substitute(&self, vendor: Vendor, place: u8) -> Option<Kind> {
        self.third_party(vendor, place).filter(|it| it.failed_of_late()).and_then(instead_of)
    }

    /// Has a vendor's token judged by the vendor; another answer stays as it is.
    pub(super) async fn consult(
        &self,
        answered: Answered,
        address: Option<IpAddr>,
    ) -> Result<Answered, StoreError> {
        let Answered::Minted { minted, given: Given::Token(token) } = &answered else {
            return Ok(answered);
        };
        let Kind::ThirdParty(vendor, place) = minted.kind else { return Ok(answered) };
        let Some(member) = self.third_party(vendor, place) else { return Ok(Answered::Unknown) };
        if !minted.is_alive(self.clock.now()) {
            return Ok(Answered::Unknown);
        }
        let identity = member.identity(token).unwrap_or_else(|| token.clone());
        let (word, site_key) = (vendor.as_str(), member.site_key());
        let spent = records::spent_token(&self.keys.ring(), word, site_key, &identity);
        let used = self.store.read(std::slice::from_ref(&spent)).await?;
        let life = member.token_life();
        let asked = |passed| {
            let given = Given::Asked { spent: spent.clone(), life, passed };
            Ok(Answered::Minted { minted: *minted, given })
        };
        if used.iter().any(Option::is_some) {
            return asked(false);
        }
        let now = self.clock.now();
        let (retry_at, instead) = match member.ask(token, address).await {
            Asked::Judged(Verdict::Passed) => return asked(true),
            Asked::Judged(Verdict::Refused(_)) => return asked(false),
            Asked::Judged(Verdict::Unfit(_) | Verdict::Down(_)) => {
                (self.clock.now() + PAUSE, instead_of(member))
            }
            Asked::Resting { until } => (until, instead_of(member)),
            // A flood is no reason to ask for less.
            Asked::Busy => (now + SECOND, None),
        };
        Ok(Answered::Unasked { retry_at, instead })
    }
}

impl Answered {
    /// What was answered, in the word of metrics.
    pub(super) fn kind_word(&self) -> &'static str {
        match self {
            Self::Named { .. } => "named",
            Self::Minted { minted, .. } => minted.kind.as_str(),
            Self::Waived(_) => "none",
            Self::Unknown | Self::Held { .. } | Self::Unasked { .. } => "unknown",
        }
    }

    /// Why it is not judged now.
    pub(super) fn put_off(&self) -> Option<Refusal> {
        match *self {
            Self::Held { retry_at, limit } => Some(Refusal::Throttled { retry_at, limit }),
            Self::Unasked { retry_at, instead } => {
                Some(Refusal::ThirdPartyDown { retry_at, instead })
            }
            Self::Named { .. } | Self::Minted { .. } | Self::Unknown | Self::Waived(_) => None,
        }
    }
}

fn instead_of(member: &Member) -> Option<Kind> {
    match member.when_down() {
        WhenDown::Refuse => None,
        WhenDown::Image => Some(Kind::Image),
        WhenDown::Work => Some(Kind::Work(Version::Two)),
    }
}

/// What came of a challenge, as far as a start's outcome tells; nothing, where it was not judged.
pub(super) fn judged_word(outcome: &Result<View, Refusal>) -> Option<&'static str> {
    match outcome {
        Err(Refusal::ChallengeWrong) => Some("wrong"),
        Err(Refusal::ChallengeExpired) => Some("expired"),
        Err(Refusal::Throttled { limit: "challenges" | "audio", .. }) => Some("held"),
        Err(Refusal::ThirdPartyDown { .. }) => Some("unasked"),
        Err(Refusal::KeyReused | Refusal::KeyInFlight) => None,
        // What refused came after it.
        Err(
            Refusal::Throttled { .. }
            | Refusal::Capped { .. }
            | Refusal::Locked { .. }
            | Refusal::NotFound,
        )
        | Ok(_) => Some("passed"),
    }
}
