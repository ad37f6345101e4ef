//! Policies against traces from outside: what must be true of any run.

use std::time::Duration;

use greenroom_sim::replay::{
    Outcome, Rule, SHIPPED, ServersLive, Settings, Trace, TraceError, generate, play,
};

const SETTINGS: Settings = Settings {
    rooms_per_server: 1,
    replicas_min: 1,
    replicas_max: 2_000,
    start: Duration::from_secs(20),
    patience: Duration::from_secs(10),
    servers_live: ServersLive::On,
    seed: 1,
};

fn shipped(name: &str) -> Trace {
    let (.., text) = SHIPPED.iter().find(|(shipped, ..)| *shipped == name).expect("it is shipped");
    Trace::parse(text).expect("it is a trace")
}

fn run(name: &str, rule: &str, settings: &Settings) -> Outcome {
    play(&shipped(name), &rule.parse().expect("a rule"), settings)
}

#[test]
fn the_shipped_traces_are_what_the_generator_makes() {
    for (name, _, text) in SHIPPED {
        assert_eq!(
            generate(name).as_deref(),
            Some(text),
            "{name}: make it with greenroom-sim --trace {name}"
        );
    }
    assert_eq!(generate("nothing"), None);
}

#[test]
fn a_trace_that_makes_no_sense_is_refused_with_its_line() {
    let cases = [
        ("0,1,600\n60,x,600\n", TraceError::Row { line: 2, text: "60,x,600".to_owned() }),
        ("# remark\nseconds,arrivals,session_s\n5,1,600\n", TraceError::Order { line: 3, at_s: 5 }),
        ("0,1,600\n60,1,600\n60,1,600\n", TraceError::Order { line: 3, at_s: 60 }),
        ("0,1,0\n", TraceError::Bounds { line: 1, what: "a session takes 1 s to 86400 s" }),
        ("0,1,600\n", TraceError::Short),
        ("", TraceError::Short),
    ];
    for (text, error) in cases {
        assert_eq!(Trace::parse(text), Err(error), "{text:?}");
    }
}

#[test]
fn a_rule_that_makes_no_sense_is_refused_at_the_word() {
    for (text, word) in [
        ("lucky", "lucky"),
        ("base-stock:11", "base-stock:11"),
        ("buffer:100%", "buffer:100%"),
        ("average:0", "average:0"),
        ("field", "field"),
        ("base-stock,out=soon", "out=soon"),
        ("base-stock,step-in=0", "step-in=0"),
        ("demand+buffer:3+prewarm:3@5", "prewarm:3@5"),
    ] {
        let error = text.parse::<Rule>().expect_err(text);
        assert_eq!(error.1, word, "{error}");
    }
    for text in
        ["demand", "base-stock:3.09+buffer:5%,out=0,in=600,settle=60", "prewarm:9@7200-9000", "field:20%"]
    {
        assert_eq!(text.parse::<Rule>().map(|rule| rule.to_string()).as_deref(), Ok(text));
    }
}

#[test]
fn every_caller_is_accounted_for_and_a_run_repeats_itself() {
    for rule in ["demand", "base-stock", "average:1", "field:20%"] {
        let settings = Settings { rooms_per_server: 3, ..SETTINGS };
        let outcome = run("spike", rule, &settings);
        assert_eq!(outcome, run("spike", rule, &settings), "{rule}");
        assert!(outcome.failed <= outcome.waited && outcome.waited <= outcome.asked, "{rule}: {outcome:?}");
        let told: u64 = outcome.curve.iter().map(|moment| u64::from(moment.waited)).sum();
        assert_eq!(told, outcome.waited, "{rule}: the curve holds everyone who waited");
        let rooms = outcome.curve.iter().map(|moment| moment.rooms).max().unwrap_or(0);
        assert!(u64::from(rooms) <= 3 * u64::from(outcome.servers_max), "{rule}");
    }
}

#[test]
fn a_buffer_of_the_field_starves_where_base_stock_does_not() {
    let slow = Settings { start: Duration::from_mins(1), servers_live: ServersLive::Once, ..SETTINGS };
    let field = run("day", "field:10", &slow);
    let stock = run("day", "base-stock,out=0,in=600", &slow);
    assert!(field.waited * 2 > field.asked, "ten servers for each half minute are too few: {}", field.waited);
    assert!(stock.waited * 100 < stock.asked, "{} of {}", stock.waited, stock.asked);
}

#[test]
fn a_prewarmed_release_turns_fewer_away() {
    let cold = run("release", "base-stock", &SETTINGS);
    let warm = run("release", "base-stock+prewarm:450@7200-10800", &SETTINGS);
    assert!(warm.failed * 10 < cold.failed, "{} against {}", warm.failed, cold.failed);
}

#[test]
fn a_cool_down_of_an_hour_allows_one_scale_in_an_hour() {
    let outcome = run("day", "base-stock", &SETTINGS);
    assert!(outcome.ins > 0 && outcome.ins <= 24, "{}", outcome.ins);
    let outs_max = (24 * 3600 - 1800) / 180;
    // Waiting callers are served at once, besides.
    assert!(u64::from(outcome.outs) <= outs_max + outcome.waited, "{}", outcome.outs);
}
