//! Allocation and endpoint answers.

use greenroom_wire::Text;
use greenroom_wire::api::{AllocateRequest, AssignmentsRequest, SeatWord, SelectorBody};
use greenroom_wire::error::Code;
use serde_json::json;

use super::rig::*;
use crate::world::{Answer, Bounds, Call, Event};

fn arena() -> Rig {
    Rig::ready(vec![room_fleet("arena", (2, 4), 2, 4), mesh_fleet("lobby", (2, 2))])
}

fn in_zone(zone: &str) -> SelectorBody {
    SelectorBody { labels: [("zone".to_owned(), zone.to_owned())].into(), revision: None }
}

#[test]
fn every_refusal_of_an_allocation_has_its_code_and_reserves_nothing() {
    let mut rig = arena();
    rig.allocate(request(Some("k"), &["a", "b", "c"])).unwrap();
    let body = |change: fn(&mut AllocateRequest)| {
        let mut body = request(Some("k"), &["x"]);
        change(&mut body);
        body
    };
    let cases: Vec<(&str, &str, AllocateRequest, Code)> = vec![
        ("unknown fleet", "nope", body(|_| {}), Code::FleetNotFound),
        ("mesh fleet", "lobby", body(|_| {}), Code::WrongKind),
        ("nobody", "arena", body(|body| body.players.clear()), Code::BadRequest),
        (
            "too many",
            "arena",
            body(|body| body.players = players(&["1", "2", "3", "4", "5"])),
            Code::BadRequest,
        ),
        ("twice", "arena", body(|body| body.players = players(&["x", "x"])), Code::BadRequest),
        ("long wait", "arena", body(|body| body.timeout_ms = Some(60_001)), Code::BadRequest),
        ("large init", "arena", body(|body| body.init = json!("x".repeat(5_000))), Code::BadRequest),
        ("full", "arena", body(|body| body.players = players(&["x", "y"])), Code::RoomFull),
        ("fill with a key", "arena", body(|body| body.fill = true), Code::BadRequest),
        ("an empty label", "arena", body(|body| body.select = Some(in_zone(""))), Code::BadRequest),
    ];
    for (name, fleet, body, code) in cases {
        let refused = rig.now_answered(Call::Allocate { fleet: text(fleet), body }).unwrap_err();
        assert_eq!(refused.code(), code, "{name}: {refused}");
    }
    assert_eq!(rig.fleet("arena").players, 3, "all seats or none");
}

#[test]
fn five_hundred_calls_for_one_key_give_one_room() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (4, 4), 4, 500)]);
    let names: Vec<String> = (0..500).map(|n| format!("p{n}")).collect();
    let calls: Vec<_> = names
        .iter()
        .map(|name| {
            let body = request(Some("guild:42"), &[name]);
            rig.ask(Call::Allocate { fleet: text("arena"), body })
        })
        .collect();
    let given: Vec<_> = calls.into_iter().map(|call| allocation(rig.answer(call).unwrap())).collect();
    assert_eq!(distinct(given.iter().map(|given| &given.room)), 1);
    assert_eq!(distinct(given.iter().map(|given| given.seats[0].seat)), 500);
    assert_eq!(given.iter().filter(|given| given.created).count(), 1);
}

#[test]
fn five_hundred_calls_that_wait_for_one_key_get_one_room_when_a_server_comes() {
    let mut rig = Rig::new(vec![room_fleet("arena", (1, 1), 1, 500)], Bounds::default());
    let calls: Vec<_> = (0..500)
        .map(|n| {
            let mut body = request(Some("k"), &[&format!("p{n}")]);
            body.timeout_ms = None;
            rig.ask(Call::Allocate { fleet: text("arena"), body })
        })
        .collect();
    assert_eq!(rig.fleet("arena").rooms, 0);
    rig.connect();
    rig.run_ms(500);
    rig.report();
    let given: Vec<_> = calls.into_iter().map(|call| allocation(rig.answer(call).unwrap())).collect();
    assert_eq!(distinct(given.iter().map(|given| &given.room)), 1);
}

