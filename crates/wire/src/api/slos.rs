//! Service level objectives: what is promised to those who run a service on this, and how often it was kept.
//!
//! Never a setting: they are the product's own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /v1/slos`: counted by the control plane that leads, since it began to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SloList {
    /// Unix milliseconds: cases before it are not counted.
    pub since_ms: u64,
    /// Always all of them, in one order.
    pub slos: Vec<SloStatus>,
}

/// One objective.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SloStatus {
    /// A word for programs, such as `placed`.
    pub name: String,
    /// What is promised, in words.
    pub promise: String,
    /// Of 1,000 cases at least so many are as promised; 1,000: all.
    pub goal_per_mille: u16,
    /// Where it is about a time: how long a case may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
    /// Cases.
    pub seen: u64,
    /// Those of them that were not as promised.
    pub missed: u64,
    /// The longest case, in milliseconds; absent where it is not about a time, or nothing happened yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_ms: Option<u64>,
    /// Whether the goal is reached. True while nothing happened.
    pub met: bool,
}
