//! Start and resend: one decision, phase by phase, each a commit in one partition.
//!
//! The order makes every prefix safe. The challenge is spent first, since it may be judged only
//! once, whatever follows; then the address's allowance is taken; then the phone's commit takes
//! the phone's limits and writes verification and delivery together. What was taken of the
//! address is given back if the phone refuses; a crash in between costs the address one of its
//! hour, and nobody else anything. An `Idempotency-Key` frames all of it: who takes over from a
//! crash looks first whether the verification was written.

mod repeat;
mod toll;

use std::sync::Arc;

use super::caps::{Fare, Ticket};
use super::letter::Letter;
use super::records::{self, Address, PhoneName};
use super::{Answered, Asker, Handoff, Refusal, StartRequest, Verifier, View};
use crate::chance::Chance;
use crate::clock::Millis;
use crate::domain::challenge::Judged;
use crate::domain::code::{Binding, Code};
use crate::domain::delivery::{Delivery, Pending, Stage as DeliveryStage};
use crate::domain::id::{DeliveryId, VerificationId};
use crate::domain::money::Micros;
use crate::domain::phone::Phone;
use crate::domain::policy::Policy;
use crate::domain::sends::{self, Sends};
use crate::domain::standing::Standing;
use crate::domain::verification::{LiveCode, Passage, Sent, Stage, Verification};
use crate::keys::{Ring, Use};
use crate::store::{Draft, Key, StoreError, Then, Verb};
use toll::Stopped;

/// The verb.
struct Issue {
    ring: Arc<Ring>,
    policy: Arc<Policy>,
    now: Millis,
    asker: Asker,
    /// What is asked for: a new verification, or another code for one.
    what: What,
    code: Code,
    /// The random part of the new delivery's id.
    delivery: [u8; 9],
    /// Who carries the message first, and why, where that is not the usual one.
    carrier: (usize, Option<String>),
    /// What it takes of the caps.
    ticket: Ticket,
}

enum What {
    New { phone: Phone, purpose: String, locale: String, answered: Option<Answered> },
    Again,
}

/// Where the verb stands. `id` is the verification's.
enum Phase {
    Key { id: VerificationId },
    Landed { id: VerificationId },
    Challenge { id: VerificationId },
    Address { id: VerificationId },
    Find { id: VerificationId, paid: bool },
    Phone { id: VerificationId, name: PhoneName, purpose: String },
    Supersede { old: VerificationId, issued: Box<Issued> },
    GiveBack { refusal: Refusal },
    Remember { outcome: Result<Box<Issued>, Refusal> },
}

struct Issued {
    view: View,
    handoff: Option<Handoff>,
}

/// What came of it, or that the store has to be asked for a share of a cap before it goes on.
enum Outcome {
    Told(Result<Issued, Refusal>),
    Dry { at: Phase, fare: Fare },
}

type Next = Then<Phase, Outcome>;

impl Verifier {
    pub(super) async fn issue_start(
        &self,
        request: StartRequest,
    ) -> Result<Result<View, Refusal>, StoreError> {
        let StartRequest { asker, phone, purpose, locale, answered } = request;
        let name = PhoneName::of(&self.keys.ring(), &phone);
        let id = VerificationId::draw(name.partition(), self.clock.now(), &mut self.chance());
        self.issue(asker, id, What::New { phone, purpose, locale, answered }).await
    }

    pub(super) async fn issue_resend(
        &self,
        asker: Asker,
        id: VerificationId,
    ) -> Result<Result<View, Refusal>, StoreError> {
        self.issue(asker, id, What::Again).await
    }

    async fn issue(
        &self,
        asker: Asker,
        id: VerificationId,
        what: What,
    ) -> Result<Result<View, Refusal>, StoreError> {
        let mut chance = self.chance();
        let mut delivery = [0; 9];
        chance.fill(&mut delivery);
        let code = Code::draw(self.policy.code_digits, &mut chance);
        let (ring, policy, now) = (self.keys.ring(), Arc::clone(&self.policy), self.clock.now());
        let carrier = match &what {
            What::New { phone, .. } => self.first_carrier(phone),
            // The phone is sealed: it is looked at when the message is taken up.
            What::Again => (0, None),
        };
        let ticket = self.ticket(&what, carrier.0).await?;
        let verb = Issue { ring, policy, now, asker, what, code, delivery, carrier, ticket };
        let issued = self.carry_out(Arc::new(verb), id).await?;
        Ok(issued.map(|issued| {
            if let Some(handoff) = issued.handoff {
                self.hand_over(handoff);
            }
            issued.view
        }))
    }
}

impl Issue {
    fn first(&self, id: VerificationId) -> Phase {
        if self.asker.idempotency.is_some() { Phase::Key { id } } else { self.after_key(id) }
    }

