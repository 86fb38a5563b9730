//! P7 and P8: a provider that is dead in one way or another, seen through a proxy that breaks the
//! connection, and another one beside it.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::recorder::{Recorder, config, end, ended, table, timeline};
use crate::world::{World, free_port, mobile};

/// What a proxy does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing: it passes everything on.
    None,
    /// Nobody listens.
    Refuse,
    /// The request is passed on; of the answer only the head comes back, then a reset.
    ResetAfterHead,
    /// The request is passed on; no answer comes back.
    Swallow,
    /// The answer comes back a byte at a time, and not in time.
    Drip,
    /// The handshake of TLS is broken off.
    TlsAbort,
}

/// A proxy in front of a provider.
struct Proxy {
    port: u16,
    fault: Arc<Mutex<Fault>>,
    /// Requests that send a message and came through here.
    sends: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Proxy {
    fn start(upstream: u16, fault: Fault) -> Self {
        let port = free_port();
        let (fault, sends) = (Arc::new(Mutex::new(fault)), Arc::new(AtomicUsize::new(0)));
        let (broken, seen) = (Arc::clone(&fault), Arc::clone(&sends));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                if *broken.lock().unwrap() == Fault::Refuse {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                while *broken.lock().unwrap() != Fault::Refuse {
                    let wait = Duration::from_millis(50);
                    let accepted = tokio::time::timeout(wait, listener.accept()).await;
                    let Ok(Ok((stream, _))) = accepted else { continue };
                    let (broken, seen) = (Arc::clone(&broken), Arc::clone(&seen));
                    connections.spawn(async move {
                        let _ = converse(stream, upstream, &broken, &seen).await;
                    });
                }
            }
        });
        Self { port, fault, sends, _serving: serving }
    }

    fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    fn table(&self, name: &str) -> String {
        let text = table(name, self.port);
        let tls = *self.fault.lock().unwrap() == Fault::TlsAbort;
        if tls { text.replace("http://", "https://") } else { text }
    }
}

/// One request and its answer, with `Connection: close` made of it by ending after one.
async fn converse(
    mut stream: TcpStream,
    upstream: u16,
    fault: &Mutex<Fault>,
    sends: &AtomicUsize,
) -> io::Result<()> {
    let request = whole(&mut stream).await?;
    if request.starts_with(b"POST") && request.windows(11).any(|it| it == b"TemplateSMS") {
        sends.fetch_add(1, Ordering::SeqCst);
    }
    let fault = *fault.lock().unwrap();
    if fault == Fault::TlsAbort {
        return Ok(());
    }
    let mut up = TcpStream::connect(("127.0.0.1", upstream)).await?;
    up.write_all(&request).await?;
    let answer = whole(&mut up).await?;
    match fault {
        Fault::None => stream.write_all(&answer).await,
        Fault::ResetAfterHead => {
            let head = answer.windows(4).position(|it| it == b"\r\n\r\n").map_or(0, |at| at + 4);
            stream.write_all(&answer[..head]).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.set_zero_linger()
        }
        Fault::Drip => {
            for byte in answer {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        }
        _ => std::future::pending().await,
    }
}

/// A message of HTTP, by its content length; what is none (a handshake) as it comes first.
async fn whole(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 8192];
        let length = stream.read(&mut chunk).await?;
        bytes.extend_from_slice(&chunk[..length]);
        if length == 0 || !bytes.first().is_some_and(u8::is_ascii_uppercase) {
            return Ok(bytes);
        }
        let Some(head) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let length = text.split("content-length:").nth(1);
        let length = length.and_then(|rest| rest.lines().next()?.trim().parse::<usize>().ok());
        if bytes.len() - head - 4 >= length.unwrap_or(0) {
            return Ok(bytes);
        }
    }
}

