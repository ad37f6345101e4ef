//! What waiting players need where servers are full, or not all would do.

use greenroom_core::autoscale::{Observed, Policy};

use crate::autoscale::{MESH, SHAPE, first, observed, only, servers};

#[test]
fn a_mesh_needs_one_beside_those_that_are_full_for_who_waits() {
    let mut load = servers(4, 0, 0);
    load[0].full = true;
    load[1].full = true;
    for (waiting, target) in [(0, 1), (1, 3), (9, 3)] {
        let decision = first(&MESH, &only(Policy::Demand), &observed(&load, waiting));
        assert_eq!(decision.target, target, "{waiting} wait: {decision}");
    }
    let decision = first(&MESH, &only(Policy::Demand), &observed(&load[..2], 1));
    assert_eq!(decision.to_string(), "3 instead of 2; demand: 2 servers are full, 1 calls wait");
}

#[test]
fn idle_servers_that_are_full_are_no_place_for_rooms_that_wait() {
    let mut load = servers(2, 0, 0);
    for server in &mut load {
        (server.full, server.rooms) = (true, 2);
    }
    for (waiting, target) in [(0, 1), (1, 3), (3, 4)] {
        let decision = first(&SHAPE, &only(Policy::Demand), &observed(&load, waiting));
        assert_eq!(decision.target, target, "{waiting} wait: {decision}");
    }
    load[0].idle = false;
    let decision = first(&SHAPE, &only(Policy::Demand), &observed(&load, 1));
    assert_eq!(decision.target, 3, "one is busy: {decision}");
}

#[test]
fn calls_that_take_only_some_servers_are_demand_beside_idle_ones_and_keep_all_while_they_wait() {
    let idle = servers(3, 0, 0);
    for (missing, target) in [(None, 1), (Some(0), 3), (Some(2), 5)] {
        let seen = Observed { selective_missing: missing, ..observed(&idle, 1) };
        for shape in [SHAPE, MESH] {
            let decision = first(&shape, &only(Policy::Demand), &seen);
            assert_eq!(decision.target, target, "{missing:?} missing: {decision}");
        }
    }
    let seen = Observed { selective_missing: Some(2), ..observed(&idle, 1) };
    let decision = first(&SHAPE, &only(Policy::Demand), &seen);
    assert_eq!(
        decision.to_string(),
        "5 instead of 3; demand: calls wait that take only some servers: 3 are there, 2 more would do"
    );
}
