//! What was written lately and does not lie in its place in the table yet.
//!
//! Records are named by fingerprints, so their places in the index are all over the file: to put
//! each commit there would write several pages for every request. A commit therefore appends all
//! that it writes to the log, and notes here where each record lies in it. Once a *stretch* of the
//! log is long enough it is folded: what it left of each record goes to its place, by a thread of
//! its own. Much never goes there: a record that changed again or ended meanwhile is written once,
//! or not at all.
//!
//! After a crash the log is read back, and all is here as it was.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use super::batch::{self, ByName, NEVER, Name, Slot};
use crate::clock::Millis;
use crate::store::Record;

/// A stretch of the log: what it left of each record.
#[derive(Debug)]
pub(super) struct Stretch {
    /// The log's file that it lies in.
    file: Arc<File>,
    pub(super) slots: ByName<Slot>,
    due: BTreeSet<(Millis, Name)>,
    /// The length of its commits in the log.
    pub(super) bytes: usize,
    /// When its first commit landed.
    pub(super) since: Option<Instant>,
    /// The numbers of its first commit and its last.
    pub(super) begin: u64,
    pub(super) end: u64,
    /// Where the timeline stood when that was last written down.
    anchor: Option<String>,
    /// The highest revision that it gave.
    pub(super) revision: u64,
}

/// A commit that the log holds and nobody wrote.
#[derive(Debug)]
pub(super) struct Unreadable;

impl Stretch {
    /// An empty one.
    pub(super) fn new(file: Arc<File>) -> Self {
        Self {
            file,
            slots: ByName::default(),
            due: BTreeSet::new(),
            bytes: 0,
            since: None,
            begin: 0,
            end: 0,
            anchor: None,
            revision: 0,
        }
    }

    /// Takes in the commit with this number, whose encoded form lies here in the file.
    pub(super) fn add(&mut self, number: u64, form: &[u8], at: u64) -> Result<(), Unreadable> {
        let (anchor, slots) = batch::decode(form, at).ok_or(Unreadable)?;
        for (name, mut slot) in slots {
            self.revision = self.revision.max(slot.revision);
            let due_at = slot.due_at;
            let mut due_before = NEVER;
            if let Some(before) = self.slots.get(&name) {
                slot.first = before.first;
                due_before = before.due_at;
            }
            if due_before != due_at {
                if due_before != NEVER {
                    self.due.remove(&(due_before, name.clone()));
                }
                if due_at != NEVER {
                    self.due.insert((due_at, name.clone()));
                }
            }
            self.slots.insert(name, slot);
        }
        self.bytes += form.len();
        if self.since.is_none() {
            (self.since, self.begin) = (Some(Instant::now()), number);
        }
        self.end = number;
        self.anchor = Some(anchor).filter(|anchor| !anchor.is_empty()).or(self.anchor.take());
        Ok(())
    }

    /// Forgets which records are the first of their names. It is not known of a stretch that was
    /// read back: the life before may have folded a part of it.
    pub(super) fn forget_first(&mut self) {
        self.slots.values_mut().for_each(|slot| slot.first = false);
    }

    /// What the log holds of a record.
    pub(super) fn value(&self, slot: &Slot) -> io::Result<Vec<u8>> {
        let mut value = vec![0; usize::try_from(slot.length).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut value, slot.at.into())?;
        Ok(value)
    }

    fn record(&self, slot: &Slot, now: Millis) -> io::Result<Option<Record>> {
        if slot.expires_at <= now {
            return Ok(None);
        }
        Ok(Some(Record { revision: slot.revision, value: self.value(slot)? }))
    }

    fn due(&self, now: Millis) -> impl Iterator<Item = &(Millis, Name)> {
        let due = self.due.iter().take_while(move |(at, _)| *at <= now);
        due.filter(move |(_, name)| self.slots.get(name).is_some_and(|it| it.expires_at > now))
    }
}

/// The stretch that commits are added to, and the one before it while it is being folded.
#[derive(Debug)]
pub(super) struct Recent {
    pub(super) fresh: Stretch,
    pub(super) folding: Option<Arc<Stretch>>,
}

