//! The verbs as clients call them: on some node, over a network that may not bring an answer.

use std::net::IpAddr;
use std::sync::Arc;

use countersign::captcha::Level;
use countersign::clock::Millis;
use countersign::domain::code::Code;
use countersign::domain::id::VerificationId;
use countersign::domain::minted::Kind;
use countersign::domain::phone::Phone;
use countersign::domain::risk::Hint;
use countersign::store::StoreError;
use countersign::verifier::records::PhoneName;
use countersign::verifier::{
    Answered, Ask, Asker, Checked, Idempotency, Refusal, Reply, StartRequest, Target, Verifier,
    View,
};

use crate::millis;
use crate::oracle::{Asked, Who};
use crate::world::World;

/// Who waits for longer has given up.
const PATIENCE: u64 = 10_000;

/// Who asks, and for which phone.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) tenant: &'static str,
    pub(crate) purpose: &'static str,
    pub(crate) address: Option<IpAddr>,
    pub(crate) phone: Phone,
}

/// A verification that somebody knows of.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) person: Person,
    pub(crate) id: VerificationId,
}

/// A key for a request, and what is asked under it.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) key: String,
    pub(crate) body: String,
}

/// The answer to a challenge, under a name that two answers to one challenge share.
#[derive(Clone)]
pub(crate) struct Proof {
    pub(crate) answered: Answered,
    pub(crate) challenge: String,
}

impl Person {
    fn asker(&self, key: Option<&Key>) -> Asker {
        let idempotency = key.cloned().map(|Key { key, body }| Idempotency { key, body });
        Asker { tenant: self.tenant.to_owned(), address: self.address, idempotency }
    }

    fn who(&self, world: &World) -> Who {
        let name = PhoneName::of(&world.keys.ring(), &self.phone).to_hex();
        (name, self.tenant.to_owned(), self.purpose.to_owned())
    }

    fn asked(&self, begun: Millis, key: Option<&Key>, proof: Option<&Proof>) -> Asked {
        Asked {
            begun,
            tenant: self.tenant.to_owned(),
            address: self.address,
            key: key.map(|key| key.key.clone()),
            challenge: proof.map(|proof| proof.challenge.clone()),
        }
    }
}

impl World {
    /// Carries out a verb on some node: nothing, if no answer comes.
    async fn ask<T, F>(self: &Arc<Self>, what: &str, verb: impl FnOnce(Verifier) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let node = self.dice.place(self.plan.nodes);
        let Some((verifier, life)) = self.verifier(node) else {
            self.say(format_args!("c {what}: n{node} is not there"));
            return None;
        };
        self.say(format_args!("c {what} on n{node}"));
        let (work, at_work) = (verb(verifier), self.at_work(&life));
        let work = async move {
            let answer = work.await;
            drop(at_work);
            answer
        };
        if self.plan.hang_ups && !self.is_healing() && self.dice.percent(20) {
            let patience = millis(1 + self.dice.mostly_small(3000));
            return tokio::time::timeout(patience, work).await.ok()?.ok();
        }
        let (sender, answer) = tokio::sync::oneshot::channel();
        self.tasks.spawn(async move {
            // Who asked may be gone.
            let _ = sender.send(work.await);
        });
        tokio::time::timeout(millis(PATIENCE), answer).await.ok()?.ok()?.ok()
    }

    /// Fetches a challenge and reads it, well or badly.
    pub(crate) fn solve(&self, person: &Person, named: bool, right: bool) -> Option<Proof> {
        let (verifier, _) = self.verifier(self.dice.place(self.plan.nodes))?;
        let wrong = |text: String| if right { text } else { format!("{}Z", &text[1..]) };
        if named {
            verifier.ask_named(person.address).ok()?;
            let name = format!("picture-{}", self.dice.below(40));
            let text = verifier.named_picture(person.tenant, &name, Level::Plain).text;
            let challenge = format!("{}/{name}/{text}", person.tenant);
            return Some(Proof {
                answered: Answered::Named { name, answer: wrong(text) },
                challenge,
            });
        }
        let ask = Ask {
            tenant: person.tenant,
            purpose: Some(person.purpose),
            address: person.address,
            hint: Hint::Low,
            wish: Kind::Image,
        };
        let minting = verifier.ask_challenge(&ask).ok()?;
        let reply = Reply {
            tenant: person.tenant,
            id: Some(&minting.id),
            purpose: person.purpose,
            address: person.address,
        };
        let text = verifier.minted_picture(&minting.minted).text;
        let answered = verifier.answered(&reply, wrong(text));
        Some(Proof { answered, challenge: hex::encode(minting.minted.nonce) })
    }

