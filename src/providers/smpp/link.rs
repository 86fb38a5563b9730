//! A connection to a message centre, over TCP or TLS, and the log-on over it.

use std::time::Duration;

use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::pdu::{self, Pdu};
use super::{Settings, status};
use crate::domain::policy::CONNECT_MAX;
use crate::providers::{Class, Outcome};

/// How long a log-on may take, and a write.
const ANSWER_MAX: Duration = Duration::from_secs(2);
const WRITE_MAX: Duration = Duration::from_secs(3);
/// The sequence number of a log-on; messages have those after it.
pub(super) const BIND_SEQUENCE: u32 = 1;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why a connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// It was closed or reset, or cannot be written to.
    BrokenOff,
    /// What came over it is no SMPP.
    Garbled,
}

/// A connection.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

impl Link {
    /// Connects, and says what kept it from that.
    async fn connect(settings: &Settings) -> Result<Self, &'static str> {
        let (host, port) = settings.place().ok_or("no-connection")?;
        let stream =
            TcpStream::connect((host.as_str(), port)).await.map_err(|_| "no-connection")?;
        // Every write is a whole PDU that somebody waits for.
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn Stream> = match &settings.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from(host).map_err(|_| "no-tls")?;
                let connector = TlsConnector::from(tls.clone());
                Box::new(connector.connect(name, stream).await.map_err(|_| "no-tls")?)
            }
        };
        Ok(Self { stream, read: Vec::new() })
    }

    /// Connects and logs on. Nothing is sent before that, so every failure is "not sent", or what
    /// the centre said.
    pub(super) async fn bound(settings: &Settings, bind: u32) -> Result<Self, Outcome> {
        let not_sent = |what: &str| Outcome::of(Class::NotSent, what);
        let within = Duration::from_millis(CONNECT_MAX.unsigned_abs());
        let connected = timeout(within, Self::connect(settings)).await;
        let mut link = connected.map_err(|_| not_sent("no-connection"))?.map_err(not_sent)?;
        let password = settings.password.expose_secret();
        let body = pdu::bind(&settings.system_id, password, &settings.system_type);
        let answer = timeout(ANSWER_MAX, async {
            link.write(&Pdu::request(bind, BIND_SEQUENCE, body)).await?;
            loop {
                let pdu = link.next().await?;
                let nack = pdu.id == pdu::GENERIC_NACK;
                if (pdu.id == bind | pdu::ANSWER || nack) && pdu.sequence == BIND_SEQUENCE {
                    return Ok((pdu.status, nack));
                }
            }
        });
        match answer.await {
            Err(_) => Err(not_sent("bind-timeout")),
            Ok(Err(Lost::BrokenOff)) => Err(not_sent("bind-broken-off")),
            Ok(Err(Lost::Garbled)) => Err(not_sent("bind-garbled")),
            Ok(Ok((status::OK, false))) => Ok(link),
            Ok(Ok((status, _))) => Err(status::refusal(status.max(1))),
        }
    }

    /// The next PDU. Dropped while it waits, it loses nothing.
    pub(super) async fn next(&mut self) -> Result<Pdu, Lost> {
        loop {
            match Pdu::cut(&mut self.read) {
                Ok(Some(pdu)) => return Ok(pdu),
                Ok(None) => {}
                Err(pdu::Garbled) => return Err(Lost::Garbled),
            }
            self.read.reserve(1024);
            match self.stream.read_buf(&mut self.read).await {
                Ok(length) if length > 0 => {}
                _ => return Err(Lost::BrokenOff),
            }
        }
    }

    /// Writes a PDU.
    pub(super) async fn write(&mut self, pdu: &Pdu) -> Result<(), Lost> {
        let write = async {
            self.stream.write_all(&pdu.bytes()).await?;
            self.stream.flush().await
        };
        match timeout(WRITE_MAX, write).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Lost::BrokenOff),
        }
    }

    /// Logs off, and waits a moment for the answer.
    pub(super) async fn unbind(mut self) {
        let leave = async {
            self.write(&Pdu::request(pdu::UNBIND, BIND_SEQUENCE + 1, vec![])).await?;
            while self.next().await?.id != pdu::UNBIND | pdu::ANSWER {}
            Ok::<(), Lost>(())
        };
        let _ = timeout(ANSWER_MAX, leave).await;
    }
}
