//! Owns the putting together of packets that come with binary attachments.
//! Never waits: an incomplete packet is kept until its next attachment is handed in.

use bytes::Bytes;

use super::{DecodeError, Packet};
use crate::Limits;

/// Reads the messages of one connection into packets. At rest it holds no heap memory. After an error the connection
/// is to be closed; an incomplete packet is dropped by it.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Option<Box<Pending>>,
}

#[derive(Debug)]
struct Pending {
    packet: Packet,
    bytes: usize,
}

impl Decoder {
    /// A decoder at the start of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether attachments are due before the next text.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.pending.is_some()
    }

    /// Takes in a text message. `None`: attachments must follow.
    ///
    /// # Errors
    /// When the text is no packet or attachments are due.
    pub fn handle_text(&mut self, text: &str, limits: &Limits) -> Result<Option<Packet>, DecodeError> {
        if self.pending.take().is_some() {
            return Err(DecodeError::TextInsteadOfAttachment);
        }
        let packet = Packet::parse(text, limits)?;
        if packet.attachments_due == 0 {
            return Ok(Some(packet));
        }
        self.pending = Some(Box::new(Pending { packet, bytes: 0 }));
        Ok(None)
    }

    /// Takes in a binary message, the next attachment. `None`: more must follow.
    ///
    /// # Errors
    /// When none is due, or the attachments together are longer than allowed.
    pub fn handle_binary(
        &mut self,
        attachment: &[u8],
        limits: &Limits,
    ) -> Result<Option<Packet>, DecodeError> {
        let mut pending = self.pending.take().ok_or(DecodeError::UnexpectedAttachment)?;
        pending.bytes = pending.bytes.saturating_add(attachment.len());
        if pending.bytes > limits.attachment_bytes_max {
            return Err(DecodeError::AttachmentsTooLong { bytes_max: limits.attachment_bytes_max });
        }
        pending.packet.attachments.push(Bytes::copy_from_slice(attachment));
        if pending.packet.attachments.len() == pending.packet.attachments_due {
            return Ok(Some(pending.packet));
        }
        self.pending = Some(pending);
        Ok(None)
    }
}