    /// Begins a verification.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        person: &Person,
        key: Option<&Key>,
        proof: Option<&Proof>,
    ) -> Option<View> {
        let begun = self.clock.now();
        let request = StartRequest {
            asker: person.asker(key),
            phone: person.phone.clone(),
            purpose: person.purpose.to_owned(),
            locale: "zh".to_owned(),
            answered: proof.map(|proof| proof.answered.clone()),
        };
        let what = format!("begins for {} at {}", person.phone.e164(), person.tenant);
        let what = key.map_or(what.clone(), |key| format!("{what} under {}", key.key));
        let told = self.ask(&what, |node| async move { node.start(request).await }).await;
        let view = self.told(told, "started")?;
        let asked = person.asked(begun, key, proof);
        self.judge(|oracle| oracle.accepted(self.clock.now(), &asked, &view));
        self.remember(Session { person: person.clone(), id: view.id });
        Some(view)
    }

    /// Asks for another code.
    pub(crate) async fn resend(
        self: &Arc<Self>,
        session: &Session,
        key: Option<&Key>,
    ) -> Option<View> {
        let (begun, id) = (self.clock.now(), session.id);
        let asker = session.person.asker(key);
        let what = format!("asks for another code of {}", session.person.phone.e164());
        let told = self.ask(&what, |node| async move { node.resend(asker, id).await }).await;
        let view = self.told(told, "resent")?;
        let asked = session.person.asked(begun, key, None);
        self.judge(|oracle| oracle.accepted(self.clock.now(), &asked, &view));
        Some(view)
    }

    /// What came of asking for a message.
    fn told(&self, told: Option<Result<View, Refusal>>, fine: &'static str) -> Option<View> {
        match told {
            None => {
                self.saw("start_unknown");
                None
            }
            Some(Ok(view)) => {
                self.saw(fine);
                Some(view)
            }
            Some(Err(refusal)) => {
                self.say(format_args!("c is refused: {}", refusal.as_str()));
                self.saw(word(&refusal));
                None
            }
        }
    }

    /// Checks a code: by the verification's id, or as the seed's door does, by the phone.
    pub(crate) async fn check(self: &Arc<Self>, session: &Session, guess: &str) -> Option<Checked> {
        let begun = self.clock.now();
        let Session { person, id } = session.clone();
        let by_phone = person.tenant == "seed";
        let target = if by_phone {
            let purpose = person.purpose.to_owned();
            Target::Newest { phone: person.phone.clone(), purpose }
        } else {
            Target::Id(id)
        };
        let code = Code::parse(guess).unwrap();
        let tenant = person.tenant;
        let what = format!("checks {guess} for {}", person.phone.e164());
        let told =
            self.ask(&what, |node| async move { node.check(tenant, target, code).await }).await;
        let who = person.who(self);
        match &told {
            None => self.saw("check_unknown"),
            Some(Checked::Approved(approval)) => {
                self.say(format_args!("c comes in"));
                self.saw(if by_phone { "seed_login" } else { "approved" });
                let phone = person.phone.e164();
                self.judge(|oracle| {
                    oracle.answered(&who);
                    oracle.approved(begun, &who, phone, guess, approval);
                });
            }
            Some(Checked::Wrong { checks_left }) => {
                self.say(format_args!("c hears: wrong, {checks_left} left"));
                self.saw("wrong");
                self.judge(|oracle| oracle.answered(&who));
            }
            Some(Checked::Refused(refusal)) => {
                self.say(format_args!("c is refused: {}", refusal.as_str()));
                self.saw(word(refusal));
            }
        }
        told
    }

    /// Gives a verification up.
    pub(crate) async fn cancel(self: &Arc<Self>, session: &Session) {
        let (tenant, id) = (session.person.tenant, session.id);
        let what = format!("cancels the one of {}", session.person.phone.e164());
        let told = self.ask(&what, |node| async move { node.cancel(tenant, id).await }).await;
        if told.flatten().is_some() {
            self.saw("canceled");
        }
    }

    /// Looks at a verification and its story.
    pub(crate) async fn look(self: &Arc<Self>, session: &Session) {
        let (tenant, id) = (session.person.tenant, session.id);
        let look = |node: Verifier| async move { node.timeline(tenant, id).await };
        if let Some(found) = self.ask("looks", look).await {
            let events = found.map_or(0, |look| look.events.len());
            self.say(format_args!("c sees {events} events"));
        }
    }
}

/// The situation that a refusal is.
fn word(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::ChallengeWrong => "challenge_wrong",
        Refusal::ChallengeExpired => "challenge_expired",
        Refusal::Throttled { limit: "phone", .. } => "gap_refused",
        Refusal::Throttled { limit: "address", .. } => "address_refused",
        Refusal::Throttled { .. } => "challenges_refused",
        Refusal::ThirdPartyDown { .. } | Refusal::Capped { .. } => {
            unreachable!("no third party and no cap is part of this world")
        }
        Refusal::Locked { .. } => "locked_refused",
        Refusal::NotFound => "not_found",
        Refusal::KeyReused => "key_reused",
        Refusal::KeyInFlight => "key_in_flight",
    }
}
