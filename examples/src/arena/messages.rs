//! What an arena and its players say to each other. Places are in 1/16 pixels; a state is arrays of whole
//! numbers, because it goes out 30 times a second.

use greenroom_room::Seat;
use serde::{Deserialize, Serialize};

/// Options of an arena.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Init {
    /// Length of the round, 5 to 3,600 s. Default 75.
    pub round_secs: u16,
}

impl Default for Init {
    fn default() -> Self {
        Self { round_secs: 75 }
    }
}

/// From a player.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum In {
    /// Where the player wants to go, -127 to 127 each way, held until the next one.
    Steer {
        /// To the right.
        x: i8,
        /// Down.
        y: i8,
    },
    /// Burst ahead: passes the laser, pops drones, robs players.
    Dash,
    /// What the others see. Cut to 16 characters.
    Name(String),
    /// "I have seen enough": the round ends when everybody who is connected says so.
    Concede,
}

/// To players.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Out {
    /// Everything that does not come with each state. Sent to whoever joins or comes back.
    Welcome {
        /// The receiver's seat.
        seat: Seat,
        /// States per second.
        hz: u16,
        /// Seats of this room.
        seats: u16,
        /// Width and height, then the laser's hub and arm length, all in pixels.
        map: [i32; 4],
        /// Where the pillars stand and how wide they are: x, y, radius in pixels.
        pillars: Vec<[i32; 3]>,
        /// Who is here.
        players: Vec<Face>,
        /// Orbs that lie about: id, x, y.
        orbs: Vec<[i32; 3]>,
    },
    /// Somebody came, or changed their name.
    Player(Face),
    /// Somebody left for good.
    Gone {
        /// Their seat.
        seat: Seat,
    },
    /// The round goes into another phase.
    Phase {
        /// Which.
        phase: Phase,
        /// How long it lasts, in ticks. 0 for "until everybody is here".
        ticks: u64,
    },
    /// All that moves.
    State {
        /// The tick.
        t: u64,
        /// The laser's angle in 1/4096 turns.
        a: i32,
        /// Players: seat, x, y, score, bits (1 dashing, 2 dazed, 4 safe, 8 connection lost).
        p: Vec<[i32; 5]>,
        /// Drones: x, y, 1 while there.
        d: Vec<[i32; 3]>,
    },
    /// An orb appeared: id, x, y.
    Orb([i32; 3]),
    /// Somebody took an orb.
    Taken {
        /// Which.
        orb: u32,
        /// Who.
        seat: Seat,
    },
    /// Somebody was hit and lost points.
    Hit {
        /// Who.
        seat: Seat,
        /// By what.
        by: Cause,
        /// Points that now lie about as orbs.
        lost: u32,
    },
    /// Somebody popped a drone.
    Pop {
        /// Who.
        seat: Seat,
        /// Which drone.
        drone: usize,
    },
    /// The end of the round, best first.
    Podium(Vec<Standing>),
}

/// How a player looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Face {
    /// Where they sit.
    pub seat: Seat,
    /// What they call themselves.
    pub name: String,
    /// A CSS colour.
    pub color: &'static str,
}

/// What an arena is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Until every seat is taken, or for 10 s after the first.
    Waiting,
    /// 3 s to find oneself.
    Countdown,
    /// The round.
    Play,
    /// The result is on show.
    Podium,
}

/// What hits a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The turning beam.
    Laser,
    /// A drone.
    Drone,
    /// Another player's dash.
    Player(Seat),
}

/// A line of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// 1 is best; equals share a place.
    pub place: u32,
    /// Where they sat.
    pub seat: Seat,
    /// The back end's name for the player.
    pub player: String,
    /// What they called themselves.
    pub name: String,
    /// Points.
    pub score: u32,
}

/// What the back end gets.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Why the round ended.
    pub ended: Ended,
    /// Best first, with those who left early.
    pub standings: Vec<Standing>,
}

/// Why a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The time was over.
    Time,
    /// Everybody had seen enough.
    Conceded,
    /// Everybody had left.
    Deserted,
}
