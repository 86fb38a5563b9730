//! The world of one seed: its time, its store, its machines, and who watches.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use countersign::chance::SeededChance;
use countersign::clock::{Anchor, Clock, MINUTE, Millis};
use countersign::domain::outcome::Outcome;
use countersign::keys::{self, Keys};
use countersign::providers::Message;
use countersign::store::memory::MemoryStore;
use countersign::store::{Commit, Store};
use countersign::verifier::records;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dice::Dice;
use crate::history::History;
use crate::invariants::Invariant;
use crate::millis;
use crate::nodes::{Life, Machine};
use crate::oracle::{Begun, Oracle};
use crate::plan::{Mood, Plan, Stumbles, quiet};
use crate::providers::{Company, Text};
use crate::verbs::Session;

/// When every simulation begins.
const BEGINNING: Millis = 1_735_749_045_000;
/// After the last fault everything has ended within so long: a deadline, a lease, and a little.
const HEALED_AFTER: Millis = 3 * MINUTE;

thread_local! {
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Keeps a panic for the seed that runs on this thread; `false` if none does.
pub(crate) fn heard_panic(told: String) -> bool {
    PANICS.with_borrow_mut(|panics| panics.as_mut().map(|panics| panics.push(told)).is_some())
}

/// What came of a seed.
pub(crate) struct Report {
    /// The seed.
    pub(crate) seed: u64,
    /// What happened.
    pub(crate) history: History,
    /// What was broken.
    pub(crate) breaches: Vec<String>,
    /// How often the interesting situations came up.
    pub(crate) sometimes: BTreeMap<&'static str, u64>,
}

/// Everything.
pub(crate) struct World {
    /// What kind of world it is.
    pub(crate) plan: Plan,
    /// What is drawn.
    pub(crate) dice: Dice,
    /// The true time.
    pub(crate) clock: Clock,
    /// The keys that all nodes share.
    pub(crate) keys: Keys,
    /// Everything that is under way.
    pub(crate) tasks: TaskTracker,
    /// The records.
    pub(crate) records: MemoryStore,
    /// Who carries messages.
    pub(crate) companies: Vec<Company>,
    machines: Vec<Mutex<Machine>>,
    sessions: Mutex<Vec<Session>>,
    inboxes: Mutex<BTreeMap<String, Vec<Text>>>,
    history: Mutex<History>,
    oracle: Mutex<Oracle>,
    sometimes: Mutex<BTreeMap<&'static str, u64>>,
    down_until: AtomicI64,
    disturbed_at: AtomicI64,
    /// The lives that are at a request, once for each.
    at_work: Mutex<Vec<Arc<Life>>>,
    healing: AtomicBool,
    /// What the store remembers of time, for the one machine.
    anchor: Mutex<Anchor>,
    broken: CancellationToken,
}

pub(crate) fn shared_keys() -> Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        Keys::new(keys::load_or_make(&path, BEGINNING, &mut SeededChance(1)).unwrap())
    };
    KEYS.get_or_init(make).clone()
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Report {
    PANICS.set(Some(Vec::new()));
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    let mut report = runtime.block_on(async {
        let world = World::new(seed);
        tokio::select! {
            biased;
            () = world.broken.cancelled() => {}
            () = world.live() => {}
        }
        world.report(seed)
    });
    drop(runtime);
    let panics = PANICS.take().unwrap_or_default();
    report.breaches.extend(panics.iter().map(|told| format!("{}: {told}", Invariant::NoPanic)));
    report
}

/// A request that a node is at.
pub(crate) struct AtWork(Arc<World>, Arc<Life>);

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut at_work = self.0.at_work.lock().unwrap();
        let place = at_work.iter().position(|life| Arc::ptr_eq(life, &self.1));
        if let Some(place) = place {
            at_work.swap_remove(place);
        }
    }
}

impl World {
    fn new(seed: u64) -> Arc<Self> {
        let dice = Dice::new(seed);
        let plan = Plan::draw(&dice);
        let clock = Clock::following_tokio(BEGINNING);
        let keys = shared_keys();
        let world = Self {
            records: MemoryStore::new(clock.clone()),
            companies: (0..plan.companies.len()).map(Company::new).collect(),
            machines: (0..plan.nodes).map(|_| Machine::new()).collect(),
            oracle: Mutex::new(Oracle::new(plan.clone(), keys.clone())),
            tasks: TaskTracker::new(),
            sessions: Mutex::default(),
            inboxes: Mutex::default(),
            history: Mutex::default(),
            sometimes: Mutex::default(),
            down_until: AtomicI64::new(0),
            disturbed_at: AtomicI64::new(0),
            at_work: Mutex::default(),
            healing: AtomicBool::new(false),
            // A store writes it down when it is opened.
            anchor: Mutex::new(Anchor { at: BEGINNING, uptime: 0, boot: "boot".to_owned() }),
            broken: CancellationToken::new(),
            plan,
            dice,
            clock,
            keys,
        };
        Arc::new(world)
    }

