//! `greenroom simulate`: scaling policies played against a trace, misses beside idle cost.
//!
//! Never asks a control plane and never changes one.

use std::time::Duration;

use clap::{Args, ValueEnum};
use greenroom_sim::replay::{Moment, Outcome, Rule, SHIPPED, ServersLive, Settings, Trace, play};
use serde_json::{Value, json};

use crate::args::{Global, Output};
use crate::failure::Failure;
use crate::{print, table};

/// What is compared when nobody says what.
const COMPARED: [&str; 8] = [
    "demand",
    "base-stock",
    "base-stock,in=600",
    "base-stock,out=0,in=600",
    "field:10",
    "field:30",
    "field:100",
    "field:20%",
];

/// Help of `--policy`: brackets would be links in a doc comment.
const POLICY_HELP: &str = "May be given several times: \
    POLICY[+POLICY][,out=S][,in=S][,settle=S][,step-out=N][,step-in=N], where POLICY is demand, base-stock[:Z], \
    buffer:N, buffer:N%, average:ROOMS, prewarm:N@FROM-UNTIL (seconds of the trace), or alone field:N or field:N% \
    (a buffer as used elsewhere, looked at each 30 s). Without it a comparison.";

/// `greenroom simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// A file of lines `seconds,arrivals,session_s`, or a shipped trace: day, spike, release, evenings.
    #[arg(long, value_name = "FILE|NAME", default_value = "day")]
    trace: String,
    /// The policies to play. Without it a comparison.
    #[arg(long, value_name = "POLICY", help = POLICY_HELP)]
    policy: Vec<Rule>,
    /// Rooms of one server.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rooms_per_server: u16,
    /// Servers kept even when nobody plays.
    #[arg(long, value_name = "N", default_value_t = 1)]
    min: u32,
    /// Never more servers than this.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    max: u32,
    /// How long half of the servers take to start.
    #[arg(long, value_name = "SPAN", default_value = "20s", value_parser = span)]
    start_up: Duration,
    /// How long a caller waits for a room.
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = span)]
    patience: Duration,
    /// What becomes of a server whose last room has ended.
    #[arg(long, value_enum, default_value_t = Servers::Reused)]
    servers: Servers,
    /// The same seed gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Servers {
    /// It takes the next room.
    Reused,
    /// It ends, and another one is started.
    Once,
}

fn span(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
    if bounds.contains(&span) { Ok(span) } else { Err("1s to 1h are allowed".to_owned()) }
}

/// `greenroom simulate`.
pub(crate) fn simulate(args: &SimulateArgs, global: &Global) -> Result<(), Failure> {
    let trace = load(&args.trace)?;
    let compared = || COMPARED.iter().map(|text| text.parse().expect("these are written right"));
    let rules: Vec<Rule> = if args.policy.is_empty() { compared().collect() } else { args.policy.clone() };
    let settings = Settings {
        rooms_per_server: args.rooms_per_server,
        replicas_min: args.min,
        replicas_max: args.max.max(args.min),
        start: args.start_up,
        patience: args.patience,
        servers_live: match args.servers {
            Servers::Reused => ServersLive::On,
            Servers::Once => ServersLive::Once,
        },
        seed: args.seed,
    };
    let played: Vec<(String, Outcome)> =
        rules.iter().map(|rule| (rule.to_string(), play(&trace, rule, &settings))).collect();
    match global.output {
        Output::Table => print::line(text(&played)),
        Output::Json => {
            let outcomes: Vec<Value> = played.iter().map(|(policy, outcome)| told(policy, outcome)).collect();
            let answer = json!({ "trace": args.trace, "seed": args.seed, "outcomes": outcomes });
            print::line(serde_json::to_string_pretty(&answer).expect("a value has only string keys"));
        }
    }
    Ok(())
}

fn load(name: &str) -> Result<Trace, Failure> {
    let shipped = SHIPPED.iter().find(|(shipped, ..)| *shipped == name).map(|(.., text)| (*text).to_owned());
    let text = match shipped {
        Some(text) => text,
        None => std::fs::read_to_string(name).map_err(|error| {
            Failure::usage(
                format!("trace {name}: {error}"),
                "Name a file, or one of: day, spike, release, evenings.",
            )
        })?,
    };
    Trace::parse(&text).map_err(|error| Failure::usage(format!("trace {name}: {error}"), ""))
}

