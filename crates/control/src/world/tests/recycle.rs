//! Servers that leak: what an agent tells of them makes the world replace them between two rooms.

use greenroom_core::ServerName;
use greenroom_core::fleet::{Fleet, Recycle};
use greenroom_wire::Text;
use greenroom_wire::agent::{ProcessPhase, ToAgent};
use greenroom_wire::api::{Allocation, AuditAction, GameserverStatus, StateWord};
use greenroom_wire::link::Measured;
use greenroom_wire::rooms::EndReason;
use serde_json::Value;

use super::rig::{Rig, request, room_fleet, text};
use crate::world::{Answer, Call};

/// Two rooms on each server, and a server is worn after three of them.
fn leaky(replicas: (u32, u32)) -> Fleet {
    let recycle = Recycle { rooms: Some(3), ..Recycle::default() };
    Fleet { recycle, ..room_fleet("arena", replicas, 2, 4) }
}

fn served(rig: &mut Rig, server: &ServerName, rooms: u32) {
    let measured = Measured { rooms_served: Some(rooms), ..Measured::default() };
    rig.servers.get_mut(server).expect("it runs").report.measured = measured;
    rig.report();
}

fn shown(rig: &mut Rig, server: &ServerName) -> Option<GameserverStatus> {
    let Ok(Answer::Gameservers(list)) = rig.now_answered(Call::Gameservers(None)) else { panic!("a list") };
    list.gameservers.into_iter().find(|one| one.name.0 == *server)
}

fn stopped(rig: &Rig) -> Vec<(String, String)> {
    let stop = |order: &ToAgent| match order {
        ToAgent::Stop { server, reason, .. } => Some((server.to_string(), reason.clone())),
        _ => None,
    };
    rig.orders.iter().filter_map(stop).collect()
}

/// A server with a live room that has served as many rooms as it may.
fn worn(replicas: (u32, u32)) -> (Rig, Allocation) {
    let mut rig = Rig::ready(vec![leaky(replicas)]);
    let room = rig.allocate(request(None, &["a"])).unwrap();
    rig.seat(&room, &[(0, "a")]);
    served(&mut rig, &room.server.0, 2);
    rig.run_ms(3_000);
    assert_eq!(rig.servers.len(), 1, "nothing is worn yet");
    served(&mut rig, &room.server.0, 3);
    (rig, room)
}

#[test]
fn a_worn_server_is_replaced_while_its_room_goes_on_and_stopped_when_it_is_over() {
    let (mut rig, room) = worn((1, 3));
    rig.run_ms(200);
    assert_eq!(rig.servers.len(), 2, "its replacement comes first");
    rig.run_ms(2_000);
    let server = shown(&mut rig, &room.server.0).unwrap();
    assert_eq!(server.state, StateWord::Draining);
    assert_eq!(server.message, "gets nothing new: worn out: 3 rooms served, 3 allowed");
    let next = rig.allocate(request(None, &["b"])).unwrap();
    assert_ne!(next.server, room.server, "new rooms go elsewhere");
    rig.run_ms(60_000);
    assert_eq!(stopped(&rig), [], "a live room is never cut");

    rig.end(&room, EndReason::Finished, Value::Null);
    rig.run_ms(4_000);
    let reason = "worn out: 3 rooms served, 3 allowed".to_owned();
    assert_eq!(stopped(&rig), [(room.server.to_string(), reason.clone())]);
    let Ok(Answer::Audit(list)) = rig.now_answered(Call::Audit { before: None, limit: 9 }) else { panic!() };
    let told = list.entries.iter().find(|entry| entry.action == AuditAction::ServerStopped).unwrap();
    assert_eq!((told.reason.clone(), told.busy), (reason, false));
    rig.run_ms(20_000);
    assert_eq!((rig.servers.len(), rig.fleet("arena").replicas_wanted), (1, 1));
}

#[test]
fn at_the_maximum_the_only_server_is_replaced_once_it_is_empty() {
    let (mut rig, room) = worn((1, 1));
    rig.run_ms(30_000);
    assert_eq!((stopped(&rig), rig.servers.len()), (vec![], 1));
    let server = shown(&mut rig, &room.server.0).unwrap();
    assert_eq!(server.state, StateWord::Allocated);
    assert_eq!(server.message, "worn out: 3 rooms served, 3 allowed; to be replaced in its turn");
    let Ok(Answer::Decisions(list)) = rig.now_answered(Call::Decisions { fleet: text("arena"), limit: 9 })
    else {
        panic!("a list")
    };
    assert!(
        list.waiting_on
            .contains(&"1 worn out, replaced one after the other; 0 more on their way out".to_owned()),
        "{:?}",
        list.waiting_on
    );
    rig.end(&room, EndReason::Finished, Value::Null);
    rig.run_ms(10_000);
    assert_eq!(stopped(&rig).len(), 1);
    assert_eq!(rig.servers.len(), 1);
    assert!(!rig.servers.contains_key(&room.server.0), "it was replaced");
}

#[test]
fn a_process_that_died_is_a_fresh_one() {
    let (mut rig, room) = worn((1, 3));
    rig.run_ms(2_000);
    assert_eq!(shown(&mut rig, &room.server.0).unwrap().state, StateWord::Draining);
    rig.kill(&room.server.0);
    let report = &mut rig.servers.get_mut(&room.server.0).unwrap().report;
    (report.phase, report.measured) = (ProcessPhase::Ready, Measured::default());
    rig.report();
    assert_eq!(shown(&mut rig, &room.server.0).unwrap().state, StateWord::Ready);
    assert_eq!(stopped(&rig), []);
}

#[test]
fn the_age_is_that_of_the_process() {
    let mut fleet = leaky((1, 2));
    fleet.recycle = Recycle { age: Some(std::time::Duration::from_mins(10)), ..Recycle::default() };
    let mut rig = Rig::ready(vec![fleet]);
    let first = rig.servers_of("arena")[0].clone();
    rig.run_ms(300_000);
    let report = &mut rig.servers.get_mut(&first).unwrap().report;
    (report.restarts, report.instance) = (1, Text(text(&format!("{first}.2"))));
    rig.run_ms(590_000);
    assert!(rig.servers.contains_key(&first));
    rig.run_ms(20_000);
    assert!(!rig.servers.contains_key(&first));
    // Seen with the report of the next second.
    assert_eq!(stopped(&rig)[0].1, "worn out: 601 s old, 600 s allowed");
}
