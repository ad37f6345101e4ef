//! Owns what a program's own way of writing packets must do, and how far it is trusted.
//! Never knows a format itself.

use std::borrow::Cow;
use std::fmt::Debug;

use bytes::Bytes;

use super::{DecodeError, JsonError, MAIN_NAMESPACE, Packet, PacketKind, Prepared};
use crate::Limits;

/// How many bytes of JSON one byte of a message may become. A control character, the worst there is, has six.
const JSON_GROWTH_MAX: usize = 8;

/// Another way of writing packets than the standard one: the option `parser` of Node.js, on both ends of a connection.
/// [`super::Msgpack`] is one. It matters on the wire to clients alone: handlers see JSON text and attachments all the
/// same, and so do other nodes.
///
/// ```
/// use greenroom_socketio::Limits;
/// use greenroom_socketio::packet::{Content, DecodeError, Message, PacketDecoder, PacketKind, PacketParser};
/// use greenroom_socketio::packet::{Prepared, WriteError};
///
/// /// The kind's number, the namespace, the ack id and the JSON, one on each line. No binary.
/// #[derive(Debug, Clone, Copy)]
/// struct Lines;
///
/// impl PacketParser for Lines {
///     fn encode(&self, packet: &Prepared) -> Result<Vec<Message<'static>>, WriteError> {
///         if packet.attachments().len() > 0 {
///             return Err(WriteError::Refused { why: "lines carry no binary".to_owned() });
///         }
///         let id = packet.ack_id().map(|id| id.to_string()).unwrap_or_default();
///         let number = packet.kind().number();
///         Ok(vec![format!("{number}\n{}\n{id}\n{}", packet.namespace(), packet.data()).into()])
///     }
///
///     fn decoder(&self) -> Box<dyn PacketDecoder> {
///         Box::new(*self)
///     }
/// }
///
/// impl PacketDecoder for Lines {
///     fn decode(&mut self, message: &Message<'_>, _: &Limits) -> Result<Option<Content>, DecodeError> {
///         let refused = |why: &str| DecodeError::Refused { why: why.to_owned() };
///         let Message::Text(text) = message else { return Err(refused("lines are text")) };
///         let [kind, namespace, id, data] = text.splitn(4, '\n').collect::<Vec<_>>()[..] else {
///             return Err(refused("there are four lines"));
///         };
///         let kind = kind.parse().ok().and_then(PacketKind::of_number).ok_or(DecodeError::UnknownType)?;
///         let id = if id.is_empty() { None } else { Some(id.parse().map_err(|_| DecodeError::AckId)?) };
///         let (namespace, data) = (namespace.to_owned(), Some(data.to_owned()));
///         Ok(Some(Content { kind, namespace, id, data, attachments: Vec::new() }))
///     }
/// }
/// ```
pub trait PacketParser: Debug + Send + Sync {
    /// Writes a packet as the messages that carry it, in order, one at least. No message of another packet comes between
    /// them. Called once for each packet, however many sockets it goes to. What it is given are
    /// [`Prepared::kind`], [`Prepared::namespace`], [`Prepared::ack_id`], [`Prepared::data`] and
    /// [`Prepared::attachments`], for whose bytes the data has placeholders.
    ///
    /// # Errors
    /// [`WriteError::Refused`] where the format cannot carry the packet. It is not sent then, which the node counts and
    /// logs.
    fn encode(&self, packet: &Prepared) -> Result<Vec<Message<'static>>, WriteError>;

    /// The reader of one fresh connection. A format without memory between messages gives itself.
    fn decoder(&self) -> Box<dyn PacketDecoder>;
}

/// The reading half of a [`PacketParser`], for one connection. It faces whoever reaches the port.
///
/// What it says is judged as strictly as a packet in the standard format: the kind, the namespace, the ack id, the
/// event's name, whether the data is JSON and not too deep, whether placeholders and attachments fit each other and
/// their limits. Its author must see to what happens before that: time and memory within one message (which has
/// [`Limits::payload_bytes_max`] bytes at most), and no recursion without a bound.
pub trait PacketDecoder: Debug {
    /// Takes in one message. `None`: the packet goes on in the next one. So many messages may make one packet as the
    /// standard format would need, and so many bytes; more is an error whatever this says.
    ///
    /// # Errors
    /// Whatever is no packet; [`DecodeError::Refused`] says why in words. The connection is closed with "parse error", and
    /// the decoder is not called again. A panic closes it too, and is counted as one of a handler.
    fn decode(&mut self, message: &Message<'_>, limits: &Limits) -> Result<Option<Content>, DecodeError>;
}

/// One message as Engine.IO carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text. One that is to be sent has no character U+001E, which parts the packets of a polling body.
    Text(Cow<'a, str>),
    /// Bytes.
    Binary(Cow<'a, [u8]>),
}

impl Message<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

impl From<String> for Message<'static> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<Vec<u8>> for Message<'static> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(Cow::Owned(bytes))
    }
}

