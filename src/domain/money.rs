//! Money, in whole millionths of one currency: a message costs fractions of a cent, and sums of
//! fractions must be exact. So a price is read digit by digit and never passes through a float.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The digits behind the point of an amount.
const DECIMALS: usize = 6;
/// One whole unit of the currency, in millionths.
pub const UNIT: u64 = 1_000_000;
/// The most digits before the point: no sum of a day's messages comes near.
const WHOLE_MAX: usize = 9;

/// An amount in millionths of the currency.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Micros(pub u64);

impl Micros {
    /// Whether it is nothing.
    pub fn is_nothing(&self) -> bool {
        self.0 == 0
    }

    /// So many times the amount.
    #[must_use]
    pub fn times(self, count: usize) -> Self {
        Self(self.0.saturating_mul(u64::try_from(count).unwrap_or(u64::MAX)))
    }

    /// What is left of it.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::ops::Add for Micros {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::iter::Sum for Micros {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), |sum, amount| sum + amount)
    }
}

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write an amount such as \"0.045\": up to nine digits, and up to six behind the point")]
pub struct NoAmount;

impl FromStr for Micros {
    type Err = NoAmount;

    fn from_str(text: &str) -> Result<Self, NoAmount> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str, max: usize| {
            (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(whole, WHOLE_MAX) || !digits(part, DECIMALS) {
            return Err(NoAmount);
        }
        let number = |text: &str| text.parse::<u64>().map_err(|_| NoAmount);
        Ok(Self(number(whole)? * UNIT + number(&format!("{part:0<DECIMALS$}"))?))
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / UNIT, self.0 % UNIT);
        let part = format!("{part:0DECIMALS$}");
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            part => write!(f, "{whole}.{part}"),
        }
    }
}

/// A currency by its three letters (ISO 4217).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a currency is three ASCII letters")
    }
}

impl Default for Currency {
    fn default() -> Self {
        Self(*b"CNY")
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Currency {
    type Err = NoCurrency;

    fn from_str(text: &str) -> Result<Self, NoCurrency> {
        let letters = <[u8; 3]>::try_from(text.as_bytes()).map_err(|_| NoCurrency)?;
        let capitals = letters.iter().all(u8::is_ascii_uppercase);
        if capitals { Ok(Self(letters)) } else { Err(NoCurrency) }
    }
}

/// Why a text is no currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write three capital letters, such as \"CNY\"")]
pub struct NoCurrency;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_digit_by_digit() {
        for (text, micros) in [
            ("0", 0),
            ("0.045", 45_000),
            ("0.0450", 45_000),
            ("0.000001", 1),
            ("1", 1_000_000),
            ("12.3", 12_300_000),
            ("007.5", 7_500_000),
            ("999999999.999999", 999_999_999_999_999),
            // What a float would make 0.28999999999999998.
            ("0.29", 290_000),
        ] {
            assert_eq!(text.parse(), Ok(Micros(micros)), "{text}");
        }
        for text in
            ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "1.0000001", "1234567890", "１"]
        {
            assert_eq!(text.parse::<Micros>(), Err(NoAmount), "{text:?}");
        }
        assert_eq!(Micros(45_000).to_string(), "0.045");
        assert_eq!(Micros(12_000_000).to_string(), "12");
    }

    #[test]
    fn a_sum_neither_wraps_nor_goes_below_nothing() {
        assert_eq!(Micros(u64::MAX) + Micros(1), Micros(u64::MAX));
        assert_eq!(Micros(u64::MAX).times(3), Micros(u64::MAX));
        assert_eq!(Micros(1).less(Micros(2)), Micros(0));
        assert_eq!([1, 2, 3].map(Micros).into_iter().sum::<Micros>(), Micros(6));
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert_eq!("EUR".parse::<Currency>().unwrap().as_str(), "EUR");
        for text in ["", "eur", "EURO", "E1R", "元"] {
            assert_eq!(text.parse::<Currency>(), Err(NoCurrency), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn an_amount_is_read_as_it_is_shown(micros in 0_u64..1_000_000_000_000_000) {
            prop_assert_eq!(Micros(micros).to_string().parse(), Ok(Micros(micros)));
        }
    }
}
