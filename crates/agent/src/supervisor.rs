//! What runs on this host, what should, and the steps between: a plain value that takes events and gives effects.
//!
//! Never does IO, never reads a clock; the time comes with each event. Randomness is the caller's too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use greenroom_core::{FleetName, InstanceId, ServerName, Timestamp};
use greenroom_provider::Exit;
use greenroom_wire::agent::{FromAgent, Report};
use greenroom_wire::token::PublicKeys;

mod boards;
mod control;
mod event;
mod links;
mod managed;
mod occupancy;
mod peers;
mod ports;
mod sdk;
mod settings;
#[cfg(test)]
mod tests;

pub use event::{Effect, Event, Heard, LinkId, ProbeFailure, Process, Speech};
pub use occupancy::Occupancy;
pub use ports::QUARANTINE;
pub use sdk::{SdkCall, SdkRefusal, SdkTold, SdkWho, SdkWord};
pub use settings::Settings;

use crate::journal::{Journal, JournalRoomEnded, JournalServer, VERSION};
use crate::keeping::Kept;
use boards::Boards;
use managed::{Managed, Out, Stage};
use peers::Peers;
use ports::Ports;

/// Time between two reports when nothing changes.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Time in which changes are gathered into one report.
const REPORT_COALESCE: Duration = Duration::from_millis(20);
/// A report is whole: one that tells of many rooms waits for more changes, so much for each room, up to
/// [`REPORT_EVERY`]. Else each newcomer on a host with thousands would cost control a reading of all of them.
const REPORT_COALESCE_PER_ROOM: Duration = Duration::from_micros(200);
/// Time between two repetitions of an unacknowledged result in one session.
const REPEAT_EVERY: Duration = Duration::from_secs(2);
/// Longest time a new agent holds back its first report until the servers it found have told their rooms.
const SETTLE: Duration = Duration::from_secs(3);
/// How long the name of an ended server is remembered, so that a late order does not start it again.
const ENDED_KEPT: Duration = Duration::from_secs(600);
/// Most such names.
const ENDED_MAX: usize = 4096;
/// The signal with which a program gives up by itself.
const SIGABRT: i32 = 6;
/// Longest wait for the last acknowledgements after all servers were stopped.
const DRAIN: Duration = Duration::from_secs(1);

/// Makes the secret of a new server.
pub type Secrets = Box<dyn FnMut() -> String + Send>;

/// All servers of one host. Drive it with [`Supervisor::handle`], and with [`Event::Tick`] at
/// [`Supervisor::wake_at`]; write [`Supervisor::take_journal`] before doing the effects of the same step.
pub struct Supervisor {
    settings: Settings,
    secrets: Secrets,
    servers: BTreeMap<ServerName, Managed>,
    ports: Ports,
    /// Whose connection it is; kept until the connection is over, also over its process's death.
    links: BTreeMap<LinkId, (ServerName, InstanceId)>,
    boards: Boards,
    peers: Peers,
    room_ended: BTreeMap<(String, u32), JournalRoomEnded>,
    ended: BTreeMap<ServerName, Timestamp>,
    keys: PublicKeys,
    term_seen: u64,
    /// A session with control is open.
    welcomed: bool,
    /// The control plane that is obeyed reads [`ServerReport::held`](greenroom_wire::agent::ServerReport::held).
    hears_held: bool,
    report_at: Timestamp,
    /// No report about a change before this moment.
    report_not_before: Timestamp,
    repeat_at: Timestamp,
    /// Servers found at the start whose rooms are not known yet, and until when they are waited for.
    settling: BTreeSet<ServerName>,
    settle_until: Timestamp,
    /// What control said last of whether somebody is on this host.
    occupied: bool,
    /// What the engine around the agent said last.
    kept: Kept,
    stopping: bool,
    drain_until: Option<Timestamp>,
    out: Out,
}

