//! A bucket in which ratings do not count: first come, first served.
//!
//! Never looks further than at the oldest ticket of each party size: tickets of one size can stand in for each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::sums::Sums;

/// Waiting tickets by party size, oldest first. A ticket is its rank: its place by age among all.
#[derive(Debug, Default)]
pub(super) struct Queue {
    by_size: BTreeMap<u16, VecDeque<u32>>,
    /// Match sizes with the party sizes that can be in no such match any more: what the oldest of a size cannot fill, no
    /// younger one of it can.
    hopeless: BTreeSet<(u16, u16)>,
    /// Looks since the last time that somebody asked.
    work: u64,
}

impl Queue {
    /// A ticket younger than all before.
    pub(super) fn push(&mut self, size: u16, rank: u32) {
        self.by_size.entry(size).or_default().push_back(rank);
    }

    pub(super) fn take_work(&mut self) -> u64 {
        std::mem::take(&mut self.work)
    }

    /// A match of exactly `players` that begins with the oldest ticket of `size`; its tickets taken out, oldest first.
    pub(super) fn next(&mut self, size: u16, players: u16) -> Option<Vec<u32>> {
        self.work += 1;
        if size > players || self.hopeless.contains(&(players, size)) {
            return None;
        }
        let hopeful = |other: &u16| !self.hopeless.contains(&(players, *other));
        let mut fitting: Vec<u16> = self.by_size.keys().copied().filter(hopeful).collect();
        self.front(size)?;
        if !self.fills(players - size, &fitting, size) {
            self.hopeless.insert((players, size));
            return None;
        }
        let mut members = vec![self.take(size)];
        let mut missing = players - size;
        // Within one match the same holds: a size that does not fit now fits no better with less to fill.
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
        members.sort_unstable();
        Some(members)
    }

    fn front(&self, size: u16) -> Option<u32> {
        self.by_size.get(&size).and_then(VecDeque::front).copied()
    }

    fn oldest(&self, sizes: &[u16]) -> Option<u16> {
        let fronts = sizes.iter().filter_map(|size| Some((self.front(*size)?, *size)));
        fronts.min().map(|(_, size)| size)
    }

    fn take(&mut self, size: u16) -> u32 {
        let front = self.by_size.get_mut(&size).and_then(VecDeque::pop_front);
        front.expect("the oldest of a size was just looked at")
    }

    /// Whether tickets of `sizes`, without one of size `used`, add up to exactly `missing` players.
    fn fills(&mut self, missing: u16, sizes: &[u16], used: u16) -> bool {
        let mut sums = Sums::up_to(missing);
        for size in sizes.iter().copied().filter(|size| *size <= missing) {
            let count = self.by_size[&size].len() - usize::from(size == used);
            sums.add(size, count);
            self.work += 1;
        }
        sums.has(missing)
    }
}
