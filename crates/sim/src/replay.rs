//! Scaling policies played against a recorded flow of rooms: who had to wait, and what stood idle for it.
//!
//! Never a judge of placement or faults: hosts have room for all, servers do not die. A run is a function of the trace,
//! the settings and the seed.

mod generate;
mod model;
mod rule;
mod trace;

pub use generate::{SHIPPED, generate};
pub use model::{Moment, Outcome, ServersLive, Settings, WARM_UP_S, play};
pub use rule::{InvalidRule, Rule};
pub use trace::{Row, Trace, TraceError};