    fn after_key(&self, id: VerificationId) -> Phase {
        match &self.what {
            What::New { answered: Some(_), .. } => Phase::Challenge { id },
            What::New { answered: None, .. } => self.after_challenge(id),
            // Whether there is such a verification comes before anything is taken for it.
            What::Again => Phase::Find { id, paid: false },
        }
    }

    fn after_challenge(&self, id: VerificationId) -> Phase {
        if self.asker.address.is_some() { Phase::Address { id } } else { self.at_phone(id) }
    }

    fn at_phone(&self, id: VerificationId) -> Phase {
        match &self.what {
            What::New { phone, purpose, .. } => {
                let name = PhoneName::of(&self.ring, phone);
                Phase::Phone { id, name, purpose: purpose.clone() }
            }
            What::Again => Phase::Find { id, paid: true },
        }
    }

    fn finish(&self, outcome: Result<Box<Issued>, Refusal>) -> Next {
        if self.asker.idempotency.is_some() {
            Then::Go(Phase::Remember { outcome })
        } else {
            Then::Done(Outcome::Told(outcome.map(|issued| *issued)))
        }
    }

    fn address_key(&self) -> Key {
        let address = self.asker.address.expect("only asked for where there is an address");
        records::address(&self.ring, address)
    }

    fn decide_challenge(&self, id: VerificationId, draft: &mut Draft) -> Result<Next, StoreError> {
        let What::New { answered: Some(answered), .. } = &self.what else {
            return Ok(Then::Go(self.after_challenge(id)));
        };
        if let Some(refusal) = answered.put_off() {
            return Ok(self.finish(Err(refusal)));
        }
        let judged = answered.judge(&self.ring, &self.asker.tenant, draft, self.now)?;
        Ok(match judged {
            Judged::Right => Then::Go(self.after_challenge(id)),
            Judged::Wrong => self.finish(Err(Refusal::ChallengeWrong)),
            Judged::Expired => self.finish(Err(Refusal::ChallengeExpired)),
        })
    }

    fn decide_address(&self, id: VerificationId, draft: &mut Draft) -> Result<Next, StoreError> {
        let (key, rule) = (self.address_key(), self.policy.address_rule());
        let mut address: Address = draft.get(&key)?.unwrap_or_default();
        if let Some(retry_at) = address.asked.free_at(rule, self.now) {
            return Ok(self.finish(Err(Refusal::Throttled { retry_at, limit: "address" })));
        }
        address.asked.add(rule, self.now);
        draft.put(&key, &address, self.now + rule.length);
        Ok(Then::Go(self.at_phone(id)))
    }

    fn decide_give_back(&self, refusal: &Refusal, draft: &mut Draft) -> Result<Next, StoreError> {
        let (key, rule) = (self.address_key(), self.policy.address_rule());
        if let Some(mut address) = draft.get::<Address>(&key)? {
            address.asked.take_back();
            draft.put(&key, &address, self.now + rule.length);
        }
        Ok(self.finish(Err(refusal.clone())))
    }

    fn decide_find(
        &self,
        id: VerificationId,
        paid: bool,
        draft: &Draft,
    ) -> Result<Next, StoreError> {
        let found: Option<Verification> = draft.get(&records::verification(&id))?;
        let found = found.filter(|found| found.tenant == self.asker.tenant);
        let found = found.filter(|found| found.is_live(self.now));
        let named = found.and_then(|found| {
            PhoneName::from_hex(&found.fingerprint).map(|name| (name, found.purpose))
        });
        Ok(match named {
            Some(_) if self.asker.address.is_some() && !paid => Then::Go(Phase::Address { id }),
            Some((name, purpose)) => Then::Go(Phase::Phone { id, name, purpose }),
            None => self.finish(Err(Refusal::NotFound)),
        })
    }

    fn refuse_at_phone(&self, refusal: Refusal) -> Next {
        if self.asker.address.is_some() {
            Then::Go(Phase::GiveBack { refusal })
        } else {
            self.finish(Err(refusal))
        }
    }

