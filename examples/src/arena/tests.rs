//! Whole rounds without a socket: the room is a value.

use std::time::Duration;

use greenroom_room::{HostedRoom, Output, Player, Rng, RoomHost, RoomKind, Seat, To, Why};
use serde_json::{Value, json};

use super::math::{PX, TURN, Vector, ray};
use super::sim::{self, World};
use super::{Arena, Phase};

type Host = RoomHost<Arena>;

/// How long sessions are kept; the arena has its own word on seats.
const SESSION: Duration = Duration::from_secs(120);

/// Who gets each event, its name and its argument.
fn events(host: &mut Host) -> Vec<(To, String, Value)> {
    let read = |output| match output {
        Output::Send { to, event, payload } => {
            Some((to, event, serde_json::from_str(payload.as_deref().unwrap_or("null")).unwrap()))
        }
        Output::Left { .. } | Output::Finished { .. } | Output::Closed => None,
    };
    host.take_outputs().into_iter().filter_map(read).collect()
}

fn last(events: &[(To, String, Value)], name: &str) -> Option<Value> {
    events.iter().rev().find(|(_, event, _)| event == name).map(|(_, _, argument)| argument.clone())
}

fn run(host: &mut Host, ticks: u32) -> Vec<(To, String, Value)> {
    let mut seen = Vec::new();
    for _ in 0..ticks {
        host.tick();
        seen.extend(events(host));
    }
    seen
}

