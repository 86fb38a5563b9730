//! What the writer does beside the requests, a little with each commit: records go from the journal
//! to their places, those past their time go, and free pages go back to the file system.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::recent::{Name, Recent, Row};
use super::writer::Writer;
use crate::clock::{Millis, SECOND};
use crate::store::Write;

/// How often records past their time are looked for.
pub(super) const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// Rows looked at in one sweep.
const SWEEP_ROWS: usize = 2000;
/// A stretch of the journal is folded once it is this long, or this old: the longer, the more of
/// its records meet on a page of the index or never go there, and the more memory it takes. Tests
/// have short ones, so that each of them folds.
const STRETCH_BYTES: usize = if cfg!(test) { 512 } else { 1024 * 1024 };
const STRETCH_AGE: Duration = Duration::from_secs(1);
/// Rows that are folded for each that is written, so that a stretch is folded long before the next
/// one is due; and without any request, with each sweep.
const FOLD_FOR_EACH: usize = 2;
const FOLD_MIN: usize = if cfg!(test) { 1 } else { 32 };
const FOLD_IDLE: usize = 2000;
/// Commits that leave the journal with each one that enters it, or with each sweep.
const DROP_COMMITS: i64 = 4;
const DROP_IDLE: i64 = 400;
/// Free pages that stay in the file: for the journal of a busy server, and of an idle one.
const FREE_PAGES_BUSY: i64 = 4096;
const FREE_PAGES_IDLE: i64 = 256;
/// The most free pages that one sweep gives back to the file system.
const VACUUM_PAGES: u32 = 256;
/// Revisions are taken in blocks of so many, so that not every commit writes how far they are.
const REVISIONS: u64 = 1 << 20;

/// How far the writer is with what lies in the file. Goes back to where it was when a transaction
/// fails.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The numbers of the first commit in the journal, of the first that is not wholly folded, and
    /// of the next one.
    begin: i64,
    unfolded: i64,
    pub(super) end: i64,
    /// How many rows of the stretch under way are folded, and whether that is all of them.
    folded: usize,
    fold_done: bool,
    /// Revisions below this may be given.
    reserved: u64,
    anchored_at: Millis,
    swept_at: Instant,
    sweep_from: i64,
}

impl Place {
    /// Where a file stands that was just opened, with what its journal holds.
    pub(super) fn load(db: &Connection) -> rusqlite::Result<(Recent, Self)> {
        let (recent, begin) = Recent::load(db)?;
        let place = Self {
            begin,
            unfolded: begin,
            end: recent.fresh.end,
            folded: 0,
            fold_done: false,
            reserved: 0,
            anchored_at: Millis::MIN,
            swept_at: Instant::now(),
            sweep_from: 0,
        };
        Ok((recent, place))
    }
}

impl Writer {
    /// A little of everything; `written` says how many rows the commit wrote.
    pub(super) fn keep_up(&mut self, written: usize) -> rusqlite::Result<()> {
        let sweep = self.place.swept_at.elapsed() >= SWEEP_EVERY;
        if written == 0 && !sweep {
            return Ok(());
        }
        let idle = written == 0;
        self.fold(if idle { FOLD_IDLE } else { written * FOLD_FOR_EACH + FOLD_MIN })?;
        self.drop_folded(if idle { DROP_IDLE } else { DROP_COMMITS })?;
        if sweep {
            self.place.swept_at = Instant::now();
            self.sweep()?;
            self.shrink()?;
        }
        let anchor_is_old = self.clock.now() >= self.place.anchored_at.saturating_add(SECOND);
        if self.revision >= self.place.reserved || (!idle && anchor_is_old) {
            self.write_meta()?;
        }
        Ok(())
    }

    /// Puts the next rows of the stretch under way into their places.
    fn fold(&mut self, max: usize) -> rusqlite::Result<()> {
        let (now, recent) = (self.clock.now(), Arc::clone(&self.recent));
        let recent = recent.read().unwrap_or_else(PoisonError::into_inner);
        let names = recent.order.iter().skip(self.place.folded).take(max);
        for name in names {
            // What was written again meanwhile goes to its place with the next stretch.
            let row = recent.folding.rows.get(name);
            if let Some(row) = row.filter(|_| !recent.fresh.rows.contains_key(name)) {
                self.put_in_place(name, row, now)?;
            }
        }
        self.place.folded = recent.order.len().min(self.place.folded + max);
        self.place.fold_done = self.place.folded == recent.order.len();
        if self.place.fold_done {
            self.place.unfolded = self.place.unfolded.max(recent.folding.end);
        }
        Ok(())
    }

