//! What the nodes of a fleet on one host tell and ask each other besides broadcasts.
//! Never waits without a deadline: who does not answer in time is named as missing.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greenroom_socketio::SocketId;
use greenroom_socketio::packet::{AckId, Decoder, Draft, Packet};
use greenroom_wire::link::{MeshMessage, MeshReply, MeshScope, MeshSend, MeshSocket, MeshTold};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::answers::Answers;
use crate::broadcast::Broadcast;
use crate::event::{ArgError, Reply, read_arg};
use crate::link::{read_draft, read_packet};
use crate::node::NodeHandle;
use crate::socket::{AckError, Socket};
use crate::state::NodeState;

/// Questions that may wait at once; more are not asked.
const ASKS_MAX: usize = 1024;

/// How much longer than its receivers an asker waits, for the way there and back.
const WAY: Duration = Duration::from_millis(500);

/// The ack id of all answers between nodes: their messages know their question by themselves.
const SERVER_ACK: AckId = AckId::ZERO;

/// The name under which the way to the others is missing.
const AGENT: &str = "agent";

/// A socket of this node or of another, as it was when [`Broadcast::fetch`] found it. What is done to it reaches it
/// wherever it is, and nobody once it is gone.
#[derive(Clone)]
pub struct RemoteSocket {
    /// Its public id.
    pub id: SocketId,
    /// Its groups, in order.
    pub groups: Vec<String>,
    /// The program's data.
    pub data: Value,
    /// `ip:port` of the client, or of its proxy.
    pub address: String,
    /// Path and query that the session was opened with.
    pub url: String,
    reach: Broadcast,
}

impl std::fmt::Debug for RemoteSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteSocket({})", self.id)
    }
}

impl RemoteSocket {
    /// What another node told of one of its sockets. `everybody` is its whole namespace.
    pub(crate) fn read(told: MeshSocket, everybody: Broadcast) -> Option<Self> {
        let MeshSocket { id, groups, data, address, url } = told;
        let reach = everybody.to(&*id);
        Some(Self { id: id.parse().ok()?, groups, data, address, url, reach })
    }

    /// Everything that can be sent to it, and asked of it.
    pub fn broadcast(&self) -> Broadcast {
        self.reach.clone()
    }

    /// Sends it an event with one argument, see [`Broadcast::emit`].
    pub fn emit<T: serde::Serialize + ?Sized>(&self, event: &str, argument: &T) {
        self.reach.emit(event, argument);
    }

    /// Puts it into a group.
    pub fn join(&self, group: &str) {
        self.reach.join(group);
    }

    /// Takes it out of a group.
    pub fn leave(&self, group: &str) {
        self.reach.leave(group);
    }

    /// Ends its namespace for the client, see [`Socket::disconnect`].
    pub fn disconnect(&self) {
        self.reach.disconnect();
    }

    /// Ends the client's whole connection, see [`Socket::close_transport`].
    pub fn close_transport(&self) {
        self.reach.close_transports();
    }
}

impl Socket {
    /// The same socket as any node of the mesh would see it.
    pub(crate) fn remote(&self) -> RemoteSocket {
        let MeshSocket { id, groups, data, address, url } = tell_socket(self);
        let reach = Broadcast::new(&self.node().0, self.namespace()).to(id);
        RemoteSocket { id: self.id(), groups, data, address, url, reach }
    }
}

/// What [`Broadcast::fetch`] found.
#[derive(Debug, Default)]
pub struct Fetched {
    /// All sockets that were told.
    pub sockets: Vec<RemoteSocket>,
    /// The nodes that did not tell theirs, by instance; `agent` where the way to them is down.
    pub nodes_missing: Vec<String>,
}

/// An event that another node of the mesh, or an emitter outside of it, sent to the nodes themselves.
#[derive(Debug)]
pub struct ServerEvent {
    from: String,
    packet: Packet,
    ack: RefCell<Option<ServerAck>>,
}

/// The right to answer one event of another node, once. It may be kept and used later; dropped unused, the node that
/// asked waits until its time is over.
pub struct ServerAck(pub(crate) Box<dyn FnOnce(MeshMessage)>);

