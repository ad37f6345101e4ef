//! Stored records: the promises of the control plane, each with a version and a golden file.
//!
//! A record is JSON of a versioned shape; a newer program reads every older version it ever wrote.

mod news;

use greenroom_core::{FleetName, HostName, InstanceId, PlayerId, RoomId, RoomKey, ServerName, TicketId};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::Text;
use crate::api::{ActionOutcome, AuditEntry, DecisionBody, DrainKind, RoomResult, ScaleOrder};

pub use news::{NewsConcern, NewsEntry, NewsEvent, NewsEventError, NewsItem, NewsReader, NewsRecord};

/// A room that was promised and has not ended. Key `<room>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRecord {
    /// 1.
    pub version: u32,
    /// The room.
    pub room: Text<RoomId>,
    /// Its fleet.
    pub fleet: Text<FleetName>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<RoomKey>>,
    /// Who owns it.
    pub epoch: u32,
    /// Whether calls that fill rooms may be seated in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
    /// Where.
    pub server: Text<ServerName>,
    /// In which process.
    pub instance: Text<InstanceId>,
    /// On which host.
    pub host: Text<HostName>,
    /// `host:port`.
    pub endpoint: SmolStr,
    /// Whether that port speaks TLS. Left out when it does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Unix milliseconds.
    pub created_at_ms: u64,
    /// Seats in all.
    pub seats_max: u16,
    /// Promised seats.
    pub seats: Vec<SeatRecord>,
    /// Players who sat here and have left: named in the room's result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub played: Vec<Text<PlayerId>>,
    /// Handed to the room's `create`.
    #[serde(default)]
    pub init: serde_json::Value,
    /// Whether it outlives its process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
}

/// Which room a key has, so that one call by it is answered without reading all rooms. Key `<fleet>/<room key>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// 1.
    pub version: u32,
    /// The room.
    pub room: Text<RoomId>,
}

/// One promised seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatRecord {
    /// Seat number.
    pub seat: u16,
    /// Whose.
    pub player: Text<PlayerId>,
    /// Unique id of the token given out last for it.
    pub token_id: SmolStr,
    /// Unix milliseconds; not arrived by then (and 2 s more): freed.
    pub expires_at_ms: u64,
}

/// An answered request. Key: `request:<idempotency key>`, or `ticket:<id>` for a matched ticket. Kept for 10 min.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// 1.
    pub version: u32,
    /// Hash of the request, so that another request under the same key is refused.
    pub request_hash: String,
    /// The room answered with.
    pub room: Text<RoomId>,
    /// Whether that call made it.
    pub created: bool,
    /// Why this server, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// Its fleet.
    pub fleet: Text<FleetName>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<RoomKey>>,
    /// Its epoch then.
    pub epoch: u32,
    /// Its server.
    pub server: Text<ServerName>,
    /// Its instance.
    pub instance: Text<InstanceId>,
    /// `host:port`.
    pub endpoint: SmolStr,
    /// Whether that port speaks TLS. Left out when it does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// The seats answered with: the same tokens are signed again.
    pub seats: Vec<SeatRecord>,
    /// Who asked for it with tickets; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The ticket; absent for an idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Text<TicketId>>,
    /// Unix milliseconds when it was given.
    pub answered_at_ms: u64,
}

/// A result that the webhook has not taken yet. Key `<room>.<epoch>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// 1.
    pub version: u32,
    /// What is posted.
    pub body: RoomResult,
}

/// The signing key of JoinTokens. Key: its `kid`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKeyRecord {
    /// 1.
    pub version: u32,
    /// Key id, in every token's header.
    pub kid: String,
    /// The 32 secret bytes, base64url.
    pub secret: String,
    /// Unix milliseconds.
    pub created_at_ms: u64,
}

impl std::fmt::Debug for SigningKeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKeyRecord").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// An agent that has been here: after a restart control waits for it. Key: the host name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// 1.
    pub version: u32,
    /// The host.
    pub host: Text<HostName>,
}

/// One entry of the audit trail. Key: its number, in 20 digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// 1.
    pub version: u32,
    /// The entry.
    pub entry: AuditEntry,
}

impl AuditRecord {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> String {
        Self::key_of(self.entry.number)
    }

    /// The key of the entry with this number: keys are read back in the order of their numbers.
    #[must_use]
    pub fn key_of(number: u64) -> String {
        format!("{number:020}")
    }
}

/// A decision that changed how many servers a fleet should have. Key `<fleet>/<number modulo 100>`: the last 100 stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// 1.
    pub version: u32,
    /// The fleet.
    pub fleet: Text<FleetName>,
    /// Counts up with each decision of the fleet.
    pub number: u64,
    /// Unix milliseconds of the last scale-out by policy: cool-downs go on over a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_at_ms: Option<u64>,
    /// What was decided and why.
    pub decision: DecisionBody,
}

/// What a person has ordered of a fleet. Key `<fleet>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleRecord {
    /// 1.
    pub version: u32,
    /// The fleet.
    pub fleet: Text<FleetName>,
    /// The order.
    pub order: ScaleOrder,
}

/// A host or a zone that a person has taken out of use. Key `<kind>/<name>`; deleted when it is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRecord {
    /// 1.
    pub version: u32,
    /// What it is.
    pub kind: DrainKind,
    /// Its name.
    pub name: String,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Who ordered it, as in the audit trail.
    pub by: String,
    /// Why; empty when that was not said.
    pub reason: String,
}

/// The last term used. Key `term`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermRecord {
    /// 1.
    pub version: u32,
    /// The term.
    pub term: u64,
}

/// Who leads the replicas of a control plane. Key `lease`. Written at each renewal: whoever sees it unchanged for longer
/// than a lease lasts may take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// 1.
    pub version: u32,
    /// The leader's term.
    pub term: u64,
    /// The leader's name among the replicas.
    pub holder: String,
    /// Base URL under which the other replicas reach it.
    pub url: String,
    /// Counts the renewals of this term.
    pub beat: u64,
    /// Whether the leader has given it back: it may be taken at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}

/// A trigger that has fired. Key `<name>`. Written in the step in which it fires, before anything is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerRecord {
    /// 1.
    pub version: u32,
    /// As in the configuration.
    pub name: String,
    /// Whether what it fired for is not over.
    pub firing: bool,
    /// How often it has fired.
    pub fires: u64,
    /// Unix milliseconds of the last time.
    pub fired_at_ms: u64,
    /// Whether it is not known how its last action went: whoever leads next does not do it again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub running: bool,
    /// How the last action went of which that is known, or known to be unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ActionOutcome>,
}
