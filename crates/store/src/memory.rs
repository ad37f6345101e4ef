//! The store of one process's memory: for tests, the simulated cluster, and whoever accepts to forget.
//!
//! Never survives its process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Batch, BoxFuture, CommitError, Expect, Kind, ReadError, Store, Stored, Version, Write};

/// Records in memory. A clone is the same store, as a second process on it would see it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    commits: u64,
    records: BTreeMap<(Kind, String), (Version, Vec<u8>)>,
}

impl State {
    fn commit(&mut self, batch: Batch) -> Result<Version, CommitError> {
        for write in batch.writes() {
            let (kind, key, expected) = write.condition();
            if expected == Expect::Any {
                continue;
            }
            let found = self.records.get(&(kind, key.to_owned())).map(|(version, _)| *version);
            if !expected.holds(found) {
                return Err(CommitError::Conflict { kind, key: key.to_owned(), expected, found });
            }
        }
        self.commits += 1;
        let version = Version(self.commits);
        for write in batch.into_writes() {
            match write {
                Write::Put { kind, key, bytes, .. } => {
                    self.records.insert((kind, key), (version, bytes));
                }
                Write::Delete { kind, key, .. } => {
                    self.records.remove(&(kind, key));
                }
                Write::Check { .. } => {}
            }
        }
        Ok(version)
    }

    fn load(&self, kind: Kind) -> Vec<Stored> {
        let records = self.records.iter().filter(|((of, _), _)| *of == kind);
        records
            .map(|((_, key), (version, bytes))| Stored {
                key: key.clone(),
                version: *version,
                bytes: bytes.clone(),
            })
            .collect()
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, kind: Kind, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, ReadError>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = state.records.get(&(kind, key.to_owned()));
        let stored = found.map(|(version, bytes)| Stored {
            key: key.to_owned(),
            version: *version,
            bytes: bytes.clone(),
        });
        Box::pin(std::future::ready(Ok(stored)))
    }

    fn load_all<'a>(&'a self, kinds: &'a [Kind]) -> BoxFuture<'a, Result<Vec<Vec<Stored>>, ReadError>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = kinds.iter().map(|kind| state.load(*kind)).collect();
        Box::pin(std::future::ready(Ok(stored)))
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Version, CommitError>> {
        let outcome = self.state.lock().unwrap_or_else(PoisonError::into_inner).commit(batch);
        Box::pin(std::future::ready(outcome))
    }
}
