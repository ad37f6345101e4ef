//! Tickets, matches and assignments.

use greenroom_wire::Text;
use greenroom_wire::api::{AssignmentsRequest, TicketsRequest};
use greenroom_wire::error::Code;
use greenroom_wire::rooms::EndReason;
use serde_json::Value;

use super::rig::*;
use crate::world::{Answer, Bounds, Call};

fn arena() -> Rig {
    Rig::ready(vec![room_fleet("arena", (2, 2), 1, 4), mesh_fleet("lobby", (1, 1))])
}

fn cancel(rig: &mut Rig, ticket: &str) -> Result<bool, Code> {
    match rig.now_answered(Call::CancelTicket(text(ticket))) {
        Ok(Answer::Cancelled(assigned)) => Ok(assigned.is_some()),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.code()),
    }
}

#[test]
fn four_tickets_make_one_room_and_a_party_stays_together() {
    let mut rig = arena();
    let answer = rig.file(&[("t1", &["a"]), ("t2", &["b", "c"]), ("t3", &["d"]), ("t4", &["e"])]).unwrap();
    assert!(answer.refused.is_empty());
    assert_eq!(rig.fleet("arena").tickets, 4);
    rig.run_ms(100);
    let told = rig.poll(&[]);
    assert_eq!(told.len(), 3);
    assert_eq!(distinct(told.iter().map(|one| &one.allocation.room)), 1);
    assert_eq!(distinct(told.iter().flat_map(|one| one.allocation.seats.iter().map(|seat| seat.seat))), 4);
    assert_eq!(rig.poll(&[]).len(), 3, "told until acknowledged");
    assert_eq!(rig.poll(&["t1", "t2"]).len(), 1);
    assert_eq!(rig.poll(&["t3"]).len(), 0);
    assert_eq!(rig.fleet("arena").tickets, 1);
}

#[test]
fn every_refusal_of_a_ticket_has_its_code_and_the_others_wait() {
    let bounds = Bounds { tickets_max: 3, tickets_per_call_max: 10, ..Bounds::default() };
    let mut rig = Rig::new(vec![room_fleet("arena", (1, 1), 1, 4), mesh_fleet("lobby", (1, 1))], bounds);
    let answer = rig.file(&[
        ("t1", &["a"]),
        ("t2", &["a"]),
        ("t3", &[]),
        ("t4", &["1", "2", "3", "4", "5"]),
        ("t5", &["b", "b"]),
        ("t1", &["a"]),
        ("t6", &["c"]),
        ("t7", &["d"]),
        ("t8", &["e"]),
    ]);
    let codes: Vec<_> =
        answer.unwrap().refused.iter().map(|refused| (refused.id.to_string(), refused.code)).collect();
    let expected = [
        ("t2", Code::AlreadyAssigned),
        ("t3", Code::BadRequest),
        ("t4", Code::BadRequest),
        ("t5", Code::BadRequest),
        ("t8", Code::TooMany),
    ];
    assert_eq!(codes, expected.map(|(id, code)| (id.to_owned(), code)));
    let call = |fleet: &str, owner: &str, tickets: usize| {
        let ticket = |n| greenroom_wire::api::TicketBody {
            id: Text(text(&format!("x{n}"))),
            players: players(&["x"]),
            enqueued_at_ms: None,
        };
        let body = TicketsRequest { owner: owner.to_owned(), tickets: (0..tickets).map(ticket).collect() };
        Call::FileTickets { fleet: text(fleet), body }
    };
    for (fleet, owner, tickets, code) in [
        ("nope", "o", 1, Code::FleetNotFound),
        ("lobby", "o", 1, Code::WrongKind),
        ("arena", "", 1, Code::BadRequest),
        ("arena", "a b", 1, Code::BadRequest),
        ("arena", "o", 11, Code::BadRequest),
    ] {
        assert_eq!(
            rig.now_answered(call(fleet, owner, tickets)).unwrap_err().code(),
            code,
            "{fleet} {owner:?}"
        );
    }
}

