//! Triggers: the rules as a table under a virtual clock, the promises as laws.

use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_core::trigger::{Memory, Reading, Threshold, Trigger, Turn};
use proptest::prelude::*;

const T0_MS: u64 = 1_700_000_000_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_ms(T0_MS + seconds * 1000)
}

fn above(value: i64) -> Trigger {
    Trigger::new(Threshold::Above(Reading::whole(value)))
}

/// The seconds at which it fires and at which that is over. A reading of `None` is one that is not there.
fn turns(trigger: &Trigger, readings: &[(u64, Option<i64>)]) -> (Vec<u64>, Vec<u64>) {
    let (mut memory, mut fires, mut rearms) = (Memory::default(), Vec::new(), Vec::new());
    for (second, value) in readings {
        match trigger.observe(&mut memory, value.map(Reading::whole), at(*second)) {
            Turn::Nothing => {}
            Turn::Fire => fires.push(*second),
            Turn::Rearm => rearms.push(*second),
        }
        assert_eq!(memory.is_firing(), fires.len() > rearms.len());
    }
    (fires, rearms)
}

#[test]
fn a_trigger_fires_once_for_each_crossing_that_lasts() {
    let hold = |seconds| Trigger { hold: Duration::from_secs(seconds), ..above(10) };
    let wide = Trigger { rearm: Reading::whole(5), ..above(10) };
    let cool = Trigger { cooldown: Duration::from_mins(1), ..above(10) };
    let low = Trigger { rearm: Reading::whole(20), ..Trigger::new(Threshold::Below(Reading::whole(10))) };
    let wrong_side = Trigger { rearm: Reading::whole(15), ..above(10) };
    type Case<'a> = (&'a str, Trigger, &'a [(u64, Option<i64>)], &'a [u64], &'a [u64]);
    let cases: [Case<'_>; 12] = [
        ("the value itself is not above", above(10), &[(0, Some(10))], &[], &[]),
        ("one reading is enough", above(10), &[(0, Some(11)), (1, Some(12))], &[0], &[]),
        ("over and above again", above(10), &[(0, Some(11)), (1, Some(10)), (2, Some(11))], &[0, 2], &[1]),
        ("not long enough", hold(5), &[(0, Some(11)), (4, Some(11)), (5, Some(9)), (9, Some(11))], &[], &[]),
        ("long enough", hold(5), &[(0, Some(11)), (4, Some(11)), (5, Some(11)), (9, Some(11))], &[5], &[]),
        (
            "a gap breaks it off",
            hold(5),
            &[(0, Some(11)), (3, None), (4, Some(11)), (8, Some(11)), (9, Some(11))],
            &[9],
            &[],
        ),
        (
            "a gap ends nothing",
            above(10),
            &[(0, Some(11)), (1, None), (2, Some(11)), (3, Some(3))],
            &[0],
            &[3],
        ),
        (
            "in between nothing changes",
            wide,
            &[(0, Some(11)), (1, Some(7)), (2, Some(12)), (3, Some(5)), (4, Some(11))],
            &[0, 4],
            &[3],
        ),
        (
            "a crossing in the cool-down waits",
            cool,
            &[(0, Some(11)), (10, Some(9)), (20, Some(11)), (59, Some(11)), (60, Some(11))],
            &[0, 60],
            &[10],
        ),
        (
            "and is forgotten when it is over before",
            cool,
            &[(0, Some(11)), (10, Some(9)), (20, Some(11)), (30, Some(9)), (70, Some(9))],
            &[0],
            &[10],
        ),
        (
            "below",
            low,
            &[(0, Some(10)), (1, Some(9)), (2, Some(15)), (3, Some(20)), (4, Some(3))],
            &[1, 4],
            &[3],
        ),
        (
            "a rearm on the wrong side is the threshold",
            wrong_side,
            &[(0, Some(11)), (1, Some(12)), (2, Some(10))],
            &[0],
            &[2],
        ),
    ];
    for (name, trigger, readings, fires, rearms) in cases {
        assert_eq!(turns(&trigger, readings), (fires.to_vec(), rearms.to_vec()), "{name}");
    }
}

