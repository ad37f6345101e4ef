//! Start: what the store holds, the term, the signing key.
//!
//! Never repairs: a record that cannot be read ends the start, because leaving it out would break a promise.

use greenroom_core::{Term, Timestamp};
use greenroom_store::records::{self, LoadError, Record};
use greenroom_store::term::{self, HeldTerm, RaiseError};
use greenroom_store::{Batch, CommitError, Store};
use greenroom_wire::record::{
    AnswerRecord, AuditRecord, DecisionRecord, DrainRecord, HostRecord, NewsRecord, ResultRecord, RoomRecord,
    ScaleRecord, SigningKeyRecord, TriggerRecord,
};
use greenroom_wire::token::{KeyError, Signer};

use crate::world::Records;

/// Why a control process cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The term could not be raised.
    #[error("the term could not be raised")]
    Term(#[from] RaiseError),
    /// A record cannot be read.
    #[error("the records could not be loaded")]
    Load(#[from] LoadError),
    /// The new signing key could not be stored.
    #[error("the signing key could not be stored")]
    Commit(#[from] CommitError),
    /// The signing key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What a process begins with.
pub(crate) struct Started {
    pub(crate) held: HeldTerm,
    pub(crate) records: Records,
    pub(crate) signer: Signer,
}

/// A term for a process that has the store for itself.
pub(crate) async fn raise(store: &dyn Store) -> Result<HeldTerm, StartError> {
    Ok(term::raise(store, Term(0)).await?)
}

/// Loads under a term that was raised before: no older process can commit any more, so what is loaded stays true.
pub(crate) async fn start(store: &dyn Store, held: HeldTerm, now: Timestamp) -> Result<Started, StartError> {
    let records = promises(store).await?;
    let signer = signer(store, &held, now).await?;
    Ok(Started { held, records, signer })
}

/// Everything that was promised and is not over. Asked for under a term of one's own, else it may change meanwhile.
///
/// # Errors
/// When the store cannot be read, or holds a record that this program does not understand.
pub async fn promises(store: &dyn Store) -> Result<Records, LoadError> {
    Ok(Records {
        rooms: plain::<RoomRecord>(store).await?,
        answers: records::load::<AnswerRecord>(store)
            .await?
            .into_iter()
            .map(|loaded| (loaded.key, loaded.record))
            .collect(),
        results: plain::<ResultRecord>(store).await?,
        hosts: plain::<HostRecord>(store).await?,
        audit: plain::<AuditRecord>(store).await?,
        decisions: plain::<DecisionRecord>(store).await?,
        scale_orders: plain::<ScaleRecord>(store).await?,
        drains: plain::<DrainRecord>(store).await?,
        news: plain::<NewsRecord>(store).await?,
        triggers: plain::<TriggerRecord>(store).await?,
    })
}

async fn plain<R: Record>(store: &dyn Store) -> Result<Vec<R>, LoadError> {
    Ok(records::load::<R>(store).await?.into_iter().map(|loaded| loaded.record).collect())
}

/// The key that tokens are signed with: the youngest that is stored.
pub(crate) async fn youngest_key(store: &dyn Store) -> Result<Option<SigningKeyRecord>, LoadError> {
    Ok(plain::<SigningKeyRecord>(store).await?.into_iter().max_by_key(|record| record.created_at_ms))
}

/// The youngest stored key, or a new one that is stored before its first use.
async fn signer(store: &dyn Store, held: &HeldTerm, now: Timestamp) -> Result<Signer, StartError> {
    let record = match youngest_key(store).await? {
        Some(record) => record,
        None => {
            let record = Signer::generate(now)?;
            let mut batch = Batch::new();
            batch.push(held.check());
            batch.put(record.kid.clone(), &record);
            store.commit(batch).await?;
            record
        }
    };
    Ok(Signer::new(&record)?)
}
