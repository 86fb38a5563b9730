//! What the embedded store promises beyond the contract: about its file, its disk, its one owner,
//! and those who wait.

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

// The file and its owner.

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let folder = quick_folder();
    let path = folder.path().join("made/with its folders/store");
    let store = open(&path);
    put(&store, "a", b"1").await.unwrap();
    let due = Write::Put { value: vec![2], expires_at: NOW + 5, due_at: Some(NOW) };
    let writes = vec![(key("due"), due), write(&key("gone"), b"")];
    store.commit(Commit { guards: vec![], writes }).await.unwrap();
    let writes = vec![(key("gone"), Write::Delete)];
    store.commit(Commit { guards: vec![], writes }).await.unwrap();
    let before = get(&store, "a").await;
    drop(store);

    let store = open(&path);
    assert_eq!(get(&store, "a").await, before);
    assert_eq!(get(&store, "gone").await, None);
    assert_eq!(store.due(NOW, 9).await.unwrap(), [key("due")]);
    store.clock().advance(5);
    assert_eq!(get(&store, "due").await, None);
}

#[tokio::test]
async fn revisions_go_on_rising_after_reopening_even_after_deletes() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    let mut last = 0;
    for _ in 0..4 {
        let store = open(&path);
        put(&store, "a", b"1").await.unwrap();
        let made = get(&store, "a").await.unwrap().revision;
        assert!(made > last, "{made} after {last}");
        let guards = vec![(key("a"), Some(last))];
        let stale = Commit { guards, writes: vec![write(&key("a"), b"stale")] };
        assert!(!store.commit(stale).await.unwrap(), "a guard from before passes");
        put(&store, "b", b"2").await.unwrap();
        last = get(&store, "b").await.unwrap().revision;
        let deletes = [key("a"), key("b")].map(|key| (key, Write::Delete));
        store.commit(Commit { guards: vec![], writes: deletes.to_vec() }).await.unwrap();
    }
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    let store = open(&path);
    put(&store, "a", b"1").await.unwrap();
    for file in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")] {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn a_second_open_in_this_process_is_refused_by_name() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    let first = open(&path);
    let error = refusal(&path);
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    drop(first);
    open(&path);
}

/// Names the store of [`another_process`].
const OTHERS_STORE: &str = "STORE_OF_ANOTHER_PROCESS";

/// Not a promise by itself: others start it as another process, with a store named in its
/// environment. It opens the store, then commits one number after the other and says which have
/// landed.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how a test tells another process what to do")]
async fn another_process() {
    let Some(path) = std::env::var_os(OTHERS_STORE) else { return };
    let store = match SqliteStore::open(Path::new(&path), |_| Clock::manual(NOW)) {
        Ok(store) => store,
        Err(error) => return println!("\nsays: {error}"),
    };
    println!("\nsays: opened");
    let first = number(&store, "last").await.unwrap_or(0) + 1;
    for number in first.. {
        let text = number.to_string();
        let own = key(&format!("own/{}", number % 50));
        let writes = vec![write(&key("last"), text.as_bytes()), write(&own, text.as_bytes())];
        store.commit(Commit { guards: vec![], writes }).await.unwrap();
        println!("says: {number}");
    }
}

/// Another process, which ends with its owner.
struct Other {
    child: Child,
    says: Box<dyn Iterator<Item = String>>,
}

impl Other {
    fn start(path: &Path) -> Self {
        let name = format!("{}::another_process", module_path!());
        let name = name.split_once("::").unwrap().1;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([name, "--exact", "--nocapture"]).env(OTHERS_STORE, path);
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = piped.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let says = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("says: ").map(str::to_owned));
        Self { child, says: Box::new(says) }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_second_open_in_another_process_is_refused_by_name() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    let first = open(&path);
    let said = Other::start(&path).says.next().unwrap();
    assert!(said.contains("another process uses this store"), "{said}");
    assert!(said.contains(path.to_str().unwrap()), "{said}");
    drop(first);

