//! A control that is played by the test, and an agent under it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use greenroom_agent::{AgentConfig, OnExit, RunError};
use greenroom_core::{FleetName, Revision, RoomId, ServerName};
use greenroom_wire::agent::{
    FromAgent, Hello, ProbeWord, ProcessPhase, Report, ServerReport, StartOrder, ToAgent,
};
use greenroom_wire::api::{GameserverStatus, LogsAnswer};
use greenroom_wire::token::PublicKeys;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::child;

const PATIENCE: Duration = Duration::from_secs(30);

/// What control has heard, and what it says next.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) hellos: Vec<Hello>,
    pub(crate) reports: Vec<Report>,
    pub(crate) ended: Vec<String>,
    pub(crate) refused: Vec<String>,
    pub(crate) logs: BTreeMap<u64, Result<LogsAnswer, String>>,
    /// When a silent session ended.
    pub(crate) hung_up: Vec<Duration>,
    /// What fleets are told to have.
    pub(crate) peers: BTreeMap<String, Vec<GameserverStatus>>,
    pub(crate) peers_asked: u32,
    orders: Vec<ToAgent>,
    asked: u64,
}

impl Heard {
    pub(crate) fn server(&self, name: &str) -> Option<&ServerReport> {
        self.reports.last()?.servers.iter().find(|server| server.server.as_str() == name)
    }
}

/// How sessions are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Welcomes and acknowledges results.
    Whole,
    /// Welcomes, acknowledges nothing.
    NoAcks,
    /// Welcomes, then neither reads nor writes.
    Frozen,
}

/// One control, one data folder, and whatever runs in it.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) config: AgentConfig,
    heard: Arc<Mutex<Heard>>,
    manner: watch::Sender<Manner>,
    _control: JoinSet<()>,
    agent: JoinSet<Result<(), RunError>>,
    stop: CancellationToken,
}

/// Ports for the next world: this test program's own, and each world's own.
fn ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let mine = u16::try_from(std::process::id() % 40).unwrap() * 256;
    20_000 + mine + NEXT.fetch_add(8, Ordering::Relaxed)
}

