//! One gameserver: its process, its probe, its link, and what is told of it.
//!
//! Never knows of other servers.

mod frozen;
mod held;
mod own_word;
mod proven;
mod report;
mod told;
mod words;

use std::collections::VecDeque;
use std::time::Duration;

use greenroom_core::{InstanceId, Timestamp};
use greenroom_provider::{Handle, StopSignal};
use greenroom_wire::agent::{ProbeWord, ProcessPhase, STOPPED, StartOrder};
use greenroom_wire::link::{Status, Successor};

use super::{Effect, LinkId, ProbeFailure, Process, Settings, Speech};
use crate::journal::JournalServer;
pub(super) use held::Hold;
use own_word::OwnWord;
use told::LinkState;

/// Time between two probes until the first one passes, and after one failed.
const PROBE_SOON: Duration = Duration::from_millis(250);
/// Time between two probes of a server that passes them.
const PROBE_LATER: Duration = Duration::from_secs(2);
/// Failed probes in a row that make a ready server unhealthy.
const PROBE_FAILURES: u32 = 2;
/// Silence on the link after which a server that was heard on it is unhealthy.
const SILENCE: Duration = Duration::from_secs(3);
/// First pause before a dead process is started again; doubles with each death.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Longest such pause.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Deaths within [`DEATHS_WITHIN`] after which a server is given up are more than this.
const DEATHS_MAX: usize = 5;
/// See [`DEATHS_MAX`].
const DEATHS_WITHIN: Duration = Duration::from_secs(60);
/// Time between two SIGKILLs to a process that does not end.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// What the steps of one event leave behind for the supervisor.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) effects: Vec<Effect>,
    /// The journal must be written.
    pub(super) dirty: bool,
    /// The report differs from the last one.
    pub(super) changed: bool,
    /// Ports that are used no longer.
    pub(super) freed: Vec<u16>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// This agent is new and does not know yet whether the process runs.
    Adopting { handle: Option<Handle>, was_ready: bool },
    /// The engine was asked to start it.
    Launching,
    /// It runs.
    Running { process: Process, health: Health },
    /// It died and is started again.
    Waiting { until: Timestamp },
    /// It runs and was told to stop.
    Stopping { process: Process, kill_at: Timestamp, killed: bool },
    /// It is over.
    Ended { message: String },
}

#[derive(Debug)]
pub(super) struct Health {
    /// This process has proven that it can serve.
    ready: bool,
    /// Since when it has done so without a break; of one that is not ready yet.
    proving_since: Option<Timestamp>,
    /// It was told to be ready: from then on it may be promised to players, whatever the engine says.
    told_ready: bool,
    probe_at: Timestamp,
    probing: bool,
    failures: u32,
    /// When the first of these failures was noticed that may mean that the process is frozen.
    failing_since: Option<Timestamp>,
    probe_error: String,
    silent: bool,
}

impl Health {
    fn new(now: Timestamp, ready: bool) -> Self {
        Self {
            ready,
            proving_since: None,
            told_ready: ready,
            probe_at: now,
            probing: false,
            failures: 0,
            failing_since: None,
            probe_error: String::new(),
            silent: false,
        }
    }

    fn asks(&mut self, now: Timestamp) -> bool {
        let asks = !self.probing && self.probe_at <= now;
        self.probing |= asks;
        asks
    }

    const fn phase(&self) -> ProcessPhase {
        match (self.ready, self.silent || self.failures >= PROBE_FAILURES) {
            (false, _) => ProcessPhase::Starting,
            (true, true) => ProcessPhase::Unhealthy,
            (true, false) => ProcessPhase::Ready,
        }
    }
}

#[derive(Debug)]
pub(super) struct Managed {
    pub(super) order: StartOrder,
    pub(super) port: u16,
    /// Where a shipped Agones SDK finds this agent, once it is open.
    pub(super) sdk_port: Option<u16>,
    pub(super) secret: String,
    pub(super) restarts: u32,
    started_at: Timestamp,
    /// How its port was spoken to last.
    speech: Speech,
    pub(super) stage: Stage,
    stop_reason: Option<String>,
    /// Its process is to be replaced by another one. Not journalled: an agent that dies meanwhile forgets the wish.
    restart_reason: Option<String>,
    deaths: VecDeque<Timestamp>,
    last_end: String,
    pub(super) link: LinkState,
    pub(super) status: Status,
    own_word: OwnWord,
}

