//! Owns what Node.js servers of one cluster tell and ask each other in a Redis, as the npm package
//! `@socket.io/redis-streams-adapter` 0.3 writes it: the names of its streams and channels, and its messages.
//! Never carries anything out, and never speaks with a Redis.
//!
//! A [`Word`] comes and goes in one of two forms. An [`Entry`] of the stream of its namespace holds orders for all
//! servers. A message on a channel holds what nobody wants later: on [`Names::channel`] for all servers, on
//! [`Names::channel_of`] for one, which gets the answers to its questions there.
//!
//! ```
//! use greenroom_socketio::Limits;
//! use greenroom_socketio::adapter::{Entry, Says, Word};
//! use greenroom_socketio::emitter::{Emitted, Target};
//!
//! let target = Target { namespace: "/".to_owned(), groups: vec!["red".to_owned()], except: vec![] };
//! let says = Says::Order(Emitted::Join { target, groups: vec!["blue".to_owned()] });
//! let word = Word { from: "a1b2".to_owned(), namespace: "/".to_owned(), says };
//! let entry = word.to_entry()?;
//! assert_eq!(entry.data, r#"{"opts":{"rooms":["red"],"except":[],"flags":{}},"rooms":["blue"]}"#);
//! assert_eq!(Word::read_entry(&entry, &Limits::DEFAULT)?, Some(word));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod read;
mod shapes;
mod write;

use serde_json::Value;

use crate::emitter::{Emitted, Target};
use crate::packet::{DecodeError, JsonError, Packet};

/// Longest name of a server and of a question, in bytes. The npm packages have 16.
const NAME_BYTES_MAX: usize = 64;

/// Longest message, in bytes: the answer of a server with many sockets, or an event with its attachments in base64.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// Most streams that the namespaces of a cluster can be spread over.
pub const STREAMS_MAX: u16 = 64;

/// What streams and channels are called, by the options of the npm package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// `streamName`, by default `socket.io`.
    pub stream: String,
    /// `streamCount`, 1 to [`STREAMS_MAX`], by default 1.
    pub streams: u16,
    /// `channelPrefix`, by default `socket.io`.
    pub prefix: String,
}

impl Default for Names {
    fn default() -> Self {
        Self { stream: "socket.io".to_owned(), streams: 1, prefix: "socket.io".to_owned() }
    }
}

impl Names {
    /// The stream of a namespace. With several streams its number may be negative, as that of the npm package is.
    #[must_use]
    pub fn stream_of(&self, namespace: &str) -> String {
        if self.streams <= 1 {
            return self.stream.clone();
        }
        let hash = namespace
            .encode_utf16()
            .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
        format!("{}-{}", self.stream, hash % i32::from(self.streams))
    }

    /// All streams that [`Self::stream_of`] may name.
    #[must_use]
    pub fn all_streams(&self) -> Vec<String> {
        if self.streams <= 1 {
            return vec![self.stream.clone()];
        }
        let last = i32::from(self.streams) - 1;
        (-last..=last).map(|number| format!("{}-{number}", self.stream)).collect()
    }

    /// The channel of all servers that have this namespace. How many listen there is how many the others wait for.
    #[must_use]
    pub fn channel(&self, namespace: &str) -> String {
        format!("{}#{namespace}#", self.prefix)
    }

    /// The channel of one of them.
    #[must_use]
    pub fn channel_of(&self, namespace: &str, server: &str) -> String {
        format!("{}#{namespace}#{server}#", self.prefix)
    }

    /// A pattern of the channels of each of them, for `PUBSUB CHANNELS`.
    #[must_use]
    pub fn servers_pattern(&self, namespace: &str) -> String {
        let mut pattern = String::new();
        for character in self.channel(namespace).chars() {
            if ['*', '?', '[', ']', '\\'].contains(&character) {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern + "?*#"
    }

    /// The server that a channel of that pattern belongs to.
    #[must_use]
    pub fn server_in<'a>(&self, namespace: &str, channel: &'a str) -> Option<&'a str> {
        let server = channel.strip_prefix(&self.channel(namespace))?.strip_suffix('#')?;
        is_name(server).then_some(server)
    }
}

/// Whether a server or a question may be called so.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// Something that one server says.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// Who says it; `emitter` for a program outside of the servers.
    pub from: String,
    /// The namespace that it is about.
    pub namespace: String,
    /// What it says.
    pub says: Says,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq)]
