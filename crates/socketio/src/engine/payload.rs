//! Owns polling bodies: packets joined by 0x1e, binary messages as `b` and base64.
//! Never reads or writes HTTP.

use std::borrow::Cow;

use base64::{
    Engine as _,
    alphabet::STANDARD as ALPHABET,
    engine::DecodePaddingMode,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
};

use super::{EnginePacket, EnginePacketError};

/// The record separator between two packets.
const SEPARATOR: u8 = 0x1e;

/// Accepts base64 with and without padding, as peers do.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a polling body cannot be read. The request is answered 400 and the session closed with "parse error", except
/// [`PayloadError::TooLong`], which is answered 413.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The body is longer than allowed.
    #[error("a polling body has {bytes} bytes, more than {bytes_max}")]
    TooLong {
        /// Bytes of the body.
        bytes: usize,
        /// The limit that was crossed.
        bytes_max: usize,
    },
    /// The body is not UTF-8.
    #[error("a polling body is not valid utf-8")]
    InvalidUtf8,
    /// A binary message is not base64.
    #[error("a binary message in a polling body is not base64")]
    Base64,
    /// A piece between two separators is no packet.
    #[error(transparent)]
    Packet(#[from] EnginePacketError),
}

/// The packets of one polling body, in order. Ends after the first fault.
#[derive(Debug, Clone)]
pub struct PayloadReader<'a> {
    rest: Option<&'a str>,
}

impl<'a> PayloadReader<'a> {
    /// Begins to read a body.
    ///
    /// # Errors
    /// A body of more than `bytes_max` bytes, or one that is not UTF-8.
    pub fn new(body: &'a [u8], bytes_max: usize) -> Result<Self, PayloadError> {
        if body.len() > bytes_max {
            return Err(PayloadError::TooLong { bytes: body.len(), bytes_max });
        }
        let text = simdutf8::basic::from_utf8(body).map_err(|_| PayloadError::InvalidUtf8)?;
        Ok(Self { rest: Some(text) })
    }
}

impl<'a> Iterator for PayloadReader<'a> {
    type Item = Result<EnginePacket<'a>, PayloadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let piece = match rest.split_once(char::from(SEPARATOR)) {
            Some((piece, after)) => {
                self.rest = Some(after);
                piece
            }
            None => rest,
        };
        let packet = match piece.strip_prefix('b') {
            Some(base64) => LENIENT
                .decode(base64)
                .map(|bytes| EnginePacket::Binary(Cow::Owned(bytes)))
                .map_err(|_| PayloadError::Base64),
            None => EnginePacket::decode_text(piece).map_err(PayloadError::from),
        };
        if packet.is_err() {
            self.rest = None;
        }
        Some(packet)
    }
}

/// Puts one polling body together. The first packet is always taken, later ones only while the body stays within the
/// limit, so that a large packet cannot wait for ever.
#[derive(Debug)]
pub struct PayloadWriter {
    body: Vec<u8>,
    bytes_max: usize,
}

impl PayloadWriter {
    /// An empty body of at most `bytes_max` bytes (for a client: the server's `maxPayload`).
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { body: Vec::new(), bytes_max }
    }

    /// Whether nothing was pushed yet. An empty body must not be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Appends a packet. `false`: it does not fit any more, the body is as before; send it and begin another.
    /// A text with 0x1e in it would be read as two packets: polling has no form for it. Socket.IO packets never have it.
    #[must_use]
    pub fn push(&mut self, packet: &EnginePacket<'_>) -> bool {
        if let EnginePacket::Binary(bytes) = packet {
            let encoded = base64::encoded_len(bytes.len(), true).unwrap_or(usize::MAX);
            return self.separate(encoded.saturating_add(1)) && {
                push_base64(bytes, &mut self.body);
                true
            };
        }
        let (kind, payload) = packet.as_text().expect("all but a binary message are text");
        self.separate(kind.len_utf8() + payload.len()) && {
            self.body.push(kind as u8);
            self.body.extend_from_slice(payload.as_bytes());
            true
        }
    }

    /// Appends what is in polling form already, as [`crate::packet::Prepared::polling`] gives it: one packet or several
    /// with their separators. `false` as with [`Self::push`].
    #[must_use]
    pub fn push_prepared(&mut self, packets: &[u8]) -> bool {
        self.separate(packets.len()) && {
            self.body.extend_from_slice(packets);
            true
        }
    }

    /// The body to send.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.body
    }

    fn separate(&mut self, bytes: usize) -> bool {
        if self.body.is_empty() {
            return true;
        }
        let fits = self.body.len().saturating_add(1).saturating_add(bytes) <= self.bytes_max;
        if fits {
            self.body.push(SEPARATOR);
        }
        fits
    }
}

