//! One Engine.IO session: its line (polling or WebSocket), heartbeat, deadlines and end.
//! Never knows what an event means: whole packets go to `dispatch`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use greenroom_socketio::Sid;
use greenroom_socketio::engine::{
    DisconnectReason, EnginePacket, Heartbeat, HeartbeatStep, Moment, Open, Transport, Upgrade,
};
use greenroom_socketio::packet::{Decoder, Prepared};
use greenroom_socketio::ws;

use crate::flush::Flush;
use crate::handshake::Handshake;
use crate::line::{Line, Polling, WebSocket};
use crate::socket::Socket;
use crate::state::{Due, NodeState, random_sid};
use crate::wire::Wire;

/// The ping as a whole server frame.
const PING_FRAME: Bytes = Bytes::from_static(&[0x81, 1, b'2']);

const NEVER: Moment = Moment::from_millis(u64::MAX);

/// How far a session is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// A reliable event did not fit; the flusher closes the session, because an emit must not call handlers.
    Overflowed,
    /// The sockets are gone; the last bytes may still leave.
    Closing,
    Closed,
}

/// Whether an event may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Delivered, or the session ends.
    Reliable,
    /// Dropped when the line cannot take it now.
    Volatile,
}

/// How a session takes its leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// The line is gone or not worth a word.
    HangUp,
    /// What is queued leaves, then the close of Engine.IO or WebSocket with this code.
    Polite(Option<u16>),
    /// The client said that it goes.
    Answered,
}

pub(crate) struct Session {
    pub(crate) state: Rc<NodeState>,
    pub(crate) sid: Sid,
    pub(crate) handshake: Handshake,
    pub(crate) is_dirty: Cell<bool>,
    /// Its events wait for their time.
    pub(crate) is_held: Cell<bool>,
    pub(crate) sockets: RefCell<Vec<Socket>>,
    /// Whether any namespace was ever connected.
    pub(crate) was_connected: Cell<bool>,
    pub(crate) line: RefCell<Line>,
    pub(crate) upgrade: Cell<Upgrade>,
    phase: Cell<Phase>,
    heartbeat: Cell<Heartbeat>,
    /// When the session ends unless a namespace is connected.
    connect_by: Cell<Moment>,
    /// When the last bytes have had their time.
    close_by: Cell<Moment>,
    armed_at: Cell<Moment>,
    pub(crate) decoder: RefCell<Decoder>,
    /// Bytes of missed events that may wait beside what is new; 0 once the line was empty.
    missed_bytes: Cell<usize>,
    /// What led to its end, for people.
    details: RefCell<Option<Box<str>>>,
}

impl Session {
    /// Opens a session on polling; the open packet is the answer to the request at hand.
    pub(crate) fn open_polling(state: &Rc<NodeState>, handshake: Handshake) -> Rc<Self> {
        Self::open(state, handshake, Line::Polling(Box::default()))
    }

    /// Opens a session on a fresh WebSocket and sends the open packet, behind what is left of the HTTP answer.
    pub(crate) fn open_websocket(
        state: &Rc<NodeState>,
        handshake: Handshake,
        wire: &Rc<Wire>,
        answer: Vec<u8>,
    ) -> Rc<Self> {
        let session = Self::open(state, handshake, Line::WebSocket(WebSocket::new(wire)));
        let mut frame = answer;
        let payload = session.open_payload(Transport::WebSocket);
        let open = EnginePacket::Open(&payload);
        open.write_frame(None, &mut frame);
        session.push_frame(Bytes::from(frame));
        session.tell_created(&open);
        session
    }

