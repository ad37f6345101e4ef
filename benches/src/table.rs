//! Figures of many runs: their medians, and ratios to the first server.
//! Never drops a run: the JSON holds every one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::scenario::Figures;

/// By scenario, then figure, then server: one number for each run.
#[derive(Default)]
pub(crate) struct Table {
    runs: BTreeMap<String, BTreeMap<&'static str, BTreeMap<String, Vec<f64>>>>,
}

impl Table {
    pub(crate) fn add(&mut self, scenario: &str, server: &str, figures: &Figures) {
        let by_figure = self.runs.entry(scenario.to_owned()).or_default();
        for (name, figure) in figures {
            let by_server = by_figure.entry(name).or_default();
            by_server.entry(server.to_owned()).or_default().push(*figure);
        }
    }

    /// A Markdown table: the median of each server, and behind it how many times the first server's.
    pub(crate) fn render(&self, servers: &[String]) -> String {
        let mut text = format!("| scenario | figure | {} | n |\n", servers.join(" | "));
        let _infallible = writeln!(text, "|---|---|{}---|", "---|".repeat(servers.len()));
        for (scenario, figures) in &self.runs {
            for (figure, by_server) in figures {
                let first =
                    servers.first().and_then(|name| by_server.get(name)).and_then(|runs| median(runs));
                let cells = servers.iter().map(|server| {
                    let own = by_server.get(server).and_then(|runs| median(runs));
                    match (own, first) {
                        (Some(own), Some(first)) if servers[0] != *server && first > 0.0 => {
                            format!("{} ({:.2}x)", rounded(own), own / first)
                        }
                        (Some(own), _) => rounded(own),
                        (None, _) => "-".to_owned(),
                    }
                });
                let cells: Vec<String> = cells.collect();
                let runs = by_server.values().map(Vec::len).max().unwrap_or(0);
                let _infallible =
                    writeln!(text, "| {scenario} | {figure} | {} | {runs} |", cells.join(" | "));
            }
        }
        text
    }

    pub(crate) fn to_json(&self) -> String {
        let runs: Value = json!(self.runs);
        format!("{runs:#}\n")
    }
}

fn median(runs: &[f64]) -> Option<f64> {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { *upper } else { f64::midpoint(*upper, sorted[middle - 1]) })
}

fn rounded(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        small if small < 10.0 => format!("{figure:.2}"),
        middle if middle < 1_000.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_run_counts_and_ratios_are_to_the_first_server() {
        let mut table = Table::default();
        for (server, figure) in [("a", 3.0), ("a", 1.0), ("a", 2.0), ("b", 5.0), ("b", 7.0)] {
            table.add("echo", server, &Figures::from([("cpu_s", figure)]));
        }
        let text = table.render(&["a".to_owned(), "b".to_owned(), "c".to_owned()]);
        assert!(text.ends_with("| echo | cpu_s | 2.00 | 6.00 (3.00x) | - | 3 |\n"), "{text}");
    }
}
