//! SMPP 3.4 over TCP or TLS: a text to any number, through a message centre (SMSC) of whatever
//! vendor.
//!
//! One session is kept for each provider of a process (`session.rs`). The centre does not
//! recognise a repeated message. Receipts come over the session; they carry only the centre's
//! name for the message, which is remembered for a while (`receipts.rs`), and are fetched by the
//! dispatcher as pulled ones.

mod link;
pub(crate) mod pdu;
mod receipts;
mod session;
mod status;
mod text;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::link::Link;
use self::pdu::{Address, Submit};
use self::receipts::Memory;
use self::session::{Gate, Keeper, Request, Submission};
pub use self::text::Alphabet;
use super::codes::Entry;
use super::kind::{self, Bills, Given, Kind, Maker, Misfit, Unfit};
use super::{Class, Message, Outcome, Provider, Pushed, Receipt, Receipts, transport, wire};
use crate::chance::{Chance, OsChance};

/// Messages that may wait for the session.
const WAITING_MAX: usize = 512;
/// How long a message waits to be written; after that the next provider has its turn.
const WRITTEN_WITHIN: Duration = Duration::from_secs(3);
/// How long it then waits for its answer. Both together are what one call may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// How long leaving may take.
const LEAVE_MAX: Duration = Duration::from_secs(3);
/// Ports where none is written.
const PORT: u16 = 2775;
const TLS_PORT: u16 = 3550;
/// The log-on that gets no receipts.
const BIND_TRANSMITTER: u32 = 0x02;

/// The kind, for the table.
pub const KIND: Kind =
    Kind { name: "smpp", bills: Bills::Segment, secrets: &["password"], read, caution, explain };

fn read(given: Given) -> Result<Maker, Misfit> {
    let mut settings: Settings = given.settings()?;
    settings.check()?;
    settings.tls = settings.trust()?;
    let settings = Arc::new(settings);
    Ok(Arc::new(move |_| Arc::new(Smpp::new(Arc::clone(&settings)))))
}

fn caution(table: &toml::Table) -> Option<&'static str> {
    let url = table.get("base_url").and_then(toml::Value::as_str).unwrap_or_default();
    let (_, host, _) = place(url).filter(|(tls, ..)| !tls)?;
    let here = host == "localhost" || host.parse().is_ok_and(|host: IpAddr| host.is_loopback());
    (!here).then_some(
        "smpp:// sends the password, numbers and codes in clear: use smpps:// or a tunnel",
    )
}

fn explain(code: &str) -> Option<String> {
    let own = |told: &str| Some(format!("{code}: {told}"));
    match code {
        "no-tls" => own(
            "no TLS, or a certificate that is not trusted: check the port, the host's name and \
             ca_file",
        ),
        "bind-timeout" => own("connected, and the log-on was not answered: is this an SMPP port?"),
        "bind-broken-off" => {
            own("connected, and closed at the log-on: ask the vendor for its list of addresses")
        }
        "bind-garbled" => own("what answers there is no SMPP: check the port, smpp:// or smpps://"),
        "window-full" => own("the message centre is slower than messages come: raise `window`"),
        "text-too-long" => own("shorten the text"),
        _ => status::lookup(code).map(Entry::explained),
    }
}

/// An account and a sender at a message centre.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Our name for the provider.
    pub name: String,
    /// Where the message centre is: `smpp://host:2775`, or `smpps://host:3550` for TLS.
    #[serde(default)]
    pub base_url: String,
    /// The account's name.
    #[serde(default)]
    pub system_id: String,
    /// Its password.
    #[serde(default, deserialize_with = "kind::secret")]
    pub password: SecretString,
    /// The kind of client, where the vendor wants one.
    #[serde(default)]
    pub system_type: String,
    /// The sender: a number, a short number, or a name.
    #[serde(default)]
    pub source: String,
    /// The sender's type of number; told by its form otherwise.
    #[serde(default)]
    pub source_ton: Option<u8>,
    /// The sender's numbering plan; told by its form otherwise.
    #[serde(default)]
    pub source_npi: Option<u8>,
    /// The service, where the vendor wants one.
    #[serde(default)]
    pub service_type: String,
    /// How many messages may wait for an answer at once.
    #[serde(default = "window")]
    pub window: usize,
    /// After how many seconds of silence the centre is asked whether it is there.
    #[serde(default = "enquire_link_seconds")]
    pub enquire_link_seconds: u64,
    /// What the centre takes `data_coding` 0 for.
    #[serde(default = "default_alphabet")]
    pub default_alphabet: Alphabet,
    /// A PEM file with the certificate of the authority to trust, instead of the public ones.
    #[serde(default)]
    pub ca_file: String,
    /// What is made of it.
    #[serde(skip)]
    tls: Option<Arc<ClientConfig>>,
}

