//! The world under virtual time: a rig that plays agents and callers, and the cases by subject.

mod allocation;
mod hosts;
mod laws;
mod restart;
mod rig;
mod rooms;
mod tickets;
