//! The connections to the Redis: one that speaks and hears channels, one that waits for entries.
//! Never mends one: whichever breaks, both are made anew.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue as _, Pipeline, ProtocolVersion, PushInfo, PushKind,
    RedisResult, Value, cmd, pipe,
};
use greenroom_redis::RedisAddress;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{Heard, Said, SaidWords};
use crate::attempts::Attempts;
use crate::pushes::Queue;

/// How long a read waits in the Redis for the next entry.
const BLOCK: Duration = Duration::from_secs(1);
/// Entries of one read, of each stream.
const READ_MAX: usize = 100;
/// Words that go together.
const BATCH_MAX: usize = 256;
/// Time between two looks at whether the Redis still answers.
const BEAT: Duration = Duration::from_secs(5);
/// Before the first entry of any stream.
const BEGINNING: (u64, u64) = (0, 0);

/// Which Redis, and how it is used.
#[derive(Debug, Clone)]
pub struct AdapterConfig {
    /// One address, or the name of a primary that sentinels follow. Version 6 or later.
    pub address: RedisAddress,
    /// The streams that are read.
    pub streams: Vec<String>,
    /// Entries that each stream keeps, about. Default 10,000.
    pub entries_max: usize,
    /// Bytes of messages that may wait to be told; a message beyond it is left out. Default 8 MiB.
    pub waiting_bytes_max: usize,
    /// A Redis that takes longer for an answer counts as down. Default 2 s.
    pub answer_within: Duration,
}

impl AdapterConfig {
    /// The defaults.
    #[must_use]
    pub fn new(address: RedisAddress, streams: Vec<String>) -> Self {
        Self {
            address,
            streams,
            entries_max: 10_000,
            waiting_bytes_max: 8 << 20,
            answer_within: Duration::from_secs(2),
        }
    }
}

/// Carries words both ways, until the mouth is gone. A Redis that cannot be reached is told once and tried again. Streams are
/// read from the moment on in which they were reached first.
pub async fn speak(config: AdapterConfig, mut said: SaidWords, mut tell: impl FnMut(Heard)) {
    let mut attempts = Attempts::new();
    let mut cursors = Cursors(BTreeMap::new());
    loop {
        let (queue, pushed) = Queue::new(config.waiting_bytes_max);
        let opening = Lines::open(&config, &mut cursors, Arc::clone(&queue));
        let Some(opened) = deaf(&mut said, opening).await else { return };
        let why = match opened {
            Ok(mut lines) => {
                // What was said meanwhile was said to nobody.
                while said.try_recv().is_some() {}
                attempts.reached();
                tell(Heard::Up);
                let mut hearing = Hearing { queue: &queue, pushed, tell: &mut tell };
                let Err(why) = attend(&config, &mut lines, &mut cursors, &mut said, &mut hearing).await
                else {
                    return;
                };
                why
            }
            Err(why) => why,
        };
        if attempts.failed(&why) {
            tell(Heard::Down { why });
        }
        if deaf(&mut said, sleep(attempts.pause())).await.is_none() {
            return;
        }
    }
}

/// Waits for something while what the node says is dropped. `None`: the node is gone.
async fn deaf<T>(said: &mut SaidWords, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            word = said.recv() => { word?; }
        }
    }
}

/// Up to where each stream was read: the two numbers of an entry's id.
struct Cursors(BTreeMap<String, (u64, u64)>);

struct Lines {
    speaker: MultiplexedConnection,
    reader: MultiplexedConnection,
}

impl Lines {
    async fn open(config: &AdapterConfig, cursors: &mut Cursors, queue: Arc<Queue>) -> Result<Self, String> {
        let client = config.address.client(config.answer_within).await.map_err(|error| why(&error))?;
        match timeout(config.answer_within * 3, Self::open_all(&client, config, cursors, queue)).await {
            Ok(opened) => opened.map_err(|error| why(&error)),
            Err(_late) => Err("the Redis accepts connections and does not answer".to_owned()),
        }
    }

