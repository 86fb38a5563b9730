//! Configuration in two stages: as typed, then as resolved and checked.
//!
//! The defaults are `config/default.toml`, embedded. A file comes on top of them, and environment
//! variables on top of that. Every mistake is told with the key it was made at and what to write
//! instead; all that can be found at once are found at once.

mod caps;
mod challenge;
mod layers;
mod providers;
mod routes;
mod store;
mod texts;
mod typed;

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::captcha::Level;
use crate::clock::{Millis, SECOND};
use crate::domain::code::DIGITS;
use crate::domain::money::Micros;
use crate::domain::phone::{PhoneRules, Region};
use crate::domain::policy::{CHECKS_MAX, CODE_TTL_SECONDS, GAP_SECONDS, Policy};
use crate::http::auth::Tenant;
use crate::http::client_ip::TrustedProxies;
use crate::http::{SEED_PURPOSE, SeedSettings};
use crate::message::Texts;
use crate::routing::Route;
use crate::third_party::settings::Settings as ThirdPartySettings;

pub use caps::CapsConfig;
pub use layers::DEFAULTS;
pub use providers::ProviderConfig;
pub use store::StoreConfig;
use typed::{Typed, TypedTenant};

/// The configuration, resolved.
#[derive(Clone)]
pub struct Config {
    /// Where the server listens.
    pub listen: SocketAddr,
    /// How others reach it.
    pub public_url: String,
    /// Whose forwarding headers are believed.
    pub proxies: TrustedProxies,
    /// Where records live.
    pub store: StoreConfig,
    /// The key file.
    pub key_path: PathBuf,
    /// Whether the developer's door is open.
    pub dev: bool,
    /// Which numbers are taken.
    pub phones: PhoneRules,
    /// The numbers in force.
    pub policy: Policy,
    /// What may go out in an hour and in a day.
    pub caps: CapsConfig,
    /// Networks whose challenges are not counted.
    pub exempt: Vec<ipnet::IpNet>,
    /// The vendors whose own challenges are taken; challenges name them by their place.
    pub third_parties: Vec<ThirdPartySettings>,
    /// The texts of messages.
    pub texts: Texts,
    /// The seed's door: its tenant, its codes, and whether pictures come with audio.
    pub seed: Option<SeedSettings>,
    /// Whether logs are JSON.
    pub log_json: bool,
    /// What is logged.
    pub log_filter: String,
    /// Who carries messages, in order.
    pub providers: Vec<ProviderConfig>,
    /// Whose messages go through whom; a number that none fits goes by the order of `providers`.
    pub routes: Vec<Route>,
    /// What an entered code is worth, where the first provider of a route is chosen by the share of
    /// codes that people enter.
    pub adaptive: Option<Micros>,
    /// Who uses the native door.
    pub tenants: Vec<TenantConfig>,
}

/// A tenant with its keys.
#[derive(Clone)]
pub struct TenantConfig {
    /// The tenant.
    pub tenant: Tenant,
    /// The key for servers.
    pub secret_key: SecretString,
    /// The key for browsers.
    pub publishable_key: Option<String>,
}

/// Everything that is wrong, each with its key.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Mistakes(pub Vec<String>);

