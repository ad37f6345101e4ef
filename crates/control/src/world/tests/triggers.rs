//! Triggers of a world: one fire for each crossing, stored before anything is done, whoever leads.

use std::collections::BTreeSet;
use std::time::Duration;

use greenroom_core::trigger::{Reading, Threshold, Trigger};
use greenroom_wire::api::{
    ActionResult, ActionWord, AuditAction, MetricAnswer, MetricRequest, TriggerFired, TriggerState,
    TriggerStatus,
};
use proptest::prelude::*;

use super::rig::{Rig, mesh_fleet, request, room_fleet};
use crate::world::{Answer, Bounds, Call, Event, Gauge, Refusal, TriggerRule};

fn above(value: i64) -> Trigger {
    Trigger::new(Threshold::Above(Reading::whole(value)))
}

fn rule(name: &str, gauge: &str, trigger: Trigger) -> TriggerRule {
    let gauge = gauge.parse().unwrap();
    TriggerRule { name: name.to_owned(), gauge, trigger, action: ActionWord::Exec }
}

/// A world that watches `custom.queue`.
fn watching(trigger: Trigger) -> Rig {
    started(vec![rule("grow", "custom.queue", trigger)])
}

fn started(rules: Vec<TriggerRule>) -> Rig {
    let mut rig =
        Rig::new(vec![room_fleet("arena", (1, 1), 4, 2), mesh_fleet("feed", (1, 1))], Bounds::default());
    rig.config.triggers = rules;
    rig.restart();
    rig.connect();
    rig.run_ms(1_000);
    rig
}

fn tell(rig: &mut Rig, value: f64) -> Result<MetricAnswer, Refusal> {
    let body = MetricRequest { value, valid_ms: None };
    match rig.now_answered(Call::TellMetric { name: "queue".to_owned(), body })? {
        Answer::Metric(answer) => Ok(answer),
        other => panic!("{other:?}"),
    }
}

/// Tells the value and lets the world look at it once.
fn see(rig: &mut Rig, value: f64) {
    tell(rig, value).unwrap();
    rig.run_ms(1_000);
}

fn status(rig: &mut Rig, name: &str) -> TriggerStatus {
    match rig.now_answered(Call::Triggers).unwrap() {
        Answer::Triggers(list) => {
            list.triggers.into_iter().find(|trigger| trigger.name == name).expect("it is told")
        }
        other => panic!("{other:?}"),
    }
}

/// What was to be done since the last time; all of it is done.
fn done(rig: &mut Rig) -> Vec<String> {
    let fired: Vec<TriggerFired> = std::mem::take(&mut rig.fired);
    for fired in &fired {
        let detail = "exit code 0".to_owned();
        rig.event(Event::Acted { fire: fired.fire.clone(), result: ActionResult::Done, detail });
    }
    fired.into_iter().map(|fired| fired.fire).collect()
}

fn trail(rig: &Rig) -> Vec<(AuditAction, String)> {
    let all = [AuditAction::TriggerFired, AuditAction::TriggerDone, AuditAction::TriggerFailed];
    let entries = rig.kept.records.audit.iter().map(|record| &record.entry);
    let ours = entries.filter(|entry| all.contains(&entry.action));
    ours.map(|entry| {
        assert_eq!((entry.who.as_str(), entry.subject.as_str()), ("trigger", "grow"));
        (entry.action, entry.reason.clone())
    })
    .collect()
}

#[test]
fn what_no_server_has_measured_is_no_value_and_fires_nothing() {
    for gauge in ["connect_rate", "tick_lateness", "loop_lag"] {
        let below = Trigger::new(Threshold::Below(Reading::whole(10)));
        let mut rig = started(vec![rule("grow", &format!("fleet.arena.{gauge}"), below)]);
        rig.run_ms(3_000);
        let now = status(&mut rig, "grow");
        assert_eq!((now.state, now.fires), (TriggerState::NoValue, 0), "{gauge}");
        for running in rig.servers.values_mut() {
            let measured = &mut running.report.measured;
            (measured.connects_per_minute, measured.tick_lateness_ms, measured.loop_lag_ms) =
                (Some(3), Some(3), Some(3));
        }
        rig.run_ms(3_000);
        assert_eq!(status(&mut rig, "grow").fires, 1, "{gauge}");
    }
}

