//! What was written lately and does not lie in its place in the table yet.
//!
//! Records are named by fingerprints, so their places in the index are all over the file: to put
//! each commit there would write several pages for every request. A commit therefore appends all
//! that it writes to the journal, one row on a few neighbouring pages, and keeps it here for
//! reading. Once a stretch of the journal is long enough it is *folded*: what it left of each
//! record goes to its place, in the order of the index, a slice with every commit. Much never goes
//! there: a record that changed again or ended meanwhile is written once, or not at all.
//!
//! After a crash the journal is read back. It holds every commit since the oldest that is not
//! wholly folded; reading one that already was changes nothing, since later ones come after it.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use foldhash::fast::RandomState;
use rusqlite::Connection;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};

use crate::clock::Millis;
use crate::store::{Record, Write};

/// A row's name in the table: [`Key::to_bytes`](crate::store::Key).
pub(super) type Name = Vec<u8>;

/// Rows by name. Names are keyed fingerprints, or begin with what this server drew: nobody can
/// choose them to meet in one cell, so a quick hash does.
pub(super) type Rows = HashMap<Name, Row, RandomState>;

/// A record as it was last written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) revision: u64,
    pub(super) write: Write,
}

impl Row {
    /// The record, if it is there at `now`.
    pub(super) fn record(&self, now: Millis) -> Option<Record> {
        match &self.write {
            Write::Put { value, expires_at, .. } if *expires_at > now => {
                Some(Record { revision: self.revision, value: value.clone() })
            }
            _ => None,
        }
    }

    fn due_at(&self) -> Option<Millis> {
        match self.write {
            Write::Put { due_at, .. } => due_at,
            Write::Delete => None,
        }
    }
}

/// A stretch of the journal: what it left of each record.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub(super) rows: Rows,
    due: BTreeSet<(Millis, Name)>,
    /// The length of its commits in the journal.
    pub(super) bytes: usize,
    /// When its first commit landed.
    pub(super) since: Option<Instant>,
    /// The number of the commit after its last.
    pub(super) end: i64,
}

impl Stretch {
    /// Takes in a commit, whose number and length in the journal are these.
    pub(super) fn add(&mut self, rows: Rows, number: i64, length: usize) {
        for (name, row) in rows {
            let due_at = row.due_at();
            let due_before = self.rows.insert(name.clone(), row).and_then(|before| before.due_at());
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
        self.since.get_or_insert_with(Instant::now);
        self.end = number + 1;
    }

    fn due(&self, now: Millis) -> impl Iterator<Item = &(Millis, Name)> {
        let due = self.due.iter().take_while(move |(at, _)| *at <= now);
        due.filter(move |(_, name)| self.rows.get(name).and_then(|row| row.record(now)).is_some())
    }
}

/// The stretch that commits are added to, and the one before it, which is being folded.
#[derive(Debug, Default)]
pub(super) struct Recent {
    pub(super) fresh: Stretch,
    pub(super) folding: Stretch,
    /// The names of what is being folded, in the order of the table's index.
    pub(super) order: Vec<Name>,
}

impl Recent {
    /// A record as it was last written, if that was lately.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Row> {
        self.fresh.rows.get(name).or_else(|| self.folding.rows.get(name))
    }

    /// What is due at `now`, with its time, in no order.
    pub(super) fn due(&self, now: Millis) -> impl Iterator<Item = (Millis, Name)> {
        let folding = self.folding.due(now);
        let folding = folding.filter(|(_, name)| !self.fresh.rows.contains_key(name));
        self.fresh.due(now).chain(folding).cloned()
    }

    /// Begins to fold what is fresh, or nothing; returns what was folded before.
    pub(super) fn turn_over(&mut self, fold_fresh: bool) -> Stretch {
        let next = if fold_fresh { std::mem::take(&mut self.fresh) } else { Stretch::default() };
        self.order = next.rows.keys().cloned().collect();
        self.order.sort_unstable();
        std::mem::replace(&mut self.folding, next)
    }

    /// Reads the journal back. Says where it begins, too.
    pub(super) fn load(db: &Connection) -> rusqlite::Result<(Self, i64)> {
        let mut select = db.prepare("SELECT number, writes FROM journal ORDER BY number")?;
        let mut commits = select.query([])?;
        let (mut fresh, mut first) = (Stretch::default(), None);
        while let Some(commit) = commits.next()? {
            let (number, Writes(rows, length)) = (commit.get(0)?, commit.get(1)?);
            fresh.add(rows, number, length);
            first.get_or_insert(number);
        }
        let begins = first.unwrap_or(fresh.end);
        Ok((Self { fresh, ..Self::default() }, begins))
    }
}

/// What a commit wrote, as the journal holds it: for each row the length of its name, its name, its
/// revision, a byte that says what follows, and that.
struct Writes(Rows, usize);

