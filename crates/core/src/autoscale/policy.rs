//! What each policy asks for by itself.
//!
//! Never looks at other policies, cool-downs or bounds.

use std::time::Duration;

use super::{Amount, Autoscale, Because, BufferUnit, Flow, Metric, Observed, Policy, ServerLoad, Shape};
use crate::Timestamp;
use crate::fleet::FleetKind;
use crate::gameserver::State;

/// Below this many millionths of a room in the lead time nobody is expected: the fleet may sleep.
const EXPECTED_MICROS_MIN: u128 = 1_000;

/// What is counted of the servers. Unhealthy, draining and stopped ones are left out of everything.
pub(super) struct Census<'a> {
    healthy: Vec<&'a ServerLoad>,
    rooms_per_server: u32,
    seats_per_room: u32,
}

/// One policy's word, and when time alone changes it.
pub(super) struct Word {
    pub(super) replicas: Option<u32>,
    pub(super) because: Because,
    pub(super) wake_at: Option<Timestamp>,
}

impl<'a> Census<'a> {
    pub(super) fn of(shape: &Shape, servers: &'a [ServerLoad]) -> Self {
        let healthy =
            servers.iter().filter(|s| s.state.takes_players() || s.state == State::Starting).collect();
        let (rooms_per_server, seats_per_room) = match shape.kind {
            FleetKind::Room { rooms_per_server, seats_per_room } => {
                (u32::from(rooms_per_server.max(1)), u32::from(seats_per_room.max(1)))
            }
            FleetKind::Mesh => (1, 1),
        };
        Self { healthy, rooms_per_server, seats_per_room }
    }

    pub(super) fn healthy(&self) -> u32 {
        count(self.healthy.len())
    }

    fn busy(&self) -> impl Iterator<Item = &&'a ServerLoad> {
        self.healthy.iter().filter(|s| !s.idle)
    }

    pub(super) fn busy_count(&self) -> u32 {
        count(self.busy().count())
    }

    /// Places for rooms on servers that are busy anyway.
    fn places(&self) -> u32 {
        self.busy().fold(0, |sum, s| sum.saturating_add(self.rooms_per_server.saturating_sub(s.rooms)))
    }

    /// Busy servers, and as many more as `rooms` need besides what fits on them.
    fn with_rooms(&self, rooms: u64) -> u32 {
        let homeless = rooms.saturating_sub(u64::from(self.places()));
        self.busy_count().saturating_add(clamp(homeless.div_ceil(u64::from(self.rooms_per_server))))
    }

    /// What is needed for who is there and who waits.
    pub(super) fn demand(&self, shape: &Shape, waiting: u32) -> Word {
        let (replicas, places) = match shape.kind {
            FleetKind::Room { .. } => (self.with_rooms(u64::from(waiting)), self.places()),
            FleetKind::Mesh => (u32::from(waiting > 0), 0),
        };
        word(replicas, Because::InUse { busy: self.busy_count(), waiting, places })
    }

    fn average(&self, metric: Metric, per_server: u32, spare: u32) -> Word {
        let serving = || self.healthy.iter().filter(|s| s.state.takes_players());
        let summed = |of: fn(&ServerLoad) -> Option<u32>| {
            let known: Vec<u64> = serving().filter_map(|s| of(s)).map(u64::from).collect();
            (known.iter().sum::<u64>(), known.len())
        };
        let (sum, known) = match metric {
            Metric::Connections => summed(|s| Some(s.connections)),
            Metric::Players => summed(|s| Some(s.players)),
            Metric::Rooms => summed(|s| Some(s.rooms)),
            Metric::ConnectRate => summed(|s| s.connects_per_minute),
            Metric::TickLateness => summed(|s| s.tick_lateness_ms),
            Metric::LoopLag => summed(|s| s.loop_lag_ms),
        };
        let servers = u64::from(count(known));
        if known == 0 && serving().next().is_some() {
            return Word { replicas: None, because: Because::Unmeasured, wake_at: None };
        }
        let target = u64::from(per_server.max(1));
        match metric {
            // A server that starts is no help yet, so the average over those that serve is spread over them alone.
            Metric::TickLateness | Metric::LoopLag => {
                let because = Because::Late {
                    metric,
                    average_ms: sum.checked_div(servers).unwrap_or(0),
                    target_ms: per_server,
                };
                word(clamp(sum.div_ceil(target)), because)
            }
            Metric::Connections | Metric::Players | Metric::Rooms | Metric::ConnectRate => {
                // A server that did not tell carries as much as the others do.
                let all = u64::from(count(serving().count()));
                let load = (u128::from(sum) * u128::from(all)).checked_div(u128::from(servers)).unwrap_or(0);
                let load = u64::try_from(load).unwrap_or(u64::MAX).saturating_add(u64::from(spare));
                word(clamp(load.div_ceil(target)), Because::Load { metric, load, per_server })
            }
        }
    }

    fn buffer(&self, amount: Amount, unit: BufferUnit, seats_free: u32) -> Word {
        let rooms: u64 = self.busy().map(|s| u64::from(s.rooms)).sum();
        let players: u64 = self.busy().map(|s| u64::from(s.players)).sum();
        let (used, found) = match unit {
            BufferUnit::Servers => (u64::from(self.busy_count()), 0),
            BufferUnit::Rooms => (rooms, u64::from(self.places())),
            BufferUnit::Seats => {
                let unmade = u64::from(self.places()) * u64::from(self.seats_per_room);
                (players, u64::from(seats_free).saturating_add(unmade))
            }
        };
        let wanted = match amount {
            Amount::Absolute(amount) => u64::from(amount),
            // `used` is what remains of all when this part of all is free.
            Amount::Percent(percent) => {
                let percent = u64::from(percent.min(99));
                (used * percent).div_ceil(100 - percent)
            }
        };
        let each = match unit {
            BufferUnit::Servers => 1,
            BufferUnit::Rooms => u64::from(self.rooms_per_server),
            BufferUnit::Seats => u64::from(self.rooms_per_server) * u64::from(self.seats_per_room),
        };
        let more = clamp(wanted.saturating_sub(found).div_ceil(each));
        word(self.busy_count().saturating_add(more), Because::Free { wanted, found })
    }

    /// `rate * lead + z * sqrt(dispersion * rate * lead) + growth * lead² / 2`, in millionths of a room. The growth
    /// counts at most as much as the rate: a slope measured over minutes says little about what is further away.
    fn base_stock(&self, flow: Flow, lead: Duration, z_milli: u32, waiting: u32) -> Word {
        let lead_ms = lead.as_millis().min(86_400_000);
        let expected = u128::from(flow.per_second_micros) * lead_ms / 1000;
        let growth = (u128::from(flow.growth_micros) * lead_ms * lead_ms / 2_000_000).min(expected);
        let spread =
            (expected * u128::from(flow.dispersion_milli) * 1000).isqrt() * u128::from(z_milli) / 1000;
        let stock = if expected < EXPECTED_MICROS_MIN { 0 } else { expected + growth + spread };
        let stock = u64::try_from(stock.div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let per_1000_s = flow.per_second_micros / 1000;
        let replicas = self.with_rooms(stock.saturating_add(u64::from(waiting)));
        word(replicas, Because::Stock { per_1000_s, lead, stock })
    }
}

