//! When a new process may take players: once it has proven without a break, for its fleet's `min_ready`, that it can serve.
//!
//! Never a second time: from then on it is healthy or it is not.

use std::time::Duration;

use greenroom_core::Timestamp;

use super::{Health, Managed, Out, Stage};

impl Health {
    /// It has just shown that it can serve. Whether that made it ready.
    pub(super) fn prove(&mut self, now: Timestamp, min_ready: Duration) -> bool {
        if self.ready {
            return false;
        }
        let since = *self.proving_since.get_or_insert(now);
        self.ready = now.since(since) >= min_ready;
        self.ready
    }
}

impl Managed {
    /// Whether its process has proven that it can serve.
    pub(in super::super) const fn has_been_ready(&self) -> bool {
        match &self.stage {
            Stage::Running { health, .. } => health.ready,
            Stage::Adopting { was_ready, .. } => *was_ready,
            Stage::Waiting { .. } | Stage::Launching | Stage::Stopping { .. } | Stage::Ended { .. } => false,
        }
    }

    pub(super) const fn min_ready(&self) -> Duration {
        Duration::from_millis(self.order.min_ready_ms)
    }

    /// One whose own word is its proof gives it once; what must go on is the process.
    pub(super) fn prove_own_word(&mut self, now: Timestamp, out: &mut Out) {
        let min_ready = self.min_ready();
        let by_own_word = self.silence().is_some() && self.own_word.is_ready;
        if let Stage::Running { health, .. } = &mut self.stage
            && by_own_word
            && health.prove(now, min_ready)
        {
            out.dirty = true;
            out.changed = true;
        }
    }

    /// When that has gone on for long enough.
    pub(super) fn own_word_proven_at(&self, health: &Health) -> Option<Timestamp> {
        let since = health.proving_since.filter(|_| self.silence().is_some() && !health.ready)?;
        Some(since + self.min_ready())
    }
}
