//! More of what befalls real servers: disks, long starts, a cluster with a hole.

use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::servers::{Cluster, Server, wait_until};
use super::tests::{FREE, MENDED, TOLD, get, key, mended, open, put, settings, told};
use super::*;
use crate::clock::{Clock, DAY};
use crate::store::{Draft, StoreError, transact_once};

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
fn push(
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
