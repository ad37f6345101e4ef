//! A socket whose session is kept, so that its client can come back to it.
//! Never keeps anything itself: `recovery` does.

use greenroom_socketio::SocketId;
use greenroom_socketio::engine::DisconnectReason;
use greenroom_socketio::packet::{PacketKind, Prepared};

use super::Socket;
use crate::recovery::Held;
use crate::session::{Goodbye, Urgency};

impl Socket {
    /// Whether the client has come back to its session: id, groups and data are those of before, and it gets every event
    /// that it missed.
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.0.is_recovered.get()
    }

    /// Ends the connection without a word: its client is elsewhere.
    pub(crate) fn hang_up(&self, reason: DisconnectReason) {
        self.0.session.close(reason, Goodbye::HangUp);
    }

    pub(crate) fn set_id(&self, id: SocketId) {
        self.0.id.set(id);
    }

    pub(crate) fn set_recovered(&self) {
        self.0.is_recovered.set(true);
    }

    pub(crate) fn set_follows(&self) {
        self.0.follows.set(true);
    }

    /// Whether the client is led by our helper, and so goes where it is told; see [`Self::move_to`].
    #[must_use]
    pub fn follows(&self) -> bool {
        self.0.follows.get()
    }

    /// Looks at the session, where there is one. `look` must not come back to this socket.
    pub(crate) fn with_held<T>(&self, look: impl FnOnce(&mut Held) -> T) -> Option<T> {
        self.0.held.borrow_mut().as_deref_mut().map(look)
    }

    pub(crate) fn set_held(&self, held: Option<Box<Held>>) -> Option<Box<Held>> {
        self.0.held.replace(held)
    }

    pub(super) fn session_changed(&self) {
        if let Some(recovery) = &self.0.session.state.recovery {
            recovery.changed(self);
        }
    }

    /// Queues what the client has missed, all of it.
    pub(crate) fn send_missed(&self, packets: &[Prepared]) {
        for packet in packets {
            self.0.session.send_missed(packet);
        }
    }

    /// Sends an event by way of the session, where there is one and it can keep it.
    pub(super) fn send_kept(&self, packet: &Prepared, urgency: Urgency) {
        let state = &self.0.session.state;
        let is_event = packet.kind() == PacketKind::Event && packet.ack_id().is_none();
        match state.recovery.as_ref().filter(|_| is_event && self.0.held.borrow().is_some()) {
            Some(recovery) if urgency == Urgency::Reliable => {
                if !recovery.send_own(state, self, packet) {
                    tracing::error!("an event is refused: too much waits for the backplane");
                }
            }
            Some(recovery) => self.send_event(&recovery.unmistakable(packet, self.namespace_name()), urgency),
            None => self.send_event(packet, urgency),
        }
    }
}
