//! Gameservers: what the agents report of them becomes what the decisions see.
//!
//! Never asks for a start or a stop by itself: that is `fleets`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use greenroom_core::fleet::{Full, FullAt, StopReason};
use greenroom_core::gameserver::{GameServer, State};
use greenroom_core::{FleetName, HostName, RoomId, ServerName, Timestamp};
use greenroom_wire::Text;
use greenroom_wire::agent::{ProcessPhase, Report, STOPPED, ServerReport, ToAgent};
use greenroom_wire::api::{AuditAction, LogsAnswer};
use greenroom_wire::rooms::EndReason;

use super::state::{LogsWaiting, ServerState};
use super::{Actor, Answer, Notice, Refusal, RequestId, World};

/// Most gameservers of a fleet that its members are told of.
const PEERS_MAX: usize = 10_000;
/// How an agent begins to tell the end of a process when the next one runs already.
const PROCESS_BEFORE: &str = "the process before this one: ";

impl World {
    pub(super) fn observe_report(&mut self, host: &HostName, report: Report) {
        let made_at = report.at_ms.map_or(self.now, |at_ms| Timestamp::from_unix_ms(at_ms).min(self.now));
        let mut reported = BTreeSet::new();
        for server in report.servers {
            let name = server.server.0.clone();
            if self.servers.get(&name).is_some_and(|known| known.host != *host) {
                self.note(Notice::ServerElsewhere { server: name, host: host.clone() });
                continue;
            }
            reported.insert(name);
            self.observe_server(host, server, made_at);
        }
        let known = self.hosts.get(host).map(|host| host.servers.clone()).unwrap_or_default();
        for name in known.difference(&reported) {
            self.observe_missing(host, name);
        }
        if let Some(host) = self.hosts.get_mut(host) {
            host.trouble = report.trouble;
        }
        self.host_reported(host);
    }

    fn observe_server(&mut self, host: &HostName, report: ServerReport, made_at: Timestamp) {
        let name = report.server.0.clone();
        if report.phase == ProcessPhase::Ended {
            self.observe_given_up(&report);
            self.forget_server(&name, EndReason::ServerLost, &report.message);
            return;
        }
        let before = self.servers.get(&name).map(|server| (server.phase, server.restarts, server.stop));
        let occupied = self.is_occupied(&name);
        let died = report.phase == ProcessPhase::Restarting;
        self.put_server(host, &report);
        if report.phase == ProcessPhase::Ready {
            self.count_start(&name);
        }
        self.lose_rooms(&name, |instance| died || *instance != report.instance.0);
        self.observe_rooms(&name, report.rooms, made_at);
        self.refresh(&name);
        self.note_phase(&name, before.map(|(phase, restarts, _)| (phase, restarts)), occupied);
        if let Some(reason) = before.and_then(|(_, _, stop)| stop)
            && report.phase != ProcessPhase::Stopping
            && !self.is_occupied(&name)
            && self.is_stop_due(&name)
        {
            // Its order was lost, or refused. Somebody who came before the agent heard of it stays; nobody new is sent there.
            self.order_stop(&name, reason);
        }
    }

    fn is_stop_due(&self, name: &ServerName) -> bool {
        let sent_at = self.servers.get(name).and_then(|server| server.stop_sent_at);
        sent_at.is_none_or(|at| self.now.since(at) >= self.config.timings.order_repeat)
    }

    /// Whether its agent gave it up, rather than that somebody wanted it to stop.
    fn observe_given_up(&mut self, report: &ServerReport) {
        let Some(known) = self.servers.get(&report.server.0) else { return };
        let was_stopped = report.message.starts_with(STOPPED);
        if known.stop.is_some() || known.phase == ProcessPhase::Stopping || was_stopped {
            return;
        }
        let fleet = known.fleet.clone();
        self.note_failure(&report.server.0, &fleet, &report.message);
        self.back_off(&fleet);
    }

