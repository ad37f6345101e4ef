//! How many servers a fleet should have: the policies, and how fast the fleet may follow them.
//!
//! Never starts or stops a server, and never says which: [`crate::fleet::plan`] does. All arithmetic is in integers, so
//! the same input gives the same decision on every machine.

mod because;
mod calendar;
mod decide;
mod measure;
mod policy;

pub use because::Because;
pub use calendar::{Calendar, InvalidCalendar};
pub use decide::decide;
pub use measure::{ArrivalMeter, Flow, StartTime, StartTimes};

use std::time::Duration;

use crate::Timestamp;
use crate::fleet::{Fleet, FleetKind};
use crate::gameserver::State;

/// The policies of one fleet and how fast it may follow them.
///
/// The fleet grows as soon as one policy asks for it and shrinks only when all agree: the highest word counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Autoscale {
    /// Default: [`Policy::Demand`] alone. `replicas_min` counts besides, always.
    pub policies: Vec<Policy>,
    /// Least time between two scale-outs. Default 3 min. Not for the minimum, nor for [`Policy::Demand`].
    pub cooldown_out: Duration,
    /// Least time between the last change of either direction and a scale-in. Default 1 h.
    pub cooldown_in: Duration,
    /// How long the policies must have asked for less before a scale-in; it goes to the most they asked
    /// for in that time. Default 5 min.
    pub settle_in: Duration,
    /// Most servers in one scale-out. At least 1; default no limit.
    pub step_out_max: u32,
    /// Most servers in one scale-in. At least 1; default no limit.
    pub step_in_max: u32,
    /// What is held. Default nothing.
    pub freeze: Freeze,
    /// Which servers a scale-in may take. Default idle ones.
    pub scale_in: ScaleIn,
}

impl Default for Autoscale {
    fn default() -> Self {
        Self {
            policies: vec![Policy::Demand],
            cooldown_out: Duration::from_mins(3),
            cooldown_in: Duration::from_hours(1),
            settle_in: Duration::from_mins(5),
            step_out_max: u32::MAX,
            step_in_max: u32::MAX,
            freeze: Freeze::Nothing,
            scale_in: ScaleIn::Idle,
        }
    }
}

/// Which servers a scale-in may take. None of them is ever stopped while somebody is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScaleIn {
    /// Idle ones: the number never goes below that of the busy ones. Enough where rooms are packed, or one to a server.
    #[default]
    Idle,
    /// The emptiest: nothing new is given to them, and they go when they are empty. For `least_connected`, which keeps
    /// somebody on every server.
    Cordon,
}

/// What a person has held. The minimum and waiting players are served all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freeze {
    /// The fleet follows its policies.
    #[default]
    Nothing,
    /// The fleet grows, and does not shrink: a release day.
    ScaleIn,
    /// The fleet neither grows nor shrinks by policy.
    Everything,
}

/// One opinion on how many servers there should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// Those that are busy, and as many more as waiting rooms need. At once: cool-downs, steps and freeze do not apply.
    Demand,
    /// This many from each moment of the calendar on.
    Schedule {
        /// When it begins.
        calendar: Calendar,
        /// How long it holds each time.
        lasts: Duration,
        /// How many servers.
        replicas: u32,
    },
    /// This many, ready by a moment: begins early enough for the measured start-up time, the cool-down and the steps.
    Prewarm {
        /// How many servers.
        replicas: u32,
        /// When they should be ready.
        ready_at: Timestamp,
        /// Until when they are kept.
        until: Timestamp,
    },
    /// `(load + spare) / per_server`, rounded up. Load on servers that are unhealthy or drain is not counted.
    TargetAverage {
        /// The load.
        metric: Metric,
        /// Load that one server should carry, in the metric's unit. At least 1.
        per_server: u32,
        /// Load to be ready for besides what is there. Not for [`Metric::TickLateness`] and [`Metric::LoopLag`].
        spare: u32,
    },
    /// Room fleets: this much is free besides what is in use, however fast players come. The usual policy elsewhere.
    Buffer {
        /// How much.
        amount: Amount,
        /// Of what.
        unit: BufferUnit,
    },
    /// Room fleets: what arrives while a server starts, its spread and its growth.
    BaseStock {
        /// Standard deviations covered, in thousandths. 3000 misses about one moment in a thousand.
        z_milli: u32,
        /// Assumed start-up time while none was measured.
        start_time: Duration,
    },
}

impl Memory {
    /// What is left of an earlier process's memory: the number it wanted, when it last scaled out and when it last
    /// changed the number at all. Cool-downs go on as if that process had lived.
    #[must_use]
    pub const fn resumed(replicas_wanted: u32, out_at: Option<Timestamp>, changed_at: Timestamp) -> Self {
        Self { replicas_wanted: Some(replicas_wanted), out_at, changed_at, below: None }
    }

    /// When the last scale-out by policy was.
    #[must_use]
    pub const fn out_at(&self) -> Option<Timestamp> {
        self.out_at
    }

    /// When the number last changed.
    #[must_use]
    pub const fn changed_at(&self) -> Timestamp {
        self.changed_at
    }
}

impl Policy {
    /// Its name in configurations and explanations.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Demand => "demand",
            Self::Schedule { .. } => "schedule",
            Self::Prewarm { .. } => "prewarm",
            Self::TargetAverage { .. } => "target_average",
            Self::Buffer { .. } => "buffer",
            Self::BaseStock { .. } => "base_stock",
        }
    }

    /// Whether it means anything for a fleet of this kind. Rooms and seats are not known of a mesh.
    #[must_use]
    pub const fn suits(&self, kind: FleetKind) -> bool {
        match (self, kind) {
            (Self::Buffer { .. } | Self::BaseStock { .. }, FleetKind::Mesh) => false,
            (Self::TargetAverage { metric, .. }, FleetKind::Mesh) => {
                !matches!(metric, Metric::Rooms | Metric::Players)
            }
            _ => true,
        }
    }
}

