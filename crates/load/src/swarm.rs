//! Owns all players of this process as one value, and what was counted of them.
//! Never waits: the loop in `run` tells what happened, and this does the work at once.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    net::Ipv4Addr,
    ops::Range,
    time::{Duration, Instant},
};

use crate::{
    draws::Draws,
    examine::{Examiner, record},
    fact::Fact,
    flow::{Protocol, SocketName, Step},
    health::thread_cpu,
    link::{Heard, Link},
    measure::{Measures, Times},
    open::{OpenError, Opened, source},
    oracle::Ledger,
    player::{Action, ClosedBy, Event, Found, Player, PlayerIndex},
    report::{Counts, Progress},
    scenario::{Peer, Role, Scenario, player_name},
    sockets::{LinkId, Pace, READ_BYTES_MAX, Side, Sockets},
};

/// How long a connection that was left may take to close on both sides.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// What must be fetched from elsewhere for a player; the answer goes back into the swarm.
pub(crate) enum Errand {
    /// An address in the fleet of this step.
    Find(PlayerIndex, usize),
    /// A seat in the room of this key.
    Join(PlayerIndex, usize, String),
    /// A connection.
    Open(PlayerIndex, SocketName, Dial),
}

/// How to open a connection.
pub(crate) struct Dial {
    pub(crate) url: String,
    pub(crate) path: String,
    pub(crate) nonce: [u8; 16],
    pub(crate) source: Ipv4Addr,
    pub(crate) within: Duration,
}

/// A connection that is being opened.
struct Opening {
    protocol: Protocol,
    auth: Option<String>,
}

pub(crate) struct Swarm {
    scenario: Scenario,
    /// Number of the first player of this process.
    first: u32,
    players: Vec<Player>,
    /// The moment for which each player stands in `timers`.
    queued: Vec<Option<Duration>>,
    timers: BinaryHeap<Reverse<(Duration, PlayerIndex)>>,
    opening: HashMap<(PlayerIndex, SocketName), Opening>,
    pub(crate) sockets: Sockets,
    buffer: Vec<u8>,
    players_left: usize,
    /// Who has come to a barrier, by room or group.
    barriers: HashMap<String, Vec<PlayerIndex>>,
    rooms: HashMap<PlayerIndex, String>,
    started: Instant,
    pub(crate) errands: Vec<Errand>,
    pub(crate) ledger: Ledger,
    pub(crate) counts: Counts,
    pub(crate) measures: Measures,
    pub(crate) lag: Times,
    pub(crate) cpu_before: Duration,
}