impl std::fmt::Debug for ServerAck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerAck")
    }
}

impl ServerAck {
    /// Answers with one argument. One that has no JSON form is a fault of the program: it is logged, and counts as no
    /// answer.
    pub fn send<T: serde::Serialize + ?Sized>(self, argument: &T) {
        let packet = Draft::ack().arg(argument).and_then(|draft| draft.prepare("/", Some(SERVER_ACK)));
        match packet {
            Ok(packet) => (self.0)(MeshMessage::Reply { packet: Some(packet.text().to_owned()) }),
            Err(error) => tracing::error!(%error, "an answer cannot be sent"),
        }
    }
}

/// What the other nodes of the mesh answered to [`Broadcast::server_side_ask`].
#[derive(Debug, Default)]
pub struct ServerAnswers {
    /// One answer of each node that gave one, by instance.
    pub replies: Vec<(String, Reply)>,
    /// The nodes that gave none, by instance: too late, or without a handler for the event; `agent` where the way to
    /// them is down.
    pub nodes_missing: Vec<String>,
}

impl ServerEvent {
    /// The instance of the node that sent it; `emitter` for one of [`crate::config::Emitters`]; in a cluster with Node.js
    /// servers ([`crate::config::Adapter`]) the name of its adapter.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.from
    }

    /// Takes the answer that the other node waits for; `None` when it wants none, or it was taken before.
    #[must_use]
    pub fn ack(&self) -> Option<ServerAck> {
        self.ack.take()
    }

    /// Answers with one argument, if the other node wants an answer and has none yet.
    pub fn reply<T: serde::Serialize + ?Sized>(&self, argument: &T) {
        if let Some(ack) = self.ack() {
            ack.send(argument);
        }
    }

    /// The event's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.packet.event().unwrap_or_default()
    }

    /// One argument, counted from 0.
    ///
    /// # Errors
    /// When it is missing or has another shape than `T`.
    pub fn arg<T: DeserializeOwned>(&self, index: usize) -> Result<T, ArgError> {
        read_arg(&self.packet, index)
    }
}

/// What the others answered, and which of them did not.
#[derive(Default)]
pub(crate) struct Heard {
    /// Each with the instance that sent it.
    pub(crate) messages: Vec<(String, MeshMessage)>,
    pub(crate) nodes_missing: Vec<String>,
}

type Then = Box<dyn FnOnce(Heard)>;

struct Asking {
    /// Who has not answered yet; none while the agent has not told who was asked.
    waiting: Option<BTreeSet<String>>,
    messages: Vec<(String, MeshMessage)>,
    then: Then,
}

/// The questions of this node that wait for answers.
#[derive(Default)]
pub(crate) struct Mesh {
    next: Cell<u64>,
    asking: RefCell<BTreeMap<u64, Asking>>,
}

impl Mesh {
    /// Asks all other nodes. `then` is called once.
    pub(crate) fn ask(
        state: &Rc<NodeState>,
        message: MeshMessage,
        timeout: Duration,
        then: impl FnOnce(Heard) + 'static,
    ) {
        let down = || Heard { nodes_missing: vec![AGENT.to_owned()], ..Heard::default() };
        if !state.peers.are_there() {
            return then(Heard::default());
        }
        let mesh = &state.peers.mesh;
        if mesh.asking.borrow().len() >= ASKS_MAX {
            return then(down());
        }
        let ask = mesh.next.get();
        mesh.next.set(ask + 1);
        if !state.peers.tell(state, MeshSend { to: None, ask: Some(ask), message }) {
            return then(down());
        }
        let asking = Asking { waiting: None, messages: Vec::new(), then: Box::new(then) };
        mesh.asking.borrow_mut().insert(ask, asking);
        let late = Rc::clone(state);
        NodeHandle(Rc::clone(state)).spawn(async move {
            tokio::time::sleep(timeout + WAY).await;
            late.peers.mesh.finish(ask);
        });
    }

