//! Whether a control plane can serve, and which of several replicas leads.
//!
//! Never what it serves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /readyz`: 200 when `ready`, else 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    /// Whether this process can serve.
    pub ready: bool,
    /// What it waits for; empty when ready.
    pub waiting_on: Vec<String>,
    /// Where this process stands among several; absent where it is the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaStatus>,
}

/// One of several control processes on one store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaStatus {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: ReplicaRole,
    /// Who leads, as far as it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The leader's term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
}

/// What a replica does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaRole {
    /// It decides.
    Leader,
    /// It passes calls on to the leader.
    Follower,
}
