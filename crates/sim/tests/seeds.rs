//! Seeds that once failed, and the first ones. Fresh ones are for `cargo xtask nightly`: a change is judged by what it did,
//! not by what it was dealt.

use std::process::ExitCode;

use greenroom_sim::{LEAKY_LIMIT_BYTES, Summary, main_with_args, run, run_day, run_leaky};

/// So many seeds are played in each test run, from 1 on.
const FIRST: u64 = 200;
/// The seed of the hours.
const SEED: u64 = 1;

#[test]
fn every_seed_that_once_failed_holds() {
    assert_eq!(main_with_args(["--seeds".to_owned()].into_iter()), ExitCode::SUCCESS);
}

#[test]
fn the_first_seeds_hold_and_meet_every_kind_of_trouble() {
    let mut all = Summary::default();
    for seed in 1..=FIRST {
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
        all.hosts_lost += summary.hosts_lost;
        all.store_faults += summary.store_faults;
        all.matched += summary.matched;
        all.decisions += summary.decisions;
        all.orders += summary.orders;
        all.servers_stopped += summary.servers_stopped;
        all.servers_recycled += summary.servers_recycled;
        all.leaders += summary.leaders;
        all.leader_faults += summary.leader_faults;
        all.batches_refused += summary.batches_refused;
        all.rewinds += summary.rewinds;
        all.zones_lost += summary.zones_lost;
        all.rooms_taken_up += summary.rooms_taken_up;
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
        all.hosts_lost,
        all.store_faults,
        all.matched,
        all.decisions,
        all.orders,
        all.servers_stopped,
        all.servers_recycled,
        all.leaders,
        all.leader_faults,
        all.rooms_taken_up,
    ];
    assert!(counts.iter().all(|count| *count > 100), "a simulation without trouble proves nothing: {all:?}");
    // What takes several control processes or hosts and some bad luck.
    let rare = [all.batches_refused, all.rewinds, all.zones_lost];
    assert!(rare.iter().all(|count| *count > 0), "the rare faults were never met: {all:?}");
}

/// `cargo xtask nightly` plays 24 hours; so many are enough here to see each cool-down more than once.
const HOURS: u32 = 3;

#[test]
fn hours_of_noise_shorten_no_cool_down_and_stop_nobody_who_plays() {
    let day = run_day(SEED, HOURS).unwrap_or_else(|violation| panic!("day {SEED}: {violation}"));
    println!("{day:?}");
    // The laws are checked at every step; this is that there was something to check.
    assert!(day.ran_ms >= u64::from(HOURS) * 3_600_000 && day.granted > 500 && day.arrived > 500, "{day:?}");
    assert!(day.decisions > 3 && day.servers_stopped > 3, "{day:?}");
}

#[test]
fn servers_that_leak_for_ten_hours_keep_within_their_memory_and_no_room_is_cut() {
    // That no busy server is stopped is a law of every run.
    let leaky = run_leaky(SEED, 10).unwrap_or_else(|violation| panic!("leaky {SEED}: {violation}"));
    println!("{leaky:?}");
    assert!(leaky.ran_ms >= 36_000_000 && leaky.rooms_ended > 1_000, "{leaky:?}");
    assert!(leaky.servers_recycled > 20, "{leaky:?}");
    // A worn one goes on until its replacement is there; rooms on it then run on, and open no more.
    assert!(leaky.memory_bytes_max <= LEAKY_LIMIT_BYTES + (20 << 20), "{leaky:?}");
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    assert_eq!(run(7).unwrap(), run(7).unwrap());
    assert_ne!(run(7).unwrap(), run(8).unwrap());
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for words in [
        vec!["--seed"],
        vec!["--seed", "x"],
        vec!["--first", "x"],
        vec!["--count", "-1"],
        vec!["--day", "x"],
        vec!["more"],
    ] {
        let arguments = words.into_iter().map(str::to_owned);
        assert_eq!(main_with_args(arguments), ExitCode::from(2));
    }
}
