//! Owns what must be true of a run, and the list of what was not.
//! Never measures time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;

use crate::{
    fact::{Fact, Seat},
    flow::SocketName,
    player::PlayerIndex,
};

/// Something that must not happen. Players are named as the back end knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "violation")]
pub enum Violation {
    /// A player was never assigned, though nothing else went wrong for them.
    NotAssigned {
        /// Who.
        player: String,
    },
    /// A player was assigned more than once.
    AssignedAgain {
        /// Who.
        player: String,
        /// The room of the first assignment.
        first_room: String,
        /// The room of the later one; may be the same.
        second_room: String,
    },
    /// A match has more or fewer members than it must have.
    MatchSize {
        /// Its room.
        room: String,
        /// How many it must have.
        expected: u16,
        /// Who was sent there.
        players: Vec<String>,
    },
    /// A seat was given to several players.
    SeatTwice {
        /// The room.
        room: String,
        /// The seat.
        seat: u16,
        /// Who were sent there.
        players: Vec<String>,
    },
    /// The members of a match were sent to several servers.
    RoomOnSeveralServers {
        /// The room.
        room: String,
        /// The servers' `host:port`.
        endpoints: Vec<String>,
    },
    /// A player was assigned and never came to play, though nothing else went wrong for them.
    NeverPlayed {
        /// Who.
        player: String,
    },
    /// A connection ended that should not have.
    Disconnected {
        /// Whose.
        player: String,
        /// Which one.
        socket: SocketName,
        /// What the player was at.
        during: String,
        /// How it ended.
        reason: String,
    },
    /// A server refused a player; in the game that is a refused token.
    Refused {
        /// Whom.
        player: String,
        /// Which server.
        socket: SocketName,
        /// The server's code.
        code: String,
    },
    /// A step could not be done.
    Failed {
        /// Who.
        player: String,
        /// What the player was at.
        during: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAssigned { player } => write!(f, "{player} was never assigned"),
            Self::AssignedAgain { player, first_room, second_room } => {
                write!(f, "{player} was assigned again: to room {second_room} after room {first_room}")
            }
            Self::MatchSize { room, expected, players } => {
                let (count, names) = (players.len(), players.join(", "));
                write!(f, "room {room} has {count} players instead of {expected}: {names}")
            }
            Self::SeatTwice { room, seat, players } => {
                write!(f, "room {room} gave seat {seat} to {}", players.join(" and "))
            }
            Self::RoomOnSeveralServers { room, endpoints } => {
                write!(f, "room {room} is on several servers: {}", endpoints.join(", "))
            }
            Self::NeverPlayed { player } => write!(f, "{player} was assigned and never played"),
            Self::Disconnected { player, socket, during, reason } => {
                write!(f, "{player} lost the {socket} connection while {during}: {reason}")
            }
            Self::Refused { player, socket, code } => {
                write!(f, "{player} was refused by the {socket} server: {code}")
            }
            Self::Failed { player, during, reason } => write!(f, "{player} failed while {during}: {reason}"),
        }
    }
}

/// Whether every player had the time to end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Yes: who is missing is missing by fault.
    Whole,
    /// No, the run was stopped: only what was seen is judged, not what has not happened yet.
    Cut,
}

#[derive(Debug, Default)]
struct Entry {
    seats: Vec<Seat>,
    played: bool,
    /// Something that explains why the player got no further.
    faulted: bool,
}

/// What happened to every player, as far as the oracles need it.
#[derive(Debug)]
pub struct Ledger {
    match_players: u16,
    names: Vec<String>,
    entries: Vec<Entry>,
    seen: Vec<Violation>,
}

impl Ledger {
    /// An empty ledger for players of these names, who play in matches of `match_players`.
    #[must_use]
    pub fn new(names: Vec<String>, match_players: u16) -> Self {
        let entries = names.iter().map(|_| Entry::default()).collect();
        Self { match_players, names, entries, seen: Vec::new() }
    }

    /// Takes a fact about a player in.
    pub fn record(&mut self, player: PlayerIndex, fact: &Fact) {
        let at = usize::try_from(player.0).expect("a u32 fits an index");
        let (entry, name) = (&mut self.entries[at], &self.names[at]);
        match fact {
            Fact::Arrived | Fact::Measured(..) | Fact::RoomEnded | Fact::Finished => return,
            Fact::Playing => {
                entry.played = true;
                return;
            }
            Fact::Assigned(seat) => {
                if let Some(first) = entry.seats.first() {
                    self.seen.push(Violation::AssignedAgain {
                        player: name.clone(),
                        first_room: first.room.clone(),
                        second_room: seat.room.clone(),
                    });
                }
                entry.seats.push(seat.clone());
                return;
            }
            Fact::Lost { socket, during, reason } => self.seen.push(Violation::Disconnected {
                player: name.clone(),
                socket: *socket,
                during: (*during).to_owned(),
                reason: reason.clone(),
            }),
            Fact::Refused { socket, code } => self.seen.push(Violation::Refused {
                player: name.clone(),
                socket: *socket,
                code: code.clone(),
            }),
            Fact::Failed { during, reason } => self.seen.push(Violation::Failed {
                player: name.clone(),
                during: (*during).to_owned(),
                reason: reason.clone(),
            }),
        }
        entry.faulted = true;
    }

