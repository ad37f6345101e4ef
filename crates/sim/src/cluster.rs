//! One run: everything there is, step by step.
//!
//! Never random beyond its seed, and never asks what time it is.

mod desk;
mod plane;
mod rest;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};

use greenroom_control::world::{Call, RequestId, StreamId};
use greenroom_core::{HostName, RoomId, RoomKey, ServerName, Timestamp};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::Summary;
use crate::callers::{Arrival, Callers};
use crate::host::{Host, Moment};
use crate::invariant::{Broken, Laws, Violation};
use crate::lobby::Lobby;
use crate::replica::Replica;
use crate::scenario::{Plane, Scenario, happens};
use crate::server::Server;
use crate::store::SimStore;

/// When runs begin.
const BEGIN_MS: u64 = 1_700_000_000_000;

/// A call on its way.
#[derive(Debug)]
enum At {
    /// At whoever looks for a leader.
    Held(Box<Call>),
    /// At this control process.
    Asked(usize),
}

/// The whole cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    rng: ChaCha8Rng,
    scenario: Scenario,
    now_ms: u64,
    store: SimStore,
    replicas: Vec<Replica>,
    process_next: u64,
    /// When something was wrong with the control plane for the last time.
    troubled_ms: u64,
    hosts: Vec<Host>,
    stream_next: u64,
    /// Streams whose end a control process has not noticed yet.
    closing: Vec<(u64, usize, StreamId)>,
    request_next: u64,
    calls: BTreeMap<RequestId, At>,
    /// Calls whose callers went away.
    given_up: BTreeSet<RequestId>,
    callers: Callers,
    lobby: Lobby,
    /// Of decisions, in the order in which they were stored.
    laws: Laws,
    rewinds_seen: u64,
    started: BTreeMap<ServerName, HostName>,
    /// Calls of the person at the desk, each with the host that it drains or gives back, if it does.
    orders: BTreeMap<RequestId, Option<HostName>>,
    /// Fleets and hosts of which that person has not taken everything back yet.
    untidied: Option<usize>,
    /// Results on their way to the webhook, each with who sends it.
    posting: Vec<(u64, usize, (RoomId, u32))>,
    delivered: BTreeSet<(RoomId, u32)>,
    owed: BTreeSet<(RoomId, u32)>,
    summary: Summary,
}

