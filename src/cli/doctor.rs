//! `doctor`: what would fail, and how to mend it, found out without sending anything.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::app;
use crate::chance::OsChance;
use crate::clock::{Clock, MINUTE};
use crate::config::{Config, ProviderConfig, StoreConfig};
use crate::domain::outcome::{Outcome, Receipt};
use crate::keys::{self, Keys};
use crate::providers::Provider;
use crate::store::redis::RedisStore;
use crate::store::sqlite::{OpenError, SqliteStore};
use crate::store::{Commit, Key, Store, StoreError, TRIAL, Write};
use crate::third_party;
use crate::verifier::Verifier;

/// Commits that are timed.
const TRIALS: u16 = 20;
/// Free disk space under which the doctor warns, however small the store is: a day of some
/// 300 000 messages, at 3.3 kB each.
const FREE_MIN: u64 = 1 << 30;

struct Report {
    failures: usize,
}

impl Report {
    fn good(what: &str, told: &str) {
        println!("  ok    {what}: {told}");
    }

    /// It works, and should be looked at all the same.
    fn warn(what: &str, told: &str) {
        println!("  warn  {what}: {told}");
    }

    fn bad(&mut self, what: &str, told: &str) {
        self.failures += 1;
        println!("  FAIL  {what}: {told}");
    }
}

pub(super) async fn run(config: &Config) -> anyhow::Result<()> {
    let mut report = Report { failures: 0 };
    // Keys first, as at a start: a store that was made without keys is refused from then on.
    let keys = key_file(config, &mut report);
    let is_new =
        matches!(&config.store, StoreConfig::Embedded(path) if !SqliteStore::was_made(path));
    let opened = if is_new && keys.is_none() { None } else { store(config, &mut report).await };
    let clock = opened.as_ref().map_or_else(Clock::machine, |(_, clock)| clock.clone());
    disk(config, &mut report);
    clock_sane(&clock, &mut report);
    caps(config);
    let verifier = opened.zip(keys).map(|(store, keys)| verifier(config, store, keys));
    for configured in &config.providers {
        caution(configured);
        credentials(configured, &clock, verifier.as_ref(), &mut report).await;
    }
    third_parties(config, &clock, &mut report).await;
    anyhow::ensure!(report.failures == 0, "{} of these would fail", report.failures);
    Ok(())
}

/// Asks each third party about a token that nobody was given: what it says tells whether it knows
/// our secret.
async fn third_parties(config: &Config, clock: &Clock, report: &mut Report) {
    let members = match app::third_parties(config, clock) {
        Ok(members) => members,
        Err(error) => return report.bad("third parties", &error.to_string()),
    };
    for member in members {
        let what = format!("third party {}", member.name());
        if let Some(told) = member.caution() {
            Report::warn(&what, told);
        }
        match third_party::explain(member.vendor(), member.try_secret().await) {
            Ok(told) => Report::good(&what, told),
            Err(told) => report.bad(&what, &told),
        }
    }
}

/// A store with the clock that belongs to it.
type Opened = (Arc<dyn Store>, Clock);

async fn open(config: &Config, report: &mut Report) -> Option<Opened> {
    match &config.store {
        StoreConfig::Embedded(path) => match SqliteStore::open(path, Clock::resumed) {
            Ok(opened) => {
                let clock = opened.clock();
                return Some((Arc::new(opened), clock));
            }
            Err(error @ OpenError::InUse(_)) => {
                Report::good("store", &format!("{error} (fine, if that is your server)"));
            }
            Err(error) => report.bad("store", &error.to_string()),
        },
        StoreConfig::Redis(_, settings) => {
            let clock = Clock::machine();
            match RedisStore::open((**settings).clone(), clock.clone()).await {
                Ok(opened) => return Some((Arc::new(opened), clock)),
                Err(error) => error.0.iter().for_each(|told| report.bad("store", told)),
            }
        }
    }
    None
}

async fn store(config: &Config, report: &mut Report) -> Option<Opened> {
    let ((opened, clock), began) = (open(config, report).await?, Instant::now());
    for trial in 0..TRIALS {
        let key = Key::new(trial, TRIAL, "doctor");
        let put = Write::Put { value: b"{}".to_vec(), expires_at: clock.now(), due_at: None };
        let commit = Commit { guards: vec![], writes: vec![(key, put)] };
        if let Err(error) = opened.commit(commit).await {
            report.bad("store", &format!("{error}: is there room, and may this user write there?"));
            return None;
        }
    }
    let each = began.elapsed() / u32::from(TRIALS);
    Report::good("store", &format!("one commit takes {:.1} ms", each.as_secs_f64() * 1e3));
    Some((opened, clock))
}

