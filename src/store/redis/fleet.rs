//! All masters, who serves which partition, and how a call finds its way there.
//!
//! One keeper looks after them: it asks who is master (Sentinel, cluster), looks at each link once
//! a second, and makes those anew that were lost, with pauses that grow and that chance makes
//! uneven, so that nodes do not all come at once. Calls never connect by themselves.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value, cmd};
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::layout::{Layout, slot};
use super::link::{ANSWER_MAX, Fault, Link, connect, word};
use super::place::{Address, Kind};
use super::{OpenError, Settings};
use crate::chance::{Chance, OsChance};
use crate::clock::{Clock, Millis};
use crate::store::StoreError;

/// How long a call waits for a link that was just lost to be made anew; never longer than a call.
const GRACE: Duration = Duration::from_millis(100);
/// How long a call may take with all its tries.
const CALL_MAX: Duration = Duration::from_millis(190);
/// The pause before a call is tried again where nothing was done.
const AGAIN: Duration = Duration::from_millis(10);
/// How often the links are looked at, and the pauses while one is lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(400)];
/// How long the first links may take.
const START_MAX: Duration = Duration::from_secs(5);

/// A master.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) address: Address,
    state: watch::Sender<State>,
}

#[derive(Clone, Debug)]
enum State {
    Live(Arc<Link>),
    Lost { at: Instant, why: String },
}

/// Who serves what.
#[derive(Debug, Default)]
struct Map {
    shards: Vec<Arc<Shard>>,
    /// By partition.
    serves: Vec<Option<Arc<Shard>>>,
}

/// The masters.
pub(super) struct Fleet {
    pub(super) settings: Settings,
    pub(super) layout: Layout,
    clock: Clock,
    map: RwLock<Arc<Map>>,
    /// Who was last asked for the masters.
    scout: Mutex<Option<MultiplexedConnection>>,
    trouble: Notify,
}

/// An answer, and by whom.
pub(super) struct Answer {
    pub(super) value: Value,
    pub(super) link: Arc<Link>,
    pub(super) shard: Arc<Shard>,
    /// Whether the call was sent once before, and no answer came.
    pub(super) repeated: bool,
}

fn unavailable(why: impl Into<String>) -> StoreError {
    StoreError::Unavailable(why.into())
}

impl Fleet {
    pub(super) fn new(settings: Settings, clock: Clock) -> Self {
        let layout = Layout { prefix: settings.prefix.clone() };
        let (map, scout, trouble) = (RwLock::default(), Mutex::default(), Notify::new());
        Self { settings, layout, clock, map, scout, trouble }
    }

    fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls whoever serves a partition. `command` is made anew for each try, and is told whether
    /// it was sent before and may have been carried out; it is if that may be (`repeatable`).
    pub(super) async fn call(
        &self,
        partition: u16,
        repeatable: bool,
        mut command: impl FnMut(&Link, bool) -> Cmd + Send,
    ) -> Result<Answer, StoreError> {
        let began = Instant::now();
        let (mut repeated, mut redirect) = (false, None);
        loop {
            let (shard, asking) = match redirect.take() {
                Some((shard, asking)) => (shard, asking),
                None => (self.serving(partition)?, false),
            };
            let link = shard.link(began + CALL_MAX).await?;
            let sent = Instant::now();
            let command = command(&link, repeated);
            let answer = timeout_at(began + CALL_MAX, link.send(&command, asking)).await;
            let error = match answer {
                Ok(Ok(value)) => return Ok(Answer { value, link, shard, repeated }),
                Ok(Err(error)) => error,
                Err(_) => return Err(unavailable("no answer in time")),
            };
            match Fault::of(&error, &shard.address) {
                Fault::Lost { silent } => {
                    self.lose(&shard, &link, if silent { sent } else { Instant::now() }, &error);
                    repeated = true;
                    if !repeatable {
                        return Err(unavailable(word(&error)));
                    }
                }
                Fault::NoScript => {
                    link.load().await.map_err(|error| unavailable(word(&error)))?;
                }
                Fault::Moved(to) => redirect = self.redirected(to, false).await,
                Fault::Ask(to) => redirect = self.redirected(to, true).await,
                Fault::Soon => sleep(AGAIN).await,
                Fault::Elsewhere => {
                    self.trouble.notify_one();
                    sleep(AGAIN).await;
                }
                Fault::Refused => return Err(unavailable(word(&error))),
            }
            if began.elapsed() > ANSWER_MAX {
                return Err(unavailable(word(&error)));
            }
        }
    }

