//! The one loop: takes the events that wait, lets the world decide, stores what it promised, then tells it. While one batch is
//! being stored the world decides the next.
//!
//! Never decides by itself, and never tells a promise that is not stored: when the store fails the loop ends, and its
//! successor begins from what is stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_core::Timestamp;
use greenroom_store::{BoxFuture, CommitError, Store, Version};
use greenroom_wire::api::TriggerFired;
use greenroom_wire::record::ResultRecord;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::errands::LAST_ERRANDS;
use crate::fence::{Draft, Fence, Pledge};
use crate::notify::Message;
use crate::office::Office;
use crate::run::{Input, Post, RunError, StreamOrder, clock};
use crate::world::{Answer, Effect, Event, Refusal, RequestId, StreamId, World};

/// Time between two ticks of the world.
const TICK: Duration = Duration::from_millis(100);
/// Events in one batch.
const BATCH_MAX: usize = 2_048;

/// The world's hands.
pub(crate) struct Shell {
    world: World,
    store: Arc<dyn Store>,
    fence: Fence,
    /// From when on the fence counts.
    begun: Instant,
    office: Arc<Office>,
    replies: HashMap<RequestId, oneshot::Sender<Result<Answer, Refusal>>>,
    requests: u64,
    streams: HashMap<StreamId, mpsc::Sender<StreamOrder>>,
    outlets: Outlets,
    /// Messages and actions of which it is not known yet how they went.
    errands: usize,
    keeping: Option<Keeping>,
    decided: Decided,
}

/// Where what is to be done outside goes.
pub(crate) struct Outlets {
    /// Unbounded, because each entry is a stored record already: the store is the bound.
    pub(crate) deliver: mpsc::UnboundedSender<ResultRecord>,
    /// Unbounded, because the world sends nothing to a reader before it knows how the message before went.
    pub(crate) notify: mpsc::UnboundedSender<Message>,
    /// Unbounded, because a trigger has nothing done before it knows how that went which it had done before.
    pub(crate) act: mpsc::UnboundedSender<TriggerFired>,
}

/// A batch on its way to the store. At most one: what one batch promises, the next may take for granted.
struct Keeping {
    commit: BoxFuture<'static, Result<Version, CommitError>>,
    pledge: Pledge,
    /// What is told when it is stored.
    effects: Vec<Effect>,
}

/// What was decided since: the next batch. None of it is told before the one on its way is stored, not even what needs
/// no batch of its own: it may rest on that.
#[derive(Default)]
struct Decided {
    effects: Vec<Effect>,
    inputs: usize,
    ticked: bool,
}

impl Decided {
    const fn is_nothing(&self) -> bool {
        self.effects.is_empty() && self.inputs == 0 && !self.ticked
    }
}

/// What the loop goes on with.
enum Next {
    Stop,
    Kept(Result<Version, CommitError>),
    Tick,
    Inputs,
    /// Nobody is left who could ask.
    Closed,
}

impl Shell {
    pub(crate) fn new(world: World, post: &Post, fence: Fence, begun: Instant, outlets: Outlets) -> Self {
        Self {
            world,
            store: Arc::clone(&post.store),
            fence,
            begun,
            office: Arc::clone(&post.office),
            replies: HashMap::new(),
            requests: 0,
            streams: HashMap::new(),
            outlets,
            errands: 0,
            keeping: None,
            decided: Decided::default(),
        }
    }