/// Appends a binary message in polling form.
pub(crate) fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'b');
    let start = out.len();
    out.resize(
        start + base64::encoded_len(bytes.len(), true).expect("an attachment is far below usize::MAX"),
        0,
    );
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("the space was measured");
}

/// Appends a separator.
pub(crate) fn push_separator(out: &mut Vec<u8>) {
    out.push(SEPARATOR);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &[u8]) -> Result<Vec<EnginePacket<'_>>, PayloadError> {
        PayloadReader::new(body, 100)?.collect()
    }

    #[test]
    fn a_body_is_packets_between_record_separators() {
        for (body, packets) in [
            ("4hello", vec![EnginePacket::Text("hello")]),
            (
                "4hello\x1e2\x1e4world",
                vec![EnginePacket::Text("hello"), EnginePacket::Ping(""), EnginePacket::Text("world")],
            ),
            (
                "4hello\x1ebAQIDBA==",
                vec![EnginePacket::Text("hello"), EnginePacket::Binary(Cow::Borrowed(&[1, 2, 3, 4]))],
            ),
            ("bAQIDBA", vec![EnginePacket::Binary(Cow::Borrowed(&[1, 2, 3, 4]))]),
            ("b", vec![EnginePacket::Binary(Cow::Borrowed(&[]))]),
            ("6", vec![EnginePacket::Noop]),
        ] {
            assert_eq!(read(body.as_bytes()), Ok(packets), "{body:?}");
        }
    }

    #[test]
    fn a_faulty_body_is_refused_whole() {
        let too_long = [b'4'; 101];
        for (body, error) in [
            (&b""[..], PayloadError::Packet(EnginePacketError::Empty)),
            (b"4a\x1e", PayloadError::Packet(EnginePacketError::Empty)),
            (b"4a\x1e\x1e4b", PayloadError::Packet(EnginePacketError::Empty)),
            (b"abc", PayloadError::Packet(EnginePacketError::UnknownType { kind: 'a' })),
            (b"b!", PayloadError::Base64),
            (b"4\xff", PayloadError::InvalidUtf8),
            (&too_long, PayloadError::TooLong { bytes: 101, bytes_max: 100 }),
        ] {
            assert_eq!(read(body), Err(error), "{body:?}");
        }
    }

    #[test]
    fn a_body_may_be_as_long_as_the_limit() {
        let body = [b'4'; 100];
        assert_eq!(read(&body).map(|packets| packets.len()), Ok(1));
    }

    #[test]
    fn a_reader_ends_after_a_fault() {
        let mut reader = PayloadReader::new(b"x\x1e4a", 100).unwrap();
        assert!(reader.next().unwrap().is_err());
        assert!(reader.next().is_none());
    }

    #[test]
    fn a_writer_takes_the_first_packet_always_and_others_while_they_fit() {
        let mut writer = PayloadWriter::new(8);
        assert!(writer.is_empty());
        assert!(writer.push(&EnginePacket::Text("hello")));
        assert!(!writer.push(&EnginePacket::Text("x")));
        assert!(writer.push(&EnginePacket::Noop));
        assert_eq!(writer.finish(), b"4hello\x1e6");
        let mut writer = PayloadWriter::new(2);
        assert!(writer.push_prepared(b"4long\x1eb"));
        assert!(!writer.push(&EnginePacket::Binary(Cow::Borrowed(&[]))));
        assert_eq!(writer.finish(), b"4long\x1eb");
    }

    fn packet() -> impl Strategy<Value = (u8, String, Vec<u8>)> {
        (0u8..8, "[^\x1e]{0,12}", prop::collection::vec(any::<u8>(), 0..20))
    }

    proptest! {
        #[test]
        fn reading_what_was_written_gives_the_same_packets(parts in prop::collection::vec(packet(), 1..8)) {
            let packets: Vec<EnginePacket<'_>> = parts
                .iter()
                .map(|(kind, text, bytes)| match kind {
                    0 => EnginePacket::Open(text),
                    1 => EnginePacket::Close,
                    2 => EnginePacket::Ping(text),
                    3 => EnginePacket::Pong(text),
                    4 => EnginePacket::Text(text),
                    5 => EnginePacket::Upgrade,
                    6 => EnginePacket::Noop,
                    _ => EnginePacket::Binary(Cow::Borrowed(bytes)),
                })
                .collect();
            let mut writer = PayloadWriter::new(usize::MAX);
            for packet in &packets {
                prop_assert!(writer.push(packet));
            }
            let body = writer.finish();
            let read: Result<Vec<_>, _> = PayloadReader::new(&body, usize::MAX).unwrap().collect();
            prop_assert_eq!(read, Ok(packets));
        }
    }
}
