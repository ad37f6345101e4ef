//! Fleets: carrying out what `core::fleet::plan` decides, and sending again what has no effect.
//!
//! Never decides how many: it names, places and orders.

use std::collections::BTreeMap;

use greenroom_core::fleet::{
    self, Action, Backoff, Fleet, HostLoads, Limits, Reason, SecretSource, StopReason,
};
use greenroom_core::placement::{self, Host, NoPlace, Placed, Spread};
use greenroom_core::{FleetName, HostName, ServerName};
use greenroom_wire::Text;
use greenroom_wire::agent::{ProcessPhase, StartOrder, ToAgent};
use greenroom_wire::api::{AuditAction, RestartAnswer};
use greenroom_wire::revision::sizes;
use greenroom_wire::rooms::EndReason;
use greenroom_wire::secret::SecretRef;
use smol_str::SmolStr;

use super::state::{Failure, HostState, ServerState};
use super::{Actor, Notice, Refusal, World};

impl World {
    pub(super) fn plan_fleets(&mut self) {
        if self.is_rebuilding() {
            return;
        }
        let names: Vec<FleetName> = self.fleets.keys().cloned().collect();
        let hosts = self.host_loads();
        for name in names {
            self.plan_fleet(&name, &hosts);
        }
    }

    fn plan_fleet(&mut self, name: &FleetName, hosts: &HostLoads) {
        let Some(wanted) = self.decide_fleet(name) else { return };
        let limits = Limits { actions_max: self.config.bounds.actions_max };
        let now = self.now;
        let Some(state) = self.fleets.get_mut(name) else { return };
        let plan = fleet::plan(&state.spec, &state.view, wanted, hosts, limits, now);
        state.replicas_wanted = plan.replicas_wanted;
        let at_maximum = |reasons: &[Reason]| {
            reasons.iter().find(|reason| matches!(reason, Reason::AtMaximum { .. })).map(words)
        };
        let newly_short = at_maximum(&plan.waiting_on).filter(|_| at_maximum(&state.waiting_on).is_none());
        state.waiting_on = plan.waiting_on;
        state.unplaced = None;
        if let Some(reason) = newly_short {
            self.note(Notice::FleetShort { fleet: name.clone(), reason });
        }
        for action in &plan.actions {
            if let Action::Stop { server, reason: StopReason::NeverReady } = action {
                self.give_up(server);
            }
        }
        for action in plan.actions {
            match action {
                Action::Start => self.start_server(name),
                Action::Cordon { server, reason } => self.cordon(&server, reason),
                Action::Uncordon { server } => self.uncordon(&server),
                Action::Stop { server, reason } => self.stop_server(&server, reason),
            }
        }
    }

    fn start_server(&mut self, name: &FleetName) {
        let Some(spec) = self.fleets.get(name).map(|fleet| &fleet.spec) else { return };
        let (spread, agones) = (spec.spread, spec.template.agones);
        let hosts = self.places(name, spread, agones);
        let helpful = self.place_for_selective(name, &hosts, spread);
        let has_agones = !agones || self.hosts.values().any(|host| host.connected && host.agones);
        let now = self.now;
        let Some(state) = self.fleets.get_mut(name) else { return };
        if state.starts_after > now || state.backoff.waits(now) {
            return;
        }
        let spec = state.spec.clone();
        // Where no call could use it better, somebody else may wait.
        let Placed { host, why } = match helpful.map_or_else(|| placement::choose(&hosts, spread), Ok) {
            Ok(placed) => placed,
            Err(no_place) => {
                let so_far = state.unplaced.take().map_or(0, |(servers, _)| servers);
                let no_place = if has_agones { no_place } else { NoPlace::NoAgones };
                state.unplaced = Some((so_far + 1, no_place));
                return;
            }
        };
        let server = self.new_server_name(name);
        let order = start_order(&server, &spec);
        self.servers.insert(server.clone(), ordered(&server, &spec, &host, now));
        if let Some(host) = self.hosts.get_mut(&host) {
            host.servers.insert(server.clone());
        }
        self.refresh(&server);
        self.order(&host, ToAgent::Start { term: self.config.term, order: Box::new(order) });
        let reason = format!("ordered on host {host}: {why}");
        self.audit(&Actor::Autoscaler, AuditAction::ServerStarted, &server, reason, false);
        self.note(Notice::ServerOrdered { server, host, why: why.to_string() });
    }

