//! Triggers: watches numbers, decides with `core::trigger` when one asks for something to be done, and has it done once.
//!
//! Never does it: an effect says what is to be done and an event how that went. That a trigger has fired is stored in the same step
//! and before anything is done; so whoever leads next does not do it again, and says `unknown` of what it cannot know.

mod gauge;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_core::trigger::{Memory, Reading, Threshold, Trigger, Turn};
use greenroom_wire::api::{
    ActionOutcome, ActionResult, ActionWord, AuditAction, MetricAnswer, MetricRequest, TriggerFired,
    TriggerList, TriggerState, TriggerStatus,
};
use greenroom_wire::record::TriggerRecord;

use super::{Actor, Effect, Notice, Refusal, World, Write};

pub use gauge::{FleetGauge, Gauge, GaugeError};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a number that a user tells holds, where the call does not say.
const VALID_MS: u64 = 60_000;
/// What a call may say.
const VALID_MS_BOUNDS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;
/// A trigger that is no longer configured is forgotten when its last fire is so long ago.
const FORGET_AFTER: Duration = Duration::from_hours(24 * 30);

/// One trigger as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerRule {
    /// Its name, unique. That it has fired is kept under it.
    pub name: String,
    /// What it watches.
    pub gauge: Gauge,
    /// When it fires.
    pub trigger: Trigger,
    /// What it does then.
    pub action: ActionWord,
}

/// All of them. The default watches nothing.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    watched: Vec<Watched>,
    /// What users have told, by name; only names that are watched.
    metrics: BTreeMap<String, Told>,
    look_at: Timestamp,
}

#[derive(Debug)]
struct Watched {
    rule: TriggerRule,
    memory: Memory,
    /// As it is stored, once it has fired.
    record: TriggerRecord,
}

#[derive(Debug)]
struct Told {
    reading: Reading,
    valid_until: Timestamp,
}

impl Triggers {
    /// What a user told last, if that still holds.
    fn told(&self, name: &str, now: Timestamp) -> Result<Reading, String> {
        let told = self.metrics.get(name);
        let told = told.ok_or_else(|| format!("nobody has told it yet; PUT /v1/metrics/{name} does"))?;
        if now < told.valid_until {
            return Ok(told.reading);
        }
        Err(format!("stale for {} s", now.since(told.valid_until).as_secs()))
    }

    /// Names of users' own numbers that are watched, in words.
    fn custom(&self) -> String {
        let gauges = self.watched.iter().map(|watched| watched.rule.gauge.to_string());
        let names: BTreeSet<String> = gauges.filter(|name| name.starts_with("custom.")).collect();
        if names.is_empty() {
            return "none of that sort is watched".to_owned();
        }
        format!("there are: {}", names.into_iter().collect::<Vec<_>>().join(", "))
    }
}

impl Watched {
    fn new(rule: TriggerRule, record: Option<TriggerRecord>) -> Self {
        let fired_at = record.as_ref().map(|record| Timestamp::from_unix_ms(record.fired_at_ms));
        let firing = record.as_ref().is_some_and(|record| record.firing);
        let record = record.unwrap_or_else(|| TriggerRecord {
            version: 1,
            name: rule.name.clone(),
            firing: false,
            fires: 0,
            fired_at_ms: 0,
            running: false,
            outcome: None,
        });
        Self { rule, memory: Memory::resumed(firing, fired_at), record }
    }

    fn fire_id(&self) -> String {
        format!("{}.{}", self.rule.name, self.record.fires)
    }

    fn status(&self, reading: Result<Reading, String>, now: Timestamp) -> TriggerStatus {
        let TriggerRule { name, gauge, trigger, action } = &self.rule;
        let (above, below) = match trigger.threshold {
            Threshold::Above(value) => (Some(value.into()), None),
            Threshold::Below(value) => (None, Some(value.into())),
        };
        let state = match &reading {
            Err(_) => TriggerState::NoValue,
            Ok(_) if self.memory.is_firing() => TriggerState::Firing,
            Ok(_) if trigger.is_cooling(&self.memory, now) => TriggerState::Cooling,
            Ok(_) if self.memory.crossed_since().is_some() => TriggerState::Holding,
            Ok(_) => TriggerState::Armed,
        };
        let (value, no_value) = match reading {
            Ok(reading) => (Some(reading.into()), String::new()),
            Err(why) => (None, why),
        };
        TriggerStatus {
            name: name.clone(),
            metric: gauge.to_string(),
            value,
            no_value,
            above,
            below,
            rearm: trigger.rearm.into(),
            state,
            fires: self.record.fires,
            fired_at_ms: (self.record.fires > 0).then_some(self.record.fired_at_ms),
            action: *action,
            running: self.record.running,
            outcome: self.record.outcome.clone(),
        }
    }
}

impl World {
    /// Takes up what has fired. What was being done then is not done again.
    pub(super) fn restore_triggers(&mut self, records: Vec<TriggerRecord>) {
        let mut stored: BTreeMap<String, TriggerRecord> =
            records.into_iter().map(|record| (record.name.clone(), record)).collect();
        for rule in self.config.triggers.clone() {
            let record = stored.remove(&rule.name);
            self.triggers.watched.push(Watched::new(rule, record));
        }
        for at in 0..self.triggers.watched.len() {
            if self.triggers.watched[at].record.running {
                let detail =
                    "the control plane ended or was replaced before that was known; it is not done again";
                self.conclude(at, ActionResult::Unknown, detail);
            }
        }
        let is_old = |record: &TriggerRecord| {
            self.now.since(Timestamp::from_unix_ms(record.fired_at_ms)) >= FORGET_AFTER
        };
        for name in stored.into_values().filter(is_old).map(|record| record.name).collect::<Vec<_>>() {
            self.write(Write::DeleteTrigger { name });
        }
    }

