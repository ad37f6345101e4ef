//! Owns packets ready to be sent: encoded once, shared by reference, in the form each transport wants.
//! Never holds what depends on a receiver.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use super::{
    AckId, EncodeError, JsonError, MAIN_NAMESPACE, Message, PacketKind, PacketParser, WriteError, json,
};
use crate::{
    engine::{EnginePacket, push_base64, push_separator},
    limits::JSON_DEPTH_CEILING,
    ws::{MaskKey, Opcode, encode_header, write_frame},
};

/// The longest header of an unmasked frame.
const SERVER_HEADER_BYTES_MAX: usize = 10;

/// A packet in its final bytes. Cloning it copies nothing. The WebSocket frames exist from the start, the polling form
/// from the first time it is asked for.
#[derive(Debug, Clone)]
pub struct Prepared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: PacketKind,
    id: Option<AckId>,
    /// The first frame. In the standard format the namespace and the JSON lie in it.
    first: Framed,
    namespace: Range<usize>,
    json_at: usize,
    /// The other frames. In the standard format they are the attachments.
    rest: Box<[Framed]>,
    polling: OnceLock<Bytes>,
    /// Whether its frames are in another format, of which no more is known.
    is_foreign: bool,
    /// Whether a transport may compress it.
    is_compressible: bool,
    /// The same in the format of the first parser that was asked.
    foreign: OnceLock<Result<Prepared, WriteError>>,
}

/// A whole unmasked frame, and where its payload begins.
#[derive(Debug, Clone)]
struct Framed {
    frame: Bytes,
    payload_at: usize,
}

impl Framed {
    /// Makes a frame of `payload`, before which [`SERVER_HEADER_BYTES_MAX`] bytes were left free.
    fn finish(opcode: Opcode, mut buffer: Vec<u8>) -> Self {
        let header = encode_header(opcode, true, buffer.len() - SERVER_HEADER_BYTES_MAX, None);
        let start = SERVER_HEADER_BYTES_MAX - header.as_slice().len();
        buffer[start..SERVER_HEADER_BYTES_MAX].copy_from_slice(header.as_slice());
        Self { frame: Bytes::from(buffer).slice(start..), payload_at: header.as_slice().len() }
    }

    fn binary(bytes: &[u8]) -> Self {
        Self::of(Opcode::Binary, b"", bytes)
    }

    fn of(opcode: Opcode, head: &[u8], bytes: &[u8]) -> Self {
        let mut buffer = Vec::with_capacity(SERVER_HEADER_BYTES_MAX + head.len() + bytes.len());
        buffer.extend_from_slice(&[0; SERVER_HEADER_BYTES_MAX]);
        buffer.extend_from_slice(head);
        buffer.extend_from_slice(bytes);
        Self::finish(opcode, buffer)
    }

    /// A message in a program's own format.
    fn message(message: &Message<'_>) -> Result<Self, WriteError> {
        match message {
            Message::Text(text) if text.contains('\u{1e}') => Err(WriteError::Separator),
            Message::Text(text) => Ok(Self::of(Opcode::Text, b"4", text.as_bytes())),
            Message::Binary(bytes) => Ok(Self::binary(bytes)),
        }
    }

    fn opcode(&self) -> Opcode {
        if self.frame[0] & 0x0f == 1 { Opcode::Text } else { Opcode::Binary }
    }

    fn payload(&self) -> Bytes {
        self.frame.slice(self.payload_at..)
    }

    fn engine_packet(&self) -> EnginePacket<'_> {
        let payload = &self.frame[self.payload_at..];
        if self.opcode() == Opcode::Binary {
            return EnginePacket::decode_binary(payload);
        }
        EnginePacket::Text(std::str::from_utf8(&payload[1..]).expect("packets are made of whole texts"))
    }
}

/// What a packet is put together from. The JSON pieces were checked before.
pub(super) struct Parts<'a> {
    pub(super) kind: PacketKind,
    pub(super) namespace: &'a str,
    pub(super) id: Option<AckId>,
    pub(super) json: &'a [&'a str],
    pub(super) attachments: &'a [Bytes],
}

impl Prepared {
    pub(super) fn assemble(parts: &Parts<'_>) -> Result<Self, EncodeError> {
        let attachments = parts.attachments.iter().map(|bytes| Framed::binary(bytes)).collect();
        Self::assemble_framed(parts, attachments)
    }

