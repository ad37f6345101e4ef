//! The author's door: what a node serves, its start, its run and its end.
//! Never more than one thread: everything of a node lives on the thread that runs it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use greenroom_room::{Delivery, Room, RoomKind};
use greenroom_socketio::engine::DisconnectReason;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinSet, LocalSet};

use crate::broadcast::Broadcast;
use crate::config::{Config, Ipv6};
use crate::counters::Counters;
use crate::env::EnvError;
use crate::handlers::Handlers;
use crate::handshake::ConnectRequest;
use crate::hooks::Hooks;
use crate::http;
use crate::link::Link;
use crate::namespaces::{Namespaces, Parent, Rule};
use crate::rooms::Rooms;
use crate::session::{Goodbye, Session};
use crate::state::{NodeState, run_flusher, run_wheel};
use crate::store::{self, StoreWork};
use crate::tls::{self, Certificate, TlsError};

/// Exit code of a wrong environment, as `sysexits.h` has it for wrong usage.
const EXIT_USAGE: u8 = 64;

/// How many connections the kernel may hold for us before they are accepted.
const BACKLOG: u32 = 4096;

type StartHandler = Box<dyn FnOnce(&NodeHandle)>;
type OnNamespace = Box<dyn Fn(&str)>;

/// A realtime node in the making.
///
/// ```no_run
/// use greenroom_node::Node;
/// use serde_json::json;
///
/// fn main() -> std::process::ExitCode {
///     let mut node = Node::from_env();
///     node.namespace("/")
///         .on_connect(|socket| socket.set_data(json!({"color": "black"})))
///         .on("drawing", |socket, event| socket.broadcast().forward("drawing", &event));
///     node.run()
/// }
/// ```
pub struct Node {
    config: Result<Config, EnvError>,
    namespaces: BTreeMap<String, Handlers>,
    rules: Vec<(String, Rule, Handlers)>,
    on_namespace: Option<OnNamespace>,
    pub(crate) hooks: Hooks,
    kind: Option<RoomKind>,
    on_start: Vec<StartHandler>,
}

impl Node {
    /// A node as the environment tells, see [`crate::env`]. Faults are told by [`Self::run`].
    #[must_use]
    pub fn from_env() -> Self {
        Self::with(crate::env::read(|name| std::env::var(name).ok()))
    }

