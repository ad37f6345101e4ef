//! Tickets: who waits for a match, who was matched, and why one still waits.
//!
//! Never stored: tickets that wait are filed again by their owners.

use std::collections::BTreeMap;

use greenroom_core::{FleetName, PlayerId, RoomId, TicketId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Allocation;
use crate::Text;

/// `POST /v1/fleets/{fleet}/tickets`: files tickets. Filing the same id again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketsRequest {
    /// Who will ask for the assignments: the lobby server's name, or the back end's own word.
    pub owner: String,
    /// At most 1,000.
    pub tickets: Vec<TicketBody>,
}

/// One ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketBody {
    /// Chosen by the caller, unique for ever.
    pub id: Text<TicketId>,
    /// A player, or a party that stays together.
    pub players: Vec<Text<PlayerId>>,
    /// Unix milliseconds of the first filing; a later filing with an earlier moment keeps its place. Default now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enqueued_at_ms: Option<u64>,
    /// How well they play, on the game's own scale; of a party as whoever files it reckons it. Needed where the fleet matches
    /// by rating and has no `unrated`, unless there is a keyword; elsewhere it is not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<i32>,
    /// What the fleet matches by, such as a mode: at most 16 names, values of 1 to 64 bytes without control characters. Those
    /// that it does not match by are not looked at.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// A private match: with those of the same keyword and of nobody else, whatever their ratings. 1 to 128 bytes without
    /// control characters. Whoever knows it is let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyword: Option<String>,
}

impl TicketBody {
    /// A ticket filed now, with nothing that rules could look at.
    #[must_use]
    pub fn new(id: TicketId, players: impl IntoIterator<Item = PlayerId>) -> Self {
        Self {
            id: Text(id),
            players: players.into_iter().map(Text).collect(),
            enqueued_at_ms: None,
            rating: None,
            attributes: BTreeMap::new(),
            keyword: None,
        }
    }
}

/// Answer to [`TicketsRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketsAnswer {
    /// The control process's term. When it changes, file open tickets again: the queue is not stored.
    pub term: u64,
    /// Tickets that were refused, with the reason; the others wait.
    pub refused: Vec<TicketRefused>,
}

/// A ticket that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketRefused {
    /// Which.
    pub id: Text<TicketId>,
    /// Why, for programs.
    pub code: crate::error::Code,
    /// Why, for people.
    pub message: String,
}

/// `POST /v1/assignments`: waits until a ticket of `owner` is assigned. Delivered until acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignmentsRequest {
    /// As in [`TicketsRequest`].
    pub owner: String,
    /// Tickets whose assignment or failure arrived; they are not told again.
    #[serde(default)]
    pub ack: Vec<Text<TicketId>>,
    /// How long to wait when there is nothing to tell. Default and at most 20,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// Answer to [`AssignmentsRequest`]; empty when the wait ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AssignmentsAnswer {
    /// The control process's term. When it differs from the last one seen, file open tickets again.
    pub term: u64,
    /// Tickets that play.
    pub assignments: Vec<Assignment>,
}

/// A ticket that plays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Assignment {
    /// The ticket.
    pub ticket: Text<TicketId>,
    /// Its room, with the seats of this ticket's players only.
    pub allocation: Allocation,
}

/// `DELETE /v1/tickets/{ticket}`: either it is out of the queue, or it plays already. Both are final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum TicketCancelled {
    /// It will not be matched.
    Cancelled,
    /// Too late: this is its assignment.
    AlreadyAssigned {
        /// Where it plays.
        assignment: Box<Assignment>,
    },
}

/// `GET /v1/tickets/{ticket}`: what became of a ticket, or why it still waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketStatusBody {
    /// The ticket.
    pub ticket: Text<TicketId>,
    /// The fleet it was filed for.
    pub fleet: Text<FleetName>,
    /// How it stands.
    #[serde(flatten)]
    pub status: TicketStatus,
}

/// How a ticket stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum TicketStatus {
    /// It plays. Told for as long as its assignment is kept; never with join tokens.
    Assigned {
        /// Where.
        room: Text<RoomId>,
    },
    /// It waits.
    Waiting(Box<TicketWait>),
}

/// A ticket that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketWait {
    /// Unix milliseconds of the first filing.
    pub enqueued_at_ms: u64,
    /// How long it has waited.
    pub waited_ms: u64,
    /// Players of this ticket.
    pub players: u32,
    /// Players of a full match.
    pub match_players: u32,
    /// What it is matched by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Whether it has a keyword, which is told to nobody.
    pub private: bool,
    /// Its rating, where ratings count for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<i32>,
    /// How far apart ratings may be by this ticket's own wait, where they count for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    /// Whose wait decides, where ratings count for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockWord>,
    /// Unix milliseconds when the window next widens; absent when it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widens_at_ms: Option<u64>,
    /// How wide it is then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_next: Option<u32>,
    /// Unix milliseconds when fewer players will do; absent when they never do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smaller_at_ms: Option<u64>,
    /// What keeps it waiting; absent when it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<TicketWhy>,
}

/// What keeps a ticket waiting. Counts are of the moment of the question, each other ticket at the first rule that keeps it
/// away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketWhy {
    /// Other tickets that wait in the fleet.
    pub others: u32,
    /// How many of them each rule keeps away; rules that keep nobody away are left out.
    pub rejected: Vec<TicketRejections>,
    /// Others that no rule keeps away and that have a match of their own.
    pub taken: u32,
    /// Others that no rule keeps away and that are free.
    pub candidates: u32,
    /// Players of those.
    pub candidate_players: u32,
    /// What it waits for.
    pub waits_for: WaitsForWord,
    /// Players that are missing, when it waits for players.
    pub missing_players: u32,
    /// Unix milliseconds when those who are free now are matched with it at the latest, if nobody comes or goes; absent
    /// when they never are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_at_ms: Option<u64>,
}

/// Tickets that a rule keeps away from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketRejections {
    /// Which rule.
    pub rule: RuleWord,
    /// Which attribute is not equal, for `attribute`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    /// How many.
    pub tickets: u32,
}

/// A rule of matching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleWord {
    /// One has a keyword that the other has not.
    Keyword,
    /// An attribute is not equal.
    Attribute,
    /// Together they are more than a match.
    Size,
    /// Their ratings are too far apart.
    Rating,
}

/// What a ticket waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitsForWord {
    /// It has a match, which needs a gameserver with a place.
    Place,
    /// More players.
    Players,
    /// There are enough players, but their ratings lie too far from each other.
    Spread,
    /// There are enough players, but their parties never add up to a match.
    Sizes,
}

/// Whose wait decides how far apart ratings may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClockWord {
    /// That of the ticket that waits longest.
    LongestWaiting,
    /// The shortest of all.
    Strictest,
}
