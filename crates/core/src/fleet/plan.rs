//! The next step of one fleet: what to start, what to stop, and why it is short.
//!
//! Never stops a busy server, and never lets the fleet grow beyond `replicas_max`.

use std::cmp::Reverse;
use std::time::Duration;

use super::{Action, Fleet, HostLoads, Limits, Plan, Reason, StopReason, Wanted};
use crate::Timestamp;
use crate::autoscale::ScaleIn;
use crate::gameserver::{GameServer, State};

/// How long an unhealthy server with nobody on it is given to be heard again before it is stopped.
pub const UNHEALTHY_STOP_AFTER: Duration = Duration::from_secs(60);

/// How long a cordoned server must have been empty before it is stopped: longer than a report takes, so that who was
/// sent to it in the last moment has been seen.
pub const CORDON_WAIT: Duration = Duration::from_secs(3);

/// Decides the next step of `fleet`. Safe on stale observations: a later plan corrects.
///
/// `servers` may hold servers of other fleets; they are left out. A start that was ordered must be among `servers` as
/// [`State::Starting`] at the next call, and a stop as [`State::Stopped`]; otherwise a start is planned twice.
///
/// A server that answers is cordoned first and stopped when it has been empty for [`CORDON_WAIT`]; one that is needed
/// again is un-cordoned before anything is started. Of those that may go, the one whose host empties soonest goes
/// first. With [`ScaleIn::Idle`] a cordoned server that somebody came to is given back.
///
/// Servers on a drained host ([`StopReason::HostDrained`]) do not count: others are started for them at once. One that has been
/// empty for [`CORDON_WAIT`] is stopped when enough others take players, or when `replicas_max` leaves no room for them.
///
/// A starting server whose former process answered waits for [`CORDON_WAIT`] too before it is stopped: who was on it, or was
/// sent there, comes back to it.
///
/// Outdated servers (another revision) count and are handed out until they are idle. Worn ones count, and are replaced
/// even while somebody is on them: they get nothing new and run until the last one has left. Either goes once enough
/// others are ready, so a replacement is started first, one at a time. With no room for it below `replicas_max` one goes
/// first and is replaced then: an idle one, or a worn busy one if another server takes players meanwhile; the plan then
/// says [`Reason::AtMaximum`].
pub fn plan(
    fleet: &Fleet,
    servers: &[GameServer],
    wanted: Wanted,
    hosts: &HostLoads,
    limits: Limits,
    now: Timestamp,
) -> Plan {
    let census = Census::of(fleet, servers);
    let target = census.target(fleet, wanted);
    let mut plan = Plan { replicas_wanted: target.replicas, ..Plan::default() };
    let back = census.given_back(target.available);
    let mut ends = census.ends(target.available, &back, hosts, now, &mut plan.wake_at);
    if back.is_empty() && ends.is_empty() {
        ends.extend(census.exchanged(target.available, hosts));
    }
    let ended = |matches: fn(&GameServer) -> bool| count(ends.iter().filter(|end| matches(end.server)));
    let start = census.starts(&target, census.available() - ended(is_available), count(&back));
    let starting = census.starting() - ended(is_starting) + start.count;
    let given_back = back.iter().map(|server| Action::Uncordon { server: server.name.clone() });
    let started = (0..start.count).map(|_| Action::Start);
    plan.actions = given_back
        .chain(started)
        .chain(ends.iter().map(End::action))
        .take(limits.actions_max.max(1))
        .collect();
    let ready = census.ready() - ended(|server| server.state.takes_players()) + count(&back);
    plan.waiting_on = census.reasons(fleet, &target, &start, starting, ready);
    plan
}

/// One server on its way out.
struct End<'a> {
    server: &'a GameServer,
    reason: StopReason,
}

