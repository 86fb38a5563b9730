//! Records in memory, for tests and simulations.
//!
//! A plain memory store never makes anyone wait, so races hide behind it. This one can be made to
//! *stumble*: by seed it yields between reading and committing, loses commits, and says "I do not
//! know" about commits that landed, as a store across a network does.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Commit, Key, Record, Store, StoreError, Write};
use crate::chance::{Chance, SeededChance};
use crate::clock::{Clock, Millis};

/// The store.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: BTreeMap<Key, Row>,
    revision: u64,
    stumble: Option<SeededChance>,
}

#[derive(Debug)]
struct Row {
    record: Record,
    expires_at: Millis,
    due_at: Option<Millis>,
}

/// What befalls a call.
#[derive(PartialEq)]
enum Fate {
    Fine,
    Yields(u64),
    FailsBefore,
    FailsAfter,
}

impl MemoryStore {
    /// A store that never stumbles.
    pub fn new(clock: Clock) -> Self {
        Self { clock, inner: Mutex::default() }
    }

    /// A store that stumbles by this seed.
    pub fn stumbling(clock: Clock, seed: u64) -> Self {
        let stumble = Some(SeededChance(seed));
        Self { clock, inner: Mutex::new(Inner { stumble, ..Inner::default() }) }
    }

    /// Stops (or starts) stumbling, so that a test can look at what is there.
    pub fn set_stumbling(&self, seed: Option<u64>) {
        self.lock().stumble = seed.map(SeededChance);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stumble(&self) -> Result<Fate, StoreError> {
        let fate = self.lock().fate();
        if let Fate::Yields(times) = fate {
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
        }
        if fate == Fate::FailsBefore {
            return Err(StoreError::Unavailable("stumbled before".to_owned()));
        }
        Ok(fate)
    }
}

impl Inner {
    fn fate(&mut self) -> Fate {
        let Some(chance) = &mut self.stumble else { return Fate::Fine };
        match chance.below(100) {
            0..60 => Fate::Yields(1 + chance.below(5)),
            60..63 => Fate::FailsBefore,
            63..66 => Fate::FailsAfter,
            _ => Fate::Fine,
        }
    }

    fn living(&self, key: &Key, now: Millis) -> Option<&Record> {
        self.records.get(key).filter(|row| row.expires_at > now).map(|row| &row.record)
    }

    fn apply(&mut self, commit: Commit, now: Millis) -> bool {
        let unchanged = |(key, revision): &(Key, Option<u64>)| {
            self.living(key, now).map(|record| record.revision) == *revision
        };
        if !commit.guards.iter().all(unchanged) {
            return false;
        }
        for (key, write) in commit.writes {
            match write {
                Write::Put { value, expires_at, due_at } => {
                    self.revision += 1;
                    let record = Record { revision: self.revision, value };
                    self.records.insert(key, Row { record, expires_at, due_at });
                }
                Write::Delete => {
                    self.records.remove(&key);
                }
            }
        }
        if self.revision.is_multiple_of(1024) {
            self.records.retain(|_, row| row.expires_at > now);
        }
        true
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        self.stumble().await?;
        let (inner, now) = (self.lock(), self.clock.now());
        Ok(keys.iter().map(|key| inner.living(key, now).cloned()).collect())
    }

    async fn commit(&self, commit: Commit) -> Result<bool, StoreError> {
        let fate = self.stumble().await?;
        let now = self.clock.now();
        let landed = self.lock().apply(commit, now);
        if fate == Fate::FailsAfter {
            return Err(StoreError::Unavailable("stumbled after".to_owned()));
        }
        Ok(landed)
    }

    async fn due(&self, now: Millis, max: usize) -> Result<Vec<Key>, StoreError> {
        self.stumble().await?;
        let inner = self.lock();
        let rows = inner.records.iter().filter(|(_, row)| row.expires_at > now);
        let mut due: Vec<_> = rows
            .filter_map(|(key, row)| row.due_at.filter(|&at| at <= now).map(|at| (at, key)))
            .collect();
        due.sort();
        Ok(due.into_iter().take(max).map(|(_, key)| key.clone()).collect())
    }
}
