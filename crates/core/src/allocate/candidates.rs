//! The servers of one fleet that could take one more, in the order in which they are preferred.
//!
//! Never looks at a server by itself: it is told of every change, and answers without going through all servers.

use std::collections::BTreeSet;
use std::fmt;

use super::{Preference, Selector};
use crate::ServerName;
use crate::fleet::{Fleet, FleetKind};
use crate::gameserver::GameServer;

/// Servers tried for each of two draws before the draw is given up.
const DRAWS_MAX: usize = 8;

/// Where a server stands: lower is preferred. Ties go by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Whether a new room would be better off on a fresh server of the current revision. Never of a mesh: there the
    /// first server of a new revision would get everybody.
    second_choice: bool,
    load: u64,
    outdated: bool,
    name: ServerName,
}

/// The servers that could take one more. Each change of a server must be told, in any order; telling it twice is
/// telling it once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    order: BTreeSet<Rank>,
}

/// A server that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Which.
    pub server: ServerName,
    /// Why it.
    pub why: Why,
}

/// Why a server was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// By which preference.
    pub preference: Preference,
    /// Servers that could have taken it, those counted that the caller's selector leaves out.
    pub candidates: usize,
    /// Rooms on it.
    pub rooms: u16,
    /// Connections to it and answers in flight.
    pub connections: u32,
}

impl Candidates {
    /// Those of `servers` that could take one more.
    #[must_use]
    pub fn of(fleet: &Fleet, servers: &[GameServer]) -> Self {
        Self { order: servers.iter().filter_map(|server| rank(fleet, server)).collect() }
    }

    /// A server has become what `new` says, having been what `old` said; `None`: it was not there, or is gone.
    pub fn update(&mut self, fleet: &Fleet, old: Option<&GameServer>, new: Option<&GameServer>) {
        let (before, after) = (old.and_then(|old| rank(fleet, old)), new.and_then(|new| rank(fleet, new)));
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&before);
        }
        if let Some(after) = after {
            self.order.insert(after);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nobody could be sent anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The preferred one of those that match. `servers` are all of the fleet by name, as the candidates were told of
    /// them; `draws` are two random numbers, used by [`Preference::PowerOfTwo`] alone. Choosing again without recording
    /// the promise gives the same answer.
    #[must_use]
    pub fn choose(
        &self,
        fleet: &Fleet,
        servers: &[GameServer],
        selector: &Selector,
        draws: [u64; 2],
    ) -> Option<Chosen> {
        let place = |name: &ServerName| servers.binary_search_by(|server| server.name.cmp(name)).ok();
        let matches = |rank: &&Rank| {
            selector.is_any() || place(&rank.name).is_some_and(|at| selector.matches(&servers[at]))
        };
        let drawn = match fleet.allocation {
            Preference::Packing | Preference::LeastConnected => None,
            Preference::PowerOfTwo => less_loaded(fleet, servers, selector, draws).filter(|rank| {
                !rank.second_choice || self.order.first().is_none_or(|best| best.second_choice)
            }),
        };
        let name = match drawn {
            Some(rank) => rank.name,
            None => self.order.iter().find(matches)?.name.clone(),
        };
        let server = &servers[place(&name)?];
        let why = Why {
            preference: fleet.allocation,
            candidates: self.len(),
            rooms: server.rooms,
            connections: server.connections.saturating_add(server.in_flight),
        };
        Some(Chosen { server: name, why })
    }
}

/// Where a server stands; `None` when it takes nobody.
fn rank(fleet: &Fleet, server: &GameServer) -> Option<Rank> {
    if server.fleet != fleet.name {
        return None;
    }
    let connections = u64::from(server.connections).saturating_add(u64::from(server.in_flight));
    let load = match fleet.kind {
        FleetKind::Mesh => server.takes_players().then_some(connections)?,
        FleetKind::Room { rooms_per_server, .. } => {
            let rooms = (server.rooms_free(rooms_per_server) > 0).then_some(u64::from(server.rooms))?;
            match fleet.allocation {
                // Of equally full ones the first by name, so the answer never depends on when reports come.
                Preference::Packing => u64::from(u16::MAX) - rooms,
                Preference::LeastConnected | Preference::PowerOfTwo => {
                    (rooms << 40) | connections.min((1 << 40) - 1)
                }
            }
        }
    };
    let outdated = server.revision != fleet.revision || server.worn.is_some();
    let second_choice = outdated && fleet.kind != FleetKind::Mesh;
    Some(Rank { second_choice, load, outdated, name: server.name.clone() })
}

/// The preferred of two that match. Each draw tries the next servers by name when the one it hit takes nobody.
fn less_loaded(fleet: &Fleet, servers: &[GameServer], selector: &Selector, draws: [u64; 2]) -> Option<Rank> {
    let count = servers.len();
    let ranked = |draw: u64| {
        let first = usize::try_from(draw % u64::try_from(count.max(1)).ok()?).ok()?;
        let tried = (0..count.min(DRAWS_MAX)).map(|step| &servers[(first + step) % count]);
        tried.filter(|server| selector.matches(server)).find_map(|server| rank(fleet, server))
    };
    draws.into_iter().filter_map(ranked).min()
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (of, rooms, connections) = (self.candidates, self.rooms, self.connections);
        match self.preference {
            Preference::Packing => {
                write!(f, "packing: the fullest of {of} with a place, {rooms} rooms before")
            }
            Preference::LeastConnected => {
                write!(f, "least_connected of {of}: {rooms} rooms, {connections} connections before")
            }
            Preference::PowerOfTwo => {
                write!(f, "power_of_two of {of}: {rooms} rooms, {connections} connections before")
            }
        }
    }
}
