//! What the embedded store promises beyond the contract: about its file, its disk, its one owner,
//! and those who wait.

mod damage;
mod expiry;
mod full_disk;
mod owner;
mod story;
mod timeline;
mod waiting;

use std::fs;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::task::Poll;
use std::time::Instant;

use tempfile::TempDir;

use super::writer::STRETCHES_MAX;
use super::*;
use crate::chance::{Chance, SeededChance};
use crate::clock::{DAY, HOUR, MINUTE, SECOND};
use crate::store::contract::quick_folder;
use crate::store::memory::MemoryStore;
use crate::store::{Transaction, Write, transact_once};

const NOW: Millis = 1_735_749_045_000;
const FAR: Millis = NOW + 3650 * DAY;

fn key(name: &str) -> Key {
    Key::new(3, 1, name)
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, |_| Clock::manual(NOW)).unwrap()
}

/// A store that folds nothing until it is closed.
fn open_unfolded(path: &Path) -> SqliteStore {
    let pace = Pace { bytes: usize::MAX / STRETCHES_MAX, age: Duration::MAX };
    SqliteStore::start(file::open(path).unwrap(), path, Clock::manual(NOW), pace).unwrap()
}

/// Where each frame of the store's first log file ends.
fn frames(path: &Path) -> Vec<usize> {
    let log = fs::read(beside(path, "-log1")).unwrap();
    let (mut ends, mut at) = (Vec::new(), 512);
    while log.get(at..).is_some_and(|rest| rest.starts_with(b"cs-frame")) {
        let length = u64::from_le_bytes(log[at + 16..at + 24].try_into().unwrap());
        let end = at + 40 + usize::try_from(length).unwrap();
        ends.push(end);
        at = end.next_multiple_of(512);
    }
    ends
}

/// Why the store does not open.
#[track_caller]
fn refusal(path: &Path) -> OpenError {
    let opened = SqliteStore::open(path, |_| Clock::manual(NOW));
    opened.map(|_| ()).expect_err("this must not open")
}

fn shared(path: &Path) -> Arc<dyn Store> {
    Arc::new(open(path))
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

fn write(key: &Key, value: &[u8]) -> (Key, Write) {
    (key.clone(), Write::Put { value: value.to_vec(), expires_at: FAR, due_at: None })
}

async fn put(store: &dyn Store, name: &str, value: &[u8]) -> Result<(), StoreError> {
    let commit = Commit { guards: vec![], writes: vec![write(&key(name), value)] };
    store.commit(commit).await.map(|landed| assert!(landed))
}

async fn get(store: &dyn Store, name: &str) -> Option<Record> {
    store.read(&[key(name)]).await.unwrap().remove(0)
}

async fn value(store: &dyn Store, name: &str) -> Option<Vec<u8>> {
    get(store, name).await.map(|record| record.value)
}

async fn number(store: &dyn Store, name: &str) -> Option<u64> {
    value(store, name).await.map(|value| serde_json::from_slice(&value).unwrap())
}
