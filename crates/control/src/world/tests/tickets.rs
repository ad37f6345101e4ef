//! Tickets, matches and assignments.

use std::time::Duration;

use greenroom_core::matchmake::{Clock, RatingRule, Rules};
use greenroom_wire::api::{
    AssignmentsRequest, RuleWord, TicketBody, TicketStatus, TicketsRequest, WaitsForWord,
};
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
        let ticket = |n| TicketBody::new(text(&format!("x{n}")), [text("x")]);
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

fn rated_arena(clock: Clock) -> Rig {
    let mut arena = room_fleet("arena", (2, 2), 4, 2);
    arena.matching = Rules {
        players: 2,
        smaller: None,
        by: vec!["mode".into()],
        rating: Some(RatingRule {
            window: 100,
            widens_by: 100,
            every: Duration::from_secs(5),
            window_max: 300,
            clock,
            unrated: None,
        }),
    };
    Rig::ready(vec![arena])
}

fn rated(id: &str, rating: Option<i32>, mode: Option<&str>) -> TicketBody {
    TicketBody {
        rating,
        attributes: mode.map(|mode| ("mode".to_owned(), mode.to_owned())).into_iter().collect(),
        ..TicketBody::new(text(id), [text(id)])
    }
}

fn status(rig: &mut Rig, ticket: &str) -> Result<TicketStatus, Code> {
    match rig.now_answered(Call::Ticket { ticket: text(ticket), why: true }) {
        Ok(Answer::Ticket(body)) => Ok(body.status),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.code()),
    }
}

#[test]
fn ratings_are_matched_when_the_window_has_widened_though_nobody_comes() {
    let mut rig = rated_arena(Clock::LongestWaiting);
    let far = vec![rated("a", Some(1_000), Some("duel")), rated("b", Some(1_250), Some("duel"))];
    assert!(rig.file_bodies(far).unwrap().refused.is_empty());
    rig.run_ms(5_000);
    assert_eq!(rig.poll(&[]).len(), 0, "200 at most");
    let Ok(TicketStatus::Waiting(wait)) = status(&mut rig, "a") else { panic!("a waits") };
    let why = wait.why.unwrap();
    assert_eq!((wait.window, wait.window_next, why.waits_for), (Some(200), Some(300), WaitsForWord::Players));
    assert_eq!(why.match_at_ms, wait.widens_at_ms, "b is in reach then");
    assert_eq!((why.others, why.rejected[0].rule, why.rejected[0].tickets), (1, RuleWord::Rating, 1));
    rig.run_ms(5_200);
    assert_eq!(rig.poll(&[]).len(), 2, "nothing but time has changed");
    assert!(matches!(status(&mut rig, "a"), Ok(TicketStatus::Assigned { .. })));
    assert_eq!(status(&mut rig, "nobody"), Err(Code::TicketNotFound));
}

#[test]
fn keywords_and_modes_keep_apart_what_ratings_would_join() {
    let mut rig = rated_arena(Clock::Strictest);
    let private =
        |id, rating| TicketBody { keyword: Some("friends".to_owned()), ..rated(id, rating, Some("duel")) };
    let tickets = vec![
        rated("a", Some(1_000), Some("duel")),
        rated("b", Some(1_000), Some("team")),
        private("c", None),
        private("d", Some(9_000)),
    ];
    assert!(rig.file_bodies(tickets).unwrap().refused.is_empty());
    rig.run_ms(200);
    let mut told: Vec<String> = rig.poll(&[]).iter().map(|one| one.ticket.to_string()).collect();
    told.sort();
    assert_eq!(told, ["c", "d"], "friends need no rating");
}

