//! The store of several machines: a Redis, or whatever speaks its words. Behind the feature `redis`.
//!
//! Never guesses: a batch whose answer was lost is sent again under its number until the store says what became of it,
//! and a store that has lost what it had confirmed is told as [`CommitError::Rewound`], not gone on with.
//!
//! One batch is one script, so that it is stored whole or not at all, checked against its expectations and against its
//! number in one step. What is "kept" is what the store's own settings keep: `appendonly yes` and `appendfsync always`
//! for what must outlive the machine. `docs/high-availability.md` has the table of faults and outcomes; each row is a
//! test in `tests/redis`.
//!
//! Three marks tell a store that is not the one it was. Its *history*, a random name that an empty store is given with
//! its first batch; the number of its *commits*, which only grows; and the version under which it stored this process's
//! own last batch, because a replica that took over without it may have given that number to another one.

mod line;
mod replies;

use std::fmt;
use std::thread;
use std::time::Duration;

pub use greenroom_redis::{AddressError, RedisAddress};
use tokio::sync::{mpsc, oneshot};

use crate::{Batch, BoxFuture, CommitError, Kind, ReadError, Store, Stored, Version};

/// Operations that wait for the store; more are refused.
const WAITING_MAX: usize = 1024;

/// How a process reaches its Redis.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// One address, or the name of a primary that sentinels follow: who it is now is asked for each new connection. One
    /// address is that of the primary, a replica takes no writes.
    pub address: RedisAddress,
    /// What all keys begin with: processes of one prefix share one store. Default `greenroom`.
    pub prefix: String,
    /// A store that takes longer for one answer is asked again over a new connection. Default 1 s; for all records of a kind it has
    /// at least 20 s.
    pub answer_within: Duration,
    /// How long an operation is tried before it fails as [`CommitError::Unavailable`]. Default 10 s.
    pub give_up_after: Duration,
}

impl RedisConfig {
    /// The defaults.
    #[must_use]
    pub fn new(address: RedisAddress) -> Self {
        Self {
            address,
            prefix: "greenroom".to_owned(),
            answer_within: Duration::from_secs(1),
            give_up_after: Duration::from_secs(10),
        }
    }
}

/// Why no store can be made.
#[derive(Debug, thiserror::Error)]
pub enum RedisOpenError {
    /// The system gave no random bytes, thread or descriptors.
    #[error("the store's client cannot be started: {0}")]
    System(String),
}

/// Records in a Redis. Two threads of its own speak to it and end with the last clone of the handle: one for commits and what is
/// read between them, and one for what is long, so that nobody's lease runs out because somebody reads everything.
///
/// Whether the store can be reached shows with the first operation; until `give_up_after` has passed each waits for it.
///
/// Once a commit has failed as [`CommitError::Rewound`], all do until the term or the lease was loaded: whoever loads them has been
/// told, and begins anew from what is there. Whoever loads anything else, an export say, takes nobody else's warning away.
#[derive(Clone)]
pub struct RedisStore {
    ops: mpsc::Sender<Op>,
    long: mpsc::Sender<Op>,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

/// What the thread is asked for.
enum Op {
    Load { kinds: Vec<Kind>, done: oneshot::Sender<Result<Vec<Vec<Stored>>, ReadError>> },
    Get { kind: Kind, key: String, done: oneshot::Sender<Result<Option<Stored>, ReadError>> },
    Commit { batch: Batch, done: oneshot::Sender<Result<Version, CommitError>> },
}

impl RedisStore {
    /// Starts the client. Connects with the first operation.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn open(config: RedisConfig) -> Result<Self, RedisOpenError> {
        let ops = serve("store", line::Line::new(config.clone())?)?;
        let long = serve("store-long", line::Line::that_forgets(config)?)?;
        Ok(Self { ops, long })
    }

    /// Where to ask for all records of these kinds.
    fn line_of(&self, kinds: &[Kind]) -> &mpsc::Sender<Op> {
        let is_short = |kind: &Kind| matches!(kind, Kind::Term | Kind::Lease);
        if kinds.iter().all(is_short) { &self.ops } else { &self.long }
    }
}

/// Lets a line be served by a thread until nobody can ask it any more.
fn serve(name: &str, line: line::Line) -> Result<mpsc::Sender<Op>, RedisOpenError> {
    let (ops, waiting) = mpsc::channel(WAITING_MAX);
    let system = |error: std::io::Error| RedisOpenError::System(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    let serve = move || runtime.block_on(line.serve(waiting));
    let _ends_with_the_store = thread::Builder::new().name(name.to_owned()).spawn(serve).map_err(system)?;
    Ok(ops)
}

fn gone() -> Box<dyn std::error::Error + Send + Sync> {
    "the store's client has ended".into()
}

fn full() -> Box<dyn std::error::Error + Send + Sync> {
    format!("{WAITING_MAX} operations wait for the store already").into()
}

impl Store for RedisStore {
    fn load_all<'a>(&'a self, kinds: &'a [Kind]) -> BoxFuture<'a, Result<Vec<Vec<Stored>>, ReadError>> {
        Box::pin(async move {
            let (done, answer) = oneshot::channel();
            let asked = self.line_of(kinds).send(Op::Load { kinds: kinds.to_vec(), done }).await;
            asked.map_err(|_| ReadError::Unavailable(gone()))?;
            answer.await.map_err(|_| ReadError::Unavailable(gone()))?
        })
    }

    fn get<'a>(&'a self, kind: Kind, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, ReadError>> {
        Box::pin(async move {
            let (done, answer) = oneshot::channel();
            match self.ops.try_send(Op::Get { kind, key: key.to_owned(), done }) {
                Ok(()) => answer.await.map_err(|_| ReadError::Unavailable(gone()))?,
                Err(mpsc::error::TrySendError::Closed(_)) => Err(ReadError::Unavailable(gone())),
                Err(mpsc::error::TrySendError::Full(_)) => Err(ReadError::Unavailable(full())),
            }
        })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Version, CommitError>> {
        // Sent before the first poll, so that of two commits the one that was called first is stored first.
        let (done, answer) = oneshot::channel();
        let asked = self.ops.try_send(Op::Commit { batch, done });
        Box::pin(async move {
            match asked {
                Ok(()) => answer.await.map_err(|_| CommitError::Unavailable(gone()))?,
                Err(mpsc::error::TrySendError::Closed(_)) => Err(CommitError::Unavailable(gone())),
                Err(mpsc::error::TrySendError::Full(_)) => Err(CommitError::Unavailable(full())),
            }
        })
    }
}