impl Policy {
    /// `now` in, this policy's word out. `current` is what the fleet should have had until now.
    pub(super) fn ask(
        &self,
        shape: &Shape,
        rules: &Autoscale,
        observed: &Observed<'_>,
        census: &Census<'_>,
        current: u32,
        now: Timestamp,
    ) -> Word {
        if !self.suits(shape.kind) {
            return word(0, Because::Unsuited);
        }
        match self {
            Self::Demand => census.demand(shape, observed.waiting),
            Self::Schedule { calendar, lasts, replicas } => {
                let ends_at = calendar.last(now).map(|began| began + *lasts).filter(|ends| *ends > now);
                let wake_at = [ends_at, calendar.next(now)].into_iter().flatten().min();
                Word { wake_at, ..timed(*replicas, ends_at.is_some()) }
            }
            Self::Prewarm { replicas, ready_at, until } => {
                let steps = replicas.saturating_sub(current).div_ceil(rules.step_out_max.max(1)).max(1);
                let took = observed.start_time.map_or(Duration::from_mins(1), |start| start.p95);
                // One cool-down may have just begun; each further step waits for one.
                let lead = rules.cooldown_out.saturating_mul(steps).saturating_add(took);
                let from = *ready_at - lead;
                let wake_at = [from, *until].into_iter().find(|at| *at > now);
                Word { wake_at, ..timed(*replicas, from <= now && now < *until) }
            }
            Self::TargetAverage { metric, per_server, spare } => census.average(*metric, *per_server, *spare),
            Self::Buffer { amount, unit } => census.buffer(*amount, *unit, observed.seats_free),
            Self::BaseStock { z_milli, start_time } => {
                let start = observed.start_time.map_or(*start_time, |start| start.p95);
                // What is ordered now can be corrected only after the cool-down, so the stock must last for both.
                let lead = start.saturating_add(rules.cooldown_out);
                match observed.arrivals {
                    Some(flow) => census.base_stock(flow, lead, *z_milli, observed.waiting),
                    None => Word { replicas: None, because: Because::Unmeasured, wake_at: None },
                }
            }
        }
    }
}

const fn word(replicas: u32, because: Because) -> Word {
    Word { replicas: Some(replicas), because, wake_at: None }
}

const fn timed(replicas: u32, active: bool) -> Word {
    if active { word(replicas, Because::InTime) } else { word(0, Because::NotInTime) }
}

fn clamp(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
