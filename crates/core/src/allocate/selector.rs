//! Which servers a caller would take at all.
//!
//! Never prefers one to another.

use std::collections::BTreeMap;
use std::fmt;

use crate::Revision;
use crate::gameserver::GameServer;

/// What a server must have to be chosen. The default takes any.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// Labels of its host, all of them.
    pub labels: BTreeMap<String, String>,
    /// What it runs.
    pub revision: Option<Revision>,
}

impl Selector {
    /// Whether every server will do.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.labels.is_empty() && self.revision.is_none()
    }

    /// Whether this server will do.
    #[must_use]
    pub fn matches(&self, server: &GameServer) -> bool {
        self.revision.as_ref().is_none_or(|revision| *revision == server.revision)
            && self.matches_labels(&server.labels)
    }

    /// Whether servers on a host with these labels will do, as far as the host goes.
    #[must_use]
    pub fn matches_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> =
            self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        parts.extend(self.revision.iter().map(|revision| format!("revision={revision}")));
        f.write_str(&parts.join(", "))
    }
}
