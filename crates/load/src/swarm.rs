//! Owns all players and connections of a run as one value, and what was counted of them.
//! Never waits: the loop in `run` tells what happened, and this does the work at once.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    io,
    net::{Ipv4Addr, Shutdown},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::stream::FuturesUnordered;
use tokio::{io::Interest, net::TcpStream};

use crate::{
    SwarmConfig,
    draws::Draws,
    fact::Fact,
    flow::{Flow, SocketName, Step},
    health::thread_cpu,
    link::{Heard, Link},
    measure::{Measures, Times},
    open::{OpenError, Opened, source},
    oracle::Ledger,
    player::{Action, ClosedBy, Event, Player, PlayerIndex},
    report::{Counts, Progress},
};

/// How long a connection that was left may take to close on both sides.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Bytes that one look at a connection takes in at most; the rest waits for the other connections.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Names a connection for the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LinkId(u64);

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

/// Completes when its connection can be read or written.
pub(crate) struct Wait {
    id: LinkId,
    side: Side,
    stream: Rc<TcpStream>,
}

impl Future for Wait {
    type Output = (LinkId, Side);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ready = match self.side {
            Side::Read => self.stream.poll_read_ready(cx),
            Side::Write => self.stream.poll_write_ready(cx),
        };
        // A failed connection is told by the read or write that follows.
        ready.map(|_| (self.id, self.side))
    }
}

/// What must be fetched from elsewhere for a player; the answer goes back into the swarm.
pub(crate) enum Errand {
    /// An address in the fleet of this step.
    Find(PlayerIndex, usize),
    /// A connection to this URL, with this handshake nonce.
    Open {
        player: PlayerIndex,
        socket: SocketName,
        url: String,
        nonce: [u8; 16],
        source: Ipv4Addr,
        within: Duration,
    },
}

struct Socket {
    player: PlayerIndex,
    name: SocketName,
    stream: Rc<TcpStream>,
    link: Link,
    /// Set when the player left: the connection only drains from here on.
    close_by: Option<Duration>,
    awaits_write: bool,
}

pub(crate) struct Swarm {
    flow: Flow,
    seed: u64,
    players: Vec<Player>,
    /// The moment for which each player stands in `timers`.
    queued: Vec<Option<Duration>>,
    timers: BinaryHeap<Reverse<(Duration, PlayerIndex)>>,
    /// The CONNECT `auth` of connections that are being opened, and the ids of open ones, by player and socket.
    auths: HashMap<(PlayerIndex, SocketName), String>,
    open: HashMap<(PlayerIndex, SocketName), LinkId>,
    links: HashMap<LinkId, Socket>,
    next_link: u64,
    buffer: Vec<u8>,
    players_left: usize,
    started: Instant,
    pub(crate) errands: Vec<Errand>,
    pub(crate) waits: FuturesUnordered<Wait>,
    pub(crate) ledger: Ledger,
    pub(crate) counts: Counts,
    pub(crate) measures: Measures,
    pub(crate) lag: Times,
    pub(crate) cpu_before: Duration,
}

