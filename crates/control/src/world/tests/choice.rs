//! Which server and which room an allocation gets, and what the answer says of it.

use std::collections::BTreeMap;

use greenroom_core::allocate::Preference;
use greenroom_wire::Text;
use greenroom_wire::agent::{FromAgent, ToAgent};
use greenroom_wire::api::{AllocateRequest, Allocation, SelectorBody};
use greenroom_wire::error::Code;

use super::rig::*;
use crate::world::{Answer, Call};

/// One call with a room of its own for four players, or one seat in a room that others fill too.
fn ask(nth: usize, fill: bool) -> AllocateRequest {
    let names: Vec<String> = (0..if fill { 1 } else { 4 }).map(|seat| format!("p{nth}-{seat}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    AllocateRequest { fill, ..request(None, &names) }
}

/// Everybody who was given a seat sits there, and the reports say so.
fn arrive(rig: &mut Rig, given: &[Allocation]) {
    let mut rooms: BTreeMap<_, (&Allocation, Vec<(u16, &str)>)> = BTreeMap::new();
    for one in given {
        let (_, seated) = rooms.entry(&one.room).or_insert((one, Vec::new()));
        seated.extend(one.seats.iter().map(|seat| (seat.seat, seat.player.as_str())));
    }
    for (one, seated) in rooms.into_values() {
        rig.seat(one, &seated);
    }
}

#[test]
fn servers_of_300_seats_fill_one_after_the_other_at_5_and_at_500_calls_a_second() {
    for (per_second, fill) in [(5, false), (500, false), (5, true), (500, true)] {
        // 75 rooms of 4 seats on a server, or one of 300.
        let fleet =
            if fill { room_fleet("arena", (4, 4), 1, 300) } else { room_fleet("arena", (4, 4), 75, 4) };
        let mut rig = Rig::ready(vec![fleet]);
        let calls = if fill { 3 * 300 } else { 3 * 75 };
        let mut given = Vec::new();
        let mut seats_on: Vec<(String, usize)> = Vec::new();
        for nth in 0..calls {
            let one = rig.allocate(ask(nth, fill)).unwrap();
            let server = one.server.to_string();
            match seats_on.last_mut() {
                Some((last, seats)) if *last == server => *seats += one.seats.len(),
                last => {
                    assert!(
                        last.is_none_or(|(_, seats)| *seats == 300),
                        "{server} was begun before the last was full"
                    );
                    seats_on.push((server, one.seats.len()));
                }
            }
            given.push(one);
            if per_second < 100 {
                rig.run_ms(1_000 / per_second);
            }
            if (nth + 1) % usize::try_from(per_second).unwrap() == 0 {
                arrive(&mut rig, &given);
            }
        }
        let seats: Vec<usize> = seats_on.iter().map(|(_, seats)| *seats).collect();
        assert_eq!(seats, [300, 300, 300], "{per_second} a second, fill: {fill}");
        assert_eq!(distinct(seats_on.iter().map(|(server, _)| server)), 3);
    }
}

#[test]
fn calls_that_fill_take_the_fullest_room_with_seats_for_all_and_make_one_only_without() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (2, 2), 4, 4)]);
    let fill =
        |rig: &mut Rig, names: &[&str]| rig.allocate(AllocateRequest { fill: true, ..request(None, names) });
    let closed = rig.allocate(request(None, &["x"])).unwrap();
    let first = fill(&mut rig, &["a", "b", "c"]).unwrap();
    assert!(first.created && first.room != closed.room, "a room of another kind of call is not filled");
    let second = fill(&mut rig, &["d", "e"]).unwrap();
    assert!(second.created, "two do not fit into one seat");
    let third = fill(&mut rig, &["f"]).unwrap();
    assert_eq!((third.room, third.created), (first.room.clone(), false), "the fullest that has a seat");
    assert_eq!(third.because, "fill: the fullest open room with seats for all, 1 free before");
    assert_eq!(fill(&mut rig, &["g"]).unwrap().room, second.room);
    // Who left leaves a free seat once the server says so.
    rig.seat(&first, &[(0, "a"), (1, "b"), (2, "c")]);
    rig.run_ms(40_000);
    rig.seat(&first, &[(0, "a"), (2, "c")]);
    rig.restart();
    rig.connect();
    rig.report();
    assert_eq!(fill(&mut rig, &["h", "i"]).unwrap().room, first.room, "also after a restart");
}