    pub(crate) fn handle_asked(&self, ask: u64, peers: impl Iterator<Item = String>) {
        if let Some(asking) = self.asking.borrow_mut().get_mut(&ask) {
            asking.waiting = Some(peers.collect());
        }
        self.finish_if_complete(ask);
    }

    pub(crate) fn handle_answer(&self, from: &str, ask: u64, message: MeshMessage) {
        if let Some(asking) = self.asking.borrow_mut().get_mut(&ask)
            // One answer of each that was asked.
            && asking.waiting.as_mut().is_some_and(|waiting| waiting.remove(from))
        {
            asking.messages.push((from.to_owned(), message));
        }
        self.finish_if_complete(ask);
    }

    fn finish_if_complete(&self, ask: u64) {
        let is_complete = self
            .asking
            .borrow()
            .get(&ask)
            .is_some_and(|asking| asking.waiting.as_ref().is_some_and(BTreeSet::is_empty));
        if is_complete {
            self.finish(ask);
        }
    }

    fn finish(&self, ask: u64) {
        let asking = self.asking.borrow_mut().remove(&ask);
        if let Some(Asking { waiting, messages, then }) = asking {
            let missing =
                waiting.map_or_else(|| vec![AGENT.to_owned()], |waiting| waiting.into_iter().collect());
            then(Heard { messages, nodes_missing: missing });
        }
    }
}

/// Takes in what another node says.
pub(crate) fn handle(state: &Rc<NodeState>, told: MeshTold) {
    let MeshTold { from, ask, message } = told;
    let node = NodeHandle(Rc::clone(state));
    let answer = {
        let state = Rc::clone(state);
        let to = Some(from.clone());
        move |message| {
            if ask.is_some() {
                state.peers.tell(&state, MeshSend { to, ask, message });
            }
        }
    };
    match message {
        MeshMessage::Join { scope, group } => each(&node, &scope, |socket| socket.join(&group)),
        MeshMessage::Leave { scope, group } => each(&node, &scope, |socket| socket.leave(&group)),
        MeshMessage::Disconnect { scope, is_transport: true } => each(&node, &scope, Socket::close_transport),
        MeshMessage::Disconnect { scope, is_transport: false } => each(&node, &scope, Socket::disconnect),
        MeshMessage::Event { namespace, packet } => {
            let ack = ask.map(|_| ServerAck(Box::new(answer)));
            handle_event(state, &node, from.as_str(), &namespace, &packet, ack);
        }
        MeshMessage::Fetch { scope } => {
            let sockets = reach(&node, &scope).map_or_else(Vec::new, |reached| reached.sockets());
            answer(MeshMessage::Sockets { sockets: sockets.iter().map(tell_socket).collect() });
        }
        MeshMessage::Ask { relay, timeout_ms } => {
            let scope = MeshScope {
                namespace: relay.namespace.clone(),
                groups: relay.groups.clone(),
                except: relay.except.clone(),
            };
            let draft = read_draft(state, &relay.packet, &relay.attachments);
            match (reach(&node, &scope), draft) {
                (Some(reached), Ok(draft)) => {
                    let timeout = Duration::from_millis(timeout_ms);
                    reached.emit_with_ack(&draft, timeout, move |answers| answer(tell_answers(&answers)));
                }
                (None, _) => answer(MeshMessage::Answers { replies: vec![], missing: vec![] }),
                (_, Err(error)) => tracing::warn!(%error, "a question of the mesh cannot be read"),
            }
        }
        MeshMessage::Sockets { .. } | MeshMessage::Answers { .. } | MeshMessage::Reply { .. } => {
            if let Some(ask) = ask {
                state.peers.mesh.handle_answer(from.as_str(), ask, message);
            }
        }
    }
}

/// The sockets of this node that a scope means.
fn reach(node: &NodeHandle, scope: &MeshScope) -> Option<Broadcast> {
    Some(node.namespace(&scope.namespace)?.local().narrowed(&scope.groups, &scope.except))
}

fn each(node: &NodeHandle, scope: &MeshScope, act: impl Fn(&Socket)) {
    if let Some(reached) = reach(node, scope) {
        reached.sockets().iter().for_each(act);
    }
}