/// What can be averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Transport connections.
    Connections,
    /// Players with a seat.
    Players,
    /// Live rooms.
    Rooms,
    /// New connections in a minute.
    ConnectRate,
    /// How late ticks are, in milliseconds.
    TickLateness,
    /// How late the event loop is, in milliseconds.
    LoopLag,
}

impl Metric {
    /// Its name in configurations and explanations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Players => "players",
            Self::Rooms => "rooms",
            Self::ConnectRate => "connect_rate",
            Self::TickLateness => "tick_lateness",
            Self::LoopLag => "loop_lag",
        }
    }
}

/// How much is kept free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// This many.
    Absolute(u32),
    /// So that this part of all is free. 0 to 99.
    Percent(u8),
}

/// What is kept free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferUnit {
    /// Whole idle servers, as elsewhere.
    Servers,
    /// Places for rooms.
    Rooms,
    /// Seats, in live rooms and in rooms that could be made.
    Seats,
}

/// What a fleet is, for the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rooms or mesh.
    pub kind: FleetKind,
    /// Never fewer healthy servers than this. At exactly this many nothing is started, below it one is started at once.
    pub replicas_min: u32,
    /// Never more. Wins over the minimum.
    pub replicas_max: u32,
}

impl From<&Fleet> for Shape {
    fn from(fleet: &Fleet) -> Self {
        Self { kind: fleet.kind, replicas_min: fleet.replicas_min, replicas_max: fleet.replicas_max }
    }
}

/// What one server carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLoad {
    /// Where it stands. Those that are unhealthy, drain or have stopped are not counted at all.
    pub state: State,
    /// Whether it could be stopped without hurting anybody.
    pub idle: bool,
    /// Whether it takes nobody new by what it measures or says of itself.
    pub full: bool,
    /// Rooms, promised ones too; of one that is full at least as many as it has places.
    pub rooms: u32,
    /// Players with a seat.
    pub players: u32,
    /// Transport connections.
    pub connections: u32,
    /// New connections in the last minute, where measured.
    pub connects_per_minute: Option<u32>,
    /// How late its ticks are, where measured.
    pub tick_lateness_ms: Option<u32>,
    /// How late its event loop is, where measured.
    pub loop_lag_ms: Option<u32>,
}

/// All that is known at the moment of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed<'a> {
    /// Every server of the fleet.
    pub servers: &'a [ServerLoad],
    /// Rooms that calls and matches wait for which any server would do for; of a mesh, the calls that wait.
    pub waiting: u32,
    /// Servers that are missing for calls which take only some, not counting what starts for them; `None`
    /// while no such call waits. Meanwhile no healthy server is one too many: which of them would do is not known here.
    pub selective_missing: Option<u32>,
    /// Free seats in live rooms on healthy servers.
    pub seats_free: u32,
    /// How rooms arrive. `None` while unknown.
    pub arrivals: Option<Flow>,
    /// How long servers take to start. `None` while unknown.
    pub start_time: Option<StartTime>,
}

/// What a decision hands to the next one. The default knows nothing: no scale-in before a whole `cooldown_in` has
/// passed since the first decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    replicas_wanted: Option<u32>,
    out_at: Option<Timestamp>,
    changed_at: Timestamp,
    below: Option<Below>,
}

/// Since when the policies ask for less, and the most they asked for lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Below {
    since: Timestamp,
    half_at: Timestamp,
    half: u32,
    half_before: u32,
}

/// What one policy asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyTarget {
    /// Which.
    pub policy: &'static str,
    /// How many servers. `None` when it could not be measured: it then neither grows the fleet nor lets it shrink.
    pub replicas: Option<u32>,
    /// Why.
    pub because: Because,
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// The fleet's `replicas_min`.
    Minimum,
    /// The fleet's `replicas_max`.
    Maximum,
    /// Somebody waits for a fleet of no servers.
    Wake,
    /// The target at this place.
    Policy(usize),
    /// A policy at this place that could not be measured: what is there stays.
    Unmeasured(usize),
}

/// How the number changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It did not.
    None,
    /// At once, for the bounds, for waiting players, or to wake the fleet.
    AtOnce,
    /// By policy, upwards: the next such change waits for `cooldown_out`.
    Out,
    /// By policy, downwards.
    In,
}

/// What kept the fleet from its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// A scale-out was too short ago.
    CooldownOut(Timestamp),
    /// A change was too short ago to shrink.
    CooldownIn(Timestamp),
    /// Less has not been asked for long enough.
    Settling(Timestamp),
    /// `step_out_max` or `step_in_max`.
    Step(u32),
    /// Frozen.
    Frozen,
    /// The demand is above `replicas_max`.
    Maximum(u32),
    /// This many servers are busy and only idle ones go.
    Busy(u32),
}

/// How many servers there should be, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// Healthy servers, starting ones counted, that there should be now. Within the bounds.
    pub replicas_wanted: u32,
    /// What it was before.
    pub replicas_before: u32,
    /// What the policies come to before cool-downs, steps and freeze; within the bounds.
    pub target: u32,
    /// Which word counted.
    pub binding: Binding,
    /// What each policy asked for, in their order.
    pub targets: Vec<PolicyTarget>,
    /// What happened to the number.
    pub change: Change,
    /// Why it is not the target.
    pub blocked_by: Vec<Block>,
    /// When time alone would change this decision.
    pub wake_at: Option<Timestamp>,
    /// For the next decision.
    pub memory: Memory,
}
