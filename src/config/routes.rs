//! The `[[routes]]` tables: whose messages go through whom.

use super::typed::{self, TypedRoute};
use super::{Check, ProviderConfig};
use crate::domain::money::Micros;
use crate::domain::phone::{PhoneRules, Region};
use crate::routing::Route;

/// The shortest and the longest prefix, with its `+`.
const PREFIX: std::ops::RangeInclusive<usize> = 2..=16;

pub(super) fn resolve(
    typed: Vec<TypedRoute>,
    providers: &[ProviderConfig],
    phones: &PhoneRules,
    check: &mut Check<'_>,
) -> Vec<Route> {
    let mut resolved: Vec<Route> = Vec::new();
    for (place, typed) in typed.into_iter().enumerate() {
        let at = format!("routes[{place}]");
        let mut countries = Vec::new();
        for text in &typed.countries {
            match text.parse::<Region>() {
                Ok(region) => {
                    let served = phones.countries.contains(&region);
                    let told = "is not in phone.countries, so no number of it is ever taken";
                    check(served, format!("{at}.countries: {region:?} {told}"));
                    countries.push(region);
                }
                Err(error) => check(false, format!("{at}.countries: {error}")),
            }
        }
        for prefix in &typed.prefixes {
            check(is_prefix(prefix), format!("{at}.prefixes: \"{prefix}\" is not like \"+86138\""));
        }
        let places = places(&typed.providers, providers, &at, check);
        let weighted = typed.weights.is_empty() || typed.weights.len() == typed.providers.len();
        let told = "give one for each of providers, in their order, or none";
        check(weighted, format!("{at}.weights: {told}"));
        let some = typed.weights.is_empty() || typed.weights.iter().any(|weight| *weight > 0);
        check(some, format!("{at}.weights: at least one is above 0"));
        let weights = if weighted { typed.weights } else { Vec::new() };
        let route = Route { countries, prefixes: typed.prefixes, providers: places, weights };
        if let Some(earlier) = resolved.iter().position(|earlier| covers(earlier, &route)) {
            let told = format!("is never used: routes[{earlier}] comes first for all its numbers");
            check(false, format!("{at}: {told}"));
        }
        resolved.push(route);
    }
    resolved
}

/// What an entered code is worth, if the choice is adaptive.
pub(super) fn adaptive(typed: &typed::Routing, check: &mut Check<'_>) -> Option<Micros> {
    let worth = typed.worth.parse::<Micros>();
    if let Err(error) = &worth {
        check(false, format!("routing.worth: {error}"));
    }
    let some = !worth.as_ref().is_ok_and(Micros::is_nothing);
    check(some, "routing.worth: above 0, or the cheapest provider would always win".to_owned());
    worth.ok().filter(|_| typed.adaptive)
}

/// Whether a text is what numbers of some place begin with.
pub(super) fn is_prefix(text: &str) -> bool {
    let digits = text.strip_prefix('+').filter(|digits| !digits.starts_with('0'));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    PREFIX.contains(&text.len()) && digits.is_some_and(plain)
}

fn places(
    names: &[String],
    providers: &[ProviderConfig],
    at: &str,
    check: &mut Check<'_>,
) -> Vec<usize> {
    check(!names.is_empty(), format!("{at}.providers: name at least one of [[providers]]"));
    let mut places = Vec::new();
    for name in names {
        let found = providers.iter().position(|provider| provider.name() == name);
        let Some(found) = found else {
            let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
            let nearest = providers.iter().map(ProviderConfig::name).min_by_key(distance);
            let hint = nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"));
            check(false, format!("{at}.providers: \"{name}\" is no provider{hint}"));
            continue;
        };
        check(!places.contains(&found), format!("{at}.providers: \"{name}\" is there twice"));
        places.push(found);
    }
    places
}

/// Whether an earlier route takes every number that a later one is for. The longest prefix wins,
/// then a named country, then who comes first.
fn covers(earlier: &Route, later: &Route) -> bool {
    let countries = match (earlier.countries.is_empty(), later.countries.is_empty()) {
        (true, true) => true,
        (false, false) => later.countries.iter().all(|it| earlier.countries.contains(it)),
        _ => false,
    };
    let prefixes = match (earlier.prefixes.is_empty(), later.prefixes.is_empty()) {
        (true, true) => true,
        (false, false) => later.prefixes.iter().all(|it| earlier.prefixes.contains(it)),
        _ => false,
    };
    countries && prefixes
}