    /// A node as `config` tells.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with(Ok(config))
    }

    fn with(config: Result<Config, EnvError>) -> Self {
        let namespaces = BTreeMap::from([("/".to_owned(), Handlers::default())]);
        Self {
            config,
            namespaces,
            rules: Vec::new(),
            on_namespace: None,
            hooks: Hooks::default(),
            kind: None,
            on_start: Vec::new(),
        }
    }

    /// The handlers of a namespace, which exists from the first call on; `/` always does.
    ///
    /// # Panics
    /// When the name does not begin with `/` or has a comma or question mark, which no client could ask for.
    pub fn namespace(&mut self, name: &str) -> &mut Handlers {
        assert!(
            name.starts_with('/') && !name.contains([',', '?']),
            "namespace {name:?} cannot be asked for"
        );
        self.namespaces.entry(name.to_owned()).or_default()
    }

    /// The handlers of all namespaces whose name fits a pattern, each `*` of which stands for one or more characters
    /// other than `/`. Such a namespace begins with its first client and ends with its last one; a name that was given
    /// to [`Self::namespace`] is not judged, and of several rules the first counts. Broadcasts to all of them are
    /// [`NodeHandle::children`] with the same pattern.
    ///
    /// # Panics
    /// When the pattern does not begin with `/` or has no `*`.
    pub fn namespaces(&mut self, pattern: &str) -> &mut Handlers {
        assert!(
            pattern.starts_with('/') && pattern.contains('*'),
            "pattern {pattern:?} is no name with a star"
        );
        self.rule(pattern, Rule::Pattern)
    }

    /// The same for the namespaces that `takes` says yes to. `label` is the program's own word for them, for
    /// [`NodeHandle::children`].
    pub fn namespaces_where(
        &mut self,
        label: &str,
        takes: impl Fn(&ConnectRequest) -> bool + 'static,
    ) -> &mut Handlers {
        self.rule(label, Rule::Predicate(Box::new(takes)))
    }

    fn rule(&mut self, label: &str, rule: Rule) -> &mut Handlers {
        self.rules.push((label.to_owned(), rule, Handlers::default()));
        &mut self.rules.last_mut().expect("one was just added").2
    }

    /// Called with the name of each namespace that a rule makes, before its first client is judged. A second
    /// registration replaces the first.
    pub fn on_namespace(&mut self, handler: impl Fn(&str) + 'static) -> &mut Self {
        self.on_namespace = Some(Box::new(handler));
        self
    }

    /// Makes it a room server: who connects to `/` needs a JoinToken and sits in a room of the kind `R`. The room gets
    /// all events that `/` has no handler for. A second call replaces the kind.
    pub fn rooms<R: Room>(&mut self) -> &mut Self {
        self.room_kind(RoomKind::of::<R>())
    }

    /// The same for a kind that carries default options of this process.
    pub fn room_kind(&mut self, kind: RoomKind) -> &mut Self {
        self.kind = Some(kind);
        self
    }

    /// Called on the node's thread when it listens; the place to start tasks of the program.
    pub fn on_start(&mut self, handler: impl FnOnce(&NodeHandle) + 'static) -> &mut Self {
        self.on_start.push(Box::new(handler));
        self
    }

    /// Runs until SIGTERM or SIGINT. Exit codes: 0 after an ordered end, 64 for a wrong environment, 1 when the port
    /// cannot be had. The fault is written to standard error.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ran = runtime.map_err(NodeError::Bind).and_then(|runtime| {
            let local = LocalSet::new();
            local.block_on(&runtime, async {
                let bound = self.bind()?;
                // Whoever gave port 0 reads the port here.
                println!("listening on {}", bound.address());
                let stop = bound.handle();
                bound.handle().spawn(async move {
                    wait_for_signal().await;
                    stop.shutdown();
                });
                if bound.state.certificate.is_some() {
                    let node = bound.handle();
                    bound.handle().spawn(reload_at_hangup(node));
                }
                bound.serve().await
            })
        });
        match ran {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                match error {
                    NodeError::Environment(_)
                    | NodeError::NoMembership
                    | NodeError::Delivery
                    | NodeError::Adapter { .. }
                    | NodeError::NoRedis { .. }
                    | NodeError::Redis { .. }
                    | NodeError::Tls(_) => ExitCode::from(EXIT_USAGE),
                    NodeError::Bind(_) | NodeError::Broken => ExitCode::FAILURE,
                }
            }
        }
    }

    /// Listens, without serving yet. To be called within a [`LocalSet`], which then runs [`BoundNode::serve`].
    ///
    /// # Errors
    /// When the configuration is wrong or the address cannot be had.
    pub fn bind(self) -> Result<BoundNode, NodeError> {
        let config = self.config?;
        store::check_emitters(&config)?;
        store::check_adapter(&config, self.kind.is_some())?;
        let rooms = match (self.kind, &config.membership) {
            (None, _) => None,
            (Some(kind), Some(membership)) => {
                let outlives = config.recovery.as_ref().filter(|_| config.is_shared());
                Some(Rooms::new(kind, membership, outlives.map(|recovery| recovery.delivery)))
            }
            (Some(_), None) => return Err(NodeError::NoMembership),
        };
        let delivery = config.recovery.as_ref().and_then(|recovery| recovery.delivery);
        if rooms.is_none() && config.is_shared() && delivery == Some(Delivery::DeliverFirst) {
            return Err(NodeError::Delivery);
        }
        let link = config.membership.as_ref().and_then(Link::of);
        let certificate = config.tls.clone().map(Certificate::load).transpose()?;
        let listener = listen(config.bind, config.ipv6)?;
        let address = listener.local_addr()?;
        let is_watched = self.hooks.on_packet_create.is_some();
        let parents = self
            .rules
            .into_iter()
            .map(|(label, rule, handlers)| Parent::new(label, rule, Handlers { is_watched, ..handlers }));
        let dynamic_max = config.dynamic_namespaces_max;
        let named =
            self.namespaces.into_iter().map(|(name, handlers)| (name, Handlers { is_watched, ..handlers }));
        let namespaces = Namespaces::new(named, parents.collect(), dynamic_max, self.on_namespace);
        let (ways, store_work) = store::ways(&config, link)?;
        let state = NodeState::new(config, namespaces, self.hooks, rooms, ways, certificate)?;
        Ok(BoundNode { state, listener, address, store_work, on_start: self.on_start })
    }
}

