//! The files: made once, owned by one process, never taken for empty when they are not.
//!
//! SQLite makes a new, empty database out of a missing or zero-length file without a word. A
//! store that forgot every limit and every used code would be worse than none, so a marker beside
//! the file remembers that it was made, and a marked file without its contents is refused.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::log::{self, IfMissing, Log, LogError, StoreName};
use super::recent::Recent;
use super::{MARKER, WAL, beside};
use crate::clock::Anchor;

/// The form of the tables. A file of another form is refused.
const FORM: i64 = 4;
const MARK: &[u8] = b"countersign store";
/// Pages of SQLite's own log after which it is copied into the file. Few, since a flush of the log
/// waits behind whatever the disk was given at once.
const CHECKPOINT_PAGES: u32 = 256;

/// Memory for pages, in KiB, of each connection. The writer and those who look forget theirs
/// whenever a piece was folded.
pub(super) const FOLDER_CACHE: i32 = 2048;
const WRITER_CACHE: i32 = 1024;
const READER_CACHE: i32 = 512;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{0}: another process uses this store; stop it first, or give `store.path` another file"
    )]
    InUse(PathBuf),
    /// It was made once, and is gone or empty now.
    #[error(
        "{path}: this store was made before, and now it is missing or empty. Bring its files back \
         from a backup; or, if its limits, codes and deliveries may be forgotten, remove {marker}"
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The marker that remembers it.
        marker: PathBuf,
    },
    /// Its log lacks what it must have.
    #[error(
        "{trouble}. The log holds what was written in the last seconds before this store was \
         closed: bring it back, or the whole store from a backup; or, if those seconds may be \
         forgotten, remove {marker}, {} and {}", logs[0].display(), logs[1].display()
    )]
    Log {
        /// What it lacks.
        trouble: String,
        /// The marker that remembers that the store was made.
        marker: PathBuf,
        /// The log's two files.
        logs: [PathBuf; 2],
    },
    /// It was written by a release whose tables have another form.
    #[error(
        "{0}: written in form {1}, and this release reads form {FORM}; start one that wrote it"
    )]
    OtherForm(PathBuf, i64),
    /// It is damaged or cannot be written.
    #[error("{0}")]
    Unusable(String),
}

/// What opening gives.
pub(super) struct Opened {
    /// One connection for each who uses the table: the folding thread, which alone writes, the
    /// writer, and those who look.
    pub(super) folder: Connection,
    pub(super) writer: Connection,
    pub(super) reader: Connection,
    pub(super) log: Log,
    pub(super) recent: Recent,
    pub(super) lock: Lock,
    pub(super) anchor: Anchor,
    pub(super) revision: u64,
}

/// The ownership of the file, given back when this is dropped. Closing alone would not do: a
/// process that is just being started shares every open file for a moment.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    let unusable = |error: &dyn std::fmt::Display| unusable(path, error);
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|error| unusable(&error))?;
    }
    let marker = beside(path, MARKER);
    let mut lock = take(path, &marker)?;
    let mut mark = Vec::new();
    lock.0.read_to_end(&mut mark).map_err(|error| unusable(&error))?;
    let made_before = mark.starts_with(MARK);
    let (folder, new) = table(path, &marker, made_before)?;
    sync_wal(path).map_err(|error| unusable(&error))?;
    let meta = meta(&folder).map_err(|error| unusable(&error))?;
    let if_missing = match (new, made_before) {
        (true, _) => IfMissing::Replace,
        (false, false) => IfMissing::Make,
        (false, true) => IfMissing::Refuse,
    };
    let opened = Log::open(path, &meta.name, meta.folded, if_missing);
    let (log, unfolded) = opened.map_err(|error| match error {
        LogError::Io(..) => OpenError::Unusable(error.to_string()),
        _ => OpenError::Log { trouble: error.to_string(), marker, logs: log::paths(path) },
    })?;
    if !made_before {
        mark_as_made(&mut lock.0)
            .and_then(|()| sync_folder(path))
            .map_err(|error| unusable(&error))?;
    }
    let connect = |cache| connect(path, cache).map_err(|error| unusable(&error));
    Ok(Opened {
        writer: connect(WRITER_CACHE)?,
        reader: connect(READER_CACHE)?,
        folder,
        log,
        lock,
        anchor: latest(unfolded.anchors().map(parse_anchor).chain([meta.anchor])),
        revision: meta.revision.max(unfolded.revision()),
        recent: unfolded,
    })
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> OpenError {
    OpenError::Unusable(format!("{}: {error}", path.display()))
}

