//! Draining hosts and zones: what people have taken out of use, and what follows for the servers there.
//!
//! Never stops a server by itself: a server on a drained host counts as cordoned, and the plan of its fleet replaces and stops
//! it like any other that gets nothing new.

use greenroom_core::HostName;
use greenroom_core::fleet::StopReason;
use greenroom_core::placement;
use greenroom_wire::Text;
use greenroom_wire::api::{AuditAction, DrainKind, DrainRequest, DrainStatus, DrainedHost};
use greenroom_wire::record::DrainRecord;

use super::state::{HostState, ServerState};
use super::{Actor, Notice, Refusal, World, Write};

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 200;
/// Most orders that stand at once.
const DRAINS_MAX: usize = 1_000;

impl World {
    /// Takes a person's order. It is stored before it is answered; one that stands already changes nothing.
    pub(super) fn drain(
        &mut self,
        kind: DrainKind,
        name: &str,
        body: DrainRequest,
        by: &Actor,
    ) -> Result<DrainStatus, Refusal> {
        let target = (kind, name.to_owned());
        let stands = self.drains.contains_key(&target);
        let hosts = self.hosts_of(kind, name);
        if hosts.is_empty() && !stands {
            return Err(Refusal::NothingToDrain { kind, name: name.to_owned() });
        }
        if body.reason.chars().count() > REASON_CHARS_MAX {
            return Err(Refusal::Malformed(format!("reason is longer than {REASON_CHARS_MAX} characters")));
        }
        let reason = if body.reason.is_empty() { "no reason given" } else { &body.reason };
        let busy = hosts.iter().any(|host| self.still_on(host).busy > 0);
        match (stands, body.undo) {
            (false, false) => {
                if self.drains.len() >= DRAINS_MAX {
                    return Err(Refusal::TooMany { what: "drains", max: DRAINS_MAX });
                }
                self.audit(by, AuditAction::Drained, format!("{kind} {name}"), reason, busy);
                let record = DrainRecord {
                    version: 1,
                    kind,
                    name: name.to_owned(),
                    at_ms: self.now.unix_ms(),
                    by: by.to_string(),
                    reason: body.reason,
                };
                self.write(Write::PutDrain(record.clone()));
                self.drains.insert(target, record);
                self.note(Notice::Drained { kind, name: name.to_owned() });
            }
            (true, true) => {
                self.audit(by, AuditAction::Undrained, format!("{kind} {name}"), reason, busy);
                self.drains.remove(&target);
                self.write(Write::DeleteDrain { kind, name: name.to_owned() });
                self.note(Notice::Undrained { kind, name: name.to_owned() });
            }
            (true, false) | (false, true) => {}
        }
        for host in &hosts {
            self.refresh_host(host);
        }
        self.dirty.extend(self.fleets.keys().cloned());
        let hosts = hosts.iter().map(|host| self.still_on(host)).collect();
        Ok(DrainStatus { kind, name: name.to_owned(), drained: !body.undo, hosts })
    }

    pub(super) fn restore_drains(&mut self, records: Vec<DrainRecord>) {
        self.drains =
            records.into_iter().map(|record| ((record.kind, record.name.clone()), record)).collect();
    }

    /// The order that holds for a host, if one does.
    pub(super) fn drain_of(&self, name: &HostName, host: &HostState) -> Option<&DrainRecord> {
        if self.drains.is_empty() {
            return None;
        }
        let own = self.drains.get(&(DrainKind::Host, name.to_string()));
        own.or_else(|| self.drains.get(&(DrainKind::Zone, zone(host)?.to_owned())))
    }

    /// Why nothing new is given to a server: because of itself, or of its host.
    pub(super) fn cordon_of(&self, server: &ServerState) -> Option<StopReason> {
        let host = self.hosts.get(&server.host);
        let drained = host.is_some_and(|host| self.drain_of(&server.host, host).is_some());
        if drained { Some(StopReason::HostDrained) } else { server.cordoned }
    }

    fn hosts_of(&self, kind: DrainKind, name: &str) -> Vec<HostName> {
        let is_meant = |(host, state): &(&HostName, &HostState)| match kind {
            DrainKind::Host => host.as_str() == name,
            DrainKind::Zone => zone(state) == Some(name),
        };
        self.hosts.iter().filter(is_meant).map(|(host, _)| host.clone()).collect()
    }

    fn still_on(&self, name: &HostName) -> DrainedHost {
        let servers = self.hosts.get(name).map(|host| &host.servers);
        let runs = servers.into_iter().flatten().filter(|server| self.servers.contains_key(server));
        let (busy, idle): (Vec<_>, Vec<_>) = runs.partition(|server| self.is_occupied(server));
        let count = |servers: usize| u32::try_from(servers).unwrap_or(u32::MAX);
        DrainedHost {
            host: Text(name.clone()),
            servers: count(busy.len() + idle.len()),
            busy: count(busy.len()),
        }
    }
}

/// An order in words, for people.
pub(crate) fn words(record: &DrainRecord) -> String {
    let DrainRecord { kind, name, by, reason, .. } = record;
    if reason.is_empty() {
        format!("{kind} {name}, by {by}")
    } else {
        format!("{kind} {name}, by {by}: {reason}")
    }
}

/// Hosts without the label are in no zone.
pub(super) fn zone(host: &HostState) -> Option<&str> {
    host.labels.get(placement::ZONE).map(String::as_str)
}
