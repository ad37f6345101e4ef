//! Owns what a player does, as data: the steps and their bounds.
//! Never does a step: the player walks through them.

use std::time::Duration;

use greenroom_core::FleetName;

/// Which of a player's two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
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

/// What a player tells with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// `{"player": id}`.
    Player,
    /// `{"x": n, "y": n}`, each drawn from -127 to 127.
    Direction,
}

/// A stretch of the way that is measured. Each runs from the end of the one before, the first from the moment at which
/// the player was meant to arrive: a late generator or a queue anywhere shows in the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Intended arrival to connected lobby socket, with the question for its address.
    Connect,
    /// Lobby to assignment.
    Match,
    /// Assignment to connected game socket.
    Enter,
}

impl Measure {
    /// All, in the order of the way.
    pub const ALL: [Self; 3] = [Self::Connect, Self::Match, Self::Enter];

    /// For people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Connect => "arrival to lobby",
            Self::Match => "lobby to match",
            Self::Enter => "match to game",
        }
    }
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
    /// Connects to what was found.
    ConnectFound {
        /// The connection it becomes.
        socket: SocketName,
        /// How long it may take.
        within: Duration,
        /// What it ends.
        measure: Measure,
    },
    /// Connects to the seat that was assigned, with its token.
    ConnectSeat {
        /// The connection it becomes.
        socket: SocketName,
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
        /// What it tells.
        argument: Argument,
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
        /// What an input tells.
        argument: Argument,
        /// Time between two inputs; `None` only watches. The first comes at a drawn moment of the first interval.
        every: Option<Duration>,
        /// The longest time.
        lasting: Duration,
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
            Self::ConnectFound { .. } => "connecting to the lobby",
            Self::ConnectSeat { .. } => "connecting to the game",
            Self::Emit { .. } => "asking for a match",
            Self::ExpectSeat { .. } => "waiting for a match",
            Self::LeaveLater { .. } | Self::Leave { .. } => "leaving",
            Self::Play { .. } => "playing",
        }
    }

    /// The connection without which this step cannot end well.
    #[must_use]
    pub const fn needs(&self) -> Option<SocketName> {
        match self {
            Self::ConnectFound { socket, .. }
            | Self::ConnectSeat { socket, .. }
            | Self::Emit { socket, .. }
            | Self::ExpectSeat { socket, .. }
            | Self::Play { socket, .. } => Some(*socket),
            Self::Find { .. } | Self::LeaveLater { .. } | Self::Leave { .. } => None,
        }
    }
}

/// The steps of every player, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// At least one.
    pub steps: Vec<Step>,
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

impl Flow {
    /// Lobby, match, game, finish: connect to a server of `lobby`, emit `match`, wait for `matched`, connect to the game
    /// with the token, leave the lobby a little later, send `input` events, leave.
    #[must_use]
    pub fn lobby_match_game(lobby: FleetName, input: String, times: &FlowTimes) -> Self {
        use SocketName::{Game, Lobby};
        let FlowTimes { connect_within: within, match_within, handover, input_every, play } = *times;
        Self {
            steps: vec![
                Step::Find { fleet: lobby, within },
                Step::ConnectFound { socket: Lobby, within, measure: Measure::Connect },
                Step::Emit { socket: Lobby, event: "match".to_owned(), argument: Argument::Player },
                Step::ExpectSeat {
                    socket: Lobby,
                    event: "matched".to_owned(),
                    within: match_within,
                    measure: Measure::Match,
                },
                Step::ConnectSeat { socket: Game, within, measure: Measure::Enter },
                Step::LeaveLater { socket: Lobby, within: handover },
                Step::Play {
                    socket: Game,
                    event: input,
                    argument: Argument::Direction,
                    every: input_every,
                    lasting: play,
                    end: "greenroom:closed".to_owned(),
                },
                Step::Leave { socket: Game },
                Step::Leave { socket: Lobby },
            ],
        }
    }
}