    /// The phone's commit: its limits, the verification and the delivery, or nothing.
    fn decide_phone(
        &self,
        id: VerificationId,
        name: PhoneName,
        purpose: &str,
        draft: &mut Draft,
    ) -> Result<Next, StoreError> {
        let (policy, now) = (&*self.policy, self.now);
        let sends_key = name.sends();
        let standing_key = name.standing(&self.asker.tenant, purpose);
        let mut sends: Sends = draft.get(&sends_key)?.unwrap_or_default();
        let mut standing: Standing = draft.get(&standing_key)?.unwrap_or_default();
        if let Some(landed) = self.landed(id, draft)? {
            // Two requests under one key came here: the other one was faster.
            let view = View::new(id, &landed, &sends, policy, now);
            return Ok(self.finish(Ok(Box::new(Issued { view, handoff: None }))));
        }
        if let Some(retry_at) = standing.free_at(now) {
            return Ok(self.refuse_at_phone(Refusal::Locked { retry_at }));
        }
        if let Some(retry_at) = sends.free_at(policy, now) {
            return Ok(self.refuse_at_phone(Refusal::Throttled { retry_at, limit: "phone" }));
        }
        let newest = standing.newest == Some(id);
        let Some((mut verification, phone)) =
            self.verification(id, name, purpose, newest, draft)?
        else {
            return Ok(self.refuse_at_phone(Refusal::NotFound));
        };
        let set_aside = match self.toll(&phone, &standing) {
            Ok(set_aside) => set_aside,
            Err(Stopped::Full(refusal)) => return Ok(self.refuse_at_phone(refusal)),
            Err(Stopped::Dry(fare)) => {
                let at = Phase::Phone { id, name, purpose: purpose.to_owned() };
                return Ok(Then::Done(Outcome::Dry { at, fare }));
            }
        };
        sends.add(policy, now);
        let sent_at = sends.last_at().unwrap_or(now);
        let delivery_id = DeliveryId::with(id.partition(), self.now, self.delivery);
        let sent = Sent { delivery: delivery_id, at: sent_at, request: self.mark() };
        verification.messages.push(sent);
        let delivery = self.delivery_record(id, name, &phone, &verification, sent_at);
        let delivery = Delivery { set_aside, ..delivery };
        let superseded = standing.newest.replace(id).filter(|newest| *newest != id);
        let kept = verification.kept_until();
        draft.put(&sends_key, &sends, now + sends::KEPT);
        let standing_kept = standing.kept_until(kept, policy.known_for);
        draft.put(&standing_key, &standing, standing_kept);
        draft.put(&records::verification(&id), &verification, kept);
        let live_code = self.live_code(id, name, purpose, &phone);
        draft.put(&records::live_code(&id), &live_code, verification.ends_at());
        let delivery_key = records::delivery(&delivery_id);
        draft.put_due(&delivery_key, &delivery, delivery.kept_until(), delivery.due_at());
        let view = View::new(id, &verification, &sends, policy, now);
        let claim = delivery.first_claim();
        let resend = verification.messages.len() > 1;
        let (delivery, accepted_at) = (delivery_id, now);
        let handoff = claim.map(|claim| Handoff { delivery, claim, accepted_at, resend });
        let issued = Box::new(Issued { view, handoff });
        Ok(match superseded {
            Some(old) => Then::Go(Phase::Supersede { old, issued }),
            None => self.finish(Ok(issued)),
        })
    }

    /// The verification that the new code is for, and the phone: a fresh one, or the old one
    /// renewed, if it is still live and the newest.
    fn verification(
        &self,
        id: VerificationId,
        name: PhoneName,
        purpose: &str,
        newest: bool,
        draft: &Draft,
    ) -> Result<Option<(Verification, Phone)>, StoreError> {
        if let What::New { phone, locale, .. } = &self.what {
            return Ok(Some((self.fresh(name, phone, purpose, locale), phone.clone())));
        }
        let old: Option<Verification> = draft.get(&records::verification(&id))?;
        let old = old.filter(|old| newest && old.is_live(self.now));
        let live_code: Option<LiveCode> = draft.get(&records::live_code(&id))?;
        let phone = live_code.and_then(|code| records::open_phone(&self.ring, &code.phone));
        Ok(old.zip(phone).map(|(mut old, phone)| {
            old.renew(&self.policy, self.now);
            (old, phone)
        }))
    }

    fn live_code(
        &self,
        id: VerificationId,
        name: PhoneName,
        purpose: &str,
        phone: &Phone,
    ) -> LiveCode {
        let (pepper_id, pepper) = self.ring.pepper();
        let binding = Binding {
            verification: id.as_bytes(),
            phone: name.as_bytes(),
            purpose: purpose.as_bytes(),
            tenant: self.asker.tenant.as_bytes(),
        };
        LiveCode {
            digest: self.code.digest(pepper, &binding),
            pepper: pepper_id.to_owned(),
            phone: records::seal_phone(&self.ring, phone),
        }
    }

    fn fresh(&self, name: PhoneName, phone: &Phone, purpose: &str, locale: &str) -> Verification {
        let expires_at = self.now + self.policy.code_ttl;
        let stage = Stage::Pending { expires_at, checks_left: self.policy.checks_max };
        Verification {
            tenant: self.asker.tenant.clone(),
            purpose: purpose.to_owned(),
            masked: phone.masked(),
            fingerprint: name.to_hex(),
            locale: locale.to_owned(),
            created_at: self.now,
            stage,
            messages: Vec::new(),
            checks: Vec::new(),
            passage: self.passage(),
        }
    }

