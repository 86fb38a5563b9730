//! Messages that a provider is asked about: who asks, when, and what comes of it; in the process
//! that sent, in the next one, and on another node.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::domain::outcome::{About, Class, Found};
use crate::domain::policy::{ASKED_AFTER, LEASE, UNKNOWN_WAIT};
use crate::providers::{LooksUp, Message, Pushed, Receipts, Sent};

/// A provider that follows a script, and writes down what it is asked.
pub(super) struct Scripted {
    name: &'static str,
    looks_up: LooksUp,
    answer: Outcome,
    found: Mutex<Found>,
    sent: Mutex<Vec<Message>>,
    asked: Mutex<Vec<Sent>>,
}

impl Scripted {
    pub(super) fn new(name: &'static str, looks_up: LooksUp, answer: Outcome) -> Arc<Self> {
        let found = Mutex::new(Found::Nothing);
        let (sent, asked) = (Mutex::default(), Mutex::default());
        Arc::new(Self { name, looks_up, answer, found, sent, asked })
    }

    pub(super) fn finds(&self, found: Found) {
        *self.found.lock().unwrap() = found;
    }

    pub(super) fn sent(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// What it would say about the message that it was given last.
    pub(super) fn settled(&self, arrived: bool) -> Found {
        let sent = self.sent.lock().unwrap();
        let about = sent.last().unwrap().reference.as_str().into();
        let vendor_code = if arrived { "DELIVRD" } else { "UNDELIV" }.to_owned();
        Found::Settled(Receipt { about, message_id: "m1".to_owned(), arrived, vendor_code })
    }
}

#[async_trait]
impl Provider for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn deduplicates(&self) -> bool {
        false
    }

    async fn send(&self, message: &Message) -> Outcome {
        self.sent.lock().unwrap().push(message.clone());
        self.answer.clone()
    }

    fn read_receipts(&self, _: &Pushed<'_>) -> Option<Receipts> {
        None
    }

    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        Ok(Vec::new())
    }

    fn looks_up(&self) -> LooksUp {
        self.looks_up
    }

    async fn look_up(&self, sent: &Sent) -> Result<Found, Outcome> {
        self.asked.lock().unwrap().push(sent.clone());
        Ok(self.found.lock().unwrap().clone())
    }
}

fn unknown() -> Outcome {
    Outcome::of(Class::UnknownOutcome, "timeout")
}

impl World {
    pub(super) fn of(providers: &[&Arc<Scripted>]) -> Self {
        let World { parts, clock, simulator, .. } = World::new();
        let providers = providers.iter().map(|it| Arc::clone(it) as Arc<dyn Provider>);
        Self::node(parts, clock, simulator, providers.collect())
    }

    /// The process ends, and another one begins with what is in the store; or it is another node.
    pub(super) fn restarted(&self) -> Self {
        let (parts, clock) = (self.parts.clone(), self.clock.clone());
        let providers = Arc::clone(&self.dispatcher.providers);
        Self::node(parts, clock, Arc::clone(&self.simulator), providers)
    }

