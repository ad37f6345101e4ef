//! Reads words, as strictly as what clients send: a Redis that several programs share is not one's own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::shapes::{
    Answer, Broadcast, Clients, Disconnect, Event, Fetch, Fetched, Flags, Groups, Message, Options,
    ServerSide, Socket, kinds,
};
use super::{Asks, Entry, MESSAGE_BYTES_MAX, RemoteSocket, Says, Tells, Word, WordError, is_name};
use crate::Limits;
use crate::emitter::{Emitted, Target};
use crate::packet::{Content, DecodeError, Packet, PacketKind, unpack_value};

/// What a message has around the arguments of a packet.
const DEPTH_AROUND: usize = 6;

impl Word {
    /// Reads an entry of the stream. `None`: a heartbeat.
    ///
    /// # Errors
    /// Whatever a server would not say there, and what crosses a limit.
    pub fn read_entry(entry: &Entry, limits: &Limits) -> Result<Option<Self>, WordError> {
        let bytes = entry.data.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(WordError::TooLong { bytes, bytes_max: MESSAGE_BYTES_MAX });
        }
        let kind: u64 =
            entry.kind.parse().map_err(|_| WordError::Kind { kind: entry.kind.chars().take(8).collect() })?;
        let (unpacked, attachments);
        let json = if entry.data.is_empty() {
            attachments = Vec::new();
            None
        } else if entry.data.starts_with('{') {
            attachments = Vec::new();
            Some(entry.data.as_str())
        } else {
            (unpacked, attachments) = unpack_value(&STANDARD.decode(&entry.data)?, &around(limits))?;
            Some(unpacked.as_str())
        };
        let reading = Reading { namespace: &entry.nsp, json, attachments: &attachments, limits };
        let Some(word) = reading.word(&entry.uid, kind)? else { return Ok(None) };
        match word.says {
            Says::Order(_) => Ok(Some(word)),
            Says::Question { .. } | Says::Answer { .. } => Err(WordError::NoOrder),
        }
    }

    /// Reads a message of a channel, which is MessagePack. `None`: a heartbeat.
    ///
    /// # Errors
    /// Whatever a server would not say there, and what crosses a limit.
    pub fn read_message(message: &[u8], limits: &Limits) -> Result<Option<Self>, WordError> {
        let bytes = message.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(WordError::TooLong { bytes, bytes_max: MESSAGE_BYTES_MAX });
        }
        let (json, attachments) = unpack_value(message, &around(limits))?;
        let message: Message<'_> = serde_json::from_str(&json)?;
        let json = message.data.map(RawValue::get);
        let reading = Reading { namespace: &message.nsp, json, attachments: &attachments, limits };
        reading.word(&message.uid, message.kind)
    }
}

fn around(limits: &Limits) -> Limits {
    Limits { json_depth_max: limits.json_depth_max.saturating_add(DEPTH_AROUND), ..*limits }
}

struct Reading<'a> {
    namespace: &'a str,
    /// The data.
    json: Option<&'a str>,
    attachments: &'a [Bytes],
    limits: &'a Limits,
}

impl<'a> Reading<'a> {
    fn word(&self, from: &str, kind: u64) -> Result<Option<Word>, WordError> {
        if !is_name(from) {
            return Err(WordError::Name);
        }
        let namespace = self.namespace;
        let is_namespace = namespace.starts_with('/')
            && namespace.len() <= self.limits.namespace_bytes_max
            && !namespace.contains(|c: char| c == ',' || c == '?' || c.is_ascii_control());
        if !is_namespace {
            return Err(WordError::Namespace);
        }
        let says = match kind {
            kinds::HELLO | kinds::HEARTBEAT | kinds::CLOSE => return Ok(None),
            kinds::BROADCAST => self.broadcast()?,
            kinds::JOIN => {
                let Groups { opts, rooms } = self.data()?;
                Says::Order(Emitted::Join { target: self.target(opts), groups: rooms })
            }
            kinds::LEAVE => {
                let Groups { opts, rooms } = self.data()?;
                Says::Order(Emitted::Leave { target: self.target(opts), groups: rooms })
            }
            kinds::DISCONNECT => {
                let Disconnect { opts, close } = self.data()?;
                let is_transport = close.unwrap_or(false);
                Says::Order(Emitted::Disconnect { target: self.target(opts), is_transport })
            }
            kinds::FETCH => {
                let Fetch { opts, request } = self.data()?;
                question(request, Asks::Sockets { target: self.target(opts) })?
            }
            kinds::SERVER_SIDE => self.server_side()?,
            kinds::FETCHED => {
                let Fetched { request, sockets } = self.data()?;
                answer(request, Tells::Sockets { sockets: sockets.into_iter().map(remote).collect() })?
            }
            kinds::CLIENTS => {
                let Clients { request, clients } = self.data()?;
                answer(request, Tells::Clients { clients })?
            }
            kinds::ACK => {
                let read: Answer<'_> = self.data()?;
                let packet = self.ack(read.packet)?;
                answer(read.request, Tells::Ack { packet, socket: read.socket })?
            }
            kinds::SERVER_SIDE_ANSWER => {
                let read: Answer<'_> = self.data()?;
                let packet = self.ack(read.packet)?;
                answer(read.request, Tells::Server { packet })?
            }
            kind => return Err(WordError::Kind { kind: kind.to_string() }),
        };
        Ok(Some(Word { from: from.to_owned(), namespace: namespace.to_owned(), says }))
    }

