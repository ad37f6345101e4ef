//! The size of a run and what goes wrong in it, drawn from its seed.
//!
//! Never plays anything.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_control::world::{Bounds, NewsConfig, Results, Timings, WorldConfig};
use greenroom_core::allocate::Preference;
use greenroom_core::autoscale::{Amount, Autoscale, BufferUnit, Freeze, Metric, Policy, ScaleIn};
use greenroom_core::fleet::{Fleet, FleetKind, FullAt, Probe, Recycle, Template};
use greenroom_core::matchmake::Rules;
use greenroom_core::placement::Spread;
use greenroom_wire::revision::revision;
use greenroom_wire::token::PublicKeys;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::server::{LATE_MS, LEAK_BYTES, MEMORY_BYTES};

/// Length of one step of a run that is all trouble.
const STEP_MS: u64 = 50;
/// Length of one step of a day.
const DAY_STEP_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600_000;

/// Longest silence of an agent: well below what makes a host lost, so that no key may ever have two rooms.
const SILENCE_MS_MAX: u64 = 60_000;
/// Silence that makes a host lost: rooms on it end, and their keys are free.
const HOST_LOST_MS: u64 = 90_000;

/// What a process may hold in a run of leaks: twelve rooms.
pub const LEAKY_LIMIT_BYTES: u64 = MEMORY_BYTES + 12 * LEAK_BYTES;

/// What a control plane is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plane {
    /// One process with a store at hand and no lease.
    Alone,
    /// So many processes with leases, on a store that is elsewhere.
    Replicas(usize),
}

impl Plane {
    /// How many processes.
    pub(crate) const fn processes(self) -> usize {
        match self {
            Self::Alone => 1,
            Self::Replicas(count) => count,
        }
    }
}

/// One run.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Length of one step; 100 or a divisor of it, or a multiple.
    pub(crate) step_ms: u64,
    /// What the control plane is made of.
    pub(crate) plane: Plane,
    /// Mean time between faults of leaders, their ways and their store, where there are several.
    pub(crate) leader_fault_ms: u64,
    /// Hosts.
    pub(crate) hosts: u32,
    /// Servers one host may hold.
    pub(crate) servers_per_host: u32,
    /// How long players come and things go wrong.
    pub(crate) trouble_ms: u64,
    /// How long the cluster then has to come to rest.
    pub(crate) rest_ms: u64,
    /// Calls for rooms per second, in thousandths.
    pub(crate) calls_per_1000_s: u64,
    /// Tickets per second, in thousandths.
    pub(crate) tickets_per_1000_s: u64,
    /// Longest stay of a player.
    pub(crate) stay_ms_max: u64,
    /// Longest start-up of a server.
    pub(crate) startup_ms_max: u64,
    /// Whether rooms outlive the processes of their servers.
    pub(crate) keeps_rooms: bool,
    /// Mean time between crashes of servers.
    pub(crate) crash_ms: u64,
    /// Mean time between faults of agents and their streams.
    pub(crate) agent_fault_ms: u64,
    /// Mean time between deaths of whole hosts, each with all that runs on it.
    pub(crate) host_loss_ms: u64,
    /// Mean time between deaths of control.
    pub(crate) control_crash_ms: u64,
    /// Mean time between commits that fail.
    pub(crate) store_fault_ms: u64,
    /// Mean time between orders of a person.
    pub(crate) order_ms: u64,
    /// The fleets at the start.
    pub(crate) fleets: Vec<Fleet>,
}

