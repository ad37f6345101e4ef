//! Owns the proof that each fault is named, and that nothing else is.
//! Never runs a player.

use super::*;
use crate::{
    fact::{Parting, SessionBack},
    flow::{SessionWanted, SocketName},
    scenario::SequenceCheck,
};

/// A ledger of four players, `p0` to `p3` for short, in matches of `group_players`.
fn ledger(group_players: u16) -> Ledger {
    let config =
        crate::SwarmConfig { players: 4, match_players: group_players, seed: 1, ..Default::default() };
    Ledger::new(&config.scenario(), 0..4)
}

fn told(ledger: &Ledger, coverage: Coverage) -> Vec<String> {
    let (violations, total) = ledger.judge(coverage);
    assert_eq!(violations.len() as u64, total);
    violations.iter().map(|violation| violation.to_string().replace("swarm-1-", "p")).collect()
}

/// Player, room, endpoint, seat.
type Placed = (u32, &'static str, &'static str, u16);

fn judge(placed: &[Placed], coverage: Coverage) -> Vec<String> {
    let mut ledger = ledger(2);
    for (player, room, endpoint, seat) in placed {
        let seat = Seat { room: (*room).into(), endpoint: (*endpoint).into(), seat: *seat };
        ledger.record(PlayerIndex(*player), &Fact::Assigned(seat));
        ledger.record(PlayerIndex(*player), &Fact::Playing);
        ledger.record(PlayerIndex(*player), &Fact::Finished);
    }
    told(&ledger, coverage)
}

#[test]
fn misplaced_doubled_and_short_matches_are_named() {
    let good: [Placed; 4] = [(0, "r", "a:1", 0), (1, "r", "a:1", 1), (2, "s", "b:1", 0), (3, "s", "b:1", 1)];
    let with = |at: usize, placed: Placed| {
        let mut all = good.to_vec();
        all[at] = placed;
        all
    };
    let again = [good.as_slice(), &[(0, "s", "b:1", 2)]].concat();
    let cases: [(&str, Vec<Placed>, &[&str]); 6] = [
        ("good", good.to_vec(), &[]),
        ("misplaced", with(1, (1, "r", "b:1", 1)), &["room r is on several servers: a:1, b:1"]),
        ("seat doubled", with(3, (3, "s", "b:1", 0)), &["room s gave seat 0 to p2 and p3"]),
        (
            "short and long",
            with(1, (1, "s", "b:1", 2)),
            &["room r has 1 players instead of 2: p0", "room s has 3 players instead of 2: p1, p2, p3"],
        ),
        (
            "assigned again",
            again,
            &[
                "p0 was assigned again: to room s after room r",
                "room s has 3 players instead of 2: p0, p2, p3",
            ],
        ),
        ("left out", good[..3].to_vec(), &["room s has 1 players instead of 2: p2", "p3 was never assigned"]),
    ];
    for (name, placed, expected) in cases {
        assert_eq!(judge(&placed, Coverage::Whole), expected, "{name}");
    }
}

#[test]
fn a_run_that_was_stopped_is_not_blamed_for_what_had_not_happened_yet() {
    assert_eq!(judge(&[(0, "r", "a:1", 0)], Coverage::Cut), [""; 0]);
    assert_eq!(
        judge(&[(0, "r", "a:1", 0), (1, "r", "a:1", 0)], Coverage::Cut),
        ["room r gave seat 0 to p0 and p1"]
    );
}

#[test]
fn a_fault_is_told_once_with_its_code() {
    let cases = [
        (
            Fact::Refused { socket: SocketName::Game, code: "token_expired".into() },
            "p0 was refused by the game server: token_expired",
        ),
        (
            Fact::Lost { socket: SocketName::Lobby, during: "playing", reason: "end of stream".into() },
            "p0 lost the lobby connection while playing: end of stream",
        ),
        (
            Fact::Failed { during: "waiting for a match", reason: "not done within 60s".into() },
            "p0 failed while waiting for a match: not done within 60s",
        ),
    ];
    for (fact, expected) in cases {
        let mut ledger = ledger(1);
        ledger.record(PlayerIndex(0), &fact);
        assert_eq!(told(&ledger, Coverage::Whole)[0], expected);
    }
}

