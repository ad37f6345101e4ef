//! Where a new room, a player and a new server go.

use crate::support::{fleet, mesh, server, servers};
use greenroom_core::HostName;
use greenroom_core::allocate::{Candidates, Chosen, Preference, Selector, no_room, no_server};
use greenroom_core::fleet::Fleet;
use greenroom_core::gameserver::GameServer;
use greenroom_core::placement::{self, Host, Spread};
use proptest::prelude::*;

/// The servers of a text as the world keeps them: by name.
fn by_name(text: &str) -> Vec<GameServer> {
    let mut all = servers(text);
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

fn choose(fleet: &Fleet, servers: &[GameServer], selector: &Selector) -> Option<Chosen> {
    Candidates::of(fleet, servers).choose(fleet, servers, selector, [0, 0])
}

fn for_room(fleet: &Fleet, text: &str, selector: &Selector) -> String {
    let servers = by_name(text);
    let chosen = choose(fleet, &servers, selector).map(|chosen| chosen.server.to_string());
    chosen.unwrap_or_else(|| no_room(fleet, &servers, selector).to_string())
}

fn for_player(fleet: &Fleet, text: &str, selector: &Selector) -> String {
    let servers = by_name(text);
    let chosen = choose(fleet, &servers, selector).map(|chosen| chosen.server.to_string());
    chosen.unwrap_or_else(|| no_server(fleet, &servers, selector).to_string())
}

fn zone(name: &str) -> Selector {
    Selector { labels: [("zone".to_owned(), name.to_owned())].into(), revision: None }
}

fn prefers(preference: Preference, fleet: Fleet) -> Fleet {
    Fleet { allocation: preference, ..fleet }
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
        ("never one that says it is in use", "a ready, b allocated rooms=1 held", "a"),
        ("never one that is full by what it measures", "a ready, b allocated rooms=1 full", "a"),
        (
            "none, two of them by what they measure",
            "a ready full, b allocated rooms=1 full, c allocated rooms=2",
            "no ready gameserver in fleet arena has a free room (3 ready, 1 full, 2 at the full_at of the fleet, 0 starting, 0 unhealthy)",
        ),
        (
            "none",
            "a starting, b unhealthy, c allocated rooms=2, d draining, e stopped, f ready fleet=lobby",
            "no ready gameserver in fleet arena has a free room (1 ready, 1 full, 1 starting, 1 unhealthy)",
        ),
    ];
    for (name, text, expected) in cases {
        assert_eq!(for_room(&fleet(1, 9), text, &Selector::default()), expected, "{name}");
    }
}

#[test]
fn a_room_goes_to_the_least_loaded_server_where_the_fleet_spreads() {
    let spread = prefers(Preference::LeastConnected, fleet(1, 9));
    let cases = [
        ("the emptiest", "a allocated rooms=1, b ready", "b"),
        ("connections break ties", "a ready connections=3, b ready connections=2", "b"),
        ("the current revision first", "a ready old, b allocated rooms=1", "b"),
    ];
    for (name, text, expected) in cases {
        assert_eq!(for_room(&spread, text, &Selector::default()), expected, "{name}");
    }
}

#[test]
fn a_player_goes_to_the_least_loaded_server() {
    let cases = [
        ("the least connections", "a ready connections=3, b ready connections=2", "b"),
        ("answers in flight count", "a ready connections=3, b ready connections=2 flight=2", "a"),
        ("the current revision of equals", "a ready old, b ready", "b"),
        ("a new revision does not get everybody", "a ready connections=3, b ready connections=2 old", "b"),
        ("the first by name of equals", "c ready, b ready", "b"),
        (
            "none",
            "a starting, b unhealthy, c stopped, d draining",
            "no gameserver in fleet arena is ready (1 starting, 1 unhealthy)",
        ),
    ];
    for (name, text, expected) in cases {
        assert_eq!(for_player(&mesh(1, 9), text, &Selector::default()), expected, "{name}");
    }
}

#[test]
fn a_selector_leaves_servers_out_whatever_is_preferred() {
    let old = Selector { revision: Some("old".parse().unwrap()), labels: [].into() };
    let both = "a ready zone=x, b ready zone=y, c allocated rooms=1 zone=x old";
    for preference in [Preference::Packing, Preference::LeastConnected, Preference::PowerOfTwo] {
        let fleet = prefers(preference, fleet(1, 9));
        assert_eq!(for_room(&fleet, both, &zone("x")), "a", "{preference:?}");
        assert_eq!(for_room(&fleet, both, &zone("y")), "b", "{preference:?}");
        assert_eq!(for_room(&fleet, both, &old), "c", "{preference:?}");
    }
    let none = "no ready gameserver in fleet arena with zone=z has a free room (0 of 3 ready match)";
    assert_eq!(for_room(&fleet(1, 9), both, &zone("z")), none);
    let none = "none of the 3 ready gameservers in fleet arena has zone=z, revision=old";
    let neither = Selector { revision: old.revision, ..zone("z") };
    assert_eq!(for_player(&mesh(1, 9), both, &neither), none);
}

