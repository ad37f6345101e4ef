//! The two lines a session can be on, and what waits in them: HTTP long-polling and WebSocket.
//! Never decides when a session ends.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;

use bytes::Bytes;
use greenroom_socketio::engine::PayloadWriter;
use greenroom_socketio::packet::Prepared;
use greenroom_socketio::ws::{Opcode, close_payload, server_frame};
use tokio::sync::oneshot;

use crate::outbound::{Outbound, SLICES_MAX};
use crate::session::{Goodbye, Session};
use crate::wire::Wire;

/// The Engine.IO close packet.
const GOODBYE: &str = "1";

/// Where the bytes of a session go.
pub(crate) enum Line {
    Polling(Box<Polling>),
    WebSocket(WebSocket),
    Gone,
}

/// A WebSocket and what waits for it.
pub(crate) struct WebSocket {
    wire: Rc<Wire>,
    pub(crate) out: Outbound,
    /// The kernel took no more; the reactor tells when it does.
    pub(crate) is_blocked: bool,
}

/// A polling session's queue and its waiting request.
#[derive(Default)]
pub(crate) struct Polling {
    queue: VecDeque<Unit>,
    bytes: usize,
    pub(crate) waiter: Option<oneshot::Sender<Body>>,
    pub(crate) is_posting: bool,
    /// The WebSocket that the session may move to.
    pub(crate) candidate: Option<Rc<Wire>>,
}

/// The body of an answer to a poll.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    /// Whether anything in it may be compressed.
    pub(crate) is_compressible: bool,
}

impl Body {
    /// What releases a poll that has nothing to bring.
    pub(crate) const NOOP: Self = Self { bytes: Bytes::from_static(b"6"), is_compressible: false };
}

/// One thing in a polling queue; it may still leave by WebSocket.
enum Unit {
    Packet(Prepared),
    Engine(&'static str, Bytes),
}

impl Line {
    /// Whether a volatile event may be sent.
    pub(crate) fn is_writable(&self) -> bool {
        match self {
            Self::Polling(polling) => polling.waiter.is_some() && polling.queue.is_empty(),
            Self::WebSocket(line) => !line.is_blocked,
            Self::Gone => false,
        }
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        match self {
            Self::Polling(polling) => polling.bytes,
            Self::WebSocket(line) => line.out.bytes(),
            Self::Gone => 0,
        }
    }

    pub(crate) fn push_packet(&mut self, packet: &Prepared) {
        match self {
            Self::Polling(polling) => {
                polling.bytes += packet.frames_bytes();
                polling.queue.push_back(Unit::Packet(packet.clone()));
            }
            Self::WebSocket(line) => packet.frames().for_each(|frame| line.out.push(frame.clone())),
            Self::Gone => {}
        }
    }

    /// Queues an Engine.IO packet without payload in the form that the line wants.
    pub(crate) fn push_engine(&mut self, text: &'static str, frame: Bytes) {
        match self {
            Self::Polling(polling) => polling.queue.push_back(Unit::Engine(text, frame)),
            Self::WebSocket(line) => line.out.push(frame),
            Self::Gone => {}
        }
    }

    /// Whether a polling session has handed out its last words.
    pub(crate) fn is_spent(&self) -> bool {
        match self {
            Self::Polling(polling) => polling.queue.is_empty(),
            Self::WebSocket(_) => false,
            Self::Gone => true,
        }
    }

    /// Writes what can be written now. A line that `is_closing` is shut down after its last byte.
    pub(crate) fn flush(&mut self, session: &Rc<Session>, is_closing: bool) -> io::Result<()> {
        match self {
            Self::Polling(polling) => {
                if !polling.queue.is_empty()
                    && let Some(waiter) = polling.waiter.take()
                {
                    let body = polling.take_body(session.state.config.limits.payload_bytes_max);
                    // A request that went away has closed the session by its own.
                    let _gone = waiter.send(body);
                }
                Ok(())
            }
            Self::WebSocket(line) => {
                let was_blocked = line.is_blocked;
                line.write(&mut session.state.gathered.borrow_mut())?;
                if line.is_blocked {
                    if !was_blocked {
                        session.state.reactor.watch_writable(&line.wire, true)?;
                    }
                } else if is_closing {
                    line.wire.finish()?;
                }
                Ok(())
            }
            Self::Gone => Ok(()),
        }
    }

