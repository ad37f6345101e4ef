//! One History: events under consecutive numbers, the oldest let go by time and by bytes.
//! Never answers with a part of what was asked for: a gap is an error.

use std::collections::VecDeque;

use greenroom_core::Timestamp;

/// Why a History cannot tell all that came after a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The events are older than the History keeps them.
    #[error("the events after that place are older than the history keeps them")]
    TooOld,
    /// The events were let go early, to keep the History within its bytes.
    #[error("the events after that place were let go to keep the history within its bytes")]
    Evicted,
    /// The place lies behind the last event.
    #[error("that place lies behind the last event")]
    Ahead,
}

/// An event as a History keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept<T> {
    /// Its number.
    pub offset: u64,
    /// When it was appended.
    pub at: Timestamp,
    /// What it weighs, in bytes.
    pub bytes: usize,
    /// The event.
    pub event: T,
}

/// The events of one History, in order and without a gap.
#[derive(Debug, Clone)]
pub struct Log<T> {
    epoch: u64,
    kept: VecDeque<Kept<T>>,
    /// The last event that was ever there; 0 before the first.
    head: u64,
    /// Events up to here were evicted before their time.
    evicted_to: u64,
    bytes: usize,
}

impl<T> Log<T> {
    /// A History that begins after `head`, which is 0 for a new one. A greater one has nothing of what was before.
    #[must_use]
    pub fn new(epoch: u64, head: u64) -> Self {
        Self { epoch, kept: VecDeque::new(), head, evicted_to: 0, bytes: 0 }
    }

    /// The log's continuity.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The number of the last event.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The number of the last event that is gone; 0 where all are there.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.kept.front().map_or(self.head, |first| first.offset - 1)
    }

    /// Bytes of all events that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends an event under the next number, which is the answer.
    pub fn append(&mut self, at: Timestamp, bytes: usize, event: T) -> u64 {
        self.head += 1;
        self.bytes += bytes;
        self.kept.push_back(Kept { offset: self.head, at, bytes, event });
        self.head
    }

    /// Lets go what is older than `keep_from`, and the oldest of what is more than `bytes_max`. Each event that goes is
    /// handed to `gone`.
    pub fn trim(&mut self, keep_from: Timestamp, bytes_max: usize, mut gone: impl FnMut(Kept<T>)) {
        while let Some(first) = self.kept.front() {
            let is_old = first.at < keep_from;
            if !is_old && self.bytes <= bytes_max {
                break;
            }
            if !is_old {
                self.evicted_to = first.offset;
            }
            self.bytes -= first.bytes;
            self.kept.pop_front().into_iter().for_each(&mut gone);
        }
    }

    /// Whether all events after `offset` are there.
    ///
    /// # Errors
    /// See [`Missing`].
    pub fn check(&self, offset: u64) -> Result<(), Missing> {
        if offset > self.head {
            Err(Missing::Ahead)
        } else if offset >= self.floor() {
            Ok(())
        } else if offset < self.evicted_to {
            Err(Missing::Evicted)
        } else {
            Err(Missing::TooOld)
        }
    }

    /// All events after `offset`, in order.
    ///
    /// # Errors
    /// See [`Missing`]: all of them or none.
    pub fn after(&self, offset: u64) -> Result<impl ExactSizeIterator<Item = &Kept<T>>, Missing> {
        self.check(offset)?;
        let skipped = usize::try_from(offset - self.floor()).unwrap_or(usize::MAX);
        Ok(self.kept.range(skipped..))
    }

    /// One event, where it is still kept.
    #[must_use]
    pub fn get(&self, offset: u64) -> Option<&Kept<T>> {
        let index = usize::try_from(offset.checked_sub(self.floor() + 1)?).ok()?;
        self.kept.get(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    fn offsets(log: &Log<()>, after: u64) -> Result<Vec<u64>, Missing> {
        Ok(log.after(after)?.map(|kept| kept.offset).collect())
    }

    #[test]
    fn what_was_let_go_is_an_error_and_never_a_gap() {
        let mut log = Log::new(7, 0);
        for ms in [10, 20, 30, 40] {
            log.append(at(ms), 5, ());
        }
        assert_eq!(offsets(&log, 0), Ok(vec![1, 2, 3, 4]));
        log.trim(at(20), 100, drop);
        assert_eq!(offsets(&log, 0), Err(Missing::TooOld));
        assert_eq!(offsets(&log, 1), Ok(vec![2, 3, 4]));
        log.trim(at(20), 10, drop);
        assert_eq!(offsets(&log, 1), Err(Missing::Evicted));
        assert_eq!(offsets(&log, 2), Ok(vec![3, 4]));
        assert_eq!((offsets(&log, 4), offsets(&log, 5)), (Ok(vec![]), Err(Missing::Ahead)));
    }

    #[test]
    fn an_empty_history_still_knows_its_last_event() {
        let mut log = Log::new(7, 41);
        assert_eq!(
            (log.floor(), offsets(&log, 41), offsets(&log, 40)),
            (41, Ok(vec![]), Err(Missing::TooOld))
        );
        assert_eq!(log.append(at(1), 1, ()), 42);
        assert_eq!(log.get(42).map(|kept| kept.offset), Some(42));
        assert!(log.get(41).is_none() && log.get(43).is_none());
    }

    proptest! {
        #[test]
        fn an_answer_is_whole_or_an_error(
            steps in proptest::collection::vec((0_u64..50, 1_usize..20, any::<bool>()), 1..60),
            after in 0_u64..70,
        ) {
            let mut log = Log::new(1, 0);
            let mut now = 0;
            for (later, bytes, is_trimmed) in steps {
                now += later;
                log.append(at(now), bytes, ());
                if is_trimmed {
                    log.trim(at(now.saturating_sub(100)), 60, drop);
                    prop_assert!(log.bytes() <= 60);
                }
            }
            match offsets(&log, after) {
                Ok(told) => prop_assert_eq!(told, (after + 1..=log.head()).collect::<Vec<_>>()),
                Err(Missing::Ahead) => prop_assert!(after > log.head()),
                Err(Missing::TooOld | Missing::Evicted) => prop_assert!(after < log.floor()),
            }
        }
    }
}
