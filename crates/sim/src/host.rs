//! A simulated host: its agent, its stream to control, and its servers.
//!
//! Never decides: it does what it is told, and reports.

mod obey;

use std::collections::BTreeMap;

use greenroom_agent::obedience::{ControlId, Obedience};
use greenroom_control::world::StreamId;
use greenroom_core::placement::ZONE;
use greenroom_core::{HostName, InstanceId, ServerName};
use greenroom_wire::Text;
use greenroom_wire::agent::{FromAgent, Hello, ProcessPhase, Report, ToAgent, VERSION};
use greenroom_wire::rooms::RoomEnded;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::Summary;
use crate::invariant::AgentLaws;
use crate::scenario::{Scenario, happens};
use crate::server::Server;
use crate::stream::Stream;

pub(crate) use obey::Moment;

/// The values of the label [`ZONE`], host by host in turn; callers may ask for one.
pub(crate) const ZONES: [&str; 2] = ["a", "b"];

/// A result that control has not acknowledged.
type Unheard = (ServerName, InstanceId, RoomEnded);

/// How long an agent waits for a word of a control process.
const PATIENCE_MS: u64 = 5_000;

/// An agent's way to one control process.
#[derive(Debug, Default)]
struct Link {
    stream: Option<Stream>,
    redial_ms: u64,
    /// Since when nothing passes; 0 while all does.
    dead_since_ms: u64,
    cut_until_ms: u64,
    /// Whether the other side has hung up: what it said before still arrives.
    is_over: bool,
}

/// One machine.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: HostName,
    pub(crate) zone: &'static str,
    servers_max: u32,
    /// Whether rooms outlive the processes of its servers.
    keeps_rooms: bool,
    boot: u64,
    /// The streams to the control processes, by their machines' numbers.
    links: Vec<Link>,
    obedience: Obedience,
    silent_until_ms: u64,
    /// When it falls silent for long, soon after it has told of a server's end: whatever ended that may trouble the machine.
    hangs_at_ms: Option<u64>,
    term_seen: u64,
    pub(crate) servers: BTreeMap<ServerName, Server>,
    /// Journalled results that control has not acknowledged.
    pub(crate) unacked: Vec<Unheard>,
    report_ms: u64,
    resend_ms: u64,
    changed: bool,
    laws: AgentLaws,
    /// Servers that were started here and that nobody has asked for yet.
    started: Vec<ServerName>,
}

impl Host {
    pub(crate) fn new(number: u32, scenario: &Scenario) -> Self {
        let controls = scenario.plane.processes();
        Self {
            name: format!("host-{number}").parse().expect("a word and a number make a host name"),
            zone: if number.is_multiple_of(2) { ZONES[0] } else { ZONES[1] },
            servers_max: scenario.servers_per_host,
            keeps_rooms: scenario.keeps_rooms,
            boot: 0,
            links: (0..controls).map(|_| Link::default()).collect(),
            obedience: Obedience::default(),
            silent_until_ms: 0,
            hangs_at_ms: None,
            term_seen: 0,
            servers: BTreeMap::new(),
            unacked: Vec::new(),
            report_ms: 0,
            resend_ms: 0,
            changed: true,
            laws: AgentLaws::default(),
            started: Vec::new(),
        }
    }

    /// Whether its agent speaks and listens.
    pub(crate) const fn is_silent(&self, now_ms: u64) -> bool {
        now_ms < self.silent_until_ms
    }

    /// The stream to a control process is over.
    pub(crate) fn drop_stream(
        &mut self,
        control: ControlId,
        now_ms: u64,
        rng: &mut ChaCha8Rng,
    ) -> Option<StreamId> {
        let link = &mut self.links[control];
        link.redial_ms = now_ms + rng.random_range(50..=1_000);
        link.dead_since_ms = 0;
        link.is_over = false;
        self.obedience.lost(control);
        link.stream.take().map(|stream| stream.id)
    }

    fn drop_all(&mut self, now_ms: u64, rng: &mut ChaCha8Rng) -> Vec<(ControlId, StreamId)> {
        let all = 0..self.links.len();
        all.filter_map(|control| Some((control, self.drop_stream(control, now_ms, rng)?))).collect()
    }

    /// The control process that has this stream hangs up.
    pub(crate) fn hung_up(&mut self, id: StreamId, now_ms: u64, rng: &mut ChaCha8Rng) {
        let is_it = |link: &Link| link.stream.as_ref().is_some_and(|stream| stream.id == id);
        if let Some(control) = self.links.iter().position(is_it) {
            self.drop_stream(control, now_ms, rng);
        }
    }

    /// A control process ends, or hangs up on everybody: the stream ends behind what is on its way.
    pub(crate) fn hung_up_by(&mut self, control: ControlId) {
        let link = &mut self.links[control];
        link.is_over = link.stream.is_some();
    }

