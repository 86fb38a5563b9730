//! The native door, `/v1`.

use axum::Json;
use axum::extract::{Extension, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::auth::Caller;
use super::body::JsonBody;
use super::challenges::{ChallengeAnswer, Risk, answered};
use super::client_ip::Peer;
use super::problem::{Kind, Problem};
use super::{Doors, body};
use crate::clock::Clock;
use crate::domain::code::Code;
use crate::domain::id::VerificationId;
use crate::domain::money::{Currency, Micros};
use crate::domain::phone::{Phone, PhoneError};
use crate::message;
use crate::signer::{self, JwkSet};
use crate::verifier::{Asker, Checked, Event, Idempotency, StartRequest, Target, View};

/// A problem (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// The page that describes the kind.
    r#type: String,
    /// The kind in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What to do.
    detail: String,
    /// When to try again, where waiting helps.
    retry_at: Option<String>,
    /// Guesses left, after a wrong code.
    checks_left: Option<u8>,
    /// The member that is wrong, in an unreadable request.
    key: Option<String>,
    /// The purposes that may be asked for, after another one.
    purposes: Option<Vec<String>>,
    /// The kind of challenge that is wanted, where the ladder asks for one.
    kind: Option<String>,
    /// Which cap is spent: `server` or `country`.
    cap: Option<String>,
}

/// A verification.
#[derive(Serialize, ToSchema)]
pub(super) struct Verification {
    /// Its id.
    id: String,
    /// `pending`, `approved`, `canceled`, `max_attempts_reached` or `expired`.
    status: String,
    /// The number with its middle hidden.
    phone: String,
    /// Always `sms`.
    channel: &'static str,
    /// When the code ends, or when the verification ended (RFC 3339).
    expires_at: String,
    /// When another message may be asked for (RFC 3339).
    next_send_at: String,
    /// Guesses left for the code that is out.
    checks_left: u8,
    /// Messages that the phone's hour and day still allow.
    sends_left: u32,
    /// The signed proof: only in the answer to the right code.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Verification {
    fn new(view: View, clock: &Clock) -> Self {
        Self {
            id: view.id.to_string(),
            status: view.status,
            phone: view.phone,
            channel: "sms",
            expires_at: clock.shown(view.expires_at).to_string(),
            next_send_at: clock.shown(view.next_send_at).to_string(),
            checks_left: view.checks_left,
            sends_left: view.sends_left,
            token: None,
        }
    }
}

/// A start.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartBody {
    /// The phone number, as a person writes it.
    phone: String,
    /// The answered challenge. Browsers always need one.
    challenge: Option<ChallengeAnswer>,
    /// What the code shall be good for: one of the tenant's `purposes`; the first by default.
    purpose: Option<String>,
    /// The language of the message, such as `zh` or `en-US`.
    locale: Option<String>,
    /// What the application knows about who asks: secret keys only.
    risk: Option<Risk>,
}

/// A guess.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckBody {
    /// The code, as the person entered it.
    code: String,
}

/// What happened to a verification.
#[derive(Serialize, ToSchema)]
pub(super) struct Timeline {
    verification: Verification,
    /// Oldest first.
    events: Vec<TimelineEvent>,
    /// What its messages cost together, where prices are configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<Cost>,
}

/// An amount of money.
#[derive(Serialize, ToSchema)]
pub(super) struct Cost {
    /// The amount as a decimal number, such as `0.045`.
    amount: String,
    /// The currency, by its three letters.
    currency: String,
}

impl Cost {
    fn new(amount: Micros, currency: Currency) -> Option<Self> {
        let shown = || Self { amount: amount.to_string(), currency: currency.to_string() };
        (!amount.is_nothing()).then(shown)
    }
}

/// One thing that happened.
#[derive(Serialize, ToSchema)]
pub(super) struct TimelineEvent {
    /// When (RFC 3339).
    at: String,
    /// What.
    event: &'static str,
    /// Through which provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    /// The class of an outcome, as in docs/providers.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    /// The provider's own code.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// More about it, in words for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// Which message it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<String>,
    /// What a call costs that a provider took, or may have taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<Cost>,
}

