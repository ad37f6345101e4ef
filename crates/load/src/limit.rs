//! Owns the search for the largest load that still keeps its limits: double until it breaks, then halve the gap.
//! Never runs anything.

/// A search over numbers of players, in whole groups.
#[derive(Debug, Clone)]
pub struct Search {
    step: u32,
    most: u32,
    kept: u32,
    broken: Option<u32>,
    next: Option<u32>,
}

impl Search {
    /// Starts with `start` players, never asks for more than `most`, and always for whole groups of `group`. The gap
    /// that is left at the end is at most a sixteenth of the answer, and at least a group.
    #[must_use]
    pub fn new(start: u32, most: u32, group: u16) -> Self {
        let step = u32::from(group.max(1));
        let most = (most / step).max(1) * step;
        Self { step, most, kept: 0, broken: None, next: Some(((start / step).max(1) * step).min(most)) }
    }

    /// How many players to try next; `None` when the search is over.
    #[must_use]
    pub const fn next(&self) -> Option<u32> {
        self.next
    }

    /// The most players that kept the limits; 0 when none did.
    #[must_use]
    pub const fn kept(&self) -> u32 {
        self.kept
    }

    /// The fewest players that broke them, if any did.
    #[must_use]
    pub const fn broken(&self) -> Option<u32> {
        self.broken
    }

    /// Tells how the run with [`Self::next`] players ended.
    pub fn record(&mut self, kept: bool) {
        let Some(tried) = self.next else { return };
        if kept {
            self.kept = self.kept.max(tried);
        } else {
            self.broken = Some(self.broken.map_or(tried, |broken| broken.min(tried)));
        }
        self.next = match self.broken {
            None if self.kept >= self.most => None,
            None => Some(self.kept.saturating_mul(2).min(self.most)),
            Some(broken) => {
                let gap = broken - self.kept;
                let middle = (self.kept + gap / 2) / self.step * self.step;
                let fine = gap <= self.step.max(self.kept / 16);
                (!fine && middle > self.kept).then_some(middle)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(limit: u32, start: u32, most: u32) -> (u32, Vec<u32>) {
        let (mut search, mut tried) = (Search::new(start, most, 4), Vec::new());
        while let Some(players) = search.next() {
            tried.push(players);
            search.record(players <= limit);
        }
        (search.kept(), tried)
    }

    #[test]
    fn the_limit_is_found_in_few_runs() {
        let (kept, tried) = find(1_000, 100, 100_000);
        assert!((940..=1_000).contains(&kept), "{kept} by {tried:?}");
        assert!(tried.len() <= 10, "{tried:?}");
        assert!(tried.iter().all(|players| players.is_multiple_of(4)));
    }

    #[test]
    fn a_search_ends_at_its_bounds() {
        assert_eq!(find(u32::MAX, 100, 402), (400, vec![100, 200, 400]));
        assert_eq!(find(0, 8, 100).0, 0);
        assert_eq!(find(4, 8, 100).0, 4);
    }
}