#[test]
fn a_trigger_fires_once_for_each_crossing_and_tells_what_came_of_it() {
    let mut rig = watching(Trigger { rearm: Reading::whole(50), ..above(100) });
    assert_eq!(status(&mut rig, "grow").state, TriggerState::NoValue);
    see(&mut rig, 100.0);
    assert_eq!(status(&mut rig, "grow").state, TriggerState::Armed);
    see(&mut rig, 120.5);
    assert_eq!(rig.fired.len(), 1);
    let fired = &rig.fired[0];
    assert_eq!(fired.text, "trigger grow fired: custom.queue is 120.5, above 100");
    assert_eq!((fired.fire.as_str(), fired.value, fired.threshold.as_str()), ("grow.1", 120.5, "above 100"));
    assert!(status(&mut rig, "grow").running);
    assert_eq!(done(&mut rig), ["grow.1"]);
    for value in [130.0, 60.0, 500.0] {
        see(&mut rig, value);
        assert_eq!(status(&mut rig, "grow").state, TriggerState::Firing, "{value} is not below the rearm");
    }
    see(&mut rig, 50.0);
    assert_eq!(status(&mut rig, "grow").state, TriggerState::Armed);
    see(&mut rig, 101.0);
    assert_eq!(done(&mut rig), ["grow.2"]);
    let now = status(&mut rig, "grow");
    assert_eq!((now.fires, now.value, now.above, now.rearm), (2, Some(101.0), Some(100.0), 50.0));
    assert_eq!(
        now.outcome.map(|outcome| (outcome.result, outcome.detail)),
        Some((ActionResult::Done, "exit code 0".to_owned()))
    );
    assert_eq!(
        trail(&rig),
        [
            (AuditAction::TriggerFired, "custom.queue is 120.5, above 100".to_owned()),
            (AuditAction::TriggerDone, "grow.1: done: exit code 0".to_owned()),
            (AuditAction::TriggerFired, "custom.queue is 101, above 100".to_owned()),
            (AuditAction::TriggerDone, "grow.2: done: exit code 0".to_owned()),
        ]
    );
}

#[test]
fn hold_and_cool_down_are_kept_and_told() {
    let trigger = Trigger { hold: Duration::from_secs(5), cooldown: Duration::from_secs(60), ..above(10) };
    let mut rig = watching(trigger);
    see(&mut rig, 11.0);
    assert_eq!(status(&mut rig, "grow").state, TriggerState::Holding);
    rig.run_ms(3_900);
    assert_eq!(rig.fired.len(), 0);
    rig.run_ms(1_200);
    assert_eq!(done(&mut rig), ["grow.1"]);
    see(&mut rig, 0.0);
    assert_eq!(status(&mut rig, "grow").state, TriggerState::Cooling);
    see(&mut rig, 11.0);
    rig.run_ms(40_000);
    assert_eq!(rig.fired.len(), 0, "it cools down");
    see(&mut rig, 11.0);
    rig.run_ms(20_000);
    assert_eq!(done(&mut rig), ["grow.2"]);
}

#[test]
fn a_stale_number_fires_nothing_and_says_so() {
    let mut rig = watching(Trigger { hold: Duration::from_secs(90), ..above(10) });
    assert_eq!(status(&mut rig, "grow").no_value, "nobody has told it yet; PUT /v1/metrics/queue does");
    let answer = tell(&mut rig, 11.0).unwrap();
    assert_eq!(
        (answer.valid_until_ms - rig.now.unix_ms(), answer.triggers),
        (60_000, vec!["grow".to_owned()])
    );
    rig.run_ms(120_000);
    assert_eq!(rig.fired.len(), 0);
    let now = status(&mut rig, "grow");
    assert_eq!((now.state, now.no_value.as_str()), (TriggerState::NoValue, "stale for 60 s"));
    // Held from the beginning, since the old value counts for nothing.
    for _ in 0..3 {
        see(&mut rig, 11.0);
        rig.run_ms(28_000);
        assert_eq!(rig.fired.len(), 0);
    }
    see(&mut rig, 11.0);
    rig.run_ms(5_000);
    assert_eq!(done(&mut rig), ["grow.1"]);
}

