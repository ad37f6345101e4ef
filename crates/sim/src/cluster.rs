//! One run: everything there is, step by step.
//!
//! Never random beyond its seed, and never asks what time it is.

mod rest;

use std::collections::{BTreeMap, BTreeSet};

use greenroom_control::world::{Actor, Answer, Call, Effect, Event, Refusal, RequestId, StreamId};
use greenroom_core::{RoomId, RoomKey, Timestamp};
use greenroom_wire::agent::{FromAgent, ToAgent};
use greenroom_wire::api::{FreezeWord, ScaleRequest};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::Summary;
use crate::callers::{Arrival, Callers};
use crate::control::{Control, Failing};
use crate::host::Host;
use crate::invariant::{Broken, Laws, Violation, short_fleet_says_why, start_within_maximum};
use crate::lobby::Lobby;
use crate::scenario::{Scenario, happens};
use crate::server::Server;

/// When runs begin.
const BEGIN_MS: u64 = 1_700_000_000_000;

/// The whole cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    rng: ChaCha8Rng,
    scenario: Scenario,
    now_ms: u64,
    control: Control,
    control_up_ms: u64,
    hosts: Vec<Host>,
    stream_next: u64,
    /// Streams whose end control has not noticed yet.
    closing: Vec<(u64, StreamId)>,
    callers: Callers,
    lobby: Lobby,
    laws: Laws,
    /// Calls of the person at the desk.
    orders: BTreeSet<RequestId>,
    /// Whether that person has taken everything back.
    tidied: bool,
    /// Results on their way to the webhook.
    posting: Vec<(u64, String)>,
    delivered: BTreeSet<(RoomId, u32)>,
    owed: BTreeSet<(RoomId, u32)>,
    summary: Summary,
}

impl Cluster {
    pub(crate) fn new(seed: u64, draw: impl FnOnce(&mut ChaCha8Rng) -> Scenario) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let scenario = draw(&mut rng);
        let callers = Callers::new(scenario.stay_ms_max);
        let hosts = (0..scenario.hosts).map(|number| Host::new(number, scenario.servers_per_host)).collect();
        Self {
            rng,
            scenario,
            now_ms: BEGIN_MS,
            control: Control::new(),
            control_up_ms: BEGIN_MS,
            hosts,
            stream_next: 0,
            closing: Vec::new(),
            callers,
            lobby: Lobby::default(),
            laws: Laws::default(),
            orders: BTreeSet::new(),
            tidied: false,
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
        let lost = self.owed.difference(&self.delivered).next().cloned();
        if let Some((room, epoch)) = lost {
            return Err(self.violation(Broken::ResultLost { room, epoch }));
        }
        self.summary.ran_ms = self.now_ms - BEGIN_MS;
        self.summary.events = self.control.events;
        Ok(self.summary)
    }

