//! `greenroom swarm`: players of our own against a running control plane.
//!
//! Never judges: the load tester does.

mod args;
mod parts;
mod scenario;
mod servers;

use std::pin::pin;
use std::time::{SystemTime, UNIX_EPOCH};

use greenroom_client::ControlClient;
use greenroom_load::flow::Step;
use greenroom_load::limit::Search;
use greenroom_load::threshold::Threshold;
use greenroom_load::{Outcome, Report, RunError, Scenario, Share, find_by, page, run_part};
use tokio_util::sync::CancellationToken;

pub(crate) use args::SwarmArgs;
use args::{LimitArgs, RunArgs, RunOptions, SwarmVerb};
use servers::Watch;

use crate::args::Global;
use crate::ask;
use crate::failure::Failure;
use crate::print;

/// Exit code when a threshold was broken; the oracles' own is 1.
const THRESHOLD: u8 = 3;

/// Runs the players, with progress on the standard error and the report on the standard output. Ctrl-C lets them leave.
pub(crate) async fn swarm(args: &SwarmArgs, global: &Global) -> Result<(), Failure> {
    match &args.verb {
        None => {
            let scenario = args.main.config().scenario();
            whole(&scenario, &args.options, global).await
        }
        Some(SwarmVerb::Run(run)) => whole(&load(run)?, &run.options, global).await,
        Some(SwarmVerb::FindLimit(limit)) => find_limit(limit, global).await,
        Some(SwarmVerb::Scenarios { name }) => scenarios(name.as_deref()),
    }
}

fn scenarios(name: Option<&str>) -> Result<(), Failure> {
    let Some(name) = name else {
        greenroom_load::scenario::SHIPPED.iter().for_each(|(name, _)| print::line(name));
        return Ok(());
    };
    shipped(name).map(print::text).ok_or_else(|| {
        let what = format!("there is no scenario {name:?} that ships");
        Failure::usage(what, "`greenroom swarm scenarios` lists them.")
    })
}

fn shipped(name: &str) -> Option<&'static str> {
    greenroom_load::scenario::SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The scenario of a file, or one that ships.
fn load(run: &RunArgs) -> Result<Scenario, Failure> {
    let name = run.scenario.as_str();
    let read;
    let text = match shipped(name) {
        Some(text) => text,
        None => {
            read = std::fs::read_to_string(name).map_err(|error| {
                let next = "Name a file, or one of those that `greenroom swarm scenarios` lists.";
                Failure::usage(format!("cannot read scenario {name}: {error}"), next)
            })?;
            &read
        }
    };
    let mut scenario =
        scenario::parse(name, text).map_err(|faults| Failure::usage(faults.to_string(), ""))?;
    if let Some(players) = run.players {
        scenario.players = players;
    }
    scenario.seed = run.seed.unwrap_or_else(fresh_seed);
    let faults = scenario.faults();
    if faults.is_empty() { Ok(scenario) } else { Err(Failure::usage(faults.join("; "), "")) }
}

async fn whole(scenario: &Scenario, options: &RunOptions, global: &Global) -> Result<(), Failure> {
    if let Some(part) = &options.part {
        return parts::run_one(scenario, part, global).await;
    }
    let report = once(scenario, options, global).await?;
    ask::show(global, &report, || report.to_string());
    if let Some(file) = &options.html {
        std::fs::write(file, page::page(&report))
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display()), ""))?;
    }
    match report.outcome {
        Outcome::Passed => {}
        Outcome::Failed => {
            return Err(Failure::new(format!("{} things were wrong", report.violations_total), ""));
        }
        Outcome::Stopped => return Err(Failure::new("stopped before the end", "")),
    }
    let broken = breaches(&options.threshold, &report);
    if broken.is_empty() {
        Ok(())
    } else {
        Err(Failure { code: THRESHOLD, ..Failure::new(broken.join("\n"), "") })
    }
}

/// What is wrong by the thresholds; times of a run whose generator was the bottleneck prove nothing.
fn breaches(thresholds: &[Threshold], report: &Report) -> Vec<String> {
    let mut broken: Vec<_> = thresholds.iter().filter_map(|threshold| threshold.breach(report)).collect();
    if !thresholds.is_empty() && !report.generator.invalid.is_empty() {
        broken.push(format!("the generator was the bottleneck: {}", report.generator.invalid.join("; ")));
    }
    broken
}

