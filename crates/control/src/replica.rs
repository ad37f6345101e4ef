//! One replica of several: watches the lease, leads while it holds it, and watches again.
//!
//! Never leads without a term of its own: the term is raised in the step that takes the lease, above the store's and above
//! every term that an agent or a lease has told of. From that step on the former leader can store nothing, and tells
//! nothing that is not stored; an agent that has heard the new term obeys no older one. What the former leader ordered
//! before is in the report that each agent makes after it has heard the new term, and nothing is planned for a host before
//! that report. So whoever was killed, frozen or cut off can do no harm when it comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_core::Term;
use greenroom_store::lease::{self, Holder, TakeError};
use greenroom_store::records::LoadError;
use greenroom_store::term::{HeldTerm, RaiseError};
use greenroom_store::{Batch, CommitError, ReadError, Store};
use greenroom_wire::record::LeaseRecord;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::ReplicaConfig;
use crate::fence::Fence;
use crate::lease::{Look, Tenure, Watch};
use crate::office::Leader;
use crate::run::{Leadership, Post, Restored, RunError};
use crate::start::{StartError, start};

/// How many looks there are for one while calls wait for a leader.
const AWAITED_LOOKS: u32 = 5;

/// Takes part until `served`; after `stop` it does not lead any more, but still knows who does.
pub(crate) async fn run(
    post: Post,
    config: ReplicaConfig,
    stop: CancellationToken,
    served: CancellationToken,
) -> Result<(), RunError> {
    let replica = Replica {
        post,
        holder: Holder { name: config.name.clone(), url: config.advertise.clone() },
        config,
        begun: Instant::now(),
    };
    replica.take_part(stop, served).await
}

struct Replica {
    post: Post,
    config: ReplicaConfig,
    holder: Holder,
    begun: Instant,
}

