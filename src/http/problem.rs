//! The one table that says no: every problem's kind, status, title, and what to do about it.
//!
//! `docs/problems.md` is written from this table, and so are the pages that a problem's `type`
//! points to.

use std::fmt::Write;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::clock::{Clock, Millis, SECOND};
use crate::store::StoreError;
use crate::verifier::Refusal;

/// A kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Malformed JSON, a missing or unknown member.
    InvalidRequest,
    /// Not one phone number.
    InvalidPhone,
    /// A number of a country that is not served.
    CountryNotAllowed,
    /// A purpose that is not on the tenant's list.
    PurposeNotAllowed,
    /// A browser's request without an answered challenge.
    ChallengeRequired,
    /// A wrong answer.
    ChallengeWrong,
    /// An answer that came too late, or for the second time.
    ChallengeExpired,
    /// A third party that cannot be asked about its challenge.
    ThirdPartyDown,
    /// A limit.
    Throttled,
    /// A cap of the server or of a country.
    Capped,
    /// Too many wrong codes.
    Locked,
    /// No such verification, or it has ended.
    VerificationNotFound,
    /// A wrong code.
    WrongCode,
    /// An idempotency key used for something else.
    IdempotencyMismatch,
    /// An idempotency key whose request is under way.
    IdempotencyInFlight,
    /// No key, or one that is not known.
    Unauthorized,
    /// A key that may not do this.
    Forbidden,
    /// No such page.
    NotFound,
    /// A known page, another method.
    MethodNotAllowed,
    /// A request that took too long to arrive or to answer.
    TimedOut,
    /// A body that is too large.
    TooLarge,
    /// A body that is not JSON or a form.
    UnsupportedMediaType,
    /// The store cannot be used.
    Unavailable,
    /// Too many pictures are asked for.
    Busy,
    /// A fault of ours.
    Internal,
}

