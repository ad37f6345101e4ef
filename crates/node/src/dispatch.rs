//! From a whole Socket.IO packet to the handler that it is for.
//! Never trusts a handler: one that panics costs its session, nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use futures_util::FutureExt as _;
use greenroom_socketio::engine::DisconnectReason;
use greenroom_socketio::packet::{Packet, PacketKind, Prepared};

use crate::event::Event;
use crate::handlers::Middleware;
use crate::handshake::{ConnectRequest, Refusal};
use crate::namespace::Namespace;
use crate::namespaces::NoNamespace;
use crate::node::NodeHandle;
use crate::rooms::{Admission, Verdict};
use crate::session::{Goodbye, Session, Urgency};
use crate::socket::Socket;

impl Session {
    /// Takes one packet in, in the order of arrival.
    pub(crate) fn dispatch(self: &Rc<Self>, packet: Packet) {
        let socket = self.socket_of(packet.namespace());
        match (packet.kind(), socket) {
            (PacketKind::Connect, None) => self.handle_connect(packet),
            (PacketKind::Disconnect, Some(socket)) if socket.is_asking() => self.forget(&socket),
            (PacketKind::Event | PacketKind::Ack, Some(socket)) if socket.is_asking() => {
                self.close_faulty(DisconnectReason::ForcedServerClose, None);
            }
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
            self.panicked();
        }
    }

    fn panicked(self: &Rc<Self>) {
        self.state.counting.handler_panics_total.one();
        self.explain(&"a handler panicked");
        tracing::error!("a handler panicked, its session is closed");
        self.close(DisconnectReason::ForcedServerClose, Goodbye::Polite(None));
    }

    fn handle_connect(self: &Rc<Self>, packet: Packet) {
        let request = Rc::new(ConnectRequest { packet, session: Rc::clone(self) });
        let name = request.namespace();
        if self.sockets.borrow().len() >= self.state.config.namespaces_per_session_max {
            return self.refuse(name, &Refusal::new("Too many namespaces"));
        }
        let mut found = None;
        self.guard(|| found = Some(self.state.namespaces.find(&request)));
        let namespace = match found {
            Some(Ok(namespace)) => namespace,
            Some(Err(NoNamespace::Unknown)) => return self.refuse(name, &Refusal::new("Invalid namespace")),
            Some(Err(NoNamespace::TooMany)) => {
                return self.refuse(name, &Refusal::new("Too many namespaces"));
            }
            None => return,
        };
        let socket = Socket::new(self, &namespace);
        if namespace.handlers.keeps_auth {
            socket.set_auth(request.auth_raw());
        }
        namespace.asking.set(namespace.asking.get() + 1);
        if namespace.handlers.is_waiting() {
            self.sockets.borrow_mut().push(socket.clone());
            let session = Rc::clone(self);
            NodeHandle(Rc::clone(&self.state)).spawn(async move {
                let judging = AssertUnwindSafe(session.judge_later(&socket, &request)).catch_unwind();
                let outcome = match tokio::time::timeout(session.state.config.connect_timeout, judging).await
                {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) => {
                        session.panicked();
                        Err(None)
                    }
                    Err(_) => Err(Some(Refusal::new("The server did not decide in time"))),
                };
                session.settle(&socket, &request, outcome);
            });
        } else {
            let mut outcome = Err(None);
            self.guard(|| outcome = Self::judge(&socket, &request).map_err(Some));
            self.settle(&socket, &request, outcome);
        }
    }

    fn judge(socket: &Socket, request: &ConnectRequest) -> Result<(), Refusal> {
        for middleware in &socket.namespace().handlers.middlewares {
            match middleware {
                Middleware::Now(judge) => judge(socket, request)?,
                Middleware::Later(_) => unreachable!("those are judged by a task"),
            }
        }
        Ok(())
    }

    /// The same where a middleware waits. Gives up once the client has lost interest.
    async fn judge_later(
        self: &Rc<Self>,
        socket: &Socket,
        request: &Rc<ConnectRequest>,
    ) -> Result<(), Option<Refusal>> {
        for middleware in &socket.namespace().handlers.middlewares {
            if !self.is_asking(socket) {
                return Err(None);
            }
            match middleware {
                Middleware::Now(judge) => judge(socket, request)?,
                Middleware::Later(judge) => judge(socket.clone(), Rc::clone(request)).await?,
            }
        }
        Ok(())
    }

    fn is_asking(&self, socket: &Socket) -> bool {
        self.is_open() && self.sockets.borrow().contains(socket)
    }

    /// The client takes its question back.
    fn forget(&self, socket: &Socket) {
        self.sockets.borrow_mut().retain(|other| other != socket);
    }

    /// Acts on what the middlewares said. An error without a refusal: there is nobody to tell.
    fn settle(
        self: &Rc<Self>,
        socket: &Socket,
        request: &ConnectRequest,
        outcome: Result<(), Option<Refusal>>,
    ) {
        let namespace = socket.namespace();
        let is_wanted = !namespace.handlers.is_waiting() || self.is_asking(socket);
        self.forget(socket);
        if is_wanted && self.is_open() {
            match outcome {
                Ok(()) => self.enter(socket, request),
                Err(Some(refusal)) => self.refuse(&namespace.name, &refusal),
                Err(None) => {}
            }
        }
        namespace.asking.set(namespace.asking.get() - 1);
        self.state.namespaces.sweep(namespace);
    }

    /// The room's word comes last, because it may take a seat.
    fn enter(self: &Rc<Self>, socket: &Socket, request: &ConnectRequest) {
        let namespace = socket.namespace();
        let mut verdict = Verdict::HangUp;
        self.guard(|| {
            verdict = match &self.state.rooms {
                Some(rooms) if namespace.name == "/" => rooms.enter(&self.state, socket, request),
                Some(_) | None => Verdict::Accept(None),
            };
        });
        match verdict {
            Verdict::Accept(admission) => self.admit(namespace, socket, admission),
            Verdict::Refuse(refusal) => self.refuse(&namespace.name, &refusal),
            Verdict::HangUp => self.close(DisconnectReason::ForcedServerClose, Goodbye::Polite(None)),
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
        let mut event = Event::new(socket, packet);
        let handlers = &socket.namespace().handlers;
        self.guard(|| {
            for handler in &handlers.on_any {
                handler(socket, &event);
            }
            for middleware in &handlers.packet_middlewares {
                if let Err(refusal) = middleware(socket, &mut event) {
                    self.state.counting.events_refused_total.one();
                    if let Some(on_refused) = &handlers.on_refused {
                        on_refused(socket, &refusal);
                    }
                    return;
                }
            }
            // A handler before may have ended the socket.
            if !socket.is_connected() {
                return;
            }
            match handlers.events.get(event.name()) {
                Some(handler) => handler(socket, event),
                None => socket.hand_to_room(event),
            }
        });
    }
}
