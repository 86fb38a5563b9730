//! Many nodes on Redis: what holds on one machine holds there.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;

use crate::races;
use crate::recorder::{Answer, Recorder, config, ended};
use crate::servers::{Cluster, Server, Watched};
use crate::world::{USUAL, World, body, mobile};

/// How many requests a race has here; those of 10 000 are in `races.rs`.
const RACE: u32 = 500;
/// How fast a store that is down is told, and how fast the node works again.
pub(crate) const TOLD: Duration = Duration::from_millis(250);
pub(crate) const MENDED: Duration = Duration::from_secs(2);

pub(crate) fn lines(url: &str) -> String {
    format!("kind = \"redis\"\nurl = \"{url}\"")
}

/// Another node on the same servers, with the same keys.
pub(crate) async fn beside(first: &World, usual: &str, url: &str) -> World {
    let keys = format!("{}.keys", first.store().display());
    World::start_on(&format!("{usual}\n[keys]\nfile = \"{keys}\"\n"), &lines(url)).await
}

async fn races_on(url: &str) {
    let world = World::start_on(USUAL, &lines(url)).await;
    races::one_phone_one_message(&world, RACE).await;
    races::wrong_codes_are_judged_five_times(&world, RACE).await;
    races::a_right_code_gives_one_token(&world, RACE).await;
    let fresh = World::start_on(USUAL, &format!("{}\nprefix = \"p2:\"", lines(url))).await;
    races::one_challenge_one_message(&fresh, RACE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn races_are_won_once_on_one_redis_server() {
    let server = Server::start(&[]);
    races_on(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn races_are_won_once_on_redis_with_sentinels() {
    let watched = Watched::start();
    races_on(&watched.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn races_are_won_once_on_a_redis_cluster() {
    let cluster = Cluster::start();
    assert_eq!(cluster.servers.len(), 6);
    races_on(&cluster.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_starts_another_checks_also_after_a_fail_over() {
    let mut watched = Watched::start();
    let one = World::start_on(USUAL, &lines(&watched.url())).await;
    let other = beside(&one, USUAL, &watched.url()).await;
    let [phone, second, third] = [1, 2, 3].map(|number| format!("+86{}", mobile(310, number)));
    let check = async |started: &serde_json::Value, code: String| {
        let path = format!("/v1/verifications/{}/check", started["id"].as_str().unwrap());
        other.post("sk_shop_secret", &path, &json!({"code": code})).send().await.unwrap()
    };
    let started = one.start_verification(&phone).await;
    let approved = check(&started, one.code(&phone).await).await;
    assert_eq!(approved.status(), StatusCode::OK);
    assert!(body(approved).await["token"].is_string());
    let refused = other.post("sk_shop_secret", "/v1/verifications", &json!({"phone": phone}));
    assert_eq!(refused.send().await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    let started = one.start_verification(&second).await;
    let code = one.code(&second).await;
    watched.kill_master();
    let began = Instant::now();
    let judged = loop {
        let answer = check(&started, code.clone()).await;
        if answer.status() != StatusCode::SERVICE_UNAVAILABLE {
            break answer.status();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{}", other.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(judged, StatusCode::NOT_FOUND, "a code of before the fail-over is none");
    let held = other.post("sk_shop_secret", "/v1/verifications", &json!({"phone": third}));
    let held = held.send().await.unwrap().status();
    assert_eq!(held, StatusCode::SERVICE_UNAVAILABLE, "sends wait for one gap");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_other_keys_is_refused() {
    let server = Server::start(&[]);
    let one = World::start_on(USUAL, &lines(&server.url())).await;
    let other = one.folder.path().join("other.toml");
    let text = std::fs::read_to_string(one.config_path()).unwrap();
    let text = text.replace("countersign.db", "another.db");
    std::fs::write(&other, text.replace(&one.address.to_string(), "127.0.0.1:0")).unwrap();
    let ran = one.command(&["serve", "--config", "other.toml"]).output().unwrap();
    let said = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
    assert!(!ran.status.success() && said.contains("with other keys"), "{said}");
    let ran = one.command(&["doctor", "--config", "countersign.toml"]).output().unwrap();
    let said = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
    assert!(said.contains("ok    store"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_of_a_dead_node_is_taken_over() {
    let (server, recorder) = (Server::start(&[]), Recorder::start(0).await);
    recorder.follow(|number| if number == 0 { Answer::Silence } else { Answer::Takes });
    let usual = config(&[recorder.table("main")]);
    let mut one = World::start_on(&usual, &lines(&server.url())).await;
    let other = beside(&one, &usual, &server.url()).await;
    let phone = mobile(311, 1);
    let started = one.start_verification(&phone).await;
    while recorder.calls_for(&phone).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    one.kill();
    let began = Instant::now();
    let id = started["id"].as_str().unwrap();
    ended(&other, id, Duration::from_mins(1)).await;
    let calls = recorder.calls_for(&phone);
    assert_eq!(calls.iter().filter(|call| call.taken).count(), 1, "{calls:?}");
    assert!(calls.iter().all(|call| call.datas == calls[0].datas), "the same code");
    eprintln!("taken over {:?} after the node died", began.elapsed());
}

/// P10 on Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_down_sends_and_approves_nothing_and_heals_by_itself() {
    let mut server = Server::start(&[]);
    let recorder = Recorder::start(0).await;
    let usual = config(&[recorder.table("main")]);
    let store = format!("{}\nhold_after_failover = false", lines(&server.url()));
    let world = World::start_on(&usual, &store).await;
    let start = async |number: u32| {
        let began = Instant::now();
        let asked = json!({"phone": mobile(312, number)});
        let answer = world.post("sk_shop_secret", "/v1/verifications", &asked).send().await;
        (answer.unwrap().status(), began.elapsed())
    };
    let mut number = 0;
    for fault in ["STOP", "KILL"] {
        assert_eq!(start(number).await.0, StatusCode::CREATED);
        number += 1;
        if fault == "STOP" {
            server.signal("STOP");
        } else {
            server.kill();
        }
        let first_refused = number;
        for _ in 0..20 {
            let (status, took) = start(number).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(took <= TOLD, "told after {took:?}");
            number += 1;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        if fault == "STOP" {
            server.signal("CONT");
        } else {
            server.restart();
        }
        let began = Instant::now();
        while start(number).await.0 != StatusCode::CREATED {
            assert!(began.elapsed() < MENDED, "{}", world.log());
            number += 1;
        }
        eprintln!("{fault}: works again after {:?}", began.elapsed());
        // A lease is 15 s: until then nobody would send what landed without its caller.
        tokio::time::sleep(Duration::from_secs(16)).await;
        let sent = (first_refused..first_refused + 20)
            .filter(|number| !recorder.calls_for(&mobile(312, *number)).is_empty());
        assert_eq!(sent.count(), 0, "messages for starts that were told `unavailable`");
        number += 1;
    }
}