impl Managed {
    pub(super) fn new(order: StartOrder, port: u16, secret: String, now: Timestamp) -> Self {
        Self {
            order,
            port,
            sdk_port: None,
            secret,
            restarts: 0,
            started_at: now,
            speech: Speech::Plain,
            stage: Stage::Waiting { until: now },
            stop_reason: None,
            restart_reason: None,
            deaths: VecDeque::new(),
            last_end: String::new(),
            link: LinkState::new(false, now),
            status: Status::default(),
            own_word: OwnWord::default(),
        }
    }

    pub(super) fn restore(entry: JournalServer, now: Timestamp) -> Self {
        let handle = entry.handle.map(Handle::from_text);
        let started_at = Timestamp::from_unix_ms(entry.started_at_ms);
        let mut managed = Self::new(entry.order, entry.port, entry.link_secret, started_at);
        managed.restarts = entry.restarts;
        managed.stage = Stage::Adopting { handle, was_ready: entry.ready };
        managed.stop_reason = entry.stop_reason;
        managed.deaths = entry.deaths_ms.into_iter().map(Timestamp::from_unix_ms).collect();
        managed.last_end = entry.last_end;
        managed.sdk_port = entry.agones_port;
        managed.own_word = OwnWord::restore(entry.labels, entry.said);
        managed.link = LinkState::new(entry.linked, now);
        managed
    }

    /// What the next agent must know; `None` once it has ended.
    pub(super) fn journal(&self) -> Option<JournalServer> {
        let (handle, ready) = match &self.stage {
            Stage::Adopting { handle, was_ready } => (handle.clone(), *was_ready),
            Stage::Launching | Stage::Waiting { .. } => (None, false),
            Stage::Running { process, health } => (Some(process.handle.clone()), health.ready),
            Stage::Stopping { process, .. } => (Some(process.handle.clone()), false),
            Stage::Ended { .. } => return None,
        };
        Some(JournalServer {
            order: self.order.clone(),
            port: self.port,
            link_secret: self.secret.clone(),
            restarts: self.restarts,
            started_at_ms: self.started_at.unix_ms(),
            handle: handle.map(|handle| handle.as_str().to_owned()),
            ready,
            linked: self.link.ever,
            stop_reason: self.stop_reason.clone(),
            deaths_ms: self.deaths.iter().map(|at| at.unix_ms()).collect(),
            last_end: self.last_end.clone(),
            labels: self.own_word.labels.clone(),
            agones_port: self.sdk_port,
            said: self.own_word.said(),
        })
    }

    pub(super) fn instance(&self) -> InstanceId {
        let name = format!("{}.{}", self.order.server, self.restarts);
        name.parse().expect("a server name, a dot and a number are an instance id")
    }

