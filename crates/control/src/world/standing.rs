//! What is stored already and answers a call without a world: for replicas that do not lead, while nobody does.
//!
//! Never promises anything: it repeats, token for token, what a leader has promised and stored, or says nothing. Whatever
//! would need a new seat, a fresh token or a note of the answer is left to the leader.

use std::time::Duration;

use greenroom_core::fleet::FleetKind;
use greenroom_core::{FleetName, PlayerId, RoomKey, Timestamp};
use greenroom_wire::Text;
use greenroom_wire::api::AllocateRequest;
use greenroom_wire::record::{AnswerRecord, RoomRecord, SeatRecord};
use greenroom_wire::revision;
use serde_json::Value;

use super::allocation::{checked_request, request_key};
use super::state::RoomAsk;
use super::{Bounds, Grant, Timings};

/// A token that runs out sooner is not told again: it has a way to go.
const LIFE_MIN: Duration = Duration::from_secs(2);
/// Why this server, in the answer.
const BECAUSE: &str = "the room of this key lives there; told from the store, because no leader was reached";

/// A call that may have its answer in the store, checked as the leader would.
#[derive(Debug)]
pub(crate) struct Standing {
    fleet: FleetName,
    kind: FleetKind,
    ask: RoomAsk,
}

/// Where the answer may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// As an answer under this key.
    Answer(String),
    /// As the room that this key names.
    Key(String),
}

impl Standing {
    /// `None`: only the leader can answer it, be it with a refusal.
    pub(crate) fn of(
        fleet: &FleetName,
        kind: FleetKind,
        timings: &Timings,
        bounds: &Bounds,
        body: AllocateRequest,
    ) -> Option<Self> {
        let ask = checked_request(fleet, kind, timings, bounds, body).ok()?;
        let standing = Self { fleet: fleet.clone(), kind, ask };
        standing.place().is_some().then_some(standing)
    }

    /// Where to look. An answer under an idempotency key must be kept, so a room alone does not do for it.
    pub(crate) fn place(&self) -> Option<Place> {
        let body = &self.ask.body;
        match (&body.idempotency_key, &body.key) {
            (Some(key), _) => Some(Place::Answer(request_key(key.as_str()))),
            (None, Some(key)) => Some(Place::Key(place_of(&self.fleet, &key.0))),
            (None, None) => None,
        }
    }

    /// The answer that was given and kept, once more. `room` is its room as it is stored; `None` when that is over.
    pub(crate) fn repeat(&self, record: AnswerRecord, room: Option<RoomRecord>) -> Option<Grant> {
        if record.request_hash != self.ask.hash {
            return None;
        }
        let (seats_max, init) = match room {
            Some(room) => (room.seats_max, room.init),
            None => (revision::sizes(self.kind).1, Value::Null),
        };
        Some(Grant { record, seats_max, init })
    }

    /// The seats of the room of the key, if each player has one that was promised and is not used up by time.
    pub(crate) fn seated(&self, room: RoomRecord, now: Timestamp) -> Option<Grant> {
        if room.fleet.0 != self.fleet || room.key != self.ask.body.key {
            return None;
        }
        let lives = |seat: &&SeatRecord| {
            let expires_at = Timestamp::from_unix_ms(seat.expires_at_ms);
            !seat.token_id.is_empty() && expires_at >= now + LIFE_MIN
        };
        let of = |player: &Text<PlayerId>| {
            room.seats.iter().find(|seat| seat.player == *player).filter(lives).cloned()
        };
        let seats: Option<Vec<SeatRecord>> = self.ask.body.players.iter().map(of).collect();
        let record = AnswerRecord {
            version: 1,
            request_hash: self.ask.hash.clone(),
            room: room.room,
            created: false,
            because: BECAUSE.to_owned(),
            fleet: room.fleet,
            key: room.key,
            epoch: room.epoch,
            server: room.server,
            instance: room.instance,
            endpoint: room.endpoint,
            tls: room.tls,
            seats: seats?,
            owner: None,
            ticket: None,
            answered_at_ms: now.unix_ms(),
        };
        Some(Grant { record, seats_max: room.seats_max, init: room.init })
    }
}

