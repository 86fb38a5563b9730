//! Providers: companies that take messages, refuse them, fail, stay silent, answer late, and send
//! receipts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use countersign::domain::outcome::{Class, Outcome, Receipt};
use countersign::providers::{Message, Provider, Pushed, Receipts};

use crate::millis;
use crate::nodes::Life;
use crate::plan::Mood;
use crate::world::World;

/// A company, whoever calls it.
pub(crate) struct Company {
    /// Its name.
    pub(crate) name: String,
    state: Mutex<State>,
}

struct State {
    mood: Mood,
    /// What it sent, by our reference.
    sent: BTreeMap<String, String>,
    messages: u64,
    receipts: Vec<Receipt>,
}

/// A message as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// The code in it.
    pub(crate) code: String,
}

/// What becomes of a call.
enum Fate {
    Taken { taken_after: u64, answered_after: Option<u64> },
    Refused(Class, &'static str),
    Silent,
}

impl Company {
    /// A company in a good mood.
    pub(crate) fn new(place: usize) -> Self {
        let (sent, receipts) = (BTreeMap::new(), Vec::new());
        let state = State { mood: Mood::Fine, sent, messages: 0, receipts };
        Self { name: format!("p{place}"), state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Sets its mood.
    pub(crate) fn set_mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    fn fate(&self, world: &World) -> Fate {
        let dice = &world.dice;
        let mut mood = self.state().mood;
        if mood == Mood::Mixed {
            mood = *dice.pick(&Mood::BAD);
        }
        let quick = 1 + dice.mostly_small(4000);
        match mood {
            Mood::Fine => Fate::Taken { taken_after: quick / 2, answered_after: Some(quick) },
            Mood::Unreachable => Fate::Refused(Class::NotSent, "connect"),
            Mood::RefusesNumbers(class) => Fate::Refused(class, "number"),
            Mood::RefusesAccount(class) => Fate::Refused(class, "account"),
            Mood::Fails(class) => Fate::Refused(class, "later"),
            Mood::Swallows => Fate::Silent,
            Mood::LosesAnswers => Fate::Taken { taken_after: quick / 2, answered_after: None },
            Mood::Late | Mood::Mixed => {
                let late = dice.between(3000, 20_000);
                Fate::Taken { taken_after: dice.below(late), answered_after: Some(late) }
            }
        }
    }

    /// Takes a message: gives its name for it, and whether it has seen it before.
    fn take(&self, reference: &str, deduplicates: bool) -> (String, bool) {
        let mut state = self.state();
        if let Some(known) = state.sent.get(reference).filter(|_| deduplicates) {
            return (known.clone(), true);
        }
        state.messages += 1;
        let name = format!("{}-{}", self.name, state.messages);
        state.sent.insert(reference.to_owned(), name.clone());
        (name, false)
    }
}

/// A company as one life of a node sees it.
pub(crate) struct Line {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
    pub(crate) company: usize,
}

impl Line {
    async fn outcome(&self, message: &Message, call: usize) -> Outcome {
        let (world, company) = (&self.world, &self.world.companies[self.company]);
        let deduplicates = world.plan.companies[self.company].deduplicates;
        match company.fate(world) {
            Fate::Refused(class, code) => {
                let most = if class == Class::NotSent { 2000 } else { 300 };
                tokio::time::sleep(millis(world.dice.between(1, most))).await;
                Outcome::of(class, code)
            }
            Fate::Silent => {
                world.saw("swallowed");
                std::future::pending().await
            }
            Fate::Taken { taken_after, answered_after } => {
                let (sender, taken) = tokio::sync::oneshot::channel();
                let (ours, place, message) = (Arc::clone(world), self.company, message.clone());
                world.tasks.spawn(async move {
                    tokio::time::sleep(millis(taken_after)).await;
                    let (name, before) =
                        ours.companies[place].take(&message.reference, deduplicates);
                    if before {
                        ours.saw("told_apart");
                    } else {
                        ours.taken(place, &message, call, &name);
                    }
                    // Nobody may wait for it any more.
                    let _ = sender.send((name, before));
                });
                let Some(answered_after) = answered_after else {
                    if world.dice.percent(50) {
                        std::future::pending::<()>().await;
                    }
                    tokio::time::sleep(millis(world.dice.between(taken_after, 4900))).await;
                    return Outcome::of(Class::UnknownOutcome, "reset");
                };
                tokio::time::sleep(millis(answered_after)).await;
                match taken.await.unwrap() {
                    (_, true) if world.dice.percent(50) => Outcome::of(Class::Duplicate, "again"),
                    (name, _) => Outcome::accepted(name),
                }
            }
        }
    }
}

#[async_trait]
impl Provider for Line {
    fn name(&self) -> &str {
        &self.world.companies[self.company].name
    }

    fn deduplicates(&self) -> bool {
        self.world.plan.companies[self.company].deduplicates
    }

    async fn send(&self, message: &Message) -> Outcome {
        let call = self.world.call_begins(&self.life, self.company, message).await;
        self.life.step(&self.world).await;
        let outcome = self.outcome(message, call).await;
        self.world.call_ends(&self.life, &message.reference, call, &outcome);
        self.life.step(&self.world).await;
        outcome
    }

    fn read_receipts(&self, _: &Pushed<'_>) -> Option<Receipts> {
        None
    }

    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        self.life.step_without_harm().await;
        let company = &self.world.companies[self.company];
        if company.state().mood == Mood::Unreachable {
            return Err(Outcome::of(Class::NotSent, "connect"));
        }
        // What was handed out is not handed out again, even if who asked has died.
        let receipts = std::mem::take(&mut company.state().receipts);
        self.life.step_without_harm().await;
        Ok(receipts)
    }
}

impl World {
    /// A company has taken a message: it reaches the phone, or not, and receipts follow.
    fn taken(self: &Arc<Self>, place: usize, message: &Message, call: usize, name: &str) {
        let (phone, code) = (message.phone.e164().to_owned(), message.code.digits().to_owned());
        self.say(format_args!("{} took {} for {}", self.companies[place].name, name, phone));
        self.message_taken(place, &message.reference, call);
        let (world, reference) = (Arc::clone(self), message.reference.clone());
        let name = name.to_owned();
        self.tasks.spawn(async move {
            let longest = if world.is_healing() { 3000 } else { 30_000 };
            tokio::time::sleep(millis(world.dice.mostly_small(longest))).await;
            let arrives = world.is_healing() || !world.dice.percent(8);
            if arrives {
                world.arrived(&phone, Text { code });
            }
            world.tell(place, reference, name, arrives).await;
        });
    }

