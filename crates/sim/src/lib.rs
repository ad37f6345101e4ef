//! The simulated cluster: the real control plane's world, among hosts, servers, players and a store that are made up.
//!
//! Never uses a clock, a socket or a thread: a run is a function of its seed, so a failure can be played again. Agents
//! fall silent, streams break, messages are late and repeated, servers crash, control dies and starts again,
//! or freezes while another takes over, and the store that they share is late, out of reach or set back; the [`Violation`]s
//! say what must be true all the same.

mod callers;
mod cli;
mod cluster;
mod host;
pub mod invariant;
mod lobby;
pub mod replay;
mod replica;
mod scenario;
mod server;
mod store;
mod stream;

use greenroom_core::placement::Spread;

use scenario::Scenario;

pub use cli::main_with_args;
pub use invariant::Violation;
pub use scenario::LEAKY_LIMIT_BYTES;

/// Of so many seeds one spreads its servers over zones.
const SEEDS_OF_ZONES: u64 = 7;

/// What happened in a run that went well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Simulated milliseconds until the cluster was at rest again.
    pub ran_ms: u64,
    /// Calls answered with a room or an endpoint.
    pub granted: u64,
    /// Calls refused, all reasons together.
    pub refused: u64,
    /// Players who got into their room or onto a mesh server.
    pub arrived: u64,
    /// Players who were turned away at the server: late, or their server died.
    pub turned_away: u64,
    /// Rooms that ended on their server.
    pub rooms_ended: u64,
    /// Results that the webhook took.
    pub results: u64,
    /// Gameservers that were started for the first time.
    pub servers_started: u64,
    /// Gameserver processes that died.
    pub servers_crashed: u64,
    /// Rooms that went on in the next process of their server.
    pub rooms_taken_up: u64,
    /// Streams that broke and agents that fell silent or started again.
    pub agent_faults: u64,
    /// Whole hosts that died with all that ran on them.
    pub hosts_lost: u64,
    /// Times that all hosts of a zone died at once.
    pub zones_lost: u64,
    /// Control processes that died.
    pub control_crashes: u64,
    /// Faults of the store: commits that failed; of a shared one everything that went wrong with it.
    pub store_faults: u64,
    /// Leaderships that began.
    pub leaders: u64,
    /// Leaders and followers that were killed, frozen, stopped or cut off.
    pub leader_faults: u64,
    /// Batches of deposed leaders that the store refused.
    pub batches_refused: u64,
    /// Orders and welcomes that agents refused, because they obey another.
    pub orders_refused: u64,
    /// Times that the store came back without something.
    pub rewinds: u64,
    /// Tickets that were assigned.
    pub matched: u64,
    /// Decisions that changed how many servers a fleet should have.
    pub decisions: u64,
    /// Orders of a person.
    pub orders: u64,
    /// Gameservers told to stop.
    pub servers_stopped: u64,
    /// Of them, those that had done enough.
    pub servers_recycled: u64,
    /// The most memory that any process held, in bytes.
    pub memory_bytes_max: u64,
    /// Steps of time that were simulated: each lets everything there is act once.
    pub steps: u64,
    /// Events that the control plane handled in them: calls, messages of agents, ticks.
    pub events: u64,
}

/// Runs one simulated cluster: of every three seeds one has several control processes on one store, the others have one
/// alone; of every seven one spreads its servers over zones. The same seed gives the same run on every machine.
///
/// # Errors
/// The first invariant that did not hold, with the simulated moment.
pub fn run(seed: u64) -> Result<Summary, Violation> {
    let draw = if seed.is_multiple_of(3) { Scenario::draw_replicas } else { Scenario::draw };
    let spread = if seed % SEEDS_OF_ZONES == 5 { Spread::Zones } else { Spread::Hosts };
    cluster::Cluster::new(seed, |rng| draw(rng).spread(spread)).run()
}

/// Runs so many simulated hours of noisy load under the cool-downs of a real fleet, with a fault now and then.
///
/// # Errors
/// The first invariant that did not hold, with the simulated moment.
pub fn run_day(seed: u64, hours: u32) -> Result<Summary, Violation> {
    cluster::Cluster::new(seed, |rng| Scenario::day(rng, hours)).run()
}

/// Runs so many simulated hours of noisy load on servers that leak a mebibyte a room, and are worn at
/// [`LEAKY_LIMIT_BYTES`]. Nothing else goes wrong.
///
/// # Errors
/// The first invariant that did not hold, with the simulated moment.
pub fn run_leaky(seed: u64, hours: u32) -> Result<Summary, Violation> {
    cluster::Cluster::new(seed, |rng| Scenario::leaky(rng, hours)).run()
}
