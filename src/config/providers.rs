//! The `[[providers]]` tables: each is read by its kind, strictly.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use toml::{Table, Value};

use super::{Check, is_id, layers};
use crate::providers::Provider;
use crate::providers::kind::{self, Given, KINDS, Kind, Maker, Misfit, Parts};

/// A provider, resolved.
#[derive(Clone)]
pub struct ProviderConfig {
    name: String,
    kind: &'static Kind,
    maker: Maker,
    caution: Option<&'static str>,
}

impl ProviderConfig {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its kind.
    pub fn kind(&self) -> &'static str {
        self.kind.name
    }

    /// What its vendor's code means, where its dialect knows.
    pub fn explain(&self, code: &str) -> Option<String> {
        (self.kind.explain)(code)
    }

    /// What works, and should be looked at all the same before going live.
    pub fn caution(&self) -> Option<&'static str> {
        self.caution
    }

    /// Makes the provider.
    pub fn make(&self, parts: &Parts) -> Arc<dyn Provider> {
        (self.maker)(parts)
    }
}

impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.name, self.kind)
    }
}

pub(super) fn resolve(
    typed: Vec<Table>,
    code_digits: u8,
    check: &mut Check<'_>,
) -> Vec<ProviderConfig> {
    check(
        !typed.is_empty(),
        "providers: none is configured, so nothing could be sent; add a [[providers]] table \
         (kind = \"yuntongxun\", or \"simulated\" to try things out)"
            .to_owned(),
    );
    let mut names = HashSet::new();
    let mut resolved = Vec::new();
    for (place, mut table) in typed.into_iter().enumerate() {
        let at = format!("providers[{place}]");
        let word =
            |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name, wanted) = (word(table.get("name")), word(table.remove("kind").as_ref()));
        check(is_id(&name), format!("{at}.name: 1 to 64 letters, digits, - and _"));
        check(names.insert(name.clone()), format!("{at}.name: \"{name}\" is taken already"));
        let Some(kind) = kind::kind(&wanted) else {
            check(false, format!("{at}.kind: \"{wanted}\" is not known; known are {}", known()));
            continue;
        };
        let caution = (kind.caution)(&table);
        match (kind.read)(Given { table, code_digits }) {
            Ok(maker) => resolved.push(ProviderConfig { name, kind, maker, caution }),
            Err(Misfit::Unfit(unfit)) => {
                for unfit in unfit {
                    check(false, format!("{at}.{unfit}"));
                }
            }
            Err(Misfit::Form { path, message }) => {
                let path = if path == "." { at } else { format!("{at}.{path}") };
                check(false, layers::explain(&path, &message));
            }
        }
    }
    resolved
}

fn known() -> String {
    let names: Vec<_> = KINDS.iter().map(|kind| format!("\"{}\"", kind.name)).collect();
    names.join(", ")
}
