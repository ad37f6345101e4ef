//! From a whole Socket.IO packet to the handler that it is for.
//! Never trusts a handler: one that panics costs its session, nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use futures_util::FutureExt as _;
use greenroom_socketio::engine::DisconnectReason;
use greenroom_socketio::ids::OfSession;
use greenroom_socketio::packet::{Packet, PacketKind, Prepared};

use crate::connection_log;
use crate::event::Event;
use crate::handlers::Middleware;
use crate::handshake::{ConnectRequest, Refusal};
use crate::moves;
use crate::namespace::Namespace;
use crate::namespaces::NoNamespace;
use crate::node::NodeHandle;
use crate::recovery::{Arrival, Returning};
use crate::rooms::{Admission, Verdict};
use crate::session::{Goodbye, Session, Urgency};
use crate::socket::Socket;
use crate::state::random_id;

/// A client that asks for a namespace.
struct Asking {
    socket: Socket,
    request: Rc<ConnectRequest>,
    returning: Returning,
    /// Others were served meanwhile; the client may have lost interest.
    has_waited: bool,
}

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
        self.state.peers.entered(&namespace.name);
        let socket = Socket::new(self, &namespace);
        if namespace.handlers.keeps_auth {
            socket.set_auth(request.auth_raw());
        }
        namespace.asking.set(namespace.asking.get() + 1);
        let recovery = self.state.recovery_of(&namespace.name);
        let returning = recovery.map(|_| Returning::read(&request)).unwrap_or_default();
        let is_ready = recovery
            .is_none_or(|recovery| !returning.is_wanted() && recovery.is_ready(&self.state, &namespace.name));
        let mut asking = Asking { socket, request, returning, has_waited: !is_ready };
        if is_ready && !namespace.handlers.is_waiting() {
            let mut outcome = Err(None);
            self.guard(|| outcome = Self::judge(&asking.socket, &asking.request).map_err(Some));
            let arrival = if recovery.is_some() { Arrival::Fresh(None) } else { Arrival::Unkept };
            return self.settle(&asking, outcome.map(|()| arrival));
        }
        asking.has_waited = true;
        self.sockets.borrow_mut().push(asking.socket.clone());
        let session = Rc::clone(self);
        NodeHandle(Rc::clone(&self.state)).spawn(async move {
            let receiving = AssertUnwindSafe(session.receive(&asking)).catch_unwind();
            let outcome = receiving.await.unwrap_or_else(|_| {
                session.panicked();
                Err(None)
            });
            session.settle(&asking, outcome);
        });
    }

    /// Finds the session that a client wants to go on with, and judges who comes.
    async fn receive(self: &Rc<Self>, asking: &Asking) -> Result<Arrival, Option<Refusal>> {
        let Asking { socket, request, returning, .. } = asking;
        let handlers = &socket.namespace().handlers;
        let Some(recovery) = self.state.recovery_of(socket.namespace_name()) else {
            self.judge_in_time(socket, request, &handlers.middlewares).await?;
            return Ok(Arrival::Unkept);
        };
        let arrival = recovery.receive(&self.state, socket, returning).await;
        let Arrival::Restored(restored) = &arrival else {
            self.judge_in_time(socket, request, &handlers.middlewares).await?;
            return Ok(arrival);
        };
        restored.dress(socket);
        let judged = async {
            if !recovery.config.skip_middlewares {
                self.judge_in_time(socket, request, &handlers.middlewares).await?;
            }
            self.judge_in_time(socket, request, &handlers.reauthorisers).await
        };
        match judged.await {
            Ok(()) => Ok(arrival),
            Err(Some(refusal)) => {
                recovery.give_up(&self.state, restored);
                Err(Some(refusal))
            }
            Err(None) => {
                recovery.put_back(&self.state, restored);
                Err(None)
            }
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

    /// The same where a middleware may wait: for the connect timeout at most.
    async fn judge_in_time(
        self: &Rc<Self>,
        socket: &Socket,
        request: &Rc<ConnectRequest>,
        middlewares: &[Middleware],
    ) -> Result<(), Option<Refusal>> {
        let judging = self.judge_later(socket, request, middlewares);
        let judged = tokio::time::timeout(self.state.config.connect_timeout, judging).await;
        judged.unwrap_or_else(|_| Err(Some(Refusal::new("The server did not decide in time"))))
    }

    /// Gives up once the client has lost interest.
    async fn judge_later(
        self: &Rc<Self>,
        socket: &Socket,
        request: &Rc<ConnectRequest>,
        middlewares: &[Middleware],
    ) -> Result<(), Option<Refusal>> {
        for middleware in middlewares {
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

    /// Acts on what was found and said. An error without a refusal: there is nobody to tell.
    fn settle(self: &Rc<Self>, asking: &Asking, outcome: Result<Arrival, Option<Refusal>>) {
        let socket = &asking.socket;
        let namespace = socket.namespace();
        let is_wanted = !asking.has_waited || self.is_asking(socket);
        self.forget(socket);
        match outcome {
            Ok(arrival) if is_wanted && self.is_open() => self.enter(asking, arrival),
            Ok(Arrival::Restored(restored)) => {
                if let Some(recovery) = &self.state.recovery {
                    recovery.put_back(&self.state, &restored);
                }
            }
            Err(Some(refusal)) if is_wanted && self.is_open() => self.refuse(&namespace.name, &refusal),
            Ok(Arrival::Fresh(_) | Arrival::Unkept) | Err(_) => {}
        }
        namespace.asking.set(namespace.asking.get() - 1);
        self.state.sweep(namespace);
    }

    /// The room's word comes last, because it may take a seat.
    fn enter(self: &Rc<Self>, asking: &Asking, arrival: Arrival) {
        let (socket, namespace) = (&asking.socket, asking.socket.namespace());
        let mut verdict = Verdict::HangUp;
        self.guard(|| {
            verdict = match &self.state.rooms {
                Some(rooms) if namespace.name == "/" => rooms.enter(&self.state, socket, &asking.request),
                Some(_) | None => Verdict::Accept(None),
            };
        });
        match verdict {
            Verdict::Accept(Some(admission)) if admission.seated.room.holds_back() => {
                self.admit_once_kept(namespace, socket, admission);
            }
            Verdict::Accept(Some(admission)) => self.admit_seated(namespace, socket, admission),
            Verdict::Accept(None) => self.admit(asking, arrival),
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

    fn admit(self: &Rc<Self>, asking: &Asking, arrival: Arrival) {
        let (socket, namespace) = (&asking.socket, asking.socket.namespace());
        let pid = match &arrival {
            Arrival::Fresh(_) => Some(random_id::<OfSession>().as_str().to_owned()),
            Arrival::Restored(restored) => Some(restored.pid.reveal().to_owned()),
            Arrival::Unkept => None,
        };
        if moves::are_followed(&asking.request) {
            socket.set_follows();
        }
        self.connected(namespace, socket, pid.as_deref());
        let went_on = match &arrival {
            Arrival::Restored(_) => Ok(()),
            Arrival::Fresh(why) => Err(*why),
            Arrival::Unkept => Err(None),
        };
        connection_log::came(&self.state, socket, went_on, None);
        if let (Some(recovery), Some(pid)) = (&self.state.recovery, &pid) {
            recovery.settle(&self.state, socket, pid, arrival, asking.returning.wants_word);
        }
        self.greet(namespace, socket);
    }

    fn admit_seated(self: &Rc<Self>, namespace: &Rc<Namespace>, socket: &Socket, admission: Admission) {
        self.connected(namespace, socket, Some(&admission.pid));
        admission.log(&self.state, socket);
        self.greet(namespace, socket);
        admission.complete(&self.state, socket);
    }

    /// The seat must be kept before its client is told of it.
    fn admit_once_kept(self: &Rc<Self>, namespace: &Rc<Namespace>, socket: &Socket, admission: Admission) {
        self.sockets.borrow_mut().push(socket.clone());
        let room = Rc::clone(&admission.seated.room);
        let (session, namespace, socket) = (Rc::clone(self), Rc::clone(namespace), socket.clone());
        room.act(&self.state, 0, move |state| {
            if session.is_asking(&socket) {
                session.forget(&socket);
                session.admit_seated(&namespace, &socket, admission);
            } else {
                admission.seated.handle_gone(state, &socket, DisconnectReason::TransportClose);
            }
        });
        room.settle(&self.state);
    }

    fn connected(self: &Rc<Self>, namespace: &Rc<Namespace>, socket: &Socket, pid: Option<&str>) {
        let reply = Prepared::connected(&namespace.name, &socket.id(), pid)
            .expect("the name of a namespace was checked when it was made");
        self.send(&reply, Urgency::Reliable);
        namespace.add(socket);
        self.sockets.borrow_mut().push(socket.clone());
        self.sockets_changed();
    }

    fn greet(self: &Rc<Self>, namespace: &Namespace, socket: &Socket) {
        if let Some(on_connect) = &namespace.handlers.on_connect {
            self.guard(|| on_connect(socket));
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
