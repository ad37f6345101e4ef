//! `greenroom swarm`: players of our own against a running control plane.
//!
//! Never judges: the load tester does.

use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use greenroom_core::FleetName;
use greenroom_load::{Outcome, RunError, SwarmConfig, find_by, run};
use greenroom_wire::api::KindWord;
use tokio_util::sync::CancellationToken;

use crate::args::Global;
use crate::ask;
use crate::failure::Failure;

/// `greenroom swarm`.
#[derive(Debug, Args)]
pub(crate) struct SwarmArgs {
    /// How many; a multiple of the match size.
    #[arg(long, default_value_t = 200, value_name = "NUMBER")]
    pub(crate) players: u32,
    /// Players of one match, as the fleet that plays is configured.
    #[arg(long, default_value_t = 4, value_name = "NUMBER")]
    pub(crate) match_players: u16,
    /// The fleet of lobby servers.
    #[arg(long, default_value = "lobby", value_name = "FLEET")]
    pub(crate) lobby: FleetName,
    /// The time over which the players arrive.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) ramp: Duration,
    /// How long each player plays, unless the room ends before.
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) play: Duration,
    /// Inputs per second of each player.
    #[arg(long, default_value_t = 1.0, value_name = "NUMBER")]
    pub(crate) hz: f64,
    /// Name of the input event; its argument is {"x": n, "y": n}.
    #[arg(long, default_value = "steer", value_name = "EVENT")]
    pub(crate) input: String,
    /// Players leave the lobby at a random moment up to this after entering the game.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) handover: Duration,
    /// How long a player waits for a match.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) match_within: Duration,
    /// Settles every choice: the same seed makes the same schedule. A new one each time without it.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
}

/// Runs the players, with progress on the standard error and the report on the standard output. Ctrl-C lets them leave.
pub(crate) async fn swarm(args: &SwarmArgs, global: &Global) -> Result<(), Failure> {
    let control = ask::client(&global.server)?;
    let fleets = control.fleets().await.map_err(|error| ask::failure(&error, global))?.fleets;
    let lobby = fleets.iter().find(|fleet| *fleet.name == args.lobby && fleet.kind == KindWord::Mesh);
    if lobby.is_none() {
        let what = format!("there is no mesh fleet {} to be the lobby", args.lobby);
        return Err(Failure::usage(what, "`greenroom get fleets` lists them; name another with --lobby."));
    }
    let (config, find, stop) = (config(args), find_by(control), CancellationToken::new());
    let mut show = |progress: &greenroom_load::Progress| eprintln!("{progress}");
    let mut running = pin!(run(&config, &find, &stop, &mut show));
    let report = loop {
        tokio::select! {
            report = &mut running => break report.map_err(|error| refused(&error))?,
            _ = tokio::signal::ctrl_c(), if !stop.is_cancelled() => stop.cancel(),
        }
    };
    ask::show(global, &report, || report.to_string());
    match report.outcome {
        Outcome::Passed => Ok(()),
        Outcome::Failed => Err(Failure::new(format!("{} things were wrong", report.violations_total), "")),
        Outcome::Stopped => Err(Failure::new("stopped before the end", "")),
    }
}

fn config(args: &SwarmArgs) -> SwarmConfig {
    SwarmConfig {
        players: args.players,
        match_players: args.match_players,
        lobby: args.lobby.clone(),
        ramp: args.ramp,
        play: args.play,
        hz: args.hz,
        input: args.input.clone(),
        handover: args.handover,
        match_within: args.match_within,
        seed: args.seed.unwrap_or_else(fresh_seed),
        ..SwarmConfig::default()
    }
}

/// A number that no earlier run of today had, short enough to be typed.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX) % 86_400_000
}

fn refused(error: &RunError) -> Failure {
    match error {
        RunError::Config { .. } => Failure::usage(error.to_string(), ""),
        RunError::FileLimit { .. } => Failure::new(error.to_string(), ""),
    }
}
