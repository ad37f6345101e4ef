//! Owns the writing of whole frames.
//! Never fragments: a message is one frame.

use bytes::Bytes;

use super::{MaskKey, Opcode, encode_header, mask};

/// Appends one whole frame to `out`: masked with a key (client role), as it is without one (server role).
/// A control payload must have at most 125 bytes; a longer one is cut.
pub fn write_frame(opcode: Opcode, payload: &[u8], key: Option<MaskKey>, out: &mut Vec<u8>) {
    let payload = if opcode.is_control() { &payload[..payload.len().min(125)] } else { payload };
    let header = encode_header(opcode, true, payload.len(), key);
    out.reserve(header.as_slice().len() + payload.len());
    out.extend_from_slice(header.as_slice());
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        mask(&mut out[start..], key, 0);
    }
}

/// One whole unmasked frame in one piece of shared memory, ready for any number of sockets.
#[must_use]
pub fn server_frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = Vec::new();
    write_frame(opcode, payload, None, &mut out);
    Bytes::from(out)
}
