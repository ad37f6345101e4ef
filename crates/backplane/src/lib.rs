//! Recoverable events and the sessions that may come back to them, kept where a node's crash does not reach.
//!
//! [`Board`] is the whole of it as one value: the node's own process holds one, or the host's agent does for all nodes of
//! a fleet. It never does IO and never reads a clock: commands go in, words for nodes come out. [`Log`] is one History,
//! which boards and nodes both keep. [`way`] is how a node talks with whatever keeps its events; [`memory`] is a board in
//! the node's process, and `redis`, with the feature of that name, is a Redis that several machines share. With the same feature
//! `emitters` hears what programs outside of the servers publish for them, and `adapter` carries what nodes and Node.js servers of
//! one cluster say to each other.

#[cfg(feature = "redis")]
mod attempts;
mod board;
mod gathering;
mod log;
#[cfg(feature = "redis")]
mod pushes;
mod rooms;
mod sessions;

pub mod adapter;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "redis")]
pub mod emitters;
pub mod memory;
#[cfg(feature = "redis")]
pub mod redis;
pub mod way;

pub use board::{Board, Limits};
pub use log::{Kept, Log, Missing};
