//! Sessions that go on: the events of mesh namespaces under numbers, and clients that come back to them.
//! Never delivers what the backplane does not hold: what anybody saw can be told again after any crash.

mod come_back;
mod held;
mod inbound;
mod port;
mod tail;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greenroom_socketio::engine::DisconnectReason;
use greenroom_socketio::packet::Prepared;
use greenroom_wire::Text;
use greenroom_wire::backplane::{Command, NotRestored, Pid, Position, RETAINED_BESIDES, SessionRecord, Told};
use greenroom_wire::link::Relay;
use tokio::sync::{Notify, oneshot};

use crate::config;
use crate::link::relay;
use crate::namespace::Namespace;
use crate::rooms::wall_clock;
use crate::socket::{Socket, WeakSocket};
use crate::state::NodeState;
pub(crate) use come_back::{Arrival, Returning, tell_word};
pub(crate) use held::Held;
pub(crate) use port::Port;
use tail::Tail;

/// How often old events are let go and waiting is looked at.
const TRIM_EVERY: Duration = Duration::from_secs(1);

/// An event that the backplane has not taken yet.
enum Pending {
    ForMany { relay: Relay, packet: Prepared },
    ForOne { socket: WeakSocket, pid: Pid, generation: u64, packet: Prepared },
}

impl Pending {
    fn bytes(&self) -> usize {
        match self {
            Self::ForMany { packet, .. } | Self::ForOne { packet, .. } => packet.frames_bytes() * 2,
        }
    }

    fn command(&self, seq: u64) -> Command {
        match self {
            Self::ForMany { relay, .. } => Command::Publish { seq, relay: relay.clone() },
            Self::ForOne { pid, generation, packet, .. } => Command::Own {
                seq,
                pid: pid.clone(),
                generation: *generation,
                packet: packet.text().to_owned(),
                attachments: attachments(packet),
            },
        }
    }
}

/// What the backplane answered to a question for a session.
type Taken = (Result<Box<SessionRecord>, NotRestored>, u64);

/// All that a node knows of its sessions' way back.
pub(crate) struct Recovery {
    pub(crate) config: config::Recovery,
    node: String,
    port: Port,
    is_up: Cell<bool>,
    tails: RefCell<HashMap<String, Tail>>,
    sessions: RefCell<HashMap<Pid, WeakSocket>>,
    pending: RefCell<BTreeMap<u64, Pending>>,
    pending_bytes: Cell<usize>,
    next_seq: Cell<u64>,
    asks: RefCell<BTreeMap<u64, oneshot::Sender<Taken>>>,
    next_ask: Cell<u64>,
    changed: RefCell<Vec<Socket>>,
    touched: RefCell<Vec<(Pid, u64, Text<Position>)>>,
    inbox: RefCell<VecDeque<Told>>,
    work: Notify,
}

impl Recovery {
    pub(crate) fn new(config: config::Recovery, node: String, port: Port) -> Self {
        Self {
            port,
            config,
            node,
            is_up: Cell::new(false),
            tails: RefCell::default(),
            sessions: RefCell::default(),
            pending: RefCell::default(),
            pending_bytes: Cell::new(0),
            next_seq: Cell::new(1),
            asks: RefCell::default(),
            next_ask: Cell::new(1),
            changed: RefCell::default(),
            touched: RefCell::default(),
            inbox: RefCell::default(),
            work: Notify::new(),
        }
    }

    /// Whether the backplane can be reached, as far as known.
    pub(crate) fn is_up(&self) -> bool {
        self.is_up.get()
    }

    pub(crate) fn send(&self, state: &NodeState, command: Command) {
        let told = self.port.send(state, &self.node, command);
        if !told.is_empty() {
            self.inbox.borrow_mut().extend(told);
            self.work.notify_one();
        }
    }

    /// The way to the backplane is there: it is told all that this node holds.
    pub(crate) fn handle_up(&self, state: &Rc<NodeState>) {
        self.is_up.set(true);
        if let Some(rooms) = &state.rooms {
            rooms.handle_up(state);
        }
        let named = state.namespaces.names();
        let known: Vec<(String, Option<Position>)> = {
            let mut tails = self.tails.borrow_mut();
            for name in named.into_iter().filter(|name| state.is_mesh(name)) {
                tails.entry(name).or_insert_with(Tail::new);
            }
            tails.iter().map(|(namespace, tail)| (namespace.clone(), tail.known())).collect()
        };
        for (namespace, known) in known {
            self.attach(state, namespace, known);
        }
        let sessions: Vec<WeakSocket> = self.sessions.borrow().values().cloned().collect();
        for socket in sessions.iter().filter_map(WeakSocket::upgrade) {
            // One that began before its History was known is over once it is.
            if let Some(session) = self.record(&socket).filter(|session| session.safe.epoch != 0) {
                self.send(state, Command::Open { session: Box::new(session) });
            }
        }
        let pending: Vec<Command> =
            self.pending.borrow().iter().map(|(seq, pending)| pending.command(*seq)).collect();
        pending.into_iter().for_each(|command| self.send(state, command));
    }

