//! Service level objectives: cases, and those that were not as promised.
//!
//! Never decides anything by them, and never stores them: they count from the moment when this process began to lead.

use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_wire::api::{SloList, SloStatus};
use greenroom_wire::rooms::EndReason;

/// How long a call may wait for a place to count as prompt.
const PROMPT: Duration = Duration::from_secs(1);
/// How long nobody may lead.
const TAKEOVER: Duration = Duration::from_secs(3);
/// How long the agents may take to tell a new leader all that runs.
const REBUILT: Duration = Duration::from_secs(2);

/// What has happened so far.
#[derive(Debug, Default)]
pub(super) struct Slos {
    placed: Tally,
    prompt: Tally,
    rooms: Tally,
    stops: Tally,
    takeover: Tally,
    rebuilt: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    seen: u64,
    missed: u64,
    longest: Option<Duration>,
}

impl Tally {
    fn count(&mut self, is_kept: bool) {
        self.seen += 1;
        self.missed += u64::from(!is_kept);
    }

    fn took(&mut self, time: Duration, within: Duration) {
        self.count(time <= within);
        self.longest = self.longest.max(Some(time));
    }

    fn status(&self, name: &str, promise: &str, goal: u16, within: Option<Duration>) -> SloStatus {
        let budget = u128::from(self.seen) * u128::from(1_000_u16.saturating_sub(goal));
        SloStatus {
            name: name.to_owned(),
            promise: promise.to_owned(),
            goal_per_mille: goal,
            within_ms: within.map(ms),
            seen: self.seen,
            missed: self.missed,
            longest_ms: self.longest.map(ms),
            met: u128::from(self.missed) * 1_000 <= budget,
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Slos {
    /// A call has got a room, or the address of a server, after so long.
    pub(super) fn placed(&mut self, waited: Duration) {
        self.placed.count(true);
        self.prompt.took(waited, PROMPT);
    }

    /// A call has got nothing until its deadline.
    pub(super) fn not_placed(&mut self) {
        self.placed.count(false);
    }

    /// A room is over.
    pub(super) fn room_ended(&mut self, reason: EndReason) {
        let is_lost = matches!(reason, EndReason::ServerLost | EndReason::HostLost);
        self.rooms.count(!is_lost);
    }

    /// A server that was told to stop is gone, and whether somebody was still on it.
    pub(super) fn stopped(&mut self, was_occupied: bool) {
        self.stops.count(!was_occupied);
    }

    /// Nobody led for so long before this process did.
    pub(super) fn took_over(&mut self, after: Duration) {
        self.takeover.took(after, TAKEOVER);
    }

    /// All known hosts have told what runs, so long after this process began to lead; or were given up.
    pub(super) fn rebuilt(&mut self, after: Duration) {
        self.rebuilt.took(after, REBUILT);
    }

    pub(super) fn list(&self, since: Timestamp) -> SloList {
        let slos = vec![
            self.placed.status(
                "placed",
                "a call for a room, or for a server of a mesh, gets one before its deadline",
                999,
                None,
            ),
            self.prompt.status("placed_promptly", "what a call gets it gets within 1 s", 990, Some(PROMPT)),
            self.rooms.status(
                "rooms_kept",
                "a room ends because it is over, not because its server or host was lost",
                999,
                None,
            ),
            self.stops.status("nobody_stopped", "a server is stopped when nobody is on it", 1_000, None),
            self.takeover.status("takeover", "nobody leads for at most 3 s", 990, Some(TAKEOVER)),
            self.rebuilt.status(
                "rebuilt",
                "2 s after a restart or a takeover it is known what runs",
                1_000,
                Some(REBUILT),
            ),
        ];
        SloList { since_ms: since.unix_ms(), slos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(slos: &Slos, name: &str) -> SloStatus {
        let list = slos.list(Timestamp::default());
        list.slos.into_iter().find(|slo| slo.name == name).expect("it is always told")
    }

    #[test]
    fn nothing_that_happened_is_as_promised() {
        let list = Slos::default().list(Timestamp::from_unix_ms(7));
        assert_eq!((list.since_ms, list.slos.len()), (7, 6));
        assert!(list.slos.iter().all(|slo| slo.met && slo.seen == 0 && slo.longest_ms.is_none()));
    }

    #[test]
    fn one_of_a_thousand_may_fail_and_two_may_not() {
        let mut slos = Slos::default();
        (0..999).for_each(|_| slos.placed(Duration::ZERO));
        slos.not_placed();
        let told = of(&slos, "placed");
        assert_eq!((told.seen, told.missed, told.met), (1_000, 1, true));
        slos.not_placed();
        assert!(!of(&slos, "placed").met);
    }

    #[test]
    fn what_takes_a_time_is_kept_up_to_its_bound_and_the_longest_is_told() {
        let mut slos = Slos::default();
        slos.took_over(Duration::from_secs(3));
        let told = of(&slos, "takeover");
        assert_eq!((told.within_ms, told.longest_ms, told.met), (Some(3_000), Some(3_000), true));
        slos.took_over(Duration::from_millis(3_001));
        slos.took_over(Duration::from_millis(20));
        let told = of(&slos, "takeover");
        assert_eq!((told.seen, told.missed, told.longest_ms, told.met), (3, 1, Some(3_001), false));
        slos.rebuilt(Duration::from_millis(40));
        assert_eq!(of(&slos, "rebuilt").longest_ms, Some(40));
    }

    #[test]
    fn a_room_is_lost_with_its_server_or_host_alone() {
        use EndReason::*;
        let mut slos = Slos::default();
        for reason in [Finished, Empty, NoShow, ServerLost, HostLost, Crashed, Superseded, Stopped] {
            slos.room_ended(reason);
        }
        assert_eq!((of(&slos, "rooms_kept").seen, of(&slos, "rooms_kept").missed), (8, 2));
        slos.stopped(false);
        assert!(of(&slos, "nobody_stopped").met);
        slos.stopped(true);
        assert!(!of(&slos, "nobody_stopped").met);
    }
}
