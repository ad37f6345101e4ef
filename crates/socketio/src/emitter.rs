//! Owns what emitters outside of the servers publish in a Redis, as the npm package `@socket.io/redis-emitter` 5 does: the
//! names of its channels and its messages.
//! Never carries anything out, and never speaks with a Redis.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Limits;
use crate::packet::{Content, DecodeError, Packet, PacketKind, unpack_emitted};

/// Who speaks in all messages of an emitter. Servers that share the channels have names of their own.
const EMITTER: &str = "emitter";

const REMOTE_JOIN: u64 = 2;
const REMOTE_LEAVE: u64 = 3;
const REMOTE_DISCONNECT: u64 = 4;
const SERVER_SIDE_EMIT: u64 = 6;

/// Whom something is for: the sockets of a namespace, of some of its groups where any are named, less those of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The namespace.
    pub namespace: String,
    /// Groups that are meant; none: everybody.
    pub groups: Vec<String>,
    /// Groups that are left out.
    pub except: Vec<String>,
}

/// What an emitter wants of every server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Emitted {
    /// An event for clients.
    Event {
        /// For whom.
        target: Target,
        /// The event; it has no ack id.
        packet: Packet,
        /// Whether clients that are not ready for it go without.
        is_volatile: bool,
        /// Whether a transport may compress it.
        is_compressible: bool,
    },
    /// Sockets enter groups.
    Join {
        /// Which sockets.
        target: Target,
        /// What they enter.
        groups: Vec<String>,
    },
    /// Sockets leave groups.
    Leave {
        /// Which sockets.
        target: Target,
        /// What they leave.
        groups: Vec<String>,
    },
    /// Sockets are disconnected.
    Disconnect {
        /// Which sockets.
        target: Target,
        /// Whether their whole connection ends, not only their namespace.
        is_transport: bool,
    },
    /// An event for the servers themselves.
    ServerSide {
        /// Where it is heard.
        namespace: String,
        /// The event; it has no attachments and no ack id.
        packet: Packet,
    },
}

/// Why a message is none of an emitter. It is left out.
#[derive(Debug, thiserror::Error)]
pub enum EmittedError {
    /// The channel is none of those that are listened to.
    #[error("channel {channel:?} is none of an emitter")]
    Channel {
        /// Its name.
        channel: String,
    },
    /// It carries what is no packet.
    #[error(transparent)]
    Packet(#[from] DecodeError),
    /// A part of it has another shape.
    #[error("the message has another shape")]
    Shape(#[from] serde_json::Error),
    /// It wants what is not known here.
    #[error("request type {kind} is unknown")]
    Request {
        /// Its number.
        kind: u64,
    },
}

/// The patterns of all channels of emitters with this `key` (their option of that name, `socket.io` by default), for
/// Redis's `PSUBSCRIBE`.
#[must_use]
pub fn patterns(key: &str) -> [String; 2] {
    let mut escaped = String::new();
    for character in key.chars() {
        if ['*', '?', '[', ']', '\\'].contains(&character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    [format!("{escaped}#*"), format!("{escaped}-request#*")]
}

#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    flags: Flags,
}

#[derive(Default, Deserialize)]
struct Flags {
    volatile: Option<bool>,
    compress: Option<bool>,
}

impl Options {
    fn target(self, namespace: &str) -> Target {
        Target { namespace: namespace.to_owned(), groups: self.rooms, except: self.except }
    }
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(rename = "type")]
    kind: u64,
    uid: Option<String>,
    opts: Option<Options>,
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    close: bool,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl Emitted {
    /// Reads a message that came by a channel of emitters with this `key`. `None`: a server speaks there with others, not
    /// an emitter.
    ///
    /// # Errors
    /// Whatever an emitter would not publish, and what crosses a limit.
    pub fn read(
        key: &str,
        channel: &str,
        message: &[u8],
        limits: &Limits,
    ) -> Result<Option<Self>, EmittedError> {
        let rest = channel.strip_prefix(key);
        if rest.is_some_and(|rest| rest.starts_with('#')) {
            return Self::read_event(message, limits);
        }
        let namespace = rest.and_then(|rest| rest.strip_prefix("-request#")?.strip_suffix('#'));
        let namespace = namespace.ok_or_else(|| EmittedError::Channel { channel: channel.to_owned() })?;
        if message.first() != Some(&b'{') {
            // Requests of servers may be in MessagePack, those of emitters never are.
            return Ok(None);
        }
        Self::read_request(namespace, message, limits)
    }

    fn read_event(message: &[u8], limits: &Limits) -> Result<Option<Self>, EmittedError> {
        let (speaker, packet, options) = unpack_emitted(message, limits)?;
        if speaker != EMITTER {
            return Ok(None);
        }
        if packet.kind() != PacketKind::Event || packet.ack_id().is_some() {
            return Err(DecodeError::Payload.into());
        }
        let options: Options = serde_json::from_str(&options)?;
        Ok(Some(Self::Event {
            is_volatile: options.flags.volatile.unwrap_or(false),
            is_compressible: options.flags.compress.unwrap_or(true),
            target: options.target(packet.namespace()),
            packet,
        }))
    }

    fn read_request(namespace: &str, message: &[u8], limits: &Limits) -> Result<Option<Self>, EmittedError> {
        let request: Request<'_> = serde_json::from_slice(message)?;
        if request.uid.is_some_and(|speaker| speaker != EMITTER) {
            return Ok(None);
        }
        if request.kind == SERVER_SIDE_EMIT {
            let content = Content {
                kind: PacketKind::Event,
                namespace: namespace.to_owned(),
                id: None,
                data: request.data.map(|data| data.get().to_owned()),
                attachments: Vec::new(),
            };
            let packet = content.check(limits)?;
            return Ok(Some(Self::ServerSide { namespace: namespace.to_owned(), packet }));
        }
        let target = request.opts.ok_or(DecodeError::Payload)?.target(namespace);
        Ok(Some(match request.kind {
            REMOTE_JOIN => Self::Join { target, groups: request.rooms },
            REMOTE_LEAVE => Self::Leave { target, groups: request.rooms },
            REMOTE_DISCONNECT => Self::Disconnect { target, is_transport: request.close },
            kind => return Err(EmittedError::Request { kind }),
        }))
    }
}
