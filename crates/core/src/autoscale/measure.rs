//! What the policies know of the past: how rooms arrive, how long servers take to start.
//!
//! Never guesses: with nothing measured there is nothing to tell.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Timestamp;

/// Arrivals are counted in windows of this length.
const WINDOW_MS: u64 = 5_000;
/// Windows that the fast and the slow average look back: one and ten minutes.
const FAST: i64 = 12;
const SLOW: i64 = 120;
/// After this many empty windows all is forgotten at once rather than window by window: a day.
const GAP_MAX: u64 = 17_280;
/// Unevenness is believed between that of independent callers and ten times as much variance.
const DISPERSION_MILLI: std::ops::RangeInclusive<u64> = 1_000..=10_000;

/// How rooms arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// Rooms in a million seconds: the higher of the fast and the slow average.
    pub per_second_micros: u64,
    /// How fast that grows, each second; 0 while it falls.
    pub growth_micros: u64,
    /// Variance over mean, in thousandths: 1000 for independent callers, more for those who come in groups.
    pub dispersion_milli: u64,
}

/// Counts arrivals and keeps their averages. Needs some bytes, however many arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrivalMeter {
    window_at: Timestamp,
    count: u64,
    windows: u64,
    fast: i64,
    slow: i64,
    /// Average of the squared difference from the fast average, in thousandths of a squared room in a window.
    variance: i64,
}

impl ArrivalMeter {
    /// A meter that has counted nothing yet.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self { window_at: now, count: 0, windows: 0, fast: 0, slow: 0, variance: 0 }
    }

    /// `rooms` have arrived by `now`; 0 lets time pass. A clock that stepped back counts into the open window.
    pub fn observe(&mut self, now: Timestamp, rooms: u32) {
        let passed = now.unix_ms().saturating_sub(self.window_at.unix_ms()) / WINDOW_MS;
        if passed > GAP_MAX {
            *self = Self::new(now);
        }
        for _ in 0..passed.min(GAP_MAX) {
            self.close();
        }
        self.count = self.count.saturating_add(u64::from(rooms));
    }

    fn close(&mut self) {
        // A window holds at most u32::MAX calls many times over; what is above a million is a million.
        let rooms = i64::try_from(self.count.min(1_000_000)).expect("a million fits");
        let rate = rooms * 1_000_000_000 / 5_000;
        let expected_milli = self.fast / 200;
        let difference = rooms * 1000 - expected_milli;
        if self.windows == 0 {
            (self.fast, self.slow) = (rate, rate);
        } else {
            // While there were fewer windows than it looks back over, an average is the plain one of them all.
            let seen = i64::try_from(self.windows + 1).unwrap_or(i64::MAX);
            self.variance =
                towards(self.variance, difference.saturating_mul(difference) / 1000, SLOW.min(seen));
            self.fast = towards(self.fast, rate, FAST.min(seen));
            self.slow = towards(self.slow, rate, SLOW.min(seen));
        }
        self.windows += 1;
        self.count = 0;
        self.window_at = self.window_at + Duration::from_millis(WINDOW_MS);
    }

    /// What is known. `None` before the first window has closed.
    #[must_use]
    pub fn flow(&self) -> Option<Flow> {
        if self.windows == 0 {
            return None;
        }
        let rate = self.fast.max(self.slow);
        // On a slope an average lags by as long as it looks back: that far apart are the two.
        let apart_s = (SLOW - FAST) * 5;
        let growth = (self.fast - self.slow).max(0) / apart_s;
        let mean_milli = u64::try_from(self.slow.max(1)).unwrap_or(1).div_ceil(200);
        let variance = u64::try_from(self.variance).unwrap_or(0);
        let dispersion = variance.saturating_mul(1000) / mean_milli;
        Some(Flow {
            per_second_micros: u64::try_from(rate).unwrap_or(0),
            growth_micros: u64::try_from(growth).unwrap_or(0),
            dispersion_milli: dispersion.clamp(*DISPERSION_MILLI.start(), *DISPERSION_MILLI.end()),
        })
    }
}

/// One part of the way; always at least one, so that an average of nothing comes to nothing.
const fn towards(average: i64, value: i64, parts: i64) -> i64 {
    let step = (value - average) / parts;
    if step != 0 || value == average {
        average + step
    } else if value > average {
        average + 1
    } else {
        average - 1
    }
}

/// How long servers took from being ordered until they answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartTime {
    /// Half of them took no longer.
    pub median: Duration,
    /// All but one in twenty took no longer.
    pub p95: Duration,
    /// How many were measured.
    pub samples: usize,
}

/// The last 64 start-up times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartTimes {
    last: VecDeque<Duration>,
}

impl StartTimes {
    const KEPT: usize = 64;

    /// One more server has started; the oldest is forgotten.
    pub fn observe(&mut self, took: Duration) {
        if self.last.len() == Self::KEPT {
            self.last.pop_front();
        }
        self.last.push_back(took);
    }

    /// What is known. `None` before the first.
    #[must_use]
    pub fn measured(&self) -> Option<StartTime> {
        let mut sorted: Vec<Duration> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        let at =
            |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(StartTime { median: at(50)?, p95: at(95)?, samples: sorted.len() })
    }
}
