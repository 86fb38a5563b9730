//! Logs and metrics: how they are set up, and the list of all metrics.

use std::io::IsTerminal;

use anyhow::Context;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// The bounds of all time histograms, in seconds.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The counters, with what they count.
const COUNTERS: [(&str, &str); 16] = [
    ("countersign_requests_total", "HTTP requests, by route and status"),
    ("countersign_challenges_total", "Challenges minted (native) or pictures shown (seed's door)"),
    ("countersign_clips_total", "Audio clips of challenges, by language and what came of it"),
    (
        "countersign_challenge_steps_total",
        "What the ladder asked for, by step (allow, work, picture_1 to _3, refuse) and reason",
    ),
    (
        "countersign_challenge_answers_total",
        "Answers that came with starts, by kind of challenge and outcome: passed, wrong, expired, \
         held (too many wrong ones), unasked (a third party was down)",
    ),
    (
        "countersign_third_party_calls_total",
        "Tokens of third parties, by third party, outcome (passed, refused, unfit, down, busy) and \
         reason",
    ),
    ("countersign_starts_total", "Starts, by outcome: ok, or the reason of the refusal"),
    ("countersign_resends_total", "Resends, by outcome"),
    ("countersign_checks_total", "Checks, by outcome: approved, wrong, or the refusal"),
    ("countersign_tries_total", "Calls to providers, by provider and class of outcome"),
    (
        "countersign_breaker_opened_total",
        "How often a provider was left out, by provider, country and why",
    ),
    ("countersign_deliveries_total", "Settled deliveries, by provider and outcome"),
    (
        "countersign_spent_micros_total",
        "What messages cost, in millionths of caps.currency, by provider and country",
    ),
    (
        "countersign_entered_total",
        "Whether codes were entered within 90 s, by provider and country, where choice is adaptive",
    ),
    ("countersign_cap_passed_total", "How often 80, 100 and 120 % of a cap were passed, by window"),
    (
        "countersign_receipts_total",
        "Receipts pushed by providers: taken, ignored, or not signed by them",
    ),
];

/// The histograms, with what they measure.
const HISTOGRAMS: [(&str, &str); 6] = [
    ("countersign_request_seconds", "How long requests took, by route"),
    ("countersign_store_commit_seconds", "How long a commit of the store took, its flush included"),
    ("countersign_handoff_seconds", "From acceptance of a message to its first call"),
    ("countersign_provider_seconds", "How long calls to providers took"),
    ("countersign_third_party_seconds", "How long third parties took to judge a token"),
    ("countersign_delivery_seconds", "From acceptance of a message until it was settled"),
];

/// What the Redis store says about its servers.
const STORE_GAUGES: [(&str, &str); 3] = [
    ("countersign_store_links_lost", "Masters of Redis that cannot be reached"),
    ("countersign_store_sends_held", "Masters of Redis that take no new message"),
    ("countersign_store_clock_apart_seconds", "Between our clock and that of Redis, when linked"),
];

/// Sets logging up: lines for people or JSON for machines, on standard error.
pub fn log(json: bool, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).context("log.filter")?;
    let colours = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr);
    let set = if json { logs.json().try_init() } else { logs.try_init() };
    set.map_err(|error| anyhow::anyhow!("logging is set up already: {error}"))
}

/// Sets metrics up.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .context("metric buckets")?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)
        .map_err(|_| anyhow::anyhow!("metrics are set up already"))?;
    for (name, help) in COUNTERS {
        describe_counter!(name, help);
    }
    for (name, help) in HISTOGRAMS {
        describe_histogram!(name, Unit::Seconds, help);
    }
    for (name, help) in STORE_GAUGES {
        describe_gauge!(name, help);
    }
    describe_gauge!("countersign_breaker_open", "1 while a provider is left out for a country");
    describe_gauge!(
        "countersign_cap_used",
        "What is spent or leased of a cap, by window: 1 is all"
    );
    describe_gauge!("countersign_queue_due", "Deliveries that were due at the last look");
    Ok(handle)
}
