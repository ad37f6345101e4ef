//! Owns the shape of session and socket ids: 20 characters of base64url made of 15 random bytes.
//! Never draws the random bytes: the caller does, and may make the first three of them tell its own node.

use std::{fmt, marker::PhantomData, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// Characters of an id.
pub const ID_CHARS: usize = 20;
/// Random bytes that an id is made of.
pub const ID_RANDOM_BYTES: usize = 15;

/// The Engine.IO session id. It is the bearer token of a polling session, so it is shown to nobody but its owner.
pub type Sid = Id<OfSession>;
/// The public id of a socket, different in each namespace, which other players may know.
pub type SocketId = Id<OfSocket>;

/// Marks an id as that of an Engine.IO session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OfSession {}
/// Marks an id as that of a Socket.IO socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OfSocket {}

/// An id of exactly [`ID_CHARS`] characters out of `A-Z a-z 0-9 - _`. `K` keeps the two kinds apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id<K>([u8; ID_CHARS], PhantomData<K>);

/// Why a text is no id. Asking again with the same text fails again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text has another length.
    #[error("an id has 20 characters, not {chars}")]
    Length {
        /// Bytes of the text given.
        chars: usize,
    },
    /// The text has a character that base64url does not know.
    #[error("an id has only the characters A-Z a-z 0-9 - _")]
    Character,
}

impl<K> Id<K> {
    /// Makes an id of random bytes. The same bytes give the same id.
    #[must_use]
    pub fn from_random(bytes: [u8; ID_RANDOM_BYTES]) -> Self {
        let mut chars = [0; ID_CHARS];
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut chars);
        debug_assert_eq!(written, Ok(ID_CHARS), "15 bytes are 20 base64 characters");
        Self(chars, PhantomData)
    }

    /// The id as it is on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only base64url characters are ever stored")
    }
}

impl<K> FromStr for Id<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let chars: [u8; ID_CHARS] =
            text.as_bytes().try_into().map_err(|_| IdError::Length { chars: text.len() })?;
        if chars.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_')) {
            Ok(Self(chars, PhantomData))
        } else {
            Err(IdError::Character)
        }
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<K> serde::Serialize for Id<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_become_twenty_base64url_characters() {
        let cases: [([u8; 15], &str); 3] = [
            ([0; 15], "AAAAAAAAAAAAAAAAAAAA"),
            ([255; 15], "____________________"),
            ([0xfb; 15], "-_v7-_v7-_v7-_v7-_v7"),
        ];
        for (bytes, text) in cases {
            let id = Sid::from_random(bytes);
            assert_eq!(id.as_str(), text);
            assert_eq!(text.parse::<Sid>(), Ok(id));
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        for (text, error) in [
            ("", IdError::Length { chars: 0 }),
            ("AAAAAAAAAAAAAAAAAAAAA", IdError::Length { chars: 21 }),
            ("AAAAAAAAAAAAAAAAAAA=", IdError::Character),
            ("AAAAAAAAAAAAAAAAAA\u{e9}", IdError::Character),
        ] {
            assert_eq!(text.parse::<SocketId>(), Err(error), "{text}");
        }
    }
}
