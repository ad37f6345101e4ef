//! Owns the loop of a run: it picks what happens next and hands it to the swarm.
//! Never decides anything about a player.

use std::{collections::VecDeque, io, ops::Range, os::fd::OwnedFd, rc::Rc, time::Duration};

use futures_util::{
    FutureExt as _,
    future::LocalBoxFuture,
    stream::{FuturesUnordered, StreamExt as _},
};
use greenroom_client::{ClientError, ControlClient};
use greenroom_core::{FleetName, PlayerId, RoomKey};
use greenroom_wire::{Text, api::AllocateRequest};
use tokio::{
    io::unix::AsyncFdReadyGuard,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Progress, Report, Scenario,
    diary::Diary,
    fact::Seat,
    flow::{Comeback, SocketName, Step},
    health::{Memory, players_possible, raise_file_limit, thread_cpu},
    open::{OpenError, Opened, open},
    oracle::Coverage,
    part::Part,
    player::{Found, PlayerIndex},
    report::Sample,
    scenario::player_name,
    swarm::{Errand, Swarm},
};

/// Questions to control that are under way at once; more wait.
const FINDS_MAX: usize = 64;
/// Connections that are being opened at once; more wait.
const OPENS_MAX: usize = 512;
/// Samples that a run keeps; a longer one keeps every second one of them, and so on.
const SAMPLES_MAX: usize = 1_200;

/// What players ask control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The address of a server of a fleet.
    Endpoint(FleetName),
    /// A seat for a player in the room of a key.
    Seat {
        /// The fleet.
        fleet: FleetName,
        /// The room's key.
        key: String,
        /// The player's id.
        player: String,
    },
}

/// Asks control: gives what was asked for, or why there is none.
pub type Find = Rc<dyn Fn(Question) -> LocalBoxFuture<'static, Result<Found, FindError>>>;

/// Why control did not give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FindError {
    /// In words.
    pub message: String,
    /// Whether the same question may be answered later: control is away, or has nothing free yet.
    pub is_retryable: bool,
}

impl From<ClientError> for FindError {
    fn from(error: ClientError) -> Self {
        Self { message: error.to_string(), is_retryable: error.is_retryable() }
    }
}

/// What no later question changes.
fn never(message: impl Into<String>) -> FindError {
    FindError { message: message.into(), is_retryable: false }
}

/// Asks the control plane that `control` calls.
#[must_use]
pub fn find_by(control: ControlClient) -> Find {
    Rc::new(move |question| {
        let control = control.clone();
        Box::pin(async move {
            match question {
                Question::Endpoint(fleet) => {
                    let answer = control.endpoint(&fleet).await?;
                    Ok(Found { url: answer.url, seat: None })
                }
                Question::Seat { fleet, key, player } => seat(&control, &fleet, &key, &player).await,
            }
        })
    })
}

