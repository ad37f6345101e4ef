//! Owns the proof of what a player wants at each point of the shipped flow, action by action.
//! Never opens a connection.

use super::*;
use crate::{
    SwarmConfig,
    flow::{Comeback, CutShape, Cuts, RoomsWanted, SessionWanted, Step},
};
use SocketName::{Game, Lobby};

const SEAT: &str = r#"{"room":"r1","endpoint":"127.0.0.1:7001","token":"t\"1","seat":2,"fleet":"arena"}"#;
const ROLE: Role = Role { index: 0, group: 0, seed: 1, peer: Peer::Sound };
const ARRIVAL_MS: u64 = 500;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn lobby() -> Found {
    Found { url: "http://127.0.0.1:7000".into(), seat: None }
}

/// A player of the shipped flow and what it wanted so far, one word an action.
struct Stage {
    flow: Flow,
    player: Player,
    now: Duration,
}

impl Stage {
    fn new() -> Self {
        let config = SwarmConfig { hz: 2.0, play: ms(2_000), ..SwarmConfig::default() };
        let player = Player::new("swarm-1-0", ROLE, ms(ARRIVAL_MS), Draws::new(1, 0));
        Self { flow: config.scenario().flow, player, now: ms(ARRIVAL_MS) }
    }

    fn hear(&mut self, event: &Event<'_>) -> Vec<String> {
        let actions = self.player.handle(&self.flow, self.now, event);
        actions.into_iter().map(|action| self.words(action)).collect()
    }

    fn words(&self, action: Action) -> String {
        match action {
            Action::Find { step } => format!("find {step}"),
            Action::Join { key, .. } => format!("join {key}"),
            Action::Meet => "meet".to_owned(),
            Action::Connect { socket, url, auth, .. } => {
                format!("connect {socket} {url} {}", auth.unwrap_or_default())
            }
            Action::Emit { socket, step, argument, .. } => {
                let (Step::Emit { event, .. } | Step::Play { event, .. }) = &self.flow.steps[step] else {
                    panic!("step {step} emits nothing");
                };
                format!("emit {socket} {event} {argument}")
            }
            Action::Leave(socket) => format!("leave {socket}"),
            Action::Cut(socket) => format!("cut {socket}"),
            Action::Reconnect(socket) => format!("reconnect {socket}"),
            Action::Tell(Fact::Measured(one)) => format!("{:?} {:?}", one.measure, one.intended),
            Action::Tell(fact) => format!("{fact:?}"),
        }
    }

    fn after(&mut self, span: Duration, event: &Event<'_>) -> Vec<String> {
        self.now += span;
        self.hear(event)
    }

    /// Goes on to where the lobby is connected and the match is asked for.
    fn in_lobby() -> Self {
        let mut stage = Self::new();
        stage.hear(&Event::Woken);
        stage.hear(&Event::Found(Ok(lobby())));
        stage.after(ms(10), &Event::Connected(Lobby, SessionBack::None));
        stage
    }

    /// Goes on to where the game has begun.
    fn in_game() -> Self {
        let mut stage = Self::in_lobby();
        stage.hear(&Event::Received(Lobby, "matched", Some(SEAT)));
        stage.hear(&Event::Connected(Game, SessionBack::None));
        stage
    }
}