    let mut other = Other::start(&path);
    assert_eq!(other.says.next().unwrap(), "opened");
    let error = refusal(&path);
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
    drop(other);
    open(&path);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    let mut revision = 0;
    for acknowledged in [1, 10, 100, 1000] {
        let mut other = Other::start(&path);
        let said = other.says.by_ref().take(acknowledged + 1).last().unwrap();
        let said: u64 = said.parse().expect("the other process commits");
        drop(other);

        let store = open(&path);
        let last = number(&store, "last").await.unwrap();
        assert!(last >= said, "{said} was acknowledged, {last} is there");
        for written in last.saturating_sub(49).max(1)..=last {
            let own = number(&store, &format!("own/{}", written % 50)).await;
            assert_eq!(own, Some(written), "both records of a commit, or none");
        }
        put(&store, "mine", b"1").await.unwrap();
        let mine = get(&store, "mine").await.unwrap().revision;
        assert!(mine > revision + 2 * u64::try_from(acknowledged).unwrap());
        revision = mine;
    }
}

// A file that is gone, foreign or damaged.

/// A closed store with one record.
async fn made(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("store");
    put(&open(&path), "a", b"1").await.unwrap();
    assert_eq!(length(&beside(&path, "-wal")), 0, "a closed store is one file");
    path
}

#[tokio::test]
async fn a_marked_store_without_its_contents_is_missing_and_never_silently_empty() {
    let folder = quick_folder();
    let path = made(&folder).await;
    let contents = fs::read(&path).unwrap();
    let marker = beside(&path, ".lock");
    fs::remove_file(&path).unwrap();
    for _ in 0..2 {
        let error = refusal(&path);
        assert!(matches!(error, OpenError::Missing { .. }), "{error}");
        let words = error.to_string();
        for file in [&path, &marker] {
            assert!(words.contains(file.to_str().unwrap()), "{words}");
        }
        assert!(!path.exists(), "nothing is made in its place");
    }
    for left in [&b""[..], b"x"] {
        fs::write(&path, left).unwrap(); // SQLite takes even one byte for an empty database.
        assert!(matches!(refusal(&path), OpenError::Missing { .. }));
    }
    // An empty database that somebody's tool made.
    Connection::open(&path).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
    assert!(length(&path) > 0 && matches!(refusal(&path), OpenError::Missing { .. }));

    fs::write(&path, contents).unwrap();
    assert_eq!(value(&open(&path), "a").await, Some(b"1".to_vec()), "brought back from a backup");
    fs::remove_file(&path).unwrap();
    fs::remove_file(&marker).unwrap();
    assert_eq!(value(&open(&path), "a").await, None, "forgotten on purpose");
}

#[tokio::test]
async fn a_lost_or_torn_marker_is_made_again() {
    for left in [None, Some(""), Some("counters"), Some("somebody else's much longer file")] {
        let folder = quick_folder();
        let path = made(&folder).await;
        let marker = beside(&path, ".lock");
        match left {
            None => fs::remove_file(&marker).unwrap(),
            Some(left) => fs::write(&marker, left).unwrap(),
        }
        assert_eq!(value(&open(&path), "a").await, Some(b"1".to_vec()));
        fs::remove_file(&path).unwrap();
        let error = refusal(&path);
        assert!(matches!(error, OpenError::Missing { .. }), "{left:?}: {error}");
    }
}

