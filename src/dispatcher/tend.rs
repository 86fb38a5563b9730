//! One commit about a delivery, with its verification in view: a message that nobody waits for
//! any more is not called again.
//!
//! Delivery, verification and standing lie in the phone's partition, so what is read here holds
//! when the claim lands. The standing is looked at as well as the verification: it names the
//! newest one, whether or not the older one's end was written down yet.

use crate::domain::delivery::Delivery;
use crate::domain::id::{DeliveryId, VerificationId};
use crate::domain::standing::Standing;
use crate::domain::verification::{Unwanted, Verification};
use crate::store::{Draft, Key, StoreError, Then, Verb};
use crate::verifier::records::{self, PhoneName};

/// What is done to a delivery. `act` gives its answer and whether it changed the delivery.
pub(super) struct Tend<A> {
    pub(super) id: DeliveryId,
    pub(super) act: A,
}

pub(super) enum Phase {
    /// Whose message is it?
    Delivery,
    /// Whose newest verification has to be looked up?
    Verification(VerificationId),
    /// With its verification in view, where that matters.
    Act(Option<(VerificationId, Key)>),
}

/// The answer of `act`, and the delivery as it is now; `None` if there is none.
pub(super) type Tended<T> = Option<(T, Delivery)>;

impl<A, T> Verb for Tend<A>
where
    A: Fn(&mut Delivery, Option<Unwanted>) -> (T, bool) + Send + 'static,
    T: Send + 'static,
{
    type Phase = Phase;
    type Answer = Tended<T>;

    fn keys(&self, phase: &Phase) -> Vec<Key> {
        let delivery = records::delivery(&self.id);
        match phase {
            Phase::Delivery | Phase::Act(None) => vec![delivery],
            Phase::Verification(id) => vec![records::verification(id)],
            Phase::Act(Some((id, standing))) => {
                vec![delivery, records::verification(id), standing.clone()]
            }
        }
    }

    fn decide(
        &self,
        phase: &Phase,
        draft: &mut Draft,
    ) -> Result<Then<Phase, Tended<T>>, StoreError> {
        match phase {
            Phase::Delivery => {
                let found: Option<Delivery> = draft.get(&records::delivery(&self.id))?;
                Ok(match found {
                    Some(delivery) => Then::Go(Phase::Verification(delivery.verification)),
                    None => Then::Done(None),
                })
            }
            Phase::Verification(id) => {
                let found: Option<Verification> = draft.get(&records::verification(id))?;
                // It outlives its deliveries. If it is gone all the same, their deadline ends them.
                let standing = found.and_then(|found| {
                    let name = PhoneName::from_hex(&found.fingerprint)?;
                    Some((*id, name.standing(&found.tenant, &found.purpose)))
                });
                Ok(Then::Go(Phase::Act(standing)))
            }
            Phase::Act(of) => {
                let key = records::delivery(&self.id);
                let Some(mut delivery) = draft.get::<Delivery>(&key)? else {
                    return Ok(Then::Done(None));
                };
                let unwanted = match of {
                    Some((id, standing)) => self.unwanted(*id, standing, draft)?,
                    None => None,
                };
                let (answer, changed) = (self.act)(&mut delivery, unwanted);
                if changed {
                    draft.put_due(&key, &delivery, delivery.kept_until(), delivery.due_at());
                }
                Ok(Then::Done(Some((answer, delivery))))
            }
        }
    }
}

impl<A> Tend<A> {
    fn unwanted(
        &self,
        id: VerificationId,
        standing: &Key,
        draft: &Draft,
    ) -> Result<Option<Unwanted>, StoreError> {
        let Some(verification) = draft.get::<Verification>(&records::verification(&id))? else {
            return Ok(None);
        };
        let standing: Standing = draft.get(standing)?.unwrap_or_default();
        // Superseding writes `canceled` into the older one: the newest one's name tells them apart.
        if standing.newest.is_some_and(|newest| newest != id) {
            return Ok(Some(Unwanted::Superseded));
        }
        Ok(verification.unwanted(self.id))
    }
}