/// How a process ended, with its last words where it ended by itself and not well.
fn exited(exit: Exit, last_words: &str) -> String {
    match exit {
        Exit::Code(code) if code != 0 && !last_words.is_empty() => format!("{exit}: {last_words}"),
        Exit::Signal(SIGABRT) if !last_words.is_empty() => format!("{exit}: {last_words}"),
        Exit::Code(_) | Exit::Signal(_) | Exit::Unknown => exit.to_string(),
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.servers.keys().collect();
        f.debug_struct("Supervisor").field("servers", &servers).finish_non_exhaustive()
    }
}

impl Supervisor {
    /// Takes over from the agent that wrote `journal`. The first [`Event::Tick`] gives an [`Effect::Adopt`] for each
    /// of its servers.
    #[must_use]
    pub fn new(settings: Settings, journal: Journal, secrets: Secrets, now: Timestamp) -> Self {
        let at = |(port, until)| (port, Timestamp::from_unix_ms(until));
        let ports =
            Ports::new(settings.ports.clone(), journal.quarantined_ports.into_iter().map(at).collect(), now);
        let key = |result: &JournalRoomEnded| (result.ended.room.to_string(), result.ended.epoch);
        let boards = Boards::new(settings.boards, now);
        let mut supervisor = Self {
            settings,
            secrets,
            servers: BTreeMap::new(),
            ports,
            links: BTreeMap::new(),
            boards,
            peers: Peers::default(),
            room_ended: journal.room_ended.into_iter().map(|result| (key(&result), result)).collect(),
            ended: journal
                .ended_servers
                .into_iter()
                .map(|(server, at)| (server.0, Timestamp::from_unix_ms(at)))
                .collect(),
            keys: journal.keys,
            term_seen: journal.term_seen,
            welcomed: false,
            hears_held: false,
            report_at: now,
            report_not_before: now,
            repeat_at: now,
            settling: BTreeSet::new(),
            settle_until: now + SETTLE,
            occupied: false,
            kept: Kept::default(),
            stopping: false,
            drain_until: None,
            out: Out { dirty: true, ..Out::default() },
        };
        for entry in journal.servers {
            supervisor.restore(entry, now);
        }
        supervisor
    }

    fn restore(&mut self, entry: JournalServer, now: Timestamp) {
        let managed = Managed::restore(entry, now);
        let server = managed.order.server.0.clone();
        let Stage::Adopting { handle, .. } = &managed.stage else { return };
        let (handle, instance) = (handle.clone(), managed.instance());
        self.out.effects.push(Effect::Adopt { server: server.clone(), instance, handle });
        if let Some(port) = managed.sdk_port {
            self.out.effects.push(Effect::OpenSdk { server: server.clone(), port: Some(port) });
        }
        self.settling.insert(server.clone());
        self.boards.adopt(managed.order.fleet.0.clone(), &managed.instance());
        self.servers.insert(server, managed);
    }

