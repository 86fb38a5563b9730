//! The calls of one delivery: whom the router lets through, in which order, and what is learned.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::tend::{Phase, Tend};
use super::{Dispatcher, SETTLE_PAUSE, seconds};
use crate::domain::code::Code;
use crate::domain::delivery::{Claim, Delivery, Settled, Stage};
use crate::domain::id::DeliveryId;
use crate::domain::outcome::{Class, Outcome};
use crate::domain::phone::Phone;
use crate::domain::policy::CALL_MAX;
use crate::domain::verification::{Unwanted, Verification};
use crate::keys::Use;
use crate::message;
use crate::providers::{Message, Receipt};
use crate::routing::{self, Admission, Line};
use crate::store::{StoreError, transact};
use crate::verifier::Letter;
use crate::verifier::records;

impl Dispatcher {
    /// Calls providers under claims until the delivery ends, waits, or belongs to somebody else.
    pub(super) async fn work(self, id: DeliveryId, mut claim: Claim, resend: bool) {
        let message = self.open(id, &claim.letter);
        let used = if resend { self.used_before(id).await } else { Vec::new() };
        let mut line = self.line(message.as_ref(), &used);
        if resend && line.first() != claim.turn {
            match self.redirect(id, &claim, &line).await {
                Some(redirected) => claim = redirected,
                None => return,
            }
        }
        if claim.maybe_sent_by.is_some() && self.was_sent(id, &claim, message.as_ref()).await {
            return;
        }
        loop {
            let number = claim.number;
            let in_time = self.clock.now() < claim.call_before;
            let admitted = in_time.then(|| self.router.admit(claim.turn, &line, claim.again));
            let admission = admitted.unwrap_or_else(|| Admission::Held(routing::too_late()));
            let outcome = match (&message, admission) {
                (_, Admission::Held(outcome)) => outcome,
                (Some(message), Admission::Go) => {
                    let outcome = self.call(&claim, message).await;
                    self.router.learn(claim.turn, &line, outcome.class);
                    outcome
                }
                (None, Admission::Go) => {
                    tracing::error!(delivery = %id, "a letter cannot be opened: is its key gone?");
                    Outcome::of(Class::BadRequest, "letter-unreadable")
                }
            };
            // Who is left out may have changed while the provider was called.
            line = self.line(message.as_ref(), &used);
            let number_kept = self.kept_number(claim.turn, message.as_ref());
            match self.settle(id, number, outcome.clone(), &line, number_kept.as_deref()).await {
                Some(Settled::GoOn(next)) => claim = next,
                settled => return self.follow(id, &claim, message, &outcome, settled.as_ref()),
            }
        }
    }

    fn line(&self, message: Option<&Message>, used: &[String]) -> Line {
        let Some(message) = message else {
            let (order, costs) = ((0..self.providers.len()).collect(), Vec::new());
            return Line { order, country: None, note: None, costs };
        };
        let mut line = self.router.line(&message.phone, used, &mut self.chance.clone());
        let segments = || message::segments(&message.text);
        self.router.prices().in_segments(&mut line.costs, segments);
        line
    }

    /// The line of a delivery as it lies in the store.
    pub(super) fn line_of(&self, id: DeliveryId, delivery: &Delivery) -> Line {
        let message = match &delivery.stage {
            Stage::Pending(pending) => self.open(id, &pending.letter),
            _ => None,
        };
        self.line(message.as_ref(), &[])
    }

    /// The providers that may have sent earlier messages of a delivery's verification.
    async fn used_before(&self, id: DeliveryId) -> Vec<String> {
        let used = async {
            let delivery: Option<Delivery> = self.read(&records::delivery(&id)).await?;
            let Some(delivery) = delivery else { return Ok(Vec::new()) };
            let key = records::verification(&delivery.verification);
            let verification: Option<Verification> = self.read(&key).await?;
            let earlier = verification.map(|it| it.messages).unwrap_or_default();
            let keys: Vec<_> =
                earlier.iter().map(|sent| records::delivery(&sent.delivery)).collect();
            let found = self.store.read(&keys).await?;
            let deliveries = found.into_iter().flatten();
            let deliveries =
                deliveries.filter_map(|it| serde_json::from_slice::<Delivery>(&it.value).ok());
            let maybe = [Class::Accepted, Class::Duplicate, Class::UnknownOutcome];
            let tries = deliveries.flat_map(|delivery| delivery.tries);
            let tries = tries.filter(|tried| maybe.contains(&tried.class));
            Ok::<_, StoreError>(tries.map(|tried| tried.provider).collect())
        };
        used.await.unwrap_or_default()
    }

