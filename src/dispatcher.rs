//! The durable delivery queue: claim what is due, call a provider, settle.
//!
//! Who accepts a delivery hands its claim straight to here, so a message is on its way in
//! milliseconds. What got lost on that way (a crash, a full queue) or has to wait is found in the
//! store when it is due. Every call happens under a claim, is begun before the claim's
//! `call_before`, and is settled under the claim's number; a late settlement changes nothing.
//! A message that nobody waits for any more (its verification has ended, or a newer message took
//! its place) is not called again; a call that is under way is not stopped.

mod bill;
mod calls;
mod entered;
mod lookups;
mod tend;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chance::{Chance, Source};
use crate::clock::{Clock, Millis};
use crate::domain::delivery::{Claim, Claimed, Delivery, Settled};
use crate::domain::id::DeliveryId;
use crate::domain::outcome::{Action, Outcome};
use crate::domain::sends::{self, Sends};
use crate::domain::verification::Unwanted;
use crate::keys::Keys;
use crate::message::Texts;
use crate::providers::{Providers, Receipt};
use crate::routing::{Line, Router};
use crate::store::{Store, StoreError, transact, transact_once};
use crate::verifier::caps::Caps;
use crate::verifier::records::{self, PhoneName};
use crate::verifier::{Handoff, Verifier};
use bill::Before;
use entered::Unjudged;
use tend::{Phase, Tend};
use watch::Watch;

/// Calls to providers that may be under way at once; more wait their turn in the store.
pub const CALLS_MAX: usize = 512;
/// Look-ups that may be under way at once. They have places of their own, so that no message waits
/// for one.
const LOOK_UPS_MAX: usize = 16;
/// Receipts that wait in memory for a store that is down.
const RECEIPTS_MAX: usize = 10_000;
/// Claims that may wait for a turn in memory.
pub const HANDOFFS_MAX: usize = 4096;
/// A claim that waited longer than this for its turn is looked at once more: its verification may
/// have ended meanwhile. Those that did not wait are called without another look, for speed.
const STALE_AFTER: Millis = 250;
/// How often the store is asked what is due.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How many due deliveries are taken up at a look.
const LOOK_MAX: usize = 128;
/// How often providers are asked for receipts.
const RECEIPTS_EVERY: Duration = Duration::from_secs(2);
/// How often settling is tried again while the store is unavailable, and the pause between.
const SETTLE_TRIES: u32 = 20;
const SETTLE_PAUSE: Duration = Duration::from_millis(250);

/// The dispatcher.
#[derive(Clone)]
pub struct Dispatcher {
    store: Arc<dyn Store>,
    clock: Clock,
    keys: Keys,
    providers: Providers,
    router: Arc<Router>,
    texts: Texts,
    caps: Option<Arc<Caps>>,
    unjudged: Arc<Unjudged>,
    calls: Arc<Semaphore>,
    look_ups: Arc<Semaphore>,
    watch: Arc<Watch>,
    tracker: TaskTracker,
    chance: Source,
}

impl Dispatcher {
    /// A dispatcher over these providers, in the order of failover.
    pub fn new(store: Arc<dyn Store>, clock: Clock, keys: Keys, providers: Providers) -> Self {
        let (calls, look_ups) = (Semaphore::new(CALLS_MAX), Semaphore::new(LOOK_UPS_MAX));
        let (calls, look_ups) = (Arc::new(calls), Arc::new(look_ups));
        let (watch, tracker) = (Arc::default(), TaskTracker::new());
        let texts = Texts::default();
        let router = Arc::new(Router::new(Arc::clone(&providers), Vec::new(), clock.clone()));
        let (caps, unjudged, chance) = (None, Arc::default(), Source::default());
        Self {
            store,
            clock,
            keys,
            providers,
            router,
            texts,
            caps,
            unjudged,
            calls,
            look_ups,
            watch,
            tracker,
            chance,
        }
    }

    /// The same with routes of its own.
    #[must_use]
    pub fn with_router(self, router: Arc<Router>) -> Self {
        Self { router, ..self }
    }

    /// The same with caps, which learn what messages cost in the end.
    #[must_use]
    pub fn with_caps(self, caps: Arc<Caps>) -> Self {
        Self { caps: Some(caps), ..self }
    }

    /// The same with texts of its own.
    #[must_use]
    pub fn with_texts(self, texts: Texts) -> Self {
        Self { texts, ..self }
    }

    /// The same, drawing pauses and weights from somewhere else: for simulations.
    #[must_use]
    pub fn with_chance(self, chance: Source) -> Self {
        Self { chance, ..self }
    }

