//! A connection whose first request is not there yet. One that asks for a WebSocket in one piece, as all clients do,
//! is answered here; everything else goes to `served`, with the bytes that were read.
//! Never a second request: whoever keeps a connection alive is with `served`.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use greenroom_socketio::ws::{Opcode, server_frame};
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;

use super::{Door, HEAD_BYTES_MAX, Request, Response, Takeover, served, upgrade};
use crate::channel::Channel;
use crate::line::Line;
use crate::session::Session;
use crate::state::{Due, NodeState, Permit};
use crate::websocket::{self, Purpose};
use crate::wire::Wire;

/// Headers of a request that is read here.
const HEADERS_MAX: usize = 64;

const TOO_LONG: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\
    connection: close\r\n\r\n";

pub(crate) struct Fresh {
    pub(crate) channel: Channel,
    address: SocketAddr,
    permit: Permit,
    /// Where the reactor keeps it.
    pub(crate) place: Cell<Option<usize>>,
}

impl Fresh {
    /// Waits for the request, not for ever.
    pub(crate) fn begin(state: &Rc<NodeState>, channel: Channel, address: SocketAddr, permit: Permit) {
        let fresh = Rc::new(Self { channel, address, permit, place: Cell::new(None) });
        if let Err(error) = state.reactor.add_fresh(&fresh) {
            return tracing::debug!(%error, "a connection ended at once");
        }
        let by = state.now().after(state.config.header_timeout);
        state.schedule(by, Due::Fresh(Rc::downgrade(&fresh)));
    }

    /// Reads what is there and finds out who it is for.
    pub(crate) fn handle_readable(self: Rc<Self>, state: &Rc<NodeState>) {
        let mut scratch = state.scratch.borrow_mut();
        let got = match self.channel.read(&mut scratch) {
            Ok(0) => return state.reactor.remove_fresh(&self),
            Ok(got) => got,
            Err(error) => {
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                    if self.channel.is_secure() {
                        state.counting.tls_faults_total.one();
                        tracing::debug!(%error, "tls failed");
                    }
                    state.reactor.remove_fresh(&self);
                }
                return;
            }
        };
        match read_first(&scratch[..got]) {
            First::TooLong => {
                write_last(&self.channel, TOO_LONG);
                state.reactor.remove_fresh(&self);
            }
            First::WebSocket(request, used) => {
                let leftover = scratch[used..got].to_vec();
                drop(scratch);
                self.answer(state, *request, leftover);
            }
            First::Other => {
                let read = Bytes::copy_from_slice(&scratch[..got]);
                drop(scratch);
                if let Some((own, place)) = self.leave(state) {
                    state.reactor.release(place, &own.channel);
                    state.spawn(served::serve(Rc::clone(state), own.channel, own.address, own.permit, read));
                }
            }
        }
    }

    /// Takes the connection out of its place, which stays reserved.
    fn leave(self: Rc<Self>, state: &NodeState) -> Option<(Self, usize)> {
        let place = self.place.take()?;
        state.reactor.vacate(place);
        Some((Rc::try_unwrap(self).ok()?, place))
    }

    fn answer(self: Rc<Self>, state: &Rc<NodeState>, request: Request, leftover: Vec<u8>) {
        let Some((own, place)) = self.leave(state) else { return };
        let door = Rc::new(Door {
            state: Rc::clone(state),
            address: own.address,
            is_secure: own.channel.is_secure(),
            takeover: RefCell::new(None),
        });
        let mut answering = Box::pin(Rc::clone(&door).answer(request));
        // Hardly ever does the program want to think about it.
        if let Some(response) = (&mut answering).now_or_never() {
            let taken = Taken { channel: own.channel, permit: own.permit, place: Some(place), leftover };
            return taken.finish(state, response, door.takeover.take());
        }
        state.reactor.release(place, &own.channel);
        let taken = Taken { channel: own.channel, permit: own.permit, place: None, leftover };
        let spawner = Rc::clone(state);
        let state = Rc::clone(state);
        spawner.spawn(async move {
            let response = answering.await;
            taken.finish(&state, response, door.takeover.take());
        });
    }
}

/// The last bytes of a connection. They are few and the connection is young, so that its buffer takes them; who does
/// not hear them learns as much by the close.
fn write_last(channel: &Channel, bytes: &[u8]) {
    let _told = channel.write(bytes);
    let _closed_before = channel.finish();
}

