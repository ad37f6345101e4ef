//! Owns the histograms of a run and what is told of them.
//! Never reads a clock: times are handed in.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::flow::Measure;

/// The longest time a histogram tells apart, in microseconds: one hour. Longer ones count as this.
const MICROS_MAX: u64 = 3_600_000_000;

/// Times in microseconds, each kept to three significant digits.
#[derive(Debug, Clone)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("the bounds are valid"))
    }
}

impl Times {
    /// Counts one time.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(MICROS_MAX).min(MICROS_MAX));
    }

    /// The time that `share` of all counted times do not exceed; 0 to 1. Zero when none was counted.
    #[must_use]
    pub fn at(&self, share: f64) -> Duration {
        if self.0.is_empty() {
            Duration::ZERO
        } else {
            Duration::from_micros(self.0.value_at_quantile(share))
        }
    }

    /// What is told of them.
    #[must_use]
    pub fn summary(&self) -> Summary {
        #[expect(clippy::cast_precision_loss, reason = "an hour of microseconds is exact in a float")]
        let ms = |share| self.at(share).as_micros() as f64 / 1000.0;
        Summary { count: self.0.len(), p50_ms: ms(0.5), p90_ms: ms(0.9), p99_ms: ms(0.99), max_ms: ms(1.0) }
    }
}

/// A distribution of times in five numbers; all 0 when nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// Half of them took at most this, in milliseconds.
    pub p50_ms: f64,
    /// 90 % of them.
    pub p90_ms: f64,
    /// 99 % of them.
    pub p99_ms: f64,
    /// All of them.
    pub max_ms: f64,
}

/// One histogram for each stretch of the way.
#[derive(Debug, Clone, Default)]
pub struct Measures([Times; Measure::ALL.len()]);

impl Measures {
    /// Counts one time of one stretch.
    pub fn record(&mut self, measure: Measure, took: Duration) {
        self.0[measure as usize].record(took);
    }

    /// The times of one stretch.
    #[must_use]
    pub fn of(&self, measure: Measure) -> &Times {
        &self.0[measure as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_tells_the_spread_of_times() {
        let mut measures = Measures::default();
        for ms in 1..=1000 {
            measures.record(Measure::Match, Duration::from_millis(ms));
        }
        let Summary { count, p50_ms, p90_ms, p99_ms, max_ms } = measures.of(Measure::Match).summary();
        assert_eq!(count, 1000);
        for (told, expected) in [(p50_ms, 500.0), (p90_ms, 900.0), (p99_ms, 990.0), (max_ms, 1000.0)] {
            assert!((told / expected - 1.0_f64).abs() < 0.001, "{told} is not {expected}");
        }
        assert_eq!(measures.of(Measure::Enter).summary().count, 0);
        assert!(measures.of(Measure::Enter).at(0.99).is_zero());
    }

    #[test]
    fn a_time_beyond_the_scale_counts_as_the_longest() {
        let mut times = Times::default();
        times.record(Duration::from_secs(100_000));
        assert!(times.at(1.0) >= Duration::from_secs(3_590));
    }
}
