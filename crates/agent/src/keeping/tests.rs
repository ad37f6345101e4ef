//! When an engine is written to, as a table and as laws.

use proptest::prelude::*;

use super::*;

const T0: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

fn after(ms: u64) -> Timestamp {
    T0 + Duration::from_millis(ms)
}

const fn on(busy: bool, players: u32) -> Occupancy {
    Occupancy { busy, players }
}

/// Plays `seen` (millisecond, what is on the host) with writes that succeed unless `fails` says otherwise, up to `until_ms`.
/// Gives every write with its millisecond.
fn play(seen: &[(u64, Occupancy)], until_ms: u64, fails: impl Fn(u64) -> bool) -> Vec<(u64, Mark)> {
    play_at(Pacing::default(), seen, until_ms, fails)
}

fn play_at(
    pacing: Pacing,
    seen: &[(u64, Occupancy)],
    until_ms: u64,
    fails: impl Fn(u64) -> bool,
) -> Vec<(u64, Mark)> {
    let mut protection = Protection::new(pacing);
    let (mut writes, mut now_ms) = (Vec::new(), 0);
    let mut seen = seen.iter().peekable();
    while now_ms <= until_ms {
        while let Some((_, occupancy)) = seen.next_if(|(at, _)| *at <= now_ms) {
            protection.observe(after(now_ms), *occupancy);
        }
        let (mark, at) = protection.next();
        let at_ms = at.map_or(u64::MAX, |at| at.unix_ms().saturating_sub(T0.unix_ms()));
        if at_ms <= now_ms {
            writes.push((now_ms, mark));
            protection.writes(after(now_ms), mark);
            if fails(now_ms) {
                protection.failed(after(now_ms), 1.0);
            } else {
                protection.wrote(after(now_ms), mark);
            }
            continue;
        }
        let next = seen.peek().map_or(u64::MAX, |(at, _)| *at);
        now_ms = next.min(at_ms);
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
        assert_eq!(protection.next().1, Some(after(ms)), "{random}");
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
fn a_mark_that_runs_out_is_written_before_and_an_idle_one_may_be_left_to_others() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let (every, lasts) = (minutes(20), Some(minutes(60)));
    let pacing =
        Pacing { cost_every: every, busy_every: every, idle_every: None, lasts, ..Pacing::default() };
    let seen = [(5, on(true, 1)), (100, on(true, 9)), (3_000_000, on(false, 0))];
    let (one, nine) = (Mark::Busy { cost: 1 }, Mark::Busy { cost: 16 });
    let writes = [(0, Mark::Idle), (5, one), (1_200_005, nine), (2_400_005, nine), (3_010_000, Mark::Idle)];
    assert_eq!(play_at(pacing, &seen, 30_000_000, |_| false), writes);
}

#[test]
fn a_host_is_held_from_the_answer_on_until_the_mark_runs_out_or_is_taken_away() {
    let lasts = Some(Duration::from_secs(60));
    let busy = Mark::Busy { cost: 1 };
    let mut protection = Protection::new(Pacing { lasts, ..Pacing::default() });
    assert!(!protection.is_held(T0), "nothing was written yet");
    protection.writes(T0, busy);
    assert!(!protection.is_held(after(900)), "nobody has answered");
    protection.wrote(after(1_000), busy);
    assert!(protection.is_held(after(59_999)));
    assert!(!protection.is_held(after(60_000)), "counted from when it was asked");
    protection.writes(after(50_000), busy);
    protection.failed(after(51_000), 0.0);
    assert!(protection.is_held(after(59_999)), "what stood there stands");
    assert!(!protection.is_held(after(60_000)));
    protection.writes(after(61_000), busy);
    protection.wrote(after(61_000), busy);
    protection.writes(after(62_000), Mark::Idle);
    assert!(!protection.is_held(after(62_000)), "the engine may have taken it away before it answers");
    protection.failed(after(63_000), 0.0);
    assert!(!protection.is_held(after(63_000)), "nobody knows");
    let mut protection = Protection::new(Pacing::default());
    protection.writes(T0, busy);
    protection.wrote(T0, busy);
    assert!(protection.is_held(after(u64::from(u32::MAX))), "a mark that does not run out");
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
