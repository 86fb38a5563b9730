//! Which provider carries a message: the route of its country and prefix, without those that are
//! left out at the moment. All of this is in memory and costs no look at the store; each node
//! learns by itself.
//!
//! A route is a list of providers, in order or by weight. The first one that is not left out is
//! asked; the others follow if it fails. A resend begins with a provider that its verification has
//! not used. Outcomes decide what comes next, as ever: a route only says in which order.

pub mod adaptive;
pub mod breaker;
pub mod prices;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::chance::Chance;
use crate::clock::Clock;
use crate::domain::delivery::Carrier;
use crate::domain::money::Micros;
use crate::domain::outcome::{Class, Outcome};
use crate::domain::phone::{Phone, Region};
use crate::providers::{Provider, Providers};
use adaptive::Scores;
use breaker::{Breaker, Change, Why};
use prices::Prices;

/// The code of a call that was not made, since its provider is left out.
pub const LEFT_OUT: &str = "left-out";
/// The code of a call that was not made, since its provider fails and was asked often enough.
pub const RETRIES_SPENT: &str = "retries-spent";

/// The code of a call that was not made, since its claim or its deadline was over.
pub const TOO_LATE: &str = "too-late";

/// A route: for whom, and through whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The countries; none: any.
    pub countries: Vec<Region>,
    /// What the number begins with (`+86138`); none: anything.
    pub prefixes: Vec<String>,
    /// The providers, as places in the configured order.
    pub providers: Vec<usize>,
    /// The share of each as the first one; none: they are asked in order.
    pub weights: Vec<u32>,
}

impl Route {
    /// How well a number fits: the length of the prefix, then whether its country is named.
    fn fit(&self, phone: &Phone, country: Option<Region>) -> Option<(usize, bool)> {
        let named = country.is_some_and(|country| self.countries.contains(&country));
        let begins = |prefix: &&String| phone.e164().starts_with(prefix.as_str());
        let prefix = self.prefixes.iter().filter(begins).map(String::len).max();
        let fits =
            (self.countries.is_empty() || named) && (self.prefixes.is_empty() || prefix.is_some());
        fits.then_some((prefix.unwrap_or(0), named))
    }

    /// The providers in an order, drawn by weight where there are weights.
    fn order(&self, chance: &mut impl Chance) -> Vec<usize> {
        let mut left: Vec<_> = self.providers.iter().copied().zip(self.weights.clone()).collect();
        if left.is_empty() {
            return self.providers.clone();
        }
        let mut order = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let all: u64 = left.iter().map(|(_, weight)| u64::from(*weight)).sum();
            let mut drawn = chance.below(all.max(1));
            let place = left.iter().position(|(_, weight)| {
                let here = drawn < u64::from(*weight);
                drawn = drawn.saturating_sub(u64::from(*weight));
                here
            });
            order.push(left.remove(place.unwrap_or(0)).0);
        }
        order
    }
}

/// The order in which providers are asked about one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Places in the configured order, the first to be asked first.
    pub order: Vec<usize>,
    /// Where the number is.
    pub country: Option<Region>,
    /// Why it does not begin with the route's first, in words.
    pub note: Option<String>,
    /// What the message costs through each provider, by their places in the configured order;
    /// empty where no price is known.
    pub costs: Vec<Micros>,
}

impl Line {
    /// The provider to be asked first.
    pub fn first(&self) -> usize {
        self.order.first().copied().unwrap_or(0)
    }

    /// What the message costs through the provider at this place.
    pub fn cost(&self, place: usize) -> Micros {
        self.costs.get(place).copied().unwrap_or_default()
    }
}

/// Whether a call may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Go,
    /// It may not, and this is what came of it.
    Held(Outcome),
}

/// How the first of a route is chosen by what people enter.
struct Adaptive {
    /// What an entered code is worth.
    worth: Micros,
    scores: Mutex<Scores>,
}

/// Knows the routes and who is left out.
pub struct Router {
    providers: Providers,
    routes: Vec<Route>,
    prices: Prices,
    adaptive: Option<Adaptive>,
    clock: Clock,
    breakers: Mutex<HashMap<(usize, Option<Region>), Breaker>>,
}

impl Router {
    /// A router over these providers. A number that no route fits goes by the configured order.
    pub fn new(providers: Providers, routes: Vec<Route>, clock: Clock) -> Self {
        let (prices, adaptive) = (Prices::default(), None);
        Self { providers, routes, prices, adaptive, clock, breakers: Mutex::default() }
    }

    /// The same with prices.
    #[must_use]
    pub fn with_prices(self, prices: Prices) -> Self {
        Self { prices, ..self }
    }

    /// The same, where the first of a route is chosen by the share of codes that people enter; one
    /// that is entered is worth so much.
    #[must_use]
    pub fn with_adaptive(self, worth: Micros) -> Self {
        Self { adaptive: Some(Adaptive { worth, scores: Mutex::default() }), ..self }
    }

