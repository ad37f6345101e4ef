//! What all parts of one running node share, on its one thread.
//! Never does protocol: it holds the tables, the clock, the wheel and the list of connections to flush.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use greenroom_backplane::way::Way;
use greenroom_socketio::Sid;
use greenroom_socketio::engine::Moment;
use greenroom_socketio::ids::{ID_RANDOM_BYTES, Id};
use greenroom_socketio::packet::AckId;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bucket::Bucket;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::counters::Counting;
use crate::flush::Held;
use crate::hooks::Hooks;
use crate::http::Fresh;
use crate::link::Link;
use crate::namespace::Namespace;
use crate::namespaces::Namespaces;
use crate::peers::Peers;
use crate::reactor::Reactor;
use crate::recovery::{Port, Recovery};
use crate::rooms::Rooms;
use crate::session::Session;
use crate::socket::SocketInner;
use crate::tls::Certificate;
use crate::wheel::Wheel;

/// Bytes of the one buffer that all connections read into.
const READ_BYTES: usize = 64 * 1024;

/// Bytes of the one buffer in which small frames are put together for a write.
const GATHERED_BYTES: usize = 16 * 1024;

/// What the wheel brings back.
pub(crate) enum Due {
    /// This connection has not sent a request.
    Fresh(Weak<Fresh>),
    /// Some deadline of this session.
    Session(Weak<Session>),
    /// The client's answer to this event of this socket is late.
    Ack(Weak<SocketInner>, AckId),
}

pub(crate) struct NodeState {
    pub(crate) config: Config,
    pub(crate) counting: Counting,
    /// By sid, those included that are saying goodbye.
    pub(crate) sessions: RefCell<HashMap<Sid, Rc<Session>>>,
    pub(crate) open_sessions: Cell<usize>,
    pub(crate) namespaces: Namespaces,
    pub(crate) hooks: Hooks,
    pub(crate) rooms: Option<Rooms>,
    pub(crate) link: Option<Link>,
    /// The port speaks TLS.
    pub(crate) certificate: Option<Certificate>,
    pub(crate) peers: Peers,
    pub(crate) recovery: Option<Recovery>,
    /// One read buffer for all: a connection at rest owns none.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    pub(crate) gathered: RefCell<Box<[u8]>>,
    pub(crate) reactor: Reactor,
    /// Open TCP connections, of sessions or not.
    pub(crate) connections: Cell<usize>,
    /// The same by the other end's address.
    addresses: RefCell<HashMap<IpAddr, usize>>,
    admission: Cell<Bucket>,
    /// Cancelled when the node stops taking connections.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when its end is complete.
    pub(crate) closed: CancellationToken,
    pub(crate) tasks: TaskTracker,
    wheel: RefCell<Wheel<Due>>,
    wheel_wakes_at: Cell<Moment>,
    wheel_changed: Notify,
    dirty: RefCell<Vec<Rc<Session>>>,
    dirty_changed: Notify,
    pub(crate) held: Held,
    /// The reactor handles a batch, and flushes at its end itself.
    is_in_batch: Cell<bool>,
    started_at: Instant,
}

/// The ways to others, before the node serves.
pub(crate) struct Ways {
    /// This node's name among them.
    pub(crate) node: String,
    pub(crate) link: Option<Link>,
    pub(crate) store: Option<Way>,
    /// The way to Node.js servers.
    pub(crate) cluster: Option<Cluster>,
}

