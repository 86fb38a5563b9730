//! Who watches. The oracle sees each commit as it lands, each call to a provider, each message
//! that a provider takes, and each answer that a client gets; it keeps books of its own, and says
//! what was broken. It decides nothing by asking the code that it watches.

mod answers;
mod calls;
mod deliveries;
mod landing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use countersign::clock::Millis;
use countersign::domain::delivery::Delivery;
use countersign::domain::id::VerificationId;
use countersign::domain::outcome::Class;
use countersign::domain::verification::Verification;
use countersign::keys::Keys;
use countersign::store::{Commit, Write};
use countersign::verifier::records;
use serde_json::Value;

pub(crate) use answers::Asked;
pub(crate) use calls::Begun;

use crate::invariants::Invariant;
use crate::plan::Plan;

/// After its deadline, its lease or the last fault a delivery has so long to end.
const OVERDUE_AFTER: Millis = 5000;

/// The kinds of records, as the released forms number them.
mod kind {
    pub(crate) const SPENT: u8 = 1;
    pub(crate) const ADDRESS: u8 = 2;
    pub(crate) const SENDS: u8 = 3;
    pub(crate) const STANDING: u8 = 4;
    pub(crate) const VERIFICATION: u8 = 5;
    pub(crate) const DELIVERY: u8 = 6;
    pub(crate) const IDEMPOTENCY: u8 = 7;
    pub(crate) const LIVE_CODE: u8 = 8;
}

/// Whose failures are counted together: phone, tenant and purpose.
pub(crate) type Who = (String, String, String);

/// Which node, and in which of its lives.
pub(crate) type By = (usize, u64);

/// A message owed, as the oracle knows it.
struct Job {
    /// The phone's fingerprint.
    phone: String,
    e164: String,
    code: String,
    /// When it was accepted, as its node saw it.
    admitted_at: Millis,
    deadline: Millis,
    due_at: Option<Millis>,
    /// Who claimed it last, and under which number.
    owner: By,
    claim: u32,
    calls: Vec<Call>,
    /// How often a message was sent for it.
    sent: u32,
    gap_given_back: bool,
    /// Whether a provider that takes messages accepted it and said under which name.
    named: bool,
}

/// A call to a provider.
struct Call {
    /// The claim it is made under.
    claim: u32,
    company: usize,
    deduplicates: bool,
    taken: bool,
    answered: Option<Class>,
}

/// A verification, as the oracle knows it.
struct Case {
    who: Who,
    /// Its codes, oldest first, with how often each was judged.
    codes: Vec<Issued>,
    /// The code that was the newest when it was approved.
    approved_with: Option<String>,
    tokens: u32,
    /// Whether it has ended, its time aside.
    over: bool,
}

struct Issued {
    code: String,
    /// The delivery that carries it.
    delivery: String,
    /// When its commit landed.
    landed_at: Millis,
    judged: u32,
}

/// What is known of one phone, tenant and purpose.
#[derive(Default)]
struct Failures {
    /// The judgements that failed since the last success.
    in_a_row: Vec<Millis>,
    judged: u32,
    answered: u32,
}

/// The books.
pub(crate) struct Oracle {
    plan: Plan,
    keys: Keys,
    jobs: BTreeMap<String, Job>,
    open: BTreeSet<String>,
    /// Deliveries by phone, in the order in which they were accepted.
    admitted: BTreeMap<String, Vec<String>>,
    given_back: BTreeMap<String, Vec<Millis>>,
    cases: BTreeMap<String, Case>,
    failures: BTreeMap<Who, Failures>,
    /// The newest verification of each.
    newest: BTreeMap<Who, String>,
    /// By address, each message with when it was asked for.
    by_address: BTreeMap<IpAddr, BTreeMap<String, Millis>>,
    by_challenge: BTreeMap<String, BTreeSet<String>>,
    by_key: BTreeMap<(String, String), String>,
    keys_of_resends: BTreeSet<String>,
    marks: BTreeSet<(String, String)>,
    tokens: BTreeSet<String>,
    broken: Vec<String>,
    told: usize,
    seen: Vec<&'static str>,
}

impl Oracle {
    /// Empty books.
    pub(crate) fn new(plan: Plan, keys: Keys) -> Self {
        Self {
            plan,
            keys,
            jobs: BTreeMap::new(),
            open: BTreeSet::new(),
            admitted: BTreeMap::new(),
            given_back: BTreeMap::new(),
            cases: BTreeMap::new(),
            failures: BTreeMap::new(),
            newest: BTreeMap::new(),
            by_address: BTreeMap::new(),
            by_challenge: BTreeMap::new(),
            by_key: BTreeMap::new(),
            keys_of_resends: BTreeSet::new(),
            marks: BTreeSet::new(),
            tokens: BTreeSet::new(),
            broken: Vec::new(),
            told: 0,
            seen: Vec::new(),
        }
    }

