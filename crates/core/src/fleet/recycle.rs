//! Against leaks: when a server has done enough to be replaced by a fresh one.
//!
//! Never stops anything: a worn server gets nothing new, and goes when nobody is left on it.

use std::fmt;
use std::time::Duration;

/// When a server is worn. The default is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recycle {
    /// Once its process has run for so long.
    pub age: Option<Duration>,
    /// Once its process has opened so many rooms. At least 1. Servers that do not tell of it are never worn by this.
    pub rooms: Option<u32>,
    /// Once its process holds so much resident memory, in bytes. Only where the agent can measure it.
    pub memory_bytes: Option<u64>,
}

/// What a process has gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wear {
    /// How long it has run.
    pub age: Duration,
    /// Rooms it has opened, where it tells.
    pub rooms: Option<u32>,
    /// Its resident memory, where it is measured.
    pub memory_bytes: Option<u64>,
}

/// Which limit a server has reached, and with how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worn {
    /// [`Recycle::age`].
    Age {
        /// How long its process had run.
        age: Duration,
        /// What is allowed.
        limit: Duration,
    },
    /// [`Recycle::rooms`].
    Rooms {
        /// How many it had opened.
        rooms: u32,
        /// What is allowed.
        limit: u32,
    },
    /// [`Recycle::memory_bytes`].
    Memory {
        /// How much it held.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
}

impl Recycle {
    /// The first limit that was reached, memory first: it is what hurts.
    #[must_use]
    pub fn worn(&self, wear: &Wear) -> Option<Worn> {
        let memory = self.memory_bytes.zip(wear.memory_bytes).filter(|(limit, bytes)| bytes >= limit);
        let rooms = self.rooms.zip(wear.rooms).filter(|(limit, rooms)| rooms >= limit);
        let age = self.age.filter(|limit| wear.age >= *limit);
        let memory = memory.map(|(limit, bytes)| Worn::Memory { bytes, limit });
        memory
            .or_else(|| rooms.map(|(limit, rooms)| Worn::Rooms { rooms, limit }))
            .or_else(|| age.map(|limit| Worn::Age { age: wear.age, limit }))
    }
}

impl fmt::Display for Worn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        match self {
            Self::Age { age, limit } => {
                write!(f, "worn out: {} s old, {} s allowed", age.as_secs(), limit.as_secs())
            }
            Self::Rooms { rooms, limit } => write!(f, "worn out: {rooms} rooms served, {limit} allowed"),
            Self::Memory { bytes, limit } => {
                let (whole, allowed) = (bytes / MIB, limit / MIB);
                write!(f, "worn out: {whole} MiB of memory, {allowed} MiB allowed")
            }
        }
    }
}