#[test]
fn numbers_that_cannot_be_meant_are_refused() {
    let mut rig = watching(above(10));
    let mut told = |name: &str, value: f64, valid_ms: Option<u64>| {
        let call = Call::TellMetric { name: name.to_owned(), body: MetricRequest { value, valid_ms } };
        rig.now_answered(call).map(drop).map_err(|refusal| refusal.to_string())
    };
    let cases = [
        ("queue", 1e16, None, "10000000000000000 is no number between -1e15 and 1e15"),
        ("queue", 1.0, Some(999), "valid_ms must be 1000 to 86400000, not 999"),
        ("queues", 1.0, None, "no trigger watches custom.queues; there are: custom.queue"),
    ];
    for (name, value, valid_ms, message) in cases {
        assert_eq!(told(name, value, valid_ms), Err(message.to_owned()));
    }
    assert_eq!(told("queue", 1.0, Some(1_000)), Ok(()));
    let mut none = started(vec![rule("idle", "fleet.arena.rooms", above(10))]);
    let refused = tell(&mut none, 1.0).unwrap_err().to_string();
    assert_eq!(refused, "no trigger watches custom.queue; none of that sort is watched");
}

#[test]
fn the_next_leader_fires_nothing_again_and_says_what_it_cannot_know() {
    let mut rig = watching(above(10));
    see(&mut rig, 11.0);
    // Killed after the fire was stored; whether its action was done nobody knows.
    let fire = rig.fired.pop().unwrap().fire;
    rig.restart();
    rig.connect();
    see(&mut rig, 12.0);
    assert_eq!(rig.fired.len(), 0, "it has fired for this crossing");
    let now = status(&mut rig, "grow");
    assert_eq!((now.state, now.fires, now.running), (TriggerState::Firing, 1, false));
    assert_eq!(now.outcome.map(|outcome| outcome.result), Some(ActionResult::Unknown));
    // What the former process did is not taken for its own.
    rig.event(Event::Acted { fire, result: ActionResult::Done, detail: "late".to_owned() });
    assert_eq!(status(&mut rig, "grow").outcome.map(|outcome| outcome.result), Some(ActionResult::Unknown));
    let (action, reason) = trail(&rig).pop().unwrap();
    assert_eq!(action, AuditAction::TriggerFailed);
    assert!(reason.starts_with("grow.1: unknown: the control plane ended"), "{reason}");
    // It is told once, however often the control plane begins anew, and that it is over is known too.
    rig.restart();
    rig.connect();
    assert_eq!(trail(&rig).len(), 2);
    see(&mut rig, 0.0);
    rig.restart();
    rig.connect();
    see(&mut rig, 11.0);
    assert_eq!(done(&mut rig), ["grow.2"]);
}

#[test]
fn while_its_action_runs_a_trigger_looks_at_nothing() {
    let mut rig = watching(above(10));
    see(&mut rig, 11.0);
    for value in [0.0, 11.0, 0.0] {
        see(&mut rig, value);
    }
    assert_eq!(rig.fired.len(), 1);
    assert_eq!(done(&mut rig), ["grow.1"]);
    rig.run_ms(1_000);
    see(&mut rig, 11.0);
    assert_eq!(done(&mut rig), ["grow.2"]);
}

#[test]
fn what_is_counted_of_fleets_and_hosts_can_be_watched() {
    let rules = crate::world::FleetGauge::ALL.iter().map(|what| {
        let name = what.word().replace('_', "-");
        rule(&name, &format!("fleet.arena.{}", what.word()), above(1_000))
    });
    let more = [
        rule("mesh", "fleet.feed.players", above(1_000)),
        rule("gone", "fleet.none.players", above(1_000)),
        rule("here", "hosts.connected", above(1_000)),
        rule("silent", "hosts.silent", above(0)),
        rule("results", "results.undelivered", above(1_000)),
    ];
    let mut rig = started(rules.chain(more).collect());
    let grant = rig.allocate(request(None, &["a"])).unwrap();
    rig.seat(&grant, &[(0, "a")]);
    for running in rig.servers.values_mut() {
        running.report.connections = 3;
    }
    rig.report();
    let expected = [
        ("players", Some(1.0)),
        ("connections", Some(3.0)),
        ("rooms", Some(1.0)),
        ("servers", Some(1.0)),
        ("ready", Some(1.0)),
        ("busy", Some(1.0)),
        ("wanted", Some(1.0)),
        ("tickets", Some(0.0)),
        ("waiting", Some(0.0)),
        ("free-seats", Some(1.0)),
        ("connect-rate", None),
        ("tick-lateness", None),
        ("loop-lag", None),
        ("mesh", Some(3.0)),
        ("gone", None),
        ("here", Some(1.0)),
        ("silent", Some(0.0)),
        ("results", Some(0.0)),
    ];
    for (name, value) in expected {
        let now = status(&mut rig, name);
        assert_eq!(now.value, value, "{name}");
        assert_eq!(now.no_value.is_empty(), value.is_some(), "{name}");
    }
    assert_eq!(status(&mut rig, "gone").no_value, "there is no fleet none here");
    rig.silent_ms(5_000);
    let fired: Vec<String> = rig.fired.iter().map(|fired| fired.text.clone()).collect();
    assert_eq!(fired, ["trigger silent fired: hosts.silent is 1, above 0"]);
    // Before the agents have reported nothing is counted: it would be too little.
    rig.restart();
    assert_eq!(status(&mut rig, "players").no_value, "waiting for the agents of: h1");
}

