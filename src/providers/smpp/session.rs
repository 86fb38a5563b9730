//! The one session that a process keeps with a message centre: it logs on, writes messages as the
//! window allows, matches answers to them by number, answers what the centre asks, and logs on
//! again after a loss.
//!
//! One rule matters more than the rest: a message that was not begun to be written was not sent,
//! and one that was is unknown until its answer comes. A [`Gate`] decides which, so that a caller
//! that stops waiting and a session that begins to write never both think they were first.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::link::{BIND_SEQUENCE, Link, Lost};
use super::pdu::{self, Delivered, Pdu};
use super::receipts::{self, Memory};
use super::{Settings, status};
use crate::chance::{Chance, OsChance};
use crate::providers::{Class, Outcome, wire};

/// How long an answer may take until the centre counts as gone. Longer than anybody waits for it:
/// a late one still tells which receipt is ours.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long leaving may take.
const LEAVE_MAX: Duration = Duration::from_secs(1);
/// A session that lasted so long is made anew at once when it is lost.
const STEADY: Duration = Duration::from_secs(10);
/// Pauses up to this are waited for by messages; in longer ones they go elsewhere at once.
const HELD_MAX: Duration = Duration::from_secs(1);
/// The first and the longest pause before another log-on, in milliseconds.
const PAUSE: (u64, u64) = (250, 30_000);
/// The longest pause after "too fast", in milliseconds; the shortest is half of it.
const THROTTLE: u64 = 1_000;

/// Who came first to a message: the session that writes it, or the caller that gave it up.
#[derive(Default)]
pub(super) struct Gate(AtomicU8);

impl Gate {
    fn decide(&self, who: u8) -> bool {
        self.0.compare_exchange(0, who, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The session begins to write; `false` if nobody waits any more.
    fn begin(&self) -> bool {
        self.decide(1)
    }

    /// The caller gives up; `false` if it may have been written.
    pub(super) fn give_up(&self) -> bool {
        self.decide(2)
    }

    fn is_begun(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }
}

/// A message on its way to the session.
pub(super) struct Submission {
    /// The bodies of its parts.
    pub(super) parts: Vec<Vec<u8>>,
    pub(super) reference: String,
    pub(super) phone: String,
    pub(super) gate: Arc<Gate>,
    pub(super) answer: oneshot::Sender<Outcome>,
}

/// What a session is asked for.
pub(super) enum Request {
    /// Send this.
    Submit(Submission),
    /// Be there: receipts may wait.
    Wake,
}

impl Request {
    fn refuse(self, outcome: &Outcome) {
        if let Self::Submit(submission) = self {
            // Who does not wait any more has judged already.
            let _ = submission.answer.send(outcome.clone());
        }
    }
}

/// The owner of the session.
pub(super) struct Keeper {
    pub(super) settings: Arc<Settings>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) memory: Arc<Mutex<Memory>>,
    pub(super) is_bound: Arc<AtomicBool>,
    pub(super) stop: CancellationToken,
}

impl Keeper {
    /// Keeps a session until it is stopped, or until nobody is left to ask.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let connected = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                connected = Link::bound(&self.settings, pdu::BIND_TRANSCEIVER) => connected,
            };
            let name = self.settings.name.as_str();
            let refusal = match connected {
                Ok(link) => {
                    tracing::info!(provider.name = name, "bound to the message centre");
                    let began = Instant::now();
                    self.is_bound.store(true, Ordering::Release);
                    let ended = Session::new(&mut self, link).serve().await;
                    self.is_bound.store(false, Ordering::Release);
                    let Ended::Lost(why) = ended else { return };
                    let name = self.settings.name.as_str();
                    tracing::warn!(provider.name = name, why, "the message centre was lost");
                    failures = if began.elapsed() >= STEADY { 0 } else { failures + 1 };
                    Outcome::of(Class::NotSent, "no-connection")
                }
                Err(outcome) => {
                    let (class, code) = (outcome.class.as_str(), outcome.vendor_code.as_str());
                    tracing::warn!(provider.name = name, class, code, "no message centre");
                    while let Ok(request) = self.requests.try_recv() {
                        request.refuse(&outcome);
                    }
                    failures += 1;
                    outcome
                }
            };
            if !self.rest(pause(failures, OsChance.below(u64::MAX)), &refusal).await {
                return;
            }
        }
    }

    /// Waits before another log-on; `false` if there will be none.
    async fn rest(&mut self, pause: Duration, refusal: &Outcome) -> bool {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return false,
                () = sleep_until(until) => return true,
                request = self.requests.recv(), if pause > HELD_MAX => match request {
                    Some(request) => request.refuse(refusal),
                    None => return false,
                },
            }
        }
    }
}

/// The pause after so many failures in a row: twice as long each time, half of it by chance.
fn pause(failures: u32, chance: u64) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let most = (PAUSE.0 << failures.min(16)).min(PAUSE.1);
    Duration::from_millis(most / 2 + chance % (most / 2))
}

