//! What a node measures of itself, second by second, for whoever decides how many nodes there should be.
//! Never decides and never reads a clock: its caller tells it when a second is over and how late the loop was.

use std::collections::VecDeque;
use std::time::Duration;

use greenroom_wire::link::Measured;

use crate::counters::Counters;

/// Seconds that the rate of connections looks back.
const MINUTE: usize = 60;

/// The measurements of one node.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Sessions opened since the start, as of each of the last seconds.
    opened: VecDeque<u64>,
    last: Counters,
    late_max: Duration,
    measured: Measured,
}

impl Meter {
    /// The loop woke up this much later than it wanted to.
    pub(crate) fn woke_late(&mut self, by: Duration) {
        self.late_max = self.late_max.max(by);
    }

    /// One more second is over.
    pub(crate) fn second(&mut self, counters: Counters, has_rooms: bool) {
        self.opened.push_back(counters.sessions_opened_total);
        if self.opened.len() > MINUTE + 1 {
            self.opened.pop_front();
        }
        let before = self.opened.front().copied().unwrap_or(0);
        let ticks = counters.ticks_total - self.last.ticks_total;
        let late_us = counters.tick_late_us_total - self.last.tick_late_us_total;
        self.measured = Measured {
            connects_per_minute: Some(clamp(counters.sessions_opened_total - before)),
            tick_lateness_ms: late_us.checked_div(ticks).map(|us| clamp(us / 1000)),
            loop_lag_ms: Some(u32::try_from(self.late_max.as_millis()).unwrap_or(u32::MAX)),
            memory_bytes: None,
            rooms_served: has_rooms.then(|| clamp(counters.rooms_opened_total)),
        };
        self.last = counters;
        self.late_max = Duration::ZERO;
    }

    /// As of the last second.
    pub(crate) const fn measured(&self) -> Measured {
        self.measured
    }
}

fn clamp(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(opened: u64, ticks: u64, late_us: u64) -> Counters {
        Counters {
            sessions_opened_total: opened,
            ticks_total: ticks,
            tick_late_us_total: late_us,
            rooms_opened_total: 7,
            ..Counters::default()
        }
    }

    #[test]
    fn a_minute_of_connections_the_average_lateness_of_ticks_and_the_worst_lag_of_the_loop_are_told() {
        let mut meter = Meter::default();
        assert_eq!(meter.measured(), Measured::default());
        for second in 0..100 {
            meter.second(counters(second * 3, 0, 0), false);
        }
        assert_eq!(meter.measured().connects_per_minute, Some(180));
        assert_eq!((meter.measured().tick_lateness_ms, meter.measured().rooms_served), (None, None));
        meter.woke_late(Duration::from_millis(40));
        meter.woke_late(Duration::from_millis(3));
        meter.second(counters(297, 20, 50_000), true);
        let measured = meter.measured();
        assert_eq!((measured.tick_lateness_ms, measured.loop_lag_ms), (Some(2), Some(40)));
        assert_eq!((measured.connects_per_minute, measured.rooms_served), (Some(177), Some(7)));
        meter.second(counters(297, 30, 50_000), true);
        assert_eq!((meter.measured().tick_lateness_ms, meter.measured().loop_lag_ms), (Some(0), Some(0)));
    }
}
