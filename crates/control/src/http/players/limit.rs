//! Rates: how many calls one player or one address may make, in bounded memory.
//!
//! Never keeps more than its bound: whoever does not fit any more shares one allowance with the others who do not.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Rate;

/// Keys remembered at once: an attacker with more addresses shares with the others.
const KEYS_MAX: usize = 100_000;
/// The shared allowance of those who are not remembered, in allowances of one.
const SHARED: u32 = 100;
/// Shortest time between two looks for keys that can be forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// One allowance for each key. A key that has rested long enough is as good as new and is forgotten.
#[derive(Debug)]
pub(super) struct Limiter<K> {
    /// Time that one call uses up.
    interval: Duration,
    /// How far ahead of the clock a key may run.
    ahead_max: Duration,
    /// Until when each key has used up its time.
    used_until: HashMap<K, Instant>,
    shared_until: Instant,
    swept_at: Instant,
    keys_max: usize,
}

impl<K: Eq + Hash> Limiter<K> {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self::with_keys(rate, KEYS_MAX, now)
    }

    fn with_keys(rate: Rate, keys_max: usize, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / rate.per_second.max(1);
        Self {
            interval,
            ahead_max: interval * rate.burst.max(1),
            used_until: HashMap::new(),
            shared_until: now,
            swept_at: now,
            keys_max,
        }
    }

    /// Takes one call from the key's allowance, or gives how long it takes until there is one.
    pub(super) fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if self.used_until.len() >= self.keys_max && now >= self.swept_at + SWEEP_EVERY {
            self.used_until.retain(|_, used_until| *used_until > now);
            self.swept_at = now;
        }
        if self.used_until.len() >= self.keys_max && !self.used_until.contains_key(&key) {
            return spend(&mut self.shared_until, self.interval / SHARED, self.ahead_max, now);
        }
        let used_until = self.used_until.entry(key).or_insert(now);
        spend(used_until, self.interval, self.ahead_max, now)
    }
}

fn spend(
    used_until: &mut Instant,
    interval: Duration,
    ahead_max: Duration,
    now: Instant,
) -> Result<(), Duration> {
    let next = (*used_until).max(now) + interval;
    match next.saturating_duration_since(now).checked_sub(ahead_max) {
        Some(early) if !early.is_zero() => Err(early),
        Some(_) | None => {
            *used_until = next;
            Ok(())
        }
    }
}

/// What one household has: a whole IPv4 address, or the /64 of an IPv6 one.
pub(super) fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (!0 << 64))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 3 };

    #[test]
    fn a_burst_is_taken_then_one_at_a_time_and_the_wait_that_is_told_is_enough() {
        let start = Instant::now();
        let mut limiter = Limiter::new(RATE, start);
        for _ in 0..3 {
            assert_eq!(limiter.take("a", start), Ok(()));
        }
        let wait = limiter.take("a", start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert_eq!(limiter.take("b", start), Ok(()), "another key has its own");
        assert!(limiter.take("a", start + wait - Duration::from_millis(1)).is_err());
        assert_eq!(limiter.take("a", start + wait), Ok(()));
        assert!(limiter.take("a", start + wait).is_err());
    }

    #[test]
    fn those_who_do_not_fit_share_and_those_who_rest_are_forgotten() {
        let start = Instant::now();
        let mut limiter = Limiter::with_keys(RATE, 2, start);
        for key in [1, 2] {
            limiter.take(key, start).unwrap();
        }
        let taken = (3..10_000).filter(|key| limiter.take(*key, start).is_ok()).count();
        assert_eq!((taken, limiter.used_until.len()), (300, 2));
        let later = start + Duration::from_secs(2);
        limiter.take(5, later).unwrap();
        assert_eq!(limiter.used_until.len(), 1, "1 and 2 have rested");
    }

    #[test]
    fn a_household_is_one_address_of_four_and_half_of_one_of_six() {
        let cases = [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ];
        for (address, wanted) in cases {
            assert_eq!(household(address.parse().unwrap()).to_string(), wanted);
        }
    }

    proptest! {
        #[test]
        fn nobody_ever_gets_more_than_the_burst_and_the_rate(gaps in prop::collection::vec(0_u64..300, 1..200)) {
            let start = Instant::now();
            let mut limiter = Limiter::new(RATE, start);
            let (mut at_ms, mut taken) = (0, 0_u64);
            for gap in gaps {
                at_ms += gap;
                taken += u64::from(limiter.take((), start + Duration::from_millis(at_ms)).is_ok());
            }
            prop_assert!(taken <= 3 + at_ms / 100, "{taken} in {at_ms} ms");
        }
    }
}