#[test]
fn matches_that_find_no_server_wait_and_are_demand() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (0, 2), 1, 2)]);
    let names: Vec<String> = (0..6).map(|n| format!("p{n}")).collect();
    for name in &names {
        rig.file(&[(name, &[name])]).unwrap();
    }
    rig.run_ms(3_000);
    assert_eq!(rig.servers.len(), 2, "three matches wait, two servers may be");
    assert_eq!(rig.poll(&[]).len(), 4);
    let first = rig.poll(&[])[0].allocation.clone();
    let seated = [(0, "p0"), (1, "p1")];
    rig.seat(&first, &seated);
    rig.end(&first, EndReason::Finished, Value::Null);
    rig.run_ms(200);
    assert_eq!(rig.poll(&[]).len(), 6, "a room that ends makes place for the last match");
}

#[test]
fn a_player_who_plays_may_file_again_only_after_the_seat_is_free() {
    let mut rig = arena();
    rig.file(&[("t1", &["a", "b", "c", "d"])]).unwrap();
    rig.run_ms(100);
    let room = rig.poll(&[])[0].allocation.clone();
    let again = rig.file(&[("t2", &["a"])]).unwrap();
    assert_eq!(again.refused[0].code, Code::AlreadyAssigned);
    rig.seat(&room, &[(0, "a"), (1, "b")]);
    rig.seat(&room, &[(1, "b")]);
    assert!(rig.file(&[("t2", &["a"])]).unwrap().refused.is_empty());
    rig.end(&room, EndReason::Finished, Value::Null);
    assert!(rig.file(&[("t3", &["b"])]).unwrap().refused.is_empty());
}

#[test]
fn a_ticket_is_either_cancelled_or_assigned() {
    let mut rig = arena();
    rig.file(&[("t1", &["a"]), ("t2", &["b"])]).unwrap();
    assert_eq!(cancel(&mut rig, "t1"), Ok(false));
    assert_eq!(cancel(&mut rig, "t1"), Err(Code::TicketNotFound));
    rig.file(&[("t3", &["c"]), ("t4", &["d"]), ("t5", &["a", "e"])]).unwrap();
    rig.run_ms(100);
    assert_eq!(rig.fleet("arena").tickets, 1, "b, c and the party of two play; d waits");
    assert_eq!(cancel(&mut rig, "t2"), Ok(true));
    assert_eq!(cancel(&mut rig, "t4"), Ok(false));
}

#[test]
fn a_long_poll_is_answered_by_the_match_and_by_its_deadline() {
    let mut rig = arena();
    let wait = |rig: &mut Rig| {
        let body = AssignmentsRequest { owner: "lobby".to_owned(), ack: Vec::new(), wait_ms: Some(1_000) };
        rig.ask(Call::Assignments(body))
    };
    let told = |rig: &mut Rig, request| match rig.answer(request).unwrap() {
        Answer::Assignments { assignments, .. } => assignments.len(),
        other => panic!("{other:?}"),
    };
    let first = wait(&mut rig);
    rig.run_ms(900);
    assert!(!rig.answers.contains_key(&first));
    rig.run_ms(200);
    assert_eq!(told(&mut rig, first), 0);
    let (second, third) = (wait(&mut rig), wait(&mut rig));
    rig.file(&[("t1", &["a", "b", "c", "d"])]).unwrap();
    rig.run_ms(100);
    assert_eq!((told(&mut rig, second), told(&mut rig, third)), (1, 1), "one of them may be dead");
}

#[test]
fn after_a_restart_tickets_are_filed_again_and_assignments_are_told_again() {
    let mut rig = arena();
    rig.file(&[("t1", &["a", "b", "c", "d"]), ("t2", &["e"])]).unwrap();
    rig.run_ms(100);
    let before = rig.poll(&[])[0].allocation.clone();
    rig.restart();
    rig.connect();
    rig.report();
    assert_eq!(rig.poll(&[])[0].allocation, before, "the same tokens");
    let refiled = rig.file(&[("t1", &["a", "b", "c", "d"]), ("t2", &["e"])]).unwrap();
    assert_eq!((refiled.term, refiled.refused.len()), (2, 0));
    rig.run_ms(200);
    assert_eq!(rig.fleet("arena").rooms, 1, "t1 is not matched twice");
    assert_eq!(rig.poll(&["t1"]).len(), 0);
    rig.restart();
    assert_eq!(rig.poll(&[]).len(), 0, "what was acknowledged is not told again");
}
