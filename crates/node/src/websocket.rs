//! What happens to the bytes of a WebSocket: read into the node's shared buffer, handed on as whole messages.
//! Never writes, except the answer to a probe: the flusher does.

use std::io;
use std::rc::Rc;

use greenroom_socketio::engine::{DisconnectReason, EnginePacket, PROBE, UpgradeStep};
use greenroom_socketio::ws::{Event, Opcode, server_frame};

use crate::line::{Body, Line};
use crate::session::{Goodbye, Session};
use crate::state::NodeState;
use crate::wire::Wire;

/// What a WebSocket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It carries its session.
    Active,
    /// The session may move here from polling.
    Candidate,
}

/// Gives a connection to its session and reads it from now on. `leftover` came behind the HTTP request.
pub(crate) fn begin(wire: &Rc<Wire>, session: &Rc<Session>, leftover: &mut [u8]) {
    wire.session.replace(Some(Rc::clone(session)));
    if !leftover.is_empty() && !take_in(session, wire, leftover) {
        end(session, wire);
    }
}

/// Reads once. The answer says whether there may be more to read.
pub(crate) fn handle_readable(state: &NodeState, wire: &Rc<Wire>) -> bool {
    let Some(session) = wire.session.borrow().clone() else { return false };
    let mut scratch = state.scratch.borrow_mut();
    let (goes_on, has_more) = match wire.read(&mut scratch) {
        Ok(0) => (false, false),
        Ok(bytes) => {
            (take_in(&session, wire, &mut scratch[..bytes]), bytes == scratch.len() || wire.is_full())
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            (true, false)
        }
        Err(error) => {
            session.explain(&error);
            (false, false)
        }
    };
    drop(scratch);
    if wire.has_unsent() {
        // TLS has something to say by itself.
        state.mark_dirty(&session);
    }
    if !goes_on {
        end(&session, wire);
    }
    has_more
}

/// The kernel takes more again.
pub(crate) fn handle_writable(state: &NodeState, wire: &Rc<Wire>) {
    let Some(session) = wire.session.borrow().clone() else { return };
    let watched = state.reactor.watch_writable(wire, false);
    if let Line::WebSocket(line) = &mut *session.line.borrow_mut() {
        line.is_blocked = false;
    }
    if watched.is_ok() {
        session.flush();
    } else {
        session.close(DisconnectReason::TransportError, Goodbye::HangUp);
    }
}

/// Takes bytes in. Those of a session that closes are read and thrown away, so that its last words arrive.
fn take_in(session: &Rc<Session>, wire: &Rc<Wire>, bytes: &mut [u8]) -> bool {
    let mut frames = wire.frames.borrow_mut();
    let mut feed = frames.feed(bytes);
    loop {
        let event = match feed.next() {
            Ok(Some(event)) => event,
            Ok(None) => return true,
            Err(error) => {
                tracing::debug!(%error, "websocket frame refused");
                return match wire.purpose.get() {
                    Purpose::Active => {
                        session.explain(&error);
                        session.close_faulty(DisconnectReason::ParseError, Some(error.close_code()));
                        true
                    }
                    Purpose::Candidate => false,
                };
            }
        };
        let goes_on = match wire.purpose.get() {
            Purpose::Active => {
                handle_active(session, event);
                true
            }
            Purpose::Candidate => handle_candidate(session, wire, event),
        };
        if !goes_on {
            return false;
        }
    }
}

/// The connection was read to its end, or is not worth reading on.
pub(crate) fn end(session: &Rc<Session>, wire: &Rc<Wire>) {
    session.state.reactor.remove_websocket(wire);
    wire.session.take();
    match wire.purpose.get() {
        Purpose::Candidate => {
            wire.hang_up();
            session.abandon_upgrade();
        }
        Purpose::Active if session.is_closing() => session.end(),
        Purpose::Active => session.close(DisconnectReason::TransportClose, Goodbye::HangUp),
    }
}

fn handle_active(session: &Rc<Session>, event: Event<'_>) {
    match event {
        Event::Text(text) => match EnginePacket::decode_text(text) {
            Ok(packet) => session.handle_packet(packet),
            Err(error) => {
                session.explain(&error);
                session.close_faulty(DisconnectReason::ParseError, None);
            }
        },
        Event::Binary(bytes) => session.handle_packet(EnginePacket::decode_binary(bytes)),
        Event::Ping(payload) if session.is_open() => session.push_frame(server_frame(Opcode::Pong, payload)),
        Event::Ping(_) | Event::Pong(_) => {}
        Event::Close(frame) => session.handle_close_frame(&frame),
    }
}

/// A packet before the session has moved. The answer says whether the connection is kept.
fn handle_candidate(session: &Rc<Session>, wire: &Rc<Wire>, event: Event<'_>) -> bool {
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
            if wire.write(&frame).ok() != Some(frame.len()) {
                return false;
            }
            if let Line::Polling(polling) = &mut *session.line.borrow_mut()
                && polling.is_empty()
                && let Some(waiter) = polling.waiter.take()
            {
                let _gone = waiter.send(Body::NOOP);
            }
            session.state.mark_dirty(session);
            true
        }
        Ok(UpgradeStep::Switch) => {
            wire.purpose.set(Purpose::Active);
            session.switch_line(wire);
            true
        }
        Ok(UpgradeStep::SendUpgrade) | Err(_) => false,
    }
}
