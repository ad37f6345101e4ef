//! Owns players of our own, many in one process, who go through lobby, match and game against running servers, and the
//! judgement of what they saw.
//! Never starts a server, and never touches the control plane but by its public API.
//!
//! [`run`] is the shell. Inside, a [`player::Player`] is a value that walks through a [`flow::Flow`]: events in, actions
//! out. A [`link::Link`] is its Socket.IO connection without a socket. An [`oracle::Ledger`] says what was wrong.

pub mod config;
pub mod draws;
pub mod fact;
pub mod flow;
pub mod health;
pub mod link;
pub mod measure;
mod open;
pub mod oracle;
pub mod player;
pub mod report;
mod run;
mod swarm;

pub use config::SwarmConfig;
pub use report::{Outcome, Progress, Report};
pub use run::{Find, RunError, find_by, run};
