//! Triggers: what is watched, when something is done about it, and how that went; and the numbers that users tell.
//!
//! Never an address or the words of a command: those stay in the configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `PUT /v1/metrics/{name}`: what the metric `custom.{name}` is now. Answered with [`MetricAnswer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricRequest {
    /// Between -1e15 and 1e15; thousandths are kept.
    pub value: f64,
    /// For how long it holds unless it is told again; 1,000 to 86,400,000. Default 60,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_ms: Option<u64>,
}

/// What was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricAnswer {
    /// As triggers call it: `custom.{name}`.
    pub metric: String,
    /// What it is.
    pub value: f64,
    /// Unix milliseconds. From then on there is no value, until one is told again: nothing fires on a stale one.
    pub valid_until_ms: u64,
    /// The triggers that watch it.
    pub triggers: Vec<String>,
}

/// `GET /v1/triggers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerList {
    /// By name.
    pub triggers: Vec<TriggerStatus>,
}

/// How one trigger stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerStatus {
    /// As in the configuration.
    pub name: String,
    /// What it watches.
    pub metric: String,
    /// The value now; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Why there is none. Empty when there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub no_value: String,
    /// It fires above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// It fires below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// What it fired for is over when the value is back here.
    pub rearm: f64,
    /// Where it stands.
    pub state: TriggerState,
    /// How often it has fired since it is known.
    pub fires: u64,
    /// Unix milliseconds of the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fired_at_ms: Option<u64>,
    /// What it does then.
    pub action: ActionWord,
    /// Whether that is being done now. Meanwhile the value is not looked at.
    pub running: bool,
    /// How it went the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ActionOutcome>,
}

/// Where a trigger stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerState {
    /// It waits for its threshold to be crossed.
    Armed,
    /// The threshold is crossed, not for long enough yet.
    Holding,
    /// It has fired, and what it fired for is not over.
    Firing,
    /// What it fired for is over, and it does not fire again before its cool-down has passed.
    Cooling,
    /// There is no value, so nothing fires.
    NoValue,
}

/// What a trigger does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionWord {
    /// It runs a program beside the control plane.
    Exec,
    /// It posts to an address.
    Post,
}

/// How an action went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionOutcome {
    /// In a word.
    pub result: ActionResult,
    /// In more of them: `exit code 3`, `answered 204`.
    pub detail: String,
    /// Unix milliseconds.
    pub at_ms: u64,
}

/// How an action went, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionResult {
    /// The program ended with 0, or the receiver answered with 2xx.
    Done,
    /// It did not, or not in time.
    Failed,
    /// The control plane ended, or another one took over, before that was known. It is not done again.
    Unknown,
}

/// What a trigger posts, and what a program is told in its environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerFired {
    /// In words, under the name that chats look for.
    pub text: String,
    /// Which trigger.
    pub trigger: String,
    /// `<trigger>.<number>`; the same in the header `Idempotency-Key`.
    pub fire: String,
    /// What it watches.
    pub metric: String,
    /// Its value at that moment.
    pub value: f64,
    /// `above 100` or `below 2`.
    pub threshold: String,
    /// Unix milliseconds.
    pub at_ms: u64,
}
