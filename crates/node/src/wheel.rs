//! One timer for the whole node: a wheel of slots that hold what is due then.
//! Never reads a clock: the caller tells the moment.

use std::time::Duration;

use greenroom_socketio::engine::Moment;

const SLOTS: usize = 2048;

/// Things due at moments: nothing fires early, and at most two slots late.
pub(crate) struct Wheel<T> {
    slot_ms: u64,
    slots: Box<[Vec<(Moment, T)>]>,
    /// Slots up to this one, counted from the start, have been emptied.
    done: u64,
    len: usize,
}

impl<T> Wheel<T> {
    /// A wheel whose slots take a thousandth of the shortest time that matters, 1 to 25 ms.
    pub(crate) fn new(shortest: Duration) -> Self {
        let slot_ms = u64::try_from(shortest.as_millis() / 1000).unwrap_or(u64::MAX).clamp(1, 25);
        Self { slot_ms, slots: (0..SLOTS).map(|_| Vec::new()).collect(), done: 0, len: 0 }
    }

    /// Adds a thing. The answer is the moment at which it fires.
    pub(crate) fn insert(&mut self, at: Moment, thing: T) -> Moment {
        let slot = at.as_millis().div_ceil(self.slot_ms).max(self.done + 1);
        self.slots[place(slot)].push((at, thing));
        self.len += 1;
        self.moment_of(slot)
    }

    /// When to call [`Self::take_due`] next.
    pub(crate) fn next_at(&self) -> Option<Moment> {
        if self.len == 0 {
            return None;
        }
        let rounds = self.done + 1..=self.done + SLOTS as u64;
        rounds.into_iter().find(|slot| !self.slots[place(*slot)].is_empty()).map(|slot| self.moment_of(slot))
    }

    /// Takes what is due, with the moments it was inserted for.
    pub(crate) fn take_due(&mut self, now: Moment) -> Vec<(Moment, T)> {
        let current = now.as_millis() / self.slot_ms;
        let mut due = Vec::new();
        let first = (self.done + 1).max(current.saturating_sub(SLOTS as u64));
        for slot in first..=current {
            for (at, thing) in std::mem::take(&mut self.slots[place(slot)]) {
                // A slot also holds what is due whole rounds later.
                if at <= now { due.push((at, thing)) } else { self.slots[place(slot)].push((at, thing)) }
            }
        }
        self.done = self.done.max(current);
        self.len -= due.len();
        due
    }

    fn moment_of(&self, slot: u64) -> Moment {
        Moment::from_millis(slot * self.slot_ms)
    }
}

fn place(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).expect("less than the number of slots")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    #[test]
    fn a_thing_fires_once_and_never_early() {
        let mut wheel = Wheel::new(Duration::from_secs(25));
        for ms in [0, 1, 25, 26, 1_000, 51_200, 51_225, 200_000] {
            wheel.insert(at(ms), ms);
        }
        let mut fired = Vec::new();
        let mut now = 0;
        while let Some(next) = wheel.next_at() {
            assert!(next > at(now), "the wheel goes on");
            now = next.as_millis();
            for (due, ms) in wheel.take_due(next) {
                assert_eq!(due, at(ms));
                assert!(ms <= now && now <= ms + 50, "{ms} at {now}");
                fired.push(ms);
            }
        }
        assert_eq!(fired, [0, 1, 25, 26, 1_000, 51_200, 51_225, 200_000]);
        assert!(wheel.take_due(at(1_000_000)).is_empty());
    }

    #[test]
    fn a_late_call_takes_all_that_was_missed() {
        let mut wheel = Wheel::new(Duration::from_secs(25));
        for ms in [10, 60_000, 120_000] {
            wheel.insert(at(ms), ms);
        }
        assert_eq!(wheel.take_due(at(110_000)).len(), 2);
        assert_eq!(wheel.next_at(), Some(at(120_000)));
        assert_eq!(wheel.take_due(at(120_000)), [(at(120_000), 120_000)]);
        assert_eq!(wheel.next_at(), None);
    }
}
