//! Where providers push their receipts. Some providers sign nothing, so the path is a secret; what
//! comes through it can only move a known message forward.

use axum::extract::{Path, Request, State};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::http::uri::PathAndQuery;
use axum::response::{IntoResponse, Response};

use super::problem::{Kind, Problem};
use super::{Doors, body};
use crate::keys::Ring;
use crate::providers::Pushed;
use crate::verifier;

/// Receipts of one request that are looked at.
const RECEIPTS_MAX: usize = 500;
/// The most bytes of a push: as many receipts as are looked at, of 256 bytes each.
const PUSH_MAX: usize = 128 * 1024;

/// Where a provider pushes its receipts.
pub fn url(public_url: &str, ring: &Ring, provider: &str) -> String {
    format!("{public_url}/receipts/{provider}/{}", secret(ring, provider))
}

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
    let url = format!(
        "{}{}",
        doors.settings.public_url,
        request.uri().path_and_query().map_or("", PathAndQuery::as_str)
    );
    let headers = request.headers().clone();
    let body = match body::read_at_most(request, PUSH_MAX).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let pushed = Pushed { url: &url, headers: &headers, body: &body };
    let Some(read) = provider.read_receipts(&pushed) else {
        verifier::count_receipt(&name, "forged");
        return Problem::of(Kind::NotFound).into_response();
    };
    for receipt in read.receipts.into_iter().take(RECEIPTS_MAX) {
        if let Err(error) = doors.verifier.receive(&name, receipt).await {
            // Providers push again what was not taken.
            return Problem::from(error).into_response();
        }
    }
    let json = read.reply.starts_with('{');
    let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
    ([(CONTENT_TYPE, kind)], read.reply).into_response()
}
