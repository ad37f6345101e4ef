//! Connections that speak HTTP for more than one request for a WebSocket: polling, health, faults. Hyper serves them.
//! Never keeps one that became a WebSocket: hyper is gone once the upgrade was answered.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::fresh::Taken;
use super::{Answer, Door, HEAD_BYTES_MAX};
use crate::state::{NodeState, Permit};

/// Serves requests until the connection ends or becomes a WebSocket. `read` was read of it before.
pub(super) async fn serve(
    state: Rc<NodeState>,
    stream: std::net::TcpStream,
    address: SocketAddr,
    permit: Permit,
    read: Bytes,
) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => Rewound { read, stream },
        Err(error) => return tracing::debug!(%error, "a connection ended at once"),
    };
    let door = Rc::new(Door { state: Rc::clone(&state), address, takeover: RefCell::new(None) });
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
    match parts.io.into_inner().stream.into_std() {
        Ok(stream) => {
            let leftover = parts.read_buf.to_vec();
            let taken = Taken { stream, permit, place: None, leftover };
            taken.become_websocket(&state, takeover, Vec::new());
        }
        Err(error) => tracing::debug!(%error, "a connection ended at once"),
    }
}

/// Some time after the node began to stop: waiting polls have been answered by then.
async fn stopped_late(state: &NodeState) {
    state.stopping.cancelled().await;
    tokio::time::sleep(state.config.close_timeout).await;
}

/// A connection of which some bytes were read before.
struct Rewound {
    read: Bytes,
    stream: TcpStream,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let bytes = self.read.len().min(into.remaining());
        into.put_slice(&self.read[..bytes]);
        self.read.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