/// Where the room of a key is noted.
pub(super) fn place_of(fleet: &FleetName, key: &RoomKey) -> String {
    format!("{fleet}/{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);
    const KIND: FleetKind = FleetKind::Room { rooms_per_server: 8, seats_per_room: 4 };

    fn text<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().unwrap()
    }

    fn body(key: Option<&str>, idempotency_key: Option<&str>, players: &[&str]) -> AllocateRequest {
        AllocateRequest {
            key: key.map(|key| Text(text(key))),
            players: players.iter().map(|player| Text(text(player))).collect(),
            idempotency_key: idempotency_key.map(|key| Text(text(key))),
            timeout_ms: None,
            init: Value::Null,
            fill: false,
            select: None,
        }
    }

    fn standing(body: AllocateRequest) -> Option<Standing> {
        Standing::of(&text("arena"), KIND, &Timings::default(), &Bounds::default(), body)
    }

    fn seat(index: u16, player: &str, token: &str, in_ms: i64) -> SeatRecord {
        let expires_at_ms = NOW.unix_ms().saturating_add_signed(in_ms);
        SeatRecord { seat: index, player: Text(text(player)), token_id: token.into(), expires_at_ms }
    }

    fn room() -> RoomRecord {
        RoomRecord {
            version: 1,
            room: Text(text("r1")),
            fleet: Text(text("arena")),
            key: Some(Text(text("guild"))),
            epoch: 3,
            open: false,
            server: Text(text("arena-1")),
            instance: Text(text("arena-1.0")),
            host: Text(text("h1")),
            endpoint: "10.0.0.1:7000".into(),
            tls: true,
            created_at_ms: 1,
            seats_max: 4,
            seats: vec![
                seat(0, "ann", "t0", 20_000),
                seat(1, "bob", "t1", 2_000),
                seat(2, "old", "t2", 1_999),
                seat(3, "told", "", 20_000),
            ],
            played: Vec::new(),
            init: Value::from("map"),
            kept: false,
        }
    }

    #[test]
    fn only_calls_that_can_be_found_again_are_looked_for() {
        let answer = |key: &str| Some(Place::Answer(format!("request:{key}")));
        let cases = [
            ("a key", body(Some("guild"), None, &["ann"]), Some(Place::Key("arena/guild".to_owned()))),
            ("an order", body(None, Some("o1"), &["ann"]), answer("o1")),
            (
                "an order by key: its answer must be kept",
                body(Some("guild"), Some("o1"), &["ann"]),
                answer("o1"),
            ),
            ("a new room", body(None, None, &["ann"]), None),
            ("nobody", body(Some("guild"), None, &[]), None),
            ("twice the same", body(Some("guild"), None, &["ann", "ann"]), None),
            ("more than seats", body(Some("guild"), None, &["a", "b", "c", "d", "e"]), None),
            ("key and fill", AllocateRequest { fill: true, ..body(Some("guild"), None, &["a"]) }, None),
        ];
        for (name, body, place) in cases {
            assert_eq!(standing(body).and_then(|standing| standing.place()), place, "{name}");
        }
        let mesh = Standing::of(&text("arena"), FleetKind::Mesh, &Timings::default(), &Bounds::default(), {
            body(Some("guild"), None, &["ann"])
        });
        assert!(mesh.is_none(), "a mesh has no rooms");
    }

    #[test]
    fn a_room_is_told_to_those_whose_promise_lasts_and_token_for_token() {
        let renamed = RoomRecord { key: Some(Text(text("other"))), ..room() };
        let moved = RoomRecord { fleet: Text(text("hall")), ..room() };
        type Case<'a> = (&'a str, RoomRecord, &'a [&'a str], Option<&'a [&'a str]>);
        let cases: [Case<'_>; 8] = [
            ("one", room(), &["ann"], Some(&["t0"])),
            ("all, in the order they are named", room(), &["bob", "ann"], Some(&["t1", "t0"])),
            ("a token about to run out", room(), &["old"], None),
            ("one of two", room(), &["ann", "old"], None),
            ("a seat without a token", room(), &["told"], None),
            ("a new player", room(), &["ann", "eve"], None),
            ("a room of another key", renamed, &["ann"], None),
            ("a room of another fleet", moved, &["ann"], None),
        ];
        for (name, room, players, tokens) in cases {
            let standing = standing(body(Some("guild"), None, players)).unwrap();
            let grant = standing.seated(room.clone(), NOW);
            let told = grant.as_ref().map(|grant| {
                grant.record.seats.iter().map(|seat| seat.token_id.as_str()).collect::<Vec<_>>()
            });
            assert_eq!(told.as_deref(), tokens, "{name}");
            let Some(grant) = grant else { continue };
            // Whatever a token says of the seat is what is stored: nothing that was not promised.
            for told in &grant.record.seats {
                assert!(room.seats.contains(told), "{name}");
                let claims = grant.claims(told);
                assert_eq!((claims.jti, claims.exp), (told.token_id.to_string(), told.expires_at_ms / 1_000));
                assert_eq!((claims.instance, claims.epoch), (room.instance.clone(), room.epoch), "{name}");
                assert_eq!((claims.seats, claims.init), (4, Value::from("map")), "{name}");
            }
            assert!(!grant.record.created, "{name}");
        }
    }

    #[test]
    fn an_answer_is_repeated_to_the_same_request_alone() {
        let asked = standing(body(None, Some("o1"), &["ann"])).unwrap();
        let other = standing(body(None, Some("o1"), &["bob"])).unwrap();
        let by_key = standing(body(Some("guild"), None, &["ann"])).unwrap();
        let mut record = by_key.seated(room(), NOW).unwrap().record;
        record.request_hash.clone_from(&asked.ask.hash);
        let grant = asked.repeat(record.clone(), Some(room())).unwrap();
        assert_eq!((&grant.record, grant.seats_max, &grant.init), (&record, 4, &Value::from("map")));
        assert_eq!(asked.repeat(record.clone(), None).unwrap().init, Value::Null, "its room is over");
        assert!(other.repeat(record, None).is_none(), "a mistake: the leader says which");
    }
}