    fn passage(&self) -> Option<Passage> {
        match &self.what {
            What::New { answered, .. } => answered.as_ref().and_then(Answered::passage),
            What::Again => None,
        }
    }

    fn delivery_record(
        &self,
        id: VerificationId,
        name: PhoneName,
        phone: &Phone,
        verification: &Verification,
        sent_at: Millis,
    ) -> Delivery {
        let letter = Letter {
            phone: phone.e164().to_owned(),
            code: self.code.digits().to_owned(),
            minutes: self.policy.code_minutes(),
            locale: verification.locale.clone(),
        };
        let letter = serde_json::to_vec(&letter).expect("a letter is plain JSON");
        let sealed = self.ring.seal(Use::Sealing, Letter::PURPOSE, &letter);
        Delivery {
            verification: id,
            tenant: self.asker.tenant.clone(),
            fingerprint: name.to_hex(),
            masked: verification.masked.clone(),
            created_at: sent_at,
            deadline: self.now + self.policy.delivery_deadline(),
            stage: DeliveryStage::Pending(Pending::claimed_at(self.now, sealed, self.carrier.0)),
            tries: Vec::new(),
            note: self.carrier.1.clone(),
            set_aside: Micros::default(),
            counted: None,
        }
    }
}

impl Issued {
    fn copy(&self) -> Self {
        let handoff = self.handoff.as_ref().map(|handoff| Handoff {
            delivery: handoff.delivery,
            claim: handoff.claim.clone(),
            accepted_at: handoff.accepted_at,
            resend: handoff.resend,
        });
        Self { view: self.view.clone(), handoff }
    }
}

impl Verb for Arc<Issue> {
    type Phase = Phase;
    type Answer = Outcome;

    fn keys(&self, phase: &Phase) -> Vec<Key> {
        match phase {
            Phase::Key { .. } | Phase::Remember { .. } => vec![self.idempotency_key()],
            Phase::Challenge { .. } => match &self.what {
                What::New { answered: Some(answered), .. } => {
                    answered.key(&self.ring, &self.asker.tenant).into_iter().collect()
                }
                _ => vec![],
            },
            Phase::Address { .. } | Phase::GiveBack { .. } => vec![self.address_key()],
            Phase::Landed { id } | Phase::Find { id, .. } => vec![records::verification(id)],
            Phase::Supersede { old, .. } => vec![records::verification(old)],
            Phase::Phone { id, name, purpose } => {
                let standing = name.standing(&self.asker.tenant, purpose);
                let mut keys = vec![name.sends(), standing];
                match self.what {
                    What::Again => {
                        keys.extend([records::verification(id), records::live_code(id)]);
                    }
                    // Under a key somebody else may be at the same one.
                    What::New { .. } if self.asker.idempotency.is_some() => {
                        keys.push(records::verification(id));
                    }
                    // Its name was just drawn: nothing can be there.
                    What::New { .. } => {}
                }
                keys
            }
        }
    }

    fn ahead(&self, phase: &Phase) -> Vec<Key> {
        let (Phase::Key { id } | Phase::Challenge { id } | Phase::Address { id }) = phase else {
            return Vec::new();
        };
        let mut keys = Vec::new();
        if matches!(phase, Phase::Key { .. }) {
            keys.extend(self.keys(&Phase::Challenge { id: *id }));
        }
        if self.asker.address.is_some() && !matches!(phase, Phase::Address { .. }) {
            keys.push(self.address_key());
        }
        if let What::New { .. } = &self.what {
            keys.extend(self.keys(&self.at_phone(*id)));
        }
        keys
    }

    fn decide(&self, phase: &Phase, draft: &mut Draft) -> Result<Next, StoreError> {
        match phase {
            Phase::Key { id } => self.decide_key(*id, draft),
            Phase::Landed { id } => self.decide_landed(*id, draft),
            Phase::Challenge { id } => self.decide_challenge(*id, draft),
            Phase::Address { id } => self.decide_address(*id, draft),
            Phase::Find { id, paid } => self.decide_find(*id, *paid, draft),
            Phase::Phone { id, name, purpose } => self.decide_phone(*id, *name, purpose, draft),
            Phase::Supersede { old: id, issued } => {
                let key = records::verification(id);
                if let Some(mut old) = draft.get::<Verification>(&key)?
                    && old.cancel(self.now)
                {
                    draft.put(&key, &old, old.kept_until());
                    draft.delete(&records::live_code(id));
                }
                Ok(self.finish(Ok(Box::new(issued.copy()))))
            }
            Phase::GiveBack { refusal } => self.decide_give_back(refusal, draft),
            Phase::Remember { outcome } => self.decide_remember(outcome, draft),
        }
    }
}
