//! What a store holds as one file, and back into an empty store: backups, and the way from one kind of store to another.
//!
//! Never stores half a file: what is damaged, unknown or not for this store is refused before anything is written. Term and
//! lease are no promises: the term goes into the first line, and the lease of whoever led is left out.

use std::fmt::Write as _;
use std::time::Duration;

use greenroom_core::{Term, Timestamp};
use greenroom_wire::api::{AuditAction, AuditEntry};
use greenroom_wire::export::{ExportEnd, ExportHeader, ExportLine, SigningKeys, VERSION};
use greenroom_wire::record::{AuditRecord, TermRecord};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::records::{self, LoadError};
use crate::{Batch, CommitError, Expect, Kind, ReadError, Store, Stored, Version, Write, lease, term};

/// Records that one import stores and deletes at most: a Redis takes about a million words in one script, and a step has five.
pub const STEPS_MAX: usize = 200_000;

/// Everything that a store has promised, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    header: ExportHeader,
    /// Kind, key and bytes.
    records: Vec<(Kind, String, Vec<u8>)>,
}

/// Why a file is none that can be imported. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The first line is not that of an export.
    #[error("this is no export of greenroom: its first line is not the header of one")]
    Strange,
    /// A newer program wrote it. Run that one, or a newer one.
    #[error("the export has format {found}, this program reads {VERSION}: a newer one wrote it")]
    Newer {
        /// The format's version.
        found: u32,
    },
    /// The last line is missing: the file was cut.
    #[error(
        "the export is cut: its last line is not the one that ends it; take it from where it came from again"
    )]
    Cut,
    /// Something was changed, added or left out.
    #[error("the export is damaged: {0}; take it from where it came from again")]
    Damaged(String),
    /// A record is of a kind or a shape that this program does not know.
    #[error("line {line} of the export cannot be used")]
    Record {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: LoadError,
    },
    /// A newer program wrote it. Run that one, or a newer one.
    #[error(
        "line {line} of the export has a record of kind {kind:?}, which this program does not know: a newer one wrote it"
    )]
    Kind {
        /// Counted from 1.
        line: usize,
        /// The word.
        kind: String,
    },
}

/// What becomes of what the store holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// A store that is not empty is left alone.
    Refuse,
    /// All of it is deleted, in the step that stores the export.
    Replace,
}

/// What was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// How many records.
    pub records: usize,
    /// How many there were before. None of them is there any more, except where the export has it too.
    pub replaced: usize,
    /// The stored term: above that of the export and above the one that the store had. Whoever leads next raises it again.
    pub term: Term,
}

