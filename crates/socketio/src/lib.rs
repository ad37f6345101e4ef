//! Owns the bytes of Engine.IO 4, Socket.IO 5 and WebSocket framing, for the server and the client role.
//! Never does IO, reads a clock, draws randomness or waits: bytes, moments and random bytes are arguments.
//!
//! From the wire to an event: [`ws::Decoder`] yields messages, [`engine::EnginePacket`] tells what each one is, and
//! [`packet::Decoder`] turns message packets into Socket.IO packets. Back to the wire: a [`packet::Draft`] becomes
//! a [`packet::Prepared`] once, which any number of sockets send without encoding it again.

pub mod engine;
pub mod ids;
pub mod limits;
pub mod packet;
pub mod ws;

pub use ids::{Sid, SocketId};
pub use limits::Limits;