impl TimelineEvent {
    fn new(event: Event, currency: Currency, clock: &Clock) -> Self {
        Self {
            at: clock.shown(event.at).to_string(),
            event: event.event,
            provider: event.provider,
            class: event.class,
            code: event.code,
            note: event.note,
            delivery: event.delivery.map(|id| id.to_string()),
            cost: Cost::new(event.cost, currency),
        }
    }
}

/// The verification that a path names; what is not an id is unknown like any other.
pub(super) struct PathId(VerificationId);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|Path(text)| text.parse().ok());
        id.map(Self).ok_or_else(|| Problem::of(Kind::VerificationNotFound))
    }
}

/// Begins a verification and sends a code.
#[utoipa::path(post, path = "/v1/verifications", request_body = StartBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 characters")),
    responses((status = 201, body = Verification), (status = 429, body = ProblemBody)))]
pub(super) async fn start(
    State(doors): State<Doors>,
    caller: Caller,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: JsonBody<StartBody>,
) -> Result<Response, Problem> {
    let JsonBody { value: StartBody { phone, challenge, purpose, locale, risk }, bytes } = body;
    let phone = Phone::parse(&phone, &doors.settings.phones).map_err(phone_problem)?;
    let purpose = listed_purpose(&caller, purpose.as_deref())?;
    let idempotency = idempotency(&headers, "start", &bytes)?;
    let address = caller.counted_address(&doors, peer.ip(), &headers);
    let hint = Risk::of_servers(risk, &caller)?;
    let answered = answered(&doors, &caller, challenge, &purpose, address, hint)?;
    let asker = Asker { tenant: caller.tenant.id.clone(), address, idempotency };
    let locale = message::locale(locale.as_deref()).to_owned();
    let request = StartRequest { asker, phone, purpose, locale, answered };
    let started = doors.verifier.start(request).await?;
    let clock = doors.verifier.clock();
    let view = started.map_err(|refusal| Problem::refused(&refusal, clock))?;
    Ok((StatusCode::CREATED, Json(Verification::new(view, clock))).into_response())
}

/// Sends a new code for a pending verification; the old code ends.
#[utoipa::path(post, path = "/v1/verifications/{id}/resend",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = Verification), (status = 429, body = ProblemBody)))]
pub(super) async fn resend(
    State(doors): State<Doors>,
    caller: Caller,
    PathId(id): PathId,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<Verification>, Problem> {
    let bytes = body::read(request).await?;
    let idempotency = idempotency(&headers, &format!("resend {id}"), &bytes)?;
    let address = caller.counted_address(&doors, peer.ip(), &headers);
    let asker = Asker { tenant: caller.tenant.id.clone(), address, idempotency };
    let clock = doors.verifier.clock();
    let view = doors.verifier.resend(asker, id).await?;
    let view = view.map_err(|refusal| Problem::refused(&refusal, clock))?;
    Ok(Json(Verification::new(view, clock)))
}

/// Judges a code.
#[utoipa::path(post, path = "/v1/verifications/{id}/check", request_body = CheckBody,
    params(("id" = String, Path)),
    responses((status = 200, body = Verification), (status = 422, body = ProblemBody)))]
pub(super) async fn check(
    State(doors): State<Doors>,
    caller: Caller,
    PathId(id): PathId,
    body: JsonBody<CheckBody>,
) -> Result<Json<Verification>, Problem> {
    let guess = Code::parse(&body.value.code)
        .ok_or_else(|| Problem::invalid("code", "a code is 6 to 10 digits"))?;
    let clock = doors.verifier.clock();
    match doors.verifier.check(&caller.tenant.id, Target::Id(id), guess).await? {
        Checked::Approved(approval) => {
            let token = Some(approval.token);
            Ok(Json(Verification { token, ..Verification::new(approval.view, clock) }))
        }
        Checked::Wrong { checks_left } => {
            Err(Problem::of(Kind::WrongCode).with("checks_left", json!(checks_left)))
        }
        Checked::Refused(refusal) => Err(Problem::refused(&refusal, clock)),
    }
}

