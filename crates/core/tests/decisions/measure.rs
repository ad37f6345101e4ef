//! What is measured for scaling: arrivals and start-up times.

use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_core::autoscale::{ArrivalMeter, StartTime, StartTimes};

const T0: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_meter_tells_the_rate_its_growth_and_how_uneven_it_is() {
    let run = |per_window: &dyn Fn(u64) -> u32, windows: u64| {
        let mut meter = ArrivalMeter::new(T0);
        for window in 0..windows {
            meter.observe(T0 + seconds(window * 5 + 1), per_window(window));
        }
        meter.observe(T0 + seconds(windows * 5), 0);
        meter.flow().unwrap()
    };
    let steady = run(&|_| 10, 400);
    assert_eq!(
        (steady.per_second_micros, steady.growth_micros, steady.dispersion_milli),
        (2_000_000, 0, 1000)
    );
    let growing = run(&|window| u32::try_from(window / 4).unwrap(), 400);
    // One room more per window every 20 s is 0.01 rooms/s each second.
    assert!((7_000..=13_000).contains(&growing.growth_micros), "{growing:?}");
    let groups = run(&|window| if window % 10 == 0 { 50 } else { 0 }, 2000);
    assert_eq!(groups.dispersion_milli, 10_000, "{groups:?}");
    let gone = run(&|window| if window < 10 { 100 } else { 0 }, 10_000);
    assert_eq!(gone.per_second_micros, 0);
    assert_eq!(ArrivalMeter::new(T0).flow(), None);
}

#[test]
fn start_up_times_are_told_by_rank_over_the_last_ones() {
    let mut times = StartTimes::default();
    assert_eq!(times.measured(), None);
    for took in (0..100).map(seconds) {
        times.observe(took);
    }
    let start = StartTime { median: seconds(67), p95: seconds(96), samples: 64 };
    assert_eq!(times.measured(), Some(start));
}