#[test]
fn a_process_that_goes_on_fires_neither_twice_nor_within_the_cool_down() {
    let trigger = Trigger { cooldown: Duration::from_mins(10), ..above(10) };
    let mut memory = Memory::default();
    let high = Some(Reading::whole(11));
    assert_eq!(trigger.observe(&mut memory, high, at(0)), Turn::Fire);
    memory = Memory::resumed(memory.is_firing(), memory.fired_at());
    assert_eq!(trigger.observe(&mut memory, high, at(1)), Turn::Nothing, "it has fired for this crossing");
    assert_eq!(trigger.observe(&mut memory, Some(Reading::whole(0)), at(2)), Turn::Rearm);
    memory = Memory::resumed(memory.is_firing(), memory.fired_at());
    assert_eq!(trigger.observe(&mut memory, high, at(3)), Turn::Nothing, "it is in its cool-down");
    assert_eq!(trigger.observe(&mut memory, high, at(600)), Turn::Fire);
}

#[test]
fn readings_are_written_as_they_are_read() {
    for (value, text) in [
        (12.5, "12.5"),
        (-0.25, "-0.25"),
        (3.0, "3"),
        (0.000_4, "0"),
        (-7.0, "-7"),
        (1e15, "1000000000000000"),
        (12.345, "12.345"),
    ] {
        let reading = Reading::try_from(value).unwrap();
        assert_eq!((reading.to_string().as_str(), f64::from(reading).to_string().as_str()), (text, text));
    }
    for value in [f64::NAN, f64::INFINITY, -2e15] {
        assert!(Reading::try_from(value).is_err(), "{value}");
    }
    assert_eq!(Reading::whole(i64::MAX).to_string(), "9223372036854775.807", "as far as it goes");
}

/// One moment: time that passes, what is read, and whether the process is another one from here on.
fn moments() -> impl Strategy<Value = Vec<(u64, Option<i64>, bool)>> {
    let reading = prop_oneof![5 => (0_i64..20).prop_map(Some), 1 => Just(None)];
    prop::collection::vec((0_u64..30, reading, prop::bool::weighted(0.1)), 1..200)
}

proptest! {
    /// However readings come and processes change: between two fires the cool-down has passed and the first was over, and each fire
    /// had nothing but crossed readings for as long as it must hold.
    #[test]
    fn fires_are_apart_and_deserved(
        moments in moments(),
        hold in 0_u64..60,
        cooldown in 0_u64..300,
        rearm in 0_i64..20,
        is_above in any::<bool>(),
    ) {
        let value = Reading::whole(10);
        let threshold = if is_above { Threshold::Above(value) } else { Threshold::Below(value) };
        let trigger = Trigger {
            threshold,
            rearm: Reading::whole(rearm),
            hold: Duration::from_secs(hold),
            cooldown: Duration::from_secs(cooldown),
        };
        let is_crossed = |value: i64| if is_above { value > 10 } else { value < 10 };
        let (mut memory, mut now) = (Memory::default(), 0);
        let (mut fired_at, mut is_over, mut crossed_since) = (None::<u64>, true, None::<u64>);
        for (passes, value, another) in moments {
            now += passes;
            if another {
                memory = Memory::resumed(memory.is_firing(), memory.fired_at());
            }
            crossed_since = value.filter(|value| is_crossed(*value)).map(|_| crossed_since.unwrap_or(now));
            match trigger.observe(&mut memory, value.map(Reading::whole), at(now)) {
                Turn::Nothing => {}
                Turn::Fire => {
                    prop_assert!(is_over, "fired twice for one crossing");
                    prop_assert!(fired_at.is_none_or(|before| now - before >= cooldown), "too soon");
                    prop_assert!(crossed_since.is_some_and(|since| now - since >= hold), "not long enough");
                    (fired_at, is_over) = (Some(now), false);
                }
                Turn::Rearm => {
                    prop_assert!(!is_over && value.is_some_and(|value| !is_crossed(value)));
                    is_over = true;
                }
            }
        }
    }

    /// Nothing is missed: without restarts, a crossing that lasts past hold and cool-down fires.
    #[test]
    fn a_crossing_that_lasts_fires(moments in moments(), hold in 0_u64..60, cooldown in 0_u64..300) {
        let trigger = Trigger { hold: Duration::from_secs(hold), cooldown: Duration::from_secs(cooldown), ..above(10) };
        let (mut memory, mut now) = (Memory::default(), 0);
        for (passes, value, _) in moments {
            now += passes;
            let _turn = trigger.observe(&mut memory, value.map(Reading::whole), at(now));
        }
        let _over = trigger.observe(&mut memory, Some(Reading::whole(0)), at(now));
        let _begins = trigger.observe(&mut memory, Some(Reading::whole(11)), at(now));
        let _lasts = trigger.observe(&mut memory, Some(Reading::whole(11)), at(now + hold + cooldown));
        prop_assert!(memory.is_firing());
    }
}
