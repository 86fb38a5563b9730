//! More of what befalls real servers: disks, long starts, a cluster with a hole; and verbs that are
//! not as they should be.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::servers::{Cluster, Server, wait_until};
use super::tests::{BOUND, FREE, MENDED, TOLD, get, key, mended, open, put, settings, told};
use super::*;
use crate::clock::{Clock, DAY, MINUTE};
use crate::store::{Draft, StoreError, Then, Verb, Write, transact, transact_once};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_save_is_told_and_works_again() {
    let server = Server::start(&["--enable-protected-configs", "yes"]);
    let store = open(settings(&server.url())).await;
    put(&store, &key(1, FREE), None).await.unwrap();
    let home = server.cli(&["CONFIG", "GET", "dir"]).lines().last().unwrap().to_owned();
    let gone = tempfile::tempdir().unwrap();
    server.cli(&["CONFIG", "SET", "dir", &gone.path().display().to_string()]);
    drop(gone);
    server.cli(&["CONFIG", "SET", "save", "3600 1"]);
    server.cli(&["BGSAVE"]);
    let saved = |word: &str| {
        server.cli(&["INFO", "persistence"]).contains(&format!("rdb_last_bgsave_status:{word}"))
    };
    wait_until("a snapshot fails", || saved("err"));
    let began = Instant::now();
    let why = told(put(&store, &key(1, FREE), None).await);
    assert!(why.contains("MISCONF") && began.elapsed() < TOLD, "{why}");
    assert!(get(&store, &key(1, FREE)).await.is_some(), "reading goes on");
    server.cli(&["CONFIG", "SET", "dir", &home]);
    server.cli(&["BGSAVE"]);
    wait_until("a snapshot is made", || saved("ok"));
    mended(&store, &key(1, FREE), MENDED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_still_reads_its_files_is_waited_for() {
    let debugs = ["--enable-debug-command", "yes", "--key-load-delay", "1000"];
    let answers = ["--loading-process-events-interval-bytes", "1024"];
    let mut server = Server::start(&[&debugs[..], &answers[..]].concat());
    let store = open(settings(&server.url())).await;
    put(&store, &key(1, FREE), None).await.unwrap();
    server.cli(&["DEBUG", "POPULATE", "2500"]);
    server.cli(&["BGREWRITEAOF"]);
    wait_until("the file is written anew", || {
        let now = server.cli(&["INFO", "persistence"]);
        now.contains("aof_rewrite_in_progress:0") && now.contains("aof_rewrite_scheduled:0")
    });
    let port = server.port.to_string();
    let starting = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    });
    let (mut refused, mut loading) = (0, false);
    while !starting.is_finished() {
        let began = Instant::now();
        refused += u32::from(put(&store, &key(1, FREE), None).await.is_err());
        assert!(began.elapsed() < TOLD, "{:?}", began.elapsed());
        let said = Command::new("redis-cli").args(["-p", &port, "PING"]).output().unwrap();
        loading |= String::from_utf8_lossy(&said.stdout).contains("LOADING");
        sleep(Duration::from_millis(20)).await;
    }
    let _server = starting.await.unwrap();
    assert!(loading && refused > 0, "seen reading: {loading}, refused {refused} times");
    mended(&store, &key(1, FREE), MENDED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_a_hole_is_told_and_works_again() {
    let mut cluster = Cluster::start();
    let store = open(settings(&cluster.url())).await;
    put(&store, &key(1, FREE), None).await.unwrap();
    for at in [2, 5] {
        cluster.servers[at].kill(); // a master and its only replica
    }
    wait_until("the cluster is down", || {
        cluster.servers[0].cli(&["CLUSTER", "INFO"]).contains("cluster_state:fail")
    });
    // Its slot is one that the first master serves, and it serves nobody now.
    let began = Instant::now();
    let why = told(put(&store, &key(3, FREE), None).await);
    assert!(why.contains("CLUSTERDOWN") && began.elapsed() < TOLD, "{why} {:?}", began.elapsed());
    for at in [2, 5] {
        cluster.servers[at].restart();
    }
    wait_until("the cluster is whole", || {
        cluster.servers[0].cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    });
    mended(&store, &key(3, FREE), MENDED).await;
}

/// Adds a mark to a list that all share.
pub(super) fn push(
    store: &Arc<dyn Store>,
    name: Key,
    mark: u32,
) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
    let (store, later) = (Arc::clone(store), Clock::machine().now() + DAY);
    async move {
        let keys = vec![name.clone()];
        let decide = move |draft: &mut Draft| {
            let mut all: Vec<u32> = draft.get(&name)?.unwrap_or_default();
            all.push(mark);
            draft.put(&name, &all, later);
            match mark % 10 {
                8 => Err(StoreError::Unreadable("this one is refused".to_owned())),
                9 => panic!("this one is wrong"),
                _ => Ok(()),
            }
        };
        transact_once(&store, keys, decide).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_a_hot_record_and_bad_verbs_harm_nobody() {
    let server = Server::start(&[]);
    let nodes = [open(settings(&server.url())).await, open(settings(&server.url())).await];
    let mut callers = JoinSet::new();
    for mark in 0..600 {
        let (store, hot) = (Arc::clone(&nodes[mark as usize % 2]), key(7, FREE));
        callers.spawn(async move {
            let mut done = push(&store, hot.clone(), mark).await;
            while matches!(done, Err(StoreError::Contended)) {
                done = push(&store, hot.clone(), mark).await;
            }
            (mark, done.is_ok())
        });
    }
    let told: Vec<_> = callers.join_all().await;
    assert!(told.iter().all(|(mark, ok)| *ok == (mark % 10 < 8)), "{told:?}");
    let stored = get(&nodes[0], &key(7, FREE)).await.unwrap();
    let mut all: Vec<u32> = serde_json::from_slice(&stored.value).unwrap();
    all.sort_unstable();
    let good: Vec<_> = (0..600).filter(|mark| mark % 10 < 8).collect();
    assert_eq!(all, good, "each once, and the bad ones not at all");
    let calls = server.cli(&["INFO", "commandstats"]);
    eprintln!("{}", calls.lines().find(|line| line.contains("evalsha")).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gave_up_is_dropped_before_the_commit() {
    let server = Server::start(&[]);
    let store = open(settings(&server.url())).await;
    put(&store, &key(1, FREE), None).await.unwrap();
    server.signal("STOP");
    let waits = tokio::time::timeout(Duration::from_millis(30), push(&store, key(2, FREE), 1));
    assert!(waits.await.is_err(), "it gives up");
    server.signal("CONT");
    sleep(Duration::from_millis(300)).await;
    assert!(get(&store, &key(2, FREE)).await.is_none(), "nobody waits for it");
    push(&store, key(2, FREE), 1).await.unwrap();
}

/// Reads a record and does nothing.
async fn see(store: &Arc<dyn Store>, name: Key) -> Result<(), StoreError> {
    let decide = {
        let name = name.clone();
        move |draft: &mut Draft| draft.get::<serde_json::Value>(&name).map(|_| ())
    };
    transact_once(store, vec![name], decide).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_read_harms_only_who_wants_it() {
    let server = Server::start(&[]);
    let store = open(settings(&server.url())).await;
    let name = format!("test:{{5}}:{FREE}:name");
    server.cli(&["SET", &name, "2 of a form that comes later"]);
    let mut callers = JoinSet::new();
    for caller in 0..200_u16 {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            let spoilt = caller % 4 == 0;
            let done = match (spoilt, caller % 8) {
                (true, 0) => see(&store, key(5, FREE)).await,
                (true, _) => push(&store, key(5, FREE), 0).await,
                (false, _) => push(&store, key(6 + caller % 3, FREE), 0).await,
            };
            assert_eq!(matches!(done, Err(StoreError::Unreadable(_))), spoilt, "{done:?}");
        });
    }
    callers.join_all().await;
    assert!(server.cli(&["GET", &name]).starts_with("2 of a form"), "it stays as it is");
}

/// A verb that panics where a store asks it something else than to decide.
struct Wrong {
    in_keys: bool,
}

impl Verb for Wrong {
    type Phase = bool;
    type Answer = ();

    fn keys(&self, second: &bool) -> Vec<Key> {
        assert!(!(*second && self.in_keys), "no key comes to its mind");
        vec![key(11, FREE)]
    }

    fn ahead(&self, _: &bool) -> Vec<Key> {
        assert!(self.in_keys, "it does not think ahead");
        Vec::new()
    }

    fn decide(&self, second: &bool, _: &mut Draft) -> Result<Then<bool, ()>, StoreError> {
        Ok(if *second { Then::Done(()) } else { Then::Go(true) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_that_panics_anywhere_stops_nobody_for_long() {
    let server = Server::start(&[]);
    let store = open(settings(&server.url())).await;
    for (round, in_keys) in [true, false, true, false].into_iter().enumerate() {
        let done = transact(&store, Wrong { in_keys }, false).await;
        match done {
            Err(StoreError::Unreadable(_)) if in_keys => {}
            Err(StoreError::Unavailable(_)) if !in_keys => {}
            other => panic!("{other:?}"),
        }
        let mark = u32::try_from(round).unwrap() * 10;
        let after = tokio::time::timeout(MENDED, push(&store, key(12, FREE), mark));
        after.await.expect("somebody works there").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_release_queued_is_left_alone() {
    let server = Server::start(&[]);
    let store = open(settings(&server.url())).await;
    put(&store, &key(1, FREE), Some(0)).await.unwrap();
    let (queue, now) = (store_queue(1), Clock::machine().now());
    let vanished = format!("{:014}{FREE}:gone", now - DAY);
    for member in [&vanished[..], "v2 of a queue"] {
        assert_eq!(server.cli(&["ZADD", &queue, "0", member]), "1");
    }
    let due = || store.due(now, 9);
    while due().await.unwrap() != [key(1, FREE)] {} // a look goes through a share of all
    wait_until("what has vanished is taken out", || {
        !server.cli(&["ZRANGE", &queue, "0", "-1"]).contains("gone")
    });
    let left = server.cli(&["ZRANGE", &queue, "0", "-1"]);
    assert!(left.contains("v2 of a queue") && left.lines().count() == 2, "{left}");
}

fn store_queue(partition: u16) -> String {
    layout::Layout { prefix: "test:".to_owned() }.queue(partition)
}

/// As docs/operations.md says it is done: a dump is read only where no append-only file is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_dump_makes_no_used_code_good() {
    let mut server = Server::start(&["--appendonly", "no"]);
    server.cli(&["CONFIG", "SET", "appendonly", "yes"]);
    let store = open(Settings { hold: MINUTE, ..settings(&server.url()) }).await;
    for kind in [BOUND, FREE] {
        put(&store, &key(1, kind), None).await.unwrap();
    }
    assert_eq!(server.cli(&["SAVE"]), "OK");
    let home = server.cli(&["CONFIG", "GET", "dir"]).lines().last().unwrap().to_owned();
    let home = Path::new(&home);
    let dump = std::fs::read(home.join("dump.rdb")).unwrap();
    let used = Commit { guards: vec![], writes: vec![(key(1, BOUND), Write::Delete)] };
    assert!(store.commit(used).await.unwrap());
    server.kill();
    std::fs::remove_dir_all(home.join("appendonlydir")).unwrap();
    std::fs::write(home.join("dump.rdb"), dump).unwrap();
    server.restart();
    server.cli(&["CONFIG", "SET", "appendonly", "yes"]);
    mended(&store, &key(9, FREE), MENDED).await;
    let restored = server.cli(&["KEYS", "test:{1}:*"]);
    assert!(restored.contains(&format!("test:{{1}}:{BOUND}:name")), "the dump has it: {restored}");
    assert!(get(&store, &key(1, BOUND)).await.is_none(), "and it is good for nothing");
    assert!(get(&store, &key(1, FREE)).await.is_some(), "limits stand as they were then");
    let why = told(put(&store, &key(3, FREE), Some(0)).await);
    assert!(why.contains("held"), "{why}");
    open(Settings { hold: MINUTE, ..settings(&server.url()) }).await;
}

/// A batch that was decided before anybody knew of a new history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_does_not_keep_what_goes_with_it() {
    let mut server = Server::start(&[]);
    let held = Settings { hold: MINUTE, ..settings(&server.url()) };
    let store = RedisStore::open(held, Clock::machine()).await.unwrap();
    server.restart();
    let (began, now) = (Instant::now(), Clock::machine().now());
    while store.fleet.holds(1).is_none() {
        assert!(began.elapsed() < MENDED, "a restart is another history");
        sleep(Duration::from_millis(5)).await;
    }
    let entry = |partition: u16, due_at: Option<Millis>| {
        let write = Write::Put { value: b"{}".to_vec(), expires_at: now + DAY, due_at };
        Entry::of(Commit { guards: vec![], writes: vec![(key(partition, FREE), write)] }).unwrap()
    };
    let entries = [entry(1, Some(0)), entry(2, None)];
    let (landed, _) = commit::ship(&store.fleet, 1, &entries, now).await.unwrap();
    assert!(matches!(&landed[0], Err(StoreError::Unavailable(why)) if why.contains("held")));
    assert!(matches!(landed[1], Ok(true)), "{landed:?}");
    let keys = [key(1, FREE), key(2, FREE)];
    let there = store.read(&keys).await.unwrap();
    assert_eq!([there[0].is_some(), there[1].is_some()], [false, true]);
}
