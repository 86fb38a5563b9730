//! What dialects share in reading answers: vendors' names and codes come from outside, and only
//! what has the form of one is stored, logged or passed on.

use jiff::tz::Offset;
use reqwest::Url;
use serde_json::Value;

use super::{Class, Outcome};
use crate::clock::{self, Millis};

/// It is not known what became of the message.
pub fn unknown(what: impl Into<String>) -> Outcome {
    Outcome::of(Class::UnknownOutcome, what)
}

/// The outcome of a call that only asked: "the message may have been sent" would mislead there.
pub fn only_asked(outcome: Outcome) -> Outcome {
    match outcome.class {
        Class::UnknownOutcome => Outcome { class: Class::ProviderError, ..outcome },
        _ => outcome,
    }
}

/// A text, or a number as a text: the vendor documents texts, and its clients are not so strict.
pub fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => number.as_u64().map(|number| number.to_string()),
        _ => None,
    }
}

/// A name or code from outside in the form that such things have, so that it may be stored and
/// logged: short, and of few characters (carriers' codes look like `MK:0001`, ids like `9007^0`).
pub fn word(value: &Value, length_max: usize) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:^".contains(&byte);
    text_of(value).filter(|text| (1..=length_max).contains(&text.len()) && text.bytes().all(plain))
}

/// The carrier's code in a receipt.
pub fn carriers_code(code: Option<&Value>) -> String {
    code.and_then(|code| word(code, 32)).unwrap_or_else(|| "garbled".to_owned())
}

/// A vendor's code that is made of words, such as `isv.BUSINESS_LIMIT_CONTROL`. Digits have no
/// place in one: they could be a phone's or a code's.
pub fn code_word(value: &Value) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphabetic() || b"._".contains(&byte);
    let text = value.as_str()?;
    ((1..=96).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

/// What stands in an element of XML, where a vendor answers in it. That much does for answers
/// without attributes and repetitions.
pub fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner)
}

/// The class of a refusal that only its HTTP status tells something about.
pub fn by_status(status: u16) -> Class {
    match status {
        401 | 403 => Class::AuthFailed,
        402 => Class::BalanceExhausted,
        429 => Class::RateLimitedAccount,
        // "Timed out" says nothing about what was done before.
        408 => Class::UnknownOutcome,
        400..=499 => Class::BadRequest,
        _ => Class::UnknownOutcome,
    }
}

/// The time in China, which has kept UTC+8 without summer time since 1991.
pub fn in_china(wall: Millis, format: &str) -> String {
    Offset::constant(8).to_datetime(clock::timestamp(wall)).strftime(format).to_string()
}

/// The time in Greenwich.
pub fn in_greenwich(wall: Millis, format: &str) -> String {
    Offset::UTC.to_datetime(clock::timestamp(wall)).strftime(format).to_string()
}

/// The `Host` header of calls to a base URL, and the path before theirs.
pub fn host_and_path(base_url: &str) -> (String, String) {
    let Ok(url) = Url::parse(base_url) else { return (String::new(), "/".to_owned()) };
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    (host, format!("{}/", url.path().trim_end_matches('/')))
}

/// The pairs of a form or query, decoded.
pub fn form(text: &str) -> Vec<(String, String)> {
    let mut url = Url::parse("http://form/").expect("a constant is a URL");
    url.set_query(Some(text));
    url.query_pairs().into_owned().collect()
}
