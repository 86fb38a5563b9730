//! The text of a message, for providers that take text. One segment in every language: a text
//! with Chinese characters holds 70 of them, one in plain Latin 160.

use crate::domain::code::Code;

/// The languages that messages are written in.
pub const LOCALES: [&str; 2] = ["zh", "en"];

/// The language to use for what a caller asked for, such as `en-US`.
pub fn locale(asked: Option<&str>) -> &'static str {
    let asked = asked.unwrap_or_default().to_ascii_lowercase();
    LOCALES.into_iter().find(|known| asked.starts_with(known)).unwrap_or("zh")
}

/// The message in a language.
pub fn text(locale: &str, code: &Code, minutes: u32) -> String {
    let code = code.digits();
    match locale {
        "en" => format!("{code} is your verification code, valid for {minutes} min."),
        _ => format!("您的验证码是{code},{minutes}分钟内有效。请勿告诉他人。"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_one_segment() {
        let code = Code::parse("0123456789").unwrap();
        for locale in LOCALES {
            let text = text(locale, &code, 10);
            let fits = if text.is_ascii() { text.len() <= 160 } else { text.chars().count() <= 70 };
            assert!(fits && text.contains("0123456789"), "{text}");
        }
    }

    #[test]
    fn a_locale_is_found_by_its_language() {
        assert_eq!(locale(Some("en-US,en;q=0.9")), "en");
        assert_eq!(locale(Some("ZH-hant")), "zh");
        assert_eq!(locale(Some("fr")), "zh");
        assert_eq!(locale(None), "zh");
    }
}
