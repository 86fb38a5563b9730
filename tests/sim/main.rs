//! The deterministic simulation: clients, nodes, a stumbling store, failing providers, crashes,
//! pauses and jumping clocks. One seed, one history.
//!
//! What runs here is the product's own code: verifier, dispatcher, router with its breakers,
//! domain, and the way verbs are committed. Only what lies at the end of our world is made up: who
//! carries messages, the machine that holds the records, the network to both, and time itself. See
//! `docs/reliability.md`, "Simulation".
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod chaos;
mod client;
mod dice;
mod history;
mod invariants;
mod nodes;
mod oracle;
mod plan;
mod providers;
mod sometimes;
mod stalled;
mod store;
mod verbs;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use world::Report;

/// Seeds that run with the other tests.
const SEEDS: u64 = 300;
/// Cores that seeds run on at once.
const THREADS: u64 = 2;

/// What a person asked for: one seed, or many.
#[expect(clippy::disallowed_methods, reason = "a test's own switches")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one seed and shows all of it if something broke.
fn run(seed: u64) -> Report {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !world::heard_panic(info.to_string()) {
                usual(info);
            }
        }));
    });
    world::run(seed)
}

/// What is told about a seed that broke something.
fn story(report: &Report) -> String {
    let breaches: Vec<_> = report.breaches.iter().map(|it| format!("  {it}")).collect();
    format!(
        "seed {} broke {}:\n{}\nthe history before:\n{}\nagain, whole: SEED={} just sim",
        report.seed,
        report.breaches.len(),
        breaches.join("\n"),
        report.history.around_the_breach(),
        report.seed
    )
}

/// Runs these seeds on a few cores; the first that breaks something ends it.
fn run_all(seeds: std::ops::Range<u64>, told: bool) -> BTreeMap<&'static str, (u64, u64)> {
    let (next, began) = (AtomicU64::new(seeds.start), Instant::now());
    let (seen, failed) = (Mutex::new(BTreeMap::new()), Mutex::new(None::<Report>));
    let progress = |seed: u64| {
        let done = seed - seeds.start;
        if told && done > 0 && done.is_multiple_of(500) {
            let spent = began.elapsed().as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let rate = done as f64 / spent;
            println!("{done} seeds in {spent:.0} s: {rate:.0} seeds/s");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end {
                        return;
                    }
                    progress(seed);
                    let report = run(seed);
                    let mut seen = seen.lock().unwrap();
                    for (event, times) in &report.sometimes {
                        let counted: &mut (u64, u64) = seen.entry(*event).or_default();
                        *counted = (counted.0 + 1, counted.1 + times);
                    }
                    if !report.breaches.is_empty() {
                        failed.lock().unwrap().get_or_insert(report);
                    }
                }
            });
        }
    });
    let ran = next.load(Ordering::SeqCst).min(seeds.end) - seeds.start;
    println!("{ran} seeds in {:.1} s", began.elapsed().as_secs_f64());
    if let Some(report) = failed.into_inner().unwrap() {
        panic!("{}\n(after {ran} seeds)", story(&report));
    }
    seen.into_inner().unwrap()
}

/// All invariants over many seeds; every interesting situation happens in some of them.
#[test]
fn the_promises_hold_in_every_history() {
    if let Some(seed) = number("SEED") {
        let report = run(seed);
        println!("{}", report.history.whole());
        assert!(report.breaches.is_empty(), "{}", story(&report));
        return;
    }
    let asked = number("SEEDS");
    let first = number("FIRST").unwrap_or(0);
    let seen = run_all(first..first + asked.unwrap_or(SEEDS), asked.is_some());
    println!("{:>8} {:>9}  what happened", "seeds", "times");
    for (event, words) in sometimes::ALL {
        let (seeds, times) = seen.get(event).copied().unwrap_or_default();
        println!("{seeds:>8} {times:>9}  {words}");
    }
    let missing = sometimes::ALL.iter().filter(|(event, _)| !seen.contains_key(event));
    let missing: Vec<_> = missing.map(|(_, words)| *words).collect();
    // A few seeds do not come everywhere.
    let enough = asked.is_none_or(|asked| asked >= SEEDS);
    assert!(!enough || missing.is_empty(), "never happened: {missing:#?}");
}

/// The same seed gives the same history to the byte: twice here, and in a process of its own,
/// whose addresses and hash seeds are others.
#[test]
fn one_seed_is_one_history() {
    if let Some(seed) = number("DIGEST_OF") {
        println!("digest {}", run(seed).history.digest());
        return;
    }
    for seed in 0..12 {
        let [one, other] = [(); 2].map(|()| run(seed));
        assert_eq!(one.history.whole(), other.history.whole(), "seed {seed}");
        assert!(one.history.lines() > 50, "seed {seed}: {} lines", one.history.lines());
        assert_ne!(one.history.digest(), run(seed + 1000).history.digest());
        if seed < 4 {
            let out = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["one_seed_is_one_history", "--exact", "--nocapture"])
                .env("DIGEST_OF", seed.to_string())
                .output()
                .unwrap();
            let out = String::from_utf8(out.stdout).unwrap();
            assert!(out.contains(&format!("digest {}", one.history.digest())), "{out}");
        }
    }
}

/// A duration of so many milliseconds.
fn millis(length: u64) -> Duration {
    Duration::from_millis(length)
}
