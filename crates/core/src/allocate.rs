//! Which GameServer a new room, or a player of a mesh fleet, is sent to.
//!
//! Never reserves anything: the caller records the promise before it asks again.

mod candidates;
mod selector;

pub use candidates::{Candidates, Chosen, Why};
pub use selector::Selector;

use crate::FleetName;
use crate::fleet::{Fleet, FleetKind};
use crate::gameserver::{GameServer, State};

/// Which of the servers that could take one more is preferred. For a new room those of the fleet's current revision come
/// first always; for a player of a mesh they break ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// The fullest that has a place: servers fill one after the other, and empty ones may be stopped. The default of
    /// room fleets; a mesh has no full servers and cannot have it.
    #[default]
    Packing,
    /// The one with the least on it: rooms, then connections; of a mesh connections. The default of mesh fleets.
    LeastConnected,
    /// The less loaded of two drawn at random: nearly as even, and a stale report cannot send everybody to one server.
    PowerOfTwo,
}

impl Preference {
    /// Its name in configurations and explanations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packing => "packing",
            Self::LeastConnected => "least_connected",
            Self::PowerOfTwo => "power_of_two",
        }
    }

    /// What a fleet of this kind has when nobody says.
    #[must_use]
    pub const fn of(kind: FleetKind) -> Self {
        match kind {
            FleetKind::Room { .. } => Self::Packing,
            FleetKind::Mesh => Self::LeastConnected,
        }
    }
}

/// Why no server was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// Nothing that is ready has room. Worth waiting for: the fleet may grow.
    #[error(
        "no ready gameserver in fleet {fleet} has a free room ({ready} ready, {full} full{}, {starting} starting, {unhealthy} unhealthy)",
        beyond(*strained)
    )]
    NoCapacity {
        /// The fleet that was asked.
        fleet: FleetName,
        /// Servers that answer.
        ready: u32,
        /// Of those, with no room free.
        full: u32,
        /// And those of them that have reached a cap of [`FullAt`](crate::fleet::FullAt).
        strained: u32,
        /// Not answering yet.
        starting: u32,
        /// Not handed out.
        unhealthy: u32,
    },
    /// None of the servers is one that the caller would take. Worth waiting for only if one may come.
    #[error(
        "no ready gameserver in fleet {fleet} with {selector} has a free room ({matching} of {ready} ready match)"
    )]
    NoneMatches {
        /// The fleet that was asked.
        fleet: FleetName,
        /// What was asked for.
        selector: Selector,
        /// Servers that answer and match.
        matching: u32,
        /// Servers that answer.
        ready: u32,
    },
}

/// Why no server was chosen for a player of a mesh fleet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Nothing answers. Worth waiting for: servers may be starting.
    #[error("no gameserver in fleet {fleet} is ready{} ({starting} starting, {unhealthy} unhealthy)", beyond(*strained))]
    NoneReady {
        /// The fleet that was asked.
        fleet: FleetName,
        /// Those that answer, and have reached a cap of [`FullAt`](crate::fleet::FullAt).
        strained: u32,
        /// Not answering yet.
        starting: u32,
        /// Not handed out.
        unhealthy: u32,
    },
    /// None of those that answer is one that the caller would take.
    #[error("none of the {ready} ready gameservers in fleet {fleet} has {selector}")]
    NoneMatches {
        /// The fleet that was asked.
        fleet: FleetName,
        /// What was asked for.
        selector: Selector,
        /// Servers that answer.
        ready: u32,
    },
}

/// Why no server can take a room now. To be asked when [`Candidates::choose`] found none.
#[must_use]
pub fn no_room(fleet: &Fleet, servers: &[GameServer], selector: &Selector) -> AllocateError {
    let ready = count(fleet, servers, |server| server.state.takes_players());
    if selector.is_any() {
        let strained = count(fleet, servers, is_strained);
        return AllocateError::NoCapacity {
            fleet: fleet.name.clone(),
            ready,
            full: ready.saturating_sub(strained),
            strained,
            starting: count(fleet, servers, |server| server.state == State::Starting),
            unhealthy: count(fleet, servers, |server| server.state == State::Unhealthy),
        };
    }
    AllocateError::NoneMatches {
        fleet: fleet.name.clone(),
        selector: selector.clone(),
        matching: count(fleet, servers, |server| server.state.takes_players() && selector.matches(server)),
        ready,
    }
}

/// Why no server can take a player of a mesh now. To be asked when [`Candidates::choose`] found none.
#[must_use]
pub fn no_server(fleet: &Fleet, servers: &[GameServer], selector: &Selector) -> EndpointError {
    if selector.is_any() {
        return EndpointError::NoneReady {
            fleet: fleet.name.clone(),
            strained: count(fleet, servers, is_strained),
            starting: count(fleet, servers, |server| server.state == State::Starting),
            unhealthy: count(fleet, servers, |server| server.state == State::Unhealthy),
        };
    }
    let ready = count(fleet, servers, |server| server.state.takes_players());
    EndpointError::NoneMatches { fleet: fleet.name.clone(), selector: selector.clone(), ready }
}

/// Whether it would take somebody, were it not for what it measures.
fn is_strained(server: &GameServer) -> bool {
    server.state.takes_players() && server.full.is_some()
}

fn beyond(strained: u32) -> String {
    if strained == 0 { String::new() } else { format!(", {strained} at the full_at of the fleet") }
}

fn count(fleet: &Fleet, servers: &[GameServer], matches: impl Fn(&GameServer) -> bool) -> u32 {
    let ours = servers.iter().filter(|server| server.fleet == fleet.name && matches(server));
    u32::try_from(ours.count()).unwrap_or(u32::MAX)
}
