//! A fleet that is spread over zones: each start goes to the zone with the fewest, whatever came and went before it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_core::autoscale::Autoscale;
use greenroom_core::fleet::Fleet;
use greenroom_core::placement::{Spread, ZONE};
use greenroom_core::{HostName, ServerName, Timestamp};
use greenroom_wire::Text;
use greenroom_wire::agent::{
    FromAgent, Hello, ProcessPhase, Report, ServerReport, StartOrder, ToAgent, VERSION,
};
use greenroom_wire::api::ScaleRequest;
use greenroom_wire::link::Measured;
use greenroom_wire::token::PublicKeys;
use proptest::prelude::*;

use super::rig::{START_MS, room_fleet, text};
use crate::world::{
    Actor, Bounds, Call, Effect, Event, IdSource, Records, RequestId, Results, StreamId, Timings, World,
    WorldConfig,
};

/// Most servers that the fleet is ever ordered to have.
const REPLICAS_MAX: u32 = 12;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Somebody orders so many servers.
    Order(u32),
    /// An agent comes, or comes back, and tells what it runs.
    Come(usize),
    Leave(usize),
    /// The first server of a host is gone for good.
    Die(usize),
    /// An agent tells that what it was told to start and to stop is done.
    Report(usize),
    Pass,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let host = 0..6_usize;
    let step = prop_oneof![
        2 => (0..=REPLICAS_MAX).prop_map(Step::Order),
        3 => host.clone().prop_map(Step::Come),
        1 => host.clone().prop_map(Step::Leave),
        2 => host.clone().prop_map(Step::Die),
        4 => host.prop_map(Step::Report),
        6 => Just(Step::Pass),
    ];
    proptest::collection::vec(step, 1..80)
}

/// One host as its agent sees it.
struct Machine {
    name: HostName,
    stream: Option<StreamId>,
    servers: BTreeMap<ServerName, ServerReport>,
}

struct Rig {
    world: World,
    now: Timestamp,
    machines: Vec<Machine>,
    next: u64,
    starts: usize,
}

/// What one host held, as far as the world knew.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    zone: String,
    accepts: bool,
    free: usize,
    /// Servers of the fleet that were not told to stop.
    ours: usize,
}

