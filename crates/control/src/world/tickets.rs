//! Tickets: who waits for a match, and the matches that get a room with all seats or wait on.
//!
//! Never gives a player two tickets, nor a ticket to somebody who plays.

use std::collections::BTreeSet;

use greenroom_core::allocate::Selector;
use greenroom_core::matchmake::{self, Limits, Match, RatingRule, Rules, Ticket};
use greenroom_core::{FleetName, PlayerId, RoomId, TicketId, Timestamp};
use greenroom_wire::Text;
use greenroom_wire::api::{TicketBody, TicketRefused, TicketsAnswer, TicketsRequest};
use serde_json::Value;

use super::state::{FleetState, TicketState};
use super::{Answer, Refusal, TicketGrant, World};

/// Most attributes of a ticket, those that nobody matches by included.
const ATTRIBUTES_MAX: usize = 16;
/// Longest name and longest value of one.
const ATTRIBUTE_BYTES_MAX: usize = 64;
const KEYWORD_BYTES_MAX: usize = 128;

impl World {
    pub(super) fn file_tickets(
        &mut self,
        fleet: &FleetName,
        body: TicketsRequest,
    ) -> Result<TicketsAnswer, Refusal> {
        self.check_filing(fleet, &body)?;
        self.hear_owner(&body.owner);
        let mut refused = Vec::new();
        for ticket in body.tickets {
            let id = ticket.id.clone();
            if let Err(refusal) = self.file_ticket(fleet, &body.owner, ticket) {
                refused.push(TicketRefused { id, code: refusal.code(), message: refusal.to_string() });
            }
        }
        self.tell_owner(&body.owner);
        Ok(TicketsAnswer { term: self.config.term, refused })
    }

    fn check_filing(&self, name: &FleetName, body: &TicketsRequest) -> Result<(), Refusal> {
        let fleet = self.fleet(name)?;
        if fleet.is_mesh() {
            let instead = "tickets are filed for the fleet whose rooms are played in";
            return Err(Refusal::WrongKind { fleet: name.clone(), kind: "mesh", instead });
        }
        if fleet.spec.matching.players == 0 {
            return Err(Refusal::Malformed(format!(
                "nobody is matched into fleet {name}: it has no match size"
            )));
        }
        check_owner(&body.owner)?;
        let max = self.config.bounds.tickets_per_call_max;
        if body.tickets.len() > max {
            return Err(Refusal::Malformed(format!("at most {max} tickets may be filed in one call")));
        }
        Ok(())
    }

    fn file_ticket(&mut self, name: &FleetName, owner: &str, body: TicketBody) -> Result<(), Refusal> {
        let id = body.id.0.clone();
        let asked_at = body.enqueued_at_ms.map_or(self.now, Timestamp::from_unix_ms).min(self.now);
        if self.tickets.contains_key(&id) {
            self.file_again(&id, owner, asked_at);
            return Ok(());
        }
        if self.answers.contains_key(&ticket_key(&id)) {
            self.tell_again(&id, owner);
            return Ok(());
        }
        let Some(fleet) = self.fleets.get(name) else { return Ok(()) };
        let ticket = checked(name, &fleet.spec.matching, body, asked_at)?;
        self.check_players(&ticket.players)?;
        let Some(fleet) = self.fleets.get_mut(name) else { return Ok(()) };
        fleet.queue_changed = true;
        for player in &ticket.players {
            self.ticket_of.insert(player.clone(), id.clone());
        }
        fleet.queue.insert(id.clone(), ticket);
        self.owners.waits(owner, &id);
        let state = TicketState { fleet: name.clone(), owner: owner.to_owned(), enqueued_at: asked_at };
        self.tickets.insert(id, state);
        Ok(())
    }

    /// Each of them has neither a ticket nor a seat, and one more ticket may wait.
    fn check_players(&self, players: &[PlayerId]) -> Result<(), Refusal> {
        for player in players {
            let holds = match (self.ticket_of.get(player), self.room_of(player)) {
                (Some(ticket), _) => format!("ticket {ticket}"),
                (None, Some(room)) => format!("a seat in room {room}"),
                (None, None) => continue,
            };
            return Err(Refusal::AlreadyAssigned { player: player.clone(), holds });
        }
        let max = self.config.bounds.tickets_max;
        if self.tickets.len() >= max { Err(Refusal::TooMany { what: "tickets", max }) } else { Ok(()) }
    }

