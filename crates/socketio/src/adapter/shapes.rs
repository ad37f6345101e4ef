//! The messages' parts as they are written. Never judged here.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Numbers of messages.
pub(super) mod kinds {
    pub(in super::super) const HELLO: u64 = 1;
    pub(in super::super) const HEARTBEAT: u64 = 2;
    pub(in super::super) const BROADCAST: u64 = 3;
    pub(in super::super) const JOIN: u64 = 4;
    pub(in super::super) const LEAVE: u64 = 5;
    pub(in super::super) const DISCONNECT: u64 = 6;
    pub(in super::super) const FETCH: u64 = 7;
    pub(in super::super) const FETCHED: u64 = 8;
    pub(in super::super) const SERVER_SIDE: u64 = 9;
    pub(in super::super) const SERVER_SIDE_ANSWER: u64 = 10;
    pub(in super::super) const CLIENTS: u64 = 11;
    pub(in super::super) const ACK: u64 = 12;
    pub(in super::super) const CLOSE: u64 = 13;
}

/// A message of a channel.
#[derive(Serialize, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(rename = "type")]
    pub(super) kind: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<&'a RawValue>,
    pub(super) uid: String,
    pub(super) nsp: String,
}

#[derive(Default, Serialize, Deserialize)]
pub(super) struct Options {
    #[serde(default)]
    pub(super) rooms: Vec<String>,
    #[serde(default)]
    pub(super) except: Vec<String>,
    #[serde(default)]
    pub(super) flags: Option<Flags>,
}

#[derive(Default, Serialize, Deserialize)]
pub(super) struct Flags {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) volatile: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) compress: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<serde_json::Number>,
}

/// A packet for clients.
#[derive(Serialize, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type")]
    pub(super) kind: u64,
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Broadcast<'a> {
    #[serde(borrow)]
    pub(super) packet: Event<'a>,
    #[serde(rename = "requestId", default, skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<String>,
    pub(super) opts: Options,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Groups {
    pub(super) opts: Options,
    pub(super) rooms: Vec<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Disconnect {
    pub(super) opts: Options,
    #[serde(default)]
    pub(super) close: Option<bool>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Fetch {
    pub(super) opts: Options,
    #[serde(rename = "requestId")]
    pub(super) request: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Fetched {
    #[serde(rename = "requestId")]
    pub(super) request: String,
    pub(super) sockets: Vec<Socket>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Socket {
    pub(super) id: String,
    #[serde(default)]
    pub(super) handshake: Value,
    #[serde(default)]
    pub(super) rooms: Vec<String>,
    #[serde(default)]
    pub(super) data: Value,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ServerSide<'a> {
    #[serde(rename = "requestId", default, skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<String>,
    #[serde(borrow)]
    pub(super) packet: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Clients {
    #[serde(rename = "requestId")]
    pub(super) request: String,
    #[serde(rename = "clientCount")]
    pub(super) clients: u64,
}

/// What a client or a server answered.
#[derive(Serialize, Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(rename = "requestId")]
    pub(super) request: String,
    /// Absent for `undefined`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) packet: Option<&'a RawValue>,
    /// Our own addition, which the npm package passes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) socket: Option<String>,
}
