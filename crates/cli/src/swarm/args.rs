//! What may be typed after `greenroom swarm`.
//!
//! Never acts.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use greenroom_core::FleetName;
use greenroom_load::SwarmConfig;
use greenroom_load::threshold::Threshold;

use super::chaos::Disruption;
use super::target::TargetKind;

/// `greenroom swarm`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct SwarmArgs {
    #[command(subcommand)]
    pub(super) verb: Option<SwarmVerb>,
    #[command(flatten)]
    pub(super) main: MainArgs,
    #[command(flatten)]
    pub(super) options: RunOptions,
}

/// What a swarm can do beside lobby, match and game.
#[derive(Debug, Subcommand)]
pub(super) enum SwarmVerb {
    /// Runs a scenario.
    Run(RunArgs),
    /// Finds the largest number of players that keeps the thresholds, by runs of a scenario with ever more of them.
    FindLimit(LimitArgs),
    /// Runs a scenario and hurts processes meanwhile: the oracles say whether players noticed more than they may.
    Chaos(ChaosArgs),
    /// Lists the scenarios that ship, or prints one, to start from.
    Scenarios {
        /// Which.
        name: Option<String>,
    },
}

/// `greenroom swarm run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// A file, or the name of a scenario that ships.
    #[arg(default_value = "lobby-match-game")]
    pub(super) scenario: String,
    /// How many, instead of what the scenario says.
    #[arg(long, value_name = "NUMBER")]
    pub(super) players: Option<u32>,
    /// Settles every choice: the same seed makes the same schedule. A new one each time without it.
    #[arg(long, value_name = "NUMBER")]
    pub(super) seed: Option<u64>,
    #[command(flatten)]
    pub(super) options: RunOptions,
}

/// `greenroom swarm find-limit`.
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// The most players to try.
    #[arg(long, default_value_t = 10_000, value_name = "NUMBER")]
    pub(super) players_max: u32,
}

/// `greenroom swarm chaos`.
#[derive(Debug, Args)]
pub(super) struct ChaosArgs {
    /// A file, or the name of a scenario that ships. Its section "reconnect" says what players must get over.
    #[arg(default_value = "chaos")]
    pub(super) scenario: String,
    /// How many, instead of what the scenario says.
    #[arg(long, value_name = "NUMBER")]
    pub(super) players: Option<u32>,
    /// Settles every choice, also who is hurt. A new one each time without it.
    #[arg(long, value_name = "NUMBER")]
    pub(super) seed: Option<u64>,
    /// What to do and when: kill:FLEET@5s, freeze:FLEET@5s+3s, or to `control`, `agent` or `store`; cut:store@5s+3s cuts
    /// everybody off from it. May be given several times; without it some are drawn by the seed.
    #[arg(long, value_name = "ACT:WHOM@WHEN")]
    pub(super) plan: Vec<Disruption>,
    /// How many are drawn when there is no plan.
    #[arg(long, default_value_t = 3, value_name = "NUMBER", conflicts_with = "plan")]
    pub(super) disruptions: u32,
    /// Within which time of the run.
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration, value_name = "TIME", conflicts_with = "plan")]
    pub(super) within: Duration,
    /// The Redis that the servers share, for plans to `store`.
    #[arg(long, value_name = "URL")]
    pub(super) store: Option<String>,
    #[command(flatten)]
    pub(super) options: RunOptions,
}

