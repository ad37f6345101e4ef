//! The words between a node and its backplane. In the store for Redis they outlive the processes that wrote them.

use greenroom_wire::backplane::{Command, Logged, NotRestored, Own, Pid, Position, SessionRecord, Told};
use greenroom_wire::kept::{KeptRoom, KeptSeat, Receivers, RoomCommand, RoomEvent, RoomTold};
use greenroom_wire::link::{FromServer, ToServer};
use greenroom_wire::rooms::EndReason;
use serde_json::json;

use crate::From::Process;
use crate::link::relay;
use crate::{golden, text};

fn pid() -> Pid {
    Pid::new("not-a-real-session-id")
}

fn place(n: u32) -> greenroom_wire::Text<Position> {
    Position { epoch: 0x1f, offset: 12, n }.into()
}

fn session() -> Box<SessionRecord> {
    let own = Own {
        position: place(1),
        seq: 8,
        packet: "2[\"score\",3]".to_owned(),
        attachments: vec!["AQID".to_owned()],
    };
    Box::new(SessionRecord {
        pid: pid(),
        namespace: "/".to_owned(),
        socket: "socket-1".to_owned(),
        node: "board-a1b2c.0".to_owned(),
        generation: 2,
        groups: vec!["red".to_owned()],
        data: json!({"color": "blue"}),
        window_ms: 120_000,
        safe: place(0),
        own: vec![own],
        own_lost: Some(text("1f-11-2")),
    })
}

fn logged() -> Logged {
    Logged {
        offset: 12,
        at_ms: 1_700_000_000_000,
        origin: "board-a1b2c.0".to_owned(),
        seq: 7,
        relay: relay(),
    }
}

#[test]
fn a_node_gives_its_commands_as_ever() {
    let namespace = || "/".to_owned();
    let commands = [
        ("attach", Command::Attach { namespace: namespace(), known: Some(place(0)), window_ms: 120_000 }),
        ("read", Command::Read { namespace: namespace(), after: 11 }),
        (
            "restore",
            Command::Restore {
                namespace: namespace(),
                epoch: 0x1f,
                head: 12,
                events: vec![logged()],
                is_last: true,
            },
        ),
        ("publish", Command::Publish { seq: 7, relay: relay() }),
        (
            "own",
            Command::Own {
                seq: 8,
                pid: pid(),
                generation: 2,
                packet: "2[\"score\",3]".to_owned(),
                attachments: vec![],
            },
        ),
        ("open", Command::Open { session: session() }),
        (
            "update",
            Command::Update { pid: pid(), generation: 2, groups: vec!["red".to_owned()], data: json!(null) },
        ),
        ("touch", Command::Touch { sessions: vec![(pid(), 2, place(1))] }),
        ("away", Command::Away { pid: pid(), generation: 2 }),
        ("close", Command::Close { pid: pid(), generation: 2 }),
        ("take", Command::Take { ask: 1, namespace: namespace(), pid: pid() }),
    ];
    for (name, command) in commands {
        golden(Process, &format!("link_backplane_{name}"), &FromServer::Backplane(command));
    }
}

#[test]
fn a_backplane_answers_as_ever() {
    let namespace = || "/".to_owned();
    let told = [
        ("attached", Told::Attached { namespace: namespace(), epoch: 0x1f, head: 12, floor: 3 }),
        ("page", Told::Page { namespace: namespace(), epoch: 0x1f, floor: 3, events: vec![logged()] }),
        ("wanted", Told::Wanted { namespace: namespace() }),
        ("event", Told::Event { epoch: 0x1f, event: logged() }),
        ("owned", Told::Owned { seq: 8, position: place(1) }),
        ("disowned", Told::Disowned { seq: 8 }),
        ("taken", Told::Taken { ask: 1, session: Ok(session()), head: 12 }),
        ("not_taken", Told::Taken { ask: 1, session: Err(NotRestored::WindowOver), head: 12 }),
        ("fenced", Told::Fenced { pid: pid(), generation: 3 }),
        ("not_kept", Told::NotKept { pid: pid() }),
    ];
    for (name, told) in told {
        golden(Process, &format!("link_backplane_{name}"), &ToServer::Backplane(told));
    }
}

fn kept_room() -> Box<KeptRoom> {
    let seat = KeptSeat {
        seat: 0,
        player: text("alice"),
        jti: "token-1".to_owned(),
        issued_at: 1_700_000_000,
        pid: pid(),
        pid_before: Some(Pid::new("another-session-id")),
        is_told: true,
        socket: "socket-1".to_owned(),
        seed: place(0),
    };
    Box::new(KeptRoom {
        room: text("room-1"),
        epoch: 1,
        key: Some(text("guild:42")),
        seq: 9,
        snapshot: "R1JSTQ==".to_owned(),
        history: place(0),
        sealed: false,
        seats: vec![seat],
        used: [("token-1".to_owned(), 1_700_000_030)].into(),
        ended: Some(EndReason::Finished),
    })
}

fn room_events() -> Vec<RoomEvent> {
    let event = |offset, to| RoomEvent {
        offset,
        at_ms: 1_700_000_000_000,
        to,
        packet: "2[\"total\",{\"n\":3}]".to_owned(),
    };
    vec![event(10, Receivers::All), event(11, Receivers::Only(0)), event(12, Receivers::Except(0))]
}

#[test]
fn rooms_that_outlive_their_process_are_told_of_as_ever() {
    let (server, room) = (|| text("arena-a1b2c"), || text("room-1"));
    let commands = [
        ("hold", RoomCommand::Hold { server: server(), is_again: false, kept_ms: 180_000 }),
        (
            "keep",
            RoomCommand::Keep {
                server: server(),
                after: Some(8),
                record: kept_room(),
                floor: 3,
                events: room_events(),
            },
        ),
        ("forget", RoomCommand::Forget { server: server(), room: room() }),
    ];
    for (name, command) in commands {
        golden(
            Process,
            &format!("link_backplane_room_{name}"),
            &FromServer::Backplane(Command::Room(command)),
        );
    }
    let told = [
        ("held", RoomTold::Held { record: kept_room(), events: room_events() }),
        (
            "held_sealed",
            RoomTold::Held { record: Box::new(KeptRoom { sealed: true, ..*kept_room() }), events: vec![] },
        ),
        ("all_held", RoomTold::AllHeld),
        ("kept", RoomTold::Kept { room: room(), seq: 9 }),
        ("wanted", RoomTold::Wanted { room: room() }),
        ("anew", RoomTold::Anew),
        ("too_many", RoomTold::TooMany { room: room() }),
        ("lost", RoomTold::Lost),
    ];
    for (name, told) in told {
        golden(Process, &format!("link_backplane_room_{name}"), &ToServer::Backplane(Told::Room(told)));
    }
}

#[test]
fn a_session_s_secret_is_in_no_log() {
    assert!(!format!("{:?}", session()).contains(pid().reveal()));
}
