//! Seeded randomness that travels with the room's snapshot. Never a source of secrets: whoever sees enough
//! raw draws can compute the next ones, so show players results, not draws.

use serde::{Deserialize, Serialize};

/// The generator xoshiro256**, seeded through splitmix64: the same seed gives the same draws everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// A generator that depends on `seed` alone. Every seed is good, 0 too.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let mut mix = seed;
        let mut next = || {
            mix = mix.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = mix;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self { state: [next(), next(), next(), next()] }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let drawn = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        drawn
    }

    /// A number from 0 to `bound - 1`, each as likely as the others to within 2⁻³². `below(0)` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        let high = (u128::from(self.bits()) * u128::from(bound)) >> 64;
        u32::try_from(high).expect("a 64-bit draw times a 32-bit bound, shifted by 64, is below the bound")
    }

    /// A number from `low` to `high`, both included. An empty range gives `low`.
    pub fn between(&mut self, low: i32, high: i32) -> i32 {
        let span = i64::from(high) - i64::from(low) + 1;
        match u32::try_from(span) {
            Ok(span) => low.wrapping_add_unsigned(self.below(span)),
            Err(_) if span > 0 => low.wrapping_add_unsigned(self.bits() as u32),
            Err(_) => low,
        }
    }

    /// True in one of `n` draws on average. `one_in(0)` is never true.
    pub fn one_in(&mut self, n: u32) -> bool {
        n > 0 && self.below(n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_draws_for_ever() {
        let mut rng = Rng::seeded(42);
        let drawn: Vec<u64> = (0..3).map(|_| rng.bits()).collect();
        assert_eq!(drawn, [1_546_998_764_402_558_742, 6_990_951_692_964_543_102, 12_544_586_762_248_559_009]);
    }

    #[test]
    fn draws_stay_in_their_range() {
        let mut rng = Rng::seeded(1);
        for (low, high) in [(0, 0), (-3, 3), (5, 4), (i32::MIN, i32::MAX), (i32::MAX - 1, i32::MAX)] {
            for _ in 0..200 {
                let n = rng.between(low, high);
                assert!(n == low || (low <= n && n <= high), "{n} of {low}..={high}");
            }
        }
        assert_eq!(rng.below(0), 0);
        assert!(!rng.one_in(0));
        assert!(rng.one_in(1));
    }
}
