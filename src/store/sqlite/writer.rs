//! The writer thread: decides, appends to the journal, flushes once for all, answers all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::recent::{self, Recent, Row, Rows};
use super::upkeep::{Place, SWEEP_EVERY};
use super::{file, unavailable};
use crate::clock::{Clock, Millis};
use crate::store::verb::Steps;
use crate::store::{Draft, Key, Record, StoreError};

/// The most requests that share a flush: bounds how long the first of them waits.
const BATCH_MAX: usize = 512;

/// A verb to be carried out, and where its caller waits.
pub(super) struct Job {
    pub(super) steps: Box<dyn Steps>,
    pub(super) reply: oneshot::Sender<Result<(), StoreError>>,
}

/// Lets others see whether the writer gets on.
#[derive(Debug)]
pub(super) struct Progress {
    born: Instant,
    /// When the batch under way began, in milliseconds after `born`, plus one; 0 for none.
    busy_since: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Self { born: Instant::now(), busy_since: AtomicU64::new(0) }
    }
}

impl Progress {
    fn begin(&self) {
        let since = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.busy_since.store(since + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// How long the batch under way has taken.
    pub(super) fn stalled_for(&self) -> Duration {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.born.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        }
    }
}

/// The writer's state.
pub(super) struct Writer {
    pub(super) db: Connection,
    path: PathBuf,
    pub(super) clock: Clock,
    pub(super) recent: Arc<RwLock<Recent>>,
    pub(super) revision: u64,
    pub(super) place: Place,
    broken: bool,
}

impl Writer {
    pub(super) fn new(
        db: Connection,
        path: &Path,
        clock: Clock,
        revision: u64,
        recent: Arc<RwLock<Recent>>,
        place: Place,
    ) -> Self {
        Self { db, path: path.to_owned(), clock, recent, revision, place, broken: false }
    }

    /// Works until nobody can send any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>, progress: &Progress) {
        loop {
            let mut batch = match jobs.recv_timeout(SWEEP_EVERY) {
                Ok(job) => vec![job],
                Err(RecvTimeoutError::Timeout) => vec![],
                Err(RecvTimeoutError::Disconnected) => break,
            };
            batch.extend(jobs.try_iter().take(BATCH_MAX - 1));
            progress.begin();
            self.carry_out(batch);
            progress.end();
        }
        let _ = self.in_transaction(Self::write_meta);
    }

    fn carry_out(&mut self, mut batch: Vec<Job>) {
        // Who has given up waiting was told "unavailable": it must not happen after all.
        batch.retain(|job| !job.reply.is_closed());
        let began = Instant::now();
        let landed = self.in_transaction(|writer| {
            let mut drafted = Rows::default();
            let mut results = Vec::with_capacity(batch.len());
            for job in &mut batch {
                results.push(writer.steps(job.steps.as_mut(), &mut drafted)?);
            }
            let written = writer.write_down(&drafted)?;
            writer.keep_up(drafted.len())?;
            Ok((results, drafted, written))
        });
        match landed {
            Ok((results, drafted, written)) => {
                if let Some((number, length)) = written {
                    self.recent_mut(|recent| recent.fresh.add(drafted, number, length));
                    metrics::histogram!("countersign_store_commit_seconds").record(began.elapsed());
                }
                for (job, result) in batch.into_iter().zip(results) {
                    let _ = job.reply.send(result);
                }
                self.turn_over();
            }
            Err(error) => {
                tracing::error!(%error, requests = batch.len(), "the store could not commit");
                for job in batch {
                    let _ = job.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Nobody panics while changing it, so a poisoned lock says nothing.
    pub(super) fn recent_mut<T>(&self, change: impl FnOnce(&mut Recent) -> T) -> T {
        change(&mut self.recent.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        if self.broken {
            // After an I/O error nothing that is remembered of the file can be believed, not even
            // whether the last commit landed: read it afresh.
            self.reload().map_err(|error| unavailable(&error))?;
            self.broken = false;
        }
        let before = self.place.clone();
        let done = self.db.execute_batch("BEGIN IMMEDIATE").and_then(|()| {
            let worked = work(self)?;
            self.db.execute_batch("COMMIT")?;
            Ok(worked)
        });
        done.map_err(|error| {
            self.place = before;
            let _ = self.db.execute_batch("ROLLBACK");
            let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
            self.broken = !full;
            unavailable(&error)
        })
    }

    fn reload(&mut self) -> rusqlite::Result<()> {
        self.db = file::connect(&self.path)?;
        let (recent, place) = Place::load(&self.db)?;
        self.place = place;
        self.recent_mut(|old| *old = recent);
        Ok(())
    }

    /// Carries out one verb, phase by phase. The inner result is the verb's own; the outer one
    /// fails the whole batch.
    fn steps(
        &mut self,
        steps: &mut dyn Steps,
        drafted: &mut Rows,
    ) -> rusqlite::Result<Result<(), StoreError>> {
        loop {
            let now = self.clock.now();
            let keys = steps.keys().into_iter();
            let read = keys.map(|key| self.read(&key, drafted, now).map(|record| (key, record)));
            let mut draft = Draft::new(read.collect::<Result<_, _>>()?);
            let decided = catch_unwind(AssertUnwindSafe(|| steps.decide(&mut draft)));
            match decided {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Ok(Err(error)),
                Err(_) => {
                    return Ok(Err(StoreError::Unreadable("the decision panicked".to_owned())));
                }
            }
            for (key, write) in draft.into_writes() {
                self.revision += 1;
                drafted.insert(key.to_bytes(), Row { revision: self.revision, write });
            }
            if !steps.advance() {
                return Ok(Ok(()));
            }
        }
    }

    fn read(&self, key: &Key, drafted: &Rows, now: Millis) -> rusqlite::Result<Option<Record>> {
        let name = key.to_bytes();
        match drafted.get(&name) {
            Some(row) => Ok(row.record(now)),
            None => super::read(&self.recent, &self.db, &name, now),
        }
    }

    /// Appends to the journal; says as which commit, and how long it is.
    fn write_down(&mut self, drafted: &Rows) -> rusqlite::Result<Option<(i64, usize)>> {
        if drafted.is_empty() {
            return Ok(None);
        }
        let (number, writes) = (self.place.end, recent::encode(drafted));
        let mut insert =
            self.db.prepare_cached("INSERT INTO journal (number, writes) VALUES (?1, ?2)")?;
        insert.execute((number, &writes))?;
        self.place.end += 1;
        Ok(Some((number, writes.len())))
    }
}
