//! What must be true of every run.
//!
//! Never mends anything: a run ends at its first violation.

use greenroom_core::{FleetName, InstanceId, PlayerId, RoomId, RoomKey, ServerName};
use greenroom_wire::api::FleetStatus;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at {at_ms} ms: {broken}")]
pub struct Violation {
    /// Simulated milliseconds since the run began.
    pub at_ms: u64,
    /// Which promise.
    pub broken: Broken,
}

/// Which promise was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A start was ordered beyond the fleet's bound.
    #[error("fleet {fleet} was started to {replicas} gameservers, replicas_max is {replicas_max}")]
    AboveMaximum {
        /// The fleet.
        fleet: FleetName,
        /// Live servers after the start.
        replicas: u32,
        /// The bound.
        replicas_max: u32,
    },
    /// A server with players on it was told to stop.
    #[error("gameserver {server} was told to stop with {players} players on it")]
    BusyStopped {
        /// The server.
        server: ServerName,
        /// Players on it.
        players: usize,
    },
    /// Two rooms of one key lived at the same time.
    #[error("key {key} has two live rooms, {one} and {other}")]
    KeyTwice {
        /// The key.
        key: RoomKey,
        /// One room.
        one: RoomId,
        /// The other.
        other: RoomId,
    },
    /// Two players were promised the same seat.
    #[error("seat {seat} of room {room} was promised to {newcomer} while {holder} sits there")]
    SeatTwice {
        /// The room.
        room: RoomId,
        /// The seat.
        seat: u16,
        /// Who sits there.
        holder: PlayerId,
        /// Who came with a valid token.
        newcomer: PlayerId,
    },
    /// More rooms were promised on a process than it may hold.
    #[error("instance {instance} holds {rooms} rooms, {rooms_max} are allowed")]
    Crowded {
        /// The process.
        instance: InstanceId,
        /// Its rooms.
        rooms: usize,
        /// The bound.
        rooms_max: u16,
    },
    /// A call was not answered in time.
    #[error("request {request} was not answered {late_ms} ms after its deadline")]
    Unanswered {
        /// Its number.
        request: u64,
        /// How late it is.
        late_ms: u64,
    },
    /// A call was answered twice, or never asked.
    #[error("request {request} was answered although nobody waits for it")]
    AnsweredTwice {
        /// Its number.
        request: u64,
    },
    /// The same idempotency key got another answer.
    #[error("idempotency key {key} was answered with room {first} and then with {second}")]
    AnswerChanged {
        /// The key.
        key: String,
        /// The first answer's room and tokens.
        first: String,
        /// The second's.
        second: String,
    },
    /// A fleet is short of what it wants and does not say why.
    #[error("fleet {fleet} has {ready} ready of {wanted} wanted and waits on nothing")]
    ShortWithoutReason {
        /// The fleet.
        fleet: FleetName,
        /// Ready servers.
        ready: u32,
        /// Wanted ones.
        wanted: u32,
    },
    /// A room's result never reached the webhook.
    #[error("the result of room {room} (epoch {epoch}) was never delivered")]
    ResultLost {
        /// The room.
        room: RoomId,
        /// Its epoch.
        epoch: u32,
    },
    /// The cluster did not come to rest after the last fault.
    #[error("not at rest {waited_ms} ms after the last fault and the last player: {why}")]
    NoRest {
        /// How long it was waited for.
        waited_ms: u64,
        /// What is still moving.
        why: String,
    },
}

/// A fleet that is short says why. To be asked right after a step of planning.
pub(crate) fn short_fleet_says_why(fleet: &FleetStatus) -> Result<(), Broken> {
    if fleet.ready < fleet.replicas_wanted && fleet.waiting_on.is_empty() {
        let (ready, wanted) = (fleet.ready, fleet.replicas_wanted);
        return Err(Broken::ShortWithoutReason { fleet: fleet.name.0.clone(), ready, wanted });
    }
    Ok(())
}

/// A start that was just ordered leaves the fleet within its bound.
pub(crate) fn start_within_maximum(fleet: &FleetStatus) -> Result<(), Broken> {
    if fleet.replicas > fleet.replicas_max {
        let (replicas, replicas_max) = (fleet.replicas, fleet.replicas_max);
        return Err(Broken::AboveMaximum { fleet: fleet.name.0.clone(), replicas, replicas_max });
    }
    Ok(())
}
