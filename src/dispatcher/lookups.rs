//! Look-ups: a provider is asked what became of one message.
//!
//! Two kinds are. One whose outcome is unknown is asked about before another provider may send a
//! second message: while the delivery waits, by who called; or before the next call, by who finds
//! that nobody was there meanwhile. And one that was taken by a provider whose receipts do not
//! come by themselves is asked about now and then: at first out of memory, later out of the store,
//! by whichever node finds it due. What is learned goes the way of a receipt.

use std::time::Duration;

use super::bill::Before;
use super::tend::{Phase, Tend};
use super::watch::Watched;
use super::{Dispatcher, LOOK_UPS_MAX};
use crate::clock::Millis;
use crate::domain::delivery::{Asked, Claim, Delivery, Settled, Stage};
use crate::domain::id::DeliveryId;
use crate::domain::outcome::{Action, Class, Found, Outcome};
use crate::domain::phone::{Phone, Region};
use crate::domain::verification::Unwanted;
use crate::keys::Use;
use crate::providers::{LooksUp, Message, Sent};
use crate::store::{StoreError, transact};
use crate::verifier::{self, records};

/// What the number of a message that was taken is sealed for.
const NUMBER: &[u8] = b"number";
/// The pauses between look-ups while a delivery waits; the first is for the vendor's own books.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(1_500), Duration::from_secs(2)];
/// How long a look-up may keep the next call waiting, where nobody looked up before.
const BEFORE_CALL: Duration = Duration::from_millis(1_500);

const _: () = assert!(LOOK_UPS_MAX > 0, "a semaphore of none would never open");

impl Dispatcher {
    fn looks_up(&self, place: usize) -> LooksUp {
        self.providers.get(place).map_or(LooksUp::Nothing, |provider| provider.looks_up())
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.providers.iter().position(|provider| provider.name() == name)
    }

    /// The number, sealed, where whoever comes after us needs it to ask what became of a message.
    pub(super) fn kept_number(&self, place: usize, message: Option<&Message>) -> Option<String> {
        let message = message.filter(|_| self.looks_up(place) == LooksUp::All)?;
        Some(self.keys.ring().seal(Use::Sealing, NUMBER, message.phone.e164().as_bytes()))
    }

    /// Sees to it that a message is asked about whose call ended like this.
    pub(super) fn follow(
        &self,
        id: DeliveryId,
        claim: &Claim,
        message: Option<Message>,
        outcome: &Outcome,
        settled: Option<&Settled>,
    ) {
        let (place, looks_up) = (claim.turn, self.looks_up(claim.turn));
        let Some(message) = message.filter(|_| looks_up != LooksUp::Nothing) else { return };
        let unknown = outcome.class.action() == Action::Wait;
        let text = unknown.then_some(message.text);
        let (message_id, wall) = (outcome.message_id.clone(), self.clock.wall());
        let (reference, phone) = (message.reference, message.phone);
        let watched =
            Watched { id, place, sent: Sent { reference, phone, message_id, text, wall } };
        match settled {
            Some(Settled::Waits) if unknown => {
                let this = self.clone();
                self.tracker.spawn(async move { this.look_up_while_it_waits(watched).await });
            }
            Some(Settled::Ended { .. })
                if unknown || (looks_up == LooksUp::All && outcome.class == Class::Accepted) =>
            {
                self.watch.add(watched, self.clock.now());
            }
            _ => {}
        }
    }