impl Config {
    /// Every tenant with each of its purposes.
    pub fn audiences(&self) -> Vec<(String, String)> {
        let tenants = self.tenants.iter().map(|it| &it.tenant);
        let own = tenants
            .flat_map(|it| it.purposes.iter().map(|purpose| (it.id.clone(), purpose.clone())));
        let seed = self.seed.iter().map(|seed| (seed.tenant.clone(), SEED_PURPOSE.to_owned()));
        let mut all: Vec<_> = own.chain(seed).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Reads and resolves: the defaults, this file, these environment variables.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Mistakes> {
        let text = match file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| Mistakes(vec![format!("{}: {error}", path.display())]))?,
            None => String::new(),
        };
        let typed = layers::read(&text, environment).map_err(|mistake| {
            let place = file.map(|path| format!("{}: ", path.display())).unwrap_or_default();
            Mistakes(vec![format!("{place}{mistake}")])
        })?;
        Self::resolve(typed)
    }

    /// Reads and resolves the defaults and this text alone.
    pub fn parse(text: &str) -> Result<Self, Mistakes> {
        let typed = layers::read(text, std::iter::empty());
        typed.map_err(|mistake| Mistakes(vec![mistake])).and_then(Self::resolve)
    }

    fn resolve(mut typed: Typed) -> Result<Self, Mistakes> {
        let mut wrong = Vec::new();
        let mut check = |holds: bool, mistake: String| {
            if !holds {
                wrong.push(mistake);
            }
        };
        let listen = typed.listen.parse::<SocketAddr>();
        check(listen.is_ok(), format!("listen: \"{}\" is not an address and port", typed.listen));
        let listen = listen.unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 8000)));
        let url = typed.public_url.trim_end_matches('/').to_owned();
        let is_url = url.starts_with("http://") || url.starts_with("https://");
        check(is_url, format!("public_url: \"{url}\" must begin with http:// or https://"));
        check(
            !typed.dev.enabled || listen.ip().is_loopback(),
            "dev.enabled: the developer's door shows codes, so `listen` must be a loopback \
             address such as 127.0.0.1"
                .to_owned(),
        );
        check(
            ["text", "json"].contains(&typed.log.format.as_str()),
            format!("log.format: \"{}\" is neither \"text\" nor \"json\"", typed.log.format),
        );
        check(
            tracing_subscriber::EnvFilter::try_new(&typed.log.filter).is_ok(),
            format!("log.filter: \"{}\" cannot be read", typed.log.filter),
        );
        let proxies = trusted_proxies(&typed, &mut check);
        let phones = phones(&typed, &mut check);
        let (challenges, exempt) = challenge::resolve(&typed.challenge, &mut check);
        let tables = std::mem::take(&mut typed.challenge.third_parties);
        let third_parties = challenge::third_parties(tables, &mut check);
        let policy = Policy { challenges, ..policy(&typed, &mut check) };
        let store = store::resolve(&typed.store, &policy, &mut check);
        let texts = texts::resolve(&typed.message, &policy, &mut check);
        let seed = seed(&typed, &mut check);
        let providers = providers::resolve(typed.providers, policy.code_digits, &mut check);
        let routes = routes::resolve(typed.routes, &providers, &phones, &mut check);
        let adaptive = routes::adaptive(&typed.routing, &mut check);
        let caps = caps::resolve(typed.caps, &providers, &phones, &mut check);
        let (currency, known_for) = (caps.currency, caps.known_for);
        let policy = Policy { currency, known_for, ..policy };
        let tenants = tenants(typed.tenants, &third_parties, &mut check);
        let Some(store) = store.filter(|_| wrong.is_empty()) else { return Err(Mistakes(wrong)) };
        let key_path = key_path(&typed.keys.file, &typed.store.path);
        Ok(Self {
            listen,
            public_url: url,
            proxies,
            store,
            key_path,
            dev: typed.dev.enabled,
            phones,
            policy,
            caps,
            exempt,
            third_parties,
            texts,
            seed,
            log_json: typed.log.format == "json",
            log_filter: typed.log.filter,
            providers,
            routes,
            adaptive,
            tenants,
        })
    }
}

fn key_path(given: &str, store: &str) -> PathBuf {
    match given {
        "" => PathBuf::from(format!("{store}.keys")),
        file => PathBuf::from(file),
    }
}

type Check<'a> = dyn FnMut(bool, String) + 'a;

fn network(key: &str, text: &str) -> Result<ipnet::IpNet, String> {
    let single = || text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
    text.parse()
        .or_else(|_| single())
        .map_err(|_| format!("{key}: \"{text}\" is not a network such as 10.0.0.0/8"))
}

fn trusted_proxies(typed: &Typed, check: &mut Check<'_>) -> TrustedProxies {
    let read = |text: &String| {
        network("trusted_proxies", text).map_err(|mistake| check(false, mistake)).ok()
    };
    TrustedProxies::new(typed.trusted_proxies.iter().filter_map(read).collect())
}

fn seed(typed: &Typed, check: &mut Check<'_>) -> Option<SeedSettings> {
    let given = &typed.seed_api;
    check(is_id(&given.tenant), "seed_api.tenant: 1 to 64 letters, digits, - and _".to_owned());
    let level = Level::ALL.into_iter().find(|level| level.number() == given.level);
    check(level.is_some(), format!("seed_api.level: {} is not 1, 2 or 3", given.level));
    given.enabled.then(|| SeedSettings {
        tenant: given.tenant.clone(),
        codes: given.codes.clone(),
        audio: given.audio,
        level: level.unwrap_or(Level::Plain),
    })
}

