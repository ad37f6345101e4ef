//! The loop around the supervisor: gathers events, writes the journal, does the effects.
//!
//! Never decides: whatever depends on state is the supervisor's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use greenroom_core::{InstanceId, ServerName};
use greenroom_provider::{Exit, Provider, Running, StartSpec};
use greenroom_wire::agent::{FromAgent, Hello, ToAgent, VERSION};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::control_stream::{self, Dialler};
use crate::controls::Controls;
use crate::dial::Ways;
use crate::journal::{Journal, JournalFile};
use crate::keeping::{self, Around};
use crate::last_words::last_words;
use crate::lock::Lock;
use crate::obedience::ControlId;
use crate::outbox::Outbox;
use crate::probe::Prober;
use crate::sdk::{self, Asked, Calls, SdkPorts};
use crate::supervisor::{Effect, Event, LinkId, Process, Settings, Supervisor};
use crate::{AgentConfig, JournalError, OnExit, RunError, link, logs, memory};

/// Inputs that may wait for the loop; whoever brings more waits.
const INBOX_MAX: usize = 1024;
/// Inputs handled before the journal is written once for all of them.
const BATCH_MAX: usize = 256;
/// Time between two attempts to adopt a process when the engine does not answer.
const ADOPT_AGAIN: Duration = Duration::from_secs(1);
/// How much of the end of an output is looked at for last words.
const LAST_WORDS_BYTES: usize = 4096;
/// Longest time to send the last messages to control.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the tasks bring to the loop.
#[derive(Debug)]
pub(crate) enum Input {
    /// For the supervisor.
    Event(Event),
    /// A stream to a replica of control is open; hello was said.
    ControlUp(ControlId, Outbox),
    /// A replica said this.
    ControlSaid(ControlId, ToAgent),
    /// The stream to a replica is over.
    ControlLost(ControlId),
    /// A link connection says hello.
    Linking(LinkId, Outbox),
    /// Somebody calls the SDK.
    Sdk(Asked),
}

/// One message as one line of JSON.
pub(crate) fn to_line(message: &impl Serialize) -> Arc<str> {
    serde_json::to_string(message).expect("a wire message has only string keys").into()
}

/// What the supervisor is told of this agent.
fn settings(config: &AgentConfig, link: SocketAddr, sdk: SocketAddr) -> Settings {
    Settings {
        host: config.host.clone(),
        control: config.control.clone(),
        control_ca: config.tls.as_ref().map(|tls| tls.ca.clone()),
        public_host: config.public_host.clone(),
        bind: config.bind,
        ports: config.ports.clone(),
        dialled: config.dialled.clone(),
        holds: config.around.as_ref().map(|around| around.holds).unwrap_or_default(),
        allowed_origins: config.allowed_origins.clone(),
        servers_max: config.servers_max,
        link,
        sdk,
        agones: cfg!(feature = "agones"),
        boards: greenroom_backplane::Limits::default(),
    }
}

