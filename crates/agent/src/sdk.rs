//! The SDK's listeners: HTTP on loopback for the gameservers of this host, a port for each that has a shipped Agones SDK, and the
//! calls that wait for their answers.
//!
//! Never judges what is said: requests become events, and the supervisor answers.

#[cfg(feature = "agones")]
mod grpc;
mod ports;
#[cfg(feature = "agones")]
mod proto;
mod routes;

pub(crate) use ports::SdkPorts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::shell::Input;
use crate::supervisor::{Event, SdkCall, SdkRefusal, SdkTold, SdkWho, SdkWord};
use routes::Way;

/// How long the head of a request may take to arrive, and how long a connection may rest between two requests. Longer
/// than the pause between two words of health, so that one connection serves for all.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// Pause after the system refused a connection: no descriptors left, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Answers that may wait for one who watches; who is slower loses the watch and may open another one.
const ANSWERS_MAX: usize = 16;

/// Told when the agent stops while somebody waits.
const AGENT_ENDS: &str = "the agent ends; call again in a while";
/// What to use in place of what nobody here would read.
const NO_COUNTERS: &str = "counters and lists are not kept, for nothing here would decide by them: tell rooms and connections with \
    PUT /greenroom/v1/status, players with PlayerConnect, and what others shall see with SetLabel";

/// What one call is answered with.
type Told = Result<SdkTold, SdkRefusal>;

/// One call on its way to the supervisor.
#[derive(Debug)]
pub(crate) struct Asked {
    who: SdkWho,
    word: SdkWord,
    answer: mpsc::Sender<Told>,
}

#[derive(Debug)]
struct Waiting {
    answer: mpsc::Sender<Told>,
    /// Of one that watches: when this goes, so does whoever waits for the watcher to go.
    watch: Option<DropGuard>,
}

/// Calls that wait for an answer, or for the next one.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    waiting: BTreeMap<SdkCall, Waiting>,
    next_id: u64,
}

impl Calls {
    /// Gives a call its number. Who watches is missed: the supervisor is told when it has gone.
    pub(crate) fn open(
        &mut self,
        asked: Asked,
        tasks: &mut JoinSet<()>,
        inbox: &mpsc::Sender<Input>,
    ) -> Event {
        let call = SdkCall(self.next_id);
        self.next_id += 1;
        let watch = asked.word.is_watch().then(|| {
            let over = CancellationToken::new();
            let (answer, inbox, is_over) = (asked.answer.clone(), inbox.clone(), over.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = answer.closed() => {}
                    () = is_over.cancelled() => {}
                }
                // The watcher sees the end once nobody holds its channel.
                drop(answer);
                // The receiver is gone only when the agent ends.
                let _ = inbox.send(Input::Event(Event::SdkLost { call })).await;
            });
            over.drop_guard()
        });
        self.waiting.insert(call, Waiting { answer: asked.answer, watch });
        Event::Sdk { call, who: asked.who, word: asked.word }
    }

    /// Answers a call. Only one that watches is answered again, and no longer once it is [`ANSWERS_MAX`] behind.
    pub(crate) fn tell(&mut self, call: SdkCall, told: Told) {
        let Some(waiting) = self.waiting.get(&call) else { return };
        let is_over = told.is_err() || waiting.watch.is_none();
        if waiting.answer.try_send(told).is_err() || is_over {
            self.waiting.remove(&call);
        }
    }

    /// Nothing more is answered to this call.
    pub(crate) fn end(&mut self, call: SdkCall) {
        self.waiting.remove(&call);
    }
}

/// Brings a word to the supervisor. Without one the channel of answers is closed, which the caller is told.
async fn send(inbox: &mpsc::Sender<Input>, who: SdkWho, word: SdkWord) -> mpsc::Receiver<Told> {
    let (answer, answers) = mpsc::channel(ANSWERS_MAX);
    let _ = inbox.send(Input::Sdk(Asked { who, word, answer })).await;
    answers
}

/// The code of gRPC for a refusal.
const fn code(refusal: &SdkRefusal) -> u32 {
    match refusal {
        SdkRefusal::Stranger => 16,
        SdkRefusal::Over { .. } | SdkRefusal::Linked { .. } => 9,
        SdkRefusal::LabelName { .. }
        | SdkRefusal::LabelValue { .. }
        | SdkRefusal::AnnotationValue { .. }
        | SdkRefusal::Reserve { .. }
        | SdkRefusal::PlayerId { .. }
        | SdkRefusal::PlayersMax { .. } => 3,
        SdkRefusal::Labels { .. } | SdkRefusal::Watches { .. } | SdkRefusal::PlayersFull { .. } => 8,
        SdkRefusal::Peers { .. } => 5,
        SdkRefusal::Results | SdkRefusal::NoControl => 14,
    }
}

/// Accepts at most `connections_max` connections at a time, for ever.
pub(crate) async fn listen(listener: TcpListener, connections_max: usize, inbox: mpsc::Sender<Input>) {
    let places = Arc::new(Semaphore::new(connections_max));
    let service = TowerToHyperService::new(routes::router(Way { inbox, of: None }));
    let mut open = JoinSet::new();
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let service = service.clone();
                    open.spawn(async move {
                        converse(stream, service).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the sdk was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = open.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, service: TowerToHyperService<Router>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection to the sdk keeps Nagle's delay");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the sdk ended with an error");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::SdkWord;

    /// A watch that is open, with its answers, and what the supervisor is told.
    fn watch(calls: &mut Calls, tasks: &mut JoinSet<()>) -> (mpsc::Receiver<Told>, mpsc::Receiver<Input>) {
        let (answer, answers) = mpsc::channel(ANSWERS_MAX);
        let (inbox, told) = mpsc::channel(8);
        let who = SdkWho::Port("arena-1".parse().unwrap());
        calls.open(Asked { who, word: SdkWord::Watch, answer }, tasks, &inbox);
        (answers, told)
    }

    #[tokio::test]
    async fn a_watch_ends_with_what_it_watches_and_when_its_reader_is_too_slow() {
        for too_slow in [false, true] {
            let (mut calls, mut tasks) = (Calls::default(), JoinSet::new());
            let (mut answers, mut told) = watch(&mut calls, &mut tasks);
            let fill = if too_slow { ANSWERS_MAX + 1 } else { 1 };
            for _ in 0..fill {
                calls.tell(SdkCall(0), Ok(SdkTold::Done));
            }
            if !too_slow {
                calls.end(SdkCall(0));
            }
            for _ in 0..fill.min(ANSWERS_MAX) {
                assert_eq!(answers.recv().await, Some(Ok(SdkTold::Done)));
            }
            let end = tokio::time::timeout(Duration::from_secs(5), answers.recv()).await;
            assert_eq!(end, Ok(None), "its stream ends, too slow: {too_slow}");
            let lost = tokio::time::timeout(Duration::from_secs(5), told.recv()).await.unwrap();
            assert!(matches!(lost, Some(Input::Event(Event::SdkLost { call: SdkCall(0) }))), "{lost:?}");
        }
    }

    #[tokio::test]
    async fn a_watcher_that_goes_is_missed() {
        let (mut calls, mut tasks) = (Calls::default(), JoinSet::new());
        let (answers, mut told) = watch(&mut calls, &mut tasks);
        drop(answers);
        assert!(matches!(told.recv().await, Some(Input::Event(Event::SdkLost { call: SdkCall(0) }))));
    }
}
