//! What the world is told at its start: the fleets, its times and its bounds.
//!
//! Never read from anywhere: the caller checked it.

use std::time::Duration;

use greenroom_core::fleet::Fleet;
use greenroom_wire::token::PublicKeys;

use super::news::NewsConfig;
use super::triggers::TriggerRule;

/// All that a world is built from besides the records.
#[derive(Debug, Clone)]
pub struct WorldConfig {
    /// The fleets, each name once. A server of a fleet that is not here is shown and left alone.
    pub fleets: Vec<Fleet>,
    /// The keys that agents hand to their servers.
    pub keys: PublicKeys,
    /// This control process's term: above every term the store has seen.
    pub term: u64,
    /// How long nobody led before this process does; `None`: nobody ever led, or it is not known.
    pub without_leader: Option<Duration>,
    /// Where results go.
    pub results: Results,
    /// Who outside is told what.
    pub news: NewsConfig,
    /// What is watched, each name once.
    pub triggers: Vec<TriggerRule>,
    /// How long things take.
    pub timings: Timings,
    /// How many there may be.
    pub bounds: Bounds,
}

/// Where the results of ended rooms go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Results {
    /// Stored and handed to the webhook until it takes them.
    Deliver,
    /// Nobody wants them: only the event line and the ended room remain.
    Discard,
}

/// How long things take. The defaults are the documented ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// How long a reserved seat waits for its player; rounded up to a whole second. Default 30 s.
    pub reservation: Duration,
    /// How long after that the seat is given back: a token used in its last moment is still on its way. Default 2 s.
    pub reservation_slack: Duration,
    /// How long an endpoint answer counts as load. Default 5 s.
    pub endpoint_answer: Duration,
    /// How long an allocation or endpoint call waits when it does not say. Default 10 s.
    pub allocation_wait: Duration,
    /// The longest such wait that may be asked for. Default 60 s.
    pub allocation_wait_max: Duration,
    /// Default and longest wait of an assignments call. Default 20 s.
    pub assignments_wait_max: Duration,
    /// Silence of an owner of tickets, with no call of its own waiting, after which its waiting tickets are dropped. Default 2 min.
    pub ticket_owner_silence: Duration,
    /// How long known agents are waited for after a start. Default 5 s.
    pub known_agents_wait: Duration,
    /// Silence after which a host is not connected. Default 3 s.
    pub host_silent_after: Duration,
    /// Silence after which a key on the host is answered `host_suspect` instead of the old endpoint. Default 30 s.
    pub host_suspect_after: Duration,
    /// Silence after which the host's rooms end as `host_lost`. Default 5 min.
    pub host_lost_after: Duration,
    /// After a restart: how long a room without players that nobody reports is kept, since its result may be on its
    /// way. Default 5 s.
    pub restored_room_grace: Duration,
    /// How long a room that was played and is no longer reported waits for its result. Default 30 s.
    pub silent_room_grace: Duration,
    /// How long a room that outlives its process waits for the next process of its server, while its host is heard. Default 30 s.
    pub kept_room_grace: Duration,
    /// How long an ended room is shown. Default 10 min.
    pub ended_visible: Duration,
    /// How long an answer is kept under its idempotency key or ticket. Default 10 min.
    pub answer_kept: Duration,
    /// How long an order may stay without effect before it is sent again. Default 2 s.
    pub order_repeat: Duration,
    /// How long a fleet starts nothing after a refused start. Default 1 s.
    pub refused_pause: Duration,
    /// How long an agent has for a piece of logs. Default 5 s.
    pub logs_wait: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            reservation: Duration::from_secs(30),
            reservation_slack: Duration::from_secs(2),
            endpoint_answer: Duration::from_secs(5),
            allocation_wait: Duration::from_secs(10),
            allocation_wait_max: Duration::from_secs(60),
            assignments_wait_max: Duration::from_secs(20),
            ticket_owner_silence: Duration::from_mins(2),
            known_agents_wait: Duration::from_secs(5),
            host_silent_after: Duration::from_secs(3),
            host_suspect_after: Duration::from_secs(30),
            host_lost_after: Duration::from_mins(5),
            restored_room_grace: Duration::from_secs(5),
            silent_room_grace: Duration::from_secs(30),
            kept_room_grace: Duration::from_secs(30),
            ended_visible: Duration::from_mins(10),
            answer_kept: Duration::from_mins(10),
            order_repeat: Duration::from_secs(2),
            refused_pause: Duration::from_secs(1),
            logs_wait: Duration::from_secs(5),
        }
    }
}

/// How many there may be; one more is refused with `too_many`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Calls that wait, of all fleets: so many for a room or a server, as many for assignments, as many for logs. Default 10,000.
    pub waiting_max: usize,
    /// Tickets that wait, of all fleets. Default 200,000.
    pub tickets_max: usize,
    /// Tickets in one call. Default 1,000.
    pub tickets_per_call_max: usize,
    /// Bytes of a room's `init` as JSON. Default 4,096.
    pub init_bytes_max: usize,
    /// Bytes of a room's result as JSON. Default 65,536.
    pub result_bytes_max: usize,
    /// Ended rooms that are shown; the oldest go first. Default 20,000.
    pub ended_max: usize,
    /// Event lines kept. Default 50.
    pub events_max: usize,
    /// Assignments in one answer. Default 500.
    pub assignments_per_answer_max: usize,
    /// Starts and stops in one step of one fleet. Default 4.
    pub actions_max: usize,
    /// Matches made in one step of one fleet. Default 500.
    pub matches_max: usize,
    /// Looks of the matchmaker in one step of one fleet, after which it goes on in the next. Default 1,000,000.
    pub match_work_max: u64,
    /// Hosts. Default 1,000.
    pub hosts_max: usize,
    /// Entries of the audit trail; the oldest go first. Default 10,000.
    pub audit_max: usize,
    /// Gone servers whose output can still be asked for; the oldest go first. Default 200.
    pub gone_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            waiting_max: 10_000,
            tickets_max: 200_000,
            tickets_per_call_max: 1_000,
            init_bytes_max: 4_096,
            result_bytes_max: 65_536,
            ended_max: 20_000,
            events_max: 50,
            assignments_per_answer_max: 500,
            actions_max: 4,
            matches_max: 500,
            match_work_max: 1_000_000,
            hosts_max: 1_000,
            audit_max: 10_000,
            gone_max: 200,
        }
    }
}
