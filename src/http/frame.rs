//! What frames every request: an id, a time limit, one line of log, and the metrics. The log and
//! the metrics name the route, never the path: the seed's paths hold phone numbers.

use std::any::Any;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use super::problem::{Kind, Problem};
use crate::chance::{Chance, OsChance};

/// The most time a request may take, its body included.
const REQUEST_MAX: Duration = Duration::from_secs(10);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) async fn frame(request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let route = route.unwrap_or("none").to_owned();
    let method = request.method().clone();
    let began = Instant::now();
    let span = tracing::info_span!("request", id);
    let work = async {
        let answered = tokio::time::timeout(REQUEST_MAX, next.run(request)).await;
        let response = answered.unwrap_or_else(|_| Problem::of(Kind::TimedOut).into_response());
        let (status, took) = (response.status().as_u16(), began.elapsed());
        tracing::info!(%method, route, status, ms = took.as_secs_f64() * 1000.0, "answered");
        response
    };
    let mut response = work.instrument(span).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("countersign_requests_total", "route" => route.clone(), "status" => status)
        .increment(1);
    metrics::histogram!("countersign_request_seconds", "route" => route).record(began.elapsed());
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The caller's id, if it is a plain short word; else one of ours.
fn request_id(request: &Request) -> String {
    let plain = |text: &&str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=64).contains(&text.len()) && text.bytes().all(allowed)
    };
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    given.filter(plain).map_or_else(
        || {
            let mut bytes = [0; 8];
            OsChance.fill(&mut bytes);
            hex::encode(bytes)
        },
        str::to_owned,
    )
}

pub(super) async fn not_found() -> Problem {
    Problem::of(Kind::NotFound)
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::of(Kind::MethodNotAllowed)
}

/// A panic's words may quote anything: they are not passed on.
pub(super) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a handler panicked");
    Problem::of(Kind::Internal).into_response()
}
