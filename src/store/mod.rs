//! Where records live. A store knows no business rule.
//!
//! Everything above it is written as one idea: *read, decide, commit if nothing read has changed*.
//! A [`Verb`] names the keys it needs; its decision looks at the records and drafts writes; the
//! draft lands whole or not at all. A verb whose records lie in several partitions goes through
//! them phase by phase, each of which is safe alone; no store has to make two partitions atomic
//! with each other.

mod draft;
pub mod memory;
pub mod redis;
pub mod sqlite;
mod verb;

#[cfg(test)]
mod contract;

use async_trait::async_trait;

pub use draft::{Draft, Write};
pub use verb::{Steps, Then, Transaction, Verb, transact, transact_once};

use crate::clock::Millis;

/// The name of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// What lives together: records of one partition can be committed together.
    pub partition: u16,
    /// Which kind of record: kinds lie apart from each other.
    pub kind: u8,
    /// The name within its kind.
    pub name: Vec<u8>,
}

impl Key {
    /// A key.
    pub fn new(partition: u16, kind: u8, name: impl Into<Vec<u8>>) -> Self {
        Self { partition, kind, name: name.into() }
    }

    /// One row name for a sorted store: the name first, so that records whose names begin alike (a
    /// time, a phone's fingerprint) lie together, of whatever kind they are.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(3 + self.name.len());
        bytes.extend_from_slice(&self.name);
        bytes.push(self.kind);
        bytes.extend_from_slice(&self.partition.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (name, &[kind, high, low]) = bytes.split_last_chunk::<3>()?;
        Some(Self::new(u16::from_be_bytes([high, low]), kind, name))
    }
}

/// The kind of records that only try whether the store takes a write; no verb uses it.
pub const TRIAL: u8 = 255;

/// The kind of the one record that remembers whose keys the store is used with.
pub const MARK: u8 = 254;

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its revision. A number is never given twice, so that a record which was deleted and made
    /// anew is not taken for the old one. Nothing else follows from it: it need not rise.
    pub revision: u64,
    /// Its value.
    pub value: Vec<u8>,
}

/// Writes that land together, if every record read is as it was.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// What was read: the revision, or none where there was no record.
    pub guards: Vec<(Key, Option<u64>)>,
    /// What is to be written.
    pub writes: Vec<(Key, Write)>,
}

/// Why a store did not do it. In every case the caller learned nothing and must not go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot write at the moment: try again later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Others were faster too many times in a row: try again.
    #[error("the store is contended")]
    Contended,
    /// A record cannot be read: it was written by a newer release or damaged.
    #[error("a record cannot be read: {0}")]
    Unreadable(String),
}

/// Where records live.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads records, in the order of the keys. Records past their time are not there.
    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError>;

    /// Commits, if every guard holds; says whether it did. All keys are of one partition. When it
    /// answers, the writes are as durable as this store makes anything. A commit of which nobody
    /// knows whether it landed is [`StoreError::Unavailable`], never `false`.
    async fn commit(&self, commit: Commit) -> Result<bool, StoreError>;

    /// The keys that are due at `now`, the longest due first.
    async fn due(&self, now: Millis, max: usize) -> Result<Vec<Key>, StoreError>;

    /// Carries out a verb: reads, decides, commits, and does so again when others were faster.
    /// A store with a single writer decides there instead, where nobody can be faster.
    async fn run(&self, steps: Box<dyn Steps>) -> Result<(), StoreError> {
        verb::run_optimistically(self, steps).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_from_their_row_names() {
        for name in [&b""[..], b"x", &[0, 255, 0]] {
            let key = Key::new(517, 3, name);
            assert_eq!(Key::from_bytes(&key.to_bytes()), Some(key));
        }
        assert_eq!(Key::from_bytes(&[1, 2]), None);
    }
}
