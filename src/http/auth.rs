//! Who calls the native door: a tenant, with the key for servers or the key for browsers.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Doors;
use super::problem::{Kind, Problem};
use crate::domain::minted::{Kind as Wish, Version};
use crate::domain::third_party::Vendor;

/// An application with its own keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id: the audience of its tokens.
    pub id: String,
    /// Origins whose pages may use the publishable key.
    pub origins: Vec<String>,
    /// Who needs an answered challenge.
    pub challenge: Demand,
    /// The kinds that may be asked for, the first of which is meant where none is named; and
    /// whether pictures come with audio.
    pub challenge_kinds: Vec<Offer>,
    /// What its codes may be good for; the first is meant where a start names none. Each has
    /// guesses of its own, so a caller must not be able to make them up.
    pub purposes: Vec<String>,
}

/// Who needs an answered challenge for a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    /// Browsers, always; servers, never.
    #[default]
    Browsers,
    /// Everybody, always.
    Always,
    /// Everybody whom the ladder asks.
    WhenRisky,
    /// Nobody: such a tenant has no key for browsers.
    Never,
}

/// A kind of challenge that a caller may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// A picture.
    Image,
    /// Proof of work.
    Work,
    /// Audio beside a picture: not asked for by itself.
    Audio,
    /// A vendor's own: the one that is configured at this place.
    ThirdParty(Vendor, u8),
}

impl Offer {
    /// The word on the wire and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Work => "proof-of-work",
            Self::Audio => "audio",
            Self::ThirdParty(vendor, _) => vendor.as_str(),
        }
    }

    /// The challenge that is minted for it, with work of this version.
    pub(super) fn wish(self, version: Version) -> Wish {
        match self {
            // Audio comes with a picture.
            Self::Image | Self::Audio => Wish::Image,
            Self::Work => Wish::Work(version),
            Self::ThirdParty(vendor, place) => Wish::ThirdParty(vendor, place),
        }
    }
}

/// The tenants, by their keys' digests: looking a digest up tells nothing about the key.
#[derive(Clone, Default)]
pub struct Tenants {
    by_key: HashMap<[u8; 32], (Arc<Tenant>, KeyKind)>,
    origins: HashSet<String>,
}

/// Whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// For servers.
    Secret,
    /// For browsers.
    Publishable,
}

impl Tenants {
    /// Adds a tenant with its keys; `false` if a key is taken already.
    pub fn add(&mut self, tenant: Tenant, secret: &str, publishable: Option<&str>) -> bool {
        self.origins.extend(tenant.origins.iter().cloned());
        let tenant = Arc::new(tenant);
        let secret = (digest_of(secret), (Arc::clone(&tenant), KeyKind::Secret));
        let publishable = publishable.map(|key| (digest_of(key), (tenant, KeyKind::Publishable)));
        [Some(secret), publishable]
            .into_iter()
            .flatten()
            .all(|(digest, entry)| self.by_key.insert(digest, entry).is_none())
    }

    fn find(&self, key: &str) -> Option<Caller> {
        let (tenant, kind) = self.by_key.get(&digest_of(key))?;
        Some(Caller { tenant: Arc::clone(tenant), kind: *kind })
    }
}

fn digest_of(key: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, key.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// With which key.
    pub kind: KeyKind,
}

impl Caller {
    /// The person's address, where the request comes from there: an application's server has
    /// one of its own.
    pub(super) fn counted_address(
        &self,
        doors: &Doors,
        peer: IpAddr,
        headers: &HeaderMap,
    ) -> Option<IpAddr> {
        (self.kind == KeyKind::Publishable).then(|| doors.settings.proxies.client(peer, headers))
    }

    /// Who calls with this key, from a page that may.
    pub(super) fn with_key(
        key: Option<&str>,
        headers: &HeaderMap,
        doors: &Doors,
    ) -> Result<Self, Problem> {
        let caller = key.and_then(|key| doors.settings.tenants.find(key));
        let caller = caller.ok_or_else(|| Problem::of(Kind::Unauthorized))?;
        let origin = origin(headers);
        let foreign = origin.filter(|origin| !is_own(origin, headers, doors));
        let listed = |origin: &str| caller.tenant.origins.iter().any(|listed| listed == origin);
        if caller.kind == KeyKind::Publishable && foreign.is_some_and(|origin| !listed(origin)) {
            let detail = "this origin is not on the tenant's list (`origins`)";
            return Err(Problem::of(Kind::Forbidden).detail(detail));
        }
        Ok(caller)
    }

    /// The caller, if it has the secret key.
    pub fn secret(self) -> Result<Self, Problem> {
        match self.kind {
            KeyKind::Secret => Ok(self),
            KeyKind::Publishable => {
                Err(Problem::of(Kind::Forbidden).detail("this call takes the secret key only"))
            }
        }
    }
}

impl FromRequestParts<Doors> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, doors: &Doors) -> Result<Self, Problem> {
        let given = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = given.and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        Self::with_key(key, &parts.headers, doors)
    }
}

fn origin(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("invalid"))
}

/// Whether a page of this very server calls.
fn is_own(origin: &str, headers: &HeaderMap, doors: &Doors) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let same_host = origin.split_once("://").is_some_and(|(_, rest)| Some(rest) == host);
    origin == doors.settings.public_url.trim_end_matches('/') || same_host
}

/// Answers preflight requests, and lets listed origins read answers.
pub(super) async fn cors(State(doors): State<Doors>, request: Request, next: Next) -> Response {
    let listed = origin(request.headers())
        .filter(|origin| doors.settings.tenants.origins.contains(*origin))
        .and_then(|origin| HeaderValue::from_str(origin).ok());
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response =
        if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = listed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let fixed = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "authorization, content-type, idempotency-key, x-request-id",
            ),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "x-request-id, retry-after, x-altcha-config"),
            (header::ACCESS_CONTROL_MAX_AGE, "600"),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}
