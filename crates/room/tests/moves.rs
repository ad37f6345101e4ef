//! The law of rooms: one that was frozen and thawed at random ticks is, byte for byte, the one that never
//! moved. And what thawing refuses.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

mod sandbox;

use std::time::Duration;

use greenroom_room::{HostedRoom, Player, RestoreError, Rng, RoomHost, RoomKind, Seat, Why};
use proptest::prelude::*;
use sandbox::{In, Sandbox};

const TICKS: u32 = 3000;
/// How long sessions are kept.
const SESSION: Duration = Duration::from_secs(3);

/// One tick's worth of random calls: the draws do not depend on how the room answers.
fn disturb(room: &mut dyn HostedRoom, calls: &mut Rng) {
    for _ in 0..calls.below(4) {
        let seat = Seat(calls.below(4) as u16);
        let id = ["ann", "bob", "hasty", "patient", "mallory"][calls.below(5) as usize];
        let (a, b) = (calls.between(-3, 3), calls.between(0, 99));
        let input = match calls.below(20) {
            0..6 => In::Step { dx: a, dy: b % 3 - 1 },
            6..9 => In::Paint(calls.bits()),
            9..12 => In::Fuse { ticks: calls.bits() % 90 },
            12..14 => In::Defuse,
            14 => In::Quit,
            15 => In::Kick(Seat(calls.below(5) as u16)),
            16 if b == 0 => In::Finish,
            _ => In::Step { dx: b % 2, dy: a },
        };
        // Refusals are part of the run: both rooms must refuse the same.
        match calls.below(12) {
            0 | 1 => drop(room.join(seat, Player::new(id))),
            2 => drop(room.drop_seat(seat, SESSION)),
            3 => drop(room.resume(seat)),
            4 if b < 30 => drop(room.leave(seat, Why::Left)),
            _ => {
                let (event, argument) = greenroom_room::encode(&input).unwrap();
                drop(room.handle(seat, &event, argument.as_deref()));
            }
        }
    }
}

/// Plays the whole run, moving the room `moves_in_1000` of the ticks, in the middle of a tick's calls.
fn play(seed: u64, moves_in_1000: u32) -> (Vec<u8>, Vec<String>) {
    let kind = RoomKind::of::<Sandbox>();
    let mut room = kind.create(r#"{"cells":20}"#, seed, 4).unwrap();
    let mut calls = Rng::seeded(seed ^ 1);
    let mut moves = Rng::seeded(seed ^ 2);
    let mut seen = Vec::new();
    for _ in 0..TICKS {
        disturb(room.as_mut(), &mut calls);
        if moves.below(1000) < moves_in_1000 {
            let frozen = room.snapshot().unwrap();
            room = kind.restore(&frozen).unwrap();
            assert_eq!(room.snapshot().unwrap(), frozen, "a thawed room freezes to the same bytes");
        }
        disturb(room.as_mut(), &mut calls);
        room.tick();
        seen.extend(room.take_outputs().iter().map(|output| format!("{output:?}")));
    }
    (room.snapshot().unwrap(), seen)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_room_that_moved_is_the_room_that_never_moved(seed: u64) {
        println!("seed {seed}");
        let (stayed, stayed_seen) = play(seed, 0);
        let (moved, moved_seen) = play(seed, 20);
        prop_assert_eq!(stayed_seen, moved_seen, "outputs differ, seed {}", seed);
        prop_assert!(stayed == moved, "snapshots differ, seed {}", seed);
    }

    #[test]
    fn damaged_bytes_are_refused_or_thawed_but_never_panic(seed: u64, cut in 0..400_usize, flip: u8) {
        println!("seed {seed}");
        let mut bytes = RoomHost::<Sandbox>::create("", seed, 4).unwrap().snapshot().unwrap();
        bytes.truncate(cut);
        if let Some(byte) = bytes.get_mut(cut / 2) {
            *byte ^= flip;
        }
        drop(RoomHost::<Sandbox>::restore(&bytes));
    }
}

#[test]
fn a_run_reaches_the_states_that_the_law_is_about() {
    let (_, seen) = play(7, 20);
    for what in ["welcome", "boom", "gone", "Kicked", "GraceOver", "Why::Left", "Finished"] {
        let what = what.trim_start_matches("Why::");
        assert!(seen.iter().any(|output| output.contains(what)), "{what} never happened");
    }
}

#[test]
fn foreign_bytes_are_refused_with_the_reason() {
    let good = RoomHost::<Sandbox>::create("", 1, 4).unwrap().snapshot().unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let cases = [
        (Vec::new(), "these 0 bytes are not a room snapshot"),
        (good[..9].to_vec(), "these 9 bytes are not a room snapshot"),
        (with(0, b'X'), "bytes are not a room snapshot"),
        (with(4, 2), "snapshot format 2 cannot be read, only 1"),
        (with(5, 9), "this snapshot is of version 9 of sandbox, this program has version 1"),
        (with(10, b'S'), "this is a snapshot of a \"Sandbox\" room, not of sandbox"),
        (good[..good.len() - 1].to_vec(), "the state of this sandbox room cannot be read"),
    ];
    for (bytes, message) in cases {
        let Err(error) = RoomHost::<Sandbox>::restore(&bytes) else { panic!("accepted: {message}") };
        assert!(error.to_string().contains(message), "{error}");
    }
    assert!(matches!(RoomHost::<Sandbox>::restore(b"nothing"), Err(RestoreError::NotASnapshot { bytes: 7 })));
}

/// The stored format, byte for byte. A change here needs a new format number and a reader for the old one.
#[test]
fn snapshot_format_1_is_golden() {
    let mut host = RoomHost::<Sandbox>::create("", 1, 1).unwrap();
    host.join(Seat(0), Player::new("ann")).unwrap();
    host.handle(Seat(0), "paint", Some("7")).unwrap();
    let bytes = host.snapshot().unwrap();
    assert_eq!(bytes, std::fs::read("tests/golden/sandbox-format-1.bin").unwrap());
}
