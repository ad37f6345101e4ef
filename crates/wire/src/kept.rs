//! Rooms that outlive their process: what a node and its backplane say of them.
//!
//! The words travel as [`crate::backplane::Command::Room`] and [`crate::backplane::Told::Room`]. What is kept of a room is
//! one step: its state together with the events that led there, so that whoever takes the room finds both fitting.

use std::collections::BTreeMap;

use greenroom_core::{PlayerId, RoomId, RoomKey, ServerName};
use serde::{Deserialize, Serialize};

use crate::Text;
use crate::backplane::{Pid, Position};
use crate::rooms::EndReason;

/// A room as a backplane keeps it: what another process of the same server needs to go on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRoom {
    /// The room.
    pub room: Text<RoomId>,
    /// Who owns it: from the token that opened it.
    pub epoch: u32,
    /// The key it was asked for by, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<RoomKey>>,
    /// The number of this step, each greater than the one before.
    pub seq: u64,
    /// The room itself: a snapshot, standard base64.
    pub snapshot: String,
    /// Its History and the last event of it.
    pub history: Text<Position>,
    /// The process ended in order after this step: nothing was sent after it, so the History goes on with it, also that of
    /// a room that is seen first and kept later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sealed: bool,
    /// Taken seats.
    pub seats: Vec<KeptSeat>,
    /// Every token that opened a seat and has not expired, with its expiry in Unix seconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, u64>,
    /// Set once the room is over and its result is not delivered yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<EndReason>,
}

/// Who sits in a kept room, and how their client proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSeat {
    /// Seat number, from 0.
    pub seat: u16,
    /// Who.
    pub player: Text<PlayerId>,
    /// The token that opened the seat.
    pub jti: String,
    /// When that token was issued, Unix seconds.
    pub issued_at: u64,
    /// The session's secret, as its client was told last. Never logged.
    pub pid: Pid,
    /// The one before, where its client may not have had the newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_before: Option<Pid>,
    /// Whether the secret had been sent to its client before this step.
    pub is_told: bool,
    /// The socket's public id.
    pub socket: String,
    /// The room's last event when the session began.
    pub seed: Text<Position>,
}

/// One event in a kept room's History.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomEvent {
    /// Its number, one more than that of the event before.
    pub offset: u64,
    /// When it was sent, Unix milliseconds.
    pub at_ms: u64,
    /// To whom.
    pub to: Receivers,
    /// The encoded Socket.IO text packet, without its place.
    pub packet: String,
}

/// The seats that an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receivers {
    /// Every one.
    All,
    /// This one.
    Only(u16),
    /// Every one but this.
    Except(u16),
}

/// Node to backplane, of the rooms of its server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum RoomCommand {
    /// This process has the rooms of the server from now on. Said on every new way to the backplane; the first time all
    /// rooms that are kept follow, each as [`RoomTold::Held`], then [`RoomTold::AllHeld`].
    Hold {
        /// The server, whose processes follow one another.
        server: Text<ServerName>,
        /// It was said before by this very process, which knows all rooms: none is told. Where a later process has the
        /// rooms by now, the answer is [`RoomTold::Lost`].
        is_again: bool,
        /// How long rooms are kept once nobody holds them any more, in milliseconds.
        kept_ms: u64,
    },
    /// Keeps a step of a room: its state, and the events since the step before.
    Keep {
        /// The server.
        server: Text<ServerName>,
        /// The step that this one follows; absent: it follows none, and `events` are all that there are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
        /// The room after the step.
        record: Box<KeptRoom>,
        /// Events up to here are let go.
        floor: u64,
        /// Events in order.
        events: Vec<RoomEvent>,
    },
    /// The room is over, or nobody wants it kept any more. Harmless for one that is not there.
    Forget {
        /// The server.
        server: Text<ServerName>,
        /// The room.
        room: Text<RoomId>,
    },
}

/// Backplane to node, of the rooms of its server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum RoomTold {
    /// A room that a process before this one had.
    Held {
        /// The room.
        record: Box<KeptRoom>,
        /// Its events, in order and without a gap up to the last one.
        events: Vec<RoomEvent>,
    },
    /// No more rooms come.
    AllHeld,
    /// A step is kept: what it sends may be told.
    Kept {
        /// The room.
        room: Text<RoomId>,
        /// The step.
        seq: u64,
    },
    /// The step does not follow what is there: the node shall give all of the room.
    Wanted {
        /// The room.
        room: Text<RoomId>,
    },
    /// What was kept of the server's rooms is gone, or as it was before this process: the node shall give all of them
    /// anew. The command that this answers has not been carried out.
    Anew,
    /// There are too many rooms, this one is not kept.
    TooMany {
        /// The room.
        room: Text<RoomId>,
    },
    /// Another process has the rooms of the server: nothing of this one is kept any more.
    Lost,
}
