//! One control process: its listeners, and who decides in it. Alone it leads at once and ends with its store; of several
//! replicas `replica` says when this one leads.
//!
//! Never decides by itself: `shell` is the loop around the world.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use greenroom_core::Timestamp;
use greenroom_store::term::HeldTerm;
use greenroom_store::{CommitError, Store};
use greenroom_tls::{Tls, TlsError};
use greenroom_wire::agent::{FromAgent, Hello, ToAgent};
use greenroom_wire::api::{ActionResult, TriggerFired};
use greenroom_wire::record::ResultRecord;
use greenroom_wire::token::{PublicKeys, Signer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::access::{TokenError, Tokens};
use crate::config::{ControlConfig, PlayersConfig, TriggerConfig};
use crate::fence::Fence;
use crate::http::{Login, LoginError};
use crate::office::{Desk, Office};
use crate::pens::Pens;
use crate::shell::{Outlets, Shell};
use crate::start::{StartError, Started, raise, start};
use crate::world::{Answer, Call, Effect, IdSource, Posted, Refusal, Results, StreamId, World, WorldConfig};
use crate::{act, http, notify, replica, webhook};

/// Events that may wait for the loop; a call beyond that is refused, a stream waits.
const INPUTS_MAX: usize = 10_000;
/// How long open calls of a replica get at least after a stop: as long as it takes until another one leads.
const REPLICA_GRACE: Duration = Duration::from_secs(4);

/// Why a control process ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Others can reach the address and nobody is asked for a token. Configure tokens or mutual TLS, or use a loopback
    /// address.
    #[error(
        "{0} can be reached from other machines and the API has no tokens; \
         add [[control.tokens]] with name, role and from, or [control.tls] with ca, or listen on 127.0.0.1"
    )]
    NoTokens(SocketAddr),
    /// The keys of player tokens cannot be used.
    #[error("the listener for players cannot begin")]
    Login(#[from] LoginError),
    /// A token cannot be used.
    #[error("the access tokens cannot be used")]
    Token(#[from] TokenError),
    /// A certificate cannot be used.
    #[error("tls cannot begin")]
    Tls(#[from] TlsError),
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
    /// The client that asks the other replicas could not be made.
    #[error("the other replicas cannot be asked")]
    Peers(#[source] reqwest::Error),
    /// The webhook's client could not be made.
    #[error("the webhook cannot be called")]
    Webhook(#[source] reqwest::Error),
    /// A receiver of notifications has no address that can be posted to.
    #[error("the address of [[control.notify]] {0:?} is none that begins with http:// or https://")]
    NotifyAddress(String),
    /// What a trigger posts to is no address.
    #[error("the address of [triggers] {0:?} is none that begins with http:// or https://")]
    TriggerAddress(String),
    /// The client that posts notifications could not be made.
    #[error("notifications and triggers cannot be posted")]
    Notify(#[source] reqwest::Error),
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
    /// A message to a reader of news came to its end.
    NewsPosted { reader: String, outcome: Posted },
    /// What a trigger is for came to its end.
    Acted { fire: String, result: ActionResult, detail: String },
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
    notify::check(&config.notify)?;
    act::check(&config.triggers)?;
    let tokens = Arc::new(Tokens::read(config.tokens.clone())?);
    let tls = config.tls.clone().map(|tls| Tls::open(Some(tls.pair), tls.mutual.map(|mutual| mutual.ca)));
    let tls = tls.transpose()?;
    let players = match config.players.clone() {
        Some(players) => Some(Lodge::open(players).await?),
        None => None,
    };
    let office = Arc::new(Office::new(config.bounds.hosts_max));
    let post = Post { config: Arc::new(config), store, office };
    let (mut parts, served) = (JoinSet::new(), CancellationToken::new());
    match post.config.replica.clone() {
        // Nobody is answered before the promises are loaded.
        None => {
            let held = raise(&*post.store).await?;
            post.office.know_term(held.term.0);
            let started = start(&*post.store, held, clock()).await?;
            let fence = Fence::alone(started.held);
            let restored = Restored::of(&post, started, None).await?;
            parts.spawn(Leadership::begin(&post, restored, fence, Instant::now())?.run(stop.clone()));
        }
        Some(config) => {
            parts.spawn(replica::run(post.clone(), config, stop.clone(), served.clone()));
        }
    }
    info!(%address, tls = tls.is_some(), "control started");
    for tls in tls.iter().chain(players.iter().filter_map(|players| players.tls.as_ref())).cloned() {
        let stop = stop.clone();
        parts.spawn(async move {
            tls.keep_fresh(stop).await;
            Ok(())
        });
    }
    parts.spawn(serve((listener, tls), players, post, tokens, stop.clone(), served));
    let mut outcome = Ok(());
    while let Some(ended) = parts.join_next().await {
        stop.cancel();
        outcome = outcome.and(ended.map_err(RunError::Panicked).flatten());
    }
    info!("control stopped");
    outcome
}

/// What the listener for players needs.
struct Lodge {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    login: Login,
    config: PlayersConfig,
}

impl Lodge {
    async fn open(config: PlayersConfig) -> Result<Self, RunError> {
        let tls = config.tls.clone().map(|pair| Tls::open(Some(pair), None)).transpose()?;
        let (listener, login) = (bind(config.listen).await?, Login::open(config.login.clone()).await?);
        Ok(Self { listener, tls, login, config })
    }
}

/// Serves until the stop and until open calls had their time.
async fn serve(
    (listener, tls): (TcpListener, Option<Arc<Tls>>),
    players: Option<Lodge>,
    post: Post,
    tokens: Arc<Tokens>,
    stop: CancellationToken,
    served: CancellationToken,
) -> Result<(), RunError> {
    let mut config = (*post.config).clone();
    if config.replica.is_some() {
        config.stop_grace = config.stop_grace.max(REPLICA_GRACE);
    }
    let face = http::face(config, tls.as_ref(), tokens, post, stop)?;
    let for_players = async {
        if let Some(Lodge { listener, tls, login, config }) = players {
            http::serve_players((listener, tls), config, login, face.clone()).await;
        }
    };
    tokio::join!(http::serve((listener, tls), face.clone()), for_players);
    served.cancel();
    Ok(())
}

/// What a leadership is made of.
#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) config: Arc<ControlConfig>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) office: Arc<Office>,
}

/// This process decides, from `begin` to the end of `run`.
pub(crate) struct Leadership {
    shell: Shell,
    first: Vec<Effect>,
    here: Vec<Input>,
    events: mpsc::Receiver<Input>,
    inputs: mpsc::Sender<Input>,
    hook: Option<(webhook::Webhook, mpsc::UnboundedReceiver<ResultRecord>)>,
    notifier: Option<(notify::Notifier, mpsc::UnboundedReceiver<notify::Message>)>,
    hands: Option<(act::Hands, mpsc::UnboundedReceiver<TriggerFired>)>,
    office: Arc<Office>,
}

/// The world as the store left it.
pub(crate) struct Restored {
    world: World,
    first: Vec<Effect>,
    signer: Signer,
    keys: PublicKeys,
    held: HeldTerm,
}

impl Restored {
    /// Made on another thread: whoever has much to take in renews its lease meanwhile. `without_leader`: how long nobody led.
    pub(crate) async fn of(
        post: &Post,
        started: Started,
        without_leader: Option<Duration>,
    ) -> Result<Self, RunError> {
        let Started { held, records, signer } = started;
        let config = &post.config;
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(RunError::Random)?;
        let keys = PublicKeys { keys: vec![signer.public()] };
        let world_config = WorldConfig {
            fleets: config.fleets.clone(),
            keys: keys.clone(),
            term: held.term.0,
            without_leader,
            results: if config.webhook.is_some() { Results::Deliver } else { Results::Discard },
            news: notify::news(config),
            triggers: config.triggers.iter().map(TriggerConfig::rule).collect(),
            timings: config.timings,
            bounds: config.bounds,
        };
        let (rooms, hosts) = (records.rooms.len(), records.hosts.len());
        info!(term = held.term.0, rooms, hosts, "promises loaded");
        let restoring = tokio::task::spawn_blocking(move || {
            World::restore(records, world_config, IdSource::new(seed), clock())
        });
        let (world, first) = restoring.await.map_err(RunError::Panicked)?;
        Ok(Self { world, first, signer, keys, held })
    }
}

impl Leadership {
    /// The fence counts from `begun` on.
    pub(crate) fn begin(
        post: &Post,
        restored: Restored,
        fence: Fence,
        begun: Instant,
    ) -> Result<Self, RunError> {
        let Restored { world, first, signer, keys, held } = restored;
        let config = &post.config;
        let (inputs, events) = mpsc::channel(INPUTS_MAX);
        let (deliver, results) = mpsc::unbounded_channel();
        let hook = config.webhook.as_ref().map(webhook::Webhook::new).transpose();
        let hook = hook.map_err(RunError::Webhook)?.map(|hook| (hook, results));
        let (notify, messages) = mpsc::unbounded_channel();
        let notifier = notify::Notifier::new(&config.notify)?.map(|notifier| (notifier, messages));
        let (act, fired) = mpsc::unbounded_channel();
        let hands = act::Hands::new(&config.triggers)?.map(|hands| (hands, fired));
        let desk = Desk { inputs: inputs.clone(), signer, pens: Pens::new(), keys, term: held.term.0 };
        let shell = Shell::new(world, post, fence, begun, Outlets { deliver, notify, act });
        let here = post.office.take(Arc::new(desk));
        let office = Arc::clone(&post.office);
        Ok(Self { shell, first, here, events, inputs, hook, notifier, hands, office })
    }

    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let over = stop.child_token();
        let mut parts = JoinSet::new();
        if let Some((hook, results)) = self.hook {
            parts.spawn(hook.run(results, self.inputs.clone(), over.clone()));
        }
        if let Some((notifier, messages)) = self.notifier {
            parts.spawn(notifier.run(messages, self.inputs.clone(), over.clone()));
        }
        if let Some((hands, fired)) = self.hands {
            parts.spawn(hands.run(fired, self.inputs, over.clone()));
        }
        parts.spawn(self.shell.run(self.first, self.here, self.events, over.clone()));
        let mut outcome = Ok(());
        while let Some(ended) = parts.join_next().await {
            over.cancel();
            // At once: a message that hangs must not hold up calls that another leader can answer.
            self.office.leave();
            outcome = outcome.and(ended.map_err(RunError::Panicked).flatten());
        }
        outcome
    }
}

/// Beyond loopback nobody is let in without a token or a certificate.
fn check_reach(config: &ControlConfig, address: SocketAddr) -> Result<(), RunError> {
    let knows_callers = config.tls.as_ref().is_some_and(|tls| tls.mutual.is_some());
    if address.ip().is_loopback() || !config.tokens.is_empty() || knows_callers {
        Ok(())
    } else {
        Err(RunError::NoTokens(address))
    }
}

/// The one place where this process asks what time it is.
pub(crate) fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
