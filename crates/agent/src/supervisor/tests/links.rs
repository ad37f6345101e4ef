//! Links: who may speak, results until acknowledged, broadcasts.

use greenroom_core::{InstanceId, RoomId};
use greenroom_wire::link::{MeshMessage, MeshSend, MeshTold, Relay, Status, Successor, ToServer};
use greenroom_wire::rooms::{EndReason, RoomEnded, RoomReport};

use super::*;

fn ended(room: &str) -> RoomEnded {
    let room: RoomId = room.parse().unwrap();
    RoomEnded {
        room: room.into(),
        epoch: 1,
        reason: EndReason::Finished,
        result: serde_json::json!({"won": 3}),
    }
}

fn relay(packet: &str) -> Relay {
    Relay {
        namespace: "/".to_owned(),
        groups: Vec::new(),
        except: Vec::new(),
        packet: packet.to_owned(),
        attachments: Vec::new(),
    }
}

fn closed(effects: Vec<(u64, Effect)>) -> Vec<(u64, String)> {
    let closed = effects.into_iter().filter_map(|(_, effect)| match effect {
        Effect::CloseLink { link, why } => Some((link.0, why)),
        _ => None,
    });
    closed.collect()
}

#[test]
fn a_link_is_accepted_only_from_the_process_that_was_given_the_secret() {
    let cases = [
        (1, "arena-1.0", "secret-1", None),
        (1, "arena-1.0", "secret-2", Some("the link secret for instance arena-1.0 is wrong")),
        (1, "arena-1.1", "secret-1", Some("instance arena-1.1 does not run here")),
        (2, "arena-1.0", "secret-1", Some("it speaks link version 2, this agent speaks 1")),
    ];
    for (version, of, secret, refused) in cases {
        let mut bench = Bench::welcomed();
        bench.ready("arena-1");
        bench.take();
        let hello = FromServer::Hello { version, instance: instance(of).into(), secret: secret.to_owned() };
        bench.link(1, hello);
        bench.link(1, FromServer::Status(Status { connections: 7, rooms: Vec::new(), ..Status::default() }));
        let told = closed(bench.take()).pop().map(|(_, why)| why);
        assert_eq!(told.as_deref(), refused);
        bench.phase("arena-1");
        let connections = bench.told("arena-1").unwrap().connections;
        assert_eq!(connections, if refused.is_none() { 7 } else { 0 }, "{refused:?}");
    }
}

#[test]
fn a_new_link_of_the_same_process_replaces_the_old_one() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.linked(1, "arena-1.0", "secret-1");
    bench.linked(2, "arena-1.0", "secret-1");
    assert_eq!(closed(bench.take()), [(1, "instance arena-1.0 has linked anew".to_owned())]);
    bench.link(1, FromServer::Status(Status { connections: 1, rooms: Vec::new(), ..Status::default() }));
    bench.link(2, FromServer::Status(Status { connections: 2, rooms: Vec::new(), ..Status::default() }));
    bench.event(Event::LinkLost { link: LinkId(1) });
    bench.phase("arena-1");
    assert_eq!(bench.told("arena-1").unwrap().connections, 2);
}

#[test]
fn rooms_are_reported_as_told_and_gone_with_their_process() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.linked(1, "arena-1.0", "secret-1");
    let room: RoomId = "room-1".parse().unwrap();
    let rooms = vec![RoomReport { room: room.into(), epoch: 1, key: None, seats: Vec::new(), kept: false }];
    bench.link(1, FromServer::Status(Status { connections: 4, rooms: rooms.clone(), ..Status::default() }));
    bench.phase("arena-1");
    assert_eq!(bench.told("arena-1").unwrap().rooms, rooms);
    bench.event(Event::LinkLost { link: LinkId(1) });
    bench.phase("arena-1");
    assert_eq!(bench.told("arena-1").unwrap().rooms, rooms, "a lost link says nothing of rooms");
    bench.exited("arena-1", "arena-1.0", Exit::Code(1));
    bench.phase("arena-1");
    assert!(bench.told("arena-1").unwrap().rooms.is_empty());
}

#[test]
fn a_process_that_awaits_rooms_is_not_taken_to_have_told_of_them() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.linked(1, "arena-1.0", "secret-1");
    for (awaits_rooms, linked) in [(true, false), (false, true)] {
        bench.link(1, FromServer::Status(Status { connections: 4, awaits_rooms, ..Status::default() }));
        bench.phase("arena-1");
        let told = bench.told("arena-1").unwrap();
        assert_eq!((told.linked, told.connections), (linked, 4));
    }
}

