//! The embedded store: a log, a table in an SQLite file, one writer thread, and group commit.
//!
//! Requests that wait while a flush is under way are decided and written together, and one flush
//! of the log makes all of them durable before any is answered. There is no timer: the busier the
//! server, the more requests share a flush. Since nobody else writes, a verb is decided on the
//! writer thread itself, where no one can be faster, and all its phases land in the same commit.
//!
//! What was written lately is read from the log (`recent`), everything else from the table, to
//! which another thread takes it (`fold`). Reads that decide nothing (a look at a verification,
//! the queue) go through a connection of their own, off the async threads.

mod batch;
mod file;
mod fold;
mod log;
mod recent;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::oneshot;

use batch::Name;
pub use file::OpenError;
use fold::Folder;
use log::Frame;
use recent::Recent;
use writer::{Job, Pace, Progress, Writer};

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
    threads: Vec<JoinHandle<()>>,
    progress: Arc<Progress>,
    recent: Arc<RwLock<Recent>>,
    reader: Arc<Mutex<Connection>>,
    clock: Clock,
    /// Held for as long as the store is open: the file has one owner.
    _lock: file::Lock,
}

/// Beside the store's own file: its marker, the two files of its log, SQLite's log.
const MARKER: &str = ".lock";
const LOGS: [&str; 2] = ["-log1", "-log2"];
const WAL: &str = "-wal";

/// The file of a store that ends like this.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

impl SqliteStore {
    /// How many bytes the files of a store take, open or not.
    pub fn size(path: &Path) -> u64 {
        let [first, second] = LOGS;
        let length = |end| std::fs::metadata(beside(path, end)).map_or(0, |file| file.len());
        ["", WAL, first, second].into_iter().map(length).sum()
    }

    /// Whether a store was made here, even if it is gone now.
    pub fn was_made(path: &Path) -> bool {
        let has_bytes = |file: &Path| std::fs::metadata(file).is_ok_and(|file| file.len() > 0);
        has_bytes(path) || has_bytes(&beside(path, MARKER))
    }

    /// Opens the store, or makes it where there is none. `start_clock` is given where the
    /// timeline stood when the store was last written.
    pub fn open(
        path: &Path,
        start_clock: impl FnOnce(&Anchor) -> Clock,
    ) -> Result<Self, OpenError> {
        let opened = file::open(path)?;
        let clock = start_clock(&opened.anchor);
        Self::start(opened, path, clock, Pace::default())
    }

    fn start(
        opened: file::Opened,
        path: &Path,
        clock: Clock,
        pace: Pace,
    ) -> Result<Self, OpenError> {
        let ((jobs, wanted), progress) = (mpsc::channel(), Arc::new(Progress::default()));
        let ((folder, messages), (attempted, attempts)) = (mpsc::channel(), mpsc::channel());
        let recent = Arc::new(RwLock::new(opened.recent));
        let folding = Folder::new(opened.folder, path.to_owned(), clock.clone());
        let writer = Writer {
            db: opened.writer,
            log: opened.log,
            clock: clock.clone(),
            recent: Arc::clone(&recent),
            revision: opened.revision,
            folder,
            attempts,
            pace,
            frame: Frame::default(),
            hurried: false,
            anchored_at: Millis::MIN,
        };
        let watched = Arc::clone(&progress);
        let threads = vec![
            thread("store-writer", move || writer.run(&wanted, &watched))?,
            thread("store-folder", move || folding.run(&messages, &attempted))?,
        ];
        Ok(Self {
            jobs: Some(jobs),
            threads,
            progress,
            recent,
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
        look: impl FnOnce(&RwLock<Recent>, &Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (recent, reader) = (Arc::clone(&self.recent), Arc::clone(&self.reader));
        let looked = tokio::task::spawn_blocking(move || {
            look(&recent, &reader.lock().unwrap_or_else(PoisonError::into_inner))
        });
        looked.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|error| OpenError::Unusable(format!("no thread for the {name}: {error}")))
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.jobs = None; // The writer finishes what it has and ends, and then the folder.
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        let (names, now) = (keys.iter().map(Key::to_bytes).collect::<Vec<_>>(), self.clock.now());
        self.look(move |recent, db| names.iter().map(|name| read(recent, db, name, now)).collect())
            .await
    }

    async fn commit(&self, commit: Commit) -> Result<bool, StoreError> {
        let landed = Arc::new(Mutex::new(false));
        let steps = Guarded { commit, landed: Arc::clone(&landed), held: false };
        self.submit(Box::new(steps)).await?;
        let landed = *landed.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(landed)
    }

    async fn due(&self, now: Millis, max: usize) -> Result<Vec<Key>, StoreError> {
        self.look(move |recent, db| {
            // Locked until the end: what is folded meanwhile would be seen twice, or not at all.
            let recent = recent.read().unwrap_or_else(PoisonError::into_inner);
            let mut due: Vec<_> = recent.due(now).collect();
            let before = due_in_table(db, now, max, |name| recent.has(name));
            due.extend(before.map_err(|error| unavailable(&error))?);
            due.sort();
            let keys = due.iter().take(max);
            Ok(keys.filter_map(|(_, name)| Key::from_bytes(name)).collect())
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

/// A record as it is, wherever it lies by now.
fn read(
    recent: &RwLock<Recent>,
    db: &Connection,
    name: &[u8],
    now: Millis,
) -> Result<Option<Record>, StoreError> {
    {
        // Locked while the log is read: what is forgotten here will be written over there.
        let recent = recent.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = recent.get(name, now) {
            return found.map_err(|error| disk_trouble(&error));
        }
    }
    let record = |row: &rusqlite::Row<'_>| {
        let (revision, value) = (row.get::<_, i64>(0)?, row.get(1)?);
        Ok(Record { revision: revision.unsigned_abs(), value })
    };
    let select = "SELECT revision, value FROM records WHERE key = ?1 AND expires_at > ?2";
    let select = db.prepare_cached(select);
    let found = select.and_then(|mut select| select.query_row((name, now), record).optional());
    found.map_err(|error| unavailable(&error))
}

/// What is due at `now` and was not written since it was folded, the longest due first.
fn due_in_table(
    db: &Connection,
    now: Millis,
    max: usize,
    written_since: impl Fn(&Name) -> bool,
) -> rusqlite::Result<Vec<(Millis, Name)>> {
    let mut select = db.prepare_cached(
        "SELECT due_at, key FROM records WHERE due_at <= ?1 AND expires_at > ?1 ORDER BY due_at",
    )?;
    let rows = select.query_map([now], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let before = |row: &rusqlite::Result<(Millis, Name)>| {
        row.as_ref().map_or(true, |(_, name)| !written_since(name))
    };
    rows.filter(before).take(max).collect()
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

/// The log's trouble, in the same words.
fn disk_trouble(error: &std::io::Error) -> StoreError {
    let word = match error.kind() {
        std::io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        kind => format!("the store's log could not be used: {kind}"),
    };
    StoreError::Unavailable(word)
}

#[cfg(test)]
mod tests;
