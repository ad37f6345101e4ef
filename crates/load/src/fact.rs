//! Owns what can happen to a player, in the words that measures and oracles count.
//! Never judges it.

use std::time::Duration;

use crate::flow::{Measure, SocketName};

/// Something that happened to a player.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The player began.
    Arrived,
    /// A stretch of the way is done.
    Measured(Measure, Duration),
    /// A seat was assigned; also told for a second one.
    Assigned(Seat),
    /// The player is in the game.
    Playing,
    /// The server ended the room under the player.
    RoomEnded,
    /// A connection ended that should not have.
    Lost {
        /// Which.
        socket: SocketName,
        /// What the player was at.
        during: &'static str,
        /// How it ended.
        reason: String,
    },
    /// A server refused the connection.
    Refused {
        /// Which.
        socket: SocketName,
        /// The server's code.
        code: String,
    },
    /// A step could not be done.
    Failed {
        /// What the player was at.
        during: &'static str,
        /// Why.
        reason: String,
    },
    /// All steps are done.
    Finished,
}

/// Where a player was told to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The room.
    pub room: String,
    /// `host:port` of the game server.
    pub endpoint: String,
    /// Seat number, from 0.
    pub seat: u16,
}
