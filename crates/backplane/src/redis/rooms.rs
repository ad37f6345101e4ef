//! Rooms that outlive their process, in a store: of each server a hash with its rooms' states, of each room a stream with its
//! events; one script call for each command. The rooms of a process before are read a few at a time.
//! Never waits for events: an answer of the script is told at once.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ::redis::{Cmd, Value, cmd};
use greenroom_core::{RoomId, ServerName};
use greenroom_wire::Text;
use greenroom_wire::backplane::Told;
use greenroom_wire::kept::{KeptRoom, RoomCommand, RoomEvent, RoomTold};

use super::batch::Expected;
use super::exchange::Exchange;
use super::replies::{self, Odd};
use crate::way::FromBackplane;

/// Rooms of a process before this one that are read at once; each weighs up to some MiB.
const READS_MAX: usize = 8;

/// What a call about rooms will answer.
#[derive(Debug)]
pub(super) enum ExpectRooms {
    Held { is_again: bool },
    Read,
    Kept { room: RoomId, seq: u64 },
    Nothing,
}

/// This node's part in it.
#[derive(Debug, Default)]
pub(super) struct RoomKeys {
    /// Hash of the script.
    script: String,
    /// The server whose rooms this node has, and how long they are kept, in milliseconds.
    held: Option<(ServerName, u64)>,
    /// Rooms of the process before that were not read yet.
    unread: VecDeque<String>,
    /// Of them, reads under way.
    reads: usize,
    /// When the events of each room were last kept from running out.
    renewed_at: BTreeMap<RoomId, Instant>,
}

impl RoomKeys {
    /// A new connection: what was asked for on the one before has no answer.
    pub(super) fn begin(&mut self, script: &str) {
        script.clone_into(&mut self.script);
        self.unread.clear();
        self.reads = 0;
    }

    /// Rooms that would run out some time after this.
    fn silent(&mut self, now: Instant, within: Duration) -> Vec<RoomId> {
        let mut silent = Vec::new();
        for (room, renewed_at) in &mut self.renewed_at {
            if now.duration_since(*renewed_at) >= within {
                *renewed_at = now;
                silent.push(room.clone());
            }
        }
        silent
    }
}

impl Exchange {
    pub(super) fn room_command(&mut self, now: Instant, command: RoomCommand) {
        match command {
            RoomCommand::Hold { server, is_again, kept_ms } => {
                self.rooms.held = Some((server.0.clone(), kept_ms));
                let mut call = self.rooms_call("hold", &server.0, kept_ms);
                call.arg(if is_again { "1" } else { "0" });
                self.batch.push(call, Expected::Rooms(ExpectRooms::Held { is_again }));
            }
            RoomCommand::Keep { server, after, record, floor, events } => {
                let mut call = self.rooms_call("keep", &server.0, self.kept_ms());
                let (room, seq) = (record.room.0.clone(), record.seq);
                self.rooms.renewed_at.insert(room.clone(), now);
                call.arg(room.as_str())
                    .arg(after.map(|after| after.to_string()).unwrap_or_default())
                    .arg(seq);
                call.arg(json(&record)).arg(floor).arg(self.rooms_max);
                call.arg(events.first().map_or(0, |event| event.offset));
                for event in &events {
                    call.arg(json(event));
                }
                self.batch.push(call, Expected::Rooms(ExpectRooms::Kept { room, seq }));
            }
            RoomCommand::Forget { server, room } => {
                self.rooms.renewed_at.remove(&room.0);
                let mut call = self.rooms_call("forget", &server.0, self.kept_ms());
                call.arg(room.as_str());
                self.batch.push(call, Expected::Rooms(ExpectRooms::Nothing));
            }
        }
    }

    /// Keeps the rooms of this node from running out.
    pub(super) fn beat_rooms(&mut self, now: Instant) {
        if let Some((server, kept_ms)) = self.rooms.held.clone() {
            let mut call = self.rooms_call("beat", &server, kept_ms);
            // They have twice that time, so they outlive whoever renews them by all of it.
            for room in self.rooms.silent(now, Duration::from_millis(kept_ms / 2)) {
                call.arg(room.as_str());
            }
            self.batch.push(call, Expected::Rooms(ExpectRooms::Nothing));
        }
    }

    fn kept_ms(&self) -> u64 {
        self.rooms.held.as_ref().map_or(0, |(_, kept_ms)| *kept_ms)
    }

