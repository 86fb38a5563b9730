//! A phone number, parsed once at the door.
//!
//! libphonenumber is generous: it takes letters for digits, extensions, and digits of every
//! script. A generous parser in front of a limit means that one phone has many keys, so this one
//! first narrows the text down to `+`, ASCII digits, spaces, `-`, `(` and `)` and only then asks
//! the library whether the number exists and can take messages.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, PhoneNumberType};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// The longest text that can be a phone number, in bytes after normalisation.
const TEXT_MAX: usize = 24;
/// The longest text looked at at all: full-width characters take three bytes each.
const RAW_MAX: usize = 3 * TEXT_MAX;

/// A country or region by its two-letter ISO 3166-1 code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region([u8; 2]);

impl Region {
    /// Mainland China.
    pub const CN: Self = Self(*b"CN");

    /// The code, in capitals.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("two ASCII letters")
    }

    fn known(self) -> Option<rlibphonenumber::Region> {
        self.as_str().parse().ok()
    }

    fn calling_code(self) -> Option<i32> {
        PHONE_NUMBER_UTIL.get_country_code_for_region(self.known()?)
    }
}

impl FromStr for Region {
    type Err = UnknownRegion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownRegion(text.chars().take(8).collect());
        let upper = text.to_ascii_uppercase();
        let code = <[u8; 2]>::try_from(upper.as_bytes()).map_err(|_| unknown())?;
        let region = code.iter().all(u8::is_ascii_uppercase).then_some(Self(code));
        region.filter(|region| region.calling_code().is_some()).ok_or_else(unknown)
    }
}

impl TryFrom<String> for Region {
    type Error = UnknownRegion;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.as_str().to_owned()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no region with a telephone network.
#[derive(Debug, thiserror::Error)]
#[error("\"{0}\" is not a two-letter country code (ISO 3166-1, such as \"CN\")")]
pub struct UnknownRegion(String);

/// Which numbers are taken.
#[derive(Clone, Debug)]
pub struct PhoneRules {
    /// The region of a number written without a country code.
    pub default_region: Region,
    /// Where messages may go; a number elsewhere is refused before anything is spent.
    pub countries: BTreeSet<Region>,
}

impl PhoneRules {
    fn serves_calling_code(&self, code: i32) -> bool {
        self.countries.iter().any(|region| region.calling_code() == Some(code))
    }
}

/// Why a text is not a phone that a message may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    /// Not one number written in a form that is taken.
    #[error("not a phone number: write one number with digits, spaces, '-', '(', ')' and '+'")]
    Malformed,
    /// A number, but not one that exists or can take text messages.
    #[error("not the number of a mobile phone")]
    NotMobile,
    /// A number of a country that is not on the list.
    #[error("numbers of this country are not served")]
    Country,
}

/// One E.164 number: `+`, then 7 to 15 digits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Phone(String);

impl Phone {
    /// Parses what a person may type. Every accepted spelling of a number gives the same `Phone`.
    pub fn parse(text: &str, rules: &PhoneRules) -> Result<Self, PhoneError> {
        let text = narrow(text).ok_or(PhoneError::Malformed)?;
        let number = PHONE_NUMBER_UTIL
            .parse(&text, rules.default_region.known())
            .map_err(|_| PhoneError::Malformed)?;
        // The calling code comes first: who may not be served learns no more than that, and no
        // patterns are compiled for countries that nobody is served in (they take 100 MB).
        if !rules.serves_calling_code(number.country_code) {
            return Err(PhoneError::Country);
        }
        if !number.is_valid() {
            return Err(PhoneError::NotMobile);
        }
        // Several countries may share a calling code.
        let region = number.get_region_code().map(|region| region.to_string());
        let region = region.and_then(|code| code.parse::<Region>().ok());
        if !region.is_some_and(|region| rules.countries.contains(&region)) {
            return Err(PhoneError::Country);
        }
        let mobile = [PhoneNumberType::Mobile, PhoneNumberType::FixedLineOrMobile]
            .contains(&number.get_type());
        if !mobile {
            return Err(PhoneError::NotMobile);
        }
        Self::from_e164(&number.format_as(PhoneNumberFormat::E164)).ok_or(PhoneError::Malformed)
    }

