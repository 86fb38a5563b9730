//! The pages: plain files embedded in the binary.

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Redirect, Response};

use super::body::PathText;
use super::problem::{Kind, Problem};

/// Nothing from elsewhere, nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; media-src 'self'; connect-src 'self'; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'none'";

fn page(html: impl Into<String>) -> Response {
    let mut response = Html(html.into()).into_response();
    let policy = HeaderValue::from_static(POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn script(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], text).into_response()
}

pub(super) async fn demo() -> Response {
    page(include_str!("../../web/index.html"))
}

pub(super) async fn inbox() -> Response {
    page(include_str!("../../web/inbox.html"))
}

pub(super) async fn to_inbox() -> Redirect {
    Redirect::permanent("/dev/")
}

pub(super) async fn inbox_script() -> Response {
    script(include_str!("../../web/inbox.js"))
}

pub(super) async fn asset(PathText(file): PathText) -> Response {
    match file.as_str() {
        "verify.js" => script(include_str!("../../web/verify.js")),
        "style.css" => {
            let kind = (header::CONTENT_TYPE, "text/css; charset=utf-8");
            ([kind], include_str!("../../web/style.css")).into_response()
        }
        _ => Problem::of(Kind::NotFound).into_response(),
    }
}

pub(super) async fn openapi() -> Response {
    let document = super::openapi().to_pretty_json().expect("the document is plain JSON");
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

/// The page that a problem's `type` points to.
pub(super) async fn problem(PathText(anchor): PathText) -> Response {
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.anchor() == anchor) else {
        return Problem::of(Kind::NotFound).into_response();
    };
    let (status, title, advice) = (kind.status().as_u16(), kind.title(), kind.advice());
    page(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{anchor}</title>\
         <h1>{anchor}</h1><p>{status} — {title}.</p><p>{advice}</p></html>"
    ))
}
