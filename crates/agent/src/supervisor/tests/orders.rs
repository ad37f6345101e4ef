//! Control: terms, refusals, reports, stopping everything.

use greenroom_core::RoomId;
use greenroom_wire::link::Status;
use greenroom_wire::rooms::{EndReason, RoomReport};

use super::*;

#[test]
fn an_order_of_an_older_term_is_refused_and_changes_nothing() {
    let server = || name("arena-1").into();
    let room: RoomId = "room-1".parse().unwrap();
    let orders = [
        ToAgent::Start { term: 4, order: Box::new(order("arena-2", "arena")) },
        ToAgent::Stop { term: 4, server: server(), reason: "x".to_owned() },
        ToAgent::CloseRoom {
            term: 4,
            server: server(),
            room: room.into(),
            epoch: 1,
            reason: EndReason::Superseded,
        },
    ];
    for order in orders {
        let mut bench = Bench::welcomed();
        bench.ready("arena-1");
        bench.linked(1, "arena-1.0", "secret-1");
        bench.take();
        bench.control(order.clone());
        assert_eq!(bench.refusals(), ["term 4 is below 5, the highest seen here"], "{order:?}");
        assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready, "{order:?}");
        assert!(bench.told("arena-2").is_none(), "{order:?}");
    }
    let mut bench = Bench::welcomed();
    bench.control(ToAgent::Start { term: 7, order: Box::new(order("arena-1", "arena")) });
    bench.control(ToAgent::Start { term: 6, order: Box::new(order("arena-2", "arena")) });
    assert_eq!(bench.refusals(), ["term 6 is below 7, the highest seen here"]);
    assert_eq!(bench.supervisor.term_seen(), 7);
    // A control that says welcome with an older term is listened to, not obeyed.
    bench.control(ToAgent::Welcome { version: 1, term: 6, keys: PublicKeys::default(), hears_held: true });
    assert_eq!(bench.supervisor.term_seen(), 7);
}

#[test]
fn an_order_that_cannot_be_carried_out_is_refused_with_the_reason() {
    let start = |server: &str| ToAgent::Start { term: 5, order: Box::new(order(server, "arena")) };
    let mut bench = Bench::welcomed();
    let mut empty = order("arena-9", "arena");
    empty.command.clear();
    bench.control(ToAgent::Start { term: 5, order: Box::new(empty) });
    for server in ["arena-1", "arena-2", "arena-3", "arena-4"] {
        bench.control(start(server));
    }
    bench.control(start("arena-1"));
    let told = bench.refusals();
    assert_eq!(told, ["the command is empty", "this host holds its most: 3 gameservers"]);
    let room: RoomId = "room-1".parse().unwrap();
    bench.control(ToAgent::CloseRoom {
        term: 5,
        server: name("arena-1").into(),
        room: room.into(),
        epoch: 1,
        reason: EndReason::Superseded,
    });
    assert_eq!(bench.refusals(), ["room room-1 is not closed: gameserver arena-1 has no link"]);
}

#[test]
fn a_stop_that_crosses_word_of_players_or_rooms_is_refused_until_they_are_gone() {
    let stop = || ToAgent::Stop { term: 5, server: name("arena-1").into(), reason: "surplus".to_owned() };
    let room: RoomId = "room-1".parse().unwrap();
    let live = RoomReport { room: room.into(), epoch: 1, key: None, seats: Vec::new(), kept: false };
    let status = |connections, rooms: &[RoomReport]| Status {
        connections,
        rooms: rooms.to_vec(),
        ..Status::default()
    };
    for busy in [status(1, &[]), status(0, &[live])] {
        let mut bench = Bench::welcomed();
        bench.ready("arena-1");
        bench.linked(1, "arena-1.0", "secret-1");
        bench.link(1, FromServer::Status(status(0, &[])));
        bench.pass(100);
        bench.take();
        bench.link(1, FromServer::Status(busy.clone()));
        bench.control(stop());
        let refusal = "gameserver arena-1 is in use, by what this agent has heard since";
        assert_eq!(bench.refusals(), [refusal], "{busy:?}");
        assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready, "{busy:?}");
        bench.link(1, FromServer::Status(status(0, &[])));
        bench.control(stop());
        assert_eq!(bench.refusals(), Vec::<String>::new());
        assert_eq!(bench.phase("arena-1").0, ProcessPhase::Stopping, "{busy:?}");
        // Players who are told to leave are there still; the order that comes again is no other one.
        bench.link(1, FromServer::Status(busy.clone()));
        bench.control(stop());
        assert_eq!(bench.refusals(), Vec::<String>::new(), "{busy:?}");
    }
}

