//! How long a fleet waits before it starts servers again after one of them could not live.
//!
//! Never counts by itself what a failure is: that is the caller's word.

use std::time::Duration;

use crate::Timestamp;

/// First wait.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest wait.
pub const BACKOFF_MAX: Duration = Duration::from_mins(1);
/// After this time without a failure the next one is a first one again.
pub const BACKOFF_QUIET: Duration = Duration::from_mins(5);

/// Where a fleet stands. The default has not failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    failures: u32,
    failed_at: Timestamp,
    until: Timestamp,
}

impl Backoff {
    /// A server of the fleet was given up at `now`: the wait is 1 s, then doubles with each failure up to 1 min. One
    /// that comes while the fleet waits already changes nothing: servers that fail together fail once.
    #[must_use]
    pub fn failed(self, now: Timestamp) -> Self {
        if self.waits(now) {
            return self;
        }
        let quiet = self.failures == 0 || now.since(self.failed_at) >= BACKOFF_QUIET;
        let failures = if quiet { 1 } else { self.failures.saturating_add(1) };
        let wait = BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(failures - 1)).min(BACKOFF_MAX);
        Self { failures, failed_at: now, until: now + wait }
    }

    /// Whether nothing may be started at `now`.
    #[must_use]
    pub fn waits(self, now: Timestamp) -> bool {
        self.until > now
    }

    /// When the wait is over; a moment in the past when there is none.
    #[must_use]
    pub const fn until(self) -> Timestamp {
        self.until
    }
}
