//! The control processes among everything else: agents' streams, calls on their way to whoever leads, and what comes out.
//!
//! Never decides who leads: the processes find out by themselves.

use greenroom_control::world::{Answer, Effect, Event, Refusal, RequestId, StreamId};
use greenroom_wire::agent::{FromAgent, ToAgent};
use rand::RngExt as _;

use super::{At, Cluster, moment};
use crate::invariant::{Broken, grants, start_within_maximum};
use crate::replica::{Said, Told};
use crate::scenario::Plane;

/// How long the store may take before callers may have to wait.
const SLOW_MS: u64 = 200;

impl Cluster {
    /// Whoever leads with the highest term, as far as it believes.
    pub(super) fn leader(&mut self) -> Option<usize> {
        let terms = self.replicas.iter_mut().map(|replica| replica.lead().map(|lead| lead.term()));
        let leading = terms.enumerate().filter_map(|(at, term)| Some((term?, at)));
        leading.max().map(|(_, at)| at)
    }

    /// Whether it makes sense to call: one process alone is down, or up; several may know who leads.
    pub(super) fn takes_calls(&mut self) -> bool {
        self.scenario.plane != Plane::Alone || self.leader().is_some()
    }

    pub(super) fn begin_processes(&mut self) {
        for replica in &mut self.replicas {
            if replica.begin(self.now_ms, self.process_next) {
                self.process_next += 1;
            }
        }
    }

