//! The SDK, version 1: what a gameserver in any language says to its host's agent over HTTP on loopback, below the base
//! URL in `GREENROOM_SDK_URL`.
//!
//! Paths and bodies of the Agones SDK's REST face where there are such, so that code written for it goes on working;
//! what is ours lies below [`path::OWN`]. Bodies that come in may have fields that nobody here knows.

use std::collections::BTreeMap;

use greenroom_core::ServerName;
use serde::{Deserialize, Serialize};

use crate::Text;
use crate::api::GameserverStatus;
use crate::rooms::EndReason;

/// Paths below the base URL.
pub mod path {
    /// `POST`: it can take players.
    pub const READY: &str = "/ready";
    /// `POST`: it lives.
    pub const HEALTH: &str = "/health";
    /// `POST`: it wants to be stopped.
    pub const SHUTDOWN: &str = "/shutdown";
    /// `GET`: what its agent knows of it.
    pub const GAMESERVER: &str = "/gameserver";
    /// `GET`: the same, then again at each change: a line of JSON each.
    pub const WATCH_GAMESERVER: &str = "/watch/gameserver";
    /// `PUT`: a label of its own.
    pub const LABEL: &str = "/metadata/label";
    /// `PUT`: an annotation of its own.
    pub const ANNOTATION: &str = "/metadata/annotation";
    /// `POST`: it is in use.
    pub const ALLOCATE: &str = "/allocate";
    /// `POST`: it is in use for a while.
    pub const RESERVE: &str = "/reserve";
    /// `POST`: a player came.
    pub const PLAYER_CONNECT: &str = "/alpha/player/connect";
    /// `POST`: a player went.
    pub const PLAYER_DISCONNECT: &str = "/alpha/player/disconnect";
    /// `GET`, `PUT`: most players.
    pub const PLAYER_CAPACITY: &str = "/alpha/player/capacity";
    /// `GET`: how many players are on it.
    pub const PLAYER_COUNT: &str = "/alpha/player/count";
    /// `GET`: which players are on it.
    pub const PLAYERS: &str = "/alpha/player/connected";
    /// `GET`: whether this player is on it.
    pub const PLAYER: &str = "/alpha/player/connected/{player}";
    /// Where all that is not of Agones begins.
    pub const OWN: &str = "/greenroom/v1";
    /// `PUT`: its connections and rooms.
    pub const STATUS: &str = "/greenroom/v1/status";
    /// `GET`: keys that join tokens are checked with.
    pub const KEYS: &str = "/greenroom/v1/keys";
    /// `GET`: the gameservers of a fleet, its own or `?fleet=`.
    pub const PEERS: &str = "/greenroom/v1/peers";
    /// `GET`: the same, and then who comes, changes and goes: a line of JSON each.
    pub const WATCH_PEERS: &str = "/greenroom/v1/peers/watch";
    /// `POST`: a room is over. `{room}` is its id.
    pub const ROOM_ENDED: &str = "/greenroom/v1/rooms/{room}/ended";
}

/// What the agent knows of a gameserver, in the shape of an Agones `GameServer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GameServer {
    /// Who it is.
    pub object_meta: ObjectMeta,
    /// What is expected of it.
    pub spec: Spec,
    /// Where it stands.
    pub status: Status,
}

/// Who a gameserver is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMeta {
    /// Its name.
    pub name: String,
    /// Its host: the nearest thing to a namespace.
    pub namespace: String,
    /// Its process: changes with each restart.
    pub uid: String,
    /// Empty: nothing here is written by version.
    pub resource_version: String,
    /// How often its process was started.
    pub generation: Long,
    /// Unix seconds of its first start.
    pub creation_timestamp: Long,
    /// 0: it is not being deleted, or nobody knows since when.
    pub deletion_timestamp: Long,
    /// `greenroom/revision`: what it runs. Those it has set itself have `agones.dev/sdk-` before their names.
    pub annotations: BTreeMap<String, String>,
    /// `agones.dev/fleet`: its fleet. Those it has set itself have `agones.dev/sdk-` before their names.
    pub labels: BTreeMap<String, String>,
}