    /// Takes back a number that was written by [`Phone::e164`].
    pub fn from_e164(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+')?;
        let fits = (7..=15).contains(&digits.len()) && !digits.starts_with('0');
        (fits && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| Self(text.to_owned()))
    }

    /// The whole number, `+` and digits. For providers and tokens; never for logs.
    pub fn e164(&self) -> &str {
        &self.0
    }

    /// The country, where the number tells. Cheap for mainland numbers; others are looked up.
    pub fn country(&self) -> Option<Region> {
        if self.mainland().is_some() {
            return Some(Region::CN);
        }
        let number = PHONE_NUMBER_UTIL.parse(&self.0, None).ok()?;
        number.get_region_code()?.to_string().parse().ok()
    }

    /// The national digits of a mainland number; `None` for any other country.
    pub fn mainland(&self) -> Option<&str> {
        self.0.strip_prefix("+86").filter(|digits| digits.len() == 11)
    }

    /// The number as most Chinese vendors want it: national digits in the mainland, otherwise the
    /// country's code and the number, without `+`.
    pub fn vendors(&self) -> String {
        self.mainland().unwrap_or_else(|| self.0.trim_start_matches('+')).to_owned()
    }

    /// The number with its middle hidden, for people and logs: `+86138****8000`.
    pub fn masked(&self) -> String {
        let length = self.0.len();
        let head = length.saturating_sub(8).clamp(3, 6);
        let tail = length - 4.min(length - head - 3);
        format!("{}****{}", &self.0[..head], &self.0[tail..])
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// The text in its narrow alphabet, or nothing. NFKC turns full-width digits, `＋` and no-break
/// spaces into plain ones; what it leaves outside the alphabet is not a number's.
fn narrow(text: &str) -> Option<String> {
    if text.len() > RAW_MAX {
        return None;
    }
    let text: String = text.nfkc().collect();
    let allowed = |byte: u8| byte.is_ascii_digit() || b"+ -()".contains(&byte);
    let one_plus = text.bytes().filter(|&byte| byte == b'+').count() <= 1;
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let fits = text.len() <= TEXT_MAX && digits >= 5;
    (fits && one_plus && text.bytes().all(allowed)).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules() -> PhoneRules {
        PhoneRules { default_region: Region::CN, countries: BTreeSet::from([Region::CN]) }
    }

    fn parse(text: &str) -> Result<String, PhoneError> {
        Phone::parse(text, &rules()).map(|phone| phone.e164().to_owned())
    }

    #[test]
    fn a_country_that_is_not_served_is_all_that_is_told_of_its_numbers() {
        for text in ["+1 202 555 0123", "001 415 555 0123", "+49 30 901820"] {
            assert_eq!(parse(text), Err(PhoneError::Country), "{text}");
        }
        // Not even whether such a number exists, for its patterns are not looked at.
        assert_eq!(parse("+1 000 000 0000"), Err(PhoneError::Country));
        assert_eq!(parse("+86 000 0000 0000"), Err(PhoneError::NotMobile));
    }

    #[test]
    fn every_accepted_spelling_is_one_number() {
        let spellings = [
            "13800138000",
            "+8613800138000",
            "+86 138 0013 8000",
            "+86-138-0013-8000",
            "+86 (138) 0013-8000",
            "(+86) 13800138000",
            "86 13800138000",
            "8613800138000",
            "008613800138000",
            "0086 138 0013 8000",
            "013800138000",
            "86013800138000",
            "+86013800138000",
            "１３８００１３８０００",
            "＋８６１３８００１３８０００",
            "+86\u{a0}138\u{a0}0013\u{a0}8000",
            " 13800138000 ",
            "138-0013-8000",
            "13８００１３８０００",
            "𝟏𝟑𝟖𝟎𝟎𝟏𝟑𝟖𝟎𝟎𝟎",
            "1795113800138000",
        ];
        for spelling in spellings {
            assert_eq!(parse(spelling).as_deref(), Ok("+8613800138000"), "{spelling:?}");
        }
    }

    #[test]
    fn what_is_not_one_plain_number_is_refused() {
        let texts = [
            "",
            " ",
            "+",
            "()",
            "12345",
            "13800138000,13811001",
            "13800138000,13811001000",
            "13800138000;13811001000",
            "13800138000|13811001000",
            "13800138000\n",
            "13800138000\r\nX: y",
            "13800138000\0",
            "13800138000x9",
            "13800138000;ext=9",
            "13800138000 ext 9",
            "tel:13800138000",
            "1-380-GOT-MILK",
            "١٣٨٠٠١٣٨٠٠٠",
            "१३८००१३८०००",
            "138\u{200b}00138000",
            "\u{202e}00083100831",
            "++8613800138000",
            "+86+13800138000",
            "138.0013.8000",
            "138/0013/8000",
            "[\"13800138000\"]",
            "+86 138 0013 8000 +86 138 0013 8001",
            "１３８００１３８０００，１３８１１００１０００",
            "9999999999999999999999999",
        ];
        for text in texts {
            assert!(parse(text).is_err(), "{text:?} gave {:?}", parse(text));
        }
        assert!(parse(&"1".repeat(1 << 20)).is_err());
    }

    #[test]
    fn numbers_that_cannot_take_a_message_are_refused() {
        for text in ["110", "12306", "10086", "01052823298", "4006176057", "+8614112345678"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["+979123456789", "+88213300655", "+870772001000"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_country_that_is_not_listed_is_told_apart() {
        assert_eq!(parse("+14155552671"), Err(PhoneError::Country));
        assert_eq!(parse("+85251234567"), Err(PhoneError::Country));
        let mut wider = rules();
        wider.countries.insert("de".parse().unwrap());
        let phone = Phone::parse("+49 1512 3456789", &wider).unwrap();
        assert_eq!(phone.e164(), "+4915123456789");
        assert_eq!(phone.mainland(), None);
    }

    #[test]
    fn regions_are_two_letters_with_a_network() {
        assert_eq!("cn".parse::<Region>().unwrap(), Region::CN);
        for text in ["", "C", "CHN", "ZZ", "86", "中国"] {
            assert!(text.parse::<Region>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_phone_prints_masked() {
        let phone = Phone::from_e164("+8613800138000").unwrap();
        assert_eq!(format!("{phone:?}"), "+86138****8000");
        assert_eq!(phone.mainland(), Some("13800138000"));
        for e164 in ["+1234567", "+123456789012345"] {
            let masked = Phone::from_e164(e164).unwrap().masked();
            assert!(masked.contains("****") && masked.len() <= 14, "{masked}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_e164(text in "[+0-9 ()\\-]{0,30}") {
            if let Ok(phone) = Phone::parse(&text, &rules()) {
                prop_assert_eq!(Phone::from_e164(phone.e164()), Some(phone.clone()));
                let again = Phone::parse(phone.e164(), &rules()).unwrap();
                prop_assert_eq!(again, phone);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = Phone::parse(&text, &rules());
        }

        #[test]
        fn separators_do_not_make_a_new_number(middle in "[0-9]{8}", cuts in any::<u16>()) {
            let plain = format!("138{middle}");
            let spread: String = plain.chars().enumerate()
                .flat_map(|(place, digit)| {
                    let cut = place > 0 && cuts >> place & 1 == 1;
                    [cut.then_some('-'), Some(digit)].into_iter().flatten()
                })
                .collect();
            prop_assert_eq!(parse(&spread), parse(&plain));
        }
    }
}
