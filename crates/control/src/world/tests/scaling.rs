//! How many servers the world keeps: waking, growing, shrinking, orders of people, and the reasons it gives.

use std::time::Duration;

use greenroom_core::autoscale::{Autoscale, Metric, Policy};
use greenroom_core::fleet::Fleet;
use greenroom_wire::agent::ToAgent;
use greenroom_wire::api::{
    Allocation, AuditAction, AutoscaleBody, ChangeWord, DecisionList, DryRunRequest, FreezeWord, ScaleOrder,
    ScaleRequest, StateWord,
};
use greenroom_wire::error::Code;
use greenroom_wire::rooms::EndReason;
use serde_json::Value;

use super::rig::{Rig, allocation, mesh_fleet, request, room_fleet, text};
use crate::world::{Actor, Answer, Bounds, Call, Refusal};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One room of four on each server, with short times.
fn quick(replicas: (u32, u32)) -> Fleet {
    let mut fleet = room_fleet("arena", replicas, 1, 4);
    fleet.autoscale = Autoscale { cooldown_in: seconds(20), settle_in: seconds(5), ..Autoscale::default() };
    fleet
}

fn waits(names: &[&str]) -> Call {
    let body = greenroom_wire::api::AllocateRequest { timeout_ms: None, ..request(None, names) };
    Call::Allocate { fleet: text("arena"), body }
}

fn explained(rig: &mut Rig) -> DecisionList {
    match rig.now_answered(Call::Decisions { fleet: text("arena"), limit: 100 }).unwrap() {
        Answer::Decisions(list) => *list,
        other => panic!("{other:?}"),
    }
}

fn scale(rig: &mut Rig, body: ScaleRequest) -> Result<ScaleOrder, Refusal> {
    match rig.now_answered(Call::Scale { fleet: text("arena"), body, by: Actor::Anonymous })? {
        Answer::Scaled(order) => Ok(order),
        other => panic!("{other:?}"),
    }
}

fn stops(rig: &Rig) -> usize {
    rig.orders.iter().filter(|order| matches!(order, ToAgent::Stop { .. })).count()
}

#[test]
fn a_call_that_waits_wakes_a_fleet_of_nothing_and_the_fleet_sleeps_again() {
    let mut rig = Rig::ready(vec![quick((0, 3))]);
    assert_eq!(rig.fleet("arena").replicas, 0);
    let call = rig.ask(waits(&["a"]));
    rig.run_ms(2_000);
    let given = allocation(rig.answer(call).unwrap());
    rig.seat(&given, &[(0, "a")]);
    rig.run_ms(60_000);
    assert_eq!(rig.fleet("arena").replicas, 1, "busy for longer than any cool-down");
    rig.end(&given, EndReason::Finished, Value::Null);
    rig.run_ms(40_000);
    assert_eq!(rig.fleet("arena").replicas, 0);
    let told: Vec<(u32, u32, ChangeWord)> = explained(&mut rig)
        .decisions
        .iter()
        .map(|one| (one.replicas_before, one.replicas_wanted, one.change))
        .collect();
    assert_eq!(told, [(1, 0, ChangeWord::In), (0, 1, ChangeWord::AtOnce)]);
}

#[test]
fn a_player_who_waits_wakes_a_sleeping_mesh() {
    let mut rig = Rig::ready(vec![mesh_fleet("lobby", (0, 2))]);
    assert_eq!(rig.fleet("lobby").replicas, 0);
    let call = rig.ask(Call::Endpoint { fleet: text("lobby"), select: None });
    rig.run_ms(2_000);
    assert!(matches!(rig.answer(call), Ok(Answer::Endpoint(_))));
}

#[test]
fn an_idle_server_is_cordoned_and_stopped_only_when_it_stayed_empty() {
    let mut rig = Rig::ready(vec![quick((0, 3))]);
    let calls = [rig.ask(waits(&["a"])), rig.ask(waits(&["b"]))];
    rig.run_ms(2_000);
    let rooms = calls.map(|call| allocation(rig.answer(call).unwrap()));
    rig.seat(&rooms[0], &[(0, "a")]);
    rig.seat(&rooms[1], &[(0, "b")]);
    rig.end(&rooms[1], EndReason::Finished, Value::Null);
    rig.run_ms(18_500);
    assert_eq!(rig.fleet("arena").replicas, 2, "the cool-down is not over");
    let states = |rig: &mut Rig| {
        let Ok(Answer::Gameservers(list)) = rig.now_answered(Call::Gameservers(None)) else { panic!() };
        list.gameservers.iter().map(|server| (server.name.0.clone(), server.state)).collect::<Vec<_>>()
    };
    while !states(&mut rig).contains(&(rooms[1].server.0.clone(), StateWord::Draining)) {
        assert_eq!(stops(&rig), 0, "it is cordoned first");
        rig.run_ms(100);
    }
    let cordoned_at = rig.now;
    // Somebody was still on the way to it.
    rig.servers.get_mut(&rooms[1].server.0).unwrap().report.connections = 1;
    rig.report();
    rig.run_ms(10_000);
    assert_eq!((stops(&rig), rig.fleet("arena").replicas), (0, 2), "it is given back");
    assert!(states(&mut rig).iter().all(|(_, state)| *state == StateWord::Allocated));
    rig.servers.get_mut(&rooms[1].server.0).unwrap().report.connections = 0;
    rig.report();
    rig.run_ms(40_000);
    assert_eq!((stops(&rig), rig.fleet("arena").replicas), (1, 1));
    assert_eq!(rig.servers_of("arena"), [rooms[0].server.0.clone()], "the busy one stays");
    assert!(rig.now.since(cordoned_at) > seconds(10));
}

