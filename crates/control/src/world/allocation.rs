//! Allocation: a room for these players, all seats or none, once per idempotency key and once per room key.
//!
//! Never waits: a request for which nothing is free goes to `waiting`.

use std::borrow::Cow;

use greenroom_core::allocate::{Chosen, Selector};
use greenroom_core::fleet::FleetKind;
use greenroom_core::{FleetName, PlayerId, RoomId, RoomKey, ServerName, Timestamp};
use greenroom_wire::Text;
use greenroom_wire::api::{AllocateRequest, SelectorBody};
use greenroom_wire::record::{AnswerRecord, SeatRecord};
use greenroom_wire::revision;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::state::{Ask, Counted, FleetState, RoomAsk, RoomState};
use super::{Answer, Bounds, Grant, Notice, Refusal, RequestId, Timings, World, Write};

impl World {
    pub(super) fn ask_allocation(&mut self, request: RequestId, fleet: &FleetName, body: AllocateRequest) {
        let ask = match self.check_allocation(fleet, body) {
            Ok(ask) => ask,
            Err(refusal) => return self.reply(request, Err(refusal)),
        };
        if let Some(answer) = self.settled(fleet, &ask, &mut Vec::new()) {
            return self.reply(request, answer.map(|grant| Answer::Allocated(Box::new(grant))));
        }
        if !(ask.body.fill || self.is_awaited(fleet, &ask)) {
            self.count_arrivals(fleet, 1);
        }
        let timings = self.config.timings;
        let wait = ask.body.timeout_ms.map_or(timings.allocation_wait, std::time::Duration::from_millis);
        self.wait_for_server(request, fleet, Ask::Room(Box::new(ask)), wait);
    }

    /// Whether another call waits for the room of the same key.
    fn is_awaited(&self, fleet: &FleetName, ask: &RoomAsk) -> bool {
        let Some(key) = &ask.body.key else { return false };
        let waiting = self.fleets.get(fleet).into_iter().flat_map(|fleet| fleet.waiting.values());
        let mut asks = waiting.filter_map(|waiting| match &waiting.ask {
            Ask::Room(ask) => Some(ask),
            Ask::Endpoint(_) => None,
        });
        asks.any(|other| other.body.key.as_ref() == Some(key))
    }

    fn check_allocation(&self, name: &FleetName, body: AllocateRequest) -> Result<RoomAsk, Refusal> {
        checked_request(name, self.fleet(name)?.spec.kind, &self.config.timings, &self.config.bounds, body)
    }

    /// The answer that needs no new room: given before under this idempotency key, the key's room lives, or an open room
    /// has seats. `unfilled`: for which servers and players no open room was found in this pass, so that one call looks for all.
    pub(super) fn settled(
        &mut self,
        fleet: &FleetName,
        ask: &RoomAsk,
        unfilled: &mut Vec<(Selector, usize)>,
    ) -> Option<Result<Grant, Refusal>> {
        if let Some(key) = &ask.body.idempotency_key
            && let Some(record) = self.answers.get(&request_key(key.as_str()))
        {
            return Some(if record.request_hash == ask.hash {
                Ok(self.grant_again(record.clone()))
            } else {
                Err(Refusal::IdempotencyMismatch(key.to_string()))
            });
        }
        let id = match &ask.body.key {
            Some(key) => self.fleets.get(fleet)?.keys.get(&key.0)?.clone(),
            None if ask.body.fill => {
                let players = ask.body.players.len();
                if unfilled.iter().any(|(selector, asked)| *selector == ask.selector && *asked <= players) {
                    return None;
                }
                let Some(id) = self.open_room(fleet, ask) else {
                    unfilled.push((ask.selector.clone(), players));
                    return None;
                };
                id
            }
            None => return None,
        };
        Some(self.join_room(&id, ask))
    }

    fn join_room(&mut self, id: &RoomId, ask: &RoomAsk) -> Result<Grant, Refusal> {
        let room = self.rooms.get(id).ok_or_else(|| Refusal::RoomNotFound(id.clone()))?;
        if self.suspect(&room.host).is_some() {
            return Err(self.host_suspect(&room.host));
        }
        let players = players(&ask.body);
        let (free, asked) = (room.free_seats(), room.seats_needed(&players));
        if asked > free {
            return Err(Refusal::RoomFull { room: id.clone(), free, asked });
        }
        let because = match &ask.body.key {
            Some(_) => "the room of this key lives there".to_owned(),
            None => format!("fill: the fullest open room with seats for all, {free} free before"),
        };
        let seats = self.reserve(id, &players);
        self.store_room(id);
        Ok(self.grant(id, &seats, false, because, ask))
    }

    /// Makes the room that `ask` wants, if a server has a place.
    pub(super) fn make_asked(&mut self, fleet: &FleetName, ask: &RoomAsk) -> Option<Result<Grant, Refusal>> {
        let chosen = self.choose(fleet, &ask.selector)?;
        let players = players(&ask.body);
        let key = ask.body.key.clone().map(|key| key.0);
        let open = ask.body.fill;
        let (id, seats) =
            self.make_room(fleet, &chosen.server, key, &players, ask.body.init.clone(), open)?;
        if open {
            // Until now it was not known whether it needs a room of its own.
            self.count_arrivals(fleet, 1);
        }
        Some(Ok(self.grant(&id, &seats, true, chosen.why.to_string(), ask)))
    }

