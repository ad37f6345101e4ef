//! Calls that take only some servers: what is started for them, where, and what is not.

use std::time::Duration;

use greenroom_core::autoscale::Autoscale;
use greenroom_core::fleet::Fleet;
use greenroom_wire::api::{AllocateRequest, SelectorBody};
use greenroom_wire::error::Code;

use super::drain::Rig;
use super::rig::{request, room_fleet, text};
use crate::world::{Answer, Call, Event, RequestId};

/// Of h1 in zone a and h2 in zone b, with two rooms to a server.
fn rig(replicas: (u32, u32)) -> Rig {
    let quick = Duration::from_secs(1);
    let autoscale = Autoscale { cooldown_in: quick, settle_in: quick, ..Autoscale::default() };
    Rig::of(Fleet { autoscale, ..room_fleet("arena", replicas, 2, 4) })
}

impl Rig {
    fn ask_in(&mut self, zone: &str, player: &str) {
        let select = SelectorBody { labels: [("zone".to_owned(), zone.to_owned())].into(), revision: None };
        let body =
            AllocateRequest { select: Some(select), timeout_ms: Some(30_000), ..request(None, &[player]) };
        self.next += 1;
        let call = Box::new(Call::Allocate { fleet: text("arena"), body });
        self.event(Event::Asked { request: RequestId(self.next), call });
    }
}

#[test]
fn a_server_that_is_started_for_a_call_starts_where_the_call_can_use_it() {
    for (zone, on) in [("a", [1, 0]), ("b", [0, 1])] {
        let mut rig = rig((0, 4));
        rig.ask_in(zone, "ann");
        rig.run_s(10);
        assert!(matches!(rig.answer.take(), Some(Ok(Answer::Allocated(_)))), "{zone}");
        assert_eq!(rig.on(), on);
    }
}

#[test]
fn servers_are_started_for_calls_that_cannot_use_the_idle_ones() {
    let mut rig = rig((1, 8));
    assert_eq!(rig.on(), [1, 0]);
    for player in ["a", "b", "c", "d", "e"] {
        rig.ask_in("b", player);
    }
    rig.run_s(1);
    assert!(matches!(rig.answer.take(), Some(Ok(Answer::Allocated(_)))));
    assert_eq!(rig.on()[1], 3, "five rooms, two to a server");
}

#[test]
fn what_cannot_help_is_not_started_and_the_maximum_holds() {
    // The host of zone b has ten places.
    let mut full = rig((1, 40));
    for player in 0..24 {
        full.ask_in("b", &format!("p{player}"));
    }
    full.run_s(20);
    assert_eq!(full.on(), [1, 10], "none elsewhere, and the idle one is kept while they wait");
    full.run_s(25);
    let refused = full.answer.take().unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::NoCapacity);
    assert_eq!(full.on()[0], 0, "nobody waits any more");
    let mut at_most = rig((1, 1));
    at_most.ask_in("b", "ann");
    at_most.run_s(40);
    let refused = at_most.answer.take().unwrap().unwrap_err();
    assert_eq!((refused.code(), at_most.on()), (Code::NoCapacity, [1, 0]));
}
