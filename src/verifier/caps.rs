//! Caps at work: each node leases blocks of them and takes messages out of these in memory, so
//! that a send costs no commit of its own, and no record is written by every request.
//!
//! A message takes its share under a `Ticket`, in the phone's decision, after the challenge and
//! all other limits: whoever is refused by those uses nothing up. What was taken for a request
//! that came to nothing goes back when its ticket is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::records;
use crate::clock::{Clock, Millis, SECOND};
use crate::domain::cap::{self, Amount, Cap, Lease, Leased, Line, Span, Spent, Whom};
use crate::domain::money::Micros;
use crate::domain::phone::{Phone, Region};
use crate::keys::Keys;
use crate::routing::prices::Prices;
use crate::store::{Key, Store, StoreError, transact_once};

/// How often a cap that is full is asked for room again.
const LOOK_AGAIN: Millis = SECOND;
/// How often leases that are over are given back, and metrics brought up to date.
const KEEP_EVERY: Duration = Duration::from_secs(5);
/// What the cap of the whole server is called.
const SERVER: &str = "server";

/// Whose cap it is, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The country; `None` for the whole server.
    pub country: Option<Region>,
    /// The cap.
    pub cap: Cap,
}

/// All caps.
pub struct Caps {
    meters: Vec<Meter>,
    prices: Prices,
    store: Arc<dyn Store>,
    clock: Clock,
}

struct Meter {
    scope: Scope,
    key: Key,
    state: Mutex<State>,
    /// Held by who asks the store for a lease; the others wait for what comes of it.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    lease: Option<Lease>,
    /// What is left of leases that are over, with their ends.
    back: Vec<(Amount, Millis)>,
    /// What was spent beyond what had been set aside.
    owed: Amount,
    /// When everybody may be written to, and when known phones may; as of the last look.
    all_at: Millis,
    known_at: Millis,
    looked_at: Millis,
    /// Whether the last look found anything spent.
    used: bool,
    /// When the store could last not be asked, and why.
    failed: Option<(Millis, StoreError)>,
}

/// Why no share could be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// This node has no lease: the store has to be asked.
    Dry,
    /// The cap is full.
    Full {
        /// Until then.
        retry_at: Millis,
        /// Whose cap: `server` or `country`.
        cap: &'static str,
    },
}

/// A message that wants to go out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fare {
    country: Option<Region>,
    cost: Micros,
    /// Whether its phone is known.
    known: bool,
}

impl Scope {
    /// The word in logs and metrics: `server`, or the country.
    pub fn name(&self) -> String {
        self.country.map_or_else(|| SERVER.to_owned(), |country| country.as_str().to_owned())
    }

    fn kind(&self) -> &'static str {
        if self.country.is_some() { "country" } else { SERVER }
    }
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn concerns(&self, country: Option<Region>) -> bool {
        self.scope.country.is_none() || self.scope.country == country
    }

    fn amount(&self, cost: Micros) -> Amount {
        let money = if self.scope.cap.counts_money() { cost } else { Micros::default() };
        Amount { messages: 1, money }
    }

    /// Takes a share; says under which lease, by its end.
    fn take(&self, fare: Fare, now: Millis) -> Result<Millis, Short> {
        let mut state = self.lock();
        let full = |retry_at| Err(Short::Full { retry_at, cap: self.scope.kind() });
        match state.lease {
            Some(lease) if lease.until > now && (lease.whom == Whom::All || fare.known) => {
                let Some(left) = lease.left.without(self.amount(fare.cost)) else {
                    return Err(Short::Dry);
                };
                state.lease = Some(Lease { left, ..lease });
                Ok(lease.until)
            }
            Some(lease) if lease.until > now && now < state.all_at => full(state.all_at),
            _ => {
                let free_at = if fare.known { state.known_at } else { state.all_at };
                let looked = now < state.looked_at + LOOK_AGAIN;
                if looked && now < free_at { full(free_at) } else { Err(Short::Dry) }
            }
        }
    }

    /// Puts a share back that was taken under the lease that ends then.
    fn put_back(&self, amount: Amount, until: Millis) {
        let mut state = self.lock();
        match &mut state.lease {
            Some(lease) if lease.until == until => lease.left = lease.left + amount,
            _ => state.back.push((amount, until)),
        }
    }
}

impl Caps {
    /// These caps, of messages at these prices.
    pub fn new(
        scopes: Vec<Scope>,
        prices: Prices,
        store: Arc<dyn Store>,
        clock: Clock,
        keys: &Keys,
    ) -> Self {
        let ring = keys.ring();
        let meter = |scope: Scope| {
            let key = records::cap(&ring, &scope.name());
            Meter { scope, key, state: Mutex::default(), asking: tokio::sync::Mutex::default() }
        };
        let holding = scopes.into_iter().filter(|scope| scope.cap.holds());
        Self { meters: holding.map(meter).collect(), prices, store, clock }
    }

    /// Whether there is any cap.
    pub fn hold(&self) -> bool {
        !self.meters.is_empty()
    }

    fn by_country(&self) -> bool {
        self.meters.iter().any(|meter| meter.scope.country.is_some())
    }

