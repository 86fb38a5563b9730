//! P6, P7, P9: `kill -9` at random moments under load. Nothing accepted is lost, nothing is sent
//! twice, nothing used comes back.
//!
//! `KILLS` and `KILLS_USED` say how often; the promises are counted at 200 and 500.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::recorder::{Answer, Call, Recorder, below, config, end, timeline};
use crate::world::{World, body, mobile, times};

/// The most time between acceptance and the last call to a provider.
const DEADLINE: Duration = Duration::from_secs(90);
/// Leases, pauses and repeats of what the last crash left.
const PATIENCE: Duration = Duration::from_secs(100);

/// A verification that was answered with 201.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) id: String,
    pub(crate) mobile: String,
    /// When the answer came.
    pub(crate) at: Instant,
}

/// Callers that start one verification after the other, each for another phone, whatever happens
/// to the server.
pub(crate) struct Load {
    accepted: Arc<Mutex<Vec<Accepted>>>,
    stop: Arc<AtomicBool>,
    callers: JoinSet<()>,
}

impl Load {
    /// So many callers, with a short pause after each call.
    pub(crate) fn start(world: &World, series: u32, callers: u32, pause: Duration) -> Self {
        let (accepted, stop) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let (next, mut running) = (Arc::new(AtomicU32::new(0)), JoinSet::new());
        for _ in 0..callers {
            let (accepted, stop, next) = (accepted.clone(), stop.clone(), next.clone());
            let (client, url) = (caller(), world.url("/v1/verifications"));
            running.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let mobile = mobile(series, next.fetch_add(1, Ordering::Relaxed));
                    if let Some(id) = start(&client, &url, &mobile).await {
                        accepted.lock().unwrap().push(Accepted { id, mobile, at: Instant::now() });
                    }
                    tokio::time::sleep(pause).await;
                }
            });
        }
        Self { accepted, stop, callers: running }
    }

    /// How many were accepted so far.
    pub(crate) fn count(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    /// Stops, and tells what was accepted.
    pub(crate) async fn stop(mut self) -> Vec<Accepted> {
        self.stop.store(true, Ordering::Relaxed);
        while self.callers.join_next().await.is_some() {}
        self.accepted.lock().unwrap().clone()
    }
}

