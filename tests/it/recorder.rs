//! A Yuntongxun that writes everything down: who was called for, with which code, under which
//! `reqId`, and when. It takes a `reqId` once, as the vendor does, and answers by a script.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::world::{World, body};

/// What the simulator does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Takes the message.
    Takes,
    /// Refuses it with this code.
    Refuses(&'static str),
    /// Takes the message and answers HTTP 500, which says nothing.
    TakesAndFails,
    /// Takes nothing, and never answers.
    Silence,
}

/// One call to send a message.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The number, in national form.
    pub(crate) to: String,
    /// The variables: code and minutes.
    pub(crate) datas: Vec<String>,
    /// The send key.
    pub(crate) req_id: String,
    /// When it came.
    pub(crate) at: Instant,
    /// Whether a message went out for it.
    pub(crate) taken: bool,
}

type Script = Box<dyn Fn(usize) -> Answer + Send + Sync>;

struct Inner {
    calls: Mutex<Vec<Call>>,
    known: Mutex<HashSet<String>>,
    script: Mutex<Script>,
    /// Whether receipts are to be had for what was taken, once.
    reports: Mutex<bool>,
    /// The longest pause before a call is looked at, and again before it is answered.
    latency: Mutex<Duration>,
}

/// The simulator. It works as long as it lives.
pub(crate) struct Recorder {
    address: SocketAddr,
    inner: Arc<Inner>,
    _serving: JoinSet<()>,
}

