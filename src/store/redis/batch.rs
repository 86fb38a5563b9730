//! Verbs that are decided together, one after the other: each sees what those before it drafted.
//!
//! What hangs together by a record lands together: verbs that touched the same record are one
//! entry. A verb goes on to its next phase while all that it names is known; the rest waits for
//! what was drafted to land.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use super::commit::{Entry, Guard, Touch};
use super::read::Found;
use crate::clock::Millis;
use crate::store::verb::Steps;
use crate::store::{Draft, Key, Record, StoreError, Write};

/// The most that one call writes and guards, and the most bytes it writes: Redis does nothing
/// else meanwhile.
const KEYS_MAX: usize = 512;
const BYTES_MAX: usize = 512 * 1024;

/// A verb to be carried out, and where its caller waits.
pub(super) struct Job {
    pub(super) steps: Box<dyn Steps>,
    pub(super) reply: oneshot::Sender<Result<(), StoreError>>,
    /// How often it was decided in vain.
    pub(super) rounds: usize,
}

/// What follows once a job's entry landed.
pub(super) enum Next {
    /// Its caller is told.
    Tell(Result<(), StoreError>),
    /// Its next phase.
    GoOn,
}

/// A record as a batch finds it.
pub(super) struct Known {
    pub(super) record: Found,
    /// It was drafted by a batch whose commit is still under way, so nobody may be told of it yet.
    pub(super) ahead: bool,
}

/// Entries, each with those who wait for it.
pub(super) type Parties = Vec<(Entry, Vec<(Job, Next)>)>;

/// What a batch led to.
#[derive(Default)]
pub(super) struct Decided {
    /// What is to be committed.
    pub(super) parties: Parties,
    /// Jobs whose next phase is another batch's, and that have nothing to commit.
    pub(super) onward: Vec<Job>,
    /// Jobs for which there was no room.
    pub(super) left: Vec<Job>,
}

/// The batch.
pub(super) struct Batch {
    known: HashMap<Key, Known>,
    drafts: HashMap<Key, Write>,
    /// By key, the group of those who touched it.
    group_of: HashMap<Key, usize>,
    groups: Vec<Group>,
    now: Millis,
    /// Why no new message is taken, if so.
    held: Option<String>,
    bytes: usize,
    decided: Decided,
}

#[derive(Default)]
struct Group {
    keys: HashSet<Key>,
    jobs: Vec<(Job, Next)>,
}

/// What one job drafted, before the others see it.
#[derive(Default)]
struct Mine {
    touched: Vec<Key>,
    drafts: HashMap<Key, Write>,
}

impl Batch {
    /// A batch over these records.
    pub(super) fn new(known: HashMap<Key, Known>, now: Millis, held: Option<String>) -> Self {
        let (drafts, group_of, groups) = (HashMap::new(), HashMap::new(), Vec::new());
        let decided = Decided::default();
        Self { known, drafts, group_of, groups, now, held, bytes: 0, decided }
    }

    /// Decides all jobs.
    pub(super) fn decide(mut self, jobs: Vec<Job>) -> Decided {
        for job in jobs {
            if self.group_of.len() >= KEYS_MAX || self.bytes >= BYTES_MAX {
                self.decided.left.push(job);
            } else if !job.reply.is_closed() {
                // Who has given up waiting was told "unavailable": it must not happen after all.
                self.carry_out(job);
            }
        }
        self.close()
    }

    fn carry_out(&mut self, mut job: Job) {
        let mut mine = Mine::default();
        let mut first = true;
        let next = loop {
            // A verb that panics is nobody else's misfortune.
            let Ok(keys) = catch_unwind(AssertUnwindSafe(|| job.steps.keys())) else {
                break Next::Tell(panicked());
            };
            if !first && !keys.iter().all(|key| self.knows(&mine, key)) {
                break Next::GoOn;
            }
            first = false;
            let read = keys.iter().map(|key| Ok((key.clone(), self.see(&mine, key)?)));
            let read: Result<Vec<_>, StoreError> = read.collect();
            let mut draft = match read {
                Ok(read) => Draft::new(read),
                Err(error) => break Next::Tell(Err(error)),
            };
            let decide = AssertUnwindSafe(|| job.steps.decide(&mut draft));
            let decided = catch_unwind(decide).unwrap_or_else(|_| panicked());
            mine.touched.extend(keys);
            if decided.is_err() {
                break Next::Tell(decided);
            }
            mine.drafts.extend(draft.into_parts().1);
            if !job.steps.advance() {
                break Next::Tell(Ok(()));
            }
        };
        self.take(job, next, mine);
    }

