//! Group commit: verbs that wait while a round trip is under way are carried out together.
//!
//! A lane reads the records of all that wait in one call, decides them one after the other
//! (`batch.rs`), and commits them in one call (`commit.rs`). On one server, or a master that
//! Sentinels watch over, everything goes through one lane, and a verb's phases land together. In a
//! cluster each partition has a lane, and a verb moves from lane to lane, phase by phase.
//!
//! A lane does not wait for a commit before it decides the next batch: that one goes by what the
//! first drafted, and guards the revisions that it drafted. If the first does not land, neither
//! does what was built on it, and all of it is decided anew. So nobody is told of a record before
//! it landed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use super::batch::{Batch, Decided, Job, Known, Next, Parties};
use super::commit::{self, Entry};
use super::fleet::Fleet;
use super::read;
use crate::clock::{Clock, Millis};
use crate::store::verb::Steps;
use crate::store::{Key, Record, StoreError, Write};

/// The most verbs in a batch: their script runs for one or two milliseconds.
const BATCH_MAX: usize = 64;
/// How many commits of a lane may be under way.
const FLIGHTS_MAX: usize = 3;
/// How often a verb is decided in vain before its caller is told.
const ROUNDS_MAX: usize = 64;
/// From so many rounds on a verb is a batch by itself.
const ALONE_FROM: usize = 8;

/// All lanes.
pub(super) struct Lanes {
    pub(super) fleet: Arc<Fleet>,
    clock: Clock,
    all: Vec<Lane>,
    /// Where this node expects something due, and when.
    pub(super) expected: Mutex<BTreeSet<(Millis, u16)>>,
    tasks: TaskTracker,
}

struct Lane {
    inner: Mutex<Inner>,
    flights: Arc<Semaphore>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Job>,
    /// Whether somebody works through them.
    awake: bool,
    /// What commits under way will have written, and which of them.
    drafted: HashMap<Key, Drafted>,
    flights: u64,
}

struct Drafted {
    flight: u64,
    record: Option<Record>,
    expires_at: Millis,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The next batch; nobody works here any more if there is none.
    fn take(&mut self) -> Option<Vec<Job>> {
        self.awake = !self.waiting.is_empty();
        let alone = self.waiting.front()?.rounds >= ALONE_FROM;
        let many = if alone { 1 } else { self.waiting.len().min(BATCH_MAX) };
        Some(self.waiting.drain(..many).collect())
    }

    /// What is known without reading, of these keys.
    fn known(&self, keys: &BTreeSet<Key>, now: Millis) -> HashMap<Key, Known> {
        let known = keys.iter().filter_map(|key| {
            let drafted = self.drafted.get(key)?;
            let record = drafted.record.clone().filter(|_| drafted.expires_at > now);
            Some((key.clone(), Known { record: Ok(record), ahead: true }))
        });
        known.collect()
    }

    /// Notes what a commit is about to write; gives it a number.
    fn depart<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> u64 {
        self.flights += 1;
        for touch in entries.flat_map(|entry| &entry.touches) {
            let (record, expires_at) = match &touch.write {
                Some((revision, Write::Put { value, expires_at, .. })) => {
                    let record = Record { revision: *revision, value: value.clone() };
                    (Some(record), *expires_at)
                }
                Some((_, Write::Delete)) => (None, 0),
                None => continue,
            };
            let drafted = Drafted { flight: self.flights, record, expires_at };
            self.drafted.insert(touch.key.clone(), drafted);
        }
        self.flights
    }

    /// Forgets what a commit wrote; all drafts, if others may be built on what did not land.
    fn land(&mut self, flight: u64, whole: bool) {
        if whole {
            self.drafted.retain(|_, drafted| drafted.flight != flight);
        } else {
            self.drafted.clear();
        }
    }
}

