//! The line to one Redis: a connection, what was asked over it, and what this process knows of the store.
//! Never lets an operation pass an earlier one, and never gives one another number when it is sent again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisResult, Value, cmd};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::replies::{self, Outcome};
use super::{Op, RedisConfig, RedisOpenError};
use crate::{CommitError, Expect, Kind, ReadError, Stored, Version, Write};

/// The layout of what is stored. Another one is stored elsewhere, so that programs of two layouts do not meet.
const LAYOUT: u32 = 1;
/// Operations in one pipeline; fewer than the numbers of batches that the store remembers of a writer.
const OPS_MAX: usize = 64;
/// First wait before the store is dialled again; doubled up to the longest.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(500);
/// How long the store has for all records of a kind.
const LONG_ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How long this process's last batch proves something: the store forgets a writer that was silent for two hours.
const MARK_FOR: Duration = Duration::from_secs(3600);

/// What is known of the store.
#[derive(Debug, Clone)]
enum Known {
    /// Nothing yet, or what was known is not true any more and somebody was told.
    Nothing,
    This {
        history: String,
        commits: u64,
        mark: Option<Mark>,
    },
    /// Not what it was; commits are refused until somebody loads.
    Rewound(String),
}

/// The last batch of this process that the store confirmed.
#[derive(Debug, Clone, Copy)]
struct Mark {
    number: u64,
    version: u64,
    at: Instant,
}

/// An operation that has no answer yet.
struct Pending {
    what: What,
    give_up_at: Instant,
}

enum What {
    Load { kinds: Vec<Kind>, done: oneshot::Sender<Result<Vec<Vec<Stored>>, ReadError>> },
    Get { kind: Kind, key: String, done: oneshot::Sender<Result<Option<Stored>, ReadError>> },
    Commit { number: u64, writes: Vec<Write>, done: oneshot::Sender<Result<Version, CommitError>> },
}

impl Pending {
    fn fail(self, why: &str) {
        // Whoever asked may have gone.
        match self.what {
            What::Load { done, .. } => drop(done.send(Err(ReadError::Unavailable(why.to_owned().into())))),
            What::Get { done, .. } => drop(done.send(Err(ReadError::Unavailable(why.to_owned().into())))),
            What::Commit { done, .. } => {
                drop(done.send(Err(CommitError::Unavailable(why.to_owned().into()))));
            }
        }
    }
}

struct Connection {
    line: MultiplexedConnection,
    batch: String,
    load: String,
}

pub(super) struct Line {
    config: RedisConfig,
    base: String,
    writer: String,
    batches: u64,
    known: Known,
    pending: VecDeque<Pending>,
    connection: Option<Connection>,
    /// The store has so long for an answer.
    answer_within: Duration,
    /// Whether what an answer tells of the store is asked for with the next one.
    remembers: bool,
}

impl Line {
    pub(super) fn new(config: RedisConfig) -> Result<Self, RedisOpenError> {
        let writer = random().map_err(|error| RedisOpenError::System(error.to_string()))?;
        let base = format!("{{{}:store:{LAYOUT}}}:", config.prefix);
        let answer_within = config.answer_within;
        Ok(Self {
            config,
            base,
            writer,
            batches: 0,
            known: Known::Nothing,
            pending: VecDeque::new(),
            connection: None,
            answer_within,
            remembers: true,
        })
    }

    /// For those who read much and build nothing on it that they do not hold against a later commit: it has time, and cannot be told
    /// that the store is not what it was.
    pub(super) fn that_forgets(config: RedisConfig) -> Result<Self, RedisOpenError> {
        let answer_within = config.answer_within.max(LONG_ANSWER_WITHIN);
        Ok(Self { remembers: false, answer_within, ..Self::new(config)? })
    }

