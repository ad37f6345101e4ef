//! Owns what a run is to do, whole: who comes when, what they do, how some misbehave, and what must be true of it.
//! Never reads files: the command line does.

use std::time::Duration;

use crate::{
    arrival::Arrival,
    flow::{Flow, Measure, Seats, SocketName, Step},
    template::Filling,
};

/// The scenarios that ship: name and TOML text.
pub const SHIPPED: [(&str, &str); 6] = [
    ("lobby-match-game", include_str!("../scenarios/lobby-match-game.toml")),
    ("chat", include_str!("../scenarios/chat.toml")),
    ("whiteboard", include_str!("../scenarios/whiteboard.toml")),
    ("raw-websocket", include_str!("../scenarios/raw-websocket.toml")),
    ("reconnect", include_str!("../scenarios/reconnect.toml")),
    ("chaos", include_str!("../scenarios/chaos.toml")),
];

/// The most players of one run.
pub const PLAYERS_MAX: u32 = 1_000_000;

/// What a run is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// For people.
    pub name: String,
    /// How many players, 1 to [`PLAYERS_MAX`], a multiple of `group_players`.
    pub players: u32,
    /// Players of one group, 1 to 1,000: of one match, one key, one barrier.
    pub group_players: u16,
    /// Settles every choice: the same seed takes the same actions at the same intended moments. It is a part of the
    /// players' names, so that two runs do not share players.
    pub seed: u64,
    /// When they come.
    pub arrival: Arrival,
    /// Whether the players of a group come at one moment, or each at their own.
    pub together: bool,
    /// What each does.
    pub flow: Flow,
    /// What must be true of the events they hear.
    pub checks: Checks,
    /// How some misbehave on the wire.
    pub peers: Peers,
    /// Times that were meant to begin before this are not counted. Default 0.
    pub warm_up: Duration,
}

/// What must be true of events. None by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checks {
    /// Numbered events come whole and in order.
    pub sequence: Option<SequenceCheck>,
    /// All hear the same.
    pub agreed: Option<AgreedCheck>,
}

/// Numbered events of each sender come to each receiver without a gap, once, and in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceCheck {
    /// On which connection.
    pub socket: SocketName,
    /// The event's name.
    pub event: String,
    /// Field of its argument that names the sender: the player's id, or `{color}`. `None`: the receiver is the sender,
    /// as with an echo.
    pub sender: Option<String>,
    /// Field of its argument with `{stamp}` or `{fraction}`. `None`: the argument itself.
    pub number: Option<String>,
    /// How far events may go.
    pub scope: Scope,
    /// Whether everybody must have heard the first and the last of everybody in their group as well. Needs a barrier
    /// before and a time to settle after the sending.
    pub whole: bool,
}

/// How far an event of one player may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// To the own room; anybody else's is a leak.
    Group,
    /// To all.
    Everybody,
}

/// Events with the same key are the same for all of a room: the state did not part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreedCheck {
    /// On which connection.
    pub socket: SocketName,
    /// The event's name.
    pub event: String,
    /// Field of its argument with a whole number, such as the tick.
    pub key: String,
    /// Only keys that are multiples of this are compared; at least 1. Default 8.
    pub every: u32,
    /// The first so many of a player are not compared, such as those that greet a newcomer. Default 1.
    pub skip: u32,
}

/// Shares of players who misbehave on the wire, 0 to 1. What servers do to them is counted, not judged.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Peers {
    /// Share of players who read at most 256 bytes a second from the game on.
    pub slow: f64,
    /// Share of players who fall silent in the game: they neither read nor answer, and the connection stays.
    pub half_open: f64,
}

/// How a player behaves on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// As it should be.
    Sound,
    /// Reads slowly in the game.
    Slow,
    /// Silent in the game.
    HalfOpen,
}

/// Who a player is in the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// The player's number.
    pub index: u32,
    /// Number of the group.
    pub group: u32,
    /// The run's seed.
    pub seed: u64,
    /// How it behaves.
    pub peer: Peer,
}

impl Role {
    pub(crate) fn filling<'a>(
        &self,
        player: &'a str,
        number: u32,
        due: Duration,
        now: Duration,
    ) -> Filling<'a> {
        Filling { player, index: self.index, group: self.group, seed: self.seed, number, due, now }
    }
}

impl Peers {
    /// How the player behaves whose draw, 0 to 1, this is.
    #[must_use]
    pub fn pick(&self, draw: f64) -> Peer {
        if draw < self.slow {
            Peer::Slow
        } else if draw < self.slow + self.half_open {
            Peer::HalfOpen
        } else {
            Peer::Sound
        }
    }
}

/// The id of player `index` at the back end.
#[must_use]
pub fn player_name(seed: u64, index: u32) -> String {
    format!("swarm-{seed}-{index}")
}

/// Whom a sender field names: a player of this run by id or colour.
#[must_use]
pub fn player_of(seed: u64, text: &str) -> Option<u32> {
    if let Some(color) = text.strip_prefix('#') {
        return u32::from_str_radix(color, 16).ok();
    }
    let (named, index) = text.strip_prefix("swarm-")?.split_once('-')?;
    (named.parse() == Ok(seed)).then(|| index.parse().ok())?
}

