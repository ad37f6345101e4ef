//! What people outside are told of a world, and that the next leader tells none of it again.

use std::time::Duration;

use greenroom_core::fleet::Fleet;
use greenroom_wire::api::{DrainKind, DrainRequest, FreezeWord, ScaleRequest};
use greenroom_wire::record::NewsEvent;

use super::rig::{Rig, mesh_fleet, request, room_fleet, text};
use crate::world::{Actor, Bounds, Call, Event, NewsConfig, Posted, Subscription};
use greenroom_wire::agent::FromAgent;

fn watched(fleets: Vec<Fleet>, digest_every: Option<Duration>) -> Rig {
    let mut rig = Rig::new(fleets, Bounds::default());
    let events = NewsEvent::CHOICES.into_iter().collect();
    let wants = Subscription { name: "ops".to_owned(), events, digest_every, per_minute_max: 60 };
    rig.config.news = NewsConfig { begun: "replica a leads".to_owned(), readers: vec![wants] };
    rig.restart();
    rig.connect();
    rig
}

/// All that is told until nothing more comes, without times; each message is taken.
fn told(rig: &mut Rig) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..40 {
        rig.run_ms(100);
        for (reader, _, text) in std::mem::take(&mut rig.posts) {
            lines.extend(text.lines().map(|line| match line.split_once("Z ") {
                Some((time, rest)) if time.len() == 8 => rest.to_owned(),
                _ => line.to_owned(),
            }));
            rig.event(Event::NewsPosted { reader, outcome: Posted::Taken });
        }
    }
    lines
}

/// With the names of servers and rooms left out, which are random.
fn plain(lines: &[String]) -> Vec<String> {
    let words = |line: &String| {
        let named = line.split(' ').map(|word| {
            let bare = word.trim_matches(['(', ')', ',', ':', ';']);
            let is_name = bare.starts_with("arena-") || bare.starts_with("r-") || bare.starts_with("feed-");
            if is_name { word.replace(bare, "X") } else { word.to_owned() }
        });
        named.collect::<Vec<_>>().join(" ")
    };
    lines.iter().map(words).collect()
}

#[test]
fn people_hear_of_what_is_lost_stopped_and_ordered() {
    let mut rig = watched(vec![room_fleet("arena", (2, 6), 1, 2)], None);
    assert_eq!(
        plain(&told(&mut rig)),
        [
            "replica a leads (term 2)",
            "host h1 has joined",
            "fleet arena scaled from 0 to 2: 2 instead of 0; the minimum",
        ]
    );
    let grant = rig.allocate(request(None, &["a"])).unwrap();
    rig.seat(&grant, &[(0, "a")]);
    let server = grant.server.0.clone();
    rig.servers.get_mut(&server).unwrap().report.message = "exit code 1".to_owned();
    rig.kill(&server);
    assert_eq!(
        plain(&told(&mut rig)),
        [
            "room X lost: gameserver X died (fleet arena)",
            "gameserver X died and is started again: exit code 1; somebody was on it"
        ]
    );
}

#[test]
fn silent_hosts_are_told_once_and_the_next_leader_tells_nothing_again() {
    let mut rig = watched(vec![mesh_fleet("feed", (1, 1))], None);
    told(&mut rig);
    rig.silent_ms(4_000);
    rig.silent_ms(3_000);
    let (_, _, text) = rig.posts.pop().expect("a message");
    assert!(text.ends_with("host h1 is silent"), "{text}");
    // The leader dies before it knows that its message was taken: the next one sends the same.
    rig.restart();
    rig.silent_ms(100);
    let (reader, key, again) = rig.posts.pop().expect("the same message");
    assert_eq!((again, key.as_str()), (text, "ops.4-4"));
    rig.event(Event::NewsPosted { reader, outcome: Posted::Taken });
    rig.silent_ms(8_000);
    let (reader, _, text) = rig.posts.pop().expect("a message");
    assert!(text.ends_with("replica a leads (term 3)") && text.lines().count() == 1, "{text}");
    rig.event(Event::NewsPosted { reader, outcome: Posted::Taken });
    rig.connect();
    assert_eq!(plain(&told(&mut rig)), ["host h1 is back with 0 gameservers"]);
    rig.silent_ms(302_000);
    let all: String = rig.posts.drain(..).map(|(_, _, text)| text).collect();
    assert!(all.contains("host h1 is silent"), "{all}");
    rig.event(Event::NewsPosted { reader: "ops".to_owned(), outcome: Posted::Taken });
    let lost = plain(&told(&mut rig));
    assert!(lost.contains(&"host h1 lost: silent for too long".to_owned()), "{lost:?}");
    rig.connect();
    assert!(plain(&told(&mut rig)).contains(&"host h1 has joined".to_owned()));
}

