//! Owns one player: where in the flow it stands, its two connections as it knows them, and its moments.
//! Never does IO or reads a clock: events and moments come in, actions go out.

mod away;
#[cfg(test)]
mod tests;
mod turn;

use std::{fmt, time::Duration};

use serde::Deserialize;

use crate::{
    draws::Draws,
    fact::{Fact, Seat, SessionBack},
    flow::{Flow, SocketName},
    scenario::{Peer, Role},
};
use away::Away;
use turn::Turn;

/// Which player: 0 up to the number of players.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlayerIndex(pub u32);

/// What a player hears. Moments are durations since the start of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The moment of [`Player::wake_at`] has come. An earlier call does no harm.
    Woken,
    /// What was asked for, or why there is none.
    Found(Result<Found, String>),
    /// The connection is being opened since this moment; before, it waited for its turn in this process.
    Dialled(SocketName, Duration),
    /// The Socket.IO namespace is connected; for one that came back, what became of its session.
    Connected(SocketName, SessionBack),
    /// The namespace was refused, with this code.
    Refused(SocketName, String),
    /// An event came; its first argument as JSON text.
    Received(SocketName, &'a str, Option<&'a str>),
    /// The event of this number was acknowledged.
    Acked(SocketName, u32),
    /// The whole group has come to the barrier.
    Met,
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

/// An answer of control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where to connect to, `http://host:port`.
    pub url: String,
    /// The seat there and its token, if a seat was asked for.
    pub seat: Option<(Seat, String)>,
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
    /// Ask control for a seat in the room of this key and answer with [`Event::Found`].
    Join {
        /// Number of the step.
        step: usize,
        /// The room's key.
        key: String,
    },
    /// Answer with [`Event::Met`] once the whole group is here.
    Meet,
    /// Connect and answer with [`Event::Connected`], [`Event::Refused`] or [`Event::Closed`].
    Connect {
        /// Which connection it becomes.
        socket: SocketName,
        /// Number of the step that says how.
        step: usize,
        /// Where to, `http://host:port`.
        url: String,
        /// JSON object for the CONNECT packet.
        auth: Option<String>,
    },
    /// Send an event.
    Emit {
        /// By which connection.
        socket: SocketName,
        /// Number of the step that names the event.
        step: usize,
        /// JSON text.
        argument: String,
        /// The number by which it is to be acknowledged.
        ack: Option<u32>,
    },
    /// Cut the connection without a goodbye, after everything that was sent. Nothing is told back.
    Cut(SocketName),
    /// Connect again where this connection was, as its session, and answer as for [`Action::Connect`].
    Reconnect(SocketName),
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
    /// Lost, and to come back.
    Away,
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

/// An event whose acknowledgement has not come yet.
#[derive(Debug)]
struct Awaited {
    number: u32,
    /// The numbered event that it acknowledges; 0 for one without a number.
    numbered: u32,
    due: Duration,
    sent: Duration,
}

/// The most acknowledgements that one player waits for; an older one is given up as missing.
const AWAITED_MAX: usize = 32;

/// One player.
#[derive(Debug)]
pub struct Player {
    name: Box<str>,
    role: Role,
    phase: Phase,
    step: usize,
    sockets: [SocketState; 2],
    leave_at: [Option<Duration>; 2],
    address: Option<Box<Address>>,
    /// Waiting: the arrival. Walking: the end of the current step's time.
    deadline: Option<Duration>,
    input_at: Option<Duration>,
    /// End of the last measured stretch, and when the present one did begin.
    mark: Duration,
    began: Duration,
    /// Numbered events that were sent, and acknowledgements that were asked for.
    numbered: u32,
    acks_asked: u32,
    awaited: Vec<Awaited>,
    /// The last numbered event that was acknowledged.
    numbered_acked: u32,
    /// The next cut of the game connection, and how many were made.
    cut_at: Option<Duration>,
    cuts: u16,
    /// Since the game connection was lost, until it is back.
    away: Option<Box<Away>>,
    /// Pushes that came for each `Expect` step; empty until the first.
    pushes: Vec<u32>,
    draws: Draws,
    /// Whether a seat was assigned before.
    assigned: bool,
    /// Why the room has ended, once it was told.
    room_end: Option<Box<str>>,
}

impl Player {
    /// A player of the name `name` and in this role who arrives at `arrives_at`.
    #[must_use]
    pub fn new(name: &str, role: Role, arrives_at: Duration, draws: Draws) -> Self {
        Self {
            name: name.into(),
            role,
            phase: Phase::Waiting,
            step: 0,
            sockets: [SocketState::Closed; 2],
            leave_at: [None; 2],
            address: None,
            deadline: Some(arrives_at),
            input_at: None,
            mark: arrives_at,
            began: arrives_at,
            numbered: 0,
            acks_asked: 0,
            awaited: Vec::new(),
            numbered_acked: 0,
            cut_at: None,
            cuts: 0,
            away: None,
            pushes: Vec::new(),
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

    /// How the player behaves on the wire.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.role.peer
    }

    /// Whether all is over, well or not.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// The next moment at which [`Event::Woken`] is due. Changes with every event.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        let away = self.away.as_ref().map(|away| away.wake_at());
        let own = [self.deadline, self.input_at, self.leave_at[0], self.leave_at[1], self.cut_at, away];
        own.into_iter().flatten().min()
    }

    /// Takes an event in. Once the player is done, it wants nothing more.
    pub fn handle(&mut self, flow: &Flow, now: Duration, event: &Event<'_>) -> Vec<Action> {
        let mut turn = Turn { player: self, flow, now, actions: Vec::new() };
        if turn.player.phase != Phase::Done {
            match event {
                Event::Woken => turn.woken(),
                Event::Found(answer) => turn.found(answer),
                Event::Connected(socket, session) => turn.connected(*socket, *session),
                Event::Dialled(socket, at) => turn.dialled(*socket, *at),
                Event::Acked(socket, number) => turn.acked(*socket, *number),
                Event::Met => turn.met(),
                Event::Refused(socket, code) => turn.refused(*socket, code),
                Event::Received(socket, name, argument) => turn.received(*socket, name, *argument),
                Event::Closed(socket, by) => turn.closed(*socket, by),
                Event::Stopped => turn.end(),
            }
        }
        turn.actions
    }
}

impl fmt::Display for PlayerIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