#[test]
fn the_answer_says_why_this_server() {
    let cases = [
        (Preference::Packing, "packing: the fullest of 2 with a place, 1 rooms before"),
        (Preference::LeastConnected, "least_connected of 2: 0 rooms, 4 connections before"),
        (Preference::PowerOfTwo, "power_of_two of 2: 0 rooms, 4 connections before"),
    ];
    let servers = by_name("a ready connections=4, b allocated rooms=1");
    for (preference, expected) in cases {
        let fleet = prefers(preference, fleet(1, 9));
        let chosen = choose(&fleet, &servers, &Selector::default()).unwrap();
        assert_eq!(chosen.why.to_string(), expected);
    }
}

fn host(name: &str, accepts: bool, servers: u32, servers_max: u32) -> Host {
    let zone = String::new();
    Host { name: name.parse().unwrap(), zone, in_use: accepts, accepts, servers, of_fleet: 0, servers_max }
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
            placement::choose(&hosts, Spread::Hosts).ok().map(|placed| placed.host),
            expected.map(|name| name.parse::<HostName>().unwrap()),
            "{name}"
        );
    }
}

/// `name zone of_fleet servers/servers_max`, with a `?` behind those that accept nothing for the moment, and a `!` behind those
/// that are not in use.
fn zoned(text: &str) -> Vec<Host> {
    let hosts = text.split(", ").map(|host| {
        let words: Vec<&str> = host.trim_end_matches(['!', '?']).split(' ').collect();
        let (servers, servers_max) = words[3].split_once('/').unwrap();
        Host {
            name: words[0].parse().unwrap(),
            zone: words[1].trim_matches('-').to_owned(),
            in_use: !host.ends_with('!'),
            accepts: !host.ends_with(['!', '?']),
            servers: servers.parse().unwrap(),
            of_fleet: words[2].parse().unwrap(),
            servers_max: servers_max.parse().unwrap(),
        }
    });
    hosts.collect()
}

#[test]
fn a_fleet_that_is_spread_over_zones_grows_where_it_has_the_fewest_servers() {
    let cases = [
        (
            "the emptier zone",
            "h1 a 2 2/9, h2 b 1 8/9",
            "h2: zone \"b\" had 1 of the fleet, the fewest of 2 with a place",
        ),
        (
            "all of a zone's hosts count",
            "h1 a 1 1/9, h2 a 1 1/9, h3 b 1 9/10",
            "h3: zone \"b\" had 1 of the fleet, the fewest of 2 with a place",
        ),
        (
            "the emptiest host of the zone",
            "h1 a 1 4/9, h2 a 0 3/9, h3 b 2 2/9",
            "h2: zone \"a\" had 1 of the fleet, the fewest of 2 with a place",
        ),
        (
            "other fleets do not count",
            "h1 a 0 8/9, h2 b 1 1/9",
            "h1: zone \"a\" had 0 of the fleet, the fewest of 2 with a place",
        ),
        (
            "a full zone is passed over",
            "h1 a 0 9/9, h2 b 3 3/9",
            "h2: zone \"b\" had 3 of the fleet, the fewest of 1 with a place",
        ),
        (
            "a lost zone too",
            "h1 a 0 0/9!, h2 b 3 3/9, h3 c 4 4/9",
            "h2: zone \"b\" had 3 of the fleet, the fewest of 2 with a place",
        ),
        (
            "no label is a zone",
            "h1 - 1 1/9, h2 - 0 0/9, h3 b 0 5/9",
            "h3: zone \"b\" had 0 of the fleet, the fewest of 2 with a place",
        ),
        ("nothing is free", "h1 a 9 9/9, h2 b 0 0/9!", "without a host that has a free place"),
    ];
    for (name, hosts, expected) in cases {
        assert_eq!(placed(hosts, Spread::Zones), expected, "{name}");
    }
}

fn placed(hosts: &str, spread: Spread) -> String {
    match placement::choose(&zoned(hosts), spread) {
        Ok(placed) => format!("{}: {}", placed.host, placed.why),
        Err(no_place) => no_place.to_string(),
    }
}

