//! How fast something may happen: so many times a second, and as many at once after a rest.
//! Never reads a clock: the caller tells the moment.

use greenroom_socketio::engine::Moment;

/// What is left of the allowance, in thousandths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    thousandths: u64,
    filled_at: Moment,
}

impl Bucket {
    pub(crate) fn full(per_second: u32) -> Self {
        Self { thousandths: u64::from(per_second) * 1000, filled_at: Moment::from_millis(0) }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, per_second: u32, now: Moment) -> bool {
        let rested_ms = now.as_millis().saturating_sub(self.filled_at.as_millis());
        let refill = rested_ms.saturating_mul(u64::from(per_second));
        self.thousandths = self.thousandths.saturating_add(refill).min(u64::from(per_second) * 1000);
        self.filled_at = self.filled_at.max(now);
        match self.thousandths.checked_sub(1000) {
            Some(left) => {
                self.thousandths = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_refills_up_to_one_second() {
        let at = Moment::from_millis;
        let mut bucket = Bucket::full(2);
        for (now, taken) in [(0, true), (0, true), (0, false), (499, false), (500, true), (500, false)] {
            assert_eq!(bucket.take(2, at(now)), taken, "{now}");
        }
        for (now, taken) in [(60_000, true), (60_000, true), (60_000, false), (50_000, false)] {
            assert_eq!(bucket.take(2, at(now)), taken, "{now}");
        }
        assert!(!Bucket::full(0).take(0, at(1_000_000)));
    }
}
