//! A line of the log for each socket that comes, with whether it goes on with its session, and for each that goes.
//!
//! The target is `greenroom_node::connections` and the level is debug, so that ten thousand players who come at once cost
//! nothing where nobody asked for it. Never says a secret: neither a `pid` nor a token.

use std::fmt::{self, Display};

use greenroom_core::RoomId;
use greenroom_socketio::engine::DisconnectReason;
use greenroom_wire::backplane::NotRestored;

use crate::socket::Socket;
use crate::state::NodeState;

const TARGET: &str = "greenroom_node::connections";

/// A socket has its connect reply. `went_on`: it has its session again; or the reason why not, if it asked for one.
pub(crate) fn came(
    state: &NodeState,
    socket: &Socket,
    went_on: Result<(), Option<NotRestored>>,
    room: Option<&RoomId>,
) {
    tracing::debug!(
        target: TARGET,
        node = %Node(state),
        socket = %socket.id(),
        namespace = socket.namespace_name(),
        room = room.map(tracing::field::display),
        recovered = went_on.is_ok(),
        reason = went_on.err().flatten().map(NotRestored::as_str),
        "connected"
    );
}

/// A socket is gone.
pub(crate) fn went(state: &NodeState, socket: &Socket, reason: DisconnectReason, room: Option<&RoomId>) {
    tracing::debug!(
        target: TARGET,
        node = %Node(state),
        socket = %socket.id(),
        namespace = socket.namespace_name(),
        room = room.map(tracing::field::display),
        reason = reason.as_str(),
        "disconnected"
    );
}

/// The process, as its agent calls it.
struct Node<'a>(&'a NodeState);

impl Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.config.membership.as_ref().map_or("-", |of| of.instance.as_str()).fmt(f)
    }
}
