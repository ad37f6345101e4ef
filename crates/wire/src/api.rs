//! Bodies of the control plane's HTTP API under `/v1`. Request bodies refuse unknown fields.

mod audit;
mod drain;
mod fleets;
mod players;
mod readiness;
mod scaling;
mod slos;
mod tickets;
mod triggers;

pub use audit::{AuditAction, AuditEntry, AuditList};
pub use drain::{DrainKind, DrainRequest, DrainStatus, DrainedHost};
pub use fleets::{FleetList, FleetStatus, KindWord, RestartAnswer, ServerFailure};
pub use players::{PlayerAssignmentsRequest, PlayerRoomRequest, PlayerTicket, PlayerTicketRequest};
pub use readiness::{Readiness, ReplicaRole, ReplicaStatus};
pub use scaling::{
    AutoscaleBody, ChangeWord, DecisionBody, DecisionInputs, DecisionList, DryRunRequest, FreezeWord,
    InvalidRules, MetricWord, PolicyBody, PolicyWord, PrewarmOrder, RulesBody, ScaleInWord, ScaleOrder,
    ScaleRequest, UnitWord,
};
pub use slos::{SloList, SloStatus};
pub use tickets::{
    Assignment, AssignmentsAnswer, AssignmentsRequest, ClockWord, RuleWord, TicketBody, TicketCancelled,
    TicketRefused, TicketRejections, TicketStatus, TicketStatusBody, TicketWait, TicketWhy, TicketsAnswer,
    TicketsRequest, WaitsForWord,
};
pub use triggers::{
    ActionOutcome, ActionResult, ActionWord, MetricAnswer, MetricRequest, TriggerFired, TriggerList,
    TriggerState, TriggerStatus,
};

use std::collections::BTreeMap;

use greenroom_core::allocate::Selector;
use greenroom_core::{
    FleetName, HostName, IdempotencyKey, InstanceId, PlayerId, Revision, RoomId, RoomKey, ServerName,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;
use crate::rooms::{EndReason, SeatPhase};

/// `GET /v1/fleets/{fleet}/endpoint`: where to connect. The answer counts as load until `expires_at_ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointAnswer {
    /// The fleet asked.
    pub fleet: Text<FleetName>,
    /// The chosen gameserver.
    pub server: Text<ServerName>,
    /// `host:port` of its public port.
    pub endpoint: String,
    /// The same as a URL for Socket.IO clients: `https` where the server's probe found TLS on its port, else `http`.
    pub url: String,
    /// Unix milliseconds; after this, ask again.
    pub expires_at_ms: u64,
    /// Why this server, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
}

/// `POST /v1/fleets/{fleet}/rooms`: a room for these players. All get a seat or none does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllocateRequest {
    /// The room's key: the same key gives the same live room. Without one a new room is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<RoomKey>>,
    /// Who gets a seat: 1 up to the fleet's seats per room, no player twice. A player who has a seat in the room
    /// already keeps it and gets a fresh token for it.
    pub players: Vec<Text<PlayerId>>,
    /// The same key gets the same answer for 10 min; used for another request it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Text<IdempotencyKey>>,
    /// How long to wait for capacity. Default 10,000, at most 60,000; 0 answers at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Handed to the room's `create`. Only the call that makes the room counts.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub init: serde_json::Value,
    /// Seats the players in the fullest room that another such call has made and that has seats for all of them;
    /// makes one when there is none. Not with `key`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fill: bool,
    /// Servers that a new room may be made on. Without it any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<SelectorBody>,
}

/// What a server must have to be chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelectorBody {
    /// Labels of its host, all of them. At most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Text<Revision>>,
}

impl From<&SelectorBody> for Selector {
    fn from(body: &SelectorBody) -> Self {
        Self {
            labels: body.labels.clone(),
            revision: body.revision.as_ref().map(|revision| revision.0.clone()),
        }
    }
}

/// A room with the seats that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Allocation {
    /// The room.
    pub room: Text<RoomId>,
    /// Its fleet.
    pub fleet: Text<FleetName>,
    /// Its key, if it was asked for by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<RoomKey>>,
    /// Who owns it.
    pub epoch: u32,
    /// The gameserver it lives on.
    pub server: Text<ServerName>,
    /// `host:port` to connect to.
    pub endpoint: String,
    /// The same as a URL for Socket.IO clients: `https` where the server's probe found TLS on its port, else `http`.
    pub url: String,
    /// Whether this call made the room.
    pub created: bool,
    /// Why this server, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// One per requested player, in the order asked.
    pub seats: Vec<SeatGrant>,
}

/// One player's way in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeatGrant {
    /// Seat number, from 0.
    pub seat: u16,
    /// Whose.
    pub player: Text<PlayerId>,
    /// JoinToken: goes into the Socket.IO `auth` as `{token}`.
    pub token: String,
    /// Unix milliseconds; the first connection must come before.
    pub expires_at_ms: u64,
}

/// `POST /v1/rooms/{room}/finish`: a server without a link tells the result. Repeating it changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishRequest {
    /// The epoch the server holds the room under.
    pub epoch: u32,
    /// Handed to the back end's webhook as it is.
    #[serde(default)]
    pub result: serde_json::Value,
}

/// `GET /v1/gameservers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GameserverList {
    /// By fleet, then name.
    pub gameservers: Vec<GameserverStatus>,
}