    /// Whether the stream has ended and nothing of it is on its way any more.
    pub(crate) fn has_ended(&self, control: ControlId) -> bool {
        let link = &self.links[control];
        link.is_over && link.stream.as_ref().is_some_and(|stream| stream.to_agent.is_empty())
    }

    /// Nothing passes between it and a control process for a while.
    pub(crate) fn cut(&mut self, control: ControlId, until_ms: u64) {
        self.links[control].cut_until_ms = until_ms;
    }

    /// Everything passes again.
    pub(crate) fn mend(&mut self) {
        for link in &mut self.links {
            link.cut_until_ms = 0;
        }
    }

    /// Whether anything passes to a control process that itself listens or does not. After a while without a word the
    /// agent gives the stream up, which then comes back.
    pub(crate) fn passes(
        &mut self,
        control: ControlId,
        listens: bool,
        now_ms: u64,
        rng: &mut ChaCha8Rng,
    ) -> Result<(), Option<StreamId>> {
        let link = &mut self.links[control];
        if listens && now_ms >= link.cut_until_ms {
            link.dead_since_ms = 0;
            return Ok(());
        }
        if link.dead_since_ms == 0 {
            link.dead_since_ms = now_ms;
        }
        let over = now_ms - link.dead_since_ms > PATIENCE_MS && !self.is_silent(now_ms);
        Err(if over { self.drop_stream(control, now_ms, rng) } else { None })
    }

    /// The next word to a control process that has arrived.
    pub(crate) fn heard(&mut self, control: ControlId, now_ms: u64) -> Option<(StreamId, FromAgent)> {
        let link = &mut self.links[control];
        let stream = link.stream.as_mut().filter(|_| !link.is_over)?;
        stream.to_control.receive(now_ms).map(|message| (stream.id, message))
    }

    /// Servers that were started since the last call.
    pub(crate) fn started(&mut self) -> Vec<ServerName> {
        std::mem::take(&mut self.started)
    }

    /// The next order that has arrived.
    pub(crate) fn ordered(&mut self, control: ControlId, now_ms: u64) -> Option<ToAgent> {
        if self.is_silent(now_ms) || now_ms < self.links[control].cut_until_ms {
            return None;
        }
        self.links[control].stream.as_mut()?.to_agent.receive(now_ms)
    }

    /// Sends an order, if its stream ends here.
    pub(crate) fn send(&mut self, id: StreamId, now_ms: u64, message: &ToAgent, rng: &mut ChaCha8Rng) {
        let streams = self.links.iter_mut().filter_map(|link| link.stream.as_mut());
        for stream in streams.filter(|stream| stream.id == id) {
            stream.to_agent.send(now_ms, message.clone(), rng);
        }
    }

    /// Dials when it is time to.
    pub(crate) fn dial(
        &mut self,
        control: ControlId,
        now_ms: u64,
        id: StreamId,
        rng: &mut ChaCha8Rng,
    ) -> bool {
        let link = &self.links[control];
        if link.stream.is_some() || self.is_silent(now_ms) || now_ms < link.redial_ms.max(link.cut_until_ms) {
            return false;
        }
        let mut stream = Stream::new(id);
        let hello = Hello {
            version: VERSION,
            host: Text(self.name.clone()),
            boot: format!("boot-{}", self.boot),
            labels: [(ZONE.to_owned(), self.zone.to_owned())].into(),
            servers_max: self.servers_max,
            term_seen: self.term_seen,
            wants_occupied: false,
            agones: true,
        };
        stream.to_control.send(now_ms, FromAgent::Hello(hello), rng);
        self.links[control].stream = Some(stream);
        true
    }

    /// What goes wrong with the agent in this step; streams that ended come back.
    pub(crate) fn fault(
        &mut self,
        now_ms: u64,
        scenario: &Scenario,
        rng: &mut ChaCha8Rng,
        summary: &mut Summary,
    ) -> Vec<(ControlId, StreamId)> {
        if self.is_silent(now_ms) {
            return Vec::new();
        }
        if self.hangs_at_ms.take_if(|at| *at <= now_ms).is_some() {
            summary.agent_faults += 1;
            self.silent_until_ms = now_ms + scenario.long_silence_ms(rng);
            return Vec::new();
        }
        if !happens(rng, scenario.step_ms, scenario.agent_fault_ms) {
            return Vec::new();
        }
        summary.agent_faults += 1;
        match rng.random_range(0..4) {
            // The stream stays open and nothing is said on it.
            0 => {
                self.silent_until_ms = now_ms + scenario.silence_ms(rng);
                Vec::new()
            }
            // The stream breaks at once and the agent stays away.
            1 => {
                self.silent_until_ms = now_ms + scenario.silence_ms(rng);
                self.drop_all(now_ms, rng)
            }
            // The agent starts again, adopts its servers and finds its journal.
            2 => {
                self.boot += 1;
                self.drop_all(now_ms, rng)
            }
            _ => self.drop_all(now_ms, rng),
        }
    }

