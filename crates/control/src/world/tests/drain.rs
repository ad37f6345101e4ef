//! Hosts and zones that are taken out of use: nothing new there, nobody is disturbed, and the order outlives control.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_core::fleet::Fleet;
use greenroom_core::{HostName, ServerName, Timestamp};
use greenroom_wire::Text;
use greenroom_wire::agent::{FromAgent, Report, ServerReport, ToAgent};
use greenroom_wire::api::{Allocation, DrainKind, DrainRequest, DrainStatus, HostList, StateWord};
use greenroom_wire::error::Code;
use greenroom_wire::rooms::{RoomReport, SeatPhase, SeatReport};

use super::rig::{START_MS, request, room_fleet, text};
use super::zones::{hello, of_one, running};
use crate::world::{
    Actor, Answer, Call, Effect, Event, IdSource, Records, Refusal, RequestId, StreamId, World, WorldConfig,
    Write,
};

/// Hosts h1 in zone a and h2 in zone b, whose agents obey.
pub(super) struct Rig {
    world: World,
    config: WorldConfig,
    now: Timestamp,
    hosts: Vec<(HostName, StreamId, BTreeMap<ServerName, ServerReport>)>,
    kept: Records,
    stopped: Vec<ServerName>,
    pub(super) answer: Option<Result<Answer, Refusal>>,
    pub(super) next: u64,
}

impl Rig {
    fn new(replicas: (u32, u32)) -> Self {
        Self::of(room_fleet("arena", replicas, 2, 4))
    }

    pub(super) fn of(fleet: Fleet) -> Self {
        let config = of_one(fleet);
        let now = Timestamp::from_unix_ms(START_MS);
        let (world, _) = World::restore(Records::default(), config.clone(), IdSource::new([3; 32]), now);
        let hosts = ["h1", "h2"].map(|name| (text(name), StreamId(0), BTreeMap::new())).into_iter().collect();
        let kept = Records::default();
        let mut rig = Self { world, config, now, hosts, kept, stopped: Vec::new(), answer: None, next: 0 };
        rig.connect();
        rig.run_s(2);
        rig
    }

    fn connect(&mut self) {
        for (at, zone) in ["a", "b"].into_iter().enumerate() {
            self.next += 1;
            self.hosts[at].1 = StreamId(self.next);
            let hello = hello(&self.hosts[at].0, zone, 10);
            self.event(Event::StreamOpened { stream: self.hosts[at].1, hello });
        }
        self.report();
    }

    /// `kill -9` of control, and the agents come back.
    fn restart(&mut self) {
        self.config.term += 1;
        let ids = IdSource::new([4; 32]);
        self.world = World::restore(self.kept.clone(), self.config.clone(), ids, self.now).0;
        self.connect();
    }

    pub(super) fn event(&mut self, event: Event) {
        for effect in self.world.handle(self.now, event) {
            match effect {
                Effect::Order { stream, message } => self.obey(stream, *message),
                Effect::Reply { answer, .. } => self.answer = Some(*answer),
                Effect::Write(write) => self.keep(*write),
                _ => {}
            }
        }
    }

    fn obey(&mut self, stream: StreamId, message: ToAgent) {
        let Some((.., servers)) = self.hosts.iter_mut().find(|host| host.1 == stream) else { return };
        match message {
            ToAgent::Start { order, .. } => {
                servers.entry(order.server.0.clone()).or_insert_with(|| running(&order));
            }
            ToAgent::Stop { server, .. } => {
                let gone = servers.remove(&server.0);
                assert!(gone.is_none_or(|gone| gone.rooms.is_empty()), "{server} was stopped under its room");
                self.stopped.push(server.0);
            }
            _ => {}
        }
    }

    fn keep(&mut self, write: Write) {
        match write {
            Write::PutRoom(record) => self.kept.rooms.push(record),
            Write::PutHost(record) => self.kept.hosts.push(record),
            Write::PutAudit(record) => self.kept.audit.push(record),
            Write::PutDrain(record) => self.kept.drains.push(record),
            Write::DeleteDrain { kind, name } => {
                self.kept.drains.retain(|known| (known.kind, &known.name) != (kind, &name));
            }
            _ => {}
        }
    }

