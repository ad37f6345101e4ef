//! Rooms from the promise to the end.

use greenroom_wire::agent::{ProcessPhase, ToAgent};
use greenroom_wire::api::{AuditAction, FinishRequest, RoomPhase, SeatWord};
use greenroom_wire::error::Code;
use greenroom_wire::rooms::EndReason;
use serde_json::{Value, json};

use super::rig::*;
use crate::world::{Actor, Answer, Call, Event};

fn arena() -> Rig {
    Rig::ready(vec![room_fleet("arena", (2, 4), 2, 4)])
}

#[test]
fn a_seat_goes_from_reserved_to_connected_to_free() {
    let mut rig = arena();
    let given = rig.allocate(request(Some("k"), &["a", "b"])).unwrap();
    let words = |rig: &mut Rig| -> Vec<SeatWord> {
        rig.room(given.room.as_str()).seats.iter().map(|seat| seat.state).take(2).collect()
    };
    assert_eq!(words(&mut rig), [SeatWord::Reserved, SeatWord::Reserved]);
    assert_eq!(rig.room(given.room.as_str()).phase, RoomPhase::Reserved);
    rig.seat(&given, &[(0, "a"), (1, "b")]);
    assert_eq!(words(&mut rig), [SeatWord::Connected, SeatWord::Connected]);
    rig.seat(&given, &[(1, "b")]);
    assert_eq!(words(&mut rig), [SeatWord::Free, SeatWord::Connected], "left before the token ran out");
    rig.seat(&given, &[]);
    rig.run_ms(60_000);
    assert_eq!(rig.room(given.room.as_str()).phase, RoomPhase::Live, "the server ends a live room");
    rig.end(&given, EndReason::Finished, json!({"won": "b"}));
    let room = rig.room(given.room.as_str());
    assert_eq!((room.phase, room.ended), (RoomPhase::Ended, Some(EndReason::Finished)));
    let result = &rig.kept.records.results[0].body;
    let mut played: Vec<String> = result.players.iter().map(ToString::to_string).collect();
    played.sort();
    assert_eq!((played, &result.result), (vec!["a".to_owned(), "b".to_owned()], &json!({"won": "b"})));
    assert!(rig.kept.rooms.is_empty());
}

#[test]
fn a_seat_whose_holder_asked_for_a_fresh_token_is_kept_until_that_runs_out() {
    let mut rig = arena();
    let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    rig.run_ms(10_000);
    rig.allocate(request(Some("k"), &["a"])).unwrap();
    rig.seat(&given, &[]);
    assert_eq!(rig.room(given.room.as_str()).seats[0].state, SeatWord::Reserved);
    rig.run_ms(33_000);
    assert_eq!(rig.room(given.room.as_str()).seats[0].state, SeatWord::Free);
}

#[test]
fn a_report_of_before_a_seat_ran_out_does_not_free_it_however_late_it_comes() {
    let mut rig = arena();
    let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
    let in_time_ms = given.seats[0].expires_at_ms - 1;
    // The player came in the last moment; the report of the moment before is on its way for longer than the slack.
    rig.silent_ms(34_000);
    assert!(rig.now.unix_ms() > given.seats[0].expires_at_ms + 2_000);
    rig.report_made_at(in_time_ms);
    let room = rig.room(given.room.as_str());
    assert_eq!((room.phase, room.seats[0].state), (RoomPhase::Reserved, SeatWord::Reserved));
    let second = rig.allocate(request(Some("k"), &["b"])).unwrap();
    assert_eq!(
        (second.room == given.room, second.seats[0].seat),
        (true, 1),
        "the seat is not given to another"
    );
    // The slack belongs to tokens on their way: a report from within it decides nothing either.
    rig.report_made_at(given.seats[0].expires_at_ms + 1_999);
    assert_eq!(rig.room(given.room.as_str()).seats[0].state, SeatWord::Reserved);
    rig.report_made_at(given.seats[0].expires_at_ms + 2_000);
    assert_eq!(rig.room(given.room.as_str()).seats[0].state, SeatWord::Free);
}