    fn put_server(&mut self, host: &HostName, report: &ServerReport) {
        let name = &report.server.0;
        let old = self.servers.get(name);
        let started_at = Timestamp::from_unix_ms(report.started_at_ms);
        let same = |old: &&ServerState| old.instance == report.instance.0;
        let process_at = match old {
            None => started_at,
            Some(old) if same(&old) => old.process_at,
            Some(_) => self.now,
        };
        // A new process is a fresh one.
        let stays =
            |reason: &StopReason| !matches!(reason, StopReason::Worn(_)) || old.is_some_and(|old| same(&old));
        let server = ServerState {
            fleet: report.fleet.0.clone(),
            host: host.clone(),
            instance: report.instance.0.clone(),
            revision: report.revision.0.clone(),
            phase: report.phase,
            ordered_at: None,
            asked_at: old.and_then(|old| old.asked_at),
            cordoned: old.and_then(|old| old.cordoned).filter(stays),
            stop: match old {
                Some(old) => old.stop,
                // A stop that was stored is carried out by whoever leads next.
                None => self.told_to_stop.contains(name.as_str()).then_some(StopReason::ToldBefore),
            },
            stop_sent_at: old.and_then(|old| old.stop_sent_at),
            written_off: false,
            endpoint: report.endpoint.as_str().into(),
            // An agent that was started anew has not asked the port yet; the process speaks as it did.
            tls: report.tls || old.is_some_and(|old| old.tls && old.instance == report.instance.0),
            pid: report.pid,
            restarts: report.restarts,
            started_at,
            process_at,
            connections: report.connections,
            held: report.held,
            in_flight: old.map_or(0, |old| old.in_flight),
            linked: report.linked,
            // An agent that was started anew while there is no process cannot know it.
            keeps_rooms: report.keeps_rooms || (!report.linked && old.is_some_and(|old| old.keeps_rooms)),
            measured: report.measured,
            labels: report.labels.clone(),
            message: report.message.clone(),
        };
        if old.is_none()
            && let Some(host) = self.hosts.get_mut(host)
        {
            host.servers.insert(name.clone());
        }
        self.servers.insert(name.clone(), server);
    }

    fn note_phase(&mut self, name: &ServerName, before: Option<(ProcessPhase, u32)>, occupied: bool) {
        let Some(server) = self.servers.get(name) else { return };
        let (phase, restarts, message) = (server.phase, server.restarts, server.message.clone());
        let Some((was, restarts_before)) = before else {
            let host = server.host.clone();
            self.note(Notice::ServerAdopted { server: name.clone(), host });
            return;
        };
        if restarts > restarts_before || (phase == ProcessPhase::Restarting && was != phase) {
            let fleet = server.fleet.clone();
            // One that was told to restart has nothing to say of its end.
            let how = match phase {
                ProcessPhase::Restarting => message.as_str(),
                ProcessPhase::Starting
                | ProcessPhase::Ready
                | ProcessPhase::Unhealthy
                | ProcessPhase::Stopping
                | ProcessPhase::Ended => message.strip_prefix(PROCESS_BEFORE).unwrap_or_default(),
            };
            if !how.is_empty() {
                self.audit(&Actor::Process, AuditAction::ServerDied, name, how, occupied);
                self.note_failure(name, &fleet, how);
            }
            let message = how.to_owned();
            self.note(Notice::ServerRestarting { server: name.clone(), restarts, message });
        } else if phase == ProcessPhase::Ready && was != phase {
            let endpoint = server.endpoint.to_string();
            self.note(Notice::ServerReady { server: name.clone(), endpoint });
        } else if phase == ProcessPhase::Unhealthy && was != phase {
            self.note(Notice::ServerUnhealthy { server: name.clone(), message });
        }
    }

    /// A server of this host that its report leaves out: not started yet, or gone.
    fn observe_missing(&mut self, host: &HostName, name: &ServerName) {
        let ordered_at = self.servers.get(name).and_then(|server| server.ordered_at);
        match ordered_at {
            Some(at) if self.now.since(at) < self.config.timings.order_repeat => {}
            Some(_) => self.order_start_again(host, name),
            None => self.forget_server(name, EndReason::ServerLost, "its agent no longer knows it"),
        }
    }