    fn report(&mut self) {
        for at in 0..self.hosts.len() {
            let (_, stream, servers) = &self.hosts[at];
            let report = Report {
                at_ms: None,
                term: None,
                trouble: String::new(),
                servers: servers.values().cloned().collect(),
            };
            self.event(Event::StreamSaid { stream: *stream, message: Box::new(FromAgent::Report(report)) });
        }
    }

    pub(super) fn run_s(&mut self, seconds: u64) {
        for _ in 0..seconds {
            for _ in 0..10 {
                self.now = self.now + Duration::from_millis(100);
                self.event(Event::Tick);
            }
            self.report();
        }
    }

    fn ask(&mut self, call: Call) -> Result<Answer, Refusal> {
        self.next += 1;
        self.event(Event::Asked { request: RequestId(self.next), call: Box::new(call) });
        self.answer.take().expect("answered at once")
    }

    fn drain(&mut self, kind: DrainKind, name: &str, undo: bool) -> Result<DrainStatus, Refusal> {
        let body = DrainRequest { reason: "new switches".to_owned(), undo };
        let by = Actor::Token("ops".into());
        match self.ask(Call::Drain { kind, name: name.to_owned(), body, by })? {
            Answer::Drained(status) => Ok(status),
            other => panic!("{other:?}"),
        }
    }

    fn allocate(&mut self, key: Option<&str>) -> Allocation {
        match self.ask(Call::Allocate { fleet: text("arena"), body: request(key, &["ann"]) }) {
            Ok(Answer::Allocated(grant)) => grant.signed(|_| String::new()),
            other => panic!("{other:?}"),
        }
    }

    /// Its server tells that the player is in.
    fn enter(&mut self, given: &Allocation) {
        let seats = vec![SeatReport { seat: 0, player: text_of("ann"), phase: SeatPhase::Connected }];
        let room = RoomReport {
            room: given.room.clone(),
            epoch: given.epoch,
            key: given.key.clone(),
            seats,
            kept: false,
        };
        self.server(&given.server.0).rooms = vec![room];
        self.report();
    }

    fn leave(&mut self, given: &Allocation) {
        self.server(&given.server.0).rooms.clear();
        self.report();
    }

    fn server(&mut self, name: &ServerName) -> &mut ServerReport {
        self.hosts.iter_mut().find_map(|(.., servers)| servers.get_mut(name)).expect("it runs")
    }

    /// Servers on each of the two hosts.
    pub(super) fn on(&self) -> [usize; 2] {
        [self.hosts[0].2.len(), self.hosts[1].2.len()]
    }

    fn host_of(&self, given: &Allocation) -> &str {
        let runs = |host: &&(HostName, StreamId, BTreeMap<_, _>)| host.2.contains_key(&given.server.0);
        self.hosts.iter().find(runs).expect("it runs").0.as_str()
    }

    /// What the audit trail says of it.
    fn trail(&self, subject: &str) -> Vec<String> {
        let entries = self.kept.audit.iter().map(|record| &record.entry);
        let entries = entries.filter(|entry| entry.subject == subject);
        entries.map(|entry| format!("{} {:?}: {}", entry.who, entry.action, entry.reason)).collect()
    }

    fn hosts(&mut self) -> HostList {
        match self.ask(Call::Hosts) {
            Ok(Answer::Hosts(list)) => list,
            other => panic!("{other:?}"),
        }
    }
}

fn text_of(player: &str) -> Text<greenroom_core::PlayerId> {
    Text(text(player))
}

fn still(status: &DrainStatus) -> Vec<(String, u32, u32)> {
    status.hosts.iter().map(|host| (host.host.to_string(), host.servers, host.busy)).collect()
}

