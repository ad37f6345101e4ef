//! The agent protocol.

use std::collections::BTreeMap;

use greenroom_wire::agent::{
    FromAgent, Hello, ProbeWord, ProcessPhase, Report, ServerReport, StartOrder, ToAgent, VERSION,
};
use greenroom_wire::api::LogsAnswer;
use greenroom_wire::link::Measured;
use greenroom_wire::rooms::EndReason;

use crate::From::Process;
use crate::link::{measured, room_ended, room_report};
use crate::token::keys;
use crate::{golden, text};

fn server() -> ServerReport {
    ServerReport {
        server: text("arena-a1b2c"),
        instance: text("arena-a1b2c.0"),
        fleet: text("arena"),
        revision: text("0a1b2c3d4e5f"),
        phase: ProcessPhase::Ready,
        endpoint: "127.0.0.1:7001".to_owned(),
        tls: false,
        pid: Some(4_711),
        restarts: 0,
        started_at_ms: 1_700_000_000_000,
        connections: 2,
        rooms: vec![room_report()],
        keeps_rooms: false,
        linked: true,
        measured: Measured::default(),
        labels: std::collections::BTreeMap::new(),
        held: false,
        message: String::new(),
    }
}

#[test]
fn an_agent_speaks_as_ever() {
    let hello = Hello {
        version: VERSION,
        host: text("host-1"),
        boot: "b00t".to_owned(),
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        servers_max: 1_001,
        term_seen: 7,
        wants_occupied: false,
        agones: false,
    };
    golden(Process, "agent_hello", &FromAgent::Hello(hello.clone()));
    let in_a_pod = Hello { wants_occupied: true, ..hello.clone() };
    golden(Process, "agent_hello_in_a_pod", &FromAgent::Hello(in_a_pod));
    golden(Process, "agent_hello_agones", &FromAgent::Hello(Hello { agones: true, ..hello }));
}

fn of(servers: Vec<ServerReport>) -> Report {
    Report { at_ms: None, term: None, trouble: String::new(), servers }
}

#[test]
fn an_agent_reports_as_ever() {
    let report = |name: &str, report: Report| golden(Process, name, &FromAgent::Report(report));
    let ended = ServerReport {
        phase: ProcessPhase::Ended,
        pid: None,
        connections: 0,
        rooms: vec![],
        message: "exit status 1".to_owned(),
        ..server()
    };
    report("agent_report", of(vec![server(), ended]));
    let dated = Report { at_ms: Some(1_700_000_000_123), ..of(vec![]) };
    report("agent_report_dated", dated.clone());
    report("agent_report_term", Report { term: Some(7), ..dated });
    let trouble = "the task cannot be protected: ThrottlingException: Rate exceeded".to_owned();
    report("agent_report_in_trouble", Report { trouble, ..of(vec![]) });
    report("agent_report_measured", of(vec![ServerReport { measured: measured(), ..server() }]));
    let labels = BTreeMap::from([("map".to_owned(), "desert".to_owned())]);
    report("agent_report_labels", of(vec![ServerReport { labels, ..server() }]));
    report("agent_report_held", of(vec![ServerReport { held: true, ..server() }]));
}

#[test]
fn an_agent_tells_the_rest_as_ever() {
    golden(Process, "agent_read_peers", &FromAgent::ReadPeers { fleet: text("arena") });
    let ended = FromAgent::RoomEnded {
        server: text("arena-a1b2c"),
        instance: text("arena-a1b2c.0"),
        ended: room_ended(),
    };
    golden(Process, "agent_room_ended", &ended);
    let refused = FromAgent::Refused { server: text("arena-a1b2c"), message: "term 6 is below 7".to_owned() };
    golden(Process, "agent_refused", &refused);
    let logs = LogsAnswer { text: "listening\n".to_owned(), next_offset: 10 };
    golden(Process, "agent_logs", &FromAgent::Logs { request: 3, outcome: Ok(logs) });
    let no_logs = FromAgent::Logs { request: 4, outcome: Err("no such server".to_owned()) };
    golden(Process, "agent_logs_refused", &no_logs);
}

