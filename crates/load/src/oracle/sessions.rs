//! Owns the oracles about connections that come back: the same session, from the same position on.
//! Never asks for what nobody can know: an event that was under way when its connection broke may have got lost.

use serde::{Deserialize, Serialize};

use super::{Entry, Ledger, SEEN_MAX, Violation};
use crate::{
    fact::{Parting, SessionBack},
    flow::SessionWanted,
    player::PlayerIndex,
};

/// Numbered events that a player did not hear.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Gap {
    player: u32,
    sender: u32,
    first: u32,
    last: u32,
}

impl Entry {
    /// The connection is gone. After an end that the player did not make, nobody knows about the events since the last
    /// one that was acknowledged or came back.
    pub(super) fn away(&mut self, player: u32, by: Parting, acked: u32) {
        let echoed = self.heard.iter().find(|heard| heard.sender == player).map_or(0, |heard| heard.last);
        let known = acked.max(echoed);
        if by == Parting::Server && known < self.numbered {
            self.unsure.push((known + 1, self.numbered));
        }
    }

    /// The player is back; gives what is wrong with that.
    pub(super) fn back(
        &mut self,
        session: SessionBack,
        wanted: SessionWanted,
    ) -> Option<fn(String) -> Violation> {
        let wrong: Option<fn(String) -> Violation> = match (session, wanted) {
            (SessionBack::Recovered, _) => return None,
            (SessionBack::Mixed, _) => Some(|player| Violation::SessionMixed { player }),
            (SessionBack::New | SessionBack::None, SessionWanted::Must) => {
                Some(|player| Violation::NotRecovered { player })
            }
            (SessionBack::New | SessionBack::None, SessionWanted::May) => None,
        };
        self.sessions_new += 1;
        wrong
    }

    fn is_unsure(&self, number: u32) -> bool {
        self.unsure.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }
}

impl Ledger {
    /// A connection is open. What a new session has missed is not asked for: the next event of each sender may be any
    /// later one. To be told before the first event on that connection.
    pub fn session_began(&mut self, player: PlayerIndex, session: SessionBack) {
        if session != SessionBack::Recovered
            && let Some(entry) = self.entries.get_mut(&player.0)
        {
            entry.heard.iter_mut().for_each(|heard| heard.anew = true);
        }
    }

    /// Notes events that did not come.
    pub(super) fn gap(&mut self, player: u32, sender: u32, first: u32, last: u32) {
        if self.gaps.len() < SEEN_MAX {
            self.gaps.push(Gap { player, sender, first, last });
        } else {
            self.seen_total += 1;
        }
    }

    /// Of these events, the first and the last that the sender knows to be accepted; `None` when none is.
    pub(super) fn accepted(&self, sender: u32, first: u32, last: u32) -> Option<(u32, u32)> {
        let Some(sender) = self.entries.get(&sender) else { return Some((first, last)) };
        let mut sure = (first..=last).filter(|number| !sender.is_unsure(*number));
        let first = sure.next()?;
        Some((first, sure.next_back().unwrap_or(first)))
    }

    /// The gaps that are faults, and then what else was seen.
    pub(super) fn judge_gaps(&self) -> Vec<Violation> {
        let faults = self.gaps.iter().filter_map(|gap| {
            let (first, last) = self.accepted(gap.sender, gap.first, gap.last)?;
            let (player, sender) = (self.name(gap.player), self.name(gap.sender));
            Some(Violation::EventsLost { player, sender, first, last })
        });
        faults.chain(self.seen.iter().cloned()).collect()
    }
}
