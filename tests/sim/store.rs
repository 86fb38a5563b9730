//! The shared store as a node sees it: across a network that delays, loses and does not answer.
//!
//! The records themselves lie in the product's own memory store, which compares and writes as the
//! others do. A commit on its way is not called back: it lands though the node that sent it has
//! died, or was told that nobody knows.

use std::sync::Arc;

use async_trait::async_trait;
use countersign::clock::Millis;
use countersign::store::{Commit, Key, Record, Store, StoreError};

use crate::millis;
use crate::nodes::Life;
use crate::world::World;

/// After so long without an answer a node gives a call up, in milliseconds.
const PATIENCE: u64 = 250;
/// A commit that was given up may land so much later, in milliseconds.
const LATE_MAX: u64 = 3000;

/// The store of one life of a node.
pub(crate) struct NodeStore {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(why.to_owned())
}

impl NodeStore {
    async fn travel(&self) {
        travel(&self.world).await;
    }

    /// The way there, where nothing is at stake yet.
    async fn go(&self) -> Result<(), StoreError> {
        self.life.step(&self.world).await;
        if self.world.store_is_down() || self.world.stumbles(|it| it.lost) {
            self.world.disturbed();
            tokio::time::sleep(millis(self.world.dice.between(1, PATIENCE))).await;
            self.life.step(&self.world).await;
            return Err(unavailable("no answer"));
        }
        self.travel().await;
        Ok(())
    }

    /// The way back.
    async fn come_back(&self) -> Result<(), StoreError> {
        if self.world.stumbles(|it| it.unanswered) {
            self.world.disturbed();
            tokio::time::sleep(millis(PATIENCE)).await;
            self.life.step(&self.world).await;
            return Err(unavailable("the answer was lost"));
        }
        self.travel().await;
        self.life.step(&self.world).await;
        Ok(())
    }
}

async fn travel(world: &World) {
    let delay = world.dice.mostly_small(world.plan.stumbles.delay);
    if delay == 0 {
        for _ in 0..world.dice.below(4) {
            tokio::task::yield_now().await;
        }
        return;
    }
    tokio::time::sleep(millis(delay)).await;
}

#[async_trait]
impl Store for NodeStore {
    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        self.go().await?;
        let found = self.world.records.read(keys).await?;
        self.come_back().await?;
        Ok(found)
    }

    async fn commit(&self, commit: Commit) -> Result<bool, StoreError> {
        self.life.step(&self.world).await;
        if self.world.store_is_down() {
            self.world.disturbed();
            tokio::time::sleep(millis(self.world.dice.between(1, PATIENCE))).await;
            self.life.step(&self.world).await;
            return Err(unavailable("no answer"));
        }
        let unknown = self.world.stumbles(|it| it.unknown);
        let fate = unknown.then(|| self.world.dice.below(3));
        let (landing, told) = tokio::sync::oneshot::channel();
        let (world, life) = (Arc::clone(&self.world), Arc::clone(&self.life));
        self.world.tasks.spawn(async move {
            travel(&world).await;
            match fate {
                Some(0) => return,
                Some(1) => tokio::time::sleep(millis(world.dice.below(LATE_MAX))).await,
                _ => {}
            }
            if !world.store_is_down() {
                let landed = world.land(&life, commit, unknown).await;
                // Who asked may be gone.
                let _ = landing.send(landed);
            }
        });
        if unknown {
            self.world.disturbed();
            self.world.saw("unknown_commit");
            tokio::time::sleep(millis(PATIENCE)).await;
            self.life.step(&self.world).await;
            return Err(unavailable("nobody knows whether it landed"));
        }
        let Ok(landed) = told.await else {
            self.life.step(&self.world).await;
            return Err(unavailable("no answer"));
        };
        self.come_back().await?;
        Ok(landed)
    }

    async fn due(&self, now: Millis, max: usize) -> Result<Vec<Key>, StoreError> {
        self.life.step_without_harm().await;
        if self.world.store_is_down() {
            return Err(unavailable("no answer"));
        }
        let due = self.world.records.due(now, max).await?;
        self.life.step_without_harm().await;
        Ok(due)
    }
}
