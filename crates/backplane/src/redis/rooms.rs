//! Rooms that outlive their process, in a store: one hash for each server, one script call for each command.
//! Never waits for events: an answer of the script is told at once.

use std::collections::BTreeMap;

use ::redis::{Cmd, Value, cmd};
use greenroom_core::{RoomId, ServerName};
use greenroom_wire::Text;
use greenroom_wire::backplane::Told;
use greenroom_wire::kept::{KeptRoom, RoomCommand, RoomEvent, RoomTold};

use super::batch::Expected;
use super::exchange::Exchange;
use super::replies::{self, Odd};
use crate::way::FromBackplane;

/// What a call about rooms will answer.
#[derive(Debug)]
pub(super) enum ExpectRooms {
    Held { is_again: bool },
    Kept { room: RoomId, seq: u64 },
    Nothing,
}

/// This node's part in it.
#[derive(Debug, Default)]
pub(super) struct RoomKeys {
    /// Hash of the script.
    pub(super) script: String,
    /// The server whose rooms this node has, and how long they are kept, in milliseconds.
    held: Option<(ServerName, u64)>,
}

impl Exchange {
    pub(super) fn room_command(&mut self, command: RoomCommand) {
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
                call.arg(room.as_str())
                    .arg(after.map(|after| after.to_string()).unwrap_or_default())
                    .arg(seq);
                call.arg(json(&record)).arg(floor).arg(record.history.offset).arg(self.rooms_max);
                call.arg(events.first().map_or(0, |event| event.offset));
                for event in &events {
                    call.arg(json(event));
                }
                self.batch.push(call, Expected::Rooms(ExpectRooms::Kept { room, seq }));
            }
            RoomCommand::Forget { server, room } => {
                let mut call = self.rooms_call("forget", &server.0, self.kept_ms());
                call.arg(room.as_str());
                self.batch.push(call, Expected::Rooms(ExpectRooms::Nothing));
            }
        }
    }

    /// Keeps the rooms of this node from running out.
    pub(super) fn beat_rooms(&mut self) {
        if let Some((server, kept_ms)) = self.rooms.held.clone() {
            let call = self.rooms_call("beat", &server, kept_ms);
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

    pub(super) fn handle_rooms(&mut self, expect: ExpectRooms, value: Value) -> Result<(), Odd> {
        let told = match expect {
            ExpectRooms::Held { is_again } => {
                if let Value::Array(fields) = value {
                    if is_again { Vec::new() } else { held(fields)? }
                } else {
                    vec![outcome(value, None)?]
                }
            }
            ExpectRooms::Kept { room, seq } => vec![outcome(value, Some((room, seq)))?],
            ExpectRooms::Nothing => match replies::text(value, "an answer about rooms")?.as_str() {
                "lost" => vec![RoomTold::Lost],
                "anew" => vec![RoomTold::Anew],
                _ => return Ok(()),
            },
        };
        for told in told {
            self.tell(FromBackplane::Told(Told::Room(told)));
        }
        Ok(())
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records of texts and numbers are JSON")
}

fn outcome(value: Value, kept: Option<(RoomId, u64)>) -> Result<RoomTold, Odd> {
    let text = replies::text(value, "an answer about rooms")?;
    match (text.as_str(), kept) {
        ("lost", _) => Ok(RoomTold::Lost),
        ("anew", _) => Ok(RoomTold::Anew),
        ("kept", Some((room, seq))) => Ok(RoomTold::Kept { room: Text(room), seq }),
        ("wanted", Some((room, _))) => Ok(RoomTold::Wanted { room: Text(room) }),
        ("too_many", Some((room, _))) => Ok(RoomTold::TooMany { room: Text(room) }),
        _ => Err(Odd::Shape("an answer about rooms")),
    }
}

/// All rooms out of the fields of a server's hash.
fn held(fields: Vec<Value>) -> Result<Vec<RoomTold>, Odd> {
    const WHAT: &str = "a kept room";
    let mut records: BTreeMap<String, Box<KeptRoom>> = BTreeMap::new();
    let mut events: BTreeMap<String, Vec<RoomEvent>> = BTreeMap::new();
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let name = replies::text(name, WHAT)?;
        let Value::BulkString(bytes) = value else { return Err(Odd::Shape(WHAT)) };
        let odd = |_| Odd::Shape(WHAT);
        if let Some(room) = name.strip_prefix("c:") {
            records.insert(room.to_owned(), serde_json::from_slice(&bytes).map_err(odd)?);
        } else if let Some((room, _)) = name.strip_prefix("e:").and_then(|rest| rest.split_once(':')) {
            let event = serde_json::from_slice(&bytes).map_err(odd)?;
            events.entry(room.to_owned()).or_default().push(event);
        }
    }
    let held = records.into_iter().map(|(room, record)| {
        let mut events = events.remove(&room).unwrap_or_default();
        events.sort_by_key(|event| event.offset);
        RoomTold::Held { record, events }
    });
    Ok(held.chain([RoomTold::AllHeld]).collect())
}
