//! Rooms in a Redis that loses them: their node is told, also where it says nothing.

use greenroom_backplane::conformance::Peer;
use greenroom_backplane::redis::connect;
use greenroom_core::InstanceId;
use greenroom_wire::Text;
use greenroom_wire::backplane::{Command, Position};
use greenroom_wire::kept::{KeptRoom, RoomCommand, RoomTold};

use crate::config::config_at;
use crate::store::Store;

const KEPT_MS: u64 = 120_000;
const KEY: &str = "{greenroom:1:rooms:arena}";

fn join(name: &str, port: u16) -> Peer {
    let node: InstanceId = name.parse().unwrap();
    Peer::new(node.clone(), connect(config_at(port, node)), "/", KEPT_MS)
}

fn hold(is_again: bool) -> Command {
    let server = "arena".parse().map(Text).unwrap();
    Command::Room(RoomCommand::Hold { server, is_again, kept_ms: KEPT_MS })
}

fn keep(room: &str, after: Option<u64>, seq: u64) -> Command {
    let record = Box::new(KeptRoom {
        room: room.parse().map(Text).unwrap(),
        epoch: 1,
        key: None,
        seq,
        snapshot: String::new(),
        history: Text(Position { epoch: 7, offset: 0, n: 0 }),
        sealed: false,
        seats: vec![],
        used: [].into(),
        ended: None,
    });
    let server = "arena".parse().map(Text).unwrap();
    Command::Room(RoomCommand::Keep { server, after, record, floor: 0, events: vec![] })
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
    let mut next = join("arena.2", port);
    next.until("being attached", |peer| peer.at.is_some()).await;
    next.say(hold(false));
    next.until("the end of its rooms", |peer| count(peer, &RoomTold::AllHeld) == 1).await;
    let held = next.rooms.iter().filter_map(|told| match told {
        RoomTold::Held { record, .. } => Some((record.room.to_string(), record.seq)),
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
    assert_eq!(store.ask(&["HGET", KEY, "n"]).as_deref(), Some("$1"));
}
