//! Accepting connections and speaking HTTP/1.1 on them, under TLS where there is a certificate, within bounds.
//!
//! Never waits for a slow peer beyond its time, and never holds more connections than it was told to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use greenroom_tls::{Tls, facts};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Listening;
use super::inside::Shown;
use super::seldom::Seldom;

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

/// The first byte of a TLS handshake. No word of HTTP begins with it.
const TLS_HANDSHAKE: u8 = 0x16;
/// Said to those who speak plain HTTP where TLS is spoken.
const USE_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 42\r\n\
    connection: close\r\n\r\nthis port speaks TLS: write https:// here\n";

/// Serves `router` until `stop`, then lets open calls finish within `grace`.
pub(crate) async fn serve(
    (listener, tls): Listening,
    router: Router,
    connections_max: usize,
    grace: Duration,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let service = TowerToHyperService::new(router);
    let tls = tls.map(|tls| (tls, Arc::new(Seldom::default())));
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
        open.spawn(receive(stream, tls.clone(), address, service.clone(), place, stop.clone()));
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

async fn receive(
    stream: TcpStream,
    tls: Option<(Arc<Tls>, Arc<Seldom>)>,
    address: SocketAddr,
    router: TowerToHyperService<Router>,
    place: OwnedSemaphorePermit,
    stop: CancellationToken,
) {
    // Answers are small; waiting to fill a segment would only delay them. A failure means the peer is gone already.
    let _gone = stream.set_nodelay(true);
    let peer = Peer(address.ip().to_canonical());
    match tls {
        None => converse(stream, None, peer, router, stop).await,
        Some((tls, told)) => {
            let shaking = timeout(HEAD_TIMEOUT, handshake(stream, &tls, peer, &told));
            let shaken = tokio::select! {
                shaken = shaking => shaken,
                () = stop.cancelled() => return,
            };
            let Ok(Some(stream)) = shaken else { return };
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| facts(chain.first()?));
            let shown = shown.map(|shown| Shown(shown.names.into()));
            converse(stream, shown, peer, router, stop).await;
        }
    }
    drop(place);
}

/// `None` for those who are not let in; they and the log are told why.
async fn handshake(
    mut stream: TcpStream,
    tls: &Tls,
    peer: Peer,
    told: &Seldom,
) -> Option<TlsStream<TcpStream>> {
    let mut first = [0];
    let looked = stream.peek(&mut first).await;
    if !matches!(looked, Ok(1)) {
        return None;
    }
    if first[0] != TLS_HANDSHAKE {
        debug!(peer = %peer.0, "a caller speaks plain HTTP where TLS is spoken");
        // It may be gone already.
        let _told = stream.write_all(USE_HTTPS).await;
        return None;
    }
    let accepting = tls.accepting().expect("a listener with TLS has a certificate");
    match TlsAcceptor::from(accepting).accept(stream).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            let why = greenroom_tls::cause(&error).unwrap_or_else(|| error.to_string());
            // Strangers choose what fails here.
            if told.is_due() {
                warn!(peer = %peer.0, error = why, "a TLS handshake failed");
            } else {
                debug!(peer = %peer.0, error = why, "a TLS handshake failed");
            }
            None
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    shown: Option<Shown>,
    peer: Peer,
    router: TowerToHyperService<Router>,
    stop: CancellationToken,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        if let Some(shown) = &shown {
            request.extensions_mut().insert(shown.clone());
        }
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
}
