//! The stream to one replica of control: dials, says hello, dials again.
//!
//! Never holds orders or reports back for the next session: reports are whole and results are repeated.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use greenroom_wire::agent::{FromAgent, Hello, ToAgent, VERSION};
use greenroom_wire::error::ErrorBody;
use greenroom_wire::secret::Secret;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tokio_util::sync::CancellationToken;

use crate::dial::{Pipe, Way, Ways};
use crate::obedience::ControlId;
use crate::outbox::{OutboxReader, outbox};
use crate::shell::{Input, to_line};

/// Longest time to connect, to be welcomed, without a word, and for one write.
const SILENCE: Duration = Duration::from_secs(5);
/// Time between two pings; their answers are what breaks the silence.
const PING_EVERY: Duration = Duration::from_secs(1);
/// First pause before dialling again; doubles with each failure, and half of it is random.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Longest such pause.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Most bytes waiting for control; more ends the session.
const OUTBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest message from control.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

type Socket = WebSocketStream<Box<dyn Pipe>>;

/// Where control is and who dials it.
#[derive(Clone)]
pub(crate) struct Dialler {
    /// Which of the replicas it is.
    pub(crate) id: ControlId,
    pub(crate) way: Way,
    /// Sent with the request for the stream.
    pub(crate) token: Option<Secret>,
    /// `term_seen` is filled in anew for each session.
    pub(crate) hello: Hello,
    /// Highest term the supervisor has seen.
    pub(crate) term_seen: Arc<AtomicU64>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("control cannot be reached: {0}")]
    Connect(Box<tokio_tungstenite::tungstenite::Error>),
    #[error("control cannot be reached over TLS: {0}; look at [agent.tls] here and [control.tls] there")]
    Tls(String),
    #[error("the agent's token has characters that no header can carry")]
    Token,
    #[error("control does not let this agent in: {0}")]
    NotLetIn(String),
    #[error("control was not reached within {} s", SILENCE.as_secs())]
    ConnectTimeout,
    #[error("the stream broke: {0}")]
    Stream(Box<tokio_tungstenite::tungstenite::Error>),
    #[error("control closed the stream: {0}")]
    Closed(String),
    #[error("control was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("control has read nothing for {} s", SILENCE.as_secs())]
    Stalled,
    #[error("control sent what is not a message of version {VERSION}: {0}")]
    Malformed(String),
    #[error("control speaks version {0} of the agent protocol, this agent speaks {VERSION}")]
    Version(u32),
    #[error("this agent gave the session up: too many bytes wait for control, or another replica is obeyed")]
    GivenUp,
    #[error("the agent ends")]
    Ends,
}

/// Keeps a session with each replica, as with one. `of` makes the dialler of each.
pub(crate) fn keep_all(
    ways: Ways,
    of: impl Fn(ControlId, Way) -> Dialler,
    inbox: &mpsc::Sender<Input>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut sessions = JoinSet::new();
    if let Some(tls) = ways.tls {
        sessions.spawn(tls.keep_fresh(stop.clone()));
    }
    for (id, way) in ways.all.into_iter().enumerate() {
        sessions.spawn(keep(of(id, way), inbox.clone(), stop.clone()));
    }
    sessions
}

/// Keeps a session with control until `stop`; then what waits is sent, and the stream closed in order.
async fn keep(dialler: Dialler, inbox: mpsc::Sender<Input>, stop: CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let mut welcomed = false;
        let outcome = session(&dialler, &inbox, &stop, &mut welcomed).await;
        if inbox.send(Input::ControlLost(dialler.id)).await.is_err() {
            return;
        }
        let Err(error) = outcome else { return };
        failures = if welcomed { 1 } else { failures + 1 };
        // Told when it happens, then only now and then: an absent control is no news each second.
        if failures == 1 || failures % 30 == 0 {
            tracing::warn!(control = dialler.way.place.url, %error, failures, "no session with control; dialling again");
        } else {
            tracing::debug!(control = dialler.way.place.url, %error, failures, "no session with control");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause(failures)) => {}
        }
    }
}

fn pause(failures: u32) -> Duration {
    let whole =
        BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(BACKOFF_MAX);
    // Without randomness all agents of one control come back in step, which is no reason to stop.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    whole / 2 + whole.mul_f64(f64::from(random) / f64::from(u32::MAX)) / 2
}

fn not_connected(error: tokio_tungstenite::tungstenite::Error) -> SessionError {
    if let tokio_tungstenite::tungstenite::Error::Http(answer) = &error
        && matches!(answer.status().as_u16(), 401 | 403)
    {
        let body = answer.body().as_deref().and_then(|body| serde_json::from_slice::<ErrorBody>(body).ok());
        return SessionError::NotLetIn(body.map_or_else(
            || {
                let status = answer.status().as_u16();
                format!("{status}; give it a token of the role agent, with GREENROOM_TOKEN or --token-from")
            },
            |body| body.error.message,
        ));
    }
    if let Some(why) = greenroom_tls::cause(&error) {
        return SessionError::Tls(why);
    }
    SessionError::Connect(Box::new(error))
}

