//! From what the policies ask for to how many servers there should be now.
//!
//! Never orders anything.

use std::time::Duration;

use super::policy::Census;
use super::{
    Autoscale, Below, Binding, Block, Change, Decision, Freeze, Memory, Observed, Policy, PolicyTarget, Shape,
};
use crate::Timestamp;

/// How many servers the fleet should have at `now`, and why. Safe on stale observations: a later decision corrects.
///
/// The number is one of healthy servers: one that dies is replaced at once, because the number has not changed.
/// `memory` is what the last decision returned; a fresh one takes what is healthy now as what was wanted.
pub fn decide(
    shape: &Shape,
    rules: &Autoscale,
    observed: &Observed<'_>,
    memory: &Memory,
    now: Timestamp,
) -> Decision {
    let census = Census::of(shape, rules.scale_in, observed.servers);
    let bound = |replicas: u32| replicas.max(shape.replicas_min).min(shape.replicas_max);
    let before = memory.replicas_wanted.unwrap_or_else(|| census.healthy());
    let mut wake_at = None;
    let mut targets = Vec::with_capacity(rules.policies.len());
    for policy in &rules.policies {
        let word = policy.ask(shape, rules, observed, &census, now);
        sooner(&mut wake_at, word.wake_at);
        targets.push(PolicyTarget { policy: policy.name(), replicas: word.replicas, because: word.because });
    }
    let asked = highest(&targets, before);
    let at_once = at_once(shape, rules, observed, &census, before);
    let unbounded = asked.map_or(0, |(replicas, _)| replicas).max(at_once);
    let target = bound(unbounded);
    let mut step = Step { wanted: bound(before.max(at_once)), change: Change::None, blocked_by: Vec::new() };
    if step.wanted != before {
        step.change = Change::AtOnce;
    }
    let mut next = *memory;
    if memory.replicas_wanted.is_none() {
        next.changed_at = now;
    }
    if target > step.wanted {
        step.out(rules, target, &mut next, &mut wake_at, now);
    }
    if target < step.wanted {
        step.down(rules, target, census.busy_count(), &mut next, &mut wake_at, now);
    } else {
        next.below = None;
    }
    if unbounded > shape.replicas_max {
        step.blocked_by.push(Block::Maximum(unbounded));
    }
    if step.change != Change::None {
        next.changed_at = now;
    }
    next.replicas_wanted = Some(step.wanted);
    Decision {
        replicas_wanted: step.wanted,
        replicas_before: before,
        target,
        binding: binding(shape, observed, asked, unbounded),
        targets,
        change: step.change,
        blocked_by: step.blocked_by,
        wake_at,
        memory: next,
    }
}

/// The highest word and its place, the first of equals; a policy that could not measure wants what is there.
fn highest(targets: &[PolicyTarget], before: u32) -> Option<(u32, Binding)> {
    let mut highest: Option<(u32, Binding)> = None;
    for (at, target) in targets.iter().enumerate() {
        let said = match target.replicas {
            Some(replicas) => (replicas, Binding::Policy(at)),
            None => (before, Binding::Unmeasured(at)),
        };
        if highest.is_none_or(|(replicas, _)| said.0 > replicas) {
            highest = Some(said);
        }
    }
    highest
}

/// What no cool-down delays: waiting players where the policies say so, and anybody who waits for a fleet of nothing.
fn at_once(
    shape: &Shape,
    rules: &Autoscale,
    observed: &Observed<'_>,
    census: &Census<'_>,
    before: u32,
) -> u32 {
    let demand = || census.demand(shape, observed).replicas.unwrap_or(0);
    if rules.policies.contains(&Policy::Demand) {
        demand()
    } else {
        u32::from(before == 0 && somebody_waits(observed))
    }
}

fn somebody_waits(observed: &Observed<'_>) -> bool {
    observed.waiting > 0 || observed.selective_missing.is_some_and(|missing| missing > 0)
}

