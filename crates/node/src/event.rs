//! What a client sent, and the answer it may want.
//! Never decodes before it is asked: arguments are JSON text until then.

use bytes::Bytes;
use greenroom_socketio::packet::{AckId, Args, Draft, EncodeError, Packet, Placeholder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::session::Urgency;
use crate::socket::{Socket, WeakSocket};

/// Why an argument is not what the handler wants. The client's author mends it.
#[derive(Debug, thiserror::Error)]
pub enum ArgError {
    /// The client sent fewer arguments.
    #[error("argument {index} is missing")]
    Missing {
        /// Counted from 0.
        index: usize,
    },
    /// The argument has another shape.
    #[error("argument {index} has another shape: {source}")]
    Shape {
        /// Counted from 0.
        index: usize,
        /// What serde said.
        source: serde_json::Error,
    },
}

/// An event of a client. It owns what it tells, so a handler may keep it or move it into a task.
#[derive(Debug)]
pub struct Event {
    packet: Packet,
    ack: Option<Ack>,
}

impl Event {
    pub(crate) fn new(socket: &Socket, packet: Packet) -> Self {
        let ack = packet.ack_id().map(|id| Ack { socket: socket.downgrade(), id });
        Self { packet, ack }
    }

    /// The event's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.packet.event().unwrap_or_default()
    }

    /// One argument, counted from 0. Binary parts are [`Placeholder`]s in it.
    ///
    /// # Errors
    /// When it is missing or has another shape than `T`.
    pub fn arg<T: DeserializeOwned>(&self, index: usize) -> Result<T, ArgError> {
        read_arg(&self.packet, index)
    }

    /// The JSON text of each argument.
    #[must_use]
    pub fn args(&self) -> Args<'_> {
        self.packet.args()
    }

    /// One argument that is nothing but bytes.
    #[must_use]
    pub fn binary(&self, index: usize) -> Option<Bytes> {
        read_binary(&self.packet, index)
    }

    /// All binary attachments, in the order of their placeholders' numbers.
    #[must_use]
    pub fn attachments(&self) -> &[Bytes] {
        self.packet.attachments()
    }

    /// Takes the answer that the client waits for; `None` when it wants none, or it was taken before.
    pub fn ack(&mut self) -> Option<Ack> {
        self.ack.take()
    }

    /// Answers with one argument, if the client wants an answer and has none yet.
    pub fn reply<T: Serialize + ?Sized>(&mut self, argument: &T) {
        if let Some(ack) = self.ack.take() {
            ack.send(argument);
        }
    }

    /// The same arguments under another name (or the same one), to be sent on without looking into them.
    ///
    /// # Errors
    /// When the name is reserved.
    pub fn forward(&self, name: &str) -> Result<Draft, EncodeError> {
        Draft::event(name)?.args_of(&self.packet)
    }
}

/// The right to answer one event, once. It may be kept and used later; dropped unused the client gets no answer.
#[derive(Debug)]
pub struct Ack {
    socket: WeakSocket,
    id: AckId,
}

impl Ack {
    /// Answers with one argument. Does nothing when the client is gone.
    pub fn send<T: Serialize + ?Sized>(self, argument: &T) {
        self.deliver(Draft::ack().arg(argument));
    }

    /// Answers with what `draft`, begun by [`Draft::ack`], holds: several arguments, or binary ones.
    pub fn send_draft(self, draft: Draft) {
        self.deliver(Ok(draft));
    }

    /// Answers with all arguments of an event, as they came.
    pub fn send_args_of(self, event: &Event) {
        self.deliver(Draft::ack().args_of(&event.packet));
    }

    fn deliver(self, draft: Result<Draft, EncodeError>) {
        if let Some(socket) = self.socket.upgrade() {
            socket.send_draft(draft, Some(self.id), Urgency::Reliable);
        }
    }
}

/// What a client answered to an event of ours.
#[derive(Debug)]
pub struct Reply {
    packet: Packet,
}

impl Reply {
    pub(crate) fn new(packet: Packet) -> Self {
        Self { packet }
    }

    pub(crate) fn packet(&self) -> &Packet {
        &self.packet
    }

    /// One argument, counted from 0.
    ///
    /// # Errors
    /// When it is missing or has another shape than `T`.
    pub fn arg<T: DeserializeOwned>(&self, index: usize) -> Result<T, ArgError> {
        read_arg(&self.packet, index)
    }

    /// The JSON text of each argument.
    #[must_use]
    pub fn args(&self) -> Args<'_> {
        self.packet.args()
    }

    /// One argument that is nothing but bytes.
    #[must_use]
    pub fn binary(&self, index: usize) -> Option<Bytes> {
        read_binary(&self.packet, index)
    }
}

pub(crate) fn read_arg<T: DeserializeOwned>(packet: &Packet, index: usize) -> Result<T, ArgError> {
    let raw = packet.args().nth(index).ok_or(ArgError::Missing { index })?;
    serde_json::from_str(raw).map_err(|source| ArgError::Shape { index, source })
}

fn read_binary(packet: &Packet, index: usize) -> Option<Bytes> {
    let placeholder: Placeholder = read_arg(packet, index).ok()?;
    packet.attachments().get(placeholder.num).cloned()
}
