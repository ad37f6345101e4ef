//! The link protocol.

use greenroom_wire::backplane::{Pid, Shout};
use greenroom_wire::link::{
    FromServer, Measured, MeshMessage, MeshReply, MeshScope, MeshSend, MeshSocket, MeshTold, Relay, Status,
    Successor, ToServer, VERSION,
};
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
        kept: false,
    }
}

/// What a busy server measures.
pub(crate) fn measured() -> Measured {
    Measured {
        connects_per_minute: Some(90),
        tick_lateness_ms: Some(2),
        loop_lag_ms: Some(11),
        memory_bytes: Some(50_331_648),
        rooms_served: Some(12),
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

pub(crate) fn relay() -> Relay {
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
    let status = Status { connections: 2, rooms: vec![room_report()], ..Status::default() };
    golden(Process, "link_status", &FromServer::Status(status));
    let status = Status { measured: measured(), ..Status::default() };
    golden(Process, "link_status_measured", &FromServer::Status(status));
    let rooms = vec![RoomReport { kept: true, ..room_report() }];
    let status = Status { rooms, awaits_rooms: true, ..Status::default() };
    golden(Process, "link_status_awaits_rooms", &FromServer::Status(status));
    golden(Process, "link_room_ended", &FromServer::RoomEnded(room_ended()));
    golden(Process, "link_publish", &FromServer::Publish(relay()));
    golden(Process, "link_ending", &FromServer::Ending);
}

#[test]
fn an_agent_answers_its_servers_as_ever() {
    golden(Process, "link_welcome", &ToServer::Welcome { version: VERSION, keys: keys() });
    golden(Process, "link_keys", &ToServer::Keys { keys: keys() });
    golden(Process, "link_room_ended_ack", &ToServer::RoomEndedAck { room: text("room-1"), epoch: 1 });
    let close = ToServer::CloseRoom { room: text("room-1"), epoch: 1, reason: EndReason::Superseded };
    golden(Process, "link_close_room", &close);
    golden(Process, "link_deliver", &ToServer::Deliver(relay()));
    for (name, successor) in [("process", Successor::Process), ("nobody", Successor::Nobody)] {
        golden(Process, &format!("link_ending_{name}"), &ToServer::Ending { successor });
    }
}

#[test]
fn servers_of_a_mesh_speak_as_ever() {
    let scope = MeshScope {
        namespace: "/".to_owned(),
        groups: vec!["board-7".to_owned()],
        except: vec!["sock-1".to_owned()],
    };
    let socket = MeshSocket {
        id: "sock-2".to_owned(),
        groups: vec!["board-7".to_owned()],
        data: json!({"color": "red"}),
        address: "127.0.0.1:5000".to_owned(),
        url: "/socket.io/?EIO=4&transport=websocket".to_owned(),
    };
    let reply = MeshReply { socket: "sock-2".to_owned(), packet: "30[1]".to_owned(), attachments: vec![] };
    let missing = vec![("sock-3".to_owned(), "timed_out".to_owned())];
    let messages = [
        ("join", MeshMessage::Join { scope: scope.clone(), group: "blue".to_owned() }),
        ("leave", MeshMessage::Leave { scope: scope.clone(), group: "blue".to_owned() }),
        ("disconnect", MeshMessage::Disconnect { scope: scope.clone(), is_transport: true }),
        ("event", MeshMessage::Event { namespace: "/".to_owned(), packet: "2[\"reload\"]".to_owned() }),
        ("fetch", MeshMessage::Fetch { scope }),
        ("sockets", MeshMessage::Sockets { sockets: vec![socket] }),
        ("ask", MeshMessage::Ask { relay: relay(), timeout_ms: 500 }),
        ("answers", MeshMessage::Answers { replies: vec![reply], missing }),
        ("reply", MeshMessage::Reply { packet: Some("30[1]".to_owned()) }),
        ("reply_none", MeshMessage::Reply { packet: None }),
    ];
    for (name, message) in messages {
        golden(Process, &format!("link_mesh_{name}"), &message);
    }
    let message = MeshMessage::Sockets { sockets: vec![] };
    let send = MeshSend { to: Some(text("arena-a1b2c.0")), ask: Some(7), message: message.clone() };
    golden(Process, "link_mesh_send", &FromServer::Mesh(send));
    let told = MeshTold { from: text("arena-a1b2c.0"), ask: Some(7), message };
    golden(Process, "link_mesh_told", &ToServer::Mesh(told));
    let asked = ToServer::MeshAsked { ask: 7, peers: vec![text("arena-a1b2c.1")] };
    golden(Process, "link_mesh_asked", &asked);
}

#[test]
fn what_nodes_of_one_store_shout_keeps_its_shape() {
    let told = MeshTold {
        from: text("arena-a1b2c.0"),
        ask: Some(7),
        message: MeshMessage::Sockets { sockets: vec![] },
    };
    let shouts = [
        ("mesh", Shout::Mesh(told)),
        ("deliver", Shout::Deliver { from: text("arena-a1b2c.0"), relay: relay() }),
        ("fenced", Shout::Fenced { pid: Pid::new("secret"), generation: 2 }),
        ("anew", Shout::Anew { namespace: "/chat".to_owned(), epoch: "1f".to_owned() }),
    ];
    for (name, shout) in shouts {
        golden(Process, &format!("shout_{name}"), &shout);
    }
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
