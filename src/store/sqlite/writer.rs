//! The writer thread: decides, writes, flushes once for all, answers all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{file, read_row, unavailable};
use crate::clock::{Clock, SECOND};
use crate::store::verb::Steps;
use crate::store::{Draft, Key, StoreError, Write};

/// The most requests that share a flush: bounds how long the first of them waits.
const BATCH_MAX: usize = 512;
/// How often records past their time are looked for.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// Rows looked at in one sweep.
const SWEEP_ROWS: usize = 2000;
/// Free pages that stay in the file for the records to come.
const FREE_PAGES_MIN: i64 = 256;
/// The most free pages that one sweep gives back to the file system.
const VACUUM_PAGES: u32 = 256;

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
    db: Connection,
    path: PathBuf,
    clock: Clock,
    revision: u64,
    anchored_at: i64,
    swept_at: Instant,
    sweep_from: i64,
    broken: bool,
}

impl Writer {
    pub(super) fn new(db: Connection, path: &Path, clock: Clock, revision: u64) -> Self {
        let (path, swept_at) = (path.to_owned(), Instant::now());
        let (anchored_at, sweep_from, broken) = (i64::MIN, 0, false);
        Self { db, path, clock, revision, anchored_at, swept_at, sweep_from, broken }
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
        self.anchored_at = i64::MIN;
        let _ = self.in_transaction(|writer| {
            writer.write_meta()?;
            Ok(())
        });
    }

    fn carry_out(&mut self, mut batch: Vec<Job>) {
        // Who has given up waiting was told "unavailable": it must not happen after all.
        batch.retain(|job| !job.reply.is_closed());
        if batch.is_empty() && self.swept_at.elapsed() < SWEEP_EVERY {
            return;
        }
        let began = Instant::now();
        let decided = self.in_transaction(|writer| {
            let mut refused = Vec::with_capacity(batch.len());
            let before = writer.revision;
            for job in &mut batch {
                refused.push(writer.steps(job.steps.as_mut())?);
            }
            let swept = writer.sweep()?;
            if writer.revision != before || swept > 0 {
                writer.write_meta()?;
            }
            Ok(refused)
        });
        match decided {
            Ok(results) => {
                if !batch.is_empty() {
                    metrics::histogram!("countersign_store_commit_seconds").record(began.elapsed());
                }
                for (job, result) in batch.into_iter().zip(results) {
                    let _ = job.reply.send(result);
                }
            }
            Err(error) => {
                tracing::error!(%error, requests = batch.len(), "the store could not commit");
                for job in batch {
                    let _ = job.reply.send(Err(error.clone()));
                }
            }
        }
    }

    fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        if self.broken {
            // After an I/O error nothing that the connection remembers can be believed: read the
            // file afresh.
            self.db = file::connect(&self.path).map_err(|error| unavailable(&error))?;
            self.broken = false;
        }
        let done = self.db.execute_batch("BEGIN IMMEDIATE").and_then(|()| {
            let worked = work(self)?;
            self.db.execute_batch("COMMIT")?;
            Ok(worked)
        });
        done.map_err(|error| {
            let _ = self.db.execute_batch("ROLLBACK");
            let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
            self.broken = !full;
            unavailable(&error)
        })
    }

    /// Carries out one verb, phase by phase. The inner result is the verb's own; the outer one
    /// fails the whole batch.
    fn steps(&mut self, steps: &mut dyn Steps) -> rusqlite::Result<Result<(), StoreError>> {
        loop {
            let now = self.clock.now();
            let keys = steps.keys().into_iter();
            let read = keys.map(|key| read_row(&self.db, &key, now).map(|record| (key, record)));
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
                self.write(&key, write)?;
            }
            if !steps.advance() {
                return Ok(Ok(()));
            }
        }
    }

    fn write(&mut self, key: &Key, write: Write) -> rusqlite::Result<()> {
        self.revision += 1;
        match write {
            Write::Put { value, expires_at, due_at } => {
                let mut put = self.db.prepare_cached(
                    "INSERT INTO records (key, revision, expires_at, due_at, value)
                     VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (key) DO UPDATE SET revision = excluded.revision,
                         expires_at = excluded.expires_at, due_at = excluded.due_at,
                         value = excluded.value",
                )?;
                let revision = i64::try_from(self.revision).unwrap_or(i64::MAX);
                put.execute((key.to_bytes(), revision, expires_at, due_at, value))?;
            }
            Write::Delete => {
                let mut delete = self.db.prepare_cached("DELETE FROM records WHERE key = ?1")?;
                delete.execute([key.to_bytes()])?;
            }
        }
        Ok(())
    }

    /// Takes away a stretch of the records that are past their time; says how many.
    fn sweep(&mut self) -> rusqlite::Result<usize> {
        if self.swept_at.elapsed() < SWEEP_EVERY {
            return Ok(0);
        }
        self.swept_at = Instant::now();
        let now = self.clock.now();
        let mut select = self.db.prepare_cached(
            "SELECT place, expires_at FROM records WHERE place > ?1 ORDER BY place LIMIT ?2",
        )?;
        let rows = i64::try_from(SWEEP_ROWS).unwrap_or(i64::MAX);
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let seen: Vec<_> =
            select.query_map((self.sweep_from, rows), row)?.collect::<Result<_, _>>()?;
        let at_end = seen.len() < SWEEP_ROWS;
        let mut delete = self.db.prepare_cached("DELETE FROM records WHERE place = ?1")?;
        let mut swept = 0;
        for (place, _) in seen.iter().filter(|(_, expires_at)| *expires_at <= now) {
            swept += delete.execute([place])?;
        }
        let last = seen.last().map_or(0, |(place, _)| *place);
        self.sweep_from = if at_end { 0 } else { last };
        drop((select, delete));
        self.shrink()?;
        Ok(swept)
    }

    /// Gives pages back to the file system while more of them are free than used.
    fn shrink(&self) -> rusqlite::Result<()> {
        let count = |what| self.db.query_row(what, [], |row| row.get::<_, i64>(0));
        let free = count("PRAGMA freelist_count")?;
        if free <= FREE_PAGES_MIN || free * 2 <= count("PRAGMA page_count")? {
            return Ok(());
        }
        let vacuum = format!("PRAGMA incremental_vacuum({VACUUM_PAGES})");
        let mut vacuum = self.db.prepare_cached(&vacuum)?;
        // Each step gives back one page.
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        Ok(())
    }

    fn write_meta(&mut self) -> rusqlite::Result<()> {
        let revision = i64::try_from(self.revision).unwrap_or(i64::MAX);
        let now = self.clock.now();
        if now < self.anchored_at.saturating_add(SECOND) {
            let mut update = self.db.prepare_cached("UPDATE meta SET revision = ?1")?;
            update.execute([revision])?;
            return Ok(());
        }
        self.anchored_at = now;
        let anchor = serde_json::to_string(&self.clock.anchor()).unwrap_or_default();
        self.db.execute("UPDATE meta SET revision = ?1, anchor = ?2", (revision, anchor))?;
        Ok(())
    }
}
