//! The little cluster that a trace is played in: servers that start, take rooms, and go.
//!
//! Never looks ahead: a policy sees what it could have seen then.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_core::autoscale::{
    ArrivalMeter, Change, Memory, Observed, ServerLoad, Shape, StartTimes, decide,
};
use greenroom_core::fleet::FleetKind;
use greenroom_core::gameserver::State;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::rule::{BEGIN, Rule};
use super::trace::Trace;

/// The first half hour fills the empty cluster; nothing of it is counted.
pub const WARM_UP_S: u32 = 1_800;
/// Points of a curve.
const MOMENTS: u32 = 72;

/// What becomes of a server whose last room has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServersLive {
    /// It takes the next one.
    On,
    /// It ends, and a new one is started for it: the custom of the field.
    Once,
}

/// What is played besides the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Rooms of one server. At least 1.
    pub rooms_per_server: u16,
    /// Bounds of the fleet.
    pub replicas_min: u32,
    /// Never more servers.
    pub replicas_max: u32,
    /// Half of the servers take no longer to start; all take between half and one and a half times as long.
    pub start: Duration,
    /// A caller who waited this long goes away.
    pub patience: Duration,
    /// What becomes of servers.
    pub servers_live: ServersLive,
    /// For arrivals within a row, sessions and start-up times.
    pub seed: u64,
}

/// What came of it, the first [`WARM_UP_S`] seconds left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rooms asked for.
    pub asked: u64,
    /// Of them had to wait, those who went away counted.
    pub waited: u64,
    /// Of them went away.
    pub failed: u64,
    /// All but one in twenty of those asked for waited no longer; who went away waited for all their patience.
    pub wait_p95_s: u32,
    /// All but one in a hundred.
    pub wait_p99_s: u32,
    /// Seconds of servers with no room on them, starting ones counted.
    pub idle_server_s: u64,
    /// Seconds of servers with rooms.
    pub busy_server_s: u64,
    /// Decisions that made the number of servers larger.
    pub outs: u32,
    /// Decisions that made it smaller.
    pub ins: u32,
    /// Servers started.
    pub starts: u64,
    /// Most servers at once.
    pub servers_max: u32,
    /// The run in 72 points.
    pub curve: Vec<Moment>,
}

/// One seventy-second of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    /// Most rooms at once.
    pub rooms: u32,
    /// Most servers at once.
    pub servers: u32,
    /// Callers that had to wait.
    pub waited: u32,
}

#[derive(Clone, Copy)]
struct SimServer {
    ready_s: u32,
    rooms: u32,
    idle_since_s: u32,
}

struct Cluster<'a> {
    settings: &'a Settings,
    random: ChaCha8Rng,
    servers: BTreeMap<u32, SimServer>,
    next_server: u32,
    /// The servers that become ready and how long they took, by second.
    starting: BTreeMap<u32, Vec<(u32, u32)>>,
    rooms: u32,
    busy: u32,
    /// Servers whose rooms end, by second.
    ends: BTreeMap<u32, Vec<u32>>,
    /// Since when each caller waits, and how long their room will live.
    waiting: VecDeque<(u32, u32)>,
    /// How many waited for this many seconds.
    waits: BTreeMap<u32, u64>,
    start_times: StartTimes,
    outcome: Outcome,
}

