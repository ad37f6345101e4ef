//! What is decided while a batch is on its way to the store: told after that batch, never without it.
#![expect(clippy::unwrap_used, reason = "the store here is part of the test: a failure is the test's")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenroom_client::ClientError;
use greenroom_control::{ControlConfig, RunError};
use greenroom_store::{Batch, BoxFuture, CommitError, Kind, MemoryStore, ReadError, Store, Stored, Version};
use greenroom_wire::api::Allocation;
use tokio::sync::watch;
use tokio::task::JoinSet;

use support::*;

/// How long nothing may be told while the store holds a batch.
const SILENCE: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Gate {
    Open,
    Held,
    Fails,
}

/// A store that holds batches with rooms for as long as it is told to.
#[derive(Debug)]
struct HeldStore {
    store: MemoryStore,
    gate: watch::Sender<Gate>,
    /// Batches of any kind that are on their way.
    open: AtomicUsize,
    /// Rooms in each batch that had some.
    batches: watch::Sender<Vec<usize>>,
}

impl HeldStore {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            store: MemoryStore::default(),
            gate: watch::Sender::new(Gate::Open),
            open: AtomicUsize::new(0),
            batches: watch::Sender::new(Vec::new()),
        })
    }

    async fn commit(&self, batch: Batch) -> Result<Version, CommitError> {
        assert_eq!(self.open.fetch_add(1, Ordering::SeqCst), 0, "one batch at a time");
        let rooms = batch.writes().iter().filter(|write| write.condition().0 == Kind::Room).count();
        let mut gate = Gate::Open;
        if rooms > 0 {
            self.batches.send_modify(|batches| batches.push(rooms));
            gate = *self.gate.subscribe().wait_for(|gate| *gate != Gate::Held).await.unwrap();
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
        match gate {
            Gate::Fails => Err(CommitError::Unavailable("disk full".into())),
            Gate::Open | Gate::Held => self.store.commit(batch).await,
        }
    }
}

impl Store for HeldStore {
    fn load_all<'a>(&'a self, kinds: &'a [Kind]) -> BoxFuture<'a, Result<Vec<Vec<Stored>>, ReadError>> {
        self.store.load_all(kinds)
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Version, CommitError>> {
        Box::pin(self.commit(batch))
    }
}

/// A call by key whose room is on its way to the store, and calls that rest on it: two by the same key, one that only looks.
struct Calls {
    control: Control,
    store: Arc<HeldStore>,
    _agent: FakeAgent,
    asked: JoinSet<Result<Allocation, ClientError>>,
    looked: JoinSet<Result<usize, ClientError>>,
}

async fn calls() -> Calls {
    let store = HeldStore::new();
    let control = Control::start(ControlConfig::new(fleets()), store.clone()).await;
    let agent = FakeAgent::connect(control.address, "b1", BTreeMap::new()).await;
    control.ready().await;
    store.gate.send_replace(Gate::Held);
    let (mut asked, mut looked) = (JoinSet::new(), JoinSet::new());
    for player in ["a", "b", "c"] {
        let client = control.client.clone();
        asked.spawn(async move {
            client.allocate(&"arena".parse().unwrap(), &request(Some("k"), &[player])).await
        });
        if player == "a" {
            store.batches.subscribe().wait_for(|batches| !batches.is_empty()).await.unwrap();
        }
    }
    let client = control.client.clone();
    looked.spawn(async move { client.overview().await.map(|overview| overview.rooms.len()) });
    let told = async {
        tokio::select! { _ = asked.join_next() => {}, _ = looked.join_next() => {} }
    };
    assert!(tokio::time::timeout(SILENCE, told).await.is_err(), "told before it was stored");
    Calls { control, store, _agent: agent, asked, looked }
}

#[tokio::test]
async fn what_rests_on_a_batch_that_is_being_stored_is_told_after_it() {
    let mut calls = calls().await;
    calls.store.gate.send_replace(Gate::Open);
    let mut rooms = Vec::new();
    while let Some(given) = calls.asked.join_next().await {
        rooms.push(given.unwrap().unwrap().room);
    }
    assert!(rooms.len() == 3 && rooms.iter().all(|room| *room == rooms[0]), "{rooms:?}");
    assert_eq!(calls.looked.join_next().await.unwrap().unwrap().unwrap(), 1);
    assert_eq!(calls.store.batches.borrow()[0], 1, "the first call's room alone");
    calls.control.end().await.unwrap();
}

#[tokio::test]
async fn nothing_that_rests_on_a_batch_is_told_when_that_batch_fails() {
    let mut calls = calls().await;
    calls.store.gate.send_replace(Gate::Fails);
    let ended =
        tokio::time::timeout(DEADLINE, calls.control.task.join_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(ended, Err(RunError::Store(_))), "{ended:?}");
    while let Some(given) = calls.asked.join_next().await {
        assert!(given.unwrap().is_err());
    }
    assert!(calls.looked.join_next().await.unwrap().unwrap().is_err());
    assert_eq!(*calls.store.batches.borrow(), [1], "the next batch was never tried");
}
