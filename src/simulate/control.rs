//! The control door: what was sent, and what is done next.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::Simulator;
use super::call::is_name;
use crate::providers::simulated::{INBOX_MAX, LATENCY_MAX_MS};

/// Messages that are shown where no `limit` is asked for.
const SHOWN: usize = 1000;

/// What is done with the next messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// For which name: a kind, or what stands in `/as/{name}`. Empty: for all.
    pub provider: String,
    /// How long an answer takes, in milliseconds.
    pub latency_ms: u64,
    /// What is answered.
    pub answer: Scripted,
    /// The vendor's code, for `refuse`.
    pub code: String,
    /// The HTTP status of a refusal; 0: the vendor's own for such a code.
    pub status: u16,
    /// Whether the message goes out where the answer does not say so.
    pub delivers: bool,
    /// How many messages this holds for; then all is well again. 0: until changed.
    pub times: u64,
    /// The receipt that follows a message.
    pub receipt: ScriptedReceipt,
    /// The carrier's code in it; empty: the usual one.
    pub receipt_code: String,
    /// How long after the message the receipt comes, in milliseconds.
    pub receipt_after_ms: u64,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            provider: String::new(),
            latency_ms: 0,
            answer: Scripted::Accept,
            code: String::new(),
            status: 0,
            delivers: false,
            times: 0,
            receipt: ScriptedReceipt::Delivered,
            receipt_code: String::new(),
            receipt_after_ms: 100,
        }
    }
}

/// What is answered to a request that is in order. Others are refused whatever the script says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scripted {
    /// The message is taken.
    Accept,
    /// It is refused with the code.
    Refuse,
    /// No answer comes.
    Silence,
    /// The connection is closed without an answer.
    Close,
    /// The head and half of the body come, and nothing more.
    HalfOpen,
    /// HTTP 500 with a page.
    Error,
}

/// A scripted receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptedReceipt {
    /// None comes.
    None,
    /// The message arrived.
    Delivered,
    /// The message did not arrive.
    Failed,
}

impl Script {
    /// Its latency, in bounds.
    pub(super) fn latency(&self) -> u64 {
        self.latency_ms.min(LATENCY_MAX_MS)
    }

    /// What is wrong with it, if anything is.
    pub fn mistake(&self) -> Option<&'static str> {
        let coded = (1..=96).contains(&self.code.len()) && self.code.bytes().all(plain);
        let receipt = self.receipt_code.len() <= 32 && self.receipt_code.bytes().all(plain);
        if !(self.provider.is_empty() || is_name(&self.provider)) {
            return Some("provider: a kind, or the name in /as/{name}");
        }
        if self.answer == Scripted::Refuse && !coded {
            return Some("code: write the vendor's code that is to be answered, such as 160038");
        }
        if self.status != 0 && !(400..=599).contains(&self.status) {
            return Some("status: 400 to 599, or 0 for the vendor's own");
        }
        (!receipt).then_some("receipt_code: at most 32 letters, digits and -_.:")
    }
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)
}

#[derive(Serialize)]
struct Message {
    phone: String,
    text: String,
    code: String,
    provider: String,
    reference: String,
    at: String,
}

#[derive(Deserialize)]
struct Filter {
    phone: Option<String>,
    limit: Option<usize>,
}

pub(super) fn router(simulator: Arc<Simulator>) -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::permanent("/dev/") }))
        .route("/dev", get(|| async { Redirect::permanent("/dev/") }))
        .route("/dev/", get(|| async { Html(include_str!("../../web/inbox.html")) }))
        .route("/dev/inbox.js", get(|| async { script_file(include_str!("../../web/inbox.js")) }))
        .route("/demo/style.css", get(style))
        .route("/dev/messages", get(messages))
        .route("/dev/simulator", get(scripts).post(set_script).put(set_script))
        .with_state(simulator)
}

fn script_file(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], text).into_response()
}

async fn style() -> Response {
    let kind = (header::CONTENT_TYPE, "text/css; charset=utf-8");
    ([kind], include_str!("../../web/style.css")).into_response()
}

async fn messages(
    State(simulator): State<Arc<Simulator>>,
    Query(filter): Query<Filter>,
) -> Json<Vec<Message>> {
    let max = filter.limit.unwrap_or(SHOWN).min(INBOX_MAX);
    let desk = &simulator.desk;
    let shown = desk.inbox(filter.phone.as_deref(), max).into_iter().map(|sent| Message {
        phone: sent.order.phone.e164().to_owned(),
        text: sent.order.text,
        code: sent.order.code,
        provider: sent.provider,
        reference: sent.order.reference,
        at: desk.clock.shown(sent.at).to_string(),
    });
    Json(shown.collect())
}

async fn scripts(State(simulator): State<Arc<Simulator>>) -> Json<Vec<Script>> {
    Json(simulator.desk.scripts())
}

async fn set_script(
    State(simulator): State<Arc<Simulator>>,
    script: Result<Json<Script>, axum::extract::rejection::JsonRejection>,
) -> Response {
    match script {
        Ok(Json(script)) => match script.mistake() {
            None => {
                simulator.desk.set_script(script);
                Json(simulator.desk.scripts()).into_response()
            }
            Some(mistake) => (StatusCode::UNPROCESSABLE_ENTITY, mistake).into_response(),
        },
        Err(rejection) => (rejection.status(), rejection.body_text()).into_response(),
    }
}