    fn open(state: &Rc<NodeState>, handshake: Handshake, line: Line) -> Rc<Self> {
        let now = state.now();
        let config = &state.config;
        let session = Rc::new(Self {
            state: Rc::clone(state),
            sid: random_sid(config),
            handshake,
            is_dirty: Cell::new(false),
            is_held: Cell::new(false),
            sockets: RefCell::default(),
            was_connected: Cell::new(false),
            line: RefCell::new(line),
            upgrade: Cell::default(),
            phase: Cell::new(Phase::Open),
            heartbeat: Cell::new(Heartbeat::server(config.ping_interval, now)),
            connect_by: Cell::new(now.after(config.connect_timeout)),
            close_by: Cell::new(NEVER),
            armed_at: Cell::new(NEVER),
            decoder: RefCell::new(config.parser.decoder()),
            missed_bytes: Cell::new(0),
            details: RefCell::default(),
        });
        state.sessions.borrow_mut().insert(session.sid, Rc::clone(&session));
        state.open_sessions.set(state.open_sessions.get() + 1);
        state.counting.sessions_opened_total.one();
        state.status_changed();
        session.arm(now.after(config.ping_interval.min(config.connect_timeout)));
        session
    }

    pub(crate) fn open_payload(&self, transport: Transport) -> String {
        let config = &self.state.config;
        let may_move = config.allow_upgrades && config.transports.has(Transport::WebSocket);
        let upgrades = match transport {
            Transport::Polling if may_move => vec![Transport::WebSocket.as_str().to_owned()],
            Transport::Polling | Transport::WebSocket => Vec::new(),
        };
        Open {
            sid: self.sid.as_str().to_owned(),
            upgrades,
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            max_payload: config.limits.payload_bytes_max as u64,
        }
        .to_json()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase.get() == Phase::Open
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.phase.get() == Phase::Closing
    }

    pub(crate) fn transport(&self) -> Transport {
        match &*self.line.borrow() {
            Line::Polling(_) => Transport::Polling,
            Line::WebSocket(_) | Line::Gone => Transport::WebSocket,
        }
    }

    /// Queues a packet. It leaves when the loop's turn is over.
    pub(crate) fn send(self: &Rc<Self>, packet: &Prepared, urgency: Urgency) {
        self.send_when(packet, urgency, Flush::AtOnce);
    }

    /// The same, leaving when its namespace wants.
    pub(crate) fn send_when(self: &Rc<Self>, packet: &Prepared, urgency: Urgency, flush: Flush) {
        if !self.is_open() {
            return;
        }
        let Some(packet) = self.written(packet) else { return };
        let mut line = self.line.borrow_mut();
        if urgency == Urgency::Volatile && !line.is_writable() {
            self.state.counting.volatile_dropped_total.one();
            return;
        }
        let waiting = line.queued_bytes();
        if waiting == 0 {
            self.missed_bytes.set(0);
        }
        let waiting_max = self.state.config.outbound_bytes_max.saturating_add(self.missed_bytes.get());
        if waiting > 0 && waiting + packet.frames_bytes() > waiting_max {
            self.state.counting.slow_closed_total.one();
            self.phase.set(Phase::Overflowed);
        } else {
            line.push_packet(packet);
        }
        drop(line);
        self.tell_created_prepared(packet);
        let flush = if self.is_open() { flush } else { Flush::AtOnce };
        self.state.held.hold(self, flush);
    }

    /// Queues an event that the client missed. All of them together are bounded by the History that they are from, whose
    /// bytes they share, so they may be more than a line else holds.
    pub(crate) fn send_missed(self: &Rc<Self>, packet: &Prepared) {
        self.missed_bytes.set(self.missed_bytes.get() + packet.frames_bytes());
        self.send(packet, Urgency::Reliable);
    }

    /// Queues a control frame. Somebody who asks for more answers than they read ends up like any slow reader.
    pub(crate) fn push_frame(self: &Rc<Self>, frame: Bytes) {
        if let Line::WebSocket(line) = &mut *self.line.borrow_mut() {
            line.out.push(frame);
            let bytes_max = self.state.config.outbound_bytes_max.saturating_add(self.missed_bytes.get());
            if line.out.bytes() > bytes_max {
                self.state.counting.slow_closed_total.one();
                self.phase.set(Phase::Overflowed);
            }
        }
        self.state.mark_dirty(self);
    }

