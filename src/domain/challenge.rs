//! An image challenge: derived, never stored until it is answered; judged once.
//!
//! The text and the look of a picture follow from a secret, the challenge's name and a window of
//! time, so ten million pictures cost nothing, and a picture fetched twice is the same picture.
//! There are two kinds of name. The seed's front ends choose a uuid themselves, and its pictures
//! change with the [`WINDOW`]. The native door mints names: sealed, so that only ours are taken,
//! with an end of their own.

use std::fmt;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

use crate::captcha::{ALPHABET, LENGTH, Language, Level, Rule, Style};
use crate::clock::{DAY, Millis, SECOND};
use crate::domain::minted::Minted;

/// One window of the seed's pictures. A picture is good in its own window and the next, so it
/// lives 150 to 300 seconds.
pub const WINDOW: Millis = 150 * SECOND;
/// How many windows back an answer is recognised as late rather than wrong.
const WINDOWS_RECOGNISED: i64 = 6;
/// How long a minted challenge lives.
pub const TTL: Millis = 300 * SECOND;
/// The longest name a front end may choose.
pub const NAME_MAX: usize = 64;
/// The longest answer that is looked at.
pub const ANSWER_MAX: usize = 32;

/// What a picture shows, and how it looks.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// The answer.
    pub text: String,
    /// The seed of its look.
    pub seed: [u8; 32],
    /// How hard it is.
    pub level: Level,
    /// How it is read.
    pub rule: Rule,
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Picture(…)")
    }
}

impl Picture {
    /// Derives the picture of a challenge.
    pub fn derive(key: &hmac::Key, subject: &Subject<'_>, level: Level) -> Self {
        let text = text(&mac(key, b"text", |part| subject.feed(part)));
        let seed = mac(key, b"look", |part| {
            part(&[level.number()]);
            subject.feed(part);
        });
        // The rule holds for a day: the challenge's own, so that its picture stays the same.
        let day = subject.begins_at().div_euclid(DAY);
        let [choice, ..] = mac(key, b"rule", |part| part(&day.to_be_bytes()));
        let rule = Rule::ALL[usize::from(choice) % Rule::ALL.len()];
        Self { text, seed, level, rule }
    }

    /// How it is drawn, with a line below in this language or without one.
    pub fn style(&self, caption: Option<Language>) -> Style {
        Style { level: self.level, rule: self.rule, caption }
    }

    /// Whether an answer is this picture's text; case and surrounding blanks do not matter.
    pub fn answered_by(&self, answer: &str) -> bool {
        self.text.eq_ignore_ascii_case(answer.trim())
    }
}

/// What a picture is derived from.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// A name that the seed's front end chose, in a window of time.
    Named {
        /// The tenant whose policy holds at the seed's door.
        tenant: &'a str,
        /// The chosen name.
        name: &'a str,
        /// The window.
        window: i64,
    },
    /// A minted challenge.
    Minted(&'a Minted),
}

impl Subject<'_> {
    /// Hands over what makes this challenge another than all others.
    pub(super) fn feed(&self, part: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Named { tenant, name, window } => {
                part(tenant.as_bytes());
                part(name.as_bytes());
                part(&window.to_be_bytes());
            }
            Self::Minted(minted) => part(&minted.nonce),
        }
    }

    /// When its time begins.
    fn begins_at(&self) -> Millis {
        match self {
            Self::Named { window, .. } => window.saturating_mul(WINDOW),
            Self::Minted(minted) => minted.expires_at.saturating_sub(TTL),
        }
    }
}

/// The code of these parts, each with its length, so that no two lists of parts are alike.
pub(super) fn mac(
    key: &hmac::Key,
    label: &[u8],
    parts: impl FnOnce(&mut dyn FnMut(&[u8])),
) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    let mut part = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    part(label);
    parts(&mut part);
    context.sign().as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
}

/// A text of different letters: all texts are equally likely.
fn text(chance: &[u8; 32]) -> String {
    let mut left = ALPHABET.to_vec();
    let mut bytes = chance.iter().map(|&byte| usize::from(byte));
    let letters = (0..LENGTH).map(|_| {
        // 32 bytes for 4 letters: a byte in the incomplete last stretch of 256 is passed over.
        // That they all run out is less likely than a broken machine (2^-90).
        let limit = 256 - 256 % left.len();
        let byte = bytes.find(|&byte| byte < limit).unwrap_or_default();
        char::from(left.remove(byte % left.len()))
    });
    letters.collect()
}

/// Whether a text can be a challenge's name at the seed's door.
pub fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// The window that an instant lies in.
pub fn window_at(now: Millis) -> i64 {
    now.div_euclid(WINDOW)
}

/// What remains of an answered challenge for as long as it could be answered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The newest window whose picture is spent; 0 for minted challenges, which have none.
    pub through: i64,
}

impl Spent {
    /// Until when this must be remembered.
    pub fn kept_until(self) -> Millis {
        (self.through + 2) * WINDOW
    }
}

/// What an answer is worth. None of these is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Right.
    Right,
    /// Wrong, or to a picture that was never fetched.
    Wrong,
    /// To a picture that was already answered, or to an earlier window's.
    Expired,
}

