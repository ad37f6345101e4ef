//! Owns all players of this process as one value, and what was counted of them.
//! Never waits: the loop in `run` tells what happened, and this does the work at once.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    io,
    ops::Range,
    time::{Duration, Instant},
};

use crate::{
    barrier::Barriers,
    crew::players,
    diary::Diary,
    draws::Draws,
    examine::{Examiner, record},
    fact::{Fact, SessionBack},
    flow::{Protocol, SocketName, Step},
    health::thread_cpu,
    home::{Home, Homes},
    link::{Heard, Link, Session},
    measure::{Measures, Times},
    open::{Dial, OpenError, Opened, source},
    oracle::Ledger,
    player::{Action, ClosedBy, Event, Found, Player, PlayerIndex},
    report::{Counts, Progress},
    scenario::{Peer, Scenario},
    sockets::{LinkId, Pace, READ_BYTES_MAX, Ready, Sockets},
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

/// A connection that is being opened.
struct Opening {
    protocol: Protocol,
    auth: Option<String>,
    session: Session,
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
    homes: Homes,
    pub(crate) sockets: Sockets,
    buffer: Vec<u8>,
    players_left: usize,
    barriers: Barriers,
    started: Instant,
    pub(crate) errands: Vec<Errand>,
    pub(crate) ledger: Ledger,
    pub(crate) counts: Counts,
    pub(crate) measures: Measures,
    pub(crate) lag: Times,
    pub(crate) cpu_before: Duration,
    pub(crate) diary: Diary,
}

impl Swarm {
    /// The players of these numbers; `started` is the moment from which all processes count.
    ///
    /// # Errors
    /// The system does not let this process watch connections.
    pub(crate) fn new(scenario: &Scenario, numbers: Range<u32>, started: Instant) -> io::Result<Self> {
        let first = numbers.start;
        let ledger = Ledger::new(scenario, numbers.clone());
        let players = players(scenario, numbers);
        let queued: Vec<_> = players.iter().map(Player::wake_at).collect();
        let timers = (first..)
            .zip(&queued)
            .filter_map(|(index, at)| Some(Reverse(((*at)?, PlayerIndex(index)))))
            .collect();
        Ok(Self {
            scenario: scenario.clone(),
            first,
            players_left: players.len(),
            timers,
            queued,
            players,
            opening: HashMap::new(),
            homes: Homes::default(),
            sockets: Sockets::new()?,
            buffer: vec![0; READ_BYTES_MAX],
            barriers: Barriers::default(),
            started,
            errands: Vec::new(),
            ledger,
            counts: Counts::default(),
            measures: Measures::default(),
            lag: Times::default(),
            cpu_before: thread_cpu(),
            diary: Diary::default(),
        })
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
        let held = u32::try_from(self.sockets.count_of(SocketName::Game)).unwrap_or(u32::MAX);
        Progress { elapsed: self.elapsed(), players, counts: Counts { held, ..self.counts } }
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
            socket.link.handle_time(now, &mut |heard| closed = heard.closing());
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
        let Some(Opening { protocol, auth, session }) = self.opening.remove(&(index, name)) else { return };
        self.tell(index, &Event::Dialled(name, began.saturating_duration_since(self.started)));
        let Opened { stream, first } = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let by = ClosedBy::Transport(error.to_string());
                self.homes.keep(index, name, session);
                return self.tell(index, &Event::Closed(name, by));
            }
        };
        let masks = Draws::new(!self.scenario.seed, (u64::from(index.0) << 8) | name as u64);
        let link = Link::new(protocol, session.beside(auth.as_deref()), masks).continuing(session);
        let id = match self.sockets.add(index, name, stream, link) {
            Ok(id) => id,
            Err(error) => {
                return self.tell(index, &Event::Closed(name, ClosedBy::Transport(error.to_string())));
            }
        };
        if protocol == Protocol::WebSocket {
            self.tell(index, &Event::Connected(name, SessionBack::None));
        }
        let first_bytes = first.len().min(self.buffer.len());
        self.buffer[..first_bytes].copy_from_slice(&first[..first_bytes]);
        self.take_in(id, first_bytes);
    }

    /// Handles what is ready on some connections. The answer says whether others may be ready too.
    ///
    /// # Errors
    /// The system no longer tells what is ready.
    pub(crate) fn handle_ready(&mut self) -> io::Result<bool> {
        let ready = self.sockets.ready()?;
        let has_more = !ready.is_empty();
        for Ready { id, to_read, to_write } in ready {
            if to_write {
                self.sockets.flush(id);
            }
            if to_read {
                self.read(id);
            }
        }
        Ok(has_more)
    }

    fn read(&mut self, id: LinkId) {
        match self.sockets.read(id, &mut self.buffer) {
            Some(Ok(0)) => self.ended(id, "the server closed the transport"),
            Some(Ok(bytes)) => self.take_in(id, bytes),
            Some(Err(error)) => self.ended(id, &error.to_string()),
            None => {}
        }
        self.sockets.await_read(id, false);
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
        socket.link.handle_end(reason, &mut |heard| closed = heard.closing());
        match closed {
            Some(by) => self.closed(id, by),
            None => self.sockets.forget(id),
        }
    }

    /// Keeps where a connection's session stands, for the one after it.
    fn keep_session(&mut self, id: LinkId) {
        if let Some(socket) = self.sockets.get(id) {
            let (player, name, session) = (socket.player, socket.name, socket.link.take_session());
            self.homes.keep(player, name, session);
        }
    }

    fn closed(&mut self, id: LinkId, by: ClosedBy) {
        let Some(socket) = self.sockets.get(id) else { return };
        let (player, name) = (socket.player, socket.name);
        self.keep_session(id);
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
                Heard::Connected(session) => {
                    // At once: the first events may come in the same read.
                    if name == SocketName::Game {
                        examiner.ledger.session_began(index, session);
                    }
                    Event::Connected(name, session)
                }
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
            self.keep_session(id);
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
            self.diary.note(&self.scenario.flow, index, &action);
            match action {
                Action::Tell(fact) => self.note(index, &fact),
                Action::Find { step } => self.errands.push(Errand::Find(index, step)),
                Action::Join { step, key } => self.errands.push(Errand::Join(index, step, key)),
                Action::Connect { socket, step, url, auth } => self.connect(index, socket, step, url, auth),
                Action::Emit { socket, step, argument, ack } => {
                    self.emit(index, socket, step, &argument, ack);
                }
                Action::Leave(socket) => self.leave(index, socket),
                Action::Cut(socket) => self.cut(index, socket),
                Action::Reconnect(socket) => self.reconnect(index, socket),
                Action::Meet => {
                    let room = self.ledger.room_of(index.0);
                    met.extend(self.barriers.come(room, index, self.scenario.group_players));
                }
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
        let mut session = Session::Unkept;
        if self.scenario.flow.comeback.is_some() && socket == SocketName::Game {
            session = Session::Untold;
            self.homes.settle(index, socket, Home { step, url: url.clone(), auth: auth.clone() });
        }
        self.dial(index, socket, Home { step, url, auth }, session);
    }

    /// Dials again where the player was, as who the player was.
    fn reconnect(&mut self, index: PlayerIndex, socket: SocketName) {
        if let Some((home, session)) = self.homes.leave(index, socket) {
            self.dial(index, socket, home, session);
        }
    }

    fn dial(&mut self, index: PlayerIndex, socket: SocketName, home: Home, session: Session) {
        let Home { step, url, auth } = home;
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
        self.opening.insert((index, socket), Opening { protocol: *protocol, auth, session });
        self.errands.push(Errand::Open(index, socket, dial));
    }

    fn emit(&mut self, index: PlayerIndex, name: SocketName, step: usize, argument: &str, ack: Option<u32>) {
        let (Step::Emit { event, .. } | Step::Play { event, .. }) = &self.scenario.flow.steps[step] else {
            return;
        };
        let Some(id) = self.sockets.of(index, name) else { return };
        let Some(socket) = self.sockets.get(id) else { return };
        let mut closed = None;
        let sent = socket.link.emit(event, argument, ack, &mut |heard| closed = heard.closing());
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

    /// Everything that was sent goes out, then nothing more; what comes in is not looked at.
    fn cut(&mut self, index: PlayerIndex, name: SocketName) {
        let Some(id) = self.sockets.of(index, name) else { return };
        self.keep_session(id);
        if self.sockets.cut(index, name, self.elapsed() + CLOSE_WITHIN).is_some() {
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
            Fact::Assigned(_) => self.counts.assigned += 1,
            Fact::Playing => {
                self.counts.playing += 1;
                self.misbehave(index);
            }
            Fact::RoomEnded => self.counts.rooms_ended += 1,
            Fact::RoomLost => self.counts.rooms_lost += 1,
            Fact::Away { .. } => {}
            Fact::Back { session, .. } => {
                self.counts.reconnects += 1;
                self.counts.recovered += u32::from(*session == SessionBack::Recovered);
            }
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
        self.ledger.misbehaves(index);
        if let Some(socket) = self.sockets.of(index, SocketName::Game).and_then(|id| self.sockets.get(id)) {
            socket.pace = pace;
        }
    }

    fn place(&self, index: PlayerIndex) -> usize {
        place(self.first, index)
    }
}

fn place(first: u32, index: PlayerIndex) -> usize {
    usize::try_from(index.0 - first).expect("a u32 fits an index")
}