/// Why an export was not stored. Nothing of it was, except after [`CommitError::Unavailable`]: then all of it, or nothing.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There are promises already.
    #[error("the store is not empty: it has {records} records, of term {term}")]
    NotEmpty {
        /// How many.
        records: usize,
        /// The last term that was used on it.
        term: u64,
    },
    /// Somebody leads on this store. Stop all its replicas first.
    #[error("replica {holder} at {url} leads on this store")]
    Led {
        /// Its name.
        holder: String,
        /// Where it is reached.
        url: String,
    },
    /// More than one batch takes.
    #[error(
        "{steps} records to store and to delete are more than {STEPS_MAX}, the most that one import takes"
    )]
    TooMany {
        /// How many.
        steps: usize,
    },
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] LoadError),
    /// The store refused. A conflict: somebody began to lead on it meanwhile.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Export {
    /// Everything in the store, as of one moment, whoever writes to it meanwhile.
    ///
    /// # Errors
    /// When it cannot be read, or has a record that is damaged or of a newer program.
    pub async fn take(
        store: &dyn Store,
        now: Timestamp,
        signing_keys: SigningKeys,
    ) -> Result<Self, LoadError> {
        let all = store.load_all(&Kind::ALL).await?;
        // Reading each record takes its time; others may be waiting for this thread.
        let reading = tokio::task::spawn_blocking(move || Self::of(all, now, signing_keys));
        reading.await.map_err(|ended| ReadError::Unavailable(ended.into()))?
    }

    fn of(all: Vec<Vec<Stored>>, now: Timestamp, signing_keys: SigningKeys) -> Result<Self, LoadError> {
        let mut header = ExportHeader {
            greenroom_export: VERSION,
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
            taken_at_ms: now.unix_ms(),
            term: 0,
            signing_keys,
        };
        let mut exported = Vec::new();
        for (kind, stored) in Kind::ALL.into_iter().zip(all) {
            for Stored { key, bytes, .. } in stored {
                records::check(kind, &key, &bytes)?;
                match kind {
                    Kind::Term => header.term = records::decode::<TermRecord>(&key, &bytes)?.term,
                    Kind::Lease => {}
                    Kind::SigningKey if signing_keys == SigningKeys::LeftOut => {}
                    Kind::Room
                    | Kind::Key
                    | Kind::Answer
                    | Kind::Result
                    | Kind::SigningKey
                    | Kind::Host
                    | Kind::Decision
                    | Kind::Scale
                    | Kind::Drain
                    | Kind::Audit
                    | Kind::News
                    | Kind::Trigger => exported.push((kind, key, bytes)),
                }
            }
        }
        Ok(Self { header, records: exported })
    }

    /// What the first line says.
    #[must_use]
    pub const fn header(&self) -> &ExportHeader {
        &self.header
    }

    /// How many records there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing was ever promised.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let size = self.records.iter().map(|(_, key, bytes)| key.len() + bytes.len() + 64).sum::<usize>();
        let mut file = Vec::with_capacity(size + 512);
        line(&mut file, &self.header);
        for (kind, key, bytes) in &self.records {
            // Between its words JSON may have line ends, and nowhere else.
            let text = String::from_utf8_lossy(bytes).replace('\n', " ");
            let record: &RawValue = serde_json::from_str(&text).expect("it was read as a record");
            line(&mut file, &ExportLine { kind: kind.as_str().into(), key: key.as_str().into(), record });
        }
        let records = u64::try_from(self.records.len()).unwrap_or(u64::MAX);
        let sha256 = sha256(&file);
        line(&mut file, &ExportEnd { records, sha256 });
        file
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it is cut, damaged, of an unknown version, or has a record that this program does not understand.
    pub fn read(file: &[u8]) -> Result<Self, FileError> {
        let first = file.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let found = serde_json::from_slice::<Format>(first).map_err(|_| FileError::Strange)?.greenroom_export;
        if found != VERSION {
            return Err(FileError::Newer { found });
        }
        let header: ExportHeader = serde_json::from_slice(first).map_err(|_| FileError::Strange)?;
        let lines = file.strip_suffix(b"\n").ok_or(FileError::Cut)?;
        let last = lines.iter().rposition(|byte| *byte == b'\n').ok_or(FileError::Cut)? + 1;
        let end: ExportEnd = serde_json::from_slice(&lines[last..]).map_err(|_| FileError::Cut)?;
        if sha256(&file[..last]) != end.sha256 {
            return Err(FileError::Damaged("its checksum is another one".to_owned()));
        }
        let lines = lines[..last].strip_suffix(b"\n").unwrap_or_default().split(|byte| *byte == b'\n');
        let mut records = Vec::new();
        for (number, text) in (1..).zip(lines).skip(1) {
            records.push(record(number, text)?);
        }
        if u64::try_from(records.len()) != Ok(end.records) {
            let text = format!("it has {} records and should have {}", records.len(), end.records);
            return Err(FileError::Damaged(text));
        }
        Ok(Self { header, records })
    }

    /// Stores all of it or nothing, and beside it an entry of the audit trail that says so, at `now`. The term is raised with it, so
    /// that whoever led on the store before can write nothing more.
    ///
    /// With [`Existing::Replace`] a lease that was not given back is watched for `watch`, longer than a lease lasts: one that
    /// is renewed meanwhile has a leader.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub async fn import(
        &self,
        store: &dyn Store,
        existing: Existing,
        now: Timestamp,
        watch: Duration,
    ) -> Result<Imported, ImportError> {
        let watch = match existing {
            // Where somebody leads there are records.
            Existing::Refuse => None,
            Existing::Replace => Some(watch),
        };
        let held = held(store, watch).await?;
        let all = store.load_all(&Kind::ALL).await.map_err(LoadError::Read)?;
        let before: Vec<(Kind, String)> = Kind::ALL
            .into_iter()
            .zip(all)
            .flat_map(|(kind, stored)| stored.into_iter().map(move |stored| (kind, stored.key)))
            .collect();
        if existing == Existing::Refuse && !before.is_empty() {
            return Err(ImportError::NotEmpty { records: before.len(), term: held.term });
        }
        // One more for the entry of the trail.
        let steps = self.records.len() + before.len() + 1;
        if steps > STEPS_MAX {
            return Err(ImportError::TooMany { steps });
        }
        let term = held.term.max(self.header.term) + 1;
        store.commit(self.batch(&before, &held, term, now)).await?;
        Ok(Imported { records: self.records.len(), replaced: before.len(), term: Term(term) })
    }

    fn batch(&self, before: &[(Kind, String)], held: &Held, term: u64, now: Timestamp) -> Batch {
        let mut batch = Batch::new();
        // Whoever began to lead since then has changed one of the two.
        batch.push(Write::Delete { kind: Kind::Lease, key: lease::KEY.to_owned(), expect: held.lease });
        for (kind, key) in before {
            batch.delete(*kind, key.as_str());
        }
        for (kind, key, bytes) in &self.records {
            let (key, bytes) = (key.clone(), bytes.clone());
            batch.push(Write::Put { kind: *kind, key, bytes, expect: Expect::Any });
        }
        let record = self.audit(before.len(), now);
        batch.put(record.key(), &record);
        batch.put_expecting(term::KEY, &TermRecord { version: 1, term }, held.term_expected);
        batch
    }

    /// The entry of the trail: after the last one that the file has.
    fn audit(&self, replaced: usize, now: Timestamp) -> AuditRecord {
        let numbers = self.records.iter().filter(|(kind, ..)| *kind == Kind::Audit);
        let last = numbers.filter_map(|(_, key, _)| key.parse::<u64>().ok()).max().unwrap_or(0);
        let instead = if replaced > 0 { format!(" in the place of {replaced}") } else { String::new() };
        let reason =
            format!("{} records that were exported under term {}{instead}", self.len(), self.header.term);
        let entry = AuditEntry {
            number: last + 1,
            at_ms: now.unix_ms(),
            who: "import".to_owned(),
            action: AuditAction::StateImported,
            subject: "state".to_owned(),
            reason,
            busy: false,
        };
        AuditRecord { version: 1, entry }
    }
}

