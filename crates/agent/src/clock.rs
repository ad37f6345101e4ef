//! The one clock of an agent.
//!
//! Never follows the system's when that is set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greenroom_core::Timestamp;
use tokio::time::Instant;

/// Milliseconds since the epoch that never step back: the system's clock is read once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    epoch: Timestamp,
    started: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        Self { epoch, started: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.epoch + self.started.elapsed()
    }

    /// Timers round up to whole milliseconds, so that a moment has come when its timer fires.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        self.started + at.since(self.epoch) + Duration::from_millis(1)
    }
}