#[test]
fn who_was_assigned_and_did_not_play_is_named() {
    let mut ledger = ledger(1);
    let seat = Seat { room: "r".into(), endpoint: "a:1".into(), seat: 0 };
    ledger.record(PlayerIndex(0), &Fact::Assigned(seat));
    assert_eq!(told(&ledger, Coverage::Whole)[0], "p0 was assigned and never played");
    assert_eq!(told(&ledger, Coverage::Cut), [""; 0]);
}

/// A ledger of two rooms of two who talk in numbered events.
fn talking(seats: Seats) -> Ledger {
    let mut scenario =
        crate::SwarmConfig { players: 4, match_players: 2, seed: 1, ..Default::default() }.scenario();
    scenario.checks.sequence = Some(SequenceCheck {
        socket: SocketName::Game,
        event: "line".into(),
        sender: None,
        number: None,
        scope: Scope::Group,
        whole: true,
    });
    let mut ledger = Ledger::new(&scenario, 0..4);
    ledger.seats = seats;
    for (player, room, seat) in [(0, "r", 0), (1, "r", 1), (2, "s", 0), (3, "s", 1)] {
        let player = PlayerIndex(player);
        if seats != Seats::None {
            let seat = Seat { room: room.into(), endpoint: "a:1".into(), seat };
            ledger.record(player, &Fact::Assigned(seat));
        }
        for fact in [Fact::Playing, Fact::Numbered(3), Fact::Finished] {
            ledger.record(player, &fact);
        }
    }
    ledger
}

/// Name, what was heard beside the rest (player, sender, number), and what is told.
type Talk = (&'static str, &'static [(u32, u32, u32)], &'static [&'static str]);

#[test]
fn lost_doubled_reordered_and_leaked_events_are_named() {
    let cases: [Talk; 6] = [
        ("good", &[], &[]),
        ("lost within", &[(0, 1, 1), (0, 1, 3)], &["p0 did not hear event 2 of p1"]),
        (
            "lost at both ends",
            &[(0, 1, 2)],
            &["p0 did not hear event 1 of p1", "p0 did not hear event 3 of p1"],
        ),
        ("doubled", &[(0, 1, 1), (0, 1, 1), (0, 1, 2), (0, 1, 3)], &["p0 heard event 1 of p1 twice"]),
        (
            "reordered",
            &[(0, 1, 1), (0, 1, 3), (0, 1, 2)],
            &["p0 did not hear event 2 of p1", "p0 heard event 2 of p1 after event 3"],
        ),
        ("leaked", &[(0, 2, 1), (0, 1, 1), (0, 1, 2), (0, 1, 3)], &["p0 heard p2, who is in another room"]),
    ];
    for seats in [Seats::Matched, Seats::Keyed, Seats::None] {
        for (name, heard, expected) in cases {
            let mut ledger = talking(seats);
            for (player, sender) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
                for number in 1..=3 {
                    if player != 0 || heard.is_empty() {
                        ledger.heard(PlayerIndex(player), sender, number);
                    }
                }
            }
            for (player, sender, number) in heard {
                ledger.heard(PlayerIndex(*player), *sender, *number);
            }
            assert_eq!(told(&ledger, Coverage::Whole), expected, "{name}, {seats:?}");
        }
    }
}

#[test]
fn who_never_heard_a_member_is_named_only_when_the_run_was_whole() {
    let mut ledger = talking(Seats::Matched);
    for (player, sender) in [(1, 0), (2, 3), (3, 2)] {
        (1..=3).for_each(|number| ledger.heard(PlayerIndex(player), sender, number));
    }
    assert_eq!(told(&ledger, Coverage::Whole), ["p0 did not hear events 1 to 3 of p1"]);
    assert_eq!(told(&ledger, Coverage::Cut), [""; 0]);
}

#[test]
fn a_state_that_differs_is_named_also_when_the_players_are_in_several_processes() {
    let (mut one, mut other) = (talking(Seats::Matched), talking(Seats::Matched));
    for (ledger, player, hash) in [(&mut one, 0, 5), (&mut other, 1, 6)] {
        ledger.entries.retain(|index, _| *index == player);
        ledger.scope = None;
        ledger.whole = false;
        ledger.state(PlayerIndex(player), 8, 99, 1);
        ledger.state(PlayerIndex(player), 16, hash, 1);
    }
    one.merge(other);
    assert_eq!(told(&one, Coverage::Whole), ["players of room r saw different states 16"]);
}

