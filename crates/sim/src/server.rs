//! A simulated gameserver: rooms that begin with the first valid token and end when everybody has left.
//!
//! Never asks control: it judges a token by its claims alone, as a real server does.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_core::{InstanceId, PlayerId, RoomId, RoomKey};
use greenroom_wire::Text;
use greenroom_wire::agent::{ProcessPhase, ServerReport, StartOrder};
use greenroom_wire::link::Measured;
use greenroom_wire::rooms::{EndReason, RoomEnded, RoomReport, SeatPhase, SeatReport};
use greenroom_wire::token::JoinClaims;
use serde_json::{Value, json};

use crate::invariant::Broken;

/// How long an empty room waits for somebody to come back.
const LINGER_MS: u64 = 2_000;

/// What a process holds when it starts, and what it never gives back of each room.
pub(crate) const MEMORY_BYTES: u64 = 64 << 20;
pub(crate) const LEAK_BYTES: u64 = 1 << 20;

/// A live room.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) epoch: u32,
    pub(crate) key: Option<RoomKey>,
    seats: BTreeMap<u16, Guest>,
    empty_since_ms: u64,
}

/// Who sits on a seat, or is connected to a mesh server.
#[derive(Debug)]
struct Guest {
    player: PlayerId,
    leaves_ms: u64,
}

/// Why a player was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// The process that was promised is gone, or does not answer.
    WrongServer,
    /// The reservation had run out.
    Expired,
    /// The room has ended.
    Ended,
    /// The token was used before.
    Used,
}

/// One gameserver; its process may change.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) order: StartOrder,
    pub(crate) phase: ProcessPhase,
    /// When the present phase ends by itself.
    pub(crate) phase_until_ms: u64,
    pub(crate) restarts: u32,
    started_at_ms: u64,
    /// Rooms that its present process has opened.
    rooms_opened: u32,
    pub(crate) rooms: BTreeMap<RoomId, Room>,
    ended: BTreeSet<RoomId>,
    used: BTreeSet<String>,
    guests: Vec<Guest>,
}

impl Server {
    pub(crate) const fn new(order: StartOrder, now_ms: u64, ready_ms: u64) -> Self {
        Self {
            order,
            phase: ProcessPhase::Starting,
            phase_until_ms: ready_ms,
            restarts: 0,
            started_at_ms: now_ms,
            rooms_opened: 0,
            rooms: BTreeMap::new(),
            ended: BTreeSet::new(),
            used: BTreeSet::new(),
            guests: Vec::new(),
        }
    }

    pub(crate) fn instance(&self) -> InstanceId {
        let text = format!("{}.{}", self.order.server, self.restarts);
        text.parse().expect("a server name and a number make an instance id")
    }

    pub(crate) fn players(&self) -> usize {
        self.guests.len() + self.rooms.values().map(|room| room.seats.len()).sum::<usize>()
    }

    /// What its process holds now.
    pub(crate) fn memory_bytes(&self) -> u64 {
        MEMORY_BYTES + u64::from(self.rooms_opened) * LEAK_BYTES
    }

    const fn answers(&self) -> bool {
        matches!(self.phase, ProcessPhase::Ready | ProcessPhase::Unhealthy)
    }

    /// A player with a token comes.
    pub(crate) fn join(
        &mut self,
        claims: &JoinClaims,
        now_ms: u64,
        leaves_ms: u64,
    ) -> Result<Result<(), TurnedAway>, Broken> {
        if !self.answers() || claims.instance.0 != self.instance() {
            return Ok(Err(TurnedAway::WrongServer));
        }
        if now_ms >= claims.exp * 1_000 {
            return Ok(Err(TurnedAway::Expired));
        }
        let id = &claims.room.0;
        if self.ended.contains(id) || self.rooms.get(id).is_some_and(|room| room.epoch > claims.epoch) {
            return Ok(Err(TurnedAway::Ended));
        }
        if !self.used.insert(claims.jti.clone()) {
            return Ok(Err(TurnedAway::Used));
        }
        let room = self.rooms.entry(id.clone()).or_insert_with(|| {
            self.rooms_opened += 1;
            Room {
                epoch: claims.epoch,
                key: claims.key.clone().map(|key| key.0),
                seats: BTreeMap::new(),
                empty_since_ms: now_ms,
            }
        });
        let newcomer = claims.sub.0.clone();
        match room.seats.get(&claims.seat) {
            Some(guest) if guest.player != newcomer => {
                let (holder, seat) = (guest.player.clone(), claims.seat);
                return Err(Broken::SeatTwice { room: id.clone(), seat, holder, newcomer });
            }
            Some(_) | None => {}
        }
        room.seats.insert(claims.seat, Guest { player: newcomer, leaves_ms });
        let (rooms, rooms_max) = (self.rooms.len(), self.order.rooms_per_server);
        if rooms > usize::from(rooms_max) {
            return Err(Broken::Crowded { instance: self.instance(), rooms, rooms_max });
        }
        Ok(Ok(()))
    }