#[test]
fn that_rooms_outlive_a_process_is_told_until_the_next_one_has_spoken() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.linked(1, "arena-1.0", "secret-1");
    let status = |keeps_rooms| FromServer::Status(Status { keeps_rooms, ..Status::default() });
    bench.link(1, status(true));
    bench.exited("arena-1", "arena-1.0", Exit::Code(1));
    bench.phase("arena-1");
    let told = bench.told("arena-1").unwrap();
    assert_eq!((told.linked, told.keeps_rooms), (false, true));
    bench.pass(1_000);
    bench.ready("arena-1");
    bench.linked(2, "arena-1.1", "secret-1");
    bench.link(2, status(false));
    bench.phase("arena-1");
    assert!(!bench.told("arena-1").unwrap().keeps_rooms);
}

#[test]
fn a_host_with_many_rooms_tells_changes_less_often() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.linked(1, "arena-1.0", "secret-1");
    let room = |nth: u32| {
        let room: RoomId = format!("room-{nth}").parse().unwrap();
        RoomReport { room: room.into(), epoch: 1, key: None, seats: Vec::new(), kept: false }
    };
    let rooms: Vec<_> = (0..1_000).map(room).collect();
    bench.pass(1_000);
    bench.report_times();
    for connections in 0..20 {
        bench.link(1, FromServer::Status(Status { connections, rooms: rooms.clone(), ..Status::default() }));
        bench.pass(50);
    }
    let times = bench.report_times();
    assert!((4..=6).contains(&times.len()), "a thousand rooms, five times a second: {times:?}");
    assert!(times.windows(2).skip(1).all(|pair| pair[1] - pair[0] >= 200), "{times:?}");
}

#[test]
fn a_result_is_repeated_until_it_is_acknowledged() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.linked(1, "arena-1.0", "secret-1");
    bench.take();
    let told = |bench: &mut Bench| {
        let told = bench.take().into_iter().filter(|(_, effect)| {
            matches!(effect, Effect::Tell(told) if matches!(**told, FromAgent::RoomEnded { .. }))
        });
        told.map(|(at, _)| at).collect::<Vec<u64>>()
    };
    bench.supervisor.take_journal();
    bench.link(1, FromServer::RoomEnded(ended("room-1")));
    let journal = bench.supervisor.take_journal().expect("it is written before it is told");
    assert_eq!(journal.room_ended.len(), 1);
    bench.link(1, FromServer::RoomEnded(ended("room-1")));
    assert_eq!(told(&mut bench).len(), 1, "a repetition by the server is not passed on");
    bench.event(Event::ControlLost);
    bench.pass(10_000);
    assert_eq!(told(&mut bench).len(), 0);
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    bench.pass(3_000);
    assert_eq!(told(&mut bench), [10_000, 12_000], "at once, then every 2 s");
    let room: RoomId = "room-1".parse().unwrap();
    bench.control(ToAgent::RoomEndedAck { room: room.clone().into(), epoch: 1 });
    let ack = ToServer::RoomEndedAck { room: room.into(), epoch: 1 };
    let passed_on = bench
        .take()
        .into_iter()
        .any(|(_, effect)| effect == Effect::TellServer { link: LinkId(1), message: ack.clone() });
    assert!(passed_on, "the server may forget it too");
    bench.pass(10_000);
    assert_eq!(told(&mut bench).len(), 0);
    assert!(bench.supervisor.take_journal().unwrap().room_ended.is_empty());
}

#[test]
fn the_last_words_of_a_dying_process_are_heard() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.linked(1, "arena-1.0", "secret-1");
    bench.exited("arena-1", "arena-1.0", Exit::Code(0));
    bench.take();
    bench.link(1, FromServer::RoomEnded(ended("room-1")));
    let effects = bench.take();
    let [(_, Effect::Tell(told))] = &effects[..] else { panic!("{effects:?}") };
    let FromAgent::RoomEnded { instance, .. } = &**told else { panic!("{told:?}") };
    assert_eq!(instance.as_str(), "arena-1.0");
}

#[test]
fn a_broadcast_reaches_the_other_servers_of_its_fleet() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.ready("arena-2");
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("board-1", "board")) });
    bench.started("board-1", "board-1.0");
    for (link, of, secret) in
        [(1, "arena-1.0", "secret-1"), (2, "arena-2.0", "secret-2"), (3, "board-1.0", "secret-3")]
    {
        bench.linked(link, of, secret);
    }
    bench.take();
    bench.link(1, FromServer::Publish(relay("2[\"line\"]")));
    bench.link(3, FromServer::Publish(relay("2[\"alone\"]")));
    let delivered = Effect::Deliver { links: vec![LinkId(2)], relay: relay("2[\"line\"]") };
    assert_eq!(bench.take(), [(0, delivered)]);
}

