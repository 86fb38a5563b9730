//! 极验 (`GeeTest`) version 4: the page's widget gives four values, and the vendor is asked about
//! them under a signature over the first (HMAC-SHA256).
//!
//! The vendor's own examples let everybody through when it cannot be reached. Here that is a
//! verdict of its own like with all others.

use std::net::IpAddr;

use reqwest::RequestBuilder;
use reqwest::header::CONTENT_TYPE;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;

use super::settings::{Parts, Settings};
use super::{ThirdParty, is_plain, object};
use crate::domain::third_party::{Report, Verdict};
use crate::providers::signing;

/// The longest value of a token.
const VALUE_MAX: usize = 4096;

struct Geetest {
    settings: Settings,
    client: reqwest::Client,
}

pub(super) fn make(settings: &Settings, parts: &Parts) -> Box<dyn ThirdParty> {
    Box::new(Geetest { settings: settings.clone(), client: parts.client.clone() })
}

/// What `getValidate()` of the widget gives, as JSON.
#[derive(Deserialize)]
struct Token {
    lot_number: String,
    captcha_output: String,
    #[serde(rename = "pass_token")]
    pass: String,
    gen_time: String,
}

impl Token {
    /// Only what has the form of a token is passed on, so that what the vendor calls an error is
    /// rather our fault than who asks' doing.
    fn read(text: &str) -> Option<Self> {
        let token: Self = serde_json::from_str(text).ok()?;
        let digits = token.gen_time.bytes().all(|byte| byte.is_ascii_digit());
        let fits = is_plain(&token.lot_number, 64)
            && is_plain(&token.captcha_output, VALUE_MAX)
            && is_plain(&token.pass, VALUE_MAX)
            && is_plain(&token.gen_time, 16)
            && digits;
        fits.then_some(token)
    }
}

impl ThirdParty for Geetest {
    /// The number of the event: the other values, and how the JSON is written, do not make another
    /// token of it.
    fn identity(&self, token: &str) -> Option<String> {
        Token::read(token).map(|token| token.lot_number)
    }

    fn request(&self, token: &str, _: Option<IpAddr>) -> Result<RequestBuilder, Verdict> {
        let token = Token::read(token).ok_or(Verdict::Refused("malformed"))?;
        let key = self.settings.secret_key.expose_secret().as_bytes();
        let signature = hex::encode(signing::hmac_sha256(key, token.lot_number.as_bytes()));
        let form = signing::query([
            ("lot_number", token.lot_number.as_str()),
            ("captcha_output", &token.captcha_output),
            ("pass_token", &token.pass),
            ("gen_time", &token.gen_time),
            ("sign_token", &signature),
        ]);
        let id = signing::encoded(&self.settings.site_key);
        let url = format!("{}/validate?captcha_id={id}", self.settings.base_url);
        let request = self.client.post(url);
        Ok(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form))
    }

    fn read(&self, token: &str, status: u16, body: &[u8]) -> Verdict {
        if status != 200 {
            return Verdict::Down("http-4xx");
        }
        let report = read(body, &self.identity(token).unwrap_or_default());
        report.map_or_else(|verdict| verdict, |report| self.settings.expected().judge(&report))
    }

    fn made_up(&self) -> String {
        let (lot_number, pass_token) = ("0".repeat(32), "0".repeat(64));
        json!({
            "lot_number": lot_number,
            "captcha_output": "countersign-doctor",
            "pass_token": pass_token,
            "gen_time": "1",
        })
        .to_string()
    }
}

#[derive(Deserialize)]
struct Answer {
    status: Option<String>,
    result: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    captcha_args: Option<Arguments>,
}

/// What the vendor knows about the event.
#[derive(Default, Deserialize)]
struct Arguments {
    lot_number: Option<String>,
    referer: Option<String>,
}

fn read(body: &[u8], lot_number: &str) -> Result<Report, Verdict> {
    let answer: Answer = object(body)?;
    let arguments = answer.captcha_args.unwrap_or_default();
    match (answer.status.as_deref(), answer.result.as_deref()) {
        (Some("error"), _) => Err(Verdict::Refused("vendor-error")),
        (None | Some("success"), Some("success")) => {
            if arguments.lot_number.is_some_and(|other| other != lot_number) {
                return Err(Verdict::Refused("other-token"));
            }
            Ok(Report { host: arguments.referer.as_deref().and_then(host), ..Report::default() })
        }
        (None | Some("success"), Some("fail")) => {
            let late = answer.reason.is_some_and(|reason| reason.contains("expire"));
            Err(Verdict::Refused(if late { "late-or-used" } else { "wrong-token" }))
        }
        _ => Err(Verdict::Down("garbled")),
    }
}

fn host(referer: &str) -> Option<String> {
    reqwest::Url::parse(referer).ok()?.host_str().map(str::to_owned)
}
