//! A challenge as speech, for people who cannot see its picture. It is answered like the picture,
//! with digits in place of letters; whichever is answered, the challenge is spent.

use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Doors;
use super::body::PathText;
use super::client_ip::Peer;
use super::problem::{Kind, Problem};
use super::seed;
use crate::captcha::Language;
use crate::domain::challenge::is_name;
use crate::domain::clip::Clip;
use crate::message;
use crate::verifier::Verifier;

/// In which words.
#[derive(Deserialize)]
struct Voice {
    locale: Option<String>,
    /// What ALTCHA's widget calls it.
    language: Option<String>,
}

/// The language that is asked for: in the URL, else as the browser says.
fn language(uri: &Uri, headers: &HeaderMap) -> Result<Language, Problem> {
    let Query(Voice { locale, language }) =
        Query::try_from_uri(uri).map_err(|_| Problem::invalid("locale", "`zh` or `en`, once"))?;
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let asked = locale.as_deref().or(language.as_deref()).or(accepted);
    Ok(if message::locale(asked) == "en" { Language::English } else { Language::Chinese })
}

/// A challenge's audio: the same every time. Needs no key: an `audio` element sends none.
#[utoipa::path(get, path = "/v1/challenges/{id}/audio",
    params(("id" = String, Path, description = "The challenge's id"),
        ("locale" = Option<String>, Query,
            description = "`zh` or `en`; else as `Accept-Language` says"),
        ("language" = Option<String>, Query,
            description = "The same, as ALTCHA's widget calls it")),
    responses((status = 200, content_type = "audio/wav", body = Vec<u8>),
        (status = 206, content_type = "audio/wav", body = Vec<u8>), (status = 404), (status = 416),
        (status = 429, body = super::native::ProblemBody), (status = 503)))]
pub(super) async fn clip(
    State(doors): State<Doors>,
    PathText(id): PathText,
    Extension(Peer(peer)): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let language = language(&uri, &headers)?;
    let minted = doors.verifier.open_challenge(&id);
    let clip = minted.and_then(|minted| doors.verifier.minted_clip(&minted, language));
    let clip = clip.ok_or_else(|| Problem::of(Kind::NotFound))?;
    wav(&doors, clip, peer.ip(), &headers).await
}

/// The audio of a name that the caller chose, beside its picture.
pub(super) async fn named_clip(
    State(doors): State<Doors>,
    PathText(uuid): PathText,
    Extension(Peer(peer)): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !is_name(&uuid) {
        let detail = "a name is 1 to 64 letters, digits, - and _";
        return Err(Problem::invalid("uuid", detail));
    }
    let language = language(&uri, &headers)?;
    let clip = doors.verifier.named_clip(&seed::tenant(&doors), &uuid, language);
    wav(&doors, clip, peer.ip(), &headers).await
}

/// The clip as a file, for an address that may have one more.
async fn wav(
    doors: &Doors,
    clip: Clip,
    peer: std::net::IpAddr,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let address = doors.settings.proxies.client(peer, headers);
    let count = |outcome| {
        let locale = if clip.language == Language::English { "en" } else { "zh" };
        metrics::counter!("countersign_clips_total", "locale" => locale, "outcome" => outcome)
            .increment(1);
    };
    if let Err(refusal) = doors.verifier.listen(Some(address)) {
        count("refused");
        return Err(Problem::refused(&refusal, doors.verifier.clock()));
    }
    let file = doors.booth.draw(|| Verifier::speak(&clip)).await?;
    count("spoken");
    Ok(ranged(headers, file))
}

/// The file, or the part of it that is asked for: some browsers play nothing that they cannot ask
/// for in parts.
fn ranged(headers: &HeaderMap, file: Vec<u8>) -> Response {
    let length = file.len();
    let kind = [
        (header::CONTENT_TYPE, HeaderValue::from_static("audio/wav")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
    ];
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    // What a condition would compare with is not sent, so a conditional part is the whole.
    let asked = asked.filter(|_| !headers.contains_key(header::IF_RANGE));
    match asked.map_or(Part::Whole, |range| part(range, length)) {
        Part::Whole => (kind, file).into_response(),
        Part::Bytes(first, last) => {
            let place = [(header::CONTENT_RANGE, format!("bytes {first}-{last}/{length}"))];
            (StatusCode::PARTIAL_CONTENT, kind, place, file[first..=last].to_vec()).into_response()
        }
        Part::Beyond => {
            let place = [(header::CONTENT_RANGE, format!("bytes */{length}"))];
            (StatusCode::RANGE_NOT_SATISFIABLE, kind, place).into_response()
        }
    }
}

/// What is sent of a file.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// All of it.
    Whole,
    /// From this byte to that, both included.
    Bytes(usize, usize),
    /// Nothing: it ends before what is asked for.
    Beyond,
}

/// What a range asks for (RFC 9110 §14.1.2). For several ranges, and for what is none, the whole
/// file is right.
fn part(range: &str, length: usize) -> Part {
    let ends = range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'));
    let (Some((first, last)), Some(end)) = (ends, length.checked_sub(1)) else {
        return Part::Whole;
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<usize>().unwrap_or(usize::MAX))
    };
    match (number(first), number(last)) {
        (None, Some(0)) if first.is_empty() => Part::Beyond,
        (None, Some(count)) if first.is_empty() => Part::Bytes(length.saturating_sub(count), end),
        (Some(first), Some(last)) if first > last => Part::Whole,
        (Some(first), _) if first > end && (last.is_empty() || number(last).is_some()) => {
            Part::Beyond
        }
        (Some(first), Some(last)) => Part::Bytes(first, last.min(end)),
        (Some(first), None) if last.is_empty() => Part::Bytes(first, end),
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_standards() {
        let cases = [
            ("bytes=0-", Part::Bytes(0, 99)),
            ("bytes=0-1", Part::Bytes(0, 1)),
            ("bytes=10-1000", Part::Bytes(10, 99)),
            ("bytes=99-99", Part::Bytes(99, 99)),
            ("bytes=-1", Part::Bytes(99, 99)),
            ("bytes=-1000", Part::Bytes(0, 99)),
            ("bytes=0-99999999999999999999999", Part::Bytes(0, 99)),
            ("bytes=100-", Part::Beyond),
            ("bytes=100-200", Part::Beyond),
            ("bytes=-0", Part::Beyond),
            ("bytes=2-1", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=1-x", Part::Whole),
            ("items=0-1", Part::Whole),
            ("", Part::Whole),
        ];
        for (range, expected) in cases {
            assert_eq!(part(range, 100), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Whole);
    }

    #[test]
    fn the_whole_or_a_part_is_sent_with_its_place() {
        let answer = |range: Option<&str>, conditional: bool| {
            let mut headers = HeaderMap::new();
            if let Some(range) = range {
                headers.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
            }
            if conditional {
                headers.insert(header::IF_RANGE, HeaderValue::from_static("\"x\""));
            }
            let answer = ranged(&headers, vec![7; 100]);
            let place = answer.headers().get(header::CONTENT_RANGE).cloned();
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "audio/wav");
            assert_eq!(answer.headers()[header::ACCEPT_RANGES], "bytes");
            (answer.status().as_u16(), place.map(|place| place.to_str().unwrap().to_owned()))
        };
        assert_eq!(answer(None, false), (200, None));
        assert_eq!(answer(Some("bytes=0-9"), false), (206, Some("bytes 0-9/100".to_owned())));
        assert_eq!(answer(Some("bytes=0-9"), true), (200, None));
        assert_eq!(answer(Some("bytes=100-"), false), (416, Some("bytes */100".to_owned())));
    }
}