#[test]
fn a_drained_zone_gets_nothing_new_and_empties_without_disturbing_anybody() {
    let mut rig = Rig::new((4, 8));
    assert_eq!(rig.on(), [2, 2]);
    let held = rig.allocate(Some("k"));
    rig.enter(&held);
    // Names are drawn: whichever host has the room is the one whose zone is drained.
    let (drained, other) = if rig.host_of(&held) == "h1" { (0, 1) } else { (1, 0) };
    let (zone, hosts) = (["a", "b"][drained], ["h1", "h2"]);
    let status = rig.drain(DrainKind::Zone, zone, false).unwrap();
    assert_eq!((still(&status), status.drained), (vec![(hosts[drained].to_owned(), 2, 1)], true));
    for _ in 0..3 {
        let given = rig.allocate(None);
        assert_eq!(rig.host_of(&given), hosts[other], "nothing new in that zone, from the next call on");
        rig.enter(&given);
    }
    rig.run_s(8);
    assert_eq!(rig.on()[drained], 1, "the idle one went once others were there");
    assert!(rig.on()[other] >= 4, "and was replaced elsewhere: {:?}", rig.on());
    assert_eq!(rig.allocate(held.key.as_ref().map(|key| key.as_str())).room, held.room, "its room lives on");
    let list = rig.hosts();
    assert_eq!((list.hosts[drained].zone.as_str(), list.hosts[other].drained.as_str()), (zone, ""));
    assert_eq!(list.hosts[drained].drained, format!("zone {zone}, by token ops: new switches"));
    rig.leave(&held);
    rig.run_s(120);
    assert_eq!(rig.on()[drained], 0, "then the busy one, when nobody was left on it");
}

#[test]
fn an_order_to_drain_outlives_control_and_can_be_taken_back() {
    let mut rig = Rig::new((2, 4));
    rig.drain(DrainKind::Host, "h1", false).unwrap();
    rig.drain(DrainKind::Host, "h1", false).unwrap();
    assert_eq!(rig.trail("host h1").len(), 1, "an order that stands changes nothing");
    rig.restart();
    let given = rig.allocate(None);
    assert_eq!(rig.host_of(&given), "h2", "also of a control plane that has just started");
    rig.run_s(10);
    assert_eq!(rig.on(), [0, 2]);
    let status = rig.drain(DrainKind::Host, "h1", true).unwrap();
    assert!(!status.drained && rig.kept.drains.is_empty());
    assert_eq!(rig.hosts().hosts[0].drained, "");
    let audit = rig.trail("host h1");
    assert_eq!(audit, ["token ops Drained: new switches", "token ops Undrained: new switches"]);
}

#[test]
fn a_drain_that_is_undone_in_time_stops_nothing() {
    let mut rig = Rig::new((2, 2));
    rig.drain(DrainKind::Zone, "a", false).unwrap();
    rig.run_s(1);
    rig.drain(DrainKind::Zone, "a", true).unwrap();
    rig.run_s(10);
    assert_eq!((rig.on(), rig.stopped.len()), ([1, 1], 0));
    let states: Vec<StateWord> = match rig.ask(Call::Gameservers(None)) {
        Ok(Answer::Gameservers(list)) => list.gameservers.iter().map(|server| server.state).collect(),
        other => panic!("{other:?}"),
    };
    assert_eq!(states, [StateWord::Ready, StateWord::Ready]);
}

#[test]
fn what_is_not_there_cannot_be_drained() {
    let mut rig = Rig::new((0, 4));
    for (kind, name, undo) in [
        (DrainKind::Host, "h9", false),
        (DrainKind::Host, "a", false),
        (DrainKind::Zone, "h1", false),
        (DrainKind::Zone, "", false),
        (DrainKind::Host, "h9", true),
    ] {
        let refused = rig.drain(kind, name, undo).unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
    }
    let untouched = rig.drain(DrainKind::Host, "h1", true).unwrap();
    assert!(!untouched.drained && rig.trail("host h1").is_empty());
}
