//! Scaling: what a person orders, what was decided and why, what other rules would decide now.
//!
//! Never the settings of a fleet beyond how many servers it has.

use std::time::Duration;

use greenroom_core::autoscale::{
    Amount, Autoscale, BufferUnit, Calendar, Freeze, InvalidCalendar, Metric, Policy, ScaleIn,
};
use greenroom_core::{FleetName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;

/// `POST /v1/fleets/{fleet}/scale`: what is left out stays as it is. Kept over a restart. Answered with [`ScaleOrder`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// At least this many servers, within the fleet's bounds. 0 takes the order back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Unix milliseconds by which they should be ready: begun early enough for the measured start-up time, the
    /// cool-down and the steps. Without it at once, past all cool-downs. Only with `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at_ms: Option<u64>,
    /// Unix milliseconds until which they are kept. Default one hour after `ready_at_ms`. Only with `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// What is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<FreezeWord>,
}

/// What a person has ordered of a fleet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleOrder {
    /// What is held.
    pub freeze: FreezeWord,
    /// At least so many for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prewarm: Option<PrewarmOrder>,
}

/// At least so many for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrewarmOrder {
    /// How many.
    pub replicas: u32,
    /// Unix milliseconds by which they should be ready.
    pub ready_at_ms: u64,
    /// Unix milliseconds until which they are kept.
    pub until_ms: u64,
}

/// What is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FreezeWord {
    /// Nothing.
    #[default]
    Nothing,
    /// The fleet does not shrink.
    ScaleIn,
    /// The fleet neither grows nor shrinks by policy.
    Everything,
}

impl From<FreezeWord> for Freeze {
    fn from(word: FreezeWord) -> Self {
        match word {
            FreezeWord::Nothing => Self::Nothing,
            FreezeWord::ScaleIn => Self::ScaleIn,
            FreezeWord::Everything => Self::Everything,
        }
    }
}

/// Why a fleet has as many servers as it has: `GET /v1/fleets/{fleet}/decisions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionList {
    /// The fleet.
    pub fleet: Text<FleetName>,
    /// Its bounds and policies.
    pub rules: RulesBody,
    /// What a person has ordered.
    pub order: ScaleOrder,
    /// What would be decided at this moment; absent while agents are awaited after a start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<DecisionBody>,
    /// Why the fleet is short of what it should have, in words; empty when it is not.
    pub waiting_on: Vec<String>,
    /// The last decisions that changed the number, newest first; at most 100 are kept.
    pub decisions: Vec<DecisionBody>,
}

/// `POST /v1/fleets/{fleet}/decisions/dry-run`: what these rules would decide now, as if they had been in force. Nothing
/// is changed. Answered with [`DecisionBody`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DryRunRequest {
    /// Instead of the fleet's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas_min: Option<u32>,
    /// Instead of the fleet's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas_max: Option<u32>,
    /// Instead of the fleet's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<AutoscaleBody>,
}

/// Bounds and policies of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RulesBody {
    /// Never fewer.
    pub replicas_min: u32,
    /// Never more.
    pub replicas_max: u32,
    /// In between.
    pub autoscale: AutoscaleBody,
}

/// One decision with what it was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionBody {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Healthy servers that there should be.
    pub replicas_wanted: u32,
    /// What it was before.
    pub replicas_before: u32,
    /// What the policies come to before cool-downs, steps and freeze.
    pub target: u32,
    /// What happened to the number.
    pub change: ChangeWord,
    /// Which word counted: `minimum`, `maximum`, `wake`, or a policy's name.
    pub binding: String,
    /// All of it in one sentence.
    pub reason: String,
    /// What each policy asked for.
    pub policies: Vec<PolicyWord>,
    /// Why the number is not the target.
    pub blocked_by: Vec<String>,
    /// Unix milliseconds at which time alone would change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_at_ms: Option<u64>,
    /// What was seen.
    pub inputs: DecisionInputs,
}

/// What happened to the number of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeWord {
    /// Nothing.
    None,
    /// Changed past all cool-downs: the bounds, waiting players, waking, a person's order.
    AtOnce,
    /// Raised by policy.
    Out,
    /// Lowered by policy.
    In,
}

/// What one policy asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyWord {
    /// Its name.
    pub policy: String,
    /// How many servers; absent when it could not be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Why.
    pub because: String,
}

