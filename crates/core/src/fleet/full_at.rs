//! When a server that has places is full all the same: what it measures is worse than its fleet allows.
//!
//! Never takes anybody away from it: who is there stays, and nobody new is sent until it is better again.

use std::fmt;

/// The quality caps of a fleet. The default is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FullAt {
    /// From so many connections on, answers in flight counted. At least 1.
    pub connections: Option<u32>,
    /// When its ticks are later than this, in milliseconds. Servers that do not tell of it are never full by this.
    pub tick_lateness_ms: Option<u32>,
    /// When its event loop is later than this, in milliseconds; likewise.
    pub loop_lag_ms: Option<u32>,
}

/// What a server carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Strain {
    /// Connections, and answers in flight.
    pub connections: u32,
    /// How late its ticks are, where it tells.
    pub tick_lateness_ms: Option<u32>,
    /// How late its event loop is, where it tells.
    pub loop_lag_ms: Option<u32>,
}

/// Which cap a server has reached, and with how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// [`FullAt::connections`].
    Connections {
        /// How many it has.
        connections: u32,
        /// The cap.
        cap: u32,
    },
    /// [`FullAt::tick_lateness_ms`].
    TickLateness {
        /// How late, in milliseconds.
        ms: u32,
        /// The cap.
        cap_ms: u32,
    },
    /// [`FullAt::loop_lag_ms`].
    LoopLag {
        /// How late, in milliseconds.
        ms: u32,
        /// The cap.
        cap_ms: u32,
    },
}

impl FullAt {
    /// The first cap that is reached, what is measured first: it is what players notice. A server that was full by what it measured
    /// is until that is at most four fifths of the cap, so that it does not come and go with every report.
    #[must_use]
    pub fn full(&self, strain: &Strain, before: Option<Full>) -> Option<Full> {
        let was_late = matches!(before, Some(Full::TickLateness { .. }));
        if let Some((ms, cap_ms)) = late(self.tick_lateness_ms, strain.tick_lateness_ms, was_late) {
            return Some(Full::TickLateness { ms, cap_ms });
        }
        let was_late = matches!(before, Some(Full::LoopLag { .. }));
        if let Some((ms, cap_ms)) = late(self.loop_lag_ms, strain.loop_lag_ms, was_late) {
            return Some(Full::LoopLag { ms, cap_ms });
        }
        let connections = strain.connections;
        let cap = self.connections.filter(|cap| connections >= *cap);
        cap.map(|cap| Full::Connections { connections, cap })
    }
}

/// How late, and the cap, where it is later than that.
fn late(cap_ms: Option<u32>, ms: Option<u32>, was_late: bool) -> Option<(u32, u32)> {
    let (cap_ms, ms) = cap_ms.zip(ms)?;
    let bound_ms = if was_late { cap_ms - cap_ms.div_ceil(5) } else { cap_ms };
    (ms > bound_ms).then_some((ms, cap_ms))
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connections { connections, cap } => {
                write!(f, "full: {connections} connections, {cap} allowed")
            }
            Self::TickLateness { ms, cap_ms } => {
                write!(f, "full: its ticks are {ms} ms late, {cap_ms} ms allowed")
            }
            Self::LoopLag { ms, cap_ms } => {
                write!(f, "full: its event loop is {ms} ms late, {cap_ms} ms allowed")
            }
        }
    }
}
