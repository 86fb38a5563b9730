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
    for other in [1, 2, 4] {
        set_form(other);
        let error = refusal(&path);
        assert!(matches!(error, OpenError::OtherForm(_, form) if form == other), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    set_form(3);
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
