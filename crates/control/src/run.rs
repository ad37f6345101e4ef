//! The one loop: takes the events that wait, lets the world decide, stores what it promised, then tells it.
//!
//! Never decides by itself, and never tells a promise that is not stored: when the store fails the process ends, and
//! its successor begins from what is stored.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greenroom_core::Timestamp;
use greenroom_store::term::{self, HeldTerm};
use greenroom_store::{Batch, CommitError, Expect, Kind, Store};
use greenroom_wire::agent::{FromAgent, Hello, ToAgent};
use greenroom_wire::record::{ResultRecord, TermRecord};
use greenroom_wire::token::PublicKeys;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::access::{TokenError, Tokens};
use crate::config::ControlConfig;
use crate::http::{Login, LoginError};
use crate::start::{StartError, Started, start};
use crate::world::{
    Answer, Call, Effect, Event, IdSource, Refusal, RequestId, Results, StreamId, World, WorldConfig, Write,
};
use crate::{http, webhook};

/// Time between two ticks of the world.
const TICK: Duration = Duration::from_millis(100);
/// Events that may wait for the loop; a call beyond that is refused, a stream waits.
const INPUTS_MAX: usize = 10_000;
/// Events in one batch.
const BATCH_MAX: usize = 2_048;

/// Why a control process ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Others can reach the address and nobody is asked for a token. Configure tokens, or use a loopback address.
    #[error(
        "{0} can be reached from other machines and the API has no tokens; \
         add [[control.tokens]] with name, role and from, or listen on 127.0.0.1"
    )]
    NoTokens(SocketAddr),
    /// The keys of player tokens cannot be used.
    #[error("the listener for players cannot begin")]
    Login(#[from] LoginError),
    /// A token cannot be used.
    #[error("the access tokens cannot be used")]
    Token(#[from] TokenError),
    /// Somebody else listens there: perhaps another control process.
    #[error("{0} is in use already; is another control plane running?")]
    AddressInUse(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The start failed; nothing was changed but the term.
    #[error("the control plane could not start")]
    Start(#[from] StartError),
    /// No random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
    /// The store did not confirm a batch. Start again; it is known then what was stored.
    #[error("the store failed")]
    Store(#[source] CommitError),
    /// The webhook's client could not be made.
    #[error("the webhook cannot be called")]
    Webhook(#[source] reqwest::Error),
    /// Serving failed.
    #[error("serving HTTP failed")]
    Serve(#[source] io::Error),
    /// A part panicked. A bug; the log has its message.
    #[error("a part of the control plane panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// What the loop takes in.
#[derive(Debug)]
pub(crate) enum Input {
    /// A call, with the way back.
    Asked { call: Box<Call>, reply: oneshot::Sender<Result<Answer, Refusal>> },
    /// An agent's stream, with the way to it.
    StreamOpened { stream: StreamId, hello: Hello, orders: mpsc::Sender<StreamOrder> },
    /// An agent's word.
    StreamSaid { stream: StreamId, message: Box<FromAgent> },
    /// An agent's stream has ended.
    StreamClosed { stream: StreamId },
    /// The webhook took a result.
    ResultTaken { key: String },
}

/// What the loop tells a stream.
#[derive(Debug)]
pub(crate) enum StreamOrder {
    /// Send this.
    Send(Box<ToAgent>),
    /// End the stream.
    Close(String),
}

/// Runs a control process until `stop` is cancelled or something fails. Every promise made before survives.
///
/// # Errors
/// See [`RunError`]; a refused address is told before anything is touched.
pub async fn run(
    config: ControlConfig,
    store: Arc<dyn Store>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    check_reach(&config, config.listen)?;
    let listener = bind(config.listen).await?;
    run_on(listener, config, store, stop).await
}

async fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            RunError::AddressInUse(address)
        } else {
            RunError::Listen { address, source }
        }
    })
}

/// Like [`run`], on a listener that is open already; `config.listen` is not looked at.
///
/// # Errors
/// See [`RunError`].
pub async fn run_on(
    listener: TcpListener,
    config: ControlConfig,
    store: Arc<dyn Store>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let address = listener.local_addr().map_err(RunError::Serve)?;
    check_reach(&config, address)?;
    let tokens = Arc::new(Tokens::read(config.tokens.clone())?);
    let players = match config.players.clone() {
        Some(players) => {
            Some((bind(players.listen).await?, Login::open(players.login.clone()).await?, players))
        }
        None => None,
    };
    let Started { held, records, signer } = start(&*store, clock()).await?;
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).map_err(RunError::Random)?;
    let keys = PublicKeys { keys: vec![signer.public()] };
    let world_config = WorldConfig {
        fleets: config.fleets.clone(),
        keys: keys.clone(),
        term: held.term.0,
        results: if config.webhook.is_some() { Results::Deliver } else { Results::Discard },
        timings: config.timings,
        bounds: config.bounds,
    };
    info!(%address, term = held.term.0, rooms = records.rooms.len(), hosts = records.hosts.len(), "control started");
    let (world, effects) = World::restore(records, world_config, IdSource::new(seed), clock());
    let (inputs, events) = mpsc::channel(INPUTS_MAX);
    let (deliver, results) = mpsc::unbounded_channel();
    let mut parts = JoinSet::new();
    if let Some(hook) = config.webhook.clone() {
        let hook = webhook::Webhook::new(&hook).map_err(RunError::Webhook)?;
        parts.spawn(hook.run(results, inputs.clone(), stop.clone()));
    }
    let mut shell = Shell::new(world, store, held, deliver);
    shell.carry_out(effects).await?;
    parts.spawn(shell.run(events, stop.clone()));
    let face = http::face(config, signer, keys, tokens, inputs, stop.clone());
    if let Some((listener, login, players)) = players {
        parts.spawn(http::serve_players(listener, players, login, face.clone()));
    }
    parts.spawn(http::serve(listener, face));
    let mut outcome = Ok(());
    while let Some(ended) = parts.join_next().await {
        stop.cancel();
        outcome = outcome.and(ended.map_err(RunError::Panicked).flatten());
    }
    info!("control stopped");
    outcome
}

/// Beyond loopback nobody is let in without a token.
fn check_reach(config: &ControlConfig, address: SocketAddr) -> Result<(), RunError> {
    if address.ip().is_loopback() || !config.tokens.is_empty() {
        Ok(())
    } else {
        Err(RunError::NoTokens(address))
    }
}

/// The world's hands.
struct Shell {
    world: World,
    store: Arc<dyn Store>,
    held: HeldTerm,
    replies: HashMap<RequestId, oneshot::Sender<Result<Answer, Refusal>>>,
    requests: u64,
    streams: HashMap<StreamId, mpsc::Sender<StreamOrder>>,
    /// Unbounded, because each entry is a stored record already: the store is the bound.
    deliver: mpsc::UnboundedSender<ResultRecord>,
}

impl Shell {
    fn new(
        world: World,
        store: Arc<dyn Store>,
        held: HeldTerm,
        deliver: mpsc::UnboundedSender<ResultRecord>,
    ) -> Self {
        Self { world, store, held, replies: HashMap::new(), requests: 0, streams: HashMap::new(), deliver }
    }

    async fn run(
        mut self,
        mut events: mpsc::Receiver<Input>,
        stop: CancellationToken,
    ) -> Result<(), RunError> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let ticked = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => true,
                taken = events.recv_many(&mut batch, BATCH_MAX) => {
                    if taken == 0 {
                        return Ok(());
                    }
                    false
                }
            };
            let now = clock();
            let mut effects = Vec::new();
            for input in batch.drain(..) {
                let event = self.event(input);
                effects.extend(self.world.handle(now, event));
            }
            if ticked {
                effects.extend(self.sweep(now));
                effects.extend(self.world.handle(now, Event::Tick));
            }
            self.carry_out(effects).await?;
        }
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

    /// Stores first, tells then.
    async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), RunError> {
        let mut batch = Batch::new();
        let mut raised = None;
        for effect in &effects {
            if let Effect::Write(write) = effect {
                if let Write::PutTerm(term) = **write {
                    raised = Some(term);
                } else {
                    put(&mut batch, write);
                }
            }
        }
        if !batch.is_empty() || raised.is_some() {
            self.commit(batch, raised).await?;
        }
        for effect in effects {
            self.tell(effect);
        }
        Ok(())
    }

    async fn commit(&mut self, mut batch: Batch, raised: Option<u64>) -> Result<(), RunError> {
        match raised {
            None => batch.push(self.held.check()),
            Some(term) => {
                let expect = Expect::Version(self.held.version);
                batch.put_expecting(term::KEY, &TermRecord { version: 1, term }, expect);
            }
        }
        let version = self.store.commit(batch).await.map_err(|failed| {
            error!(error = %failed, "the store failed; this process ends");
            RunError::Store(failed)
        })?;
        if let Some(term) = raised {
            self.held = HeldTerm { term: greenroom_core::Term(term), version };
        }
        Ok(())
    }

    fn tell(&mut self, effect: Effect) {
        match effect {
            Effect::Write(_) => {}
            Effect::Order { stream, message } => self.send(stream, StreamOrder::Send(message)),
            Effect::CloseStream { stream, reason } => {
                self.send(stream, StreamOrder::Close(reason));
                self.streams.remove(&stream);
            }
            Effect::Reply { request, answer } => {
                if let Some(reply) = self.replies.remove(&request) {
                    // A caller that went away in the meantime asks again, by key or idempotency key.
                    drop(reply.send(*answer));
                }
            }
            Effect::Deliver(record) => {
                // Without a webhook task the record waits in the store for the next start.
                drop(self.deliver.send(*record));
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
            }
            Err(mpsc::error::TrySendError::Closed(_)) => debug!(stream = stream.0, "stream is gone"),
        }
    }
}