#[test]
fn a_player_goes_through_lobby_match_and_game() {
    let mut stage = Stage::new();
    assert_eq!(stage.player.wake_at(), Some(ms(ARRIVAL_MS)));
    stage.now = ms(ARRIVAL_MS + 3);
    assert_eq!(stage.hear(&Event::Woken), ["Arrived", "find 0"]);
    assert_eq!(stage.after(ms(2), &Event::Found(Ok(lobby()))), ["connect lobby http://127.0.0.1:7000 "]);
    assert_eq!(
        stage.after(ms(5), &Event::Connected(Lobby, SessionBack::None)),
        ["Connect 10ms", r#"emit lobby match {"player":"swarm-1-0"}"#],
        "measured from the intended arrival, not from the late one"
    );
    assert_eq!(stage.hear(&Event::Received(Lobby, "queued", Some("3"))), [""; 0]);
    assert_eq!(
        stage.after(ms(40), &Event::Received(Lobby, "matched", Some(SEAT))),
        [
            r#"Assigned(Seat { room: "r1", endpoint: "127.0.0.1:7001", seat: 2 })"#,
            "Match 40ms",
            r#"connect game http://127.0.0.1:7001 {"token":"t\"1"}"#,
        ]
    );
    assert_eq!(stage.after(ms(7), &Event::Connected(Game, SessionBack::None)), ["Enter 7ms", "Playing"]);
    assert_eq!(stage.hear(&Event::Received(Game, "state", Some("{}"))), [""; 0]);

    let (mut told, entered_at) = (Vec::new(), stage.now);
    while let Some(at) = stage.player.wake_at() {
        stage.now = at;
        told.extend(stage.hear(&Event::Woken));
    }
    assert_eq!(stage.now - entered_at, ms(2_000), "the play time is whole");
    assert_eq!(told.iter().filter(|word| word.starts_with("emit game steer {\"x\":")).count(), 4, "{told:?}");
    assert_eq!(told.iter().filter(|word| *word == "leave lobby").count(), 1, "{told:?}");
    assert!(told.ends_with(&["leave game".to_owned(), "Finished".to_owned()]), "{told:?}");
    assert!(stage.player.is_done());
}

#[test]
fn a_play_ends_well_only_with_a_room_that_finished() {
    let lost = |reason| format!("Lost {{ socket: Game, during: \"playing\", reason: {reason:?} }}");
    let cases: [(Option<&str>, ClosedBy, &[String]); 4] = [
        (
            Some(r#"{"reason":"finished"}"#),
            ClosedBy::Server,
            &["RoomEnded".into(), "leave lobby".into(), "Finished".into()],
        ),
        (
            Some(r#"{"reason":"crashed"}"#),
            ClosedBy::Server,
            &[lost("the room ended: crashed"), "leave lobby".into()],
        ),
        (
            Some(r#"{"reason":"stopped"}"#),
            ClosedBy::Transport("reset".into()),
            &[lost("the room ended: stopped"), "leave lobby".into()],
        ),
        (None, ClosedBy::Server, &[lost("the server disconnected the socket"), "leave lobby".into()]),
    ];
    for (told, by, expected) in cases {
        let mut stage = Stage::in_game();
        if let Some(told) = told {
            assert_eq!(stage.hear(&Event::Received(Game, "greenroom:closed", Some(told))), [""; 0]);
        }
        assert_eq!(stage.hear(&Event::Closed(Game, by)), expected, "{told:?}");
    }
}

#[test]
fn what_goes_wrong_is_told_and_ends_the_player() {
    let lost = || ClosedBy::Transport("reset".to_owned());
    let cases: [(&str, Stage, Event<'_>, &[&str]); 8] = [
        (
            "no lobby",
            {
                let mut stage = Stage::new();
                stage.hear(&Event::Woken);
                stage
            },
            Event::Found(Err("no_capacity".into())),
            &[r#"Failed { during: "asking for the lobby", reason: "no_capacity" }"#],
        ),
        (
            "lobby lost before the match",
            Stage::in_lobby(),
            Event::Closed(Lobby, lost()),
            &[r#"Lost { socket: Lobby, during: "waiting for a match", reason: "reset" }"#],
        ),
        (
            "lobby disconnects",
            Stage::in_lobby(),
            Event::Closed(Lobby, ClosedBy::Server),
            &[
                r#"Lost { socket: Lobby, during: "waiting for a match", reason: "the server disconnected the socket" }"#,
            ],
        ),
        (
            "unreadable match",
            Stage::in_lobby(),
            Event::Received(Lobby, "matched", Some("{}")),
            &[
                r#"Failed { during: "waiting for a match", reason: "\"matched\" cannot be read: missing field `room` at line 1 column 2" }"#,
                "leave lobby",
            ],
        ),
        (
            "token refused",
            {
                let mut stage = Stage::in_lobby();
                stage.hear(&Event::Received(Lobby, "matched", Some(SEAT)));
                stage
            },
            Event::Refused(Game, "token_expired".into()),
            &[r#"Refused { socket: Game, code: "token_expired" }"#, "leave lobby", "leave game"],
        ),
        (
            "game not reached",
            {
                let mut stage = Stage::in_lobby();
                stage.hear(&Event::Received(Lobby, "matched", Some(SEAT)));
                stage
            },
            Event::Closed(Game, lost()),
            &[r#"Failed { during: "connecting to the game", reason: "reset" }"#, "leave lobby"],
        ),
        (
            "game lost",
            Stage::in_game(),
            Event::Closed(Game, lost()),
            &[r#"Lost { socket: Game, during: "playing", reason: "reset" }"#, "leave lobby"],
        ),
        ("stopped", Stage::in_game(), Event::Stopped, &["leave lobby", "leave game"]),
    ];
    for (name, mut stage, event, expected) in cases {
        assert_eq!(stage.hear(&event), expected, "{name}");
        assert!(stage.player.is_done(), "{name}");
        assert_eq!(stage.player.wake_at(), None, "{name}");
        assert_eq!(stage.hear(&Event::Woken), [""; 0], "{name}: a player who is done wants nothing");
    }
}

#[test]
fn a_lobby_lost_during_the_handover_is_told_but_the_game_goes_on() {
    let mut stage = Stage::in_game();
    assert_eq!(
        stage.hear(&Event::Closed(Lobby, ClosedBy::Transport("reset".into()))),
        [r#"Lost { socket: Lobby, during: "playing", reason: "reset" }"#]
    );
    assert!(!stage.player.is_done());
}

#[test]
fn a_second_assignment_is_told_and_changes_nothing() {
    let mut stage = Stage::in_game();
    let again = SEAT.replace("r1", "r2");
    assert_eq!(
        stage.hear(&Event::Received(Lobby, "matched", Some(&again))),
        [r#"Assigned(Seat { room: "r2", endpoint: "127.0.0.1:7001", seat: 2 })"#]
    );
    assert!(!stage.player.is_done());
}

#[test]
fn a_step_that_takes_too_long_fails() {
    let mut stage = Stage::in_lobby();
    stage.now = stage.player.wake_at().unwrap();
    assert_eq!(
        stage.hear(&Event::Woken),
        [r#"Failed { during: "waiting for a match", reason: "not done within 60s" }"#, "leave lobby"]
    );
}

#[test]
fn missed_inputs_are_not_sent_in_a_burst() {
    let mut stage = Stage::in_game();
    stage.player.leave_at = [None; 2];
    let due = stage.player.input_at.unwrap();
    stage.now = due + ms(1_200);
    assert_eq!(stage.hear(&Event::Woken).len(), 1);
    assert_eq!(stage.player.input_at, Some(due + ms(1_500)), "the rhythm is kept");
}

#[test]
fn the_same_seed_takes_the_same_actions_at_the_same_moments() {
    let play = |seed| {
        let mut stage = Stage::new();
        stage.player = Player::new("swarm-1-0", ROLE, ms(ARRIVAL_MS), Draws::new(seed, 0));
        let mut told = vec![(stage.now, stage.hear(&Event::Woken))];
        stage.hear(&Event::Found(Ok(lobby())));
        stage.after(ms(10), &Event::Connected(Lobby, SessionBack::None));
        stage.hear(&Event::Received(Lobby, "matched", Some(SEAT)));
        stage.hear(&Event::Connected(Game, SessionBack::None));
        while let Some(at) = stage.player.wake_at() {
            stage.now = at;
            told.push((at, stage.hear(&Event::Woken)));
        }
        told
    };
    assert_eq!(play(5), play(5));
    assert_ne!(play(5), play(6));
}

const COMEBACK: Comeback = Comeback {
    within: ms(10_000),
    delay: ms(1_000),
    session: SessionWanted::Must,
    rooms: RoomsWanted::MayEnd,
};

impl Stage {
    /// In game, left the lobby, and comes back when the game is lost.
    fn who_comes_back(cuts: Option<Cuts>) -> Self {
        let mut stage = Self::in_lobby();
        stage.flow.comeback = Some(COMEBACK);
        stage.flow.cuts = cuts;
        stage.hear(&Event::Received(Lobby, "matched", Some(SEAT)));
        stage.hear(&Event::Connected(Game, SessionBack::None));
        stage.hear(&Event::Closed(Lobby, ClosedBy::Server));
        stage.player.leave_at = [None; 2];
        stage
    }

    /// Goes on to the next moment at which the player wants something.
    fn wake(&mut self) -> Vec<String> {
        self.now = self.player.wake_at().unwrap();
        self.hear(&Event::Woken)
    }
}

fn reset() -> Event<'static> {
    Event::Closed(Game, ClosedBy::Transport("reset".into()))
}

#[test]
fn a_player_dials_again_like_the_stock_client_and_sends_nothing_meanwhile() {
    let mut stage = Stage::who_comes_back(None);
    let began = stage.now;
    assert_eq!(stage.hear(&reset()), ["Away { by: Server, acked: 0 }"]);
    let mut dialled = Vec::new();
    while dialled.len() < 3 {
        let told = stage.wake();
        if told.is_empty() {
            continue; // An input that was due: not sent while away.
        }
        assert_eq!(told, ["reconnect game"]);
        dialled.push(stage.now - began);
        stage.hear(&reset());
    }
    for (at, (least, most)) in dialled.iter().zip([(500, 1_500), (1_500, 4_500), (3_500, 10_500)]) {
        assert!((ms(least)..=ms(most)).contains(at), "{dialled:?}");
    }
}

#[test]
fn a_player_who_is_back_goes_on_and_ends_a_play_that_was_over_meanwhile() {
    let mut stage = Stage::who_comes_back(None);
    stage.hear(&reset());
    while stage.wake() != ["reconnect game"] {}
    let back = stage.after(ms(5), &Event::Connected(Game, SessionBack::Recovered));
    assert_eq!(back[0], "Back { session: Recovered, wanted: Must }");
    assert!(back[1].starts_with("Resume "), "{back:?}");
    assert!(!stage.player.is_done());
    stage.now = stage.player.deadline.unwrap();
    stage.hear(&reset());
    let over = stage.hear(&Event::Woken);
    assert!(over.is_empty() && stage.player.deadline.is_none(), "the play waits for the player: {over:?}");
    while stage.wake() != ["reconnect game"] {}
    let back = stage.hear(&Event::Connected(Game, SessionBack::New));
    assert_eq!(back[2..], ["leave game", "Finished"], "{back:?}");
    assert!(stage.player.is_done());
}

#[test]
fn a_player_whose_server_is_gone_at_the_first_dial_dials_again_within_the_time_of_the_step() {
    let mut stage = Stage::in_lobby();
    stage.flow.comeback = Some(COMEBACK);
    stage.hear(&Event::Received(Lobby, "matched", Some(SEAT)));
    assert_eq!(stage.hear(&reset()), Vec::<String>::new(), "it was never there: nobody is away");
    while stage.wake() != ["reconnect game"] {}
    let there = stage.hear(&Event::Connected(Game, SessionBack::New));
    assert!(there[0].starts_with("Enter ") && stage.player.away.is_none(), "{there:?}");

    let mut stage = Stage::in_lobby();
    stage.flow.comeback = Some(COMEBACK);
    stage.hear(&Event::Received(Lobby, "matched", Some(SEAT)));
    assert_eq!(stage.hear(&Event::Refused(Game, "wrong_server".into()))[0], "RoomLost");

    let mut stage = Stage::in_lobby();
    stage.hear(&Event::Received(Lobby, "matched", Some(SEAT)));
    let told = stage.hear(&reset());
    assert!(told[0].starts_with("Failed"), "without [reconnect] it is a fault: {told:?}");
}

#[test]
fn a_player_who_cannot_come_back_fails_and_one_whose_room_is_gone_does_not() {
    let mut stage = Stage::who_comes_back(None);
    stage.hear(&reset());
    let mut told = Vec::new();
    while !stage.player.is_done() {
        told = stage.wake();
        stage.hear(&reset());
    }
    assert!(told[0].starts_with("Failed") && told[0].contains("not connected again within"), "{told:?}");

    let mut stage = Stage::who_comes_back(None);
    stage.hear(&reset());
    while stage.wake() != ["reconnect game"] {}
    assert_eq!(stage.hear(&Event::Refused(Game, "wrong_server".into()))[0], "RoomLost");
    assert!(stage.player.is_done());
}

#[test]
fn cuts_come_at_their_moments_and_are_followed_by_a_dial() {
    let shapes = [CutShape::Storm { at: ms(1_000) }, CutShape::Churn { every: ms(400) }];
    for shape in shapes {
        let mut stage = Stage::who_comes_back(Some(Cuts { shape, share: 1.0, away: ms(100) }));
        let mut told = Vec::new();
        while told.first().is_none_or(|word| word != "cut game") {
            told = stage.wake();
        }
        assert_eq!(told, ["cut game", "Away { by: Player, acked: 0 }"], "{shape:?}");
        let cut_at = stage.now;
        if shape == shapes[0] {
            assert_eq!(cut_at, ms(1_000));
        }
        while stage.wake() != ["reconnect game"] {}
        assert!((ms(100)..=ms(200)).contains(&(stage.now - cut_at)), "{shape:?}");
        stage.hear(&Event::Connected(Game, SessionBack::Recovered));
        let again = stage.player.cut_at.is_some();
        assert_eq!(again, shape == shapes[1], "a storm comes once, churn goes on");
    }
    let mut nobody = Stage::who_comes_back(Some(Cuts { shape: shapes[1], share: 0.0, away: ms(100) }));
    nobody.wake();
    assert_eq!(nobody.player.cut_at, None);
}