impl Scenario {
    /// A minute or two in which everything goes wrong.
    pub(crate) fn draw(rng: &mut ChaCha8Rng) -> Self {
        let hosts = rng.random_range(1..=4);
        let arena_max = rng.random_range(2..=8);
        let arena_min = rng.random_range(0..arena_max);
        let kind = FleetKind::Room { rooms_per_server: rng.random_range(1..=3), seats_per_room: 4 };
        let mut arena = fleet("arena", kind, arena_min, arena_max);
        arena.matching = Rules::first_come(rng.random_range(2..=4));
        arena.autoscale = autoscale(rng, kind);
        arena.allocation =
            preference(rng, &[Preference::Packing, Preference::LeastConnected, Preference::PowerOfTwo]);
        let lobby_min = rng.random_range(0..=3);
        let mut lobby = fleet("lobby", FleetKind::Mesh, lobby_min, lobby_min + 2);
        lobby.autoscale = autoscale(rng, FleetKind::Mesh);
        lobby.allocation = preference(rng, &[Preference::LeastConnected, Preference::PowerOfTwo]);
        arena.recycle = recycle(rng, arena_max);
        arena.full_at = full_at(rng);
        lobby.full_at = full_at(rng);
        Self {
            step_ms: STEP_MS,
            plane: Plane::Alone,
            leader_fault_ms: u64::MAX,
            hosts,
            servers_per_host: rng.random_range(15..=30_u32).div_ceil(hosts),
            trouble_ms: rng.random_range(40_000..=120_000),
            rest_ms: HOST_LOST_MS + 300_000,
            calls_per_1000_s: rng.random_range(200..=3_000),
            tickets_per_1000_s: rng.random_range(1..=1_000),
            stay_ms_max: if rng.random_bool(0.3) { 90_000 } else { 20_000 },
            startup_ms_max: rng.random_range(200..=4_000),
            keeps_rooms: rng.random_bool(0.4),
            crash_ms: rng.random_range(5_000..=60_000),
            agent_fault_ms: rng.random_range(4_000..=40_000),
            host_loss_ms: rng.random_range(30_000..=300_000),
            control_crash_ms: rng.random_range(15_000..=120_000),
            store_fault_ms: rng.random_range(20_000..=200_000),
            order_ms: rng.random_range(10_000..=100_000),
            fleets: vec![arena, lobby],
        }
    }

    /// The same minute or two for several control processes that die, freeze, are cut off and lose their store's last words.
    pub(crate) fn draw_replicas(rng: &mut ChaCha8Rng) -> Self {
        let plane = Plane::Replicas(rng.random_range(1..=3));
        let leader_fault_ms = rng.random_range(4_000..=40_000);
        let store_fault_ms = rng.random_range(8_000..=80_000);
        Self { plane, leader_fault_ms, store_fault_ms, ..Self::draw(rng) }
    }

    /// Hours of noisy load under the cool-downs of a real fleet, with a fault now and then.
    pub(crate) fn day(rng: &mut ChaCha8Rng, hours: u32) -> Self {
        let kind = FleetKind::Room { rooms_per_server: 2, seats_per_room: 4 };
        let mut arena = fleet("arena", kind, 1, 60);
        arena.matching = Rules::first_come(4);
        arena.autoscale = Autoscale {
            policies: vec![
                Policy::Demand,
                Policy::BaseStock { z_milli: 2_000, start_time: Duration::from_secs(10) },
            ],
            cooldown_out: Duration::from_mins(3),
            cooldown_in: Duration::from_hours(1),
            settle_in: Duration::from_mins(5),
            step_out_max: rng.random_range(2..=60),
            step_in_max: rng.random_range(2..=60),
            freeze: Freeze::Nothing,
            scale_in: if rng.random_bool(0.5) { ScaleIn::Idle } else { ScaleIn::Cordon },
        };
        let mut lobby = fleet("lobby", FleetKind::Mesh, 1, 6);
        lobby.autoscale.policies.push(average(Metric::Connections, 8));
        Self {
            step_ms: DAY_STEP_MS,
            plane: Plane::Alone,
            leader_fault_ms: u64::MAX,
            hosts: 3,
            servers_per_host: 40,
            trouble_ms: u64::from(hours) * HOUR_MS,
            rest_ms: 10 * HOUR_MS,
            calls_per_1000_s: 300,
            tickets_per_1000_s: 100,
            stay_ms_max: 600_000,
            startup_ms_max: 20_000,
            keeps_rooms: true,
            crash_ms: HOUR_MS,
            agent_fault_ms: 1_800_000,
            host_loss_ms: 6 * HOUR_MS,
            control_crash_ms: 4 * HOUR_MS,
            store_fault_ms: 6 * HOUR_MS,
            order_ms: u64::MAX / 2,
            fleets: vec![arena, lobby],
        }
    }

