//! What is on this host: whether stopping it would hurt somebody, and how many; and what the engine around the agent, which
//! would stop it, has answered.
//!
//! Never decides when the engine is told.

use greenroom_wire::agent::{ProcessPhase, ServerReport};
use greenroom_wire::rooms::RoomReport;

use super::Supervisor;
use super::managed::Managed;
use crate::keeping::{Holds, Kept};

/// What is on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    /// Whether stopping it would hurt somebody: a connection, a room, a promise that control made, a result that control has
    /// not taken yet. Doubt counts. With [`Holds::Servers`] a gameserver alone is enough.
    pub busy: bool,
    /// Connections and taken seats, of each server the greater of the two.
    pub players: u32,
}

impl Supervisor {
    /// What is on this host now. What it was told by control holds until control says otherwise.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let live = || self.servers.values().filter(|managed| !managed.is_ended());
        let promised_on = self.settings.holds == Holds::Servers && live().next().is_some();
        let unsettled = !self.settling.is_empty() || !self.room_ended.is_empty();
        Occupancy {
            busy: self.occupied || promised_on || unsettled || live().any(Managed::is_occupied),
            players: live().fold(0, |sum, managed| sum.saturating_add(managed.players())),
        }
    }

    pub(super) fn handle_kept(&mut self, kept: Kept) {
        self.out.changed |= self.kept != kept;
        self.kept = kept;
    }

    /// All servers as they are told to control. With [`Holds::Servers`] none is told to be ready before the engine has held the
    /// host once since its process began: whoever may be promised a place there is safe by then.
    pub(super) fn server_reports(&mut self) -> Vec<ServerReport> {
        let (settings, kept, hears_held) = (&self.settings, &self.kept, self.hears_held);
        let must_wait = settings.holds == Holds::Servers && !kept.held;
        let report = |managed: &mut Managed| {
            let mut report = managed.report(settings);
            if report.phase == ProcessPhase::Ready && !managed.may_be_told_ready(!must_wait) {
                report.phase = ProcessPhase::Starting;
                report.message = match kept.trouble.as_str() {
                    "" => "it waits until this host is protected".to_owned(),
                    trouble => format!("it waits until this host is protected: {trouble}"),
                };
            }
            if report.held && !hears_held {
                // Control does not know the word; a connection protects as well.
                report.connections = report.connections.max(1);
            }
            report
        };
        self.servers.values_mut().map(report).collect()
    }
}

impl Managed {
    /// Whether somebody is on it, or may be: rooms of the process before may still be on their way.
    pub(super) fn is_occupied(&self) -> bool {
        let unsure = self.link.ever && !self.link.told;
        unsure || self.is_held() || self.connections() > 0 || !self.status.rooms.is_empty()
    }

    /// Whether control, which tells it to stop, may not know who is on it: rooms that it has had closed are no reason to stay, nor are
    /// those that a process may tell of which has never been ready.
    pub(super) fn is_in_use(&self) -> bool {
        let unsure = self.link.ever && !self.link.told && self.has_been_ready();
        let lives = |room: &RoomReport| !self.link.closed.contains(&room.room.0);
        unsure || self.is_held() || self.connections() > 0 || self.status.rooms.iter().any(lives)
    }

    fn players(&self) -> u32 {
        let seats: usize = self.status.rooms.iter().map(|room| room.seats.len()).sum();
        self.connections().max(u32::try_from(seats).unwrap_or(u32::MAX))
    }
}
