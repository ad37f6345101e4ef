//! The way from a node to its backplane and back, as the node sees it: two queues, whatever lies behind them.
//! Never says what is behind; see [`crate::memory`] and, with the feature of that name, `crate::redis`.

use greenroom_core::InstanceId;
use greenroom_wire::Text;
use greenroom_wire::backplane::{Command, Told};
use greenroom_wire::link::{MeshSend, MeshTold, Relay};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Node to backplane.
#[derive(Debug, Clone, PartialEq)]
pub enum ToBackplane {
    /// About Histories and sessions. Handled in the order given.
    Command(Command),
    /// For other nodes.
    Mesh(MeshSend),
    /// A broadcast for the other nodes without a History: whoever is not there misses it.
    Publish(Relay),
}

/// Backplane to node.
#[derive(Debug, Clone, PartialEq)]
pub enum FromBackplane {
    /// The way is open, for the first time or again. The node attaches anew to every namespace, opens its live sessions
    /// again and gives again, with their old numbers, all events that it has not been told of.
    Up,
    /// The way is closed. What was given and not answered may or may not have happened; what is given before the next
    /// [`Self::Up`] is dropped.
    Down {
        /// For people.
        why: String,
    },
    /// About Histories and sessions.
    Told(Told),
    /// Of another node.
    Mesh(MeshTold),
    /// Who was asked, told before any of them can have answered.
    Asked {
        /// The question.
        ask: u64,
        /// All that get it.
        peers: Vec<Text<InstanceId>>,
    },
    /// A broadcast of another node without a History.
    Deliver(Relay),
}

/// A node's end of its way to the backplane. Dropping it is the node's end: its sessions are away from then on.
///
/// Neither queue has a bound of its own: the node counts the bytes of what it has given and was not told of, and stops
/// there.
#[derive(Debug)]
pub struct Way {
    /// For what the node says.
    pub to: UnboundedSender<ToBackplane>,
    /// What it is told.
    pub from: UnboundedReceiver<FromBackplane>,
}

/// The backplane's end, for whoever serves it. Its first word is [`FromBackplane::Up`], and the end of
/// [`Self::to`] is the node's.
#[derive(Debug)]
pub struct WayEnd {
    /// What the node says.
    pub to: UnboundedReceiver<ToBackplane>,
    /// For what it is told.
    pub from: UnboundedSender<FromBackplane>,
}

impl Way {
    /// Both ends of a way.
    #[must_use]
    pub fn new() -> (Self, WayEnd) {
        let (to, heard) = unbounded_channel();
        let (telling, from) = unbounded_channel();
        (Self { to, from }, WayEnd { to: heard, from: telling })
    }
}
