//! The backplane as one value: the Histories of a fleet's namespaces and its sessions.
//! Never loses silently: a History that is not whole any more gets a new epoch, and everybody is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_wire::Text;
use greenroom_wire::backplane::{Command, Logged, Pid, Position, RETAINED_BESIDES, Told};
use greenroom_wire::link::Relay;

use crate::Log;
use crate::gathering::Gathering;
use crate::rooms::Rooms;
use crate::sessions::{Sessions, Taking};

/// Bytes of events in one page.
const PAGE_BYTES: usize = 256 * 1024;

/// How long a board that begins anew waits for what nodes still hold.
pub(crate) const GATHERED_WITHIN: Duration = Duration::from_secs(2);

/// What a board may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one History. Default 64 MiB.
    pub history_bytes_max: usize,
    /// Histories. More are not made, their nodes go on without. Default 10,000.
    pub histories_max: usize,
    /// Sessions; over a Redis those of one node. Further ones are not kept, and their nodes are told. Default 200,000.
    pub sessions_max: usize,
    /// Bytes of the events that one session keeps for itself. Default 256 KiB.
    pub own_bytes_max: usize,
    /// Rooms of one server that outlive its process. Further ones are not kept, and their node is told. Default 10,000.
    pub rooms_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            history_bytes_max: 64 << 20,
            histories_max: 10_000,
            sessions_max: 200_000,
            own_bytes_max: 256 << 10,
            rooms_max: 10_000,
        }
    }
}

/// One event in a board's History.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) origin: String,
    pub(crate) seq: u64,
    pub(crate) relay: Relay,
}

impl Published {
    fn logged(&self, offset: u64, at: Timestamp) -> Logged {
        Logged {
            offset,
            at_ms: at.unix_ms(),
            origin: self.origin.clone(),
            seq: self.seq,
            relay: self.relay.clone(),
        }
    }
}

/// What a relay weighs.
pub(crate) fn weight(relay: &Relay) -> usize {
    let names = relay.groups.iter().chain(&relay.except).map(String::len);
    let bytes = names.chain(relay.attachments.iter().map(String::len)).sum::<usize>();
    bytes + relay.packet.len() + size_of::<Relay>()
}

struct History {
    log: Log<Published>,
    /// Events for one socket each since the last event for many.
    own_n: u32,
    attached: BTreeSet<String>,
    retained: Duration,
}

enum Stage {
    Open(History),
    Gathering(Box<Gathering>),
}

#[derive(Default)]
struct NodeState {
    /// The last number that was handled of this node.
    seen: u64,
    gone_at: Option<Timestamp>,
}

/// All Histories and sessions of one fleet.
pub struct Board {
    limits: Limits,
    /// What epochs are drawn from.
    seed: u64,
    histories: BTreeMap<String, Stage>,
    sessions: Sessions,
    rooms: Rooms,
    nodes: BTreeMap<String, NodeState>,
    /// Nodes that ran before this board did and have not come back to it.
    expected: BTreeSet<String>,
    expected_until: Timestamp,
    /// One of them did not come: what it alone held is lost.
    has_missed: bool,
    out: Vec<(String, Told)>,
}

impl Board {
    /// An empty board. `seed` is true randomness, so that no other board draws the same epochs; `expected` are the nodes
    /// that may hold what an earlier board knew, which waits for them a little before it goes on without.
    #[must_use]
    pub fn new(limits: Limits, seed: u64, expected: BTreeSet<String>, now: Timestamp) -> Self {
        Self {
            limits,
            seed,
            histories: BTreeMap::new(),
            sessions: Sessions::default(),
            rooms: Rooms::default(),
            nodes: BTreeMap::new(),
            expected,
            expected_until: now + GATHERED_WITHIN,
            has_missed: false,
            out: Vec::new(),
        }
    }

