//! What is on this host: whether stopping it would hurt somebody, and how many.
//!
//! Never decides what follows from that.

use super::Supervisor;
use super::managed::Managed;

/// What is on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    /// Whether stopping it would hurt somebody: a connection, a room, a promise that control made, a result that control has
    /// not taken yet. Doubt counts.
    pub busy: bool,
    /// Connections and taken seats, of each server the greater of the two.
    pub players: u32,
}

impl Supervisor {
    /// What is on this host now. What it was told by control holds until control says otherwise.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let live = || self.servers.values().filter(|managed| !managed.is_ended());
        let unsettled = !self.settling.is_empty() || !self.room_ended.is_empty();
        Occupancy {
            busy: self.occupied || unsettled || live().any(Managed::is_occupied),
            players: live().fold(0, |sum, managed| sum.saturating_add(managed.players())),
        }
    }
}

impl Managed {
    /// Whether somebody is on it, or may be: rooms of the process before may still be on their way.
    fn is_occupied(&self) -> bool {
        let unsure = self.link.ever && !self.link.told;
        unsure || self.status.connections > 0 || !self.status.rooms.is_empty()
    }

    fn players(&self) -> u32 {
        let seats: usize = self.status.rooms.iter().map(|room| room.seats.len()).sum();
        self.status.connections.max(u32::try_from(seats).unwrap_or(u32::MAX))
    }
}
