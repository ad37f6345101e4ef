//! Hosts: which agents are here, which are awaited, which are silent, which are lost.
//!
//! Never looks into a report beyond who sent it.

use std::time::Duration;

use greenroom_core::{HostName, ServerName};
use greenroom_wire::Text;
use greenroom_wire::agent::{self, Hello, Report, ToAgent};
use greenroom_wire::record::HostRecord;
use greenroom_wire::rooms::EndReason;

use super::state::HostState;
use super::{Effect, Notice, StreamId, World, Write};

impl World {
    pub(super) fn stream_opened(&mut self, stream: StreamId, hello: Hello) {
        if let Err(reason) = self.check_hello(&hello) {
            self.out.push(Effect::CloseStream { stream, reason: reason.clone() });
            self.note(Notice::HostRefused { host: hello.host.0, reason });
            return;
        }
        if hello.term_seen > self.config.term {
            self.config.term = hello.term_seen + 1;
            self.write(Write::PutTerm(self.config.term));
            self.note(Notice::TermRaised { term: self.config.term });
        }
        let name = hello.host.0.clone();
        let known = self.hosts.contains_key(&name);
        let now = self.now;
        let host = self.hosts.entry(name.clone()).or_insert_with(|| HostState::unheard(now));
        let old = host.stream.replace(stream);
        host.boot = hello.boot;
        host.labels = std::sync::Arc::new(hello.labels);
        host.servers_max = hello.servers_max;
        host.heard_at = now;
        host.connected = true;
        host.reported = false;
        host.agones = hello.agones;
        (host.wants_occupied, host.told_occupied) = (hello.wants_occupied, None);
        host.occupied.clear();
        let servers = host.servers.len();
        self.streams.insert(stream, name.clone());
        if let Some(old) = old {
            self.streams.remove(&old);
            self.out
                .push(Effect::CloseStream { stream: old, reason: "the agent opened another stream".into() });
        }
        if !known {
            self.write(Write::PutHost(HostRecord { version: 1, host: Text(name.clone()) }));
        }
        self.order(
            &name,
            ToAgent::Welcome {
                version: agent::VERSION,
                term: self.config.term,
                keys: self.config.keys.clone(),
                hears_held: true,
            },
        );
        self.refresh_host(&name);
        self.note(Notice::HostConnected { host: name, servers, known });
    }

    fn check_hello(&self, hello: &Hello) -> Result<(), String> {
        if hello.version != agent::VERSION {
            return Err(format!(
                "this control plane speaks agent protocol {}, the agent speaks {}",
                agent::VERSION,
                hello.version
            ));
        }
        if !hello.is_term_credible(self.config.term) {
            return Err(format!("no agent can have seen term {}; wipe its journal", hello.term_seen));
        }
        let hosts_max = self.config.bounds.hosts_max;
        match self.hosts.get(&hello.host.0) {
            Some(host) if host.stream.is_some() && host.boot != hello.boot && host.connected => {
                Err(format!("an agent of host {} is connected already", hello.host))
            }
            None if self.hosts.len() >= hosts_max => Err(format!("there are {hosts_max} hosts already")),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn close_stream(&mut self, stream: StreamId, reason: &str) {
        self.out.push(Effect::CloseStream { stream, reason: reason.to_owned() });
        self.stream_closed(stream);
    }

    pub(super) fn stream_closed(&mut self, stream: StreamId) {
        let Some(name) = self.streams.remove(&stream) else { return };
        if let Some(host) = self.hosts.get_mut(&name)
            && host.stream == Some(stream)
        {
            host.stream = None;
        }
    }

    /// Whether its agent had heard a term of this world, and obeyed it, when it made this report. What runs may else be seen, but
    /// nothing is planned by it: an order of a former leader may have come after it.
    pub(super) fn is_told(&self, report: &Report) -> bool {
        report.term.is_none_or(|term| (self.term_begun..=self.config.term).contains(&term))
    }

    /// Any word of an agent proves that it lives.
    pub(super) fn heard(&mut self, name: &HostName) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(name) else { return };
        host.heard_at = now;
        if !host.connected {
            host.connected = true;
            let servers = host.servers.len();
            self.refresh_host(name);
            self.note(Notice::HostConnected { host: name.clone(), servers, known: true });
        }
    }

    /// Takes silent hosts out of rotation, gives up lost ones, and ends the wait for known ones.
    pub(super) fn watch_hosts(&mut self) {
        let timings = self.config.timings;
        let names: Vec<HostName> = self.hosts.keys().cloned().collect();
        let wait_over = self.now.since(self.started_at) >= timings.known_agents_wait;
        let mut given_up = Vec::new();
        for name in names {
            let Some(host) = self.hosts.get_mut(&name) else { continue };
            let silent = self.now.since(host.heard_at);
            if host.connected && silent > timings.host_silent_after {
                host.connected = false;
                self.refresh_host(&name);
                self.note(Notice::HostSilent { host: name });
            } else if silent > timings.host_lost_after {
                self.lose_host(&name);
            } else if host.awaited && wait_over {
                host.awaited = false;
                given_up.push(name);
            }
        }
        if !given_up.is_empty() {
            self.slos.rebuilt(self.now.since(self.started_at));
            self.note(Notice::HostsGivenUp { hosts: given_up });
            self.dirty.extend(self.fleets.keys().cloned());
        }
    }

    fn lose_host(&mut self, name: &HostName) {
        let Some(host) = self.hosts.remove(name) else { return };
        if let Some(stream) = host.stream {
            self.streams.remove(&stream);
            let reason = "the host was silent for too long".to_owned();
            self.out.push(Effect::CloseStream { stream, reason });
        }
        self.note(Notice::HostLost { host: name.clone() });
        for server in &host.servers {
            self.forget_server(server, EndReason::HostLost, "its host is gone");
        }
        self.write(Write::DeleteHost(name.clone()));
        self.dirty.extend(self.fleets.keys().cloned());
    }

    /// Names of the hosts whose report is still awaited; empty once decisions may be made.
    pub(super) fn awaited_hosts(&self) -> Vec<String> {
        self.hosts.iter().filter(|(_, host)| host.awaited).map(|(name, _)| name.to_string()).collect()
    }

    pub(super) fn is_rebuilding(&self) -> bool {
        self.hosts.values().any(|host| host.awaited)
    }

    /// A host's first report since the start is in.
    pub(super) fn host_reported(&mut self, name: &HostName) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        if !std::mem::replace(&mut host.reported, true) {
            self.refresh_host(name);
            self.tell_occupied(name);
            self.dirty.extend(self.fleets.keys().cloned());
        }
        let Some(host) = self.hosts.get_mut(name) else { return };
        if std::mem::take(&mut host.awaited) && !self.is_rebuilding() {
            self.slos.rebuilt(self.now.since(self.started_at));
            self.note(Notice::Rebuilt { rooms: self.rooms.len(), servers: self.servers.len() });
            self.dirty.extend(self.fleets.keys().cloned());
        }
    }