pub(crate) async fn run(
    config: AgentConfig,
    provider: Arc<dyn Provider>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let ways = Ways::open(&config)?;
    if config.ports.is_empty() || *config.ports.start() == 0 {
        let value = format!("{}-{}", config.ports.start(), config.ports.end());
        return Err(RunError::Config {
            key: "ports",
            value,
            reason: "it must hold at least one port, from 1 on",
        });
    }
    let folder = config.data_dir.join("agent");
    std::fs::create_dir_all(&folder).map_err(|source| RunError::Folder { folder: folder.clone(), source })?;
    let _lock = Lock::take(&folder, &config.host)?;
    let (listeners, journal) = open(&config, &folder).await?;
    let [link, sdk] = [journal.link_port, journal.sdk_port].map(|port| (Ipv4Addr::LOCALHOST, port).into());
    let clock = Clock::new();
    let secrets = Box::new(|| random_hex().expect("the system gave random bytes before"));
    let term_seen = Arc::new(AtomicU64::new(journal.term_seen));
    let hello = Hello {
        version: VERSION,
        host: config.host.clone().into(),
        boot: random_hex().map_err(RunError::Random)?,
        labels: config.labels.clone(),
        servers_max: config.servers_max,
        term_seen: journal.term_seen,
        wants_occupied: config.around.is_some(),
        agones: cfg!(feature = "agones"),
    };
    let (inbox, inputs) = mpsc::channel(INBOX_MAX);
    let mut shell = Shell {
        supervisor: Supervisor::new(settings(&config, link, sdk), journal, secrets, clock.now()),
        journal: JournalFile::new(&folder),
        provider,
        inbox: inbox.clone(),
        tasks: JoinSet::new(),
        controls: Controls::default(),
        links: BTreeMap::new(),
        sdk_calls: Calls::default(),
        sdk_ports: SdkPorts::default(),
        overflows_total: 0,
        around: config.around.clone(),
        prober: Prober::new(reachable(config.bind)),
        bind: config.bind,
        term_seen: term_seen.clone(),
        clock,
    };
    tracing::info!(host = %config.host, control = config.control, %link, %sdk, "agent runs");
    let mut streams = JoinSet::new();
    let links_max = 2 * config.servers_max as usize + 64;
    let [link_listener, sdk_listener] = listeners;
    streams.spawn(link::listen(link_listener, links_max, inbox.clone()));
    // A watch or two and a connection for the rest, for each server.
    streams.spawn(sdk::listen(sdk_listener, 2 * links_max, inbox.clone()));
    streams.spawn(hear_engine(config.around.clone(), inbox.clone()));
    let hang_up = CancellationToken::new();
    let dialler = |id, way| Dialler {
        id,
        way,
        token: config.token.clone(),
        hello: hello.clone(),
        term_seen: term_seen.clone(),
    };
    let control = control_stream::keep_all(ways, dialler, &inbox, &hang_up);
    drop(inbox);
    let outcome = shell.run(inputs, config.on_exit, &stop).await;
    hang_up.cancel();
    // The last report may not arrive; control then learns from the silence.
    let _ = tokio::time::timeout(FAREWELL, control.join_all()).await;
    let running = shell.supervisor.servers_live();
    tracing::info!(host = %config.host, running, "agent ends");
    outcome
}

/// The listeners of link and SDK on their ports, and the journal to go on with.
async fn open(config: &AgentConfig, folder: &Path) -> Result<([TcpListener; 2], Journal), RunError> {
    let found = JournalFile::new(folder).read()?;
    let servers = found.as_ref().map_or(0, |journal| journal.servers.len());
    let results = found.as_ref().map_or(0, |journal| journal.room_ended.len());
    match &found {
        Some(journal) if journal.host.0 != config.host && servers + results > 0 => {
            let (wanted, found) = (config.host.clone(), journal.host.0.clone());
            return Err(RunError::OtherHost { wanted, found, servers });
        }
        Some(_) | None => {}
    }
    let mut journal = found.unwrap_or_else(|| Journal::empty(config.host.clone()));
    let link = bind(&mut journal.link_port, servers).await?;
    let sdk = bind(&mut journal.sdk_port, servers).await?;
    Ok(([link, sdk], journal))
}

/// Binds this port, or another one where no server needs it.
async fn bind(port: &mut u16, servers: usize) -> Result<TcpListener, RunError> {
    let listener = match link::bind(*port).await {
        Ok(listener) => listener,
        Err(source) if servers > 0 => return Err(RunError::LinkPort { port: *port, servers, source }),
        Err(_) => link::bind(0).await.map_err(|source| RunError::Link { source })?,
    };
    *port = listener.local_addr().map_err(|source| RunError::Link { source })?.port();
    Ok(listener)
}

fn random_hex() -> Result<String, getrandom::Error> {
    let (high, low) = (getrandom::u64()?, getrandom::u64()?);
    Ok(format!("{high:016x}{low:016x}"))
}

/// An address on this machine at which a server that binds `bind` answers.
fn reachable(bind: IpAddr) -> Vec<IpAddr> {
    match bind {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => vec![Ipv4Addr::LOCALHOST.into()],
        // Some programs listen for IPv4 alone whatever they are told.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
        IpAddr::V4(_) | IpAddr::V6(_) => vec![bind],
    }
}

struct Shell {
    supervisor: Supervisor,
    journal: JournalFile,
    provider: Arc<dyn Provider>,
    inbox: mpsc::Sender<Input>,
    tasks: JoinSet<()>,
    controls: Controls,
    links: BTreeMap<LinkId, Outbox>,
    sdk_calls: Calls,
    sdk_ports: SdkPorts,
    overflows_total: u64,
    around: Option<Around>,
    prober: Prober,
    bind: IpAddr,
    term_seen: Arc<AtomicU64>,
    clock: Clock,
}

