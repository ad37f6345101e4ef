//! Results of ended rooms: stored in the batch that ends the room, kept until the webhook has taken them.
//!
//! Never posts: the effect says what to post, an event says that it was taken.

use greenroom_core::{RoomId, ServerName};
use greenroom_wire::Text;
use greenroom_wire::api::RoomResult;
use greenroom_wire::record::ResultRecord;
use greenroom_wire::rooms::{EndReason, RoomEnded};
use serde_json::Value;

use super::state::RoomState;
use super::{Effect, Results, World, Write};

impl World {
    pub(super) fn store_result(&mut self, id: &RoomId, room: &RoomState, reason: EndReason, result: Value) {
        let mut players: Vec<_> = room.played.iter().cloned().map(Text).collect();
        for (_, seat) in room.taken() {
            if seat.phase.is_some() && !room.played.contains(&seat.player) {
                players.push(Text(seat.player.clone()));
            }
        }
        self.keep_result(RoomResult {
            event: "room.ended".to_owned(),
            room: Text(id.clone()),
            fleet: Text(room.fleet.clone()),
            key: room.key.clone().map(Text),
            epoch: room.epoch,
            reason,
            players,
            result,
            ended_at_ms: self.now.unix_ms(),
        });
    }

    /// The result of a room that this world does not know. Either its end is stored already, then the key of the result
    /// is the same; or the store is younger than the room, then this is the only word of it.
    pub(super) fn store_stray_result(&mut self, server: &ServerName, ended: &RoomEnded) {
        if self.ended.contains_key(&ended.room.0) || ended.reason == EndReason::Superseded {
            return;
        }
        // Results are told before the first report, so the server may not be known yet; its name begins with the fleet's.
        let told = self.servers.get(server).map(|server| server.fleet.clone());
        let named = || server.as_str().rsplit_once('-').and_then(|(fleet, _)| fleet.parse().ok());
        let Some(fleet) = told.or_else(named) else { return };
        self.keep_result(RoomResult {
            event: "room.ended".to_owned(),
            room: ended.room.clone(),
            fleet: Text(fleet),
            key: None,
            epoch: ended.epoch,
            reason: ended.reason,
            players: Vec::new(),
            result: ended.result.clone(),
            ended_at_ms: self.now.unix_ms(),
        });
    }

    fn keep_result(&mut self, body: RoomResult) {
        if self.config.results == Results::Discard {
            return;
        }
        let key = result_key(&body);
        if !self.results.insert(key.clone()) {
            return;
        }
        let record = ResultRecord { version: 1, body };
        self.write(Write::PutResult { key, record: record.clone() });
        self.out.push(Effect::Deliver(Box::new(record)));
    }

    pub(super) fn result_taken(&mut self, key: String) {
        if self.results.remove(&key) {
            self.write(Write::DeleteResult { key });
        }
    }
}

/// `<room>.<epoch>`: the idempotency key of a result.
pub(crate) fn result_key(body: &RoomResult) -> String {
    format!("{}.{}", body.room, body.epoch)
}
