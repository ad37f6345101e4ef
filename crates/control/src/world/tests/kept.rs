//! Rooms that outlive their process: they wait for the next one, and not for ever.

use greenroom_core::ServerName;
use greenroom_wire::agent::{ProcessPhase, ToAgent};
use greenroom_wire::api::{Allocation, RoomPhase, SeatWord};
use greenroom_wire::rooms::{EndReason, RoomReport};
use serde_json::{Value, json};

use super::rig::*;

/// A room with a player on a server that keeps it beyond its process.
fn kept() -> (Rig, Allocation) {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 1), 4, 4)]);
    let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    tell_kept(&mut rig, &given, true);
    (rig, given)
}

fn tell_kept(rig: &mut Rig, of: &Allocation, kept: bool) {
    let rooms = &mut rig.servers.get_mut(&of.server.0).unwrap().report.rooms;
    rooms.iter_mut().for_each(|room| room.kept = kept);
    rig.report();
}

/// The next process is there: first without a word of its rooms, then with these.
fn come_back(rig: &mut Rig, name: &ServerName, rooms: &[RoomReport]) {
    let report = |rig: &mut Rig, phase, linked, rooms: &[RoomReport]| {
        let report = &mut rig.servers.get_mut(name).unwrap().report;
        (report.phase, report.linked, report.rooms) = (phase, linked, rooms.to_vec());
        rig.report();
    };
    report(rig, ProcessPhase::Starting, false, &[]);
    report(rig, ProcessPhase::Ready, false, &[]);
    report(rig, ProcessPhase::Ready, true, rooms);
}

fn die(rig: &mut Rig, name: &ServerName) -> Vec<RoomReport> {
    let report = &mut rig.servers.get_mut(name).unwrap().report;
    report.linked = false;
    let rooms = report.rooms.clone();
    rig.kill(name);
    rooms
}

#[test]
fn a_kept_room_goes_on_in_the_next_process_of_its_server_under_the_same_key_and_epoch() {
    let (mut rig, given) = kept();
    let server = given.server.0.clone();
    for round in 0..3 {
        let rooms = die(&mut rig, &server);
        rig.run_ms(5_000);
        let same = rig.allocate(request(Some("k"), &["a", "b"])).unwrap();
        assert_eq!(
            (&same.room, same.epoch, same.created),
            (&given.room, given.epoch, false),
            "bound meanwhile"
        );
        come_back(&mut rig, &server, &rooms);
        rig.run_ms(60_000);
        let room = rig.room(given.room.as_str());
        assert_eq!((room.phase, room.ended), (RoomPhase::Live, None), "round {round}");
        assert_eq!(room.seats[0].state, SeatWord::Connected);
        let instance = rig.servers[&server].report.instance.clone();
        let record = &rig.kept.rooms[given.room.as_str()];
        assert_eq!((&record.instance, record.kept), (&instance, true), "new tokens are for the new process");
    }
    assert!(rig.delivered.is_empty());
    assert!(!rig.orders.iter().any(|order| matches!(order, ToAgent::CloseRoom { .. })));
    rig.end(&given, EndReason::Finished, json!({"won": "a"}));
    assert_eq!(rig.room(given.room.as_str()).ended, Some(EndReason::Finished));
}

#[test]
fn a_kept_room_that_does_not_come_back_is_lost_once() {
    // What becomes of the process, and after how long its room is lost.
    for (case, lost_within_ms) in
        [("comes without it", 0), ("never comes", 31_000), ("has no link", 31_000), ("is given up", 0)]
    {
        let (mut rig, given) = kept();
        let server = given.server.0.clone();
        die(&mut rig, &server);
        rig.run_ms(3_000);
        assert_eq!(rig.room(given.room.as_str()).ended, None, "{case}");
        match case {
            "comes without it" => come_back(&mut rig, &server, &[]),
            "has no link" => {
                rig.servers.get_mut(&server).unwrap().report.phase = ProcessPhase::Ready;
                rig.report();
            }
            "is given up" => {
                rig.servers.get_mut(&server).unwrap().report.phase = ProcessPhase::Ended;
                rig.report();
            }
            _ => {}
        }
        if lost_within_ms > 0 {
            rig.run_ms(25_000);
            assert_eq!(rig.room(given.room.as_str()).ended, None, "{case}: it is waited for");
        }
        rig.run_ms(lost_within_ms);
        assert_eq!(rig.room(given.room.as_str()).ended, Some(EndReason::ServerLost), "{case}");
        rig.run_ms(60_000);
        assert_eq!(rig.delivered.len(), 1, "{case}");
    }
}

