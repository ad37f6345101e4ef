//! What is written on a pod so that nobody stops it while somebody is on it, and when.
//!
//! Never asks the cluster and reads no clock: the moments come in. A pod's marks are no meter: each write is a write of the
//! cluster's store and is told to all that watch pods, so numbers go up in powers of two, and seldom.

use std::time::Duration;

use greenroom_agent::Occupancy;
use greenroom_core::Timestamp;
use serde_json::{Value, json};

/// Label of a pod, `true` while somebody is on it: budgets and policies choose by it.
pub const BUSY_LABEL: &str = "greenroom.dev/busy";
/// Whether the cluster's autoscaler may move the pod to empty its node.
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// The same for Karpenter.
const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// Which pods of a set go first when it shrinks: those of least cost.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What stands on a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It may go.
    Idle,
    /// Somebody is on it.
    Busy {
        /// What is lost with it, beside other busy pods: at least 1.
        cost: i32,
    },
}

impl Mark {
    /// The mark of a pod with this on it: the cost is the number of players, up to the next power of two.
    #[must_use]
    pub fn of(occupancy: Occupancy) -> Self {
        if !occupancy.busy {
            return Self::Idle;
        }
        let step = occupancy.players.max(1).checked_next_power_of_two();
        Self::Busy { cost: step.and_then(|step| i32::try_from(step).ok()).unwrap_or(i32::MAX) }
    }

    /// The merge patch that puts it on the pod of this `uid` and on no later one of the same name.
    #[must_use]
    pub fn patch(self, uid: &str) -> Value {
        let (busy, cost) = match self {
            Self::Idle => (false, 0),
            Self::Busy { cost } => (true, cost),
        };
        json!({ "metadata": {
            "uid": uid,
            "labels": { BUSY_LABEL: busy.to_string() },
            "annotations": {
                SAFE_TO_EVICT: (!busy).to_string(),
                DELETION_COST: cost.to_string(),
                // Only its presence is documented to hold; null takes it away.
                DO_NOT_DISRUPT: busy.then_some("true"),
            },
        }})
    }
}

/// How often a pod is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// How long nobody must have been there before that is written. Default 10 s.
    pub idle_after: Duration,
    /// Shortest time between two writes that change the cost alone. Default 60 s.
    pub cost_every: Duration,
    /// Time after which what stands there is written again, should somebody have changed it. Default 5 min.
    pub again_every: Duration,
    /// Pause after the first write that failed; doubles with each further one. Default 250 ms.
    pub retry_first: Duration,
    /// Longest such pause. Default 30 s.
    pub retry_max: Duration,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            idle_after: Duration::from_secs(10),
            cost_every: Duration::from_secs(60),
            again_every: Duration::from_secs(300),
            retry_first: Duration::from_millis(250),
            retry_max: Duration::from_secs(30),
        }
    }
}

/// What should stand on a pod, what does, and so what is written next.
#[derive(Debug, Clone)]
pub struct Protection {
    pacing: Pacing,
    wanted: Mark,
    /// Since when nobody is there; `None` if nobody ever was.
    idle_since: Option<Timestamp>,
    /// What was written last and when; `None` while that is not known: before the first write, and after one that failed.
    written: Option<(Mark, Timestamp)>,
    failures: u32,
    retry_at: Timestamp,
}

impl Protection {
    /// Of a pod that nothing is known of yet, and that nobody is on.
    #[must_use]
    pub fn new(pacing: Pacing) -> Self {
        Self {
            pacing,
            wanted: Mark::Idle,
            idle_since: None,
            written: None,
            failures: 0,
            retry_at: Timestamp::default(),
        }
    }

    /// Takes in what is on the pod now. Repeating it changes nothing.
    pub fn observe(&mut self, now: Timestamp, occupancy: Occupancy) {
        let wanted = Mark::of(occupancy);
        if wanted == Mark::Idle && self.wanted != Mark::Idle {
            self.idle_since = Some(now);
        }
        self.wanted = wanted;
    }

    /// What is written next, and when, should nothing change until then. Somebody who comes is written at once.
    #[must_use]
    pub fn next(&self) -> (Mark, Timestamp) {
        let at_once = Timestamp::default();
        let after_hold = || self.idle_since.map_or(at_once, |since| since + self.pacing.idle_after);
        let at = match (self.written, self.wanted) {
            (Some((before, at)), wanted) if before == wanted => at + self.pacing.again_every,
            (Some((Mark::Busy { .. }, at)), Mark::Busy { .. }) => at + self.pacing.cost_every,
            (Some((Mark::Idle, _)) | None, Mark::Busy { .. }) => at_once,
            (Some(_) | None, Mark::Idle) => after_hold(),
        };
        (self.wanted, at.max(self.retry_at))
    }

    /// `mark` stands on the pod. Gives how many writes failed before this one did not.
    pub fn wrote(&mut self, now: Timestamp, mark: Mark) -> u32 {
        self.written = Some((mark, now));
        self.retry_at = Timestamp::default();
        std::mem::take(&mut self.failures)
    }

    /// A write failed, and nobody knows what stands there now. `random` out of 0 to 1 spreads those who all failed together.
    /// Gives how many failed in a row.
    pub fn failed(&mut self, now: Timestamp, random: f64) -> u32 {
        self.written = None;
        let doublings = 2_u32.saturating_pow(self.failures);
        let whole = self.pacing.retry_first.saturating_mul(doublings).min(self.pacing.retry_max);
        self.retry_at = now + whole / 2 + whole.mul_f64(random.clamp(0.0, 1.0)) / 2;
        self.failures = self.failures.saturating_add(1);
        self.failures
    }
}

#[cfg(test)]
mod tests;
