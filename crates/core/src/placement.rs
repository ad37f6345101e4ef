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

/// The host that runs the next server: of those that accept and have a place, the one with the smallest taken share,
/// the first by name of equals. `None` when nothing accepts or all are full.
///
/// Asking again without counting the server gives the same answer.
#[must_use]
pub fn choose(hosts: &[Host]) -> Option<HostName> {
    hosts
        .iter()
        .filter(|host| host.accepts && host.servers < host.servers_max)
        .min_by(|a, b| {
            // servers / servers_max compared without a division: the same on every machine.
            let left = u64::from(a.servers) * u64::from(b.servers_max);
            let right = u64::from(b.servers) * u64::from(a.servers_max);
            left.cmp(&right).then_with(|| a.name.cmp(&b.name))
        })
        .map(|host| host.name.clone())
}
