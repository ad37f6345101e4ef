//! Owns the histograms of a run and what is told of them.
//! Never reads a clock: times are handed in.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{fact::Measured, flow::Measure};

/// The longest time a histogram tells apart, in microseconds: one hour. Longer ones count as this.
const MICROS_MAX: u64 = 3_600_000_000;

/// Times in microseconds, each kept to three significant digits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Times(Histogram<u64>);

/// Every value that was counted, in microseconds as the histogram tells it apart, and how often: nothing is lost.
impl From<Times> for Vec<(u64, u64)> {
    fn from(times: Times) -> Self {
        times.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }
}

impl From<Vec<(u64, u64)>> for Times {
    fn from(counted: Vec<(u64, u64)>) -> Self {
        let mut times = Self::default();
        for (value, count) in counted {
            times.0.saturating_record_n(value.min(MICROS_MAX), count);
        }
        times
    }
}

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

    /// Takes those of another process in.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// Points of the distribution for a plot: share of all, and the time in milliseconds that it does not exceed.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, f64)> {
        const SHARES: [f64; 16] = [
            0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9975, 0.999, 0.9995, 0.9999, 0.99999,
            1.0,
        ];
        if self.0.is_empty() { Vec::new() } else { SHARES.map(|share| (share, self.ms(share))).to_vec() }
    }

    #[expect(clippy::cast_precision_loss, reason = "an hour of microseconds is exact in a float")]
    fn ms(&self, share: f64) -> f64 {
        self.at(share).as_micros() as f64 / 1000.0
    }

    /// What is told of them.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let ms = |share| self.ms(share);
        Summary { count: self.0.len(), p50_ms: ms(0.5), p90_ms: ms(0.9), p99_ms: ms(0.99), max_ms: ms(1.0) }
    }
}

/// A distribution of times in five numbers; all 0 when nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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

/// Two histograms for each thing that is measured, made when the first time comes: most runs need few of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    intended: [Option<Box<Times>>; Measure::ALL.len()],
    service: [Option<Box<Times>>; Measure::ALL.len()],
}

impl Measures {
    /// Counts one time, both ways.
    pub fn record(&mut self, measured: &Measured) {
        let at = measured.measure as usize;
        self.intended[at].get_or_insert_default().record(measured.intended);
        self.service[at].get_or_insert_default().record(measured.service);
    }

    /// The times from the intended beginnings.
    #[must_use]
    pub fn intended(&self, measure: Measure) -> Option<&Times> {
        self.intended[measure as usize].as_deref()
    }

    /// The times from the real beginnings.
    #[must_use]
    pub fn service(&self, measure: Measure) -> Option<&Times> {
        self.service[measure as usize].as_deref()
    }

    /// Takes those of another process in.
    pub fn merge(&mut self, other: &Self) {
        let ours = self.intended.iter_mut().chain(&mut self.service);
        for (ours, theirs) in ours.zip(other.intended.iter().chain(&other.service)) {
            if let Some(theirs) = theirs {
                ours.get_or_insert_default().merge(theirs);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(ms: u64) -> Measured {
        Measured {
            measure: Measure::Match,
            due: Duration::ZERO,
            intended: Duration::from_millis(ms),
            service: Duration::from_millis(ms / 2),
        }
    }

    #[test]
    fn a_summary_tells_the_spread_of_times() {
        let mut measures = Measures::default();
        for ms in 1..=1000 {
            measures.record(&measured(ms));
        }
        let Summary { count, p50_ms, p90_ms, p99_ms, max_ms } =
            measures.intended(Measure::Match).unwrap().summary();
        assert_eq!(count, 1000);
        for (told, expected) in [(p50_ms, 500.0), (p90_ms, 900.0), (p99_ms, 990.0), (max_ms, 1000.0)] {
            assert!((told / expected - 1.0_f64).abs() < 0.001, "{told} is not {expected}");
        }
        assert!(measures.service(Measure::Match).unwrap().summary().max_ms < 501.0);
        assert_eq!(measures.intended(Measure::Enter), None);
        assert!(Times::default().at(0.99).is_zero());
    }

    #[test]
    fn merged_histograms_are_equal_to_the_one_of_a_single_process() {
        let mut draws = crate::draws::Draws::new(7, 7);
        let (mut whole, mut parts) = (Measures::default(), vec![Measures::default(); 3]);
        for nth in 0..10_000 {
            let magnitude = draws.below(22);
            let one = measured(draws.below(1 << magnitude));
            whole.record(&one);
            parts[nth % 3].record(&one);
        }
        let mut merged = Measures::default();
        for part in parts {
            let sent = serde_json::to_string(&part).unwrap();
            merged.merge(&serde_json::from_str(&sent).unwrap());
        }
        assert_eq!(merged, whole);
    }

    #[test]
    fn a_time_beyond_the_scale_counts_as_the_longest() {
        let mut times = Times::default();
        times.record(Duration::from_secs(100_000));
        assert!(times.at(1.0) >= Duration::from_secs(3_590));
    }
}
