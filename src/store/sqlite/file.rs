//! The file: made once, owned by one process, never taken for empty when it is not.
//!
//! SQLite makes a new, empty database out of a missing or zero-length file without a word. A
//! store that forgot every limit and every used code would be worse than none, so a marker beside
//! the file remembers that it was made, and a marked file without its contents is refused.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use super::recent::Recent;
use super::upkeep::Place;
use crate::clock::Anchor;

/// The form of the tables. A file of another form is refused.
const FORM: i64 = 3;
const MARK: &[u8] = b"countersign store";
/// Pages of the write-ahead log after which it is copied into the file. More would make the
/// pauses longer, fewer more frequent.
const CHECKPOINT_PAGES: u32 = 1000;

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
    pub(super) writer: Connection,
    pub(super) reader: Connection,
    pub(super) lock: Lock,
    pub(super) anchor: Anchor,
    pub(super) revision: u64,
    pub(super) recent: Recent,
    pub(super) place: Place,
}

/// The ownership of the file, given back when this is dropped. Closing alone would not do: a
/// process that is just being started shares every open file for a moment.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// The file that holds the lock and the marker.
fn marker_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    let unusable =
        |what: &dyn std::fmt::Display| OpenError::Unusable(format!("{}: {what}", path.display()));
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|error| unusable(&error))?;
    }
    let marker = marker_path(path);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&marker)
        .map_err(|error| unusable(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => return Err(unusable(&error)),
    }
    let mut lock = Lock(file);
    let mut mark = Vec::new();
    lock.0.read_to_end(&mut mark).map_err(|error| unusable(&error))?;
    let made_before = mark.starts_with(MARK);
    let length = fs::metadata(path).map_or(0, |meta| meta.len());
    if made_before && length == 0 {
        return Err(OpenError::Missing { path: path.to_owned(), marker });
    }
    let db = connect(path).map_err(|error| unusable(&error))?;
    let form: i64 = db
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|error| unusable(&error))?;
    match form {
        0 if made_before => return Err(OpenError::Missing { path: path.to_owned(), marker }),
        0 => make_tables(&db).map_err(|error| unusable(&error))?,
        FORM => {}
        other => return Err(OpenError::OtherForm(path.to_owned(), other)),
    }
    if !made_before {
        mark_as_made(&mut lock.0)
            .and_then(|()| sync_folder(path))
            .map_err(|error| unusable(&error))?;
    }
    let (revision, anchor) = meta(&db).map_err(|error| unusable(&error))?;
    let (recent, place) = Place::load(&db).map_err(|error| unusable(&error))?;
    let reader = connect(path).map_err(|error| unusable(&error))?;
    Ok(Opened { writer: db, reader, lock, anchor, revision, recent, place })
}

/// A connection with everything set that the promises need.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    restrict(path);
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: a commit is answered only after its log is flushed to the disk.
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    db.pragma_update(None, "journal_size_limit", 32 * 1024 * 1024)?;
    db.pragma_update(None, "cache_size", -4 * 1024)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(db)
}

/// Records lie in the order in which they were made, so that a commit of many fills few pages; only
/// the index by key, whose entries are small, is touched all over.
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
         CREATE TABLE journal (number INTEGER PRIMARY KEY, writes BLOB NOT NULL);
         CREATE TABLE meta (
             one INTEGER PRIMARY KEY CHECK (one = 1),
             revision INTEGER NOT NULL,
             anchor TEXT NOT NULL
         );
         INSERT INTO meta VALUES (1, 0, '');
         PRAGMA user_version = {FORM};
         COMMIT;"
    ))
}

fn meta(db: &Connection) -> rusqlite::Result<(u64, Anchor)> {
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
    let found = db.query_row("SELECT revision, anchor FROM meta", [], row).optional()?;
    let (revision, anchor) = found.unwrap_or_default();
    Ok((revision.unsigned_abs(), serde_json::from_str(&anchor).unwrap_or_default()))
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

/// Makes the file's name durable too, not only its contents.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