    /// Keeps in mind whether somebody is on a server, or may be, and tells its agent when that changes what is true of the
    /// whole host: what is promised here is not known there. Kept only of hosts whose agent asks, as every change of every
    /// server comes by.
    pub(super) fn mark_occupied(&mut self, name: &HostName, server: &ServerName, occupied: bool) {
        let Some(host) = self.hosts.get_mut(name).filter(|host| host.wants_occupied) else { return };
        let changed =
            if occupied { host.occupied.insert(server.clone()) } else { host.occupied.remove(server) };
        if changed {
            self.tell_occupied(name);
        }
    }

    /// Not before its first report: until then nobody knows what runs there, and its agent keeps to the last word.
    fn tell_occupied(&mut self, name: &HostName) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        let occupied = !host.occupied.is_empty();
        let is_due = host.wants_occupied && host.reported;
        if is_due && host.told_occupied.replace(occupied) != Some(occupied) {
            self.order(name, ToAgent::Occupied { occupied });
        }
    }

    /// For how long a host has been silent, if that is long enough to doubt what runs there.
    pub(super) fn suspect(&self, name: &HostName) -> Option<Duration> {
        let heard_at = self.hosts.get(name).map_or(self.started_at, |host| host.heard_at);
        let silent = self.now.since(heard_at);
        (silent > self.config.timings.host_suspect_after).then_some(silent)
    }

    /// Whether what runs on a host is known and its agent can be told: only there servers are started or handed out.
    pub(super) fn is_trusted(&self, name: &HostName) -> bool {
        self.hosts.get(name).is_some_and(|host| host.connected && host.reported)
    }

    pub(super) fn refresh_host(&mut self, name: &HostName) {
        let servers = self.hosts.get(name).map(|host| host.servers.clone()).unwrap_or_default();
        for server in &servers {
            self.refresh(server);
        }
    }
}

impl HostState {
    /// A host that has said nothing yet.
    pub(super) fn unheard(now: greenroom_core::Timestamp) -> Self {
        Self {
            stream: None,
            boot: String::new(),
            labels: std::sync::Arc::default(),
            servers_max: 0,
            heard_at: now,
            connected: false,
            reported: false,
            awaited: false,
            servers: std::collections::BTreeSet::new(),
            occupied: std::collections::BTreeSet::new(),
            wants_occupied: false,
            agones: false,
            told_occupied: None,
            trouble: String::new(),
        }
    }
}
