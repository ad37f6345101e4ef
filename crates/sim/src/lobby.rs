//! A lobby that files tickets, waits for assignments and acknowledges them, and files again after control has died.
//!
//! Never seats anybody: who was assigned is on the way like any other player.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_control::world::{Answer, Call, Refusal, RequestId, TicketGrant};
use greenroom_core::TicketId;
use greenroom_wire::Text;
use greenroom_wire::api::{AssignmentsRequest, TicketBody, TicketsRequest};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::callers::{LATE_MS_MAX, fingerprint};
use crate::invariant::Broken;
use crate::scenario::{Scenario, happens};

/// Who files.
const OWNER: &str = "lobby";
/// How long a call for assignments waits.
const POLL_MS: u64 = 3_000;

/// A call of the lobby that is not answered yet.
#[derive(Debug)]
enum Asked {
    Filing,
    Poll,
    Cancel(TicketId),
}

#[derive(Debug)]
struct Pending {
    asked_ms: u64,
    asked: Asked,
}

/// The lobby.
#[derive(Debug, Default)]
pub(crate) struct Lobby {
    /// Tickets that wait, as they were filed.
    open: BTreeMap<TicketId, TicketBody>,
    /// What each assigned ticket was told.
    told: BTreeMap<TicketId, String>,
    unacknowledged: BTreeSet<TicketId>,
    pending: BTreeMap<RequestId, Pending>,
    refile: bool,
    number: u64,
}

impl Lobby {
    /// What the lobby calls in this step.
    pub(crate) fn calls(&mut self, scenario: &Scenario, trouble: bool, rng: &mut ChaCha8Rng) -> Vec<Call> {
        let mut calls = Vec::new();
        let fleet = || "arena".parse().expect("the names here are valid");
        let mut tickets = Vec::new();
        if std::mem::take(&mut self.refile) {
            tickets.extend(self.open.values().cloned());
        }
        if trouble && happens(rng, scenario.step_ms, 1_000_000 / scenario.tickets_per_1000_s.max(1)) {
            self.number += 1;
            let party = rng.random_range(1..=2_u64);
            let player = |at| format!("m{}-{at}", self.number).parse().expect("visible ASCII");
            let id = format!("t-{}", self.number).parse().expect("a word and a number make an id");
            let body = TicketBody::new(id, (0..party).map(player));
            self.open.insert(body.id.0.clone(), body.clone());
            tickets.push(body);
        }
        if !tickets.is_empty() {
            let body = TicketsRequest { owner: OWNER.to_owned(), tickets };
            calls.push(Call::FileTickets { fleet: fleet(), body });
        }
        if !trouble && happens(rng, scenario.step_ms, 500) {
            calls.extend(self.open.keys().next().cloned().map(Call::CancelTicket));
        }
        let polls = self.pending.values().any(|pending| matches!(pending.asked, Asked::Poll));
        if !polls && (trouble || !self.open.is_empty() || !self.unacknowledged.is_empty()) {
            let ack = self.unacknowledged.iter().cloned().map(Text).collect();
            let wait_ms = Some(if trouble { POLL_MS } else { 0 });
            calls.push(Call::Assignments(AssignmentsRequest { owner: OWNER.to_owned(), ack, wait_ms }));
        }
        calls
    }

    /// Remembers a call that is being made.
    pub(crate) fn asked(&mut self, now_ms: u64, request: RequestId, call: &Call) {
        let asked = if let Call::Assignments(body) = call {
            // Told once, they are not told again; an answer that is lost with its process changes nothing.
            self.unacknowledged.retain(|ticket| !body.ack.iter().any(|ack| ack.0 == *ticket));
            Asked::Poll
        } else if let Call::CancelTicket(ticket) = call {
            Asked::Cancel(ticket.clone())
        } else {
            Asked::Filing
        };
        self.pending.insert(request, Pending { asked_ms: now_ms, asked });
    }

    /// Takes an answer in; who was assigned comes back. `None`: it was not the lobby that asked.
    pub(crate) fn answered(
        &mut self,
        request: RequestId,
        answer: &Result<Answer, Refusal>,
        lost: &BTreeSet<String>,
    ) -> Option<Result<Vec<TicketGrant>, Broken>> {
        let Pending { asked, .. } = self.pending.remove(&request)?;
        let assigned = match (answer, asked) {
            (Ok(Answer::Assignments { assignments, .. }), _) => assignments.clone(),
            (Ok(Answer::Cancelled(None)), Asked::Cancel(ticket)) => {
                self.open.remove(&ticket);
                Vec::new()
            }
            (Ok(Answer::Cancelled(Some(grant))), _) => vec![(**grant).clone()],
            (Ok(Answer::Tickets(answer)), _) => {
                for refused in &answer.refused {
                    self.open.remove(&refused.id.0);
                }
                Vec::new()
            }
            // A ticket that control lost with its process is filed again, or was assigned long ago.
            (Err(_), Asked::Cancel(ticket)) => {
                self.open.remove(&ticket);
                Vec::new()
            }
            (Ok(_) | Err(_), _) => Vec::new(),
        };
        Some(assigned.into_iter().filter_map(|grant| self.assigned(grant, lost).transpose()).collect())
    }

    /// One assignment; `None` when it was told before.
    fn assigned(
        &mut self,
        grant: TicketGrant,
        lost: &BTreeSet<String>,
    ) -> Result<Option<TicketGrant>, Broken> {
        let text = fingerprint(&grant.grant);
        if lost.contains(&format!("ticket:{}", grant.ticket)) {
            self.told.remove(&grant.ticket);
        }
        self.open.remove(&grant.ticket);
        self.unacknowledged.insert(grant.ticket.clone());
        match self.told.get(&grant.ticket) {
            None => {
                self.told.insert(grant.ticket.clone(), text);
                Ok(Some(grant))
            }
            Some(first) if *first == text => Ok(None),
            Some(first) => {
                let (key, first) = (grant.ticket.to_string(), first.clone());
                Err(Broken::AnswerChanged { key, first, second: text })
            }
        }
    }

    /// Control has died: its queue is gone with it, and nobody will answer.
    pub(crate) fn hang_up(&mut self) {
        self.pending.clear();
        self.refile = true;
        // Whether the last acknowledgements were heard is not known.
        self.unacknowledged.extend(self.told.keys().cloned());
    }

    /// Whether a call is overdue; an error when nothing was wrong with the control plane since `troubled_ms`.
    pub(crate) fn is_overdue(&self, now_ms: u64, troubled_ms: u64) -> Result<bool, Broken> {
        for (request, Pending { asked_ms, .. }) in &self.pending {
            let late_ms = now_ms.saturating_sub(asked_ms + POLL_MS);
            if late_ms > LATE_MS_MAX {
                if troubled_ms < *asked_ms {
                    return Err(Broken::Unanswered { request: request.0, late_ms });
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether this call is the lobby's.
    pub(crate) fn has_asked(&self, request: RequestId) -> bool {
        self.pending.contains_key(&request)
    }

    /// Its open calls, which it gives up when a control process is gone.
    pub(crate) fn open_calls(&self) -> Vec<RequestId> {
        self.pending.keys().copied().collect()
    }

    /// Tickets and calls still under way.
    pub(crate) fn under_way(&self) -> usize {
        self.open.len() + self.pending.len() + self.unacknowledged.len()
    }
}
