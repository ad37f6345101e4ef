//! The file of `greenroom export`: what a control plane has promised, as lines of JSON. The first line is an [`ExportHeader`],
//! then comes one [`ExportLine`] for each record, and the last line is an [`ExportEnd`], so that a file that was cut shows.
//!
//! Never changes a record: each is in the file as it is stored (`record`).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the format that this program writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// Whether an export holds the keys that join tokens are signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigningKeys {
    /// It does: whoever reads it can let anybody into any room.
    #[default]
    Included,
    /// It does not: whoever begins with it makes a new key, and tokens that were given out before are refused.
    LeftOut,
}

/// The first line: what the file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportHeader {
    /// [`VERSION`].
    pub greenroom_export: u32,
    /// The version of the program that wrote it.
    pub written_by: String,
    /// Unix milliseconds of the moment that the records are of.
    pub taken_at_ms: u64,
    /// The last term that was used then; 0 when nobody had ever led.
    pub term: u64,
    /// Whether the signing keys are in it.
    pub signing_keys: SigningKeys,
}

/// One record.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExportLine<'a> {
    /// Of which kind, in the word that it is stored under.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// Its key within the kind.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The record as it is stored.
    #[serde(borrow)]
    pub record: &'a RawValue,
}

/// The last line: by which damage shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportEnd {
    /// How many records there are.
    pub records: u64,
    /// SHA-256 of everything before this line, in hex.
    pub sha256: String,
}
