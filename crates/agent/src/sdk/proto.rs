//! Messages of the Agones SDK as they are on the wire: names and numbers of fields.
//!
//! Never more than is answered or read here; fields that nobody here knows are skipped.

use std::collections::HashMap;

use prost::Message;

/// `agones.dev.sdk.Empty`, and that of `alpha`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Empty {}

/// `agones.dev.sdk.KeyValue`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// `agones.dev.sdk.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Duration {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
}

/// `agones.dev.sdk.GameServer`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GameServer {
    #[prost(message, optional, tag = "1")]
    pub(super) object_meta: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    pub(super) spec: Option<Spec>,
    #[prost(message, optional, tag = "3")]
    pub(super) status: Option<Status>,
}

/// `agones.dev.sdk.GameServer.ObjectMeta`. Moments are Unix seconds.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ObjectMeta {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
    #[prost(string, tag = "3")]
    pub(super) uid: String,
    #[prost(string, tag = "4")]
    pub(super) resource_version: String,
    #[prost(int64, tag = "5")]
    pub(super) generation: i64,
    #[prost(int64, tag = "6")]
    pub(super) creation_timestamp: i64,
    #[prost(int64, tag = "7")]
    pub(super) deletion_timestamp: i64,
    #[prost(map = "string, string", tag = "8")]
    pub(super) annotations: HashMap<String, String>,
    #[prost(map = "string, string", tag = "9")]
    pub(super) labels: HashMap<String, String>,
}

/// `agones.dev.sdk.GameServer.Spec`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Spec {
    #[prost(message, optional, tag = "1")]
    pub(super) health: Option<Health>,
}

/// `agones.dev.sdk.GameServer.Spec.Health`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Health {
    #[prost(bool, tag = "1")]
    pub(super) disabled: bool,
    #[prost(int32, tag = "2")]
    pub(super) period_seconds: i32,
    #[prost(int32, tag = "3")]
    pub(super) failure_threshold: i32,
    #[prost(int32, tag = "4")]
    pub(super) initial_delay_seconds: i32,
}

/// `agones.dev.sdk.GameServer.Status`. Counters (5) and lists (6) are not kept.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(string, tag = "1")]
    pub(super) state: String,
    #[prost(string, tag = "2")]
    pub(super) address: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) ports: Vec<Port>,
    #[prost(message, optional, tag = "4")]
    pub(super) players: Option<PlayerStatus>,
}

/// `agones.dev.sdk.GameServer.Status.Port`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Port {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(int32, tag = "2")]
    pub(super) port: i32,
}

/// `agones.dev.sdk.GameServer.Status.PlayerStatus`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PlayerStatus {
    #[prost(int64, tag = "1")]
    pub(super) count: i64,
    #[prost(int64, tag = "2")]
    pub(super) capacity: i64,
    #[prost(string, repeated, tag = "3")]
    pub(super) ids: Vec<String>,
}

/// `agones.dev.sdk.alpha.Count`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Count {
    #[prost(int64, tag = "1")]
    pub(super) count: i64,
}

/// `agones.dev.sdk.alpha.Bool`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Bool {
    #[prost(bool, tag = "1")]
    pub(super) bool: bool,
}

/// `agones.dev.sdk.alpha.PlayerID`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PlayerId {
    #[prost(string, tag = "1")]
    pub(super) player_id: String,
}

/// `agones.dev.sdk.alpha.PlayerIDList`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PlayerIdList {
    #[prost(string, repeated, tag = "1")]
    pub(super) list: Vec<String>,
}
