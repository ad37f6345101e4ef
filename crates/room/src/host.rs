//! A room with its seats, timers, inbox and randomness: the value that a node ticks.
//! Never calls a room that has closed.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ctx::Life;
use crate::event::{DecodeError, decode};
use crate::{
    Ctx, Drain, Grace, HZ_MAX, HostedRoom, Occupant, Output, Player, Presence, Reject, Room, Seat,
    SnapshotError, Why,
};

/// Why a room could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The caller asked for a number of seats that this kind of room cannot have.
    #[error("a room of kind {kind} has 1 to {seats_max} seats, asked for {seats}")]
    Seats {
        /// [`Room::NAME`].
        kind: &'static str,
        /// [`Room::SEATS_MAX`].
        seats_max: u16,
        /// What was asked for.
        seats: u16,
    },
    /// The options do not fit the room's `Init`. The caller must mend them.
    #[error("the options of the {kind} room are wrong: {source}")]
    Init {
        /// [`Room::NAME`].
        kind: &'static str,
        /// What serde said.
        source: serde_json::Error,
    },
    /// The game refused the options.
    #[error(transparent)]
    Rejected(#[from] Reject),
}

/// Why a player was not seated.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token names a seat that this room does not have.
    #[error("the room has {seats} seats, there is no seat {seat}")]
    NoSuchSeat {
        /// What was asked for.
        seat: Seat,
        /// How many there are.
        seats: u16,
    },
    /// Somebody holds the seat. If it is the same player, call [`HostedRoom::resume`].
    #[error("seat {seat} is taken")]
    Taken {
        /// Which.
        seat: Seat,
    },
    /// The game refused the player.
    #[error(transparent)]
    Rejected(#[from] Reject),
    /// The room is over.
    #[error("the room is closed")]
    Closed,
}

/// Why a call about a seat did nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeatError {
    /// Nobody holds it (or there is no such seat): it was freed before.
    #[error("seat {seat} is free")]
    Free {
        /// Which.
        seat: Seat,
    },
    /// The room is over.
    #[error("the room is closed")]
    Closed,
}

/// Why an input was refused. The room is as before.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Nobody connected holds the seat.
    #[error("seat {seat} has no connected player")]
    NotConnected {
        /// Which.
        seat: Seat,
    },
    /// The event is not one the room knows, or has the wrong argument.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The seat has sent as much as a tick takes. Worth repeating after the next tick.
    #[error("seat {seat} has {inputs_max} inputs that wait for the next tick; send it later")]
    Full {
        /// Which.
        seat: Seat,
        /// [`Room::INBOX_MAX`].
        inputs_max: usize,
    },
    /// The room is over.
    #[error("the room is closed")]
    Closed,
}

/// A running room of the type `R`. See [`HostedRoom`] for what it does.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct RoomHost<R: Room> {
    room: R,
    ctx: Ctx<R>,
    inbox: VecDeque<Input<R>>,
    inputs_dropped_total: u64,
    empty_since_tick: u64,
    drain: Option<DrainPlan>,
}

/// An input that waits for the tick. The text is kept for the snapshot: `R::In` need not serialize.
#[derive(Serialize)]
struct Input<R: Room> {
    seat: Seat,
    event: String,
    argument: Option<String>,
    #[serde(skip)]
    decoded: R::In,
}

impl<'de, R: Room> Deserialize<'de> for Input<R> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Frozen {
            seat: Seat,
            event: String,
            argument: Option<String>,
        }
        let Frozen { seat, event, argument } = Frozen::deserialize(deserializer)?;
        let decoded = decode(&event, argument.as_deref()).map_err(serde::de::Error::custom)?;
        Ok(Self { seat, event, argument, decoded })
    }
}

/// The answer to a drain, and when the room closes by itself because of it.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum DrainPlan {
    Move,
    FinishWithin { secs: u16, close_at_tick: u64 },
    CloseNow,
}