#[test]
fn a_fleet_that_nothing_connects_beyond_a_host_stays_on_one() {
    let together = "of the fleet are there, and all are kept together";
    let cases = [
        (
            "the first goes to the emptiest",
            "h1 a 0 5/9, h2 a 0 4/9",
            "h2: the emptiest of 2 with a place".to_owned(),
        ),
        ("the others follow", "h1 a 0 0/9, h2 a 1 8/9", format!("h2: 1 {together}")),
        ("of two homes the greater", "h1 a 1 1/9, h2 b 2 5/9", format!("h2: 2 {together}")),
        ("of equals the first", "h2 b 2 2/9, h1 a 2 8/9", format!("h1: 2 {together}")),
        (
            "one that is gone is none",
            "h1 a 3 3/9!, h2 a 0 1/9",
            "h2: the emptiest of 1 with a place".to_owned(),
        ),
    ];
    for (name, hosts, expected) in cases {
        assert_eq!(placed(hosts, Spread::OneHost), expected, "{name}");
    }
    for (name, hosts) in [
        ("a full one is waited for", "h1 a 9 9/9, h2 a 0 0/9"),
        ("and one that is silent for the moment", "h1 a 3 3/9?, h2 a 0 0/9"),
    ] {
        let told = placed(hosts, Spread::OneHost);
        assert!(
            told.starts_with("without a place on host h1") && told.contains("GREENROOM_REDIS"),
            "{name}: {told}"
        );
    }
}

#[test]
fn a_fleet_is_packed_or_kept_to_one_on_each_host_where_it_asks_for_it() {
    let cases = [
        (Spread::Pack, "h1 a 0 1/9, h2 a 0 8/9, h3 a 0 9/9", "h2: the fullest of 2 with a place"),
        (Spread::Pack, "h2 a 0 2/4, h1 a 0 3/6", "h1: the fullest of 2 with a place"),
        (Spread::Pack, "h1 a 0 9/9, h2 a 0 1/9!", "without a host that has a free place"),
        (Spread::OnePerHost, "h1 a 1 1/9, h2 a 0 8/9", "h2: the emptiest of 1 with a place"),
        (Spread::OnePerHost, "h1 a 0 2/9, h2 a 0 1/9", "h2: the emptiest of 2 with a place"),
        (
            Spread::OnePerHost,
            "h1 a 1 1/9, h2 a 1 1/9, h3 a 0 9/9",
            "without a host that has none of the fleet yet, which is kept to one on each",
        ),
        (Spread::OnePerHost, "h1 a 1 9/9", "without a host that has a free place"),
    ];
    for (spread, hosts, expected) in cases {
        assert_eq!(placed(hosts, spread), expected, "{hosts}");
    }
}

fn any_hosts() -> impl Strategy<Value = Vec<Host>> {
    let one = (0u32..4, 0u32..6, 0u32..6, any::<bool>(), any::<bool>(), 0u8..3);
    let hosts = proptest::collection::vec(one, 0..8);
    hosts.prop_map(|hosts| {
        let host = |(nth, (of_fleet, others, more, in_use, takes, zone)): (usize, _)| {
            let (of_fleet, others): (u32, u32) = (of_fleet, others);
            let zone: u8 = zone;
            Host {
                name: format!("h{nth}").parse().unwrap(),
                zone: format!("z{zone}"),
                in_use,
                accepts: in_use && takes,
                servers: of_fleet + others,
                of_fleet,
                servers_max: of_fleet + others + more,
            }
        };
        hosts.into_iter().enumerate().map(host).collect()
    })
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    let states = ["starting", "ready", "allocated", "draining", "unhealthy", "stopped"];
    let one = (0..states.len(), 0u16..4, 0u32..5, any::<bool>(), any::<bool>());
    let text = one.prop_map(move |(state, rooms, connections, old, zone)| {
        let (old, zone) = (if old { "old" } else { "" }, if zone { "x" } else { "y" });
        format!("{} rooms={rooms} connections={connections} {old} zone={zone}", states[state])
    });
    proptest::collection::vec(text, 1..12)
}