    /// The room of a match in which the player still has a seat.
    fn room_of(&self, player: &PlayerId) -> Option<&RoomId> {
        let id = self.plays.get(player)?;
        let room = self.rooms.get(id)?;
        room.taken().any(|(_, seat)| seat.player == *player).then_some(id)
    }

    /// The same ticket once more: it keeps the earlier moment and gets the later owner.
    fn file_again(&mut self, id: &TicketId, owner: &str, asked_at: Timestamp) {
        let Some(state) = self.tickets.get_mut(id) else { return };
        self.owners.is_over(&state.owner, id);
        self.owners.waits(owner, id);
        owner.clone_into(&mut state.owner);
        if asked_at >= state.enqueued_at {
            return;
        }
        state.enqueued_at = asked_at;
        let Some(fleet) = self.fleets.get_mut(&state.fleet) else { return };
        if let Some(ticket) = fleet.queue.get_mut(id) {
            ticket.enqueued_at = asked_at;
            fleet.queue_changed = true;
        }
    }

    pub(super) fn cancel_ticket(&mut self, id: &TicketId) -> Result<Answer, Refusal> {
        if let Some(answer) = self.answers.get(&ticket_key(id)) {
            let grant = self.grant_again(answer.clone());
            return Ok(Answer::Cancelled(Some(Box::new(TicketGrant { ticket: id.clone(), grant }))));
        }
        if !self.drop_ticket(id) {
            return Err(Refusal::TicketNotFound(id.clone()));
        }
        Ok(Answer::Cancelled(None))
    }

    /// Takes a ticket that waits out of the queue; whether there was one.
    pub(super) fn drop_ticket(&mut self, id: &TicketId) -> bool {
        let Some(state) = self.tickets.remove(id) else { return false };
        self.owners.is_over(&state.owner, id);
        if let Some(fleet) = self.fleets.get_mut(&state.fleet)
            && let Some(ticket) = fleet.queue.remove(id)
        {
            fleet.queue_changed = true;
            for player in &ticket.players {
                self.ticket_of.remove(player);
            }
        }
        true
    }

    /// Makes the matches that have a place now.
    pub(super) fn match_fleets(&mut self) {
        if self.is_rebuilding() {
            return;
        }
        let names: Vec<FleetName> = self.fleets.keys().cloned().collect();
        for name in names {
            self.match_fleet(&name);
        }
    }

    fn match_fleet(&mut self, name: &FleetName) {
        let now = self.now;
        let limits = Limits {
            matches_max: self.config.bounds.matches_max,
            work_max: self.config.bounds.match_work_max,
        };
        let Some(fleet) = self.fleets.get_mut(name) else { return };
        if !fleet.may_match(now) {
            return;
        }
        let resume = fleet.match_resume.take();
        let plan = matchmake::plan(fleet.queue.values(), &fleet.spec.matching, now, limits, resume.as_ref());
        if resume.is_none() {
            // What comes while a round is under way has its turn in the next one.
            fleet.queue_changed = false;
            fleet.match_at = plan.wake_at;
        }
        // Calls that wait came before this step and are served first; those that take only some servers hold nobody back.
        let waits = fleet.waiting.values().any(|waiting| waiting.ask.selector().is_any());
        let mut left = plan.matches.len();
        let mut owners = BTreeSet::new();
        for one in &plan.matches {
            if waits || !self.make_match(name, one, &mut owners) {
                break;
            }
            self.count_arrivals(name, 1);
            left -= 1;
        }
        if let Some(fleet) = self.fleets.get_mut(name) {
            fleet.matches_waiting = u32::try_from(left).unwrap_or(u32::MAX);
            // Without a place nobody further down the queue gets one either.
            fleet.match_resume = plan.resume.filter(|_| left == 0);
        }
        for owner in owners {
            self.tell_owner(&owner);
        }
    }

