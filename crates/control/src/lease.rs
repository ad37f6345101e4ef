//! The lease on leading, as plain values: when another's is over, when one's own must be renewed or is doubtful.
//!
//! Never reads a clock and never touches the store: moments are passed in, as time since any fixed one. No two clocks are
//! ever compared: a leader counts from when it *asked* for its last renewal, the others from when they *saw* it, which is
//! later. Whoever is wrong all the same is refused by the store and by the agents, because of its older term.

use std::time::Duration;

use greenroom_store::Version;
use greenroom_store::lease::Holder;
use greenroom_store::records::Loaded;
use greenroom_wire::record::LeaseRecord;

/// How long things take between replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long a lease lasts that is not renewed. Default 2 s.
    pub lease: Duration,
    /// Time between two renewals. Default 500 ms; at most a quarter of the lease.
    pub renew: Duration,
    /// Time between two looks of the others. Default 100 ms; at most a renewal.
    pub poll: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(2),
            renew: Duration::from_millis(500),
            poll: Duration::from_millis(100),
        }
    }
}

/// What a look at the stored lease shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The commit that wrote it last.
    pub version: u64,
    /// Whether its holder has given it back.
    pub released: bool,
}

/// Whether the lease is another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its holder may still lead.
    Held,
    /// It may be taken, by compare-and-set against what was seen.
    Vacant,
}

/// What a look at the lease comes to for one who does not hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It may be taken, by compare-and-set against what was seen; `None`: nobody ever led.
    Vacant(Option<Version>),
    /// A former process of the same name holds it, and has no answers any more.
    Former,
    /// Another replica leads.
    Held(LeaseRecord),
}

/// Another's lease, as one who waits for it sees it.
#[derive(Debug)]
pub struct Watch {
    times: LeaseTimes,
    last: Option<LastSeen>,
}

#[derive(Debug)]
struct LastSeen {
    seen: Seen,
    since: Duration,
    at: Duration,
}

impl Watch {
    /// One who has not looked yet.
    #[must_use]
    pub const fn new(times: LeaseTimes) -> Self {
        Self { times, last: None }
    }

    /// Takes in the lease as it was read at `now`, for a replica that is `ourselves`.
    pub fn look(&mut self, now: Duration, lease: Option<Loaded<LeaseRecord>>, ourselves: &Holder) -> Look {
        let seen =
            lease.as_ref().map(|lease| Seen { version: lease.version.0, released: lease.record.released });
        match (self.observe(now, seen), lease) {
            (Verdict::Held, Some(lease)) if lease.record.url != ourselves.url => Look::Held(lease.record),
            (Verdict::Held, _) => Look::Former,
            (Verdict::Vacant, lease) => Look::Vacant(lease.map(|lease| lease.version)),
        }
    }

    /// When the lease was first seen as it was at the last look: its last renewal, or its end. `None`: nobody ever led.
    #[must_use]
    pub fn since(&self) -> Option<Duration> {
        self.last.as_ref().map(|last| last.since)
    }

    /// Takes in what a look has shown that was over at `now`. `None`: nobody ever led.
    ///
    /// After a pause, be it this process's or the store's, the holder gets a whole lease to renew: it may have been held up
    /// by the same.
    pub fn observe(&mut self, now: Duration, seen: Option<Seen>) -> Verdict {
        let Some(seen) = seen else {
            self.last = None;
            return Verdict::Vacant;
        };
        let paused = self.times.lease / 2;
        let since = match &self.last {
            Some(last) if last.seen == seen && now.saturating_sub(last.at) <= paused => last.since,
            Some(_) | None => now,
        };
        self.last = Some(LastSeen { seen, since, at: now });
        if seen.released || now.saturating_sub(since) >= self.times.lease {
            Verdict::Vacant
        } else {
            Verdict::Held
        }
    }
}

/// One's own lease.
#[derive(Debug)]
pub struct Tenure {
    times: LeaseTimes,
    renewed_at: Duration,
    beat: u64,
}

impl Tenure {
    /// A lease that was asked for at `asked_at` and given.
    #[must_use]
    pub const fn new(times: LeaseTimes, asked_at: Duration) -> Self {
        Self { times, renewed_at: asked_at, beat: 0 }
    }

    /// Whether it is time to renew it.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.renewed_at) >= self.times.renew
    }

    /// Whether nobody else can hold it yet. When not, nothing may be told before a renewal has passed the store.
    #[must_use]
    pub fn is_sure(&self, now: Duration) -> bool {
        now.saturating_sub(self.renewed_at) < self.times.lease * 3 / 4
    }

    /// The number of the next renewal.
    #[must_use]
    pub const fn next_beat(&self) -> u64 {
        self.beat + 1
    }

    /// The store has taken a renewal that was asked for at `asked_at`.
    pub fn renewed(&mut self, asked_at: Duration) {
        self.beat += 1;
        self.renewed_at = self.renewed_at.max(asked_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moments in milliseconds, each with what it showed.
    type Looks = Vec<(u64, Option<Seen>)>;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const fn seen(version: u64) -> Option<Seen> {
        Some(Seen { version, released: false })
    }

    #[test]
    fn a_lease_is_over_when_it_was_seen_unchanged_for_all_its_time() {
        let released = Some(Seen { version: 9, released: true });
        let every_100_ms = |from: u64, to: u64, what| (from..to).step_by(100).map(move |at| (at, what));
        let cases: [(&str, Looks, Verdict); 7] = [
            ("nobody ever led", vec![(0, None)], Verdict::Vacant),
            ("a first look proves nothing", vec![(9_000, seen(1))], Verdict::Held),
            ("just not over", every_100_ms(0, 2_000, seen(1)).collect(), Verdict::Held),
            ("over", every_100_ms(0, 2_001, seen(1)).collect(), Verdict::Vacant),
            (
                "renewed in between",
                every_100_ms(0, 1_900, seen(1)).chain(every_100_ms(1_900, 3_900, seen(2))).collect(),
                Verdict::Held,
            ),
            ("given back", vec![(0, seen(1)), (100, released)], Verdict::Vacant),
            (
                "after a pause its holder gets its time again",
                vec![(0, seen(1)), (100, seen(1)), (60_000, seen(1)), (60_100, seen(1))],
                Verdict::Held,
            ),
        ];
        for (name, looks, verdict) in cases {
            let mut watch = Watch::new(LeaseTimes::default());
            let last = looks.into_iter().map(|(at, what)| watch.observe(ms(at), what)).last();
            assert_eq!(last, Some(verdict), "{name}");
        }
    }

    #[test]
    fn a_leader_doubts_itself_before_anybody_else_may_follow_it() {
        for delay_ms in [0, 1, 400, 1_999] {
            let times = LeaseTimes::default();
            let mut tenure = Tenure::new(times, ms(1_000));
            let mut watch = Watch::new(times);
            // Whoever watches sees the renewal some time after it was asked for.
            let mut at = 1_000 + delay_ms;
            while watch.observe(ms(at), seen(1)) == Verdict::Held {
                at += 50;
            }
            assert!(!tenure.is_sure(ms(at)), "{delay_ms}");
            assert!(tenure.is_due(ms(1_500)) && tenure.is_sure(ms(1_500)));
            tenure.renewed(ms(at));
            assert!(tenure.is_sure(ms(at)) && !tenure.is_due(ms(at)));
            assert_eq!(tenure.next_beat(), 2);
        }
    }
}
