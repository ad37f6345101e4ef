//! `greenroom swarm`: players of our own against a running control plane.
//!
//! Never judges: the load tester does.

mod args;
mod chaos;
mod live;
mod parts;
mod scenario;
mod servers;
mod target;

use std::path::Path;
use std::pin::pin;
use std::time::{SystemTime, UNIX_EPOCH};

use greenroom_core::FleetName;
use greenroom_load::flow::Step;
use greenroom_load::limit::Search;
use greenroom_load::{Outcome, Report, RunError, Scenario, Share, find_by, page, run_part};
use tokio_util::sync::CancellationToken;

pub(crate) use args::SwarmArgs;
use args::{ChaosArgs, LimitArgs, RunOptions, SwarmVerb};
use chaos::{Chaos, Plan};
use live::Live;
use servers::Watch;
use target::Target;

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
        Some(SwarmVerb::Run(run)) => {
            let scenario = load(&run.scenario, run.players, run.seed)?;
            whole(&scenario, &run.options, global).await
        }
        Some(SwarmVerb::Chaos(args)) => chaos(args, global).await,
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
fn load(name: &str, players: Option<u32>, seed: Option<u64>) -> Result<Scenario, Failure> {
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
    scenario.players = players.unwrap_or(scenario.players);
    scenario.seed = seed.unwrap_or_else(fresh_seed);
    let faults = scenario.faults();
    if faults.is_empty() { Ok(scenario) } else { Err(Failure::usage(faults.join("; "), "")) }
}

async fn whole(scenario: &Scenario, options: &RunOptions, global: &Global) -> Result<(), Failure> {
    hurt(scenario, options, Plan::default(), global).await
}

/// One run, with disruptions: told, written down, judged.
async fn hurt(
    scenario: &Scenario,
    options: &RunOptions,
    plan: Plan<'_>,
    global: &Global,
) -> Result<(), Failure> {
    if let Some(part) = &options.part {
        return parts::run_one(scenario, part, options, global).await;
    }
    let report = once(scenario, options, plan, global).await?;
    ask::show(global, &report, || report.to_string());
    if let Some(file) = &options.html {
        std::fs::write(file, page::page(&report)).map_err(|error| cannot_write(file, &error))?;
    }
    if let Some(file) = &options.json {
        let json = serde_json::to_string(&report).expect("plain values");
        std::fs::write(file, json + "\n").map_err(|error| cannot_write(file, &error))?;
    }
    match report.outcome {
        Outcome::Passed => {}
        Outcome::Failed => {
            return Err(Failure::new(format!("{} things were wrong", report.violations_total), ""));
        }
        Outcome::Stopped => return Err(Failure::new("stopped before the end", "")),
    }
    let broken = breaches(&report);
    if broken.is_empty() {
        Ok(())
    } else {
        Err(Failure { code: THRESHOLD, ..Failure::new(broken.join("\n"), "") })
    }
}

fn cannot_write(file: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot write {}: {error}", file.display()), "")
}

/// What is wrong by the thresholds; times of a run whose generator was the bottleneck prove nothing.
fn breaches(report: &Report) -> Vec<String> {
    let mut broken: Vec<_> = report.thresholds.iter().filter_map(|kept| kept.broken.clone()).collect();
    if report.thresholds.iter().any(|kept| kept.is_timed) && !report.generator.invalid.is_empty() {
        broken.push(format!("the generator was the bottleneck: {}", report.generator.invalid.join("; ")));
    }
    broken
}

/// One run, against what it starts itself or what runs.
async fn once(
    scenario: &Scenario,
    options: &RunOptions,
    plan: Plan<'_>,
    global: &Global,
) -> Result<Report, Failure> {
    let target = Target::start(options, scenario.group_players, global).await?;
    let report = against(&target, scenario, options, plan).await;
    target.stop().await;
    report
}

