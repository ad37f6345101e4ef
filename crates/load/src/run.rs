//! Owns the loop of a run: it picks what happens next and hands it to the swarm.
//! Never decides anything about a player.

use std::{collections::VecDeque, rc::Rc, time::Duration};

use futures_util::{
    FutureExt as _,
    future::LocalBoxFuture,
    stream::{FuturesUnordered, StreamExt as _},
};
use greenroom_client::ControlClient;
use greenroom_core::FleetName;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Outcome, Progress, Report, SwarmConfig,
    flow::{Measure, SocketName, Step},
    health::{GeneratorHealth, players_possible, raise_file_limit, thread_cpu},
    open::{OpenError, Opened, open},
    oracle::Coverage,
    player::PlayerIndex,
    report::MeasureSummary,
    swarm::{Errand, LinkId, Side, Swarm},
};

/// Questions to control that are under way at once; more wait.
const FINDS_MAX: usize = 64;
/// Connections that are being opened at once; more wait.
const OPENS_MAX: usize = 512;
/// Connections that are served in a row before timers are looked at.
const READY_MAX: usize = 128;
/// Violations that a report holds.
const VIOLATIONS_MAX: usize = 1_000;

/// Asks control for the address of a server of a fleet: a URL, or why there is none.
pub type Find = Rc<dyn Fn(FleetName) -> LocalBoxFuture<'static, Result<String, String>>>;

/// Asks the control plane that `control` calls.
#[must_use]
pub fn find_by(control: ControlClient) -> Find {
    Rc::new(move |fleet| {
        let control = control.clone();
        Box::pin(async move {
            let answer = control.endpoint(&fleet).await;
            answer.map(|answer| answer.url).map_err(|error| error.to_string())
        })
    })
}

/// Why a run did not begin. Nothing was sent to anybody.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings cannot be used.
    #[error("{}", faults.join("; "))]
    Config {
        /// Everything that is wrong with them.
        faults: Vec<String>,
    },
    /// This process may not open enough files. Raise the limit, or ask for fewer players.
    #[error(
        "{players} players need more open files than the limit of {files_max}, which is enough for {possible}; \
         raise it with `ulimit -n`"
    )]
    FileLimit {
        /// Players asked for.
        players: u32,
        /// The hard limit of open files.
        files_max: u64,
        /// How many players fit it.
        possible: u64,
    },
}

