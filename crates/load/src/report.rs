//! Owns what is told of a run, while it runs and afterwards, to people and programs.
//! Never decides: verdicts come in.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{flow::Measure, health::GeneratorHealth, measure::Summary, oracle::Violation};

/// The most violations that a report shows to people; programs get all that it holds.
const VIOLATIONS_SHOWN_MAX: usize = 20;

/// How many players got how far, and what they sent and received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Players who misbehave on purpose and whom the servers let go.
    pub shed: u32,
    /// Players whose room the server ended while they played.
    pub rooms_ended: u32,
    /// Players whose room was gone when they came back, which the scenario allowed.
    pub rooms_lost: u32,
    /// Game connections that were lost or cut and came back, and how many of them as the same session.
    pub reconnects: u32,
    /// Of these, as the same session.
    pub recovered: u32,
    /// Players in game at this moment: connected there and not done. Of a whole run, the most at one moment.
    pub held: u32,
    /// Input events sent to game servers.
    pub inputs_sent: u64,
    /// Events received from game servers.
    pub events_received: u64,
}

impl Counts {
    /// Takes those of other players in.
    pub fn add(&mut self, other: &Self) {
        self.arrived += other.arrived;
        self.assigned += other.assigned;
        self.playing += other.playing;
        self.finished += other.finished;
        self.faults += other.faults;
        self.shed += other.shed;
        self.rooms_ended += other.rooms_ended;
        self.rooms_lost += other.rooms_lost;
        self.reconnects += other.reconnects;
        self.recovered += other.recovered;
        self.held += other.held;
        self.inputs_sent += other.inputs_sent;
        self.events_received += other.events_received;
    }
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Since the start.
    pub second: u32,
    /// Until then.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What the servers used during a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ServerUse {
    /// Processes that were looked at.
    pub processes: u32,
    /// Their processor seconds together.
    pub cpu_seconds: f64,
    /// Their resident memory together when it was largest, in bytes.
    pub memory_bytes_max: u64,
    /// What that memory grew by from the start, for each player.
    pub memory_bytes_per_player: u64,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeasureSummary {
    /// Which.
    pub measure: Measure,
    /// Its times from the intended beginnings.
    #[serde(flatten)]
    pub summary: Summary,
    /// Its times from the real beginnings.
    pub service: Summary,
    /// The distribution of the first: shares of all, and the milliseconds that they do not exceed.
    pub curve: Vec<(f64, f64)>,
}

/// Something that was done to the servers while players played.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// Since the start.
    pub second: u32,
    /// What, as it was planned.
    pub text: String,
}

/// A limit and whether it was kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kept {
    /// As it was written, `match_p99_ms<2000`.
    pub threshold: String,
    /// The number it is about, if it was measured.
    pub value: Option<f64>,
    /// What is wrong by it, in words; `None` when it was kept.
    pub broken: Option<String>,
    /// Whether it is about times, which prove nothing when the generator was the bottleneck.
    pub is_timed: bool,
}

