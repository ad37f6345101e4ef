//! The rooms of this server that outlive its processes: claimed from the backplane, taken up where they were, given to it.
//!
//! Never opens the door of a room that has not been taken up yet: whoever comes for it is sent to come again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greenroom_core::{InstanceId, RoomId, ServerName};
use greenroom_room::{Delivery, HostedRoom, Presence, Seat};
use greenroom_wire::Text;
use greenroom_wire::backplane::{Command, RETAINED_BESIDES};
use greenroom_wire::kept::{KeptRoom, RoomCommand, RoomEvent, RoomTold};
use greenroom_wire::rooms::{EndReason, RoomEnded};

use super::history::RoomHistory;
use super::keeping::{Keeping, Seal};
use super::live::run_ticks;
use super::seat::session_kept;
use super::{LiveRoom, Rooms};
use crate::state::NodeState;

/// Bytes of steps on their way, of all rooms together; more wait, so that a node whose rooms are all due, because its store
/// came back empty, say, floods nobody.
const GIVEN_BYTES_MAX: usize = 8 << 20;

/// The server that a process is one of, and which one of it.
pub(super) fn process_of(instance: &InstanceId) -> Option<(ServerName, u64)> {
    let (server, number) = instance.as_str().rsplit_once('.')?;
    Some((server.parse().ok()?, number.parse().ok()?))
}

/// Why a kept room cannot go on.
#[derive(Debug, thiserror::Error)]
enum TakeUpError {
    #[error("its state is no base64: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error(transparent)]
    Restore(#[from] greenroom_room::RestoreError),
    #[error("the game panicked over its state")]
    Panicked,
}

impl Rooms {
    /// Whether rooms of a process before this one may still come.
    pub(crate) fn awaits(&self) -> bool {
        self.delivery.is_some() && !self.is_held.get()
    }

    /// Whether a room may go on in another process.
    pub(crate) const fn keeps(&self) -> bool {
        self.delivery.is_some()
    }

    /// Whether a token for another process is as good as one for this: it is of a process before this one, and the room
    /// has come over. `None`: that will be known soon.
    pub(super) fn has_come_over(&self, instance: &InstanceId, room: &RoomId, epoch: u32) -> Option<bool> {
        let own = process_of(&self.instance);
        let is_before = self.delivery.is_some()
            && process_of(instance).zip(own).is_some_and(|(of, own)| of.0 == own.0 && of.1 < own.1);
        let is_live = self.live.borrow().get(room).is_some_and(|room| room.epoch == epoch);
        let is_there = is_live || self.ended.borrow().contains_key(room);
        if is_before && !is_there && self.awaits() { None } else { Some(is_before && is_there) }
    }

    /// How a room that opens now is kept.
    pub(super) fn keeping(&self) -> Option<Keeping> {
        self.delivery.map(|delivery| Keeping::new(delivery, 0, Seal::None))
    }

    pub(super) fn say(&self, state: &NodeState, command: impl FnOnce(Text<ServerName>) -> RoomCommand) {
        if let (Some(recovery), Some((server, _))) = (&state.recovery, process_of(&self.instance)) {
            recovery.send(state, Command::Room(command(Text(server))));
        }
    }

    pub(super) fn list(&self, room: &Rc<LiveRoom>) {
        self.listed.borrow_mut().push_back(Rc::clone(room));
        self.work.notify_one();
    }

    /// A step of so many bytes is on its way.
    pub(super) fn step_given(&self, bytes: usize) {
        self.given_bytes.set(self.given_bytes.get() + bytes);
    }

    /// Steps of so many bytes are on their way no more: others may go.
    pub(super) fn steps_answered(&self, bytes: usize) {
        self.given_bytes.set(self.given_bytes.get().saturating_sub(bytes));
        if !self.listed.borrow().is_empty() {
            self.work.notify_one();
        }
    }

    /// Gives what is listed, in the order of the asking, as far as the way may be laden.
    fn give_listed(&self, state: &Rc<NodeState>) {
        // Whoever is listed meanwhile has its turn in the next round.
        let listed = self.listed.borrow().len();
        for _ in 0..listed {
            if self.given_bytes.get() >= GIVEN_BYTES_MAX {
                return;
            }
            let next = self.listed.borrow_mut().pop_front();
            if let Some(room) = next {
                room.give(state);
            }
        }
    }

    fn kept(&self) -> Vec<Rc<LiveRoom>> {
        self.live.borrow().values().chain(self.ending.borrow().values()).cloned().collect()
    }

    fn kept_room(&self, id: &RoomId) -> Option<Rc<LiveRoom>> {
        let live = self.live.borrow().get(id).cloned();
        live.or_else(|| self.ending.borrow().get(id).cloned())
    }

    /// The way to the backplane is there: it is told who has the rooms, and all of them.
    pub(crate) fn handle_up(&self, state: &Rc<NodeState>) {
        if self.delivery.is_none() {
            return;
        }
        let window = state.config.recovery.as_ref().map_or(Duration::ZERO, |recovery| recovery.window);
        let kept_ms = u64::try_from((window + RETAINED_BESIDES).as_millis()).unwrap_or(u64::MAX);
        let is_again = self.is_held.get();
        self.say(state, |server| RoomCommand::Hold { server, is_again, kept_ms });
        self.list_all(state);
    }

    /// All rooms are given anew, also those in which nothing happens: the backplane may know nothing of them.
    fn list_all(&self, state: &NodeState) {
        for room in self.kept() {
            room.list_whole(state);
        }
    }

