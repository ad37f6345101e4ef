//! The agent protocol, version 1: one WebSocket per agent at `/v1/agents/stream`, one JSON message per text frame.
//!
//! The agent opens it and says `Hello`; control answers `Welcome`. Reports are whole, never deltas: control may miss
//! any number of them. Orders carry the `term`; an agent refuses one below the highest it has seen. Of several replicas each gets the
//! reports, and the one that is obeyed everything else.

use std::collections::BTreeMap;

use greenroom_core::{FleetName, HostName, InstanceId, Revision, RoomId, ServerName};
use serde::{Deserialize, Serialize};

use crate::Text;
use crate::link::Measured;
use crate::rooms::{EndReason, RoomEnded, RoomReport};
use crate::secret::SecretRef;
use crate::token::PublicKeys;

/// This protocol's version; control refuses another one with a close reason that names both.
pub const VERSION: u32 = 1;

/// How the message of a server begins that has ended because it was told to, or asked for it: it did not fail.
pub const STOPPED: &str = "stopped (";

/// Agent to control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromAgent {
    /// First message.
    Hello(Hello),
    /// Every second and at once on change, to every replica whose stream is open.
    Report(Report),
    /// A room has ended; repeated until `RoomEndedAck`.
    RoomEnded {
        /// On which server.
        server: Text<ServerName>,
        /// In which process of it.
        instance: Text<InstanceId>,
        /// The room and its result.
        ended: RoomEnded,
    },
    /// An order was refused: its term is old, or it cannot be carried out. Nothing was changed.
    Refused {
        /// The server the order was about.
        server: Text<ServerName>,
        /// Why, for people.
        message: String,
    },
    /// Which gameservers has this fleet? Answered by `Peers`, but not before every known agent has reported.
    ReadPeers {
        /// The fleet.
        fleet: Text<FleetName>,
    },
    /// Answer to `ReadLogs`.
    Logs {
        /// As asked.
        request: u64,
        /// The piece, or why there is none.
        outcome: Result<crate::api::LogsAnswer, String>,
    },
}

/// Who the agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// The host; a second live agent of the same host is refused.
    pub host: Text<HostName>,
    /// Random per agent process: tells a reconnect from a second agent.
    pub boot: String,
    /// Labels of the host.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Most servers it may hold: its ports.
    pub servers_max: u32,
    /// Highest term this agent has obeyed; control's must be above.
    pub term_seen: u64,
    /// Whether it wants to be told [`ToAgent::Occupied`], because an engine around it must know. Left out when not; agents of
    /// before this message do not know it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wants_occupied: bool,
    /// Whether it can run servers that ask for [`StartOrder::agones`]. Left out when not; agents of before do not know it, and get
    /// none of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub agones: bool,
}

impl Hello {
    /// From here on a term is believed of the store alone: an agent that is broken or hostile could otherwise use the terms up, and
    /// nobody could lead any more.
    pub const TERM_TOLD_MAX: u64 = 1 << 62;

    /// Whether an agent can have seen the term that it tells, where `known` is the highest one that control knows of.
    #[must_use]
    pub const fn is_term_credible(&self, known: u64) -> bool {
        self.term_seen <= known || self.term_seen < Self::TERM_TOLD_MAX
    }
}

/// Everything that runs on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When it was made, by the host's clock, in Unix milliseconds: it may be read much later. `None` from agents that
    /// do not tell; it counts as made when it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// The highest term that the agent had heard when it made this, told to the replica that it obeys. 0 to all others: they
    /// see, and plan nothing by it. `None` from agents that report to the obeyed replica alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// Why the engine around the agent does not keep this host, or did not take it in. Left out when there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
    /// All servers that were started and not yet forgotten, by name. Ended ones are told once more after they ended.
    pub servers: Vec<ServerReport>,
}

/// One server as its agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReport {
    /// Its name.
    pub server: Text<ServerName>,
    /// Its present process.
    pub instance: Text<InstanceId>,
    /// Its fleet.
    pub fleet: Text<FleetName>,
    /// What it runs.
    pub revision: Text<Revision>,
    /// Where the process stands.
    pub phase: ProcessPhase,
    /// `host:port` players dial.
    pub endpoint: String,
    /// Whether that port speaks TLS. Left out when it does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Process id; absent while not running.
    pub pid: Option<u32>,
    /// Processes started again after one died.
    pub restarts: u32,
    /// Unix milliseconds of the first start.
    pub started_at_ms: u64,
    /// Transport connections.
    pub connections: u32,
    /// Its live rooms.
    pub rooms: Vec<RoomReport>,
    /// Whether its present process has told its rooms on a link, or has said over the SDK that it is in use no longer. One that has not
    /// tells nothing of its rooms, so that their absence means nothing. Left out when true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub linked: bool,
    /// Its rooms may outlive its process, as the last one that told of rooms has said. Left out when not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_rooms: bool,
    /// What it measured of itself, and its agent of its process.
    #[serde(default, skip_serializing_if = "Measured::is_empty")]
    pub measured: Measured,
    /// Labels that its process has set over the SDK.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whether its process said over the SDK that it is in use (`Allocate`, `Reserve`): busy, and nothing new for it. Left out when
    /// not. A control plane that has not said [`ToAgent::Welcome`]'s `hears_held` is told of one connection as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Why it is not `Ready`, or how the last process ended; empty when there is nothing to say.
    pub message: String,
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_yes(linked: &bool) -> bool {
    *linked
}

