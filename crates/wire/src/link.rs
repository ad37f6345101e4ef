//! The link protocol, version 1: a gameserver and its host's agent, over loopback TCP.
//!
//! The server dials the address in `GREENROOM_LINK` and dials again whenever the stream ends: the agent may restart at
//! any time and nothing is lost by it, because status is whole and results are repeated until acknowledged. One JSON
//! message per line, at most [`LINE_BYTES_MAX`]. A server that has no link is judged by its probe alone.

use greenroom_core::fleet::Strain;
use greenroom_core::{InstanceId, RoomId};
use serde::{Deserialize, Serialize};

use crate::Text;
use crate::backplane::{Command, Told};
use crate::rooms::{EndReason, RoomEnded, RoomReport};
use crate::token::PublicKeys;

/// This protocol's version.
pub const VERSION: u32 = 1;

/// Longest line, in bytes; a longer one ends the stream.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Names of the environment variables that an agent sets for every server it starts.
pub mod env {
    /// Public port to listen on, on all addresses of the host's loopback or network as told by `GREENROOM_BIND`.
    pub const PORT: &str = "PORT";
    /// The same as `PORT`, for servers that need their own `PORT`.
    pub const GREENROOM_PORT: &str = "GREENROOM_PORT";
    /// Address to bind, `127.0.0.1` unless the agent's public host is another.
    pub const BIND: &str = "GREENROOM_BIND";
    /// `host:port` that players dial.
    pub const PUBLIC_ADDRESS: &str = "GREENROOM_PUBLIC_ADDRESS";
    /// Fleet name.
    pub const FLEET: &str = "GREENROOM_FLEET";
    /// Server name.
    pub const SERVER: &str = "GREENROOM_SERVER";
    /// Instance id: this process.
    pub const INSTANCE: &str = "GREENROOM_INSTANCE";
    /// Host name.
    pub const HOST: &str = "GREENROOM_HOST";
    /// Revision of the fleet.
    pub const REVISION: &str = "GREENROOM_REVISION";
    /// Rooms this server may hold; absent for `mesh`.
    pub const ROOMS_PER_SERVER: &str = "GREENROOM_ROOMS_PER_SERVER";
    /// Seats per room; absent for `mesh`.
    pub const SEATS_PER_ROOM: &str = "GREENROOM_SEATS_PER_ROOM";
    /// `127.0.0.1:port` of the agent's link.
    pub const LINK: &str = "GREENROOM_LINK";
    /// Secret of this server for the link. Never logged.
    pub const LINK_SECRET: &str = "GREENROOM_LINK_SECRET";
    /// The port on loopback where a shipped Agones SDK of HTTP finds its agent. Only for fleets that ask for it, and theirs alone.
    pub const AGONES_HTTP_PORT: &str = "AGONES_SDK_HTTP_PORT";
    /// The same for one of gRPC; the same port.
    pub const AGONES_GRPC_PORT: &str = "AGONES_SDK_GRPC_PORT";
    /// Base URL of the SDK for this process, `http://127.0.0.1:port/instance/secret`. Never logged.
    pub const SDK_URL: &str = "GREENROOM_SDK_URL";
    /// Base URL of the control plane's HTTP API.
    pub const CONTROL: &str = "GREENROOM_CONTROL";
    /// Path of the authorities (PEM) that its certificate is checked with; absent where the agent has none.
    pub const CONTROL_CA: &str = "GREENROOM_CA";
    /// Token for calls of control's HTTP API: present when the fleet's `env` names one.
    pub const TOKEN: &str = "GREENROOM_TOKEN";
    /// Comma-separated browser origins that may connect; `*` for any. Absent: same-origin and non-browser only.
    pub const ALLOWED_ORIGINS: &str = "GREENROOM_ALLOWED_ORIGINS";
}

