//! Check: a guess is counted, then judged, in one commit; nobody learns the answer before that.

use std::sync::Arc;

use super::records::{self, PhoneName};
use super::{Refusal, Verifier, View};
use crate::chance::Chance;
use crate::clock::Millis;
use crate::domain::code::{Binding, Code};
use crate::domain::id::VerificationId;
use crate::domain::phone::Phone;
use crate::domain::policy::Policy;
use crate::domain::sends::Sends;
use crate::domain::standing::Standing;
use crate::domain::token::{Claims, Proof};
use crate::domain::verification::{Guess, LiveCode, Verification};
use crate::keys::Ring;
use crate::signer;
use crate::store::{Draft, Key, StoreError, Then, Verb, transact};

/// Which verification a guess is for.
#[derive(Clone, Debug)]
pub enum Target {
    /// By its id.
    Id(VerificationId),
    /// The newest of a phone for a purpose: at the seed's door there are no ids.
    Newest {
        /// The phone.
        phone: Phone,
        /// The purpose.
        purpose: String,
    },
}

/// What came of a check.
#[derive(Clone, Debug)]
pub enum Checked {
    /// The code was right: here is the proof.
    Approved(Box<Approval>),
    /// The code was wrong.
    Wrong {
        /// Guesses left for this code.
        checks_left: u8,
    },
    /// Nothing was judged.
    Refused(Refusal),
}

/// A verification that was just approved.
#[derive(Clone)]
pub struct Approval {
    /// As its tenant sees it.
    pub view: View,
    /// The signed token.
    pub token: String,
}

impl std::fmt::Debug for Approval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Approval").field("view", &self.view).finish_non_exhaustive()
    }
}

struct Check {
    ring: Arc<Ring>,
    policy: Arc<Policy>,
    now: Millis,
    tenant: String,
    guess: Code,
}

enum Phase {
    Newest { name: PhoneName, purpose: String },
    Find { id: VerificationId },
    Judge { id: VerificationId, name: PhoneName, purpose: String },
}

enum Answer {
    Right { view: View, phone: Phone, purpose: String },
    Wrong { checks_left: u8 },
    Refused(Refusal),
}

impl Verifier {
    /// Judges a guess.
    pub async fn check(
        &self,
        tenant: &str,
        target: Target,
        guess: Code,
    ) -> Result<Checked, StoreError> {
        let (ring, policy) = (self.keys.ring(), Arc::clone(&self.policy));
        let (now, tenant) = (self.clock.now(), tenant.to_owned());
        let first = match &target {
            Target::Id(id) => Phase::Find { id: *id },
            Target::Newest { phone, purpose } => {
                let name = PhoneName::of(&ring, phone);
                Phase::Newest { name, purpose: purpose.clone() }
            }
        };
        let verb = Check { ring, policy, now, tenant: tenant.clone(), guess };
        let answer = transact(&self.store, verb, first).await?;
        let (checked, word) = match answer {
            Answer::Right { view, phone, purpose } => {
                let token = self.token(&tenant, &phone, &purpose);
                (Checked::Approved(Box::new(Approval { view, token })), "approved")
            }
            Answer::Wrong { checks_left } => (Checked::Wrong { checks_left }, "wrong"),
            Answer::Refused(refusal) => {
                let word = refusal.as_str();
                (Checked::Refused(refusal), word)
            }
        };
        metrics::counter!("countersign_checks_total", "outcome" => word).increment(1);
        Ok(checked)
    }

    fn token(&self, tenant: &str, phone: &Phone, purpose: &str) -> String {
        let ring = self.keys.ring();
        let person = format!("{tenant}\0{}", phone.e164());
        let subject = hex::encode(ring.fingerprint("subject", person.as_bytes()));
        let mut jti = [0; 16];
        self.chance().fill(&mut jti);
        let proof = Proof {
            issuer: &self.issuer,
            tenant,
            subject,
            phone: phone.e164(),
            purpose,
            jti: hex::encode(jti),
        };
        signer::sign(&ring, &Claims::new(proof, self.clock.wall()))
    }
}

impl Check {
    fn refused(refusal: Refusal) -> Then<Phase, Answer> {
        Then::Done(Answer::Refused(refusal))
    }

