//! SMPP against a message centre by somebody else: npm `smpp`, which is installed under
//! target/tools and stays there.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use crate::recorder::{end, ended, timeline};
use crate::simulator::Simulated;
use crate::world::{World, free_port, mobile};

/// The version that is installed, and that the recordings in tests/vectors were made with.
const VERSION: &str = "0.5.1";

/// Where the package lies; installed by the first test that wants it.
fn package() -> &'static Path {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    PACKAGE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/smpp");
        let manifest = folder.join("node_modules/smpp/package.json");
        let installed = std::fs::read_to_string(&manifest).unwrap_or_default();
        if installed.contains(&format!("\"version\": \"{VERSION}\"")) {
            return folder;
        }
        std::fs::create_dir_all(&folder).unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        npm.arg(&folder).arg(format!("smpp@{VERSION}"));
        let told = npm.output().expect("npm is needed to install the message centre (Debian: npm)");
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(manifest.exists(), "npm could not install smpp {VERSION}:\n{told}");
        folder
    })
}

/// The message centre, in a process of its own.
struct Centre {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Centre {
    /// Starts one that cuts connections at this stage.
    async fn start(cut: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/smsc.js");
        let modules = package().join("node_modules");
        let mut command = Command::new("node");
        command.arg(script).arg(cut).env("NODE_PATH", modules).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node is installed");
        let (output, lines) = (child.stdout.take().unwrap(), Arc::<Mutex<Vec<Value>>>::default());
        let heard = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                heard.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        let centre = Self { child, lines };
        centre.wait_for("listening", 1).await;
        centre
    }

