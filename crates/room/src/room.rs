//! The trait that a game implements. Never a socket, a clock or a task: the world is reached through [`Ctx`].

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Ctx, Player, Seat};

/// The highest tick rate a room may ask for, in ticks per second.
pub const HZ_MAX: u16 = 120;

/// An authoritative room. State must be the same for the same calls: keep `BTreeMap`s, not `HashMap`s, and
/// integers rather than floats where the result matters.
///
/// `In` and `Out` are enums; a variant is an event of the stock Socket.IO client, see [`decode`](crate::decode)
/// and [`encode`](crate::encode). Give them `#[serde(rename_all = "snake_case")]`.
pub trait Room: Serialize + DeserializeOwned + Send + 'static {
    /// Options from whoever allocates the room. `()` for none.
    type Init: DeserializeOwned;
    /// Events from clients.
    type In: DeserializeOwned + Send;
    /// Events to clients.
    type Out: Serialize;
    /// What a timer brings back. `()` for none.
    type Timer: Serialize + DeserializeOwned + Send;

    /// Name of this kind of room, at most 255 bytes; part of every snapshot.
    const NAME: &'static str;
    /// Ticks per second, 1 to [`HZ_MAX`] (checked when the program is compiled). Default 20.
    const HZ: u16 = 20;
    /// Most seats a room of this kind may be created with. Default 8.
    const SEATS_MAX: u16 = 8;
    /// Raise it when the serialized state changes: a snapshot of another version is refused. Default 1.
    const VERSION: u32 = 1;
    /// When what the room sends reaches its players, where they can come back to it. Whoever runs the room may say
    /// otherwise. Default: at once.
    const DELIVERY: Delivery = Delivery::DeliverFirst;
    /// Inputs of one seat kept for the next tick; further ones are refused, and counted. Default 32.
    const INBOX_MAX: usize = 32;

    /// Makes the room. Called once; a refusal means there is no room.
    fn create(ctx: &mut Ctx<Self>, init: Self::Init) -> Result<Self, Reject>;

    /// A player takes a seat. What is sent here reaches them; a refusal leaves the seat free.
    fn join(&mut self, ctx: &mut Ctx<Self>, seat: Seat, player: &Player) -> Result<(), Reject>;

    /// An input of a seated player, delivered at the start of the tick after it came, in order of arrival.
    fn message(&mut self, ctx: &mut Ctx<Self>, seat: Seat, input: Self::In);

    /// One step of the simulation, after this tick's timers and inputs. Default: nothing.
    fn tick(&mut self, _ctx: &mut Ctx<Self>) {}

    /// A timer set by [`Ctx::after`] is due. Default: nothing.
    fn timer(&mut self, _ctx: &mut Ctx<Self>, _timer: Self::Timer) {}

    /// A seat's transport was lost. The answer says how long the seat is kept. Default: as long as the player's session.
    fn dropped(&mut self, _ctx: &mut Ctx<Self>, _seat: Seat) -> Grace {
        Grace::Session
    }

    /// A seat's player is back, perhaps on a fresh page: send them the full state. Also called when a second
    /// connection of the same player takes the seat over. Default: nothing.
    fn resumed(&mut self, _ctx: &mut Ctx<Self>, _seat: Seat) {}

    /// A seat becomes free: during this call it still counts as taken, so that its player can be named. Called
    /// exactly once for every successful join that ends before the room does. Default: nothing.
    fn left(&mut self, _ctx: &mut Ctx<Self>, _seat: Seat, _why: Why) {}

    /// The process that holds the room wants to stop. Called at most once. Default: [`Drain::Move`].
    fn drain(&mut self, _ctx: &mut Ctx<Self>) -> Drain {
        Drain::Move
    }
}

/// Whether an event is kept beyond its process before anybody sees it, or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Kept first: nothing that anybody has seen is ever lost. It costs a round trip to whatever keeps it. For rooms whose
    /// every event counts, such as games in turns.
    CommitFirst,
    /// Seen at once. After a crash the room goes on from its last checkpoint, and those who have seen more are told so.
    DeliverFirst,
}

impl Delivery {
    /// Both, in the order in which they are told to people.
    pub const ALL: [Self; 2] = [Self::CommitFirst, Self::DeliverFirst];

    /// The word for it in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CommitFirst => "commit_first",
            Self::DeliverFirst => "deliver_first",
        }
    }
}

/// Why a text is no choice of delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write commit_first or deliver_first")]
pub struct DeliveryError;

impl std::str::FromStr for Delivery {
    type Err = DeliveryError;

    fn from_str(text: &str) -> Result<Self, DeliveryError> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or(DeliveryError)
    }
}

/// Why a room refused to be created or joined. The player is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Reject {
    /// For people, lower case, no full stop.
    pub reason: String,
}

impl Reject {
    /// A refusal with this reason.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// How long a seat is kept for a player whose transport was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grace {
    /// Not at all: the seat is free at once.
    None,
    /// As long as the player's session: the time for which a server with recovery lets clients be away, and 30 s without.
    Session,
    /// This many seconds of the room's own time.
    Secs(u16),
    /// As long as the room lives.
    Forever,
}

/// Why a seat became free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Why {
    /// The player said goodbye.
    Left,
    /// The transport was lost and the grace is over.
    GraceOver,
    /// The room sent them away with [`Ctx::kick`].
    Kicked,
    /// The back end or an operator took the seat back.
    Revoked,
}

/// What a room asks for when its process wants to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// Hand it to another node; where that cannot be, let it play on until the drain deadline.
    Move,
    /// It ends by itself; it is closed after this many seconds of its own time at the latest.
    FinishWithin {
        /// Seconds of the room's own time.
        secs: u16,
    },
    /// Close it now.
    CloseNow,
}