    /// The way to the backplane is gone.
    pub(crate) fn handle_down(&self) {
        self.is_up.set(false);
        self.tails.borrow_mut().values_mut().for_each(Tail::handle_down);
        // They are answered as unavailable.
        self.asks.take();
    }

    fn attach(&self, state: &NodeState, namespace: String, known: Option<Position>) {
        let window_ms = u64::try_from(self.config.window.as_millis()).unwrap_or(u64::MAX);
        self.send(state, Command::Attach { namespace, known: known.map(Text), window_ms });
    }

    /// Whether positions of a namespace are known; asks for them if not.
    fn is_attached(&self, state: &NodeState, namespace: &str) -> bool {
        if let Some(tail) = self.tails.borrow().get(namespace) {
            return tail.is_attached();
        }
        self.tails.borrow_mut().insert(namespace.to_owned(), Tail::new());
        if self.is_up.get() {
            self.attach(state, namespace.to_owned(), None);
        }
        false
    }

    /// Gives an event for many to the backplane, which hands it to everybody, this node included. `false`: too many
    /// bytes wait for a backplane that cannot be reached, the event is refused.
    pub(crate) fn publish(
        &self,
        state: &NodeState,
        namespace: &Namespace,
        groups: &[String],
        except: &[String],
        packet: &Prepared,
    ) -> bool {
        let relay = relay(&namespace.name, groups, except, packet);
        self.flush_changes(state);
        // Somebody must listen, or the event never comes back.
        self.is_attached(state, &namespace.name);
        self.commit(state, Pending::ForMany { relay, packet: packet.clone() })
    }

    /// The same for one socket.
    pub(crate) fn send_own(&self, state: &NodeState, socket: &Socket, packet: &Prepared) -> bool {
        self.flush_changes(state);
        let held = socket.with_held(|held| (held.pid.clone(), held.generation));
        let Some((pid, generation)) = held else { return true };
        self.commit(
            state,
            Pending::ForOne { socket: socket.downgrade(), pid, generation, packet: packet.clone() },
        )
    }

    fn commit(&self, state: &NodeState, pending: Pending) -> bool {
        let bytes = self.pending_bytes.get() + pending.bytes();
        if bytes > self.config.outbox_bytes_max {
            state.counting.publish_dropped_total.one();
            return false;
        }
        state.counting.published_total.one();
        self.pending_bytes.set(bytes);
        let seq = self.next_seq.get();
        self.next_seq.set(seq + 1);
        let command = pending.command(seq);
        self.pending.borrow_mut().insert(seq, pending);
        self.send(state, command);
        true
    }

    fn take_pending(&self, seq: u64) -> Option<Pending> {
        let pending = self.pending.borrow_mut().remove(&seq)?;
        self.pending_bytes.set(self.pending_bytes.get() - pending.bytes());
        Some(pending)
    }

    /// An event that is sent past the History, in a form that a stock client does not take for one of it: whatever ends
    /// in a text, its name included, would be remembered as the last offset. It carries the place that its receivers have
    /// reached.
    pub(crate) fn unmistakable(&self, packet: &Prepared, namespace: &str) -> Prepared {
        let place = self.tails.borrow().get(namespace).map(Tail::place);
        let placed =
            place.filter(|_| packet.data().ends_with("\"]")).and_then(|place| with_place(packet, place));
        placed.unwrap_or_else(|| packet.clone())
    }

    /// Begins a session for a socket that has connected anew.
    pub(crate) fn begin(&self, state: &NodeState, socket: &Socket, pid: &str) {
        let place = self.tails.borrow().get(socket.namespace_name()).map(Tail::place);
        let Some(place) = place else { return };
        let pid = Pid::new(pid);
        self.sessions.borrow_mut().insert(pid.clone(), socket.downgrade());
        socket.set_held(Some(Held::new(pid, 1, place)));
        if let Some(session) = self.record(socket) {
            self.send(state, Command::Open { session: Box::new(session) });
        }
    }

    fn record(&self, socket: &Socket) -> Option<SessionRecord> {
        socket.with_held(|held| SessionRecord {
            pid: held.pid.clone(),
            namespace: socket.namespace_name().to_owned(),
            socket: socket.id().to_string(),
            node: self.node.clone(),
            generation: held.generation,
            groups: socket.groups(),
            data: socket.data(),
            window_ms: u64::try_from(self.config.window.as_millis()).unwrap_or(u64::MAX),
            safe: Text(held.safe),
            own: held.own_record(),
            own_lost: None,
        })
    }

    /// The groups or data of a socket changed: the backplane hears of it before the next event does, or at the end of
    /// the loop's turn.
    pub(crate) fn changed(&self, socket: &Socket) {
        let is_first = socket.with_held(|held| !std::mem::replace(&mut held.is_changed, true));
        if is_first == Some(true) {
            self.changed.borrow_mut().push(socket.clone());
            self.work.notify_one();
        }
    }

