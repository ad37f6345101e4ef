//! Which Host runs a new GameServer.
//!
//! Never looks at players: that is allocation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::HostName;

/// The label of a host that says in which zone it stands: what may be lost at once, such as a rack or a data centre.
pub const ZONE: &str = "zone";

/// Among what the servers of a fleet are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spread {
    /// Over hosts, by how full they are.
    #[default]
    Hosts,
    /// Over zones first, so that the loss of one takes as few servers of the fleet as can be; then as over hosts.
    Zones,
}

impl Spread {
    /// Both, as configured.
    pub const ALL: [Self; 2] = [Self::Hosts, Self::Zones];

    /// The word in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hosts => "host",
            Self::Zones => "zone",
        }
    }
}

/// One host at the moment of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// Its label [`ZONE`]; empty without one. Hosts without one are a zone together.
    pub zone: String,
    /// Whether its agent is connected and takes orders.
    pub accepts: bool,
    /// Servers on it, ordered ones included.
    pub servers: u32,
    /// Those of them that belong to the fleet.
    pub of_fleet: u32,
    /// Most servers it may hold: its free ports, or what it was told.
    pub servers_max: u32,
}

/// A place for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Where.
    pub host: HostName,
    /// Why there; shown to people.
    pub why: Why,
}

/// Why a host was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The smallest share of it is taken.
    LeastTaken {
        /// Hosts that it was chosen among.
        hosts: usize,
    },
    /// Its zone has the fewest servers of the fleet, and of the zone's hosts the smallest share of it is taken.
    Zone {
        /// Its zone.
        zone: String,
        /// Servers of the fleet in that zone before.
        of_fleet: u32,
        /// Zones that it was chosen among.
        zones: usize,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeastTaken { hosts } => write!(f, "the emptiest of {hosts} with a place"),
            Self::Zone { zone, of_fleet, zones } => {
                write!(f, "zone {zone:?} had {of_fleet} of the fleet, the fewest of {zones} with a place")
            }
        }
    }
}

/// The host that runs the next server: of those that accept and have a place, the one with the smallest taken share,
/// the first by name of equals; spread over zones, of those in the zone with the fewest servers of the fleet. `None` when
/// nothing accepts or all are full.
///
/// Asking again without counting the server gives the same answer.
#[must_use]
pub fn choose(hosts: &[Host], spread: Spread) -> Option<Placed> {
    let mut in_zone: BTreeMap<&str, u32> = BTreeMap::new();
    for host in hosts {
        *in_zone.entry(&host.zone).or_default() += host.of_fleet;
    }
    let of_fleet = |host: &Host| in_zone.get(host.zone.as_str()).copied().unwrap_or_default();
    let free: Vec<&Host> =
        hosts.iter().filter(|host| host.accepts && host.servers < host.servers_max).collect();
    let chosen = free.iter().min_by(|a, b| {
        let by_zone = match spread {
            Spread::Hosts => std::cmp::Ordering::Equal,
            Spread::Zones => of_fleet(a).cmp(&of_fleet(b)),
        };
        // servers / servers_max compared without a division: the same on every machine.
        let left = u64::from(a.servers) * u64::from(b.servers_max);
        let right = u64::from(b.servers) * u64::from(a.servers_max);
        by_zone.then_with(|| left.cmp(&right)).then_with(|| a.name.cmp(&b.name))
    })?;
    let why = match spread {
        Spread::Hosts => Why::LeastTaken { hosts: free.len() },
        Spread::Zones => {
            let zones: BTreeSet<&str> = free.iter().map(|host| host.zone.as_str()).collect();
            Why::Zone { zone: chosen.zone.clone(), of_fleet: of_fleet(chosen), zones: zones.len() }
        }
    };
    Some(Placed { host: chosen.name.clone(), why })
}