    /// Why a partition takes no new message now, if so.
    pub(super) fn holds(&self, partition: u16) -> Option<String> {
        let serving = self.serving(partition).ok()?;
        match &*serving.state.borrow() {
            State::Live(link) => self.held(link),
            State::Lost { .. } => None,
        }
    }

    /// Why no new message is taken over a link now, if so.
    pub(super) fn held(&self, link: &Link) -> Option<String> {
        link.holds(self.clock.now())
    }

    /// How far a server's clock is ahead of ours.
    fn apart(&self, link: &Link) -> Millis {
        link.time() - self.clock.wall()
    }

    fn serving(&self, partition: u16) -> Result<Arc<Shard>, StoreError> {
        let serving = self.map().serves.get(usize::from(partition)).cloned().flatten();
        serving.ok_or_else(|| unavailable("no master serves this partition"))
    }

    /// The shard that a call was sent on to; one that nobody knew is linked to first.
    async fn redirected(&self, to: Address, asking: bool) -> Option<(Arc<Shard>, bool)> {
        let known = self.map().shards.iter().find(|shard| shard.address == to).cloned();
        if known.is_none() {
            let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
            let mut shards = map.shards.clone();
            shards.push(Arc::new(Shard::new(to)));
            *map = Arc::new(Map { shards, serves: map.serves.clone() });
        }
        self.trouble.notify_one();
        if known.is_none() {
            sleep(AGAIN).await;
        }
        known.map(|shard| (shard, asking))
    }

    /// The links to all masters, with the partitions that each serves.
    pub(super) fn links(&self, partitions: &[u16]) -> Vec<(Arc<Shard>, Vec<u16>)> {
        let map = self.map();
        let mut of: HashMap<*const Shard, (Arc<Shard>, Vec<u16>)> = HashMap::new();
        for partition in partitions {
            if let Some(Some(shard)) = map.serves.get(usize::from(*partition)) {
                let entry = of.entry(Arc::as_ptr(shard));
                entry.or_insert_with(|| (Arc::clone(shard), Vec::new())).1.push(*partition);
            }
        }
        of.into_values().collect()
    }

    /// Gives a link up, unless there is a newer one already.
    pub(super) fn lose(
        &self,
        shard: &Shard,
        link: &Arc<Link>,
        at: Instant,
        error: &redis::RedisError,
    ) {
        shard.lose(link, at, word(error));
        self.trouble.notify_one();
    }

    /// Gives a link up whose server is of another history, or shows another time, by now.
    pub(super) fn moved(&self, answer: &Answer) {
        answer.shard.lose(&answer.link, Instant::now(), "its history or clock moved".to_owned());
        self.trouble.notify_one();
    }

    /// Makes the first links, and judges whether records may be trusted to these servers.
    pub(super) async fn start(self: &Arc<Self>) -> Result<(), OpenError> {
        let until = Instant::now() + START_MAX;
        let mut told = loop {
            let surveyed = self.survey().await;
            let missing = self.visit_all().await;
            let complete = self.map().serves.iter().all(Option::is_some);
            match surveyed {
                Ok(()) if missing.is_empty() && complete => break Vec::new(),
                Ok(()) if Instant::now() > until && missing.is_empty() => {
                    break vec![
                        "the cluster does not cover all slots; redis-cli --cluster fix \
                                host:port"
                            .to_owned(),
                    ];
                }
                Ok(()) if Instant::now() > until => break missing,
                Err(why) if Instant::now() > until => break vec![why],
                _ => sleep(Duration::from_millis(100)).await,
            }
        };
        for shard in &self.map().shards {
            if let State::Live(link) = &*shard.state.borrow() {
                let faults = link.vitals.faults(self.settings.replicas, self.apart(link));
                told.extend(faults.into_iter().map(|fault| format!("{}: {fault}", shard.address)));
            }
        }
        if told.is_empty() { Ok(()) } else { Err(OpenError(told)) }
    }

    /// Looks after the links, for as long as the store is open.
    pub(super) async fn keep(self: Arc<Self>) {
        let [shortest, longest] = PAUSES;
        let (mut pause, mut held) = (shortest, false);
        loop {
            let surveyed = self.survey().await;
            let missing = self.visit_all().await;
            let down = u32::try_from(missing.len()).unwrap_or(u32::MAX);
            metrics::gauge!("countersign_store_links_lost").set(down);
            held = self.tell_held(held);
            if surveyed.is_ok() && missing.is_empty() {
                pause = shortest;
                let troubled = tokio::time::timeout(uneven(LOOK_EVERY), self.trouble.notified());
                if troubled.await.is_ok() {
                    sleep(uneven(shortest)).await;
                }
            } else {
                tracing::debug!(?missing, ?surveyed, "the store is not whole");
                sleep(uneven(pause)).await;
                pause = (pause * 2).min(longest);
            }
        }
    }

