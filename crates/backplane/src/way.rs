//! The way from a node to its backplane and back, as the node sees it: two queues, whatever lies behind them.
//! Never says what is behind; see [`crate::memory`] and, with the feature of that name, `crate::redis`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greenroom_core::InstanceId;
use greenroom_wire::Text;
use greenroom_wire::backplane::{Command, Told};
use greenroom_wire::link::{MeshSend, MeshTold, Relay};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::board::weight;

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
    /// This node takes in too slowly: so many words without a History were dropped. Events of Histories never are.
    Dropped {
        /// How many, since this was said last.
        words: u64,
    },
}

impl FromBackplane {
    /// Roughly the bytes that it takes while it waits.
    fn weight(&self) -> usize {
        let more = match self {
            Self::Told(Told::Event { event, .. }) => weight(&event.relay),
            Self::Told(Told::Page { events, .. }) => events.iter().map(|event| weight(&event.relay)).sum(),
            Self::Told(Told::Taken { session: Ok(session), .. }) => {
                session.own.iter().map(|own| own.packet.len()).sum()
            }
            Self::Deliver(relay) => weight(relay),
            Self::Told(_)
            | Self::Up
            | Self::Down { .. }
            | Self::Mesh(_)
            | Self::Asked { .. }
            | Self::Dropped { .. } => 0,
        };
        more + size_of::<Self>()
    }
}

#[derive(Debug, Default)]
struct Gauge {
    bytes: AtomicUsize,
    taken: Notify,
}

/// What a node is told, in order.
#[derive(Debug)]
pub struct Inbox {
    words: UnboundedReceiver<(usize, FromBackplane)>,
    gauge: Arc<Gauge>,
}

impl Inbox {
    /// The next word; `None` once the backplane's end is gone and all is taken.
    pub async fn recv(&mut self) -> Option<FromBackplane> {
        let (bytes, word) = self.words.recv().await?;
        self.took(bytes);
        Some(word)
    }

    /// The next word, where one waits.
    pub fn try_recv(&mut self) -> Option<FromBackplane> {
        let (bytes, word) = self.words.try_recv().ok()?;
        self.took(bytes);
        Some(word)
    }

    /// Roughly the bytes that wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.gauge.bytes.load(Ordering::Relaxed)
    }

    fn took(&self, bytes: usize) {
        self.gauge.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.gauge.taken.notify_one();
    }
}

/// The other end of an [`Inbox`]. It takes all that it is given; whoever tells looks at what waits already.
#[derive(Debug, Clone)]
pub struct Teller {
    words: UnboundedSender<(usize, FromBackplane)>,
    gauge: Arc<Gauge>,
}

impl Teller {
    /// Tells the node. One that has gone meanwhile is noticed by the end of the other queue.
    pub fn tell(&self, word: FromBackplane) {
        let bytes = word.weight();
        self.tell_weighing(word, bytes);
    }

    /// The same for a word that weighs so many bytes.
    pub fn tell_weighing(&self, word: FromBackplane, bytes: usize) {
        self.gauge.bytes.fetch_add(bytes, Ordering::Relaxed);
        let _is_there = self.words.send((bytes, word));
    }

    /// Roughly the bytes that wait for the node.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.gauge.bytes.load(Ordering::Relaxed)
    }

    /// Waits until fewer bytes than these wait. For one waiter at a time.
    pub async fn wait_below(&self, bytes: usize) {
        while self.waiting_bytes() >= bytes {
            self.gauge.taken.notified().await;
        }
    }
}

/// A node's end of its way to the backplane. Dropping it is the node's end: its sessions are away from then on.
///
/// The node counts the bytes of what it has given and was not told of, and stops there. What it is told waits for it in
/// bytes that are counted too: a Redis is not read further meanwhile.
#[derive(Debug)]
pub struct Way {
    /// For what the node says.
    pub to: UnboundedSender<ToBackplane>,
    /// What it is told.
    pub from: Inbox,
}

/// The backplane's end, for whoever serves it. Its first word is [`FromBackplane::Up`], and the end of
/// [`Self::to`] is the node's.
#[derive(Debug)]
pub struct WayEnd {
    /// What the node says.
    pub to: UnboundedReceiver<ToBackplane>,
    /// For what it is told.
    pub from: Teller,
}

impl Way {
    /// Both ends of a way.
    #[must_use]
    pub fn new() -> (Self, WayEnd) {
        let (to, heard) = unbounded_channel();
        let (telling, words) = unbounded_channel();
        let gauge = Arc::new(Gauge::default());
        let from = Inbox { words, gauge: Arc::clone(&gauge) };
        (Self { to, from }, WayEnd { to: heard, from: Teller { words: telling, gauge } })
    }
}
