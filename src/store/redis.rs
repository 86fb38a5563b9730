//! Redis or Valkey: one server, Sentinel, or a cluster, for any number of nodes.
//!
//! A commit is one script (`redis/commit.lua`) in one partition, whose keys share a slot: it
//! compares revisions and writes; all rules stay in Rust. A verb goes phase by phase. Verbs of one
//! node about one partition take turns, so that a hot record is not decided in vain hundreds of
//! times; nodes among each other go by the guards.
//!
//! A commit whose answer got lost may be sent again, because it knows its own revisions. What is
//! told then is either that it landed, or that nobody knows; never that others were faster, for
//! that would be decided anew on top of what landed.
//!
//! Fail-over forgets what replicas did not have. So a commit that leaves a message due is answered
//! after replicas confirmed it; records of the kinds that are *bound* count only on the replication
//! history that wrote them; and a new history takes no new message for a while.

mod fleet;
mod layout;
mod link;
mod place;
mod vitals;

#[cfg(test)]
pub(crate) mod servers;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use redis::{Cmd, Value, cmd};
use tokio::task::JoinSet;

pub use place::{Credentials, NotAPlace, Place};

use self::fleet::{Answer, Fleet, Manner, Shard};
use self::layout::Head;
use self::link::Link;
use super::verb::{self, Steps};
use super::{Commit, Key, Record, Store, StoreError, Write};
use crate::chance::{Chance, OsChance};
use crate::clock::{Clock, Millis, SECOND};

/// Redis' own clock only makes records vanish that the timeline has passed over already.
const LINGER: Millis = 10 * SECOND;
/// How long after it was sent a commit may still be carried out: as long as its caller waits, and
/// what two clocks may be read apart.
const LATE: Millis = 250;
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
    /// By partition: who decides there.
    turns: Vec<tokio::sync::Mutex<()>>,
    /// Where this node expects something due, and when.
    expected: Mutex<BTreeSet<(Millis, u16)>>,
    /// Where the next look goes on.
    next: AtomicU16,
    _keeper: JoinSet<()>,
}

impl RedisStore {
    /// Links to the servers and judges them.
    pub async fn open(settings: Settings, clock: Clock) -> Result<Self, OpenError> {
        let turns = (0..settings.partitions).map(|_| tokio::sync::Mutex::default()).collect();
        let fleet = Arc::new(Fleet::new(settings, clock.clone()));
        fleet.start().await?;
        let mut keeper = JoinSet::new();
        keeper.spawn(Arc::clone(&fleet).keep());
        let (expected, next) = (Mutex::default(), AtomicU16::new(0));
        Ok(Self { fleet, clock, turns, expected, next, _keeper: keeper })
    }

    fn binds(&self, key: &Key) -> bool {
        self.fleet.settings.bound.contains(&key.kind)
    }

    /// Reads records of one partition at one moment.
    async fn read_partition(
        &self,
        partition: u16,
        keys: &[&Key],
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let layout = &self.fleet.layout;
        let names: Vec<_> = keys.iter().map(|key| layout.record(key)).collect();
        let read = |_: &Link| {
            let mut read = cmd("MGET");
            read.arg(&names);
            read
        };
        let manner = Manner { repeatable: true, opens: false };
        let answer = self.fleet.call(partition, manner, read).await?;
        let now = self.clock.now();
        let Value::Array(values) = answer.value else { return Err(strange()) };
        let mut records = Vec::with_capacity(keys.len());
        for value in values {
            records.push(match value {
                Value::Nil => None,
                Value::BulkString(stored) => layout::living(&stored, now, answer.link.history())?,
                _ => return Err(strange()),
            });
        }
        if records.len() == keys.len() { Ok(records) } else { Err(strange()) }
    }

    /// What came of a commit that was answered.
    async fn landed(&self, plan: &Plan<'_>, answer: &Answer) -> Result<bool, StoreError> {
        let unknown = |why: &str| Err(StoreError::Unavailable(why.to_owned()));
        match &answer.value {
            Value::Int(1) => {}
            Value::Int(0) if answer.repeated => {
                return unknown("no answer came, and now another's");
            }
            Value::Int(0) => return Ok(false),
            Value::BulkString(word) if matches!(&word[..], b"moved" | b"late") => {
                self.fleet.moved(answer);
                return if answer.repeated { unknown("no answer came") } else { Ok(false) };
            }
            Value::BulkString(word) if word == b"alone" => {
                return unknown("fewer replicas are connected than store.replicas asks for");
            }
            _ => return Err(strange()),
        }
        let replicas = self.fleet.settings.replicas;
        if plan.leaves_due() && replicas > 0 {
            let key = self.fleet.layout.wait(plan.partition);
            if !answer.link.confirmed(&key, replicas).await {
                return unknown("replicas did not confirm in time; it may have landed");
            }
        }
        let due = plan.commit.writes.iter().filter_map(|(_, write)| write.due_at());
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.extend(due.map(|due_at| (due_at, plan.partition)));
        Ok(true)
    }

    /// The partitions of a look: those where something is expected, and a share of all.
    fn places(&self, now: Millis) -> Vec<u16> {
        let all = self.fleet.settings.partitions;
        let first = self.next.fetch_add(LOOK_SHARE, Ordering::Relaxed) % all;
        let mut places: BTreeSet<u16> =
            (0..LOOK_SHARE.min(all)).map(|at| (first + at) % all).collect();
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let later = expected.split_off(&(now + 1, 0));
        places.extend(std::mem::replace(&mut *expected, later).into_iter().map(|(_, at)| at));
        places.into_iter().collect()
    }
}

