//! Processes that neither speak nor answer: a frozen one is killed, so that its clients and rooms are not held up.
//!
//! Never one that answers its probe, and never for this agent's own sleep: that leaves no failed probes behind.

use std::time::Duration;

use greenroom_core::Timestamp;

use super::{Managed, Stage};

/// Silence on the link after which a server that does not answer its probe either is killed.
const FROZEN_KILL_AFTER: Duration = Duration::from_secs(30);
/// Probes that must have failed in a row by then.
const PROBES: u32 = 15;

impl Managed {
    /// Begins the end of a frozen process; the same step kills it.
    pub(super) fn end_if_frozen(&mut self, now: Timestamp) {
        let Stage::Running { process, health } = &self.stage else { return };
        let is_frozen = self.link.ever
            && now.since(self.link.heard_at) >= FROZEN_KILL_AFTER
            && health.failures >= PROBES
            && self.stop_reason.is_none();
        if is_frozen {
            let silence_s = FROZEN_KILL_AFTER.as_secs();
            tracing::warn!(server = %self.order.server, handle = %process.handle, silence_s, "gameserver is frozen");
            let why = format!("frozen: silent for {silence_s} s and its probe fails");
            self.restart_reason = Some(why);
            self.stage = Stage::Stopping { process: process.clone(), kill_at: now, killed: false };
        }
    }
}
