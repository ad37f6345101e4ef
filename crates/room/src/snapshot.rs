//! A frozen room as bytes: a header that says what it is, then the host in MessagePack with named fields.
//! Never guesses: bytes of another kind, format or version are refused before any state is read.
//!
//! Header: `GRRM`, format (1 byte), room version (4 bytes, little endian), length of the name (1 byte), name.

use serde::Serialize;

use crate::{Room, RoomHost};

const MAGIC: &[u8; 4] = b"GRRM";

/// The snapshot format written and read here.
pub const FORMAT: u8 = 1;

/// Why a room could not be frozen. It goes on unharmed, but cannot move.
#[derive(Debug, thiserror::Error)]
#[error("the {kind} room has state that cannot be serialized: {source}")]
pub struct SnapshotError {
    kind: &'static str,
    source: rmp_serde::encode::Error,
}

/// Why bytes are not a room of this kind. Reading them again changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Not a snapshot, or one cut short within its header.
    #[error("these {bytes} bytes are not a room snapshot")]
    NotASnapshot {
        /// How many came.
        bytes: usize,
    },
    /// Written by a newer or older Greenroom.
    #[error("snapshot format {found} cannot be read, only {FORMAT}")]
    Format {
        /// What the header says.
        found: u8,
    },
    /// Another kind of room.
    #[error("this is a snapshot of a {found:?} room, not of {kind}")]
    Kind {
        /// What the header says.
        found: String,
        /// [`Room::NAME`].
        kind: &'static str,
    },
    /// Written by another version of the game.
    #[error("this snapshot is of version {found} of {kind}, this program has version {version}")]
    Version {
        /// What the header says.
        found: u32,
        /// [`Room::VERSION`].
        version: u32,
        /// [`Room::NAME`].
        kind: &'static str,
    },
    /// The header fits, the state does not: damaged, or the game changed without raising its version.
    #[error("the state of this {kind} room cannot be read: {source}")]
    State {
        /// [`Room::NAME`].
        kind: &'static str,
        /// What the decoder said.
        source: rmp_serde::decode::Error,
    },
}

pub(crate) fn write<R: Room, T: Serialize>(host: &T) -> Result<Vec<u8>, SnapshotError> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(MAGIC);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&R::VERSION.to_le_bytes());
    bytes.push(u8::try_from(R::NAME.len()).expect("checked when the program was compiled"));
    bytes.extend_from_slice(R::NAME.as_bytes());
    rmp_serde::encode::write_named(&mut bytes, host)
        .map_err(|source| SnapshotError { kind: R::NAME, source })?;
    Ok(bytes)
}

impl<R: Room> RoomHost<R> {
    /// Thaws a room that [`HostedRoom::snapshot`](crate::HostedRoom::snapshot) froze, here or on another
    /// machine. It goes on at the very tick.
    pub fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        let (format, version, name, state) =
            read_header(bytes).ok_or(RestoreError::NotASnapshot { bytes: bytes.len() })?;
        if format != FORMAT {
            return Err(RestoreError::Format { found: format });
        }
        if name != R::NAME.as_bytes() {
            let found = String::from_utf8_lossy(name).into_owned();
            return Err(RestoreError::Kind { found, kind: R::NAME });
        }
        if version != R::VERSION {
            return Err(RestoreError::Version { found: version, version: R::VERSION, kind: R::NAME });
        }
        rmp_serde::from_slice(state).map_err(|source| RestoreError::State { kind: R::NAME, source })
    }
}

fn read_header(bytes: &[u8]) -> Option<(u8, u32, &[u8], &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (format, rest) = rest.split_first()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (name_bytes, rest) = rest.split_first()?;
    let (name, state) = rest.split_at_checked(usize::from(*name_bytes))?;
    Some((*format, u32::from_le_bytes(*version), name, state))
}
