//! Owns the oracles about events: none lost, doubled, reordered or leaked, and one state for all.
//! Never reads an event: sender, number and hash are handed in.

use std::collections::btree_map;

use serde::{Deserialize, Serialize};

use super::{Coverage, Ledger, Violation};
use crate::{player::PlayerIndex, scenario::Scope};

/// What one player has heard of one sender.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Heard {
    pub(super) sender: u32,
    first: u32,
    pub(super) last: u32,
    /// Whether the session is new since the last event, so that some may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) anew: bool,
}

/// Characters of an unreadable argument that are shown.
const SHOWN_CHARS_MAX: usize = 80;

impl Ledger {
    /// A numbered event came.
    pub fn heard(&mut self, player: PlayerIndex, sender: u32, number: u32) {
        let entry = self.entries.entry(player.0).or_default();
        let Some(heard) = entry.heard.iter_mut().find(|heard| heard.sender == sender) else {
            entry.heard.push(Heard { sender, first: number, last: number, anew: false });
            return;
        };
        let last = heard.last;
        heard.last = last.max(number);
        let anew = std::mem::replace(&mut heard.anew, false);
        if number == last + 1 || (anew && number > last) {
            return;
        }
        if number > last {
            return self.gap(player.0, sender, last + 1, number - 1);
        }
        let (player, sender) = (self.name(player.0), self.name(sender));
        self.see(if number == last {
            Violation::EventDoubled { player, sender, number }
        } else {
            Violation::EventReordered { player, sender, number, after: last }
        });
    }

    /// An event came that must name sender and number and does not.
    pub fn unreadable(&mut self, player: PlayerIndex, argument: &str) {
        let argument = argument.chars().take(SHOWN_CHARS_MAX).collect();
        let player = self.name(player.0);
        self.see(Violation::Unreadable { player, argument });
    }

    /// A state came that all of the room must see alike. The first `skip` of each player are not compared.
    pub fn state(&mut self, player: PlayerIndex, key: i64, hash: u64, skip: u32) {
        let entry = self.entries.entry(player.0).or_default();
        entry.states_heard = entry.states_heard.saturating_add(1);
        if entry.states_heard > skip {
            let room = self.room_of(player.0);
            self.compare(&room, key, hash);
        }
    }

    pub(super) fn compare(&mut self, room: &str, key: i64, hash: u64) {
        let states = match self.states.get_mut(room) {
            Some(states) => states,
            None => self.states.entry(room.to_owned()).or_default(),
        };
        match states.entry(key) {
            btree_map::Entry::Vacant(empty) => {
                empty.insert(hash);
            }
            btree_map::Entry::Occupied(held) if *held.get() == hash => {}
            btree_map::Entry::Occupied(_) => {
                self.see(Violation::StatesDiffer { room: room.to_owned(), key });
            }
        }
    }

    pub(super) fn judge_heard(&self, coverage: Coverage, violations: &mut Vec<Violation>) {
        if self.scope == Some(Scope::Group) {
            for (player, entry) in &self.entries {
                for heard in entry.heard.iter().filter(|heard| !self.share_a_room(*player, heard.sender)) {
                    let (player, sender) = (self.name(*player), self.name(heard.sender));
                    violations.push(Violation::Leaked { player, sender });
                }
            }
        }
        if self.whole && coverage == Coverage::Whole {
            self.judge_whole(violations);
        }
    }

    fn share_a_room(&self, a: u32, b: u32) -> bool {
        a == b || (self.entries.contains_key(&b) && self.room_of(a) == self.room_of(b))
    }

    /// Every one who finished must have heard the first and the last of each of the room.
    fn judge_whole(&self, violations: &mut Vec<Violation>) {
        let mut rooms = std::collections::BTreeMap::<String, Vec<u32>>::new();
        for index in self.entries.keys() {
            rooms.entry(self.room_of(*index)).or_default().push(*index);
        }
        let pairs = rooms.values().flat_map(|members| {
            members.iter().flat_map(|player| members.iter().map(|sender| (*player, *sender)))
        });
        for (player, sender) in pairs {
            let (receives, sends) = (&self.entries[&player], &self.entries[&sender]);
            let sound = receives.sessions_new == 0 && !receives.misbehaves;
            let judged = sound && receives.finished && sends.finished && sends.numbered > 0;
            let heard = receives.heard.iter().find(|heard| heard.sender == sender);
            // Whether a sender hears itself is the server's own affair.
            if !judged || (player == sender && heard.is_none()) {
                continue;
            }
            let (first, last) = heard.map_or((u32::MAX, 0), |heard| (heard.first, heard.last));
            let mut lost = |first, last| {
                let Some((first, last)) = self.accepted(sender, first, last) else { return };
                let (player, sender) = (self.name(player), self.name(sender));
                violations.push(Violation::EventsLost { player, sender, first, last });
            };
            if heard.is_none() {
                lost(1, sends.numbered);
                continue;
            }
            if first > 1 {
                lost(1, first - 1);
            }
            if last < sends.numbered {
                lost(last + 1, sends.numbered);
            }
        }
    }
}
