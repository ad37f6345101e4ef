//! What a store holds, and what a process knows of it.
//!
//! Never late: time and reach are the store's.

use std::collections::{BTreeMap, VecDeque};

use greenroom_core::ServerName;
use greenroom_store::{Batch, CommitError, Kind, ReadError, Stored, Version, Write};
use greenroom_wire::api::AuditAction;
use greenroom_wire::record::{AuditRecord, TermRecord};

/// Batches of one process that are remembered: more than it ever has under way at once.
const MARKS_MAX: usize = 64;

/// The answer to one operation.
#[derive(Debug)]
pub(super) enum Judged {
    Loaded { history: u64, commits: u64, records: Vec<Vec<Stored>> },
    Stored { history: u64, version: u64 },
    Conflict(CommitError),
    Rewound(&'static str),
    Unavailable,
}

impl Judged {
    pub(super) fn loaded(self) -> Result<Vec<Vec<Stored>>, ReadError> {
        match self {
            Self::Loaded { records, .. } => Ok(records),
            Self::Rewound(what) => Err(ReadError::Rewound(what.to_owned())),
            Self::Stored { .. } | Self::Conflict(_) | Self::Unavailable => {
                Err(ReadError::Unavailable("the simulated store does not answer".into()))
            }
        }
    }

    pub(super) fn committed(self) -> Result<Version, CommitError> {
        match self {
            Self::Stored { version, .. } => Ok(Version(version)),
            Self::Conflict(error) => Err(error),
            Self::Rewound(what) => Err(CommitError::Rewound(what.to_owned())),
            Self::Loaded { .. } | Self::Unavailable => {
                Err(CommitError::Unavailable("the simulated store does not answer".into()))
            }
        }
    }
}

/// What a process knows of the store: the same three marks as the real client's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Known {
    #[default]
    Nothing,
    This {
        history: u64,
        commits: u64,
        /// Its own last batch, and the version under which it was stored.
        mark: Option<(u64, u64)>,
    },
    /// Not what it was: commits are refused until something is loaded.
    Rewound(&'static str),
}

impl Known {
    /// The answer to operation `id` has come.
    pub(super) fn learn(&mut self, id: u64, judged: &Judged) {
        let mark_before = match self {
            Self::This { mark, .. } => *mark,
            Self::Nothing | Self::Rewound(_) => None,
        };
        match judged {
            Judged::Loaded { history: 0, .. } => *self = Self::Nothing,
            Judged::Loaded { history, commits, .. } => {
                *self = Self::This { history: *history, commits: *commits, mark: mark_before };
            }
            Judged::Stored { history, version } => {
                *self = Self::This { history: *history, commits: *version, mark: Some((id, *version)) };
            }
            Judged::Rewound(what) => *self = Self::Rewound(what),
            Judged::Conflict(_) | Judged::Unavailable => {}
        }
    }
}

/// Records and the marks that tell one store from another.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    /// 0 while nothing was ever stored.
    history: u64,
    commits: u64,
    term: u64,
    records: BTreeMap<(Kind, String), (Version, Vec<u8>)>,
    /// Which version each process's last batches got, with their numbers.
    writers: BTreeMap<u64, VecDeque<(u64, u64)>>,
}

impl Contents {
    pub(super) fn has(&self, kind: Kind, key: &str) -> bool {
        self.records.contains_key(&(kind, key.to_owned()))
    }

    /// Whether its trail tells that this server was told to stop.
    pub(super) fn has_stop(&self, server: &ServerName) -> bool {
        let audit = self.records.iter().filter(|((kind, _), _)| *kind == Kind::Audit);
        let mut entries =
            audit.filter_map(|(_, (_, bytes))| serde_json::from_slice::<AuditRecord>(bytes).ok());
        entries.any(|record| {
            record.entry.action == AuditAction::ServerStopped && record.entry.subject == server.as_str()
        })
    }

    pub(super) fn count(&self, kind: Kind) -> usize {
        self.records.keys().filter(|(of, _)| *of == kind).count()
    }