    /// Whether somebody has to say which codes were entered.
    pub fn is_adaptive(&self) -> bool {
        self.adaptive.is_some()
    }

    /// Learns whether the code of a message that this provider took was entered in time.
    pub fn learn_entered(&self, place: usize, country: Option<Region>, entered: bool) {
        let Some(adaptive) = &self.adaptive else { return };
        let mut scores = adaptive.scores.lock().unwrap_or_else(PoisonError::into_inner);
        scores.learn(place, country, entered, self.clock.now());
        let (name, entered) = (self.name(place).to_owned(), if entered { "yes" } else { "no" });
        metrics::counter!(
            "countersign_entered_total",
            "provider" => name, "country" => shown(country), "entered" => entered
        )
        .increment(1);
    }

    /// Learns from a receipt that a message is lost: that its code will not be entered.
    pub fn learn_lost(&self, provider: &str, country: Option<Region>) {
        let place = self.providers.iter().position(|it| it.name() == provider);
        if let Some(place) = place {
            self.learn_entered(place, country, false);
        }
    }

    /// Learns that the code of a message was entered, though a receipt had said that it is lost.
    pub fn learn_entered_after_all(&self, place: usize, country: Option<Region>) {
        if let Some(adaptive) = &self.adaptive {
            let mut scores = adaptive.scores.lock().unwrap_or_else(PoisonError::into_inner);
            scores.take_back(place, country, self.clock.now());
        }
        self.learn_entered(place, country, true);
    }

    /// Puts the providers of a route that may be first in the order of what they are worth. Says
    /// in words what that was decided by.
    fn adapt(
        &self,
        order: &mut [usize],
        country: Option<Region>,
        costs: &[Micros],
        chance: &mut impl Chance,
    ) -> Option<String> {
        let adaptive = self.adaptive.as_ref().filter(|_| order.len() > 1)?;
        let (scores, now) = (&adaptive.scores, self.clock.now());
        let scores = scores.lock().unwrap_or_else(PoisonError::into_inner);
        scores.sort(order, country, (adaptive.worth, costs), now, chance);
        let told = order.iter().enumerate().map(|(rank, place)| {
            let known = scores.known(*place, country, now);
            format!("{}: {}", self.name(*place), known.words(rank == 0))
        });
        Some(told.collect::<Vec<_>>().join("; "))
    }

    /// What messages cost.
    pub fn prices(&self) -> &Prices {
        &self.prices
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(usize, Option<Region>), Breaker>> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, place: usize) -> &str {
        self.providers.get(place).map_or("none", |provider| provider.name())
    }

    /// The order for a message to this phone. `used` are the names of providers that its
    /// verification has used.
    pub fn line(&self, phone: &Phone, used: &[String], chance: &mut impl Chance) -> Line {
        let alone = self.providers.len() < 2;
        let unasked = alone && self.prices.is_empty();
        let country = if unasked { None } else { phone.country() };
        let costs = self.prices.of(phone, country);
        let fitting =
            self.routes.iter().filter_map(|route| Some((route.fit(phone, country)?, route)));
        // The first of those that fit best.
        let best = fitting.rev().max_by_key(|(fit, _)| *fit).map(|(_, route)| route);
        let mut order =
            best.map_or_else(|| (0..self.providers.len()).collect(), |route| route.order(chance));
        // A weight of 0 is for failover only, whatever people enter.
        let weights = best.map_or(&[][..], |route| &route.weights);
        let backups = weights.iter().filter(|weight| **weight == 0).count();
        let may_be_first = order.len() - backups;
        let chosen = self.adapt(&mut order[..may_be_first], country, &costs, chance);
        if order.len() < 2 {
            return Line { order, country, note: None, costs };
        }
        let wanted = order[0];
        let is_used = |place: &usize| used.iter().any(|name| name == self.name(*place));
        order.sort_by_key(is_used);
        let unused = order[0];
        let now = self.clock.now();
        let breakers = self.lock();
        let breaker = |place: &usize| breakers.get(&(*place, country));
        order.sort_by_key(|place| breaker(place).is_some_and(|it| !it.is_passable(now)));
        let left_out = breaker(&unused).and_then(Breaker::left_out);
        let note = match left_out {
            Some(why) if order[0] != unused => {
                Some(format!("{} is left out: {}", self.name(unused), why.words()))
            }
            _ if unused != wanted => Some(format!(
                "{} carried an earlier message of this verification",
                self.name(wanted)
            )),
            _ => None,
        };
        let note = match (chosen, note) {
            (Some(chosen), Some(note)) => Some(format!("{chosen}; {note}")),
            (chosen, note) => chosen.or(note),
        };
        Line { order, country, note, costs }
    }