impl Swarm {
    pub(crate) fn new(config: &SwarmConfig) -> Self {
        let players: Vec<_> = (0..config.players).map(|index| player(config, index)).collect();
        let names = players.iter().map(|player| player.name().to_owned()).collect();
        let queued: Vec<_> = players.iter().map(Player::wake_at).collect();
        let timers = (0..).zip(&queued).filter_map(|(index, at)| Some(Reverse(((*at)?, PlayerIndex(index)))));
        Self {
            flow: config.flow(),
            seed: config.seed,
            players_left: players.len(),
            timers: timers.collect(),
            queued,
            players,
            auths: HashMap::new(),
            open: HashMap::new(),
            links: HashMap::new(),
            next_link: 0,
            buffer: vec![0; READ_BYTES_MAX],
            started: Instant::now(),
            errands: Vec::new(),
            waits: FuturesUnordered::new(),
            ledger: Ledger::new(names, config.match_players),
            counts: Counts::default(),
            measures: Measures::default(),
            lag: Times::default(),
            cpu_before: thread_cpu(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Whether every player is done and every connection closed.
    pub(crate) fn is_over(&self) -> bool {
        self.players_left == 0 && self.links.is_empty()
    }

    pub(crate) fn progress(&self) -> Progress {
        let players = u32::try_from(self.players.len()).expect("the number was a u32");
        Progress { elapsed: self.elapsed(), players, counts: self.counts }
    }

    /// The moment of the next timer.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| self.started + *at)
    }

    /// Wakes every player whose moment has come.
    pub(crate) fn handle_time(&mut self) {
        while let Some(&Reverse((at, index))) = self.timers.peek()
            && at <= self.elapsed()
        {
            self.timers.pop();
            let place = place(index);
            if self.queued[place] == Some(at) {
                self.queued[place] = None;
            }
            match self.players[place].wake_at() {
                Some(due) if due <= self.elapsed() => {
                    self.lag.record(self.elapsed() - due);
                    self.tell(index, &Event::Woken);
                }
                Some(_) | None => self.set_timer(index),
            }
        }
    }

    /// To be called about once a second: heartbeats, and connections that take too long to close.
    pub(crate) fn handle_second(&mut self) {
        let now = self.elapsed();
        let ids: Vec<_> = self.links.keys().copied().collect();
        for id in ids {
            let Some(socket) = self.links.get_mut(&id) else { continue };
            if socket.close_by.is_some_and(|at| at <= now) {
                self.drop_link(id);
                continue;
            }
            let mut closed = None;
            socket.link.handle_time(now, &mut |heard| closed = closing(heard));
            if let Some(by) = closed {
                self.closed(id, by);
            }
        }
    }

    /// The address a player asked for.
    pub(crate) fn handle_found(&mut self, index: PlayerIndex, answer: Result<String, String>) {
        self.tell(index, &Event::Found(answer));
    }

    /// A connection that a player asked for.
    pub(crate) fn handle_opened(
        &mut self,
        index: PlayerIndex,
        name: SocketName,
        opened: Result<Opened, OpenError>,
    ) {
        // The player may have given up meanwhile; then the stream is closed by dropping it.
        let Some(auth) = self.auths.remove(&(index, name)) else { return };
        let Opened { stream, first } = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let by = ClosedBy::Transport(error.to_string());
                return self.tell(index, &Event::Closed(name, by));
            }
        };
        let id = LinkId(self.next_link);
        self.next_link += 1;
        let link = Link::new((!auth.is_empty()).then_some(auth), Draws::new(!self.seed, id.0));
        let stream = Rc::new(stream);
        self.waits.push(Wait { id, side: Side::Read, stream: Rc::clone(&stream) });
        let socket = Socket { player: index, name, stream, link, close_by: None, awaits_write: false };
        self.links.insert(id, socket);
        self.open.insert((index, name), id);
        let first_bytes = first.len().min(self.buffer.len());
        self.buffer[..first_bytes].copy_from_slice(&first[..first_bytes]);
        self.take_in(id, first_bytes);
    }

    /// A connection can be read or written.
    pub(crate) fn handle_ready(&mut self, id: LinkId, side: Side) {
        match side {
            Side::Write => {
                if let Some(socket) = self.links.get_mut(&id) {
                    socket.awaits_write = false;
                }
                self.flush(id);
            }
            Side::Read => {
                self.read(id);
                if let Some(socket) = self.links.get(&id) {
                    self.waits.push(Wait { id, side, stream: Rc::clone(&socket.stream) });
                }
            }
        }
    }

    /// Ends every player where they stand.
    pub(crate) fn stop(&mut self) {
        for index in 0..self.players.len() {
            let index = PlayerIndex(u32::try_from(index).expect("the number was a u32"));
            self.tell(index, &Event::Stopped);
        }
    }

