//! The log: what each group of requests wrote, one frame per flush.
//!
//! There are two files, each beginning with the name of the store that it belongs to. Frames go
//! to the end of one of them until its stretch is long or old enough; then the other takes over,
//! from its beginning and over whatever lay there, while the records of the first are *folded*
//! into their places (see [`super::fold`]). Files are written over and not made anew, because a
//! flush is cheapest where the file system has nothing to note.
//!
//! A frame counts if its checksum holds and its number follows that of the frame before: what a
//! crash tore, and what lies there from earlier, does not. A crash cannot leave whole frames behind
//! a torn one, since a frame is written only after the one before is on the disk. A log that has
//! some was damaged otherwise, and is refused; so is one that lacks a commit which was not folded.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::recent::{Recent, Stretch};
use super::{LOGS, beside};

/// Frames begin at multiples of this: what a disk writes whole, or not at all.
const SECTOR_BYTES: usize = 512;
const SECTOR: u64 = SECTOR_BYTES as u64;
const FILE_MAGIC: &[u8; 16] = b"countersign log\n";
const MAGIC: &[u8; 8] = b"cs-frame";
/// The magic, the number, the length of what follows the header, a checksum of all but itself.
const HEADER: usize = 8 + 8 + 8 + 16;
/// The file system is asked for room in pieces of this.
const PIECE: u64 = 256 * 1024;

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    #[error("{0}: commit {1} of the log is damaged, and there are others behind it")]
    Damaged(PathBuf, u64),
    #[error("the log lacks commit {0}, and has others behind it")]
    Gap(u64),
    #[error("{0}: missing or empty")]
    Missing(PathBuf),
    #[error("{0}: the log of another store")]
    Foreign(PathBuf),
}

/// A frame being made. Kept between commits for its memory.
#[derive(Debug, Default)]
pub(super) struct Frame(Vec<u8>);

impl Frame {
    /// Begins a new one; its contents are to be appended to what this gives.
    pub(super) fn begin(&mut self) -> &mut Vec<u8> {
        self.0.clear();
        self.0.resize(HEADER, 0);
        &mut self.0
    }

    /// What it holds.
    pub(super) fn contents(&self) -> &[u8] {
        &self.0[HEADER..]
    }

    fn seal(&mut self, number: u64) -> &[u8] {
        let length = (self.0.len() - HEADER) as u64;
        self.0[..8].copy_from_slice(MAGIC);
        self.0[8..16].copy_from_slice(&number.to_le_bytes());
        self.0[16..24].copy_from_slice(&length.to_le_bytes());
        let sum = checksum(&self.0[..24], &self.0[HEADER..]);
        self.0[24..HEADER].copy_from_slice(&sum);
        &self.0
    }
}

fn checksum(head: &[u8], body: &[u8]) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    context.update(head);
    context.update(body);
    let mut sum = [0; 16];
    sum.copy_from_slice(&context.finish().as_ref()[..16]);
    sum
}

/// What becomes of a log file that is missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum IfMissing {
    Refuse,
    Make,
    /// Made anew even if it is there: the store that it belonged to is gone.
    Replace,
}

/// What a store is called, so that nobody's log is taken for another's.
pub(super) type StoreName = [u8; 16];

/// One of the two files.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: Arc<File>,
    /// Where the next frame begins.
    end: u64,
    /// Up to where the file system has given room.
    room: u64,
}

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    segments: [Segment; 2],
    current: usize,
    /// The number of the last commit that is on the disk.
    last: u64,
    /// A write failed, and what it left has not been taken away.
    torn: bool,
}

/// The names of the two files of this store.
pub(super) fn paths(store: &Path) -> [PathBuf; 2] {
    LOGS.map(|end| beside(store, end))
}

impl Log {
    /// Opens the log of the store with this name, whose commits up to this one are folded, and
    /// reads back the others.
    pub(super) fn open(
        store: &Path,
        name: &StoreName,
        folded: u64,
        missing: IfMissing,
    ) -> Result<(Self, Recent), LogError> {
        let [first, second] = paths(store);
        let open = |path: PathBuf| match Segment::open(path.clone(), name, missing) {
            // The making of this store was broken off where another had been.
            Err(LogError::Foreign(_)) if missing == IfMissing::Make && folded == 0 => {
                Segment::open(path, name, IfMissing::Replace)
            }
            opened => opened,
        };
        let segments = [open(first)?, open(second)?];
        let mut log = Self { segments, current: 0, last: folded, torn: false };
        let unfolded = log.read_back(folded)?;
        Ok((log, unfolded))
    }

