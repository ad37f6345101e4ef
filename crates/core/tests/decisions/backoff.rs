//! How long a fleet waits between two failures.

use std::time::Duration;

use crate::support::NOW;
use greenroom_core::fleet::Backoff;

#[test]
fn a_fleet_whose_servers_cannot_live_waits_longer_each_time() {
    // Seconds after the wait before was over at which the next server fails, and the wait that follows.
    let cases: [(u64, u64); 10] =
        [(0, 1), (3, 2), (3, 4), (3, 8), (3, 16), (3, 32), (3, 60), (3, 60), (300, 1), (0, 2)];
    let (mut backoff, mut now) = (Backoff::default(), NOW);
    assert!(!backoff.waits(now));
    for (step, (after, wait)) in cases.into_iter().enumerate() {
        now = now + Duration::from_secs(after);
        backoff = backoff.failed(now);
        assert_eq!(backoff.until(), now + Duration::from_secs(wait), "step {step}");
        assert!(backoff.waits(now), "step {step}");
        now = backoff.until();
        assert!(!backoff.waits(now), "step {step}");
    }
}

#[test]
fn servers_that_fail_together_fail_once() {
    let once = Backoff::default().failed(NOW);
    assert_eq!(once.failed(NOW), once);
    assert_eq!(once.failed(NOW + Duration::from_millis(999)), once);
}
