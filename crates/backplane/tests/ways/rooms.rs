//! Rooms in a Redis that loses them: their node is told, also where it says nothing.

use greenroom_backplane::conformance::Peer;
use greenroom_backplane::redis::connect;
use greenroom_core::InstanceId;
use greenroom_wire::Text;
use greenroom_wire::backplane::{Command, Position};
use greenroom_wire::kept::{KeptRoom, Receivers, RoomCommand, RoomEvent, RoomTold};

use crate::config::config_at;
use crate::store::Store;

const KEPT_MS: u64 = 120_000;
const KEY: &str = "{greenroom:1:rooms:arena}";

fn join(name: &str, port: u16) -> Peer {
    let node: InstanceId = name.parse().unwrap();
    let mut config = config_at(port, node.clone());
    config.limits.rooms_max = 500;
    Peer::new(node, connect(config), "/", KEPT_MS)
}

fn hold(is_again: bool) -> Command {
    let server = "arena".parse().map(Text).unwrap();
    Command::Room(RoomCommand::Hold { server, is_again, kept_ms: KEPT_MS })
}

fn keep(room: &str, after: Option<u64>, seq: u64) -> Command {
    keep_with(room, after, seq, &[])
}

/// A step with events of these offsets.
fn keep_with(room: &str, after: Option<u64>, seq: u64, offsets: &[u64]) -> Command {
    let record = Box::new(KeptRoom {
        room: room.parse().map(Text).unwrap(),
        epoch: 1,
        key: None,
        seq,
        snapshot: String::new(),
        history: Text(Position { epoch: 7, offset: offsets.last().copied().unwrap_or_default(), n: 0 }),
        sealed: false,
        seats: vec![],
        used: [].into(),
        ended: None,
    });
    let server = "arena".parse().map(Text).unwrap();
    let event = |offset| RoomEvent { offset, at_ms: 1, to: Receivers::All, packet: "2[\"a\"]".to_owned() };
    let events = offsets.iter().copied().map(event).collect();
    Command::Room(RoomCommand::Keep { server, after, record, floor: 0, events })
}

fn count(peer: &Peer, told: &RoomTold) -> usize {
    peer.rooms.iter().filter(|other| *other == told).count()
}

fn kept(room: &str, seq: u64) -> RoomTold {
    RoomTold::Kept { room: room.parse().map(Text).unwrap(), seq }
}

/// A node with two rooms that are kept.
async fn holder(port: u16) -> Peer {
    let mut peer = join("arena.1", port);
    peer.until("being attached", |peer| peer.at.is_some()).await;
    peer.say(hold(false));
    peer.until("the end of its rooms", |peer| count(peer, &RoomTold::AllHeld) == 1).await;
    give(&mut peer, 1).await;
    peer
}

/// Gives both rooms as a whole, as a node does: once more on a new way.
async fn give(peer: &mut Peer, seq: u64) {
    let are_kept = |peer: &Peer| count(peer, &kept("r1", seq)) > 0 && count(peer, &kept("r2", seq)) > 0;
    while !are_kept(peer) {
        let ups = peer.ups;
        peer.say(hold(true));
        peer.say(keep("r1", None, seq));
        peer.say(keep("r2", None, seq));
        peer.until("being kept", |peer| are_kept(peer) || peer.ups > ups).await;
    }
}

/// The rooms that the next process finds.
async fn found(port: u16) -> Vec<(String, u64)> {
    let found = found_with_events(port).await.into_iter();
    let mut found: Vec<(String, u64)> = found.map(|(room, seq, _)| (room, seq)).collect();
    found.sort();
    found
}

/// The same, each with the offsets of its events, in the order of telling.
async fn found_with_events(port: u16) -> Vec<(String, u64, Vec<u64>)> {
    let mut next = join("arena.2", port);
    next.until("being attached", |peer| peer.at.is_some()).await;
    next.say(hold(false));
    next.until("the end of its rooms", |peer| count(peer, &RoomTold::AllHeld) == 1).await;
    let held = next.rooms.iter().filter_map(|told| match told {
        RoomTold::Held { record, events } => {
            let offsets = events.iter().map(|event| event.offset).collect();
            Some((record.room.to_string(), record.seq, offsets))
        }
        RoomTold::AllHeld
        | RoomTold::Anew
        | RoomTold::Kept { .. }
        | RoomTold::Wanted { .. }
        | RoomTold::TooMany { .. }
        | RoomTold::Lost => None,
    });
    held.collect()
}

#[tokio::test]
async fn emptied_it_asks_for_all_rooms_also_where_nothing_is_said() {
    let store = Store::start(&[]);
    let mut peer = holder(store.port).await;
    for seq in [10, 20] {
        let (asked, ups) = (count(&peer, &RoomTold::Anew), peer.ups);
        assert_eq!(store.ask(&["FLUSHALL"]).as_deref(), Some("+OK"));
        // The History may notice it first: then the way is opened anew, after which a node gives all rooms as well.
        peer.until("being asked", |peer| count(peer, &RoomTold::Anew) > asked || peer.ups > ups).await;
        give(&mut peer, seq).await;
    }
    assert_eq!(found(store.port).await, [("r1".to_owned(), 20), ("r2".to_owned(), 20)]);
}