/// Where a server's process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessPhase {
    /// Started; its probe has not passed yet.
    Starting,
    /// Its probe passes and it is heard.
    Ready,
    /// It was ready; now its probe fails or it has been silent for 3 s.
    Unhealthy,
    /// It died and is started again after a pause.
    Restarting,
    /// Told to stop; SIGTERM sent.
    Stopping,
    /// Ended for good: told to stop, or died too often (see `message`).
    Ended,
}

/// Control to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToAgent {
    /// Answer to `Hello`.
    Welcome {
        /// [`VERSION`].
        version: u32,
        /// The control process's term.
        term: u64,
        /// Keys that JoinTokens are checked with; replaced whole by each `Keys`.
        keys: PublicKeys,
        /// Whether it reads [`ServerReport::held`]. Left out when not.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        hears_held: bool,
    },
    /// The keys changed.
    Keys {
        /// All that are valid now.
        keys: PublicKeys,
    },
    /// Start this server. Repeating it for a server that exists changes nothing.
    Start {
        /// Fencing token.
        term: u64,
        /// What to start.
        order: Box<StartOrder>,
    },
    /// Stop this server: SIGTERM to its process group, grace, SIGKILL. Repeating it changes nothing.
    Stop {
        /// Fencing token.
        term: u64,
        /// Which.
        server: Text<ServerName>,
        /// Why, for the log.
        reason: String,
    },
    /// Start this server's process anew on the same port: SIGTERM, grace, SIGKILL, start. Its kept rooms go on there, others end. One that
    /// waits to be started again after a death is started at once.
    Restart {
        /// Fencing token.
        term: u64,
        /// Which.
        server: Text<ServerName>,
        /// Why, for the log.
        reason: String,
    },
    /// End this room if it is older than `epoch` or unknown to control.
    CloseRoom {
        /// Fencing token.
        term: u64,
        /// On which server.
        server: Text<ServerName>,
        /// The room.
        room: Text<RoomId>,
        /// Rooms of this or a lower epoch are closed.
        epoch: u32,
        /// Told to its players.
        reason: EndReason,
    },
    /// The result is stored; forget it.
    RoomEndedAck {
        /// The room.
        room: Text<RoomId>,
        /// Its epoch.
        epoch: u32,
    },
    /// Answer to `ReadPeers`.
    Peers {
        /// As asked.
        fleet: Text<FleetName>,
        /// Its gameservers, at most 10,000, or why there are none to tell.
        outcome: Result<Vec<crate::api::GameserverStatus>, String>,
    },
    /// Whether stopping this host would hurt somebody, as control sees it: rooms and answers that were promised and that the
    /// host has not heard of count. Said after the first report of a session, and whenever it changes; the last word holds,
    /// also while control is away.
    Occupied {
        /// Whether it would.
        occupied: bool,
    },
    /// Read a piece of a server's output.
    ReadLogs {
        /// Chosen by control, for the answer.
        request: u64,
        /// Whose output.
        server: Text<ServerName>,
        /// From where; `None`: the last `bytes_max` bytes.
        offset: Option<u64>,
        /// At most 262,144.
        bytes_max: u32,
    },
}

/// All an agent must know to run a server, now and after its own restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartOrder {
    /// Its name.
    pub server: Text<ServerName>,
    /// Its fleet.
    pub fleet: Text<FleetName>,
    /// What it runs.
    pub revision: Text<Revision>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment, added to the injected one.
    pub env: BTreeMap<String, String>,
    /// Variables whose values are secrets: where the agent finds each, `env:NAME` or `file:PATH`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Text<SecretRef>>,
    /// How readiness is proven.
    pub probe: ProbeWord,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub stop_grace_ms: u64,
    /// Milliseconds for which a new process must pass its probe without a break before it is [`ProcessPhase::Ready`]. Left out when 0;
    /// agents that do not know it take the first pass for enough.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_ready_ms: u64,
    /// Rooms it may hold; 0 for `mesh`.
    pub rooms_per_server: u16,
    /// Seats per room; 0 for `mesh`.
    pub seats_per_room: u16,
    /// First and last port it may get. Absent: out of the agent's own range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<(u16, u16)>,
    /// Whether it gets a port of its own on loopback for a shipped Agones SDK. Left out when not; ordered only from agents that have
    /// said [`Hello::agones`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub agones: bool,
}

/// Whether a span is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_zero(span_ms: &u64) -> bool {
    *span_ms == 0
}

/// How readiness is proven, on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeWord {
    /// A whole Engine.IO handshake.
    EngineIo,
    /// A TCP accept.
    Tcp,
    /// `GET` of this path answers 2xx.
    Http(String),
    /// The server says so itself, over the SDK, and then again and again that it lives.
    Sdk {
        /// Milliseconds without such a word after which it is unhealthy.
        silence_ms: u64,
    },
}
