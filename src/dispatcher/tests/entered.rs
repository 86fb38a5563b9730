//! What adaptive choice learns: codes that people enter, and receipts that a message is lost.

use super::lookups::Scripted;
use super::*;
use crate::domain::outcome::Found;
use crate::domain::policy::ENTERED_WITHIN;
use crate::providers::LooksUp;
use crate::routing::prices::{Price, Prices};

impl World {
    /// The same with adaptive choice between its providers, of which no share makes the second one
    /// worth its price: it is for resends.
    fn adaptive(mut self) -> Self {
        let providers = Arc::clone(&self.dispatcher.providers);
        let price = |text: &str| Price { usual: text.parse().unwrap(), ..Price::default() };
        let prices = Prices::new(vec![price("0.045"), price("100")]);
        let router = Router::new(providers, Vec::new(), self.clock.clone());
        let router = router.with_prices(prices).with_adaptive("1".parse().unwrap());
        self.dispatcher.router = Arc::new(router);
        self.verifier = self.verifier.with_router(Arc::clone(&self.dispatcher.router));
        self
    }

    /// What is known of each provider, in words.
    fn told(&self) -> Vec<String> {
        let phone = Phone::from_e164("+8613800138000").unwrap();
        let mut chance = SeededChance(1);
        let note = self.dispatcher.router.line(&phone, &[], &mut chance).note.unwrap();
        let mut parts: Vec<_> = note.split("; ").map(|it| it.replace(" entered", "")).collect();
        parts.sort();
        parts
    }

    /// Waits until a message's time is over, and judges what is due.
    async fn judge(&self, taken_ago: Millis) {
        self.clock.advance(ENTERED_WITHIN + 1 - taken_ago);
        self.dispatcher.judge_due().await;
    }

    async fn enter(&self, view: &View) {
        let code = Code::parse(&self.simulator.inbox(None, 1)[0].code).unwrap();
        let checked = self.verifier.check("shop", Target::Id(view.id), code).await.unwrap();
        assert!(matches!(checked, Checked::Approved(_)));
    }

    /// Has the message of a verification reported, as by a push.
    async fn report(&self, view: &View, arrived: bool) -> bool {
        let key = records::verification(&view.id);
        let found: Option<crate::domain::verification::Verification> =
            self.dispatcher.read(&key).await.unwrap();
        let id = found.unwrap().messages.last().unwrap().delivery;
        let delivery: Option<Delivery> =
            self.dispatcher.read(&records::delivery(&id)).await.unwrap();
        let taken = delivery.unwrap().stage;
        let crate::domain::delivery::Stage::Accepted { provider, message_id, .. } = taken else {
            return false;
        };
        let (about, vendor_code) = (id.to_string().as_str().into(), "30".to_owned());
        let receipt = Receipt { about, message_id, arrived, vendor_code };
        self.verifier.receive(&provider, receipt).await.unwrap()
    }
}

const NOTHING: [&str; 2] = ["second: nothing known yet", "sim: nothing known yet"];
const LOST: [&str; 2] = ["second: nothing known yet", "sim: 0 % of the last 1"];
const ENTERED: [&str; 2] = ["second: nothing known yet", "sim: 100 % of the last 1"];

/// A message that `sim` took.
async fn taken_by_sim() -> (World, View) {
    let mut world = World::with_second().adaptive();
    let view = world.start().await;
    world.hand_over().await;
    (world, view)
}

#[tokio::test]
async fn a_receipt_that_a_message_is_lost_counts_at_once_and_once() {
    let (world, view) = taken_by_sim().await;
    assert_eq!(world.told(), NOTHING);
    assert!(world.report(&view, false).await);
    assert_eq!(world.told(), LOST, "at once");
    assert!(!world.report(&view, false).await);
    world.judge(0).await;
    assert_eq!(world.told(), LOST, "and not again when its time is over");
}

#[tokio::test]
async fn a_receipt_that_it_arrived_says_nothing_about_its_code() {
    for entered in [true, false] {
        let (world, view) = taken_by_sim().await;
        assert!(world.report(&view, true).await);
        assert_eq!(world.told(), NOTHING);
        if entered {
            world.enter(&view).await;
        }
        world.judge(0).await;
        assert_eq!(world.told(), if entered { ENTERED } else { LOST });
    }
}

#[tokio::test]
async fn a_code_that_is_entered_all_the_same_is_no_miss() {
    let (world, view) = taken_by_sim().await;
    assert!(world.report(&view, false).await);
    world.enter(&view).await;
    world.judge(0).await;
    assert_eq!(world.told(), ENTERED);
}

#[tokio::test]
async fn a_receipt_that_comes_when_its_time_is_over_was_counted_before() {
    let (world, view) = taken_by_sim().await;
    world.judge(0).await;
    assert_eq!(world.told(), LOST);
    assert!(world.report(&view, false).await);
    assert_eq!(world.told(), LOST);
}

