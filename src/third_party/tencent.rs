//! 腾讯云验证码 (Tencent Captcha): the page's widget gives a ticket and a random text, and the cloud's
//! API is asked about them (`DescribeCaptchaResult`, signed with TC3-HMAC-SHA256 like the vendor's
//! other products).

use std::net::IpAddr;

use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;

use super::settings::{Parts, Settings};
use super::{ThirdParty, is_plain, object};
use crate::clock::Clock;
use crate::domain::third_party::Verdict;
use crate::providers::signing::Tc3;
use crate::providers::wire;

/// The longest ticket.
const TICKET_MAX: usize = 2048;
/// What the widget makes up when it cannot reach the vendor: proof of nothing.
const FALLBACK: &str = "trerror_";
/// Told in place of an address that is not known, since the vendor wants one: the example of its
/// documents.
const NO_ADDRESS: &str = "127.0.0.1";
/// The content type, as it is signed and sent.
const JSON: &str = "application/json";

/// What a refusal's number means.
const CODES: [(i64, &str); 12] = [
    (6, "wrong-token"),
    (7, "wrong-token"),
    (8, "late-or-used"),
    (9, "late-or-used"),
    (10, "wrong-token"),
    (11, "wrong-token"),
    (12, "wrong-token"),
    (13, "address"),
    (15, "wrong-token"),
    (16, "key-mismatch"),
    (21, "suspicious"),
    // Whoever sends a ticket of another application brings it about, too.
    (100, "key-mismatch"),
];

/// What the API's errors mean, by what stands before the first dot.
const ERRORS: [(&str, Verdict); 9] = [
    ("AuthFailure", Verdict::Unfit("wrong-api-key")),
    ("UnauthorizedOperation", Verdict::Unfit("account")),
    ("OperationDenied", Verdict::Unfit("account")),
    ("ResourceUnavailable", Verdict::Unfit("account")),
    ("ResourceInsufficient", Verdict::Unfit("account")),
    ("LimitExceeded", Verdict::Down("http-429")),
    ("RequestLimitExceeded", Verdict::Down("http-429")),
    ("InternalError", Verdict::Down("vendor-fault")),
    ("FailedOperation", Verdict::Down("vendor-fault")),
];

struct Tencent {
    settings: Settings,
    client: reqwest::Client,
    clock: Clock,
}

pub(super) fn make(settings: &Settings, parts: &Parts) -> Box<dyn ThirdParty> {
    let (client, clock) = (parts.client.clone(), parts.clock.clone());
    Box::new(Tencent { settings: settings.clone(), client, clock })
}

/// What the widget's callback gives, as JSON.
#[derive(Deserialize)]
struct Token {
    ticket: String,
    randstr: String,
}

impl Token {
    fn read(text: &str) -> Option<Self> {
        let token: Self = serde_json::from_str(text).ok()?;
        let fits = is_plain(&token.ticket, TICKET_MAX) && is_plain(&token.randstr, 128);
        fits.then_some(token)
    }
}

impl ThirdParty for Tencent {
    /// The ticket: how the JSON is written does not make another token of it.
    fn identity(&self, token: &str) -> Option<String> {
        Token::read(token).map(|token| token.ticket)
    }

    fn request(&self, token: &str, address: Option<IpAddr>) -> Result<RequestBuilder, Verdict> {
        let token = Token::read(token).ok_or(Verdict::Refused("malformed"))?;
        if token.ticket.starts_with(FALLBACK) {
            return Err(Verdict::Refused("widgets-own"));
        }
        let Settings { base_url, site_key, secret_key, api_id, api_key, .. } = &self.settings;
        let body = json!({
            "CaptchaType": 9,
            "Ticket": token.ticket,
            "Randstr": token.randstr,
            "UserIp": address.map_or_else(|| NO_ADDRESS.to_owned(), |it| it.to_string()),
            "CaptchaAppId": site_key.parse::<u64>().unwrap_or_default(),
            "AppSecretKey": secret_key.expose_secret(),
        })
        .to_string();
        let (host, path) = wire::host_and_path(base_url);
        let wall = self.clock.wall();
        let signer = Tc3 { id: api_id, key: api_key.expose_secret(), service: "captcha" };
        let authorization = signer.authorization(&host, &path, wall, JSON, body.as_bytes());
        let authorization = HeaderValue::try_from(authorization);
        let mut authorization = authorization.map_err(|_| Verdict::Unfit("wrong-api-key"))?;
        authorization.set_sensitive(true);
        Ok(self
            .client
            .post(format!("{base_url}/"))
            .header(CONTENT_TYPE, JSON)
            .header("X-TC-Action", "DescribeCaptchaResult")
            .header("X-TC-Version", "2019-07-22")
            .header("X-TC-Timestamp", Tc3::seconds(wall).to_string())
            .header(AUTHORIZATION, authorization)
            .body(body))
    }

    fn read(&self, _: &str, status: u16, body: &[u8]) -> Verdict {
        if status == 200 { read(body) } else { Verdict::Down("http-4xx") }
    }

    fn made_up(&self) -> String {
        json!({"ticket": "countersign-doctor", "randstr": "@doc"}).to_string()
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Response")]
    response: Response,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Response {
    captcha_code: Option<i64>,
    /// 100: the vendor thinks ill of who asks.
    evil_level: Option<i64>,
    error: Option<Error>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Error {
    code: String,
}

fn read(body: &[u8]) -> Verdict {
    let response = match object::<Answer>(body) {
        Ok(answer) => answer.response,
        Err(verdict) => return verdict,
    };
    if let Some(Error { code }) = response.error {
        let family = code.split('.').next().unwrap_or_default();
        let known = ERRORS.iter().find(|(known, _)| *known == family);
        return known.map_or(Verdict::Refused("unknown-code"), |(_, verdict)| *verdict);
    }
    match response.captcha_code {
        Some(1) if response.evil_level.is_none_or(|level| level < 100) => {
            // The vendor reports neither host nor action nor score.
            Verdict::Passed
        }
        Some(1) => Verdict::Refused("suspicious"),
        Some(code) => {
            let known = CODES.iter().find(|(known, _)| *known == code);
            Verdict::Refused(known.map_or("unknown-code", |(_, why)| why))
        }
        None => Verdict::Down("garbled"),
    }
}