/// Why a node did not start, or did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The environment is wrong; whoever set it mends it.
    #[error(transparent)]
    Environment(#[from] EnvError),
    /// A room server cannot check tokens without knowing its fleet and instance.
    #[error("a room server needs GREENROOM_FLEET and GREENROOM_INSTANCE")]
    NoMembership,
    /// The certificate of the port cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The events of namespaces that several nodes share cannot be delivered first.
    #[error(
        "deliver_first is not for namespaces that several nodes may share: only the backplane knows the order of their \
         events, so none can be delivered before it is kept; leave GREENROOM_DELIVERY out, or write commit_first"
    )]
    Delivery,
    /// What this node is for does not go with a cluster of Node.js servers.
    #[error("GREENROOM_ADAPTER: {why}")]
    Adapter {
        /// What does not, and what to do.
        why: &'static str,
    },
    /// A Redis cannot be used by this build.
    #[error("{variable} is set, but this program was built without the feature `redis` of greenroom-node")]
    NoRedis {
        /// The variable of the environment that names it.
        variable: &'static str,
    },
    /// The address of a Redis is none.
    #[error("{variable}: {why}")]
    Redis {
        /// The variable of the environment that names it.
        variable: &'static str,
        /// What is wrong with it, and how it is written; without the text itself, which may hold a password.
        why: String,
    },
    /// The address cannot be had, or the runtime has no descriptors.
    #[error("cannot listen: {0}")]
    Bind(#[from] io::Error),
    /// A part of the node ended while it served: a fault of this library. Everybody was disconnected in order.
    #[error("a part of the node broke")]
    Broken,
}

fn listen(address: SocketAddr, ipv6: Ipv6) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart on the same port must not wait for old connections to be forgotten.
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // The system's default differs from machine to machine.
        socket2::SockRef::from(&socket).set_only_v6(ipv6 == Ipv6::Only)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let signals =
        signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    match signals {
        Ok((mut term, mut interrupt)) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        Err(error) => {
            tracing::error!(%error, "signals cannot be heard; the node ends by kill alone");
            std::future::pending::<()>().await;
        }
    }
}

/// Reads the certificate again at each SIGHUP.
async fn reload_at_hangup(node: NodeHandle) {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::hangup()) {
        Ok(mut hangup) => {
            while hangup.recv().await.is_some() {
                node.reload_certificate();
            }
        }
        Err(error) => tracing::error!(%error, "SIGHUP cannot be heard"),
    }
}

/// A node that listens.
pub struct BoundNode {
    state: Rc<NodeState>,
    listener: TcpListener,
    address: SocketAddr,
    store_work: Option<StoreWork>,
    on_start: Vec<StartHandler>,
}

impl BoundNode {
    /// Where it listens, with the port that it really got.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle to use while it serves.
    #[must_use]
    pub fn handle(&self) -> NodeHandle {
        NodeHandle(Rc::clone(&self.state))
    }

