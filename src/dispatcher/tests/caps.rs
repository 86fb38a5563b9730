//! What a delivery cost in the end is settled with the caps, also where a look-up ends it.

use super::lookups::Scripted;
use super::*;
use crate::domain::cap::{Cap, Most};
use crate::domain::outcome::{Class, Found};
use crate::providers::LooksUp;
use crate::routing::prices::{Price, Prices};
use crate::verifier::caps::Scope;

impl World {
    /// The same with providers that take 1, 3 and 1 for a message, and a cap of so much an hour.
    fn capped(mut self, money: &str) -> Self {
        let price = |text: &str| Price { usual: text.parse().unwrap(), ..Price::default() };
        let prices = || Prices::new(vec![price("1"), price("3"), price("1")]);
        let most = |money: &str| Most { messages: None, money: Some(money.parse().unwrap()) };
        let cap = Cap { hour: most(money), day: most("1000") };
        let (store, keys) = self.parts.clone();
        let scopes = vec![Scope { country: None, cap }];
        let caps = Arc::new(Caps::new(scopes, prices(), store, self.clock.clone(), &keys));
        let providers = Arc::clone(&self.dispatcher.providers);
        let router = Router::new(providers, Vec::new(), self.clock.clone()).with_prices(prices());
        self.dispatcher.router = Arc::new(router);
        self.verifier = self.verifier.with_router(Arc::clone(&self.dispatcher.router));
        self.verifier = self.verifier.with_caps(Arc::clone(&caps));
        self.dispatcher.caps = Some(caps);
        self
    }

    /// Puts back what this node holds, as at its end; how many messages a new one may start then.
    async fn left(&self, money: &str) -> usize {
        let stop = CancellationToken::new();
        stop.cancel();
        Arc::clone(self.dispatcher.caps.as_ref().unwrap()).keep(stop).await;
        let next = self.restarted().capped(money);
        let mut started = 0;
        for number in 0..20 {
            let number = format!("139{number:08}");
            started += usize::from(next.start_with(&number).await.is_ok());
        }
        started
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_look_up_ends_has_its_cost_settled_with_the_caps() {
    // One was set aside, for the first provider. It refuses, and the second one takes three: by
    // its own answer, or by what a look-up says after an unknown outcome.
    let unknown = Outcome::of(Class::UnknownOutcome, "timeout");
    let (taken, found) = (Outcome::accepted("m2"), Found::Taken { message_id: "m2".to_owned() });
    for (answer, found) in [(taken, None), (unknown.clone(), Some(found)), (unknown, None)] {
        let refused = Outcome::of(Class::BadRequest, "no");
        let first = Scripted::new("first", LooksUp::Nothing, refused);
        let second = Scripted::new("second", LooksUp::Unknown, answer);
        // Its turn would be next, so an unknown outcome is waited for.
        let third = Scripted::new("third", LooksUp::Nothing, Outcome::accepted("m3"));
        let mut world = World::of(&[&first, &second, &third]).capped("8");
        let view = world.start().await;
        let handoff = world.handoffs.try_recv().unwrap();
        world.dispatcher.take(handoff).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        match found {
            Some(found) => second.finds(found),
            None if world.ends(&view).await.is_empty() => second.finds(second.settled(true)),
            None => {}
        }
        world.rest().await;
        assert_eq!((first.sent(), second.sent(), third.sent()), (1, 1, 0));
        let end = world.ends(&view).await[0].0;
        assert!(["message_sent", "message_delivered"].contains(&end), "{end}");
        // Eight less three leave five, at one each; if only one were counted, seven.
        assert_eq!(world.left("8").await, 5, "{end}");
    }
}
