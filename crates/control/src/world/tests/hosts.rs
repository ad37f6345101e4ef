//! Hosts: silence, loss, second agents, refused orders.

use greenroom_wire::Text;
use greenroom_wire::agent::{FromAgent, ProcessPhase, Report, ToAgent};
use greenroom_wire::api::StateWord;
use greenroom_wire::error::Code;
use greenroom_wire::rooms::EndReason;

use super::rig::*;
use crate::world::{Actor, Answer, Bounds, Call, Event};

fn restart(fleet: &str) -> Call {
    Call::Restart { fleet: text(fleet), by: Actor::Token("ops".into()) }
}

fn arena() -> Rig {
    Rig::ready(vec![room_fleet("arena", (2, 4), 2, 4)])
}

fn states(rig: &mut Rig) -> Vec<StateWord> {
    rig.overview().gameservers.iter().map(|server| server.state).collect()
}

#[test]
fn a_silent_host_is_out_of_rotation_and_its_keys_stay_bound() {
    let mut rig = arena();
    let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    rig.silent_ms(3_200);
    assert_eq!(states(&mut rig), [StateWord::Unhealthy, StateWord::Unhealthy]);
    assert!(!rig.overview().hosts[0].connected);
    assert_eq!(code(rig.allocate(request(None, &["b"]))), Code::NoCapacity);
    assert_eq!(rig.allocate(request(Some("k"), &["b"])).unwrap().room, given.room, "the old endpoint");
    rig.silent_ms(30_000);
    assert_eq!(code(rig.allocate(request(Some("k"), &["c"]))), Code::HostSuspect);
    rig.report();
    assert!(rig.overview().hosts[0].connected);
    assert_eq!(rig.allocate(request(Some("k"), &["c"])).unwrap().room, given.room);
}

#[test]
fn a_host_that_stays_silent_is_lost_with_its_rooms() {
    let mut rig = arena();
    let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    rig.silent_ms(300_200);
    assert_eq!(rig.room(given.room.as_str()).ended, Some(EndReason::HostLost));
    let overview = rig.overview();
    assert_eq!((overview.hosts.len(), overview.totals.gameservers), (0, 0));
    assert!(rig.kept.records.hosts.is_empty());
}

#[test]
fn a_second_agent_of_a_live_host_is_refused_and_the_same_one_may_come_back() {
    let mut rig = arena();
    let other = rig.connect_as("h1", "boot2", 0);
    assert_eq!(rig.closed.last().map(|(stream, _)| *stream), Some(other));
    let first = rig.connect_as("h1", "boot1", 0);
    assert_ne!(rig.closed.last().map(|(stream, _)| *stream), Some(first), "the same process reconnects");
    rig.event(Event::StreamClosed { stream: first });
    let third = rig.connect_as("h1", "boot3", 0);
    assert!(rig.closed.iter().all(|(stream, _)| *stream != third), "the old stream is gone");
    rig.silent_ms(4_000);
    let fourth = rig.connect_as("h1", "boot4", 0);
    assert!(rig.closed.iter().any(|(stream, _)| *stream == third), "the silent one is replaced");
    assert!(rig.closed.iter().all(|(stream, _)| *stream != fourth));
}

#[test]
fn an_agent_of_another_version_is_told_both_and_too_many_hosts_are_refused() {
    let bounds = Bounds { hosts_max: 1, ..Bounds::default() };
    let mut rig = Rig::new(vec![], bounds);
    rig.connect();
    rig.connect_as("h2", "b", 0);
    assert_eq!(rig.closed.last().unwrap().1, "there are 1 hosts already");
}

#[test]
fn the_term_rises_above_what_an_agent_has_obeyed() {
    let mut rig = Rig::new(vec![room_fleet("arena", (1, 1), 1, 1)], Bounds::default());
    rig.connect_as("h1", "b", 9);
    assert_eq!(rig.world.term(), 10);
    rig.report();
    rig.run_ms(200);
    let starts: Vec<u64> = rig
        .orders
        .iter()
        .filter_map(|order| if let ToAgent::Start { term, .. } = order { Some(*term) } else { None })
        .collect();
    assert_eq!(starts, [10]);
}