const GONE: u8 = 0;
const THERE: u8 = 1;
const DUE: u8 = 2;

/// A commit's row in the journal.
pub(super) fn encode(rows: &Rows) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * 384);
    for (name, row) in rows {
        put_bytes(&mut bytes, name);
        bytes.extend_from_slice(&row.revision.to_le_bytes());
        match &row.write {
            Write::Delete => bytes.push(GONE),
            Write::Put { value, expires_at, due_at } => {
                bytes.push(if due_at.is_some() { DUE } else { THERE });
                bytes.extend_from_slice(&expires_at.to_le_bytes());
                if let Some(at) = due_at {
                    bytes.extend_from_slice(&at.to_le_bytes());
                }
                put_bytes(&mut bytes, value);
            }
        }
    }
    bytes
}

fn put_bytes(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("no record is of four gigabytes");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(part);
}

fn decode(mut bytes: &[u8]) -> Option<Rows> {
    let mut rows = Rows::default();
    while !bytes.is_empty() {
        let name = take_bytes(&mut bytes)?;
        let revision = u64::from_le_bytes(take(&mut bytes)?);
        let [what] = take(&mut bytes)?;
        let write = match what {
            GONE => Write::Delete,
            THERE | DUE => {
                let expires_at = Millis::from_le_bytes(take(&mut bytes)?);
                let due_at = match what {
                    DUE => Some(Millis::from_le_bytes(take(&mut bytes)?)),
                    _ => None,
                };
                Write::Put { value: take_bytes(&mut bytes)?, expires_at, due_at }
            }
            _ => return None,
        };
        rows.insert(name, Row { revision, write });
    }
    Some(rows)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn take_bytes(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(u32::from_le_bytes(take(bytes)?)).ok()?;
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part.to_vec())
}

/// A journal that SQLite took for whole and that says nothing.
#[derive(Debug, thiserror::Error)]
#[error("a commit in the journal cannot be read")]
struct Unreadable;

impl FromSql for Writes {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        let rows = decode(bytes).ok_or_else(|| FromSqlError::Other(Box::new(Unreadable)))?;
        Ok(Self(rows, bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: &[u8], due_at: Option<Millis>) -> Write {
        Write::Put { value: value.to_vec(), expires_at: 100, due_at }
    }

    fn rows(writes: &[(&str, Write)]) -> Rows {
        let row = |(revision, (name, write)): (u64, &(&str, Write))| {
            (name.as_bytes().to_vec(), Row { revision, write: write.clone() })
        };
        (1..).zip(writes).map(row).collect()
    }

    #[test]
    fn a_commit_comes_back_from_the_journal_and_no_part_of_one_does() {
        let due = put(b"", Some(-7));
        let rows = rows(&[("a", put(b"1", None)), ("b", Write::Delete), ("", due)]);
        let bytes = encode(&rows);
        assert_eq!(decode(&bytes), Some(rows.clone()));
        let whole = (0..bytes.len()).filter_map(|cut| decode(&bytes[..cut]));
        assert!(whole.clone().all(|part| part.len() < rows.len()));
        assert_eq!(whole.count(), rows.len(), "only between two rows");
        let mut other = encode(&self::rows(&[("a", Write::Delete)]));
        *other.last_mut().unwrap() = 9;
        assert_eq!(decode(&other), None, "a kind of row that nobody wrote");
    }

    #[test]
    fn what_is_due_is_what_was_written_last() {
        let mut recent = Recent::default();
        let first = [("a", put(b"", Some(5))), ("b", put(b"", Some(6))), ("c", put(b"", Some(7)))];
        recent.folding.add(rows(&first), 1, 10);
        let due = |recent: &Recent, now| -> Vec<(Millis, String)> {
            let mut due: Vec<_> = recent.due(now).collect();
            due.sort();
            due.into_iter().map(|(at, name)| (at, String::from_utf8(name).unwrap())).collect()
        };
        let named = |due: &[(Millis, &str)]| -> Vec<(Millis, String)> {
            due.iter().map(|(at, name)| (*at, (*name).to_owned())).collect()
        };
        assert_eq!(due(&recent, 6), named(&[(5, "a"), (6, "b")]));
        recent.fresh.add(rows(&[("a", put(b"", Some(8))), ("b", put(b"", None))]), 2, 10);
        assert_eq!(due(&recent, 9), named(&[(7, "c"), (8, "a")]));
        recent.fresh.add(rows(&[("a", Write::Delete), ("c", put(b"", Some(9)))]), 3, 10);
        assert_eq!(due(&recent, 9), named(&[(9, "c")]));
        assert_eq!(due(&recent, 100), named(&[]), "nothing past its time");
    }
}
