//! A bucket in which ratings count: who plays with one anchor, so that the ratings lie closest together.
//!
//! Never decides how far apart they may lie, nor who is the anchor.
//!
//! A match around an anchor needs of each party size at most as many tickets below its rating, and above it, as fill the rest;
//! and the nearest of them stand in for all others. So only those are looked at: the answer is exact, and its cost does not
//! grow with the bucket.

use std::collections::BTreeMap;

use super::plan::Row;
use super::sums::Sums;

/// Waiting tickets by party size, each size in the order of ratings.
#[derive(Debug, Default)]
pub(super) struct Rated {
    lists: BTreeMap<u16, List>,
    /// The nearest ones below the anchor, and above it; kept for their memory.
    below: Vec<Near>,
    above: Vec<Near>,
    work: u64,
}

/// One who could play with the anchor.
#[derive(Debug, Clone, Copy)]
struct Near {
    /// How far its rating is from the anchor's.
    distance: u32,
    rank: u32,
    size: u16,
}

/// Who plays with an anchor.
#[derive(Debug)]
pub(super) struct Found {
    /// Ranks, oldest first, the anchor among them.
    pub(super) members: Vec<u32>,
    /// No two of their ratings are further apart.
    pub(super) spread: u32,
}

impl Rated {
    /// The tickets of these ranks. Writes to `places` where each is among those of its size.
    pub(super) fn new(ranks: &[u32], rows: &[Row], places: &mut [u32]) -> Self {
        let mut keys: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        for rank in ranks {
            let row = &rows[*rank as usize];
            keys.entry(row.size).or_default().push(key(row.rating, *rank));
        }
        let mut lists = BTreeMap::new();
        for (size, mut keys) in keys {
            keys.sort_unstable();
            for (place, key) in (1..).zip(&keys) {
                places[rank_of(*key) as usize] = place;
            }
            lists.insert(size, List::new(keys));
        }
        Self { lists, ..Self::default() }
    }

    pub(super) fn take_work(&mut self) -> u64 {
        std::mem::take(&mut self.work)
    }

    /// From now on only tickets that `waits` says can be found.
    pub(super) fn refill(&mut self, waits: impl Fn(u32) -> bool) {
        for list in self.lists.values_mut() {
            list.refill(&waits);
            self.work += list.keys.len() as u64;
        }
    }

    /// The ticket can be found no more.
    pub(super) fn take(&mut self, row: &Row, place: u32) {
        if let Some(list) = self.lists.get_mut(&row.size) {
            list.take(place);
        }
    }

    /// The closest match of exactly `players` with this anchor whose ratings are at most `width` apart. Takes nothing out.
    pub(super) fn search(
        &mut self,
        anchor: u32,
        (row, place): (&Row, u32),
        width: u32,
        players: u16,
    ) -> Option<Found> {
        self.work += 1;
        let missing = players.checked_sub(row.size)?;
        if missing == 0 {
            return Some(Found { members: vec![anchor], spread: 0 });
        }
        self.gather(anchor, (row, place), width, missing);
        self.work += (self.below.len() + self.above.len()) as u64;
        let sizes = self.lists.range(..=missing).count();
        if sizes <= 1 {
            self.one_size(anchor, width, missing)
        } else {
            self.any_sizes(anchor, width, missing)
        }
    }

    /// Collects who could play with the anchor, nearest first.
    fn gather(&mut self, anchor: u32, (row, place): (&Row, u32), width: u32, missing: u16) {
        self.below.clear();
        self.above.clear();
        let mut lists = 0;
        for (size, list) in self.lists.range_mut(..=missing) {
            let own = key(row.rating, anchor);
            let place = if *size == row.size {
                place
            } else {
                list.keys.partition_point(|key| *key < own) as u32 + 1
            };
            let after = if *size == row.size { place + 1 } else { place };
            let most = usize::from(missing / size);
            list.walk_down(place - 1, row.rating, width, most, |distance, rank| {
                self.below.push(Near { distance, rank, size: *size });
            });
            list.walk_up(after, row.rating, width, most, |distance, rank| {
                self.above.push(Near { distance, rank, size: *size });
            });
            lists += 1;
        }
        if lists > 1 {
            // Among equals the older one is nearer.
            for side in [&mut self.below, &mut self.above] {
                side.sort_unstable_by_key(|near| (near.distance, near.rank));
            }
        }
    }

    /// All candidates are of one size: a match is a run of neighbours.
    fn one_size(&self, anchor: u32, width: u32, missing: u16) -> Option<Found> {
        let size = self.below.first().or(self.above.first())?.size;
        if !missing.is_multiple_of(size) {
            return None;
        }
        let wanted = usize::from(missing / size);
        let reach = |side: &[Near], count: usize| count.checked_sub(1).map_or(0, |last| side[last].distance);
        let runs = (wanted.saturating_sub(self.above.len())..=wanted.min(self.below.len())).map(|low| {
            let spread = reach(&self.below, low).saturating_add(reach(&self.above, wanted - low));
            (spread, low)
        });
        let (spread, low) = runs.min().filter(|(spread, _)| *spread <= width)?;
        let chosen = self.below[..low].iter().chain(&self.above[..wanted - low]);
        let mut members: Vec<u32> = chosen.map(|near| near.rank).chain([anchor]).collect();
        members.sort_unstable();
        Some(Found { members, spread })
    }

