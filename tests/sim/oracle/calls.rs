//! Calls to providers, and what providers took.

use countersign::clock::Millis;
use countersign::domain::delivery::{Delivery, Stage};
use countersign::domain::outcome::Class;
use countersign::domain::policy::{CALL_MAX, UNKNOWN_MAX};
use countersign::providers::Message;
use countersign::store::Record;

use super::{Call, Job, Oracle, last};
use crate::invariants::Invariant;

/// Refusals of a number, which are final whoever carries the message.
const OF_THE_NUMBER: [Class; 3] =
    [Class::RateLimitedNumber, Class::InvalidNumber, Class::BlockedNumber];

/// A call that begins.
pub(crate) struct Begun<'a> {
    /// The time on the node that calls.
    pub(crate) node_now: Millis,
    /// Who is called.
    pub(crate) company: usize,
    /// Whether it tells repeated messages apart.
    pub(crate) deduplicates: bool,
    /// What it is given.
    pub(crate) message: &'a Message,
    /// The delivery, as it lies in the store.
    pub(crate) record: Option<Record>,
}

impl Oracle {
    /// A node calls a provider. The answer is the call's place among those of its delivery.
    pub(crate) fn call_begins(&mut self, begun: &Begun<'_>) -> usize {
        let id = begun.message.reference.clone();
        let record = begun.record.as_ref();
        let record: Option<Delivery> =
            record.map(|record| serde_json::from_slice(&record.value).unwrap());
        let (Some(record), true) = (record, self.jobs.contains_key(&id)) else {
            self.breach(Invariant::CallUnderClaim, format!("d{} is not in the store", last(&id)));
            return 0;
        };
        self.is_under_a_claim(&id, begun, &record);
        self.is_the_same_message(&id, begun.message);
        self.may_be_called(&id, &record);
        let (company, deduplicates) = (begun.company, begun.deduplicates);
        let job = self.jobs.get_mut(&id).unwrap();
        let claim = job.claim;
        let first = job.calls.iter().all(|call| call.company == company);
        job.calls.push(Call { claim, company, deduplicates, taken: false, answered: None });
        let place = job.calls.len() - 1;
        let maybe = may_have_sent(job);
        self.hold(maybe <= UNKNOWN_MAX, Invariant::OneAccepts, || {
            format!("d{}: {maybe} calls may send it, with this one", last(&id))
        });
        if !first {
            self.saw("next_provider");
        }
        place
    }

    /// 7 and 8: it is claimed, the claim lasts longer than a call, and there is time.
    fn is_under_a_claim(&mut self, id: &str, begun: &Begun<'_>, record: &Delivery) {
        let node_now = begun.node_now;
        let (claimed, due_at) = match &record.stage {
            Stage::Pending(pending) => (pending.claimed, pending.due_at),
            // A receipt told in the meantime what an earlier call had done.
            Stage::Delivered { .. } => (true, Millis::MAX / 2),
            _ => (false, 0),
        };
        self.hold(claimed, Invariant::CallUnderClaim, || {
            format!("d{} is {} and nobody claims it", last(id), record.status())
        });
        // A claim of a node whose clock is behind ends sooner for the others.
        let lasts = node_now + CALL_MAX <= due_at;
        self.hold(!claimed || lasts, Invariant::CallUnderClaim, || {
            format!("d{} is called {} ms before its lease ends", last(id), due_at - node_now)
        });
        let deadline = self.jobs[id].deadline;
        self.hold(node_now < deadline, Invariant::CallInTime, || {
            format!("d{} is called {} ms after its deadline", last(id), node_now - deadline)
        });
    }

    /// 10.
    fn is_the_same_message(&mut self, id: &str, message: &Message) {
        let job = &self.jobs[id];
        let same = job.code == message.code.digits() && job.e164 == message.phone.e164();
        let told = message.text.contains(&job.code);
        self.hold(same && told, Invariant::SameMessage, || {
            format!("d{} was accepted as another message", last(id))
        });
    }

    /// 9: whatever may have been sent before was written down as unknown.
    fn may_be_called(&mut self, id: &str, record: &Delivery) {
        let job = &self.jobs[id];
        let maybe = may_have_sent(job);
        let unknown = record.tries.iter().filter(|it| it.class == Class::UnknownOutcome).count();
        let refused = record.tries.iter().find(|it| OF_THE_NUMBER.contains(&it.class));
        let refused = refused.map(|it| it.class);
        self.hold(maybe <= unknown, Invariant::OneAccepts, || {
            format!("d{}: {maybe} calls may have sent it, {unknown} are unknown", last(id))
        });
        self.hold(refused.is_none(), Invariant::OneAccepts, || {
            format!("d{} was refused for its number ({refused:?})", last(id))
        });
    }

    /// A node has its answer.
    pub(crate) fn call_ends(&mut self, id: &str, call: usize, class: Class) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let (claim, ended) = (job.claim, job.due_at.is_none());
        let Some(call) = job.calls.get_mut(call) else { return };
        call.answered = Some(class);
        if ended || call.claim != claim {
            self.saw("fenced");
        }
    }

    /// 9: a provider has taken the message of this call, and sends it.
    pub(crate) fn taken(&mut self, now: Millis, company: usize, id: &str, call: usize) {
        let Some(job) = self.jobs.get_mut(id) else {
            self.breach(Invariant::CallUnderClaim, format!("d{} is nobody's", last(id)));
            return;
        };
        job.sent += 1;
        if let Some(call) = job.calls.get_mut(call) {
            call.taken = true;
        }
        let (sent, given_back) = (job.sent, job.gap_given_back);
        let others = job.calls.iter().any(|call| call.company != company && call.taken);
        self.hold(sent <= 2, Invariant::OneAccepts, || {
            format!("d{} was sent {sent} times, the last at {now}", last(id))
        });
        self.hold(!given_back, Invariant::GapHolds, || {
            format!("d{} is sent, and its gap was given back", last(id))
        });
        if sent == 2 {
            self.saw(if others { "unknown_then_second" } else { "twice" });
        }
    }
}

/// How many of a delivery's calls may have sent it: all calls to one that tells repeated messages
/// apart are one.
fn may_have_sent(job: &Job) -> usize {
    let mut once = Vec::new();
    let mut count = 0;
    for call in &job.calls {
        let known = matches!(call.answered, Some(class) if class != Class::UnknownOutcome
            && class != Class::Accepted && class != Class::Duplicate);
        if known && !call.taken {
            continue;
        }
        if call.deduplicates {
            if once.contains(&call.company) {
                continue;
            }
            once.push(call.company);
        }
        count += 1;
    }
    count
}
