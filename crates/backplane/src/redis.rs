//! The way to a Redis that several machines share: Histories as streams, those of rooms too, sessions as hashes, one
//! script call for all commands of a namespace that are waiting.
//!
//! "Kept" means the store's reply: it survives what the store's own settings survive. A store that comes back shorter
//! than a node knows it begins a new epoch. Never more than one pipeline is under way, so what waits meanwhile goes as one.

mod answers;
mod batch;
mod connections;
mod exchange;
mod follow;
mod names;
mod replies;
mod rooms;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use ::redis::Cmd;
use futures_util::StreamExt as _;
use greenroom_core::InstanceId;
pub use greenroom_redis::{AddressError, RedisAddress};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::Limits;
use crate::attempts::Attempts;
use crate::way::{FromBackplane, ToBackplane, Way, WayEnd};
use connections::Connections;
use exchange::Exchange;
use names::Names;

/// How a node reaches its Redis.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// One address, or the name of a primary that sentinels follow: who it is now is asked for each new connection.
    pub address: RedisAddress,
    /// What all keys and channels begin with: nodes of one prefix are one mesh. Default `greenroom`.
    pub prefix: String,
    /// This node, as no other is called.
    pub node: InstanceId,
    /// How often the node says that it is there. One that was not heard for three of these is gone. Default 1 s.
    pub heartbeat: Duration,
    /// A store that takes longer for an answer counts as down. Default 2 s.
    pub answer_within: Duration,
    /// What is kept of one History and of one session, and how many sessions this node opens. How many Histories there
    /// are is bounded by its namespaces.
    pub limits: Limits,
    /// Bytes of events that may wait for the node to take them in. Beyond that the store is not read further; a node that
    /// comes so far behind that the store has let go of events is told where they begin again. Broadcasts without a
    /// History are dropped and counted meanwhile. Default 32 MiB.
    pub inbox_bytes_max: usize,
}

impl RedisConfig {
    /// The defaults.
    #[must_use]
    pub fn new(address: RedisAddress, node: InstanceId) -> Self {
        Self {
            address,
            prefix: "greenroom".to_owned(),
            node,
            heartbeat: Duration::from_secs(1),
            answer_within: Duration::from_secs(2),
            limits: Limits::default(),
            inbox_bytes_max: 32 << 20,
        }
    }

    fn dead_ms(&self) -> u64 {
        u64::try_from((self.heartbeat * 3).as_millis()).unwrap_or(u64::MAX)
    }
}

/// A way to a Redis, served by a thread of its own that ends with the way. A store that cannot be reached is
/// told as [`FromBackplane::Down`] and tried again.
///
/// # Panics
/// If the system gives no more threads.
#[must_use]
pub fn connect(config: RedisConfig) -> Way {
    let (way, serving) = serve(config);
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime without threads needs but memory and a file descriptor").block_on(serving);
    };
    let _joined_by_nobody =
        std::thread::Builder::new().name("backplane".to_owned()).spawn(serve).expect("a thread can be had");
    way
}

/// The same with the work of serving it, for a caller that has a task to spare. The work ends with the way.
#[must_use = "nothing answers unless the work is done"]
pub fn serve(config: RedisConfig) -> (Way, impl Future<Output = ()> + Send) {
    let (way, end) = Way::new();
    (way, run(config, end))
}

async fn run(config: RedisConfig, end: WayEnd) {
    let WayEnd { mut to, from } = end;
    let names = Names::new(&config.prefix);
    let mut exchange = Exchange::new(&config, names.clone(), from);
    let mut attempts = Attempts::new();
    loop {
        let Some(opened) = deaf(&mut to, Connections::open(&config, &names)).await else { return };
        let why = match opened {
            Ok(mut connections) => {
                // What was said meanwhile was said to nobody; the node says it again.
                while to.try_recv().is_ok() {}
                attempts.reached();
                exchange.begin(&connections);
                let Err(why) = attend(&config, &mut exchange, &mut connections, &mut to).await else {
                    return;
                };
                why
            }
            Err(why) => why,
        };
        if attempts.failed(&why) {
            exchange.tell(FromBackplane::Down { why });
        }
        if deaf(&mut to, sleep(attempts.pause())).await.is_none() {
            return;
        }
    }
}