/// The store needs room for its logs and for the day to come; a full disk means no messages.
fn disk(config: &Config, report: &mut Report) {
    let StoreConfig::Embedded(store) = &config.store else { return };
    let taken = SqliteStore::size(store);
    let parent = store.parent().filter(|parent| !parent.as_os_str().is_empty());
    let free = match rustix::fs::statvfs(parent.unwrap_or(Path::new("."))) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => return report.bad("disk", &format!("its free space is unknown: {error}")),
    };
    let least = FREE_MIN.max(taken);
    let told = format!("{} free, the store takes {}", mebibytes(free), mebibytes(taken));
    if free < least {
        let advice = format!("{told}: make room for {} at least", mebibytes(least));
        Report::warn("disk", &advice);
    } else {
        Report::good("disk", &told);
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn clock_sane(clock: &Clock, report: &mut Report) {
    let apart = clock.wall() - clock.now();
    if apart.abs() < MINUTE {
        Report::good("clock", "the wall clock and the store's timeline agree");
    } else {
        let told = format!(
            "the wall clock was set by {} s since the store was last used; codes and gaps keep \
             their lengths, and tokens carry the wall clock's time: is it right now?",
            apart / 1000
        );
        report.bad("clock", &told);
    }
}

fn key_file(config: &Config, report: &mut Report) -> Option<Keys> {
    use std::os::unix::fs::MetadataExt;
    let path = &config.key_path;
    if app::keys_are_lost(config) {
        report.bad("keys", &app::keys_lost_advice(config));
        return None;
    }
    let ring = match keys::load_or_make(path, Clock::machine().wall(), &mut OsChance) {
        Ok(ring) => ring,
        Err(error) => {
            report.bad("keys", &error.to_string());
            return None;
        }
    };
    let mode = std::fs::metadata(path).map_or(0, |file| file.mode() & 0o7777);
    let told = format!("{} has mode {mode:04o}, and {ring:?}", path.display());
    if mode & !0o600 == 0 {
        Report::good("keys", &told);
    } else {
        Report::warn("keys", &format!("{told}; 0600 is enough: chmod 600 {}", path.display()));
    }
    Some(Keys::new(ring))
}

fn caps(config: &Config) {
    for told in config.caps.words() {
        Report::good("cap", &told);
    }
    let unpriced = config.providers.iter().filter(|it| it.is_paid() && !it.is_priced());
    for provider in unpriced {
        let told = "it has no `price`: what it costs is not known, and money cannot be capped";
        Report::warn(&format!("provider {}", provider.name()), told);
    }
}

fn caution(configured: &ProviderConfig) {
    if let Some(told) = configured.caution() {
        Report::warn(&format!("provider {}", configured.name()), told);
    }
}

/// Tries the credentials. Whether a template is approved and fits shows only when a message is
/// sent.
async fn credentials(
    configured: &ProviderConfig,
    clock: &Clock,
    verifier: Option<&Verifier>,
    report: &mut Report,
) {
    let what = format!("provider {}", configured.name());
    let provider = match app::provider(configured, clock) {
        Ok(provider) => provider,
        Err(error) => return report.bad(&what, &error.to_string()),
    };
    let tried = match (provider.try_credentials().await, verifier) {
        (Ok(true), _) => Ok(String::new()),
        (Ok(false), Some(verifier)) => ask_for_receipts(provider.as_ref(), verifier).await,
        (Ok(false), None) => {
            let told = "not asked: only asking for receipts would tell, and they could not be \
                        written down here; a running server asks every two seconds and logs what \
                        it is refused";
            return Report::warn(&what, told);
        }
        (Err(outcome), _) => Err(Told::Outcome(outcome)),
    };
    match tried {
        Ok(more) => {
            let template = "whether the template fits shows when send-test sends a message";
            Report::good(&what, &format!("it knows the credentials{more} ({template})"));
        }
        Err(Told::Outcome(outcome)) => {
            let hint = configured.explain(&outcome.vendor_code).unwrap_or_default();
            let told = format!("{} — {} {hint}", outcome.class, outcome.class.advice());
            report.bad(&what, &told);
        }
        Err(Told::Lost(error)) => report.bad(&what, &format!("its receipts are lost: {error}")),
    }
}

enum Told {
    Outcome(Outcome),
    Lost(StoreError),
}

/// The provider gives each receipt once, so they are written down as the server would.
async fn ask_for_receipts(provider: &dyn Provider, verifier: &Verifier) -> Result<String, Told> {
    let receipts = provider.pull_receipts().await.map_err(Told::Outcome)?;
    match write_down(verifier, provider.name(), receipts).await.map_err(Told::Lost)? {
        0 => Ok(String::new()),
        count => Ok(format!("; {count} receipts were written down")),
    }
}

async fn write_down(
    verifier: &Verifier,
    provider: &str,
    receipts: Vec<Receipt>,
) -> Result<usize, StoreError> {
    let count = receipts.len();
    for receipt in receipts {
        verifier.receive(provider, receipt).await?;
    }
    Ok(count)
}

fn verifier(config: &Config, (store, clock): Opened, keys: Keys) -> Verifier {
    // Receipts start no message, so nobody listens for any.
    let (handoffs, _) = mpsc::channel(1);
    let (policy, issuer) = (config.policy.clone(), &config.public_url);
    Verifier::new(store, clock, keys, policy, issuer, handoffs).with_audiences(config.audiences())
}