    fn data<T: serde::Deserialize<'a>>(&self) -> Result<T, WordError> {
        Ok(serde_json::from_str(self.json.unwrap_or("null"))?)
    }

    fn target(&self, options: Options) -> Target {
        Target { namespace: self.namespace.to_owned(), groups: options.rooms, except: options.except }
    }

    fn broadcast(&self) -> Result<Says, WordError> {
        let Broadcast { packet: Event { kind, data }, mut opts, request } = self.data()?;
        if PacketKind::of_number(kind) != Some(PacketKind::Event) {
            return Err(DecodeError::UnknownType.into());
        }
        let packet = self.packet(PacketKind::Event, data.get().to_owned())?;
        let flags = opts.flags.take().unwrap_or_default();
        let target = self.target(opts);
        match request {
            Some(request) => {
                let timeout_ms = timeout_ms(&flags);
                question(request, Asks::Clients { target, packet, timeout_ms })
            }
            None => Ok(Says::Order(Emitted::Event {
                target,
                packet,
                is_volatile: flags.volatile.unwrap_or(false),
                is_compressible: flags.compress.unwrap_or(true),
            })),
        }
    }

    fn server_side(&self) -> Result<Says, WordError> {
        let ServerSide { request, packet } = self.data()?;
        let packet = self.packet(PacketKind::Event, packet.get().to_owned())?;
        match request {
            Some(request) => question(request, Asks::Servers { packet }),
            None => {
                let namespace = self.namespace.to_owned();
                Ok(Says::Order(Emitted::ServerSide { namespace, packet }))
            }
        }
    }

    /// One argument as an ack.
    fn ack(&self, argument: Option<&RawValue>) -> Result<Packet, WordError> {
        let argument = argument.map_or("null", RawValue::get);
        self.packet(PacketKind::Ack, format!("[{argument}]"))
    }

    fn packet(&self, kind: PacketKind, data: String) -> Result<Packet, WordError> {
        let content = Content {
            kind,
            namespace: self.namespace.to_owned(),
            id: (kind == PacketKind::Ack).then_some(0),
            data: Some(data),
            attachments: self.attachments.to_vec(),
        };
        Ok(content.check(self.limits)?)
    }
}

/// JavaScript takes fractions for a time too.
fn timeout_ms(flags: &Flags) -> Option<u64> {
    let timeout = flags.timeout.as_ref()?;
    // A time that is no whole number is rounded, and one beyond what is counted here waits as long as anything does.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    timeout.as_u64().or_else(|| timeout.as_f64().map(|timeout| timeout.max(0.0).round() as u64))
}

fn question(request: String, asks: Asks) -> Result<Says, WordError> {
    if is_name(&request) { Ok(Says::Question { request, asks }) } else { Err(WordError::Name) }
}

fn answer(request: String, tells: Tells) -> Result<Says, WordError> {
    if is_name(&request) { Ok(Says::Answer { request, tells }) } else { Err(WordError::Name) }
}

fn remote(socket: Socket) -> RemoteSocket {
    let Socket { id, mut handshake, rooms, mut data } = socket;
    without_bytes(&mut handshake);
    without_bytes(&mut data);
    RemoteSocket { id, groups: rooms, data, handshake }
}

/// Bytes have no form in a value: what stands for them becomes null. As deep as what was read, which has a bound.
fn without_bytes(value: &mut Value) {
    match value {
        Value::Object(fields) if fields.get("_placeholder") == Some(&Value::Bool(true)) => {
            *value = Value::Null;
        }
        Value::Object(fields) => fields.values_mut().for_each(without_bytes),
        Value::Array(items) => items.iter_mut().for_each(without_bytes),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