    /// The hosts as placement sees them, for one more server of a fleet.
    pub(super) fn places(&self, fleet: &FleetName, spread: Spread, agones: bool) -> Vec<Host> {
        // One that is about to stop may still have what two on a host would quarrel over.
        let counts = |server: &ServerState| server.stop.is_none() || spread == Spread::OnePerHost;
        let is_ours = |server: &&ServerName| {
            self.servers.get(*server).is_some_and(|server| server.fleet == *fleet && counts(server))
        };
        let count = |servers: usize| u32::try_from(servers).unwrap_or(u32::MAX);
        let place = |(name, host): (&HostName, &HostState)| {
            let in_use = host.connected && self.drain_of(name, host).is_none();
            Host {
                name: name.clone(),
                zone: super::drain::zone(host).unwrap_or_default().to_owned(),
                in_use,
                accepts: in_use && host.reported && host.stream.is_some() && (host.agones || !agones),
                servers: count(host.servers.len()),
                of_fleet: count(host.servers.iter().filter(is_ours).count()),
                servers_max: host.servers_max,
            }
        };
        self.hosts.iter().map(place).collect()
    }

    fn new_server_name(&mut self, fleet: &FleetName) -> ServerName {
        loop {
            let name = self.ids.server(fleet);
            if !self.servers.contains_key(&name) && !self.rooms_of.contains_key(&name) {
                return name;
            }
        }
    }

    /// Restarts every server of a fleet that its agent knows, and lets the fleet start again at once what it waits
    /// with.
    pub(super) fn restart_fleet(&mut self, name: &FleetName, by: &Actor) -> Result<RestartAnswer, Refusal> {
        self.fleet(name)?;
        let runs = |server: &&ServerState| {
            let reachable = self.hosts.get(&server.host).is_some_and(|host| host.stream.is_some());
            server.fleet == *name && server.stop.is_none() && server.ordered_at.is_none() && reachable
        };
        let servers: Vec<(ServerName, HostName)> = self
            .servers
            .iter()
            .filter(|(_, server)| runs(server))
            .map(|(name, server)| (name.clone(), server.host.clone()))
            .collect();
        if let Some(fleet) = self.fleets.get_mut(name) {
            fleet.backoff = Backoff::default();
        }
        let reason = format!("{} gameservers were told to begin anew", servers.len());
        let busy = servers.iter().any(|(server, _)| self.is_occupied(server));
        self.audit(by, AuditAction::FleetRestarted, name, reason, busy);
        for (server, host) in &servers {
            let busy = self.is_occupied(server);
            self.audit(by, AuditAction::ServerRestarted, server, format!("fleet {name} begins anew"), busy);
            let (term, server) = (self.config.term, Text(server.clone()));
            self.order(host, ToAgent::Restart { term, server, reason: "somebody asked for it".to_owned() });
        }
        self.note(Notice::FleetRestarted { fleet: name.clone(), servers: servers.len() });
        Ok(RestartAnswer { servers: servers.into_iter().map(|(server, _)| Text(server)).collect() })
    }

    /// A server that never answered: its fleet tells why and waits before it starts another.
    fn give_up(&mut self, name: &ServerName) {
        let Some(server) = self.servers.get(name) else { return };
        let fleet = server.fleet.clone();
        let why = if server.message.is_empty() { String::new() } else { format!(": {}", server.message) };
        let message = format!("{}{why}", StopReason::NeverReady);
        self.note_failure(name, &fleet, &message);
        self.back_off(&fleet);
    }

    /// Remembers the last failure of a fleet, for people.
    pub(super) fn note_failure(&mut self, server: &ServerName, fleet: &FleetName, message: &str) {
        let at = self.now;
        if let Some(fleet) = self.fleets.get_mut(fleet) {
            fleet.last_failure = Some(Failure { server: server.clone(), message: message.to_owned(), at });
        }
    }

    /// Lets a fleet wait before its next start.
    pub(super) fn back_off(&mut self, fleet: &FleetName) {
        let now = self.now;
        if let Some(fleet) = self.fleets.get_mut(fleet) {
            fleet.backoff = fleet.backoff.failed(now);
        }
    }

    fn cordon(&mut self, name: &ServerName, reason: StopReason) {
        let Some(server) = self.servers.get_mut(name) else { return };
        server.cordoned = Some(reason);
        self.refresh(name);
        self.note(Notice::ServerCordoned { server: name.clone(), reason });
    }

    fn uncordon(&mut self, name: &ServerName) {
        let Some(server) = self.servers.get_mut(name) else { return };
        server.cordoned = None;
        self.refresh(name);
        self.note(Notice::ServerUncordoned { server: name.clone() });
    }

    /// The last look before a stop: nothing was promised on it since the plan was made. One on a silent host is not told, not even
    /// later: who comes to it meanwhile is not known here.
    fn stop_server(&mut self, name: &ServerName, reason: StopReason) {
        let busy = self.rooms_of.contains_key(name);
        let Some(server) = self.servers.get(name) else { return };
        let heard = self.is_trusted(&server.host);
        let Some(server) = self.servers.get_mut(name) else { return };
        if busy || server.held || server.connections > 0 || server.in_flight > 0 || server.stop.is_some() {
            return;
        }
        if !heard {
            server.written_off = true;
            self.refresh(name);
            return self.note(Notice::ServerWrittenOff { server: name.clone() });
        }
        server.stop = Some(reason);
        self.refresh(name);
        self.audit(&Actor::Autoscaler, AuditAction::ServerStopped, name, reason.to_string(), false);
        self.order_stop(name, reason);
        self.note(Notice::ServerStopping { server: name.clone(), reason });
    }

