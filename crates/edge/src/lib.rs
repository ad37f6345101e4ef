//! One address in front of the gameservers of fleets, for those whose clients cannot dial servers directly: an HTTP proxy that
//! hands each new session to a server that is ready, and each request of a session to its own server. Where a session
//! belongs is written in the session id that its client carries, so edges share nothing, need no sticky balancer in front of
//! them, and may be restarted. Servers come and go without a reload: the control plane is asked each second.
//!
//! Never needed by clients that can reach servers: it is in the data path, with two file descriptors and some memory for each
//! client. Never dependent on the control plane for what is known already, and never the reason why a connection ends whose
//! server lives, but by its own end.
//!
//! A WebSocket at rest costs two sockets and the state of one task without any buffer, and under TLS what the TLS library
//! holds for a connection.

mod dial;
mod headers;
mod listen;
mod members;
mod news;
mod proxy;
mod refused;
mod sid;
mod splice;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greenroom_client::ControlClient;
use greenroom_core::FleetName;
use greenroom_tls::{PairFiles, Tls, TlsError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::Socket;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use dial::Dialler;
use members::{Backend, Members};

/// How long a request waits for the news of a server that is not known yet.
const NEWS_MAX: Duration = Duration::from_secs(2);
/// How long an edge that starts waits for the news of any server at all.
const NOBODY_MAX: Duration = Duration::from_secs(5);
/// Descriptors that are not connections.
const DESCRIPTORS_RESERVED: u64 = 64;

/// What an edge is to do.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Whether other edges on this machine may listen there too. Default [`PortUse::Alone`].
    pub port_use: PortUse,
    /// The certificate that clients are shown, read again when its files change; plain HTTP without. Default none.
    pub tls: Option<PairFiles>,
    /// The fleet whose servers get sessions that name none.
    pub fleet: FleetName,
    /// Fleets whose servers are reached by their names, `?server=NAME`, as those of `fleet` are. Default none.
    pub named_fleets: Vec<FleetName>,
    /// The control plane, each of its replicas.
    pub controls: Vec<ControlClient>,
    /// Time between two questions who is there. A server that is asked for and not known is asked about at once. Default 1 s.
    pub ask_every: Duration,
    /// The authorities (PEM) of servers that speak TLS themselves; such servers cannot be reached without. Default none.
    pub backend_ca: Option<PathBuf>,
    /// Most connections of clients; each takes two file descriptors. Default what the limit of this process allows, which
    /// is raised as far as it may.
    pub connections_max: Option<usize>,
    /// How long, from being told to stop, connections may go on. Long polls that wait end with their servers' next ping, so
    /// it should be longer than 25 s, the usual time between two. WebSockets are ended one after the other meanwhile, so
    /// that their clients do not all come back at once. Default 30 s.
    pub drain: Duration,
}

/// Whether an edge wants its port for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PortUse {
    /// Whoever comes second is refused the port.
    #[default]
    Alone,
    /// The system spreads connections over all edges that listen there: one for each core, or the next one before the last
    /// one ends.
    Shared,
}

impl EdgeConfig {
    /// An edge for one fleet, all else by default.
    #[must_use]
    pub fn new(listen: SocketAddr, fleet: FleetName, controls: Vec<ControlClient>) -> Self {
        Self {
            listen,
            port_use: PortUse::default(),
            tls: None,
            fleet,
            named_fleets: Vec::new(),
            controls,
            ask_every: Duration::from_secs(1),
            backend_ca: None,
            connections_max: None,
            drain: Duration::from_secs(30),
        }
    }
}

/// Why an edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The address cannot be listened at. Name another one, or end who has it.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate or authorities cannot be used. Mend the files.
    #[error("tls cannot be set up")]
    Tls(#[from] TlsError),
}

/// An edge that has its port and does not listen yet.
#[derive(Debug)]
pub struct BoundEdge {
    config: EdgeConfig,
    socket: Socket,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
}

/// What all connections share.
pub(crate) struct Edge {
    members: Mutex<Members>,
    /// How often who is there was asked.
    asked: AtomicU64,
    /// Which of these questions was answered last.
    answered: watch::Sender<u64>,
    /// Somebody waits for the next one.
    wanted: Notify,
    pub(crate) dialler: Dialler,
    pub(crate) tasks: TaskTracker,
    /// No more connections; those that are open end in their turn.
    pub(crate) stop: CancellationToken,
    /// Whatever is left ends.
    pub(crate) over: CancellationToken,
    drain: Duration,
    /// Connections that were told to end.
    turns: AtomicU32,
}