impl<R: Room> RoomHost<R> {
    /// Makes a room with `seats` seats. `init` is the JSON text of `R::Init`; an empty text, `null` and `{}` all
    /// mean "no options". `seed` decides all its randomness.
    pub fn create(init: &str, seed: u64, seats: u16) -> Result<Self, CreateError> {
        const { assert!(R::HZ >= 1 && R::HZ <= HZ_MAX, "Room::HZ is 1 to 120") };
        const { assert!(R::NAME.len() <= 255, "Room::NAME has at most 255 bytes") };
        if seats == 0 || seats > R::SEATS_MAX {
            return Err(CreateError::Seats { kind: R::NAME, seats_max: R::SEATS_MAX, seats });
        }
        let init = match init.trim() {
            "" | "null" | "{}" => serde_json::from_str("{}").or_else(|_| serde_json::from_str("null")),
            text => serde_json::from_str(text),
        };
        let init = init.map_err(|source| CreateError::Init { kind: R::NAME, source })?;
        let mut ctx = Ctx::new(seed, seats);
        let room = R::create(&mut ctx, init)?;
        let inbox = VecDeque::new();
        let mut host = Self { room, ctx, inbox, inputs_dropped_total: 0, empty_since_tick: 0, drain: None };
        host.settle();
        Ok(host)
    }

    /// The game's own state, for tests and inspection.
    #[must_use]
    pub fn room(&self) -> &R {
        &self.room
    }

    fn check_taken(&self, seat: Seat) -> Result<(), SeatError> {
        match (self.is_closed(), self.ctx.occupant(seat)) {
            (true, _) => Err(SeatError::Closed),
            (false, None) => Err(SeatError::Free { seat }),
            (false, Some(_)) => Ok(()),
        }
    }

    fn set_presence(&mut self, seat: Seat, presence: Presence) {
        if let Some(Some(held)) = self.ctx.seats.get_mut(seat.index()) {
            held.presence = presence;
        }
    }

    /// Frees a taken seat. The room is told while the seat is still known by name, then it is empty.
    fn free(&mut self, seat: Seat, why: Why) {
        self.room.left(&mut self.ctx, seat, why);
        self.ctx.seats[seat.index()] = None;
        self.inbox.retain(|input| input.seat != seat);
        self.ctx.outputs.push(Output::Left { seat, why });
        self.empty_since_tick = self.ctx.tick;
    }

    /// Does what the room asked for in the call that just ended: kicks, then the end.
    fn settle(&mut self) {
        while !self.ctx.kicks.is_empty() {
            for seat in std::mem::take(&mut self.ctx.kicks) {
                if self.ctx.occupant(seat).is_some() {
                    self.free(seat, Why::Kicked);
                }
            }
        }
        if self.ctx.life == Life::Closing {
            self.ctx.life = Life::Closed;
            self.inbox.clear();
            self.ctx.timers.clear();
            self.ctx.outputs.push(Output::Closed);
        }
    }

    /// Keeps the seat of a player who is away for so many seconds more.
    fn keep_seat(&mut self, seat: Seat, secs: u64) {
        let until_tick = self.ctx.tick.saturating_add(secs.saturating_mul(u64::from(R::HZ)));
        self.set_presence(seat, Presence::Dropped { until_tick });
    }

    fn expire_graces(&mut self) {
        let over = |held: &Occupant| match held.presence {
            Presence::Connected => false,
            Presence::Dropped { until_tick } => until_tick <= self.ctx.tick,
        };
        let expired: Vec<Seat> =
            self.ctx.taken().filter(|(_, held)| over(held)).map(|(seat, _)| seat).collect();
        for seat in expired {
            // An earlier one's `left` may have kicked this seat already.
            if self.check_taken(seat).is_ok() {
                self.free(seat, Why::GraceOver);
                self.settle();
            }
        }
    }

    fn fire_timers(&mut self) {
        while let Some(due) = self.ctx.timers.first_entry().filter(|due| due.key().0 <= self.ctx.tick) {
            let timer = due.remove();
            self.room.timer(&mut self.ctx, timer);
            self.settle();
        }
    }

    fn deliver_inputs(&mut self) {
        while let Some(input) = self.inbox.pop_front() {
            self.room.message(&mut self.ctx, input.seat, input.decoded);
            self.settle();
        }
    }
}