/// Names of the environment variables by which a fleet sets options of a Greenroom node.
pub mod options {
    /// Milliseconds that a room stays open after everybody left. Default 10,000.
    pub const ROOM_LINGER_MS: &str = "GREENROOM_ROOM_LINGER_MS";
    /// PEM file with the certificate of the port, then those that lead to a known authority. Default none: plaintext.
    pub const TLS_CERTIFICATES: &str = "GREENROOM_TLS_CERTIFICATES";
    /// PEM file with the certificate's private key. Comes with [`TLS_CERTIFICATES`].
    pub const TLS_KEY: &str = "GREENROOM_TLS_KEY";
    /// The Redis that the nodes of a mesh share when they are on several hosts, as
    /// `redis://[user:password@]host:port[/database]` or
    /// `redis+sentinel://[user:password@]host:port,host:port,host:port/name[/database]`. Never logged.
    pub const STORE: &str = "GREENROOM_REDIS";
    /// The Redis by which programs outside of the servers reach clients (`@socket.io/redis-emitter`), written
    /// as [`STORE`]. Default none. Never logged.
    pub const EMITTERS: &str = "GREENROOM_EMITTERS";
    /// The emitters' option `key`. Default `socket.io`. Comes with [`EMITTERS`].
    pub const EMITTERS_KEY: &str = "GREENROOM_EMITTERS_KEY";
    /// In which words the nodes of a mesh speak by the Redis of [`STORE`]: `redis-streams` for one cluster with Node.js servers that
    /// have the npm package `@socket.io/redis-streams-adapter`. Absent: in their own. Comes with [`STORE`].
    pub const ADAPTER: &str = "GREENROOM_ADAPTER";
    /// That package's option `streamName`. Default `socket.io`. Comes with [`ADAPTER`], as the following do.
    pub const ADAPTER_STREAM_NAME: &str = "GREENROOM_ADAPTER_STREAM_NAME";
    /// Its option `streamCount`, 1 to 64. Default 1.
    pub const ADAPTER_STREAM_COUNT: &str = "GREENROOM_ADAPTER_STREAM_COUNT";
    /// Its option `channelPrefix`. Default `socket.io`.
    pub const ADAPTER_CHANNEL_PREFIX: &str = "GREENROOM_ADAPTER_CHANNEL_PREFIX";
    /// Its option `maxLen`. Default 10,000.
    pub const ADAPTER_MAX_LEN: &str = "GREENROOM_ADAPTER_MAX_LEN";
    /// How long clients may be away and still go on with their sessions: a span such as `2m`. Absent: they begin anew.
    /// A fleet sets it by its own key `recovery`, and so it is not in [`FREE`].
    pub const RECOVERY: &str = "GREENROOM_RECOVERY";
    /// Whether an event is kept beyond the process before anybody sees it: `commit_first` or `deliver_first`. Absent: as
    /// the kind of the room says, and `commit_first` for namespaces. Comes with [`RECOVERY`], as the fleet's `delivery`.
    pub const DELIVERY: &str = "GREENROOM_DELIVERY";
    /// How often a room of `deliver_first` is kept beyond its process: a span such as `1s`, at least 50 ms. Comes with
    /// [`RECOVERY`], as the fleet's `checkpoint_every`.
    pub const CHECKPOINT_EVERY: &str = "GREENROOM_CHECKPOINT_EVERY";

    /// Those that a fleet sets in its `env`.
    pub const FREE: [&str; 11] = [
        ADAPTER,
        ADAPTER_STREAM_NAME,
        ADAPTER_STREAM_COUNT,
        ADAPTER_CHANNEL_PREFIX,
        ADAPTER_MAX_LEN,
        EMITTERS,
        EMITTERS_KEY,
        STORE,
        ROOM_LINGER_MS,
        TLS_CERTIFICATES,
        TLS_KEY,
    ];
}

/// Server to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromServer {
    /// First message. A wrong secret or instance ends the stream.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// From `GREENROOM_INSTANCE`.
        instance: Text<InstanceId>,
        /// From `GREENROOM_LINK_SECRET`.
        secret: String,
    },
    /// Every second and at once on change; it is the heartbeat too.
    Status(Status),
    /// A room has ended; repeated after each reconnect until acknowledged.
    RoomEnded(RoomEnded),
    /// A mesh broadcast for the other servers of this fleet on this host.
    Publish(Relay),
    /// Anything else for them, or an answer for one.
    Mesh(MeshSend),
    /// This process was told to end, and asks what comes after it. The answer is [`ToServer::Ending`].
    Ending,
    /// A command to the board in the agent, which keeps histories and sessions for the servers of this fleet.
    Backplane(Command),
}

/// What a server tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Transport connections, counted by the transport.
    pub connections: u32,
    /// All live rooms.
    pub rooms: Vec<RoomReport>,
    /// Rooms of the process before this one may follow: that a room is not told of yet means nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits_rooms: bool,
    /// Its rooms may outlive its process: when that is gone, all that were promised here wait for the next one to tell which it has,
    /// also those that nobody has told of yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_rooms: bool,
    /// What it measured of itself.
    #[serde(default, skip_serializing_if = "Measured::is_empty")]
    pub measured: Measured,
}

/// What a server measured of itself, or its agent of its process; each absent where nobody measured it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// New connections in the last 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connects_per_minute: Option<u32>,
    /// How late ticks were on average in the last second, in milliseconds; absent without rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick_lateness_ms: Option<u32>,
    /// How late its event loop was in the last second, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loop_lag_ms: Option<u32>,
    /// Resident memory of its process, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Rooms opened since its process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rooms_served: Option<u32>,
}

impl Measured {
    /// The same beside so many connections, as the caps of a fleet judge it.
    #[must_use]
    pub const fn strain(&self, connections: u32) -> Strain {
        Strain { connections, tick_lateness_ms: self.tick_lateness_ms, loop_lag_ms: self.loop_lag_ms }
    }