impl Kind {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Self; 25] = [
        Self::InvalidRequest,
        Self::InvalidPhone,
        Self::CountryNotAllowed,
        Self::PurposeNotAllowed,
        Self::ChallengeRequired,
        Self::ChallengeWrong,
        Self::ChallengeExpired,
        Self::ThirdPartyDown,
        Self::Throttled,
        Self::Capped,
        Self::Locked,
        Self::VerificationNotFound,
        Self::WrongCode,
        Self::IdempotencyMismatch,
        Self::IdempotencyInFlight,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TimedOut,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Unavailable,
        Self::Busy,
        Self::Internal,
    ];

    /// Status, anchor, title, and what to do: the table.
    #[expect(clippy::too_many_lines, reason = "it is a table, and reads best in one piece")]
    fn row(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        match self {
            Self::InvalidRequest => (
                StatusCode::BAD_REQUEST,
                "invalid-request",
                "The request cannot be read",
                "Send what docs/api.md shows. `key` names the member that is wrong, where there \
                 is one.",
            ),
            Self::InvalidPhone => (
                StatusCode::BAD_REQUEST,
                "invalid-phone",
                "This is not a mobile phone number",
                "Write one number with digits, spaces, `-`, `(`, `)` and `+`, such as +86 138 \
                 0013 8000.",
            ),
            Self::CountryNotAllowed => (
                StatusCode::BAD_REQUEST,
                "country-not-allowed",
                "Numbers of this country are not served",
                "The operator lists the countries in `phone.countries`. Nothing was spent.",
            ),
            Self::PurposeNotAllowed => (
                StatusCode::BAD_REQUEST,
                "purpose-not-allowed",
                "This purpose is not on the tenant's list",
                "Use one of `purposes`; the operator lists them in the tenant's `purposes`. \
                 Nothing was spent.",
            ),
            Self::ChallengeRequired => (
                StatusCode::FORBIDDEN,
                "challenge-required",
                "A challenge must be answered first",
                "Make one with POST /v1/challenges, show its image or do its work, and send its id \
                 and the answer as `challenge`. `kind`, where it is there, says which is wanted.",
            ),
            Self::ChallengeWrong => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "challenge-wrong",
                "The answer to the challenge is wrong",
                "The challenge is spent. Make another and show its image.",
            ),
            Self::ChallengeExpired => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "challenge-expired",
                "The challenge has ended",
                "It was answered before, or its time is over. Make another and show its image.",
            ),
            Self::ThirdPartyDown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "third-party-down",
                "Who judges this challenge cannot be asked",
                "Nothing was sent. Let the person pass the third party's challenge once more, and \
                 send the new token after `Retry-After`. The operator finds the reason in the log \
                 and with `countersign doctor`.",
            ),
            Self::Throttled => (
                StatusCode::TOO_MANY_REQUESTS,
                "throttled",
                "Too many messages, or too many challenges",
                "Wait until `retry_at` (also in `Retry-After`, in seconds). `limit` says which \
                 limit it is: the phone's, the address's, that of challenges from there, or \
                 that of listening to them (`audio`).",
            ),
            Self::Capped => (
                StatusCode::TOO_MANY_REQUESTS,
                "capped",
                "No more messages go out for now",
                "A cap of the operator is spent: `cap` says whether it is the whole server's or \
                 that of the number's country. Nothing was sent, and only the challenge is spent. \
                 Try again at `retry_at` (also in `Retry-After`), or let the person in another \
                 way. Numbers that were verified before get messages for longer.",
            ),
            Self::Locked => (
                StatusCode::TOO_MANY_REQUESTS,
                "locked",
                "Too many wrong codes for this phone",
                "Guessing is locked until `retry_at`. A right code afterwards ends the lock.",
            ),
            Self::VerificationNotFound => (
                StatusCode::NOT_FOUND,
                "verification-not-found",
                "There is no such pending verification",
                "It never was, belongs to another tenant, or has ended: these are told apart \
                 for nobody. Start another.",
            ),
            Self::WrongCode => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "wrong-code",
                "The code is wrong",
                "`checks_left` says how many guesses this code still takes. At 0 the \
                 verification has ended.",
            ),
            Self::IdempotencyMismatch => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-mismatch",
                "This Idempotency-Key was used for something else",
                "Use a new key for a new request.",
            ),
            Self::IdempotencyInFlight => (
                StatusCode::CONFLICT,
                "idempotency-in-flight",
                "A request with this Idempotency-Key is under way",
                "Repeat the request a little later; `Retry-After` says when.",
            ),
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "No valid key",
                "Send `Authorization: Bearer sk_…` or `Bearer pk_…` with a key of the \
                 configuration.",
            ),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "This key may not do that",
                "Use the secret key, or call from an origin on the tenant's list.",
            ),
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "not-found",
                "There is nothing here",
                "The calls are listed in docs/api.md and /openapi.json.",
            ),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "This method does nothing here",
                "`Allow` lists the methods that do.",
            ),
            Self::TimedOut => (
                StatusCode::REQUEST_TIMEOUT,
                "timed-out",
                "The request took too long",
                "Send the whole request within five seconds.",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "The body is too large",
                "A body may have 16 KiB.",
            ),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The body is of another type",
                "Send JSON with `Content-Type: application/json` (the seed's door takes forms, \
                 too).",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The service cannot write at the moment",
                "The request is not known to have been carried out. Repeat it after `Retry- \
                 After`, with the same Idempotency-Key.",
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "Too many pictures are asked for",
                "Nothing was spent. Ask for the same picture again after `Retry-After`.",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "A fault of ours",
                "Tell the operator the `X-Request-Id`; the log has the cause under it.",
            ),
        }
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.row().0
    }

    /// The stable word: the last part of a problem's `type`.
    pub fn anchor(self) -> &'static str {
        self.row().1
    }

    /// The title.
    pub fn title(self) -> &'static str {
        self.row().2
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        self.row().3
    }
}

/// A refusal on the wire.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: Kind,
    detail: Option<String>,
    members: Map<String, Value>,
    retry_after: Option<Millis>,
    allow: Option<&'static str>,
}

impl Problem {
    /// A problem with nothing special about it.
    pub fn of(kind: Kind) -> Self {
        Self { kind, detail: None, members: Map::new(), retry_after: None, allow: None }
    }

    /// An unreadable request; `key` names the member that is wrong.
    pub fn invalid(key: &str, detail: impl Into<String>) -> Self {
        Self::of(Kind::InvalidRequest).detail(detail).with("key", json!(key))
    }

