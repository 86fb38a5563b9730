//! What the requests of one flush wrote together, and its form in the log.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::clock::Millis;
use crate::store::{Record, Write};

/// A row's name in the table: [`Key::to_bytes`](crate::store::Key).
pub(super) type Name = Vec<u8>;

/// Something by name. Names are keyed fingerprints, or begin with what this server drew: nobody can
/// choose them to meet in one cell, so a quick hash does.
pub(super) type ByName<T> = HashMap<Name, T, RandomState>;

/// What one flush makes durable: rows that were drafted.
pub(super) type Rows = ByName<Row>;

/// A record as it is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) revision: u64,
    pub(super) write: Write,
    /// Whether it is known that nothing lay under its name before. If it ends before it gets a
    /// place in the table, there is nothing to take away there.
    pub(super) first: bool,
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
}

/// A record as the log has it: all but its value, which stays there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) revision: u64,
    /// When it vanishes; at once, if it was deleted.
    pub(super) expires_at: Millis,
    /// When it is due; [`NEVER`], if it is not.
    pub(super) due_at: Millis,
    /// Where its value begins, and its length.
    pub(super) at: u32,
    pub(super) length: u32,
    /// As [`Row::first`].
    pub(super) first: bool,
}

/// When something is due that is not. There are tens of thousands of slots, so they are small.
pub(super) const NEVER: Millis = Millis::MAX;

/// A deleted record is one that vanished before anything was.
const DELETED: Millis = Millis::MIN;

/// Bits of the byte that says what a row is.
const DUE: u8 = 1;
const FIRST: u8 = 2;

/// Appends the form in the log: where the timeline stands, as JSON or nothing; for each row the
/// length of its name, its name, its revision, a byte that says what follows, when it vanishes,
/// when it is due if it is, the length of its value, its value.
pub(super) fn encode(rows: &Rows, anchor: &str, bytes: &mut Vec<u8>) {
    put_bytes(bytes, anchor.as_bytes());
    for (name, row) in rows {
        put_bytes(bytes, name);
        bytes.extend_from_slice(&row.revision.to_le_bytes());
        let (value, expires_at, due_at) = match &row.write {
            Write::Delete => (&[][..], DELETED, None),
            Write::Put { value, expires_at, due_at } => (&value[..], *expires_at, *due_at),
        };
        let due = if due_at.is_some() { DUE } else { 0 };
        bytes.push(due | if row.first { FIRST } else { 0 });
        bytes.extend_from_slice(&expires_at.to_le_bytes());
        due_at.inspect(|at| bytes.extend_from_slice(&at.to_le_bytes()));
        put_bytes(bytes, value);
    }
}

/// What was encoded as this, its first byte lying here in the log; nothing if nothing was.
pub(super) fn decode(bytes: &[u8], begin: u64) -> Option<(String, Vec<(Name, Slot)>)> {
    let mut rest = bytes;
    let anchor = String::from_utf8(take_bytes(&mut rest)?.to_vec()).ok()?;
    let mut slots = Vec::new();
    while !rest.is_empty() {
        let name = take_bytes(&mut rest)?.to_vec();
        let revision = u64::from_le_bytes(take(&mut rest)?);
        let [bits] = take(&mut rest)?;
        if bits & !(DUE | FIRST) != 0 {
            return None;
        }
        let expires_at = Millis::from_le_bytes(take(&mut rest)?);
        let due_at = match bits & DUE {
            0 => NEVER,
            _ => Millis::from_le_bytes(take(&mut rest)?),
        };
        let value = take_bytes(&mut rest)?;
        let at = begin + (bytes.len() - rest.len() - value.len()) as u64;
        let (at, length) = (u32::try_from(at).ok()?, u32::try_from(value.len()).ok()?);
        let first = bits & FIRST != 0;
        slots.push((name, Slot { revision, expires_at, due_at, at, length, first }));
    }
    Some((anchor, slots))
}

fn put_bytes(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("no record is of four gigabytes");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(part);
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32::from_le_bytes(take(bytes)?)).ok()?;
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_back_from_its_form_and_no_part_of_one_does() {
        let put =
            |value: &[u8], due_at| Write::Put { value: value.to_vec(), expires_at: 9, due_at };
        let writes = [("a", put(b"1", None)), ("b", Write::Delete), ("", put(b"23", Some(-7)))];
        let row = |(revision, (name, write)): (u64, (&str, Write))| {
            (name.as_bytes().to_vec(), Row { revision, write, first: revision != 2 })
        };
        let rows: Rows = (1..).zip(writes).map(row).collect();
        for anchor in ["", "{}"] {
            let mut bytes = Vec::new();
            encode(&rows, anchor, &mut bytes);
            let (found, slots) = decode(&bytes, 100).unwrap();
            assert_eq!((found.as_str(), slots.len()), (anchor, rows.len()));
            for (name, slot) in &slots {
                let row = &rows[name];
                assert_eq!((slot.revision, slot.first), (row.revision, row.first));
                let Write::Put { value, expires_at, due_at } = &row.write else {
                    assert_eq!((slot.expires_at, slot.due_at), (DELETED, NEVER));
                    continue;
                };
                let due_at = due_at.unwrap_or(NEVER);
                assert_eq!((slot.expires_at, slot.due_at), (*expires_at, due_at));
                let at = usize::try_from(slot.at).unwrap() - 100;
                assert_eq!(bytes[at..][..value.len()], value[..]);
                assert_eq!(usize::try_from(slot.length).unwrap(), value.len());
            }
            let parts = (0..bytes.len()).filter_map(|cut| decode(&bytes[..cut], 0));
            assert!(parts.clone().all(|(_, part)| part.len() < rows.len()));
            assert_eq!(parts.count(), rows.len(), "only between two rows");
        }
        let row = Row { revision: 1, write: Write::Delete, first: false };
        let mut bytes = Vec::new();
        encode(&[(b"a".to_vec(), row)].into_iter().collect(), "", &mut bytes);
        bytes[4 + 4 + 1 + 8] = 4;
        assert_eq!(decode(&bytes, 0), None, "a kind of row that nobody wrote");
    }
}
