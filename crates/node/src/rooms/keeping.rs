//! How a room is kept beyond its process: its steps on their way to the backplane, and what may leave once they are there.
//!
//! Never lets anything of a `commit_first` room out before the step that it belongs to is kept. Steps that let nothing out
//! cost nothing, and what comes while steps are on their way goes as one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greenroom_room::Delivery;
use greenroom_wire::Text;
use greenroom_wire::backplane::Pid;
use greenroom_wire::kept::{KeptRoom, KeptSeat, RoomCommand};
use greenroom_wire::rooms::EndReason;

use super::{LiveRoom, Rooms};
use crate::state::NodeState;

/// Steps of one room on their way at once; what comes meanwhile goes as one.
const GIVEN_MAX: usize = 4;
/// Bytes that one room may hold back. Its clock stands still beyond that.
const HELD_BYTES_MAX: usize = 1 << 20;
/// What an effect weighs besides what it sends.
const EFFECT_BYTES: usize = 128;
/// What a step weighs besides its snapshot and its events.
const STEP_BYTES: usize = 256;
/// Bytes of a room's state: a message to the backplane has all of it.
const SNAPSHOT_BYTES_MAX: usize = 2 << 20;

/// Something that leaves the room.
type Effect = Box<dyn FnOnce(&Rc<NodeState>)>;

/// A step on its way.
pub(super) struct Given {
    seq: u64,
    effects: Vec<Effect>,
    /// Bytes that it holds back.
    bytes: usize,
    /// Bytes that are on their way.
    weight: usize,
}

/// Where a room stands in going over from one process to the next in order; see [`super::sealing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    None,
    /// The process before this one sealed it, and no step of this one is kept yet.
    Before,
    /// It stands still, and its last step is to be given.
    Due,
    /// That step was given last.
    Given,
}

pub(super) struct Keeping {
    delivery: Delivery,
    pub(super) seal: Cell<Seal>,
    /// The last step that was given.
    seq: Cell<u64>,
    /// The last one that is kept; 0: none.
    kept: Cell<u64>,
    /// The last event that was given.
    given_to: Cell<u64>,
    /// The next step is to be given with all events.
    is_whole_due: Cell<bool>,
    is_listed: Cell<bool>,
    pub(super) is_forgotten: Cell<bool>,
    held: RefCell<Vec<Effect>>,
    held_bytes: Cell<usize>,
    pub(super) given: RefCell<VecDeque<Given>>,
    given_bytes: Cell<usize>,
}

impl Keeping {
    /// Of a room whose last kept step is `seq`; 0 for a new one.
    pub(super) fn new(delivery: Delivery, seq: u64, seal: Seal) -> Self {
        Self {
            delivery,
            seal: Cell::new(seal),
            seq: Cell::new(seq),
            kept: Cell::new(seq),
            given_to: Cell::new(0),
            is_whole_due: Cell::new(true),
            is_listed: Cell::new(false),
            is_forgotten: Cell::new(false),
            held: RefCell::default(),
            held_bytes: Cell::new(0),
            given: RefCell::default(),
            given_bytes: Cell::new(0),
        }
    }

    /// Whether what it does leaves it once it is kept.
    fn commits(&self) -> bool {
        self.delivery == Delivery::CommitFirst || self.seal.get() == Seal::Before
    }

    /// Takes all effects that wait, in their order. No step is on its way any more.
    fn take_all(&self, rooms: Option<&Rooms>) -> Vec<Effect> {
        let given = self.given.take();
        if let Some(rooms) = rooms {
            rooms.steps_answered(given.iter().map(|given| given.weight).sum());
        }
        let given = given.into_iter().flat_map(|given| given.effects);
        let all = given.chain(self.held.take()).collect();
        self.held_bytes.set(0);
        self.given_bytes.set(0);
        all
    }
}

impl LiveRoom {
    fn commits(&self) -> Option<&Keeping> {
        self.keeping.as_ref().filter(|keeping| keeping.commits() && !keeping.is_forgotten.get())
    }

    /// Whether what the room does leaves it later.
    pub(crate) fn holds_back(&self) -> bool {
        self.commits().is_some()
    }

    /// Whether another process could go on with it.
    pub(super) fn is_kept(&self) -> bool {
        self.keeping.as_ref().is_some_and(|keeping| keeping.kept.get() > 0)
    }

    /// Whether it waits for the backplane and must not go further ahead of it.
    pub(super) fn is_choked(&self) -> bool {
        self.commits()
            .is_some_and(|keeping| keeping.held_bytes.get() + keeping.given_bytes.get() > HELD_BYTES_MAX)
    }

