//! Owns when players come: an open model, in which nobody waits for those before.
//! Never draws but from the run's seed.

use std::time::Duration;

use crate::draws::Draws;

/// The longest time over which players come.
const LASTING_MAX: Duration = Duration::from_secs(24 * 3_600);

/// When players come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrival {
    /// Each at a drawn moment of this time.
    Ramp {
        /// The time, 0 to 24 h.
        over: Duration,
    },
    /// So many a second on average, with the drawn gaps of a Poisson process.
    Rate {
        /// 0.001 to 100,000.
        per_second: f64,
    },
    /// A ramp, but a share of all comes at one moment in it.
    Spike {
        /// The time, 0 to 24 h.
        over: Duration,
        /// The moment of the spike.
        at: Duration,
        /// Share of players who come then, 0 to 1.
        share: f64,
    },
    /// All at one moment.
    Storm {
        /// The moment.
        at: Duration,
    },
    /// Evenly spread over a long time, one after the other has left: a soak with long stays, a churn with short ones.
    Soak {
        /// The time, 0 to 24 h.
        lasting: Duration,
    },
}

impl Arrival {
    /// What is wrong with it.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut span = |name: &str, value: Duration| {
            if value > LASTING_MAX {
                faults.push(format!("{name} is {:?} to {LASTING_MAX:?}, not {value:?}", Duration::ZERO));
            }
        };
        match self {
            Self::Ramp { over } => span("ramp", *over),
            Self::Spike { over, at, .. } => {
                span("over", *over);
                span("at", *at);
            }
            Self::Storm { at } => span("at", *at),
            Self::Soak { lasting } => span("lasting", *lasting),
            Self::Rate { .. } => {}
        }
        match self {
            Self::Rate { per_second } if !(0.001..=100_000.0).contains(per_second) => {
                faults.push(format!("per_second is 0.001 to 100000, not {per_second}"));
            }
            Self::Spike { share, .. } if !(0.0..=1.0).contains(share) => {
                faults.push(format!("share is 0 to 1, not {share}"));
            }
            Self::Ramp { .. }
            | Self::Rate { .. }
            | Self::Spike { .. }
            | Self::Storm { .. }
            | Self::Soak { .. } => {}
        }
        faults
    }

    /// The intended moment of each of `players`, by number. The same seed gives the same moments.
    #[must_use]
    pub fn moments(&self, seed: u64, players: u32) -> Vec<Duration> {
        let mut gaps = Draws::new(seed ^ 0x6172_7269_7661_6c73, u64::from(u32::MAX));
        let mut at = Duration::ZERO;
        (0..players)
            .map(|index| {
                let mut draws = Draws::new(seed, u64::from(index));
                match self {
                    Self::Ramp { over } => draws.span(*over),
                    Self::Rate { per_second } => {
                        at += Duration::from_secs_f64(-(1.0 - gaps.share()).ln() / per_second);
                        at
                    }
                    Self::Spike { over, at, share } => {
                        if draws.share() < *share {
                            *at
                        } else {
                            draws.span(*over)
                        }
                    }
                    Self::Storm { at } => *at,
                    Self::Soak { lasting } => lasting.mul_f64(f64::from(index) / f64::from(players.max(1))),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_shape_comes_when_it_says() {
        let rate = Arrival::Rate { per_second: 100.0 }.moments(1, 10_000);
        assert!(rate.is_sorted());
        let last = rate[9_999].as_secs_f64();
        assert!((95.0..105.0).contains(&last), "10,000 players at 100 a second take 100 s, not {last}");

        let spike = Arrival::Spike { over: 10 * SECOND, at: 5 * SECOND, share: 0.3 }.moments(1, 10_000);
        let at_once = spike.iter().filter(|at| **at == 5 * SECOND).count();
        assert!((2_800..3_200).contains(&at_once), "{at_once}");

        assert!(Arrival::Storm { at: SECOND }.moments(1, 10).iter().all(|at| *at == SECOND));
        let soak = Arrival::Soak { lasting: 10 * SECOND }.moments(1, 10);
        assert_eq!(soak[3], 3 * SECOND);
        assert!(Arrival::Ramp { over: SECOND }.moments(1, 100).iter().all(|at| *at < SECOND));
    }

    #[test]
    fn the_seed_settles_every_moment() {
        for shape in [Arrival::Rate { per_second: 3.0 }, Arrival::Ramp { over: SECOND }] {
            assert_eq!(shape.moments(7, 100), shape.moments(7, 100));
            assert_ne!(shape.moments(7, 100), shape.moments(8, 100));
            assert_eq!(
                shape.moments(7, 100)[..50],
                shape.moments(7, 50),
                "more players change no earlier one"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_told() {
        assert_eq!(Arrival::Rate { per_second: 0.0 }.faults(), ["per_second is 0.001 to 100000, not 0"]);
        assert_eq!(
            Arrival::Spike { over: SECOND, at: SECOND, share: 2.0 }.faults(),
            ["share is 0 to 1, not 2"]
        );
        assert_eq!(Arrival::Ramp { over: SECOND * 90_000 }.faults().len(), 1);
    }
}