    fn read_back(&mut self, folded: u64) -> Result<Recent, LogError> {
        let mut read = Vec::new();
        for (at, segment) in self.segments.iter_mut().enumerate() {
            let stretch = segment.read_back(folded)?;
            if stretch.end > folded {
                read.push((at, stretch));
            }
        }
        read.sort_by_key(|(_, stretch)| stretch.end);
        for (at, stretch) in &read {
            if stretch.begin != self.last + 1 {
                return Err(LogError::Gap(self.last + 1));
            }
            (self.current, self.last) = (*at, stretch.end);
        }
        let Some((_, fresh)) = read.pop() else {
            let segment = &mut self.segments[self.current];
            segment.end = SECTOR;
            return Ok(Recent { fresh: Stretch::new(Arc::clone(&segment.file)), folding: None });
        };
        Ok(Recent { fresh, folding: read.pop().map(|(_, stretch)| Arc::new(stretch)) })
    }

    /// Writes a frame and flushes it; says the commit's number, and where in the file its contents
    /// begin. Once this is back without an error it is on the disk; with one, it may be or not,
    /// until the next call has taken it away.
    pub(super) fn append(&mut self, frame: &mut Frame) -> io::Result<(u64, u64)> {
        let number = self.last + 1;
        self.mend()?;
        let segment = &mut self.segments[self.current];
        let (begin, bytes) = (segment.end, frame.seal(number));
        let end = (begin + bytes.len() as u64).next_multiple_of(SECTOR);
        segment.make_room(end)?;
        self.torn = true;
        segment.file.write_all_at(bytes, begin)?;
        segment.file.sync_data()?;
        self.torn = false;
        segment.end = end;
        self.last = number;
        Ok((number, begin + HEADER as u64))
    }

    /// Begins with the other file, all of whose commits are folded.
    pub(super) fn turn_over(&mut self) -> io::Result<Arc<File>> {
        self.mend()?;
        self.current = 1 - self.current;
        let segment = &mut self.segments[self.current];
        segment.end = SECTOR;
        Ok(Arc::clone(&segment.file))
    }

    /// Takes away what a failed write left.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.segments[self.current].cut_off()?;
            self.torn = false;
        }
        Ok(())
    }
}

impl Segment {
    fn open(path: PathBuf, name: &StoreName, missing: IfMissing) -> Result<Self, LogError> {
        let head = [&FILE_MAGIC[..], name].concat();
        let make = missing != IfMissing::Refuse;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(make).mode(0o600);
        options.truncate(missing == IfMissing::Replace);
        let open = || {
            let file = options.open(&path)?;
            if file.metadata()?.len() < SECTOR && make {
                file.write_all_at(&head, 0)?;
                file.set_len(SECTOR)?;
                file.sync_all()?;
            }
            let room = file.metadata()?.len();
            let mut found = vec![0; head.len()];
            if room >= SECTOR {
                file.read_exact_at(&mut found, 0)?;
            }
            io::Result::Ok((Arc::new(file), room, found))
        };
        match open() {
            Ok((_, room, _)) if room < SECTOR => Err(LogError::Missing(path)),
            Ok((file, room, found)) if found == head => Ok(Self { path, file, end: SECTOR, room }),
            Ok(_) => Err(LogError::Foreign(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LogError::Missing(path)),
            Err(error) => Err(LogError::Io(path, error)),
        }
    }

    /// What the frames after this commit left of each record. The next frame will follow them.
    fn read_back(&mut self, folded: u64) -> Result<Stretch, LogError> {
        let (mut stretch, mut last) = (Stretch::new(Arc::clone(&self.file)), None);
        let mut last_at = None;
        let failed = |error| LogError::Io(self.path.clone(), error);
        while let Some((number, body)) = self.frame(self.end).map_err(failed)? {
            if last.is_some_and(|last| number != last + 1) {
                break; // From an earlier use of the file.
            }
            let begin = self.end + HEADER as u64;
            if number > folded {
                let damaged = |_| LogError::Damaged(self.path.clone(), number);
                stretch.add(number, &body, begin).map_err(damaged)?;
            }
            last_at = Some((self.end, HEADER + body.len()));
            self.end = (begin + body.len() as u64).next_multiple_of(SECTOR);
            last = Some(number);
        }
        if stretch.end > folded {
            self.make_durable(last_at).map_err(failed)?;
        }
        stretch.forget_first();
        let beyond = folded.max(last.unwrap_or(0));
        if self.has_frame_after(beyond).map_err(failed)? {
            return Err(LogError::Damaged(self.path.clone(), beyond + 1));
        }
        Ok(stretch)
    }

    /// What was read may have come from the kernel's memory: the life before may have ended between
    /// writing its last frame and flushing it, or after a flush failed, when the kernel takes for
    /// written what is not. Others will be told what follows from it, so it is written again.
    fn make_durable(&self, last: Option<(u64, usize)>) -> io::Result<()> {
        if let Some((at, length)) = last {
            let mut frame = vec![0; length];
            self.file.read_exact_at(&mut frame, at)?;
            self.file.write_all_at(&frame, at)?;
        }
        self.file.sync_data()
    }

    /// The number and contents of the frame at this place, if a whole one lies there.
    fn frame(&self, at: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
        let mut head = [0; HEADER];
        if self.room < at + HEADER as u64 {
            return Ok(None);
        }
        self.file.read_exact_at(&mut head, at)?;
        let word = |from: usize| u64::from_le_bytes(std::array::from_fn(|i| head[from + i]));
        let (number, length) = (word(8), word(16));
        if !head.starts_with(MAGIC) || length > self.room - at - HEADER as u64 {
            return Ok(None);
        }
        let mut body = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut body, at + HEADER as u64)?;
        Ok((checksum(&head[..24], &body) == head[24..]).then_some((number, body)))
    }

