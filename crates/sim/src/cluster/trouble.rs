//! What goes wrong in a run, and its end.
//!
//! Never draws how often: the scenario says so.

use rand::RngExt as _;

use super::Cluster;
use crate::scenario::{Plane, happens};
use crate::store::Failing;

/// Longest time that nothing passes between an agent and a control process.
const CUT_MS_MAX: u64 = 10_000;
/// Longest time that a control process stands still.
const FREEZE_MS_MAX: u64 = 12_000;

impl Cluster {
    pub(super) fn break_things(&mut self) {
        let now_ms = self.now_ms;
        for host in &mut self.hosts {
            let broken = host.fault(now_ms, &self.scenario, &mut self.rng, &mut self.summary);
            for (control, stream) in broken {
                // A half-open stream: control notices its end later than the agent.
                self.closing.push((now_ms + self.rng.random_range(0..=3_000), control, stream));
            }
        }
        let step_ms = self.scenario.step_ms;
        if happens(&mut self.rng, step_ms, self.scenario.host_loss_ms) {
            self.lose_host();
        }
        if happens(&mut self.rng, step_ms, self.scenario.store_fault_ms) {
            self.break_store();
        }
        if happens(&mut self.rng, step_ms, self.scenario.leader_fault_ms) {
            self.break_plane();
        }
        if happens(&mut self.rng, step_ms, self.scenario.control_crash_ms) {
            let at = self.leader().unwrap_or(0);
            if self.replicas[at].is_up() {
                self.kill(at);
            }
        }
    }

    /// Nothing goes wrong any more: who is away comes back, and everything passes.
    pub(super) fn stop_trouble(&mut self) {
        self.store.heal();
        for replica in &mut self.replicas {
            replica.hurry(self.now_ms);
        }
        for host in &mut self.hosts {
            host.mend();
        }
    }

    /// One host dies, or all of its zone at once.
    fn lose_host(&mut self) {
        let one = self.rng.random_range(0..self.hosts.len());
        if self.rng.random_bool(0.7) {
            return self.lose(one);
        }
        self.summary.zones_lost += 1;
        for at in 0..self.hosts.len() {
            if self.hosts[at].zone == self.hosts[one].zone {
                self.lose(at);
            }
        }
    }

    /// A machine dies with all that is on it.
    fn lose(&mut self, at: usize) {
        let now_ms = self.now_ms;
        let absence_ms = self.scenario.absence_ms(&mut self.rng);
        let (streams, lost) = self.hosts[at].die(now_ms, absence_ms, &mut self.rng);
        for (control, stream) in streams {
            self.closing.push((now_ms + self.rng.random_range(0..=3_000), control, stream));
        }
        // Nobody is owed what died unheard with its machine.
        for (_, _, ended) in lost {
            self.owed.remove(&(ended.room.0, ended.epoch));
        }
        self.summary.hosts_lost += 1;
    }

    fn break_store(&mut self) {
        match self.scenario.plane {
            Plane::Alone => {
                let how = if self.rng.random_bool(0.5) { Failing::Lost } else { Failing::Unconfirmed };
                self.store.fail_commit(how);
            }
            Plane::Replicas(count) => {
                self.summary.store_faults += 1;
                self.store.fault(count);
            }
        }
    }

    /// Something happens to the leader, to a follower, or to several at once.
    fn break_plane(&mut self) {
        self.summary.leader_faults += 1;
        let any = self.rng.random_range(0..self.replicas.len());
        let one = if self.rng.random_bool(0.6) { self.leader().unwrap_or(any) } else { any };
        match self.rng.random_range(0..10) {
            0..6 => self.break_one(one),
            6..8 => {
                let until = self.now_ms + self.rng.random_range(500..=15_000);
                self.store.cut(one, until);
            }
            // Several at once.
            _ => {
                for at in 0..self.replicas.len() {
                    if self.rng.random_bool(0.7) {
                        self.break_one(at);
                    }
                }
            }
        }
    }

    fn break_one(&mut self, at: usize) {
        let now_ms = self.now_ms;
        if !self.replicas[at].is_up() {
            return;
        }
        match self.rng.random_range(0..6) {
            0 => self.kill(at),
            1 => self.replicas[at].stop(),
            2 => {
                let for_ms = self.rng.random_range(200..=FREEZE_MS_MAX);
                if let Some(lead) = self.replicas[at].lead() {
                    lead.freeze_untold(for_ms);
                }
            }
            3 | 4 => {
                let until = now_ms + self.rng.random_range(200..=FREEZE_MS_MAX);
                self.replicas[at].freeze(until);
            }
            _ => {
                let share = self.rng.random_range(0.3..=1.0);
                for host in &mut self.hosts {
                    if self.rng.random_bool(share) {
                        host.cut(at, now_ms + self.rng.random_range(500..=CUT_MS_MAX));
                    }
                }
            }
        }
    }

    fn kill(&mut self, at: usize) {
        let up_at_ms = self.now_ms + self.rng.random_range(50..=8_000);
        self.replicas[at].kill(up_at_ms);
        self.process_ended(at);
    }

    /// Nobody hears from this process any more.
    pub(super) fn process_ended(&mut self, at: usize) {
        self.summary.control_crashes += 1;
        self.leadership_over(at);
        self.closing.retain(|(_, control, _)| *control != at);
        if self.rng.random_bool(0.3) {
            self.scenario.deploy();
        }
    }
}