    fn rooms_call(&self, what: &str, server: &ServerName, kept_ms: u64) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(&self.rooms.script).arg(1).arg(self.names.rooms(server.as_str()));
        // A hash without a time to live would be one that nobody ever forgets.
        call.arg(what).arg(self.node.as_str()).arg(kept_ms.max(1));
        call
    }

    pub(super) fn handle_rooms(
        &mut self,
        now: Instant,
        expect: ExpectRooms,
        value: Value,
    ) -> Result<(), Odd> {
        match (expect, value) {
            (ExpectRooms::Held { is_again: true }, Value::Array(_)) => {}
            (ExpectRooms::Held { .. }, Value::Array(names)) => {
                let names = names.into_iter().map(|name| replies::text(name, "the name of a room"));
                self.rooms.unread = names.collect::<Result<_, _>>()?;
                self.read_rooms();
            }
            (ExpectRooms::Read, Value::Array(fields)) => {
                let (record, events) = held(fields)?;
                self.rooms.renewed_at.insert(record.room.0.clone(), now);
                self.tell_room(RoomTold::Held { record, events });
                self.rooms.reads -= 1;
                self.read_rooms();
            }
            (ExpectRooms::Read, word) => {
                // It is gone, or all of them are.
                self.tell_outcome(word, None)?;
                self.rooms.reads -= 1;
                self.read_rooms();
            }
            (ExpectRooms::Kept { room, seq }, word) => self.tell_outcome(word, Some((room, seq)))?,
            (ExpectRooms::Held { .. } | ExpectRooms::Nothing, word) => self.tell_outcome(word, None)?,
        }
        Ok(())
    }

    /// Reads on, until all rooms of the process before are told.
    fn read_rooms(&mut self) {
        let Some((server, kept_ms)) = self.rooms.held.clone() else { return };
        while self.rooms.reads < READS_MAX
            && let Some(room) = self.rooms.unread.pop_front()
        {
            let mut call = self.rooms_call("read", &server, kept_ms);
            call.arg(room);
            self.batch.push(call, Expected::Rooms(ExpectRooms::Read));
            self.rooms.reads += 1;
        }
        if self.rooms.reads == 0 {
            self.tell_room(RoomTold::AllHeld);
        }
    }

    fn tell_room(&self, told: RoomTold) {
        self.tell(FromBackplane::Told(Told::Room(told)));
    }

    fn tell_outcome(&self, word: Value, kept: Option<(RoomId, u64)>) -> Result<(), Odd> {
        if let Some(told) = outcome(word, kept)? {
            self.tell_room(told);
        }
        Ok(())
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records of texts and numbers are JSON")
}

/// What a word of the script means for the node, of a step of a room or of all rooms.
fn outcome(word: Value, kept: Option<(RoomId, u64)>) -> Result<Option<RoomTold>, Odd> {
    let word = replies::text(word, "an answer about rooms")?;
    Ok(match (word.as_str(), kept) {
        ("lost", _) => Some(RoomTold::Lost),
        ("anew", _) => Some(RoomTold::Anew),
        ("kept", Some((room, seq))) => Some(RoomTold::Kept { room: Text(room), seq }),
        ("wanted", Some((room, _))) => Some(RoomTold::Wanted { room: Text(room) }),
        ("too_many", Some((room, _))) => Some(RoomTold::TooMany { room: Text(room) }),
        ("kept" | "none", None) => None,
        _ => return Err(Odd::Shape("an answer about rooms")),
    })
}

/// A room out of its record, what is gone of its events, and the others.
fn held(fields: Vec<Value>) -> Result<(Box<KeptRoom>, Vec<RoomEvent>), Odd> {
    const WHAT: &str = "a kept room";
    let odd = |_| Odd::Shape(WHAT);
    let [record, floor, entries] = <[Value; 3]>::try_from(fields).map_err(|_| Odd::Shape(WHAT))?;
    let record: Box<KeptRoom> = serde_json::from_str(&replies::text(record, WHAT)?).map_err(odd)?;
    let mut events: Vec<RoomEvent> = Vec::new();
    for entry in replies::array(entries, WHAT)? {
        let [_, pairs] = replies::fields(entry, WHAT)?;
        let [_, event] = replies::fields(pairs, WHAT)?;
        events.push(serde_json::from_str(&replies::text(event, WHAT)?).map_err(odd)?);
    }
    let floor = replies::number(floor, WHAT)?;
    if !(floor + 1..=record.history.offset).eq(events.iter().map(|event| event.offset)) {
        // The store has let go of some by itself. The room goes on; whoever wants them is told that they are gone.
        events.clear();
    }
    Ok((record, events))
}
