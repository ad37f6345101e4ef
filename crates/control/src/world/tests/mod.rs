//! The world under virtual time: a rig that plays agents and callers, and the cases by subject.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an answer of another kind fails the test, whichever it is"
)]

mod allocation;
mod audit;
mod choice;
mod drain;
mod failing;
mod full;
mod held;
mod hosts;
mod kept;
mod laws;
mod news;
mod occupied;
mod recycle;
mod restart;
mod rig;
mod rooms;
mod scaling;
mod selective;
mod slo;
mod tickets;
mod triggers;
mod zones;

pub(crate) use rig::mesh_fleet;
