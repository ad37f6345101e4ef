//! Takes connections, up to the cap, and runs each until it ends or becomes a WebSocket.
//! Never lets one connection's failure end the loop.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use greenroom_socketio::ws::{Opcode, server_frame};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Answer, Door, Request, Takeover};
use crate::line::Line;
use crate::session::Session;
use crate::state::{NodeState, Permit};
use crate::websocket::{self, Purpose};

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Refusals at once; beyond them a connection is dropped without a word.
const REFUSALS_MAX: usize = 32;

/// What a full node answers, without HTTP machinery.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\
    connection: close\r\n\r\n";

/// Accepts until the node stops.
pub(crate) async fn run(state: Rc<NodeState>, listener: TcpListener) {
    let refusing = Rc::new(Cell::new(0usize));
    loop {
        let accepted = tokio::select! {
            () = state.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a client that went away: the next one may have more luck.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        match Permit::take(&state) {
            Some(permit) => {
                let connection = serve(Rc::clone(&state), stream, address, permit);
                state.spawn(connection);
            }
            None => {
                state.counting.connections_refused_total.one();
                if refusing.get() < REFUSALS_MAX {
                    state.spawn(refuse(stream, Rc::clone(&refusing)));
                }
            }
        }
    }
}

/// Says that the node is full. The request is read first, because a close with unread bytes would swallow the answer.
async fn refuse(mut stream: TcpStream, refusing: Rc<Cell<usize>>) {
    refusing.set(refusing.get() + 1);
    let talk = async {
        let mut head = [0; 1024];
        let _read = stream.read(&mut head).await?;
        stream.write_all(FULL).await?;
        stream.shutdown().await
    };
    // Whether the answer arrived changes nothing here.
    let _told = tokio::time::timeout(Duration::from_secs(1), talk).await;
    refusing.set(refusing.get() - 1);
}

async fn serve(state: Rc<NodeState>, stream: TcpStream, address: SocketAddr, permit: Permit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended at once");
        return;
    }
    let door = Rc::new(Door { state: Rc::clone(&state), address, takeover: RefCell::new(None) });
    let service = {
        let door = Rc::clone(&door);
        service_fn(move |request: Request| -> Answer {
            let door = Rc::clone(&door);
            Box::pin(async move { Ok(door.answer(request).await) })
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
    let takeover = door.takeover.take();
    let stream = Rc::new(parts.io.into_inner());
    if let Some(takeover) = takeover {
        take_over(&state, takeover, &stream, parts.read_buf, permit);
    }
}

/// Some time after the node began to stop: waiting polls have been answered by then.
async fn stopped_late(state: &NodeState) {
    state.stopping.cancelled().await;
    tokio::time::sleep(state.config.close_timeout).await;
}

/// Starts the small task of a WebSocket; the caller's big one ends.
fn take_over(
    state: &Rc<NodeState>,
    takeover: Takeover,
    stream: &Rc<TcpStream>,
    leftover: Bytes,
    permit: Permit,
) {
    let (session, purpose) = match takeover {
        Takeover::Open(handshake) => (Session::open_websocket(state, handshake, stream), Purpose::Active),
        Takeover::Upgrade(session) => {
            match &mut *session.line.borrow_mut() {
                Line::Polling(polling) => polling.candidate = Some(Rc::clone(stream)),
                Line::WebSocket(_) | Line::Gone => return,
            }
            (session, Purpose::Candidate)
        }
        Takeover::Refuse => {
            // The client learns it by the close; whether it hears the frame changes nothing.
            let _told = stream.try_write(&server_frame(Opcode::Close, &[]));
            return;
        }
    };
    state.spawn(websocket::run(session, Rc::clone(stream), purpose, leftover, permit));
}
