//! Which Tickets play together.
//!
//! Never allocates: a match is a proposal until the control plane has reserved all its seats or none.

use std::collections::{BTreeMap, VecDeque};

use crate::{PlayerId, TicketId, Timestamp};

/// A player, or a party that must not be parted, waiting for a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its id.
    pub id: TicketId,
    /// Who plays. At least one; all of them in the same match or none.
    pub players: Vec<PlayerId>,
    /// When it was first filed. Kept when it is filed again.
    pub enqueued_at: Timestamp,
}

/// Tickets that play together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The tickets, oldest first.
    pub tickets: Vec<TicketId>,
}

/// Matches of exactly `players_per_match` players, at most `matches_max` of them, oldest first.
///
/// First come, first served: tickets are ranked by `enqueued_at`, then by id. The oldest ticket that can be in a full
/// match at all begins it; each next oldest joins it if the match can still be filled exactly with the ones after
/// it. So a younger ticket goes first only where the older one, being of another size, could not take its place. A
/// ticket with no player, or with more than a match has, is left out: the caller refuses it when it is filed.
///
/// The order of `tickets` does not matter; ids must be unique. Work is bounded by the number of tickets times
/// `players_per_match`, whatever the sizes of the parties.
#[must_use]
pub fn plan(tickets: &[Ticket], players_per_match: u16, matches_max: usize) -> Vec<Match> {
    let mut queue = Queue::new(tickets, players_per_match);
    let mut matches = Vec::new();
    let mut sizes: Vec<u16> = queue.by_size.keys().copied().collect();
    while matches.len() < matches_max {
        let Some(members) = queue.next_match(players_per_match, &mut sizes) else { break };
        matches.push(Match { tickets: members });
    }
    matches
}

/// Waiting tickets by party size, oldest first: tickets of one size can stand in for each other, so only the oldest of
/// each size is ever looked at.
struct Queue<'a> {
    by_size: BTreeMap<u16, VecDeque<&'a Ticket>>,
}

impl<'a> Queue<'a> {
    fn new(tickets: &'a [Ticket], players_per_match: u16) -> Self {
        let mut ranked: Vec<&Ticket> = tickets.iter().collect();
        ranked.sort_unstable_by_key(|ticket| (ticket.enqueued_at, &ticket.id));
        let mut by_size: BTreeMap<u16, VecDeque<&Ticket>> = BTreeMap::new();
        for ticket in ranked {
            match u16::try_from(ticket.players.len()) {
                Ok(size) if (1..=players_per_match).contains(&size) => {
                    by_size.entry(size).or_default().push_back(ticket);
                }
                Ok(_) | Err(_) => {}
            }
        }
        Self { by_size }
    }

    /// The next full match, its tickets taken out. Takes out of `sizes` those that can be in no match any more: what
    /// the oldest ticket of a size cannot fill, no younger one of it can.
    fn next_match(&mut self, players_per_match: u16, sizes: &mut Vec<u16>) -> Option<Vec<TicketId>> {
        let anchor = loop {
            let size = self.oldest(sizes)?;
            if self.fills(players_per_match - size, sizes, size) {
                break size;
            }
            sizes.retain(|other| *other != size);
        };
        let mut members = vec![self.take(anchor)];
        let mut missing = players_per_match - anchor;
        // The same argument within this match: a size that does not fit now fits no better with less to fill.
        let mut fitting = sizes.clone();
        while missing > 0 {
            fitting.retain(|size| *size <= missing);
            let size = self.oldest(&fitting).expect("a fillable rest has a ticket that fits");
            if self.fills(missing - size, &fitting, size) {
                members.push(self.take(size));
                missing -= size;
            } else {
                fitting.retain(|other| *other != size);
            }
        }
        Some(members)
    }

    fn oldest(&self, sizes: &[u16]) -> Option<u16> {
        let fronts = sizes.iter().filter_map(|size| Some((*size, *self.by_size[size].front()?)));
        fronts.min_by_key(|(_, ticket)| (ticket.enqueued_at, &ticket.id)).map(|(size, _)| size)
    }

    fn take(&mut self, size: u16) -> TicketId {
        let ticket = self.by_size.get_mut(&size).and_then(VecDeque::pop_front);
        ticket.expect("the oldest of a size was just looked at").id.clone()
    }

    /// Whether tickets of `sizes`, without one of size `used`, add up to exactly `missing` players.
    fn fills(&self, missing: u16, sizes: &[u16], used: u16) -> bool {
        let counts = sizes.iter().map(|size| (*size, self.by_size[size].len() - usize::from(*size == used)));
        let mut sums = Sums::up_to(missing);
        for (size, count) in counts.filter(|(size, _)| *size <= missing) {
            sums.add(size, count);
        }
        sums.has(missing)
    }
}

/// The player counts that a choice of tickets can add up to: one bit each.
struct Sums {
    words: Vec<u64>,
    most: u16,
}

impl Sums {
    fn up_to(most: u16) -> Self {
        let mut words = vec![0; usize::from(most) / 64 + 1];
        words[0] = 1;
        Self { words, most }
    }

    fn has(&self, sum: u16) -> bool {
        self.words[usize::from(sum) / 64] >> (sum % 64) & 1 == 1
    }

    /// Lets up to `count` tickets of `size` be chosen: in lots of 1, 2, 4, .. so that a long queue costs no more.
    fn add(&mut self, size: u16, count: usize) {
        let mut left = count.min(usize::from(self.most / size));
        let mut lot = 1;
        while left > 0 {
            let taken = lot.min(left);
            self.add_once(usize::from(size) * taken);
            left -= taken;
            lot *= 2;
        }
    }

    fn add_once(&mut self, players: usize) {
        let (words, bits) = (players / 64, players % 64);
        for at in (words..self.words.len()).rev() {
            let mut shifted = self.words[at - words] << bits;
            if bits > 0 && at > words {
                shifted |= self.words[at - words - 1] >> (64 - bits);
            }
            self.words[at] |= shifted;
        }
    }
}