    async fn open_all(
        client: &Client,
        config: &AdapterConfig,
        cursors: &mut Cursors,
        queue: Arc<Queue>,
    ) -> RedisResult<Self> {
        let settings = AsyncConnectionConfig::new().set_connection_timeout(Some(config.answer_within));
        let info = client.get_connection_info();
        // Only so does the client hand on what is published without a queue of its own, which would have no bound.
        let pushing = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let pushing = Client::open(info.clone().set_redis_settings(pushing))?;
        let speaking = settings
            .clone()
            .set_response_timeout(Some(config.answer_within))
            .set_push_sender(move |info| queue.push(info));
        let speaker = pushing.get_multiplexed_async_connection_with_config(&speaking).await?;
        let reading = settings.set_response_timeout(Some(config.answer_within + BLOCK));
        let mut reader = client.get_multiplexed_async_connection_with_config(&reading).await?;
        for stream in &config.streams {
            let mut newest = cmd("XREVRANGE");
            newest.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
            let newest: Vec<(String, Value)> = newest.query_async(&mut reader).await?;
            let newest = newest.first().and_then(|(id, _)| entry_id(id)).unwrap_or(BEGINNING);
            // A Redis that came back with less begins its ids anew, perhaps below those that were read.
            let cursor = cursors.0.entry(stream.clone()).or_insert(newest);
            *cursor = (*cursor).min(newest);
        }
        Ok(Self { speaker, reader })
    }
}

/// What is told while the lines hold.
struct Hearing<'a, T> {
    queue: &'a Queue,
    pushed: UnboundedReceiver<PushInfo>,
    tell: &'a mut T,
}

enum Event {
    Sent(Result<Vec<Heard>, String>),
    Read(Result<Value, String>),
    Pushed(Option<PushInfo>),
    Said(Option<Said>),
    Beat,
}

type Pending<T> = Option<Pin<Box<dyn Future<Output = Result<T, String>>>>>;

/// Serves until a line breaks, which the error tells, or the mouth is gone.
async fn attend<T: FnMut(Heard)>(
    config: &AdapterConfig,
    lines: &mut Lines,
    cursors: &mut Cursors,
    said: &mut SaidWords,
    hearing: &mut Hearing<'_, T>,
) -> Result<(), String> {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut sending, mut reading): (Pending<Vec<Heard>>, Pending<Value>) = (None, None);
    let mut waiting: Option<Said> = None;
    loop {
        if sending.is_none() {
            waiting = waiting.or_else(|| said.try_recv());
            sending = waiting.take().map(|first| {
                let (step, left) = Step::of(config, first, said);
                waiting = left;
                step.take(lines.speaker.clone())
            });
        }
        if reading.is_none() {
            reading = Some(Box::pin(read(lines.reader.clone(), cursors.read())));
        }
        let is_sending = sending.is_some();
        let event = tokio::select! {
            sent = pending(&mut sending) => Event::Sent(sent),
            read = pending(&mut reading) => Event::Read(read),
            pushed = hearing.pushed.recv() => Event::Pushed(pushed),
            word = said.recv(), if !is_sending => Event::Said(word),
            _ = beats.tick(), if !is_sending => Event::Beat,
        };
        match event {
            Event::Sent(sent) => {
                sending = None;
                sent?.into_iter().for_each(&mut hearing.tell);
            }
            Event::Read(read) => {
                reading = None;
                for fields in cursors.take_in(read?)? {
                    (hearing.tell)(Heard::Entry { fields });
                }
            }
            Event::Pushed(pushed) => hearing.handle(pushed)?,
            Event::Said(None) => return Ok(()),
            Event::Said(Some(word)) => waiting = Some(word),
            Event::Beat => sending = Some(Step::Pipeline(beat(), vec![None]).take(lines.speaker.clone())),
        }
    }
}

fn beat() -> Pipeline {
    let mut ping = pipe();
    ping.cmd("PING");
    ping
}

async fn pending<T>(work: &mut Pending<T>) -> Result<T, String> {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

impl<T: FnMut(Heard)> Hearing<'_, T> {
    fn handle(&mut self, pushed: Option<PushInfo>) -> Result<(), String> {
        let Some(info) = pushed.filter(|info| info.kind != PushKind::Disconnection) else {
            return Err("the Redis has closed a connection".to_owned());
        };
        self.queue.took(&info);
        if info.kind == PushKind::Message
            && let [_, message] = info.data.as_slice()
            && let Ok(message) = Vec::from_redis_value_ref(message)
        {
            (self.tell)(Heard::Message { message });
        }
        let messages = self.queue.take_lost();
        if messages > 0 {
            (self.tell)(Heard::Lost { messages });
        }
        Ok(())
    }
}

/// What goes to the Redis at once.
enum Step {
    /// Commands, each with the question that it answers.
    Pipeline(Pipeline, Vec<Option<u64>>),
    Subscribe(Vec<String>),
    Unsubscribe(Vec<String>),
}