/// What the first bytes of a connection are.
enum First {
    /// A whole request for a WebSocket, and how many bytes it took.
    WebSocket(Box<Request>, usize),
    TooLong,
    /// For `served`, faults included.
    Other,
}

fn read_first(bytes: &[u8]) -> First {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(used)) if used > HEAD_BYTES_MAX => First::TooLong,
        Ok(httparse::Status::Complete(used)) => {
            read_upgrade(&head).map_or(First::Other, |request| First::WebSocket(Box::new(request), used))
        }
        Ok(httparse::Status::Partial) if bytes.len() > HEAD_BYTES_MAX => First::TooLong,
        Ok(httparse::Status::Partial) | Err(_) => First::Other,
    }
}

fn read_upgrade(head: &httparse::Request<'_, '_>) -> Option<Request> {
    if head.method != Some("GET") || head.version != Some(1) {
        return None;
    }
    let mut request = http::Request::new(None);
    *request.uri_mut() = head.path?.parse().ok()?;
    for header in &*head.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    let headers = request.headers();
    let has_body =
        headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    (upgrade::is_asked(headers) && !has_body).then_some(request)
}

/// The bytes of an answer; any but 101 is the last one.
fn render(response: Response) -> Vec<u8> {
    let (parts, body) = response.into_parts();
    let body = match body.collect().now_or_never() {
        Some(Ok(body)) => body.to_bytes(),
        Some(Err(never)) => match never {},
        None => Bytes::new(),
    };
    let mut out = Vec::with_capacity(256 + body.len());
    let reason = parts.status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_str()).as_bytes());
    for (name, value) in &parts.headers {
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(piece);
        }
    }
    if parts.status != StatusCode::SWITCHING_PROTOCOLS {
        let length = body.len();
        out.extend_from_slice(format!("content-length: {length}\r\nconnection: close\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body);
    out
}

/// A connection whose request was answered, or is about to be.
pub(super) struct Taken {
    pub(super) channel: Channel,
    pub(super) permit: Permit,
    /// Its place with the reactor, where it has one.
    pub(super) place: Option<usize>,
    /// What came behind the request.
    pub(super) leftover: Vec<u8>,
}

impl Taken {
    fn finish(self, state: &Rc<NodeState>, response: Response, takeover: Option<Takeover>) {
        let answer = render(response);
        match takeover {
            Some(takeover) => self.become_websocket(state, takeover, answer),
            None => self.end(state, &answer),
        }
    }

    fn end(self, state: &NodeState, answer: &[u8]) {
        write_last(&self.channel, answer);
        if let Some(place) = self.place {
            state.reactor.release(place, &self.channel);
        }
    }

    /// Makes a WebSocket of it. `answer` is what of the HTTP answer is not written yet.
    pub(super) fn become_websocket(self, state: &Rc<NodeState>, takeover: Takeover, mut answer: Vec<u8>) {
        let payload_bytes_max = state.config.limits.payload_bytes_max;
        match takeover {
            Takeover::Open(handshake) => {
                let Self { channel, permit, place, mut leftover } = self;
                let wire = Wire::new(channel, Purpose::Active, payload_bytes_max, permit);
                let session = Session::open_websocket(state, handshake, &wire, answer);
                watch(state, &wire, &session, place, &mut leftover);
            }
            Takeover::Upgrade(session) => {
                if !matches!(&*session.line.borrow(), Line::Polling(_)) {
                    return self.end(state, &[]);
                }
                let told = answer.is_empty() || self.channel.write(&answer).is_ok();
                let Self { channel, permit, place, mut leftover } = self;
                let wire = Wire::new(channel, Purpose::Candidate, payload_bytes_max, permit);
                if let Line::Polling(polling) = &mut *session.line.borrow_mut() {
                    polling.candidate = Some(Rc::clone(&wire));
                }
                watch(state, &wire, &session, place, &mut leftover);
                if !told {
                    wire.hang_up();
                }
            }
            Takeover::Refuse => {
                answer.extend_from_slice(&server_frame(Opcode::Close, &[]));
                self.end(state, &answer);
            }
        }
    }
}

fn watch(
    state: &NodeState,
    wire: &Rc<Wire>,
    session: &Rc<Session>,
    place: Option<usize>,
    leftover: &mut [u8],
) {
    if let Err(error) = state.reactor.add_websocket(wire, place) {
        tracing::debug!(%error, "a connection ended at once");
        return websocket::end(session, wire);
    }
    websocket::begin(wire, session, leftover);
}