    pub(super) async fn ask_about_the_latest(&self) {
        self.dispatcher.ask_about_the_latest();
        self.rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_a_look_up_finds_is_not_sent_again() {
    for (arrived, end) in [
        (None, ("message_sent", None)),
        (Some(true), ("message_delivered", None)),
        (Some(false), ("message_sent", None)),
    ] {
        let first = Scripted::new("first", LooksUp::Unknown, unknown());
        let second = Scripted::new("second", LooksUp::Nothing, Outcome::accepted("m2"));
        let mut world = World::of(&[&first, &second]);
        let view = world.start().await;
        let handoff = world.handoffs.try_recv().unwrap();
        world.dispatcher.take(handoff).await;
        // Its call is over, and it waits; nothing was found so far.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!((first.sent(), world.ends(&view).await), (1, vec![]));
        first.finds(match arrived {
            Some(arrived) => first.settled(arrived),
            None => Found::Taken { message_id: "m1".to_owned() },
        });
        world.rest().await;
        let asked = first.asked.lock().unwrap()[0].clone();
        let message = first.sent.lock().unwrap()[0].clone();
        assert_eq!((asked.phone, asked.text), (message.phone, Some(message.text)));
        assert_eq!((asked.reference, asked.message_id), (message.reference, None));
        world.clock.advance(UNKNOWN_WAIT);
        world.look().await;
        assert_eq!(world.ends(&view).await, [end], "{arrived:?}");
        // Word that it is lost is as good as none: the next one has its turn.
        assert_eq!(second.sent(), usize::from(arrived == Some(false)), "{arrived:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_look_up_finds_goes_once_through_another_provider_with_the_same_code() {
    let first = Scripted::new("first", LooksUp::Unknown, unknown());
    let second = Scripted::new("second", LooksUp::Unknown, unknown());
    let mut world = World::of(&[&first, &second]);
    let view = world.start().await;
    world.hand_over().await;
    assert_eq!((first.sent(), first.asked()), (1, 3), "asked while it waits");
    for _ in 0..5 {
        world.clock.advance(UNKNOWN_WAIT);
        world.look().await;
    }
    assert_eq!((first.sent(), second.sent()), (1, 1));
    let code = |it: &Scripted| it.sent.lock().unwrap()[0].code.digits().to_owned();
    assert_eq!(code(&first), code(&second));
    assert_eq!(world.ends(&view).await, [("message_failed", None)]);
    // Both stay unknown; what is learned later still counts.
    second.finds(second.settled(true));
    world.clock.advance(SECOND);
    world.ask_about_the_latest().await;
    assert_eq!(world.ends(&view).await, [("message_delivered", None)]);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_whoever_may_have_sent_is_asked_before_anybody_is_called() {
    for (found, sent) in [(true, 0), (false, 1)] {
        let first = Scripted::new("first", LooksUp::Unknown, Outcome::accepted("m1"));
        let mut crashing = World::of(&[&first]);
        let view = crashing.start().await;
        drop(crashing.handoffs.try_recv().unwrap());
        let next = crashing.restarted();
        if found {
            first.finds(Found::Taken { message_id: "m1".to_owned() });
        }
        next.clock.advance(LEASE);
        next.look().await;
        assert_eq!((first.asked(), first.sent()), (1, sent), "found: {found}");
        assert_eq!(next.ends(&view).await, [("message_sent", None)]);
    }
    // One that died while it waited looked nothing up either.
    let first = Scripted::new("first", LooksUp::Unknown, unknown());
    let second = Scripted::new("second", LooksUp::Nothing, Outcome::accepted("m2"));
    let mut waiting = World::of(&[&first, &second]);
    let view = waiting.start().await;
    waiting.hand_over().await;
    let (asked, next) = (first.asked(), waiting.restarted());
    first.finds(first.settled(true));
    next.clock.advance(30 * SECOND);
    next.look().await;
    assert_eq!((first.asked(), second.sent()), (asked + 1, 0));
    assert_eq!(next.ends(&view).await, [("message_delivered", None)]);
}

#[tokio::test(start_paused = true)]
async fn receipts_that_must_be_asked_for_are_found_again_after_a_restart_and_on_another_node() {
    for (restart, arrived) in [(false, true), (false, false), (true, true), (true, false)] {
        let only = Scripted::new("only", LooksUp::All, Outcome::accepted("m1"));
        let mut first = World::of(&[&only]);
        let view = first.start().await;
        first.hand_over().await;
        assert_eq!(first.ends(&view).await, [("message_sent", None)]);
        let world = if restart { first.restarted() } else { first };
        world.clock.advance(2 * SECOND);
        world.ask_about_the_latest().await;
        assert_eq!(only.asked(), usize::from(!restart), "out of memory");
        world.look().await;
        assert_eq!(only.asked(), usize::from(!restart), "nothing is due in the store");
        only.finds(only.settled(arrived));
        world.clock.advance(ASKED_AFTER[0]);
        world.look().await;
        let asked = only.asked.lock().unwrap().last().cloned().unwrap();
        assert_eq!(asked.phone.e164(), "+8613800138000");
        assert_eq!((asked.message_id.as_deref(), asked.text), (Some("m1"), None));
        let end = if arrived { "message_delivered" } else { "message_failed" };
        assert_eq!(world.ends(&view).await, [(end, None)], "restart: {restart}");
        assert_eq!(only.sent(), 1);
        // Nobody asks about what is settled.
        let count = only.asked();
        world.clock.advance(ASKED_AFTER[2]);
        world.look().await;
        assert_eq!(only.asked(), count);
    }
}

#[tokio::test(start_paused = true)]
async fn asking_ends_and_so_many_that_wait_keep_no_message_waiting() {
    let only = Scripted::new("only", LooksUp::All, Outcome::accepted("m1"));
    let mut world = World::of(&[&only]);
    let view = world.start().await;
    world.hand_over().await;
    let world = world.restarted();
    for after in ASKED_AFTER {
        world.clock.advance(after);
        world.look().await;
        world.look().await;
    }
    assert_eq!((only.asked(), only.sent()), (ASKED_AFTER.len(), 1));
    assert_eq!(world.ends(&view).await, [("message_sent", None)]);
    // With all places taken the turn passes, and comes again.
    let mut busy = World::of(&[&only]);
    busy.start().await;
    busy.hand_over().await;
    let (busy, count) = (busy.restarted(), only.asked());
    let all = u32::try_from(LOOK_UPS_MAX).unwrap();
    let places = Arc::clone(&busy.dispatcher.look_ups).acquire_many_owned(all).await.unwrap();
    busy.clock.advance(ASKED_AFTER[0]);
    busy.look().await;
    assert_eq!(only.asked(), count);
    drop(places);
    busy.clock.advance(ASKED_AFTER[1]);
    busy.look().await;
    assert_eq!(only.asked(), count + 1);
}

#[tokio::test]
async fn a_receipt_that_names_only_the_phone_finds_its_message_on_any_node() {
    let receipt = |phone: &str, message_id: &str, arrived| Receipt {
        about: About::Phone(Phone::from_e164(phone).unwrap()),
        message_id: message_id.to_owned(),
        arrived,
        vendor_code: "DELIVRD".to_owned(),
    };
    let phone = "+8613800138000";
    for (provider, told, changes) in [
        ("only", receipt(phone, "2A", true), true),
        ("only", receipt(phone, "42", false), true),
        ("only", receipt(phone, "43", true), false),
        ("only", receipt("+8613800138001", "42", true), false),
        ("other", receipt(phone, "42", true), false),
    ] {
        let only = Scripted::new("only", LooksUp::Nothing, Outcome::accepted("42"));
        let mut first = World::of(&[&only]);
        let view = first.start().await;
        first.hand_over().await;
        let world = first.restarted();
        let before = world.ends(&view).await;
        let arrived = told.arrived;
        let changed = world.verifier.receive(provider, told.clone()).await.unwrap();
        assert_eq!(changed, changes, "{told:?}");
        let end = if arrived { "message_delivered" } else { "message_failed" };
        let after = if changes { vec![(end, None)] } else { before };
        assert_eq!(world.ends(&view).await, after, "{told:?}");
        assert!(!world.verifier.receive(provider, told).await.unwrap(), "again");
    }
}

#[tokio::test]
async fn receipts_wait_for_a_store_that_is_down() {
    let only = Scripted::new("only", LooksUp::Nothing, Outcome::accepted("m1"));
    let World { parts: (_, keys), simulator, clock, .. } = World::new();
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let providers = [Arc::clone(&only) as Arc<dyn Provider>].into();
    let shared = Arc::clone(&store) as Arc<dyn Store>;
    let mut world = World::node((shared, keys), clock, simulator, providers);
    let view = world.start().await;
    world.hand_over().await;
    let Found::Settled(receipt) = only.settled(true) else { panic!() };
    let mut kept: VecDeque<_> = (0..100).map(|_| ("only".to_owned(), receipt.clone())).collect();
    // It fails now and then.
    let mut rounds = 0;
    store.set_stumbling(Some(3));
    while !kept.is_empty() {
        write_down(&world.verifier, &mut kept).await;
        rounds += 1;
        assert!(rounds < 1_000);
    }
    assert!(rounds > 1, "it never failed");
    store.set_stumbling(None);
    assert_eq!(world.ends(&view).await, [("message_delivered", None)]);
}
