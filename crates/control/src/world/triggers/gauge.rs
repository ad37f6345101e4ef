//! The numbers that triggers can watch: what they are called, and what each is now.
//!
//! Never changes anything, and never guesses: a number that is not known is none, and says why.

use std::fmt;
use std::str::FromStr;

use greenroom_core::gameserver::State;
use greenroom_core::trigger::Reading;
use greenroom_core::{FleetName, InvalidId};
use greenroom_wire::link::Measured;

use crate::world::World;
use crate::world::state::FleetState;
use crate::world::views::ready;

/// What a trigger watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gauge {
    /// `fleet.NAME.WORD`.
    Fleet {
        /// Of which fleet.
        fleet: FleetName,
        /// What of it.
        what: FleetGauge,
    },
    /// `hosts.connected`: hosts whose agent is heard.
    HostsConnected,
    /// `hosts.silent`: hosts whose agent is not heard, until they are given up as lost.
    HostsSilent,
    /// `results.undelivered`: results that the webhook has not taken yet.
    ResultsUndelivered,
    /// `custom.NAME`: told by `PUT /v1/metrics/NAME`.
    Custom(String),
}

/// What is counted of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FleetGauge {
    /// Seats promised or taken; connections of a mesh.
    Players,
    /// Connections to its servers.
    Connections,
    /// Rooms, promised and live.
    Rooms,
    /// Servers that have not ended.
    Servers,
    /// Servers that answer.
    Ready,
    /// Servers that somebody is on or was promised a place on.
    Busy,
    /// Servers that it should have.
    Wanted,
    /// Tickets that wait for a match.
    Tickets,
    /// Places that calls and matches wait for.
    Waiting,
    /// Seats in its rooms that nobody has.
    FreeSeats,
    /// New connections to its servers in the last minute.
    ConnectRate,
    /// The latest ticks of its servers, in milliseconds.
    TickLateness,
    /// The latest event loop of its servers, in milliseconds.
    LoopLag,
}

/// Why a text names no number to watch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GaugeError {
    /// It begins with nothing known.
    #[error("allowed: {}, fleet.NAME.players and the like, custom.NAME", Gauge::PLAIN.join(", "))]
    Strange,
    /// Fleets have no such number.
    #[error("after the fleet's name come {}", FleetGauge::ALL.map(FleetGauge::word).join(", "))]
    Word(String),
    /// No fleet can have this name.
    #[error(transparent)]
    Fleet(#[from] InvalidId),
    /// A name of a user's own number is 1 to 64 of a-z, 0-9, `_`, `-` and `.`.
    #[error("after custom. come 1 to 64 of a-z, 0-9, _, - and .")]
    Custom,
}

impl Gauge {
    /// Those without a name in them.
    pub const PLAIN: [&str; 3] = ["hosts.connected", "hosts.silent", "results.undelivered"];
}

impl FromStr for Gauge {
    type Err = GaugeError;

    fn from_str(text: &str) -> Result<Self, GaugeError> {
        if let Some(name) = text.strip_prefix("custom.") {
            let is_plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte);
            let fits = (1..=64).contains(&name.len()) && name.bytes().all(is_plain);
            return if fits { Ok(Self::Custom(name.to_owned())) } else { Err(GaugeError::Custom) };
        }
        if let Some((fleet, word)) = text.strip_prefix("fleet.").and_then(|rest| rest.split_once('.')) {
            let what = FleetGauge::ALL.into_iter().find(|what| what.word() == word);
            let what = what.ok_or_else(|| GaugeError::Word(word.to_owned()))?;
            return Ok(Self::Fleet { fleet: fleet.parse()?, what });
        }
        match text {
            "hosts.connected" => Ok(Self::HostsConnected),
            "hosts.silent" => Ok(Self::HostsSilent),
            "results.undelivered" => Ok(Self::ResultsUndelivered),
            _ => Err(GaugeError::Strange),
        }
    }
}