#[test]
fn an_order_without_effect_is_sent_again_and_a_refused_one_is_replaced_after_a_pause() {
    let mut rig = Rig::new(vec![room_fleet("arena", (1, 1), 1, 1)], Bounds::default());
    rig.agent_obeys = false;
    rig.connect();
    rig.run_ms(5_000);
    let started: Vec<String> = rig
        .orders
        .iter()
        .filter_map(|order| {
            if let ToAgent::Start { order, .. } = order { Some(order.server.to_string()) } else { None }
        })
        .collect();
    assert!(started.len() >= 2 && distinct(&started) == 1, "{started:?}");
    rig.orders.clear();
    let server = Text(text(&started[0]));
    rig.say(FromAgent::Refused { server, message: "no port".to_owned() });
    rig.silent_ms(900);
    assert!(rig.orders.is_empty(), "a pause");
    rig.agent_obeys = true;
    rig.silent_ms(300);
    assert_eq!(rig.servers.len(), 1);
    assert_ne!(rig.servers_of("arena")[0].to_string(), started[0]);
}

fn stops(rig: &Rig) -> Vec<String> {
    let stopped = |order: &ToAgent| match order {
        ToAgent::Stop { server, .. } => Some(server.to_string()),
        _ => None,
    };
    rig.orders.iter().filter_map(stopped).collect()
}

#[test]
fn idle_servers_of_hosts_that_were_silent_for_minutes_are_given_out_again_when_they_are_heard() {
    for restarts in [false, true] {
        let mut rig = Rig::ready(vec![room_fleet("arena", (2, 4), 1, 4)]);
        let servers = rig.servers_of("arena");
        rig.silent_ms(120_000);
        assert!(rig.allocate(request(None, &["ann"])).is_err(), "nobody knows whether they live");
        if restarts {
            rig.restart();
            rig.connect();
        }
        rig.report();
        let made = rig.allocate(request(None, &["bob"])).expect("they are back");
        assert!(servers.contains(&made.server.0), "{made:?}");
        rig.run_ms(20_000);
        assert_eq!((stops(&rig), rig.servers_of("arena")), (Vec::new(), servers), "{restarts}");
    }
}

#[test]
fn of_servers_that_were_replaced_while_their_host_was_silent_only_what_is_too_many_goes() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (2, 2), 1, 4)]);
    let (first, before) = (rig.stream, std::mem::take(&mut rig.servers));
    rig.stream = rig.connect_as("h2", "b", 0);
    rig.run_ms(70_000);
    assert_eq!(rig.servers.len(), 2, "others take their place");
    assert_eq!(stops(&rig), Vec::<String>::new());
    let (second, mut others) = (rig.stream, before);
    // Somebody had the address of one of them.
    others.values_mut().next().unwrap().report.connections = 3;
    let busy = others.keys().next().unwrap().clone();
    for _ in 0..20 {
        rig.silent_ms(1_000);
        for stream in [first, second] {
            std::mem::swap(&mut rig.servers, &mut others);
            rig.stream = stream;
            rig.report();
        }
    }
    let stopped: std::collections::BTreeSet<String> = stops(&rig).into_iter().collect();
    assert_eq!(stopped.len(), 2, "{stopped:?}");
    assert!(!stopped.contains(busy.as_str()), "{stopped:?}");
}

#[test]
fn without_a_host_the_fleet_says_so() {
    let mut rig = Rig::new(vec![room_fleet("arena", (2, 2), 1, 1)], Bounds::default());
    rig.silent_ms(200);
    assert!(rig.fleet("arena").waiting_on.iter().any(|reason| reason.contains("without a host")));
}

#[test]
fn a_server_of_an_unknown_fleet_is_shown_and_left_alone() {
    let mut rig = arena();
    rig.run_ms(1_000);
    let mut stranger = rig.servers.values().next().unwrap().report.clone();
    stranger.server = Text(text("other-aaaaa"));
    stranger.fleet = Text(text("other"));
    rig.servers.insert(text("other-aaaaa"), Running { report: stranger });
    rig.run_ms(70_000);
    assert_eq!(rig.overview().gameservers.len(), 3);
    assert!(rig.servers.contains_key(&text("other-aaaaa")));
    assert!(!rig.orders.iter().any(|order| matches!(order, ToAgent::Stop { .. })));
}

#[test]
fn logs_come_from_the_agent_or_are_refused() {
    let mut rig = arena();
    let server = rig.servers_of("arena")[0].clone();
    let call = Call::Logs { server: server.clone(), offset: None, bytes_max: None };
    let asked = rig.ask(call.clone());
    let outcome = Ok(greenroom_wire::api::LogsAnswer { text: "hello".to_owned(), next_offset: 5 });
    rig.say(FromAgent::Logs { request: asked.0, outcome });
    assert!(matches!(rig.answer(asked), Ok(Answer::Logs(logs)) if logs.text == "hello"));
    let silent = rig.ask(call);
    rig.run_ms(5_100);
    assert_eq!(rig.answer(silent).unwrap_err().code(), Code::HostSuspect);
    let unknown = Call::Logs { server: text("arena-zzzzz"), offset: None, bytes_max: None };
    assert_eq!(rig.now_answered(unknown).unwrap_err().code(), Code::GameserverNotFound);
    let large = Call::Logs { server, offset: None, bytes_max: Some(262_145) };
    assert_eq!(rig.now_answered(large).unwrap_err().code(), Code::BadRequest);
}