    /// The receipts of a message: none, one, several, in any order.
    async fn tell(self: &Arc<Self>, place: usize, reference: String, name: String, arrived: bool) {
        let character = &self.plan.companies[place];
        if !self.dice.percent(character.receipts) {
            return;
        }
        let vendor_code = if arrived { "DELIVRD" } else { "UNDELIV" }.to_owned();
        let receipt = Receipt { about: reference.into(), message_id: name, arrived, vendor_code };
        let times = if self.dice.percent(20) { 3 } else { 1 };
        for time in 0..times {
            tokio::time::sleep(millis(self.dice.mostly_small(20_000))).await;
            let mut receipt = receipt.clone();
            if time == 1 && self.dice.percent(50) {
                // One that was overtaken by a better one.
                receipt.arrived = false;
            }
            if character.pulled {
                self.companies[place].state().receipts.push(receipt);
            } else {
                let what = if time > 0 { "receipt_again" } else { "receipt" };
                self.push(place, receipt, what).await;
            }
        }
    }

    /// Pushes a company's receipt to some node; says whether it changed anything, if that is known.
    pub(crate) async fn push(
        self: &Arc<Self>,
        place: usize,
        receipt: Receipt,
        what: &'static str,
    ) -> Option<bool> {
        let node = self.dice.place(self.plan.nodes);
        let (verifier, _) = self.verifier(node)?;
        let told = format!("{} {}", receipt.message_id, receipt.arrived);
        let received = verifier.receive(&self.companies[place].name, receipt);
        let waited = tokio::time::timeout(millis(10_000), received).await;
        let changed = waited.ok()?.ok()?;
        self.say(format_args!("n{node} heard of {told}: changed {changed}"));
        self.saw(if changed { what } else { "receipt_in_vain" });
        Some(changed)
    }
}