impl Cluster {
    pub(crate) fn new(seed: u64, draw: impl FnOnce(&mut ChaCha8Rng) -> Scenario) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let scenario = draw(&mut rng);
        let (callers, plane) = (Callers::new(scenario.stay_ms_max), scenario.plane);
        let hosts = (0..scenario.hosts).map(|number| Host::new(number, &scenario)).collect();
        let is_alone = plane == Plane::Alone;
        let store = SimStore::new(seed, !is_alone);
        let replicas = (0..plane.processes()).map(|at| Replica::new(at, is_alone, store.clone())).collect();
        Self {
            rng,
            scenario,
            now_ms: BEGIN_MS,
            store,
            replicas,
            process_next: 0,
            troubled_ms: BEGIN_MS,
            hosts,
            stream_next: 0,
            closing: Vec::new(),
            request_next: 0,
            calls: BTreeMap::new(),
            given_up: BTreeSet::new(),
            callers,
            lobby: Lobby::default(),
            laws: Laws::default(),
            rewinds_seen: 0,
            started: BTreeMap::new(),
            orders: BTreeMap::new(),
            untidied: None,
            posting: Vec::new(),
            delivered: BTreeSet::new(),
            owed: BTreeSet::new(),
            summary: Summary::default(),
        }
    }

    pub(crate) fn run(mut self) -> Result<Summary, Violation> {
        let trouble_until = BEGIN_MS + self.scenario.trouble_ms;
        let rest_until = trouble_until + self.scenario.rest_ms;
        loop {
            let trouble = self.now_ms < trouble_until;
            self.step(trouble).map_err(|broken| self.violation(broken))?;
            if !trouble && self.now_ms.is_multiple_of(1_000) {
                match self.restless() {
                    None => break,
                    Some(why) if self.now_ms >= rest_until => {
                        let waited_ms = self.now_ms - trouble_until;
                        return Err(self.violation(Broken::NoRest { waited_ms, why }));
                    }
                    Some(_) => {}
                }
            }
            self.now_ms += self.scenario.step_ms;
            self.summary.steps += 1;
        }
        let is_lost = |(room, epoch): &(RoomId, u32)| {
            self.store.with_lost(|lost| {
                lost.results.contains(&format!("{room}.{epoch}")) || lost.rooms.contains(room)
            })
        };
        let lost = self.owed.difference(&self.delivered).find(|owed| !is_lost(owed)).cloned();
        if let Some((room, epoch)) = lost {
            return Err(self.violation(Broken::ResultLost { room, epoch }));
        }
        self.summary.batches_refused = self.store.refused();
        self.summary.rewinds = self.rewinds_seen;
        self.summary.ran_ms = self.now_ms - BEGIN_MS;
        Ok(self.summary)
    }

    const fn violation(&self, broken: Broken) -> Violation {
        Violation { at_ms: self.now_ms - BEGIN_MS, broken }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.now_ms)
    }

    fn step(&mut self, trouble: bool) -> Result<(), Broken> {
        self.store.pass_time(self.now());
        if trouble {
            self.break_things();
        } else {
            self.stop_trouble();
        }
        self.begin_processes();
        self.notice_closed();
        self.dial_and_hear();
        self.call(trouble);
        self.match_players(trouble);
        self.order(trouble);
        self.route();
        self.decide()?;
        self.hosts_obey()?;
        self.players_arrive()?;
        self.servers_live(trouble);
        self.post_results();
        self.check()
    }

    fn new_request(&mut self) -> RequestId {
        self.request_next += 1;
        RequestId(self.request_next)
    }

    fn ask(&mut self, request: RequestId, call: Call) {
        self.calls.insert(request, At::Held(Box::new(call)));
    }

    fn call(&mut self, trouble: bool) {
        if !self.takes_calls() {
            return;
        }
        while let Some(body) = self.callers.repeat(self.now_ms) {
            let request = self.new_request();
            let call = self.callers.ask_again(self.now_ms, request, body);
            self.ask(request, call);
        }
        let per_1000_s = self.scenario.calls_per_1000_s * self.scenario.load_permille(self.now_ms) / 1_000;
        let mean_ms = 1_000_000_u64.checked_div(per_1000_s).unwrap_or(u64::MAX);
        if trouble && happens(&mut self.rng, self.scenario.step_ms, mean_ms) {
            let request = self.new_request();
            let call = self.callers.ask(self.now_ms, request, &mut self.rng);
            self.ask(request, call);
        }
    }

    fn match_players(&mut self, trouble: bool) {
        if !self.takes_calls() {
            return;
        }
        for call in self.lobby.calls(&self.scenario, trouble, &mut self.rng) {
            let request = self.new_request();
            self.lobby.asked(self.now_ms, request, &call);
            self.ask(request, call);
        }
    }

    fn players_arrive(&mut self) -> Result<(), Broken> {
        let now_ms = self.now_ms;
        for arrival in self.callers.arrivals(now_ms) {
            let (Arrival::Room { server: name, .. } | Arrival::Mesh { server: name, .. }) = &arrival;
            let server = self.hosts.iter_mut().find_map(|host| host.servers.get_mut(name));
            let came = match (server, arrival) {
                (Some(server), Arrival::Room { claims, leaves_ms, .. }) => {
                    match server.join(&claims, now_ms, leaves_ms) {
                        Ok(joined) => joined.is_ok(),
                        // Whose promise the store itself has lost may find somebody else in its place.
                        Err(Broken::Crowded { .. } | Broken::SeatTwice { .. })
                            if self.store.with_lost(|lost| {
                                let here = server.rooms.keys().chain([&claims.room.0]);
                                here.into_iter().any(|room| lost.rooms.contains(room))
                            }) =>
                        {
                            server.turn_out(&claims);
                            false
                        }
                        Err(broken) => return Err(broken),
                    }
                }
                (Some(server), Arrival::Mesh { player, leaves_ms, .. }) => {
                    server.visit(player, leaves_ms).is_ok()
                }
                (None, _) => false,
            };
            if came {
                self.summary.arrived += 1;
            } else {
                self.summary.turned_away += 1;
            }
        }
        Ok(())
    }

    fn servers_live(&mut self, trouble: bool) {
        let now_ms = self.now_ms;
        for host in &mut self.hosts {
            let faults = trouble.then_some(&self.scenario);
            host.pass_time(faults, &mut moment(now_ms, &self.scenario, &mut self.rng, &mut self.summary));
            self.owed.extend(host.unacked.iter().map(|(_, _, ended)| (ended.room.0.clone(), ended.epoch)));
            host.speak(now_ms, &mut self.rng);
            let most = host.servers.values().map(Server::memory_bytes).max().unwrap_or_default();
            self.summary.memory_bytes_max = self.summary.memory_bytes_max.max(most);
        }
    }

    /// What must be true between any two steps.
    fn check(&mut self) -> Result<(), Broken> {
        self.store.broken()?;
        self.judge_decisions()?;
        for host in &mut self.hosts {
            for server in host.started() {
                let before = self.started.insert(server.clone(), host.name.clone());
                if let Some(before) = before.filter(|before| *before != host.name) {
                    return Err(Broken::StartedTwice { server, host: before, other: host.name.clone() });
                }
            }
        }
        let mut by_key: BTreeMap<&RoomKey, &RoomId> = BTreeMap::new();
        let servers = self.hosts.iter().flat_map(|host| host.servers.values());
        for (id, room) in servers.flat_map(|server| &server.rooms) {
            let Some(key) = &room.key else { continue };
            if let Some(one) = by_key.insert(key, id)
                && !self.store.with_lost(|lost| lost.rooms.contains(id) || lost.rooms.contains(one))
            {
                let (key, one, other) = (key.clone(), one.clone(), id.clone());
                return Err(Broken::KeyTwice { key, one, other });
            }
        }
        self.give_up_overdue()
    }

    /// What was stored of decisions since the last look.
    fn judge_decisions(&mut self) -> Result<(), Broken> {
        let rewinds = self.store.with_lost(|lost| lost.times);
        if std::mem::replace(&mut self.rewinds_seen, rewinds) != rewinds {
            self.laws.forget();
        }
        for record in self.store.decided() {
            self.summary.decisions += 1;
            let fleet = self.scenario.fleets.iter().find(|fleet| fleet.name == record.fleet.0);
            if let Some(fleet) = fleet {
                self.laws.decided(&fleet.autoscale, &record)?;
            }
        }
        Ok(())
    }
}

/// What everything in this step shares.
const fn moment<'a>(
    now_ms: u64,
    scenario: &Scenario,
    rng: &'a mut ChaCha8Rng,
    summary: &'a mut Summary,
) -> Moment<'a> {
    Moment { now_ms, startup_ms_max: scenario.startup_ms_max, rng, summary }
}