    /// Until the last handle of the store is gone and everything asked has its answer.
    pub(super) async fn serve(mut self, mut waiting: mpsc::Receiver<Op>) {
        let (mut retry, mut is_away) = (RETRY_MIN, false);
        let store = self.config.address.to_string();
        loop {
            if self.pending.is_empty() {
                let Some(op) = waiting.recv().await else { return };
                self.take(op);
            }
            while self.pending.len() < OPS_MAX
                && let Ok(op) = waiting.try_recv()
            {
                self.take(op);
            }
            let Err(why) = self.exchange().await else {
                retry = RETRY_MIN;
                if std::mem::take(&mut is_away) {
                    info!(store, "the store answers again");
                }
                continue;
            };
            if !std::mem::replace(&mut is_away, true) {
                warn!(store, why, "the store does not answer; it is asked again and again");
            }
            self.connection = None;
            let now = Instant::now();
            let (over, kept) = std::mem::take(&mut self.pending)
                .into_iter()
                .partition(|pending: &Pending| pending.give_up_at <= now);
            self.pending = kept;
            over.into_iter().for_each(|pending: Pending| pending.fail(&why));
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    fn take(&mut self, op: Op) {
        let what = match op {
            Op::Load { kinds, done } => What::Load { kinds, done },
            Op::Get { kind, key, done } => What::Get { kind, key, done },
            Op::Commit { batch, done } => {
                self.batches += 1;
                What::Commit { number: self.batches, writes: batch.into_writes(), done }
            }
        };
        self.pending.push_back(Pending { what, give_up_at: Instant::now() + self.config.give_up_after });
    }

    /// Asks for everything that is pending, in one go. What has its answer then is pending no more; the error says why the
    /// rest must be asked for again over another connection.
    async fn exchange(&mut self) -> Result<(), String> {
        self.refuse_after_a_rewind();
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.connection.is_none() {
            let within = self.config.answer_within;
            let client = self.config.address.client(within).await.map_err(|error| error.to_string())?;
            let dialled = tokio::time::timeout(within * 2, self.dial(&client)).await;
            let dialled = dialled.map_err(|_| "the store does not answer".to_owned())?;
            self.connection = Some(dialled.map_err(|error| error.to_string())?);
        }
        let Some(connection) = &self.connection else { return Ok(()) };
        let mut pipeline = Pipeline::with_capacity(self.pending.len());
        for pending in &self.pending {
            pipeline.add_command(self.command(connection, &pending.what));
        }
        let count = self.pending.len();
        let mut line = connection.line.clone();
        // An error inside of one answer is an answer; only a broken line fails here.
        let answers =
            line.send_packed_commands(&pipeline, 0, count).await.map_err(|error| error.to_string())?;
        for answer in answers {
            self.answered(answer)?;
        }
        if self.pending.is_empty() { Ok(()) } else { Err("the store gave too few answers".to_owned()) }
    }

    fn refuse_after_a_rewind(&mut self) {
        let Known::Rewound(detail) = &self.known else { return };
        let is_told = |pending: &mut Pending| !matches!(pending.what, What::Load { .. });
        while let Some(pending) = self.pending.pop_front_if(is_told) {
            match pending.what {
                What::Commit { done, .. } => drop(done.send(Err(CommitError::Rewound(detail.clone())))),
                What::Get { done, .. } => drop(done.send(Err(ReadError::Rewound(detail.clone())))),
                What::Load { .. } => {}
            }
        }
        // The next one loads: it finds the store as it is now.
        if !self.pending.is_empty() {
            self.known = Known::Nothing;
        }
    }

    async fn dial(&self, client: &Client) -> RedisResult<Connection> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.answer_within))
            .set_response_timeout(Some(self.answer_within));
        let mut line = client.get_multiplexed_async_connection_with_config(&settings).await?;
        let load = |script: &'static str| {
            let mut load = cmd("SCRIPT");
            load.arg("LOAD").arg(script);
            load
        };
        let batch = load(include_str!("batch.lua")).query_async(&mut line).await?;
        let load = load(include_str!("load.lua")).query_async(&mut line).await?;
        Ok(Connection { line, batch, load })
    }

    fn mark(&self) -> Option<Mark> {
        match &self.known {
            Known::This { mark, .. } => mark.filter(|mark| mark.at.elapsed() < MARK_FOR),
            Known::Nothing | Known::Rewound(_) => None,
        }
    }

    fn command(&self, connection: &Connection, what: &What) -> Cmd {
        let (history, commits) = match &self.known {
            Known::This { history, commits, .. } => (history.as_str(), *commits),
            Known::Nothing | Known::Rewound(_) => ("", 0),
        };
        let mark = self
            .mark()
            .map_or_else(Default::default, |mark| (mark.number.to_string(), mark.version.to_string()));
        let mut call = cmd("EVALSHA");
        match what {
            What::Load { kinds, .. } => {
                let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
                call.arg(&connection.load).arg(1).arg(&self.base).arg(kinds.join(","));
                call.arg(history).arg(commits).arg(&self.writer).arg(mark.0).arg(mark.1);
            }
            What::Get { kind, key, .. } => {
                call.arg(&connection.load).arg(1).arg(&self.base).arg(kind.as_str());
                call.arg(history).arg(commits).arg(&self.writer).arg(mark.0).arg(mark.1).arg(key);
            }
            What::Commit { number, writes, .. } => {
                call.arg(&connection.batch).arg(1).arg(&self.base).arg(&self.writer).arg(number);
                // As random as this writer's name, and another one each time that an empty store is begun with.
                let fresh = format!("{}.{number}", self.writer);
                call.arg(history).arg(commits).arg(mark.0).arg(mark.1).arg(fresh);
                writes.iter().for_each(|write| step(&mut call, write));
            }
        }
        call
    }

    /// Takes in the answer to the first operation that is pending.
    fn answered(&mut self, answer: Value) -> Result<(), String> {
        let outcome = replies::outcome(answer).map_err(|odd| odd.to_string())?;
        let Some(pending) = self.pending.pop_front() else { return Ok(()) };
        let now = Instant::now();
        match (outcome, pending.what) {
            (Outcome::Rewound(detail), what) => {
                let told = detail.clone();
                if !matches!(what, What::Get { .. }) {
                    self.known = Known::Rewound(detail);
                }
                match what {
                    What::Load { done, .. } => {
                        // Told to one who loads, and who may load again.
                        self.known = Known::Nothing;
                        drop(done.send(Err(ReadError::Rewound(told))));
                    }
                    // Whoever gets one record builds nothing on it: the next to load or commit finds out and is told.
                    What::Get { done, .. } => drop(done.send(Err(ReadError::Rewound(told)))),
                    What::Commit { done, .. } => drop(done.send(Err(CommitError::Rewound(told)))),
                }
            }
            (Outcome::Stored { history, version }, What::Commit { number, done, .. }) => {
                let mark = Some(Mark { number, version, at: now });
                self.learn(history, version, mark);
                drop(done.send(Ok(Version(version))));
            }
            (Outcome::Conflict { step, found }, What::Commit { writes, done, .. }) => {
                let write = step.checked_sub(1).and_then(|index| writes.get(index));
                let (kind, key, expected) =
                    write.ok_or("the store refuses a step that there is not")?.condition();
                let found = found.map(Version);
                drop(done.send(Err(CommitError::Conflict { kind, key: key.to_owned(), expected, found })));
            }
            (Outcome::Loaded { history, commits, records }, What::Load { done, .. }) => {
                let mark = self.mark();
                self.learn(history, commits, mark);
                drop(done.send(Ok(records)));
            }
            (Outcome::Loaded { history, commits, records }, What::Get { done, .. }) => {
                let mark = self.mark();
                self.learn(history, commits, mark);
                drop(done.send(Ok(records.into_iter().flatten().next())));
            }
            (_, what) => {
                // Asked again, at its place.
                self.pending.push_front(Pending { what, give_up_at: pending.give_up_at });
                return Err("the store gave the answer to another question".to_owned());
            }
        }
        Ok(())
    }

    fn learn(&mut self, history: String, commits: u64, mark: Option<Mark>) {
        // An answer that was on its way when the store was found to be another one teaches nothing.
        if matches!(self.known, Known::Rewound(_)) || !self.remembers {
            return;
        }
        // An empty store has no history yet and nothing to lose.
        self.known = if history.is_empty() { Known::Nothing } else { Known::This { history, commits, mark } };
    }
}

fn step(call: &mut Cmd, write: &Write) {
    let (kind, key, expect) = write.condition();
    let word = match write {
        Write::Put { .. } => "P",
        Write::Delete { .. } => "D",
        Write::Check { .. } => "C",
    };
    call.arg(word).arg(kind.as_str()).arg(key);
    match expect {
        Expect::Any => call.arg("*"),
        Expect::Absent => call.arg("-"),
        Expect::Version(version) => call.arg(version.0),
    };
    if let Write::Put { bytes, .. } = write {
        call.arg(bytes.as_slice());
    }
}

fn random() -> Result<String, getrandom::Error> {
    Ok(format!("{:016x}", getrandom::u64()?))
}
