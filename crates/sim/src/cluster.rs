//! One run: everything there is, step by step.
//!
//! Never random beyond its seed, and never asks what time it is.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_control::world::{Effect, Event, StreamId};
use greenroom_core::{RoomId, RoomKey, Timestamp};
use greenroom_wire::agent::{FromAgent, ToAgent};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::Summary;
use crate::callers::{Arrival, Callers};
use crate::control::Control;
use crate::host::Host;
use crate::invariant::{Broken, Violation, short_fleet_says_why, start_within_maximum};
use crate::scenario::{STEP_MS, Scenario, happens};

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
    /// Results on their way to the webhook.
    posting: Vec<(u64, String)>,
    delivered: BTreeSet<(RoomId, u32)>,
    owed: BTreeSet<(RoomId, u32)>,
    summary: Summary,
}

impl Cluster {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let scenario = Scenario::draw(&mut rng);
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
            callers: Callers::default(),
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
            self.now_ms += STEP_MS;
        }
        let lost = self.owed.difference(&self.delivered).next().cloned();
        if let Some((room, epoch)) = lost {
            return Err(self.violation(Broken::ResultLost { room, epoch }));
        }
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
        if trouble {
            self.break_things();
        }
        self.start_control()?;
        self.notice_closed()?;
        self.dial_and_hear()?;
        self.call(trouble)?;
        self.players_arrive()?;
        self.servers_live(trouble);
        self.post_results()?;
        if self.now_ms.is_multiple_of(100) {
            self.handle(Event::Tick)?;
            self.check()?;
        }
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
        if self.control.is_up() && happens(&mut self.rng, self.scenario.control_crash_ms) {
            self.summary.control_crashes += 1;
            self.control.crash();
            self.control_up_ms = now_ms + self.rng.random_range(50..=8_000);
            self.callers.hang_up();
            self.posting.clear();
            self.closing.clear();
            for host in &mut self.hosts {
                host.drop_stream(now_ms, &mut self.rng);
            }
            if self.rng.random_bool(0.3) {
                self.scenario.deploy();
            }
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
        while let Some(body) = self.callers.repeat(self.now_ms) {
            let request = self.control.new_request();
            let call = Box::new(self.callers.ask_again(self.now_ms, request, body));
            self.handle(Event::Asked { request, call })?;
        }
        if trouble && happens(&mut self.rng, 1_000_000 / self.scenario.calls_per_1000_s) {
            let request = self.control.new_request();
            let call = Box::new(self.callers.ask(self.now_ms, request, &mut self.rng));
            self.handle(Event::Asked { request, call })?;
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
        let effects = self.control.handle(now, event);
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), Broken> {
        for effect in effects {
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
                    self.callers.answered(self.now_ms, request, *answer, &mut self.rng, &mut self.summary)?;
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

    /// What still moves; `None` when the cluster is as its fleets ask for, with nobody in it.
    fn restless(&mut self) -> Option<String> {
        let under_way = self.callers.under_way();
        let unacked: usize = self.hosts.iter().map(|host| host.unacked.len()).sum();
        let (rooms, results) = self.control.open_promises();
        if under_way + unacked + rooms + results > 0 {
            return Some(format!(
                "{under_way} calls and players, {unacked} unacknowledged results, {rooms} rooms, {results} results"
            ));
        }
        let now = self.now();
        let fleets = self.control.fleets(now);
        if fleets.len() != self.scenario.fleets.len() {
            return Some("control is down".to_owned());
        }
        for fleet in &fleets {
            let servers = self.hosts.iter().flat_map(|host| host.servers.values());
            let ours: Vec<_> = servers.filter(|server| server.order.fleet == fleet.name).collect();
            let current = ours.iter().filter(|server| server.order.revision == fleet.revision).count();
            let wanted = fleet.replicas_min;
            let settled = fleet.replicas_wanted == wanted
                && (fleet.replicas, fleet.ready) == (wanted, wanted)
                && (ours.len(), current) == (wanted as usize, wanted as usize)
                && fleet.waiting_on.is_empty();
            if !settled {
                let counts = format!("{} run, {current} of them current", ours.len());
                return Some(format!("{counts}, and control says {fleet:?}"));
            }
        }
        None
    }
}
