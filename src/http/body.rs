//! Bodies: bounded in size and time, of one type, read strictly.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::problem::{Kind, Problem};

/// The most bytes of a body.
pub(super) const BODY_MAX: usize = 16 * 1024;
/// The most time a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(5);

/// Reads a body whole.
pub(super) async fn read(request: Request) -> Result<Bytes, Problem> {
    read_at_most(request, BODY_MAX).await
}

/// Reads a body of at most so many bytes whole.
pub(super) async fn read_at_most(request: Request, most: usize) -> Result<Bytes, Problem> {
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > most) {
        return Err(Problem::of(Kind::TooLarge));
    }
    let limited = Limited::new(request.into_body(), most);
    match tokio::time::timeout(BODY_TIME, limited.collect()).await {
        Err(_) => Err(Problem::of(Kind::TimedOut)),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::of(Kind::TooLarge)),
        Ok(Err(_)) => Err(Problem::of(Kind::InvalidRequest).detail("the body broke off")),
    }
}

/// Whether a header's media type is this one.
pub(super) fn is_type(headers: &HeaderMap, wanted: &str) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split(';').next()).unwrap_or_default();
    given.trim().eq_ignore_ascii_case(wanted)
}

/// Parses JSON; the problem names the member and never quotes a value.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value: T = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = named(error.path().to_string());
        let what = if error.inner().is_data() {
            "a member is missing, unknown or of another type"
        } else {
            "this is not JSON"
        };
        let (line, column) = (error.inner().line(), error.inner().column());
        Problem::invalid(&path, format!("{what} (line {line}, column {column})"))
    })?;
    deserializer.end().map_err(|_| Problem::invalid(".", "there is something after the JSON"))?;
    Ok(value)
}

/// The name of a member, if it looks like one: a stranger's member may be named like a phone.
fn named(path: String) -> String {
    let digits = path.bytes().filter(u8::is_ascii_digit).count();
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-[]".contains(&byte);
    if path.len() <= 64 && digits < 4 && path.bytes().all(allowed) { path } else { ".".to_owned() }
}

/// A part of the path. What is no text (`%80`) names nothing here, and is refused like that.
pub(super) struct PathText(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        text.map(|Path(text)| Self(text)).map_err(|_| Problem::of(Kind::NotFound))
    }
}

/// A JSON body, with the bytes it was read from.
pub(super) struct JsonBody<T> {
    /// What it says.
    pub(super) value: T,
    /// Its bytes.
    pub(super) bytes: Bytes,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_type(request.headers(), "application/json") {
            return Err(Problem::of(Kind::UnsupportedMediaType));
        }
        let bytes = read(request).await?;
        Ok(Self { value: json(&bytes)?, bytes })
    }
}
