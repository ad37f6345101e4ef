//! Owns every bound that a remote peer can run into.
//! Never enforces one: the decoders take the limits as an argument.

/// The deepest JSON nesting that the scanner can follow, whatever [`Limits::json_depth_max`] says.
pub const JSON_DEPTH_CEILING: usize = 128;

/// What one remote peer may make this process hold or walk through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one WebSocket message, of all its fragments together, and of one polling body.
    /// Told to clients as `maxPayload`. Default 1,000,000, as the official server has it.
    pub payload_bytes_max: usize,
    /// Binary attachments of one Socket.IO packet. Default 10, as the official parser has it.
    pub attachments_max: usize,
    /// Bytes of all attachments of one Socket.IO packet together. Default 10,000,000.
    pub attachment_bytes_max: usize,
    /// Nesting of arrays and objects in the JSON of one packet, the outermost array counted as one.
    /// Default 64, at most [`JSON_DEPTH_CEILING`]; a larger value counts as the ceiling.
    pub json_depth_max: usize,
    /// Bytes of a namespace with its query string. Default 512.
    pub namespace_bytes_max: usize,
}

impl Limits {
    /// The defaults that the fields name, for use in constants.
    pub const DEFAULT: Self = Self {
        payload_bytes_max: 1_000_000,
        attachments_max: 10,
        attachment_bytes_max: 10_000_000,
        json_depth_max: 64,
        namespace_bytes_max: 512,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
