//! What makes a match, as the fleet's owner says it.
//!
//! Never looks at more than one ticket.

use std::time::Duration;

use smol_str::SmolStr;

use crate::Timestamp;

/// What makes a match in one fleet. No part of its revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Players of a full match; 0 when nobody is matched into the fleet.
    pub players: u16,
    /// When fewer will do. Default never.
    pub smaller: Option<Smaller>,
    /// Attributes that must be equal within a match. Default none.
    pub by: Vec<SmolStr>,
    /// How close ratings must be. Default: nobody looks at them.
    pub rating: Option<RatingRule>,
}

/// A match of fewer players, for those who would wait too long for a full one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Smaller {
    /// The fewest that play. At least 1, below [`Rules::players`].
    pub players_min: u16,
    /// How long the longest-waiting ticket of such a match has waited at least.
    pub patience: Duration,
}

/// How far apart the ratings of a match may be: the highest less the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatingRule {
    /// For somebody who has just come.
    pub window: u32,
    /// How much the window grows with each `every` that was waited. 0: it never does.
    pub widens_by: u32,
    /// Not zero.
    pub every: Duration,
    /// It never grows above this. At least `window`.
    pub window_max: u32,
    /// Whose window counts.
    pub clock: Clock,
    /// The rating of those who come without one. `None`: they are refused.
    pub unrated: Option<i32>,
}

/// Whose window counts in a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// That of the ticket that waits longest: whoever waits gets somebody. The default.
    #[default]
    LongestWaiting,
    /// The narrowest of all: nobody plays in a wider match than the own wait allows.
    Strictest,
}

impl Clock {
    /// Both.
    pub const ALL: [Self; 2] = [Self::LongestWaiting, Self::Strictest];

    /// As the configuration has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LongestWaiting => "longest_waiting",
            Self::Strictest => "strictest",
        }
    }
}

impl Rules {
    /// Most players of a match where ratings count: parties of all sizes are tried against each other.
    pub const RATED_PLAYERS_MAX: u16 = 100;
    /// Most steps in which a window may widen: each is a pass over the tickets where the strictest window counts.
    pub const STEPS_MAX: u32 = 100;

    /// First come, first served, in matches of so many.
    #[must_use]
    pub fn first_come(players: u16) -> Self {
        Self { players, ..Self::default() }
    }

    /// The sizes of a match for somebody who has waited so long, largest first: that of a full one, or of smaller ones.
    pub(super) fn sizes(&self, is_smaller: bool, waited: Duration) -> impl Iterator<Item = u16> {
        let allowed = self.smaller.filter(|smaller| is_smaller && waited >= smaller.patience);
        let smaller = allowed.into_iter().flat_map(|smaller| (smaller.players_min..self.players).rev());
        (!is_smaller).then_some(self.players).into_iter().chain(smaller)
    }

    /// When time alone would next let somebody who came at `enqueued_at` into more matches. `rated`: whether ratings count
    /// for them.
    #[must_use]
    pub fn changes_at(&self, enqueued_at: Timestamp, rated: bool, now: Timestamp) -> Option<Timestamp> {
        let widens_at = self.rating.filter(|_| rated).and_then(|rule| rule.widens_at(enqueued_at, now));
        let patience_at = self.smaller.map(|smaller| enqueued_at + smaller.patience).filter(|at| *at > now);
        widens_at.into_iter().chain(patience_at).min()
    }
}

impl RatingRule {
    /// The window of somebody who has waited so long.
    #[must_use]
    pub fn window_after(&self, waited: Duration) -> u32 {
        let steps = waited.as_millis() / self.every.as_millis().max(1);
        let grown = steps.saturating_mul(u128::from(self.widens_by)).saturating_add(u128::from(self.window));
        u32::try_from(grown).unwrap_or(u32::MAX).min(self.window_max.max(self.window))
    }

    /// When the window of somebody who came at `enqueued_at` next widens. `None`: it is as wide as it gets.
    #[must_use]
    pub fn widens_at(&self, enqueued_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let waited = now.since(enqueued_at);
        if self.widens_by == 0 || self.window_after(waited) >= self.window_max {
            return None;
        }
        let every = self.every.as_millis().max(1);
        let next = (waited.as_millis() / every + 1).saturating_mul(every);
        Some(enqueued_at + Duration::from_millis(u64::try_from(next).unwrap_or(u64::MAX)))
    }

    /// When the window of somebody who came at `enqueued_at` is at least so wide. `None`: never.
    #[must_use]
    pub fn reaches(&self, window: u32, enqueued_at: Timestamp) -> Option<Timestamp> {
        let missing = window.saturating_sub(self.window);
        if missing == 0 {
            return Some(enqueued_at);
        }
        if self.widens_by == 0 || window > self.window_max {
            return None;
        }
        Some(enqueued_at + self.every.saturating_mul(missing.div_ceil(self.widens_by)))
    }
}