/// A room that woke the fleet, was played in and is over.
fn played(rig: &mut Rig) -> Allocation {
    let call = rig.ask(waits(&["a"]));
    rig.run_ms(2_000);
    let given = allocation(rig.answer(call).unwrap());
    rig.seat(&given, &[(0, "a")]);
    rig.end(&given, EndReason::Finished, Value::Null);
    given
}

#[test]
fn a_lost_stop_is_not_repeated_while_somebody_is_on_the_server() {
    let mut rig = Rig::ready(vec![quick((0, 3))]);
    let given = played(&mut rig);
    rig.agent_obeys = false;
    while stops(&rig) == 0 {
        rig.run_ms(100);
    }
    rig.servers.get_mut(&given.server.0).unwrap().report.connections = 1;
    rig.report();
    let before = stops(&rig);
    rig.run_ms(10_000);
    assert_eq!(stops(&rig), before, "somebody came before the agent had heard of it");
    let Ok(Answer::Gameservers(list)) = rig.now_answered(Call::Gameservers(None)) else { panic!() };
    assert_eq!(list.gameservers[0].state, StateWord::Stopped, "and nobody is sent after them");
    rig.servers.get_mut(&given.server.0).unwrap().report.connections = 0;
    rig.report();
    assert!(stops(&rig) > before);
}

#[test]
fn a_stop_whose_order_was_lost_with_its_leader_is_carried_out_by_the_next_one_and_told_once() {
    let mut rig = Rig::ready(vec![quick((0, 3))]);
    let given = played(&mut rig);
    rig.agent_obeys = false;
    while stops(&rig) == 0 {
        rig.run_ms(100);
    }
    rig.restart();
    rig.agent_obeys = true;
    rig.connect();
    let call = rig.ask(waits(&["b"]));
    rig.run_ms(3_000);
    let next = allocation(rig.answer(call).unwrap());
    assert_ne!(next.server, given.server, "nothing is given to one that was told to stop");
    assert_eq!((stops(&rig), rig.servers_of("arena")), (1, vec![next.server.0]));
    let told = rig.kept.records.audit.iter().filter(|kept| kept.entry.action == AuditAction::ServerStopped);
    assert_eq!(told.count(), 1);
}

#[test]
fn a_stop_is_remembered_while_its_own_entry_is_in_the_trail_though_older_ones_are_let_go() {
    let mut rig = Rig::new(vec![quick((0, 3))], Bounds { audit_max: 2, ..Bounds::default() });
    rig.connect();
    let given = played(&mut rig);
    rig.agent_obeys = false;
    while stops(&rig) == 0 {
        rig.run_ms(100);
    }
    rig.restart();
    // Lets the entry of the server's start go, which is the oldest.
    rig.now_answered(Call::Restart { fleet: text("arena"), by: Actor::Anonymous }).unwrap();
    let kept: Vec<_> = rig.kept.records.audit.iter().map(|kept| kept.entry.action).collect();
    assert_eq!(kept, [AuditAction::ServerStopped, AuditAction::FleetRestarted]);
    rig.agent_obeys = true;
    rig.connect();
    let call = rig.ask(waits(&["b"]));
    rig.run_ms(3_000);
    let next = allocation(rig.answer(call).unwrap());
    assert_ne!(next.server, given.server, "nothing is given to one that was told to stop");
    assert_eq!(rig.servers_of("arena"), [next.server.0]);
}

