//! A world with one agent that does what it is told, and callers that remember their answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_core::allocate::Preference;
use greenroom_core::autoscale::Autoscale;
use greenroom_core::fleet::{Fleet, FleetKind, Probe, Recycle, Template};
use greenroom_core::matchmake::Rules;
use greenroom_core::{FleetName, PlayerId, ServerName, Timestamp};
use greenroom_wire::Text;
use greenroom_wire::agent::{FromAgent, Hello, ProcessPhase, Report, ServerReport, ToAgent, VERSION};
use greenroom_wire::api::{
    AllocateRequest, Allocation, Assignment, AssignmentsRequest, RoomStatus, TicketBody, TicketsAnswer,
    TicketsRequest, TriggerFired,
};
use greenroom_wire::error::Code;
use greenroom_wire::link::Measured;
use greenroom_wire::record::RoomRecord;
use greenroom_wire::rooms::{EndReason, RoomEnded, RoomReport, SeatPhase, SeatReport};
use greenroom_wire::token::PublicKeys;
use serde_json::Value;

use crate::world::{
    Answer, Bounds, Call, Effect, Event, IdSource, Records, Refusal, RequestId, Results, StreamId, Timings,
    World, WorldConfig, Write,
};

/// A virtual moment on a whole second.
pub(super) const START_MS: u64 = 1_000_000_000;

pub(super) fn text<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(super) fn players(names: &[&str]) -> Vec<Text<PlayerId>> {
    names.iter().map(|name| Text(text(name))).collect()
}

pub(super) fn room_fleet(name: &str, replicas: (u32, u32), rooms_per_server: u16, seats: u16) -> Fleet {
    Fleet {
        name: text(name),
        kind: FleetKind::Room { rooms_per_server, seats_per_room: seats },
        template: Template {
            command: vec!["game".to_owned()],
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            probe: Probe::EngineIo,
            stop_grace: Duration::from_secs(10),
            min_ready: Duration::ZERO,
            agones: false,
        },
        revision: text("rev1"),
        replicas_min: replicas.0,
        replicas_max: replicas.1,
        matching: Rules::first_come(seats),
        autoscale: Autoscale::default(),
        allocation: Preference::Packing,
        spread: greenroom_core::placement::Spread::default(),
        start_timeout: Duration::from_secs(60),
        recycle: Recycle::default(),
        full_at: greenroom_core::fleet::FullAt::default(),
        ports: None,
    }
}

pub(crate) fn mesh_fleet(name: &str, replicas: (u32, u32)) -> Fleet {
    let mut fleet = room_fleet(name, replicas, 1, 1);
    fleet.kind = FleetKind::Mesh;
    fleet.allocation = Preference::LeastConnected;
    fleet.matching = Rules::default();
    fleet
}

/// The store, as the effects leave it.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    pub(super) rooms: BTreeMap<String, RoomRecord>,
    pub(super) records: Records,
}

/// What runs on the one host.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) report: ServerReport,
}

pub(super) struct Rig {
    pub(super) world: World,
    pub(super) config: WorldConfig,
    pub(super) now: Timestamp,
    pub(super) kept: Kept,
    pub(super) servers: BTreeMap<ServerName, Running>,
    /// Without `Occupied`.
    pub(super) orders: Vec<ToAgent>,
    /// Whether somebody is on the host, each time its agent was told.
    pub(super) occupied: Vec<bool>,
    pub(super) closed: Vec<(StreamId, String)>,
    pub(super) delivered: Vec<String>,
    /// Reader, key and text of each message.
    pub(super) posts: Vec<(String, String, String)>,
    pub(super) fired: Vec<TriggerFired>,
    pub(super) answers: BTreeMap<RequestId, Result<Answer, Refusal>>,
    /// Whether the agent carries out what it is told.
    pub(super) agent_obeys: bool,
    next: u64,
    pub(super) stream: StreamId,
}

pub(super) const HOST: &str = "h1";

impl Rig {
    /// A world whose agent has started the minimum of each fleet, all ready.
    pub(super) fn ready(fleets: Vec<Fleet>) -> Self {
        let mut rig = Self::new(fleets, Bounds::default());
        rig.connect();
        rig.run_ms(500);
        rig.report();
        rig
    }