    /// Writes what the line takes now. Called by the flusher, and when a blocked line can be written again.
    pub(crate) fn flush(self: &Rc<Self>) {
        if self.phase.get() == Phase::Overflowed {
            self.explain(&"more waited for the client than may");
            return self.close(DisconnectReason::TransportError, Goodbye::HangUp);
        }
        let is_closing = self.is_closing();
        let may_drain = self.may_drain();
        let flushed = self.line.borrow_mut().flush(self, is_closing);
        match flushed {
            Ok(()) if is_closing && self.line.borrow().is_spent() => self.end(),
            Ok(()) if may_drain => self.tell_drained(),
            Ok(()) => {}
            Err(_) if is_closing => self.end(),
            Err(error) => {
                tracing::debug!(sid_tail = self.sid_tail(), %error, "write failed");
                self.explain(&error);
                self.close(DisconnectReason::TransportError, Goodbye::HangUp);
            }
        }
    }

    /// The end of the sid, which is a secret as a whole.
    pub(crate) fn sid_tail(&self) -> &str {
        &self.sid.as_str()[16..]
    }

    /// Takes in one packet of the active line.
    pub(crate) fn handle_packet(self: &Rc<Self>, packet: EnginePacket<'_>) {
        if !self.is_open() {
            return;
        }
        self.tell_packet(&packet);
        if !self.is_open() {
            return;
        }
        let limits = &self.state.config.limits;
        match packet {
            EnginePacket::Text(text) => self.handle_message(|decoder| decoder.handle_text(text, limits)),
            EnginePacket::Binary(bytes) => {
                self.handle_message(|decoder| decoder.handle_binary(&bytes, limits));
            }
            EnginePacket::Pong(_) => {
                let mut heartbeat = self.heartbeat.get();
                let answered = heartbeat.handle_pong(self.state.config.ping_interval, self.state.now());
                self.heartbeat.set(heartbeat);
                debug_assert!(answered.is_ok(), "pongs belong to the server role");
                if let Some(recovery) = &self.state.recovery {
                    self.sockets.borrow().iter().for_each(|socket| recovery.answered(socket));
                }
            }
            EnginePacket::Close => self.close(DisconnectReason::TransportClose, Goodbye::Answered),
            // A client never pings, except to probe.
            EnginePacket::Ping(_) => self.close_faulty(DisconnectReason::TransportError, None),
            EnginePacket::Open(_) | EnginePacket::Upgrade | EnginePacket::Noop => {}
        }
    }

    /// Closes a session that sent what is no packet.
    pub(crate) fn close_faulty(self: &Rc<Self>, reason: DisconnectReason, code: Option<u16>) {
        if self.is_open() {
            self.state.counting.faulty_closed_total.one();
        }
        self.close(reason, Goodbye::Polite(code));
    }

    /// Notes what leads to the end that comes now. The first note counts.
    pub(crate) fn explain(&self, details: &dyn std::fmt::Display) {
        self.details.borrow_mut().get_or_insert_with(|| details.to_string().into());
    }

    pub(crate) fn details(&self) -> Option<String> {
        self.details.borrow().as_deref().map(str::to_owned)
    }

    /// The last namespace was left, or the first was connected.
    pub(crate) fn sockets_changed(self: &Rc<Self>) {
        if self.sockets.borrow().is_empty() {
            let by = self.state.now().after(self.state.config.connect_timeout);
            self.connect_by.set(by);
            self.arm(by);
        } else {
            self.was_connected.set(true);
            self.connect_by.set(NEVER);
        }
    }

    /// Ends the session: tells its sockets, then the line. Repeated calls do nothing.
    pub(crate) fn close(self: &Rc<Self>, reason: DisconnectReason, goodbye: Goodbye) {
        if !matches!(self.phase.get(), Phase::Open | Phase::Overflowed) {
            return;
        }
        self.phase.set(Phase::Closing);
        self.state.open_sessions.set(self.state.open_sessions.get() - 1);
        for socket in std::mem::take(&mut *self.sockets.borrow_mut()) {
            socket.handle_gone(reason);
        }
        let lingers = self.line.borrow_mut().say_goodbye(goodbye);
        if lingers {
            let by = self.state.now().after(self.state.config.close_timeout);
            self.close_by.set(by);
            self.arm(by);
            self.state.mark_dirty(self);
        } else {
            self.end();
        }
        self.state.status_changed();
    }