impl Recent {
    fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        std::iter::once(&self.fresh).chain(self.folding.as_deref())
    }

    /// Whether a record was written lately.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.stretches().any(|stretch| stretch.slots.contains_key(name))
    }

    /// A record as it was last written, if that was lately: then it is there at `now`, or not.
    pub(super) fn get(&self, name: &[u8], now: Millis) -> Option<io::Result<Option<Record>>> {
        let found = |stretch: &Stretch| Some(stretch.record(stretch.slots.get(name)?, now));
        self.stretches().find_map(found)
    }

    /// What is due at `now`, with its time, in no order.
    pub(super) fn due(&self, now: Millis) -> impl Iterator<Item = (Millis, Name)> {
        let folding = self.folding.iter().flat_map(move |stretch| stretch.due(now));
        let folding = folding.filter(|(_, name)| !self.fresh.slots.contains_key(name));
        self.fresh.due(now).chain(folding).cloned()
    }

    /// Where the timeline stood when the log was told.
    pub(super) fn anchors(&self) -> impl Iterator<Item = &str> {
        self.stretches().filter_map(|stretch| stretch.anchor.as_deref())
    }

    /// The highest revision that was given.
    pub(super) fn revision(&self) -> u64 {
        self.stretches().map(|stretch| stretch.revision).max().unwrap_or(0)
    }

    /// What is fresh is to be folded from now on, and commits go to this file.
    pub(super) fn turn_over(&mut self, file: Arc<File>) -> Arc<Stretch> {
        let stretch = Arc::new(std::mem::replace(&mut self.fresh, Stretch::new(file)));
        self.folding = Some(Arc::clone(&stretch));
        stretch
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::{Row, Rows, encode};
    use super::*;
    use crate::store::Write;

    fn stretch() -> Stretch {
        Stretch::new(Arc::new(tempfile::tempfile().unwrap()))
    }

    fn put(value: &[u8], due_at: Option<Millis>) -> Write {
        Write::Put { value: value.to_vec(), expires_at: 100, due_at }
    }

    fn form(writes: &[(&str, Write)]) -> Vec<u8> {
        let row = |(revision, (name, write)): (u64, &(&str, Write))| {
            (name.as_bytes().to_vec(), Row { revision, write: write.clone(), first: revision == 1 })
        };
        let rows: Rows = (1..).zip(writes).map(row).collect();
        let mut form = Vec::new();
        encode(&rows, "", &mut form);
        form
    }

    #[test]
    fn what_is_due_is_what_was_written_last() {
        let mut recent = Recent { fresh: stretch(), folding: None };
        let first = [("a", put(b"", Some(5))), ("b", put(b"", Some(6))), ("c", put(b"", Some(7)))];
        recent.fresh.add(1, &form(&first), 0).unwrap();
        recent.turn_over(Arc::new(tempfile::tempfile().unwrap()));
        let due = |recent: &Recent, now| -> Vec<(Millis, String)> {
            let mut due: Vec<_> = recent.due(now).collect();
            due.sort();
            due.into_iter().map(|(at, name)| (at, String::from_utf8(name).unwrap())).collect()
        };
        let named = |due: &[(Millis, &str)]| -> Vec<(Millis, String)> {
            due.iter().map(|(at, name)| (*at, (*name).to_owned())).collect()
        };
        assert_eq!(due(&recent, 6), named(&[(5, "a"), (6, "b")]));
        let second = [("a", put(b"", Some(8))), ("b", put(b"", None))];
        recent.fresh.add(2, &form(&second), 0).unwrap();
        assert_eq!(due(&recent, 9), named(&[(7, "c"), (8, "a")]));
        let third = [("a", Write::Delete), ("c", put(b"", Some(9)))];
        recent.fresh.add(3, &form(&third), 0).unwrap();
        assert_eq!(due(&recent, 9), named(&[(9, "c")]));
        assert_eq!(due(&recent, 100), named(&[]), "nothing past its time");
    }

    #[test]
    fn a_record_stays_the_first_of_its_name_through_a_stretch() {
        let mut stretch = stretch();
        let made = form(&[("new", put(b"", None)), ("old", put(b"", None))]);
        let gone = form(&[("old", Write::Delete), ("new", Write::Delete)]);
        stretch.add(7, &made, 0).unwrap();
        stretch.add(8, &gone, 0).unwrap();
        let first = |name: &str| stretch.slots[name.as_bytes()].first;
        assert_eq!((first("new"), first("old")), (true, false));
        assert_eq!((stretch.begin, stretch.end), (7, 8));
        assert_eq!(stretch.bytes, made.len() + gone.len());
    }

    #[test]
    fn a_value_is_read_from_where_the_log_has_it() {
        let mut recent = Recent { fresh: stretch(), folding: None };
        let form = form(&[("a", put(b"value", None)), ("b", Write::Delete)]);
        recent.fresh.file.write_all_at(&form, 1000).unwrap();
        recent.fresh.add(1, &form, 1000).unwrap();
        let got = |name: &str, now| {
            let got = recent.get(name.as_bytes(), now)?.unwrap();
            Some(got.map(|record| record.value))
        };
        assert_eq!(got("a", 99), Some(Some(b"value".to_vec())));
        assert_eq!(got("a", 100), Some(None));
        assert_eq!((got("b", 0), got("c", 0)), (Some(None), None));
    }
}
