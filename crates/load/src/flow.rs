//! Owns what a player does, as data: the steps and their bounds.
//! Never does a step: the player walks through them.

use std::time::Duration;

use greenroom_core::FleetName;

use crate::template::Template;

/// Which of a player's two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketName {
    /// To the lobby server.
    Lobby,
    /// To the game server.
    Game,
}

impl SocketName {
    /// Both, in the order in which a player opens them.
    pub const ALL: [Self; 2] = [Self::Lobby, Self::Game];

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Lobby => 0,
            Self::Game => 1,
        }
    }
}

impl std::fmt::Display for SocketName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Lobby => "lobby",
            Self::Game => "game",
        })
    }
}

/// A time that is measured. Each is counted twice: from the moment at which it was meant to begin (the intended
/// arrival, the end of the stretch before, the moment a message was due), so that a late generator or a queue anywhere
/// shows; and from the moment at which it did begin, as the service alone takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Intended arrival to connected lobby socket, with the question for its address.
    Connect,
    /// Lobby to assignment.
    Match,
    /// Assignment to connected game socket.
    Enter,
    /// An event to its acknowledgement.
    Ack,
    /// The wait for an expected push.
    Push,
    /// A numbered event to each one who hears it.
    Deliver,
    /// The end of a connection to the connection that takes its place.
    Resume,
}

impl Measure {
    /// All, in the order of the way.
    pub const ALL: [Self; 7] =
        [Self::Connect, Self::Match, Self::Enter, Self::Ack, Self::Push, Self::Deliver, Self::Resume];

    /// For people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Connect => "arrival to lobby",
            Self::Match => "lobby to match",
            Self::Enter => "match to game",
            Self::Ack => "emit to ack",
            Self::Push => "wait for push",
            Self::Deliver => "emit to all",
            Self::Resume => "cut to resumed",
        }
    }

    /// For thresholds.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Match => "match",
            Self::Enter => "enter",
            Self::Ack => "ack",
            Self::Push => "push",
            Self::Deliver => "deliver",
            Self::Resume => "resume",
        }
    }
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Socket.IO over a WebSocket.
    SocketIo,
    /// Text messages of a bare WebSocket. Each is heard as event `message`; what is emitted is sent as it is.
    WebSocket,
}

/// One thing to do. A step that waits fails the player when its time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Asks control where to connect to.
    Find {
        /// The fleet asked for.
        fleet: FleetName,
        /// How long the answer may take.
        within: Duration,
    },
    /// Asks control for a seat in the room of a key, and so for where to connect to. The same key is the same room.
    Join {
        /// The fleet of the room.
        fleet: FleetName,
        /// The key, the same for the whole group.
        key: Template,
        /// How long the answer may take.
        within: Duration,
    },
    /// Takes this address to connect to; asks nobody.
    Address {
        /// `http://host:port`.
        url: String,
    },
    /// Connects to what was found, or to the seat that was assigned, with its token.
    Connect {
        /// The connection it becomes.
        socket: SocketName,
        /// What is spoken on it.
        protocol: Protocol,
        /// Where the WebSocket is opened, from `/` on.
        path: String,
        /// How long it may take.
        within: Duration,
        /// What it ends.
        measure: Measure,
    },
    /// Sends one event.
    Emit {
        /// By which connection.
        socket: SocketName,
        /// Its name.
        event: String,
        /// What it tells, JSON text.
        argument: Template,
        /// How long the acknowledgement may take; `None` asks for none.
        ack_within: Option<Duration>,
    },
    /// Waits for pushes. They count from the start of the player's way, so that one that comes early is not missed;
    /// each counts for one step.
    Expect {
        /// On which connection.
        socket: SocketName,
        /// The event's name.
        event: String,
        /// How many.
        count: u32,
        /// How long they may take.
        within: Duration,
    },
    /// Waits for the event that assigns a seat. It is watched for as long as the connection lives, so that a second
    /// assignment is seen.
    ExpectSeat {
        /// On which connection.
        socket: SocketName,
        /// The event's name.
        event: String,
        /// How long it may take.
        within: Duration,
        /// What it ends.
        measure: Measure,
    },
    /// Does nothing for a drawn time.
    Think {
        /// At least this.
        least: Duration,
        /// At most this.
        most: Duration,
    },
    /// Waits until everybody of the group is here: of the same room if seats were assigned, else by number.
    Barrier {
        /// How long the others may take.
        within: Duration,
    },
    /// Leaves a connection at a drawn moment from now on, while the next steps go on.
    LeaveLater {
        /// Which.
        socket: SocketName,
        /// The latest moment.
        within: Duration,
    },
    /// Plays until the time is over, or until the server has told the end of the room and disconnects the socket.
    Play {
        /// By which connection.
        socket: SocketName,
        /// Name of the input event.
        event: String,
        /// What an input tells, JSON text.
        argument: Template,
        /// Time between two inputs; `None` only watches. The first comes at a drawn moment of the first interval.
        every: Option<Duration>,
        /// The longest time.
        lasting: Duration,
        /// How long the acknowledgement of each input may take; `None` asks for none.
        ack_within: Option<Duration>,
        /// Name of the event that tells the end of the room. Without it a disconnection is a fault.
        end: String,
    },
    /// Leaves a connection now; nothing if it has ended.
    Leave {
        /// Which.
        socket: SocketName,
    },
}