    /// Lets something out, of so many bytes: now, or when this step is kept.
    pub(crate) fn act(
        self: &Rc<Self>,
        state: &Rc<NodeState>,
        bytes: usize,
        effect: impl FnOnce(&Rc<NodeState>) + 'static,
    ) {
        let Some(keeping) = self.commits() else { return effect(state) };
        keeping.held.borrow_mut().push(Box::new(effect));
        keeping.held_bytes.set(keeping.held_bytes.get() + bytes + EFFECT_BYTES);
        self.list(state);
    }

    /// Who sits where is kept soon, whatever the delivery: nobody who is in is a stranger after a crash, and from then on
    /// nobody gets in with a used token alone.
    pub(super) fn seats_changed(self: &Rc<Self>, state: &Rc<NodeState>) {
        let Some(keeping) = &self.keeping else { return };
        match keeping.delivery {
            Delivery::CommitFirst => self.act(state, 0, |_| {}),
            Delivery::DeliverFirst => {
                keeping.is_whole_due.set(true);
                self.list(state);
            }
        }
    }

    /// Asks for a step at the end of the loop's turn.
    pub(super) fn list(self: &Rc<Self>, state: &NodeState) {
        if let (Some(keeping), Some(rooms)) = (&self.keeping, &state.rooms)
            && !keeping.is_listed.replace(true)
        {
            rooms.list(self);
        }
    }

    /// Gives the backplane what waits, as one step.
    pub(super) fn give(self: &Rc<Self>, state: &Rc<NodeState>) {
        let Some(keeping) = &self.keeping else { return };
        keeping.is_listed.set(false);
        let is_ready = state.recovery.as_ref().is_some_and(crate::recovery::Recovery::is_up)
            && keeping.given.borrow().len() < GIVEN_MAX
            && !keeping.is_forgotten.get();
        // The answer to a step before, or the way's return, asks for it again.
        let is_seal_due = keeping.seal.get() == Seal::Due;
        if !is_ready || (keeping.held.borrow().is_empty() && !keeping.is_whole_due.get() && !is_seal_due) {
            return;
        }
        let seq = keeping.seq.get() + 1;
        let Some(record) = self.record(seq) else { return self.crash(state) };
        let is_whole = keeping.is_whole_due.replace(false);
        let (head, floor) = (record.history.offset, self.history.floor());
        let (after, floor, events) = match (keeping.delivery, is_whole) {
            (Delivery::CommitFirst, false) => {
                (Some(seq - 1), floor, self.history.events_after(keeping.given_to.get()))
            }
            (Delivery::CommitFirst, true) => (None, floor, self.history.events_after(floor)),
            (Delivery::DeliverFirst, _) if record.sealed => (None, floor, self.history.events_after(floor)),
            // Whoever goes on with it begins another History.
            (Delivery::DeliverFirst, _) => (None, head, Vec::new()),
        };
        if is_seal_due {
            keeping.seal.set(Seal::Given);
        }
        keeping.given_to.set(head);
        keeping.seq.set(seq);
        let bytes = keeping.held_bytes.take();
        keeping.given_bytes.set(keeping.given_bytes.get() + bytes);
        let effects = keeping.held.take();
        let sent: usize = events.iter().map(|event| event.packet.len()).sum();
        let weight = record.snapshot.len() + sent + STEP_BYTES;
        keeping.given.borrow_mut().push_back(Given { seq, effects, bytes, weight });
        if let Some(rooms) = &state.rooms {
            rooms.step_given(weight);
            rooms.say(state, |server| RoomCommand::Keep {
                server,
                after,
                record: Box::new(record),
                floor,
                events,
            });
        }
    }

    /// The room is given as a whole soon: the backplane may know nothing of it, or not what it was told last.
    pub(super) fn list_whole(self: &Rc<Self>, state: &NodeState) {
        let Some(keeping) = &self.keeping else { return };
        let bytes = keeping.held_bytes.get() + keeping.given_bytes.get();
        let effects = keeping.take_all(state.rooms.as_ref());
        keeping.held.replace(effects);
        keeping.held_bytes.set(bytes);
        keeping.is_whole_due.set(true);
        if keeping.seal.get() == Seal::Given {
            keeping.seal.set(Seal::Due);
        }
        self.list(state);
    }

    /// A checkpoint of a room that does not wait for them.
    pub(super) fn list_checkpoint(self: &Rc<Self>, state: &NodeState) {
        let Some(keeping) = &self.keeping else { return };
        if keeping.delivery == Delivery::DeliverFirst && keeping.given.borrow().is_empty() {
            keeping.is_whole_due.set(true);
            self.list(state);
        }
    }

