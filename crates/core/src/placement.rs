//! Which Host runs a new GameServer.
//!
//! Never looks at players: that is allocation.

use std::cmp::Ordering;
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
    /// At most one on each host, be it one that is about to stop.
    OnePerHost,
    /// As little as can be: the fullest host with a place, so that others empty and can be given up.
    Pack,
    /// Not at all: all on one host, because nothing carries the broadcasts of one server to those of another host. A new home is
    /// chosen as over hosts, once none that is in use has servers of the fleet.
    OneHost,
}

impl Spread {
    /// All, as configured.
    pub const ALL: [Self; 5] = [Self::Hosts, Self::Zones, Self::OnePerHost, Self::Pack, Self::OneHost];

    /// The word in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hosts => "host",
            Self::Zones => "zone",
            Self::OnePerHost => "one_per_host",
            Self::Pack => "pack",
            Self::OneHost => "one_host",
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
    /// Whether its servers count: it was heard lately, and is not drained.
    pub in_use: bool,
    /// Whether its agent takes orders now: never for one that is not in use.
    pub accepts: bool,
    /// Servers on it, ordered ones included.
    pub servers: u32,
    /// Those of them that belong to the fleet, without those that are about to stop but for [`Spread::OnePerHost`].
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
    /// The greatest share of it is taken.
    MostTaken {
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
    /// Servers of the fleet are there, and all are kept together.
    Home {
        /// How many.
        of_fleet: u32,
    },
}

/// Why no host was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoPlace {
    /// Nothing accepts, or all are full.
    Anywhere,
    /// No host that accepts has an agent that runs servers with a port for an Agones SDK, and the fleet asks for one.
    NoAgones,
    /// Every host with a place has one of the fleet.
    OneOnEach,
    /// Not on the one host that all servers of the fleet are kept on.
    AtHome {
        /// Which.
        home: HostName,
    },
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anywhere => f.write_str("without a host that has a free place"),
            Self::NoAgones => f.write_str(
                "without a host whose agent has the Agones SDK: update the agents, and build them with the feature agones",
            ),
            Self::OneOnEach => {
                f.write_str("without a host that has none of the fleet yet, which is kept to one on each")
            }
            Self::AtHome { home } => write!(
                f,
                "without a place on host {home}, where all servers of the fleet are kept, because nothing carries their broadcasts \
                 to another host: set GREENROOM_REDIS in its env, or spread = \"host\" if they need not hear each other"
            ),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeastTaken { hosts } => write!(f, "the emptiest of {hosts} with a place"),
            Self::MostTaken { hosts } => write!(f, "the fullest of {hosts} with a place"),
            Self::Zone { zone, of_fleet, zones } => {
                write!(f, "zone {zone:?} had {of_fleet} of the fleet, the fewest of {zones} with a place")
            }
            Self::Home { of_fleet } => {
                write!(f, "{of_fleet} of the fleet are there, and all are kept together")
            }
        }
    }
}

/// The host that runs the next server: of those that accept and have a place, the one with the smallest taken share,
/// packed that with the greatest, the first by name of equals; spread over zones, of those in the zone with the fewest servers of
/// the fleet; one on each, of those without one; kept on one host, that with the most of them.
///
/// Asking again without counting the server gives the same answer.
///
/// # Errors
/// Nothing that is allowed has a place.
pub fn choose(hosts: &[Host], spread: Spread) -> Result<Placed, NoPlace> {
    let has_place = |host: &&Host| host.accepts && host.servers < host.servers_max;
    if spread == Spread::OneHost
        && let Some(home) = home(hosts)
    {
        let why = Why::Home { of_fleet: home.of_fleet };
        let placed = Some(home).filter(has_place).map(|home| Placed { host: home.name.clone(), why });
        return placed.ok_or_else(|| NoPlace::AtHome { home: home.name.clone() });
    }
    let mut in_zone: BTreeMap<&str, u32> = BTreeMap::new();
    for host in hosts {
        *in_zone.entry(&host.zone).or_default() += host.of_fleet;
    }
    let of_fleet = |host: &Host| in_zone.get(host.zone.as_str()).copied().unwrap_or_default();
    let mut free: Vec<&Host> = hosts.iter().filter(has_place).collect();
    let is_full = free.is_empty();
    if spread == Spread::OnePerHost {
        free.retain(|host| host.of_fleet == 0);
    }
    let chosen = free.iter().min_by(|a, b| {
        let wanted = match spread {
            Spread::Hosts | Spread::OneHost | Spread::OnePerHost => by_share_taken(a, b),
            Spread::Pack => by_share_taken(b, a),
            Spread::Zones => of_fleet(a).cmp(&of_fleet(b)).then_with(|| by_share_taken(a, b)),
        };
        wanted.then_with(|| a.name.cmp(&b.name))
    });
    let chosen = chosen.ok_or(if is_full { NoPlace::Anywhere } else { NoPlace::OneOnEach })?;
    let why = match spread {
        Spread::Hosts | Spread::OneHost | Spread::OnePerHost => Why::LeastTaken { hosts: free.len() },
        Spread::Pack => Why::MostTaken { hosts: free.len() },
        Spread::Zones => {
            let zones: BTreeSet<&str> = free.iter().map(|host| host.zone.as_str()).collect();
            Why::Zone { zone: chosen.zone.clone(), of_fleet: of_fleet(chosen), zones: zones.len() }
        }
    };
    Ok(Placed { host: chosen.name.clone(), why })
}

/// `servers / servers_max` compared without a division: the same on every machine.
fn by_share_taken(a: &Host, b: &Host) -> Ordering {
    let (left, right) =
        (u64::from(a.servers) * u64::from(b.servers_max), u64::from(b.servers) * u64::from(a.servers_max));
    left.cmp(&right)
}

/// Where a fleet is that is kept on one host: most of it, and the first by name of equals. One that is silent for the moment
/// only is still its home.
fn home(hosts: &[Host]) -> Option<&Host> {
    let homes = hosts.iter().filter(|host| host.in_use && host.of_fleet > 0);
    homes.max_by(|a, b| a.of_fleet.cmp(&b.of_fleet).then_with(|| b.name.cmp(&a.name)))
}
