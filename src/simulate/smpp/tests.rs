//! The recorded client's messages, and our own client against the centre.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::submit::{self, Submitted, Wanted};
use crate::clock::Clock;
use crate::providers::kind::{Given, Parts, kind};
use crate::providers::smpp::pdu::Pdu;
use crate::providers::stub::{Certificate, a_message};
use crate::providers::{Class, Outcome, Provider, Receipt, transport};
use crate::simulate::control::{Script, Scripted, ScriptedReceipt};
use crate::simulate::{Settings, Simulator};

const VECTORS: &str = include_str!("../../../tests/vectors/smpp.json");

fn pdu(hex: &Value) -> Pdu {
    let mut bytes = hex::decode(hex.as_str().unwrap()).unwrap();
    Pdu::cut(&mut bytes).unwrap().unwrap()
}

fn read(set: &str, body: &[u8]) -> Result<Submitted, u32> {
    let mut settings = Settings::default();
    settings.set(set).unwrap();
    submit::read(&settings.accounts["smpp"], body)
}

#[test]
fn every_message_of_the_recorded_client_is_understood() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let mut texts = 0;
    for case in vectors["cases"].as_array().unwrap() {
        let sent = case["pdus"].as_array().unwrap().iter();
        let sent = sent.filter(|it| it["command"] == "submit_sm");
        let read = |it: &Value| read("smpp.source=Acme", &pdu(&it["hex"]).body).unwrap();
        let parts: Vec<_> = sent.map(read).collect();
        let text: String = parts.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(text, case["inputs"]["text"], "{}", case["name"]);
        assert_eq!(parts[0].written, case["inputs"]["to"].as_str().unwrap());
        assert_eq!((parts[0].receipt, parts.len() > 1), (Wanted::Any, parts[0].part.is_some()));
        texts += 1;
    }
    assert_eq!(texts, 9);
}

#[test]
fn each_field_that_is_wrong_has_its_status() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let good = pdu(&vectors["cases"][0]["pdus"][0]["hex"]).body;
    // service_type, 5 0 "Acme", 1 1 "15558675310", class, protocol, priority, "", "", receipt,
    // replace, coding, default, length, text
    let status = |at: usize, bytes: &[u8], gone: usize| {
        let body = [&good[..at], bytes, &good[at + gone..]].concat();
        read("smpp.source=Acme", &body).map(|it| it.text)
    };
    assert!(status(0, &[], 0).is_ok());
    let to = 3 + 5 + 2;
    let class = to + 12;
    for (what, expected, told) in [
        ("service type", 0x15, status(0, b"longer", 0)),
        ("sender's type", 0x48, status(1, &[1], 1)),
        ("sender", 0x0a, status(3, b"Evil", 4)),
        ("number's type", 0x50, status(to - 2, &[2], 1)),
        ("number's plan", 0x51, status(to - 1, &[8], 1)),
        ("number", 0x0b, status(to, b"+", 1)),
        ("short number", 0x0b, status(to, b"", 7)),
        ("class", 0x43, status(class, &[3], 1)),
        ("header that is none", 0x43, status(class, &[0x40], 1)),
        ("priority", 0x06, status(class + 2, &[4], 1)),
        ("time to send at", 0x61, status(class + 3, b"x", 0)),
        ("time to give up at", 0x62, status(class + 4, b"x", 0)),
        ("receipt", 0x07, status(class + 5, &[3], 1)),
        ("coding", 0x01, status(class + 7, &[4], 1)),
        ("length", 0x01, status(class + 9, &[21], 1)),
        ("bytes behind", 0xc0, status(good.len(), &[0, 5, 0], 0)),
        ("nothing", 0x02, read("smpp.source=", &[]).map(|it| it.text)),
    ] {
        assert_eq!(told, Err(expected), "{what}");
    }
    assert_eq!(read("smpp.source=Other", &good).map(|it| it.text), Err(0x0a));
    for (octets, coding, fits) in
        [(160, 0, true), (161, 0, false), (140, 8, true), (142, 8, false), (139, 8, false)]
    {
        let head = [&good[..class + 7], &[coding, 0, octets]].concat();
        let body = [head, vec![0x20; usize::from(octets)]].concat();
        assert_eq!(read("smpp.source=Acme", &body).is_ok(), fits, "{octets} {coding}");
    }
}

/// A centre with these settings, and our own client for it.
struct World {
    simulator: Arc<Simulator>,
    url: String,
    table: toml::Table,
    stop: CancellationToken,
}