    pub(super) fn notice_closed(&mut self) {
        let now_ms = self.now_ms;
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.closing).into_iter().partition(|(at, ..)| *at <= now_ms);
        self.closing = later;
        for (_, control, stream) in due {
            self.replicas[control].gone(stream);
        }
    }

    pub(super) fn dial_and_hear(&mut self) {
        let now_ms = self.now_ms;
        for host in &mut self.hosts {
            for replica in self.replicas.iter_mut().filter(|replica| replica.is_up()) {
                let control = replica.number;
                match host.passes(control, !replica.is_frozen(now_ms), now_ms, &mut self.rng) {
                    Ok(()) => {}
                    Err(gone) => {
                        let notice = |stream| (now_ms + self.rng.random_range(0..=3_000), control, stream);
                        self.closing.extend(gone.map(notice));
                        continue;
                    }
                }
                if host.dial(control, now_ms, StreamId(self.stream_next), &mut self.rng) {
                    self.stream_next += 1;
                }
                while let Some((stream, message)) = host.heard(control, now_ms) {
                    if let FromAgent::Hello(hello) = message {
                        replica.attend(stream, hello);
                    } else if let Some(lead) = replica.lead() {
                        lead.take(Event::StreamSaid { stream, message: Box::new(message) });
                    }
                }
            }
        }
    }

    pub(super) fn hosts_obey(&mut self) -> Result<(), Broken> {
        let now_ms = self.now_ms;
        for host in &mut self.hosts {
            for control in 0..self.replicas.len() {
                while let Some(message) = host.ordered(control, now_ms) {
                    let mut moment = moment(now_ms, &self.scenario, &mut self.rng, &mut self.summary);
                    match host.obey(control, message, &mut moment) {
                        Ok(None) => {}
                        Ok(Some(hung_up_on)) => self.closing.push((now_ms, control, hung_up_on)),
                        // Nobody who leads now was told of rooms that the store has lost.
                        Err(Broken::BusyStopped { server, .. })
                            if host.servers.get(&server).is_some_and(|server| {
                                self.store.with_lost(|lost| {
                                    let mut rooms = server.all_rooms().peekable();
                                    rooms.peek().is_some() && rooms.all(|room| lost.rooms.contains(room))
                                })
                            }) => {}
                        Err(broken) => return Err(broken),
                    }
                }
                if host.has_ended(control) {
                    host.drop_stream(control, now_ms, &mut self.rng);
                }
            }
        }
        Ok(())
    }

    /// Calls find whoever leads, as far as the process knows that they came to.
    pub(super) fn route(&mut self) {
        let now_ms = self.now_ms;
        let held: Vec<RequestId> = self
            .calls
            .iter()
            .filter_map(|(request, at)| matches!(at, At::Held(_)).then_some(*request))
            .collect();
        for request in held {
            let via = self.rng.random_range(0..self.replicas.len());
            if !self.replicas[via].is_up() || self.replicas[via].is_frozen(now_ms) {
                continue;
            }
            let known = (0..self.replicas.len()).find(|at| self.replicas[via].sees(&self.replicas[*at]));
            // Who froze still takes calls: they wait for it to thaw.
            let Some(lead) = known.and_then(|at| self.replicas[at].lead()) else { continue };
            let asked = known.map(At::Asked);
            if let Some(asked) = asked
                && let Some(At::Held(call)) = self.calls.insert(request, asked)
            {
                lead.take(Event::Asked { request, call });
            }
        }
        self.notice_trouble();
    }

    fn notice_trouble(&mut self) {
        let now_ms = self.now_ms;
        let mut leading = self.replicas.iter_mut().filter_map(|replica| {
            let is_frozen = replica.is_frozen(now_ms);
            replica.lead().map(|lead| !is_frozen && lead.waits_ms(now_ms) < SLOW_MS)
        });
        let is_led = leading.next() == Some(true) && leading.next().is_none();
        let is_held = self.calls.values().any(|at| matches!(at, At::Held(_)));
        if !is_led || is_held || !self.store.is_well() {
            self.troubled_ms = now_ms;
        }
    }

    /// Lets every process do what it can.
    pub(super) fn decide(&mut self) -> Result<(), Broken> {
        let now = self.now();
        for at in 0..self.replicas.len() {
            let said = self.replicas[at].step(&self.scenario, now, &mut self.rng)?;
            for one in said {
                match one {
                    Said::Leads => {
                        self.summary.leaders += 1;
                        // Tickets wait with whoever leads: they are filed again.
                        self.lobby_gives_up();
                    }
                    Said::Handled { events } => self.summary.events += events,
                    Said::Told(told) => self.carry_out(at, *told)?,
                    Said::Over => self.leadership_over(at),
                    Said::Freezes { for_ms } => self.replicas[at].freeze(self.now_ms + for_ms),
                    Said::Ended => {
                        let back_at_ms = self.now_ms + self.rng.random_range(50..=8_000);
                        self.replicas[at].back_at(back_at_ms);
                        self.summary.store_faults += u64::from(self.scenario.plane == Plane::Alone);
                        self.process_ended(at);
                    }
                }
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, at: usize, Told { effect, fleet }: Told) -> Result<(), Broken> {
        let now_ms = self.now_ms;
        // What one leader has told to stop no later one gives out; one that has not heard yet that the store lost it tells it again.
        let is_lost = matches!(&effect, Effect::Order { message, .. }
            if matches!(&**message, ToAgent::Stop { server, .. } if !self.store.holds_stop(&server.0)));
        if !is_lost {
            self.laws.told(now_ms, &effect)?;
        }
        if let Effect::Reply { answer, .. } = &effect {
            self.is_in_use(answer)?;
        }
        match effect {
            Effect::Write(_) | Effect::Post { .. } | Effect::Act(_) | Effect::Note(_) => {}
            Effect::Order { stream, message } => {
                if let ToAgent::Stop { reason, .. } = &*message {
                    self.summary.servers_stopped += 1;
                    self.summary.servers_recycled += u64::from(reason.starts_with("worn out"));
                }
                if let (ToAgent::Start { order, .. }, Some(fleet)) = (&*message, fleet) {
                    let known = self.hosts.iter().any(|host| host.servers.contains_key(&order.server.0));
                    if !known {
                        start_within_maximum(&fleet)?;
                    }
                }
                for host in &mut self.hosts {
                    host.send(stream, now_ms, &message, &mut self.rng);
                }
            }
            Effect::CloseStream { stream, reason: _ } => {
                for host in &mut self.hosts {
                    host.hung_up(stream, now_ms, &mut self.rng);
                }
                self.closing.push((now_ms, at, stream));
            }
            Effect::Reply { request, answer } => self.answered(request, *answer)?,
            Effect::Deliver(record) => {
                let due_ms = now_ms + self.rng.random_range(10..=5_000);
                self.posting.push((due_ms, at, (record.body.room.0.clone(), record.body.epoch)));
            }
        }
        Ok(())
    }

    fn answered(&mut self, request: RequestId, answer: Result<Answer, Refusal>) -> Result<(), Broken> {
        if self.calls.remove(&request).is_none() {
            if self.given_up.contains(&request) {
                return Ok(());
            }
            return Err(Broken::AnsweredTwice { request: request.0 });
        }
        self.is_stored(&answer)?;
        if let Some(about) = self.orders.remove(&request) {
            self.ordered(about, &answer);
            return Ok(());
        }
        let (store, now_ms) = (self.store.clone(), self.now_ms);
        store.with_lost(|lost| {
            let Some(assigned) = self.lobby.answered(request, &answer, &lost.answers) else {
                let (rng, summary) = (&mut self.rng, &mut self.summary);
                return self.callers.answered(now_ms, request, answer, (&lost.answers, rng), summary);
            };
            for ticket in assigned? {
                self.summary.matched += 1;
                self.callers.seated(now_ms, &ticket.grant, &mut self.rng);
            }
            Ok(())
        })
    }

    /// No new room is made on a host that is drained.
    fn is_in_use(&self, answer: &Result<Answer, Refusal>) -> Result<(), Broken> {
        for record in grants(answer).map(|grant| &grant.record).filter(|record| record.created) {
            let host = self.hosts.iter().find(|host| host.servers.contains_key(&record.server.0));
            if let Some(host) = host {
                self.laws.placed(&host.name, &record.server.0, record.answered_at_ms)?;
            }
        }
        Ok(())
    }

    /// Whatever room is told of was stored.
    fn is_stored(&self, answer: &Result<Answer, Refusal>) -> Result<(), Broken> {
        match grants(answer).find(|grant| !self.store.has_held(&grant.record.room)) {
            None => Ok(()),
            Some(grant) => Err(Broken::ToldUnstored { room: grant.record.room.0.clone() }),
        }
    }

    /// This process does not lead any more: its agents and callers are hung up on.
    pub(super) fn leadership_over(&mut self, at: usize) {
        for host in &mut self.hosts {
            host.hung_up_by(at);
        }
        self.posting.retain(|(_, by, _)| *by != at);
        let asked = self.calls.iter().filter(|(_, to)| matches!(to, At::Asked(to) if *to == at));
        let asked: Vec<RequestId> = asked.map(|(request, _)| *request).collect();
        if asked.iter().any(|request| self.lobby.has_asked(*request)) {
            self.lobby_gives_up();
        }
        for request in asked {
            self.give_up(request);
        }
    }

    fn lobby_gives_up(&mut self) {
        for request in self.lobby.open_calls() {
            self.give_up(request);
        }
        self.lobby.hang_up();
    }

    /// A caller goes away.
    fn give_up(&mut self, request: RequestId) {
        let Some(at) = self.calls.remove(&request) else { return };
        self.given_up.insert(request);
        self.orders.remove(&request);
        self.callers.hang_up(self.now_ms, request, &mut self.rng);
        if let At::Asked(at) = at
            && let Some(lead) = self.replicas[at].lead()
        {
            lead.take(Event::CallerGone { request });
        }
    }

    pub(super) fn give_up_overdue(&mut self) -> Result<(), Broken> {
        for request in self.callers.overdue(self.now_ms, self.troubled_ms)? {
            self.give_up(request);
        }
        if self.lobby.is_overdue(self.now_ms, self.troubled_ms)? {
            self.lobby_gives_up();
        }
        Ok(())
    }

    pub(super) fn post_results(&mut self) {
        let now_ms = self.now_ms;
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.posting).into_iter().partition(|(at, ..)| *at <= now_ms);
        self.posting = later;
        for (_, by, (room, epoch)) in due {
            if let Some(lead) = self.replicas[by].lead() {
                self.summary.results += 1;
                lead.take(Event::ResultTaken { key: format!("{room}.{epoch}") });
                self.delivered.insert((room, epoch));
            }
        }
    }
}
