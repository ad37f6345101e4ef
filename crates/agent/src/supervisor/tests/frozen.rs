//! Processes without a link of which nothing is heard: which of them are ended, and which are not.

use greenroom_provider::StopSignal;

use super::agones::{PORT, agones_order};
use super::*;
use crate::supervisor::sdk::SdkWord;

impl Bench {
    /// Whether the process was killed since the last look, in the time that passes now.
    fn is_killed_within(&mut self, span_ms: u64) -> bool {
        self.take();
        self.pass(span_ms);
        let is_kill = |effect: &Effect| matches!(effect, Effect::Signal { signal: StopSignal::Kill, .. });
        self.take().iter().any(|(_, effect)| is_kill(effect))
    }
}

/// Nobody else would ever end it: a server that is in use is not stopped.
#[test]
fn a_frozen_server_without_a_link_is_ended_though_it_is_in_use() {
    let mut bench = Bench::agones();
    bench.says(SdkWord::PlayerConnect("ann".to_owned())).unwrap();
    bench.says(SdkWord::Allocate).unwrap();
    assert!(!bench.is_killed_within(14_999));
    bench.says(SdkWord::Health).unwrap();
    assert!(!bench.is_killed_within(29_999));
    assert!(bench.is_killed_within(1));
    let why = "frozen: it has not called POST /health of its SDK for 15s";
    assert!(bench.phase("arena-1").2.contains(why), "{:?}", bench.phase("arena-1"));
    bench.exited("arena-1", "arena-1.0", Exit::Signal(9));
    bench.started("arena-1", "arena-1.1");
    assert_eq!(bench.stands(), ("Scheduled".to_owned(), false, 0, false));
}

#[test]
fn what_its_agent_slept_through_is_not_held_against_a_server() {
    for tells_its_rooms in [false, true] {
        let mut bench = Bench::agones();
        bench.says(SdkWord::Allocate).unwrap();
        if tells_its_rooms {
            bench.says(SdkWord::Status(greenroom_wire::link::Status::default())).unwrap();
        }
        bench.take();
        bench.now = bench.now + Duration::from_secs(600);
        bench.event(Event::Tick);
        // It speaks again before it would be missed once more.
        assert!(!bench.is_killed_within(14_000), "{tells_its_rooms}");
        bench.says(SdkWord::Health).unwrap();
        assert!(!bench.is_killed_within(14_000), "{tells_its_rooms}");
    }
}

#[test]
fn a_server_in_use_whose_probe_from_outside_fails_is_ended() {
    let mut bench = Bench::welcomed();
    let order = StartOrder { probe: ProbeWord::Tcp, ..agones_order("arena-1") };
    bench.control(ToAgent::Start { term: 5, order: Box::new(order) });
    bench.opened("arena-1", Ok(PORT));
    bench.started("arena-1", "arena-1.0");
    bench.probed("arena-1", "arena-1.0", Ok(()));
    bench.says(SdkWord::Allocate).unwrap();
    let mut killed_after = None;
    for half_seconds in 1..70 {
        let killed = bench.is_killed_within(500);
        killed_after = killed_after.or(killed.then_some(half_seconds));
        bench.probed("arena-1", "arena-1.0", Err("hangs"));
    }
    assert_eq!(killed_after, Some(61), "30 s after the first failure");
}

/// A game that is not ready for more, one that takes no connections while it plays, and one whose port hangs while it says that it lives.
#[test]
fn a_server_in_use_that_answers_or_says_anything_is_not_frozen() {
    for (heard, speaks) in [(Heard::Answer, false), (Heard::Refusal, false), (Heard::Nothing, true)] {
        let mut bench = Bench::welcomed();
        let order = StartOrder { probe: ProbeWord::Tcp, ..agones_order("arena-1") };
        bench.control(ToAgent::Start { term: 5, order: Box::new(order) });
        bench.opened("arena-1", Ok(PORT));
        bench.started("arena-1", "arena-1.0");
        bench.probed("arena-1", "arena-1.0", Ok(()));
        bench.says(SdkWord::Allocate).unwrap();
        for half_seconds in 0..240 {
            assert!(!bench.is_killed_within(500), "{heard:?} after {half_seconds} half seconds");
            bench.probed_and_heard("arena-1", "arena-1.0", Err("503"), heard);
            if speaks && half_seconds % 10 == 0 {
                bench.says(SdkWord::Health).unwrap();
            }
        }
        assert_eq!(bench.phase("arena-1").0, ProcessPhase::Unhealthy, "{heard:?}");
    }
}

#[test]
fn a_silence_that_was_noticed_before_its_agent_slept_is_not_held_against_a_server() {
    let mut bench = Bench::agones();
    bench.says(SdkWord::Allocate).unwrap();
    assert!(!bench.is_killed_within(16_000));
    bench.now = bench.now + Duration::from_secs(600);
    bench.event(Event::Tick);
    assert!(!bench.is_killed_within(14_999));
    assert!(bench.is_killed_within(1), "it had as long as ever");
}