fn told(policy: &str, outcome: &Outcome) -> Value {
    let curve = |of: fn(&Moment) -> u32| outcome.curve.iter().map(of).collect::<Vec<u32>>();
    json!({
        "policy": policy,
        "asked": outcome.asked,
        "waited": outcome.waited,
        "failed": outcome.failed,
        "wait_p95_s": outcome.wait_p95_s,
        "wait_p99_s": outcome.wait_p99_s,
        "idle_server_s": outcome.idle_server_s,
        "busy_server_s": outcome.busy_server_s,
        "scale_outs": outcome.outs,
        "scale_ins": outcome.ins,
        "servers_started": outcome.starts,
        "servers_max": outcome.servers_max,
        "curve": {
            "rooms": curve(|moment| moment.rooms),
            "servers": curve(|moment| moment.servers),
            "waited": curve(|moment| moment.waited),
        },
    })
}

fn text(played: &[(String, Outcome)]) -> String {
    let rows: Vec<Vec<String>> = played
        .iter()
        .map(|(policy, outcome)| {
            vec![
                policy.clone(),
                outcome.asked.to_string(),
                format!("{} ({})", outcome.waited, percent(outcome.waited, outcome.asked)),
                outcome.failed.to_string(),
                format!("{} s", outcome.wait_p95_s),
                format!("{} s", outcome.wait_p99_s),
                hours(outcome.idle_server_s),
                hours(outcome.busy_server_s),
                format!("{}/{}", outcome.outs, outcome.ins),
                outcome.starts.to_string(),
                outcome.servers_max.to_string(),
            ]
        })
        .collect();
    let header =
        ["POLICY", "ASKED", "WAITED", "FAILED", "P95", "P99", "IDLE H", "BUSY H", "OUT/IN", "STARTS", "MOST"];
    format!("{}\n\n{}", plot(played), table::render(&header, &rows))
}

/// One line for the rooms, two for each policy: its servers, and who had to wait.
fn plot(played: &[(String, Outcome)]) -> String {
    let most = |of: fn(&Moment) -> u32| {
        played.iter().flat_map(|(_, outcome)| outcome.curve.iter().map(of)).max().unwrap_or(0)
    };
    let (servers, waited) = (most(|moment| moment.servers), most(|moment| moment.waited));
    let rooms = most(|moment| moment.rooms);
    let width = played.iter().map(|(policy, _)| policy.chars().count()).max().unwrap_or(0).max(6);
    let line = |name: &str, what: &str, outcome: &Outcome, of: fn(&Moment) -> u32, most: u32| {
        let bars: String = outcome.curve.iter().map(|moment| bar(of(moment), most)).collect();
        format!("{name:width$}  {what:7}  {bars}  {most}")
    };
    let mut lines = Vec::new();
    if let Some((_, first)) = played.first() {
        lines.push(line("", "rooms", first, |moment| moment.rooms, rooms));
    }
    for (policy, outcome) in played {
        lines.push(line(policy, "servers", outcome, |moment| moment.servers, servers));
        lines.push(line("", "waited", outcome, |moment| moment.waited, waited));
    }
    lines.join("\n")
}

/// Nothing is a point; everything else at least the lowest bar.
fn bar(value: u32, most: u32) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let height = (u64::from(value) * 8).div_ceil(u64::from(most.max(1)));
    usize::try_from(height).ok().and_then(|height| BARS.get(height.checked_sub(1)?)).copied().unwrap_or('·')
}

fn hours(seconds: u64) -> String {
    format!("{}.{}", seconds / 3600, seconds % 3600 / 360)
}

fn percent(part: u64, all: u64) -> String {
    let hundredths = (part * 10_000).checked_div(all).unwrap_or(0);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_as_a_plot_and_a_table_and_to_programs() {
        let moment = |rooms, servers, waited| Moment { rooms, servers, waited };
        let outcome = Outcome {
            asked: 2_000,
            waited: 25,
            failed: 3,
            wait_p95_s: 0,
            wait_p99_s: 4,
            idle_server_s: 36_720,
            busy_server_s: 360_000,
            outs: 7,
            ins: 2,
            starts: 40,
            servers_max: 16,
            curve: vec![moment(0, 2, 0), moment(5, 8, 1), moment(10, 16, 24), moment(3, 16, 0)],
        };
        let idle = Outcome { curve: vec![moment(0, 1, 0); 4], ..Outcome::default() };
        let played = [("base-stock".to_owned(), outcome), ("field:10".to_owned(), idle)];
        insta::assert_snapshot!(text(&played));
        insta::assert_json_snapshot!(told("base-stock", &played[0].1));
    }
}
