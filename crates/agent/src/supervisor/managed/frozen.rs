//! Processes that neither speak nor answer: a frozen one is killed, so that its clients and rooms are not held up.
//!
//! Never one that answers anything, or says anything; and never for this agent's own sleep: what was missed meanwhile is counted from when
//! it was noticed.

use std::time::Duration;

use greenroom_core::Timestamp;

use super::super::Heard;
use super::{Health, Managed, Stage};

/// Silence after which a process that does not answer its probe either is killed.
const FROZEN_KILL_AFTER: Duration = Duration::from_secs(30);
/// Probes from outside that must have failed in a row by then.
const PROBES: u32 = 15;

/// Whoever notices so much later than it is due has slept.
const SLEPT: Duration = Duration::from_secs(3);

impl Health {
    /// A probe has failed. Whoever answers is not frozen, and whoever accepts nobody need not be: a frozen process keeps its port. Such a
    /// one is a sign only beside a link that is silent.
    pub(super) fn suspect(&mut self, heard: Heard, linked: bool, now: Timestamp) {
        let is_sign = match heard {
            Heard::Nothing => true,
            Heard::Refusal => linked,
            Heard::Answer => false,
        };
        self.failing_since = is_sign.then(|| self.failing_since.unwrap_or(now));
    }
}

impl Managed {
    /// Begins the end of a frozen process; the same step kills it.
    pub(super) fn end_if_frozen(&mut self, now: Timestamp) {
        let Stage::Running { process, health } = &self.stage else { return };
        let Some(due) = self.frozen_at(health).filter(|at| *at <= now && self.stop_reason.is_none()) else {
            return;
        };
        if now.since(due) >= SLEPT {
            if let Stage::Running { health, .. } = &mut self.stage {
                health.failing_since = Some(now);
            }
        } else {
            let silence_s = FROZEN_KILL_AFTER.as_secs();
            let why = match (self.link.ever, self.silence()) {
                (true, _) => format!("frozen: silent for {silence_s} s and its probe fails"),
                (false, None) => format!("frozen: its probe fails for {silence_s} s"),
                (false, Some(_)) => format!("frozen: {}", health.probe_error),
            };
            tracing::warn!(server = %self.order.server, handle = %process.handle, why, "gameserver is frozen");
            self.restart_reason = Some(why);
            self.stage = Stage::Stopping { process: process.clone(), kill_at: now, killed: false };
        }
    }

    /// When it counts as frozen, should nothing be heard of it until then; `None` while there is no sign of that. One of which nothing
    /// is heard but what a probe from outside finds is left to control, which knows of nobody on it.
    pub(super) fn frozen_at(&self, health: &Health) -> Option<Timestamp> {
        let failing_since = health.failing_since?;
        let failing = match self.silence() {
            // Noticed late, it has as long as ever to speak.
            Some(silence) => failing_since + silence.max(FROZEN_KILL_AFTER.saturating_sub(silence)),
            None if health.failures < PROBES || !(self.link.ever || self.own_word.tells_use) => return None,
            None => failing_since + FROZEN_KILL_AFTER,
        };
        let heard_at = self.link.ever.then_some(self.link.heard_at).max(self.own_word.heard_at);
        Some(heard_at.map_or(failing, |heard_at| failing.max(heard_at + FROZEN_KILL_AFTER)))
    }
}