    /// Whether nobody measured anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Agent to server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToServer {
    /// Answer to `Hello`.
    Welcome {
        /// [`VERSION`].
        version: u32,
        /// Keys that JoinTokens are checked with; empty until control was reached once.
        keys: PublicKeys,
    },
    /// The keys changed.
    Keys {
        /// All that are valid now.
        keys: PublicKeys,
    },
    /// The result has arrived at control for good.
    RoomEndedAck {
        /// The room.
        room: Text<RoomId>,
        /// Its epoch.
        epoch: u32,
    },
    /// Answer to [`FromServer::Ending`].
    Ending {
        /// What comes after the process.
        successor: Successor,
    },
    /// End this room if it has this epoch or a lower one.
    CloseRoom {
        /// The room.
        room: Text<RoomId>,
        /// Upper bound, inclusive.
        epoch: u32,
        /// Told to its players.
        reason: EndReason,
    },
    /// A mesh broadcast of another server.
    Deliver(Relay),
    /// Anything else of another server.
    Mesh(MeshTold),
    /// Who was asked, told before any of them can have answered.
    MeshAsked {
        /// The question.
        ask: u64,
        /// All that got it.
        peers: Vec<Text<InstanceId>>,
    },
    /// What the board says.
    Backplane(Told),
}

/// What comes after a process that ends. Its agent alone knows: the same signal comes before a restart and a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Successor {
    /// Another process of the same server, on the same port: rooms that are kept go on there.
    Process,
    /// Nothing: the server ends for good, and its rooms with it.
    Nobody,
}

/// A word from one server to its peers by way of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeshSend {
    /// The one that it is for; absent: every other server of the fleet on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Text<InstanceId>>,
    /// The number of a question, in the question and in its answers; the asker's own count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<u64>,
    /// What it says.
    pub message: MeshMessage,
}

/// The same as the peer gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeshTold {
    /// Who sent it.
    pub from: Text<InstanceId>,
    /// As in [`MeshSend`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<u64>,
    /// As in [`MeshSend`].
    pub message: MeshMessage,
}

/// What servers of a mesh tell and ask each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum MeshMessage {
    /// Puts sockets into a group.
    Join {
        /// Whom.
        scope: MeshScope,
        /// The group.
        group: String,
    },
    /// Takes sockets out of a group.
    Leave {
        /// Whom.
        scope: MeshScope,
        /// The group.
        group: String,
    },
    /// Disconnects sockets.
    Disconnect {
        /// Whom.
        scope: MeshScope,
        /// Whether their whole connections end.
        is_transport: bool,
    },
    /// An event for the servers themselves.
    Event {
        /// The namespace whose handlers hear it.
        namespace: String,
        /// An encoded Socket.IO event without attachments.
        packet: String,
    },
    /// Asks for the sockets.
    Fetch {
        /// Which.
        scope: MeshScope,
    },
    /// Answers [`Self::Fetch`].
    Sockets {
        /// Those of one server.
        sockets: Vec<MeshSocket>,
    },
    /// An event that every receiver must answer.
    Ask {
        /// The event and its receivers.
        relay: Relay,
        /// How long they have.
        timeout_ms: u64,
    },
    /// Answers [`Self::Ask`].
    Answers {
        /// What was answered on one server.
        replies: Vec<MeshReply>,
        /// Who did not answer there: id, empty where it is not known, and `timed_out`, `disconnected`, `too_many` or
        /// `unsendable`.
        missing: Vec<(String, String)>,
    },
    /// Answers [`Self::Event`] where its [`MeshSend`] asked.
    Reply {
        /// An encoded Socket.IO ack without attachments; none where nobody there handles the event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        packet: Option<String>,
    },
}

/// Sockets of a namespace that are in `groups` and not in `except`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshScope {
    /// Namespace, `/` first.
    pub namespace: String,
    /// Groups; empty: everybody.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Groups to leave out; a socket's own id is a group.
    #[serde(default)]
    pub except: Vec<String>,
}

/// One socket as other servers see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeshSocket {
    /// Its public id.
    pub id: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// The program's data.
    pub data: serde_json::Value,
    /// `ip:port` of the client, or of its proxy.
    pub address: String,
    /// Path and query that the session was opened with.
    pub url: String,
}

/// What one socket answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshReply {
    /// Its public id; empty where it is not known.
    pub socket: String,
    /// The encoded Socket.IO ack.
    pub packet: String,
    /// Its binary attachments, standard base64.
    #[serde(default)]
    pub attachments: Vec<String>,
}

/// One Socket.IO packet for all sockets of a namespace that are in `groups` and not in `except`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// Namespace, `/` first.
    pub namespace: String,
    /// Groups to reach; empty: everybody.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Groups to leave out; a socket's own id is a group.
    #[serde(default)]
    pub except: Vec<String>,
    /// The encoded Socket.IO text packet.
    pub packet: String,
    /// Its binary attachments, standard base64.
    #[serde(default)]
    pub attachments: Vec<String>,
}
