//! Owns MessagePack as a format of packets, the one of the npm package `socket.io-msgpack-parser`.
//! Never builds values: both ways go between bytes and JSON text.

use super::{
    Content, DecodeError, Message, PacketDecoder, PacketParser, Prepared, WriteError, pack::pack,
    unpack::read,
};
use crate::Limits;

/// MessagePack: each packet is one binary message. Packets that are nested deeper than JSON of ours may be are not
/// written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Msgpack;

impl PacketParser for Msgpack {
    fn encode(&self, packet: &Prepared) -> Result<Vec<Message<'static>>, WriteError> {
        Ok(vec![pack(packet)?.into()])
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(*self)
    }
}

impl PacketDecoder for Msgpack {
    fn decode(&mut self, message: &Message<'_>, limits: &Limits) -> Result<Option<Content>, DecodeError> {
        match message {
            Message::Binary(bytes) => read(bytes, limits).map(Some),
            Message::Text(_) => Err(DecodeError::Msgpack { at: 0 }),
        }
    }
}
