//! Owns Socket.IO 5 packets: reading them with every check a hostile peer calls for, and preparing them once for many.
//! Never turns arguments into value trees: they are handed on as the JSON text they came in.

mod control;
mod decode;
mod decoder;
mod draft;
mod json;
mod msgpack;
mod pack;
mod parser;
mod placeholder;
mod prepared;
mod unpack;

pub use control::{ConnectRefused, Connected};
pub use decode::{DecodeError, Packet};
pub use decoder::Decoder;
pub use draft::{Draft, EncodeError};
pub use json::{Args, JsonError};
pub use msgpack::Msgpack;
pub(crate) use pack::pack_value;
pub use parser::{Content, Message, PacketDecoder, PacketParser, WriteError};
pub use placeholder::{Placeholder, PlaceholderError};
pub use prepared::Prepared;
pub use unpack::unpack;
pub(crate) use unpack::{unpack_emitted, unpack_value};

/// What a packet is for. Whether an event or ack is binary shows in its attachments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// Asks for a namespace, or says that it is connected.
    Connect,
    /// Leaves a namespace.
    Disconnect,
    /// A named event with arguments.
    Event,
    /// The answer to an event that has an ack id.
    Ack,
    /// Refuses a namespace.
    ConnectError,
}

impl PacketKind {
    /// Its number on the wire, 0 to 4: that of the form without attachments.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Connect => 0,
            Self::Disconnect => 1,
            Self::Event => 2,
            Self::Ack => 3,
            Self::ConnectError => 4,
        }
    }

    /// The kind of that number.
    #[must_use]
    pub const fn of_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Connect),
            1 => Some(Self::Disconnect),
            2 => Some(Self::Event),
            3 => Some(Self::Ack),
            4 => Some(Self::ConnectError),
            _ => None,
        }
    }
}

/// Pairs an event with its answer: 0 to 2^53 - 1, what JavaScript can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckId(u64);

impl AckId {
    /// The smallest id.
    pub const ZERO: Self = Self(0);

    /// The largest id.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The id of that number, unless it is too large.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for AckId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Event names that the libraries use themselves and that no packet may carry.
pub const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// The namespace that needs no name on the wire.
pub const MAIN_NAMESPACE: &str = "/";
