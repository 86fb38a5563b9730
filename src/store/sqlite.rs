//! The embedded store: one SQLite file, one writer thread, and group commit.
//!
//! Requests that wait while a flush is under way are decided and written together, and one flush
//! makes all of them durable before any is answered. There is no timer: the busier the server,
//! the more requests share a flush. Since nobody else writes, a verb is decided on the writer
//! thread itself, where no one can be faster, and all its phases land in the same commit.
//!
//! Reads that decide nothing (a look at a verification, the queue) go through a connection of
//! their own, off the async threads.

mod file;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::oneshot;

pub use file::OpenError;
use writer::{Job, Progress, Writer};

use super::verb::Steps;
use super::{Commit, Draft, Key, Record, Store, StoreError};
use crate::clock::{Anchor, Clock, Millis};

/// How long one flush may take before waiting requests are told that the store is unavailable.
/// A disk that is merely slow or throttled flushes within this.
const STALL_MAX: Duration = Duration::from_secs(1);
/// How often a waiting request looks whether the writer still gets on.
const STALL_LOOK: Duration = Duration::from_millis(100);

/// The store.
pub struct SqliteStore {
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    progress: Arc<Progress>,
    reader: Arc<Mutex<Connection>>,
    clock: Clock,
    /// Held for as long as the store is open: the file has one owner.
    _lock: file::Lock,
}

impl SqliteStore {
    /// Opens the store, or makes it where there is none. `start_clock` is given where the
    /// timeline stood when the store was last written.
    pub fn open(
        path: &Path,
        start_clock: impl FnOnce(&Anchor) -> Clock,
    ) -> Result<Self, OpenError> {
        let opened = file::open(path)?;
        let clock = start_clock(&opened.anchor);
        Self::start(opened, path, clock)
    }

    fn start(opened: file::Opened, path: &Path, clock: Clock) -> Result<Self, OpenError> {
        let (sender, jobs) = mpsc::channel();
        let progress = Arc::new(Progress::default());
        let writer = Writer::new(opened.writer, path, clock.clone(), opened.revision);
        let watched = Arc::clone(&progress);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&jobs, &watched))
            .map_err(|error| OpenError::Unusable(format!("no thread for the writer: {error}")))?;
        Ok(Self {
            jobs: Some(sender),
            writer: Some(thread),
            progress,
            reader: Arc::new(Mutex::new(opened.reader)),
            clock,
            _lock: opened.lock,
        })
    }

    /// The clock whose timeline this store continues.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    async fn submit(&self, steps: Box<dyn Steps>) -> Result<(), StoreError> {
        let gone = || StoreError::Unavailable("the writer has stopped".to_owned());
        let (reply, mut answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(Job { steps, reply }).map_err(|_| gone())?;
        loop {
            match tokio::time::timeout(STALL_LOOK, &mut answer).await {
                Ok(answered) => return answered.map_err(|_| gone())?,
                Err(_) if self.progress.stalled_for() > STALL_MAX => {
                    return Err(StoreError::Unavailable("the disk does not answer".to_owned()));
                }
                Err(_) => {}
            }
        }
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = Arc::clone(&self.reader);
        let looked = tokio::task::spawn_blocking(move || {
            look(&reader.lock().unwrap_or_else(PoisonError::into_inner))
        });
        let looked = looked.await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        looked.map_err(|error| unavailable(&error))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.jobs = None; // The writer finishes what it has and ends.
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        let (keys, now) = (keys.to_vec(), self.clock.now());
        self.look(move |db| keys.iter().map(|key| read_row(db, key, now)).collect()).await
    }

    async fn commit(&self, commit: Commit) -> Result<bool, StoreError> {
        let landed = Arc::new(Mutex::new(false));
        let steps = Guarded { commit, landed: Arc::clone(&landed), held: false };
        self.submit(Box::new(steps)).await?;
        let landed = *landed.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(landed)
    }

    async fn due(&self, now: Millis, max: usize) -> Result<Vec<Key>, StoreError> {
        self.look(move |db| {
            let mut select = db.prepare_cached(
                "SELECT key FROM records WHERE due_at <= ?1 AND expires_at > ?1
                 ORDER BY due_at LIMIT ?2",
            )?;
            let max = i64::try_from(max).unwrap_or(i64::MAX);
            let rows = select.query_map((now, max), |row| row.get::<_, Vec<u8>>(0))?;
            let keys: Vec<_> = rows.collect::<Result<_, _>>()?;
            Ok(keys.iter().filter_map(|bytes| Key::from_bytes(bytes)).collect())
        })
        .await
    }

    async fn run(&self, steps: Box<dyn Steps>) -> Result<(), StoreError> {
        self.submit(steps).await
    }
}

/// A ready-made commit, carried out on the writer thread like any other decision.
struct Guarded {
    commit: Commit,
    landed: Arc<Mutex<bool>>,
    held: bool,
}

impl Steps for Guarded {
    fn keys(&self) -> Vec<Key> {
        self.commit.guards.iter().map(|(key, _)| key.clone()).collect()
    }

    fn decide(&mut self, draft: &mut Draft) -> Result<(), StoreError> {
        self.held = self.commit.guards.iter().all(|(key, want)| draft.revision(key) == *want);
        if self.held {
            draft.write_all(self.commit.writes.clone());
        }
        Ok(())
    }

    fn advance(&mut self) -> bool {
        *self.landed.lock().unwrap_or_else(PoisonError::into_inner) = self.held;
        false
    }
}

fn read_row(db: &Connection, key: &Key, now: Millis) -> rusqlite::Result<Option<Record>> {
    let mut select = db
        .prepare_cached("SELECT revision, value FROM records WHERE key = ?1 AND expires_at > ?2")?;
    let row = |row: &rusqlite::Row<'_>| {
        let (revision, value) = (row.get::<_, i64>(0)?, row.get(1)?);
        Ok(Record { revision: revision.unsigned_abs(), value })
    };
    select.query_row((key.to_bytes(), now), row).optional()
}

/// SQLite's own words name neither keys nor values.
fn unavailable(error: &rusqlite::Error) -> StoreError {
    let word = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => "the disk is full".to_owned(),
        Some(code) => format!("{code:?}"),
        None => "the store's file could not be used".to_owned(),
    };
    StoreError::Unavailable(word)
}

#[cfg(test)]
mod tests;