#[test]
fn a_ticket_that_rules_cannot_look_at_is_refused_with_what_it_lacks() {
    let mut rig = rated_arena(Clock::LongestWaiting);
    let with = |id: &str, name: &str, value: &str| {
        let mut body = rated(id, Some(1), Some("duel"));
        body.attributes.insert(name.to_owned(), value.to_owned());
        body
    };
    let keyword = |id: &str, keyword: &str| TicketBody {
        keyword: Some(keyword.to_owned()),
        ..rated(id, Some(1), Some("duel"))
    };
    let mut many = rated("f", Some(1), Some("duel"));
    many.attributes.extend((0..16).map(|n| (format!("a{n}"), "x".to_owned())));
    let tickets = vec![
        rated("a", None, Some("duel")),
        rated("b", Some(1), None),
        with("c", "note", ""),
        with("d", "note", "two\nlines"),
        with("e", &"n".repeat(65), "x"),
        many,
        keyword("g", ""),
        keyword("h", &"k".repeat(129)),
        with("z", "seen", "by nobody"),
    ];
    let refused = rig.file_bodies(tickets).unwrap().refused;
    let told: Vec<String> = refused.iter().map(|one| format!("{}: {}", one.id, one.message)).collect();
    let expected = [
        "a: fleet arena matches by rating, and the ticket has none",
        "b: fleet arena matches by mode, and the ticket has no such attribute",
        "c: the attribute \"note\" must have 1 to 64 bytes and no control characters",
        "d: the attribute \"note\" must have 1 to 64 bytes and no control characters",
        "e: the name of an attribute must have 1 to 64 bytes and no control characters",
        "f: a ticket has at most 16 attributes, not 17",
        "g: the keyword must have 1 to 128 bytes and no control characters",
        "h: the keyword must have 1 to 128 bytes and no control characters",
    ];
    assert_eq!(told, expected);
    assert!(refused.iter().all(|one| one.code == Code::BadRequest));
}

#[test]
fn a_small_bound_on_the_work_delays_matches_and_loses_none() {
    let bounds = Bounds { match_work_max: 1, matches_max: 2, ..Bounds::default() };
    let mut rig = Rig::new(vec![room_fleet("arena", (2, 2), 8, 2)], bounds);
    rig.connect();
    rig.run_ms(2_000);
    let ids: Vec<String> = (0..12).map(|n| format!("t{n:02}")).collect();
    rig.file_bodies(ids.iter().map(|id| TicketBody::new(text(id), [text(id)])).collect()).unwrap();
    rig.run_ms(100);
    assert!(rig.poll(&[]).len() < 12, "one step is not enough");
    rig.run_ms(2_000);
    assert_eq!(rig.poll(&[]).len(), 12);
    assert_eq!(rig.fleet("arena").tickets, 0);
}

#[test]
fn who_plays_is_known_as_long_as_the_room_lives_also_after_a_restart() {
    let mut rig = arena();
    rig.file(&[("t1", &["a"]), ("t2", &["b"]), ("t3", &["c"]), ("t4", &["d"])]).unwrap();
    rig.run_ms(100);
    let allocation = rig.poll(&[])[0].allocation.clone();
    assert!(rig.poll(&["t1", "t2", "t3", "t4"]).is_empty(), "all of it is known");
    rig.seat(&allocation, &[(0, "a"), (1, "b"), (2, "c"), (3, "d")]);
    rig.run_ms(601_000);
    rig.restart();
    rig.connect();
    rig.report();
    let refused = rig.file(&[("later", &["a"])]).unwrap().refused;
    assert_eq!(refused.first().map(|refused| refused.code), Some(Code::AlreadyAssigned));
    rig.end(&allocation, EndReason::Finished, Value::Null);
    rig.run_ms(1_200_000);
    assert!(rig.kept.records.answers.is_empty(), "and not longer");
    assert!(rig.file(&[("last", &["a"])]).unwrap().refused.is_empty());
}

#[test]
fn tickets_whose_owner_is_not_heard_any_more_keep_nobody_from_a_new_one() {
    let mut rig = arena();
    rig.file(&[("t1", &["a"]), ("t2", &["b"])]).unwrap();
    rig.run_ms(110_000);
    rig.poll(&[]);
    rig.run_ms(110_000);
    assert_eq!(rig.fleet("arena").tickets, 2, "whoever asks is there");
    let wait = AssignmentsRequest { owner: "lobby".to_owned(), ack: Vec::new(), wait_ms: Some(20_000) };
    rig.ask(Call::Assignments(wait));
    rig.run_ms(130_000);
    assert_eq!(rig.fleet("arena").tickets, 2, "as long as a call waits, and for two minutes after it");
    rig.run_ms(20_000);
    assert_eq!(rig.fleet("arena").tickets, 0);
    assert!(rig.file(&[("anew", &["a"])]).unwrap().refused.is_empty());
    // Whoever files a ticket again has it from then on.
    rig.file(&[("t3", &["x"])]).unwrap();
    rig.run_ms(60_000);
    let theirs =
        TicketsRequest { owner: "other".to_owned(), tickets: vec![TicketBody::new(text("t3"), [text("x")])] };
    rig.now_answered(Call::FileTickets { fleet: text("arena"), body: theirs }).unwrap();
    rig.run_ms(70_000);
    assert_eq!(rig.fleet("arena").tickets, 1, "the former owner's silence is no matter, except for its own");
    rig.run_ms(60_000);
    assert_eq!(rig.fleet("arena").tickets, 0);
}
