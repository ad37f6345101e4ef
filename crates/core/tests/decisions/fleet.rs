//! What a fleet does next: the rules as tables, the promises as laws.

use std::time::Duration;

use crate::support::{NOW, fleet, mesh, servers};
use greenroom_core::Timestamp;
use greenroom_core::autoscale::ScaleIn;
use greenroom_core::fleet::{
    Action, CORDON_WAIT, Fleet, HostLoad, HostLoads, Limits, Plan, Reason, StopReason, Wanted, plan,
};
use greenroom_core::gameserver::{GameServer, State};
use proptest::prelude::*;

const LIMITS: Limits = Limits { actions_max: 100 };

fn wanted(replicas: u32) -> Wanted {
    Wanted { replicas, beyond: 0 }
}

/// The plan for so many servers, on hosts that carry nothing else.
fn planned(fleet: &Fleet, replicas: u32, servers: &[GameServer]) -> Plan {
    plan(fleet, servers, wanted(replicas), &HostLoads::new(), LIMITS, NOW)
}

/// The reason without what it was worn by.
fn why(reason: StopReason) -> String {
    format!("{reason:?}").split('(').next().unwrap().to_owned()
}

fn words(plan: &Plan) -> String {
    let actions = plan.actions.iter().map(|action| match action {
        Action::Start => "start".to_owned(),
        Action::Cordon { server, reason } => format!("cordon {server} {}", why(*reason)),
        Action::Uncordon { server } => format!("uncordon {server}"),
        Action::Stop { server, reason } => format!("stop {server} {}", why(*reason)),
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

/// Name, wanted and most servers, servers, and the plan in words.
pub(crate) type Case = (&'static str, (u32, u32), &'static str, &'static str);

pub(crate) fn check(of: fn(u32, u32) -> Fleet, cases: &[Case]) {
    for (name, (replicas, most), text, expected) in cases {
        let fleet = of(0, *most);
        assert_eq!(words(&planned(&fleet, *replicas, &servers(text))), *expected, "{name}");
    }
}

#[test]
fn a_fleet_takes_the_next_step_towards_its_target() {
    check(
        fleet,
        &[
            ("what is missing is started", (2, 5), "", "2: start start ? starting 2"),
            ("what starts counts", (2, 5), "a starting", "2: start ? starting 2"),
            ("it is there", (2, 5), "a ready, b ready", "2:"),
            ("another fleet is not ours", (1, 5), "a ready fleet=lobby", "1: start ? starting 1"),
            ("a stopped server is gone", (1, 5), "a stopped", "1: start ? starting 1"),
            ("no more than the maximum", (3, 2), "a ready", "2: start ? starting 1 ? at maximum 3/2"),
            (
                "above a lowered maximum nothing is cut",
                (2, 1),
                "a allocated rooms=1, b allocated rooms=1",
                "1:",
            ),
            ("idle surplus is cordoned", (1, 5), "a ready idle=9, b ready idle=6", "1: cordon a Surplus"),
            (
                "and stopped when it stays empty",
                (1, 5),
                "a draining cordoned idle=3, b ready",
                "1: stop a Surplus",
            ),
            (
                "not before its last answers have run out",
                (1, 5),
                "a draining cordoned idle=1, b ready",
                "1: @ 2",
            ),
            ("the longest idle goes first", (1, 5), "a ready idle=4, b ready idle=5", "1: cordon b Surplus"),
            ("a surplus start is stopped at once", (0, 5), "a starting", "0: stop a Surplus"),
            ("who was on it before it died comes back to it", (0, 5), "a starting again=1 idle=1", "0: @ 2"),
            ("and when nobody came it goes", (0, 5), "a starting again=3 idle=3", "0: stop a Surplus @ 57"),
            ("a busy server is never surplus", (0, 5), "a ready connections=1, b ready flight=1", "0:"),
            (
                "nor one that says it is in use",
                (0, 5),
                "a allocated held, b draining cordoned held",
                "0: uncordon b",
            ),
            ("an allocated state alone is busy", (0, 5), "a allocated idle=9999", "0:"),
            (
                "what is needed again is given back before anything is started",
                (3, 5),
                "a draining cordoned, b ready, c draining cordoned",
                "3: uncordon a uncordon c",
            ),
            (
                "and only then started",
                (3, 5),
                "a draining cordoned, b ready",
                "3: uncordon a start ? starting 1",
            ),
            (
                "somebody came to it in the last moment",
                (1, 5),
                "a draining cordoned rooms=1, b ready idle=5",
                "1: uncordon a",
            ),
        ],
    );
}

#[test]
fn what_cannot_be_handed_out_is_replaced() {
    check(
        fleet,
        &[
            (
                "an unhealthy one is replaced",
                (1, 2),
                "a unhealthy",
                "1: start ? starting 1 ? unhealthy 1 @ 59",
            ),
            ("but not above the maximum", (1, 1), "a unhealthy", "1: ? unhealthy 1 ? at maximum 2/1 @ 59"),
            (
                "an unhealthy one is stopped after a minute",
                (1, 1),
                "a unhealthy idle=60",
                "1: stop a Unhealthy ? unhealthy 1 ? at maximum 2/1",
            ),
            (
                "a busy unhealthy one is kept and counted",
                (1, 3),
                "a unhealthy rooms=1",
                "2: start ? starting 1 ? unhealthy 1",
            ),
            (
                "a draining one is replaced and, once idle, stopped",
                (1, 3),
                "a draining idle=9",
                "1: start stop a Surplus ? starting 1",
            ),
            ("one that starts has its time", (1, 3), "a starting since=15", "1: ? starting 1 @ 45"),
            (
                "one that never answers is replaced",
                (1, 3),
                "a starting since=60",
                "1: start stop a NeverReady ? starting 1",
            ),
            ("unless somebody is on it", (1, 3), "a starting since=600 rooms=1", "1: ? starting 1"),
            (
                "even where there is no room for another beside it",
                (1, 1),
                "a starting since=60",
                "1: stop a NeverReady ? at maximum 2/1",
            ),
        ],
    );
    check(
        mesh,
        &[
            ("a mesh keeps its number", (2, 4), "a ready connections=900", "2: start ? starting 1"),
            ("a mesh gives idle surplus up", (1, 4), "a ready connections=9, b ready", "1: cordon b Surplus"),
        ],
    );
}

#[test]
fn outdated_servers_are_replaced_one_by_one_and_never_below_what_is_wanted() {
    check(
        fleet,
        &[
            ("a replacement first", (2, 4), "a ready old, b ready old", "2: start ? starting 1"),
            ("then nothing until it answers", (2, 4), "a ready old, b ready old, c starting", "2:"),
            (
                "then one goes and the next is replaced",
                (2, 4),
                "a ready old, b ready old, c ready",
                "2: start cordon a Outdated ? starting 1",
            ),
            ("a mixed fleet goes on", (2, 4), "b ready old, c ready", "2: start ? starting 1"),
            (
                "at the maximum an idle one goes first",
                (2, 2),
                "a ready old, b ready",
                "2: cordon a Outdated ? at maximum 3/2",
            ),
            ("and is replaced", (2, 2), "a stopped old, b ready", "2: start ? starting 1"),
            ("one after the other", (2, 2), "a starting, b ready old", "2: ? starting 1 ? at maximum 3/2"),
            (
                "not while another makes room",
                (2, 3),
                "a ready old, b ready, c draining cordoned idle=1",
                "2: ? at maximum 4/3 @ 2",
            ),
            ("a busy outdated one stays", (2, 2), "a ready old rooms=1, b ready", "2:"),
            ("a busy one stays and is enough", (1, 4), "a allocated old rooms=1", "1:"),
            (
                "one that does not answer yet is replaced at once",
                (1, 4),
                "a starting old",
                "1: start stop a Outdated ? starting 1",
            ),
            ("with none wanted it just goes", (0, 4), "a ready old", "0: cordon a Outdated"),
            (
                "one that was cordoned is not given back",
                (2, 4),
                "a draining old cordoned, b ready",
                "2: start ? starting 1 @ 2",
            ),
        ],
    );
}

#[test]
fn the_server_goes_whose_host_empties_soonest() {
    let load = |busy, servers| HostLoad { busy, servers };
    let hosts: HostLoads = [("h1", load(2, 3)), ("h2", load(0, 4)), ("h3", load(0, 2))]
        .map(|(h, l)| (h.parse().unwrap(), l))
        .into();
    let world = servers("a ready idle=90 host=h1, b ready idle=80 host=h2, c ready idle=1 host=h3");
    let order: Vec<String> = (0..3)
        .map(|left| words(&plan(&fleet(0, 9), &world, wanted(2 - left), &hosts, LIMITS, NOW)))
        .collect();
    assert_eq!(
        order,
        [
            "2: cordon c Surplus",
            "1: cordon c Surplus cordon b Surplus",
            "0: cordon c Surplus cordon b Surplus cordon a Surplus"
        ]
    );
}

#[test]
fn with_cordon_the_emptiest_goes_even_while_somebody_is_on_it_and_is_stopped_only_when_empty() {
    let mut fleet = fleet(0, 9);
    fleet.autoscale.scale_in = ScaleIn::Cordon;
    let cases = [
        (1, "a allocated rooms=2, b allocated rooms=1", "1: cordon b Surplus"),
        (1, "a allocated rooms=2, b draining cordoned rooms=1", "1:"),
        (1, "a allocated rooms=2, b draining cordoned idle=3", "1: stop b Surplus"),
        (2, "a allocated rooms=2, b draining cordoned rooms=1", "2: uncordon b"),
        (1, "a allocated rooms=1, b ready", "1: cordon b Surplus"),
    ];
    for (replicas, text, expected) in cases {
        assert_eq!(words(&planned(&fleet, replicas, &servers(text))), expected, "{text}");
    }
}

#[test]
fn a_plan_holds_no_more_actions_than_allowed_and_starts_come_first() {
    let world = servers("a unhealthy idle=90, b ready idle=9999 old");
    let limits = Limits { actions_max: 2 };
    let planned = plan(&fleet(0, 9), &world, wanted(3), &HostLoads::new(), limits, NOW);
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
    let one = (states, any::<bool>(), 0u16..=2, 0u32..2, 0u64..8_000, any::<bool>(), any::<bool>());
    prop::collection::vec(one, 0..12).prop_map(|parts| {
        parts
            .into_iter()
            .enumerate()
            .map(|(at, (state, old, rooms, connections, idle, empty, worn))| {
                let mut server = crate::support::server(&format!("arena-{at:05} ready idle={idle}"));
                server.state = state;
                if state == State::Starting {
                    server.starting_since = Some(NOW - Duration::from_secs(idle / 100));
                }
                if state == State::Draining {
                    server.cordoned = Some(StopReason::Surplus);
                }
                if old {
                    server.revision = "old".parse().unwrap();
                }
                server.worn = worn.then_some(crate::support::WORN);
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

fn find<'a>(servers: &'a mut [GameServer], name: &greenroom_core::ServerName) -> &'a mut GameServer {
    servers.iter_mut().find(|server| server.name == *name).unwrap()
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
            Action::Cordon { server, reason } => {
                let server = find(servers, server);
                (server.state, server.cordoned) = (State::Draining, Some(*reason));
                server.idle_since = server.idle_since.map(|_| now);
            }
            Action::Uncordon { server } => {
                let server = find(servers, server);
                (server.state, server.cordoned) = (State::Ready, None);
            }
            Action::Stop { server, .. } => servers.retain(|s| s.name != *server),
        }
    }
}

/// Plans until nothing is left to do. Each step is checked against what no step may do.
fn settle(fleet: &Fleet, servers: &mut Vec<GameServer>, replicas: u32, limits: Limits) -> Plan {
    let (mut now, mut next) = (NOW, 0);
    for _ in 0..400 {
        let planned = plan(fleet, servers, wanted(replicas), &HostLoads::new(), limits, now);
        let starts = planned.actions.iter().filter(|action| **action == Action::Start).count();
        assert!(starts == 0 || live(servers) + starts <= fleet.replicas_max as usize, "above the maximum");
        assert!(planned.actions.len() <= limits.actions_max, "too many actions");
        for action in &planned.actions {
            if let Action::Stop { server, .. } = action {
                let stopped = find(servers, server);
                assert!(stopped.is_idle(), "{server} is busy");
                assert!(!stopped.state.takes_players(), "{server} was not cordoned first");
                let cordoned = stopped.state == State::Draining;
                let empty = stopped.idle_since.map_or(Duration::ZERO, |since| now.since(since));
                assert!(!cordoned || empty >= CORDON_WAIT, "{server} was empty for {empty:?}");
            }
        }
        let ready_left = servers.iter().filter(|s| s.state.takes_players()).count() - cordoned(&planned);
        let short = ready_left < planned.replicas_wanted as usize
            && !planned.actions.iter().any(|action| matches!(action, Action::Uncordon { .. }));
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

fn cordoned(planned: &Plan) -> usize {
    planned.actions.iter().filter(|action| matches!(action, Action::Cordon { .. })).count()
}

fn handed_out(servers: &[GameServer]) -> u32 {
    servers.iter().filter(|server| server.state.takes_players()).count() as u32
}

proptest! {
    #[test]
    fn plans_carried_out_until_empty_reach_the_target_or_say_why_not(
        mut servers in world(), replicas in 0u32..12, most in 1u32..14, actions_max in 1usize..4, cordon: bool,
    ) {
        let mut fleet = fleet(0, most);
        fleet.autoscale.scale_in = if cordon { ScaleIn::Cordon } else { ScaleIn::Idle };
        let replicas = replicas.min(most);
        let last = settle(&fleet, &mut servers, replicas, Limits { actions_max });
        let short = handed_out(&servers) < last.replicas_wanted;
        let ill = servers.iter().any(|s| s.state == State::Unhealthy && !s.is_idle());
        prop_assert!(!short || !last.waiting_on.is_empty(), "short without a reason: {:?} {:?}", last, servers);
        let at_maximum = last.waiting_on.iter().any(|reason| matches!(reason, Reason::AtMaximum { .. }));
        prop_assert!(at_maximum || ill || last.waiting_on.is_empty(), "waits for nothing that comes: {:?}", last);
        if !at_maximum {
            prop_assert!(handed_out(&servers) >= replicas);
            prop_assert!(!servers.iter().any(|s| s.state.takes_players() && s.worn.is_some()), "{:?}", servers);
        }
        // Also at the maximum, as long as that is enough.
        if handed_out(&servers) >= last.replicas_wanted {
            let outlived = |s: &&GameServer| s.revision != fleet.revision || s.worn.is_some();
            let left = servers.iter().filter(|s| s.is_idle() && s.state != State::Stopped).filter(outlived);
            prop_assert_eq!(left.count(), 0);
        }
        let surplus = handed_out(&servers).saturating_sub(replicas) > 0;
        let idle = servers.iter().any(|s| s.is_idle() && s.state.takes_players());
        prop_assert!(!surplus || !idle, "idle servers are left: {:?}", servers);
        prop_assert!(!cordon || !surplus, "only empty ones went: {:?}", servers);
    }

    #[test]
    fn the_order_of_the_servers_does_not_matter(servers in world(), replicas in 0u32..9) {
        let mut turned = servers.clone();
        turned.reverse();
        let fleet = fleet(2, 6);
        prop_assert_eq!(planned(&fleet, replicas, &servers), planned(&fleet, replicas, &turned));
    }

    #[test]
    fn a_plan_never_takes_the_ready_servers_below_what_is_wanted(servers in world(), replicas in 0u32..5) {
        let planned = planned(&fleet(0, 9), replicas, &servers);
        let left = handed_out(&servers) - cordoned(&planned) as u32;
        // At the maximum one goes before its replacement is there.
        let exchanged = u32::from(live(&servers) >= 9);
        prop_assert!(left + exchanged >= replicas.min(handed_out(&servers)));
        let stops_ready = planned.actions.iter().any(|action| matches!(action, Action::Stop { server, .. }
            if servers.iter().any(|s| s.name == *server && s.state.takes_players())));
        prop_assert!(!stops_ready, "each is cordoned first");
    }

    #[test]
    fn nothing_changes_before_the_moment_a_plan_names(servers in world(), replicas in 0u32..5, part in 0u64..1000) {
        let fleet = fleet(1, 8);
        let first = planned(&fleet, replicas, &servers);
        let wait = first.wake_at.map_or(10_000_000, |at| at.unix_ms() - NOW.unix_ms() - 1);
        let now = NOW + Duration::from_millis(wait * part / 1000);
        let later = plan(&fleet, &servers, wanted(replicas), &HostLoads::new(), LIMITS, now);
        prop_assert_eq!(first, later);
    }
}

#[test]
fn a_reason_is_what_the_server_is() {
    let world = servers("a ready old idle=9, b ready idle=7200, c unhealthy idle=70");
    let planned = planned(&fleet(0, 9), 0, &world);
    let reasons: Vec<StopReason> = planned
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Stop { reason, .. } | Action::Cordon { reason, .. } => Some(*reason),
            Action::Start | Action::Uncordon { .. } => None,
        })
        .collect();
    assert_eq!(reasons, [StopReason::Outdated, StopReason::Surplus, StopReason::Unhealthy]);
}