    fn assemble_framed(parts: &Parts<'_>, attachments: Box<[Framed]>) -> Result<Self, EncodeError> {
        let Parts { kind, namespace, id, json, .. } = *parts;
        if !namespace.starts_with('/') || namespace.contains(|c: char| c == ',' || c.is_ascii_control()) {
            return Err(EncodeError::Namespace { namespace: namespace.to_owned() });
        }
        let json_bytes: usize = json.iter().map(|piece| piece.len()).sum();
        let mut buffer = Vec::with_capacity(SERVER_HEADER_BYTES_MAX + 48 + namespace.len() + json_bytes);
        buffer.extend_from_slice(&[0; SERVER_HEADER_BYTES_MAX]);
        buffer.push(b'4');
        buffer.push(match (kind, attachments.is_empty()) {
            (PacketKind::Connect, _) => b'0',
            (PacketKind::Disconnect, _) => b'1',
            (PacketKind::Event, true) => b'2',
            (PacketKind::Ack, true) => b'3',
            (PacketKind::ConnectError, _) => b'4',
            (PacketKind::Event, false) => b'5',
            (PacketKind::Ack, false) => b'6',
        });
        if !attachments.is_empty() {
            buffer.extend_from_slice(attachments.len().to_string().as_bytes());
            buffer.push(b'-');
        }
        let namespace_at = buffer.len() - SERVER_HEADER_BYTES_MAX;
        let mut namespace_bytes = 0;
        if namespace != MAIN_NAMESPACE {
            buffer.extend_from_slice(namespace.as_bytes());
            buffer.push(b',');
            namespace_bytes = namespace.len();
        }
        if let Some(id) = id {
            buffer.extend_from_slice(id.to_string().as_bytes());
        }
        let json_at = buffer.len() - SERVER_HEADER_BYTES_MAX;
        for piece in json {
            buffer.extend_from_slice(piece.as_bytes());
        }
        let text = Framed::finish(Opcode::Text, buffer);
        let (start, json_at) = (text.payload_at + namespace_at, text.payload_at + json_at);
        let namespace = start..start + namespace_bytes;
        Ok(Self(Arc::new(Inner {
            kind,
            id,
            first: text,
            namespace,
            json_at,
            rest: attachments,
            polling: OnceLock::new(),
            is_foreign: false,
            is_compressible: true,
            foreign: OnceLock::new(),
        })))
    }

    /// What the packet is for.
    #[must_use]
    pub fn kind(&self) -> PacketKind {
        self.0.kind
    }

    /// Whether a transport may compress it: yes, unless its draft said no.
    #[must_use]
    pub fn is_compressible(&self) -> bool {
        self.0.is_compressible
    }

    /// The same packet with [`Self::is_compressible`] set so, for one that nobody else holds yet.
    pub(super) fn compressible(mut self, is_compressible: bool) -> Self {
        let inner = Arc::get_mut(&mut self.0).expect("a packet that was just made has one owner");
        inner.is_compressible = is_compressible;
        self
    }

    /// The namespace, with its query string where it has one.
    #[must_use]
    pub fn namespace(&self) -> &str {
        if self.0.namespace.is_empty() { MAIN_NAMESPACE } else { self.str(self.0.namespace.clone()) }
    }

    /// The ack id.
    #[must_use]
    pub fn ack_id(&self) -> Option<AckId> {
        self.0.id
    }

    /// The text of the Socket.IO packet.
    #[must_use]
    pub fn text(&self) -> &str {
        let start = if self.0.is_foreign { self.0.json_at } else { self.0.first.payload_at + 1 };
        self.str(start..self.0.first.frame.len())
    }

    /// The payload as raw JSON; empty where there is none.
    #[must_use]
    pub fn data(&self) -> &str {
        self.str(self.0.json_at..self.0.first.frame.len())
    }

    fn str(&self, range: Range<usize>) -> &str {
        std::str::from_utf8(&self.0.first.frame[range]).expect("packets are made of whole texts")
    }

