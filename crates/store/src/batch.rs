//! What is committed together: writes, and what they take for granted.
//!
//! Never touches a store.

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

use crate::records::Record;
use crate::{Kind, Version};

/// What must be true of a record for the batch to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing: the last writer wins.
    Any,
    /// There is no such record.
    Absent,
    /// It is as it was read.
    Version(Version),
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("in any state"),
            Self::Absent => f.write_str("to be absent"),
            Self::Version(version) => write!(f, "to have version {version}"),
        }
    }
}

impl Expect {
    /// Whether a record whose version is `found` (`None`: absent) is as expected.
    #[must_use]
    pub fn holds(self, found: Option<Version>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => found.is_none(),
            Self::Version(version) => found == Some(version),
        }
    }
}

/// One step of a batch. Every `expect` of a batch is judged against the store as it was before the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Store these bytes under this key, new or instead of what is there.
    Put {
        /// Of which kind.
        kind: Kind,
        /// Under which key.
        key: String,
        /// What.
        bytes: Vec<u8>,
        /// Under which condition.
        expect: Expect,
    },
    /// Delete the record. Deleting what is absent changes nothing.
    Delete {
        /// Of which kind.
        kind: Kind,
        /// Which.
        key: String,
        /// Under which condition.
        expect: Expect,
    },
    /// Change nothing, but refuse the batch unless this holds.
    Check {
        /// Of which kind.
        kind: Kind,
        /// Which.
        key: String,
        /// The condition.
        expect: Expect,
    },
}

impl Write {
    /// The record it is about, and its condition.
    #[must_use]
    pub fn condition(&self) -> (Kind, &str, Expect) {
        match self {
            Self::Put { kind, key, expect, .. }
            | Self::Delete { kind, key, expect }
            | Self::Check { kind, key, expect } => (*kind, key, *expect),
        }
    }
}

/// Writes that are stored together or not at all, in this order: of two for the same key the later one stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    writes: Vec<Write>,
}

impl Batch {
    /// A batch that does nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { writes: Vec::new() }
    }

    /// Adds one step.
    pub fn push(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Adds a record, new or instead of what is stored under `key`.
    pub fn put<R: Record>(&mut self, key: impl Into<String>, record: &R) {
        self.put_expecting(key, record, Expect::Any);
    }

    /// Adds a record under a condition.
    pub fn put_expecting<R: Record>(&mut self, key: impl Into<String>, record: &R, expect: Expect) {
        let bytes = to_bytes(record);
        self.push(Write::Put { kind: R::KIND, key: key.into(), bytes, expect });
    }

    /// Adds the deletion of a record.
    pub fn delete(&mut self, kind: Kind, key: impl Into<String>) {
        self.push(Write::Delete { kind, key: key.into(), expect: Expect::Any });
    }

    /// Whether it does nothing; committing it is then needless, but not wrong.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The steps, in order.
    #[must_use]
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    pub(crate) fn into_writes(self) -> Vec<Write> {
        self.writes
    }
}

impl Extend<Write> for Batch {
    fn extend<I: IntoIterator<Item = Write>>(&mut self, writes: I) {
        self.writes.extend(writes);
    }
}

impl FromIterator<Write> for Batch {
    fn from_iter<I: IntoIterator<Item = Write>>(writes: I) -> Self {
        Self { writes: writes.into_iter().collect() }
    }
}

pub(crate) fn to_bytes(record: &impl Serialize) -> Vec<u8> {
    thread_local! {
        /// Grown once and not for each record; what is kept is as long as it must be.
        static DESK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    DESK.with_borrow_mut(|desk| {
        desk.clear();
        serde_json::to_writer(&mut *desk, record)
            .expect("records have text keys only and no failing serializers");
        desk.clone()
    })
}
