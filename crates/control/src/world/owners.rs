//! Owners of tickets: who is heard, and who is gone.
//!
//! Never matches and never answers: tickets of somebody who is gone leave the queue, because their players would be matched and not
//! come, and could file no other ticket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_core::{TicketId, Timestamp};

use super::World;

/// All owners that were heard lately. What it costs to look for silent ones grows with their number, not with that of all.
#[derive(Debug, Default)]
pub(super) struct Owners {
    known: BTreeMap<String, Owner>,
    /// When each is looked at next; whoever was heard meanwhile is put off.
    looks: BTreeSet<(Timestamp, String)>,
}

#[derive(Debug)]
struct Owner {
    heard_at: Timestamp,
    /// Those that wait.
    tickets: BTreeSet<TicketId>,
}

impl Owners {
    /// An owner files or asks.
    fn heard(&mut self, owner: &str, now: Timestamp) {
        if let Some(known) = self.known.get_mut(owner) {
            known.heard_at = now;
            return;
        }
        self.known.insert(owner.to_owned(), Owner { heard_at: now, tickets: BTreeSet::new() });
        self.looks.insert((now, owner.to_owned()));
    }

    /// A ticket of an owner that was just heard waits.
    pub(super) fn waits(&mut self, owner: &str, ticket: &TicketId) {
        if let Some(owner) = self.known.get_mut(owner) {
            owner.tickets.insert(ticket.clone());
        }
    }

    /// A ticket waits no more.
    pub(super) fn is_over(&mut self, owner: &str, ticket: &TicketId) {
        if let Some(owner) = self.known.get_mut(owner) {
            owner.tickets.remove(ticket);
        }
    }

    /// Forgets who has been silent for so long and has no call waiting; gives their waiting tickets.
    fn gone(&mut self, now: Timestamp, silence: Duration, polls: impl Fn(&str) -> bool) -> Vec<TicketId> {
        let mut tickets = Vec::new();
        while let Some((since, _)) = self.looks.first()
            && now.since(*since) >= silence
        {
            let Some((_, name)) = self.looks.pop_first() else { break };
            let Some(owner) = self.known.get(&name) else { continue };
            if polls(&name) {
                self.looks.insert((now, name));
            } else if now.since(owner.heard_at) < silence {
                self.looks.insert((owner.heard_at, name));
            } else if let Some(owner) = self.known.remove(&name) {
                tickets.extend(owner.tickets);
            }
        }
        tickets
    }
}

impl World {
    /// Whoever files or asks is there, and whoever asked and waited until now.
    pub(super) fn hear_owner(&mut self, owner: &str) {
        self.owners.heard(owner, self.now);
    }

    /// Drops the waiting tickets of owners that are gone.
    pub(super) fn forget_owners(&mut self) {
        let outboxes = &self.outboxes;
        let polls = |owner: &str| outboxes.get(owner).is_some_and(|outbox| !outbox.polls.is_empty());
        for ticket in self.owners.gone(self.now, self.config.timings.ticket_owner_silence, polls) {
            self.drop_ticket(&ticket);
        }
    }
}
