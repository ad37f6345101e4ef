//! Connections that speak HTTP for more than one request for a WebSocket: polling, health, faults. Hyper serves them.
//! Never keeps one that became a WebSocket: hyper is gone once the upgrade was answered.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::fresh::Taken;
use super::{Answer, Door, HEAD_BYTES_MAX};
use crate::channel::Channel;
use crate::reactor::watched;
use crate::state::{NodeState, Permit};

/// Plaintext that TLS may hold when a connection becomes a WebSocket: no more is decrypted at once.
const LEFTOVER_BYTES_MAX: usize = 64 * 1024;

/// Serves requests until the connection ends or becomes a WebSocket. `read` was read of it before.
pub(super) async fn serve(
    state: Rc<NodeState>,
    channel: Channel,
    address: SocketAddr,
    permit: Permit,
    read: Bytes,
) {
    let is_secure = channel.is_secure();
    let stream = match watched(channel, Interest::READABLE | Interest::WRITABLE) {
        Ok(channel) => Rewound { read, channel },
        Err(error) => return tracing::debug!(%error, "a connection ended at once"),
    };
    let door = Rc::new(Door { state: Rc::clone(&state), address, is_secure, takeover: RefCell::new(None) });
    let service = {
        let door = Rc::clone(&door);
        service_fn(move |request: http::Request<Incoming>| -> Answer {
            let door = Rc::clone(&door);
            Box::pin(async move { Ok(door.answer(request.map(Some)).await) })
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(state.config.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown();
    let ended = tokio::select! {
        ended = connection => ended,
        () = stopped_late(&state) => return,
    };
    let parts = match ended {
        Ok(parts) => parts,
        Err(error) => {
            tracing::debug!(%error, "an http connection ended early");
            return;
        }
    };
    let Some(takeover) = door.takeover.take() else { return };
    let channel = parts.io.into_inner().channel.into_inner();
    let mut leftover = parts.read_buf.to_vec();
    if channel.has_unread() {
        let start = leftover.len();
        leftover.resize(start + LEFTOVER_BYTES_MAX, 0);
        let read = channel.read(&mut leftover[start..]).unwrap_or_default();
        leftover.truncate(start + read);
    }
    let taken = Taken { channel, permit, place: None, leftover };
    taken.become_websocket(&state, takeover, Vec::new());
}

/// Some time after the node began to stop: waiting polls have been answered by then.
async fn stopped_late(state: &NodeState) {
    state.stopping.cancelled().await;
    tokio::time::sleep(state.config.close_timeout).await;
}

/// A connection of which some bytes were read before, for the runtime to wait for.
struct Rewound {
    read: Bytes,
    channel: AsyncFd<Channel>,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let bytes = self.read.len().min(into.remaining());
            into.put_slice(&self.read[..bytes]);
            self.read.advance(bytes);
            return Poll::Ready(Ok(()));
        }
        loop {
            if self.channel.get_ref().has_unread() {
                let bytes = self.channel.get_ref().read(into.initialize_unfilled())?;
                into.advance(bytes);
                return Poll::Ready(Ok(()));
            }
            let mut ready = ready!(self.channel.poll_read_ready(context))?;
            if let Ok(read) = ready.try_io(|channel| channel.get_ref().read(into.initialize_unfilled())) {
                into.advance(read?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Rewound {
    /// Writes in some way, once the kernel takes more.
    fn poll_with<T>(
        &self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&Channel) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            let mut ready = ready!(self.channel.poll_write_ready(context))?;
            if let Ok(written) = ready.try_io(|channel| write(channel.get_ref())) {
                return Poll::Ready(written);
            }
        }
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_with(context, |channel| channel.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_with(context, |channel| channel.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.channel.get_ref().has_unsent() {
            return self.poll_with(context, Channel::flush);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.channel.get_ref().finish())
    }
}
