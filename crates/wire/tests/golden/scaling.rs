//! Bodies about scaling.

use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_core::autoscale::{Amount, Autoscale, BufferUnit, Calendar, Metric, Policy, ScaleIn};
use greenroom_wire::api::{
    AutoscaleBody, ChangeWord, DecisionBody, DecisionInputs, DecisionList, DryRunRequest, FreezeWord,
    PolicyBody, PolicyWord, PrewarmOrder, RulesBody, ScaleOrder, ScaleRequest,
};

use crate::From::{Process, User};
use crate::{golden, text};

const NOW_MS: u64 = 1_700_000_000_000;

/// At least forty for an evening.
pub(crate) fn order() -> ScaleOrder {
    let prewarm = PrewarmOrder { replicas: 40, ready_at_ms: NOW_MS, until_ms: NOW_MS + 3_600_000 };
    ScaleOrder { freeze: FreezeWord::ScaleIn, prewarm: Some(prewarm) }
}

/// A scale-out that was bounded by its step.
pub(crate) fn decision() -> DecisionBody {
    DecisionBody {
        at_ms: NOW_MS,
        replicas_wanted: 9,
        replicas_before: 5,
        target: 20,
        change: ChangeWord::Out,
        binding: "base_stock".to_owned(),
        reason: "9 instead of 5".to_owned(),
        policies: vec![PolicyWord {
            policy: "base_stock".to_owned(),
            replicas: Some(20),
            because: "34 places should be free".to_owned(),
        }],
        blocked_by: vec!["at most 4 servers in one step".to_owned()],
        wake_at_ms: Some(NOW_MS + 180_000),
        inputs: DecisionInputs {
            ready: 5,
            busy: 4,
            rooms: 4,
            connections: 16,
            waiting: 2,
            arrivals_per_1000_s: Some(100),
            start_p95_ms: Some(2_100),
            ..DecisionInputs::default()
        },
    }
}

/// Every policy there is.
fn rules() -> Autoscale {
    Autoscale {
        policies: vec![
            Policy::Demand,
            Policy::Schedule {
                calendar: Calendar::new("0 18 * * FRI", "Asia/Tokyo").unwrap(),
                lasts: Duration::from_hours(4),
                replicas: 30,
            },
            Policy::Prewarm {
                replicas: 40,
                ready_at: Timestamp::from_unix_ms(NOW_MS),
                until: Timestamp::from_unix_ms(NOW_MS + 3_600_000),
            },
            Policy::TargetAverage { metric: Metric::TickLateness, per_server: 5, spare: 0 },
            Policy::Buffer { amount: Amount::Percent(20), unit: BufferUnit::Seats },
            Policy::BaseStock { z_milli: 3_090, start_time: Duration::from_secs(20) },
        ],
        step_out_max: 4,
        scale_in: ScaleIn::Cordon,
        ..Autoscale::default()
    }
}

#[test]
fn orders_and_dry_runs_are_read_as_ever() {
    let request = ScaleRequest {
        replicas: Some(40),
        ready_at_ms: Some(NOW_MS),
        until_ms: Some(NOW_MS + 3_600_000),
        freeze: Some(FreezeWord::ScaleIn),
    };
    golden(User, "api_scale", &request);
    golden(User, "api_scale_nothing", &ScaleRequest::default());
    golden(Process, "api_scale_order", &order());
    let autoscale = Some(AutoscaleBody::from(&rules()));
    let dry_run = DryRunRequest { replicas_min: Some(2), replicas_max: Some(60), autoscale };
    golden(User, "api_dry_run", &dry_run);
}

#[test]
fn decisions_are_told_as_ever() {
    golden(Process, "api_decision", &decision());
    let list = DecisionList {
        fleet: text("arena"),
        rules: RulesBody { replicas_min: 1, replicas_max: 50, autoscale: AutoscaleBody::from(&rules()) },
        order: order(),
        now: Some(decision()),
        waiting_on: vec!["4 starting".to_owned()],
        decisions: vec![decision()],
    };
    golden(Process, "api_decisions", &list);
}

#[test]
fn rules_come_back_as_they_went_and_those_that_mean_nothing_are_refused() {
    let rules = rules();
    let body = AutoscaleBody::from(&rules);
    assert_eq!(Autoscale::try_from(&body).unwrap(), rules);
    let with = |policy: PolicyBody| {
        let body = AutoscaleBody { policies: vec![policy], ..body.clone() };
        Autoscale::try_from(&body).unwrap_err().to_string()
    };
    let average: PolicyBody = serde_json::from_value(
        serde_json::json!({"policy": "target_average", "metric": "rooms", "per_server": 0, "spare": 0}),
    )
    .unwrap();
    assert_eq!(with(average), "per_server is 0; allowed: 1 or more");
    let buffer: PolicyBody = serde_json::from_value(
        serde_json::json!({"policy": "buffer", "amount": 100, "percent": true, "unit": "rooms"}),
    )
    .unwrap();
    assert_eq!(with(buffer), "percent is 100; allowed: 0 to 99");
    let schedule: PolicyBody = serde_json::from_value(serde_json::json!(
        {"policy": "schedule", "cron": "* *", "zone": "UTC", "lasts_ms": 1, "replicas": 1}
    ))
    .unwrap();
    assert!(with(schedule).contains("it has 2 fields, not 5"));
    let step = AutoscaleBody { step_in_max: Some(0), ..body };
    assert!(Autoscale::try_from(&step).unwrap_err().to_string().starts_with("step_in_max is 0"));
}
