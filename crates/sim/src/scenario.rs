//! The size of a run and what goes wrong in it, drawn from its seed.
//!
//! Never plays anything.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_core::autoscale::Autoscale;
use greenroom_core::fleet::{Fleet, FleetKind, Probe, Template};
use greenroom_wire::revision::revision;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

/// Length of one step.
pub(crate) const STEP_MS: u64 = 50;

/// Longest silence of an agent: well below what makes a host lost, so that no key may ever have two rooms.
const SILENCE_MS_MAX: u64 = 60_000;

/// One run.
#[derive(Debug)]
pub(crate) struct Scenario {
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
    /// Longest start-up of a server.
    pub(crate) startup_ms_max: u64,
    /// Mean time between crashes of servers.
    pub(crate) crash_ms: u64,
    /// Mean time between faults of agents and their streams.
    pub(crate) agent_fault_ms: u64,
    /// Mean time between deaths of control.
    pub(crate) control_crash_ms: u64,
    /// The fleets at the start.
    pub(crate) fleets: Vec<Fleet>,
}

impl Scenario {
    pub(crate) fn draw(rng: &mut ChaCha8Rng) -> Self {
        let hosts = rng.random_range(1..=4);
        let arena_max = rng.random_range(2..=8);
        let arena_min = rng.random_range(0..arena_max);
        let kind = FleetKind::Room { rooms_per_server: rng.random_range(1..=3), seats_per_room: 4 };
        let arena = fleet("arena", kind, arena_min, arena_max);
        let lobby_min = rng.random_range(1..=3);
        let lobby = fleet("lobby", FleetKind::Mesh, lobby_min, lobby_min + 2);
        Self {
            hosts,
            servers_per_host: rng.random_range(15..=30_u32).div_ceil(hosts),
            trouble_ms: rng.random_range(40_000..=120_000),
            rest_ms: SILENCE_MS_MAX + 240_000,
            calls_per_1000_s: rng.random_range(200..=3_000),
            startup_ms_max: rng.random_range(200..=4_000),
            crash_ms: rng.random_range(5_000..=60_000),
            agent_fault_ms: rng.random_range(4_000..=40_000),
            control_crash_ms: rng.random_range(15_000..=120_000),
            fleets: vec![arena, lobby],
        }
    }

    /// How long an agent stays silent: mostly a moment, sometimes long.
    pub(crate) fn silence_ms(&self, rng: &mut ChaCha8Rng) -> u64 {
        let most = if rng.random_bool(0.2) { SILENCE_MS_MAX } else { 6_000 };
        rng.random_range(100..=most)
    }

    /// The arena's next revision: the same fleet with another command.
    pub(crate) fn deploy(&mut self) {
        let arena = &mut self.fleets[0];
        let number = arena.template.command.len();
        arena.template.command.push(format!("--build={number}"));
        arena.revision = revision(&arena.template, arena.kind);
    }
}

fn fleet(name: &str, kind: FleetKind, replicas_min: u32, replicas_max: u32) -> Fleet {
    let template = Template {
        command: vec![name.to_owned()],
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        probe: Probe::EngineIo,
        stop_grace: Duration::from_secs(10),
    };
    Fleet {
        name: name.parse().expect("the names here are valid"),
        kind,
        revision: revision(&template, kind),
        template,
        replicas_min,
        replicas_max,
        match_players: 0,
        autoscale: Autoscale {
            cooldown_out: Duration::from_secs(5),
            cooldown_in: Duration::from_secs(20),
            settle_in: Duration::from_secs(10),
            ..Autoscale::default()
        },
        start_timeout: Duration::from_secs(20),
        ports: None,
    }
}

/// Whether something that happens every `mean_ms` on average happens in this step.
pub(crate) fn happens(rng: &mut ChaCha8Rng, mean_ms: u64) -> bool {
    rng.random_range(0..mean_ms.max(STEP_MS)) < STEP_MS
}