    /// The providers as a delivery sees them, with their places in this line.
    pub fn carriers<'a>(&'a self, line: &Line) -> Vec<Carrier<'a>> {
        let breakers = self.lock();
        let carrier = |(place, provider): (usize, &'a std::sync::Arc<dyn Provider>)| Carrier {
            name: provider.name(),
            deduplicates: provider.deduplicates(),
            rank: line.order.iter().position(|it| *it == place),
            doubtful: line.order.len() > 1
                && breakers.get(&(place, line.country)).is_some_and(Breaker::is_doubtful),
            cost: line.cost(place),
        };
        self.providers.iter().enumerate().map(carrier).collect()
    }

    /// Whether a provider may be called about a message with this line; `again` says that it was
    /// asked about it before. Where there is nobody else, it always may.
    pub fn admit(&self, place: usize, line: &Line, again: bool) -> Admission {
        let now = self.clock.now();
        let mut breakers = self.lock();
        if line.order.len() > 1 {
            let others = line.order.iter().filter(|other| **other != place);
            let none_passable = others
                .map(|other| breakers.get(&(*other, line.country)))
                .all(|other| other.is_some_and(|it| !it.is_passable(now)));
            let breaker = breakers.entry((place, line.country)).or_default();
            if !(breaker.admit(now) || (none_passable && breaker.trickle(now))) {
                return Admission::Held(held(LEFT_OUT, breaker.left_out()));
            }
        }
        let breaker = breakers.entry((place, line.country)).or_default();
        if again && !breaker.may_retry(now) {
            return Admission::Held(held(RETRIES_SPENT, None));
        }
        breaker.called(again, now);
        Admission::Go
    }

    /// Learns from the outcome of a call.
    pub fn learn(&self, place: usize, line: &Line, class: Class) {
        let (key, now) = ((place, line.country), self.clock.now());
        let change = self.lock().entry(key).or_default().learn(class, now);
        // Where there is nobody else it is not left out, whatever it does.
        if let Some(change) = change.filter(|_| line.order.len() > 1) {
            self.tell(place, line.country, change);
        }
    }

    fn tell(&self, place: usize, country: Option<Region>, change: Change) {
        let (name, shown) = (self.name(place).to_owned(), shown(country));
        let open = matches!(change, Change::Opened(_));
        let gauge = metrics::gauge!(
            "countersign_breaker_open", "provider" => name.clone(), "country" => shown.clone()
        );
        gauge.set(if open { 1.0 } else { 0.0 });
        match change {
            Change::Opened(why) => {
                metrics::counter!(
                    "countersign_breaker_opened_total",
                    "provider" => name.clone(), "country" => shown.clone(), "why" => why.as_str()
                )
                .increment(1);
                let told = why.words();
                tracing::warn!(
                    provider.name = name,
                    country = shown,
                    why = told,
                    "a provider is left out from now on"
                );
            }
            Change::Closed => {
                tracing::info!(provider.name = name, country = shown, "a provider works again");
            }
        }
    }

    /// Whether a provider is left out for any country: it need not be asked for receipts then.
    pub fn is_left_out(&self, place: usize) -> bool {
        let breakers = self.lock();
        let mut own = breakers.iter().filter(|((other, _), _)| *other == place);
        self.providers.len() > 1 && own.any(|(_, breaker)| breaker.left_out().is_some())
    }

    /// The providers that somebody should look at: their pause is over.
    pub fn to_be_looked_at(&self) -> Vec<usize> {
        let now = self.clock.now();
        let breakers = self.lock();
        let due = breakers.iter().filter(|(_, breaker)| breaker.may_be_looked_at(now));
        let mut places: Vec<_> = due.map(|((place, _), _)| *place).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Somebody looked whether a provider works again.
    pub fn looked_at(&self, place: usize, works: bool) {
        let now = self.clock.now();
        for ((other, _), breaker) in self.lock().iter_mut() {
            if *other == place && breaker.may_be_looked_at(now) {
                breaker.looked_at(works, now);
            }
        }
    }
}

/// A country, as metrics and logs have it.
pub fn shown(country: Option<Region>) -> String {
    country.map_or_else(|| "unknown".to_owned(), |country| country.as_str().to_owned())
}

fn held(code: &str, why: Option<Why>) -> Outcome {
    let note =
        why.map_or_else(|| "it fails, and was asked again often enough".to_owned(), Why::words);
    Outcome { note: Some(note), ..Outcome::of(Class::NotSent, code) }
}

/// What comes of a claim under which no call may be begun any more.
pub fn too_late() -> Outcome {
    let note = "its time was over before it could be called".to_owned();
    Outcome { note: Some(note), ..Outcome::of(Class::NotSent, TOO_LATE) }
}

/// Whether a code says that no call was made.
pub fn is_held(code: &str) -> bool {
    [LEFT_OUT, RETRIES_SPENT, TOO_LATE].contains(&code)
}

#[cfg(test)]
mod tests;
