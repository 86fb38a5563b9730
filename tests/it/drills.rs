//! Many nodes on Redis, and faults on purpose: killed nodes, a paused node, a rolling restart, a
//! cluster that loses a master or is divided anew. Nothing accepted is lost, nothing is sent twice.
//!
//! `NODE_KILLS`, `ROLLING` and `RESHARDS` say how often; docs/reliability.md has the counts.
//! `KILL_SECONDS` goes on killing for so long; `KILL_ON` says on what: `server`, `sentinel` or
//! `cluster`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

use crate::kills::{Load, all_ended, judge};
use crate::nodes::{MENDED, TOLD, beside, lines};
use crate::recorder::{Answer, Recorder, below, config, ended, timeline};
use crate::servers::{Cluster, Server, Watched};
use crate::world::{World, mobile, times};

/// Three nodes that share one store and one recorder.
async fn three(recorder: &Recorder, url: &str) -> Vec<World> {
    let usual = config(&[recorder.table("main")]);
    let first = World::start_on(&usual, &lines(url)).await;
    let second = beside(&first, &usual, url).await;
    let third = beside(&first, &usual, url).await;
    vec![first, second, third]
}

/// What the nodes are killed on.
enum Stores {
    One(Server),
    Watched(Watched),
    Cluster(Cluster),
}

impl Stores {
    fn start(kind: &str) -> Self {
        match kind {
            "server" => Self::One(Server::start(&[])),
            "sentinel" => Self::Watched(Watched::start()),
            "cluster" => Self::Cluster(Cluster::start()),
            _ => panic!("KILL_ON is server, sentinel or cluster, not {kind}"),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::One(server) => server.url(),
            Self::Watched(watched) => watched.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }
}

/// P6, P7 with three nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_killed_node_loses_an_accepted_message_or_sends_one_twice() {
    let (least, length) = (times("NODE_KILLS", 6_u32), times("KILL_SECONDS", 0_u64));
    let (kind, recorder) = (times("KILL_ON", "server".to_owned()), Recorder::start(0).await);
    recorder.slow_down(Duration::from_millis(60));
    recorder.follow(|number| match number % 40 {
        39 => Answer::TakesAndFails,
        _ => Answer::Takes,
    });
    let stores = Stores::start(&kind);
    let mut nodes = three(&recorder, &stores.url()).await;
    let series = [320, 321, 322];
    // A long run does not need more load, and a series has 100 000 phones.
    let pause = Duration::from_millis(if length > 120 { 60 } else { 20 });
    let start = |(node, series): (&World, u32)| Load::start(node, series, 4, pause);
    let loads: Vec<_> = nodes.iter().zip(series).map(start).collect();
    let (began, mut kills) = (Instant::now(), 0);
    while kills < least || began.elapsed() < Duration::from_secs(length) {
        tokio::time::sleep(Duration::from_millis(20 + below(480))).await;
        let victim = usize::try_from(below(3)).unwrap();
        nodes[victim].restart().await; // kills it first
        kills += 1;
        if kills.is_multiple_of(50) {
            eprintln!("P6, P7, three nodes: {kills} kills in {:?}", began.elapsed());
        }
    }
    let lasted = began.elapsed();
    let mut accepted = Vec::new();
    for load in loads {
        let of_one = load.stop().await;
        assert!(!of_one.is_empty(), "every node takes part");
        accepted.extend(of_one);
    }
    let ends = all_ended(&nodes[0], &accepted).await;
    let counted = judge(&accepted, &ends, &recorder.calls());
    eprintln!("P6, P7, three nodes ({kind}): {kills} kills in {lasted:.0?}: {counted}");
}

/// A node that was paused past its lease comes back with a result of then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_late_result_of_a_paused_node_changes_nothing() {
    let (server, recorder) = (Server::start(&[]), Recorder::start(0).await);
    recorder.follow(|number| if number == 0 { Answer::Silence } else { Answer::Takes });
    let usual = config(&[recorder.table("main")]);
    let paused = World::start_on(&usual, &lines(&server.url())).await;
    let other = beside(&paused, &usual, &server.url()).await;
    let phone = mobile(323, 1);
    let started = paused.start_verification(&phone).await;
    let id = started["id"].as_str().unwrap();
    while recorder.calls_for(&phone).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    paused.signal("STOP");
    let began = Instant::now();
    ended(&other, id, Duration::from_mins(1)).await;
    let (story, calls) = (timeline(&other, id).await, recorder.calls_for(&phone).len());
    eprintln!("taken over {:?} after the pause began", began.elapsed());
    paused.signal("CONT");
    // Its call timed out long ago; now it is told so, and says so to the store.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(timeline(&paused, id).await, story, "what came late is fenced");
    let after = recorder.calls_for(&phone);
    assert_eq!(after.len(), calls, "no call after the end: {after:?}");
    assert_eq!(after.iter().filter(|call| call.taken).count(), 1, "{after:?}");
}

