//! Which GameServer a new room, or a player of a mesh fleet, is sent to.
//!
//! Never reserves anything: the caller records the promise before it asks again.

use crate::gameserver::GameServer;
use crate::{FleetName, ServerName};

/// Why no server was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// Nothing that is ready has room. Worth waiting for: the fleet may grow.
    #[error(
        "no ready gameserver in fleet {fleet} has a free room ({ready} ready, {full} full, {starting} starting, {unhealthy} unhealthy)"
    )]
    NoCapacity {
        /// The fleet that was asked.
        fleet: FleetName,
        /// Servers that answer.
        ready: u32,
        /// Of those, with no room free.
        full: u32,
        /// Not answering yet.
        starting: u32,
        /// Not handed out.
        unhealthy: u32,
    },
}
