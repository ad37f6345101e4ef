//! The relay's four events on socketioxide, to be measured beside ours: one thread, the port as first argument.
//! Never an option that ours has not.

use axum::{Router, routing::get};
use serde_json::Value;
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The room that a socket is in; kept beside it, as the npm relay does.
#[derive(Clone)]
struct Room(String);

async fn connected(socket: SocketRef) {
    socket.on("echo", async |Data::<Value>(payload), ack: AckSender| {
        ack.send(&payload).ok();
    });
    socket.on("join", async |socket: SocketRef, Data::<String>(room), ack: AckSender| {
        socket.join(room.clone());
        ack.send(&room).ok();
        socket.extensions.insert(Room(room));
    });
    socket.on("pos", async |socket: SocketRef, Data::<Value>(payload)| {
        if let Some(Room(room)) = socket.extensions.get::<Room>() {
            socket.to(room).emit("pos", &payload).await.ok();
        }
    });
    socket.on("all", async |io: SocketIo, Data::<Value>(payload)| {
        io.emit("all", &payload).await.ok();
    });
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port = std::env::args().nth(1).expect("the port is the first argument");
    let (layer, io) = SocketIo::new_layer();
    io.ns("/", connected);
    let app = Router::new().route("/livez", get(async || "alive")).layer(layer);
    let listener = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).expect("the port is free");
    listener.set_nonblocking(true).expect("a listener may be nonblocking");
    let listener = tokio::net::TcpListener::from_std(listener).expect("within a runtime");
    axum::serve(listener, app).await.expect("it serves until it is killed");
}
