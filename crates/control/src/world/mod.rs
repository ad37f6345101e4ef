//! The control plane as one value: every fact it was told and every promise it made.
//!
//! Never does IO, reads a clock or draws unseeded randomness: events come in with their moment, effects go out. The
//! loop of `run` owns the one real world; the simulation owns as many as it likes. An effect that tells a promise comes
//! with the write that stores it: whoever carries the effects out writes first.

mod audit;
mod config;
mod grant;
mod ids;
mod message;
mod notice;
mod refusal;
mod state;

mod drain;
mod hosts;

mod servers;

mod rooms;
mod seats;

mod allocation;
mod endpoint;
mod standing;
mod waiting;

mod assignments;
mod owners;
mod ticket_view;
mod tickets;

mod scaling;
mod selective;

mod decisions;

mod fleets;
mod restore;
mod results;
mod views;

mod news;

mod triggers;

mod slo;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use greenroom_core::{FleetName, HostName, PlayerId, RoomId, ServerName, TicketId, Timestamp};
use greenroom_wire::agent::{FromAgent, ToAgent};
use greenroom_wire::api::{AuditAction, AuditEntry, DrainKind, EventLine};
use greenroom_wire::export::SigningKeys;
use greenroom_wire::record::{AnswerRecord, DrainRecord};

pub(crate) use allocation::checked_selector;
pub use audit::Actor;
pub use config::{Bounds, Results, Timings, WorldConfig};
pub(crate) use drain::words as drain_words;
pub use grant::Grant;
pub(crate) use grant::url;
pub use ids::IdSource;
pub use message::{Answer, Call, Effect, Event, Minimum, Records, RequestId, StreamId, TicketGrant, Write};
pub use news::{NewsConfig, Posted, Subscription};
pub use notice::Notice;
pub use refusal::Refusal;
pub(crate) use results::result_key;
pub(crate) use standing::{Place, Standing};
#[cfg(test)]
pub(crate) use tests::mesh_fleet;
pub use triggers::{FleetGauge, Gauge, GaugeError, TriggerRule};

use state::{
    EndedRoom, FleetState, HostState, LogsWaiting, Outbox, RoomState, RoomsOn, ServerState, TicketState,
};

/// All that the control plane knows. See the module.
#[derive(Debug)]
pub struct World {
    config: WorldConfig,
    ids: IdSource,
    now: Timestamp,
    started_at: Timestamp,
    /// The term that it began with; an agent that knows of a higher one raises it.
    term_begun: u64,
    fleets: BTreeMap<FleetName, FleetState>,
    hosts: BTreeMap<HostName, HostState>,
    streams: BTreeMap<StreamId, HostName>,
    /// What people have taken out of use.
    drains: BTreeMap<(DrainKind, String), DrainRecord>,
    servers: BTreeMap<ServerName, ServerState>,
    /// Endpoint answers that still count as load, oldest first.
    in_flight: VecDeque<(Timestamp, ServerName)>,
    /// Boxed: rooms come and go in the middle of it, and what lies beside them is moved each time.
    rooms: BTreeMap<RoomId, Box<RoomState>>,
    rooms_of: BTreeMap<ServerName, RoomsOn>,
    /// Rooms whose process is gone and that may go on in the next one, and since when.
    orphans: BTreeMap<RoomId, Timestamp>,
    ended: BTreeMap<RoomId, EndedRoom>,
    ended_order: VecDeque<(Timestamp, RoomId)>,
    answers: BTreeMap<String, AnswerRecord>,
    answers_order: VecDeque<(Timestamp, String)>,
    /// Where a waiting allocation or endpoint call stands, for callers that go away.
    waiting: BTreeMap<RequestId, (FleetName, u64)>,
    waiting_next: u64,
    logs: BTreeMap<RequestId, LogsWaiting>,
    /// Where servers ran that are gone, oldest first: their output is still there.
    gone: VecDeque<(ServerName, HostName)>,
    tickets: BTreeMap<TicketId, TicketState>,
    ticket_of: BTreeMap<PlayerId, TicketId>,
    /// Players with a seat in a room that a match made.
    plays: BTreeMap<PlayerId, RoomId>,
    outboxes: BTreeMap<String, Outbox>,
    owners: owners::Owners,
    polls: BTreeMap<RequestId, String>,
    results: BTreeSet<String>,
    events: VecDeque<EventLine>,
    /// Oldest first, as stored.
    audit: VecDeque<AuditEntry>,
    /// Servers that the trail tells to have been told to stop: nothing is given to them any more, whoever leads.
    told_to_stop: BTreeSet<String>,
    news: news::Newsroom,
    triggers: triggers::Triggers,
    slos: slo::Slos,
    /// Fleets in which something may have become possible.
    dirty: BTreeSet<FleetName>,
    out: Vec<Effect>,
}