impl Step {
    /// For people: what the player was at.
    #[must_use]
    pub const fn title(&self) -> &'static str {
        match self {
            Self::Find { .. } => "asking for the lobby",
            Self::Join { .. } => "asking for a seat",
            Self::Address { .. } => "taking an address",
            Self::Connect { socket: SocketName::Lobby, .. } => "connecting to the lobby",
            Self::Connect { socket: SocketName::Game, .. } => "connecting to the game",
            Self::Emit { .. } => "sending an event",
            Self::Expect { .. } => "waiting for a push",
            Self::ExpectSeat { .. } => "waiting for a match",
            Self::Think { .. } => "thinking",
            Self::Barrier { .. } => "waiting for the group",
            Self::LeaveLater { .. } | Self::Leave { .. } => "leaving",
            Self::Play { .. } => "playing",
        }
    }

    /// The connection without which this step cannot end well.
    #[must_use]
    pub const fn needs(&self) -> Option<SocketName> {
        match self {
            Self::Connect { socket, .. }
            | Self::Emit { socket, .. }
            | Self::Expect { socket, .. }
            | Self::ExpectSeat { socket, .. }
            | Self::Play { socket, .. } => Some(*socket),
            Self::Find { .. }
            | Self::Join { .. }
            | Self::Address { .. }
            | Self::Think { .. }
            | Self::Barrier { .. }
            | Self::LeaveLater { .. }
            | Self::Leave { .. } => None,
        }
    }
}

/// The steps of every player, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// At least one.
    pub steps: Vec<Step>,
    /// How a lost game connection comes back; `None`: a lost connection is a fault.
    pub comeback: Option<Comeback>,
    /// When players cut their own game connections while they play; needs `comeback`.
    pub cuts: Option<Cuts>,
}

/// How a player comes back to the game after its connection was lost, as the stock client does: to the same address,
/// with the same token, and with the session's `pid` and last offset beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comeback {
    /// The longest time until the player is connected again, 1 ms to 1 h.
    pub within: Duration,
    /// First wait before dialling, doubled with each failure up to 5 s; half of it is drawn. 1 ms to 1 min.
    pub delay: Duration,
    /// Whether the session must be the same one.
    pub session: SessionWanted,
    /// Whether the room must still be there.
    pub rooms: RoomsWanted,
}

/// What a session that comes back must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionWanted {
    /// Recovered: the same `sid` and `pid`, and every event from the last position on.
    Must,
    /// Recovered or new. What a new one has missed is not asked for.
    May,
}