#[test]
fn who_asks_again_for_a_key_keeps_the_seat_and_gets_a_fresh_token() {
    let mut rig = arena();
    let first = rig.allocate(request(Some("k"), &["a", "b"])).unwrap();
    let again = rig.allocate(request(Some("k"), &["b", "c"])).unwrap();
    assert_eq!(again.room, first.room);
    assert_eq!(again.seats[0].seat, first.seats[1].seat);
    assert_ne!(again.seats[0].token, first.seats[1].token);
    assert_eq!(rig.fleet("arena").players, 3);
}

#[test]
fn an_idempotency_key_gives_the_same_answer_and_refuses_another_request() {
    let mut rig = arena();
    let mut body = request(None, &["a"]);
    body.idempotency_key = Some(Text(text("once")));
    let first = rig.allocate(body.clone()).unwrap();
    rig.run_ms(2_000);
    body.timeout_ms = Some(5_000);
    assert_eq!(rig.allocate(body.clone()).unwrap(), first, "how long it waits is not part of the request");
    rig.restart();
    assert_eq!(rig.allocate(body.clone()).unwrap(), first, "the restarted process signs the same claims");
    body.players = players(&["b"]);
    assert_eq!(code(rig.allocate(body.clone())), Code::IdempotencyMismatch);
    rig.connect();
    rig.report();
    rig.run_ms(600_000);
    assert_ne!(rig.allocate(body).unwrap().room, first.room, "forgotten after ten minutes");
}

#[test]
fn calls_wait_in_order_and_their_demand_starts_servers() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (0, 3), 1, 4)]);
    assert_eq!(code(rig.allocate(request(None, &["now"]))), Code::NoCapacity);
    let wait = |rig: &mut Rig, name: &str| {
        let mut body = request(None, &[name]);
        body.timeout_ms = Some(5_000);
        rig.ask(Call::Allocate { fleet: text("arena"), body })
    };
    let calls: Vec<_> = ["a", "b", "c", "d"].into_iter().map(|name| wait(&mut rig, name)).collect();
    rig.run_ms(2_000);
    for call in &calls[..3] {
        allocation(rig.answer(*call).unwrap());
    }
    assert!(!rig.answers.contains_key(&calls[3]), "three servers, one room each");
    rig.run_ms(4_000);
    assert_eq!(rig.answer(calls[3]).unwrap_err().code(), Code::NoCapacity);
    assert_eq!(rig.servers.len(), 3);
}

#[test]
fn a_caller_that_goes_away_frees_its_place_and_the_bound_of_places_holds() {
    let bounds = Bounds { waiting_max: 2, ..Bounds::default() };
    let mut rig = Rig::new(vec![room_fleet("arena", (1, 1), 1, 4)], bounds);
    let mut body = request(None, &["a"]);
    body.timeout_ms = Some(5_000);
    let call = Call::Allocate { fleet: text("arena"), body };
    let first = rig.ask(call.clone());
    rig.ask(call.clone());
    assert_eq!(rig.now_answered(call.clone()).unwrap_err().code(), Code::TooMany);
    rig.event(Event::CallerGone { request: first });
    let third = rig.ask(call);
    rig.connect();
    rig.run_ms(500);
    rig.report();
    assert!(!rig.answers.contains_key(&first) && !rig.answers.contains_key(&third));
    assert_eq!(rig.fleet("arena").rooms, 1, "one room fits: the second call's");
}