impl Scenario {
    /// Everything that is wrong with it as a whole, in words; empty when it can be run.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=PLAYERS_MAX).contains(&self.players) {
            faults.push(format!("players is 1 to {PLAYERS_MAX}, not {}", self.players));
        }
        if !(1..=1_000).contains(&self.group_players) {
            faults.push(format!("match players is 1 to 1000, not {}", self.group_players));
        } else if !self.players.is_multiple_of(u32::from(self.group_players)) {
            let (players, size) = (self.players, self.group_players);
            let whole = (players / u32::from(size)).max(1) * u32::from(size);
            faults.push(format!(
                "{players} players do not fill matches of {size}: the rest would wait for ever; try {whole}"
            ));
        }
        for (name, share) in [("slow", self.peers.slow), ("half open", self.peers.half_open)] {
            if !(0.0..=1.0).contains(&share) {
                faults.push(format!("the share of {name} peers is 0 to 1, not {share}"));
            }
        }
        match self.flow.cuts {
            Some(cuts) if !(0.0..=1.0).contains(&cuts.share) => {
                faults.push(format!("the share of players who are cut is 0 to 1, not {}", cuts.share));
            }
            Some(_) if self.flow.comeback.is_none() => {
                faults.push("players who are cut need to come back".to_owned());
            }
            Some(_) | None => {}
        }
        faults.extend(self.arrival.faults());
        faults.extend(
            flow_faults(&self.flow).into_iter().map(|(step, fault)| format!("step {}: {fault}", step + 1)),
        );
        faults
    }

    /// Whether players in other processes may be in the same room, so that a barrier would wait for them in vain.
    #[must_use]
    pub fn groups_span_processes(&self) -> bool {
        self.flow.seats() == Seats::Matched
            && self.flow.steps.iter().any(|step| matches!(step, Step::Barrier { .. }))
    }
}

/// What is wrong with the order of steps, each with the number of its step from 0.
#[must_use]
pub fn flow_faults(flow: &Flow) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    if flow.steps.is_empty() {
        faults.push((0, "there are no steps".to_owned()));
    }
    let (mut address, mut open) = (false, [false; 2]);
    for (at, step) in flow.steps.iter().enumerate() {
        if let Some(socket) = step.needs()
            && !open[socket.index()]
            && !matches!(step, Step::Connect { .. })
        {
            faults.push((at, format!("the {socket} is not connected here; put a connect before it")));
        }
        match step {
            Step::Find { .. } | Step::Join { .. } | Step::Address { .. } | Step::ExpectSeat { .. } => {
                address = true;
            }
            Step::Connect { socket, .. } => {
                if !std::mem::replace(&mut address, false) {
                    let fault =
                        "there is no address to connect to; put find, join, address or a match before it";
                    faults.push((at, fault.to_owned()));
                }
                if std::mem::replace(&mut open[socket.index()], true) {
                    faults.push((at, format!("the {socket} is connected already")));
                }
            }
            Step::Leave { socket } | Step::LeaveLater { socket, .. } => open[socket.index()] = false,
            Step::Emit { event, .. } | Step::Play { event, .. } => {
                if event.is_empty() || greenroom_socketio::packet::RESERVED_EVENTS.contains(&event.as_str()) {
                    faults.push((at, format!("{event:?} cannot be an event")));
                }
            }
            Step::Expect { .. } | Step::Think { .. } | Step::Barrier { .. } => {}
        }
    }
    faults
}

/// The measure that a connect ends: the way to the first connection, or from there to the game.
#[must_use]
pub const fn connect_measure(socket: SocketName) -> Measure {
    match socket {
        SocketName::Lobby => Measure::Connect,
        SocketName::Game => Measure::Enter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_player_is_known_by_name_and_colour_and_only_in_its_own_run() {
        for (text, player) in [
            ("swarm-7-12", Some(12)),
            ("swarm-8-12", None),
            ("swarm-7-x", None),
            ("ann", None),
            ("#00002a", Some(42)),
            ("#1d3557", Some(0x1d_3557)),
        ] {
            assert_eq!(player_of(7, text), player, "{text}");
        }
        assert_eq!(player_of(7, &player_name(7, 3)), Some(3));
    }

    #[test]
    fn shares_of_misbehaving_peers_do_not_overlap() {
        let peers = Peers { slow: 0.25, half_open: 0.25 };
        for (draw, peer) in
            [(0.0, Peer::Slow), (0.25, Peer::HalfOpen), (0.5, Peer::Sound), (0.99, Peer::Sound)]
        {
            assert_eq!(peers.pick(draw), peer);
        }
    }

    /// Name, steps, and the faults they have: number of the step and start of the words.
    type Case = (&'static str, Vec<Step>, &'static [(usize, &'static str)]);

    #[test]
    fn steps_out_of_order_are_told() {
        let leave = |socket| Step::Leave { socket };
        let connect = |socket| Step::Connect {
            socket,
            protocol: crate::flow::Protocol::WebSocket,
            path: "/".into(),
            within: Duration::from_secs(1),
            measure: connect_measure(socket),
        };
        let address = || Step::Address { url: "http://127.0.0.1:1".into() };
        let expect =
            |socket| Step::Expect { socket, event: "e".into(), count: 1, within: Duration::from_secs(1) };
        use SocketName::{Game, Lobby};
        let cases: [Case; 4] = [
            ("none", vec![], &[(0, "there are no steps")]),
            ("no address", vec![connect(Game)], &[(0, "there is no address")]),
            (
                "not open",
                vec![address(), connect(Game), expect(Lobby)],
                &[(2, "the lobby is not connected here")],
            ),
            (
                "left",
                vec![address(), connect(Game), leave(Game), expect(Game)],
                &[(3, "the game is not connected")],
            ),
        ];
        for (name, steps, expected) in cases {
            let faults = flow_faults(&Flow { steps, comeback: None, cuts: None });
            assert_eq!(faults.len(), expected.len(), "{name}: {faults:?}");
            for ((at, fault), (step, start)) in faults.iter().zip(expected) {
                assert!(at == step && fault.starts_with(start), "{name}: {faults:?}");
            }
        }
    }
}
