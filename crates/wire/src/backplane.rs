//! What a node and its backplane say to each other: the recoverable events of a namespace and the sessions that may
//! come back to them.
//!
//! The same words travel to a board in the node's own process, to the one in the host's agent (within the link
//! protocol), and to the adapter for Redis. Commands of one node are handled in the order in which they were given, and
//! what a command brought about is told in that order too.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use greenroom_core::InstanceId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Text;
use crate::kept::{RoomCommand, RoomTold};
use crate::link::{MeshTold, Relay};

/// A place in a History: everything up to it has been seen. Its text, `epoch-offset` or `epoch-offset-n` with the epoch
/// in hexadecimal, is what a client carries as its last offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The log's continuity; positions of different epochs do not compare.
    pub epoch: u64,
    /// The number of the last event for many, counted from 1; 0 before the first.
    pub offset: u64,
    /// The number of the last event for this socket alone after that one, counted from 1; 0 for none.
    pub n: u32,
}

impl Position {
    /// Whether this place lies behind `other` in the same epoch.
    #[must_use]
    pub fn is_after(&self, other: &Self) -> bool {
        self.epoch == other.epoch && (self.offset, self.n) > (other.offset, other.n)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.epoch, self.offset)?;
        if self.n > 0 { write!(f, "-{}", self.n) } else { Ok(()) }
    }
}

/// Why a text is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position reads EPOCH-OFFSET or EPOCH-OFFSET-N")]
pub struct PositionError;

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let mut parts = text.split('-');
        let epoch = parts.next().and_then(|part| u64::from_str_radix(part, 16).ok()).ok_or(PositionError)?;
        let offset = parts.next().and_then(|part| part.parse().ok()).ok_or(PositionError)?;
        let n = parts.next().map_or(Ok(0), str::parse).map_err(|_| PositionError)?;
        let position = Self { epoch, offset, n };
        // One place has one text: `01-2`, `1-+2` and `1-2-0` are nobody's.
        if parts.next().is_some() || position.to_string() != text {
            return Err(PositionError);
        }
        Ok(position)
    }
}

/// The secret of a session, which the client shows when it comes back. Its `Debug` tells nothing, so that no log does.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(String);

impl Pid {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for its client and for keys of a store.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pid(..)")
    }
}

/// How much longer than its window a History keeps an event: a client that is there says so every 25 s, and is believed
/// for another 20 s.
pub const RETAINED_BESIDES: Duration = Duration::from_secs(60);

/// One event for many in a History.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// Its number, one more than that of the event before.
    pub offset: u64,
    /// When the backplane took it, Unix milliseconds.
    pub at_ms: u64,
    /// The node that published it.
    pub origin: String,
    /// That node's number for it.
    pub seq: u64,
    /// The event and its receivers.
    pub relay: Relay,
}

/// One event for one socket alone, kept with its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Its place in the session's History.
    pub position: Text<Position>,
    /// The holding node's number for it, by which it knows it again; 0 for one that it took over with the session.
    pub seq: u64,
    /// The encoded Socket.IO text packet, without an offset.
    pub packet: String,
    /// Its binary attachments, standard base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<String>,
}

/// A session as the backplane keeps it: what a socket needs to go on elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The session's secret, constant for its life. Never logged.
    pub pid: Pid,
    /// The namespace, whose History the session belongs to.
    pub namespace: String,
    /// The socket's public id.
    pub socket: String,
    /// The node that holds it.
    pub node: String,
    /// Grows by one whenever a node takes the session; writes of an older one are refused.
    pub generation: u64,
    /// The socket's groups.
    pub groups: Vec<String>,
    /// The program's data.
    pub data: Value,
    /// How long the client may be away, in milliseconds.
    pub window_ms: u64,
    /// Everything up to here has surely arrived at the client; at first where the session began.
    pub safe: Text<Position>,
    /// Events for this socket alone after `safe`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<Own>,
    /// Events for this socket alone up to here were let go to keep the session within its bytes; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_lost: Option<Text<Position>>,
}

/// Node to backplane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Command {
    /// Asks for all that a namespace's History gets from now on. The first of a namespace makes it. Repeated on every new
    /// way to the backplane.
    Attach {
        /// The namespace.
        namespace: String,
        /// The last event that the node has; absent: it knows nothing of this History.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        known: Option<Text<Position>>,
        /// How long a client may be away, in milliseconds. Events are kept for longer, see [`RETAINED_BESIDES`]; of
        /// several nodes the longest counts.
        window_ms: u64,
    },
    /// Asks for events that the History holds, answered by one [`Told::Page`].
    Read {
        /// The namespace.
        namespace: String,
        /// The events after this one.
        after: u64,
    },
    /// Answers [`Told::Wanted`]: what the node still holds, some at a time.
    Restore {
        /// The namespace.
        namespace: String,
        /// The epoch that the events are of.
        epoch: u64,
        /// The last event that was ever there, as far as the node knows.
        head: u64,
        /// Events in order.
        events: Vec<Logged>,
        /// Whether no more come.
        is_last: bool,
    },
    /// Appends an event for many. Handled once per `seq`, however often it is given.
    Publish {
        /// The node's number for it: each greater than the one before.
        seq: u64,
        /// The event and its receivers.
        relay: Relay,
    },
    /// Appends an event for one socket. Handled once per `seq`, as above and out of the same numbers.
    Own {
        /// The node's number for it.
        seq: u64,
        /// The session.
        pid: Pid,
        /// The node's generation of it.
        generation: u64,
        /// The encoded Socket.IO text packet.
        packet: String,
        /// Its binary attachments, standard base64.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<String>,
    },
    /// Begins a session, or tells of it again after the backplane has forgotten it. Harmless where the backplane knows it
    /// in this generation; [`Told::Fenced`] where it knows a later one.
    Open {
        /// All of it.
        session: Box<SessionRecord>,
    },
    /// Replaces what the program may change.
    Update {
        /// The session.
        pid: Pid,
        /// The node's generation of it.
        generation: u64,
        /// All groups.
        groups: Vec<String>,
        /// All data.
        data: Value,
    },
    /// Sessions whose clients are there, and how far they have surely read.
    Touch {
        /// Of each the pid, the node's generation, and the place.
        sessions: Vec<(Pid, u64, Text<Position>)>,
    },
    /// The client's connection is gone: its window begins.
    Away {
        /// The session.
        pid: Pid,
        /// The node's generation of it.
        generation: u64,
    },
    /// The session is over for good.
    Close {
        /// The session.
        pid: Pid,
        /// The node's generation of it.
        generation: u64,
    },
    /// Asks for a session whose client has come to this node. It is the node's from then on; the node that held it is
    /// told [`Told::Fenced`].
    Take {
        /// The node's number of the question.
        ask: u64,
        /// The namespace that the client wants.
        namespace: String,
        /// The session.
        pid: Pid,
    },
    /// About rooms that outlive their process.
    Room(RoomCommand),
}

