//! Owns players of our own, many in one process, who go through lobby, match and game against running servers, and the
//! judgement of what they saw.
//! Never starts a server, and never touches the control plane but by its public API.
//!
//! [`run`] is the shell. Inside, a [`player::Player`] is a value that walks through a [`flow::Flow`]: events in, actions
//! out. A [`link::Link`] is its Socket.IO connection without a socket. An [`oracle::Ledger`] says what was wrong.

pub mod arrival;
mod barrier;
pub mod check;
pub mod config;
mod crew;
mod diary;
pub mod draws;
mod examine;
pub mod fact;
pub mod flow;
pub mod health;
mod home;
pub mod limit;
pub mod link;
pub mod measure;
mod open;
pub mod oracle;
pub mod page;
mod part;
pub mod player;
mod plot;
pub mod report;
mod run;
pub mod scenario;
mod sockets;
mod swarm;
pub mod template;
pub mod threshold;

pub use config::SwarmConfig;
pub use part::Part;
pub use report::{Outcome, Progress, Report};
pub use run::{Find, FindError, Question, RunError, Share, find_by, run, run_part};
pub use scenario::Scenario;
