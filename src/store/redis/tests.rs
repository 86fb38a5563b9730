//! What befalls real servers: each fault ends in an answer in time, nothing is done twice, and the
//! store works again by itself.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::servers::{Cluster, Server, Watched, wait_until};
use super::*;
use crate::clock::{DAY, HOUR, MINUTE, SECOND};
use crate::store::{Write, transact_once};

/// How fast a caller is told that the store is unavailable, with some room for a busy machine.
pub(super) const TOLD: Duration = Duration::from_millis(250);
/// How fast it works again.
pub(super) const MENDED: Duration = Duration::from_secs(2);
/// The kind that is bound to the history, and one that is not.
pub(super) const BOUND: u8 = 5;
pub(super) const FREE: u8 = 3;

pub(super) fn settings(url: &str) -> Settings {
    Settings {
        place: url.parse().unwrap(),
        credentials: Credentials::default(),
        prefix: "test:".to_owned(),
        partitions: 1024,
        bound: vec![BOUND],
        replicas: 0,
        hold: 0,
    }
}

pub(super) async fn open(settings: Settings) -> Arc<dyn Store> {
    Arc::new(RedisStore::open(settings, Clock::machine()).await.unwrap())
}

pub(super) async fn refusal(settings: Settings, clock: Clock) -> String {
    RedisStore::open(settings, clock).await.err().expect("this is refused").to_string()
}

pub(super) fn key(partition: u16, kind: u8) -> Key {
    Key::new(partition, kind, "name")
}

pub(super) fn later() -> Millis {
    Clock::machine().now() + DAY
}

pub(super) async fn put(
    store: &Arc<dyn Store>,
    key: &Key,
    due_at: Option<Millis>,
) -> Result<(), StoreError> {
    let write = Write::Put { value: b"{}".to_vec(), expires_at: later(), due_at };
    let commit = Commit { guards: vec![], writes: vec![(key.clone(), write)] };
    store.commit(commit).await.map(|landed| assert!(landed, "nothing guards it"))
}

pub(super) async fn get(store: &Arc<dyn Store>, key: &Key) -> Option<Record> {
    store.read(std::slice::from_ref(key)).await.unwrap().remove(0)
}

pub(super) fn told(outcome: Result<(), StoreError>) -> String {
    match outcome {
        Err(StoreError::Unavailable(why)) => why,
        other => panic!("{other:?} is not `unavailable`"),
    }
}

/// Many at once, some of them about the same partition: all are told in time that it is not done.
pub(super) async fn all_are_told(store: &Arc<dyn Store>, partition: u16) {
    let mut callers = JoinSet::new();
    for caller in 0..40 {
        let (store, key) = (Arc::clone(store), key(partition + caller % 4, FREE));
        callers.spawn(async move {
            let began = Instant::now();
            let name = key.clone();
            let done = transact_once(&store, vec![key], move |draft| {
                draft.put(&name, &1, later());
                Ok(())
            });
            told(done.await);
            began.elapsed()
        });
    }
    let slowest = callers.join_all().await.into_iter().max().unwrap();
    eprintln!("told after {slowest:?} at most");
    assert!(slowest <= TOLD, "{slowest:?}");
}

