//! The folding thread: takes what a stretch of the log left of each record to its place in the
//! table, takes away what is past its time, and gives free pages back to the file system. Nobody
//! waits for it, unless it falls far behind.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::batch::{NEVER, Name, Slot};
use super::recent::Stretch;
use super::{disk_trouble, file, unavailable};
use crate::clock::Clock;
use crate::store::StoreError;

/// How often records past their time are looked for, and what could not be folded is tried again.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// Rows that are folded in one transaction.
const PIECE_ROWS: usize = if cfg!(test) { 2 } else { 512 };
/// Rows looked at in one sweep.
const SWEEP_ROWS: usize = 2000;
/// Rows looked at for each that was folded, in sweeps that follow each other more closely, so that
/// a busy server does not fill its file faster than it is swept.
const SWEEP_FOR_EACH: usize = 2;
const SWEEP_BUSY: Duration = Duration::from_millis(10);
/// Free pages that stay in the file.
const FREE_PAGES: i64 = 256;
/// The most free pages that one sweep gives back to the file system.
const VACUUM_PAGES: u32 = 256;

/// What is to be folded.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) stretch: Arc<Stretch>,
    /// Where the timeline stands, as JSON: noted with the last piece.
    pub(super) anchor: String,
}

/// What the writer says to the folding thread.
#[derive(Debug)]
pub(super) enum Message {
    /// Fold this; it answers after each attempt, until one succeeds.
    Fold(Order),
    /// Do not rest; and try again now, if the last attempt failed.
    Again,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
enum FoldError {
    #[error("the table: {0}")]
    Table(#[from] rusqlite::Error),
    #[error("the log: {0}")]
    Log(#[from] std::io::Error),
}

impl FoldError {
    fn disk_is_full(&self) -> bool {
        match self {
            Self::Table(error) => error.sqlite_error_code() == Some(ErrorCode::DiskFull),
            Self::Log(_) => false,
        }
    }

    fn told(&self) -> StoreError {
        match self {
            Self::Table(error) => unavailable(error),
            Self::Log(error) => disk_trouble(error),
        }
    }
}

/// The folding thread's state.
pub(super) struct Folder {
    db: Connection,
    path: PathBuf,
    clock: Clock,
    order: Option<Order>,
    sweep_from: i64,
    /// The last attempt to fold, and the last sweep, failed: that is said once.
    unfolded: bool,
    unswept: bool,
    /// After an I/O error nothing that the connection remembers can be believed.
    broken: bool,
}

impl Folder {
    pub(super) fn new(db: Connection, path: PathBuf, clock: Clock) -> Self {
        let (unfolded, unswept, broken) = (false, false, false);
        Self { db, path, clock, order: None, sweep_from: 0, unfolded, unswept, broken }
    }

    /// Works until the writer is gone.
    pub(super) fn run(
        mut self,
        messages: &Receiver<Message>,
        attempts: &Sender<Result<(), StoreError>>,
    ) {
        let mut owed = 0;
        loop {
            let rest = if owed > 0 { SWEEP_BUSY } else { SWEEP_EVERY };
            match messages.recv_timeout(rest) {
                Ok(Message::Fold(order)) => self.order = Some(order),
                Ok(Message::Again) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(order) = self.order.take() {
                let attempt = self.fold(&order, messages);
                owed = order.stretch.slots.len() * SWEEP_FOR_EACH;
                self.order = attempt.is_err().then_some(order);
                say_once(&mut self.unfolded, &attempt, "the store's log cannot be folded");
                let _ = attempts.send(attempt);
            }
            owed = owed.saturating_sub(SWEEP_ROWS);
            let swept = self.in_transaction(Self::sweep);
            let swept = swept.and_then(|()| self.in_transaction(|folder| folder.shrink()));
            say_once(&mut self.unswept, &swept, "what is past its time cannot be taken away");
        }
    }

    /// Folds a stretch piece by piece, in the order of the index, so that each of its pages is
    /// looked for once; and rests in between for as long as a piece took, so that those who wait
    /// for a flush do not wait for this, unless the writer asks for it.
    fn fold(&mut self, order: &Order, messages: &Receiver<Message>) -> Result<(), StoreError> {
        let mut slots: Vec<_> = order.stretch.slots.iter().collect();
        slots.sort_unstable_by_key(|(name, _)| *name);
        let mut hurry = false;
        for piece in slots.chunks(PIECE_ROWS) {
            let began = Instant::now();
            self.in_transaction(|folder| folder.put_in_place(piece, &order.stretch))?;
            if !hurry {
                let rest = messages.recv_timeout(began.elapsed());
                hurry = !matches!(rest, Err(RecvTimeoutError::Timeout));
            }
        }
        self.in_transaction(|folder| folder.note(order))
    }

    fn in_transaction(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), FoldError>,
    ) -> Result<(), StoreError> {
        let done = self.connected().map_err(FoldError::from).and_then(|()| {
            self.db.execute_batch("BEGIN IMMEDIATE")?;
            work(self)?;
            Ok(self.db.execute_batch("COMMIT")?)
        });
        done.map_err(|error| {
            let _ = self.db.execute_batch("ROLLBACK");
            self.broken |= !error.disk_is_full();
            error.told()
        })
    }

    fn connected(&mut self) -> rusqlite::Result<()> {
        if self.broken {
            self.db = file::connect(&self.path, file::FOLDER_CACHE)?;
            self.broken = false;
        }
        Ok(())
    }

    fn put_in_place(
        &mut self,
        slots: &[(&Name, &Slot)],
        stretch: &Stretch,
    ) -> Result<(), FoldError> {
        let now = self.clock.now();
        let mut put = self.db.prepare_cached(
            "INSERT INTO records (key, revision, expires_at, due_at, value)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (key) DO UPDATE SET revision = excluded.revision,
                 expires_at = excluded.expires_at, due_at = excluded.due_at,
                 value = excluded.value",
        )?;
        let mut delete = self.db.prepare_cached("DELETE FROM records WHERE key = ?1")?;
        for (name, slot) in slots {
            if slot.expires_at > now {
                let due_at = Some(slot.due_at).filter(|at| *at != NEVER);
                let value = stretch.value(slot)?;
                put.execute((name, number(slot.revision), slot.expires_at, due_at, value))?;
            } else if !slot.first {
                delete.execute([name])?;
            }
        }
        Ok(())
    }

    /// Notes that everything up to the stretch's last commit is in its place.
    fn note(&self, order: &Order) -> Result<(), FoldError> {
        let mut update = self.db.prepare_cached(
            "UPDATE meta SET folded = max(folded, ?1), revision = max(revision, ?2), anchor = ?3",
        )?;
        let Stretch { end, revision, .. } = *order.stretch;
        update.execute((number(end), number(revision), &order.anchor))?;
        Ok(())
    }

    /// Takes away those of the next rows that are past their time.
    fn sweep(&mut self) -> Result<(), FoldError> {
        let now = self.clock.now();
        let mut select = self.db.prepare_cached(
            "SELECT place, expires_at FROM records WHERE place > ?1 ORDER BY place LIMIT ?2",
        )?;
        let max = i64::try_from(SWEEP_ROWS).unwrap_or(i64::MAX);
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let seen: Vec<_> =
            select.query_map((self.sweep_from, max), row)?.collect::<Result<_, _>>()?;
        let mut delete = self.db.prepare_cached("DELETE FROM records WHERE place = ?1")?;
        for (place, _) in seen.iter().filter(|(_, expires_at)| *expires_at <= now) {
            delete.execute([place])?;
        }
        let last = seen.last().map_or(0, |(place, _)| *place);
        self.sweep_from = if seen.len() < SWEEP_ROWS { 0 } else { last };
        Ok(())
    }

    /// Gives pages back to the file system while more of them are free than used.
    fn shrink(&self) -> Result<(), FoldError> {
        let count = |what| self.db.query_row(what, [], |row| row.get::<_, i64>(0));
        let free = count("PRAGMA freelist_count")?;
        if free <= FREE_PAGES || free * 2 <= count("PRAGMA page_count")? {
            return Ok(());
        }
        let vacuum = format!("PRAGMA incremental_vacuum({VACUUM_PAGES})");
        let mut vacuum = self.db.prepare_cached(&vacuum)?;
        // Each step gives back one page.
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        Ok(())
    }
}

/// A trouble is found ten times a second and said when it begins.
fn say_once(failed_before: &mut bool, done: &Result<(), StoreError>, what: &str) {
    if let (Err(error), false) = (done, *failed_before) {
        tracing::error!(%error, "{what}");
    }
    *failed_before = done.is_err();
}

/// SQLite has no numbers beyond this.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
