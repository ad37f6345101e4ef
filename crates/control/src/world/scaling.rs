//! How many servers each fleet should have: what `core::autoscale` is told and what is kept of its decisions.
//!
//! Never starts or stops a server: that is `fleets`.

use std::collections::VecDeque;
use std::time::Duration;

use greenroom_core::autoscale::{
    ArrivalMeter, Autoscale, Block, BufferUnit, Change, Decision, Memory, Metric, Observed, Policy,
    ServerLoad, Shape, StartTimes, decide,
};
use greenroom_core::fleet::{Fleet, HostLoads, Wanted};
use greenroom_core::gameserver::State;
use greenroom_core::{FleetName, ServerName, Timestamp};
use greenroom_wire::Text;
use greenroom_wire::api::{AuditAction, PrewarmOrder, ScaleOrder, ScaleRequest};
use greenroom_wire::record::{DecisionRecord, ScaleRecord};
use greenroom_wire::revision::sizes;

use super::audit::Actor;
use super::decisions::{DECISIONS_MAX, body, record_key};
use super::notice::ordered as ordered_words;
use super::selective::places_asked_anywhere;
use super::state::FleetState;
use super::{Notice, Refusal, World, Write};

/// How long an order of a person holds when it does not say.
const ORDER_LASTS: Duration = Duration::from_hours(1);

/// What one fleet's number of servers is decided from, besides the servers.
#[derive(Debug)]
pub(super) struct Scaling {
    /// The fleet's own, with what a person has ordered.
    pub(super) rules: Autoscale,
    pub(super) order: ScaleOrder,
    pub(super) memory: Memory,
    pub(super) arrivals: ArrivalMeter,
    pub(super) start_times: StartTimes,
    /// The last decision, changed or not.
    pub(super) last: Option<Decision>,
    /// Those that changed the number, oldest first.
    pub(super) changed: VecDeque<DecisionRecord>,
    next_number: u64,
}

/// What was seen of a fleet at one moment.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) loads: Vec<ServerLoad>,
    pub(super) waiting: u32,
    pub(super) selective_missing: Option<u32>,
    pub(super) seats_free: u32,
}

impl Scaling {
    pub(super) fn new(spec: &Fleet, now: Timestamp) -> Self {
        Self {
            rules: spec.autoscale.clone(),
            order: ScaleOrder::default(),
            memory: Memory::default(),
            arrivals: ArrivalMeter::new(now),
            start_times: StartTimes::default(),
            last: None,
            changed: VecDeque::new(),
            next_number: 0,
        }
    }

    /// Puts a person's order into force.
    fn obey(&mut self, order: ScaleOrder, spec: &Autoscale) {
        self.order = order;
        self.rules = spec.clone();
        self.rules.freeze = order.freeze.into();
        if let Some(prewarm) = order.prewarm {
            self.rules.policies.push(Policy::Prewarm {
                replicas: prewarm.replicas,
                ready_at: Timestamp::from_unix_ms(prewarm.ready_at_ms),
                until: Timestamp::from_unix_ms(prewarm.until_ms),
            });
        }
    }

    /// The bounds of `spec`. An order whose moment has come is a minimum: it is kept at once, past all cool-downs.
    pub(super) fn shape(&self, spec: &Fleet, now: Timestamp) -> Shape {
        let due = |order: &PrewarmOrder| (order.ready_at_ms..order.until_ms).contains(&now.unix_ms());
        let ordered = self.order.prewarm.filter(due).map_or(0, |order| order.replicas);
        let shape = Shape::from(spec);
        Shape { replicas_min: shape.replicas_min.max(ordered.min(shape.replicas_max)), ..shape }
    }

    pub(super) fn observed<'a>(&self, seen: &'a Seen) -> Observed<'a> {
        Observed {
            servers: &seen.loads,
            waiting: seen.waiting,
            selective_missing: seen.selective_missing,
            seats_free: seen.seats_free,
            arrivals: self.arrivals.flow(),
            start_time: self.start_times.measured(),
        }
    }

    /// Takes up what an earlier process decided.
    pub(super) fn resume(&mut self, mut records: Vec<DecisionRecord>) {
        records.sort_by_key(|record| record.number);
        if let Some(last) = records.last() {
            self.next_number = last.number + 1;
            self.memory = Memory::resumed(
                last.decision.replicas_wanted,
                last.out_at_ms.map(Timestamp::from_unix_ms),
                Timestamp::from_unix_ms(last.decision.at_ms),
            );
        }
        self.changed = records.into();
    }
}