/// Everything about a run that is over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this shape: 3.
    pub version: u32,
    /// The scenario's name.
    pub scenario: String,
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
    /// What the servers used, if that could be read.
    pub server: Option<ServerUse>,
    /// What was done to the servers meanwhile.
    pub marks: Vec<Mark>,
    /// The limits that were asked for.
    pub thresholds: Vec<Kept>,
    /// The counts over time, once a second, in long runs less often.
    pub samples: Vec<Sample>,
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
        let Self { scenario, players, seed, elapsed_seconds, rooms, counts, generator, .. } = self;
        let Counts {
            arrived,
            assigned,
            playing,
            finished,
            rooms_ended,
            inputs_sent,
            events_received,
            held,
            ..
        } = counts;
        writeln!(f, "{scenario}: {players} players, seed {seed}, {elapsed_seconds:.1} s, {rooms} rooms")?;
        writeln!(
            f,
            "arrived {arrived}, matched {assigned}, in game {playing} and at most {held} at once, finished {finished}, \
             of these by the end of the room {rooms_ended}"
        )?;
        self.write_breaks(f)?;
        writeln!(f, "inputs sent {inputs_sent}, events received {events_received}")?;
        writeln!(f)?;
        writeln!(f, "{:<18}{:>8}{:>10}{:>10}{:>10}{:>10}", "ms", "count", "p50", "p90", "p99", "max")?;
        let rows = self.measures.iter().flat_map(|one| {
            let title = one.measure.title();
            [(title.to_owned(), one.summary), (format!("  {}", "service alone"), one.service)]
        });
        for (title, summary) in rows.chain([("generator lag".to_owned(), generator.timer_lag)]) {
            let Summary { count, p50_ms, p90_ms, p99_ms, max_ms } = summary;
            writeln!(f, "{title:<18}{count:>8}{p50_ms:>10.1}{p90_ms:>10.1}{p99_ms:>10.1}{max_ms:>10.1}")?;
        }
        writeln!(f)?;
        let GeneratorHealth { cpu_seconds, cpu_share, memory_bytes, invalid, .. } = generator;
        writeln!(
            f,
            "generator: {cpu_seconds:.2} CPU seconds, {:.0} % of one core, {} MiB; for each player {} bytes",
            cpu_share * 100.0,
            memory_bytes / (1024 * 1024),
            memory_bytes / u64::from((*players).max(1)),
        )?;
        if let Some(ServerUse { processes, cpu_seconds, memory_bytes_max, memory_bytes_per_player }) =
            self.server
        {
            let mib = memory_bytes_max / (1024 * 1024);
            let kib = memory_bytes_per_player.div_ceil(1024);
            let cpu_ms = cpu_seconds * 1e3 / f64::from((*players).max(1));
            writeln!(
                f,
                "servers: {processes} processes, {cpu_seconds:.2} CPU seconds, {mib} MiB; \
                 for each player {cpu_ms:.1} ms and {kib} KiB"
            )?;
        }
        for Kept { threshold, broken, .. } in &self.thresholds {
            writeln!(f, "{}", broken.clone().unwrap_or_else(|| format!("{threshold} is kept")))?;
        }
        if !invalid.is_empty() {
            writeln!(f, "this run is invalid: the generator was the bottleneck ({})", invalid.join("; "))?;
        }
        self.write_violations(f)
    }
}

impl Report {
    /// What became of connections that were lost or cut, and what was done to the servers.
    fn write_breaks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { reconnects, recovered, rooms_lost, shed, .. } = self.counts;
        if reconnects > 0 || rooms_lost > 0 {
            writeln!(
                f,
                "came back {reconnects} times, as the same session {recovered}; rooms gone for {rooms_lost} players"
            )?;
        }
        if shed > 0 {
            writeln!(f, "slow or silent players let go by the servers {shed}")?;
        }
        for Mark { second, text } in &self.marks {
            writeln!(f, "at {second} s {text}")?;
        }
        Ok(())
    }

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
pub(crate) mod tests {
    use super::*;
    use crate::measure::Times;

    pub(crate) fn report(violations: Vec<Violation>) -> Report {
        let mut times = Times::default();
        for ms in 1..=100 {
            times.record(Duration::from_millis(ms));
        }
        Report {
            version: 3,
            scenario: "lobby-match-game".into(),
            outcome: if violations.is_empty() { Outcome::Passed } else { Outcome::Failed },
            seed: 7,
            players: 100,
            elapsed_seconds: 12.34,
            rooms: 25,
            counts: Counts { arrived: 100, assigned: 100, playing: 100, finished: 100, ..Counts::default() },
            measures: Measure::ALL
                .into_iter()
                .take(3)
                .map(|measure| MeasureSummary {
                    measure,
                    summary: times.summary(),
                    service: times.summary(),
                    curve: vec![(0.5, 50.0)],
                })
                .collect(),
            generator: GeneratorHealth::judge(Duration::from_secs(9), 0.9, 30 << 20, &times),
            server: Some(ServerUse {
                processes: 3,
                cpu_seconds: 2.5,
                memory_bytes_max: 64 << 20,
                memory_bytes_per_player: 3_000,
            }),
            marks: Vec::new(),
            thresholds: Vec::new(),
            samples: vec![Sample { second: 1, counts: Counts::default() }],
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