impl Rig {
    fn new() -> Self {
        let mut fleet = room_fleet("arena", (0, REPLICAS_MAX), 1, 4);
        fleet.spread = Spread::Zones;
        fleet.autoscale = Autoscale {
            cooldown_out: Duration::ZERO,
            cooldown_in: Duration::ZERO,
            settle_in: Duration::ZERO,
            ..Autoscale::default()
        };
        let config = of_one(fleet);
        let now = Timestamp::from_unix_ms(START_MS);
        let (world, _) = World::restore(Records::default(), config, IdSource::new([3; 32]), now);
        let machine =
            |number| Machine { name: text(&format!("h{number}")), stream: None, servers: BTreeMap::new() };
        Self { world, now, machines: (0..6).map(machine).collect(), next: 0, starts: 0 }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// What the world knows of each host.
    fn places(&self) -> BTreeMap<HostName, Place> {
        let place = |(name, host): (&HostName, &crate::world::state::HostState)| {
            let ours = host
                .servers
                .iter()
                .filter(|name| self.world.servers.get(*name).is_some_and(|server| server.stop.is_none()));
            let place = Place {
                zone: host.labels.get(ZONE).cloned().unwrap_or_default(),
                accepts: host.connected && host.reported && host.stream.is_some(),
                free: (host.servers_max as usize).saturating_sub(host.servers.len()),
                ours: ours.count(),
            };
            (name.clone(), place)
        };
        self.world.hosts.iter().map(place).collect()
    }

    fn event(&mut self, event: Event) {
        let mut places = self.places();
        // A start that no report has confirmed is told again, for the same host.
        let known: BTreeSet<ServerName> = self.world.servers.keys().cloned().collect();
        let effects = self.world.handle(self.now, event);
        let after = self.places();
        for effect in effects {
            let Effect::Order { stream, message } = effect else { continue };
            let Some(at) = self.machines.iter().position(|machine| machine.stream == Some(stream)) else {
                continue;
            };
            match *message {
                ToAgent::Start { order, .. } => {
                    if !known.contains(&order.server.0) {
                        judge(&self.machines[at].name, &places, &after);
                        let chosen = places.get_mut(&self.machines[at].name).expect("it takes orders");
                        (chosen.free, chosen.ours) = (chosen.free - 1, chosen.ours + 1);
                        self.starts += 1;
                    }
                    self.machines[at].servers.insert(order.server.0.clone(), running(&order));
                }
                ToAgent::Stop { server, .. } => {
                    let had = self.machines[at].servers.remove(&server.0).is_some();
                    let place = places.get_mut(&self.machines[at].name).expect("it takes orders");
                    place.ours = place.ours.saturating_sub(usize::from(had));
                }
                _ => {}
            }
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Order(replicas) => {
                let body = ScaleRequest {
                    replicas: Some(replicas),
                    ready_at_ms: Some(self.now.unix_ms()),
                    until_ms: Some(self.now.unix_ms() + 3_600_000),
                    freeze: None,
                };
                let call = Call::Scale { fleet: text("arena"), body, by: Actor::Anonymous };
                let request = RequestId(self.number());
                self.event(Event::Asked { request, call: Box::new(call) });
            }
            Step::Come(at) => {
                let stream = StreamId(self.number());
                self.machines[at].stream = Some(stream);
                let hello = hello(&self.machines[at].name, ["a", "b", "c"][at % 3], 3);
                self.event(Event::StreamOpened { stream, hello });
                self.report(at);
            }
            Step::Leave(at) => {
                if let Some(stream) = self.machines[at].stream.take() {
                    self.event(Event::StreamClosed { stream });
                }
            }
            Step::Die(at) => {
                self.machines[at].servers.pop_first();
                self.report(at);
            }
            Step::Report(at) => self.report(at),
            Step::Pass => {
                for _ in 0..10 {
                    self.now = self.now + Duration::from_millis(100);
                    self.event(Event::Tick);
                }
            }
        }
    }

    fn report(&mut self, at: usize) {
        let Some(stream) = self.machines[at].stream else { return };
        let servers = self.machines[at].servers.values().cloned().collect();
        let message =
            Box::new(FromAgent::Report(Report { at_ms: None, term: None, trouble: String::new(), servers }));
        self.event(Event::StreamSaid { stream, message });
    }
}

/// A world of one fleet, whose results nobody wants.
pub(super) fn of_one(fleet: Fleet) -> WorldConfig {
    WorldConfig {
        fleets: vec![fleet],
        keys: PublicKeys::default(),
        term: 1,
        without_leader: None,
        results: Results::Discard,
        timings: Timings::default(),
        bounds: Bounds::default(),
        news: crate::world::NewsConfig::default(),
        triggers: Vec::new(),
    }
}

/// The first word of the agent of a host in a zone.
pub(super) fn hello(host: &HostName, zone: &str, servers_max: u32) -> Hello {
    Hello {
        version: VERSION,
        host: Text(host.clone()),
        boot: "boot".to_owned(),
        labels: [(ZONE.to_owned(), zone.to_owned())].into(),
        servers_max,
        term_seen: 0,
        wants_occupied: false,
        agones: true,
    }
}

pub(super) fn running(order: &StartOrder) -> ServerReport {
    ServerReport {
        server: order.server.clone(),
        instance: Text(text(&format!("{}.1", order.server))),
        fleet: order.fleet.clone(),
        revision: order.revision.clone(),
        phase: ProcessPhase::Ready,
        endpoint: "127.0.0.1:7000".to_owned(),
        tls: false,
        pid: Some(1),
        restarts: 0,
        started_at_ms: START_MS,
        connections: 0,
        rooms: Vec::new(),
        keeps_rooms: false,
        linked: true,
        measured: Measured::default(),
        labels: std::collections::BTreeMap::new(),
        held: false,
        message: String::new(),
    }
}

/// The chosen host's zone has no more servers of the fleet than any zone that had a place too, all the while.
fn judge(chosen: &HostName, places: &BTreeMap<HostName, Place>, after: &BTreeMap<HostName, Place>) {
    let in_zone = |zone: &str| -> usize {
        places.values().filter(|place| place.zone == zone).map(|place| place.ours).sum()
    };
    let to = &places[chosen];
    assert!(to.accepts && to.free > 0, "{chosen} had no place: {places:?}");
    let had_place = |name: &HostName, place: &Place| {
        place.accepts && place.free > 0 && after.get(name).is_some_and(|after| after.accepts)
    };
    for (name, place) in places.iter().filter(|(name, place)| had_place(name, place)) {
        let (here, there) = (in_zone(&to.zone), in_zone(&place.zone));
        assert!(here <= there, "{chosen} was chosen with {here} in its zone, {name} has {there}: {places:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_start_goes_to_the_zone_with_the_fewest_of_those_with_a_place(steps in steps()) {
        let mut rig = Rig::new();
        for at in 0..3 {
            rig.apply(Step::Come(at));
        }
        rig.apply(Step::Order(4));
        rig.apply(Step::Pass);
        for step in steps {
            rig.apply(step);
            rig.apply(Step::Pass);
        }
        prop_assert!(rig.starts >= 4, "a run without starts proves nothing");
    }
}