/// A client of its own for each caller: in a pool that is shared while connections break by the
/// dozen, a request of somebody else's can wait for its turn until it times out.
fn caller() -> Client {
    Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

/// The id, if the answer was 201 and came whole.
async fn start(client: &Client, url: &str, mobile: &str) -> Option<String> {
    let asked = client.post(url).bearer_auth("sk_shop_secret").json(&json!({"phone": mobile}));
    let answer = asked.send().await.ok()?;
    if answer.status() != StatusCode::CREATED {
        return None;
    }
    let started: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
    Some(started["id"].as_str().unwrap().to_owned())
}

/// Waits until all of them have ended; says how many ended how.
pub(crate) async fn all_ended(world: &World, accepted: &[Accepted]) -> HashMap<String, String> {
    let (mut began, mut open) = (Instant::now(), accepted.to_vec());
    let mut ends = HashMap::new();
    while !open.is_empty() {
        let first = ends.is_empty();
        let mut still = Vec::new();
        for one in open {
            let events = timeline(world, &one.id).await;
            match end(&events) {
                Some(word) => {
                    let why = events.iter().any(|event| event["event"] == "provider_answered");
                    assert!(why, "an end without a reason: {events:?}");
                    ends.insert(one.id, word);
                }
                None => still.push(one),
            }
        }
        open = still;
        if first {
            // One look at a hundred thousand takes minutes, and is not what they are waited for.
            began = Instant::now();
        }
        let (left, waited) = (open.len(), began.elapsed());
        assert!(waited < PATIENCE, "{left} never ended: {:?}\n{}", open.first(), world.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ends
}

/// Holds a simulator's record against what was accepted; gives a line of counts.
pub(crate) fn judge(
    accepted: &[Accepted],
    ends: &HashMap<String, String>,
    calls: &[Call],
) -> String {
    let mut by_mobile: HashMap<&str, Vec<&Call>> = HashMap::new();
    for call in calls {
        by_mobile.entry(&call.to).or_default().push(call);
    }
    // Also those whose 201 was cut off by a crash.
    for calls in by_mobile.values() {
        let taken = calls.iter().filter(|call| call.taken).count();
        assert!(taken <= 1, "a second message: {calls:?}");
        let same =
            calls.iter().all(|call| call.datas == calls[0].datas && call.req_id == calls[0].req_id);
        assert!(same, "another code or key: {calls:?}");
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for one in accepted {
        let calls = by_mobile.get(one.mobile.as_str()).map_or(&[][..], Vec::as_slice);
        let end = ends[&one.id].as_str();
        *counts.entry(end).or_default() += 1;
        let sent = calls.iter().any(|call| call.taken);
        assert!(sent || end == "failed" || end == "expired", "lost: {one:?} {end} {calls:?}");
        let late = calls.iter().find(|call| call.at > one.at + DEADLINE);
        assert!(late.is_none(), "called after its deadline: {one:?} {late:?}");
    }
    let repeats = calls.iter().filter(|call| !call.taken).count();
    format!(
        "{} accepted, {} phones called, {} calls ({repeats} without a message), ends {counts:?}",
        accepted.len(),
        by_mobile.len(),
        calls.len()
    )
}

/// A line now and then, while somebody watches a long run.
fn progress(promise: &str, kill: u32, kills: u32, accepted: usize) {
    if kill > 0 && kill.is_multiple_of(20) {
        eprintln!("{promise}: {kill} of {kills} kills, {accepted} accepted");
    }
}

async fn wait_for(millis: std::ops::Range<u64>) {
    let millis = millis.start + below(millis.end - millis.start);
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_loses_an_accepted_message_or_sends_one_twice() {
    let (kills, recorder) = (times("KILLS", 6), Recorder::start(0).await);
    recorder.slow_down(Duration::from_millis(60));
    // One in forty is taken with an answer that says nothing, so crashes meet repeats, too.
    recorder.follow(|number| match number % 40 {
        39 => Answer::TakesAndFails,
        _ => Answer::Takes,
    });
    let mut world = World::start(&config(&[recorder.table("main")])).await;
    let load = Load::start(&world, 200, 8, Duration::from_millis(20));
    for kill in 1..=kills {
        wait_for(20..500).await;
        world.restart().await; // kills it first
        progress("P6, P7", kill, kills, load.count());
    }
    let before_the_last = load.count();
    wait_for(20..500).await;
    let accepted = load.stop().await;
    assert!(before_the_last > 0, "the load must meet the kills");
    let ends = all_ended(&world, &accepted).await;
    let counted = judge(&accepted, &ends, &recorder.calls());
    eprintln!("P6, P7: {kills} kills: {counted}");
}

/// Spends an image at the seed's door on a phone: `code` of the answer.
async fn spend(world: &World, mobile: &str, uuid: &str, answer: &str) -> String {
    let path = format!("/sms_codes/{mobile}/?image_code_id={uuid}&image_code={answer}");
    let answered = body(world.get(&path).send().await.unwrap()).await;
    answered["code"].as_str().unwrap().to_owned()
}

async fn check(world: &World, id: &str, code: &str) -> (StatusCode, Value) {
    let path = format!("/v1/verifications/{id}/check");
    let asked = world.post("sk_shop_secret", &path, &json!({"code": code}));
    let answer = asked.send().await.unwrap();
    (answer.status(), body(answer).await)
}

/// Uses a code, is killed right after the answer, and tries everything once more.
async fn a_used_code_stays_used(world: &mut World, recorder: &Recorder, round: u32) {
    let mobile = mobile(201, round);
    let id = world.start_verification(&mobile).await["id"].as_str().unwrap().to_owned();
    let code = recorder.code(&mobile).await;
    let (status, answer) = check(world, &id, &code).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["status"], "approved");
    world.restart().await;
    let (status, answer) = check(world, &id, &code).await;
    assert!(status.is_client_error() && answer["token"].is_null(), "again: {status} {answer}");
    let again = world.post("sk_shop_secret", "/v1/verifications", &json!({"phone": mobile}));
    let again = again.send().await.unwrap();
    assert_eq!(again.status(), StatusCode::TOO_MANY_REQUESTS, "{mobile}");
    assert_eq!(body(again).await["type"], "/problems/throttled");
}

/// Spends an image, is killed right after the answer, and shows it once more for another phone.
async fn a_spent_image_stays_spent(world: &mut World, recorder: &Recorder, round: u32) {
    let uuid = format!("00000000-0000-4000-8000-{round:012}");
    let drawn = world.get(&format!("/image_codes/{uuid}/")).send().await.unwrap();
    assert_eq!(drawn.status(), StatusCode::OK);
    let answer = world.image_answer(&uuid).await;
    let (first, second) = (mobile(202, 2 * round), mobile(202, 2 * round + 1));
    assert_eq!(spend(world, &first, &uuid, &answer).await, "0");
    world.restart().await;
    assert_eq!(spend(world, &second, &uuid, &answer).await, "4001");
    assert!(recorder.calls_for(&second).is_empty(), "a message for a spent image");
    let uuid = format!("00000000-0000-4000-9000-{round:012}");
    let answer = world.image_answer(&uuid).await;
    assert_eq!(spend(world, &first, &uuid, &answer).await, "4008", "inside the gap");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_brings_back_a_used_code_an_image_or_a_turn() {
    let (kills, recorder) = (times("KILLS_USED", 10), Recorder::start(0).await);
    let mut world = World::start(&config(&[recorder.table("main")])).await;
    let load = Load::start(&world, 203, 3, Duration::from_millis(20));
    for round in 0..kills {
        progress("P9", round, kills, load.count());
        if round % 3 == 2 {
            a_spent_image_stays_spent(&mut world, &recorder, round).await;
        } else {
            a_used_code_stays_used(&mut world, &recorder, round).await;
        }
    }
    let beside = load.stop().await.len();
    let images = kills / 3;
    eprintln!(
        "P9: {kills} kills: {} codes stayed used, {images} images stayed spent, {kills} phones \
         stayed inside their gap; {beside} starts beside that",
        kills - images
    );
}
