//! For tests: a vendor on a port of this machine, and what every dialect that speaks HTTP must
//! live through with it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Class, Message, Outcome, Provider, transport};
use crate::clock::Millis;
use crate::domain::code::Code;
use crate::domain::phone::Phone;

/// 2025-01-02 00:30:45 in Shanghai, and still 2025-01-01 in Greenwich.
pub(super) const WALL: Millis = 1_735_749_045_000;
/// Our reference, as deliveries have it.
pub(super) const REFERENCE: &str = "67756c75020100112233445566778899";
/// A text as a message has it.
pub(super) const TEXT: &str = "004217 is your verification code, valid for 5 min.";

/// A message to a phone.
pub(super) fn message(e164: &str, code: &str, minutes: u32, reference: &str) -> Message {
    Message {
        phone: Phone::from_e164(e164).unwrap(),
        code: Code::parse(code).unwrap(),
        minutes,
        text: TEXT.to_owned(),
        reference: reference.to_owned(),
    }
}

/// The message that most tests send.
pub(crate) fn a_message() -> Message {
    message("+8613800138000", "004217", 5, REFERENCE)
}

/// The cases of a file of vectors.
pub(super) fn cases(vectors: &str) -> Vec<Value> {
    let mut vectors: Value = serde_json::from_str(vectors).unwrap();
    vectors["cases"].as_array_mut().map(std::mem::take).unwrap()
}

/// The name of a case.
pub(super) fn name(case: &Value) -> &str {
    case["name"].as_str().unwrap()
}

/// What the vendor does after it has read a request.
#[derive(Clone)]
pub(crate) enum Script {
    /// Answers with these bytes and closes.
    Answer(Vec<u8>),
    /// Answers with this and then falls silent.
    Stall(Vec<u8>),
    /// Closes without an answer.
    Close,
    /// Reads a single byte and resets the connection.
    Reset,
}

/// An answer with this status line and headers, and this body.
pub(crate) fn answer(head: &str, body: &[u8]) -> Script {
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
    Script::Answer([head.as_bytes(), body].concat())
}

/// What reached a vendor.
pub(crate) type Requests = Arc<Mutex<Vec<String>>>;

/// A vendor on a port of this machine, and the requests that reach it.
#[expect(clippy::disallowed_methods, reason = "the vendor ends with the test's runtime")]
pub(crate) async fn vendor(script: Script) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Requests::default();
    let seen = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, script.clone(), seen.clone()));
        }
    });
    (base_url, requests)
}

async fn converse(mut stream: TcpStream, script: Script, seen: Requests) {
    let mut request = Vec::new();
    if let Script::Reset = script {
        seen.lock().unwrap().push(String::new());
        // Closing while bytes lie unread makes the system send a reset.
        let _ = stream.read_u8().await;
        return;
    }
    while !whole(&request) {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(length) if length > 0 => request.extend_from_slice(&chunk[..length]),
            _ => return,
        }
    }
    seen.lock().unwrap().push(String::from_utf8(request).unwrap());
    match script {
        Script::Answer(bytes) => drop(stream.write_all(&bytes).await),
        Script::Stall(bytes) => {
            drop(stream.write_all(&bytes).await);
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
        Script::Close | Script::Reset => {}
    }
}

fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let body = request.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |at| at + 4);
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    length.is_none_or(|length| request.len() - body >= length.parse().unwrap())
}

/// A request in its parts.
pub(crate) struct Seen {
    /// `POST /path?query HTTP/1.1`.
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}

impl Seen {
    /// The only request that reached a vendor.
    pub(crate) fn only(requests: &Requests) -> Self {
        let requests = requests.lock().unwrap();
        assert_eq!(requests.len(), 1, "one call, one request");
        let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Self { line, headers: lines.map(header).collect(), body: body.to_owned() }
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// The usual client with little patience.
pub(super) fn hasty_client() -> reqwest::Client {
    // Another test may have installed it already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_millis(200))
        .build()
        .unwrap()
}

/// The pairs of a query or form, decoded and sorted.
pub(super) fn pairs(form: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = serde_urlencoded_pairs(form);
    pairs.sort();
    pairs
}

fn serde_urlencoded_pairs(form: &str) -> Vec<(String, String)> {
    let url = format!("http://x/?{form}");
    reqwest::Url::parse(&url).unwrap().query_pairs().into_owned().collect()
}

/// Packs a body with gzip, without making it smaller.
pub(super) fn packed(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1];
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(body);
    let crc = body.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 * (crc & 1)))
    });
    out.extend((!crc).to_le_bytes());
    out.extend(u32::from(length).to_le_bytes());
    out
}

type Make<'a> = &'a dyn Fn(&str, reqwest::Client) -> Arc<dyn Provider>;