    /// Lets go of the line and of the sid.
    pub(crate) fn end(self: &Rc<Self>) {
        self.phase.set(Phase::Closed);
        self.state.sessions.borrow_mut().remove(&self.sid);
        self.line.replace(Line::Gone).hang_up();
    }

    /// Asks the wheel for a call at `at`, unless one comes earlier anyway.
    pub(crate) fn arm(self: &Rc<Self>, at: Moment) {
        if at < self.armed_at.get() {
            self.armed_at.set(at);
            self.state.schedule(at, Due::Session(Rc::downgrade(self)));
        }
    }

    /// The wheel's call. Deadlines that moved since are asked for anew.
    pub(crate) fn handle_deadline(self: &Rc<Self>, armed_at: Moment) {
        if self.armed_at.get() != armed_at {
            return;
        }
        self.armed_at.set(NEVER);
        let now = self.state.now();
        match self.phase.get() {
            Phase::Closed | Phase::Overflowed => return,
            Phase::Closing if self.close_by.get() <= now => return self.end(),
            Phase::Closing => return self.arm(self.close_by.get()),
            Phase::Open => {}
        }
        if self.connect_by.get() <= now {
            self.state.counting.connect_timeouts_total.one();
            self.explain(&"no namespace was connected in time");
            return self.close(DisconnectReason::ForcedServerClose, Goodbye::Polite(None));
        }
        if self.upgrade.get().deadline().is_some_and(|by| by <= now) {
            self.abandon_upgrade();
        }
        let mut heartbeat = self.heartbeat.get();
        let mut step = heartbeat.poll(self.state.config.ping_timeout, now);
        if step == HeartbeatStep::Ping {
            self.line.borrow_mut().push_engine("2", PING_FRAME);
            self.tell_created(&EnginePacket::Ping(""));
            if let Some(recovery) = &self.state.recovery {
                self.sockets.borrow().iter().for_each(|socket| recovery.mark(socket));
            }
            self.state.mark_dirty(self);
            step = heartbeat.poll(self.state.config.ping_timeout, now);
        }
        self.heartbeat.set(heartbeat);
        match step {
            HeartbeatStep::Wait(next) => {
                let upgrade_by = self.upgrade.get().deadline().unwrap_or(NEVER);
                self.arm(next.min(upgrade_by).min(self.connect_by.get()));
            }
            HeartbeatStep::TimedOut | HeartbeatStep::Ping => {
                self.state.counting.ping_timeouts_total.one();
                self.close(DisconnectReason::PingTimeout, Goodbye::HangUp);
            }
        }
    }

    /// Forgets an upgrade that did not come to its end.
    pub(crate) fn abandon_upgrade(&self) {
        let mut upgrade = self.upgrade.get();
        upgrade.abandon();
        self.upgrade.set(upgrade);
        if let Line::Polling(polling) = &mut *self.line.borrow_mut()
            && let Some(candidate) = polling.candidate.take()
        {
            candidate.hang_up();
        }
    }

    /// Moves the session to its new WebSocket with all that waits.
    pub(crate) fn switch_line(self: &Rc<Self>, wire: &Rc<Wire>) {
        let mut line = WebSocket::new(wire);
        match self.line.replace(Line::Gone) {
            Line::Polling(polling) => Polling::move_to(*polling, &mut line),
            Line::WebSocket(_) | Line::Gone => {}
        }
        self.line.replace(Line::WebSocket(line));
        self.state.counting.sessions_upgraded_total.one();
        self.state.mark_dirty(self);
        let sockets = self.sockets.borrow().clone();
        self.guard(|| sockets.iter().for_each(Socket::handle_upgrade));
    }

    /// Answers a WebSocket close frame and ends the session.
    pub(crate) fn handle_close_frame(self: &Rc<Self>, frame: &ws::CloseFrame<'_>) {
        match frame.code {
            Some(code) => self.explain(&format_args!("websocket close {code} {}", frame.reason)),
            None => self.explain(&"websocket close"),
        }
        self.close(DisconnectReason::TransportClose, Goodbye::Polite(frame.code));
    }
}
