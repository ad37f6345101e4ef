//! What is on the host, for whoever must not stop it meanwhile.

use greenroom_wire::link::Status;
use greenroom_wire::rooms::{EndReason, RoomEnded, RoomReport, SeatPhase, SeatReport};

use super::*;
use crate::Occupancy;
use crate::keeping::Kept;

fn room(players: u16) -> RoomReport {
    let seat = |seat| SeatReport {
        seat,
        player: format!("p{seat}").parse::<greenroom_core::PlayerId>().unwrap().into(),
        phase: SeatPhase::Away,
    };
    RoomReport {
        room: "room-1".parse::<greenroom_core::RoomId>().unwrap().into(),
        epoch: 1,
        key: None,
        seats: (0..players).map(seat).collect(),
        kept: false,
    }
}

fn status(connections: u32, rooms: Vec<RoomReport>) -> FromServer {
    FromServer::Status(Status { connections, rooms, ..Status::default() })
}

fn occupied(busy: bool, players: u32) -> Occupancy {
    Occupancy { busy, players }
}

#[test]
fn connections_rooms_and_results_that_control_has_not_taken_are_on_the_host() {
    let mut bench = Bench::welcomed();
    assert_eq!(bench.supervisor.occupancy(), occupied(false, 0));
    bench.ready("arena-1");
    bench.ready("arena-2");
    assert_eq!(bench.supervisor.occupancy(), occupied(false, 0), "nobody is there yet");
    bench.linked(1, "arena-1.0", "secret-1");
    assert!(bench.supervisor.occupancy().busy, "it may have rooms that it has not told of yet");
    bench.link(1, status(0, Vec::new()));
    assert_eq!(bench.supervisor.occupancy(), occupied(false, 0));
    bench.link(1, status(1, Vec::new()));
    assert_eq!(bench.supervisor.occupancy(), occupied(true, 1));
    bench.link(1, status(1, vec![room(3)]));
    assert_eq!(bench.supervisor.occupancy(), occupied(true, 3), "who is away has a seat");
    bench.linked(2, "arena-2.0", "secret-2");
    bench.link(2, status(4, Vec::new()));
    assert_eq!(bench.supervisor.occupancy(), occupied(true, 7), "of all servers together");
    bench.link(2, status(0, Vec::new()));
    bench.link(1, status(0, vec![room(0)]));
    assert_eq!(bench.supervisor.occupancy(), occupied(true, 0), "a room that nobody is in lives");
    let ended = RoomEnded {
        room: room(0).room,
        epoch: 1,
        reason: EndReason::Finished,
        result: serde_json::Value::Null,
    };
    bench.link(1, FromServer::RoomEnded(ended));
    bench.link(1, status(0, Vec::new()));
    assert_eq!(bench.supervisor.occupancy(), occupied(true, 0), "its result is here alone");
    bench.control(ToAgent::RoomEndedAck { room: room(0).room, epoch: 1 });
    assert_eq!(bench.supervisor.occupancy(), occupied(false, 0));
    bench.link(1, status(5, Vec::new()));
    bench.exited("arena-1", "arena-1.0", Exit::Code(1));
    assert_eq!(bench.supervisor.occupancy(), occupied(false, 0), "nobody is on a dead process");
}

#[test]
fn what_control_has_promised_holds_until_it_says_otherwise() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.control(ToAgent::Occupied { occupied: true });
    assert_eq!(bench.supervisor.occupancy(), occupied(true, 0));
    bench.event(Event::ControlLost);
    bench.pass(600_000);
    assert_eq!(bench.supervisor.occupancy(), occupied(true, 0), "control is away; its promise stands");
    bench.control(ToAgent::Welcome { version: 1, term: 6, keys: PublicKeys::default(), hears_held: true });
    assert!(bench.supervisor.occupancy().busy, "the next leader has not heard all yet");
    bench.control(ToAgent::Occupied { occupied: false });
    assert_eq!(bench.supervisor.occupancy(), occupied(false, 0));
}

#[test]
fn a_new_agent_takes_the_host_for_occupied_until_it_knows() {
    let mut first = Bench::welcomed();
    first.ready("arena-1");
    let journal = first.supervisor.take_journal().unwrap();
    let mut bench = Bench::from_journal(journal, first.now + Duration::from_secs(5));
    assert!(bench.supervisor.occupancy().busy);
    let found = Some(Process { handle: Handle::from_text("h1".to_owned()), pid: Some(1001) });
    bench.event(Event::Adopted { server: name("arena-1"), instance: instance("arena-1.0"), found });
    assert_eq!(bench.supervisor.occupancy(), occupied(false, 0));
}