    /// Takes in what the backplane says of rooms.
    pub(crate) fn handle_told(&self, state: &Rc<NodeState>, told: RoomTold) {
        match told {
            RoomTold::Held { record, events } => self.take_up(state, *record, &events),
            RoomTold::AllHeld => {
                self.is_held.set(true);
                state.status_changed();
            }
            RoomTold::Kept { room, seq } => {
                if let Some(room) = self.kept_room(&room.0) {
                    room.handle_kept(state, seq);
                }
            }
            RoomTold::Wanted { room } => {
                if let Some(room) = self.kept_room(&room.0) {
                    room.list_whole(state);
                }
            }
            RoomTold::Anew => {
                let rooms = self.kept().len();
                tracing::warn!(rooms, "what was kept of the rooms is gone; they are given anew");
                self.list_all(state);
            }
            RoomTold::TooMany { room } => {
                if let Some(room) = self.kept_room(&room.0) {
                    room.handle_too_many(state);
                }
            }
            RoomTold::Lost => {
                tracing::warn!("another process has the rooms of this server");
                for room in self.kept() {
                    room.abandon(state);
                    room.close(state, EndReason::Superseded);
                }
            }
        }
    }

    /// Goes on with a room of a process before this one.
    fn take_up(&self, state: &Rc<NodeState>, record: KeptRoom, events: &[RoomEvent]) {
        let (Some(delivery), id) = (self.delivery, record.room.0.clone()) else { return };
        // One that ends leaves it to the next one.
        let is_known = self.kept_room(&id).is_some() || self.ended.borrow().contains_key(&id);
        if is_known || self.is_ending.get() {
            return;
        }
        let host = match self.thaw(&record) {
            Ok(host) => host,
            Err(error) => {
                state.counting.rooms_crashed_total.one();
                tracing::error!(room = %id, %error, "a kept room cannot go on");
                self.say(state, |server| RoomCommand::Forget { server, room: Text(id.clone()) });
                let (reason, result) = (EndReason::Crashed, serde_json::Value::Null);
                if let Some(link) = &state.link {
                    link.room_ended(RoomEnded { room: Text(id), epoch: record.epoch, reason, result });
                }
                return;
            }
        };
        let history = match delivery {
            Delivery::DeliverFirst if !record.sealed => RoomHistory::new(),
            Delivery::CommitFirst | Delivery::DeliverFirst => {
                RoomHistory::restored(state, record.history.0, events)
            }
        };
        let seal = if record.sealed { Seal::Before } else { Seal::None };
        let connected: Vec<Seat> = (0..)
            .map(Seat)
            .zip(host.seats())
            .filter(|(_, held)| held.as_ref().is_some_and(|held| held.presence == Presence::Connected))
            .map(|(seat, _)| seat)
            .collect();
        let (ended, seq) = (record.ended, record.seq);
        let room = LiveRoom::taken_up(record, host, history, Keeping::new(delivery, seq, seal));
        state.counting.rooms_taken_up_total.one();
        tracing::info!(room = %id, ?delivery, "room taken up from the process before this one");
        self.live.borrow_mut().insert(id, Rc::clone(&room));
        if let Some(reason) = ended {
            // Its result was not delivered for sure.
            return room.end(state, reason);
        }
        crate::node::NodeHandle(Rc::clone(state)).spawn(run_ticks(Rc::clone(state), Rc::clone(&room)));
        for seat in connected {
            // Nobody is connected to this process yet.
            room.call(state, |host| host.drop_seat(seat, session_kept(state)));
        }
        room.settle(state);
        room.list(state);
        state.status_changed();
    }

    fn thaw(&self, record: &KeptRoom) -> Result<Box<dyn HostedRoom>, TakeUpError> {
        let bytes = STANDARD.decode(&record.snapshot)?;
        let thawed = catch_unwind(AssertUnwindSafe(|| self.kind.restore(&bytes)));
        Ok(thawed.map_err(|_| TakeUpError::Panicked)??)
    }

    /// Control has the result of a room: nobody needs to go on with it.
    pub(crate) fn delivered(&self, state: &Rc<NodeState>, room: &RoomId, epoch: u32) {
        let ending = self.ending.borrow().get(room).cloned();
        if let Some(ended) = ending.filter(|ended| ended.epoch == epoch) {
            self.ending.borrow_mut().remove(room);
            ended.let_go(state);
        }
    }
}

/// Gives steps to the backplane, for ever: those of one turn of the loop together, and checkpoints when they are due.
pub(crate) async fn run(state: Rc<NodeState>) {
    let (Some(rooms), Some(recovery)) = (&state.rooms, &state.config.recovery) else { return };
    let mut checkpoints = tokio::time::interval(recovery.checkpoint_every);
    checkpoints.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let is_checkpoint = tokio::select! {
            () = rooms.work.notified() => false,
            _ = checkpoints.tick() => true,
        };
        // What others do in this turn goes with it.
        tokio::task::yield_now().await;
        if is_checkpoint {
            for room in rooms.kept() {
                room.list_checkpoint(&state);
            }
        }
        rooms.give_listed(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_names_its_server_and_its_turn() {
        let of =
            |text: &str| process_of(&text.parse().unwrap()).map(|(server, turn)| (server.to_string(), turn));
        assert_eq!(of("arena-a1b2c.12"), Some(("arena-a1b2c".to_owned(), 12)));
        for text in ["arena-a1b2c", "node-AbC.1", "arena.x", ".1"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