#[test]
fn an_agent_is_given_servers_and_players_only_after_its_first_report_on_a_stream() {
    let mut rig = Rig::new(vec![room_fleet("arena", (2, 4), 2, 4)], Bounds::default());
    rig.connect_as("h1", "boot1", 0);
    rig.silent_ms(2_000);
    assert!(rig.servers.is_empty(), "what runs there already is not known");
    rig.report();
    rig.silent_ms(100);
    assert_eq!(rig.servers.len(), 2);
    rig.report();
    rig.connect_as("h1", "boot1", 0);
    assert_eq!(code(rig.allocate(request(None, &["a"]))), Code::NoCapacity, "a new stream, nothing reported");
    rig.report();
    assert!(rig.allocate(request(None, &["a"])).is_ok());
}

#[test]
fn an_unhealthy_server_that_tells_of_no_room_keeps_its_seats() {
    let mut rig = arena();
    let given = rig.allocate(request(Some("k"), &["a"])).unwrap();
    rig.seat(&given, &[(0, "a")]);
    let report = &mut rig.servers.get_mut(&given.server.0).unwrap().report;
    let rooms = std::mem::take(&mut report.rooms);
    report.phase = ProcessPhase::Unhealthy;
    rig.run_ms(60_000);
    let seat = rig.room(given.room.as_str()).seats[0].clone();
    assert_eq!(seat.player, Some(Text(text("a"))), "its agent has just not heard it yet");
    let report = &mut rig.servers.get_mut(&given.server.0).unwrap().report;
    (report.rooms, report.phase) = (rooms, ProcessPhase::Ready);
    rig.run_ms(1_000);
    rig.seat(&given, &[]);
    assert_eq!(rig.room(given.room.as_str()).seats[0].player, None, "one that is heard is believed");
}

#[test]
fn a_restart_of_a_fleet_reaches_each_of_its_servers_and_ends_its_wait() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (2, 4), 2, 4), mesh_fleet("lobby", (1, 1))]);
    let Ok(Answer::Restarted(answer)) = rig.now_answered(restart("arena")) else { panic!() };
    let told = rig.orders.iter().filter(|order| matches!(order, ToAgent::Restart { .. })).count();
    assert_eq!((answer.servers.len(), told), (2, 2));
    let unknown = rig.now_answered(restart("nonesuch"));
    assert_eq!(unknown.unwrap_err().code(), Code::FleetNotFound);
}

#[test]
fn a_report_counts_when_its_agent_had_heard_a_term_of_this_leader() {
    // By the highest term that the agent has heard before, and that of its report.
    let cases = [
        (0, None, true),
        (0, Some(0), false),
        (0, Some(1), false),
        (0, Some(2), true),
        (0, Some(3), false),
        // The leader goes above it; agents that are told nothing meanwhile go on with what they know.
        (5, Some(1), false),
        (5, Some(2), true),
        (5, Some(6), true),
        (5, Some(7), false),
    ];
    for (seen, term, counts) in cases {
        let mut rig = arena();
        rig.restart();
        rig.connect_as(HOST, "boot1", seen);
        let servers = rig.servers.values().map(|running| running.report.clone()).collect();
        rig.say(FromAgent::Report(Report { at_ms: None, term, trouble: String::new(), servers }));
        let told = rig.overview().gameservers.len();
        assert_eq!(told, if counts { 2 } else { 0 }, "after {seen} a report of {term:?}");
    }
}

#[test]
fn no_agent_can_use_the_terms_up() {
    let mut rig = arena();
    for term_seen in [u64::MAX, u64::MAX - 1, 1 << 62] {
        let stream = rig.connect_as("h2", "boot", term_seen);
        assert_eq!(rig.closed.last().map(|(closed, _)| *closed), Some(stream), "{term_seen}");
        assert_eq!(rig.world.term(), 1);
    }
    rig.connect_as("h2", "boot", (1 << 62) - 1);
    assert_eq!(rig.world.term(), 1 << 62);
    let honest = rig.connect_as("h3", "boot", 1 << 62);
    assert_ne!(rig.closed.last().map(|(closed, _)| *closed), Some(honest), "it has that from here");
}