/// Waits for something while what the node says is dropped. `None`: the node is gone.
async fn deaf<T>(to: &mut UnboundedReceiver<ToBackplane>, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            said = to.recv() => { said?; }
        }
    }
}

enum Event {
    Answers(Result<Vec<::redis::Value>, String>),
    Read(Result<::redis::Value, String>),
    Shout(Option<::redis::Msg>),
    Said(Option<ToBackplane>),
    /// The node has caught up.
    Room,
    Beat,
}

type Pending<T> = Option<Pin<Box<dyn Future<Output = Result<T, String>> + Send>>>;

/// Serves the way over these connections. The error says why they are of no more use; otherwise the node has gone.
async fn attend(
    config: &RedisConfig,
    exchange: &mut Exchange,
    connections: &mut Connections,
    to: &mut UnboundedReceiver<ToBackplane>,
) -> Result<(), String> {
    let mut beats = interval(config.heartbeat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut sending, mut reading): (Pending<Vec<::redis::Value>>, Pending<::redis::Value>) = (None, None);
    let mut expected = Vec::new();
    let node = exchange.from.clone();
    loop {
        if sending.is_none() {
            let now = Instant::now();
            while !exchange.batch.is_full()
                && let Ok(said) = to.try_recv()
            {
                exchange.queue(now, said);
            }
            if let Some((pipeline, answers)) = exchange.take_batch(reading.is_some()) {
                sending = Some(Box::pin(connections::send(connections.commands.clone(), pipeline)));
                expected = answers;
            }
        }
        if reading.is_none() && exchange.has_room() {
            let logs = exchange.begin_read();
            if !logs.is_empty() {
                let events_max = exchange.read_max;
                reading = Some(Box::pin(connections::read(connections.reader.clone(), logs, events_max)));
            }
        }
        let (is_sending, is_full) = (sending.is_some(), node.waiting_bytes() >= config.inbox_bytes_max);
        let event = tokio::select! {
            answers = pending(&mut sending) => Event::Answers(answers),
            read = pending(&mut reading) => Event::Read(read),
            shout = connections.shouts.next() => Event::Shout(shout),
            said = to.recv(), if !is_sending => Event::Said(said),
            () = node.wait_below(config.inbox_bytes_max), if is_full => Event::Room,
            _ = beats.tick() => Event::Beat,
        };
        match event {
            Event::Answers(answers) => {
                sending = None;
                exchange.handle_answers(Instant::now(), std::mem::take(&mut expected), answers?)?;
            }
            Event::Read(read) => {
                reading = None;
                exchange.handle_read(read?)?;
            }
            Event::Shout(None) => return Err("the store has closed a connection".to_owned()),
            Event::Shout(Some(shout)) => exchange.handle_shout(shout.get_payload_bytes())?,
            Event::Said(Some(said)) => exchange.queue(Instant::now(), said),
            Event::Said(None) => return leave(config, exchange, connections).await,
            Event::Room => {}
            Event::Beat => exchange.beat(Instant::now()),
        }
    }
}

async fn pending<T>(work: &mut Pending<T>) -> Result<T, String> {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// The node is not asked for anything any more. Whether the store hears of it is of no weight: silence says it too.
async fn leave(
    config: &RedisConfig,
    exchange: &Exchange,
    connections: &mut Connections,
) -> Result<(), String> {
    let node = config.node.as_str();
    let call = nodes_call(&exchange.names, &connections.nodes, "leave", node, config.dead_ms());
    let _is_heard = call.query_async::<()>(&mut connections.commands).await;
    Ok(())
}

/// The call of the script that keeps the list of nodes.
fn nodes_call(names: &Names, script: &str, what: &str, node: &str, dead_ms: u64) -> Cmd {
    let mut call = ::redis::cmd("EVALSHA");
    call.arg(script).arg(1).arg(names.nodes()).arg(what).arg(node).arg(dead_ms);
    call
}
