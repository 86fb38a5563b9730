//! Redis or Valkey: one server, Sentinel, or a cluster, for any number of nodes.
//!
//! A commit is part of one script (`redis/commit.lua`): it compares revisions and writes; all rules
//! stay in Rust. Verbs that come at the same time are read, decided and committed together
//! (`redis/lane.rs`); nodes among each other go by the guards.
//!
//! A commit whose answer got lost may be sent again, because it knows its own revisions. What is
//! told then is either that it landed, or that nobody knows; never that others were faster, for
//! that would be decided anew on top of what landed.
//!
//! Fail-over forgets what replicas did not have. So a commit that leaves a message due is answered
//! after replicas confirmed it; records of the kinds that are *bound* count only on the replication
//! history that wrote them; and a new history takes no new message for a while.

mod batch;
mod commit;
mod fleet;
mod lane;
mod layout;
mod link;
mod place;
mod read;
mod vitals;

#[cfg(test)]
mod secure;
#[cfg(test)]
pub(crate) mod servers;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod troubles;
#[cfg(test)]
mod wires;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use tokio::task::JoinSet;

pub use place::{Credentials, NotAPlace, Place};

use self::commit::Entry;
use self::fleet::{Fleet, Shard};
use self::lane::Lanes;
use super::verb::Steps;
use super::{Commit, Key, Record, Store, StoreError};
use crate::clock::{Clock, Millis};

/// How many partitions a look goes through besides those where this node expects something.
const LOOK_SHARE: u16 = 128;

/// What the store goes by.
#[derive(Clone)]
pub struct Settings {
    /// Where Redis is.
    pub place: Place,
    /// Who we are there.
    pub credentials: Credentials,
    /// What all keys begin with.
    pub prefix: String,
    /// How many partitions there are.
    pub partitions: u16,
    /// Kinds of records that count only on the replication history that wrote them.
    pub bound: Vec<u8>,
    /// How many replicas must have a message before it may be sent.
    pub replicas: u32,
    /// For how long a new history takes no new message; 0 for not at all.
    pub hold: Millis,
}

/// Why the store cannot be opened: each reason with what mends it.
#[derive(Debug, thiserror::Error)]
#[error("the Redis store: {}", .0.join("\nthe Redis store: "))]
pub struct OpenError(pub Vec<String>);

/// The store.
pub struct RedisStore {
    fleet: Arc<Fleet>,
    clock: Clock,
    lanes: Arc<Lanes>,
    /// Where the next look goes on.
    next: AtomicU16,
    _keeper: JoinSet<()>,
}

impl RedisStore {
    /// Links to the servers and judges them.
    pub async fn open(settings: Settings, clock: Clock) -> Result<Self, OpenError> {
        let fleet = Arc::new(Fleet::new(settings, clock.clone()));
        fleet.start().await?;
        let mut keeper = JoinSet::new();
        keeper.spawn(Arc::clone(&fleet).keep());
        let lanes = Arc::new(Lanes::new(Arc::clone(&fleet), clock.clone()));
        Ok(Self { fleet, clock, lanes, next: AtomicU16::new(0), _keeper: keeper })
    }

    /// The partitions of a look: those where something is expected, and a share of all.
    fn places(&self, now: Millis) -> Vec<u16> {
        let all = self.fleet.settings.partitions;
        let first = self.next.fetch_add(LOOK_SHARE, Ordering::Relaxed) % all;
        let mut places: BTreeSet<u16> =
            (0..LOOK_SHARE.min(all)).map(|at| (first + at) % all).collect();
        let mut expected = self.lanes.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let later = expected.split_off(&(now + 1, 0));
        places.extend(std::mem::replace(&mut *expected, later).into_iter().map(|(_, at)| at));
        places.into_iter().collect()
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        read::together(&self.fleet, &self.clock, keys).await?.into_iter().collect()
    }

