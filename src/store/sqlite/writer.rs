//! The writer thread: decides, appends to the log, flushes once for all, answers all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::batch::{self, Row, Rows};
use super::disk_trouble;
use super::fold::{Message, Order};
use super::log::{Frame, Log};
use super::recent::{Recent, Stretch};
use crate::clock::{Clock, Millis, SECOND};
use crate::store::verb::Steps;
use crate::store::{Draft, Key, Record, StoreError};

/// The most requests that share a flush: bounds how long the first of them waits.
const BATCH_MAX: usize = 512;

/// How often the writer looks up when nobody wants anything.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What may be written while the stretch before is being folded, in its lengths. Who comes then
/// waits for that.
pub(super) const STRETCHES_MAX: usize = 3;

/// When a stretch of the log is folded. The longer it is, the more of its records meet on a page of
/// the index or never go there, and the more memory it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) bytes: usize,
    pub(super) age: Duration,
}

impl Default for Pace {
    /// Tests fold all the time.
    fn default() -> Self {
        match (cfg!(test), cfg!(debug_assertions)) {
            (true, _) => Self { bytes: 512, age: Duration::from_millis(100) },
            (false, true) => Self { bytes: 64 * 1024, age: Duration::from_secs(1) },
            (false, false) => Self { bytes: 2 * 1024 * 1024, age: Duration::from_secs(10) },
        }
    }
}

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
    /// For reading: the table is written by the folding thread alone.
    pub(super) db: Connection,
    pub(super) log: Log,
    pub(super) clock: Clock,
    pub(super) recent: Arc<RwLock<Recent>>,
    pub(super) revision: u64,
    /// To the folding thread, and what it says after each attempt.
    pub(super) folder: Sender<Message>,
    pub(super) attempts: Receiver<Result<(), StoreError>>,
    pub(super) pace: Pace,
    pub(super) frame: Frame,
    /// The folding thread was told that the next stretch is long enough already.
    pub(super) hurried: bool,
    /// When the log was last told where the timeline stands.
    pub(super) anchored_at: Millis,
}

