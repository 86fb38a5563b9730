//! Caps: what may go out in an hour and in a day, and what holds where nothing is said.

use std::collections::BTreeSet;

use super::typed::{self, Amount, Count, CountryCaps};
use super::{Check, ProviderConfig};
use crate::clock::{DAY, Millis};
use crate::domain::cap::{Cap, Most};
use crate::domain::money::{Currency, Micros};
use crate::domain::phone::{PhoneRules, Region};
use crate::verifier::caps::Scope;

/// What holds for a provider that costs, where the operator says nothing: a day of a business that
/// starts, and a loss that it survives.
const USUAL: Cap = Cap {
    hour: Most { messages: Some(2_500), money: None },
    day: Most { messages: Some(10_000), money: None },
};
/// The longest that a phone stays known, in days.
const KNOWN_DAYS_MAX: u32 = 3650;

/// The caps, resolved.
#[derive(Clone, Debug)]
pub struct CapsConfig {
    /// The currency of prices and caps.
    pub currency: Currency,
    /// Whose caps hold.
    pub scopes: Vec<Scope>,
    /// How long a phone is known after its last right code; nothing where no cap holds.
    pub known_for: Millis,
    /// Whether the server's cap is the one that holds where nothing is said.
    pub usual: bool,
}

impl CapsConfig {
    /// The caps in words, one for each scope.
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<_> = self.scopes.iter().map(|scope| self.scope(scope)).collect();
        if words.is_empty() {
            words.push("none: no provider here costs anything".to_owned());
        }
        words
    }

    fn scope(&self, scope: &Scope) -> String {
        let messages = |most: Most| most.messages.map(|most| format!("{most} messages"));
        let money = |most: Most| most.money.map(|most| format!("{most} {}", self.currency));
        let parts = [(scope.cap.hour, "an hour"), (scope.cap.day, "a day")];
        let parts = parts.into_iter().flat_map(|(most, each)| {
            [messages(most), money(most)]
                .into_iter()
                .flatten()
                .map(move |it| format!("{it} {each}"))
        });
        let parts: Vec<_> = parts.collect();
        let usual = self.usual && scope.country.is_none();
        let told = if usual { " (the default; set caps.messages_per_day and so on)" } else { "" };
        format!("{}: {}{told}", scope.name(), parts.join(", "))
    }
}

pub(super) fn resolve(
    typed: typed::Caps,
    providers: &[ProviderConfig],
    phones: &PhoneRules,
    check: &mut Check<'_>,
) -> CapsConfig {
    let currency = typed.currency.parse::<Currency>();
    if let Err(error) = currency {
        check(false, format!("caps.currency: {error}"));
    }
    let fits = (1..=KNOWN_DAYS_MAX).contains(&typed.known_days);
    check(
        fits,
        format!("caps.known_days: {} is not within 1 to {KNOWN_DAYS_MAX}", typed.known_days),
    );
    let given = CountryCaps {
        messages_per_hour: typed.messages_per_hour,
        messages_per_day: typed.messages_per_day,
        money_per_hour: typed.money_per_hour,
        money_per_day: typed.money_per_day,
    };
    let said = given.says_anything();
    let paid = providers.iter().find(|provider| provider.is_paid());
    let mut server = cap(given, "caps", check);
    let usual = !said && paid.is_some();
    if usual {
        server = USUAL;
    }
    if let Some(paid) = paid {
        check(
            server.holds(),
            format!(
                "caps: {} costs money and nothing would stop the spending: give at least one of \
                 messages_per_hour, messages_per_day, money_per_hour and money_per_day",
                paid.name()
            ),
        );
    }
    let mut scopes = vec![Scope { country: None, cap: server }];
    for (name, caps) in typed.countries {
        let at = format!("caps.countries.{name}");
        let cap = cap(caps, &at, check);
        match name.parse::<Region>() {
            Ok(country) => {
                let served = phones.countries.contains(&country);
                check(served, format!("{at}: is not in phone.countries, so no message goes there"));
                scopes.push(Scope { country: Some(country), cap });
            }
            Err(error) => check(false, format!("{at}: {error}")),
        }
    }
    scopes.retain(|scope| scope.cap.holds());
    priced(&scopes, providers, check);
    let known_for = Millis::from(typed.known_days) * DAY;
    let known_for = if scopes.is_empty() { 0 } else { known_for };
    CapsConfig { currency: currency.unwrap_or_default(), scopes, known_for, usual }
}

/// A cap on money counts nothing through a provider whose price nobody said.
fn priced(scopes: &[Scope], providers: &[ProviderConfig], check: &mut Check<'_>) {
    if !scopes.iter().any(|scope| scope.cap.counts_money()) {
        return;
    }
    let unpriced = providers.iter().filter(|provider| provider.is_paid() && !provider.is_priced());
    let names: BTreeSet<_> = unpriced.map(ProviderConfig::name).collect();
    for name in names {
        check(false, format!("caps: money is capped, so the provider {name} needs a `price`"));
    }
}

fn cap(caps: CountryCaps, at: &str, check: &mut Check<'_>) -> Cap {
    let mut messages = |key: &str, given: Option<Count>| match given {
        None | Some(Count::Number(0)) => None,
        Some(Count::Number(most)) => Some(most),
        Some(Count::Text(text)) if text == "none" => None,
        Some(Count::Text(text)) => {
            let number = text.parse::<u64>();
            check(number.is_ok(), format!("{at}.{key}: a number of messages, or \"none\""));
            number.ok().filter(|most| *most > 0)
        }
    };
    let hour = messages("messages_per_hour", caps.messages_per_hour);
    let day = messages("messages_per_day", caps.messages_per_day);
    let mut money = |key: &str, given: Option<Amount>| match given {
        None => None,
        Some(Amount::Whole(most)) => most.to_string().parse().ok(),
        Some(Amount::Text(text)) if text == "none" => None,
        Some(Amount::Text(text)) => {
            let amount = text.parse::<Micros>();
            if let Err(error) = &amount {
                check(false, format!("{at}.{key}: {error}, or \"none\""));
            }
            amount.ok()
        }
    };
    let above_nothing = |amount: &Micros| !amount.is_nothing();
    let hour_money = money("money_per_hour", caps.money_per_hour).filter(above_nothing);
    let day_money = money("money_per_day", caps.money_per_day).filter(above_nothing);
    Cap {
        hour: Most { messages: hour, money: hour_money },
        day: Most { messages: day, money: day_money },
    }
}

#[cfg(test)]
mod tests;
