//! Which Host runs a new GameServer.
//!
//! Never looks at players: that is allocation.

use crate::HostName;

/// One host at the moment of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// Whether its agent is connected and takes orders.
    pub accepts: bool,
    /// Servers on it, ordered ones included.
    pub servers: u32,
    /// Most servers it may hold: its free ports, or what it was told.
    pub servers_max: u32,
}