    async fn look_up_while_it_waits(&self, watched: Watched) {
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            let Ok(_permit) = self.look_ups.try_acquire() else { continue };
            if !self.is_open(watched.id).await || self.look_up(&watched, None).await {
                return;
            }
        }
    }

    /// Asks who may have sent a message that nobody asked about, before anybody is called again.
    /// `true` if there is nothing left to be called for.
    pub(super) async fn was_sent(
        &self,
        id: DeliveryId,
        claim: &Claim,
        message: Option<&Message>,
    ) -> bool {
        let place = claim.maybe_sent_by.as_ref().and_then(|name| self.place(name));
        let Some((place, message)) = place.zip(message) else { return false };
        if self.looks_up(place) == LooksUp::Nothing {
            return false;
        }
        let (reference, phone) = (message.reference.clone(), message.phone.clone());
        let (message_id, text, wall) = (None, Some(message.text.clone()), self.clock.wall());
        let watched =
            Watched { id, place, sent: Sent { reference, phone, message_id, text, wall } };
        let asked = self.look_up(&watched, Some(claim.number));
        tokio::time::timeout(BEFORE_CALL, asked).await.unwrap_or(false)
    }

    /// Asks about those whose time has come, out of memory.
    pub(super) fn ask_about_the_latest(&self) {
        for watched in self.watch.due(self.clock.now()) {
            let Ok(permit) = std::sync::Arc::clone(&self.look_ups).try_acquire_owned() else {
                return;
            };
            let this = self.clone();
            self.tracker.spawn(async move {
                if !this.is_open(watched.id).await || this.look_up(&watched, None).await {
                    this.watch.done(watched.id);
                }
                drop(permit);
            });
        }
    }

    /// Asks about one that was found in the store. Without room it is anyone's turn again later.
    pub(super) fn ask_about(&self, id: DeliveryId, asked: Asked) {
        let Ok(permit) = std::sync::Arc::clone(&self.look_ups).try_acquire_owned() else { return };
        let opened = self.keys.ring().open(Use::Sealing, NUMBER, &asked.phone);
        let number = opened.and_then(|number| String::from_utf8(number).ok());
        let phone = number.and_then(|number| Phone::from_e164(&number));
        let Some((place, phone)) = self.place(&asked.provider).zip(phone) else { return };
        let message_id = Some(asked.message_id).filter(|id| !id.is_empty());
        let wall = self.clock.wall() - (self.clock.now() - asked.at);
        let sent = Sent { reference: id.to_string(), phone, message_id, text: None, wall };
        let this = self.clone();
        self.tracker.spawn(async move {
            this.look_up(&Watched { id, place, sent }, None).await;
            drop(permit);
        });
    }

    /// Whether anything can still be learned about a delivery.
    async fn is_open(&self, id: DeliveryId) -> bool {
        let found: Result<Option<Delivery>, StoreError> = self.read(&records::delivery(&id)).await;
        let stage = found.ok().flatten().map(|delivery| delivery.stage);
        matches!(
            stage,
            Some(
                Stage::Pending(_)
                    | Stage::Accepted { .. }
                    | Stage::Failed { class: Class::UnknownOutcome, .. }
                    | Stage::Stopped { .. }
            )
        )
    }

    /// Asks, and writes down what is learned; `true` if there is nothing left to be called for, or
    /// nothing left to be learned.
    async fn look_up(&self, watched: &Watched, claim: Option<u32>) -> bool {
        let Some(provider) = self.providers.get(watched.place) else { return false };
        let found = match provider.look_up(&watched.sent).await {
            Ok(found) => found,
            Err(outcome) => {
                tracing::debug!(
                    provider.name = provider.name(),
                    class = %outcome.class,
                    "a message could not be looked up"
                );
                return false;
            }
        };
        if found == Found::Nothing {
            return false;
        }
        let kept = self.looks_up(watched.place) == LooksUp::All;
        let phone = watched.sent.phone.e164().as_bytes();
        let number = kept.then(|| self.keys.ring().seal(Use::Sealing, NUMBER, phone));
        let of = (number, watched.sent.phone.country());
        match self.write_down(watched.id, provider.name(), found.clone(), claim, of).await {
            Ok(changed) => {
                verifier::count_receipt(provider.name(), if changed { "taken" } else { "ignored" });
                changed && (claim.is_some() || matches!(found, Found::Settled(_)))
            }
            Err(error) => {
                tracing::warn!(%error, delivery = %watched.id, "a look-up was not written down");
                false
            }
        }
    }

    async fn write_down(
        &self,
        id: DeliveryId,
        provider: &str,
        found: Found,
        claim: Option<u32>,
        (number, country): (Option<String>, Option<Region>),
    ) -> Result<bool, StoreError> {
        let (now, name): (Millis, _) = (self.clock.now(), provider.to_owned());
        let counts = self.can_judge_later();
        let act = move |delivery: &mut Delivery, _: Option<Unwanted>| {
            let before = Before::of(delivery);
            let changed = match &found {
                Found::Nothing => false,
                Found::Settled(receipt) => delivery.receive(&name, receipt, now),
                Found::Taken { message_id } => {
                    let taken = delivery.taken(&name, message_id, claim, now);
                    if let Some(number) = number.as_ref().filter(|_| taken) {
                        delivery.ask_later(number.clone());
                    }
                    if taken && counts {
                        delivery.count_for(country);
                    }
                    taken
                }
            };
            ((changed, before), changed)
        };
        let tended = transact(&self.store, Tend { id, act }, Phase::Act(None)).await?;
        let Some(((changed, before), delivery)) = tended else { return Ok(false) };
        self.bill(&delivery, before, country);
        if before.ended_in(&delivery) {
            self.ended(id, &delivery).await;
        }
        if changed {
            self.judge_later(id, &delivery);
            if let Some(country) = delivery.lost() {
                self.router.learn_lost(provider, country);
            }
        }
        Ok(changed)
    }
}