    fn judge(
        &self,
        id: VerificationId,
        name: PhoneName,
        purpose: &str,
        draft: &mut Draft,
    ) -> Result<Then<Phase, Answer>, StoreError> {
        let key = records::verification(&id);
        let standing_key = name.standing(&self.tenant, purpose);
        let mut standing: Standing = draft.get(&standing_key)?.unwrap_or_default();
        let found: Option<Verification> = draft.get(&key)?;
        let live = found.filter(|found| found.tenant == self.tenant && found.is_live(self.now));
        let Some(mut verification) = live.filter(|_| standing.newest == Some(id)) else {
            return Ok(Self::refused(Refusal::NotFound));
        };
        if let Some(retry_at) = standing.free_at(self.now) {
            return Ok(Self::refused(Refusal::Locked { retry_at }));
        }
        let code_key = records::live_code(&id);
        let Some(code) = draft.get::<LiveCode>(&code_key)? else {
            return Ok(Self::refused(Refusal::NotFound));
        };
        let phone = records::open_phone(&self.ring, &code.phone);
        let (Some(pepper), Some(phone)) = (self.ring.pepper_named(&code.pepper), phone) else {
            return Ok(Self::refused(Refusal::NotFound));
        };
        let digest = self.guess.digest(
            pepper,
            &Binding {
                verification: id.as_bytes(),
                phone: name.as_bytes(),
                purpose: purpose.as_bytes(),
                tenant: self.tenant.as_bytes(),
            },
        );
        standing.count_failure(self.now);
        let judged = verification.check(&code.digest, &digest, self.now);
        if judged == Guess::Right {
            standing.succeed(self.now);
        }
        if !verification.is_live(self.now) {
            draft.delete(&code_key);
        }
        let kept = verification.kept_until();
        draft.put(&key, &verification, kept);
        let standing_kept = standing.kept_until(kept, self.policy.known_for);
        draft.put(&standing_key, &standing, standing_kept);
        Ok(Then::Done(match judged {
            Guess::Right => {
                let sends: Sends = draft.get(&name.sends())?.unwrap_or_default();
                let view = View::new(id, &verification, &sends, &self.policy, self.now);
                Answer::Right { view, phone, purpose: purpose.to_owned() }
            }
            Guess::Wrong { checks_left } => Answer::Wrong { checks_left },
            Guess::Closed => Answer::Refused(Refusal::NotFound),
        }))
    }
}

impl Verb for Check {
    type Phase = Phase;
    type Answer = Answer;

    fn keys(&self, phase: &Phase) -> Vec<Key> {
        match phase {
            Phase::Newest { name, purpose } => vec![name.standing(&self.tenant, purpose)],
            Phase::Find { id } => vec![records::verification(id)],
            Phase::Judge { id, name, purpose } => {
                let standing = name.standing(&self.tenant, purpose);
                vec![records::verification(id), records::live_code(id), standing, name.sends()]
            }
        }
    }

    fn decide(&self, phase: &Phase, draft: &mut Draft) -> Result<Then<Phase, Answer>, StoreError> {
        match phase {
            Phase::Newest { name, purpose } => {
                let standing: Standing =
                    draft.get(&name.standing(&self.tenant, purpose))?.unwrap_or_default();
                Ok(match standing.newest {
                    Some(id) => {
                        Then::Go(Phase::Judge { id, name: *name, purpose: purpose.clone() })
                    }
                    None => Self::refused(Refusal::NotFound),
                })
            }
            Phase::Find { id } => {
                let found: Option<Verification> = draft.get(&records::verification(id))?;
                let ours = found.filter(|found| found.tenant == self.tenant);
                let named = ours.and_then(|found| {
                    PhoneName::from_hex(&found.fingerprint).map(|name| (name, found.purpose))
                });
                Ok(match named {
                    Some((name, purpose)) => Then::Go(Phase::Judge { id: *id, name, purpose }),
                    None => Self::refused(Refusal::NotFound),
                })
            }
            Phase::Judge { id, name, purpose } => self.judge(*id, *name, purpose, draft),
        }
    }
}
