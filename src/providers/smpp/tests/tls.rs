//! The same over TLS as over TCP, and what only TLS has: whom to trust, and a handshake that may be
//! cut anywhere.

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::centre::{Answer, Script, Seen, centre_over};
use super::stages::{ARRIVED, not_sent, provider, pulled, serve};
use super::*;
use crate::providers::stub::{Certificate, a_message};

/// What a centre is reached over.
pub(super) enum Over {
    Tcp,
    Tls(TlsAcceptor, Certificate),
}

impl Over {
    pub(super) fn both() -> [Self; 2] {
        [Self::Tcp, Self::tls()]
    }

    fn tls() -> Self {
        let certificate = Certificate::new();
        let read = |path: &str| std::fs::read(path).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(&read(&certificate.cert)).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(&read(&certificate.key)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self::Tls(Arc::new(server).into(), certificate)
    }

    /// As [`centre_over`].
    pub(super) async fn centre(&self, scripts: Vec<Script>) -> (String, Arc<Mutex<Seen>>) {
        let tls = if let Self::Tls(acceptor, _) = self { Some(acceptor) } else { None };
        centre_over(tls, scripts).await
    }

    /// Settings that trust the centre.
    pub(super) fn settings(&self, url: &str) -> Settings {
        let Self::Tls(_, certificate) = self else { return settings(url) };
        let mut settings = Settings { ca_file: certificate.cert.clone(), ..settings(url) };
        settings.tls = settings.trust().unwrap();
        settings
    }
}

#[tokio::test]
async fn tls_is_spoken_and_only_to_whom_is_trusted() {
    let over = Over::tls();
    let (url, seen) = over.centre(vec![serve(&[Answer::Receipt(ARRIVED)])]).await;
    let trusting = provider(over.settings(&url));
    assert_eq!(trusting.send(&a_message()).await.class, Class::Accepted);
    assert!(pulled(&trusting).await[0].arrived);
    trusting.close().await;
    let count = seen.lock().unwrap().pdus.len();
    let elsewhere = url.replace("127.0.0.1", "localhost");
    let mut public = settings(&url);
    public.tls = public.trust().unwrap();
    for (what, settings) in [
        ("an authority that is not known", public),
        ("another name", over.settings(&elsewhere)),
        ("another certificate", Over::tls().settings(&url)),
    ] {
        let refusing = provider(settings);
        assert_eq!(refusing.send(&a_message()).await, not_sent("no-tls"), "{what}");
        assert_eq!(refusing.try_credentials().await, Err(not_sent("no-tls")), "{what}");
    }
    assert_eq!(seen.lock().unwrap().pdus.len(), count, "nothing was said to a stranger");
    let told = (KIND.explain)("no-tls").unwrap();
    assert!(told.contains("certificate"), "{told}");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the listener ends with the test's runtime")]
async fn whoever_speaks_no_tls_gets_nothing() {
    let over = Over::tls();
    for answer in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0, 0, 0, 16, 0x80, 0, 0, 0]] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smpps://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut hello = [0; 1024];
                let _ = stream.read(&mut hello).await;
                let _ = stream.write_all(answer).await;
            }
        });
        let outcome = provider(over.settings(&url)).send(&a_message()).await;
        assert_eq!(outcome, not_sent("no-tls"), "{answer:?}");
    }
}

/// How many bytes went each way, of a connection that is cut once one way has had its share.
#[derive(Clone, Copy, Debug)]
struct Share {
    to_centre: usize,
    to_client: usize,
}

/// Passes connections on, and cuts each once its share is over.
#[expect(clippy::disallowed_methods, reason = "the proxy ends with the test's runtime")]
async fn cutting(centre: &str, share: Share) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smpps://{}", listener.local_addr().unwrap());
    let centre = centre.trim_start_matches("smpps://").to_owned();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut centre = TcpStream::connect(&centre).await.unwrap();
            tokio::spawn(async move {
                let ((from_client, to_client), (from_centre, to_centre)) =
                    (client.split(), centre.split());
                tokio::select! {
                    () = pass(from_client, to_centre, share.to_centre) => {}
                    () = pass(from_centre, to_client, share.to_client) => {}
                }
            });
        }
    });
    url
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut share: usize) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let length = length.min(share);
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
        share -= length;
        if share == 0 {
            return;
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_anywhere_leaves_no_doubt_that_is_not_told() {
    const ALL: usize = usize::MAX;
    let over = Over::tls();
    let mut outcomes = std::collections::BTreeSet::new();
    let shares = (1..2_200).step_by(31);
    let shares = shares.flat_map(|share| {
        [Share { to_centre: share, to_client: ALL }, Share { to_centre: ALL, to_client: share }]
    });
    for share in shares {
        let (url, seen) = over.centre(vec![serve(&[Answer::Take])]).await;
        let provider = provider(over.settings(&cutting(&url, share).await));
        let outcome = provider.send(&a_message()).await;
        let arrived = seen.lock().unwrap().count(pdu::SUBMIT_SM);
        match outcome.class {
            Class::NotSent => assert_eq!(arrived, 0, "{share:?} {outcome:?}"),
            Class::UnknownOutcome => assert!(arrived <= 1, "{share:?} {outcome:?}"),
            Class::Accepted => assert_eq!(arrived, 1, "{share:?} {outcome:?}"),
            _ => panic!("{share:?} {outcome:?}"),
        }
        outcomes.insert(outcome.vendor_code);
    }
    // It was cut in the handshake, in the log-on, after the message, and nowhere.
    for stage in ["no-tls", "bind-broken-off", "broken-off", "ok"] {
        assert!(outcomes.contains(stage), "{stage} is not in {outcomes:?}");
    }
}
