//! What each policy asks for by itself.
//!
//! Never looks at other policies, cool-downs or bounds.

use std::time::Duration;

use super::{
    Amount, Autoscale, Because, BufferUnit, Flow, Metric, Observed, Policy, ScaleIn, ServerLoad, Shape,
};
use crate::Timestamp;
use crate::fleet::FleetKind;
use crate::gameserver::State;

/// Below this many millionths of a room in the lead time nobody is expected: the fleet may sleep.
const EXPECTED_MICROS_MIN: u128 = 1_000;

/// What is counted of the servers. Unhealthy, draining and stopped ones are left out of everything.
pub(super) struct Census<'a> {
    healthy: Vec<&'a ServerLoad>,
    scale_in: ScaleIn,
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
    pub(super) fn of(shape: &Shape, scale_in: ScaleIn, servers: &'a [ServerLoad]) -> Self {
        let healthy =
            servers.iter().filter(|s| s.state.takes_players() || s.state == State::Starting).collect();
        let (rooms_per_server, seats_per_room) = match shape.kind {
            FleetKind::Room { rooms_per_server, seats_per_room } => {
                (u32::from(rooms_per_server.max(1)), u32::from(seats_per_room.max(1)))
            }
            FleetKind::Mesh => (1, 1),
        };
        Self { healthy, scale_in, rooms_per_server, seats_per_room }
    }

    pub(super) fn healthy(&self) -> u32 {
        count(self.healthy.len())
    }

    fn busy(&self) -> impl Iterator<Item = &&'a ServerLoad> {
        self.healthy.iter().filter(|s| !s.idle)
    }

    /// Servers that cannot be given up: the busy ones, or as many as their rooms would fill.
    pub(super) fn busy_count(&self) -> u32 {
        match self.scale_in {
            ScaleIn::Idle => count(self.busy().count()),
            ScaleIn::Cordon => self.rooms().div_ceil(self.rooms_per_server),
        }
    }

    fn full_count(&self) -> u32 {
        count(self.healthy.iter().filter(|server| server.full && server.state.takes_players()).count())
    }

    fn rooms(&self) -> u32 {
        self.healthy.iter().fold(0, |sum, s| sum.saturating_add(s.rooms))
    }

    /// Places for rooms on servers that are kept anyway.
    fn places(&self) -> u32 {
        match self.scale_in {
            ScaleIn::Idle => self
                .busy()
                .fold(0, |sum, s| sum.saturating_add(self.rooms_per_server.saturating_sub(s.rooms))),
            ScaleIn::Cordon => self.busy_count().saturating_mul(self.rooms_per_server) - self.rooms(),
        }
    }

    /// Busy servers, and as many more as `rooms` need besides what fits on them; idle ones that are full are none of these.
    fn with_rooms(&self, rooms: u64) -> u32 {
        let homeless = rooms.saturating_sub(u64::from(self.places()));
        let no_use = if homeless == 0 { 0 } else { self.full_and_free() };
        let more = clamp(homeless.div_ceil(u64::from(self.rooms_per_server)));
        self.busy_count().saturating_add(no_use).saturating_add(more)
    }

    /// Servers that could be given up, and take nobody.
    fn full_and_free(&self) -> u32 {
        match self.scale_in {
            ScaleIn::Idle => count(self.healthy.iter().filter(|server| server.idle && server.full).count()),
            // Their rooms tell already that they have no place.
            ScaleIn::Cordon => 0,
        }
    }

    /// What is needed for who is there and who waits.
    pub(super) fn demand(&self, shape: &Shape, observed: &Observed<'_>) -> Word {
        let (waiting, busy, full) = (observed.waiting, self.busy_count(), self.full_count());
        let (replicas, because) = match shape.kind {
            FleetKind::Room { .. } => {
                let because = Because::InUse { busy, waiting, places: self.places() };
                (self.with_rooms(u64::from(waiting)), because)
            }
            // Whoever waits has found all that are there full.
            FleetKind::Mesh if waiting > 0 && full > 0 => {
                (full.saturating_add(1), Because::Full { full, waiting })
            }
            FleetKind::Mesh => (u32::from(waiting > 0), Because::InUse { busy, waiting, places: 0 }),
        };
        let selective = observed.selective_missing.map(|missing| (self.healthy(), missing));
        match selective {
            Some((there, missing)) if there.saturating_add(missing) > replicas => {
                word(there.saturating_add(missing), Because::Selective { there, missing })
            }
            _ => word(replicas, because),
        }
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
    /// `now` in, this policy's word out.
    pub(super) fn ask(
        &self,
        shape: &Shape,
        rules: &Autoscale,
        observed: &Observed<'_>,
        census: &Census<'_>,
        now: Timestamp,
    ) -> Word {
        if !self.suits(shape.kind) {
            return word(0, Because::Unsuited);
        }
        match self {
            Self::Demand => census.demand(shape, observed),
            Self::Schedule { calendar, lasts, replicas } => {
                let ends_at = calendar.last(now).map(|began| began + *lasts).filter(|ends| *ends > now);
                let wake_at = [ends_at, calendar.next(now)].into_iter().flatten().min();
                Word { wake_at, ..timed(*replicas, ends_at.is_some()) }
            }
            Self::Prewarm { replicas, ready_at, until } => {
                let took = observed.start_time.map_or(Duration::from_mins(1), |start| start.p95);
                prewarm(*replicas, *ready_at - took, *until, rules, now)
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

/// As many as must have been ordered by now, so that a step each cool-down comes to `replicas` by `ordered_by`. One
/// cool-down may have just begun, so a step is asked for a whole one before it must be there.
fn prewarm(
    replicas: u32,
    ordered_by: Timestamp,
    until: Timestamp,
    rules: &Autoscale,
    now: Timestamp,
) -> Word {
    let step = u64::from(rules.step_out_max.max(1));
    let cooldown_ms = u64::try_from(rules.cooldown_out.as_millis()).unwrap_or(u64::MAX);
    let left_ms = ordered_by.unix_ms().saturating_sub(now.unix_ms());
    if now >= until {
        return timed(0, false);
    }
    if left_ms == 0 {
        return Word { wake_at: Some(until), ..timed(replicas, true) };
    }
    // Whole cool-downs that are left, and with how many of them the first step is asked for.
    let left = left_ms.checked_div(cooldown_ms).unwrap_or(u64::MAX);
    let first = u64::from(replicas.saturating_sub(1)) / step;
    let asked = clamp(u64::from(replicas).saturating_sub(left.saturating_mul(step)));
    let next = left.saturating_sub(1).min(first);
    let ahead = if left == 0 { 0 } else { (next + 1).saturating_mul(cooldown_ms) };
    let wake_at = ordered_by - Duration::from_millis(ahead) + Duration::from_millis(1);
    Word { wake_at: Some(wake_at), ..timed(asked, asked > 0) }
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