#[test]
fn an_end_told_twice_is_one_result_and_is_acknowledged_twice() {
    let mut rig = arena();
    let given = rig.allocate(request(None, &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    rig.end(&given, EndReason::Finished, json!(1));
    rig.end(&given, EndReason::Finished, json!(1));
    let acks = rig.orders.iter().filter(|order| matches!(order, ToAgent::RoomEndedAck { .. })).count();
    assert_eq!((rig.delivered.len(), acks), (1, 2));
    assert_eq!(rig.overview().totals.results_pending, 1);
    let key = rig.delivered[0].clone();
    rig.event(Event::ResultTaken { key });
    assert_eq!((rig.overview().totals.results_pending, rig.kept.records.results.len()), (0, 0));
}

#[test]
fn the_key_of_an_ended_room_gives_a_new_room() {
    let mut rig = arena();
    let first = rig.allocate(request(Some("k"), &["a"])).unwrap();
    rig.seat(&first, &[(0, "a")]);
    rig.end(&first, EndReason::Empty, Value::Null);
    let second = rig.allocate(request(Some("k"), &["a"])).unwrap();
    assert!(second.created && second.room != first.room);
}

#[test]
fn the_rooms_of_a_server_that_dies_are_lost_and_the_others_are_not() {
    for dies in ["restarts", "ends", "is forgotten"] {
        let mut rig = arena();
        let rooms: Vec<_> = ["k1", "k2", "k3"]
            .into_iter()
            .map(|key| rig.allocate(request(Some(key), &[key])).unwrap())
            .collect();
        for room in &rooms {
            rig.seat(room, &[(0, room.seats[0].player.as_str())]);
        }
        let victim = rooms[0].server.0.clone();
        match dies {
            "restarts" => rig.kill(&victim),
            "ends" => {
                rig.servers.get_mut(&victim).unwrap().report.phase = ProcessPhase::Ended;
                rig.report();
                rig.servers.remove(&victim);
            }
            _ => {
                rig.servers.remove(&victim);
                rig.report();
            }
        }
        for room in &rooms {
            let status = rig.room(room.room.as_str());
            let lost = room.server.0 == victim;
            assert_eq!(status.ended, lost.then_some(EndReason::ServerLost), "{dies}");
        }
        assert_eq!(rig.delivered.len(), 2, "{dies}: two rooms lived on the victim");
        let told = rig.overview().events;
        assert!(told.iter().any(|line| line.text.contains("lost")), "{dies}: {told:?}");
        let again = rig.allocate(request(Some("k1"), &["k1"])).unwrap();
        assert!(again.created, "{dies}: the key is free");
        rig.run_ms(2_000);
        assert!(rig.servers_of("arena").len() >= 2, "{dies}: the fleet refills");
    }
}

#[test]
fn finish_over_http_ends_the_room_once_and_closes_it_on_its_server() {
    let mut rig = arena();
    let given = rig.allocate(request(None, &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    let finish = |rig: &mut Rig, room: &str, epoch: u32| {
        let body = FinishRequest { epoch, result: json!({"score": 3}) };
        match rig.now_answered(Call::Finish { room: text(room), body, by: Actor::Anonymous }) {
            Ok(Answer::Finished(room)) => Ok(room.ended),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.code()),
        }
    };
    let room = given.room.to_string();
    assert_eq!(finish(&mut rig, "r-nope", 1), Err(Code::RoomNotFound));
    assert_eq!(finish(&mut rig, &room, 2), Err(Code::RoomNotFound));
    assert_eq!(finish(&mut rig, &room, 1), Ok(Some(EndReason::Finished)));
    assert_eq!(finish(&mut rig, &room, 1), Ok(Some(EndReason::Finished)), "repeating it changes nothing");
    assert_eq!(finish(&mut rig, &room, 7), Err(Code::RoomNotFound));
    assert_eq!(rig.delivered.len(), 1);
    assert!(matches!(rig.orders.last(), Some(ToAgent::CloseRoom { .. })));
    rig.orders.clear();
    rig.report();
    assert!(
        matches!(rig.orders.last(), Some(ToAgent::CloseRoom { .. })),
        "a server that still tells of it is told again"
    );
    assert_eq!(rig.fleet("arena").rooms, 0);
}

#[test]
fn a_server_without_a_link_keeps_its_seats_until_it_tells_the_end_over_http() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 1), 1, 4)]);
    let name = rig.servers_of("arena")[0].clone();
    rig.servers.get_mut(&name).unwrap().report.linked = false;
    let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
    rig.run_ms(120_000);
    assert_eq!(rig.fleet("arena").players, 1, "whether the player came is not known");
    let body = FinishRequest { epoch: 1, result: json!("done") };
    rig.now_answered(Call::Finish { room: given.room.0, body, by: Actor::Anonymous }).unwrap();
    assert_eq!((rig.fleet("arena").rooms, rig.delivered.len()), (0, 1));
}

