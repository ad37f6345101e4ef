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
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::invariant::Broken;

/// How long an empty room waits for somebody to come back.
const LINGER_MS: u64 = 2_000;
/// How long a room is kept for the next process, and how long a seat for who does not come back to it.
const KEPT_MS: u64 = 30_000;
const AWAY_MS: u64 = 5_000;
/// What counts as a late event loop, in a run in which that matters.
pub(crate) const LATE_MS: u32 = 50;

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

/// Rooms between two processes.
#[derive(Debug, Default)]
struct Kept {
    rooms: BTreeMap<RoomId, Room>,
    since_ms: u64,
}

/// Who sits on a seat, or is connected to a mesh server.
#[derive(Debug)]
struct Guest {
    player: PlayerId,
    leaves_ms: u64,
    /// Away until then, on a seat that is kept.
    back_at_ms: u64,
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
    /// Of the process before.
    kept: Kept,
    /// Until then its event loop is late.
    pub(crate) late_until_ms: u64,
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
            kept: Kept { rooms: BTreeMap::new(), since_ms: 0 },
            late_until_ms: 0,
        }
    }

    pub(crate) fn instance(&self) -> InstanceId {
        let text = format!("{}.{}", self.order.server, self.restarts);
        text.parse().expect("a server name and a number make an instance id")
    }

    /// Who is on it, away or not.
    pub(crate) fn players(&self) -> usize {
        self.guests.len() + self.rooms.values().map(|room| room.seats.len()).sum::<usize>()
    }

    /// Its rooms, those that wait for its next process too.
    pub(crate) fn all_rooms(&self) -> impl Iterator<Item = &RoomId> {
        self.rooms.keys().chain(self.kept.rooms.keys())
    }

    /// Who waits for its next process, while that is what it is promised.
    pub(crate) fn awaiting(&self, now_ms: u64) -> usize {
        if now_ms - self.kept.since_ms >= KEPT_MS {
            return 0;
        }
        let seats = self.kept.rooms.values().flat_map(|room| room.seats.values());
        seats.filter(|guest| guest.leaves_ms > now_ms).count()
    }

    fn connections(&self, now_ms: u64) -> usize {
        let seats = self.rooms.values().flat_map(|room| room.seats.values());
        seats.chain(&self.guests).filter(|guest| guest.back_at_ms <= now_ms).count()
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
        // A token of a process before is as good as its own for a room that has come over.
        let is_ours = claims.instance.0 == self.instance() || self.rooms.contains_key(&claims.room.0);
        if !self.answers() || !is_ours {
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
        room.seats.insert(claims.seat, Guest { player: newcomer, leaves_ms, back_at_ms: now_ms });
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
        self.guests.push(Guest { player, leaves_ms, back_at_ms: 0 });
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

    /// The process dies; its agent starts it again. All that was in it dies too, unless its rooms outlive it.
    pub(crate) fn crash(&mut self, now_ms: u64, until_ms: u64, keeps: bool) {
        let rooms = std::mem::take(&mut self.rooms);
        if !keeps {
            self.kept.rooms.clear();
        } else if !rooms.is_empty() {
            self.kept = Kept { rooms, since_ms: now_ms };
        }
        if !keeps {
            self.ended.clear();
            self.used.clear();
        }
        self.guests.clear();
        self.rooms_opened = 0;
        self.restarts += 1;
        self.phase = ProcessPhase::Restarting;
        self.phase_until_ms = until_ms;
    }

    /// The process is there and takes up what the one before has left. Its players come back, most of them.
    pub(crate) fn begin(&mut self, now_ms: u64, rng: &mut ChaCha8Rng) -> u64 {
        let Kept { mut rooms, since_ms } = std::mem::take(&mut self.kept);
        // Too late, or they cannot be read.
        if now_ms - since_ms >= KEPT_MS || rng.random_bool(0.05) {
            return 0;
        }
        for room in rooms.values_mut() {
            room.empty_since_ms = now_ms;
            for guest in room.seats.values_mut() {
                guest.back_at_ms = now_ms + rng.random_range(0..=4_000);
                if rng.random_bool(0.1) {
                    guest.back_at_ms = u64::MAX;
                    guest.leaves_ms = guest.leaves_ms.min(now_ms + AWAY_MS);
                }
            }
        }
        self.rooms = rooms;
        self.rooms_opened = u32::try_from(self.rooms.len()).unwrap_or(u32::MAX);
        self.rooms.len() as u64
    }

    pub(crate) fn report(&self, now_ms: u64, keeps: bool) -> ServerReport {
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
            connections: u32::try_from(self.connections(now_ms)).unwrap_or(u32::MAX),
            rooms: self.rooms.iter().map(|(id, room)| room.report(id, now_ms, keeps)).collect(),
            keeps_rooms: keeps,
            // What a process is asked before it is ready, and after its end, nobody can tell.
            linked: self.answers() || self.phase == ProcessPhase::Stopping,
            measured: Measured {
                memory_bytes: Some(self.memory_bytes()),
                rooms_served: Some(self.rooms_opened),
                loop_lag_ms: Some(if now_ms < self.late_until_ms { 4 * LATE_MS } else { 1 }),
                ..Measured::default()
            },
            labels: std::collections::BTreeMap::new(),
            held: false,
            message: String::new(),
        }
    }
}

impl Room {
    fn report(&self, id: &RoomId, now_ms: u64, kept: bool) -> RoomReport {
        let seats = self.seats.iter().map(|(seat, guest)| SeatReport {
            seat: *seat,
            player: Text(guest.player.clone()),
            phase: if guest.back_at_ms <= now_ms { SeatPhase::Connected } else { SeatPhase::Away },
        });
        RoomReport {
            kept,
            room: Text(id.clone()),
            epoch: self.epoch,
            key: self.key.clone().map(Text),
            seats: seats.collect(),
        }
    }
}
