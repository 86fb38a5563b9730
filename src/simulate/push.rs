//! Pushes receipts, as the vendors do: to the address in the request, or the account's.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{DIALECTS, Simulator};
use crate::providers::transport;

/// How often receipts are looked for.
const EVERY: Duration = Duration::from_millis(20);
/// How often one receipt is pushed at most, and the pause before the second time; it doubles.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// A push.
pub(super) struct Push {
    /// The content type.
    pub(super) kind: &'static str,
    /// Headers besides it.
    pub(super) headers: Vec<(&'static str, String)>,
    /// The body.
    pub(super) body: String,
}

/// Pushes what is due until it is stopped.
pub(super) async fn run(
    simulator: Arc<Simulator>,
    client: reqwest::Client,
    stop: CancellationToken,
) {
    let (mut every, tracker) = (tokio::time::interval(EVERY), TaskTracker::new());
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        for (sent, url) in simulator.desk.take_pushes() {
            let Some(dialect) = DIALECTS.into_iter().find(|it| it.name == sent.dialect) else {
                continue;
            };
            let Some(push) = dialect.push else { continue };
            let push = push(simulator.account(dialect), &sent, &url);
            let (client, stop) = (client.clone(), stop.clone());
            tracker.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = deliver(&client, &url, push) => {}
                }
            });
        }
    }
}

async fn deliver(client: &reqwest::Client, url: &str, push: Push) {
    for tried in 0..TRIES {
        let mut call = client.post(url).header("content-type", push.kind);
        for (name, value) in &push.headers {
            call = call.header(*name, value);
        }
        let answered = transport::call(call.body(push.body.clone())).await;
        if answered.is_ok_and(|answer| answer.status.is_success()) {
            return;
        }
        tokio::time::sleep(PAUSE * 2_u32.pow(tried)).await;
    }
}
