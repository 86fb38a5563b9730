//! The one-time code: drawn without bias, kept as a keyed digest, compared in constant time.
//!
//! A code has only a million values, so a digest without a key falls to a million guesses. The
//! key (the pepper) lives outside the store; the digest is bound to everything the code is good
//! for, so that one made for another verification, phone, purpose or tenant never matches.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};
use serde::{Deserialize, Serialize};

use crate::chance::Chance;

/// The fewest and the most digits a code may have.
pub const DIGITS: std::ops::RangeInclusive<u8> = 6..=10;

/// The secret digits. They print nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(String);

impl Code {
    /// Draws a code of so many digits, each value equally likely, leading zeros included.
    pub fn draw(digits: u8, chance: &mut dyn Chance) -> Self {
        let value = chance.below(10_u64.pow(u32::from(digits)));
        Self(format!("{value:0width$}", width = usize::from(digits)))
    }

    /// Takes a guess: ASCII digits only, as many as codes have.
    pub fn parse(text: &str) -> Option<Self> {
        let length = u8::try_from(text.len()).ok()?;
        let digits = DIGITS.contains(&length) && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| Self(text.to_owned()))
    }

    /// The digits themselves: for the message, and for nothing else.
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// The digest that is kept, under this pepper and for this use.
    pub fn digest(&self, pepper: &hmac::Key, bound_to: &Binding<'_>) -> CodeDigest {
        let mut context = hmac::Context::with_key(pepper);
        // Each part is preceded by its length: no two lists of parts give the same bytes.
        for part in [bound_to.verification, bound_to.phone, bound_to.purpose, bound_to.tenant] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.update(self.0.as_bytes());
        CodeDigest(hex::encode(context.sign()))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

/// What a code is good for, and nothing else.
#[derive(Clone, Copy)]
pub struct Binding<'a> {
    /// The verification's id.
    pub verification: &'a [u8],
    /// The phone's fingerprint.
    pub phone: &'a [u8],
    /// The purpose.
    pub purpose: &'a [u8],
    /// The tenant.
    pub tenant: &'a [u8],
}

/// The keyed digest of a code, in hexadecimal.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CodeDigest(String);

impl CodeDigest {
    /// Whether two digests are equal, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl fmt::Debug for CodeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeDigest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::{OsChance, SeededChance};

    const BOUND: Binding<'static> =
        Binding { verification: b"v1", phone: b"p1", purpose: b"login", tenant: b"shop" };

    fn pepper() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[7; 32])
    }

    #[test]
    fn codes_are_uniform_and_keep_their_zeros() {
        // 10^6 draws over 1000 bins: the statistic has mean 999 and standard deviation 45.
        let (mut bins, mut leading_zero) = (vec![0_u32; 1000], 0_u32);
        let mut chance = OsChance;
        for _ in 0..1_000_000 {
            let code = Code::draw(6, &mut chance);
            assert_eq!(code.digits().len(), 6);
            bins[code.digits()[3..].parse::<usize>().unwrap()] += 1;
            leading_zero += u32::from(code.digits().starts_with('0'));
        }
        let chi: f64 = bins.iter().map(|&n| (f64::from(n) - 1000.0).powi(2) / 1000.0).sum();
        assert!((780.0..1240.0).contains(&chi), "chi-squared {chi}");
        assert!((98_000..102_000).contains(&leading_zero), "{leading_zero}");
    }

    #[test]
    fn a_guess_is_ascii_digits() {
        assert!(Code::parse("048291").is_some());
        for text in ["", "12345", "12345678901", "12345a", "１２３４５６", "123456\n", " 123456"]
        {
            assert!(Code::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_digest_is_bound_to_its_use() {
        let code = Code::draw(6, &mut SeededChance(3));
        let digest = code.digest(&pepper(), &BOUND);
        assert!(digest.matches(&code.digest(&pepper(), &BOUND)));
        let others = [
            Binding { verification: b"v2", ..BOUND },
            Binding { phone: b"p2", ..BOUND },
            Binding { purpose: b"reset", ..BOUND },
            Binding { tenant: b"bank", ..BOUND },
            Binding { purpose: b"loginshop", tenant: b"", ..BOUND },
        ];
        for other in others {
            assert!(!digest.matches(&code.digest(&pepper(), &other)));
        }
        let other_pepper = hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]);
        assert!(!digest.matches(&code.digest(&other_pepper, &BOUND)));
    }

    #[test]
    fn neither_code_nor_digest_prints() {
        let code = Code::draw(6, &mut SeededChance(3));
        let printed = format!("{code:?} {:?}", code.digest(&pepper(), &BOUND));
        assert_eq!(printed, "Code(…) CodeDigest(…)");
    }
}