#[test]
fn a_server_that_is_needed_again_is_given_back_before_anything_is_started() {
    let mut rig = Rig::ready(vec![quick((0, 3))]);
    let given = played(&mut rig);
    let draining = |rig: &mut Rig| {
        let Ok(Answer::Gameservers(list)) = rig.now_answered(Call::Gameservers(None)) else { panic!() };
        list.gameservers.iter().any(|server| server.state == StateWord::Draining)
    };
    while !draining(&mut rig) {
        rig.run_ms(100);
    }
    let again = rig.ask(waits(&["b"]));
    rig.run_ms(300);
    let again = allocation(rig.answer(again).unwrap());
    assert_eq!((again.server, rig.servers_of("arena").len()), (given.server, 1));
}

#[test]
fn policies_are_fed_with_what_servers_measure_and_the_binding_one_is_named() {
    let mut fleet = mesh_fleet("lobby", (1, 9));
    fleet.autoscale.policies = vec![
        Policy::Demand,
        Policy::TargetAverage { metric: Metric::Connections, per_server: 100, spare: 0 },
        Policy::TargetAverage { metric: Metric::ConnectRate, per_server: 60, spare: 0 },
        Policy::TargetAverage { metric: Metric::LoopLag, per_server: 10, spare: 0 },
    ];
    let cases: [(u32, u32, u32, u32, &str); 3] = [
        (350, 10, 2, 4, "350 connections, 100 for each server"),
        (90, 290, 2, 5, "290 connect_rate, 60 for each server"),
        (90, 10, 25, 3, "loop_lag is 25 ms, 10 ms allowed"),
    ];
    for (connections, connects, lag, wanted, because) in cases {
        let mut rig = Rig::ready(vec![fleet.clone()]);
        let name = rig.servers_of("lobby")[0].clone();
        let report = &mut rig.servers.get_mut(&name).unwrap().report;
        report.connections = connections;
        report.measured.connects_per_minute = Some(connects);
        report.measured.loop_lag_ms = Some(lag);
        rig.report();
        rig.silent_ms(100);
        let fleet = rig.fleet("lobby");
        assert_eq!(fleet.replicas_wanted, wanted, "{}", fleet.because);
        assert!(fleet.because.contains(because), "{}", fleet.because);
    }
}

#[test]
fn base_stock_grows_a_fleet_ahead_of_the_players() {
    let mut fleet = room_fleet("arena", (1, 60), 1, 1);
    fleet.autoscale = Autoscale {
        policies: vec![Policy::Demand, Policy::BaseStock { z_milli: 3_000, start_time: seconds(30) }],
        cooldown_out: Duration::ZERO,
        ..Autoscale::default()
    };
    let mut rig = Rig::ready(vec![fleet]);
    for second in 0..60 {
        let call = rig.ask(waits(&[&format!("p{second}")]));
        rig.run_ms(1_000);
        let given = allocation(rig.answer(call).unwrap());
        rig.seat(&given, &[(0, &format!("p{second}"))]);
        rig.end(&given, EndReason::Finished, Value::Null);
    }
    let list = explained(&mut rig);
    let now = list.now.unwrap();
    let stock = now.policies.iter().find(|word| word.policy == "base_stock").unwrap();
    // A room a second, and servers of the rig start within a second: some, and not many.
    assert!(stock.replicas.is_some_and(|replicas| (2..=20).contains(&replicas)), "{now:?}");
    assert!(now.inputs.start_p95_ms.is_some_and(|ms| ms <= 1_000), "{now:?}");
    assert!(now.inputs.arrivals_per_1000_s.is_some_and(|rooms| (900..=1_100).contains(&rooms)), "{now:?}");
}

#[test]
fn an_order_is_kept_at_once_for_its_time_and_over_a_restart() {
    let mut rig = Rig::ready(vec![quick((1, 9))]);
    let until_ms = Some(rig.now.unix_ms() + 120_000);
    let order = ScaleRequest { replicas: Some(6), until_ms, ..ScaleRequest::default() };
    scale(&mut rig, order).unwrap();
    rig.run_ms(3_000);
    assert_eq!(rig.fleet("arena").ready, 6);
    rig.restart();
    rig.connect();
    rig.run_ms(60_000);
    assert_eq!(rig.fleet("arena").ready, 6, "the order is stored");
    rig.run_ms(120_000);
    assert_eq!(rig.fleet("arena").ready, 1, "its time is over");
}

#[test]
fn a_fleet_is_warm_by_the_moment_it_was_ordered_for() {
    let mut fleet = quick((1, 9));
    fleet.autoscale.cooldown_out = seconds(60);
    fleet.autoscale.step_out_max = 4;
    let mut rig = Rig::ready(vec![fleet]);
    let ready_at_ms = Some(rig.now.unix_ms() + 600_000);
    let order = ScaleRequest { replicas: Some(8), ready_at_ms, ..ScaleRequest::default() };
    scale(&mut rig, order).unwrap();
    rig.run_ms(400_000);
    assert_eq!(rig.fleet("arena").ready, 1, "it is too early");
    rig.run_ms(199_000);
    assert_eq!(rig.fleet("arena").ready, 8);
}

