//! Owns what is told of a run, while it runs and afterwards, to people and programs.
//! Never decides: verdicts come in.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{flow::Measure, health::GeneratorHealth, measure::Summary, oracle::Violation};

/// The most violations that a report shows to people; programs get all that it holds.
const VIOLATIONS_SHOWN_MAX: usize = 20;

/// How many players got how far, and what they sent and received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Players who began.
    pub arrived: u32,
    /// Players who were assigned a seat; a second assignment counts again.
    pub assigned: u32,
    /// Players who came to play.
    pub playing: u32,
    /// Players who did all their steps.
    pub finished: u32,
    /// Faults of players: refused, lost, failed.
    pub faults: u32,
    /// Players whose room the server ended while they played.
    pub rooms_ended: u32,
    /// Input events sent to game servers.
    pub inputs_sent: u64,
    /// Events received from game servers.
    pub events_received: u64,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Since the start.
    pub elapsed: Duration,
    /// Players in all.
    pub players: u32,
    /// Until now.
    pub counts: Counts,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { arrived, assigned, playing, finished, faults, events_received, .. } = self.counts;
        write!(
            f,
            "{:6.1} s  arrived {arrived}/{}  matched {assigned}  in game {playing}  finished {finished}  \
             faults {faults}  events {events_received}",
            self.elapsed.as_secs_f64(),
            self.players,
        )
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was wrong.
    Passed,
    /// An oracle was violated.
    Failed,
    /// It was stopped before its end, and nothing was wrong until then.
    Stopped,
}

/// A measured stretch of the way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeasureSummary {
    /// Which.
    pub measure: Measure,
    /// Its times.
    #[serde(flatten)]
    pub summary: Summary,
}

/// Everything about a run that is over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this shape: 1.
    pub version: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The seed that makes the same schedule again.
    pub seed: u64,
    /// Players asked for.
    pub players: u32,
    /// How long it took.
    pub elapsed_seconds: f64,
    /// Rooms that players were sent to.
    pub rooms: u32,
    /// How far the players got.
    pub counts: Counts,
    /// Each stretch of the way, in its order.
    pub measures: Vec<MeasureSummary>,
    /// The generator itself.
    pub generator: GeneratorHealth,
    /// What was wrong, at most 1,000.
    pub violations: Vec<Violation>,
    /// How much was wrong in all.
    pub violations_total: u64,
}

impl Report {
    /// The exit code that tells the outcome: 0 when everything was right, else 1. A run with an overloaded generator is
    /// right as far as its oracles go; `generator.invalid` tells that its times mean nothing.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.outcome {
            Outcome::Passed => 0,
            Outcome::Failed | Outcome::Stopped => 1,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { players, seed, elapsed_seconds, rooms, counts, generator, .. } = self;
        let Counts {
            arrived, assigned, playing, finished, rooms_ended, inputs_sent, events_received, ..
        } = counts;
        writeln!(f, "{players} players, seed {seed}, {elapsed_seconds:.1} s, {rooms} rooms")?;
        writeln!(
            f,
            "arrived {arrived}, matched {assigned}, in game {playing}, finished {finished}, \
             of these by the end of the room {rooms_ended}"
        )?;
        writeln!(f, "inputs sent {inputs_sent}, events received {events_received}")?;
        writeln!(f)?;
        writeln!(f, "{:<18}{:>8}{:>10}{:>10}{:>10}{:>10}", "ms", "count", "p50", "p90", "p99", "max")?;
        let lag = ("generator lag", generator.timer_lag);
        for (title, summary) in
            self.measures.iter().map(|one| (one.measure.title(), one.summary)).chain([lag])
        {
            let Summary { count, p50_ms, p90_ms, p99_ms, max_ms } = summary;
            writeln!(f, "{title:<18}{count:>8}{p50_ms:>10.1}{p90_ms:>10.1}{p99_ms:>10.1}{max_ms:>10.1}")?;
        }
        writeln!(f)?;
        let GeneratorHealth { cpu_seconds, cpu_share, invalid, .. } = generator;
        writeln!(f, "generator: {cpu_seconds:.2} CPU seconds, {:.0} % of one core", cpu_share * 100.0)?;
        if !invalid.is_empty() {
            writeln!(f, "this run is invalid: the generator was the bottleneck ({})", invalid.join("; "))?;
        }
        self.write_violations(f)
    }
}

impl Report {
    fn write_violations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Outcome::Passed => return write!(f, "passed: every player was where they belonged"),
            Outcome::Stopped => return write!(f, "stopped before the end; nothing was wrong until then"),
            Outcome::Failed => write!(f, "failed: {} things were wrong", self.violations_total)?,
        }
        for violation in self.violations.iter().take(VIOLATIONS_SHOWN_MAX) {
            write!(f, "\n  {violation}")?;
        }
        let shown = u64::try_from(VIOLATIONS_SHOWN_MAX).expect("a small number");
        if self.violations_total > shown {
            write!(f, "\n  and {} more, in the JSON report", self.violations_total - shown)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Times;

    fn report(violations: Vec<Violation>) -> Report {
        let mut times = Times::default();
        for ms in 1..=100 {
            times.record(Duration::from_millis(ms));
        }
        Report {
            version: 1,
            outcome: if violations.is_empty() { Outcome::Passed } else { Outcome::Failed },
            seed: 7,
            players: 100,
            elapsed_seconds: 12.34,
            rooms: 25,
            counts: Counts { arrived: 100, assigned: 100, playing: 100, finished: 100, ..Counts::default() },
            measures: Measure::ALL
                .map(|measure| MeasureSummary { measure, summary: times.summary() })
                .to_vec(),
            generator: GeneratorHealth::judge(Duration::from_secs(10), Duration::from_secs(9), &times),
            violations_total: violations.len() as u64,
            violations,
        }
    }

    #[test]
    fn a_report_reads_well() {
        insta::assert_snapshot!("passed", report(Vec::new()));
        let many = (0..25).map(|i| Violation::NotAssigned { player: format!("p{i}") }).collect();
        insta::assert_snapshot!("failed", report(many));
    }

    #[test]
    fn a_report_is_json_for_programs() {
        let violations =
            vec![Violation::MatchSize { room: "r".into(), expected: 4, players: vec!["p".into()] }];
        insta::assert_json_snapshot!("json", report(violations));
    }

    #[test]
    fn progress_fits_a_line() {
        let progress = Progress {
            elapsed: Duration::from_millis(2_340),
            players: 200,
            counts: Counts {
                arrived: 50,
                assigned: 48,
                playing: 44,
                events_received: 1_234,
                ..Counts::default()
            },
        };
        insta::assert_snapshot!(progress, @"   2.3 s  arrived 50/200  matched 48  in game 44  finished 0  faults 0  events 1234");
    }
}