/// Looks at a verification.
#[utoipa::path(get, path = "/v1/verifications/{id}", params(("id" = String, Path)),
    responses((status = 200, body = Verification), (status = 404, body = ProblemBody)))]
pub(super) async fn look(
    State(doors): State<Doors>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Json<Verification>, Problem> {
    let view = doors.verifier.look(&caller.tenant.id, id).await?;
    let view = view.ok_or_else(|| Problem::of(Kind::VerificationNotFound))?;
    Ok(Json(Verification::new(view, doors.verifier.clock())))
}

/// Gives a pending verification up.
#[utoipa::path(delete, path = "/v1/verifications/{id}", params(("id" = String, Path)),
    responses((status = 200, body = Verification), (status = 404, body = ProblemBody)))]
pub(super) async fn cancel(
    State(doors): State<Doors>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Json<Verification>, Problem> {
    let view = doors.verifier.cancel(&caller.tenant.id, id).await?;
    let view = view.ok_or_else(|| Problem::of(Kind::VerificationNotFound))?;
    Ok(Json(Verification::new(view, doors.verifier.clock())))
}

/// What happened, when, through whom, and why it ended. Takes the secret key only.
#[utoipa::path(get, path = "/v1/verifications/{id}/timeline", params(("id" = String, Path)),
    responses((status = 200, body = Timeline), (status = 403, body = ProblemBody)))]
pub(super) async fn timeline(
    State(doors): State<Doors>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Json<Timeline>, Problem> {
    let caller = caller.secret()?;
    let look = doors.verifier.timeline(&caller.tenant.id, id).await?;
    let look = look.ok_or_else(|| Problem::of(Kind::VerificationNotFound))?;
    let (clock, currency) = (doors.verifier.clock(), doors.verifier.policy().currency);
    let cost = Cost::new(look.events.iter().map(|event| event.cost).sum(), currency);
    let events = look.events.into_iter();
    let events = events.map(|event| TimelineEvent::new(event, currency, clock)).collect();
    Ok(Json(Timeline { verification: Verification::new(look.view, clock), events, cost }))
}

/// The keys that tokens are checked with.
#[utoipa::path(get, path = "/.well-known/jwks.json", responses((status = 200, body = JwkSet)))]
pub(super) async fn jwks(State(doors): State<Doors>) -> Response {
    let keys = signer::jwks(&doors.verifier.keys().ring());
    ([(header::CACHE_CONTROL, "public, max-age=300")], Json(keys)).into_response()
}

/// The problem of a number that is not taken.
pub(super) fn phone_problem(error: PhoneError) -> Problem {
    match error {
        PhoneError::Malformed | PhoneError::NotMobile => {
            Problem::of(Kind::InvalidPhone).with("key", json!("phone"))
        }
        PhoneError::Country => Problem::of(Kind::CountryNotAllowed).with("key", json!("phone")),
    }
}

pub(super) fn listed_purpose(caller: &Caller, asked: Option<&str>) -> Result<String, Problem> {
    let listed = &caller.tenant.purposes;
    let found = match asked {
        Some(asked) => listed.iter().find(|purpose| *purpose == asked),
        None => listed.first(),
    };
    found.cloned().ok_or_else(|| {
        Problem::of(Kind::PurposeNotAllowed)
            .detail(format!("the purposes of this tenant are: {}", listed.join(", ")))
            .with("key", json!("purpose"))
            .with("purposes", json!(listed))
    })
}

fn idempotency(
    headers: &HeaderMap,
    route: &str,
    body: &[u8],
) -> Result<Option<Idempotency>, Problem> {
    let mut given = headers.get_all("idempotency-key").iter();
    let Some(value) = given.next() else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    let key = key.filter(|_| given.next().is_none()).ok_or_else(|| {
        Problem::invalid("Idempotency-Key", "one key of 1 to 255 visible ASCII characters")
    })?;
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(route.as_bytes());
    context.update(&[0]);
    context.update(body);
    let body = hex::encode(context.finish());
    Ok(Some(Idempotency { key: key.to_owned(), body }))
}
