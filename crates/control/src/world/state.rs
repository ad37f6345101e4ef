//! What the world remembers of each thing.
//!
//! Never decides: these are values with the small questions that only they can answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use greenroom_core::allocate::{Candidates, Selector};
use greenroom_core::fleet::{Backoff, Fleet, FleetKind, Reason, StopReason, Wear};
use greenroom_core::gameserver::{GameServer, State};
use greenroom_core::matchmake::{Resume, Ticket};
use greenroom_core::placement::NoPlace;
use greenroom_core::{
    FleetName, HostName, InstanceId, PlayerId, Revision, RoomId, RoomKey, ServerName, TicketId, Timestamp,
};
use greenroom_wire::agent::ProcessPhase;
use greenroom_wire::api::{AllocateRequest, RoomStatus};
use greenroom_wire::link::Measured;
use greenroom_wire::record::{RoomRecord, SeatRecord};
use greenroom_wire::rooms::SeatPhase;
use greenroom_wire::{Text, revision};
use serde_json::Value;
use smol_str::SmolStr;

use super::scaling::Scaling;
use super::{RequestId, StreamId};

/// One configured fleet.
#[derive(Debug)]
pub(super) struct FleetState {
    pub(super) spec: Fleet,
    /// Its servers as the decisions see them, by name; kept in step with [`ServerState`].
    pub(super) view: Vec<GameServer>,
    /// Those of them that could take one more.
    pub(super) candidates: Candidates,
    /// Its rooms, promised and live.
    pub(super) rooms: usize,
    /// Seats in them that are promised or taken.
    pub(super) players: usize,
    pub(super) keys: BTreeMap<RoomKey, RoomId>,
    /// Rooms that calls which fill rooms may be seated in, by how many seats are free.
    pub(super) open: BTreeMap<usize, BTreeSet<RoomId>>,
    /// Calls that wait, in the order they came.
    pub(super) waiting: BTreeMap<u64, Waiting>,
    /// Tickets that wait.
    pub(super) queue: BTreeMap<TicketId, Ticket>,
    /// Whether the queue has changed since the last round of matching began.
    pub(super) queue_changed: bool,
    /// Where a round of matching stopped at a bound.
    pub(super) match_resume: Option<Resume>,
    /// When time alone would find other matches than the last round did.
    pub(super) match_at: Option<Timestamp>,
    /// Matches that found no server at the last step.
    pub(super) matches_waiting: u32,
    pub(super) scaling: Scaling,
    pub(super) replicas_wanted: u32,
    pub(super) waiting_on: Vec<Reason>,
    /// How many servers should start but have no place, and why not.
    pub(super) unplaced: Option<(u32, NoPlace)>,
    /// Nothing is started before this moment: an agent refused a start.
    pub(super) starts_after: Timestamp,
    /// Nothing is started while it waits: servers could not live.
    pub(super) backoff: Backoff,
    pub(super) last_failure: Option<Failure>,
    /// Calls that found no place in time, since this process decides.
    pub(super) misses: u64,
}

/// A server that died or never answered.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) server: ServerName,
    pub(super) message: String,
    pub(super) at: Timestamp,
}

impl FleetState {
    pub(super) fn new(spec: Fleet, now: Timestamp) -> Self {
        Self {
            scaling: Scaling::new(&spec, now),
            replicas_wanted: spec.replicas_min,
            spec,
            view: Vec::new(),
            candidates: Candidates::default(),
            rooms: 0,
            players: 0,
            keys: BTreeMap::new(),
            open: BTreeMap::new(),
            waiting: BTreeMap::new(),
            queue: BTreeMap::new(),
            queue_changed: false,
            match_resume: None,
            match_at: None,
            matches_waiting: 0,
            waiting_on: Vec::new(),
            unplaced: None,
            starts_after: Timestamp::default(),
            backoff: Backoff::default(),
            last_failure: None,
            misses: 0,
        }
    }

    /// Seats of one room; 0 for mesh.
    pub(super) const fn seats_per_room(&self) -> u16 {
        revision::sizes(self.spec.kind).1
    }

    pub(super) const fn is_mesh(&self) -> bool {
        matches!(self.spec.kind, FleetKind::Mesh)
    }

