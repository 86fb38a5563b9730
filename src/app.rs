//! The wiring: what is built out of a configuration, what runs, and how it stops.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::chance::OsChance;
use crate::clock::{Clock, DAY, Millis};
use crate::config::{Config, ProviderConfig, StoreConfig};
use crate::dispatcher::{Dispatcher, HANDOFFS_MAX};
use crate::http::auth::Tenants;
use crate::http::{self, Dev, Doors, receipts};
use crate::keys::{self, Keys, Ring};
use crate::providers::kind::Parts;
use crate::providers::simulated::{INBOX_MAX, Simulator};
use crate::providers::{Provider, Providers, transport};
use crate::routing::Router;
use crate::routing::prices::Prices;
use crate::store::redis::RedisStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Draft, Key, MARK, Store, transact_once};
use crate::third_party::settings::Parts as ThirdPartyParts;
use crate::third_party::{Member, ThirdParties};
use crate::verifier::caps::Caps;
use crate::verifier::{Handoff, Verifier};

/// How long requests and calls under way may take to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(9);
/// How often the metrics are tidied and the key file is looked at.
const UPKEEP: Duration = Duration::from_secs(2);
/// How long a shared store remembers whose keys it is used with, from each start of a node on.
const MARK_KEPT: Millis = 3650 * DAY;

/// A server that is built and listens, and has not begun.
pub struct App {
    listener: TcpListener,
    doors: Doors,
    dispatcher: Dispatcher,
    handoffs: mpsc::Receiver<Handoff>,
    verifier: Verifier,
    caps: Arc<Caps>,
    keys: Keys,
    config: Config,
    metrics: PrometheusHandle,
}

impl App {
    /// Opens the store, reads the keys, makes the providers, and binds the port.
    pub async fn build(config: Config, metrics: PrometheusHandle) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(config.listen).await.with_context(|| {
            format!("cannot listen on {}: is another server there?", config.listen)
        })?;
        anyhow::ensure!(!keys_are_lost(&config), keys_lost_advice(&config));
        // Before the store: one that was made without keys is refused from then on.
        let wall = Clock::machine().wall();
        let ring = keys::load_or_make(&config.key_path, wall, &mut OsChance)?;
        let (store, clock) = open(&config).await?;
        if matches!(config.store, StoreConfig::Redis(..)) {
            same_keys(&store, &clock, &ring, &config.key_path).await?;
        }
        let keys = Keys::new(ring);
        let simulator = Simulator::with_inbox(if config.dev { INBOX_MAX } else { 0 });
        let simulator = Arc::new(simulator);
        let providers = providers(&config, &simulator, &clock, &keys.ring())?;
        let (sender, handoffs) = mpsc::channel(HANDOFFS_MAX);
        let verifier = Verifier::new(
            Arc::clone(&store),
            clock.clone(),
            keys.clone(),
            config.policy.clone(),
            &config.public_url,
            sender,
        )
        .with_exempt(config.exempt.clone())
        .with_audiences(config.audiences());
        let (routes, prices) = (config.routes.clone(), prices(&config));
        let router = Router::new(Arc::clone(&providers), routes, clock.clone());
        let router = router.with_prices(prices.clone());
        let router = match config.adaptive {
            Some(worth) => router.with_adaptive(worth),
            None => router,
        };
        let router = Arc::new(router);
        let scopes = config.caps.scopes.clone();
        let caps = Caps::new(scopes, prices, Arc::clone(&store), clock.clone(), &keys);
        let caps = Arc::new(caps);
        let third_parties = ThirdParties::new(third_parties(&config, verifier.clock())?);
        let verifier = verifier
            .with_router(Arc::clone(&router))
            .with_caps(Arc::clone(&caps))
            .with_third_parties(third_parties);
        let dispatcher =
            Dispatcher::new(Arc::clone(&store), clock, keys.clone(), Arc::clone(&providers))
                .with_texts(config.texts.clone())
                .with_router(router)
                .with_caps(Arc::clone(&caps));
        for told in config.caps.words() {
            tracing::info!(cap = told, "what may go out");
        }
        let settings = settings(&config, simulator);
        let (verbs, metrics_handle) = (verifier.clone(), metrics.clone());
        let inner =
            http::Inner { verifier: verbs, store, providers, metrics: metrics_handle, settings };
        let doors = Doors::new(inner);
        Ok(Self { listener, doors, dispatcher, handoffs, verifier, caps, keys, config, metrics })
    }

    /// Where it listens.
    pub fn address(&self) -> anyhow::Result<std::net::SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Works until it is stopped. Then it takes no more connections, finishes what is under way,
    /// and ends within ten seconds; what is not finished by then waits in the store.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let doors_closed = CancellationToken::new();
        let providers = Arc::clone(&self.doors.providers);
        let serving = http::server::serve(self.listener, http::router(self.doors), stop.clone());
        let last_out = doors_closed.clone();
        tasks.spawn(async move {
            serving.await;
            last_out.cancel();
        });
        // The dispatcher goes on until the last request is answered: it may accept a message.
        tasks.spawn(self.dispatcher.clone().learn_what_is_entered(stop.clone()));
        tasks.spawn(self.caps.keep(doors_closed.clone()));
        tasks.spawn(self.dispatcher.clone().run(self.handoffs, doors_closed));
        tasks.spawn(self.dispatcher.pull_receipts(self.verifier, stop.clone()));
        tasks.spawn(upkeep(self.keys, self.config, self.metrics, stop.clone()));
        // Whichever ends first, half a server is worse than none.
        let first = tasks.join_next().await;
        if !stop.is_cancelled() {
            tracing::error!(?first, "a part of the server ended by itself");
        }
        stop.cancel();
        let drained =
            tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!("not everything finished in time; the rest waits in the store");
        }
        for provider in providers.iter() {
            provider.close().await;
        }
    }
}

