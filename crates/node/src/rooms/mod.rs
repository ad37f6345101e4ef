//! All rooms of this node: who may enter, which live, which have ended.
//! Never decides who plays: the token does.

mod door;
mod history;
mod live;
mod seat;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use greenroom_core::{FleetName, InstanceId, RoomId};
use greenroom_room::RoomKind;
use greenroom_wire::rooms::{EndReason, RoomReport};
use greenroom_wire::token::{PublicKeys, Verifier};
use tokio::time::Instant;

use crate::config::Membership;
use crate::handshake::Refusal;
use crate::state::NodeState;
pub(crate) use door::wall_clock;
pub(crate) use live::LiveRoom;
pub(crate) use seat::{Admission, Seated};

/// What becomes of a client that asks for a namespace.
pub(crate) enum Verdict {
    /// It is in; with a seat in a room server.
    Accept(Option<Admission>),
    /// It is told why not, and stops trying.
    Refuse(Refusal),
    /// It is not told: what stands against it will pass, and a stock client comes again after a transport close.
    HangUp,
}

/// A room that was.
struct Ended {
    epoch: u32,
    forget_at: Instant,
}

/// The rooms of a room server.
pub(crate) struct Rooms {
    kind: RoomKind,
    fleet: FleetName,
    instance: InstanceId,
    verifier: RefCell<Option<Verifier>>,
    live: RefCell<BTreeMap<RoomId, Rc<LiveRoom>>>,
    ended: RefCell<BTreeMap<RoomId, Ended>>,
    is_ending: Cell<bool>,
}

impl Rooms {
    pub(crate) fn new(kind: RoomKind, membership: &Membership) -> Self {
        Self {
            kind,
            fleet: membership.fleet.clone(),
            instance: membership.instance.clone(),
            verifier: RefCell::default(),
            live: RefCell::default(),
            ended: RefCell::default(),
            is_ending: Cell::new(false),
        }
    }

    /// Takes the keys that tokens are checked with. No keys at all: nothing is known yet.
    pub(crate) fn set_keys(&self, keys: &PublicKeys) {
        let verifier = (!keys.keys.is_empty()).then(|| Verifier::new(self.fleet.clone(), keys));
        self.verifier.replace(verifier);
    }

    pub(crate) fn count(&self) -> usize {
        self.live.borrow().len()
    }

    /// Every live room, for the agent.
    pub(crate) fn report(&self) -> Vec<RoomReport> {
        self.live.borrow().values().map(|room| room.report()).collect()
    }

    /// Closes a room that control does not want any more, if it has this epoch or an older one.
    pub(crate) fn close(&self, state: &Rc<NodeState>, room: &RoomId, epoch: u32, reason: EndReason) {
        let live = self.live.borrow().get(room).cloned();
        if let Some(live) = live.filter(|live| live.epoch <= epoch) {
            live.close(state, reason);
        }
    }

    /// Ends every room, and opens none any more.
    pub(crate) fn end_all(&self, state: &Rc<NodeState>, reason: EndReason) {
        self.is_ending.set(true);
        let live: Vec<_> = self.live.borrow().values().cloned().collect();
        for room in live {
            room.close(state, reason);
        }
    }

    /// Remembers that a room has ended, for as long as its tokens may come.
    fn bury(&self, state: &NodeState, room: &LiveRoom) {
        self.live.borrow_mut().remove(&room.id);
        let now = Instant::now();
        let mut ended = self.ended.borrow_mut();
        ended.retain(|_, tomb| tomb.forget_at > now);
        ended.insert(room.id.clone(), Ended { epoch: room.epoch, forget_at: now + state.config.room_memory });
    }
}