    /// The whole story: acts with faults, quiet between them, then everything is mended, and must
    /// come to its end.
    async fn live(self: &Arc<Self>) {
        self.say(format_args!("{:?}", self.plan));
        for node in 0..self.plan.nodes {
            self.boot(node);
        }
        self.tasks.spawn(Arc::clone(self).watch());
        let chaos = CancellationToken::new();
        for act in 0..self.plan.acts {
            let faults = self.tasks.spawn(Arc::clone(self).chaos(chaos.child_token()));
            self.act().await;
            faults.abort();
            self.settle_down().await;
            if act + 1 < self.plan.acts {
                self.let_time_pass(quiet(&self.dice, self.plan.guesser)).await;
            }
        }
        self.healing.store(true, Ordering::SeqCst);
        self.mend();
        tokio::time::sleep(millis(HEALED_AFTER.unsigned_abs())).await;
        self.mend();
        self.judge(Oracle::all_has_ended);
        self.let_time_pass(10 * MINUTE).await;
        self.epilogue().await;
    }

    /// Waits until nothing is owed, or for the longest that anything may take.
    async fn settle_down(&self) {
        for _ in 0..40 {
            // What follows an end (a gap given back) is under way for a moment longer.
            tokio::time::sleep(millis(5000)).await;
            if self.is_idle() && self.nobody_is_stopped() {
                tokio::time::sleep(millis(5000)).await;
                return;
            }
        }
    }

    /// Lets a time pass in which nothing can happen; where something is owed yet, second by second.
    pub(crate) async fn let_time_pass(&self, length: Millis) {
        self.say(format_args!("-- {length} ms go by"));
        if self.is_idle() && self.nobody_is_stopped() {
            tokio::time::advance(millis(length.unsigned_abs())).await;
        } else {
            tokio::time::sleep(millis(length.min(10 * MINUTE).unsigned_abs())).await;
        }
    }

    fn mend(self: &Arc<Self>) {
        self.down_until.store(0, Ordering::SeqCst);
        for company in &self.companies {
            company.set_mood(Mood::Fine);
        }
        self.mend_nodes();
        self.say(format_args!("-- all is mended"));
    }

    /// Once a second: what is owed is not owed for too long.
    async fn watch(self: Arc<Self>) {
        let mut left_out = vec![false; self.plan.nodes * self.companies.len()];
        loop {
            tokio::time::sleep(millis(1000)).await;
            let now = self.clock.now();
            if !self.anybody_is_awake() || self.store_is_down() {
                self.disturbed();
            }
            let healthy_since = self.disturbed_at.load(Ordering::SeqCst);
            self.judge(|oracle| oracle.nothing_is_overdue(now, healthy_since));
            for (place, was) in left_out.iter_mut().enumerate() {
                let (node, company) = (place / self.companies.len(), place % self.companies.len());
                let is = self.router(node).is_some_and(|router| router.is_left_out(company));
                if is != std::mem::replace(was, is) {
                    self.saw(if is { "breaker_opened" } else { "breaker_closed" });
                }
            }
        }
    }

    fn report(&self, seed: u64) -> Report {
        let history = self.history.lock().unwrap().clone();
        let breaches = self.oracle.lock().unwrap().breaches();
        let sometimes = self.sometimes.lock().unwrap().clone();
        Report { seed, history, breaches, sometimes }
    }

    /// Writes a line into the history.
    pub(crate) fn say(&self, line: Arguments<'_>) {
        self.history.lock().unwrap().add(self.uptime(), line);
    }

    /// An interesting situation came up.
    pub(crate) fn saw(&self, event: &'static str) {
        debug_assert!(crate::sometimes::is_known(event), "{event} is in the list");
        *self.sometimes.lock().unwrap().entry(event).or_default() += 1;
    }

    /// Asks the oracle, and ends the simulation if something is broken.
    pub(crate) fn judge<T>(&self, ask: impl FnOnce(&mut Oracle) -> T) -> T {
        let mut oracle = self.oracle.lock().unwrap();
        let answer = ask(&mut oracle);
        let (seen, breaches) = (oracle.take_seen(), oracle.new_breaches());
        drop(oracle);
        for event in seen {
            self.saw(event);
        }
        for breach in breaches {
            self.say(format_args!("BROKEN {breach}"));
            self.history.lock().unwrap().mark_breach();
            self.broken.cancel();
        }
        answer
    }

    /// How long this world has been there.
    pub(crate) fn uptime(&self) -> Millis {
        self.clock.now() - BEGINNING
    }

