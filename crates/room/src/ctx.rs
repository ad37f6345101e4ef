//! What a room may touch of the world: randomness, time in ticks, sending, timers, its own end.
//! Never delivers anything: it only writes down what the host hands out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::encode;
use crate::{Occupant, Player, Presence, Rng, Room, Seat};

/// To whom an event goes. Seats that are empty or dropped get nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum To {
    /// Every connected seat.
    All,
    /// This seat alone.
    Only(Seat),
    /// Every connected seat but this.
    Except(Seat),
}

/// What a room wants done, in order. Taken by [`HostedRoom::take_outputs`](crate::HostedRoom::take_outputs).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Deliver an event.
    Send {
        /// To whom.
        to: To,
        /// Name of the Socket.IO event.
        event: String,
        /// The event's only argument as JSON text, encoded once for all receivers; absent for an event
        /// without argument.
        payload: Option<String>,
    },
    /// The seat is free: disconnect whoever holds it, after what was sent before.
    Left {
        /// Which.
        seat: Seat,
        /// Why, for the player and the log.
        why: crate::Why,
    },
    /// The room's result is settled. Comes at most once in a room's life.
    Finished {
        /// The result as JSON text, for the back end.
        result: String,
    },
    /// The room is over; nothing comes after. Every seat is to be disconnected.
    Closed,
}

/// Names a timer until it fires. Never used twice in one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TimerId(u64);

/// Whether the room goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Life {
    Open,
    /// The room has asked for its end; the call that did so has not returned.
    Closing,
    Closed,
}

/// A room's only door to the world. Lives beside the room in its host and in its snapshot.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Ctx<R: Room> {
    pub(crate) tick: u64,
    pub(crate) rng: Rng,
    pub(crate) seats: Vec<Option<Occupant>>,
    pub(crate) timers: BTreeMap<(u64, TimerId), R::Timer>,
    next_timer: u64,
    pub(crate) outputs: Vec<Output>,
    pub(crate) kicks: Vec<Seat>,
    pub(crate) result: Option<String>,
    pub(crate) life: Life,
}

impl<R: Room> Ctx<R> {
    pub(crate) fn new(seed: u64, seats: u16) -> Self {
        Self {
            tick: 0,
            rng: Rng::seeded(seed),
            seats: vec![None; usize::from(seats)],
            timers: BTreeMap::new(),
            next_timer: 0,
            outputs: Vec::new(),
            kicks: Vec::new(),
            result: None,
            life: Life::Open,
        }
    }

    /// Number of the current tick: 0 before the first, then 1, 2, ... This is the room's clock.
    #[must_use]
    pub fn tick(&self) -> u64 {
        self.tick
    }

    /// The room's time between two ticks, whatever the real clock does.
    #[must_use]
    pub fn dt(&self) -> Duration {
        Duration::from_secs(1) / u32::from(R::HZ)
    }

    /// How many ticks cover this many milliseconds, rounded up.
    #[must_use]
    pub fn ticks(&self, ms: u64) -> u64 {
        ms.saturating_mul(u64::from(R::HZ)).div_ceil(1000)
    }

    /// The room's randomness, seeded at its creation.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// How many seats the room has, taken or not.
    #[must_use]
    pub fn seats(&self) -> u16 {
        u16::try_from(self.seats.len()).expect("made from a u16")
    }

    /// The taken seats in order, dropped ones included.
    pub fn taken(&self) -> impl Iterator<Item = (Seat, &Occupant)> {
        (0..).map(Seat).zip(&self.seats).filter_map(|(seat, held)| Some((seat, held.as_ref()?)))
    }

    /// Who holds a seat; `None` for a free or unknown one.
    #[must_use]
    pub fn player(&self, seat: Seat) -> Option<&Player> {
        Some(&self.occupant(seat)?.player)
    }

    /// Whether a seat's player is connected now.
    #[must_use]
    pub fn is_connected(&self, seat: Seat) -> bool {
        self.occupant(seat).is_some_and(|held| held.presence == Presence::Connected)
    }

    /// Sends an event. It leaves when the host's owner takes the outputs, after this call of the room.
    ///
    /// # Panics
    /// When `event` has no form as an event, which is a fault of the room's types: see [`encode`].
    pub fn send(&mut self, to: To, event: &R::Out) {
        let (event, payload) = encode(event).expect("`Out` is an enum that has a JSON form");
        self.outputs.push(Output::Send { to, event, payload });
    }

    /// Calls [`Room::timer`] after this many ticks, at least one. Timers of one tick fire in the order they
    /// were set. Survives a snapshot.
    pub fn after(&mut self, ticks: u64, timer: R::Timer) -> TimerId {
        let id = TimerId(self.next_timer);
        self.next_timer += 1;
        self.timers.insert((self.tick.saturating_add(ticks.max(1)), id), timer);
        id
    }

    /// Forgets a timer. Harmless when it has fired or was cancelled before.
    pub fn cancel(&mut self, timer: TimerId) {
        self.timers.retain(|(_, id), _| *id != timer);
    }

    /// Takes a player's seat away once this call of the room returns. Harmless for a free seat.
    pub fn kick(&mut self, seat: Seat) {
        self.kicks.push(seat);
    }

    /// Settles the room's result, which the back end gets. The first call counts, later ones are ignored. The
    /// room goes on until [`Ctx::close`], so that players can look at the score.
    ///
    /// # Panics
    /// When the result has no JSON form, which is a fault of its type.
    pub fn finish(&mut self, result: &impl Serialize) {
        if self.result.is_none() {
            let result = serde_json::to_string(result).expect("a result has a JSON form");
            self.outputs.push(Output::Finished { result: result.clone() });
            self.result = Some(result);
        }
    }

    /// Whether [`Ctx::finish`] was called.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.result.is_some()
    }

    /// Ends the room once this call of it returns: it is never called again. Repeated calls change nothing.
    pub fn close(&mut self) {
        if self.life == Life::Open {
            self.life = Life::Closing;
        }
    }

    pub(crate) fn occupant(&self, seat: Seat) -> Option<&Occupant> {
        self.seats.get(seat.index())?.as_ref()
    }
}