    /// Hours of noisy load on servers that leak.
    pub(crate) fn leaky(rng: &mut ChaCha8Rng, hours: u32) -> Self {
        const NEVER: u64 = u64::MAX / 2;
        let mut day = Self::day(rng, hours);
        day.fleets[0].recycle = Recycle { memory_bytes: Some(LEAKY_LIMIT_BYTES), ..Recycle::default() };
        day.fleets[0].replicas_max = 12;
        // Few and short, so that ten hours are soon over.
        Self {
            stay_ms_max: 200_000,
            calls_per_1000_s: 100,
            tickets_per_1000_s: 30,
            crash_ms: NEVER,
            agent_fault_ms: NEVER,
            host_loss_ms: NEVER,
            control_crash_ms: NEVER,
            store_fault_ms: NEVER,
            ..day
        }
    }

    /// The same with this spread of servers.
    pub(crate) fn spread(mut self, spread: Spread) -> Self {
        for fleet in &mut self.fleets {
            fleet.spread = spread;
        }
        self
    }

    /// What a control process is told at its start.
    pub(crate) fn world_config(&self, term: u64) -> WorldConfig {
        WorldConfig {
            fleets: self.fleets.clone(),
            keys: PublicKeys::default(),
            term,
            without_leader: None,
            results: Results::Deliver,
            news: NewsConfig::default(),
            triggers: Vec::new(),
            timings: self.timings(),
            bounds: Bounds::default(),
        }
    }

    /// The times of the control plane.
    fn timings(&self) -> Timings {
        Timings { host_lost_after: Duration::from_millis(HOST_LOST_MS), ..Timings::default() }
    }

    /// How long an agent stays silent: mostly a moment, sometimes long.
    pub(crate) fn silence_ms(&self, rng: &mut ChaCha8Rng) -> u64 {
        let most = if rng.random_bool(0.2) { SILENCE_MS_MAX } else { 6_000 };
        rng.random_range(100..=most)
    }

    /// A silence that outlasts whatever waits for a process.
    pub(crate) fn long_silence_ms(&self, rng: &mut ChaCha8Rng) -> u64 {
        rng.random_range(SILENCE_MS_MAX / 2..=SILENCE_MS_MAX)
    }

    /// How long a host that died stays away: sometimes for longer than it is waited for.
    pub(crate) fn absence_ms(&self, rng: &mut ChaCha8Rng) -> u64 {
        rng.random_range(1_000..=HOST_LOST_MS + 60_000)
    }

    /// How noisy the load is at a moment: it steps between nothing and three times its mean.
    pub(crate) fn load_permille(&self, now_ms: u64) -> u64 {
        // Four waves of lengths that share no divisor: they come together and part without a pattern.
        let wave = |length_ms: u64| if (now_ms / length_ms).is_multiple_of(2) { 750 } else { 0 };
        [601_000, 1_753_000, 4_337_000, 9_901_000].map(wave).iter().sum()
    }

    /// The arena's next revision: the same fleet with another command.
    pub(crate) fn deploy(&mut self) {
        let arena = &mut self.fleets[0];
        let number = arena.template.command.len();
        arena.template.command.push(format!("--build={number}"));
        arena.revision = revision(&arena.template, arena.kind);
    }
}