/// From acceptance until a provider took the message, in milliseconds.
fn took(events: &[Value]) -> i64 {
    let at = |word: &str| {
        let event = events.iter().find(|event| event["event"] == word);
        let event = event.unwrap_or_else(|| panic!("no {word} in {events:?}"));
        event["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
    };
    at("message_sent") - at("message_accepted")
}

/// The median and the 99th percentile (nearest rank).
fn percentiles(mut times: Vec<i64>) -> (i64, i64) {
    times.sort_unstable();
    let rank = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
    (rank(50), rank(99))
}

/// Starts these messages without waiting for any to be sent, and tells the stories of all when
/// they are over.
async fn stories(world: &World, numbers: std::ops::Range<u32>, series: u32) -> Vec<Vec<Value>> {
    let mut ids = Vec::new();
    for number in numbers {
        let started = world.start_verification(&mobile(series, number)).await;
        ids.push(started["id"].as_str().unwrap().to_owned());
    }
    let mut stories = Vec::new();
    for id in ids {
        stories.push(ended(world, &id, Duration::from_mins(1)).await);
    }
    stories
}

async fn a_dead_provider_costs_little(fault: Fault, series: u32) -> String {
    let (first, second) = (Recorder::start(0).await, Recorder::start(0).await);
    let proxy = Proxy::start(first.port(), fault);
    let world = World::start(&config(&[proxy.table("first"), second.table("second")])).await;

    let before = stories(&world, 0..100, series).await;
    let times: Vec<_> = before.iter().map(|events| took(events)).collect();
    let (p50, p99) = percentiles(times);
    assert!(p99 <= 6_000, "{fault:?}: first calls: p50 {p50} ms, p99 {p99} ms");
    let opened = proxy.sends.load(Ordering::SeqCst);

    let after = stories(&world, 100..200, series).await;
    let times: Vec<_> = after.iter().map(|events| took(events)).collect();
    let (p50_open, p99_open) = percentiles(times);
    assert!(p99_open <= 1_500, "{fault:?}: left out: p50 {p50_open} ms, p99 {p99_open} ms");
    let told = "first is left out: ";
    let explained = after.iter().filter(|events| {
        let mut notes = events.iter().filter_map(|event| event["note"].as_str());
        notes.any(|note| note.starts_with(told))
    });
    assert!(explained.count() >= 98, "{fault:?}: the timeline says why: {:?}", after[0]);
    let metrics = world.get("/metrics").send().await.unwrap().text().await.unwrap();
    let gauge = "countersign_breaker_open{provider=\"first\",country=\"CN\"} 1";
    assert!(metrics.contains(gauge), "{metrics}");

    assert_at_most_two(&first, &second, fault, series);
    let closes = if fault == Fault::TlsAbort {
        "—".to_owned() // it stays what it is: the base URL says https
    } else {
        let healed = Instant::now();
        proxy.set(Fault::None);
        let known = first.calls().len();
        for number in 200.. {
            world.start_verification(&mobile(series, number)).await;
            tokio::time::sleep(Duration::from_millis(250)).await;
            if first.calls().len() > known + 1 {
                break;
            }
            assert!(healed.elapsed() < Duration::from_secs(45), "{fault:?}: it stays left out");
        }
        format!("{:.1} s", healed.elapsed().as_secs_f64())
    };
    format!("| {fault:?} | {p50} | {p99} | {opened} | {p50_open} | {p99_open} | {closes} |")
}

/// P7: a number gets one message, and two only after an unknown outcome, with the same code.
fn assert_at_most_two(first: &Recorder, second: &Recorder, fault: Fault, series: u32) {
    let unknown = !matches!(fault, Fault::Refuse | Fault::TlsAbort);
    let mut twice = 0;
    for number in 0..200 {
        let phone = mobile(series, number);
        let calls = [first.calls_for(&phone), second.calls_for(&phone)].concat();
        let taken: Vec<_> = calls.iter().filter(|call| call.taken).collect();
        assert!((1..=2).contains(&taken.len()), "{fault:?}: {calls:?}");
        assert!(taken.len() == 1 || unknown, "{fault:?}: nothing was unknown, and two went out");
        assert!(taken.iter().all(|call| call.datas == taken[0].datas), "one code: {taken:?}");
        twice += usize::from(taken.len() == 2);
    }
    assert!(twice > 0 || !unknown, "{fault:?}: the first one takes, and its answer is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_provider_costs_six_seconds_at_first_and_little_once_it_is_left_out() {
    let faults =
        [Fault::Refuse, Fault::ResetAfterHead, Fault::Swallow, Fault::Drip, Fault::TlsAbort];
    let mut all = JoinSet::new();
    for (place, fault) in (0..).zip(faults) {
        all.spawn(a_dead_provider_costs_little(fault, 300 + place));
    }
    println!("| fault | p50 ms | p99 ms | calls | p50 ms, left out | p99 ms | closed after |");
    while let Some(ended) = all.join_next().await {
        println!("{}", ended.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_calls_in_a_row_without_an_answer_leave_a_provider_out() {
    let (first, second) = (Recorder::start(0).await, Recorder::start(0).await);
    let proxy = Proxy::start(first.port(), Fault::Refuse);
    let world = World::start(&config(&[proxy.table("first"), second.table("second")])).await;
    let mut asked = 0;
    for number in 0..10 {
        let events = stories(&world, number..number + 1, 310).await.remove(0);
        assert_eq!(end(&events).as_deref(), Some("sent"));
        asked += events.iter().filter(|event| event["provider"] == "first").count();
    }
    assert_eq!(asked, 3, "the first three messages ask it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_dead_providers_a_message_expires_and_nobody_is_called_late() {
    let recorder = Recorder::start(0).await;
    let (first, second) = (
        Proxy::start(recorder.port(), Fault::TlsAbort),
        Proxy::start(recorder.port(), Fault::Refuse),
    );
    let short = config(&[first.table("first"), second.table("second")]);
    let world = World::start(&format!("{short}[code]\nttl_seconds = 60\n")).await;
    let began = Instant::now();
    let started = world.start_verification(&mobile(311, 0)).await;
    let id = started["id"].as_str().unwrap();
    let events = ended(&world, id, Duration::from_secs(45)).await;
    assert_eq!(end(&events).as_deref(), Some("expired"), "{events:?}");
    let deadline = Duration::from_secs(30); // of a code that lives a minute
    assert!(began.elapsed() < deadline + Duration::from_secs(6), "{:?}", began.elapsed());
    let accepted = events.iter().find(|event| event["event"] == "message_accepted").unwrap();
    let at = |event: &Value| event["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let asked = events.iter().filter(|event| event["event"] == "provider_answered");
    for event in asked.clone() {
        let after = at(event).as_millisecond() - at(accepted).as_millisecond();
        assert!(after < 30_000, "called {after} ms after acceptance: {events:?}");
    }
    assert!(asked.count() >= 6, "they were asked again: {events:?}");
    let tries = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("countersign_tries_total"));
        // In no order of their own.
        lines.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let metrics = || async { world.get("/metrics").send().await.unwrap().text().await.unwrap() };
    let then = tries(&metrics().await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(tries(&metrics().await), then, "no call comes late");
    assert!(recorder.calls().is_empty());
    // Nothing was sent, so the gap was given back.
    world.start_verification(&mobile(311, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resend_goes_through_another_provider_and_says_so() {
    let (first, second) = (Recorder::start(0).await, Recorder::start(0).await);
    let tables = [first.table("first"), second.table("second")];
    let short = config(&tables).replace("[limits]\n", "[limits]\nphone_gap_seconds = 30\n");
    let world = World::start(&short).await;
    let phone = mobile(312, 0);
    let started = world.start_verification(&phone).await;
    let id = started["id"].as_str().unwrap();
    ended(&world, id, Duration::from_secs(5)).await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    let path = format!("/v1/verifications/{id}/resend");
    let again = world.post("sk_shop_secret", &path, &Value::Null).send().await.unwrap();
    assert_eq!(again.status(), reqwest::StatusCode::OK);
    for _ in 0..200 {
        if !second.calls_for(&phone).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((first.calls_for(&phone).len(), second.calls_for(&phone).len()), (1, 1));
    let events = timeline(&world, id).await;
    let notes: Vec<_> = events.iter().filter_map(|event| event["note"].as_str()).collect();
    assert_eq!(notes, ["first carried an earlier message of this verification"]);
}