    /// Rooms that somebody was sent to.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.members().len()
    }

    /// Everything that was wrong: first what was seen, in its order, then rooms and players by name and number.
    #[must_use]
    pub fn judge(&self, coverage: Coverage) -> Vec<Violation> {
        let mut violations = self.seen.clone();
        for (room, members) in self.members() {
            self.judge_room(room, &members, coverage, &mut violations);
        }
        if coverage == Coverage::Whole {
            for (entry, name) in self.entries.iter().zip(&self.names) {
                match entry {
                    Entry { faulted: true, .. } => {}
                    Entry { seats, .. } if seats.is_empty() => {
                        violations.push(Violation::NotAssigned { player: name.clone() });
                    }
                    Entry { played: false, .. } => {
                        violations.push(Violation::NeverPlayed { player: name.clone() });
                    }
                    Entry { .. } => {}
                }
            }
        }
        violations
    }

    fn members(&self) -> BTreeMap<&str, Vec<(&str, &Seat)>> {
        let mut rooms = BTreeMap::<_, Vec<_>>::new();
        for (entry, name) in self.entries.iter().zip(&self.names) {
            for seat in &entry.seats {
                rooms.entry(seat.room.as_str()).or_default().push((name.as_str(), seat));
            }
        }
        rooms
    }

    fn judge_room(
        &self,
        room: &str,
        members: &[(&str, &Seat)],
        coverage: Coverage,
        violations: &mut Vec<Violation>,
    ) {
        let players: BTreeSet<_> = members.iter().map(|(name, _)| *name).collect();
        let expected = usize::from(self.match_players);
        if players.len() > expected || (players.len() < expected && coverage == Coverage::Whole) {
            violations.push(Violation::MatchSize {
                room: room.to_owned(),
                expected: self.match_players,
                players: players.iter().map(|name| (*name).to_owned()).collect(),
            });
        }
        let mut seats = BTreeMap::<u16, BTreeSet<&str>>::new();
        for (name, seat) in members {
            seats.entry(seat.seat).or_default().insert(name);
        }
        for (seat, players) in seats.into_iter().filter(|(_, players)| players.len() > 1) {
            violations.push(Violation::SeatTwice {
                room: room.to_owned(),
                seat,
                players: players.into_iter().map(str::to_owned).collect(),
            });
        }
        let endpoints: BTreeSet<_> = members.iter().map(|(_, seat)| seat.endpoint.as_str()).collect();
        if endpoints.len() > 1 {
            violations.push(Violation::RoomOnSeveralServers {
                room: room.to_owned(),
                endpoints: endpoints.into_iter().map(str::to_owned).collect(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Player, room, endpoint, seat.
    type Placed = (u32, &'static str, &'static str, u16);

    fn judge(placed: &[Placed], coverage: Coverage) -> Vec<String> {
        let mut ledger = Ledger::new((0..4).map(|i| format!("p{i}")).collect(), 2);
        for (player, room, endpoint, seat) in placed {
            let seat = Seat { room: (*room).to_owned(), endpoint: (*endpoint).to_owned(), seat: *seat };
            ledger.record(PlayerIndex(*player), &Fact::Assigned(seat));
            ledger.record(PlayerIndex(*player), &Fact::Playing);
            ledger.record(PlayerIndex(*player), &Fact::Finished);
        }
        ledger.judge(coverage).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn misplaced_doubled_and_short_matches_are_named() {
        let good: [Placed; 4] =
            [(0, "r", "a:1", 0), (1, "r", "a:1", 1), (2, "s", "b:1", 0), (3, "s", "b:1", 1)];
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
            (
                "left out",
                good[..3].to_vec(),
                &["room s has 1 players instead of 2: p2", "p3 was never assigned"],
            ),
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
            let mut ledger = Ledger::new(vec!["p0".into()], 1);
            ledger.record(PlayerIndex(0), &fact);
            let told: Vec<_> = ledger.judge(Coverage::Whole).iter().map(ToString::to_string).collect();
            assert_eq!(told, [expected]);
        }
    }

    #[test]
    fn who_was_assigned_and_did_not_play_is_named() {
        let mut ledger = Ledger::new(vec!["p0".into()], 1);
        let seat = Seat { room: "r".into(), endpoint: "a:1".into(), seat: 0 };
        ledger.record(PlayerIndex(0), &Fact::Assigned(seat));
        assert_eq!(ledger.judge(Coverage::Whole), [Violation::NeverPlayed { player: "p0".into() }]);
        assert_eq!(ledger.judge(Coverage::Cut), []);
    }
}