impl Recorder {
    /// One that takes every message, on this port (0: a free one).
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            calls: Mutex::default(),
            known: Mutex::default(),
            script: Mutex::new(Box::new(|_| Answer::Takes)),
            reports: Mutex::default(),
            latency: Mutex::default(),
        });
        let path = "/2013-12-26/Accounts/{sid}/SMS/{action}";
        let router = Router::new().route(path, post(receive)).with_state(Arc::clone(&inner));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, inner, _serving: serving }
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on it answers by this script, which is given the number of the call.
    pub(crate) fn follow(&self, script: impl Fn(usize) -> Answer + Send + Sync + 'static) {
        *self.inner.script.lock().unwrap() = Box::new(script);
    }

    /// From now on it takes up to this long twice: before it takes a message, and after.
    pub(crate) fn slow_down(&self, longest: Duration) {
        *self.inner.latency.lock().unwrap() = longest;
    }

    /// Has a receipt for every message it took; who asks first gets them all, and nobody else.
    pub(crate) fn report(&self) {
        *self.inner.reports.lock().unwrap() = true;
    }

    /// Whether those receipts still wait to be asked for.
    pub(crate) fn reports_wait(&self) -> bool {
        *self.inner.reports.lock().unwrap()
    }

    /// Its table in the configuration.
    pub(crate) fn table(&self, name: &str) -> String {
        table(name, self.address.port())
    }

    /// Every call so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner.calls.lock().unwrap().clone()
    }

    /// The calls for one number.
    pub(crate) fn calls_for(&self, mobile: &str) -> Vec<Call> {
        let calls = self.inner.calls.lock().unwrap();
        calls.iter().filter(|call| call.to == mobile).cloned().collect()
    }

    /// The code that a number was sent, as soon as there is one.
    pub(crate) async fn code(&self, mobile: &str) -> String {
        for _ in 0..1000 {
            if let Some(call) = self.calls_for(mobile).first() {
                return call.datas[0].clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no call for {mobile}");
    }
}

/// A simulator's table in the configuration, whether it is there already or not.
pub(crate) fn table(name: &str, port: u16) -> String {
    format!(
        "[[providers]]\nname = \"{name}\"\nkind = \"yuntongxun\"\n\
         base_url = \"http://127.0.0.1:{port}\"\naccount_sid = \"8a48b5515493a1b7\"\n\
         auth_token = \"c4e1c9418e5e4921\"\napp_id = \"aaf98f8954939ed5\"\n"
    )
}

/// A configuration with these providers, the developer's door, and one tenant.
pub(crate) fn config(providers: &[String]) -> String {
    format!(
        "[dev]\nenabled = true\n[limits]\naddress_per_hour = 4000000000\n{}\
         [[tenants]]\nid = \"shop\"\nsecret_key = \"sk_shop_secret\"\n\
         [log]\nfilter = \"warn\"\n",
        providers.concat()
    )
}

/// A number below `bound` that nobody can foresee.
pub(crate) fn below(bound: u64) -> u64 {
    RandomState::new().hash_one(()) % bound
}

async fn pause(inner: &Inner) {
    let longest = *inner.latency.lock().unwrap();
    if !longest.is_zero() {
        let micros = u64::try_from(longest.as_micros()).unwrap();
        tokio::time::sleep(Duration::from_micros(below(micros))).await;
    }
}

async fn receive(
    State(inner): State<Arc<Inner>>,
    Path((_, action)): Path<(String, String)>,
    Json(asked): Json<Value>,
) -> Response {
    if action != "TemplateSMS" {
        return receipts(&inner).into_response();
    }
    pause(&inner).await;
    let answer = write_down(&inner, &asked);
    pause(&inner).await;
    match answer {
        Ok(message_id) => {
            let sent = json!({"smsMessageSid": message_id, "dateCreated": "20250102003046"});
            Json(json!({"statusCode": "000000", "templateSMS": sent})).into_response()
        }
        Err(Answer::Refuses(code)) => {
            Json(json!({"statusCode": code, "statusMsg": "refused"})).into_response()
        }
        Err(Answer::Silence) => std::future::pending().await,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn receipts(inner: &Inner) -> Json<Value> {
    if !std::mem::take(&mut *inner.reports.lock().unwrap()) {
        return Json(json!({"statusCode": "112356"})); // no receipt yet
    }
    let calls = inner.calls.lock().unwrap();
    let report = |call: &Call| {
        json!({"action": "SMSArrived", "smsType": "1", "content": call.req_id, "status": "0",
               "deliverCode": "DELIVRD", "reqId": call.req_id})
    };
    let reports: Vec<_> = calls.iter().filter(|call| call.taken).map(report).collect();
    Json(json!({"statusCode": "000000", "reports": reports}))
}

/// Decides on a call at one instant: a message goes out once for each `reqId`.
fn write_down(inner: &Inner, asked: &Value) -> Result<String, Answer> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let datas: Vec<_> = asked["datas"].as_array().unwrap().iter().map(text).collect();
    let (to, req_id) = (text(&asked["to"]), text(&asked["reqId"]));
    let mut calls = inner.calls.lock().unwrap();
    let mut answer = (inner.script.lock().unwrap())(calls.len());
    if matches!(answer, Answer::Takes | Answer::TakesAndFails)
        && !inner.known.lock().unwrap().insert(req_id.clone())
    {
        answer = Answer::Refuses("160054");
    }
    let taken = matches!(answer, Answer::Takes | Answer::TakesAndFails);
    let message_id = req_id.clone();
    calls.push(Call { to, datas, req_id, at: Instant::now(), taken });
    if answer == Answer::Takes { Ok(message_id) } else { Err(answer) }
}

/// The timeline of a verification.
pub(crate) async fn timeline(world: &World, id: &str) -> Vec<Value> {
    let path = format!("/v1/verifications/{id}/timeline");
    for _ in 0..20 {
        let asked = world.get(&path).bearer_auth("sk_shop_secret").send().await.unwrap();
        if asked.status() == StatusCode::OK {
            return body(asked).await["events"].as_array().unwrap().clone();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no timeline of {id}\n{}", world.log());
}

/// How a story's message ended: the event, without `message_`.
pub(crate) fn end(events: &[Value]) -> Option<String> {
    const ENDS: [&str; 4] = ["sent", "failed", "expired", "delivered"];
    let words = events.iter().filter_map(|event| event["event"].as_str()?.strip_prefix("message_"));
    let ends: Vec<_> = words.filter(|word| ENDS.contains(word)).collect();
    assert!(ends.len() < 2, "a message ends once: {events:?}");
    ends.first().map(|&word| word.to_owned())
}

/// Waits until a verification's message has ended, and takes its story.
pub(crate) async fn ended(world: &World, id: &str, patience: Duration) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let events = timeline(world, id).await;
        if end(&events).is_some() {
            return events;
        }
        assert!(began.elapsed() < patience, "not ended: {events:?}\n{}", world.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
