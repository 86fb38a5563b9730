//! The `[[challenge.third_parties]]` tables, and the one table of vendors: what each wants to be
//! told and what it reports.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{ThirdParty, geetest, siteverify, tencent};
use crate::clock::{Clock, HOUR, MINUTE, Millis};
use crate::domain::third_party::{ANY_HOST, Expected, Vendor, WhenDown};
use crate::providers::kind::{self, Misfit};

/// The settings that may be given as `…_file`.
pub const SECRETS: [&str; 2] = ["secret_key", "api_key"];
/// What is waited for a vendor's answer, in milliseconds: a person waits, too.
const TIMEOUT_MS: std::ops::RangeInclusive<u32> = 200..=5000;

/// A vendor's row.
pub struct Row {
    /// The vendor.
    pub vendor: Vendor,
    /// Where it is, unless it is on a server of one's own.
    pub base_url: Option<&'static str>,
    /// How long a token is good.
    pub token_life: Millis,
    /// What it reports in every answer that vouches for a token.
    pub reports: &'static [Part],
    /// Whether it wants a cloud account's key pair besides.
    pub wants_api_key: bool,
    /// Secrets that anybody knows, which the vendor gives out for tests.
    pub test_secrets: &'static [&'static str],
    /// Makes the dialect.
    pub make: fn(&Settings, &Parts) -> Box<dyn ThirdParty>,
}

/// A part of a vendor's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The host of the page.
    Host,
    /// The action that the page named.
    Action,
    /// A score.
    Score,
}

/// What third parties are made with.
pub struct Parts {
    /// The client for calls.
    pub client: reqwest::Client,
    /// The time.
    pub clock: Clock,
}

const NONE: Row = Row {
    vendor: Vendor::Cap,
    base_url: None,
    token_life: MINUTE,
    reports: &[],
    wants_api_key: false,
    test_secrets: &[],
    make: siteverify::make,
};

/// Every vendor. A new one is a row here, a dialect if it speaks none of these, and a section in
/// `docs/third-party-checks.md`.
const ROWS: [Row; 7] = [
    Row {
        vendor: Vendor::Turnstile,
        base_url: Some("https://challenges.cloudflare.com/turnstile/v0"),
        token_life: 5 * MINUTE,
        reports: &[Part::Host, Part::Action],
        test_secrets: &[
            "1x0000000000000000000000000000000AA",
            "2x0000000000000000000000000000000AA",
            "3x0000000000000000000000000000000AA",
        ],
        ..NONE
    },
    Row {
        vendor: Vendor::Hcaptcha,
        base_url: Some("https://api.hcaptcha.com"),
        token_life: 2 * MINUTE,
        reports: &[Part::Host],
        test_secrets: &["0x0000000000000000000000000000000000000000"],
        ..NONE
    },
    Row {
        vendor: Vendor::RecaptchaV2,
        base_url: Some("https://www.google.com/recaptcha/api"),
        token_life: 2 * MINUTE,
        reports: &[Part::Host],
        test_secrets: &["6LeIxAcTAAAAAGG-vFI1TnRWxMZNFuojJ4WifJWe"],
        ..NONE
    },
    Row {
        vendor: Vendor::RecaptchaV3,
        base_url: Some("https://www.google.com/recaptcha/api"),
        token_life: 2 * MINUTE,
        reports: &[Part::Host, Part::Action, Part::Score],
        ..NONE
    },
    Row {
        vendor: Vendor::Geetest,
        base_url: Some("https://gcaptcha4.geetest.com"),
        // The vendor says nowhere how long one is good, so rather too long.
        token_life: HOUR,
        make: geetest::make,
        ..NONE
    },
    Row {
        vendor: Vendor::TencentCaptcha,
        base_url: Some("https://captcha.tencentcloudapi.com"),
        token_life: 5 * MINUTE,
        wants_api_key: true,
        make: tencent::make,
        ..NONE
    },
    // Its tokens live as long as its operator says; twenty minutes unless he says otherwise.
    Row { vendor: Vendor::Cap, token_life: HOUR, ..NONE },
];

