//! The rooms that outlive their process, each server's under the one process that holds them.
//! Never keeps a step without the state that belongs to it, and never one of a process that has lost the rooms.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use greenroom_core::{RoomId, ServerName, Timestamp};
use greenroom_wire::kept::{KeptRoom, RoomCommand, RoomEvent, RoomTold};

struct Kept {
    record: Box<KeptRoom>,
    events: VecDeque<RoomEvent>,
}

struct OfServer {
    holder: String,
    /// Since when nobody holds them.
    gone_at: Option<Timestamp>,
    kept: Duration,
    rooms: BTreeMap<RoomId, Kept>,
}

#[derive(Default)]
pub(crate) struct Rooms {
    by_server: BTreeMap<ServerName, OfServer>,
}

impl Rooms {
    pub(crate) fn len(&self) -> usize {
        self.by_server.values().map(|server| server.rooms.len()).sum()
    }

    /// Handles a command of a node. The answer is what that node is told.
    pub(crate) fn handle(&mut self, node: &str, command: RoomCommand, rooms_max: usize) -> Vec<RoomTold> {
        match command {
            RoomCommand::Hold { server, is_again, kept_ms } => {
                self.hold(node, server.0, is_again, Duration::from_millis(kept_ms))
            }
            RoomCommand::Keep { server, after, record, floor, events } => {
                let Some(of) = self.held_by(&server.0, node) else { return vec![RoomTold::Lost] };
                vec![of.keep(after, record, floor, events, rooms_max)]
            }
            RoomCommand::Forget { server, room } => {
                if let Some(of) = self.held_by(&server.0, node) {
                    of.rooms.remove(&room.0);
                }
                Vec::new()
            }
        }
    }

    fn held_by(&mut self, server: &ServerName, node: &str) -> Option<&mut OfServer> {
        self.by_server.get_mut(server).filter(|of| of.holder == node)
    }

    fn hold(&mut self, node: &str, server: ServerName, is_again: bool, kept: Duration) -> Vec<RoomTold> {
        let of = self.by_server.entry(server).or_insert_with(|| OfServer {
            holder: node.to_owned(),
            gone_at: None,
            kept,
            rooms: BTreeMap::new(),
        });
        if is_again && of.holder != node {
            return vec![RoomTold::Lost];
        }
        node.clone_into(&mut of.holder);
        (of.gone_at, of.kept) = (None, kept);
        if is_again {
            return Vec::new();
        }
        let held = of.rooms.values().map(|room| RoomTold::Held {
            record: room.record.clone(),
            events: room.events.iter().cloned().collect(),
        });
        held.chain([RoomTold::AllHeld]).collect()
    }

    /// The way to a node is gone; it, or the next process of its server, may come for its rooms.
    pub(crate) fn handle_gone(&mut self, now: Timestamp, node: &str) {
        for of in self.by_server.values_mut().filter(|of| of.holder == node) {
            of.gone_at.get_or_insert(now);
        }
    }

    /// Forgets the rooms that nobody came for.
    pub(crate) fn purge(&mut self, now: Timestamp) {
        self.by_server.retain(|_, of| of.gone_at.is_none_or(|gone_at| now.since(gone_at) <= of.kept));
    }
}

impl OfServer {
    fn keep(
        &mut self,
        after: Option<u64>,
        record: Box<KeptRoom>,
        floor: u64,
        events: Vec<RoomEvent>,
        rooms_max: usize,
    ) -> RoomTold {
        let (room, seq) = (record.room.clone(), record.seq);
        let is_full = self.rooms.len() >= rooms_max;
        match (self.rooms.get_mut(&room.0), after) {
            (Some(kept), Some(after)) if kept.record.seq == after => {
                kept.record = record;
                kept.events.extend(events);
                while kept.events.front().is_some_and(|event| event.offset <= floor) {
                    kept.events.pop_front();
                }
            }
            (Some(_) | None, Some(_)) => return RoomTold::Wanted { room },
            (None, None) if is_full => return RoomTold::TooMany { room },
            (Some(_) | None, None) => {
                self.rooms.insert(room.0.clone(), Kept { record, events: events.into() });
            }
        }
        RoomTold::Kept { room, seq }
    }
}
