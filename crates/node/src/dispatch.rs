//! From a whole Socket.IO packet to the handler that it is for.
//! Never trusts a handler: one that panics costs its session, nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use greenroom_socketio::engine::DisconnectReason;
use greenroom_socketio::packet::{Packet, PacketKind, Prepared};

use crate::event::Event;
use crate::handshake::{ConnectRequest, Refusal};
use crate::namespace::Namespace;
use crate::rooms::{Admission, Verdict};
use crate::session::{Goodbye, Session, Urgency};
use crate::socket::Socket;

impl Session {
    /// Takes one packet in, in the order of arrival.
    pub(crate) fn dispatch(self: &Rc<Self>, packet: Packet) {
        let socket = self.socket_of(packet.namespace());
        match (packet.kind(), socket) {
            (PacketKind::Connect, None) => self.handle_connect(&packet),
            (PacketKind::Disconnect, Some(socket)) => {
                socket.leave_session(DisconnectReason::ClientNamespaceDisconnect);
            }
            (PacketKind::Event, Some(socket)) => self.handle_event(&socket, packet),
            (PacketKind::Ack, Some(socket)) => self.guard(|| socket.handle_ack(packet)),
            // The client may not know yet that the server ended the namespace.
            (PacketKind::Event | PacketKind::Ack | PacketKind::Disconnect, None)
                if self.was_connected.get() => {}
            (PacketKind::Event | PacketKind::Ack | PacketKind::Disconnect, None)
            | (PacketKind::Connect, Some(_))
            | (PacketKind::ConnectError, _) => {
                self.close_faulty(DisconnectReason::ForcedServerClose, None);
            }
        }
    }

    fn socket_of(&self, namespace: &str) -> Option<Socket> {
        self.sockets.borrow().iter().find(|socket| socket.namespace_name() == namespace).cloned()
    }

    /// Runs a handler. A panic of it closes this session.
    pub(crate) fn guard(self: &Rc<Self>, run: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            self.state.counting.handler_panics_total.one();
            tracing::error!("a handler panicked, its session is closed");
            self.close(DisconnectReason::ForcedServerClose, Goodbye::Polite(None));
        }
    }

    fn handle_connect(self: &Rc<Self>, packet: &Packet) {
        let name = packet.namespace();
        let Some(namespace) = self.state.namespaces.get(name) else {
            return self.refuse(name, &Refusal::new("Invalid namespace"));
        };
        let socket = Socket::new(self, namespace);
        let request = ConnectRequest { auth: packet.data(), handshake: &self.handshake };
        let mut verdict = Verdict::HangUp;
        self.guard(|| verdict = self.judge(namespace, &socket, &request));
        match verdict {
            Verdict::Accept(admission) => self.admit(namespace, &socket, admission),
            Verdict::Refuse(refusal) => self.refuse(name, &refusal),
            Verdict::HangUp => self.close(DisconnectReason::ForcedServerClose, Goodbye::Polite(None)),
        }
    }

    fn judge(&self, namespace: &Namespace, socket: &Socket, request: &ConnectRequest<'_>) -> Verdict {
        for middleware in &namespace.handlers.middlewares {
            if let Err(refusal) = middleware(socket, request) {
                return Verdict::Refuse(refusal);
            }
        }
        match &self.state.rooms {
            Some(rooms) if namespace.name == "/" => rooms.enter(&self.state, socket, request),
            Some(_) | None => Verdict::Accept(None),
        }
    }

    fn refuse(self: &Rc<Self>, namespace: &str, refusal: &Refusal) {
        self.state.counting.connects_refused_total.one();
        let data = (!refusal.data.is_null()).then(|| refusal.data.to_string());
        match Prepared::connect_error(namespace, &refusal.message, data.as_deref()) {
            Ok(packet) => self.send(&packet, Urgency::Reliable),
            Err(error) => {
                tracing::debug!(%error, "a refusal cannot be told");
                self.close_faulty(DisconnectReason::ParseError, None);
            }
        }
    }

    fn admit(self: &Rc<Self>, namespace: &Rc<Namespace>, socket: &Socket, admission: Option<Admission>) {
        let pid = admission.as_ref().map(|admission| admission.pid.as_str());
        let reply = Prepared::connected(&namespace.name, &socket.id(), pid)
            .expect("the name of a namespace was checked when it was made");
        self.send(&reply, Urgency::Reliable);
        namespace.add(socket);
        self.sockets.borrow_mut().push(socket.clone());
        self.sockets_changed();
        if let Some(on_connect) = &namespace.handlers.on_connect {
            self.guard(|| on_connect(socket));
        }
        if let Some(admission) = admission {
            admission.complete(&self.state, socket);
        }
    }

    fn handle_event(self: &Rc<Self>, socket: &Socket, packet: Packet) {
        let event = Event::new(socket, packet);
        let handlers = &socket.namespace().handlers;
        self.guard(|| {
            for handler in &handlers.on_any {
                handler(socket, &event);
            }
            match handlers.events.get(event.name()) {
                Some(handler) => handler(socket, event),
                None => socket.hand_to_room(event),
            }
        });
    }
}