/// Whatever goes wrong on the wire has its outcome, and nothing is repeated or followed. `make`
/// makes the provider for a URL and a client; `head` and `body` are the answer that takes the
/// message, and `id` is the name in it.
pub(super) async fn assert_wire(make: Make<'_>, head: &str, body: &str, id: &str) {
    let patient = |url: &str| make(url, transport::client().unwrap());
    let unknown = |what: &str| Outcome::of(Class::UnknownOutcome, what);

    let (url, requests) = vendor(answer(head, body.as_bytes())).await;
    let outcome = patient(&format!("{url}/")).send(&a_message()).await;
    assert_eq!(outcome, Outcome::accepted(id), "a slash too many does no harm");
    assert_eq!(requests.lock().unwrap().len(), 1);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let outcome = patient(&closed).send(&a_message()).await;
    assert_eq!(outcome, Outcome::of(Class::NotSent, "no-connection"));

    let half = format!("HTTP/1.1 {head}\r\nContent-Length: 9999\r\n\r\n{}", &body[..20]);
    for (script, what) in [
        (Script::Stall(vec![]), "timeout"),
        (Script::Stall(half.clone().into_bytes()), "timeout"),
        (Script::Answer(half.into_bytes()), "broken-off"),
        (Script::Answer(b"garbage\r\n\r\n".to_vec()), "broken-off"),
        (Script::Close, "broken-off"),
        (Script::Reset, "broken-off"),
    ] {
        let (url, requests) = vendor(script).await;
        assert_eq!(make(&url, hasty_client()).send(&a_message()).await, unknown(what));
        assert_eq!(requests.lock().unwrap().len(), 1, "{what}");
    }

    let (elsewhere, followed) = vendor(answer(head, body.as_bytes())).await;
    for status in ["301", "302", "303", "307", "308"] {
        let moved = answer(&format!("{status} Moved\r\nLocation: {elsewhere}/"), b"");
        let (url, _) = vendor(moved).await;
        let outcome = patient(&url).send(&a_message()).await;
        assert_eq!(outcome, unknown(&format!("http-{status}")));
    }
    assert!(followed.lock().unwrap().is_empty());

    let gzip = format!("{head}\r\nContent-Encoding: gzip");
    let squeezed = packed(body.as_bytes());
    let (url, _) = vendor(answer(&gzip, &squeezed)).await;
    assert_eq!(patient(&url).send(&a_message()).await, Outcome::accepted(id));
    for broken in [&squeezed[..squeezed.len() / 2], body.as_bytes()] {
        let (url, _) = vendor(answer(&gzip, broken)).await;
        assert_eq!(patient(&url).send(&a_message()).await, unknown("broken-off"));
    }

    let long = format!("{body}{}", " ".repeat(10 * 1024 * 1024));
    let (url, _) = vendor(answer(head, long.as_bytes())).await;
    assert_eq!(patient(&url).send(&a_message()).await, unknown("answer-too-long"));

    for odd in ["text/html", "application/octet-stream", "application/json; charset=gbk"] {
        let (url, _) =
            vendor(answer(&format!("{head}\r\nContent-Type: {odd}"), body.as_bytes())).await;
        let outcome = patient(&url).send(&a_message()).await;
        assert_eq!(outcome, Outcome::accepted(id), "the body tells, whatever its label");
    }
}

/// What is logged while a test runs.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// All of it.
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// None of these secrets is logged or in an outcome, whatever the vendor answers. Each of `bodies`
/// is answered once; they may quote what a vendor could.
pub(super) async fn assert_silent(make: Make<'_>, bodies: &[&str], secrets: &[&str]) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // While there is only one subscriber, a test on another thread that reaches a log line
    // first switches the line off for good (tracing's cache of interests). So there are two.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    tracing::info!("the log is open");
    let quoting = |body: &&str| answer("200 OK", body.as_bytes());
    let mut scripts: Vec<Script> = bodies.iter().map(quoting).collect();
    scripts.push(answer(&format!("302 Found\r\nLocation: /{}", secrets[0]), b""));
    scripts.extend([Script::Close, Script::Stall(vec![])]);
    let mut printed = Vec::new();
    for script in scripts {
        let (url, requests) = vendor(script).await;
        let provider = make(&url, hasty_client());
        let outcome = provider.send(&a_message()).await;
        let pulled = provider.pull_receipts().await;
        let tried = provider.try_credentials().await;
        assert!(!requests.lock().unwrap().is_empty());
        printed.push(format!("{outcome:?} {pulled:?} {tried:?} {:?}", a_message()));
    }
    let printed = printed.join("\n");
    drop(guard);
    let logged = log.text();
    assert!(logged.contains("the log is open"));
    for secret in secrets.iter().chain(&["004217", "13800138000"]) {
        assert!(!printed.contains(secret), "{secret} in {printed}");
        assert!(!logged.contains(secret), "{secret} in the log");
    }
}

/// A certificate for 127.0.0.1 that is its own authority, and its key, as PEM files.
pub(crate) struct Certificate {
    _folder: tempfile::TempDir,
    /// The certificate's path.
    pub(crate) cert: String,
    /// The key's path.
    pub(crate) key: String,
}

impl Certificate {
    /// A new one, made by openssl.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        // An authority would not be taken for a server, so the certificate is of none.
        let wanted = "[req]\ndistinguished_name = dn\nx509_extensions = v3\nprompt = no\n\
                      [dn]\nCN = centre\n\
                      [v3]\nbasicConstraints = critical, CA:FALSE\n\
                      subjectAltName = IP:127.0.0.1\n";
        std::fs::write(path("wanted.cnf"), wanted).unwrap();
        let (cert, key) = (path("cert.pem"), path("key.pem"));
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "2", "-config", &path("wanted.cnf")])
            .args(["-keyout", &key, "-out", &cert])
            .output()
            .expect("openssl is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self { _folder: folder, cert, key }
    }
}