    /// The server that is preferred now, of those that will do.
    pub(super) fn choose(&mut self, fleet: &FleetName, selector: &Selector) -> Option<Chosen> {
        let draws = self.ids.draws();
        let state = self.fleets.get(fleet)?;
        state.candidates.choose(&state.spec, &state.view, selector, draws)
    }

    /// The fullest room that was made to be filled and has seats for all of them, on a server that is handed out.
    fn open_room(&self, fleet: &FleetName, ask: &RoomAsk) -> Option<RoomId> {
        let state = self.fleets.get(fleet)?;
        let fits = |id: &&RoomId| {
            let room = self.rooms.get(*id);
            let placed = room.and_then(|room| Some((room, state.seen(&room.server)?)));
            placed.is_some_and(|(room, seen)| {
                let takes = seen.state.takes_players() && seen.full.is_none();
                takes && seen.instance == room.instance && ask.selector.matches(seen)
            })
        };
        let mut enough = state.open.range(ask.body.players.len()..).flat_map(|(_, rooms)| rooms);
        enough.find(fits).cloned()
    }

    /// Makes a room with a seat for each of `players` on a server that was chosen for it.
    pub(super) fn make_room(
        &mut self,
        fleet: &FleetName,
        name: &ServerName,
        key: Option<RoomKey>,
        players: &[PlayerId],
        init: Value,
        open: bool,
    ) -> Option<(RoomId, Vec<u16>)> {
        let seats_max = self.fleets.get(fleet)?.seats_per_room();
        let server = self.servers.get(name)?;
        let mut room = RoomState {
            fleet: fleet.clone(),
            key,
            epoch: 1,
            open,
            server: name.clone(),
            instance: server.instance.clone(),
            host: server.host.clone(),
            endpoint: server.endpoint.clone(),
            tls: server.tls,
            created_at: self.now,
            seats: vec![None; usize::from(seats_max)],
            played: Vec::new(),
            init,
            reported: false,
            restored: false,
            kept: false,
            vacant_since: None,
            counted: Counted::default(),
        };
        let is_keyed = room.key.is_some();
        let id = self.ids.room(self.now);
        let expires_at = self.reservation_expiry();
        let seats = room.reserve(players, expires_at, &mut self.ids);
        self.write(Write::PutRoom(room.record(&id)));
        self.index_room(&id, room);
        if is_keyed {
            self.store_key(&id);
        }
        self.refresh(name);
        self.note(Notice::RoomMade { room: id.clone(), fleet: fleet.clone(), server: name.clone() });
        Some((id, seats))
    }

    fn grant(&mut self, id: &RoomId, seats: &[u16], created: bool, because: String, ask: &RoomAsk) -> Grant {
        let room = &self.rooms[id];
        let mut record = self.answer_record(id, room, seats, created);
        record.because = because;
        record.request_hash.clone_from(&ask.hash);
        let grant = Grant { seats_max: room.seats_max(), init: room.init.clone(), record };
        if let Some(key) = &ask.body.idempotency_key {
            self.keep_answer(request_key(key.as_str()), grant.record.clone());
        }
        grant
    }

    /// The record of an answer with these seats of a live room.
    pub(super) fn answer_record(
        &self,
        id: &RoomId,
        room: &RoomState,
        seats: &[u16],
        created: bool,
    ) -> AnswerRecord {
        let seats: Vec<SeatRecord> = seats
            .iter()
            .filter_map(|index| Some(room.seats[usize::from(*index)].as_ref()?.record(*index)))
            .collect();
        AnswerRecord {
            version: 1,
            request_hash: String::new(),
            room: Text(id.clone()),
            created,
            because: String::new(),
            fleet: Text(room.fleet.clone()),
            key: room.key.clone().map(Text),
            epoch: room.epoch,
            server: Text(room.server.clone()),
            instance: Text(room.instance.clone()),
            endpoint: room.endpoint.clone(),
            tls: room.tls,
            seats,
            owner: None,
            ticket: None,
            answered_at_ms: self.now.unix_ms(),
        }
    }

    /// The grant of a recorded answer: the same claims each time, while the room lives.
    pub(super) fn grant_again(&self, record: AnswerRecord) -> Grant {
        match self.rooms.get(&record.room.0) {
            Some(room) => Grant { seats_max: room.seats_max(), init: room.init.clone(), record },
            None => {
                let fleet = self.fleets.get(&record.fleet.0);
                let seats_max = fleet.map_or(0, FleetState::seats_per_room);
                Grant { seats_max, init: Value::Null, record }
            }
        }
    }

    pub(super) fn keep_answer(&mut self, key: String, record: AnswerRecord) {
        self.write(Write::PutAnswer { key: key.clone(), record: record.clone() });
        self.answers_order.push_back((self.now, key.clone()));
        self.answers.insert(key, record);
    }