    /// Ends what was promised on a server and forgets it.
    pub(super) fn forget_server(&mut self, name: &ServerName, reason: EndReason, message: &str) {
        let occupied = self.is_occupied(name);
        for room in self.rooms_on(name) {
            self.end_room(&room, reason, serde_json::Value::Null);
        }
        let Some(server) = self.servers.remove(name) else {
            self.hosts.values_mut().for_each(|host| {
                host.servers.remove(name);
            });
            return;
        };
        if let Some(host) = self.hosts.get_mut(&server.host) {
            host.servers.remove(name);
        }
        self.mark_occupied(&server.host, name, false);
        if let Some(fleet) = self.fleets.get_mut(&server.fleet)
            && let Ok(place) = fleet.view.binary_search_by(|seen| seen.name.cmp(name))
        {
            let seen = fleet.view.remove(place);
            fleet.candidates.update(&fleet.spec, Some(&seen), None);
        }
        if server.stop.is_some() && reason == EndReason::ServerLost {
            self.slos.stopped(occupied);
        }
        // A stop was told when it was ordered, and what never ran has not stopped.
        if server.stop.is_none() && server.ordered_at.is_none() {
            self.audit(&Actor::Agent, AuditAction::ServerGone, name, message, occupied);
        }
        if self.gone.len() >= self.config.bounds.gone_max {
            self.gone.pop_front();
        }
        self.gone.push_back((name.clone(), server.host));
        self.note(Notice::ServerGone { server: name.clone(), message: message.to_owned() });
    }

    /// Rooms promised or live on a server.
    pub(super) fn rooms_on(&self, name: &ServerName) -> Vec<RoomId> {
        self.rooms_of.get(name).map(|on| on.ids.iter().cloned().collect()).unwrap_or_default()
    }

    /// Brings the decisions' view of a server up to date. To be called after every change of what it shows.
    pub(super) fn refresh(&mut self, name: &ServerName) {
        let Some(server) = self.servers.get(name) else { return };
        let (state, cordoned) = (self.state_of(name, server), self.cordon_of(server));
        let rooms = self.rooms_of.get(name).map_or(0, |on| on.ids.len());
        let (now, labels) = (self.now, self.labels_of(server));
        // Answers that a process before this one gave out may still bring somebody: doubt counts as busy.
        let doubtful = now < self.started_at + self.config.timings.endpoint_answer;
        let Some(fleet) = self.fleets.get_mut(&server.fleet) else { return };
        let place = fleet.view.binary_search_by(|seen| seen.name.cmp(name));
        let old = place.ok().map(|place| &fleet.view[place]);
        let mut seen = GameServer {
            name: name.clone(),
            fleet: server.fleet.clone(),
            host: server.host.clone(),
            labels,
            instance: server.instance.clone(),
            revision: server.revision.clone(),
            state,
            rooms: u16::try_from(rooms).unwrap_or(u16::MAX),
            connections: server.connections,
            in_flight: server.in_flight,
            held: server.held,
            full: full(&fleet.spec.full_at, server, old),
            started_at: server.started_at,
            cordoned,
            worn: fleet.spec.recycle.worn(&server.wear(now)),
            idle_since: None,
            starting_since: (state == State::Starting)
                .then(|| old.and_then(|old| old.starting_since).unwrap_or(now)),
        };
        if !(seen.is_busy() || (doubtful && fleet.is_mesh())) {
            let anew = matches!(state, State::Unhealthy | State::Draining);
            let turned = anew && old.is_some_and(|old| old.state != state);
            let since = old.and_then(|old| old.idle_since).filter(|_| !turned);
            seen.idle_since = Some(since.unwrap_or(now));
        }
        fleet.candidates.update(&fleet.spec, old, Some(&seen));
        let (host, occupied) = (server.host.clone(), !seen.is_idle());
        let waited_for = !fleet.waiting.is_empty() && state.takes_players();
        match place {
            Ok(place) => fleet.view[place] = seen,
            Err(place) => fleet.view.insert(place, seen),
        }
        if waited_for {
            self.dirty.insert(server.fleet.clone());
        }
        self.mark_occupied(&host, name, occupied);
    }

    /// The labels of a server's host, and its own; the host's come first, for they say what its keepers know.
    fn labels_of(&self, server: &ServerState) -> Arc<BTreeMap<String, String>> {
        let host = self.hosts.get(&server.host).map(|host| host.labels.clone()).unwrap_or_default();
        if server.labels.is_empty() {
            return host;
        }
        let mut labels = server.labels.clone();
        labels.extend(host.iter().map(|(name, value)| (name.clone(), value.clone())));
        Arc::new(labels)
    }