/// Why a session ended.
#[derive(Debug)]
enum Ended {
    /// It was told to.
    Stopped,
    /// The connection is of no use any more.
    Lost(&'static str),
}

impl From<Lost> for Ended {
    fn from(lost: Lost) -> Self {
        Self::Lost(match lost {
            Lost::BrokenOff => "broken-off",
            Lost::Garbled => "garbled",
        })
    }
}

/// A message that was begun: what its parts were answered.
struct Job {
    submission: Submission,
    answers: Vec<Option<(u32, Option<String>)>>,
    since: Instant,
}

/// A session that stands.
struct Session<'a> {
    settings: &'a Settings,
    requests: &'a mut mpsc::Receiver<Request>,
    memory: &'a Mutex<Memory>,
    stop: &'a CancellationToken,
    link: Link,
    /// Messages by the number of their first part.
    jobs: HashMap<u32, Job>,
    /// Parts that were written, by their number: which message's, and which part of it.
    written: HashMap<u32, (u32, usize)>,
    /// Parts that wait for room in the window.
    waiting: VecDeque<(u32, usize)>,
    sequence: u32,
    /// When the centre was last heard, and whether it was asked since.
    heard: Instant,
    asked: bool,
    /// "Too fast": nothing is written until then.
    held_until: Instant,
    leaving: Option<Instant>,
}

impl<'a> Session<'a> {
    fn new(keeper: &'a mut Keeper, link: Link) -> Self {
        let Keeper { settings, requests, memory, stop, .. } = keeper;
        let now = Instant::now();
        Self {
            settings,
            requests,
            memory,
            stop,
            link,
            jobs: HashMap::new(),
            written: HashMap::new(),
            waiting: VecDeque::new(),
            sequence: BIND_SEQUENCE,
            heard: now,
            asked: false,
            held_until: now,
            leaving: None,
        }
    }

    async fn serve(mut self) -> Ended {
        let ended = loop {
            if let Err(ended) = self.turn().await {
                break ended;
            }
        };
        for (_, job) in self.jobs.drain() {
            let outcome = if job.submission.gate.is_begun() {
                wire::unknown("broken-off")
            } else {
                Outcome::of(Class::NotSent, "no-connection")
            };
            let _ = job.submission.answer.send(outcome);
        }
        ended
    }

    /// Waits for one thing and does it.
    async fn turn(&mut self) -> Result<(), Ended> {
        self.write_waiting().await?;
        let now = Instant::now();
        let room = self.written.len() < self.settings.window && self.waiting.is_empty();
        let open = room && now >= self.held_until && self.leaving.is_none();
        let alarm = self.alarm(now);
        tokio::select! {
            biased;
            () = self.stop.cancelled(), if self.leaving.is_none() => self.leave().await?,
            read = self.link.next() => {
                let pdu = read?;
                (self.heard, self.asked) = (Instant::now(), false);
                self.hear(&pdu).await?;
            }
            request = self.requests.recv(), if open => match request {
                Some(Request::Submit(submission)) => self.take(submission),
                Some(Request::Wake) => {}
                None => self.leave().await?,
            },
            () = sleep_until(alarm) => self.look_at_the_clock().await?,
        }
        Ok(())
    }

    /// When something is to be done though nobody says anything.
    fn alarm(&self, now: Instant) -> Instant {
        let patience = if self.asked { ANSWER_MAX } else { Duration::ZERO };
        let oldest = self.jobs.values().map(|job| job.since + ANSWER_MAX);
        let held = (self.held_until > now).then_some(self.held_until);
        let others = oldest.chain(held).chain(self.leaving);
        others.fold(self.heard + self.settings.enquire_every() + patience, Instant::min)
    }

    async fn look_at_the_clock(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        if self.leaving.is_some_and(|until| until <= now) {
            return Err(Ended::Stopped);
        }
        if self.jobs.values().any(|job| job.since + ANSWER_MAX <= now) {
            return Err(Ended::Lost("silent"));
        }
        let quiet_since = self.heard + self.settings.enquire_every();
        if self.asked && quiet_since + ANSWER_MAX <= now {
            return Err(Ended::Lost("silent"));
        }
        if !self.asked && quiet_since <= now {
            self.asked = true;
            let sequence = self.number();
            self.link.write(&Pdu::request(pdu::ENQUIRE_LINK, sequence, vec![])).await?;
        }
        Ok(())
    }

    /// The next number; they begin anew before they become answers' ones.
    fn number(&mut self) -> u32 {
        self.sequence = if self.sequence >= 0x7fff_ffff { 1 } else { self.sequence + 1 };
        self.sequence
    }

    async fn leave(&mut self) -> Result<(), Ended> {
        self.leaving = Some(Instant::now() + LEAVE_MAX);
        let sequence = self.number();
        self.link.write(&Pdu::request(pdu::UNBIND, sequence, vec![])).await?;
        Ok(())
    }