/// How a run is done and judged.
#[derive(Debug, Args)]
pub(super) struct RunOptions {
    /// A limit such as 'match_p99_ms<2000'; broken, the exit code is 3. May be given several times.
    #[arg(long, value_name = "NAME<NUMBER")]
    pub(super) threshold: Vec<Threshold>,
    /// Writes the report as a page with plots.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Writes the report for programs.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Writes what each player did, a line each: the same for each run of one seed.
    #[arg(long, value_name = "FILE")]
    pub(super) actions: Option<PathBuf>,
    /// Against what the players go.
    #[arg(long, value_enum, default_value_t)]
    pub(super) target: TargetKind,
    /// The greenroom.toml of --target dev; without it the built-in demonstration.
    #[arg(long, value_name = "FILE")]
    pub(super) target_config: Option<PathBuf>,
    /// Where the `greenroom dev` that --server names keeps its files: they tell which processes are control and agent.
    #[arg(long, value_name = "FOLDER", default_value = ".greenroom")]
    pub(super) data_dir: PathBuf,
    /// Shares the players out over so many processes; one report comes of it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64), value_name = "NUMBER")]
    pub(super) processes: u32,
    /// Processes whose CPU time and memory are counted. Without it those of the game servers, if control is on this
    /// machine.
    #[arg(long, value_delimiter = ',', value_name = "PID,PID")]
    pub(super) server_pids: Vec<u32>,
    /// Which part of a run this process does.
    #[arg(long, hide = true)]
    pub(super) part: Option<PartWord>,
    /// Whom the players of this part ask.
    #[arg(long, hide = true, requires = "part")]
    pub(super) part_server: Option<String>,
}

/// `FROM-TO@START_MS#SEED`: the players of one process, when all processes begin, and the seed of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartWord {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) start_ms: u64,
    pub(super) seed: u64,
}

impl FromStr for PartWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (players, rest) = text.split_once('@')?;
            let (start, seed) = rest.split_once('#')?;
            let (from, to) = players.split_once('-')?;
            let (from, to) = (from.parse().ok()?, to.parse().ok()?);
            Some(Self { from, to, start_ms: start.parse().ok()?, seed: seed.parse().ok()? })
        };
        read().filter(|part| part.from < part.to).ok_or_else(|| format!("{text:?} is no part of a run"))
    }
}

impl std::fmt::Display for PartWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, to, start_ms, seed } = self;
        write!(f, "{from}-{to}@{start_ms}#{seed}")
    }
}

/// Lobby, match and game with these settings.
#[derive(Debug, Args)]
pub(super) struct MainArgs {
    /// How many; a multiple of the match size.
    #[arg(long, default_value_t = 200, value_name = "NUMBER")]
    players: u32,
    /// Players of one match, as the fleet that plays is configured.
    #[arg(long, default_value_t = 4, value_name = "NUMBER")]
    match_players: u16,
    /// The fleet of lobby servers.
    #[arg(long, default_value = "lobby", value_name = "FLEET")]
    lobby: FleetName,
    /// The time over which the players arrive.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
    ramp: Duration,
    /// How long each player plays, unless the room ends before.
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration, value_name = "TIME")]
    play: Duration,
    /// Inputs per second of each player.
    #[arg(long, default_value_t = 1.0, value_name = "NUMBER")]
    hz: f64,
    /// Name of the input event; its argument is {"x": n, "y": n}.
    #[arg(long, default_value = "steer", value_name = "EVENT")]
    input: String,
    /// Players leave the lobby at a random moment up to this after entering the game.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration, value_name = "TIME")]
    handover: Duration,
    /// How long a player waits for a match.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration, value_name = "TIME")]
    match_within: Duration,
    /// Settles every choice: the same seed makes the same schedule. A new one each time without it.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

impl MainArgs {
    pub(super) fn config(&self) -> SwarmConfig {
        SwarmConfig {
            players: self.players,
            match_players: self.match_players,
            lobby: self.lobby.clone(),
            ramp: self.ramp,
            play: self.play,
            hz: self.hz,
            input: self.input.clone(),
            handover: self.handover,
            match_within: self.match_within,
            seed: self.seed.unwrap_or_else(super::fresh_seed),
            ..SwarmConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_as_it_is_written() {
        let part = PartWord { from: 4, to: 8, start_ms: 17, seed: 3 };
        assert_eq!(part.to_string().parse(), Ok(part));
        for text in ["", "4-8", "8-4@1#1", "4-8@1"] {
            assert!(text.parse::<PartWord>().is_err(), "{text}");
        }
    }
}
