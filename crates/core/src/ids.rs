//! The names of things. A name that exists is valid: it is checked once, where it enters the process.
//!
//! Never generates one: whoever creates a thing brings the randomness.

use std::fmt;
use std::str::FromStr;

use smol_str::SmolStr;

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The text is empty or longer than its kind allows.
    #[error("{kind} must have 1 to {chars_max} characters, this has {chars}")]
    Length {
        /// Which name it was to be.
        kind: &'static str,
        /// The bound.
        chars_max: usize,
        /// What came.
        chars: usize,
    },
    /// A character that this kind of name may not have.
    #[error("{kind} {text:?} may not contain {found:?}; allowed are {allowed}")]
    Character {
        /// Which name it was to be.
        kind: &'static str,
        /// The text that was refused.
        text: String,
        /// The first offending character.
        found: char,
        /// The allowed characters, for people.
        allowed: &'static str,
    },
}

fn check(
    kind: &'static str,
    text: &str,
    chars_max: usize,
    allowed: &'static str,
    permits: fn(char) -> bool,
) -> Result<(), InvalidId> {
    // Every allowed character is one byte.
    if (1..=chars_max).contains(&text.len()) && text.bytes().all(|byte| permits(char::from(byte))) {
        return Ok(());
    }
    let chars = text.chars().count();
    if chars == 0 || chars > chars_max {
        return Err(InvalidId::Length { kind, chars_max, chars });
    }
    match text.chars().find(|c| !permits(*c)) {
        Some(found) => Err(InvalidId::Character { kind, text: text.to_owned(), found, allowed }),
        None => Ok(()),
    }
}

const fn is_label(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '-')
}

const fn is_token(c: char) -> bool {
    matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' | '~')
}

const fn is_visible(c: char) -> bool {
    matches!(c, '!'..='~')
}

/// A name type: one private field, so that no unchecked value exists. Up to 23 bytes lie in the value itself and longer ones
/// are shared, so that a copy costs no allocation.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $chars_max:literal, $allowed:literal, $permits:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SmolStr);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check($kind, text, $chars_max, $allowed, $permits)?;
                Ok(Self(SmolStr::new(text)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text_id!(
    /// Name of a Fleet, unique in one control plane: a DNS label, because it becomes part of host names.
    FleetName, "a fleet name", 40, "a-z, 0-9 and -", is_label
);
text_id!(
    /// Name of one GameServer, unique for ever: `<fleet>-<5 random characters>`. It stays over a restart of its
    /// process on the same port; [`InstanceId`] tells the processes apart.
    ServerName, "a gameserver name", 63, "a-z, 0-9 and -", is_label
);
text_id!(
    /// One process of a GameServer: `<server>.<restarts>`. Tokens and reports name the instance, so that what was
    /// promised for a dead process is never honoured by its successor.
    InstanceId, "an instance id", 80, "a-z, A-Z, 0-9, - _ . ~", is_token
);
text_id!(
    /// Name of a Host (a machine that runs one Agent), unique in one control plane.
    HostName, "a host name", 63, "a-z, A-Z, 0-9, - _ . ~", is_token
);
text_id!(
    /// A Room, unique for ever. Made by the control plane.
    RoomId, "a room id", 40, "a-z, A-Z, 0-9, - _ . ~", is_token
);
text_id!(
    /// The key a party, guild or document asks for its room by, unique in one fleet while the room lives.
    RoomKey, "a room key", 128, "visible ASCII without spaces", is_visible
);
text_id!(
    /// A player as the back end names them.
    PlayerId, "a player id", 128, "visible ASCII without spaces", is_visible
);
text_id!(
    /// A Ticket. Made by whoever files it, so that filing it again is harmless.
    TicketId, "a ticket id", 64, "a-z, A-Z, 0-9, - _ . ~", is_token
);
text_id!(
    /// The caller's own name for one request: the same key gets the same answer for ten minutes.
    IdempotencyKey, "an idempotency key", 128, "visible ASCII without spaces", is_visible
);
text_id!(
    /// Hash of a fleet's template (command, environment, ports, probe): same revision, same bytes run.
    Revision, "a revision", 64, "a-z, 0-9 and -", is_label
);

/// Seat number within a room, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeatIndex(pub u16);

/// Who owns a room: raised by one whenever the room gets a new owner. Starts at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomEpoch(pub u32);

/// The deciding control process's fencing token: raised at every start or change of leader. Starts at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_refused_with_the_reason() {
        let cases = [
            ("", "a fleet name must have 1 to 40 characters, this has 0"),
            ("Arena", "a fleet name \"Arena\" may not contain 'A'; allowed are a-z, 0-9 and -"),
            ("a b", "a fleet name \"a b\" may not contain ' '; allowed are a-z, 0-9 and -"),
        ];
        for (text, message) in cases {
            assert_eq!(text.parse::<FleetName>().unwrap_err().to_string(), message);
        }
        assert_eq!("arena-2".parse::<FleetName>().unwrap().as_str(), "arena-2");
        assert_eq!("guild:42".parse::<RoomKey>().unwrap().to_string(), "guild:42");
    }
}
