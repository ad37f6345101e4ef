//! What is promised, counted case by case.

use std::time::Duration;

use greenroom_wire::api::{AllocateRequest, SloStatus};
use greenroom_wire::rooms::EndReason;

use super::rig::*;
use crate::world::{Answer, Call};

fn told(rig: &mut Rig, name: &str) -> SloStatus {
    let list = match rig.now_answered(Call::Slos).unwrap() {
        Answer::Slos(list) => list,
        other => panic!("{other:?}"),
    };
    list.slos.into_iter().find(|slo| slo.name == name).expect("it is always told")
}

/// A call that waits for up to ten seconds.
fn waiting(player: &str) -> Call {
    let body = AllocateRequest { timeout_ms: Some(10_000), ..request(None, &[player]) };
    Call::Allocate { fleet: text("arena"), body }
}

#[test]
fn a_place_is_counted_with_how_long_it_was_waited_for() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 1), 1, 4)]);
    let given = rig.allocate(request(None, &["a"])).unwrap();
    let slo = told(&mut rig, "placed_promptly");
    assert_eq!((slo.seen, slo.missed, slo.longest_ms), (1, 0, Some(0)));
    // The one server has its one room: the next call waits until that is over.
    let waits = rig.ask(waiting("b"));
    rig.seat(&given, &[(0, "a")]);
    rig.run_ms(2_000);
    rig.end(&given, EndReason::Finished, serde_json::Value::Null);
    rig.run_ms(100);
    rig.answer(waits).unwrap();
    let slo = told(&mut rig, "placed_promptly");
    assert_eq!((slo.seen, slo.missed, slo.longest_ms, slo.met), (2, 1, Some(2_000), false));
    let slo = told(&mut rig, "placed");
    assert_eq!((slo.seen, slo.missed), (2, 0));
    // And one that gets nothing.
    rig.ask(waiting("c"));
    rig.run_ms(11_000);
    let slo = told(&mut rig, "placed");
    assert_eq!((slo.seen, slo.missed, slo.met), (3, 1, false));
}

#[test]
fn a_call_that_was_wrong_is_nobodys_miss() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 1), 1, 2)]);
    rig.allocate(request(None, &["a", "b", "c"])).unwrap_err();
    assert_eq!(told(&mut rig, "placed").seen, 0);
}

#[test]
fn a_room_whose_process_dies_is_lost_and_one_that_is_over_is_not() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (2, 2), 1, 4)]);
    let [one, two] = ["a", "b"].map(|player| rig.allocate(request(None, &[player])).unwrap());
    for (room, player) in [(&one, "a"), (&two, "b")] {
        rig.seat(room, &[(0, player)]);
    }
    rig.end(&one, EndReason::Finished, serde_json::Value::Null);
    rig.kill(&two.server.0);
    let slo = told(&mut rig, "rooms_kept");
    assert_eq!((slo.seen, slo.missed, slo.met), (2, 1, false));
}

#[test]
fn a_leader_tells_how_long_nobody_led_and_how_long_it_knew_nothing() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 1), 1, 4)]);
    assert_eq!(told(&mut rig, "takeover").seen, 0, "nobody led before");
    assert_eq!(told(&mut rig, "rebuilt").seen, 0, "no host was known before");
    rig.config.without_leader = Some(Duration::from_millis(2_140));
    rig.restart();
    rig.silent_ms(300);
    rig.connect();
    let slo = told(&mut rig, "takeover");
    assert_eq!((slo.seen, slo.longest_ms, slo.met), (1, Some(2_140), true));
    let slo = told(&mut rig, "rebuilt");
    assert_eq!((slo.seen, slo.longest_ms, slo.met), (1, Some(300), true));
    // One whose known host never comes gives it up, and has missed.
    rig.restart();
    rig.silent_ms(6_000);
    let slo = told(&mut rig, "rebuilt");
    assert_eq!((slo.seen, slo.missed), (1, 1));
}
