//! What messages cost: counted once for each call that was settled, and held against what was set
//! aside under the caps, once the delivery has ended.

use std::collections::BTreeSet;

use super::Dispatcher;
use crate::domain::cap::Amount;
use crate::domain::delivery::Delivery;
use crate::domain::outcome::Class;
use crate::domain::phone::Region;
use crate::routing;

/// A delivery before something was done to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    tries: usize,
    owed: bool,
}

impl Before {
    pub(super) fn of(delivery: &Delivery) -> Self {
        Self { tries: delivery.tries.len(), owed: delivery.is_owed() }
    }

    /// Whether it ended by what was done.
    pub(super) fn ended_in(self, delivery: &Delivery) -> bool {
        self.owed && !delivery.is_owed()
    }
}

impl Dispatcher {
    /// Counts what was spent since, and settles with the caps if it ended by that.
    pub(super) fn bill(&self, delivery: &Delivery, before: Before, country: Option<Region>) {
        let new = delivery.tries.iter().skip(before.tries);
        for tried in new.filter(|tried| !tried.cost.is_nothing()) {
            metrics::counter!(
                "countersign_spent_micros_total",
                "provider" => tried.provider.clone(), "country" => routing::shown(country)
            )
            .increment(tried.cost.0);
        }
        let ended = before.ended_in(delivery);
        if let Some(caps) = self.caps.as_ref().filter(|_| ended) {
            let cost = Amount { messages: sent(delivery), money: delivery.cost() };
            caps.settle(country, delivery.set_aside, cost, delivery.created_at);
        }
    }
}

/// How many messages went out, as far as anybody knows: through each provider one.
fn sent(delivery: &Delivery) -> u64 {
    let maybe = [Class::Accepted, Class::Duplicate, Class::UnknownOutcome];
    let sent = delivery.tries.iter().filter(|tried| maybe.contains(&tried.class));
    let through: BTreeSet<&str> = sent.map(|tried| tried.provider.as_str()).collect();
    u64::try_from(through.len()).unwrap_or(u64::MAX)
}
