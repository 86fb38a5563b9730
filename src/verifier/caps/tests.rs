use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::*;
use crate::chance::SeededChance;
use crate::clock::{DAY, HOUR, MINUTE};
use crate::domain::cap::Most;
use crate::domain::code::Code;
use crate::domain::phone::PhoneRules;
use crate::domain::policy::Policy;
use crate::keys;
use crate::routing::prices::Price;
use crate::store::memory::MemoryStore;
use crate::store::{Commit, Record};
use crate::verifier::{Asker, Checked, Handoff, Letter, Refusal, StartRequest, Target, Verifier};

const NOW: Millis = 1_735_749_045_000;

/// A store that counts how often the record of a cap is written, and may be away.
struct Counting {
    inner: MemoryStore,
    cap_writes: AtomicUsize,
    away: AtomicBool,
}

#[async_trait]
impl Store for Counting {
    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        if self.away.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(250)).await;
            return Err(StoreError::Unavailable("away".to_owned()));
        }
        self.inner.read(keys).await
    }

    async fn commit(&self, commit: Commit) -> Result<bool, StoreError> {
        let of_cap = commit.writes.iter().filter(|(key, _)| key.kind == 16).count();
        self.cap_writes.fetch_add(of_cap, Ordering::SeqCst);
        self.inner.commit(commit).await
    }

    async fn due(&self, now: Millis, max: usize) -> Result<Vec<Key>, StoreError> {
        self.inner.due(now, max).await
    }
}

struct Node {
    verifier: Verifier,
    caps: Arc<Caps>,
    handoffs: mpsc::Receiver<Handoff>,
}

struct World {
    store: Arc<Counting>,
    clock: Clock,
    keys: Keys,
    scopes: Vec<Scope>,
    prices: Prices,
}

impl World {
    fn new(scopes: Vec<Scope>) -> Self {
        let clock = Clock::manual(NOW);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let ring = keys::load_or_make(&path, clock.wall(), &mut SeededChance(1)).unwrap();
        let inner = MemoryStore::new(clock.clone());
        let store = Arc::new(Counting {
            inner,
            cap_writes: AtomicUsize::new(0),
            away: AtomicBool::new(false),
        });
        Self { store, clock, keys: Keys::new(ring), scopes, prices: Prices::default() }
    }

    /// A node of its own over the same store, as after a start.
    fn node(&self) -> Node {
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        let (sender, handoffs) = mpsc::channel(100_000);
        let policy = Policy { known_for: 180 * DAY, ..Policy::default() };
        let (clock, keys) = (self.clock.clone(), self.keys.clone());
        let (scopes, prices) = (self.scopes.clone(), self.prices.clone());
        let caps = Caps::new(scopes, prices, Arc::clone(&store), clock.clone(), &keys);
        let caps = Arc::new(caps);
        let verifier = Verifier::new(store, clock, keys, policy, "https://v.example", sender);
        Node { verifier: verifier.with_caps(Arc::clone(&caps)), caps, handoffs }
    }
}

impl Node {
    async fn start(&self, number: u32) -> Result<crate::verifier::View, Refusal> {
        self.verifier.start(request(&format!("138{number:08}"))).await.unwrap()
    }

    /// Starts with this many phones, beginning with this one; says how many got a message.
    async fn flood(&self, first: u32, count: u32) -> usize {
        let mut sent = 0;
        for number in first..first + count {
            sent += usize::from(self.start(number).await.is_ok());
        }
        sent
    }

    /// Makes a phone known: a code is sent and entered.
    async fn approve(&mut self, number: u32) {
        let view = self.start(number).await.unwrap();
        let handoff = self.handoffs.try_recv().unwrap();
        let ring = self.verifier.keys().ring();
        let opened = ring.open(keys::Use::Sealing, Letter::PURPOSE, &handoff.claim.letter);
        let letter: Letter = serde_json::from_slice(&opened.unwrap()).unwrap();
        let code = Code::parse(&letter.code).unwrap();
        let checked = self.verifier.check("shop", Target::Id(view.id), code).await.unwrap();
        assert!(matches!(checked, Checked::Approved(_)));
    }
}

