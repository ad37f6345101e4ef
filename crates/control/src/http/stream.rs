//! The agents' stream: one WebSocket per agent, one JSON message per text frame.
//!
//! Never understands a report: it reads, writes, pings and notices silence; the world does the rest. Where another replica leads a
//! report is only kept as it came.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use greenroom_wire::agent::{FromAgent, Hello};
use greenroom_wire::error::Code;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tracing::{debug, info, warn};

use super::Face;
use super::error::ApiError;
use super::inside::Shown;
use crate::run::{Input, StreamOrder};
use crate::world::StreamId;

/// Largest message of an agent, in bytes: a report of all its rooms.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Orders that may wait for one agent.
const ORDERS_MAX: usize = 4_096;
/// How long the first message may take.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two pings.
const PING: Duration = Duration::from_secs(2);
/// Silence after which a stream is ended; the host is out of rotation long before.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn agents(
    State(face): State<Arc<Face>>,
    shown: Option<Extension<Shown>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|rejection| {
        if rejection.status().as_u16() == Code::MethodNotAllowed.status() {
            ApiError::new(Code::MethodNotAllowed, rejection.body_text())
        } else {
            ApiError::bad_request(rejection.body_text())
        }
    })?;
    Ok(upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .on_upgrade(move |socket| attend(face, shown.map(|Extension(shown)| shown), socket)))
}

async fn attend(face: Arc<Face>, shown: Option<Shown>, mut socket: WebSocket) {
    let hello = match timeout(HELLO_TIMEOUT, hello(&mut socket)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(reason)) => return close(&mut socket, &reason).await,
        Err(_) => return close(&mut socket, "no hello within 5 s").await,
    };
    if let Err(reason) = face.guard.check_host(&hello.host, shown.as_ref()) {
        warn!(%reason, "an agent was turned away");
        return close(&mut socket, &reason).await;
    }
    if !hello.is_term_credible(face.office.term_known()) {
        warn!(host = %hello.host, term = hello.term_seen, "an agent with an impossible term was turned away");
        return close(&mut socket, "no agent can have seen that term; wipe its journal").await;
    }
    let stream = face.new_stream();
    info!(stream = stream.0, host = %hello.host, "agent stream opened");
    let (orders, todo) = mpsc::channel(ORDERS_MAX);
    // Where another replica leads, the agent waits for a welcome; nothing is asked of it until then.
    if let Some(desk) = face.office.attend(stream, &hello, &orders) {
        // The loop may be gone, then the stream ends below.
        drop(desk.inputs.send(Input::StreamOpened { stream, hello, orders }).await);
    } else {
        drop(orders);
    }
    let reason = converse(&face, stream, &mut socket, todo).await;
    info!(stream = stream.0, %reason, "agent stream ended");
    face.office.gone(stream);
    if let Some(desk) = face.office.desk() {
        drop(desk.inputs.send(Input::StreamClosed { stream }).await);
    }
    close(&mut socket, &reason).await;
}

async fn hello(socket: &mut WebSocket) -> Result<Hello, String> {
    loop {
        match socket.recv().await {
            Some(Ok(Message::Text(text))) => {
                return match serde_json::from_str(text.as_str()) {
                    Ok(FromAgent::Hello(hello)) => Ok(hello),
                    Ok(_) => Err("the first message must be hello".to_owned()),
                    Err(error) => Err(format!("hello is not as expected: {error}")),
                };
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_))) => return Err("messages are text".to_owned()),
            Some(Ok(Message::Close(_))) | None => return Err("closed before hello".to_owned()),
            Some(Err(error)) => return Err(error.to_string()),
        }
    }
}

/// Until one side ends it; gives why.
async fn converse(
    face: &Face,
    stream: StreamId,
    socket: &mut WebSocket,
    mut todo: mpsc::Receiver<StreamOrder>,
) -> String {
    let mut pings = tokio::time::interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard_at = Instant::now();
    loop {
        let message = tokio::select! {
            () = face.stop.cancelled() => return "the control plane is stopping".to_owned(),
            order = todo.recv() => match order {
                Some(StreamOrder::Send(message)) => {
                    let text = serde_json::to_string(&message).expect("orders have text keys only");
                    Message::text(text)
                }
                Some(StreamOrder::Close(reason)) => return reason,
                None => return "the control plane ended the stream".to_owned(),
            },
            _ = pings.tick() => {
                if heard_at.elapsed() > SILENCE_MAX {
                    return "silent for 10 s".to_owned();
                }
                Message::Ping(bytes::Bytes::new())
            }
            frame = socket.recv() => {
                heard_at = Instant::now();
                match read(face, stream, frame).await {
                    Ok(()) => continue,
                    Err(reason) => return reason,
                }
            }
        };
        match timeout(WRITE_TIMEOUT, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "a write took longer than 5 s".to_owned(),
        }
    }
}

async fn read(
    face: &Face,
    stream: StreamId,
    frame: Option<Result<Message, axum::Error>>,
) -> Result<(), String> {
    let text = match frame {
        Some(Ok(Message::Text(text))) => text,
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
        Some(Ok(Message::Binary(_))) => return Err("messages are text".to_owned()),
        Some(Ok(Message::Close(_))) | None => return Err("the agent ended the stream".to_owned()),
        Some(Err(error)) => return Err(error.to_string()),
    };
    let Some(desk) = face.office.desk() else {
        face.office.saw(stream, text.as_str(), std::time::Instant::now());
        return Ok(());
    };
    let message = serde_json::from_str(text.as_str()).map_err(|error| {
        warn!(stream = stream.0, %error, "an agent's message is not as expected");
        format!("a message is not as expected: {error}")
    })?;
    // The loop may be gone: its end closes the streams.
    drop(desk.inputs.send(Input::StreamSaid { stream, message: Box::new(message) }).await);
    Ok(())
}

async fn close(socket: &mut WebSocket, reason: &str) {
    let mut end = reason.len().min(120);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let frame = CloseFrame { code: close_code::POLICY, reason: reason[..end].into() };
    let closed = timeout(WRITE_TIMEOUT, socket.send(Message::Close(Some(frame)))).await;
    if !matches!(closed, Ok(Ok(()))) {
        debug!("the stream was gone before it was closed");
    }
}