    pub(super) const fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended { .. })
    }

    pub(super) const fn is_told_to_stop(&self) -> bool {
        self.stop_reason.is_some()
    }

    pub(super) const fn is_launching(&self) -> bool {
        matches!(self.stage, Stage::Launching)
    }

    pub(super) const fn is_adopting(&self) -> bool {
        matches!(self.stage, Stage::Adopting { .. })
    }

    pub(super) const fn has_process(&self) -> bool {
        matches!(self.stage, Stage::Running { .. } | Stage::Stopping { .. })
    }

    /// Asks the engine for a process.
    pub(super) fn launch(&mut self, settings: &Settings, out: &mut Out) {
        self.stage = Stage::Launching;
        if self.order.agones && self.sdk_port.is_none() {
            out.effects.push(Effect::OpenSdk { server: self.order.server.0.clone(), port: None });
        } else {
            let spec = Box::new(settings.spec(self));
            out.effects.push(Effect::Start { port: self.port, spec });
        }
        out.dirty = true;
        out.changed = true;
    }

    /// A process is there: just started, or found again.
    pub(super) fn runs(&mut self, process: Process, now: Timestamp, out: &mut Out) {
        let ready = matches!(self.stage, Stage::Adopting { was_ready: true, .. });
        self.link.heard_at = now;
        let mut health = Health::new(now, ready);
        self.begin_own_word(&mut health, now);
        self.stage = Stage::Running { process, health };
        out.dirty = true;
        out.changed = true;
        if self.stop_reason.is_some() || self.restart_reason.is_some() {
            self.ask_to_end(now, out);
        }
    }

    /// The process ended, was not found, or could not be started.
    pub(super) fn died(&mut self, how: &str, now: Timestamp, out: &mut Out) {
        if let Some(reason) = &self.stop_reason {
            let message = format!("{STOPPED}{reason}): {how}");
            return self.end(message, out);
        }
        if let Some(reason) = self.restart_reason.take() {
            self.deaths.clear();
            // One that had to be killed is worth a word later.
            self.last_end = match self.stage {
                Stage::Stopping { killed: true, .. } => format!("restarted ({reason}): {how}"),
                Stage::Adopting { .. }
                | Stage::Launching
                | Stage::Running { .. }
                | Stage::Waiting { .. }
                | Stage::Stopping { .. }
                | Stage::Ended { .. } => String::new(),
            };
            return self.again_at(now, out);
        }
        self.deaths.push_back(now);
        self.deaths.retain(|at| now.since(*at) < DEATHS_WITHIN);
        if self.deaths.len() > DEATHS_MAX {
            let (times, seconds) = (self.deaths.len(), DEATHS_WITHIN.as_secs());
            return self.end(format!("died {times} times within {seconds} s; the last time: {how}"), out);
        }
        let doublings = u32::try_from(self.deaths.len() - 1).unwrap_or(u32::MAX);
        let pause = BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(BACKOFF_MAX);
        tracing::warn!(server = %self.order.server, instance = %self.instance(), how, "gameserver died");
        how.clone_into(&mut self.last_end);
        self.again_at(now + pause, out);
    }

    fn again_at(&mut self, until: Timestamp, out: &mut Out) {
        self.restarts += 1;
        self.stage = Stage::Waiting { until };
        self.forget_process(out);
    }

    /// It is over for good.
    pub(super) fn end(&mut self, message: String, out: &mut Out) {
        tracing::info!(server = %self.order.server, instance = %self.instance(), reason = message, "gameserver ended");
        self.stage = Stage::Ended { message };
        out.freed.push(self.port);
        if self.order.agones {
            out.effects.push(Effect::CloseSdk { server: self.order.server.0.clone() });
        }
        self.forget_process(out);
    }

    fn forget_process(&mut self, out: &mut Out) {
        // The next process is of the same program: whether rooms outlive it is true of both.
        self.status = Status { keeps_rooms: self.status.keeps_rooms, ..Status::default() };
        // The connection ends by itself, after what the process said last has been read.
        self.link = LinkState::new(false, self.link.heard_at);
        self.forget_own_word(out);
        out.dirty = true;
        out.changed = true;
    }

    /// Told to stop. Telling it again changes nothing.
    pub(super) fn stop(&mut self, reason: &str, now: Timestamp, out: &mut Out) {
        if self.stop_reason.is_some() || self.is_ended() {
            return;
        }
        tracing::info!(server = %self.order.server, reason, "gameserver is told to stop");
        self.stop_reason = Some(reason.to_owned());
        out.dirty = true;
        out.changed = true;
        match self.stage {
            Stage::Running { .. } => self.ask_to_end(now, out),
            Stage::Waiting { .. } => self.end(format!("{STOPPED}{reason}): was not running"), out),
            // The engine's answer comes first; `runs` and `died` look at the reason.
            Stage::Adopting { .. } | Stage::Launching | Stage::Stopping { .. } | Stage::Ended { .. } => {}
        }
    }

    /// Told to start its process anew. While that goes on, telling it again changes nothing.
    pub(super) fn restart(&mut self, reason: &str, now: Timestamp, out: &mut Out) {
        if self.stop_reason.is_some() {
            return;
        }
        tracing::info!(server = %self.order.server, reason, "gameserver is told to restart");
        match &mut self.stage {
            Stage::Running { .. } => {
                self.restart_reason = Some(reason.to_owned());
                self.ask_to_end(now, out);
            }
            // The engine's answer comes first; `runs` and `died` look at the reason.
            Stage::Adopting { .. } | Stage::Launching => self.restart_reason = Some(reason.to_owned()),
            Stage::Waiting { until } => {
                *until = now;
                self.deaths.clear();
            }
            Stage::Stopping { .. } | Stage::Ended { .. } => return,
        }
        out.dirty = true;
        out.changed = true;
    }

    /// What comes after its process, should that end now.
    pub(super) fn successor(&self, now: Timestamp) -> Successor {
        let deaths = self.deaths.iter().filter(|at| now.since(**at) < DEATHS_WITHIN).count();
        match (&self.stop_reason, &self.restart_reason) {
            (Some(_), _) => Successor::Nobody,
            (None, Some(_)) => Successor::Process,
            // Somebody else asked it to end: that is a death like any other.
            (None, None) if deaths < DEATHS_MAX => Successor::Process,
            (None, None) => Successor::Nobody,
        }
    }

    fn ask_to_end(&mut self, now: Timestamp, out: &mut Out) {
        let Stage::Running { process, .. } = &self.stage else { return };
        let process = process.clone();
        out.effects.push(Effect::Signal {
            server: self.order.server.0.clone(),
            handle: process.handle.clone(),
            signal: StopSignal::Ask,
        });
        let kill_at = now + Duration::from_millis(self.order.stop_grace_ms);
        self.stage = Stage::Stopping { process, kill_at, killed: false };
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Timestamp, settings: &Settings, out: &mut Out) {
        self.end_if_frozen(now);
        self.prove_own_word(now, out);
        self.mind_own_word(now, out);
        self.end_reservation(now, out);
        self.show_record(settings, out);
        let instance = self.instance();
        let server = &self.order.server.0;
        match &mut self.stage {
            Stage::Waiting { until } if *until <= now => self.launch(settings, out),
            Stage::Running { health, .. } => {
                let by_own_word = matches!(self.order.probe, ProbeWord::Sdk { .. });
                if !by_own_word && health.asks(now) {
                    let (server, probe) = (server.clone(), self.order.probe.clone());
                    out.effects.push(Effect::Probe { server, instance, port: self.port, probe });
                }
                if self.link.ever && !health.silent && now.since(self.link.heard_at) >= SILENCE {
                    tracing::warn!(%server, silence_ms = SILENCE.as_millis(), "gameserver is silent");
                    health.silent = true;
                    out.changed = true;
                }
            }
            Stage::Stopping { process, kill_at, killed } if *kill_at <= now => {
                tracing::warn!(%server, handle = %process.handle, "gameserver outlived its grace time; killed");
                *killed = true;
                *kill_at = now + KILL_AGAIN;
                let (server, handle) = (server.clone(), process.handle.clone());
                out.effects.push(Effect::Signal { server, handle, signal: StopSignal::Kill });
                out.changed = true;
            }
            Stage::Waiting { .. }
            | Stage::Stopping { .. }
            | Stage::Adopting { .. }
            | Stage::Launching
            | Stage::Ended { .. } => {}
        }
    }

    /// When [`Managed::tick`] has something to do.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        match &self.stage {
            Stage::Waiting { until } => Some(*until),
            Stage::Stopping { kill_at, .. } => Some(*kill_at),
            Stage::Running { health, .. } => {
                let probe_at = match self.order.probe {
                    ProbeWord::Sdk { .. } => self.own_word_due(health),
                    ProbeWord::EngineIo | ProbeWord::Tcp | ProbeWord::Http(_) => {
                        (!health.probing).then_some(health.probe_at)
                    }
                };
                let silent_at = (self.link.ever && !health.silent).then_some(self.link.heard_at + SILENCE);
                let frozen_at = self.frozen_at(health).filter(|_| self.stop_reason.is_none());
                let proven_at = self.own_word_proven_at(health);
                [probe_at, proven_at, silent_at, frozen_at, self.own_word.hold.ends_at()]
                    .into_iter()
                    .flatten()
                    .min()
            }
            Stage::Adopting { .. } | Stage::Launching | Stage::Ended { .. } => None,
        }
    }

    /// A probe came back.
    pub(super) fn probed(&mut self, outcome: Result<Speech, ProbeFailure>, now: Timestamp, out: &mut Out) {
        let min_ready = self.min_ready();
        let Stage::Running { health, .. } = &mut self.stage else { return };
        let (before, error_before) = (health.phase(), health.probe_error.clone());
        health.probing = false;
        match outcome {
            Ok(speech) => {
                out.changed |= self.speech != speech;
                self.speech = speech;
                health.failures = 0;
                health.failing_since = None;
                health.probe_error.clear();
                out.dirty |= health.prove(now, min_ready);
                health.probe_at = now + if health.ready { PROBE_LATER } else { PROBE_SOON };
            }
            Err(ProbeFailure { message, heard }) => {
                health.failures = health.failures.saturating_add(1);
                health.suspect(heard, self.link.ever, now);
                health.proving_since = None;
                health.probe_error = message;
                health.probe_at = now + PROBE_SOON;
            }
        }
        let after = health.phase();
        if before != after {
            let error = &health.probe_error;
            tracing::info!(server = %self.order.server, from = ?before, to = ?after, error, "gameserver probed");
        }
        out.changed |= before != after || error_before != health.probe_error;
    }
}