/// Whether rooms may end while players are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomsWanted {
    /// A room that is gone is a fault.
    Stay,
    /// It is counted, and its players are done: for servers that are killed on purpose.
    MayEnd,
}

/// When players cut their connections without a goodbye, and how long they stay away. What was sent before still
/// arrives; what the server sends from then on is not read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cuts {
    /// When.
    pub shape: CutShape,
    /// Share of players who do, 0 to 1.
    pub share: f64,
    /// They dial again after this time to twice of it, drawn; up to 1 h.
    pub away: Duration,
}

/// When connections are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutShape {
    /// All at one moment of the run: a reconnect storm. Who does not play then is left alone.
    Storm {
        /// The moment.
        at: Duration,
    },
    /// Each player again and again, at drawn moments half of this to one and a half of it apart.
    Churn {
        /// The mean time between two cuts of a player, 100 ms to 24 h.
        every: Duration,
    },
}

/// The bounds of [`Flow::lobby_match_game`].
#[derive(Debug, Clone, PartialEq)]
pub struct FlowTimes {
    /// For each address and connection.
    pub connect_within: Duration,
    /// For the match.
    pub match_within: Duration,
    /// The latest moment after the match at which the lobby is left.
    pub handover: Duration,
    /// Time between two inputs; `None` only watches.
    pub input_every: Option<Duration>,
    /// How long a player plays, unless the room ends before.
    pub play: Duration,
}

/// Where a Socket.IO server takes WebSockets.
pub const SOCKET_IO_PATH: &str = "/socket.io/?EIO=4&transport=websocket";

impl Flow {
    /// Lobby, match, game, finish: connect to a server of `lobby`, emit `match`, wait for `matched`, connect to the game
    /// with the token, leave the lobby a little later, send `input` events, leave.
    #[must_use]
    pub fn lobby_match_game(lobby: FleetName, input: String, argument: Template, times: &FlowTimes) -> Self {
        use SocketName::{Game, Lobby};
        let FlowTimes { connect_within: within, match_within, handover, input_every, play } = *times;
        let template = |text| Template::parse(text).expect("every place of this text is known");
        let connect = |socket, measure| Step::Connect {
            socket,
            protocol: Protocol::SocketIo,
            path: SOCKET_IO_PATH.to_owned(),
            within,
            measure,
        };
        Self {
            steps: vec![
                Step::Find { fleet: lobby, within },
                connect(Lobby, Measure::Connect),
                Step::Emit {
                    socket: Lobby,
                    event: "match".to_owned(),
                    argument: template(r#"{"player":"{player}"}"#),
                    ack_within: None,
                },
                Step::ExpectSeat {
                    socket: Lobby,
                    event: "matched".to_owned(),
                    within: match_within,
                    measure: Measure::Match,
                },
                connect(Game, Measure::Enter),
                Step::LeaveLater { socket: Lobby, within: handover },
                Step::Play {
                    socket: Game,
                    event: input,
                    argument,
                    every: input_every,
                    lasting: play,
                    ack_within: None,
                    end: "greenroom:closed".to_owned(),
                },
                Step::Leave { socket: Game },
                Step::Leave { socket: Lobby },
            ],
            comeback: None,
            cuts: None,
        }
    }

    /// Whether seats come from a match, from keys, or not at all.
    #[must_use]
    pub fn seats(&self) -> Seats {
        let has = |wanted: fn(&Step) -> bool| self.steps.iter().any(wanted);
        if has(|step| matches!(step, Step::ExpectSeat { .. })) {
            Seats::Matched
        } else if has(|step| matches!(step, Step::Join { .. })) {
            Seats::Keyed
        } else {
            Seats::None
        }
    }
}

/// How players of a flow come to seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seats {
    /// The server finds groups.
    Matched,
    /// The players of one group ask for one room.
    Keyed,
    /// There are none.
    None,
}
