//! A server of our own for each test: the real binary on a free port, its store in a temporary
//! folder, ended by its own process id.

use std::fmt::Debug;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a server may take until it is ready, on a busy machine.
const READY: Duration = Duration::from_secs(20);

/// A server that can be killed and started again on the same store.
pub(crate) struct World {
    /// Where everything of this server lies.
    pub folder: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
    /// A client without redirects.
    pub client: Client,
    environment: Vec<(&'static str, String)>,
    child: Option<Child>,
    /// Lines of the table `[store]` besides the path.
    store: String,
}

/// The configuration that most tests use: the developer's door, one simulated provider, one
/// tenant, and an address limit out of the way.
pub(crate) const USUAL: &str = r#"
[dev]
enabled = true
[limits]
address_per_hour = 4000000000
[[providers]]
name = "sim"
kind = "simulated"
[[tenants]]
id = "shop"
secret_key = "sk_shop_secret"
publishable_key = "pk_shop_public"
origins = ["https://shop.example"]
purposes = ["login", "pay"]
[[tenants]]
id = "bank"
secret_key = "sk_bank_secret"
challenge = "always"
purposes = ["transfer"]
"#;

/// A port that is free at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl World {
    /// Starts a server with this configuration (without `listen` and `[store]`).
    pub(crate) async fn start(config: &str) -> Self {
        Self::launch(config, "", |_| Vec::new()).await
    }

    /// The same with these lines in `[store]`.
    pub(crate) async fn start_on(config: &str, store: &str) -> Self {
        Self::launch(config, store, |_| Vec::new()).await
    }

    /// Starts a server with these environment variables, which may name files in its folder.
    pub(crate) async fn start_with(
        config: &str,
        environment: impl FnOnce(&Path) -> Vec<(&'static str, String)>,
    ) -> Self {
        Self::launch(config, "", environment).await
    }

    async fn launch(
        config: &str,
        store: &str,
        environment: impl FnOnce(&Path) -> Vec<(&'static str, String)>,
    ) -> Self {
        // The client is built without a TLS provider of its own; the second time says no.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_mins(1))
            .build()
            .unwrap();
        let (environment, store) = (environment(folder.path()), store.to_owned());
        let mut world = Self { folder, address, client, environment, child: None, store };
        world.write_config(config);
        world.restart().await;
        world
    }

    /// Writes another configuration; it holds from the next start on.
    pub(crate) fn write_config(&self, config: &str) {
        let (address, store) = (self.address, self.store());
        let text = format!(
            "listen = \"{address}\"\npublic_url = \"http://{address}\"\n\
             {}\n[store]\npath = \"{}\"\n{}\n",
            config.trim_start(),
            store.display(),
            self.store
        );
        // Top-level keys of `config` must come before its first table, as everywhere in TOML.
        std::fs::write(self.config_path(), text).unwrap();
    }

    /// The configuration file.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("countersign.toml")
    }

    /// The store's file.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("countersign.db")
    }

    /// What the server has logged, over all its lives.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A command of the binary with this configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// Starts the server (again) and waits until it is ready.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let mut options = std::fs::OpenOptions::new();
        let log = options.create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = self.command(&["serve", "--config", "countersign.toml"]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let began = Instant::now();
        loop {
            let ready = self.get("/health/ready").timeout(Duration::from_secs(2)).send().await;
            if ready.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return;
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {ended:?}\n{}", self.log());
            assert!(began.elapsed() < READY, "not ready\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the server as a power cut would (SIGKILL).
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends the process a signal by its id, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits until the process has ended, and takes its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.take().unwrap().wait().unwrap().code()
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A GET.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    /// A POST of JSON with a key.
    pub(crate) fn post(&self, key: &str, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(self.url(path)).bearer_auth(key).json(body)
    }

    /// The answer to a picture of the seed's door.
    pub(crate) async fn image_answer(&self, uuid: &str) -> String {
        let answer = self.get(&format!("/dev/image_codes/{uuid}")).send().await.unwrap();
        body(answer).await["answer"].as_str().unwrap().to_owned()
    }

    /// Starts a verification with the shop's secret key. On a machine that has no time to spare the
    /// store is late now and then; then it is repeated, as a client is told to.
    pub(crate) async fn start_verification(&self, phone: &str) -> Value {
        static STARTS: AtomicU64 = AtomicU64::new(0);
        let key = format!("start-{}", STARTS.fetch_add(1, Ordering::Relaxed));
        let began = Instant::now();
        loop {
            let asked = self.post("sk_shop_secret", "/v1/verifications", &json!({"phone": phone}));
            let started = asked.header("idempotency-key", &key).send().await.unwrap();
            let late = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::CONFLICT];
            if late.contains(&started.status()) && began.elapsed() < Duration::from_secs(20) {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
            assert_eq!(started.status(), StatusCode::CREATED, "{}", body(started).await);
            return body(started).await;
        }
    }

    /// The messages that the simulated provider delivered to a phone (E.164), newest first, as
    /// soon as there are so many.
    pub(crate) async fn messages(&self, phone: &str, at_least: usize) -> Vec<Value> {
        let path = format!("/dev/messages?limit=100000&phone={}", phone.replace('+', "%2B"));
        for _ in 0..500 {
            let found = body(self.get(&path).send().await.unwrap()).await;
            let found = found.as_array().unwrap().clone();
            if found.len() >= at_least {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("fewer than {at_least} messages for {phone}\n{}", self.log());
    }

    /// The newest code that a phone got.
    pub(crate) async fn code(&self, phone: &str) -> String {
        self.messages(phone, 1).await[0]["code"].as_str().unwrap().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A body as JSON; `null` if it is none.
pub(crate) async fn body(response: Response) -> Value {
    let text = response.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// How much a test does: as usual, unless this environment variable says otherwise.
#[expect(clippy::disallowed_methods, reason = "how long a test runs is not configuration")]
pub(crate) fn times<N: FromStr<Err: Debug>>(name: &str, usual: N) -> N {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// A mainland mobile number that exists, and no other test's: each test takes its own `series`
/// (0 to 999).
pub(crate) fn mobile(series: u32, number: u32) -> String {
    assert!(series < 1000 && number < 100_000);
    format!("138{series:03}{number:05}")
}
