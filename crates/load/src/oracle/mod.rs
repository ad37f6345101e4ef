//! Owns what must be true of a run, and the list of what was not. Ledgers of several processes merge into the one
//! that a single process would have written.
//! Never measures time.

mod heard;
mod sessions;
#[cfg(test)]
mod tests;
mod violation;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    fact::{Fact, Seat},
    flow::Seats,
    player::PlayerIndex,
    scenario::{Scenario, Scope, player_name},
};
use heard::Heard;
use sessions::Gap;
pub use violation::Violation;

/// Violations that a ledger holds as they are seen. More are only counted.
const SEEN_MAX: usize = 10_000;

/// Whether every player had the time to end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// Yes: who is missing is missing by fault.
    Whole,
    /// No, the run was stopped: only what was seen is judged, not what has not happened yet.
    Cut,
}

/// What happened to one player.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Entry {
    seats: Vec<Seat>,
    played: bool,
    finished: bool,
    /// Something that explains why the player got no further.
    faulted: bool,
    /// The server has let a misbehaving player go.
    shed: bool,
    /// The room was gone when the player came back, which the scenario allows.
    lost_room: bool,
    /// Reads slowly or not at all, on purpose: what it did not hear is no fault.
    misbehaves: bool,
    /// Numbered events sent.
    numbered: u32,
    heard: Vec<Heard>,
    /// Numbered events that were under way when the server or the network ended the connection: first and last.
    unsure: Vec<(u32, u32)>,
    /// Times that the player came back as somebody new.
    sessions_new: u32,
    /// Events that could be compared with those of the others.
    states_heard: u32,
}

/// What happened to every player, as far as the oracles need it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ledger {
    seed: u64,
    group_players: u16,
    seats: Seats,
    scope: Option<Scope>,
    whole: bool,
    entries: BTreeMap<u32, Entry>,
    /// What was heard by room and key, as a hash.
    states: BTreeMap<String, BTreeMap<i64, u64>>,
    seen: Vec<Violation>,
    seen_total: u64,
    /// Numbered events that did not come. Whether they should have is known at the end.
    gaps: Vec<Gap>,
}

impl Ledger {
    /// An empty ledger for these players of a scenario.
    #[must_use]
    pub fn new(scenario: &Scenario, players: impl Iterator<Item = u32>) -> Self {
        let sequence = scenario.checks.sequence.as_ref();
        Self {
            seed: scenario.seed,
            group_players: scenario.group_players,
            seats: scenario.flow.seats(),
            scope: sequence.map(|check| check.scope),
            whole: sequence.is_some_and(|check| check.whole),
            entries: players.map(|index| (index, Entry::default())).collect(),
            states: BTreeMap::new(),
            seen: Vec::new(),
            seen_total: 0,
            gaps: Vec::new(),
        }
    }

    /// Takes the ledger of other players of the same run in.
    pub fn merge(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.seen_total += other.seen_total;
        let room = SEEN_MAX.saturating_sub(self.seen.len());
        self.seen.extend(other.seen.into_iter().take(room));
        let room = SEEN_MAX.saturating_sub(self.gaps.len());
        self.gaps.extend(other.gaps.into_iter().take(room));
        for (room, states) in other.states {
            for (key, hash) in states {
                self.compare(&room, key, hash);
            }
        }
    }

    /// Takes a fact about a player in.
    pub fn record(&mut self, player: PlayerIndex, fact: &Fact) {
        let entry = self.entries.entry(player.0).or_default();
        let name = player_name(self.seed, player.0);
        let violation = match fact {
            Fact::Arrived | Fact::Measured(..) | Fact::RoomEnded => return,
            Fact::Finished => {
                entry.finished = true;
                return;
            }
            Fact::Playing => {
                entry.played = true;
                return;
            }
            Fact::Numbered(numbered) => {
                entry.numbered = *numbered;
                return;
            }
            Fact::Shed => {
                entry.shed = true;
                return;
            }
            Fact::RoomLost => {
                entry.lost_room = true;
                return;
            }
            Fact::Away { by, acked } => return entry.away(player.0, *by, *acked),
            Fact::Back { session, wanted } => match entry.back(*session, *wanted) {
                Some(wrong) => wrong(name),
                None => return,
            },
            Fact::Assigned(seat) => {
                // Nearly always the only one: a vector that grows by itself would take four.
                entry.seats.reserve_exact(1);
                entry.seats.push(seat.clone());
                let [first, .., second] = entry.seats.as_slice() else { return };
                Violation::AssignedAgain {
                    player: name,
                    first_room: first.room.to_string(),
                    second_room: second.room.to_string(),
                }
            }
            Fact::Lost { socket, during, reason } => {
                let (socket, during) = (*socket, (*during).to_owned());
                Violation::Disconnected { player: name, socket, during, reason: reason.clone() }
            }
            Fact::Refused { socket, code } => {
                Violation::Refused { player: name, socket: *socket, code: code.clone() }
            }
            Fact::Failed { during, reason } => {
                Violation::Failed { player: name, during: (*during).to_owned(), reason: reason.clone() }
            }
        };
        entry.faulted |= !matches!(fact, Fact::Assigned(_));
        self.see(violation);
    }