impl World {
    /// A control that waits for its agent.
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (manner, manners) = watch::channel(Manner::Whole);
        let mut control = JoinSet::new();
        control.spawn(serve(listener, heard.clone(), manners));
        let folder = tempfile::tempdir().unwrap();
        let mut config = AgentConfig::new(
            "host-1".parse().unwrap(),
            format!("http://{address}"),
            folder.path().to_owned(),
        );
        let first = ports();
        config.ports = first..=first + 7;
        config.servers_max = 8;
        config.on_exit = OnExit::StopServers;
        let (agent, stop) = (JoinSet::new(), CancellationToken::new());
        Self { folder, config, heard, manner, _control: control, agent, stop }
    }

    /// With an agent.
    pub(crate) async fn with_agent() -> Self {
        let mut world = Self::new().await;
        world.start_agent();
        world
    }

    pub(crate) fn start_agent(&mut self) {
        self.stop = CancellationToken::new();
        self.agent.spawn(greenroom_agent::run(self.config.clone(), self.stop.clone()));
    }

    /// Ends the agent as a crash does: nothing of it runs on.
    pub(crate) async fn abort_agent(&mut self) {
        self.agent.abort_all();
        while self.agent.join_next().await.is_some() {}
    }

    /// Tells the agent to stop and gives its outcome.
    pub(crate) async fn stop_agent(&mut self) -> Result<(), RunError> {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.agent.join_next()).await.expect("it ends in time");
        ended.expect("an agent runs").unwrap()
    }

    pub(crate) fn order(&self, order: ToAgent) {
        self.heard.lock().unwrap().orders.push(order);
    }

    /// Orders a server that is this program as a gameserver, with additional environment.
    pub(crate) fn start(&self, server: &str, env: &[(&str, &str)]) {
        self.order(start_order(1, gameserver(server, env)));
    }

    pub(crate) fn stop(&self, server: &str) {
        let server = name(server).into();
        self.order(ToAgent::Stop { term: 1, server, reason: "the test says so".to_owned() });
    }

    pub(crate) fn manner(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    /// Waits until `find` finds something in what was heard.
    pub(crate) async fn wait<T>(&self, what: &str, find: impl Fn(&Heard) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = find(&self.heard.lock().unwrap()) {
                return found;
            }
            if Instant::now() > deadline {
                let heard = self.heard.lock().unwrap();
                panic!("{what}: not within {PATIENCE:?}; last {:#?}, {heard:?}", heard.reports.last());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the server is told to be in this phase.
    pub(crate) async fn phase(&self, server: &str, phase: ProcessPhase) -> ServerReport {
        let what = format!("{server} is {phase:?}");
        self.wait(&what, |heard| heard.server(server).filter(|told| told.phase == phase).cloned()).await
    }

    /// Waits until the server's output has this text.
    pub(crate) async fn output(&self, server: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = {
                let mut heard = self.heard.lock().unwrap();
                heard.asked += 1;
                let (request, server) = (heard.asked, name(server).into());
                heard.orders.push(ToAgent::ReadLogs { request, server, offset: Some(0), bytes_max: 200_000 });
                request
            };
            let logs = self.wait("logs", |heard| heard.logs.get(&request).cloned()).await;
            // Before its process is there, it has no output.
            let logs = logs.map_or_else(|none| none, |logs| logs.text);
            if logs.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "{server} did not print {text:?}: {logs}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What this fleet is told to have from now on.
    pub(crate) fn peers(&self, fleet: &str, peers: Vec<GameserverStatus>) {
        self.heard.lock().unwrap().peers.insert(fleet.to_owned(), peers);
    }

    /// How often control has been called so far.
    pub(crate) fn hellos(&self) -> usize {
        self.heard.lock().unwrap().hellos.len()
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.path().join("agent").join("journal.json")
    }
}

impl Drop for World {
    /// Whatever the test did: nothing runs on.
    fn drop(&mut self) {
        let heard = self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pids: std::collections::BTreeSet<u32> =
            heard.reports.iter().flat_map(|report| &report.servers).filter_map(|server| server.pid).collect();
        for pid in pids.into_iter().filter(|pid| runs(*pid)) {
            let _ = std::process::Command::new("kill").args(["-9", "--", &format!("-{pid}")]).status();
        }
    }
}

/// Whether the process is there and not a zombie.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

pub(crate) fn kill(pid: u32) {
    let status = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

pub(crate) fn name(server: &str) -> ServerName {
    server.parse().unwrap()
}

pub(crate) fn room(room: &str) -> RoomId {
    room.parse().unwrap()
}

/// This program as a gameserver.
pub(crate) fn gameserver(server: &str, env: &[(&str, &str)]) -> StartOrder {
    let program = std::env::current_exe().unwrap().display().to_string();
    let command = [program.as_str(), "the_gameserver_program", "--exact", "--nocapture"];
    let mut order = order(server, &command);
    order.env.insert(child::IS_CHILD.to_owned(), "1".to_owned());
    order.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    order
}

pub(crate) fn order(server: &str, command: &[&str]) -> StartOrder {
    StartOrder {
        server: name(server).into(),
        fleet: "arena".parse::<FleetName>().unwrap().into(),
        revision: "r1".parse::<Revision>().unwrap().into(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        probe: ProbeWord::EngineIo,
        stop_grace_ms: 5_000,
        min_ready_ms: 0,
        rooms_per_server: 1,
        seats_per_room: 4,
        ports: None,
        agones: false,
    }
}

pub(crate) fn start_order(term: u64, order: StartOrder) -> ToAgent {
    ToAgent::Start { term, order: Box::new(order) }
}

async fn serve(listener: TcpListener, heard: Arc<Mutex<Heard>>, manners: watch::Receiver<Manner>) {
    let mut sessions = JoinSet::new();
    loop {
        let (stream, _): (TcpStream, SocketAddr) = listener.accept().await.unwrap();
        sessions.spawn(session(stream, heard.clone(), manners.clone()));
    }
}

/// One session, until the agent leaves or the manner changes.
async fn session(stream: TcpStream, heard: Arc<Mutex<Heard>>, mut manners: watch::Receiver<Manner>) {
    let manner = *manners.borrow_and_update();
    let began = Instant::now();
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let welcome = ToAgent::Welcome { version: 1, term: 1, keys: PublicKeys::default(), hears_held: true };
    let mut say = vec![welcome];
    let mut look = tokio::time::interval(Duration::from_millis(5));
    loop {
        for order in say.drain(..) {
            let text = serde_json::to_string(&order).unwrap();
            if socket.send(Message::text(text)).await.is_err() {
                return;
            }
        }
        if manner == Manner::Frozen {
            // Held open, not read: pings are not answered. The peer's hang-up is seen at the socket.
            let mut byte = [0];
            while socket.get_ref().peek(&mut byte).await.is_ok_and(|count| count > 0)
                && !is_over(socket.get_ref())
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            heard.lock().unwrap().hung_up.push(began.elapsed());
            return;
        }
        tokio::select! {
            changed = manners.changed() => return drop(changed),
            _ = look.tick() => say.append(&mut heard.lock().unwrap().orders),
            message = socket.next() => {
                let Some(Ok(message)) = message else { return };
                let Message::Text(text) = message else { continue };
                let message: FromAgent = serde_json::from_str(&text).unwrap();
                let ack = hear(&mut heard.lock().unwrap(), message);
                say.extend(ack.filter(|_| manner == Manner::Whole));
            }
        }
    }
}

/// Whether the peer has closed: reading ahead shows the end of the stream behind what waits.
fn is_over(stream: &TcpStream) -> bool {
    let mut waiting = vec![0; 1 << 20];
    loop {
        match stream.try_read(&mut waiting) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

fn hear(heard: &mut Heard, message: FromAgent) -> Option<ToAgent> {
    match message {
        FromAgent::Hello(hello) => heard.hellos.push(hello),
        FromAgent::Report(report) => heard.reports.push(report),
        FromAgent::RoomEnded { ended, .. } => {
            heard.ended.push(ended.room.to_string());
            return Some(ToAgent::RoomEndedAck { room: ended.room, epoch: ended.epoch });
        }
        FromAgent::Refused { message, .. } => heard.refused.push(message),
        FromAgent::ReadPeers { fleet } => {
            heard.peers_asked += 1;
            let known = heard.peers.get(fleet.as_str()).cloned();
            let outcome = known.ok_or_else(|| format!("there is no fleet {fleet}"));
            return Some(ToAgent::Peers { fleet, outcome });
        }
        FromAgent::Logs { request, outcome } => {
            heard.logs.insert(request, outcome);
        }
    }
    None
}
