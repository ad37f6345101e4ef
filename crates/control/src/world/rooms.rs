//! Rooms: one live room per key, from the promise to the end.
//!
//! Never seats anybody by itself: that is `seats`. The server ends a live room; this module ends what nobody came to,
//! and what died with its server or host.

use greenroom_core::{RoomId, ServerName, Timestamp};
use greenroom_wire::Text;
use greenroom_wire::agent::{ProcessPhase, ToAgent};
use greenroom_wire::api::{FinishRequest, RoomPhase, RoomStatus, SeatWord};
use greenroom_wire::record::KeyRecord;
use greenroom_wire::rooms::{EndReason, RoomEnded, RoomReport};
use serde_json::Value;

use super::state::{Counted, EndedRoom, RoomState, ServerState};
use super::{Notice, Refusal, StreamId, World, Write, standing};

impl World {
    /// Puts a room into all indexes.
    pub(super) fn index_room(&mut self, id: &RoomId, mut room: RoomState) {
        room.counted = room.to_count();
        if let Some(fleet) = self.fleets.get_mut(&room.fleet) {
            fleet.rooms += 1;
            fleet.recount(id, Counted::default(), room.counted);
            if let Some(key) = &room.key {
                fleet.keys.insert(key.clone(), id.clone());
            }
        }
        self.rooms_of.entry(room.server.clone()).or_default().insert(id, &room);
        self.rooms.insert(id.clone(), Box::new(room));
    }