    /// Says aloud when masters begin, or end, to take no new message; says whether any does.
    fn tell_held(&self, before: bool) -> bool {
        let map = self.map();
        let held = map.shards.iter().filter_map(|shard| match &*shard.state.borrow() {
            State::Live(link) => self.held(link).map(|why| format!("{}: {why}", shard.address)),
            State::Lost { .. } => None,
        });
        let held: Vec<_> = held.collect();
        let count = u32::try_from(held.len()).unwrap_or(u32::MAX);
        metrics::gauge!("countersign_store_sends_held").set(count);
        match (before, held.first()) {
            (false, Some(why)) => tracing::error!("no new message is taken: {why}"),
            (true, None) => tracing::info!("new messages are taken again"),
            _ => {}
        }
        !held.is_empty()
    }

    /// Finds out who the masters are.
    async fn survey(&self) -> Result<(), String> {
        let all = vec![(0, u16::MAX)];
        let found = match &self.settings.place.kind {
            Kind::Single(address) => vec![(address.clone(), all)],
            Kind::Sentinel { sentinels, master } => {
                let mut ask = cmd("SENTINEL");
                ask.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
                let answer = self.ask(sentinels, &ask).await?;
                let (host, port): (String, u16) = redis::from_redis_value(answer)
                    .map_err(|_| format!("no sentinel knows a master named \"{master}\""))?;
                vec![(Address::Tcp(host, port), all)]
            }
            Kind::Cluster { nodes } => {
                let known = self.map().shards.iter().map(|shard| shard.address.clone()).collect();
                let places: Vec<Address> = [known, nodes.clone()].concat();
                let mut ask = cmd("CLUSTER");
                ask.arg("SLOTS");
                masters(self.ask(&places, &ask).await?, nodes)
            }
        };
        self.apply(found);
        Ok(())
    }

    /// Asks whoever answers, the one of last time first.
    async fn ask(&self, places: &[Address], command: &Cmd) -> Result<Value, String> {
        let mut scout = self.scout.lock().await;
        if let Some(known) = &mut *scout {
            let answer = known.send_packed_command(command).await;
            if let Ok(answer) = answer.and_then(Value::extract_error) {
                return Ok(answer);
            }
            *scout = None;
        }
        let tls = self.settings.place.is_tls();
        let mut told = "nobody to ask".to_owned();
        let mut tries = Vec::new();
        for credentials in self.settings.credentials.of_scouts() {
            tries.extend(places.iter().map(|place| (place, credentials.clone())));
        }
        for (place, credentials) in tries {
            let client = credentials.client(place, tls);
            let asked = async {
                let mut connection = connect(&client?, ANSWER_MAX).await?;
                let answer = connection.send_packed_command(command).await?.extract_error()?;
                Ok((connection, answer))
            };
            match asked.await {
                Ok((connection, answer)) => {
                    *scout = Some(connection);
                    return Ok(answer);
                }
                Err(error) => told = format!("{place}: {}", word(&error)),
            }
        }
        Err(told)
    }

