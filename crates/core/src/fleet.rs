//! How many GameServers a fleet should have, and the next step towards it.
//!
//! Never starts or stops anything.

mod backoff;
mod full_at;
mod plan;
mod recycle;

pub use backoff::{BACKOFF_FIRST, BACKOFF_MAX, BACKOFF_QUIET, Backoff};
pub use full_at::{Full, FullAt, Strain};
pub use plan::{CORDON_WAIT, UNHEALTHY_STOP_AFTER, plan};
pub use recycle::{Recycle, Wear, Worn};

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::allocate::Preference;
use crate::autoscale::Autoscale;
use crate::matchmake::Rules;
use crate::placement::Spread;
use crate::{FleetName, HostName, Revision, ServerName, Timestamp};

/// What the servers of a fleet are for (source 002's two clusters).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FleetKind {
    /// Pinned rooms: one room lives on one server, allocated with seats.
    Room {
        /// Rooms one server may hold at once. At least 1.
        rooms_per_server: u16,
        /// Seats of one room. At least 1.
        seats_per_room: u16,
    },
    /// Every server is as good as any other; broadcasts cross servers.
    Mesh,
}

/// How a server proves that it can serve: each time on its public port, or by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A whole Engine.IO handshake, then an orderly close. For Socket.IO servers; the default.
    EngineIo,
    /// A TCP accept, for servers that speak neither.
    Tcp,
    /// `GET` of this path answers 2xx.
    Http(String),
    /// It says over the SDK that it is ready, and then, at least this often, that it lives. For servers that nobody can
    /// ask from outside: those of UDP.
    Sdk {
        /// Longest silence. Default [`Probe::SDK_SILENCE`].
        silence: Duration,
    },
}

impl Probe {
    /// Three times the five seconds in which Agones expects a word.
    pub const SDK_SILENCE: Duration = Duration::from_secs(15);
}

/// What is run, whoever runs it. Its hash is the [`Revision`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Program and arguments. Never empty.
    pub command: Vec<String>,
    /// Environment, added to what Greenroom injects.
    pub env: BTreeMap<String, String>,
    /// Variables whose values are secrets: where each is found, never what it is.
    pub secrets: BTreeMap<String, SecretSource>,
    /// How readiness is proven.
    pub probe: Probe,
    /// Time between SIGTERM and SIGKILL. Default 10 s.
    pub stop_grace: Duration,
    /// For how long a new process must pass its probe without a break before it takes players. Default 0: once is enough.
    pub min_ready: Duration,
    /// Whether each server gets a port on loopback where shipped Agones SDKs find theirs. Default not: whoever finds the port is
    /// believed.
    pub agones: bool,
}

/// Where the value of a variable is found by whoever starts the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource {
    /// `env:NAME` or `file:PATH`, as the agent understands it.
    pub from: String,
    /// The user's own word for the present value: another word makes another revision. Empty by default.
    pub version: String,
}

/// What somebody asked for: one fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Its name.
    pub name: FleetName,
    /// What it is for.
    pub kind: FleetKind,
    /// What its servers run.
    pub template: Template,
    /// Hash of `template` and of what of `kind` the servers see.
    pub revision: Revision,
    /// Servers kept even when nobody plays.
    pub replicas_min: u32,
    /// Never more servers than this.
    pub replicas_max: u32,
    /// Who is matched into this fleet with whom. No part of the revision.
    pub matching: Rules,
    /// How many servers it should have between the two, and how fast that may change. No part of the revision.
    pub autoscale: Autoscale,
    /// Which server the next room or player goes to. No part of the revision.
    pub allocation: Preference,
    /// Among what its servers are spread. Default: hosts.
    pub spread: Spread,
    /// How long a server may take to answer before it is replaced. Default 60 s.
    pub start_timeout: Duration,
    /// When a server has done enough and is replaced. Default never. No part of the revision.
    pub recycle: Recycle,
    /// When a server gets nothing new though it has places. Default never. No part of the revision.
    pub full_at: FullAt,
    /// The ports of its servers on each host, both ends included. `None`: out of the host's own range. No part of the
    /// revision: servers that run keep their port.
    pub ports: Option<RangeInclusive<u16>>,
}

/// How many servers there should be: what [`crate::autoscale::decide`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Healthy servers, starting ones counted; at most `replicas_max`.
    pub replicas: u32,
    /// How many more there should be were `replicas_max` higher. Only told, never started.
    pub beyond: u32,
}

/// What one host carries, of all fleets: the one that empties soonest is emptied first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct HostLoad {
    /// Servers with somebody on them.
    pub busy: u32,
    /// Live servers in all.
    pub servers: u32,
}

/// What the hosts of a fleet carry. One that is not here carries nothing.
pub type HostLoads = BTreeMap<HostName, HostLoad>;

/// Bounds of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most actions in one plan. At least 1.
    pub actions_max: usize,
}

/// One step. May be repeated without harm: control de-duplicates by server name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start one more server of the fleet's current revision; control names and places it.
    Start,
    /// Give nothing new to this server, which was to go: it is stopped once it is empty.
    Cordon {
        /// Which.
        server: ServerName,
        /// Why.
        reason: StopReason,
    },
    /// Give players to this server again: it is needed after all, or somebody came to it in the last moment.
    Uncordon {
        /// Which.
        server: ServerName,
    },
    /// Stop this server: it is empty and cordoned, or dead.
    Stop {
        /// Which.
        server: ServerName,
        /// Why.
        reason: StopReason,
    },
}

/// Why a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Not needed for the target.
    Surplus,
    /// Runs a revision the fleet no longer has, and is idle.
    Outdated,
    /// Unhealthy for too long with nobody on it.
    Unhealthy,
    /// Did not answer within `start_timeout` of its fleet.
    NeverReady,
    /// Has done enough, by the fleet's [`Recycle`].
    Worn(Worn),
    /// Was told so by a leader before this one, and runs all the same: the order was lost with that leader.
    ToldBefore,
    /// A person has taken its host, or the host's zone, out of use.
    HostDrained,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Surplus => f.write_str("surplus"),
            Self::Outdated => f.write_str("outdated"),
            Self::Unhealthy => f.write_str("unhealthy"),
            Self::NeverReady => f.write_str("did not answer within its fleet's start_timeout"),
            Self::Worn(worn) => worn.fmt(f),
            Self::ToldBefore => f.write_str("was told to stop before"),
            Self::HostDrained => f.write_str("its host is drained"),
        }
    }
}

/// Why a fleet is short of its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// These many servers start and do not answer yet.
    Starting(u32),
    /// These many servers are unhealthy; replacements count against `replicas_max`.
    Unhealthy(u32),
    /// The demand would need more servers than `replicas_max`.
    AtMaximum {
        /// How many would be needed.
        wanted: u32,
        /// The bound.
        replicas_max: u32,
    },
}

/// The next step of one fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Plan {
    /// How many live servers the fleet should have now.
    pub replicas_wanted: u32,
    /// At most `limits.actions_max`; each may be repeated without harm.
    pub actions: Vec<Action>,
    /// Why the fleet is still short of its target; shown to users.
    pub waiting_on: Vec<Reason>,
    /// When time alone would change this plan.
    pub wake_at: Option<Timestamp>,
}
