//! One client in one namespace, as a handle that is cheap to clone and to keep.
//! Never sends by itself: its session does.

mod kept;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::{Rc, Weak};
use std::time::Duration;

use greenroom_socketio::SocketId;
use greenroom_socketio::engine::{DisconnectReason, Transport};
use greenroom_socketio::packet::{AckId, Draft, EncodeError, Packet, PacketKind, Prepared};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::broadcast::Broadcast;
use crate::connection_log;
use crate::event::{Event, Reply};
use crate::flush::Flush;
use crate::handlers::Outgoing;
use crate::handshake::Handshake;
use crate::namespace::Namespace;
use crate::node::NodeHandle;
use crate::recovery::Held;
use crate::rooms::Seated;
use crate::session::{Goodbye, Session, Urgency};
use crate::state::{Due, random_id};

/// Why an event of ours was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// The client did not answer in time. A later answer is ignored.
    #[error("the client did not answer in time")]
    TimedOut,
    /// The socket is gone.
    #[error("the socket is disconnected")]
    Disconnected,
    /// More events wait for an answer than this socket may have.
    #[error("too many events of this socket wait for an answer")]
    TooMany,
    /// The event could not be encoded, a fault of the program.
    #[error("the event cannot be encoded")]
    Unsendable,
}

impl AckError {
    /// The word for it between nodes.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Disconnected => "disconnected",
            Self::TooMany => "too_many",
            Self::Unsendable => "unsendable",
        }
    }

    /// What the word means; a word of a newer node counts as a socket that is gone.
    pub(crate) fn of_code(code: &str) -> Self {
        let known = [Self::TimedOut, Self::TooMany, Self::Unsendable];
        known.into_iter().find(|error| error.code() == code).unwrap_or(Self::Disconnected)
    }
}

pub(crate) type AckHandler = Box<dyn FnOnce(&Socket, Result<Reply, AckError>)>;

/// A client in a namespace. Clones are the same socket. It stays usable after the client is gone: emits then go
/// nowhere.
#[derive(Clone)]
pub struct Socket(Rc<SocketInner>);

#[derive(Clone)]
pub(crate) struct WeakSocket(Weak<SocketInner>);

pub(crate) struct SocketInner {
    /// Another one once the socket goes on where a session was, before anybody else has seen it.
    id: Cell<SocketId>,
    session: Rc<Session>,
    namespace: Rc<Namespace>,
    /// Place in the namespace's table; none before the connect and after the end.
    slot: Cell<Option<u32>>,
    /// Its end has begun: handlers are being told.
    is_ending: Cell<bool>,
    groups: RefCell<BTreeSet<Rc<str>>>,
    data: RefCell<Value>,
    auth: RefCell<Option<Box<str>>>,
    acks: RefCell<BTreeMap<AckId, AckHandler>>,
    seat: RefCell<Option<Box<Seated>>>,
    /// Its session, where clients come back to those.
    held: RefCell<Option<Box<Held>>>,
    is_recovered: Cell<bool>,
    /// Its client goes where it is told.
    follows: Cell<bool>,
}

impl WeakSocket {
    pub(crate) fn upgrade(&self) -> Option<Socket> {
        self.0.upgrade().map(Socket)
    }
}

impl std::fmt::Debug for WeakSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WeakSocket")
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Socket({})", self.id())
    }
}

impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Socket {
    pub(crate) fn new(session: &Rc<Session>, namespace: &Rc<Namespace>) -> Self {
        Self(Rc::new(SocketInner {
            id: Cell::new(random_id()),
            session: Rc::clone(session),
            namespace: Rc::clone(namespace),
            slot: Cell::new(None),
            is_ending: Cell::new(false),
            groups: RefCell::default(),
            data: RefCell::new(Value::Null),
            auth: RefCell::default(),
            acks: RefCell::default(),
            seat: RefCell::default(),
            held: RefCell::default(),
            is_recovered: Cell::new(false),
            follows: Cell::new(false),
        }))
    }

    /// The public id. Others may know it; it is not the id of the session. A group of this name holds this socket.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.0.id.get()
    }

    /// The namespace's name.
    #[must_use]
    pub fn namespace_name(&self) -> &str {
        &self.0.namespace.name
    }

    /// Whether the client is there, as far as known.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.slot.get().is_some() && !self.0.is_ending.get() && self.0.session.is_open()
    }

    /// What led to the end of the client's connection, in words for people and logs: the fault of a packet, the error of
    /// the system, the code of a close frame. `None` before the end, and where the reason tells all there is.
    #[must_use]
    pub fn disconnect_details(&self) -> Option<String> {
        self.0.session.details()
    }

    /// What the session's bytes travel by now.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.0.session.transport()
    }

    /// Where the session came from.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        &self.0.session.handshake
    }

    /// What the client sent as `auth`; an empty object where it sent none or [`crate::Handlers::keep_auth`] is off.
    ///
    /// # Errors
    /// When it has another shape than `T`.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.0.auth.borrow().as_deref().unwrap_or("{}"))
    }

    /// The program's own data of this socket; `null` at first.
    #[must_use]
    pub fn data(&self) -> Value {
        self.0.data.borrow().clone()
    }

    /// Replaces the data.
    pub fn set_data(&self, data: Value) {
        self.0.data.replace(data);
        self.session_changed();
    }

    /// Enters a group. Harmless when it is in already; nothing for a socket that is gone.
    pub fn join(&self, group: &str) {
        if let Some(slot) = self.0.slot.get()
            && let Some(name) = self.0.namespace.join(group, slot)
        {
            self.0.groups.borrow_mut().insert(name);
            self.0.namespace.tell_joined(group, self.id());
            self.session_changed();
        }
    }

    /// Leaves a group. Harmless when it is not in.
    pub fn leave(&self, group: &str) {
        if let Some(slot) = self.0.slot.get()
            && self.0.groups.borrow_mut().remove(group)
        {
            self.0.namespace.leave(group, slot, self.id());
            self.session_changed();
        }
    }

    /// The groups it is in, in order, without the one of its own id.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        self.0.groups.borrow().iter().map(|group| String::from(&**group)).collect()
    }

    /// Sends an event with one argument to this client. Nothing happens when it is gone. An argument that has no JSON
    /// form is a fault of the program: it is logged and counted.
    pub fn emit<T: Serialize + ?Sized>(&self, event: &str, argument: &T) {
        self.send_draft(Draft::event(event).and_then(|draft| draft.arg(argument)), None, Urgency::Reliable);
    }

    /// The same, but dropped when the connection cannot take more right now.
    pub fn emit_volatile<T: Serialize + ?Sized>(&self, event: &str, argument: &T) {
        self.send_draft(Draft::event(event).and_then(|draft| draft.arg(argument)), None, Urgency::Volatile);
    }

    /// Sends what a draft holds: no argument or several, raw JSON, bytes.
    pub fn emit_draft(&self, draft: Draft) {
        self.send_draft(Ok(draft), None, Urgency::Reliable);
    }

    /// Sends the event `message` with one argument, as Socket.IO's `send` does.
    pub fn send<T: Serialize + ?Sized>(&self, argument: &T) {
        self.emit("message", argument);
    }

    /// Sends an event that the client must answer. `then` is called once: with the answer, or with why there is none.
    pub fn emit_with_ack(
        &self,
        draft: &Draft,
        timeout: Duration,
        then: impl FnOnce(&Self, Result<Reply, AckError>) + 'static,
    ) {
        if !self.is_connected() {
            return then(self, Err(AckError::Disconnected));
        }
        let state = &self.0.session.state;
        let id = self.0.namespace.next_ack_id();
        match draft.prepare(self.namespace_name(), Some(id)) {
            Ok(packet) => self.ask_prepared(&packet, id, timeout, Box::new(then)),
            Err(error) => {
                state.counting.emit_faults_total.one();
                tracing::error!(%error, "an event cannot be sent");
                then(self, Err(AckError::Unsendable));
            }
        }
    }

    /// Sends an event that has this ack id, and waits for the answer.
    pub(crate) fn ask_prepared(&self, packet: &Prepared, id: AckId, timeout: Duration, then: AckHandler) {
        let state = &self.0.session.state;
        if !self.is_connected() {
            return then(self, Err(AckError::Disconnected));
        }
        if self.0.acks.borrow().len() >= state.config.acks_max {
            return then(self, Err(AckError::TooMany));
        }
        self.0.acks.borrow_mut().insert(id, then);
        self.send_event(packet, Urgency::Reliable);
        state.schedule(state.now().after(timeout), Due::Ack(Rc::downgrade(&self.0), id));
    }

    /// The same for a task: waits for the answer. For an event of one argument.
    ///
    /// # Errors
    /// When no answer came, see [`AckError`].
    pub async fn ask<T: Serialize + ?Sized>(
        &self,
        event: &str,
        argument: &T,
        timeout: Duration,
    ) -> Result<Reply, AckError> {
        let draft = Draft::event(event).and_then(|draft| draft.arg(argument));
        let draft = draft.map_err(|_| AckError::Unsendable)?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.emit_with_ack(&draft, timeout, |_, reply| {
            // Whoever asked may have stopped waiting.
            let _unheard = answer.send(reply);
        });
        answered.await.unwrap_or(Err(AckError::Disconnected))
    }

    /// Everybody in the namespace but this socket.
    pub fn broadcast(&self) -> Broadcast {
        Broadcast::new(&self.0.session.state, &self.0.namespace).except(self.id().as_str())
    }

    /// Everybody in a group but this socket.
    pub fn to(&self, group: impl Into<String>) -> Broadcast {
        self.broadcast().to(group)
    }

    /// Everybody in the namespace but this socket and those in a group.
    pub fn except(&self, group: impl Into<String>) -> Broadcast {
        self.broadcast().except(group)
    }

    /// The node that holds this socket.
    #[must_use]
    pub fn node(&self) -> NodeHandle {
        NodeHandle(Rc::clone(&self.0.session.state))
    }

    /// Runs a task on the node's thread. It outlives the socket unless it looks at [`Self::is_connected`], and ends
    /// with the node.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.node().spawn(task);
    }

    /// Ends this namespace for the client, which does not come back by itself (`io server disconnect`).
    pub fn disconnect(&self) {
        if self.is_connected() {
            let packet = Prepared::disconnect(self.namespace_name()).expect("the name was checked before");
            self.send_prepared(&packet, Urgency::Reliable);
            self.leave_session(DisconnectReason::ServerNamespaceDisconnect);
        }
    }

    /// Ends the client's whole connection; the stock client comes back by itself (`transport close`).
    pub fn close_transport(&self) {
        self.0.session.close(DisconnectReason::ForcedServerClose, Goodbye::Polite(None));
    }

    /// Whether it waits for the verdict of a middleware.
    pub(crate) fn is_asking(&self) -> bool {
        self.0.slot.get().is_none() && !self.0.is_ending.get()
    }

    /// Whether the session goes on, with this namespace or without.
    pub(crate) fn has_session(&self) -> bool {
        self.0.session.is_open()
    }

    pub(crate) fn set_auth(&self, auth: &str) {
        self.0.auth.replace(Some(auth.into()));
    }

    pub(crate) fn handle_upgrade(&self) {
        if let Some(on_upgrade) = &self.0.namespace.handlers.on_upgrade
            && self.is_connected()
        {
            on_upgrade(self);
        }
    }

    pub(crate) fn namespace(&self) -> &Rc<Namespace> {
        &self.0.namespace
    }

    pub(crate) fn downgrade(&self) -> WeakSocket {
        WeakSocket(Rc::downgrade(&self.0))
    }

    pub(crate) fn set_slot(&self, slot: Option<u32>) -> Option<u32> {
        self.0.slot.replace(slot)
    }

    pub(crate) fn take_groups(&self) -> BTreeSet<Rc<str>> {
        self.0.groups.take()
    }

    pub(crate) fn set_seat(&self, seat: Option<Box<Seated>>) {
        self.0.seat.replace(seat);
    }

    pub(crate) fn send_prepared(&self, packet: &Prepared, urgency: Urgency) {
        let may_wait = packet.kind() == PacketKind::Event && packet.ack_id().is_none();
        let flush = if may_wait { self.0.namespace.handlers.flush } else { Flush::AtOnce };
        self.0.session.send_when(packet, urgency, flush);
    }

    /// The same for an event or ack, of which listeners may want to know.
    pub(crate) fn send_event(&self, packet: &Prepared, urgency: Urgency) {
        if packet.kind() == PacketKind::Event {
            for listener in &self.0.namespace.handlers.on_any_outgoing {
                listener(self, &Outgoing::new(packet));
            }
        }
        self.send_prepared(packet, urgency);
    }

    /// Sends an event or ack. The answer says whether it could be encoded.
    pub(crate) fn send_draft(
        &self,
        draft: Result<Draft, EncodeError>,
        id: Option<AckId>,
        urgency: Urgency,
    ) -> bool {
        // Between a middleware and the connect reply nothing may be sent, and nothing after the end.
        if self.0.slot.get().is_none() || self.0.is_ending.get() {
            return draft.is_ok();
        }
        match draft.and_then(|draft| draft.prepare(self.namespace_name(), id)) {
            Ok(packet) => {
                self.send_kept(&packet, urgency);
                true
            }
            Err(error) => {
                self.0.session.state.counting.emit_faults_total.one();
                tracing::error!(%error, "an event cannot be sent");
                false
            }
        }
    }

    pub(crate) fn handle_ack(&self, packet: Packet) {
        let handler = packet.ack_id().and_then(|id| self.0.acks.borrow_mut().remove(&id));
        // An answer that comes late or twice has no handler any more.
        if let Some(handler) = handler {
            handler(self, Ok(Reply::new(packet)));
        }
    }

    /// An event that no handler wants: the room's, where the socket has a seat.
    pub(crate) fn hand_to_room(&self, event: Event) {
        let seat = self.0.seat.borrow().as_deref().cloned();
        if let Some(seat) = seat {
            seat.handle_event(&self.0.session.state, self, event);
        }
    }

    /// Takes the socket out of its session and tells its handlers.
    pub(crate) fn leave_session(&self, reason: DisconnectReason) {
        self.0.session.sockets.borrow_mut().retain(|socket| socket != self);
        self.0.session.sockets_changed();
        self.handle_gone(reason);
    }

    /// The end of this socket, once.
    pub(crate) fn handle_gone(&self, reason: DisconnectReason) {
        if self.0.slot.get().is_none() || self.0.is_ending.replace(true) {
            return;
        }
        let session = &self.0.session;
        let seat = self.0.seat.take();
        connection_log::went(&session.state, self, reason, seat.as_deref().map(Seated::room_id));
        let handlers = &self.0.namespace.handlers;
        if let Some(on_disconnecting) = &handlers.on_disconnecting {
            session.guard(|| on_disconnecting(self, reason));
        }
        if let Some(recovery) = &session.state.recovery {
            recovery.handle_gone(&session.state, self, reason);
        }
        self.0.namespace.remove(self);
        if let Some(on_disconnect) = &handlers.on_disconnect {
            session.guard(|| on_disconnect(self, reason));
        }
        for (_, handler) in self.0.acks.take() {
            session.guard(|| handler(self, Err(AckError::Disconnected)));
        }
        if let Some(seat) = seat {
            seat.handle_gone(&session.state, self, reason);
        }
        session.state.sweep(&self.0.namespace);
    }
}

impl SocketInner {
    pub(crate) fn handle_ack_deadline(inner: &Rc<Self>, id: AckId) {
        let handler = inner.acks.borrow_mut().remove(&id);
        if let Some(handler) = handler {
            let socket = Socket(Rc::clone(inner));
            inner.session.guard(|| handler(&socket, Err(AckError::TimedOut)));
        }
    }
}