    pub(super) fn new(fleets: Vec<Fleet>, bounds: Bounds) -> Self {
        let config = WorldConfig {
            fleets,
            keys: PublicKeys::default(),
            term: 1,
            without_leader: None,
            results: Results::Deliver,
            news: crate::world::NewsConfig::default(),
            triggers: Vec::new(),
            timings: Timings::default(),
            bounds,
        };
        let now = Timestamp::from_unix_ms(START_MS);
        let ids = IdSource::new([7; 32]);
        let (world, _) = World::restore(Records::default(), config.clone(), ids, now);
        Self {
            world,
            config,
            now,
            kept: Kept::default(),
            servers: BTreeMap::new(),
            orders: Vec::new(),
            occupied: Vec::new(),
            closed: Vec::new(),
            delivered: Vec::new(),
            posts: Vec::new(),
            fired: Vec::new(),
            answers: BTreeMap::new(),
            agent_obeys: true,
            next: 0,
            stream: StreamId(0),
        }
    }

    /// `kill -9` of control and a new start from what was stored. The agent has not come back yet.
    pub(super) fn restart(&mut self) {
        self.config.term += 1;
        let mut records = self.kept.records.clone();
        records.rooms = self.kept.rooms.values().cloned().collect();
        let ids = IdSource::new([u8::try_from(self.config.term).unwrap() + 7; 32]);
        let (world, effects) = World::restore(records, self.config.clone(), ids, self.now);
        self.world = world;
        self.answers.clear();
        self.orders.clear();
        self.take(effects);
    }

    pub(super) fn connect(&mut self) {
        self.connect_as(HOST, "boot1", 0);
        self.report();
    }