fn phones(typed: &Typed, check: &mut Check<'_>) -> PhoneRules {
    let mut region = |key: &str, text: &str| {
        let parsed = text.parse::<Region>();
        if let Err(error) = &parsed {
            check(false, format!("{key}: {error}"));
        }
        parsed.unwrap_or(Region::CN)
    };
    let default_region = region("phone.default_region", &typed.phone.default_region);
    let countries: BTreeSet<_> =
        typed.phone.countries.iter().map(|text| region("phone.countries", text)).collect();
    check(!countries.is_empty(), "phone.countries: list at least one country".to_owned());
    PhoneRules { default_region, countries }
}

fn policy(typed: &Typed, check: &mut Check<'_>) -> Policy {
    let (code, limits) = (&typed.code, &typed.limits);
    let mut within = |key: &str, value: u64, low: u64, high: u64| {
        let fits = (low..=high).contains(&value);
        check(fits, format!("{key}: {value} is not within {low} to {high}"));
    };
    within("code.digits", code.digits.into(), (*DIGITS.start()).into(), (*DIGITS.end()).into());
    let ttl = (u64::from(*CODE_TTL_SECONDS.start()), u64::from(*CODE_TTL_SECONDS.end()));
    within("code.ttl_seconds", code.ttl_seconds.into(), ttl.0, ttl.1);
    let checks = (u64::from(*CHECKS_MAX.start()), u64::from(*CHECKS_MAX.end()));
    within("code.checks_max", code.checks_max.into(), checks.0, checks.1);
    let gap = (u64::from(*GAP_SECONDS.start()), u64::from(*GAP_SECONDS.end()));
    within("limits.phone_gap_seconds", limits.phone_gap_seconds.into(), gap.0, gap.1);
    let most = u64::from(u32::MAX);
    within("limits.phone_per_hour", limits.phone_per_hour.into(), 1, most);
    within("limits.phone_per_day", limits.phone_per_day.into(), 1, most);
    within("limits.address_per_hour", limits.address_per_hour.into(), 1, most);
    Policy {
        code_digits: code.digits,
        code_ttl: Millis::from(code.ttl_seconds) * SECOND,
        checks_max: code.checks_max,
        phone_gap: Millis::from(limits.phone_gap_seconds) * SECOND,
        phone_per_hour: limits.phone_per_hour,
        phone_per_day: limits.phone_per_day,
        address_per_hour: limits.address_per_hour,
        ..Policy::default()
    }
}

fn tenants(
    typed: Vec<TypedTenant>,
    third_parties: &[ThirdPartySettings],
    check: &mut Check<'_>,
) -> Vec<TenantConfig> {
    use secrecy::ExposeSecret;
    let (mut ids, mut keys, mut resolved) = (HashSet::new(), HashSet::new(), Vec::new());
    for (place, tenant) in typed.into_iter().enumerate() {
        let at = format!("tenants[{place}]");
        check(is_id(&tenant.id), format!("{at}.id: 1 to 64 letters, digits, - and _"));
        check(ids.insert(tenant.id.clone()), format!("{at}.id: \"{}\" is taken", tenant.id));
        let secret = tenant.secret_key.expose_secret();
        check(
            secret.starts_with("sk_") && secret.len() >= 8,
            format!("{at}.secret_key: begins with sk_; make one with `countersign keys api-key`"),
        );
        check(keys.insert(secret.to_owned()), format!("{at}.secret_key: is another's, too"));
        if let Some(key) = &tenant.publishable_key {
            let fits = key.starts_with("pk_") && key.len() >= 8;
            check(fits, format!("{at}.publishable_key: begins with pk_"));
            check(keys.insert(key.clone()), format!("{at}.publishable_key: is another's, too"));
        }
        let demand = challenge::demand(&tenant, &at, check);
        let challenge_kinds = challenge::kinds(&tenant.challenge_kinds, third_parties, &at, check);
        for origin in &tenant.origins {
            let plain = origin.matches('/').count() == 2 && origin.contains("://");
            check(plain, format!("{at}.origins: \"{origin}\" is not like https://shop.example"));
        }
        let named = !tenant.purposes.is_empty() && tenant.purposes.iter().all(|it| is_purpose(it));
        check(named, format!("{at}.purposes: at least one, each 1 to 32 of a-z, 0-9, - and _"));
        resolved.push(TenantConfig {
            tenant: Tenant {
                id: tenant.id,
                origins: tenant.origins,
                challenge: demand,
                challenge_kinds,
                purposes: tenant.purposes,
            },
            secret_key: tenant.secret_key,
            publishable_key: tenant.publishable_key,
        });
    }
    resolved
}

fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_purpose(text: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    (1..=32).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests;