#[test]
fn a_thousand_no_shows_leave_every_seat_free() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 1), 300, 4)]);
    for n in 0..250 {
        let names: Vec<String> = (0..4).map(|seat| format!("p{n}-{seat}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        rig.allocate(request(None, &names)).unwrap();
    }
    let kept = rig.allocate(request(Some("kept"), &["here", "absent"])).unwrap();
    rig.seat(&kept, &[(0, "here")]);
    assert_eq!(rig.fleet("arena").players, 1_002);
    rig.run_ms(31_000);
    assert_eq!(rig.fleet("arena").players, 1_002, "nothing is freed before the slack is over");
    rig.run_ms(3_000);
    let fleet = rig.fleet("arena");
    assert_eq!((fleet.players, fleet.rooms), (1, 1));
    let seats: Vec<SeatWord> = rig.room(kept.room.as_str()).seats.iter().map(|seat| seat.state).collect();
    assert_eq!(seats, [SeatWord::Connected, SeatWord::Free, SeatWord::Free, SeatWord::Free]);
    assert_eq!(rig.delivered.len(), 250, "each no-show is told once");
}

#[test]
fn answers_say_https_where_the_port_speaks_tls_also_when_agent_or_control_began_anew() {
    let mut rig = arena();
    let speak_tls = |rig: &mut Rig, tls| {
        rig.servers.values_mut().for_each(|running| running.report.tls = tls);
        rig.report();
    };
    let plain = rig.allocate(request(Some("plain"), &["z"])).unwrap();
    assert_eq!(plain.url, format!("http://{}", plain.endpoint));
    speak_tls(&mut rig, true);
    let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
    assert_eq!(given.url, format!("https://{}", given.endpoint));
    let asked = rig.now_answered(Call::Endpoint { fleet: text("lobby"), select: None }).unwrap();
    let Answer::Endpoint(asked) = asked else { panic!("{asked:?}") };
    assert_eq!(asked.url, format!("https://{}", asked.endpoint));
    // An agent that has not asked its ports yet does not take it back.
    speak_tls(&mut rig, false);
    let given = rig.allocate(request(Some("l"), &["b"])).unwrap();
    assert!(given.url.starts_with("https://"), "{}", given.url);
    // A room of the records is answered as it was.
    rig.restart();
    let again = rig.allocate(request(Some("k"), &["c"])).unwrap();
    assert_eq!(again.url, format!("https://{}", again.endpoint));
}

#[test]
fn endpoint_answers_spread_and_count_as_load_until_they_expire() {
    let mut rig = arena();
    let server = |rig: &mut Rig| match rig
        .now_answered(Call::Endpoint { fleet: text("lobby"), select: None })
        .unwrap()
    {
        Answer::Endpoint(answer) => answer.server.to_string(),
        other => panic!("{other:?}"),
    };
    let given: Vec<String> = (0..4).map(|_| server(&mut rig)).collect();
    assert_eq!((distinct(&given), given[0] == given[2]), (2, true), "{given:?}");
    assert_eq!(rig.fleet("lobby").busy, 2);
    rig.run_ms(5_100);
    assert_eq!(rig.fleet("lobby").busy, 0);
    assert_eq!(
        rig.now_answered(Call::Endpoint { fleet: text("arena"), select: None }).unwrap_err().code(),
        Code::WrongKind
    );
    assert_eq!(
        rig.now_answered(Call::Endpoint { fleet: text("nope"), select: None }).unwrap_err().code(),
        Code::FleetNotFound
    );
}

#[test]
fn calls_that_wait_for_something_else_take_no_place_and_one_that_need_not_wait_needs_none() {
    let bounds = Bounds { waiting_max: 1, ..Bounds::default() };
    let mut rig = Rig::new(vec![room_fleet("arena", (1, 1), 1, 4)], bounds);
    rig.connect();
    rig.run_ms(500);
    rig.report();
    let poll = AssignmentsRequest { owner: "lobby".to_owned(), ack: Vec::new(), wait_ms: None };
    rig.ask(Call::Assignments(poll.clone()));
    let refused = rig.now_answered(Call::Assignments(poll)).unwrap_err();
    assert_eq!(refused.code(), Code::TooMany, "each kind has its own bound");
    let waits = |key: &str| AllocateRequest { timeout_ms: Some(9_000), ..request(Some(key), &["a"]) };
    let first = rig.allocate(waits("free")).unwrap();
    rig.ask(Call::Allocate { fleet: text("arena"), body: waits("full") });
    assert_eq!(rig.allocate(waits("free")).unwrap().room, first.room, "nobody need wait for it");
    assert_eq!(code(rig.allocate(waits("fuller"))), Code::TooMany);
}
