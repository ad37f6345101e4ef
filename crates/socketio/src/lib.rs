//! Owns the bytes of Engine.IO 4, Socket.IO 5 and WebSocket framing, for the server and the client role.
//! Never does IO, reads a clock, draws randomness or waits: bytes, moments and random bytes are arguments.
//!
//! From the wire to an event: [`ws::Decoder`] yields messages, [`engine::EnginePacket`] tells what each one is, and
//! [`packet::Decoder`] turns message packets into Socket.IO packets. Back to the wire: a [`packet::Draft`] becomes
//! a [`packet::Prepared`] once, which any number of sockets send without encoding it again.
//!
//! ```
//! use greenroom_socketio::{Limits, engine::EnginePacket, packet, ws};
//!
//! let limits = Limits::DEFAULT;
//! let mut frames = ws::Decoder::new(ws::Role::Server, limits.payload_bytes_max);
//! let mut packets = packet::Decoder::new();
//! let mut echoes: Vec<packet::Prepared> = Vec::new();
//!
//! // What a read from the socket gave; the buffer may be shared by all connections of a thread.
//! let mut buffer = Vec::new();
//! packet::Draft::event("move")?.arg(&[3, 4])?.prepare("/", None)?.write_masked(|| [1, 2, 3, 4], &mut buffer);
//!
//! let mut feed = frames.feed(&mut buffer);
//! while let Some(event) = feed.next()? {
//!     let received = match event {
//!         ws::Event::Text(text) => match EnginePacket::decode_text(text)? {
//!             EnginePacket::Text(text) => packets.handle_text(text, &limits)?,
//!             _heartbeat_or_control => None,
//!         },
//!         ws::Event::Binary(bytes) => packets.handle_binary(bytes, &limits)?,
//!         ws::Event::Ping(_) | ws::Event::Pong(_) | ws::Event::Close(_) => None,
//!     };
//!     if let Some(packet) = received {
//!         echoes.push(packet::Draft::event("moved")?.args_of(&packet)?.prepare(packet.namespace(), None)?);
//!     }
//! }
//! assert_eq!(echoes[0].text(), r#"2["moved",[3,4]]"#);
//! assert_eq!(echoes[0].frames().next().map(|frame| frame.len()), Some(19));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod adapter;
pub mod emitter;
pub mod engine;
pub mod ids;
pub mod limits;
pub mod packet;
pub mod ws;

pub use ids::{Sid, SocketId};
pub use limits::Limits;
