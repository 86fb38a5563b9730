//! Challenges: pictures that are derived, names that are minted, answers that come in.

use std::net::IpAddr;

use super::audio::AUDIO;
use super::crowd::network;
use super::{Refusal, Verifier};
use crate::captcha::{self, Language, Level, Rule};
use crate::chance::Chance;
use crate::clock::Millis;
use crate::domain::altcha::{self, Claim, Payload, Puzzle};
use crate::domain::challenge::{Judged, Picture, Subject, TTL, window_at};
use crate::domain::minted::{Kind, Minted, Version};
use crate::domain::policy::WORK_TRIES_V1;
use crate::domain::risk::{Hint, Reason, Step};
use crate::keys::{Ring, Use};
use crate::store::{Key, StoreError, transact_once};

/// What stands between a tenant and a challenge's seal: in no tenant's id, in no seal.
const JOINT: char = '~';

/// An answer to a challenge, with what it answers.
#[derive(Clone)]
pub enum Answered {
    /// To a name that the seed's front end chose.
    Named {
        /// The name.
        name: String,
        /// The answer.
        answer: String,
    },
    /// To a challenge that we minted.
    Minted {
        /// What was under the seal.
        minted: Minted,
        /// The answer.
        given: Given,
    },
    /// To something that is no challenge of ours, was sealed under a key that is gone, or is bound
    /// to something else: it has ended, whatever the answer.
    Unknown,
    /// None was asked for, for this reason.
    Waived(Reason),
    /// The address gave too many wrong answers, or too many by ear: none is judged before this.
    Held {
        /// When one is.
        retry_at: Millis,
        /// Which limit that is.
        limit: &'static str,
    },
    /// The vendor that judges it could not be asked.
    Unasked {
        /// When it may be tried again.
        retry_at: Millis,
        /// What is taken in its place.
        instead: Option<Kind>,
    },
}

/// What was given as an answer.
#[derive(Clone, PartialEq, Eq)]
pub enum Given {
    /// What a person read.
    Text(String),
    /// A solution of this version, found right or wrong.
    Work(Version, bool),
    /// Both.
    WorkAndText(Version, bool, String),
    /// What we vouched for before.
    Vouched,
    /// A vendor's token, which the vendor was not asked about yet.
    Token(String),
    /// A vendor's token, and what the vendor said.
    Asked {
        /// The record that remembers the token once it was used.
        spent: Key,
        /// How long it may be good.
        life: Millis,
        /// Whether the vendor vouches for it.
        passed: bool,
    },
    /// Nothing that can be read.
    Nothing,
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answered(…)")
    }
}

/// Who asks for a challenge, and for which.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// What it shall be good for; anything of the tenant's, if nothing is named.
    pub purpose: Option<&'a str>,
    /// The person's address, where it counts.
    pub address: Option<IpAddr>,
    /// What the caller knows about who asks.
    pub hint: Hint,
    /// What is wished for; the ladder may ask for more.
    pub wish: Kind,
}

/// An answer as it came in.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The tenant that took it.
    pub tenant: &'a str,
    /// The challenge's id; a payload names its own.
    pub id: Option<&'a str>,
    /// What is good for the tenant's purpose that is asked for.
    pub purpose: &'a str,
    /// Where it came from, where that counts.
    pub address: Option<IpAddr>,
}

/// A challenge that was just minted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minting {
    /// Its id: the tenant and a seal, so that only ours are taken, and only from that tenant.
    pub id: String,
    /// What is under the seal.
    pub minted: Minted,
    /// How its picture is read.
    pub rule: Rule,
}

/// A puzzle of either version.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(untagged)]
pub enum Work {
    /// Of version 1.
    One(altcha::ChallengeV1),
    /// Of version 2.
    Two(altcha::Challenge<'static>),
}

impl Verifier {
    /// Mints a challenge, of the kind that is wished for or as the ladder asks. Nothing is stored.
    pub fn ask_challenge(&self, ask: &Ask<'_>) -> Result<Minting, Refusal> {
        let (step, reason) = self.weigh(ask.address, ask.hint)?;
        let mut nonce = [0; 16];
        self.chance().fill(&mut nonce);
        let (kind, level) = match (step, self.stand_in(ask.wish)?) {
            // A vendor goes by what it knows about who asks; its challenge is one of every step.
            (_, wish @ Kind::ThirdParty(..)) => (wish, Level::Plain),
            // Where both are shown at once, the picture comes on top; elsewhere it takes the place.
            (Step::Picture(level), Kind::WorkThenImage(version)) => {
                (Kind::WorkThenImage(version), level)
            }
            (Step::Picture(level), _) => (Kind::Image, level),
            (_, Kind::WorkThenImage(version)) => (Kind::Work(version), Level::Plain),
            (_, wish) => (wish, Level::Plain),
        };
        let minted = Minted::free(kind, nonce, self.clock.now() + TTL)
            .at(level, reason)
            .bound(ask.purpose, ask.address.map(network));
        metrics::counter!("countersign_challenges_total", "kind" => "minted").increment(1);
        Ok(self.minting(ask.tenant, minted))
    }

