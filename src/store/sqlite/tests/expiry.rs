//! What has expired.

use super::*;

/// Waits until this holds in the file, which takes less than a second when nobody else works.
async fn until(store: &SqliteStore, holds: &'static str) {
    for _ in 0..750 {
        let look = |_: &RwLock<Recent>, db: &Connection| {
            Ok(db.query_row(holds, [], |row| row.get::<_, bool>(0)).unwrap())
        };
        if store.look(look).await.unwrap() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {holds}");
}

#[tokio::test]
async fn what_has_expired_leaves_the_file_and_the_file_does_not_grow_for_ever() {
    const ROUNDS: usize = 12;
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
    // Some rounds until the file has the room that a stretch needs, then no more.
    let [most_at_first, most_at_last] =
        [&sizes[..ROUNDS / 2], &sizes[ROUNDS / 2..]].map(|sizes| sizes.iter().max().unwrap());
    assert!(most_at_last * 4 < most_at_first * 5, "{sizes:?}");
    until(&store, "SELECT freelist_count <= 256 FROM pragma_freelist_count").await;
    drop(store);
    eprintln!("sizes with 10 000 living records: {sizes:?}; without: {}", length(&path));
    assert!(length(&path) < 3 * 1024 * 1024, "{}", length(&path));
    assert_eq!(value(&open(&path), "kept").await, Some(b"1".to_vec()));
}