#[test]
fn a_trigger_that_is_taken_out_and_comes_back_goes_on_until_it_is_forgotten() {
    let mut rig = watching(above(10));
    see(&mut rig, 11.0);
    assert_eq!(done(&mut rig), ["grow.1"]);
    let rules = std::mem::take(&mut rig.config.triggers);
    rig.restart();
    rig.config.triggers = rules;
    rig.restart();
    rig.connect();
    see(&mut rig, 11.0);
    assert_eq!(rig.fired.len(), 0);
    let rules = std::mem::take(&mut rig.config.triggers);
    rig.now = rig.now + Duration::from_hours(24 * 30);
    rig.restart();
    assert_eq!(rig.kept.records.triggers, []);
    rig.config.triggers = rules;
    rig.restart();
    rig.connect();
    see(&mut rig, 11.0);
    assert_eq!(done(&mut rig), ["grow.1"]);
}

#[test]
fn what_can_be_watched_is_written_as_it_is_read_and_the_rest_is_refused() {
    let words = crate::world::FleetGauge::ALL.map(|what| format!("fleet.arena-1.{}", what.word()));
    let plain = Gauge::PLAIN.map(str::to_owned);
    for text in words.into_iter().chain(plain).chain(["custom.queue_1.eu-west".to_owned()]) {
        assert_eq!(text.parse::<Gauge>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "players",
        "fleet.arena",
        "fleet.arena.player",
        "fleet.A.players",
        "custom.",
        "custom.A",
        "hosts.x",
    ] {
        assert!(text.parse::<Gauge>().is_err(), "{text}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A value is told and looked at.
    See(f64),
    /// What is under way comes to its end, and that is known.
    End,
    /// `kill -9` and another process.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0_u32..20).prop_map(|value| Step::See(f64::from(value))),
        3 => Just(Step::End),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However often processes die, at whatever moment: no fire is given out twice, none without a crossing of its own, and each is
    /// in the trail with one end, unless it is under way.
    #[test]
    fn no_fire_is_given_out_twice_whoever_leads(steps in steps()) {
        let mut rig = watching(above(10));
        let (mut given, mut is_over, mut running) = (BTreeSet::new(), true, false);
        for step in steps {
            match step {
                Step::See(value) => {
                    see(&mut rig, value);
                    is_over |= !running && value <= 10.0;
                }
                Step::End => drop(done(&mut rig)),
                Step::Restart => {
                    rig.fired.clear();
                    rig.restart();
                    rig.connect();
                }
            }
            for fired in &rig.fired {
                if given.insert(fired.fire.clone()) {
                    prop_assert!(is_over, "{} without a crossing of its own", fired.fire);
                    is_over = false;
                }
            }
            running = status(&mut rig, "grow").running;
            prop_assert!(rig.fired.len() <= 1);
        }
        let count = |action| trail(&rig).iter().filter(|(told, _)| *told == action).count();
        let ends = count(AuditAction::TriggerDone) + count(AuditAction::TriggerFailed);
        prop_assert_eq!(count(AuditAction::TriggerFired), given.len());
        prop_assert_eq!(ends + usize::from(running), given.len());
    }
}
