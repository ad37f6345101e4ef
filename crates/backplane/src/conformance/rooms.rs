//! Laws of rooms that outlive their process.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_wire::Text;
use greenroom_wire::backplane::{Command, Position};
use greenroom_wire::kept::{KeptRoom, Receivers, RoomCommand, RoomEvent, RoomTold};

use super::{LONG_MS, Peer, Stand, WINDOW, WINDOW_MS, join};

/// A room whose state is the number of its step, and whose every step sends one event.
fn record(room: &str, seq: u64) -> Box<KeptRoom> {
    Box::new(KeptRoom {
        room: room.parse().map(Text).expect("tests name rooms well"),
        epoch: 1,
        key: None,
        seq,
        snapshot: format!("state after {seq}"),
        history: Text(Position { epoch: 7, offset: seq, n: 0 }),
        sealed: false,
        seats: vec![],
        used: [].into(),
        ended: None,
    })
}

fn event(offset: u64) -> RoomEvent {
    RoomEvent { offset, at_ms: 1, to: Receivers::All, packet: format!("2[\"step\",{offset}]") }
}

fn hold(server: &str, is_again: bool, kept_ms: u64) -> Command {
    let server = server.parse().map(Text).expect("tests name servers well");
    Command::Room(RoomCommand::Hold { server, is_again, kept_ms })
}

fn keep(server: &str, room: &str, after: Option<u64>, seq: u64, floor: u64) -> Command {
    let server = server.parse().map(Text).expect("tests name servers well");
    let first = after.map_or(floor + 1, |after| after + 1);
    let events = (first..=seq).map(event).collect();
    Command::Room(RoomCommand::Keep { server, after, record: record(room, seq), floor, events })
}

fn kept(peer: &Peer, room: &str) -> u64 {
    let steps = peer.rooms.iter().filter_map(|told| match told {
        RoomTold::Kept { room: of, seq } => (of.as_str() == room).then_some(*seq),
        RoomTold::Held { .. }
        | RoomTold::AllHeld
        | RoomTold::Anew
        | RoomTold::Wanted { .. }
        | RoomTold::TooMany { .. }
        | RoomTold::Lost => None,
    });
    steps.max().unwrap_or_default()
}

/// Takes the rooms of a server as the next process of it, and gives what it found: each room's step and its events.
async fn take(stand: &mut Stand<'_>, name: &str, server: &str, kept_ms: u64) -> (Peer, Vec<(u64, Vec<u64>)>) {
    let mut peer = join(stand, name, "/rooms", LONG_MS).await;
    peer.say(hold(server, false, kept_ms));
    peer.until("the end of its rooms", |peer| peer.rooms.contains(&RoomTold::AllHeld)).await;
    // Rooms are told in any order.
    let mut found = BTreeMap::new();
    for told in &peer.rooms {
        let RoomTold::Held { record, events } = told else { continue };
        assert_eq!(record.snapshot, format!("state after {}", record.seq), "the state of that very step");
        for event in events {
            assert_eq!(event.packet, format!("2[\"step\",{}]", event.offset));
        }
        assert_eq!(record.history.offset, record.seq);
        let offsets = events.iter().map(|event| event.offset).collect();
        assert_eq!(found.insert(&record.room.0, (record.seq, offsets)), None, "each room is told once");
    }
    let found = found.into_values().collect();
    (peer, found)
}

