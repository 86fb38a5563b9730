//! Takes connections and requests, and does to them what the script says. SMPP is on the same port,
//! in clear and, with a certificate, over TLS.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::call::{Answer, Call};
use super::control::{self, Scripted};
use super::{Done, Simulator, smpp};

/// The most bytes of a request's body.
const BODY_MAX: usize = 1024 * 1024;
/// How long a connection may be silent before its next request.
const HEAD_TIME: Duration = Duration::from_mins(1);

/// What a connection begins with: a PDU of SMPP with its length, whose first byte is zero, and TLS
/// with a handshake. Requests of HTTP begin with a letter.
const PDU: u8 = 0;
const HANDSHAKE: u8 = 0x16;
/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed by the script")]
struct Closed;

/// Serves until it is stopped.
pub(super) async fn serve(
    simulator: Arc<Simulator>,
    listener: TcpListener,
    stop: CancellationToken,
) {
    let (tracker, control) = (TaskTracker::new(), control::router(Arc::clone(&simulator)));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, or gone again.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (simulator, control, stop) = (Arc::clone(&simulator), control.clone(), stop.clone());
        tracker.spawn(async move {
            let mut first = [0xff];
            let peeked = tokio::select! {
                peeked = stream.peek(&mut first) => peeked,
                () = stop.cancelled() => return,
            };
            let first = peeked.ok().filter(|length| *length > 0).map(|_| first[0]);
            match (first, &simulator.settings.tls) {
                (Some(PDU), _) => return smpp::serve(&simulator, stream, stop).await,
                (Some(HANDSHAKE), Some(tls)) => {
                    return over_tls(&simulator, Arc::clone(tls), stream, stop).await;
                }
                _ => {}
            }
            let service = service_fn(move |request: Request<Incoming>| {
                let (simulator, control) = (Arc::clone(&simulator), control.clone());
                async move {
                    let path = request.uri().path();
                    let ours =
                        path == "/dev" || path.starts_with("/dev/") || path.starts_with("/demo/");
                    if ours || (path == "/" && request.method() == "GET" && is_browser(&request)) {
                        let answered = control.oneshot(request.map(Body::new)).await;
                        return Ok(answered.unwrap_or_else(|never: Infallible| match never {}));
                    }
                    vendor(&simulator, request).await
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), service);
            // Whoever stops the simulator does not wait for those that it keeps waiting.
            tokio::select! {
                _ = connection => {}
                () = stop.cancelled() => {}
            }
        });
    }
    tracker.close();
    tracker.wait().await;
}

/// Over TLS only SMPP is spoken.
async fn over_tls(
    simulator: &Simulator,
    tls: Arc<ServerConfig>,
    stream: TcpStream,
    stop: CancellationToken,
) {
    let accepted = timeout(HANDSHAKE_TIME, TlsAcceptor::from(tls).accept(stream));
    let accepted = tokio::select! {
        accepted = accepted => accepted,
        () = stop.cancelled() => return,
    };
    if let Ok(Ok(stream)) = accepted {
        smpp::serve(simulator, stream, stop).await;
    }
}

/// Whether a person looks: some vendors' calls are a GET of `/`, too.
fn is_browser(request: &Request<Incoming>) -> bool {
    let accept = request.headers().get("accept").and_then(|accept| accept.to_str().ok());
    request.uri().query().is_none() && accept.is_some_and(|accept| accept.contains("text/html"))
}

async fn vendor(
    simulator: &Simulator,
    request: Request<Incoming>,
) -> Result<Response<Body>, Closed> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        let text = "the body is too long or was cut off\n".to_owned();
        return Ok(response(&Answer::new(413, "text/plain; charset=utf-8", text)));
    };
    let call = Call::new(
        head.method.as_str(),
        head.uri.path(),
        head.uri.query().unwrap_or_default(),
        head.headers,
        body.to_bytes().to_vec(),
    );
    let Done { answer, scripted, latency_ms } = simulator.answer(&call);
    if latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(latency_ms)).await;
    }
    match scripted {
        Scripted::Accept | Scripted::Refuse => Ok(response(&answer)),
        Scripted::Silence => std::future::pending().await,
        Scripted::Close => Err(Closed),
        Scripted::HalfOpen => {
            let half =
                answer.body[..answer.body.floor_char_boundary(answer.body.len() / 2)].to_owned();
            let length = answer.body.len() as u64;
            let body = Body::new(HalfBody { half: Some(Bytes::from(half)), length });
            Ok(response(&answer).map(|_| body))
        }
        Scripted::Error => {
            let page = "<html><body><h1>500 Internal Server Error</h1></body></html>".to_owned();
            Ok(response(&Answer::new(500, "text/html", page)))
        }
    }
}

fn response(answer: &Answer) -> Response<Body> {
    let built = Response::builder()
        .status(answer.status)
        .header("content-type", answer.kind)
        .body(Body::from(answer.body.clone()));
    built.unwrap_or_default()
}

/// A body of which only half ever comes.
struct HalfBody {
    half: Option<Bytes>,
    length: u64,
}

impl hyper::body::Body for HalfBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.half.take() {
            Some(half) => Poll::Ready(Some(Ok(Frame::data(half)))),
            // Nobody is ever woken: the connection ends with its other side, or with us.
            None => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