#[test]
fn a_fleet_that_stays_short_is_told_with_the_reason_and_once() {
    let mut fleet = room_fleet("arena", (2, 6), 1, 2);
    fleet.start_timeout = Duration::from_secs(10);
    let mut rig = watched(vec![fleet], None);
    told(&mut rig);
    rig.agent_obeys = false;
    let gone = rig.servers_of("arena").remove(0);
    rig.say(FromAgent::Refused { server: gone.clone().into(), message: "it is in use".to_owned() });
    assert_eq!(plain(&told(&mut rig)), Vec::<String>::new(), "that was no start");
    rig.servers.remove(&gone);
    assert_eq!(plain(&told(&mut rig)), ["gameserver X is gone: its agent no longer knows it"]);
    let ordered = rig.orders.iter().rev().find_map(|order| match order {
        greenroom_wire::agent::ToAgent::Start { order, .. } => Some(order.server.clone()),
        _ => None,
    });
    rig.say(FromAgent::Refused { server: ordered.expect("a start"), message: "no port is free".to_owned() });
    let lines = plain(&told(&mut rig));
    assert_eq!(lines, ["starts of fleet arena are refused by an agent: no port is free"]);
    rig.run_ms(8_000);
    rig.restart();
    rig.connect();
    rig.run_ms(11_000);
    // Told by the leader before, which dies without knowing that it was: the same is sent once more.
    let short: Vec<String> = rig.posts.drain(..).map(|(_, _, text)| text).collect();
    assert!(short[0].contains("fleet arena is short: 1 of 2 gameservers answer"), "{short:?}");
    assert!(short[0].contains("was refused by its agent: no port is free"), "{short:?}");
    assert!(short.len() == 2 && short[0] == short[1], "{short:?}");
    rig.event(Event::NewsPosted { reader: "ops".to_owned(), outcome: Posted::Taken });
    let stops =
        "2 gameservers of fleet arena told to stop: did not answer within its fleet's start_timeout (X, X)";
    assert_eq!(plain(&told(&mut rig)), [stops, "replica a leads (term 3)"]);
    assert_eq!(told(&mut rig), [] as [&str; 0], "it was told");
    rig.agent_obeys = true;
    let whole = (0..5).flat_map(|_| told(&mut rig)).collect::<Vec<_>>().join("\n");
    assert!(whole.contains("fleet arena is whole again: 2 of 2 gameservers answer"), "{whole}");
    assert!(whole.contains("gameservers of fleet arena start again"), "{whole}");
}

#[test]
fn orders_of_people_scaling_and_stops_are_told_with_who_and_why() {
    let mut fleet = room_fleet("arena", (0, 6), 1, 2);
    fleet.autoscale.cooldown_in = Duration::ZERO;
    fleet.autoscale.settle_in = Duration::ZERO;
    let mut rig = watched(vec![fleet], None);
    told(&mut rig);
    let by = || Actor::Token("alice".into());
    let body = ScaleRequest {
        replicas: Some(3),
        ready_at_ms: None,
        until_ms: Some(rig.now.unix_ms() + 5_000),
        freeze: Some(FreezeWord::Nothing),
    };
    rig.now_answered(Call::Scale { fleet: text("arena"), body, by: by() }).unwrap();
    let lines = plain(&told(&mut rig));
    assert_eq!(lines[0], "fleet arena: at least 3 gameservers ordered, nothing is frozen, by token alice");
    assert!(lines[1].starts_with("fleet arena scaled from 0 to 3: "), "{lines:?}");
    rig.run_ms(10_000);
    let lines = plain(&told(&mut rig));
    assert!(
        lines.iter().any(|line| line.starts_with("3 gameservers of fleet arena told to stop: surplus")),
        "{lines:?}"
    );
    let body = DrainRequest { reason: "new disks".to_owned(), ..DrainRequest::default() };
    rig.now_answered(Call::Drain { kind: DrainKind::Host, name: "h1".to_owned(), body, by: by() }).unwrap();
    assert_eq!(plain(&told(&mut rig)), ["host h1 drained by token alice: new disks"]);
}

#[test]
fn a_digest_comes_at_its_time_whoever_leads() {
    let every = Duration::from_mins(10);
    let mut rig = watched(vec![room_fleet("arena", (1, 1), 1, 2), mesh_fleet("feed", (1, 1))], Some(every));
    told(&mut rig);
    rig.allocate(request(None, &["a"])).unwrap();
    drop(rig.allocate(request(None, &["b"])));
    rig.run_ms(300_000);
    rig.posts.clear();
    rig.restart();
    rig.connect();
    told(&mut rig);
    for name in ["b", "c"] {
        drop(rig.allocate(request(None, &[name])));
    }
    let before = rig.now;
    let digest = loop {
        rig.run_ms(1_000);
        if let Some((reader, _, text)) = rig.posts.pop() {
            rig.event(Event::NewsPosted { reader, outcome: Posted::Taken });
            break text;
        }
        assert!(rig.now.since(before) < every, "no digest");
    };
    assert_eq!(
        digest.lines().collect::<Vec<_>>(),
        [
            "13:56:40Z digest: 2 fleets, 2 gameservers, 0 rooms, 1 of 1 hosts connected, 2 results not delivered",
            "fleet arena: 1 of 1 gameservers answer, 0 busy, 0 rooms, 0 players, 0 tickets wait; since 13:46:40Z: 1 started, 0 stopped, 0 died or vanished, 1 calls found no place (counted since 13:51:44Z)",
            "fleet feed: 1 of 1 gameservers answer, 0 busy, 0 rooms, 0 players, 0 tickets wait; since 13:46:40Z: 1 started, 0 stopped, 0 died or vanished, 0 calls found no place",
        ]
    );
    rig.run_ms(500_000);
    assert!(rig.posts.is_empty(), "{:?}", rig.posts);
    rig.run_ms(100_000);
    assert_eq!(rig.posts.len(), 1);
}