    pub(super) fn state_of(&self, name: &ServerName, server: &ServerState) -> State {
        if server.stop.is_some() || server.written_off {
            return State::Stopped;
        }
        let silent = !self.is_trusted(&server.host);
        match server.phase {
            ProcessPhase::Stopping | ProcessPhase::Ended => State::Stopped,
            ProcessPhase::Starting
            | ProcessPhase::Restarting
            | ProcessPhase::Ready
            | ProcessPhase::Unhealthy
                if silent =>
            {
                State::Unhealthy
            }
            ProcessPhase::Starting | ProcessPhase::Restarting => State::Starting,
            ProcessPhase::Unhealthy => State::Unhealthy,
            ProcessPhase::Ready if self.cordon_of(server).is_some() => State::Draining,
            ProcessPhase::Ready => self.occupancy(name, server),
        }
    }

    fn occupancy(&self, name: &ServerName, server: &ServerState) -> State {
        match self.rooms_of.get(name) {
            _ if server.held || server.connections > 0 => State::Allocated,
            Some(on) if on.live > 0 => State::Allocated,
            Some(_) => State::Reserved,
            None => State::Ready,
        }
    }

    /// Tells an agent who is in a fleet. Not before all are known: who is not known yet would seem to have left.
    pub(super) fn tell_peers(&mut self, host: &HostName, fleet: FleetName) {
        if !self.awaited_hosts().is_empty() {
            return;
        }
        let found = self.fleet(&fleet).map(|_| self.gameservers(Some(&fleet), PEERS_MAX));
        let outcome = found.map_err(|refusal| refusal.to_string());
        self.order(host, ToAgent::Peers { fleet: Text(fleet), outcome });
    }

    pub(super) fn ask_logs(
        &mut self,
        request: RequestId,
        server: ServerName,
        offset: Option<u64>,
        bytes_max: Option<u32>,
    ) {
        let checked = self.check_logs(&server, bytes_max);
        let host = match checked {
            Ok(host) => host,
            Err(refusal) => return self.reply(request, Err(refusal)),
        };
        let bytes_max = bytes_max.unwrap_or(65_536);
        self.order(
            &host,
            ToAgent::ReadLogs { request: request.0, server: Text(server.clone()), offset, bytes_max },
        );
        let deadline = self.now + self.config.timings.logs_wait;
        self.logs.insert(request, LogsWaiting { server, host, deadline });
    }

    fn check_logs(&self, server: &ServerName, bytes_max: Option<u32>) -> Result<HostName, Refusal> {
        if bytes_max.is_some_and(|bytes| bytes == 0 || bytes > 262_144) {
            return Err(Refusal::Malformed("bytes_max must be 1 to 262144".to_owned()));
        }
        self.check_waiting(self.logs.len())?;
        let live = self.servers.get(server).map(|server| &server.host);
        let gone = || self.gone.iter().rev().find(|(name, _)| name == server).map(|(_, host)| host);
        let name = live.or_else(gone).ok_or_else(|| Refusal::ServerNotFound(server.clone()))?;
        let host = self.hosts.get(name);
        match host {
            Some(host) if host.stream.is_some() => Ok(name.clone()),
            Some(_) | None => Err(self.host_suspect(name)),
        }
    }

    pub(super) fn host_suspect(&self, name: &HostName) -> Refusal {
        let heard_at = self.hosts.get(name).map_or(self.started_at, |host| host.heard_at);
        Refusal::HostSuspect { host: name.clone(), silent: self.now.since(heard_at) }
    }

    pub(super) fn logs_arrived(&mut self, request: RequestId, outcome: Result<LogsAnswer, String>) {
        let Some(waiting) = self.logs.remove(&request) else { return };
        let answer =
            outcome.map(Answer::Logs).map_err(|message| Refusal::Agent { server: waiting.server, message });
        self.reply(request, answer);
    }

    pub(super) fn forget_logs(&mut self) {
        let now = self.now;
        let over: Vec<RequestId> =
            self.logs.iter().filter(|(_, logs)| logs.deadline <= now).map(|(id, _)| *id).collect();
        for request in over {
            if let Some(waiting) = self.logs.remove(&request) {
                let refusal = self.host_suspect(&waiting.host);
                self.reply(request, Err(refusal));
            }
        }
    }
}

/// Which cap a server has reached. A process after it is judged anew.
fn full(caps: &FullAt, server: &ServerState, old: Option<&GameServer>) -> Option<Full> {
    if *caps == FullAt::default() {
        return None;
    }
    let before = old.filter(|old| old.instance == server.instance).and_then(|old| old.full);
    let connections = server.connections.saturating_add(server.in_flight);
    caps.full(&server.measured.strain(connections), before)
}