fn put(batch: &mut Batch, write: &Write) {
    match write {
        Write::PutRoom(record) => batch.put(record.room.as_str(), record),
        Write::DeleteRoom(room) => batch.delete(Kind::Room, room.as_str()),
        Write::PutAnswer { key, record } => batch.put(key.as_str(), record),
        Write::DeleteAnswer { key } => batch.delete(Kind::Answer, key.as_str()),
        Write::PutResult { key, record } => batch.put(key.as_str(), record),
        Write::DeleteResult { key } => batch.delete(Kind::Result, key.as_str()),
        Write::PutHost(record) => batch.put(record.host.as_str(), record),
        Write::DeleteHost(host) => batch.delete(Kind::Host, host.as_str()),
        Write::PutAudit(record) => batch.put(audit_key(record.entry.number), record),
        Write::DeleteAudit(number) => batch.delete(Kind::Audit, audit_key(*number)),
        Write::PutDecision { key, record } => batch.put(key.as_str(), record),
        Write::PutScale(record) => batch.put(record.fleet.as_str(), record),
        Write::PutTerm(term) => batch.put(term::KEY, &TermRecord { version: 1, term: *term }),
    }
}

/// Keys are read back in the order of their numbers.
fn audit_key(number: u64) -> String {
    format!("{number:020}")
}

/// The one place where this process asks what time it is.
fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
