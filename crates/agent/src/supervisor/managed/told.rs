//! What a gameserver tells on its link, or over the SDK in its place: that it lives, its connections, its rooms.
//!
//! Never knows whose word it is: the caller has checked that.

use std::collections::BTreeSet;

use greenroom_core::{RoomId, Timestamp};
use greenroom_wire::link::Status;

use super::{LinkId, Managed, Out, Stage};

#[derive(Debug)]
pub(in super::super) struct LinkState {
    pub(in super::super) id: Option<LinkId>,
    /// This process has linked at least once, so its silence means something.
    pub(in super::super) ever: bool,
    /// This agent has been told its rooms: what it found journalled says nothing of them.
    pub(in super::super) told: bool,
    pub(super) heard_at: Timestamp,
    /// It tells its status over the SDK, which has no connection that lasts.
    pub(super) by_sdk: bool,
    /// Rooms that control has had closed, whatever its process tells of them.
    pub(in super::super) closed: BTreeSet<RoomId>,
}

impl LinkState {
    pub(super) const fn new(ever: bool, now: Timestamp) -> Self {
        Self { id: None, ever, told: false, heard_at: now, by_sdk: false, closed: BTreeSet::new() }
    }
}

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
        out.changed |= old.keeps_rooms != status.keeps_rooms;
        self.link.closed.retain(|room| status.rooms.iter().any(|told| told.room.0 == *room));
        self.status = status;
    }

    /// Control has this room closed. The link to tell its process on, if it has one.
    pub(in super::super) fn close(&mut self, room: &RoomId) -> Option<LinkId> {
        if self.status.rooms.iter().any(|told| told.room.0 == *room) {
            self.link.closed.insert(room.clone());
        }
        self.link.id
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
