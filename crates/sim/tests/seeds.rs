//! Seeds that once failed, and fresh ones.

use std::process::ExitCode;

use greenroom_sim::{Summary, main_with_args, run};

/// Fresh seeds in each test run.
const FRESH: usize = 200;

#[test]
fn every_seed_that_once_failed_holds() {
    assert_eq!(main_with_args(["--seeds".to_owned()].into_iter()), ExitCode::SUCCESS);
}

#[test]
fn fresh_seeds_hold_and_meet_every_kind_of_trouble() {
    let mut all = Summary::default();
    for _ in 0..FRESH {
        let seed = getrandom::u64().unwrap();
        println!("seed {seed}");
        let summary = run(seed).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        all.granted += summary.granted;
        all.refused += summary.refused;
        all.arrived += summary.arrived;
        all.turned_away += summary.turned_away;
        all.rooms_ended += summary.rooms_ended;
        all.results += summary.results;
        all.servers_crashed += summary.servers_crashed;
        all.agent_faults += summary.agent_faults;
        all.control_crashes += summary.control_crashes;
    }
    let counts = [
        all.granted,
        all.refused,
        all.arrived,
        all.turned_away,
        all.rooms_ended,
        all.results,
        all.servers_crashed,
        all.agent_faults,
        all.control_crashes,
    ];
    assert!(counts.iter().all(|count| *count > 100), "a simulation without trouble proves nothing: {all:?}");
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    assert_eq!(run(7).unwrap(), run(7).unwrap());
    assert_ne!(run(7).unwrap(), run(8).unwrap());
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for words in [vec!["--seed"], vec!["--seed", "x"], vec!["--count", "-1"], vec!["more"]] {
        let arguments = words.into_iter().map(str::to_owned);
        assert_eq!(main_with_args(arguments), ExitCode::from(2));
    }
}