fn window() -> usize {
    10
}

fn enquire_link_seconds() -> u64 {
    30
}

fn default_alphabet() -> Alphabet {
    Alphabet::Gsm
}

/// Whether a URL wants TLS, and its host and port; `None` if it is none of SMPP's.
fn place(url: &str) -> Option<(bool, String, u16)> {
    let url = reqwest::Url::parse(url).ok()?;
    let tls = match url.scheme() {
        "smpp" => false,
        "smpps" => true,
        _ => return None,
    };
    let bare = ["", "/"].contains(&url.path()) && url.query().is_none() && url.fragment().is_none();
    let nameless = url.username().is_empty() && url.password().is_none();
    let host = url.host_str().filter(|host| !host.is_empty() && bare && nameless)?;
    let port = url.port().unwrap_or(if tls { TLS_PORT } else { PORT });
    Some((tls, host.trim_matches(['[', ']']).to_owned(), port))
}

impl Settings {
    /// Whether these settings can work, as far as that can be told without a call.
    pub fn check(&self) -> Result<(), Misfit> {
        let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let short = |text: &str, most: usize| text.len() <= most && printable(text);
        let password = self.password.expose_secret();
        kind::checked([
            (
                "base_url",
                place(&self.base_url).is_some(),
                "write smpp://host:2775, or smpps://host:3550 for TLS, and nothing behind it",
            ),
            (
                "system_id",
                !self.system_id.is_empty() && short(&self.system_id, 64),
                "copy the account's name (system_id), without spaces",
            ),
            (
                "password",
                !password.is_empty() && short(password, 64),
                "copy the account's password, without spaces and copied line ends",
            ),
            (
                "system_type",
                short(&self.system_type, 12),
                "write the system type as the vendor says, 12 letters at most, or leave it out",
            ),
            (
                "source",
                self.sound_source(),
                "write the sender: a number of up to 15 digits, or a name of up to 11 letters",
            ),
            (
                "service_type",
                short(&self.service_type, 5),
                "write the service type as the vendor says, 5 letters at most, or leave it out",
            ),
            (
                "window",
                (1..=1000).contains(&self.window),
                "write how many messages may wait for an answer at once: 1 to 1000",
            ),
            (
                "enquire_link_seconds",
                (5..=600).contains(&self.enquire_link_seconds),
                "write after how many seconds of silence the centre is asked: 5 to 600",
            ),
        ])
    }