/// Plays `trace` with `rule` deciding. The same input gives the same outcome.
#[must_use]
pub fn play(trace: &Trace, rule: &Rule, settings: &Settings) -> Outcome {
    let mut cluster = Cluster::new(settings);
    let shape = Shape {
        kind: FleetKind::Room { rooms_per_server: settings.rooms_per_server.max(1), seats_per_room: 1 },
        replicas_min: settings.replicas_min,
        replicas_max: settings.replicas_max,
    };
    let mut arrivals = Arrivals::of(trace, settings.seed);
    let mut meter = ArrivalMeter::new(BEGIN);
    let mut memory = Memory::default();
    let mut wanted = 0;
    let seconds = trace.seconds();
    let curve = seconds.div_ceil(MOMENTS).max(1);
    for second in 0..seconds {
        let counted = second >= WARM_UP_S;
        cluster.begin(second);
        let come = arrivals.at(second);
        let now = at(second);
        meter.observe(now, u32::try_from(come.len()).unwrap_or(u32::MAX));
        cluster.outcome.asked += if counted { u64::try_from(come.len()).unwrap_or(0) } else { 0 };
        cluster.waiting.extend(come.into_iter().map(|session_s| (second, session_s)));
        cluster.serve(second);
        // Waiting callers are an event for who sees them.
        if second.is_multiple_of(rule.period_s) || (rule.sees_waiting && !cluster.waiting.is_empty()) {
            let loads = cluster.loads(second);
            let waiting = if rule.sees_waiting { cluster.waiting.len() } else { 0 };
            let observed = Observed {
                selective_missing: None,
                servers: &loads,
                waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
                seats_free: 0,
                arrivals: meter.flow(),
                start_time: cluster.start_times.measured(),
            };
            let decision = decide(&shape, &rule.autoscale, &observed, &memory, now);
            memory = decision.memory;
            wanted = decision.replicas_wanted;
            if counted && decision.change != Change::None {
                cluster.outcome.outs += u32::from(wanted > decision.replicas_before);
                cluster.outcome.ins += u32::from(wanted < decision.replicas_before);
            }
        }
        cluster.follow(wanted, second, counted);
        cluster.account(usize::try_from(second / curve).unwrap_or(0), counted);
    }
    cluster.finish(seconds)
}

fn at(second: u32) -> Timestamp {
    BEGIN + Duration::from_secs(second.into())
}