impl Shell {
    async fn run(
        &mut self,
        mut inputs: mpsc::Receiver<Input>,
        on_exit: OnExit,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        let mut stopping = false;
        let mut effects = self.supervisor.handle(self.clock.now(), Event::Tick);
        loop {
            self.persist().await?;
            for effect in effects.drain(..) {
                self.apply(effect);
            }
            self.tell_occupancy();
            if stopping && self.supervisor.is_done(self.clock.now()) {
                return Ok(());
            }
            let wake_at = self.supervisor.wake_at().map(|at| self.clock.instant(at));
            let input = tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {
                    if on_exit == OnExit::LeaveServers {
                        return Ok(());
                    }
                    stopping = true;
                    Input::Event(Event::StopAll)
                }
                Some(input) = inputs.recv() => input,
                Some(ended) = self.tasks.join_next() => {
                    ended.expect("a task neither panics nor is aborted while the loop runs");
                    continue;
                }
                () = tokio::time::sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {
                    Input::Event(Event::Tick)
                }
            };
            self.take(input, &mut effects);
            for _ in 1..BATCH_MAX {
                let Ok(input) = inputs.try_recv() else { break };
                self.take(input, &mut effects);
            }
        }
    }

    fn take(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let event = match input {
            Input::ControlUp(control, outbox) => {
                self.controls.up(control, outbox);
                Event::ControlUp
            }
            Input::ControlSaid(control, order) => {
                let Some(event) = self.controls.said(control, order, self.supervisor.term_seen()) else {
                    return;
                };
                event
            }
            Input::ControlLost(control) => {
                let Some(event) = self.controls.lost(control) else { return };
                event
            }
            Input::Linking(link, outbox) => {
                self.links.insert(link, outbox);
                return;
            }
            Input::Sdk(asked) => self.sdk_calls.open(asked, &mut self.tasks, &self.inbox),
            Input::Event(event) => event,
        };
        if let Event::LinkLost { link } = &event {
            self.links.remove(link);
        }
        if let Event::SdkLost { call } = &event {
            self.sdk_calls.end(*call);
        }
        let now = self.clock.now();
        // Before anything else: what is reported of this event must not say more than the engine does by now.
        if let Some(said) = self.around.as_mut().and_then(|around| keeping::news(&mut around.kept)) {
            effects.extend(self.supervisor.handle(now, Event::Kept(said)));
        }
        effects.extend(self.supervisor.handle(now, event));
    }

    /// Writes the journal if the last events changed it: nothing is done or told that a crash would forget.
    async fn persist(&mut self) -> Result<(), JournalError> {
        self.term_seen.store(self.supervisor.term_seen(), Ordering::Relaxed);
        let Some(journal) = self.supervisor.take_journal() else { return Ok(()) };
        let file = self.journal.clone();
        let written = tokio::task::spawn_blocking(move || file.write(&journal)).await;
        written.expect("writing the journal does not panic")
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Start { port, spec } => {
                let address = SocketAddr::new(self.bind, port);
                self.tasks.spawn(start(self.provider.clone(), address, spec, self.inbox.clone()));
            }
            Effect::Adopt { server, instance, handle } => {
                let (provider, inbox) = (self.provider.clone(), self.inbox.clone());
                self.tasks.spawn(async move {
                    let found = loop {
                        match provider.adopt(&instance, handle.as_ref()).await {
                            Ok(found) => break found,
                            Err(error) => tracing::warn!(%server, %error, "adoption failed; tried again"),
                        }
                        tokio::time::sleep(ADOPT_AGAIN).await;
                    };
                    let (process, exit) = found.map(split).unzip();
                    tell(
                        &inbox,
                        Event::Adopted { server: server.clone(), instance: instance.clone(), found: process },
                    )
                    .await;
                    if let Some(exit) = exit {
                        ended(provider, server, instance, exit.await, 0, inbox).await;
                    }
                });
            }
            Effect::Signal { server, handle, signal } => {
                let provider = self.provider.clone();
                self.tasks.spawn(async move {
                    if let Err(error) = provider.signal(&handle, signal).await {
                        tracing::warn!(%server, %error, "a gameserver was not signalled");
                    }
                });
            }
            Effect::Probe { server, instance, port, probe } => {
                let (prober, inbox) = (self.prober.clone(), self.inbox.clone());
                self.tasks.spawn(async move {
                    let outcome = prober.probe(port, &probe).await.map_err(|error| error.failure());
                    tell(&inbox, Event::Probed { server, instance, outcome }).await;
                });
            }
            Effect::Tell(_) if self.controls.is_alone() => {}
            Effect::Tell(message) => self.tell_control(memory::weighed(*message)),
            Effect::ReadLogs { request, server, offset, bytes_max } => {
                let Some(control) = self.controls.obeyed().cloned() else { return };
                let read = logs::read(self.provider.clone(), control, request, server, offset, bytes_max);
                self.tasks.spawn(read);
            }
            Effect::TellServer { link, message } => self.tell_server(link, to_line(&message)),
            Effect::Deliver { links, relay } => {
                let line = to_line(&greenroom_wire::link::ToServer::Deliver(relay));
                for link in links {
                    self.tell_server(link, line.clone());
                }
            }
            Effect::TellSdk { call, told } => self.sdk_calls.tell(call, told),
            Effect::EndSdk { call } => self.sdk_calls.end(call),
            Effect::OpenSdk { server, port } => {
                self.sdk_ports.open(server, port, &mut self.tasks, &self.inbox);
            }
            Effect::CloseSdk { server } => self.sdk_ports.close(&server),
            Effect::CloseLink { link, why } => {
                tracing::warn!(link = link.0, reason = why, "link refused");
                if let Some(outbox) = self.links.remove(&link) {
                    outbox.close();
                }
            }
        }
    }

    fn tell_occupancy(&self) {
        let Some(around) = &self.around else { return };
        let now = self.supervisor.occupancy();
        around.occupancy.send_if_modified(|before| before.replace(now) != Some(now));
    }

    fn tell_control(&mut self, message: FromAgent) {
        for overflow in self.controls.tell(message) {
            self.overflows_total += 1;
            let queued_bytes = overflow.queued_bytes;
            tracing::warn!(queued_bytes, overflows_total = self.overflows_total, "control reads too slowly");
        }
    }

    fn tell_server(&mut self, link: LinkId, line: Arc<str>) {
        let Some(outbox) = self.links.get(&link) else { return };
        if let Err(overflow) = outbox.push(line) {
            self.overflows_total += 1;
            let queued_bytes = overflow.queued_bytes;
            let overflows_total = self.overflows_total;
            tracing::warn!(
                link = link.0,
                queued_bytes,
                overflows_total,
                "a gameserver reads its link too slowly"
            );
        }
    }
}

