//! Real servers for tests: on free ports, in temporary folders, each ended by its process id.
//! Used by the store's own tests and by `tests/it`.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long servers may take until they serve, on a busy machine.
const READY: Duration = Duration::from_secs(30);

/// One `redis-server`, also as a Sentinel.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) port: u16,
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
        let mut arguments: Vec<String> =
            ["--appendonly", "yes", "--save", "", "--repl-diskless-sync-delay", "0"]
                .map(str::to_owned)
                .to_vec();
        arguments.extend(settings.iter().map(|&setting| setting.to_owned()));
        Self::launch(program(), free_port(), arguments, tempfile::tempdir().unwrap())
    }

    fn launch(program: String, port: u16, arguments: Vec<String>, folder: TempDir) -> Self {
        let mut server = Self { port, program, arguments, folder, child: None };
        server.restart();
        server
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
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Asks it something with `redis-cli`.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        let port = self.port.to_string();
        let asked = command.args(["-p", &port]).args(arguments).output();
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
}

impl Watched {
    /// Ends the first master.
    pub(crate) fn kill_master(&mut self) {
        self.servers[0].kill();
    }

    /// Starts them all.
    pub(crate) fn start() -> Self {
        let servers: Vec<_> = (0..3).map(|_| Server::start(&[])).collect();
        let master = servers[0].port.to_string();
        for replica in &servers[1..] {
            replica.cli(&["REPLICAOF", "127.0.0.1", &master]);
        }
        wait_until("replicas follow", || {
            servers[0].cli(&["INFO", "replication"]).matches("state=online").count() == 2
        });
        let sentinels: Vec<_> = (0..3).map(|_| Self::sentinel(&master)).collect();
        wait_until("sentinels know each other and the replicas", || {
            sentinels.iter().all(|sentinel| {
                let known = sentinel.cli(&["INFO", "sentinel"]);
                known.contains("slaves=2,sentinels=3") && known.contains("status=ok")
            })
        });
        Self { servers, sentinels }
    }

    fn sentinel(master: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "sentinel monitor main 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n"
        );
        std::fs::write(folder.path().join("sentinel.conf"), text).unwrap();
        let arguments = ["sentinel.conf", "--sentinel"].map(str::to_owned).to_vec();
        Server::launch(program(), free_port(), arguments, folder)
    }

    /// Their URL for `store.url`.
    pub(crate) fn url(&self) -> String {
        let places: Vec<_> =
            self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port)).collect();
        format!("redis+sentinel://{}/main", places.join(","))
    }
}

/// Three masters, each with a replica.
pub(crate) struct Cluster {
    /// The servers, at first the masters.
    pub(crate) servers: Vec<Server>,
}

impl Cluster {
    /// Starts them all.
    pub(crate) fn start() -> Self {
        let buses: Vec<_> = (0..6).map(|_| free_port().to_string()).collect();
        let start = |bus: &String| {
            let timeout = ["--cluster-node-timeout", "1500", "--cluster-port", bus];
            Server::start(&[&["--cluster-enabled", "yes"], &timeout[..]].concat())
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
            servers[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &server.port.to_string(), bus]);
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
        Self { servers }
    }

    /// Their URL for `store.url`.
    pub(crate) fn url(&self) -> String {
        let places: Vec<_> =
            self.servers.iter().map(|one| format!("127.0.0.1:{}", one.port)).collect();
        format!("redis+cluster://{}", places.join(","))
    }
}
