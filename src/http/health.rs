//! Whether the server lives, whether it can work, and how it does.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::Doors;
use super::problem::Problem;
use crate::store::{Draft, Key, TRIAL, transact_once};

/// A state of health.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `live` or `ready`.
    status: &'static str,
}

/// The process answers.
#[utoipa::path(get, path = "/health/live", responses((status = 200, body = Health)))]
pub(super) async fn live() -> Json<Health> {
    Json(Health { status: "live" })
}

/// The store takes a write, through the very path that requests take.
#[utoipa::path(get, path = "/health/ready",
    responses((status = 200, body = Health), (status = 503)))]
pub(super) async fn ready(State(doors): State<Doors>) -> Result<Json<Health>, Problem> {
    let (key, now) = (Key::new(0, TRIAL, "health"), doors.verifier.clock().now());
    let write = move |draft: &mut Draft| {
        draft.put(&key, &(), now);
        Ok(())
    };
    transact_once(&doors.store, Vec::new(), write).await?;
    Ok(Json(Health { status: "ready" }))
}

/// The metrics, in Prometheus' text form.
#[utoipa::path(get, path = "/metrics",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(doors): State<Doors>) -> Response {
    let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([kind], doors.metrics.render()).into_response()
}