fn split(running: Running) -> (Process, greenroom_provider::BoxFuture<'static, greenroom_provider::Exit>) {
    (Process { handle: running.handle, pid: running.pid }, running.exit)
}

/// Wakes the agent whenever the engine has said something.
async fn hear_engine(around: Option<Around>, inbox: mpsc::Sender<Input>) {
    let Some(mut kept) = around.map(|around| around.kept) else { return };
    while kept.changed().await.is_ok() {
        tell(&inbox, Event::Tick).await;
    }
}

/// The receiver is gone only when the agent ends; then nobody asks.
async fn tell(inbox: &mpsc::Sender<Input>, event: Event) {
    let _ = inbox.send(Input::Event(event)).await;
}

async fn start(
    provider: Arc<dyn Provider>,
    address: SocketAddr,
    spec: Box<StartSpec>,
    inbox: mpsc::Sender<Input>,
) {
    let (server, instance) = (spec.server.clone(), spec.instance.clone());
    if let Err(error) = TcpListener::bind(address).await {
        tracing::info!(%server, %address, %error, "the port cannot be bound");
        return tell(&inbox, Event::PortTaken { server, instance }).await;
    }
    let output_from = provider.logs(&server, None, 1).await.map_or(0, |piece| piece.next_offset);
    match provider.start(&spec).await {
        Ok(running) => {
            let (process, exit) = split(running);
            let (to, of) = (server.clone(), instance.clone());
            tell(&inbox, Event::Started { server: to, instance: of, process }).await;
            ended(provider, server, instance, exit.await, output_from, inbox).await;
        }
        Err(error) => tell(&inbox, Event::NotStarted { server, instance, message: error.to_string() }).await,
    }
}

/// Tells that a process ended, with the last words of its output, which began at `output_from`.
async fn ended(
    provider: Arc<dyn Provider>,
    server: ServerName,
    instance: InstanceId,
    exit: Exit,
    output_from: u64,
    inbox: mpsc::Sender<Input>,
) {
    let last_words = match provider.logs(&server, None, LAST_WORDS_BYTES).await {
        Ok(piece) => {
            let own = usize::try_from(piece.next_offset.saturating_sub(output_from)).unwrap_or(usize::MAX);
            let begin = piece.bytes.len().saturating_sub(own);
            last_words(&piece.bytes[begin..])
        }
        Err(_unreadable) => String::new(),
    };
    tell(&inbox, Event::Exited { server, instance, exit, last_words }).await;
}
