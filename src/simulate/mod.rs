//! `countersign simulate`: a server that speaks the vendors' dialects from their side, as
//! strictly as they document them, and keeps what was sent in an inbox instead of sending it.
//!
//! A dialect judges a request: who asks (signature, clock, nonce), and whether every field is as
//! the vendor wants it. What passes is an order; the desk takes it, by the script and the
//! limits per number, and the dialect words the answer. So nothing here shares code with the
//! dialects in `providers` except the canonical request and the digests: what one side gets wrong
//! about a vendor, the other may notice. SMPP is no request and answer: there the PDUs of
//! `providers/smpp` are shared, and a session (`smpp.rs`) stands beside the others.
//!
//! `/dev/messages` and `/dev/simulator` are the control door. A path may begin with `/as/{name}`:
//! then messages, script and receipts go under this name, so that one server can be two vendors of
//! one kind.

mod aliyun;
mod aws;
mod call;
mod control;
mod desk;
mod huawei;
mod plivo;
mod push;
mod server;
mod smpp;
mod tencent;
mod twilio;
mod twilio_verify;
mod vonage;
mod webhook;
mod yuntongxun;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use call::{Answer, Asked, Call, Refusal};
pub use control::{Script, Scripted};
use desk::{Desk, Sent};
use push::Push;

/// Every dialect. A new one is a file, a line here, and its vectors.
const DIALECTS: [&Dialect; 10] = [
    &yuntongxun::DIALECT,
    &aliyun::DIALECT,
    &tencent::DIALECT,
    &huawei::DIALECT,
    &twilio::DIALECT,
    &vonage::DIALECT,
    &plivo::DIALECT,
    &aws::DIALECT,
    &smpp::DIALECT,
    &webhook::DIALECT,
];

/// A vendor's dialect, from the vendor's side.
struct Dialect {
    /// The name of the kind that speaks it in `[[providers]]`.
    name: &'static str,
    /// The account that exists here: the settings of the kind, with their values unless `--set`
    /// says otherwise.
    account: &'static [(&'static str, &'static str)],
    /// The `[[providers]]` tables that reach it.
    tables: &'static [Table],
    /// Whether a request is in this dialect.
    speaks: fn(&Call) -> bool,
    /// Judges a request.
    hear: fn(&Account, &Desk, &Call) -> Result<Asked, Refusal>,
    /// Whether each number of a request is taken or refused by itself.
    each: bool,
    /// The vendor's name for a message, out of 32 random hexadecimal digits.
    id: fn(&str) -> String,
    /// The answer to orders, each taken or not.
    taken: fn(&Account, &Call, &[Result<Sent, Refusal>]) -> Answer,
    /// The answer to a request that was refused as a whole.
    refused: fn(&Call, &Refusal) -> Answer,
    /// The push of a receipt, where the vendor has any.
    push: Option<fn(&Account, &Sent, &str) -> Push>,
}

/// A table for the configuration of who wants to send here.
struct Table {
    name: &'static str,
    path: &'static str,
    settings: &'static [&'static str],
    more: &'static str,
}

/// An account at a vendor: the settings of its kind.
#[derive(Clone, Debug)]
pub struct Account(BTreeMap<&'static str, String>);

impl Account {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// How a simulator is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    accounts: BTreeMap<&'static str, Account>,
    /// The only numbers that test accounts reach (E.164); empty: every number is registered.
    pub test_numbers: Vec<String>,
    /// Whether the vendors' limits per number hold.
    pub number_limits: bool,
    /// Where receipts are pushed to, by name, unless the request itself says.
    pub push: BTreeMap<String, String>,
    /// What is done from the start.
    pub scripts: Vec<Script>,
    /// With what SMPP is spoken over TLS, too; none: it is not.
    pub tls: Option<Arc<ServerConfig>>,
}

impl Default for Settings {
    fn default() -> Self {
        let account = |dialect: &&Dialect| {
            let pairs = dialect.account.iter().map(|(name, value)| (*name, (*value).to_owned()));
            (dialect.name, Account(pairs.collect()))
        };
        Self {
            accounts: DIALECTS.iter().map(account).collect(),
            test_numbers: Vec::new(),
            number_limits: true,
            push: BTreeMap::new(),
            scripts: Vec::new(),
            tls: None,
        }
    }
}

/// A `--set` that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unset {
    /// It has another form.
    #[error("write KIND.SETTING=VALUE, such as aliyun.sign_name=某某科技")]
    Form,
    /// There is no such setting.
    #[error("there is no such setting; known are {0}")]
    Unknown(String),
}

