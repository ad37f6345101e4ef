//! Assignments: telling the owners of tickets who plays, until they say that they heard.
//!
//! Never matches: that is `tickets`.

use std::collections::BTreeSet;
use std::time::Duration;

use greenroom_core::TicketId;
use greenroom_wire::api::AssignmentsRequest;

use super::tickets::{check_owner, ticket_key};
use super::{Answer, Refusal, RequestId, TicketGrant, World, Write};

/// Acknowledgements in one call.
const ACKS_MAX: usize = 5_000;

impl World {
    pub(super) fn ask_assignments(&mut self, request: RequestId, body: AssignmentsRequest) {
        let wait = match self.check_assignments(&body) {
            Ok(wait) => wait,
            Err(refusal) => return self.reply(request, Err(refusal)),
        };
        self.hear_owner(&body.owner);
        for ticket in &body.ack {
            self.acknowledge(&body.owner, &ticket.0);
        }
        let unread = self.outboxes.get(&body.owner).is_some_and(|outbox| !outbox.unread.is_empty());
        if unread || wait.is_zero() {
            let answer = self.assignments(&body.owner);
            return self.reply(request, Ok(answer));
        }
        if let Err(refusal) = self.check_waiting(self.polls.len()) {
            return self.reply(request, Err(refusal));
        }
        let deadline = self.now + wait;
        self.polls.insert(request, body.owner.clone());
        self.outboxes.entry(body.owner).or_default().polls.insert(request, deadline);
    }

    fn check_assignments(&self, body: &AssignmentsRequest) -> Result<Duration, Refusal> {
        check_owner(&body.owner)?;
        let longest = self.config.timings.assignments_wait_max;
        let wait = body.wait_ms.map_or(longest, Duration::from_millis);
        if wait > longest {
            return Err(Refusal::Malformed(format!("wait_ms must be at most {}", longest.as_millis())));
        }
        if body.ack.len() > ACKS_MAX {
            return Err(Refusal::Malformed(format!("ack may name at most {ACKS_MAX} tickets")));
        }
        Ok(wait)
    }

    fn acknowledge(&mut self, owner: &str, ticket: &TicketId) {
        if !self.forget_unread(owner, ticket) {
            return;
        }
        let key = ticket_key(ticket);
        if let Some(record) = self.answers.get_mut(&key) {
            record.owner = None;
            let record = record.clone();
            self.write(Write::PutAnswer { key, record });
        }
    }

    /// Takes a ticket out of what its owner has not heard; whether it was there.
    pub(super) fn forget_unread(&mut self, owner: &str, ticket: &TicketId) -> bool {
        let Some(outbox) = self.outboxes.get_mut(owner) else { return false };
        let was = outbox.unread.remove(ticket);
        if outbox.is_idle() {
            self.outboxes.remove(owner);
        }
        was
    }

    pub(super) fn unread(&mut self, owner: &str, ticket: &TicketId) {
        self.outboxes.entry(owner.to_owned()).or_default().unread.insert(ticket.clone());
    }

    /// An assigned ticket was filed again: whoever filed it does not know.
    pub(super) fn tell_again(&mut self, ticket: &TicketId, owner: &str) {
        let key = ticket_key(ticket);
        let Some(record) = self.answers.get_mut(&key) else { return };
        let before = record.owner.replace(owner.to_owned());
        let record = record.clone();
        self.write(Write::PutAnswer { key, record });
        if let Some(before) = before.filter(|before| before != owner) {
            self.forget_unread(&before, ticket);
        }
        self.unread(owner, ticket);
    }

    /// Answers all waiting calls of an owner, if there is something to tell. All of them, because some may be dead.
    pub(super) fn tell_owner(&mut self, owner: &str) {
        let Some(outbox) = self.outboxes.get_mut(owner) else { return };
        if outbox.unread.is_empty() {
            return;
        }
        let polls = std::mem::take(&mut outbox.polls);
        for request in polls.into_keys() {
            self.polls.remove(&request);
            let answer = self.assignments(owner);
            self.reply(request, Ok(answer));
        }
    }

    fn assignments(&self, owner: &str) -> Answer {
        let unread = self.outboxes.get(owner).map(|outbox| &outbox.unread);
        let assignments = unread
            .into_iter()
            .flatten()
            .take(self.config.bounds.assignments_per_answer_max)
            .filter_map(|ticket| {
                let record = self.answers.get(&ticket_key(ticket))?.clone();
                Some(TicketGrant { ticket: ticket.clone(), grant: self.grant_again(record) })
            })
            .collect();
        Answer::Assignments { term: self.config.term, assignments }
    }

    pub(super) fn forget_poll(&mut self, request: RequestId) {
        let Some(owner) = self.polls.remove(&request) else { return };
        self.hear_owner(&owner);
        if let Some(outbox) = self.outboxes.get_mut(&owner) {
            outbox.polls.remove(&request);
            if outbox.is_idle() {
                self.outboxes.remove(&owner);
            }
        }
    }

    pub(super) fn forget_polls(&mut self) {
        let now = self.now;
        let over: BTreeSet<RequestId> = self
            .outboxes
            .values()
            .flat_map(|outbox| outbox.polls.iter())
            .filter(|(_, deadline)| **deadline <= now)
            .map(|(request, _)| *request)
            .collect();
        for request in over {
            self.forget_poll(request);
            let term = self.config.term;
            self.reply(request, Ok(Answer::Assignments { term, assignments: Vec::new() }));
        }
    }
}
