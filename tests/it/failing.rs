//! P10 and the neighbours: what happens when the disk, the store's file or a provider fails.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::recorder::{Answer, Recorder, config, end, ended, table};
use crate::world::{World, body, free_port, mobile};

/// How fast a store that is down is told.
const TOLD: Duration = Duration::from_millis(250);
/// How fast the server works again.
const MENDED: Duration = Duration::from_secs(2);

/// A small disk in memory; unmounted at the end.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Self {
        std::fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        let made = mount.args(["-t", "tmpfs", "-o", "size=3m", "countersign"]).arg(&path).output();
        let made = made.expect("this test needs the program `mount`");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "this test mounts a small tmpfs, so run it as root: {said}");
        Self(path)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut filler = std::fs::File::create(self.filler()).unwrap();
        for size in [4096, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn move_store(world: &World, to: &Path) {
    let text = std::fs::read_to_string(world.config_path()).unwrap();
    let from = world.store().display().to_string();
    assert!(text.contains(&from));
    std::fs::write(world.config_path(), text.replace(&from, &to.display().to_string())).unwrap();
}

async fn try_start(world: &World, phone: &str) -> (StatusCode, Value, Duration) {
    let began = Instant::now();
    let asked = world.post("sk_shop_secret", "/v1/verifications", &json!({"phone": phone}));
    let answer = asked.send().await.unwrap();
    (answer.status(), body(answer).await, began.elapsed())
}

async fn check(world: &World, id: &str, code: &str) -> (StatusCode, Value, Duration) {
    let began = Instant::now();
    let path = format!("/v1/verifications/{id}/check");
    let answer = world.post("sk_shop_secret", &path, &json!({"code": code})).send().await.unwrap();
    (answer.status(), body(answer).await, began.elapsed())
}

fn id(started: &Value) -> String {
    started["id"].as_str().unwrap().to_owned()
}

/// Starts on a full disk until 20 were refused; a few may still fit into what the log has spare.
async fn refusals(world: &World) -> (Vec<Value>, Vec<String>, Duration) {
    let (mut fit, mut refused, mut slowest) = (Vec::new(), Vec::new(), Duration::ZERO);
    for number in 100.. {
        let phone = mobile(205, number);
        let (status, answer, took) = try_start(world, &phone).await;
        if status == StatusCode::CREATED {
            assert!(number < 5000, "the disk is not full");
            fit.push(answer);
            continue;
        }
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
        assert_eq!(answer["type"], "/problems/unavailable");
        assert!(took <= TOLD, "told after {took:?}");
        slowest = slowest.max(took);
        refused.push(phone);
        if refused.len() == 20 {
            break;
        }
    }
    (fit, refused, slowest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_sends_and_approves_nothing_and_heals_by_itself() {
    let recorder = Recorder::start(0).await;
    let mut world = World::start(&config(&[recorder.table("main")])).await;
    world.kill();
    let disk = Disk::mount(world.folder.path().join("disk"));
    move_store(&world, &disk.0.join("countersign.db"));
    world.restart().await;
    let pid = world.pid();
    let mut kept = Vec::new();
    for number in 0..20 {
        kept.push(world.start_verification(&mobile(205, number)).await);
    }
    let (first, code) = (id(&kept[0]), recorder.code(&mobile(205, 0)).await);
    for started in &kept {
        ended(&world, &id(started), Duration::from_secs(20)).await;
    }

    disk.fill();
    let (fit, refused, slowest) = refusals(&world).await;
    for _ in 0..3 {
        let (status, answer, took) = check(&world, &first, &code).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
        assert!(answer["token"].is_null() && took <= TOLD, "{answer} after {took:?}");
    }
    let fits = fit.len();
    kept.extend(fit);

    disk.free();
    let (freed, mut tries) = (Instant::now(), 0);
    while try_start(&world, &mobile(206, tries)).await.0 != StatusCode::CREATED {
        assert!(freed.elapsed() < MENDED, "still failing\n{}", world.log());
        tries += 1;
    }
    let mended = freed.elapsed();
    assert_eq!(world.pid(), pid);
    for started in &kept {
        let story = ended(&world, &id(started), Duration::from_mins(1)).await;
        assert_eq!(end(&story).as_deref(), Some("sent"));
    }
    let (status, answer, _) = check(&world, &first, &code).await;
    assert!(status == StatusCode::OK && answer["token"].is_string(), "{answer}");
    let sent = refused.iter().filter(|phone| !recorder.calls_for(phone).is_empty()).count();
    assert_eq!(sent, 0, "messages for starts that were told `unavailable`");
    world.kill();
    eprintln!(
        "P10, full disk: {} refused (slowest {slowest:?}), {fits} fitted, works again after \
         {mended:?}, {} acknowledged and all there",
        refused.len(),
        kept.len()
    );
}

/// Runs `serve` to its end; whether it was content, and what it said.
fn serve(world: &World, file: &str) -> (bool, String) {
    let ran = world.command(&["serve", "--config", file]).output().unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    (ran.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_store_is_refused() {
    let world = World::start(&config(&[table("main", free_port())])).await;
    let text = std::fs::read_to_string(world.config_path()).unwrap();
    let (ours, other) = (world.address.port().to_string(), free_port().to_string());
    std::fs::write(world.folder.path().join("second.toml"), text.replace(&ours, &other)).unwrap();
    let (content, said) = serve(&world, "second.toml");
    assert!(!content && said.contains("another process uses this store"), "{said}");
    let ready = world.get("/health/ready").send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK, "and the first goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_gone_is_not_taken_for_a_new_one() {
    let mut world = World::start(&config(&[table("main", free_port())])).await;
    world.kill();
    let store = world.store();
    for (what, harm) in [("missing", None), ("empty", Some(""))] {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", store.display()));
        }
        if let Some(contents) = harm {
            std::fs::write(&store, contents).unwrap();
        }
        let (content, said) = serve(&world, "countersign.toml");
        let clear = said.contains("this store was made before") && said.contains("backup");
        assert!(!content && clear, "{what}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_comes_back_gets_what_waited() {
    let port = free_port();
    let world = World::start(&config(&[table("main", port)])).await;
    let (mut started, began) = (Vec::new(), Instant::now());
    for number in 0..20 {
        started.push(id(&world.start_verification(&mobile(207, number)).await));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let recorder = Recorder::start(port).await;
    let (down, back) = (began.elapsed(), Instant::now());
    for one in &started {
        let story = ended(&world, one, Duration::from_secs(20)).await;
        assert_eq!(end(&story).as_deref(), Some("sent"));
        assert!(story.iter().any(|event| event["class"] == "not_sent"), "{story:?}");
    }
    assert_eq!(recorder.calls().len(), started.len(), "each once");
    eprintln!("down for {down:?}: all sent {:?} after it came back", back.elapsed());
}

/// A server with two providers, the first of which follows this script.
async fn two(script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> (World, [Recorder; 2]) {
    let both = [Recorder::start(0).await, Recorder::start(0).await];
    both[0].follow(script);
    let world = World::start(&config(&[both[0].table("first"), both[1].table("second")])).await;
    (world, both)
}

/// The outcomes of a story as `provider:class`.
fn outcomes(story: &[Value]) -> Vec<String> {
    let answered = story.iter().filter(|event| event["event"] == "provider_answered");
    let word = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    answered.map(|event| format!("{}:{}", word(event, "provider"), word(event, "class"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_account_is_the_second_providers_turn() {
    let (world, [first, second]) = two(|_| Answer::Refuses("111109")).await;
    let started = id(&world.start_verification(&mobile(208, 0)).await);
    let story = ended(&world, &started, Duration::from_secs(10)).await;
    assert_eq!(end(&story).as_deref(), Some("sent"));
    assert_eq!(outcomes(&story), ["first:auth_failed", "second:accepted"]);
    let (refused, taken) = (first.calls(), second.calls());
    assert_eq!((refused.len(), taken.len()), (1, 1));
    assert_eq!(refused[0].datas, taken[0].datas);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_number_is_nobody_elses_turn_and_gets_its_gap_back() {
    let (world, [first, second]) = two(|number| match number {
        0 => Answer::Refuses("160038"),
        _ => Answer::Takes,
    })
    .await;
    let phone = mobile(208, 1);
    let started = id(&world.start_verification(&phone).await);
    let story = ended(&world, &started, Duration::from_secs(10)).await;
    assert_eq!(end(&story).as_deref(), Some("failed"));
    assert_eq!(outcomes(&story), ["first:rate_limited_number"]);
    assert!(story.iter().any(|event| event["code"] == "160038"), "{story:?}");
    // The gap is given back in a commit of its own, right after the end is written down.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let again = id(&world.start_verification(&phone).await);
    let story = ended(&world, &again, Duration::from_secs(10)).await;
    assert_eq!(end(&story).as_deref(), Some("sent"));
    assert_eq!((first.calls().len(), second.calls().len()), (2, 0));
    let (status, answer, _) = try_start(&world, &phone).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "a message that went out: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_the_second_providers_turn_within_six_seconds_with_the_same_code() {
    let (world, [first, second]) = two(|_| Answer::Silence).await;
    let phone = mobile(208, 2);
    // The very first message to a provider of which nothing is known yet.
    let started = id(&world.start_verification(&phone).await);
    let story = ended(&world, &started, Duration::from_secs(95)).await;
    assert_eq!(end(&story).as_deref(), Some("sent"), "{story:?}");
    assert_eq!(outcomes(&story), ["first:unknown_outcome", "second:accepted"]);
    let (asked, taken) = (first.calls(), second.calls());
    assert_eq!((asked.len(), taken.len()), (1, 1));
    assert_eq!(asked[0].datas, taken[0].datas);
    // By the server's own clock, from the end of the silent call: what a busy machine adds before
    // does not count.
    let at = |word: &str, place: usize| {
        let mut events = story.iter().filter(|event| event["event"] == word);
        let event = events.nth(place).unwrap();
        event["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
    };
    let silent = at("provider_answered", 0) - at("message_accepted", 0);
    let more = at("provider_answered", 1) - at("provider_answered", 0);
    assert!(silent >= 5_000, "given up after {silent} ms");
    assert!(more >= 500, "no time for a receipt: {more} ms");
    eprintln!("a silent provider: given up after {silent} ms, sent {more} ms later");
    assert!(more < 5_000, "{more} ms more: it waited for more than the half second");
}