/// Judges an answer to a named challenge. `shown_in` says whether it is what a window's picture or
/// clip says. Right or wrong, the name's pictures and clips up to this window are spent afterwards.
pub fn judge_named(
    spent: Option<Spent>,
    now: Millis,
    shown_in: impl Fn(i64) -> bool,
) -> (Judged, Spent) {
    let window = window_at(now);
    let spent_through = spent.map_or(i64::MIN, |spent| spent.through);
    let judged = if spent_through >= window {
        Judged::Expired
    } else if [window, window - 1].into_iter().any(|good| good > spent_through && shown_in(good)) {
        Judged::Right
    } else if (1..=WINDOWS_RECOGNISED).any(|back| shown_in(window - back)) {
        Judged::Expired
    } else {
        Judged::Wrong
    };
    (judged, Spent { through: window })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::minted::Kind;

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[1; 32])
    }

    fn picture(window: i64) -> Picture {
        Picture::derive(
            &key(),
            &Subject::Named { tenant: "shop", name: "u-1", window },
            Level::Plain,
        )
    }

    fn judge(answer: &str, spent: Option<Spent>, window: i64) -> (Judged, Spent) {
        judge_named(spent, window * WINDOW + 5, |window| picture(window).answered_by(answer))
    }

    #[test]
    fn a_picture_is_the_same_twice_and_differs_by_name_window_tenant_and_kind() {
        assert_eq!(picture(7), picture(7));
        let derive = |subject| Picture::derive(&key(), &subject, Level::Plain);
        let minted = Minted::free(Kind::Image, [0; 16], TTL);
        let others = [
            picture(8),
            derive(Subject::Named { tenant: "shop", name: "u-2", window: 7 }),
            derive(Subject::Named { tenant: "bank", name: "u-1", window: 7 }),
            derive(Subject::Minted(&minted)),
        ];
        for other in others {
            assert_ne!(other.seed, picture(7).seed);
        }
        assert_eq!(picture(7).text.len(), LENGTH);
    }

    #[test]
    fn a_level_changes_the_look_but_not_the_answer() {
        let named = Subject::Named { tenant: "shop", name: "u-1", window: 7 };
        let [plain, patches, more] = Level::ALL.map(|level| Picture::derive(&key(), &named, level));
        assert_eq!((&plain.text, plain.rule), (&patches.text, patches.rule));
        assert_eq!(plain.text, more.text);
        assert_ne!(plain.seed, patches.seed);
        assert_ne!(patches.seed, more.seed);
    }

    #[test]
    fn the_rule_holds_for_a_day_and_follows_from_the_secret() {
        let per_day = DAY / WINDOW;
        let rules = |key: &hmac::Key| {
            let rule = |day: i64| {
                let of = |window| Subject::Named { tenant: "shop", name: "u-1", window };
                let first = Picture::derive(key, &of(day * per_day), Level::Plain).rule;
                let last = Picture::derive(key, &of((day + 1) * per_day - 1), Level::Plain).rule;
                assert_eq!(first, last);
                first
            };
            (0..64).map(rule).collect::<Vec<_>>()
        };
        let of_one = rules(&key());
        assert!(Rule::ALL.iter().all(|rule| of_one.contains(rule)));
        assert_ne!(of_one, rules(&hmac::Key::new(hmac::HMAC_SHA256, &[2; 32])));
    }

    #[test]
    fn texts_are_spread_evenly_over_all_there_are() {
        let mut at = [[0_u32; 15]; LENGTH];
        let mut pairs = std::collections::BTreeMap::<[u8; 2], u32>::new();
        for window in 0..21_000 {
            let text = picture(window).text.into_bytes();
            assert_eq!(text.len(), LENGTH);
            for (i, letter) in text.iter().enumerate() {
                assert!(!text[..i].contains(letter), "{text:?}");
                at[i][ALPHABET.iter().position(|known| known == letter).unwrap()] += 1;
            }
            *pairs.entry([text[0], text[1]]).or_default() += 1;
        }
        // 21 000 texts: 1 400 for a letter in a place (deviation 36), 100 for a pair (10).
        assert!(at.as_flattened().iter().all(|count| (1_230..1_570).contains(count)), "{at:?}");
        assert_eq!(pairs.len(), 15 * 14);
        assert!(pairs.values().all(|count| (50..150).contains(count)), "{pairs:?}");
    }

    #[test]
    fn an_answer_is_good_in_its_window_and_the_next() {
        let text = picture(7).text.to_lowercase();
        assert_eq!(judge(&text, None, 7).0, Judged::Right);
        assert_eq!(judge(&format!(" {text} "), None, 8).0, Judged::Right);
        assert_eq!(judge(&text, None, 9).0, Judged::Expired);
        assert_eq!(judge(&text, None, 20).0, Judged::Wrong);
        assert_eq!(judge("....", None, 7).0, Judged::Wrong);
    }

    #[test]
    fn an_answer_is_judged_once() {
        let text = picture(7).text;
        let (_, spent) = judge("....", None, 7);
        assert_eq!(judge(&text, Some(spent), 7).0, Judged::Expired);
        assert_eq!(judge(&text, Some(spent), 8).0, Judged::Expired, "the old picture stays spent");
        assert_eq!(judge(&picture(8).text, Some(spent), 8).0, Judged::Right, "a new one is new");
        assert!(spent.kept_until() >= 9 * WINDOW, "kept as long as window 7 could be answered");
    }

    #[test]
    fn names_are_short_and_plain() {
        assert!(is_name("550e8400-e29b-41d4-a716-446655440000"));
        for text in ["", "a/b", "a b", "a\0", "é", "../x", "a:b", &"x".repeat(65)] {
            assert!(!is_name(text), "{text:?}");
        }
    }
}