#[test]
fn a_server_is_never_stopped_while_something_is_promised_on_it() {
    let mut fleet = room_fleet("arena", (0, 2), 1, 4);
    fleet.autoscale.cooldown_in = std::time::Duration::from_secs(1);
    fleet.autoscale.settle_in = std::time::Duration::from_secs(1);
    let mut rig = Rig::ready(vec![fleet]);
    let mut body = request(None, &["a"]);
    body.timeout_ms = None;
    let call = rig.ask(Call::Allocate { fleet: text("arena"), body });
    rig.run_ms(2_000);
    let given = allocation(rig.answer(call).unwrap());
    rig.run_ms(10_000);
    assert_eq!(rig.servers_of("arena"), std::slice::from_ref(&given.server.0), "reserved");
    rig.seat(&given, &[(0, "a")]);
    rig.end(&given, EndReason::Finished, Value::Null);
    rig.run_ms(6_000);
    assert!(rig.servers_of("arena").is_empty(), "idle for longer than it is kept");
    assert_eq!(rig.fleet("arena").replicas, 0);
}

#[test]
fn rooms_are_listed_live_first_and_in_pages() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 1), 10, 2)]);
    let rooms: Vec<_> = ["a", "b", "c"].map(|n| rig.allocate(request(None, &[n])).unwrap()).to_vec();
    rig.seat(&rooms[0], &[(0, "a")]);
    rig.end(&rooms[0], EndReason::Finished, Value::Null);
    let mut page = |offset, limit| match rig
        .now_answered(Call::Rooms { fleet: Some(text("arena")), offset, limit })
        .unwrap()
    {
        Answer::Rooms(list) => (list.rooms.iter().map(|r| r.phase).collect::<Vec<_>>(), list.total),
        other => panic!("{other:?}"),
    };
    assert_eq!(page(0, 2), (vec![RoomPhase::Reserved, RoomPhase::Reserved], 3));
    assert_eq!(page(2, 2), (vec![RoomPhase::Ended], 3));
    assert_eq!(page(9, 2), (vec![], 3));
}

#[test]
fn the_end_of_a_room_that_is_over_already_is_not_said_to_be_taken() {
    let mut rig = arena();
    let given = rig.allocate(request(None, &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    rig.end(&given, EndReason::Empty, json!("nobody won"));
    let body = FinishRequest { epoch: 1, result: json!({"winner": "a"}) };
    let refused =
        rig.now_answered(Call::Finish { room: given.room.0, body, by: Actor::Anonymous }).unwrap_err();
    assert_eq!(refused.code(), Code::RoomNotFound);
    assert!(
        refused.to_string().ends_with("has ended already (empty); this result is not taken"),
        "{refused}"
    );
    let told = rig.kept.records.audit.iter().any(|record| record.entry.action == AuditAction::RoomFinished);
    assert!(!told, "nothing was finished by that call");
}

#[test]
fn of_a_room_that_never_empties_the_latest_who_left_are_remembered() {
    let mut rig = arena();
    let given = rig.allocate(request(Some("plaza"), &["resident"])).unwrap();
    for nth in 0..5_000 {
        let visitor = format!("visitor-{nth}");
        rig.seat(&given, &[(0, "resident"), (1, visitor.as_str())]);
    }
    rig.seat(&given, &[(0, "resident")]);
    let played = &rig.kept.rooms[given.room.as_str()].played;
    assert_eq!(played.len(), 4_096);
    assert_eq!(played.last().map(ToString::to_string).as_deref(), Some("visitor-4999"));
}
