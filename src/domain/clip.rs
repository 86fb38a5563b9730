//! The audio of a challenge: derived like its picture, with an answer of its own.
//!
//! Each language has digits of its own as well, so who listens to both learns nothing about either.

use std::fmt;

use aws_lc_rs::hmac;

use super::challenge::{Subject, mac};
use crate::captcha::Language;
use crate::speech::LENGTH;

/// What a clip says, and how it sounds.
#[derive(Clone, PartialEq, Eq)]
pub struct Clip {
    /// The answer: [`LENGTH`] digits.
    pub text: String,
    /// The seed of its sound.
    pub seed: [u8; 32],
    /// Whose words the digits are said in.
    pub language: Language,
}

impl fmt::Debug for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clip(…)")
    }
}

impl Clip {
    /// Derives the clip of a challenge in a language.
    pub fn derive(key: &hmac::Key, subject: &Subject<'_>, language: Language) -> Self {
        let tongue = match language {
            Language::Chinese => b"zh",
            Language::English => b"en",
        };
        let of = |label| {
            mac(key, label, |part| {
                part(tongue);
                subject.feed(part);
            })
        };
        Self { text: text(&of(b"digits")), seed: of(b"voice"), language }
    }

    /// Whether an answer is what this clip says.
    pub fn answered_by(&self, answer: &str) -> bool {
        digits(answer).is_some_and(|digits| digits == self.text)
    }
}

/// Digits, all equally likely.
fn text(chance: &[u8; 32]) -> String {
    // 32 bytes for 5 digits: a byte from 250 on is passed over. That too few are left is less
    // likely than a broken machine (2^-120 or so).
    let digits = chance.iter().filter(|byte| **byte < 250).map(|byte| char::from(b'0' + byte % 10));
    digits.take(LENGTH).collect()
}

/// Whether an answer was heard and not read: five digits, which no picture's answer is.
pub fn is_heard(answer: &str) -> bool {
    digits(answer).is_some()
}

/// The digits of an answer; nothing, if it is anything else than a clip's length of them. Blanks
/// between them do not matter, and keyboards for Chinese may write them wide.
fn digits(answer: &str) -> Option<String> {
    let digit = |letter: char| match letter {
        '０'..='９' => char::from_u32(u32::from(letter) - u32::from('０') + u32::from('0')),
        _ => Some(letter).filter(char::is_ascii_digit),
    };
    let letters = answer.chars().filter(|letter| !letter.is_whitespace());
    let digits: String = letters.map(digit).collect::<Option<_>>()?;
    Some(digits).filter(|digits| digits.len() == LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captcha;
    use crate::domain::challenge::{Picture, TTL};
    use crate::domain::minted::{Kind, Minted};

    fn key(byte: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32])
    }

    fn clip(window: i64, language: Language) -> Clip {
        Clip::derive(&key(1), &Subject::Named { tenant: "shop", name: "u-1", window }, language)
    }

    #[test]
    fn a_clip_is_the_same_twice_and_differs_by_all_that_it_is_derived_from() {
        let derive = |key: &hmac::Key, subject| Clip::derive(key, &subject, Language::English);
        let named = |tenant, name| Subject::Named { tenant, name, window: 7 };
        let minted = Minted::free(Kind::Image, [0; 16], TTL);
        let one = clip(7, Language::English);
        assert_eq!(one, clip(7, Language::English));
        let others = [
            clip(8, Language::English),
            clip(7, Language::Chinese),
            derive(&key(2), named("shop", "u-1")),
            derive(&key(1), named("shop", "u-2")),
            derive(&key(1), named("bank", "u-1")),
            derive(&key(1), Subject::Minted(&minted)),
        ];
        for other in others {
            assert_ne!(other.seed, one.seed);
            assert_ne!(other.text, one.text, "by chance once in 100 000");
        }
    }

    #[test]
    fn digits_are_spread_evenly() {
        let mut at = [[0_u32; 10]; LENGTH];
        for window in 0..20_000 {
            let text = clip(window, Language::Chinese).text;
            assert_eq!(text.len(), LENGTH);
            for (place, digit) in text.bytes().enumerate() {
                at[place][usize::from(digit - b'0')] += 1;
            }
        }
        // 2 000 for a digit in a place; the deviation is 42.
        assert!(at.as_flattened().iter().all(|count| (1_800..2_200).contains(count)), "{at:?}");
    }

    #[test]
    fn an_answer_is_five_digits_however_they_are_typed() {
        let heard = Clip { text: "31415".into(), ..clip(7, Language::English) };
        for answer in ["31415", " 31415 ", "3 1 4 1 5", "31\u{3000}415", "３１４１５", "3１4１5\n"]
        {
            assert!(is_heard(answer) && heard.answered_by(answer), "{answer:?}");
        }
        for answer in ["31416", "00000"] {
            assert!(is_heard(answer) && !heard.answered_by(answer), "{answer:?}");
        }
        for answer in ["", "3141", "314155", "3141S", "+31415", "3-1415", "٣١٤١٥", "３1415九"]
        {
            assert!(!is_heard(answer) && !heard.answered_by(answer), "{answer:?}");
        }
    }

    #[test]
    fn what_a_picture_says_is_never_taken_for_what_a_clip_says() {
        const { assert!(captcha::LENGTH != LENGTH) };
        for window in 0..2_000 {
            let named = Subject::Named { tenant: "shop", name: "u-1", window };
            let picture = Picture::derive(&key(1), &named, captcha::Level::More);
            assert!(!is_heard(&picture.text), "{}", picture.text);
            for language in Language::ALL {
                let clip = clip(window, language);
                assert!(!picture.answered_by(&clip.text) && !clip.answered_by(&picture.text));
            }
        }
    }
}