pub enum Says {
    /// Something to carry out, without an answer.
    Order(Emitted),
    /// Something that each server answers to [`Word::from`].
    Question {
        /// Its name, to be repeated in answers.
        request: String,
        /// What is asked.
        asks: Asks,
    },
    /// An answer.
    Answer {
        /// The question's name.
        request: String,
        /// What is answered.
        tells: Tells,
    },
}

/// What a server asks the others.
#[derive(Debug, Clone, PartialEq)]
pub enum Asks {
    /// Which sockets there are. One answer of each server: [`Tells::Sockets`].
    Sockets {
        /// Whom it means.
        target: Target,
    },
    /// An event for clients, each of which answers. Each server says at once how many it asks ([`Tells::Clients`]), then
    /// what each of them answers ([`Tells::Ack`]).
    Clients {
        /// Whom it means.
        target: Target,
        /// The event; it has no ack id.
        packet: Packet,
        /// How long they have, in milliseconds; `None` where it is not said.
        timeout_ms: Option<u64>,
    },
    /// An event for the servers themselves. One answer of each that handles it: [`Tells::Server`].
    Servers {
        /// The event; it has no ack id.
        packet: Packet,
    },
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Tells {
    /// Its sockets.
    Sockets {
        /// All that were meant.
        sockets: Vec<RemoteSocket>,
    },
    /// How many clients it asks.
    Clients {
        /// Their number.
        clients: u64,
    },
    /// What one of them answered.
    Ack {
        /// An ack with the id 0 and one argument.
        packet: Packet,
        /// Which one; Node.js servers do not say.
        socket: Option<String>,
    },
    /// What the server itself answers.
    Server {
        /// An ack with the id 0 and one argument.
        packet: Packet,
    },
}

/// One socket as other servers see it.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteSocket {
    /// Its public id.
    pub id: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// The program's data. Bytes in it are left out.
    pub data: Value,
    /// What the program on a Node.js server calls `handshake`: an object with `address`, `url`, `query` and more.
    pub handshake: Value,
}

/// One entry of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Field `uid`: who says it.
    pub uid: String,
    /// Field `nsp`: the namespace.
    pub nsp: String,
    /// Field `type`: what is said, a number.
    pub kind: String,
    /// Field `data`: JSON, or MessagePack in base64; empty where the field is not there.
    pub data: String,
}

impl Entry {
    /// Its fields in the order in which the npm package writes them.
    #[must_use]
    pub fn fields(&self) -> [(&'static str, &str); 4] {
        [("uid", &self.uid), ("nsp", &self.nsp), ("type", &self.kind), ("data", &self.data)]
    }

    /// Takes a field in. One that is not known is left out, and one that comes twice counts as it comes last.
    pub fn set(&mut self, field: &str, value: String) {
        match field {
            "uid" => self.uid = value,
            "nsp" => self.nsp = value,
            "type" => self.kind = value,
            "data" => self.data = value,
            _ => {}
        }
    }
}

/// Why something is no word of a server. It is left out.
#[derive(Debug, thiserror::Error)]
pub enum WordError {
    /// It is too long.
    #[error("the message has {bytes} bytes, more than {bytes_max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit that was crossed.
        bytes_max: usize,
    },
    /// A server or a question has a name that none has.
    #[error("the message names no server or question as servers do")]
    Name,
    /// The namespace is none.
    #[error("the message names no namespace")]
    Namespace,
    /// It says what is not known here.
    #[error("message type {kind:?} is unknown")]
    Kind {
        /// Its number.
        kind: String,
    },
    /// It is neither JSON nor MessagePack in base64.
    #[error("the data is no base64")]
    Base64(#[from] base64::DecodeError),
    /// It carries what is no packet, or no MessagePack.
    #[error(transparent)]
    Packet(#[from] DecodeError),
    /// A part of it has another shape.
    #[error("the message has another shape")]
    Shape(#[from] serde_json::Error),
    /// It was sent by the stream, which holds orders alone: adapters before 0.3 ask there.
    #[error("a question or an answer came by the stream; it is one of an adapter before 0.3")]
    NoOrder,
    /// It cannot be written as MessagePack.
    #[error(transparent)]
    Json(#[from] JsonError),
}
