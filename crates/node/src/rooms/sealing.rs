//! The end of a process in order, as its rooms see it: they end with it, or they wait for the next one.
//!
//! Which of both it is, only the agent knows: the same SIGTERM comes before a restart (by control, by an operator, or by
//! somebody's `kill`, after which the agent starts the server again) and before a stop for good (scale-in, drain, rollout,
//! the agent's own end). So the process asks on its link, and the answer cannot be overtaken, because the agent notes what
//! it wants before it signals.
//!
//! Where another process comes, each room is sealed: its clock stands still, nothing is let in, and one last step is given
//! that has its whole History too. Nothing leaves after it, so that also a room of `deliver_first` goes on without a gap.
//! The next process holds what it would send back until a step of its own is kept over the sealed one: whoever takes the
//! rooms after it, by a crash, must not take the sealed step for the last one that was seen.
//!
//! Never waits for longer than the process may take to end: a seal that is not kept in time is as good as none, and the
//! room goes on as after a crash.

use std::rc::Rc;
use std::time::Duration;

use greenroom_wire::link::Successor;
use greenroom_wire::rooms::EndReason;

use super::keeping::Seal;
use super::{LiveRoom, Rooms};
use crate::state::NodeState;

/// How often it is looked whether all seals are kept.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Rooms {
    /// Ends the rooms' part of this process. None opens any more.
    pub(crate) async fn end(&self, state: &Rc<NodeState>) {
        self.is_ending.set(true);
        match self.successor(state).await {
            Successor::Nobody => self.end_all(state, EndReason::Stopped),
            Successor::Process => self.seal_all(state).await,
        }
    }

    /// What comes after this process, as far as rooms are concerned.
    async fn successor(&self, state: &NodeState) -> Successor {
        let Some(link) = state.link.as_ref().filter(|_| self.delivery.is_some()) else {
            return Successor::Nobody;
        };
        match link.successor().await {
            Some(successor) => successor,
            // An agent that is away starts again what it misses when it is back; in a store the rooms are there by then.
            None if state.peers.are_by_store() && !state.peers.is_store_down() => Successor::Process,
            None => Successor::Nobody,
        }
    }

    async fn seal_all(&self, state: &Rc<NodeState>) {
        let live: Vec<Rc<LiveRoom>> = self.live.borrow().values().cloned().collect();
        for room in &live {
            room.seal(state);
        }
        let kept = async {
            while live.iter().any(|room| room.is_being_sealed()) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let is_kept = tokio::time::timeout(state.config.flush_timeout, kept).await.is_ok();
        if is_kept {
            tracing::info!(rooms = live.len(), "rooms wait for the next process");
        } else {
            tracing::warn!("not all rooms were kept in time; they go on as after a crash");
        }
    }
}

impl LiveRoom {
    /// Stands still from now on, and is given once more as it is.
    fn seal(self: &Rc<Self>, state: &Rc<NodeState>) {
        match self.keeping.as_ref().filter(|keeping| !keeping.is_forgotten.get()) {
            Some(keeping) => {
                keeping.seal.set(Seal::Due);
                self.list(state);
            }
            // Nobody can go on with it.
            None => self.close(state, EndReason::Stopped),
        }
    }

    /// Whether it stands still for the next process.
    pub(super) fn is_sealed(&self) -> bool {
        self.keeping.as_ref().is_some_and(|keeping| match keeping.seal.get() {
            Seal::None | Seal::Before => false,
            Seal::Due | Seal::Given => true,
        })
    }

    /// Whether its last step is still on its way.
    fn is_being_sealed(&self) -> bool {
        self.keeping.as_ref().is_some_and(|keeping| {
            let is_out = keeping.seal.get() == Seal::Given && keeping.given.borrow().is_empty();
            self.is_sealed() && !is_out && !keeping.is_forgotten.get()
        })
    }
}
