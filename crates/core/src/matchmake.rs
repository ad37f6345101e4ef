//! Which Tickets play together.
//!
//! Never allocates: a match is a proposal until the control plane has reserved all its seats or none.
//!
//! Tickets are parted into buckets: the same keyword, and the same values of the attributes that the rules name. Nobody is
//! matched across buckets. Within one, tickets are anchors in the order in which they came, the longest-waiting first; each
//! anchor gets a full match out of those that nobody has taken yet, or none.
//!
//! - `queue`: buckets without a rating, private ones among them. First come, first served.
//! - `rated`: the others. Of all matches that the anchor may be in, the one whose ratings lie closest together.
//! - `explain`: why one ticket still waits.
//!
//! An anchor is given up only when it can be in no match at all with those that are left; and a match never makes another one
//! possible. So when all anchors are done, no match is left behind, whatever the order in which tickets came.

mod explain;
mod plan;
mod queue;
mod rated;
mod rules;
mod sums;

pub use explain::{Explanation, Rejected, Rejection, WaitsFor, explain};
pub use plan::plan;
pub use rules::{Clock, RatingRule, Rules, Smaller};

use smol_str::SmolStr;

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
    /// How well they play, on the game's own scale. Of a party as whoever files it reckons it: it counts as one. Looked at
    /// only where the rules say so.
    pub rating: i32,
    /// Who names one plays with those who name the same, whatever their rating.
    pub keyword: Option<SmolStr>,
    /// The values of the attributes that [`Rules::by`] names, in its order.
    pub values: Vec<SmolStr>,
}

/// Tickets that play together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The tickets, oldest first.
    pub tickets: Vec<TicketId>,
}

/// How much one call of [`plan()`] may do, besides sorting the tickets once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most matches.
    pub matches_max: usize,
    /// Looks at a ticket, or at a sum of party sizes, after which no further anchor is begun.
    pub work_max: u64,
}

/// Where a call stopped at a limit, and the next one goes on. A round of such calls tries each ticket once that was there
/// when it began, so that those that cannot be matched never keep the others from their turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// When the round began: later tickets are tried in the next one.
    began_at: Timestamp,
    /// Whether full matches were through.
    is_smaller: bool,
    /// The window of the pass it stopped in; none where windows are each ticket's own.
    width: Option<u32>,
    /// The last anchor that was tried.
    after: (Timestamp, TicketId),
}

/// What [`plan()`] came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Plan {
    /// The matches, that of the longest-waiting anchor first.
    pub matches: Vec<Match>,
    /// Set when a limit ended the call before all tickets had their turn: hand it to the next call.
    pub resume: Option<Resume>,
    /// When time alone would change this plan: a window widens, or patience is up.
    pub wake_at: Option<Timestamp>,
    /// What the anchors cost, in the unit of [`Limits::work_max`].
    pub work: u64,
}
