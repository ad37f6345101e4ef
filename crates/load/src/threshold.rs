//! Owns the limits that a run must keep, such as `match_p99_ms<2000`.
//! Never ends a run: the verdict is for afterwards.

use std::fmt;
use std::str::FromStr;

use crate::{
    flow::Measure,
    measure::Summary,
    report::{Kept, Report},
};

/// A limit that one number of the report must stay below.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    what: What,
    below: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Time { measure: Measure, side: Side, of: Of },
    Faults,
    Violations,
    ServerCpuSeconds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Intended,
    Service,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    P50,
    P90,
    P99,
    Max,
}

const SIDES: [(&str, Side); 2] = [("", Side::Intended), ("service_", Side::Service)];
const OFS: [(&str, Of); 4] = [("p50", Of::P50), ("p90", Of::P90), ("p99", Of::P99), ("max", Of::Max)];

/// A text that is no threshold. Write it as told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no threshold; write NAME<NUMBER with a name such as match_p99_ms, ack_service_max_ms, faults, violations \
     or server_cpu_seconds; times are of connect, match, enter, ack, push, deliver and resume, at p50, p90, p99 or max"
)]
pub struct ThresholdError {
    text: String,
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ThresholdError { text: text.to_owned() };
        let (name, below) = text.split_once('<').ok_or_else(wrong)?;
        let below: f64 = below.trim().parse().map_err(|_| wrong())?;
        let what = names().find(|(known, _)| known == name.trim()).map(|(_, what)| what);
        let what = what.filter(|_| below.is_finite()).ok_or_else(wrong)?;
        Ok(Self { what, below })
    }
}

fn names() -> impl Iterator<Item = (String, What)> {
    let times = Measure::ALL.into_iter().flat_map(|measure| {
        SIDES.into_iter().flat_map(move |(infix, side)| {
            OFS.into_iter().map(move |(quantile, of)| {
                (format!("{}_{infix}{quantile}_ms", measure.word()), What::Time { measure, side, of })
            })
        })
    });
    times.chain([
        ("faults".to_owned(), What::Faults),
        ("violations".to_owned(), What::Violations),
        ("server_cpu_seconds".to_owned(), What::ServerCpuSeconds),
    ])
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = names().find(|(_, what)| *what == self.what).map(|(name, _)| name).unwrap_or_default();
        write!(f, "{name}<{}", self.below)
    }
}

impl Threshold {
    /// Whether a run kept this limit. A number that was not measured breaks it too.
    #[must_use]
    pub fn judge(&self, report: &Report) -> Kept {
        let value = self.value(report);
        let broken = match value {
            Some(value) if value < self.below => None,
            Some(value) => Some(format!("{self} is broken: {value:.3}")),
            None => Some(format!("{self} is broken: it was not measured")),
        };
        let is_timed = matches!(self.what, What::Time { .. });
        Kept { threshold: self.to_string(), value, broken, is_timed }
    }

    fn value(&self, report: &Report) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a count of faults is small")]
        match self.what {
            What::Time { measure, side, of } => {
                let one = report.measures.iter().find(|one| one.measure == measure);
                one.map(|one| match side {
                    Side::Intended => quantile(&one.summary, of),
                    Side::Service => quantile(&one.service, of),
                })
            }
            What::Faults => Some(f64::from(report.counts.faults)),
            What::Violations => Some(report.violations_total as f64),
            What::ServerCpuSeconds => report.server.map(|server| server.cpu_seconds),
        }
    }
}

const fn quantile(summary: &Summary, of: Of) -> f64 {
    match of {
        Of::P50 => summary.p50_ms,
        Of::P90 => summary.p90_ms,
        Of::P99 => summary.p99_ms,
        Of::Max => summary.max_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_and_told_alike() {
        for text in ["match_p99_ms<2000", "ack_service_max_ms<1.5", "faults<1", "server_cpu_seconds<3"] {
            assert_eq!(text.parse::<Threshold>().unwrap().to_string(), text);
        }
        for text in ["match_p99_ms", "match_p98_ms<1", "faults<x", "faults<inf", ""] {
            let error = text.parse::<Threshold>().unwrap_err().to_string();
            assert!(error.contains("is no threshold"), "{error}");
        }
    }

    #[test]
    fn a_number_at_or_above_its_limit_breaks_it_and_so_does_a_missing_one() {
        let report = crate::report::tests::report(Vec::new());
        let breach = |text: &str| text.parse::<Threshold>().unwrap().judge(&report).broken;
        assert_eq!(breach("match_p50_ms<60"), None);
        assert_eq!(breach("match_p50_ms<50").unwrap(), "match_p50_ms<50 is broken: 50.015");
        assert_eq!(breach("ack_p50_ms<50").unwrap(), "ack_p50_ms<50 is broken: it was not measured");
        assert_eq!(breach("violations<1"), None);
    }
}