proptest! {
    #[test]
    fn wherever_a_server_goes_there_is_a_place_and_what_the_fleet_asks_for_holds(hosts in any_hosts(), which in 0usize..5) {
        let spread = Spread::ALL[which];
        let share = |host: &Host| f64::from(host.servers) / f64::from(host.servers_max);
        let free: Vec<&Host> = hosts.iter().filter(|host| host.accepts && host.servers < host.servers_max).collect();
        let home = hosts.iter().filter(|host| host.in_use).map(|host| host.of_fleet).max().filter(|most| *most > 0);
        let chosen = placement::choose(&hosts, spread).map(|placed| placed.host);
        prop_assert_eq!(&chosen, &placement::choose(&hosts, spread).map(|placed| placed.host), "asked again");
        match chosen {
            Ok(name) => {
                let chosen = free.iter().find(|host| host.name == name).expect("it accepts and has a place");
                match spread {
                    Spread::Hosts => prop_assert!(free.iter().all(|host| share(host) >= share(chosen))),
                    Spread::Pack => prop_assert!(free.iter().all(|host| share(host) <= share(chosen))),
                    Spread::OnePerHost => prop_assert_eq!(chosen.of_fleet, 0),
                    Spread::OneHost => prop_assert_eq!(chosen.of_fleet, home.unwrap_or(0)),
                    Spread::Zones => {
                        let of = |zone: &str| hosts.iter().filter(|host| host.zone == zone).map(|host| host.of_fleet).sum::<u32>();
                        prop_assert!(free.iter().all(|host| of(&host.zone) >= of(&chosen.zone)));
                    }
                }
            }
            Err(_) if spread == Spread::OnePerHost => prop_assert!(free.iter().all(|host| host.of_fleet > 0)),
            Err(_) if spread == Spread::OneHost && home.is_some() => {}
            Err(_) => prop_assert!(free.is_empty()),
        }
    }

    #[test]
    fn packing_rooms_opens_a_server_only_when_all_others_are_full(rooms in 0usize..20) {
        let fleet = fleet(1, 99);
        let mut servers: Vec<GameServer> = servers("a ready, b ready, c ready, d ready, e ready");
        for _ in 0..rooms {
            match choose(&fleet, &servers, &Selector::default()) {
                Some(chosen) => servers.iter_mut().find(|s| s.name == chosen.server).unwrap().rooms += 1,
                None => prop_assert!(servers.iter().all(|s| s.rooms == crate::support::ROOMS_PER_SERVER)),
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
            let chosen = choose(&fleet, &servers, &Selector::default()).unwrap().server;
            servers.iter_mut().find(|s| s.name == chosen).unwrap().in_flight += 1;
        }
        let loads = servers.iter().map(|s| s.in_flight);
        prop_assert!(loads.clone().max().unwrap() - loads.min().unwrap() <= 1);
    }

    #[test]
    fn of_two_draws_the_less_loaded_is_taken_and_a_place_is_never_missed(
        texts in texts(), draws in any::<[u64; 2]>(), in_x in any::<bool>(), of_mesh in any::<bool>(),
    ) {
        let fleet = prefers(Preference::PowerOfTwo, if of_mesh { mesh(1, 9) } else { fleet(1, 9) });
        let servers: Vec<GameServer> =
            texts.iter().enumerate().map(|(at, text)| server(&format!("s{at:02} {text}"))).collect();
        let selector = if in_x { zone("x") } else { Selector::default() };
        let fits = |server: &&GameServer| {
            let place = of_mesh || server.rooms_free(crate::support::ROOMS_PER_SERVER) > 0;
            server.state.takes_players() && place && selector.matches(server)
        };
        let candidates = Candidates::of(&fleet, &servers);
        let chosen = candidates.choose(&fleet, &servers, &selector, draws);
        prop_assert_eq!(chosen.is_some(), servers.iter().any(|server| fits(&server)));
        let Some(chosen) = chosen else { return Ok(()) };
        let found = servers.iter().find(|server| server.name == chosen.server);
        prop_assert!(found.is_some_and(|server| fits(&server)), "{:?}", chosen);
    }

    #[test]
    fn candidates_told_of_each_change_are_those_of_the_servers(before in texts(), after in texts(), of_mesh in any::<bool>()) {
        let fleet = if of_mesh { mesh(1, 9) } else { fleet(1, 9) };
        let all = |texts: &[String]| -> Vec<GameServer> {
            texts.iter().enumerate().map(|(at, text)| server(&format!("s{at:02} {text}"))).collect()
        };
        let (before, after) = (all(&before), all(&after));
        let mut candidates = Candidates::of(&fleet, &before);
        for at in 0..before.len().max(after.len()) {
            // Told twice it is the same.
            candidates.update(&fleet, before.get(at), after.get(at));
            candidates.update(&fleet, before.get(at), after.get(at));
        }
        prop_assert_eq!(candidates, Candidates::of(&fleet, &after));
    }
}
