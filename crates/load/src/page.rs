//! Owns the report as one HTML file: verdict, numbers, plots and faults, with nothing to be fetched from elsewhere.
//! Never judges: it shows what the report says.

use std::fmt::Write as _;

use crate::{
    plot::{Line, Scale, plot},
    report::{Counts, MeasureSummary, Outcome, Report, Sample},
};

/// Faults that are listed; the JSON report has more.
const FAULTS_SHOWN_MAX: usize = 20;
const STYLE: &str = include_str!("page.css");

/// The report as a page.
#[must_use]
pub fn page(report: &Report) -> String {
    let outcome = match report.outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Stopped => "stopped",
    };
    let (name, players) = (escape(&report.scenario), report.players);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{name}: {players} players, {outcome}</title><style>{STYLE}</style>\
         <header class=\"{outcome}\"><h1>{name}</h1><strong>{outcome}</strong></header>"
    );
    put(&mut page, &verdict(report));
    put(&mut page, &tiles(report));
    put(&mut page, &thresholds(report));
    put(&mut page, &faults(report));
    put(&mut page, "<h2>Times</h2>");
    put(&mut page, &table(&report.measures));
    put(&mut page, "<h3>How many were slower</h3>");
    put(&mut page, &curves(&report.measures));
    let marks: Vec<_> =
        report.marks.iter().map(|mark| (f64::from(mark.second), escape(&mark.text))).collect();
    let marks: Vec<_> = marks.iter().map(|(at, text)| (*at, text.as_str())).collect();
    put(&mut page, "<h2>Players</h2>");
    put(&mut page, &players_over_time(&report.samples, &marks));
    put(&mut page, "<h2>Events received a second</h2>");
    let rate = Line { title: "events", points: events(&report.samples), filled: true };
    put(&mut page, &plot(&[rate], &SECONDS, &Scale::Even { unit: "" }, &marks));
    put(&mut page, &format!("<h2>In words</h2><pre>{}</pre>", escape(&report.to_string())));
    page.push_str("</html>\n");
    page
}

const SECONDS: Scale = Scale::Even { unit: " s" };