#[test]
fn a_kept_room_is_waited_for_while_its_host_is_not_heard() {
    let (mut rig, given) = kept();
    let server = given.server.0.clone();
    let rooms = die(&mut rig, &server);
    rig.run_ms(3_000);
    // The next process may be there with the room and its players, and nobody can tell.
    rig.silent_ms(120_000);
    assert_eq!(rig.room(given.room.as_str()).ended, None);
    rig.connect_as(HOST, "boot1", 0);
    rig.silent_ms(500);
    assert_eq!(rig.room(given.room.as_str()).ended, None, "connected, and has not told of it yet");
    come_back(&mut rig, &server, &rooms);
    rig.run_ms(60_000);
    assert_eq!(rig.room(given.room.as_str()).ended, None);
    die(&mut rig, &server);
    rig.run_ms(25_000);
    rig.silent_ms(60_000);
    rig.connect();
    rig.run_ms(25_000);
    assert_eq!(rig.room(given.room.as_str()).ended, None, "its time begins anew");
    rig.run_ms(6_000);
    assert_eq!(rig.room(given.room.as_str()).ended, Some(EndReason::ServerLost));
}

#[test]
fn a_room_that_comes_after_it_was_given_up_is_closed() {
    let (mut rig, given) = kept();
    let server = given.server.0.clone();
    let rooms = die(&mut rig, &server);
    rig.run_ms(40_000);
    assert_eq!(rig.room(given.room.as_str()).ended, Some(EndReason::ServerLost));
    rig.orders.clear();
    come_back(&mut rig, &server, &rooms);
    let closes = rig
        .orders
        .iter()
        .any(|order| matches!(order, ToAgent::CloseRoom { room, .. } if *room == given.room));
    assert!(closes, "{:?}", rig.orders);
    let next = rig.allocate(request(Some("k"), &["a"])).unwrap();
    assert!(next.created);
}

#[test]
fn a_room_that_its_server_does_not_keep_any_more_is_lost_with_it() {
    let (mut rig, given) = kept();
    tell_kept(&mut rig, &given, false);
    die(&mut rig, &given.server.0);
    assert_eq!(rig.room(given.room.as_str()).ended, Some(EndReason::ServerLost));
}

#[test]
fn of_a_server_that_keeps_rooms_also_those_wait_of_which_nobody_has_told_yet() {
    // What the next process has of them: those that had begun.
    for has in [0, 1] {
        let mut rig = Rig::ready(vec![room_fleet("arena", (1, 1), 4, 4)]);
        let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
        let server = given.server.0.clone();
        rig.servers.get_mut(&server).unwrap().report.keeps_rooms = true;
        rig.report();
        die(&mut rig, &server);
        rig.run_ms(3_000);
        assert_eq!(rig.room(given.room.as_str()).ended, None, "its player may have come in the last moment");
        let (room, epoch) = (given.room.clone(), given.epoch);
        let begun = RoomReport { room, epoch, key: None, seats: Vec::new(), kept: true };
        come_back(&mut rig, &server, &[begun][..has]);
        rig.run_ms(3_000);
        let ended = (has == 0).then_some(EndReason::ServerLost);
        assert_eq!(rig.room(given.room.as_str()).ended, ended);
    }
}

#[test]
fn a_room_that_is_told_of_with_the_news_of_its_next_process_goes_on() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 1), 4, 4)]);
    let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
    let server = given.server.0.clone();
    rig.seat(&given, &[(0, "a")]);
    // Nobody hears of the host while the process ends and the next one takes the room up.
    rig.silent_ms(60_000);
    let report = &mut rig.servers.get_mut(&server).unwrap().report;
    report.instance = greenroom_wire::Text(text(&format!("{server}.2")));
    (report.restarts, report.keeps_rooms) = (1, true);
    rig.connect();
    rig.run_ms(60_000);
    assert_eq!(rig.room(given.room.as_str()).ended, None);
}

#[test]
fn a_control_plane_that_begins_anew_meanwhile_waits_as_well() {
    let (mut rig, given) = kept();
    let server = given.server.0.clone();
    let rooms = die(&mut rig, &server);
    rig.silent_ms(100);
    rig.restart();
    rig.connect();
    rig.report();
    rig.run_ms(10_000);
    come_back(&mut rig, &server, &rooms);
    rig.run_ms(60_000);
    assert_eq!(rig.room(given.room.as_str()).ended, None);
    rig.end(&given, EndReason::Empty, Value::Null);
    assert_eq!(rig.delivered.len(), 1);
}
