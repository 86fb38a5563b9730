//! Commits, as they land: what was there, and what is there now.

use countersign::clock::{DAY, HOUR, MINUTE, Millis};
use countersign::domain::code::{Binding, Code};
use countersign::domain::delivery::{Delivery, Stage as DeliveryStage};
use countersign::domain::outcome::Class;
use countersign::domain::policy::{FAILURES_MAX, GAPS_GIVEN_BACK, GUESSES_AFTER_LOCK, LOCK};
use countersign::domain::standing::Standing;
use countersign::domain::verification::{LiveCode, Stage, Verification};
use countersign::keys::Use;
use countersign::store::{Commit, Record, Write};
use countersign::verifier::Letter;
use countersign::verifier::records::PhoneName;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{By, Case, Issued, Job, Oracle, case_name, kind, last};
use crate::chaos::knows_its_name;
use crate::invariants::Invariant;

/// Failures are kept for longer than this, whoever waits.
const YEAR: Millis = 365 * DAY;

/// A decision may be so much older than its commit: a node may be stopped in between, and decide
/// anew many times.
const LATEST: Millis = 5 * MINUTE;

fn parse<T: DeserializeOwned>(value: &[u8]) -> T {
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
                kind::SENDS => self.sends(now, &name, old.map(parse), &parse(value), *expires_at),
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
            let fresh = Case { who, codes: vec![], approved_with: None, tokens: 0 };
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
        self.hold(!forgot && !reopened && !(ended && judged > 0), Invariant::EndIsEnd, || {
            format!("v{} goes from {:?} to {:?}", last(name), old.stage, new.stage)
        });
        if matches!(new.stage, Stage::Exhausted { .. }) && !ended {
            self.saw("exhausted");
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

    /// That an end is an end, and that only who has claimed it settles it.
    fn delivery(
        &mut self,
        now: Millis,
        by: By,
        name: &str,
        due_at: Option<Millis>,
        old: &Delivery,
        new: &Delivery,
    ) {
        let forgot = new.tries.len() < old.tries.len();
        let same = format!("{old:?}") == format!("{new:?}");
        let moved = same
            || matches!(
                (&old.stage, &new.stage),
                (DeliveryStage::Pending(_), _)
                    | (_, DeliveryStage::Delivered { .. })
                    | (DeliveryStage::Accepted { .. }, DeliveryStage::Failed { .. })
            );
        self.hold(moved && !forgot, Invariant::EndIsEnd, || {
            format!("d{} goes from {} to {}", last(name), old.status(), new.status())
        });
        self.claims(now, by, name, old, new);
        self.events_of(old, new);
        let ended_unsent = due_at.is_none() && old.due_at().is_some() && new.surely_not_sent();
        if ended_unsent && self.lately_given_back(now, &new.fingerprint) >= 2 {
            self.saw("gap_kept");
        }
        let Some(job) = self.jobs.get_mut(name) else { return };
        job.due_at = due_at;
        job.named = knows_its_name(&new.stage);
        if due_at.is_none() {
            self.open.remove(name);
        }
    }

    /// A claim is one more; who settles is who claimed last; who takes over waited for the lease.
    fn claims(&mut self, now: Millis, by: By, name: &str, old: &Delivery, new: &Delivery) {
        let DeliveryStage::Pending(before) = &old.stage else { return };
        let fresh = &new.tries[old.tries.len().min(new.tries.len())..];
        let taken_over = fresh.iter().any(|it| it.code == "not-settled");
        let received = matches!(new.stage, DeliveryStage::Delivered { .. });
        let apart = self.plan.apart();
        let Some(job) = self.jobs.get_mut(name) else { return };
        let owner = job.owner;
        let mut numbered = true;
        if let DeliveryStage::Pending(after) = &new.stage {
            numbered = after.claim == before.claim || after.claim == before.claim + 1;
            if after.claim != before.claim {
                (job.owner, job.claim) = (by, after.claim);
            }
        }
        let theirs = !before.claimed || taken_over || received || owner == by;
        let waited = before.claimed && !taken_over || now + apart >= before.due_at;
        self.hold(numbered, Invariant::CallUnderClaim, || {
            format!("d{}'s claim does not go up by one", last(name))
        });
        self.hold(theirs, Invariant::CallUnderClaim, || {
            format!("d{} was claimed by {owner:?}, and {by:?} settles it", last(name))
        });
        self.hold(waited || received, Invariant::CallUnderClaim, || {
            format!("d{} is taken before it is due", last(name))
        });
        if !before.claimed && !received {
            self.saw("claimed_again");
        }
    }

    fn events_of(&mut self, old: &Delivery, new: &Delivery) {
        let fresh = &new.tries[old.tries.len().min(new.tries.len())..];
        if fresh.iter().any(|it| it.code == "not-settled") {
            self.saw("taken_over");
        }
        let event = match (&old.stage, &new.stage) {
            (DeliveryStage::Pending(_), DeliveryStage::Expired { .. }) => "expired",
            (DeliveryStage::Pending(_), DeliveryStage::Stopped { .. }) => "stopped",
            (DeliveryStage::Pending(_), DeliveryStage::Delivered { .. })
            | (DeliveryStage::Failed { .. }, DeliveryStage::Delivered { .. }) => {
                "receipt_after_unknown"
            }
            (DeliveryStage::Accepted { .. }, DeliveryStage::Failed { .. }) => "undelivered",
            (DeliveryStage::Pending(_), DeliveryStage::Failed { class, .. }) => match class {
                Class::RateLimitedNumber | Class::InvalidNumber | Class::BlockedNumber => {
                    "refused_number"
                }
                _ => "failed",
            },
            _ => return,
        };
        self.saw(event);
    }

    /// 4, 5, 8 and 10.
    fn admitted(
        &mut self,
        now: Millis,
        by: By,
        name: &str,
        due_at: Option<Millis>,
        new: &Delivery,
        of: &Commit,
    ) {
        let DeliveryStage::Pending(pending) = &new.stage else {
            self.breach(Invariant::EndIsEnd, format!("d{} is born ended", last(name)));
            return;
        };
        let ring = self.keys.ring();
        let letter = ring.open(Use::Sealing, Letter::PURPOSE, &pending.letter).unwrap();
        let letter: Letter = parse(&letter);
        let phone = countersign::domain::phone::Phone::from_e164(&letter.phone).unwrap();
        let meant = PhoneName::of(&ring, &phone).to_hex() == new.fingerprint;
        self.hold(meant, Invariant::SameMessage, || {
            format!("d{} is for another phone", last(name))
        });
        let verification = hex::encode(new.verification.as_bytes());
        let job = Job {
            phone: new.fingerprint.clone(),
            e164: letter.phone.clone(),
            code: letter.code.clone(),
            admitted_at: new.created_at,
            deadline: new.deadline,
            due_at,
            owner: by,
            claim: pending.claim,
            calls: vec![],
            sent: 0,
            gap_given_back: false,
            named: false,
        };
        self.gap_and_windows(now, name, &job);
        self.code_is_the_one(name, &job, &verification, of);
        self.admitted.entry(job.phone.clone()).or_default().push(name.to_owned());
        if let Some(case) = self.cases.get_mut(&verification) {
            self.newest.insert(case.who.clone(), verification.clone());
            case.codes.push(Issued { code: letter.code, landed_at: now, judged: 0 });
        }
        let long = new.deadline - new.created_at > self.plan.policy.delivery_deadline();
        self.hold(!long, Invariant::CallInTime, || format!("d{} has too much time", last(name)));
        self.open.insert(name.to_owned());
        self.jobs.insert(name.to_owned(), job);
    }

    /// 4 and 5.
    fn gap_and_windows(&mut self, now: Millis, name: &str, job: &Job) {
        let (policy, apart) = (self.plan.policy.clone(), self.plan.apart());
        let earlier = self.admitted.get(&job.phone).cloned().unwrap_or_default();
        let of = |name: &String| (self.jobs[name].admitted_at, self.jobs[name].gap_given_back);
        let earlier: Vec<(Millis, bool)> = earlier.iter().map(of).collect();
        if let Some((at, given_back)) = earlier.last().copied() {
            // By its own account, and by the true time of its commit.
            let apart_enough =
                job.admitted_at >= at + policy.phone_gap && now + apart >= at + policy.phone_gap;
            self.hold(given_back || apart_enough, Invariant::GapHolds, || {
                format!("d{} is accepted {} ms after the last", last(name), job.admitted_at - at)
            });
        }
        for (max, length) in [(policy.phone_per_hour, HOUR), (policy.phone_per_day, DAY)] {
            let within = |at: &&(Millis, bool)| at.0 + length > job.admitted_at.min(now + apart);
            let count = earlier.iter().filter(within).count();
            self.hold(count < max as usize, Invariant::HourAndDay, || {
                format!("d{} is number {} within {length} ms", last(name), count + 1)
            });
        }
    }

    /// 10: what is sent is what will be right.
    fn code_is_the_one(&mut self, name: &str, job: &Job, verification: &str, of: &Commit) {
        let ring = self.keys.ring();
        let mut fits = false;
        let (mut tenant, mut purpose) = (String::new(), String::new());
        for (key, write) in &of.writes {
            if let (kind::VERIFICATION, Write::Put { value, .. }) = (key.kind, write) {
                let of: Verification = parse(value);
                (tenant, purpose) = (of.tenant, of.purpose);
            }
        }
        for (key, write) in &of.writes {
            let Write::Put { value, .. } = write else { continue };
            if key.kind == kind::LIVE_CODE && hex::encode(&key.name) == verification {
                let live: LiveCode = parse(value);
                let phone = hex::decode(&job.phone).unwrap();
                let binding = Binding {
                    verification: &key.name,
                    phone: &phone,
                    purpose: purpose.as_bytes(),
                    tenant: tenant.as_bytes(),
                };
                let code = Code::parse(&job.code).unwrap();
                let pepper = ring.pepper_named(&live.pepper).unwrap();
                fits = live.digest.matches(&code.digest(pepper, &binding));
            }
        }
        self.hold(fits, Invariant::SameMessage, || {
            format!("d{} carries a code that would not be right", last(name))
        });
    }

    /// How often a phone had a gap given back within the last hour, for certain.
    fn lately_given_back(&self, now: Millis, phone: &str) -> usize {
        let since = now + self.plan.apart() + LATEST - GAPS_GIVEN_BACK.length;
        let all = self.given_back.get(phone).into_iter().flatten();
        all.filter(|at| **at > since).count()
    }

    /// 4: a gap is given back for what was surely not sent, and not too often.
    fn sends(
        &mut self,
        now: Millis,
        name: &str,
        old: Option<Value>,
        new: &Value,
        expires_at: Millis,
    ) {
        let waived = |of: &Value| of["gap_waived"].as_bool().unwrap_or(false);
        let kept = expires_at + self.plan.apart() + LATEST >= now + DAY;
        self.hold(kept, Invariant::HourAndDay, || format!("sends of {} are forgotten", last(name)));
        if !waived(new) || old.as_ref().is_some_and(waived) {
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
