//! Several processes for one run: this binary again for each share of the players, and their parts merged into one.
//!
//! Never judges a part alone.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use greenroom_load::report::Counts;
use greenroom_load::{Part, Progress, Scenario, Share, find_by, run_part};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::args::{PartWord, RunOptions};
use super::chaos::Chaos;
use super::live::Live;
use super::servers::Watch;
use super::{now_ms, refused};
use crate::args::Global;
use crate::ask;
use crate::failure::Failure;

/// Time for the processes to start before the first player comes.
pub(super) const START_WITHIN: Duration = Duration::from_secs(1);

/// What a process of a run says, one JSON object a line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Progress(Progress),
    Part(Box<Part>),
}

/// Does a part of a run, and says so on the standard output.
pub(super) async fn run_one(
    scenario: &Scenario,
    word: &PartWord,
    options: &RunOptions,
    global: &Global,
) -> Result<(), Failure> {
    let scenario = Scenario { seed: word.seed, ..scenario.clone() };
    let wait = Duration::from_millis(word.start_ms.saturating_sub(now_ms()));
    let keeps_actions = options.actions.is_some();
    let share = Share { players: word.from..word.to, started: Instant::now() + wait, keeps_actions };
    let server = options.part_server.as_ref().unwrap_or(&global.server).clone();
    let find = find_by(ask::client(&Global { server, ..global.clone() })?);
    let stop = CancellationToken::new();
    let mut show = |progress: &Progress| say(&Said::Progress(*progress));
    let mut running = std::pin::pin!(run_part(&scenario, share, &find, &stop, &mut show));
    let part = loop {
        tokio::select! {
            part = &mut running => break part.map_err(|error| refused(&error))?,
            _ = tokio::signal::ctrl_c(), if !stop.is_cancelled() => stop.cancel(),
        }
    };
    say(&Said::Part(Box::new(part)));
    Ok(())
}

fn say(said: &Said) {
    let line = serde_json::to_string(said).expect("plain values");
    let mut out = std::io::stdout().lock();
    let _parent_gone = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What several processes are to do.
pub(super) struct Run<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) processes: u32,
    /// Whom the players ask.
    pub(super) server: &'a str,
}

/// Runs the players in several processes. They get Ctrl-C themselves, as the terminal sends it to all.
pub(super) async fn run_all(
    run: &Run<'_>,
    stop: &CancellationToken,
    watch: &mut Watch,
    chaos: &mut Chaos,
) -> Result<Part, Failure> {
    let Run { scenario, processes, server } = *run;
    if scenario.groups_span_processes() {
        let what = "a barrier of matched players needs all players in one process";
        return Err(Failure::usage(what, "Leave --processes out, or take the barrier out of the scenario."));
    }
    let start_ms = now_ms() + u64::try_from(START_WITHIN.as_millis()).expect("a second");
    let (said, mut heard) = mpsc::channel(64);
    let mut readers = JoinSet::new();
    let shares = shares(scenario, processes);
    let count = shares.len();
    for (nth, (from, to)) in shares.into_iter().enumerate() {
        let child = start(&PartWord { from, to, start_ms, seed: scenario.seed }, server)?;
        readers.spawn(listen(nth, child, said.clone()));
    }
    drop(said);
    let (mut progress, mut live) = (vec![None; count], Live::new());
    let mut whole: Option<Part> = None;
    while !readers.is_empty() || !heard.is_empty() {
        let (nth, said) = tokio::select! {
            Some(said) = heard.recv() => said,
            Some(ended) = readers.join_next() => {
                ended.map_err(|error| Failure::new(error.to_string(), ""))??;
                continue;
            }
            () = watch.next() => {
                watch.look().await;
                continue;
            }
            () = chaos.next() => continue,
            _ = tokio::signal::ctrl_c(), if !stop.is_cancelled() => {
                stop.cancel();
                continue;
            }
        };
        match said {
            Said::Progress(told) => {
                progress[nth] = Some(told);
                if nth == 0 {
                    live.show(&sum(scenario.players, progress.iter().flatten()));
                }
            }
            Said::Part(part) => match &mut whole {
                Some(whole) => whole.merge(*part),
                None => whole = Some(*part),
            },
        }
    }
    whole.ok_or_else(|| Failure::new("no process told what it saw", ""))
}

/// Whole groups for each process, as even as can be.
fn shares(scenario: &Scenario, processes: u32) -> Vec<(u32, u32)> {
    let size = u32::from(scenario.group_players);
    let groups = scenario.players / size;
    let place = |nth: u32| {
        let groups = u64::from(groups) * u64::from(nth) / u64::from(processes);
        u32::try_from(groups).expect("at most all groups") * size
    };
    (0..processes).map(|nth| (place(nth), place(nth + 1))).filter(|(from, to)| from < to).collect()
}

fn sum<'a>(players: u32, parts: impl Iterator<Item = &'a Progress>) -> Progress {
    let mut whole = Progress { elapsed: Duration::ZERO, players, counts: Counts::default() };
    for part in parts {
        whole.elapsed = whole.elapsed.max(part.elapsed);
        whole.counts.add(&part.counts);
    }
    whole
}

/// This binary with the same arguments, for a share of the players.
fn start(part: &PartWord, server: &str) -> Result<Child, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(format!("cannot start a process of the run: {error}"), "");
    let program = std::env::current_exe().map_err(failed)?;
    Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg(format!("--part={part}"))
        .arg(format!("--part-server={server}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)
}

async fn listen(nth: usize, mut child: Child, said: mpsc::Sender<(usize, Said)>) -> Result<(), Failure> {
    let out = child.stdout.take().expect("its output is a pipe");
    let mut lines = BufReader::new(out).lines();
    let failed = |error: std::io::Error| Failure::new(format!("process {nth} of the run: {error}"), "");
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        let read = serde_json::from_str(&line)
            .map_err(|error| Failure::new(format!("process {nth} of the run said {line:?}: {error}"), ""))?;
        if said.send((nth, read)).await.is_err() {
            break;
        }
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("process {nth} of the run ended with {status}"), "What it said is above."))
    }
}

#[cfg(test)]
mod tests {
    use greenroom_load::SwarmConfig;

    use super::*;

    #[test]
    fn shares_are_whole_groups_and_leave_nobody_out() {
        let scenario = SwarmConfig { players: 40, ..SwarmConfig::default() }.scenario();
        assert_eq!(shares(&scenario, 1), [(0, 40)]);
        assert_eq!(shares(&scenario, 3), [(0, 12), (12, 24), (24, 40)]);
        assert_eq!(shares(&scenario, 64).len(), 10);
    }
}
