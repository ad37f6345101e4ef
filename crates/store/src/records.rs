//! Types for what is stored: which record is of which kind, and how its bytes are read.
//!
//! Never changes a record's shape: that is `wire`'s.

use greenroom_wire::record::{
    AnswerRecord, AuditRecord, DecisionRecord, DrainRecord, HostRecord, KeyRecord, LeaseRecord, NewsRecord,
    ResultRecord, RoomRecord, ScaleRecord, SigningKeyRecord, TermRecord, TriggerRecord,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Kind, ReadError, Store, Version};

/// A record type of `wire`.
pub trait Record: Serialize + DeserializeOwned {
    /// What it is stored as.
    const KIND: Kind;
    /// The newest version of its shape that this program reads.
    const VERSION_MAX: u32;
}

impl Record for RoomRecord {
    const KIND: Kind = Kind::Room;
    const VERSION_MAX: u32 = 1;
}

impl Record for KeyRecord {
    const KIND: Kind = Kind::Key;
    const VERSION_MAX: u32 = 1;
}

impl Record for AnswerRecord {
    const KIND: Kind = Kind::Answer;
    const VERSION_MAX: u32 = 1;
}

impl Record for ResultRecord {
    const KIND: Kind = Kind::Result;
    const VERSION_MAX: u32 = 1;
}

impl Record for SigningKeyRecord {
    const KIND: Kind = Kind::SigningKey;
    const VERSION_MAX: u32 = 1;
}

impl Record for HostRecord {
    const KIND: Kind = Kind::Host;
    const VERSION_MAX: u32 = 1;
}

impl Record for DecisionRecord {
    const KIND: Kind = Kind::Decision;
    const VERSION_MAX: u32 = 1;
}

impl Record for ScaleRecord {
    const KIND: Kind = Kind::Scale;
    const VERSION_MAX: u32 = 1;
}

impl Record for DrainRecord {
    const KIND: Kind = Kind::Drain;
    const VERSION_MAX: u32 = 1;
}

impl Record for TermRecord {
    const KIND: Kind = Kind::Term;
    const VERSION_MAX: u32 = 1;
}

impl Record for LeaseRecord {
    const KIND: Kind = Kind::Lease;
    const VERSION_MAX: u32 = 1;
}

impl Record for AuditRecord {
    const KIND: Kind = Kind::Audit;
    const VERSION_MAX: u32 = 1;
}

impl Record for NewsRecord {
    const KIND: Kind = Kind::News;
    const VERSION_MAX: u32 = 1;
}

impl Record for TriggerRecord {
    const KIND: Kind = Kind::Trigger;
    const VERSION_MAX: u32 = 1;
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<R> {
    /// Its key.
    pub key: String,
    /// The commit that wrote it.
    pub version: Version,
    /// The record.
    pub record: R,
}

/// Why the records of a kind cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A newer program wrote it. Run that one, or a newer one.
    #[error(
        "{kind} record {key:?} has version {found}, this program reads up to {known}: a newer one wrote it"
    )]
    Newer {
        /// Of which kind.
        kind: Kind,
        /// Which.
        key: String,
        /// Its shape's version.
        found: u32,
        /// What this program reads.
        known: u32,
    },
    /// It is not a record of its kind. The store is damaged; restore it, or delete the record.
    #[error("{kind} record {key:?} cannot be read")]
    Malformed {
        /// Of which kind.
        kind: Kind,
        /// Which.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Records that are decoded before others have their turn: whoever reads many renews its lease meanwhile.
const DECODED_AT_ONCE: usize = 1_024;

/// All records of one type, in the order of their keys. One that cannot be read fails them all: a promise that is
/// silently left out would be broken.
///
/// # Errors
/// When the store cannot be read, or a record is damaged or of a newer program.
pub async fn load<R: Record>(store: &dyn Store) -> Result<Vec<Loaded<R>>, LoadError> {
    let stored = store.load(R::KIND).await?;
    let mut records = Vec::with_capacity(stored.len());
    for stored in stored {
        let record = decode(&stored.key, &stored.bytes)?;
        records.push(Loaded { key: stored.key, version: stored.version, record });
        if records.len().is_multiple_of(DECODED_AT_ONCE) {
            tokio::task::yield_now().await;
        }
    }
    Ok(records)
}

/// One record; `None`: there is none.
///
/// # Errors
/// When the store cannot be read, or the record is damaged or of a newer program.
pub async fn get<R: Record>(store: &dyn Store, key: &str) -> Result<Option<R>, LoadError> {
    let stored = store.get(R::KIND, key).await?;
    stored.map(|stored| decode(&stored.key, &stored.bytes)).transpose()
}

/// Whether a record of this kind is one that this program reads.
///
/// # Errors
/// When it is damaged, or of a newer program.
pub(crate) fn check(kind: Kind, key: &str, bytes: &[u8]) -> Result<(), LoadError> {
    match kind {
        Kind::Room => decode::<RoomRecord>(key, bytes).map(drop),
        Kind::Key => decode::<KeyRecord>(key, bytes).map(drop),
        Kind::Answer => decode::<AnswerRecord>(key, bytes).map(drop),
        Kind::Result => decode::<ResultRecord>(key, bytes).map(drop),
        Kind::SigningKey => decode::<SigningKeyRecord>(key, bytes).map(drop),
        Kind::Host => decode::<HostRecord>(key, bytes).map(drop),
        Kind::Decision => decode::<DecisionRecord>(key, bytes).map(drop),
        Kind::Scale => decode::<ScaleRecord>(key, bytes).map(drop),
        Kind::Drain => decode::<DrainRecord>(key, bytes).map(drop),
        Kind::Term => decode::<TermRecord>(key, bytes).map(drop),
        Kind::Lease => decode::<LeaseRecord>(key, bytes).map(drop),
        Kind::Audit => decode::<AuditRecord>(key, bytes).map(drop),
        Kind::News => decode::<NewsRecord>(key, bytes).map(drop),
        Kind::Trigger => decode::<TriggerRecord>(key, bytes).map(drop),
    }
}

pub(crate) fn decode<R: Record>(key: &str, bytes: &[u8]) -> Result<R, LoadError> {
    let malformed = |source| LoadError::Malformed { kind: R::KIND, key: key.to_owned(), source };
    let found = serde_json::from_slice::<Versioned>(bytes).map_err(malformed)?.version;
    if found > R::VERSION_MAX {
        return Err(LoadError::Newer { kind: R::KIND, key: key.to_owned(), found, known: R::VERSION_MAX });
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Expect, MemoryStore, Write};

    async fn load_error(bytes: &str) -> String {
        let store = MemoryStore::default();
        let write = Write::Put {
            kind: Kind::Host,
            key: "h1".to_owned(),
            bytes: bytes.as_bytes().to_vec(),
            expect: Expect::Any,
        };
        store.commit(Batch::from_iter([write])).await.unwrap();
        let error = load::<HostRecord>(&store).await.unwrap_err();
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        format!("{error}{}", source.unwrap_or_default())
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_named() {
        for (bytes, message) in [
            (
                r#"{"version":2,"host":"h1","more":1}"#,
                "host record \"h1\" has version 2, this program reads up to 1: a newer one wrote it",
            ),
            ("{", "host record \"h1\" cannot be read: EOF while parsing an object at line 1 column 1"),
            (
                r#"{"version":1,"host":""}"#,
                "host record \"h1\" cannot be read: a host name must have 1 to 63 characters, this has 0 at line 1 column 22",
            ),
        ] {
            assert_eq!(load_error(bytes).await, message);
        }
    }
}