#[tokio::test]
async fn it_counts_at_the_node_that_receives_it_and_only_there() {
    let (world, view) = taken_by_sim().await;
    let other = World::node(
        world.parts.clone(),
        world.clock.clone(),
        Arc::clone(&world.simulator),
        Arc::clone(&world.dispatcher.providers),
    )
    .adaptive();
    assert!(other.report(&view, false).await);
    assert_eq!(other.told(), LOST);
    assert_eq!(world.told(), NOTHING, "it hears nothing of it");
    world.judge(0).await;
    other.dispatcher.judge_due().await;
    assert_eq!(world.told(), NOTHING);
    assert_eq!(other.told(), LOST);
}

#[tokio::test]
async fn a_receipt_that_is_pulled_counts_as_well() {
    let mut world = World::with_second().adaptive();
    let receipt = crate::providers::simulated::ScriptedReceipt::Failed;
    world.simulator.set_script(Script { receipt, ..Script::default() });
    world.start().await;
    world.hand_over().await;
    world.clock.advance(2 * SECOND);
    let provider = &world.dispatcher.providers[0];
    let pulled = provider.pull_receipts().await.unwrap();
    let mut kept: VecDeque<_> = pulled.into_iter().map(|it| ("sim".to_owned(), it)).collect();
    assert_eq!(kept.len(), 1);
    write_down(&world.verifier, &mut kept).await;
    assert_eq!(world.told(), LOST);
}

#[tokio::test(start_paused = true)]
async fn what_is_looked_up_counts_as_well_lost_or_taken() {
    // It was taken, and is asked about, out of memory or by another node.
    for restart in [false, true] {
        let only = Scripted::new("sim", LooksUp::All, Outcome::accepted("m1"));
        let second = Scripted::new("second", LooksUp::All, Outcome::accepted("m1"));
        let mut world = World::of(&[&only, &second]).adaptive();
        world.start().await;
        world.hand_over().await;
        only.finds(only.settled(false));
        let world = if restart { world.restarted().adaptive() } else { world };
        world.clock.advance(if restart { MINUTE } else { 2 * SECOND });
        if restart {
            world.look().await;
        } else {
            world.ask_about_the_latest().await;
        }
        assert_eq!(world.told(), LOST, "restart: {restart}");
        world.judge(2 * SECOND).await;
        assert_eq!(world.told(), LOST, "restart: {restart}");
    }
    // Its outcome was unknown until a look-up found it: from then on it is like any other.
    let unknown = Outcome::of(crate::domain::outcome::Class::UnknownOutcome, "timeout");
    let first = Scripted::new("sim", LooksUp::Unknown, unknown.clone());
    let second = Scripted::new("second", LooksUp::Unknown, unknown);
    let mut world = World::of(&[&first, &second]).adaptive();
    first.finds(Found::Taken { message_id: "m1".to_owned() });
    let view = world.start().await;
    world.hand_over().await;
    assert_eq!(world.ends(&view).await, [("message_sent", None)]);
    world.judge(0).await;
    assert_eq!(world.told(), LOST, "nobody entered it");
}

#[tokio::test]
async fn without_adaptive_choice_nothing_is_kept_about_it() {
    let mut world = World::new();
    let view = world.start().await;
    world.hand_over().await;
    let key = records::verification(&view.id);
    let found: Option<crate::domain::verification::Verification> =
        world.dispatcher.read(&key).await.unwrap();
    let id = found.unwrap().messages[0].delivery;
    let record = world.parts.0.read(&[records::delivery(&id)]).await.unwrap().remove(0).unwrap();
    assert!(!String::from_utf8(record.value).unwrap().contains("counted"));
}

#[tokio::test]
async fn an_entered_code_is_credited_to_the_provider_that_took_its_message() {
    // The first message goes through the first provider and is not entered; a resend goes through
    // the other, whose code is.
    let (mut world, view) = taken_by_sim().await;
    world.clock.advance(MINUTE);
    world.verifier.resend(asker(), view.id).await.unwrap().unwrap();
    world.hand_over().await;
    world.clock.advance(10 * SECOND);
    world.enter(&view).await;
    world.judge(MINUTE + 10 * SECOND).await;
    assert_eq!(world.told(), LOST);
    world.judge(30 * SECOND).await;
    assert_eq!(world.told(), ["second: 100 % of the last 1", "sim: 0 % of the last 1"]);
    // Each of the messages cost what its provider takes.
    let look = world.verifier.timeline("shop", view.id).await.unwrap().unwrap();
    let costs = look.events.iter().filter(|event| !event.cost.is_nothing());
    let costs: Vec<_> =
        costs.map(|it| (it.provider.clone().unwrap(), it.cost.to_string())).collect();
    assert_eq!(costs, [("sim".into(), "0.045".into()), ("second".into(), "100".into())]);
}