/// A step is kept whole, and what does not follow is asked for anew.
///
/// # Panics
/// If it does not hold; so for all laws.
pub async fn a_room_goes_from_process_to_process(stand: &mut Stand<'_>) {
    let (mut first, found) = take(stand, "goes-0.0", "goes", LONG_MS).await;
    assert_eq!(found, []);
    first.say(keep("goes", "r1", None, 1, 0));
    first.say(keep("goes", "r1", Some(1), 3, 0));
    first.say(keep("goes", "r1", Some(3), 6, 2));
    first.until("three steps", |peer| kept(peer, "r1") == 6).await;
    // One that follows what is not there.
    first.say(keep("goes", "r1", Some(9), 10, 2));
    first.say(keep("goes", "r2", Some(1), 2, 0));
    let is_wanted = |peer: &Peer, room: &str| {
        peer.rooms.iter().any(|told| matches!(told, RoomTold::Wanted { room: of } if of.as_str() == room))
    };
    first.until("being asked", |peer| is_wanted(peer, "r1") && is_wanted(peer, "r2")).await;
    first.say(keep("goes", "r2", None, 5, 2));
    first.until("all of it", |peer| kept(peer, "r2") == 5).await;

    let (mut second, found) = take(stand, "goes-1.0", "goes", LONG_MS).await;
    assert_eq!(found, [(6, vec![3, 4, 5, 6]), (5, vec![3, 4, 5])]);
    // The process before it has lost them, whatever it says.
    first.say(keep("goes", "r1", Some(6), 7, 2));
    first.until("its loss", |peer| peer.rooms.contains(&RoomTold::Lost)).await;
    first.rooms.clear();
    first.say(hold("goes", true, LONG_MS));
    first.until("its loss again", |peer| peer.rooms.contains(&RoomTold::Lost)).await;
    second.say(keep("goes", "r1", Some(6), 7, 2));
    second.until("its own step", |peer| kept(peer, "r1") == 7).await;
    // What was forgotten is gone, and what is given whole has nothing of before.
    let forget = |room: &str| {
        let (server, room) = ("goes".parse().map(Text), room.parse().map(Text));
        let named = "tests name things well";
        Command::Room(RoomCommand::Forget { server: server.expect(named), room: room.expect(named) })
    };
    second.say(forget("r2"));
    second.say(forget("r9"));
    second.say(keep("goes", "r1", None, 8, 7));
    second.until("the last step", |peer| kept(peer, "r1") == 8).await;
    let (_third, found) = take(stand, "goes-2.0", "goes", LONG_MS).await;
    assert_eq!(found, [(8, vec![8])]);
}

/// However a process ends, the next one finds a step that is whole, and none that was answered is missing.
pub async fn what_was_answered_survives_its_process(stand: &mut Stand<'_>) {
    let mut at = 0;
    let mut given = 0;
    for round in 0..8_u64 {
        let (mut peer, found) = take(stand, &format!("dies-{round}.0"), "dies", LONG_MS).await;
        if round > 0 {
            let [(seq, events)] = &found[..] else { panic!("one room, not {found:?}") };
            assert!((at..=given).contains(seq), "{seq} is one of the steps from {at} to {given}");
            assert_eq!(*events, (1..=*seq).collect::<Vec<_>>(), "state and events fit together");
            given = *seq;
        }
        let until = given + 40 + round;
        for seq in given + 1..=until {
            peer.say(keep("dies", "r", (seq > 1).then(|| seq - 1), seq, 0));
        }
        let heard = given + round * 6;
        peer.until("some answers", |peer| kept(peer, "r") >= heard).await;
        (at, given) = (kept(&peer, "r").max(given), until);
        // Gone at once, with answers on their way.
        drop(peer);
    }
}

/// Rooms are bounded, and those that nobody comes for are let go.
pub async fn rooms_are_kept_for_a_time(stand: &mut Stand<'_>) {
    let (mut peer, _) = take(stand, "time-0.0", "time", WINDOW_MS).await;
    for room in ["r1", "r2", "r3"] {
        peer.say(keep("time", room, None, 1, 0));
    }
    let is_refused = |told: &RoomTold| matches!(told, RoomTold::TooMany { room } if room.as_str() == "r3");
    peer.until("a word on the third", |peer| peer.rooms.iter().any(is_refused)).await;
    assert_eq!((kept(&peer, "r1"), kept(&peer, "r2"), kept(&peer, "r3")), (1, 1, 0));
    // One that is held does not run out.
    let until = std::time::Instant::now() + WINDOW * 2;
    while std::time::Instant::now() < until {
        peer.catch_up();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (peer, found) = take(stand, "time-1.0", "time", WINDOW_MS).await;
    assert_eq!(found.len(), 2);
    drop(peer);
    let deadline = std::time::Instant::now() + WINDOW * 4 + stand.gone_within * 2;
    for process in 2.. {
        // Each look keeps them for longer, so that it comes after the time.
        tokio::time::sleep(WINDOW + stand.gone_within + Duration::from_millis(500)).await;
        let (_, found) = take(stand, &format!("time-{process}.0"), "time", WINDOW_MS).await;
        if found.is_empty() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "still there: {found:?}");
    }
}
