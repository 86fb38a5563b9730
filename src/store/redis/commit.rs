//! One call of the atomic step (`commit.lua`): any number of entries, each of which lands whole or
//! not at all, and no two of which have a key in common.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::{Cmd, RedisWrite, Value};

use super::fleet::{Answer, Fleet};
use super::layout::Head;
use super::link::Link;
use crate::chance::{Chance, OsChance};
use crate::clock::{Millis, SECOND};
use crate::store::{Commit, Key, StoreError, Write};

/// How long after it was sent a commit may still be carried out: as long as its caller waits, and
/// what two clocks may be read apart.
const LATE: Millis = 250;
/// Redis' own clock only makes records vanish that the timeline has passed over already.
const LINGER: Millis = 10 * SECOND;

/// What a commit asks of a record before it lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// Nothing: nobody looked at it.
    Any,
    /// That it is as it was read: its revision, or none where there was no record.
    Read(Option<u64>),
}

/// A record that a commit is about.
#[derive(Debug)]
pub(super) struct Touch {
    pub(super) key: Key,
    pub(super) guard: Guard,
    /// What is written, with the revision that it gets.
    pub(super) write: Option<(u64, Write)>,
}

/// What lands whole or not at all.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) touches: Vec<Touch>,
}

impl Entry {
    /// A ready-made commit; `None` if its guards contradict each other.
    pub(super) fn of(commit: Commit) -> Option<Self> {
        let mut touches: BTreeMap<Key, Touch> = BTreeMap::new();
        for (key, revision) in commit.guards {
            let guard = Guard::Read(revision);
            let touch = Touch { key: key.clone(), guard, write: None };
            if touches.entry(key).or_insert(touch).guard != guard {
                return None;
            }
        }
        let first = Self::draw_revision();
        for (at, (key, write)) in (0..).zip(commit.writes) {
            let touch = Touch { key: key.clone(), guard: Guard::Any, write: None };
            touches.entry(key).or_insert(touch).write = Some((first.wrapping_add(at), write));
        }
        Some(Self { touches: touches.into_values().collect() })
    }

    /// A revision that nobody else draws; so are those after it.
    pub(super) fn draw_revision() -> u64 {
        OsChance.below(u64::MAX)
    }

    /// The records that are due after it, and when.
    pub(super) fn due(&self) -> impl Iterator<Item = (Millis, u16)> {
        let due = |touch: &Touch| match &touch.write {
            Some((_, Write::Put { due_at: Some(due_at), .. })) => {
                Some((*due_at, touch.key.partition))
            }
            _ => None,
        };
        self.touches.iter().filter_map(due)
    }

    pub(super) fn leaves_due(&self) -> bool {
        self.due().next().is_some()
    }

    /// Whether it lets a new message in: one that is due and was not there before.
    pub(super) fn opens(&self) -> bool {
        self.touches.iter().any(|touch| {
            let new = !matches!(touch.guard, Guard::Read(Some(_)));
            new && matches!(touch.write, Some((_, Write::Put { due_at: Some(_), .. })))
        })
    }

    fn writes(&self) -> bool {
        self.touches.iter().any(|touch| touch.write.is_some())
    }

    /// Whether it may be sent again although it may have landed: if it writes what it guards, for
    /// the guard fails then; or if it writes nothing.
    fn repeatable(&self) -> bool {
        !self.writes()
            || self.touches.iter().any(|touch| {
                touch.guard != Guard::Any && matches!(touch.write, Some((_, Write::Put { .. })))
            })
    }
}

/// What came of a call: for each entry whether it landed, and who answered.
pub(super) type Shipped = (Vec<Result<bool, StoreError>>, Answer);

/// Sends entries to whoever serves the partition. Those that let a new message in stay behind
/// while none is taken, and do not keep the others.
pub(super) async fn ship(
    fleet: &Fleet,
    partition: u16,
    entries: &[Entry],
    now: Millis,
) -> Result<Shipped, StoreError> {
    let began = Instant::now();
    let repeatable = entries.iter().any(Entry::repeatable);
    let (mut again, mut held) = (false, None);
    let mut command = |link: &Link, repeated: bool| {
        (again, held) = (repeated, fleet.held(link));
        let goes = |entry: &&Entry| {
            (!repeated || entry.repeatable()) && (held.is_none() || !entry.opens())
        };
        let sent = entries.iter().filter(goes).collect();
        let until = link.time() + LATE - millis(began.elapsed());
        Call { fleet, partition, now, until, link }.command(sent)
    };
    let answer = fleet.call(partition, repeatable, &mut command).await?;
    let mut marks = match &answer.value {
        Value::BulkString(word) if matches!(&word[..], b"late" | b"moved") => {
            fleet.moved(&answer);
            vec![b'0'; entries.len()]
        }
        Value::BulkString(marks) => marks.clone(),
        _ => return Err(strange()),
    }
    .into_iter();
    let mut outcome = |entry: &Entry| {
        if again && !entry.repeatable() {
            return unknown("no answer came");
        }
        if let Some(why) = held.as_ref().filter(|_| entry.opens()) {
            return unknown(why);
        }
        match marks.next() {
            Some(b'1') => Ok(true),
            Some(b'0') if answer.repeated && entry.writes() => {
                unknown("no answer came, and now another's")
            }
            Some(b'0') => Ok(false),
            Some(b'a') => unknown("fewer replicas are connected than store.replicas asks for"),
            _ => Err(strange()),
        }
    };
    Ok((entries.iter().map(&mut outcome).collect(), answer))
}

