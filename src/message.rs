//! The text of a message, for providers that take text. One segment in every language, and with
//! whatever is added for browsers or apps.

use crate::domain::code::Code;

/// The languages that messages are written in.
pub const LOCALES: [&str; 2] = ["zh", "en"];

/// What stands for code and minutes in a text.
const CODE: &str = "{code}";
const MINUTES: &str = "{minutes}";

/// What one segment holds: septets of GSM-7, or units of UCS-2 if any character is not in GSM-7.
const SEGMENT: (usize, usize) = (160, 70);
/// What each segment of a longer message holds.
const PART: (usize, usize) = (153, 67);
/// GSM-7 (GSM 03.38) in the order of its codes; the escape stands where it is.
const GSM: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\u{1b}ÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
                   ¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// What takes two septets there: the escape and this code.
const GSM_EXTENDED: [(char, u8); 10] = [
    ('\u{c}', 0x0a),
    ('^', 0x14),
    ('{', 0x28),
    ('}', 0x29),
    ('\\', 0x2f),
    ('[', 0x3c),
    ('~', 0x3d),
    (']', 0x3e),
    ('|', 0x40),
    ('€', 0x65),
];
/// The septet before the code of a character that takes two.
pub const GSM_ESCAPE: u8 = 0x1b;

/// What stands in the last line, so that a code can be taken over by itself. There is one last
/// line, so there is one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LastLine {
    /// Nothing.
    #[default]
    None,
    /// `WebOTP`: browsers on pages of this host offer the code.
    WebOtp(String),
    /// Android's SMS Retriever: the app of this hash reads the message.
    AndroidApp(String),
}

/// The texts, and what stands in their last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// The text in Chinese: `{code}` stands for the code, `{minutes}` for how long it is good.
    pub zh: String,
    /// The same in English.
    pub en: String,
    /// What stands in the last line.
    pub last: LastLine,
}

impl Default for Texts {
    fn default() -> Self {
        Self {
            zh: "您的验证码是{code},{minutes}分钟内有效。请勿告诉他人。".to_owned(),
            en: "{code} is your verification code, valid for {minutes} min.".to_owned(),
            last: LastLine::None,
        }
    }
}

/// What is wrong with a text, and what to do.
pub fn mistake(text: &str) -> Option<&'static str> {
    let rest = text.replace(CODE, "").replace(MINUTES, "");
    if text.matches(CODE).count() != 1 {
        Some("write {code} where the code stands, once")
    } else if rest.contains(['{', '}']) {
        Some("braces stand around code and minutes only")
    } else if text.contains(char::is_control) {
        Some("write one line")
    } else {
        None
    }
}

/// The language to use for what a caller asked for, such as `en-US`.
pub fn locale(asked: Option<&str>) -> &'static str {
    let asked = asked.unwrap_or_default().to_ascii_lowercase();
    LOCALES.into_iter().find(|known| asked.starts_with(known)).unwrap_or("zh")
}

/// The message in a language.
pub fn text(locale: &str, code: &Code, minutes: u32, texts: &Texts) -> String {
    let code = code.digits();
    let text = if locale == "en" { &texts.en } else { &texts.zh };
    let text = text.replace(MINUTES, &minutes.to_string()).replace(CODE, code);
    match &texts.last {
        LastLine::None => text,
        LastLine::WebOtp(host) => format!("{text}\n@{host} #{code}"),
        LastLine::AndroidApp(hash) => format!("{text}\n{hash}"),
    }
}

/// How many segments a text takes, as carriers count and bill.
pub fn segments(text: &str) -> usize {
    let gsm = gsm(text);
    let (length, one, part) = match gsm {
        Some(septets) => (septets, SEGMENT.0, PART.0),
        None => (text.encode_utf16().count(), SEGMENT.1, PART.1),
    };
    if length <= one { 1 } else { length.div_ceil(part) }
}

/// Whether a text can be sent in GSM-7. Some vendors have to be told.
pub fn is_gsm(text: &str) -> bool {
    gsm(text).is_some()
}

fn gsm(text: &str) -> Option<usize> {
    text.chars().map(septets).sum()
}

/// How many septets of GSM-7 a character takes; `None` if it is not in that alphabet.
fn septets(character: char) -> Option<usize> {
    gsm_code(character).map(|(escaped, _)| if escaped { 2 } else { 1 })
}

/// A character in GSM-7: whether its code has the escape before it, and its code; `None` if it is
/// not in that alphabet.
pub fn gsm_code(character: char) -> Option<(bool, u8)> {
    let extended = GSM_EXTENDED.iter().find(|(known, _)| *known == character);
    let plain = GSM.chars().position(|known| known == character);
    let plain = plain.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != GSM_ESCAPE);
    plain.map(|code| (false, code)).or(extended.map(|(_, code)| (true, *code)))
}

