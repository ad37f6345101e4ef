//! Clients that follow: those led by our client helper, which go where they are told and ask where there is a better
//! place. Never tells a stock client, which would not understand it, and never moves a room: that is its owner's.

use std::rc::Rc;
use std::time::Duration;

use greenroom_socketio::packet::Draft;
use serde::{Deserialize, Serialize};

use crate::handshake::ConnectRequest;
use crate::node::NodeHandle;
use crate::session::{Session, Urgency};
use crate::socket::Socket;
use crate::state::NodeState;

/// How often the end of a node looks whether its clients have gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What clients may take beyond the moment that they were told.
const SLACK: Duration = Duration::from_millis(500);

/// Where a client shall go, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Move {
    /// `host:port`, or a URL; none: the client asks for an address as it did at first.
    pub endpoint: Option<String>,
    /// The join token to show there; none: the one that it has.
    pub token: Option<String>,
    /// How long it waits before it goes. Default: not at all.
    pub delay: Duration,
}

#[derive(Serialize)]
struct Word<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    delay_ms: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    greenroom: Asked,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    moves: bool,
}

/// Whether a client says that it follows moves.
pub(crate) fn are_followed(request: &ConnectRequest) -> bool {
    request.auth_raw().contains("\"moves\"")
        && request.auth::<Auth>().is_ok_and(|Auth { greenroom }| greenroom.moves)
}

impl Socket {
    /// Tells the client to go elsewhere, with its session. `false`: it does not follow moves, and nothing was sent. The
    /// connection stays until the client goes; a later word takes the place of an earlier one.
    pub fn move_to(&self, to: &Move) -> bool {
        if !self.follows() {
            return false;
        }
        let Move { endpoint, token, delay } = to;
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let word = Word { endpoint: endpoint.as_deref(), token: token.as_deref(), delay_ms };
        let draft = Draft::event("greenroom:move").and_then(|draft| draft.arg(&word));
        let packet = draft.and_then(|draft| draft.prepare(self.namespace_name(), None));
        // No event of the History: at the new place it means nothing.
        packet.map(|packet| self.send_event(&packet, Urgency::Reliable)).is_ok()
    }
}

impl NodeHandle {
    /// Tells all clients outside of rooms that follow moves to ask for another address, one after another within this
    /// time; gives how many. The others stay.
    pub fn move_away(&self, within: Duration) -> usize {
        let sockets = following(&self.0);
        let count = u32::try_from(sockets.len()).unwrap_or(u32::MAX);
        for (socket, number) in sockets.iter().zip(0..) {
            socket.move_to(&Move { delay: within / count * number, ..Move::default() });
        }
        sockets.len()
    }
}

impl Session {
    /// Whether one of its sockets will be led away before the end.
    pub(crate) fn follows(&self) -> bool {
        let is_led = |socket: &Socket| socket.follows() && self.state.is_mesh(socket.namespace_name());
        self.sockets.borrow().iter().any(is_led)
    }
}

fn following(state: &NodeState) -> Vec<Socket> {
    let names = state.namespaces.names().into_iter().filter(|name| state.is_mesh(name));
    let namespaces = names.filter_map(|name| state.namespaces.get(&name));
    namespaces.flat_map(|namespace| namespace.select(&[], &[])).filter(Socket::follows).collect()
}

/// Leads those who follow away before the end, and waits until they have gone or had their time.
pub(crate) async fn lead_away(state: &Rc<NodeState>) {
    let within = state.config.lead_away_within;
    let count = NodeHandle(Rc::clone(state)).move_away(within);
    if count == 0 {
        return;
    }
    tracing::info!(count, "clients are told to go elsewhere");
    let gone = async {
        while !following(state).is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(within + SLACK, gone).await.is_err() {
        tracing::warn!(left = following(state).len(), "some clients did not go elsewhere in time");
    }
}
