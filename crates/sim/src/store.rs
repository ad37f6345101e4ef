//! The simulated store, shared by all control processes: late, out of reach, silent after it has stored, back without its
//! last writes, back with nothing.
//!
//! Never does what a Redis with our scripts would not: a batch is stored whole or not at all and once, and whoever knows of
//! more than is there is told so.

mod contents;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use greenroom_core::{HostName, RoomId, ServerName, Timestamp};
use greenroom_store::records::Record;
use greenroom_store::{Batch, BoxFuture, CommitError, Kind, ReadError, Store, Stored, Version, Write};
use greenroom_wire::api::DrainKind;
use greenroom_wire::record::DecisionRecord;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::invariant::Broken;
use contents::{Contents, Judged, Known};

/// How long an operation is tried: as the client of the real one does.
const GIVE_UP_MS: u64 = 10_000;
/// Time between two tries.
const RETRY_MS: u64 = 200;

/// How a commit fails whose process has the store for itself. The process ends either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failing {
    /// Nothing of the batch was stored.
    Lost,
    /// All of it was stored, and nobody was told.
    Unconfirmed,
}

/// The store. A clone is the same one.
#[derive(Debug, Clone)]
pub(crate) struct SimStore {
    inner: Arc<Mutex<Inner>>,
}

/// One process's way to it.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    store: SimStore,
    replica: usize,
    process: u64,
    /// Under which term its holder writes, as it believes.
    term: Option<u64>,
}

/// What the store has lost although it had confirmed it.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    pub(crate) rooms: BTreeSet<RoomId>,
    pub(crate) answers: BTreeSet<String>,
    pub(crate) results: BTreeSet<String>,
    /// How often.
    pub(crate) times: u64,
}

#[derive(Debug)]
struct Inner {
    rng: ChaCha8Rng,
    now_ms: u64,
    /// Whether operations take time at all.
    is_remote: bool,
    slow_until_ms: u64,
    down_until_ms: u64,
    cut_until_ms: BTreeMap<usize, u64>,
    contents: Contents,
    /// What a copy holds that is not written to any more, and when it takes over.
    copy: Option<(u64, Contents)>,
    known: BTreeMap<u64, Known>,
    ops: BTreeMap<u64, Op>,
    op_next: u64,
    failing: Option<Failing>,
    lost: Lost,
    decided: Vec<DecisionRecord>,
    rooms_ever: BTreeSet<RoomId>,
    broken: Option<Broken>,
    refused: u64,
}

#[derive(Debug)]
struct Op {
    replica: usize,
    process: u64,
    term: Option<u64>,
    what: What,
    begun_ms: u64,
    reaches_ms: u64,
    back_ms: u64,
    judged: Option<Judged>,
    over: Option<Judged>,
    /// Whether nobody waits for the answer any more.
    is_dropped: bool,
}

#[derive(Debug)]
enum What {
    Load(Vec<Kind>),
    Commit(Batch),
}