fn put(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn verdict(report: &Report) -> String {
    let (players, seed, seconds) = (report.players, report.seed, report.elapsed_seconds);
    let words = match report.outcome {
        Outcome::Passed => {
            "Every player was where they belonged, and heard what they had to hear.".to_owned()
        }
        Outcome::Failed => format!("{} things were wrong.", report.violations_total),
        Outcome::Stopped => "Stopped before the end; nothing was wrong until then.".to_owned(),
    };
    let mut text = format!("<p>{words} {players} players, {seconds:.1} s, seed {seed}.</p>");
    if !report.generator.invalid.is_empty() {
        let why = escape(&report.generator.invalid.join("; "));
        let note = format!(
            "<p class=\"invalid\"><strong>The times of this run are invalid</strong>: the generator was the bottleneck ({why}). \
             What the oracles say stands.</p>"
        );
        text.push_str(&note);
    }
    text
}

fn tiles(report: &Report) -> String {
    let Counts { held, events_received, inputs_sent, reconnects, recovered, rooms_lost, .. } = report.counts;
    let mut tiles = vec![
        (format!("{held}"), "in game at once"),
        (format!("{}", report.counts.finished), "did every step"),
        (format!("{}", report.rooms), "rooms"),
        (format!("{inputs_sent}"), "inputs sent"),
        (format!("{events_received}"), "events received"),
    ];
    if reconnects > 0 {
        tiles.push((format!("{recovered} / {reconnects}"), "sessions recovered"));
    }
    if rooms_lost > 0 {
        tiles.push((format!("{rooms_lost}"), "players whose room was gone"));
    }
    if let Some(server) = report.server {
        let players = f64::from(report.players.max(1));
        tiles.push((format!("{:.1} s", server.cpu_seconds), "CPU time of the servers"));
        tiles.push((format!("{:.1} ms", server.cpu_seconds * 1e3 / players), "of it for each player"));
        tiles.push((
            format!("{} KiB", server.memory_bytes_per_player.div_ceil(1024)),
            "server memory for each player",
        ));
    }
    let generator = &report.generator;
    tiles.push((format!("{:.0} %", generator.cpu_share * 100.0), "of a core for the generator"));
    tiles.push((format!("{:.1} ms", generator.timer_lag.p99_ms), "its timers late, p99"));
    let memory = generator.memory_bytes / u64::from(report.players.max(1));
    tiles.push((format!("{memory} B"), "its memory for each player"));
    let tiles: Vec<_> =
        tiles.into_iter().map(|(number, words)| format!("<div><b>{number}</b>{words}</div>")).collect();
    format!("<section class=\"tiles\">{}</section>", tiles.join(""))
}

fn thresholds(report: &Report) -> String {
    if report.thresholds.is_empty() {
        return String::new();
    }
    let mut table = "<h2>Limits</h2><table><tr><th>limit<th>measured<th>kept</tr>".to_owned();
    for kept in &report.thresholds {
        let value = kept.value.map_or("nothing".to_owned(), |value| format!("{value:.1}"));
        let (class, word) = if kept.broken.is_none() { ("good", "yes") } else { ("bad", "no") };
        let name = escape(&kept.threshold);
        let row = write!(table, "<tr><td><code>{name}</code><td>{value}<td class=\"{class}\">{word}</tr>");
        row.expect("a String takes everything");
    }
    table + "</table>"
}

fn faults(report: &Report) -> String {
    if report.violations.is_empty() {
        return String::new();
    }
    let mut list = "<h2>What was wrong</h2><ul class=\"faults\">".to_owned();
    for violation in report.violations.iter().take(FAULTS_SHOWN_MAX) {
        let item = write!(list, "<li>{}</li>", escape(&violation.to_string()));
        item.expect("a String takes everything");
    }
    let shown = report.violations.len().min(FAULTS_SHOWN_MAX) as u64;
    let rest = report.violations_total.saturating_sub(shown);
    if rest > 0 {
        list += &format!("<li>and {rest} more</li>");
    }
    list + "</ul>"
}

fn table(measures: &[MeasureSummary]) -> String {
    let mut table = "<table><tr><th rowspan=\"2\">ms<th rowspan=\"2\">count\
         <th colspan=\"4\" class=\"group\">from the intended moment<th colspan=\"3\" class=\"group\">service alone</tr>\
         <tr><th>p50<th>p90<th>p99<th>max<th>p50<th>p99<th>max</tr>"
        .to_owned();
    for one in measures {
        let (all, service) = (one.summary, one.service);
        let row = write!(
            table,
            "<tr><td>{}<td>{}<td>{:.1}<td>{:.1}<td><b>{:.1}</b><td>{:.1}<td>{:.1}<td>{:.1}<td>{:.1}</tr>",
            one.measure.title(),
            all.count,
            all.p50_ms,
            all.p90_ms,
            all.p99_ms,
            all.max_ms,
            service.p50_ms,
            service.p99_ms,
            service.max_ms
        );
        row.expect("a String takes everything");
    }
    table + "</table>"
}

/// Each measure's distribution: the rarer the slower, in even steps of rarity; times by powers of ten.
fn curves(measures: &[MeasureSummary]) -> String {
    let rarity = |share: f64| -(1.0 - share.min(0.999_99)).log10();
    let lines: Vec<_> = measures
        .iter()
        .map(|one| Line {
            title: one.measure.title(),
            points: one.curve.iter().map(|(share, ms)| (rarity(*share), ms.max(0.01))).collect(),
            filled: false,
        })
        .collect();
    let shares = [
        (0.0, "all"),
        (std::f64::consts::LOG10_2, "p50"),
        (1.0, "p90"),
        (2.0, "p99"),
        (3.0, "p99.9"),
        (4.0, "p99.99"),
        (5.0, "max"),
    ];
    plot(&lines, &Scale::Named(shares.to_vec()), &Scale::Tens { unit: " ms" }, &[])
}

fn players_over_time(samples: &[Sample], marks: &[(f64, &str)]) -> String {
    let line = |title, filled, pick: fn(&Counts) -> u32| {
        let point = |sample: &Sample| (f64::from(sample.second), f64::from(pick(&sample.counts)));
        Line { title, points: samples.iter().map(point).collect(), filled }
    };
    let lines = [
        line("in game now", true, |counts| counts.held),
        line("arrived", false, |counts| counts.arrived),
        line("matched", false, |counts| counts.assigned),
        line("finished", false, |counts| counts.finished),
        line("faults", false, |counts| counts.faults),
        line("came back", false, |counts| counts.reconnects),
    ];
    let told = |line: &Line<'_>| line.points.iter().any(|(_, count)| *count > 0.0);
    let lines: Vec<_> = lines.into_iter().filter(told).collect();
    plot(&lines, &SECONDS, &Scale::Even { unit: "" }, marks)
}

#[expect(clippy::cast_precision_loss, reason = "a rate is read off a plot")]
fn events(samples: &[Sample]) -> Vec<(f64, f64)> {
    samples
        .windows(2)
        .map(|pair| {
            let seconds = f64::from(pair[1].second - pair[0].second).max(1.0);
            let events = pair[1].counts.events_received - pair[0].counts.events_received;
            (f64::from(pair[1].second), events as f64 / seconds)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oracle::Violation,
        report::{Kept, Mark},
    };

    #[test]
    fn a_page_stands_alone_and_says_what_the_report_says() {
        let violation = Violation::NotAssigned { player: "<script>".into() };
        let mut report = crate::report::tests::report(vec![violation]);
        report.counts.reconnects = 9;
        report.marks = vec![Mark { second: 1, text: "kill:chat@1s".into() }];
        let broken = Some("match_p99_ms<50 is broken: 99.0".to_owned());
        report.thresholds =
            vec![Kept { threshold: "match_p99_ms<50".into(), value: Some(99.0), broken, is_timed: true }];
        report.samples.push(Sample {
            second: 2,
            counts: Counts { arrived: 5, events_received: 7, ..Counts::default() },
        });
        let page = page(&report);
        assert!(page.starts_with("<!doctype html>"));
        for part in [
            "<header class=\"failed\">",
            "The times of this run are invalid",
            "&lt;script&gt; was never assigned",
            "match_p99_ms&lt;50</code><td>99.0<td class=\"bad\">no",
            "kill:chat@1s</text>",
            "sessions recovered",
            "server memory for each player",
        ] {
            assert!(page.contains(part), "{part} is missing in {page}");
        }
        assert!(!page.contains("<script") && !page.contains("http"), "nothing is fetched from elsewhere");
        assert_eq!(page.matches("<polyline").count(), 5, "three measures, who arrived, the rate");
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }
}
