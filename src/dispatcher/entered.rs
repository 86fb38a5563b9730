//! Whether people enter the codes that a provider took, for adaptive choice.
//!
//! What this node had accepted is looked up once, when its time is over: not sooner, since who
//! enters a code does so at once, and who never gets one takes the whole time, so early counts
//! would flatter. Any node may have judged the guess; the store knows.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Dispatcher;
use crate::clock::Millis;
use crate::domain::delivery::{Delivery, Stage};
use crate::domain::id::{DeliveryId, VerificationId};
use crate::domain::phone::Region;
use crate::domain::verification::{Stage as Verified, Verification};
use crate::routing::adaptive::IN_TIME;
use crate::store::StoreError;
use crate::verifier::records;

/// How often it is looked whose time is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Messages that may wait: what comes beyond that is not counted. At 1 000 a second, one in ten.
const WAITING_MAX: usize = 10_000;
/// How many are looked up with one read.
const READ_MAX: usize = 256;

/// Messages that a provider took, the oldest first.
#[derive(Default)]
pub(super) struct Watched(Mutex<VecDeque<Taken>>);

#[derive(Clone, Copy)]
struct Taken {
    delivery: DeliveryId,
    verification: VerificationId,
    place: usize,
    country: Option<Region>,
    at: Millis,
}

impl Taken {
    /// Whether its code was entered in time. A code that a newer message took the place of was
    /// not: somebody asked again.
    fn was_entered(&self, verification: &Verification) -> bool {
        let newest = verification.messages.last().map(|sent| sent.delivery);
        let in_time = matches!(
            verification.stage, Verified::Approved { at } if at <= self.at + IN_TIME
        );
        newest == Some(self.delivery) && in_time
    }
}

impl Dispatcher {
    /// Remembers a message, if a provider took it.
    pub(super) fn watch(&self, id: DeliveryId, delivery: &Delivery, country: Option<Region>) {
        let Stage::Accepted { provider, at, .. } = &delivery.stage else { return };
        if !self.router.is_adaptive() {
            return;
        }
        let place = self.providers.iter().position(|it| it.name() == provider);
        let mut waiting = self.watched.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = place.filter(|_| waiting.len() < WAITING_MAX) {
            let (verification, at) = (delivery.verification, *at);
            waiting.push_back(Taken { delivery: id, verification, place, country, at });
        }
    }

    /// Tells the router which codes were entered, until it is stopped.
    pub async fn learn_what_is_entered(self, stop: CancellationToken) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        while self.router.is_adaptive() {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = every.tick() => {}
            }
            while let Some(due) = self.due_to_be_judged() {
                if let Err(error) = self.judge(&due).await {
                    tracing::warn!(%error, "it is not known whether codes were entered");
                }
            }
        }
        stop.cancelled().await;
    }

    fn due_to_be_judged(&self) -> Option<Vec<Taken>> {
        let now = self.clock.now();
        let mut waiting = self.watched.0.lock().unwrap_or_else(PoisonError::into_inner);
        // They stand in the order in which they were settled, all but exactly.
        let due = waiting.iter().take(READ_MAX).take_while(|it| now > it.at + IN_TIME).count();
        (due > 0).then(|| waiting.drain(..due).collect())
    }

    async fn judge(&self, due: &[Taken]) -> Result<(), StoreError> {
        let keys: Vec<_> = due.iter().map(|it| records::verification(&it.verification)).collect();
        let found = self.store.read(&keys).await?;
        for (taken, record) in due.iter().zip(found) {
            let read = record.and_then(|it| serde_json::from_slice::<Verification>(&it.value).ok());
            if let Some(verification) = read {
                let entered = taken.was_entered(&verification);
                self.router.learn_entered(taken.place, taken.country, entered);
            }
        }
        Ok(())
    }

    /// Judges what is due, once.
    #[cfg(test)]
    pub(super) async fn judge_due(&self) {
        while let Some(due) = self.due_to_be_judged() {
            self.judge(&due).await.unwrap();
        }
    }
}