/// What a packet says, in no format: the answer of a [`PacketDecoder`], not judged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What the packet is for.
    pub kind: PacketKind,
    /// The namespace, `/` for the main one, with its query string where there is one.
    pub namespace: String,
    /// The ack id: an ack has one, an event may.
    pub id: Option<u64>,
    /// Raw JSON: an object or nothing for a connect, nothing for a disconnect, a list for events (whose first element is
    /// the name) and acks. Each binary part is a [`super::Placeholder`] in it.
    pub data: Option<String>,
    /// The binary parts, in the order of their placeholders' numbers.
    pub attachments: Vec<Bytes>,
}

impl Content {
    /// Judges it by writing it as text, so that there is one judge of packets.
    pub(crate) fn check(self, limits: &Limits) -> Result<Packet, DecodeError> {
        let Self { kind, namespace, id, data, attachments } = self;
        let bytes = attachments.iter().fold(0_usize, |bytes, next| bytes.saturating_add(next.len()));
        if bytes > limits.attachment_bytes_max {
            return Err(DecodeError::AttachmentsTooLong { bytes_max: limits.attachment_bytes_max });
        }
        let data = data.unwrap_or_default();
        let fits = match kind {
            // What else it may begin with would be read as part of the head.
            PacketKind::Event | PacketKind::Ack => data.starts_with(['[', ' ', '\t', '\n', '\r']),
            PacketKind::Connect | PacketKind::Disconnect | PacketKind::ConnectError => {
                attachments.is_empty()
                    && (data.is_empty() || data.starts_with(['{', '"', ' ', '\t', '\n', '\r']))
            }
        };
        if !fits || data.len() > limits.payload_bytes_max.saturating_mul(JSON_GROWTH_MAX) {
            return Err(DecodeError::Payload);
        }
        if !namespace.starts_with('/') || namespace.contains(',') {
            return Err(DecodeError::NamespaceCharacter);
        }
        let mut text = String::with_capacity(data.len() + namespace.len() + 32);
        if attachments.is_empty() {
            text += &kind.number().to_string();
        } else {
            // The binary forms of event and ack.
            text += &format!("{}{}-", kind.number() + 3, attachments.len());
        }
        if namespace != MAIN_NAMESPACE {
            text += &namespace;
            text.push(',');
        }
        if let Some(id) = id {
            text += &id.to_string();
        }
        text += &data;
        let mut packet = Packet::parse(&text, limits)?;
        packet.attachments = attachments;
        Ok(packet)
    }
}

/// Why a packet cannot be written by a parser. It is not sent to anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The format cannot carry such data.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The parser cannot or will not.
    #[error("the parser refuses the packet: {why}")]
    Refused {
        /// Why, in its own words.
        why: String,
    },
    /// The parser gave no message at all.
    #[error("the parser wrote nothing")]
    Nothing,
    /// A text would be read as two packets of a polling body.
    #[error("the parser wrote the character U+001E, which parts packets")]
    Separator,
}

/// A connection's reader in another format, and how far it is in the packet at hand.
#[derive(Debug)]
pub(super) struct Bounded {
    reader: Box<dyn PacketDecoder>,
    messages: usize,
    bytes: usize,
}

impl Bounded {
    pub(super) fn of(parser: &dyn PacketParser) -> Self {
        Self { reader: parser.decoder(), messages: 0, bytes: 0 }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.messages > 0
    }

    /// Takes in a message.
    pub(super) fn handle(
        &mut self,
        message: &Message<'_>,
        limits: &Limits,
    ) -> Result<Option<Packet>, DecodeError> {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(message.len());
        // A head and its attachments, as the standard format has them.
        if self.messages > limits.attachments_max.saturating_add(1) {
            return Err(DecodeError::TooManyAttachments { attachments_max: limits.attachments_max });
        }
        let bytes_max = limits.payload_bytes_max.saturating_add(limits.attachment_bytes_max);
        if self.bytes > bytes_max {
            return Err(DecodeError::AttachmentsTooLong { bytes_max });
        }
        let Some(content) = self.reader.decode(message, limits)? else { return Ok(None) };
        (self.messages, self.bytes) = (0, 0);
        content.check(limits).map(Some)
    }
}
