//! Recoverable events and the sessions that may come back to them, kept where a node's crash does not reach.
//!
//! [`Board`] is the whole of it as one value: the node's own process holds one, or the host's agent does for all nodes of
//! a fleet. It never does IO and never reads a clock: commands go in, words for nodes come out. [`Log`] is one History,
//! which boards and nodes both keep.

mod board;
mod gathering;
mod log;
mod sessions;

pub use board::{Board, Limits};
pub use log::{Kept, Log, Missing};
