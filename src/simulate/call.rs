//! A request as it came, and what is said to it.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};

use super::desk::Order;
use crate::domain::phone::Phone;
use crate::providers::{signing, wire};

/// A request.
pub(super) struct Call {
    /// `POST` or `GET`.
    pub(super) method: String,
    /// The path without `/as/{name}`.
    pub(super) path: String,
    /// The path as it came, which is what is signed.
    pub(super) whole_path: String,
    /// The query as it came.
    pub(super) query: String,
    /// The headers.
    pub(super) headers: HeaderMap,
    /// The body.
    pub(super) body: Vec<u8>,
    /// The name in `/as/{name}`.
    pub(super) under: Option<String>,
}

impl Call {
    pub(super) fn new(
        method: &str,
        path: &str,
        query: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Self {
        let rest = path.strip_prefix("/as/");
        let (under, short) = match rest.map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            Some((name, rest)) if is_name(name) => (Some(name.to_owned()), format!("/{rest}")),
            _ => (None, path.to_owned()),
        };
        Self {
            method: method.to_owned(),
            path: short,
            whole_path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body,
            under,
        }
    }

    /// A header's value; empty if it is missing or no text.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(super) fn authorization(&self) -> &str {
        self.header(AUTHORIZATION.as_str())
    }

    pub(super) fn content_type(&self) -> &str {
        self.header(CONTENT_TYPE.as_str())
    }

    /// The body as a text; nothing else is any vendor's.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    /// The pairs of the query, decoded.
    pub(super) fn query_pairs(&self) -> Vec<(String, String)> {
        wire::form(&self.query)
    }

    /// The pairs of the body, which is a form.
    pub(super) fn form(&self) -> Fields {
        Fields(wire::form(self.text()))
    }

    /// The user and password of HTTP Basic.
    pub(super) fn basic(&self) -> Option<(String, String)> {
        use base64::Engine;
        let given = self.authorization().strip_prefix("Basic ")?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(given).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
    }

    /// The headers of these names, in their order, as they are signed.
    pub(super) fn signed<'a>(&'a self, names: &'a str) -> Vec<(&'a str, &'a str)> {
        names.split(';').map(|name| (name, self.header(name))).collect()
    }

    /// The query sorted and encoded anew, as it is signed.
    pub(super) fn sorted_query(&self) -> String {
        let mut pairs = self.query_pairs();
        pairs.sort();
        signing::query(pairs.iter().map(|(name, value)| (&**name, &**value)))
    }

    pub(super) fn has_host(&self) -> bool {
        self.headers.contains_key(HOST)
    }
}

pub(super) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// The fields of a form.
pub(super) struct Fields(pub(super) Vec<(String, String)>);

impl Fields {
    /// A field; empty if it is missing.
    pub(super) fn get(&self, wanted: &str) -> &str {
        let found = self.0.iter().find(|(name, _)| name == wanted);
        found.map_or("", |(_, value)| value)
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// The content type.
    pub(super) kind: &'static str,
    /// The body.
    pub(super) body: String,
}

impl Answer {
    pub(super) fn new(status: u16, kind: &'static str, body: String) -> Self {
        Self { status, kind, body }
    }

    pub(super) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", body.to_string())
    }
}

/// What a request asks for.
pub(super) enum Asked {
    /// Messages.
    Send(Vec<Order>),
    /// Something else, which is answered already.
    Answer(Answer),
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status; 0 for what the dialect has for this code.
    pub(super) status: u16,
    /// The vendor's code.
    pub(super) code: String,
    /// What is wrong, in our words.
    pub(super) text: &'static str,
}

impl Refusal {
    pub(super) fn new(code: &str, text: &'static str) -> Self {
        Self::coded(0, code.to_owned(), text)
    }

    pub(super) fn coded(status: u16, code: String, text: &'static str) -> Self {
        Self { status, code, text }
    }
}

/// Goes on if `holds`, and refuses with this code otherwise.
pub(super) fn ensure(holds: bool, code: &str, text: &'static str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::new(code, text)) }
}

/// Whether two texts are the same, in constant time, as a vendor compares.
pub(super) fn same(one: &str, other: &str) -> bool {
    use aws_lc_rs::constant_time::verify_slices_are_equal;
    verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// A mainland number as Chinese vendors take it: eleven digits, or the same with 86, 0086 or +86.
pub(super) fn mainland(text: &str) -> Option<Phone> {
    let bare = ["+86", "0086", "86", ""].into_iter().filter_map(|code| text.strip_prefix(code));
    let mobile = |digits: &&str| digits.len() == 11 && digits.starts_with('1');
    let found = bare.into_iter().find(mobile)?;
    Phone::from_e164(&format!("+86{found}"))
}

/// The code in a text: its first run of four to ten digits.
pub(super) fn code_in(text: &str) -> String {
    let runs = text.split(|letter: char| !letter.is_ascii_digit());
    runs.into_iter().find(|run| (4..=10).contains(&run.len())).unwrap_or_default().to_owned()
}

/// Whether something that links or looks like one stands in a text: vendors refuse such values.
pub(super) fn has_link(text: &str) -> bool {
    ["http://", "https://", "www."].into_iter().any(|link| text.contains(link))
}
