//! Real servers for tests: on free ports, in temporary folders, each ended by its process id.
//! Used by the store's own tests and by `tests/it`.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long servers may take until they serve, on a busy machine.
const READY: Duration = Duration::from_secs(30);

/// How servers want to be spoken to; by default in the clear and by everybody. The tests' own
/// `redis-cli` comes in the clear in any case.
#[derive(Clone, Default)]
pub(crate) struct Manner {
    /// Settings of every server.
    pub(crate) servers: Vec<String>,
    /// Lines in the file of every Sentinel.
    pub(crate) sentinels: String,
    /// Whether there is a second port, which speaks TLS.
    pub(crate) tls: bool,
    /// How `redis-cli` says who it is.
    pub(crate) login: Vec<String>,
}

impl Manner {
    fn scheme(&self) -> &'static str {
        if self.tls { "rediss" } else { "redis" }
    }
}

/// One `redis-server`, also as a Sentinel.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) port: u16,
    /// Where it listens for TLS.
    tls_port: Option<u16>,
    login: Vec<String>,
    program: String,
    arguments: Vec<String>,
    folder: TempDir,
    child: Option<Child>,
}

/// The server's program: Redis, or what this environment variable names, such as Valkey's.
#[expect(clippy::disallowed_methods, reason = "what tests run is not configuration")]
fn program() -> String {
    std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts one that keeps an append-only file, with these settings besides.
    pub(crate) fn start(settings: &[&str]) -> Self {
        Self::start_as(&Manner::default(), settings)
    }

    /// The same, spoken to in another manner.
    pub(crate) fn start_as(manner: &Manner, settings: &[&str]) -> Self {
        let mut arguments: Vec<String> =
            ["--appendonly", "yes", "--save", "", "--repl-diskless-sync-delay", "0"]
                .map(str::to_owned)
                .to_vec();
        arguments.extend(settings.iter().map(|&setting| setting.to_owned()));
        arguments.extend(manner.servers.iter().cloned());
        Self::launch(manner, arguments, tempfile::tempdir().unwrap())
    }

    fn launch(manner: &Manner, mut arguments: Vec<String>, folder: TempDir) -> Self {
        let (port, login, program) = (free_port(), manner.login.clone(), program());
        let tls_port = manner.tls.then(free_port);
        if let Some(port) = tls_port {
            arguments.extend(["--tls-port".to_owned(), port.to_string()]);
        }
        let mut server = Self { port, tls_port, login, program, arguments, folder, child: None };
        server.restart();
        server
    }

    /// Where others find it.
    fn place(&self) -> String {
        format!("127.0.0.1:{}", self.seen())
    }

    /// The port that others are to use.
    fn seen(&self) -> u16 {
        self.tls_port.unwrap_or(self.port)
    }

    /// Starts it again with the files that it left, and waits until it serves.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let mut command = Command::new(&self.program);
        let spawned = command
            .args(&self.arguments)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let hint = format!("this test needs {}: apt-get install it, or run ./check", self.program);
        self.child = Some(spawned.expect(&hint));
        wait_until("a server answers", || self.cli(&["PING"]).contains("PONG"));
    }

    /// Its URL for `store.url`.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls_port.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://{}", self.place())
    }

    /// Asks it something with `redis-cli`.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        let port = self.port.to_string();
        let asked = command.args(["-p", &port]).args(&self.login).args(arguments).output();
        let asked = asked.expect("this test needs redis-cli: apt-get install redis-tools");
        String::from_utf8_lossy(&asked.stdout).trim().to_owned()
    }

    /// Sends it a signal by its process id, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Ends it as a power cut would, but for what the kernel still writes.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for something that is bound to come.
