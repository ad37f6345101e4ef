//! Looks at the control plane while `dev` runs: tells what the start waits for, and which game servers die and why.
//!
//! Never ends the wait itself: what is not ready stays visible, and Ctrl-C works.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_client::ControlClient;
use greenroom_core::FleetName;
use greenroom_wire::api::{FleetStatus, ServerFailure, StateWord};
use tokio::time::Instant;

use crate::print;

/// Time between two looks until the start is over.
const PERIOD: Duration = Duration::from_millis(150);
/// The same afterwards.
const PERIOD_LATER: Duration = Duration::from_secs(1);
/// After this time the troubles of servers that do not answer are told.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long the same failure of a fleet is not told again.
const TOLD_FOR_MS: u64 = 60_000;
/// How much of the end of an output is looked at.
const OUTPUT_BYTES: u32 = 4_096;
/// Lines of it that are shown.
const OUTPUT_LINES: usize = 12;

/// What has been told so far.
#[derive(Debug)]
pub(super) struct Readiness {
    control: ControlClient,
    /// ` --server URL`, where that is needed.
    flag: String,
    began_at: Instant,
    next_at: Instant,
    ready: bool,
    told: BTreeSet<String>,
    /// The failure of each fleet that was told last: its cause and when.
    failures: BTreeMap<FleetName, (String, u64)>,
    /// Fleets of which a server was told that runs and does not answer.
    troubled: BTreeSet<FleetName>,
    /// Fleets that were told to have a failure and are short since.
    short: BTreeSet<FleetName>,
}

impl Readiness {
    pub(super) fn new(control: ControlClient, flag: String) -> Self {
        let now = Instant::now();
        Self {
            control,
            flag,
            began_at: now,
            next_at: now + PERIOD,
            ready: false,
            told: BTreeSet::new(),
            failures: BTreeMap::new(),
            troubled: BTreeSet::new(),
            short: BTreeSet::new(),
        }
    }

    /// When to look next.
    pub(super) async fn next_look(&self) {
        tokio::time::sleep_until(self.next_at).await;
    }

    /// Looks, tells what is new, and gives whether everything is ready: `true` exactly once.
    pub(super) async fn look(&mut self) -> bool {
        // Not listening yet, or on its way back: nothing new.
        let fleets = self.control.fleets().await.map(|list| list.fleets).unwrap_or_default();
        for fleet in &fleets {
            self.tell_failure(fleet).await;
        }
        let turned_ready = !self.ready && self.turns_ready(&fleets).await;
        self.next_at = Instant::now() + if self.ready { PERIOD_LATER } else { PERIOD };
        turned_ready
    }

    async fn turns_ready(&mut self, fleets: &[FleetStatus]) -> bool {
        let Ok(readiness) = self.control.readiness().await else { return false };
        if readiness.ready {
            let took = self.began_at.elapsed();
            print::line(format!("  ready    after {:.1} s", took.as_secs_f64()));
            self.ready = true;
            return true;
        }
        let short = |fleet: &&FleetStatus| fleet.ready < fleet.replicas_min;
        for fleet in fleets.iter().filter(short) {
            self.tell_once(format!(
                "{}: {} of {} game servers answer",
                fleet.name, fleet.ready, fleet.replicas_min
            ));
        }
        if self.began_at.elapsed() >= PATIENCE {
            self.tell_troubles().await;
        }
        false
    }

    /// Servers that run and do not answer: mostly they listen elsewhere than on `$PORT`.
    async fn tell_troubles(&mut self) {
        let servers = self.control.gameservers(None).await.map(|list| list.gameservers).unwrap_or_default();
        for server in servers {
            let waits = matches!(server.state, StateWord::Starting | StateWord::Unhealthy);
            // Those that died are told as failures; one of a fleet stands for the others.
            let runs = server.pid.is_some() && server.restarts == 0 && !server.message.is_empty();
            let fleet = &server.fleet.0;
            if waits && runs && !self.failures.contains_key(fleet) && self.troubled.insert(fleet.clone()) {
                self.tell_once(format!("{} at {}: {}", server.name, server.endpoint, server.message));
            }
        }
    }