#[test]
fn a_frozen_fleet_does_not_shrink_until_it_is_told_to() {
    let mut rig = Rig::ready(vec![quick((0, 3))]);
    played(&mut rig);
    let freeze = |freeze| ScaleRequest { freeze: Some(freeze), ..ScaleRequest::default() };
    scale(&mut rig, freeze(FreezeWord::ScaleIn)).unwrap();
    rig.run_ms(120_000);
    let list = explained(&mut rig);
    assert_eq!((rig.fleet("arena").replicas, list.order.freeze), (1, FreezeWord::ScaleIn));
    assert_eq!(list.now.unwrap().blocked_by, ["frozen"]);
    scale(&mut rig, freeze(FreezeWord::Nothing)).unwrap();
    rig.run_ms(10_000);
    assert_eq!(rig.fleet("arena").replicas, 0);
}

#[test]
fn an_order_that_makes_no_sense_is_refused_with_the_reason() {
    let mut rig = Rig::ready(vec![quick((1, 9))]);
    let now_ms = rig.now.unix_ms();
    let order = ScaleRequest { replicas: Some(3), ..ScaleRequest::default() };
    let cases = [
        (ScaleRequest { replicas: Some(10), ..order.clone() }, "replicas_max is 9"),
        (ScaleRequest { until_ms: Some(now_ms), ..order.clone() }, "in the future"),
        (
            ScaleRequest { ready_at_ms: Some(now_ms + 9), until_ms: Some(now_ms + 9), ..order },
            "after ready_at_ms",
        ),
        (ScaleRequest { ready_at_ms: Some(now_ms), ..ScaleRequest::default() }, "say how many"),
        (ScaleRequest::default(), "nothing is ordered"),
    ];
    for (body, reason) in cases {
        let refusal = scale(&mut rig, body).unwrap_err();
        assert_eq!(refusal.code(), Code::BadRequest);
        assert!(refusal.to_string().contains(reason), "{refusal}");
    }
}

#[test]
fn cool_downs_go_on_over_a_restart() {
    let mut fleet = room_fleet("arena", (1, 9), 1, 4);
    fleet.autoscale = Autoscale {
        policies: vec![Policy::TargetAverage { metric: Metric::Connections, per_server: 10, spare: 0 }],
        cooldown_out: seconds(100),
        ..Autoscale::default()
    };
    let mut rig = Rig::ready(vec![fleet]);
    let name = rig.servers_of("arena")[0].clone();
    let load = |rig: &mut Rig, connections: u32| {
        rig.servers.get_mut(&name).unwrap().report.connections = connections;
        rig.report();
    };
    load(&mut rig, 25);
    rig.run_ms(10_000);
    assert_eq!(rig.fleet("arena").ready, 3);
    load(&mut rig, 45);
    rig.restart();
    rig.connect();
    rig.run_ms(60_000);
    let fleet = rig.fleet("arena");
    assert_eq!(fleet.ready, 3, "{}", fleet.because);
    assert_eq!(fleet.waiting_on, ["5 asked for, held back by the cool-down of scale-outs"]);
    rig.run_ms(40_000);
    assert_eq!(rig.fleet("arena").ready, 5);
    assert_eq!(explained(&mut rig).decisions.len(), 3, "those of the first process too");
}

#[test]
fn a_dry_run_tells_what_other_rules_would_do_and_does_nothing() {
    let mut rig = Rig::ready(vec![quick((1, 9))]);
    let rules = Autoscale {
        policies: vec![Policy::Buffer {
            amount: greenroom_core::autoscale::Amount::Absolute(5),
            unit: greenroom_core::autoscale::BufferUnit::Servers,
        }],
        ..Autoscale::default()
    };
    let body = DryRunRequest { autoscale: Some(AutoscaleBody::from(&rules)), ..DryRunRequest::default() };
    let dry_run =
        |rig: &mut Rig, body: DryRunRequest| rig.now_answered(Call::DryRun { fleet: text("arena"), body });
    let Ok(Answer::DryRun(decision)) = dry_run(&mut rig, body) else { panic!() };
    assert_eq!(
        (decision.replicas_before, decision.replicas_wanted, decision.binding.as_str()),
        (1, 5, "buffer")
    );
    rig.run_ms(5_000);
    assert_eq!((rig.fleet("arena").replicas, explained(&mut rig).decisions.len()), (1, 1));
    let body = DryRunRequest { replicas_min: Some(10), ..DryRunRequest::default() };
    let refusal = dry_run(&mut rig, body).unwrap_err();
    assert!(refusal.to_string().contains("replicas_min is 10, above replicas_max, which is 9"), "{refusal}");
}