    /// What a message to this phone is counted as: through the dearest provider, unless it is
    /// known through whom it goes.
    pub(super) fn fare(&self, phone: &Phone, through: Option<usize>, known: bool) -> Fare {
        let asked_for = self.by_country() || !self.prices.is_empty();
        let country = if asked_for { phone.country() } else { None };
        let costs = self.prices.of(phone, country);
        let dearest = || costs.iter().max().copied();
        let cost = through.and_then(|place| costs.get(place).copied()).or_else(dearest);
        Fare { country, cost: cost.unwrap_or_default(), known }
    }

    /// Sees to it that this node has something to take from, for a message to this phone or, where
    /// nobody knows yet to whom, for any.
    pub(super) async fn fill(&self, phone: Option<(&Phone, usize)>) -> Result<(), StoreError> {
        // As a known phone: whether it is one comes out later, and the lease is for all.
        let fare = match phone {
            Some((phone, through)) => self.fare(phone, Some(through), true),
            None => Fare { country: None, cost: Micros::default(), known: true },
        };
        for meter in self.meters.iter().filter(|meter| meter.concerns(fare.country)) {
            let taken = meter.take(fare, self.clock.now());
            if let Ok(until) = taken {
                meter.put_back(meter.amount(fare.cost), until);
            } else if taken == Err(Short::Dry) {
                self.fill_one(meter, fare).await?;
            }
        }
        Ok(())
    }

    async fn fill_one(&self, meter: &Meter, fare: Fare) -> Result<(), StoreError> {
        let came_at = self.clock.now();
        let _asking = meter.asking.lock().await;
        // Who waited while the store did not answer need not wait once more, one after the other.
        let failed = meter.lock().failed.clone();
        if let Some((_, error)) = failed.filter(|(at, _)| *at >= came_at) {
            return Err(error);
        }
        // Whoever asked before may have filled it for all.
        match meter.take(fare, self.clock.now()) {
            Ok(until) => meter.put_back(meter.amount(fare.cost), until),
            Err(Short::Full { .. }) => {}
            Err(Short::Dry) => self.ask(meter, Some(meter.amount(fare.cost))).await?,
        }
        Ok(())
    }

    /// Gives back what is over, and leases a new block where one is needed.
    async fn ask(&self, meter: &Meter, need: Option<Amount>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let (back, owed) = {
            let mut state = meter.lock();
            let lease = state.lease.take();
            let mut back = std::mem::take(&mut state.back);
            back.extend(lease.map(|lease| (lease.left, lease.until)));
            (back, std::mem::take(&mut state.owed))
        };
        let (key, cap) = (meter.key.clone(), meter.scope.cap);
        let decide = move |draft: &mut crate::store::Draft| {
            let mut spent: Spent = draft.get(&key)?.unwrap_or_default();
            for (amount, until) in &back {
                spent.give_back(*amount, *until);
            }
            spent.add(owed, now);
            let leased = need.map(|need| spent.lease(&cap, need, now));
            draft.put(&key, &spent, now + cap::KEPT);
            Ok((leased, spent))
        };
        let asked = transact_once(&self.store, vec![meter.key.clone()], decide).await;
        let (leased, spent) = match asked {
            Ok(answered) => answered,
            Err(error) => {
                // Whether it landed is not known. What would have been given back stays counted;
                // what is owed is counted twice rather than never.
                let mut state = meter.lock();
                state.owed = state.owed + owed;
                state.failed = Some((self.clock.now(), error.clone()));
                return Err(error);
            }
        };
        if let Some(leased) = leased {
            meter.lock().take_up(&leased, now);
            tell(&meter.scope, &leased.passed);
        }
        meter.show(&spent, now);
        Ok(())
    }

    /// Settles what a delivery cost, once it has ended, with what was set aside for it when it was
    /// accepted at `at`.
    pub fn settle(&self, country: Option<Region>, set_aside: Micros, cost: Amount, at: Millis) {
        for meter in self.meters.iter().filter(|meter| meter.concerns(country)) {
            let aside = meter.amount(set_aside);
            let money = meter.amount(cost.money).money;
            let more = Amount {
                messages: cost.messages.saturating_sub(aside.messages),
                money: money.less(aside.money),
            };
            let less = Amount {
                messages: aside.messages.saturating_sub(cost.messages),
                money: aside.money.less(money),
            };
            let mut state = meter.lock();
            state.owed = state.owed + more;
            if !less.is_nothing() {
                state.back.push((less, at + cap::LEASE));
            }
        }
    }

