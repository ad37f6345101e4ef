//! An engine around the agent, Kubernetes or ECS, that must not stop the host while somebody is on it: what it is told and when,
//! and what it answered.
//!
//! Never calls an engine and reads no clock, but for [`keep`], which is given where to write. A mark is no meter: each write is a
//! write of the engine's own store, so numbers go up in powers of two, and seldom.

mod keeper;

use std::time::Duration;

use greenroom_core::Timestamp;
use tokio::sync::watch;

pub use greenroom_provider::BoxFuture;
pub use keeper::{Kept, Marks, keep};

use crate::Occupancy;

/// What the agent and whoever speaks to its engine tell each other.
#[derive(Debug, Clone)]
pub struct Around {
    /// Told what is on this host whenever that changes; `None` until it is known.
    pub occupancy: watch::Sender<Option<Occupancy>>,
    /// What the engine answered last.
    pub kept: watch::Receiver<Kept>,
    /// When the engine must hold this host.
    pub holds: Holds,
}

/// The other end of an [`Around`], for [`keep`].
#[derive(Debug)]
pub struct Engine {
    occupancy: watch::Receiver<Option<Occupancy>>,
    kept: watch::Sender<Kept>,
}

/// Both ends: one for [`crate::AgentConfig::around`], one for [`keep`].
#[must_use]
pub fn channel(holds: Holds) -> (Around, Engine) {
    let (told, occupancy) = watch::channel(None);
    let (kept, heard) = watch::channel(Kept::default());
    (Around { occupancy: told, kept: heard, holds }, Engine { occupancy, kept })
}

/// What the engine has answered since the last look. When it is gone, its last word holds.
pub(crate) fn news(kept: &mut watch::Receiver<Kept>) -> Option<Kept> {
    kept.has_changed().unwrap_or(false).then(|| kept.borrow_and_update().clone())
}

/// When an engine must hold the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Holds {
    /// While somebody is on it, or was promised a place. Between the promise and the engine's answer is a moment in which the
    /// engine may still choose this host.
    #[default]
    Busy,
    /// While a gameserver is on it. None is reported ready before the engine holds the host, so nothing is promised before.
    Servers,
}

/// What stands at the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The host may go.
    Idle,
    /// Somebody is on it.
    Busy {
        /// What is lost with it, beside other busy hosts: at least 1.
        cost: i32,
    },
}

impl Mark {
    /// The mark of a host with this on it: the cost is the number of players, up to the next power of two.
    #[must_use]
    pub fn of(occupancy: Occupancy) -> Self {
        if !occupancy.busy {
            return Self::Idle;
        }
        let step = occupancy.players.max(1).checked_next_power_of_two();
        Self::Busy { cost: step.and_then(|step| i32::try_from(step).ok()).unwrap_or(i32::MAX) }
    }
}

/// How often an engine is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// How long nobody must have been there before that is written. Default 10 s.
    pub idle_after: Duration,
    /// Shortest time between two writes that change the cost alone. Default 60 s.
    pub cost_every: Duration,
    /// Time after which a busy mark is written again, should somebody have changed it or should it run out. Default 5 min.
    pub busy_every: Duration,
    /// The same for an idle one; `None`: never, for whoever changed it meant it. Default 5 min.
    pub idle_every: Option<Duration>,
    /// How long a busy mark holds at the engine; `None`: until it is changed. Default none.
    pub lasts: Option<Duration>,
    /// Longest time that one write may take. Default 5 s.
    pub write_max: Duration,
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
            busy_every: Duration::from_secs(300),
            idle_every: Some(Duration::from_secs(300)),
            lasts: None,
            write_max: Duration::from_secs(5),
            retry_first: Duration::from_millis(250),
            retry_max: Duration::from_secs(30),
        }
    }
}

/// What should stand at the engine, what does, and so what is written next.
#[derive(Debug, Clone)]
pub struct Protection {
    pacing: Pacing,
    wanted: Mark,
    /// Since when nobody is there; `None` if nobody ever was.
    idle_since: Option<Timestamp>,
    /// What was written last and when; `None` while that is not known: before the first write, and after one that failed.
    written: Option<(Mark, Timestamp)>,
    /// When the present write began.
    began_at: Timestamp,
    /// Until when the engine surely holds the host.
    held_until: Option<Timestamp>,
    failures: u32,
    retry_at: Timestamp,
}

impl Protection {
    /// Of a host that nothing is known of yet, and that nobody is on.
    #[must_use]
    pub fn new(pacing: Pacing) -> Self {
        Self {
            pacing,
            wanted: Mark::Idle,
            idle_since: None,
            written: None,
            began_at: Timestamp::default(),
            held_until: None,
            failures: 0,
            retry_at: Timestamp::default(),
        }
    }

    /// Takes in what is on the host now. Repeating it changes nothing.
    pub fn observe(&mut self, now: Timestamp, occupancy: Occupancy) {
        let wanted = Mark::of(occupancy);
        if wanted == Mark::Idle && self.wanted != Mark::Idle {
            self.idle_since = Some(now);
        }
        self.wanted = wanted;
    }

    /// What is written next, and when, should nothing change until then; without a moment nothing is. Somebody who comes is
    /// written at once.
    #[must_use]
    pub fn next(&self) -> (Mark, Option<Timestamp>) {
        let at_once = Some(Timestamp::default());
        let after_hold = || self.idle_since.map_or(at_once, |since| Some(since + self.pacing.idle_after));
        let at = match (self.written, self.wanted) {
            (Some((Mark::Idle, at)), Mark::Idle) => self.pacing.idle_every.map(|every| at + every),
            (Some((before @ Mark::Busy { .. }, at)), wanted) if before == wanted => {
                Some(at + self.pacing.busy_every)
            }
            (Some((Mark::Busy { .. }, at)), Mark::Busy { .. }) => Some(at + self.pacing.cost_every),
            (Some((Mark::Idle, _)) | None, Mark::Busy { .. }) => at_once,
            (Some((Mark::Busy { .. }, _)) | None, Mark::Idle) => after_hold(),
        };
        (self.wanted, at.map(|at| at.max(self.retry_at)))
    }

    /// `mark` is being written. From here on the engine may let an idle host go, whatever it answers.
    pub fn writes(&mut self, now: Timestamp, mark: Mark) {
        self.began_at = now;
        if mark == Mark::Idle {
            self.held_until = None;
        }
    }

    /// `mark` stands there. Gives how many writes failed before this one did not.
    pub fn wrote(&mut self, now: Timestamp, mark: Mark) -> u32 {
        self.written = Some((mark, now));
        self.retry_at = Timestamp::default();
        if mark != Mark::Idle {
            let forever = Timestamp::from_unix_ms(u64::MAX);
            // The engine counts from some moment of the call: the first is the safe one.
            self.held_until = Some(self.pacing.lasts.map_or(forever, |lasts| self.began_at + lasts));
        }
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

    /// Whether the engine surely holds the host.
    #[must_use]
    pub fn is_held(&self, now: Timestamp) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests;
