//! Owns the settings of a run and their bounds.
//! Never reads arguments or files: the command line does.

use std::time::Duration;

use greenroom_core::FleetName;

use crate::{
    arrival::Arrival,
    flow::{Flow, FlowTimes},
    scenario::{Checks, Peers, Scenario},
    template::Template,
};

/// What a run is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct SwarmConfig {
    /// How many players, 1 to 1,000,000, a multiple of `match_players`.
    pub players: u32,
    /// Players of one match, as the fleet that plays is configured; 1 to 1,000. Default 4.
    pub match_players: u16,
    /// The fleet of lobby servers. Default `lobby`.
    pub lobby: FleetName,
    /// The time over which the players arrive, whether the earlier ones got on or not; at most 24 h. Default 10 s.
    pub ramp: Duration,
    /// How long each player plays, unless the room ends before; at most 24 h. Default 15 s.
    pub play: Duration,
    /// Inputs per second of each player, 0 to 100; 0 only watches. Default 1.
    pub hz: f64,
    /// Name of the input event, whose argument is `{"x": n, "y": n}`. Default `steer`.
    pub input: String,
    /// A player leaves the lobby at a drawn moment up to this after entering the game; at most 1 h. Default 2 s.
    pub handover: Duration,
    /// Time for each address and each connection, 1 ms to 1 h. Default 10 s.
    pub connect_within: Duration,
    /// Time for a match, 1 ms to 24 h. Default 60 s.
    pub match_within: Duration,
    /// Settles every choice: the same seed takes the same actions at the same intended moments. It is a part of the
    /// players' names, so that two runs do not share players.
    pub seed: u64,
}

impl Default for SwarmConfig {
    fn default() -> Self {
        Self {
            players: 200,
            match_players: 4,
            lobby: "lobby".parse().expect("the name is valid"),
            ramp: Duration::from_secs(10),
            play: Duration::from_secs(15),
            hz: 1.0,
            input: "steer".to_owned(),
            handover: Duration::from_secs(2),
            connect_within: Duration::from_secs(10),
            match_within: Duration::from_secs(60),
            seed: 1,
        }
    }
}

impl SwarmConfig {
    /// Everything that is wrong with these settings, in words; empty when they can be used.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.own_faults();
        if faults.is_empty() {
            faults = self.scenario().faults();
        }
        faults
    }

    fn own_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=1_000_000).contains(&self.players) {
            faults.push(format!("players is 1 to 1000000, not {}", self.players));
        }
        if !(1..=1_000).contains(&self.match_players) {
            faults.push(format!("match players is 1 to 1000, not {}", self.match_players));
        } else if !self.players.is_multiple_of(u32::from(self.match_players)) {
            let (players, size) = (self.players, self.match_players);
            let whole = (players / u32::from(size)).max(1) * u32::from(size);
            faults.push(format!(
                "{players} players do not fill matches of {size}: the rest would wait for ever; try {whole}"
            ));
        }
        if !(0.0..=100.0).contains(&self.hz) || (self.hz > 0.0 && self.hz < 0.001) {
            faults.push(format!("hz is 0, or 0.001 to 100, not {}", self.hz));
        }
        if self.input.is_empty() || greenroom_socketio::packet::RESERVED_EVENTS.contains(&self.input.as_str())
        {
            faults.push(format!("{:?} cannot be an input event", self.input));
        }
        let (hour, day, some) =
            (Duration::from_secs(3_600), Duration::from_secs(86_400), Duration::from_millis(1));
        for (name, value, least, most) in [
            ("ramp", self.ramp, Duration::ZERO, day),
            ("play", self.play, Duration::ZERO, day),
            ("handover", self.handover, Duration::ZERO, hour),
            ("connect within", self.connect_within, some, hour),
            ("match within", self.match_within, some, day),
        ] {
            if !(least..=most).contains(&value) {
                faults.push(format!("{name} is {least:?} to {most:?}, not {value:?}"));
            }
        }
        faults
    }

    /// The scenario of lobby, match, game and finish with these settings. Needs settings without faults.
    #[must_use]
    pub fn scenario(&self) -> Scenario {
        let times = FlowTimes {
            connect_within: self.connect_within,
            match_within: self.match_within,
            handover: self.handover,
            input_every: (self.hz > 0.0).then(|| Duration::from_secs_f64(1.0 / self.hz)),
            play: self.play,
        };
        let argument =
            Template::parse(r#"{"x":{axis},"y":{axis}}"#).expect("every place of this text is known");
        Scenario {
            name: "lobby-match-game".to_owned(),
            players: self.players,
            group_players: self.match_players,
            seed: self.seed,
            arrival: Arrival::Ramp { over: self.ramp },
            together: false,
            flow: Flow::lobby_match_game(self.lobby.clone(), self.input.clone(), argument, &times),
            checks: Checks::default(),
            peers: Peers::default(),
            warm_up: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_told_together() {
        assert_eq!(SwarmConfig::default().faults(), [""; 0]);
        let wrong = SwarmConfig {
            players: 7,
            hz: f64::NAN,
            input: "connect".into(),
            handover: Duration::from_secs(4_000),
            ..SwarmConfig::default()
        };
        assert_eq!(
            wrong.faults(),
            [
                "7 players do not fill matches of 4: the rest would wait for ever; try 4",
                "hz is 0, or 0.001 to 100, not NaN",
                "\"connect\" cannot be an input event",
                "handover is 0ns to 3600s, not 4000s",
            ]
        );
        let none = SwarmConfig { players: 0, match_players: 0, ..SwarmConfig::default() };
        assert_eq!(none.faults(), ["players is 1 to 1000000, not 0", "match players is 1 to 1000, not 0"]);
    }

    #[test]
    fn no_inputs_a_second_only_watch() {
        let flow = SwarmConfig { hz: 0.0, ..SwarmConfig::default() }.scenario().flow;
        assert!(flow.steps.iter().any(|step| matches!(step, crate::flow::Step::Play { every: None, .. })));
    }
}
