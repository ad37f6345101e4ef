//! What other servers ask this node, and its answers.

use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use greenroom_socketio::adapter::{Asks, RemoteSocket, Says, Tells, Word};
use greenroom_socketio::emitter::Target;
use greenroom_socketio::engine::Query;
use greenroom_socketio::packet::Packet;
use greenroom_wire::link::MeshMessage;
use serde_json::{Map, Value, json};

use super::{Cluster, Fault};
use crate::event::Reply;
use crate::link::read_packet;
use crate::mesh::{ServerAck, hand_to_servers};
use crate::node::NodeHandle;
use crate::orders::{draft, reach};
use crate::socket::{AckError, Socket};
use crate::state::NodeState;

/// How long clients have where nobody says it.
const TIMEOUT_DEFAULT_MS: u64 = 5_000;

/// How long they have at most.
const TIMEOUT_MAX_MS: u64 = 600_000;

/// Where an answer goes.
#[derive(Clone)]
struct Asker {
    server: String,
    namespace: String,
    request: String,
}

impl Cluster {
    /// Answers at once or later. A server that asks counts on every server that listens, so one without the namespace or
    /// without anybody that is meant answers too; one without a handler for an event does not, as Node.js servers do not.
    pub(super) fn answer(
        &self,
        state: &Rc<NodeState>,
        server: String,
        namespace: String,
        request: String,
        asks: Asks,
    ) -> Result<(), Fault> {
        let asker = Asker { server, namespace, request };
        match asks {
            Asks::Sockets { target } => {
                let sockets = reach(state, &target).map_or_else(Vec::new, |reached| reached.sockets());
                let sockets = sockets.iter().map(remote).collect();
                self.say_to(state, &asker, Tells::Sockets { sockets });
            }
            Asks::Clients { target, packet, timeout_ms } => {
                self.ask_clients(state, &asker, &target, &packet, timeout_ms)?;
            }
            Asks::Servers { packet } => {
                let node = NodeHandle(Rc::clone(state));
                let (from, namespace) = (asker.server.clone(), asker.namespace.clone());
                let answering = Rc::clone(state);
                let ack = ServerAck(Box::new(move |message| answer_server(&answering, &asker, message)));
                hand_to_servers(state, &node, &from, &namespace, packet, Some(ack));
            }
        }
        Ok(())
    }

    /// Says at once how many are asked, then what each of them answers.
    fn ask_clients(
        &self,
        state: &Rc<NodeState>,
        asker: &Asker,
        target: &Target,
        packet: &Packet,
        timeout_ms: Option<u64>,
    ) -> Result<(), Fault> {
        let timeout = Duration::from_millis(timeout_ms.unwrap_or(TIMEOUT_DEFAULT_MS).min(TIMEOUT_MAX_MS));
        let mut clients = 0;
        if let Some(reached) = reach(state, target) {
            let (answering, to) = (Rc::clone(state), asker.clone());
            let each = move |socket: &Socket, reply: Result<Reply, AckError>| {
                // Who gives no answer is missed by whoever asks, when the time is over.
                if let (Some(cluster), Ok(reply)) = (&answering.peers.cluster, reply) {
                    let socket = Some(socket.id().to_string());
                    let tells = Tells::Ack { packet: reply.packet().clone(), socket };
                    cluster.say_to(&answering, &to, tells);
                }
            };
            clients = reached.ask_each(&draft(packet)?, timeout, each)?;
        }
        // No client can have answered yet: none was written to.
        let clients = u64::try_from(clients).unwrap_or(u64::MAX);
        self.say_to(state, asker, Tells::Clients { clients });
        Ok(())
    }

    fn say_to(&self, state: &NodeState, asker: &Asker, tells: Tells) {
        let Asker { server, namespace, request } = asker.clone();
        let channel = self.names.channel_of(&namespace, &server);
        let word = Word { from: self.server.clone(), namespace, says: Says::Answer { request, tells } };
        if !self.publish_word(&word, channel) {
            state.counting.publish_dropped_total.one();
        }
    }
}

fn answer_server(state: &NodeState, asker: &Asker, message: MeshMessage) {
    let MeshMessage::Reply { packet: Some(packet) } = message else { return };
    let Some(cluster) = &state.peers.cluster else { return };
    match read_packet(state, &packet, &[]) {
        Ok(packet) => cluster.say_to(state, asker, Tells::Server { packet }),
        Err(error) => tracing::error!(%error, "an answer cannot be sent"),
    }
}

/// A socket as programs on Node.js servers see it. Headers and `auth` are not kept here, and so they are empty.
fn remote(socket: &Socket) -> RemoteSocket {
    let handshake = socket.handshake();
    let query = handshake.url().split_once('?').map_or("", |(_, query)| query);
    let query: Map<String, Value> =
        Query::parse(query).pairs().map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
    let issued = handshake.issued_at().duration_since(UNIX_EPOCH).unwrap_or_default();
    let id = socket.id().to_string();
    RemoteSocket {
        // There each socket's id is one of its groups.
        groups: std::iter::once(id.clone()).chain(socket.groups()).collect(),
        id,
        data: socket.data(),
        handshake: json!({
            "headers": {},
            "address": handshake.address().ip().to_string(),
            "xdomain": handshake.is_cross_origin(),
            "secure": handshake.is_secure(),
            "issued": u64::try_from(issued.as_millis()).unwrap_or(u64::MAX),
            "url": handshake.url(),
            "query": query,
            "auth": {},
        }),
    }
}