    /// Who was let in beyond what fits is turned out again.
    pub(crate) fn turn_out(&mut self, claims: &JoinClaims) {
        if self.rooms.len() > usize::from(self.order.rooms_per_server) {
            self.rooms.remove(&claims.room.0);
        }
    }

    /// A player comes to a mesh server.
    pub(crate) fn visit(&mut self, player: PlayerId, leaves_ms: u64) -> Result<(), TurnedAway> {
        if !self.answers() {
            return Err(TurnedAway::WrongServer);
        }
        self.guests.push(Guest { player, leaves_ms });
        Ok(())
    }

    /// Players leave, empty rooms end. True when there is something new to report.
    pub(crate) fn pass_time(&mut self, now_ms: u64) -> (bool, Vec<RoomEnded>) {
        let before = self.players();
        self.guests.retain(|guest| guest.leaves_ms > now_ms);
        for room in self.rooms.values_mut() {
            room.seats.retain(|_, guest| guest.leaves_ms > now_ms);
            if !room.seats.is_empty() {
                room.empty_since_ms = now_ms;
            }
        }
        let over: Vec<RoomId> = self
            .rooms
            .iter()
            .filter(|(_, room)| now_ms - room.empty_since_ms >= LINGER_MS)
            .map(|(id, _)| id.clone())
            .collect();
        let ended: Vec<RoomEnded> =
            over.iter().filter_map(|id| self.end_room(id, EndReason::Finished)).collect();
        (before != self.players() || !ended.is_empty(), ended)
    }

    /// Ends a room now, whoever sits in it.
    pub(crate) fn end_room(&mut self, id: &RoomId, reason: EndReason) -> Option<RoomEnded> {
        let room = self.rooms.remove(id)?;
        self.ended.insert(id.clone());
        let result = if reason == EndReason::Finished { json!({"epoch": room.epoch}) } else { Value::Null };
        Some(RoomEnded { room: Text(id.clone()), epoch: room.epoch, reason, result })
    }

    /// The process dies with all that was in it; its agent starts it again.
    pub(crate) fn crash(&mut self, until_ms: u64) {
        self.rooms.clear();
        self.ended.clear();
        self.used.clear();
        self.guests.clear();
        self.rooms_opened = 0;
        self.restarts += 1;
        self.phase = ProcessPhase::Restarting;
        self.phase_until_ms = until_ms;
    }

    pub(crate) fn report(&self) -> ServerReport {
        ServerReport {
            server: self.order.server.clone(),
            instance: Text(self.instance()),
            fleet: self.order.fleet.clone(),
            revision: self.order.revision.clone(),
            phase: self.phase,
            endpoint: format!("127.0.0.1:{}", 7_000),
            tls: false,
            pid: Some(1),
            restarts: self.restarts,
            started_at_ms: self.started_at_ms,
            connections: u32::try_from(self.players()).unwrap_or(u32::MAX),
            rooms: self.rooms.iter().map(|(id, room)| room.report(id)).collect(),
            linked: true,
            measured: Measured {
                memory_bytes: Some(self.memory_bytes()),
                rooms_served: Some(self.rooms_opened),
                ..Measured::default()
            },
            labels: std::collections::BTreeMap::new(),
            held: false,
            message: String::new(),
        }
    }
}

impl Room {
    fn report(&self, id: &RoomId) -> RoomReport {
        let seats = self.seats.iter().map(|(seat, guest)| SeatReport {
            seat: *seat,
            player: Text(guest.player.clone()),
            phase: SeatPhase::Connected,
        });
        RoomReport {
            kept: false,
            room: Text(id.clone()),
            epoch: self.epoch,
            key: self.key.clone().map(Text),
            seats: seats.collect(),
        }
    }
}
