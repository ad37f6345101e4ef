//! Calls that wait for a server, in the order they came, until their deadline.
//!
//! Never lets a later call that needs a new room pass an earlier one.

use std::time::Duration;

use greenroom_core::FleetName;
use greenroom_core::allocate::{Selector, no_room, no_server};

use super::state::{Ask, Waiting};
use super::{Answer, Refusal, RequestId, World};

impl World {
    /// Answers at once if something is free, else when it becomes free, else with a refusal after `wait`.
    pub(super) fn wait_for_server(
        &mut self,
        request: RequestId,
        fleet: &FleetName,
        ask: Ask,
        wait: Duration,
    ) {
        let is_first = self.fleets.get(fleet).is_some_and(|state| state.waiting.is_empty());
        if is_first {
            // Nobody is before it: most calls never wait.
            if let Some(answer) = self.attempt(fleet, &ask, self.is_rebuilding(), &mut Vec::new()) {
                return self.reply_placed(request, answer, Duration::ZERO);
            }
            if wait.is_zero() {
                let refusal = self.why_nothing(fleet, ask.selector());
                self.count_miss(fleet);
                return self.reply(request, Err(refusal));
            }
        }
        if let Err(refusal) = self.check_waiting(self.waiting.len()) {
            return self.reply(request, Err(refusal));
        }
        let deadline = self.now + wait;
        let place = self.waiting_next;
        self.waiting_next += 1;
        let Some(state) = self.fleets.get_mut(fleet) else { return };
        state.waiting.insert(place, Waiting { request, asked_at: self.now, deadline, ask });
        self.waiting.insert(request, (fleet.clone(), place));
        if !is_first {
            self.pump(fleet);
        }
        if wait.is_zero() {
            self.refuse_overdue(fleet);
        }
    }

    /// Gives the waiting calls of a fleet what there is.
    pub(super) fn pump(&mut self, name: &FleetName) {
        let rebuilding = self.is_rebuilding();
        let Some(fleet) = self.fleets.get_mut(name) else { return };
        if fleet.waiting.is_empty() {
            return;
        }
        let mut kept = std::mem::take(&mut fleet.waiting);
        let mut nothing_free = rebuilding;
        let mut unfilled = Vec::new();
        kept.retain(|_, waiting| {
            let answer = match self.attempt(name, &waiting.ask, nothing_free, &mut unfilled) {
                Some(answer) => answer,
                None => {
                    // A call that takes only some servers must not hold those back that take any.
                    nothing_free |= waiting.ask.selector().is_any();
                    return true;
                }
            };
            self.waiting.remove(&waiting.request);
            let waited = self.now.since(waiting.asked_at);
            self.reply_placed(waiting.request, answer, waited);
            false
        });
        if let Some(fleet) = self.fleets.get_mut(name) {
            fleet.waiting = kept;
        }
    }

    fn reply_placed(&mut self, request: RequestId, answer: Result<Answer, Refusal>, waited: Duration) {
        if answer.is_ok() {
            self.slos.placed(waited);
        }
        self.reply(request, answer);
    }

    fn attempt(
        &mut self,
        fleet: &FleetName,
        ask: &Ask,
        nothing_free: bool,
        unfilled: &mut Vec<(Selector, usize)>,
    ) -> Option<Result<Answer, Refusal>> {
        match ask {
            Ask::Endpoint(_) if nothing_free => None,
            Ask::Endpoint(selector) => {
                self.endpoint(fleet, selector).map(|answer| Ok(Answer::Endpoint(answer)))
            }
            Ask::Room(ask) => {
                let made = match self.settled(fleet, ask, unfilled) {
                    None if nothing_free => None,
                    None => self.make_asked(fleet, ask),
                    settled => settled,
                };
                if made.is_some() {
                    // There may be another open room now.
                    unfilled.clear();
                }
                made.map(|grant| grant.map(|grant| Answer::Allocated(Box::new(grant))))
            }
        }
    }

    pub(super) fn forget_waiting(&mut self) {
        let names: Vec<FleetName> = self
            .fleets
            .iter()
            .filter(|(_, fleet)| !fleet.waiting.is_empty())
            .map(|(n, _)| n.clone())
            .collect();
        for name in names {
            self.refuse_overdue(&name);
        }
    }

    fn refuse_overdue(&mut self, name: &FleetName) {
        let now = self.now;
        let Some(fleet) = self.fleets.get(name) else { return };
        let over: Vec<(u64, RequestId, Selector)> = fleet
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.deadline <= now)
            .map(|(place, waiting)| (*place, waiting.request, waiting.ask.selector().clone()))
            .collect();
        for (place, request, selector) in over {
            let refusal = self.why_nothing(name, &selector);
            if let Some(fleet) = self.fleets.get_mut(name) {
                fleet.waiting.remove(&place);
                fleet.misses += 1;
            }
            self.slos.not_placed();
            self.waiting.remove(&request);
            self.reply(request, Err(refusal));
        }
    }

    fn count_miss(&mut self, name: &FleetName) {
        self.slos.not_placed();
        if let Some(fleet) = self.fleets.get_mut(name) {
            fleet.misses += 1;
        }
    }

    fn why_nothing(&self, name: &FleetName, selector: &Selector) -> Refusal {
        let hosts = self.awaited_hosts();
        if !hosts.is_empty() {
            return Refusal::Rebuilding { hosts: hosts.join(", ") };
        }
        let fleet = match self.fleet(name) {
            Ok(fleet) => fleet,
            Err(refusal) => return refusal,
        };
        if fleet.is_mesh() {
            no_server(&fleet.spec, &fleet.view, selector).into()
        } else {
            no_room(&fleet.spec, &fleet.view, selector).into()
        }
    }
}