    async fn commit(&self, commit: Commit) -> Result<bool, StoreError> {
        let Some(entry) = Entry::of(commit) else { return Ok(false) };
        let Some(partition) = entry.touches.first().map(|touch| touch.key.partition) else {
            return Ok(true);
        };
        if entry.touches.iter().any(|touch| touch.key.partition != partition) {
            return Err(StoreError::Unreadable("a commit is of one partition".to_owned()));
        }
        let (began, now) = (Instant::now(), self.clock.now());
        let entries = [entry];
        let (mut landed, answer) = commit::ship(&self.fleet, partition, &entries, now).await?;
        let landed = landed.remove(0)?;
        if landed && entries[0].leaves_due() {
            commit::confirm(&self.fleet, partition, &answer).await?;
            self.lanes.expect(&entries[0]);
        }
        metrics::histogram!("countersign_store_commit_seconds").record(began.elapsed());
        Ok(landed)
    }

    async fn due(&self, now: Millis, max: usize) -> Result<Vec<Key>, StoreError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let mut looks = JoinSet::new();
        for (shard, partitions) in self.fleet.links(&self.places(now)) {
            let fleet = Arc::clone(&self.fleet);
            looks.spawn(async move { look(&fleet, &shard, &partitions, now, max).await });
        }
        let (mut found, mut failed, mut answered) = (Vec::new(), None, looks.is_empty());
        for looked in looks.join_all().await {
            match looked {
                Ok(due) => (answered, found) = (true, [found, due].concat()),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            tracing::debug!(%error, "a part of the queue could not be looked at");
            if !answered {
                return Err(error);
            }
        }
        found.sort();
        // Whoever takes these up moves them ahead; what nobody takes up is looked at again.
        let still = found.iter().map(|(due_at, key)| (*due_at, key.partition));
        self.lanes.expected.lock().unwrap_or_else(PoisonError::into_inner).extend(still);
        Ok(found.into_iter().take(max).map(|(_, key)| key).collect())
    }

    async fn run(&self, steps: Box<dyn Steps>) -> Result<(), StoreError> {
        self.lanes.run(steps).await
    }
}

/// What is due in these partitions of a shard. What stands in a queue although its record has
/// vanished is taken out: its time is part of its name, so nobody's newer entry is meant.
async fn look(
    fleet: &Fleet,
    shard: &Shard,
    partitions: &[u16],
    now: Millis,
    max: usize,
) -> Result<Vec<(Millis, Key)>, StoreError> {
    let link = shard.link(tokio::time::Instant::now() + link::ANSWER_MAX).await?;
    let unavailable = |error: redis::RedisError| StoreError::Unavailable(link::word(&error));
    let mut looks = redis::pipe();
    for partition in partitions {
        let look = looks.cmd("ZRANGE").arg(fleet.layout.queue(*partition));
        look.arg("-inf").arg(now).arg("BYSCORE").arg("LIMIT").arg(0).arg(max).arg("WITHSCORES");
    }
    let sent = tokio::time::Instant::now();
    let answers = link.send_all(&looks).await.map_err(|error| {
        if error.code().is_none() {
            fleet.lose(shard, &link, sent, &error);
        }
        unavailable(error)
    })?;
    let (mut due, mut gone, mut any_gone) = (Vec::new(), redis::pipe(), false);
    for (partition, answer) in partitions.iter().zip(answers) {
        let entries: Vec<(Vec<u8>, f64)> = redis::from_redis_value(answer).unwrap_or_default();
        for (member, due_at) in entries {
            match layout::from_queue(*partition, &member) {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "scores are whole milliseconds"
                )]
                Some((expires_at, key)) if expires_at > now => due.push((due_at as Millis, key)),
                // A newer release put it there, and knows what it means.
                None => {}
                Some(_) => {
                    any_gone = true;
                    gone.cmd("ZREM").arg(fleet.layout.queue(*partition)).arg(member).ignore();
                }
            }
        }
    }
    if any_gone && let Err(error) = link.send_all(&gone).await {
        tracing::debug!(error = link::word(&error), "the queue was not tidied");
    }
    Ok(due)
}