impl Step {
    /// What begins with this word, and the next word where it does not go with it.
    fn of(config: &AdapterConfig, first: Said, said: &mut SaidWords) -> (Self, Option<Said>) {
        let (mut pipeline, mut asks) = (pipe(), Vec::new());
        let mut next = Some(first);
        while let Some(word) = next.take() {
            let (command, ask) = match word {
                Said::Subscribe { channels } if asks.is_empty() => return (Self::Subscribe(channels), None),
                Said::Unsubscribe { channels } if asks.is_empty() => {
                    return (Self::Unsubscribe(channels), None);
                }
                Said::Subscribe { .. } | Said::Unsubscribe { .. } => {
                    next = Some(word);
                    break;
                }
                Said::Add { stream, fields } => (add(&stream, config.entries_max, &fields), None),
                Said::Publish { channel, message } => {
                    let mut publish = cmd("PUBLISH");
                    publish.arg(channel).arg(message);
                    (publish, None)
                }
                Said::Who { ask, pattern } => {
                    let mut who = cmd("PUBSUB");
                    who.arg("CHANNELS").arg(pattern);
                    (who, Some(ask))
                }
            };
            pipeline.add_command(command);
            asks.push(ask);
            if asks.len() >= BATCH_MAX {
                break;
            }
            next = said.try_recv();
        }
        (Self::Pipeline(pipeline, asks), next)
    }

    fn take(
        self,
        mut to: MultiplexedConnection,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Heard>, String>>>> {
        Box::pin(async move {
            match self {
                Self::Subscribe(channels) => {
                    to.subscribe(&channels).await.map_err(|error| why(&error))?;
                    Ok(Vec::new())
                }
                Self::Unsubscribe(channels) => {
                    to.unsubscribe(&channels).await.map_err(|error| why(&error))?;
                    Ok(Vec::new())
                }
                Self::Pipeline(pipeline, asks) => {
                    let sent = to.send_packed_commands(&pipeline, 0, asks.len()).await;
                    let answers = sent.map_err(|error| why(&error))?;
                    asks.into_iter().zip(answers).filter_map(|(ask, answer)| answered(ask, answer)).collect()
                }
            }
        })
    }
}

fn add(stream: &str, entries_max: usize, fields: &[(&'static str, String)]) -> Cmd {
    let mut add = cmd("XADD");
    add.arg(stream).arg("MAXLEN").arg("~").arg(entries_max).arg("*");
    for (field, value) in fields {
        add.arg(*field).arg(value);
    }
    add
}

/// A Redis that takes no writes, be it full or a replica, is as good as none.
fn answered(ask: Option<u64>, answer: Value) -> Option<Result<Heard, String>> {
    if let Value::ServerError(error) = answer {
        return Some(Err(format!("the Redis refuses: {error}")));
    }
    let ask = ask?;
    let channels = Vec::<String>::from_redis_value(answer).map_err(|error| why(&error));
    Some(channels.map(|channels| Heard::Channels { ask, channels }))
}

async fn read(mut from: MultiplexedConnection, read: Cmd) -> Result<Value, String> {
    from.send_packed_command(&read).await.map_err(|error| why(&error))
}

impl Cursors {
    /// Waits a while for entries of any stream.
    fn read(&self) -> Cmd {
        let mut read = cmd("XREAD");
        let block_ms = u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX);
        read.arg("COUNT").arg(READ_MAX).arg("BLOCK").arg(block_ms).arg("STREAMS");
        for stream in self.0.keys() {
            read.arg(stream);
        }
        for (ms, number) in self.0.values() {
            read.arg(format!("{ms}-{number}"));
        }
        read
    }

    /// The fields of each entry that was read.
    fn take_in(&mut self, read: Value) -> Result<Vec<Vec<(String, String)>>, String> {
        type Read = Vec<(String, Vec<(String, Vec<Value>)>)>;
        let odd = || "the Redis gave an answer of an unknown shape where entries were expected".to_owned();
        if let Value::ServerError(error) = read {
            return Err(format!("the Redis refuses: {error}"));
        }
        let read = Option::<Read>::from_redis_value(read).map_err(|_| odd())?;
        let mut entries = Vec::new();
        for (stream, read) in read.unwrap_or_default() {
            let cursor = self.0.get_mut(&stream).ok_or_else(odd)?;
            for (id, fields) in read {
                *cursor = entry_id(&id).ok_or_else(odd)?;
                entries.push(fields.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect());
            }
        }
        Ok(entries)
    }
}

fn entry_id(text: &str) -> Option<(u64, u64)> {
    let (ms, number) = text.split_once('-')?;
    Some((ms.parse().ok()?, number.parse().ok()?))
}

/// Whoever reads it judges it; it must not end the reading.
fn text(value: &Value) -> String {
    Vec::<u8>::from_redis_value_ref(value)
        .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn why(error: &dyn Display) -> String {
    format!("the Redis: {error}")
}