impl World {
    /// Decides how many servers `name` should have, remembers it, and tells what changed.
    pub(super) fn decide_fleet(&mut self, name: &FleetName) -> Option<Wanted> {
        let state = self.fleets.get(name)?;
        let seen = self.see_for(state, &state.scaling.rules.policies);
        let now = self.now;
        let state = self.fleets.get_mut(name)?;
        let scaling = &mut state.scaling;
        scaling.arrivals.observe(now, 0);
        let shape = scaling.shape(&state.spec, now);
        let decision = decide(&shape, &scaling.rules, &scaling.observed(&seen), &scaling.memory, now);
        scaling.memory = decision.memory;
        let wanted = wanted(&decision, shape.replicas_max);
        if decision.change != Change::None {
            self.keep_decision(name, &decision, &seen);
        }
        self.fleets.get_mut(name)?.scaling.last = Some(decision);
        Some(wanted)
    }

    fn keep_decision(&mut self, name: &FleetName, decision: &Decision, seen: &Seen) {
        let now = self.now;
        let Some(state) = self.fleets.get_mut(name) else { return };
        let scaling = &mut state.scaling;
        let record = DecisionRecord {
            version: 1,
            fleet: Text(name.clone()),
            number: scaling.next_number,
            out_at_ms: decision.memory.out_at().map(Timestamp::unix_ms),
            decision: body(decision, &scaling.observed(seen), &state.view, now),
        };
        scaling.next_number += 1;
        if scaling.changed.len() == DECISIONS_MAX {
            scaling.changed.pop_front();
        }
        scaling.changed.push_back(record.clone());
        let notice = Notice::FleetScaled {
            fleet: name.clone(),
            from: decision.replicas_before,
            to: decision.replicas_wanted,
            reason: record.decision.reason.clone(),
        };
        self.write(Write::PutDecision { key: record_key(name, record.number), record });
        self.note(notice);
    }

    /// What there is to be seen of a fleet. What none of these policies asks for is not counted.
    pub(super) fn see_for(&self, state: &FleetState, policies: &[Policy]) -> Seen {
        let asks = |wanted: fn(&Policy) -> bool| policies.iter().any(wanted);
        let players = asks(of_players);
        let measured = asks(of_measured);
        let seats = asks(|policy| matches!(policy, Policy::Buffer { unit: BufferUnit::Seats, .. }));
        let load = |server: &greenroom_core::gameserver::GameServer| {
            let told = measured.then(|| self.servers.get(&server.name)).flatten();
            let told = told.map(|server| server.measured).unwrap_or_default();
            // One that holds itself, or is full, has no place for a room, whatever is on it.
            let full = server.held || server.full.is_some();
            let rooms = if full { server.rooms.max(sizes(state.spec.kind).0) } else { server.rooms };
            ServerLoad {
                full,
                state: server.state,
                idle: server.is_idle(),
                rooms: u32::from(rooms),
                players: if players { self.players_on(&server.name) } else { 0 },
                connections: server.connections.saturating_add(server.in_flight),
                connects_per_minute: told.connects_per_minute,
                tick_lateness_ms: told.tick_lateness_ms,
                loop_lag_ms: told.loop_lag_ms,
            }
        };
        Seen {
            loads: state.view.iter().map(load).collect(),
            waiting: places_asked_anywhere(state),
            selective_missing: self.selective_missing(&state.spec.name, state),
            seats_free: if seats { self.seats_free(state) } else { 0 },
        }
    }

    fn players_on(&self, name: &ServerName) -> u32 {
        let rooms = self.rooms_of.get(name).into_iter().flat_map(|on| &on.ids);
        let taken = rooms.filter_map(|id| self.rooms.get(id)).flat_map(|room| room.taken()).count();
        u32::try_from(taken).unwrap_or(u32::MAX)
    }