    /// Does what the start asks for, takes in who is here already, then goes on until the stop.
    pub(crate) async fn run(
        mut self,
        first: Vec<Effect>,
        here: Vec<Input>,
        mut events: mpsc::Receiver<Input>,
        stop: CancellationToken,
    ) -> Result<(), RunError> {
        self.decided.effects = first;
        self.settle().await?;
        self.take_in(here, false).await?;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let room = BATCH_MAX.saturating_sub(self.decided.inputs);
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => Next::Stop,
                kept = kept(&mut self.keeping) => Next::Kept(kept),
                _ = ticks.tick(), if !self.decided.ticked => Next::Tick,
                taken = events.recv_many(&mut batch, room), if room > 0 => {
                    if taken == 0 { Next::Closed } else { Next::Inputs }
                }
            };
            match next {
                Next::Stop => {
                    self.hear_of_errands(&mut events).await?;
                    return self.hand_back(events).await;
                }
                Next::Kept(kept) => self.kept(kept)?,
                Next::Tick => self.take_in([], true).await?,
                Next::Inputs => self.take_in(batch.drain(..), false).await?,
                Next::Closed => return self.settle().await,
            }
        }
    }

    /// Lets the world handle what has come, while the batch before is being stored.
    async fn take_in(
        &mut self,
        inputs: impl IntoIterator<Item = Input>,
        ticked: bool,
    ) -> Result<(), RunError> {
        // Who was held up for longer than its lease asks the store first whether it still leads.
        if self.fence.is_doubtful(self.begun.elapsed()) {
            self.settle().await?;
            if self.fence.is_doubtful(self.begun.elapsed()) {
                self.keep(Vec::new());
                self.settle().await?;
            }
        }
        let now = clock();
        for input in inputs {
            let event = self.event(input);
            self.decided.effects.extend(self.world.handle(now, event));
            self.decided.inputs += 1;
        }
        if ticked {
            let swept = self.sweep(now);
            self.decided.effects.extend(swept);
            self.decided.effects.extend(self.world.handle(now, Event::Tick));
            self.decided.ticked = true;
        }
        self.keep_decided();
        Ok(())
    }

    /// How what is under way goes should be known, so that the next process does not tell it again, or say that nobody knows.
    async fn hear_of_errands(&mut self, events: &mut mpsc::Receiver<Input>) -> Result<(), RunError> {
        let until = tokio::time::Instant::now() + LAST_ERRANDS;
        self.settle().await?;
        while self.errands > 0
            && let Ok(Some(input)) = tokio::time::timeout_at(until, events.recv()).await
        {
            self.take_in([input], false).await?;
            self.settle().await?;
        }
        Ok(())
    }

    /// Answers what was asked so far; a replica then gives its lease back, so that another one leads at once.
    async fn hand_back(mut self, mut events: mpsc::Receiver<Input>) -> Result<(), RunError> {
        if self.fence.release().is_none() {
            return self.settle().await;
        }
        // From here on new calls are held until another replica leads.
        self.office.leave();
        events.close();
        let mut rest = Vec::new();
        while let Ok(input) = events.try_recv() {
            rest.push(input);
        }
        self.take_in(rest, false).await?;
        self.settle().await?;
        let Some(batch) = self.fence.release() else { return Ok(()) };
        self.store.commit(batch).await.map_err(RunError::Store)?;
        Ok(())
    }

    fn event(&mut self, input: Input) -> Event {
        match input {
            Input::Asked { call, reply } => {
                let request = RequestId(self.requests);
                self.requests += 1;
                self.replies.insert(request, reply);
                Event::Asked { request, call }
            }
            Input::StreamOpened { stream, hello, orders } => {
                self.streams.insert(stream, orders);
                Event::StreamOpened { stream, hello }
            }
            Input::StreamSaid { stream, message } => Event::StreamSaid { stream, message },
            Input::StreamClosed { stream } => {
                self.streams.remove(&stream);
                Event::StreamClosed { stream }
            }
            Input::ResultTaken { key } => Event::ResultTaken { key },
            Input::NewsPosted { reader, outcome } => {
                self.errands = self.errands.saturating_sub(1);
                Event::NewsPosted { reader, outcome }
            }
            Input::Acted { fire, result, detail } => {
                self.errands = self.errands.saturating_sub(1);
                Event::Acted { fire, result, detail }
            }
        }
    }

    /// Forgets the calls of callers that went away.
    fn sweep(&mut self, now: Timestamp) -> Vec<Effect> {
        let gone: Vec<RequestId> =
            self.replies.iter().filter(|(_, reply)| reply.is_closed()).map(|(request, _)| *request).collect();
        let mut effects = Vec::new();
        for request in gone {
            self.replies.remove(&request);
            effects.extend(self.world.handle(now, Event::CallerGone { request }));
        }
        effects
    }

    /// Until all that was decided is stored and told.
    async fn settle(&mut self) -> Result<(), RunError> {
        self.keep_decided();
        while self.keeping.is_some() {
            let kept = kept(&mut self.keeping).await;
            self.kept(kept)?;
        }
        Ok(())
    }

    fn keep_decided(&mut self) {
        if self.keeping.is_none() && !self.decided.is_nothing() {
            let decided = std::mem::take(&mut self.decided);
            self.keep(decided.effects);
        }
    }

    /// Stores first, tells then. Nothing is on its way to the store.
    fn keep(&mut self, effects: Vec<Effect>) {
        let Some(Draft { batch, pledge }) = self.fence.draft(self.begun.elapsed(), &effects) else {
            return self.tell_all(effects);
        };
        let store = Arc::clone(&self.store);
        let commit = Box::pin(async move { store.commit(batch).await });
        self.keeping = Some(Keeping { commit, pledge, effects });
    }

    /// The store has said what became of the batch on its way. When it failed nothing of it is told, and nothing of what was
    /// decided since.
    fn kept(&mut self, kept: Result<Version, CommitError>) -> Result<(), RunError> {
        let version = kept.map_err(|failed| {
            error!(error = %failed, "the store failed; what was decided since is void");
            RunError::Store(failed)
        })?;
        if let Some(Keeping { pledge, effects, .. }) = self.keeping.take() {
            self.fence.stored(pledge, version);
            self.tell_all(effects);
        }
        self.keep_decided();
        Ok(())
    }

    fn tell_all(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.tell(effect);
        }
    }

    fn tell(&mut self, effect: Effect) {
        match effect {
            Effect::Write(_) => {}
            Effect::Order { stream, message } => self.send(stream, StreamOrder::Send(message)),
            Effect::CloseStream { stream, reason } => {
                self.send(stream, StreamOrder::Close(reason));
                self.streams.remove(&stream);
                self.office.gone(stream);
            }
            Effect::Reply { request, answer } => {
                if let Some(reply) = self.replies.remove(&request) {
                    // A caller that went away in the meantime asks again, by key or idempotency key.
                    drop(reply.send(*answer));
                }
            }
            Effect::Deliver(record) => {
                // Without a webhook task the record waits in the store for the next start.
                drop(self.outlets.deliver.send(*record));
            }
            Effect::Post { reader, key, text } => {
                if self.outlets.notify.send(Message { reader, key, text }).is_ok() {
                    self.errands += 1;
                }
            }
            Effect::Act(fired) => {
                if self.outlets.act.send(*fired).is_ok() {
                    self.errands += 1;
                }
            }
            Effect::Note(notice) => info!(change = %notice, "world changed"),
        }
    }

    fn send(&mut self, stream: StreamId, order: StreamOrder) {
        let Some(orders) = self.streams.get(&stream) else { return };
        match orders.try_send(order) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                warn!(stream = stream.0, "an agent does not read its orders; its stream is ended");
                self.streams.remove(&stream);
                self.office.gone(stream);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => debug!(stream = stream.0, "stream is gone"),
        }
    }
}

/// The answer of the store; never, when nothing is on its way there.
async fn kept(keeping: &mut Option<Keeping>) -> Result<Version, CommitError> {
    match keeping {
        Some(keeping) => keeping.commit.as_mut().await,
        None => std::future::pending().await,
    }
}