/// Waits until replicas have what landed and leaves a message due; says what may not be told as
/// landed.
pub(super) async fn confirm(
    fleet: &Fleet,
    partition: u16,
    answer: &Answer,
) -> Result<(), StoreError> {
    let replicas = fleet.settings.replicas;
    if replicas == 0 {
        return Ok(());
    }
    let asked = tokio::time::Instant::now();
    let confirmed = answer.link.confirmed(&fleet.layout.wait(partition), replicas).await;
    match confirmed {
        Ok(true) => Ok(()),
        Ok(false) => unknown("replicas did not confirm in time; it may have landed"),
        Err(error) => {
            if !error.is_timeout() {
                fleet.lose(&answer.shard, &answer.link, asked, &error);
            }
            unknown("nobody said whether replicas have it; it may have landed")
        }
    }
}

fn millis(length: Duration) -> Millis {
    Millis::try_from(length.as_millis()).unwrap_or(Millis::MAX)
}

fn unknown<T>(why: &str) -> Result<T, StoreError> {
    Err(StoreError::Unavailable(why.to_owned()))
}

pub(super) fn strange() -> StoreError {
    StoreError::Unavailable("an answer of Redis is not what was asked for".to_owned())
}

/// A call of the atomic step, as it goes over one link.
struct Call<'a> {
    fleet: &'a Fleet,
    partition: u16,
    now: Millis,
    /// Until when, by the server's clock, somebody waits for it.
    until: Millis,
    link: &'a Link,
}

impl Call<'_> {
    /// The call with these entries.
    fn command(&self, entries: Vec<&Entry>) -> Cmd {
        let (layout, settings) = (&self.fleet.layout, &self.fleet.settings);
        let binds = |touch: &Touch| settings.bound.contains(&touch.key.kind);
        let counts = settings.replicas > 0 || settings.hold > 0;
        let strict = entries
            .iter()
            .any(|entry| entry.touches.iter().any(binds) || (counts && entry.leaves_due()));
        // A cluster wants to know of every key. Elsewhere that would only be more to read.
        let queues = usize::from(settings.place.is_cluster());
        let keys: usize = entries.iter().map(|entry| entry.touches.len()).sum();
        let mut command = Link::commit();
        command.arg(keys + queues);
        let mut buffer = Vec::with_capacity(1024);
        for touch in entries.iter().flat_map(|entry| &entry.touches) {
            layout.write_record(&touch.key, &mut buffer);
            command.write_arg(&buffer);
        }
        if queues > 0 {
            command.arg(layout.queue(self.partition));
        }
        let history = if strict { self.link.history() } else { "" };
        command.arg(self.now).arg(history).arg(self.until).arg(settings.replicas);
        for entry in entries {
            let count = i64::try_from(entry.touches.len()).unwrap_or(i64::MAX);
            let needs = settings.replicas > 0 && entry.leaves_due();
            command.arg(if needs { -count } else { count });
            for touch in &entry.touches {
                let history = binds(touch).then(|| self.link.history());
                write_touch(touch, history, self.now, &mut command);
            }
        }
        command
    }
}

fn write_touch(touch: &Touch, history: Option<&str>, now: Millis, command: &mut Cmd) {
    let due_at = match &touch.write {
        Some((_, Write::Put { due_at: Some(due_at), .. })) => due_at.to_string(),
        _ => String::new(),
    };
    match touch.guard {
        Guard::Any => command.write_arg_fmt(format_args!("****************{due_at}")),
        Guard::Read(None) => command.write_arg_fmt(format_args!("----------------{due_at}")),
        Guard::Read(Some(revision)) => {
            command.write_arg_fmt(format_args!("{revision:016x}{due_at}"));
        }
    }
    match &touch.write {
        None => {
            command.arg("").arg("");
        }
        Some((_, Write::Delete)) => {
            command.arg("-").arg("");
        }
        Some((revision, Write::Put { value, expires_at, due_at })) => {
            let head = Head {
                revision: *revision,
                expires_at: *expires_at,
                due: due_at.is_some(),
                history,
            };
            let life = expires_at.saturating_sub(now).max(0).saturating_add(LINGER);
            command.arg(head.before(value)).arg(life);
        }
    }
}