    /// Parties of several sizes: the narrowest window around the anchor in which some of them add up.
    fn any_sizes(&mut self, anchor: u32, width: u32, missing: u16) -> Option<Found> {
        let mut best: Option<(u32, usize, usize)> = None;
        let mut low_sums = Sums::up_to(missing);
        let mut sums = low_sums.clone();
        for low in 0..=self.below.len() {
            let reach = low.checked_sub(1).map_or(0, |last| self.below[last].distance);
            if low > 0 {
                low_sums.add_once(usize::from(self.below[low - 1].size));
            }
            sums.copy(&low_sums);
            for high in 0..=self.above.len() {
                let up = high.checked_sub(1).map_or(0, |last| self.above[last].distance);
                let spread = reach.saturating_add(up);
                if spread > width || best.is_some_and(|(narrowest, ..)| spread >= narrowest) {
                    break;
                }
                if high > 0 {
                    sums.add_once(usize::from(self.above[high - 1].size));
                }
                self.work += 1;
                if sums.has(missing) {
                    best = Some((spread, low, high));
                    break;
                }
            }
        }
        let (spread, low, high) = best?;
        let mut window: Vec<Near> = self.below[..low].iter().chain(&self.above[..high]).copied().collect();
        window.sort_unstable_by_key(|near| near.rank);
        let mut members = oldest_that_fill(&window, missing);
        members.push(anchor);
        members.sort_unstable();
        Some(Found { members, spread })
    }
}

/// Of tickets, oldest first, some of which add up to `missing`: the oldest that do.
fn oldest_that_fill(window: &[Near], missing: u16) -> Vec<u32> {
    // What the tickets after each can add up to.
    let mut rests = vec![Sums::up_to(missing)];
    for near in window.iter().skip(1).rev() {
        let mut sums = rests[rests.len() - 1].clone();
        sums.add_once(usize::from(near.size));
        rests.push(sums);
    }
    let (mut members, mut missing) = (Vec::new(), missing);
    for (near, rest) in window.iter().zip(rests.iter().rev()) {
        if near.size <= missing && rest.has(missing - near.size) {
            members.push(near.rank);
            missing -= near.size;
        }
    }
    members
}

/// Tickets of one size in the order of ratings, the older first among equals. Places are counted from 1; before the first and
/// after the last is one that always stays. Of a place whose ticket is taken is known where to look next.
#[derive(Debug)]
struct List {
    keys: Vec<u64>,
    left: Vec<u32>,
    right: Vec<u32>,
}

impl List {
    fn new(keys: Vec<u64>) -> Self {
        let places = u32::try_from(keys.len() + 2).expect("ranks fit");
        Self { left: (0..places).collect(), right: (0..places).collect(), keys }
    }

    fn refill(&mut self, waits: impl Fn(u32) -> bool) {
        for (place, key) in (1..).zip(&self.keys) {
            let stays = waits(rank_of(*key));
            self.left[place as usize] = if stays { place } else { place - 1 };
            self.right[place as usize] = if stays { place } else { place + 1 };
        }
    }

    fn take(&mut self, place: u32) {
        self.left[place as usize] = place - 1;
        self.right[place as usize] = place + 1;
    }

    /// Up to `most` tickets from `place` downwards, as long as their ratings are within `width`.
    fn walk_down(
        &mut self,
        place: u32,
        rating: i32,
        width: u32,
        most: usize,
        mut found: impl FnMut(u32, u32),
    ) {
        let mut place = nearest(&mut self.left, place);
        for _ in 0..most {
            let Some(key) = place.checked_sub(1).map(|at| self.keys[at as usize]) else { return };
            let distance = rating_of(key).abs_diff(rating);
            if distance > width {
                return;
            }
            found(distance, rank_of(key));
            place = nearest(&mut self.left, place - 1);
        }
    }

    /// The same upwards.
    fn walk_up(&mut self, place: u32, rating: i32, width: u32, most: usize, mut found: impl FnMut(u32, u32)) {
        let mut place = nearest(&mut self.right, place);
        for _ in 0..most {
            let Some(key) = self.keys.get(place as usize - 1).copied() else { return };
            let distance = rating_of(key).abs_diff(rating);
            if distance > width {
                return;
            }
            found(distance, rank_of(key));
            place = nearest(&mut self.right, place + 1);
        }
    }
}

/// The place that is still there; ways that were walked are shortened.
fn nearest(next: &mut [u32], mut place: u32) -> u32 {
    while next[place as usize] != place {
        let after = next[next[place as usize] as usize];
        next[place as usize] = after;
        place = after;
    }
    place
}

/// In the order of ratings, then of age.
const fn key(rating: i32, rank: u32) -> u64 {
    // Turns the smallest number into 0.
    let lifted = rating.cast_unsigned() ^ (1 << 31);
    (lifted as u64) << 32 | rank as u64
}

const fn rank_of(key: u64) -> u32 {
    (key & 0xffff_ffff) as u32
}

const fn rating_of(key: u64) -> i32 {
    ((key >> 32) as u32 ^ (1 << 31)).cast_signed()
}
