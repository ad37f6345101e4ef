//! What a fleet does next: the rules as tables, the promises as laws.

use std::time::Duration;

use crate::support::{NOW, ROOMS_PER_SERVER, fleet, mesh, servers};
use greenroom_core::Timestamp;
use greenroom_core::fleet::{Action, Demand, Fleet, Limits, Plan, Reason, StopReason, plan};
use greenroom_core::gameserver::{GameServer, State};
use proptest::prelude::*;

const LIMITS: Limits = Limits { actions_max: 100 };

fn words(plan: &Plan) -> String {
    let actions = plan.actions.iter().map(|action| match action {
        Action::Start => "start".to_owned(),
        Action::Stop { server, reason } => format!("stop {server} {reason:?}"),
    });
    let reasons = plan.waiting_on.iter().map(|reason| match reason {
        Reason::Starting(n) => format!("? starting {n}"),
        Reason::Unhealthy(n) => format!("? unhealthy {n}"),
        Reason::AtMaximum { wanted, replicas_max } => format!("? at maximum {wanted}/{replicas_max}"),
    });
    let wake = plan.wake_at.map(|at| format!("@ {}", at.since(NOW).as_secs()));
    let words =
        std::iter::once(format!("{}:", plan.replicas_wanted)).chain(actions).chain(reasons).chain(wake);
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_fleet_takes_the_next_step_towards_its_target() {
    let room = |waiting, min, max| (fleet(min, max), Demand { rooms_waiting: waiting });
    let cases = [
        ("the minimum is started", room(0, 2, 5), "", "2: start start ? starting 2"),
        ("what starts counts", room(0, 2, 5), "a starting", "2: start ? starting 2"),
        ("the minimum is there", room(0, 2, 5), "a ready, b ready", "2:"),
        ("another fleet is not ours", room(0, 1, 5), "a ready fleet=lobby", "1: start ? starting 1"),
        ("a stopped server is gone", room(0, 1, 5), "a stopped", "1: start ? starting 1"),
        ("waiting rooms ask for servers", room(5, 1, 9), "a ready", "3: start start ? starting 2"),
        ("free places are filled first", room(1, 1, 9), "a allocated rooms=1", "1:"),
        ("full servers are added to", room(1, 1, 9), "a allocated rooms=2", "2: start ? starting 1"),
        ("promised rooms are busy", room(1, 1, 9), "a reserved rooms=2, b ready", "2:"),
        ("no more than the maximum", room(9, 1, 2), "a ready", "2: start ? starting 1 ? at maximum 5/2"),
        (
            "no hole is dug below a lowered maximum",
            room(0, 1, 1),
            "a allocated rooms=1, b allocated rooms=1",
            "1:",
        ),
        (
            "idle surplus is kept for a while",
            room(0, 1, 5),
            "a ready idle=3600, b ready idle=600",
            "1: stop a Surplus",
        ),
        ("and told when it goes", room(0, 1, 5), "a ready idle=3000, b ready idle=600", "1: @ 600"),
        (
            "the longest idle goes first",
            room(0, 1, 5),
            "a ready idle=4000, b ready idle=5000",
            "1: stop b Surplus",
        ),
        ("what waits keeps a server", room(1, 0, 5), "a ready idle=9999", "1:"),
        (
            "a surplus start that never answers goes too",
            room(0, 0, 5),
            "a starting idle=3600",
            "0: stop a Surplus",
        ),
        ("a busy server is never surplus", room(0, 0, 5), "a ready connections=1, b ready flight=1", "2:"),
        ("an allocated state alone is busy", room(0, 0, 5), "a allocated idle=9999", "1:"),
    ];
    check(&cases);
}

/// Name, fleet, demand, servers, and the plan in words.
type Case = (&'static str, (Fleet, Demand), &'static str, &'static str);

fn check(cases: &[Case]) {
    for (name, (fleet, demand), text, expected) in cases {
        assert_eq!(words(&plan(fleet, &servers(text), *demand, LIMITS, NOW)), *expected, "{name}");
    }
}

#[test]
fn what_cannot_be_handed_out_is_replaced_and_a_mesh_keeps_its_minimum() {
    let room = |waiting, min, max| (fleet(min, max), Demand { rooms_waiting: waiting });
    let mesh = |min, max| (mesh(min, max), Demand::default());
    let cases = [
        (
            "an unhealthy one is replaced",
            room(0, 1, 2),
            "a unhealthy",
            "1: start ? starting 1 ? unhealthy 1 @ 59",
        ),
        ("but not above the maximum", room(0, 1, 1), "a unhealthy", "1: ? unhealthy 1 ? at maximum 2/1 @ 59"),
        (
            "an unhealthy one is stopped after a minute",
            room(0, 1, 1),
            "a unhealthy idle=60",
            "1: stop a Unhealthy ? unhealthy 1 ? at maximum 2/1",
        ),
        (
            "a busy unhealthy one is kept and counted",
            room(0, 1, 3),
            "a unhealthy rooms=1",
            "2: start ? starting 1 ? unhealthy 1",
        ),
        (
            "a draining one is replaced and, once idle, stopped",
            room(0, 1, 3),
            "a draining",
            "1: start stop a Surplus ? starting 1",
        ),
        ("one that starts has its time", room(0, 1, 3), "a starting since=15", "1: ? starting 1 @ 45"),
        (
            "one that never answers is replaced",
            room(0, 1, 3),
            "a starting since=60",
            "1: start stop a NeverReady ? starting 1",
        ),
        ("unless somebody is on it", room(0, 1, 3), "a starting since=600 rooms=1", "1: ? starting 1"),
        (
            "even where there is no room for another beside it",
            room(0, 1, 1),
            "a starting since=60",
            "1: stop a NeverReady ? at maximum 2/1",
        ),
        ("a mesh keeps its minimum", mesh(2, 4), "a ready connections=900", "2: start ? starting 1"),
        (
            "a mesh stops idle surplus",
            mesh(1, 4),
            "a ready connections=9, b ready idle=3600",
            "1: stop b Surplus",
        ),
    ];
    check(&cases);
}

#[test]
fn outdated_servers_are_replaced_one_by_one_and_never_below_the_minimum() {
    let cases = [
        ("a replacement first", (2, 4), "a ready old, b ready old", "2: start ? starting 1"),
        ("then nothing until it answers", (2, 4), "a ready old, b ready old, c starting", "2: @ 3599"),
        (
            "then one goes and the next is replaced",
            (2, 4),
            "a ready old, b ready old, c ready",
            "2: start stop a Outdated ? starting 1",
        ),
        ("a mixed fleet goes on", (2, 4), "b ready old, c ready", "2: start ? starting 1"),
        ("no room for a replacement", (2, 2), "a ready old, b ready", "2: ? at maximum 3/2"),
        ("a busy one stays and is enough", (1, 4), "a allocated old rooms=1", "1:"),
        (
            "one that does not answer yet is replaced at once",
            (1, 4),
            "a starting old",
            "1: start stop a Outdated ? starting 1",
        ),
        ("with no minimum it just goes", (0, 4), "a ready old", "0: stop a Outdated"),
    ];
    for (name, (min, max), text, expected) in cases {
        let planned = plan(&fleet(min, max), &servers(text), Demand::default(), LIMITS, NOW);
        assert_eq!(words(&planned), expected, "{name}");
    }
}

#[test]
fn a_plan_holds_no_more_actions_than_allowed_and_starts_come_first() {
    let world = servers("a unhealthy idle=90, b ready idle=9999 old");
    let limits = Limits { actions_max: 2 };
    let planned = plan(&fleet(3, 9), &world, Demand::default(), limits, NOW);
    assert_eq!(planned.actions, [Action::Start, Action::Start]);
}

/// A world for the laws: any states, so also contradictory ones.
fn world() -> impl Strategy<Value = Vec<GameServer>> {
    let states = prop::sample::select(vec![
        State::Starting,
        State::Ready,
        State::Reserved,
        State::Allocated,
        State::Draining,
        State::Unhealthy,
        State::Stopped,
    ]);
    let one = (states, any::<bool>(), 0u16..=ROOMS_PER_SERVER, 0u32..2, 0u64..8_000, any::<bool>());
    prop::collection::vec(one, 0..12).prop_map(|parts| {
        parts
            .into_iter()
            .enumerate()
            .map(|(at, (state, old, rooms, connections, idle, empty))| {
                let mut server = crate::support::server(&format!("arena-{at:05} ready idle={idle}"));
                server.state = state;
                if state == State::Starting {
                    server.starting_since = Some(NOW - Duration::from_secs(idle / 100));
                }
                if old {
                    server.revision = "old".parse().unwrap();
                }
                if !empty {
                    (server.rooms, server.connections) = (rooms, connections);
                }
                if server.is_busy() {
                    server.idle_since = None;
                }
                server
            })
            .collect()
    })
}

fn live(servers: &[GameServer]) -> usize {
    servers.iter().filter(|server| server.state != State::Stopped).count()
}

/// Carries the plan out, and lets everything that starts become ready before the next.
fn apply(planned: &Plan, servers: &mut Vec<GameServer>, next: &mut u32, now: Timestamp) {
    for server in servers.iter_mut().filter(|server| server.state == State::Starting) {
        server.state = State::Ready;
        server.starting_since = None;
    }
    for action in &planned.actions {
        match action {
            Action::Start => {
                let mut server = crate::support::server(&format!("new-{next:05} starting"));
                server.idle_since = Some(now);
                servers.push(server);
                *next += 1;
            }
            Action::Stop { server, .. } => servers.retain(|s| s.name != *server),
        }
    }
}

/// Plans until nothing is left to do. Each step is checked against what no step may do.
fn settle(fleet: &Fleet, servers: &mut Vec<GameServer>, demand: Demand, limits: Limits) -> Plan {
    let (mut now, mut next) = (NOW, 0);
    for _ in 0..400 {
        let planned = plan(fleet, servers, demand, limits, now);
        let starts = planned.actions.iter().filter(|action| **action == Action::Start).count();
        assert!(starts == 0 || live(servers) + starts <= fleet.replicas_max as usize, "above the maximum");
        assert!(planned.actions.len() <= limits.actions_max, "too many actions");
        for action in &planned.actions {
            if let Action::Stop { server, .. } = action {
                let stopped = servers.iter().find(|s| s.name == *server).unwrap();
                assert!(stopped.is_idle(), "{server} is busy");
            }
        }
        let ready_left =
            servers.iter().filter(|s| s.state.takes_players()).count() - stopped_ready(&planned, servers);
        let short = ready_left < planned.replicas_wanted as usize;
        assert!(!short || !planned.waiting_on.is_empty(), "short without a reason: {planned:?} {servers:?}");
        let starting = servers.iter().any(|server| server.state == State::Starting);
        if planned.actions.is_empty() && planned.wake_at.is_none() && !starting {
            return planned;
        }
        apply(&planned, servers, &mut next, now);
        now = planned.wake_at.filter(|_| planned.actions.is_empty()).unwrap_or(now + Duration::from_secs(1));
    }
    panic!("no end to the plans: {servers:?}");
}

fn stopped_ready(planned: &Plan, servers: &[GameServer]) -> usize {
    let stops = planned.actions.iter().filter(|action| {
        matches!(action, Action::Stop { server, .. }
            if servers.iter().any(|s| s.name == *server && s.state.takes_players()))
    });
    stops.count()
}

fn handed_out(servers: &[GameServer]) -> u32 {
    servers.iter().filter(|server| server.state.takes_players()).count() as u32
}

proptest! {
    #[test]
    fn plans_carried_out_until_empty_reach_the_target_or_say_why_not(
        mut servers in world(), min in 0u32..6, extra in 0u32..8, waiting in 0u32..12, actions_max in 1usize..4,
    ) {
        let fleet = fleet(min, min + extra);
        let demand = Demand { rooms_waiting: waiting };
        let last = settle(&fleet, &mut servers, demand, Limits { actions_max });
        let short = handed_out(&servers) < last.replicas_wanted;
        let ill = servers.iter().any(|s| s.state == State::Unhealthy && !s.is_idle());
        prop_assert!(!short || !last.waiting_on.is_empty(), "short without a reason: {:?} {:?}", last, servers);
        let at_maximum = last.waiting_on.iter().any(|reason| matches!(reason, Reason::AtMaximum { .. }));
        prop_assert!(at_maximum || ill || last.waiting_on.is_empty(), "waits for nothing that comes: {:?}", last);
        if !at_maximum {
            let free: u32 = servers.iter().map(|s| u32::from(s.rooms_free(ROOMS_PER_SERVER))).sum();
            prop_assert!(free >= waiting, "{} free for {}", free, waiting);
            prop_assert!(handed_out(&servers) >= min);
            let idle_outdated = servers.iter().filter(|s| s.is_idle() && s.revision != fleet.revision);
            prop_assert_eq!(idle_outdated.filter(|s| s.state != State::Stopped).count(), 0);
        }
    }

    #[test]
    fn the_order_of_the_servers_does_not_matter(servers in world(), waiting in 0u32..9) {
        let demand = Demand { rooms_waiting: waiting };
        let mut turned = servers.clone();
        turned.reverse();
        let fleet = fleet(2, 6);
        prop_assert_eq!(
            plan(&fleet, &servers, demand, LIMITS, NOW),
            plan(&fleet, &turned, demand, LIMITS, NOW)
        );
    }

    #[test]
    fn a_stop_never_takes_the_ready_servers_below_the_minimum(servers in world(), min in 0u32..5) {
        let fleet = fleet(min, 9);
        let planned = plan(&fleet, &servers, Demand::default(), LIMITS, NOW);
        let left = servers.iter().filter(|server| {
            server.state.takes_players()
                && !planned.actions.iter().any(
                    |action| matches!(action, Action::Stop { server: stopped, .. } if *stopped == server.name),
                )
        });
        prop_assert!(left.count() as u32 >= min.min(handed_out(&servers)));
    }

    #[test]
    fn nothing_changes_before_the_moment_a_plan_names(servers in world(), waiting in 0u32..5, part in 0u64..1000) {
        let (fleet, demand) = (fleet(1, 8), Demand { rooms_waiting: waiting });
        let first = plan(&fleet, &servers, demand, LIMITS, NOW);
        let wait = first.wake_at.map_or(10_000_000, |at| at.unix_ms() - NOW.unix_ms() - 1);
        let later = plan(&fleet, &servers, demand, LIMITS, NOW + Duration::from_millis(wait * part / 1000));
        prop_assert_eq!(first, later);
    }
}

#[test]
fn a_stop_reason_is_what_the_server_is() {
    let world = servers("a ready old idle=9, b ready idle=7200, c unhealthy idle=70");
    let planned = plan(&fleet(0, 9), &world, Demand::default(), LIMITS, NOW);
    let reasons: Vec<StopReason> = planned
        .actions
        .iter()
        .filter_map(|action| if let Action::Stop { reason, .. } = action { Some(*reason) } else { None })
        .collect();
    assert_eq!(reasons, [StopReason::Outdated, StopReason::Surplus, StopReason::Unhealthy]);
}
