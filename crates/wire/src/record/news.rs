//! Records of what people outside are told: what is to be told, how far each who is told has got, what is wrong and told.
//!
//! Never a secret: the address that it is posted to is none of this.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of three things. Key `item/<number, 20 digits>`, `reader/<name>` or `concern/<about>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewsRecord {
    /// 1.
    pub version: u32,
    /// Which.
    #[serde(flatten)]
    pub entry: NewsEntry,
}

/// What a [`NewsRecord`] holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum NewsEntry {
    /// One thing to be told. Deleted when everybody who wants it was told.
    Item(NewsItem),
    /// How far one who is told has got.
    Reader(NewsReader),
    /// Something that is wrong, and that was told. Deleted when it is over.
    Concern(NewsConcern),
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewsItem {
    /// Counts up by one with each, over restarts too.
    pub number: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Of which sort it is.
    pub event: NewsEvent,
    /// In words, alone.
    pub text: String,
    /// What it has in common with others that are told in the same message, as it goes on after their number. Empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub common: String,
    /// The thing by which it differs from them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The only reader it is for; absent: everybody who wants its sort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewsReader {
    /// As in the configuration.
    pub name: String,
    /// The number of the last item that was told, or did not have to be.
    pub told: u64,
    /// A message up to this item may be on its way: whoever leads next sends exactly that one first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posting: Option<u64>,
    /// Unix milliseconds of the last digest, or of the first time it was heard of.
    pub digest_at_ms: u64,
}

/// Something that is wrong for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewsConcern {
    /// `host/<name>`, `short/<fleet>` or `refused/<fleet>`.
    pub about: String,
    /// Unix milliseconds since when it is known.
    pub since_ms: u64,
    /// In words.
    pub text: String,
}

/// Sorts of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewsEvent {
    /// A policy has changed how many gameservers a fleet should have.
    Scale,
    /// Somebody has ordered something: a number, a freeze, a restart, a drain.
    Order,
    /// A gameserver was told to stop.
    Stop,
    /// Gameservers died or vanished, rooms were lost, starts were refused, a fleet stays short.
    Failure,
    /// A host has come, is silent, is back or is lost.
    Host,
    /// Another control process leads.
    Leader,
    /// How things stand, from time to time.
    Digest,
    /// What a newer version wrote that ran beside this one. Told to everybody.
    #[serde(other)]
    Unknown,
}

impl NewsEvent {
    /// Those that can be chosen. Digests come to whoever has asked for a time between them.
    pub const CHOICES: [Self; 6] =
        [Self::Scale, Self::Order, Self::Stop, Self::Failure, Self::Host, Self::Leader];

    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Order => "order",
            Self::Stop => "stop",
            Self::Failure => "failure",
            Self::Host => "host",
            Self::Leader => "leader",
            Self::Digest => "digest",
            Self::Unknown => "unknown",
        }
    }
}

/// A word that names no sort of news that can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allowed: \"scale\", \"order\", \"stop\", \"failure\", \"host\", \"leader\"")]
pub struct NewsEventError;

impl FromStr for NewsEvent {
    type Err = NewsEventError;

    fn from_str(text: &str) -> Result<Self, NewsEventError> {
        Self::CHOICES.into_iter().find(|event| event.word() == text).ok_or(NewsEventError)
    }
}

impl NewsRecord {
    /// Of version 1.
    #[must_use]
    pub const fn new(entry: NewsEntry) -> Self {
        Self { version: 1, entry }
    }

    /// Under which it is stored; items are read back in the order of their numbers.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.entry {
            NewsEntry::Item(item) => Self::item_key(item.number),
            NewsEntry::Reader(reader) => format!("reader/{}", reader.name),
            NewsEntry::Concern(concern) => Self::concern_key(&concern.about),
        }
    }

    /// That of an item.
    #[must_use]
    pub fn item_key(number: u64) -> String {
        format!("item/{number:020}")
    }

    /// That of a concern.
    #[must_use]
    pub fn concern_key(about: &str) -> String {
        format!("concern/{about}")
    }
}

impl fmt::Display for NewsEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