fn handle_event(
    state: &Rc<NodeState>,
    node: &NodeHandle,
    from: &str,
    namespace: &str,
    packet: &str,
    ack: Option<ServerAck>,
) {
    match Decoder::new().handle_text(packet, &state.config.limits) {
        Ok(Some(packet)) => hand_to_servers(state, node, from, namespace, packet, ack),
        Ok(None) => tracing::warn!("an event of the mesh has attachments"),
        Err(error) => tracing::warn!(%error, "an event of the mesh cannot be read"),
    }
}

/// Hands an event for the nodes themselves to this one's handler.
pub(crate) fn hand_to_servers(
    state: &Rc<NodeState>,
    node: &NodeHandle,
    from: &str,
    namespace: &str,
    packet: Packet,
    ack: Option<ServerAck>,
) {
    let namespace = state.namespaces.get(namespace);
    let event = ServerEvent { from: from.to_owned(), packet, ack: RefCell::new(ack) };
    let handlers = namespace.as_ref().map(|namespace| &namespace.handlers.server_events);
    match (handlers.and_then(|handlers| handlers.get(event.name())), event.ack.take()) {
        (Some(handler), ack) => {
            event.ack.replace(ack);
            handler(node, &event);
        }
        // Who asks need not wait for what will not come.
        (None, Some(ack)) => (ack.0)(MeshMessage::Reply { packet: None }),
        (None, None) => {}
    }
}

fn tell_socket(socket: &Socket) -> MeshSocket {
    MeshSocket {
        id: socket.id().to_string(),
        groups: socket.groups(),
        data: socket.data(),
        address: socket.handshake().address().to_string(),
        url: socket.handshake().url().to_owned(),
    }
}

fn tell_answers(answers: &Answers) -> MeshMessage {
    let replies = answers.replies.iter().map(|(socket, reply)| MeshReply {
        socket: socket.to_string(),
        packet: reply.packet().text().to_owned(),
        attachments: reply.packet().attachments().iter().map(|bytes| STANDARD.encode(bytes)).collect(),
    });
    let missing = answers.missing.iter().map(|(socket, why)| (socket.to_string(), why.code().to_owned()));
    MeshMessage::Answers { replies: replies.collect(), missing: missing.collect() }
}

/// Adds what other nodes heard to what this one heard.
pub(crate) fn add_answers(state: &NodeState, heard: Heard, answers: &mut Answers) {
    answers.nodes_missing.extend(heard.nodes_missing);
    for (_, message) in heard.messages {
        let MeshMessage::Answers { replies, missing } = message else { continue };
        for reply in replies {
            let read = read_packet(state, &reply.packet, &reply.attachments).ok();
            match (reply.socket.parse(), read) {
                (Ok(socket), Some(packet)) => answers.replies.push((socket, Reply::new(packet))),
                (Ok(socket), None) => answers.missing.push((socket, AckError::Disconnected)),
                (Err(_), Some(packet)) if reply.socket.is_empty() => {
                    answers.replies_unnamed.push(Reply::new(packet));
                }
                (Err(_), None) if reply.socket.is_empty() => answers.missing_unnamed += 1,
                (Err(_), _) => {}
            }
        }
        for (socket, why) in missing {
            if socket.is_empty() {
                answers.missing_unnamed += 1;
            } else if let Ok(socket) = socket.parse() {
                answers.missing.push((socket, AckError::of_code(&why)));
            }
        }
    }
}

/// Adds what other nodes said themselves.
pub(crate) fn add_server_answers(state: &NodeState, heard: Heard, answers: &mut ServerAnswers) {
    answers.nodes_missing.extend(heard.nodes_missing);
    for (from, message) in heard.messages {
        let MeshMessage::Reply { packet } = message else { continue };
        let read = |packet: String| Decoder::new().handle_text(&packet, &state.config.limits).ok().flatten();
        match packet.and_then(read) {
            Some(packet) => answers.replies.push((from, Reply::new(packet))),
            None => answers.nodes_missing.push(from),
        }
    }
}
