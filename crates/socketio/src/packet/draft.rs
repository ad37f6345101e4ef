//! Owns the putting together of events and acks from values, from raw JSON and from received packets.
//! Never sends: a draft becomes a prepared packet.

use bytes::Bytes;
use serde::Serialize;

use super::{
    AckId, JsonError, Packet, PacketKind, Placeholder, PlaceholderError, Prepared, RESERVED_EVENTS, json,
    placeholder, prepared::Parts,
};
use crate::limits::JSON_DEPTH_CEILING;

/// Why a packet cannot be made. Trying again with the same parts fails again.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The event's name belongs to the library.
    #[error("event name {name:?} is reserved")]
    ReservedEvent {
        /// The name given.
        name: String,
    },
    /// A namespace does not begin with `/`, or has a comma or a control character.
    #[error("namespace {namespace:?} cannot be sent")]
    Namespace {
        /// The namespace given.
        namespace: String,
    },
    /// A value cannot become JSON.
    #[error("an argument cannot become json")]
    Argument(#[source] serde_json::Error),
    /// Raw JSON is broken or too deep.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Raw JSON is not an object where one is needed.
    #[error("the payload is not a json object")]
    NotAnObject,
    /// A placeholder does not fit the attachments.
    #[error(transparent)]
    Placeholder(#[from] PlaceholderError),
    /// Arguments with attachments of their own came to a draft that has attachments already.
    #[error("attachments of two packets cannot be joined")]
    AttachmentsTwice,
    /// Only an event can get a further argument or an ack id.
    #[error("a packet of this kind takes no further argument or ack id")]
    NotAnEvent,
}

/// An event or ack in the making.
///
/// ```
/// use greenroom_socketio::packet::Draft;
/// let packet = Draft::event("hello")?.arg(&1)?.prepare("/", None)?;
/// assert_eq!(packet.text(), r#"2["hello",1]"#);
/// # Ok::<(), greenroom_socketio::packet::EncodeError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Draft {
    kind: PacketKind,
    /// The array without its closing bracket.
    json: Vec<u8>,
    attachments: Vec<Bytes>,
    is_compressible: bool,
}

impl Draft {
    /// An event without arguments.
    ///
    /// # Errors
    /// [`EncodeError::ReservedEvent`].
    pub fn event(name: &str) -> Result<Self, EncodeError> {
        if RESERVED_EVENTS.contains(&name) {
            return Err(EncodeError::ReservedEvent { name: name.to_owned() });
        }
        Self::begin(PacketKind::Event).arg(name)
    }

    /// An ack without arguments. It needs the event's ack id in [`Self::prepare`].
    pub fn ack() -> Self {
        Self::begin(PacketKind::Ack)
    }

    fn begin(kind: PacketKind) -> Self {
        Self { kind, json: vec![b'['], attachments: Vec::new(), is_compressible: true }
    }

    /// Whether a transport may compress the packet. Default true. A polling answer is compressed when any packet in it
    /// may be.
    pub fn compress(mut self, is_compressible: bool) -> Self {
        self.is_compressible = is_compressible;
        self
    }

    /// Appends a value as the next argument. Binary parts are [`Placeholder`]s in it, see [`Self::attach`].
    ///
    /// # Errors
    /// [`EncodeError::Argument`].
    pub fn arg<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Self, EncodeError> {
        self.comma();
        serde_json::to_writer(&mut self.json, value).map_err(EncodeError::Argument)?;
        Ok(self)
    }

    /// Appends raw JSON, one value, as the next argument.
    ///
    /// # Errors
    /// [`EncodeError::Json`].
    pub fn raw_arg(mut self, value: &str) -> Result<Self, EncodeError> {
        json::check(value, 1, JSON_DEPTH_CEILING)?;
        self.comma();
        self.json.extend_from_slice(value.as_bytes());
        Ok(self)
    }

    /// Appends bytes as the next argument: a placeholder and its attachment.
    pub fn binary_arg(mut self, bytes: Bytes) -> Self {
        let placeholder = Placeholder::new(self.attachments.len());
        self = self.arg(&placeholder).expect("a placeholder always becomes json");
        self.attach(bytes)
    }

    /// Adds an attachment; the first has number 0. The placeholder for it stands in an argument.
    pub fn attach(mut self, bytes: Bytes) -> Self {
        self.attachments.push(bytes);
        self
    }

    /// Appends all arguments of a received event or ack as they came, with its attachments.
    ///
    /// # Errors
    /// [`EncodeError::AttachmentsTwice`] when both have attachments, whose numbers would clash.
    pub fn args_of(mut self, packet: &Packet) -> Result<Self, EncodeError> {
        if !self.attachments.is_empty() && !packet.attachments().is_empty() {
            return Err(EncodeError::AttachmentsTwice);
        }
        self.attachments.extend_from_slice(packet.attachments());
        if !packet.args_raw().is_empty() {
            self.comma();
            self.json.extend_from_slice(packet.args_raw().as_bytes());
        }
        Ok(self)
    }

    /// Encodes the packet once, for any number of receivers. The draft may be used again, for another namespace say.
    ///
    /// # Errors
    /// [`EncodeError::Namespace`]; [`EncodeError::Placeholder`] when attachments and placeholders do not fit;
    /// [`EncodeError::NotAnEvent`] for an ack without an id.
    pub fn prepare(&self, namespace: &str, id: Option<AckId>) -> Result<Prepared, EncodeError> {
        if self.kind == PacketKind::Ack && id.is_none() {
            return Err(EncodeError::NotAnEvent);
        }
        let json = std::str::from_utf8(&self.json).expect("values and checked texts are utf-8");
        if !self.attachments.is_empty() {
            placeholder::check(&format!("{json}]"), self.attachments.len(), JSON_DEPTH_CEILING)?;
        }
        let prepared = Prepared::assemble(&Parts {
            kind: self.kind,
            namespace,
            id,
            json: &[json, "]"],
            attachments: &self.attachments,
        })?;
        Ok(prepared.compressible(self.is_compressible))
    }

    fn comma(&mut self) {
        if self.json.len() > 1 {
            self.json.push(b',');
        }
    }
}