    fn flush_changes(&self, state: &NodeState) {
        if self.changed.borrow().is_empty() {
            return;
        }
        for socket in self.changed.take() {
            self.flush_change(state, &socket);
        }
    }

    fn flush_change(&self, state: &NodeState, socket: &Socket) {
        let of = socket.with_held(|held| {
            std::mem::take(&mut held.is_changed).then(|| (held.pid.clone(), held.generation))
        });
        if let Some(Some((pid, generation))) = of {
            let (groups, data) = (socket.groups(), socket.data());
            self.send(state, Command::Update { pid, generation, groups, data });
        }
    }

    /// A ping leaves: what was sent before it has arrived once it is answered.
    pub(crate) fn mark(&self, socket: &Socket) {
        let place = self.tails.borrow().get(socket.namespace_name()).map(Tail::place);
        if let Some(place) = place {
            socket.with_held(|held| held.marked = Some(place));
        }
    }

    /// The ping was answered.
    pub(crate) fn answered(&self, socket: &Socket) {
        if let Some(Some(touched)) = socket.with_held(Held::answered) {
            self.touched.borrow_mut().push(touched);
            self.work.notify_one();
        }
    }

    /// The end of a socket, while it still has its groups.
    pub(crate) fn handle_gone(&self, state: &NodeState, socket: &Socket, reason: DisconnectReason) {
        self.flush_change(state, socket);
        let Some(held) = socket.set_held(None) else { return };
        let mut sessions = self.sessions.borrow_mut();
        let is_ours =
            sessions.get(&held.pid).and_then(WeakSocket::upgrade).is_none_or(|other| other == *socket);
        if is_ours {
            sessions.remove(&held.pid);
        }
        drop(sessions);
        let Held { pid, generation, .. } = *held;
        let command = if comes_back(reason) {
            Command::Away { pid, generation }
        } else {
            Command::Close { pid, generation }
        };
        self.send(state, command);
    }

    /// Waits until the backplane has all that was given to it.
    pub(crate) async fn wait_flushed(&self, state: &NodeState) {
        self.flush_changes(state);
        while self.is_up.get() && !self.pending.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The answer to a last question comes after all that was said before it.
        let _gone = self.ask(state, "/", Pid::new("")).await;
    }

    async fn ask(&self, state: &NodeState, namespace: &str, pid: Pid) -> Option<Taken> {
        if !self.is_up.get() {
            return None;
        }
        let ask = self.next_ask.get();
        self.next_ask.set(ask + 1);
        let (answer, answered) = oneshot::channel();
        self.asks.borrow_mut().insert(ask, answer);
        self.send(state, Command::Take { ask, namespace: namespace.to_owned(), pid });
        let answered = tokio::time::timeout(self.config.patience, answered).await;
        self.asks.borrow_mut().remove(&ask);
        answered.ok()?.ok()
    }

    fn trim(&self) {
        let keep_from = wall_clock() - (self.config.window + RETAINED_BESIDES);
        for tail in self.tails.borrow_mut().values_mut() {
            tail.trim(keep_from, self.config.history_bytes_max);
        }
        let told = self.port.tick();
        self.inbox.borrow_mut().extend(told);
    }
}

/// Whether a stock client comes back after this, and means to go on.
fn comes_back(reason: DisconnectReason) -> bool {
    match reason {
        DisconnectReason::TransportError
        | DisconnectReason::TransportClose
        | DisconnectReason::PingTimeout
        | DisconnectReason::ServerShuttingDown
        | DisconnectReason::ForcedClose
        | DisconnectReason::ForcedServerClose => true,
        DisconnectReason::ParseError
        | DisconnectReason::ClientNamespaceDisconnect
        | DisconnectReason::ServerNamespaceDisconnect => false,
    }
}

/// An event with its place as one more argument, where a stock client looks for it.
pub(crate) fn with_place(packet: &Prepared, position: Position) -> Option<Prepared> {
    let placed = packet.with_arg(&format!("\"{position}\""));
    placed.map_err(|error| tracing::error!(%error, "an event cannot carry its place")).ok()
}

pub(crate) fn attachments(packet: &Prepared) -> Vec<String> {
    packet.attachments().map(|bytes| STANDARD.encode(bytes)).collect()
}

/// Does what waits, for ever.
pub(crate) async fn run(state: Rc<NodeState>) {
    let Some(recovery) = &state.recovery else { return };
    if recovery.port.is_own() {
        recovery.handle_up(&state);
    }
    let mut trim = tokio::time::interval(TRIM_EVERY);
    loop {
        tokio::select! {
            () = recovery.work.notified() => {}
            _ = trim.tick() => recovery.trim(),
        }
        recovery.flush_changes(&state);
        let touched = recovery.touched.take();
        if !touched.is_empty() {
            recovery.send(&state, Command::Touch { sessions: touched });
        }
        loop {
            let told = recovery.inbox.borrow_mut().pop_front();
            match told {
                Some(told) => recovery.handle(&state, told),
                None => break,
            }
        }
    }
}