    /// Brings what is counted of a room up to date. To be called after every change of its seats.
    pub(super) fn recount(&mut self, id: &RoomId) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        let counted = room.to_count();
        let before = std::mem::replace(&mut room.counted, counted);
        if before == counted {
            return;
        }
        if let Some(on) = self.rooms_of.get_mut(&room.server) {
            on.recount(id, before, counted);
        }
        if let Some(fleet) = self.fleets.get_mut(&room.fleet) {
            fleet.recount(id, before, counted);
        }
    }

    /// Stores a room as it is now.
    pub(super) fn store_room(&mut self, id: &RoomId) {
        if let Some(room) = self.rooms.get(id) {
            let record = room.record(id);
            self.write(Write::PutRoom(record));
        }
    }

    /// Stores which room its key has, once in its life: for replicas that answer by one key without knowing all rooms.
    pub(super) fn store_key(&mut self, id: &RoomId) {
        let Some(room) = self.rooms.get(id) else { return };
        if let Some(key) = &room.key {
            let key = standing::place_of(&room.fleet, key);
            self.write(Write::PutKey { key, record: KeyRecord { version: 1, room: Text(id.clone()) } });
        }
    }

    /// Ends rooms on `server` whose promised instance is gone. Those that outlive it wait for the next one.
    pub(super) fn lose_rooms(
        &mut self,
        server: &ServerName,
        is_gone: impl Fn(&greenroom_core::InstanceId) -> bool,
    ) {
        // Every report asks this of every server.
        let process = self.rooms_of.get(server).and_then(|on| on.process.as_ref());
        if process.is_some_and(|process| !is_gone(process)) {
            return;
        }
        // Of a room that was promised just now, or whose server was not heard for a while, nobody has told that it is kept.
        let keeps = self.servers.get(server).is_some_and(|server| server.keeps_rooms);
        for id in self.rooms_on(server) {
            match self.rooms.get(&id) {
                Some(room) if !is_gone(&room.instance) => {}
                Some(room) if keeps || room.kept => {
                    let now = self.now;
                    if !self.orphans.contains_key(&id) {
                        self.orphans.insert(id.clone(), now);
                        self.note(Notice::RoomWaits { room: id, server: server.clone() });
                    }
                }
                Some(_) => self.end_room(&id, EndReason::ServerLost, Value::Null),
                None => {}
            }
        }
        let Some(on) = self.rooms_of.get_mut(server) else { return };
        let mut processes = on.ids.iter().filter_map(|id| self.rooms.get(id)).map(|room| &room.instance);
        let first = processes.next().cloned();
        on.process = first.filter(|first| processes.all(|process| process == first));
    }

    /// Ends the rooms that no process came for in time. It counts while their host is heard: on one that is not the next process may
    /// be there with the room and its players, and a key that were free again would have two.
    pub(super) fn lose_orphans(&mut self) {
        let (now, grace) = (self.now, self.config.timings.kept_room_grace);
        let mut orphans = std::mem::take(&mut self.orphans);
        for (id, since) in &mut orphans {
            if !self.rooms.get(id).is_some_and(|room| self.is_trusted(&room.host)) {
                *since = now;
            }
        }
        self.orphans = orphans;
        let over = self.orphans.iter().filter(|(_, since)| now.since(**since) >= grace);
        let over: Vec<RoomId> = over.map(|(id, _)| id.clone()).collect();
        for id in over {
            self.end_room(&id, EndReason::ServerLost, Value::Null);
        }
    }

    /// Takes in what a server told of all its rooms at `made_at`.
    pub(super) fn observe_rooms(
        &mut self,
        server: &ServerName,
        reports: Vec<RoomReport>,
        made_at: Timestamp,
    ) {
        let mut told = std::collections::BTreeSet::new();
        for report in reports {
            told.insert(report.room.0.clone());
            self.observe_room(server, &report, made_at);
        }
        // Absence means something only where rooms are told of: not without a link, not while the agent looks for the
        // process, and not when it has heard nothing from it since it looked.
        let silent = told.is_empty();
        let tells = |server: &ServerState| match server.phase {
            ProcessPhase::Starting => false,
            ProcessPhase::Unhealthy => server.linked && !silent,
            ProcessPhase::Ready | ProcessPhase::Restarting | ProcessPhase::Stopping | ProcessPhase::Ended => {
                server.linked
            }
        };
        if !self.servers.get(server).is_some_and(tells) {
            return;
        }
        // The next process is here, and has it not: nobody gets into it with a token of the one before.
        let is_here = |id: &&RoomId| self.rooms.get(*id).is_some_and(|room| room.server == *server);
        let orphans = self.orphans.keys().filter(|id| !told.contains(*id));
        let lost: Vec<RoomId> = orphans.filter(is_here).cloned().collect();
        for id in lost {
            self.end_room(&id, EndReason::ServerLost, Value::Null);
        }
        let over = self.promises_over(made_at);
        let Some(missable) = self.rooms_of.get(server).map(|on| on.missable(over)) else { return };
        for id in missable.difference(&told) {
            self.observe_seats(id, &[], made_at);
            self.end_vacant(id);
        }
    }

    fn observe_room(&mut self, server: &ServerName, report: &RoomReport, made_at: Timestamp) {
        let id = report.room.0.clone();
        match self.rooms.get_mut(&id) {
            Some(room) if room.server == *server && room.epoch == report.epoch => {
                room.reported = true;
                room.vacant_since = None;
                let process = self.servers.get(server).map(|server| &server.instance);
                let is_other = process.is_some_and(|process| *process != room.instance);
                let is_changed = is_other || room.kept != report.kept;
                room.kept = report.kept;
                if let Some(process) = process.filter(|_| is_other) {
                    room.instance.clone_from(process);
                    if let Some(on) = self.rooms_of.get_mut(server) {
                        on.process = None;
                    }
                }
                if self.orphans.remove(&id).is_some() {
                    self.note(Notice::RoomTakenUp { room: id.clone(), server: server.clone() });
                }
                self.observe_seats(&id, &report.seats, made_at);
                if is_changed {
                    self.store_room(&id);
                }
            }
            // Only this process gives epochs out, so a higher one means that the store was set back: the room is right.
            Some(room) if room.epoch < report.epoch => {
                self.unindex_room(&id);
                self.adopt_room(server, report, made_at);
            }
            Some(_) => self.close_room(server, report, EndReason::Superseded),
            None => match self.ended.get(&id) {
                Some(ended) if ended.status.epoch >= report.epoch => {
                    let reason = ended.status.ended.unwrap_or(EndReason::Superseded);
                    self.close_room(server, report, reason);
                }
                Some(_) | None => self.adopt_room(server, report, made_at),
            },
        }
    }

    fn adopt_room(&mut self, name: &ServerName, report: &RoomReport, made_at: Timestamp) {
        let Some(server) = self.servers.get(name) else { return };
        let id = report.room.0.clone();
        let key = report.key.clone().map(|key| key.0);
        let fleet = self.fleets.get(&server.fleet);
        let taken = key.as_ref().zip(fleet).is_some_and(|(key, fleet)| fleet.keys.contains_key(key));
        if taken {
            self.close_room(name, report, EndReason::Superseded);
            self.note(Notice::RoomSuperseded { room: id, server: name.clone() });
            return;
        }
        let room = RoomState {
            fleet: server.fleet.clone(),
            key,
            epoch: report.epoch,
            open: false,
            server: name.clone(),
            instance: server.instance.clone(),
            host: server.host.clone(),
            endpoint: server.endpoint.clone(),
            tls: server.tls,
            created_at: self.now,
            seats: vec![None; usize::from(fleet.map_or(0, super::state::FleetState::seats_per_room))],
            played: Vec::new(),
            init: Value::Null,
            reported: true,
            restored: true,
            kept: report.kept,
            vacant_since: None,
            counted: Counted::default(),
        };
        self.index_room(&id, room);
        self.observe_seats(&id, &report.seats, made_at);
        self.store_room(&id);
        self.store_key(&id);
        self.note(Notice::RoomAdopted { room: id, server: name.clone() });
    }

    fn close_room(&mut self, server: &ServerName, report: &RoomReport, reason: EndReason) {
        let Some(host) = self.servers.get(server).map(|server| server.host.clone()) else { return };
        let message = ToAgent::CloseRoom {
            term: self.config.term,
            server: Text(server.clone()),
            room: report.room.clone(),
            epoch: report.epoch,
            reason,
        };
        self.order(&host, message);
    }

    /// Ends a room in which nobody has a seat and of which its server tells nothing.
    fn end_vacant(&mut self, id: &RoomId) {
        let (now, timings) = (self.now, self.config.timings);
        let Some(room) = self.rooms.get_mut(id) else { return };
        if room.taken().next().is_some() {
            room.vacant_since = None;
            return;
        }
        let vacant = now.since(*room.vacant_since.get_or_insert(now));
        let nobody_came = room.played.is_empty() && !room.reported;
        let (grace, reason) = match (nobody_came, room.restored) {
            (true, false) => (std::time::Duration::ZERO, EndReason::NoShow),
            (true, true) => (timings.restored_room_grace, EndReason::NoShow),
            (false, _) => (timings.silent_room_grace, EndReason::Empty),
        };
        if vacant >= grace {
            self.end_room(id, reason, Value::Null);
        }
    }

    /// The one way out of life: frees the key and the seats, stores the result, tells people.
    pub(super) fn end_room(&mut self, id: &RoomId, reason: EndReason, result: Value) {
        let Some(room) = self.unindex_room(id) else { return };
        self.slos.room_ended(reason);
        self.write(Write::DeleteRoom(id.clone()));
        if let Some(key) = &room.key
            && !self.fleets.get(&room.fleet).is_some_and(|fleet| fleet.keys.contains_key(key))
        {
            self.write(Write::DeleteKey { key: standing::place_of(&room.fleet, key) });
        }
        self.store_result(id, &room, reason, result);
        self.note(Notice::RoomEnded {
            room: id.clone(),
            fleet: room.fleet.clone(),
            server: room.server.clone(),
            reason,
        });
        let mut status = super::views::room_status(id, &room);
        status.phase = RoomPhase::Ended;
        status.ended = Some(reason);
        for seat in &mut status.seats {
            (seat.state, seat.player) = (SeatWord::Free, None);
        }
        self.ended_order.push_back((self.now, id.clone()));
        self.ended.insert(id.clone(), EndedRoom { status, ended_at: self.now });
        self.refresh(&room.server);
        self.dirty.insert(room.fleet);
    }

    /// Takes a room out of all indexes.
    fn unindex_room(&mut self, id: &RoomId) -> Option<Box<RoomState>> {
        let room = self.rooms.remove(id)?;
        self.orphans.remove(id);
        if let Some(fleet) = self.fleets.get_mut(&room.fleet) {
            fleet.rooms -= 1;
            fleet.recount(id, room.counted, Counted::default());
            if let Some(key) = &room.key
                && fleet.keys.get(key) == Some(id)
            {
                fleet.keys.remove(key);
            }
        }
        if let Some(on) = self.rooms_of.get_mut(&room.server) {
            on.remove(id, room.counted);
            if on.ids.is_empty() {
                self.rooms_of.remove(&room.server);
            }
        }
        for (_, seat) in room.taken() {
            if self.plays.get(&seat.player) == Some(id) {
                self.plays.remove(&seat.player);
            }
        }
        Some(room)
    }

    /// A server tells a room's end. Acknowledged in the same batch in which the result is stored.
    pub(super) fn observe_room_ended(&mut self, stream: StreamId, server: &ServerName, ended: RoomEnded) {
        let id = ended.room.0.clone();
        let known = self.rooms.get(&id).map(|room| (room.epoch, room.server == *server));
        match known {
            Some((epoch, true)) if epoch == ended.epoch => {
                self.end_room(&id, ended.reason, ended.result);
            }
            // An older owner's end, or a stranger's: its players are elsewhere by now.
            Some(_) => {}
            None => self.store_stray_result(server, &ended),
        }
        let ack = ToAgent::RoomEndedAck { room: ended.room, epoch: ended.epoch };
        self.out.push(super::Effect::Order { stream, message: Box::new(ack) });
    }

    pub(super) fn finish_room(&mut self, id: &RoomId, body: FinishRequest) -> Result<RoomStatus, Refusal> {
        if let Some(room) = self.rooms.get(id) {
            let (epoch, server) = (room.epoch, room.server.clone());
            if epoch != body.epoch {
                return Err(Refusal::EpochMismatch { room: id.clone(), asked: body.epoch, has: epoch });
            }
            let bytes_max = self.config.bounds.result_bytes_max;
            if body.result.to_string().len() > bytes_max {
                return Err(Refusal::Malformed(format!("result is larger than {bytes_max} bytes as JSON")));
            }
            let report =
                RoomReport { room: Text(id.clone()), epoch, key: None, seats: Vec::new(), kept: false };
            self.close_room(&server, &report, EndReason::Finished);
            self.end_room(id, EndReason::Finished, body.result);
        }
        match self.ended.get(id) {
            Some(ended) if ended.status.epoch == body.epoch => match ended.status.ended {
                Some(EndReason::Finished) | None => Ok(ended.status.clone()),
                Some(reason) => Err(Refusal::RoomOver { room: id.clone(), reason }),
            },
            Some(ended) => {
                let has = ended.status.epoch;
                Err(Refusal::EpochMismatch { room: id.clone(), asked: body.epoch, has })
            }
            None => Err(Refusal::RoomNotFound(id.clone())),
        }
    }

    pub(super) fn forget_ended(&mut self) {
        let (now, visible, max) = (self.now, self.config.timings.ended_visible, self.config.bounds.ended_max);
        while let Some((at, _)) = self.ended_order.front()
            && (now.since(*at) >= visible || self.ended_order.len() > max)
        {
            let Some((at, id)) = self.ended_order.pop_front() else { return };
            if self.ended.get(&id).is_some_and(|ended| ended.ended_at == at) {
                self.ended.remove(&id);
            }
        }
    }
}
