//! The dialect that reCAPTCHA began and Turnstile, hCaptcha and Cap speak, too: secret and token
//! go to `…/siteverify`, and the answer says `success`, or what is wrong in `error-codes`.

use std::net::IpAddr;

use reqwest::RequestBuilder;
use reqwest::header::CONTENT_TYPE;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;

use super::settings::{Parts, Settings};
use super::{ThirdParty, is_plain, object};
use crate::domain::third_party::{Report, Vendor, Verdict};
use crate::providers::signing;

/// The longest token that is passed on. Turnstile's have 2 048 characters at most, hCaptcha's and
/// Google's a few thousand and no documented end.
const TOKEN_MAX: usize = 8192;

/// What the words of all of these vendors mean. Cap's are sentences; see [`Answer::codes`].
const CODES: [(&str, Verdict); 19] = [
    ("missing-input-secret", Verdict::Unfit("wrong-secret")),
    ("invalid-input-secret", Verdict::Unfit("wrong-secret")),
    ("invalid-site-key-or-secret", Verdict::Unfit("wrong-secret")),
    // Whoever sends a token of another site's widget may bring it about, too.
    ("sitekey-secret-mismatch", Verdict::Refused("key-mismatch")),
    ("internal-error", Verdict::Down("vendor-fault")),
    ("missing-input-response", Verdict::Refused("no-token")),
    ("invalid-input-response", Verdict::Refused("wrong-token")),
    ("expired-input-response", Verdict::Refused("late-or-used")),
    ("already-seen-response", Verdict::Refused("late-or-used")),
    ("invalid-or-already-seen-response", Verdict::Refused("late-or-used")),
    ("timeout-or-duplicate", Verdict::Refused("late-or-used")),
    ("bad-request", Verdict::Refused("bad-request")),
    ("browser-error", Verdict::Refused("browser-error")),
    ("not-using-dummy-passcode", Verdict::Refused("test-secret")),
    ("missing-remoteip", Verdict::Refused("address")),
    ("invalid-remoteip", Verdict::Refused("address")),
    ("token-not-found", Verdict::Refused("wrong-token")),
    ("token-expired", Verdict::Refused("late-or-used")),
    ("missing-required-parameters", Verdict::Refused("bad-request")),
];

struct Siteverify {
    settings: Settings,
    client: reqwest::Client,
}

pub(super) fn make(settings: &Settings, parts: &Parts) -> Box<dyn ThirdParty> {
    Box::new(Siteverify { settings: settings.clone(), client: parts.client.clone() })
}

impl ThirdParty for Siteverify {
    fn identity(&self, token: &str) -> Option<String> {
        let most = if self.settings.vendor() == Vendor::Turnstile { 2048 } else { TOKEN_MAX };
        is_plain(token, most).then(|| token.to_owned())
    }

    fn request(&self, token: &str, address: Option<IpAddr>) -> Result<RequestBuilder, Verdict> {
        let Settings { base_url, site_key, .. } = &self.settings;
        let secret = self.settings.secret_key.expose_secret();
        let vendor = self.settings.vendor();
        if vendor == Vendor::Cap {
            let body = json!({"secret": secret, "response": token}).to_string();
            let request = self.client.post(format!("{base_url}/{site_key}/siteverify"));
            return Ok(request.header(CONTENT_TYPE, "application/json").body(body));
        }
        let address = address.map(|address| address.to_string());
        let mut form = vec![("secret", secret), ("response", token)];
        form.extend(address.as_deref().map(|address| ("remoteip", address)));
        // hCaptcha then refuses tokens of our other widgets.
        form.extend((vendor == Vendor::Hcaptcha).then_some(("sitekey", site_key.as_str())));
        let request = self.client.post(format!("{base_url}/siteverify"));
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        Ok(request.body(signing::query(form)))
    }

    fn read(&self, _: &str, status: u16, body: &[u8]) -> Verdict {
        let report = read(body, status == 200, self.settings.vendor());
        report.map_or_else(|verdict| verdict, |report| self.settings.expected().judge(&report))
    }

    fn made_up(&self) -> String {
        "countersign-doctor".to_owned()
    }
}

#[derive(Deserialize)]
struct Answer {
    success: Option<bool>,
    hostname: Option<String>,
    /// In place of `hostname`, for an Android app.
    apk_package_name: Option<String>,
    action: Option<String>,
    score: Option<f64>,
    #[serde(default, rename = "error-codes")]
    error_codes: Option<Vec<String>>,
    /// Cap's.
    error: Option<String>,
}

impl Answer {
    /// The words for what is wrong. A sentence becomes a word: `Token not found` is
    /// `token-not-found`.
    fn codes(&self) -> impl Iterator<Item = String> {
        let listed = self.error_codes.iter().flatten();
        listed.chain(&self.error).map(|code| code.to_ascii_lowercase().replace(' ', "-"))
    }
}

/// What an answer reports about a token that the vendor vouches for. `settled` is whether the
/// status was 200: no other vouches for anything.
fn read(body: &[u8], settled: bool, vendor: Vendor) -> Result<Report, Verdict> {
    // hCaptcha's enterprise score counts the other way round, and nothing asks for it.
    let scores = matches!(vendor, Vendor::RecaptchaV2 | Vendor::RecaptchaV3);
    let answer: Answer = object(body)?;
    let meaning = |code: String| {
        let known = CODES.iter().find(|(known, _)| *known == code);
        known.map_or(Verdict::Refused("unknown-code"), |(_, verdict)| *verdict)
    };
    let meanings: Vec<_> = answer.codes().map(meaning).collect();
    match (answer.success, &meanings[..]) {
        (Some(true), []) if settled => Ok(Report {
            host: answer.hostname.or(answer.apk_package_name),
            action: answer.action,
            score: answer.score.filter(|_| scores),
        }),
        (Some(true), _) | (None, []) => Err(Verdict::Down("garbled")),
        (Some(false), []) => Err(Verdict::Refused("no-reason")),
        (_, meanings) => Err(gravest(meanings)),
    }
}

/// What is wrong with our settings comes before a fault of the vendor's, and that before what is
/// wrong with the token.
fn gravest(meanings: &[Verdict]) -> Verdict {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Unfit(_) => 0,
        Verdict::Down(_) => 1,
        Verdict::Refused(_) | Verdict::Passed => 2,
    };
    meanings.iter().min_by_key(|verdict| rank(verdict)).copied().unwrap_or(Verdict::Down("garbled"))
}
