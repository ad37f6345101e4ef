//! What an agent must remember over its own death: one JSON file, replaced whole.
//!
//! Never holds what is reported anew anyway: rooms, connections, health.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use greenroom_core::{HostName, InstanceId, ServerName};
use greenroom_wire::Text;
use greenroom_wire::agent::StartOrder;
use greenroom_wire::rooms::RoomEnded;
use greenroom_wire::token::PublicKeys;
use serde::{Deserialize, Serialize};

/// The file's format; another one is refused.
pub const VERSION: u32 = 1;

/// Everything the next agent process needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// [`VERSION`].
    pub version: u32,
    /// Whose servers these are.
    pub host: Text<HostName>,
    /// Highest term that was obeyed.
    pub term_seen: u64,
    /// The port of the link listener, where running servers look for their agent.
    pub link_port: u16,
    /// The same of the SDK's listener.
    #[serde(default)]
    pub sdk_port: u16,
    /// Keys that JoinTokens are checked with: a server that links again before control is back keeps them.
    pub keys: PublicKeys,
    /// Servers that run or shall run.
    pub servers: Vec<JournalServer>,
    /// Results that control has not acknowledged.
    pub room_ended: Vec<JournalRoomEnded>,
    /// Ports not to be given out, and until when (Unix milliseconds).
    pub quarantined_ports: BTreeMap<u16, u64>,
    /// Servers that ended lately, and when (Unix milliseconds): a late order does not start them again.
    pub ended_servers: BTreeMap<Text<ServerName>, u64>,
}

impl Journal {
    /// The journal of a host that never ran anything.
    #[must_use]
    pub const fn empty(host: HostName) -> Self {
        Self {
            version: VERSION,
            host: Text(host),
            term_seen: 0,
            link_port: 0,
            sdk_port: 0,
            keys: PublicKeys { keys: Vec::new() },
            servers: Vec::new(),
            room_ended: Vec::new(),
            quarantined_ports: BTreeMap::new(),
            ended_servers: BTreeMap::new(),
        }
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalServer {
    /// What was ordered.
    pub order: StartOrder,
    /// Its port, for all its processes.
    pub port: u16,
    /// Its link secret, for all its processes.
    pub link_secret: String,
    /// Number of its present or next process.
    pub restarts: u32,
    /// Unix milliseconds of the first start.
    pub started_at_ms: u64,
    /// The engine's name of its process; absent while none was known to run.
    pub handle: Option<String>,
    /// Its probe has passed.
    pub ready: bool,
    /// It has linked, so it will link again.
    pub linked: bool,
    /// It was told to stop.
    pub stop_reason: Option<String>,
    /// Unix milliseconds of its latest deaths.
    pub deaths_ms: Vec<u64>,
    /// How its last process ended.
    pub last_end: String,
    /// Labels that its process has set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where a shipped Agones SDK of it finds its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agones_port: Option<u16>,
    /// What else its process has said of itself.
    #[serde(default, skip_serializing_if = "JournalSaid::is_empty")]
    pub said: JournalSaid,
}

/// What a process has said of itself over the SDK and says only once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JournalSaid {
    /// That it can take players. Whether it has proven that for long enough is the server's `ready`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ready: bool,
    /// It tells when it is in use, so that its being free says something of its rooms.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tells_use: bool,
    /// That it is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<JournalHeld>,
    /// Its annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Players that are on it.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub players: BTreeSet<String>,
    /// How many there may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub players_max: Option<u32>,
}

impl JournalSaid {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How a process is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalHeld {
    /// Until it says otherwise.
    Allocated,
    /// Until it says otherwise, or until then (Unix milliseconds).
    Reserved {
        /// `None`: until it says otherwise.
        until_ms: Option<u64>,
    },
}

/// One result on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalRoomEnded {
    /// From which server.
    pub server: Text<ServerName>,
    /// From which process of it.
    pub instance: Text<InstanceId>,
    /// The result.
    pub ended: RoomEnded,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refused. Mend its cause and start again; running servers are found again then.
    #[error("the journal {path} cannot be {doing}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It is damaged or of another version. Moved away, its servers are no longer known to any agent and must be
    /// ended by hand.
    #[error("the journal {path} cannot be understood: {message}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct JournalFile {
    path: PathBuf,
}

impl JournalFile {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { path: folder.join("journal.json") }
    }

    /// The journal; `None` when there is none yet.
    pub(crate) fn read(&self) -> Result<Option<Journal>, JournalError> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.failed("read", source)),
        };
        let malformed = |message: String| JournalError::Malformed { path: self.path.clone(), message };
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => {
                return Err(malformed(format!(
                    "it has version {version}, this agent reads version {VERSION}"
                )));
            }
            None => return Err(malformed("it has no version".to_owned())),
        }
        serde_json::from_value(value).map(Some).map_err(|error| malformed(error.to_string()))
    }

    /// Replaces the journal: after a crash at any moment there is the old one or the new one.
    pub(crate) fn write(&self, journal: &Journal) -> Result<(), JournalError> {
        let text = serde_json::to_vec_pretty(journal).expect("a journal has only string keys");
        self.replace(&text).map_err(|source| self.failed("written", source))
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let beside = self.path.with_extension("json.new");
        // It holds link secrets.
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), doing, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../tests/golden/journal-v1.json");

    #[test]
    fn version_1_is_read_and_written_as_it_always_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = JournalFile::new(folder.path());
        assert_eq!(file.read().unwrap(), None);
        std::fs::write(folder.path().join("journal.json"), GOLDEN).unwrap();
        let journal = file.read().unwrap().unwrap();
        assert_eq!(journal.servers[0].handle.as_deref(), Some("process:4242:1234"));
        file.write(&journal).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("journal.json")).unwrap(), GOLDEN.trim_end());
        assert!(!folder.path().join("journal.json.new").exists());
    }

    #[test]
    fn a_journal_that_cannot_be_understood_is_an_error_that_says_why() {
        let cases = [
            ("{", "EOF while parsing"),
            ("{}", "it has no version"),
            ("{\"version\": 2}", "it has version 2, this agent reads version 1"),
            ("{\"version\": 1}", "missing field `host`"),
        ];
        for (text, why) in cases {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("journal.json"), text).unwrap();
            let message = JournalFile::new(folder.path()).read().unwrap_err().to_string();
            assert!(
                message.contains("journal.json cannot be understood") && message.contains(why),
                "{message}"
            );
        }
    }
}
