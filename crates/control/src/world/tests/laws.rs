//! Laws that hold whatever happens: no seat twice, one live room per key, the sums agree.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_core::allocate::Candidates;
use greenroom_core::{FleetName, RoomId, ServerName, Timestamp};
use greenroom_wire::api::{AllocateRequest, Allocation, RoomPhase, SeatWord};
use greenroom_wire::rooms::EndReason;
use proptest::prelude::*;
use serde_json::Value;

use super::rig::*;
use crate::world::state::{RoomState, RoomsOn, SeatState};
use crate::world::{Call, World};

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Allocate { key: Option<u8>, players: Vec<u8> },
    Fill { players: Vec<u8> },
    File { player: u8 },
    Cancel { ticket: u8 },
    Arrive { room: u8, seats: u8 },
    Leave { room: u8 },
    End { room: u8 },
    Kill { server: u8 },
    Restart,
    Silence { ms: u16 },
    Pass { ms: u16 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let players = proptest::collection::btree_set(0u8..30, 1..4).prop_map(|set| set.into_iter().collect());
    let fill = proptest::collection::btree_set(30u8..60, 1..4).prop_map(|set| set.into_iter().collect());
    let step = prop_oneof![
        3 => fill.prop_map(|players| Step::Fill { players }),
        6 => (proptest::option::of(0u8..4), players).prop_map(|(key, players)| Step::Allocate { key, players }),
        4 => (0u8..60).prop_map(|player| Step::File { player }),
        1 => (0u8..60).prop_map(|ticket| Step::Cancel { ticket }),
        5 => (any::<u8>(), any::<u8>()).prop_map(|(room, seats)| Step::Arrive { room, seats }),
        2 => any::<u8>().prop_map(|room| Step::Leave { room }),
        2 => any::<u8>().prop_map(|room| Step::End { room }),
        1 => any::<u8>().prop_map(|server| Step::Kill { server }),
        1 => Just(Step::Restart),
        1 => (0u16..8_000).prop_map(|ms| Step::Silence { ms }),
        3 => (0u16..20_000).prop_map(|ms| Step::Pass { ms }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Every promise that was told, to be checked against what the world says later.
#[derive(Default)]
struct Told {
    rooms: Vec<Allocation>,
    tickets: u32,
    ticket_ids: Vec<String>,
}

impl Told {
    fn some_room(&self, index: u8) -> Option<Allocation> {
        let count = self.rooms.len();
        (count > 0).then(|| self.rooms[usize::from(index) % count].clone())
    }
}

fn apply(rig: &mut Rig, told: &mut Told, step: Step) {
    match step {
        Step::Allocate { key, players } => {
            let names: Vec<String> = players.iter().map(|player| format!("p{player}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let key = key.map(|key| format!("k{key}"));
            if let Ok(given) = rig.allocate(request(key.as_deref(), &names)) {
                assert_eq!(given.seats.len(), names.len(), "all seats or none");
                told.rooms.push(given);
            }
        }
        Step::Fill { players } => {
            let names: Vec<String> = players.iter().map(|player| format!("f{player}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            if let Ok(given) = rig.allocate(AllocateRequest { fill: true, ..request(None, &names) }) {
                assert_eq!(given.seats.len(), names.len(), "all seats or none");
                told.rooms.push(given);
            }
        }
        Step::File { player } => {
            told.tickets += 1;
            let (id, name) = (format!("t{}", told.tickets), format!("m{player}"));
            rig.file(&[(&id, &[&name])]).unwrap();
            told.ticket_ids.push(id);
            told.rooms.extend(rig.poll(&[]).into_iter().map(|one| one.allocation));
        }
        Step::Cancel { ticket } => {
            if let Some(id) = told.ticket_ids.get(usize::from(ticket)).cloned() {
                let call = rig.ask(Call::CancelTicket(text(&id)));
                drop(rig.answer(call));
            }
        }
        Step::Arrive { room, seats } => arrive(rig, told, room, seats),
        Step::Leave { room } => {
            if let Some(given) = told.some_room(room).filter(|given| runs(rig, given)) {
                rig.seat(&given, &[]);
            }
        }
        Step::End { room } => {
            if let Some(given) = told.some_room(room).filter(|given| runs(rig, given)) {
                rig.end(&given, EndReason::Finished, Value::Null);
            }
        }
        Step::Kill { server } => {
            let names = rig.servers_of("arena");
            if !names.is_empty() {
                let name = names[usize::from(server) % names.len()].clone();
                rig.kill(&name);
                rig.servers.get_mut(&name).unwrap().report.phase = greenroom_wire::agent::ProcessPhase::Ready;
            }
        }
        Step::Restart => {
            rig.restart();
            rig.connect();
            rig.report();
        }
        Step::Silence { ms } => {
            rig.silent_ms(u64::from(ms));
            rig.report();
        }
        Step::Pass { ms } => rig.run_ms(u64::from(ms)),
    }
}

/// Whether the room may be on its server: the promised process runs, and the room has not ended there.
fn runs(rig: &mut Rig, given: &Allocation) -> bool {
    let claims: serde_json::Value = serde_json::from_str(&given.seats[0].token).unwrap();
    let instance = rig.servers.get(&given.server.0).map(|running| running.report.instance.to_string());
    instance.as_deref() == claims["instance"].as_str() && rig.room_is_live(given)
}

/// Players with tokens that are still good take their seats, as a game node would let them.
fn arrive(rig: &mut Rig, told: &Told, room: u8, seats: u8) {
    let Some(given) = told.some_room(room).filter(|given| runs(rig, given)) else { return };
    let now_ms = rig.now.unix_ms();
    let running = &rig.servers[&given.server.0].report;
    let mut seated: BTreeMap<u16, String> = running
        .rooms
        .iter()
        .filter(|report| report.room == given.room)
        .flat_map(|report| report.seats.iter().map(|seat| (seat.seat, seat.player.to_string())))
        .collect();
    for (index, grant) in given.seats.iter().enumerate() {
        let comes = seats >> (index % 8) & 1 == 1 && grant.expires_at_ms > now_ms;
        if comes && !seated.values().any(|player| *player == grant.player.as_str()) {
            seated.entry(grant.seat).or_insert_with(|| grant.player.to_string());
        }
    }
    let seated: Vec<(u16, &str)> = seated.iter().map(|(seat, player)| (*seat, player.as_str())).collect();
    rig.seat(&given, &seated);
}

fn check(rig: &mut Rig) {
    rig.world.check_counts();
    let overview = rig.overview();
    let mut keys = BTreeSet::new();
    let mut taken = 0;
    for room in overview.rooms.iter().filter(|room| room.phase != RoomPhase::Ended) {
        if let Some(key) = &room.key {
            assert!(keys.insert(key.to_string()), "two live rooms of key {key}");
        }
        let players: Vec<_> = room.seats.iter().filter_map(|seat| seat.player.clone()).collect();
        assert_eq!(distinct(&players), players.len(), "a player has two seats in {}", room.room);
        assert_eq!(room.seats.len(), 4, "a room grew");
        taken += room.seats.iter().filter(|seat| seat.state != SeatWord::Free).count();
    }
    assert_eq!(overview.totals.players as usize, taken);
    let by_server: u32 = overview.gameservers.iter().map(|server| server.players).sum();
    assert_eq!(by_server as usize, taken, "seats on servers that are not there");
    for server in &overview.gameservers {
        assert!(server.rooms <= 2, "{} holds {} rooms", server.name, server.rooms);
    }
    let stored: BTreeSet<String> = rig.kept.rooms.keys().cloned().collect();
    let live = overview.rooms.iter().filter(|room| room.phase != RoomPhase::Ended);
    assert_eq!(stored, live.map(|room| room.room.to_string()).collect(), "memory is what is stored");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_seat_is_given_twice_and_no_key_has_two_rooms(steps in steps()) {
        let mut rig = Rig::ready(vec![room_fleet("arena", (2, 6), 2, 4)]);
        let mut told = Told::default();
        for step in steps {
            apply(&mut rig, &mut told, step);
            check(&mut rig);
        }
        rig.run_ms(45_000);
        check(&mut rig);
        let overview = rig.overview();
        let seated = overview.rooms.iter().flat_map(|room| &room.seats);
        prop_assert_eq!(seated.filter(|seat| seat.state == SeatWord::Reserved).count(), 0, "a no-show keeps a seat");
    }
}

impl World {
    /// What is counted as rooms change is what a walk over all rooms finds.
    fn check_counts(&self) {
        let mut live: BTreeMap<&ServerName, (BTreeSet<RoomId>, usize)> = BTreeMap::new();
        let mut open: BTreeMap<(&FleetName, usize), BTreeSet<RoomId>> = BTreeMap::new();
        for (id, room) in &self.rooms {
            let on = live.entry(&room.server).or_default();
            on.0.insert(id.clone());
            on.1 += usize::from(room.is_live());
            if room.open && room.free_seats() > 0 {
                open.entry((&room.fleet, room.free_seats())).or_default().insert(id.clone());
            }
        }
        let counted: BTreeMap<_, _> =
            self.rooms_of.iter().map(|(server, on)| (server, (on.ids.clone(), on.live))).collect();
        assert_eq!(counted, live);
        for (server, on) in &self.rooms_of {
            on.check(server, &self.rooms);
        }
        let indexed = self.fleets.iter().flat_map(|(fleet, state)| {
            state.open.iter().map(move |(free, rooms)| ((fleet, *free), rooms.clone()))
        });
        assert_eq!(indexed.collect::<BTreeMap<_, _>>(), open);
        for (name, fleet) in &self.fleets {
            assert_eq!(fleet.candidates, Candidates::of(&fleet.spec, &fleet.view));
            let rooms: Vec<_> = self.rooms.values().filter(|room| room.fleet == *name).collect();
            let players = rooms.iter().map(|room| room.taken().count()).sum();
            assert_eq!((fleet.rooms, fleet.players), (rooms.len(), players));
        }
    }
}

impl RoomsOn {
    /// A room is passed by when it is not told of only while nothing follows from that.
    fn check(&self, server: &ServerName, rooms: &BTreeMap<RoomId, Box<RoomState>>) {
        let on: Vec<_> = rooms.iter().filter(|(_, room)| room.server == *server).collect();
        assert!(
            self.process.as_ref().is_none_or(|process| on.iter().all(|(_, room)| room.instance == *process))
        );
        let moments = on.iter().flat_map(|(_, room)| room.taken()).map(|(_, seat)| seat.expires_at);
        for over in moments.chain([Timestamp::default()]) {
            let follows = |room: &RoomState| {
                let mut taken = room.taken().peekable();
                let awaited =
                    |seat: &SeatState| seat.outstanding && seat.phase.is_none() && seat.expires_at > over;
                room.kept || taken.peek().is_none() || !taken.all(|(_, seat)| awaited(seat))
            };
            let found = on.iter().filter(|(_, room)| follows(room)).map(|(id, _)| (*id).clone());
            assert_eq!(self.missable(over), found.collect(), "{server} at {over:?}");
        }
    }
}

impl Rig {
    /// Whether the world still holds the room as live or promised.
    fn room_is_live(&mut self, given: &Allocation) -> bool {
        let request = self.ask(Call::Room(given.room.0.clone()));
        match self.answer(request) {
            Ok(crate::world::Answer::Room(room)) => room.phase != RoomPhase::Ended,
            Ok(other) => panic!("{other:?}"),
            Err(_) => false,
        }
    }
}
