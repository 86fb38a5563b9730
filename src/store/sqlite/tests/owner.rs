//! The file and its owner.

use super::*;

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
    for end in ["", "-wal", "-shm", "-log1", "-log2"] {
        let mode = fs::metadata(beside(&path, end)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{end}");
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