impl End<'_> {
    /// One that answers is cordoned first.
    fn action(&self) -> Action {
        let (server, reason) = (self.server.name.clone(), self.reason);
        if self.server.state.takes_players() {
            Action::Cordon { server, reason }
        } else {
            Action::Stop { server, reason }
        }
    }
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

    /// Why it goes when there is one too many.
    fn needless(&self, server: &GameServer) -> StopReason {
        match server.worn {
            _ if self.is_outdated(server) => StopReason::Outdated,
            Some(worn) => StopReason::Worn(worn),
            None => StopReason::Surplus,
        }
    }

    fn target(&self, fleet: &Fleet, wanted: Wanted) -> Target {
        let unhealthy = count(self.live.iter().filter(|s| !s.is_idle() && s.state == State::Unhealthy));
        let available = wanted.replicas.min(fleet.replicas_max);
        let beyond = wanted.beyond.saturating_add(wanted.replicas - available);
        Target {
            available_unbounded: available.saturating_add(beyond),
            available,
            replicas: available.saturating_add(beyond).saturating_add(unhealthy).min(fleet.replicas_max),
        }
    }

    /// What may go, in the order of urgency. Sets `wake_at` to when the next one may go by time alone.
    fn ends(
        &self,
        target: u32,
        back: &[&GameServer],
        hosts: &HostLoads,
        now: Timestamp,
        wake_at: &mut Option<Timestamp>,
    ) -> Vec<End<'a>> {
        let mut ends = Vec::new();
        let mut due = |at: Timestamp| {
            if at > now {
                *wake_at = Some(wake_at.map_or(at, |wake| wake.min(at)));
            }
            at <= now
        };
        let mut ready = self.ready();
        let mut kept = self.kept();
        for server in self.candidates(ready > target, hosts) {
            if back.iter().any(|one| one.name == server.name) {
                continue;
            }
            let outdated = self.is_outdated(server);
            let needless = self.needless(server);
            let idle_since = server.idle_since.filter(|_| server.is_idle());
            let emptied = |wait: Duration| idle_since.map(|since| since + wait);
            let reason = match server.state {
                State::Unhealthy => {
                    emptied(UNHEALTHY_STOP_AFTER).filter(|at| due(*at)).map(|_| StopReason::Unhealthy)
                }
                // Kept until others are there: the drain may be undone.
                State::Draining
                    if leaves(server) && ready < target && self.live() < self.fleet.replicas_max =>
                {
                    None
                }
                State::Draining => {
                    emptied(CORDON_WAIT).filter(|at| due(*at)).map(|_| server.cordoned.unwrap_or(needless))
                }
                // It answers nobody yet, so the fleet is no shorter of ready servers without it.
                State::Starting if idle_since.is_none() => None,
                // Whoever was on it before its process died, or was sent there, comes back to it.
                State::Starting if was_up(server) && !emptied(CORDON_WAIT).is_some_and(&mut due) => None,
                State::Starting if leaves(server) => Some(StopReason::HostDrained),
                State::Starting if outdated => Some(StopReason::Outdated),
                State::Starting => {
                    let timed_out =
                        server.starting_since.is_some_and(|at| due(at + self.fleet.start_timeout));
                    // One that will take the place of an outdated one is not too many.
                    let surplus = kept > target;
                    timed_out
                        .then_some(StopReason::NeverReady)
                        .or_else(|| surplus.then_some(StopReason::Surplus))
                }
                State::Ready | State::Reserved | State::Allocated => {
                    let may_go = idle_since.is_some() || self.gives_up_busy() || server.worn.is_some();
                    (ready > target && may_go).then_some(needless)
                }
                State::Stopped => None,
            };
            if let Some(reason) = reason {
                ready -= u32::from(server.state.takes_players());
                kept -= u32::from(self.is_kept(server));
                ends.push(End { server, reason });
            }
        }
        ends
    }

    /// Whether a server may be cordoned while somebody is on it.
    fn gives_up_busy(&self) -> bool {
        match self.fleet.autoscale.scale_in {
            ScaleIn::Idle => false,
            ScaleIn::Cordon => true,
        }
    }

    /// Whether it counts and need not be replaced.
    fn is_kept(&self, server: &GameServer) -> bool {
        is_available(server) && !is_worn(server) && (!self.is_outdated(server) || !server.is_idle())
    }

    fn kept(&self) -> u32 {
        count(self.live.iter().filter(|server| self.is_kept(server)))
    }

    /// One that goes although nothing can be started in its place: the fleet is at its maximum, all of it takes players,
    /// and nothing is on its way out that would make room.
    fn exchanged(&self, target: u32, hosts: &HostLoads) -> Option<End<'a>> {
        let full = self.live() >= self.fleet.replicas_max;
        let whole = self.ready() == target && self.starting() == 0;
        let gone_soon = |server: &&GameServer| !server.state.takes_players() && server.is_idle();
        if !full || !whole || self.kept() >= target || self.live.iter().copied().any(|s| gone_soon(&s)) {
            return None;
        }
        // Nobody knows when a busy one will be empty, so another must be there for as long.
        let may_wait = self.live() == self.ready() && self.ready() > 1;
        let goes = |server: &&GameServer| {
            server.state.takes_players() && !self.is_kept(server) && (may_wait || server.is_idle())
        };
        let server = self.candidates(true, hosts).into_iter().find(goes)?;
        Some(End { server, reason: self.needless(server) })
    }

    /// Idle ones to be replaced first, then worn ones, idle ones, busy ones; of each the outdated first, then where the
    /// host empties soonest, then the one with the least on it, then the longest idle, then by name.
    fn candidates(&self, surplus: bool, hosts: &HostLoads) -> Vec<&'a GameServer> {
        let may_go = |server: &&GameServer| surplus || !server.state.takes_players();
        let mut candidates: Vec<&GameServer> = self.live.iter().copied().filter(may_go).collect();
        candidates.sort_by_cached_key(|server| {
            let host = hosts.get(&server.host).copied().unwrap_or_default();
            let load = (server.rooms, server.connections.saturating_add(server.in_flight));
            let idle_since = server.idle_since.unwrap_or(Timestamp::from_unix_ms(u64::MAX));
            let class = match (server.is_idle(), is_worn(server)) {
                (true, worn) if worn || self.is_outdated(server) => 0,
                (false, true) => 1,
                (true, _) => 2,
                (false, false) => 3,
            };
            (class, !self.is_outdated(server), host, load, idle_since, server.name.clone())
        });
        candidates
    }

    /// Cordoned servers to give players to again: as many as are missing, the fullest first, and those that somebody
    /// came to while only idle ones may go.
    fn given_back(&self, target: u32) -> Vec<&'a GameServer> {
        let surplus = |server: &&&GameServer| {
            server.state == State::Draining
                && server.cordoned == Some(StopReason::Surplus)
                && !self.is_outdated(server)
                && server.worn.is_none()
        };
        let mut back: Vec<&GameServer> = self.live.iter().filter(surplus).copied().collect();
        back.sort_by_cached_key(|s| (Reverse(s.rooms), Reverse(s.connections), s.name.clone()));
        let missing = target.saturating_sub(self.available()) as usize;
        let kept = |(at, server): &(usize, &GameServer)| {
            *at < missing || (!self.gives_up_busy() && server.is_busy())
        };
        back.into_iter().enumerate().filter(kept).map(|(_, server)| server).collect()
    }

    /// What to start when `available` servers remain after the stops of this plan and `back` are given back. A server
    /// that is being stopped still counts against `replicas_max`: its process is there.
    fn starts(&self, target: &Target, available: u32, back: u32) -> Start {
        let available = available + back;
        let missing = target.available_unbounded.saturating_sub(available);
        let kept = self.kept() + back;
        let replaces = missing == 0 && available == target.available && kept < target.available;
        let asked = if replaces { 1 } else { missing };
        let count = asked.min(self.fleet.replicas_max.saturating_sub(self.live()));
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

/// Whether a process of it answered before the one that starts now. `starting_since` is of the control plane's clock and
/// `started_at` of the agent's, once the agent has told it: with the agent's behind, a first start waits like one that was
/// up; with the agent's ahead by more than the former process lived, that one is taken for a first start.
fn was_up(server: &GameServer) -> bool {
    server.starting_since.is_some_and(|since| since > server.started_at)
}

fn is_available(server: &GameServer) -> bool {
    server.state.takes_players() || is_starting(server)
}

/// One that does not answer yet has not done anything.
const fn is_worn(server: &GameServer) -> bool {
    server.worn.is_some() && server.state.takes_players()
}

fn is_starting(server: &GameServer) -> bool {
    matches!(server.state, State::Starting) && !leaves(server)
}

/// One whose host is drained: it will take no players again.
fn leaves(server: &GameServer) -> bool {
    server.cordoned == Some(StopReason::HostDrained)
}

/// A fleet has far fewer than 4 billion servers; the count saturates rather than wraps.
fn count<T>(items: impl IntoIterator<Item = T>) -> u32 {
    u32::try_from(items.into_iter().count()).unwrap_or(u32::MAX)
}
