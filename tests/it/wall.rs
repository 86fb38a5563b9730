//! P14: the wall clock jumps while the server runs. libfaketime lies to the real binary about the
//! time of day and leaves the monotonic clock alone, as setting a machine's clock does.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{USUAL, World, body, mobile};

/// How long a code lives and a phone waits here, the least that may be configured.
const MINUTE: Duration = Duration::from_mins(1);
/// When something that ends after a minute is looked at for the last time, on a busy machine.
const NEARLY: Duration = Duration::from_secs(56);
/// When it has surely ended.
const AFTERWARDS: Duration = Duration::from_secs(61);
/// Where the clock is set to, in seconds, one after the other.
const JUMPS: [i64; 5] = [3600, -3600, 86_400, -86_400, 0];

/// Debian's `libfaketime`, on whatever machine this is.
fn library() -> String {
    let folders = Path::new("/usr/lib").read_dir().unwrap();
    let mut found = folders
        .map(|folder| folder.unwrap().path().join("faketime/libfaketimeMT.so.1"))
        .filter(|library| library.exists());
    let found: Option<PathBuf> = found.next();
    let found = found.expect("this test needs libfaketime (./check installs it: faketime)");
    found.to_str().unwrap().to_owned()
}

/// A server whose wall clock goes by the file `offset` in its folder.
async fn world() -> World {
    let config = format!("{USUAL}[code]\nttl_seconds = 60\n");
    World::start_with(&config, |folder| {
        let file = folder.join("offset");
        std::fs::write(&file, "+0").unwrap();
        vec![
            ("LD_PRELOAD", library()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap().to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // A killed process would leave its shared memory behind.
            ("FAKETIME_DISABLE_SHM", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    })
    .await
}

/// Sets the server's wall clock so far off the real one.
fn set(world: &World, seconds: i64) {
    let file = world.folder.path().join("offset");
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, format!("{seconds:+}")).unwrap();
    std::fs::rename(fresh, file).unwrap();
}

/// How far the server's wall clock is off, told by what it shows: a challenge ends in 300 s.
async fn shown(world: &World) -> i64 {
    let minted = world.post("sk_shop_secret", "/v1/challenges", &json!({}));
    let minted = body(minted.send().await.unwrap()).await;
    let ends: jiff::Timestamp = minted["expires_at"].as_str().unwrap().parse().unwrap();
    ends.as_second() - 300 - now()
}

/// The real time, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "what the server is told differs from this")]
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A verification that was started in a world of jumps.
struct Started {
    mobile: String,
    id: String,
    code: String,
    /// When it was asked for, and when it was answered: its life began between the two.
    asked: Instant,
    answered: Instant,
}

async fn start(world: &World, number: u32) -> Started {
    let mobile = mobile(401, number);
    let asked = Instant::now();
    let id = world.start_verification(&mobile).await["id"].as_str().unwrap().to_owned();
    let answered = Instant::now();
    let code = world.code(&format!("+86{mobile}")).await;
    Started { mobile, id, code, asked, answered }
}

async fn status(world: &World, one: &Started) -> Value {
    let path = format!("/v1/verifications/{}", one.id);
    let asked = world.get(&path).bearer_auth("sk_shop_secret").send().await.unwrap();
    body(asked).await["status"].clone()
}

async fn again(world: &World, one: &Started) -> (StatusCode, Option<u64>) {
    let asked = world.post("sk_shop_secret", "/v1/verifications", &json!({"phone": one.mobile}));
    let answer = asked.send().await.unwrap();
    let wait = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (answer.status(), wait.map(|wait| wait.parse().unwrap()))
}

async fn check(world: &World, one: &Started, code: &str) -> (StatusCode, Value) {
    let path = format!("/v1/verifications/{}/check", one.id);
    let answer = world.post("sk_shop_secret", &path, &json!({"code": code})).send().await.unwrap();
    (answer.status(), body(answer).await)
}

/// Its code lives and its phone waits, no longer than they have to.
async fn assert_still(world: &World, one: &Started, jump: i64) {
    let age = one.asked.elapsed();
    assert!(age < NEARLY, "the machine is too slow for this test: {age:?}");
    assert_eq!(status(world, one).await, "pending", "{jump:+} s, after {age:?}");
    let (refused, wait) = again(world, one).await;
    assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS, "{jump:+} s, after {age:?}");
    let (wait, left) = (wait.unwrap(), MINUTE.saturating_sub(age).as_secs() + 1);
    assert!((1..=left).contains(&wait), "{jump:+} s: wait {wait} s of {left} s");
}

/// Its code is dead and its phone is free, whatever the wall clock says.
async fn assert_over(world: &World, one: &Started) {
    let (refused, answer) = check(world, one, &one.code).await;
    assert_eq!(refused, StatusCode::NOT_FOUND, "{answer}");
    assert_eq!(status(world, one).await, "expired");
    assert_eq!(again(world, one).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn no_jump_of_the_wall_clock_prolongs_a_code_or_shortens_a_gap() {
    let mut world = world().await;
    let mut live = Vec::new();
    for (number, jump) in (0..).zip(JUMPS) {
        live.push(start(&world, number).await);
        set(&world, jump);
        let told = shown(&world).await;
        assert!((told - jump).abs() <= 3, "the jump did not arrive: {told} s, not {jump} s");
        for one in &live {
            assert_still(&world, one, jump).await;
        }
        // A code that lived through this jump is still good, once, for a proof of the new time.
        let used = start(&world, 100 + number).await;
        set(&world, -jump);
        let (approved, answer) = check(&world, &used, &used.code).await;
        assert_eq!((approved, &answer["status"]), (StatusCode::OK, &json!("approved")), "{answer}");
    }
    // Over a restart, too: the machine's uptime tells how much time has passed.
    for jump in [86_400, -86_400] {
        set(&world, jump);
        world.restart().await;
        for one in &live {
            assert_still(&world, one, jump).await;
        }
    }
    // To the end: a clock that is a day behind does not prolong, one a day ahead does not shorten.
    let (first, last) = (&live[0], &live[live.len() - 1]);
    eprintln!("P14: all jumps after {:?}", first.asked.elapsed());
    tokio::time::sleep(NEARLY.saturating_sub(first.asked.elapsed())).await;
    set(&world, 86_400);
    let refused = again(&world, first).await.0;
    assert!(first.asked.elapsed() < MINUTE, "the machine is too slow for this test");
    assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
    tokio::time::sleep(AFTERWARDS.saturating_sub(last.answered.elapsed())).await;
    set(&world, -86_400);
    for one in &live {
        assert_over(&world, one).await;
    }
}