/// What a balancer does: the next node where one does not answer, with the same key.
async fn start_somewhere(urls: &[String], first: usize, phone: &str) -> (StatusCode, u32) {
    let mut repeats = 0;
    for at in (first..).take(20) {
        // A connection for each request: which node takes it is decided anew each time.
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        let asked = client.post(&urls[at % urls.len()]).bearer_auth("sk_shop_secret");
        let asked = asked.header("Idempotency-Key", phone).json(&json!({"phone": phone}));
        match asked.send().await {
            // The same request is under way at a node that was asked before: its answer comes.
            Ok(answer) if answer.status() == StatusCode::CONFLICT => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(answer) => return (answer.status(), repeats),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        repeats += 1;
    }
    (StatusCode::GATEWAY_TIMEOUT, repeats)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_request() {
    let (rounds, recorder) = (times("ROLLING", 1_u32), Recorder::start(0).await);
    let server = Server::start(&[]);
    let mut nodes = three(&recorder, &server.url()).await;
    let urls: Vec<_> = nodes.iter().map(|node| node.url("/v1/verifications")).collect();
    let (stop, next) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
    let mut callers = JoinSet::new();
    for caller in 0..8 {
        let (urls, stop, next) = (urls.clone(), stop.clone(), next.clone());
        callers.spawn(async move {
            let mut seen = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let phone = mobile(324, next.fetch_add(1, Ordering::Relaxed));
                let answer = start_somewhere(&urls, caller + seen.len(), &phone).await;
                seen.push((phone, answer));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            seen
        });
    }
    for _ in 0..rounds {
        for node in &mut nodes {
            tokio::time::sleep(Duration::from_millis(300)).await;
            node.signal("TERM");
            assert_eq!(node.wait(), Some(0), "{}", node.log());
            node.restart().await;
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    let seen: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    let failed: Vec<_> =
        seen.iter().filter(|(_, (status, _))| *status != StatusCode::CREATED).collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:?}", failed.len(), seen.len());
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (phone, _) in &seen {
        let taken = recorder.calls_for(phone).iter().filter(|call| call.taken).count();
        assert_eq!(taken, 1, "{phone}: {:?}", recorder.calls_for(phone));
    }
    let repeated: u32 = seen.iter().map(|(_, (_, repeats))| repeats).sum();
    eprintln!(
        "rolling restart, {rounds} rounds of 3 nodes: {} requests, 0 failed, {repeated} asked \
         another node, one message each",
        seen.len()
    );
}

/// Slots move from master to master while messages are asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_divided_anew_loses_and_doubles_nothing() {
    let (times, recorder) = (times("RESHARDS", 1_u32), Recorder::start(0).await);
    let cluster = Cluster::start();
    let nodes = three(&recorder, &cluster.url()).await;
    let loads: Vec<_> = nodes
        .iter()
        .zip([325, 326, 327])
        .map(|(node, series)| Load::start(node, series, 4, Duration::from_millis(20)))
        .collect();
    let ids: Vec<_> =
        cluster.servers[..3].iter().map(|server| server.cli(&["CLUSTER", "MYID"])).collect();
    let place = format!("127.0.0.1:{}", cluster.servers[0].port);
    let mut moved = 0;
    for round in 0..usize::try_from(times).unwrap() {
        let (from, to) = (ids[round % 3].clone(), ids[(round + 1) % 3].clone());
        let place = place.clone();
        let said = tokio::task::spawn_blocking(move || {
            let mut command = std::process::Command::new("redis-cli");
            command.args(["--cluster", "reshard", &place, "--cluster-from", &from]);
            command.args(["--cluster-to", &to, "--cluster-slots", "2000", "--cluster-yes"]);
            command.output().unwrap()
        });
        let said = said.await.unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
        moved += 2000;
    }
    let mut accepted = Vec::new();
    for load in loads {
        accepted.extend(load.stop().await);
    }
    assert!(accepted.len() > 100, "most are answered: {}", accepted.len());
    let began = Instant::now();
    let taken = |mobile: &str| recorder.calls_for(mobile).iter().filter(|call| call.taken).count();
    while let Some(open) = accepted.iter().find(|one| taken(&one.mobile) == 0) {
        assert!(began.elapsed() < Duration::from_secs(100), "lost: {open:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let calls = recorder.calls();
    let twice = calls.iter().find(|call| taken(&call.to) > 1);
    assert!(twice.is_none(), "doubled: {twice:?}");
    let mut ended = 0;
    for one in &accepted {
        let path = format!("/v1/verifications/{}", one.id);
        let asked = nodes[1].get(&path).bearer_auth("sk_shop_secret").send().await.unwrap();
        match asked.status() {
            StatusCode::OK => {}
            // Codes are bound to the master that issued them: with their slot they lost it.
            StatusCode::NOT_FOUND => ended += 1,
            other => panic!("{other}"),
        }
    }
    eprintln!(
        "{moved} slots moved under load: {} accepted, each sent once, {ended} codes ended by it",
        accepted.len()
    );
}

fn is_master(server: &Server) -> bool {
    server.cli(&["INFO", "replication"]).contains("role:master")
}

/// P10 on a cluster: one master of three is frozen, then gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_without_a_master_sends_nothing_there_and_heals() {
    let (mut cluster, recorder) = (Cluster::start(), Recorder::start(0).await);
    let usual = config(&[recorder.table("main")]);
    let store = format!("{}\nhold_after_failover = false", lines(&cluster.url()));
    let world = World::start_on(&usual, &store).await;
    let start = async |number: u32| {
        let began = Instant::now();
        let asked = json!({"phone": mobile(328, number)});
        let answer = world.post("sk_shop_secret", "/v1/verifications", &asked).send().await;
        (answer.unwrap().status(), began.elapsed())
    };
    assert_eq!(start(0).await.0, StatusCode::CREATED);
    let (mut number, mut refused, mut slowest) = (1, Vec::new(), Duration::ZERO);
    let mut victim = 0;
    for (fault, requests) in [("STOP", 12), ("KILL", 30)] {
        let first = refused.len();
        // A machine that is busy may have let its replica take over meanwhile.
        victim = if is_master(&cluster.servers[0]) { 0 } else { 3 };
        if fault == "STOP" {
            cluster.servers[victim].signal("STOP");
        } else {
            cluster.servers[victim].kill();
        }
        for _ in 0..requests {
            let (status, took) = start(number).await;
            match status {
                StatusCode::CREATED => {}
                StatusCode::SERVICE_UNAVAILABLE => refused.push(number),
                other => panic!("{other}"),
            }
            slowest = slowest.max(took);
            number += 1;
        }
        assert!(refused.len() > first, "a third of the phones is there");
        if fault == "STOP" {
            cluster.servers[victim].signal("CONT");
            let (began, mut in_a_row) = (Instant::now(), 0);
            while in_a_row < 20 {
                in_a_row =
                    if start(number).await.0 == StatusCode::CREATED { in_a_row + 1 } else { 0 };
                let patience = if is_master(&cluster.servers[0]) { MENDED } else { MENDED * 10 };
                assert!(began.elapsed() < patience, "{}", world.log());
                number += 1;
            }
        }
    }
    assert!(slowest <= TOLD, "told after {slowest:?}");
    // Its replica is elected; who confirms messages to that one is this server, once it is back.
    cluster.servers[victim].restart();
    let (began, mut in_a_row) = (Instant::now(), 0);
    while in_a_row < 20 {
        in_a_row = if start(number).await.0 == StatusCode::CREATED { in_a_row + 1 } else { 0 };
        assert!(began.elapsed() < Duration::from_secs(20), "{}", world.log());
        number += 1;
    }
    eprintln!("all of the cluster works again after {:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(16)).await;
    let sent =
        refused.iter().filter(|number| !recorder.calls_for(&mobile(328, **number)).is_empty());
    let (count, sent) = (refused.len(), sent.count());
    assert_eq!(sent, 0, "messages for starts that were told `unavailable`");
    eprintln!("P10, a master of three: {count} refused, the slowest of all {slowest:?}, 0 sent");
}