/// Sends the players through lobby, match and game, and tells what they saw. `progress` is called about once a second.
/// When `stop` is cancelled, all players leave and the run counts as stopped. Needs a current-thread runtime of tokio.
///
/// # Errors
/// Before anything was sent, see [`RunError`]. What goes wrong later is in the report.
pub async fn run(
    config: &SwarmConfig,
    find: &Find,
    stop: &CancellationToken,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, RunError> {
    let faults = config.faults();
    if !faults.is_empty() {
        return Err(RunError::Config { faults });
    }
    let files_max = raise_file_limit();
    let possible = players_possible(files_max);
    if let Some(files_max) = files_max.filter(|_| u64::from(config.players) > possible) {
        return Err(RunError::FileLimit { players: config.players, files_max, possible });
    }
    let mut swarm = Swarm::new(config);
    let coverage = drive(&mut swarm, find, stop, progress).await;
    Ok(report(config, &swarm, coverage))
}

/// What happens next.
enum Turn {
    Ready(LinkId, Side),
    Found(PlayerIndex, Result<String, String>),
    Opened(PlayerIndex, SocketName, Result<Opened, OpenError>),
    Time,
    Second,
    Stop,
}

async fn drive(
    swarm: &mut Swarm,
    find: &Find,
    stop: &CancellationToken,
    progress: &mut dyn FnMut(&Progress),
) -> Coverage {
    let mut finds = Lane::new(FINDS_MAX);
    let mut opens = Lane::new(OPENS_MAX);
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut coverage = Coverage::Whole;
    while !swarm.is_over() {
        let wake_at = swarm.wake_at();
        let turn = tokio::select! {
            Some((id, side)) = swarm.waits.next() => Turn::Ready(id, side),
            Some((index, answer)) = finds.next() => Turn::Found(index, answer),
            Some((index, socket, opened)) = opens.next() => Turn::Opened(index, socket, opened),
            () = sleep_until(wake_at.map_or_else(Instant::now, Instant::from_std)), if wake_at.is_some() => Turn::Time,
            _ = seconds.tick() => Turn::Second,
            () = stop.cancelled(), if coverage == Coverage::Whole => Turn::Stop,
        };
        match turn {
            Turn::Ready(id, side) => {
                swarm.handle_ready(id, side);
                // Those that are ready too, without asking every other source in between.
                for _ in 0..READY_MAX {
                    let Some(Some((id, side))) = swarm.waits.next().now_or_never() else { break };
                    swarm.handle_ready(id, side);
                }
            }
            Turn::Found(index, answer) => swarm.handle_found(index, answer),
            Turn::Opened(index, socket, opened) => swarm.handle_opened(index, socket, opened),
            Turn::Time => swarm.handle_time(),
            Turn::Second => {
                swarm.handle_second();
                progress(&swarm.progress());
            }
            Turn::Stop => {
                coverage = Coverage::Cut;
                swarm.stop();
            }
        }
        for errand in std::mem::take(&mut swarm.errands) {
            match errand {
                Errand::Find(index, step) => {
                    let Step::Find { fleet, within } = &swarm.flow().steps[step] else { continue };
                    let (asked, within) = (find(fleet.clone()), *within);
                    finds.push(async move {
                        let late = |_| Err(format!("control did not answer within {within:?}"));
                        (index, timeout(within, asked).await.unwrap_or_else(late))
                    });
                }
                Errand::Open { player, socket, url, nonce, source, within } => opens.push(async move {
                    let opened = timeout(within, open(&url, nonce, source)).await;
                    (player, socket, opened.unwrap_or_else(|_| Err(OpenError::Late { url, within })))
                }),
            }
        }
    }
    progress(&swarm.progress());
    coverage
}

/// Futures of which at most `width` are under way at once. The others wait in the order in which they came; there are
/// never more of them than players have steps.
struct Lane<T> {
    width: usize,
    waiting: VecDeque<LocalBoxFuture<'static, T>>,
    running: FuturesUnordered<LocalBoxFuture<'static, T>>,
}

impl<T> Lane<T> {
    fn new(width: usize) -> Self {
        Self { width, waiting: VecDeque::new(), running: FuturesUnordered::new() }
    }

    fn push(&mut self, future: impl Future<Output = T> + 'static) {
        if self.running.len() < self.width {
            self.running.push(future.boxed_local());
        } else {
            self.waiting.push_back(future.boxed_local());
        }
    }

    /// The next result; `None` at once when nothing is under way.
    async fn next(&mut self) -> Option<T> {
        let done = self.running.next().await?;
        self.running.extend(self.waiting.pop_front());
        Some(done)
    }
}

fn report(config: &SwarmConfig, swarm: &Swarm, coverage: Coverage) -> Report {
    let elapsed = swarm.elapsed();
    let cpu = thread_cpu().saturating_sub(swarm.cpu_before);
    let mut violations = swarm.ledger.judge(coverage);
    let violations_total = violations.len() as u64;
    violations.truncate(VIOLATIONS_MAX);
    let outcome = match (violations.is_empty(), coverage) {
        (false, Coverage::Whole | Coverage::Cut) => Outcome::Failed,
        (true, Coverage::Whole) => Outcome::Passed,
        (true, Coverage::Cut) => Outcome::Stopped,
    };
    let summary = |measure| MeasureSummary { measure, summary: swarm.measures.of(measure).summary() };
    Report {
        version: 1,
        outcome,
        seed: config.seed,
        players: config.players,
        elapsed_seconds: elapsed.as_secs_f64(),
        rooms: u32::try_from(swarm.ledger.rooms()).unwrap_or(u32::MAX),
        counts: swarm.counts,
        measures: Measure::ALL.map(summary).to_vec(),
        generator: GeneratorHealth::judge(elapsed, cpu, &swarm.lag),
        violations,
        violations_total,
    }
}
