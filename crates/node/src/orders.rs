//! Carries out on this node's sockets what somebody outside of it wants: an emitter, or a Node.js server of its cluster.
//! Never tells other nodes: each of them hears it itself.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use greenroom_socketio::emitter::{Emitted, Target};
use greenroom_socketio::packet::{Draft, EncodeError, Packet};
use tokio::time::Instant;

use crate::broadcast::Broadcast;
use crate::mesh::hand_to_servers;
use crate::node::NodeHandle;
use crate::socket::Socket;
use crate::state::NodeState;

/// Time between two words about messages that cannot be read: whoever publishes one, publishes many.
const WORD_EVERY: Duration = Duration::from_secs(10);

/// Carries out what `from` wants.
pub(crate) fn carry_out(state: &Rc<NodeState>, from: &str, order: Emitted) -> Result<(), EncodeError> {
    match order {
        Emitted::Event { target, packet, is_volatile, is_compressible } => {
            let draft = draft(&packet)?.compress(is_compressible);
            if let Some(reached) = reach(state, &target) {
                let reached = if is_volatile { reached.volatile() } else { reached };
                reached.emit_draft(&draft);
            }
        }
        Emitted::Join { target, groups } => each(state, &target, &groups, Socket::join),
        Emitted::Leave { target, groups } => each(state, &target, &groups, Socket::leave),
        Emitted::Disconnect { target, is_transport } => match reach(state, &target) {
            Some(reached) if is_transport => reached.close_transports(),
            Some(reached) => reached.disconnect(),
            None => {}
        },
        Emitted::ServerSide { namespace, packet } => {
            let node = NodeHandle(Rc::clone(state));
            hand_to_servers(state, &node, from, &namespace, packet, None);
        }
    }
    Ok(())
}

/// The sockets of this node that are meant; `None` where the namespace is not here.
pub(crate) fn reach(state: &Rc<NodeState>, target: &Target) -> Option<Broadcast> {
    let everybody = NodeHandle(Rc::clone(state)).namespace(&target.namespace)?;
    Some(everybody.local().narrowed(&target.groups, &target.except))
}

/// Who is meant is settled first: one group may decide about the next.
fn each(state: &Rc<NodeState>, target: &Target, groups: &[String], act: impl Fn(&Socket, &str)) {
    let sockets = reach(state, target).map_or_else(Vec::new, |reached| reached.sockets());
    for socket in sockets {
        groups.iter().for_each(|group| act(&socket, group));
    }
}

/// The event, to be sent on.
pub(crate) fn draft(packet: &Packet) -> Result<Draft, EncodeError> {
    Draft::event(packet.event().unwrap_or_default())?.args_of(packet)
}

/// Says now and then what may happen all the time.
#[derive(Debug, Default)]
pub(crate) struct Rarely {
    said_at: Cell<Option<Instant>>,
    unsaid: Cell<u64>,
}

impl Rarely {
    /// Calls `say` with how often it was not called since the last time, unless that was just now.
    pub(crate) fn say(&self, say: impl FnOnce(u64)) {
        let now = Instant::now();
        if self.said_at.get().is_some_and(|at| now - at < WORD_EVERY) {
            self.unsaid.set(self.unsaid.get() + 1);
            return;
        }
        self.said_at.set(Some(now));
        say(self.unsaid.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_all_the_time_is_said_now_and_then_with_a_number() {
        let rarely = Rarely::default();
        let said = Cell::new(None);
        let mut heard = Vec::new();
        for _ in 0..3 {
            for _ in 0..5 {
                rarely.say(|unsaid| said.set(Some(unsaid)));
            }
            heard.push(said.take());
            tokio::time::advance(WORD_EVERY).await;
        }
        assert_eq!(heard, [Some(0), Some(4), Some(4)]);
    }
}
