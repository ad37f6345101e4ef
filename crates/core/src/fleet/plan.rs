//! The next step of one fleet: what to start, what to stop, and why it is short.
//!
//! Never stops a busy server, and never lets the fleet grow beyond `replicas_max`.

use std::time::Duration;

use super::{Action, Demand, Fleet, FleetKind, Limits, Plan, Reason, StopReason};
use crate::Timestamp;
use crate::gameserver::{GameServer, State};

/// How long an unhealthy server with nobody on it is given to be heard again before it is stopped.
pub const UNHEALTHY_STOP_AFTER: Duration = Duration::from_secs(60);

/// Decides the next step of `fleet`. Safe on stale observations: a later plan corrects.
///
/// `servers` may hold servers of other fleets; they are left out. A start that was ordered must be among `servers` as
/// [`State::Starting`] at the next call, and a stop as [`State::Stopped`]; otherwise a start is planned twice.
///
/// Outdated servers (another revision) count and are handed out until they are idle. An idle one is stopped once enough
/// others are ready, so a replacement is started first, one at a time; with no room for it below `replicas_max`
/// nothing is replaced and the plan says [`Reason::AtMaximum`].
pub fn plan(fleet: &Fleet, servers: &[GameServer], demand: Demand, limits: Limits, now: Timestamp) -> Plan {
    let census = Census::of(fleet, servers);
    let target = census.target(fleet, demand);
    let mut plan = Plan { replicas_wanted: target.replicas, ..Plan::default() };
    let stops = census.stops(fleet, target.available, now, &mut plan.wake_at);
    let stopped =
        |matches: fn(&GameServer) -> bool| count(stops.iter().filter(|(server, _)| matches(server)));
    let start = census.starts(fleet, &target, census.available() - stopped(is_available));
    let starting = census.starting() - stopped(is_starting) + start.count;
    let actions_max = limits.actions_max.max(1);
    let started = (0..start.count).map(|_| Action::Start);
    let ended =
        stops.iter().map(|(server, reason)| Action::Stop { server: server.name.clone(), reason: *reason });
    plan.actions = started.chain(ended).take(actions_max).collect();
    let ready = census.ready() - stopped(|server| server.state.takes_players());
    plan.waiting_on = census.reasons(fleet, &target, &start, starting, ready);
    plan
}

/// The servers of one fleet that are not stopped, by what they can do.
struct Census<'a> {
    live: Vec<&'a GameServer>,
    fleet: &'a Fleet,
}

/// What the fleet should come to.
struct Target {
    /// Servers that take players or will soon; not bounded by `replicas_max`, because it tells what is missing.
    available_unbounded: u32,
    /// The same within the bounds.
    available: u32,
    /// The same and unhealthy servers with somebody on them, within the bounds. Draining ones are on their way out.
    replicas: u32,
}

/// How many to start now.
struct Start {
    count: u32,
    /// How many more would be started were `replicas_max` higher.
    refused: u32,
}

impl<'a> Census<'a> {
    fn of(fleet: &'a Fleet, servers: &'a [GameServer]) -> Self {
        let live =
            servers.iter().filter(|s| s.fleet == fleet.name && s.state != State::Stopped).collect::<Vec<_>>();
        Self { live, fleet }
    }

    fn live(&self) -> u32 {
        count(&self.live)
    }

    fn available(&self) -> u32 {
        count(self.live.iter().filter(|s| is_available(s)))
    }

    fn ready(&self) -> u32 {
        count(self.live.iter().filter(|s| s.state.takes_players()))
    }

    fn starting(&self) -> u32 {
        count(self.live.iter().filter(|s| is_starting(s)))
    }

    fn unhealthy(&self) -> u32 {
        count(self.live.iter().filter(|s| s.state == State::Unhealthy))
    }

    fn is_outdated(&self, server: &GameServer) -> bool {
        server.revision != self.fleet.revision
    }

    /// Busy servers are needed where they are; waiting rooms fill their free places before they need more.
    fn target(&self, fleet: &Fleet, demand: Demand) -> Target {
        let busy = || self.live.iter().filter(|s| !s.is_idle());
        let available: Vec<&GameServer> = busy().filter(|s| is_available(s)).copied().collect();
        let unhealthy = count(busy().filter(|s| s.state == State::Unhealthy));
        let needed = match fleet.kind {
            FleetKind::Room { rooms_per_server, .. } => {
                let free = available
                    .iter()
                    .fold(0u32, |sum, s| sum.saturating_add(u32::from(s.rooms_free(rooms_per_server))));
                let homeless = demand.rooms_waiting.saturating_sub(free);
                count(&available).saturating_add(homeless.div_ceil(u32::from(rooms_per_server.max(1))))
            }
            FleetKind::Mesh => 0,
        };
        let unbounded = needed.max(fleet.replicas_min);
        Target {
            available_unbounded: unbounded,
            available: unbounded.min(fleet.replicas_max),
            replicas: unbounded.saturating_add(unhealthy).min(fleet.replicas_max),
        }
    }