impl World {
    /// Takes an event in and gives back what must be done, in order. `now` may repeat; a step back is not followed.
    #[must_use]
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        match event {
            Event::Tick => self.tick(),
            Event::StreamOpened { stream, hello } => self.stream_opened(stream, hello),
            Event::StreamSaid { stream, message } => self.stream_said(stream, *message),
            Event::StreamClosed { stream } => self.stream_closed(stream),
            Event::Asked { request, call } => self.asked(request, *call),
            Event::CallerGone { request } => self.caller_gone(request),
            Event::ResultTaken { key } => self.result_taken(key),
            Event::NewsPosted { reader, outcome } => self.news_posted(&reader, outcome),
            Event::Acted { fire, result, detail } => self.acted(&fire, result, &detail),
        }
        self.settle();
        std::mem::take(&mut self.out)
    }

    /// The present term; orders carry it.
    #[must_use]
    pub const fn term(&self) -> u64 {
        self.config.term
    }

    fn tick(&mut self) {
        self.forget_in_flight();
        self.watch_hosts();
        self.lose_orphans();
        self.forget_waiting();
        self.forget_polls();
        self.forget_owners();
        self.forget_logs();
        self.forget_answers();
        self.forget_ended();
        self.plan_fleets();
        self.match_fleets();
        self.watch_triggers();
        self.tell_news();
    }

    /// Lets the calls that wait have what has become possible.
    fn settle(&mut self) {
        while let Some(fleet) = self.dirty.pop_first() {
            self.pump(&fleet);
        }
    }

    fn stream_said(&mut self, stream: StreamId, message: FromAgent) {
        let Some(host) = self.streams.get(&stream).cloned() else { return };
        if let FromAgent::Report(report) = &message
            && !self.is_told(report)
        {
            return;
        }
        self.heard(&host);
        match message {
            FromAgent::Hello(_) => self.close_stream(stream, "hello was said already"),
            FromAgent::Report(report) => self.observe_report(&host, report),
            FromAgent::RoomEnded { server, instance: _, ended } => {
                self.observe_room_ended(stream, &server, ended);
            }
            FromAgent::Refused { server, message } => self.order_refused(&host, &server, &message),
            FromAgent::ReadPeers { fleet } => self.tell_peers(&host, fleet.0),
            FromAgent::Logs { request, outcome } => self.logs_arrived(RequestId(request), outcome),
        }
    }

    fn asked(&mut self, request: RequestId, call: Call) {
        match call {
            Call::Endpoint { fleet, select } => self.ask_endpoint(request, &fleet, select.as_ref()),
            Call::Allocate { fleet, body } => self.ask_allocation(request, &fleet, body),
            Call::FileTickets { fleet, body } => {
                let answer = self.file_tickets(&fleet, body).map(Answer::Tickets);
                self.reply(request, answer);
            }
            Call::Assignments(body) => self.ask_assignments(request, body),
            Call::CancelTicket(ticket) => {
                let answer = self.cancel_ticket(&ticket);
                self.reply(request, answer);
            }
            Call::Finish { room, body, by } => {
                let lives = self.rooms.contains_key(&room);
                let answer = self.finish_room(&room, body).map(Answer::Finished);
                if lives && answer.is_ok() {
                    self.audit(&by, AuditAction::RoomFinished, &room, "its result was told by a call", true);
                }
                self.reply(request, answer);
            }
            Call::Restart { fleet, by } => {
                let answer = self.restart_fleet(&fleet, &by).map(Answer::Restarted);
                self.reply(request, answer);
            }
            Call::Scale { fleet, body, by } => {
                let answer = self.scale(&fleet, &body, &by).map(Answer::Scaled);
                self.reply(request, answer);
            }
            Call::Drain { kind, name, body, by } => {
                let answer = self.drain(kind, &name, body, &by).map(Answer::Drained);
                self.reply(request, answer);
            }
            Call::Export { signing_keys, by } => {
                let reason = match signing_keys {
                    SigningKeys::Included => "with the signing keys",
                    SigningKeys::LeftOut => "without the signing keys",
                };
                self.audit(&by, AuditAction::StateExported, "state", reason, false);
                self.reply(request, Ok(Answer::MayExport));
            }
            Call::TellMetric { name, body } => {
                let answer = self.tell_metric(&name, &body).map(Answer::Metric);
                self.reply(request, answer);
            }
            Call::Logs { server, offset, bytes_max } => self.ask_logs(request, server, offset, bytes_max),
            Call::Fleets
            | Call::Fleet(_)
            | Call::Gameservers(_)
            | Call::Gameserver(_)
            | Call::Rooms { .. }
            | Call::Room(_)
            | Call::Ticket { .. }
            | Call::Hosts
            | Call::Overview
            | Call::Triggers
            | Call::Slos
            | Call::Audit { .. }
            | Call::Decisions { .. }
            | Call::DryRun { .. }
            | Call::Readiness { .. } => {
                let answer = self.view(call);
                self.reply(request, answer);
            }
        }
    }

    fn caller_gone(&mut self, request: RequestId) {
        if let Some((fleet, place)) = self.waiting.remove(&request)
            && let Some(fleet) = self.fleets.get_mut(&fleet)
        {
            fleet.waiting.remove(&place);
        }
        self.logs.remove(&request);
        self.forget_poll(request);
    }

    fn reply(&mut self, request: RequestId, answer: Result<Answer, Refusal>) {
        self.out.push(Effect::Reply { request, answer: Box::new(answer) });
    }

    fn write(&mut self, write: Write) {
        self.out.push(Effect::Write(Box::new(write)));
    }

    /// Sends `message` to the agent of `host`, if its stream is open. Everything that matters is sent again when it
    /// comes back without.
    fn order(&mut self, host: &HostName, message: ToAgent) {
        if let Some(stream) = self.hosts.get(host).and_then(|host| host.stream) {
            self.out.push(Effect::Order { stream, message: Box::new(message) });
        }
    }

    /// Refuses one more waiting call when too many of its kind wait.
    const fn check_waiting(&self, waiting: usize) -> Result<(), Refusal> {
        let max = self.config.bounds.waiting_max;
        if waiting < max { Ok(()) } else { Err(Refusal::TooMany { what: "calls", max }) }
    }
}