/// What tells that nobody leads.
struct Held {
    lease: Expect,
    term: u64,
    term_expected: Expect,
}

/// Looks whether somebody leads, for as long as `watch` says.
async fn held(store: &dyn Store, watch: Option<Duration>) -> Result<Held, ImportError> {
    let seen = lease::read(store).await?;
    if let (Some(first), Some(watch)) = (seen.as_ref().filter(|lease| !lease.record.released), watch) {
        tokio::time::sleep(watch).await;
        let again = lease::read(store).await?;
        if again.as_ref().is_none_or(|again| again.version != first.version) {
            let record = again.map_or_else(|| first.record.clone(), |again| again.record);
            return Err(ImportError::Led { holder: record.holder, url: record.url });
        }
    }
    let term = records::load::<TermRecord>(store).await?.into_iter().find(|stored| stored.key == term::KEY);
    let expect = |version: Option<Version>| version.map_or(Expect::Absent, Expect::Version);
    Ok(Held {
        lease: expect(seen.map(|lease| lease.version)),
        term: term.as_ref().map_or(0, |term| term.record.term),
        term_expected: expect(term.map(|term| term.version)),
    })
}

/// What of the first line tells the format, whatever else there is in it.
#[derive(serde::Deserialize)]
struct Format {
    greenroom_export: u32,
}

fn record(line: usize, text: &[u8]) -> Result<(Kind, String, Vec<u8>), FileError> {
    let read: ExportLine<'_> = serde_json::from_slice(text)
        .map_err(|error| FileError::Damaged(format!("line {line} is no record: {error}")))?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == read.kind && is_exported(*kind));
    let kind = kind.ok_or_else(|| FileError::Kind { line, kind: read.kind.to_string() })?;
    let bytes = read.record.get().as_bytes().to_vec();
    records::check(kind, &read.key, &bytes).map_err(|source| FileError::Record { line, source })?;
    Ok((kind, read.key.into_owned(), bytes))
}

const fn is_exported(kind: Kind) -> bool {
    !matches!(kind, Kind::Term | Kind::Lease)
}

fn line(file: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(&mut *file, value).expect("text keys only and no failing serializers");
    file.push(b'\n');
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    const NOW: Timestamp = Timestamp::from_unix_ms(1);

    fn of(records: usize) -> Export {
        let header = ExportHeader {
            greenroom_export: VERSION,
            written_by: String::new(),
            taken_at_ms: 0,
            term: 3,
            signing_keys: SigningKeys::Included,
        };
        Export { header, records: (0..records).map(|n| (Kind::Host, n.to_string(), Vec::new())).collect() }
    }

    #[tokio::test]
    async fn more_than_one_step_takes_is_refused_whole() {
        let store = MemoryStore::default();
        let refused = of(STEPS_MAX).import(&store, Existing::Refuse, NOW, Duration::ZERO).await.unwrap_err();
        assert!(matches!(refused, ImportError::TooMany { steps } if steps == STEPS_MAX + 1), "{refused}");
        let imported = of(STEPS_MAX - 1).import(&store, Existing::Refuse, NOW, Duration::ZERO).await.unwrap();
        assert_eq!((imported.records, imported.term), (STEPS_MAX - 1, Term(4)));
        // What is deleted counts too; the term and the entry of the trail are records.
        let refused = of(0).import(&store, Existing::Replace, NOW, Duration::ZERO).await.unwrap_err();
        assert!(matches!(refused, ImportError::TooMany { steps } if steps == STEPS_MAX + 2), "{refused}");
    }
}
