//! The texts of messages, and their last line.

use super::{Check, typed};
use crate::domain::code::{Code, DIGITS};
use crate::domain::policy::Policy;
use crate::message::{self, LastLine, Texts};

/// Resolves the texts, which have to fit into one segment each.
pub(super) fn resolve(typed: &typed::Message, policy: &Policy, check: &mut Check<'_>) -> Texts {
    let (host, hash) = (&typed.web_otp_host, &typed.android_app_hash);
    check(
        host.is_empty() || hash.is_empty(),
        "message.android_app_hash: web_otp_host wants the last line, too; give one of them"
            .to_owned(),
    );
    let in_host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    check(
        host.bytes().all(in_host) && !host.starts_with('.') && !host.ends_with('.'),
        "message.web_otp_host: write the host alone, such as shop.example".to_owned(),
    );
    let in_hash = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    check(
        hash.is_empty() || (hash.len() == 11 && hash.bytes().all(in_hash)),
        "message.android_app_hash: 11 letters, digits, + and /".to_owned(),
    );
    let last = match (host.as_str(), hash.as_str()) {
        ("", "") => LastLine::None,
        ("", hash) => LastLine::AndroidApp(hash.to_owned()),
        (host, _) => LastLine::WebOtp(host.to_owned()),
    };
    let texts = Texts { zh: typed.texts.zh.clone(), en: typed.texts.en.clone(), last };
    for (locale, text) in [("zh", &texts.zh), ("en", &texts.en)] {
        let mistake = message::mistake(text);
        let told = mistake.unwrap_or_default();
        check(mistake.is_none(), format!("message.texts.{locale}: {told}"));
    }
    let digits = usize::from(policy.code_digits.clamp(*DIGITS.start(), *DIGITS.end()));
    let Some(code) = Code::parse(&"0".repeat(digits)) else { return texts };
    let fits = |locale: &str, texts: &Texts| {
        message::segments(&message::text(locale, &code, policy.code_minutes(), texts)) == 1
    };
    let bare = Texts { last: LastLine::None, ..texts.clone() };
    for locale in message::LOCALES {
        let (bare, whole) = (fits(locale, &bare), fits(locale, &texts));
        check(bare, format!("message.texts.{locale}: it is longer than one segment"));
        let key = if hash.is_empty() { "web_otp_host" } else { "android_app_hash" };
        let told = format!("message.{key}: it makes the text in {locale} longer than one segment");
        check(whole || !bare, told);
    }
    texts
}