/// One run, in this process or in several.
async fn once(scenario: &Scenario, options: &RunOptions, global: &Global) -> Result<Report, Failure> {
    let control = ask::client(global)?;
    check_fleets(scenario, &control, global).await?;
    let mut watch = Watch::new(&options.server_pids, &global.server, control.clone()).await;
    let stop = CancellationToken::new();
    let part = if options.processes > 1 {
        parts::run_all(scenario, options.processes, &stop, &mut watch).await?
    } else {
        let share = Share { players: 0..scenario.players, started: std::time::Instant::now() };
        let find = find_by(control);
        let mut show = |progress: &greenroom_load::Progress| eprintln!("{progress}");
        let mut running = pin!(run_part(scenario, share, &find, &stop, &mut show));
        loop {
            tokio::select! {
                part = &mut running => break part.map_err(|error| refused(&error))?,
                () = watch.next() => watch.look().await,
                _ = tokio::signal::ctrl_c(), if !stop.is_cancelled() => stop.cancel(),
            }
        }
    };
    watch.look().await;
    Ok(part.report(scenario, watch.used(scenario.players)))
}

/// A fleet that is not there would fail every player with the same words.
async fn check_fleets(scenario: &Scenario, control: &ControlClient, global: &Global) -> Result<(), Failure> {
    let named: Vec<_> = scenario
        .flow
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Find { fleet, .. } | Step::Join { fleet, .. } => Some(fleet),
            Step::Address { .. }
            | Step::Connect { .. }
            | Step::Emit { .. }
            | Step::Expect { .. }
            | Step::ExpectSeat { .. }
            | Step::Think { .. }
            | Step::Barrier { .. }
            | Step::LeaveLater { .. }
            | Step::Play { .. }
            | Step::Leave { .. } => None,
        })
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    let fleets = control.fleets().await.map_err(|error| ask::failure(&error, global))?.fleets;
    match named.into_iter().find(|name| !fleets.iter().any(|fleet| *fleet.name == **name)) {
        None => Ok(()),
        Some(name) => {
            let what = format!("there is no fleet {name}, which the scenario {} needs", scenario.name);
            Err(Failure::usage(what, "`greenroom get fleets` lists them."))
        }
    }
}

async fn find_limit(args: &LimitArgs, global: &Global) -> Result<(), Failure> {
    let mut scenario = load(&args.run)?;
    if args.run.options.threshold.is_empty() {
        let next = "Write for example --threshold 'match_p99_ms<2000'; may be given several times.";
        return Err(Failure::usage("a limit needs a threshold to keep", next));
    }
    if args.run.options.processes > 1 {
        let next = "Leave --processes out.";
        return Err(Failure::usage("a limit is searched by one process", next));
    }
    let mut search = Search::new(scenario.players, args.players_max, scenario.group_players);
    while let Some(players) = search.next() {
        scenario.players = players;
        // Each run has players of its own: those of the one before may still hold seats.
        scenario.seed = scenario.seed.wrapping_add(1);
        eprintln!("{players} players");
        let report = once(&scenario, &args.run.options, global).await?;
        let mut wrong = breaches(&args.run.options.threshold, &report);
        match report.outcome {
            Outcome::Passed => {}
            Outcome::Failed => wrong.push(format!("{} things were wrong", report.violations_total)),
            Outcome::Stopped => return Err(Failure::new("stopped before the end", "")),
        }
        let verdict =
            if wrong.is_empty() { "kept".to_owned() } else { format!("broken: {}", wrong.join("; ")) };
        print::line(format!("{players} players: {verdict}"));
        search.record(wrong.is_empty());
    }
    match (search.kept(), search.broken()) {
        (0, _) => Err(Failure { code: THRESHOLD, ..Failure::new("no load kept the thresholds", "") }),
        (kept, Some(broken)) => {
            print::line(format!("limit: {kept} players keep the thresholds, {broken} break them"));
            Ok(())
        }
        (kept, None) => {
            print::line(format!("limit: at least {kept} players, the most that were asked for"));
            Ok(())
        }
    }
}

/// A number that no earlier run of today had, short enough to be typed.
fn fresh_seed() -> u64 {
    now_ms() % 86_400_000
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

fn refused(error: &RunError) -> Failure {
    match error {
        RunError::Config { .. } => Failure::usage(error.to_string(), ""),
        RunError::FileLimit { .. } => Failure::new(error.to_string(), "Or share them out: --processes 2"),
    }
}
