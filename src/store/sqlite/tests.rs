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

/// Why the store does not open.
#[track_caller]
fn refusal(path: &Path) -> OpenError {
    let opened = SqliteStore::open(path, |_| Clock::manual(NOW));
    opened.map(|_| ()).expect_err("this must not open")
}

fn shared(path: &Path) -> Arc<dyn Store> {
    Arc::new(open(path))
}

/// The file that belongs to a store and ends like this.
fn beside(path: &Path, ending: &str) -> PathBuf {
    path.with_file_name(format!("{}{ending}", path.file_name().unwrap().display()))
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