#[test]
fn calls_that_fill_and_wait_ask_for_as_many_rooms_as_their_players_need() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (0, 9), 1, 4)]);
    let calls: Vec<_> = (0..6)
        .map(|nth| {
            let body = AllocateRequest { timeout_ms: Some(9_000), ..ask(nth, true) };
            rig.ask(Call::Allocate { fleet: text("arena"), body })
        })
        .collect();
    rig.run_ms(2_000);
    let given: Vec<Allocation> =
        calls.into_iter().map(|call| allocation(rig.answer(call).unwrap())).collect();
    assert_eq!(distinct(given.iter().map(|given| &given.room)), 2, "six players, four seats a room");
    assert_eq!(rig.servers.len(), 2);
}

#[test]
fn a_selector_is_kept_and_a_call_that_it_holds_back_holds_nobody_else_back() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 2), 4, 4), mesh_fleet("lobby", (1, 1))]);
    let zone =
        |zone: &str| SelectorBody { labels: [("zone".to_owned(), zone.to_owned())].into(), revision: None };
    let body = |zone: SelectorBody| AllocateRequest { select: Some(zone), ..request(None, &["a"]) };
    let refused =
        rig.now_answered(Call::Allocate { fleet: text("arena"), body: body(zone("b")) }).unwrap_err();
    assert_eq!(refused.code(), Code::NoCapacity);
    assert_eq!(
        refused.to_string(),
        "no ready gameserver in fleet arena with zone=b has a free room (0 of 1 ready match)"
    );
    let waits = AllocateRequest { timeout_ms: Some(9_000), ..body(zone("b")) };
    let waits = rig.ask(Call::Allocate { fleet: text("arena"), body: waits });
    rig.allocate(body(zone("a"))).unwrap();
    rig.allocate(request(None, &["c"])).unwrap();
    rig.run_ms(5_000);
    assert_eq!(rig.servers_of("arena").len(), 1, "no host would do, so no server is started for it");
    rig.run_ms(5_000);
    assert_eq!(rig.answer(waits).unwrap_err().code(), Code::NoCapacity);
    let revision =
        |name: &str| SelectorBody { revision: Some(greenroom_wire::Text(text(name))), ..zone("a") };
    rig.allocate(body(revision("rev1"))).unwrap();
    assert_eq!(code(rig.allocate(body(revision("rev2")))), Code::NoCapacity);
    let lobby = |select| Call::Endpoint { fleet: text("lobby"), select: Some(select) };
    assert!(matches!(rig.now_answered(lobby(zone("a"))), Ok(Answer::Endpoint(_))));
    let call = rig.ask(lobby(zone("b")));
    rig.run_ms(11_000);
    let refused = rig.answer(call).unwrap_err();
    assert_eq!(refused.to_string(), "none of the 1 ready gameservers in fleet lobby has zone=b");
}

