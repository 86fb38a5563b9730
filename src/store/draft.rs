//! What a decision sees of the store, and what it wants written.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Commit, Key, Record, StoreError};
use crate::clock::Millis;

/// One write of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Puts a value in the place of whatever is there.
    Put {
        /// The value.
        value: Vec<u8>,
        /// When the record vanishes.
        expires_at: Millis,
        /// When the record is due, if it is.
        due_at: Option<Millis>,
    },
    /// Takes the record away.
    Delete,
}

/// Each record as it was when it was looked at, or that there was none.
type Seen = Vec<(Key, Option<Record>)>;

/// The writes of a draft, at most one for each record.
type Writes = BTreeMap<Key, Write>;

/// Records that were read, and writes that are drafted.
#[derive(Debug, Default)]
pub struct Draft {
    read: Seen,
    writes: Writes,
}

impl Draft {
    /// A draft over these records.
    pub fn new(read: Seen) -> Self {
        Self { read, writes: BTreeMap::new() }
    }

    /// The record under a key that the verb named, with this draft's own writes seen.
    pub fn get<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, StoreError> {
        let value = match self.writes.get(key) {
            Some(Write::Put { value, .. }) => Some(value),
            Some(Write::Delete) => None,
            None => {
                let (_, record) =
                    self.read.iter().find(|(read, _)| read == key).unwrap_or_else(|| {
                        panic!("a decision reads what its verb named: kind {}", key.kind)
                    });
                record.as_ref().map(|record| &record.value)
            }
        };
        let parse = |value: &Vec<u8>| serde_json::from_slice(value);
        value.map(parse).transpose().map_err(|error| {
            StoreError::Unreadable(format!("kind {} at column {}", key.kind, error.column()))
        })
    }

    /// Writes a record that vanishes at `expires_at`.
    pub fn put<T: Serialize>(&mut self, key: &Key, value: &T, expires_at: Millis) {
        self.put_due(key, value, expires_at, None);
    }

    /// Writes a record that is due at `due_at`.
    pub fn put_due<T: Serialize>(
        &mut self,
        key: &Key,
        value: &T,
        expires_at: Millis,
        due_at: Option<Millis>,
    ) {
        let value = serde_json::to_vec(value).expect("records have string keys and finite numbers");
        self.writes.insert(key.clone(), Write::Put { value, expires_at, due_at });
    }

    /// Takes a record away.
    pub fn delete(&mut self, key: &Key) {
        self.writes.insert(key.clone(), Write::Delete);
    }

    /// The revision that was read under a key.
    pub(super) fn revision(&self, key: &Key) -> Option<u64> {
        let read = self.read.iter().find(|(read, _)| read == key);
        read.and_then(|(_, record)| record.as_ref().map(|record| record.revision))
    }

    /// Takes over ready-made writes.
    pub(super) fn write_all(&mut self, writes: Vec<(Key, Write)>) {
        self.writes.extend(writes);
    }

    /// What is to be committed.
    pub fn into_commit(self) -> Commit {
        let guards = self.read.into_iter();
        let guards = guards.map(|(key, record)| (key, record.map(|record| record.revision)));
        Commit { guards: guards.collect(), writes: self.writes.into_iter().collect() }
    }

    /// What was read, and the writes, for a store that decides where it writes.
    pub(super) fn into_parts(self) -> (Seen, Writes) {
        (self.read, self.writes)
    }
}
