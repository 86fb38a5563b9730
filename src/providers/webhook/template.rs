//! The body of a webhook: members of your choice, whose texts hold placeholders. A placeholder is
//! filled after the template was read, so no value can change the body's form.

use serde::Deserialize;
use toml::Value;

use crate::providers::{Message, signing};

/// What may stand in braces.
const KNOWN: [&str; 5] = ["phone", "code", "minutes", "text", "reference"];

/// What to do about a placeholder that is not known.
pub(super) const ADVICE: &str = "in braces may stand {phone}, {code}, {minutes}, {text} and \
                                 {reference}; a brace of your own is written twice";

/// The members.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Template(toml::Table);

impl Default for Template {
    fn default() -> Self {
        let member = |name: &&str| ((*name).to_owned(), Value::String(format!("{{{name}}}")));
        Self(KNOWN.iter().map(member).collect())
    }
}

impl Template {
    /// Whether all placeholders are known.
    pub(super) fn is_known(&self) -> bool {
        self.placeholders().is_some()
    }

    /// Whether a body says to whom and what.
    pub(super) fn shows_phone_and_code(&self) -> bool {
        let Some(placeholders) = self.placeholders() else { return true };
        let has = |wanted: &str| placeholders.iter().any(|name| name == wanted);
        has("phone") && (has("code") || has("text"))
    }

    /// Whether no member has members.
    pub(super) fn is_flat(&self) -> bool {
        self.0.values().all(|value| !value.is_table() && !value.is_array())
    }

    fn placeholders(&self) -> Option<Vec<String>> {
        let mut found = Vec::new();
        let texts = texts(&Value::Table(self.0.clone()));
        for text in texts {
            fill(&text, &mut |name| {
                found.push(name.to_owned());
                KNOWN.contains(&name).then(String::new)
            })?;
        }
        Some(found)
    }

    /// The body as JSON.
    pub(super) fn json(&self, message: &Message) -> String {
        filled(&Value::Table(self.0.clone()), message).to_string()
    }

    /// The body as a form.
    pub(super) fn form(&self, message: &Message) -> String {
        let text = |value: &Value| match filled(value, message) {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| (name, text(value))).collect();
        signing::query(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::Table(table) => table.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn filled(value: &Value, message: &Message) -> serde_json::Value {
    let of = |name: &str| {
        Some(match name {
            "phone" => message.phone.e164().to_owned(),
            "code" => message.code.digits().to_owned(),
            "minutes" => message.minutes.to_string(),
            "text" => message.text.clone(),
            "reference" => message.reference.clone(),
            _ => return None,
        })
    };
    match value {
        Value::String(text) => fill(text, &mut |name| of(name)).unwrap_or_default().into(),
        Value::Array(list) => list.iter().map(|value| filled(value, message)).collect(),
        Value::Table(table) => {
            table.iter().map(|(name, value)| (name.clone(), filled(value, message))).collect()
        }
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Boolean(truth) => (*truth).into(),
        Value::Datetime(at) => at.to_string().into(),
    }
}

/// The text with its placeholders filled; `None` if one is not known or not closed.
fn fill(text: &str, of: &mut dyn FnMut(&str) -> Option<String>) -> Option<String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = brace.strip_prefix("{{") {
            out.push('{');
            rest = after;
        } else if let Some(after) = brace.strip_prefix("}}") {
            out.push('}');
            rest = after;
        } else {
            let (name, after) = brace.strip_prefix('{')?.split_once('}')?;
            out.push_str(&of(name)?);
            rest = after;
        }
    }
    out.push_str(rest);
    Some(out)
}