    /// What is counted of a room has changed.
    pub(super) fn recount(&mut self, id: &RoomId, before: Counted, now: Counted) {
        self.players = self.players + now.taken - before.taken;
        if before.open == now.open {
            return;
        }
        if let Some(rooms) = self.open.get_mut(&before.open) {
            rooms.remove(id);
            if rooms.is_empty() {
                self.open.remove(&before.open);
            }
        }
        if now.open > 0 {
            self.open.entry(now.open).or_default().insert(id.clone());
        }
    }

    /// One of its servers, as the decisions see it.
    pub(super) fn seen(&self, name: &ServerName) -> Option<&GameServer> {
        let at = self.view.binary_search_by(|seen| seen.name.cmp(name)).ok()?;
        Some(&self.view[at])
    }

    /// Whether more servers are there, ordered ones included, than the fleet may have.
    pub(super) fn is_above_maximum(&self) -> bool {
        let live = self.view.iter().filter(|server| server.state != State::Stopped).count();
        live > self.spec.replicas_max as usize
    }
}

/// A call that waits for a server.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) request: RequestId,
    pub(super) asked_at: Timestamp,
    pub(super) deadline: Timestamp,
    pub(super) ask: Ask,
}

/// What a waiting call asks for.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Endpoint(Selector),
    Room(Box<RoomAsk>),
}

/// A checked allocation request.
#[derive(Debug, Clone)]
pub(super) struct RoomAsk {
    pub(super) body: AllocateRequest,
    /// Hash of all that makes the request this one; empty where no idempotency key asks for it.
    pub(super) hash: String,
    /// Servers that a new room may be made on.
    pub(super) selector: Selector,
}

impl Ask {
    /// Which servers will do.
    pub(super) const fn selector(&self) -> &Selector {
        match self {
            Self::Endpoint(selector) => selector,
            Self::Room(ask) => &ask.selector,
        }
    }
}

/// A call that waits for a piece of output.
#[derive(Debug)]
pub(super) struct LogsWaiting {
    pub(super) server: ServerName,
    pub(super) host: HostName,
    pub(super) deadline: Timestamp,
}

/// One host.
#[derive(Debug)]
pub(super) struct HostState {
    pub(super) stream: Option<StreamId>,
    pub(super) boot: String,
    pub(super) labels: Arc<BTreeMap<String, String>>,
    pub(super) servers_max: u32,
    pub(super) heard_at: Timestamp,
    pub(super) connected: bool,
    /// Whether it has reported on its present stream: until then nobody knows what runs there.
    pub(super) reported: bool,
    /// Known from the records and not yet heard: planning waits for its report.
    pub(super) awaited: bool,
    /// Servers on it, those that only a stored room names included.
    pub(super) servers: BTreeSet<ServerName>,
    /// Those of them that somebody is on, or may be.
    pub(super) occupied: BTreeSet<ServerName>,
    /// Whether its agent asked for that to be told.
    pub(super) wants_occupied: bool,
    /// Whether its agent runs servers with a port for an Agones SDK.
    pub(super) agones: bool,
    /// What its agent was told of that on the present stream.
    pub(super) told_occupied: Option<bool>,
    /// Why the engine around its agent does not keep it.
    pub(super) trouble: String,
}

/// One gameserver.
#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) fleet: FleetName,
    pub(super) host: HostName,
    pub(super) instance: InstanceId,
    pub(super) revision: Revision,
    pub(super) phase: ProcessPhase,
    /// When the order was sent that no report has confirmed yet.
    pub(super) ordered_at: Option<Timestamp>,
    /// When it was ordered, until it answers for the first time.
    pub(super) asked_at: Option<Timestamp>,
    /// Why nothing new is given to it.
    pub(super) cordoned: Option<StopReason>,
    /// Why it was told to stop.
    pub(super) stop: Option<StopReason>,
    /// When this leader last sent that order.
    pub(super) stop_sent_at: Option<Timestamp>,
    /// Its host was silent for so long that others take its place. Nobody can tell it to stop there, so it was not: the next report of
    /// it takes it up again.
    pub(super) written_off: bool,
    pub(super) endpoint: SmolStr,
    /// Whether that port speaks TLS.
    pub(super) tls: bool,
    pub(super) pid: Option<u32>,
    pub(super) restarts: u32,
    pub(super) started_at: Timestamp,
    /// When its present process was first heard of; of one that ran already, when its server was ordered.
    pub(super) process_at: Timestamp,
    pub(super) connections: u32,
    /// It said over the SDK that it is in use.
    pub(super) held: bool,
    pub(super) in_flight: u32,
    /// Whether its rooms may outlive its process.
    pub(super) keeps_rooms: bool,
    /// Whether it tells of its rooms at all.
    pub(super) linked: bool,
    pub(super) measured: Measured,
    /// Those that its process has set.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) message: String,
}

