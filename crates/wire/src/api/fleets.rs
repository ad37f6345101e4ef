//! What is told of fleets, and the call that restarts one.
//!
//! Never more than one screen's worth: servers and rooms have bodies of their own.

use greenroom_core::{FleetName, Revision, ServerName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;

/// `GET /v1/fleets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FleetList {
    /// By name.
    pub fleets: Vec<FleetStatus>,
}

/// One fleet now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FleetStatus {
    /// Its name.
    pub name: Text<FleetName>,
    /// `room` or `mesh`.
    pub kind: KindWord,
    /// Hash of its template.
    pub revision: Text<Revision>,
    /// Bound from below.
    pub replicas_min: u32,
    /// Bound from above.
    pub replicas_max: u32,
    /// What it should have now.
    pub replicas_wanted: u32,
    /// Live servers, ready or not.
    pub replicas: u32,
    /// Servers that answer their probe.
    pub ready: u32,
    /// Servers with somebody on them.
    pub busy: u32,
    /// Promised and live rooms.
    pub rooms: u32,
    /// Rooms one server may hold; 0 for `mesh`.
    pub rooms_per_server: u16,
    /// Seats per room; 0 for `mesh`.
    pub seats_per_room: u16,
    /// Taken seats, or connections for `mesh`.
    pub players: u32,
    /// Tickets that wait.
    pub tickets: u32,
    /// Why it should have so many, in words; empty before the first decision.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// Why it is short of what it should have, in words; empty when it is not.
    pub waiting_on: Vec<String>,
    /// The server of it that died last, or never answered, since the control process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<ServerFailure>,
}

/// A server that died or never answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerFailure {
    /// Which. It may be gone by now; its output can be read for a while all the same.
    pub server: Text<ServerName>,
    /// How its process ended and what it said last, or why it never answered.
    pub message: String,
    /// Unix milliseconds.
    pub at_ms: u64,
}

/// A fleet's kind on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KindWord {
    /// Pinned rooms.
    Room,
    /// Cross-server broadcast.
    Mesh,
}

/// Answer to `POST /v1/fleets/{fleet}/restart`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestartAnswer {
    /// Servers that were told to restart, each in place: same name, same port, new process.
    pub servers: Vec<Text<ServerName>>,
}
