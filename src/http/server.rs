//! Accepts connections: bounded in number, in the size of headers, and in the time they take.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::client_ip::Peer;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 12_000;
/// How long the head of a request may take, the wait for the next one on a connection included.
const HEAD_TIME: Duration = Duration::from_secs(8);
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Bytes of a request's head.
const HEAD_MAX: usize = 16 * 1024;

/// Serves until it is stopped, then lets the requests under way finish.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let (connections, tracker) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), TaskTracker::new());
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or a connection that was gone again: not the end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (router, stop) = (router.clone(), stop.clone());
        tracker.spawn(async move {
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(Peer(peer));
                let router = router.clone();
                async move {
                    let answered = router.oneshot(request).await;
                    Ok::<_, Infallible>(answered.unwrap_or_else(|never| match never {}))
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_headers(HEADERS_MAX)
                .max_buf_size(HEAD_MAX)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(permit);
        });
    }
    tracker.close();
    tracker.wait().await;
}
