//! Decisions in words, for people.
//!
//! Never decides anything.

use std::fmt;
use std::time::Duration;

use super::{Binding, Block, Change, Decision, Metric};

/// Why a policy asked for what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// Busy servers and waiting rooms.
    InUse {
        /// Healthy servers that are not idle.
        busy: u32,
        /// Rooms that wait.
        waiting: u32,
        /// Places for rooms on the busy servers.
        places: u32,
    },
    /// Servers of a mesh that take nobody more, and calls that wait.
    Full {
        /// Such servers.
        full: u32,
        /// Such calls.
        waiting: u32,
    },
    /// Calls wait that take only some servers.
    Selective {
        /// Healthy servers, whether or not these would do.
        there: u32,
        /// Servers that would, and are not there.
        missing: u32,
    },
    /// Its time has come.
    InTime,
    /// Its time has not come, or is over.
    NotInTime,
    /// A sum over healthy servers.
    Load {
        /// Of what.
        metric: Metric,
        /// How much, `spare` added.
        load: u64,
        /// What one server should carry.
        per_server: u32,
    },
    /// An average over healthy servers.
    Late {
        /// Of what.
        metric: Metric,
        /// On average.
        average_ms: u64,
        /// What it should be.
        target_ms: u32,
    },
    /// This much should be free.
    Free {
        /// Idle servers, places for rooms, or seats.
        wanted: u64,
        /// What of it busy servers and live rooms have.
        found: u64,
    },
    /// What arrives during the lead time.
    Stock {
        /// Rooms in a thousand seconds.
        per_1000_s: u64,
        /// Start-up time and cool-down.
        lead: Duration,
        /// Places for rooms to have free.
        stock: u64,
    },
    /// What it needs was not measured.
    Unmeasured,
    /// It means nothing for this kind of fleet.
    Unsuited,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { busy, waiting, places } => {
                write!(f, "{busy} busy with {places} free places, {waiting} rooms wait")
            }
            Self::Full { full, waiting } => write!(f, "{full} servers are full, {waiting} calls wait"),
            Self::Selective { there, missing } => {
                write!(
                    f,
                    "calls wait that take only some servers: {there} are there, {missing} more would do"
                )
            }
            Self::InTime => f.write_str("its time has come"),
            Self::NotInTime => f.write_str("not its time"),
            Self::Load { metric, load, per_server } => {
                write!(f, "{load} {}, {per_server} for each server", metric.name())
            }
            Self::Late { metric, average_ms, target_ms } => {
                write!(f, "{} is {average_ms} ms, {target_ms} ms allowed", metric.name())
            }
            Self::Free { wanted, found } => write!(f, "{wanted} should be free, {found} are on busy servers"),
            Self::Stock { per_1000_s, lead, stock } => {
                let (whole, part) = (per_1000_s / 1000, per_1000_s % 1000);
                write!(f, "{whole}.{part:03} rooms/s for {} s: {stock} places should be free", lead.as_secs())
            }
            Self::Unmeasured => f.write_str("not measured"),
            Self::Unsuited => f.write_str("means nothing for a mesh"),
        }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CooldownOut(_) => f.write_str("the cool-down of scale-outs"),
            Self::CooldownIn(_) => f.write_str("the cool-down of scale-ins"),
            Self::Settling(_) => f.write_str("less has not been wanted for long"),
            Self::Step(step) => write!(f, "at most {step} servers in one step"),
            Self::Frozen => f.write_str("frozen"),
            Self::Maximum(wanted) => write!(f, "{wanted} wanted, which is above the maximum"),
            Self::Busy(busy) => write!(f, "{busy} servers are busy"),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.change {
            Change::None => write!(f, "{} stay", self.replicas_wanted)?,
            Change::AtOnce | Change::Out | Change::In => {
                write!(f, "{} instead of {}", self.replicas_wanted, self.replicas_before)?;
            }
        }
        match self.binding {
            Binding::Minimum => f.write_str("; the minimum")?,
            Binding::Maximum => f.write_str("; the maximum")?,
            Binding::Wake => f.write_str("; woken by somebody who waits")?,
            Binding::Policy(at) | Binding::Unmeasured(at) => {
                let target = &self.targets[at];
                write!(f, "; {}: {}", target.policy, target.because)?;
            }
        }
        if !self.blocked_by.is_empty() {
            write!(f, "; {} asked for, held back by", self.target)?;
        }
        for (at, block) in self.blocked_by.iter().enumerate() {
            f.write_str(if at == 0 { " " } else { ", " })?;
            write!(f, "{block}")?;
        }
        Ok(())
    }
}