impl fmt::Display for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet { fleet, what } => write!(f, "fleet.{fleet}.{}", what.word()),
            Self::HostsConnected => f.write_str("hosts.connected"),
            Self::HostsSilent => f.write_str("hosts.silent"),
            Self::ResultsUndelivered => f.write_str("results.undelivered"),
            Self::Custom(name) => write!(f, "custom.{name}"),
        }
    }
}

impl FleetGauge {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Players,
        Self::Connections,
        Self::Rooms,
        Self::Servers,
        Self::Ready,
        Self::Busy,
        Self::Wanted,
        Self::Tickets,
        Self::Waiting,
        Self::FreeSeats,
        Self::ConnectRate,
        Self::TickLateness,
        Self::LoopLag,
    ];

    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Players => "players",
            Self::Connections => "connections",
            Self::Rooms => "rooms",
            Self::Servers => "servers",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Wanted => "wanted",
            Self::Tickets => "tickets",
            Self::Waiting => "waiting",
            Self::FreeSeats => "free_seats",
            Self::ConnectRate => "connect_rate",
            Self::TickLateness => "tick_lateness",
            Self::LoopLag => "loop_lag",
        }
    }
}

impl World {
    /// What it is now, or why that is not known.
    pub(super) fn read_gauge(&self, gauge: &Gauge) -> Result<Reading, String> {
        if let Gauge::Custom(name) = gauge {
            return self.triggers.told(name, self.now);
        }
        let awaited = self.awaited_hosts();
        if !awaited.is_empty() {
            return Err(format!("waiting for the agents of: {}", awaited.join(", ")));
        }
        let count = match gauge {
            Gauge::Fleet { fleet, what } => {
                let state =
                    self.fleets.get(fleet).ok_or_else(|| format!("there is no fleet {fleet} here"))?;
                return self.read_fleet(state, *what);
            }
            Gauge::HostsConnected => self.hosts.values().filter(|host| host.connected).count(),
            Gauge::HostsSilent => self.hosts.values().filter(|host| !host.connected).count(),
            Gauge::ResultsUndelivered => self.results.len(),
            Gauge::Custom(_) => unreachable!("told above"),
        };
        Ok(whole(count))
    }

    fn read_fleet(&self, state: &FleetState, what: FleetGauge) -> Result<Reading, String> {
        let live = || state.view.iter().filter(|server| server.state != State::Stopped);
        let connections = || live().map(|server| u64::from(server.connections)).sum::<u64>();
        let measured = |of: fn(&Measured) -> Option<u32>| {
            live().filter_map(move |server| of(&self.servers.get(&server.name)?.measured)).map(u64::from)
        };
        let unmeasured = || format!("no server of the fleet has measured its {} yet", what.word());
        match what {
            FleetGauge::Players if state.is_mesh() => Ok(whole(connections())),
            FleetGauge::Players => Ok(whole(state.players)),
            FleetGauge::Connections => Ok(whole(connections())),
            FleetGauge::Rooms => Ok(whole(state.rooms)),
            FleetGauge::Servers => Ok(whole(live().count())),
            FleetGauge::Ready => Ok(whole(ready(state))),
            FleetGauge::Busy => Ok(whole(live().filter(|server| server.is_busy()).count())),
            FleetGauge::Wanted => Ok(whole(state.replicas_wanted)),
            FleetGauge::Tickets => Ok(whole(state.queue.len())),
            FleetGauge::Waiting => Ok(whole(self.places_asked(state))),
            FleetGauge::FreeSeats => Ok(whole(self.seats_free(state))),
            FleetGauge::ConnectRate => {
                let rates = measured(|told| told.connects_per_minute);
                rates.reduce(|all, one| all + one).map(whole).ok_or_else(unmeasured)
            }
            FleetGauge::TickLateness => {
                measured(|told| told.tick_lateness_ms).max().map(whole).ok_or_else(unmeasured)
            }
            FleetGauge::LoopLag => measured(|told| told.loop_lag_ms).max().map(whole).ok_or_else(unmeasured),
        }
    }
}

fn whole(count: impl TryInto<i64>) -> Reading {
    Reading::whole(count.try_into().unwrap_or(i64::MAX))
}
