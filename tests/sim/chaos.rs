//! What goes wrong while clients act.

use std::sync::Arc;

use countersign::clock::{DAY, HOUR, Millis, SECOND};
use countersign::domain::delivery::Stage;
use countersign::domain::outcome::Receipt;
use tokio_util::sync::CancellationToken;

use crate::invariants::Invariant;
use crate::millis;
use crate::oracle::Oracle;
use crate::plan::Mood;
use crate::world::World;

impl World {
    /// Every few seconds something happens, of the kinds that this seed arms.
    pub(crate) async fn chaos(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::time::sleep(millis(self.dice.between(200, 6000))).await;
            if stop.is_cancelled() {
                return;
            }
            let (plan, dice) = (&self.plan, &self.dice);
            let node = dice.place(plan.nodes);
            if dice.percent(plan.outages) {
                self.outage(Self::length(dice.mostly_small(20_000)));
            }
            if dice.percent(plan.pauses) {
                self.pause(node, Self::length(dice.between(100, 40_000)));
            }
            if dice.percent(plan.restarts) {
                self.restart(node);
            }
            if dice.percent(plan.jumps) {
                self.jump(node, *dice.pick(&[HOUR, -HOUR, DAY, -DAY, 3 * SECOND, -3 * SECOND]));
            }
            if dice.percent(plan.forgeries) {
                self.forge().await;
            }
            self.change_moods();
        }
    }

    fn length(of: u64) -> Millis {
        i64::try_from(of).unwrap() + 1
    }

    fn change_moods(&self) {
        for (company, character) in self.companies.iter().zip(&self.plan.companies) {
            if !self.dice.percent(character.moody) {
                continue;
            }
            let good = character.moods.is_empty() || self.dice.percent(40);
            let mood = if good { Mood::Fine } else { *self.dice.pick(&character.moods) };
            company.set_mood(mood);
            self.say(format_args!("{} is {mood:?} now", company.name));
        }
    }

    /// A receipt for nothing that there is, or for a message under another company's name for it.
    async fn forge(self: &Arc<Self>) {
        let known = self.judge(Oracle::some_accepted);
        let reference = match known {
            Some(reference) if self.dice.percent(60) => reference,
            _ => format!("{:032x}", self.dice.seed()),
        };
        let named = "forged".to_owned();
        let receipt = Receipt {
            about: reference.clone().into(),
            message_id: named,
            arrived: self.dice.percent(50),
            vendor_code: "DELIVRD".to_owned(),
        };
        let place = self.dice.place(self.companies.len());
        if self.push(place, receipt, "forged").await == Some(true) {
            let what = format!("a receipt under a wrong name changed d{reference}");
            self.judge(|oracle| oracle.breach(Invariant::ReceiptsHarmless, what));
        }
    }
}

/// Whether a receipt under a wrong name is told apart: the delivery knows the right one.
pub(crate) fn knows_its_name(stage: &Stage) -> bool {
    match stage {
        Stage::Accepted { message_id, .. } => !message_id.is_empty(),
        Stage::Delivered { .. } | Stage::Expired { .. } => true,
        Stage::Pending(_) | Stage::Failed { .. } | Stage::Stopped { .. } => false,
    }
}