#[tokio::test]
async fn emptied_under_steps_on_their_way_it_keeps_none_of_them_without_the_others() {
    let store = Store::start(&[]);
    let mut peer = holder(store.port).await;
    for seq in 2..200 {
        peer.say(keep("r1", Some(seq - 1), seq));
        if seq == 100 {
            assert_eq!(store.ask(&["FLUSHALL"]).as_deref(), Some("+OK"));
        }
    }
    peer.until("being asked", |peer| count(peer, &RoomTold::Anew) == 1 || peer.ups > 1).await;
    give(&mut peer, 300).await;
    assert_eq!(count(&peer, &RoomTold::Lost), 0);
    assert_eq!(found(store.port).await, [("r1".to_owned(), 300), ("r2".to_owned(), 300)]);
}

#[tokio::test]
async fn set_back_to_before_the_claim_it_asks_again_and_a_later_process_keeps_its_own() {
    let store = Store::start(&[]);
    let mut peer = holder(store.port).await;
    // As a replica would have it that knows of the process before alone.
    assert_eq!(store.ask(&["HSET", KEY, "holder", "arena.0"]).as_deref(), Some(":0"));
    peer.until("being asked", |peer| count(peer, &RoomTold::Anew) == 1).await;
    assert_eq!(store.ask(&["HSET", KEY, "holder", "arena.0"]).as_deref(), Some(":0"));
    peer.say(hold(true));
    give(&mut peer, 2).await;
    assert_eq!(count(&peer, &RoomTold::Lost), 0);
    assert_eq!(found(store.port).await.len(), 2);
    peer.say(hold(true));
    peer.until("its loss", |peer| count(peer, &RoomTold::Lost) > 0).await;
    assert_eq!(store.ask(&["HLEN", KEY]).as_deref(), Some(":7"), "a holder, and two rooms");
}

#[tokio::test]
async fn each_room_is_a_stream_that_outlives_the_claim_and_is_gone_with_its_room() {
    let store = Store::start(&[]);
    let mut peer = holder(store.port).await;
    peer.say(keep_with("r1", Some(1), 2, &[1, 2, 3]));
    peer.until("its step", |peer| count(peer, &kept("r1", 2)) == 1).await;
    let log = format!("{KEY}:r1");
    assert_eq!(store.ask(&["TYPE", &log]).as_deref(), Some("+stream"));
    assert_eq!(store.ask(&["XLEN", &log]).as_deref(), Some(":3"));
    let lasts = |key: &str| {
        let answer = store.ask(&["PTTL", key]).unwrap();
        answer.trim_start_matches(':').parse::<u64>().unwrap()
    };
    let of_log = lasts(&log);
    assert!(lasts(KEY) <= KEPT_MS && of_log > KEPT_MS && of_log <= 2 * KEPT_MS, "{of_log} ms");
    let (server, room) = ("arena".parse().map(Text).unwrap(), "r1".parse().map(Text).unwrap());
    peer.say(Command::Room(RoomCommand::Forget { server, room }));
    peer.say(keep("r2", Some(1), 2));
    peer.until("the step after it", |peer| count(peer, &kept("r2", 2)) == 1).await;
    assert_eq!(store.ask(&["EXISTS", &log]).as_deref(), Some(":0"));
    assert_eq!(found(store.port).await, [("r2".to_owned(), 2)]);
}

#[tokio::test]
async fn a_room_whose_events_the_store_let_go_of_goes_on_without_them() {
    let store = Store::start(&[]);
    let mut peer = holder(store.port).await;
    peer.say(keep_with("r1", Some(1), 2, &[1, 2]));
    peer.say(keep_with("r2", Some(1), 2, &[1, 2]));
    peer.until("both steps", |peer| count(peer, &kept("r2", 2)) == 1).await;
    assert_eq!(store.ask(&["XDEL", &format!("{KEY}:r1"), "2-0"]).as_deref(), Some(":1"));
    let mut found = found_with_events(store.port).await;
    found.sort();
    assert_eq!(found, [("r1".to_owned(), 2, vec![]), ("r2".to_owned(), 2, vec![1, 2])]);
}

#[tokio::test]
async fn however_many_rooms_there_are_each_is_told_once_before_the_end() {
    let store = Store::start(&[]);
    let mut peer = holder(store.port).await;
    for number in 3..=500 {
        peer.say(keep_with(&format!("r{number}"), None, 1, &[1]));
    }
    peer.until("all of them", |peer| count(peer, &kept("r500", 1)) == 1).await;
    let found = found_with_events(store.port).await;
    let names: std::collections::BTreeSet<_> = found.iter().map(|(room, ..)| room).collect();
    assert_eq!((found.len(), names.len()), (500, 500));
}
