//! Commits, as they land: what was there, and what is there now.

use countersign::clock::{DAY, MINUTE, Millis};
use countersign::domain::policy::{FAILURES_MAX, GAPS_GIVEN_BACK, GUESSES_AFTER_LOCK, LOCK};
use countersign::domain::standing::Standing;
use countersign::domain::verification::{Stage, Verification};
use countersign::store::{Commit, Record, Write};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{By, Case, Oracle, case_name, kind, last};
use crate::invariants::Invariant;

/// Failures are kept for longer than this, whoever waits.
const YEAR: Millis = 365 * DAY;

/// A decision may be so much older than its commit: a node may be stopped in between, and decide
/// anew many times.
const LATEST: Millis = 5 * MINUTE;

pub(super) fn parse<T: DeserializeOwned>(value: &[u8]) -> T {
    serde_json::from_slice(value).expect("records can be read")
}

/// Whether a commit judges a guess, and how: right or wrong.
fn guess(commit: &Commit, before: &[Option<Record>]) -> Option<bool> {
    commit.writes.iter().zip(before).find_map(|((key, write), old)| {
        let (kind::VERIFICATION, Write::Put { value, .. }) = (key.kind, write) else { return None };
        let (old, new): (Verification, Verification) = (parse(&old.as_ref()?.value), parse(value));
        (new.checks.len() > old.checks.len()).then(|| new.checks.last().is_some_and(|it| it.right))
    })
}

impl Oracle {
    /// A commit has landed that this life of a node sent.
    pub(crate) fn landed(
        &mut self,
        now: Millis,
        by: By,
        commit: &Commit,
        before: &[Option<Record>],
    ) {
        let keys = commit.guards.iter().map(|(key, _)| key);
        let mut all = keys.chain(commit.writes.iter().map(|(key, _)| key));
        let first = all.next().map(|key| key.partition);
        let one = all.all(|key| Some(key.partition) == first);
        self.hold(one, Invariant::OnePartition, || "a commit of two partitions".to_owned());
        let guess = guess(commit, before);
        for ((key, write), old) in commit.writes.iter().zip(before) {
            let name = hex::encode(&key.name);
            let old = old.as_ref().map(|record| &record.value[..]);
            let Write::Put { value, expires_at, due_at } = write else {
                self.deleted(key.kind, &name, old);
                continue;
            };
            match key.kind {
                kind::VERIFICATION => self.verification(now, &name, old.map(parse), &parse(value)),
                kind::DELIVERY => match old {
                    None => self.admitted(now, by, &name, *due_at, &parse(value), commit),
                    Some(old) => {
                        let (old, new) = (parse(old), parse(value));
                        self.delivery(now, by, &name, *due_at, &old, &new);
                    }
                },
                kind::STANDING => {
                    let old: Standing = old.map(parse).unwrap_or_default();
                    self.standing(now, &name, &old, &parse(value), guess, *expires_at);
                }
                kind::SENDS => {
                    let old: Option<Value> = old.map(parse);
                    self.sends(now, &name, old.as_ref(), &parse(value), *expires_at);
                }
                kind::IDEMPOTENCY => self.key(&name, old, value),
                kind::ADDRESS => self.address(old, value),
                _ => {}
            }
        }
        let counted = commit.writes.iter().any(|(key, _)| key.kind == kind::STANDING);
        self.hold(guess.is_none() || counted, Invariant::FailuresStay, || {
            "a guess is judged and not counted on the phone".to_owned()
        });
    }

    fn deleted(&mut self, of: u8, name: &str, old: Option<&[u8]>) {
        match of {
            kind::LIVE_CODE => {}
            kind::IDEMPOTENCY => {
                if old.is_some() {
                    self.saw("key_freed");
                }
                let done =
                    old.is_some_and(|old| parse::<Value>(old)["stage"].get("done").is_some());
                self.hold(!done, Invariant::OnePerKey, || {
                    format!("the answer of key {} is forgotten", last(name))
                });
            }
            other => self.breach(
                Invariant::EndIsEnd,
                format!("a record of kind {other} is taken away: {}", last(name)),
            ),
        }
    }

