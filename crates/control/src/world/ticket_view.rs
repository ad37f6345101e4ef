//! What became of a ticket, or why it still waits.
//!
//! Never changes anything, and never tells a keyword.

use greenroom_core::matchmake::{self, Clock, Explanation, Rejected, Rejection, Rules, Ticket, WaitsFor};
use greenroom_core::{TicketId, Timestamp};
use greenroom_wire::Text;
use greenroom_wire::api::{
    ClockWord, RuleWord, TicketRejections, TicketStatus, TicketStatusBody, TicketWait, TicketWhy,
    WaitsForWord,
};

use super::tickets::ticket_key;
use super::{Refusal, World};

impl World {
    /// `why`: with what keeps it waiting, which costs a walk over all tickets of the fleet.
    pub(super) fn ticket_status(&self, id: &TicketId, why: bool) -> Result<TicketStatusBody, Refusal> {
        let told =
            |fleet, status| Ok(TicketStatusBody { ticket: Text(id.clone()), fleet: Text(fleet), status });
        if let Some(answer) = self.answers.get(&ticket_key(id)) {
            let room = answer.room.clone();
            return told(answer.fleet.0.clone(), TicketStatus::Assigned { room });
        }
        let not_found = || Refusal::TicketNotFound(id.clone());
        let name = &self.tickets.get(id).ok_or_else(not_found)?.fleet;
        let fleet = self.fleets.get(name).ok_or_else(not_found)?;
        let own = fleet.queue.get(id).ok_or_else(not_found)?;
        let explain = || {
            let (rules, work_max) = (&fleet.spec.matching, self.config.bounds.match_work_max);
            matchmake::explain(fleet.queue.values(), id, rules, self.now, work_max)
        };
        let why = why.then(explain).flatten().map(words);
        told(name.clone(), TicketStatus::Waiting(Box::new(wait(&fleet.spec.matching, own, self.now, why))))
    }
}

fn wait(rules: &Rules, own: &Ticket, now: Timestamp, why: Option<TicketWhy>) -> TicketWait {
    let waited = now.since(own.enqueued_at);
    let rule = rules.rating.filter(|_| own.keyword.is_none());
    let widens_at = rule.and_then(|rule| rule.widens_at(own.enqueued_at, now));
    let window_at = |at: Timestamp| rule.map(|rule| rule.window_after(at.since(own.enqueued_at)));
    let named = rules.by.iter().zip(&own.values);
    TicketWait {
        enqueued_at_ms: own.enqueued_at.unix_ms(),
        waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        players: u32::try_from(own.players.len()).unwrap_or(u32::MAX),
        match_players: u32::from(rules.players),
        attributes: named.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        private: own.keyword.is_some(),
        rating: rule.map(|_| own.rating),
        window: window_at(now),
        clock: rule.map(|rule| match rule.clock {
            Clock::LongestWaiting => ClockWord::LongestWaiting,
            Clock::Strictest => ClockWord::Strictest,
        }),
        widens_at_ms: widens_at.map(Timestamp::unix_ms),
        window_next: widens_at.and_then(window_at),
        smaller_at_ms: rules.smaller.map(|smaller| (own.enqueued_at + smaller.patience).unix_ms()),
        why,
    }
}

fn words(why: Explanation) -> TicketWhy {
    let (waits_for, missing_players) = match why.waits_for {
        WaitsFor::Place => (WaitsForWord::Place, 0),
        WaitsFor::Players(missing) => (WaitsForWord::Players, missing),
        WaitsFor::Spread => (WaitsForWord::Spread, 0),
        WaitsFor::Sizes => (WaitsForWord::Sizes, 0),
    };
    TicketWhy {
        others: why.others,
        rejected: why.rejected.into_iter().map(rejections).collect(),
        taken: why.taken,
        candidates: why.candidates,
        candidate_players: why.candidate_players,
        waits_for,
        missing_players,
        match_at_ms: why.match_at.map(Timestamp::unix_ms),
    }
}

fn rejections(rejected: Rejected) -> TicketRejections {
    let tickets = rejected.tickets;
    let of = |rule, attribute| TicketRejections { rule, attribute, tickets };
    match rejected.rule {
        Rejection::Keyword => of(RuleWord::Keyword, None),
        Rejection::Attribute(name) => of(RuleWord::Attribute, Some(name.to_string())),
        Rejection::Size => of(RuleWord::Size, None),
        Rejection::Rating => of(RuleWord::Rating, None),
    }
}