    /// Handles a command of a node. The answer is what nodes are told, in order.
    #[must_use]
    pub fn handle(&mut self, now: Timestamp, node: &str, command: Command) -> Vec<(String, Told)> {
        self.nodes.entry(node.to_owned()).or_default().gone_at = None;
        self.apply(now, node, command);
        std::mem::take(&mut self.out)
    }

    /// The way to a node is gone: its clients may come back elsewhere from now on until their windows are over. The node
    /// itself may attach again and tells of its sessions anew.
    #[must_use]
    pub fn handle_gone(&mut self, now: Timestamp, node: &str) -> Vec<(String, Told)> {
        if let Some(state) = self.nodes.get_mut(node) {
            state.gone_at = Some(now);
        }
        self.sessions.handle_gone(now, node);
        self.rooms.handle_gone(now, node);
        self.has_missed |= self.expected.remove(node);
        for stage in self.histories.values_mut() {
            match stage {
                Stage::Open(history) => {
                    history.attached.remove(node);
                }
                Stage::Gathering(gathering) => gathering.forget(node),
            }
        }
        self.tick(now)
    }

    /// Lets go of what is over, and ends waiting that took too long. To be called a few times a second.
    #[must_use]
    pub fn tick(&mut self, now: Timestamp) -> Vec<(String, Told)> {
        if self.expected_until <= now && !self.expected.is_empty() {
            self.has_missed = true;
            self.expected.clear();
        }
        let longest = self.histories.values().map(Stage::retained).max().unwrap_or_default();
        self.sessions.purge(now);
        self.rooms.purge(now);
        self.nodes.retain(|_, state| state.gone_at.is_none_or(|gone_at| now.since(gone_at) < longest * 2));
        for stage in self.histories.values_mut() {
            if let Stage::Open(history) = stage {
                history.log.trim(now - history.retained, self.limits.history_bytes_max, drop);
            }
        }
        let ready: Vec<String> = self
            .histories
            .iter()
            .filter(|(_, stage)| {
                matches!(stage, Stage::Gathering(gathering) if gathering.is_over(now, &self.expected))
            })
            .map(|(namespace, _)| namespace.clone())
            .collect();
        for namespace in ready {
            self.open(now, &namespace);
        }
        std::mem::take(&mut self.out)
    }