impl<R: Room> HostedRoom for RoomHost<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn hz(&self) -> u16 {
        R::HZ
    }

    fn tick_number(&self) -> u64 {
        self.ctx.tick
    }

    fn seats(&self) -> &[Option<Occupant>] {
        &self.ctx.seats
    }

    fn join(&mut self, seat: Seat, player: Player) -> Result<(), JoinError> {
        if self.is_closed() {
            return Err(JoinError::Closed);
        }
        let seats = self.ctx.seats();
        let Some(held) = self.ctx.seats.get_mut(seat.index()) else {
            return Err(JoinError::NoSuchSeat { seat, seats });
        };
        if held.is_some() {
            return Err(JoinError::Taken { seat });
        }
        *held = Some(Occupant { player: player.clone(), presence: Presence::Connected });
        if let Err(reject) = self.room.join(&mut self.ctx, seat, &player) {
            self.ctx.seats[seat.index()] = None;
            self.settle();
            return Err(reject.into());
        }
        self.settle();
        Ok(())
    }

    fn drop_seat(&mut self, seat: Seat, session: Duration) -> Result<(), SeatError> {
        self.check_taken(seat)?;
        if !self.ctx.is_connected(seat) {
            return Ok(());
        }
        self.set_presence(seat, Presence::Dropped { until_tick: u64::MAX });
        match self.room.dropped(&mut self.ctx, seat) {
            Grace::None => self.free(seat, Why::GraceOver),
            Grace::Session => self.keep_seat(seat, session.as_secs()),
            Grace::Secs(secs) => self.keep_seat(seat, u64::from(secs)),
            Grace::Forever => {}
        }
        self.settle();
        Ok(())
    }

    fn resume(&mut self, seat: Seat) -> Result<(), SeatError> {
        self.check_taken(seat)?;
        self.set_presence(seat, Presence::Connected);
        self.room.resumed(&mut self.ctx, seat);
        self.settle();
        Ok(())
    }

    fn leave(&mut self, seat: Seat, why: Why) -> Result<(), SeatError> {
        self.check_taken(seat)?;
        self.free(seat, why);
        self.settle();
        Ok(())
    }

    fn handle(&mut self, seat: Seat, event: &str, argument: Option<&str>) -> Result<(), InputError> {
        if self.is_closed() {
            return Err(InputError::Closed);
        }
        if !self.ctx.is_connected(seat) {
            return Err(InputError::NotConnected { seat });
        }
        let decoded = decode(event, argument)?;
        // Never one that was taken before: its sender may have been told so.
        if self.inbox.iter().filter(|input| input.seat == seat).count() >= R::INBOX_MAX {
            self.inputs_dropped_total += 1;
            return Err(InputError::Full { seat, inputs_max: R::INBOX_MAX });
        }
        let (event, argument) = (event.to_owned(), argument.map(str::to_owned));
        self.inbox.push_back(Input { seat, event, argument, decoded });
        Ok(())
    }

    fn tick(&mut self) {
        if self.is_closed() {
            return;
        }
        self.ctx.tick += 1;
        self.expire_graces();
        self.fire_timers();
        self.deliver_inputs();
        if !self.is_closed() {
            self.room.tick(&mut self.ctx);
            self.settle();
        }
        if let Some(DrainPlan::FinishWithin { close_at_tick, .. }) = self.drain
            && close_at_tick <= self.ctx.tick
        {
            self.close();
        }
    }

    fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.ctx.outputs)
    }

    fn drain(&mut self) -> Drain {
        let plan = match self.drain {
            Some(plan) => plan,
            None if self.is_closed() => DrainPlan::CloseNow,
            None => match self.room.drain(&mut self.ctx) {
                Drain::Move => DrainPlan::Move,
                Drain::FinishWithin { secs } => {
                    let close_at_tick = self.ctx.tick + u64::from(secs) * u64::from(R::HZ);
                    DrainPlan::FinishWithin { secs, close_at_tick }
                }
                Drain::CloseNow => DrainPlan::CloseNow,
            },
        };
        self.drain = Some(plan);
        self.settle();
        match plan {
            DrainPlan::Move => Drain::Move,
            DrainPlan::FinishWithin { secs, .. } => Drain::FinishWithin { secs },
            DrainPlan::CloseNow => {
                self.close();
                Drain::CloseNow
            }
        }
    }

    fn close(&mut self) {
        if !self.is_closed() {
            self.ctx.close();
            self.settle();
        }
    }

    fn result(&self) -> Option<&str> {
        self.ctx.result.as_deref()
    }

    fn is_closed(&self) -> bool {
        self.ctx.life != Life::Open
    }

    fn empty_ticks(&self) -> u64 {
        match self.ctx.taken().next() {
            Some(_) => 0,
            None => self.ctx.tick - self.empty_since_tick,
        }
    }

    fn inputs_dropped_total(&self) -> u64 {
        self.inputs_dropped_total
    }

    fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        crate::snapshot::write::<R, _>(self)
    }
}