/// One gameserver now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GameserverStatus {
    /// Its name.
    pub name: Text<ServerName>,
    /// Its fleet.
    pub fleet: Text<FleetName>,
    /// Its host.
    pub host: Text<HostName>,
    /// Its present process.
    pub instance: Text<InstanceId>,
    /// What it runs.
    pub revision: Text<Revision>,
    /// Where it stands.
    pub state: StateWord,
    /// `host:port` of its public port; empty while it has none.
    pub endpoint: String,
    /// Whether that port speaks TLS. Left out when it does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Process id on its host.
    pub pid: Option<u32>,
    /// Promised and live rooms.
    pub rooms: u32,
    /// Taken seats.
    pub players: u32,
    /// Transport connections.
    pub connections: u32,
    /// Whether it gets nothing new though its state would allow it: by a cap of its fleet, or by its own word.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
    /// How often its process was started again.
    pub restarts: u32,
    /// Unix milliseconds.
    pub started_at_ms: u64,
    /// Labels that its process has set over the SDK. Left out when there are none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Why it is not ready, why it gets nothing new, or how it last ended; empty when there is nothing to say.
    pub message: String,
}

/// A gameserver's state on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is documented at greenroom_core::gameserver::State")]
pub enum StateWord {
    Starting,
    Ready,
    Reserved,
    Allocated,
    Draining,
    Unhealthy,
    Stopped,
}

/// `GET /v1/rooms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoomList {
    /// By fleet, then id.
    pub rooms: Vec<RoomStatus>,
    /// How many there are in all; `rooms` holds at most the asked `limit` (default 500, at most 5,000) from `offset`.
    pub total: u32,
}

/// One room now. An ended room is answered for 10 min, so that `lost` can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoomStatus {
    /// The room.
    pub room: Text<RoomId>,
    /// Its fleet.
    pub fleet: Text<FleetName>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<RoomKey>>,
    /// Who owns it.
    pub epoch: u32,
    /// Its gameserver.
    pub server: Text<ServerName>,
    /// `host:port`.
    pub endpoint: String,
    /// Where it stands.
    pub phase: RoomPhase,
    /// Why it ended; absent while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<EndReason>,
    /// Every seat, free ones included.
    pub seats: Vec<SeatStatus>,
    /// Unix milliseconds.
    pub created_at_ms: u64,
}

/// Where a room stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoomPhase {
    /// Promised; nobody has arrived.
    Reserved,
    /// At least one player arrived.
    Live,
    /// Over, see `ended`.
    Ended,
}

/// One seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeatStatus {
    /// Seat number, from 0.
    pub seat: u16,
    /// Where it stands.
    pub state: SeatWord,
    /// Whose it is; absent when free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub player: Option<Text<PlayerId>>,
}

/// Where a seat stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeatWord {
    /// Anybody's.
    Free,
    /// Promised; the player has not arrived.
    Reserved,
    /// The player is there.
    Connected,
    /// The player's transport is gone, the seat is kept for a while.
    Away,
}

impl From<SeatPhase> for SeatWord {
    fn from(phase: SeatPhase) -> Self {
        match phase {
            SeatPhase::Connected => Self::Connected,
            SeatPhase::Away => Self::Away,
        }
    }
}

/// `GET /v1/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostList {
    /// By name.
    pub hosts: Vec<HostStatus>,
}

/// One host now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostStatus {
    /// Its name.
    pub name: Text<HostName>,
    /// Whether its agent's stream is open.
    pub connected: bool,
    /// Unix milliseconds of its last word.
    pub heard_at_ms: u64,
    /// Servers on it.
    pub servers: u32,
    /// Most it may hold.
    pub servers_max: u32,
    /// Its label `zone`. Left out without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Why nothing new is put there, if a person has said so. Left out otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub drained: String,
    /// Why the engine around its agent does not keep it from being stopped. Left out when there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

/// `GET /v1/overview`: one screen's worth. Lists are capped at 500 entries; `totals` are whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Overview {
    /// The control process's term.
    pub term: u64,
    /// The name of the replica that leads; absent where there are no replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Unix milliseconds at the control process.
    pub now_ms: u64,
    /// Whole numbers of everything.
    pub totals: Totals,
    /// All fleets.
    pub fleets: Vec<FleetStatus>,
    /// All hosts.
    pub hosts: Vec<HostStatus>,
    /// Servers, capped.
    pub gameservers: Vec<GameserverStatus>,
    /// Rooms, capped, live ones first.
    pub rooms: Vec<RoomStatus>,
    /// The last 50 changes, newest first.
    pub events: Vec<EventLine>,
}

/// Whole numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Live servers.
    pub gameservers: u32,
    /// Live and promised rooms.
    pub rooms: u32,
    /// Taken seats.
    pub players: u32,
    /// Transport connections.
    pub connections: u32,
    /// Tickets that wait.
    pub tickets: u32,
    /// Results not yet taken by the webhook.
    pub results_pending: u32,
}

/// One thing that happened, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventLine {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// What happened, to which thing.
    pub text: String,
}

/// `GET /v1/gameservers/{name}/logs?offset=&bytes_max=`: a piece of a server's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogsAnswer {
    /// The output, bytes that are not UTF-8 replaced.
    pub text: String,
    /// Where the next piece begins; ask with it again to follow.
    pub next_offset: u64,
}

/// Body of the back end's webhook: one ended room. Header `Idempotency-Key` is `<room>.<epoch>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoomResult {
    /// Always `room.ended`.
    pub event: String,
    /// The room.
    pub room: Text<RoomId>,
    /// Its fleet.
    pub fleet: Text<FleetName>,
    /// Its key, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<RoomKey>>,
    /// Who owned it.
    pub epoch: u32,
    /// Why it ended.
    pub reason: EndReason,
    /// The players who had a seat: who sits there at the end, and of those who left before the latest 4,096.
    pub players: Vec<Text<PlayerId>>,
    /// What the room gave to `finish`; `null` without.
    pub result: serde_json::Value,
    /// Unix milliseconds.
    pub ended_at_ms: u64,
}
