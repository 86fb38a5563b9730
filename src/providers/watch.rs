//! Messages of late whose receipt has not come: for vendors that must be asked about each message,
//! and for those whose receipts do not carry our reference. They are kept in memory only. After a
//! restart nobody asks about older ones, and such a message stays as it was: taken, or unknown.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::{Message, Outcome, Receipt, wire};
use crate::clock::{Clock, HOUR, MINUTE, Millis, SECOND};
use crate::domain::phone::Phone;

/// Messages that are remembered; older ones are forgotten.
pub const WATCHED_MAX: usize = 10_000;
/// Messages that are asked about in one round, one after the other.
pub const ASKED_MAX: usize = 16;
/// When a message is asked about, counted from its sending. Twice within the eight seconds that an
/// unknown outcome waits.
const ASKED_AFTER: [Millis; 6] = [2 * SECOND, 5 * SECOND, 15 * SECOND, MINUTE, 5 * MINUTE, HOUR];

/// A message that a vendor took, or may have taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Our reference.
    pub reference: String,
    /// The vendor's name for it, where it is known.
    pub message_id: Option<String>,
    /// To whom.
    pub phone: Phone,
    /// When, on the timeline.
    pub at: Millis,
    /// When, by the wall clock.
    pub wall: Millis,
}

impl Sent {
    /// A message that was handed over just now, with this outcome.
    pub fn new(message: &Message, outcome: &Outcome, clock: &Clock) -> Self {
        Self {
            reference: message.reference.clone(),
            message_id: outcome.message_id.clone(),
            phone: message.phone.clone(),
            at: clock.now(),
            wall: clock.wall(),
        }
    }
}

struct Watched {
    sent: Sent,
    asked: usize,
}

/// The messages.
#[derive(Default)]
pub struct Watch {
    watched: Mutex<VecDeque<Watched>>,
}

impl Watch {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a message.
    pub fn add(&self, sent: Sent) {
        let mut watched = self.lock();
        if watched.len() == WATCHED_MAX {
            watched.pop_front();
        }
        watched.push_back(Watched { sent, asked: 0 });
    }

    /// The messages that are to be asked about now, at most [`ASKED_MAX`]; each is asked about
    /// again later, and forgotten after the last time.
    pub fn due(&self, now: Millis) -> Vec<Sent> {
        let mut watched = self.lock();
        let mut due = Vec::new();
        for entry in watched.iter_mut() {
            let wanted = ASKED_AFTER.get(entry.asked);
            if due.len() < ASKED_MAX && wanted.is_some_and(|after| entry.sent.at + after <= now) {
                entry.asked += 1;
                due.push(entry.sent.clone());
            }
        }
        watched.retain(|entry| entry.asked < ASKED_AFTER.len());
        due
    }

    /// Asks about all messages that are due, one after the other. What was learned before a
    /// failure counts; the rest is asked about again later.
    pub async fn ask_all<F>(
        &self,
        now: Millis,
        ask: impl Fn(Sent) -> F,
    ) -> Result<Vec<Receipt>, Outcome>
    where
        F: Future<Output = Result<Option<Receipt>, Outcome>>,
    {
        let mut receipts = Vec::new();
        for sent in self.due(now) {
            match ask(sent).await {
                Ok(Some(receipt)) => {
                    self.done(&receipt.reference);
                    receipts.push(receipt);
                }
                Ok(None) => {}
                Err(_) if !receipts.is_empty() => break,
                Err(outcome) => return Err(wire::only_asked(outcome)),
            }
        }
        Ok(receipts)
    }

    /// Forgets a message: its receipt has come.
    pub fn done(&self, reference: &str) {
        self.lock().retain(|entry| entry.sent.reference != reference);
    }

    /// Our reference for the vendor's name of a message.
    pub fn reference(&self, message_id: &str) -> Option<String> {
        let watched = self.lock();
        let known = |entry: &&Watched| entry.sent.message_id.as_deref() == Some(message_id);
        watched.iter().rev().find(known).map(|entry| entry.sent.reference.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(number: usize, at: Millis) -> Sent {
        let phone = Phone::from_e164("+8613800138000").unwrap();
        let message_id = Some(format!("m{number}"));
        Sent { reference: format!("r{number}"), message_id, phone, at, wall: at }
    }

    #[test]
    fn a_message_is_asked_about_now_and_then_and_in_the_end_forgotten() {
        let watch = Watch::default();
        watch.add(sent(1, 1_000));
        let mut asked = Vec::new();
        for second in 0..8_000 {
            if !watch.due(second * SECOND).is_empty() {
                asked.push(second);
            }
        }
        assert_eq!(asked, [3, 6, 16, 61, 301, 3601]);
        assert_eq!(watch.reference("m1"), None, "forgotten");
    }

    #[test]
    fn only_so_many_are_remembered_and_asked_about_at_once() {
        let watch = Watch::default();
        for number in 0..=WATCHED_MAX {
            watch.add(sent(number, 0));
        }
        assert_eq!((watch.reference("m0"), watch.reference("m1")), (None, Some("r1".to_owned())));
        let (first, second) = (watch.due(2 * SECOND), watch.due(2 * SECOND));
        assert_eq!((first.len(), second.len()), (ASKED_MAX, ASKED_MAX));
        assert_ne!(first[0], second[0], "a round goes on where the last one ended");
    }

    #[test]
    fn a_message_with_a_receipt_is_not_asked_about_again() {
        let watch = Watch::default();
        watch.add(sent(1, 0));
        watch.add(sent(2, 0));
        watch.done("r1");
        assert_eq!(watch.due(HOUR), [sent(2, 0)]);
    }
}