#[test]
fn control_answers_its_agents_as_ever() {
    golden(
        Process,
        "agent_welcome",
        &ToAgent::Welcome { version: VERSION, term: 7, keys: keys(), hears_held: false },
    );
    golden(
        Process,
        "agent_welcome_hears_held",
        &ToAgent::Welcome { version: VERSION, term: 7, keys: keys(), hears_held: true },
    );
    golden(Process, "agent_keys", &ToAgent::Keys { keys: keys() });
    let order = StartOrder {
        server: text("arena-a1b2c"),
        fleet: text("arena"),
        revision: text("0a1b2c3d4e5f"),
        command: vec!["arena".to_owned(), "--fast".to_owned()],
        env: BTreeMap::from([("MODE".to_owned(), "ranked".to_owned())]),
        secrets: BTreeMap::new(),
        probe: ProbeWord::EngineIo,
        stop_grace_ms: 10_000,
        min_ready_ms: 0,
        rooms_per_server: 1,
        seats_per_room: 4,
        ports: None,
        agones: false,
    };
    let secret = StartOrder {
        secrets: BTreeMap::from([("DB".to_owned(), text("file:/run/secrets/db"))]),
        ..order.clone()
    };
    golden(Process, "agent_start_secrets", &ToAgent::Start { term: 3, order: Box::new(secret) });
    let agones = StartOrder { agones: true, ..order.clone() };
    golden(Process, "agent_start_agones", &ToAgent::Start { term: 3, order: Box::new(agones) });
    let proven = StartOrder { min_ready_ms: 5_000, ..order.clone() };
    golden(Process, "agent_start_min_ready", &ToAgent::Start { term: 3, order: Box::new(proven) });
    let ranged = StartOrder { ports: Some((7100, 7199)), ..order.clone() };
    golden(Process, "agent_start", &ToAgent::Start { term: 7, order: Box::new(order) });
    golden(Process, "agent_start_ports", &ToAgent::Start { term: 7, order: Box::new(ranged) });
    let stop = ToAgent::Stop { term: 7, server: text("arena-a1b2c"), reason: "idle for an hour".to_owned() };
    golden(Process, "agent_stop", &stop);
    let close = ToAgent::CloseRoom {
        term: 7,
        server: text("arena-a1b2c"),
        room: text("room-1"),
        epoch: 1,
        reason: EndReason::Superseded,
    };
    golden(Process, "agent_close_room", &close);
    golden(Process, "agent_room_ended_ack", &ToAgent::RoomEndedAck { room: text("room-1"), epoch: 1 });
    let read = ToAgent::ReadLogs { request: 3, server: text("arena-a1b2c"), offset: None, bytes_max: 65_536 };
    golden(Process, "agent_read_logs", &read);
    golden(Process, "agent_occupied", &ToAgent::Occupied { occupied: true });
    let peers = ToAgent::Peers { fleet: text("arena"), outcome: Ok(vec![crate::api::gameserver()]) };
    golden(Process, "agent_peers", &peers);
    let none = ToAgent::Peers { fleet: text("arena"), outcome: Err("there is no fleet arena".to_owned()) };
    golden(Process, "agent_peers_refused", &none);
}

#[test]
fn every_phase_and_probe_has_its_word() {
    let phases = vec![
        ProcessPhase::Starting,
        ProcessPhase::Ready,
        ProcessPhase::Unhealthy,
        ProcessPhase::Restarting,
        ProcessPhase::Stopping,
        ProcessPhase::Ended,
    ];
    golden(Process, "words_process_phase", &phases);
    let probes = vec![
        ProbeWord::EngineIo,
        ProbeWord::Tcp,
        ProbeWord::Http("/healthz".to_owned()),
        ProbeWord::Sdk { silence_ms: 15_000 },
    ];
    golden(Process, "words_probe", &probes);
}