/// What a decision saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionInputs {
    /// Servers that are handed out.
    pub ready: u32,
    /// Of them, those that get nothing new, by a cap of the fleet or by their own word.
    #[serde(default, skip_serializing_if = "is_none")]
    pub full: u32,
    /// Servers that do not answer yet.
    pub starting: u32,
    /// Of those that are handed out or start, those with somebody on them.
    pub busy: u32,
    /// Servers that nothing new is given to.
    pub draining: u32,
    /// Servers that ran and do not answer. They count in no average and not for the minimum.
    pub unhealthy: u32,
    /// Rooms on servers that are handed out.
    pub rooms: u32,
    /// Players on them; 0 where no policy asks for it.
    pub players: u32,
    /// Connections to them.
    pub connections: u32,
    /// Free seats in their live rooms; 0 where no policy asks for it.
    pub seats_free: u32,
    /// Rooms that calls and matches wait for which any server would do for; of a mesh, the calls.
    pub waiting: u32,
    /// Servers that are missing for calls that take only some; absent while none of these waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selective_missing: Option<u32>,
    /// Rooms asked for in a thousand seconds, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrivals_per_1000_s: Option<u64>,
    /// Nineteen of twenty servers started within this, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_p95_ms: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
const fn is_none(count: &u32) -> bool {
    *count == 0
}

/// The policies of a fleet and how fast it may follow them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoscaleBody {
    /// The highest word counts.
    pub policies: Vec<PolicyBody>,
    /// Least time between two scale-outs.
    pub cooldown_out_ms: u64,
    /// Least time between a change and a scale-in.
    pub cooldown_in_ms: u64,
    /// How long less must have been asked for before a scale-in.
    pub settle_in_ms: u64,
    /// Most servers in one scale-out; absent without bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_out_max: Option<u32>,
    /// Most servers in one scale-in; absent without bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_in_max: Option<u32>,
    /// Which servers a scale-in may take.
    pub scale_in: ScaleInWord,
}

/// Which servers a scale-in may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleInWord {
    /// Idle ones.
    Idle,
    /// The emptiest, once they have become empty.
    Cordon,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "policy", rename_all = "snake_case", deny_unknown_fields)]
pub enum PolicyBody {
    /// Busy servers, and what waiting rooms need. At once.
    Demand {},
    /// So many from each moment of a calendar on.
    Schedule {
        /// Five fields.
        cron: String,
        /// As in `Asia/Tokyo`.
        zone: String,
        /// How long each time.
        lasts_ms: u64,
        /// How many.
        replicas: u32,
    },
    /// So many by a moment.
    Prewarm {
        /// How many.
        replicas: u32,
        /// By when.
        ready_at_ms: u64,
        /// Until when.
        until_ms: u64,
    },
    /// So much load on each server.
    TargetAverage {
        /// Of what.
        metric: MetricWord,
        /// At least 1.
        per_server: u32,
        /// Load to be ready for besides.
        spare: u32,
    },
    /// So much is free.
    Buffer {
        /// How much.
        amount: u32,
        /// Whether the amount is a percentage of all: 0 to 99 then.
        percent: bool,
        /// Of what.
        unit: UnitWord,
    },
    /// What arrives while a server starts.
    BaseStock {
        /// Standard deviations covered, in thousandths.
        z_milli: u32,
        /// Assumed start-up time while none was measured.
        start_time_ms: u64,
    },
}

/// What can be averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names of greenroom_core::autoscale::Metric")]
pub enum MetricWord {
    Connections,
    Players,
    Rooms,
    ConnectRate,
    TickLateness,
    LoopLag,
}

/// What is kept free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names of greenroom_core::autoscale::BufferUnit")]
pub enum UnitWord {
    Servers,
    Rooms,
    Seats,
}

/// Why rules of a request mean nothing. The caller mends them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRules {
    /// Of a schedule.
    #[error(transparent)]
    Calendar(#[from] InvalidCalendar),
    /// A number that makes no sense.
    #[error("{what} is {is}; allowed: {allowed}")]
    Number {
        /// Which.
        what: &'static str,
        /// As asked.
        is: u32,
        /// Its bounds.
        allowed: &'static str,
    },
}

impl From<&Autoscale> for AutoscaleBody {
    fn from(rules: &Autoscale) -> Self {
        let bound = |step: u32| (step != u32::MAX).then_some(step);
        Self {
            policies: rules.policies.iter().map(PolicyBody::from).collect(),
            cooldown_out_ms: ms(rules.cooldown_out),
            cooldown_in_ms: ms(rules.cooldown_in),
            settle_in_ms: ms(rules.settle_in),
            step_out_max: bound(rules.step_out_max),
            step_in_max: bound(rules.step_in_max),
            scale_in: match rules.scale_in {
                ScaleIn::Idle => ScaleInWord::Idle,
                ScaleIn::Cordon => ScaleInWord::Cordon,
            },
        }
    }
}

impl TryFrom<&AutoscaleBody> for Autoscale {
    type Error = InvalidRules;

