//! The frame that an `Idempotency-Key` puts round a start or a resend: the same request again
//! gets the same answer and no second message.

use super::{Issue, Issued, Next, Outcome, Phase};
use crate::clock::Millis;
use crate::domain::id::VerificationId;
use crate::domain::policy::{IDEMPOTENCY_KEPT, IDEMPOTENCY_LEASE};
use crate::domain::sends::Sends;
use crate::domain::verification::Verification;
use crate::store::{Draft, Key, StoreError, Then};
use crate::verifier::records::{self, Remembered, RememberedStage};
use crate::verifier::{Refusal, View};

fn told(outcome: Result<Issued, Refusal>) -> Next {
    Then::Done(Outcome::Told(outcome))
}

impl Issue {
    pub(super) fn idempotency_key(&self) -> Key {
        let key = self.asker.idempotency.as_ref().expect("only asked for where there is a key");
        records::idempotency(&self.ring, &self.asker.tenant, &key.key)
    }

    pub(super) fn body(&self) -> String {
        let Some(key) = &self.asker.idempotency else { return String::new() };
        hex::encode(self.ring.fingerprint("body", key.body.as_bytes()))
    }

    /// The mark of this request in a verification's messages, for who takes over.
    pub(super) fn mark(&self) -> Option<String> {
        let key = &self.asker.idempotency.as_ref()?.key;
        Some(hex::encode(self.ring.fingerprint("request", key.as_bytes())))
    }

    pub(super) fn decide_key(
        &self,
        id: VerificationId,
        draft: &mut Draft,
    ) -> Result<Next, StoreError> {
        let key = self.idempotency_key();
        let remembered: Option<Remembered> = draft.get(&key)?;
        let (id, landed) = match remembered {
            None => (id, false),
            Some(other) if other.body != self.body() => {
                return Ok(told(Err(Refusal::KeyReused)));
            }
            Some(Remembered { stage: RememberedStage::Done { view }, .. }) => {
                return Ok(told(Ok(Issued { view, handoff: None })));
            }
            Some(Remembered { stage: RememberedStage::InFlight { until, .. }, .. })
                if self.now < until =>
            {
                return Ok(told(Err(Refusal::KeyInFlight)));
            }
            Some(Remembered { stage: RememberedStage::InFlight { id, .. }, .. }) => (id, true),
        };
        let stage = RememberedStage::InFlight { until: self.held_until(), id };
        let ours = Remembered { body: self.body(), stage };
        draft.put(&key, &ours, self.now + IDEMPOTENCY_KEPT);
        Ok(Then::Go(if landed { Phase::Landed { id } } else { self.after_key(id) }))
    }

    pub(super) fn decide_landed(
        &self,
        id: VerificationId,
        draft: &Draft,
    ) -> Result<Next, StoreError> {
        Ok(match self.landed(id, draft)? {
            Some(verification) => {
                // The phone's limits lie elsewhere; what they said then follows from the record.
                let mut sends = Sends::default();
                for sent in &verification.messages {
                    sends.add(&self.policy, sent.at);
                }
                let view = View::new(id, &verification, &sends, &self.policy, self.now);
                self.finish(Ok(Box::new(Issued { view, handoff: None })))
            }
            None => Then::Go(self.after_key(id)),
        })
    }

    /// The verification, if it has the message of this very request already.
    pub(super) fn landed(
        &self,
        id: VerificationId,
        draft: &Draft,
    ) -> Result<Option<Verification>, StoreError> {
        let Some(mark) = self.mark() else { return Ok(None) };
        let found: Option<Verification> = draft.get(&records::verification(&id))?;
        let ours = |found: &Verification| {
            found.messages.iter().any(|sent| sent.request.as_ref() == Some(&mark))
        };
        Ok(found.filter(ours))
    }

    /// Until when the key is this request's. Who takes over begins at that instant or later, so no
    /// other request has the same.
    fn held_until(&self) -> Millis {
        self.now + IDEMPOTENCY_LEASE
    }

    pub(super) fn decide_remember(
        &self,
        outcome: &Result<Box<Issued>, Refusal>,
        draft: &mut Draft,
    ) -> Result<Next, StoreError> {
        let key = self.idempotency_key();
        let remembered: Option<Remembered> = draft.get(&key)?;
        let ours = match remembered.map(|it| it.stage) {
            Some(RememberedStage::InFlight { until, .. }) => until == self.held_until(),
            Some(RememberedStage::Done { .. }) | None => false,
        };
        match outcome {
            // Somebody took over meanwhile: what is remembered is theirs.
            _ if !ours => {}
            Ok(issued) => {
                let stage = RememberedStage::Done { view: issued.view.clone() };
                let done = Remembered { body: self.body(), stage };
                draft.put(&key, &done, self.now + IDEMPOTENCY_KEPT);
            }
            // Nothing happened, so the key may be used again, with another answer.
            Err(_) => draft.delete(&key),
        }
        Ok(told(outcome.as_ref().map(|issued| issued.copy()).map_err(Clone::clone)))
    }
}