impl SimStore {
    /// An empty store. A remote one takes time.
    pub(crate) fn new(seed: u64, is_remote: bool) -> Self {
        let inner = Inner {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now_ms: 0,
            is_remote,
            slow_until_ms: 0,
            down_until_ms: 0,
            cut_until_ms: BTreeMap::new(),
            contents: Contents::default(),
            copy: None,
            known: BTreeMap::new(),
            ops: BTreeMap::new(),
            op_next: 0,
            failing: None,
            lost: Lost::default(),
            decided: Vec::new(),
            rooms_ever: BTreeSet::new(),
            broken: None,
            refused: 0,
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way of a process to it.
    pub(crate) fn line(&self, replica: usize, process: u64) -> Line {
        Line { store: self.clone(), replica, process, term: None }
    }

    /// Lets time pass.
    pub(crate) fn pass_time(&self, now: Timestamp) {
        let mut inner = self.inner();
        inner.now_ms = now.unix_ms();
        if inner.copy.as_ref().is_some_and(|(at, _)| *at <= inner.now_ms)
            && let Some((_, copy)) = inner.copy.take()
        {
            inner.become_of(copy);
        }
        let waiting: Vec<u64> = inner.ops.keys().copied().collect();
        for id in waiting {
            inner.progress(id);
        }
    }

    /// Something goes wrong with it for a while.
    pub(crate) fn fault(&self, replicas: usize) {
        self.inner().fault(replicas);
    }

    /// Nothing passes between it and a replica for a while.
    pub(crate) fn cut(&self, replica: usize, until_ms: u64) {
        self.inner().cut_until_ms.insert(replica, until_ms);
    }

    /// Lets the next commit of a process fail that has the store for itself.
    pub(crate) fn fail_commit(&self, how: Failing) {
        self.inner().failing = Some(how);
    }

    /// Nothing is wrong with it any more.
    pub(crate) fn heal(&self) {
        let mut inner = self.inner();
        inner.slow_until_ms = 0;
        inner.down_until_ms = 0;
        inner.cut_until_ms.clear();
        inner.copy = None;
        inner.failing = None;
    }

    /// Whether every replica reaches it at once.
    pub(crate) fn is_well(&self) -> bool {
        let inner = self.inner();
        let ends = [inner.slow_until_ms, inner.down_until_ms];
        ends.iter().chain(inner.cut_until_ms.values()).all(|until| *until <= inner.now_ms)
    }

    /// What it has lost so far.
    pub(crate) fn with_lost<T>(&self, look: impl FnOnce(&Lost) -> T) -> T {
        look(&self.inner().lost)
    }

    /// Decisions that were stored since the last call and not lost again with the store.
    pub(crate) fn decided(&self) -> Vec<DecisionRecord> {
        std::mem::take(&mut self.inner().decided)
    }

    /// Batches of deposed leaders that were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.inner().refused
    }

    /// Whether this room was ever promised here.
    pub(crate) fn has_held(&self, room: &RoomId) -> bool {
        self.inner().rooms_ever.contains(room)
    }

    /// Whether it is stored now that this server was told to stop.
    pub(crate) fn holds_stop(&self, server: &ServerName) -> bool {
        self.inner().contents.has_stop(server)
    }

    /// Whether it is stored now that this host is drained.
    pub(crate) fn holds_drain(&self, host: &HostName) -> bool {
        self.inner().contents.has(Kind::Drain, &format!("{}/{host}", DrainKind::Host))
    }

    /// The first law that was broken here.
    pub(crate) fn broken(&self) -> Result<(), Broken> {
        self.inner().broken.take().map_or(Ok(()), Err)
    }

    /// Rooms promised and results that wait.
    pub(crate) fn open_promises(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.contents.count(Kind::Room), inner.contents.count(Kind::Result))
    }
}

impl Inner {
    fn fault(&mut self, replicas: usize) {
        let now_ms = self.now_ms;
        match self.rng.random_range(0..10) {
            0..3 => self.slow_until_ms = now_ms + self.rng.random_range(500..=8_000),
            3..5 => self.down_until_ms = now_ms + self.rng.random_range(200..=15_000),
            5..8 => {
                let replica = self.rng.random_range(0..replicas);
                let until = now_ms + self.rng.random_range(500..=15_000);
                self.cut_until_ms.insert(replica, until);
            }
            // A copy takes over that lacks the last writes, or that lacks nothing.
            8 => {
                let behind_ms = self.rng.random_range(0..=2_000);
                self.copy = Some((now_ms + behind_ms, self.contents.clone()));
            }
            _ => self.become_of(Contents::default()),
        }
    }

    /// What is there from now on. Whatever is not in it is lost.
    fn become_of(&mut self, contents: Contents) {
        let before = std::mem::replace(&mut self.contents, contents);
        self.lost.times += 1;
        self.decided.clear();
        for (kind, key) in before.missing_in(&self.contents) {
            match kind {
                Kind::Room => drop(key.parse().map(|room| self.lost.rooms.insert(room))),
                Kind::Answer => drop(self.lost.answers.insert(key)),
                Kind::Result => drop(self.lost.results.insert(key)),
                Kind::Key
                | Kind::SigningKey
                | Kind::Host
                | Kind::Decision
                | Kind::Scale
                | Kind::Drain
                | Kind::Term
                | Kind::Lease
                | Kind::Audit
                | Kind::News
                | Kind::Trigger => {}
            }
        }
        // Whoever waits for an answer asks again.
        for op in self.ops.values_mut().filter(|op| op.over.is_none()) {
            op.judged = None;
        }
        self.down_until_ms = self.down_until_ms.max(self.now_ms + self.rng.random_range(0..=3_000));
    }

    fn delay_ms(&mut self) -> u64 {
        if !self.is_remote {
            0
        } else if self.now_ms < self.slow_until_ms {
            self.rng.random_range(0..=2_000)
        } else if self.rng.random_bool(0.1) {
            self.rng.random_range(1..=60)
        } else {
            0
        }
    }

    fn ask(&mut self, line: &Line, what: What) -> u64 {
        let id = self.op_next;
        self.op_next += 1;
        let reaches_ms = self.now_ms + self.delay_ms();
        let back_ms = reaches_ms + self.delay_ms();
        let op = Op {
            replica: line.replica,
            process: line.process,
            term: line.term,
            what,
            begun_ms: self.now_ms,
            reaches_ms,
            back_ms,
            judged: None,
            over: None,
            is_dropped: false,
        };
        self.ops.insert(id, op);
        self.progress(id);
        id
    }