async fn seat(
    control: &ControlClient,
    fleet: &FleetName,
    key: &str,
    player: &str,
) -> Result<Found, FindError> {
    let key: RoomKey = key.parse().map_err(|error| never(format!("{key:?} is no room key: {error}")))?;
    let player: PlayerId =
        player.parse().map_err(|error| never(format!("{player:?} is no player: {error}")))?;
    let request = AllocateRequest {
        key: Some(Text(key)),
        players: vec![Text(player)],
        idempotency_key: None,
        timeout_ms: None,
        init: serde_json::Value::Null,
        fill: false,
        select: None,
    };
    let room = control.allocate(fleet, &request).await?;
    let grant = room.seats.first().ok_or_else(|| never("the answer has no seat"))?;
    let seat = Seat { room: room.room.to_string().into(), endpoint: room.endpoint.into(), seat: grant.seat };
    Ok(Found { url: room.url, seat: Some((seat, grant.token.clone())) })
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
    /// The system does not let this process watch connections.
    #[error("connections cannot be watched: {0}; close other programs, or raise the limit with `ulimit -n`")]
    Watch(#[source] io::Error),
}

/// Which players this process holds, and when all processes begin.
#[derive(Debug, Clone)]
pub struct Share {
    /// Numbers of the players.
    pub players: Range<u32>,
    /// The moment from which all arrivals count.
    pub started: std::time::Instant,
    /// Whether every action is written down, which costs memory.
    pub keeps_actions: bool,
}

/// Sends all players through the scenario, and tells what they saw. `progress` is called about once a second.
/// When `stop` is cancelled, all players leave and the run counts as stopped. Needs a current-thread runtime of tokio.
///
/// # Errors
/// Before anything was sent, see [`RunError`]. What goes wrong later is in the report.
pub async fn run(
    scenario: &Scenario,
    find: &Find,
    stop: &CancellationToken,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, RunError> {
    let started = std::time::Instant::now();
    let share = Share { players: 0..scenario.players, started, keeps_actions: false };
    let part = run_part(scenario, share, find, stop, progress).await?;
    Ok(part.report(scenario, None))
}

/// Sends some of the players through the scenario, as [`run`] does with all; other processes hold the others.
///
/// # Errors
/// See [`run`].
pub async fn run_part(
    scenario: &Scenario,
    share: Share,
    find: &Find,
    stop: &CancellationToken,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Part, RunError> {
    let mut faults = scenario.faults();
    let players = u32::try_from(share.players.len()).unwrap_or(u32::MAX);
    if players < scenario.players && scenario.groups_span_processes() {
        faults.push("a barrier of matched players needs all players in one process".to_owned());
    }
    if !faults.is_empty() {
        return Err(RunError::Config { faults });
    }
    let files_max = raise_file_limit();
    let possible = players_possible(files_max);
    if let Some(files_max) = files_max.filter(|_| u64::from(players) > possible) {
        return Err(RunError::FileLimit { players, files_max, possible });
    }
    tokio::time::sleep_until(Instant::from_std(share.started)).await;
    let mut memory = Memory::first_look();
    let mut swarm = Swarm::new(scenario, share.players, share.started).map_err(RunError::Watch)?;
    if share.keeps_actions {
        swarm.diary = Diary::open();
    }
    let (coverage, samples) = drive(&mut swarm, &mut memory, find, stop, progress).await;
    let (elapsed, cpu) = (swarm.elapsed(), thread_cpu().saturating_sub(swarm.cpu_before));
    Ok(Part {
        coverage,
        elapsed,
        counts: swarm.counts,
        measures: swarm.measures,
        ledger: swarm.ledger,
        lag: swarm.lag,
        cpu,
        memory_bytes: memory.grown_bytes(),
        cpu_share: cpu.as_secs_f64() / elapsed.as_secs_f64().max(0.001),
        samples,
        actions: swarm.diary.close(),
    })
}

/// What happens next.
enum Turn<'a> {
    Ready(io::Result<AsyncFdReadyGuard<'a, OwnedFd>>),
    Found(PlayerIndex, Result<Found, String>),
    Opened(PlayerIndex, SocketName, std::time::Instant, Result<Opened, OpenError>),
    Time,
    Second,
    Stop,
}

/// One sample of the counts a second, thinned out in long runs.
#[derive(Default)]
struct Samples {
    kept: Vec<Sample>,
    seconds: u64,
    every: u64,
}

impl Samples {
    fn take(&mut self, progress: &Progress) {
        self.every = self.every.max(1);
        if self.seconds.is_multiple_of(self.every) {
            let second = u32::try_from(self.seconds).unwrap_or(u32::MAX);
            self.kept.push(Sample { second, counts: progress.counts });
        }
        self.seconds += 1;
        if self.kept.len() > SAMPLES_MAX {
            self.every *= 2;
            let every = self.every;
            self.kept.retain(|sample| u64::from(sample.second).is_multiple_of(every));
        }
    }
}

async fn drive(
    swarm: &mut Swarm,
    memory: &mut Memory,
    find: &Find,
    stop: &CancellationToken,
    progress: &mut dyn FnMut(&Progress),
) -> (Coverage, Vec<Sample>) {
    let mut finds = Lane::new(FINDS_MAX);
    let mut opens = Lane::new(OPENS_MAX);
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut coverage, mut samples) = (Coverage::Whole, Samples::default());
    let epoll = swarm.sockets.epoll();
    while !swarm.is_over() {
        let wake_at = swarm.wake_at();
        let turn = tokio::select! {
            ready = epoll.readable() => Turn::Ready(ready),
            Some((index, answer)) = finds.next() => Turn::Found(index, answer),
            Some((index, socket, began, opened)) = opens.next() => Turn::Opened(index, socket, began, opened),
            () = sleep_until(wake_at.map_or_else(Instant::now, Instant::from_std)), if wake_at.is_some() => Turn::Time,
            _ = seconds.tick() => Turn::Second,
            () = stop.cancelled(), if coverage == Coverage::Whole => Turn::Stop,
        };
        match turn {
            Turn::Ready(ready) => {
                let mut ready = ready.expect("the runtime goes on for as long as its tasks");
                if !swarm.handle_ready().expect("a valid epoll tells what is ready") {
                    // Whatever becomes ready from here on wakes the runtime's own epoll again.
                    ready.clear_ready();
                }
            }
            Turn::Found(index, answer) => swarm.handle_found(index, answer),
            Turn::Opened(index, socket, began, opened) => swarm.handle_opened(index, socket, began, opened),
            Turn::Time => swarm.handle_time(),
            Turn::Second => {
                swarm.handle_second();
                memory.look();
                samples.take(&swarm.progress());
                progress(&swarm.progress());
            }
            Turn::Stop => {
                coverage = Coverage::Cut;
                swarm.stop();
            }
        }
        for errand in std::mem::take(&mut swarm.errands) {
            send(errand, swarm.scenario(), find, &mut finds, &mut opens);
        }
    }
    samples.take(&swarm.progress());
    progress(&swarm.progress());
    (coverage, samples.kept)
}

type OpenedBy = (PlayerIndex, SocketName, std::time::Instant, Result<Opened, OpenError>);

fn send(
    errand: Errand,
    scenario: &Scenario,
    find: &Find,
    finds: &mut Lane<(PlayerIndex, Result<Found, String>)>,
    opens: &mut Lane<OpenedBy>,
) {
    let (index, step, key) = match errand {
        Errand::Find(index, step) => (index, step, String::new()),
        Errand::Join(index, step, key) => (index, step, key),
        Errand::Open(player, socket, dial) => {
            return opens.push(async move {
                let began = std::time::Instant::now();
                let opened = timeout(dial.within, open(&dial)).await;
                let late = |_| Err(OpenError::Late { url: dial.url.clone(), within: dial.within });
                (player, socket, began, opened.unwrap_or_else(late))
            });
        }
    };
    let (question, within) = match &scenario.flow.steps[step] {
        Step::Find { fleet, within } => (Question::Endpoint(fleet.clone()), *within),
        Step::Join { fleet, within, .. } => {
            let player = player_name(scenario.seed, index.0);
            (Question::Seat { fleet: fleet.clone(), key, player }, *within)
        }
        Step::Address { .. }
        | Step::Connect { .. }
        | Step::Emit { .. }
        | Step::Expect { .. }
        | Step::ExpectSeat { .. }
        | Step::Think { .. }
        | Step::Barrier { .. }
        | Step::LeaveLater { .. }
        | Step::Play { .. }
        | Step::Leave { .. } => return,
    };
    let asked = ask(Rc::clone(find), question, scenario.flow.comeback);
    finds.push(async move {
        let late = |_| Err(format!("control did not answer within {within:?}"));
        (index, timeout(within, asked).await.unwrap_or_else(late))
    });
}

/// One question; players who come back ask again while control is away, as often as they would dial.
async fn ask(find: Find, question: Question, comeback: Option<Comeback>) -> Result<Found, String> {
    loop {
        match (find(question.clone()).await, comeback) {
            (Err(error), Some(comeback)) if error.is_retryable => sleep(comeback.delay).await,
            (answer, _) => return answer.map_err(|error| error.to_string()),
        }
    }
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