    const fn violation(&self, broken: Broken) -> Violation {
        Violation { at_ms: self.now_ms - BEGIN_MS, broken }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.now_ms)
    }

    fn step(&mut self, trouble: bool) -> Result<(), Broken> {
        if trouble {
            self.break_things();
        }
        self.start_control()?;
        self.notice_closed()?;
        self.dial_and_hear()?;
        self.call(trouble)?;
        self.match_players(trouble)?;
        self.order(trouble)?;
        self.players_arrive()?;
        self.servers_live(trouble);
        self.post_results()?;
        if self.now_ms.is_multiple_of(100) {
            self.handle(Event::Tick)?;
            self.check()?;
        }
        self.lobby.check(self.now_ms)?;
        self.callers.check(self.now_ms)
    }

    fn break_things(&mut self) {
        let now_ms = self.now_ms;
        for host in &mut self.hosts {
            if let Some(stream) = host.fault(now_ms, &self.scenario, &mut self.rng, &mut self.summary) {
                // A half-open stream: control notices its end later than the agent.
                self.closing.push((now_ms + self.rng.random_range(0..=3_000), stream));
            }
        }
        let step_ms = self.scenario.step_ms;
        if happens(&mut self.rng, step_ms, self.scenario.host_loss_ms) {
            self.lose_host();
        }
        if happens(&mut self.rng, step_ms, self.scenario.store_fault_ms) {
            let how = if self.rng.random_bool(0.5) { Failing::Lost } else { Failing::Unconfirmed };
            self.control.fail_commit(how);
        }
        if self.control.is_up() && happens(&mut self.rng, step_ms, self.scenario.control_crash_ms) {
            self.control.crash();
            self.control_died();
        }
    }

    fn lose_host(&mut self) {
        let now_ms = self.now_ms;
        let at = self.rng.random_range(0..self.hosts.len());
        let absence_ms = self.scenario.absence_ms(&mut self.rng);
        let (stream, lost) = self.hosts[at].die(now_ms, absence_ms, &mut self.rng);
        self.closing.extend(stream.map(|stream| (now_ms + self.rng.random_range(0..=3_000), stream)));
        // Nobody is owed what died unheard with its machine.
        for (_, _, ended) in lost {
            self.owed.remove(&(ended.room.0, ended.epoch));
        }
        self.summary.hosts_lost += 1;
    }

    fn control_died(&mut self) {
        let now_ms = self.now_ms;
        self.summary.control_crashes += 1;
        self.control_up_ms = now_ms + self.rng.random_range(50..=8_000);
        self.callers.hang_up();
        self.lobby.hang_up();
        self.laws.control_died();
        self.orders.clear();
        self.posting.clear();
        self.closing.clear();
        for host in &mut self.hosts {
            host.drop_stream(now_ms, &mut self.rng);
        }
        if self.rng.random_bool(0.3) {
            self.scenario.deploy();
        }
    }

    fn start_control(&mut self) -> Result<(), Broken> {
        if self.control.is_up() || self.now_ms < self.control_up_ms {
            return Ok(());
        }
        let now = self.now();
        let effects = self.control.start(&self.scenario, now, &mut self.rng);
        self.carry_out(effects)
    }

    fn notice_closed(&mut self) -> Result<(), Broken> {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.closing).into_iter().partition(|(at, _)| *at <= self.now_ms);
        self.closing = later;
        for (_, stream) in due {
            self.handle(Event::StreamClosed { stream })?;
        }
        Ok(())
    }

    fn dial_and_hear(&mut self) -> Result<(), Broken> {
        if !self.control.is_up() {
            return Ok(());
        }
        let now_ms = self.now_ms;
        for at in 0..self.hosts.len() {
            let host = &mut self.hosts[at];
            if host.dial(now_ms, StreamId(self.stream_next), &mut self.rng) {
                self.stream_next += 1;
            }
            while let Some((stream, message)) = self.hosts[at]
                .stream
                .as_mut()
                .and_then(|stream| stream.to_control.receive(now_ms).map(|message| (stream.id, message)))
            {
                let event = if let FromAgent::Hello(hello) = message {
                    Event::StreamOpened { stream, hello }
                } else {
                    Event::StreamSaid { stream, message: Box::new(message) }
                };
                self.handle(event)?;
            }
            self.host_obeys(at)?;
        }
        Ok(())
    }

    fn host_obeys(&mut self, at: usize) -> Result<(), Broken> {
        let (now_ms, startup_ms_max) = (self.now_ms, self.scenario.startup_ms_max);
        let host = &mut self.hosts[at];
        if host.is_silent(now_ms) {
            return Ok(());
        }
        while let Some(message) = host.stream.as_mut().and_then(|stream| stream.to_agent.receive(now_ms)) {
            host.obey(now_ms, message, startup_ms_max, &mut self.rng, &mut self.summary)?;
        }
        Ok(())
    }

    fn call(&mut self, trouble: bool) -> Result<(), Broken> {
        if !self.control.is_up() {
            return Ok(());
        }
        while self.control.is_up()
            && let Some(body) = self.callers.repeat(self.now_ms)
        {
            let request = self.control.new_request();
            let call = Box::new(self.callers.ask_again(self.now_ms, request, body));
            self.handle(Event::Asked { request, call })?;
        }
        let per_1000_s = self.scenario.calls_per_1000_s * self.scenario.load_permille(self.now_ms) / 1_000;
        let mean_ms = 1_000_000_u64.checked_div(per_1000_s).unwrap_or(u64::MAX);
        let calls = trouble && happens(&mut self.rng, self.scenario.step_ms, mean_ms);
        if calls && self.control.is_up() {
            let request = self.control.new_request();
            let call = Box::new(self.callers.ask(self.now_ms, request, &mut self.rng));
            self.handle(Event::Asked { request, call })?;
        }
        Ok(())
    }

    fn match_players(&mut self, trouble: bool) -> Result<(), Broken> {
        if !self.control.is_up() {
            return Ok(());
        }
        for call in self.lobby.calls(&self.scenario, trouble, &mut self.rng) {
            // The call before it may have been the last of its process; nobody dials one that is gone.
            if !self.control.is_up() {
                break;
            }
            let request = self.control.new_request();
            self.lobby.asked(self.now_ms, request, &call);
            self.handle(Event::Asked { request, call: Box::new(call) })?;
        }
        Ok(())
    }

    /// A person orders servers or freezes a fleet, and takes all of it back when the trouble is over.
    fn order(&mut self, trouble: bool) -> Result<(), Broken> {
        if !self.control.is_up() || (self.tidied && !trouble) {
            return Ok(());
        }
        let now_ms = self.now_ms;
        if trouble && happens(&mut self.rng, self.scenario.step_ms, self.scenario.order_ms) {
            let at = self.rng.random_range(0..self.scenario.fleets.len());
            let most = self.scenario.fleets[at].replicas_max;
            let freezes = [FreezeWord::Nothing, FreezeWord::ScaleIn, FreezeWord::Everything];
            let freeze = freezes[self.rng.random_range(0..freezes.len())];
            let ready_at_ms = now_ms + self.rng.random_range(0..=20_000);
            let until_ms = ready_at_ms + self.rng.random_range(1_000..=30_000);
            let body = ScaleRequest {
                replicas: Some(self.rng.random_range(0..=most)),
                ready_at_ms: Some(ready_at_ms),
                until_ms: Some(until_ms),
                freeze: self.rng.random_bool(0.5).then_some(freeze),
            };
            return self.ask_scale(at, body);
        }
        if !trouble {
            self.tidied = true;
            for at in 0..self.scenario.fleets.len() {
                let freeze = Some(FreezeWord::Nothing);
                self.ask_scale(at, ScaleRequest { replicas: Some(0), freeze, ..ScaleRequest::default() })?;
            }
            // A process that died over it has not obeyed.
            self.tidied = self.control.is_up();
        }
        Ok(())
    }

    fn ask_scale(&mut self, fleet: usize, body: ScaleRequest) -> Result<(), Broken> {
        if !self.control.is_up() {
            return Ok(());
        }
        let request = self.control.new_request();
        self.orders.insert(request);
        self.summary.orders += 1;
        let fleet = self.scenario.fleets[fleet].name.clone();
        self.handle(Event::Asked {
            request,
            call: Box::new(Call::Scale { fleet, body, by: Actor::Anonymous }),
        })
    }

    fn answered(&mut self, request: RequestId, answer: Result<Answer, Refusal>) -> Result<(), Broken> {
        if self.orders.remove(&request) {
            return Ok(());
        }
        let Some(assigned) = self.lobby.answered(request, &answer) else {
            return self.callers.answered(self.now_ms, request, answer, &mut self.rng, &mut self.summary);
        };
        for ticket in assigned? {
            self.summary.matched += 1;
            self.callers.seated(self.now_ms, &ticket.grant, &mut self.rng);
        }
        Ok(())
    }

    fn players_arrive(&mut self) -> Result<(), Broken> {
        let now_ms = self.now_ms;
        for arrival in self.callers.arrivals(now_ms) {
            let (Arrival::Room { server: name, .. } | Arrival::Mesh { server: name, .. }) = &arrival;
            let server = self.hosts.iter_mut().find_map(|host| host.servers.get_mut(name));
            let came = match (server, arrival) {
                (Some(server), Arrival::Room { claims, leaves_ms, .. }) => {
                    server.join(&claims, now_ms, leaves_ms)?.is_ok()
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
        let (now_ms, startup_ms_max) = (self.now_ms, self.scenario.startup_ms_max);
        for host in &mut self.hosts {
            let faults = trouble.then_some(&self.scenario);
            host.pass_time(now_ms, faults, startup_ms_max, &mut self.rng, &mut self.summary);
            self.owed.extend(host.unacked.iter().map(|(_, _, ended)| (ended.room.0.clone(), ended.epoch)));
            host.speak(now_ms, &mut self.rng);
            let most = host.servers.values().map(Server::memory_bytes).max().unwrap_or_default();
            self.summary.memory_bytes_max = self.summary.memory_bytes_max.max(most);
        }
    }

    fn post_results(&mut self) -> Result<(), Broken> {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.posting).into_iter().partition(|(at, _)| *at <= self.now_ms);
        self.posting = later;
        for (_, key) in due {
            self.summary.results += 1;
            self.handle(Event::ResultTaken { key })?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), Broken> {
        let now = self.now();
        let was_up = self.control.is_up();
        let effects = self.control.handle(now, event);
        if was_up && !self.control.is_up() {
            self.summary.store_faults += 1;
            self.control_died();
        }
        for record in self.control.decided() {
            self.summary.decisions += 1;
            let fleet = self.scenario.fleets.iter().find(|fleet| fleet.name == record.fleet.0);
            if let Some(fleet) = fleet {
                self.laws.decided(&fleet.autoscale, &record)?;
            }
        }
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), Broken> {
        for effect in effects {
            self.laws.told(self.now_ms, &effect)?;
            match effect {
                Effect::Write(_) => unreachable!("control has stored it"),
                Effect::Order { stream, message } => self.send(stream, *message)?,
                Effect::CloseStream { stream, reason: _ } => {
                    let now_ms = self.now_ms;
                    for host in &mut self.hosts {
                        if host.stream.as_ref().is_some_and(|open| open.id == stream) {
                            host.drop_stream(now_ms, &mut self.rng);
                        }
                    }
                }
                Effect::Reply { request, answer } => {
                    self.answered(request, *answer)?;
                }
                Effect::Deliver(record) => {
                    let body = &record.body;
                    self.delivered.insert((body.room.0.clone(), body.epoch));
                    let at = self.now_ms + self.rng.random_range(10..=5_000);
                    self.posting.push((at, format!("{}.{}", body.room, body.epoch)));
                }
                Effect::Note(_) => {}
            }
        }
        Ok(())
    }

    fn send(&mut self, id: StreamId, message: ToAgent) -> Result<(), Broken> {
        if let ToAgent::Stop { reason, .. } = &message {
            self.summary.servers_stopped += 1;
            self.summary.servers_recycled += u64::from(reason.starts_with("worn out"));
        }
        if let ToAgent::Start { order, .. } = &message {
            let now = self.now();
            let fleets = self.control.fleets(now);
            let fleet = fleets.iter().find(|fleet| fleet.name == order.fleet);
            let known = self.hosts.iter().any(|host| host.servers.contains_key(&order.server.0));
            if let Some(fleet) = fleet.filter(|_| !known) {
                start_within_maximum(fleet)?;
            }
        }
        let streams = self.hosts.iter_mut().filter_map(|host| host.stream.as_mut());
        if let Some(stream) = streams.into_iter().find(|stream| stream.id == id) {
            stream.to_agent.send(self.now_ms, message, &mut self.rng);
        }
        Ok(())
    }

    /// What must be true between any two steps.
    fn check(&mut self) -> Result<(), Broken> {
        let now = self.now();
        for fleet in self.control.fleets(now) {
            short_fleet_says_why(&fleet)?;
        }
        let mut by_key: BTreeMap<&RoomKey, &RoomId> = BTreeMap::new();
        let servers = self.hosts.iter().flat_map(|host| host.servers.values());
        for (id, room) in servers.flat_map(|server| &server.rooms) {
            let Some(key) = &room.key else { continue };
            if let Some(one) = by_key.insert(key, id) {
                let (key, one, other) = (key.clone(), one.clone(), id.clone());
                return Err(Broken::KeyTwice { key, one, other });
            }
        }
        Ok(())
    }
}