/// What is expected of a gameserver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// How often it must say that it lives.
    pub health: Health,
}

/// How often a gameserver must say that it lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Nobody minds its silence: its fleet's probe is not `sdk`.
    pub disabled: bool,
    /// Seconds between two words, at most, so that one may be lost.
    pub period_seconds: u32,
    /// Words in a row that must be missing.
    pub failure_threshold: u32,
    /// 0: it is counted from when it says that it is ready.
    pub initial_delay_seconds: u32,
}

/// Where a gameserver stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// `Scheduled` until it is ready, `Ready`, `Allocated` while it tells of rooms or connections or since it said so, `Reserved` while
    /// it said so, `Unhealthy`, `Shutdown`.
    pub state: String,
    /// Host part of the address that players dial.
    pub address: String,
    /// Its one port, `default`.
    pub ports: Vec<Port>,
    /// The players that it has told of. Left out before it has told of any, or how many it can take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub players: Option<Players>,
}

/// Who is on a gameserver, as it has told by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Players {
    /// How many.
    pub count: Long,
    /// Most at once.
    pub capacity: Long,
    /// Which, in order.
    pub ids: Vec<String>,
}

/// A port that players dial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// `default`.
    pub name: String,
    /// Its number.
    pub port: u16,
}

/// A number that is written as a string, as protocol buffers do with 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Long(pub u64);

impl Serialize for Long {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Long {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Protocol buffers take both.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(u64),
        }
        match Either::deserialize(deserializer)? {
            Either::Text(text) => text.parse().map(Self).map_err(serde::de::Error::custom),
            Either::Number(number) => Ok(Self(number)),
        }
    }
}

/// For how long a gameserver is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Seconds; 0, or left out: until it says otherwise.
    #[serde(default = "zero")]
    pub seconds: Long,
}

const fn zero() -> Long {
    Long(0)
}

/// One player.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Player {
    /// 1 to 256 bytes.
    #[serde(rename = "playerID")]
    pub id: String,
}

/// How many players.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// So many.
    pub count: Long,
}

/// Whether something is so, or was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flag {
    /// It is.
    pub bool: bool,
}

/// Which players.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayerIds {
    /// In order.
    pub list: Vec<String>,
}

/// One line of a watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched<T> {
    /// What is so now.
    pub result: T,
}

/// The gameservers of a fleet, the one that asks among them, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerList {
    /// As the control plane's API shows them.
    pub peers: Vec<GameserverStatus>,
}

/// Who comes, changes and goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PeerChange {
    /// It was not there before; each one at first. It need not be ready yet: its state says.
    Joined {
        /// As the control plane's API shows it.
        peer: GameserverStatus,
    },
    /// Something of it is not as it was told last.
    Changed {
        /// As it is now.
        peer: GameserverStatus,
    },
    /// It is there no more.
    Left {
        /// Its name.
        name: Text<ServerName>,
    },
    /// All that were there at the beginning have been told. Once.
    Known,
}

/// A label to set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// Its name: 1 to 63 letters, digits, `-`, `_` and `.`, with a letter or a digit at each end.
    pub key: String,
    /// Its value: the same, or empty to take the label away.
    #[serde(default)]
    pub value: String,
}

/// How a room ended, as told over the SDK. Its id is in the path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomOver {
    /// The room's epoch, from the token that opened it.
    pub epoch: u32,
    /// Why. Default `finished`.
    #[serde(default = "finished")]
    pub reason: EndReason,
    /// What is delivered to the back end. Default none.
    #[serde(default)]
    pub result: serde_json::Value,
}

const fn finished() -> EndReason {
    EndReason::Finished
}

/// The body of every answer that is not 2xx, in the shape of Agones' gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The gRPC code: 3 malformed, 5 not found, 8 too much, 12 not there, 14 not now, 16 not you.
    pub code: u32,
    /// For people: what is wrong, and what to do next.
    pub message: String,
    /// Always empty.
    pub details: Vec<serde_json::Value>,
}
