//! P1 to P3: whatever comes at once, one message, one judged answer, one token. `RACE` sets another
//! number of requests than the 10 000 that the promises name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::world::{USUAL, World, body, mobile, times};

/// Requests under way at once, each on a connection of its own.
const AT_ONCE: u32 = 256;

/// How many requests a race has.
fn race() -> u32 {
    times("RACE", 10_000)
}

/// Does the same `count` times, with its number, as many at once as there may be; the first ones
/// start together.
async fn storm<T, F, W>(count: u32, work: F) -> Vec<T>
where
    T: Send + 'static,
    F: Fn(u32) -> W + Clone + Send + 'static,
    W: Future<Output = T> + Send,
{
    let workers = count.min(AT_ONCE);
    let start = Arc::new(Barrier::new(usize::try_from(workers).unwrap()));
    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        let (work, start) = (work.clone(), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            let mut done = Vec::new();
            for number in (worker..count).step_by(usize::try_from(workers).unwrap()) {
                done.push(work(number).await);
            }
            done
        });
    }
    let done: Vec<T> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(done.len(), usize::try_from(count).unwrap());
    done
}

fn tally<T: Ord>(of: impl IntoIterator<Item = T>) -> BTreeMap<T, u32> {
    let mut counts = BTreeMap::new();
    for one in of {
        *counts.entry(one).or_default() += 1;
    }
    counts
}

/// Asks for a code at the seed's door; the `code` of the answer.
async fn send(client: Client, url: String) -> String {
    let answer = client.get(&url).send().await.unwrap();
    let status = answer.status();
    let answer = body(answer).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer["code"].as_str().unwrap().to_owned()
}

/// All messages, once no more can be on their way.
async fn settled(world: &World) -> Vec<Value> {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let inbox = world.get("/dev/messages?limit=100000").send().await.unwrap();
        let inbox = body(inbox).await.as_array().unwrap().clone();
        if !inbox.is_empty() && inbox.len() == before {
            return inbox;
        }
        before = inbox.len();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_one_phone_one_message() {
    one_phone_one_message(&World::start(USUAL).await, race()).await;
}

/// P1 on this world.
pub(crate) async fn one_phone_one_message(world: &World, count: u32) {
    let (base, client) = (world.url(""), world.client.clone());
    let pictures = {
        let (base, client) = (base.clone(), client.clone());
        storm(count, move |number| {
            let url = format!("{base}/dev/image_codes/p1-{number}");
            let client = client.clone();
            async move {
                let answer = body(client.get(url).send().await.unwrap()).await;
                (number, answer["answer"].as_str().unwrap().to_owned())
            }
        })
        .await
    };
    let answers: BTreeMap<u32, String> = pictures.into_iter().collect();
    let (answers, phone) = (Arc::new(answers), mobile(170, 1));
    let codes = storm(count, move |number| {
        let answer = &answers[&number];
        let query = format!("image_code_id=p1-{number}&image_code={answer}");
        send(client.clone(), format!("{base}/sms_codes/{phone}/?{query}"))
    })
    .await;
    let expected = [("0".to_owned(), 1), ("4008".to_owned(), count - 1)];
    assert_eq!(tally(codes), BTreeMap::from(expected), "\n{}", world.log());
    assert_eq!(settled(world).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_one_challenge_one_message() {
    one_challenge_one_message(&World::start(USUAL).await, race()).await;
}

/// P2 on this world.
pub(crate) async fn one_challenge_one_message(world: &World, count: u32) {
    let (base, client) = (world.url(""), world.client.clone());
    let answer = world.image_answer("p2").await;
    let codes = storm(count, move |number| {
        let phone = mobile(171, number);
        let query = format!("image_code_id=p2&image_code={answer}");
        send(client.clone(), format!("{base}/sms_codes/{phone}/?{query}"))
    })
    .await;
    let expected = [("0".to_owned(), 1), ("4001".to_owned(), count - 1)];
    assert_eq!(tally(codes), BTreeMap::from(expected));
    assert_eq!(settled(world).await.len(), 1);
}

/// Checks this code of this verification so often.
async fn check_storm(world: &World, count: u32, id: &str, code: &str) -> Vec<(StatusCode, Value)> {
    let url = world.url(&format!("/v1/verifications/{id}/check"));
    let (client, code) = (world.client.clone(), json!({"code": code}));
    storm(count, move |_| {
        let request = client.post(&url).bearer_auth("sk_shop_secret").json(&code);
        async move {
            let answer = request.send().await.unwrap();
            (answer.status(), body(answer).await)
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_wrong_codes_are_judged_as_often_as_a_code_takes_them() {
    wrong_codes_are_judged_five_times(&World::start(USUAL).await, race()).await;
}

/// P3 on this world, with wrong codes.
pub(crate) async fn wrong_codes_are_judged_five_times(world: &World, count: u32) {
    let phone = format!("+86{}", mobile(172, 1));
    let started = world.start_verification(&phone).await;
    let right = world.code(&phone).await;
    let wrong = if right == "000000" { "000001" } else { "000000" };
    let id = started["id"].as_str().unwrap();
    let answers = check_storm(world, count, id, wrong).await;
    let statuses = tally(answers.iter().map(|(status, _)| status.as_u16()));
    assert_eq!(statuses, BTreeMap::from([(422, 5), (404, count - 5)]));
    let judged = answers.iter().filter(|(status, _)| *status == StatusCode::UNPROCESSABLE_ENTITY);
    let left = tally(judged.map(|(_, problem)| problem["checks_left"].as_u64().unwrap()));
    assert_eq!(left, BTreeMap::from([(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]));
    let late = world.post(
        "sk_shop_secret",
        &format!("/v1/verifications/{id}/check"),
        &json!({"code": right}),
    );
    assert_eq!(late.send().await.unwrap().status(), StatusCode::NOT_FOUND, "it has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_a_right_code_gives_one_token() {
    a_right_code_gives_one_token(&World::start(USUAL).await, race()).await;
}

/// P3 on this world, with the right code.
pub(crate) async fn a_right_code_gives_one_token(world: &World, count: u32) {
    let phone = format!("+86{}", mobile(173, 1));
    let started = world.start_verification(&phone).await;
    let right = world.code(&phone).await;
    let answers = check_storm(world, count, started["id"].as_str().unwrap(), &right).await;
    let statuses = tally(answers.iter().map(|(status, _)| status.as_u16()));
    assert_eq!(statuses, BTreeMap::from([(200, 1), (404, count - 1)]));
    let tokens = answers.iter().filter(|(_, answer)| answer["token"].is_string()).count();
    assert_eq!(tokens, 1);
}
