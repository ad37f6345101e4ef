//! Which changes of the world are news, of which sort, and in which words.
//!
//! Never tells one change twice: what has an entry in the audit trail is told from there, the rest from the notices.

use std::fmt;

use greenroom_core::{FleetName, RoomId, ServerName};
use greenroom_wire::api::{AuditAction, AuditEntry};
use greenroom_wire::record::NewsEvent;
use greenroom_wire::rooms::EndReason;

use super::Draft;
use crate::world::{Notice, World};

impl World {
    /// Tells what is news in an entry of the audit trail.
    pub(in crate::world) fn publish_entry(&mut self, entry: &AuditEntry) {
        if !self.news.has_readers() {
            return;
        }
        let AuditEntry { who, subject, reason, .. } = entry;
        let fleet = fleet_of(subject);
        let busy = if entry.busy { "; somebody was on it" } else { "" };
        let (event, text, common) = match entry.action {
            AuditAction::ServerStopped => (
                NewsEvent::Stop,
                format!("gameserver {subject} told to stop: {reason}{busy}"),
                format!("gameservers of fleet {fleet} told to stop: {reason}{busy}"),
            ),
            AuditAction::ServerDied => (
                NewsEvent::Failure,
                format!("gameserver {subject} died and is started again: {reason}{busy}"),
                format!("gameservers of fleet {fleet} died and are started again"),
            ),
            AuditAction::ServerGone => (
                NewsEvent::Failure,
                format!("gameserver {subject} is gone: {reason}{busy}"),
                format!("gameservers of fleet {fleet} are gone: {reason}"),
            ),
            AuditAction::FleetRestarted => {
                (NewsEvent::Order, format!("fleet {subject} restarted by {who}: {reason}"), String::new())
            }
            AuditAction::FleetScaled => {
                (NewsEvent::Order, format!("fleet {subject}: {reason}, by {who}"), String::new())
            }
            AuditAction::Drained => {
                (NewsEvent::Order, format!("{subject} drained by {who}: {reason}"), String::new())
            }
            AuditAction::Undrained => {
                (NewsEvent::Order, format!("{subject} in use again, by {who}: {reason}"), String::new())
            }
            AuditAction::TriggerFired => {
                (NewsEvent::Order, format!("trigger {subject} fired: {reason}"), String::new())
            }
            AuditAction::TriggerFailed => {
                (NewsEvent::Failure, format!("the action of trigger {reason}"), String::new())
            }
            // Told with the fleet's, with the decision that asked for it, or by a room's result; an export changes nothing, an import happens before.
            AuditAction::ServerRestarted
            | AuditAction::ServerStarted
            | AuditAction::RoomFinished
            | AuditAction::StateExported
            | AuditAction::StateImported
            | AuditAction::TriggerDone
            | AuditAction::Unknown => return,
        };
        self.publish(event, Draft { text, common, subject: subject.clone(), to: None });
    }

