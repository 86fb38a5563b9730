//! Whether people enter the codes that a provider took, for adaptive choice.
//!
//! What this node had accepted is looked up once, when its time is over: not sooner, since who
//! enters a code does so at once, and who never gets one takes the whole time, so early counts
//! would flatter. Any node may have judged the guess; the store knows.
//!
//! A receipt that says that a message is lost is counted at once by whichever node writes it down
//! (`Delivery::receive` says so in the record), so it is passed over here, unless its code was
//! entered all the same.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::Dispatcher;
use crate::clock::Millis;
use crate::domain::delivery::{Delivery, Stage};
use crate::domain::id::{DeliveryId, VerificationId};
use crate::domain::phone::Region;
use crate::domain::policy::ENTERED_WITHIN;
use crate::domain::verification::{Stage as Verified, Verification};
use crate::store::{Record, StoreError};
use crate::verifier::records;

/// How often it is looked whose time is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Messages that may wait: what comes beyond that is not counted. At 1 000 a second, one in ten.
const WAITING_MAX: usize = 10_000;
/// How many are looked up with one read.
const READ_MAX: usize = 256;

/// Messages that a provider took and whose time is not over, the oldest first.
#[derive(Default)]
pub(super) struct Unjudged(Mutex<VecDeque<Taken>>);

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
            verification.stage, Verified::Approved { at } if at <= self.at + ENTERED_WITHIN
        );
        newest == Some(self.delivery) && in_time
    }
}

impl Dispatcher {
    /// Whether a message that is taken now can be judged when its time is over.
    pub(super) fn can_judge_later(&self) -> bool {
        self.router.is_adaptive() && self.waiting().len() < WAITING_MAX
    }

    /// Remembers a message that a provider took, if it counts.
    pub(super) fn judge_later(&self, id: DeliveryId, delivery: &Delivery) {
        let Stage::Accepted { provider, at, .. } = &delivery.stage else { return };
        let place = self.providers.iter().position(|it| it.name() == provider);
        if let Some((place, counted)) = place.zip(delivery.counted) {
            let (verification, at, country) = (delivery.verification, *at, counted.country);
            self.waiting().push_back(Taken { delivery: id, verification, place, country, at });
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Taken>> {
        self.unjudged.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut waiting = self.waiting();
        // They stand in the order in which they were settled, all but exactly.
        let due =
            waiting.iter().take(READ_MAX).take_while(|it| now > it.at + ENTERED_WITHIN).count();
        (due > 0).then(|| waiting.drain(..due).collect())
    }

    async fn judge(&self, due: &[Taken]) -> Result<(), StoreError> {
        let verifications = due.iter().map(|it| records::verification(&it.verification));
        let deliveries = due.iter().map(|it| records::delivery(&it.delivery));
        let keys: Vec<_> = verifications.chain(deliveries).collect();
        let found = self.store.read(&keys).await?;
        let (verifications, deliveries) = found.split_at(due.len());
        for ((taken, verification), delivery) in due.iter().zip(verifications).zip(deliveries) {
            let Some(verification) = read::<Verification>(verification.as_ref()) else { continue };
            let delivery = read::<Delivery>(delivery.as_ref());
            let lost = delivery.is_some_and(|delivery| delivery.lost().is_some());
            let (place, country) = (taken.place, taken.country);
            match (taken.was_entered(&verification), lost) {
                (true, true) => self.router.learn_entered_after_all(place, country),
                // It was counted when the receipt came.
                (false, true) => {}
                (entered, false) => self.router.learn_entered(place, country, entered),
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

fn read<T: DeserializeOwned>(record: Option<&Record>) -> Option<T> {
    record.and_then(|record| serde_json::from_slice(&record.value).ok())
}
