//! The connection of a client beneath its namespaces, for programs that watch single packets.
//! Never a way to send: sockets are.

use std::rc::Rc;

use greenroom_socketio::engine::{DisconnectReason, EnginePacket, Transport};
use greenroom_socketio::packet::Prepared;

use crate::handshake::Handshake;
use crate::session::{Goodbye, Session};
use crate::socket::Socket;

/// One client's Engine.IO session, as [`crate::Node::on_packet`] and its neighbours see it. Several namespaces may share
/// it. Clones are the same session; it stays usable after its end.
#[derive(Clone)]
pub struct Connection(Rc<Session>);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The sid as a whole is a secret.
        write!(f, "Connection({:?})", self.transport())
    }
}

impl Connection {
    pub(crate) fn of(session: &Rc<Session>) -> Self {
        Self(Rc::clone(session))
    }

    /// What its bytes travel by now.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.0.transport()
    }

    /// Where it came from.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        &self.0.handshake
    }

    /// Its sockets, one for each namespace that it has connected.
    #[must_use]
    pub fn sockets(&self) -> Vec<Socket> {
        self.0.sockets.borrow().iter().filter(|socket| socket.is_connected()).cloned().collect()
    }

    /// Bytes that wait for it here: not yet taken by the kernel, or by the next poll.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.0.line.borrow().queued_bytes()
    }

    /// Ends it; the stock client comes back by itself. A repeated call does nothing.
    pub fn close(&self) {
        self.0.close(DisconnectReason::ForcedServerClose, Goodbye::Polite(None));
    }
}

impl Session {
    /// Tells the program of a packet that came.
    pub(crate) fn tell_packet(self: &Rc<Self>, packet: &EnginePacket<'_>) {
        if let Some(on_packet) = &self.state.hooks.on_packet {
            self.guard(|| on_packet(&Connection::of(self), packet));
        }
    }

    /// Tells the program of a packet that is going to leave.
    pub(crate) fn tell_created(self: &Rc<Self>, packet: &EnginePacket<'_>) {
        if let Some(on_packet_create) = &self.state.hooks.on_packet_create {
            self.guard(|| on_packet_create(&Connection::of(self), packet));
        }
    }

    /// The same for all Engine.IO packets of a Socket.IO packet, as its parser writes it.
    pub(crate) fn tell_created_prepared(self: &Rc<Self>, packet: &Prepared) {
        if self.state.hooks.on_packet_create.is_some() {
            packet.engine_packets().for_each(|packet| self.tell_created(&packet));
        }
    }

    /// Whether the program wants to know when nothing waits any more, and something does.
    pub(crate) fn may_drain(&self) -> bool {
        self.state.hooks.on_drain.is_some() && self.line.borrow().queued_bytes() > 0
    }

    /// Tells the program that nothing waits any more, if so.
    pub(crate) fn tell_drained(self: &Rc<Self>) {
        if let Some(on_drain) = &self.state.hooks.on_drain
            && self.is_open()
            && self.line.borrow().queued_bytes() == 0
        {
            self.guard(|| on_drain(&Connection::of(self)));
        }
    }
}
