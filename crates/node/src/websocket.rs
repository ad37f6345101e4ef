//! The one small task of a WebSocket connection: waits for bytes, reads them into the node's shared buffer, hands
//! whole messages on.
//! Never writes, except the answer to a probe: the flusher does.

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use greenroom_socketio::engine::{DisconnectReason, EnginePacket, PROBE, UpgradeStep};
use greenroom_socketio::ws::{Decoder, Event, Opcode, Role, server_frame};
use tokio::net::TcpStream;

use crate::line::{Line, hang_up};
use crate::session::{Goodbye, Session};
use crate::state::{NodeState, Permit};

/// What a fresh WebSocket is for.
pub(crate) enum Purpose {
    /// It opened this session.
    Active,
    /// The session may move here from polling.
    Candidate,
}

/// Reads one connection until its end. `leftover` came behind the HTTP request.
pub(crate) async fn run(
    session: Rc<Session>,
    stream: Rc<TcpStream>,
    purpose: Purpose,
    leftover: Bytes,
    _permit: Permit,
) {
    let state = Rc::clone(&session.state);
    let mut reader = Reader {
        decoder: Decoder::new(Role::Server, state.config.limits.payload_bytes_max),
        stream,
        session,
        purpose,
    };
    if !leftover.is_empty() && !reader.handle(&mut leftover.to_vec()) {
        return reader.end();
    }
    while reader.stream.readable().await.is_ok() {
        if !reader.read(&state) {
            break;
        }
    }
    reader.end();
}

struct Reader {
    decoder: Decoder,
    stream: Rc<TcpStream>,
    session: Rc<Session>,
    purpose: Purpose,
}

impl Reader {
    /// Reads once. The answer says whether to go on.
    fn read(&mut self, state: &NodeState) -> bool {
        let mut scratch = state.scratch.borrow_mut();
        match self.stream.try_read(&mut scratch) {
            Ok(0) => false,
            Ok(bytes) => self.handle(&mut scratch[..bytes]),
            Err(error) => {
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
            }
        }
    }

    /// Takes bytes in. Those of a session that closes are read and thrown away, so that its last words arrive.
    fn handle(&mut self, bytes: &mut [u8]) -> bool {
        let mut feed = self.decoder.feed(bytes);
        loop {
            let event = match feed.next() {
                Ok(Some(event)) => event,
                Ok(None) => return true,
                Err(error) => {
                    tracing::debug!(%error, "websocket frame refused");
                    let purpose = &self.purpose;
                    return match purpose {
                        Purpose::Active => {
                            self.session.close_faulty(DisconnectReason::ParseError, Some(error.close_code()));
                            true
                        }
                        Purpose::Candidate => false,
                    };
                }
            };
            let goes_on = match self.purpose {
                Purpose::Active => {
                    handle_active(&self.session, event);
                    true
                }
                Purpose::Candidate => handle_candidate(&self.session, &self.stream, &mut self.purpose, event),
            };
            if !goes_on {
                return false;
            }
        }
    }

    fn end(&self) {
        match self.purpose {
            Purpose::Candidate => {
                hang_up(&self.stream);
                self.session.abandon_upgrade();
            }
            Purpose::Active if self.session.is_closing() => self.session.end(),
            Purpose::Active => self.session.close(DisconnectReason::TransportClose, Goodbye::HangUp),
        }
    }
}

fn handle_active(session: &Rc<Session>, event: Event<'_>) {
    match event {
        Event::Text(text) => match EnginePacket::decode_text(text) {
            Ok(packet) => session.handle_packet(packet),
            Err(_) => session.close_faulty(DisconnectReason::ParseError, None),
        },
        Event::Binary(bytes) => session.handle_packet(EnginePacket::decode_binary(bytes)),
        Event::Ping(payload) if session.is_open() => session.push_frame(server_frame(Opcode::Pong, payload)),
        Event::Ping(_) | Event::Pong(_) => {}
        Event::Close(frame) => session.handle_close_frame(&frame),
    }
}

/// A packet before the session has moved. The answer says whether the connection is kept.
fn handle_candidate(
    session: &Rc<Session>,
    stream: &Rc<TcpStream>,
    purpose: &mut Purpose,
    event: Event<'_>,
) -> bool {
    let packet = match event {
        Event::Text(text) => EnginePacket::decode_text(text).ok(),
        Event::Ping(_) | Event::Pong(_) => return true,
        Event::Binary(_) | Event::Close(_) => None,
    };
    let Some(packet) = packet else { return false };
    let mut upgrade = session.upgrade.get();
    let step = upgrade.handle(&packet);
    session.upgrade.set(upgrade);
    match step {
        Ok(UpgradeStep::AnswerProbe) => {
            let mut frame = Vec::new();
            EnginePacket::Pong(PROBE).write_frame(None, &mut frame);
            // The connection is fresh, so that its buffer takes these few bytes.
            if stream.try_write(&frame).ok() != Some(frame.len()) {
                return false;
            }
            if let Line::Polling(polling) = &mut *session.line.borrow_mut()
                && polling.is_empty()
                && let Some(waiter) = polling.waiter.take()
            {
                let _gone = waiter.send(Bytes::from_static(b"6"));
            }
            session.state.mark_dirty(session);
            true
        }
        Ok(UpgradeStep::Switch) => {
            *purpose = Purpose::Active;
            session.switch_line(stream);
            true
        }
        Ok(UpgradeStep::SendUpgrade) | Err(_) => false,
    }
}