fn binding(shape: &Shape, observed: &Observed<'_>, asked: Option<(u32, Binding)>, unbounded: u32) -> Binding {
    match asked {
        _ if unbounded > shape.replicas_max => Binding::Maximum,
        Some((replicas, by)) if replicas == unbounded && replicas > shape.replicas_min => by,
        _ if unbounded > shape.replicas_min && somebody_waits(observed) => Binding::Wake,
        _ => Binding::Minimum,
    }
}

/// The number on its way from what was wanted to what the policies ask for.
struct Step {
    wanted: u32,
    change: Change,
    blocked_by: Vec<Block>,
}

impl Step {
    fn out(
        &mut self,
        rules: &Autoscale,
        target: u32,
        next: &mut Memory,
        wake_at: &mut Option<Timestamp>,
        now: Timestamp,
    ) {
        let allowed_at = next.out_at.map(|last| last + rules.cooldown_out).filter(|at| *at > now);
        if rules.freeze == Freeze::Everything {
            self.blocked_by.push(Block::Frozen);
        } else if let Some(at) = allowed_at {
            self.blocked_by.push(Block::CooldownOut(at));
            sooner(wake_at, Some(at));
        } else {
            let step = rules.step_out_max.max(1);
            let wanted = target.min(self.wanted.saturating_add(step));
            if wanted < target {
                self.blocked_by.push(Block::Step(step));
                // The next step is a look of its own also where there is no cool-down.
                sooner(wake_at, Some(now + rules.cooldown_out.max(Duration::from_millis(1))));
            }
            self.wanted = wanted;
            self.change = Change::Out;
            next.out_at = Some(now);
        }
        // Less was not asked for, whatever was done about it.
        next.below = None;
    }

    fn down(
        &mut self,
        rules: &Autoscale,
        target: u32,
        busy: u32,
        next: &mut Memory,
        wake_at: &mut Option<Timestamp>,
        now: Timestamp,
    ) {
        let below = next.below.unwrap_or(Below::new(now)).seen(target, rules.settle_in, now);
        next.below = Some(below);
        let mut waits = |block: fn(Timestamp) -> Block, since: Timestamp, span: Duration| {
            let at = since + span;
            if at > now {
                sooner(wake_at, Some(at));
                self.blocked_by.push(block(at));
            }
        };
        waits(Block::Settling, below.since, rules.settle_in);
        waits(Block::CooldownIn, next.changed_at, rules.cooldown_in);
        if rules.freeze != Freeze::Nothing {
            self.blocked_by.push(Block::Frozen);
        }
        if !self.blocked_by.is_empty() || self.change != Change::None {
            return;
        }
        let least = below.peak().max(busy).max(self.wanted.saturating_sub(rules.step_in_max.max(1)));
        if least > below.peak() {
            let step = self.wanted.saturating_sub(least) == rules.step_in_max.max(1);
            self.blocked_by.push(if step { Block::Step(rules.step_in_max) } else { Block::Busy(busy) });
        }
        if least < self.wanted {
            self.wanted = least;
            self.change = Change::In;
            next.below = None;
        }
    }
}

impl Below {
    const fn new(now: Timestamp) -> Self {
        Self { since: now, half_at: now, half: 0, half_before: 0 }
    }

    /// One more target. Halves are as long as `span`, so both together hold the most of at least the last `span`.
    fn seen(self, target: u32, span: Duration, now: Timestamp) -> Self {
        if now.since(self.half_at) >= span {
            return Self { half_at: now, half: target, half_before: self.half, ..self };
        }
        Self { half: self.half.max(target), ..self }
    }

    fn peak(&self) -> u32 {
        self.half.max(self.half_before)
    }
}

fn sooner(wake_at: &mut Option<Timestamp>, at: Option<Timestamp>) {
    *wake_at = [*wake_at, at].into_iter().flatten().min();
}
