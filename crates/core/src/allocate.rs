//! Which GameServer a new room, or a player of a mesh fleet, is sent to.
//!
//! Never reserves anything: the caller records the promise before it asks again.

use std::cmp::Reverse;

use crate::fleet::{Fleet, FleetKind};
use crate::gameserver::{GameServer, State};
use crate::{FleetName, ServerName};

/// Why no server was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// Nothing that is ready has room. Worth waiting for: the fleet may grow.
    #[error(
        "no ready gameserver in fleet {fleet} has a free room ({ready} ready, {full} full, {starting} starting, {unhealthy} unhealthy)"
    )]
    NoCapacity {
        /// The fleet that was asked.
        fleet: FleetName,
        /// Servers that answer.
        ready: u32,
        /// Of those, with no room free.
        full: u32,
        /// Not answering yet.
        starting: u32,
        /// Not handed out.
        unhealthy: u32,
    },
}

/// Why no server was chosen for a player of a mesh fleet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Nothing answers. Worth waiting for: servers may be starting.
    #[error("no gameserver in fleet {fleet} is ready ({starting} starting, {unhealthy} unhealthy)")]
    NoneReady {
        /// The fleet that was asked.
        fleet: FleetName,
        /// Not answering yet.
        starting: u32,
        /// Not handed out.
        unhealthy: u32,
    },
}

/// The server that a new room goes to: of those that are handed out and have a room free, one of the current revision
/// before others, the fullest of them (so that empty ones may be stopped), the first by name.
///
/// `servers` may hold servers of other fleets; they are left out. Asking again without recording the promise gives the
/// same answer.
///
/// # Errors
/// [`AllocateError::NoCapacity`] when there is none; always for a mesh fleet, whose servers hold no rooms.
pub fn choose_for_room(fleet: &Fleet, servers: &[GameServer]) -> Result<ServerName, AllocateError> {
    let rooms_per_server = match fleet.kind {
        FleetKind::Room { rooms_per_server, .. } => rooms_per_server,
        FleetKind::Mesh => 0,
    };
    of_fleet(fleet, servers)
        .filter(|server| server.rooms_free(rooms_per_server) > 0)
        .min_by_key(|server| (server.revision != fleet.revision, Reverse(server.rooms), &server.name))
        .map(|server| server.name.clone())
        .ok_or_else(|| AllocateError::NoCapacity {
            fleet: fleet.name.clone(),
            ready: count(fleet, servers, State::takes_players),
            full: count(fleet, servers, State::takes_players),
            starting: count(fleet, servers, |state| state == State::Starting),
            unhealthy: count(fleet, servers, |state| state == State::Unhealthy),
        })
}

/// The server that one more player is sent to: of those that are handed out, the one with the least connections and
/// answers in flight, of equals one of the current revision, then the first by name.
///
/// `servers` may hold servers of other fleets; they are left out. The caller counts the answer as in flight before it
/// asks again, else everybody is sent to the same server.
///
/// # Errors
/// [`EndpointError::NoneReady`] when nothing answers.
pub fn choose_for_player(fleet: &Fleet, servers: &[GameServer]) -> Result<ServerName, EndpointError> {
    of_fleet(fleet, servers)
        .filter(|server| server.state.takes_players())
        .min_by_key(|server| {
            let load = u64::from(server.connections) + u64::from(server.in_flight);
            (load, server.revision != fleet.revision, &server.name)
        })
        .map(|server| server.name.clone())
        .ok_or_else(|| EndpointError::NoneReady {
            fleet: fleet.name.clone(),
            starting: count(fleet, servers, |state| state == State::Starting),
            unhealthy: count(fleet, servers, |state| state == State::Unhealthy),
        })
}

fn of_fleet<'a>(fleet: &Fleet, servers: &'a [GameServer]) -> impl Iterator<Item = &'a GameServer> {
    servers.iter().filter(|server| server.fleet == fleet.name)
}

fn count(fleet: &Fleet, servers: &[GameServer], matches: fn(State) -> bool) -> u32 {
    u32::try_from(of_fleet(fleet, servers).filter(|server| matches(server.state)).count()).unwrap_or(u32::MAX)
}
