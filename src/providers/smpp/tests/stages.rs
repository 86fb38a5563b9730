//! Every stage of a session, and what becomes of a message when it breaks off there.

use std::time::Instant;

use tokio::task::JoinSet;

use super::centre::{Answer, Script, Seen, centre};
use super::tls::Over;
use super::*;
use crate::providers::stub::{Log, REFERENCE, a_message, message};

pub(super) const ARRIVED: &str = "id:{id} sub:001 dlvrd:001 stat:DELIVRD err:000 text:004217";

pub(super) fn provider(settings: Settings) -> Smpp {
    Smpp::new(Arc::new(settings))
}

pub(super) fn not_sent(what: &str) -> Outcome {
    Outcome::of(Class::NotSent, what)
}

pub(super) fn serve(answers: &[Answer]) -> Script {
    Script::Serve(answers.to_vec())
}

/// The receipts, as soon as there are some.
pub(super) async fn pulled(provider: &Smpp) -> Vec<Receipt> {
    for _ in 0..200 {
        let receipts = provider.pull_receipts().await.unwrap();
        if !receipts.is_empty() {
            return receipts;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no receipt");
}

/// Waits until this holds of what reached the centre.
async fn until(seen: &Mutex<Seen>, what: &str, holds: impl Fn(&Seen) -> bool) {
    for _ in 0..500 {
        if holds(&seen.lock().unwrap()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn whatever_breaks_off_before_a_message_is_written_was_not_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("smpp://{}", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(provider(settings(&closed)).send(&a_message()).await, not_sent("no-connection"));
    let garbage = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    let other = Pdu::request(pdu::ENQUIRE_LINK, 1, vec![]).bytes();
    let stages = [
        (Script::CloseAtOnce, not_sent("bind-broken-off")),
        (Script::CloseAtBind, not_sent("bind-broken-off")),
        (Script::SilentAtBind, not_sent("bind-timeout")),
        (Script::Bind(garbage), not_sent("bind-garbled")),
        (Script::Bind(other), not_sent("bind-timeout")),
        (Script::Refuse(0x0e), Outcome::of(Class::AuthFailed, "0x0e")),
        (Script::Refuse(0x0d), Outcome::of(Class::AuthFailed, "0x0d")),
        (Script::Refuse(0x05), Outcome::of(Class::ProviderError, "0x05")),
    ];
    for over in Over::both() {
        for (script, expected) in &stages {
            let (url, seen) = over.centre(vec![script.clone()]).await;
            let provider = provider(over.settings(&url));
            assert_eq!(provider.send(&a_message()).await, *expected, "{url} {script:?}");
            let tried = provider.try_credentials().await;
            assert_eq!(tried.as_ref(), Err(expected), "{url} {script:?}");
            assert_eq!(seen.lock().unwrap().count(pdu::SUBMIT_SM), 0, "{url} {script:?}");
        }
    }
}

#[tokio::test]
async fn whatever_breaks_off_after_it_leaves_the_outcome_unknown_and_nothing_is_repeated() {
    for over in Over::both() {
        for answer in [Answer::Close, Answer::Half, Answer::Garbage] {
            let scripts = vec![serve(std::slice::from_ref(&answer)), serve(&[Answer::Take])];
            let (url, seen) = over.centre(scripts).await;
            let provider = provider(over.settings(&url));
            let outcome = provider.send(&a_message()).await;
            assert_eq!(outcome, wire::unknown("broken-off"), "{url} {answer:?}");
            assert_eq!(seen.lock().unwrap().count(pdu::SUBMIT_SM), 1, "{url} {answer:?}");
            // The session is made anew by itself.
            let outcome = provider.send(&a_message()).await;
            assert_eq!(outcome.class, Class::Accepted, "{url} {answer:?}");
            let last = seen.lock().unwrap().pdus.last().map(|(connection, _)| *connection);
            assert_eq!(last, Some(1), "{url} {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_session_that_is_lost_between_messages_costs_nothing() {
    for over in Over::both() {
        for script in [Script::CloseAfterBind, serve(&[Answer::Unbind])] {
            let (url, seen) = over.centre(vec![script.clone(), serve(&[Answer::Take])]).await;
            let provider = provider(over.settings(&url));
            if script == Script::CloseAfterBind {
                provider.pull_receipts().await.unwrap();
            } else {
                assert_eq!(provider.send(&a_message()).await.class, Class::Accepted);
                let unbound = |seen: &Seen| seen.count(pdu::UNBIND | pdu::ANSWER) == 1;
                until(&seen, "unbind is answered", unbound).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            let outcome = provider.send(&a_message()).await;
            assert_eq!(outcome.class, Class::Accepted, "{url} {script:?}");
            let binds = seen.lock().unwrap().count(pdu::BIND_TRANSCEIVER);
            assert_eq!(binds, 2, "{url} {script:?}");
        }
    }
}

#[tokio::test]
async fn every_status_of_an_answer_has_its_class() {
    let refusals: Vec<_> = status::TABLE
        .iter()
        .map(|entry| u32::from_str_radix(&entry.first[2..], 16).unwrap())
        .filter(|status| ![0, status::THROTTLED, status::QUEUE_FULL].contains(status))
        .chain([0x400, 0x7fff_ffff])
        .collect();
    let mut answers: Vec<_> = refusals.iter().map(|status| Answer::Refuse(*status)).collect();
    answers.extend([Answer::Nack, Answer::TakeNameless, Answer::Take]);
    let (url, seen) = centre(vec![serve(&answers)]).await;
    let provider = provider(settings(&url));
    for status in refusals {
        let outcome = provider.send(&a_message()).await;
        let code = format!("{status:#04x}");
        let class = status::lookup(&code).map_or(Class::ProviderError, |entry| entry.class);
        assert_eq!(outcome, Outcome::of(class, code));
    }
    assert_eq!(provider.send(&a_message()).await, Outcome::of(Class::BadRequest, "0x02"));
    let nameless = provider.send(&a_message()).await;
    assert_eq!((nameless.class, nameless.message_id), (Class::Accepted, None));
    let taken = provider.send(&a_message()).await;
    let sequence = seen.lock().unwrap().pdus.last().unwrap().1.sequence;
    assert_eq!(taken, Outcome::accepted(format!("{:x}", sequence + 100)));
    assert_eq!(seen.lock().unwrap().count(pdu::BIND_TRANSCEIVER), 1, "one session for all");
}

#[tokio::test]
async fn no_more_wait_for_an_answer_than_the_window_allows() {
    let (url, seen) = centre(vec![serve(&[Answer::Late(100)])]).await;
    let provider = Arc::new(provider(Settings { window: 3, ..settings(&url) }));
    let mut calls = JoinSet::new();
    for _ in 0..12 {
        let provider = Arc::clone(&provider);
        calls.spawn(async move { provider.send(&a_message()).await });
    }
    let outcomes = calls.join_all().await;
    assert!(outcomes.iter().all(|outcome| outcome.class == Class::Accepted), "{outcomes:?}");
    let mut ids: Vec<_> = outcomes.iter().map(|outcome| &outcome.message_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), seen.lock().unwrap().waited), (12, 3));
}

#[tokio::test]
async fn too_fast_makes_the_next_message_wait_a_moment() {
    for status in [status::THROTTLED, status::QUEUE_FULL] {
        let (url, _) = centre(vec![serve(&[Answer::Refuse(status), Answer::Take])]).await;
        let provider = provider(settings(&url));
        let outcome = provider.send(&a_message()).await;
        assert_eq!(outcome, Outcome::of(Class::RateLimitedAccount, status::code(status)));
        let began = Instant::now();
        assert_eq!(provider.send(&a_message()).await.class, Class::Accepted);
        assert!(began.elapsed() >= Duration::from_millis(490), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_text_of_several_parts_is_taken_when_all_are() {
    let long = || Message { text: "a".repeat(200), ..a_message() };
    for (answers, class) in [
        (vec![Answer::Take], Class::Accepted),
        (vec![Answer::Take, Answer::Refuse(8)], Class::UnknownOutcome),
        (vec![Answer::Refuse(11)], Class::InvalidNumber),
        (vec![Answer::Take, Answer::Close], Class::UnknownOutcome),
    ] {
        for window in [1, 10] {
            let (url, seen) = centre(vec![Script::Serve(answers.clone())]).await;
            let provider = provider(Settings { window, ..settings(&url) });
            assert_eq!(provider.send(&long()).await.class, class, "{answers:?} {window}");
            let seen = seen.lock().unwrap();
            assert_eq!(seen.count(pdu::SUBMIT_SM), 2, "{answers:?} {window}");
        }
    }
}

#[tokio::test]
async fn receipts_come_over_the_session_before_and_after_the_answer() {
    for answer in [Answer::Receipt(ARRIVED), Answer::ReceiptFirst(ARRIVED)] {
        let (url, seen) = centre(vec![serve(&[answer])]).await;
        let provider = provider(settings(&url));
        let outcome = provider.send(&a_message()).await;
        let expected = Receipt {
            about: REFERENCE.into(),
            // In hexadecimal in the answer, in decimal in the receipt.
            message_id: outcome.message_id.clone().unwrap(),
            arrived: true,
            vendor_code: "DELIVRD".to_owned(),
        };
        assert_eq!(pulled(&provider).await, [expected]);
        until(&seen, "the receipt is answered", |seen| {
            let answer = pdu::DELIVER_SM | pdu::ANSWER;
            seen.pdus.iter().any(|(_, it)| it.id == answer && (it.sequence, it.status) == (77, 0))
        })
        .await;
    }
}

#[tokio::test]
async fn a_late_answer_still_tells_whose_receipt_it_is_and_a_silent_centre_is_left() {
    let late = centre(vec![serve(&[Answer::Late(5_500), Answer::Take])]);
    let silent = centre(vec![serve(&[Answer::Silence]), serve(&[Answer::Receipt(ARRIVED)])]);
    let ((late, _), (silent, seen)) = tokio::join!(late, silent);
    let (late, silent) = (provider(settings(&late)), provider(settings(&silent)));
    let m = a_message();
    let outcomes = tokio::join!(late.send(&m), silent.send(&m));
    assert_eq!(outcomes, (wire::unknown("timeout"), wire::unknown("timeout")));
    tokio::time::sleep(Duration::from_secs(1)).await;
    {
        let early = Report {
            id: "66".to_owned(),
            phone: String::new(),
            arrived: true,
            code: "DELIVRD".to_owned(),
        };
        assert!(late.memory.lock().unwrap().report(early));
    }
    assert_eq!(pulled(&late).await[0].about, REFERENCE.into(), "the answer came after all");
    until(&seen, "a new session", |seen| seen.count(pdu::BIND_TRANSCEIVER) == 2).await;
    assert_eq!(silent.send(&a_message()).await.class, Class::Accepted);
    assert_eq!(pulled(&silent).await.len(), 1);
}

#[tokio::test]
async fn both_ask_each_other_whether_they_are_there_and_leave_in_good_order() {
    let (url, seen) = centre(vec![serve(&[Answer::Take])]).await;
    let provider = provider(Settings { enquire_link_seconds: 1, ..settings(&url) });
    assert_eq!(provider.send(&a_message()).await.class, Class::Accepted);
    until(&seen, "enquire_link", |seen| seen.count(pdu::ENQUIRE_LINK) >= 2).await;
    provider.close().await;
    let counts = {
        let seen = seen.lock().unwrap();
        [pdu::UNBIND, pdu::BIND_TRANSCEIVER].map(|id| seen.count(id))
    };
    assert_eq!(counts, [1, 1]);
    assert_eq!(provider.send(&a_message()).await.class, Class::NotSent, "nothing after that");
}

#[tokio::test]
async fn credentials_are_tried_without_taking_receipts_away() {
    let (url, seen) = centre(vec![serve(&[Answer::Take])]).await;
    assert_eq!(provider(settings(&url)).try_credentials().await, Ok(true));
    let seen = seen.lock().unwrap();
    let ids: Vec<_> = seen.pdus.iter().map(|(_, pdu)| pdu.id).collect();
    assert_eq!(ids, [BIND_TRANSMITTER, pdu::UNBIND]);
}

#[tokio::test]
async fn a_dead_centre_is_not_run_against_and_costs_later_messages_little() {
    let (url, seen) = centre(vec![Script::Refuse(8)]).await;
    let provider = provider(settings(&url));
    let began = Instant::now();
    let mut quick = 0;
    while began.elapsed() < Duration::from_secs(4) {
        let asked = Instant::now();
        assert_eq!(provider.send(&a_message()).await.class, Class::ProviderError);
        quick += u32::from(asked.elapsed() < Duration::from_millis(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let tries = seen.lock().unwrap().count(pdu::BIND_TRANSCEIVER);
    assert!((2..=6).contains(&tries), "{tries} log-ons in four seconds");
    assert!(quick > 50, "{quick} messages went elsewhere at once");
}

#[tokio::test]
async fn neither_password_nor_code_is_ever_printed() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // As in `stub::assert_silent`.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    let mut printed = Vec::new();
    for script in [
        serve(&[Answer::Receipt(ARRIVED)]),
        serve(&[Answer::Close]),
        serve(&[Answer::Garbage]),
        Script::Refuse(0x0e),
    ] {
        let (url, _) = centre(vec![script]).await;
        let provider = provider(settings(&url));
        let sent = message("+8613800138000", "004217", 5, REFERENCE);
        let outcome = provider.send(&sent).await;
        let tried = provider.try_credentials().await;
        let pulled = provider.pull_receipts().await;
        provider.close().await;
        printed.push(format!("{outcome:?} {tried:?} {pulled:?} {provider:?} {:?}", settings(&url)));
    }
    drop(guard);
    let logged = log.text();
    assert!(logged.contains("bound to the message centre"), "{logged}");
    for secret in [PASSWORD, "004217", "13800138000"] {
        assert!(!printed.concat().contains(secret), "{secret} in {printed:?}");
        assert!(!logged.contains(secret), "{secret} in the log");
    }
}