    pub(super) fn connect_as(&mut self, host: &str, boot: &str, term_seen: u64) -> StreamId {
        let stream = StreamId(self.number());
        let hello = Hello {
            version: VERSION,
            host: Text(text(host)),
            boot: boot.to_owned(),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            servers_max: 100,
            term_seen,
            wants_occupied: !boot.starts_with("older"),
            agones: !boot.starts_with("older"),
        };
        if host == HOST {
            self.stream = stream;
        }
        self.event(Event::StreamOpened { stream, hello });
        stream
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn event(&mut self, event: Event) {
        let effects = self.world.handle(self.now, event);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Write(write) => self.keep(*write),
                Effect::Order { stream: _, message } => self.obey(*message),
                Effect::CloseStream { stream, reason } => self.closed.push((stream, reason)),
                Effect::Reply { request, answer } => {
                    assert!(self.answers.insert(request, *answer).is_none(), "{request:?} answered twice");
                }
                Effect::Deliver(record) => {
                    self.delivered.push(format!("{}.{}", record.body.room, record.body.epoch));
                }
                Effect::Post { reader, key, text } => self.posts.push((reader, key, text)),
                Effect::Act(fired) => self.fired.push(*fired),
                Effect::Note(_) => {}
            }
        }
    }

    fn keep(&mut self, write: Write) {
        let records = &mut self.kept.records;
        match write {
            Write::PutRoom(record) => drop(self.kept.rooms.insert(record.room.to_string(), record)),
            Write::DeleteRoom(room) => drop(self.kept.rooms.remove(room.as_str())),
            // Told by the rooms themselves to whoever loads all of them.
            Write::PutKey { .. } | Write::DeleteKey { .. } => {}
            Write::PutAnswer { key, record } => {
                records.answers.retain(|(known, _)| *known != key);
                records.answers.push((key, record));
            }
            Write::DeleteAnswer { key } => records.answers.retain(|(known, _)| *known != key),
            Write::PutResult { record, .. } => records.results.push(record),
            Write::DeleteResult { key } => {
                records.results.retain(|known| format!("{}.{}", known.body.room, known.body.epoch) != key);
            }
            Write::PutHost(record) => records.hosts.push(record),
            Write::DeleteHost(host) => records.hosts.retain(|known| known.host.0 != host),
            Write::PutAudit(record) => records.audit.push(record),
            Write::DeleteAudit(number) => records.audit.retain(|known| known.entry.number != number),
            Write::PutDecision { record, .. } => records.decisions.push(record),
            Write::PutScale(record) => {
                records.scale_orders.retain(|known| known.fleet != record.fleet);
                records.scale_orders.push(record);
            }
            Write::PutDrain(record) => records.drains.push(record),
            Write::DeleteDrain { kind, name } => {
                records.drains.retain(|known| (known.kind, &known.name) != (kind, &name));
            }
            Write::PutNews(record) => {
                records.news.retain(|known| known.key() != record.key());
                records.news.push(record);
            }
            Write::DeleteNews { key } => records.news.retain(|known| known.key() != key),
            Write::PutTrigger(record) => {
                records.triggers.retain(|known| known.name != record.name);
                records.triggers.push(record);
            }
            Write::DeleteTrigger { name } => records.triggers.retain(|known| known.name != name),
            Write::PutTerm(_) => {}
        }
    }

    fn obey(&mut self, order: ToAgent) {
        if let ToAgent::Occupied { occupied } = order {
            return self.occupied.push(occupied);
        }
        if let ToAgent::Start { order, .. } = &order
            && self.agent_obeys
        {
            let name = order.server.0.clone();
            let port = 7000 + self.servers.len();
            let report = ServerReport {
                server: order.server.clone(),
                instance: Text(text(&format!("{name}.1"))),
                fleet: order.fleet.clone(),
                revision: order.revision.clone(),
                phase: ProcessPhase::Ready,
                endpoint: format!("127.0.0.1:{port}"),
                tls: false,
                pid: Some(1),
                restarts: 0,
                started_at_ms: self.now.unix_ms(),
                connections: 0,
                rooms: Vec::new(),
                keeps_rooms: false,
                linked: true,
                measured: Measured::default(),
                labels: std::collections::BTreeMap::new(),
                held: false,
                message: String::new(),
            };
            self.servers.entry(name).or_insert(Running { report });
        }
        if let ToAgent::Stop { server, .. } = &order
            && self.agent_obeys
        {
            self.servers.remove(&server.0);
        }
        self.orders.push(order);
    }

    /// The agent reports all it runs.
    pub(super) fn report(&mut self) {
        let servers = self.servers.values().map(|running| running.report.clone()).collect();
        self.say(FromAgent::Report(Report { at_ms: None, term: None, trouble: String::new(), servers }));
    }

    /// The same, made at another moment than now.
    pub(super) fn report_made_at(&mut self, at_ms: u64) {
        let servers = self.servers.values().map(|running| running.report.clone()).collect();
        self.say(FromAgent::Report(Report {
            at_ms: Some(at_ms),
            term: None,
            trouble: String::new(),
            servers,
        }));
    }

    pub(super) fn say(&mut self, message: FromAgent) {
        let stream = self.stream;
        self.event(Event::StreamSaid { stream, message: Box::new(message) });
    }

    /// Time passes in ticks; the agent is silent.
    pub(super) fn silent_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            self.now = self.now + Duration::from_millis(100);
            self.event(Event::Tick);
        }
    }

    /// Time passes in ticks; the agent reports each second.
    pub(super) fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            self.silent_ms(100);
            if self.now.unix_ms().is_multiple_of(1_000) {
                self.report();
            }
        }
    }

    pub(super) fn ask(&mut self, call: Call) -> RequestId {
        let request = RequestId(self.number());
        self.event(Event::Asked { request, call: Box::new(call) });
        request
    }

    /// The answer, which must be there.
    pub(super) fn answer(&mut self, request: RequestId) -> Result<Answer, Refusal> {
        self.answers.remove(&request).expect("answered")
    }

    pub(super) fn now_answered(&mut self, call: Call) -> Result<Answer, Refusal> {
        let request = self.ask(call);
        self.answer(request)
    }

    pub(super) fn allocate(&mut self, body: AllocateRequest) -> Result<Allocation, Refusal> {
        let call = Call::Allocate { fleet: text("arena"), body };
        self.now_answered(call).map(allocation)
    }

    pub(super) fn file(&mut self, tickets: &[(&str, &[&str])]) -> Result<TicketsAnswer, Refusal> {
        let tickets = tickets
            .iter()
            .map(|(id, names)| TicketBody::new(text(id), names.iter().map(|name| text(name))))
            .collect();
        self.file_bodies(tickets)
    }

    pub(super) fn file_bodies(&mut self, tickets: Vec<TicketBody>) -> Result<TicketsAnswer, Refusal> {
        let body = TicketsRequest { owner: "lobby".to_owned(), tickets };
        match self.now_answered(Call::FileTickets { fleet: text("arena"), body })? {
            Answer::Tickets(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }

    /// What the lobby is told now, with these acknowledged.
    pub(super) fn poll(&mut self, ack: &[&str]) -> Vec<Assignment> {
        let ack = ack.iter().map(|id| Text(text(id))).collect();
        let body = AssignmentsRequest { owner: "lobby".to_owned(), ack, wait_ms: Some(0) };
        match self.now_answered(Call::Assignments(body)).unwrap() {
            Answer::Assignments { assignments, .. } => {
                assignments.iter().map(|ticket| ticket.signed(sign)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn room(&mut self, id: &str) -> RoomStatus {
        match self.now_answered(Call::Room(text(id))).unwrap() {
            Answer::Room(room) => room,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn fleet(&mut self, name: &str) -> greenroom_wire::api::FleetStatus {
        match self.now_answered(Call::Fleet(text(name))).unwrap() {
            Answer::Fleet(fleet) => fleet,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn overview(&mut self) -> greenroom_wire::api::Overview {
        match self.now_answered(Call::Overview).unwrap() {
            Answer::Overview(overview) => *overview,
            other => panic!("{other:?}"),
        }
    }

    /// The server seats these players in a room it was promised; an empty list leaves the room open without players.
    pub(super) fn seat(&mut self, of: &Allocation, seated: &[(u16, &str)]) {
        let server = self.servers.get_mut(&of.server.0).expect("the room's server runs");
        server.report.rooms.retain(|room| room.room != of.room);
        server.report.rooms.push(RoomReport {
            room: of.room.clone(),
            epoch: of.epoch,
            key: of.key.clone(),
            seats: seated
                .iter()
                .map(|(seat, player)| SeatReport {
                    seat: *seat,
                    player: Text(text(player)),
                    phase: SeatPhase::Connected,
                })
                .collect(),
            kept: false,
        });
        self.report();
    }

    /// The server tells that a room has ended.
    pub(super) fn end(&mut self, of: &Allocation, reason: EndReason, result: Value) {
        let server = self.servers.get_mut(&of.server.0).expect("the room's server runs");
        server.report.rooms.retain(|room| room.room != of.room);
        let message = FromAgent::RoomEnded {
            server: of.server.clone(),
            instance: server.report.instance.clone(),
            ended: RoomEnded { room: of.room.clone(), epoch: of.epoch, reason, result },
        };
        self.say(message);
    }

    /// The process of a server dies and is started again.
    pub(super) fn kill(&mut self, name: &ServerName) {
        let report = &mut self.servers.get_mut(name).expect("it runs").report;
        report.restarts += 1;
        report.instance = Text(text(&format!("{name}.{}", report.restarts + 1)));
        report.phase = ProcessPhase::Restarting;
        report.rooms.clear();
        report.connections = 0;
        self.report();
    }

    pub(super) fn servers_of(&self, fleet: &str) -> Vec<ServerName> {
        let fleet: FleetName = text(fleet);
        let of_fleet = self.servers.iter().filter(|(_, running)| running.report.fleet.0 == fleet);
        of_fleet.map(|(name, _)| name.clone()).collect()
    }
}

pub(super) fn sign(claims: &greenroom_wire::token::JoinClaims) -> String {
    serde_json::to_string(claims).unwrap()
}

pub(super) fn allocation(answer: Answer) -> Allocation {
    match answer {
        Answer::Allocated(grant) => grant.signed(sign),
        other => panic!("{other:?}"),
    }
}

pub(super) fn request(key: Option<&str>, names: &[&str]) -> AllocateRequest {
    AllocateRequest {
        key: key.map(|key| Text(text(key))),
        players: players(names),
        idempotency_key: None,
        timeout_ms: Some(0),
        init: Value::Null,
        fill: false,
        select: None,
    }
}

pub(super) fn code(outcome: Result<Allocation, Refusal>) -> Code {
    outcome.unwrap_err().code()
}

pub(super) fn distinct<T: Ord>(items: impl IntoIterator<Item = T>) -> usize {
    items.into_iter().collect::<BTreeSet<T>>().len()
}
