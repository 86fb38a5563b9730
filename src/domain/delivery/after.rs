//! What becomes of a message after a provider was called: receipts that come, and questions to
//! providers whose receipts do not come by themselves.
//!
//! Both only move a delivery forward. A receipt that is unknown, repeated, late or contrary
//! changes nothing, and none ever begins anything.

use serde::{Deserialize, Serialize};

use super::{Claimed, Delivery, Stage, Try};
use crate::clock::Millis;
use crate::domain::money::Micros;
use crate::domain::outcome::{About, Class, Receipt, same_name};
use crate::domain::phone::Region;
use crate::domain::policy::{ASKED_AFTER, ENTERED_WITHIN};

/// What is needed to ask a provider about a message that it took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// When it is anyone's turn to ask.
    pub due_at: Millis,
    /// How often it was anyone's turn.
    pub asked: u8,
    /// The number, sealed.
    pub phone: String,
}

/// A message that its provider is to be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The provider's name.
    pub provider: String,
    /// The provider's name for the message.
    pub message_id: String,
    /// The number, sealed.
    pub phone: String,
    /// When it took the message.
    pub at: Millis,
}

/// For whom it counts whether the code of a message is entered. Whoever had the message accepted
/// looks when its time is over; who writes down a receipt that it is lost counts that at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Region>,
    /// A receipt said in time that it is lost, and was counted.
    #[serde(default)]
    pub lost: bool,
}

impl Delivery {
    /// Has it counted whether its code is entered, if a provider took it.
    pub fn count_for(&mut self, country: Option<Region>) {
        if matches!(self.stage, Stage::Accepted { .. }) {
            self.counted = Some(Counted { country, lost: false });
        }
    }

    /// For which country it counts that a receipt said that it is lost; `None` if none did in time.
    pub fn lost(&self) -> Option<Option<Region>> {
        self.counted.filter(|counted| counted.lost).map(|counted| counted.country)
    }

    /// Has its provider asked about it later on. `phone` is the number, sealed.
    pub fn ask_later(&mut self, phone: String) {
        if let Stage::Accepted { at, ask, .. } = &mut self.stage {
            *ask = Some(Ask { due_at: *at + ASKED_AFTER[0], asked: 0, phone });
        }
    }

    /// Takes a receipt of this provider's: only for a message that it took, or may have taken, and
    /// only forward. Says whether anything changed.
    pub fn receive(&mut self, provider: &str, receipt: &Receipt, now: Millis) -> bool {
        let ours = matches!(receipt.about, About::Reference(_));
        let named = match &self.stage {
            Stage::Accepted { provider: taker, .. } if taker != provider => false,
            // A duplicate was accepted without a name.
            Stage::Accepted { message_id, .. } if ours => {
                message_id.is_empty() || *message_id == receipt.message_id
            }
            Stage::Accepted { message_id, .. } => {
                !message_id.is_empty() && same_name(message_id, &receipt.message_id)
            }
            // Its provider's name for it was not learned, or not yet: our reference has to do.
            Stage::Pending(pending) => ours && (pending.claimed || self.maybe_sent_by(provider)),
            Stage::Failed { class: Class::UnknownOutcome, .. } | Stage::Stopped { .. } => {
                ours && self.maybe_sent_by(provider)
            }
            Stage::Delivered { .. } | Stage::Failed { .. } | Stage::Expired { .. } => false,
        };
        if !named || !fits(&receipt.vendor_code) {
            return false;
        }
        let waits = self.awaits(provider);
        let class = if receipt.arrived { Class::Accepted } else { Class::ProviderError };
        match &mut self.stage {
            stage if receipt.arrived => *stage = Stage::Delivered { at: now },
            Stage::Accepted { at, .. } => {
                // Whoever looks when the time is over has counted what comes later.
                if let Some(counted) = self.counted.as_mut().filter(|_| now <= *at + ENTERED_WITHIN)
                {
                    counted.lost = true;
                }
                self.stage = Stage::Failed { class, at: now };
            }
            // What was waited for has come, and is no good: there is nothing to wait for any more.
            Stage::Pending(pending) if waits => pending.due_at = now,
            _ => return false,
        }
        self.note_down(provider, class, receipt.vendor_code.clone(), now);
        true
    }

    /// Takes a provider's word that it has a message whose outcome was unknown. `claim` is the one
    /// that it was asked under; none, if it was asked while the delivery waited. Says whether
    /// anything changed.
    pub fn taken(
        &mut self,
        provider: &str,
        message_id: &str,
        claim: Option<u32>,
        now: Millis,
    ) -> bool {
        let open = match &self.stage {
            // Whoever claimed it may be calling the next one.
            Stage::Pending(pending) if pending.claimed => claim == Some(pending.claim),
            Stage::Pending(_) | Stage::Failed { class: Class::UnknownOutcome, .. } => true,
            _ => false,
        };
        if !open || !self.maybe_sent_by(provider) {
            return false;
        }
        self.note_down(provider, Class::Accepted, "looked-up".to_owned(), now);
        let (provider, message_id) = (provider.to_owned(), message_id.to_owned());
        self.stage = Stage::Accepted { provider, message_id, at: now, ask: None };
        true
    }

    fn note_down(&mut self, provider: &str, class: Class, code: String, now: Millis) {
        let provider = provider.to_owned();
        // The call that sent it was billed.
        let cost = Micros::default();
        self.tries.push(Try { provider, at: now, class, code, note: None, cost });
    }

    /// Whether a call to this provider may have sent it.
    fn maybe_sent_by(&self, provider: &str) -> bool {
        let maybe = [Class::Accepted, Class::Duplicate, Class::UnknownOutcome];
        self.tries.iter().any(|tried| tried.provider == provider && maybe.contains(&tried.class))
    }

    /// Whether it waits for word of this provider, whose call had an unknown outcome.
    fn awaits(&self, provider: &str) -> bool {
        let unknown = |last: &Try| last.class == Class::UnknownOutcome && last.provider == provider;
        let waiting = matches!(&self.stage, Stage::Pending(pending) if !pending.claimed);
        waiting && self.tries.last().is_some_and(unknown)
    }
}

/// Takes a turn at asking, and says when the next one is.
pub(super) fn claim_to_ask(
    (provider, message_id, at): (&str, &str, Millis),
    ask: &mut Option<Ask>,
    now: Millis,
) -> Claimed {
    let Some(turn) = ask else { return Claimed::Ended };
    if now < turn.due_at {
        return Claimed::NotDue;
    }
    let (provider, message_id) = (provider.to_owned(), message_id.to_owned());
    let asked = Asked { provider, message_id, phone: turn.phone.clone(), at };
    turn.asked += 1;
    match ASKED_AFTER.get(usize::from(turn.asked)) {
        Some(after) => turn.due_at = (at + after).max(now + ASKED_AFTER[0]),
        // Nobody asks any more, and the number is gone.
        None => *ask = None,
    }
    Claimed::Ask(asked)
}

/// Vendor codes come from outside: short and plain, or they are not kept.
fn fits(code: &str) -> bool {
    code.len() <= 32 && code.bytes().all(|byte| byte.is_ascii_graphic())
}