#[test]
fn each_preference_of_a_fleet_is_followed_and_named_in_the_answer() {
    let cases = [
        (Preference::Packing, vec![4, 2], "packing: the fullest of 3 with a place, 1 rooms before"),
        (Preference::LeastConnected, vec![2, 2, 2], "least_connected of 3: 0 rooms, 0 connections before"),
    ];
    for (preference, rooms, because) in cases {
        let fleet =
            greenroom_core::fleet::Fleet { allocation: preference, ..room_fleet("arena", (3, 3), 4, 4) };
        let mut rig = Rig::ready(vec![fleet]);
        let given: Vec<Allocation> = (0..6).map(|nth| rig.allocate(ask(nth, false)).unwrap()).collect();
        let mut on: BTreeMap<String, usize> = BTreeMap::new();
        for one in &given {
            *on.entry(one.server.to_string()).or_default() += 1;
        }
        let mut on: Vec<usize> = on.into_values().collect();
        on.sort_by_key(|rooms| std::cmp::Reverse(*rooms));
        assert_eq!((on, given[1].because.as_str()), (rooms, because));
    }
    let fleet = room_fleet("arena", (50, 50), 20, 4);
    let fleet = greenroom_core::fleet::Fleet { allocation: Preference::PowerOfTwo, ..fleet };
    let mut rig = Rig::ready(vec![fleet]);
    while rig.fleet("arena").ready < 50 {
        rig.run_ms(1_000);
    }
    let mut on: BTreeMap<String, usize> = BTreeMap::new();
    for nth in 0..500 {
        *on.entry(rig.allocate(ask(nth, false)).unwrap().server.to_string()).or_default() += 1;
    }
    let most = on.values().max().copied().unwrap();
    assert!(on.len() == 50 && most <= 15, "ten each on average, and two draws keep it near: {on:?}");
}

#[test]
fn a_server_is_chosen_by_a_label_of_its_own_and_told_to_those_who_ask_for_peers() {
    let mut rig = Rig::ready(vec![mesh_fleet("lobby", (2, 2))]);
    let names: Vec<_> = rig.servers_of("lobby");
    let label = |rig: &mut Rig, at: usize, name: &str, value: &str| {
        let server = rig.servers.get_mut(&names[at]).expect("it runs");
        server.report.labels.insert(name.to_owned(), value.to_owned());
    };
    label(&mut rig, 0, "map", "desert");
    label(&mut rig, 1, "map", "sea");
    // The host is in zone a, whatever a server says.
    label(&mut rig, 1, "zone", "b");
    rig.run_ms(2_000);
    let select = |name: &str, value: &str| SelectorBody {
        labels: [(name.to_owned(), value.to_owned())].into(),
        revision: None,
    };
    for (at, map) in [(0, "desert"), (1, "sea")] {
        let call = Call::Endpoint { fleet: text("lobby"), select: Some(select("map", map)) };
        let Ok(Answer::Endpoint(given)) = rig.now_answered(call) else { panic!("{map}") };
        assert_eq!(given.server.0, names[at], "{map}");
    }
    let call = rig.ask(Call::Endpoint { fleet: text("lobby"), select: Some(select("zone", "b")) });
    rig.run_ms(11_000);
    assert!(rig.answer(call).is_err(), "a server cannot move itself to another zone");
    let Ok(Answer::Gameservers(list)) = rig.now_answered(Call::Gameservers(None)) else { panic!() };
    let maps: Vec<_> = list.gameservers.iter().map(|server| server.labels["map"].as_str()).collect();
    assert_eq!(maps, ["desert", "sea"]);
    rig.say(FromAgent::ReadPeers { fleet: Text(text("lobby")) });
    rig.say(FromAgent::ReadPeers { fleet: Text(text("nobody")) });
    let told: Vec<_> = rig.orders.iter().rev().take(2).cloned().collect();
    let [ToAgent::Peers { outcome: Err(why), .. }, ToAgent::Peers { outcome: Ok(peers), .. }] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((why.as_str(), peers), ("there is no fleet nobody; there are: lobby", &list.gameservers));
}

#[test]
fn a_call_that_takes_only_other_servers_holds_no_match_back() {
    let mut rig = Rig::ready(vec![room_fleet("arena", (1, 1), 4, 4), mesh_fleet("lobby", (1, 1))]);
    let zone = SelectorBody { labels: [("zone".to_owned(), "b".to_owned())].into(), revision: None };
    let body =
        AllocateRequest { select: Some(zone), timeout_ms: Some(60_000), ..request(None, &["elsewhere"]) };
    rig.ask(Call::Allocate { fleet: text("arena"), body });
    rig.file(&[("t1", &["a"]), ("t2", &["b"]), ("t3", &["c"]), ("t4", &["d"])]).unwrap();
    rig.run_ms(200);
    assert_eq!(rig.poll(&[]).len(), 4);
}