    /// Takes one event in and gives what is to be done about it. Events about a process that is no longer its
    /// server's are ignored, and so is whatever repeats what is known.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        match event {
            Event::Tick => {}
            Event::Control(message) => self.handle_control(now, message),
            // It is blind until it has a report.
            Event::ControlUp => self.out.changed = true,
            Event::ControlLost => self.welcomed = false,
            Event::Started { server, instance, process } => {
                let step = |managed: &mut Managed, out: &mut Out| managed.runs(process, now, out);
                self.with(&server, &instance, Managed::is_launching, step);
            }
            Event::NotStarted { server, instance, message } => {
                let step = |managed: &mut Managed, out: &mut Out| managed.died(&message, now, out);
                self.with(&server, &instance, Managed::is_launching, step);
            }
            Event::PortTaken { server, instance } => self.handle_port_taken(now, &server, &instance),
            Event::Adopted { server, instance, found } => self.handle_adopted(now, &server, &instance, found),
            Event::Exited { server, instance, exit, last_words } => {
                let how = exited(exit, &last_words);
                let step = |managed: &mut Managed, out: &mut Out| managed.died(&how, now, out);
                self.with(&server, &instance, Managed::has_process, step);
            }
            Event::Probed { server, instance, outcome } => {
                let step = |managed: &mut Managed, out: &mut Out| managed.probed(outcome, now, out);
                self.with(&server, &instance, Managed::has_process, step);
            }
            Event::Link { link, message } => self.handle_link(now, link, message),
            Event::LinkLost { link } => self.handle_link_lost(now, link),
            Event::Sdk { call, who, word } => self.handle_sdk(now, call, &who, word),
            Event::Kept(kept) => self.handle_kept(kept),
            Event::SdkLost { call } => self.handle_sdk_lost(call),
            Event::SdkOpened { server, outcome } => self.handle_sdk_opened(now, server, outcome),
            Event::StopAll => self.stop_all(now),
        }
        self.tick(now);
        std::mem::take(&mut self.out.effects)
    }

    /// Takes a step with a server if this is its present process and it is where the step begins.
    fn with(
        &mut self,
        server: &ServerName,
        instance: &InstanceId,
        begins: fn(&Managed) -> bool,
        step: impl FnOnce(&mut Managed, &mut Out),
    ) {
        let managed = self.servers.get_mut(server);
        if let Some(managed) = managed.filter(|managed| managed.instance() == *instance && begins(managed)) {
            step(managed, &mut self.out);
        }
    }

    fn handle_port_taken(&mut self, now: Timestamp, server: &ServerName, instance: &InstanceId) {
        let used = self.used_ports();
        let Some(managed) = self.servers.get_mut(server).filter(|managed| managed.instance() == *instance)
        else {
            return;
        };
        if !managed.is_launching() {
            return;
        }
        // A server that has run keeps its port: its players look for it there.
        if managed.restarts > 0 {
            let how = format!("not started: port {} is in use by another process", managed.port);
            return managed.died(&how, now, &mut self.out);
        }
        self.ports.quarantine(managed.port, now);
        match self.ports.take(now, &used, managed.order.ports) {
            Ok(port) => {
                managed.port = port;
                managed.launch(&self.settings, &mut self.out);
            }
            Err(reason) => managed.end(reason, &mut self.out),
        }
    }

    fn handle_adopted(
        &mut self,
        now: Timestamp,
        server: &ServerName,
        instance: &InstanceId,
        found: Option<Process>,
    ) {
        let mut will_link = false;
        self.with(server, instance, Managed::is_adopting, |managed, out| match found {
            Some(process) => {
                tracing::info!(%server, %instance, handle = %process.handle, "gameserver adopted");
                managed.runs(process, now, out);
                will_link = managed.link.ever && managed.link.id.is_none();
            }
            None => managed.died("ended while its agent was away", now, out),
        });
        if !will_link {
            self.settling.remove(server);
        }
    }

    fn stop_all(&mut self, now: Timestamp) {
        self.stopping = true;
        self.settling.clear();
        for managed in self.servers.values_mut() {
            managed.stop("its agent stops", now, &mut self.out);
        }
    }

    fn tick(&mut self, now: Timestamp) {
        for managed in self.servers.values_mut() {
            managed.tick(now, &self.settings, &mut self.out);
        }
        for port in std::mem::take(&mut self.out.freed) {
            self.ports.quarantine(port, now);
        }
        if self.out.changed {
            let soon = self.report_not_before.max(now + REPORT_COALESCE);
            self.report_at = self.report_at.min(soon);
            self.out.changed = false;
        }
        if self.settle_until <= now {
            self.settling.clear();
        }
        self.tick_boards(now);
        self.tick_peers(now);
        if self.welcomed {
            self.repeat_results(now);
        }
        self.report(now);
        if self.stopping && self.drain_until.is_none() && self.servers.values().all(Managed::is_ended) {
            self.drain_until = Some(now + DRAIN);
        }
    }

    fn report(&mut self, now: Timestamp) {
        if self.report_at > now || !self.settling.is_empty() {
            return;
        }
        let servers = self.server_reports();
        let rooms: usize = servers.iter().map(|server| server.rooms.len()).sum();
        let pause = REPORT_COALESCE_PER_ROOM.saturating_mul(u32::try_from(rooms).unwrap_or(u32::MAX));
        self.report_not_before = now + pause.min(REPORT_EVERY);
        let trouble = self.kept.trouble.clone();
        let report = Report { at_ms: Some(now.unix_ms()), term: Some(self.term_seen), trouble, servers };
        self.out.effects.push(Effect::Tell(Box::new(FromAgent::Report(report))));
        self.report_at = now + REPORT_EVERY;
        if !self.welcomed {
            // Replicas that do not lead see it; whoever leads next must still be told of those that ended.
            return;
        }
        let told: Vec<ServerName> = self
            .servers
            .iter()
            .filter(|(_, managed)| managed.is_ended())
            .map(|(name, _)| name.clone())
            .collect();
        for server in told {
            self.servers.remove(&server);
            self.ended.insert(server, now);
            self.out.dirty = true;
        }
        self.ended.retain(|_, at| now.since(*at) < ENDED_KEPT);
        while self.ended.len() > ENDED_MAX {
            let oldest = self.ended.iter().min_by_key(|(_, at)| **at).map(|(name, _)| name.clone());
            self.ended.retain(|name, _| Some(name) != oldest.as_ref());
        }
    }

    /// When [`Event::Tick`] is due; `None`: never, unless something else happens first.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        let settling = (!self.settling.is_empty()).then_some(self.settle_until);
        let report = self.settling.is_empty().then_some(self.report_at);
        let repeat = (self.welcomed && !self.room_ended.is_empty()).then_some(self.repeat_at);
        let peers = self.peers.wake_at(self.welcomed);
        let own = [settling, report, repeat, self.drain_until, self.boards.wake_at(), peers];
        own.into_iter().flatten().chain(self.servers.values().filter_map(Managed::wake_at)).min()
    }

    /// Whether [`Event::StopAll`] has been carried out: all servers are gone, and control was told if it is there.
    #[must_use]
    pub fn is_done(&self, now: Timestamp) -> bool {
        let told = self.servers.is_empty() && self.room_ended.is_empty() && self.links.is_empty();
        self.drain_until.is_some_and(|until| told || !self.welcomed || until <= now)
    }

    /// Highest term obeyed.
    #[must_use]
    pub const fn term_seen(&self) -> u64 {
        self.term_seen
    }

    /// Servers that have not ended.
    #[must_use]
    pub fn servers_live(&self) -> usize {
        self.servers.values().filter(|managed| !managed.is_ended()).count()
    }

    /// The journal, if it must be written now; asking again gives `None` until something changes.
    pub fn take_journal(&mut self) -> Option<Journal> {
        std::mem::take(&mut self.out.dirty).then(|| self.journal())
    }

    fn journal(&self) -> Journal {
        let quarantined = self.ports.quarantined().iter().map(|(port, until)| (*port, until.unix_ms()));
        let just_ended = self.servers.iter().filter(|(_, managed)| managed.is_ended());
        let just_ended = just_ended.map(|(server, _)| (server.clone().into(), self.report_at.unix_ms()));
        let ended = self.ended.iter().map(|(server, at)| (server.clone().into(), at.unix_ms()));
        Journal {
            version: VERSION,
            host: self.settings.host.clone().into(),
            term_seen: self.term_seen,
            link_port: self.settings.link.port(),
            sdk_port: self.settings.sdk.port(),
            keys: self.keys.clone(),
            servers: self.servers.values().filter_map(Managed::journal).collect(),
            room_ended: self.room_ended.values().cloned().collect(),
            quarantined_ports: quarantined.collect(),
            ended_servers: ended.chain(just_ended).collect(),
        }
    }

    fn used_ports(&self) -> BTreeSet<u16> {
        self.servers.values().filter(|managed| !managed.is_ended()).map(|managed| managed.port).collect()
    }

    fn fleet_of(&self, server: &ServerName) -> Option<&FleetName> {
        self.servers.get(server).map(|managed| &managed.order.fleet.0)
    }
}
