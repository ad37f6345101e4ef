//! Bodies and records about triggers.

use greenroom_wire::api::{
    ActionOutcome, ActionResult, ActionWord, MetricAnswer, MetricRequest, TriggerFired, TriggerList,
    TriggerState, TriggerStatus,
};
use greenroom_wire::record::TriggerRecord;

use crate::From::{Process, User};
use crate::golden;

const NOW_MS: u64 = 1_700_000_000_000;

fn outcome() -> ActionOutcome {
    ActionOutcome { result: ActionResult::Failed, detail: "exit code 3".to_owned(), at_ms: NOW_MS + 1_500 }
}

#[test]
fn what_triggers_tell_and_are_told_keeps_its_shape() {
    let firing = TriggerStatus {
        name: "grow".to_owned(),
        metric: "custom.queue".to_owned(),
        value: Some(120.5),
        no_value: String::new(),
        above: Some(100.0),
        below: None,
        rearm: 80.0,
        state: TriggerState::Firing,
        fires: 3,
        fired_at_ms: Some(NOW_MS),
        action: ActionWord::Exec,
        running: false,
        outcome: Some(outcome()),
    };
    let unknown = TriggerStatus {
        name: "empty".to_owned(),
        metric: "fleet.arena.ready".to_owned(),
        value: None,
        no_value: "the agents of h1 have not reported yet".to_owned(),
        above: None,
        below: Some(1.0),
        rearm: 1.0,
        state: TriggerState::NoValue,
        fires: 0,
        fired_at_ms: None,
        action: ActionWord::Post,
        running: false,
        outcome: None,
    };
    golden(Process, "api_triggers", &TriggerList { triggers: vec![unknown, firing] });
    golden(User, "api_metric", &MetricRequest { value: 120.5, valid_ms: Some(30_000) });
    let answer = MetricAnswer {
        metric: "custom.queue".to_owned(),
        value: 120.5,
        valid_until_ms: NOW_MS + 60_000,
        triggers: vec!["grow".to_owned()],
    };
    golden(Process, "api_metric_answer", &answer);
    let fired = TriggerFired {
        text: "trigger grow fired: custom.queue is 120.5, above 100".to_owned(),
        trigger: "grow".to_owned(),
        fire: "grow.3".to_owned(),
        metric: "custom.queue".to_owned(),
        value: 120.5,
        threshold: "above 100".to_owned(),
        at_ms: NOW_MS,
    };
    golden(Process, "trigger_fired", &fired);
}

#[test]
fn what_is_kept_of_a_trigger_keeps_its_shape() {
    let record = TriggerRecord {
        version: 1,
        name: "grow".to_owned(),
        firing: true,
        fires: 3,
        fired_at_ms: NOW_MS,
        running: true,
        outcome: Some(outcome()),
    };
    golden(Process, "record_trigger", &record);
    let over = TriggerRecord { firing: false, running: false, outcome: None, ..record };
    golden(Process, "record_trigger_over", &over);
}