    pub(super) fn forget_answers(&mut self) {
        let (now, kept) = (self.now, self.config.timings.answer_kept);
        while let Some((at, _)) = self.answers_order.front()
            && now.since(*at) >= kept
        {
            let Some((_, key)) = self.answers_order.pop_front() else { return };
            // Who plays is known from it after a restart.
            let plays =
                |answer: &AnswerRecord| answer.ticket.is_some() && self.rooms.contains_key(&answer.room.0);
            if self.answers.get(&key).is_some_and(plays) {
                self.answers_order.push_back((now, key));
                continue;
            }
            let answered = self.answers.get(&key).map(|answer| answer.answered_at_ms);
            if answered.is_some_and(|ms| now.since(Timestamp::from_unix_ms(ms)) >= kept) {
                let answer = self.answers.remove(&key);
                if let Some((ticket, owner)) = answer.and_then(|a| Some((a.ticket?, a.owner?))) {
                    self.forget_unread(&owner, &ticket.0);
                }
                self.write(Write::DeleteAnswer { key });
            }
        }
    }

    pub(super) fn fleet(&self, name: &FleetName) -> Result<&FleetState, Refusal> {
        self.fleets.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.fleets.keys().map(FleetName::as_str).collect();
            Refusal::FleetNotFound { fleet: name.clone(), known: known.join(", ") }
        })
    }
}

/// A request for a room of a fleet of this kind, within its bounds.
pub(super) fn checked_request(
    name: &FleetName,
    kind: FleetKind,
    timings: &Timings,
    bounds: &Bounds,
    body: AllocateRequest,
) -> Result<RoomAsk, Refusal> {
    if matches!(kind, FleetKind::Mesh) {
        let instead = "ask for GET /v1/fleets/{fleet}/endpoint";
        return Err(Refusal::WrongKind { fleet: name.clone(), kind: "mesh", instead });
    }
    let malformed = |message: String| Err(Refusal::Malformed(message));
    let seats = usize::from(revision::sizes(kind).1);
    if body.players.is_empty() || body.players.len() > seats {
        let asked = body.players.len();
        return malformed(format!("players must be 1 to {seats} in fleet {name}, not {asked}"));
    }
    let mut sorted: Vec<_> = body.players.iter().collect();
    sorted.sort_unstable();
    if let Some([twice, _]) = sorted.array_windows().find(|[one, other]| one == other) {
        return malformed(format!("player {twice} is in players twice"));
    }
    let timeout_max = timings.allocation_wait_max.as_millis();
    if body.timeout_ms.is_some_and(|timeout| u128::from(timeout) > timeout_max) {
        return malformed(format!("timeout_ms must be at most {timeout_max}"));
    }
    let init = if body.init.is_null() { Cow::Borrowed("null") } else { body.init.to_string().into() };
    let init_bytes_max = bounds.init_bytes_max;
    if init.len() > init_bytes_max {
        return malformed(format!("init is larger than {init_bytes_max} bytes as JSON"));
    }
    if body.fill && body.key.is_some() {
        return malformed("fill and key exclude each other: a key has a room of its own".to_owned());
    }
    let selector = checked_selector(body.select.as_ref())?;
    let hash = body.idempotency_key.as_ref().map(|_| request_hash(name, &body, &init)).unwrap_or_default();
    Ok(RoomAsk { body, hash, selector })
}

fn players(body: &AllocateRequest) -> Vec<PlayerId> {
    body.players.iter().map(|player| player.0.clone()).collect()
}

/// A selector as the decisions know it, within its bounds.
pub(crate) fn checked_selector(body: Option<&SelectorBody>) -> Result<Selector, Refusal> {
    let Some(body) = body else { return Ok(Selector::default()) };
    let fits = |text: &String| (1..=64).contains(&text.len());
    if body.labels.len() > 16 || !body.labels.iter().all(|(name, value)| fits(name) && fits(value)) {
        let message = "a selector has at most 16 labels of 1 to 64 characters each";
        return Err(Refusal::Malformed(message.to_owned()));
    }
    Ok(Selector::from(body))
}

/// Where the answer of an idempotency key is kept. The prefix keeps callers' keys apart from tickets.
pub(super) fn request_key(key: &str) -> String {
    format!("request:{key}")
}

/// What makes two requests the same: all but how long they wait.
fn request_hash(fleet: &FleetName, body: &AllocateRequest, init: &str) -> String {
    let mut hash = Sha256::new();
    let key = body.key.as_ref().map(|key| key.as_str());
    let mut field = |text: &str| {
        hash.update(text.len().to_be_bytes());
        hash.update(text.as_bytes());
    };
    field(fleet.as_str());
    field(if key.is_some() { "key" } else { "new" });
    field(key.unwrap_or_default());
    field(init);
    field(if body.fill { "fill" } else { "" });
    if let Some(select) = &body.select {
        for (name, value) in &select.labels {
            field(name);
            field(value);
        }
        field(select.revision.as_ref().map_or("", |revision| revision.as_str()));
    }
    field("players");
    for player in &body.players {
        field(player.as_str());
    }
    let digits =
        |byte: u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    hash.finalize().into_iter().flat_map(digits).collect()
}