/// A room with these players, at the first tick of play.
fn playing(seed: u64, players: u16) -> Host {
    let mut host = Host::create(r#"{"round_secs":20}"#, seed, players).unwrap();
    for seat in 0..players {
        host.join(Seat(seat), Player::new(format!("p{seat}"))).unwrap();
    }
    while host.room().phase != Phase::Play {
        host.tick();
        assert!(host.tick_number() < 200, "play never began");
    }
    events(&mut host);
    host
}

#[test]
fn the_round_begins_when_all_four_are_here_and_ends_with_a_result() {
    let mut host = Host::create(r#"{"round_secs":5}"#, 1, 4).unwrap();
    for seat in 0..4 {
        assert_eq!(host.room().phase, Phase::Waiting);
        host.join(Seat(seat), Player::new(format!("p{seat}"))).unwrap();
    }
    let seen = events(&mut host);
    assert_eq!(seen.iter().filter(|(_, event, _)| event == "welcome").count(), 4);
    assert_eq!(last(&seen, "phase").unwrap(), json!({"phase": "countdown", "ticks": 90}));
    let seen = run(&mut host, 90);
    assert_eq!(last(&seen, "phase").unwrap(), json!({"phase": "play", "ticks": 150}));
    assert!(!host.is_finished());
    let seen = run(&mut host, 150);
    assert_eq!(last(&seen, "podium").unwrap().as_array().unwrap().len(), 4);
    let result: Value = serde_json::from_str(host.result().unwrap()).unwrap();
    assert_eq!(result["ended"], "time");
    assert_eq!(result["standings"][0]["place"], 1);
    assert!(host.join(Seat(0), Player::new("late")).is_err());
    run(&mut host, 12 * 30);
    assert!(host.is_closed());
}

#[test]
fn a_lone_player_waits_ten_seconds_and_then_plays() {
    let mut host = Host::create("", 1, 4).unwrap();
    host.join(Seat(2), Player::new("ann")).unwrap();
    run(&mut host, 299);
    assert_eq!(host.room().phase, Phase::Waiting);
    run(&mut host, 1);
    assert_eq!(host.room().phase, Phase::Countdown);
}

#[test]
fn options_that_make_no_round_are_refused() {
    for (init, reason) in [
        (r#"{"round_secs":4}"#, "round_secs is 5 to 3600, not 4"),
        (r#"{"round_secs":3601}"#, "round_secs is 5 to 3600, not 3601"),
        (r#"{"rounds":3}"#, "the options of the arena room are wrong"),
    ] {
        let Err(error) = RoomKind::of::<Arena>().create(init, 1, 4) else { panic!("{init} was accepted") };
        assert!(error.to_string().starts_with(reason), "{error}");
    }
    assert!(RoomKind::of::<Arena>().create("", 1, 20).is_ok());
    assert!(RoomKind::of::<Arena>().create("", 1, 21).is_err());
}

#[test]
fn a_player_moves_as_steered_and_the_others_see_it() {
    let mut host = playing(3, 2);
    let before = host.room().world.fighters[&Seat(0)].at;
    host.handle(Seat(0), "steer", Some(r#"{"x":-127,"y":0}"#)).unwrap();
    let seen = run(&mut host, 5);
    let after = host.room().world.fighters[&Seat(0)].at;
    assert_eq!(before - after, Vector::px(45, 0), "9 px a tick, 5 ticks");
    let (to, _, state) = seen.iter().rev().find(|(_, event, _)| event == "state").unwrap();
    assert_eq!((*to, &state["p"][0][1]), (To::All, &json!(after.x)));
    assert!(host.handle(Seat(0), "steer", Some(r#"{"x":128,"y":0}"#)).is_err(), "no faster than full tilt");
}

#[test]
fn nobody_leaves_the_map_or_stands_in_a_pillar() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut rng = Rng::seeded(seed);
        let mut host = playing(seed, 8);
        for _ in 0..400 {
            for seat in 0..8 {
                let steer = json!({"x": rng.between(-127, 127), "y": rng.between(-127, 127)}).to_string();
                host.handle(Seat(seat), "steer", Some(&steer)).unwrap();
                if rng.one_in(20) {
                    host.handle(Seat(seat), "dash", None).unwrap();
                }
            }
            host.tick();
            for fighter in host.room().world.fighters.values() {
                let Vector { x, y } = fighter.at;
                assert!((0..=sim::WIDTH * PX).contains(&x) && (0..=sim::HEIGHT * PX).contains(&y));
                for [px, py, radius] in sim::PILLARS {
                    assert!(!fighter.at.is_within((radius - 1) * PX, Vector::px(px, py)), "{x} {y}");
                }
            }
        }
    }
}

#[test]
fn the_beam_costs_points_unless_one_dashes() {
    for (dash, hit) in [(0, true), (3, false)] {
        let mut rng = Rng::seeded(5);
        let mut world = World::new(&mut rng);
        world.drones.clear();
        world.orbs.clear();
        world.enter(Seat(0), 4);
        let way = ray(world.beam_angle + world.beam_spin);
        let fighter = world.fighters.get_mut(&Seat(0)).unwrap();
        fighter.at = Vector::px(sim::WIDTH / 2, sim::HEIGHT / 2) + way.scaled_to(200 * PX);
        fighter.facing = way;
        (fighter.safe, fighter.score, fighter.dash) = (0, 9, dash);
        let told = world.step(&mut rng);
        assert_eq!(
            told.iter().any(|told| matches!(told, sim::Happening::Hit { lost: 3, .. })),
            hit,
            "dash {dash}"
        );
        assert_eq!(world.fighters[&Seat(0)].score, if hit { 6 } else { 9 });
        assert_eq!(world.orbs.len(), if hit { 3 } else { 0 }, "what was lost lies about");
    }
}

#[test]
fn a_dash_pops_drones_and_robs_players() {
    let mut rng = Rng::seeded(6);
    let mut world = World::new(&mut rng);
    world.orbs.clear();
    world.drones.truncate(1);
    let place = |world: &mut World, seat, at| {
        world.enter(seat, 4);
        let fighter = world.fighters.get_mut(&seat).unwrap();
        (fighter.at, fighter.safe, fighter.score, fighter.facing) = (at, 0, 3, Vector::new(1, 0));
    };
    world.beam_angle = TURN / 4;
    place(&mut world, Seat(0), Vector::px(100, 60));
    place(&mut world, Seat(1), Vector::px(140, 60));
    world.drones[0].at = Vector::px(150, 70);
    world.dash(Seat(0));
    let told = world.step(&mut rng);
    assert!(told.contains(&sim::Happening::Pop { seat: Seat(0), drone: 0 }));
    let robbed = sim::Happening::Hit { seat: Seat(1), by: super::Cause::Player(Seat(0)), lost: 1 };
    assert!(told.contains(&robbed), "{told:?}");
    assert_eq!((world.fighters[&Seat(0)].score, world.fighters[&Seat(1)].score), (6, 2));
    world.fighters.get_mut(&Seat(0)).unwrap().dash = 0;
    world.dash(Seat(0));
    assert_eq!(world.fighters[&Seat(0)].dash, 0, "not again so soon");
}

#[test]
fn orbs_are_points_for_whoever_comes_first() {
    let mut rng = Rng::seeded(7);
    let mut world = World::new(&mut rng);
    world.drones.clear();
    world.enter(Seat(0), 4);
    let at = world.fighters[&Seat(0)].at;
    world.orbs.clear();
    world.orbs.insert(900, at);
    assert_eq!(world.step(&mut rng), [sim::Happening::Taken { orb: 900, seat: Seat(0) }]);
    assert_eq!(world.fighters[&Seat(0)].score, 1);
}

#[test]
fn a_round_ends_when_all_who_are_connected_concede() {
    let mut host = playing(8, 4);
    for seat in 0..3 {
        host.handle(Seat(seat), "concede", None).unwrap();
    }
    run(&mut host, 2);
    assert_eq!(host.room().phase, Phase::Play);
    host.drop_seat(Seat(3), SESSION).unwrap();
    assert_eq!(host.room().phase, Phase::Podium);
    assert!(host.result().unwrap().starts_with(r#"{"ended":"conceded","standings":[{"place":1,"#));
}

#[test]
fn a_deserted_round_closes_with_the_scores_of_those_who_left() {
    let mut host = playing(9, 2);
    host.leave(Seat(1), Why::Left).unwrap();
    run(&mut host, 5);
    host.leave(Seat(0), Why::Left).unwrap();
    assert!(host.is_closed());
    let result: Value = serde_json::from_str(host.result().unwrap()).unwrap();
    assert_eq!((&result["ended"], result["standings"].as_array().unwrap().len()), (&json!("deserted"), 2));
}

#[test]
fn a_player_who_comes_back_gets_the_whole_picture() {
    let mut host = playing(10, 4);
    run(&mut host, 50);
    host.drop_seat(Seat(2), SESSION).unwrap();
    let seen = run(&mut host, 5);
    assert_eq!(last(&seen, "state").unwrap()["p"][2][4].as_i64().unwrap() & 8, 8, "the others see them away");
    host.resume(Seat(2)).unwrap();
    let seen = events(&mut host);
    assert!(seen.iter().all(|(to, _, _)| *to == To::Only(Seat(2))));
    let welcome = last(&seen, "welcome").unwrap();
    assert_eq!(welcome["seat"], 2);
    assert_eq!(welcome["players"].as_array().unwrap().len(), 4);
    assert_eq!(last(&seen, "phase").unwrap(), json!({"phase": "play", "ticks": 600 - 55}));
}

#[test]
fn names_are_cut_and_told_once() {
    let mut host = playing(11, 2);
    for _ in 0..2 {
        host.handle(Seat(0), "name", Some("\"  Zoë\\n the very very long  \"")).unwrap();
    }
    host.handle(Seat(1), "name", Some("\" \\u0007 \"")).unwrap();
    let seen = run(&mut host, 1);
    let told: Vec<&Value> =
        seen.iter().filter(|(_, event, _)| event == "player").map(|(_, _, a)| a).collect();
    assert_eq!(told, [&json!({"seat": 0, "name": "Zoë the very ver", "color": "#ff5d73"})]);
}

#[test]
fn the_same_seed_and_inputs_give_the_same_bytes_also_after_a_move() {
    let play = |moves: bool| {
        let kind = RoomKind::of::<Arena>();
        let mut room = kind.create("", 99, 4).unwrap();
        let mut rng = Rng::seeded(12);
        for seat in 0..4 {
            room.join(Seat(seat), Player::new(format!("p{seat}"))).unwrap();
        }
        for tick in 0..1500 {
            let steer = json!({"x": rng.between(-127, 127), "y": rng.between(-127, 127)}).to_string();
            room.handle(Seat(tick % 4), "steer", Some(&steer)).unwrap();
            room.handle(Seat(tick % 3), "dash", None).unwrap();
            if moves && tick % 100 == 7 {
                room = kind.restore(&room.snapshot().unwrap()).unwrap();
            }
            room.tick();
            room.take_outputs();
        }
        room.snapshot().unwrap()
    };
    assert!(play(false) == play(true));
}

#[test]
fn a_state_of_four_players_is_small() {
    let mut host = playing(13, 4);
    host.tick();
    let size = |output: &Output| match output {
        Output::Send { event, payload, .. } if event == "state" => payload.as_ref().map(String::len),
        Output::Send { .. } | Output::Left { .. } | Output::Finished { .. } | Output::Closed => None,
    };
    let bytes = host.take_outputs().iter().find_map(size).unwrap();
    assert!(bytes < 250, "{bytes} bytes");
}
