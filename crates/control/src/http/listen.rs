//! Accepting connections and speaking HTTP/1.1 on them, within bounds.
//!
//! Never waits for a slow peer beyond its time, and never holds more connections than it was told to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long the head of a request may take to arrive, and how long a connection may rest between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// Pause after the system refused a connection: no descriptors left, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The other end of the connection a request came over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Serves `router` until `stop`, then lets open calls finish within `grace`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    grace: Duration,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let service = TowerToHyperService::new(router);
    let mut open = JoinSet::new();
    loop {
        let (stream, address, place) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
            Some(ended) = open.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "a connection's task failed");
                }
                continue;
            }
        };
        open.spawn(converse(stream, address, service.clone(), place, stop.clone()));
    }
    drop(listener);
    // Those that do not finish are dropped with the set.
    let all = async { while open.join_next().await.is_some() {} };
    if timeout(grace, all).await.is_err() {
        debug!("some connections did not finish in time");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (stream, address, place),
            Err(error) => {
                debug!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(
    stream: TcpStream,
    address: SocketAddr,
    router: TowerToHyperService<Router>,
    place: OwnedSemaphorePermit,
    stop: CancellationToken,
) {
    // Answers are small; waiting to fill a segment would only delay them. A failure means the peer is gone already.
    let _gone = stream.set_nodelay(true);
    let peer = Peer(address.ip().to_canonical());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, peer = %peer.0, "a connection ended with an error");
    }
    drop(place);
}