    fn put_in_place(&self, name: &Name, row: &Row, now: Millis) -> rusqlite::Result<()> {
        match &row.write {
            Write::Put { value, expires_at, due_at } if *expires_at > now => {
                let mut put = self.db.prepare_cached(
                    "INSERT INTO records (key, revision, expires_at, due_at, value)
                     VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (key) DO UPDATE SET revision = excluded.revision,
                         expires_at = excluded.expires_at, due_at = excluded.due_at,
                         value = excluded.value",
                )?;
                let revision = i64::try_from(row.revision).unwrap_or(i64::MAX);
                put.execute((name, revision, expires_at, due_at, value))?;
            }
            _ => {
                let mut delete = self.db.prepare_cached("DELETE FROM records WHERE key = ?1")?;
                delete.execute([name])?;
            }
        }
        Ok(())
    }

    /// Takes commits from the front of the journal whose records are all in their places.
    fn drop_folded(&mut self, max: i64) -> rusqlite::Result<()> {
        let place = &mut self.place;
        let to = place.unfolded.min(place.begin + max);
        if to > place.begin {
            let mut delete = self.db.prepare_cached("DELETE FROM journal WHERE number < ?1")?;
            delete.execute([to])?;
            place.begin = to;
        }
        Ok(())
    }

    /// Once the stretch under way is folded and that has landed, forgets it, and begins with the
    /// next when it is long or old enough.
    pub(super) fn turn_over(&mut self) {
        if !self.place.fold_done {
            return;
        }
        let folded = self.recent_mut(|recent| {
            let fresh = &recent.fresh;
            let old = fresh.since.is_some_and(|since| since.elapsed() >= STRETCH_AGE);
            recent.turn_over(old || fresh.bytes >= STRETCH_BYTES)
        });
        drop(folded); // Thousands of records: not while readers wait for the lock.
        self.place.folded = 0;
        self.place.fold_done = false;
    }

    /// Takes away a stretch of the records that are past their time.
    fn sweep(&mut self) -> rusqlite::Result<()> {
        let now = self.clock.now();
        let mut select = self.db.prepare_cached(
            "SELECT place, expires_at FROM records WHERE place > ?1 ORDER BY place LIMIT ?2",
        )?;
        let rows = i64::try_from(SWEEP_ROWS).unwrap_or(i64::MAX);
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let seen: Vec<_> =
            select.query_map((self.place.sweep_from, rows), row)?.collect::<Result<_, _>>()?;
        let at_end = seen.len() < SWEEP_ROWS;
        let mut delete = self.db.prepare_cached("DELETE FROM records WHERE place = ?1")?;
        for (place, _) in seen.iter().filter(|(_, expires_at)| *expires_at <= now) {
            delete.execute([place])?;
        }
        let last = seen.last().map_or(0, |(place, _)| *place);
        self.place.sweep_from = if at_end { 0 } else { last };
        Ok(())
    }

    /// Gives pages back to the file system while more of them are free than used.
    fn shrink(&self) -> rusqlite::Result<()> {
        let count = |what| self.db.query_row(what, [], |row| row.get::<_, i64>(0));
        let idle = self.place.begin == self.place.end;
        let stay = if idle { FREE_PAGES_IDLE } else { FREE_PAGES_BUSY };
        let free = count("PRAGMA freelist_count")?;
        if free <= stay || free * 2 <= count("PRAGMA page_count")? {
            return Ok(());
        }
        let vacuum = format!("PRAGMA incremental_vacuum({VACUUM_PAGES})");
        let mut vacuum = self.db.prepare_cached(&vacuum)?;
        // Each step gives back one page.
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        Ok(())
    }

    /// Writes down where the timeline stands, and which revisions may be given.
    pub(super) fn write_meta(&mut self) -> rusqlite::Result<()> {
        self.place.anchored_at = self.clock.now();
        self.place.reserved = self.revision + REVISIONS;
        let reserved = i64::try_from(self.place.reserved).unwrap_or(i64::MAX);
        let anchor = serde_json::to_string(&self.clock.anchor()).unwrap_or_default();
        let mut update = self.db.prepare_cached("UPDATE meta SET revision = ?1, anchor = ?2")?;
        update.execute((reserved, anchor))?;
        Ok(())
    }
}
