//! Owns the seeded choices of one player: the same seed and player give the same numbers in the same order.
//! Never draws from the machine's randomness.

use std::time::Duration;

/// A SplitMix64 stream: eight bytes of state, so that ten thousand players cost nothing. Good for schedules, not for
/// secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draws(u64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Draws {
    /// The stream of number `index` under `seed`. Streams of neighbours have nothing in common.
    #[must_use]
    pub fn new(seed: u64, index: u64) -> Self {
        Self(mix(mix(seed).wrapping_add(mix(index.wrapping_add(STEP)))))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number from 0 to `end`, `end` excluded; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.bits()) * u128::from(end);
        u64::try_from(wide >> 64).expect("the upper half of a product of two 64-bit numbers")
    }

    /// A number from 0 to 1, 1 excluded.
    pub fn share(&mut self) -> f64 {
        let bits = u32::try_from(self.bits() >> 32).expect("the upper half of 64 bits");
        f64::from(bits) / 4_294_967_296.0
    }

    /// A time from zero to `end`, `end` excluded, in whole microseconds.
    pub fn span(&mut self, end: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(end.as_micros()).unwrap_or(u64::MAX)))
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_settled_by_its_seed_and_index() {
        let draw = |seed, index| {
            let mut draws = Draws::new(seed, index);
            [draws.bits(), draws.bits(), draws.below(10), draws.below(0)]
        };
        assert_eq!(draw(7, 3), draw(7, 3));
        assert_ne!(draw(7, 3), draw(7, 4));
        assert_ne!(draw(7, 3), draw(8, 3));
        assert_eq!(draw(7, 3)[3], 0);
    }

    #[test]
    fn spans_fill_their_range_evenly() {
        let mut tenths = [0_u32; 10];
        for index in 0..10_000 {
            let span = Draws::new(1, index).span(Duration::from_secs(1));
            tenths[usize::try_from(span.as_millis() / 100).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }
}