/// Opens the store, with the clock that belongs to it.
async fn open(config: &Config) -> anyhow::Result<(Arc<dyn Store>, Clock)> {
    match &config.store {
        StoreConfig::Embedded(path) => {
            let opened = SqliteStore::open(path, Clock::resumed)?;
            let clock = opened.clock();
            Ok((Arc::new(opened), clock))
        }
        StoreConfig::Redis(_, settings) => {
            let clock = Clock::machine();
            let opened = RedisStore::open((**settings).clone(), clock.clone()).await?;
            Ok((Arc::new(opened), clock))
        }
    }
}

/// Nodes with different keys would not see each other's limits, so a store that is shared
/// remembers whose keys it is used with.
async fn same_keys(
    store: &Arc<dyn Store>,
    clock: &Clock,
    ring: &Ring,
    file: &Path,
) -> anyhow::Result<()> {
    let (key, mark) = (Key::new(0, MARK, "keys"), hex::encode(ring.fingerprint("mark", b"")));
    let kept_until = clock.now() + MARK_KEPT;
    let ours = transact_once(store, vec![key.clone()], move |draft: &mut Draft| {
        let known: Option<String> = draft.get(&key)?;
        let ours = known.is_none_or(|known| known == mark);
        if ours {
            draft.put(&key, &mark, kept_until);
        }
        Ok(ours)
    });
    anyhow::ensure!(
        ours.await?,
        "{}: other nodes use this store with other keys. Copy the key file of one of them to here",
        file.display()
    );
    Ok(())
}

/// Whether the key file is missing, though the store was used before: a new one would make
/// nothing of what is in there.
pub fn keys_are_lost(config: &Config) -> bool {
    let StoreConfig::Embedded(path) = &config.store else { return false };
    SqliteStore::was_made(path) && !config.key_path.exists()
}

/// What to do when the key file is missing.
pub fn keys_lost_advice(config: &Config) -> String {
    format!(
        "{}: the key file is missing, though the store was used before. Bring it back from a \
         backup; or, if limits, codes and deliveries may be forgotten, remove the store and its \
         .lock",
        config.key_path.display()
    )
}

fn providers(
    config: &Config,
    simulator: &Arc<Simulator>,
    clock: &Clock,
    ring: &Ring,
) -> anyhow::Result<Providers> {
    let client = transport::client()?;
    let make = |configured: &ProviderConfig| {
        let receipts_url = reachable(&config.public_url)
            .then(|| receipts::url(&config.public_url, ring, configured.name()));
        let (client, clock) = (client.clone(), clock.clone());
        configured.make(&Parts { client, clock, simulator: Arc::clone(simulator), receipts_url })
    };
    Ok(config.providers.iter().map(make).collect())
}

/// The vendors whose own challenges are taken, ready to be asked.
pub fn third_parties(config: &Config, clock: &Clock) -> anyhow::Result<Vec<Member>> {
    let parts = ThirdPartyParts { client: transport::client()?, clock: clock.clone() };
    Ok(config.third_parties.iter().map(|one| Member::new(one.clone(), &parts)).collect())
}

fn prices(config: &Config) -> Prices {
    Prices::new(config.providers.iter().map(ProviderConfig::price).collect())
}

/// Whether others may reach this URL. Vendors refuse a message whose receipts would go to a
/// loopback address.
fn reachable(url: &str) -> bool {
    let host = reqwest::Url::parse(url).ok();
    let host = host.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host != "localhost" && !address.is_ok_and(|address| address.is_loopback())
}

/// One provider by itself, for `send-test` and `doctor`.
pub fn provider(config: &ProviderConfig, clock: &Clock) -> anyhow::Result<Arc<dyn Provider>> {
    let (client, clock) = (transport::client()?, clock.clone());
    let parts = Parts { client, clock, simulator: Arc::default(), receipts_url: None };
    Ok(config.make(&parts))
}

fn settings(config: &Config, simulator: Arc<Simulator>) -> http::Settings {
    let mut tenants = Tenants::default();
    for tenant in &config.tenants {
        let secret = tenant.secret_key.expose_secret();
        tenants.add(tenant.tenant.clone(), secret, tenant.publishable_key.as_deref());
    }
    let publishable_key = config.tenants.iter().find_map(|tenant| tenant.publishable_key.clone());
    let seed = config.seed.clone();
    http::Settings {
        phones: config.phones.clone(),
        public_url: config.public_url.clone(),
        proxies: config.proxies.clone(),
        tenants,
        seed,
        dev: config.dev.then_some(Dev { simulator, publishable_key }),
    }
}

/// Takes up rotated keys, and keeps the metrics' memory in bounds.
async fn upkeep(keys: Keys, config: Config, metrics: PrometheusHandle, stop: CancellationToken) {
    let mut every = tokio::time::interval(UPKEEP);
    let names = |keys: &Keys| format!("{:?}", keys.ring());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        metrics.run_upkeep();
        match keys::load(&config.key_path, Clock::machine().wall()) {
            Ok(ring) if format!("{ring:?}") != names(&keys) => {
                tracing::info!(keys = ?ring, "the keys were rotated");
                keys.replace(ring);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the key file cannot be read; the keys in use stay");
            }
        }
    }
}
