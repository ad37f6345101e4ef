//! Servers that have places and are full all the same, by the caps of their fleet.

use greenroom_core::ServerName;
use greenroom_core::fleet::{Fleet, FullAt};

use super::rig::*;
use crate::world::Call;

fn capped(mut fleet: Fleet, full_at: FullAt) -> Fleet {
    fleet.full_at = full_at;
    fleet
}

fn asks(fleet: &str) -> Call {
    Call::Endpoint { fleet: text(fleet), select: None }
}

impl Rig {
    fn carries(&mut self, server: &ServerName, connections: u32, lag_ms: u32) {
        let report = &mut self.servers.get_mut(server).unwrap().report;
        report.connections = connections;
        report.measured.loop_lag_ms = Some(lag_ms);
        self.report();
    }

    fn said_of(&mut self, server: &ServerName) -> String {
        let told = self.overview().gameservers.into_iter().find(|told| told.name.0 == *server);
        told.expect("it is shown").message
    }
}

#[test]
fn a_room_goes_past_a_server_that_is_late_until_it_is_well_again() {
    let caps = FullAt { loop_lag_ms: Some(50), ..FullAt::default() };
    let mut rig = Rig::ready(vec![capped(room_fleet("arena", (2, 2), 4, 4), caps)]);
    let [late, well] = rig.servers_of("arena").try_into().unwrap();
    let first = rig.allocate(request(None, &["ann"])).unwrap();
    assert_eq!(first.server.0, late, "the first by name");
    rig.carries(&late, 1, 51);
    assert_eq!(rig.said_of(&late), "gets nothing new: full: its event loop is 51 ms late, 50 ms allowed");
    let second = rig.allocate(request(None, &["ben"])).unwrap();
    assert_eq!(second.server.0, well, "fullest first would have been the other");
    rig.carries(&late, 1, 45);
    assert_eq!(rig.allocate(request(None, &["cas"])).unwrap().server.0, well, "not well enough yet");
    assert_eq!(rig.servers_of("arena"), [late.clone(), well], "nobody was stopped for it");
    rig.carries(&late, 1, 40);
    rig.end(&second, greenroom_wire::rooms::EndReason::Finished, serde_json::Value::Null);
    assert_eq!(rig.said_of(&late), "");
    let back = rig.allocate(request(None, &["dee"])).unwrap();
    assert_eq!(back.server.0, late, "it gets rooms again");
}

#[test]
fn players_fill_no_open_room_on_a_server_that_is_late() {
    let caps = FullAt { loop_lag_ms: Some(50), ..FullAt::default() };
    let mut rig = Rig::ready(vec![capped(room_fleet("arena", (2, 2), 4, 4), caps)]);
    let fill = |names: &[&str]| greenroom_wire::api::AllocateRequest { fill: true, ..request(None, names) };
    let first = rig.allocate(fill(&["ann"])).unwrap();
    assert_eq!(rig.allocate(fill(&["ben"])).unwrap().room, first.room);
    rig.carries(&first.server.0, 2, 51);
    let elsewhere = rig.allocate(fill(&["cas"])).unwrap();
    assert_ne!(elsewhere.room, first.room);
    assert_ne!(elsewhere.server, first.server);
}

#[test]
fn a_mesh_whose_servers_are_all_full_grows_for_who_waits() {
    let caps = FullAt { connections: Some(2), ..FullAt::default() };
    let mut rig = Rig::ready(vec![capped(mesh_fleet("feed", (1, 3)), caps)]);
    let [first] = rig.servers_of("feed").try_into().unwrap();
    rig.carries(&first, 2, 0);
    let waits = rig.ask(asks("feed"));
    rig.run_ms(5_000);
    let servers = rig.servers_of("feed");
    assert_eq!(servers.len(), 2, "one more for who waits");
    let answer = rig.answer(waits).unwrap();
    let other = servers.iter().find(|server| **server != first).unwrap();
    assert!(format!("{answer:?}").contains(other.as_str()), "{answer:?}");
    rig.carries(other, 2, 0);
    rig.carries(&first, 1, 0);
    let answer = rig.now_answered(asks("feed")).unwrap();
    assert!(format!("{answer:?}").contains(first.as_str()), "{answer:?}");
}
