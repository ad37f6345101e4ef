//! The desk's loop: what is filed, what waits, what was told.
//!
//! Never has more than one filing and one long poll under way; cancels a few at a time.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use greenroom_core::{FleetName, PlayerId, TicketId};
use greenroom_wire::Text;
use greenroom_wire::api::{
    AssignmentsAnswer, AssignmentsRequest, TicketBody, TicketCancelled, TicketsAnswer, TicketsRequest,
};
use greenroom_wire::error::Code;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::{Assignment, Filed, TicketError, TicketTraits};
use crate::{ClientError, ControlClient};

/// Tickets in one call.
const BATCH_MAX: usize = 500;
/// Acknowledgements in one call.
const ACKS_MAX: usize = 5_000;
/// Cancels at the same time.
const CANCELS_MAX: usize = 8;
/// Pause after the first failure; doubled up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

type Under<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type FilingOutcome = (Vec<TicketId>, Result<TicketsAnswer, ClientError>);
type PollOutcome = (Vec<TicketId>, Result<AssignmentsAnswer, ClientError>);
type CancelOutcome = (TicketId, Result<TicketCancelled, ClientError>);

/// The desk itself. Does nothing unless [`Desk::run`] is driven.
pub struct Desk {
    control: ControlClient,
    fleet: FleetName,
    owner: String,
    commands: mpsc::Receiver<Filed>,
    drops: mpsc::UnboundedReceiver<TicketId>,
    open: BTreeMap<TicketId, Open>,
    to_file: VecDeque<TicketId>,
    to_cancel: VecDeque<TicketId>,
    to_ack: Vec<TicketId>,
    term: Option<u64>,
    filing: Option<Under<FilingOutcome>>,
    poll: Option<Under<PollOutcome>>,
    cancels: FuturesUnordered<Under<CancelOutcome>>,
    failures: u32,
    /// No call begins before this moment.
    resume_at: Instant,
}

struct Open {
    players: Vec<PlayerId>,
    traits: TicketTraits,
    enqueued_at_ms: u64,
    assigned: oneshot::Sender<Result<Assignment, TicketError>>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// In `to_file`.
    Unfiled,
    /// In the call that is under way.
    Filing,
    /// The control plane has it, unless its term changed.
    Filed,
}

enum Step {
    Command(Option<Filed>),
    Dropped(TicketId),
    Filing(FilingOutcome),
    Poll(PollOutcome),
    Cancel(CancelOutcome),
    Resume,
}

impl Desk {
    pub(super) fn new(
        control: ControlClient,
        fleet: FleetName,
        owner: String,
        commands: mpsc::Receiver<Filed>,
        drops: mpsc::UnboundedReceiver<TicketId>,
    ) -> Self {
        Self {
            control,
            fleet,
            owner,
            commands,
            drops,
            open: BTreeMap::new(),
            to_file: VecDeque::new(),
            to_cancel: VecDeque::new(),
            to_ack: Vec::new(),
            term: None,
            filing: None,
            poll: None,
            cancels: FuturesUnordered::new(),
            failures: 0,
            resume_at: Instant::now(),
        }
    }