fn request(number: &str) -> StartRequest {
    let countries = BTreeSet::from(["CN", "HK"].map(|code| code.parse().unwrap()));
    let rules = PhoneRules { default_region: Region::CN, countries };
    StartRequest {
        asker: Asker { tenant: "shop".into(), address: None, idempotency: None },
        phone: Phone::parse(number, &rules).unwrap(),
        purpose: "login".into(),
        locale: "zh".into(),
        answered: None,
    }
}

fn server(hour: u64) -> Scope {
    let most = |messages| Most { messages: Some(messages), money: None };
    Scope { country: None, cap: Cap { hour: most(hour), day: most(10 * hour) } }
}

fn capped(refused: Result<crate::verifier::View, Refusal>) -> (Millis, &'static str) {
    match refused {
        Err(Refusal::Capped { retry_at, cap }) => (retry_at, cap),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn strangers_stop_at_the_cap_known_phones_at_a_fifth_more_and_time_mends_it() {
    let world = World::new(vec![server(10)]);
    let mut node = world.node();
    for number in 0..4 {
        node.approve(number).await;
    }
    world.clock.advance(2 * MINUTE);
    assert_eq!(node.flood(100, 20).await, 6, "ten with the four from before");
    let (retry_at, cap) = capped(node.start(200).await);
    assert_eq!(cap, "server");
    let within = world.clock.now() + 50 * MINUTE..=world.clock.now() + HOUR + 2 * MINUTE;
    assert!(within.contains(&retry_at), "{}", retry_at - NOW);
    assert_eq!(node.flood(0, 4).await, 2, "known phones: up to twelve");
    capped(node.start(3).await);
    world.clock.advance(retry_at - world.clock.now());
    assert!(node.start(300).await.is_ok());
}

#[tokio::test]
async fn who_is_refused_by_something_else_uses_nothing_up() {
    let world = World::new(vec![server(3)]);
    let node = world.node();
    assert!(node.start(1).await.is_ok());
    for _ in 0..50 {
        assert!(matches!(node.start(1).await, Err(Refusal::Throttled { limit: "phone", .. })));
    }
    assert_eq!(node.flood(10, 5).await, 2);
    // Nor does a cap use up what belongs to the phone: after the window it has its message.
    let (retry_at, _) = capped(node.start(14).await);
    world.clock.advance(retry_at - world.clock.now());
    assert!(node.start(14).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_nodes_at_once_never_send_more_than_the_cap() {
    for stumbling in [None, Some(7), Some(8)] {
        let world = World::new(vec![server(200)]);
        world.store.inner.set_stumbling(stumbling);
        let nodes: Vec<_> = (0..3).map(|_| Arc::new(world.node())).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for (at, node) in nodes.iter().cycle().take(600).enumerate() {
            let (node, number) = (Arc::clone(node), u32::try_from(at).unwrap());
            tasks.spawn(async move {
                let request = request(&format!("138{number:08}"));
                matches!(node.verifier.start(request).await, Ok(Ok(_)))
            });
        }
        let sent = tasks.join_all().await.into_iter().filter(|sent| *sent).count();
        assert!(sent <= 200, "{sent} with {stumbling:?}");
        let messages: usize = nodes.iter().map(|node| node.handoffs.len()).sum();
        assert_eq!(messages, sent, "whoever was told yes has a message");
        // Early by what lies in the other nodes' leases, at most; a store that stumbles loses some.
        if stumbling.is_none() {
            assert!(sent >= 200 - 3 * 2, "{sent}");
        }
    }
}

#[tokio::test]
async fn a_thousand_messages_cost_a_handful_of_commits() {
    let world = World::new(vec![server(100_000)]);
    let node = world.node();
    assert_eq!(node.flood(0, 1000).await, 1000);
    assert_eq!(world.store.cap_writes.load(Ordering::SeqCst), 1, "a block is a thousand");
    assert_eq!(node.flood(5000, 1500).await, 1500);
    assert_eq!(world.store.cap_writes.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_crash_forgets_nothing_and_a_clean_stop_gives_back() {
    let world = World::new(vec![server(1000)]);
    let node = world.node();
    assert_eq!(node.flood(0, 3).await, 3);
    drop(node); // A crash: of its block of ten, seven are lost, and count as sent.
    let node = world.node();
    assert_eq!(node.flood(100, 1100).await, 990);
    drop(node);
    let node = world.node();
    capped(node.start(5000).await);

    let world = World::new(vec![server(1000)]);
    let node = world.node();
    assert_eq!(node.flood(0, 3).await, 3);
    let stop = CancellationToken::new();
    stop.cancel();
    Arc::clone(&node.caps).keep(stop).await;
    let node = world.node();
    assert_eq!(node.flood(100, 1100).await, 997);
}

#[tokio::test]
async fn what_a_quiet_node_holds_is_given_back_when_its_lease_is_over() {
    let world = World::new(vec![server(300)]);
    let (quiet, busy) = (world.node(), world.node());
    assert!(quiet.start(1).await.is_ok());
    assert_eq!(busy.flood(100, 400).await, 297, "the quiet one holds two");
    world.clock.advance(cap::LEASE + SECOND);
    quiet.caps.tidy(false).await;
    assert_eq!(busy.flood(1000, 10).await, 2);
}

#[tokio::test]
async fn a_country_has_a_cap_of_its_own_and_resends_count() {
    let hong_kong = Scope { country: "HK".parse().ok(), ..server(2) };
    let world = World::new(vec![server(100), hong_kong]);
    let node = world.node();
    let start = |number: &'static str| {
        let verifier = node.verifier.clone();
        async move { verifier.start(request(number)).await.unwrap() }
    };
    let first = start("+85261234567").await.unwrap();
    world.clock.advance(2 * MINUTE);
    // Its lease is over by now, and nobody knows the number before the decision.
    let asker = || Asker { tenant: "shop".into(), address: None, idempotency: None };
    assert!(node.verifier.resend(asker(), first.id).await.unwrap().is_ok());
    assert_eq!(capped(start("+85261234568").await).1, "country");
    world.clock.advance(MINUTE);
    assert_eq!(capped(node.verifier.resend(asker(), first.id).await.unwrap()).1, "country");
    assert_eq!(node.flood(0, 200).await, 98, "two of a hundred were there");
}

#[tokio::test]
async fn money_is_set_aside_and_settled_when_the_delivery_ends() {
    let money = |text: &str| text.parse::<Micros>().unwrap();
    let day = Most { messages: None, money: Some(money("10")) };
    let cap = Cap { day, ..Cap::default() };
    let mut world = World::new(vec![Scope { country: None, cap }]);
    let price = Price { usual: money("1"), ..Price::default() };
    let dear = Price { usual: money("4"), ..Price::default() };
    world.prices = Prices::new(vec![price, dear]);
    let node = world.node();
    assert_eq!(node.flood(0, 3).await, 3, "through the first: three of ten");
    // One of them went through the dear one in the end, another was never sent.
    let one = |cost: &str, messages| Amount { messages, money: money(cost) };
    node.caps.settle(None, money("1"), one("4", 1), NOW);
    node.caps.settle(None, money("1"), one("0", 0), NOW);
    assert_eq!(node.flood(10, 20).await, 5, "10 - 3 - 3 + 1");
}

#[tokio::test(start_paused = true)]
async fn without_a_store_nothing_goes_out_and_nobody_waits_for_the_others() {
    let world = World::new(vec![server(1000)]);
    let node = Arc::new(world.node());
    world.store.away.store(true, Ordering::SeqCst);
    let began = tokio::time::Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let node = Arc::clone(&node);
        tasks.spawn(async move {
            node.verifier.start(request(&format!("138{number:08}"))).await.is_err()
        });
    }
    assert!(tasks.join_all().await.into_iter().all(|failed| failed));
    let took = began.elapsed();
    assert!(took < Duration::from_millis(300), "{took:?}");
    world.store.away.store(false, Ordering::SeqCst);
    world.clock.advance(1);
    assert!(node.start(1).await.is_ok());
}
