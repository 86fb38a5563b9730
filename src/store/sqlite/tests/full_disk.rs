//! A full disk.

use super::*;

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
        for end in ["", "-log1", "-log2"] {
            fs::remove_file(beside(&path, end)).unwrap();
        }
    }
    assert!(most > 100, "some disks had room for {most}");
}

#[tokio::test]
async fn a_full_file_refuses_commits_loses_nothing_and_is_got_over_by_what_expires() {
    a_full_file().await;
}

async fn a_full_file() {
    for pages in [32, 33, 100] {
        let folder = quick_folder();
        let path = folder.path().join("store");
        let opened = file::open(&path).unwrap();
        opened.folder.pragma_update(None, "max_page_count", pages).unwrap();
        let store = SqliteStore::start(opened, &path, Clock::manual(NOW), Pace::default()).unwrap();
        let short = Write::Put { value: vec![0; 30_000], expires_at: NOW + 1, due_at: None };
        let commit = Commit { guards: vec![], writes: vec![(key("short"), short)] };
        assert!(store.commit(commit).await.unwrap());
        let acknowledged = write_until_full(&store).await;
        assert!(!acknowledged.is_empty());
        assert_there(&store, &acknowledged).await;
        store.clock().advance(1);
        let began = Instant::now();
        while put(&store, "after", b"2").await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "{pages} pages: never");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(store);
        let store = open(&path);
        assert_there(&store, &acknowledged).await;
        assert_eq!(value(&store, "after").await, Some(b"2".to_vec()));
    }
}

#[tokio::test]
async fn after_any_other_error_the_file_is_opened_afresh_and_nothing_is_lost() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    let store = open(&path);
    let somebody = Connection::open(&path).unwrap();
    for round in 0..2 {
        somebody.execute_batch("ALTER TABLE records RENAME TO hidden").unwrap();
        assert!(store.read(&[key("never written")]).await.is_err(), "never taken for empty");
        let mut acknowledged = Vec::new();
        let refused = loop {
            let name = format!("{round}/{}", acknowledged.len());
            match put(&store, &name, &[b'x'; 300]).await {
                Ok(()) => acknowledged.push(name),
                Err(error) => break error,
            }
            assert!(acknowledged.len() < 100, "the log grows without end");
        };
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        for name in &acknowledged {
            assert!(value(&store, name).await.is_some(), "{name}: still in memory");
        }
        somebody.execute_batch("ALTER TABLE hidden RENAME TO records").unwrap();
        put(&store, "after", b"2").await.expect("the first commit after it is mended lands");
        for name in &acknowledged {
            assert!(value(&store, name).await.is_some(), "{name}");
        }
    }
}
