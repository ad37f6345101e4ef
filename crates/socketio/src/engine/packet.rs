//! Owns the seven Engine.IO packets and their form in a text or binary frame.
//! Never looks into a message.

use std::borrow::Cow;

/// One Engine.IO packet, borrowed from the frame it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnginePacket<'a> {
    /// `0`: the server opens the session; the payload is [`super::Open`] as JSON.
    Open(&'a str),
    /// `1`: the transport is to be closed.
    Close,
    /// `2`: are you there? `probe` as payload while a transport is tried.
    Ping(&'a str),
    /// `3`: the answer to a ping, with its payload.
    Pong(&'a str),
    /// `4`: a text message.
    Text(&'a str),
    /// A binary message: a binary frame, or `b` and base64 in a polling body.
    Binary(Cow<'a, [u8]>),
    /// `5`: the session moves to this transport.
    Upgrade,
    /// `6`: nothing; ends a waiting polling request.
    Noop,
}

/// Why a frame is no Engine.IO packet. The session is to be closed with "parse error".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnginePacketError {
    /// A text frame without a single character.
    #[error("an engine packet is empty")]
    Empty,
    /// The first character is none of 0 to 6.
    #[error("engine packet type {kind:?} is unknown")]
    UnknownType {
        /// The first character of the frame.
        kind: char,
    },
}

impl<'a> EnginePacket<'a> {
    /// Reads a text frame. What follows the type of a close, upgrade or noop packet is ignored, as peers do.
    ///
    /// # Errors
    /// An empty frame, or a first character other than 0 to 6.
    pub fn decode_text(frame: &'a str) -> Result<Self, EnginePacketError> {
        let mut chars = frame.chars();
        let kind = chars.next().ok_or(EnginePacketError::Empty)?;
        let payload = chars.as_str();
        Ok(match kind {
            '0' => Self::Open(payload),
            '1' => Self::Close,
            '2' => Self::Ping(payload),
            '3' => Self::Pong(payload),
            '4' => Self::Text(payload),
            '5' => Self::Upgrade,
            '6' => Self::Noop,
            _ => return Err(EnginePacketError::UnknownType { kind }),
        })
    }

    /// Reads a binary frame, which is a message as it stands.
    #[must_use]
    pub fn decode_binary(frame: &'a [u8]) -> Self {
        Self::Binary(Cow::Borrowed(frame))
    }

    /// The type character and the payload of a text frame, or `None` for a binary message, which goes into a binary
    /// frame as it is.
    #[must_use]
    pub fn as_text(&self) -> Option<(char, &str)> {
        Some(match self {
            Self::Open(payload) => ('0', payload),
            Self::Close => ('1', ""),
            Self::Ping(payload) => ('2', payload),
            Self::Pong(payload) => ('3', payload),
            Self::Text(payload) => ('4', payload),
            Self::Upgrade => ('5', ""),
            Self::Noop => ('6', ""),
            Self::Binary(_) => return None,
        })
    }

    /// Appends this packet as a whole WebSocket frame: masked with a key (client role), plain without (server role).
    pub fn write_frame(&self, key: Option<crate::ws::MaskKey>, out: &mut Vec<u8>) {
        use crate::ws::{Opcode, encode_header, mask};
        let mut buffer = [0; 4];
        let (opcode, kind, payload) = match self {
            Self::Binary(payload) => (Opcode::Binary, "", payload.as_ref()),
            Self::Open(_)
            | Self::Close
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::Text(_)
            | Self::Upgrade
            | Self::Noop => {
                let (kind, payload) = self.as_text().expect("all but a binary message are text");
                (Opcode::Text, &*kind.encode_utf8(&mut buffer), payload.as_bytes())
            }
        };
        let header = encode_header(opcode, true, kind.len() + payload.len(), key);
        out.extend_from_slice(header.as_slice());
        let start = out.len();
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(payload);
        if let Some(key) = key {
            mask(&mut out[start..], key, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_digit() {
        for (frame, packet) in [
            ("0{}", EnginePacket::Open("{}")),
            ("1", EnginePacket::Close),
            ("2", EnginePacket::Ping("")),
            ("2probe", EnginePacket::Ping("probe")),
            ("3", EnginePacket::Pong("")),
            ("3probe", EnginePacket::Pong("probe")),
            ("4hello", EnginePacket::Text("hello")),
            ("4", EnginePacket::Text("")),
            ("4\u{20ac}", EnginePacket::Text("\u{20ac}")),
            ("5", EnginePacket::Upgrade),
            ("6", EnginePacket::Noop),
        ] {
            let (kind, payload) = packet.as_text().unwrap();
            assert_eq!(format!("{kind}{payload}"), frame);
            assert_eq!(EnginePacket::decode_text(frame), Ok(packet), "{frame}");
        }
        assert_eq!(EnginePacket::decode_binary(&[1, 2]), EnginePacket::Binary(Cow::Borrowed(&[1, 2])));
    }

    #[test]
    fn a_frame_without_a_known_type_is_refused() {
        assert_eq!(EnginePacket::decode_text(""), Err(EnginePacketError::Empty));
        for frame in ["7", "a", "-1", "\u{20ac}uro", " 4", "b"] {
            let kind = frame.chars().next().unwrap();
            assert_eq!(EnginePacket::decode_text(frame), Err(EnginePacketError::UnknownType { kind }));
        }
    }

    #[test]
    fn a_packet_becomes_one_frame_for_either_role() {
        let mut out = Vec::new();
        EnginePacket::Text("hi").write_frame(None, &mut out);
        EnginePacket::Binary(Cow::Borrowed(&[9])).write_frame(None, &mut out);
        EnginePacket::Ping("").write_frame(Some([1, 0, 0, 0]), &mut out);
        assert_eq!(out, [0x81, 3, b'4', b'h', b'i', 0x82, 1, 9, 0x81, 0x81, 1, 0, 0, 0, b'2' ^ 1]);
    }
}