impl NodeState {
    pub(crate) fn new(
        config: Config,
        namespaces: Namespaces,
        hooks: Hooks,
        rooms: Option<Rooms>,
        ways: Ways,
        certificate: Option<Certificate>,
    ) -> io::Result<Rc<Self>> {
        let admission = Cell::new(Bucket::full(config.handshakes_per_second_max));
        let Ways { node, link, store, cluster } = ways;
        let recovery = config.recovery.clone().map(|recovery| {
            let port = Port::of(link.is_some(), store.is_some());
            Recovery::new(recovery, node, port)
        });
        let peers = Peers::new(store, cluster, link.is_some());
        let shortest = config.ping_interval.min(config.ping_timeout);
        Ok(Rc::new(Self {
            config,
            counting: Counting::default(),
            sessions: RefCell::default(),
            open_sessions: Cell::new(0),
            namespaces,
            hooks,
            rooms,
            link,
            certificate,
            peers,
            recovery,
            scratch: RefCell::new(vec![0; READ_BYTES].into()),
            gathered: RefCell::new(vec![0; GATHERED_BYTES].into()),
            reactor: Reactor::new()?,
            connections: Cell::new(0),
            addresses: RefCell::default(),
            admission,
            stopping: CancellationToken::new(),
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
            wheel: RefCell::new(Wheel::new(shortest)),
            wheel_wakes_at: Cell::new(Moment::default()),
            wheel_changed: Notify::new(),
            dirty: RefCell::default(),
            dirty_changed: Notify::new(),
            held: Held::default(),
            is_in_batch: Cell::new(false),
            started_at: Instant::now(),
        }))
    }

    /// Milliseconds since the start of this node, by the clock that never steps back.
    pub(crate) fn now(&self) -> Moment {
        Moment::from_millis(u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Whether a further session is refused now: the node stops, is full, or others came too fast. Sessions have a cap
    /// besides connections, because one connection can open many polling sessions. Each call that refuses nothing
    /// counts as a handshake.
    pub(crate) fn is_full(&self) -> bool {
        if self.stopping.is_cancelled() || self.open_sessions.get() >= self.config.connections_max {
            return true;
        }
        let mut admission = self.admission.get();
        let admitted = admission.take(self.config.handshakes_per_second_max, self.now());
        self.admission.set(admission);
        !admitted
    }

    /// Runs a task on the node's thread. It ends with the node at the latest.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(task);
    }

    /// Asks for something at a moment.
    pub(crate) fn schedule(&self, at: Moment, due: Due) {
        let fires_at = self.wheel.borrow_mut().insert(at, due);
        if fires_at < self.wheel_wakes_at.get() {
            self.wheel_changed.notify_one();
        }
    }

    /// Asks for a flush of this session at the end of the loop's turn.
    pub(crate) fn mark_dirty(&self, session: &Rc<Session>) {
        if session.is_dirty.replace(true) {
            return;
        }
        let mut dirty = self.dirty.borrow_mut();
        dirty.push(Rc::clone(session));
        if dirty.len() == 1 && !self.is_in_batch.get() {
            self.dirty_changed.notify_one();
        }
    }

    /// Runs a batch and writes what it left in the queues: all writes of a batch to one connection are one.
    pub(crate) fn in_batch<T>(&self, run: impl FnOnce() -> T) -> T {
        self.is_in_batch.set(true);
        let done = run();
        self.flush_dirty();
        self.is_in_batch.set(false);
        // A flush that closed a session may have left last words.
        if !self.dirty.borrow().is_empty() {
            self.dirty_changed.notify_one();
        }
        done
    }

    fn flush_dirty(&self) {
        let mut dirty = self.dirty.take();
        for session in dirty.drain(..) {
            session.is_dirty.set(false);
            session.flush();
        }
        let mut fresh = self.dirty.borrow_mut();
        if fresh.is_empty() {
            // Its room is kept for the next turn.
            *fresh = dirty;
        }
    }

    /// Whether clients that come now could not come back later.
    pub(crate) fn is_backplane_down(&self) -> bool {
        self.peers.is_store_down() || self.recovery.as_ref().is_some_and(|recovery| !recovery.is_up())
    }

    /// Forgets a namespace of a rule when nobody is left in it.
    pub(crate) fn sweep(&self, namespace: &Namespace) {
        if self.namespaces.sweep(namespace) {
            self.peers.left(&namespace.name);
        }
    }

    /// Whether a namespace is not the one of rooms, which have their own ways.
    pub(crate) fn is_mesh(&self, namespace: &str) -> bool {
        self.rooms.is_none() || namespace != "/"
    }

    /// The way back to sessions of this namespace, where they have one.
    pub(crate) fn recovery_of(&self, namespace: &str) -> Option<&Recovery> {
        self.recovery.as_ref().filter(|_| self.is_mesh(namespace))
    }

    /// Tells control, by the agent, that rooms or connections changed.
    pub(crate) fn status_changed(&self) {
        if let Some(link) = &self.link {
            link.status_changed();
        }
    }
}

/// Fires what is due, for ever. The one timer of the node's connections.
pub(crate) async fn run_wheel(state: Rc<NodeState>) {
    loop {
        let next = state.wheel.borrow().next_at();
        state.wheel_wakes_at.set(next.unwrap_or(Moment::from_millis(u64::MAX)));
        let changed = state.wheel_changed.notified();
        match next {
            None => changed.await,
            Some(at) => {
                let at = state.started_at + Duration::from_millis(at.as_millis());
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = changed => {}
                }
            }
        }
        // What came in time is read before anybody is too late: the loop itself may have been held up.
        tokio::task::yield_now().await;
        let due = state.wheel.borrow_mut().take_due(state.now());
        for (at, thing) in due {
            match thing {
                Due::Fresh(fresh) => {
                    if let Some(fresh) = fresh.upgrade() {
                        state.reactor.remove_fresh(&fresh);
                    }
                }
                Due::Session(session) => {
                    if let Some(session) = session.upgrade() {
                        session.handle_deadline(at);
                    }
                }
                Due::Ack(socket, id) => {
                    if let Some(socket) = socket.upgrade() {
                        SocketInner::handle_ack_deadline(&socket, id);
                    }
                }
            }
        }
    }
}

