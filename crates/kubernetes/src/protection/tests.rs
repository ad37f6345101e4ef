//! When a pod is written to, as a table and as laws.

use proptest::prelude::*;

use super::*;

const T0: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

fn after(ms: u64) -> Timestamp {
    T0 + Duration::from_millis(ms)
}

const fn on(busy: bool, players: u32) -> Occupancy {
    Occupancy { busy, players }
}

/// Plays `seen` (millisecond, what is on the pod) with writes that succeed unless `fails` says otherwise, up to `until_ms`.
/// Gives every write with its millisecond.
fn play(seen: &[(u64, Occupancy)], until_ms: u64, fails: impl Fn(u64) -> bool) -> Vec<(u64, Mark)> {
    let mut protection = Protection::new(Pacing::default());
    let (mut writes, mut now_ms) = (Vec::new(), 0);
    let mut seen = seen.iter().peekable();
    while now_ms <= until_ms {
        while let Some((_, occupancy)) = seen.next_if(|(at, _)| *at <= now_ms) {
            protection.observe(after(now_ms), *occupancy);
        }
        let (mark, at) = protection.next();
        if at <= after(now_ms) {
            writes.push((now_ms, mark));
            if fails(now_ms) {
                protection.failed(after(now_ms), 1.0);
            } else {
                protection.wrote(after(now_ms), mark);
            }
            continue;
        }
        let next = seen.peek().map_or(u64::MAX, |(at, _)| *at);
        now_ms = next.min(at.unix_ms() - T0.unix_ms());
    }
    writes
}

/// What is about it, what is on the pod, until when, and what is written.
type Case<'a> = (&'a str, &'a [(u64, Occupancy)], u64, &'a [(u64, Mark)]);

#[test]
fn a_pod_is_marked_at_once_when_somebody_comes_and_some_time_after_the_last_one_left() {
    let busy = |cost| Mark::Busy { cost };
    let cases: [Case<'_>; 6] = [
        ("nobody ever", &[], 1_000, &[(0, Mark::Idle)]),
        ("one comes", &[(5, on(true, 1))], 1_000, &[(0, Mark::Idle), (5, busy(1))]),
        (
            "and goes",
            &[(5, on(true, 1)), (2_000, on(false, 0))],
            20_000,
            &[(0, Mark::Idle), (5, busy(1)), (12_000, Mark::Idle)],
        ),
        (
            "one who comes back soon changes nothing",
            &[(5, on(true, 1)), (2_000, on(false, 0)), (9_000, on(true, 1))],
            30_000,
            &[(0, Mark::Idle), (5, busy(1))],
        ),
        (
            "more come: the cost follows once a minute, in powers of two",
            &[(5, on(true, 1)), (100, on(true, 2)), (200, on(true, 9)), (70_000, on(true, 16))],
            100_000,
            &[(0, Mark::Idle), (5, busy(1)), (60_005, busy(16))],
        ),
        (
            "what stands there is written again now and then",
            &[],
            700_000,
            &[(0, Mark::Idle), (300_000, Mark::Idle), (600_000, Mark::Idle)],
        ),
    ];
    for (name, seen, until_ms, writes) in cases {
        assert_eq!(play(seen, until_ms, |_| false), writes, "{name}");
    }
}

#[test]
fn a_write_that_fails_is_tried_again_ever_more_seldom_and_what_stands_there_counts_as_unknown() {
    let away = |ms| (1_000..30_000).contains(&ms);
    let writes = play(&[(1_000, on(true, 3))], 100_000, away);
    let at: Vec<u64> = writes.iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [0, 1_000, 1_250, 1_750, 2_750, 4_750, 8_750, 16_750, 32_750]);
    assert_eq!(writes.last().unwrap().1, Mark::Busy { cost: 4 });
    // Somebody came and left while nothing could be written: whatever stands there is mended.
    let writes = play(&[(1_000, on(true, 3)), (1_100, on(false, 0))], 100_000, away);
    assert_eq!(writes.last().unwrap(), &(42_600, Mark::Idle), "{writes:?}");
}

