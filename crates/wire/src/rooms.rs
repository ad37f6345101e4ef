//! What a gameserver tells of its rooms; the same shapes travel on the link, in the agent protocol and over HTTP.

use greenroom_core::{PlayerId, RoomId, RoomKey};
use serde::{Deserialize, Serialize};

use crate::Text;

/// One live room as its server sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomReport {
    /// The room.
    pub room: Text<RoomId>,
    /// Who owns it: from the token that opened it.
    pub epoch: u32,
    /// The key it was asked for by, if any: so that control can rebuild its index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<RoomKey>>,
    /// Taken seats only.
    pub seats: Vec<SeatReport>,
    /// Whether the room outlives its process: the next one of the same server goes on with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
}

/// One taken seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatReport {
    /// Seat number, from 0.
    pub seat: u16,
    /// Who sits there.
    pub player: Text<PlayerId>,
    /// Whether the player's transport is there now.
    pub phase: SeatPhase,
}

/// Whether a taken seat's player is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeatPhase {
    /// Connected.
    Connected,
    /// The transport is gone and the grace time runs; the seat is kept.
    Away,
}

/// A room that has ended. Sent until acknowledged; the pair (room, epoch) is its idempotency key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomEnded {
    /// The room.
    pub room: Text<RoomId>,
    /// Its epoch.
    pub epoch: u32,
    /// Why.
    pub reason: EndReason,
    /// What the room gave to `finish`; `null` when it ended without.
    #[serde(default)]
    pub result: serde_json::Value,
}

/// Why a room ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The room called `finish`.
    Finished,
    /// Everybody left and the linger time passed.
    Empty,
    /// Nobody came before the reservations ran out.
    NoShow,
    /// Its process died.
    ServerLost,
    /// Its host has been silent for longer than `host_lost_after`.
    HostLost,
    /// The room's own code panicked.
    Crashed,
    /// Another owner with a higher epoch exists.
    Superseded,
    /// An operator or the server's stop ended it.
    Stopped,
}

impl EndReason {
    /// The word that stands for it on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Empty => "empty",
            Self::NoShow => "no_show",
            Self::ServerLost => "server_lost",
            Self::HostLost => "host_lost",
            Self::Crashed => "crashed",
            Self::Superseded => "superseded",
            Self::Stopped => "stopped",
        }
    }
}
