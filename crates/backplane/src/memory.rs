//! A board in this very process, with ways to it.
//! Never outlives the process: what it keeps is gone with it.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use greenroom_core::{InstanceId, Timestamp};
use greenroom_wire::Text;
use greenroom_wire::backplane::Told;
use greenroom_wire::link::{MeshSend, MeshTold};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval};

use crate::Board;
use crate::way::{FromBackplane, ToBackplane, Way, WayEnd};

/// How often a board looks at the clock.
const TICK: Duration = Duration::from_millis(200);

/// Makes ways to one board.
#[derive(Debug, Clone)]
pub struct Memory {
    joins: UnboundedSender<(InstanceId, WayEnd)>,
}

impl Memory {
    /// A board and the work of serving it. The work ends once there is neither a way nor a `Memory` left.
    #[must_use = "nothing answers unless the work is done"]
    pub fn serve(board: Board) -> (Self, impl Future<Output = ()> + Send) {
        let (joins, joining) = unbounded_channel();
        (Self { joins }, Serving { board, nodes: Vec::new() }.run(joining))
    }

    /// A way for a node, open at once. Two ways of one name are two nodes that the board cannot tell apart.
    #[must_use]
    pub fn way(&self, node: InstanceId) -> Way {
        let (way, end) = Way::new();
        // Where nobody serves the board any more, the way is closed from the beginning.
        let _is_served = self.joins.send((node, end));
        way
    }
}

/// One way to a board of its own, and the work of serving it.
#[must_use = "nothing answers unless the work is done"]
pub fn memory(board: Board, node: InstanceId) -> (Way, impl Future<Output = ()> + Send) {
    let (memory, serving) = Memory::serve(board);
    (memory.way(node), serving)
}

struct Serving {
    board: Board,
    nodes: Vec<(InstanceId, WayEnd)>,
}

enum Event {
    Joined(InstanceId, WayEnd),
    Said(usize, ToBackplane),
    Gone(usize),
    Tick,
    Over,
}

impl Serving {
    async fn run(mut self, mut joining: UnboundedReceiver<(InstanceId, WayEnd)>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_joinable = true;
        loop {
            let event = poll_fn(|context| {
                if ticks.poll_tick(context).is_ready() {
                    return Poll::Ready(Event::Tick);
                }
                if is_joinable && let Poll::Ready(joined) = joining.poll_recv(context) {
                    match joined {
                        Some((node, end)) => return Poll::Ready(Event::Joined(node, end)),
                        None => is_joinable = false,
                    }
                }
                for (index, (_, end)) in self.nodes.iter_mut().enumerate() {
                    if let Poll::Ready(said) = end.to.poll_recv(context) {
                        return Poll::Ready(said.map_or(Event::Gone(index), |said| Event::Said(index, said)));
                    }
                }
                if is_joinable || !self.nodes.is_empty() { Poll::Pending } else { Poll::Ready(Event::Over) }
            });
            match event.await {
                Event::Joined(node, end) => {
                    self.tell(&end, FromBackplane::Up);
                    self.nodes.push((node, end));
                }
                Event::Said(index, said) => self.handle(index, said),
                Event::Gone(index) => {
                    let (node, _) = self.nodes.swap_remove(index);
                    let told = self.board.handle_gone(now(), node.as_str());
                    self.pass_on(told);
                }
                Event::Tick => {
                    let told = self.board.tick(now());
                    self.pass_on(told);
                }
                Event::Over => return,
            }
        }
    }

    fn handle(&mut self, index: usize, said: ToBackplane) {
        match said {
            ToBackplane::Command(command) => {
                let told = self.board.handle(now(), self.nodes[index].0.as_str(), command);
                self.pass_on(told);
            }
            ToBackplane::Mesh(send) => self.mesh(index, &send),
            ToBackplane::Publish(relay) => {
                for (_, end) in self.others(index) {
                    self.tell(end, FromBackplane::Deliver(relay.clone()));
                }
            }
        }
    }

    fn mesh(&self, index: usize, send: &MeshSend) {
        let (from, end) = &self.nodes[index];
        if let (None, Some(ask)) = (&send.to, send.ask) {
            let peers = self.others(index).map(|(peer, _)| Text(peer.clone())).collect();
            self.tell(end, FromBackplane::Asked { ask, peers });
        }
        for (peer, end) in self.others(index) {
            if send.to.as_ref().is_none_or(|to| to.0 == *peer) {
                let told =
                    MeshTold { from: Text(from.clone()), ask: send.ask, message: send.message.clone() };
                self.tell(end, FromBackplane::Mesh(told));
            }
        }
    }

    fn others(&self, index: usize) -> impl Iterator<Item = &(InstanceId, WayEnd)> {
        self.nodes.iter().enumerate().filter(move |(at, _)| *at != index).map(|(_, other)| other)
    }

    fn pass_on(&self, told: Vec<(String, Told)>) {
        for (node, told) in told {
            // The last to come under a name is the one that is there.
            if let Some((_, end)) = self.nodes.iter().rfind(|(name, _)| name.as_str() == node) {
                self.tell(end, FromBackplane::Told(told));
            }
        }
    }

    fn tell(&self, end: &WayEnd, told: FromBackplane) {
        end.from.tell(told);
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