    pub(super) fn order_stop(&mut self, name: &ServerName, reason: StopReason) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(name) else { return };
        server.stop_sent_at = Some(now);
        let host = server.host.clone();
        let (term, server) = (self.config.term, Text(name.clone()));
        self.order(&host, ToAgent::Stop { term, server, reason: reason.to_string() });
    }

    /// An order was not carried out: it is sent again, unless what was ordered is no longer wanted.
    pub(super) fn order_start_again(&mut self, host: &HostName, name: &ServerName) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(name) else { return };
        // Servers found since the order may have filled the fleet.
        let fleet = self.fleets.get(&server.fleet).filter(|fleet| !fleet.is_above_maximum());
        let spec = fleet.map(|fleet| &fleet.spec);
        let spec = spec
            .filter(|spec| spec.revision == server.revision && server.stop.is_none() && !server.written_off);
        let Some(spec) = spec else {
            return self.forget_server(name, EndReason::Stopped, "its start is no longer wanted");
        };
        server.ordered_at = Some(now);
        let order = Box::new(start_order(name, spec));
        self.order(host, ToAgent::Start { term: self.config.term, order });
    }

    /// The agent will not start it: forgotten, and the fleet pauses before it tries another.
    pub(super) fn order_refused(&mut self, host: &HostName, name: &ServerName, message: &str) {
        let Some(server) = self.servers.get(name).filter(|server| server.host == *host) else { return };
        let (fleet, never_started) = (server.fleet.clone(), server.ordered_at.is_some());
        if !never_started {
            return self.note(Notice::OrderRefused { server: name.clone(), message: message.to_owned() });
        }
        self.note(Notice::StartRefused { server: name.clone(), message: message.to_owned() });
        let starts_after = self.now + self.config.timings.refused_pause;
        self.note_failure(name, &fleet, &format!("was refused by its agent: {message}"));
        if let Some(fleet) = self.fleets.get_mut(&fleet) {
            fleet.starts_after = starts_after;
        }
        self.forget_server(name, EndReason::ServerLost, message);
    }
}

fn ordered(name: &ServerName, spec: &Fleet, host: &HostName, now: greenroom_core::Timestamp) -> ServerState {
    ServerState {
        fleet: spec.name.clone(),
        host: host.clone(),
        instance: format!("{name}.0").parse().expect("a server name and a number make an instance id"),
        revision: spec.revision.clone(),
        phase: ProcessPhase::Starting,
        ordered_at: Some(now),
        labels: BTreeMap::new(),
        asked_at: Some(now),
        cordoned: None,
        stop: None,
        stop_sent_at: None,
        written_off: false,
        endpoint: SmolStr::default(),
        tls: false,
        pid: None,
        restarts: 0,
        started_at: now,
        process_at: now,
        connections: 0,
        held: false,
        in_flight: 0,
        keeps_rooms: false,
        linked: false,
        measured: greenroom_wire::link::Measured::default(),
        message: "ordered".to_owned(),
    }
}

fn start_order(name: &ServerName, spec: &Fleet) -> StartOrder {
    let (rooms_per_server, seats_per_room) = sizes(spec.kind);
    StartOrder {
        server: Text(name.clone()),
        fleet: Text(spec.name.clone()),
        revision: Text(spec.revision.clone()),
        command: spec.template.command.clone(),
        env: spec.template.env.clone(),
        secrets: secrets(spec),
        probe: (&spec.template.probe).into(),
        stop_grace_ms: millis(spec.template.stop_grace),
        min_ready_ms: millis(spec.template.min_ready),
        rooms_per_server,
        seats_per_room,
        ports: spec.ports.as_ref().map(|ports| (*ports.start(), *ports.end())),
        agones: spec.template.agones,
    }
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Where the agent finds the secrets. A reference was checked when the fleet was read; one that is none is left out,
/// and the server tells that its variable is missing.
fn secrets(spec: &Fleet) -> BTreeMap<String, Text<SecretRef>> {
    let read =
        |(name, source): (&String, &SecretSource)| Some((name.clone(), Text(source.from.parse().ok()?)));
    spec.template.secrets.iter().filter_map(read).collect()
}

/// A reason in words, for people.
pub(super) fn words(reason: &Reason) -> String {
    match reason {
        Reason::Starting(count) => format!("{count} starting"),
        Reason::Unhealthy(count) => format!("{count} unhealthy"),
        Reason::AtMaximum { wanted, replicas_max } => {
            format!("{wanted} wanted, at most {replicas_max} allowed")
        }
    }
}