impl Lanes {
    pub(super) fn new(fleet: Arc<Fleet>, clock: Clock) -> Self {
        let settings = &fleet.settings;
        let many = if settings.place.is_cluster() { settings.partitions } else { 1 };
        let flights = if settings.place.is_cluster() { 1 } else { FLIGHTS_MAX };
        let lane = |_| Lane { inner: Mutex::default(), flights: Arc::new(Semaphore::new(flights)) };
        let all = (0..many).map(lane).collect();
        Self { fleet, clock, all, expected: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// Carries a verb out.
    pub(super) async fn run(self: &Arc<Self>, steps: Box<dyn Steps>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(vec![Job { steps, reply, rounds: 0 }]);
        let gone = |_| StoreError::Unavailable("the store was closed".to_owned());
        answer.await.map_err(gone)?
    }

    /// Puts jobs where their phase at hand belongs, and sees to it that somebody works there.
    fn enqueue(self: &Arc<Self>, jobs: Vec<Job>) {
        for job in jobs {
            let partition = job.steps.keys().first().map_or(0, |key| usize::from(key.partition));
            let at = if self.all.len() == 1 { 0 } else { partition.min(self.all.len() - 1) };
            let mut inner = self.all[at].lock();
            inner.waiting.push_back(job);
            if !std::mem::replace(&mut inner.awake, true) {
                self.tasks.spawn(Arc::clone(self).work(at));
            }
        }
    }

    /// Works through a lane until nobody waits there.
    async fn work(self: Arc<Self>, at: usize) {
        let _shift = Shift { lanes: Arc::clone(&self), at };
        let lane = &self.all[at];
        while let Ok(permit) = Arc::clone(&lane.flights).acquire_owned().await {
            let Some(jobs) = lane.lock().take() else { return };
            self.carry_out(at, jobs, permit).await;
        }
    }

    async fn carry_out(self: &Arc<Self>, at: usize, jobs: Vec<Job>, permit: OwnedSemaphorePermit) {
        let lane = &self.all[at];
        let mut keys = BTreeSet::new();
        for job in &jobs {
            keys.extend(job.steps.keys());
            if self.all.len() == 1 {
                keys.extend(job.steps.ahead());
            }
        }
        let mut known = lane.lock().known(&keys, self.clock.now());
        let unread: Vec<Key> = keys.into_iter().filter(|key| !known.contains_key(key)).collect();
        match read::together(&self.fleet, &self.clock, &unread).await {
            Ok(records) => {
                let read = records.into_iter().map(|record| Known { record, ahead: false });
                known.extend(unread.into_iter().zip(read));
            }
            Err(error) => return tell_all(jobs, &error),
        }
        let partition = u16::try_from(at).unwrap_or(0);
        let now = self.clock.now();
        let batch = Batch::new(known, now, self.fleet.holds(partition));
        let Decided { parties, onward, left } = batch.decide(jobs);
        if !left.is_empty() {
            let mut inner = lane.lock();
            for job in left.into_iter().rev() {
                inner.waiting.push_front(job);
            }
        }
        self.enqueue(onward);
        if !parties.is_empty() {
            let flight = lane.lock().depart(parties.iter().map(|(entry, _)| entry));
            self.tasks.spawn(Arc::clone(self).commit(at, flight, parties, now, permit));
        }
    }

    /// Commits a batch, and tells those who wait for it.
    async fn commit(
        self: Arc<Self>,
        at: usize,
        flight: u64,
        parties: Parties,
        now: Millis,
        permit: OwnedSemaphorePermit,
    ) {
        let (entries, jobs): (Vec<_>, Vec<_>) = parties.into_iter().unzip();
        let partition = u16::try_from(at).unwrap_or(0);
        let began = Instant::now();
        let shipped = commit::ship(&self.fleet, partition, &entries, now).await;
        metrics::histogram!("countersign_store_commit_seconds").record(began.elapsed());
        let whole =
            matches!(&shipped, Ok((landed, _)) if landed.iter().all(|it| matches!(it, Ok(true))));
        self.all[at].lock().land(flight, whole);
        drop(permit);
        let (landed, answer) = match shipped {
            Ok(shipped) => shipped,
            Err(error) => return jobs.into_iter().for_each(|jobs| tell_all_of(jobs, &error)),
        };
        let mut confirmed = None;
        // Those first who need not wait for replicas.
        let mut all: Vec<_> = entries.into_iter().zip(jobs).zip(landed).collect();
        all.sort_by_key(|((entry, _), _)| entry.leaves_due());
        for ((entry, jobs), landed) in all {
            match landed {
                Ok(true) if entry.leaves_due() => {
                    if confirmed.is_none() {
                        confirmed = Some(commit::confirm(&self.fleet, partition, &answer).await);
                    }
                    if let Some(Err(error)) = &confirmed {
                        tell_all_of(jobs, error);
                        continue;
                    }
                    self.expect(&entry);
                    self.go_on(jobs);
                }
                Ok(true) => self.go_on(jobs),
                Ok(false) => self.decide_anew(jobs),
                Err(error) => tell_all_of(jobs, &error),
            }
        }
    }

    /// Remembers where something will be due.
    pub(super) fn expect(&self, entry: &Entry) {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.extend(entry.due());
    }

    fn go_on(self: &Arc<Self>, jobs: Vec<(Job, Next)>) {
        let mut onward = Vec::new();
        for (mut job, next) in jobs {
            match next {
                Next::Tell(answer) => drop(job.reply.send(answer)),
                Next::GoOn => {
                    job.steps.landed();
                    job.rounds = 0;
                    onward.push(job);
                }
            }
        }
        self.enqueue(onward);
    }

    fn decide_anew(self: &Arc<Self>, jobs: Vec<(Job, Next)>) {
        let mut again = Vec::new();
        for (mut job, _) in jobs {
            job.rounds += 1;
            if job.rounds >= ROUNDS_MAX {
                let _ = job.reply.send(Err(StoreError::Contended));
            } else {
                job.steps.rewind();
                again.push(job);
            }
        }
        self.enqueue(again);
    }
}

/// Somebody who works in a lane. Whom a verb makes fall over, another one relieves: those who wait
/// there must not wait for ever.
struct Shift {
    lanes: Arc<Lanes>,
    at: usize,
}

impl Drop for Shift {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            tracing::error!("a verb panicked outside of its decision; its batch was dropped");
            self.lanes.tasks.spawn_on(Arc::clone(&self.lanes).work(self.at), &runtime);
        }
    }
}

fn tell_all(jobs: Vec<Job>, error: &StoreError) {
    for job in jobs {
        let _ = job.reply.send(Err(error.clone()));
    }
}

fn tell_all_of(jobs: Vec<(Job, Next)>, error: &StoreError) {
    tell_all(jobs.into_iter().map(|(job, _)| job).collect(), error);
}
