//! What befalls the wire between a node and its server: it is cut in the middle of an answer, one
//! of two connections ends, nobody answers while many call. A wire of our own goes between them.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use super::servers::{Server, wait_until};
use super::tests::{FREE, MENDED, TOLD, get, key, mended, open, put, refusal, settings, told};
use super::troubles::push;
use super::*;
use crate::clock::Clock;

/// Hands bytes on between whoever comes and a server.
struct Wire {
    port: u16,
    does: Arc<Does>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Does {
    /// Hangs up on everybody at once.
    refuses: AtomicBool,
    /// When somebody came.
    came: Mutex<Vec<Instant>>,
    /// Of the next call of the atomic step, the answer is cut off after its first byte.
    cuts: AtomicBool,
    /// Takes the server for one of the sixth release.
    ages: AtomicBool,
}

impl Wire {
    async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (does, mut tasks) = (Arc::<Does>::default(), JoinSet::new());
        let all = Arc::clone(&does);
        tasks.spawn(async move {
            let mut pumps = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                all.came.lock().unwrap().push(Instant::now());
                if !all.refuses.load(Ordering::Relaxed) {
                    pumps.spawn(connect(near, target, Arc::clone(&all)));
                }
            }
        });
        Self { port, does, _tasks: tasks }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

async fn connect(near: TcpStream, target: u16, does: Arc<Does>) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let struck = AtomicBool::new(false);
    tokio::select! {
        () = ask(near_in, far_out, &does, &struck) => {}
        () = answer(far_in, near_out, &does, &struck) => {}
    }
}

async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, does: &Does, struck: &AtomicBool) {
    let mut bytes = vec![0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if does.cuts.load(Ordering::Relaxed)
            && bytes[..count].windows(7).any(|word| word == b"EVALSHA")
            && does.cuts.swap(false, Ordering::Relaxed)
        {
            struck.store(true, Ordering::Relaxed);
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, does: &Does, struck: &AtomicBool) {
    const VERSION: &[u8] = b"redis_version:";
    let mut bytes = vec![0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let count = if struck.load(Ordering::Relaxed) { 1 } else { count };
        if does.ages.load(Ordering::Relaxed) {
            let mut words = bytes[..count].windows(VERSION.len());
            if let Some(at) = words.position(|word| word == VERSION) {
                bytes[at + VERSION.len()] = b'6';
            }
        }
        if to.write_all(&bytes[..count]).await.is_err() || struck.load(Ordering::Relaxed) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_cut_off_doubles_nothing_and_is_asked_for_again() {
    let server = Server::start(&[]);
    let wire = Wire::to(server.port).await;
    let store = open(settings(&wire.url())).await;
    let mut confirmed = 0;
    for mark in 0..20 {
        wire.does.cuts.store(true, Ordering::Relaxed);
        let began = Instant::now();
        // It says what it read, so it may be sent again. Tens, so that none is a bad one.
        let done = push(&store, key(7, FREE), mark * 10).await;
        assert!(began.elapsed() < 2 * TOLD, "{:?}", began.elapsed()); // two calls
        assert!(!wire.does.cuts.load(Ordering::Relaxed), "it met the wire");
        mended(&store, &key(9, FREE), MENDED).await;
        // A busy machine's keeper needs longer than a call waits for it.
        let soon = began.elapsed() < Duration::from_millis(60);
        match done {
            Ok(()) => confirmed += 1,
            Err(StoreError::Unavailable(_)) => assert!(!soon, "there was time to ask again"),
            Err(error) => panic!("{error}"),
        }
    }
    let stored = get(&store, &key(7, FREE)).await.unwrap();
    let all: Vec<u32> = serde_json::from_slice(&stored.value).unwrap();
    let each_once: Vec<_> = (0..20).map(|mark| mark * 10).collect();
    assert_eq!(all, each_once, "the server had carried out what it answered");
    eprintln!("{confirmed} of 20 answers that were cut off were had by asking again");
    wire.does.cuts.store(true, Ordering::Relaxed);
    let why = told(put(&store, &key(8, FREE), None).await);
    assert!(why.contains("connection"), "what goes by nothing is not sent again: {why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_is_too_old_is_refused() {
    let server = Server::start(&[]);
    let wire = Wire::to(server.port).await;
    wire.does.ages.store(true, Ordering::Relaxed);
    let said = refusal(settings(&wire.url()), Clock::machine()).await;
    assert!(said.contains("too old: install Redis 7.0"), "{said}");
    wire.does.ages.store(false, Ordering::Relaxed);
    open(settings(&wire.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_that_waits_for_replicas_is_made_anew() {
    let (server, replica) = (Server::start(&[]), Server::start(&[]));
    replica.cli(&["REPLICAOF", "127.0.0.1", &server.port.to_string()]);
    wait_until("a replica follows", || {
        server.cli(&["INFO", "replication"]).contains("state=online")
    });
    let store = open(Settings { replicas: 1, ..settings(&server.url()) }).await;
    for round in 1..=3 {
        let began = Instant::now();
        let waiting = loop {
            let done = put(&store, &key(round, FREE), Some(0)).await;
            assert!(began.elapsed() < MENDED, "round {round}: {done:?}");
            let clients = server.cli(&["CLIENT", "LIST"]);
            // A look may have gone over it since.
            let waits = clients.lines().find(|line| line.contains(" cmd=wait "));
            if let Some(waits) = waits.filter(|_| done.is_ok()) {
                break waits.to_owned();
            }
        };
        eprintln!("confirmed again after {:?}", began.elapsed());
        let id = waiting.split(' ').next().unwrap().trim_start_matches("id=");
        assert_eq!(server.cli(&["CLIENT", "KILL", "ID", id]), "1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_come_back_do_not_come_all_at_once() {
    const NODES: usize = 20;
    let server = Server::start(&[]);
    let wire = Wire::to(server.port).await;
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(open(settings(&wire.url())).await);
    }
    wire.does.refuses.store(true, Ordering::Relaxed);
    server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let (began, mut callers) = (Instant::now(), JoinSet::new());
    wire.does.came.lock().unwrap().clear();
    for caller in 0..4 * NODES {
        let (store, key) = (Arc::clone(&nodes[caller % NODES]), key(3, FREE));
        callers.spawn(async move {
            let mut calls = 0;
            while began.elapsed() < Duration::from_secs(3) {
                told(put(&store, &key, None).await);
                sleep(Duration::from_millis(20)).await;
                calls += 1;
            }
            calls
        });
    }
    let calls: u32 = callers.join_all().await.into_iter().sum();
    let came = wire.does.came.lock().unwrap().clone();
    let late: Vec<_> =
        came.iter().filter(|at| at.duration_since(began).as_millis() > 1000).collect();
    let apart = |one: &Instant, other: &Instant| *one.max(other) - *one.min(other);
    let near = |at: &Instant| {
        late.iter().filter(|other| apart(at, other) < Duration::from_millis(25)).count()
    };
    let crowd = late.iter().map(|at| near(at)).max().unwrap();
    eprintln!(
        "{calls} calls of {NODES} nodes in 3 s: {} connections, at most {crowd} within 50 ms",
        came.len()
    );
    // Pauses grow to between 200 and 400 ms, so 8 to 15 in the last two and a half seconds.
    assert!(came.len() <= NODES * 25, "callers do not connect: {}", came.len());
    assert!(crowd <= NODES / 2 + 2, "spread out: {crowd}");
    wire.does.refuses.store(false, Ordering::Relaxed);
    let mendings =
        nodes.iter().map(|node| async move { mended(node, &key(3, FREE), MENDED).await });
    for mending in mendings {
        mending.await;
    }
}
