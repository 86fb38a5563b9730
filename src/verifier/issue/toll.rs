//! What a message takes of the caps, in the phone's decision. Only when this node has nothing left
//! of a cap does the verb stop there; the store is asked, and the verb goes on where it stood.

use std::sync::Arc;

use super::{Issue, Issued, Outcome, What};
use crate::domain::id::VerificationId;
use crate::domain::money::Micros;
use crate::domain::phone::Phone;
use crate::domain::standing::Standing;
use crate::store::{StoreError, transact};
use crate::verifier::caps::{Fare, Short, Ticket};
use crate::verifier::{Refusal, Verifier};

/// Why a message does not go on.
pub(super) enum Stopped {
    /// A cap is full.
    Full(Refusal),
    /// The store has to be asked for a share.
    Dry(Fare),
}

impl Verifier {
    /// A ticket, with something there to take where that can be known beforehand.
    pub(super) async fn ticket(&self, what: &What, through: usize) -> Result<Ticket, StoreError> {
        let caps = self.caps.as_ref().filter(|caps| caps.hold());
        if let Some(caps) = caps {
            let phone = match what {
                What::New { phone, .. } => Some((phone, through)),
                What::Again => None,
            };
            caps.fill(phone).await?;
        }
        Ok(Ticket::new(caps.cloned()))
    }

    pub(super) async fn carry_out(
        &self,
        verb: Arc<Issue>,
        id: VerificationId,
    ) -> Result<Result<Issued, Refusal>, StoreError> {
        let mut phase = verb.first(id);
        loop {
            match transact(&self.store, Arc::clone(&verb), phase).await {
                Ok(Outcome::Told(told)) => {
                    if told.as_ref().is_ok_and(|issued| issued.handoff.is_some()) {
                        verb.ticket.keep();
                    }
                    return Ok(told);
                }
                Ok(Outcome::Dry { at, fare }) => {
                    verb.ticket.obtain(fare).await?;
                    phase = at;
                }
                Err(error) => {
                    // It may have landed.
                    verb.ticket.keep();
                    return Err(error);
                }
            }
        }
    }
}

impl Issue {
    /// Takes the message's share of the caps; says what was set aside for it.
    pub(super) fn toll(&self, phone: &Phone, standing: &Standing) -> Result<Micros, Stopped> {
        let known = standing.is_known(self.policy.known_for, self.now);
        let through = match &self.what {
            What::New { .. } => Some(self.carrier.0),
            What::Again => None,
        };
        self.ticket.take(phone, through, known).map_err(|(short, fare)| match short {
            Short::Dry => Stopped::Dry(fare),
            Short::Full { retry_at, cap } => Stopped::Full(Refusal::Capped { retry_at, cap }),
        })
    }
}
