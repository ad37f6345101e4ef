//! The audit trail: every change that somebody made and every start and stop of a server, stored and bounded.
//!
//! Never decides and never changes anything else. Rooms and seats that are handed out are not in it: they have records
//! of their own, and a second of them would push out a month of the rest.

use std::fmt;
use std::sync::Arc;

use greenroom_core::ServerName;
use greenroom_wire::api::{AuditAction, AuditEntry, AuditList};
use greenroom_wire::record::AuditRecord;

use super::{World, Write};

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The bearer of a token.
    Token(Arc<str>),
    /// Somebody on this machine: no tokens are configured.
    Anonymous,
    /// The control plane, to have as many healthy servers as it should.
    Autoscaler,
    /// The agent, which no longer has it.
    Agent,
    /// A number that is watched.
    Trigger,
    /// The process itself: it ended and nobody had told it to.
    Process,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(name) => write!(f, "token {name}"),
            Self::Anonymous => f.write_str("anonymous"),
            Self::Autoscaler => f.write_str("autoscaler"),
            Self::Agent => f.write_str("agent"),
            Self::Trigger => f.write_str("trigger"),
            Self::Process => f.write_str("process"),
        }
    }
}

impl World {
    /// Puts one entry at the end, and lets the oldest go when there are too many.
    pub(super) fn audit(
        &mut self,
        who: &Actor,
        action: AuditAction,
        subject: impl fmt::Display,
        reason: impl Into<String>,
        busy: bool,
    ) {
        let number = self.audit.back().map_or(1, |last| last.number + 1);
        let entry = AuditEntry {
            number,
            at_ms: self.now.unix_ms(),
            who: who.to_string(),
            action,
            subject: subject.to_string(),
            reason: reason.into(),
            busy,
        };
        self.write(Write::PutAudit(AuditRecord { version: 1, entry: entry.clone() }));
        self.note_stop(&entry);
        self.publish_entry(&entry);
        self.audit.push_back(entry);
        while self.audit.len() > self.config.bounds.audit_max {
            if let Some(oldest) = self.audit.pop_front() {
                // A stop is forgotten with its own entry, not with that of the server's start.
                if oldest.action == AuditAction::ServerStopped {
                    self.told_to_stop.remove(&oldest.subject);
                }
                self.write(Write::DeleteAudit(oldest.number));
            }
        }
    }

    /// What was stored, oldest first. More than the bound is let go with the next entry.
    pub(super) fn restore_audit(&mut self, mut records: Vec<AuditRecord>) {
        records.sort_by_key(|record| record.entry.number);
        for record in records {
            self.note_stop(&record.entry);
            self.audit.push_back(record.entry);
        }
    }

    fn note_stop(&mut self, entry: &AuditEntry) {
        if entry.action == AuditAction::ServerStopped {
            self.told_to_stop.insert(entry.subject.clone());
        }
    }

    /// The newest `limit` entries below `before`.
    pub(super) fn audit_list(&self, before: Option<u64>, limit: usize) -> AuditList {
        let older = |entry: &&AuditEntry| before.is_none_or(|before| entry.number < before);
        let mut found = self.audit.iter().rev().filter(older);
        let entries: Vec<AuditEntry> = found.by_ref().take(limit).cloned().collect();
        let more = found.next().is_some();
        let before = entries.last().filter(|_| more).map(|last| last.number);
        AuditList { entries, before }
    }

    /// Whether somebody is on a server, or was promised a place on it.
    pub(super) fn is_occupied(&self, name: &ServerName) -> bool {
        self.rooms_of.contains_key(name)
            || self
                .servers
                .get(name)
                .is_some_and(|server| server.held || server.connections > 0 || server.in_flight > 0)
    }
}