impl Writer {
    /// Works until nobody can send any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>, progress: &Progress) {
        let left = self.recent().folding.clone();
        if let Some(stretch) = left {
            self.fold(stretch);
        }
        loop {
            let mut batch = match jobs.recv_timeout(LOOK_EVERY) {
                Ok(job) => vec![job],
                Err(RecvTimeoutError::Timeout) => vec![],
                Err(RecvTimeoutError::Disconnected) => break,
            };
            progress.begin();
            if !batch.is_empty() {
                batch.extend(jobs.try_iter().take(BATCH_MAX - 1));
                self.carry_out(batch);
            }
            self.turn_over();
            progress.end();
        }
        self.fold_all();
    }

    fn carry_out(&mut self, mut batch: Vec<Job>) {
        let room = self.wait_for_the_folder();
        // Who has given up waiting was told "unavailable": it must not happen after all.
        batch.retain(|job| !job.reply.is_closed());
        match room.and_then(|()| self.commit(&mut batch)) {
            Ok(results) => {
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

    /// Decides all, then writes all down. The inner results are the verbs' own.
    fn commit(&mut self, jobs: &mut [Job]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let began = Instant::now();
        let mut drafted = Rows::default();
        // What is read of the table is read in one transaction: that takes its locks once.
        let reading = self.db.execute_batch("BEGIN").is_ok();
        let results = jobs.iter_mut().map(|job| self.steps(job.steps.as_mut(), &mut drafted));
        let results = results.collect();
        if reading {
            let _ = self.db.execute_batch("ROLLBACK");
        }
        if !drafted.is_empty() {
            self.write_down(&drafted)?;
            metrics::histogram!("countersign_store_commit_seconds").record(began.elapsed());
        }
        Ok(results)
    }

    /// Carries out one verb, phase by phase.
    fn steps(&mut self, steps: &mut dyn Steps, drafted: &mut Rows) -> Result<(), StoreError> {
        loop {
            let now = self.clock.now();
            let keys = steps.keys().into_iter();
            let read = keys.map(|key| self.read(&key, drafted, now).map(|record| (key, record)));
            let mut draft = Draft::new(read.collect::<Result<_, _>>()?);
            catch_unwind(AssertUnwindSafe(|| steps.decide(&mut draft)))
                .map_err(|_| StoreError::Unreadable("the decision panicked".to_owned()))??;
            let (read, writes) = draft.into_parts();
            for (key, write) in writes {
                self.revision += 1;
                let name = key.to_bytes();
                let absent = || read.iter().any(|(seen, record)| *seen == key && record.is_none());
                let first = drafted.get(&name).map_or_else(absent, |row| row.first);
                drafted.insert(name, Row { revision: self.revision, write, first });
            }
            if !steps.advance() {
                return Ok(());
            }
        }
    }

    fn read(&self, key: &Key, drafted: &Rows, now: Millis) -> Result<Option<Record>, StoreError> {
        let name = key.to_bytes();
        match drafted.get(&name) {
            Some(row) => Ok(row.record(now)),
            None => super::read(&self.recent, &self.db, &name, now),
        }
    }

    fn write_down(&mut self, rows: &Rows) -> Result<(), StoreError> {
        let now = self.clock.now();
        let anchor_is_old = now >= self.anchored_at.saturating_add(SECOND);
        let anchor = if anchor_is_old { self.anchor() } else { String::new() };
        batch::encode(rows, &anchor, self.frame.begin());
        let (number, at) =
            self.log.append(&mut self.frame).map_err(|error| disk_trouble(&error))?;
        if anchor_is_old {
            self.anchored_at = now;
        }
        let added = self.recent_mut(|recent| recent.fresh.add(number, self.frame.contents(), at));
        added.expect("what was encoded is decoded");
        Ok(())
    }

    fn anchor(&self) -> String {
        serde_json::to_string(&self.clock.anchor()).unwrap_or_default()
    }

    /// Nobody panics while changing it, so a poisoned lock says nothing.
    fn recent_mut<T>(&self, change: impl FnOnce(&mut Recent) -> T) -> T {
        change(&mut self.recent.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn recent(&self) -> std::sync::RwLockReadGuard<'_, Recent> {
        self.recent.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn fold(&mut self, stretch: Arc<Stretch>) {
        self.hurried = false;
        let order = Order { stretch, anchor: self.anchor() };
        let _ = self.folder.send(Message::Fold(order));
    }

    /// Forgets a stretch that lies in the table by now, and lets the next be folded if it is long
    /// or old enough.
    fn turn_over(&mut self) {
        self.settle();
        let (due, late) = {
            let recent = self.recent();
            let old = recent.fresh.since.is_some_and(|since| since.elapsed() >= self.pace.age);
            let (free, long) = (recent.folding.is_none(), recent.fresh.bytes >= self.pace.bytes);
            (free && (old || long), !free && long)
        };
        if late && !self.hurried {
            self.hurried = self.folder.send(Message::Again).is_ok();
        }
        if let Err(error) = if due { self.turn_over_now() } else { Ok(()) } {
            tracing::error!(%error, "the store's log cannot change its file");
        }
    }

    fn turn_over_now(&mut self) -> Result<(), StoreError> {
        let file = self.log.turn_over().map_err(|error| disk_trouble(&error))?;
        let stretch = self.recent_mut(|recent| recent.turn_over(file));
        self.fold(stretch);
        Ok(())
    }

    fn settle(&self) {
        while let Ok(attempt) = self.attempts.try_recv() {
            self.attempted(&attempt);
        }
    }

    fn attempted(&self, attempt: &Result<(), StoreError>) {
        if attempt.is_ok() {
            let folded = self.recent_mut(|recent| recent.folding.take());
            drop(folded); // Thousands of slots: not while readers wait for the lock.
        }
    }

    /// Waits while so much was written since the last stretch that the log and the memory would
    /// grow without end.
    fn wait_for_the_folder(&mut self) -> Result<(), StoreError> {
        if self.recent().fresh.bytes < STRETCHES_MAX * self.pace.bytes {
            return Ok(());
        }
        self.folded()?;
        self.turn_over_now()
    }

    /// Waits until nothing is being folded, or cannot be.
    fn folded(&self) -> Result<(), StoreError> {
        let gone = |_| StoreError::Unavailable("the folding thread has stopped".to_owned());
        self.settle();
        let mut attempt = Ok(());
        // What comes of the first attempt may be of one that began before there was room again.
        for _ in 0..2 {
            if self.recent().folding.is_none() {
                return Ok(());
            }
            let _ = self.folder.send(Message::Again);
            attempt = self.attempts.recv().map_err(gone)?;
            self.attempted(&attempt);
        }
        attempt
    }

    /// Takes everything to its place, and writes down where the timeline stands. What fails is
    /// still in the log.
    fn fold_all(&mut self) {
        let folded = self.folded().and_then(|()| self.turn_over_now());
        if let Err(error) = folded.and_then(|()| self.folded()) {
            tracing::warn!(%error, "the store was closed with its log unfolded");
        }
    }
}