    pub(super) fn seats_free(&self, state: &FleetState) -> u32 {
        let filled = state.view.iter().filter(|server| server.state.takes_players() && server.full.is_none());
        let rooms = filled.filter_map(|server| self.rooms_of.get(&server.name)).flat_map(|on| &on.ids);
        let free = rooms.filter_map(|id| self.rooms.get(id)).map(|room| room.free_seats());
        u32::try_from(free.sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// `rooms` more were asked for.
    pub(super) fn count_arrivals(&mut self, fleet: &FleetName, rooms: u32) {
        let now = self.now;
        if let Some(fleet) = self.fleets.get_mut(fleet) {
            fleet.scaling.arrivals.observe(now, rooms);
        }
    }

    /// A server that was ordered answers for the first time: so long does it take.
    pub(super) fn count_start(&mut self, name: &ServerName) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(name) else { return };
        let Some(asked_at) = server.asked_at.take() else { return };
        if let Some(fleet) = self.fleets.get_mut(&server.fleet) {
            fleet.scaling.start_times.observe(now.since(asked_at));
        }
    }

    /// What each host carries, of all fleets.
    pub(super) fn host_loads(&self) -> HostLoads {
        let mut loads = HostLoads::new();
        for server in self.fleets.values().flat_map(|fleet| &fleet.view) {
            if server.state == State::Stopped {
                continue;
            }
            if !loads.contains_key(&server.host) {
                loads.insert(server.host.clone(), greenroom_core::fleet::HostLoad::default());
            }
            if let Some(load) = loads.get_mut(&server.host) {
                load.servers += 1;
                load.busy += u32::from(!server.is_idle());
            }
        }
        loads
    }

    /// Takes a person's order. It is stored before it is answered.
    pub(super) fn scale(
        &mut self,
        name: &FleetName,
        body: &ScaleRequest,
        by: &Actor,
    ) -> Result<ScaleOrder, Refusal> {
        let now = self.now;
        let state = self.fleet(name)?;
        let order = ordered(body, state.scaling.order, state.spec.replicas_max, now)?;
        let Some(state) = self.fleets.get_mut(name) else { return Ok(order) };
        state.scaling.obey(order, &state.spec.autoscale);
        self.write(Write::PutScale(ScaleRecord { version: 1, fleet: Text(name.clone()), order }));
        self.audit(by, AuditAction::FleetScaled, name, ordered_words(&order), false);
        self.note(Notice::FleetOrdered { fleet: name.clone(), order });
        Ok(order)
    }

    /// Takes up what was stored of orders and decisions. What belongs to no fleet of this configuration stays stored.
    pub(super) fn restore_scaling(&mut self, orders: Vec<ScaleRecord>, mut decisions: Vec<DecisionRecord>) {
        for record in orders {
            if let Some(state) = self.fleets.get_mut(&record.fleet.0) {
                state.scaling.obey(record.order, &state.spec.autoscale);
            }
        }
        for (name, state) in &mut self.fleets {
            let own = decisions.extract_if(.., |record| record.fleet.0 == *name).collect();
            state.scaling.resume(own);
        }
    }
}

/// What is started towards, and what the maximum keeps from it.
fn wanted(decision: &Decision, replicas_max: u32) -> Wanted {
    let above = decision.blocked_by.iter().find_map(|block| match block {
        Block::Maximum(unbounded) => Some(*unbounded),
        Block::CooldownOut(_)
        | Block::CooldownIn(_)
        | Block::Settling(_)
        | Block::Step(_)
        | Block::Frozen
        | Block::Busy(_) => None,
    });
    let replicas = decision.replicas_wanted;
    let beyond = above.filter(|_| replicas == replicas_max).map_or(0, |above| above.saturating_sub(replicas));
    Wanted { replicas, beyond }
}

/// The order that stands when `body` has been taken into account.
fn ordered(
    body: &ScaleRequest,
    before: ScaleOrder,
    replicas_max: u32,
    now: Timestamp,
) -> Result<ScaleOrder, Refusal> {
    let malformed = |message: String| Err(Refusal::Malformed(message));
    let mut order = ScaleOrder { freeze: body.freeze.unwrap_or(before.freeze), ..before };
    match body.replicas {
        None if body.ready_at_ms.is_some() || body.until_ms.is_some() => {
            return malformed("ready_at_ms and until_ms go with replicas; say how many".to_owned());
        }
        None if body.freeze.is_none() => {
            return malformed("nothing is ordered; give replicas or freeze".to_owned());
        }
        None => {}
        Some(0) => order.prewarm = None,
        Some(replicas) if replicas > replicas_max => {
            return malformed(format!("replicas is {replicas}, the fleet's replicas_max is {replicas_max}"));
        }
        Some(replicas) => {
            let ready_at = body.ready_at_ms.map_or(now, Timestamp::from_unix_ms);
            let until = body.until_ms.map_or(ready_at.max(now) + ORDER_LASTS, Timestamp::from_unix_ms);
            if until <= ready_at.max(now) {
                return malformed("until_ms must be after ready_at_ms and in the future".to_owned());
            }
            let (ready_at_ms, until_ms) = (ready_at.unix_ms(), until.unix_ms());
            order.prewarm = Some(PrewarmOrder { replicas, ready_at_ms, until_ms });
        }
    }
    Ok(order)
}

fn of_players(policy: &Policy) -> bool {
    matches!(
        policy,
        Policy::TargetAverage { metric: Metric::Players, .. }
            | Policy::Buffer { unit: BufferUnit::Seats, .. }
    )
}

fn of_measured(policy: &Policy) -> bool {
    let Policy::TargetAverage { metric, .. } = policy else { return false };
    matches!(metric, Metric::ConnectRate | Metric::TickLateness | Metric::LoopLag)
}