/// Waits until it works again.
pub(super) async fn mended(store: &Arc<dyn Store>, key: &Key, patience: Duration) {
    let began = Instant::now();
    while let Err(error) = put(store, key, None).await {
        assert!(began.elapsed() < patience, "{error}");
        sleep(Duration::from_millis(5)).await;
    }
    eprintln!("works again after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_refused_with_the_reason_and_what_mends_it() {
    let server = Server::start(&[]);
    let machine = Clock::machine;
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let said = refusal(settings(&server.url()), machine()).await;
    assert!(said.contains("CONFIG SET maxmemory-policy noeviction"), "{said}");
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    server.cli(&["CONFIG", "SET", "appendonly", "no"]);
    let said = refusal(settings(&server.url()), machine()).await;
    assert!(said.contains("CONFIG SET appendonly yes"), "{said}");
    server.cli(&["CONFIG", "SET", "appendonly", "yes"]);
    let said = refusal(Settings { replicas: 1, ..settings(&server.url()) }, machine()).await;
    assert!(said.contains("REPLICAOF"), "{said}");
    let wrong = Clock::manual(machine().now());
    wrong.jump_wall(3 * SECOND);
    let said = refusal(settings(&server.url()), wrong).await;
    assert!(said.contains("NTP"), "{said}");
    server.cli(&["CONFIG", "SET", "requirepass", "s3cret"]);
    let said = refusal(settings(&server.url()), machine()).await;
    assert!(said.contains("store.password"), "{said}");
    let credentials = Credentials { password: "s3cret".into(), ..Credentials::default() };
    let store = open(Settings { credentials, ..settings(&server.url()) }).await;
    put(&store, &key(1, FREE), None).await.unwrap();
    drop(server);
    let said = refusal(settings("redis://127.0.0.1:1"), machine()).await;
    assert!(said.contains("refused"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_a_user_and_a_number_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock").display().to_string();
    let server = Server::start(&["--unixsocket", &socket]);
    let rights = "+info +time +mget +set +get +del +zadd +zrem +zrange +evalsha +eval \
                  +script|load +select +wait";
    let user: Vec<&str> = ["ACL", "SETUSER", "node", "on", ">pw", "~test:*"]
        .into_iter()
        .chain(rights.split_whitespace())
        .collect();
    assert_eq!(server.cli(&user), "OK");
    let credentials = Credentials {
        username: "node".to_owned(),
        password: "pw".into(),
        database: 3,
        ..Credentials::default()
    };
    let place = format!("redis+unix://{socket}");
    let store = open(Settings { credentials, hold: 1, ..settings(&place) }).await;
    put(&store, &key(1, BOUND), Some(0)).await.unwrap();
    assert_eq!(store.due(later() - HOUR, 9).await.unwrap(), [key(1, BOUND)]);
    assert!(server.cli(&["-n", "3", "KEYS", "test:{1}:*"]).contains("test:{1}:5:name"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_script_and_refusals_do_no_harm() {
    let server = Server::start(&["--busy-reply-threshold", "10"]);
    let (store, key) = (open(settings(&server.url())).await, key(1, FREE));
    server.cli(&["SCRIPT", "FLUSH"]);
    put(&store, &key, None).await.unwrap();
    for (name, bad, good, word) in
        [("maxmemory", "1", "0", "OOM"), ("min-replicas-to-write", "1", "0", "NOREPLICAS")]
    {
        server.cli(&["CONFIG", "SET", name, bad]);
        let began = Instant::now();
        let why = told(put(&store, &key, None).await);
        assert!(why.contains(word) && began.elapsed() < TOLD, "{why} {:?}", began.elapsed());
        assert!(get(&store, &key).await.is_some(), "reading goes on");
        server.cli(&["CONFIG", "SET", name, good]);
        put(&store, &key, None).await.unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| server.cli(&["EVAL", "while true do end", "0"]));
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        let why = futures(put(&store, &key, None));
        assert!(told(why).contains("BUSY") && began.elapsed() < TOLD);
        server.cli(&["SCRIPT", "KILL"]);
    });
    mended(&store, &key, MENDED).await;
}

/// Waits for a future from within a thread that must not go on before.
fn futures<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_told_in_time_and_works_again() {
    let server = Server::start(&[]);
    let store = open(Settings { hold: MINUTE, ..settings(&server.url()) }).await;
    put(&store, &key(1, BOUND), None).await.unwrap();
    server.signal("STOP");
    all_are_told(&store, 1).await;
    sleep(Duration::from_secs(1)).await;
    all_are_told(&store, 1).await;
    server.signal("CONT");
    mended(&store, &key(9, FREE), MENDED).await;
    assert!(get(&store, &key(1, FREE)).await.is_none(), "nothing lands when nobody waits for it");
    assert!(get(&store, &key(1, BOUND)).await.is_some(), "the history is the same");
    put(&store, &key(2, FREE), Some(0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_is_another_history() {
    let mut server = Server::start(&[]);
    let store = open(Settings { hold: MINUTE, ..settings(&server.url()) }).await;
    let easy = open(Settings { bound: vec![], ..settings(&server.url()) }).await;
    for kind in [BOUND, FREE] {
        put(&store, &key(1, kind), None).await.unwrap();
    }
    put(&store, &key(2, FREE), Some(0)).await.unwrap();
    server.kill();
    all_are_told(&store, 1).await;
    server.restart();
    mended(&store, &key(9, FREE), MENDED).await;
    mended(&easy, &key(9, FREE), MENDED).await;
    assert!(get(&store, &key(1, FREE)).await.is_some(), "the append-only file has it");
    assert!(get(&store, &key(1, BOUND)).await.is_none(), "a code of before is no code");
    let why = told(put(&store, &key(3, FREE), Some(0)).await);
    assert!(why.contains("held"), "{why}");
    let owed = get(&store, &key(2, FREE)).await.unwrap();
    let write = Write::Put { value: vec![], expires_at: later(), due_at: Some(0) };
    let claim = Commit {
        guards: vec![(key(2, FREE), Some(owed.revision))],
        writes: vec![(key(2, FREE), write)],
    };
    assert!(store.commit(claim).await.unwrap(), "what was owed before is not held back");
    put(&easy, &key(3, FREE), Some(0)).await.unwrap();
    put(&store, &key(1, BOUND), None).await.unwrap();
    assert!(get(&store, &key(1, BOUND)).await.is_some(), "a new code is one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_became_a_replica_is_left() {
    let (server, other) = (Server::start(&[]), Server::start(&[]));
    let store = open(settings(&server.url())).await;
    put(&store, &key(1, FREE), None).await.unwrap();
    server.cli(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]);
    let began = Instant::now();
    told(put(&store, &key(1, FREE), None).await);
    assert!(began.elapsed() < TOLD, "{:?}", began.elapsed());
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    mended(&store, &key(1, FREE), MENDED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_double_nothing() {
    let server = Server::start(&[]);
    let store = open(settings(&server.url())).await;
    let cutting = async {
        for _ in 0..60 {
            server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            sleep(Duration::from_millis(15)).await;
        }
    };
    let mut callers = JoinSet::new();
    for caller in 0..8_u32 {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            let (key, mut done) = (key(7, FREE), Vec::new());
            for number in 0..150 {
                let (name, mark) = (key.clone(), caller * 1000 + number);
                let push = transact_once(&store, vec![key.clone()], move |draft| {
                    let mut all: Vec<u32> = draft.get(&name)?.unwrap_or_default();
                    all.push(mark);
                    draft.put(&name, &all, later());
                    Ok(())
                });
                match push.await {
                    Ok(()) => done.push(mark),
                    // A busy machine's keeper needs longer than a call waits for it.
                    Err(StoreError::Unavailable(_) | StoreError::Contended) => {
                        sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            done
        });
    }
    let (done, ()) = tokio::join!(callers.join_all(), cutting);
    mended(&store, &key(9, FREE), MENDED).await;
    let done: Vec<u32> = done.into_iter().flatten().collect();
    let all: Vec<u32> =
        serde_json::from_slice(&get(&store, &key(7, FREE)).await.unwrap().value).unwrap();
    let once: BTreeSet<u32> = all.iter().copied().collect();
    assert_eq!(once.len(), all.len(), "nothing twice");
    assert!(done.iter().all(|mark| once.contains(mark)), "nothing lost");
    eprintln!("{} of 1200 answered, {} landed, each once", done.len(), all.len());
    assert!(done.len() > 400, "many get through: {}", done.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eviction_policy_at_run_time_stops_new_messages() {
    let server = Server::start(&[]);
    let store = open(settings(&server.url())).await;
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    sleep(MENDED).await;
    let why = told(put(&store, &key(1, FREE), Some(0)).await);
    assert!(why.contains("eviction"), "{why}");
    put(&store, &key(1, FREE), None).await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    sleep(MENDED).await;
    put(&store, &key(1, FREE), Some(0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_waits_for_replicas_and_the_rest_does_not() {
    let (server, replica) = (Server::start(&[]), Server::start(&[]));
    replica.cli(&["REPLICAOF", "127.0.0.1", &server.port.to_string()]);
    wait_until("a replica follows", || {
        server.cli(&["INFO", "replication"]).contains("state=online")
    });
    let store = open(Settings { replicas: 1, ..settings(&server.url()) }).await;
    let began = Instant::now();
    while put(&store, &key(1, FREE), Some(0)).await.is_err() {
        assert!(began.elapsed() < MENDED, "a busy replica may be late once, and not for ever");
    }
    replica.signal("STOP");
    let began = Instant::now();
    let why = told(put(&store, &key(2, FREE), Some(0)).await);
    assert!(why.contains("replicas") && began.elapsed() < TOLD, "{why} {:?}", began.elapsed());
    put(&store, &key(2, FREE), None).await.unwrap();
    replica.signal("CONT");
    let began = Instant::now();
    while put(&store, &key(3, FREE), Some(0)).await.is_err() {
        assert!(began.elapsed() < MENDED);
    }
    drop(replica);
    wait_until("it is alone", || {
        server.cli(&["INFO", "replication"]).contains("connected_slaves:0")
    });
    let why = told(put(&store, &key(4, FREE), Some(0)).await);
    assert!(why.contains("fewer replicas"), "{why}");
    assert!(get(&store, &key(4, FREE)).await.is_none(), "nothing was done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_lead_to_the_new_master() {
    let mut watched = Watched::start();
    let strict = Settings { replicas: 1, hold: MINUTE, ..settings(&watched.url()) };
    let store = open(strict).await;
    put(&store, &key(1, FREE), Some(0)).await.unwrap();
    put(&store, &key(1, BOUND), None).await.unwrap();
    watched.kill_master();
    all_are_told(&store, 1).await;
    mended(&store, &key(9, FREE), Duration::from_secs(20)).await;
    assert!(get(&store, &key(1, FREE)).await.is_some(), "a replica had confirmed it");
    assert!(get(&store, &key(1, BOUND)).await.is_none(), "a code of before is no code");
    let why = told(put(&store, &key(3, FREE), Some(0)).await);
    assert!(why.contains("held"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_goes_on_without_a_master_and_with_slots_moved() {
    let mut cluster = Cluster::start();
    let store = open(Settings { replicas: 1, ..settings(&cluster.url()) }).await;
    // Its slot is one that the first master serves.
    assert_eq!(layout::slot(MOVED), 1584);
    put(&store, &key(MOVED, FREE), None).await.unwrap();
    let [from, to] = [&cluster.servers[0], &cluster.servers[1]];
    let [from_id, to_id] = [from, to].map(|server| server.cli(&["CLUSTER", "MYID"]));
    assert_eq!(to.cli(&["CLUSTER", "SETSLOT", "1584", "IMPORTING", &from_id]), "OK");
    assert_eq!(from.cli(&["CLUSTER", "SETSLOT", "1584", "MIGRATING", &to_id]), "OK");
    let name = format!("test:{{{MOVED}}}:{FREE}:name");
    from.cli(&["MIGRATE", "127.0.0.1", &to.port.to_string(), &name, "0", "1000"]);
    assert!(get(&store, &key(MOVED, FREE)).await.is_some(), "asked at where it is going");
    let began = Instant::now();
    told(put(&store, &key(MOVED, FREE), None).await);
    assert!(began.elapsed() < TOLD, "half here, half there: {:?}", began.elapsed());
    for server in [to, from] {
        server.cli(&["CLUSTER", "SETSLOT", "1584", "NODE", &to_id]);
    }
    mended(&store, &key(MOVED, FREE), MENDED).await;
    cluster.servers[2].kill();
    let others: Vec<u16> = (0..1024).filter(|at| layout::slot(*at) < 10_923).take(50).collect();
    for partition in &others {
        put(&store, &key(*partition, FREE), None).await.unwrap();
    }
    let gone = (0..1024).find(|at| layout::slot(*at) > 11_000).unwrap();
    mended(&store, &key(gone, FREE), Duration::from_secs(20)).await;
}

/// The partition whose slot is moved.
const MOVED: u16 = 3;
