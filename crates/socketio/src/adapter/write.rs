//! Writes words as the npm package does.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::shapes::{
    Answer, Broadcast, Clients, Disconnect, Event, Fetch, Fetched, Flags, Groups, Message, Options,
    ServerSide, Socket, kinds,
};
use super::{Asks, Entry, RemoteSocket, Says, Tells, Word, WordError};
use crate::emitter::{Emitted, Target};
use crate::packet::{Packet, PacketKind, pack_value};

impl Word {
    /// The entry of the stream for it, for orders.
    ///
    /// # Errors
    /// [`WordError::NoOrder`] for questions and answers, which go by channels; [`WordError::Json`] where arguments with
    /// bytes are nested too deep.
    pub fn to_entry(&self) -> Result<Entry, WordError> {
        if !matches!(self.says, Says::Order(_)) {
            return Err(WordError::NoOrder);
        }
        let (kind, data, attachments) = self.parts()?;
        let data =
            if attachments.is_empty() { data } else { STANDARD.encode(pack_value(&data, attachments)?) };
        Ok(Entry { uid: self.from.clone(), nsp: self.namespace.clone(), kind: kind.to_string(), data })
    }

    /// The message for it on a channel.
    ///
    /// # Errors
    /// [`WordError::Json`] where arguments are nested too deep.
    pub fn to_message(&self) -> Result<Vec<u8>, WordError> {
        let (kind, data, attachments) = self.parts()?;
        let data = serde_json::from_str::<&RawValue>(&data)?;
        let message = Message { kind, data: Some(data), uid: self.from.clone(), nsp: self.namespace.clone() };
        Ok(pack_value(&serde_json::to_string(&message)?, attachments)?)
    }

    /// The number, the data as JSON and the bytes that its placeholders stand for.
    fn parts(&self) -> Result<(u64, String, &[Bytes]), WordError> {
        let (kind, data, packet) = match &self.says {
            Says::Order(order) => self.order(order)?,
            Says::Question { request, asks } => question(request, asks)?,
            Says::Answer { request, tells } => answer(request, tells)?,
        };
        Ok((kind, data, packet.map_or(&[], Packet::attachments)))
    }

    fn order<'a>(&self, order: &'a Emitted) -> Result<(u64, String, Option<&'a Packet>), WordError> {
        Ok(match order {
            Emitted::Event { target, packet, is_volatile, is_compressible } => {
                let flags = Flags {
                    volatile: is_volatile.then_some(true),
                    compress: (!is_compressible).then_some(false),
                    timeout: None,
                };
                let opts = options(target, flags);
                (
                    kinds::BROADCAST,
                    json(&Broadcast { packet: event(packet)?, opts, request: None })?,
                    Some(packet),
                )
            }
            Emitted::Join { target, groups } => (kinds::JOIN, json(&change(target, groups))?, None),
            Emitted::Leave { target, groups } => (kinds::LEAVE, json(&change(target, groups))?, None),
            Emitted::Disconnect { target, is_transport } => {
                let opts = options(target, Flags::default());
                (kinds::DISCONNECT, json(&Disconnect { opts, close: Some(*is_transport) })?, None)
            }
            Emitted::ServerSide { namespace: _, packet } => {
                let data = json(&ServerSide { request: None, packet: raw(packet.data())? })?;
                (kinds::SERVER_SIDE, data, Some(packet))
            }
        })
    }
}

fn question<'a>(request: &str, asks: &'a Asks) -> Result<(u64, String, Option<&'a Packet>), WordError> {
    let request = request.to_owned();
    Ok(match asks {
        Asks::Sockets { target } => {
            (kinds::FETCH, json(&Fetch { opts: options(target, Flags::default()), request })?, None)
        }
        Asks::Clients { target, packet, timeout_ms } => {
            let flags = Flags { timeout: timeout_ms.map(Into::into), ..Flags::default() };
            let opts = options(target, flags);
            let data = json(&Broadcast { packet: event(packet)?, opts, request: Some(request) })?;
            (kinds::BROADCAST, data, Some(packet))
        }
        Asks::Servers { packet } => {
            let data = json(&ServerSide { request: Some(request), packet: raw(packet.data())? })?;
            (kinds::SERVER_SIDE, data, Some(packet))
        }
    })
}

fn answer<'a>(request: &str, tells: &'a Tells) -> Result<(u64, String, Option<&'a Packet>), WordError> {
    let request = request.to_owned();
    Ok(match tells {
        Tells::Sockets { sockets } => {
            let sockets = sockets.iter().map(socket).collect();
            (kinds::FETCHED, json(&Fetched { request, sockets })?, None)
        }
        Tells::Clients { clients } => (kinds::CLIENTS, json(&Clients { request, clients: *clients })?, None),
        Tells::Ack { packet, socket } => {
            let argument = argument(packet)?;
            let data = json(&Answer { request, packet: Some(raw(&argument)?), socket: socket.clone() })?;
            (kinds::ACK, data, Some(packet))
        }
        Tells::Server { packet } => {
            let argument = argument(packet)?;
            let data = json(&Answer { request, packet: Some(raw(&argument)?), socket: None })?;
            (kinds::SERVER_SIDE_ANSWER, data, Some(packet))
        }
    })
}

fn json(data: &impl Serialize) -> Result<String, WordError> {
    Ok(serde_json::to_string(data)?)
}

fn raw(json: &str) -> Result<&RawValue, WordError> {
    Ok(serde_json::from_str(json)?)
}

fn event(packet: &Packet) -> Result<Event<'_>, WordError> {
    Ok(Event { kind: PacketKind::Event.number().into(), data: raw(packet.data())? })
}

/// The first argument, as Node.js servers hand on no other.
fn argument(ack: &Packet) -> Result<Cow<'_, str>, WordError> {
    Ok(ack.args().next().map_or(Cow::Borrowed("null"), Cow::Borrowed))
}

fn options(target: &Target, flags: Flags) -> Options {
    Options { rooms: target.groups.clone(), except: target.except.clone(), flags: Some(flags) }
}

fn change(target: &Target, groups: &[String]) -> Groups {
    Groups { opts: options(target, Flags::default()), rooms: groups.to_vec() }
}

fn socket(socket: &RemoteSocket) -> Socket {
    let RemoteSocket { id, groups, data, handshake } = socket.clone();
    Socket { id, handshake, rooms: groups, data }
}
