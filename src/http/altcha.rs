//! What ALTCHA's stock widget asks for, as it asks: one URL for the challenge, and one for what a
//! person read. It sends no key, so the publishable one stands in the URL.

use axum::Json;
use axum::extract::{Extension, FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Doors;
use super::auth::{Caller, KeyKind, Offer};
use super::body::JsonBody;
use super::challenges::{ask, audio_url, image_url, offered, version};
use super::client_ip::Peer;
use super::native::listed_purpose;
use super::problem::{Kind, Problem};
use crate::captcha::LENGTH;
use crate::domain::minted::Kind as Wish;
use crate::domain::risk::Hint;
use crate::message;
use crate::verifier::{Refusal, Reply, Work};

/// What stands in the URL.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InUrl {
    key: String,
    purpose: Option<String>,
    version: Option<u8>,
}

/// A caller whose publishable key stands in the URL.
pub(super) struct UrlCaller(Caller, InUrl);

impl FromRequestParts<Doors> for UrlCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, doors: &Doors) -> Result<Self, Problem> {
        let Query(in_url): Query<InUrl> = Query::try_from_uri(&parts.uri)
            .map_err(|_| Problem::invalid("key", "?key=pk_…, and purpose and version if wanted"))?;
        let caller = Caller::with_key(Some(&in_url.key), &parts.headers, doors)?;
        if caller.kind == KeyKind::Secret {
            let detail = "a secret key does not belong into a URL";
            return Err(Problem::of(Kind::Forbidden).detail(detail));
        }
        Ok(Self(caller, in_url))
    }
}

/// A challenge for the widget.
#[derive(Serialize, ToSchema)]
pub(super) struct WidgetChallenge {
    /// The work, in the members that its version has.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    work: Option<Work>,
    /// The picture, where the ladder asks for one as well.
    #[serde(rename = "codeChallenge", skip_serializing_if = "Option::is_none")]
    code: Option<CodeChallenge>,
    /// Where the widget sends what was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<WidgetConfiguration>,
}

/// A picture for the widget.
#[derive(Serialize, ToSchema)]
pub(super) struct CodeChallenge {
    /// Where it is, with a line below that says how it is read.
    image: String,
    /// Where it is spoken, where that is offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    audio: Option<String>,
    /// How many characters are typed; nothing with audio, whose answer is longer than the
    /// picture's.
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<usize>,
}

/// What the widget is told beside the challenge.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct WidgetConfiguration {
    /// Where it sends what was read.
    #[serde(rename = "verifyUrl")]
    verify_url: String,
}

/// A challenge for ALTCHA's widget: its `challenge` (before version 3 `challengeurl`).
#[utoipa::path(get, path = "/v1/challenges/altcha",
    params(("key" = String, Query, description = "The publishable key"),
        ("purpose" = Option<String>, Query), ("version" = Option<u8>, Query)),
    responses((status = 200, body = WidgetChallenge)))]
pub(super) async fn challenge(
    State(doors): State<Doors>,
    UrlCaller(caller, in_url): UrlCaller,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    offered(&doors, &caller, Some(Offer::Work.as_str()))?;
    let version = version(&doors, in_url.version)?;
    let address = caller.counted_address(&doors, peer.ip(), &headers);
    let wish = Wish::WorkThenImage(version);
    let purpose = in_url.purpose.as_deref();
    let minting = ask(&doors, &caller, purpose, address, Hint::Low, wish)?;
    let picture = minting.minted.kind.has_picture();
    let audio = minting.minted.has_audio();
    let language = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let caption = message::locale(language);
    let code = picture.then(|| CodeChallenge {
        image: format!("{}?caption={caption}", image_url(&doors, &minting.id)),
        audio: audio.then(|| audio_url(&doors, &minting.id)),
        length: (!audio).then_some(LENGTH),
    });
    let configuration = picture.then(|| WidgetConfiguration {
        verify_url: format!(
            "{}/v1/challenges/altcha/verify?key={}{}",
            doors.settings.public_url.trim_end_matches('/'),
            in_url.key,
            purpose.map(|purpose| format!("&purpose={purpose}")).unwrap_or_default()
        ),
    });
    let config_header = configuration.clone();
    let work = doors.verifier.work(&minting);
    let mut response = Json(WidgetChallenge { work, code, configuration }).into_response();
    let answer = response.headers_mut();
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A challenge of version 1 has no place for it, and older widgets look here.
    if let Some(WidgetConfiguration { verify_url }) = config_header
        && let Ok(value) = HeaderValue::from_str(&json!({"verifyurl": verify_url}).to_string())
    {
        answer.insert("x-altcha-config", value);
    }
    Ok(response)
}

/// The same with POST, for widgets that are told to.
#[utoipa::path(post, path = "/v1/challenges/altcha",
    params(("key" = String, Query, description = "The publishable key"),
        ("purpose" = Option<String>, Query), ("version" = Option<u8>, Query)),
    responses((status = 200, body = WidgetChallenge)))]
pub(super) async fn challenge_by_post(
    state: State<Doors>,
    caller: UrlCaller,
    peer: Extension<Peer>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    // Nothing in it matters, but a body that is left unread would end the connection.
    super::body::read(request).await?;
    challenge(state, caller, peer, headers).await
}

/// What the widget sends when a person read the picture; it may send more, which means nothing.
#[derive(Deserialize, ToSchema)]
pub(super) struct VerifyBody {
    /// What was read.
    code: Option<String>,
    /// The solution.
    payload: String,
}

/// What the widget takes from the answer.
#[derive(Serialize, ToSchema)]
pub(super) struct Judgement {
    verified: bool,
    /// What the form sends in place of the solution.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Judges the work and what was read, once: the widget's `verifyUrl`.
#[utoipa::path(post, path = "/v1/challenges/altcha/verify", request_body = VerifyBody,
    params(("key" = String, Query, description = "The publishable key"),
        ("purpose" = Option<String>, Query)),
    responses((status = 200, body = Judgement)))]
pub(super) async fn verify(
    State(doors): State<Doors>,
    UrlCaller(caller, in_url): UrlCaller,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: JsonBody<VerifyBody>,
) -> Result<Json<Judgement>, Problem> {
    let purpose = listed_purpose(&caller, in_url.purpose.as_deref())?;
    let address = caller.counted_address(&doors, peer.ip(), &headers);
    let reply = Reply { tenant: &caller.tenant.id, id: None, purpose: &purpose, address };
    let VerifyBody { code, payload } = body.value;
    let no = |reason| Ok(Json(Judgement { verified: false, payload: None, reason: Some(reason) }));
    match doors.verifier.pass(&reply, payload, code).await? {
        Ok(payload) => Ok(Json(Judgement { verified: true, payload: Some(payload), reason: None })),
        Err(Refusal::ChallengeWrong) => no("challenge-wrong"),
        Err(Refusal::ChallengeExpired) => no("challenge-expired"),
        Err(refusal) => Err(Problem::refused(&refusal, doors.verifier.clock())),
    }
}
