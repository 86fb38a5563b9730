//! A file that is gone, foreign or damaged.

use super::*;

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
async fn a_file_of_another_form_is_refused_and_left_alone() {
    let folder = quick_folder();
    let path = made(&folder).await;
    let set_form = |form: i64| {
        Connection::open(&path).unwrap().pragma_update(None, "user_version", form).unwrap();
    };
    for other in [1, 2, 3, 5] {
        set_form(other);
        let error = refusal(&path);
        assert!(matches!(error, OpenError::OtherForm(_, form) if form == other), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    set_form(4);
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
pub(super) struct Crashed {
    /// Its files, by what their names end with.
    files: Vec<(&'static str, Vec<u8>)>,
    /// Where the frame of each commit after the safe ones ends in the first log file.
    ends: Vec<usize>,
}

/// How many commits are safe in the table.
const SAFE: usize = 3;
const COMMITS: usize = 12;

async fn commit(store: &SqliteStore, number: usize) {
    let text = number.to_string().into_bytes();
    let writes = vec![write(&key("last"), &text), write(&key(&format!("own/{number}")), &text)];
    assert!(store.commit(Commit { guards: vec![], writes }).await.unwrap());
}

impl Crashed {
    async fn new() -> Self {
        let folder = quick_folder();
        let path = folder.path().join("store");
        let store = open_unfolded(&path);
        for number in 1..=SAFE {
            commit(&store, number).await;
        }
        drop(store);
        let store = open_unfolded(&path);
        for number in SAFE + 1..=COMMITS {
            commit(&store, number).await;
        }
        Self::copy(&path)
    }

    pub(super) fn copy(path: &Path) -> Self {
        let ends = ["", ".lock", "-wal", "-log1", "-log2"];
        let read = |end| fs::read(beside(path, end)).ok().map(|bytes| (end, bytes));
        Self { files: ends.into_iter().filter_map(read).collect(), ends: frames(path) }
    }

    pub(super) fn log(&self) -> &[u8] {
        let log = self.files.iter().find(|(end, _)| *end == "-log1");
        log.map(|(_, bytes)| &bytes[..]).unwrap()
    }

    /// Puts the files into a folder, with this in the place of its first log file.
    pub(super) fn laid_out(&self, log: Option<&[u8]>) -> (TempDir, PathBuf) {
        let folder = quick_folder();
        let path = folder.path().join("store");
        for (end, bytes) in &self.files {
            match (*end, log) {
                ("-log1", None) => {}
                ("-log1", Some(log)) => fs::write(beside(&path, end), log).unwrap(),
                _ => fs::write(beside(&path, end), bytes).unwrap(),
            }
        }
        (folder, path)
    }

    /// Opens the store with such a log; says how many commits are there.
    async fn commits(&self, log: &[u8]) -> usize {
        let (_folder, path) = self.laid_out(Some(log));
        commits(&open(&path)).await
    }

    /// Why the store does not open with such a log.
    fn refusal(&self, log: Option<&[u8]>) -> String {
        let (_folder, path) = self.laid_out(log);
        let error = refusal(&path);
        assert!(matches!(error, OpenError::Log { .. }), "{error}");
        let words = error.to_string();
        for end in [".lock", "-log1", "-log2"] {
            assert!(words.contains(beside(&path, end).to_str().unwrap()), "{words}");
            fs::remove_file(beside(&path, end)).unwrap_or_default();
        }
        assert!(SqliteStore::open(&path, |_| Clock::manual(NOW)).is_ok(), "as it was advised");
        words
    }
}

async fn commits(store: &SqliteStore) -> usize {
    let last = number(store, "last").await.expect("never empty");
    let last = usize::try_from(last).unwrap();
    for number in 1..=COMMITS {
        let own = value(store, &format!("own/{number}")).await;
        assert_eq!(own.is_some(), number <= last, "commit {number} of {last}");
    }
    let before = get(store, "last").await.unwrap().revision;
    put(store, "new", b"1").await.unwrap();
    assert!(get(store, "new").await.unwrap().revision > before);
    last
}

#[tokio::test]
async fn a_torn_log_gives_exactly_the_commits_that_lie_before_the_tear() {
    let crashed = Crashed::new().await;
    let whole = *crashed.ends.last().unwrap();
    assert_eq!(crashed.ends.len(), COMMITS - SAFE);
    let mut cuts: Vec<_> = (0..24).map(|part| 512 + (whole - 512) * part / 24).collect();
    cuts.extend(crashed.ends.iter().flat_map(|end| [end - 1, *end]));
    cuts.extend(
        crashed
            .ends
            .iter()
            .flat_map(|end| [0, 1, 7, 8, 23, 39, 40].map(|at| at + end.next_multiple_of(512))),
    );
    for cut in cuts {
        let safe = SAFE + crashed.ends.iter().filter(|end| **end <= cut).count();
        let mut torn = crashed.log()[..cut.min(crashed.log().len())].to_vec();
        assert_eq!(crashed.commits(&torn).await, safe, "cut at {cut}");
        for byte in [0, 0xa5] {
            torn.truncate(cut);
            torn.resize(whole + 5000, byte);
            assert_eq!(crashed.commits(&torn).await, safe, "{byte} from {cut} on");
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_last_frame_costs_the_last_commit_and_no_other() {
    let crashed = Crashed::new().await;
    let [.., before, end] = crashed.ends[..] else { unreachable!() };
    for offset in before.next_multiple_of(512)..end {
        let mut log = crashed.log().to_vec();
        log[offset] ^= 1 << (offset % 8);
        assert_eq!(crashed.commits(&log).await, COMMITS - 1, "flipped at {offset}");
    }
}

#[tokio::test]
async fn a_log_that_is_damaged_before_its_end_is_refused() {
    let crashed = Crashed::new().await;
    let [.., end, _] = crashed.ends[..] else { unreachable!() };
    for offset in (512..end).step_by(61) {
        let mut log = crashed.log().to_vec();
        log[offset] ^= 1 << (offset % 8);
        let gap = |end: &usize| (*end..end.next_multiple_of(512)).contains(&offset);
        if crashed.ends.iter().any(gap) {
            assert_eq!(crashed.commits(&log).await, COMMITS, "between two frames");
        } else {
            let words = crashed.refusal(Some(&log));
            assert!(words.contains("is damaged"), "flipped at {offset}: {words}");
        }
    }
}

#[tokio::test]
async fn a_log_that_lacks_something_is_refused() {
    let crashed = Crashed::new().await;
    for left in [None, Some(&[][..]), Some(&crashed.log()[..511])] {
        assert!(crashed.refusal(left).contains("missing or empty"));
    }
    let other = Crashed::new().await;
    assert!(crashed.refusal(Some(other.log())).contains("another store"));
    let mut gap = crashed.log().to_vec();
    gap.drain(512..crashed.ends[0].next_multiple_of(512));
    assert!(crashed.refusal(Some(&gap)).contains("lacks commit 4"));
}

#[tokio::test]
async fn logs_left_by_another_store_are_no_hindrance_to_one_that_was_just_being_made() {
    let folder = quick_folder();
    let path = made(&folder).await;
    let other = folder.path().join("other");
    drop(open(&other));
    fs::copy(&other, &path).unwrap();
    fs::remove_file(beside(&path, ".lock")).unwrap();
    let store = open(&path);
    assert_eq!(value(&store, "a").await, None);
    put(&store, "b", b"2").await.unwrap();
    drop(store);
    assert_eq!(value(&open(&path), "b").await, Some(b"2".to_vec()));
}

#[tokio::test]
async fn what_ends_after_a_crash_in_the_middle_of_folding_does_not_come_back() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    let store = open_unfolded(&path);
    // The store knows that nothing lay there before.
    let commit =
        Commit { guards: vec![(key("used"), None)], writes: vec![write(&key("used"), b"1")] };
    assert!(store.commit(commit).await.unwrap());
    let crashed = Crashed::copy(&path);
    let (_folder, path) = crashed.laid_out(Some(crashed.log()));
    // A piece of the stretch was folded, with this record, and the crash came before the others.
    let db = Connection::open(&path).unwrap();
    let insert = "INSERT INTO records (key, revision, expires_at, value) VALUES (?1, 1, ?2, x'31')";
    db.execute(insert, (key("used").to_bytes(), FAR)).unwrap();
    drop(db);
    let store = open_unfolded(&path);
    assert_eq!(value(&store, "used").await, Some(b"1".to_vec()));
    let gone = vec![(key("used"), Write::Delete)];
    store.commit(Commit { guards: vec![], writes: gone }).await.unwrap();
    drop(store);
    assert_eq!(value(&open(&path), "used").await, None);
}

#[tokio::test]
async fn a_crash_while_a_stretch_is_folded_loses_nothing_of_either_file() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    let store = open(&path);
    // Somebody else holds the table, so the folding thread has to wait.
    let somebody = Connection::open(&path).unwrap();
    somebody.execute_batch("BEGIN IMMEDIATE").unwrap();
    for number in 1..=COMMITS {
        commit(&store, number).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.recent.read().unwrap().folding.is_some());
    let crashed = Crashed::copy(&path);
    somebody.execute_batch("ROLLBACK").unwrap();
    let used = |end: &str| {
        let (_, bytes) = crashed.files.iter().find(|(found, _)| *found == end).unwrap();
        bytes[512..].starts_with(b"cs-frame")
    };
    assert!(used("-log1") && used("-log2"), "both files have commits");
    assert_eq!(crashed.commits(crashed.log()).await, COMMITS);
    let words = crashed.refusal(Some(&crashed.log()[..512]));
    assert!(words.contains("lacks commit 1"), "the older of the two is empty: {words}");
}
