//! Tickets: who waits for a match, and the matches that get a room with all seats or wait on.
//!
//! Never gives a player two tickets, nor a ticket to somebody who plays.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_core::allocate::Selector;
use greenroom_core::matchmake::{self, Match, Ticket};
use greenroom_core::{FleetName, PlayerId, RoomId, TicketId, Timestamp};
use greenroom_wire::Text;
use greenroom_wire::api::{TicketBody, TicketRefused, TicketsAnswer, TicketsRequest};
use serde_json::Value;

use super::state::{FleetState, TicketState};
use super::{Answer, Refusal, TicketGrant, World};

impl World {
    pub(super) fn file_tickets(
        &mut self,
        fleet: &FleetName,
        body: TicketsRequest,
    ) -> Result<TicketsAnswer, Refusal> {
        self.check_filing(fleet, &body)?;
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
        if fleet.spec.match_players == 0 {
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
        let id = body.id.0;
        let asked_at = body.enqueued_at_ms.map_or(self.now, Timestamp::from_unix_ms).min(self.now);
        if self.tickets.contains_key(&id) {
            self.file_again(&id, owner, asked_at);
            return Ok(());
        }
        if self.answers.contains_key(&ticket_key(&id)) {
            self.tell_again(&id, owner);
            return Ok(());
        }
        let players: Vec<PlayerId> = body.players.into_iter().map(|player| player.0).collect();
        self.check_ticket(name, &players)?;
        let Some(fleet) = self.fleets.get_mut(name) else { return Ok(()) };
        fleet.queue_changed = true;
        for player in &players {
            self.ticket_of.insert(player.clone(), id.clone());
        }
        fleet.queue.push(Ticket { id: id.clone(), players, enqueued_at: asked_at });
        let state = TicketState { fleet: name.clone(), owner: owner.to_owned(), enqueued_at: asked_at };
        self.tickets.insert(id, state);
        Ok(())
    }

    fn check_ticket(&self, name: &FleetName, players: &[PlayerId]) -> Result<(), Refusal> {
        let size = self.fleets.get(name).map_or(0, |fleet| fleet.spec.match_players);
        if players.is_empty() || players.len() > usize::from(size) {
            let asked = players.len();
            return Err(Refusal::Malformed(format!("a ticket has 1 to {size} players, not {asked}")));
        }
        let distinct: BTreeSet<&PlayerId> = players.iter().collect();
        if distinct.len() < players.len() {
            return Err(Refusal::Malformed("a player is in the ticket twice".to_owned()));
        }
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
        owner.clone_into(&mut state.owner);
        if asked_at >= state.enqueued_at {
            return;
        }
        state.enqueued_at = asked_at;
        let Some(fleet) = self.fleets.get_mut(&state.fleet) else { return };
        if let Some(ticket) = fleet.queue.iter_mut().find(|ticket| ticket.id == *id) {
            ticket.enqueued_at = asked_at;
            fleet.queue_changed = true;
        }
    }

    pub(super) fn cancel_ticket(&mut self, id: &TicketId) -> Result<Answer, Refusal> {
        if let Some(answer) = self.answers.get(&ticket_key(id)) {
            let grant = self.grant_again(answer.clone());
            return Ok(Answer::Cancelled(Some(Box::new(TicketGrant { ticket: id.clone(), grant }))));
        }
        let state = self.tickets.remove(id).ok_or_else(|| Refusal::TicketNotFound(id.clone()))?;
        if let Some(fleet) = self.fleets.get_mut(&state.fleet)
            && let Some(place) = fleet.queue.iter().position(|ticket| ticket.id == *id)
        {
            let ticket = fleet.queue.swap_remove(place);
            fleet.queue_changed = true;
            for player in &ticket.players {
                self.ticket_of.remove(player);
            }
        }
        Ok(Answer::Cancelled(None))
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
        let matches_max = self.config.bounds.matches_max;
        let Some(fleet) = self.fleets.get_mut(name) else { return };
        let has_place = !fleet.is_mesh() && !fleet.candidates.is_empty();
        let was_short = fleet.matches_waiting > 0;
        let possible = has_place && was_short;
        if !(fleet.queue_changed || possible) {
            return;
        }
        let matches = matchmake::plan(&fleet.queue, fleet.spec.match_players, matches_max);
        fleet.queue_changed = matches.len() == matches_max;
        let found = tickets_of(fleet, &matches);
        let mut left = matches.len();
        let mut made = BTreeSet::new();
        let mut owners = BTreeSet::new();
        for one in &matches {
            // Calls that wait came before this step and are served first.
            let waits = self.fleets.get(name).is_some_and(|fleet| !fleet.waiting.is_empty());
            if waits || !self.make_match(name, one, &found, &mut owners) {
                break;
            }
            made.extend(one.tickets.iter().cloned());
            self.count_arrivals(name, 1);
            left -= 1;
        }
        if let Some(fleet) = self.fleets.get_mut(name) {
            fleet.queue.retain(|ticket| !made.contains(&ticket.id));
            fleet.matches_waiting = u32::try_from(left).unwrap_or(u32::MAX);
        }
        for owner in owners {
            self.tell_owner(&owner);
        }
    }

    fn make_match(
        &mut self,
        name: &FleetName,
        one: &Match,
        found: &BTreeMap<TicketId, Ticket>,
        owners: &mut BTreeSet<String>,
    ) -> bool {
        let Some(chosen) = self.choose(name, &Selector::default()) else { return false };
        let because = chosen.why.to_string();
        let tickets: Vec<&Ticket> = one.tickets.iter().filter_map(|id| found.get(id)).collect();
        let players: Vec<PlayerId> = tickets.iter().flat_map(|ticket| ticket.players.clone()).collect();
        let Some((room, seats)) = self.make_room(name, &chosen.server, None, &players, Value::Null, false)
        else {
            return false;
        };
        let mut seats = seats.into_iter();
        for ticket in tickets {
            let own: Vec<u16> = seats.by_ref().take(ticket.players.len()).collect();
            for player in &ticket.players {
                self.ticket_of.remove(player);
                self.plays.insert(player.clone(), room.clone());
            }
            let Some(state) = self.tickets.remove(&ticket.id) else { continue };
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

/// The tickets of all these matches, by id.
fn tickets_of(fleet: &FleetState, matches: &[Match]) -> BTreeMap<TicketId, Ticket> {
    let matched: BTreeSet<&TicketId> = matches.iter().flat_map(|one| &one.tickets).collect();
    let tickets = fleet.queue.iter().filter(|ticket| matched.contains(&ticket.id));
    tickets.map(|ticket| (ticket.id.clone(), ticket.clone())).collect()
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