impl Replica {
    async fn take_part(self, stop: CancellationToken, served: CancellationToken) -> Result<(), RunError> {
        let mut watch = Watch::new(self.config.times);
        let mut is_known = true;
        loop {
            let look = tokio::select! {
                look = self.look(&mut watch, &mut is_known) => look?,
                () = served.cancelled() => return Ok(()),
            };
            match look {
                // Never broken off: a lease that is taken is handed back.
                Some(Look::Vacant(seen)) if !stop.is_cancelled() => {
                    let asked_at = self.now();
                    if let Some(held) = self.take(seen).await {
                        self.lead(held, asked_at, watch.since(), &stop).await?;
                        watch = Watch::new(self.config.times);
                    }
                }
                Some(Look::Vacant(_) | Look::Former | Look::Held(_)) | None => {}
            }
            let poll = self.config.times.poll;
            let pause = if self.post.office.is_leader_awaited() { poll / AWAITED_LOOKS } else { poll };
            let _served = tokio::time::timeout(pause, served.cancelled()).await;
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.post.store
    }

    /// `None`: the store did not say.
    async fn look(&self, watch: &mut Watch, is_known: &mut bool) -> Result<Option<Look>, RunError> {
        let lease = match lease::read(&**self.store()).await {
            Ok(lease) => lease,
            Err(LoadError::Read(error)) => {
                if std::mem::take(is_known) {
                    warn!(%error, cause = ?std::error::Error::source(&error), "the lease cannot be read");
                }
                self.post.office.see(Err("the store cannot be reached"));
                return Ok(None);
            }
            Err(error) => return Err(RunError::Start(StartError::Load(error))),
        };
        if !std::mem::replace(is_known, true) {
            info!("the lease can be read again");
        }
        if let Some(lease) = &lease {
            self.post.office.know_term(lease.record.term);
        }
        let look = watch.look(self.now(), lease, &self.holder);
        self.post.office.see(match &look {
            Look::Held(LeaseRecord { holder, url, term, .. }) => {
                Ok(Leader { name: holder.clone(), url: url.clone(), term: *term })
            }
            Look::Former => Err("the lease of this replica's former process is not over"),
            Look::Vacant(_) => Err("nobody has taken over yet"),
        });
        Ok(Some(look))
    }

    async fn take(&self, seen: Option<greenroom_store::Version>) -> Option<HeldTerm> {
        let above = Term(self.post.office.term_known());
        match lease::take(&**self.store(), seen, above, &self.holder).await {
            Ok(held) => Some(held),
            Err(TakeError::Lost) => {
                debug!("another replica was faster");
                None
            }
            Err(error @ (TakeError::Load(_) | TakeError::Commit(_))) => {
                warn!(%error, "the lease could not be taken");
                None
            }
        }
    }

    /// Leads until the stop or until the lease is lost; only what no other replica could mend either is an error. `silent_since`:
    /// when the former leader's last sign was seen.
    async fn lead(
        &self,
        held: HeldTerm,
        asked_at: Duration,
        silent_since: Option<Duration>,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        let term = held.term.0;
        self.post.office.know_term(term);
        let outcome = match self.restore(held, asked_at, silent_since).await {
            Ok((restored, fence)) => {
                info!(term, replica = %self.holder.name, "this replica leads");
                Leadership::begin(&self.post, restored, fence, self.begun)?.run(stop.clone()).await
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                info!(term, "leadership handed back");
                Ok(())
            }
            Err(error) if is_passing(&error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(term, %error, cause, "leadership lost; this replica follows");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Reads what was promised, and renews the lease for as long as that takes: the others must not take it from one who has
    /// much to read, or nobody would ever lead.
    async fn restore(
        &self,
        held: HeldTerm,
        asked_at: Duration,
        silent_since: Option<Duration>,
    ) -> Result<(Restored, Fence), RunError> {
        let mut tenure = Tenure::new(self.config.times, asked_at);
        let reading = async {
            let started = start(&**self.store(), held, crate::run::clock()).await?;
            let without_leader = silent_since.map(|since| self.now().saturating_sub(since));
            Restored::of(&self.post, started, without_leader).await
        };
        let restored = tokio::select! {
            restored = reading => restored?,
            error = self.keep_lease(&held, &mut tenure) => return Err(RunError::Store(error)),
        };
        Ok((restored, Fence::leased(held, tenure, self.holder.clone())))
    }

    /// Until a renewal fails.
    async fn keep_lease(&self, held: &HeldTerm, tenure: &mut Tenure) -> CommitError {
        loop {
            tokio::time::sleep(self.config.times.renew).await;
            let asked_at = self.now();
            let mut batch = Batch::new();
            batch.push(held.check());
            batch.push(lease::renewal(held, &self.holder, tenure.next_beat()));
            match self.store().commit(batch).await {
                Ok(_version) => tenure.renewed(asked_at),
                Err(error) => return error,
            }
        }
    }
}

/// Whether the store, or another leader, is the reason.
fn is_passing(error: &RunError) -> bool {
    let read = |error: &LoadError| {
        matches!(error, LoadError::Read(ReadError::Unavailable(_) | ReadError::Rewound(_)))
    };
    match error {
        RunError::Store(_) => true,
        RunError::Start(StartError::Load(error) | StartError::Term(RaiseError::Load(error))) => read(error),
        RunError::Start(StartError::Commit(error) | StartError::Term(RaiseError::Commit(error))) => {
            match error {
                CommitError::Conflict { .. } | CommitError::Unavailable(_) | CommitError::Rewound(_) => true,
            }
        }
        RunError::Start(StartError::Key(_))
        | RunError::NoTokens(_)
        | RunError::Login(_)
        | RunError::Token(_)
        | RunError::AddressInUse(_)
        | RunError::Listen { .. }
        | RunError::Random(_)
        | RunError::Peers(_)
        | RunError::Webhook(_)
        | RunError::NotifyAddress(_)
        | RunError::TriggerAddress(_)
        | RunError::Notify(_)
        | RunError::Serve(_)
        | RunError::Tls(_)
        | RunError::Panicked(_) => false,
    }
}