    /// Tells what is news in a notice.
    pub(in crate::world) fn publish_notice(&mut self, notice: &Notice) {
        if !self.news.has_readers() {
            return;
        }
        let (now, out) = (self.now, &mut self.out);
        let host = |host: &dyn fmt::Display| format!("host/{host}");
        match notice {
            Notice::HostSilent { host: name } => {
                self.news.raise(now, NewsEvent::Host, host(name), notice.to_string(), out);
            }
            Notice::HostsGivenUp { hosts } => {
                for name in hosts {
                    let text = format!("host {name} is silent: it has not come back to the control plane");
                    self.news.raise(now, NewsEvent::Host, host(name), text, out);
                }
            }
            Notice::HostLost { host: name } => {
                self.news.forget_concern(&host(name), out);
                self.publish(NewsEvent::Host, Draft { text: notice.to_string(), ..Draft::default() });
            }
            Notice::HostConnected { host: name, servers, known } => {
                let about = host(name);
                if self.news.is_open(&about) {
                    let words = |_: &_| format!("host {name} is back with {servers} gameservers");
                    self.news.settle(now, NewsEvent::Host, &about, words, out);
                } else if !known {
                    let text = format!("host {name} has joined");
                    self.publish(NewsEvent::Host, Draft { text, ..Draft::default() });
                }
            }
            Notice::FleetScaled { .. } => {
                self.publish(NewsEvent::Scale, Draft { text: notice.to_string(), ..Draft::default() });
            }
            Notice::StartRefused { server, message } => self.publish_refusal(server, message),
            Notice::ServerReady { server, .. } => {
                let fleet = fleet_of(server.as_str());
                let words = |_: &_| format!("gameservers of fleet {fleet} start again");
                self.news.settle(now, NewsEvent::Failure, &format!("refused/{fleet}"), words, out);
            }
            Notice::RoomEnded { room, fleet, reason, .. } => self.publish_end(notice, room, fleet, *reason),
            Notice::HostRefused { .. }
            | Notice::TermRaised { .. }
            | Notice::Rebuilt { .. }
            | Notice::ServerOrdered { .. }
            | Notice::OrderRefused { .. }
            | Notice::ServerAdopted { .. }
            | Notice::ServerUnhealthy { .. }
            | Notice::ServerRestarting { .. }
            | Notice::ServerStopping { .. }
            | Notice::ServerWrittenOff { .. }
            | Notice::ServerGone { .. }
            | Notice::ServerElsewhere { .. }
            | Notice::RoomMade { .. }
            | Notice::RoomAdopted { .. }
            | Notice::RoomWaits { .. }
            | Notice::RoomTakenUp { .. }
            | Notice::RoomSuperseded { .. }
            | Notice::SeatOverruled { .. }
            | Notice::FleetShort { .. }
            | Notice::FleetOrdered { .. }
            | Notice::Drained { .. }
            | Notice::Undrained { .. }
            | Notice::ServerCordoned { .. }
            | Notice::ServerUncordoned { .. }
            | Notice::FleetRestarted { .. }
            | Notice::NewsRefused { .. }
            | Notice::Trigger { .. } => {}
        }
    }

    fn publish_end(&mut self, notice: &Notice, room: &RoomId, fleet: &FleetName, reason: EndReason) {
        let Some(why) = lost(reason) else { return };
        let common = format!("rooms of fleet {fleet} lost: {why}");
        let (text, subject) = (format!("{notice} (fleet {fleet})"), room.to_string());
        self.publish(NewsEvent::Failure, Draft { text, common, subject, to: None });
    }

    fn publish_refusal(&mut self, server: &ServerName, message: &str) {
        let fleet = fleet_of(server.as_str());
        let text = format!("starts of fleet {fleet} are refused by an agent: {message}");
        let (now, about) = (self.now, format!("refused/{fleet}"));
        self.news.raise(now, NewsEvent::Failure, about, text, &mut self.out);
    }

    pub(super) fn publish(&mut self, event: NewsEvent, draft: Draft) {
        self.news.publish(self.now, event, draft, &mut self.out);
    }
}

/// A gameserver's name begins with that of its fleet.
fn fleet_of(server: &str) -> String {
    let named = server.rsplit_once('-').and_then(|(fleet, _)| fleet.parse::<FleetName>().ok());
    named.map_or_else(|| server.to_owned(), |fleet| fleet.to_string())
}

/// Why a room was lost; `None`: it ended as it should.
const fn lost(reason: EndReason) -> Option<&'static str> {
    match reason {
        EndReason::ServerLost => Some("their gameserver died"),
        EndReason::HostLost => Some("their host is gone"),
        EndReason::Crashed => Some("their code panicked"),
        EndReason::NoShow
        | EndReason::Finished
        | EndReason::Empty
        | EndReason::Superseded
        | EndReason::Stopped => None,
    }
}