    /// A machine.
    pub(crate) fn machine(&self, node: usize) -> MutexGuard<'_, Machine> {
        self.machines[node].lock().unwrap()
    }

    /// Whether all faults are over.
    pub(crate) fn is_healing(&self) -> bool {
        self.healing.load(Ordering::SeqCst)
    }

    /// Whether the store stumbles here.
    pub(crate) fn stumbles(&self, of: impl Fn(&Stumbles) -> u64) -> bool {
        !self.is_healing() && self.dice.chance(of(&self.plan.stumbles))
    }

    /// Whether a node dies at this step.
    pub(crate) fn dies_here(&self) -> bool {
        !self.is_healing() && self.plan.crashes > 0 && self.dice.chance(self.plan.crashes)
    }

    /// Whether a node is stopped at this step.
    pub(crate) fn stops_here(&self) -> bool {
        !self.is_healing() && self.plan.stalls > 0 && self.dice.chance(self.plan.stalls)
    }

    /// Whether the store is gone.
    pub(crate) fn store_is_down(&self) -> bool {
        self.clock.now() < self.down_until.load(Ordering::SeqCst)
    }

    /// The store is gone for so long.
    pub(crate) fn outage(&self, length: Millis) {
        self.down_until.store(self.clock.now() + length, Ordering::SeqCst);
        self.saw("outage");
        self.say(format_args!("the store is gone for {length} ms"));
    }

    /// Something went wrong just now: what is owed may take longer.
    pub(crate) fn disturbed(&self) {
        self.disturbed_until(self.clock.now());
    }

    /// The same until then.
    pub(crate) fn disturbed_until(&self, at: Millis) {
        self.disturbed_at.fetch_max(at, Ordering::SeqCst);
    }

    /// What the store last wrote down of time.
    pub(crate) fn anchor(&self) -> Anchor {
        self.anchor.lock().unwrap().clone()
    }

    /// A commit reaches the store.
    pub(crate) async fn land(&self, life: &Life, commit: Commit, late: bool) -> bool {
        let keys: Vec<_> = commit.writes.iter().map(|(key, _)| key.clone()).collect();
        let before = self.records.read(&keys).await.unwrap();
        let landed = self.records.commit(commit.clone()).await.unwrap();
        let (now, uptime) = (self.clock.now(), self.uptime());
        let told = crate::oracle::told(&commit);
        if landed {
            *self.anchor.lock().unwrap() = Anchor { at: now, uptime, boot: "boot".to_owned() };
        } else {
            self.saw("conflict");
        }
        let word = if landed { "commits" } else { "is too late with" };
        self.say(format_args!("n{} {word}{told}", life.node));
        if landed {
            if late {
                self.saw("unknown_landed");
            }
            if !life.is_alive() {
                self.saw("late_landing");
            }
            let by = (life.node, life.number);
            self.judge(|oracle| oracle.landed(now, by, &commit, &before));
        }
        landed
    }

    /// A node begins to call a company.
    pub(crate) async fn call_begins(
        &self,
        life: &Life,
        company: usize,
        message: &Message,
    ) -> usize {
        let node_now = life.clock.now();
        let name = &self.companies[company].name;
        let id = message.reference.parse();
        let found = match id {
            Ok(id) => self.records.read(&[records::delivery(&id)]).await.unwrap().remove(0),
            Err(_) => None,
        };
        let last = &message.reference[message.reference.len() - 6..];
        self.say(format_args!("n{} calls {name} about d{last}", life.node));
        if self.router(life.node).is_some_and(|router| router.is_left_out(company)) {
            self.saw("tried_while_left_out");
        }
        let deduplicates = self.plan.companies[company].deduplicates;
        let begun = Begun { node_now, company, deduplicates, message, record: found };
        self.judge(|oracle| oracle.call_begins(&begun))
    }

    /// It has answered.
    pub(crate) fn call_ends(&self, life: &Life, reference: &str, call: usize, outcome: &Outcome) {
        let last = &reference[reference.len() - 6..];
        self.say(format_args!("n{} is answered about d{last}: {}", life.node, outcome.class));
        self.judge(|oracle| oracle.call_ends(reference, call, outcome.class));
    }

    /// A company has taken a message.
    pub(crate) fn message_taken(&self, company: usize, reference: &str, call: usize) {
        let now = self.clock.now();
        self.judge(|oracle| oracle.taken(now, company, reference, call));
    }

    /// A message reached a phone.
    pub(crate) fn arrived(&self, phone: &str, text: Text) {
        self.inboxes.lock().unwrap().entry(phone.to_owned()).or_default().push(text);
    }

    /// A verification that clients know of.
    pub(crate) fn remember(&self, session: Session) {
        self.sessions.lock().unwrap().push(session);
    }

    /// One of the newest of them.
    pub(crate) fn some_session(&self) -> Option<Session> {
        let sessions = self.sessions.lock().unwrap();
        let newest = &sessions[sessions.len().saturating_sub(6)..];
        (!newest.is_empty()).then(|| self.dice.pick(newest).clone())
    }

    /// The messages of a phone, oldest first.
    pub(crate) fn inbox(&self, phone: &str) -> Vec<Text> {
        self.inboxes.lock().unwrap().get(phone).cloned().unwrap_or_default()
    }

    /// A node is at a request; what is given back ends that.
    pub(crate) fn at_work(self: &Arc<Self>, life: &Arc<Life>) -> AtWork {
        self.at_work.lock().unwrap().push(Arc::clone(life));
        AtWork(Arc::clone(self), Arc::clone(life))
    }

    /// Whether nothing is owed, and no node that lives is at a request.
    fn is_idle(&self) -> bool {
        let mut at_work = self.at_work.lock().unwrap();
        at_work.retain(|life| life.is_alive());
        at_work.is_empty() && !self.oracle.lock().unwrap().owes()
    }
}
