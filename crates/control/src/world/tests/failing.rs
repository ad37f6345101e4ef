//! Servers that die again and again, and servers that never answer.

use greenroom_core::ServerName;
use greenroom_wire::Text;
use greenroom_wire::agent::{FromAgent, ProcessPhase, Report, ToAgent};

use super::rig::*;
use crate::world::{Bounds, Call};

/// The agent gives a server up: it tells so once, then no longer knows it.
fn give_up(rig: &mut Rig, name: &ServerName, message: &str) {
    let mut report = rig.servers.remove(name).expect("it runs").report;
    (report.phase, report.message) = (ProcessPhase::Ended, message.to_owned());
    let others = rig.servers.values().map(|running| running.report.clone());
    let servers = others.chain([report]).collect();
    rig.say(FromAgent::Report(Report { at_ms: None, term: None, trouble: String::new(), servers }));
}

#[test]
fn a_fleet_whose_servers_cannot_live_is_started_ever_less_often_and_says_why() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 4), 2, 4)]);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let server = rig.servers_of("arena")[0].clone();
        give_up(&mut rig, &server, "died 6 times within 60 s; the last time: exited with code 64");
        let began = rig.now;
        let waiting = rig.fleet("arena").waiting_on.join("; ");
        assert!(waiting.contains("next start in ") && waiting.contains("exited with code 64"), "{waiting}");
        while rig.servers.is_empty() {
            rig.run_ms(100);
            assert!(rig.now.since(began).as_secs() < 100, "it never starts again");
        }
        pauses.push(rig.now.since(began).as_millis().div_ceil(1_000));
        rig.report();
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16]);
    let failure = rig.fleet("arena").last_failure.expect("told");
    assert!(failure.message.contains("exited with code 64"), "{failure:?}");
}

#[test]
fn a_server_that_asked_to_be_stopped_has_not_failed_and_is_replaced_at_once() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 4), 2, 4)]);
    for _ in 0..3 {
        let server = rig.servers_of("arena")[0].clone();
        give_up(&mut rig, &server, "stopped (it asked for it over its SDK): exited with code 0");
        rig.run_ms(300);
        assert_eq!(rig.servers.len(), 1, "another one has been started");
        rig.report();
    }
    assert_eq!(rig.fleet("arena").last_failure, None);
}

#[test]
fn a_server_that_dies_is_the_reason_that_readiness_and_fleet_tell() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 4), 2, 4)]);
    let server = rig.servers_of("arena")[0].clone();
    rig.servers.get_mut(&server).unwrap().report.message = "exited with code 64: bad number".to_owned();
    rig.kill(&server);
    let waiting = rig.fleet("arena").waiting_on;
    assert!(waiting.contains(&format!("{server}: exited with code 64: bad number")), "{waiting:?}");
    let call = Call::Readiness { minimum: crate::world::Minimum::Required };
    let crate::world::Answer::Readiness(readiness) = rig.now_answered(call).unwrap() else { panic!() };
    assert_eq!(
        readiness.waiting_on,
        [
            "fleet arena: 0 of 1 gameservers answer".to_owned(),
            format!("fleet arena: {server} exited with code 64: bad number"),
        ]
    );
}

#[test]
fn a_server_that_never_answers_is_replaced_and_the_reason_told() {
    let mut rig = Rig::new(vec![room_fleet("arena", (1, 2), 2, 4)], Bounds::default());
    rig.connect();
    rig.run_ms(200);
    let first = rig.servers_of("arena")[0].clone();
    let report = &mut rig.servers.get_mut(&first).unwrap().report;
    report.phase = ProcessPhase::Starting;
    report.message = "its probe has not passed yet: connection refused".to_owned();
    rig.run_ms(59_000);
    assert!(rig.servers.contains_key(&first));
    rig.run_ms(5_000);
    assert!(!rig.servers.contains_key(&first) && rig.servers.len() == 1, "{:?}", rig.servers.keys());
    let stopped = rig.orders.iter().find_map(|order| match order {
        ToAgent::Stop { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!(stopped, Some("did not answer within its fleet's start_timeout"));
    let failure = rig.fleet("arena").last_failure.expect("told");
    assert_eq!(failure.server, Text(first));
    assert!(failure.message.ends_with("its probe has not passed yet: connection refused"), "{failure:?}");
}

#[test]
fn the_output_of_a_server_that_is_gone_can_still_be_read() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 4), 2, 4)]);
    let server = rig.servers_of("arena")[0].clone();
    give_up(&mut rig, &server, "died");
    let asked = rig.ask(Call::Logs { server, offset: None, bytes_max: None });
    let outcome = Ok(greenroom_wire::api::LogsAnswer { text: "bye".to_owned(), next_offset: 3 });
    rig.say(FromAgent::Logs { request: asked.0, outcome });
    assert!(rig.answer(asked).is_ok());
}

#[test]
fn a_restart_that_somebody_asked_for_is_no_failure() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 4), 2, 4)]);
    let server = rig.servers_of("arena")[0].clone();
    rig.kill(&server);
    let report = &mut rig.servers.get_mut(&server).unwrap().report;
    (report.phase, report.restarts) = (ProcessPhase::Starting, 2);
    report.message = "its probe has not passed yet: connection refused".to_owned();
    rig.report();
    assert_eq!(rig.fleet("arena").last_failure, None);
    let report = &mut rig.servers.get_mut(&server).unwrap().report;
    report.restarts = 3;
    report.message = "the process before this one: exited with code 1".to_owned();
    rig.report();
    assert_eq!(rig.fleet("arena").last_failure.expect("told").message, "exited with code 1");
}
