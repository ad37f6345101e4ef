//! Control as the simulation runs it: the real world, a store that keeps what it writes, and its death.
//!
//! Never lets a promise out before its write: the writes of a batch are stored first.

use std::collections::BTreeMap;

use greenroom_control::world::{
    Answer, Bounds, Call, Effect, Event, IdSource, Records, RequestId, Results, World, WorldConfig, Write,
};
use greenroom_core::{FleetName, HostName, RoomId, Timestamp};
use greenroom_wire::api::FleetStatus;
use greenroom_wire::record::{
    AnswerRecord, AuditRecord, DecisionRecord, HostRecord, ResultRecord, RoomRecord, ScaleRecord,
};
use greenroom_wire::token::PublicKeys;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::scenario::Scenario;

/// What survives a control process.
#[derive(Debug, Default)]
struct Stored {
    term: u64,
    rooms: BTreeMap<RoomId, RoomRecord>,
    answers: BTreeMap<String, AnswerRecord>,
    results: BTreeMap<String, ResultRecord>,
    decisions: BTreeMap<String, DecisionRecord>,
    scale_orders: BTreeMap<FleetName, ScaleRecord>,
    hosts: BTreeMap<HostName, HostRecord>,
    audit: BTreeMap<u64, AuditRecord>,
}

impl Stored {
    fn write(&mut self, write: Write) {
        match write {
            Write::PutRoom(record) => {
                self.rooms.insert(record.room.0.clone(), record);
            }
            Write::DeleteRoom(room) => {
                self.rooms.remove(&room);
            }
            Write::PutAnswer { key, record } => {
                self.answers.insert(key, record);
            }
            Write::DeleteAnswer { key } => {
                self.answers.remove(&key);
            }
            Write::PutResult { key, record } => {
                self.results.insert(key, record);
            }
            Write::DeleteResult { key } => {
                self.results.remove(&key);
            }
            Write::PutHost(record) => {
                self.hosts.insert(record.host.0.clone(), record);
            }
            Write::DeleteHost(host) => {
                self.hosts.remove(&host);
            }
            Write::PutAudit(record) => {
                self.audit.insert(record.entry.number, record);
            }
            Write::DeleteAudit(number) => {
                self.audit.remove(&number);
            }
            Write::PutDecision { key, record } => {
                self.decisions.insert(key, record);
            }
            Write::PutScale(record) => {
                self.scale_orders.insert(record.fleet.0.clone(), record);
            }
            Write::PutTerm(term) => self.term = term,
        }
    }

    fn records(&self) -> Records {
        Records {
            rooms: self.rooms.values().cloned().collect(),
            answers: self.answers.iter().map(|(key, record)| (key.clone(), record.clone())).collect(),
            results: self.results.values().cloned().collect(),
            hosts: self.hosts.values().cloned().collect(),
            audit: self.audit.values().cloned().collect(),
            decisions: self.decisions.values().cloned().collect(),
            scale_orders: self.scale_orders.values().cloned().collect(),
        }
    }
}

/// The control process and its store.
#[derive(Debug)]
pub(crate) struct Control {
    stored: Stored,
    world: Option<World>,
    request_next: u64,
    /// Decisions stored since the last look.
    decided: Vec<DecisionRecord>,
    /// What becomes of the next batch that writes.
    failing: Option<Failing>,
    /// Events that its processes have handled.
    pub(crate) events: u64,
}

/// How a commit fails. The process ends either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failing {
    /// Nothing of the batch was stored.
    Lost,
    /// All of it was stored, and nobody was told.
    Unconfirmed,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self {
            stored: Stored::default(),
            world: None,
            request_next: 0,
            decided: Vec::new(),
            failing: None,
            events: 0,
        }
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.world.is_some()
    }

    /// Starts a process on what is stored. What it does at once comes back.
    pub(crate) fn start(&mut self, scenario: &Scenario, now: Timestamp, rng: &mut ChaCha8Rng) -> Vec<Effect> {
        self.stored.term += 1;
        let config = WorldConfig {
            fleets: scenario.fleets.clone(),
            keys: PublicKeys::default(),
            term: self.stored.term,
            results: Results::Deliver,
            timings: scenario.timings(),
            bounds: Bounds::default(),
        };
        let ids = IdSource::new(rng.random());
        let (world, effects) = World::restore(self.stored.records(), config, ids, now);
        self.world = Some(world);
        self.store(effects)
    }

    /// Lets the next commit fail.
    pub(crate) const fn fail_commit(&mut self, how: Failing) {
        self.failing = Some(how);
    }

    /// Decisions that were stored since the last call.
    pub(crate) fn decided(&mut self) -> Vec<DecisionRecord> {
        std::mem::take(&mut self.decided)
    }

    pub(crate) fn crash(&mut self) {
        self.world = None;
    }

    /// Has an event handled; its writes are stored, the other effects come back. Nothing while control is down.
    pub(crate) fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let Some(world) = &mut self.world else { return Vec::new() };
        self.events += 1;
        let effects = world.handle(now, event);
        let writes = effects.iter().any(|effect| matches!(effect, Effect::Write(_)));
        match self.failing.filter(|_| writes) {
            None => self.store(effects),
            Some(how) => {
                self.failing = None;
                if how == Failing::Unconfirmed {
                    drop(self.store(effects));
                }
                self.crash();
                Vec::new()
            }
        }
    }

    fn store(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let mut others = Vec::with_capacity(effects.len());
        for effect in effects {
            match effect {
                Effect::Write(write) => {
                    if let Write::PutDecision { record, .. } = &*write {
                        self.decided.push(record.clone());
                    }
                    self.stored.write(*write);
                }
                other @ (Effect::Order { .. }
                | Effect::CloseStream { .. }
                | Effect::Reply { .. }
                | Effect::Deliver(_)
                | Effect::Note(_)) => others.push(other),
            }
        }
        others
    }

    pub(crate) fn new_request(&mut self) -> RequestId {
        self.request_next += 1;
        RequestId(self.request_next)
    }

    /// The fleets as an operator sees them; none while control is down.
    pub(crate) fn fleets(&mut self, now: Timestamp) -> Vec<FleetStatus> {
        let request = self.new_request();
        let call = Box::new(Call::Fleets);
        let effects = self.handle(now, Event::Asked { request, call });
        let lists = effects.into_iter().filter_map(|effect| {
            if let Effect::Reply { answer, .. } = effect
                && let Ok(Answer::Fleets(list)) = *answer
            {
                Some(list.fleets)
            } else {
                None
            }
        });
        lists.flatten().collect()
    }

    /// Promises and results that are still stored.
    pub(crate) fn open_promises(&self) -> (usize, usize) {
        (self.stored.rooms.len(), self.stored.results.len())
    }
}