#[test]
fn a_stop_waits_until_a_server_that_is_taken_over_has_told_its_rooms() {
    let stop = || ToAgent::Stop { term: 5, server: name("arena-1").into(), reason: "surplus".to_owned() };
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.linked(1, "arena-1.0", "secret-1");
    bench.link(1, FromServer::Status(Status::default()));
    let mut bench = Bench::from_journal(bench.supervisor.journal(), bench.now);
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    let process = Process { handle: Handle::from_text("h1".to_owned()), pid: Some(1001) };
    let found = Some(process);
    bench.event(Event::Adopted { server: name("arena-1"), instance: instance("arena-1.0"), found });
    bench.take();
    bench.control(stop());
    assert_eq!(bench.refusals().len(), 1, "its rooms may be on their way");
    bench.linked(2, "arena-1.0", "secret-1");
    bench.link(2, FromServer::Status(Status::default()));
    bench.control(stop());
    assert_eq!(bench.refusals(), Vec::<String>::new());
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Stopping);
}

#[test]
fn rooms_that_control_has_had_closed_and_a_server_that_was_never_ready_refuse_no_stop() {
    let stop = || ToAgent::Stop { term: 5, server: name("arena-1").into(), reason: "surplus".to_owned() };
    let room: RoomId = "room-1".parse().unwrap();
    let live = RoomReport { room: room.clone().into(), epoch: 1, key: None, seats: Vec::new(), kept: false };
    let status = Status { rooms: vec![live], ..Status::default() };
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.linked(1, "arena-1.0", "secret-1");
    bench.link(1, FromServer::Status(status.clone()));
    let (server, room) = (name("arena-1").into(), room.into());
    bench.control(ToAgent::CloseRoom { term: 5, server, room, epoch: 1, reason: EndReason::Finished });
    bench.link(1, FromServer::Status(status));
    bench.take();
    bench.control(stop());
    assert_eq!(bench.refusals(), Vec::<String>::new());
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Stopping);
    let mut bench = Bench::welcomed();
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-1", "arena")) });
    bench.started("arena-1", "arena-1.0");
    bench.linked(1, "arena-1.0", "secret-1");
    bench.link(1, FromServer::Status(Status { awaits_rooms: true, ..Status::default() }));
    bench.take();
    bench.control(stop());
    assert_eq!(bench.refusals(), Vec::<String>::new());
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Stopping);
}

#[test]
fn the_name_of_an_ended_server_is_not_used_again() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.control(ToAgent::Stop { term: 5, server: name("arena-1").into(), reason: "x".to_owned() });
    bench.exited("arena-1", "arena-1.0", Exit::Code(0));
    bench.pass(1_000);
    bench.take();
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-1", "arena")) });
    assert_eq!(bench.refusals(), ["gameserver arena-1 has ended; its name is not used again"]);
    let journal = bench.supervisor.take_journal().unwrap();
    let mut bench = Bench::from_journal(journal, bench.now);
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-1", "arena")) });
    assert_eq!(bench.refusals().len(), 1, "nor after a restart of the agent");
}

