//! The HTTP client that every dialect calls through, and how its failures are classed.
//!
//! One rule matters more than the rest: an error *before* the request left is "not sent", and any
//! error after it is "unknown", because then the message may arrive.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use rustls::{ClientConfig, RootCertStore};

use super::{Class, Outcome};
use crate::domain::policy::{CALL_MAX, CONNECT_MAX};

/// The most bytes of an answer that are read.
const ANSWER_MAX: usize = 64 * 1024;

/// A client for providers: TLS verified, no redirects followed, no proxy taken from the
/// environment, bounded in time.
pub fn client() -> anyhow::Result<Client> {
    let client = Client::builder()
        .tls_backend_preconfigured(tls(public_roots())?)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_millis(CONNECT_MAX.unsigned_abs()))
        .timeout(Duration::from_millis(CALL_MAX.unsigned_abs()))
        .pool_idle_timeout(Duration::from_secs(30))
        .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(client)
}

/// The authorities that browsers trust, too.
pub fn public_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots
}

/// TLS that trusts these authorities, and verifies names.
pub fn tls(roots: RootCertStore) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(tls)
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Vec<u8>,
}

/// Makes the call. An error here is an outcome already: "not sent" or "unknown".
pub async fn call(request: RequestBuilder) -> Result<Answer, Outcome> {
    let unknown = |what| Outcome::of(Class::UnknownOutcome, what);
    let mut response = request.send().await.map_err(|error| {
        // The error's text holds the URL, and a URL may hold a signature: it is not passed on.
        if error.is_connect() || error.is_builder() {
            Outcome::of(Class::NotSent, "no-connection")
        } else if error.is_timeout() {
            unknown("timeout")
        } else {
            unknown("broken-off")
        }
    })?;
    let status = response.status();
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > ANSWER_MAX => {
                return Err(unknown("answer-too-long"));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(Answer { status, body }),
            Err(error) if error.is_timeout() => return Err(unknown("timeout")),
            Err(_) => return Err(unknown("broken-off")),
        }
    }
}