    /// Serves the tickets until every [`super::TicketDesk`] is dropped and nothing is open. Dropping it earlier leaves
    /// the tickets waiting in the control plane; who is matched then does not come and the seats free themselves.
    pub async fn run(mut self) {
        let mut is_closed = false;
        while !is_closed || !self.is_idle() {
            self.begin();
            match self.step(is_closed).await {
                Step::Command(Some(filed)) => self.take_in(filed),
                Step::Command(None) => is_closed = true,
                Step::Dropped(id) => self.dropped(id),
                Step::Filing(outcome) => self.filed(outcome),
                Step::Poll(outcome) => self.polled(outcome),
                Step::Cancel(outcome) => self.cancelled(outcome),
                Step::Resume => {}
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.open.is_empty() && self.to_cancel.is_empty() && self.cancels.is_empty() && self.to_ack.is_empty()
    }

    /// Begins the calls that are due.
    fn begin(&mut self) {
        if Instant::now() < self.resume_at {
            return;
        }
        if self.filing.is_none() && !self.to_file.is_empty() {
            self.filing = Some(self.file());
        }
        if self.poll.is_none() && (!self.open.is_empty() || !self.to_ack.is_empty()) {
            self.poll = Some(self.ask());
        }
        while self.cancels.len() < CANCELS_MAX
            && let Some(id) = self.to_cancel.pop_front()
        {
            let control = self.control.clone();
            self.cancels.push(Box::pin(async move {
                let outcome = control.cancel_ticket(&id).await;
                (id, outcome)
            }));
        }
    }

    /// Waits for the next thing to happen.
    async fn step(&mut self, is_closed: bool) -> Step {
        let pausing = Instant::now() < self.resume_at;
        tokio::select! {
            filed = self.commands.recv(), if !is_closed => Step::Command(filed),
            Some(id) = self.drops.recv() => Step::Dropped(id),
            Some(outcome) = self.cancels.next(), if !self.cancels.is_empty() => Step::Cancel(outcome),
            outcome = under(&mut self.filing) => Step::Filing(outcome),
            outcome = under(&mut self.poll) => Step::Poll(outcome),
            () = sleep_until(self.resume_at), if pausing => Step::Resume,
        }
    }

    fn take_in(&mut self, filed: Filed) {
        let open = Open {
            players: filed.players,
            traits: filed.traits,
            enqueued_at_ms: unix_ms(),
            assigned: filed.assigned,
            stage: Stage::Unfiled,
        };
        self.to_file.push_back(filed.id.clone());
        self.open.insert(filed.id, open);
    }

    fn dropped(&mut self, id: TicketId) {
        // One that is being filed is cancelled when that call is back: a cancel must not overtake it.
        match self.open.get(&id).map(|open| open.stage) {
            Some(Stage::Unfiled) => {
                self.open.remove(&id);
                // It may be at the control plane from before a change of term.
                self.to_cancel.push_back(id);
            }
            Some(Stage::Filed) => {
                self.open.remove(&id);
                self.to_cancel.push_back(id);
            }
            Some(Stage::Filing) | None => {}
        }
    }

    fn file(&mut self) -> Under<FilingOutcome> {
        let mut tickets = Vec::new();
        while tickets.len() < BATCH_MAX
            && let Some(id) = self.to_file.pop_front()
        {
            let Some(open) = self.open.get_mut(&id) else { continue };
            open.stage = Stage::Filing;
            let TicketTraits { rating, attributes, keyword } = open.traits.clone();
            tickets.push(TicketBody {
                enqueued_at_ms: Some(open.enqueued_at_ms),
                rating,
                attributes,
                keyword,
                ..TicketBody::new(id, open.players.iter().cloned())
            });
        }
        let (control, fleet, owner) = (self.control.clone(), self.fleet.clone(), self.owner.clone());
        Box::pin(async move {
            let ids = tickets.iter().map(|ticket| ticket.id.0.clone()).collect();
            if tickets.is_empty() {
                return (ids, Ok(TicketsAnswer { term: 0, refused: Vec::new() }));
            }
            let outcome = control.file_tickets(&fleet, &TicketsRequest { owner, tickets }).await;
            (ids, outcome)
        })
    }

    fn filed(&mut self, (ids, outcome): FilingOutcome) {
        if ids.is_empty() {
            return;
        }
        match outcome {
            Ok(answer) => {
                self.succeeded();
                self.observe_term(answer.term);
                for refused in answer.refused {
                    self.settle(&refused.id, Err((refused.code, refused.message)));
                }
                for id in ids {
                    self.is_filed(id);
                }
            }
            Err(error) if error.is_retryable() => {
                self.failed("filing tickets", &error);
                for id in ids {
                    if let Some(open) = self.open.get_mut(&id) {
                        open.stage = Stage::Unfiled;
                        self.to_file.push_back(id.clone());
                    }
                    self.cancel_abandoned(id);
                }
            }
            Err(error) => {
                self.failed("filing tickets", &error);
                let code = error.code().unwrap_or(Code::Internal);
                for id in ids {
                    self.settle(&id, Err((code, error.to_string())));
                }
            }
        }
    }

    fn is_filed(&mut self, id: TicketId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.stage = Stage::Filed;
        }
        self.cancel_abandoned(id);
    }

    /// Cancels a ticket whose waiter went away while it was being filed.
    fn cancel_abandoned(&mut self, id: TicketId) {
        if self.open.get(&id).is_some_and(|open| open.assigned.is_closed()) {
            self.open.remove(&id);
            self.to_cancel.push_back(id);
        }
    }

    fn ask(&mut self) -> Under<PollOutcome> {
        let acked: Vec<TicketId> = self.to_ack.drain(..self.to_ack.len().min(ACKS_MAX)).collect();
        let control = self.control.clone();
        // After a failure the control plane may be another process with an empty queue: its term is asked for at once.
        let at_once = self.open.is_empty() || self.failures > 0;
        let wait_ms = at_once.then_some(0);
        let ack = acked.iter().cloned().map(Text).collect();
        let body = AssignmentsRequest { owner: self.owner.clone(), ack, wait_ms };
        Box::pin(async move {
            let outcome = control.assignments(&body).await;
            (acked, outcome)
        })
    }

    fn polled(&mut self, (acked, outcome): PollOutcome) {
        match outcome {
            Ok(answer) => {
                self.succeeded();
                self.observe_term(answer.term);
                for assignment in answer.assignments {
                    // Acknowledged even when nobody waits for it any more: it must not be told for ever.
                    self.to_ack.push(assignment.ticket.0.clone());
                    let id = assignment.ticket.0.clone();
                    self.settle(&id, Ok(assignment));
                }
            }
            Err(error) => {
                self.to_ack.extend(acked);
                self.failed("waiting for assignments", &error);
            }
        }
    }

    fn cancelled(&mut self, (id, outcome): CancelOutcome) {
        match outcome {
            Ok(TicketCancelled::Cancelled) => {}
            Ok(TicketCancelled::AlreadyAssigned { .. }) => self.to_ack.push(id),
            Err(error) if error.is_retryable() => {
                self.failed("cancelling a ticket", &error);
                self.to_cancel.push_back(id);
            }
            // It was gone already, or this can never work; either way there is nothing left to cancel.
            Err(error) => debug!(ticket = %id, error = %error, "cancel refused"),
        }
    }

    fn settle(&mut self, id: &TicketId, outcome: Result<Assignment, (Code, String)>) {
        if let Some(open) = self.open.remove(id) {
            let outcome = outcome.map_err(|(code, message)| TicketError::Refused { code, message });
            // Whoever waited may have gone in this moment; the seats then free themselves.
            drop(open.assigned.send(outcome));
        }
    }

    /// A control plane that restarted has no queue: all open tickets are filed again, with their first moment.
    fn observe_term(&mut self, term: u64) {
        let before = self.term.replace(term);
        if before.is_none_or(|before| before == term) {
            return;
        }
        for (id, open) in &mut self.open {
            if open.stage == Stage::Filed {
                open.stage = Stage::Unfiled;
                self.to_file.push_back(id.clone());
            }
        }
    }

    const fn succeeded(&mut self) {
        self.failures = 0;
    }

    fn failed(&mut self, what: &'static str, error: &ClientError) {
        if self.failures == 0 {
            warn!(what, error = %error, "the control plane does not answer; the desk tries again");
        }
        self.failures = self.failures.saturating_add(1);
        let whole = PAUSE_MIN.saturating_mul(1 << (self.failures - 1).min(6)).min(PAUSE_MAX);
        self.resume_at = Instant::now() + whole / 2 + jitter(whole / 2);
    }
}

/// The call under way; never, when there is none.
async fn under<T>(call: &mut Option<Under<T>>) -> T {
    match call {
        Some(running) => {
            let outcome = running.await;
            *call = None;
            outcome
        }
        None => std::future::pending().await,
    }
}

/// Something between nothing and `most`.
fn jitter(most: Duration) -> Duration {
    let mut random = [0u8; 4];
    // Without randomness there is no jitter: less spread, no harm.
    match getrandom::fill(&mut random) {
        Ok(()) => most * (u32::from_le_bytes(random) % 512) / 512,
        Err(_) => most,
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
