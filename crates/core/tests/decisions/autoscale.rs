//! Scaling: each policy as a table, cool-downs and bounds as laws.

use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_core::autoscale::{
    Amount, ArrivalMeter, Autoscale, Binding, Block, BufferUnit, Calendar, Change, Decision, Flow, Freeze,
    Memory, Metric, Observed, Policy, ScaleIn, ServerLoad, Shape, StartTime, decide,
};
use greenroom_core::fleet::FleetKind;
use greenroom_core::gameserver::State;
use proptest::prelude::*;

const T0: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);
pub(crate) const SHAPE: Shape = Shape {
    kind: FleetKind::Room { rooms_per_server: 2, seats_per_room: 4 },
    replicas_min: 1,
    replicas_max: 50,
};
pub(crate) const MESH: Shape = Shape { kind: FleetKind::Mesh, ..SHAPE };

fn server(state: State, rooms: u32) -> ServerLoad {
    ServerLoad {
        full: false,
        state,
        idle: rooms == 0,
        rooms,
        players: rooms * 3,
        connections: rooms * 100,
        connects_per_minute: None,
        tick_lateness_ms: None,
        loop_lag_ms: None,
    }
}

pub(crate) fn servers(busy: u32, rooms: u32, idle: u32) -> Vec<ServerLoad> {
    let busy = (0..busy).map(|_| server(State::Allocated, rooms));
    busy.chain((0..idle).map(|_| server(State::Ready, 0))).collect()
}

pub(crate) fn observed(servers: &[ServerLoad], waiting: u32) -> Observed<'_> {
    Observed { servers, waiting, selective_missing: None, seats_free: 0, arrivals: None, start_time: None }
}

pub(crate) fn only(policy: Policy) -> Autoscale {
    Autoscale { policies: vec![policy], ..Autoscale::default() }
}

