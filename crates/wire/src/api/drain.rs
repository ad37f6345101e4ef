//! Draining: what a person takes out of use, host by host or a whole zone.
//!
//! Never a gameserver of its own: those go with their hosts.

use greenroom_core::HostName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;

/// What is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainKind {
    /// One host, by its name.
    Host,
    /// All hosts with this value of the label `zone`, also those that come later.
    Zone,
}

impl std::fmt::Display for DrainKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Host => "host",
            Self::Zone => "zone",
        })
    }
}

/// `POST /v1/hosts/{host}/drain` and `POST /v1/zones/{zone}/drain`: nothing new there until it is undone. Kept over a
/// restart; safe to repeat. Answered with [`DrainStatus`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Why, for the audit trail and whoever wonders; at most 200 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Takes an earlier order back instead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo: bool,
}

/// How far a drain is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrainStatus {
    /// What was asked about.
    pub kind: DrainKind,
    /// Its name.
    pub name: String,
    /// Whether it is to be drained from now on.
    pub drained: bool,
    /// Its hosts that are here, with what is still on them.
    pub hosts: Vec<DrainedHost>,
}

/// What is still on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrainedHost {
    /// Its name.
    pub host: Text<HostName>,
    /// Gameservers that have not ended.
    pub servers: u32,
    /// Those of them that somebody is on or was promised a place on. They are never stopped for it.
    pub busy: u32,
}