    /// Something is broken.
    pub(crate) fn breach(&mut self, invariant: Invariant, what: impl std::fmt::Display) {
        self.broken.push(format!("{invariant}: {what}"));
    }

    /// The same, if it is so.
    fn hold(&mut self, holds: bool, invariant: Invariant, what: impl FnOnce() -> String) {
        if !holds {
            self.breach(invariant, what());
        }
    }

    /// Everything that is broken.
    pub(crate) fn breaches(&self) -> Vec<String> {
        self.broken.clone()
    }

    /// What is broken since this was asked last.
    pub(crate) fn new_breaches(&mut self) -> Vec<String> {
        let fresh = self.broken[self.told..].to_vec();
        self.told = self.broken.len();
        fresh
    }

    /// What came up since this was asked last.
    pub(crate) fn take_seen(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.seen)
    }

    fn saw(&mut self, event: &'static str) {
        self.seen.push(event);
    }

    /// Whether a message is owed.
    pub(crate) fn owes(&self) -> bool {
        !self.open.is_empty()
    }

    /// 11: nothing is owed for too long, on a node that works with a store that answers.
    pub(crate) fn nothing_is_overdue(&mut self, now: Millis, healthy_since: Millis) {
        let apart = self.plan.apart();
        let overdue = self.open.iter().filter(|id| {
            let job = &self.jobs[*id];
            let until = job.deadline.max(job.due_at.unwrap_or(0)).max(healthy_since);
            now > until + OVERDUE_AFTER + apart
        });
        if let Some(id) = overdue.min().cloned() {
            self.breach(Invariant::EveryJobEnds, format!("d{} is owed yet", last(&id)));
        }
    }

    /// 11 and 6, at the end: nothing is owed, and what was sent was accepted before.
    pub(crate) fn all_has_ended(&mut self) {
        let owed: Vec<_> = self.open.iter().map(|id| last(id).to_owned()).collect();
        self.hold(owed.is_empty(), Invariant::EveryJobEnds, || format!("owed yet: {owed:?}"));
        let sent: u32 = self.jobs.values().map(|job| job.sent).sum();
        let unknown = self.jobs.values().filter(|job| job.sent > 1).count();
        let accepted = self.jobs.len();
        let bound = u32::try_from(accepted + unknown).unwrap();
        self.hold(sent <= bound, Invariant::SpendBounded, || {
            format!("{sent} messages for {accepted} accepted ones, {unknown} of them unknown")
        });
    }

    /// A delivery whose provider is known to have named it.
    pub(crate) fn some_accepted(&mut self) -> Option<String> {
        self.jobs.iter().find(|(_, job)| job.named).map(|(id, _)| id.clone())
    }
}

/// The end of a name, for people.
fn last(name: &str) -> &str {
    &name[name.len().saturating_sub(6)..]
}

/// What a commit writes, for people.
pub(crate) fn told(commit: &Commit) -> String {
    let mut told = vec![String::new()];
    for (key, write) in &commit.writes {
        let name = hex::encode(&key.name);
        let Write::Put { value, due_at, .. } = write else {
            told.push(format!("-{}:{}", key.kind, last(&name)));
            continue;
        };
        told.push(match key.kind {
            kind::VERIFICATION => {
                let of: Verification = serde_json::from_slice(value).unwrap();
                let (messages, checks) = (of.messages.len(), of.checks.len());
                let stage = format!("{:?}", of.stage);
                let stage = stage.split_whitespace().next().unwrap_or_default().to_owned();
                format!("v{}={stage}/{messages} messages/{checks} checks", last(&name))
            }
            kind::DELIVERY => {
                let of: Delivery = serde_json::from_slice(value).unwrap();
                let tries: Vec<_> = of.tries.iter().map(|it| it.class.as_str()).collect();
                format!("d{}={}{tries:?} due {due_at:?}", last(&name), of.status())
            }
            kind::STANDING | kind::SENDS | kind::IDEMPOTENCY | kind::ADDRESS | kind::SPENT => {
                let of: Value = serde_json::from_slice(value).unwrap();
                format!("{}:{}={of}", word(key.kind), last(&name))
            }
            other => format!("{}:{}", word(other), last(&name)),
        });
    }
    told.join(" ")
}

fn word(of: u8) -> &'static str {
    match of {
        kind::SPENT => "spent",
        kind::ADDRESS => "address",
        kind::SENDS => "sends",
        kind::STANDING => "standing",
        kind::IDEMPOTENCY => "key",
        kind::LIVE_CODE => "code",
        _ => "other",
    }
}

/// The name of a verification in the books.
fn case_name(id: &VerificationId) -> String {
    hex::encode(records::verification(id).name)
}
