//! Where providers push their receipts. Some providers sign nothing, so the path is a secret; what
//! comes through it can only move a known message forward.

use axum::extract::{Path, Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};

use super::problem::{Kind, Problem};
use super::{Doors, body};
use crate::keys::Ring;

/// Receipts of one request that are looked at; providers send few at once.
const RECEIPTS_MAX: usize = 500;

/// The secret part of a provider's path.
pub fn secret(ring: &Ring, provider: &str) -> String {
    hex::encode(ring.fingerprint("receipts", provider.as_bytes()))
}

pub(super) async fn receive(
    State(doors): State<Doors>,
    Path((name, given)): Path<(String, String)>,
    request: Request,
) -> Response {
    let provider = doors.providers.iter().find(|provider| provider.name() == name);
    let expected = secret(&doors.verifier.keys().ring(), &name);
    let known =
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), given.as_bytes());
    let (Some(provider), Ok(()), true) = (provider, known, request.method() == Method::POST) else {
        return Problem::of(Kind::NotFound).into_response();
    };
    let body = match body::read(request).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    for receipt in provider.read_receipts(&body).into_iter().take(RECEIPTS_MAX) {
        match doors.verifier.receive(receipt).await {
            Ok(changed) => {
                let outcome = if changed { "taken" } else { "ignored" };
                metrics::counter!(
                    "countersign_receipts_total", "provider" => name.clone(), "outcome" => outcome
                )
                .increment(1);
            }
            // Providers push again what was not taken.
            Err(error) => return Problem::from(error).into_response(),
        }
    }
    "success".into_response()
}