    /// 1 and 2, and that an end is an end.
    fn verification(
        &mut self,
        now: Millis,
        name: &str,
        old: Option<Verification>,
        new: &Verification,
    ) {
        let fresh = new.messages.iter().skip(old.as_ref().map_or(0, |old| old.messages.len()));
        for mark in fresh.filter_map(|sent| sent.request.clone()) {
            let once = self.marks.insert((new.tenant.clone(), mark));
            self.hold(once, Invariant::OnePerKey, || {
                format!("v{}: a second message under one key", last(name))
            });
        }
        let Some(old) = old else {
            let who = (new.fingerprint.clone(), new.tenant.clone(), new.purpose.clone());
            let (codes, approved_with, tokens, over) = (vec![], None, 0, false);
            let fresh = Case { who, codes, approved_with, tokens, over };
            let begun_before = self.cases.insert(name.to_owned(), fresh).is_some();
            self.hold(!begun_before, Invariant::EndIsEnd, || {
                format!("v{} is begun a second time", last(name))
            });
            return;
        };
        let forgot = new.messages.len() < old.messages.len() || new.checks.len() < old.checks.len();
        let ended = !matches!(old.stage, Stage::Pending { .. });
        let stage_of = |stage: &Stage| std::mem::discriminant(stage);
        let reopened = ended && stage_of(&old.stage) != stage_of(&new.stage);
        let judged = new.checks.len().saturating_sub(old.checks.len());
        self.hold(!(forgot || reopened || ended && judged > 0), Invariant::EndIsEnd, || {
            format!("v{} goes from {:?} to {:?}", last(name), old.stage, new.stage)
        });
        if matches!(new.stage, Stage::Exhausted { .. }) && !ended {
            self.saw("exhausted");
        }
        if let Some(case) = self.cases.get_mut(name) {
            case.over = !matches!(new.stage, Stage::Pending { .. });
        }
        let approved = matches!(new.stage, Stage::Approved { .. }) && !ended;
        if judged > 0 {
            self.judged(now, name, judged, approved);
        } else {
            self.hold(!approved, Invariant::FewJudgements, || {
                format!("v{} is approved without a judgement", last(name))
            });
        }
    }

    /// 1, 2, and of 3 our own count of what a lock allows.
    fn judged(&mut self, now: Millis, name: &str, times: usize, approved: bool) {
        let (most, apart) = (u32::from(self.plan.policy.checks_max), self.plan.apart());
        let Some(case) = self.cases.get_mut(name) else { return };
        let (who, mut judged) = (case.who.clone(), 0);
        let approved_before = case.approved_with.is_some();
        if let Some(code) = case.codes.last_mut() {
            code.judged += 1;
            judged = code.judged;
            if approved {
                case.approved_with = Some(code.code.clone());
            }
        }
        let newest = self.newest.get(&who).is_none_or(|newest| newest == name);
        self.hold(newest, Invariant::OneSuccess, || {
            format!("v{} is judged, and is not the newest of its phone", last(name))
        });
        self.hold(!approved_before, Invariant::OneSuccess, || {
            format!("v{} is judged again after its success", last(name))
        });
        self.hold(times == 1 && judged <= most, Invariant::FewJudgements, || {
            format!("a code of v{} is judged {judged} times, {times} of them at once", last(name))
        });
        let failures = self.failures.entry(who).or_default();
        failures.judged += 1;
        let locked_at = failures.in_a_row.get(FAILURES_MAX as usize - 1).copied();
        let after_lock = failures.in_a_row.iter().skip(FAILURES_MAX as usize);
        let of_a_day = after_lock.filter(|at| **at + DAY > now + apart + LATEST).count();
        if approved {
            failures.in_a_row.clear();
        } else {
            failures.in_a_row.push(now);
        }
        if failures.in_a_row.len() == FAILURES_MAX as usize {
            self.saw("lock");
        }
        if let Some(locked_at) = locked_at {
            let waited = now + apart + LATEST >= locked_at + LOCK;
            let few = of_a_day < GUESSES_AFTER_LOCK.max as usize;
            self.saw("after_lock");
            self.hold(waited && few, Invariant::FailuresStay, || {
                format!("v{} is judged while its phone is locked", last(name))
            });
        }
    }

