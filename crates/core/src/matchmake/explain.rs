//! Why one ticket still waits.
//!
//! Never decides anything: it asks the rules the same questions as `plan` does.

use smol_str::SmolStr;

use super::plan::Pool;
use super::{Clock, Limits, RatingRule, Rules, Ticket};
use crate::{TicketId, Timestamp};

/// Why a ticket waits, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Other tickets that wait in the fleet.
    pub others: u32,
    /// How many of them each rule keeps from it, in the order in which rules are asked; those that keep nobody are left out.
    pub rejected: Vec<Rejected>,
    /// Others that no rule keeps from it, and that play with somebody else as soon as there is a place.
    pub taken: u32,
    /// Others that no rule keeps from it, and that are free.
    pub candidates: u32,
    /// Players of those.
    pub candidate_players: u32,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// When those who are free now make a full match with it at the latest, if nobody comes or goes. `None`: they never do.
    pub match_at: Option<Timestamp>,
}

/// Tickets that a rule keeps away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Which rule.
    pub rule: Rejection,
    /// How many.
    pub tickets: u32,
}

/// A rule that keeps two tickets apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// One names a keyword that the other does not.
    Keyword,
    /// An attribute is not equal.
    Attribute(SmolStr),
    /// Together they are more than a match.
    Size,
    /// Their ratings are further apart than allowed now.
    Rating,
}

/// What a ticket waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// It has a match, which needs a gameserver with a place.
    Place,
    /// So many players more.
    Players(u32),
    /// There are enough players, but their ratings lie too far from each other.
    Spread,
    /// There are enough players, but parties of these sizes never add up to a match.
    Sizes,
}

/// Why the ticket waits; `None`: it is not among `tickets`, or is one that [`super::plan()`] leaves out.
///
/// Costs a plan of the ticket's bucket, which `work_max` bounds as [`Limits::work_max`] does. What is said of others is said of two tickets at a time: two that may play together
/// may still find no match.
#[must_use]
pub fn explain<'a>(
    tickets: impl IntoIterator<Item = &'a Ticket>,
    id: &TicketId,
    rules: &Rules,
    now: Timestamp,
    work_max: u64,
) -> Option<Explanation> {
    let fits = |ticket: &&Ticket| (1..=usize::from(rules.players)).contains(&ticket.players.len());
    let all: Vec<&Ticket> = tickets.into_iter().filter(fits).collect();
    let own = *all.iter().find(|ticket| ticket.id == *id)?;
    let others = count(&all) - 1;
    let mut counts = vec![0u32; rules.by.len() + 3];
    let mut reachable: Vec<&Ticket> = Vec::new();
    for other in all.iter().filter(|other| other.id != *id) {
        match rejection(own, other, rules, now) {
            Some(place) => counts[place] += 1,
            None => reachable.push(other),
        }
    }
    let names = rules.by.iter().cloned().map(Rejection::Attribute);
    let rejections =
        [Rejection::Keyword].into_iter().chain(names).chain([Rejection::Size, Rejection::Rating]);
    let rejected = rejections.zip(counts).filter(|(_, tickets)| *tickets > 0);
    let with_own = |other: &&Ticket| other.keyword == own.keyword && other.values == own.values;
    let bucket: Vec<&Ticket> = all.into_iter().filter(with_own).collect();
    let mut pool = Pool::new(&bucket, rules, now);
    let limits = Limits { matches_max: usize::MAX, work_max };
    let has_match = !pool.run(rules, now, limits, None).matches.is_empty() && pool.is_matched(own);
    let free: Vec<&Ticket> = reachable.iter().copied().filter(|other| !pool.is_matched(other)).collect();
    let candidate_players = count(free.iter().flat_map(|ticket| &ticket.players));
    let missing =
        u32::from(rules.players).saturating_sub(count(&own.players)).saturating_sub(candidate_players);
    let closest = if has_match { None } else { pool.closest(own, rules.players) };
    let waits_for = match (has_match, missing, &closest) {
        (true, _, _) => WaitsFor::Place,
        (false, 1.., _) => WaitsFor::Players(missing),
        (false, 0, Some(_)) => WaitsFor::Spread,
        (false, 0, None) => WaitsFor::Sizes,
    };
    let rule = rules.rating.filter(|_| own.keyword.is_none());
    Some(Explanation {
        others,
        rejected: rejected.map(|(rule, tickets)| Rejected { rule, tickets }).collect(),
        taken: count(&reachable) - count(&free),
        candidates: count(&free),
        candidate_players,
        waits_for,
        match_at: rule.zip(closest).and_then(|(rule, closest)| match_at(&rule, &closest)),
    })
}

/// The first rule that keeps two tickets apart, by its place in the order in which they are asked.
fn rejection(own: &Ticket, other: &Ticket, rules: &Rules, now: Timestamp) -> Option<usize> {
    if own.keyword != other.keyword {
        return Some(0);
    }
    if let Some(place) = own.values.iter().zip(&other.values).position(|(own, other)| own != other) {
        return Some(1 + place);
    }
    if own.players.len() + other.players.len() > usize::from(rules.players) {
        return Some(1 + rules.by.len());
    }
    let rule = rules.rating.filter(|_| own.keyword.is_none())?;
    let windows = [own, other].map(|ticket| rule.window_after(now.since(ticket.enqueued_at)));
    let allowed = match rule.clock {
        Clock::LongestWaiting => windows[0].max(windows[1]),
        Clock::Strictest => windows[0].min(windows[1]),
    };
    (own.rating.abs_diff(other.rating) > allowed).then_some(2 + rules.by.len())
}

/// When the windows of these are wide enough for the spread of their ratings.
fn match_at(rule: &RatingRule, (spread, members): &(u32, Vec<&Ticket>)) -> Option<Timestamp> {
    let mut reached = members.iter().map(|member| rule.reaches(*spread, member.enqueued_at));
    match rule.clock {
        Clock::LongestWaiting => reached.flatten().min(),
        // One that never is keeps them all apart.
        Clock::Strictest => reached.try_fold(Timestamp::default(), |latest, at| Some(latest.max(at?))),
    }
}

fn count<T>(items: impl IntoIterator<Item = T>) -> u32 {
    u32::try_from(items.into_iter().count()).unwrap_or(u32::MAX)
}
