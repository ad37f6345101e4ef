//! `kill -9` of control: promises are kept, facts come back with the reports.

use greenroom_wire::agent::{FromAgent, Report, ToAgent};
use greenroom_wire::api::{RoomPhase, SeatWord};
use greenroom_wire::error::Code;
use greenroom_wire::rooms::EndReason;
use serde_json::{Value, json};

use super::rig::*;
use crate::world::{Call, Event, Records};

fn arena() -> Rig {
    Rig::ready(vec![room_fleet("arena", (2, 8), 4, 4)])
}

#[test]
fn a_reservation_made_just_before_is_honoured_and_its_claim_is_recognised() {
    let mut rig = arena();
    let given = rig.allocate(request(Some("k"), &["a", "b"])).unwrap();
    rig.silent_ms(100);
    rig.restart();
    let same = rig.allocate(request(Some("k"), &["c"])).unwrap();
    assert_eq!(
        (same.room.clone(), same.seats[0].seat),
        (given.room.clone(), 2),
        "answered before any report"
    );
    rig.connect();
    rig.seat(&given, &[(0, "a")]);
    let words: Vec<SeatWord> = rig.room(given.room.as_str()).seats.iter().map(|seat| seat.state).collect();
    assert_eq!(words, [SeatWord::Connected, SeatWord::Reserved, SeatWord::Reserved, SeatWord::Free]);
    rig.run_ms(40_000);
    assert_eq!(rig.fleet("arena").players, 1, "the others did not come");
}

#[test]
fn a_new_room_waits_for_the_known_hosts_within_its_deadline() {
    let mut rig = arena();
    rig.restart();
    assert_eq!(code(rig.allocate(request(None, &["a"]))), Code::Rebuilding);
    let mut body = request(None, &["a"]);
    body.timeout_ms = Some(4_000);
    let call = rig.ask(Call::Allocate { fleet: text("arena"), body });
    rig.silent_ms(1_000);
    assert!(!rig.answers.contains_key(&call));
    assert!(
        !rig.orders.iter().any(|order| matches!(order, ToAgent::Start { .. })),
        "nothing is started twice"
    );
    rig.connect();
    rig.report();
    allocation(rig.answer(call).unwrap());
}

#[test]
fn known_hosts_that_do_not_come_are_given_up() {
    let mut rig = arena();
    rig.restart();
    rig.silent_ms(4_900);
    assert_eq!(code(rig.allocate(request(None, &["a"]))), Code::Rebuilding);
    rig.silent_ms(200);
    assert_eq!(code(rig.allocate(request(None, &["a"]))), Code::NoCapacity);
    let stream = rig.connect_as("h2", "b", 0);
    let report =
        FromAgent::Report(Report { at_ms: None, term: None, trouble: String::new(), servers: Vec::new() });
    rig.event(Event::StreamSaid { stream, message: Box::new(report) });
    rig.silent_ms(200);
    assert!(rig.orders.iter().any(|order| matches!(order, ToAgent::Start { .. })));
}

#[test]
fn every_room_and_player_is_back_after_the_report() {
    for kept in [true, false] {
        let mut rig = arena();
        let rooms: Vec<_> = (0..8)
            .map(|n| {
                let player = format!("p{n}");
                let room = rig.allocate(request(Some(&format!("k{n}")), &[&player])).unwrap();
                rig.seat(&room, &[(0, &player)]);
                room
            })
            .collect();
        let before = rig.overview();
        if !kept {
            rig.kept.rooms.clear();
            rig.kept.records = Records::default();
        }
        rig.restart();
        rig.connect();
        rig.report();
        let after = rig.overview();
        assert_eq!(after.totals, before.totals, "stored: {kept}");
        for room in &rooms {
            assert_eq!(rig.room(room.room.as_str()).phase, RoomPhase::Live, "stored: {kept}");
            let key = room.key.as_ref().unwrap();
            let again = rig.allocate(request(Some(key.as_str()), &["more"])).unwrap();
            assert_eq!((&again.room, again.created), (&room.room, false), "stored: {kept}");
        }
        assert_eq!(rig.kept.rooms.len(), 8, "stored: {kept}: adopted rooms are promises too");
    }
}

#[test]
fn a_room_that_ended_meanwhile_gives_its_result_once() {
    let mut rig = arena();
    let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    rig.restart();
    rig.connect();
    rig.end(&given, EndReason::Finished, json!(7));
    rig.report();
    rig.run_ms(40_000);
    assert_eq!(rig.kept.records.results.len(), 1);
    assert_eq!(rig.kept.records.results[0].body.result, json!(7));
}

#[test]
fn a_result_that_was_not_taken_is_delivered_again() {
    let mut rig = arena();
    let given = rig.allocate(request(None, &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    rig.end(&given, EndReason::Finished, Value::Null);
    rig.restart();
    rig.restart();
    assert_eq!(distinct(&rig.delivered), 1);
    assert_eq!(rig.delivered.len(), 3);
    assert_eq!(rig.overview().totals.results_pending, 1);
}

#[test]
fn a_server_that_died_meanwhile_loses_what_was_promised_on_it() {
    let mut rig = arena();
    let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
    rig.restart();
    rig.connect();
    let name = given.server.0.clone();
    rig.kill(&name);
    assert_eq!(rig.room(given.room.as_str()).ended, Some(EndReason::ServerLost));
    rig.restart();
    rig.servers.remove(&name);
    rig.connect();
    rig.report();
    assert_eq!(rig.fleet("arena").rooms, 0);
}

#[test]
fn of_two_rooms_with_one_key_the_promised_one_stays() {
    let mut rig = arena();
    let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    let mut stray = given.clone();
    stray.room = greenroom_wire::Text(text("r-stray"));
    let other = rig.servers_of("arena").into_iter().find(|name| *name != given.server.0).unwrap();
    stray.server = greenroom_wire::Text(other);
    rig.orders.clear();
    rig.seat(&stray, &[(0, "z")]);
    let closed = rig.orders.iter().any(|order| {
        matches!(order, ToAgent::CloseRoom { room, reason: EndReason::Superseded, .. } if *room == stray.room)
    });
    assert!(closed);
    assert_eq!(rig.fleet("arena").rooms, 1);
}
