//! Why a call is refused: what it means, for people and for programs.
//!
//! Never an HTTP status: that follows from the code, in `http`.

use std::time::Duration;

use greenroom_core::allocate::{AllocateError, EndpointError};
use greenroom_core::{FleetName, HostName, PlayerId, RoomId, ServerName, TicketId};
use greenroom_wire::api::DrainKind;
use greenroom_wire::error::Code;
use greenroom_wire::rooms::EndReason;

/// Why a call is refused. Nothing was changed by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request cannot be meant. Mend it.
    #[error("{0}")]
    Malformed(String),
    /// Ask for a fleet that exists.
    #[error("there is no fleet {fleet}; there are: {known}")]
    FleetNotFound {
        /// Asked for.
        fleet: FleetName,
        /// Names, comma-separated.
        known: String,
    },
    /// The server is gone, or never was.
    #[error("there is no gameserver {0}")]
    ServerNotFound(ServerName),
    /// There is no such host, and none in such a zone, and no order to take back. Look at the hosts.
    #[error("there is no host to drain: no {kind} {name:?} is known; `get hosts` tells what there is")]
    NothingToDrain {
        /// What was asked for.
        kind: DrainKind,
        /// Its name.
        name: String,
    },
    /// No trigger watches it: mend the name, or add a trigger.
    #[error("no trigger watches custom.{metric}; {known}")]
    NobodyWatches {
        /// As it was called.
        metric: String,
        /// Names that are watched.
        known: String,
    },
    /// The room has ended, or never was.
    #[error("there is no room {0}; it may have ended")]
    RoomNotFound(RoomId),
    /// The room has ended otherwise than by the caller's word, and its result is told.
    #[error("room {room} has ended already ({}); this result is not taken", reason.name())]
    RoomOver {
        /// The room.
        room: RoomId,
        /// How it ended.
        reason: EndReason,
    },
    /// The caller holds the room under another epoch than its owner.
    #[error("room {room} has epoch {has}, not {asked}")]
    EpochMismatch {
        /// The room.
        room: RoomId,
        /// Told by the caller.
        asked: u32,
        /// The present one.
        has: u32,
    },
    /// The ticket was never filed, was cancelled, or was assigned long ago.
    #[error("there is no ticket {0}")]
    TicketNotFound(TicketId),
    /// The fleet serves otherwise.
    #[error("fleet {fleet} is of kind {kind}: {}", .instead.replace("{fleet}", .fleet.as_str()))]
    WrongKind {
        /// The fleet.
        fleet: FleetName,
        /// Its kind.
        kind: &'static str,
        /// What to call.
        instead: &'static str,
    },
    /// The room lives but is full; nothing was reserved.
    #[error("room {room} has {free} free seats, {asked} more are asked for")]
    RoomFull {
        /// The room.
        room: RoomId,
        /// Free seats.
        free: usize,
        /// Seats that the players without one need.
        asked: usize,
    },
    /// A player plays or waits already.
    #[error("player {player} has {holds} already")]
    AlreadyAssigned {
        /// Who.
        player: PlayerId,
        /// `ticket <id>` or `room <id>`.
        holds: String,
    },
    /// The key was used for another request; use a new one.
    #[error("idempotency key {0} was used for another request")]
    IdempotencyMismatch(String),
    /// A bound is reached; ask again later.
    #[error("{max} {what} wait already")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// Nothing was free before the deadline.
    #[error(transparent)]
    NoCapacity(#[from] AllocateError),
    /// Nothing answered before the deadline.
    #[error(transparent)]
    NoneReady(#[from] EndpointError),
    /// Whether the thing lives is not known.
    #[error("host {host} has been silent for {} s; whether what runs there lives is not known yet", .silent.as_secs())]
    HostSuspect {
        /// The host.
        host: HostName,
        /// For how long.
        silent: Duration,
    },
    /// This process has just started.
    #[error("the control plane has just started and waits for the agents of: {hosts}")]
    Rebuilding {
        /// Names, comma-separated.
        hosts: String,
    },
    /// The agent could not do it.
    #[error("the agent of gameserver {server} answered: {message}")]
    Agent {
        /// About which server.
        server: ServerName,
        /// Its words.
        message: String,
    },
}

impl Refusal {
    /// The stable word for programs.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::BadRequest,
            Self::FleetNotFound { .. } => Code::FleetNotFound,
            Self::ServerNotFound(_) => Code::GameserverNotFound,
            Self::RoomNotFound(_) | Self::RoomOver { .. } | Self::EpochMismatch { .. } => Code::RoomNotFound,
            Self::NothingToDrain { .. } | Self::NobodyWatches { .. } => Code::NotFound,
            Self::TicketNotFound(_) => Code::TicketNotFound,
            Self::WrongKind { .. } => Code::WrongKind,
            Self::RoomFull { .. } => Code::RoomFull,
            Self::AlreadyAssigned { .. } => Code::AlreadyAssigned,
            Self::IdempotencyMismatch(_) => Code::IdempotencyMismatch,
            Self::TooMany { .. } => Code::TooMany,
            Self::NoCapacity(_) | Self::NoneReady(_) => Code::NoCapacity,
            Self::HostSuspect { .. } => Code::HostSuspect,
            Self::Rebuilding { .. } => Code::Rebuilding,
            Self::Agent { .. } => Code::Internal,
        }
    }
}
