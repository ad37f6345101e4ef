//! Which Tickets play together.
//!
//! Never allocates: a match is a proposal until the control plane has reserved all its seats or none.

use crate::{PlayerId, TicketId, Timestamp};

/// A player, or a party that must not be parted, waiting for a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its id.
    pub id: TicketId,
    /// Who plays. At least one; all of them in the same match or none.
    pub players: Vec<PlayerId>,
    /// When it was first filed. Kept when it is filed again.
    pub enqueued_at: Timestamp,
}

/// Tickets that play together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The tickets, oldest first.
    pub tickets: Vec<TicketId>,
}