    /// Another method than these, which stand as `Allow` lists them.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::of(Kind::MethodNotAllowed) }
    }

    /// More pictures are asked for than can be drawn soon.
    pub fn busy() -> Self {
        Self { retry_after: Some(SECOND), ..Self::of(Kind::Busy) }
    }

    /// Says more about this case.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// Adds a member for programs.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    fn retry(self, retry_at: Millis, clock: &Clock) -> Self {
        let after = (retry_at - clock.now()).max(0);
        let shown = clock.shown(retry_at).to_string();
        Self { retry_after: Some(after), ..self }.with("retry_at", json!(shown))
    }

    /// A verb's refusal.
    pub fn refused(refusal: &Refusal, clock: &Clock) -> Self {
        match refusal {
            Refusal::ChallengeWrong => Self::of(Kind::ChallengeWrong),
            Refusal::ChallengeExpired => Self::of(Kind::ChallengeExpired),
            Refusal::Throttled { retry_at, limit } => {
                Self::of(Kind::Throttled).retry(*retry_at, clock).with("limit", json!(limit))
            }
            Refusal::ThirdPartyDown { retry_at, instead: None } => {
                Self::of(Kind::ThirdPartyDown).retry(*retry_at, clock)
            }
            Refusal::ThirdPartyDown { instead: Some(kind), .. } => {
                let detail = "The third party cannot be asked at the moment. Make a challenge of \
                              this `kind` with POST /v1/challenges; it is taken in its place.";
                let problem = Self::of(Kind::ChallengeRequired).detail(detail);
                problem.with("kind", json!(kind.as_str()))
            }
            Refusal::Capped { retry_at, cap } => {
                Self::of(Kind::Capped).retry(*retry_at, clock).with("cap", json!(cap))
            }
            Refusal::Locked { retry_at } => Self::of(Kind::Locked).retry(*retry_at, clock),
            Refusal::NotFound => Self::of(Kind::VerificationNotFound),
            Refusal::KeyReused => Self::of(Kind::IdempotencyMismatch),
            Refusal::KeyInFlight => {
                let problem = Self::of(Kind::IdempotencyInFlight);
                Self { retry_after: Some(SECOND), ..problem }
            }
        }
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let kind = match error {
            StoreError::Unavailable(_) | StoreError::Contended => Kind::Unavailable,
            StoreError::Unreadable(_) => Kind::Internal,
        };
        tracing::error!(%error, "a request could not be carried out");
        let retry_after = (kind == Kind::Unavailable).then_some(SECOND);
        Self { retry_after, ..Self::of(kind) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = self.members;
        body.insert("type".into(), json!(format!("/problems/{}", self.kind.anchor())));
        body.insert("title".into(), json!(self.kind.title()));
        body.insert("status".into(), json!(self.kind.status().as_u16()));
        let detail = self.detail.unwrap_or_else(|| self.kind.advice().to_owned());
        body.insert("detail".into(), json!(detail));
        let mut response = (self.kind.status(), Json(body)).into_response();
        let problem_json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem_json);
        if let Some(after) = self.retry_after {
            // Rounded up: who waits this long is not refused once more.
            let seconds = (after + SECOND - 1).div_euclid(SECOND);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.kind == Kind::Unauthorized {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

/// The documentation of all problems, as `docs/problems.md` holds it.
pub fn document() -> String {
    let mut text = String::from(
        "# Problems\n\nRefusals are RFC 9457 problems (`application/problem+json`): `type`, \
         `title`, `status`, `detail`, and members\nthat a program can act on. `type` ends in the \
         word that heads each section. This page is written from\n`src/http/problem.rs`; \
         a test holds them together.\n",
    );
    for kind in Kind::ALL {
        let (status, anchor, title, advice) = kind.row();
        let _ = write!(text, "\n## {anchor}\n\n{} — {title}.\n\n{advice}\n", status.as_u16());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/problems.md");
        let written = std::fs::read_to_string(path).unwrap();
        let current = document();
        assert!(
            written == current,
            "docs/problems.md is stale: cargo run -- problems > docs/problems.md"
        );
    }

    #[test]
    fn anchors_are_unique() {
        let mut anchors: Vec<_> = Kind::ALL.iter().map(|kind| kind.anchor()).collect();
        anchors.sort_unstable();
        anchors.dedup();
        assert_eq!(anchors.len(), Kind::ALL.len());
    }
}
