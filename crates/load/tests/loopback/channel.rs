//! Owns a server's end of one WebSocket, from the handshake to the packets of the player.
//! Never knows what a packet is for.

use std::time::Duration;

use greenroom_socketio::{
    Limits,
    engine::{EnginePacket, Open},
    packet::{Decoder, Packet, Prepared},
    ws,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"), "{head}");
    head
}

/// Opens the WebSocket and says the first word.
pub(crate) async fn upgrade(stream: &mut TcpStream) {
    let head = read_head(stream).await;
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    assert!(ws::is_client_key(key));
    let mut out = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        ws::accept_key(key)
    )
    .into_bytes();
    let open = Open {
        sid: "sid".into(),
        upgrades: Vec::new(),
        ping_interval: Duration::from_secs(25),
        ping_timeout: Duration::from_secs(20),
        max_payload: 1_000_000,
    };
    EnginePacket::Open(&open.to_json()).write_frame(None, &mut out);
    // In one piece, so that the first frame comes together with the answer.
    stream.write_all(&out).await.unwrap();
}

/// Sends what is to go out and hands over what comes in, until the player is gone or `handle` has had enough (`false`).
pub(crate) async fn talk(
    mut stream: TcpStream,
    mut outgoing: mpsc::Receiver<Prepared>,
    mut handle: impl FnMut(&Packet) -> bool,
) {
    let (mut frames, mut packets) = (ws::Decoder::new(ws::Role::Server, 10_000), Decoder::new());
    let mut buffer = [0; 1024];
    loop {
        let bytes = tokio::select! {
            Some(packet) = outgoing.recv() => {
                for frame in packet.frames() {
                    // A player who is gone is noticed by the next read.
                    let _gone = stream.write_all(frame).await;
                }
                continue;
            }
            read = stream.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(bytes) => bytes,
            },
        };
        let mut feed = frames.feed(&mut buffer[..bytes]);
        while let Some(event) = feed.next().unwrap() {
            let ws::Event::Text(text) = event else { continue };
            let EnginePacket::Text(text) = EnginePacket::decode_text(text).unwrap() else { continue };
            let packet = packets.handle_text(text, &Limits::DEFAULT).unwrap().unwrap();
            if !handle(&packet) {
                return;
            }
        }
    }
}
