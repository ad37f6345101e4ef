//! A room of any kind, so that a node holds many kinds in one table. Never knows a room's own types.

use std::fmt;
use std::time::Duration;

use crate::{
    CreateError, Delivery, Drain, InputError, JoinError, Occupant, Output, Player, RestoreError, Room,
    RoomHost, Seat, SeatError, SnapshotError, Why,
};

/// A room that runs, whatever its type. Deterministic: the same calls give the same outputs. If a call panics,
/// the game has a fault; drop the value, nothing else is disturbed.
pub trait HostedRoom: Send {
    /// [`Room::NAME`].
    fn name(&self) -> &'static str;

    /// [`Room::HZ`]: how often a second [`tick`](Self::tick) is to be called.
    fn hz(&self) -> u16;

    /// Ticks so far.
    fn tick_number(&self) -> u64;

    /// Every seat by number; `None` is free.
    fn seats(&self) -> &[Option<Occupant>];

    /// Seats a player. What the room sends to the seat meanwhile is among the next outputs.
    fn join(&mut self, seat: Seat, player: Player) -> Result<(), JoinError>;

    /// The seat's transport was lost: the room says how long it is kept. `session` is how long the player's session is
    /// ([`Grace::Session`](crate::Grace::Session)), in whole seconds. A repeated call changes nothing.
    fn drop_seat(&mut self, seat: Seat, session: Duration) -> Result<(), SeatError>;

    /// The seat's player is connected again, or on a second connection that takes the seat over. The room sends
    /// what they need to go on; a repeated call sends it again.
    fn resume(&mut self, seat: Seat) -> Result<(), SeatError>;

    /// Frees a seat for good. The outputs end with [`Output::Left`].
    fn leave(&mut self, seat: Seat, why: Why) -> Result<(), SeatError>;

    /// Takes an event of a connected seat in, for the next tick. `argument` is the event's only argument as
    /// JSON text. On an error the input is refused and the room is as before.
    fn handle(&mut self, seat: Seat, event: &str, argument: Option<&str>) -> Result<(), InputError>;

    /// One step: graces that are over, timers, inputs, then the room's own tick. Nothing once closed.
    fn tick(&mut self);

    /// What the room wants done since the last call, in order. Empty when called again.
    fn take_outputs(&mut self) -> Vec<Output>;

    /// Tells the room that its process wants to stop, once; later calls repeat the first answer. After
    /// [`Drain::FinishWithin`] and [`Drain::CloseNow`] the room closes by itself.
    fn drain(&mut self) -> Drain;

    /// Closes the room from outside. The outputs end with [`Output::Closed`]. Repeated calls change nothing.
    fn close(&mut self);

    /// The result as JSON text, once the room has settled it.
    fn result(&self) -> Option<&str>;

    /// Whether the result is settled. The room may go on for a while.
    fn is_finished(&self) -> bool {
        self.result().is_some()
    }

    /// Whether the room is over: drop the value after taking the last outputs.
    fn is_closed(&self) -> bool;

    /// Ticks since the last taken seat became free, or since the creation of a room nobody entered yet. 0 while
    /// somebody holds a seat.
    fn empty_ticks(&self) -> u64;

    /// Inputs refused because a seat sent more than [`Room::INBOX_MAX`] in one tick, since creation.
    fn inputs_dropped_total(&self) -> u64;

    /// The whole room as bytes for [`RoomKind::restore`], with inputs and outputs not yet taken.
    fn snapshot(&self) -> Result<Vec<u8>, SnapshotError>;
}

type Create = fn(&str, u64, u16) -> Result<Box<dyn HostedRoom>, CreateError>;
type Restore = fn(&[u8]) -> Result<Box<dyn HostedRoom>, RestoreError>;

/// A kind of room that a node can make: the type behind [`HostedRoom`], as a value.
#[derive(Clone)]
pub struct RoomKind {
    /// [`Room::NAME`].
    pub name: &'static str,
    /// [`Room::HZ`].
    pub hz: u16,
    /// [`Room::SEATS_MAX`].
    pub seats_max: u16,
    /// [`Room::VERSION`].
    pub version: u32,
    /// [`Room::DELIVERY`].
    pub delivery: Delivery,
    default_init: String,
    create: Create,
    restore: Restore,
}

impl RoomKind {
    /// The kind of rooms that `R` is.
    #[must_use]
    pub fn of<R: Room>() -> Self {
        Self {
            name: R::NAME,
            hz: R::HZ,
            seats_max: R::SEATS_MAX,
            version: R::VERSION,
            delivery: R::DELIVERY,
            default_init: String::new(),
            create: |init, seed, seats| Ok(Box::new(RoomHost::<R>::create(init, seed, seats)?)),
            restore: |bytes| Ok(Box::new(RoomHost::<R>::restore(bytes)?)),
        }
    }

    /// The same kind, with options for rooms that are made without any: JSON text of [`Room::Init`]. For what the
    /// process that hosts the rooms is configured with.
    #[must_use]
    pub fn with_default_init(mut self, init: impl Into<String>) -> Self {
        self.default_init = init.into();
        self
    }

    /// Makes a room; see [`RoomHost::create`]. An empty `init` or `null` means the default options, if there are any.
    pub fn create(&self, init: &str, seed: u64, seats: u16) -> Result<Box<dyn HostedRoom>, CreateError> {
        let init = if matches!(init.trim(), "" | "null") { &self.default_init } else { init };
        (self.create)(init, seed, seats)
    }

    /// Thaws a room; see [`RoomHost::restore`].
    pub fn restore(&self, bytes: &[u8]) -> Result<Box<dyn HostedRoom>, RestoreError> {
        (self.restore)(bytes)
    }
}

impl fmt::Debug for RoomKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomKind").field("name", &self.name).field("version", &self.version).finish()
    }
}
