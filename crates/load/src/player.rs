//! Owns one player: where in the flow it stands, its two connections as it knows them, and its moments.
//! Never does IO or reads a clock: events and moments come in, actions go out.

#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use serde::Deserialize;

use crate::{
    draws::Draws,
    fact::{Fact, Seat},
    flow::{Argument, Flow, Measure, SocketName, Step},
};

/// Which player: 0 up to the number of players.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlayerIndex(pub u32);

/// What a player hears. Moments are durations since the start of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The moment of [`Player::wake_at`] has come. An earlier call does no harm.
    Woken,
    /// The address asked for, as a URL, or why there is none.
    Found(Result<String, String>),
    /// The Socket.IO namespace is connected.
    Connected(SocketName),
    /// The namespace was refused, with this code.
    Refused(SocketName, String),
    /// An event came; its first argument as JSON text.
    Received(SocketName, &'a str, Option<&'a str>),
    /// The connection is gone though the player did not leave it.
    Closed(SocketName, ClosedBy),
    /// The run is stopped: leave.
    Stopped,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClosedBy {
    /// The server disconnected the socket, as it does when a room has ended.
    Server,
    /// The transport failed or was closed, or could not be opened; in words.
    Transport(String),
}

/// What a player wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Ask control for an address in the fleet of this step and answer with [`Event::Found`].
    Find {
        /// Number of the step.
        step: usize,
    },
    /// Connect and answer with [`Event::Connected`], [`Event::Refused`] or [`Event::Closed`].
    Connect {
        /// Which connection it becomes.
        socket: SocketName,
        /// Where to, `http://host:port`.
        url: String,
        /// JSON object for the CONNECT packet.
        auth: Option<String>,
        /// Time after which it counts as failed.
        within: Duration,
    },
    /// Send an event.
    Emit {
        /// By which connection.
        socket: SocketName,
        /// Number of the step that names the event.
        step: usize,
        /// JSON text.
        argument: String,
    },
    /// Leave and close the connection, or give up opening it. Nothing is told back.
    Leave(SocketName),
    /// For measures and oracles.
    Tell(Fact),
}

/// The lobby's word.
#[derive(Deserialize)]
struct Matched {
    room: String,
    endpoint: String,
    url: Option<String>,
    token: String,
    seat: u16,
}

/// A game server's word.
#[derive(Deserialize)]
struct RoomEnd {
    reason: Box<str>,
}

/// The one reason for which a room may end under its players.
const FINISHED: &str = "finished";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SocketState {
    Closed,
    Opening,
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Walking,
    Done,
}

/// Where and how to connect next; kept only until then.
#[derive(Debug)]
struct Address {
    url: String,
    auth: Option<String>,
}

/// One player.
#[derive(Debug)]
pub struct Player {
    name: Box<str>,
    phase: Phase,
    step: usize,
    sockets: [SocketState; 2],
    leave_at: [Option<Duration>; 2],
    address: Option<Box<Address>>,
    /// Waiting: the arrival. Walking: the end of the current step's time.
    deadline: Option<Duration>,
    input_at: Option<Duration>,
    /// End of the last measured stretch.
    mark: Duration,
    draws: Draws,
    /// Whether a seat was assigned before.
    assigned: bool,
    /// Why the room has ended, once it was told.
    room_end: Option<Box<str>>,
}

impl Player {
    /// A player of the name `name` who arrives at `arrives_at`.
    #[must_use]
    pub fn new(name: &str, arrives_at: Duration, draws: Draws) -> Self {
        Self {
            name: name.into(),
            phase: Phase::Waiting,
            step: 0,
            sockets: [SocketState::Closed; 2],
            leave_at: [None; 2],
            address: None,
            deadline: Some(arrives_at),
            input_at: None,
            mark: arrives_at,
            draws,
            assigned: false,
            room_end: None,
        }
    }

    /// The player's id at the back end.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether all is over, well or not.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// The next moment at which [`Event::Woken`] is due. Changes with every event.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        [self.deadline, self.input_at, self.leave_at[0], self.leave_at[1]].into_iter().flatten().min()
    }

    /// Takes an event in. Once the player is done, it wants nothing more.
    pub fn handle(&mut self, flow: &Flow, now: Duration, event: &Event<'_>) -> Vec<Action> {
        let mut turn = Turn { player: self, flow, now, actions: Vec::new() };
        if turn.player.phase != Phase::Done {
            match event {
                Event::Woken => turn.woken(),
                Event::Found(answer) => turn.found(answer),
                Event::Connected(socket) => turn.connected(*socket),
                Event::Refused(socket, code) => turn.refused(*socket, code),
                Event::Received(socket, name, argument) => turn.received(*socket, name, *argument),
                Event::Closed(socket, by) => turn.closed(*socket, by),
                Event::Stopped => turn.end(),
            }
        }
        turn.actions
    }
}