impl Edge {
    /// Held for one look, never across a wait.
    pub(crate) fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server that `look` finds. One that is not known may have become ready a moment ago: who is there is asked at
    /// once then.
    pub(crate) async fn find(
        &self,
        look: impl Fn(&mut Members) -> Option<Arc<Backend>>,
    ) -> Option<Arc<Backend>> {
        let found = look(&mut self.members());
        if found.is_some() {
            return found;
        }
        // A question that is on its way may be older than the server.
        let next = self.asked.load(Ordering::Relaxed) + 1;
        self.wanted.notify_one();
        let mut answered = self.answered.subscribe();
        // Whether it was answered or not, the second look tells.
        drop(timeout(NEWS_MAX, answered.wait_for(|which| *which >= next)).await);
        look(&mut self.members())
    }

    /// Comes when the control plane has told who is there. Nobody is an answer only if it stays one for a while: it may have
    /// just started too, and an edge that knows nobody would take sessions of other edges for strange ones.
    async fn first_news(&self) {
        let mut answered = self.answered.subscribe();
        // Whoever answers is this edge's own, so neither wait fails.
        drop(answered.wait_for(|which| *which > 0).await);
        drop(timeout(NOBODY_MAX, answered.wait_for(|_| self.members().is_known())).await);
    }

    /// Comes when the edge has been told to stop and it is the caller's turn to end: the callers are spread evenly over the
    /// time there is.
    pub(crate) async fn turn_to_end(&self) {
        self.stop.cancelled().await;
        let stopped_at = Instant::now();
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep_until(stopped_at + self.drain.mul_f64(spread(turn))).await;
    }
}

/// The n-th of points between 0 and 1 that lie evenly however many there are.
fn spread(n: u32) -> f64 {
    (f64::from(n) * 0.618_033_988_749_895).fract()
}

impl BoundEdge {
    /// Takes the port.
    ///
    /// # Errors
    /// See [`EdgeError`].
    pub fn bind(config: EdgeConfig) -> Result<Self, EdgeError> {
        let failed = |source| EdgeError::Listen { address: config.listen, source };
        let (socket, address) = listen::bind(config.listen, config.port_use).map_err(failed)?;
        let tls = config.tls.clone().map(|pair| Tls::open(Some(pair), None)).transpose()?;
        Ok(Self { config, socket, address, tls })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves, once the control plane has told who is there, until `stop`, and `drain` longer where connections are left.
    ///
    /// # Errors
    /// See [`EdgeError`].
    pub async fn serve(self, stop: CancellationToken) -> Result<(), EdgeError> {
        let Self { config, socket, address, tls } = self;
        let connections_max = config.connections_max.unwrap_or_else(connections_allowed);
        let tasks = TaskTracker::new();
        let edge = Arc::new(Edge {
            members: Mutex::new(Members::new(config.fleet.clone())),
            asked: AtomicU64::new(0),
            answered: watch::Sender::new(0),
            wanted: Notify::new(),
            dialler: Dialler::new(config.backend_ca, tasks.clone())?,
            tasks,
            stop: stop.clone(),
            over: CancellationToken::new(),
            drain: config.drain,
            turns: AtomicU32::new(0),
        });
        let mut fleets = config.named_fleets;
        fleets.insert(0, config.fleet.clone());
        fleets.dedup();
        let aside = TaskTracker::new();
        if let Some(tls) = &tls {
            aside.spawn(Arc::clone(tls).keep_fresh(stop.clone()));
        }
        // Who is there is asked to the end: polling goes on while connections are left.
        let _at_the_end = edge.over.clone().drop_guard();
        aside.spawn(news::watch(Arc::clone(&edge), config.controls, fleets, config.ask_every));
        tokio::select! {
            () = edge.stop.cancelled() => return Ok(()),
            () = edge.first_news() => {}
        }
        let listener = listen::listen(socket).map_err(|source| EdgeError::Listen { address, source })?;
        info!(%address, fleet = %config.fleet, connections_max, tls = tls.is_some(), "edge listens");
        listen::accept(Arc::clone(&edge), listener, tls, connections_max).await;
        info!(connections = edge.tasks.len(), "edge takes no more connections");
        edge.tasks.close();
        if timeout(config.drain, edge.tasks.wait()).await.is_err() {
            info!(connections = edge.tasks.len(), "connections are left that did not end in time");
        }
        Ok(())
    }
}

/// How many clients the limit of file descriptors leaves room for, once it is raised as far as this process may.
fn connections_allowed() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Refused only by systems with a lower bound of their own; then the present limit stands.
    let _refused = setrlimit(Resource::Nofile, wanted);
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| {
        usize::try_from(files.saturating_sub(DESCRIPTORS_RESERVED) / 2).unwrap_or(usize::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_spread_evenly_however_many_there_are() {
        for count in [10u32, 100, 1000] {
            let mut points: Vec<f64> = (0..count).map(spread).collect();
            points.sort_by(f64::total_cmp);
            let widest = points.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
            assert!(widest < 3.0 / f64::from(count), "{count}: {widest}");
        }
    }
}
