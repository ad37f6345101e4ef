//! Attempts to reach a Redis: how long to wait before the next one, and what of their failures is news.
//!
//! Never waits and never connects: whoever does both asks here.

use std::time::{Duration, Instant};

/// Longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// First wait.
const WAIT_MIN: Duration = Duration::from_millis(20);
/// A connection that held this long was a good one.
const PROVEN_AFTER: Duration = Duration::from_secs(2);

/// The attempts of one loop that connects for as long as somebody wants it to.
pub(crate) struct Attempts {
    wait: Duration,
    reached_at: Option<Instant>,
    told: Option<String>,
}

impl Attempts {
    /// Before the first.
    pub(crate) const fn new() -> Self {
        Self { wait: WAIT_MIN, reached_at: None, told: None }
    }

    /// The Redis answers.
    pub(crate) fn reached(&mut self) {
        self.reached_at = Some(Instant::now());
        self.told = None;
    }

    /// It could not be reached, or does not answer any more. True when nobody was told the same since it answered last.
    pub(crate) fn failed(&mut self, why: &str) -> bool {
        if self.reached_at.take().is_some_and(|at| at.elapsed() >= PROVEN_AFTER) {
            self.wait = WAIT_MIN;
        }
        let is_news = self.told.as_deref() != Some(why);
        self.told = Some(why.to_owned());
        is_news
    }

    /// How long to wait before the next: longer each time, and between half of it and all of it, so that not all nodes come at
    /// once.
    pub(crate) fn pause(&mut self) -> Duration {
        let share = getrandom::u32().unwrap_or(u32::MAX) % 500;
        let pause = self.wait * (500 + share) / 1000;
        self.wait = (self.wait * 2).min(WAIT_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_is_news_once_until_it_was_reached_again() {
        let mut attempts = Attempts::new();
        let told = ["refused", "refused", "silent", "refused"].map(|why| attempts.failed(why));
        assert_eq!(told, [true, false, true, true]);
        attempts.reached();
        assert!(attempts.failed("refused"));
    }

    #[test]
    fn waits_grow_to_a_second_and_a_connection_that_held_begins_them_anew() {
        let mut attempts = Attempts::new();
        let within =
            |pause: Duration, most: Duration| assert!((most / 2..=most).contains(&pause), "{pause:?}");
        for doubled in 0..6 {
            within(attempts.pause(), WAIT_MIN * 2u32.pow(doubled));
        }
        within(attempts.pause(), WAIT_MAX);
        attempts.reached();
        attempts.failed("it broke at once");
        within(attempts.pause(), WAIT_MAX);
        attempts.reached_at = Instant::now().checked_sub(PROVEN_AFTER);
        attempts.failed("it broke after a while");
        within(attempts.pause(), WAIT_MIN);
    }
}