/// One run, in this process or in several.
async fn against(
    target: &Target,
    scenario: &Scenario,
    options: &RunOptions,
    plan: Plan<'_>,
) -> Result<Report, Failure> {
    target.check_fleet(&fleets(scenario), &scenario.name).await?;
    let control = ask::client(&target.global)?;
    let mut watch = Watch::new(&target.pids, &target.global.server, control.clone()).await;
    let stop = CancellationToken::new();
    let mut started = std::time::Instant::now();
    if options.processes > 1 {
        started += parts::START_WITHIN;
    }
    let mut chaos = Chaos::start(plan, target, scenario.seed, started.into()).await?;
    let part = if options.processes > 1 {
        let run = parts::Run { scenario, processes: options.processes, server: &target.global.server };
        parts::run_all(&run, &stop, &mut watch, &mut chaos).await?
    } else {
        let keeps_actions = options.actions.is_some();
        let share = Share { players: 0..scenario.players, started, keeps_actions };
        let find = find_by(control);
        let mut live = Live::new();
        let mut show = |progress: &greenroom_load::Progress| live.show(progress);
        let mut running = pin!(run_part(scenario, share, &find, &stop, &mut show));
        // Beside the players, never before them: a control plane that is frozen would hold them up.
        let mut watching = pin!(watch.go_on());
        loop {
            tokio::select! {
                part = &mut running => break part.map_err(|error| refused(&error))?,
                never = &mut watching => match never {},
                () = chaos.next() => {}
                _ = tokio::signal::ctrl_c(), if !stop.is_cancelled() => stop.cancel(),
            }
        }
    };
    watch.look().await;
    if let Some(file) = &options.actions {
        let lines = part.actions().into_iter().map(|(player, words)| format!("{player} {words}\n"));
        std::fs::write(file, lines.collect::<String>()).map_err(|error| cannot_write(file, &error))?;
    }
    let mut report = part.report(scenario, watch.used(scenario.players));
    report.marks = chaos.finish()?;
    report.thresholds = options.threshold.iter().map(|threshold| threshold.judge(&report)).collect();
    Ok(report)
}

/// The fleets that players ask for.
fn fleets(scenario: &Scenario) -> Vec<&FleetName> {
    let asked = |step| match step {
        &Step::Find { ref fleet, .. } | &Step::Join { ref fleet, .. } => Some(fleet),
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
    };
    scenario.flow.steps.iter().filter_map(asked).collect()
}

async fn chaos(args: &ChaosArgs, global: &Global) -> Result<(), Failure> {
    let scenario = load(&args.scenario, args.players, args.seed)?;
    let plan = match args.plan.as_slice() {
        [] => chaos::drawn(&scenario, args.disruptions, args.within),
        plan => plan.to_vec(),
    };
    if plan.is_empty() {
        return Err(Failure::usage("nothing is to be hurt", "Write for example --plan kill:chat@5s"));
    }
    let plan = Plan { disruptions: &plan, store: args.store.as_deref() };
    hurt(&scenario, &args.options, plan, global).await
}

async fn find_limit(args: &LimitArgs, global: &Global) -> Result<(), Failure> {
    let mut scenario = load(&args.run.scenario, args.run.players, args.run.seed)?;
    if args.run.options.threshold.is_empty() {
        let next = "Write for example --threshold 'match_p99_ms<2000'; may be given several times.";
        return Err(Failure::usage("a limit needs a threshold to keep", next));
    }
    if args.run.options.processes > 1 {
        let next = "Leave --processes out.";
        return Err(Failure::usage("a limit is searched by one process", next));
    }
    let mut search = Search::new(scenario.players, args.players_max, scenario.group_players);
    let options = &args.run.options;
    let target = Target::start(options, scenario.group_players, global).await?;
    let found = search_all(&target, &mut scenario, options, &mut search).await;
    target.stop().await;
    found?;
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

async fn search_all(
    target: &Target,
    scenario: &mut Scenario,
    options: &RunOptions,
    search: &mut Search,
) -> Result<(), Failure> {
    while let Some(players) = search.next() {
        scenario.players = players;
        // Each run has players of its own: those of the one before may still hold seats.
        scenario.seed = scenario.seed.wrapping_add(1);
        eprintln!("{players} players");
        let report = against(target, scenario, options, Plan::default()).await?;
        let mut wrong = breaches(&report);
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
    Ok(())
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
        RunError::Watch(_) => Failure::new(error.to_string(), ""),
    }
}