#[tokio::test]
async fn a_file_of_a_newer_form_is_refused_and_left_alone() {
    let folder = quick_folder();
    let path = made(&folder).await;
    let set_form = |form: i64| {
        Connection::open(&path).unwrap().pragma_update(None, "user_version", form).unwrap();
    };
    set_form(2);
    let error = refusal(&path);
    assert!(matches!(error, OpenError::Newer(_, 2)), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    set_form(1);
    assert_eq!(value(&open(&path), "a").await, Some(b"1".to_vec()));
}

#[tokio::test]
async fn a_damaged_file_is_refused_by_name_and_left_alone() {
    let folder = quick_folder();
    let path = made(&folder).await;
    let whole = fs::read(&path).unwrap();
    let overwritten = |range: std::ops::Range<usize>, byte: u8| {
        let mut bytes = whole.clone();
        bytes[range].fill(byte);
        bytes
    };
    let damaged = [
        ("no magic", overwritten(0..16, b'x')),
        ("one letter of the magic", overwritten(3..4, b'x')),
        ("no header", overwritten(0..100, 0xa5)),
        ("page size and formats", overwritten(16..24, 0xff)),
        ("the first page of zeros", overwritten(0..4096, 0)),
        ("all of zeros", overwritten(0..whole.len(), 0)),
        ("the list of tables", overwritten(100..4096, 0xa5)),
        ("cut in half", whole[..whole.len() / 2].to_vec()),
        ("cut within the header", whole[..50].to_vec()),
    ];
    for (what, bytes) in damaged {
        fs::write(&path, &bytes).unwrap();
        for _ in 0..2 {
            let words = refusal(&path).to_string();
            assert!(words.contains(path.to_str().unwrap()), "{what}: {words}");
        }
        assert!(fs::read(&path).unwrap() == bytes, "{what}: left as it was found");
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(value(&open(&path), "a").await, Some(b"1".to_vec()));
}

/// A store copied while open, as a crash of the machine would leave it.
struct Crashed {
    main: Vec<u8>,
    marker: Vec<u8>,
    log: Vec<u8>,
    /// How long the log was when each commit after the third was acknowledged.
    lengths: Vec<usize>,
}

/// How many commits are safe in the main file.
const SAFE: usize = 3;
const COMMITS: usize = 12;

impl Crashed {
    async fn new() -> Self {
        let folder = quick_folder();
        let path = folder.path().join("store");
        let commit = async |store: &SqliteStore, number: usize| {
            let text = number.to_string().into_bytes();
            let writes =
                vec![write(&key("last"), &text), write(&key(&format!("own/{number}")), &text)];
            store.commit(Commit { guards: vec![], writes }).await.unwrap();
        };
        let store = open(&path);
        for number in 1..=SAFE {
            commit(&store, number).await;
        }
        drop(store);
        let store = open(&path);
        let log = beside(&path, "-wal");
        let mut lengths = Vec::new();
        for number in SAFE + 1..=COMMITS {
            commit(&store, number).await;
            lengths.push(usize::try_from(length(&log)).unwrap());
        }
        let read = |path: &Path| fs::read(path).unwrap();
        let (main, marker, log) = (read(&path), read(&beside(&path, ".lock")), read(&log));
        Self { main, marker, log, lengths }
    }

    /// Opens the store with this in the place of its log; says how many commits are there.
    async fn commits(&self, log: Option<&[u8]>) -> usize {
        let folder = quick_folder();
        let path = folder.path().join("store");
        fs::write(&path, &self.main).unwrap();
        fs::write(beside(&path, ".lock"), &self.marker).unwrap();
        if let Some(log) = log {
            fs::write(beside(&path, "-wal"), log).unwrap();
        }
        let store = open(&path);
        let last = number(&store, "last").await.expect("never empty");
        let last = usize::try_from(last).unwrap();
        for number in 1..=COMMITS {
            let own = value(&store, &format!("own/{number}")).await;
            assert_eq!(own.is_some(), number <= last, "commit {number} of {last}");
        }
        let before = get(&store, "last").await.unwrap().revision;
        put(&store, "new", b"1").await.unwrap();
        assert!(get(&store, "new").await.unwrap().revision > before);
        last
    }
}

#[tokio::test]
async fn a_torn_log_gives_exactly_the_commits_that_lie_before_the_tear() {
    let crashed = Crashed::new().await;
    let whole = crashed.log.len();
    assert_eq!(crashed.lengths.last(), Some(&whole));
    let mut cuts: Vec<_> = (0..24).map(|part| whole * part / 24).collect();
    cuts.extend([1, 31, 32, 33, 55, 56, 57, whole]);
    cuts.extend(crashed.lengths.iter().flat_map(|length| [length - 1, *length]));
    for cut in cuts {
        let safe = SAFE + crashed.lengths.iter().filter(|length| **length <= cut).count();
        assert_eq!(crashed.commits(Some(&crashed.log[..cut])).await, safe, "cut at {cut}");
    }
    assert_eq!(crashed.commits(None).await, SAFE, "without its log");
}

#[tokio::test]
async fn a_flipped_bit_in_the_last_frame_costs_the_last_commit_and_no_other() {
    let crashed = Crashed::new().await;
    let frame = crashed.log.len() - 24 - 4096;
    let header = 0..24;
    for offset in header.chain((24..24 + 4096).step_by(199)) {
        let mut log = crashed.log.clone();
        log[frame + offset] ^= 1 << (offset % 8);
        assert_eq!(crashed.commits(Some(&log)).await, COMMITS - 1, "flipped at {offset}");
    }
    let mut log = crashed.log.clone();
    log.extend_from_slice(&[0xa5; 5000]);
    assert_eq!(crashed.commits(Some(&log)).await, COMMITS, "rubbish after the end");
}

// A full disk.

/// A disk of its own, and small.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m", "store-test"]).arg(folder.path());
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then(|| Self(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Fills the disk but for so many bytes.
    fn fill(&self, but: u64) {
        let mut ballast = fs::File::create(self.path("ballast")).unwrap();
        while ballast.write_all(&[0; 4096]).is_ok() {}
        ballast.set_len(ballast.metadata().unwrap().len().saturating_sub(but)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Writes until the store cannot; says which records were acknowledged.
async fn write_until_full(store: &SqliteStore) -> Vec<String> {
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for at in 0..3000 {
        let name = format!("record/{at}");
        match put(store, &name, &[b'x'; 3000]).await {
            Ok(()) => acknowledged.push(name),
            Err(StoreError::Unavailable(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        if refused == 3 {
            return acknowledged;
        }
    }
    panic!("there is room for everything")
}

async fn assert_there(store: &SqliteStore, names: &[String]) {
    for name in names {
        assert_eq!(value(store, name).await, Some(vec![b'x'; 3000]), "{name}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_commits_loses_nothing_and_is_got_over_without_reopening() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("NO DISK COULD BE MOUNTED: a full file must stand for a full disk");
        return a_full_file().await;
    };
    let mut most = 0;
    for room in 0..12 {
        let path = disk.path(&format!("store{room}"));
        let store = open(&path);
        put(&store, "first", b"1").await.unwrap();
        // Each time the space ends at another write.
        disk.fill(room * room * 40 * 1024);
        let acknowledged = write_until_full(&store).await;
        most = most.max(acknowledged.len());
        assert_there(&store, &acknowledged).await;
        let store = if room % 3 == 2 {
            drop(store); // Closed while the disk is full.
            fs::remove_file(disk.path("ballast")).unwrap();
            open(&path)
        } else {
            fs::remove_file(disk.path("ballast")).unwrap();
            store
        };
        put(&store, "after", b"2").await.expect("the first commit with room again lands");
        drop(store);
        let store = open(&path);
        assert_there(&store, &acknowledged).await;
        assert_eq!(value(&store, "first").await, Some(b"1".to_vec()));
        assert_eq!(value(&store, "after").await, Some(b"2".to_vec()));
        drop(store);
        fs::remove_file(path).unwrap();
    }
    assert!(most > 100, "some disks had room for {most}");
}

#[tokio::test]
async fn a_full_file_refuses_commits_loses_nothing_and_is_got_over_by_deleting() {
    a_full_file().await;
}

async fn a_full_file() {
    for pages in [32, 33, 100] {
        let folder = quick_folder();
        let path = folder.path().join("store");
        let opened = file::open(&path).unwrap();
        opened.writer.pragma_update(None, "max_page_count", pages).unwrap();
        let store = SqliteStore::start(opened, &path, Clock::manual(NOW)).unwrap();
        for at in 0..10 {
            put(&store, &format!("ballast/{at}"), &[0; 3000]).await.unwrap();
        }
        let acknowledged = write_until_full(&store).await;
        assert!(!acknowledged.is_empty());
        assert_there(&store, &acknowledged).await;
        let writes = (0..10).map(|at| (key(&format!("ballast/{at}")), Write::Delete)).collect();
        store.commit(Commit { guards: vec![], writes }).await.unwrap();
        put(&store, "after", b"2").await.unwrap();
        drop(store);
        let store = open(&path);
        assert_there(&store, &acknowledged).await;
        assert_eq!(value(&store, "after").await, Some(b"2".to_vec()));
    }
}

#[tokio::test]
async fn after_any_other_error_the_file_is_read_afresh_and_nothing_is_lost() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    let store = open(&path);
    put(&store, "before", b"1").await.unwrap();
    let somebody = Connection::open(&path).unwrap();
    for name in ["first", "second"] {
        somebody.execute_batch("ALTER TABLE records RENAME TO hidden").unwrap();
        for _ in 0..2 {
            let refused = put(&store, "refused", b"1").await;
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
            assert!(store.read(&[key("before")]).await.is_err(), "never taken for empty");
        }
        somebody.execute_batch("ALTER TABLE hidden RENAME TO records").unwrap();
        put(&store, name, b"2").await.unwrap();
        assert_eq!(value(&store, "before").await, Some(b"1".to_vec()));
        assert_eq!(value(&store, "refused").await, None);
    }
}

// What has expired.

/// Waits until this holds in the file, which takes less than a second when nobody else works.
async fn until(store: &SqliteStore, holds: &'static str) {
    for _ in 0..750 {
        let look = |db: &Connection| db.query_row(holds, [], |row| row.get::<_, bool>(0));
        if store.look(look).await.unwrap() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {holds}");
}

#[tokio::test]
async fn what_has_expired_leaves_the_file_and_the_file_does_not_grow_for_ever() {
    const ROUNDS: usize = 5;
    let folder = quick_folder();
    let path = folder.path().join("store");
    let store = open(&path);
    put(&store, "kept", b"1").await.unwrap();
    let mut sizes = Vec::new();
    for round in 0..ROUNDS {
        let expires_at = store.clock().now() + SECOND;
        for batch in 0..20 {
            let writes = (0..500).map(|at| {
                let due_at = (at % 2 == 0).then_some(expires_at);
                let value = vec![b'x'; 150];
                (key(&format!("{at}/{batch}/{round}")), Write::Put { value, expires_at, due_at })
            });
            store.commit(Commit { guards: vec![], writes: writes.collect() }).await.unwrap();
        }
        sizes.push(length(&path) + length(&beside(&path, "-wal")));
        store.clock().advance(SECOND);
        until(&store, "SELECT count(*) = 1 FROM records").await;
    }
    let most = sizes.iter().skip(1).max().unwrap();
    assert!(*most < sizes[0] * 2, "{sizes:?}");
    until(&store, "SELECT freelist_count <= 256 FROM pragma_freelist_count").await;
    drop(store);
    eprintln!("sizes with 10 000 living records: {sizes:?}; without: {}", length(&path));
    assert!(length(&path) < 3 * 1024 * 1024, "{}", length(&path));
    assert_eq!(value(&open(&path), "kept").await, Some(b"1".to_vec()));
}

// Those who wait.

/// A decision that keeps the writer busy until it is let go.
fn hold(store: &Arc<dyn Store>) -> (Transaction<'_, ()>, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((entered, entry), (release, released)) = (mpsc::channel(), mpsc::channel());
    let holder = transact_once(store, vec![], move |_| {
        let _ = entered.send(());
        let _ = released.recv();
        Ok(())
    });
    (holder, entry, release)
}

/// Sends requests to the writer without waiting for what comes of them.
async fn send<T>(requests: &mut [Transaction<'_, T>]) {
    poll_fn(|context| {
        for request in requests.iter_mut() {
            assert!(Pin::as_mut(request).poll(context).is_pending());
        }
        Poll::Ready(())
    })
    .await;
}

fn increment<'a>(store: &'a Arc<dyn Store>, name: &str) -> Transaction<'a, u64> {
    let key = key(name);
    transact_once(store, vec![key.clone()], move |draft| {
        let count = draft.get::<u64>(&key)?.unwrap_or(0) + 1;
        draft.put(&key, &count, FAR);
        Ok(count)
    })
}

#[tokio::test]
async fn those_who_wait_together_share_a_flush() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    let store = shared(&path);
    put(&*store, "hot", b"0").await.unwrap();
    let before = length(&beside(&path, "-wal"));
    let (holder, entry, release) = hold(&store);
    let mut holder = [holder];
    send(&mut holder).await;
    entry.recv().unwrap();
    let mut requests: Vec<_> = (0..500).map(|_| increment(&store, "hot")).collect();
    send(&mut requests).await;
    release.send(()).unwrap();
    for (request, count) in requests.into_iter().zip(1..) {
        assert_eq!(request.await.unwrap(), count);
    }
    // Alone, each would write the page of its record and the page of the revision.
    let frames = (length(&beside(&path, "-wal")) - before) / (24 + 4096);
    assert!(frames < 10, "{frames} pages were written for 500 commits");
}

#[tokio::test]
async fn a_job_whose_caller_has_gone_is_not_carried_out() {
    let folder = quick_folder();
    let store = shared(&folder.path().join("store"));
    let (holder, entry, release) = hold(&store);
    let mut holder = [holder];
    send(&mut holder).await;
    entry.recv().unwrap();
    let mut requests = ["gone", "stays"].map(|name| increment(&store, name));
    send(&mut requests).await;
    let [gone, stays] = requests;
    drop(gone);
    release.send(()).unwrap();
    assert_eq!(stays.await.unwrap(), 1);
    assert_eq!(number(&*store, "gone").await, None);
}

#[tokio::test]
async fn a_stalled_disk_is_unavailable_and_what_waited_for_it_does_not_happen_later() {
    let folder = quick_folder();
    let store = shared(&folder.path().join("store"));
    put(&*store, "before", b"1").await.unwrap();
    let (holder, entry, release) = hold(&store);
    let mut holder = [holder];
    send(&mut holder).await;
    entry.recv().unwrap();
    let waited = Instant::now();
    let error = increment(&store, "refused").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)) && waited.elapsed() > STALL_MAX / 2);
    assert_eq!(number(&*store, "before").await, Some(1), "reads go on");
    release.send(()).unwrap();
    // The writer may need a moment to see that it was let go.
    let mut after = increment(&store, "after/0").await;
    for again in 1..100 {
        if after.is_err() {
            after = increment(&store, &format!("after/{again}")).await;
        }
    }
    assert_eq!(after.unwrap(), 1);
    assert_eq!(number(&*store, "refused").await, None);
}

/// On the disk of this machine, to see what it gives: the figures bind nobody, and a flush that
/// takes too long is an answer.
#[tokio::test]
async fn a_thousand_concurrent_commits_all_land() {
    let folder = tempfile::tempdir().unwrap();
    let store = shared(&folder.path().join("store"));
    let began = Instant::now();
    for _ in 0..10 {
        let _ = increment(&store, "alone").await;
    }
    let alone = 10.0 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut requests: Vec<_> =
        (0..1000).map(|at| increment(&store, &format!("name/{}", at % 100))).collect();
    send(&mut requests).await;
    let mut landed = 0;
    for request in requests {
        match request.await {
            Ok(_) => landed += 1,
            Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error}"),
        }
    }
    let together = 1000.0 / began.elapsed().as_secs_f64();
    let mut counted = 0;
    for at in 0..100 {
        counted += number(&*store, &format!("name/{at}")).await.unwrap_or(0);
    }
    assert!((landed..=1000).contains(&counted), "{counted} are there, {landed} were acknowledged");
    eprintln!("{landed} of 1000 landed");
    eprintln!("commits per second: {alone:.0} one by one, {together:.0} together");
}

// The timeline.

#[tokio::test]
async fn the_timeline_goes_on_across_a_restart_whatever_the_wall_clock_says() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    // A life whose wall clock was a year ahead: this machine's has been set back since then.
    let ahead = Clock::machine().wall() + 365 * DAY;
    for at in [ahead, NOW] {
        let _ = fs::remove_dir_all(folder.path());
        let clock = Clock::manual(at);
        let store = SqliteStore::open(&path, |_| clock.clone()).unwrap();
        let code =
            Write::Put { value: vec![], expires_at: at + 5 * MINUTE, due_at: Some(at + HOUR) };
        let writes = vec![(key("code"), code)];
        store.commit(Commit { guards: vec![], writes }).await.unwrap();
        clock.advance(MINUTE);
        drop(store);

        let store = SqliteStore::open(&path, Clock::resumed).unwrap();
        let passed = store.clock().now() - at;
        assert!((MINUTE..2 * MINUTE).contains(&passed), "{passed} ms have passed");
        assert!(get(&store, "code").await.is_some(), "a code lives its five minutes");
    }
}

#[tokio::test]
async fn after_a_reboot_the_timeline_never_goes_back_behind_the_last_write() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    let ahead = Clock::machine().wall() + DAY;
    drop(SqliteStore::open(&path, |_| Clock::manual(ahead)).unwrap());
    let db = Connection::open(&path).unwrap();
    let text: String = db.query_row("SELECT anchor FROM meta", [], |row| row.get(0)).unwrap();
    let mut anchor: Anchor = serde_json::from_str(&text).unwrap();
    assert_eq!(anchor.at, ahead, "closing writes down where the timeline stands");
    anchor.boot = "another boot".to_owned();
    let text = serde_json::to_string(&anchor).unwrap();
    db.execute("UPDATE meta SET anchor = ?1", [text]).unwrap();
    drop(db);
    let store = SqliteStore::open(&path, Clock::resumed).unwrap();
    assert!(store.clock().now() >= ahead);
}

// Beside the memory store.

/// The same story told to both stores.
struct Pair {
    path: PathBuf,
    clock: Clock,
    memory: MemoryStore,
    sqlite: Option<SqliteStore>,
    chance: SeededChance,
    /// What both had under each key, at several moments.
    seen: Vec<[Vec<Option<u64>>; 2]>,
}

impl Pair {
    fn new(folder: &TempDir, seed: u64) -> Self {
        let (path, clock) = (folder.path().join("store"), Clock::manual(NOW));
        let memory = MemoryStore::new(clock.clone());
        let (sqlite, seen) = (None, vec![[vec![None; 6], vec![None; 6]]]);
        let mut pair = Self { path, clock, memory, sqlite, chance: SeededChance(seed), seen };
        pair.reopen();
        pair
    }

    fn reopen(&mut self) {
        self.sqlite = None;
        self.sqlite = Some(SqliteStore::open(&self.path, |_| self.clock.clone()).unwrap());
    }

    fn below(&mut self, bound: u64) -> Millis {
        Millis::try_from(self.chance.below(bound)).unwrap()
    }

    fn pick(&mut self) -> usize {
        usize::try_from(self.chance.below(6)).unwrap()
    }

    /// Some writes under some guards, which may be stale.
    fn commits(&mut self) -> [Commit; 2] {
        let [mut one, mut other] = [Commit::default(), Commit::default()];
        for _ in 0..self.below(3) {
            let age = 1 + usize::try_from(self.below(3)).unwrap().min(self.seen.len() - 1);
            let (at, moment) = (self.pick(), self.seen.len() - age);
            let [in_memory, in_sqlite] = &self.seen[moment];
            one.guards.push((key(&at.to_string()), in_memory[at]));
            other.guards.push((key(&at.to_string()), in_sqlite[at]));
        }
        for _ in 0..self.below(4) {
            let (at, value) = (self.pick(), vec![self.below(9).to_le_bytes()[0]]);
            let expires_at = self.clock.now() + self.below(12);
            let due_at = (self.below(2) == 0).then(|| self.clock.now() + self.below(6) - 3);
            let put = Write::Put { value, expires_at, due_at };
            let write = if self.below(4) == 0 { Write::Delete } else { put };
            one.writes.push((key(&at.to_string()), write));
        }
        other.writes.clone_from(&one.writes);
        [one, other]
    }

    async fn step(&mut self) {
        match self.below(10) {
            0 => self.reopen(),
            1 | 2 => self.clock.advance(self.chance.below(5).try_into().unwrap()),
            _ => {
                let [one, other] = self.commits();
                let told = format!("{one:?}");
                let one = self.memory.commit(one).await.unwrap();
                let other = self.sqlite.as_ref().unwrap().commit(other).await.unwrap();
                assert_eq!(one, other, "{told}");
            }
        }
    }

    async fn compare(&mut self) {
        let sqlite = self.sqlite.as_ref().unwrap();
        let keys: Vec<_> = (0..6).map(|at| key(&at.to_string())).collect();
        let one = self.memory.read(&keys).await.unwrap();
        let other = sqlite.read(&keys).await.unwrap();
        let values = |records: &[Option<Record>]| -> Vec<_> {
            records.iter().map(|it| it.as_ref().map(|it| it.value.clone())).collect()
        };
        assert_eq!(values(&one), values(&other));
        let revisions = |records: Vec<Option<Record>>| -> Vec<_> {
            records.into_iter().map(|it| it.map(|it| it.revision)).collect()
        };
        self.seen.push([revisions(one), revisions(other)]);
        let now = self.clock.now();
        let mut due = [self.memory.due(now, 9).await.unwrap(), sqlite.due(now, 9).await.unwrap()];
        // Those due at one moment have no order.
        for due in &mut due {
            due.sort();
        }
        assert_eq!(due[0], due[1]);
    }
}

#[tokio::test]
async fn it_tells_the_same_story_as_the_memory_store() {
    for seed in 0..10 {
        eprintln!("seed {seed}");
        let folder = quick_folder();
        let mut pair = Pair::new(&folder, seed);
        for _ in 0..200 {
            pair.step().await;
            pair.compare().await;
        }
    }
}