    /// The payloads of the binary attachments. They share memory with the frames.
    pub fn attachments(&self) -> impl ExactSizeIterator<Item = Bytes> + '_ {
        let attachments = if self.0.is_foreign { &[] } else { &*self.0.rest };
        attachments.iter().map(Framed::payload)
    }

    fn framed(&self) -> impl Iterator<Item = &Framed> {
        std::iter::once(&self.0.first).chain(&self.0.rest)
    }

    /// The unmasked WebSocket frames in the order in which they must be sent, one after the other without any frame of
    /// another packet between them: the text with its Engine.IO type, then the attachments.
    pub fn frames(&self) -> impl Iterator<Item = &Bytes> {
        self.framed().map(|framed| &framed.frame)
    }

    /// Bytes of all frames together, for limits of queues.
    #[must_use]
    pub fn frames_bytes(&self) -> usize {
        self.frames().map(Bytes::len).sum()
    }

    /// The packet for a polling body, see [`crate::engine::PayloadWriter::push_prepared`]. Made at the first call and
    /// shared from there on.
    #[must_use]
    pub fn polling(&self) -> &Bytes {
        self.0.polling.get_or_init(|| {
            if self.0.rest.is_empty() && self.0.first.opcode() == Opcode::Text {
                return self.0.first.payload();
            }
            let mut body = Vec::new();
            for (index, framed) in self.framed().enumerate() {
                if index > 0 {
                    push_separator(&mut body);
                }
                let payload = &framed.frame[framed.payload_at..];
                if framed.opcode() == Opcode::Text {
                    body.extend_from_slice(payload);
                } else {
                    push_base64(payload, &mut body);
                }
            }
            Bytes::from(body)
        })
    }

    /// The same packet as another parser writes it: its frames and its polling form are those of that format. Made at the
    /// first call and shared from there on, because one node has one parser: a call with another one gives the form of
    /// the first. What the result says of itself by [`Self::text`], [`Self::data`] and [`Self::attachments`] is empty.
    ///
    /// # Errors
    /// Where it cannot be written so; a repeated call gives the same error.
    pub fn written_by(&self, parser: &dyn PacketParser) -> Result<&Self, &WriteError> {
        if self.0.is_foreign {
            return Ok(self);
        }
        self.0.foreign.get_or_init(|| self.write(parser)).as_ref()
    }

    fn write(&self, parser: &dyn PacketParser) -> Result<Self, WriteError> {
        let messages = parser.encode(self)?;
        let mut framed = messages.iter().map(Framed::message);
        let first = framed.next().ok_or(WriteError::Nothing)??;
        Ok(Self(Arc::new(Inner {
            kind: self.0.kind,
            id: self.0.id,
            json_at: first.frame.len(),
            first,
            namespace: 0..0,
            rest: framed.collect::<Result<_, _>>()?,
            polling: OnceLock::new(),
            is_foreign: true,
            is_compressible: self.0.is_compressible,
            foreign: OnceLock::new(),
        })))
    }

    /// The Engine.IO packets that it consists of, in order: in the standard format one, and one more for each
    /// attachment.
    pub fn engine_packets(&self) -> impl Iterator<Item = EnginePacket<'_>> {
        self.framed().map(Framed::engine_packet)
    }

    /// Appends the frames as a client sends them. `next_key` gives a fresh mask key for each.
    pub fn write_masked(&self, mut next_key: impl FnMut() -> MaskKey, out: &mut Vec<u8>) {
        for framed in self.framed() {
            write_frame(framed.opcode(), &framed.frame[framed.payload_at..], Some(next_key()), out);
        }
    }

    /// The same event with one more argument at the end, raw JSON of one value (an offset, say). Nothing is encoded
    /// again; attachments are shared.
    ///
    /// # Errors
    /// [`EncodeError::NotAnEvent`] for other packets; [`EncodeError::Json`] for a broken argument.
    pub fn with_arg(&self, argument: &str) -> Result<Self, EncodeError> {
        json::check(argument, 1, JSON_DEPTH_CEILING)?;
        // An event always has its name, so there is an element before the comma.
        let Some(head) = self.event_data()?.strip_suffix(']') else {
            return Err(JsonError::Syntax { at: self.data().len() }.into());
        };
        self.changed(self.0.id, &[head, ",", argument, "]"])
    }

    /// The same event with this ack id, for a broadcast that wants an answer of each receiver.
    ///
    /// # Errors
    /// [`EncodeError::NotAnEvent`] for other packets.
    pub fn with_ack_id(&self, id: AckId) -> Result<Self, EncodeError> {
        self.changed(Some(id), &[self.event_data()?])
    }

    fn event_data(&self) -> Result<&str, EncodeError> {
        if self.0.kind == PacketKind::Event { Ok(self.data()) } else { Err(EncodeError::NotAnEvent) }
    }

    fn changed(&self, id: Option<AckId>, json: &[&str]) -> Result<Self, EncodeError> {
        let parts = Parts { kind: self.0.kind, namespace: self.namespace(), id, json, attachments: &[] };
        let changed = Self::assemble_framed(&parts, self.0.rest.clone())?;
        Ok(changed.compressible(self.0.is_compressible))
    }
}
