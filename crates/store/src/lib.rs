//! The `Store` port: where the control plane keeps its promises. Three implementations: memory, file and Redis.
//!
//! Never decides what a promise is and never reads one: records pass through as bytes, [`records`] gives them types.

pub mod export;
pub mod lease;
pub mod records;
#[cfg(feature = "redis")]
pub mod redis;
pub mod term;

mod batch;
mod file;
mod memory;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

pub use batch::{Batch, Expect, Write};
pub use file::{FileStore, OpenError};
pub use memory::MemoryStore;

/// A future of a [`Store`]'s answer.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a record is. Keys are unique within a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Promised rooms.
    Room,
    /// Which room a key has.
    Key,
    /// Answered requests.
    Answer,
    /// Results that the webhook has not taken yet.
    Result,
    /// Keys that JoinTokens are signed with.
    SigningKey,
    /// Agents that have been here.
    Host,
    /// The last decisions on the number of servers.
    Decision,
    /// What a person has ordered of a fleet.
    Scale,
    /// Hosts and zones that a person has taken out of use.
    Drain,
    /// The last term used.
    Term,
    /// Who leads, and until when.
    Lease,
    /// Who changed what.
    Audit,
    /// What people outside are told, and how far that has got.
    News,
    /// Triggers that have fired, and how that went.
    Trigger,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::Room,
        Self::Key,
        Self::Answer,
        Self::Result,
        Self::SigningKey,
        Self::Host,
        Self::Decision,
        Self::Scale,
        Self::Drain,
        Self::Term,
        Self::Lease,
        Self::Audit,
        Self::News,
        Self::Trigger,
    ];

    /// The word it is stored under. Never changes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Key => "key",
            Self::Answer => "answer",
            Self::Result => "result",
            Self::SigningKey => "signing_key",
            Self::Host => "host",
            Self::Decision => "decision",
            Self::Scale => "scale",
            Self::Drain => "drain",
            Self::Term => "term",
            Self::Lease => "lease",
            Self::Audit => "audit",
            Self::News => "news",
            Self::Trigger => "trigger",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The number of the commit that wrote a record. Higher commits have higher numbers and no number is used twice, so a
/// record that was deleted and written again never looks unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: String,
    /// The commit that wrote it.
    pub version: Version,
    /// What was put.
    pub bytes: Vec<u8>,
}

/// Why records could not be read. The caller ends or retries; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store cannot be reached or is damaged.
    #[error("the store cannot be read")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store has lost something that it had confirmed to this process. Told once: a second call loads what is there
    /// now, and its caller begins anew from that.
    #[error("the store came back without what it had confirmed: {0}")]
    Rewound(String),
}

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A record is not as the batch expects: another process wrote it. Nothing of the batch was stored. Read again.
    #[error("{kind} record {key:?} was expected {expected}, {}", found_text(*found))]
    Conflict {
        /// Of which kind.
        kind: Kind,
        /// Which record.
        key: String,
        /// What the batch expected of it.
        expected: Expect,
        /// What is stored; `None` when absent.
        found: Option<Version>,
    },
    /// The store cannot be reached or is full or damaged. Whether the batch was stored is not known: all of it was,
    /// or nothing. The caller must not go on as if either were true; it ends, and its successor loads.
    #[error("the store did not confirm the batch")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store has lost something that it had confirmed to this process. Nothing of the batch was stored. What this
    /// process believes is not what is stored: it ends, and its successor loads.
    #[error("the store came back without what it had confirmed: {0}")]
    Rewound(String),
}

fn found_text(found: Option<Version>) -> String {
    found.map_or_else(|| "it is absent".to_owned(), |version| format!("it has version {version}"))
}

/// Keeps records durably. Shared as `Arc<dyn Store>`; several processes may use one store where the implementation
/// allows it, and [`Expect`] keeps them from overwriting each other.
pub trait Store: fmt::Debug + Send + Sync {
    /// All records of these kinds, as of one moment: one list for each kind, in the order in which they are asked for, each in
    /// the order of its keys.
    fn load_all<'a>(&'a self, kinds: &'a [Kind]) -> BoxFuture<'a, Result<Vec<Vec<Stored>>, ReadError>>;

    /// All records of a kind, in the order of their keys, as of one moment.
    fn load(&self, kind: Kind) -> BoxFuture<'_, Result<Vec<Stored>, ReadError>> {
        Box::pin(async move { Ok(self.load_all(&[kind]).await?.pop().unwrap_or_default()) })
    }

    /// One record, as of one moment between the call and the answer; `None`: there is none. It tells a caller of a rewind, but
    /// not in the place of whoever loads or commits: they are told of it all the same.
    ///
    /// A store that can find one record without reading all of its kind does so.
    fn get<'a>(&'a self, kind: Kind, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, ReadError>> {
        Box::pin(async move { Ok(self.load(kind).await?.into_iter().find(|stored| stored.key == key)) })
    }

    /// Stores all of the batch or nothing of it. When this returns `Ok`, it survives the death of this process and of
    /// the machine, as far as the implementation says. The number given back is the [`Version`] of all records put.
    ///
    /// Two commits that run at the same time are stored in either order; a caller that needs an order awaits the
    /// first. Dropping the future does not undo the commit.
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Version, CommitError>>;
}
