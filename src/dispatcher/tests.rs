mod caps;
mod entered;
mod lookups;
mod lost;

use std::collections::BTreeSet;

use super::*;
use crate::chance::SeededChance;
use crate::clock::{MINUTE, SECOND};
use crate::domain::code::Code;
use crate::domain::phone::{Phone, PhoneRules, Region};
use crate::domain::policy::Policy;
use crate::keys;
use crate::providers::Provider;
use crate::providers::simulated::{Script, ScriptedAnswer, Simulated, Simulator};
use crate::store::memory::MemoryStore;
use crate::verifier::{Asker, Checked, Refusal, StartRequest, Target, View};

/// Everything between the verbs and the provider, with a clock that stands still.
struct World {
    verifier: Verifier,
    dispatcher: Dispatcher,
    handoffs: mpsc::Receiver<Handoff>,
    simulator: Arc<Simulator>,
    clock: Clock,
    /// What another node is made of.
    parts: (Arc<dyn Store>, Keys),
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual(1_735_749_045_000);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let ring = keys::load_or_make(&path, clock.wall(), &mut SeededChance(1)).unwrap();
        let (keys, simulator) = (Keys::new(ring), Arc::new(Simulator::with_inbox(100)));
        let provider: Arc<dyn Provider> =
            Arc::new(Simulated::new("sim".into(), Arc::clone(&simulator), clock.clone()));
        Self::node((store, keys), clock, simulator, [provider].into())
    }

    fn node(
        parts: (Arc<dyn Store>, Keys),
        clock: Clock,
        simulator: Arc<Simulator>,
        providers: Providers,
    ) -> Self {
        let (store, keys) = parts.clone();
        let (sender, handoffs) = mpsc::channel(10);
        let verifier = Verifier::new(
            Arc::clone(&store),
            clock.clone(),
            keys.clone(),
            Policy::default(),
            "https://verify.example",
            sender,
        )
        .with_audiences([("shop".to_owned(), "login".to_owned())]);
        let dispatcher = Dispatcher::new(store, clock.clone(), keys, providers);
        Self { verifier, dispatcher, handoffs, simulator, clock, parts }
    }

    /// Two simulated providers, `sim` and `second`.
    fn with_second() -> Self {
        let World { parts, clock, simulator, dispatcher, .. } = Self::new();
        let second: Arc<dyn Provider> =
            Arc::new(Simulated::new("second".into(), Arc::clone(&simulator), clock.clone()));
        let both = dispatcher.providers.iter().cloned().chain([second]).collect();
        Self::node(parts, clock, simulator, both)
    }

    fn answers(&self, answer: ScriptedAnswer) {
        self.simulator.set_script(Script { answer, ..Script::default() });
    }

    async fn start(&self) -> View {
        self.start_with("13800138000").await.unwrap()
    }

    async fn start_with(&self, number: &str) -> Result<View, Refusal> {
        let rules =
            PhoneRules { default_region: Region::CN, countries: BTreeSet::from([Region::CN]) };
        let request = StartRequest {
            asker: asker(),
            phone: Phone::parse(number, &rules).unwrap(),
            purpose: "login".into(),
            locale: "zh".into(),
            answered: None,
        };
        self.verifier.start(request).await.unwrap()
    }

    /// Takes up what was handed over, and waits until its calls are over.
    async fn hand_over(&mut self) {
        while let Ok(handoff) = self.handoffs.try_recv() {
            self.dispatcher.take(handoff).await;
        }
        self.rest().await;
    }

    async fn look(&self) {
        self.dispatcher.look().await;
        self.rest().await;
    }

    async fn rest(&self) {
        self.dispatcher.tracker.close();
        self.dispatcher.tracker.wait().await;
        self.dispatcher.tracker.reopen();
    }

    /// How the messages of a verification ended: word and reason.
    async fn ends(&self, view: &View) -> Vec<(&'static str, Option<&'static str>)> {
        let look = self.verifier.timeline("shop", view.id).await.unwrap().unwrap();
        let ends = ["message_sent", "message_delivered", "message_failed", "message_expired"];
        let ends = look.events.iter().filter(|event| ends.contains(&event.event));
        ends.map(|event| (event.event, event.class)).collect()
    }

    fn inbox(&self) -> usize {
        self.simulator.inbox(None, 10).len()
    }
}

fn asker() -> Asker {
    Asker { tenant: "shop".into(), address: None, idempotency: None }
}