/// One live or promised room.
#[derive(Debug)]
pub(super) struct RoomState {
    pub(super) fleet: FleetName,
    pub(super) key: Option<RoomKey>,
    pub(super) epoch: u32,
    /// Whether calls that fill rooms may be seated in it.
    pub(super) open: bool,
    pub(super) server: ServerName,
    pub(super) instance: InstanceId,
    pub(super) host: HostName,
    pub(super) endpoint: SmolStr,
    pub(super) tls: bool,
    pub(super) created_at: Timestamp,
    pub(super) seats: Vec<Option<SeatState>>,
    /// Players who sat here and have left.
    pub(super) played: Vec<PlayerId>,
    pub(super) init: Value,
    /// Whether its server has told of it since this process knows it.
    pub(super) reported: bool,
    /// From the records: what happened before this process started is unknown.
    pub(super) restored: bool,
    /// Whether it outlives its process.
    pub(super) kept: bool,
    /// Since when nobody has a seat and nobody reports it.
    pub(super) vacant_since: Option<Timestamp>,
    /// What is counted of it now.
    pub(super) counted: Counted,
}

/// What is counted of a room elsewhere. The default is what is counted of a room that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counted {
    /// Whether a player has ever been seen in it.
    pub(super) live: bool,
    /// Seats that a call which fills rooms may have; 0 unless the room is open.
    pub(super) open: usize,
    /// Seats that are promised or taken.
    pub(super) taken: usize,
    /// Until when nothing follows from a report that does not tell of it: nobody has come yet, and the first promise
    /// runs out then. `None`: something may follow at any time.
    pub(super) promised_until: Option<Timestamp>,
}

/// What is on a server. One with nothing on it has none.
#[derive(Debug, Default)]
pub(super) struct RoomsOn {
    /// Promised and live ones.
    pub(super) ids: BTreeSet<RoomId>,
    /// Those in which a player has been seen.
    pub(super) live: usize,
    /// Those that are promised until some moment, by that moment: a report every second passes most of them by.
    promised: BTreeSet<(Timestamp, RoomId)>,
    /// All others.
    watched: BTreeSet<RoomId>,
    /// The process that all of them are on; `None` when that is not known to be one.
    pub(super) process: Option<InstanceId>,
}

impl RoomsOn {
    /// A room is here.
    pub(super) fn insert(&mut self, id: &RoomId, room: &RoomState) {
        if self.ids.is_empty() {
            self.process = Some(room.instance.clone());
        } else if self.process.as_ref() != Some(&room.instance) {
            self.process = None;
        }
        self.ids.insert(id.clone());
        self.live += usize::from(room.counted.live);
        self.watch(id, room.counted);
    }

    /// A room is not here any more.
    pub(super) fn remove(&mut self, id: &RoomId, counted: Counted) {
        self.ids.remove(id);
        self.live -= usize::from(counted.live);
        self.unwatch(id, counted);
    }

    /// What is counted of a room has changed.
    pub(super) fn recount(&mut self, id: &RoomId, before: Counted, now: Counted) {
        self.live = self.live + usize::from(now.live) - usize::from(before.live);
        if before.promised_until != now.promised_until {
            self.unwatch(id, before);
            self.watch(id, now);
        }
    }

    fn watch(&mut self, id: &RoomId, counted: Counted) {
        match counted.promised_until {
            Some(until) => self.promised.insert((until, id.clone())),
            None => self.watched.insert(id.clone()),
        };
    }

    fn unwatch(&mut self, id: &RoomId, counted: Counted) {
        match counted.promised_until {
            Some(until) => self.promised.remove(&(until, id.clone())),
            None => self.watched.remove(id),
        };
    }