    /// The stored term; 0 when there is none.
    pub(super) const fn term(&self) -> u64 {
        self.term
    }

    /// How many batches were stored.
    pub(super) const fn commits(&self) -> u64 {
        self.commits
    }

    /// What is here and not, or not so, in `other`.
    pub(super) fn missing_in(&self, other: &Self) -> Vec<(Kind, String)> {
        let is_kept =
            |id: &(Kind, String), stored: &(Version, Vec<u8>)| other.records.get(id) == Some(stored);
        let missing = self.records.iter().filter(|(id, stored)| !is_kept(id, stored));
        missing.map(|(id, _)| id.clone()).collect()
    }

    fn is_other_than(&self, known: &Known, process: u64) -> Option<&'static str> {
        let Known::This { history, commits, mark } = known else { return None };
        if *history != self.history {
            return Some("it is empty or another one");
        }
        if self.commits < *commits {
            return Some("it has fewer commits than it had");
        }
        mark.is_some_and(|(number, version)| self.version_of(process, number) != Some(version))
            .then_some("a commit is gone or another one")
    }

    /// The version that a batch was stored under, if it is one of its process's last.
    fn version_of(&self, process: u64, number: u64) -> Option<u64> {
        let mut batches = self.writers.get(&process)?.iter();
        batches.find(|(stored, _)| *stored == number).map(|(_, version)| *version)
    }

    pub(super) fn load(&self, known: &mut Known, kinds: &[Kind], process: u64) -> Judged {
        if matches!(known, Known::Rewound(_)) {
            *known = Known::Nothing;
        }
        if let Some(what) = self.is_other_than(known, process) {
            // Told to one who loads, and who may load again.
            *known = Known::Nothing;
            return Judged::Rewound(what);
        }
        let records = kinds.iter().map(|kind| self.of(*kind)).collect();
        Judged::Loaded { history: self.history, commits: self.commits, records }
    }

    fn of(&self, kind: Kind) -> Vec<Stored> {
        let of_kind = self.records.iter().filter(|((of, _), _)| *of == kind);
        let stored = of_kind.map(|((_, key), (version, bytes))| Stored {
            key: key.clone(),
            version: *version,
            bytes: bytes.clone(),
        });
        stored.collect()
    }

    pub(super) fn commit(&mut self, known: &Known, process: u64, number: u64, batch: &Batch) -> Judged {
        if let Known::Rewound(what) = known {
            return Judged::Rewound(what);
        }
        if let Some(what) = self.is_other_than(known, process) {
            return Judged::Rewound(what);
        }
        if let Some(version) = self.version_of(process, number) {
            return Judged::Stored { history: self.history, version };
        }
        for write in batch.writes() {
            let (kind, key, expected) = write.condition();
            let found = self.records.get(&(kind, key.to_owned())).map(|(version, _)| *version);
            if !expected.holds(found) {
                return Judged::Conflict(CommitError::Conflict {
                    kind,
                    key: key.to_owned(),
                    expected,
                    found,
                });
            }
        }
        self.commits += 1;
        if self.history == 0 {
            // As good as random: no two operations have one number.
            self.history = number + 1;
        }
        for write in batch.writes() {
            match write {
                Write::Put { kind, key, bytes, .. } => {
                    if *kind == Kind::Term
                        && let Ok(record) = serde_json::from_slice::<TermRecord>(bytes)
                    {
                        self.term = record.term;
                    }
                    self.records.insert((*kind, key.clone()), (Version(self.commits), bytes.clone()));
                }
                Write::Delete { kind, key, .. } => drop(self.records.remove(&(*kind, key.clone()))),
                Write::Check { .. } => {}
            }
        }
        let batches = self.writers.entry(process).or_default();
        if batches.len() == MARKS_MAX {
            batches.pop_front();
        }
        batches.push_back((number, self.commits));
        Judged::Stored { history: self.history, version: self.commits }
    }
}
