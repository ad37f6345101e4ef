//! The deciding process's fencing token: raised at each start, and checked with each commit of its holder.
//!
//! Never elects anybody: who raises it last decides.

use greenroom_core::Term;
use greenroom_wire::record::TermRecord;

use crate::records::{self, LoadError};
use crate::{Batch, CommitError, Expect, Kind, Store, Version, Write};

/// The key of the only term record.
pub const KEY: &str = "term";

/// How often a lost race is run again before it is an error.
const ATTEMPTS_MAX: usize = 16;

/// A term that this process raised and nobody else has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldTerm {
    /// The term.
    pub term: Term,
    /// The commit that raised it.
    pub version: Version,
}

impl HeldTerm {
    /// The step that makes a batch fail with [`CommitError::Conflict`] once another process has raised the term. Belongs
    /// into every batch of a control process.
    #[must_use]
    pub fn check(&self) -> Write {
        Write::Check { kind: Kind::Term, key: KEY.to_owned(), expect: Expect::Version(self.version) }
    }
}

/// Why no term could be raised.
#[derive(Debug, thiserror::Error)]
pub enum RaiseError {
    /// The stored term cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The raised term could not be stored, or others raised it each time.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Raises the stored term above itself and above `above` (the highest term an agent has seen; 0 when none is known).
/// Of processes that do so at the same time each gets its own.
///
/// # Errors
/// When the store cannot be read or written, or 16 others were faster.
pub async fn raise(store: &dyn Store, above: Term) -> Result<HeldTerm, RaiseError> {
    let mut attempts = 0;
    loop {
        let stored = records::load::<TermRecord>(store).await?.into_iter().find(|stored| stored.key == KEY);
        let last = stored.as_ref().map_or(0, |stored| stored.record.term);
        let expect = stored.map_or(Expect::Absent, |stored| Expect::Version(stored.version));
        let term = last.max(above.0) + 1;
        let mut batch = Batch::new();
        batch.put_expecting(KEY, &TermRecord { version: 1, term }, expect);
        match store.commit(batch).await {
            Ok(version) => return Ok(HeldTerm { term: Term(term), version }),
            Err(CommitError::Conflict { .. }) if attempts < ATTEMPTS_MAX => attempts += 1,
            Err(error) => return Err(error.into()),
        }
    }
}