/// A vendor, with our account there.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Our name for it: what tenants list, and what logs and metrics say.
    #[serde(default)]
    pub name: String,
    /// The vendor, in the word of [`Vendor`].
    pub kind: String,
    /// Where it is.
    #[serde(default)]
    pub base_url: String,
    /// The public key (at some vendors: the captcha's or the application's id).
    #[serde(default)]
    pub site_key: String,
    /// The secret that belongs to it.
    #[serde(default, deserialize_with = "kind::secret")]
    pub secret_key: SecretString,
    /// The name of a cloud account's key, where the vendor wants one.
    #[serde(default)]
    pub api_id: String,
    /// That key.
    #[serde(default, deserialize_with = "kind::secret")]
    pub api_key: SecretString,
    /// The hosts of the pages that show the widget.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The action that pages name to the widget; empty: not looked at.
    action: Option<String>,
    /// The least score.
    score_min: Option<f64>,
    /// What is done while it cannot be asked.
    #[serde(default = "refuse")]
    when_down: String,
    /// Whether it is told the person's address.
    #[serde(default = "yes")]
    pub send_address: bool,
    /// How long its answer is waited for, in milliseconds.
    #[serde(default = "timeout_ms")]
    timeout_ms: u32,
}

fn refuse() -> String {
    "refuse".to_owned()
}

fn yes() -> bool {
    true
}

fn timeout_ms() -> u32 {
    3000
}

/// A setting, whether it fits, and what to do if it does not.
type Checked = (&'static str, bool, &'static str);

/// The action, where none is configured.
const ACTION: &str = "countersign";
/// The least score, where none is configured: what the vendor advises to begin with.
const SCORE_MIN: f64 = 0.5;

impl Settings {
    /// Reads and checks a table.
    pub fn read(table: toml::Table) -> Result<Self, Misfit> {
        let typed = serde_path_to_error::deserialize(toml::Value::Table(table));
        let mut settings: Self = typed.map_err(|error| {
            let path = error.path().to_string();
            Misfit::Form { path, message: error.inner().message().to_owned() }
        })?;
        let Some(row) = row(&settings.kind) else {
            let advice = "\"turnstile\", \"hcaptcha\", \"recaptcha-v2\", \"recaptcha-v3\", \
                          \"geetest\", \"tencent-captcha\" or \"cap\"";
            kind::checked([("kind", false, advice)])?;
            return Ok(settings);
        };
        if settings.name.is_empty() {
            settings.name.clone_from(&settings.kind);
        }
        if settings.base_url.is_empty() {
            row.base_url.unwrap_or_default().clone_into(&mut settings.base_url);
        }
        settings.base_url.truncate(settings.base_url.trim_end_matches('/').len());
        settings.check(row)?;
        Ok(settings)
    }

    fn check(&self, row: &Row) -> Result<(), Misfit> {
        kind::checked(self.keys(row).into_iter().chain(self.bounds(row)))
    }

    /// Where the vendor is, and our account there.
    fn keys(&self, row: &Row) -> [Checked; 7] {
        let own = row.base_url.is_none();
        let sound = kind::sound_url(&self.base_url);
        let digits = self.site_key.bytes().all(|byte| byte.is_ascii_digit());
        let api_key = self.api_key.expose_secret();
        let (id_fits, key_fits) =
            (kind::sound_id(&self.api_id, ""), kind::sound_secret(&self.api_key));
        let (api_id_advice, api_key_advice) = if row.wants_api_key {
            (
                "copy the SecretId of an API key from the cloud console",
                "copy the SecretKey that belongs to api_id; or name a file as api_key_file",
            )
        } else {
            ("this vendor takes none: leave it out", "this vendor takes none: leave it out")
        };
        [
            ("base_url", sound, kind::URL_ADVICE),
            (
                "base_url",
                own || !sound || is_private(&self.base_url),
                "write https://: the secret goes there (http:// is taken for this machine alone)",
            ),
            (
                "site_key",
                kind::sound_id(&self.site_key, "-_."),
                "copy the public key of the widget from the vendor's console",
            ),
            (
                "site_key",
                !row.wants_api_key || digits,
                "copy the CaptchaAppId from the console: digits",
            ),
            (
                "secret_key",
                kind::sound_secret(&self.secret_key),
                "copy the secret that belongs to site_key from the console, without spaces; or \
                 name a file as secret_key_file",
            ),
            ("api_id", as_wanted(row.wants_api_key, id_fits, &self.api_id), api_id_advice),
            ("api_key", as_wanted(row.wants_api_key, key_fits, api_key), api_key_advice),
        ]
    }