/// A text out of octets that hold a septet of GSM-7 each; `None` if they hold something else.
pub fn gsm_text(octets: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(octets.len());
    let mut octets = octets.iter();
    while let Some(octet) = octets.next() {
        if *octet == GSM_ESCAPE {
            let escaped = octets.next()?;
            text.push(GSM_EXTENDED.iter().find(|(_, code)| code == escaped)?.0);
        } else {
            text.push(GSM.chars().nth(usize::from(*octet))?);
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_one_segment() {
        let code = Code::parse("0123456789").unwrap();
        let lasts = [
            LastLine::None,
            LastLine::WebOtp("login.example.com".to_owned()),
            LastLine::AndroidApp("FA+9qCX9VSu".to_owned()),
        ];
        for (locale, last) in LOCALES.into_iter().flat_map(|it| lasts.iter().map(move |l| (it, l)))
        {
            let texts = Texts { last: last.clone(), ..Texts::default() };
            let text = text(locale, &code, 10, &texts);
            assert_eq!(segments(&text), 1, "{text}");
            assert!(text.contains("0123456789"), "{text}");
        }
    }

    #[test]
    fn the_last_line_is_what_browsers_and_apps_look_for() {
        let code = Code::parse("004217").unwrap();
        let with = |last| Texts { last, ..Texts::default() };
        let web = with(LastLine::WebOtp("shop.example".to_owned()));
        assert_eq!(text("en", &code, 5, &web).lines().last(), Some("@shop.example #004217"));
        let app = with(LastLine::AndroidApp("FA+9qCX9VSu".to_owned()));
        assert_eq!(text("zh", &code, 5, &app).lines().last(), Some("FA+9qCX9VSu"));
    }

    #[test]
    fn a_text_shows_the_code_once_in_one_line() {
        let code = Code::parse("004217").unwrap();
        let own = Texts {
            zh: "【某某】{minutes}分钟内输入{code}".to_owned(), ..Texts::default()
        };
        assert_eq!(text("zh", &code, 5, &own), "【某某】5分钟内输入004217");
        for (text, told) in [
            (own.zh.as_str(), None),
            (Texts::default().zh.as_str(), None),
            (Texts::default().en.as_str(), None),
            ("your code", Some("{code}")),
            ("{code} {code}", Some("once")),
            ("{code} for {name}", Some("braces")),
            ("{code} {", Some("braces")),
            ("{code}\n@evil.example #1", Some("one line")),
        ] {
            let mistake = mistake(text);
            let fits = |told: &str| mistake.is_some_and(|mistake| mistake.contains(told));
            assert!(told.map_or(mistake.is_none(), fits), "{text}: {mistake:?}");
        }
    }

    #[test]
    fn segments_are_counted_as_carriers_count() {
        let cases = [
            ("a".repeat(160), 1),
            ("a".repeat(161), 2),
            ("a".repeat(306), 2),
            ("a".repeat(307), 3),
            ("€".repeat(80), 1),
            ("€".repeat(80) + "a", 2),
            ("验".repeat(70), 1),
            ("验".repeat(71), 2),
            ("验".repeat(134), 2),
            ("验".repeat(135), 3),
            ("😀".repeat(35), 1), // two units each
            ("😀".repeat(36), 2),
            // A single character outside of GSM-7 makes the whole text UCS-2.
            ("a".repeat(70) + "`", 2),
            ("a".repeat(69) + "’", 1),
            (String::new(), 1),
        ];
        for (text, count) in cases {
            assert_eq!(segments(&text), count, "{text}");
        }
        assert_eq!((GSM.chars().count(), GSM_EXTENDED.len()), (128, 10));
        assert_eq!(
            ["@", "à", "€", "\u{1b}", "`", "验"].map(is_gsm),
            [true, true, true, false, false, false]
        );
        assert_eq!(
            ['A', 'a', '0', '¿', '€'].map(gsm_code),
            [
                Some((false, 0x41)),
                Some((false, 0x61)),
                Some((false, 0x30)),
                Some((false, 0x60)),
                Some((true, 0x65)),
            ]
        );
    }

    #[test]
    fn a_locale_is_found_by_its_language() {
        assert_eq!(locale(Some("en-US,en;q=0.9")), "en");
        assert_eq!(locale(Some("ZH-hant")), "zh");
        assert_eq!(locale(Some("fr")), "zh");
        assert_eq!(locale(None), "zh");
    }

    #[test]
    fn whatever_is_gsm_comes_back_from_its_octets() {
        let all: String = GSM.chars().filter(|it| *it != '\u{1b}').collect();
        let extended: String = GSM_EXTENDED.iter().map(|(character, _)| *character).collect();
        let octets = |text: &str| -> Vec<u8> {
            let codes = text.chars().map(|it| gsm_code(it).unwrap());
            codes
                .flat_map(
                    |(escaped, code)| {
                        if escaped { vec![GSM_ESCAPE, code] } else { vec![code] }
                    },
                )
                .collect()
        };
        for text in [all, extended, String::new()] {
            assert_eq!(gsm_text(&octets(&text)), Some(text));
        }
        for odd in [&[128][..], &[GSM_ESCAPE], &[GSM_ESCAPE, 1], &[255]] {
            assert_eq!(gsm_text(odd), None, "{odd:?}");
        }
    }
}
