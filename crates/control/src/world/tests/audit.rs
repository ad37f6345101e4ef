//! The audit trail: who, what, why and whether it was busy, over restarts and within its bound.

use greenroom_wire::agent::ProcessPhase;
use greenroom_wire::api::{AuditAction, AuditList};

use super::rig::*;
use crate::world::{Actor, Answer, Bounds, Call};

fn told(rig: &mut Rig, before: Option<u64>, limit: usize) -> AuditList {
    let Ok(Answer::Audit(list)) = rig.now_answered(Call::Audit { before, limit }) else { panic!("a list") };
    list
}

/// What was told but starts, which every rig begins with.
fn lines(rig: &mut Rig) -> Vec<String> {
    let mut entries = told(rig, None, 1_000).entries;
    entries.retain(|entry| entry.action != AuditAction::ServerStarted);
    let line = |entry: &greenroom_wire::api::AuditEntry| {
        let busy = if entry.busy { "busy" } else { "idle" };
        format!("{}: {:?}, {busy}: {}", entry.who, entry.action, entry.reason)
    };
    entries.iter().map(line).collect()
}

fn restart(by: Actor) -> Call {
    Call::Restart { fleet: text("arena"), by }
}

#[test]
fn what_a_caller_changed_is_told_with_its_name_and_who_was_disturbed() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (2, 2), 2, 4)]);
    let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    rig.now_answered(restart(Actor::Token("ops".into()))).unwrap();
    let mut told = lines(&mut rig);
    told.sort();
    assert_eq!(
        told,
        [
            "token ops: FleetRestarted, busy: 2 gameservers were told to begin anew",
            "token ops: ServerRestarted, busy: fleet arena begins anew",
            "token ops: ServerRestarted, idle: fleet arena begins anew",
        ]
    );
}

#[test]
fn a_frozen_server_that_its_agent_killed_is_told_with_why() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 2), 1, 4)]);
    let given = rig.allocate(request(None, &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    let how = "restarted (frozen: silent for 30 s and its probe fails): killed by signal 9 (SIGKILL)";
    let report = &mut rig.servers.get_mut(&given.server.0).unwrap().report;
    (report.phase, report.restarts, report.message) = (ProcessPhase::Restarting, 1, how.to_owned());
    report.rooms.clear();
    rig.report();
    assert_eq!(lines(&mut rig), [format!("process: ServerDied, busy: {how}")]);
}

#[test]
fn a_server_that_dies_or_is_stopped_is_told_with_the_reason() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 2), 1, 4)]);
    let given = rig.allocate(request(None, &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    let report = &mut rig.servers.get_mut(&given.server.0).unwrap().report;
    (report.phase, report.restarts, report.message) = (ProcessPhase::Restarting, 1, "signal 11".to_owned());
    report.rooms.clear();
    rig.report();
    assert_eq!(lines(&mut rig), ["process: ServerDied, busy: signal 11"]);

    rig.servers.remove(&given.server.0);
    rig.report();
    assert_eq!(lines(&mut rig)[0], "agent: ServerGone, idle: its agent no longer knows it");
}

#[test]
fn every_start_is_told_once_with_its_host_and_a_stop_after_it() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (2, 4), 1, 4)]);
    let entries = told(&mut rig, None, 10).entries;
    let mut started: Vec<_> = entries.iter().map(|entry| (entry.action, entry.subject.clone())).collect();
    started.sort_by(|a, b| a.1.cmp(&b.1));
    let names = rig.servers.keys().map(|name| (AuditAction::ServerStarted, name.to_string()));
    assert_eq!(started, names.collect::<Vec<_>>());
    for entry in entries {
        assert!(entry.reason.starts_with("ordered on host "), "{}", entry.reason);
        assert_eq!((entry.who.as_str(), entry.busy), ("autoscaler", false));
    }
}

#[test]
fn the_trail_survives_a_restart_counts_on_and_forgets_its_oldest_end() {
    let mut rig =
        Rig::new(vec![room_fleet("arena", (0, 2), 1, 4)], Bounds { audit_max: 3, ..Bounds::default() });
    rig.connect();
    for _ in 0..5 {
        rig.now_answered(restart(Actor::Anonymous)).unwrap();
    }
    let numbers = |list: &AuditList| list.entries.iter().map(|entry| entry.number).collect::<Vec<_>>();
    assert_eq!(numbers(&told(&mut rig, None, 10)), [5, 4, 3]);
    assert_eq!(rig.kept.records.audit.len(), 3, "the store forgets too");
    rig.restart();
    rig.connect();
    rig.now_answered(restart(Actor::Anonymous)).unwrap();
    let first = told(&mut rig, None, 2);
    assert_eq!((numbers(&first), first.before), (vec![6, 5], Some(5)));
    let second = told(&mut rig, first.before, 2);
    assert_eq!((numbers(&second), second.before), (vec![4], None));
    let action = second.entries[0].action;
    assert_eq!(action, AuditAction::FleetRestarted);
}

#[test]
fn a_refused_call_leaves_no_entry() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 1), 1, 4)]);
    let unknown = Call::Restart { fleet: text("nonesuch"), by: Actor::Anonymous };
    assert!(rig.now_answered(unknown).is_err());
    assert!(lines(&mut rig).is_empty());
}
