//! What a run shows while it goes on: a few lines that stand still on a terminal, else one line a second.
//!
//! Never on the standard output: that is for the report.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use greenroom_load::Progress;

/// Columns of the bar.
const BAR: u32 = 40;
/// Seconds of the curve of events.
const CURVE: usize = 40;
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The view of one run.
pub(super) struct Live {
    stands: bool,
    lines: usize,
    events: Vec<u64>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self { stands: std::io::stderr().is_terminal(), lines: 0, events: Vec::new() }
    }

    /// Shows how far the run is.
    pub(super) fn show(&mut self, progress: &Progress) {
        if !self.stands {
            eprintln!("{progress}");
            return;
        }
        self.events.push(progress.counts.events_received);
        let view = view(progress, &self.events);
        let up = if self.lines > 0 { format!("\x1b[{}A\x1b[J", self.lines) } else { String::new() };
        self.lines = view.lines().count();
        let mut out = std::io::stderr().lock();
        let _terminal_gone = write!(out, "{up}{view}").and_then(|()| out.flush());
    }
}

fn view(progress: &Progress, events: &[u64]) -> String {
    let counts = &progress.counts;
    let mut view = format!("{:.0} s\n", progress.elapsed.as_secs_f64());
    let rows = [
        ("arrived", counts.arrived),
        ("matched", counts.assigned),
        ("been in game", counts.playing),
        ("in game now", counts.held),
        ("finished", counts.finished),
    ];
    for (title, count) in rows {
        let written = writeln!(view, "{title:>14} {} {count}", bar(count, progress.players));
        written.expect("a String takes everything");
    }
    let faults = if counts.faults > 0 { format!("\x1b[31m{}\x1b[0m", counts.faults) } else { "0".to_owned() };
    let (back, kept) = (counts.reconnects, counts.recovered);
    let rate = rates(events);
    let last = rate.last().copied().unwrap_or_default();
    let written = writeln!(
        view,
        "{:>14} {faults}    came back {back}, as the same session {kept}\n{:>14} {} {last} a second",
        "faults",
        "events",
        curve(&rate)
    );
    written.expect("a String takes everything");
    view
}

fn bar(count: u32, players: u32) -> String {
    let full = u64::from(count) * u64::from(BAR) / u64::from(players.max(1));
    let full = u32::try_from(full).unwrap_or(BAR).min(BAR);
    (0..BAR).map(|column| if column < full { '█' } else { '·' }).collect()
}

fn rates(events: &[u64]) -> Vec<u64> {
    let rates: Vec<_> = events.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    rates[rates.len().saturating_sub(CURVE)..].to_vec()
}

fn curve(rates: &[u64]) -> String {
    let most = rates.iter().copied().max().unwrap_or_default().max(1);
    let step = |rate: &u64| usize::try_from(rate * 7 / most).unwrap_or(7);
    rates.iter().map(|rate| STEPS[step(rate)]).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use greenroom_load::report::Counts;

    use super::*;

    #[test]
    fn a_run_under_way_is_seen_at_a_glance() {
        let counts = Counts {
            arrived: 200,
            assigned: 160,
            playing: 120,
            held: 80,
            finished: 40,
            reconnects: 7,
            recovered: 5,
            events_received: 9_000,
            ..Counts::default()
        };
        let progress = Progress { elapsed: Duration::from_secs(12), players: 200, counts };
        insta::assert_snapshot!(view(&progress, &[0, 100, 1_100, 5_100, 9_000]));
    }
}
