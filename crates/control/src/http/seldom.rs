//! What is told seldom, so that whoever can bring it about cannot fill the log.
//!
//! Never holds anything back but words.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Least time between two tellings.
const EVERY: Duration = Duration::from_secs(5);

/// One kind of word.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether it is time to tell again; then it counts as told.
    pub(super) fn is_due(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|at| at.elapsed() >= EVERY);
        if is_due {
            *told = Some(Instant::now());
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_told_and_the_next_ones_are_not() {
        let seldom = Seldom::default();
        assert!(seldom.is_due() && !seldom.is_due() && !seldom.is_due());
    }
}
