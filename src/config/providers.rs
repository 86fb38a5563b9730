//! The `[[providers]]` tables: each is read by its kind, strictly.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use toml::{Table, Value};

use super::{Check, is_id, layers, routes};
use crate::domain::money::{Micros, NoAmount};
use crate::domain::phone::Region;
use crate::providers::Provider;
use crate::providers::kind::{self, Bills, Given, KINDS, Kind, Maker, Misfit, Parts};
use crate::routing::prices::Price;

/// A provider, resolved.
#[derive(Clone)]
pub struct ProviderConfig {
    name: String,
    kind: &'static Kind,
    maker: Maker,
    caution: Option<&'static str>,
    price: Option<Price>,
    /// Whether it is somewhere else than on this machine, as far as the configuration says.
    distant: bool,
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

    /// What its messages cost; nothing where nobody said.
    pub fn price(&self) -> Price {
        self.price.clone().unwrap_or_default()
    }

    /// Whether its price was said.
    pub fn is_priced(&self) -> bool {
        self.price.is_some()
    }

    /// Whether its messages cost money: by its price, or, where nobody said one, because its kind
    /// is a vendor's and it is not a simulator on this machine.
    pub fn is_paid(&self) -> bool {
        match &self.price {
            Some(price) => !price.is_nothing(),
            None => self.distant && self.kind.bills != Bills::Nothing,
        }
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
        let distant = !table.get("base_url").and_then(Value::as_str).is_some_and(is_loopback);
        let price = price(&mut table, kind.bills == Bills::Segment, &at, check);
        match (kind.read)(Given { table, code_digits }) {
            Ok(maker) => {
                resolved.push(ProviderConfig { name, kind, maker, caution, price, distant });
            }
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

/// Takes the prices out of a provider's table: they are the same for every kind.
fn price(table: &mut Table, per_segment: bool, at: &str, check: &mut Check<'_>) -> Option<Price> {
    let (usual, others) = (table.remove("price"), table.remove("prices"));
    if usual.is_none() && others.is_none() {
        return None;
    }
    let mut amount = |key: &str, value: &Value| {
        let read = match value {
            Value::String(text) => text.parse::<Micros>(),
            Value::Integer(whole) => whole.to_string().parse(),
            // It was rounded to a fraction of two when it was read.
            _ => Err(NoAmount),
        };
        read.map_err(|error| check(false, format!("{at}.{key}: {error}, in quotes"))).ok()
    };
    let usual = usual.and_then(|value| amount("price", &value)).unwrap_or_default();
    let (mut countries, mut prefixes, mut strange) = (Vec::new(), Vec::new(), Vec::new());
    let others = match others {
        None => Table::new(),
        Some(Value::Table(others)) => others,
        Some(_) => {
            strange.push("prices: a table such as { CN = \"0.045\" }".to_owned());
            Table::new()
        }
    };
    for (whose, value) in &others {
        let key = format!("prices.{whose}");
        let Some(price) = amount(&key, value) else { continue };
        match (whose.parse::<Region>(), routes::is_prefix(whose)) {
            (Ok(country), _) => countries.push((country, price)),
            (Err(_), true) => prefixes.push((whose.clone(), price)),
            (Err(_), false) => {
                strange
                    .push(format!("{key}: neither a country such as CN nor a prefix like +86138"));
            }
        }
    }
    for told in strange {
        check(false, format!("{at}.{told}"));
    }
    Some(Price { usual, countries, prefixes, per_segment })
}

/// Whether a URL names this very machine: a simulator, a sandbox or a proxy for tests.
fn is_loopback(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn known() -> String {
    let names: Vec<_> = KINDS.iter().map(|kind| format!("\"{}\"", kind.name)).collect();
    names.join(", ")
}
