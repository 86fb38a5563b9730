//! The examples do what they say: against the real server, and against one that hands out proofs
//! that are none.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use aws_lc_rs::signature::Ed25519KeyPair;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::chance::OsChance;
use countersign::clock::{Clock, MINUTE, SECOND};
use countersign::domain::token::{Claims, Proof};
use countersign::keys::{self, Ring};
use countersign::signer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::world::{USUAL, World, mobile};

/// The interpreters and what they run. Debian's own Python, because it has the library.
const EXAMPLES: [(&str, &str); 3] =
    [("/usr/bin/python3", "client.py"), ("node", "client.mjs"), ("sh", "client.sh")];

fn example(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file)
}

/// An example at work: it has asked for a message and waits for the code.
struct Running {
    child: std::process::Child,
    file: &'static str,
}

impl Running {
    fn start((interpreter, file): (&str, &'static str), server: [&str; 3], phone: &str) -> Self {
        let [url, key, tenant] = server;
        let mut command = Command::new(interpreter);
        command.arg(example(file)).arg(phone);
        command.envs([("VERIFY_URL", url), ("VERIFY_KEY", key), ("VERIFY_TENANT", tenant)]);
        command.envs([("no_proxy", "127.0.0.1"), ("NO_PROXY", "127.0.0.1")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{file} needs `{interpreter}` (./check installs it): {error}")
        });
        Self { child, file }
    }

    fn enter(mut self, code: &str) -> Output {
        // An example that has ended already says why in its output.
        let _ = writeln!(self.child.stdin.take().unwrap(), "{code}");
        self.child.wait_with_output().unwrap()
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_logs_a_person_in() {
    let world = World::start(USUAL).await;
    let server = [&world.url(""), "sk_shop_secret", "shop"];
    for (number, which) in (0..).zip(EXAMPLES) {
        let (phone, other) = (mobile(410, 2 * number), mobile(410, 2 * number + 1));
        let running = Running::start(which, server, &phone);
        let code = world.code(&format!("+86{phone}")).await;
        let file = running.file;
        let output = running.enter(&code);
        let proved = format!("proved: +86{phone}");
        assert!(output.status.success() && said(&output).contains(&proved), "{file}: {output:?}");

        let running = Running::start(which, server, &other);
        let code: u32 = world.code(&format!("+86{other}")).await.parse().unwrap();
        let output = running.enter(&format!("{:06}", (code + 1) % 1_000_000));
        assert!(!output.status.success(), "{file}: {}", said(&output));
        assert!(said(&output).contains("`checks_left`"), "the advice: {file}: {}", said(&output));

        let output = Running::start(which, server, "110").enter("");
        assert!(!output.status.success(), "{file}: {}", said(&output));
    }
}

/// Makes a token for a server at this address.
type Mint<'a> = &'a dyn Fn(&str) -> String;

/// A server that approves any code and answers with this proof.
async fn approving(jwks: Value, listener: TcpListener, token: String) {
    let started = Json(json!({"id": "vf_1", "phone": "+86138****8000"}));
    let routes = Router::new()
        .route("/v1/verifications", post(async move || started))
        .route("/v1/verifications/vf_1/check", post(async move || Json(json!({"token": token}))))
        .route("/.well-known/jwks.json", get(async move || Json(jwks)));
    axum::serve(listener, routes).await.unwrap();
}

fn ring(folder: &Path, name: &str) -> Ring {
    let now = Clock::machine().wall();
    keys::load_or_make(&folder.join(name), now, &mut OsChance).unwrap()
}

/// What a server at this address would claim, made `ago` milliseconds in the past.
fn claims(issuer: &str, tenant: &str, purpose: &str, ago: i64) -> Claims {
    let (subject, jti) = ("somebody".to_owned(), "1".to_owned());
    let phone = "+8613800138000";
    let proof = Proof { issuer, tenant, subject, phone, purpose, jti };
    Claims::new(proof, Clock::machine().wall() - ago)
}

/// The same claims under another key of the same name.
fn signed_by_another(claims: &Claims, kid: &str) -> String {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let head = part(&json!({"alg": "EdDSA", "typ": "JWT", "kid": kid}));
    let signed = format!("{head}.{}", part(&serde_json::to_value(claims).unwrap()));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())))
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// The same claims under no key at all.
fn unsigned(token: &str, kid: &str) -> String {
    let header = part(&json!({"alg": "none", "typ": "JWT", "kid": kid}));
    format!("{header}.{}.", token.split('.').nth(1).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_example_takes_a_proof_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let ring = ring(folder.path(), "keys");
    let jwks = serde_json::to_value(signer::jwks(&ring)).unwrap();
    let kid = jwks["keys"][0]["kid"].as_str().unwrap();
    let issuer = "http://127.0.0.1:1";
    let good = |issuer: &str| signer::sign(&ring, &claims(issuer, "shop", "login", 0));
    let (late, foreign) = (6 * MINUTE + SECOND, self::ring(folder.path(), "others"));
    let cases: [(&str, Mint<'_>); 9] = [
        ("good", &good),
        ("expired", &|me| signer::sign(&ring, &claims(me, "shop", "login", late))),
        ("another tenant", &|me| signer::sign(&ring, &claims(me, "bank", "login", 0))),
        ("another purpose", &|me| signer::sign(&ring, &claims(me, "shop", "reset", 0))),
        ("another server", &|_| good(issuer)),
        ("another key", &|me| signed_by_another(&claims(me, "shop", "login", 0), kid)),
        ("an unknown key", &|me| signer::sign(&foreign, &claims(me, "shop", "login", 0))),
        ("unsigned", &|me| unsigned(&good(me), kid)),
        ("no token", &|_| "nothing".to_owned()),
    ];
    for (what, token) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(approving(jwks.clone(), listener, token(&url)));
        for which in EXAMPLES {
            let running = Running::start(which, [&url, "sk_shop_secret", "shop"], "13800138000");
            let output = running.enter("123456");
            // An interpreter's own words about an error may quote the line that prints this.
            let told = String::from_utf8_lossy(&output.stdout);
            let proved = told.contains("proved: +8613800138000");
            assert_eq!(proved, what == "good", "{} and {what}: {}", which.1, said(&output));
            assert_eq!(output.status.success(), proved, "{} and {what}", which.1);
        }
    }
}

#[test]
fn the_readme_shows_the_example_that_is_run() {
    let read = |path: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    };
    let shown = format!("```python\n{}```\n", read("examples/client.py"));
    assert!(read("README.md").contains(&shown), "README.md shows another examples/client.py");
}