    /// This player reads slowly or not at all from now on.
    pub fn misbehaves(&mut self, player: PlayerIndex) {
        self.entries.entry(player.0).or_default().misbehaves = true;
    }

    fn see(&mut self, violation: Violation) {
        self.seen_total += 1;
        if self.seen.len() < SEEN_MAX {
            self.seen.push(violation);
        }
    }

    /// The room that players of this ledger compare what they hear in: the assigned one, else that of the group.
    pub(crate) fn room_of(&self, player: u32) -> String {
        let seat = self.entries.get(&player).and_then(|entry| entry.seats.last());
        seat.map_or_else(|| format!("group {}", self.group_of(player)), |seat| seat.room.to_string())
    }

    fn group_of(&self, player: u32) -> u32 {
        player / u32::from(self.group_players.max(1))
    }

    fn name(&self, player: u32) -> String {
        player_name(self.seed, player)
    }

    /// Rooms that somebody was sent to.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.members().len()
    }

    /// Everything that was wrong, and how much that is in all: first what was seen, in its order, then rooms and
    /// players by name and number.
    #[must_use]
    pub fn judge(&self, coverage: Coverage) -> (Vec<Violation>, u64) {
        let mut violations = self.judge_gaps();
        if self.seats != Seats::None {
            for (room, members) in self.members() {
                self.judge_room(room, &members, coverage, &mut violations);
            }
            if self.seats == Seats::Keyed {
                self.judge_groups(&mut violations);
            }
            if coverage == Coverage::Whole {
                self.judge_seats(&mut violations);
            }
        }
        self.judge_heard(coverage, &mut violations);
        let unseen = self.seen_total - self.seen.len() as u64;
        let total = violations.len() as u64 + unseen;
        (violations, total)
    }

    fn judge_seats(&self, violations: &mut Vec<Violation>) {
        for (index, entry) in &self.entries {
            match entry {
                Entry { faulted: true, .. } | Entry { shed: true, .. } | Entry { lost_room: true, .. } => {}
                Entry { seats, .. } if seats.is_empty() => {
                    violations.push(Violation::NotAssigned { player: self.name(*index) });
                }
                Entry { played: false, .. } => {
                    violations.push(Violation::NeverPlayed { player: self.name(*index) });
                }
                Entry { .. } => {}
            }
        }
    }

    fn members(&self) -> BTreeMap<&str, Vec<(u32, &Seat)>> {
        let mut rooms = BTreeMap::<_, Vec<_>>::new();
        for (index, entry) in &self.entries {
            for seat in &entry.seats {
                rooms.entry(&*seat.room).or_default().push((*index, seat));
            }
        }
        rooms
    }

    fn judge_groups(&self, violations: &mut Vec<Violation>) {
        let mut groups = BTreeMap::<u32, BTreeSet<&str>>::new();
        for (index, entry) in &self.entries {
            let rooms = groups.entry(self.group_of(*index)).or_default();
            rooms.extend(entry.seats.iter().map(|seat| &*seat.room));
        }
        for (group, rooms) in groups {
            if rooms.len() < 2 || self.lost_its_room(group) {
                continue;
            }
            let rooms = rooms.into_iter().map(str::to_owned).collect();
            violations.push(Violation::GroupInSeveralRooms { group, rooms });
        }
    }

    /// Whether somebody of the group found its room gone.
    fn lost_its_room(&self, group: u32) -> bool {
        let size = u32::from(self.group_players.max(1));
        let members = group.saturating_mul(size)..group.saturating_add(1).saturating_mul(size);
        self.entries.range(members).any(|(_, entry)| entry.lost_room)
    }

    fn judge_room(
        &self,
        room: &str,
        members: &[(u32, &Seat)],
        coverage: Coverage,
        violations: &mut Vec<Violation>,
    ) {
        let names = |players: BTreeSet<u32>| players.into_iter().map(|player| self.name(player)).collect();
        let players: BTreeSet<_> = members.iter().map(|(player, _)| *player).collect();
        let expected = usize::from(self.group_players);
        let short = players.len() < expected && coverage == Coverage::Whole;
        // Members of a group who came after its room was lost are in the next one.
        let parted = self.seats == Seats::Keyed
            && players.iter().any(|player| self.lost_its_room(self.group_of(*player)));
        if players.len() > expected || (short && !parted) {
            violations.push(Violation::MatchSize {
                room: room.to_owned(),
                expected: self.group_players,
                players: names(players),
            });
        }
        let mut seats = BTreeMap::<u16, BTreeSet<u32>>::new();
        for (player, seat) in members {
            seats.entry(seat.seat).or_default().insert(*player);
        }
        for (seat, players) in seats.into_iter().filter(|(_, players)| players.len() > 1) {
            violations.push(Violation::SeatTwice { room: room.to_owned(), seat, players: names(players) });
        }
        let endpoints: BTreeSet<_> = members.iter().map(|(_, seat)| &*seat.endpoint).collect();
        if endpoints.len() > 1 {
            violations.push(Violation::RoomOnSeveralServers {
                room: room.to_owned(),
                endpoints: endpoints.into_iter().map(str::to_owned).collect(),
            });
        }
    }
}