#[test]
fn a_key_that_gave_two_rooms_is_named() {
    let mut ledger = ledger(2);
    ledger.seats = Seats::Keyed;
    for (player, room) in [(0, "r"), (1, "s")] {
        let seat = Seat { room: room.into(), endpoint: "a:1".into(), seat: 0 };
        ledger.record(PlayerIndex(player), &Fact::Assigned(seat));
    }
    let expected = "group 0 asked for one room and is in several: r, s";
    assert_eq!(told(&ledger, Coverage::Cut), [expected]);
}

#[test]
fn merged_ledgers_judge_like_one() {
    let whole = talking(Seats::Matched);
    let (mut one, mut other) = (whole.clone(), whole.clone());
    one.entries.retain(|index, _| *index < 1);
    other.entries.retain(|index, _| *index >= 1);
    let sent = serde_json::to_string(&other).unwrap();
    one.merge(serde_json::from_str(&sent).unwrap());
    assert_eq!(one.judge(Coverage::Whole), whole.judge(Coverage::Whole));
}

/// Two players of one room, of whom the first loses its connection after it has sent three events and heard them.
fn parted(by: Parting, acked: u32, session: SessionBack) -> Ledger {
    let mut ledger = talking(Seats::Matched);
    ledger.whole = false;
    for number in 1..=3 {
        ledger.heard(PlayerIndex(0), 0, number);
        ledger.heard(PlayerIndex(1), 0, number);
        ledger.heard(PlayerIndex(0), 1, number);
    }
    ledger.record(PlayerIndex(0), &Fact::Numbered(6));
    ledger.record(PlayerIndex(0), &Fact::Away { by, acked });
    ledger.session_began(PlayerIndex(0), session);
    ledger.record(PlayerIndex(0), &Fact::Back { session, wanted: SessionWanted::Must });
    ledger
}

#[test]
fn a_session_that_comes_back_must_be_the_same_and_go_on_where_it_was() {
    let cases: [(&str, SessionBack, u32, &[&str]); 5] = [
        ("good", SessionBack::Recovered, 4, &[]),
        ("gap", SessionBack::Recovered, 6, &["p0 did not hear events 4 to 5 of p1"]),
        ("double", SessionBack::Recovered, 3, &["p0 heard event 3 of p1 twice"]),
        ("new", SessionBack::New, 6, &["p0 came back and was not known any more"]),
        ("mixed", SessionBack::Mixed, 6, &["p0 came back and got a session that is half another one"]),
    ];
    for (name, session, next, expected) in cases {
        let mut ledger = parted(Parting::Player, 0, session);
        ledger.heard(PlayerIndex(0), 1, next);
        assert_eq!(told(&ledger, Coverage::Whole), expected, "{name}");
    }
}

#[test]
fn only_events_that_were_under_way_when_the_server_broke_may_get_lost() {
    let cases: [(&str, Parting, u32, &[&str]); 3] = [
        ("known by their echo up to 3", Parting::Server, 0, &[]),
        ("acknowledged up to 5", Parting::Server, 5, &["p1 did not hear events 4 to 5 of p0"]),
        ("cut by the player", Parting::Player, 0, &["p1 did not hear events 4 to 6 of p0"]),
    ];
    for (name, by, acked, expected) in cases {
        let mut ledger = parted(by, acked, SessionBack::Recovered);
        ledger.heard(PlayerIndex(1), 0, 7);
        assert_eq!(told(&ledger, Coverage::Whole), expected, "{name}");
    }
}

#[test]
fn a_group_whose_room_was_lost_may_be_parted() {
    let judge = |lost: bool| {
        let mut ledger = ledger(2);
        ledger.seats = Seats::Keyed;
        for (player, room) in [(0, "r"), (1, "s"), (2, "t"), (3, "t")] {
            let seat = u16::from(player == 3);
            let seat = Seat { room: room.into(), endpoint: "a:1".into(), seat };
            ledger.record(PlayerIndex(player), &Fact::Assigned(seat));
            ledger.record(PlayerIndex(player), &Fact::Playing);
        }
        if lost {
            ledger.record(PlayerIndex(0), &Fact::RoomLost);
        }
        told(&ledger, Coverage::Whole)
    };
    assert_eq!(judge(true), [""; 0]);
    assert_eq!(judge(false).len(), 3, "two short rooms and a parted group");
}
