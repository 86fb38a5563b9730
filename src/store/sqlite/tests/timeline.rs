//! The timeline.

use super::*;

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

#[tokio::test]
async fn after_a_crash_the_later_of_what_the_log_and_the_table_say_holds() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    let ahead = Clock::machine().wall() + DAY;
    let (opened, never) = (file::open(&path).unwrap(), Pace { bytes: 1 << 40, age: Duration::MAX });
    let store = SqliteStore::start(opened, &path, Clock::manual(ahead), never).unwrap();
    put(&store, "a", b"1").await.unwrap();
    let crashed = damage::Crashed::copy(&path);
    for (table, latest) in [(ahead - HOUR, ahead), (ahead + HOUR, ahead + HOUR)] {
        let (_folder, path) = crashed.laid_out(Some(crashed.log()));
        let anchor = Anchor { at: table, uptime: 0, boot: "another boot".to_owned() };
        let text = serde_json::to_string(&anchor).unwrap();
        let db = Connection::open(&path).unwrap();
        db.execute("UPDATE meta SET anchor = ?1", [text]).unwrap();
        drop(db);
        let store = SqliteStore::open(&path, Clock::resumed).unwrap();
        let now = store.clock().now();
        assert!((latest..latest + MINUTE).contains(&now), "{now} and not {latest}");
    }
}
