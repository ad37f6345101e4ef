//! How a command ends badly: one line of what happened, what to do next, and an exit code.
//!
//! Never prints; `main` does.

use std::fmt;

pub(crate) use greenroom_wire::error::chain;

/// Exit code for bad usage or configuration (`EX_USAGE` of sysexits).
pub(crate) const USAGE: u8 = 64;
/// Exit code when the control plane cannot be reached (`EX_UNAVAILABLE`).
pub(crate) const UNAVAILABLE: u8 = 69;
/// Exit code for everything else.
pub(crate) const OTHER: u8 = 1;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Exit code.
    pub(crate) code: u8,
    /// What happened, to which thing.
    pub(crate) what: String,
    /// What to do next; empty when `what` says it.
    pub(crate) next: String,
}

impl Failure {
    /// A failure with exit code 1.
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code: OTHER, what: what.into(), next: next.into() }
    }

    /// A failure with exit code 64.
    pub(crate) fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code: USAGE, ..Self::new(what, next) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.next.is_empty() { Ok(()) } else { write!(f, "\n{}", self.next) }
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::usage(error.to_string(), "")
    }
}