impl World {
    async fn start(set: &[&str]) -> Self {
        let mut settings = Settings::default();
        for assignment in set {
            settings.set(assignment).unwrap();
        }
        Self::with(settings).await
    }

    #[expect(clippy::disallowed_methods, reason = "the simulator ends with the test's runtime")]
    async fn with(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let tables: toml::Table = settings.tables(&url).parse().unwrap();
        let tables = tables["providers"].as_array().unwrap().iter();
        let mut tables = tables.filter(|it| it["kind"].as_str() == Some("smpp"));
        let mut table = tables.next().unwrap().as_table().unwrap().clone();
        table.remove("kind");
        let (simulator, stop) =
            (Simulator::new(settings, Clock::machine()), CancellationToken::new());
        let client = transport::client().unwrap();
        tokio::spawn(Arc::clone(&simulator).serve(listener, client, stop.clone()));
        Self { simulator, url, table, stop }
    }

    fn provider(&self, change: &[(&str, toml::Value)]) -> Arc<dyn Provider> {
        let mut table = self.table.clone();
        for (name, value) in change {
            table.insert((*name).to_owned(), value.clone());
        }
        let maker = (kind("smpp").unwrap().read)(Given { table, code_digits: 6 }).unwrap();
        maker(&Parts {
            client: transport::client().unwrap(),
            clock: Clock::machine(),
            simulator: Arc::default(),
            receipts_url: None,
        })
    }

    fn script(&self, answer: Scripted, script: Script) {
        self.simulator.desk.set_script(Script { answer, ..script });
    }
}

