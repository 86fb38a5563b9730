//! What was written lately and does not lie in its place in the table yet.
//!
//! Records are named by fingerprints, so their places in the index are all over the file: to put
//! each commit there would write several pages for every request. A commit therefore appends all
//! that it writes to the log, and keeps it here for reading. Once a *stretch* of the log is long
//! enough it is folded: what it left of each record goes to its place, all in one transaction, by
//! a thread of its own. Much never goes there: a record that changed again or ended meanwhile is
//! written once, or not at all.
//!
//! After a crash the log is read back, and all is here as it was.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::batch::{Batch, Name, Row, Rows};
use crate::clock::Millis;

/// A stretch of the log: what it left of each record.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub(super) rows: Rows,
    due: BTreeSet<(Millis, Name)>,
    /// The length of its commits in the log.
    pub(super) bytes: usize,
    /// When its first commit landed.
    pub(super) since: Option<Instant>,
    /// The numbers of its first commit and its last.
    pub(super) begin: u64,
    pub(super) end: u64,
    /// Where the timeline stood when that was last written down.
    pub(super) anchor: Option<String>,
    /// The highest revision that it gave.
    pub(super) revision: u64,
}

impl Stretch {
    /// Takes in a commit, whose number and length in the log are these.
    pub(super) fn add(&mut self, batch: Batch, number: u64, length: usize) {
        for (name, mut row) in batch.rows {
            self.revision = self.revision.max(row.revision);
            let due_at = row.due_at();
            let mut due_before = None;
            if let Some(before) = self.rows.get(&name) {
                row.first = before.first;
                due_before = before.due_at();
            }
            self.rows.insert(name.clone(), row);
            if due_before == due_at {
                continue;
            }
            if let Some(before) = due_before {
                self.due.remove(&(before, name.clone()));
            }
            if let Some(at) = due_at {
                self.due.insert((at, name));
            }
        }
        self.bytes += length;
        if self.since.is_none() {
            (self.since, self.begin) = (Some(Instant::now()), number);
        }
        self.end = number;
        self.anchor = batch.anchor.or_else(|| self.anchor.take());
    }

    fn due(&self, now: Millis) -> impl Iterator<Item = &(Millis, Name)> {
        let due = self.due.iter().take_while(move |(at, _)| *at <= now);
        due.filter(move |(_, name)| self.rows.get(name).and_then(|row| row.record(now)).is_some())
    }
}

/// The stretch that commits are added to, and the one before it while it is being folded.
#[derive(Debug, Default)]
pub(super) struct Recent {
    pub(super) fresh: Stretch,
    pub(super) folding: Option<Arc<Stretch>>,
}

impl Recent {
    /// A record as it was last written, if that was lately.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Row> {
        self.fresh.rows.get(name).or_else(|| self.folding.as_ref()?.rows.get(name))
    }

    /// What is due at `now`, with its time, in no order.
    pub(super) fn due(&self, now: Millis) -> impl Iterator<Item = (Millis, Name)> {
        let folding = self.folding.iter().flat_map(move |stretch| stretch.due(now));
        let folding = folding.filter(|(_, name)| !self.fresh.rows.contains_key(name));
        self.fresh.due(now).chain(folding).cloned()
    }

    /// Where the timeline stood when the log was last told.
    pub(super) fn anchor(&self) -> Option<&str> {
        let folding = self.folding.as_ref().and_then(|stretch| stretch.anchor.as_deref());
        self.fresh.anchor.as_deref().or(folding)
    }

    /// The highest revision that was given.
    pub(super) fn revision(&self) -> u64 {
        self.fresh.revision.max(self.folding.as_ref().map_or(0, |stretch| stretch.revision))
    }

    /// What is fresh is to be folded from now on.
    pub(super) fn turn_over(&mut self) -> Arc<Stretch> {
        let stretch = Arc::new(std::mem::take(&mut self.fresh));
        self.folding = Some(Arc::clone(&stretch));
        stretch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Write;

    fn put(value: &[u8], due_at: Option<Millis>) -> Write {
        Write::Put { value: value.to_vec(), expires_at: 100, due_at }
    }

    fn batch(writes: &[(&str, Write)]) -> Batch {
        let row = |(revision, (name, write)): (u64, &(&str, Write))| {
            (name.as_bytes().to_vec(), Row { revision, write: write.clone(), first: revision == 1 })
        };
        Batch { rows: (1..).zip(writes).map(row).collect(), anchor: None }
    }

    #[test]
    fn what_is_due_is_what_was_written_last() {
        let mut recent = Recent::default();
        let first = [("a", put(b"", Some(5))), ("b", put(b"", Some(6))), ("c", put(b"", Some(7)))];
        recent.fresh.add(batch(&first), 1, 10);
        recent.turn_over();
        let due = |recent: &Recent, now| -> Vec<(Millis, String)> {
            let mut due: Vec<_> = recent.due(now).collect();
            due.sort();
            due.into_iter().map(|(at, name)| (at, String::from_utf8(name).unwrap())).collect()
        };
        let named = |due: &[(Millis, &str)]| -> Vec<(Millis, String)> {
            due.iter().map(|(at, name)| (*at, (*name).to_owned())).collect()
        };
        assert_eq!(due(&recent, 6), named(&[(5, "a"), (6, "b")]));
        recent.fresh.add(batch(&[("a", put(b"", Some(8))), ("b", put(b"", None))]), 2, 10);
        assert_eq!(due(&recent, 9), named(&[(7, "c"), (8, "a")]));
        recent.fresh.add(batch(&[("a", Write::Delete), ("c", put(b"", Some(9)))]), 3, 10);
        assert_eq!(due(&recent, 9), named(&[(9, "c")]));
        assert_eq!(due(&recent, 100), named(&[]), "nothing past its time");
    }

    #[test]
    fn a_record_stays_the_first_of_its_name_through_a_stretch_and_no_further() {
        let mut stretch = Stretch::default();
        stretch.add(batch(&[("new", put(b"", None)), ("old", put(b"", None))]), 7, 10);
        stretch.add(batch(&[("old", Write::Delete), ("new", Write::Delete)]), 8, 10);
        let first = |name: &str| stretch.rows[name.as_bytes()].first;
        assert_eq!((first("new"), first("old")), (true, false));
        assert_eq!((stretch.begin, stretch.end, stretch.bytes), (7, 8, 20));
    }
}