#[test]
fn a_report_goes_out_each_second_and_soon_after_a_change() {
    let mut bench = Bench::welcomed();
    assert_eq!(bench.report_times(), [0, 0], "at the start for whoever sees it, and at the welcome");
    bench.pass(2_500);
    assert_eq!(bench.report_times(), [1_000, 2_000]);
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-1", "arena")) });
    bench.pass(10);
    bench.started("arena-1", "arena-1.0");
    bench.pass(990);
    assert_eq!(bench.report_times(), [2_520], "changes within 20 ms go together");
    bench.event(Event::ControlLost);
    bench.pass(5_000);
    assert_eq!(bench.report_times(), [3_520, 4_520, 5_520, 6_520, 7_520], "nobody leads, and others see");
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    assert_eq!(bench.report_times(), [8_500]);
    bench.pass(300);
    bench.event(Event::ControlUp);
    bench.pass(700);
    assert_eq!(bench.report_times(), [8_820], "another replica listens that knows nothing yet");
}

#[test]
fn an_ended_server_is_kept_for_the_report_while_control_is_away() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.pass(100);
    bench.event(Event::ControlLost);
    bench.control(ToAgent::Stop { term: 5, server: name("arena-1").into(), reason: "x".to_owned() });
    bench.exited("arena-1", "arena-1.0", Exit::Code(0));
    bench.pass(60_000);
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    assert_eq!(bench.told("arena-1").unwrap().phase, ProcessPhase::Ended);
}

#[test]
fn stopping_everything_is_done_when_all_are_gone_and_told() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.ready("arena-2");
    bench.event(Event::StopAll);
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-3", "arena")) });
    assert_eq!(bench.refusals(), ["this agent stops"]);
    bench.pass(100);
    assert!(!bench.supervisor.is_done(bench.now));
    bench.exited("arena-1", "arena-1.0", Exit::Code(0));
    bench.exited("arena-2", "arena-2.0", Exit::Code(0));
    assert!(!bench.supervisor.is_done(bench.now), "control was not told yet");
    bench.pass(20);
    assert!(bench.supervisor.is_done(bench.now));
    assert!(bench.supervisor.take_journal().unwrap().servers.is_empty());
    let mut bench = Bench::new();
    bench.event(Event::StopAll);
    assert!(bench.supervisor.is_done(bench.now), "without servers and control there is nothing to wait for");
}

#[test]
fn logs_are_read_in_pieces_of_a_bounded_size() {
    let mut bench = Bench::welcomed();
    bench.take();
    let server = name("arena-1");
    let asked =
        ToAgent::ReadLogs { request: 9, server: server.clone().into(), offset: None, bytes_max: u32::MAX };
    bench.control(asked);
    let effect = Effect::ReadLogs { request: 9, server, offset: None, bytes_max: 262_144 };
    assert_eq!(bench.take(), [(0, effect)]);
}

#[test]
fn without_a_leader_what_runs_is_told_on_and_what_ended_once_more_to_the_next_one() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.control(ToAgent::Stop { term: 5, server: name("arena-1").into(), reason: "idle".to_owned() });
    bench.event(Event::ControlLost);
    bench.exited("arena-1", "arena-1.0", Exit::Code(0));
    bench.report_times();
    bench.pass(3_000);
    assert_eq!(bench.told("arena-1").map(|told| told.phase), Some(ProcessPhase::Ended));
    assert!((3..=4).contains(&bench.report_times().len()), "one each second");
    bench.control(ToAgent::Welcome { version: 1, term: 6, keys: PublicKeys::default(), hears_held: true });
    assert_eq!(bench.told("arena-1").map(|told| told.phase), Some(ProcessPhase::Ended));
    let term = |(_, effect): &(u64, Effect)| match effect {
        Effect::Tell(told) => match &**told {
            FromAgent::Report(report) => report.term,
            _ => None,
        },
        _ => None,
    };
    assert_eq!(bench.done.iter().find_map(term), Some(6), "it was made after the welcome");
    bench.pass(1_000);
    assert!(bench.told("arena-1").is_none(), "told to whoever leads, and forgotten");
}