    /// Counts a picture of a chosen name, if its address may have one more.
    pub fn ask_named(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        self.weigh(address, Hint::Low).map(|_| ())
    }

    /// Whether a start may go without a challenge: with this reason, or not at all.
    pub fn ask_waiver(
        &self,
        address: Option<IpAddr>,
        hint: Hint,
    ) -> Result<Result<Answered, Kind>, Refusal> {
        Ok(match self.weigh(address, hint)? {
            (Step::Allow, reason) => Ok(Answered::Waived(reason)),
            (Step::Work, _) => Err(Kind::Work(Version::Two)),
            (Step::Picture(_) | Step::Refuse, _) => Err(Kind::Image),
        })
    }

    fn weigh(&self, address: Option<IpAddr>, hint: Hint) -> Result<(Step, Reason), Refusal> {
        let (counted, limits) = (self.crowd.counted(address), &self.policy.challenges.limits);
        let (step, reason, retry_at) = self.crowd.ask(counted, limits, hint, self.clock.now());
        let (step_word, reason_word) = (step.as_str(), reason.as_str());
        metrics::counter!("countersign_challenge_steps_total",
            "step" => step_word, "reason" => reason_word)
        .increment(1);
        if step == Step::Refuse {
            return Err(Refusal::Throttled { retry_at, limit: "challenges" });
        }
        Ok((step, reason))
    }

    /// Mints a picture that is bound to nothing but its tenant.
    pub fn mint_challenge(&self, tenant: &str) -> Minting {
        let mut nonce = [0; 16];
        self.chance().fill(&mut nonce);
        self.minting(tenant, Minted::free(Kind::Image, nonce, self.clock.now() + TTL))
    }

    pub(super) fn minting(&self, tenant: &str, minted: Minted) -> Minting {
        let sealed = self.keys.ring().seal(Use::Challenge, &purpose(tenant), &minted.to_bytes());
        let rule = self.minted_picture(&minted).rule;
        Minting { id: format!("{tenant}{JOINT}{sealed}"), minted, rule }
    }

    /// The puzzle of a minted challenge that asks for work.
    pub fn work(&self, minting: &Minting) -> Option<Work> {
        let (Kind::Work(version) | Kind::WorkThenImage(version)) = minting.minted.kind else {
            return None;
        };
        let mut chance = self.chance();
        let (mut nonce, mut salt) = ([0; 16], [0; 16]);
        chance.fill(&mut nonce);
        chance.fill(&mut salt);
        let challenges = &self.policy.challenges;
        let tries =
            if version == Version::One { WORK_TRIES_V1 } else { challenges.work_tries.max(1) };
        let counter = u32::try_from(chance.below(tries.into())).expect("it is below 32 bits");
        let puzzle = Puzzle { nonce, salt, counter };
        let expires_at = self.clock.shown(minting.minted.expires_at).as_second();
        let ring = self.keys.ring();
        let keys = ring.altcha().next().expect("a ring holds a challenge key");
        Some(match version {
            Version::One => {
                Work::One(altcha::challenge_v1(keys, &puzzle, tries, &minting.id, expires_at))
            }
            Version::Two => {
                let cost = challenges.work_cost;
                let id = minting.id.clone();
                Work::Two(altcha::challenge(keys, &puzzle, cost, id, expires_at))
            }
        })
    }

    /// Opens a minted challenge's id, if it is ours and its time is not over.
    pub fn open_challenge(&self, id: &str) -> Option<Minted> {
        let (tenant, _) = id.split_once(JOINT)?;
        self.unseal(tenant, id).filter(|minted| self.clock.now() < minted.expires_at)
    }

    /// An answer to a minted challenge. Whether the challenge is still good is judged by the verb
    /// and not here: an `Idempotency-Key` that was answered before comes first.
    pub fn answered(&self, reply: &Reply<'_>, answer: String) -> Answered {
        self.read(reply, answer, None).unwrap_or(Answered::Unknown)
    }

    fn read(&self, reply: &Reply<'_>, answer: String, code: Option<String>) -> Option<Answered> {
        // A payload names its challenge; elsewhere nothing is read that nobody asked for.
        let claim = reply.id.is_none().then(|| self.claim(&answer)).flatten();
        let id = reply.id.or(claim.as_ref().map(Claim::id))?.to_owned();
        let minted = self.unseal(reply.tenant, &id)?;
        if !minted.fits(reply.purpose, reply.address.map(network)) {
            return None;
        }
        if minted.kind == Kind::Image {
            return Some(Answered::Minted { minted, given: Given::Text(answer) });
        }
        if let Kind::ThirdParty(..) = minted.kind {
            return Some(Answered::Minted { minted, given: Given::Token(answer) });
        }
        let claim = claim.or_else(|| self.claim(&answer)).filter(|claim| claim.id() == id);
        let work = |version, right| match code {
            Some(code) => Given::WorkAndText(version, right, code),
            None => Given::Work(version, right),
        };
        let given = match claim {
            Some(Claim::Solution { right, .. }) => work(Version::Two, right),
            Some(Claim::SolutionV1 { right, .. }) => work(Version::One, right),
            Some(Claim::Vouched { .. }) => Given::Vouched,
            None => Given::Nothing,
        };
        Some(Answered::Minted { minted, given })
    }