pub(crate) fn wait_until(what: &str, comes: impl Fn() -> bool) {
    let began = Instant::now();
    while !comes() {
        assert!(began.elapsed() < READY, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A master, two replicas, and three sentinels that watch over them.
pub(crate) struct Watched {
    /// The servers, at first the master.
    servers: Vec<Server>,
    sentinels: Vec<Server>,
    scheme: &'static str,
}

impl Watched {
    /// Ends the first master.
    pub(crate) fn kill_master(&mut self) {
        self.servers[0].kill();
    }

    /// Starts them all.
    pub(crate) fn start() -> Self {
        Self::start_as(&Manner::default())
    }

    /// The same, spoken to in another manner.
    pub(crate) fn start_as(manner: &Manner) -> Self {
        let servers: Vec<_> = (0..3).map(|_| Server::start_as(manner, &[])).collect();
        let master = servers[0].seen().to_string();
        for replica in &servers[1..] {
            replica.cli(&["REPLICAOF", "127.0.0.1", &master]);
        }
        wait_until("replicas follow", || {
            servers[0].cli(&["INFO", "replication"]).matches("state=online").count() == 2
        });
        let sentinels: Vec<_> = (0..3).map(|_| Self::sentinel(&master, manner)).collect();
        wait_until("sentinels know each other and the replicas", || {
            sentinels.iter().all(|sentinel| {
                let known = sentinel.cli(&["INFO", "sentinel"]);
                known.contains("slaves=2,sentinels=3") && known.contains("status=ok")
            })
        });
        Self { servers, sentinels, scheme: manner.scheme() }
    }

    fn sentinel(master: &str, manner: &Manner) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "sentinel monitor main 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n\
             {}",
            manner.sentinels
        );
        std::fs::write(folder.path().join("sentinel.conf"), text).unwrap();
        let arguments = ["sentinel.conf", "--sentinel"].map(str::to_owned).to_vec();
        Server::launch(manner, arguments, folder)
    }

    /// Their URL for `store.url`.
    pub(crate) fn url(&self) -> String {
        let places: Vec<_> = self.sentinels.iter().map(Server::place).collect();
        format!("{}+sentinel://{}/main", self.scheme, places.join(","))
    }
}

/// Three masters, each with a replica.
pub(crate) struct Cluster {
    /// The servers, at first the masters.
    pub(crate) servers: Vec<Server>,
    scheme: &'static str,
}

impl Cluster {
    /// Starts them all.
    pub(crate) fn start() -> Self {
        Self::start_as(&Manner::default())
    }

    /// The same, spoken to in another manner.
    pub(crate) fn start_as(manner: &Manner) -> Self {
        let buses: Vec<_> = (0..6).map(|_| free_port().to_string()).collect();
        let start = |bus: &String| {
            let timeout = ["--cluster-node-timeout", "1500", "--cluster-port", bus];
            Server::start_as(manner, &[&["--cluster-enabled", "yes"], &timeout[..]].concat())
        };
        let servers: Vec<_> = buses.iter().map(start).collect();
        for (at, ends) in [["0", "5460"], ["5461", "10922"], ["10923", "16383"]].iter().enumerate()
        {
            servers[at].cli(&["CLUSTER", "ADDSLOTSRANGE", ends[0], ends[1]]);
        }
        for (at, server) in servers.iter().enumerate() {
            server.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
        }
        for (server, bus) in servers.iter().zip(&buses).skip(1) {
            servers[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &server.seen().to_string(), bus]);
        }
        wait_until("nodes know each other", || {
            let knows = |server: &Server| {
                let nodes = server.cli(&["CLUSTER", "NODES"]);
                nodes.lines().count() == 6 && !nodes.contains("handshake")
            };
            servers.iter().all(knows)
        });
        for (at, replica) in servers[3..].iter().enumerate() {
            let master = servers[at].cli(&["CLUSTER", "MYID"]);
            wait_until("a replica follows", || {
                replica.cli(&["CLUSTER", "REPLICATE", &master]);
                replica.cli(&["INFO", "replication"]).contains("master_link_status:up")
            });
        }
        wait_until("the cluster is whole", || {
            servers.iter().all(|it| it.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
        });
        Self { servers, scheme: manner.scheme() }
    }

    /// Their URL for `store.url`.
    pub(crate) fn url(&self) -> String {
        let places: Vec<_> = self.servers.iter().map(Server::place).collect();
        format!("{}+cluster://{}", self.scheme, places.join(","))
    }
}