impl<'a> Cluster<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            random: ChaCha8Rng::seed_from_u64(settings.seed),
            servers: BTreeMap::new(),
            next_server: 0,
            starting: BTreeMap::new(),
            rooms: 0,
            busy: 0,
            ends: BTreeMap::new(),
            waiting: VecDeque::new(),
            waits: BTreeMap::new(),
            start_times: StartTimes::default(),
            outcome: Outcome::default(),
        }
    }

    /// Servers that have started are ready, rooms whose time is over end.
    fn begin(&mut self, second: u32) {
        for (name, took_s) in self.starting.remove(&second).unwrap_or_default() {
            if self.servers.contains_key(&name) {
                self.start_times.observe(Duration::from_secs(took_s.into()));
            }
        }
        for name in self.ends.remove(&second).unwrap_or_default() {
            let Some(server) = self.servers.get_mut(&name) else { continue };
            server.rooms -= 1;
            self.rooms -= 1;
            self.busy -= u32::from(server.rooms == 0);
            server.idle_since_s = second;
            if server.rooms == 0 && self.settings.servers_live == ServersLive::Once {
                self.servers.remove(&name);
            }
        }
    }

    /// Callers get their rooms in their order: on the fullest server that has a place, as an allocation does it.
    fn serve(&mut self, second: u32) {
        let rooms_max = u32::from(self.settings.rooms_per_server.max(1));
        while let Some((since, session_s)) = self.waiting.front().copied() {
            let free = self.servers.iter_mut().filter(|(_, s)| s.ready_s <= second && s.rooms < rooms_max);
            let Some((name, server)) = free.max_by_key(|(name, s)| (s.rooms, u32::MAX - **name)) else {
                break;
            };
            self.busy += u32::from(server.rooms == 0);
            self.rooms += 1;
            server.rooms += 1;
            self.ends.entry(second + session_s).or_default().push(*name);
            self.waiting.pop_front();
            self.waited(second - since, false, since >= WARM_UP_S);
        }
        let patience = u32::try_from(self.settings.patience.as_secs()).unwrap_or(u32::MAX);
        while let Some((since, _)) =
            self.waiting.front().copied().filter(|(since, _)| second - since >= patience)
        {
            self.waiting.pop_front();
            self.waited(patience, true, since >= WARM_UP_S);
        }
    }

    fn waited(&mut self, wait_s: u32, failed: bool, counted: bool) {
        if counted {
            *self.waits.entry(wait_s).or_default() += 1;
            self.outcome.waited += u64::from(wait_s > 0 || failed);
            self.outcome.failed += u64::from(failed);
        }
    }

    fn loads(&self, second: u32) -> Vec<ServerLoad> {
        let load = |server: &SimServer| ServerLoad {
            full: false,
            state: match server.rooms {
                _ if server.ready_s > second => State::Starting,
                0 => State::Ready,
                _ => State::Allocated,
            },
            idle: server.rooms == 0,
            rooms: server.rooms,
            players: server.rooms,
            connections: server.rooms,
            connects_per_minute: None,
            tick_lateness_ms: None,
            loop_lag_ms: None,
        };
        self.servers.values().map(load).collect()
    }

    /// Starts what is missing, stops what is idle and too much: starting ones first, then the longest idle.
    fn follow(&mut self, wanted: u32, second: u32, counted: bool) {
        let count = u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
        for _ in count..wanted {
            let median = u32::try_from(self.settings.start.as_secs()).unwrap_or(u32::MAX).max(1);
            let took = self.random.random_range(median / 2..=median + median / 2).max(1);
            let ready_s = second + took;
            self.starting.entry(ready_s).or_default().push((self.next_server, took));
            let server = SimServer { ready_s, rooms: 0, idle_since_s: ready_s };
            self.servers.insert(self.next_server, server);
            self.next_server += 1;
            self.outcome.starts += u64::from(counted);
        }
        if count > wanted {
            let mut idle: Vec<(bool, u32, u32)> = self
                .servers
                .iter()
                .filter(|(_, server)| server.rooms == 0)
                .map(|(name, server)| (server.ready_s <= second, server.idle_since_s, *name))
                .collect();
            idle.sort_unstable();
            for (_, _, name) in idle.iter().take(usize::try_from(count - wanted).unwrap_or(0)) {
                self.servers.remove(name);
            }
        }
    }

    fn account(&mut self, moment: usize, counted: bool) {
        let servers = u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
        let (rooms, busy) = (self.rooms, u64::from(self.busy));
        let outcome = &mut self.outcome;
        outcome.curve.resize(outcome.curve.len().max(moment + 1), Moment::default());
        let point = &mut outcome.curve[moment];
        point.rooms = point.rooms.max(rooms);
        point.servers = point.servers.max(servers);
        if counted {
            let told: u32 = u32::try_from(outcome.waited).unwrap_or(u32::MAX);
            point.waited = told;
            outcome.busy_server_s += busy;
            outcome.idle_server_s += u64::from(servers) - busy;
            outcome.servers_max = outcome.servers_max.max(servers);
        }
    }

    /// Those who still wait at the end have waited until then.
    fn finish(mut self, second: u32) -> Outcome {
        for (since, _) in std::mem::take(&mut self.waiting) {
            self.waited(second - since, false, since >= WARM_UP_S);
        }
        // Until now each point holds how many had waited by then.
        let mut before = 0;
        for point in &mut self.outcome.curve {
            let by_then = point.waited.max(before);
            point.waited = by_then - before;
            before = by_then;
        }
        self.outcome.wait_p95_s = self.rank(95);
        self.outcome.wait_p99_s = self.rank(99);
        self.outcome
    }

    fn rank(&self, percent: u64) -> u32 {
        let all: u64 = self.waits.values().sum();
        let mut rest = (all * percent).div_ceil(100);
        for (wait_s, callers) in &self.waits {
            if *callers >= rest {
                return *wait_s;
            }
            rest -= callers;
        }
        0
    }
}

/// The trace's arrivals second by second: within a row each comes at a moment of its own.
struct Arrivals {
    by_second: BTreeMap<u32, Vec<u32>>,
}

impl Arrivals {
    /// A seed of its own, so that every policy meets the same callers with the same sessions.
    fn of(trace: &Trace, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
        let mut by_second: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (row, until_s) in trace.stretches() {
            for _ in 0..row.arrivals {
                let second = random.random_range(row.at_s..until_s);
                by_second.entry(second).or_default().push(session(&mut random, row.session_s));
            }
        }
        Self { by_second }
    }

    fn at(&mut self, second: u32) -> Vec<u32> {
        self.by_second.remove(&second).unwrap_or_default()
    }
}

/// Sessions end with the same chance in each hundredth of the mean, whatever their age; at most ten means long.
fn session(random: &mut ChaCha8Rng, mean_s: u32) -> u32 {
    let hundredths = (1..1_000).find(|_| random.random_range(0..100) == 0).unwrap_or(1_000);
    (mean_s * hundredths / 100).max(1)
}