pub(crate) fn first(shape: &Shape, rules: &Autoscale, observed: &Observed<'_>) -> Decision {
    decide(shape, rules, observed, &Memory::default(), T0)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn each_policy_asks_for_what_its_rule_says() {
    let average = |metric, per_server, spare| Policy::TargetAverage { metric, per_server, spare };
    let buffer = |amount, unit| Policy::Buffer { amount, unit };
    // Four busy servers with one room of three players and 100 connections each, and one place each.
    let cases: [(&str, Shape, Policy, u32, u32); 17] = [
        ("demand keeps the busy ones", SHAPE, Policy::Demand, 0, 4),
        ("waiting rooms fill places first", SHAPE, Policy::Demand, 4, 4),
        ("waiting rooms share servers", SHAPE, Policy::Demand, 7, 6),
        ("a mesh needs one for who waits", MESH, Policy::Demand, 9, 1),
        ("at the target exactly", SHAPE, average(Metric::Connections, 100, 0), 0, 4),
        ("one above the target", SHAPE, average(Metric::Connections, 99, 0), 0, 5),
        ("spare load", SHAPE, average(Metric::Connections, 100, 101), 0, 6),
        ("players", SHAPE, average(Metric::Players, 5, 0), 0, 3),
        ("rooms", SHAPE, average(Metric::Rooms, 1, 0), 0, 4),
        ("connections of a mesh", MESH, average(Metric::Connections, 50, 0), 0, 8),
        ("rooms mean nothing for a mesh", MESH, average(Metric::Rooms, 1, 0), 0, 1),
        ("idle servers, as elsewhere", SHAPE, buffer(Amount::Absolute(3), BufferUnit::Servers), 0, 7),
        ("percent of all", SHAPE, buffer(Amount::Percent(20), BufferUnit::Servers), 0, 5),
        ("places count", SHAPE, buffer(Amount::Absolute(7), BufferUnit::Rooms), 0, 6),
        ("no more than there is", SHAPE, buffer(Amount::Absolute(4), BufferUnit::Rooms), 0, 4),
        ("seats of places count", SHAPE, buffer(Amount::Absolute(17), BufferUnit::Seats), 0, 5),
        ("a whole percentage is bounded", SHAPE, buffer(Amount::Percent(99), BufferUnit::Servers), 0, 50),
    ];
    let load = servers(4, 1, 0);
    for (name, shape, policy, waiting, target) in cases {
        let decision = first(&shape, &only(policy), &observed(&load, waiting));
        assert_eq!(decision.target, target, "{name}: {decision}");
    }
}

#[test]
fn base_stock_is_the_published_table() {
    // rate per second in millionths, lead in seconds, stock: reference figures at z = 3.09.
    let cases: [(u64, u64, u32); 9] = [
        (3_333_333, 10, 52),
        (3_333_333, 40, 170),
        (3_333_333, 120, 462),
        (555_556, 10, 13),
        (555_556, 40, 37),
        (555_556, 120, 92),
        (277_778, 10, 8),
        (277_778, 40, 22),
        (277_778, 120, 52),
    ];
    let shape = Shape {
        kind: FleetKind::Room { rooms_per_server: 1, seats_per_room: 4 },
        replicas_min: 0,
        replicas_max: 5_000,
    };
    for (per_second_micros, lead, stock) in cases {
        let flow = Flow { per_second_micros, growth_micros: 0, dispersion_milli: 1000 };
        let rules = Autoscale {
            cooldown_out: Duration::ZERO,
            ..only(Policy::BaseStock { z_milli: 3_090, start_time: seconds(lead) })
        };
        let seen = Observed { arrivals: Some(flow), ..observed(&[], 0) };
        assert_eq!(first(&shape, &rules, &seen).target, stock, "{per_second_micros} {lead}");
        // The cool-down is part of the lead time: what was ordered can only be corrected after it.
        let rules = Autoscale {
            cooldown_out: seconds(lead / 2),
            ..only(Policy::BaseStock { z_milli: 3_090, start_time: seconds(1) })
        };
        let half = Duration::from_secs(lead) - seconds(lead / 2);
        let start_time = Some(StartTime { median: half, p95: half, samples: 20 });
        let seen = Observed { start_time, ..seen };
        assert_eq!(first(&shape, &rules, &seen).target, stock, "{per_second_micros} {lead} with a cool-down");
    }
}

#[test]
fn what_is_not_measured_holds_the_fleet_where_it_is() {
    let load = servers(0, 0, 9);
    for policy in [
        Policy::BaseStock { z_milli: 3000, start_time: seconds(9) },
        Policy::TargetAverage { metric: Metric::LoopLag, per_server: 5, spare: 0 },
    ] {
        let rules = Autoscale {
            cooldown_in: Duration::ZERO,
            settle_in: Duration::ZERO,
            policies: vec![Policy::Demand, policy],
            ..Autoscale::default()
        };
        let decision = first(&SHAPE, &rules, &observed(&load, 0));
        assert_eq!((decision.replicas_wanted, decision.binding), (9, Binding::Unmeasured(1)), "{decision}");
    }
}

#[test]
fn late_ticks_are_spread_over_more_servers_and_starting_ones_do_not_count() {
    let mut load = servers(4, 1, 0);
    for server in &mut load {
        server.tick_lateness_ms = Some(30);
    }
    load.extend([server(State::Starting, 0), server(State::Starting, 0)]);
    let rules = only(Policy::TargetAverage { metric: Metric::TickLateness, per_server: 20, spare: 0 });
    assert_eq!(first(&SHAPE, &rules, &observed(&load, 0)).target, 6);
}

#[test]
fn red_servers_count_in_no_average_and_not_for_the_minimum() {
    let rules = only(Policy::TargetAverage { metric: Metric::Connections, per_server: 100, spare: 0 });
    let shape = Shape { replicas_min: 3, ..SHAPE };
    let mut load = servers(2, 1, 0);
    load.push(ServerLoad { connections: 1_000_000, rooms: 2, ..server(State::Unhealthy, 2) });
    load.push(ServerLoad { connections: 1_000_000, ..server(State::Draining, 2) });
    let decision = first(&shape, &rules, &observed(&load, 0));
    assert_eq!((decision.target, decision.binding), (3, Binding::Minimum));
    assert_eq!(
        (decision.replicas_wanted, decision.change),
        (3, Change::AtOnce),
        "two green ones are below three"
    );
}

#[test]
fn the_minimum_is_kept_at_once_and_exactly_it_is_enough() {
    // (minimum, healthy): what is wanted while both cool-downs run.
    for (minimum, healthy, change) in [(3, 2, Change::AtOnce), (3, 3, Change::None), (3, 4, Change::None)] {
        let shape = Shape { replicas_min: minimum, ..SHAPE };
        let decision = first(&shape, &Autoscale::default(), &observed(&servers(0, 0, healthy), 0));
        assert_eq!((decision.replicas_wanted, decision.change), (healthy.max(minimum), change));
    }
    // A server that dies changes nothing in the number, so its replacement waits for nothing.
    let shape = Shape { replicas_min: 3, ..SHAPE };
    let rules = Autoscale { freeze: Freeze::Everything, ..Autoscale::default() };
    let full = first(&shape, &rules, &observed(&servers(3, 1, 0), 0));
    let after = decide(&shape, &rules, &observed(&servers(1, 1, 0), 0), &full.memory, T0 + seconds(1));
    assert_eq!(after.replicas_wanted, 3);
}

#[test]
fn out_when_one_asks_in_when_all_agree() {
    let average = |per_server| Policy::TargetAverage { metric: Metric::Connections, per_server, spare: 0 };
    let rules = Autoscale {
        policies: vec![average(100), average(50), average(400)],
        cooldown_in: Duration::ZERO,
        settle_in: Duration::ZERO,
        ..Autoscale::default()
    };
    let decision = first(&SHAPE, &rules, &observed(&servers(4, 1, 0), 0));
    assert_eq!(
        (decision.replicas_wanted, decision.binding, decision.change),
        (8, Binding::Policy(1), Change::Out)
    );
    let load = servers(2, 1, 6);
    let decision = decide(&SHAPE, &rules, &observed(&load, 0), &decision.memory, T0 + seconds(1));
    assert_eq!(
        (decision.replicas_wanted, decision.binding, decision.change),
        (4, Binding::Policy(1), Change::In)
    );
}

#[test]
fn a_schedule_holds_in_its_own_time_zone() {
    // T0 is Friday 15 January 2027, 08:00 UTC: 17:00 in Tokyo.
    let schedule = |cron: &str, zone: &str, hours: u64| Policy::Schedule {
        calendar: Calendar::new(cron, zone).unwrap(),
        lasts: seconds(hours * 3600),
        replicas: 20,
    };
    let cases = [
        ("0 17 * * FRI", "Asia/Tokyo", 4, 20, Some(4 * 3600)),
        ("0 17 * * FRI", "UTC", 4, 1, Some(9 * 3600)),
        ("0 3 * * *", "America/New_York", 1, 1, Some(0)),
        ("30 16 * * *", "Asia/Tokyo", 1, 20, Some(1800)),
        ("0 16 * * *", "Asia/Tokyo", 1, 1, Some(23 * 3600)),
        ("0 17 * * SAT", "Asia/Tokyo", 4, 1, Some(24 * 3600)),
    ];
    for (cron, zone, hours, target, wake) in cases {
        let decision = first(&SHAPE, &only(schedule(cron, zone, hours)), &observed(&servers(0, 0, 1), 0));
        // New York at 03:00 is 08:00 UTC: exactly now.
        let target = if zone == "America/New_York" { 20 } else { target };
        let wake = if zone == "America/New_York" { Some(3600) } else { wake };
        assert_eq!(decision.target, target, "{cron} {zone}");
        assert_eq!(decision.wake_at, wake.map(|s| T0 + seconds(s)), "{cron} {zone}");
    }
}

#[test]
fn a_calendar_that_means_nothing_is_refused_with_the_reason() {
    for (cron, zone, word) in [
        ("0 17 * *", "UTC", "4 fields"),
        ("* * * * * *", "UTC", "6 fields"),
        ("0 25 * * *", "UTC", "no cron pattern"),
        ("0 1 * * *", "Mars/Olympus", "Mars/Olympus"),
        ("0 0 31 2 *", "UTC", "never"),
    ] {
        let error = Calendar::new(cron, zone).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_prewarmed_fleet_begins_early_enough_for_its_steps_and_cool_downs() {
    let policy = Policy::Prewarm { replicas: 10, ready_at: T0 + seconds(3600), until: T0 + seconds(7200) };
    let rules = Autoscale { step_out_max: 3, cooldown_in: Duration::ZERO, ..only(policy) };
    let start = seconds(20);
    let start_time = Some(StartTime { median: start, p95: start, samples: 9 });
    let mut memory = Memory::default();
    let mut full_at = None;
    for second in 0..9000 {
        let load = servers(0, 0, 1);
        let seen = Observed { start_time, ..observed(&load, 0) };
        let decision = decide(&SHAPE, &rules, &seen, &memory, T0 + seconds(second));
        memory = decision.memory;
        if decision.replicas_wanted == 10 && full_at.is_none() {
            full_at = Some(second);
        }
        if full_at.is_some() && second < 7200 {
            assert_eq!(decision.replicas_wanted, 10, "kept until the end");
        }
        if second == 8999 {
            assert_eq!(decision.replicas_wanted, 1, "given back afterwards");
        }
    }
    let ready = full_at.unwrap() + 20;
    assert!((2400..=3600).contains(&ready), "ready at {ready}");
}

#[test]
fn freeze_holds_what_is_asked_of_it() {
    let up = observed(&[], 0);
    let rules = |freeze| Autoscale {
        freeze,
        cooldown_in: Duration::ZERO,
        settle_in: Duration::ZERO,
        ..only(Policy::Schedule {
            calendar: Calendar::new("* * * * *", "UTC").unwrap(),
            lasts: seconds(60),
            replicas: 5,
        })
    };
    let many = servers(0, 0, 9);
    for (freeze, grown, shrunk) in
        [(Freeze::Nothing, 5, 5), (Freeze::ScaleIn, 5, 9), (Freeze::Everything, 1, 9)]
    {
        assert_eq!(first(&SHAPE, &rules(freeze), &up).replicas_wanted, grown, "{freeze:?}");
        assert_eq!(first(&SHAPE, &rules(freeze), &observed(&many, 0)).replicas_wanted, shrunk, "{freeze:?}");
    }
}

#[test]
fn only_idle_servers_are_given_up_and_never_more_than_a_step() {
    let rules = |step_in_max| Autoscale {
        step_in_max,
        cooldown_in: Duration::ZERO,
        settle_in: Duration::ZERO,
        ..only(Policy::TargetAverage { metric: Metric::Connections, per_server: 1000, spare: 0 })
    };
    let load = servers(4, 1, 5);
    for (step, wanted, block) in [(u32::MAX, 4, Block::Busy(4)), (2, 7, Block::Step(2))] {
        let decision = first(&SHAPE, &rules(step), &observed(&load, 0));
        assert_eq!((decision.target, decision.replicas_wanted), (1, wanted));
        assert_eq!(decision.blocked_by, [block]);
    }
}

#[test]
fn with_cordon_as_many_stay_as_the_rooms_would_fill() {
    let rules = Autoscale {
        cooldown_in: Duration::ZERO,
        settle_in: Duration::ZERO,
        scale_in: ScaleIn::Cordon,
        ..Autoscale::default()
    };
    // Nine servers with a room each, two fit on one.
    let load = servers(9, 1, 0);
    let down = first(&SHAPE, &rules, &observed(&load, 0));
    assert_eq!((down.target, down.replicas_wanted), (5, 5), "{down}");
    let up = first(&SHAPE, &rules, &observed(&load[..3], 4));
    assert_eq!(up.replicas_wanted, 4, "three rooms and four that wait need four servers: {up}");
    // A mesh goes as far as its load allows, though somebody is on each.
    let by_load = Autoscale {
        policies: vec![Policy::TargetAverage { metric: Metric::Connections, per_server: 300, spare: 0 }],
        ..rules
    };
    let mesh: Vec<ServerLoad> = servers(9, 1, 0).into_iter().map(|s| ServerLoad { rooms: 0, ..s }).collect();
    assert_eq!(first(&MESH, &by_load, &observed(&mesh, 0)).replicas_wanted, 3);
}

#[test]
fn a_resumed_memory_keeps_its_cool_downs() {
    let rules = only(Policy::TargetAverage { metric: Metric::Rooms, per_server: 1, spare: 0 });
    let load = servers(9, 1, 0);
    let memory = Memory::resumed(3, Some(T0), T0);
    let held = decide(&SHAPE, &rules, &observed(&load, 0), &memory, T0 + seconds(60));
    assert_eq!((held.replicas_wanted, held.target), (3, 9), "{held}");
    let out = decide(&SHAPE, &rules, &observed(&load, 0), &held.memory, T0 + seconds(180));
    assert_eq!((out.replicas_wanted, out.memory.out_at()), (9, Some(T0 + seconds(180))), "{out}");
}

#[test]
fn a_fleet_of_nothing_is_woken_by_who_waits_and_sleeps_again() {
    let shape = Shape { replicas_min: 0, ..SHAPE };
    let rules = only(Policy::BaseStock { z_milli: 3000, start_time: seconds(10) });
    let mut meter = ArrivalMeter::new(T0);
    meter.observe(T0 + seconds(5), 1);
    meter.observe(T0 + seconds(10), 0);
    let asleep = first(&shape, &rules, &observed(&[], 0));
    assert_eq!(asleep.replicas_wanted, 0);
    // Even with nothing measured and a scale-out a second ago.
    let woken = decide(&shape, &rules, &observed(&[], 1), &asleep.memory, T0 + seconds(1));
    assert_eq!((woken.replicas_wanted, woken.change, woken.binding), (1, Change::AtOnce, Binding::Wake));
    let mut memory = woken.memory;
    let idle = servers(0, 0, 1);
    let mut slept_at = None;
    for minute in 1..600 {
        let now = T0 + seconds(minute * 60);
        meter.observe(now, 0);
        let seen = Observed { arrivals: meter.flow(), ..observed(&idle, 0) };
        let decision = decide(&shape, &rules, &seen, &memory, now);
        memory = decision.memory;
        if decision.replicas_wanted == 0 && slept_at.is_none() {
            slept_at = Some(minute);
        }
    }
    assert!(slept_at.is_some_and(|minute| (60..300).contains(&minute)), "{slept_at:?}");
}

#[test]
fn a_decision_explains_itself() {
    let rules = Autoscale {
        policies: vec![Policy::Demand, Policy::BaseStock { z_milli: 3000, start_time: seconds(20) }],
        step_out_max: 4,
        ..Autoscale::default()
    };
    let flow = Flow { per_second_micros: 100_000, growth_micros: 0, dispersion_milli: 1000 };
    let load = servers(4, 1, 1);
    let seen = Observed { arrivals: Some(flow), ..observed(&load, 2) };
    let out = first(&SHAPE, &rules, &seen);
    let held = decide(&SHAPE, &rules, &seen, &out.memory, T0 + seconds(60));
    insta::assert_snapshot!(format!("{out}\n{held}"), @r"
    9 instead of 5; base_stock: 0.100 rooms/s for 200 s: 34 places should be free; 20 asked for, held back by at most 4 servers in one step
    9 stay; base_stock: 0.100 rooms/s for 200 s: 34 places should be free; 20 asked for, held back by the cool-down of scale-outs
    ");
}

/// Twenty-four hours of load that jumps about, decided every ten seconds.
fn noisy_day(rules: &Autoscale, noise: &[u8]) -> Vec<(Timestamp, Decision)> {
    let mut memory = Memory::default();
    let mut meter = ArrivalMeter::new(T0);
    let mut told = Vec::new();
    for tick in 0..8_640_u64 {
        let now = T0 + seconds(tick * 10);
        let at = usize::try_from(tick).unwrap();
        let noise = u32::from(noise[at % noise.len()] ^ noise[(at / noise.len()) % noise.len()]);
        meter.observe(now, noise % 4);
        let load = servers(noise % 37, 1 + noise % 2, noise % 5);
        let seen = Observed { arrivals: meter.flow(), ..observed(&load, noise % 3) };
        let decision = decide(&SHAPE, rules, &seen, &memory, now);
        memory = decision.memory;
        told.push((now, decision));
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_cool_down_is_ever_shorter_than_set_and_the_bounds_hold(
        noise in prop::collection::vec(any::<u8>(), 50..400),
        out in 0_u64..900,
        down in 0_u64..7200,
        settle in 0_u64..600,
        steps in (1_u32..9, 1_u32..9),
        demand in any::<bool>(),
        cordon in any::<bool>(),
    ) {
        let mut policies = vec![
            Policy::TargetAverage { metric: Metric::Connections, per_server: 80, spare: 50 },
            Policy::BaseStock { z_milli: 2000, start_time: seconds(15) },
        ];
        if demand {
            policies.push(Policy::Demand);
        }
        let rules = Autoscale {
            policies,
            cooldown_out: seconds(out),
            cooldown_in: seconds(down),
            settle_in: seconds(settle),
            step_out_max: steps.0,
            step_in_max: steps.1,
            freeze: Freeze::Nothing,
            scale_in: if cordon { ScaleIn::Cordon } else { ScaleIn::Idle },
        };
        let day = noisy_day(&rules, &noise);
        prop_assert_eq!(&day, &noisy_day(&rules, &noise), "the same input, the same day");
        let (mut out_at, mut changed_at, mut before) = (None, T0, None);
        for (now, decision) in day {
            let wanted = decision.replicas_wanted;
            prop_assert!((SHAPE.replicas_min..=SHAPE.replicas_max).contains(&wanted));
            prop_assert_eq!(decision.replicas_before, before.unwrap_or(decision.replicas_before));
            match decision.change {
                Change::None => prop_assert_eq!(wanted, decision.replicas_before),
                Change::AtOnce => {}
                Change::Out => {
                    let gap = out_at.map_or(Duration::MAX, |at| now.since(at));
                    prop_assert!(gap >= rules.cooldown_out, "out after {gap:?}");
                    let from = if demand { SHAPE.replicas_min } else { decision.replicas_before };
                    prop_assert!(demand || wanted > from && wanted - from <= rules.step_out_max);
                    out_at = Some(now);
                }
                Change::In => {
                    prop_assert!(now.since(changed_at) >= rules.cooldown_in);
                    prop_assert!(wanted < decision.replicas_before);
                    prop_assert!(decision.replicas_before - wanted <= rules.step_in_max);
                }
            }
            if decision.change != Change::None {
                prop_assert!(before.is_none() || wanted != decision.replicas_before);
                changed_at = now;
            }
            prop_assert!(decision.wake_at.is_none_or(|at| at > now), "asleep until {:?}", decision.wake_at);
            before = Some(wanted);
        }
    }
}
