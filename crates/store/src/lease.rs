//! The lease in the store: read, taken together with a term, renewed, given back.
//!
//! Never looks at a clock: whether an old lease is over is for the caller to say. A lease is taken by compare-and-set, in
//! the same batch that raises the term, so that of two who want it one gets it, and its former holder can store nothing
//! more.

use greenroom_core::Term;
use greenroom_wire::record::{LeaseRecord, TermRecord};

use crate::records::{self, LoadError, Loaded};
use crate::term::{self, HeldTerm};
use crate::{Batch, CommitError, Expect, Kind, Store, Version, Write};

/// The key of the only lease record.
pub const KEY: &str = "lease";

/// Who a replica is, as its lease says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name among the replicas.
    pub name: String,
    /// Where the others reach it.
    pub url: String,
}

/// Why a lease was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// Another replica was faster, or the holder has renewed it. Watch on.
    #[error("another replica was faster")]
    Lost,
    /// The stored term cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Whether it was taken is not known. Watch on: a lease taken by nobody runs out.
    #[error(transparent)]
    Commit(CommitError),
}

/// The lease as it is stored; `None`: nobody ever led.
///
/// # Errors
/// When the store cannot be read or the record is damaged.
pub async fn read(store: &dyn Store) -> Result<Option<Loaded<LeaseRecord>>, LoadError> {
    Ok(records::load::<LeaseRecord>(store).await?.into_iter().find(|loaded| loaded.key == KEY))
}

/// Takes the lease that was seen at version `seen` (`None`: there was none), with a term above the stored one and above
/// `above`, the highest that anybody is known to have obeyed.
///
/// # Errors
/// [`TakeError::Lost`] when the lease or the term has changed since.
pub async fn take(
    store: &dyn Store,
    seen: Option<Version>,
    above: Term,
    holder: &Holder,
) -> Result<HeldTerm, TakeError> {
    let stored = records::load::<TermRecord>(store).await?.into_iter().find(|stored| stored.key == term::KEY);
    let last = stored.as_ref().map_or(0, |stored| stored.record.term);
    let term = last.max(above.0) + 1;
    let expect = |version: Option<Version>| version.map_or(Expect::Absent, Expect::Version);
    let mut batch = Batch::new();
    batch.put_expecting(
        term::KEY,
        &TermRecord { version: 1, term },
        expect(stored.map(|stored| stored.version)),
    );
    batch.put_expecting(KEY, &record(term, holder, 0, false), expect(seen));
    match store.commit(batch).await {
        Ok(version) => Ok(HeldTerm { term: Term(term), version }),
        Err(CommitError::Conflict { .. }) => Err(TakeError::Lost),
        Err(error) => Err(TakeError::Commit(error)),
    }
}

/// The step that renews a lease for the `beat`-th time. Belongs into a batch that checks the term.
#[must_use]
pub fn renewal(held: &HeldTerm, holder: &Holder, beat: u64) -> Write {
    put(&record(held.term.0, holder, beat, false))
}

/// The step that gives a lease back. Belongs into a batch that checks the term.
#[must_use]
pub fn release(held: &HeldTerm, holder: &Holder, beat: u64) -> Write {
    put(&record(held.term.0, holder, beat, true))
}

fn record(term: u64, holder: &Holder, beat: u64, released: bool) -> LeaseRecord {
    LeaseRecord { version: 1, term, holder: holder.name.clone(), url: holder.url.clone(), beat, released }
}

fn put(record: &LeaseRecord) -> Write {
    Write::Put {
        kind: Kind::Lease,
        key: KEY.to_owned(),
        bytes: crate::batch::to_bytes(record),
        expect: Expect::Any,
    }
}
