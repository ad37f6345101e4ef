//! A client made of the project's own codec in its client role.

use greenroom_socketio::Limits;
use greenroom_socketio::engine::EnginePacket;
use greenroom_socketio::packet::{Decoder as Packets, Draft, Packet, Prepared};
use greenroom_socketio::ws::{Decoder, Event, Role, client_key};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{DEADLINE, Served};

pub(crate) struct Wire {
    stream: TcpStream,
    frames: Decoder,
    packets: Packets,
    received: std::collections::VecDeque<Packet>,
}

impl Wire {
    /// Connects to `/` by WebSocket alone.
    pub(crate) async fn connect(served: &Served) -> Self {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let key = client_key([7; 16]);
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n\
             connection: keep-alive, Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n"
        );
        // The connect packet comes behind the request, in one piece: nobody may lose it.
        let mut bytes = request.into_bytes();
        Prepared::connect("/", None).unwrap().write_masked(|| [1, 2, 3, 4], &mut bytes);
        stream.write_all(&bytes).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        let frames = Decoder::new(Role::Client, 16_000_000);
        let received = std::collections::VecDeque::new();
        let mut wire = Self { stream, frames, packets: Packets::new(), received };
        assert!(wire.recv().await.data().contains("sid"));
        wire
    }

    /// The connection as it is; whatever was read and not asked for is lost.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    pub(crate) async fn emit(&mut self, draft: Draft) {
        let mut bytes = Vec::new();
        draft.prepare("/", None).unwrap().write_masked(|| [9, 8, 7, 6], &mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next Socket.IO packet.
    pub(crate) async fn recv(&mut self) -> Packet {
        let mut buffer = vec![0; 65_536];
        loop {
            if let Some(packet) = self.received.pop_front() {
                return packet;
            }
            let read = tokio::time::timeout(DEADLINE, self.stream.read(&mut buffer)).await.unwrap().unwrap();
            assert!(read > 0, "the node closed the connection");
            let limits = Limits { attachment_bytes_max: 16_000_000, ..Limits::DEFAULT };
            let mut feed = self.frames.feed(&mut buffer[..read]);
            while let Some(event) = feed.next().unwrap() {
                let packet = match event {
                    Event::Text(text) => match EnginePacket::decode_text(text).unwrap() {
                        EnginePacket::Text(text) => self.packets.handle_text(text, &limits).unwrap(),
                        other => {
                            assert!(
                                matches!(other, EnginePacket::Open(_) | EnginePacket::Ping(_)),
                                "{other:?}"
                            );
                            None
                        }
                    },
                    Event::Binary(bytes) => self.packets.handle_binary(bytes, &limits).unwrap(),
                    other => panic!("{other:?}"),
                };
                self.received.extend(packet);
            }
        }
    }
}
