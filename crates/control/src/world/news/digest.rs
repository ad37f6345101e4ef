//! Digests: how things stand, from time to time, for readers who asked for it.
//!
//! Never sooner than its time after the last one, whoever leads meanwhile: when it was made is stored with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use greenroom_core::{FleetName, Timestamp};
use greenroom_wire::api::AuditAction;
use greenroom_wire::record::{NewsEntry, NewsEvent};

use super::compose::clock;
use super::{Draft, Newsroom, put};
use crate::world::state::FleetState;
use crate::world::views::ready;
use crate::world::{Effect, World};

/// Fleets that are told of one by one.
const FLEETS_MAX: usize = 20;
/// Things that are wrong and named.
const CONCERNS_MAX: usize = 10;

impl World {
    pub(super) fn tell_digests(&mut self) {
        let now = self.now;
        for at in self.news.digests_due(now) {
            let reader = &self.news.readers[at];
            let since = Timestamp::from_unix_ms(reader.mark.digest_at_ms);
            let text = self.digest(since, &reader.misses);
            let misses = self.fleets.iter().map(|(name, fleet)| (name.clone(), fleet.misses)).collect();
            self.news.digested(at, now, text, misses, &mut self.out);
        }
    }

    /// How things stand, and what happened since.
    fn digest(&self, since: Timestamp, misses: &BTreeMap<FleetName, u64>) -> String {
        let hosts = self.hosts.values().filter(|host| host.connected).count();
        let mut text = format!(
            "digest: {} fleets, {} gameservers, {} rooms, {hosts} of {} hosts connected, {} results not delivered",
            self.fleets.len(),
            self.servers.len(),
            self.rooms.len(),
            self.hosts.len(),
            self.results.len(),
        );
        for (name, fleet) in self.fleets.iter().take(FLEETS_MAX) {
            self.write_fleet(&mut text, name, fleet, since, misses.get(name).copied().unwrap_or(0));
        }
        if self.fleets.len() > FLEETS_MAX {
            let _infallible = write!(text, "\nand {} fleets more", self.fleets.len() - FLEETS_MAX);
        }
        for concern in self.news.concerns.values().take(CONCERNS_MAX) {
            let _infallible = write!(text, "\nsince {}: {}", clock(concern.since_ms), concern.text);
        }
        text
    }

    fn write_fleet(
        &self,
        text: &mut String,
        name: &FleetName,
        fleet: &FleetState,
        since: Timestamp,
        misses: u64,
    ) {
        let busy = fleet.view.iter().filter(|server| server.is_busy()).count();
        let players: u64 = if fleet.is_mesh() {
            fleet.view.iter().map(|server| u64::from(server.connections)).sum()
        } else {
            u64::try_from(fleet.players).unwrap_or(u64::MAX)
        };
        let _infallible = write!(
            text,
            "\nfleet {name}: {} of {} gameservers answer, {busy} busy, {} rooms, {players} players, {} tickets wait",
            ready(fleet),
            fleet.replicas_wanted,
            fleet.rooms,
            fleet.queue.len(),
        );
        let of_fleet = format!("{name}-");
        let count = |actions: &[AuditAction]| {
            let recent = self.audit.iter().rev().take_while(|entry| entry.at_ms > since.unix_ms());
            let ours = recent.filter(|entry| actions.contains(&entry.action));
            let is_ours =
                |subject: &str| subject.strip_prefix(&of_fleet).is_some_and(|rest| !rest.contains('-'));
            ours.filter(|entry| is_ours(&entry.subject)).count()
        };
        let (started, stopped) = (count(&[AuditAction::ServerStarted]), count(&[AuditAction::ServerStopped]));
        let lost = count(&[AuditAction::ServerDied, AuditAction::ServerGone]);
        let missed = fleet.misses - misses.min(fleet.misses);
        let _infallible = write!(
            text,
            "; since {}: {started} started, {stopped} stopped, {lost} died or vanished, {missed} calls found no place",
            clock(since.unix_ms()),
        );
        if missed > 0 && self.started_at > since {
            let began = clock(self.started_at.unix_ms());
            let _infallible = write!(text, " (counted since {began})");
        }
    }
}

impl Newsroom {
    /// Places of the readers whose digest is due.
    fn digests_due(&self, now: Timestamp) -> Vec<usize> {
        let is_due = |reader: &super::Reader| {
            let last = Timestamp::from_unix_ms(reader.mark.digest_at_ms);
            reader.wants.digest_every.is_some_and(|every| now.since(last) >= every)
        };
        (0..self.readers.len()).filter(|at| is_due(&self.readers[*at])).collect()
    }

    fn digested(
        &mut self,
        at: usize,
        now: Timestamp,
        text: String,
        misses: BTreeMap<FleetName, u64>,
        out: &mut Vec<Effect>,
    ) {
        let Some(reader) = self.readers.get_mut(at) else { return };
        reader.mark.digest_at_ms = now.unix_ms();
        reader.misses = misses;
        put(NewsEntry::Reader(reader.mark.clone()), out);
        let to = Some(reader.wants.name.clone());
        self.publish(now, NewsEvent::Digest, Draft { text, to, ..Draft::default() }, out);
    }
}
