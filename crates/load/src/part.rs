//! Owns what one process saw of a run, and how several become one.
//! Never judges it before all have come together.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Outcome, Report, Scenario,
    flow::Measure,
    health::GeneratorHealth,
    measure::{Measures, Times},
    oracle::{Coverage, Ledger},
    report::{Counts, MeasureSummary, Sample, ServerUse},
};

/// Violations that a report holds.
const VIOLATIONS_MAX: usize = 1_000;

/// What one process saw of a run. Merging loses nothing: histograms are added count by count, and the oracles judge
/// the merged ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    pub(crate) coverage: Coverage,
    pub(crate) elapsed: Duration,
    pub(crate) counts: Counts,
    pub(crate) measures: Measures,
    pub(crate) ledger: Ledger,
    pub(crate) lag: Times,
    pub(crate) cpu: Duration,
    /// The same as a share of one core, of the busiest process.
    pub(crate) cpu_share: f64,
    /// What the resident memory grew by at most.
    pub(crate) memory_bytes: u64,
    pub(crate) samples: Vec<Sample>,
    pub(crate) actions: Vec<(u32, String)>,
}

impl Part {
    /// Takes what another process saw of the same run in.
    pub fn merge(&mut self, other: Self) {
        if other.coverage == Coverage::Cut {
            self.coverage = Coverage::Cut;
        }
        self.elapsed = self.elapsed.max(other.elapsed);
        self.counts.add(&other.counts);
        self.measures.merge(&other.measures);
        self.ledger.merge(other.ledger);
        self.lag.merge(&other.lag);
        self.actions.extend(other.actions);
        self.cpu += other.cpu;
        self.cpu_share = self.cpu_share.max(other.cpu_share);
        self.memory_bytes += other.memory_bytes;
        if self.samples.len() < other.samples.len() {
            let last = self.samples.last().copied().unwrap_or_default();
            let longer = other.samples[self.samples.len()..].iter();
            self.samples.extend(longer.map(|sample| Sample { second: sample.second, ..last }));
        }
        let last = other.samples.last().copied().unwrap_or_default();
        for (nth, sample) in self.samples.iter_mut().enumerate() {
            sample.counts.add(&other.samples.get(nth).copied().unwrap_or(last).counts);
        }
    }

    /// What each player did, in words without moments, in the player's own order; players by number. Empty unless
    /// [`crate::Share::keeps_actions`] was set.
    #[must_use]
    pub fn actions(&self) -> Vec<(u32, String)> {
        let mut actions = self.actions.clone();
        actions.sort_by_key(|(player, _)| *player);
        actions
    }

    /// The report of a run that this is all of. `server` is what the servers used, if that could be read.
    #[must_use]
    pub fn report(&self, scenario: &Scenario, server: Option<ServerUse>) -> Report {
        let (mut violations, violations_total) = self.ledger.judge(self.coverage);
        violations.truncate(VIOLATIONS_MAX);
        let outcome = match (violations_total == 0, self.coverage) {
            (false, Coverage::Whole | Coverage::Cut) => Outcome::Failed,
            (true, Coverage::Whole) => Outcome::Passed,
            (true, Coverage::Cut) => Outcome::Stopped,
        };
        let summary = |measure| {
            let (intended, service) = (self.measures.intended(measure)?, self.measures.service(measure)?);
            Some(MeasureSummary {
                measure,
                summary: intended.summary(),
                service: service.summary(),
                curve: intended.curve(),
            })
        };
        let held = self.samples.iter().map(|sample| sample.counts.held).max().unwrap_or_default();
        Report {
            version: 3,
            scenario: scenario.name.clone(),
            outcome,
            seed: scenario.seed,
            players: scenario.players,
            elapsed_seconds: self.elapsed.as_secs_f64(),
            rooms: u32::try_from(self.ledger.rooms()).unwrap_or(u32::MAX),
            counts: Counts { held, ..self.counts },
            measures: Measure::ALL.into_iter().filter_map(summary).collect(),
            generator: GeneratorHealth::judge(self.cpu, self.cpu_share, self.memory_bytes, &self.lag),
            server,
            marks: Vec::new(),
            thresholds: Vec::new(),
            samples: self.samples.clone(),
            violations,
            violations_total,
        }
    }
}
