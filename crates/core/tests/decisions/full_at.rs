//! Servers that are full by what they carry: the caps, and how one comes back.

use greenroom_core::fleet::{FullAt, Strain};

const CAPS: FullAt = FullAt { connections: Some(100), tick_lateness_ms: Some(20), loop_lag_ms: Some(50) };

fn strain(connections: u32, tick_lateness_ms: Option<u32>, loop_lag_ms: Option<u32>) -> Strain {
    Strain { connections, tick_lateness_ms, loop_lag_ms }
}

#[test]
fn a_server_is_full_by_the_cap_that_players_notice_most_and_says_which() {
    let cases = [
        ("nothing is reached", CAPS, strain(99, Some(20), Some(50)), None),
        ("connections", CAPS, strain(100, None, None), Some("full: 100 connections, 100 allowed")),
        (
            "the event loop before connections",
            CAPS,
            strain(100, None, Some(51)),
            Some("full: its event loop is 51 ms late, 50 ms allowed"),
        ),
        (
            "ticks before all",
            CAPS,
            strain(100, Some(21), Some(51)),
            Some("full: its ticks are 21 ms late, 20 ms allowed"),
        ),
        ("what nobody measures fills nobody", CAPS, strain(0, None, None), None),
        ("no caps", FullAt::default(), strain(u32::MAX, Some(u32::MAX), Some(u32::MAX)), None),
    ];
    for (name, caps, strain, expected) in cases {
        assert_eq!(caps.full(&strain, None).map(|full| full.to_string()).as_deref(), expected, "{name}");
    }
}

#[test]
fn one_that_was_late_is_full_until_it_is_clearly_better_and_the_smallest_cap_ends_too() {
    let full = |cap_ms: u32, was_ms: u32, ms: u32| {
        let caps = FullAt { loop_lag_ms: Some(cap_ms), ..FullAt::default() };
        let before = caps.full(&strain(0, None, Some(was_ms)), None);
        caps.full(&strain(0, None, Some(ms)), before).is_some()
    };
    let cases =
        [(50, 51, 41, true), (50, 51, 40, false), (50, 50, 50, false), (1, 2, 1, true), (1, 2, 0, false)];
    for (cap, was, now, expected) in cases {
        assert_eq!(full(cap, was, now), expected, "{was} ms and then {now} ms, {cap} allowed");
    }
    let before = CAPS.full(&strain(100, None, None), None);
    assert_eq!(
        CAPS.full(&strain(99, None, Some(45)), before),
        None,
        "connections that leave are places at once"
    );
}