/// One event being handled.
struct Turn<'a> {
    player: &'a mut Player,
    flow: &'a Flow,
    now: Duration,
    actions: Vec<Action>,
}

impl Turn<'_> {
    fn step(&self) -> &Step {
        &self.flow.steps[self.player.step]
    }

    fn tell(&mut self, fact: Fact) {
        self.actions.push(Action::Tell(fact));
    }

    fn woken(&mut self) {
        if self.player.phase == Phase::Waiting {
            if self.player.deadline.is_some_and(|at| at <= self.now) {
                self.player.phase = Phase::Walking;
                self.tell(Fact::Arrived);
                self.enter();
            }
            return;
        }
        for socket in SocketName::ALL {
            if self.player.leave_at[socket.index()].is_some_and(|at| at <= self.now) {
                self.leave(socket);
            }
        }
        if self.player.deadline.is_some_and(|at| at <= self.now) {
            match self.step() {
                Step::Play { .. } => self.advance(),
                Step::Find { within, .. }
                | Step::ConnectFound { within, .. }
                | Step::ConnectSeat { within, .. }
                | Step::ExpectSeat { within, .. } => {
                    let reason = format!("not done within {within:?}");
                    self.fail(reason);
                }
                Step::Emit { .. } | Step::LeaveLater { .. } | Step::Leave { .. } => {}
            }
        } else if self.player.input_at.is_some_and(|at| at <= self.now) {
            self.send_input();
        }
    }

    /// Sends one input, and sets the next one into the future: inputs that were missed are not sent in a burst.
    fn send_input(&mut self) {
        let flow = self.flow;
        let (Step::Play { socket, argument, every: Some(every), .. }, Some(due)) =
            (&flow.steps[self.player.step], self.player.input_at)
        else {
            return;
        };
        self.emit(*socket, *argument);
        let missed = (self.now - due).as_nanos() / every.as_nanos().max(1);
        let steps = u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1);
        self.player.input_at = Some(due.saturating_add(every.saturating_mul(steps)));
    }

    fn emit(&mut self, socket: SocketName, argument: Argument) {
        let argument = match argument {
            Argument::Player => {
                let name = serde_json::Value::from(&*self.player.name);
                format!(r#"{{"player":{name}}}"#)
            }
            Argument::Direction => {
                let mut axis = || i64::try_from(self.player.draws.below(255)).expect("below 255") - 127;
                let (x, y) = (axis(), axis());
                format!(r#"{{"x":{x},"y":{y}}}"#)
            }
        };
        self.actions.push(Action::Emit { socket, step: self.player.step, argument });
    }

    fn found(&mut self, answer: &Result<String, String>) {
        if !matches!(self.step(), Step::Find { .. }) {
            return;
        }
        match answer {
            Ok(url) => {
                self.player.address = Some(Box::new(Address { url: url.clone(), auth: None }));
                self.advance();
            }
            Err(reason) => self.fail(reason.clone()),
        }
    }

    fn connected(&mut self, connected: SocketName) {
        if self.player.sockets[connected.index()] != SocketState::Opening {
            return;
        }
        self.player.sockets[connected.index()] = SocketState::Open;
        if let Step::ConnectFound { socket, measure, .. } | Step::ConnectSeat { socket, measure, .. } =
            *self.step()
            && socket == connected
        {
            self.measured(measure);
            self.advance();
        }
    }

    fn measured(&mut self, measure: Measure) {
        let took = self.now.saturating_sub(self.player.mark);
        self.player.mark = self.now;
        self.tell(Fact::Measured(measure, took));
    }

    fn refused(&mut self, socket: SocketName, code: &str) {
        // The transport is still there; the end closes it.
        self.tell(Fact::Refused { socket, code: code.to_owned() });
        self.end();
    }

    fn received(&mut self, on: SocketName, name: &str, argument: Option<&str>) {
        if let Step::Play { socket, end, .. } = self.step()
            && *socket == on
        {
            if end == name {
                let told = argument.and_then(|argument| serde_json::from_str::<RoomEnd>(argument).ok());
                self.player.room_end = Some(told.map_or_else(|| "untold".into(), |end| end.reason));
            }
            return;
        }
        let expected = self.flow.steps.iter().position(
            |step| matches!(step, Step::ExpectSeat { socket, event, .. } if *socket == on && event == name),
        );
        let Some(expected) = expected else { return };
        let Step::ExpectSeat { measure, .. } = self.flow.steps[expected] else { return };
        let matched: Matched = match serde_json::from_str(argument.unwrap_or("null")) {
            Ok(matched) => matched,
            Err(error) => return self.fail(format!("{name:?} cannot be read: {error}")),
        };
        let first = !std::mem::replace(&mut self.player.assigned, true);
        let seat = Seat { room: matched.room, endpoint: matched.endpoint, seat: matched.seat };
        let url = matched.url.unwrap_or_else(|| format!("http://{}", seat.endpoint));
        self.tell(Fact::Assigned(seat));
        if expected == self.player.step {
            let auth = format!(r#"{{"token":{}}}"#, serde_json::Value::from(matched.token));
            self.player.address = Some(Box::new(Address { url, auth: Some(auth) }));
            self.measured(measure);
            self.advance();
        } else if first {
            self.fail(format!("{name:?} came unasked"));
        }
    }

    fn closed(&mut self, socket: SocketName, by: &ClosedBy) {
        let state = std::mem::replace(&mut self.player.sockets[socket.index()], SocketState::Closed);
        self.player.leave_at[socket.index()] = None;
        let needed = self.step().needs() == Some(socket);
        let during = self.step().title();
        let room_end = self.player.room_end.as_deref().filter(|_| needed);
        let reason = match (room_end, by) {
            (Some(end), _) if end != FINISHED => format!("the room ended: {end}"),
            (_, ClosedBy::Server) => "the server disconnected the socket".to_owned(),
            (_, ClosedBy::Transport(reason)) => reason.clone(),
        };
        match state {
            SocketState::Closed => {}
            SocketState::Opening => self.fail(reason),
            SocketState::Open if *by == ClosedBy::Server && room_end == Some(FINISHED) => {
                self.tell(Fact::RoomEnded);
                self.advance();
            }
            SocketState::Open => {
                self.tell(Fact::Lost { socket, during, reason });
                if needed {
                    self.end();
                }
            }
        }
    }

    fn advance(&mut self) {
        self.player.step += 1;
        self.enter();
    }

    /// Does the steps from the current one on until one of them waits.
    fn enter(&mut self) {
        self.player.deadline = None;
        self.player.input_at = None;
        let flow = self.flow;
        while let Some(step) = flow.steps.get(self.player.step) {
            match step {
                Step::Find { within, .. } => {
                    self.actions.push(Action::Find { step: self.player.step });
                    self.player.deadline = Some(self.now + *within);
                    return;
                }
                Step::ConnectFound { socket, within, .. } | Step::ConnectSeat { socket, within, .. } => {
                    return self.connect(*socket, *within);
                }
                Step::Emit { socket, argument, .. } => self.emit(*socket, *argument),
                Step::ExpectSeat { within, .. } => {
                    self.player.deadline = Some(self.now + *within);
                    return;
                }
                Step::LeaveLater { socket, within } => {
                    let wait = self.player.draws.span(*within);
                    self.player.leave_at[socket.index()] = Some(self.now + wait);
                }
                Step::Play { every, lasting, .. } => {
                    self.tell(Fact::Playing);
                    self.player.deadline = Some(self.now + *lasting);
                    self.player.input_at = every.map(|every| self.now + self.player.draws.span(every));
                    return;
                }
                Step::Leave { socket } => self.leave(*socket),
            }
            self.player.step += 1;
        }
        self.tell(Fact::Finished);
        self.end();
    }

    fn connect(&mut self, socket: SocketName, within: Duration) {
        let Some(address) = self.player.address.take() else {
            return self.fail("there is no address to connect to".to_owned());
        };
        let Address { url, auth } = *address;
        self.player.sockets[socket.index()] = SocketState::Opening;
        self.player.deadline = Some(self.now + within);
        self.actions.push(Action::Connect { socket, url, auth, within });
    }

    fn leave(&mut self, socket: SocketName) {
        self.player.leave_at[socket.index()] = None;
        let state = std::mem::replace(&mut self.player.sockets[socket.index()], SocketState::Closed);
        if state != SocketState::Closed {
            self.actions.push(Action::Leave(socket));
        }
    }

    fn fail(&mut self, reason: String) {
        self.tell(Fact::Failed { during: self.step().title(), reason });
        self.end();
    }

    fn end(&mut self) {
        self.player.phase = Phase::Done;
        self.player.deadline = None;
        self.player.input_at = None;
        self.player.address = None;
        for socket in SocketName::ALL {
            self.leave(socket);
        }
    }
}

impl fmt::Display for PlayerIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