    /// What may go, in the order of urgency. Sets `wake_at` to when the next one may go by time alone.
    fn stops(
        &self,
        fleet: &Fleet,
        target: u32,
        now: Timestamp,
        wake_at: &mut Option<Timestamp>,
    ) -> Vec<(&'a GameServer, StopReason)> {
        let mut stops = Vec::new();
        let mut due = |at: Timestamp| {
            if at > now {
                *wake_at = Some(wake_at.map_or(at, |wake| wake.min(at)));
            }
            at <= now
        };
        let mut ready = self.ready();
        let mut available = self.available();
        for (server, idle_since) in self.idle() {
            let outdated = self.is_outdated(server);
            let surplus_at = idle_since + fleet.idle_stop_after;
            let reason = match server.state {
                State::Unhealthy => due(idle_since + UNHEALTHY_STOP_AFTER).then_some(StopReason::Unhealthy),
                State::Draining => Some(if outdated { StopReason::Outdated } else { StopReason::Surplus }),
                // It answers nobody yet, so the fleet is no shorter of ready servers without it.
                State::Starting if outdated => Some(StopReason::Outdated),
                State::Starting => {
                    let never_ready =
                        server.starting_since.is_some_and(|since| due(since + fleet.start_timeout));
                    let surplus = !never_ready && available > target && due(surplus_at);
                    never_ready
                        .then_some(StopReason::NeverReady)
                        .or_else(|| surplus.then_some(StopReason::Surplus))
                }
                State::Ready if outdated => (ready > target).then_some(StopReason::Outdated),
                State::Ready => (ready > target && due(surplus_at)).then_some(StopReason::Surplus),
                State::Reserved | State::Allocated | State::Stopped => None,
            };
            if let Some(reason) = reason {
                ready -= u32::from(server.state.takes_players());
                available -= u32::from(is_available(server));
                stops.push((server, reason));
            }
        }
        stops
    }

    /// Idle servers: outdated ones first, then the longest idle, then by name.
    fn idle(&self) -> Vec<(&'a GameServer, Timestamp)> {
        let mut idle: Vec<(&GameServer, Timestamp)> = self
            .live
            .iter()
            .filter(|s| s.is_idle())
            .filter_map(|server| Some((*server, server.idle_since?)))
            .collect();
        idle.sort_by_key(|(server, since)| (!self.is_outdated(server), *since, &server.name));
        idle
    }

    /// What to start when `available` servers remain after the stops of this plan. A server that is being stopped
    /// still counts against `replicas_max`: its process is there.
    fn starts(&self, fleet: &Fleet, target: &Target, available: u32) -> Start {
        let missing = target.available_unbounded.saturating_sub(available);
        let kept =
            count(self.live.iter().filter(|s| is_available(s) && (!self.is_outdated(s) || !s.is_idle())));
        let replaces = missing == 0 && available == target.available && kept < target.available;
        let asked = if replaces { 1 } else { missing };
        let count = asked.min(fleet.replicas_max.saturating_sub(self.live()));
        Start { count, refused: asked - count }
    }

    fn reasons(
        &self,
        fleet: &Fleet,
        target: &Target,
        start: &Start,
        starting: u32,
        ready: u32,
    ) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let wanted = target.available_unbounded.max(target.replicas);
        if ready < wanted || start.count + start.refused > 0 {
            let unhealthy = self.unhealthy();
            if starting > 0 {
                reasons.push(Reason::Starting(starting));
            }
            if unhealthy > 0 {
                reasons.push(Reason::Unhealthy(unhealthy));
            }
            if start.refused > 0 {
                let wanted = self.live().saturating_add(start.count).saturating_add(start.refused);
                reasons.push(Reason::AtMaximum { wanted, replicas_max: fleet.replicas_max });
            }
        }
        reasons
    }
}

const fn is_available(server: &GameServer) -> bool {
    server.state.takes_players() || is_starting(server)
}

const fn is_starting(server: &GameServer) -> bool {
    matches!(server.state, State::Starting)
}

/// A fleet has far fewer than 4 billion servers; the count saturates rather than wraps.
fn count<T>(items: impl IntoIterator<Item = T>) -> u32 {
    u32::try_from(items.into_iter().count()).unwrap_or(u32::MAX)
}