/// Backplane to node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Told {
    /// Answers [`Command::Attach`]. The events after `head` follow as [`Told::Event`]s.
    Attached {
        /// The namespace.
        namespace: String,
        /// The log's epoch. Another one than the node knew: what it knew is void.
        epoch: u64,
        /// The last event.
        head: u64,
        /// Events up to here are gone.
        floor: u64,
    },
    /// Answers [`Command::Read`].
    Page {
        /// The namespace.
        namespace: String,
        /// The epoch that the events are of.
        epoch: u64,
        /// Events up to here are gone. Greater than what was asked for: the page begins behind a gap.
        floor: u64,
        /// Some of the events, in order and without a gap among them. None: there are no more.
        events: Vec<Logged>,
    },
    /// The backplane has lost the History: the node shall answer with [`Command::Restore`].
    Wanted {
        /// The namespace.
        namespace: String,
    },
    /// The next event of a History.
    Event {
        /// The epoch it is of.
        epoch: u64,
        /// The event.
        event: Logged,
    },
    /// An event for one socket is kept; it may be delivered.
    Owned {
        /// The node's number for it.
        seq: u64,
        /// Its place.
        position: Text<Position>,
    },
    /// An event for one socket was not kept: its session is gone or another node's.
    Disowned {
        /// The node's number for it.
        seq: u64,
    },
    /// Answers [`Command::Take`].
    Taken {
        /// The node's number of the question.
        ask: u64,
        /// The session in its new generation, or why there is none.
        session: Result<Box<SessionRecord>, NotRestored>,
        /// The last event at that moment: what the node must have read before it goes on.
        head: u64,
    },
    /// Another node holds this session now, in this generation or a later one.
    Fenced {
        /// The session.
        pid: Pid,
        /// The generation of its new holder.
        generation: u64,
    },
    /// There are too many sessions: this one is not kept, its client goes on without.
    NotKept {
        /// The session.
        pid: Pid,
    },
    /// About rooms that outlive their process.
    Room(RoomTold),
}

/// What nodes that share a store shout to each other by its channels. Whoever does not hear it misses nothing that it
/// will not learn otherwise, or that has a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Shout {
    /// Anything that servers of a mesh tell and ask each other.
    Mesh(MeshTold),
    /// A broadcast without a History.
    Deliver {
        /// The node that sent it, which has delivered it itself.
        from: Text<InstanceId>,
        /// The event and its receivers.
        relay: Relay,
    },
    /// See [`Told::Fenced`].
    Fenced {
        /// The session.
        pid: Pid,
        /// The generation of its new holder.
        generation: u64,
    },
    /// A History was not whole any more and has a new epoch.
    Anew {
        /// The namespace.
        namespace: String,
        /// Its epoch now, in hexadecimal.
        epoch: String,
    },
}

/// Why a client begins anew. Told to clients that ask, as `greenroom:recovery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotRestored {
    /// It was away for too long.
    WindowOver,
    /// Events that it missed were let go early, to keep the History within its bytes.
    HistoryFull,
    /// It has seen more than the History knows: the log began anew.
    Rewound,
    /// Nobody knows the session.
    UnknownSession,
    /// The program did not want it back.
    Refused,
    /// The backplane cannot be reached.
    Unavailable,
}

impl NotRestored {
    /// The word for it on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WindowOver => "window_over",
            Self::HistoryFull => "history_full",
            Self::Rewound => "rewound",
            Self::UnknownSession => "unknown_session",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_text() {
        for (text, place) in [("1f-0", (0x1f, 0, 0)), ("a-12", (10, 12, 0)), ("a-12-3", (10, 12, 3))] {
            let position: Position = text.parse().unwrap();
            assert_eq!((position.epoch, position.offset, position.n), place);
            assert_eq!(position.to_string(), text);
        }
        for text in ["", "a", "a-", "-1", "a-1-", "a-1-0", "a-01", "A-1", "a-+1", "a-1-2-3", "g-1", "1700-0 "]
        {
            assert_eq!(text.parse::<Position>(), Err(PositionError), "{text:?}");
        }
    }

    #[test]
    fn places_of_different_epochs_do_not_compare() {
        let place = |epoch, offset, n| Position { epoch, offset, n };
        assert!(place(1, 2, 1).is_after(&place(1, 2, 0)));
        assert!(place(1, 3, 0).is_after(&place(1, 2, 9)));
        assert!(!place(1, 2, 1).is_after(&place(1, 2, 1)));
        assert!(!place(2, 9, 0).is_after(&place(1, 2, 0)));
    }
}
