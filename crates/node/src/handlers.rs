//! What a program does in one namespace: its handlers and middlewares.
//! Never runs them: `dispatch` and the sockets do.

use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;

use greenroom_socketio::SocketId;
use greenroom_socketio::engine::DisconnectReason;
use greenroom_socketio::packet::{Prepared, RESERVED_EVENTS};
use serde_json::value::RawValue;

use crate::event::Event;
use crate::flush::Flush;
use crate::handshake::{ConnectRequest, Refusal};
use crate::mesh::ServerEvent;
use crate::node::NodeHandle;
use crate::socket::Socket;

type Verdict = Pin<Box<dyn Future<Output = Result<(), Refusal>>>>;
type JudgeNow = Box<dyn Fn(&Socket, &ConnectRequest) -> Result<(), Refusal>>;
type JudgeLater = Box<dyn Fn(Socket, Rc<ConnectRequest>) -> Verdict>;
type JudgePacket = Box<dyn Fn(&Socket, &mut Event) -> Result<(), Refusal>>;
type OnConnect = Box<dyn Fn(&Socket)>;
type OnEvent = Box<dyn Fn(&Socket, Event)>;
type OnAny = Box<dyn Fn(&Socket, &Event)>;
type OnAnyOutgoing = Box<dyn Fn(&Socket, &Outgoing<'_>)>;
type OnRefused = Box<dyn Fn(&Socket, &Refusal)>;
type OnGroup = Box<dyn Fn(&GroupChange<'_>)>;
type OnServerEvent = Box<dyn Fn(&NodeHandle, &ServerEvent)>;
type OnDisconnect = Box<dyn Fn(&Socket, DisconnectReason)>;

/// A judge of who connects.
pub(crate) enum Middleware {
    Now(JudgeNow),
    Later(JudgeLater),
}

impl Middleware {
    fn later<F>(judge: impl Fn(Socket, Rc<ConnectRequest>) -> F + 'static) -> Self
    where
        F: Future<Output = Result<(), Refusal>> + 'static,
    {
        Self::Later(Box::new(move |socket, request| Box::pin(judge(socket, request))))
    }
}

/// What a program does in one namespace: registered once for all its sockets, before the node starts. Handlers run on
/// the node's thread and must not block; those of one socket run in the order of its events.
#[derive(Default)]
pub struct Handlers {
    pub(crate) middlewares: Vec<Middleware>,
    pub(crate) reauthorisers: Vec<Middleware>,
    pub(crate) packet_middlewares: Vec<JudgePacket>,
    pub(crate) on_refused: Option<OnRefused>,
    pub(crate) on_connect: Option<OnConnect>,
    pub(crate) events: HashMap<String, OnEvent>,
    pub(crate) on_any: Vec<OnAny>,
    pub(crate) on_any_outgoing: Vec<OnAnyOutgoing>,
    pub(crate) on_group: Option<OnGroup>,
    pub(crate) server_events: HashMap<String, OnServerEvent>,
    pub(crate) on_upgrade: Option<OnConnect>,
    pub(crate) keeps_auth: bool,
    /// Single packets are told to the program, which may come back to the namespace.
    pub(crate) is_watched: bool,
    pub(crate) flush: Flush,
    pub(crate) on_disconnecting: Option<OnDisconnect>,
    pub(crate) on_disconnect: Option<OnDisconnect>,
}

impl Handlers {
    /// When events of this namespace leave. Default [`Flush::AtOnce`]. Acks, connects and control packets never wait.
    pub fn flush(&mut self, flush: Flush) -> &mut Self {
        self.flush = flush;
        self
    }

    /// Judges who connects, before the socket exists for others: a refusal reaches the client as `connect_error`.
    /// Several run in the order of their registration. Data set on the socket here stays.
    pub fn middleware(
        &mut self,
        judge: impl Fn(&Socket, &ConnectRequest) -> Result<(), Refusal> + 'static,
    ) -> &mut Self {
        self.middlewares.push(Middleware::Now(Box::new(judge)));
        self
    }

    /// The same for a judge that must wait for something, a database say. Others are served meanwhile. All judges of one
    /// socket together have the connect timeout; who is not judged by then is refused. A client without a connected
    /// namespace is closed at that time, as always.
    pub fn middleware_async<F>(
        &mut self,
        judge: impl Fn(Socket, Rc<ConnectRequest>) -> F + 'static,
    ) -> &mut Self
    where
        F: Future<Output = Result<(), Refusal>> + 'static,
    {
        self.middlewares.push(Middleware::later(judge));
        self
    }

    /// Judges who comes back to a session, after middlewares or instead of them (see
    /// [`crate::config::Recovery::skip_middlewares`]): the socket has its id and data again, its groups follow. A refusal
    /// ends the session and reaches the client as `connect_error`. Several run in the order of their registration.
    pub fn reauthorise(
        &mut self,
        judge: impl Fn(&Socket, &ConnectRequest) -> Result<(), Refusal> + 'static,
    ) -> &mut Self {
        self.reauthorisers.push(Middleware::Now(Box::new(judge)));
        self
    }

    /// The same for a judge that must wait for something.
    pub fn reauthorise_async<F>(
        &mut self,
        judge: impl Fn(Socket, Rc<ConnectRequest>) -> F + 'static,
    ) -> &mut Self
    where
        F: Future<Output = Result<(), Refusal>> + 'static,
    {
        self.reauthorisers.push(Middleware::later(judge));
        self
    }

    /// Judges every event of a client before its handler, after [`Self::on_any`]. A refusal drops the event and is told
    /// to [`Self::on_refused`] alone; whoever wants the client to know answers by [`Event::reply`]. Several run in the
    /// order of their registration.
    pub fn packet_middleware(
        &mut self,
        judge: impl Fn(&Socket, &mut Event) -> Result<(), Refusal> + 'static,
    ) -> &mut Self {
        self.packet_middlewares.push(Box::new(judge));
        self
    }

    /// Called when a packet middleware refused an event. A second registration replaces the first.
    pub fn on_refused(&mut self, handler: impl Fn(&Socket, &Refusal) + 'static) -> &mut Self {
        self.on_refused = Some(Box::new(handler));
        self
    }

    /// Called for each socket once it is connected; what it emits arrives after the client's `connect`.
    /// A second registration replaces the first.
    pub fn on_connect(&mut self, handler: impl Fn(&Socket) + 'static) -> &mut Self {
        self.on_connect = Some(Box::new(handler));
        self
    }

    /// Called for each event of this name; `message` is what a client's `send` sends. A second registration of the name
    /// replaces the first.
    ///
    /// # Panics
    /// When the name is reserved, such as `disconnect`: no packet carries it, so the handler would never run.
    pub fn on(&mut self, event: &str, handler: impl Fn(&Socket, Event) + 'static) -> &mut Self {
        assert!(!RESERVED_EVENTS.contains(&event), "event {event:?} is reserved; there is a method for it");
        self.events.insert(event.to_owned(), Box::new(handler));
        self
    }

    /// Called for every event of a client, before packet middlewares and its own handler. All registrations count.
    pub fn on_any(&mut self, handler: impl Fn(&Socket, &Event) + 'static) -> &mut Self {
        self.on_any.push(Box::new(handler));
        self
    }

    /// Called for every event on its way to a client, once for each receiver, of broadcasts too. All registrations
    /// count. Acks are not events. A listener that emits to a socket of its own namespace is called for that too.
    pub fn on_any_outgoing(&mut self, handler: impl Fn(&Socket, &Outgoing<'_>) + 'static) -> &mut Self {
        self.on_any_outgoing.push(Box::new(handler));
        self
    }

    /// Called when a group begins, gets a member, loses one, and ends, in this order. The group of a socket's own id is
    /// not told. A second registration replaces the first.
    pub fn on_group(&mut self, handler: impl Fn(&GroupChange<'_>) + 'static) -> &mut Self {
        self.on_group = Some(Box::new(handler));
        self
    }

    /// Called for each event of this name that another node of the mesh sent by
    /// [`crate::Broadcast::server_side_emit`], or an emitter by its `serverSideEmit`. A second registration of the name replaces the first.
    pub fn on_server_side(
        &mut self,
        event: &str,
        handler: impl Fn(&NodeHandle, &ServerEvent) + 'static,
    ) -> &mut Self {
        self.server_events.insert(event.to_owned(), Box::new(handler));
        self
    }

    /// Called when the connection of a socket has moved from polling to WebSocket. A second registration replaces the
    /// first.
    pub fn on_upgrade(&mut self, handler: impl Fn(&Socket) + 'static) -> &mut Self {
        self.on_upgrade = Some(Box::new(handler));
        self
    }

    /// Keeps the client's `auth` for [`Socket::auth`], for as long as the socket lives. Without it middlewares alone
    /// see it.
    pub fn keep_auth(&mut self) -> &mut Self {
        self.keeps_auth = true;
        self
    }

    /// Called once for each socket that was connected, while it is still in its groups. Emits to it go nowhere. More about
    /// the end than the reason tells [`Socket::disconnect_details`]. A second registration replaces the first.
    pub fn on_disconnecting(&mut self, handler: impl Fn(&Socket, DisconnectReason) + 'static) -> &mut Self {
        self.on_disconnecting = Some(Box::new(handler));
        self
    }

    /// Called once for each socket that was connected, when it has left its groups. Emits to it go nowhere.
    /// A second registration replaces the first.
    pub fn on_disconnect(&mut self, handler: impl Fn(&Socket, DisconnectReason) + 'static) -> &mut Self {
        self.on_disconnect = Some(Box::new(handler));
        self
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.middlewares.iter().any(|middleware| matches!(middleware, Middleware::Later(_)))
    }
}

/// A change of a group on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupChange<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The group.
    pub group: &'a str,
    /// What happened.
    pub step: GroupStep,
}

/// What happened to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupStep {
    /// It has its first member.
    Began,
    /// A socket joined it.
    Joined(SocketId),
    /// A socket left it, or went.
    Left(SocketId),
    /// Its last member has left.
    Ended,
}

/// An event on its way to a client.
#[derive(Debug)]
pub struct Outgoing<'a> {
    packet: &'a Prepared,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(packet: &'a Prepared) -> Self {
        Self { packet }
    }

    /// The event's name.
    #[must_use]
    pub fn name(&self) -> String {
        self.parts().next().and_then(|name| serde_json::from_str(name).ok()).unwrap_or_default()
    }

    /// The JSON text of each argument. Binary parts are placeholders in it.
    pub fn args(&self) -> impl Iterator<Item = &'a str> {
        self.parts().skip(1)
    }

    fn parts(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let parts: Vec<&RawValue> = serde_json::from_str(self.packet.data()).unwrap_or_default();
        parts.into_iter().map(RawValue::get)
    }
}
