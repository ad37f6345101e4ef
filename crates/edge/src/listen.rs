//! The one address: accepts connections, under TLS where there is a certificate, and serves each.
//!
//! Never holds more of them than the file descriptors allow.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use greenroom_tls::Tls;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::proxy::Visitor;
use crate::splice::{Stream, bounded};
use crate::{Edge, PortUse};

/// How long the head of a request may take, and a connection rest between two: longer than the 25 s between two pings, so
/// that a polling client keeps its connections.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
const SHAKE_MAX: Duration = Duration::from_secs(10);
/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// Pause after the system refused a connection: no descriptors left, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Refusals at once; beyond them a connection is dropped without a word.
const REFUSALS_MAX: usize = 32;
/// Said to those who come when it is full.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Takes `address`, without listening there.
pub(crate) fn bind(address: SocketAddr, port_use: PortUse) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if port_use == PortUse::Shared {
        rustix::net::sockopt::set_socket_reuseport(&socket, true)?;
    }
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

/// From now on clients come.
pub(crate) fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the edge is told to stop.
pub(crate) async fn accept(
    edge: Arc<Edge>,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    connections_max: usize,
) {
    let places = Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    loop {
        let accepted = tokio::select! {
            () = edge.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let serving = receive(Arc::clone(&edge), stream, peer, tls.clone(), place);
                edge.tasks.spawn(serving);
            }
            Err(_) => {
                if let (None, Ok(refusal)) = (&tls, Arc::clone(&refusals).try_acquire_owned()) {
                    edge.tasks.spawn(refuse(stream, refusal));
                }
            }
        }
    }
}

/// Says that there is no place. The request is read first, because a close with unread bytes would swallow the answer.
async fn refuse(stream: TcpStream, _refusal: OwnedSemaphorePermit) {
    let talk = async {
        let mut head = [0; 1024];
        stream.readable().await?;
        stream.try_read(&mut head)?;
        stream.try_write(FULL)
    };
    // Whether the answer arrived changes nothing here.
    let _told = timeout(Duration::from_secs(1), talk).await;
}

async fn receive(
    edge: Arc<Edge>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Tls>>,
    place: OwnedSemaphorePermit,
) {
    // Frames are small. A failure means that the peer is gone already.
    let _gone = SockRef::from(&stream).set_tcp_nodelay(true);
    let is_secure = tls.is_some();
    let stream = bounded(stream);
    let stream: Box<dyn Stream> = match tls.as_ref().and_then(|tls| tls.accepting()) {
        None => Box::new(stream),
        Some(accepting) => match timeout(SHAKE_MAX, TlsAcceptor::from(accepting).accept(stream)).await {
            Ok(Ok(stream)) => Box::new(stream),
            Ok(Err(error)) => return debug!(%error, %peer, "a tls handshake failed"),
            Err(_) => return debug!(%peer, "a tls handshake took too long"),
        },
    };
    let visitor = Arc::new(Visitor::new(Arc::clone(&edge), peer.ip().to_canonical(), is_secure, place));
    let service = service_fn(move |request| {
        let visitor = Arc::clone(&visitor);
        async move { Ok::<_, Infallible>(visitor.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = edge.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = edge.over.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, %peer, "a connection ended with an error");
    }
}
