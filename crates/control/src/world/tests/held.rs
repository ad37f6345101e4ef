//! Servers that say of themselves that they are in use, and hosts that can run those with a shipped Agones SDK.

use std::time::Duration;

use greenroom_core::ServerName;
use greenroom_core::autoscale::Autoscale;
use greenroom_core::fleet::Fleet;
use greenroom_wire::agent::ToAgent;
use greenroom_wire::api::StateWord;
use greenroom_wire::error::Code;

use super::rig::*;
use crate::world::{Bounds, Call, Event};

fn quick(mut fleet: Fleet) -> Fleet {
    let seconds = Duration::from_secs;
    fleet.autoscale = Autoscale { cooldown_in: seconds(1), settle_in: seconds(1), ..Autoscale::default() };
    fleet
}

impl Rig {
    /// A server says that it is in use, or no longer, and its agent tells.
    fn holds(&mut self, server: &ServerName, held: bool) {
        let report = &mut self.servers.get_mut(server).unwrap().report;
        report.held = held;
        report.linked = !held;
        self.report();
    }

    /// Control starts again with a fleet that needs no servers.
    fn wants_none(&mut self) {
        self.config.fleets[0].replicas_min = 0;
        self.restart();
        self.connect();
    }

    fn state(&mut self, server: &ServerName) -> StateWord {
        let told = self.overview().gameservers.into_iter().find(|told| told.name.0 == *server);
        told.expect("it is shown").state
    }
}

#[test]
fn one_that_is_in_use_is_never_scaled_in_and_is_once_it_is_free() {
    let mut rig = Rig::ready(vec![quick(room_fleet("arena", (2, 4), 1, 4))]);
    let servers = rig.servers_of("arena");
    rig.holds(&servers[0], true);
    assert_eq!(rig.state(&servers[0]), StateWord::Allocated);
    assert_eq!(rig.fleet("arena").busy, 1);
    rig.wants_none();
    rig.run_ms(120_000);
    assert_eq!(rig.servers_of("arena"), servers[..1], "the other is gone");
    assert_eq!(rig.occupied.last(), Some(&true), "its host is told so");
    rig.holds(&servers[0], false);
    rig.run_ms(120_000);
    assert!(rig.servers_of("arena").is_empty());
}

#[test]
fn one_that_was_told_free_and_says_in_use_in_the_last_moment_is_not_stopped() {
    let mut rig = Rig::ready(vec![quick(room_fleet("arena", (1, 1), 1, 4))]);
    let servers = rig.servers_of("arena");
    rig.wants_none();
    // Cordoned, and not stopped yet.
    let cordoned = (0..600).any(|_| {
        rig.run_ms(100);
        rig.state(&servers[0]) == StateWord::Draining
    });
    assert!(cordoned);
    rig.holds(&servers[0], true);
    rig.run_ms(120_000);
    let stops = rig.orders.iter().filter(|order| matches!(order, ToAgent::Stop { .. })).count();
    assert_eq!((stops, rig.servers_of("arena")), (0, servers));
}

#[test]
fn a_stop_that_its_agent_refused_is_told_again_once_it_is_free() {
    let mut rig = Rig::ready(vec![quick(room_fleet("arena", (1, 1), 1, 4))]);
    let servers = rig.servers_of("arena");
    rig.wants_none();
    rig.agent_obeys = false;
    let stops = |rig: &Rig| rig.orders.iter().filter(|order| matches!(order, ToAgent::Stop { .. })).count();
    assert!((0..600).any(|_| {
        rig.run_ms(100);
        stops(&rig) > 0
    }));
    rig.holds(&servers[0], true);
    let before = stops(&rig);
    rig.run_ms(60_000);
    assert_eq!(stops(&rig), before, "not while it is in use");
    assert_eq!(rig.fleet("arena").ready, 0, "and nothing new is sent there");
    rig.holds(&servers[0], false);
    rig.run_ms(2_000);
    assert!(stops(&rig) > before);
    // However often its agent reports and refuses.
    let before = stops(&rig);
    for _ in 0..100 {
        rig.run_ms(100);
        rig.report();
    }
    assert_eq!(stops(&rig) - before, 5, "one every two seconds");
}

#[test]
fn nothing_new_is_given_to_one_in_use_and_what_it_has_goes_on() {
    let mut rig = Rig::ready(vec![quick(room_fleet("arena", (2, 2), 4, 4)), mesh_fleet("lobby", (2, 2))]);
    let servers = rig.servers_of("arena");
    let given = rig.allocate(request(Some("guild:1"), &["a"])).unwrap();
    let holder = given.server.0.clone();
    rig.holds(&holder, true);
    for player in ["b", "c", "d", "e"] {
        let server = rig.allocate(request(None, &[player])).unwrap().server.0;
        assert_ne!(server, holder, "a new room is elsewhere");
    }
    let again = rig.allocate(request(Some("guild:1"), &["f"])).unwrap();
    assert_eq!(again.room, given.room, "who asks for its room by the key joins it");
    assert_eq!(code(rig.allocate(request(None, &["g"]))), Code::NoCapacity, "the other one is full");
    rig.run_ms(300_000);
    let of_holder: Vec<_> = rig.overview().rooms.into_iter().filter(|room| room.server.0 == holder).collect();
    assert!(
        of_holder.iter().any(|room| room.room == given.room && room.ended.is_none()),
        "its silence ends nothing"
    );
    // Free again: what was promised and has expired is over.
    rig.holds(&holder, false);
    rig.run_ms(1_000);
    assert!(rig.room(given.room.as_str()).ended.is_some());
    assert_eq!(servers.len(), 2);

    let lobbies = rig.servers_of("lobby");
    rig.holds(&lobbies[0], true);
    for _ in 0..4 {
        match rig.now_answered(Call::Endpoint { fleet: text("lobby"), select: None }).unwrap() {
            crate::world::Answer::Endpoint(told) => assert_eq!(told.server.0, lobbies[1]),
            other => panic!("{other:?}"),
        }
    }
    rig.holds(&lobbies[1], true);
    let call = rig.ask(Call::Endpoint { fleet: text("lobby"), select: None });
    rig.run_ms(2_000);
    assert!(!rig.answers.contains_key(&call), "nobody is left, so it waits");
    rig.holds(&lobbies[1], false);
    rig.run_ms(100);
    assert!(rig.answer(call).is_ok());
}

#[test]
fn a_fleet_for_shipped_sdks_starts_only_where_the_agent_has_them() {
    let mut fleet = room_fleet("arena", (1, 1), 1, 4);
    fleet.template.agones = true;
    let mut rig = Rig::new(vec![fleet], Bounds::default());
    let stream = rig.connect_as(HOST, "older than these ports", 0);
    rig.report();
    rig.run_ms(5_000);
    assert!(rig.servers_of("arena").is_empty(), "its agent would start it without its ports");
    let told = rig.fleet("arena").waiting_on.join("; ");
    assert!(told.contains("without a host whose agent has the Agones SDK"), "{told}");
    rig.event(Event::StreamClosed { stream });
    rig.run_ms(5_000);
    rig.connect();
    rig.run_ms(10_000);
    assert_eq!(rig.servers_of("arena").len(), 1);
    let asks = |order: &ToAgent| matches!(order, ToAgent::Start { order, .. } if order.agones);
    assert!(rig.orders.iter().any(asks));
}