    fn is_cut(&self, replica: usize) -> bool {
        self.now_ms < self.down_until_ms
            || self.cut_until_ms.get(&replica).is_some_and(|until| self.now_ms < *until)
    }

    /// Goes on with one operation as far as time allows.
    fn progress(&mut self, id: u64) {
        let Some(mut op) = self.ops.remove(&id) else { return };
        let (now_ms, is_cut) = (self.now_ms, self.is_cut(op.replica));
        if op.over.is_none() && op.judged.is_none() && now_ms >= op.reaches_ms {
            if is_cut {
                op.reaches_ms = now_ms + RETRY_MS;
            } else {
                op.judged = Some(self.judge(id, &op));
            }
        }
        if op.over.is_none() && op.judged.is_some() && now_ms >= op.back_ms.max(op.reaches_ms) {
            if is_cut {
                op.back_ms = now_ms + RETRY_MS;
            } else {
                op.over = op.judged.take();
                if let Some(judged) = &op.over {
                    self.known.entry(op.process).or_default().learn(id, judged);
                }
            }
        }
        if op.over.is_none() && now_ms >= op.begun_ms + GIVE_UP_MS {
            op.over = Some(Judged::Unavailable);
        }
        if op.over.is_none() || !op.is_dropped {
            self.ops.insert(id, op);
        }
    }

    fn judge(&mut self, id: u64, op: &Op) -> Judged {
        let known = self.known.entry(op.process).or_default();
        match &op.what {
            What::Load(kinds) => self.contents.load(known, kinds, op.process),
            What::Commit(batch) => {
                match self.failing.take_if(|_| op.term.is_some() && !self.is_remote) {
                    Some(Failing::Lost) => return Judged::Unavailable,
                    Some(Failing::Unconfirmed) => {
                        let stored = self.contents.commit(known, op.process, id, batch);
                        self.note(batch, &stored);
                        return Judged::Unavailable;
                    }
                    None => {}
                }
                let (before, commits) = (self.contents.term(), self.contents.commits());
                let judged = self.contents.commit(known, op.process, id, batch);
                self.note(batch, &judged);
                match (&judged, op.term) {
                    // One that was stored under its term already is only told again.
                    (Judged::Stored { .. }, Some(term))
                        if term != before && self.contents.commits() != commits =>
                    {
                        self.broken.get_or_insert(Broken::DeposedStored { term, stored: before });
                    }
                    (Judged::Conflict(_), Some(_)) => self.refused += 1,
                    _ => {}
                }
                judged
            }
        }
    }

    /// What the laws want to know of a batch that was stored.
    fn note(&mut self, batch: &Batch, judged: &Judged) {
        if !matches!(judged, Judged::Stored { .. }) {
            return;
        }
        for write in batch.writes() {
            let Write::Put { kind, key, bytes, .. } = write else { continue };
            if *kind == Kind::Room {
                self.rooms_ever.extend(key.parse::<RoomId>());
            } else if *kind == DecisionRecord::KIND
                && let Ok(record) = serde_json::from_slice(bytes)
            {
                self.decided.push(record);
            }
        }
    }
}

impl Line {
    /// The same way, for what is written under a term.
    pub(crate) fn under(&self, term: u64) -> Self {
        Self { term: Some(term), ..self.clone() }
    }

    fn ask(&self, what: What) -> Asked {
        Asked { store: self.store.clone(), id: self.store.inner().ask(self, what) }
    }
}

/// An operation under way. Dropped, it goes on all the same, and is forgotten once it is over.
struct Asked {
    store: SimStore,
    id: u64,
}

impl Future for Asked {
    type Output = Judged;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Judged> {
        // Nobody is woken: the simulation asks again at each step.
        let mut inner = self.store.inner();
        let over = inner.ops.get_mut(&self.id).and_then(|op| op.over.take());
        let Some(judged) = over else { return Poll::Pending };
        inner.ops.remove(&self.id);
        Poll::Ready(judged)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut inner = self.store.inner();
        let Some(op) = inner.ops.get_mut(&self.id) else { return };
        op.is_dropped = true;
        if op.over.is_some() {
            inner.ops.remove(&self.id);
        }
    }
}

impl Store for Line {
    fn load_all<'a>(&'a self, kinds: &'a [Kind]) -> BoxFuture<'a, Result<Vec<Vec<Stored>>, ReadError>> {
        let asked = self.ask(What::Load(kinds.to_vec()));
        Box::pin(async { asked.await.loaded() })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Version, CommitError>> {
        let asked = self.ask(What::Commit(batch));
        Box::pin(async { asked.await.committed() })
    }
}