    fn make_match(&mut self, name: &FleetName, one: &Match, owners: &mut BTreeSet<String>) -> bool {
        let Some(chosen) = self.choose(name, &Selector::default()) else { return false };
        let because = chosen.why.to_string();
        let Some(fleet) = self.fleets.get(name) else { return false };
        let tickets: Vec<Ticket> = one.tickets.iter().filter_map(|id| fleet.queue.get(id)).cloned().collect();
        let players: Vec<PlayerId> = tickets.iter().flat_map(|ticket| ticket.players.clone()).collect();
        let Some((room, seats)) = self.make_room(name, &chosen.server, None, &players, Value::Null, false)
        else {
            return false;
        };
        if let Some(fleet) = self.fleets.get_mut(name) {
            for ticket in &tickets {
                fleet.queue.remove(&ticket.id);
            }
        }
        let mut seats = seats.into_iter();
        for ticket in tickets {
            let own: Vec<u16> = seats.by_ref().take(ticket.players.len()).collect();
            for player in &ticket.players {
                self.ticket_of.remove(player);
                self.plays.insert(player.clone(), room.clone());
            }
            let Some(state) = self.tickets.remove(&ticket.id) else { continue };
            self.owners.is_over(&state.owner, &ticket.id);
            let mut record = self.answer_record(&room, &self.rooms[&room], &own, true);
            record.owner = Some(state.owner.clone());
            record.because.clone_from(&because);
            record.ticket = Some(Text(ticket.id.clone()));
            self.keep_answer(ticket_key(&ticket.id), record);
            self.unread(&state.owner, &ticket.id);
            owners.insert(state.owner);
        }
        true
    }
}

impl FleetState {
    /// Whether a match may be found that the last step did not make: looking costs a walk over all tickets.
    fn may_match(&self, now: Timestamp) -> bool {
        let has_place = !self.is_mesh() && !self.candidates.is_empty();
        let is_due = self.match_at.is_some_and(|at| at <= now);
        self.queue_changed || is_due || self.match_resume.is_some() || (has_place && self.matches_waiting > 0)
    }
}

/// A ticket as the rules of its fleet ask for it.
fn checked(
    fleet: &FleetName,
    rules: &Rules,
    body: TicketBody,
    enqueued_at: Timestamp,
) -> Result<Ticket, Refusal> {
    let malformed = |why: String| Err(Refusal::Malformed(why));
    let players: Vec<PlayerId> = body.players.into_iter().map(|player| player.0).collect();
    if players.is_empty() || players.len() > usize::from(rules.players) {
        let (size, asked) = (rules.players, players.len());
        return malformed(format!("a ticket has 1 to {size} players, not {asked}"));
    }
    let distinct: BTreeSet<&PlayerId> = players.iter().collect();
    if distinct.len() < players.len() {
        return malformed("a player is in the ticket twice".to_owned());
    }
    if body.attributes.len() > ATTRIBUTES_MAX {
        let asked = body.attributes.len();
        return malformed(format!("a ticket has at most {ATTRIBUTES_MAX} attributes, not {asked}"));
    }
    for (name, value) in &body.attributes {
        check_text("the name of an attribute", name, ATTRIBUTE_BYTES_MAX)?;
        check_text(&format!("the attribute {name:?}"), value, ATTRIBUTE_BYTES_MAX)?;
    }
    if let Some(keyword) = &body.keyword {
        check_text("the keyword", keyword, KEYWORD_BYTES_MAX)?;
    }
    let mut values = Vec::with_capacity(rules.by.len());
    for name in &rules.by {
        let Some(value) = body.attributes.get(name.as_str()) else {
            return malformed(format!(
                "fleet {fleet} matches by {name}, and the ticket has no such attribute"
            ));
        };
        values.push(value.into());
    }
    let counts = rules.rating.filter(|_| body.keyword.is_none());
    let rating = match (body.rating, counts) {
        (Some(rating), _) => rating,
        (None, None) => 0,
        (None, Some(RatingRule { unrated: Some(rating), .. })) => rating,
        (None, Some(RatingRule { unrated: None, .. })) => {
            return malformed(format!("fleet {fleet} matches by rating, and the ticket has none"));
        }
    };
    let keyword = body.keyword.map(Into::into);
    Ok(Ticket { id: body.id.0, players, enqueued_at, rating, keyword, values })
}

fn check_text(what: &str, text: &str, bytes_max: usize) -> Result<(), Refusal> {
    if (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Refusal::Malformed(format!("{what} must have 1 to {bytes_max} bytes and no control characters")))
}

/// Where the answer of a ticket is kept.
pub(super) fn ticket_key(id: &TicketId) -> String {
    format!("ticket:{id}")
}

pub(super) fn check_owner(owner: &str) -> Result<(), Refusal> {
    let valid = (1..=128).contains(&owner.len()) && owner.bytes().all(|byte| byte.is_ascii_graphic());
    if valid {
        Ok(())
    } else {
        Err(Refusal::Malformed("owner must have 1 to 128 visible ASCII characters".to_owned()))
    }
}