    /// Gives back what is over, now and then and at the end, so that the other nodes have it.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut every = tokio::time::interval(KEEP_EVERY);
        loop {
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                _ = every.tick() => false,
            };
            self.tidy(stopped).await;
            if stopped {
                return;
            }
        }
    }

    async fn tidy(&self, all: bool) {
        for meter in &self.meters {
            let now = self.clock.now();
            let (over, used) = {
                let state = meter.lock();
                let lease = state.lease.is_some_and(|lease| all || lease.until <= now);
                let over = lease || !state.back.is_empty() || !state.owed.is_nothing();
                (over, state.used)
            };
            let _asking = meter.asking.lock().await;
            let tidied = if over { self.ask(meter, None).await } else { Ok(()) };
            let shown = if used && !over { self.look(meter).await } else { Ok(()) };
            if let Err(error) = tidied.and(shown) {
                tracing::warn!(%error, cap = meter.scope.name(), "a cap could not be tidied");
            }
        }
    }

    async fn look(&self, meter: &Meter) -> Result<(), StoreError> {
        let read = self.store.read(std::slice::from_ref(&meter.key)).await?;
        let record = read.into_iter().next().flatten();
        let spent = record.and_then(|record| serde_json::from_slice::<Spent>(&record.value).ok());
        meter.show(&spent.unwrap_or_default(), self.clock.now());
        Ok(())
    }
}

impl Meter {
    /// Brings the metrics up to date.
    fn show(&self, spent: &Spent, now: Millis) {
        let mut used = false;
        for window in Span::ALL {
            let Some(share) = spent.share(&self.scope.cap, window, now) else { continue };
            used |= share > 0;
            let share = f64::from(u32::try_from(share).unwrap_or(u32::MAX)) / 1000.0;
            let (name, window) = (self.scope.name(), window.as_str());
            metrics::gauge!("countersign_cap_used", "cap" => name, "window" => window).set(share);
        }
        self.lock().used = used;
    }
}

impl State {
    fn take_up(&mut self, leased: &Leased, now: Millis) {
        self.lease = leased.lease;
        (self.all_at, self.known_at) = (leased.all_at, leased.known_at);
        self.looked_at = now;
    }
}

/// Tells of lines that were passed, once per window on one of the nodes.
fn tell(scope: &Scope, passed: &[(Span, Line)]) {
    for (window, line) in passed {
        let (cap, window) = (scope.name(), window.as_str());
        metrics::counter!(
            "countersign_cap_passed_total",
            "cap" => cap.clone(), "window" => window, "percent" => line.as_str()
        )
        .increment(1);
        match line {
            Line::Warn => tracing::warn!(cap, window, "80 % of a cap are spent"),
            Line::Known => tracing::error!(
                cap,
                window,
                "a cap is spent: only phones with an approved verification get messages now"
            ),
            Line::Nobody => {
                tracing::error!(cap, window, "120 % of a cap are spent: nobody gets a message now");
            }
        }
    }
}

/// What one request takes of the caps. A decision may be made more than once; it takes once.
pub(super) struct Ticket {
    caps: Option<Arc<Caps>>,
    taken: Mutex<Option<Taken>>,
}

struct Taken {
    cost: Micros,
    /// Meters, each with the end of its lease.
    shares: Vec<(usize, Millis)>,
}

impl Ticket {
    pub(super) fn new(caps: Option<Arc<Caps>>) -> Self {
        Self { caps, taken: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a share of every cap that concerns the message, or of none; says what was set aside.
    pub(super) fn take(
        &self,
        phone: &Phone,
        through: Option<usize>,
        known: bool,
    ) -> Result<Micros, (Short, Fare)> {
        let Some(caps) = &self.caps else { return Ok(Micros::default()) };
        if let Some(taken) = &*self.lock() {
            return Ok(taken.cost);
        }
        let fare = caps.fare(phone, through, known);
        self.take_all(caps, fare).map_err(|(short, _)| (short, fare))?;
        Ok(fare.cost)
    }

    /// Takes the same after asking the store for it; what is full is found out by the next
    /// [`take`](Self::take).
    pub(super) async fn obtain(&self, fare: Fare) -> Result<(), StoreError> {
        let Some(caps) = &self.caps else { return Ok(()) };
        // Others may take what was asked for; each round somebody gets on.
        while let Err((Short::Dry, at)) = self.take_all(caps, fare) {
            caps.fill_one(&caps.meters[at], fare).await?;
        }
        Ok(())
    }

    fn take_all(&self, caps: &Caps, fare: Fare) -> Result<(), (Short, usize)> {
        let (mut shares, now) = (Vec::new(), caps.clock.now());
        let meters = caps.meters.iter().enumerate();
        for (at, meter) in meters.filter(|(_, meter)| meter.concerns(fare.country)) {
            match meter.take(fare, now) {
                Ok(until) => shares.push((at, until)),
                Err(short) => {
                    caps.put_back(fare.cost, &shares);
                    return Err((short, at));
                }
            }
        }
        *self.lock() = Some(Taken { cost: fare.cost, shares });
        Ok(())
    }

    /// What was taken stays taken.
    pub(super) fn keep(&self) {
        *self.lock() = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let taken = self.lock().take();
        if let (Some(caps), Some(taken)) = (&self.caps, taken) {
            caps.put_back(taken.cost, &taken.shares);
        }
    }
}

impl Caps {
    fn put_back(&self, cost: Micros, shares: &[(usize, Millis)]) {
        for (at, until) in shares {
            let meter = &self.meters[*at];
            meter.put_back(meter.amount(cost), *until);
        }
    }
}

#[cfg(test)]
mod tests;
