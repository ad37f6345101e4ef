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

    /// The lowest port that is neither used nor in quarantine, out of the fleet's own range where it has one. The
    /// error says for people why there is none.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        used: &BTreeSet<u16>,
        own: Option<(u16, u16)>,
    ) -> Result<u16, String> {
        self.quarantined_until.retain(|_, until| *until > now);
        let range = own.map_or_else(|| self.range.clone(), |(first, last)| first..=last);
        let is_free = |port: &u16| !used.contains(port) && !self.quarantined_until.contains_key(port);
        range.clone().find(is_free).ok_or_else(|| {
            let (first, last) = (range.start(), range.end());
            let used = used.iter().filter(|port| range.contains(port)).count();
            let quarantined = self.quarantined_until.keys().filter(|port| range.contains(port)).count();
            format!("no free port in {first}-{last}: {used} in use, {quarantined} in quarantine")
        })
    }

    /// Keeps a port from being given out for [`QUARANTINE`].
    pub(super) fn quarantine(&mut self, port: u16, now: Timestamp) {
        self.quarantined_until.insert(port, now + QUARANTINE);
    }

    pub(super) const fn quarantined(&self) -> &BTreeMap<u16, Timestamp> {
        &self.quarantined_until
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
        assert_eq!(ports.take(t0, &none, None), Ok(7000));
        assert_eq!(ports.take(t0, &first, None), Ok(7001));
        ports.quarantine(7000, t0);
        assert_eq!(ports.take(t0, &none, None), Ok(7001));
        assert_eq!(
            ports.take(t0, &BTreeSet::from([7001, 8000]), None),
            Err("no free port in 7000-7001: 1 in use, 1 in quarantine".to_owned())
        );
        let almost = t0 + QUARANTINE - Duration::from_millis(1);
        assert_eq!(ports.take(almost, &none, None), Ok(7001));
        assert_eq!(ports.take(t0 + QUARANTINE, &none, None), Ok(7000));
    }

    #[test]
    fn a_fleet_with_ports_of_its_own_takes_no_others() {
        let t0 = Timestamp::from_unix_ms(1_000_000);
        let mut ports = Ports::new(7000..=7001, BTreeMap::new(), t0);
        let own = Some((7100, 7100));
        assert_eq!(ports.take(t0, &BTreeSet::from([7000, 7001]), own), Ok(7100));
        assert_eq!(
            ports.take(t0, &BTreeSet::from([7100]), own),
            Err("no free port in 7100-7100: 1 in use, 0 in quarantine".to_owned())
        );
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_lengthen_a_quarantine() {
        let t0 = Timestamp::from_unix_ms(1_000_000);
        let far = BTreeMap::from([(7000, t0 + Duration::from_secs(3600))]);
        let mut ports = Ports::new(7000..=7000, far, t0);
        assert_eq!(ports.take(t0 + QUARANTINE, &BTreeSet::new(), None), Ok(7000));
    }
}