    /// Takes a new division of the slots up; links to servers that stay are kept.
    fn apply(&self, found: Vec<(Address, Vec<(u16, u16)>)>) {
        let old = self.map();
        let mut shards = Vec::new();
        let mut serves = vec![None; usize::from(self.settings.partitions)];
        for (address, ranges) in found {
            let known = old.shards.iter().find(|shard| shard.address == address);
            let shard = known.cloned().unwrap_or_else(|| {
                tracing::info!(%address, "the store has a new master");
                Arc::new(Shard::new(address))
            });
            for (partition, serving) in (0..self.settings.partitions).zip(&mut serves) {
                let slot = slot(partition);
                if ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot)) {
                    *serving = Some(Arc::clone(&shard));
                }
            }
            shards.push(shard);
        }
        *self.map.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Map { shards, serves });
    }

    /// Looks at every link, and makes the lost ones anew; says which are still lost.
    async fn visit_all(self: &Arc<Self>) -> Vec<String> {
        let mut visits = JoinSet::new();
        for shard in &self.map().shards {
            let (this, shard) = (Arc::clone(self), Arc::clone(shard));
            visits.spawn(async move { this.visit(&shard).await });
        }
        visits.join_all().await.into_iter().flatten().collect()
    }

    async fn visit(&self, shard: &Shard) -> Option<String> {
        let state = shard.state.borrow().clone();
        let why = match state {
            State::Live(link) => {
                let began = Instant::now();
                let why = link.look().await.err();
                let apart = Duration::from_millis(self.apart(&link).unsigned_abs());
                metrics::gauge!("countersign_store_clock_apart_seconds").set(apart.as_secs_f64());
                let why = why?;
                shard.lose(&link, began, why.clone());
                why
            }
            State::Lost { at, .. } => match self.link_up(shard).await {
                Ok(link) => {
                    tracing::info!(address = %shard.address, "linked to the store");
                    shard.state.send_replace(State::Live(Arc::new(link)));
                    return None;
                }
                Err(why) => {
                    shard.state.send_replace(State::Lost { at, why: why.clone() });
                    why
                }
            },
        };
        Some(format!("{}: {why}", shard.address))
    }

    async fn link_up(&self, shard: &Shard) -> Result<Link, String> {
        let (place, credentials) = (&self.settings.place, &self.settings.credentials);
        let client = credentials.client(&shard.address, place.is_tls());
        let client = client.map_err(|error| word(&error))?;
        let mut link = Link::open(&client).await?;
        let lowest = self.map().serves.iter().position(|serving| {
            serving.as_ref().is_some_and(|serving| serving.address == shard.address)
        });
        if let Some(lowest) = lowest.filter(|_| self.settings.hold > 0) {
            let key = self.layout.history(u16::try_from(lowest).unwrap_or(0));
            let since: Millis = link.learn_history(&key, self.clock.now()).await?;
            link.held_until = if since == 0 { 0 } else { since + self.settings.hold };
        }
        Ok(link)
    }
}

impl Shard {
    fn new(address: Address) -> Self {
        let lost = State::Lost { at: Instant::now(), why: "not linked yet".to_owned() };
        Self { address, state: watch::Sender::new(lost) }
    }

    /// The link; waits a moment for one that was just lost, at most until then.
    pub(super) async fn link(&self, until: Instant) -> Result<Arc<Link>, StoreError> {
        let mut states = self.state.subscribe();
        loop {
            let state = states.borrow_and_update().clone();
            match state {
                State::Live(link) => return Ok(link),
                State::Lost { at, why } => {
                    if timeout_at(until.min(at + GRACE), states.changed()).await.is_err() {
                        return Err(unavailable(format!("{}: {why}", self.address)));
                    }
                }
            }
        }
    }

    fn lose(&self, link: &Arc<Link>, at: Instant, why: String) {
        self.state.send_if_modified(|state| {
            let ours = matches!(state, State::Live(live) if Arc::ptr_eq(live, link));
            if ours {
                tracing::warn!(address = %self.address, why, "the store lost a link");
                *state = State::Lost { at, why };
            }
            ours
        });
    }
}

/// The masters of an answer to `CLUSTER SLOTS`, each with its ranges of slots.
fn masters(answer: Value, nodes: &[Address]) -> Vec<(Address, Vec<(u16, u16)>)> {
    let mut found: Vec<(Address, Vec<(u16, u16)>)> = Vec::new();
    let Value::Array(ranges) = answer else { return found };
    for range in ranges {
        let Value::Array(range) = range else { continue };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &range[..] else {
            continue;
        };
        let [host, Value::Int(port), ..] = &master[..] else { continue };
        let host = match host {
            Value::BulkString(host) if !host.is_empty() => String::from_utf8_lossy(host).into(),
            // It does not know its own name: it is where it was asked.
            _ => match nodes.first() {
                Some(Address::Tcp(host, _)) => host.clone(),
                _ => continue,
            },
        };
        let number = |number: i64| u16::try_from(number).unwrap_or(u16::MAX);
        let (address, range) = (Address::Tcp(host, number(*port)), (number(*first), number(*last)));
        match found.iter_mut().find(|(known, _)| *known == address) {
            Some((_, ranges)) => ranges.push(range),
            None => found.push((address, vec![range])),
        }
    }
    found
}

/// Between half of a length and all of it.
fn uneven(length: Duration) -> Duration {
    let half = u64::try_from(length.as_millis() / 2).unwrap_or(0);
    Duration::from_millis(half + OsChance.below(half + 1))
}
