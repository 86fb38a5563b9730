//! Servers, Sentinels and clusters that speak TLS under a private authority, and let nobody in
//! but users with a password, each with the rights that docs/operations.md lists and no others.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::servers::{Cluster, Manner, Server, Watched};
use super::tests::{FREE, all_are_told, get, key, later, mended, open, put, refusal, settings};
use super::*;
use crate::clock::{Clock, HOUR};

/// What the nodes' user may do.
const RIGHTS: &str = "+info +time +mget +set +get +del +zadd +zrem +zrange +evalsha +eval \
                      +script|load +select +wait";
/// What it may besides in a cluster.
const RIGHTS_CLUSTER: &str = " +cluster|slots +asking";
/// What it may at a Sentinel.
const RIGHTS_SENTINEL: &str = "+sentinel|get-master-addr-by-name";

fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let made = command.args(arguments.split(' ')).current_dir(folder).output();
    let made = made.expect("this test needs openssl: apt-get install it, or run ./check");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A private authority, and a certificate of it for 127.0.0.1.
fn certificates() -> TempDir {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let new = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(at, &format!("{new} -x509 -keyout ca.key -out ca.pem -subj /CN=authority"));
    openssl(at, &format!("{new} -keyout server.key -out server.csr -subj /CN=server"));
    std::fs::write(at.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        at,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names \
         -out server.pem",
    );
    folder
}

/// Everything among the servers goes over TLS as well, as a user that may do everything; the
/// nodes' user has `rights`; nobody comes in without a password.
fn manner(papers: &TempDir, rights: &str) -> Manner {
    let path = |name: &str| papers.path().join(name).display().to_string();
    let tls = [
        format!("tls-ca-cert-file {}", path("ca.pem")),
        format!("tls-cert-file {}", path("server.pem")),
        format!("tls-key-file {}", path("server.key")),
        "tls-auth-clients no".to_owned(),
        "tls-replication yes".to_owned(),
        "user default off".to_owned(),
        "user boss on >boss ~* &* +@all".to_owned(),
    ];
    let server = [
        "tls-cluster yes".to_owned(),
        "masteruser boss".to_owned(),
        "masterauth boss".to_owned(),
        format!("user node on >pw ~test:* {rights}"),
    ];
    let words = tls.iter().chain(&server).flat_map(|line| {
        line.split_whitespace()
            .enumerate()
            .map(|(at, word)| if at == 0 { format!("--{word}") } else { word.to_owned() })
    });
    let sentinel = format!(
        "user node on >pw {RIGHTS_SENTINEL}\nsentinel auth-user main boss\n\
         sentinel auth-pass main boss\nsentinel sentinel-user boss\nsentinel sentinel-pass boss\n"
    );
    let login = ["--user", "boss", "--pass", "boss", "--no-auth-warning"].map(str::to_owned);
    Manner {
        servers: words.collect(),
        sentinels: format!("{}\n{sentinel}", tls.join("\n")),
        tls: true,
        login: login.to_vec(),
    }
}

fn node(papers: &TempDir, password: &str) -> Credentials {
    Credentials {
        username: "node".to_owned(),
        password: password.into(),
        authority: Some(std::fs::read(papers.path().join("ca.pem")).unwrap()),
        ..Credentials::default()
    }
}

/// Each that is not as it must be is refused, and told why.
async fn strangers_are_refused(url: &str, papers: &TempDir) {
    let refused = |credentials: Credentials, url: &str| {
        refusal(Settings { credentials, ..settings(url) }, Clock::machine())
    };
    let unnamed = Credentials { authority: None, ..node(papers, "pw") };
    let nobody = Credentials { username: String::new(), ..node(papers, "") };
    let clear = url.replace("rediss", "redis");
    let (wrong, nobody, unnamed, clear) = tokio::join!(
        refused(node(papers, "guess"), url),
        refused(nobody, url),
        refused(unnamed, url),
        refused(node(papers, "pw"), &clear),
    );
    assert!(wrong.contains("store.password"), "{wrong}");
    assert!(nobody.contains("store.password"), "{nobody}");
    assert!(unnamed.contains("connection failed"), "a private authority nobody named: {unnamed}");
    assert!(!clear.is_empty(), "without TLS there is no answer there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_spoken_and_strangers_are_refused() {
    let papers = certificates();
    let server = Server::start_as(&manner(&papers, RIGHTS), &[]);
    let credentials = Credentials { database: 3, ..node(&papers, "pw") };
    let store = open(Settings { credentials, hold: 1, ..settings(&server.url()) }).await;
    put(&store, &key(1, FREE), Some(0)).await.unwrap();
    assert_eq!(store.due(later() - HOUR, 9).await.unwrap(), [key(1, FREE)]);
    strangers_are_refused(&server.url(), &papers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_are_asked_over_tls_as_a_user_and_lead_to_the_new_master() {
    let papers = certificates();
    let mut watched = Watched::start_as(&manner(&papers, RIGHTS));
    strangers_are_refused(&watched.url(), &papers).await;
    let credentials = node(&papers, "pw");
    let strict = Settings { replicas: 1, hold: 1, credentials, ..settings(&watched.url()) };
    let store = open(strict).await;
    put(&store, &key(1, FREE), Some(0)).await.unwrap();
    watched.kill_master();
    all_are_told(&store, 1).await;
    mended(&store, &key(9, FREE), Duration::from_secs(20)).await;
    assert!(get(&store, &key(1, FREE)).await.is_some(), "a replica had confirmed it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_used_over_tls_as_a_user_and_goes_on_without_a_master() {
    let papers = certificates();
    let mut cluster = Cluster::start_as(&manner(&papers, &format!("{RIGHTS}{RIGHTS_CLUSTER}")));
    strangers_are_refused(&cluster.url(), &papers).await;
    let credentials = node(&papers, "pw");
    let strict = Settings { replicas: 1, hold: 1, credentials, ..settings(&cluster.url()) };
    let store = open(strict).await;
    for partition in (0..1024).step_by(32) {
        put(&store, &key(partition, FREE), Some(0)).await.unwrap();
        assert!(get(&store, &key(partition, FREE)).await.is_some());
    }
    cluster.servers[2].kill();
    let gone = (0..1024).find(|at| layout::slot(*at) > 11_000).unwrap();
    mended(&store, &key(gone, FREE), Duration::from_secs(20)).await;
    assert!(get(&store, &key(3, FREE)).await.is_none(), "a slot of another master is served, too");
}