    /// What its reports must say, and what holds here.
    fn bounds(&self, row: &Row) -> [Checked; 10] {
        let reports = |part| row.reports.contains(&part);
        let hosts_fit = self.hosts.iter().all(|host| host == ANY_HOST || is_host(host));
        // This one reports it mostly.
        let may_report_host = reports(Part::Host) || row.vendor == Vendor::Geetest;
        let action_fits = self.action.as_deref().is_none_or(|it| it.is_empty() || is_action(it));
        let score_fits = self.score_min.is_none_or(|score| (0.0..=1.0).contains(&score));
        [
            ("name", kind::sound_id(&self.name, "-_"), "1 to 64 letters, digits, - and _"),
            (
                "hosts",
                !reports(Part::Host) || !self.hosts.is_empty(),
                "list the hosts of the pages that show the widget, such as [\"shop.example\"]: a \
                 token of another site's page is refused (\"*\" takes any)",
            ),
            (
                "hosts",
                may_report_host || self.hosts.is_empty(),
                "this vendor reports no host: leave it out",
            ),
            ("hosts", hosts_fit, "write hosts alone, such as shop.example"),
            (
                "action",
                reports(Part::Action) || self.action.is_none(),
                "this vendor reports no action: leave it out",
            ),
            ("action", action_fits, "1 to 32 letters, digits and _"),
            (
                "score_min",
                reports(Part::Score) || self.score_min.is_none(),
                "this vendor reports no score: leave it out",
            ),
            ("score_min", score_fits, "0.0 to 1.0"),
            (
                "when_down",
                when_down(&self.when_down).is_some(),
                "\"refuse\", \"image\" or \"proof-of-work\"",
            ),
            ("timeout_ms", TIMEOUT_MS.contains(&self.timeout_ms), "200 to 5000"),
        ]
    }

    /// The vendor's row.
    pub(super) fn row(&self) -> &'static Row {
        row(&self.kind).expect("only known kinds get through `read`")
    }

    /// The vendor.
    pub fn vendor(&self) -> Vendor {
        self.row().vendor
    }

    /// The action that pages must name.
    pub(super) fn action(&self) -> Option<&str> {
        let action = self.action.as_deref().unwrap_or(ACTION);
        (self.row().reports.contains(&Part::Action) && !action.is_empty()).then_some(action)
    }

    /// What is done while it cannot be asked.
    pub(super) fn when_down(&self) -> WhenDown {
        when_down(&self.when_down).unwrap_or_default()
    }

    /// What its reports must say.
    pub(super) fn expected(&self) -> Expected {
        let score_min = self.score_min.unwrap_or(SCORE_MIN);
        Expected {
            hosts: self.hosts.clone(),
            action: self.action().map(str::to_owned),
            score_min: self.row().reports.contains(&Part::Score).then_some(score_min),
        }
    }

    /// How long an answer is waited for.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.into())
    }

    /// What works, and should be looked at all the same before going live.
    pub(super) fn caution(&self) -> Option<&'static str> {
        let secret = self.secret_key.expose_secret();
        if self.row().test_secrets.contains(&secret) {
            return Some("this is the vendor's test secret, which says the same about everybody");
        }
        if self.hosts.iter().any(|host| host == ANY_HOST) {
            return Some("hosts = [\"*\"]: a token of any page with this site key is taken");
        }
        if !is_private(&self.base_url) {
            return Some("base_url is http://: whoever sees the traffic reads the secret");
        }
        None
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.kind)
    }
}

fn row(kind: &str) -> Option<&'static Row> {
    let vendor = Vendor::named(kind)?;
    ROWS.iter().find(|row| row.vendor == vendor)
}

fn when_down(word: &str) -> Option<WhenDown> {
    match word {
        "refuse" => Some(WhenDown::Refuse),
        "image" => Some(WhenDown::Image),
        "proof-of-work" => Some(WhenDown::Work),
        _ => None,
    }
}

/// Whether a setting is sound where it is wanted, and left out where it is not.
fn as_wanted(wanted: bool, sound: bool, text: &str) -> bool {
    if wanted { sound } else { text.is_empty() }
}

/// Whether nobody on the way reads what is sent there.
fn is_private(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "https" || loopback || host == "localhost"
}

/// A host, or the name of an Android app.
fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=253).contains(&text.len()) && text.bytes().all(plain)
}

/// What all vendors that know actions take.
fn is_action(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=32).contains(&text.len()) && text.bytes().all(plain)
}
