//! Owns the report as one HTML file: numbers, plots and faults, with nothing to be fetched from elsewhere.
//! Never judges: it shows what the report says.

use std::fmt::Write as _;

use crate::report::{Outcome, Report, Sample};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
const MARGIN: f64 = 48.0;
const COLORS: [&str; 6] = ["#1d6fb8", "#c2410c", "#15803d", "#7e22ce", "#b91c1c", "#0f766e"];
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:720px;margin:2rem auto;padding:0 1rem;color:#1c1917;background:#fff}\
table{border-collapse:collapse;width:100%}td,th{padding:.2rem .5rem;text-align:right;border-bottom:1px solid #e7e5e4}\
td:first-child,th:first-child{text-align:left}svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#57534e}\
.passed{color:#15803d}.failed,.stopped{color:#b91c1c}.invalid{background:#fef3c7;padding:.5rem}pre{white-space:pre-wrap}\
@media(prefers-color-scheme:dark){body{color:#e7e5e4;background:#1c1917}svg text{fill:#a8a29e}.invalid{color:#1c1917}}";

/// The report as a page.
#[must_use]
pub fn page(report: &Report) -> String {
    let outcome = match report.outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Stopped => "stopped",
    };
    let (name, players, seed) = (escape(&report.scenario), report.players, report.seed);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{name}: {players} players, {outcome}</title><style>{STYLE}</style>\
         <h1>{name}: <span class=\"{outcome}\">{outcome}</span></h1>\
         <p>{players} players, seed {seed}, {:.1} s, {} rooms, {} events received.</p>",
        report.elapsed_seconds, report.rooms, report.counts.events_received
    );
    if !report.generator.invalid.is_empty() {
        let why = escape(&report.generator.invalid.join("; "));
        put(
            &mut page,
            &format!(
                "<p class=\"invalid\">This run is invalid: the generator was the bottleneck ({why}).</p>"
            ),
        );
    }
    put(&mut page, &table(report));
    put(&mut page, "<h2>Times by share of all</h2>");
    put(&mut page, &curves(report));
    put(&mut page, "<h2>Players over time</h2>");
    let count = |pick: fn(&Sample) -> u32| -> Vec<(f64, f64)> {
        report.samples.iter().map(|sample| (f64::from(sample.second), f64::from(pick(sample)))).collect()
    };
    let lines = [
        ("arrived", count(|sample| sample.counts.arrived)),
        ("matched", count(|sample| sample.counts.assigned)),
        ("in game", count(|sample| sample.counts.playing)),
        ("finished", count(|sample| sample.counts.finished)),
        ("faults", count(|sample| sample.counts.faults)),
    ];
    put(&mut page, &plot(&lines, "s", &|value| value, &|value| format!("{value:.0}")));
    put(&mut page, "<h2>Events received per second</h2>");
    put(
        &mut page,
        &plot(&[("events/s", events(&report.samples))], "s", &|value| value, &|value| format!("{value:.0}")),
    );
    put(&mut page, &format!("<h2>In words</h2><pre>{}</pre>", escape(&report.to_string())));
    page.push_str("</html>\n");
    page
}

fn put(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn table(report: &Report) -> String {
    let mut table =
        "<table><tr><th>ms<th>count<th>p50<th>p90<th>p99<th>max<th>p99 of the service alone</tr>".to_owned();
    for one in &report.measures {
        let (all, service) = (one.summary, one.service);
        let row = write!(
            table,
            "<tr><td>{}<td>{}<td>{:.1}<td>{:.1}<td>{:.1}<td>{:.1}<td>{:.1}</tr>",
            one.measure.title(),
            all.count,
            all.p50_ms,
            all.p90_ms,
            all.p99_ms,
            all.max_ms,
            service.p99_ms
        );
        row.expect("a String takes everything");
    }
    table + "</table>"
}

/// Each measure's distribution: the rarer the slower, in even steps of rarity; times on a logarithmic scale.
fn curves(report: &Report) -> String {
    let rarity = |share: f64| -(1.0 - share.min(0.99999)).log10();
    let lines: Vec<(&str, Vec<(f64, f64)>)> = report
        .measures
        .iter()
        .map(|one| {
            let points = one.curve.iter().map(|(share, ms)| (rarity(*share), ms.max(0.001)));
            (one.measure.title(), points.collect())
        })
        .collect();
    plot(&lines, "p90 = 1, p99 = 2, p99.9 = 3", &f64::log10, &|value| format!("{:.3} ms", 10_f64.powf(value)))
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

/// Lines over one axis. `scale` is applied to each height, `label` writes a scaled height.
fn plot(
    lines: &[(&str, Vec<(f64, f64)>)],
    unit: &str,
    scale: &dyn Fn(f64) -> f64,
    label: &dyn Fn(f64) -> String,
) -> String {
    let points = || lines.iter().flat_map(|(_, points)| points);
    if points().next().is_none() {
        return "<p>Nothing was counted.</p>".to_owned();
    }
    let bounds = |pick: &dyn Fn(&(f64, f64)) -> f64| {
        let values = || points().map(pick);
        let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
        (least, if most > least { most } else { least + 1.0 })
    };
    let ((left, right), (low, high)) = (bounds(&|point| point.0), bounds(&|point| scale(point.1)));
    let x = |value: f64| MARGIN + (value - left) / (right - left) * (WIDTH - 2.0 * MARGIN);
    let y = |value: f64| HEIGHT - MARGIN / 2.0 - (scale(value) - low) / (high - low) * (HEIGHT - MARGIN);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\"><path d=\"M{MARGIN} {} V{} H{}\" fill=\"none\" stroke=\"#a8a29e\"/>\
         <text x=\"2\" y=\"{}\">{}</text><text x=\"2\" y=\"{}\">{}</text>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{right:.0} {unit}</text>",
        HEIGHT + 24.0,
        MARGIN / 2.0,
        HEIGHT - MARGIN / 2.0,
        WIDTH - MARGIN,
        MARGIN / 2.0,
        label(high),
        HEIGHT - MARGIN / 2.0,
        label(low),
        WIDTH - MARGIN,
        HEIGHT - 8.0
    );
    for (nth, (title, points)) in lines.iter().enumerate() {
        let color = COLORS[nth % COLORS.len()];
        let places: Vec<_> = points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let at = MARGIN + 100.0 * f64::from(u32::try_from(nth).expect("a few lines"));
        let drawn = write!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\
             <text x=\"{at}\" y=\"{}\" style=\"fill:{color}\">{}</text>",
            places.join(" "),
            HEIGHT + 16.0,
            escape(title)
        );
        drawn.expect("a String takes everything");
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Violation;

    #[test]
    fn a_page_stands_alone_and_says_what_the_report_says() {
        let violation = Violation::NotAssigned { player: "<script>".into() };
        let page = page(&crate::report::tests::report(vec![violation]));
        assert!(page.starts_with("<!doctype html>"));
        assert!(page.contains("class=\"failed\"") && page.contains("This run is invalid"));
        assert!(page.contains("&lt;script&gt; was never assigned") && !page.contains("<script"));
        assert!(!page.contains("http"), "nothing is fetched from elsewhere");
        assert_eq!(
            page.matches("<polyline").count(),
            8,
            "three measures and five counts; one sample makes no rate"
        );
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }
}
