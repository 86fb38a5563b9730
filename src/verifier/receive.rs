//! Receipts: which delivery each is about, and what it changes there.

use super::Verifier;
use super::records::{self, PhoneName};
use crate::domain::delivery::{Delivery, Stage};
use crate::domain::id::DeliveryId;
use crate::domain::outcome::{About, Receipt, same_name};
use crate::domain::phone::Phone;
use crate::domain::standing::Standing;
use crate::domain::verification::Verification;
use crate::store::{Key, StoreError, transact_once};

impl Verifier {
    /// Takes a receipt of this provider's. Unknown, repeated or contrary ones change nothing.
    pub async fn receive(&self, provider: &str, receipt: Receipt) -> Result<bool, StoreError> {
        let id = match &receipt.about {
            About::Reference(reference) => reference.parse().ok(),
            About::Phone(phone) => self.sent_to(phone, provider, &receipt.message_id).await?,
        };
        let changed = match id {
            Some(id) => self.write_down(id, provider.to_owned(), receipt).await?,
            None => false,
        };
        count(provider, if changed { "taken" } else { "ignored" });
        Ok(changed)
    }

    async fn write_down(
        &self,
        id: DeliveryId,
        provider: String,
        receipt: Receipt,
    ) -> Result<bool, StoreError> {
        let (key, now) = (records::delivery(&id), self.clock.now());
        let name = provider.clone();
        let received = transact_once(&self.store, vec![key.clone()], move |draft| {
            let found = draft.get::<Delivery>(&key)?;
            let Some(mut delivery) = found else { return Ok((false, None)) };
            let changed = delivery.receive(&provider, &receipt, now);
            if changed {
                draft.put_due(&key, &delivery, delivery.kept_until(), delivery.due_at());
            }
            Ok((changed, delivery.lost()))
        });
        let (changed, lost) = received.await?;
        if let Some((router, country)) = self.router.as_ref().zip(lost).filter(|_| changed) {
            router.learn_lost(&name, country);
        }
        Ok(changed)
    }

    /// The delivery of a message to this phone that this provider took under this name: one of the
    /// newest verification, of whatever tenant and purpose. It is looked for where it lies, so no
    /// send pays for an index of the vendors' names, and any node finds it.
    async fn sent_to(
        &self,
        phone: &Phone,
        provider: &str,
        message_id: &str,
    ) -> Result<Option<DeliveryId>, StoreError> {
        let name = PhoneName::of(&self.keys.ring(), phone);
        let audiences = self.audiences.iter();
        let keys: Vec<_> =
            audiences.map(|(tenant, purpose)| name.standing(tenant, purpose)).collect();
        let standings = self.read_all::<Standing>(&keys).await?;
        let newest = standings.into_iter().filter_map(|(_, standing)| standing.newest);
        let keys: Vec<_> = newest.map(|id| records::verification(&id)).collect();
        let verifications = self.read_all::<Verification>(&keys).await?;
        let messages = verifications.into_iter().flat_map(|(_, it)| it.messages);
        let keys: Vec<_> = messages.map(|sent| records::delivery(&sent.delivery)).collect();
        let deliveries = self.read_all::<Delivery>(&keys).await?;
        let found = deliveries.into_iter().find(|(_, delivery)| match &delivery.stage {
            Stage::Accepted { provider: taker, message_id: known, .. } => {
                taker == provider && !known.is_empty() && same_name(known, message_id)
            }
            _ => false,
        });
        Ok(found.and_then(|(key, _)| records::delivery_id(&key)))
    }

    /// The records that are there and can be read, with their keys.
    async fn read_all<T: serde::de::DeserializeOwned>(
        &self,
        keys: &[Key],
    ) -> Result<Vec<(Key, T)>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let found = keys.iter().zip(self.store.read(keys).await?);
        let read = found.filter_map(|(key, record)| {
            Some((key.clone(), serde_json::from_slice(&record?.value).ok()?))
        });
        Ok(read.collect())
    }
}

/// Counts a receipt, however it came.
pub fn count(provider: &str, outcome: &'static str) {
    let provider = provider.to_owned();
    metrics::counter!("countersign_receipts_total", "provider" => provider, "outcome" => outcome)
        .increment(1);
}
