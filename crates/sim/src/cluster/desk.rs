//! The person at the desk: orders servers, freezes fleets, takes hosts out of use, and takes all of it back when the trouble is
//! over.
//!
//! Never looks at what the control plane decides.

use greenroom_control::world::{Actor, Answer, Call, Refusal};
use greenroom_core::HostName;
use greenroom_wire::api::{DrainKind, DrainRequest, FreezeWord, ScaleRequest};
use rand::RngExt as _;

use super::Cluster;
use crate::scenario::happens;

impl Cluster {
    pub(super) fn order(&mut self, trouble: bool) {
        if !self.takes_calls() {
            return;
        }
        if trouble && happens(&mut self.rng, self.scenario.step_ms, self.scenario.order_ms) {
            self.order_servers();
        }
        if trouble && happens(&mut self.rng, self.scenario.step_ms, self.scenario.order_ms) {
            let host = self.hosts[self.rng.random_range(0..self.hosts.len())].name.clone();
            let undo = self.rng.random_bool(0.5);
            // So that the answers tell in which order they were carried out.
            if !self.orders.values().any(|about| about.as_ref() == Some(&host)) {
                self.ask_drain(host, undo);
            }
        }
        // One after the other, each until somebody has said that it is done.
        if !trouble && self.orders.is_empty() && self.untidied != Some(0) {
            let (fleets, hosts) = (self.scenario.fleets.len(), self.hosts.len());
            let at = self.untidied.unwrap_or(fleets + hosts) - 1;
            self.untidied = Some(at + 1);
            match at.checked_sub(fleets) {
                Some(host) => self.ask_drain(self.hosts[host].name.clone(), true),
                None => {
                    let freeze = Some(FreezeWord::Nothing);
                    self.ask_scale(at, ScaleRequest { replicas: Some(0), freeze, ..ScaleRequest::default() });
                }
            }
        }
    }

    fn order_servers(&mut self) {
        let at = self.rng.random_range(0..self.scenario.fleets.len());
        let most = self.scenario.fleets[at].replicas_max;
        let freezes = [FreezeWord::Nothing, FreezeWord::ScaleIn, FreezeWord::Everything];
        let freeze = freezes[self.rng.random_range(0..freezes.len())];
        let ready_at_ms = self.now_ms + self.rng.random_range(0..=20_000);
        let until_ms = ready_at_ms + self.rng.random_range(1_000..=30_000);
        let body = ScaleRequest {
            replicas: Some(self.rng.random_range(0..=most)),
            ready_at_ms: Some(ready_at_ms),
            until_ms: Some(until_ms),
            freeze: self.rng.random_bool(0.5).then_some(freeze),
        };
        self.ask_scale(at, body);
    }

    fn ask_scale(&mut self, fleet: usize, body: ScaleRequest) {
        let fleet = self.scenario.fleets[fleet].name.clone();
        self.ask_order(None, Call::Scale { fleet, body, by: Actor::Anonymous });
    }

    fn ask_drain(&mut self, host: HostName, undo: bool) {
        if undo {
            // From here on it may be given out again, whenever that is told.
            self.laws.undrained(&host);
        }
        let (kind, name, by) = (DrainKind::Host, host.to_string(), Actor::Anonymous);
        let body = DrainRequest { reason: String::new(), undo };
        self.ask_order(Some(host), Call::Drain { kind, name, body, by });
    }

    fn ask_order(&mut self, about: Option<HostName>, call: Call) {
        let request = self.new_request();
        self.orders.insert(request, about);
        self.summary.orders += 1;
        self.ask(request, call);
    }

    /// An order was answered.
    pub(super) fn ordered(&mut self, about: Option<HostName>, answer: &Result<Answer, Refusal>) {
        if let (Some(host), Ok(Answer::Drained(status))) = (about, answer)
            && status.drained
            // A leader that has not heard yet that the store lost it says that it stands.
            && self.store.holds_drain(&host)
        {
            self.laws.drained(host, self.now_ms);
        }
        // A host that is lost and was not drained is nothing to give back.
        let is_done = matches!(answer, Ok(_) | Err(Refusal::NothingToDrain { .. }));
        if let Some(at) = self.untidied.as_mut().filter(|_| is_done) {
            *at -= 1;
        }
    }
}