    pub(super) async fn read<T: serde::de::DeserializeOwned>(
        &self,
        key: &crate::store::Key,
    ) -> Result<Option<T>, StoreError> {
        let found = self.store.read(std::slice::from_ref(key)).await?.into_iter().next().flatten();
        Ok(found.and_then(|record| serde_json::from_slice(&record.value).ok()))
    }

    /// Gives the first call of a resend to the provider that its line begins with; `None` if the
    /// delivery is somebody else's by now. Where nobody knows whether that was written down, it is
    /// written again, and nobody is called before: a call to the first one would be laid to the
    /// other's account (the simulation found that).
    async fn redirect(&self, id: DeliveryId, claim: &Claim, line: &Line) -> Option<Claim> {
        while self.clock.now() < claim.call_before {
            let (number, turn, note) = (claim.number, line.first(), line.note.clone());
            let act = move |delivery: &mut Delivery, _: Option<Unwanted>| {
                let redirected = delivery.redirect(number, turn, note.clone());
                let changed = redirected.is_some();
                (redirected, changed)
            };
            match transact(&self.store, Tend { id, act }, Phase::Act(None)).await {
                Ok(tended) => return tended.and_then(|(redirected, _)| redirected),
                Err(error) => tracing::warn!(%error, delivery = %id, "not redirected yet"),
            }
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
        None
    }

    async fn call(&self, claim: &Claim, message: &Message) -> Outcome {
        let Some(provider) = self.providers.get(claim.turn) else {
            return Outcome::of(Class::NotSent, "no-provider");
        };
        let began = self.clock.now();
        let limit = Duration::from_millis((CALL_MAX + 500).unsigned_abs());
        let called = tokio::time::timeout(limit, provider.send(message)).await;
        let outcome = called.unwrap_or_else(|_| Outcome::of(Class::UnknownOutcome, "timeout"));
        let (name, class) = (provider.name().to_owned(), outcome.class.as_str());
        metrics::histogram!("countersign_provider_seconds", "provider" => name.clone())
            .record(seconds(self.clock.now() - began));
        metrics::counter!(
            "countersign_tries_total", "provider" => name, "class" => class
        )
        .increment(1);
        if outcome.class.needs_operator() {
            tracing::error!(
                provider.name = provider.name(),
                class,
                code = outcome.vendor_code,
                advice = outcome.class.advice(),
                "a provider refuses messages until somebody mends it"
            );
        }
        outcome
    }

    fn open(&self, id: DeliveryId, letter: &str) -> Option<Message> {
        let opened = self.keys.ring().open(Use::Sealing, Letter::PURPOSE, letter)?;
        let letter: Letter = serde_json::from_slice(&opened).ok()?;
        let (phone, code) = (Phone::from_e164(&letter.phone)?, Code::parse(&letter.code)?);
        let text = message::text(&letter.locale, &code, letter.minutes, &self.texts);
        Some(Message { phone, code, minutes: letter.minutes, text, reference: id.to_string() })
    }

    /// Looks at providers that were left out and whose pause is over, with a call that sends
    /// nothing where they have one: no person's message has to wait for an answer that may not
    /// come.
    pub(super) async fn look_at_those_left_out(&self, kept: &mut VecDeque<(String, Receipt)>) {
        for place in self.router.to_be_looked_at() {
            let Some(provider) = self.providers.get(place).map(Arc::clone) else { continue };
            let works = match provider.try_credentials().await {
                Ok(true) => true,
                Ok(false) => match provider.pull_receipts().await {
                    Ok(receipts) => {
                        let name = provider.name();
                        kept.extend(receipts.into_iter().map(|it| (name.to_owned(), it)));
                        true
                    }
                    Err(_) => false,
                },
                Err(_) => false,
            };
            self.router.looked_at(place, works);
        }
    }
}