#[test]
fn the_pause_is_spread_over_its_second_half() {
    for (random, ms) in [(0.0, 125), (0.5, 187), (1.0, 250), (7.0, 250)] {
        let mut protection = Protection::new(Pacing::default());
        assert_eq!(protection.failed(T0, random), 1);
        assert_eq!(protection.next().1, after(ms), "{random}");
    }
}

#[test]
fn the_cost_fits_whatever_the_number_of_players() {
    let cases = [(0, 1), (1, 1), (2, 2), (3, 4), (1_000, 1_024), (1 << 30, 1 << 30), (u32::MAX, i32::MAX)];
    for (players, cost) in cases {
        assert_eq!(Mark::of(on(true, players)), Mark::Busy { cost }, "{players}");
        assert_eq!(Mark::of(on(false, players)), Mark::Idle);
    }
}

#[test]
fn a_mark_says_the_same_to_all_who_stop_pods() {
    let busy = serde_json::json!({ "metadata": {
        "uid": "u-1",
        "labels": { "greenroom.dev/busy": "true" },
        "annotations": {
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            "controller.kubernetes.io/pod-deletion-cost": "8",
            "karpenter.sh/do-not-disrupt": "true",
        },
    }});
    let idle = serde_json::json!({ "metadata": {
        "uid": "u-1",
        "labels": { "greenroom.dev/busy": "false" },
        "annotations": {
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
            "controller.kubernetes.io/pod-deletion-cost": "0",
            "karpenter.sh/do-not-disrupt": null,
        },
    }});
    assert_eq!(Mark::Busy { cost: 8 }.patch("u-1"), busy);
    assert_eq!(Mark::Idle.patch("u-1"), idle);
}

proptest! {
    /// Whatever happens, and whatever fails: somebody who comes is written at the next write that is not held back by a
    /// failure, a pod is not written to more often than its pacing allows, and in the end it says what is true.
    #[test]
    fn a_pod_says_what_is_true_soon_and_is_written_to_seldom(
        seen in prop::collection::vec((0_u64..200_000, any::<bool>(), 0_u32..5_000), 0..40),
        failing in prop::collection::vec(0_u64..200_000, 0..4),
    ) {
        let mut seen: Vec<_> = seen.into_iter().map(|(at, busy, players)| (at, on(busy, players))).collect();
        seen.sort_by_key(|(at, _)| *at);
        let fails = |ms: u64| failing.iter().any(|from| (*from..from + 5_000).contains(&ms));
        let until_ms = 800_000;
        let writes = play(&seen, until_ms, fails);
        let good: Vec<_> = writes.iter().filter(|(at, _)| !fails(*at)).collect();
        let last = seen.last().map_or(on(false, 0), |(_, occupancy)| *occupancy);
        prop_assert_eq!(good.last().unwrap().1, Mark::of(last));
        if failing.is_empty() {
            for (at, occupancy) in &seen {
                // Another word of the same moment may take it back.
                let stands = writes.iter().rev().find(|(wrote, _)| wrote <= at);
                let same_moment = seen.iter().rev().find(|(other, _)| other == at).unwrap().1;
                if occupancy.busy && same_moment.busy {
                    prop_assert!(matches!(stands, Some((_, Mark::Busy { .. }))), "at {at}: {writes:?}");
                }
            }
            for pair in writes.windows(2) {
                let (gap, turned) = (pair[1].0 - pair[0].0, std::mem::discriminant(&pair[0].1) != std::mem::discriminant(&pair[1].1));
                prop_assert!(turned || gap >= 60_000, "{writes:?}");
                prop_assert!(pair[1].1 != Mark::Idle || turned || gap >= 300_000, "{writes:?}");
            }
        }
    }
}