    fn tell_once(&mut self, what: String) {
        if !self.told.contains(&what) {
            print::line(format!("  waiting  {what}"));
            self.told.insert(what);
        }
    }

    async fn tell_failure(&mut self, fleet: &FleetStatus) {
        let name = &fleet.name.0;
        if fleet.ready >= fleet.replicas_min && self.short.remove(name) && self.ready {
            print::line(format!("  ready    fleet {name}: {} game servers answer again", fleet.ready));
        }
        let Some(failure) = &fleet.last_failure else { return };
        if !is_news(self.failures.get(name), failure) {
            return;
        }
        self.failures.insert(name.clone(), (cause(&failure.message).to_owned(), failure.at_ms));
        if fleet.ready < fleet.replicas_min {
            self.short.insert(name.clone());
        }
        print::line(format!("  FAILED   {} {}", failure.server, failure.message));
        let output = self.control.logs(&failure.server.0, None, Some(OUTPUT_BYTES)).await;
        let output = output.map(|output| output.text).unwrap_or_default();
        for line in last_lines(&output) {
            print::line(format!("           | {line}"));
        }
        print::line(format!("           more: greenroom logs {}{}", failure.server, self.flag));
    }
}

/// Whether a failure is worth a word: another cause than the last one told, or that was long ago.
fn is_news(told: Option<&(String, u64)>, failure: &ServerFailure) -> bool {
    told.is_none_or(|(told, at_ms)| {
        told != cause(&failure.message) || failure.at_ms >= at_ms.saturating_add(TOLD_FOR_MS)
    })
}

/// What is the same in "exited with code 1" and in "died 6 times within 60 s; the last time: exited with code 1", and
/// in what is told of servers on different ports that do not answer.
fn cause(message: &str) -> &str {
    let message = message.rsplit_once("the last time: ").map_or(message, |(_, cause)| cause);
    message.split_once("start_timeout: ").map_or(message, |(cause, _)| cause)
}

/// The last lines, each once: a server that is started again says the same again.
fn last_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().rev().map(str::trim_end).filter(|line| !line.is_empty()) {
        if lines.len() == OUTPUT_LINES {
            break;
        }
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_when_its_cause_is_new_and_again_after_a_minute() {
        let told = ("exited with code 64: bad number".to_owned(), 1_000);
        let deaf = ("did not answer within its fleet's ".to_owned(), 1_000);
        let cases = [
            (None, "exited with code 64: bad number", 1_000, true),
            (Some(&told), "exited with code 64: bad number", 1_000, false),
            (Some(&told), "exited with code 64: bad number", 5_000, false),
            (
                Some(&told),
                "died 6 times within 60 s; the last time: exited with code 64: bad number",
                9_000,
                false,
            ),
            (Some(&told), "exited with code 64: bad number", 61_000, true),
            (Some(&told), "exited with code 1", 2_000, true),
            (Some(&deaf), "did not answer within its fleet's start_timeout: port 7001", 2_000, false),
        ];
        for (told, message, at_ms, news) in cases {
            let server = greenroom_wire::Text("arena-1".parse().expect("a name"));
            let failure = ServerFailure { server, message: message.to_owned(), at_ms };
            assert_eq!(is_news(told, &failure), news, "{message} at {at_ms}");
        }
    }

    #[test]
    fn repeated_lines_of_an_output_are_shown_once_and_in_order() {
        assert_eq!(last_lines("start\nbad\n\nstart\nbad\n"), ["start", "bad"]);
        let many: String = (0..20).map(|number| format!("{number}\n")).collect();
        assert_eq!(last_lines(&many), ["8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19"]);
        assert!(last_lines("").is_empty());
    }
}
