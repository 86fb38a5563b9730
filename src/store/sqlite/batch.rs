//! What the requests of one flush wrote together, and its form in the log.

use std::collections::HashMap;

use foldhash::fast::RandomState;

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
    /// Whether it is known that nothing lay under its name before. If it ends before it gets a
    /// place in the table, there is nothing to take away there. The log does not hold this.
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

    pub(super) fn due_at(&self) -> Option<Millis> {
        match self.write {
            Write::Put { due_at, .. } => due_at,
            Write::Delete => None,
        }
    }
}

/// What one flush makes durable.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) rows: Rows,
    /// Where the timeline stands, as JSON; not in every batch.
    pub(super) anchor: Option<String>,
}

const GONE: u8 = 0;
const THERE: u8 = 1;
const DUE: u8 = 2;

impl Batch {
    /// Appends its form in the log: the anchor, then for each row the length of its name, its name,
    /// its revision, a byte that says what follows, and that.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        put_bytes(bytes, self.anchor.as_deref().unwrap_or_default().as_bytes());
        for (name, row) in &self.rows {
            put_bytes(bytes, name);
            bytes.extend_from_slice(&row.revision.to_le_bytes());
            match &row.write {
                Write::Delete => bytes.push(GONE),
                Write::Put { value, expires_at, due_at } => {
                    bytes.push(if due_at.is_some() { DUE } else { THERE });
                    bytes.extend_from_slice(&expires_at.to_le_bytes());
                    if let Some(at) = due_at {
                        bytes.extend_from_slice(&at.to_le_bytes());
                    }
                    put_bytes(bytes, value);
                }
            }
        }
    }

    /// What was encoded as this; nothing if nothing was.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let anchor = String::from_utf8(take_bytes(&mut bytes)?).ok()?;
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
            rows.insert(name, Row { revision, write, first: false });
        }
        Some(Self { rows, anchor: Some(anchor).filter(|anchor| !anchor.is_empty()) })
    }
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

fn take_bytes(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(u32::from_le_bytes(take(bytes)?)).ok()?;
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_back_from_its_form_and_no_part_of_one_does() {
        let put =
            |value: &[u8], due_at| Write::Put { value: value.to_vec(), expires_at: 9, due_at };
        let writes = [("a", put(b"1", None)), ("b", Write::Delete), ("", put(b"", Some(-7)))];
        let row = |(revision, (name, write)): (u64, (&str, Write))| {
            (name.as_bytes().to_vec(), Row { revision, write, first: false })
        };
        let rows: Rows = (1..).zip(writes).map(row).collect();
        for anchor in [None, Some("{}".to_owned())] {
            let batch = Batch { rows: rows.clone(), anchor };
            let mut bytes = Vec::new();
            batch.encode(&mut bytes);
            assert_eq!(Batch::decode(&bytes).as_ref(), Some(&batch));
            let parts = (0..bytes.len()).filter_map(|cut| Batch::decode(&bytes[..cut]));
            assert!(parts.clone().all(|part| part.rows.len() < rows.len()));
            assert_eq!(parts.count(), rows.len(), "only between two rows");
        }
        let rows = [(b"a".to_vec(), Row { revision: 1, write: Write::Delete, first: false })];
        let mut bytes = Vec::new();
        Batch { rows: rows.into_iter().collect(), anchor: None }.encode(&mut bytes);
        *bytes.last_mut().unwrap() = 9;
        assert_eq!(Batch::decode(&bytes), None, "a kind of row that nobody wrote");
    }
}