#[test]
fn a_word_of_the_mesh_reaches_peers_and_who_asks_is_told_whom_to_wait_for() {
    let mut bench = Bench::welcomed();
    for server in ["arena-1", "arena-2", "arena-3"] {
        bench.ready(server);
    }
    for (link, of, secret) in
        [(1, "arena-1.0", "secret-1"), (2, "arena-2.0", "secret-2"), (3, "arena-3.0", "secret-3")]
    {
        bench.linked(link, of, secret);
    }
    bench.take();
    let instance = |name: &str| name.parse::<InstanceId>().unwrap().into();
    let message = MeshMessage::Sockets { sockets: vec![] };
    let told = |link: u64, from: &str| {
        let told = MeshTold { from: instance(from), ask: Some(7), message: message.clone() };
        (0, Effect::TellServer { link: LinkId(link), message: ToServer::Mesh(told) })
    };
    bench.link(1, FromServer::Mesh(MeshSend { to: None, ask: Some(7), message: message.clone() }));
    let peers = vec![instance("arena-2.0"), instance("arena-3.0")];
    let asked = Effect::TellServer { link: LinkId(1), message: ToServer::MeshAsked { ask: 7, peers } };
    assert_eq!(bench.take(), [(0, asked), told(2, "arena-1.0"), told(3, "arena-1.0")]);
    let to = Some(instance("arena-1.0"));
    bench.link(3, FromServer::Mesh(MeshSend { to, ask: Some(7), message: message.clone() }));
    assert_eq!(bench.take(), [told(1, "arena-3.0")]);
}

#[test]
fn keys_reach_every_linked_server_once() {
    let keys = |kid: &str| {
        let key = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": ""});
        serde_json::from_value::<PublicKeys>(serde_json::json!({"keys": [key]})).unwrap()
    };
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.linked(1, "arena-1.0", "secret-1");
    bench.take();
    bench.control(ToAgent::Keys { keys: keys("k2") });
    bench.control(ToAgent::Keys { keys: keys("k2") });
    let message = ToServer::Keys { keys: keys("k2") };
    assert_eq!(bench.take(), [(0, Effect::TellServer { link: LinkId(1), message })]);
    // A server that links to the next agent before control is back gets the same keys.
    let journal = bench.supervisor.take_journal().unwrap();
    let mut bench = Bench::from_journal(journal, bench.now);
    bench.take();
    bench.linked(1, "arena-1.0", "secret-1");
    let message = ToServer::Welcome { version: 1, keys: keys("k2") };
    assert_eq!(bench.take(), [(0, Effect::TellServer { link: LinkId(1), message })]);
}

/// What a process is told that asks what comes after it.
fn successor(bench: &mut Bench) -> Successor {
    bench.take();
    bench.link(1, FromServer::Ending);
    let told = bench.take().into_iter().find_map(|(_, effect)| match effect {
        Effect::TellServer { message: ToServer::Ending { successor }, .. } => Some(successor),
        _ => None,
    });
    told.expect("an answer")
}

#[test]
fn a_process_that_ends_is_told_whether_another_one_comes() {
    let restart = |bench: &mut Bench| {
        let server = name("arena-1").into();
        bench.control(ToAgent::Restart { term: 5, server, reason: "somebody asked for it".to_owned() });
    };
    let stop = |bench: &mut Bench| {
        let server = name("arena-1").into();
        bench.control(ToAgent::Stop { term: 5, server, reason: "idle".to_owned() });
    };
    type Told = fn(&mut Bench);
    let cases: [(&str, Told, Successor); 5] = [
        ("somebody signalled it", |_| {}, Successor::Process),
        ("it is restarted", restart, Successor::Process),
        ("it is stopped", stop, Successor::Nobody),
        ("its agent stops", |bench| bench.event(Event::StopAll), Successor::Nobody),
        (
            "it is restarted, and its agent stops",
            |bench| {
                let server = name("arena-1").into();
                bench.control(ToAgent::Restart { term: 5, server, reason: String::new() });
                bench.event(Event::StopAll);
            },
            Successor::Nobody,
        ),
    ];
    for (case, told, expected) in cases {
        let mut bench = Bench::welcomed();
        bench.ready("arena-1");
        bench.linked(1, "arena-1.0", "secret-1");
        bench.link(1, FromServer::Status(Status::default()));
        told(&mut bench);
        assert_eq!(successor(&mut bench), expected, "{case}");
    }
}

#[test]
fn a_process_whose_death_will_be_the_last_one_is_told_that_nobody_comes() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    for death in 0..5 {
        bench.exited("arena-1", &format!("arena-1.{death}"), Exit::Code(1));
        bench.pass(5_000);
        bench.started("arena-1", &format!("arena-1.{}", death + 1));
    }
    bench.linked(1, "arena-1.5", "secret-1");
    assert_eq!(successor(&mut bench), Successor::Nobody);
    bench.pass(60_000);
    assert_eq!(successor(&mut bench), Successor::Process, "those are long ago");
}
