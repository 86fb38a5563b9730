//! Look and cancel, and the timeline: what happened, when, through whom, and why it ended.

use super::records::{self, PhoneName};
use super::{Verifier, View};
use crate::clock::Millis;
use crate::domain::delivery::{Delivery, Stage as DeliveryStage};
use crate::domain::id::{DeliveryId, VerificationId};
use crate::domain::money::Micros;
use crate::domain::sends::Sends;
use crate::domain::verification::{Stage, Status, Unwanted, Verification};
use crate::routing;
use crate::store::{Key, StoreError, transact_once};

/// A verification with its story.
#[derive(Clone, Debug)]
pub struct Look {
    /// As its tenant sees it.
    pub view: View,
    /// What happened, oldest first.
    pub events: Vec<Event>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Millis,
    /// What: a short stable word.
    pub event: &'static str,
    /// Through which provider.
    pub provider: Option<String>,
    /// The class of an outcome.
    pub class: Option<&'static str>,
    /// The provider's own code.
    pub code: Option<String>,
    /// More about it in words.
    pub note: Option<String>,
    /// Which message it concerns.
    pub delivery: Option<DeliveryId>,
    /// What a call to a provider costs; nothing where no price is known.
    pub cost: Micros,
}

impl Event {
    fn new(at: Millis, event: &'static str) -> Self {
        let (provider, class, code, note) = (None, None, None, None);
        let (delivery, cost) = (None, Micros::default());
        Self { at, event, provider, class, code, note, delivery, cost }
    }
}

impl Verifier {
    /// Looks at a verification of this tenant.
    pub async fn look(&self, tenant: &str, id: VerificationId) -> Result<Option<View>, StoreError> {
        Ok(self.find(tenant, id).await?.map(|(view, _)| view))
    }

    /// Looks at a verification of this tenant with its story.
    pub async fn timeline(
        &self,
        tenant: &str,
        id: VerificationId,
    ) -> Result<Option<Look>, StoreError> {
        let Some((view, verification)) = self.find(tenant, id).await? else { return Ok(None) };
        let keys: Vec<Key> =
            verification.messages.iter().map(|sent| records::delivery(&sent.delivery)).collect();
        let mut deliveries = Vec::new();
        for (record, sent) in self.store.read(&keys).await?.into_iter().zip(&verification.messages)
        {
            if let Some(record) = record {
                deliveries.push((sent.delivery, parse::<Delivery>(&record.value)?));
            }
        }
        let events = story(&verification, &deliveries, self.clock.now());
        Ok(Some(Look { view, events }))
    }

    /// Cancels a verification; `None` if there is none that is pending.
    pub async fn cancel(
        &self,
        tenant: &str,
        id: VerificationId,
    ) -> Result<Option<View>, StoreError> {
        let Some((_, _)) = self.find(tenant, id).await? else { return Ok(None) };
        let (key, now) = (records::verification(&id), self.clock.now());
        let code_key = records::live_code(&id);
        let canceled = transact_once(&self.store, vec![key.clone()], move |draft| {
            let Some(mut verification) = draft.get::<Verification>(&key)? else { return Ok(false) };
            let canceled = verification.cancel(now);
            if canceled {
                draft.put(&key, &verification, verification.kept_until());
                draft.delete(&code_key);
            }
            Ok(canceled)
        });
        if canceled.await? { self.look(tenant, id).await } else { Ok(None) }
    }

    async fn find(
        &self,
        tenant: &str,
        id: VerificationId,
    ) -> Result<Option<(View, Verification)>, StoreError> {
        let found = self.store.read(&[records::verification(&id)]).await?;
        let Some(Some(record)) = found.into_iter().next() else { return Ok(None) };
        let verification: Verification = parse(&record.value)?;
        if verification.tenant != tenant {
            return Ok(None);
        }
        let Some(name) = PhoneName::from_hex(&verification.fingerprint) else { return Ok(None) };
        let sends = self.store.read(&[name.sends()]).await?.into_iter().next().flatten();
        let sends: Sends =
            sends.map(|record| parse(&record.value)).transpose()?.unwrap_or_default();
        let view = View::new(id, &verification, &sends, &self.policy, self.clock.now());
        Ok(Some((view, verification)))
    }
}

fn parse<T: serde::de::DeserializeOwned>(value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value)
        .map_err(|error| StoreError::Unreadable(format!("at column {}", error.column())))
}

fn story(
    verification: &Verification,
    deliveries: &[(DeliveryId, Delivery)],
    now: Millis,
) -> Vec<Event> {
    let passage = verification.passage.map(|passage| Event {
        class: Some(passage.how.as_str()),
        code: Some(passage.reason.as_str().to_owned()),
        ..Event::new(verification.created_at, "challenge_passed")
    });
    let mut events: Vec<_> = passage.into_iter().collect();
    events.push(Event::new(verification.created_at, "started"));
    for (id, delivery) in deliveries {
        let about = |event| Event { delivery: Some(*id), ..event };
        events.push(about(Event::new(delivery.created_at, "message_accepted")));
        events.extend(delivery.note.iter().map(|note| Event {
            note: Some(note.clone()),
            ..about(Event::new(delivery.created_at, "provider_chosen"))
        }));
        events.extend(delivery.tries.iter().map(|tried| {
            let held = routing::is_held(&tried.code);
            Event {
                provider: Some(tried.provider.clone()),
                class: Some(tried.class.as_str()),
                code: Some(tried.code.clone()),
                note: tried.note.clone(),
                cost: tried.cost,
                ..about(Event::new(
                    tried.at,
                    if held { "provider_left_out" } else { "provider_answered" },
                ))
            }
        }));
        let end = match &delivery.stage {
            DeliveryStage::Pending(_) => None,
            DeliveryStage::Accepted { at, .. } => Some((*at, "message_sent")),
            DeliveryStage::Delivered { at } => Some((*at, "message_delivered")),
            DeliveryStage::Failed { at, .. } | DeliveryStage::Stopped { at, .. } => {
                Some((*at, "message_failed"))
            }
            DeliveryStage::Expired { at } => Some((*at, "message_expired")),
        };
        let class = delivery.stopped().map(Unwanted::as_str);
        events.extend(end.map(|(at, word)| Event { class, ..about(Event::new(at, word)) }));
    }
    events.extend(
        verification.checks.iter().map(|guess| {
            Event::new(guess.at, if guess.right { "code_right" } else { "code_wrong" })
        }),
    );
    let end = match (&verification.stage, verification.status(now)) {
        (Stage::Approved { at }, _) => Some((*at, "approved")),
        (Stage::Canceled { at }, _) => Some((*at, "canceled")),
        (Stage::Exhausted { at }, _) => Some((*at, "max_attempts_reached")),
        (Stage::Pending { expires_at, .. }, Status::Expired) => Some((*expires_at, "expired")),
        (Stage::Pending { .. }, _) => None,
    };
    events.extend(end.map(|(at, word)| Event::new(at, word)));
    // Stable: what happened at one instant stays in the order of its causes.
    events.sort_by_key(|event| event.at);
    events
}
