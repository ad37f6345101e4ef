//! The ticket desk: a lobby server hands players in and gets their rooms back.
//!
//! Never matches: the control plane does. The desk files in batches, waits with one long poll, acknowledges, files again
//! when the control plane has restarted, and cancels what nobody waits for any more. It starts no task: the caller
//! drives [`Desk::run`], on any runtime, a single-threaded one too.

mod desk;

use std::collections::BTreeMap;

use greenroom_core::{FleetName, PlayerId, TicketId};
use greenroom_wire::api::Assignment;
use greenroom_wire::error::Code;
use tokio::sync::{mpsc, oneshot};

use crate::ControlClient;

pub use desk::Desk;

/// Tickets that may wait to be taken in by the desk.
const COMMANDS_MAX: usize = 10_000;

/// Why a player is not matched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The control plane refused the ticket; `already_assigned` when the player waits or plays already.
    #[error("{message}")]
    Refused {
        /// For programs.
        code: Code,
        /// For people.
        message: String,
    },
    /// Too many tickets are on their way to the desk. Ask the player to try again.
    #[error("too many tickets are being filed")]
    Busy,
    /// [`Desk::run`] is no longer driven.
    #[error("the ticket desk is closed")]
    Closed,
}

/// What a fleet's rules of matching look at. The default is nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TicketTraits {
    /// How well they play, on the game's own scale; of a party as the lobby reckons it. A lobby has it from its back end:
    /// what a player says of the own rating is worth nothing.
    pub rating: Option<i32>,
    /// What the fleet matches by, such as a mode.
    pub attributes: BTreeMap<String, String>,
    /// A private match: with those of the same keyword and of nobody else.
    pub keyword: Option<String>,
}

/// Hands tickets to a desk. A clone hands to the same one.
#[derive(Debug, Clone)]
pub struct TicketDesk {
    filed: mpsc::Sender<Filed>,
    /// Unbounded, because each entry ends one ticket that was taken in before.
    dropped: mpsc::UnboundedSender<TicketId>,
}

/// A ticket on its way to the desk.
#[derive(Debug)]
struct Filed {
    id: TicketId,
    players: Vec<PlayerId>,
    traits: TicketTraits,
    assigned: oneshot::Sender<Result<Assignment, TicketError>>,
}

/// A desk for tickets into `fleet`. `owner` tells this desk from others: use the server's instance id. The second value
/// must be driven.
#[must_use]
pub fn open(control: ControlClient, fleet: FleetName, owner: String) -> (TicketDesk, Desk) {
    let (filed, commands) = mpsc::channel(COMMANDS_MAX);
    let (dropped, drops) = mpsc::unbounded_channel();
    (TicketDesk { filed, dropped }, Desk::new(control, fleet, owner, commands, drops))
}

impl TicketDesk {
    /// Files a ticket for a player, or a party that stays together. `id` must be unique for ever; filing it twice gives
    /// both callers nothing but confusion.
    ///
    /// # Errors
    /// When the desk is overrun or closed.
    pub fn file(&self, id: TicketId, players: Vec<PlayerId>) -> Result<FiledTicket, TicketError> {
        self.file_with(id, players, TicketTraits::default())
    }

    /// The same for a fleet that matches by more than who came first. A control plane from before there were such rules refuses
    /// tickets with traits: upgrade it first.
    ///
    /// # Errors
    /// When the desk is overrun or closed. Traits that the fleet refuses are told by [`FiledTicket::assigned`].
    pub fn file_with(
        &self,
        id: TicketId,
        players: Vec<PlayerId>,
        traits: TicketTraits,
    ) -> Result<FiledTicket, TicketError> {
        let (assigned, assignment) = oneshot::channel();
        let filed = Filed { id: id.clone(), players, traits, assigned };
        self.filed.try_send(filed).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => TicketError::Busy,
            mpsc::error::TrySendError::Closed(_) => TicketError::Closed,
        })?;
        Ok(FiledTicket { id, assignment, dropped: self.dropped.clone(), is_over: false })
    }
}

/// A ticket that waits. Dropping it before it is assigned cancels it.
#[derive(Debug)]
pub struct FiledTicket {
    id: TicketId,
    assignment: oneshot::Receiver<Result<Assignment, TicketError>>,
    dropped: mpsc::UnboundedSender<TicketId>,
    is_over: bool,
}

impl FiledTicket {
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &TicketId {
        &self.id
    }

    /// Waits for the room. May be dropped and called again; after it has answered once it answers `Closed`.
    ///
    /// # Errors
    /// When the ticket is refused or the desk is closed.
    pub async fn assigned(&mut self) -> Result<Assignment, TicketError> {
        if self.is_over {
            return Err(TicketError::Closed);
        }
        let answer = (&mut self.assignment).await;
        self.is_over = true;
        answer.unwrap_or(Err(TicketError::Closed))
    }
}

impl Drop for FiledTicket {
    fn drop(&mut self) {
        if !self.is_over {
            // A closed desk has nothing left to cancel.
            drop(self.dropped.send(self.id.clone()));
        }
    }
}
