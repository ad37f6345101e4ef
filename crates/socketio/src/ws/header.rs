//! Owns the header of a frame: opcode, flags, length and mask key.
//! Never looks at a payload.

use super::{MaskKey, Role, WsError};

/// The longest header: two bytes, an eight-byte length and a mask key.
pub const HEADER_BYTES_MAX: usize = 14;
/// The longest payload of a control frame.
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// The next piece of a fragmented message.
    Continuation = 0x0,
    /// UTF-8 text.
    Text = 0x1,
    /// Bytes.
    Binary = 0x2,
    /// The end of the connection, with an optional code and reason.
    Close = 0x8,
    /// A question whether the other end is there.
    Ping = 0x9,
    /// The answer to a ping, with its payload.
    Pong = 0xA,
}

impl Opcode {
    fn from_bits(bits: u8) -> Result<Self, WsError> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xA => Ok(Self::Pong),
            _ => Err(WsError::UnknownOpcode { opcode: bits }),
        }
    }

    pub(super) const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// A header as bytes, at most [`HEADER_BYTES_MAX`] of them.
#[derive(Debug, Clone, Copy)]
pub struct HeaderBytes {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl HeaderBytes {
    /// The bytes to send before the payload.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn push(&mut self, bytes: &[u8]) {
        let at = usize::from(self.len);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.len += u8::try_from(bytes.len()).expect("header parts are at most eight bytes");
    }
}

/// Makes the header of an unfragmented frame (`fin`) or of one piece. With a key the payload must be masked by it.
#[must_use]
pub fn encode_header(opcode: Opcode, fin: bool, payload_bytes: usize, key: Option<MaskKey>) -> HeaderBytes {
    let masked = if key.is_some() { 0x80 } else { 0 };
    let mut header = HeaderBytes { bytes: [0; HEADER_BYTES_MAX], len: 0 };
    header.push(&[opcode as u8 | if fin { 0x80 } else { 0 }]);
    if let Some(short) = u8::try_from(payload_bytes).ok().filter(|len| *len < 126) {
        header.push(&[masked | short]);
    } else if let Ok(middle) = u16::try_from(payload_bytes) {
        header.push(&[masked | 126]);
        header.push(&middle.to_be_bytes());
    } else {
        header.push(&[masked | 127]);
        header.push(&(payload_bytes as u64).to_be_bytes());
    }
    if let Some(key) = key {
        header.push(&key);
    }
    header
}

/// A header that was read and found valid for the role.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    pub(super) fin: bool,
    pub(super) payload_bytes: u64,
    pub(super) key: Option<MaskKey>,
    /// Bytes of the header itself.
    pub(super) bytes: usize,
}

/// Reads the header at the start of `input`. `None` asks for more bytes. A fault is told as soon as the bytes that
/// show it are there, so that it does not matter how the stream was cut.
pub(super) fn read_header(input: &[u8], role: Role) -> Result<Option<Header>, WsError> {
    let &[first, second, ref rest @ ..] = input else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(WsError::ReservedBits);
    }
    let (fin, opcode) = (first & 0x80 != 0, Opcode::from_bits(first & 0x0F)?);
    let masked = second & 0x80 != 0;
    match (role, masked) {
        (Role::Server, false) => return Err(WsError::Unmasked),
        (Role::Client, true) => return Err(WsError::Masked),
        (Role::Server, true) | (Role::Client, false) => {}
    }
    let short = second & 0x7F;
    if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
        return Err(WsError::ControlTooLong);
    }
    if opcode.is_control() && !fin {
        return Err(WsError::ControlFragmented);
    }
    let (payload_bytes, rest) = match short {
        126 => {
            let Some((bytes, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let long = u64::from(u16::from_be_bytes(*bytes));
            if long < 126 {
                return Err(WsError::LengthNotMinimal);
            }
            (long, rest)
        }
        127 => {
            let Some((bytes, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let long = u64::from_be_bytes(*bytes);
            if long > i64::MAX as u64 {
                return Err(WsError::LengthSign);
            }
            if long <= u64::from(u16::MAX) {
                return Err(WsError::LengthNotMinimal);
            }
            (long, rest)
        }
        _ => (u64::from(short), rest),
    };
    let (key, rest) = if masked {
        let Some((key, rest)) = rest.split_first_chunk() else { return Ok(None) };
        (Some(*key), rest)
    } else {
        (None, rest)
    };
    Ok(Some(Header { opcode, fin, payload_bytes, key, bytes: input.len() - rest.len() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        for (len, expected) in [
            (0usize, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 255, 255]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(encode_header(Opcode::Binary, true, len, None).as_slice(), expected, "{len}");
        }
        assert_eq!(
            encode_header(Opcode::Text, false, 3, Some([1, 2, 3, 4])).as_slice(),
            [0x01, 0x83, 1, 2, 3, 4]
        );
    }
}