    fn take(&mut self, submission: Submission) {
        let job = self.number();
        let count = submission.parts.len();
        self.waiting.extend((0..count).map(|part| (job, part)));
        let (answers, since) = (vec![None; count], Instant::now());
        self.jobs.insert(job, Job { submission, answers, since });
    }

    /// Writes what waits, as far as the window allows.
    async fn write_waiting(&mut self) -> Result<(), Ended> {
        while self.written.len() < self.settings.window {
            let Some((number, part)) = self.waiting.pop_front() else { return Ok(()) };
            let Some(job) = self.jobs.get(&number) else { continue };
            if part == 0 && !job.submission.gate.begin() {
                self.jobs.remove(&number);
                continue;
            }
            let body = job.submission.parts[part].clone();
            let sequence = if part == 0 { number } else { self.number() };
            self.written.insert(sequence, (number, part));
            self.link.write(&Pdu::request(pdu::SUBMIT_SM, sequence, body)).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, pdu: &Pdu) -> Result<(), Ended> {
        match pdu.id {
            pdu::DELIVER_SM => {
                let report = Delivered::read(&pdu.body).and_then(|it| receipts::report(&it));
                let kept = report.is_none_or(|report| self.memory().report(report));
                let status = if kept { status::OK } else { status::QUEUE_FULL };
                self.link.write(&pdu.answer(status)).await?;
            }
            pdu::ENQUIRE_LINK => self.link.write(&pdu.answer(status::OK)).await?,
            pdu::UNBIND => {
                self.link.write(&pdu.answer(status::OK)).await?;
                return Err(Ended::Lost("unbound"));
            }
            id if id == pdu::UNBIND | pdu::ANSWER => {
                let asked_for = self.leaving.is_some();
                return Err(if asked_for { Ended::Stopped } else { Ended::Lost("unbound") });
            }
            id if id == pdu::SUBMIT_SM | pdu::ANSWER => self.answered(pdu),
            // "I cannot read this" is about a message as well.
            pdu::GENERIC_NACK => self.answered(pdu),
            id if id & pdu::ANSWER != 0 => {}
            _ => {
                let mut answer = pdu.answer(status::UNKNOWN_REQUEST);
                answer.id = pdu::GENERIC_NACK;
                self.link.write(&answer).await?;
            }
        }
        Ok(())
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a part, and with the last of them to the message.
    fn answered(&mut self, pdu: &Pdu) {
        let Some((number, part)) = self.written.remove(&pdu.sequence) else { return };
        // One that takes a message is a `submit_sm_resp`.
        let refused = if pdu.id == pdu::GENERIC_NACK { pdu.status.max(1) } else { pdu.status };
        if [status::THROTTLED, status::QUEUE_FULL].contains(&refused) {
            let pause = THROTTLE / 2 + OsChance.below(THROTTLE / 2);
            self.held_until = Instant::now() + Duration::from_millis(pause);
        }
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let id = String::from_utf8_lossy(pdu::first_text(&pdu.body));
        job.answers[part] = Some((refused, wire::word(&id.into_owned().into(), 64)));
        if job.answers.iter().any(Option::is_none) {
            return;
        }
        let Some(job) = self.jobs.remove(&number) else { return };
        let answers: Vec<_> = job.answers.into_iter().flatten().collect();
        let refusals: Vec<_> =
            answers.iter().map(|(status, _)| *status).filter(|it| *it != 0).collect();
        let Submission { reference, phone, answer, .. } = job.submission;
        let outcome = match refusals.first() {
            None => {
                let ids: Vec<_> = answers.into_iter().filter_map(|(_, id)| id).collect();
                let message_id = ids.first().cloned();
                if message_id.is_some() {
                    self.memory().sent(&reference, &phone, ids);
                }
                let vendor_code = "ok".to_owned();
                Outcome { class: Class::Accepted, vendor_code, message_id, note: None }
            }
            Some(refusal) if refusals.len() == answers.len() => status::refusal(*refusal),
            // Nobody knows what the phone makes of a part.
            Some(_) => wire::unknown("part-refused"),
        };
        let _ = answer.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_minute_and_are_spread() {
        assert_eq!(pause(0, 7), Duration::ZERO);
        for (failures, most) in [(1, 500), (2, 1_000), (3, 2_000), (7, 30_000), (4_000, 30_000)] {
            let millis = |chance| pause(failures, chance).as_millis();
            assert_eq!(
                (millis(0), millis(most / 2 - 1)),
                (u128::from(most / 2), u128::from(most - 1))
            );
        }
    }

    #[test]
    fn only_one_comes_first() {
        let gate = Gate::default();
        assert!(gate.begin() && !gate.give_up() && !gate.begin() && gate.is_begun());
        let gate = Gate::default();
        assert!(gate.give_up() && !gate.begin() && !gate.is_begun());
    }
}
