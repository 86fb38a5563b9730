//! `countersign simulate`: every kind of provider sends through it, and so do the vendors' own
//! clients.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::recorder;
use crate::world::{World, body, free_port};

/// A simulator of our own, ended by its process id.
pub(crate) struct Simulated {
    pub(crate) url: String,
    client: reqwest::Client,
    child: Child,
}

impl Simulated {
    /// Starts one on this port with these arguments.
    pub(crate) async fn start(port: u16, arguments: &[&str]) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        let listen = format!("127.0.0.1:{port}");
        command.args(["simulate", "--listen", &listen]).args(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let simulated = Self { url: format!("http://{listen}"), client, child };
        for _ in 0..1000 {
            if simulated.client.get(format!("{}/dev/messages", simulated.url)).send().await.is_ok()
            {
                return simulated;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the simulator does not answer");
    }

    /// The newest message to a phone (E.164), as soon as there is one.
    pub(crate) async fn message(&self, phone: &str) -> Value {
        let url = format!("{}/dev/messages?phone={}", self.url, phone.replace('+', "%2B"));
        for _ in 0..500 {
            let found = body(self.client.get(&url).send().await.unwrap()).await;
            if let Some(message) = found.as_array().and_then(|found| found.first()) {
                return message.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no message for {phone}");
    }

    /// Puts a script in force.
    pub(crate) async fn script(&self, script: &Value) -> StatusCode {
        let url = format!("{}/dev/simulator", self.url);
        self.client.put(url).json(script).send().await.unwrap().status()
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The `[[providers]]` tables that the command prints, each by itself, with its name.
fn tables(port: u16) -> Vec<(String, String)> {
    let printed = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["simulate", "--print-config", "--listen", &format!("127.0.0.1:{port}")])
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let tables = printed.split("[[providers]]").skip(1);
    let name = |table: &str| table.split('"').nth(1).unwrap().to_owned();
    tables.map(|table| (name(table), format!("[[providers]]{table}"))).collect()
}

/// From a start to the receipt in the timeline, through one provider.
async fn carried(name: &str, table: &str, port: u16, number: usize) {
    let config = recorder::config(&[table.to_owned()]);
    let world = World::start(&config).await;
    let addresses = world.command(&["keys", "--config", "countersign.toml", "receipts"]).output();
    let addresses = String::from_utf8(addresses.unwrap().stdout).unwrap();
    let kind = name.split('-').next().unwrap();
    let push = format!("{kind}={}", addresses.trim());
    let pushes = ["vonage", "webhook", "huawei"].contains(&kind);
    let arguments = if pushes { vec!["--push", push.as_str()] } else { Vec::new() };
    let simulated = Simulated::start(port, &arguments).await;

    let phone = format!("+861380013{number:04}");
    let started = world.start_verification(&phone).await;
    let id = started["id"].as_str().unwrap();
    let message = simulated.message(&phone).await;
    assert_eq!(message["provider"], kind, "{name}");
    assert!(message["text"].as_str().unwrap().contains(message["code"].as_str().unwrap()));
    let path = format!("/v1/verifications/{id}/check");
    let check = world.post("sk_shop_secret", &path, &json!({"code": message["code"]}));
    let checked = check.send().await.unwrap();
    assert_eq!(checked.status(), StatusCode::OK, "{name}: {message}");
    if ["twilio-verify", "aws", "aws-sns"].contains(&name) {
        return; // no receipts there
    }
    for _ in 0..300 {
        let events = recorder::timeline(&world, id).await;
        if events.iter().any(|event| event["event"] == "message_delivered") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{name}: no receipt: {:?}\n{}", recorder::timeline(&world, id).await, world.log());
}

#[tokio::test]
async fn every_kind_of_provider_carries_a_message_through_the_simulator() {
    let names: Vec<_> = tables(1).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "yuntongxun",
        "aliyun",
        "tencent",
        "huawei",
        "huawei-wsse",
        "twilio",
        "twilio-verify",
        "vonage",
        "plivo",
        "aws",
        "aws-sns",
        "smpp",
        "webhook",
    ];
    assert_eq!(names, expected);
    let mut all = tokio::task::JoinSet::new();
    for (number, name) in names.into_iter().enumerate() {
        // Each has two processes of its own, and disks have their limits.
        if all.len() == 4 {
            all.join_next().await.unwrap().unwrap();
        }
        let port = free_port();
        let (_, table) = tables(port).into_iter().find(|(known, _)| *known == name).unwrap();
        all.spawn(async move { carried(&name, &table, port, number).await });
    }
    while let Some(ended) = all.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn a_script_makes_the_simulator_refuse_fall_silent_or_break_off() {
    let port = free_port();
    let simulated = Simulated::start(port, &["--no-number-limits"]).await;
    let (_, table) = tables(port).remove(0);
    let world = World::start(&recorder::config(&[table])).await;
    let send_test = |phone: &str| {
        let arguments = ["send-test", "--config", "countersign.toml", "--to", phone];
        let told = world.command(&arguments).output().unwrap();
        String::from_utf8(told.stdout).unwrap()
    };
    for (script, told) in [
        (json!({"answer": "refuse", "code": "160038"}), "rate_limited_number"),
        (json!({"answer": "refuse", "code": "111142"}), "balance_exhausted"),
        (json!({"answer": "close"}), "broken-off"),
        (json!({"answer": "half_open", "delivers": true}), "timeout"),
        (json!({"answer": "silence"}), "timeout"),
        (json!({"answer": "error"}), "http-500"),
        (json!({"latency_ms": 200}), "accepted"),
    ] {
        assert_eq!(simulated.script(&script).await, StatusCode::OK, "{script}");
        let said = send_test("+8613800138000");
        assert!(said.contains(told), "{script}: {said}");
    }
    let wrong = json!({"answer": "refuse"});
    assert_eq!(simulated.script(&wrong).await, StatusCode::UNPROCESSABLE_ENTITY, "no code");
    let page = simulated.client.get(format!("{}/dev/", simulated.url)).send().await.unwrap();
    assert!(page.text().await.unwrap().contains("inbox.js"));
}

/// What a command says.
fn said(world: &World, arguments: &[&str]) -> String {
    let said = world.command(arguments).output().unwrap();
    String::from_utf8(said.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_test_says_of_every_kind_what_a_refusal_means_and_what_to_do() {
    let port = free_port();
    let simulated = Simulated::start(port, &["--no-number-limits"]).await;
    let all: Vec<_> = tables(port).into_iter().map(|(_, table)| table).collect();
    let world = World::start(&recorder::config(&all)).await;
    let refusals = [
        ("yuntongxun", "111142", "balance_exhausted", "top up"),
        ("aliyun", "isv.SMS_TEMPLATE_ILLEGAL", "template_rejected", "template_code"),
        ("tencent", "UnauthorizedOperation.SmsSdkAppIdVerifyFail", "auth_failed", "sdk_app_id"),
        ("huawei", "E000620", "auth_failed", "IP"),
        ("huawei-wsse", "E200018", "template_rejected", "from"),
        ("twilio", "21408", "unsupported_destination", "Geo permissions"),
        ("twilio-verify", "60203", "rate_limited_number", "60203: "),
        ("vonage", "29", "account_disabled", "test numbers"),
        ("plivo", "403", "unsupported_destination", "Geo permissions"),
        ("aws", "ServiceQuotaExceededException", "quota_exhausted", "spend limit"),
        ("aws-sns", "AuthorizationError", "auth_failed", "sns:Publish"),
        ("smpp", "0x0b", "invalid_number", "0x0b: "),
        ("webhook", "account_disabled", "account_disabled", ""),
    ];
    let names: Vec<_> = tables(port).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, refusals.map(|(name, ..)| name));
    for (name, code, class, told) in refusals {
        let script = json!({"answer": "refuse", "code": code});
        assert_eq!(simulated.script(&script).await, StatusCode::OK, "{script}");
        let to = ["--to", "+8613800138000", "--provider", name];
        let said =
            said(&world, &[&["send-test", "--config", "countersign.toml"][..], &to].concat());
        assert!(said.contains(&format!("answer   {class} (code ")), "{name}: {said}");
        let advice = said.lines().find(|line| line.starts_with("  advice   "));
        assert!(advice.is_some_and(|line| line.len() > 25), "{name}: {said}");
        let vendor = said.lines().find(|line| line.starts_with("  vendor   "));
        assert!(told.is_empty() || vendor.is_some_and(|it| it.contains(told)), "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_says_of_every_kind_that_its_credentials_are_not_known() {
    let port = free_port();
    let secrets = [
        "aliyun.access_key_secret",
        "tencent.secret_key",
        "huawei.app_secret",
        "twilio.auth_token",
        "vonage.api_secret",
        "plivo.auth_token",
        "aws.secret_access_key",
        "smpp.password",
    ];
    let set: Vec<_> = secrets.iter().map(|secret| format!("{secret}=another")).collect();
    let set: Vec<_> = set.iter().flat_map(|set| ["--set", set]).collect();
    let _simulated = Simulated::start(port, &set).await;
    let all = tables(port);
    let config: Vec<_> = all.iter().map(|(_, table)| table.clone()).collect();
    let world = World::start(&recorder::config(&config)).await;
    let told = said(&world, &["doctor", "--config", "countersign.toml"]);
    for (name, _) in all {
        let expected = match name.as_str() {
            // Only asking for receipts would tell, and a running server does that.
            "yuntongxun" => format!("warn  provider {name}: not asked"),
            // It is only tried whether somebody is there.
            "webhook" => format!("ok    provider {name}: it knows the credentials"),
            _ => format!("FAIL  provider {name}: auth_failed — check the account id"),
        };
        assert!(told.contains(&expected), "{expected} is not in\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_comes_to_a_server_that_did_not_send_the_message() {
    let port = free_port();
    let simulated = Simulated::start(port, &["--set", "smpp.receipt_ids=decimal"]).await;
    let script = json!({"provider": "smpp", "receipt_after_ms": 3000});
    assert_eq!(simulated.script(&script).await, StatusCode::OK);
    let (_, table) = tables(port).into_iter().find(|(name, _)| name == "smpp").unwrap();
    let mut world = World::start(&recorder::config(&[table])).await;
    let phone = "+8613800139000";
    let started = world.start_verification(phone).await;
    let id = started["id"].as_str().unwrap();
    recorder::ended(&world, id, Duration::from_secs(20)).await;
    // Nothing of it is left in anybody's memory.
    world.kill();
    world.restart().await;
    for _ in 0..600 {
        let events = recorder::timeline(&world, id).await;
        if events.iter().any(|event| event["event"] == "message_delivered") {
            let taken = events.iter().filter(|event| event["class"] == "accepted");
            assert_eq!(taken.count(), 2, "the answer and the receipt: {events:?}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no receipt: {:?}\n{}", recorder::timeline(&world, id).await, world.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_was_taken_without_an_answer_is_looked_up_and_not_sent_again() {
    let port = free_port();
    let simulated = Simulated::start(port, &[]).await;
    for (number, name) in ["aliyun", "tencent", "twilio"].into_iter().enumerate() {
        let (_, first) = tables(port).into_iter().find(|(known, _)| known == name).unwrap();
        let second = recorder::Recorder::start(0).await;
        let world = World::start(&recorder::config(&[first, second.table("second")])).await;
        let script = json!({"provider": name, "answer": "close", "delivers": true});
        assert_eq!(simulated.script(&script).await, StatusCode::OK);
        let phone = format!("+861380013910{number}");
        let started = world.start_verification(&phone).await;
        let id = started["id"].as_str().unwrap();
        let events = recorder::ended(&world, id, Duration::from_secs(30)).await;
        let classes: Vec<_> = events
            .iter()
            .filter(|event| event["provider"] == name)
            .map(|it| &it["class"])
            .collect();
        assert_eq!(classes[..2], ["unknown_outcome", "accepted"], "{name}: {events:?}");
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(second.calls().len(), 0, "{name}: {events:?}");
        simulated.message(&phone).await;
    }
}

/// A certificate for this machine that is its own authority, and its key.
fn certificate(folder: &Path) -> (String, String) {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let wanted = "[req]\ndistinguished_name = dn\nx509_extensions = v3\nprompt = no\n\
                  [dn]\nCN = centre\n\
                  [v3]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";
    std::fs::write(path("centre.cnf"), wanted).unwrap();
    let (cert, key) = (path("centre.pem"), path("centre.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-config", &path("centre.cnf"), "-keyout", &key, "-out", &cert])
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (cert, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smpp_over_tls_is_tried_without_an_account_and_a_stranger_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(folder.path());
    let port = free_port();
    let with_tls = ["--tls-cert", cert.as_str(), "--tls-key", key.as_str()];
    let simulated = Simulated::start(port, &with_tls).await;
    let (_, table) = tables(port).into_iter().find(|(name, _)| name == "smpp").unwrap();
    let table = table.replace("smpp://", "smpps://");
    let trusting = format!("{table}ca_file = {cert:?}\n");
    for (table, told) in [(&trusting, true), (&table, false)] {
        let world = World::start(&recorder::config(std::slice::from_ref(table))).await;
        let asked = |arguments: &[&str]| {
            let said = world.command(arguments).output().unwrap();
            String::from_utf8(said.stdout).unwrap()
        };
        let config = ["--config", "countersign.toml"];
        let doctor = asked(&[&["doctor"][..], &config].concat());
        let sent = asked(&[&["send-test"][..], &config, &["--to", "+8613800138000"]].concat());
        if told {
            assert!(doctor.contains("it knows the credentials"), "{doctor}");
            assert!(sent.contains("answer   accepted"), "{sent}");
        } else {
            for said in [doctor, sent] {
                assert!(said.contains("not_sent") && said.contains("certificate"), "{said}");
            }
        }
    }
    let message = simulated.message("+8613800138000").await;
    assert_eq!(message["provider"], "smpp", "{message}");
}

/// A Python with the vendors' own clients, made once for each list of versions.
fn sdks() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wanted = root.join("tests/it/sdks/requirements.txt");
    let (folder, list) = (root.join("target/tools/sdks"), std::fs::read(&wanted).unwrap());
    let (python, stamp) = (folder.join("bin/python"), folder.join("requirements.txt"));
    if std::fs::read(&stamp).is_ok_and(|installed| installed == list) {
        return python;
    }
    let run = |what: &str, command: &mut Command| {
        let ended = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.success(), "{what} (is PyPI reachable?): {said}");
    };
    run("python3 -m venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    run(
        "pip install of the vendors' clients",
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&wanted),
    );
    std::fs::write(&stamp, list).unwrap();
    python
}

#[tokio::test]
async fn the_vendors_own_clients_send_through_the_simulator() {
    let python = tokio::task::spawn_blocking(sdks).await.unwrap();
    let simulated = Simulated::start(free_port(), &[]).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/sdks/send.py");
    let mut command = tokio::process::Command::new(python);
    let ran = command.arg(script).arg(&simulated.url).output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<_> = lines.collect();
    let codes: Vec<_> = told.iter().map(|line| line["code"].as_str().unwrap_or("-")).collect();
    assert_eq!(codes, ["OK", "Ok", "queued", "approved"], "{out}\n{err}");
    for (number, provider) in ["aliyun", "tencent", "twilio", "twilio"].iter().enumerate() {
        let message = simulated.message(&format!("+861380013800{number}")).await;
        assert_eq!(message["provider"], **provider, "{message}");
        assert_eq!(message["code"], "482913", "{message}");
    }
}