    /// The machine dies with all that runs on it, and comes back empty. Results that nobody had heard are gone with it;
    /// they come back for who still hopes for them.
    pub(crate) fn die(
        &mut self,
        now_ms: u64,
        absence_ms: u64,
        rng: &mut ChaCha8Rng,
    ) -> (Vec<(ControlId, StreamId)>, Vec<Unheard>) {
        self.servers.clear();
        self.boot += 1;
        self.silent_until_ms = now_ms + absence_ms;
        (self.drop_all(now_ms, rng), std::mem::take(&mut self.unacked))
    }

    /// Lets the servers live for a step.
    pub(crate) fn pass_time(&mut self, faults: Option<&Scenario>, moment: &mut Moment<'_>) {
        let now_ms = moment.now_ms;
        for (name, server) in &mut self.servers {
            let (changed, ended) = server.pass_time(now_ms);
            self.changed |= changed;
            moment.summary.rooms_ended += ended.len() as u64;
            self.unacked.extend(ended.into_iter().map(|ended| (name.clone(), server.instance(), ended)));
            if now_ms >= server.phase_until_ms {
                let before = server.phase;
                next_phase(server, moment);
                self.changed |= server.phase != before;
            }
            let Some(scenario) = faults else { continue };
            let runs = matches!(server.phase, ProcessPhase::Ready | ProcessPhase::Starting);
            let rng = &mut *moment.rng;
            if runs && happens(rng, scenario.step_ms, scenario.crash_ms) {
                let until_ms = now_ms + rng.random_range(100..=2_000);
                server.crash(now_ms, until_ms, self.keeps_rooms);
                if rng.random_bool(0.05) {
                    self.hangs_at_ms = Some(now_ms + rng.random_range(100..=2_000));
                }
                moment.summary.servers_crashed += 1;
                self.changed = true;
            } else if server.phase == ProcessPhase::Ready && happens(rng, scenario.step_ms, scenario.crash_ms)
            {
                server.phase = ProcessPhase::Unhealthy;
                server.phase_until_ms = now_ms + rng.random_range(100..=8_000);
                self.changed = true;
            } else if happens(rng, scenario.step_ms, scenario.crash_ms) {
                server.late_until_ms = now_ms + rng.random_range(1_000..=20_000);
            }
        }
    }

    /// Reports and repeats, unless it is silent.
    pub(crate) fn speak(&mut self, now_ms: u64, rng: &mut ChaCha8Rng) {
        if self.is_silent(now_ms) {
            return;
        }
        if self.changed || now_ms >= self.report_ms {
            self.report(now_ms, rng);
        }
        let Some(obeyed) = self.obedience.obeyed() else { return };
        let Some(stream) = &mut self.links[obeyed].stream else { return };
        if now_ms >= self.resend_ms || self.unacked.len() == 1 {
            for (server, instance, ended) in &self.unacked {
                let message = FromAgent::RoomEnded {
                    server: Text(server.clone()),
                    instance: Text(instance.clone()),
                    ended: ended.clone(),
                };
                stream.to_control.send(now_ms, message, rng);
            }
            self.resend_ms = now_ms + 1_000;
        }
    }

    /// To all control processes; to those that are not obeyed under a term that nobody leads with.
    fn report(&mut self, now_ms: u64, rng: &mut ChaCha8Rng) {
        let servers = self.servers.values().map(|server| server.report(now_ms, self.keeps_rooms)).collect();
        let report =
            Report { at_ms: Some(now_ms), term: Some(self.term_seen), trouble: String::new(), servers };
        let obeyed = self.obedience.obeyed();
        let streams = self.links.iter_mut().enumerate();
        for (control, stream) in streams.filter_map(|(control, link)| Some((control, link.stream.as_mut()?)))
        {
            let term = if obeyed == Some(control) { report.term } else { Some(0) };
            // Repeated, because a report that is handled twice must change nothing.
            for _ in 0..=u8::from(rng.random_bool(0.05)) {
                stream.to_control.send(now_ms, FromAgent::Report(Report { term, ..report.clone() }), rng);
            }
        }
        if obeyed.is_some() {
            // An ended server is told once more and then forgotten.
            self.servers.retain(|_, server| server.phase != ProcessPhase::Ended);
        }
        self.report_ms = now_ms + 1_000;
        self.changed = false;
    }
}

fn next_phase(server: &mut Server, moment: &mut Moment<'_>) {
    let (phase, until_ms) = match server.phase {
        ProcessPhase::Starting => {
            moment.summary.rooms_taken_up += server.begin(moment.now_ms, moment.rng);
            (ProcessPhase::Ready, u64::MAX)
        }
        ProcessPhase::Unhealthy => (ProcessPhase::Ready, u64::MAX),
        ProcessPhase::Restarting => (ProcessPhase::Starting, moment.start_up_ms()),
        ProcessPhase::Stopping => (ProcessPhase::Ended, u64::MAX),
        ProcessPhase::Ready | ProcessPhase::Ended => return,
    };
    server.phase = phase;
    server.phase_until_ms = until_ms;
}
