//! The link protocol.

use greenroom_wire::link::{FromServer, Relay, Status, ToServer, VERSION};
use greenroom_wire::rooms::{EndReason, RoomEnded, RoomReport, SeatPhase, SeatReport};
use serde_json::json;

use crate::From::Process;
use crate::token::keys;
use crate::{golden, text};

/// A live room of two.
pub(crate) fn room_report() -> RoomReport {
    RoomReport {
        room: text("room-1"),
        epoch: 1,
        key: Some(text("guild:42")),
        seats: vec![
            SeatReport { seat: 0, player: text("alice"), phase: SeatPhase::Connected },
            SeatReport { seat: 1, player: text("bob"), phase: SeatPhase::Away },
        ],
    }
}

/// A finished room.
pub(crate) fn room_ended() -> RoomEnded {
    RoomEnded {
        room: text("room-1"),
        epoch: 1,
        reason: EndReason::Finished,
        result: json!({"winner": "alice"}),
    }
}

fn relay() -> Relay {
    Relay {
        namespace: "/".to_owned(),
        groups: vec!["board-7".to_owned()],
        except: vec!["sock-1".to_owned()],
        packet: "51-[\"draw\",{\"_placeholder\":true,\"num\":0}]".to_owned(),
        attachments: vec!["AQID".to_owned()],
    }
}

#[test]
fn a_server_speaks_as_ever() {
    let hello = FromServer::Hello {
        version: VERSION,
        instance: text("arena-a1b2c.0"),
        secret: "not-a-secret".to_owned(),
    };
    golden(Process, "link_hello", &hello);
    let status = Status { connections: 2, rooms: vec![room_report()] };
    golden(Process, "link_status", &FromServer::Status(status));
    golden(Process, "link_room_ended", &FromServer::RoomEnded(room_ended()));
    golden(Process, "link_publish", &FromServer::Publish(relay()));
}

#[test]
fn an_agent_answers_its_servers_as_ever() {
    golden(Process, "link_welcome", &ToServer::Welcome { version: VERSION, keys: keys() });
    golden(Process, "link_keys", &ToServer::Keys { keys: keys() });
    golden(Process, "link_room_ended_ack", &ToServer::RoomEndedAck { room: text("room-1"), epoch: 1 });
    let close = ToServer::CloseRoom { room: text("room-1"), epoch: 1, reason: EndReason::Superseded };
    golden(Process, "link_close_room", &close);
    golden(Process, "link_deliver", &ToServer::Deliver(relay()));
}

#[test]
fn every_reason_why_a_room_ends_has_its_word() {
    let all = vec![
        EndReason::Finished,
        EndReason::Empty,
        EndReason::NoShow,
        EndReason::ServerLost,
        EndReason::HostLost,
        EndReason::Crashed,
        EndReason::Superseded,
        EndReason::Stopped,
    ];
    golden(Process, "words_end_reason", &all);
}
