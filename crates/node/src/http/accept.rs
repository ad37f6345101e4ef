//! Takes connections, up to the cap, and hands each to the reactor until its first request is there.
//! Never lets one connection's failure end the loop.

use std::cell::Cell;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpListener;

use super::Fresh;
use crate::channel::Channel;
use crate::reactor::watched;
use crate::state::{NodeState, Permit};
use crate::tls::Certificate;

/// Connections taken in one turn, before the rest of the node has its own. Many, because what overflows the kernel's
/// backlog comes back a whole second later.
const ACCEPTS_MAX: usize = 1024;

/// Refusals at once; beyond them a connection is dropped without a word.
const REFUSALS_MAX: usize = 32;

/// What a full node answers, without HTTP machinery.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\
    connection: close\r\n\r\n";

/// The same where its health was asked for: a full node is a healthy one.
const HEALTHY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\
    connection: close\r\n\r\nalive";

/// Accepts until the node stops.
pub(crate) async fn run(state: Rc<NodeState>, listener: TcpListener) {
    // What is accepted inherits it, which saves a system call each.
    let inherited = socket2::SockRef::from(&listener).set_tcp_nodelay(true);
    let listener = match inherited.and_then(|()| watched(listener.into_std()?, Interest::READABLE)) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "connections cannot be waited for"),
    };
    let refusing = Rc::new(Cell::new(0usize));
    loop {
        let ready = tokio::select! {
            () = state.stopping.cancelled() => return,
            ready = listener.readable() => ready,
        };
        let mut ready = match ready {
            Ok(ready) => ready,
            Err(error) => return tracing::error!(%error, "connections cannot be waited for"),
        };
        for _ in 0..ACCEPTS_MAX {
            match acceptfrom_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((descriptor, address)) => {
                    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                    if let Some(address) = address {
                        take(&state, descriptor, address, &refusing);
                    }
                }
                Err(rustix::io::Errno::AGAIN) => {
                    ready.clear_ready();
                    break;
                }
                Err(error) => {
                    // Out of descriptors, or a client that went away: the next one may have more luck.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    break;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

fn take(state: &Rc<NodeState>, descriptor: OwnedFd, address: SocketAddr, refusing: &Rc<Cell<usize>>) {
    let stream = TcpStream::from(descriptor);
    let taken = Permit::take(state, address.ip());
    match taken {
        Some(permit) => match state.certificate.as_ref().map(Certificate::begin).transpose() {
            Ok(tls) => Fresh::begin(state, Channel::new(stream, tls), address, permit),
            Err(error) => tracing::warn!(%error, "tls cannot begin"),
        },
        None => {
            state.counting.connections_refused_total.one();
            // Under TLS the word would cost a handshake, which a full node does not give away.
            if state.certificate.is_none() && refusing.get() < REFUSALS_MAX {
                state.spawn(refuse(stream, Rc::clone(refusing)));
            }
        }
    }
}

/// Says that the node is full. The request is read first, because a close with unread bytes would swallow the answer.
async fn refuse(stream: TcpStream, refusing: Rc<Cell<usize>>) {
    refusing.set(refusing.get() + 1);
    let talk = async {
        let mut stream = tokio::net::TcpStream::from_std(stream)?;
        let mut head = [0; 1024];
        let read = stream.read(&mut head).await?;
        let asks_health =
            ["GET /livez ", "GET /readyz "].iter().any(|ask| head[..read].starts_with(ask.as_bytes()));
        stream.write_all(if asks_health { HEALTHY } else { FULL }).await?;
        stream.shutdown().await
    };
    // Whether the answer arrived changes nothing here.
    let _told = tokio::time::timeout(Duration::from_secs(1), talk).await;
    refusing.set(refusing.get() - 1);
}