    fn events(&self, event: &str) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line["event"] == event).cloned().collect()
    }

    async fn wait_for(&self, event: &str, at_least: usize) -> Vec<Value> {
        for _ in 0..1_000 {
            let events = self.events(event);
            if events.len() >= at_least {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("fewer than {at_least} of {event}: {:?}", self.lines.lock().unwrap());
    }

    /// The provider's table, with this password.
    fn table(&self, name: &str, password: &str) -> String {
        let port = &self.events("listening")[0]["port"];
        format!(
            "[[providers]]\nname = \"{name}\"\nkind = \"smpp\"\n\
             base_url = \"smpp://127.0.0.1:{port}\"\nsystem_id = \"smpp1\"\n\
             password = \"{password}\"\nsource = \"Acme\"\n"
        )
    }
}

impl Drop for Centre {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(tables: &[String]) -> String {
    format!("{}\n[[tenants]]\nid = \"shop\"\nsecret_key = \"sk_shop_secret\"\n", tables.concat())
}

/// Starts a verification in a language, and gives its id.
async fn start(world: &World, phone: &str, locale: &str) -> String {
    let asked = json!({"phone": phone, "locale": locale});
    let answer = world.post("sk_shop_secret", "/v1/verifications", &asked).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// A number of this test's that ends in these digits.
fn number(place: u32, last: u32) -> String {
    mobile(240, place * 100 + last)
}

/// Waits for a receipt in a story.
async fn delivered(world: &World, id: &str, wanted: &str) -> Vec<Value> {
    for _ in 0..300 {
        let story = timeline(world, id).await;
        let has = |event: &Value| event["event"] == wanted;
        if story.iter().any(has) {
            return story;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no {wanted}: {:?}\n{}", timeline(world, id).await, world.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_reach_another_ones_centre_and_its_receipts_end_in_the_timeline() {
    let centre = Centre::start("never").await;
    let mut world = World::start(&config(&[centre.table("centre", "secret08")])).await;
    for (place, (last, locale, coding, wanted)) in [
        (0, "zh", 8, "message_delivered"),
        (22, "en", 0, "message_delivered"),
        (99, "en", 0, "message_failed"),
    ]
    .into_iter()
    .enumerate()
    {
        let phone = number(u32::try_from(place).unwrap(), last);
        let id = start(&world, &phone, locale).await;
        let story = delivered(&world, &id, wanted).await;
        let sent = centre.wait_for("message", place + 1).await;
        assert_eq!(
            (&sent[place]["to"], &sent[place]["coding"]),
            (&json!(format!("86{phone}")), &json!(coding))
        );
        let text = sent[place]["text"].as_str().unwrap();
        let expected =
            if locale == "zh" { "您的验证码是" } else { "is your verification code" };
        assert!(text.contains(expected), "{text}");
        let code: String = text.chars().filter(char::is_ascii_digit).take(6).collect();
        let right = world.post(
            "sk_shop_secret",
            &format!("/v1/verifications/{id}/check"),
            &json!({"code": code}),
        );
        assert_eq!(right.send().await.unwrap().status(), 200, "{text} {story:?}");
    }
    let refused = start(&world, &number(3, 11), "en").await;
    let story = ended(&world, &refused, Duration::from_secs(20)).await;
    assert!(story.iter().any(|event| event["class"] == "invalid_number"), "{story:?}");
    let receipts = centre.wait_for("receipt", 3).await;
    assert!(receipts.iter().all(|receipt| receipt["status"] == 0), "{receipts:?}");
    assert_eq!(centre.events("bind").len(), 1, "one session for all messages");
    assert_eq!(centre.events("bind")[0]["version"], 0x34);
    world.signal("TERM");
    assert_eq!(world.wait(), Some(0));
    assert_eq!(centre.wait_for("unbind", 1).await.len(), 1, "it left in good order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_at_any_stage_sends_at_most_twice_and_always_the_same_code() {
    for (place, (cut, sent, class)) in [
        ("connection", 0, "not_sent"),
        ("bind", 0, "not_sent"),
        ("message", 1, "unknown_outcome"),
        ("answer", 1, "accepted"),
    ]
    .into_iter()
    .enumerate()
    {
        let (broken, good) = tokio::join!(Centre::start(cut), Centre::start("never"));
        let tables = [broken.table("broken", "secret08"), good.table("good", "secret08")];
        let world = World::start(&config(&tables)).await;
        let id = start(&world, &number(10 + u32::try_from(place).unwrap(), 0), "en").await;
        let story = ended(&world, &id, Duration::from_secs(40)).await;
        let first = story.iter().find(|event| event["provider"] == "broken").unwrap();
        assert_eq!(first["class"], class, "{cut}: {story:?}");
        let codes = |centre: &Centre| -> Vec<String> {
            centre.events("message").iter().map(|it| it["text"].to_string()).collect()
        };
        assert_eq!(codes(&broken).len(), sent, "{cut}");
        if class == "accepted" {
            assert!(codes(&good).is_empty(), "{cut}: taken once, and only once");
        } else {
            let end = end(&story);
            let well = end.as_deref().is_some_and(|end| ["sent", "delivered"].contains(&end));
            assert!(well, "{cut}: {story:?}");
            assert_eq!(codes(&good).len(), 1, "{cut}");
            assert!(codes(&broken).iter().all(|text| *text == codes(&good)[0]), "{cut}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_by_the_doctor_and_by_send_test() {
    let centre = Centre::start("never").await;
    let world = World::start(&config(&[centre.table("centre", "wrong")])).await;
    let run = |arguments: &'static [&'static str]| {
        let mut command = world.command(arguments);
        async move {
            let told =
                tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            (String::from_utf8_lossy(&told.stdout).into_owned(), told.status.success())
        }
    };
    let (told, fine) = run(&[
        "send-test",
        "--config",
        "countersign.toml",
        "--to",
        "+8613824000500",
        "--locale",
        "en",
    ])
    .await;
    assert!(!fine && told.contains("auth_failed") && told.contains("ESME_RINVPASWD"), "{told}");
    assert!(told.contains("copy password again"), "{told}");
    let (told, fine) = run(&["doctor", "--config", "countersign.toml"]).await;
    assert!(!fine && told.contains("ESME_RINVPASWD"), "{told}");
    let bound = centre.events("bind");
    assert!(!bound.is_empty(), "the server and send-test logged on, or tried to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_ones_client_sends_through_the_simulated_centre() {
    let port = free_port();
    let simulated = Simulated::start(port, &[]).await;
    let run = |password: &'static str| async move {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/esme.js");
        let mut command = tokio::process::Command::new("node");
        command.arg(script).arg(port.to_string()).args(["smpp1", password]).kill_on_drop(true);
        command.env("NODE_PATH", package().join("node_modules"));
        let ended = tokio::time::timeout(Duration::from_mins(1), command.output()).await;
        let told = ended.expect("the client comes to an end").unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let receipt = |from: &str| json!({"state": 2, "from": from, "stat": "DELIVRD"});
    let expected = [
        json!({"event": "early", "status": 0x04}),
        json!({"event": "bind", "status": 0, "as": "SIMULATOR"}),
        json!({"event": "enquire_link", "status": 0}),
        json!({"event": "sent", "status": 0, "receipt": receipt("8613800138001")}),
        json!({"event": "sent", "status": 0, "receipt": receipt("8613800138002")}),
        json!({"event": "wrong", "status": 0x0b}),
        json!({"event": "query", "status": 0x03}),
        json!({"event": "unbind", "status": 0}),
    ];
    assert_eq!(run("secret08").await, expected);
    for (phone, code) in [("+8613800138001", "482913"), ("+8613800138002", "004217")] {
        let message = simulated.message(phone).await;
        assert_eq!((&message["code"], &message["provider"]), (&json!(code), &json!("smpp")));
    }
    let refused = run("wrong").await;
    assert_eq!(refused[1]["status"], 0x0e, "{refused:?}");
}
