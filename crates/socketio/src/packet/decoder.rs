//! Owns the putting together of packets that come with binary attachments.
//! Never waits: an incomplete packet is kept until its next attachment is handed in.

use std::borrow::Cow;

use bytes::Bytes;

use super::{DecodeError, Message, Packet, PacketParser, parser::Bounded};
use crate::Limits;

/// Reads the messages of one connection into packets. In the standard format it holds no heap memory at rest. After an
/// error the connection is to be closed; an incomplete packet is dropped by it.
#[derive(Debug)]
pub struct Decoder(Format);

#[derive(Debug)]
enum Format {
    Standard(Option<Box<Pending>>),
    Other(Box<Bounded>),
}

#[derive(Debug)]
struct Pending {
    packet: Packet,
    bytes: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self(Format::Standard(None))
    }
}

impl Decoder {
    /// A decoder of the standard format, at the start of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder of another format, at the start of a connection.
    #[must_use]
    pub fn of(parser: &dyn PacketParser) -> Self {
        Self(Format::Other(Box::new(Bounded::of(parser))))
    }

    /// Whether the packet at hand goes on in the next message.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        match &self.0 {
            Format::Standard(pending) => pending.is_some(),
            Format::Other(bounded) => bounded.is_waiting(),
        }
    }

    /// Takes in a text message. `None`: more messages must follow.
    ///
    /// # Errors
    /// When the text is no packet or attachments are due.
    pub fn handle_text(&mut self, text: &str, limits: &Limits) -> Result<Option<Packet>, DecodeError> {
        let pending = match &mut self.0 {
            Format::Standard(pending) => pending,
            Format::Other(bounded) => return bounded.handle(&Message::Text(Cow::Borrowed(text)), limits),
        };
        if pending.take().is_some() {
            return Err(DecodeError::TextInsteadOfAttachment);
        }
        let packet = Packet::parse(text, limits)?;
        if packet.attachments_due == 0 {
            return Ok(Some(packet));
        }
        *pending = Some(Box::new(Pending { packet, bytes: 0 }));
        Ok(None)
    }

    /// Takes in a binary message, the next attachment in the standard format. `None`: more must follow.
    ///
    /// # Errors
    /// When none is due, or the attachments together are longer than allowed.
    pub fn handle_binary(&mut self, binary: &[u8], limits: &Limits) -> Result<Option<Packet>, DecodeError> {
        let waiting = match &mut self.0 {
            Format::Standard(pending) => pending,
            Format::Other(bounded) => return bounded.handle(&Message::Binary(Cow::Borrowed(binary)), limits),
        };
        let mut pending = waiting.take().ok_or(DecodeError::UnexpectedAttachment)?;
        pending.bytes = pending.bytes.saturating_add(binary.len());
        if pending.bytes > limits.attachment_bytes_max {
            return Err(DecodeError::AttachmentsTooLong { bytes_max: limits.attachment_bytes_max });
        }
        pending.packet.attachments.push(Bytes::copy_from_slice(binary));
        if pending.packet.attachments.len() == pending.packet.attachments_due {
            return Ok(Some(pending.packet));
        }
        *waiting = Some(pending);
        Ok(None)
    }
}