    fn claim(&self, answer: &str) -> Option<Claim> {
        let ring = self.keys.ring();
        let keys: Vec<_> = ring.altcha().collect();
        Payload::decode(answer)?.claim(&keys)
    }

    /// Judges a solution together with what a person read, and spends their challenge: what a
    /// widget asks before its form is sent. Right answers give a payload that vouches for them.
    pub async fn pass(
        &self,
        reply: &Reply<'_>,
        payload: String,
        code: Option<String>,
    ) -> Result<Result<String, Refusal>, StoreError> {
        let answered = self.read(reply, payload, code).unwrap_or(Answered::Unknown);
        // What was passed is not passed again: it would never end.
        let answered = match answered.minted().map(|minted| minted.kind) {
            Some(Kind::Work(_) | Kind::WorkThenImage(_)) => answered,
            Some(Kind::Image | Kind::Passed { .. } | Kind::ThirdParty(..)) | None => {
                Answered::Unknown
            }
        };
        let (answered, guess) = self.hold(answered, reply.address);
        if let Some(refusal) = answered.put_off() {
            return Ok(Err(refusal));
        }
        let by_ear = answered.by_ear();
        let (ring, now, tenant) = (self.keys.ring(), self.clock.now(), reply.tenant.to_owned());
        let keys = answered.key(&ring, &tenant).into_iter().collect();
        let minted = answered.minted();
        let judged = transact_once(&self.store, keys, move |draft| {
            answered.judge(&ring, &tenant, draft, now)
        });
        let judged = judged.await?;
        if let Some(counted) = guess.filter(|_| judged != Judged::Wrong) {
            self.crowd.not_wrong(counted, now);
        }
        Ok(match (judged, minted) {
            (Judged::Right, Some(minted)) => {
                let mut nonce = [0; 16];
                self.chance().fill(&mut nonce);
                let passed = self.minting(reply.tenant, minted.passed(nonce, now, by_ear));
                Ok(Payload::vouch(&passed.id))
            }
            (Judged::Wrong, _) => Err(Refusal::ChallengeWrong),
            (Judged::Right | Judged::Expired, _) => Err(Refusal::ChallengeExpired),
        })
    }

    /// Counts an answer as wrong before it is judged, where its address counts; or holds it back.
    pub(super) fn hold(
        &self,
        answered: Answered,
        address: Option<IpAddr>,
    ) -> (Answered, Option<super::crowd::Counted>) {
        let guessed = matches!(answered, Answered::Named { .. } | Answered::Minted { .. });
        let Some(counted) = self.crowd.counted(address).filter(|_| guessed) else {
            return (answered, None);
        };
        let (challenges, now) = (&self.policy.challenges, self.clock.now());
        if answered.is_heard()
            && let Err(retry_at) = self.crowd.hear(counted, challenges.audio, now)
        {
            return (Answered::Held { retry_at, limit: AUDIO }, None);
        }
        match self.crowd.guess(counted, challenges.limits.wrong, now) {
            Ok(()) => (answered, Some(counted)),
            Err(retry_at) => (Answered::Held { retry_at, limit: "challenges" }, None),
        }
    }

    fn unseal(&self, tenant: &str, id: &str) -> Option<Minted> {
        let sealed = id.strip_prefix(tenant)?.strip_prefix(JOINT)?;
        let opened = self.keys.ring().open(Use::Challenge, &purpose(tenant), sealed)?;
        Minted::from_bytes(&opened)
    }

    /// The picture of a minted challenge.
    pub fn minted_picture(&self, minted: &Minted) -> Picture {
        minted_pictures(&self.keys.ring(), minted).next().expect("a ring holds a challenge key")
    }

    /// The picture that a chosen name has now.
    pub fn named_picture(&self, tenant: &str, name: &str, level: Level) -> Picture {
        let window = window_at(self.clock.now());
        pictures(&self.keys.ring(), &Subject::Named { tenant, name, window }, level)
            .next()
            .expect("a ring holds a challenge key")
    }

    /// Draws a picture as PNG, with a line below in this language that says how it is read.
    pub fn draw(picture: &Picture, caption: Option<Language>) -> Vec<u8> {
        captcha::draw(&picture.text, &picture.seed, picture.style(caption))
    }
}

fn purpose(tenant: &str) -> Vec<u8> {
    format!("challenge\0{tenant}").into_bytes()
}

/// The picture under every accepted key: one that was fetched before a rotation is still good.
pub(super) fn pictures(
    ring: &Ring,
    subject: &Subject<'_>,
    level: Level,
) -> impl Iterator<Item = Picture> {
    ring.challenge().map(move |key| Picture::derive(key, subject, level))
}

pub(super) fn minted_pictures(ring: &Ring, minted: &Minted) -> impl Iterator<Item = Picture> {
    ring.challenge().map(|key| Picture::derive(key, &Subject::Minted(minted), minted.level))
}
