//! Vendors' codes: how a dialect writes down what each means, and how it is looked up.

use crate::domain::outcome::Class;

/// One code, or a range of codes that mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The code.
    pub first: &'static str,
    /// The end of the range; the same as `first` for a single code.
    pub last: &'static str,
    /// What is done about it.
    pub class: Class,
    /// What it means, in our words or the vendor's, shortened; empty where the code says it. It
    /// stands here and is never taken from an answer, which may quote phone and code.
    pub meaning: &'static str,
    /// What an operator can do, where the class alone does not tell.
    pub hint: Option<&'static str>,
}

impl Entry {
    /// The same with a hint.
    #[must_use]
    pub const fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// In words, for `doctor` and `send-test`.
    pub fn explained(&self) -> String {
        let told = [self.meaning, self.hint.unwrap_or_default()];
        let told =
            told.map(|text| if text.is_empty() { String::new() } else { format!(": {text}") });
        format!("{}{}", self.first, told.concat())
    }
}

/// Codes from one to another that mean the same.
pub const fn range(
    first: &'static str,
    last: &'static str,
    class: Class,
    meaning: &'static str,
) -> Entry {
    Entry { first, last, class, meaning, hint: None }
}

/// A single code.
pub const fn one(code: &'static str, class: Class, meaning: &'static str) -> Entry {
    range(code, code, class, meaning)
}

/// A code that says itself what it means.
pub const fn plain(code: &'static str, class: Class) -> Entry {
    one(code, class, "")
}

/// Finds a code in a table that is sorted.
pub fn lookup(table: &'static [Entry], code: &str) -> Option<&'static Entry> {
    let after = table.partition_point(|entry| entry.last < code);
    table.get(after).filter(|entry| entry.first <= code)
}

/// Asserts what every table of codes must hold: sorted, no overlap, and the same codes, classes
/// and nothing else as the map in `tests/vectors`.
#[cfg(test)]
pub(super) fn assert_is_the_map(table: &'static [Entry], map: &str, count: usize) {
    #[derive(serde::Deserialize)]
    struct Known {
        class: Class,
    }
    for pair in table.windows(2) {
        assert!(pair[0].last < pair[1].first, "{pair:?}");
    }
    let known: std::collections::BTreeMap<String, Known> =
        serde_json::from_str(map).expect("the map is JSON");
    assert_eq!((known.len(), table.len()), (count, count));
    for (code, expected) in &known {
        let entry = lookup(table, code);
        assert_eq!(entry.map(|entry| entry.class), Some(expected.class), "{code}");
    }
    for odd in ["", "?", "~", " OK", "ok ", "zzz", "验证码"] {
        assert_eq!(lookup(table, odd), None, "{odd}");
    }
}
