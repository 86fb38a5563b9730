//! The origin's door: the calls and answers that existing front ends speak.

use axum::Json;
use axum::extract::{Extension, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::body::PathText;
use super::challenges::png;
use super::client_ip::Peer;
use super::problem::{Kind, Problem};
use super::{Doors, body};
use crate::captcha::{Language, Level};
use crate::domain::challenge::is_name;
use crate::domain::clip::is_heard;
use crate::domain::code::Code;
use crate::domain::phone::Phone;
use crate::message;
use crate::store::StoreError;
use crate::verifier::{Answered, Asker, Checked, Refusal, StartRequest, Target};

/// What this door's codes are good for.
/// What this door's codes are good for.
pub const PURPOSE: &str = "login";

/// The codes of this door's answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Codes {
    /// Fine.
    pub ok: String,
    /// The image's answer is wrong or too late.
    pub image_code: String,
    /// Too often.
    pub throttled: String,
    /// The text message's code is wrong or too late.
    pub sms_code: String,
    /// A parameter is missing or malformed.
    pub param: String,
    /// A fault of ours.
    pub server: String,
}

/// What this door goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The tenant whose name is in tokens and records.
    pub tenant: String,
    /// The codes.
    pub codes: Codes,
    /// Whether pictures come with audio.
    pub audio: bool,
    /// How hard pictures are.
    pub level: Level,
}

/// What this door says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Ok,
    Incomplete,
    BadPhone,
    ImageExpired,
    ImageWrong,
    Throttled,
    CodeWrong,
    CodeExpired,
    Broken,
}