impl Write {
    fn due_at(&self) -> Option<Millis> {
        match self {
            Self::Put { due_at, .. } => *due_at,
            Self::Delete => None,
        }
    }
}

fn strange() -> StoreError {
    StoreError::Unavailable("an answer of Redis is not what was asked for".to_owned())
}

/// A commit about to be sent.
struct Plan<'a> {
    commit: &'a Commit,
    partition: u16,
    /// Whether it depends on the replication history.
    strict: bool,
    /// The revision of the first write; each next one has the next.
    revision: u64,
    now: Millis,
    store: &'a RedisStore,
}

impl Plan<'_> {
    fn leaves_due(&self) -> bool {
        self.commit.writes.iter().any(|(_, write)| write.due_at().is_some())
    }

    /// How it may be sent. A new message is one due that was not there before; sent again may be
    /// what writes a record that it guards, for the guard fails once it has landed.
    fn manner(&self) -> Manner {
        let read = |key: &Key| self.commit.guards.iter().find(|(guarded, _)| guarded == key);
        let writes = &self.commit.writes;
        let opens = writes.iter().any(|(key, write)| {
            write.due_at().is_some() && read(key).is_none_or(|(_, revision)| revision.is_none())
        });
        let put =
            |(key, write): &(Key, Write)| matches!(write, Write::Put { .. }) && read(key).is_some();
        Manner { repeatable: writes.iter().any(put), opens }
    }

    fn command(&self, link: &Link) -> Cmd {
        let (layout, settings) = (&self.store.fleet.layout, &self.store.fleet.settings);
        let Commit { guards, writes } = self.commit;
        let mut command = Link::commit();
        command.arg(1 + guards.len() + writes.len()).arg(layout.queue(self.partition));
        for (key, _) in guards {
            command.arg(layout.record(key));
        }
        for (key, _) in writes {
            command.arg(layout.record(key));
        }
        let replicas = if self.leaves_due() { settings.replicas } else { 0 };
        command.arg(self.now).arg(if self.strict { link.history() } else { "" });
        let until = link.time() + LATE;
        command.arg(replicas).arg(until).arg(guards.len());
        for (_, revision) in guards {
            command.arg(revision.map_or_else(String::new, |revision| format!("{revision:016x}")));
        }
        for (at, (key, write)) in (0..).zip(writes) {
            let Write::Put { value, expires_at, due_at } = write else {
                command.arg("").arg("").arg("");
                continue;
            };
            let head = Head {
                revision: self.revision.wrapping_add(at),
                expires_at: *expires_at,
                due: due_at.is_some(),
                history: self.store.binds(key).then(|| link.history()),
            };
            let life = expires_at.saturating_sub(self.now).max(0).saturating_add(LINGER);
            let due_at = due_at.map_or_else(String::new, |due_at| due_at.to_string());
            command.arg(head.before(value)).arg(life).arg(due_at);
        }
        command
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        let mut records = vec![None; keys.len()];
        let partitions: BTreeSet<u16> = keys.iter().map(|key| key.partition).collect();
        for partition in partitions {
            let here = || keys.iter().enumerate().filter(|(_, key)| key.partition == partition);
            let of: Vec<&Key> = here().map(|(_, key)| key).collect();
            let read = self.read_partition(partition, &of).await?;
            for ((at, _), record) in here().zip(read) {
                records[at] = record;
            }
        }
        Ok(records)
    }

    async fn commit(&self, commit: Commit) -> Result<bool, StoreError> {
        let named = commit.guards.iter().map(|(key, _)| key);
        let named: Vec<&Key> = named.chain(commit.writes.iter().map(|(key, _)| key)).collect();
        let Some(partition) = named.first().map(|key| key.partition) else { return Ok(true) };
        if named.iter().any(|key| key.partition != partition) {
            return Err(StoreError::Unreadable("a commit is of one partition".to_owned()));
        }
        let began = Instant::now();
        let settings = &self.fleet.settings;
        let due = commit.writes.iter().any(|(_, write)| write.due_at().is_some());
        let strict = named.iter().any(|key| self.binds(key))
            || (due && (settings.replicas > 0 || settings.hold > 0));
        let (revision, now) = (OsChance.below(u64::MAX), self.clock.now());
        let plan = Plan { commit: &commit, partition, strict, revision, now, store: self };
        let answer = self.fleet.call(partition, plan.manner(), |link| plan.command(link)).await?;
        let landed = self.landed(&plan, &answer).await;
        metrics::histogram!("countersign_store_commit_seconds").record(began.elapsed());
        landed
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
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).extend(still);
        Ok(found.into_iter().take(max).map(|(_, key)| key).collect())
    }

    async fn run(&self, mut steps: Box<dyn Steps>) -> Result<(), StoreError> {
        loop {
            let partition = steps.keys().first().map(|key| usize::from(key.partition));
            let turn = partition.and_then(|partition| self.turns.get(partition));
            let _turn = match turn {
                Some(turn) => Some(turn.lock().await),
                None => None,
            };
            if !verb::run_phase(self, &mut *steps).await? {
                return Ok(());
            }
        }
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
    let link = shard.link().await?;
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
                _ => {
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