    /// Works until it is stopped, then finishes the calls under way.
    pub async fn run(self, mut handoffs: mpsc::Receiver<Handoff>, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(handoff) = handoffs.recv() => self.take(handoff).await,
                _ = look.tick() => self.look().await,
            }
        }
        // What was accepted a moment ago is still called for; the rest waits in the store.
        while let Ok(handoff) = handoffs.try_recv() {
            self.take(handoff).await;
        }
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Pulls receipts from providers that offer it, and asks others about their latest messages,
    /// until it is stopped.
    pub async fn pull_receipts(self, verifier: Verifier, stop: CancellationToken) {
        let mut every = tokio::time::interval(RECEIPTS_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut kept = VecDeque::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = every.tick() => {}
            }
            write_down(&verifier, &mut kept).await;
            self.look_at_those_left_out(&mut kept).await;
            self.ask_about_the_latest();
            for (place, provider) in self.providers.iter().enumerate() {
                if self.router.is_left_out(place) || kept.len() >= RECEIPTS_MAX {
                    continue;
                }
                match provider.pull_receipts().await {
                    Ok(receipts) => {
                        let name = provider.name();
                        kept.extend(receipts.into_iter().map(|it| (name.to_owned(), it)));
                    }
                    Err(outcome) => tracing::debug!(
                        provider.name = provider.name(),
                        class = %outcome.class,
                        "no receipts could be pulled"
                    ),
                }
            }
            write_down(&verifier, &mut kept).await;
        }
    }

    async fn take(&self, handoff: Handoff) {
        let Ok(permit) = Arc::clone(&self.calls).acquire_owned().await else { return };
        let waited = self.clock.now() - handoff.accepted_at;
        metrics::histogram!("countersign_handoff_seconds").record(seconds(waited));
        let this = self.clone();
        self.tracker.spawn(async move {
            if waited <= STALE_AFTER || this.still_wanted(handoff.delivery, &handoff.claim).await {
                this.work(handoff.delivery, handoff.claim, handoff.resend).await;
            }
            drop(permit);
        });
    }

    async fn look(&self) {
        let now = self.clock.now();
        let due = match self.store.due(now, LOOK_MAX).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "the queue could not be looked at");
                return;
            }
        };
        metrics::gauge!("countersign_queue_due").set(u32::try_from(due.len()).unwrap_or(u32::MAX));
        for key in due {
            let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() else { return };
            let Some(id) = records::delivery_id(&key) else { continue };
            let this = self.clone();
            self.tracker.spawn(async move {
                match this.claim(id).await {
                    Ok(Claimed::Yours(claim)) => this.work(id, claim, false).await,
                    Ok(Claimed::Ask(asked)) => this.ask_about(id, asked),
                    Ok(Claimed::NotDue | Claimed::Ended) => {}
                    Err(error) => tracing::warn!(%error, "a delivery could not be claimed"),
                }
                drop(permit);
            });
        }
    }

    async fn claim(&self, id: DeliveryId) -> Result<Claimed, StoreError> {
        let (now, this) = (self.clock.now(), self.clone());
        let act = move |delivery: &mut Delivery, unwanted: Option<Unwanted>| {
            let (line, before) = (this.line_of(id, delivery), Before::of(delivery));
            let mut claimed = delivery.claim(&this.router.carriers(&line), now);
            if let (Claimed::Yours(_), Some(why)) = (&claimed, unwanted) {
                delivery.stop(why, now);
                claimed = Claimed::Ended;
            }
            let changed = claimed != Claimed::NotDue;
            ((claimed, before, line.country), changed)
        };
        let tended = transact(&self.store, Tend { id, act }, Phase::Delivery).await?;
        let Some(((claimed, before, country), delivery)) = tended else {
            return Ok(Claimed::Ended);
        };
        self.bill(&delivery, before, country);
        if before.ended_in(&delivery) {
            self.ended(id, &delivery).await;
        }
        Ok(claimed)
    }

    /// Whether a claim that waited in memory may still be called under. If nobody waits for its
    /// message any more, the delivery ends here.
    async fn still_wanted(&self, id: DeliveryId, claim: &Claim) -> bool {
        let (now, number) = (self.clock.now(), claim.number);
        let act = move |delivery: &mut Delivery, unwanted: Option<Unwanted>| {
            let ours = delivery.is_claimed_under(number);
            let before = Before::of(delivery);
            let stopped = unwanted.filter(|_| ours).map(|why| delivery.stop(why, now));
            let stopped = stopped.map(|_| before);
            ((ours, stopped), stopped.is_some())
        };
        match transact(&self.store, Tend { id, act }, Phase::Delivery).await {
            Ok(Some(((_, Some(before)), delivery))) => {
                // Its letter is gone, and so is its country: only the server's cap gets it back.
                self.bill(&delivery, before, None);
                self.ended(id, &delivery).await;
                false
            }
            Ok(Some(((ours, None), _))) => ours,
            Ok(None) => false,
            Err(error) => {
                // It stays claimed: whoever finds it after its lease looks again.
                tracing::warn!(%error, delivery = %id, "a delivery could not be looked at");
                false
            }
        }
    }

    /// Writes down what came of a call. While the store is unavailable it is tried again: what a
    /// provider took and nobody wrote down would be sent a second time.
    async fn settle(
        &self,
        id: DeliveryId,
        number: u32,
        outcome: Outcome,
        line: &Line,
        kept: Option<&str>,
    ) -> Option<Settled> {
        for _ in 0..SETTLE_TRIES {
            match self.settle_once(id, number, outcome.clone(), line, kept).await {
                Ok((settled, delivery)) => {
                    if let (Settled::Ended { .. }, Some(delivery)) = (&settled, delivery) {
                        self.ended(id, &delivery).await;
                    }
                    return Some(settled);
                }
                Err(error) => tracing::warn!(%error, delivery = %id, "not settled yet"),
            }
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
        None
    }

    async fn settle_once(
        &self,
        id: DeliveryId,
        number: u32,
        outcome: Outcome,
        line: &Line,
        kept: Option<&str>,
    ) -> Result<(Settled, Option<Delivery>), StoreError> {
        let kept = kept.map(str::to_owned);
        let (now, router, line) = (self.clock.now(), Arc::clone(&self.router), line.clone());
        // Whether anybody still waits matters only where it may go on, as does when.
        let done = outcome.class.action() == Action::Done;
        let jitter = if done { 0 } else { self.chance.clone().below(u64::MAX) };
        let first = if done { Phase::Act(None) } else { Phase::Delivery };
        let (country, counts) = (line.country, self.can_judge_later());
        let act = move |delivery: &mut Delivery, unwanted: Option<Unwanted>| {
            let before = Before::of(delivery);
            let mut settled =
                delivery.settle(number, &outcome, &router.carriers(&line), now, jitter);
            if let (Settled::GoOn(_) | Settled::Waits, Some(why)) = (&settled, unwanted) {
                settled = delivery.stop(why, now);
            }
            let changed = settled != Settled::TooLate;
            if let Some(kept) = kept.as_ref().filter(|_| changed) {
                delivery.ask_later(kept.clone());
            }
            if counts && changed {
                delivery.count_for(country);
            }
            ((settled, before), changed)
        };
        let tended = transact(&self.store, Tend { id, act }, first).await?;
        let Some(((settled, before), delivery)) = tended else {
            return Ok((Settled::TooLate, None));
        };
        self.bill(&delivery, before, country);
        if settled != Settled::TooLate {
            self.judge_later(id, &delivery);
        }
        Ok((settled, Some(delivery)))
    }

    async fn give_gap_back(&self, delivery: &Delivery) {
        let Some(name) = PhoneName::from_hex(&delivery.fingerprint) else { return };
        let (key, now, sent_at) = (name.sends(), self.clock.now(), delivery.created_at);
        let given = transact_once(&self.store, vec![key.clone()], move |draft| {
            let Some(mut sends) = draft.get::<Sends>(&key)? else { return Ok(()) };
            if sends.give_gap_back(sent_at, now) {
                draft.put(&key, &sends, now + sends::KEPT);
            }
            Ok(())
        });
        if let Err(error) = given.await {
            tracing::warn!(%error, "a gap could not be given back");
        }
    }

    async fn ended(&self, id: DeliveryId, delivery: &Delivery) {
        let (status, last) = (delivery.status(), delivery.tries.last());
        let provider = last.map_or_else(|| "none".to_owned(), |tried| tried.provider.clone());
        let took = self.clock.now() - delivery.created_at;
        metrics::counter!(
            "countersign_deliveries_total", "provider" => provider.clone(), "outcome" => status
        )
        .increment(1);
        metrics::histogram!("countersign_delivery_seconds").record(seconds(took));
        tracing::info!(
            delivery = %id,
            verification = %delivery.verification,
            phone = delivery.masked,
            provider.name = provider,
            class = last.map(|tried| tried.class.as_str()),
            tries = delivery.tries.len(),
            status,
            stopped = delivery.stopped().map(Unwanted::as_str),
            "a delivery was settled"
        );
        if delivery.surely_not_sent() {
            self.give_gap_back(delivery).await;
        }
    }
}

/// Writes receipts down. Those that the store cannot take at the moment wait for the next time:
/// a provider gives each only once.
async fn write_down(verifier: &Verifier, kept: &mut VecDeque<(String, Receipt)>) {
    while let Some((provider, receipt)) = kept.front() {
        if let Err(error) = verifier.receive(provider, receipt.clone()).await {
            tracing::warn!(%error, "a receipt could not be written down");
            if !matches!(error, StoreError::Unreadable(_)) {
                return;
            }
        }
        kept.pop_front();
    }
}

fn seconds(millis: Millis) -> f64 {
    Duration::from_millis(millis.unsigned_abs()).as_secs_f64()
}

#[cfg(test)]
mod tests;