    /// Takes over what a job drafted, or answers it where there is nothing to wait for.
    fn take(&mut self, mut job: Job, next: Next, mine: Mine) {
        if let Some(why) = self.held.as_ref().filter(|_| self.opens(&mine)) {
            let _ = job.reply.send(Err(StoreError::Unavailable(why.clone())));
            return;
        }
        let fresh = |key: &Key| {
            self.drafts.contains_key(key) || self.known.get(key).is_some_and(|known| known.ahead)
        };
        if mine.drafts.is_empty() && !mine.touched.iter().any(fresh) {
            match next {
                Next::Tell(answer) => drop(job.reply.send(answer)),
                Next::GoOn => {
                    job.steps.landed();
                    self.decided.onward.push(job);
                }
            }
            return;
        }
        let keys: HashSet<Key> =
            mine.touched.into_iter().chain(mine.drafts.keys().cloned()).collect();
        for write in mine.drafts.values() {
            if let Write::Put { value, .. } = write {
                self.bytes += value.len();
            }
        }
        self.drafts.extend(mine.drafts);
        self.join(keys, (job, next));
    }

    /// Puts a job with all those who touched one of its keys.
    fn join(&mut self, mut keys: HashSet<Key>, job: (Job, Next)) {
        let of: BTreeSet<usize> =
            keys.iter().filter_map(|key| self.group_of.get(key).copied()).collect();
        let mut of = of.into_iter();
        let into = of.next().unwrap_or(self.groups.len());
        if into == self.groups.len() {
            self.groups.push(Group::default());
        }
        let mut jobs = Vec::new();
        for other in of {
            let other = std::mem::take(&mut self.groups[other]);
            keys.extend(other.keys);
            jobs.extend(other.jobs);
        }
        for key in &keys {
            if self.group_of.get(key) != Some(&into) {
                self.group_of.insert(key.clone(), into);
            }
        }
        let group = &mut self.groups[into];
        group.keys.extend(keys);
        group.jobs.extend(jobs);
        group.jobs.push(job);
    }

    /// Whether a new message would be let in.
    fn opens(&self, mine: &Mine) -> bool {
        mine.drafts.iter().any(|(key, write)| {
            let due = matches!(write, Write::Put { due_at: Some(_), .. });
            due && !self.drafts.contains_key(key)
                && self.known.get(key).is_none_or(|known| matches!(known.record, Ok(None)))
        })
    }

    fn knows(&self, mine: &Mine, key: &Key) -> bool {
        mine.drafts.contains_key(key)
            || self.drafts.contains_key(key)
            || self.known.contains_key(key)
    }

    /// A record with everything that was drafted. Its revision is nobody's business here.
    fn see(&self, mine: &Mine, key: &Key) -> Found {
        match mine.drafts.get(key).or_else(|| self.drafts.get(key)) {
            Some(Write::Put { value, expires_at, .. }) if *expires_at > self.now => {
                Ok(Some(Record { revision: 0, value: value.clone() }))
            }
            Some(_) => Ok(None),
            None => self.known.get(key).map_or(Ok(None), |known| known.record.clone()),
        }
    }

    /// What is to be committed.
    fn close(mut self) -> Decided {
        let mut revision = Entry::draw_revision();
        for group in self.groups {
            if group.jobs.is_empty() {
                continue;
            }
            let mut touches = Vec::with_capacity(group.keys.len());
            for key in group.keys {
                // What nobody could read, nobody's decision went by.
                let read = self.known.get(&key).and_then(|known| known.record.as_ref().ok());
                let revision_of = |record: &Option<Record>| record.as_ref().map(|it| it.revision);
                let guard = read.map_or(Guard::Any, |read| Guard::Read(revision_of(read)));
                let write = self.drafts.remove(&key).map(|write| {
                    revision = revision.wrapping_add(1);
                    (revision, write)
                });
                touches.push(Touch { key, guard, write });
            }
            self.decided.parties.push((Entry { touches }, group.jobs));
        }
        self.decided
    }
}

fn panicked() -> Result<(), StoreError> {
    Err(StoreError::Unreadable("the decision panicked".to_owned()))
}