    fn read(&mut self, id: LinkId) {
        let Some(socket) = self.links.get(&id) else { return };
        let read = read_once(&socket.stream, &mut self.buffer);
        match read {
            Ok(0) => self.ended(id, "the server closed the transport"),
            Ok(bytes) => self.take_in(id, bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.ended(id, &error.to_string()),
        }
    }

    fn ended(&mut self, id: LinkId, reason: &str) {
        let Some(socket) = self.links.get_mut(&id) else { return };
        let mut closed = None;
        socket.link.handle_end(reason, &mut |heard| closed = closing(heard));
        match closed {
            Some(by) => self.closed(id, by),
            None => self.drop_link(id),
        }
    }

    fn closed(&mut self, id: LinkId, by: ClosedBy) {
        let Some(socket) = self.links.get(&id) else { return };
        let (player, name) = (socket.player, socket.name);
        self.drop_link(id);
        self.tell(player, &Event::Closed(name, by));
    }

    /// Handles the first `bytes` of the shared buffer as input of a connection.
    fn take_in(&mut self, id: LinkId, bytes: usize) {
        let now = self.elapsed();
        let Some(socket) = self.links.get_mut(&id) else { return };
        let (index, name) = (socket.player, socket.name);
        let player = &mut self.players[place(index)];
        let was_done = player.is_done();
        let (flow, counts) = (&self.flow, &mut self.counts);
        let (mut actions, mut closed) = (Vec::new(), false);
        socket.link.handle_bytes(&mut self.buffer[..bytes], now, &mut |heard| {
            let event = match heard {
                Heard::Connected => Event::Connected(name),
                Heard::Refused(code) => Event::Refused(name, code),
                Heard::Event(event, argument) => {
                    counts.events_received += u64::from(name == SocketName::Game);
                    Event::Received(name, event, argument)
                }
                Heard::Closed(by) => {
                    closed = true;
                    Event::Closed(name, by)
                }
            };
            actions.extend(player.handle(flow, now, &event));
        });
        self.players_left -= usize::from(!was_done && player.is_done());
        self.flush(id);
        if closed {
            self.drop_link(id);
        }
        self.apply(index, actions);
    }

    fn tell(&mut self, index: PlayerIndex, event: &Event<'_>) {
        let now = self.elapsed();
        let player = &mut self.players[place(index)];
        let was_done = player.is_done();
        let actions = player.handle(&self.flow, now, event);
        self.players_left -= usize::from(!was_done && player.is_done());
        self.apply(index, actions);
    }

    fn apply(&mut self, index: PlayerIndex, actions: Vec<Action>) {
        let mut left = VecDeque::from(actions);
        while let Some(action) = left.pop_front() {
            match action {
                Action::Tell(fact) => self.note(index, &fact),
                Action::Find { step } => self.errands.push(Errand::Find(index, step)),
                Action::Connect { socket, url, auth, within } => {
                    let mut draws = Draws::new(self.seed, (u64::from(index.0) << 8) | socket as u64);
                    let nonce = [draws.bits().to_le_bytes(), draws.bits().to_le_bytes()];
                    self.auths.insert((index, socket), auth.unwrap_or_default());
                    let nonce = nonce.concat().try_into().expect("twice eight bytes are sixteen");
                    let source = source(index.0.wrapping_mul(2) + u32::from(socket == SocketName::Game));
                    self.errands.push(Errand::Open { player: index, socket, url, nonce, source, within });
                }
                Action::Emit { socket, step, argument } => self.emit(index, socket, step, &argument),
                Action::Leave(socket) => self.leave(index, socket),
            }
        }
        self.set_timer(index);
    }

    fn emit(&mut self, index: PlayerIndex, name: SocketName, step: usize, argument: &str) {
        let (Step::Emit { event, .. } | Step::Play { event, .. }) = &self.flow.steps[step] else { return };
        let Some(&id) = self.open.get(&(index, name)) else { return };
        let Some(socket) = self.links.get_mut(&id) else { return };
        let mut closed = None;
        socket
            .link
            .emit(event, argument, &mut |heard| closed = closing(heard))
            .expect("events were checked with the settings, arguments are made here");
        self.counts.inputs_sent += u64::from(name == SocketName::Game);
        match closed {
            Some(by) => self.closed(id, by),
            None => self.flush(id),
        }
    }

    fn leave(&mut self, index: PlayerIndex, name: SocketName) {
        self.auths.remove(&(index, name));
        let Some(id) = self.open.remove(&(index, name)) else { return };
        let close_by = self.elapsed() + CLOSE_WITHIN;
        if let Some(socket) = self.links.get_mut(&id) {
            socket.link.leave();
            socket.close_by = Some(close_by);
            self.flush(id);
        }
    }

    /// Writes what the connection takes now. What is left is written when it can be; a fault is told by the next read.
    fn flush(&mut self, id: LinkId) {
        let Some(socket) = self.links.get_mut(&id) else { return };
        while !socket.link.out().is_empty() {
            match socket.stream.try_write(socket.link.out()) {
                Ok(bytes) => socket.link.wrote(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !std::mem::replace(&mut socket.awaits_write, true) {
                        self.waits.push(Wait { id, side: Side::Write, stream: Rc::clone(&socket.stream) });
                    }
                    return;
                }
                Err(_) => return,
            }
        }
        if socket.close_by.is_some() {
            // The server reads to the end, answers and closes; only then our side goes, so that nothing is cut off.
            shut(&socket.stream, Shutdown::Write);
        }
    }

    /// Forgets a connection. Shutting it down ends the wait that still holds it.
    fn drop_link(&mut self, id: LinkId) {
        if let Some(socket) = self.links.remove(&id) {
            let key = (socket.player, socket.name);
            if self.open.get(&key) == Some(&id) {
                self.open.remove(&key);
            }
            shut(&socket.stream, Shutdown::Both);
        }
    }

    fn set_timer(&mut self, index: PlayerIndex) {
        let queued = &mut self.queued[place(index)];
        if let Some(at) = self.players[place(index)].wake_at()
            && queued.is_none_or(|queued| at < queued)
        {
            *queued = Some(at);
            self.timers.push(Reverse((at, index)));
        }
    }

    fn note(&mut self, index: PlayerIndex, fact: &Fact) {
        self.ledger.record(index, fact);
        match fact {
            Fact::Arrived => self.counts.arrived += 1,
            Fact::Measured(measure, took) => self.measures.record(*measure, *took),
            Fact::Assigned(_) => self.counts.assigned += 1,
            Fact::Playing => self.counts.playing += 1,
            Fact::RoomEnded => self.counts.rooms_ended += 1,
            Fact::Finished => self.counts.finished += 1,
            Fact::Lost { .. } | Fact::Refused { .. } | Fact::Failed { .. } => self.counts.faults += 1,
        }
    }
}

/// The player of this number: name, arrival and choices follow from the seed alone.
pub(crate) fn player(config: &SwarmConfig, index: u32) -> Player {
    let mut draws = Draws::new(config.seed, u64::from(index));
    let arrives_at = draws.span(config.ramp);
    Player::new(&format!("swarm-{}-{index}", config.seed), arrives_at, draws)
}

fn place(index: PlayerIndex) -> usize {
    usize::try_from(index.0).expect("a u32 fits an index")
}

fn closing(heard: Heard<'_>) -> Option<ClosedBy> {
    match heard {
        Heard::Closed(by) => Some(by),
        Heard::Connected | Heard::Refused(_) | Heard::Event(..) => None,
    }
}

/// Reads what is there. A short read has emptied the connection: saying so to the runtime at once saves a second,
/// empty look at it for each readiness.
fn read_once(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    let looked = stream.try_io(Interest::READABLE, || {
        read = rustix::io::read(stream, &mut *buffer)?;
        if read > 0 && read < buffer.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    if read > 0 { Ok(read) } else { looked.map(|()| 0) }
}

/// Shuts one or both directions; a stream that is gone already needs nothing.
fn shut(stream: &TcpStream, how: Shutdown) {
    let _gone_already = socket2::SockRef::from(stream).shutdown(how);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_player_with_both_connections_stays_small() {
        let bytes =
            size_of::<Player>() + 2 * (size_of::<Socket>() + 2 * size_of::<Wait>() + size_of::<TcpStream>());
        assert!(bytes <= 1_200, "{bytes} bytes, without what tokio keeps for each stream");
    }

    #[test]
    fn the_seed_settles_names_and_arrivals() {
        let config = SwarmConfig { seed: 3, ..SwarmConfig::default() };
        let arrivals = |config: &SwarmConfig| -> Vec<_> {
            (0..config.players).map(|index| player(config, index)).map(|player| player.wake_at()).collect()
        };
        assert_eq!(arrivals(&config), arrivals(&config));
        assert_ne!(arrivals(&config), arrivals(&SwarmConfig { seed: 4, ..config.clone() }));
        assert!(arrivals(&config).into_iter().flatten().all(|at| at < config.ramp));
        assert_eq!(player(&config, 7).name(), "swarm-3-7");
    }
}
