//! Triggers: any number that is watched, and the moment at which something is to be done about it.
//!
//! Never does it and never knows what it is: whoever owns the trigger acts on [`Turn::Fire`]. Values are in thousandths, so that
//! the same readings give the same turns on every machine.
//!
//! ```
//! use std::time::Duration;
//! use greenroom_core::Timestamp;
//! use greenroom_core::trigger::{Memory, Reading, Threshold, Trigger, Turn};
//!
//! // Above 80 for a minute; again only after it was at 60 or below, and not within ten minutes.
//! let hot = Trigger {
//!     rearm: Reading::whole(60),
//!     hold: Duration::from_secs(60),
//!     cooldown: Duration::from_secs(600),
//!     ..Trigger::new(Threshold::Above(Reading::whole(80)))
//! };
//! let at = |seconds: u64| Timestamp::from_unix_ms(seconds * 1000);
//! let mut memory = Memory::default();
//! let turns = [(0, 90), (30, 85), (60, 81), (61, 99), (90, 50), (200, 95), (300, 95), (660, 95)]
//!     .map(|(seconds, value)| hot.observe(&mut memory, Some(Reading::whole(value)), at(seconds)));
//! let (no, fire) = (Turn::Nothing, Turn::Fire);
//! assert_eq!(turns, [no, no, fire, no, Turn::Rearm, no, no, fire]);
//! ```

use std::fmt;
use std::time::Duration;

use crate::Timestamp;

/// A value that was read, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Reading(i64);

/// A number that is no reading: not finite, or beyond what a reading holds.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is no number between -1e15 and 1e15")]
pub struct InvalidReading(pub f64);

impl Reading {
    /// A whole number; what is beyond its range becomes the end of it.
    #[must_use]
    pub const fn whole(value: i64) -> Self {
        Self(value.saturating_mul(1000))
    }
}

impl TryFrom<f64> for Reading {
    type Error = InvalidReading;

    /// Rounded to thousandths.
    fn try_from(value: f64) -> Result<Self, InvalidReading> {
        if !value.is_finite() || value.abs() > 1e15 {
            return Err(InvalidReading(value));
        }
        // Within the range the text of a whole number of thousandths is one that fits.
        format!("{:.0}", value * 1000.0).parse().map(Self).map_err(|_| InvalidReading(value))
    }
}

impl From<Reading> for f64 {
    fn from(reading: Reading) -> Self {
        reading.to_string().parse().expect("a reading is written as a number")
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, whole, part) =
            (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs() / 1000, self.0.unsigned_abs() % 1000);
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        let part = format!("{part:03}");
        write!(f, "{sign}{whole}.{}", part.trim_end_matches('0'))
    }
}

/// Which readings are crossed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// Those above, not the value itself.
    Above(Reading),
    /// Those below, not the value itself.
    Below(Reading),
}

/// When to act on a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trigger {
    /// Which readings count.
    pub threshold: Threshold,
    /// Where it is over: at or below it for [`Threshold::Above`], at or above it for [`Threshold::Below`]. Between the two
    /// nothing changes. Default the threshold itself; one on the wrong side of it counts as the threshold.
    pub rearm: Reading,
    /// For how long readings must have been crossed without a break. Default zero: one is enough.
    pub hold: Duration,
    /// Least time between two fires. A crossing within it fires when it is over, if it still holds. Default zero.
    pub cooldown: Duration,
}

/// What is remembered between two readings. What is not worth storing may be forgotten: see [`Memory::resumed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    crossed_since: Option<Timestamp>,
    firing: bool,
    fired_at: Option<Timestamp>,
}

/// What a reading leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Turn {
    /// Nothing is to be done.
    Nothing,
    /// Act now. Once for each crossing.
    Fire,
    /// What it fired for is over: it may fire again.
    Rearm,
}

impl Memory {
    /// What another process needs to go on: whether it has fired and is not over, and when it fired last. Since when readings are
    /// crossed is counted anew, so it may fire later than it would have, never sooner and never twice.
    #[must_use]
    pub const fn resumed(firing: bool, fired_at: Option<Timestamp>) -> Self {
        Self { crossed_since: None, firing, fired_at }
    }

    /// Whether it has fired and is not over.
    #[must_use]
    pub const fn is_firing(&self) -> bool {
        self.firing
    }

    /// Since when readings are crossed, while it has not fired for that.
    #[must_use]
    pub const fn crossed_since(&self) -> Option<Timestamp> {
        self.crossed_since
    }

    /// When it fired last.
    #[must_use]
    pub const fn fired_at(&self) -> Option<Timestamp> {
        self.fired_at
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Above(value) => write!(f, "above {value}"),
            Self::Below(value) => write!(f, "below {value}"),
        }
    }
}

impl Trigger {
    /// One with the defaults.
    #[must_use]
    pub const fn new(threshold: Threshold) -> Self {
        let rearm = match threshold {
            Threshold::Above(value) | Threshold::Below(value) => value,
        };
        Self { threshold, rearm, hold: Duration::ZERO, cooldown: Duration::ZERO }
    }

    /// Takes a reading in. `None`: nothing is known at this moment; that breaks a crossing off, and ends nothing that it fired
    /// for. A clock that steps back lets it fire later, not twice.
    pub fn observe(&self, memory: &mut Memory, reading: Option<Reading>, now: Timestamp) -> Turn {
        let Some(reading) = reading else {
            memory.crossed_since = None;
            return Turn::Nothing;
        };
        if memory.firing {
            if !self.is_over(reading) {
                return Turn::Nothing;
            }
            memory.firing = false;
            memory.crossed_since = None;
            return Turn::Rearm;
        }
        if !self.is_crossed(reading) {
            memory.crossed_since = None;
            return Turn::Nothing;
        }
        let since = *memory.crossed_since.get_or_insert(now);
        if now.since(since) < self.hold || self.is_cooling(memory, now) {
            return Turn::Nothing;
        }
        (memory.firing, memory.fired_at, memory.crossed_since) = (true, Some(now), None);
        Turn::Fire
    }

    /// Whether it fired so shortly before that it does not fire again yet.
    #[must_use]
    pub fn is_cooling(&self, memory: &Memory, now: Timestamp) -> bool {
        memory.fired_at.is_some_and(|fired_at| now.since(fired_at) < self.cooldown)
    }

    fn is_crossed(&self, reading: Reading) -> bool {
        match self.threshold {
            Threshold::Above(value) => reading > value,
            Threshold::Below(value) => reading < value,
        }
    }

    fn is_over(&self, reading: Reading) -> bool {
        match self.threshold {
            Threshold::Above(value) => reading <= value.min(self.rearm),
            Threshold::Below(value) => reading >= value.max(self.rearm),
        }
    }
}