impl Swarm {
    /// The players of these numbers; `started` is the moment from which all processes count.
    pub(crate) fn new(scenario: &Scenario, numbers: Range<u32>, started: Instant) -> Self {
        let first = numbers.start;
        let ledger = Ledger::new(scenario, numbers.clone());
        let players = players(scenario, numbers);
        let queued: Vec<_> = players.iter().map(Player::wake_at).collect();
        let timers = (first..)
            .zip(&queued)
            .filter_map(|(index, at)| Some(Reverse(((*at)?, PlayerIndex(index)))))
            .collect();
        Self {
            scenario: scenario.clone(),
            first,
            players_left: players.len(),
            timers,
            queued,
            players,
            opening: HashMap::new(),
            sockets: Sockets::default(),
            buffer: vec![0; READ_BYTES_MAX],
            barriers: HashMap::new(),
            rooms: HashMap::new(),
            started,
            errands: Vec::new(),
            ledger,
            counts: Counts::default(),
            measures: Measures::default(),
            lag: Times::default(),
            cpu_before: thread_cpu(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Whether every player is done and every connection closed.
    pub(crate) fn is_over(&self) -> bool {
        self.players_left == 0 && self.sockets.is_empty()
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
            let place = self.place(index);
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

    /// To be called about once a second: heartbeats, slow readers, and connections that take too long to close.
    pub(crate) fn handle_second(&mut self) {
        let now = self.elapsed();
        for id in self.sockets.ids() {
            let Some(socket) = self.sockets.get(id) else { continue };
            if socket.close_by.is_some_and(|at| at <= now) {
                self.sockets.forget(id);
                continue;
            }
            if socket.pace == Pace::Silent {
                continue;
            }
            let mut closed = None;
            socket.link.handle_time(now, &mut |heard| closed = closing(heard));
            match closed {
                Some(by) => self.closed(id, by),
                None => self.sockets.await_read(id, true),
            }
        }
    }

    /// What a player asked control for.
    pub(crate) fn handle_found(&mut self, index: PlayerIndex, answer: Result<Found, String>) {
        self.tell(index, &Event::Found(answer));
    }

    /// A connection that a player asked for, which is being opened since `began`.
    pub(crate) fn handle_opened(
        &mut self,
        index: PlayerIndex,
        name: SocketName,
        began: Instant,
        opened: Result<Opened, OpenError>,
    ) {
        // The player may have given up meanwhile; then the stream is closed by dropping it.
        let Some(Opening { protocol, auth }) = self.opening.remove(&(index, name)) else { return };
        self.tell(index, &Event::Dialled(name, began.saturating_duration_since(self.started)));
        let Opened { stream, first } = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let by = ClosedBy::Transport(error.to_string());
                return self.tell(index, &Event::Closed(name, by));
            }
        };
        let masks = Draws::new(!self.scenario.seed, (u64::from(index.0) << 8) | name as u64);
        let id = self.sockets.add(index, name, stream, Link::new(protocol, auth, masks));
        if protocol == Protocol::WebSocket {
            self.tell(index, &Event::Connected(name));
        }
        let first_bytes = first.len().min(self.buffer.len());
        self.buffer[..first_bytes].copy_from_slice(&first[..first_bytes]);
        self.take_in(id, first_bytes);
    }

    /// A connection can be read or written.
    pub(crate) fn handle_ready(&mut self, id: LinkId, side: Side) {
        match side {
            Side::Write => self.sockets.may_write(id),
            Side::Read => {
                match self.sockets.read(id, &mut self.buffer) {
                    Some(Ok(0)) => self.ended(id, "the server closed the transport"),
                    Some(Ok(bytes)) => self.take_in(id, bytes),
                    Some(Err(error)) => self.ended(id, &error.to_string()),
                    None => {}
                }
                self.sockets.await_read(id, false);
            }
        }
    }

    /// Ends every player where they stand.
    pub(crate) fn stop(&mut self) {
        for nth in 0..self.players.len() {
            let nth = u32::try_from(nth).expect("the number was a u32");
            self.tell(PlayerIndex(self.first + nth), &Event::Stopped);
        }
    }

    fn ended(&mut self, id: LinkId, reason: &str) {
        let Some(socket) = self.sockets.get(id) else { return };
        let mut closed = None;
        socket.link.handle_end(reason, &mut |heard| closed = closing(heard));
        match closed {
            Some(by) => self.closed(id, by),
            None => self.sockets.forget(id),
        }
    }

    fn closed(&mut self, id: LinkId, by: ClosedBy) {
        let Some(socket) = self.sockets.get(id) else { return };
        let (player, name) = (socket.player, socket.name);
        self.sockets.forget(id);
        self.tell(player, &Event::Closed(name, by));
    }

    /// Handles the first `bytes` of the shared buffer as input of a connection.
    fn take_in(&mut self, id: LinkId, bytes: usize) {
        let now = self.elapsed();
        let Some(socket) = self.sockets.get(id) else { return };
        let (index, name) = (socket.player, socket.name);
        let place = place(self.first, index);
        let player = &mut self.players[place];
        let was_done = player.is_done();
        let (scenario, counts) = (&self.scenario, &mut self.counts);
        let mut examiner =
            Examiner { scenario, now, index, ledger: &mut self.ledger, measures: &mut self.measures };
        let (mut actions, mut closed) = (Vec::new(), false);
        socket.link.handle_bytes(&mut self.buffer[..bytes], now, &mut |heard| {
            let event = match heard {
                Heard::Connected => Event::Connected(name),
                Heard::Refused(code) => Event::Refused(name, code),
                Heard::Acked(number) => Event::Acked(name, number),
                Heard::Event(event, argument) => {
                    counts.events_received += u64::from(name == SocketName::Game);
                    examiner.examine(name, event, argument);
                    Event::Received(name, event, argument)
                }
                Heard::Closed(by) => {
                    closed = true;
                    Event::Closed(name, by)
                }
            };
            actions.extend(player.handle(&scenario.flow, now, &event));
        });
        self.players_left -= usize::from(!was_done && player.is_done());
        self.sockets.flush(id);
        if closed {
            self.sockets.forget(id);
        }
        self.apply(index, actions);
    }

    fn tell(&mut self, index: PlayerIndex, event: &Event<'_>) {
        let now = self.elapsed();
        let place = self.place(index);
        let player = &mut self.players[place];
        let was_done = player.is_done();
        let actions = player.handle(&self.scenario.flow, now, event);
        self.players_left -= usize::from(!was_done && player.is_done());
        self.apply(index, actions);
    }

    fn apply(&mut self, index: PlayerIndex, actions: Vec<Action>) {
        let (mut left, mut met) = (VecDeque::from(actions), Vec::new());
        while let Some(action) = left.pop_front() {
            match action {
                Action::Tell(fact) => self.note(index, &fact),
                Action::Find { step } => self.errands.push(Errand::Find(index, step)),
                Action::Join { step, key } => self.errands.push(Errand::Join(index, step, key)),
                Action::Connect { socket, step, url, auth } => self.connect(index, socket, step, url, auth),
                Action::Emit { socket, step, argument, ack } => {
                    self.emit(index, socket, step, &argument, ack);
                }
                Action::Leave(socket) => self.leave(index, socket),
                Action::Meet => met.extend(self.meet(index)),
            }
        }
        self.set_timer(index);
        for player in met {
            self.tell(player, &Event::Met);
        }
    }

    fn connect(
        &mut self,
        index: PlayerIndex,
        socket: SocketName,
        step: usize,
        url: String,
        auth: Option<String>,
    ) {
        let Step::Connect { protocol, path, within, .. } = &self.scenario.flow.steps[step] else { return };
        let mut draws = Draws::new(self.scenario.seed, (u64::from(index.0) << 8) | socket as u64);
        let nonce = [draws.bits().to_le_bytes(), draws.bits().to_le_bytes()];
        let dial = Dial {
            url,
            path: path.clone(),
            nonce: nonce.concat().try_into().expect("twice eight bytes are sixteen"),
            source: source(index.0.wrapping_mul(2) + u32::from(socket == SocketName::Game)),
            within: *within,
        };
        self.opening.insert((index, socket), Opening { protocol: *protocol, auth });
        self.errands.push(Errand::Open(index, socket, dial));
    }

    /// Who may go on because this player has come to the barrier.
    fn meet(&mut self, index: PlayerIndex) -> Vec<PlayerIndex> {
        let size = u32::from(self.scenario.group_players);
        let key = self.rooms.get(&index).cloned().unwrap_or_else(|| format!("group {}", index.0 / size));
        let here = self.barriers.entry(key.clone()).or_default();
        here.push(index);
        if here.len() < usize::from(self.scenario.group_players) {
            return Vec::new();
        }
        self.barriers.remove(&key).unwrap_or_default()
    }

    fn emit(&mut self, index: PlayerIndex, name: SocketName, step: usize, argument: &str, ack: Option<u32>) {
        let (Step::Emit { event, .. } | Step::Play { event, .. }) = &self.scenario.flow.steps[step] else {
            return;
        };
        let Some(id) = self.sockets.of(index, name) else { return };
        let Some(socket) = self.sockets.get(id) else { return };
        let mut closed = None;
        let sent = socket.link.emit(event, argument, ack, &mut |heard| closed = closing(heard));
        if let Err(error) = sent {
            let by = ClosedBy::Transport(format!("{event:?} with {argument} cannot be sent: {error}"));
            return self.closed(id, by);
        }
        self.counts.inputs_sent += u64::from(name == SocketName::Game);
        match closed {
            Some(by) => self.closed(id, by),
            None => self.sockets.flush(id),
        }
    }

    fn leave(&mut self, index: PlayerIndex, name: SocketName) {
        self.opening.remove(&(index, name));
        if let Some(id) = self.sockets.disown(index, name, self.elapsed() + CLOSE_WITHIN) {
            self.sockets.flush(id);
            self.sockets.await_read(id, false);
        }
    }

    fn set_timer(&mut self, index: PlayerIndex) {
        let place = self.place(index);
        let queued = &mut self.queued[place];
        if let Some(at) = self.players[place].wake_at()
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
            Fact::Measured(measured) => record(&mut self.measures, &self.scenario, measured),
            Fact::Assigned(seat) => {
                self.counts.assigned += 1;
                self.rooms.insert(index, seat.room.clone());
            }
            Fact::Playing => {
                self.counts.playing += 1;
                self.misbehave(index);
            }
            Fact::RoomEnded => self.counts.rooms_ended += 1,
            Fact::Finished => self.counts.finished += 1,
            Fact::Shed => self.counts.shed += 1,
            Fact::Numbered(_) => {}
            Fact::Lost { .. } | Fact::Refused { .. } | Fact::Failed { .. } => self.counts.faults += 1,
        }
    }

    /// From the game on, some are slow or silent.
    fn misbehave(&mut self, index: PlayerIndex) {
        let pace = match self.players[self.place(index)].peer() {
            Peer::Sound => return,
            Peer::Slow => Pace::Slow,
            Peer::HalfOpen => Pace::Silent,
        };
        if let Some(socket) = self.sockets.of(index, SocketName::Game).and_then(|id| self.sockets.get(id)) {
            socket.pace = pace;
        }
    }

    fn place(&self, index: PlayerIndex) -> usize {
        place(self.first, index)
    }
}

/// The players of these numbers: name, role, arrival and choices follow from the seed alone.
pub(crate) fn players(scenario: &Scenario, numbers: Range<u32>) -> Vec<Player> {
    let moments = scenario.arrival.moments(scenario.seed, numbers.end);
    let size = u32::from(scenario.group_players);
    numbers
        .map(|index| {
            let peer = scenario.peers.pick(Draws::new(scenario.seed, (1 << 40) | u64::from(index)).share());
            let role = Role { index, group: index / size, seed: scenario.seed, peer };
            let at = moments[usize::try_from(index).expect("a u32 fits an index")];
            let mut draws = Draws::new(scenario.seed, u64::from(index));
            // The first draw may have been the arrival.
            draws.bits();
            Player::new(&player_name(scenario.seed, index), role, at, draws)
        })
        .collect()
}

fn place(first: u32, index: PlayerIndex) -> usize {
    usize::try_from(index.0 - first).expect("a u32 fits an index")
}

fn closing(heard: Heard<'_>) -> Option<ClosedBy> {
    match heard {
        Heard::Closed(by) => Some(by),
        Heard::Connected | Heard::Refused(_) | Heard::Event(..) | Heard::Acked(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SwarmConfig;

    #[test]
    fn the_seed_settles_names_and_arrivals_however_the_players_are_shared_out() {
        let config = SwarmConfig { seed: 3, ..SwarmConfig::default() };
        let arrivals = |seed, numbers: Range<u32>| -> Vec<_> {
            let scenario = SwarmConfig { seed, ..config.clone() }.scenario();
            players(&scenario, numbers)
                .iter()
                .map(|player| (player.name().to_owned(), player.wake_at()))
                .collect()
        };
        let whole = arrivals(3, 0..200);
        assert_eq!(whole, arrivals(3, 0..200));
        assert_eq!(whole, [arrivals(3, 0..80), arrivals(3, 80..200)].concat());
        assert_ne!(whole, arrivals(4, 0..200));
        assert!(whole.iter().all(|(_, at)| at.is_some_and(|at| at < config.ramp)));
        assert_eq!(whole[7].0, "swarm-3-7");
    }
}