impl Settings {
    /// Changes an account: `aliyun.sign_name=某某科技`.
    pub fn set(&mut self, assignment: &str) -> Result<(), Unset> {
        let (path, value) = assignment.split_once('=').ok_or(Unset::Form)?;
        let (kind, setting) = path.split_once('.').ok_or(Unset::Form)?;
        let account = self.accounts.get_mut(kind);
        let found = account.and_then(|account| account.0.get_mut(setting));
        let Some(found) = found else { return Err(Unset::Unknown(self.known())) };
        value.clone_into(found);
        Ok(())
    }

    /// Has SMPP spoken over TLS, with this certificate (and those that lead to its authority) and
    /// its key, both in PEM.
    pub fn set_tls(&mut self, certificates: &[u8], key: &[u8]) -> anyhow::Result<()> {
        let certificates = CertificateDer::pem_slice_iter(certificates);
        let certificates = certificates.collect::<Result<Vec<_>, _>>();
        let certificates = certificates.context("the certificate is no PEM file")?;
        anyhow::ensure!(!certificates.is_empty(), "there is no certificate in the PEM file");
        let key = PrivateKeyDer::from_pem_slice(key).context("the key is no PEM file")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .context("certificate and key do not go together")?;
        self.tls = Some(Arc::new(tls));
        Ok(())
    }

    fn known(&self) -> String {
        let names = self.accounts.iter().flat_map(|(kind, account)| {
            account.0.keys().map(move |setting| format!("{kind}.{setting}"))
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// The `[[providers]]` tables with which a Countersign sends through a simulator at this URL.
    pub fn tables(&self, url: &str) -> String {
        let mut lines = Vec::new();
        for dialect in DIALECTS {
            let account = &self.accounts[dialect.name];
            for table in dialect.tables {
                let (name, path, kind) = (table.name, table.path, dialect.name);
                lines.push("[[providers]]".to_owned());
                lines.push(format!(
                    "name = \"{name}\"
kind = \"{kind}\""
                ));
                // SMPP is on the same port, and has a scheme of its own.
                let base = if kind == smpp::DIALECT.name {
                    url.replace("http", if self.tls.is_some() { "smpps" } else { "smpp" })
                } else {
                    url.to_owned()
                };
                lines.push(format!("base_url = \"{base}{path}\""));
                for setting in table.settings {
                    let value = toml::Value::from(account.get(setting));
                    lines.push(format!("{setting} = {value}"));
                }
                lines.push(table.more.to_owned());
            }
        }
        lines.join(
            "
",
        )
    }
}

/// A simulator.
pub struct Simulator {
    settings: Settings,
    desk: Desk,
}

impl Simulator {
    /// A simulator by this clock: signatures are judged by its wall time.
    pub fn new(settings: Settings, clock: Clock) -> Arc<Self> {
        let desk = Desk::new(clock, &settings);
        Arc::new(Self { settings, desk })
    }

    /// Serves until it is stopped.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        client: reqwest::Client,
        stop: CancellationToken,
    ) {
        let pushing = push::run(Arc::clone(&self), client, stop.clone());
        tokio::join!(server::serve(self, listener, stop), pushing);
    }

    fn account(&self, dialect: &Dialect) -> &Account {
        &self.settings.accounts[dialect.name]
    }

    /// Judges and answers a request, by the script.
    fn answer(&self, call: &Call) -> Done {
        let Some(dialect) = DIALECTS.into_iter().find(|dialect| (dialect.speaks)(call)) else {
            let text = "no dialect that is spoken here has such a request\n".to_owned();
            return Done::at_once(Answer::new(404, "text/plain; charset=utf-8", text));
        };
        let account = self.account(dialect);
        let name = call.under.as_deref().unwrap_or(dialect.name);
        let orders = match (dialect.hear)(account, &self.desk, call) {
            Ok(Asked::Send(orders)) => orders,
            Ok(Asked::Answer(answer)) => return Done::at_once(answer),
            Err(refusal) => return Done::at_once((dialect.refused)(call, &refusal)),
        };
        let script = self.desk.next_script(name);
        let scripted = script.answer;
        let answer = match scripted {
            Scripted::Refuse => {
                let refusal = Refusal::coded(script.status, script.code.clone(), "scripted");
                (dialect.refused)(call, &refusal)
            }
            _ if scripted == Scripted::Accept || script.delivers => {
                let taken = self.desk.take(dialect, name, orders, &script);
                (dialect.taken)(account, call, &taken)
            }
            _ => Answer::new(200, "application/json", "{}".to_owned()),
        };
        Done { answer, scripted, latency_ms: script.latency() }
    }
}

/// An answer, and what becomes of it on the way.
struct Done {
    answer: Answer,
    scripted: Scripted,
    latency_ms: u64,
}

impl Done {
    fn at_once(answer: Answer) -> Self {
        Self { answer, scripted: Scripted::Accept, latency_ms: 0 }
    }
}

#[cfg(test)]
mod tests;
