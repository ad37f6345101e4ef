//! All rooms of this node: who may enter, which live, which have ended.
//! Never decides who plays: the token does.

mod door;
mod history;
mod holding;
mod keeping;
mod live;
mod sealing;
mod seat;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use greenroom_core::{FleetName, InstanceId, RoomId};
use greenroom_room::{Delivery, RoomKind};
use greenroom_wire::rooms::{EndReason, RoomReport};
use greenroom_wire::token::{PublicKeys, Verifier};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Membership;
use crate::handshake::Refusal;
use crate::state::NodeState;
pub(crate) use door::wall_clock;
pub(crate) use holding::run;
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
    /// How rooms are kept beyond this process. None: they end with it.
    delivery: Option<Delivery>,
    /// The backplane has told of all rooms that were there before this process.
    is_held: Cell<bool>,
    /// Rooms that are over and whose results are on their way.
    ending: RefCell<BTreeMap<RoomId, Rc<LiveRoom>>>,
    /// Rooms with a step to be given.
    listed: RefCell<VecDeque<Rc<LiveRoom>>>,
    /// Bytes of steps that are on their way.
    given_bytes: Cell<usize>,
    work: Notify,
}

impl Rooms {
    /// `outlives`: there is something beyond this process that can keep them, and it may choose when players see what is
    /// sent.
    pub(crate) fn new(kind: RoomKind, membership: &Membership, outlives: Option<Option<Delivery>>) -> Self {
        let is_named = holding::process_of(&membership.instance).is_some();
        Self {
            fleet: membership.fleet.clone(),
            instance: membership.instance.clone(),
            verifier: RefCell::default(),
            live: RefCell::default(),
            ended: RefCell::default(),
            is_ending: Cell::new(false),
            delivery: outlives.filter(|_| is_named).map(|chosen| chosen.unwrap_or(kind.delivery)),
            is_held: Cell::new(false),
            ending: RefCell::default(),
            listed: RefCell::default(),
            given_bytes: Cell::new(0),
            work: Notify::new(),
            kind,
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

    /// Ends every room.
    fn end_all(&self, state: &Rc<NodeState>, reason: EndReason) {
        let live: Vec<_> = self.live.borrow().values().cloned().collect();
        for room in live {
            room.close(state, reason);
        }
    }

    /// Remembers that a room has ended, for as long as its tokens may come.
    fn bury(&self, state: &NodeState, room: &Rc<LiveRoom>) {
        let live = self.live.borrow_mut().remove(&room.id);
        if let Some(live) = live.filter(|live| live.holds_back()) {
            self.ending.borrow_mut().insert(live.id.clone(), live);
        }
        let now = Instant::now();
        let mut ended = self.ended.borrow_mut();
        ended.retain(|_, tomb| tomb.forget_at > now);
        ended.insert(room.id.clone(), Ended { epoch: room.epoch, forget_at: now + state.config.room_memory });
    }
}
