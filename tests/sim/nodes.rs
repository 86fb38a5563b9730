//! Nodes: they start, die between any two steps, are stopped for a while, and start anew.
//!
//! A node that dies is not taken apart: it comes to no step any more, so nothing that it does can
//! be seen. Steps are the calls that leave it, to the store and to providers.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use countersign::clock::{Anchor, Clock, MINUTE, Millis, SECOND};
use countersign::dispatcher::{Dispatcher, HANDOFFS_MAX};
use countersign::providers::{Provider, Providers};
use countersign::routing::Router;
use countersign::store::Store;
use countersign::verifier::Verifier;
use tokio_util::sync::CancellationToken;

use crate::millis;
use crate::providers::Line;
use crate::store::NodeStore;
use crate::world::World;

/// How far apart the clocks of a node and of the store may be at a start: what the Redis store
/// holds its nodes to.
const APART_MAX: Millis = 2 * SECOND;

/// One life of a node, from its start to its death.
pub(crate) struct Life {
    /// Which node.
    pub(crate) node: usize,
    /// Which of its lives.
    pub(crate) number: u64,
    /// Its clock.
    pub(crate) clock: Clock,
    dead: AtomicBool,
    /// Until when it is stopped, on the true timeline.
    stopped_until: AtomicI64,
    true_time: Clock,
}

/// A machine that a node runs on.
pub(crate) struct Machine {
    life: Option<Arc<Life>>,
    verifier: Option<Verifier>,
    router: Option<Arc<Router>>,
    stop: CancellationToken,
    /// How far its wall clock was set ahead.
    wall_ahead: Millis,
    lives: u64,
}

impl Life {
    /// A step: the node may die here, and goes no further while it is stopped.
    pub(crate) async fn step(&self, world: &Arc<World>) {
        if world.dies_here() && !self.dead.load(Ordering::SeqCst) {
            world.kill(self.node, "died at a step");
        }
        if world.stops_here() && self.is_alive() {
            world.pause(self.node, i64::try_from(world.dice.between(1000, 40_000)).unwrap());
        }
        self.step_without_harm().await;
    }

    /// A step at which it does not die.
    pub(crate) async fn step_without_harm(&self) {
        loop {
            if self.dead.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            let left = self.stopped_until.load(Ordering::SeqCst) - self.true_time.now();
            if left <= 0 {
                return;
            }
            tokio::time::sleep(millis(left.unsigned_abs())).await;
        }
    }

    /// Whether it has not died.
    pub(crate) fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::SeqCst)
    }

    /// Whether it can do anything now.
    pub(crate) fn is_awake(&self) -> bool {
        let stopped = self.stopped_until.load(Ordering::SeqCst) > self.true_time.now();
        !self.dead.load(Ordering::SeqCst) && !stopped
    }
}

impl Machine {
    /// A machine that was never started.
    pub(crate) fn new() -> Mutex<Self> {
        let (life, verifier, router) = (None, None, None);
        let (stop, wall_ahead, lives) = (CancellationToken::new(), 0, 0);
        Mutex::new(Self { life, verifier, router, stop, wall_ahead, lives })
    }
}

impl World {
    /// Starts a node, if its clock allows it.
    pub(crate) fn boot(self: &Arc<Self>, node: usize) {
        let mut machine = self.machine(node);
        if machine.life.is_some() {
            return;
        }
        let (truth, skew) = (self.clock.now(), self.plan.skews[node]);
        let wall = truth + skew + machine.wall_ahead;
        if !self.plan.is_one_machine() && (wall - truth).abs() > APART_MAX {
            self.saw("start_refused");
            self.say(format_args!("n{node} does not start: its clock is off; somebody sets it"));
            machine.wall_ahead = 0;
            drop(machine);
            self.later(MINUTE / 6, node);
            return;
        }
        // One machine keeps its timeline; of many, each begins from its wall clock.
        let at = if self.plan.is_one_machine() {
            let here = Anchor { at: 0, uptime: self.uptime(), boot: "boot".to_owned() };
            self.anchor().resume(wall, &here)
        } else {
            wall
        };
        machine.lives += 1;
        self.say(format_args!("n{node} starts (life {})", machine.lives));
        let clock = Clock::following_tokio(at);
        clock.jump_wall(wall - at);
        let (dead, stopped_until) = (AtomicBool::new(false), AtomicI64::new(0));
        let true_time = self.clock.clone();
        let life =
            Arc::new(Life { node, number: machine.lives, clock, dead, stopped_until, true_time });
        let stop = CancellationToken::new();
        let (verifier, router) = self.run_node(&life, &stop);
        machine.verifier = Some(verifier);
        machine.router = Some(router);
        machine.life = Some(life);
        machine.stop = stop;
        drop(machine);
        self.disturbed();
    }

