//! Where a new room, a player and a new server go.

use crate::support::{fleet, mesh, servers};
use greenroom_core::HostName;
use greenroom_core::allocate::{choose_for_player, choose_for_room};
use greenroom_core::gameserver::GameServer;
use greenroom_core::placement::{self, Host};
use proptest::prelude::*;

fn answer<T: ToString, E: ToString>(outcome: Result<T, E>) -> String {
    outcome.map_or_else(|error| error.to_string(), |name| name.to_string())
}

#[test]
fn a_room_goes_to_the_fullest_server_that_has_a_place() {
    let cases = [
        ("the fullest", "a ready, b allocated rooms=1", "b"),
        ("but not a full one", "a ready, b allocated rooms=2", "a"),
        ("the current revision before the fullest", "a ready, b allocated rooms=1 old", "a"),
        ("an old one before none", "a starting, b allocated rooms=1 old", "b"),
        ("the first by name", "c ready, b ready, a starting", "b"),
        ("a reserved one too", "a reserved rooms=1", "a"),
        (
            "none",
            "a starting, b unhealthy, c allocated rooms=2, d draining, e stopped, f ready fleet=lobby",
            "no ready gameserver in fleet arena has a free room (1 ready, 1 full, 1 starting, 1 unhealthy)",
        ),
    ];
    for (name, text, expected) in cases {
        assert_eq!(answer(choose_for_room(&fleet(1, 9), &servers(text))), expected, "{name}");
    }
    let refused =
        "no ready gameserver in fleet arena has a free room (1 ready, 1 full, 0 starting, 0 unhealthy)";
    assert_eq!(answer(choose_for_room(&mesh(1, 9), &servers("a ready"))), refused, "a mesh holds no rooms");
}

#[test]
fn a_player_goes_to_the_least_loaded_server() {
    let cases = [
        ("the least connections", "a ready connections=3, b ready connections=2", "b"),
        ("answers in flight count", "a ready connections=3, b ready connections=2 flight=2", "a"),
        ("the current revision of equals", "a ready old, b ready", "b"),
        ("the first by name of equals", "c ready, b ready", "b"),
        (
            "none",
            "a starting, b unhealthy, c stopped, d draining",
            "no gameserver in fleet arena is ready (1 starting, 1 unhealthy)",
        ),
    ];
    for (name, text, expected) in cases {
        assert_eq!(answer(choose_for_player(&mesh(1, 9), &servers(text))), expected, "{name}");
    }
}

fn host(name: &str, accepts: bool, servers: u32, servers_max: u32) -> Host {
    Host { name: name.parse().unwrap(), accepts, servers, servers_max }
}

#[test]
fn a_server_goes_to_the_host_with_the_smallest_taken_share() {
    let cases = [
        ("none there", vec![], None),
        ("the emptier", vec![host("a", true, 2, 10), host("b", true, 1, 10)], Some("b")),
        ("by share, not by number", vec![host("a", true, 2, 4), host("b", true, 3, 100)], Some("b")),
        ("the first by name", vec![host("b", true, 1, 2), host("a", true, 2, 4)], Some("a")),
        ("one that accepts", vec![host("a", false, 0, 9), host("b", true, 8, 9)], Some("b")),
        ("full ones are left out", vec![host("a", true, 9, 9), host("b", true, 0, 0)], None),
    ];
    for (name, hosts, expected) in cases {
        assert_eq!(
            placement::choose(&hosts),
            expected.map(|name| name.parse::<HostName>().unwrap()),
            "{name}"
        );
    }
}

proptest! {
    #[test]
    fn packing_rooms_opens_a_server_only_when_all_others_are_full(rooms in 0usize..20) {
        let fleet = fleet(1, 99);
        let mut servers: Vec<GameServer> = servers("a ready, b ready, c ready, d ready, e ready");
        for _ in 0..rooms {
            match choose_for_room(&fleet, &servers) {
                Ok(chosen) => servers.iter_mut().find(|s| s.name == chosen).unwrap().rooms += 1,
                Err(_) => prop_assert!(servers.iter().all(|s| s.rooms == crate::support::ROOMS_PER_SERVER)),
            }
            prop_assert!(servers.iter().filter(|s| s.rooms == 1).count() <= 1);
        }
        prop_assert_eq!(servers.iter().map(|s| usize::from(s.rooms)).sum::<usize>(), rooms.min(10));
    }

    #[test]
    fn players_spread_evenly_when_each_answer_is_counted(players in 0u32..60) {
        let fleet = mesh(1, 9);
        let mut servers: Vec<GameServer> = servers("a ready, b ready, c ready");
        for _ in 0..players {
            let chosen = choose_for_player(&fleet, &servers).unwrap();
            servers.iter_mut().find(|s| s.name == chosen).unwrap().in_flight += 1;
        }
        let loads = servers.iter().map(|s| s.in_flight);
        prop_assert!(loads.clone().max().unwrap() - loads.min().unwrap() <= 1);
    }
}