    /// All steps up to `seq` are kept: what they let out may leave.
    pub(super) fn handle_kept(self: &Rc<Self>, state: &Rc<NodeState>, seq: u64) {
        let Some(keeping) = &self.keeping else { return };
        if keeping.kept.replace(seq.max(keeping.kept.get())) == 0 {
            state.status_changed();
        }
        loop {
            let given = {
                let mut given = keeping.given.borrow_mut();
                if given.front().is_none_or(|first| first.seq > seq) { None } else { given.pop_front() }
            };
            let Some(given) = given else { break };
            keeping.given_bytes.set(keeping.given_bytes.get().saturating_sub(given.bytes));
            if let Some(rooms) = &state.rooms {
                rooms.steps_answered(given.weight);
            }
            given.effects.into_iter().for_each(|effect| effect(state));
        }
        if keeping.seal.get() == Seal::Before {
            // Nobody takes the sealed step any more for the last one that was seen.
            keeping.seal.set(Seal::None);
            if keeping.delivery == Delivery::DeliverFirst {
                return keeping.take_all(state.rooms.as_ref()).into_iter().for_each(|effect| effect(state));
            }
        }
        if !keeping.held.borrow().is_empty() || keeping.seal.get() == Seal::Due {
            self.list(state);
        }
    }

    /// There is no place for the room: it goes on as one that ends with its process.
    pub(super) fn handle_too_many(self: &Rc<Self>, state: &Rc<NodeState>) {
        tracing::error!(room = %self.id, "too many rooms are kept; this one ends with its process");
        self.let_go(state);
    }

    /// Lets all out that waits, and is not kept any more.
    pub(super) fn let_go(self: &Rc<Self>, state: &Rc<NodeState>) {
        let Some(keeping) = &self.keeping else { return };
        if keeping.is_forgotten.replace(true) {
            return;
        }
        keeping.kept.set(0);
        let room = Text(self.id.clone());
        if let Some(rooms) = &state.rooms {
            rooms.say(state, |server| RoomCommand::Forget { server, room });
        }
        keeping.take_all(state.rooms.as_ref()).into_iter().for_each(|effect| effect(state));
    }

    /// Another process has the room: nothing more leaves this one.
    pub(super) fn abandon(&self, state: &NodeState) {
        if let Some(keeping) = &self.keeping {
            keeping.is_forgotten.set(true);
            keeping.kept.set(0);
            drop(keeping.take_all(state.rooms.as_ref()));
        }
    }

    /// It cannot be written: what is not kept must not be told, and so it ends.
    fn crash(self: &Rc<Self>, state: &Rc<NodeState>) {
        state.counting.rooms_crashed_total.one();
        self.end(state, EndReason::Crashed);
        self.let_go(state);
    }

    /// The room as it is now. `None`: it cannot be written, a fault of the game.
    fn record(&self, seq: u64) -> Option<KeptRoom> {
        let snapshot = match self.snapshot()? {
            Ok(snapshot) if snapshot.len() <= SNAPSHOT_BYTES_MAX => snapshot,
            Ok(snapshot) => {
                let bytes = snapshot.len();
                tracing::error!(room = %self.id, bytes, max = SNAPSHOT_BYTES_MAX, "a room's state is too large to be kept");
                return None;
            }
            Err(error) => {
                tracing::error!(room = %self.id, %error, "a room cannot be kept");
                return None;
            }
        };
        let chairs = self.chairs.borrow();
        let seats = (0..).zip(chairs.iter()).filter_map(|(seat, chair)| {
            let chair = chair.as_ref()?;
            Some(KeptSeat {
                seat,
                player: Text(chair.player.clone()),
                jti: chair.jti.clone(),
                issued_at: chair.issued_at,
                pid: Pid::new(chair.pid.clone()),
                pid_before: chair.pid_before.clone().map(Pid::new),
                is_told: chair.is_told,
                socket: chair.socket_id.to_string(),
                seed: Text(chair.seed),
            })
        });
        Some(KeptRoom {
            room: Text(self.id.clone()),
            epoch: self.epoch,
            key: self.key.clone().map(Text),
            seq,
            snapshot: STANDARD.encode(snapshot),
            history: Text(self.history.position()),
            sealed: self.is_sealed(),
            seats: seats.collect(),
            used: self.used.borrow().clone(),
            ended: self.ended.get(),
        })
    }
}
