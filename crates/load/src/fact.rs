//! Owns what can happen to a player, in the words that measures and oracles count.
//! Never judges it.

use std::time::Duration;

use crate::flow::{Measure, SessionWanted, SocketName};

/// Something that happened to a player.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The player began.
    Arrived,
    /// Something that is measured is done.
    Measured(Measured),
    /// A seat was assigned; also told for a second one.
    Assigned(Seat),
    /// The player is in the game.
    Playing,
    /// So many numbered events were sent by now.
    Numbered(u32),
    /// The server ended the room under the player.
    RoomEnded,
    /// The server ended the connection of a player who misbehaves on purpose.
    Shed,
    /// A connection ended that should not have.
    Lost {
        /// Which.
        socket: SocketName,
        /// What the player was at.
        during: &'static str,
        /// How it ended.
        reason: String,
    },
    /// The game connection is gone, and the player means to come back.
    Away {
        /// Who ended it.
        by: Parting,
        /// The last numbered event of this player that was acknowledged; 0 for none.
        acked: u32,
    },
    /// The player is connected to the game again.
    Back {
        /// Whether as the same session.
        session: SessionBack,
        /// What it had to be.
        wanted: SessionWanted,
    },
    /// The room was gone when the player came back, which this scenario allows.
    RoomLost,
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

/// Who ended a connection that is to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// The player: everything sent before has arrived.
    Player,
    /// The server or the network: nobody knows what arrived of what was not answered yet.
    Server,
}

/// What became of a session whose connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionBack {
    /// There was none to come back to: the server recovers none.
    None,
    /// It is the same one.
    Recovered,
    /// It is another one.
    New,
    /// It has the `pid` of the old one and another `sid`, or the other way round: the server mixed up two sessions.
    Mixed,
}

/// One time that was measured, in both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// What.
    pub measure: Measure,
    /// When it was meant to begin, since the start of the run.
    pub due: Duration,
    /// From that moment to its end.
    pub intended: Duration,
    /// From the moment at which it did begin to its end.
    pub service: Duration,
}

/// Where a player was told to play.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Seat {
    /// The room.
    pub room: Box<str>,
    /// `host:port` of the game server.
    pub endpoint: Box<str>,
    /// Seat number, from 0.
    pub seat: u16,
}