    /// Whether a whole frame with a higher number lies anywhere from the end on.
    fn has_frame_after(&self, number: u64) -> io::Result<bool> {
        let mut piece = vec![0; usize::try_from(PIECE).unwrap_or(usize::MAX)];
        let mut at = self.end;
        while at < self.room {
            let length = self.file.read_at(&mut piece, at)?;
            let sectors = piece[..length].chunks(SECTOR_BYTES).zip(0..);
            for (_, sector) in sectors.filter(|(bytes, _)| bytes.starts_with(MAGIC)) {
                let frame = self.frame(at + sector * SECTOR)?;
                if frame.is_some_and(|(found, _)| found > number) {
                    return Ok(true);
                }
            }
            at += PIECE;
        }
        Ok(false)
    }

    /// Sees to it that the file system has room up to here, so that a full disk is known before
    /// anything is written.
    fn make_room(&mut self, end: u64) -> io::Result<()> {
        if end > self.room {
            let room = end.next_multiple_of(PIECE);
            match fallocate(&self.file, FallocateFlags::empty(), self.room, room - self.room) {
                // Some file systems give no room ahead; there a full disk shows when it is written.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
            self.room = room;
        }
        Ok(())
    }

    /// Takes away all that lies after the last frame that was flushed.
    fn cut_off(&mut self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.sync_all()?;
        self.room = self.end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::{self, Row, Rows};
    use super::*;
    use crate::store::Write;

    const NAME: StoreName = *b"the store's name";

    fn frame(value: &str) -> Frame {
        let put = Write::Put { value: value.into(), expires_at: 9, due_at: None };
        let row = Row { revision: 1, write: put, first: false };
        let rows: Rows = [(b"last".to_vec(), row)].into_iter().collect();
        let mut frame = Frame::default();
        batch::encode(&rows, "", frame.begin());
        frame
    }

    fn last(store: &Path) -> (u64, Vec<u8>) {
        let (log, recent) = Log::open(store, &NAME, 0, IfMissing::Refuse).unwrap();
        (log.last, recent.get(b"last", 0).unwrap().unwrap().unwrap().value)
    }

    #[test]
    fn what_a_failed_write_left_is_taken_away_by_the_next_or_by_the_change_of_files() {
        for change in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let store = folder.path().join("store");
            let (mut log, _) = Log::open(&store, &NAME, 0, IfMissing::Make).unwrap();
            log.append(&mut frame("one")).unwrap();
            // A disk that takes the frame and says that it did not.
            let (mut failed, end) = (frame("failed"), log.segments[0].end);
            let [path, _] = paths(&store);
            let read_only = Arc::new(File::open(path).unwrap());
            let whole = std::mem::replace(&mut log.segments[0].file, read_only);
            assert!(log.append(&mut failed).is_err() && log.torn);
            whole.write_all_at(failed.seal(2), end).unwrap();
            assert_eq!(last(&store), (2, b"failed".to_vec()), "so a crash may find it");
            log.segments[0].file = whole;
            if change {
                log.turn_over().unwrap();
                assert_eq!(last(&store), (1, b"one".to_vec()));
            }
            let (number, _) = log.append(&mut frame("two")).unwrap();
            assert_eq!((number, last(&store)), (2, (2, b"two".to_vec())));
        }
    }
}
