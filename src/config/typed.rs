//! The configuration as it is typed: every name here is a name in the file.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Deserialize;

use crate::http::Codes;
use crate::providers::kind;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Typed {
    pub(super) listen: String,
    pub(super) public_url: String,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) store: Store,
    pub(super) keys: Keys,
    pub(super) dev: Dev,
    pub(super) phone: Phone,
    pub(super) code: Code,
    pub(super) limits: Limits,
    pub(super) caps: Caps,
    pub(super) challenge: Challenge,
    pub(super) message: Message,
    pub(super) seed_api: SeedApi,
    pub(super) log: Log,
    pub(super) routing: Routing,
    #[serde(default)]
    pub(super) providers: Vec<toml::Table>,
    #[serde(default)]
    pub(super) routes: Vec<TypedRoute>,
    #[serde(default)]
    pub(super) tenants: Vec<TypedTenant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TypedRoute {
    #[serde(default)]
    pub(super) countries: Vec<String>,
    #[serde(default)]
    pub(super) prefixes: Vec<String>,
    pub(super) providers: Vec<String>,
    #[serde(default)]
    pub(super) weights: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub(super) kind: String,
    pub(super) path: String,
    pub(super) url: String,
    pub(super) username: String,
    #[serde(deserialize_with = "kind::secret")]
    pub(super) password: SecretString,
    pub(super) database: u32,
    pub(super) prefix: String,
    pub(super) authority_file: String,
    pub(super) bind_codes: bool,
    pub(super) replicas: Option<u32>,
    pub(super) hold_after_failover: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub(super) file: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dev {
    pub(super) enabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Phone {
    pub(super) default_region: String,
    pub(super) countries: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Code {
    pub(super) digits: u8,
    pub(super) ttl_seconds: u32,
    pub(super) checks_max: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) phone_gap_seconds: u32,
    pub(super) phone_per_hour: u32,
    pub(super) phone_per_day: u32,
    pub(super) address_per_hour: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Caps {
    pub(super) currency: String,
    pub(super) known_days: u32,
    pub(super) messages_per_hour: Option<Count>,
    pub(super) messages_per_day: Option<Count>,
    pub(super) money_per_hour: Option<Amount>,
    pub(super) money_per_day: Option<Amount>,
    #[serde(default)]
    pub(super) countries: BTreeMap<String, CountryCaps>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CountryCaps {
    pub(super) messages_per_hour: Option<Count>,
    pub(super) messages_per_day: Option<Count>,
    pub(super) money_per_hour: Option<Amount>,
    pub(super) money_per_day: Option<Amount>,
}

impl CountryCaps {
    /// Whether anything is said, if only that there is none.
    pub(super) fn says_anything(&self) -> bool {
        self.messages_per_hour.is_some()
            || self.messages_per_day.is_some()
            || self.money_per_hour.is_some()
            || self.money_per_day.is_some()
    }
}

/// A number of messages: as a number, or as a text, which "none" is and the environment's are.
#[derive(Deserialize)]
#[serde(untagged, expecting = "no number, expected a number of messages, or \"none\"")]
pub(super) enum Count {
    Number(u64),
    Text(String),
}

/// An amount of money. What is a float by now was rounded, so it is refused, with advice.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "no amount, expected an amount in quotes, such as \"0.045\", or \"none\""
)]
pub(super) enum Amount {
    Whole(u32),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Challenge {
    pub(super) work_cost: u32,
    pub(super) work_tries: u32,
    pub(super) altcha_v1: bool,
    pub(super) asked_per_10_minutes: u32,
    pub(super) network_asked_per_10_minutes: u32,
    pub(super) wrong_per_10_minutes: u32,
    pub(super) audio_answers_per_10_minutes: u32,
    pub(super) audio_clips_per_10_minutes: u32,
    pub(super) exempt: Vec<String>,
    #[serde(default)]
    pub(super) third_parties: Vec<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    pub(super) web_otp_host: String,
    pub(super) android_app_hash: String,
    pub(super) texts: Texts,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Texts {
    pub(super) zh: String,
    pub(super) en: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SeedApi {
    pub(super) enabled: bool,
    pub(super) tenant: String,
    pub(super) audio: bool,
    pub(super) level: u8,
    pub(super) codes: Codes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) format: String,
    pub(super) filter: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Routing {
    pub(super) adaptive: bool,
    pub(super) worth: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TypedTenant {
    pub(super) id: String,
    #[serde(default, deserialize_with = "kind::secret")]
    pub(super) secret_key: SecretString,
    pub(super) publishable_key: Option<String>,
    #[serde(default)]
    pub(super) origins: Vec<String>,
    #[serde(default = "browsers")]
    pub(super) challenge: String,
    #[serde(default = "kinds")]
    pub(super) challenge_kinds: Vec<String>,
    #[serde(default = "login")]
    pub(super) purposes: Vec<String>,
}

fn kinds() -> Vec<String> {
    ["image", "proof-of-work", "audio"].map(str::to_owned).to_vec()
}

fn login() -> Vec<String> {
    vec!["login".to_owned()]
}

fn browsers() -> String {
    "browsers".to_owned()
}