#[tokio::test]
async fn a_canceled_message_that_waits_is_not_called_again() {
    let mut world = World::new();
    world.answers(ScriptedAnswer::RateLimitedAccount);
    let view = world.start().await;
    world.hand_over().await;
    assert_eq!(world.ends(&view).await, [], "it waits for another try");
    world.verifier.cancel("shop", view.id).await.unwrap().unwrap();
    world.answers(ScriptedAnswer::Accept);
    world.clock.advance(5 * SECOND);
    world.look().await;
    assert_eq!(world.ends(&view).await, [("message_failed", Some("canceled"))]);
    assert_eq!(world.inbox(), 0);
    // Nothing was sent, so the gap was given back.
    assert_eq!(world.start().await.status, "pending");
}

#[tokio::test]
async fn a_newer_message_stops_the_older_one() {
    for resend in [true, false] {
        let mut world = World::new();
        world.answers(ScriptedAnswer::RateLimitedAccount);
        let old = world.start().await;
        world.hand_over().await;
        world.clock.advance(MINUTE);
        let new = if resend {
            world.verifier.resend(asker(), old.id).await.unwrap().unwrap()
        } else {
            world.start().await
        };
        world.answers(ScriptedAnswer::Accept);
        world.look().await;
        assert_eq!(world.inbox(), 0, "resend {resend}: the old code is not good any more");
        assert_eq!(world.ends(&old).await[0], ("message_failed", Some("superseded")));
        world.hand_over().await;
        assert_eq!(world.inbox(), 1);
        assert_eq!(world.ends(&new).await.last(), Some(&("message_sent", None)));
    }
}

#[tokio::test]
async fn a_code_that_was_right_needs_no_second_message() {
    // The first provider does not deduplicate, so another one has to be there for a second message.
    let mut world = World::with_second();
    world.answers(ScriptedAnswer::AcceptSilently);
    let view = world.start().await;
    world.hand_over().await;
    let code = Code::parse(&world.simulator.inbox(None, 1)[0].code).unwrap();
    let checked = world.verifier.check("shop", Target::Id(view.id), code).await.unwrap();
    assert!(matches!(checked, Checked::Approved(_)));
    world.clock.advance(10 * SECOND);
    world.look().await;
    assert_eq!(world.inbox(), 1);
    assert_eq!(world.ends(&view).await, [("message_failed", Some("approved"))]);
}

#[tokio::test]
async fn what_fails_while_nobody_waits_any_more_does_not_go_on() {
    let mut world = World::new();
    let latency_ms = 50;
    let answer = ScriptedAnswer::RateLimitedAccount;
    world.simulator.set_script(Script { latency_ms, answer, ..Script::default() });
    let view = world.start().await;
    let handoff = world.handoffs.try_recv().unwrap();
    world.dispatcher.take(handoff).await;
    // The call is under way by now; its failure is the end of it.
    world.verifier.cancel("shop", view.id).await.unwrap().unwrap();
    world.rest().await;
    assert_eq!(world.ends(&view).await, [("message_failed", Some("canceled"))]);
}

#[tokio::test]
async fn a_claim_that_waited_for_its_turn_is_looked_at_once_more() {
    for canceled in [true, false] {
        let mut world = World::new();
        let view = world.start().await;
        if canceled {
            world.verifier.cancel("shop", view.id).await.unwrap().unwrap();
        }
        world.clock.advance(STALE_AFTER + 1);
        world.hand_over().await;
        let end =
            if canceled { ("message_failed", Some("canceled")) } else { ("message_sent", None) };
        assert_eq!(world.ends(&view).await, [end]);
        assert_eq!(world.inbox(), usize::from(!canceled));
    }
}

#[tokio::test]
async fn a_crash_is_written_down_before_its_message_is_stopped() {
    let mut world = World::new();
    let view = world.start().await;
    drop(world.handoffs.try_recv().unwrap());
    world.verifier.cancel("shop", view.id).await.unwrap().unwrap();
    world.clock.advance(crate::domain::policy::LEASE);
    world.look().await;
    assert_eq!(world.inbox(), 0);
    let look = world.verifier.timeline("shop", view.id).await.unwrap().unwrap();
    let told: Vec<_> = look.events.iter().map(|event| (event.event, event.class)).collect();
    assert!(told.contains(&("provider_answered", Some("unknown_outcome"))), "{told:?}");
}
