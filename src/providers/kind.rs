//! The kinds of providers, in one table. A kind says how its settings are read and checked, which
//! of them are secrets, how its provider is made, and what its vendor's codes mean. Nothing else
//! in the program names a kind.

use std::fmt;
use std::sync::Arc;

use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::simulated::{self, Simulator};
use super::{
    Message, Provider, aliyun, aws, huawei, plivo, smpp, tencent, twilio, vonage, webhook,
    yuntongxun,
};
use crate::clock::Clock;

/// Every kind. A new one is a file, a line here, a section in `docs/providers.md`, and its
/// vectors.
pub const KINDS: [&Kind; 11] = [
    &yuntongxun::KIND,
    &aliyun::KIND,
    &tencent::KIND,
    &huawei::KIND,
    &twilio::KIND,
    &vonage::KIND,
    &plivo::KIND,
    &aws::KIND,
    &smpp::KIND,
    &webhook::KIND,
    &simulated::KIND,
];

/// The kind of this name.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.into_iter().find(|kind| kind.name == name)
}

/// A kind of provider.
pub struct Kind {
    /// What `kind` says in the configuration.
    pub name: &'static str,
    /// What its vendor bills.
    pub bills: Bills,
    /// The settings that may be given as `…_file`.
    pub secrets: &'static [&'static str],
    /// Reads and checks the settings.
    pub read: fn(Given) -> Result<Maker, Misfit>,
    /// What works, and should be looked at all the same before going live.
    pub caution: fn(&toml::Table) -> Option<&'static str>,
    /// What a vendor's code means and what to do, in words, where the class alone does not tell.
    pub explain: fn(&str) -> Option<String>,
}

/// What a vendor bills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bills {
    /// Nothing: nobody gets a message.
    Nothing,
    /// Each message: its text is the vendor's template, whose length the vendor knows.
    Message,
    /// Each segment of the text that it is given.
    Segment,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What a configuration gives a kind.
pub struct Given {
    /// The `[[providers]]` table, without `kind`. It may hold secrets and does not print.
    pub table: toml::Table,
    /// How many digits a code has.
    pub code_digits: u8,
}

impl Given {
    /// The settings in the form that a dialect wants, strictly.
    pub fn settings<T: DeserializeOwned>(self) -> Result<T, Misfit> {
        serde_path_to_error::deserialize(toml::Value::Table(self.table)).map_err(|error| {
            let path = error.path().to_string();
            Misfit::Form { path, message: error.inner().message().to_owned() }
        })
    }
}

/// Makes the provider out of its settings, which it holds.
pub type Maker = Arc<dyn Fn(&Parts) -> Arc<dyn Provider> + Send + Sync>;

/// What providers are made with.
pub struct Parts {
    /// The client for calls.
    pub client: reqwest::Client,
    /// The time.
    pub clock: Clock,
    /// The script and inbox of simulated providers.
    pub simulator: Arc<Simulator>,
    /// Where this provider may push receipts; `None` where nobody outside can reach it.
    pub receipts_url: Option<String>,
}

/// Why settings cannot be used.
#[derive(Debug)]
pub enum Misfit {
    /// A setting is unknown, missing or of another type.
    Form {
        /// Where in the table.
        path: String,
        /// The parser's words, which may quote a value, and so a secret.
        message: String,
    },
    /// The settings cannot work.
    Unfit(Vec<Unfit>),
}

/// A setting that cannot work, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {advice}")]
pub struct Unfit {
    /// Which key.
    pub key: &'static str,
    /// What to do. It does not repeat the value, which may be a secret in the wrong place.
    pub advice: &'static str,
}

/// Refuses settings of which some do not fit: each is given with whether it fits, and what to do
/// if it does not.
pub fn checked(
    settings: impl IntoIterator<Item = (&'static str, bool, &'static str)>,
) -> Result<(), Misfit> {
    let unfit = settings.into_iter().filter(|(_, fits, _)| !fits);
    let unfit: Vec<_> = unfit.map(|(key, _, advice)| Unfit { key, advice }).collect();
    if unfit.is_empty() { Ok(()) } else { Err(Misfit::Unfit(unfit)) }
}

/// Whether a text is the base of URLs: a web address without query, fragment and credentials.
pub fn sound_url(text: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(text) else { return false };
    let web = ["http", "https"].contains(&url.scheme()) && url.has_host();
    let bare = url.query().is_none() && url.fragment().is_none();
    web && bare && url.username().is_empty() && url.password().is_none()
}

/// What to do about a `base_url` that is not [`sound_url`].
pub const URL_ADVICE: &str = "write an http or https URL with nothing behind the path";

/// Whether a text is an id as vendors give them: 1 to 64 letters, digits and some of these.
pub fn sound_id(text: &str, more: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// Whether a text can be a secret of a vendor's: printable, and no space that was copied along.
pub fn sound_secret(secret: &SecretString) -> bool {
    use secrecy::ExposeSecret;
    let secret = secret.expose_secret();
    (1..=512).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reads a secret setting.
pub fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// What a variable of a vendor's template is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Param {
    /// The code.
    Code,
    /// For how many minutes it is good.
    Minutes,
}

impl Param {
    /// The value, as a text: a number would lose its leading zeros.
    pub fn of(self, message: &Message) -> String {
        match self {
            Self::Code => message.code.digits().to_owned(),
            Self::Minutes => message.minutes.to_string(),
        }
    }
}

/// The variables of most templates: code and minutes, in this order.
pub fn code_and_minutes() -> Vec<Param> {
    vec![Param::Code, Param::Minutes]
}

/// Whether a template shows the code, once.
pub fn shows_code<'a>(params: impl IntoIterator<Item = &'a Param>) -> bool {
    params.into_iter().filter(|param| **param == Param::Code).count() == 1
}

/// What to do about a template that is not [`shows_code`].
pub const CODE_ADVICE: &str = "exactly one variable of the template must be \"code\"; the other \
                               word is \"minutes\"";
