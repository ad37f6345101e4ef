//! Owns the words for what must not happen.
//! Never finds it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::flow::SocketName;

/// Something that must not happen. Players are named as the back end knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "violation")]
pub enum Violation {
    /// A player was never assigned, though nothing else went wrong for them.
    NotAssigned {
        /// Who.
        player: String,
    },
    /// A player was assigned more than once.
    AssignedAgain {
        /// Who.
        player: String,
        /// The room of the first assignment.
        first_room: String,
        /// The room of the later one; may be the same.
        second_room: String,
    },
    /// A match has more or fewer members than it must have.
    MatchSize {
        /// Its room.
        room: String,
        /// How many it must have.
        expected: u16,
        /// Who was sent there.
        players: Vec<String>,
    },
    /// A seat was given to several players.
    SeatTwice {
        /// The room.
        room: String,
        /// The seat.
        seat: u16,
        /// Who were sent there.
        players: Vec<String>,
    },
    /// The members of a match were sent to several servers.
    RoomOnSeveralServers {
        /// The room.
        room: String,
        /// The servers' `host:port`.
        endpoints: Vec<String>,
    },
    /// A player was assigned and never came to play, though nothing else went wrong for them.
    NeverPlayed {
        /// Who.
        player: String,
    },
    /// A connection ended that should not have.
    Disconnected {
        /// Whose.
        player: String,
        /// Which one.
        socket: SocketName,
        /// What the player was at.
        during: String,
        /// How it ended.
        reason: String,
    },
    /// A server refused a player; in the game that is a refused token.
    Refused {
        /// Whom.
        player: String,
        /// Which server.
        socket: SocketName,
        /// The server's code.
        code: String,
    },
    /// A group asked for one room by one key and was sent to several.
    GroupInSeveralRooms {
        /// Number of the group.
        group: u32,
        /// The rooms.
        rooms: Vec<String>,
    },
    /// Numbered events of a sender did not come.
    EventsLost {
        /// Who did not hear them.
        player: String,
        /// Whose they were.
        sender: String,
        /// The first one.
        first: u32,
        /// The last one.
        last: u32,
    },
    /// A numbered event came twice in a row.
    EventDoubled {
        /// Who heard it.
        player: String,
        /// Whose it was.
        sender: String,
        /// Which.
        number: u32,
    },
    /// A numbered event came after a later one.
    EventReordered {
        /// Who heard it.
        player: String,
        /// Whose it was.
        sender: String,
        /// Which.
        number: u32,
        /// The one before it.
        after: u32,
    },
    /// An event came from somebody of another room.
    Leaked {
        /// Who heard it.
        player: String,
        /// Whose it was.
        sender: String,
    },
    /// An event that must be numbered could not be read.
    Unreadable {
        /// Who heard it.
        player: String,
        /// Its argument, cut.
        argument: String,
    },
    /// Two players of a room heard different states of one moment.
    StatesDiffer {
        /// The room.
        room: String,
        /// The state's key.
        key: i64,
    },
    /// A player came back and the server had lost the session.
    NotRecovered {
        /// Who.
        player: String,
    },
    /// A player came back and got a session that is half their own: the server mixed up two.
    SessionMixed {
        /// Who.
        player: String,
    },
    /// A step could not be done.
    Failed {
        /// Who.
        player: String,
        /// What the player was at.
        during: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAssigned { player } => write!(f, "{player} was never assigned"),
            Self::AssignedAgain { player, first_room, second_room } => {
                write!(f, "{player} was assigned again: to room {second_room} after room {first_room}")
            }
            Self::MatchSize { room, expected, players } => {
                let (count, names) = (players.len(), players.join(", "));
                write!(f, "room {room} has {count} players instead of {expected}: {names}")
            }
            Self::SeatTwice { room, seat, players } => {
                write!(f, "room {room} gave seat {seat} to {}", players.join(" and "))
            }
            Self::RoomOnSeveralServers { room, endpoints } => {
                write!(f, "room {room} is on several servers: {}", endpoints.join(", "))
            }
            Self::NeverPlayed { player } => write!(f, "{player} was assigned and never played"),
            Self::Disconnected { player, socket, during, reason } => {
                write!(f, "{player} lost the {socket} connection while {during}: {reason}")
            }
            Self::Refused { player, socket, code } => {
                write!(f, "{player} was refused by the {socket} server: {code}")
            }
            Self::GroupInSeveralRooms { group, rooms } => {
                write!(f, "group {group} asked for one room and is in several: {}", rooms.join(", "))
            }
            Self::EventsLost { player, sender, first, last } if first == last => {
                write!(f, "{player} did not hear event {first} of {sender}")
            }
            Self::EventsLost { player, sender, first, last } => {
                write!(f, "{player} did not hear events {first} to {last} of {sender}")
            }
            Self::EventDoubled { player, sender, number } => {
                write!(f, "{player} heard event {number} of {sender} twice")
            }
            Self::EventReordered { player, sender, number, after } => {
                write!(f, "{player} heard event {number} of {sender} after event {after}")
            }
            Self::Leaked { player, sender } => write!(f, "{player} heard {sender}, who is in another room"),
            Self::Unreadable { player, argument } => {
                write!(f, "{player} heard an event without sender and number: {argument}")
            }
            Self::StatesDiffer { room, key } => {
                write!(f, "players of room {room} saw different states {key}")
            }
            Self::NotRecovered { player } => write!(f, "{player} came back and was not known any more"),
            Self::SessionMixed { player } => {
                write!(f, "{player} came back and got a session that is half another one")
            }
            Self::Failed { player, during, reason } => write!(f, "{player} failed while {during}: {reason}"),
        }
    }
}
