//! Challenges: pictures that are derived, names that are minted, answers that are judged.

use super::{Verifier, records};
use crate::captcha::{self, Language, Level, Rule};
use crate::chance::Chance;
use crate::clock::Millis;
use crate::domain::challenge::{
    ANSWER_MAX, Judged, Minted, Picture, Spent, Subject, TTL, judge_minted, judge_named, window_at,
};
use crate::keys::{Ring, Use};
use crate::store::{Draft, Key, StoreError};

/// How hard pictures are.
const LEVEL: Level = Level::Plain;

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
        answer: String,
    },
    /// To something that is no challenge of ours, or was sealed under a key that is gone: it has
    /// ended, whatever the answer.
    Unknown,
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answered(…)")
    }
}

/// A challenge that was just minted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minting {
    /// Its id: sealed, so that only ours are taken, and only from the tenant it was minted for.
    pub id: String,
    /// When it ends.
    pub expires_at: Millis,
    /// How its picture is read.
    pub rule: Rule,
}

impl Verifier {
    /// Mints a challenge. Nothing is stored.
    pub fn mint_challenge(&self, tenant: &str) -> Minting {
        let mut nonce = [0; 16];
        Self::chance().fill(&mut nonce);
        let expires_at = self.clock.now() + TTL;
        let minted = Minted { nonce, expires_at };
        let id = self.keys.ring().seal(Use::Challenge, &purpose(tenant), &minted.to_bytes());
        metrics::counter!("countersign_challenges_total", "kind" => "minted").increment(1);
        Minting { id, expires_at, rule: self.minted_picture(&minted).rule }
    }

    /// Opens a minted challenge's id, if it is ours, this tenant's, and its time is not over.
    pub fn open_challenge(&self, tenant: &str, id: &str) -> Option<Minted> {
        self.unseal(tenant, id).filter(|minted| self.clock.now() < minted.expires_at)
    }

    /// An answer to a minted challenge. Whether the challenge is still good is judged by the verb
    /// and not here: an `Idempotency-Key` that was answered before comes first.
    pub fn answered(&self, tenant: &str, id: &str, answer: String) -> Answered {
        match self.unseal(tenant, id) {
            Some(minted) => Answered::Minted { minted, answer },
            None => Answered::Unknown,
        }
    }

    fn unseal(&self, tenant: &str, id: &str) -> Option<Minted> {
        let opened = self.keys.ring().open(Use::Challenge, &purpose(tenant), id)?;
        Minted::from_bytes(&opened)
    }

    /// The picture of a minted challenge.
    pub fn minted_picture(&self, minted: &Minted) -> Picture {
        pictures(&self.keys.ring(), &Subject::Minted(minted))
            .next()
            .expect("a ring holds a challenge key")
    }

    /// The picture that a chosen name has now.
    pub fn named_picture(&self, tenant: &str, name: &str) -> Picture {
        let window = window_at(self.clock.now());
        pictures(&self.keys.ring(), &Subject::Named { tenant, name, window })
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
fn pictures(ring: &Ring, subject: &Subject<'_>) -> impl Iterator<Item = Picture> {
    ring.challenge().map(|key| Picture::derive(key, subject, LEVEL))
}

impl Answered {
    /// The record that remembers the challenge, if there was one.
    pub(super) fn key(&self, ring: &Ring, tenant: &str) -> Option<Key> {
        match self {
            Self::Named { name, .. } => Some(records::spent_named(ring, tenant, name)),
            Self::Minted { minted, .. } => Some(records::spent_minted(ring, minted)),
            Self::Unknown => None,
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
        let Some(key) = self.key(ring, tenant) else { return Ok(Judged::Expired) };
        let spent: Option<Spent> = draft.get(&key)?;
        let judged = match self {
            Self::Unknown => Judged::Expired,
            Self::Named { name, answer } => {
                let shown = |window| {
                    pictures(ring, &Subject::Named { tenant, name, window }).collect::<Vec<_>>()
                };
                let (judged, spends) = judge_named(bounded(answer), spent, now, shown);
                draft.put(&key, &spends, spends.kept_until());
                judged
            }
            Self::Minted { minted, answer } => {
                let subject = Subject::Minted(minted);
                let shown: Vec<_> = pictures(ring, &subject).collect();
                let judged = judge_minted(bounded(answer), minted, spent.is_some(), now, &shown);
                if spent.is_none() && now < minted.expires_at {
                    draft.put(&key, &Spent { through: 0 }, minted.expires_at);
                }
                judged
            }
        };
        Ok(judged)
    }
}

/// An answer longer than any can be is no answer.
fn bounded(answer: &str) -> &str {
    if answer.len() <= ANSWER_MAX { answer } else { "" }
}