    /// 3: failures rise with each judgement, and drop with a success only.
    fn standing(
        &mut self,
        now: Millis,
        name: &str,
        old: &Standing,
        new: &Standing,
        guess: Option<bool>,
        expires_at: Millis,
    ) {
        let (before, after) = (old.failures(), new.failures());
        let right = match guess {
            None => after == before,
            Some(false) => after == before + 1,
            Some(true) => after == 0,
        };
        self.hold(right, Invariant::FailuresStay, || {
            format!("failures of {} go from {before} to {after} ({guess:?})", last(name))
        });
        let kept = after == 0 || expires_at >= now + YEAR;
        self.hold(kept, Invariant::FailuresStay, || {
            format!("failures of {} are forgotten within a year", last(name))
        });
        if old.newest.is_some() && old.newest != new.newest {
            self.saw("superseded");
        }
    }

    /// How often a phone had a gap given back within the last hour, for certain.
    pub(super) fn lately_given_back(&self, now: Millis, phone: &str) -> usize {
        let since = now + self.plan.apart() + LATEST - GAPS_GIVEN_BACK.length;
        let all = self.given_back.get(phone).into_iter().flatten();
        all.filter(|at| **at > since).count()
    }

    /// 4: a gap is given back for what was surely not sent, and not too often.
    fn sends(
        &mut self,
        now: Millis,
        name: &str,
        old: Option<&Value>,
        new: &Value,
        expires_at: Millis,
    ) {
        let waived = |of: &Value| of["gap_waived"].as_bool().unwrap_or(false);
        let kept = expires_at + self.plan.apart() + LATEST >= now + DAY;
        self.hold(kept, Invariant::HourAndDay, || format!("sends of {} are forgotten", last(name)));
        if !waived(new) || old.is_some_and(waived) {
            return;
        }
        let lately = self.lately_given_back(now, name);
        let newest = self.admitted.get(name).and_then(|all| all.last()).cloned();
        let Some(job) = newest.and_then(|newest| self.jobs.get_mut(&newest)) else { return };
        job.gap_given_back = true;
        let sent = job.sent;
        self.given_back.entry(name.to_owned()).or_default().push(now);
        self.saw("gap_given_back");
        self.hold(sent == 0, Invariant::GapHolds, || {
            format!("the gap of {} is given back, and its message was sent", last(name))
        });
        self.hold(lately < GAPS_GIVEN_BACK.max as usize, Invariant::GapHolds, || {
            format!("the gap of {} is given back {} times in an hour", last(name), lately + 1)
        });
    }

    fn key(&mut self, name: &str, old: Option<&[u8]>, new: &[u8]) {
        let of = |value: &[u8]| parse::<Value>(value)["stage"].clone();
        let (old, new) = (old.map(of), of(new));
        let begun = |of: &Value| {
            let id = of["in_flight"]["id"].as_str()?.parse().ok()?;
            Some(self.cases.contains_key(&case_name(&id)))
        };
        match (&old, begun(&new)) {
            // A resend's verification is there from the start.
            (None, Some(true)) => drop(self.keys_of_resends.insert(name.to_owned())),
            (Some(_), Some(landed)) => {
                self.saw("key_taken_over");
                if landed && !self.keys_of_resends.contains(name) {
                    self.saw("key_landed");
                }
            }
            (_, _) => {}
        }
        let Some(old) = old else { return };
        self.hold(old.get("done").is_none() || old == new, Invariant::OnePerKey, || {
            format!("the answer of a key changes from {old} to {new}")
        });
    }

    fn address(&mut self, old: Option<&[u8]>, new: &[u8]) {
        let asked = |value: &[u8]| parse::<Value>(value)["asked"].as_array().map_or(0, Vec::len);
        if old.is_some_and(|old| asked(new) < asked(old)) {
            self.saw("address_given_back");
        }
    }
}
