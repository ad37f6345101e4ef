//! What control is told of a gameserver.
//!
//! Never decides whether it may be told already: that depends on the whole host.

use greenroom_wire::agent::{ProcessPhase, ServerReport};

use super::{Managed, Settings, Speech, Stage};

impl Managed {
    /// Whether this process may be told to be ready; once it was, it stays so.
    pub(in super::super) const fn may_be_told_ready(&mut self, now: bool) -> bool {
        let Stage::Running { health, .. } = &mut self.stage else { return false };
        health.told_ready |= now;
        health.told_ready
    }

    pub(super) fn phase(&self) -> ProcessPhase {
        match &self.stage {
            Stage::Ended { .. } => ProcessPhase::Ended,
            // Not `Stopping`: it stays, and nobody needs another one in its place.
            Stage::Stopping { .. } if self.stop_reason.is_none() => ProcessPhase::Starting,
            Stage::Stopping { .. } => ProcessPhase::Stopping,
            _ if self.stop_reason.is_some() => ProcessPhase::Stopping,
            Stage::Adopting { .. } | Stage::Launching => ProcessPhase::Starting,
            Stage::Waiting { .. } if self.restarts == 0 => ProcessPhase::Starting,
            Stage::Waiting { .. } => ProcessPhase::Restarting,
            Stage::Running { health, .. } => health.phase(),
        }
    }

    pub(in super::super) fn report(&self, settings: &Settings) -> ServerReport {
        let pid = match &self.stage {
            Stage::Running { process, .. } | Stage::Stopping { process, .. } => process.pid,
            Stage::Adopting { .. } | Stage::Launching | Stage::Waiting { .. } | Stage::Ended { .. } => None,
        };
        ServerReport {
            server: self.order.server.clone(),
            instance: self.instance().into(),
            fleet: self.order.fleet.clone(),
            revision: self.order.revision.clone(),
            phase: self.phase(),
            endpoint: settings.endpoint(self.port),
            tls: self.speech == Speech::Tls,
            pid,
            restarts: self.restarts,
            started_at_ms: self.started_at.unix_ms(),
            connections: self.connections(),
            held: self.own_word.hold.is_held(),
            rooms: self.status.rooms.clone(),
            keeps_rooms: self.status.keeps_rooms,
            linked: self.link.told || self.says_no_rooms(),
            measured: self.status.measured,
            labels: self.labels(),
            message: self.message(),
        }
    }
}