    /// The product's own parts, put together as `app` does it.
    fn run_node(
        self: &Arc<Self>,
        life: &Arc<Life>,
        stop: &CancellationToken,
    ) -> (Verifier, Arc<Router>) {
        let store: Arc<dyn Store> =
            Arc::new(NodeStore { world: Arc::clone(self), life: Arc::clone(life) });
        let line = |company| -> Arc<dyn Provider> {
            Arc::new(Line { world: Arc::clone(self), life: Arc::clone(life), company })
        };
        let providers: Providers = (0..self.companies.len()).map(line).collect();
        let (sender, handoffs) = tokio::sync::mpsc::channel(HANDOFFS_MAX);
        let clock = life.clock.clone();
        let routes = self.plan.routes.clone();
        let router = Arc::new(Router::new(Arc::clone(&providers), routes, clock.clone()));
        let chance = countersign::chance::Source::seeded(self.dice.seed());
        let exempt = if self.plan.crowded { vec![] } else { vec!["0.0.0.0/0".parse().unwrap()] };
        let (policy, issuer) = (self.plan.policy.clone(), "https://verify.example");
        let keys = self.keys.clone();
        let verifier =
            Verifier::new(Arc::clone(&store), clock.clone(), keys.clone(), policy, issuer, sender)
                .with_exempt(exempt)
                .with_router(Arc::clone(&router))
                .with_chance(chance.clone());
        let dispatcher = Dispatcher::new(store, clock, keys, providers)
            .with_router(Arc::clone(&router))
            .with_chance(chance);
        self.tasks.spawn(dispatcher.clone().run(handoffs, stop.clone()));
        self.tasks.spawn(dispatcher.pull_receipts(verifier.clone(), stop.clone()));
        (verifier, router)
    }

    /// Kills a node; it is started anew some time later.
    pub(crate) fn kill(self: &Arc<Self>, node: usize, why: &str) {
        let mut machine = self.machine(node);
        let Some(life) = machine.life.take() else { return };
        life.dead.store(true, Ordering::SeqCst);
        (machine.verifier, machine.router) = (None, None);
        drop(machine);
        self.saw("crash");
        self.disturbed();
        self.say(format_args!("n{node} {why}"));
        let pause = i64::try_from(self.dice.mostly_small(60_000)).unwrap();
        self.later(pause, node);
    }

    /// Stops a node for so long; what it does afterwards it does with what it knew before.
    pub(crate) fn pause(&self, node: usize, length: Millis) {
        let machine = self.machine(node);
        let Some(life) = &machine.life else { return };
        life.stopped_until.store(self.clock.now() + length, Ordering::SeqCst);
        drop(machine);
        self.saw("pause");
        self.disturbed_until(self.clock.now() + length);
        self.say(format_args!("n{node} is stopped for {length} ms"));
    }

    /// Stops a node in good order and starts the next release of it.
    pub(crate) fn restart(self: &Arc<Self>, node: usize) {
        let mut machine = self.machine(node);
        let Some(life) = machine.life.take() else { return };
        machine.stop.cancel();
        (machine.verifier, machine.router) = (None, None);
        drop(machine);
        self.saw("restart");
        self.say(format_args!("n{node} is stopped in good order"));
        let world = Arc::clone(self);
        self.tasks.spawn(async move {
            // It finishes what is under way, for nine seconds at most.
            tokio::time::sleep(millis(world.dice.between(100, 9000))).await;
            life.dead.store(true, Ordering::SeqCst);
            world.boot(node);
        });
    }

    /// Sets a node's wall clock.
    pub(crate) fn jump(&self, node: usize, by: Millis) {
        let mut machine = self.machine(node);
        machine.wall_ahead += by;
        if let Some(life) = &machine.life {
            life.clock.jump_wall(by);
        }
        drop(machine);
        self.saw(if by < 0 { "clock_back" } else { "clock_ahead" });
        self.say(format_args!("n{node}'s wall clock jumps by {by} ms"));
    }

    /// Sets all wall clocks right and wakes everybody.
    pub(crate) fn mend_nodes(self: &Arc<Self>) {
        for node in 0..self.plan.nodes {
            let mut machine = self.machine(node);
            machine.wall_ahead = 0;
            if let Some(life) = &machine.life {
                life.stopped_until.store(0, Ordering::SeqCst);
            }
            drop(machine);
            self.boot(node);
        }
        self.disturbed();
    }

    /// The verbs of a node, and its life, if it runs.
    pub(crate) fn verifier(&self, node: usize) -> Option<(Verifier, Arc<Life>)> {
        let machine = self.machine(node);
        machine.verifier.clone().zip(machine.life.clone())
    }

    /// The router of a node, if it runs.
    pub(crate) fn router(&self, node: usize) -> Option<Arc<Router>> {
        self.machine(node).router.clone()
    }

    /// Whether any node can work.
    pub(crate) fn anybody_is_awake(&self) -> bool {
        let awake = |node| self.machine(node).life.as_ref().is_some_and(|life| life.is_awake());
        (0..self.plan.nodes).any(awake)
    }

    /// Whether no node that lives is stopped.
    pub(crate) fn nobody_is_stopped(&self) -> bool {
        let fine = |node| self.machine(node).life.as_ref().is_none_or(|life| life.is_awake());
        (0..self.plan.nodes).all(fine)
    }

    fn later(self: &Arc<Self>, pause: Millis, node: usize) {
        let world = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::time::sleep(millis(pause.unsigned_abs())).await;
            world.boot(node);
        });
    }
}
