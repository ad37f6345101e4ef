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
    is_watch: bool,
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
        let is_watch = asked.word.is_watch();
        if is_watch {
            let (answer, inbox) = (asked.answer.clone(), inbox.clone());
            tasks.spawn(async move {
                answer.closed().await;
                // The receiver is gone only when the agent ends.
                let _ = inbox.send(Input::Event(Event::SdkLost { call })).await;
            });
        }
        self.waiting.insert(call, Waiting { answer: asked.answer, is_watch });
        Event::Sdk { call, who: asked.who, word: asked.word }
    }

    /// Answers a call. Only one that watches is answered again.
    pub(crate) fn tell(&mut self, call: SdkCall, told: Told) {
        let Some(waiting) = self.waiting.get(&call) else { return };
        let is_over = told.is_err() || !waiting.is_watch;
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
