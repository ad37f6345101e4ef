//! Moments that repeat by the calendar of a time zone.
//!
//! Never asks what time it is, and never reads a zone file: the zones are part of the program.

use std::fmt;

use chrono::{DateTime, TimeZone as _};
use chrono_tz::Tz;
use croner::Cron;

use crate::Timestamp;

/// A cron pattern of five fields in a time zone. Where clocks are set forward, a moment that is left out counts at the
/// first moment after it; where they are set back, a fixed moment counts once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    text: String,
    cron: Box<Cron>,
    zone: Tz,
}

/// Why a calendar was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCalendar {
    /// Write five fields: minute, hour, day of month, month, day of week.
    #[error("{text:?} is no cron pattern: {why}")]
    Pattern {
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// Write a name of the IANA list, such as `Asia/Tokyo`.
    #[error("there is no time zone {0:?}; names are as in Asia/Tokyo or UTC")]
    Zone(String),
    /// Such as 31 February.
    #[error("{0:?} is a moment that never comes")]
    Never(String),
}

impl Calendar {
    /// Reads a pattern such as `0 18 * * FRI` and the name of a zone.
    ///
    /// # Errors
    /// [`InvalidCalendar`], with what is wrong.
    pub fn new(pattern: &str, zone: &str) -> Result<Self, InvalidCalendar> {
        let text = pattern.trim().to_owned();
        let fields = text.split_whitespace().count();
        let wrong = |why: String| InvalidCalendar::Pattern { text: text.clone(), why };
        if fields != 5 {
            return Err(wrong(format!("it has {fields} fields, not 5")));
        }
        let cron: Cron = text.parse().map_err(|error: croner::errors::CronError| wrong(error.to_string()))?;
        let zone: Tz = zone.parse().map_err(|_| InvalidCalendar::Zone(zone.to_owned()))?;
        let calendar = Self { text, cron: Box::new(cron), zone };
        match calendar.next(Timestamp::from_unix_ms(1_600_000_000_000)) {
            Some(_) => Ok(calendar),
            None => Err(InvalidCalendar::Never(calendar.text)),
        }
    }

    /// The five fields as they were written.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.text
    }

    /// The zone's name, as in `Asia/Tokyo`.
    #[must_use]
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The last moment at or before `now`.
    #[must_use]
    pub fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let at = self.cron.find_previous_occurrence(&self.local(now)?, true).ok()?;
        timestamp(&at)
    }

    /// The first moment after `now`.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let at = self.cron.find_next_occurrence(&self.local(now)?, false).ok()?;
        timestamp(&at)
    }

    fn local(&self, at: Timestamp) -> Option<DateTime<Tz>> {
        // Whole seconds: cron knows nothing finer, and a fraction would push the search past its own moment.
        let seconds = i64::try_from(at.unix_ms() / 1000).ok()?;
        self.zone.timestamp_opt(seconds, 0).single()
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.zone)
    }
}

fn timestamp(at: &DateTime<Tz>) -> Option<Timestamp> {
    u64::try_from(at.timestamp_millis()).ok().map(Timestamp::from_unix_ms)
}