/// Limits that are reached within a minute or two, or none.
fn recycle(rng: &mut ChaCha8Rng, replicas_max: u32) -> Recycle {
    let leak = rng.random_range(2..=12);
    // Replaced one after the other, so a fleet whose servers age faster than that is never at rest.
    let least_s = 15 * u64::from(replicas_max);
    Recycle {
        age: rng.random_bool(0.3).then(|| Duration::from_secs(least_s + rng.random_range(0..=60))),
        rooms: rng.random_bool(0.3).then(|| rng.random_range(1..=8)),
        memory_bytes: rng.random_bool(0.3).then_some(MEMORY_BYTES + leak * LEAK_BYTES),
    }
}

/// Caps that servers reach now and then, or none.
fn full_at(rng: &mut ChaCha8Rng) -> FullAt {
    FullAt {
        connections: rng.random_bool(0.2).then(|| rng.random_range(2..=8)),
        tick_lateness_ms: None,
        loop_lag_ms: rng.random_bool(0.5).then_some(LATE_MS),
    }
}

fn preference(rng: &mut ChaCha8Rng, of: &[Preference]) -> Preference {
    of[rng.random_range(0..of.len())]
}

/// Rules with short times, so that a minute or two see many decisions.
fn autoscale(rng: &mut ChaCha8Rng, kind: FleetKind) -> Autoscale {
    let mut policies = vec![Policy::Demand];
    match kind {
        FleetKind::Mesh => {
            if rng.random_bool(0.7) {
                policies.push(average(Metric::Connections, rng.random_range(1..=6)));
            }
        }
        FleetKind::Room { .. } => {
            if rng.random_bool(0.4) {
                let z_milli = rng.random_range(0..=3_000);
                policies.push(Policy::BaseStock { z_milli, start_time: Duration::from_secs(3) });
            }
            if rng.random_bool(0.4) {
                let units = [BufferUnit::Servers, BufferUnit::Rooms, BufferUnit::Seats];
                let unit = units[rng.random_range(0..units.len())];
                policies.push(Policy::Buffer { amount: Amount::Absolute(rng.random_range(0..=4)), unit });
            }
            if rng.random_bool(0.3) {
                let metrics = [Metric::Rooms, Metric::Players, Metric::Connections];
                policies.push(average(metrics[rng.random_range(0..metrics.len())], rng.random_range(1..=4)));
            }
        }
    }
    Autoscale {
        policies,
        cooldown_out: Duration::from_millis(rng.random_range(0..=10_000)),
        cooldown_in: Duration::from_millis(rng.random_range(0..=20_000)),
        settle_in: Duration::from_millis(rng.random_range(0..=8_000)),
        step_out_max: rng.random_range(1..=6),
        step_in_max: rng.random_range(1..=6),
        freeze: Freeze::Nothing,
        scale_in: if rng.random_bool(0.5) { ScaleIn::Idle } else { ScaleIn::Cordon },
    }
}

const fn average(metric: Metric, per_server: u32) -> Policy {
    Policy::TargetAverage { metric, per_server, spare: 0 }
}

fn fleet(name: &str, kind: FleetKind, replicas_min: u32, replicas_max: u32) -> Fleet {
    let template = Template {
        command: vec![name.to_owned()],
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        probe: Probe::EngineIo,
        stop_grace: Duration::from_secs(10),
        min_ready: Duration::ZERO,
        agones: false,
    };
    Fleet {
        name: name.parse().expect("the names here are valid"),
        kind,
        revision: revision(&template, kind),
        template,
        replicas_min,
        replicas_max,
        matching: Rules::default(),
        autoscale: Autoscale::default(),
        allocation: Preference::of(kind),
        spread: Spread::default(),
        start_timeout: Duration::from_secs(25),
        recycle: Recycle::default(),
        full_at: FullAt::default(),
        ports: None,
    }
}

/// Whether something that happens every `mean_ms` on average happens in this step.
pub(crate) fn happens(rng: &mut ChaCha8Rng, step_ms: u64, mean_ms: u64) -> bool {
    rng.random_range(0..mean_ms.max(step_ms)) < step_ms
}
