//! Decisions for people: what was decided from what, what stands now, what other rules would say.
//!
//! Never changes anything.

use greenroom_core::autoscale::{Autoscale, Binding, Change, Decision, Observed, decide};
use greenroom_core::gameserver::{GameServer, State};
use greenroom_core::{FleetName, Timestamp};
use greenroom_wire::Text;
use greenroom_wire::api::{
    AutoscaleBody, ChangeWord, DecisionBody, DecisionInputs, DecisionList, DryRunRequest, PolicyWord,
    RulesBody,
};

use super::state::FleetState;
use super::{Refusal, World};

/// Decisions kept of each fleet; as many records are stored, each over the oldest.
pub(super) const DECISIONS_MAX: usize = 100;

/// Where a decision is stored.
pub(super) fn record_key(fleet: &FleetName, number: u64) -> String {
    format!("{fleet}/{:02}", number % DECISIONS_MAX as u64)
}

impl World {
    pub(super) fn decisions(&self, name: &FleetName, limit: usize) -> Result<DecisionList, Refusal> {
        let state = self.fleet(name)?;
        let spec = &state.spec;
        Ok(DecisionList {
            fleet: Text(name.clone()),
            rules: RulesBody {
                replicas_min: spec.replicas_min,
                replicas_max: spec.replicas_max,
                autoscale: AutoscaleBody::from(&spec.autoscale),
            },
            order: state.scaling.order,
            now: if self.is_rebuilding() { None } else { Some(self.would_decide(state)) },
            waiting_on: self.waiting_on(state).into_iter().chain(Self::worn_out(state)).collect(),
            decisions: state.scaling.changed.iter().rev().take(limit).map(|r| r.decision.clone()).collect(),
        })
    }

    pub(super) fn dry_run(&self, name: &FleetName, body: &DryRunRequest) -> Result<DecisionBody, Refusal> {
        let state = self.fleet(name)?;
        if self.is_rebuilding() {
            return Err(Refusal::Rebuilding { hosts: self.awaited_hosts().join(", ") });
        }
        let rules = body.autoscale.as_ref().map(Autoscale::try_from).transpose();
        let rules = rules.map_err(|invalid| Refusal::Malformed(invalid.to_string()))?;
        let mut rules = rules.unwrap_or_else(|| state.scaling.rules.clone());
        rules.freeze = state.scaling.rules.freeze;
        let mut shape = state.scaling.shape(&state.spec, self.now);
        shape.replicas_min = body.replicas_min.unwrap_or(shape.replicas_min);
        shape.replicas_max = body.replicas_max.unwrap_or(shape.replicas_max);
        if shape.replicas_min > shape.replicas_max {
            let (min, max) = (shape.replicas_min, shape.replicas_max);
            return Err(Refusal::Malformed(format!(
                "replicas_min is {min}, above replicas_max, which is {max}"
            )));
        }
        // What the policies ask for is seen with their eyes: seats and players only where they ask.
        let seen = self.see_for(state, &rules.policies);
        let observed = state.scaling.observed(&seen);
        let decision = decide(&shape, &rules, &observed, &state.scaling.memory, self.now);
        Ok(self::body(&decision, &observed, &state.view, self.now))
    }

    fn would_decide(&self, state: &FleetState) -> DecisionBody {
        let rules = &state.scaling.rules;
        let seen = self.see_for(state, &rules.policies);
        let observed = state.scaling.observed(&seen);
        let shape = state.scaling.shape(&state.spec, self.now);
        let decision = decide(&shape, rules, &observed, &state.scaling.memory, self.now);
        body(&decision, &observed, &state.view, self.now)
    }
}

/// A decision with what it saw.
pub(super) fn body(
    decision: &Decision,
    observed: &Observed<'_>,
    view: &[GameServer],
    now: Timestamp,
) -> DecisionBody {
    let policy = |at: usize| decision.targets[at].policy.to_owned();
    DecisionBody {
        at_ms: now.unix_ms(),
        replicas_wanted: decision.replicas_wanted,
        replicas_before: decision.replicas_before,
        target: decision.target,
        change: match decision.change {
            Change::None => ChangeWord::None,
            Change::AtOnce => ChangeWord::AtOnce,
            Change::Out => ChangeWord::Out,
            Change::In => ChangeWord::In,
        },
        binding: match decision.binding {
            Binding::Minimum => "minimum".to_owned(),
            Binding::Maximum => "maximum".to_owned(),
            Binding::Wake => "wake".to_owned(),
            Binding::Policy(at) | Binding::Unmeasured(at) => policy(at),
        },
        reason: decision.to_string(),
        policies: decision
            .targets
            .iter()
            .map(|target| PolicyWord {
                policy: target.policy.to_owned(),
                replicas: target.replicas,
                because: target.because.to_string(),
            })
            .collect(),
        blocked_by: decision.blocked_by.iter().map(ToString::to_string).collect(),
        wake_at_ms: decision.wake_at.map(Timestamp::unix_ms),
        inputs: inputs(observed, view),
    }
}

fn inputs(observed: &Observed<'_>, view: &[GameServer]) -> DecisionInputs {
    let servers = |matches: fn(&GameServer) -> bool| {
        u32::try_from(view.iter().filter(|server| matches(server)).count()).unwrap_or(u32::MAX)
    };
    let serving = || observed.servers.iter().filter(|server| server.state.takes_players());
    let sum = |of: fn(&greenroom_core::autoscale::ServerLoad) -> u32| {
        serving().map(of).fold(0, u32::saturating_add)
    };
    let counted = |server: &GameServer| server.state.takes_players() || server.state == State::Starting;
    let busy = view.iter().filter(|server| counted(server) && !server.is_idle()).count();
    DecisionInputs {
        ready: servers(|server| server.state.takes_players()),
        full: servers(|server| server.state.takes_players() && !server.takes_players()),
        starting: servers(|server| server.state == State::Starting),
        busy: u32::try_from(busy).unwrap_or(u32::MAX),
        draining: servers(|server| server.state == State::Draining),
        unhealthy: servers(|server| server.state == State::Unhealthy),
        rooms: sum(|server| server.rooms),
        players: sum(|server| server.players),
        connections: sum(|server| server.connections),
        seats_free: observed.seats_free,
        waiting: observed.waiting,
        selective_missing: observed.selective_missing,
        arrivals_per_1000_s: observed.arrivals.map(|flow| flow.per_second_micros / 1000),
        start_p95_ms: observed
            .start_time
            .map(|start| u64::try_from(start.p95.as_millis()).unwrap_or(u64::MAX)),
    }
}