async fn receipts(provider: &Arc<dyn Provider>) -> Vec<Receipt> {
    for _ in 0..500 {
        let receipts = provider.pull_receipts().await.unwrap();
        if !receipts.is_empty() {
            return receipts;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no receipt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_client_sends_and_gets_its_receipts_and_http_is_on_the_same_port() {
    for ids in ["same", "decimal"] {
        let world = World::start(&[&format!("smpp.receipt_ids={ids}")]).await;
        let provider = world.provider(&[]);
        let sent = provider.send(&a_message()).await;
        assert_eq!(sent.class, Class::Accepted);
        let told = receipts(&provider).await.remove(0);
        assert_eq!((told.about, told.arrived), (a_message().reference.into(), true), "{ids}");
        assert_eq!(Some(told.message_id), sent.message_id);
        let inbox = world.simulator.desk.inbox(None, 10);
        assert_eq!((inbox.len(), inbox[0].order.text.clone()), (1, a_message().text));
        assert_eq!(inbox[0].order.code, a_message().code.digits());
        let client = transport::client().unwrap();
        let shown = client.get(format!("{}/dev/messages", world.url)).send().await.unwrap();
        assert!(shown.text().await.unwrap().contains("\"provider\":\"smpp\""));
        provider.close().await;
        world.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_several_parts_is_one_in_the_inbox() {
    let world = World::start(&[]).await;
    let provider = world.provider(&[]);
    let long =
        crate::providers::Message { text: "您的验证码是004217。".repeat(12), ..a_message() };
    assert_eq!(provider.send(&long).await.class, Class::Accepted);
    assert!(receipts(&provider).await[0].arrived, "of all its parts");
    let inbox = world.simulator.desk.inbox(None, 10);
    assert_eq!((inbox.len(), &inbox[0].order.text), (1, &long.text));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_wait_for_somebody_who_is_bound() {
    let world = World::start(&[]).await;
    let first = world.provider(&[]);
    let late = Script {
        receipt: ScriptedReceipt::Failed,
        receipt_code: "027".to_owned(),
        receipt_after_ms: 300,
        ..Script::default()
    };
    world.script(Scripted::Accept, late);
    let sent = first.send(&a_message()).await;
    first.close().await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let next = world.provider(&[]);
    let told = receipts(&next).await.remove(0);
    let about = crate::providers::About::Phone(a_message().phone);
    assert_eq!((told.about, told.arrived), (about, false), "it did not send it");
    assert_eq!((Some(told.message_id), &*told.vendor_code), (sent.message_id, "UNDELIV:027"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_refuses_slows_and_breaks_as_it_does_over_http() {
    let plain = Script::default;
    let code = |code: &str| Script { code: code.to_owned(), ..plain() };
    let broken = Outcome::of(Class::UnknownOutcome, "broken-off");
    let timeout = Outcome::of(Class::UnknownOutcome, "timeout");
    for (answer, script, expected) in [
        (Scripted::Refuse, code("0x58"), Outcome::of(Class::RateLimitedAccount, "0x58")),
        (Scripted::Refuse, code("0x0b"), Outcome::of(Class::InvalidNumber, "0x0b")),
        (Scripted::Error, plain(), Outcome::of(Class::ProviderError, "0x08")),
        (Scripted::Close, Script { delivers: true, ..plain() }, broken),
        (Scripted::Silence, plain(), timeout.clone()),
        (Scripted::HalfOpen, plain(), timeout),
    ] {
        let world = World::start(&[]).await;
        let delivers = usize::from(script.delivers);
        world.script(answer, script);
        let provider = world.provider(&[]);
        assert_eq!(provider.send(&a_message()).await, expected, "{answer:?}");
        assert_eq!(world.simulator.desk.inbox(None, 10).len(), delivers, "{answer:?}");
    }
    let world = World::start(&[]).await;
    world.script(Scripted::Accept, Script { latency_ms: 200, ..plain() });
    let provider = world.provider(&[]);
    let began = tokio::time::Instant::now();
    assert_eq!(provider.send(&a_message()).await.class, Class::Accepted);
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_on_window_and_speed_are_the_accounts() {
    let world = World::start(&[]).await;
    for (name, value, status) in [
        ("password", "wrong", "0x0e"),
        ("system_id", "other", "0x0f"),
        ("system_id", "smpp1@!", "0x0f"),
    ] {
        let wrong = world.provider(&[(name, value.into())]);
        let told = wrong.try_credentials().await.unwrap_err();
        assert_eq!(told, Outcome::of(Class::AuthFailed, status), "{name}");
        assert_eq!(wrong.send(&a_message()).await, told, "{name}");
    }
    let provider = world.provider(&[("system_id", "smpp1@second".into())]);
    assert_eq!(provider.try_credentials().await, Ok(true));
    assert_eq!(provider.send(&a_message()).await.class, Class::Accepted);
    assert_eq!(world.simulator.desk.inbox(None, 1)[0].provider, "second");
    for none in ["smpp.rate=0", "smpp.window=0"] {
        let world = World::start(&[none]).await;
        let told = world.provider(&[]).send(&a_message()).await;
        assert_eq!(told, Outcome::of(Class::RateLimitedAccount, "0x58"), "{none}");
        assert!(world.simulator.desk.inbox(None, 1).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_it_is_the_same_and_in_clear_it_stays() {
    let certificate = Certificate::new();
    let read = |path: &str| std::fs::read(path).unwrap();
    let mut settings = Settings::default();
    settings.set_tls(&read(&certificate.cert), &read(&certificate.key)).unwrap();
    let world = World::with(settings).await;
    let url = world.table["base_url"].as_str().unwrap();
    assert!(url.starts_with("smpps://"), "{url}");
    let provider = world.provider(&[("ca_file", certificate.cert.clone().into())]);
    assert_eq!(provider.try_credentials().await, Ok(true));
    let sent = provider.send(&a_message()).await;
    assert_eq!(sent.class, Class::Accepted);
    let told = receipts(&provider).await.remove(0);
    assert_eq!((Some(told.message_id), told.arrived), (sent.message_id, true));
    provider.close().await;
    let stranger = world.provider(&[]);
    let refused = Outcome::of(Class::NotSent, "no-tls");
    assert_eq!(stranger.send(&a_message()).await, refused, "its authority is not known");
    assert_eq!(world.simulator.desk.inbox(None, 10).len(), 1);
    let clear = world.provider(&[("base_url", url.replace("smpps", "smpp").into())]);
    assert_eq!(clear.send(&a_message()).await.class, Class::Accepted);
    let client = transport::client().unwrap();
    let shown = client.get(format!("{}/dev/messages", world.url)).send().await.unwrap();
    assert_eq!(shown.status(), 200, "and HTTP");
}

#[test]
fn a_certificate_that_cannot_be_used_is_told() {
    let [one, other] = [Certificate::new(), Certificate::new()];
    let read = |path: &str| std::fs::read(path).unwrap();
    let mut settings = Settings::default();
    for (cert, key, told) in [
        (read(&one.key), read(&one.key), "no certificate"),
        (read(&one.cert), read(&one.cert), "the key is no PEM"),
        (read(&one.cert), read(&other.key), "do not go together"),
        (Vec::new(), read(&one.key), "no certificate"),
    ] {
        let wrong = settings.set_tls(&cert, &key).unwrap_err().to_string();
        assert!(wrong.contains(told), "{wrong}");
        assert!(settings.tls.is_none());
    }
}
