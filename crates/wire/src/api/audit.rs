//! The audit trail as it is told: who changed what, why, and whether somebody was on it.
//!
//! Never a token, a secret or a result.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /v1/audit?before=&limit=`: what was changed, started and stopped, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditList {
    /// At most the asked `limit` (default 100, at most 1,000).
    pub entries: Vec<AuditEntry>,
    /// Ask with `before` set to this for older ones; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// One change, start or stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Counts up by one with each entry, over restarts too.
    pub number: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Who: `token <name>`, `anonymous` where no tokens are configured, `autoscaler`, `agent`, `trigger`, `import` for
    /// the command of that name, or `process` for one that ended by itself.
    pub who: String,
    /// What was done.
    pub action: AuditAction,
    /// To which thing: a gameserver, a fleet, a room, a host or zone, a trigger, or `state` for all that is stored.
    pub subject: String,
    /// Why, in words.
    pub reason: String,
    /// Whether there was a promised or live room or a connection on it.
    pub busy: bool,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditAction {
    /// A gameserver was ordered: its host is told to start it.
    ServerStarted,
    /// A gameserver was told to stop.
    ServerStopped,
    /// A gameserver was told to begin anew, with a new process on the same port.
    ServerRestarted,
    /// The process of a gameserver ended and nobody had told it to.
    ServerDied,
    /// A gameserver that nobody had told to stop is not there any more.
    ServerGone,
    /// All gameservers of a fleet were told to begin anew.
    FleetRestarted,
    /// How many gameservers a fleet has at least was ordered, or what it may not do by itself.
    FleetScaled,
    /// A host or a zone was taken out of use.
    Drained,
    /// A host or a zone was given back to use.
    Undrained,
    /// A room was ended by a call.
    RoomFinished,
    /// Somebody was given all that is stored, as a file.
    StateExported,
    /// The store was filled from a file.
    StateImported,
    /// A trigger has fired: its action begins.
    TriggerFired,
    /// The action of a trigger was done.
    TriggerDone,
    /// The action of a trigger failed, or nobody knows how it went. It is not done again.
    TriggerFailed,
    /// What a newer version wrote that ran beside this one: its trail must not keep this one from taking over.
    #[serde(other)]
    Unknown,
}