    fn sound_source(&self) -> bool {
        let digits = self.source.trim_start_matches('+');
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return digits.len() <= 15;
        }
        (1..=11).contains(&self.source.len())
            && self.source.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    }

    /// The sender with its type and plan.
    fn source(&self) -> Address {
        let digits = self.source.trim_start_matches('+');
        let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let (ton, npi) = match digits.len() {
            _ if !number => (5, 0),
            ..=6 => (3, 0),
            _ => (1, 1),
        };
        let text = if number { digits } else { &self.source };
        Address {
            ton: self.source_ton.unwrap_or(ton),
            npi: self.source_npi.unwrap_or(npi),
            text: text.to_owned(),
        }
    }

    fn place(&self) -> Option<(String, u16)> {
        place(&self.base_url).map(|(_, host, port)| (host, port))
    }

    fn enquire_every(&self) -> Duration {
        Duration::from_secs(self.enquire_link_seconds)
    }

    /// Whom to trust, where TLS is wanted.
    fn trust(&self) -> Result<Option<Arc<ClientConfig>>, Misfit> {
        let unfit = || {
            let advice = "name a PEM file with the certificate of the centre's authority";
            Misfit::Unfit(vec![Unfit { key: "ca_file", advice }])
        };
        if !place(&self.base_url).is_some_and(|(tls, ..)| tls) {
            return if self.ca_file.is_empty() { Ok(None) } else { Err(unfit()) };
        }
        let roots = if self.ca_file.is_empty() {
            transport::public_roots()
        } else {
            let text = std::fs::read(&self.ca_file).map_err(|_| unfit())?;
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(&text) {
                roots.add(certificate.map_err(|_| unfit())?).map_err(|_| unfit())?;
            }
            roots
        };
        if roots.is_empty() {
            return Err(unfit());
        }
        transport::tls(roots).map(|tls| Some(Arc::new(tls))).map_err(|_| unfit())
    }

    /// The bodies of a message's parts; `None` if it is too long for any message.
    fn parts(&self, message: &Message, reference: u8) -> Option<Vec<Vec<u8>>> {
        let encoded = text::encode(&message.text, self.default_alphabet)?;
        let (source, total) = (self.source(), encoded.parts.len());
        let part = |(place, part): (usize, &Vec<u8>)| {
            let several = total > 1;
            let text = if several {
                text::with_header(part, reference, total, place)
            } else {
                part.clone()
            };
            Submit {
                service_type: &self.service_type,
                source: &source,
                to: message.phone.e164().trim_start_matches('+'),
                esm_class: if several { 0x40 } else { 0 },
                data_coding: encoded.data_coding,
                text: &text,
            }
            .body()
        };
        Some(encoded.parts.iter().enumerate().map(part).collect())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The provider.
pub struct Smpp {
    settings: Arc<Settings>,
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    memory: Arc<Mutex<Memory>>,
    is_bound: Arc<AtomicBool>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Smpp {
    /// A provider that logs on when it is first asked for something.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            requests: Mutex::default(),
            memory: Arc::default(),
            is_bound: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// The way to the session, which is begun where there is none.
    fn requests(&self) -> mpsc::Sender<Request> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = requests.as_ref().filter(|known| !known.is_closed()) {
            return known.clone();
        }
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let keeper = Keeper {
            settings: Arc::clone(&self.settings),
            requests: receiver,
            memory: Arc::clone(&self.memory),
            is_bound: Arc::clone(&self.is_bound),
            stop: self.stop.clone(),
        };
        self.tasks.spawn(keeper.run());
        requests.insert(sender).clone()
    }

    /// What became of a message that was not begun to be written.
    fn not_written(&self) -> Outcome {
        if self.is_bound.load(Ordering::Acquire) {
            Outcome::of(Class::RateLimitedAccount, "window-full")
        } else {
            Outcome::of(Class::NotSent, "no-connection")
        }
    }
}

impl fmt::Debug for Smpp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smpp").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for Smpp {
    fn name(&self) -> &str {
        &self.settings.name
    }

    /// The protocol knows nothing of the kind.
    fn deduplicates(&self) -> bool {
        false
    }

    async fn send(&self, message: &Message) -> Outcome {
        let mut concatenation = [0];
        OsChance.fill(&mut concatenation);
        let Some(parts) = self.settings.parts(message, concatenation[0]) else {
            return Outcome::of(Class::ContentRejected, "text-too-long");
        };
        let (gate, (answer, mut heard)) = (Arc::new(Gate::default()), oneshot::channel());
        let submission = Submission {
            parts,
            reference: message.reference.clone(),
            phone: message.phone.e164().to_owned(),
            gate: Arc::clone(&gate),
            answer,
        };
        if self.requests().try_send(Request::Submit(submission)).is_err() {
            return self.not_written();
        }
        let lost = || {
            if gate.give_up() { self.not_written() } else { wire::unknown("broken-off") }
        };
        if let Ok(told) = timeout(WRITTEN_WITHIN, &mut heard).await {
            return told.unwrap_or_else(|_| lost());
        }
        if gate.give_up() {
            return self.not_written();
        }
        match timeout(ANSWERED_WITHIN, heard).await {
            Ok(told) => told.unwrap_or_else(|_| lost()),
            Err(_) => wire::unknown("timeout"),
        }
    }

    /// Nobody pushes over HTTP.
    fn read_receipts(&self, _: &Pushed<'_>) -> Option<Receipts> {
        None
    }

    /// What came over the session. Asking for it also begins one: receipts wait at the centre for
    /// somebody who is bound.
    async fn pull_receipts(&self) -> Result<Vec<Receipt>, Outcome> {
        // Without room there is a session that has enough to do.
        let _ = self.requests().try_send(Request::Wake);
        Ok(self.memory.lock().unwrap_or_else(PoisonError::into_inner).fetch())
    }

    /// Logs on by itself, as one that gets no receipts: they would be lost to the server.
    async fn try_credentials(&self) -> Result<bool, Outcome> {
        Link::bound(&self.settings, BIND_TRANSMITTER).await?.unbind().await;
        Ok(true)
    }

    async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        // What is not finished by then ends with the process.
        let _ = timeout(LEAVE_MAX, self.tasks.wait()).await;
    }
}

#[cfg(test)]
mod tests;
