//! What the simulation found, played by hand: a request that is stopped in its midst for longer
//! than it may hold its `Idempotency-Key` (SIGSTOP, a frozen machine). Somebody took over, and it
//! goes on with what it knew.

use std::sync::Arc;

use async_trait::async_trait;
use countersign::clock::{Clock, DAY, MINUTE, Millis, SECOND};
use countersign::domain::phone::Phone;
use countersign::domain::policy::Policy;
use countersign::domain::sends::Sends;
use countersign::store::memory::MemoryStore;
use countersign::store::{Commit, Key, Record, Store, StoreError, transact_once};
use countersign::verifier::records::PhoneName;
use countersign::verifier::{Asker, Handoff, Idempotency, StartRequest, Verifier};
use tokio::sync::{Semaphore, mpsc};

/// The kind of the records that a phone's commit looks at first.
const SENDS: u8 = 3;

/// A store that lets nobody near a phone until it is opened.
struct Gated {
    store: Arc<MemoryStore>,
    gate: Arc<Semaphore>,
}

#[async_trait]
impl Store for Gated {
    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        if keys.iter().any(|key| key.kind == SENDS) {
            drop(self.gate.acquire().await);
        }
        self.store.read(keys).await
    }

    async fn commit(&self, commit: Commit) -> Result<bool, StoreError> {
        self.store.commit(commit).await
    }

    async fn due(&self, now: Millis, max: usize) -> Result<Vec<Key>, StoreError> {
        self.store.due(now, max).await
    }
}

/// Two nodes on one store; the slow one gets to no phone until the gate is opened.
struct Pair {
    clock: Clock,
    store: Arc<MemoryStore>,
    gate: Arc<Semaphore>,
    slow: Verifier,
    quick: Verifier,
    handoffs: mpsc::Receiver<Handoff>,
}

impl Pair {
    fn new() -> Self {
        let clock = Clock::manual(1_735_749_045_000);
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let gate = Arc::new(Semaphore::new(0));
        let gated = Gated { store: Arc::clone(&store), gate: Arc::clone(&gate) };
        let (sender, handoffs) = mpsc::channel(100);
        let node = |store: Arc<dyn Store>| {
            let (keys, policy) = (crate::world::shared_keys(), Policy::default());
            Verifier::new(store, clock.clone(), keys, policy, "https://x.example", sender.clone())
        };
        let quick = node(Arc::clone(&store) as Arc<dyn Store>);
        let slow = node(Arc::new(gated));
        Self { clock, store, gate, slow, quick, handoffs }
    }

    fn messages(&mut self) -> usize {
        std::iter::from_fn(|| self.handoffs.try_recv().ok()).count()
    }

    /// The gap of the newest message was given back.
    async fn give_gap_back(&self) {
        let name = PhoneName::of(&crate::world::shared_keys().ring(), &phone());
        let (key, now) = (name.sends(), self.clock.now());
        let store: Arc<dyn Store> = Arc::clone(&self.store) as Arc<dyn Store>;
        let given = transact_once(&store, vec![key.clone()], move |draft| {
            let mut sends: Sends = draft.get(&key)?.unwrap();
            assert!(sends.give_gap_back(now, now));
            draft.put(&key, &sends, now + DAY);
            Ok(())
        });
        given.await.unwrap();
    }
}

fn phone() -> Phone {
    Phone::from_e164("+8613800000001").unwrap()
}

fn request(key: Option<&str>) -> StartRequest {
    let idempotency = key.map(|key| Idempotency { key: key.into(), body: "b".into() });
    StartRequest {
        asker: Asker { tenant: "shop".into(), address: None, idempotency },
        phone: phone(),
        purpose: "login".into(),
        locale: "zh".into(),
        answered: None,
    }
}

/// One request under a key is stopped, another takes over after `pause`, the first goes on.
async fn taken_over(pair: &mut Pair, pause: Millis, given_back: bool) {
    let slow = pair.slow.clone();
    let mut stopped = std::pin::pin!(slow.start(request(Some("k"))));
    tokio::select! {
        biased;
        _ = &mut stopped => panic!("the gate is shut"),
        () = tokio::task::yield_now() => {}
    }
    pair.clock.advance(pause);
    let other = pair.quick.start(request(Some("k"))).await.unwrap().unwrap();
    assert_eq!(pair.messages(), 1);
    if given_back {
        pair.give_gap_back().await;
    }
    pair.gate.add_permits(1);
    let told = stopped.await.unwrap().unwrap();
    assert_eq!((told.id, pair.messages()), (other.id, 0), "it is told what the other one did");
    pair.clock.advance(2 * MINUTE);
    let again = pair.quick.start(request(Some("k"))).await.unwrap().unwrap();
    assert_eq!((again.id, pair.messages()), (other.id, 0), "the key's answer is still known");
}

#[tokio::test]
async fn who_was_taken_over_sends_nothing_and_forgets_nothing() {
    taken_over(&mut Pair::new(), 16 * SECOND, false).await;
    taken_over(&mut Pair::new(), 16 * SECOND, true).await;
    // The phone was in its gap when the first one began: it would have been refused.
    let mut pair = Pair::new();
    pair.quick.start(request(None)).await.unwrap().unwrap();
    assert_eq!(pair.messages(), 1);
    taken_over(&mut pair, MINUTE, false).await;
}
