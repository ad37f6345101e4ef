//! What a program needs to write its packets in a format of its own: [`PacketParser`], for
//! [`crate::config::Parser::Custom`], with its reading half and the words of both.
//! Never a format itself.

pub use greenroom_socketio::Limits;
pub use greenroom_socketio::packet::{
    AckId, Content, DecodeError, Message, PacketDecoder, PacketKind, PacketParser, Placeholder, Prepared,
    WriteError,
};