/// Takes the ownership.
fn take(path: &Path, marker: &Path) -> Result<Lock, OpenError> {
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).read(true).write(true).open(marker);
    let file = file.map_err(|error| unusable(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(unusable(path, &error)),
    }
}

/// Opens the table, or makes it if it never was; says whether it is new.
fn table(path: &Path, marker: &Path, made_before: bool) -> Result<(Connection, bool), OpenError> {
    let missing = || OpenError::Missing { path: path.to_owned(), marker: marker.to_owned() };
    let length = fs::metadata(path).map_or(0, |meta| meta.len());
    if made_before && length == 0 {
        return Err(missing());
    }
    let db = connect(path, FOLDER_CACHE).map_err(|error| unusable(path, &error))?;
    let form = db.query_row("PRAGMA user_version", [], |row| row.get(0));
    match form.map_err(|error| unusable(path, &error))? {
        0 if made_before => Err(missing()),
        0 => {
            make_tables(&db).map_err(|error| unusable(path, &error))?;
            Ok((db, true))
        }
        FORM => Ok((db, false)),
        other => Err(OpenError::OtherForm(path.to_owned(), other)),
    }
}

/// A connection with everything set that the promises need.
pub(super) fn connect(path: &Path, cache_kib: i32) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    restrict(path);
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: a stretch leaves the log for good only once it is flushed to the disk.
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    db.pragma_update(None, "journal_size_limit", 32 * 1024 * 1024)?;
    db.pragma_update(None, "cache_size", -cache_kib)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(db)
}

/// Records lie in the order in which they were folded, so that a stretch fills few pages; only the
/// index by key, whose entries are small, is touched all over.
fn make_tables(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         CREATE TABLE records (
             place INTEGER PRIMARY KEY,
             key BLOB NOT NULL UNIQUE,
             revision INTEGER NOT NULL,
             expires_at INTEGER NOT NULL,
             due_at INTEGER,
             value BLOB NOT NULL
         );
         CREATE INDEX due ON records (due_at) WHERE due_at IS NOT NULL;
         CREATE TABLE meta (
             one INTEGER PRIMARY KEY CHECK (one = 1),
             name BLOB NOT NULL,
             folded INTEGER NOT NULL,
             revision INTEGER NOT NULL,
             anchor TEXT NOT NULL
         );
         INSERT INTO meta VALUES (1, randomblob(16), 0, 0, '');
         PRAGMA user_version = {FORM};
         COMMIT;"
    ))
}

/// What the table says of the store as a whole.
struct Meta {
    name: StoreName,
    /// The last commit of which everything lies in its place.
    folded: u64,
    revision: u64,
    anchor: Anchor,
}

fn meta(db: &Connection) -> rusqlite::Result<Meta> {
    db.query_row("SELECT name, folded, revision, anchor FROM meta", [], |row| {
        let number = |at| row.get(at).map(i64::unsigned_abs);
        let anchor = parse_anchor(&row.get::<_, String>(3)?);
        Ok(Meta { name: row.get(0)?, folded: number(1)?, revision: number(2)?, anchor })
    })
}

/// The timeline never goes back.
fn latest(anchors: impl Iterator<Item = Anchor>) -> Anchor {
    anchors.max_by_key(|anchor| anchor.at).unwrap_or_default()
}

fn parse_anchor(text: &str) -> Anchor {
    serde_json::from_str(text).unwrap_or_default()
}

/// Whatever a crash left in the marker is written over.
fn mark_as_made(marker: &mut File) -> std::io::Result<()> {
    marker.set_len(0)?;
    marker.rewind()?;
    marker.write_all(MARK)?;
    marker.sync_all()
}

/// Only the owner reads the file: what is in it is sealed or hashed, and still nobody's business.
fn restrict(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
    }
}

/// What the life before wrote to SQLite's log and had no time to flush is about to be read, and the
/// log's file of a stretch that is folded by it to be written over.
fn sync_wal(path: &Path) -> std::io::Result<()> {
    match File::open(beside(path, WAL)) {
        Ok(wal) => wal.sync_all(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the file's name durable too, not only its contents.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
