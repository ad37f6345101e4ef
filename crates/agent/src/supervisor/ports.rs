//! Which port is given to the next gameserver.
//!
//! Never binds one: whether a port is free on the machine is found out by whoever starts the process.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use greenroom_core::Timestamp;

/// Time before a port is given to another server, so that late clients of the old one meet a closed port.
pub const QUARANTINE: Duration = Duration::from_secs(30);

/// The agent's ports.
#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    quarantined_until: BTreeMap<u16, Timestamp>,
}

impl Ports {
    pub(super) fn new(
        range: RangeInclusive<u16>,
        quarantined: BTreeMap<u16, Timestamp>,
        now: Timestamp,
    ) -> Self {
        // A clock that was set back must not lengthen a quarantine.
        let bounded = quarantined.into_iter().map(|(port, until)| (port, until.min(now + QUARANTINE)));
        Self { range, quarantined_until: bounded.collect() }
    }

    /// The lowest port that is neither used nor in quarantine.
    pub(super) fn take(&mut self, now: Timestamp, used: &BTreeSet<u16>) -> Option<u16> {
        self.quarantined_until.retain(|_, until| *until > now);
        self.range.clone().find(|port| !used.contains(port) && !self.quarantined_until.contains_key(port))
    }

    /// Keeps a port from being given out for [`QUARANTINE`].
    pub(super) fn quarantine(&mut self, port: u16, now: Timestamp) {
        self.quarantined_until.insert(port, now + QUARANTINE);
    }

    pub(super) const fn quarantined(&self) -> &BTreeMap<u16, Timestamp> {
        &self.quarantined_until
    }

    /// Why there is none, for people.
    pub(super) fn exhausted(&self, used: usize) -> String {
        let (first, last) = (self.range.start(), self.range.end());
        let quarantined = self.quarantined_until.len();
        format!("no free port in {first}-{last}: {used} in use, {quarantined} in quarantine")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_out_again_only_after_its_quarantine() {
        let t0 = Timestamp::from_unix_ms(1_000_000);
        let mut ports = Ports::new(7000..=7001, BTreeMap::new(), t0);
        let none = BTreeSet::new();
        let first = BTreeSet::from([7000]);
        assert_eq!(ports.take(t0, &none), Some(7000));
        assert_eq!(ports.take(t0, &first), Some(7001));
        ports.quarantine(7000, t0);
        assert_eq!(ports.take(t0, &none), Some(7001));
        assert_eq!(ports.take(t0, &BTreeSet::from([7001])), None);
        assert_eq!(ports.exhausted(1), "no free port in 7000-7001: 1 in use, 1 in quarantine");
        let almost = t0 + QUARANTINE - Duration::from_millis(1);
        assert_eq!(ports.take(almost, &none), Some(7001));
        assert_eq!(ports.take(t0 + QUARANTINE, &none), Some(7000));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_lengthen_a_quarantine() {
        let t0 = Timestamp::from_unix_ms(1_000_000);
        let far = BTreeMap::from([(7000, t0 + Duration::from_secs(3600))]);
        let mut ports = Ports::new(7000..=7000, far, t0);
        assert_eq!(ports.take(t0 + QUARANTINE, &BTreeSet::new()), Some(7000));
    }
}
