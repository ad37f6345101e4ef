//! Whether somebody is on a host, as its agent is told it: what is promised here, nobody there knows of.

use super::rig::*;
use crate::world::{Call, Event};

#[test]
fn a_promise_is_told_at_once_and_its_end_too() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (2, 2), 2, 4)]);
    assert_eq!(rig.occupied, [false], "said once after the first report");
    rig.allocate(request(None, &["a"])).unwrap();
    assert_eq!(rig.occupied, [false, true], "before anybody has arrived");
    rig.allocate(request(None, &["b"])).unwrap();
    rig.run_ms(5_000);
    assert_eq!(rig.occupied, [false, true], "not again and again");
    // Nobody comes: the reservations run out.
    rig.run_ms(40_000);
    assert_eq!(rig.occupied, [false, true, false], "the room is over");
}

#[test]
fn an_agent_that_did_not_ask_is_told_nothing_that_it_may_not_understand() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (2, 2), 2, 4)]);
    let stream = rig.connect_as(HOST, "boot1", 0);
    rig.event(Event::StreamClosed { stream });
    rig.connect_as(HOST, "older than this message", 0);
    rig.occupied.clear();
    rig.report();
    rig.allocate(request(None, &["a"])).unwrap();
    assert!(rig.occupied.is_empty());
}

#[test]
fn a_player_who_came_is_on_the_host_until_the_room_is_over() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 1), 1, 4)]);
    let given = rig.allocate(request(None, &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    rig.run_ms(120_000);
    assert_eq!(rig.occupied, [false, true]);
}

#[test]
fn an_endpoint_answer_counts_until_it_runs_out() {
    let mut rig = Rig::ready(vec![mesh_fleet("lobby", (1, 1))]);
    // A control process that has just begun does not know which answers the one before it gave.
    rig.run_ms(15_000);
    rig.occupied.clear();
    rig.now_answered(Call::Endpoint { fleet: text("lobby"), select: None }).unwrap();
    assert_eq!(rig.occupied, [true]);
    rig.run_ms(15_000);
    assert_eq!(rig.occupied, [true, false]);
}

#[test]
fn an_agent_that_comes_back_is_told_anew_after_it_has_reported() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 1), 1, 4)]);
    rig.allocate(request(None, &["a"])).unwrap();
    rig.occupied.clear();
    let stream = rig.connect_as(HOST, "boot1", 0);
    assert!(rig.occupied.is_empty(), "what runs there is not known yet");
    rig.report();
    assert_eq!(rig.occupied, [true]);
    rig.event(Event::StreamClosed { stream });
    // The next control process knows of the promise from the store.
    rig.restart();
    rig.occupied.clear();
    rig.connect();
    assert_eq!(rig.occupied, [true]);
}
