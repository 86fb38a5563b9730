//! `doctor`: what would fail, and how to mend it, found out without sending anything.

use std::time::Instant;

use crate::app;
use crate::chance::OsChance;
use crate::clock::{Clock, MINUTE};
use crate::config::Config;
use crate::keys;
use crate::store::sqlite::{OpenError, SqliteStore};
use crate::store::{Commit, Key, Store, TRIAL, Write};

/// Commits that are timed.
const TRIALS: u16 = 20;

struct Report {
    failures: usize,
}

impl Report {
    fn good(what: &str, told: &str) {
        println!("  ok    {what}: {told}");
    }

    fn bad(&mut self, what: &str, told: &str) {
        self.failures += 1;
        println!("  FAIL  {what}: {told}");
    }
}

pub(super) async fn run(config: &Config) -> anyhow::Result<()> {
    let mut report = Report { failures: 0 };
    let clock = store(config, &mut report).await;
    clock_sane(&clock, &mut report);
    match keys::load_or_make(&config.key_path, clock.wall(), &mut OsChance) {
        Ok(ring) => Report::good("keys", &format!("{ring:?}")),
        Err(error) => report.bad("keys", &error.to_string()),
    }
    for configured in &config.providers {
        let what = format!("provider {}", configured.name());
        let tried = match app::provider(configured, &clock) {
            Ok(provider) => provider.try_credentials().await,
            Err(error) => {
                report.bad(&what, &error.to_string());
                continue;
            }
        };
        match tried {
            Ok(()) => {
                Report::good(&what, "it knows the credentials (the template shows in send-test)");
            }
            Err(outcome) => {
                let hint = configured.explain(&outcome.vendor_code).unwrap_or_default();
                let told = format!("{} — {} {hint}", outcome.class, outcome.class.advice());
                report.bad(&what, &told);
            }
        }
    }
    anyhow::ensure!(report.failures == 0, "{} of these would fail", report.failures);
    Ok(())
}

async fn store(config: &Config, report: &mut Report) -> Clock {
    let opened = match SqliteStore::open(&config.store_path, Clock::resumed) {
        Ok(opened) => opened,
        Err(error @ OpenError::InUse(_)) => {
            Report::good("store", &format!("{error} (fine, if that is your server)"));
            return Clock::machine();
        }
        Err(error) => {
            report.bad("store", &error.to_string());
            return Clock::machine();
        }
    };
    let (clock, began) = (opened.clock(), Instant::now());
    for trial in 0..TRIALS {
        let key = Key::new(trial, TRIAL, "doctor");
        let put = Write::Put { value: b"{}".to_vec(), expires_at: clock.now(), due_at: None };
        let commit = Commit { guards: vec![], writes: vec![(key, put)] };
        if let Err(error) = opened.commit(commit).await {
            report.bad("store", &format!("{error}: is there room, and may this user write there?"));
            return clock;
        }
    }
    let each = began.elapsed() / u32::from(TRIALS);
    Report::good("store", &format!("one durable commit takes {:.1} ms", each.as_secs_f64() * 1e3));
    clock
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
