//! Who sits where. Never decides who may: the JoinToken does, before a room is touched.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Seat number within a room, from 0 to the room's seats minus one. Usable as a map key in room state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seat(pub u16);

impl Seat {
    /// The number as an index into a table of seats.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The player as the JoinToken names them: already proven, never what a client claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Player {
    /// The back end's name for the player. 1 to 128 visible ASCII characters when it comes from a token.
    pub id: String,
}

impl Player {
    /// A player of this id.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into() }
    }
}

/// Whether a seat's player has a live connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// Connected: gets what the room sends.
    Connected,
    /// The transport was lost; the seat is kept until the tick of this number begins.
    Dropped {
        /// First tick at which the seat is free again. [`u64::MAX`] keeps it for the life of the room.
        until_tick: u64,
    },
}

/// A taken seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupant {
    /// Who holds it.
    pub player: Player,
    /// Whether they are connected now.
    pub presence: Presence,
}
