//! Owns RFC 6455 framing: headers, masking, fragments, control frames, close codes and the handshake key.
//! Never owns a socket: bytes come in as slices and go out into buffers.

mod close;
mod decode;
mod encode;
mod handshake;
mod header;
mod mask;

pub use close::{CloseFrame, close_payload};
pub use decode::{Decoder, Event, Feed, WsError};
pub use encode::{server_frame, write_frame};
pub use handshake::{accept_key, client_key, is_client_key};
pub use header::{HEADER_BYTES_MAX, HeaderBytes, Opcode, encode_header};
pub use mask::{MaskKey, mask};

/// Which end of the connection this process is. A client masks what it sends, a server never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Receives masked frames, sends unmasked ones.
    Server,
    /// Receives unmasked frames, sends masked ones.
    Client,
}