    /// The rooms of which something may follow when they are not told of and promises until `over` have run out.
    pub(super) fn missable(&self, over: Timestamp) -> BTreeSet<RoomId> {
        let run_out = self.promised.iter().take_while(|(until, _)| *until <= over).map(|(_, id)| id);
        run_out.chain(&self.watched).cloned().collect()
    }
}

/// One taken or promised seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeatState {
    pub(super) player: PlayerId,
    /// The token given out last; empty for a seat learnt from a report.
    pub(super) token_id: SmolStr,
    pub(super) expires_at: Timestamp,
    /// Whether that token may still be used for the first time.
    pub(super) outstanding: bool,
    /// As reported last; `None` while the player has not arrived.
    pub(super) phase: Option<SeatPhase>,
}

impl ServerState {
    /// What its process has gone through.
    pub(super) fn wear(&self, now: Timestamp) -> Wear {
        Wear {
            age: now.since(self.process_at),
            rooms: self.measured.rooms_served,
            memory_bytes: self.measured.memory_bytes,
        }
    }
}

impl RoomState {
    /// Whether a player has ever been seen in it.
    pub(super) fn is_live(&self) -> bool {
        !self.played.is_empty() || self.taken().any(|(_, seat)| seat.phase.is_some())
    }

    pub(super) fn taken(&self) -> impl Iterator<Item = (u16, &SeatState)> {
        (0u16..).zip(&self.seats).filter_map(|(index, seat)| Some((index, seat.as_ref()?)))
    }

    /// What should be counted of it.
    pub(super) fn to_count(&self) -> Counted {
        let taken = self.taken().count();
        Counted {
            live: self.is_live(),
            open: if self.open { self.seats.len() - taken } else { 0 },
            taken,
            promised_until: self.promised_until(),
        }
    }

    fn promised_until(&self) -> Option<Timestamp> {
        let awaited = |seat: &SeatState| seat.outstanding && seat.phase.is_none();
        // One that outlives its process may have none at any time.
        if self.kept || !self.taken().all(|(_, seat)| awaited(seat)) {
            return None;
        }
        self.taken().map(|(_, seat)| seat.expires_at).min()
    }

    pub(super) fn seats_max(&self) -> u16 {
        u16::try_from(self.seats.len()).unwrap_or(u16::MAX)
    }

    pub(super) fn record(&self, room: &RoomId) -> RoomRecord {
        RoomRecord {
            version: 1,
            room: Text(room.clone()),
            fleet: Text(self.fleet.clone()),
            key: self.key.clone().map(Text),
            epoch: self.epoch,
            open: self.open,
            server: Text(self.server.clone()),
            instance: Text(self.instance.clone()),
            host: Text(self.host.clone()),
            endpoint: self.endpoint.clone(),
            tls: self.tls,
            created_at_ms: self.created_at.unix_ms(),
            seats_max: self.seats_max(),
            seats: self.taken().map(|(index, seat)| seat.record(index)).collect(),
            played: self.played.iter().cloned().map(Text).collect(),
            init: self.init.clone(),
            kept: self.kept,
        }
    }
}

impl SeatState {
    pub(super) fn record(&self, index: u16) -> SeatRecord {
        SeatRecord {
            seat: index,
            player: Text(self.player.clone()),
            token_id: self.token_id.clone(),
            expires_at_ms: self.expires_at.unix_ms(),
        }
    }
}

/// A room that is over, shown for a while.
#[derive(Debug)]
pub(super) struct EndedRoom {
    pub(super) status: RoomStatus,
    pub(super) ended_at: Timestamp,
}

/// A ticket that waits; its players are in the fleet's queue.
#[derive(Debug)]
pub(super) struct TicketState {
    pub(super) fleet: FleetName,
    pub(super) owner: String,
    pub(super) enqueued_at: Timestamp,
}

/// What one owner of tickets has not acknowledged yet, and its calls that wait.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) unread: BTreeSet<TicketId>,
    pub(super) polls: BTreeMap<RequestId, Timestamp>,
}

impl Outbox {
    pub(super) fn is_idle(&self) -> bool {
        self.unread.is_empty() && self.polls.is_empty()
    }
}