    fn try_from(body: &AutoscaleBody) -> Result<Self, InvalidRules> {
        let step = |what, step: Option<u32>| match step {
            Some(0) => Err(InvalidRules::Number { what, is: 0, allowed: "1 or more" }),
            step => Ok(step.unwrap_or(u32::MAX)),
        };
        Ok(Self {
            policies: body.policies.iter().map(Policy::try_from).collect::<Result<_, _>>()?,
            cooldown_out: Duration::from_millis(body.cooldown_out_ms),
            cooldown_in: Duration::from_millis(body.cooldown_in_ms),
            settle_in: Duration::from_millis(body.settle_in_ms),
            step_out_max: step("step_out_max", body.step_out_max)?,
            step_in_max: step("step_in_max", body.step_in_max)?,
            freeze: Freeze::Nothing,
            scale_in: match body.scale_in {
                ScaleInWord::Idle => ScaleIn::Idle,
                ScaleInWord::Cordon => ScaleIn::Cordon,
            },
        })
    }
}

impl From<&Policy> for PolicyBody {
    fn from(policy: &Policy) -> Self {
        match policy {
            Policy::Demand => Self::Demand {},
            Policy::Schedule { calendar, lasts, replicas } => Self::Schedule {
                cron: calendar.pattern().to_owned(),
                zone: calendar.zone().to_owned(),
                lasts_ms: ms(*lasts),
                replicas: *replicas,
            },
            Policy::Prewarm { replicas, ready_at, until } => Self::Prewarm {
                replicas: *replicas,
                ready_at_ms: ready_at.unix_ms(),
                until_ms: until.unix_ms(),
            },
            Policy::TargetAverage { metric, per_server, spare } => Self::TargetAverage {
                metric: match metric {
                    Metric::Connections => MetricWord::Connections,
                    Metric::Players => MetricWord::Players,
                    Metric::Rooms => MetricWord::Rooms,
                    Metric::ConnectRate => MetricWord::ConnectRate,
                    Metric::TickLateness => MetricWord::TickLateness,
                    Metric::LoopLag => MetricWord::LoopLag,
                },
                per_server: *per_server,
                spare: *spare,
            },
            Policy::Buffer { amount, unit } => {
                let (amount, percent) = match amount {
                    Amount::Absolute(amount) => (*amount, false),
                    Amount::Percent(percent) => (u32::from(*percent), true),
                };
                let unit = match unit {
                    BufferUnit::Servers => UnitWord::Servers,
                    BufferUnit::Rooms => UnitWord::Rooms,
                    BufferUnit::Seats => UnitWord::Seats,
                };
                Self::Buffer { amount, percent, unit }
            }
            Policy::BaseStock { z_milli, start_time } => {
                Self::BaseStock { z_milli: *z_milli, start_time_ms: ms(*start_time) }
            }
        }
    }
}

impl TryFrom<&PolicyBody> for Policy {
    type Error = InvalidRules;

    fn try_from(body: &PolicyBody) -> Result<Self, InvalidRules> {
        Ok(match body {
            PolicyBody::Demand {} => Self::Demand,
            PolicyBody::Schedule { cron, zone, lasts_ms, replicas } => Self::Schedule {
                calendar: Calendar::new(cron, zone)?,
                lasts: Duration::from_millis(*lasts_ms),
                replicas: *replicas,
            },
            PolicyBody::Prewarm { replicas, ready_at_ms, until_ms } => Self::Prewarm {
                replicas: *replicas,
                ready_at: Timestamp::from_unix_ms(*ready_at_ms),
                until: Timestamp::from_unix_ms(*until_ms),
            },
            PolicyBody::TargetAverage { per_server: 0, .. } => {
                return Err(InvalidRules::Number { what: "per_server", is: 0, allowed: "1 or more" });
            }
            PolicyBody::TargetAverage { metric, per_server, spare } => Self::TargetAverage {
                metric: match metric {
                    MetricWord::Connections => Metric::Connections,
                    MetricWord::Players => Metric::Players,
                    MetricWord::Rooms => Metric::Rooms,
                    MetricWord::ConnectRate => Metric::ConnectRate,
                    MetricWord::TickLateness => Metric::TickLateness,
                    MetricWord::LoopLag => Metric::LoopLag,
                },
                per_server: *per_server,
                spare: *spare,
            },
            PolicyBody::Buffer { amount, percent, unit } => {
                let refused = || InvalidRules::Number { what: "percent", is: *amount, allowed: "0 to 99" };
                let amount = if *percent {
                    let part = u8::try_from(*amount).ok().filter(|part| *part < 100);
                    Amount::Percent(part.ok_or_else(refused)?)
                } else {
                    Amount::Absolute(*amount)
                };
                let unit = match unit {
                    UnitWord::Servers => BufferUnit::Servers,
                    UnitWord::Rooms => BufferUnit::Rooms,
                    UnitWord::Seats => BufferUnit::Seats,
                };
                Self::Buffer { amount, unit }
            }
            PolicyBody::BaseStock { z_milli, start_time_ms } => {
                Self::BaseStock { z_milli: *z_milli, start_time: Duration::from_millis(*start_time_ms) }
            }
        })
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
