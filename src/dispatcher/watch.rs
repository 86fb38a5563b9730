//! Messages of late whose provider has to be asked what became of them. They are kept in memory
//! only, so that a send costs the store nothing; what is left of them when the process ends is
//! found in the store, where such a delivery is due again (`domain/delivery/after.rs`).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::clock::{Millis, SECOND};
use crate::domain::id::DeliveryId;
use crate::providers::Sent;

/// Messages that are remembered; older ones are forgotten.
pub(super) const WATCHED_MAX: usize = 10_000;
/// Messages that are asked about in one round.
pub(super) const ASKED_MAX: usize = 16;
/// When a message is asked about, counted from its sending.
const ASKED_AFTER: [Millis; 3] = [2 * SECOND, 5 * SECOND, 15 * SECOND];

/// A message that a provider took, or may have taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    /// The delivery.
    pub(super) id: DeliveryId,
    /// The provider, as a place in the configured order.
    pub(super) place: usize,
    /// What it is asked about.
    pub(super) sent: Sent,
}

/// The messages.
#[derive(Default)]
pub(super) struct Watch {
    /// Each with when it was sent, on the timeline, and how often it was asked about.
    watched: Mutex<VecDeque<(Watched, Millis, usize)>>,
}

impl Watch {
    /// Remembers a message.
    pub(super) fn add(&self, message: Watched, now: Millis) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.len() == WATCHED_MAX {
            watched.pop_front();
        }
        watched.push_back((message, now, 0));
    }

    /// The messages that are to be asked about now, at most [`ASKED_MAX`]; each is asked about
    /// again later, and forgotten after the last time.
    pub(super) fn due(&self, now: Millis) -> Vec<Watched> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        for (message, at, asked) in watched.iter_mut() {
            let wanted = ASKED_AFTER.get(*asked);
            if due.len() < ASKED_MAX && wanted.is_some_and(|after| *at + after <= now) {
                *asked += 1;
                due.push(message.clone());
            }
        }
        watched.retain(|(_, _, asked)| *asked < ASKED_AFTER.len());
        due
    }

    /// Forgets a message: there is nothing left to learn about it.
    pub(super) fn done(&self, id: DeliveryId) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|(message, ..)| message.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::phone::Phone;

    fn message(number: u16) -> Watched {
        let [high, low] = number.to_be_bytes();
        let phone = Phone::from_e164("+8613800138000").unwrap();
        let (reference, message_id) = (number.to_string(), None);
        let sent = Sent { reference, phone, message_id, text: None, wall: 0 };
        Watched { id: DeliveryId::with(1, 0, [high, low, 0, 0, 0, 0, 0, 0, 0]), place: 0, sent }
    }

    #[test]
    fn a_message_is_asked_about_now_and_then_and_in_the_end_left_to_the_store() {
        let watch = Watch::default();
        watch.add(message(1), 1_000);
        let asked: Vec<_> =
            (0..100).filter(|second| !watch.due(second * SECOND).is_empty()).collect();
        assert_eq!(asked, [3, 6, 16]);
        assert!(watch.watched.lock().unwrap().is_empty());
    }

    #[test]
    fn only_so_many_are_remembered_and_asked_about_at_once() {
        let watch = Watch::default();
        for number in 0..=u16::try_from(WATCHED_MAX).unwrap() {
            watch.add(message(number), 0);
        }
        let (first, second) = (watch.due(2 * SECOND), watch.due(2 * SECOND));
        assert_eq!((first.len(), second.len()), (ASKED_MAX, ASKED_MAX));
        assert_eq!(first[0], message(1), "the oldest was forgotten");
        assert_eq!(second[0], message(17), "a round goes on where the last one ended");
        watch.done(message(1).id);
        assert_eq!(watch.due(5 * SECOND)[0], message(2), "those that wait longest go first");
        assert_eq!(watch.watched.lock().unwrap().len(), WATCHED_MAX - 1);
    }
}