    /// Looks at all numbers, once in a while.
    pub(super) fn watch_triggers(&mut self) {
        if self.now < self.triggers.look_at {
            return;
        }
        self.triggers.look_at = self.now + LOOK_EVERY;
        for at in 0..self.triggers.watched.len() {
            self.look(at);
        }
    }

    fn look(&mut self, at: usize) {
        let now = self.now;
        // One thing after the other: what it does may take longer than the value takes to fall and rise again.
        if self.triggers.watched[at].record.running {
            return;
        }
        let reading = self.read_gauge(&self.triggers.watched[at].rule.gauge).ok();
        let Watched { rule, memory, record } = &mut self.triggers.watched[at];
        match (rule.trigger.observe(memory, reading, now), reading) {
            (Turn::Fire, Some(reading)) => self.fire(at, reading),
            (Turn::Rearm, _) => {
                record.firing = false;
                let record = record.clone();
                self.write(Write::PutTrigger(record));
            }
            (Turn::Fire | Turn::Nothing, _) => {}
        }
    }

    fn fire(&mut self, at: usize, reading: Reading) {
        let at_ms = self.now.unix_ms();
        let watched = &mut self.triggers.watched[at];
        let fires = watched.record.fires + 1;
        watched.record = TriggerRecord {
            firing: true,
            running: true,
            fires,
            fired_at_ms: at_ms,
            ..watched.record.clone()
        };
        let (name, metric) = (watched.rule.name.clone(), watched.rule.gauge.to_string());
        let threshold = watched.rule.trigger.threshold.to_string();
        let reason = format!("{metric} is {reading}, {threshold}");
        let fired = TriggerFired {
            text: format!("trigger {name} fired: {reason}"),
            trigger: name.clone(),
            fire: watched.fire_id(),
            metric,
            value: reading.into(),
            threshold,
            at_ms,
        };
        let record = watched.record.clone();
        self.write(Write::PutTrigger(record));
        self.audit(&Actor::Trigger, AuditAction::TriggerFired, &name, &reason, false);
        self.note(Notice::Trigger { text: fired.text.clone() });
        self.out.push(Effect::Act(Box::new(fired)));
    }

    /// What was to be done came to its end.
    pub(super) fn acted(&mut self, fire: &str, result: ActionResult, detail: &str) {
        let is_it = |watched: &Watched| watched.record.running && watched.fire_id() == fire;
        if let Some(at) = self.triggers.watched.iter().position(is_it) {
            self.conclude(at, result, detail);
        }
    }

    fn conclude(&mut self, at: usize, result: ActionResult, detail: &str) {
        let watched = &mut self.triggers.watched[at];
        let fire = watched.fire_id();
        watched.record.running = false;
        let outcome = ActionOutcome { result, detail: detail.to_owned(), at_ms: self.now.unix_ms() };
        watched.record.outcome = Some(outcome);
        let record = watched.record.clone();
        let name = record.name.clone();
        self.write(Write::PutTrigger(record));
        let (action, word) = match result {
            ActionResult::Done => (AuditAction::TriggerDone, "done"),
            ActionResult::Failed => (AuditAction::TriggerFailed, "failed"),
            ActionResult::Unknown => (AuditAction::TriggerFailed, "unknown"),
        };
        let reason = format!("{fire}: {word}: {detail}");
        self.audit(&Actor::Trigger, action, &name, &reason, false);
        self.note(Notice::Trigger { text: format!("the action of trigger {reason}") });
    }

    /// A user tells a number.
    pub(super) fn tell_metric(&mut self, name: &str, body: &MetricRequest) -> Result<MetricAnswer, Refusal> {
        let gauge = Gauge::Custom(name.to_owned());
        let watching = self.triggers.watched.iter().filter(|watched| watched.rule.gauge == gauge);
        let triggers: Vec<String> = watching.map(|watched| watched.rule.name.clone()).collect();
        if triggers.is_empty() {
            return Err(Refusal::NobodyWatches { metric: name.to_owned(), known: self.triggers.custom() });
        }
        let reading = Reading::try_from(body.value).map_err(|error| Refusal::Malformed(error.to_string()))?;
        let valid_ms = body.valid_ms.unwrap_or(VALID_MS);
        if !VALID_MS_BOUNDS.contains(&valid_ms) {
            let (least, most) = (VALID_MS_BOUNDS.start(), VALID_MS_BOUNDS.end());
            return Err(Refusal::Malformed(format!("valid_ms must be {least} to {most}, not {valid_ms}")));
        }
        let valid_until = self.now + Duration::from_millis(valid_ms);
        self.triggers.metrics.insert(name.to_owned(), Told { reading, valid_until });
        Ok(MetricAnswer {
            metric: gauge.to_string(),
            value: reading.into(),
            valid_until_ms: valid_until.unix_ms(),
            triggers,
        })
    }

    pub(super) fn trigger_list(&self) -> TriggerList {
        let status = |watched: &Watched| watched.status(self.read_gauge(&watched.rule.gauge), self.now);
        TriggerList { triggers: self.triggers.watched.iter().map(status).collect() }
    }
}