    /// Serves until [`NodeHandle::shutdown`], then ends everything in order.
    ///
    /// # Errors
    /// [`NodeError::Broken`], after the same ordered end.
    pub async fn serve(self) -> Result<(), NodeError> {
        let Self { state, listener, address, store_work, on_start } = self;
        let connections_max = state.config.connections_max;
        tracing::info!(%address, connections_max, "node listens");
        let mut parts = JoinSet::new();
        parts.spawn_local(run_wheel(Rc::clone(&state)));
        parts.spawn_local(run_flusher(Rc::clone(&state)));
        parts.spawn_local(crate::reactor::run(Rc::clone(&state)));
        parts.spawn_local(crate::flush::run(Rc::clone(&state)));
        if state.certificate.is_some() {
            parts.spawn_local(tls::watch(Rc::clone(&state)));
        }
        if state.recovery.is_some() {
            parts.spawn_local(crate::recovery::run(Rc::clone(&state)));
        }
        if state.recovery.is_some() && state.rooms.is_some() {
            parts.spawn_local(crate::rooms::run(Rc::clone(&state)));
        }
        if let Some(work) = store_work {
            let handle = NodeHandle(Rc::clone(&state));
            handle.spawn(work);
            handle.spawn(crate::peers::run(Rc::clone(&state)));
        }
        store::hear_emitters(&state);
        store::join_cluster(&state);
        if state.link.is_some() {
            parts.spawn_local(crate::link::run(Rc::clone(&state)));
        }
        let handle = NodeHandle(Rc::clone(&state));
        for start in on_start {
            start(&handle);
        }
        let outcome = tokio::select! {
            () = http::accept(Rc::clone(&state), listener) => Ok(()),
            _ = parts.join_next() => Err(NodeError::Broken),
        };
        state.stopping.cancel();
        end(&state).await;
        tracing::info!("node stopped");
        outcome
    }
}

/// Ends rooms or leaves them to the next process, ends sessions, then waits until results and last words are out.
async fn end(state: &Rc<NodeState>) {
    if let Some(rooms) = &state.rooms {
        rooms.end(state).await;
    }
    let sessions = || -> Vec<Rc<Session>> { state.sessions.borrow().values().cloned().collect() };
    for session in sessions().into_iter().filter(|session| !session.follows()) {
        session.close(DisconnectReason::ServerShuttingDown, Goodbye::Polite(Some(1001)));
    }
    crate::moves::lead_away(state).await;
    for session in sessions() {
        session.close(DisconnectReason::ServerShuttingDown, Goodbye::Polite(Some(1001)));
    }
    let flushed = async {
        if let Some(recovery) = &state.recovery {
            recovery.wait_flushed(state).await;
        }
        if let Some(link) = &state.link {
            link.wait_delivered().await;
        }
        while !state.sessions.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(state.config.flush_timeout, flushed).await.is_err() {
        tracing::warn!("the node stops before all last words were heard");
    }
    for session in sessions() {
        session.end();
    }
    state.closed.cancel();
}

/// A running node, for handlers and tasks on its thread. Clones are the same node.
#[derive(Clone)]
pub struct NodeHandle(pub(crate) Rc<NodeState>);

impl NodeHandle {
    /// Everybody in a namespace; `None` when the node has no such namespace.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<Broadcast> {
        Some(Broadcast::new(&self.0, &self.0.namespaces.get(name)?))
    }

    /// Everybody in the namespaces that live now of one rule, given by its pattern or label; `None` when the node has
    /// no such rule.
    #[must_use]
    pub fn children(&self, rule: &str) -> Option<Broadcast> {
        Some(Broadcast::of_children(&self.0, self.0.namespaces.children(rule)?))
    }

    /// Everybody in `/`.
    pub fn everybody(&self) -> Broadcast {
        self.namespace("/").expect("every node has its main namespace")
    }

    /// Everybody in a group of `/`. A socket's id is a group.
    pub fn to(&self, group: impl Into<String>) -> Broadcast {
        self.everybody().to(group)
    }

    /// Sends an event with one argument to everybody in `/`.
    pub fn emit<T: serde::Serialize + ?Sized>(&self, event: &str, argument: &T) {
        self.everybody().emit(event, argument);
    }

    /// Runs a task on the node's thread, until the node has ended.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let closed = self.0.closed.clone();
        self.0.spawn(async move {
            let _ended = closed.run_until_cancelled(task).await;
        });
    }

    /// Sessions that are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.open_sessions.get()
    }

    /// Rooms that live now.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.0.rooms.as_ref().map_or(0, Rooms::count)
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.counting.read()
    }

    /// Reads the certificate's files again, see [`crate::config::TlsFiles`]. Nothing happens on a plaintext port.
    pub fn reload_certificate(&self) {
        tls::reload(&self.0);
    }

    /// Begins the end: no new connection, sockets hear `server shutting down`. Rooms end as stopped, unless they are kept
    /// beyond this process and its agent says that another one of the same server comes, which goes on with them. Repeated
    /// calls do nothing.
    pub fn shutdown(&self) {
        self.0.stopping.cancel();
    }
}
