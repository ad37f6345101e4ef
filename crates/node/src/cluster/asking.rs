//! What this node asks the other servers, and their answers.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greenroom_backplane::adapter::Said;
use greenroom_socketio::adapter::{Asks, RemoteSocket, Says, Tells, Word};
use greenroom_socketio::emitter::Target;
use greenroom_wire::link::{MeshMessage, MeshReply, MeshSocket};
use serde_json::Value;

use super::{Cluster, target};
use crate::link::read_packet;
use crate::node::NodeHandle;
use crate::state::NodeState;

/// How much longer than its clients a server may take to tell. Less than the mesh waits.
const WAY: Duration = Duration::from_millis(250);

/// Clients of one server that one question counts; more answers are left out.
const CLIENTS_MAX: usize = 100_000;

/// A question under way.
pub(super) struct Asking {
    namespace: String,
    /// `None` once it is published.
    asks: Option<Asks>,
    /// How long clients have; `None` for a question that servers answer themselves, at once.
    timeout: Option<Duration>,
    /// Those whose clients are still being asked.
    clients: BTreeMap<String, Collected>,
}

/// What the clients of one server answered.
#[derive(Default)]
struct Collected {
    /// How many are asked; `None` before it is told.
    due: Option<usize>,
    replies: Vec<MeshReply>,
}

impl Asking {
    /// What the mesh asks; `None` where it cannot be said.
    pub(super) fn of(state: &NodeState, message: MeshMessage) -> Option<Self> {
        let (namespace, asks, timeout) = match message {
            MeshMessage::Fetch { scope } => {
                (scope.namespace.clone(), Asks::Sockets { target: target(scope) }, None)
            }
            MeshMessage::Event { namespace, packet } => {
                (namespace, Asks::Servers { packet: read_packet(state, &packet, &[]).ok()? }, None)
            }
            MeshMessage::Ask { relay, timeout_ms } => {
                let packet = read_packet(state, &relay.packet, &relay.attachments).ok()?;
                let namespace = relay.namespace.clone();
                let target =
                    Target { namespace: relay.namespace, groups: relay.groups, except: relay.except };
                let asks = Asks::Clients { target, packet, timeout_ms: Some(timeout_ms) };
                (namespace, asks, Some(Duration::from_millis(timeout_ms)))
            }
            MeshMessage::Join { .. }
            | MeshMessage::Leave { .. }
            | MeshMessage::Disconnect { .. }
            | MeshMessage::Sockets { .. }
            | MeshMessage::Answers { .. }
            | MeshMessage::Reply { .. } => return None,
        };
        Some(Self { namespace, asks: Some(asks), timeout, clients: BTreeMap::new() })
    }

    pub(super) fn is_published(&self) -> bool {
        self.asks.is_none()
    }
}

impl Collected {
    fn is_complete(&self) -> bool {
        self.due == Some(self.replies.len())
    }

    /// Who gave no answer is a number there, without names.
    fn answers(self) -> MeshMessage {
        let missing = self.due.unwrap_or(0).saturating_sub(self.replies.len());
        let missing = vec![(String::new(), "timed_out".to_owned()); missing];
        MeshMessage::Answers { replies: self.replies, missing }
    }
}

impl Cluster {
    /// Asks who is there, to ask them then. The answer says whether it is on its way.
    pub(super) fn ask(&self, ask: u64, asking: Asking) -> bool {
        let pattern = self.names.servers_pattern(&asking.namespace);
        let is_asked = self.say(Said::Who { ask, pattern });
        if is_asked {
            self.asking.borrow_mut().insert(ask, asking);
        }
        is_asked
    }

