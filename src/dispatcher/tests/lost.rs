//! Commits that land and of which nobody learns it.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::store::{Commit, Key, Record};

/// A store that loses the answers of its next commits.
struct Forgetful {
    store: MemoryStore,
    lose: AtomicUsize,
}

#[async_trait]
impl Store for Forgetful {
    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        self.store.read(keys).await
    }

    async fn commit(&self, commit: Commit) -> Result<bool, StoreError> {
        let landed = self.store.commit(commit).await;
        let lost = self
            .lose
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if lost.is_ok() { Err(StoreError::Unavailable("nobody knows".into())) } else { landed }
    }

    async fn due(&self, now: Millis, max: usize) -> Result<Vec<Key>, StoreError> {
        self.store.due(now, max).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_resend_calls_whom_the_record_names_though_an_answer_was_lost() {
    let mut world = World::new();
    let clock = world.clock.clone();
    let forgetful =
        Arc::new(Forgetful { store: MemoryStore::new(clock.clone()), lose: AtomicUsize::new(0) });
    let keys = world.parts.1.clone();
    let simulator = Arc::clone(&world.simulator);
    let named = |name: &str| -> Arc<dyn Provider> {
        Arc::new(Simulated::new(name.into(), Arc::clone(&simulator), clock.clone()))
    };
    let store: Arc<dyn Store> = Arc::clone(&forgetful) as _;
    let providers: Providers = [named("first"), named("second")].into();
    world = World::node((store, keys), clock.clone(), Arc::clone(&simulator), providers);
    let view = world.start().await;
    world.hand_over().await;
    clock.advance(61 * SECOND);
    world.verifier.resend(asker(), view.id).await.unwrap().unwrap();
    // What gives the message to the second provider is written, and its answer lost.
    forgetful.lose.store(1, Ordering::Relaxed);
    world.hand_over().await;
    let sent: Vec<_> = simulator.inbox(None, 10).into_iter().map(|it| it.provider).collect();
    assert_eq!(sent, ["second", "first"], "newest first");
    let look = world.verifier.timeline("shop", view.id).await.unwrap().unwrap();
    let through: Vec<_> = look.events.iter().filter_map(|event| event.provider.clone()).collect();
    assert_eq!(through, ["first", "second"], "who was called is who is written down");
}
