//! Deliveries, as their commits land: accepted, claimed, settled.

use countersign::clock::{DAY, HOUR, Millis};
use countersign::domain::code::{Binding, Code};
use countersign::domain::delivery::{Delivery, Stage as DeliveryStage};
use countersign::domain::outcome::Class;
use countersign::domain::phone::Phone;
use countersign::domain::policy::LEASE;
use countersign::domain::verification::{LiveCode, Verification};
use countersign::keys::Use;
use countersign::store::{Commit, Write};
use countersign::verifier::Letter;
use countersign::verifier::records::PhoneName;

use super::landing::parse;
use super::{By, Issued, Job, Oracle, kind, last};
use crate::chaos::knows_its_name;
use crate::invariants::Invariant;

impl Oracle {
    /// That an end is an end, and that only who has claimed it settles it.
    pub(super) fn delivery(
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
        let (mut numbered, mut leased) = (true, true);
        if let DeliveryStage::Pending(after) = &new.stage {
            numbered = after.claim == before.claim || after.claim == before.claim + 1;
            // Who takes it when it is due has a lease from then on; who goes on has not less.
            let least = if taken_over || !before.claimed { LEASE } else { 0 };
            leased = after.claim == before.claim || after.due_at >= before.due_at + least;
            if after.claim != before.claim {
                (job.owner, job.claim) = (by, after.claim);
            }
        }
        let theirs = !before.claimed || taken_over || received || owner == by;
        // A receipt that the message is lost ends the wait for it, and takes nothing.
        let hurried = !before.claimed
            && matches!(&new.stage, DeliveryStage::Pending(it) if it.claim == before.claim);
        let waited = before.claimed && !taken_over || hurried || now + apart >= before.due_at;
        self.hold(numbered, Invariant::CallUnderClaim, || {
            format!("d{}'s claim does not go up by one", last(name))
        });
        self.hold(leased, Invariant::CallUnderClaim, || {
            format!("d{} is claimed, and its lease is not moved", last(name))
        });
        self.hold(theirs, Invariant::CallUnderClaim, || {
            format!("d{} was claimed by {owner:?}, and {by:?} settles it", last(name))
        });
        self.hold(waited || received, Invariant::CallUnderClaim, || {
            format!("d{} is taken before it is due", last(name))
        });
        if !before.claimed && !received && !hurried {
            self.saw("claimed_again");
        }
        let claimed_on =
            matches!(&new.stage, DeliveryStage::Pending(it) if it.claim > before.claim);
        let wanted = !claimed_on || self.is_wanted(name, &hex::encode(new.verification.as_bytes()));
        self.hold(wanted, Invariant::StillWanted, || {
            format!("d{} is claimed again, and nobody waits for it", last(name))
        });
    }

    /// Whether a message is the newest of a verification that is pending, and the newest one.
    fn is_wanted(&self, delivery: &str, verification: &str) -> bool {
        let Some(case) = self.cases.get(verification) else { return true };
        let newest = self.newest.get(&case.who).is_none_or(|newest| newest == verification);
        newest && !case.over && case.codes.last().is_none_or(|code| code.delivery == delivery)
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
    pub(super) fn admitted(
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
        let phone = Phone::from_e164(&letter.phone).unwrap();
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
            let (code, delivery) = (letter.code, name.to_owned());
            case.codes.push(Issued { code, delivery, landed_at: now, judged: 0 });
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
}