/// Writes what the last turn of the loop left in the queues, for ever. Because this task is woken by the first
/// write of a turn and runs after the tasks that were ready then, all their writes to one connection are one.
pub(crate) async fn run_flusher(state: Rc<NodeState>) {
    loop {
        state.dirty_changed.notified().await;
        tokio::task::yield_now().await;
        state.flush_dirty();
    }
}

/// A fresh id. Ids of sessions are bearer tokens, so every one costs true randomness.
pub(crate) fn random_id<K>() -> Id<K> {
    let mut bytes = [0; ID_RANDOM_BYTES];
    getrandom::fill(&mut bytes).expect("the system has random bytes once it has booted");
    Id::from_random(bytes)
}

/// A fresh id for a session of this node.
pub(crate) fn random_sid(config: &Config) -> Sid {
    let mut bytes = [0; ID_RANDOM_BYTES];
    getrandom::fill(&mut bytes).expect("the system has random bytes once it has booted");
    if let Some(prefix) = config.sid_prefix {
        bytes[..3].copy_from_slice(&prefix.bytes());
    }
    Sid::from_random(bytes)
}

pub(crate) fn random_u64() -> u64 {
    getrandom::u64().expect("the system has random bytes once it has booted")
}

/// Counts one TCP connection for as long as it lives.
pub(crate) struct Permit(Rc<NodeState>, IpAddr);

impl Permit {
    /// A permit, unless the node or the address is full.
    pub(crate) fn take(state: &Rc<NodeState>, address: IpAddr) -> Option<Self> {
        let open = state.connections.get();
        let mut addresses = state.addresses.borrow_mut();
        let of_address = addresses.entry(address).or_default();
        let cap = state.config.connections_per_address.of(address);
        if open >= state.config.connections_max || *of_address >= cap {
            if *of_address == 0 {
                addresses.remove(&address);
            }
            return None;
        }
        *of_address += 1;
        state.connections.set(open + 1);
        Some(Self(Rc::clone(state), address))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        let mut addresses = self.0.addresses.borrow_mut();
        if let Some(open) = addresses.get_mut(&self.1) {
            *open -= 1;
            if *open == 0 {
                addresses.remove(&self.1);
            }
        }
    }
}