    /// Sessions that are kept.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Rooms that are kept.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    fn tell(&mut self, node: &str, told: Told) {
        self.out.push((node.to_owned(), told));
    }

    fn apply(&mut self, now: Timestamp, node: &str, command: Command) {
        if let Some(Stage::Gathering(gathering)) =
            self.namespace_of(&command).and_then(|namespace| self.histories.get_mut(&namespace))
        {
            return gathering.queue(node, command);
        }
        match command {
            Command::Attach { namespace, known, window_ms } => {
                let known = known.map(|known| known.0);
                self.attach(now, node, &namespace, known, Duration::from_millis(window_ms));
            }
            Command::Read { namespace, after } => self.read(node, namespace, after),
            Command::Restore { namespace, epoch, head, events, is_last } => {
                if let Some(Stage::Gathering(gathering)) = self.histories.get_mut(&namespace) {
                    gathering.take_in(node, epoch, head, events, is_last);
                    if gathering.is_over(now, &self.expected) {
                        self.open(now, &namespace);
                    }
                }
            }
            Command::Publish { seq, relay } => self.publish(now, node, seq, relay),
            Command::Own { seq, pid, generation, packet, attachments } => {
                self.see(node, seq);
                let told = self.keep_own(&pid, generation, (seq, packet, attachments));
                self.tell(node, told);
            }
            Command::Open { session } => {
                if let Some(why) = self.sessions.open(node, *session, self.limits.sessions_max) {
                    self.tell(node, why);
                }
            }
            Command::Update { pid, generation, groups, data } => {
                self.sessions.update(&pid, generation, groups, data);
            }
            Command::Touch { sessions } => {
                for (pid, generation, safe) in sessions {
                    self.sessions.touch(&pid, generation, safe.0);
                }
            }
            Command::Away { pid, generation } => self.sessions.leave(now, &pid, generation),
            Command::Close { pid, generation } => self.sessions.close(&pid, generation),
            Command::Take { ask, namespace, pid } => self.take(now, node, ask, &namespace, &pid),
            Command::Room(command) => {
                for told in self.rooms.handle(node, command, self.limits.rooms_max) {
                    self.tell(node, Told::Room(told));
                }
            }
        }
    }

    /// The namespace whose History must be open for a command.
    fn namespace_of(&self, command: &Command) -> Option<String> {
        match command {
            Command::Publish { relay, .. } => Some(relay.namespace.clone()),
            Command::Take { namespace, .. } | Command::Read { namespace, .. } => Some(namespace.clone()),
            Command::Own { pid, .. } => self.sessions.namespace_of(pid).map(str::to_owned),
            Command::Attach { .. }
            | Command::Restore { .. }
            | Command::Open { .. }
            | Command::Update { .. }
            | Command::Touch { .. }
            | Command::Away { .. }
            | Command::Close { .. }
            | Command::Room(_) => None,
        }
    }

    fn attach(
        &mut self,
        now: Timestamp,
        node: &str,
        namespace: &str,
        known: Option<Position>,
        window: Duration,
    ) {
        let retained = window + RETAINED_BESIDES;
        if !self.histories.contains_key(namespace) {
            if self.histories.len() >= self.limits.histories_max {
                return;
            }
            let is_waiting = !self.expected.is_empty() || known.is_some();
            let stage = if is_waiting {
                Stage::Gathering(Box::new(Gathering::new(now + GATHERED_WITHIN, retained)))
            } else {
                Stage::Open(History {
                    log: Log::new(self.next_epoch(), 0),
                    own_n: 0,
                    attached: BTreeSet::new(),
                    retained,
                })
            };
            self.histories.insert(namespace.to_owned(), stage);
        }
        let rewound = match self.histories.get_mut(namespace) {
            Some(Stage::Gathering(gathering)) => {
                if gathering.attach(node, known, retained) {
                    self.out.push((node.to_owned(), Told::Wanted { namespace: namespace.to_owned() }));
                }
                self.expected.remove(node);
                if gathering.is_over(now, &self.expected) {
                    self.open(now, namespace);
                }
                return;
            }
            Some(Stage::Open(history)) => {
                history.retained = history.retained.max(retained);
                history.attached.insert(node.to_owned());
                // It has seen more of this very History than there is: the board has forgotten some.
                known.is_some_and(|known| {
                    known.epoch == history.log.epoch() && known.offset > history.log.head()
                })
            }
            None => false,
        };
        if rewound { self.begin_anew(namespace) } else { self.tell_attached(namespace, [node.to_owned()]) }
    }

    /// Gives a History that is not whole a new epoch.
    fn begin_anew(&mut self, namespace: &str) {
        let epoch = self.next_epoch();
        let Some(Stage::Open(history)) = self.histories.get_mut(namespace) else { return };
        history.log = Log::new(epoch, 0);
        let attached = history.attached.clone();
        self.tell_attached(namespace, attached);
    }

    fn tell_attached(&mut self, namespace: &str, nodes: impl IntoIterator<Item = String>) {
        let Some(Stage::Open(History { log, .. })) = self.histories.get(namespace) else { return };
        let (epoch, head, floor) = (log.epoch(), log.head(), log.floor());
        for node in nodes {
            let told = Told::Attached { namespace: namespace.to_owned(), epoch, head, floor };
            self.out.push((node, told));
        }
    }

    fn read(&mut self, node: &str, namespace: String, after: u64) {
        let Some(Stage::Open(History { log, .. })) = self.histories.get(&namespace) else { return };
        let floor = log.floor();
        let mut bytes = 0;
        let events = log.after(after.clamp(floor, log.head())).into_iter().flatten();
        let events = events
            .take_while(|kept| {
                bytes += kept.bytes;
                bytes <= PAGE_BYTES.max(kept.bytes)
            })
            .map(|kept| kept.event.logged(kept.offset, kept.at))
            .collect();
        let told = Told::Page { namespace, epoch: log.epoch(), floor, events };
        self.tell(node, told);
    }

    /// Whether a number of a node is new.
    fn see(&mut self, node: &str, seq: u64) -> bool {
        let state = self.nodes.entry(node.to_owned()).or_default();
        let is_new = seq > state.seen;
        state.seen = state.seen.max(seq);
        is_new
    }

    fn publish(&mut self, now: Timestamp, node: &str, seq: u64, relay: Relay) {
        if !self.see(node, seq) {
            // It is in the log, where the node has read it or will.
            return;
        }
        let Some(Stage::Open(history)) = self.histories.get_mut(&relay.namespace) else { return };
        let bytes = weight(&relay);
        let published = Published { origin: node.to_owned(), seq, relay };
        let epoch = history.log.epoch();
        let logged = published.logged(history.log.head() + 1, now);
        history.log.append(now, bytes, published);
        history.own_n = 0;
        for attached in &history.attached {
            self.out.push((attached.clone(), Told::Event { epoch, event: logged.clone() }));
        }
    }

    fn keep_own(&mut self, pid: &Pid, generation: u64, own: (u64, String, Vec<String>)) -> Told {
        let seq = own.0;
        let namespace = self.sessions.namespace_of(pid).map(str::to_owned);
        let history = namespace.and_then(|namespace| self.histories.get_mut(&namespace));
        let Some(Stage::Open(history)) = history else { return Told::Disowned { seq } };
        let next = Position { epoch: history.log.epoch(), offset: history.log.head(), n: history.own_n + 1 };
        match self.sessions.keep_own(pid, generation, own, next, self.limits.own_bytes_max) {
            Some(position) => {
                if position.offset == next.offset {
                    history.own_n = history.own_n.max(position.n);
                }
                Told::Owned { seq, position: Text(position) }
            }
            None => Told::Disowned { seq },
        }
    }

    fn take(&mut self, now: Timestamp, node: &str, ask: u64, namespace: &str, pid: &Pid) {
        let (epoch, head) = match self.histories.get(namespace) {
            Some(Stage::Open(history)) => (history.log.epoch(), history.log.head()),
            Some(Stage::Gathering(_)) | None => (0, 0),
        };
        let Taking { session, fenced } = self.sessions.take(now, node, namespace, pid, epoch);
        if let Some((holder, generation)) = fenced {
            self.tell(&holder, Told::Fenced { pid: pid.clone(), generation });
        }
        self.tell(node, Told::Taken { ask, session, head });
    }

    /// Ends the waiting of a History for what nodes hold.
    fn open(&mut self, now: Timestamp, namespace: &str) {
        let fresh = self.next_epoch();
        let Some(Stage::Gathering(gathering)) = self.histories.remove(namespace) else { return };
        let gathered = gathering.finish(fresh, self.has_missed);
        for (origin, seq) in gathered.seen {
            self.see(&origin, seq);
        }
        let attached = gathered.attached;
        let history =
            History { log: gathered.log, own_n: 0, attached: attached.clone(), retained: gathered.retained };
        self.histories.insert(namespace.to_owned(), Stage::Open(history));
        self.tell_attached(namespace, attached);
        for (node, command) in gathered.queued {
            self.apply(now, &node, command);
        }
    }

    /// A number that no log had before: steps of a fixed permutation over the random seed.
    fn next_epoch(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // 0 is no History's.
        (mixed ^ (mixed >> 31)).max(1)
    }
}

impl Stage {
    fn retained(&self) -> Duration {
        match self {
            Self::Open(history) => history.retained,
            Self::Gathering(gathering) => gathering.retained(),
        }
    }
}