/// The request for the stream. A header that says who calls is not logged by anybody.
fn request(dialler: &Dialler) -> Result<Request, SessionError> {
    let unfit = |error| SessionError::Connect(Box::new(error));
    let mut request = dialler.way.place.url.as_str().into_client_request().map_err(unfit)?;
    if let Some(token) = &dialler.token {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
        let mut value = value.map_err(|_| SessionError::Token)?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(request)
}

async fn session(
    dialler: &Dialler,
    inbox: &mpsc::Sender<Input>,
    stop: &CancellationToken,
    welcomed: &mut bool,
) -> Result<(), SessionError> {
    let mut limits = WebSocketConfig::default();
    limits.max_message_size = Some(MESSAGE_BYTES_MAX);
    limits.max_frame_size = Some(MESSAGE_BYTES_MAX);
    let request = request(dialler)?;
    let connecting = async {
        let stream = dialler.way.dial().await?;
        client_async_with_config(request, stream, Some(limits)).await
    };
    let connected = tokio::select! {
        connected = tokio::time::timeout(SILENCE, connecting) => connected,
        () = stop.cancelled() => return Ok(()),
    };
    let (mut socket, _) = connected.map_err(|_| SessionError::ConnectTimeout)?.map_err(not_connected)?;
    let term_seen = dialler.term_seen.load(Ordering::Relaxed);
    let hello = to_line(&FromAgent::Hello(Hello { term_seen, ..dialler.hello.clone() }));
    write(socket.send(Message::text(&*hello))).await?;
    let (outbox, reader) = outbox(OUTBOX_BYTES_MAX);
    inbox.send(Input::ControlUp(dialler.id, outbox)).await.map_err(|_| SessionError::Ends)?;
    let (sink, source) = socket.split();
    let (mut reading, mut writing) =
        (pin!(read(dialler.id, source, inbox, welcomed)), pin!(write_all(sink, reader, stop)));
    tokio::select! {
        outcome = &mut reading => outcome,
        outcome = &mut writing => outcome,
    }
}

async fn read(
    id: ControlId,
    mut source: SplitStream<Socket>,
    inbox: &mpsc::Sender<Input>,
    welcomed: &mut bool,
) -> Result<(), SessionError> {
    loop {
        let next = tokio::time::timeout(SILENCE, source.next()).await.map_err(|_| SessionError::Silent)?;
        let message = match next {
            Some(message) => message.map_err(|error| SessionError::Stream(Box::new(error)))?,
            None => return Err(SessionError::Closed("without a reason".to_owned())),
        };
        let text = match message {
            Message::Text(text) => text,
            Message::Close(frame) => {
                let reason = frame.map_or_else(String::new, |frame| frame.reason.to_string());
                return Err(SessionError::Closed(reason));
            }
            Message::Binary(_) => return Err(SessionError::Malformed("a binary message".to_owned())),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        let order: ToAgent =
            serde_json::from_str(&text).map_err(|error| SessionError::Malformed(error.to_string()))?;
        if let ToAgent::Welcome { version, term, .. } = &order {
            if *version != VERSION {
                return Err(SessionError::Version(*version));
            }
            tracing::info!(term, "session with control");
            *welcomed = true;
        } else if !*welcomed {
            return Err(SessionError::Malformed("an order before the welcome".to_owned()));
        }
        inbox.send(Input::ControlSaid(id, order)).await.map_err(|_| SessionError::Ends)?;
    }
}

async fn write_all(
    mut sink: SplitSink<Socket, Message>,
    mut outbox: OutboxReader,
    stop: &CancellationToken,
) -> Result<(), SessionError> {
    let mut ping_at = Instant::now() + PING_EVERY;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(ping_at) => {
                ping_at = Instant::now() + PING_EVERY;
                write(sink.send(Message::Ping(bytes::Bytes::new()))).await?;
            }
            line = outbox.next() => {
                let line = line.ok_or(SessionError::GivenUp)?;
                write(sink.send(Message::text(&*line))).await?;
                outbox.written(&line);
            }
        }
    }
    while let Some(line) = outbox.try_next() {
        write(sink.send(Message::text(&*line))).await?;
    }
    write(sink.send(Message::Close(None))).await
}

async fn write(
    sending: impl Future<Output = Result<(), tokio_tungstenite::tungstenite::Error>>,
) -> Result<(), SessionError> {
    let sent = tokio::time::timeout(SILENCE, sending).await.map_err(|_| SessionError::Stalled)?;
    sent.map_err(|error| SessionError::Stream(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_two_seconds_and_half_of_it_is_random() {
        for (failures, whole_ms) in [(1, 100), (2, 200), (3, 400), (5, 1600), (6, 2000), (1000, 2000)] {
            let pause = pause(failures);
            let whole = Duration::from_millis(whole_ms);
            assert!(pause >= whole / 2 && pause <= whole, "{failures} failures: {pause:?}");
        }
    }
}