impl Said {
    fn row(self, codes: &Codes) -> (&str, &'static str, &'static str) {
        match self {
            Self::Ok => (&codes.ok, "OK", "OK"),
            Self::Incomplete => (&codes.param, "参数不完整", "A parameter is missing"),
            Self::BadPhone => (&codes.param, "手机号格式错误", "This is not a mobile phone number"),
            Self::ImageExpired => (
                &codes.image_code,
                "图形验证码已过期,点击图片换一个",
                "The picture has expired: click it for another",
            ),
            Self::ImageWrong => {
                (&codes.image_code, "图形验证码错误", "The picture's text is wrong")
            }
            Self::Throttled => {
                (&codes.throttled, "发送短信太频繁,请稍候再发", "Too many messages: wait a little")
            }
            Self::CodeWrong => (&codes.sms_code, "短信验证码错误", "The code is wrong"),
            Self::CodeExpired => (&codes.sms_code, "短信验证码已过期", "The code has expired"),
            Self::Broken => {
                (&codes.server, "服务器错误,请稍后再试", "A fault of the server: try again later")
            }
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    code: &'a str,
    errmsg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

fn answer(doors: &Doors, headers: &HeaderMap, said: Said, token: Option<String>) -> Response {
    let Some(settings) = &doors.settings.seed else {
        return Problem::of(Kind::NotFound).into_response();
    };
    let (code, chinese, english) = said.row(&settings.codes);
    let errmsg = if self::english(headers) { english } else { chinese };
    let status =
        if said == Said::Broken { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(Answer { code, errmsg, token })).into_response()
}

/// Whether the caller asks for English.
fn english(headers: &HeaderMap) -> bool {
    let asked = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    message::locale(asked) == "en"
}

fn broken(error: StoreError) -> Said {
    // The problem logs the cause.
    let _ = Problem::from(error);
    Said::Broken
}

pub(super) fn tenant(doors: &Doors) -> String {
    doors.settings.seed.as_ref().map(|seed| seed.tenant.clone()).unwrap_or_default()
}

/// The picture of a name that the caller chose. These front ends show an image and no more, so
/// the image itself says how it is read.
pub(super) async fn image(
    State(doors): State<Doors>,
    PathText(uuid): PathText,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !is_name(&uuid) {
        let detail = "a name is 1 to 64 letters, digits, - and _";
        return Err(Problem::invalid("uuid", detail));
    }
    let address = doors.settings.proxies.client(peer.ip(), &headers);
    let asked = doors.verifier.ask_named(Some(address));
    asked.map_err(|refusal| Problem::refused(&refusal, doors.verifier.clock()))?;
    metrics::counter!("countersign_challenges_total", "kind" => "named").increment(1);
    let caption = if english(&headers) { Language::English } else { Language::Chinese };
    let level = doors.settings.seed.as_ref().map_or(Level::Plain, |seed| seed.level);
    let picture = doors.verifier.named_picture(&tenant(&doors), &uuid, level);
    png(&doors, picture, Some(caption)).await
}

/// The parameters of a send.
#[derive(Default, Deserialize)]
struct SendParams {
    #[serde(default)]
    image_code_id: String,
    #[serde(default)]
    image_code: String,
    /// The number stands in the path; a copy here must be the same.
    mobile: Option<String>,
}

/// Sends a code: GET as the origin has it, POST for who minds side effects.
pub(super) async fn send(
    State(doors): State<Doors>,
    PathText(mobile): PathText,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Response {
    let headers = request.headers().clone();
    if let Err(problem) = acts(request.method(), &headers, "GET, POST") {
        return problem.into_response();
    }
    let params = match params(request).await {
        Ok(params) => params,
        Err(problem) => return refuse_body(&doors, &headers, problem),
    };
    let said = match send_checked(&doors, &mobile, peer.ip(), &headers, params).await {
        Ok(()) => Said::Ok,
        Err(said) => said,
    };
    answer(&doors, &headers, said, None)
}

async fn send_checked(
    doors: &Doors,
    mobile: &str,
    peer: std::net::IpAddr,
    headers: &HeaderMap,
    params: SendParams,
) -> Result<(), Said> {
    let SendParams { image_code_id: name, mut image_code, mobile: again } = params;
    if is_heard(&image_code) && !doors.settings.seed.as_ref().is_some_and(|seed| seed.audio) {
        // Nobody could have heard it here, so it is wrong, whatever the name's clip would say.
        "-".clone_into(&mut image_code);
    }
    if name.is_empty() || image_code.trim().is_empty() || mobile.is_empty() {
        return Err(Said::Incomplete);
    }
    if !is_name(&name) || again.is_some_and(|again| again != mobile) {
        return Err(Said::Incomplete);
    }
    let phone = Phone::parse(mobile, &doors.settings.phones).map_err(|_| Said::BadPhone)?;
    let address = Some(doors.settings.proxies.client(peer, headers));
    let asker = Asker { tenant: tenant(doors), address, idempotency: None };
    let asked = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let request = StartRequest {
        asker,
        phone,
        purpose: PURPOSE.to_owned(),
        locale: message::locale(asked).to_owned(),
        answered: Some(Answered::Named { name, answer: image_code }),
    };
    match doors.verifier.start(request).await.map_err(broken)? {
        Ok(_) => Ok(()),
        Err(Refusal::ChallengeWrong) => Err(Said::ImageWrong),
        Err(Refusal::ChallengeExpired) => Err(Said::ImageExpired),
        Err(Refusal::Throttled { .. } | Refusal::Capped { .. } | Refusal::Locked { .. }) => {
            Err(Said::Throttled)
        }
        // None of these comes up here: no third party judges this door's pictures.
        Err(
            Refusal::NotFound
            | Refusal::KeyReused
            | Refusal::KeyInFlight
            | Refusal::ThirdPartyDown { .. },
        ) => Err(Said::Broken),
    }
}

/// The parameters of a login.
#[derive(Default, Deserialize)]
struct LoginParams {
    #[serde(default)]
    mobile: String,
    #[serde(default)]
    sms_code: String,
}

/// Judges a code, and answers with a token if it is right.
pub(super) async fn login(State(doors): State<Doors>, request: Request) -> Response {
    let headers = request.headers().clone();
    if let Err(problem) = acts(request.method(), &headers, "POST") {
        return problem.into_response();
    }
    let params: LoginParams = match fields(request).await {
        Ok(params) => params,
        Err(problem) => return refuse_body(&doors, &headers, problem),
    };
    match login_checked(&doors, params).await {
        Ok(token) => answer(&doors, &headers, Said::Ok, Some(token)),
        Err(said) => answer(&doors, &headers, said, None),
    }
}

async fn login_checked(doors: &Doors, params: LoginParams) -> Result<String, Said> {
    let LoginParams { mobile, sms_code } = params;
    if mobile.is_empty() || sms_code.is_empty() {
        return Err(Said::Incomplete);
    }
    let phone = Phone::parse(&mobile, &doors.settings.phones).map_err(|_| Said::BadPhone)?;
    // What cannot be a code is not a guess either: it is wrong, and not counted.
    let guess = Code::parse(&sms_code).ok_or(Said::CodeWrong)?;
    let target = Target::Newest { phone, purpose: PURPOSE.to_owned() };
    match doors.verifier.check(&tenant(doors), target, guess).await.map_err(broken)? {
        Checked::Approved(approval) => Ok(approval.token),
        Checked::Wrong { .. } | Checked::Refused(Refusal::Locked { .. }) => Err(Said::CodeWrong),
        Checked::Refused(_) => Err(Said::CodeExpired),
    }
}

/// HEAD, prefetches and other methods never act.
fn acts(method: &Method, headers: &HeaderMap, allowed: &'static str) -> Result<(), Problem> {
    if !allowed.split(", ").any(|allowed| method == allowed) {
        return Err(Problem::method_not_allowed(allowed));
    }
    let says = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.contains("prefetch") || value.contains("prerender") || value.contains("preview")
    };
    if ["purpose", "sec-purpose", "x-moz", "x-purpose"].into_iter().any(says) {
        return Err(Problem::of(Kind::Forbidden).detail("a prefetch sends nothing"));
    }
    Ok(())
}

async fn params(request: Request) -> Result<SendParams, Problem> {
    if request.method() == Method::GET {
        return query(&request);
    }
    let from_query: SendParams = query(&request)?;
    let from_body: SendParams = fields(request).await?;
    Ok(if from_body.image_code_id.is_empty() { from_query } else { from_body })
}

fn query<T: serde::de::DeserializeOwned>(request: &Request) -> Result<T, Problem> {
    // A parameter given twice is an error here: nobody can say which of the two was meant.
    Query::<T>::try_from_uri(request.uri())
        .map(|Query(params)| params)
        .map_err(|_| Problem::of(Kind::InvalidRequest))
}

async fn fields<T: serde::de::DeserializeOwned + Default>(request: Request) -> Result<T, Problem> {
    let headers = request.headers().clone();
    let bytes = body::read(request).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    if body::is_type(&headers, "application/json") {
        return body::json(&bytes);
    }
    if !body::is_type(&headers, "application/x-www-form-urlencoded") {
        return Err(Problem::of(Kind::UnsupportedMediaType));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::of(Kind::InvalidRequest))?;
    let uri =
        format!("/?{}", text.trim()).parse().map_err(|_| Problem::of(Kind::InvalidRequest))?;
    Query::<T>::try_from_uri(&uri)
        .map(|Query(params)| params)
        .map_err(|_| Problem::of(Kind::InvalidRequest))
}

/// A body that cannot be read is a missing parameter in this door's words; too large and too slow
/// ones keep their own.
fn refuse_body(doors: &Doors, headers: &HeaderMap, problem: Problem) -> Response {
    if problem.kind() == Kind::InvalidRequest {
        answer(doors, headers, Said::Incomplete, None)
    } else {
        problem.into_response()
    }
}
