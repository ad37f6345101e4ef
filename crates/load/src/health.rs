//! Owns whether the generator itself may be trusted: its processor time, the lag of its timers, its file limit.
//! Never judges the servers.

use std::{fs, time::Duration};

use rustix::{
    param::page_size,
    process::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};
use serde::Serialize;

use crate::measure::{Summary, Times};

/// The timers may be this late at the 99th percentile.
pub const LAG_P99_MAX: Duration = Duration::from_millis(50);
/// The share of one core that the generator may use.
pub const CPU_SHARE_MAX: f64 = 0.8;
/// Files that the process needs beside its players.
const FILES_RESERVED: u64 = 64;
/// Files for two players: lobby and game are open at once during the handover only, which few are in together.
const FILES_PER_TWO: u64 = 3;

/// How the generator did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GeneratorHealth {
    /// Processor seconds of all processes of the generator.
    pub cpu_seconds: f64,
    /// The busiest process's share of one core over the run.
    pub cpu_share: f64,
    /// What the resident memory of all processes of the generator grew by, from before there were players to its peak.
    pub memory_bytes: u64,
    /// How late actions began.
    pub timer_lag: Summary,
    /// Why the measures of this run mean nothing; empty when they can be trusted.
    pub invalid: Vec<String>,
}

impl GeneratorHealth {
    /// The verdict on a run that took `cpu` of the generator's threads, the busiest of which used `cpu_share` of a core,
    /// and so much memory.
    #[must_use]
    pub fn judge(cpu: Duration, cpu_share: f64, memory_bytes: u64, lag: &Times) -> Self {
        let cpu_seconds = cpu.as_secs_f64();
        let timer_lag = lag.summary();
        let mut invalid = Vec::new();
        if lag.at(0.99) > LAG_P99_MAX {
            invalid.push(format!(
                "timer lag p99 {:.0} ms is above {} ms",
                timer_lag.p99_ms,
                LAG_P99_MAX.as_millis()
            ));
        }
        if cpu_share > CPU_SHARE_MAX {
            invalid.push(format!(
                "the generator used {:.0} % of one core, more than {:.0} %",
                cpu_share * 100.0,
                CPU_SHARE_MAX * 100.0
            ));
        }
        Self { cpu_seconds, cpu_share, memory_bytes, timer_lag, invalid }
    }
}

/// Processor time of the calling thread until now.
#[must_use]
pub fn thread_cpu() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(spent.tv_sec).unwrap_or_default(),
        u32::try_from(spent.tv_nsec).unwrap_or_default(),
    )
}

/// How the resident memory of this process grows.
#[derive(Debug)]
pub struct Memory {
    first: u64,
    most: u64,
}

impl Memory {
    /// Looks for the first time.
    #[must_use]
    pub fn first_look() -> Self {
        let first = resident_bytes();
        Self { first, most: first }
    }

    /// Looks again. A peak between two looks is missed.
    pub fn look(&mut self) {
        self.most = self.most.max(resident_bytes());
    }

    /// Bytes between the first look and the largest; 0 where the system does not tell.
    #[must_use]
    pub fn grown_bytes(&self) -> u64 {
        self.most - self.first
    }
}

/// 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let told = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = told.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or_default() * page_size() as u64
}

/// How many players a process that may open `files_max` files can hold; `None` stands for no limit.
#[must_use]
pub fn players_possible(files_max: Option<u64>) -> u64 {
    files_max.map_or(u64::MAX, |files| files.saturating_sub(FILES_RESERVED) * 2 / FILES_PER_TWO)
}

/// Raises this process's file limit as far as it may by itself, and gives the limit; `None` when there is none.
/// Calling it again changes nothing.
#[must_use]
pub fn raise_file_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let wanted = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        // Refused only by systems with a lower bound of their own; then the present limit stands.
        if setrlimit(Resource::Nofile, wanted).is_ok() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    limit.current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_or_busy_generator_makes_the_run_invalid() {
        let cases = [
            ("calm", 1, 0.3, vec![]),
            ("late", 80, 0.3, vec!["timer lag p99 80 ms is above 50 ms".to_owned()]),
            ("busy", 1, 0.9, vec!["the generator used 90 % of one core, more than 80 %".to_owned()]),
        ];
        for (name, lag_ms, cpu_share, invalid) in cases {
            let mut lag = Times::default();
            lag.record(Duration::from_millis(lag_ms));
            let health = GeneratorHealth::judge(Duration::from_secs(1), cpu_share, 0, &lag);
            assert_eq!(health.invalid, invalid, "{name}");
        }
    }

    #[test]
    fn a_file_limit_is_a_number_of_players() {
        for (files, players) in [(None, u64::MAX), (Some(0), 0), (Some(64), 0), (Some(1024), 640)] {
            assert_eq!(players_possible(files), players, "{files:?}");
        }
    }

    #[test]
    fn memory_that_was_given_back_counts_when_it_was_looked_at() {
        const BYTES: usize = 64 << 20;
        let mut memory = Memory::first_look();
        assert_eq!(memory.grown_bytes(), 0);
        let held = std::hint::black_box(vec![1_u8; BYTES]);
        memory.look();
        drop(held);
        memory.look();
        assert!(memory.grown_bytes() >= BYTES as u64 / 2, "{memory:?}");
    }

    #[test]
    fn the_threads_processor_time_goes_forward() {
        let before = thread_cpu();
        let mut sum = 0_u64;
        while thread_cpu() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(thread_cpu() > before);
    }
}
