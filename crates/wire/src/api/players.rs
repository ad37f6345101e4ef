//! Bodies of the calls that players make themselves, on the listener for players. Who calls is in the player token.
//!
//! Never a field that only a back end may decide: other players, a rating, what a room is made with.

use std::collections::BTreeMap;

use greenroom_core::{IdempotencyKey, PlayerId, RoomKey, TicketId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;

/// `POST /v1/fleets/{fleet}/rooms` of a player: a seat for oneself in the room of this key. Answered as a back end is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlayerRoomRequest {
    /// The room's key: the same key gives the same live room.
    pub key: Text<RoomKey>,
    /// May be left out; the caller and nobody else, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub players: Option<Vec<Text<PlayerId>>>,
    /// The same key of the same player gets the same answer for 10 min; used for another request it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Text<IdempotencyKey>>,
    /// How long to wait for capacity. Default 10,000, at most 60,000; 0 answers at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// `POST /v1/fleets/{fleet}/tickets` of a player: wait for a match, alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlayerTicketRequest {
    /// The same key of the same player gives the same ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Text<IdempotencyKey>>,
    /// Attributes that `[players] attributes` leaves to players, such as a mode. A rating is never among them: it is in the
    /// player token or nowhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// As in [`super::TicketBody`]: a private match with those who know the same word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyword: Option<String>,
}

/// Answer to [`PlayerTicketRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlayerTicket {
    /// For [`PlayerAssignmentsRequest`] to acknowledge, and to cancel.
    pub ticket: Text<TicketId>,
    /// The control process's term. When it changes, ask for a ticket again: the queue is not stored.
    pub term: u64,
}

/// `POST /v1/assignments` of a player: waits until the own ticket is assigned. Told until acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlayerAssignmentsRequest {
    /// Tickets whose assignment arrived; they are not told again.
    #[serde(default)]
    pub ack: Vec<Text<TicketId>>,
    /// How long to wait when there is nothing to tell. Default and at most 20,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}