    /// Queues the last words. The answer says whether anything is left to send.
    pub(crate) fn say_goodbye(&mut self, goodbye: Goodbye) -> bool {
        match (self, goodbye) {
            (Self::Gone, _) | (_, Goodbye::HangUp) => false,
            (Self::Polling(polling), Goodbye::Answered) => {
                if let Some(waiter) = polling.waiter.take() {
                    let _gone = waiter.send(Body::NOOP);
                }
                false
            }
            (Self::Polling(polling), Goodbye::Polite(_)) => {
                polling.queue.push_back(Unit::Engine(GOODBYE, Bytes::new()));
                true
            }
            (Self::WebSocket(line), goodbye) => {
                let payload = match goodbye {
                    Goodbye::Polite(Some(code)) => close_payload(code, ""),
                    Goodbye::Polite(None) | Goodbye::HangUp | Goodbye::Answered => Vec::new(),
                };
                line.out.push(server_frame(Opcode::Close, &payload));
                true
            }
        }
    }

    /// Ends the TCP connection at once.
    pub(crate) fn hang_up(&self) {
        match self {
            Self::Polling(polling) => {
                if let Some(candidate) = &polling.candidate {
                    candidate.hang_up();
                }
            }
            Self::WebSocket(line) => line.wire.hang_up(),
            Self::Gone => {}
        }
    }
}

impl WebSocket {
    pub(crate) fn new(wire: &Rc<Wire>) -> Self {
        Self { wire: Rc::clone(wire), out: Outbound::default(), is_blocked: false }
    }

    /// Writes until the queue is empty or the kernel takes no more. Small frames leave in one contiguous piece, which
    /// costs less than a list of pieces; `gathered` is the space for it.
    fn write(&mut self, gathered: &mut [u8]) -> io::Result<()> {
        while (!self.out.is_empty() || self.wire.has_unsent()) && !self.is_blocked {
            let written = match self.out.gather(gathered) {
                Some([]) => self.wire.flush().map(|()| 0),
                Some(contiguous) => self.wire.write(contiguous),
                None => {
                    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                    let count = self.out.slices(&mut slices);
                    self.wire.write_vectored(&slices[..count])
                }
            };
            match written {
                Ok(0) if !self.out.is_empty() => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.out.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Polling {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// As much of the queue as fits into one body. A goodbye has a body of its own: the stock client hands packets
    /// on a microtask later, and forgets those that came together with a close.
    pub(crate) fn take_body(&mut self, bytes_max: usize) -> Body {
        let mut is_compressible = false;
        let mut writer = PayloadWriter::new(bytes_max);
        let mut is_first = true;
        while let Some(unit) = self.queue.front() {
            let fits = match unit {
                Unit::Packet(packet) => writer.push_prepared(packet.polling()),
                Unit::Engine(GOODBYE, _) if !is_first => false,
                Unit::Engine(text, _) => writer.push_prepared(text.as_bytes()),
            };
            is_first = false;
            if !fits {
                break;
            }
            if let Some(Unit::Packet(packet)) = self.queue.pop_front() {
                self.bytes -= packet.frames_bytes();
                is_compressible |= packet.is_compressible();
            }
        }
        Body { bytes: Bytes::from(writer.finish()), is_compressible }
    }

    /// The session moves to a WebSocket.
    pub(crate) fn move_to(self, line: &mut WebSocket) {
        if let Some(waiter) = self.waiter {
            let _gone = waiter.send(Body::NOOP);
        }
        for unit in self.queue {
            match unit {
                Unit::Packet(packet) => packet.frames().for_each(|frame| line.out.push(frame.clone())),
                Unit::Engine(_, frame) => line.out.push(frame),
            }
        }
    }
}
