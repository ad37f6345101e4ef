//! What a gameserver tells on its link, or over the SDK in its place: that it lives, its connections, its rooms.
//!
//! Never knows whose word it is: the caller has checked that.

use greenroom_core::Timestamp;
use greenroom_wire::link::Status;

use super::{LinkId, Managed, Out, Stage};

impl Managed {
    /// A link connection proved to be this process's. Returns the one it replaces.
    pub(in super::super) fn linked(&mut self, link: LinkId, now: Timestamp, out: &mut Out) -> Option<LinkId> {
        out.dirty |= !self.link.ever;
        self.link.ever = true;
        self.link.by_sdk = false;
        self.heard(now, out);
        self.link.id.replace(link)
    }

    /// Anything was heard on the link.
    pub(in super::super) fn heard(&mut self, now: Timestamp, out: &mut Out) {
        self.link.heard_at = now;
        if let Stage::Running { health, .. } = &mut self.stage {
            out.changed |= health.silent;
            health.silent = false;
        }
    }

    /// The server told its state.
    pub(in super::super) fn told(&mut self, status: Status, out: &mut Out) {
        // What is missing means nothing while rooms of the process before are on their way.
        let told = !status.awaits_rooms;
        out.changed |= self.link.told != told;
        self.link.told = told;
        // What it measured changes all the time and waits for the next report.
        let old = &self.status;
        out.changed |= old.connections != status.connections || old.rooms != status.rooms;
        self.status = status;
    }

    /// The link connection is over.
    pub(in super::super) fn unlinked(&mut self, out: &mut Out) {
        self.link.id = None;
        out.changed |= matches!(self.stage, Stage::Stopping { .. });
    }

    /// The same over the SDK. As on a link, its silence means something from now on.
    pub(in super::super) fn told_by_sdk(&mut self, status: Status, now: Timestamp, out: &mut Out) {
        out.dirty |= !self.link.ever;
        self.link.ever = true;
        self.link.by_sdk = true;
        self.heard(now, out);
        self.says_alive(now, out);
        self.told(status, out);
    }
}