    /// It is known who is there: they are asked.
    pub(super) fn handle_channels(&self, state: &Rc<NodeState>, ask: u64, channels: &[String]) {
        let Some(mut asking) = self.asking.borrow_mut().remove(&ask) else { return };
        let Some(asks) = asking.asks.take() else { return };
        let servers = channels.iter().filter_map(|channel| self.names.server_in(&asking.namespace, channel));
        let servers: Vec<String> =
            servers.filter(|server| *server != self.server).map(ToOwned::to_owned).collect();
        let namespace = asking.namespace.clone();
        if let Some(timeout) = asking.timeout.filter(|_| !servers.is_empty()) {
            asking.clients = servers.iter().map(|server| (server.clone(), Collected::default())).collect();
            self.asking.borrow_mut().insert(ask, asking);
            let late = Rc::clone(state);
            NodeHandle(Rc::clone(state)).spawn(async move {
                tokio::time::sleep(timeout.saturating_add(WAY)).await;
                if let Some(cluster) = &late.peers.cluster {
                    cluster.give_up(&late, ask);
                }
            });
        }
        let is_anybody = !servers.is_empty();
        state.peers.mesh.handle_asked(ask, servers.into_iter());
        if is_anybody {
            let says = Says::Question { request: format!("{ask:x}"), asks };
            let word = Word { from: self.server.clone(), namespace, says };
            // Who is not asked is missing when the time is over.
            let channel = self.names.channel(&word.namespace);
            if !self.publish_word(&word, channel) {
                state.counting.publish_dropped_total.one();
            }
        }
    }

    pub(super) fn handle_answer(&self, state: &Rc<NodeState>, from: &str, request: &str, tells: Tells) {
        let Ok(ask) = u64::from_str_radix(request, 16) else { return };
        match tells {
            Tells::Sockets { sockets } => {
                let sockets = sockets.into_iter().map(told).collect();
                state.peers.mesh.handle_answer(from, ask, MeshMessage::Sockets { sockets });
            }
            Tells::Server { packet } => {
                let packet = Some(packet.text().to_owned());
                state.peers.mesh.handle_answer(from, ask, MeshMessage::Reply { packet });
            }
            Tells::Clients { clients } => self.collect(state, from, ask, |collected| {
                let clients = usize::try_from(clients).unwrap_or(usize::MAX).min(CLIENTS_MAX);
                collected.due = collected.due.or(Some(clients));
            }),
            Tells::Ack { packet, socket } => self.collect(state, from, ask, |collected| {
                // Its number came first, on the same way.
                if collected.due.is_some_and(|due| collected.replies.len() < due) {
                    collected.replies.push(MeshReply {
                        socket: socket.unwrap_or_default(),
                        packet: packet.text().to_owned(),
                        attachments: packet
                            .attachments()
                            .iter()
                            .map(|bytes| STANDARD.encode(bytes))
                            .collect(),
                    });
                }
            }),
        }
    }

    /// Takes in a word about the clients of one server. When it was the last one, the server has answered.
    fn collect(&self, state: &NodeState, from: &str, ask: u64, put: impl FnOnce(&mut Collected)) {
        let done = {
            let mut asking = self.asking.borrow_mut();
            let Some(clients) = asking.get_mut(&ask).map(|asking| &mut asking.clients) else { return };
            let Some(collected) = clients.get_mut(from) else { return };
            put(collected);
            if !collected.is_complete() {
                return;
            }
            let done = clients.remove(from);
            if clients.is_empty() {
                asking.remove(&ask);
            }
            done
        };
        if let Some(done) = done {
            state.peers.mesh.handle_answer(from, ask, done.answers());
        }
    }

    /// The time of a question's clients is over: what came is told. A server that said nothing at all stays missing.
    fn give_up(&self, state: &NodeState, ask: u64) {
        let asking = self.asking.borrow_mut().remove(&ask);
        let clients = asking.map(|asking| asking.clients).unwrap_or_default();
        for (server, collected) in clients {
            if collected.due.is_some() {
                state.peers.mesh.handle_answer(&server, ask, collected.answers());
            }
        }
    }
}

fn told(socket: RemoteSocket) -> MeshSocket {
    let RemoteSocket { id, mut groups, data, handshake } = socket;
    // There each socket's id is one of its groups.
    groups.retain(|group| *group != id);
    let text = |key| handshake.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    MeshSocket { address: text("address"), url: text("url"), id, groups, data }
}