fn kept(held: bool, trouble: &str) -> Event {
    Event::Kept(Kept { held, trouble: trouble.to_owned() })
}

fn protected() -> Bench {
    let settings = Settings { holds: Holds::Servers, ..settings() };
    let mut bench = Bench::with(settings, Journal::empty("host-1".parse().unwrap()), T0);
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    bench
}

#[test]
fn no_server_is_told_to_be_ready_before_the_engine_holds_the_host() {
    let mut bench = protected();
    assert!(!bench.supervisor.occupancy().busy, "there is no server");
    bench.ready("arena-1");
    assert!(bench.supervisor.occupancy().busy, "somebody may be promised a place on it");
    let (phase, _, message) = bench.phase("arena-1");
    assert_eq!((phase, &*message), (ProcessPhase::Starting, "it waits until this host is protected"));
    bench.event(kept(false, "no answer within 10 s"));
    let (phase, _, message) = bench.phase("arena-1");
    assert_eq!(
        (phase, &*message),
        (ProcessPhase::Starting, "it waits until this host is protected: no answer within 10 s")
    );
    bench.event(kept(true, ""));
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
    // It may be promised by now: taking it back would take nothing back.
    bench.event(kept(false, "no answer within 10 s"));
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
    bench.ready("arena-2");
    assert_eq!(bench.phase("arena-2").0, ProcessPhase::Starting, "a new one waits");
    // So does the next process of the first.
    bench.exited("arena-1", "arena-1.0", Exit::Code(1));
    bench.pass(200);
    bench.started("arena-1", "arena-1.1");
    bench.probed("arena-1", "arena-1.1", Ok(()));
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Starting);
    bench.event(kept(true, ""));
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
    assert_eq!(bench.phase("arena-2").0, ProcessPhase::Ready);
    for server in ["arena-1", "arena-2"] {
        bench.control(ToAgent::Stop { term: 5, server: name(server).into(), reason: "scaled in".to_owned() });
    }
    assert!(bench.supervisor.occupancy().busy, "they have not ended yet");
    bench.exited("arena-1", "arena-1.1", Exit::Code(0));
    bench.exited("arena-2", "arena-2.0", Exit::Code(0));
    assert!(!bench.supervisor.occupancy().busy);
}

#[test]
fn what_the_engine_refuses_is_reported_and_holds_nothing_up_where_only_the_busy_are_held() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.event(kept(false, "AccessDeniedException"));
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
    let troubles = |bench: &Bench| {
        let told = bench.done.iter().rev().find_map(|(_, effect)| match effect {
            Effect::Tell(told) => match &**told {
                FromAgent::Report(report) => Some(report.trouble.clone()),
                _ => None,
            },
            _ => None,
        });
        told.expect("it reports")
    };
    assert_eq!(troubles(&bench), "AccessDeniedException");
    bench.event(kept(true, ""));
    bench.pass(21);
    assert_eq!(troubles(&bench), "");
}

#[test]
fn players_and_the_server_itself_are_told_the_port_that_leads_there() {
    let settings = Settings { dialled: [(7000, 32_768)].into(), ..settings() };
    let mut bench = Bench::with(settings, Journal::empty("host-1".parse().unwrap()), T0);
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    for server in ["arena-1", "arena-2"] {
        bench.control(ToAgent::Start { term: 5, order: Box::new(order(server, "arena")) });
    }
    let starts = bench.done.iter().filter_map(|(_, effect)| match effect {
        Effect::Start { port, spec } => {
            let said = |name: &str| spec.env[name].clone();
            Some((*port, said("GREENROOM_PORT"), said("GREENROOM_PUBLIC_ADDRESS")))
        }
        _ => None,
    });
    let own = |port: u16, dialled: u16| (port, port.to_string(), format!("play.example.com:{dialled}"));
    assert_eq!(starts.collect::<Vec<_>>(), [own(7000, 32_768), own(7001, 7001)]);
    bench.pass(21);
    assert_eq!(bench.told("arena-1").unwrap().endpoint, "play.example.com:32768");
}
